//! Definitions: what tables and views there are, and how one changes with the rows that it has.

use std::collections::BTreeSet;
use std::sync::Arc;

use quipu_types::program::{Alter, Define, TableRef};
use quipu_types::table::{
    Body, CONSTRAINT_COUNT_MAX, COUNTERS, ColumnOptions, DEFINITIONS, ForeignKey, Identity,
    IndexSpec, TABLE_ID_FIRST, TableCounters, TableDef, TableSpec, end_of, ledger_key, name_key,
    space_key,
};
use quipu_types::{AccountId, Column, ColumnType, Decode as _, Encode, Schema, Value, code};

use super::write::{fitted, has_key, primary_key};
use super::{
    DEFINITION_SIZE_MAX, Fault, METER_COLUMN_COUNT, PADDED_LENGTH_MAX, Result, Tables, encoded,
    typed,
};
use crate::expr::{eval, truth};
use crate::value::Typed;

/// Beginnings of names that no one may take.
pub(crate) const NAMES_RESERVED: [&str; 2] = ["pg_", "quipu_"];

impl Tables<'_> {
    /// Changes what tables there are. A failure may leave changes behind (B2).
    pub fn define(&mut self, define: &Define) -> Result<()> {
        match define {
            Define::CreateTable(spec) => self.create_table(spec),
            Define::CreateView { name, text, replaces } => self.create_view(name, text, *replaces),
            Define::Drop(table) => self.drop_table(*table),
            Define::Alter(table, alter) => self.alter(*table, alter),
            Define::CreateProcedure { spec, replaces } => self.create_procedure(spec, *replaces),
            Define::DropProcedure(procedure) => self.drop_procedure(*procedure),
            Define::SetCallers(procedure, callers) => self.set_callers(*procedure, callers),
        }
    }

    fn create_table(&mut self, spec: &TableSpec) -> Result<()> {
        self.check_free(&spec.name)?;
        let id = self.next_id()?;
        let mut spec = spec.clone();
        for foreign in &mut spec.foreign_keys {
            // A table that does not exist yet names itself by 0.
            if foreign.table == 0 {
                foreign.table = id;
            }
        }
        check_options(&spec)?;
        let mut seen = BTreeSet::new();
        if !names(&spec).all(|name| seen.insert(name)) {
            return Err(code::TABLE_EXISTS.into());
        }
        let mut def = TableDef {
            id,
            creator: self.scene.signer,
            version: self.scene.height,
            body: Body::Table(spec.clone()),
            referenced_by: Vec::new(),
        };
        for foreign in &spec.foreign_keys {
            self.refer(&mut def, foreign)?;
        }
        self.put(name_key(&spec.name), id.to_le_bytes().to_vec());
        self.put_definition(&def)
    }

    fn create_view(&mut self, name: &str, text: &str, replaces: bool) -> Result<()> {
        let body = Body::View { name: name.to_owned(), text: text.to_owned() };
        if let Some(old) = self.named(name)? {
            let is_view = old.table().is_none();
            if !replaces || !is_view {
                return Err(code::TABLE_EXISTS.into());
            }
            self.check_owner(old.creator)?;
            let def = TableDef { body, version: self.scene.height, ..TableDef::clone(&old) };
            return self.put_definition(&def);
        }
        self.check_free(name)?;
        let id = self.next_id()?;
        let (creator, version) = (self.scene.signer, self.scene.height);
        self.put(name_key(name), id.to_le_bytes().to_vec());
        self.put_definition(&TableDef { id, creator, version, body, referenced_by: Vec::new() })
    }

    fn drop_table(&mut self, table: TableRef) -> Result<()> {
        let def = self.wanted(table)?;
        self.check_owner(def.creator)?;
        if def.referenced_by.iter().any(|child| *child != def.id) {
            return Err(code::DEPENDENT.into());
        }
        if let Some(spec) = def.table() {
            self.remove_all(&def)?;
            let mut child = TableDef::clone(&def);
            for foreign in &spec.foreign_keys {
                self.forget(&mut child, foreign.table)?;
            }
            self.remove(ledger_key(COUNTERS, def.id));
            self.put_numbers(def.id, 0)?;
        }
        self.remove(name_key(def.body.name()));
        self.remove(ledger_key(DEFINITIONS, def.id));
        Ok(())
    }

    fn alter(&mut self, table: TableRef, alter: &Alter) -> Result<()> {
        let def = self.wanted(table)?;
        self.check_owner(def.creator)?;
        let mut def = TableDef::clone(&def);
        let Body::Table(mut spec) = def.body.clone() else {
            return self.alter_view(def, alter);
        };
        match alter {
            Alter::AddColumn(column, options) => {
                self.add_column(&mut def, &mut spec, column, options)?;
            }
            Alter::AddPrimaryKey { name, columns } => {
                self.add_primary_key(&def, &mut spec, name, columns)?;
            }
            Alter::AddIndex(index) => self.add_index(&def, &mut spec, index)?,
            Alter::DropConstraint(name) => self.drop_constraint(&mut def, &mut spec, name)?,
            Alter::AddCheck(check) => {
                check_room(spec.checks.len())?;
                check_name(&spec, &check.name)?;
                spec.checks.push(check.clone());
                let place = spec.checks.len();
                self.each_row(&def, &spec, |tables, _, row| {
                    let value = eval(&check.expr, &tables.own_scope(&row))?;
                    match truth(&value)? {
                        Some(false) => Err(Fault::at(code::CHECK, place).into()),
                        _ => Ok(()),
                    }
                })?;
            }
            Alter::AddForeignKey(foreign) => {
                self.add_foreign_key(&mut def, &mut spec, foreign)?;
            }
            Alter::SetWriters(writers) => spec.writers = writers.clone(),
            Alter::Rename(name) => {
                self.check_free(name)?;
                self.remove(name_key(&spec.name));
                self.put(name_key(name), def.id.to_le_bytes().to_vec());
                spec.name = name.clone();
            }
        }
        def.body = Body::Table(spec);
        def.version = self.scene.height;
        self.put_definition(&def)
    }

    fn alter_view(&mut self, mut def: TableDef, alter: &Alter) -> Result<()> {
        let (Alter::Rename(new), Body::View { name, .. }) = (alter, &mut def.body) else {
            return Err(code::NO_TABLE.into());
        };
        let old = std::mem::replace(name, new.clone());
        self.check_free(new)?;
        self.remove(name_key(&old));
        self.put(name_key(new), def.id.to_le_bytes().to_vec());
        def.version = self.scene.height;
        self.put_definition(&def)
    }

    fn check_free(&self, name: &str) -> Result<()> {
        check_reserved(name)?;
        if self.get(&name_key(name))?.is_some() {
            return Err(code::TABLE_EXISTS.into());
        }
        Ok(())
    }

    pub(super) fn check_owner(&self, creator: AccountId) -> Result<()> {
        if self.scene.is_open || creator == self.scene.signer {
            return Ok(());
        }
        Err(code::NOT_OWNER.into())
    }

    /// The number of a new table: the counters of table 0 count them.
    pub(super) fn next_id(&mut self) -> Result<u32> {
        let mut counters = self.counters(0)?;
        let id = u64::from(TABLE_ID_FIRST).saturating_add(counters.next_row);
        counters.next_row = counters.next_row.saturating_add(1);
        self.put_counters(0, &counters)?;
        u32::try_from(id).map_err(|_| Fault::OUT_OF_RANGE.into())
    }

    /// Writes a definition, if it is one that can be read again.
    fn put_definition(&mut self, def: &TableDef) -> Result<()> {
        let bytes = def.to_bytes();
        if bytes.len() > DEFINITION_SIZE_MAX || TableDef::from_bytes(&bytes).as_ref() != Ok(def) {
            return Err(Fault::BAD_DEFINITION.into());
        }
        self.spend_size(bytes.len())?;
        self.put(ledger_key(DEFINITIONS, def.id), bytes);
        Ok(())
    }

    /// Checks a foreign key, and notes in the table that it names who names it.
    fn refer(&mut self, child: &mut TableDef, foreign: &ForeignKey) -> Result<()> {
        let parent = match foreign.table == child.id {
            true => Arc::new(child.clone()),
            false => self.definition(foreign.table)?.ok_or(code::NO_TABLE)?,
        };
        let spec = child.table().ok_or(Fault::BAD_DEFINITION)?;
        let parent_spec = parent.table().ok_or(code::NO_TABLE)?;
        // It binds those who write there.
        if !self.may_write(parent.creator, &parent_spec.writers) {
            return Err(code::NOT_OWNER.into());
        }
        let kinds: Vec<ColumnType> =
            foreign.columns.iter().filter_map(|c| spec.column(*c)).map(|c| c.kind).collect();
        let wanted = parent_spec.key_kinds();
        let fit =
            kinds.len() == wanted.len() && kinds.iter().zip(&wanted).all(|(a, b)| fits(*a, *b));
        if parent_spec.primary_key.is_empty() || !fit {
            return Err(Fault::BAD_DEFINITION.into());
        }
        let mut parent = TableDef::clone(&parent);
        if let Err(place) = parent.referenced_by.binary_search(&child.id) {
            parent.referenced_by.insert(place, child.id);
        }
        if parent.id == child.id {
            *child = parent;
            return Ok(());
        }
        self.put_definition(&parent)
    }

    /// Takes `child` from those that refer to `parent`.
    fn forget(&mut self, child: &mut TableDef, parent: u32) -> Result<()> {
        if child.id == parent {
            child.referenced_by.retain(|table| *table != parent);
            return Ok(());
        }
        let Some(parent) = self.definition(parent)? else { return Ok(()) };
        let mut parent = TableDef::clone(&parent);
        parent.referenced_by.retain(|table| *table != child.id);
        self.put_definition(&parent)
    }

    /// Visits every row of a table with its key.
    fn each_row(
        &mut self,
        def: &TableDef,
        spec: &TableSpec,
        mut visit: impl FnMut(&mut Self, Vec<u8>, Vec<Typed>) -> Result<()>,
    ) -> Result<()> {
        let schema = spec.schema.clone();
        self.each(&space_key(def.id, 0), |tables, key, bytes| {
            tables.spend(schema.columns().len() / METER_COLUMN_COUNT)?;
            let row = typed(&schema, &bytes, &key)?;
            visit(tables, key, row)
        })
    }

    fn add_column(
        &mut self,
        def: &mut TableDef,
        spec: &mut TableSpec,
        column: &Column,
        options: &ColumnOptions,
    ) -> Result<()> {
        let old = spec.clone();
        let mut columns = spec.schema.columns().to_vec();
        columns.push(column.clone());
        spec.schema = Schema::new(columns).map_err(|_| Fault::BAD_DEFINITION)?;
        spec.options.push(options.clone());
        check_options(spec)?;
        let place = old.schema.columns().len();
        let mut counters = self.counters(def.id)?;
        let mut number = self.numbers(def.id)?;
        let new = spec.clone();
        self.each_row(def, &old, |tables, key, mut row| {
            let value = match (options.identity, &options.default) {
                (Identity::Never, Some(default)) => eval(default, &tables.default_scope(place))?,
                (Identity::Never, None) => Typed { kind: column.kind, value: Value::Null },
                _ => {
                    number = number.saturating_add(1);
                    let value = crate::value::of_integer(i128::from(number), column.kind)?;
                    Typed { kind: column.kind, value }
                }
            };
            tables.made = tables.made.saturating_add(1);
            row.push(fitted(&new, place, value)?);
            tables.check_row(&new, &row)?;
            let bytes = encoded(&new.schema, &row)?;
            tables.spend(1)?;
            tables.spend_size(bytes.len())?;
            tables.put(key, bytes);
            Ok(())
        })?;
        self.put_numbers(def.id, number)?;
        counters.write_count = counters.write_count.saturating_add(1);
        self.put_counters(def.id, &counters)
    }

    fn add_primary_key(
        &mut self,
        def: &TableDef,
        spec: &mut TableSpec,
        name: &str,
        columns: &[u16],
    ) -> Result<()> {
        if !spec.primary_key.is_empty() || columns.is_empty() || !def.referenced_by.is_empty() {
            return Err(Fault::BAD_DEFINITION.into());
        }
        check_name(spec, name)?;
        let mut rows = Vec::new();
        self.each_row(def, spec, |tables, key, row| {
            tables.remove_row(def, &key, &row)?;
            rows.push(row);
            Ok(())
        })?;
        let mut schema = spec.schema.columns().to_vec();
        for column in columns {
            let column = schema.get_mut(usize::from(*column)).ok_or(Fault::BAD_DEFINITION)?;
            if !has_key(column.kind) {
                return Err(Fault::BAD_DEFINITION.into());
            }
            column.nullable = false;
        }
        spec.schema = Schema::new(schema).map_err(|_| Fault::BAD_DEFINITION)?;
        spec.primary_key = columns.to_vec();
        spec.primary_key_name = name.to_owned();
        for row in rows {
            self.spend(1)?;
            let key = primary_key(spec, def.id, &row)?;
            if self.get(&key)?.is_some() {
                return Err(Fault::at(code::UNIQUE, 0).into());
            }
            for (number, index) in (1_usize..).zip(&spec.indexes) {
                self.put_entry(def.id, number, index, &key, &row, None)?;
            }
            let bytes = encoded(&spec.schema, &row)?;
            self.spend_size(bytes.len())?;
            self.put(key, bytes);
        }
        self.touch(def)
    }

    /// Makes whoever read the table see that it has changed.
    fn touch(&mut self, def: &TableDef) -> Result<()> {
        let counters = self.counters(def.id)?;
        let write_count = counters.write_count.saturating_add(1);
        self.put_counters(def.id, &TableCounters { write_count, ..counters })
    }

    fn add_index(&mut self, def: &TableDef, spec: &mut TableSpec, index: &IndexSpec) -> Result<()> {
        check_room(spec.indexes.len())?;
        check_name(spec, &index.name)?;
        let kinds = index.columns.iter().map(|column| spec.column(*column).map(|c| c.kind));
        if index.columns.is_empty() || !kinds.into_iter().all(|kind| kind.is_some_and(has_key)) {
            return Err(Fault::BAD_DEFINITION.into());
        }
        spec.indexes.push(index.clone());
        self.fill(def, spec, spec.indexes.len())
    }

    /// Makes the entries of index `number`.
    fn fill(&mut self, def: &TableDef, spec: &TableSpec, number: usize) -> Result<()> {
        let place = number.checked_sub(1).ok_or(Fault::BAD_DEFINITION)?;
        let index = spec.indexes.get(place).ok_or(Fault::BAD_DEFINITION)?;
        self.each_row(def, spec, |tables, key, row| {
            tables.put_entry(def.id, number, index, &key, &row, None)
        })
    }

    fn drop_constraint(
        &mut self,
        def: &mut TableDef,
        spec: &mut TableSpec,
        name: &str,
    ) -> Result<()> {
        if let Some(place) = spec.indexes.iter().position(|index| index.name == name) {
            // Indexes behind it move up: they are made anew.
            spec.indexes.remove(place);
            let first = u8::try_from(place.saturating_add(1)).map_err(|_| Fault::BAD_DEFINITION)?;
            for number in first..=u8::MAX {
                let prefix = space_key(def.id, number);
                if self.range(&prefix, end_of(&prefix).as_deref(), 1)?.is_empty() {
                    continue;
                }
                self.each(&prefix, |tables, key, _| {
                    tables.remove(key);
                    Ok(())
                })?;
            }
            for number in usize::from(first)..=spec.indexes.len() {
                self.fill(def, spec, number)?;
            }
            return Ok(());
        }
        if let Some(place) = spec.foreign_keys.iter().position(|foreign| foreign.name == name) {
            let gone = spec.foreign_keys.remove(place);
            if spec.foreign_keys.iter().all(|other| other.table != gone.table) {
                self.forget(def, gone.table)?;
            }
            return Ok(());
        }
        let place = spec.checks.iter().position(|check| check.name == name);
        spec.checks.remove(place.ok_or(Fault::BAD_DEFINITION)?);
        Ok(())
    }

    fn add_foreign_key(
        &mut self,
        def: &mut TableDef,
        spec: &mut TableSpec,
        foreign: &ForeignKey,
    ) -> Result<()> {
        check_room(spec.foreign_keys.len())?;
        check_name(spec, &foreign.name)?;
        let mut foreign = foreign.clone();
        if foreign.table == 0 {
            foreign.table = def.id;
        }
        spec.foreign_keys.push(foreign.clone());
        let place = spec.foreign_keys.len();
        self.refer(def, &foreign)?;
        let parent = match foreign.table == def.id {
            true => Arc::new(def.clone()),
            false => self.definition(foreign.table)?.ok_or(code::NO_TABLE)?,
        };
        let spec = spec.clone();
        self.each_row(&def.clone(), &spec, |tables, _, row| {
            match tables.has_parent(&parent, &foreign, &row)? {
                true => Ok(()),
                false => Err(Fault::at(code::FOREIGN_KEY, place).into()),
            }
        })
    }
}

/// Refuses a name that the ledger keeps for itself.
pub(super) fn check_reserved(name: &str) -> Result<()> {
    if NAMES_RESERVED.iter().any(|prefix| name.starts_with(prefix)) && !is_benchmark(name) {
        return Err(code::NAME_RESERVED.into());
    }
    Ok(())
}

/// PostgreSQL's own benchmark has tables of a reserved name.
fn is_benchmark(name: &str) -> bool {
    name.starts_with("pgbench_")
}

fn fits(child: ColumnType, parent: ColumnType) -> bool {
    child == parent
        || (crate::value::width(child).is_some() && crate::value::width(parent).is_some())
}

fn check_room(count: usize) -> Result<()> {
    if count < CONSTRAINT_COUNT_MAX { Ok(()) } else { Err(Fault::BAD_DEFINITION.into()) }
}

/// Names of a table's constraints and indexes.
fn names(spec: &TableSpec) -> impl Iterator<Item = &str> {
    let of_indexes = spec.indexes.iter().map(|index| &index.name);
    let of_checks = spec.checks.iter().map(|check| &check.name);
    let of_foreign_keys = spec.foreign_keys.iter().map(|foreign| &foreign.name);
    let names = of_indexes.chain(of_checks).chain(of_foreign_keys).chain([&spec.primary_key_name]);
    names.map(String::as_str).filter(|name| !name.is_empty())
}

/// They are its own.
fn check_name(spec: &TableSpec, name: &str) -> Result<()> {
    if names(spec).any(|taken| taken == name) { Err(code::TABLE_EXISTS.into()) } else { Ok(()) }
}

/// One identity column at most, of an integer type; lengths are of texts.
fn check_options(spec: &TableSpec) -> Result<()> {
    let mut identities = 0_u32;
    for (column, options) in spec.schema.columns().iter().zip(&spec.options) {
        if options.identity != Identity::Never {
            identities = identities.saturating_add(1);
            if crate::value::width(column.kind).is_none() {
                return Err(Fault::BAD_DEFINITION.into());
            }
        }
        let is_long = options.is_padded && options.length > PADDED_LENGTH_MAX;
        if options.length > 0 && (column.kind != ColumnType::Text || is_long) {
            return Err(Fault::BAD_DEFINITION.into());
        }
    }
    if identities > 1 { Err(Fault::BAD_DEFINITION.into()) } else { Ok(()) }
}
