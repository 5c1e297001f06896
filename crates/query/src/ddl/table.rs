//! Tables: columns and constraints as they are written, put together to what the ledger keeps.

use std::collections::BTreeSet;

use datafusion::sql::sqlparser::ast::helpers::stmt_create_table::CreateTableBuilder;
use datafusion::sql::sqlparser::ast::{
    CheckConstraint, ColumnDef, ColumnOption, ConstraintCharacteristics, CreateTable,
    CreateTableOptions, DeferrableInitial, Expr as Ast, ForeignKeyConstraint, GeneratedAs, Ident,
    IndexColumn, NullsDistinctOption, ObjectName, ReferentialAction, SequenceOptions,
    TableConstraint,
};
use quipu_types::program::Alter;
use quipu_types::row::COLUMN_COUNT_MAX;
use quipu_types::table::{
    CONSTRAINT_COUNT_MAX, CheckSpec, ColumnOptions, ForeignKey, Identity, IndexSpec,
    KEY_COLUMN_COUNT_MAX, Reaction, TableDef,
};
use quipu_types::{Column, ColumnType, Define, Schema, TableSpec, Writers, code};

use super::name::{self, Relation, folded};
use super::types::{self, pg_name};
use super::{Defined, Scope, expr, notice};
use crate::error::{Notice, SqlError};

/// A table while a statement makes or changes it.
pub(super) struct Draft<'a> {
    pub(super) scope: &'a Scope<'a>,
    pub(super) name: String,
    /// Its number; 0 while it is not there, as a foreign key to itself says it.
    id: u32,
    pub(super) columns: Vec<Column>,
    options: Vec<ColumnOptions>,
    primary_key: Vec<u16>,
    pub(super) primary_key_name: String,
    pub(super) indexes: Vec<IndexSpec>,
    pub(super) checks: Vec<CheckSpec>,
    pub(super) foreign_keys: Vec<ForeignKey>,
    /// Names of relations: no new index has one.
    taken: BTreeSet<String>,
    /// Names that the statement gives to constraints.
    reserved: BTreeSet<String>,
    pub(super) notices: Vec<Notice>,
}

/// A constraint as it is written, of a column or of the table.
pub(super) enum Constraint<'a> {
    Key { name: Option<String>, columns: Vec<String>, is_primary: bool },
    Check { name: Option<String>, expr: &'a Ast },
    Foreign { name: Option<String>, columns: Vec<String>, key: &'a ForeignKeyConstraint },
}

/// `CREATE TABLE`.
pub(super) fn create(create: &CreateTable, scope: &Scope<'_>) -> Result<Defined, SqlError> {
    const TAG: &str = "CREATE TABLE";
    refuse_clauses(create)?;
    let name = name::relation(&create.name)?;
    if scope.relation(&name)?.is_some() {
        let error = name::exists(&name);
        if create.if_not_exists {
            let message = format!("{}, skipping", error.message);
            return Ok(Defined::nothing(TAG, notice("42P07", &message)));
        }
        return Err(error);
    }
    name::valid_relation(&name)?;
    let mut draft = Draft::new(scope, name)?;
    let mut constraints = Vec::new();
    for column in &create.columns {
        constraints.extend(draft.add_column(column)?);
    }
    for constraint in &create.constraints {
        constraints.push(of_table(constraint)?);
    }
    for constraint in &constraints {
        draft.reserve(constraint)?;
    }
    // Keys before what may refer to them.
    constraints.sort_by_key(Constraint::rank);
    for constraint in &constraints {
        draft.add_constraint(constraint)?;
    }
    let notices = std::mem::take(&mut draft.notices);
    let spec = draft.spec()?;
    let defines = vec![Define::CreateTable(Box::new(spec))];
    Ok(Defined { defines, notices, tag: TAG })
}

/// Refuses clauses that are not here (D1).
fn refuse_clauses(create: &CreateTable) -> Result<(), SqlError> {
    let refused = [
        (create.temporary, "a temporary table"),
        (create.query.is_some(), "CREATE TABLE AS"),
        (create.like.is_some(), "CREATE TABLE … LIKE"),
        (create.inherits.is_some(), "INHERITS"),
        (create.partition_by.is_some(), "PARTITION BY"),
        (create.partition_of.is_some(), "PARTITION OF"),
        (create.on_commit.is_some(), "ON COMMIT"),
        (create.or_replace, "CREATE OR REPLACE TABLE"),
    ];
    if let Some((_, what)) = refused.into_iter().find(|(is_there, _)| *is_there) {
        return Err(SqlError::unsupported(what));
    }
    let mut rest = CreateTableBuilder::new(create.name.clone())
        .if_not_exists(create.if_not_exists)
        .columns(create.columns.clone())
        .constraints(create.constraints.clone());
    match &create.table_options {
        CreateTableOptions::With(_) => rest = rest.table_options(create.table_options.clone()),
        CreateTableOptions::None => {}
        other => return Err(SqlError::unsupported(&format!("CREATE TABLE … {other}"))),
    }
    if rest.build() != *create {
        return Err(SqlError::unsupported("a clause behind the columns of CREATE TABLE"));
    }
    Ok(())
}

/// A constraint behind the columns.
pub(super) fn of_table(constraint: &TableConstraint) -> Result<Constraint<'_>, SqlError> {
    let name = |name: &Option<Ident>| name.as_ref().map(folded);
    Ok(match constraint {
        TableConstraint::PrimaryKey(key) => {
            refuse_deferred(key.characteristics.as_ref())?;
            let columns = key_columns(&key.columns)?;
            Constraint::Key { name: name(&key.name), columns, is_primary: true }
        }
        TableConstraint::Unique(key) => {
            refuse_deferred(key.characteristics.as_ref())?;
            if key.nulls_distinct == NullsDistinctOption::NotDistinct {
                return Err(SqlError::unsupported("UNIQUE NULLS NOT DISTINCT"));
            }
            let columns = key_columns(&key.columns)?;
            Constraint::Key { name: name(&key.name), columns, is_primary: false }
        }
        TableConstraint::Check(check) => of_check(check, name(&check.name))?,
        TableConstraint::ForeignKey(key) => {
            refuse_deferred(key.characteristics.as_ref())?;
            let columns = key.columns.iter().map(folded).collect();
            Constraint::Foreign { name: name(&key.name), columns, key }
        }
        other => return Err(SqlError::unsupported(&format!("constraint {other}"))),
    })
}

fn of_check(check: &CheckConstraint, name: Option<String>) -> Result<Constraint<'_>, SqlError> {
    if check.enforced == Some(false) {
        return Err(SqlError::unsupported("a constraint that is NOT ENFORCED"));
    }
    Ok(Constraint::Check { name, expr: &check.expr })
}

fn refuse_deferred(said: Option<&ConstraintCharacteristics>) -> Result<(), SqlError> {
    let Some(said) = said else { return Ok(()) };
    if said.deferrable == Some(true) || said.initially == Some(DeferrableInitial::Deferred) {
        return Err(SqlError::unsupported("a DEFERRABLE constraint"));
    }
    if said.enforced == Some(false) {
        return Err(SqlError::unsupported("a constraint that is NOT ENFORCED"));
    }
    Ok(())
}

/// Columns of a key, which are no more than names.
fn key_columns(columns: &[IndexColumn]) -> Result<Vec<String>, SqlError> {
    let plain = |column: &IndexColumn| match &column.column.expr {
        Ast::Identifier(ident) if column.operator_class.is_none() => Ok(folded(ident)),
        other => Err(SqlError::unsupported(&format!("a key over {other}"))),
    };
    columns.iter().map(plain).collect()
}

impl Constraint<'_> {
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Key { name, .. } | Self::Check { name, .. } | Self::Foreign { name, .. } => {
                name.as_deref()
            }
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Key { is_primary: true, .. } => 0,
            Self::Key { .. } => 1,
            Self::Check { .. } => 2,
            Self::Foreign { .. } => 3,
        }
    }
}

impl<'a> Draft<'a> {
    fn new(scope: &'a Scope<'a>, name: String) -> Result<Self, SqlError> {
        let mut taken = scope.taken()?;
        taken.insert(name.clone());
        Ok(Self {
            scope,
            name,
            id: 0,
            columns: Vec::new(),
            options: Vec::new(),
            primary_key: Vec::new(),
            primary_key_name: String::new(),
            indexes: Vec::new(),
            checks: Vec::new(),
            foreign_keys: Vec::new(),
            taken,
            reserved: BTreeSet::new(),
            notices: Vec::new(),
        })
    }

    /// A table that is there.
    pub(super) fn of(
        scope: &'a Scope<'a>,
        def: &TableDef,
        spec: TableSpec,
    ) -> Result<Self, SqlError> {
        let mut draft = Self::new(scope, spec.name)?;
        draft.id = def.id;
        draft.columns = spec.schema.columns().to_vec();
        draft.options = spec.options;
        draft.primary_key = spec.primary_key;
        draft.primary_key_name = spec.primary_key_name;
        draft.indexes = spec.indexes;
        draft.checks = spec.checks;
        draft.foreign_keys = spec.foreign_keys;
        Ok(draft)
    }

    /// What a new table is; only who creates it may write to it.
    fn spec(self) -> Result<TableSpec, SqlError> {
        if self.columns.is_empty() {
            return Err(SqlError::unsupported("a table without columns"));
        }
        let schema = Schema::new(self.columns)
            .map_err(|error| SqlError::new("42602", code::BAD_DEFINITION, error.to_string()))?;
        Ok(TableSpec {
            name: self.name,
            schema,
            options: self.options,
            primary_key: self.primary_key,
            primary_key_name: self.primary_key_name,
            indexes: self.indexes,
            checks: self.checks,
            foreign_keys: self.foreign_keys,
            writers: Writers::Creator,
        })
    }

    /// The last column, as a change of a table that is there.
    pub(super) fn last_column(&self) -> Option<Alter> {
        let (column, options) = self.columns.last().zip(self.options.last())?;
        Some(Alter::AddColumn(column.clone(), options.clone()))
    }

    /// Takes a constraint's name, where one is written.
    pub(super) fn reserve(&mut self, constraint: &Constraint<'_>) -> Result<(), SqlError> {
        let Some(name) = constraint.name() else { return Ok(()) };
        name::valid(name)?;
        if self.has_constraint(name) || !self.reserved.insert(name.to_owned()) {
            let message =
                format!("constraint \"{name}\" for relation \"{}\" already exists", self.name);
            return Err(SqlError::new("42710", code::TABLE_EXISTS, message));
        }
        if matches!(constraint, Constraint::Key { .. }) && self.taken.contains(name) {
            return Err(name::exists(name));
        }
        Ok(())
    }

    /// Its indexes, checks and foreign keys.
    pub(super) fn count(&self) -> usize {
        let indexes = self.indexes.len().saturating_add(self.checks.len());
        indexes.saturating_add(self.foreign_keys.len())
    }

    pub(super) fn has_constraint(&self, name: &str) -> bool {
        self.primary_key_name == name
            || self.indexes.iter().any(|index| index.name == name)
            || self.checks.iter().any(|check| check.name == name)
            || self.foreign_keys.iter().any(|key| key.name == name)
    }

    /// The name that was written and reserved, or one that is free.
    pub(super) fn named(&self, name: Option<&str>, columns: &[&str], label: &str) -> String {
        if let Some(name) = name {
            return name.to_owned();
        }
        name::choose(&self.name, columns, label, |name| {
            self.taken.contains(name) || self.reserved.contains(name) || self.has_constraint(name)
        })
    }

    /// The 0-based numbers of columns; `missing` says that one is not there.
    pub(super) fn places(
        &self,
        columns: &[String],
        missing: impl Fn(&str) -> String,
    ) -> Result<Vec<u16>, SqlError> {
        if columns.len() > KEY_COLUMN_COUNT_MAX {
            let message =
                format!("cannot use more than {KEY_COLUMN_COUNT_MAX} columns in an index");
            return Err(SqlError::new("54011", code::SQL_LIMIT, message));
        }
        let place = |name: &String| {
            let place = self.columns.iter().position(|column| column.name == *name);
            place
                .and_then(|place| u16::try_from(place).ok())
                .ok_or_else(|| SqlError::new("42703", code::SQL_SYNTAX, missing(name)))
        };
        columns.iter().map(place).collect()
    }

    fn column(&self, place: u16) -> Option<&Column> {
        self.columns.get(usize::from(place))
    }

    /// Refuses columns that no key can hold.
    pub(super) fn check_keyed(&self, places: &[u16]) -> Result<(), SqlError> {
        let float = places
            .iter()
            .filter_map(|place| self.column(*place))
            .find(|column| column.kind == ColumnType::Float8);
        match float {
            None => Ok(()),
            Some(column) => {
                let what = format!("a key or an index over double precision (\"{}\")", column.name);
                Err(SqlError::unsupported(&what).hint("use numeric(p,s)"))
            }
        }
    }

    /// Appends a column; gives the constraints that stand with it.
    pub(super) fn add_column<'d>(
        &mut self,
        def: &'d ColumnDef,
    ) -> Result<Vec<Constraint<'d>>, SqlError> {
        let column = folded(&def.name);
        if column.starts_with('_') {
            let message = format!("column name \"{column}\": a leading _ is the ledger's own");
            return Err(SqlError::new("42602", code::SQL_SYNTAX, message));
        }
        name::valid(&column)?;
        if self.columns.iter().any(|other| other.name == column) {
            let message = format!("column \"{column}\" specified more than once");
            return Err(SqlError::new("42701", code::SQL_SYNTAX, message));
        }
        if self.columns.len() >= COLUMN_COUNT_MAX {
            let message = format!("tables can have at most {COLUMN_COUNT_MAX} columns");
            return Err(SqlError::new("54011", code::SQL_LIMIT, message));
        }
        let kind = types::read(&def.data_type)?;
        if kind.is_json {
            let message = format!("column \"{column}\" is kept as jsonb");
            self.notices.push(notice("00000", &message));
        }
        self.columns.push(Column { name: column.clone(), kind: kind.kind, nullable: true });
        let mut said = Said { identity: Identity::Never, nullable: None, default: None };
        if kind.is_serial {
            said.identity = Identity::ByDefault;
            said.nullable = Some(false);
        }
        let mut constraints = Vec::new();
        for option in &def.options {
            let name = option.name.as_ref().map(folded);
            let context = (self.name.as_str(), column.as_str());
            constraints.extend(said.read(&option.option, name, context, kind.is_serial)?);
        }
        if said.identity != Identity::Never {
            self.check_identity(&column, kind.kind, &said)?;
        }
        let default = match said.default {
            Some(default) => expr::default(default, &self.name, &self.columns, self.scope)?,
            None => None,
        };
        let is_nullable = said.nullable.unwrap_or(said.identity == Identity::Never);
        if let Some(column) = self.columns.last_mut() {
            column.nullable = is_nullable;
        }
        let (identity, length, is_padded) = (said.identity, kind.length, kind.is_padded);
        self.options.push(ColumnOptions { default, identity, length, is_padded });
        Ok(constraints)
    }

    fn check_identity(
        &self,
        column: &str,
        kind: ColumnType,
        said: &Said<'_>,
    ) -> Result<(), SqlError> {
        if !kind.is_integer() {
            let message = "identity column type must be smallint, integer, or bigint";
            return Err(SqlError::new("22023", code::SQL_SYNTAX, message));
        }
        if said.nullable == Some(true) {
            return Err(conflicting(column, &self.name));
        }
        if self.options.iter().any(|options| options.identity != Identity::Never) {
            let what = "a second identity or serial column in a table";
            return Err(SqlError::unsupported(what));
        }
        Ok(())
    }

    /// Adds a constraint whose name, if written, is reserved; gives the change that it is. None where it says nothing
    /// new.
    pub(super) fn add_constraint(
        &mut self,
        constraint: &Constraint<'_>,
    ) -> Result<Option<Alter>, SqlError> {
        match constraint {
            Constraint::Key { name, columns, is_primary } => {
                self.add_key(name.as_deref(), columns, *is_primary)
            }
            Constraint::Check { name, expr } => {
                check_room(self.checks.len(), "check constraints")?;
                let (compiled, used) = expr::check(expr, &self.name, &self.columns, self.scope)?;
                let used: Vec<&str> = used.iter().map(String::as_str).collect();
                let of_column = if used.len() == 1 { used.as_slice() } else { &[] };
                let name = self.named(name.as_deref(), of_column, "check");
                let check = CheckSpec { name, expr: compiled, text: expr.to_string() };
                self.checks.push(check.clone());
                Ok(Some(Alter::AddCheck(check)))
            }
            Constraint::Foreign { name, columns, key } => {
                self.add_foreign_key(name.as_deref(), columns, key).map(Some)
            }
        }
    }

    fn add_key(
        &mut self,
        name: Option<&str>,
        columns: &[String],
        is_primary: bool,
    ) -> Result<Option<Alter>, SqlError> {
        let missing = |column: &str| format!("column \"{column}\" named in key does not exist");
        let places = self.places(columns, missing)?;
        if let Some(column) = twice(columns) {
            let kind = if is_primary { "primary key" } else { "unique" };
            let message = format!("column \"{column}\" appears twice in {kind} constraint");
            return Err(SqlError::new("42701", code::SQL_SYNTAX, message));
        }
        self.check_keyed(&places)?;
        if is_primary {
            if !self.primary_key.is_empty() {
                let message =
                    format!("multiple primary keys for table \"{}\" are not allowed", self.name);
                return Err(SqlError::new("42P16", code::BAD_DEFINITION, message));
            }
            for place in &places {
                if let Some(column) = self.columns.get_mut(usize::from(*place)) {
                    column.nullable = false;
                }
            }
            let name = self.named(name, &[], "pkey");
            self.primary_key.clone_from(&places);
            self.primary_key_name.clone_from(&name);
            return Ok(Some(Alter::AddPrimaryKey { name, columns: places }));
        }
        // UNIQUE PRIMARY KEY says one thing twice, while nothing of it is there yet.
        let is_same = |index: &IndexSpec| index.is_unique && index.columns == places;
        let is_said = self.primary_key == places || self.indexes.iter().any(is_same);
        if self.id == 0 && name.is_none() && is_said {
            return Ok(None);
        }
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let name = self.named(name, &columns, "key");
        self.add_index(IndexSpec { name, columns: places, is_unique: true }).map(Some)
    }

    pub(super) fn add_index(&mut self, index: IndexSpec) -> Result<Alter, SqlError> {
        check_room(self.indexes.len(), "indexes")?;
        self.indexes.push(index.clone());
        Ok(Alter::AddIndex(index))
    }

    fn add_foreign_key(
        &mut self,
        name: Option<&str>,
        columns: &[String],
        key: &ForeignKeyConstraint,
    ) -> Result<Alter, SqlError> {
        check_room(self.foreign_keys.len(), "foreign keys")?;
        check_match(key)?;
        let (on_delete, on_update) = (reaction(&key.on_delete), reaction(&key.on_update));
        let missing = |column: &str| {
            format!("column \"{column}\" referenced in foreign key constraint does not exist")
        };
        let places = self.places(columns, missing)?;
        if twice(columns).is_some() {
            return Err(SqlError::unsupported("a column twice in a foreign key"));
        }
        self.check_keyed(&places)?;
        let parent = self.parent(&key.foreign_table)?;
        let order = parent.order(columns.len(), &key.referred_columns)?;
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let name = self.named(name, &names, "fkey");
        let places: Vec<u16> =
            order.iter().filter_map(|place| places.get(*place).copied()).collect();
        for (place, theirs) in places.iter().zip(&parent.key) {
            let Some(ours) = self.column(*place) else { continue };
            if !fits(ours.kind, theirs.kind) {
                return Err(incompatible(&name, ours, theirs));
            }
        }
        let (columns, table) = (places, parent.id);
        let foreign = ForeignKey { name, columns, table, on_delete, on_update };
        self.foreign_keys.push(foreign.clone());
        Ok(Alter::AddForeignKey(foreign))
    }

    /// The table that a foreign key names, which may be this one.
    fn parent(&self, written: &ObjectName) -> Result<Parent, SqlError> {
        let name = name::relation(written)?;
        let (id, columns, key, uniques) = if name == self.name {
            (self.id, self.columns.clone(), self.primary_key.clone(), self.indexes.clone())
        } else {
            let def = match self.scope.relation(&name)? {
                None => return Err(name::missing(&name)),
                Some(Relation::Table(def)) => def,
                Some(_) => {
                    let message = format!("referenced relation \"{name}\" is not a table");
                    return Err(SqlError::new("42809", code::SQL_SYNTAX, message));
                }
            };
            let spec = def.table().cloned().ok_or_else(|| name::missing(&name))?;
            (def.id, spec.schema.columns().to_vec(), spec.primary_key, spec.indexes)
        };
        let named = |places: &[u16]| -> Vec<Column> {
            let columns = places.iter().filter_map(|place| columns.get(usize::from(*place)));
            columns.cloned().collect()
        };
        let uniques = uniques.iter().filter(|index| index.is_unique);
        let uniques = uniques
            .map(|index| named(&index.columns).into_iter().map(|column| column.name).collect())
            .collect();
        Ok(Parent { name, id, key: named(&key), uniques })
    }
}

/// The table that a foreign key names.
struct Parent {
    name: String,
    id: u32,
    key: Vec<Column>,
    uniques: Vec<BTreeSet<String>>,
}

impl Parent {
    /// For each column of its primary key, which of the foreign key's `count` columns stands for it.
    fn order(&self, count: usize, referred: &[Ident]) -> Result<Vec<usize>, SqlError> {
        let disagree = || {
            let message = "number of referencing and referenced columns for foreign key disagree";
            SqlError::new("42830", code::BAD_DEFINITION, message)
        };
        let Self { name, .. } = self;
        if referred.is_empty() {
            if self.key.is_empty() {
                let message = format!("there is no primary key for referenced table \"{name}\"");
                return Err(SqlError::new("42704", code::BAD_DEFINITION, message));
            }
            return if self.key.len() == count {
                Ok((0..count).collect())
            } else {
                Err(disagree())
            };
        }
        if referred.len() != count {
            return Err(disagree());
        }
        let referred: Vec<String> = referred.iter().map(folded).collect();
        let place = |column: &Column| referred.iter().position(|name| *name == column.name);
        let order: Option<Vec<usize>> = self.key.iter().map(place).collect();
        if let Some(order) = order.filter(|order| order.len() == count) {
            return Ok(order);
        }
        let referred: BTreeSet<String> = referred.into_iter().collect();
        if self.uniques.contains(&referred) {
            let what = "a foreign key to columns other than the primary key";
            return Err(SqlError::unsupported(what));
        }
        let message = format!(
            "there is no unique constraint matching given keys for referenced table \"{name}\""
        );
        Err(SqlError::new("42830", code::BAD_DEFINITION, message))
    }
}

/// What the options of a column say.
struct Said<'d> {
    identity: Identity,
    nullable: Option<bool>,
    default: Option<&'d Ast>,
}

impl<'d> Said<'d> {
    fn read(
        &mut self,
        option: &'d ColumnOption,
        name: Option<String>,
        (table, column): (&str, &str),
        is_serial: bool,
    ) -> Result<Option<Constraint<'d>>, SqlError> {
        let columns = || vec![column.to_owned()];
        match option {
            ColumnOption::Null => self.set_nullable(true, table, column)?,
            ColumnOption::NotNull => self.set_nullable(false, table, column)?,
            ColumnOption::Default(_) if self.default.is_some() || is_serial => {
                return Err(multiple("default values", column, table));
            }
            ColumnOption::Default(_) if self.identity != Identity::Never => {
                return Err(both(column, table));
            }
            ColumnOption::Default(default) => self.default = Some(default),
            ColumnOption::PrimaryKey(key) => {
                refuse_deferred(key.characteristics.as_ref())?;
                return Ok(Some(Constraint::Key { name, columns: columns(), is_primary: true }));
            }
            ColumnOption::Unique(key) => {
                refuse_deferred(key.characteristics.as_ref())?;
                return Ok(Some(Constraint::Key { name, columns: columns(), is_primary: false }));
            }
            ColumnOption::Check(check) => return of_check(check, name).map(Some),
            ColumnOption::ForeignKey(key) => {
                refuse_deferred(key.characteristics.as_ref())?;
                return Ok(Some(Constraint::Foreign { name, columns: columns(), key }));
            }
            ColumnOption::Collation(collation) => check_collation(collation)?,
            ColumnOption::Generated { generation_expr: Some(_), .. } => {
                return Err(SqlError::unsupported("a column GENERATED ALWAYS AS (expression)"));
            }
            ColumnOption::Generated { generated_as, sequence_options, .. } => {
                if is_serial || self.default.is_some() {
                    return Err(both(column, table));
                }
                if self.identity != Identity::Never {
                    return Err(multiple("identity specifications", column, table));
                }
                check_sequence(sequence_options.as_deref().unwrap_or_default())?;
                self.identity = match generated_as {
                    GeneratedAs::Always => Identity::Always,
                    GeneratedAs::ByDefault | GeneratedAs::ExpStored => Identity::ByDefault,
                };
            }
            other => return Err(SqlError::unsupported(&format!("column option {other}"))),
        }
        Ok(None)
    }

    fn set_nullable(&mut self, to: bool, table: &str, column: &str) -> Result<(), SqlError> {
        match self.nullable.replace(to) {
            Some(said) if said != to => Err(conflicting(column, table)),
            _ => Ok(()),
        }
    }
}

/// Numbers are given from 1 on, one after another: other sequences are not here.
fn check_sequence(options: &[SequenceOptions]) -> Result<(), SqlError> {
    let is_one = |expr: &Ast| expr.to_string() == "1";
    for option in options {
        let is_plain = match option {
            SequenceOptions::IncrementBy(expr, _) | SequenceOptions::StartWith(expr, _) => {
                is_one(expr)
            }
            SequenceOptions::MinValue(least) => least.as_ref().is_none_or(is_one),
            SequenceOptions::MaxValue(most) => most.is_none(),
            SequenceOptions::Cache(_) => true,
            SequenceOptions::Cycle(cycles) => !cycles,
        };
        if !is_plain {
            let what = format!("identity with{option}");
            return Err(SqlError::unsupported(&what).hint("numbers start with 1, in steps of 1"));
        }
    }
    Ok(())
}

/// Texts are compared bytewise: other collations are not here.
fn check_collation(ObjectName(parts): &ObjectName) -> Result<(), SqlError> {
    let last = parts.last().and_then(|part| part.as_ident()).map(folded).unwrap_or_default();
    match last.as_str() {
        "C" | "POSIX" | "default" | "ucs_basic" => Ok(()),
        other => {
            let error = SqlError::unsupported(&format!("collation \"{other}\""));
            Err(error.hint("texts are compared bytewise: COLLATE \"C\""))
        }
    }
}

const fn reaction(action: &Option<ReferentialAction>) -> Reaction {
    match action {
        None | Some(ReferentialAction::NoAction | ReferentialAction::Restrict) => Reaction::Refuse,
        Some(ReferentialAction::Cascade) => Reaction::Cascade,
        Some(ReferentialAction::SetNull) => Reaction::SetNull,
        Some(ReferentialAction::SetDefault) => Reaction::SetDefault,
    }
}

fn check_match(key: &ForeignKeyConstraint) -> Result<(), SqlError> {
    use datafusion::sql::sqlparser::ast::ConstraintReferenceMatchKind as Match;
    match key.match_kind {
        None | Some(Match::Simple) => Ok(()),
        // Of one column there is no difference.
        Some(Match::Full) if key.columns.len() <= 1 => Ok(()),
        Some(Match::Full) => Err(SqlError::unsupported("MATCH FULL")),
        Some(Match::Partial) => Err(SqlError::unsupported("MATCH PARTIAL")),
    }
}

/// Whether a column can refer to a key's column.
fn fits(ours: ColumnType, theirs: ColumnType) -> bool {
    ours == theirs || (ours.is_integer() && theirs.is_integer())
}

fn incompatible(name: &str, ours: &Column, theirs: &Column) -> SqlError {
    let message = format!("foreign key constraint \"{name}\" cannot be implemented");
    let mut error = SqlError::new("42804", code::TYPE_MISMATCH, message);
    error.more().detail = Some(format!(
        "Key columns \"{}\" and \"{}\" are of incompatible types: {} and {}.",
        ours.name,
        theirs.name,
        pg_name(ours.kind),
        pg_name(theirs.kind)
    ));
    error
}

fn check_room(count: usize, what: &str) -> Result<(), SqlError> {
    if count < CONSTRAINT_COUNT_MAX {
        return Ok(());
    }
    let message = format!("tables can have at most {CONSTRAINT_COUNT_MAX} {what}");
    Err(SqlError::new("54000", code::SQL_LIMIT, message))
}

/// A name that stands twice in a list.
pub(super) fn twice(names: &[String]) -> Option<&String> {
    let mut seen = BTreeSet::new();
    names.iter().find(|name| !seen.insert(*name))
}

fn conflicting(column: &str, table: &str) -> SqlError {
    let message = format!(
        "conflicting NULL/NOT NULL declarations for column \"{column}\" of table \"{table}\""
    );
    SqlError::new("42601", code::SQL_SYNTAX, message)
}

fn multiple(what: &str, column: &str, table: &str) -> SqlError {
    let message = format!("multiple {what} specified for column \"{column}\" of table \"{table}\"");
    SqlError::new("42601", code::SQL_SYNTAX, message)
}

fn both(column: &str, table: &str) -> SqlError {
    let message =
        format!("both default and identity specified for column \"{column}\" of table \"{table}\"");
    SqlError::new("42601", code::SQL_SYNTAX, message)
}
