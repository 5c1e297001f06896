//! `ALTER TABLE`: each operation on what the one before leaves.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    AlterTable, AlterTableOperation as Operation, ColumnDef, Ident, ObjectName, Owner,
    RenameTableNameKind, TableConstraint,
};
use quipu_types::program::Alter;
use quipu_types::table::TableDef;
use quipu_types::{Define, code};

use super::name::{self, Relation, folded};
use super::table::{self, Draft};
use super::view;
use super::{Changer, Defined, Scope, notice};
use crate::error::SqlError;

pub(super) fn alter(alter: &AlterTable, scope: &Scope<'_>) -> Result<Defined, SqlError> {
    const TAG: &str = "ALTER TABLE";
    if alter.location.is_some() || alter.on_cluster.is_some() || alter.table_type.is_some() {
        return Err(SqlError::unsupported("an option of ALTER TABLE"));
    }
    let name = name::relation(&alter.name)?;
    match scope.relation(&name)? {
        None if alter.if_exists => {
            let message = format!("relation \"{name}\" does not exist, skipping");
            Ok(Defined::nothing(TAG, notice("00000", &message)))
        }
        None => Err(name::missing(&name)),
        Some(Relation::Table(def)) => {
            let spec = def.table().cloned().ok_or_else(|| name::missing(&name))?;
            let draft = Draft::of(scope, &def, spec)?;
            let changer = Changer::new(scope);
            let mut work = Work { def, draft, changer, defines: Vec::new() };
            for operation in &alter.operations {
                work.apply(operation)?;
            }
            let Work { defines, draft, .. } = work;
            Ok(Defined { defines, notices: draft.notices, tag: TAG })
        }
        Some(Relation::View(def)) => {
            let mut defines = Vec::new();
            let mut changer = Changer::new(scope);
            for operation in &alter.operations {
                let change = match operation {
                    Operation::OwnerTo { new_owner } => owner(new_owner, &def, scope)?,
                    Operation::RenameTable { table_name } => rename(&name, table_name, scope)?,
                    other => return Err(not_of(other, &name, "views")),
                };
                defines.extend(change.map(|change| changer.alter(&def, change)));
            }
            Ok(Defined::new(TAG, defines))
        }
        Some(other @ Relation::Index(_)) => Err(name::wrong_type(&name, "table", &other)),
        Some(Relation::Stream) => Err(SqlError::unsupported("ALTER of a stream")),
    }
}

struct Work<'a> {
    def: Arc<TableDef>,
    draft: Draft<'a>,
    changer: Changer,
    defines: Vec<Define>,
}

impl Work<'_> {
    fn change(&mut self, alter: Alter) {
        self.defines.push(self.changer.alter(&self.def, alter));
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), SqlError> {
        match operation {
            Operation::AddColumn { if_not_exists, column_def, column_position: None, .. } => {
                self.add_column(column_def, *if_not_exists)
            }
            Operation::AddConstraint { not_valid: true, .. } => {
                Err(SqlError::unsupported("ADD CONSTRAINT … NOT VALID"))
            }
            Operation::AddConstraint { constraint, not_valid: false } => {
                self.add_constraint(constraint)
            }
            Operation::DropConstraint { if_exists, name, .. } => {
                self.drop_constraint(&folded(name), *if_exists)
            }
            Operation::RenameTable { table_name } => {
                let change = rename(&self.draft.name, table_name, self.draft.scope)?;
                if let Some(Alter::Rename(name)) = &change {
                    self.draft.name.clone_from(name);
                }
                change.into_iter().for_each(|change| self.change(change));
                Ok(())
            }
            Operation::OwnerTo { new_owner } => {
                owner(new_owner, &self.def, self.draft.scope).map(|_| ())
            }
            other => Err(SqlError::unsupported(&format!("ALTER TABLE … {}", words(other)))),
        }
    }

    fn add_column(&mut self, def: &ColumnDef, if_not_exists: bool) -> Result<(), SqlError> {
        let column = folded(&def.name);
        if self.draft.columns.iter().any(|other| other.name == column) {
            let message =
                format!("column \"{column}\" of relation \"{}\" already exists", self.draft.name);
            if !if_not_exists {
                return Err(SqlError::new("42701", code::SQL_SYNTAX, message));
            }
            self.draft.notices.push(notice("42701", &format!("{message}, skipping")));
            return Ok(());
        }
        let constraints = self.draft.add_column(def)?;
        let added = self.draft.last_column();
        added.into_iter().for_each(|added| self.change(added));
        for constraint in &constraints {
            self.draft.reserve(constraint)?;
        }
        for constraint in &constraints {
            let change = self.draft.add_constraint(constraint)?;
            change.into_iter().for_each(|change| self.change(change));
        }
        Ok(())
    }

    fn add_constraint(&mut self, written: &TableConstraint) -> Result<(), SqlError> {
        let constraint = table::of_table(written)?;
        self.draft.reserve(&constraint)?;
        let change = self.draft.add_constraint(&constraint)?;
        change.into_iter().for_each(|change| self.change(change));
        Ok(())
    }

    fn drop_constraint(&mut self, name: &str, if_exists: bool) -> Result<(), SqlError> {
        let draft = &mut self.draft;
        if draft.primary_key_name == name {
            return Err(SqlError::unsupported("dropping a primary key")
                .hint("make a new table and INSERT … SELECT"));
        }
        let count = draft.count();
        draft.indexes.retain(|index| !index.is_unique || index.name != name);
        draft.checks.retain(|check| check.name != name);
        draft.foreign_keys.retain(|key| key.name != name);
        if draft.count() != count {
            self.change(Alter::DropConstraint(name.to_owned()));
            return Ok(());
        }
        let table = &draft.name;
        let message = format!("constraint \"{name}\" of relation \"{table}\" does not exist");
        if !if_exists {
            return Err(SqlError::new("42704", code::SQL_SYNTAX, message));
        }
        draft.notices.push(notice("00000", &format!("{message}, skipping")));
        Ok(())
    }
}

/// A new name. Views name a table by its name: none may read it.
fn rename(
    old: &str,
    written: &RenameTableNameKind,
    scope: &Scope<'_>,
) -> Result<Option<Alter>, SqlError> {
    let (RenameTableNameKind::To(ObjectName(parts)) | RenameTableNameKind::As(ObjectName(parts))) =
        written;
    let [part] = parts.as_slice() else {
        return Err(SqlError::new("42601", code::SQL_SYNTAX, "the new name has no schema"));
    };
    let name = part.as_ident().map(folded).unwrap_or_default();
    if scope.relation(&name)?.is_some() {
        return Err(name::exists(&name));
    }
    name::valid_relation(&name)?;
    if let Some(view) = view::dependents(old, scope)?.first() {
        let what = format!("renaming \"{old}\", which view \"{view}\" reads,");
        return Err(SqlError::unsupported(&what).hint("drop the view first"));
    }
    Ok(Some(Alter::Rename(name)))
}

/// Who created a table owns it; naming that one again changes nothing.
fn owner(new: &Owner, def: &TableDef, scope: &Scope<'_>) -> Result<Option<Alter>, SqlError> {
    let Owner::Ident(role) = new else { return Ok(None) };
    let account = role_account(role, scope)?;
    if account == def.creator {
        return Ok(None);
    }
    Err(SqlError::unsupported("giving a table to another role").hint("GRANT ALL ON it"))
}

/// The account of a role.
pub(super) fn role_account(
    role: &Ident,
    scope: &Scope<'_>,
) -> Result<quipu_types::AccountId, SqlError> {
    let role = folded(role);
    scope.roles.get(&role).copied().ok_or_else(|| {
        SqlError::new("42704", code::SQL_SYNTAX, format!("role \"{role}\" does not exist"))
    })
}

fn not_of(operation: &Operation, name: &str, kinds: &str) -> SqlError {
    let message =
        format!("ALTER action {} cannot be performed on relation \"{name}\"", words(operation));
    let mut error = SqlError::new("42809", code::SQL_SYNTAX, message);
    error.more().detail = Some(format!("This operation is not supported for {kinds}."));
    error
}

/// The words that an operation begins with.
fn words(operation: &Operation) -> String {
    let text = operation.to_string();
    let is_word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_uppercase());
    let words: Vec<&str> = text.split_whitespace().take(4).take_while(is_word).collect();
    if let Operation::AlterColumn { op, .. } = operation {
        let op = op.to_string();
        let op: Vec<&str> = op.split_whitespace().take(3).take_while(is_word).collect();
        return format!("ALTER COLUMN … {}", op.join(" "));
    }
    words.join(" ")
}
