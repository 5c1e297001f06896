//! Which rows a program is about: their keys and what stands there, ascending by key.

use std::collections::BTreeMap;

use quipu_types::Value;
use quipu_types::program::{Access, Expr, Selection};
use quipu_types::table::{ROW_KEY_SIZE_MAX, end_of, put_key, space_key};

use super::{Fault, METER_COLUMN_COUNT, PAGE_COUNT, Result, TableError, Tables, Work, typed};
use crate::expr::{eval, holds};
use crate::store::Table::Row;
use crate::value::{Cast, Typed, cast};
use crate::view::{after, damaged};

/// Rows by key.
pub(super) type Selected = BTreeMap<Vec<u8>, Vec<Typed>>;

impl Tables<'_> {
    pub(super) fn select(&mut self, work: &Work, selection: &Selection) -> Result<Selected> {
        let mut selected = Selected::new();
        let filter = selection.filter.as_ref();
        match &selection.access {
            Access::All => {
                let prefix = space_key(work.def.id, 0);
                self.each(&prefix, |tables, key, bytes| {
                    tables.keep_if(work, filter, key, &bytes, &mut selected)
                })?;
            }
            Access::Keys(keys) => {
                for values in keys {
                    self.spend(1)?;
                    let Some(key) = self.row_key_of(work, values)? else { continue };
                    if let Some(bytes) = self.get(&key)? {
                        self.spend_size(bytes.len())?;
                        self.keep_if(work, filter, key, &bytes, &mut selected)?;
                    }
                }
            }
            Access::Index { index: 0, values } => {
                let kinds = work.spec().key_kinds();
                let prefix = space_key(work.def.id, 0);
                if let Some(prefix) = self.key_of(prefix, values, &kinds)? {
                    self.each(&prefix, |tables, key, bytes| {
                        tables.keep_if(work, filter, key, &bytes, &mut selected)
                    })?;
                }
            }
            Access::Index { index, values } => {
                let place = usize::from(*index).checked_sub(1);
                let spec = place.and_then(|place| work.spec().indexes.get(place));
                let spec = spec.ok_or(Fault::BAD_DEFINITION)?;
                let columns = spec.columns.iter().filter_map(|column| work.spec().column(*column));
                let kinds: Vec<_> = columns.map(|column| column.kind).collect();
                let prefix = space_key(work.def.id, *index);
                let Some(prefix) = self.key_of(prefix, values, &kinds)? else {
                    return Ok(selected);
                };
                self.each(&prefix, |tables, _, row_key| {
                    let bytes = tables.get(&row_key)?.ok_or_else(|| damaged(Row, &row_key))?;
                    tables.spend(1)?;
                    tables.spend_size(bytes.len())?;
                    tables.keep_if(work, filter, row_key, &bytes, &mut selected)
                })?;
            }
        }
        Ok(selected)
    }

    fn keep_if(
        &self,
        work: &Work,
        filter: Option<&Expr>,
        key: Vec<u8>,
        bytes: &[u8],
        selected: &mut Selected,
    ) -> Result<()> {
        self.spend(work.spec().options.len() / METER_COLUMN_COUNT)?;
        let row = typed(&work.spec().schema, bytes, &key)?;
        if holds(filter, &self.scope(&row, &[]))? {
            selected.insert(key, row);
        }
        Ok(())
    }

    /// Visits every row whose key begins with `prefix`, ascending. What a visit changes behind its row is seen.
    pub(super) fn each(
        &mut self,
        prefix: &[u8],
        mut visit: impl FnMut(&mut Self, Vec<u8>, Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let end = end_of(prefix);
        let mut from = prefix.to_vec();
        loop {
            let page = self.range(&from, end.as_deref(), PAGE_COUNT)?;
            let is_last = page.len() < PAGE_COUNT;
            if let Some((last, _)) = page.last() {
                from = after(last);
            }
            for (key, value) in page {
                self.spend(1)?;
                self.spend_size(value.len())?;
                visit(self, key, value)?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// The key of the row that these values name; none where no row can have it.
    pub(super) fn row_key_of(&self, work: &Work, values: &[Expr]) -> Result<Option<Vec<u8>>> {
        let kinds = work.spec().key_kinds();
        if values.len() != kinds.len() {
            return Err(Fault::TYPE_MISMATCH.into());
        }
        self.key_of(space_key(work.def.id, 0), values, &kinds)
    }

    /// `prefix` and the keys of values of the first of these types; none where one is null or fits none.
    fn key_of(
        &self,
        mut prefix: Vec<u8>,
        values: &[Expr],
        kinds: &[quipu_types::ColumnType],
    ) -> Result<Option<Vec<u8>>> {
        if values.len() > kinds.len() {
            return Err(Fault::TYPE_MISMATCH.into());
        }
        for (expr, kind) in values.iter().zip(kinds) {
            let value = eval(expr, &self.scope(&[], &[]))?;
            let exact = value.clone();
            let value = match cast(value, *kind, Cast::Assignment) {
                Ok(value) => value,
                Err(fault) if fault == Fault::OUT_OF_RANGE => return Ok(None),
                Err(fault) => return Err(TableError::Fault(fault)),
            };
            // A value that the cast rounds equals no key.
            let is_same = crate::expr::compare(&exact, &value)?.is_some_and(|order| order.is_eq());
            if matches!(value.value, Value::Null) || !is_same {
                return Ok(None);
            }
            if !put_key(&value.value, &mut prefix) {
                return Err(Fault::TYPE_MISMATCH.into());
            }
        }
        // No row has a longer one.
        Ok(Some(prefix).filter(|prefix| prefix.len() <= ROW_KEY_SIZE_MAX))
    }
}
