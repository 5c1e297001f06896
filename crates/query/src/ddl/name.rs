//! Names: who is meant by one, whether one is free, and how constraints and indexes are called that have none.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{Ident, ObjectName};
use quipu_types::row::{NAME_SIZE_MAX, check_name};
use quipu_types::table::TableDef;
use quipu_types::{TableSpec, code};

use super::{Scope, unreadable};
use crate::engine::DATABASE;
use crate::error::SqlError;

/// Beginnings of names that the ledger keeps for itself.
const RESERVED: [&str; 2] = ["pg_", "quipu_"];

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Relation {
    Table(Arc<TableDef>),
    View(Arc<TableDef>),
    /// An index, a unique constraint or a primary key of this table.
    Index(Arc<TableDef>),
    Stream,
}

impl Relation {
    /// What PostgreSQL calls such a thing.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Table(_) => "table",
            Self::View(_) => "view",
            Self::Index(_) => "index",
            Self::Stream => "stream",
        }
    }
}

impl Scope<'_> {
    /// Every table and view.
    pub(super) fn all(&self) -> Result<Vec<Arc<TableDef>>, SqlError> {
        self.snapshot.all().map_err(unreadable)
    }

    /// What stands behind a name.
    pub(super) fn relation(&self, name: &str) -> Result<Option<Relation>, SqlError> {
        if let Some(def) = self.snapshot.named(name).map_err(unreadable)? {
            let is_table = def.table().is_some();
            return Ok(Some(if is_table { Relation::Table(def) } else { Relation::View(def) }));
        }
        if self.streams.table(&format!("public.{name}")).is_some() {
            return Ok(Some(Relation::Stream));
        }
        let has = |spec: &TableSpec| index_names(spec).any(|index| index == name);
        let owner = self.all()?.into_iter().find(|def| def.table().is_some_and(has));
        Ok(owner.map(Relation::Index))
    }

    /// The table of a name, with what it is now.
    pub(super) fn table(&self, name: &ObjectName) -> Result<(Arc<TableDef>, TableSpec), SqlError> {
        let name = relation(name)?;
        match self.relation(&name)? {
            None => Err(missing(&name)),
            Some(Relation::Table(def)) => match def.table().cloned() {
                Some(spec) => Ok((def, spec)),
                None => Err(missing(&name)),
            },
            Some(other) => Err(wrong_type(&name, "table", &other)),
        }
    }

    /// Every name that an index can not have.
    pub(super) fn taken(&self) -> Result<BTreeSet<String>, SqlError> {
        let mut taken: BTreeSet<String> = self.streams.table_names("public.").into_iter().collect();
        for def in self.all()? {
            taken.insert(def.body.name().to_owned());
            taken.extend(def.table().into_iter().flat_map(index_names).map(str::to_owned));
        }
        Ok(taken)
    }
}

/// Names of a table's indexes, its primary key's first.
fn index_names(spec: &TableSpec) -> impl Iterator<Item = &str> {
    let key = Some(spec.primary_key_name.as_str()).filter(|name| !name.is_empty());
    key.into_iter().chain(spec.indexes.iter().map(|index| index.name.as_str()))
}

/// Names that are not quoted are lower case.
pub(super) fn folded(ident: &Ident) -> String {
    match ident.quote_style {
        None => ident.value.to_lowercase(),
        Some(_) => ident.value.clone(),
    }
}

/// The name of a table or a view: of the schema public, the only one.
pub(crate) fn relation(name: &ObjectName) -> Result<String, SqlError> {
    let ObjectName(parts) = name;
    let words: Option<Vec<String>> = parts.iter().map(|part| part.as_ident().map(folded)).collect();
    let words = words.unwrap_or_default();
    let (schema, relation) = match words.as_slice() {
        [relation] => return Ok(relation.clone()),
        [schema, relation] => (schema, relation),
        [database, schema, relation] if database == DATABASE => (schema, relation),
        [_, _, _] => {
            let message = format!("cross-database references are not implemented: \"{name}\"");
            return Err(SqlError::new("0A000", code::SQL_UNSUPPORTED, message));
        }
        _ => {
            let message = format!("improper relation name (too many dotted names): {name}");
            return Err(SqlError::new("42601", code::SQL_SYNTAX, message));
        }
    };
    match schema.as_str() {
        "public" => Ok(relation.clone()),
        "pg_temp" => Err(SqlError::unsupported("a temporary table")),
        "pg_catalog" | "information_schema" | "quipu" => {
            let message = format!("permission denied for schema {schema}");
            Err(SqlError::new("42501", code::NOT_OWNER, message))
        }
        _ => {
            let message = format!("schema \"{schema}\" does not exist");
            let error = SqlError::new("3F000", code::SQL_SYNTAX, message);
            Err(error.hint("all tables are in the schema public"))
        }
    }
}

/// A name that something is to have.
pub(super) fn valid(name: &str) -> Result<(), SqlError> {
    check_name(name).map_err(|reason| SqlError::new("42602", code::SQL_SYNTAX, reason))
}

/// A name that a table or a view is to have.
pub(super) fn valid_relation(name: &str) -> Result<(), SqlError> {
    valid(name)?;
    match RESERVED.iter().find(|prefix| name.starts_with(**prefix)) {
        None => Ok(()),
        Some(prefix) => {
            let message = format!("unacceptable name \"{name}\": {prefix} is reserved");
            Err(SqlError::new("42939", code::NAME_RESERVED, message))
        }
    }
}

pub(super) fn missing(name: &str) -> SqlError {
    SqlError::new("42P01", code::NO_TABLE, format!("relation \"{name}\" does not exist"))
}

pub(super) fn exists(name: &str) -> SqlError {
    SqlError::new("42P07", code::TABLE_EXISTS, format!("relation \"{name}\" already exists"))
}

/// A name of another kind than the statement's.
pub(super) fn wrong_type(name: &str, wanted: &str, found: &Relation) -> SqlError {
    let article = if wanted.starts_with('i') { "an" } else { "a" };
    let message = format!("\"{name}\" is not {article} {wanted}");
    let error = SqlError::new("42809", code::SQL_SYNTAX, message);
    match found {
        Relation::Stream => error.hint("it is a stream: streams are neither changed nor dropped"),
        _ => error,
    }
}

/// The name of something of a table that was not named: `table_column_label`, with a number where that is taken.
pub(super) fn choose(
    table: &str,
    columns: &[&str],
    label: &str,
    is_taken: impl Fn(&str) -> bool,
) -> String {
    let columns = columns.join("_");
    let first = object_name(table, &columns, label);
    let numbered =
        (1_u64..).map(|number| object_name(table, &columns, &format!("{label}{number}")));
    let mut names = std::iter::once(first).chain(numbered);
    names.find(|name| !is_taken(name)).expect("one of endlessly many names is free")
}

/// Parts of a name, the longer one cut until it fits. All are ASCII ([`check_name`]).
fn object_name(table: &str, columns: &str, label: &str) -> String {
    let between = if columns.is_empty() { 1 } else { 2 };
    let room = NAME_SIZE_MAX.saturating_sub(label.len()).saturating_sub(between);
    let (mut head, mut tail) = (table.len(), columns.len());
    while head.saturating_add(tail) > room {
        if head > tail {
            head = head.saturating_sub(1);
        } else {
            tail = tail.saturating_sub(1);
        }
    }
    let head = table.get(..head).unwrap_or_default();
    match columns.get(..tail).unwrap_or_default() {
        "" => format!("{head}_{label}"),
        tail => format!("{head}_{tail}_{label}"),
    }
}
