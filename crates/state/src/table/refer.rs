//! Foreign keys: who refers to whom, and what becomes of rows whose parents go.
//!
//! ```text
//!  a program's rows ─> counters ─> for each key that is gone, in each table that refers to it:
//!                                    CASCADE, SET NULL, SET DEFAULT ─> rows of that table ─> the same again, a level deeper
//!                                  then: NO ACTION and RESTRICT ─> refused where a row still refers
//!                                  then: rows that were written ─> each has its parent
//! ```
//! Rows are taken ascending by their keys, tables and foreign keys in the order of their definitions: the same on every
//! validator. What follows from a program asks for no rights of its own, and is not in its counts, as in PostgreSQL.

use std::collections::BTreeSet;

use quipu_types::code;
use quipu_types::table::{
    ForeignKey, ROW_KEY_SIZE_MAX, Reaction, TableDef, TableSpec, put_key, space_key,
};

use super::write::fitted;
use super::{Fault, Result, Tables, Work, typed};
use crate::expr::eval;
use crate::value::{Cast, Typed, cast};

/// Deepest chain of rows that follow one another.
const LEVEL_COUNT_MAX: usize = 64;

/// A key under which no row stands any more.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) key: Vec<u8>,
    /// The row that stood there, where only its key has changed.
    pub(super) now: Option<Vec<Typed>>,
}

impl Gone {
    fn reaction(&self, foreign: &ForeignKey) -> Reaction {
        if self.now.is_some() { foreign.on_update } else { foreign.on_delete }
    }
}

impl Tables<'_> {
    /// Ends what was done to a table: its counters, and what foreign keys make of it.
    pub(super) fn settle(&mut self, work: &Work, level: usize) -> Result<()> {
        self.put_counters(work.def.id, &work.counters)?;
        if work.spec().identity().is_some() {
            self.put_numbers(work.def.id, work.numbers)?;
        }
        if !work.gone.is_empty() {
            if level >= LEVEL_COUNT_MAX {
                return Err(code::METER.into());
            }
            for child in &work.def.referenced_by {
                self.follow(work, *child, level)?;
            }
            for child in &work.def.referenced_by {
                self.check_gone(work, *child)?;
            }
        }
        self.check_parents(work)
    }

    /// Changes the rows of `child` that refer to what is gone, where its foreign keys say how.
    fn follow(&mut self, work: &Work, child: u32, level: usize) -> Result<()> {
        let child = self.definition(child)?.ok_or(code::NO_TABLE)?;
        let spec = child.table().ok_or(code::NO_TABLE)?;
        let own = spec.foreign_keys.iter().filter(|own| own.table == work.def.id);
        let reacting: Vec<&ForeignKey> =
            own.filter(|own| [own.on_delete, own.on_update] != [Reaction::Refuse; 2]).collect();
        if reacting.is_empty() {
            return Ok(());
        }
        let mut more = self.work_on(&child)?;
        for gone in &work.gone {
            // Another row may have the key by now.
            if self.get(&gone.key)?.is_some() {
                continue;
            }
            for foreign in &reacting {
                if gone.reaction(foreign) == Reaction::Refuse {
                    continue;
                }
                for key in self.referring(&child, &work.def, foreign, &gone.key, usize::MAX)? {
                    self.react(&mut more, foreign, gone, key, work.spec())?;
                }
            }
        }
        if more.done.row_count == 0 {
            return Ok(());
        }
        more.counters.write_count = more.counters.write_count.saturating_add(1);
        self.settle(&more, level.saturating_add(1))
    }

    /// What becomes of one row.
    fn react(
        &mut self,
        work: &mut Work,
        foreign: &ForeignKey,
        gone: &Gone,
        key: Vec<u8>,
        parent: &TableSpec,
    ) -> Result<()> {
        let Some(bytes) = self.get(&key)? else { return Ok(()) };
        let before = typed(&work.spec().schema, &bytes, &key)?;
        let mut row = before.clone();
        let reaction = gone.reaction(foreign);
        if let (Reaction::Cascade, None) = (reaction, &gone.now) {
            self.remove_row(&work.def, &key, &before)?;
            work.done.row_count = work.done.row_count.saturating_add(1);
            work.counters.row_count = work.counters.row_count.saturating_sub(1);
            work.gone.push(Gone { key, now: None });
            return Ok(());
        }
        for (place, column) in foreign.columns.iter().enumerate() {
            let index = usize::from(*column);
            let options = work.spec().options.get(index).ok_or(Fault::BAD_DEFINITION)?;
            let value = match (reaction, &gone.now) {
                (Reaction::Cascade, Some(now)) => {
                    let theirs = parent.primary_key.get(place).ok_or(Fault::BAD_DEFINITION)?;
                    now.get(usize::from(*theirs)).cloned().ok_or(Fault::BAD_DEFINITION)?
                }
                (Reaction::SetDefault, _) => match &options.default {
                    Some(default) => eval(default, &self.default_scope(index))?,
                    None => Typed::NULL,
                },
                _ => Typed::NULL,
            };
            let value = fitted(work.spec(), index, value)?;
            *row.get_mut(index).ok_or(Fault::BAD_DEFINITION)? = value;
        }
        self.replace(work, key, &before, row)
    }

    /// Refuses where a row of `child` still refers to what is gone.
    fn check_gone(&mut self, work: &Work, child: u32) -> Result<()> {
        let child = self.definition(child)?.ok_or(code::NO_TABLE)?;
        let spec = child.table().ok_or(code::NO_TABLE)?;
        for gone in &work.gone {
            if self.get(&gone.key)?.is_some() {
                continue;
            }
            for foreign in spec.foreign_keys.iter().filter(|own| own.table == work.def.id) {
                let refuses = gone.reaction(foreign) == Reaction::Refuse;
                if refuses && !self.referring(&child, &work.def, foreign, &gone.key, 1)?.is_empty()
                {
                    return Err(code::REFERENCED.into());
                }
            }
        }
        Ok(())
    }

    /// Every row that was written, and is there, has its parents.
    fn check_parents(&mut self, work: &Work) -> Result<()> {
        for (number, foreign) in (1_usize..).zip(&work.spec().foreign_keys) {
            let parent = self.definition(foreign.table)?.ok_or(code::NO_TABLE)?;
            for key in &work.written {
                let Some(bytes) = self.get(key)? else { continue };
                let row = typed(&work.spec().schema, &bytes, key)?;
                if !self.has_parent(&parent, foreign, &row)? {
                    return Err(Fault::at(code::FOREIGN_KEY, number).into());
                }
            }
        }
        Ok(())
    }

    pub(super) fn has_parent(
        &mut self,
        parent: &TableDef,
        foreign: &ForeignKey,
        row: &[Typed],
    ) -> Result<bool> {
        self.spend(1)?;
        match parent_key(parent, foreign, row)? {
            Parent::Nobody => Ok(true),
            Parent::Missing => Ok(false),
            Parent::Key(key) => Ok(self.get(&key)?.is_some()),
        }
    }

    /// Keys of the rows of `child` that refer by `foreign` to the row of `parent` under `key`, ascending; no more than
    /// `count_max` where an index gives them.
    fn referring(
        &mut self,
        child: &TableDef,
        parent: &TableDef,
        foreign: &ForeignKey,
        key: &[u8],
        count_max: usize,
    ) -> Result<BTreeSet<Vec<u8>>> {
        let spec = child.table().ok_or(code::NO_TABLE)?;
        let mut found = BTreeSet::new();
        let indexed = spec.indexes.iter().position(|index| {
            index.columns.starts_with(&foreign.columns) && same_kinds(spec, parent, foreign)
        });
        if let Some(place) = indexed {
            let number = u8::try_from(place.saturating_add(1)).unwrap_or(u8::MAX);
            let mut prefix = space_key(child.id, number);
            prefix.extend_from_slice(key.get(space_key(parent.id, 0).len()..).unwrap_or_default());
            if count_max == 1 {
                found.extend(self.first_under(&prefix)?);
                return Ok(found);
            }
            self.each(&prefix, |_, _, row_key| {
                found.insert(row_key);
                Ok(())
            })?;
            return Ok(found);
        }
        self.each(&space_key(child.id, 0), |_, child_key, bytes| {
            let row = typed(&spec.schema, &bytes, &child_key)?;
            if matches!(parent_key(parent, foreign, &row)?, Parent::Key(of) if of == key) {
                found.insert(child_key);
            }
            Ok(())
        })?;
        Ok(found)
    }
}

/// Whether a foreign key's columns have the very types of the key that they name.
fn same_kinds(spec: &TableSpec, parent: &TableDef, foreign: &ForeignKey) -> bool {
    let kinds = parent.table().map(TableSpec::key_kinds).unwrap_or_default();
    let own = foreign.columns.iter().map(|column| spec.column(*column).map(|column| column.kind));
    own.eq(kinds.into_iter().map(Some))
}

/// The row that a foreign key names.
enum Parent {
    /// None: a column is null.
    Nobody,
    /// One that no table can have: a value is too large for its key.
    Missing,
    /// The one under this key.
    Key(Vec<u8>),
}

fn parent_key(parent: &TableDef, foreign: &ForeignKey, row: &[Typed]) -> Result<Parent> {
    let kinds = parent.table().map(TableSpec::key_kinds).unwrap_or_default();
    let mut key = space_key(parent.id, 0);
    let mut is_missing = false;
    for (column, kind) in foreign.columns.iter().zip(kinds) {
        let value = row.get(usize::from(*column)).cloned().ok_or(Fault::BAD_DEFINITION)?;
        if value.is_null() {
            return Ok(Parent::Nobody);
        }
        match cast(value, kind, Cast::Assignment) {
            Ok(value) if put_key(&value.value, &mut key) => {}
            Ok(_) => return Err(Fault::BAD_DEFINITION.into()),
            Err(Fault::OUT_OF_RANGE) => is_missing = true,
            Err(fault) => return Err(fault.into()),
        }
    }
    is_missing |= key.len() > ROW_KEY_SIZE_MAX;
    Ok(if is_missing { Parent::Missing } else { Parent::Key(key) })
}
