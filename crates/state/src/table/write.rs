//! One row at a time: what is asked of it, its entry in every index, and what refers to it.

use std::collections::BTreeSet;
use std::sync::Arc;

use quipu_types::program::{Conflict, Expr, Selection};
use quipu_types::table::{
    Identity, IndexSpec, ROW_KEY_SIZE_MAX, TableDef, TableSpec, end_of, put_key, space_key,
};
use quipu_types::{ColumnType, Value, code};

use super::refer::Gone;
use super::{Fault, METER_COLUMN_COUNT, Result, Tables, Work, encoded, typed};
use crate::expr::{eval, holds, truth};
use crate::value::{Cast, Typed, cast, of_integer};
use crate::view::damaged;

impl Tables<'_> {
    /// A whole row of what an insert gives: defaults and numbers where it gives nothing.
    pub(super) fn new_row(
        &self,
        work: &mut Work,
        columns: &[u16],
        exprs: &[Expr],
    ) -> Result<Vec<Typed>> {
        let def = Arc::clone(&work.def);
        let spec = def.table().ok_or(code::NO_TABLE)?;
        let mut given: Vec<Option<&Expr>> = vec![None; spec.schema.columns().len()];
        for (column, expr) in columns.iter().zip(exprs) {
            let place = given.get_mut(usize::from(*column)).ok_or(Fault::TYPE_MISMATCH)?;
            if place.replace(expr).is_some() {
                return Err(Fault::TYPE_MISMATCH.into());
            }
        }
        let mut row = Vec::with_capacity(given.len());
        let parts = spec.schema.columns().iter().zip(&spec.options).zip(given);
        for (index, ((column, options), expr)) in parts.enumerate() {
            let value = match (expr, options.identity, &options.default) {
                (Some(expr), identity, _) => {
                    let value = eval(expr, &self.scope(&[], &[]))?;
                    if identity == Identity::Always && !was_handed_out(&value, work.numbers) {
                        return Err(Fault::at(code::GENERATED, index).into());
                    }
                    value
                }
                (None, Identity::Never, Some(expr)) => eval(expr, &self.default_scope(index))?,
                (None, Identity::Never, None) => Typed { kind: column.kind, value: Value::Null },
                (None, ..) => {
                    work.numbers = work.numbers.saturating_add(1);
                    let value = of_integer(i128::from(work.numbers), column.kind)?;
                    Typed { kind: column.kind, value }
                }
            };
            row.push(fitted(spec, index, value)?);
        }
        Ok(row)
    }

    /// Inserts a row, or does what was asked for where one like it is there.
    pub(super) fn insert_row(
        &mut self,
        work: &mut Work,
        row: Vec<Typed>,
        conflict: &Conflict,
    ) -> Result<()> {
        let target = match conflict {
            Conflict::Fail => None,
            Conflict::Nothing { target } => target.map_or(Some(None), |target| Some(Some(target))),
            Conflict::Update { target, .. } => Some(Some(*target)),
        };
        self.check_row(work.spec(), &row)?;
        if let Some(target) = target
            && let Some(other) = self.rival(work, &row, target)?
        {
            let Conflict::Update { sets, filter, .. } = conflict else { return Ok(()) };
            return self.update_rival(work, &row, other, sets, filter.as_ref());
        }
        let key = self.key_of_row(work, &row)?;
        self.put_row(work, key, row, None)?;
        work.counters.row_count = work.counters.row_count.saturating_add(1);
        Ok(())
    }

    /// The key of a row that has the same values where they must differ: in one constraint, or in any.
    fn rival(&mut self, work: &Work, row: &[Typed], target: Option<u8>) -> Result<Option<Vec<u8>>> {
        let spec = work.spec();
        let is_wanted = |number: usize| target.is_none_or(|target| usize::from(target) == number);
        if is_wanted(0) && !spec.primary_key.is_empty() {
            let key = primary_key(spec, work.def.id, row)?;
            self.spend(1)?;
            if self.get(&key)?.is_some() {
                return Ok(Some(key));
            }
        }
        for (number, index) in (1_usize..).zip(&spec.indexes) {
            if index.is_unique && is_wanted(number) {
                let (prefix, has_null) = index_prefix(work.def.id, number, index, row)?;
                if !has_null && let Some(key) = self.first_under(&prefix)? {
                    return Ok(Some(key));
                }
            }
        }
        Ok(None)
    }

    pub(super) fn first_under(&mut self, prefix: &[u8]) -> Result<Option<Vec<u8>>> {
        self.spend(1)?;
        let found = self.range(prefix, end_of(prefix).as_deref(), 1)?;
        Ok(found.into_iter().next().map(|(_, row_key)| row_key))
    }

    fn update_rival(
        &mut self,
        work: &mut Work,
        excluded: &[Typed],
        key: Vec<u8>,
        sets: &[(u16, Expr)],
        filter: Option<&Expr>,
    ) -> Result<()> {
        let bytes = self.get(&key)?.ok_or_else(|| damaged(crate::Table::Row, &key))?;
        let before = typed(&work.spec().schema, &bytes, &key)?;
        if work.touched.contains(&key) {
            return Err(code::ROW_TWICE.into());
        }
        if !holds(filter, &self.scope(&before, excluded))? {
            return Ok(());
        }
        self.made = self.made.saturating_add(1);
        let row = self.changed(work, &before, excluded, sets)?;
        self.replace(work, key, &before, row)
    }

    pub(super) fn update(
        &mut self,
        work: &mut Work,
        rows: &Selection,
        sets: &[(u16, Expr)],
    ) -> Result<()> {
        check_sets(work.spec(), sets)?;
        for (key, before) in self.select(work, rows)? {
            self.made = self.made.saturating_add(1);
            let row = self.changed(work, &before, &[], sets)?;
            self.replace(work, key, &before, row)?;
        }
        Ok(())
    }

    fn changed(
        &self,
        work: &Work,
        before: &[Typed],
        excluded: &[Typed],
        sets: &[(u16, Expr)],
    ) -> Result<Vec<Typed>> {
        let mut row = before.to_vec();
        for (column, expr) in sets {
            let index = usize::from(*column);
            let options = work.spec().options.get(index).ok_or(Fault::TYPE_MISMATCH)?;
            if options.identity == Identity::Always {
                return Err(Fault::at(code::GENERATED, index).into());
            }
            let value = eval(expr, &self.scope(before, excluded))?;
            let value = fitted(work.spec(), index, value)?;
            if let Some(place) = row.get_mut(index) {
                *place = value;
            }
        }
        Ok(row)
    }

    pub(super) fn replace(
        &mut self,
        work: &mut Work,
        key: Vec<u8>,
        before: &[Typed],
        row: Vec<Typed>,
    ) -> Result<()> {
        self.check_row(work.spec(), &row)?;
        let new_key = match work.spec().primary_key.is_empty() {
            true => key.clone(),
            false => primary_key(work.spec(), work.def.id, &row)?,
        };
        if new_key != key {
            self.remove_row(&work.def, &key, before)?;
            work.gone.push(Gone { key, now: Some(row.clone()) });
            return self.put_row(work, new_key, row, None);
        }
        self.put_row(work, key, row, Some(before))
    }

    pub(super) fn delete(&mut self, work: &mut Work, rows: &Selection) -> Result<()> {
        for (key, row) in self.select(work, rows)? {
            self.remove_row(&work.def, &key, &row)?;
            work.done.row_count = work.done.row_count.saturating_add(1);
            work.counters.row_count = work.counters.row_count.saturating_sub(1);
            if work.keeps_rows {
                let bytes = encoded(&work.spec().schema, &row)?;
                self.keep(work, &bytes)?;
            }
            work.gone.push(Gone { key, now: None });
        }
        Ok(())
    }

    pub(super) fn truncate(&mut self, work: &mut Work) -> Result<()> {
        if work.def.referenced_by.iter().any(|table| *table != work.def.id) {
            return Err(code::DEPENDENT.into());
        }
        self.remove_all(&work.def)?;
        work.counters.row_count = 0;
        Ok(())
    }

    /// Removes every row and index entry of a table.
    pub(super) fn remove_all(&mut self, def: &TableDef) -> Result<()> {
        let prefix = def.id.to_be_bytes();
        self.each(&prefix, |tables, key, _| {
            tables.remove(key);
            Ok(())
        })
    }

    /// Removes a row that was visited, and its index entries.
    pub(super) fn remove_row(&mut self, def: &TableDef, key: &[u8], row: &[Typed]) -> Result<()> {
        let indexes = def.table().map(|spec| spec.indexes.as_slice()).unwrap_or_default();
        self.spend(indexes.len())?;
        for (number, index) in (1_usize..).zip(indexes) {
            self.remove(index_key(def.id, number, index, row, key)?);
        }
        self.remove(key.to_vec());
        Ok(())
    }

    /// The key that a new row gets.
    pub(super) fn key_of_row(&self, work: &mut Work, row: &[Typed]) -> Result<Vec<u8>> {
        if !work.spec().primary_key.is_empty() {
            return primary_key(work.spec(), work.def.id, row);
        }
        work.counters.next_row = work.counters.next_row.saturating_add(1);
        let number = i64::try_from(work.counters.next_row).map_err(|_| Fault::OUT_OF_RANGE)?;
        let mut key = space_key(work.def.id, 0);
        // A number has a key.
        let _has_key = put_key(&Value::Int8(number), &mut key);
        Ok(key)
    }

    /// Writes a row that was checked, new or in the place of `before`.
    fn put_row(
        &mut self,
        work: &mut Work,
        key: Vec<u8>,
        row: Vec<Typed>,
        before: Option<&[Typed]>,
    ) -> Result<()> {
        self.spend(row.len() / METER_COLUMN_COUNT)?;
        if before.is_none() && self.get(&key)?.is_some() {
            return Err(Fault::at(code::UNIQUE, 0).into());
        }
        let def = Arc::clone(&work.def);
        let spec = def.table().ok_or(code::NO_TABLE)?;
        for (number, index) in (1_usize..).zip(&spec.indexes) {
            self.put_entry(def.id, number, index, &key, &row, before)?;
        }
        let bytes = encoded(&spec.schema, &row)?;
        self.spend(1)?;
        self.spend_size(bytes.len())?;
        work.done.row_count = work.done.row_count.saturating_add(1);
        self.keep(work, &bytes)?;
        if work.is_insert {
            work.touched.insert(key.clone());
        }
        if !spec.foreign_keys.is_empty() {
            work.written.push(key.clone());
        }
        self.put(key, bytes);
        Ok(())
    }

    /// Writes a row's entry of an index, and takes that of the row before away.
    pub(super) fn put_entry(
        &mut self,
        table: u32,
        number: usize,
        index: &IndexSpec,
        key: &[u8],
        row: &[Typed],
        before: Option<&[Typed]>,
    ) -> Result<()> {
        let (prefix, has_null) = index_prefix(table, number, index, row)?;
        if let Some(before) = before {
            let (old, _) = index_prefix(table, number, index, before)?;
            if old == prefix {
                return Ok(());
            }
            self.remove(index_key(table, number, index, before, key)?);
        }
        self.spend(1)?;
        if index.is_unique && !has_null && self.first_under(&prefix)?.is_some() {
            return Err(Fault::at(code::UNIQUE, number).into());
        }
        self.put(index_key(table, number, index, row, key)?, key.to_vec());
        Ok(())
    }

    /// Not null, and the check constraints.
    pub(super) fn check_row(&self, spec: &TableSpec, row: &[Typed]) -> Result<()> {
        for (index, (column, value)) in spec.schema.columns().iter().zip(row).enumerate() {
            if !column.nullable && value.is_null() {
                return Err(Fault::at(code::NOT_NULL, index).into());
            }
        }
        for (number, check) in (1_usize..).zip(&spec.checks) {
            // Unknown is no violation.
            if truth(&eval(&check.expr, &self.own_scope(row))?)? == Some(false) {
                return Err(Fault::at(code::CHECK, number).into());
            }
        }
        Ok(())
    }
}

/// Whether a value is a number that the ledger has given to somebody.
fn was_handed_out(value: &Typed, numbers: u64) -> bool {
    let number = match value.value {
        Value::Int2(number) => i64::from(number),
        Value::Int4(number) => i64::from(number),
        Value::Int8(number) => number,
        _ => return false,
    };
    u64::try_from(number).is_ok_and(|number| (1..=numbers).contains(&number))
}

/// Assignments name columns that are there, each once.
pub(super) fn check_sets(spec: &TableSpec, sets: &[(u16, Expr)]) -> Result<()> {
    let mut seen = BTreeSet::new();
    let mut columns = sets.iter().map(|(column, _)| *column);
    let is_right = columns.all(|column| spec.column(column).is_some() && seen.insert(column));
    if is_right { Ok(()) } else { Err(Fault::TYPE_MISMATCH.into()) }
}

/// A value as its column takes it.
pub(super) fn fitted(spec: &TableSpec, index: usize, value: Typed) -> Result<Typed> {
    let columns = spec.schema.columns().get(index).zip(spec.options.get(index));
    let (column, options) = columns.ok_or(Fault::TYPE_MISMATCH)?;
    let mut value = cast(value, column.kind, Cast::Assignment)?;
    if options.length > 0
        && let Value::Text(text) = &mut value.value
    {
        let length = usize::try_from(options.length).unwrap_or(usize::MAX);
        let count = text.chars().count();
        if count > length {
            // Blanks beyond the length are cut, as SQL has it.
            let kept: String = text.chars().take(length).collect();
            let rest = text.get(kept.len()..).unwrap_or_default();
            if !rest.bytes().all(|byte| byte == b' ') {
                return Err(Fault::at(code::TEXT_TOO_LONG, index).into());
            }
            *text = kept;
        } else if options.is_padded {
            text.extend(std::iter::repeat_n(' ', length.saturating_sub(count)));
        }
    }
    debug_assert!(value.kind == column.kind || value.is_null(), "a cast gives its type");
    Ok(value)
}

/// The key of a row with a primary key.
pub(super) fn primary_key(spec: &TableSpec, table: u32, row: &[Typed]) -> Result<Vec<u8>> {
    let mut key = space_key(table, 0);
    for column in &spec.primary_key {
        let value = row.get(usize::from(*column)).ok_or(Fault::BAD_DEFINITION)?;
        if value.is_null() {
            return Err(Fault::at(code::NOT_NULL, usize::from(*column)).into());
        }
        if !put_key(&value.value, &mut key) {
            return Err(Fault::BAD_DEFINITION.into());
        }
    }
    bounded(key)
}

fn bounded(key: Vec<u8>) -> Result<Vec<u8>> {
    if key.len() > ROW_KEY_SIZE_MAX { Err(code::KEY_TOO_LONG.into()) } else { Ok(key) }
}

/// Beginning of all entries of a row's values in an index, and whether one of them is null.
fn index_prefix(
    table: u32,
    number: usize,
    index: &IndexSpec,
    row: &[Typed],
) -> Result<(Vec<u8>, bool)> {
    let number = u8::try_from(number).map_err(|_| Fault::BAD_DEFINITION)?;
    let mut key = space_key(table, number);
    let mut has_null = false;
    for column in &index.columns {
        let value = row.get(usize::from(*column)).ok_or(Fault::BAD_DEFINITION)?;
        has_null |= value.is_null();
        if !put_key(&value.value, &mut key) {
            return Err(Fault::BAD_DEFINITION.into());
        }
    }
    Ok((bounded(key)?, has_null))
}

/// A row's entry in an index: the values, then the row's own key, which makes it the only one.
fn index_key(
    table: u32,
    number: usize,
    index: &IndexSpec,
    row: &[Typed],
    key: &[u8],
) -> Result<Vec<u8>> {
    let (mut entry, _) = index_prefix(table, number, index, row)?;
    entry.extend_from_slice(key.get(space_key(table, 0).len()..).unwrap_or_default());
    Ok(entry)
}

/// Whether values of a type have a key.
pub(super) const fn has_key(kind: ColumnType) -> bool {
    !matches!(kind, ColumnType::Float8)
}
