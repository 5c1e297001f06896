//! The row space: rows of tables under sorted keys, every version of them, and reads of it at one height.
//!
//! ```text
//!  Table::Row   key                    →  since u64 · bytes      what stands there now
//!  Table::Old   groups(key) · until    →  since u64 · bytes      what stood there from one height to before another
//!
//!  groups(key)  8 bytes · FF, again and again; the last: 1 to 8 bytes, zeros up to 8 · how many they are
//!  until        u64 BE: the first version behind a height is what stood there
//!
//!  View, newest ──> Layer: what the height changed ──> Layer: what the transaction changed     (validators)
//!  View at a height ─────────────────────────────────> Layer: what the session changed         (gateways)
//! ```
//! # Invariants
//! * R1 A read at a height sees what stood there when the height was applied, whatever came later.
//! * R2 Groups sort as their keys, and no key's are the beginning of another's, though keys of a table that gets
//!   another primary key or other indexes may be: versions of one key are neighbours.
//! * R3 The newest is read from what stands there now alone: neither what was removed nor old versions cost anything.
//! * R4 The versions of a key follow each other without overlaps: one begins where another ends, or later.
//!
//! # Limits
//! Every version is kept. Whether a removed key was changed since a height is told by its old versions: whoever drops
//! those must drop the same everywhere.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;

use quipu_types::Height;
use quipu_types::table::ROW_KEY_SIZE_MAX;

use crate::store::{KEY_SIZE_MAX, Rows, Store, StoreError, Table, WriteBatch};
use crate::view::{View, after, damaged};

/// Changes of the row space, by key: new bytes, or none where a row was removed.
pub type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Stored rows that a range reads at a time: the first page, and the largest.
const PAGE_COUNT_FIRST: usize = 8;
const PAGE_COUNT_MAX: usize = 512;
/// Versions of one key that are passed over before what is wanted is looked for.
const SKIP_COUNT: u32 = 4;
const HEIGHT_SIZE: usize = 8;
const GROUP_SIZE: usize = 8;
/// Behind a group that another one follows.
const MORE: u8 = 0xFF;

const _: () = {
    // The entry of an index: its values' key, and the row's without the table and the index.
    let key_size_max = 2 * ROW_KEY_SIZE_MAX - 5;
    let groups = key_size_max.div_ceil(GROUP_SIZE);
    assert!(
        groups * (GROUP_SIZE + 1) + HEIGHT_SIZE <= KEY_SIZE_MAX,
        "a store takes every version's key"
    );
};

/// A row space that can be read.
pub trait RowRead {
    /// What stands under a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Up to `limit` rows whose keys are not below `from` and below `to`, ascending.
    fn range(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Rows, StoreError>;
}

/// A table of the newest state as a space that can be read.
pub(crate) struct TableRead<'a, S> {
    pub(crate) view: &'a View<S>,
    pub(crate) table: Table,
}

impl<S: Store> RowRead for TableRead<'_, S> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.view.get(self.table, key)?.map(Cow::into_owned))
    }

    fn range(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Rows, StoreError> {
        let (mut rows, mut from) = (Rows::new(), from.to_vec());
        while rows.len() < limit {
            // A table may have much behind `to`.
            let wanted = limit.saturating_sub(rows.len()).min(PAGE_COUNT_MAX);
            let mut page = self.view.scan(self.table, &from, wanted)?;
            let read = page.len();
            if let Some(to) = to {
                page.truncate(page.partition_point(|(key, _)| key.as_slice() < to));
            }
            let is_end = read < wanted || page.len() < read;
            if let Some((key, _)) = page.last() {
                from = after(key);
            }
            rows.append(&mut page);
            if is_end {
                break;
            }
        }
        Ok(rows)
    }
}

/// Changes over what is under them.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    /// What was there before.
    pub under: &'a dyn RowRead,
    /// What was changed.
    pub changes: &'a Changes,
}

impl std::fmt::Debug for Layer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layer").field("changes", &self.changes.len()).finish_non_exhaustive()
    }
}

impl RowRead for Layer<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.changes.get(key) {
            Some(changed) => Ok(changed.clone()),
            None => self.under.get(key),
        }
    }

    fn range(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Rows, StoreError> {
        let mut rows = Rows::new();
        let mut from = from.to_vec();
        loop {
            let wanted = limit.saturating_sub(rows.len());
            let stored = self.under.range(&from, to, wanted)?;
            // Below this key everything under the changes is known.
            let end = match stored.last() {
                Some((key, _)) if stored.len() == wanted => Some(after(key)),
                _ => None,
            };
            let until = end.as_deref().or(to);
            let changes = between(self.changes, &from, until);
            crate::view::merge(stored, changes, wanted, &mut rows);
            match end {
                Some(end) if rows.len() < limit => from = end,
                _ => return Ok(rows),
            }
        }
    }
}

/// Changes whose keys are not below `from` and below `to`, ascending.
pub(crate) fn between<'a>(
    changes: &'a Changes,
    from: &'a [u8],
    to: Option<&'a [u8]>,
) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
    // A range from behind its end panics.
    let is_empty = to.is_some_and(|to| to <= from);
    let end = to.map_or(Bound::Unbounded, Bound::Excluded);
    let range = (!is_empty).then(|| changes.range::<[u8], _>((Bound::Included(from), end)));
    range.into_iter().flatten().map(|(key, value)| (key.as_slice(), value.as_deref()))
}

/// What stood under a key, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The key.
    pub key: Vec<u8>,
    /// The height that wrote it.
    pub since: Height,
    /// The height that wrote something else there, or removed it; none where it still stands.
    pub until: Option<Height>,
    /// What stood there.
    pub row: Vec<u8>,
}

/// Where versions are read on: those of keys behind `key`, and of that key those that ended after a height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionPlace {
    /// The key.
    pub key: Vec<u8>,
    /// The height.
    pub ended_after: Height,
}

impl VersionPlace {
    /// Every version of this key and those behind it.
    #[must_use]
    pub fn at(key: &[u8]) -> Self {
        Self { key: key.to_vec(), ended_after: Height::new(0) }
    }
}

/// Versions, and where there are more.
pub type Versions = (Vec<Version>, Option<VersionPlace>);

/// The rows of a view at a height, or the newest.
#[derive(Debug)]
pub(crate) struct At<'a, S> {
    pub(crate) view: &'a View<S>,
    /// None: what stands there now.
    pub(crate) height: Option<Height>,
}

impl<S: Store> At<'_, S> {
    /// Whether anything was written or removed under a key after a height.
    pub(crate) fn is_changed_since(&self, key: &[u8], height: Height) -> Result<bool, StoreError> {
        if key.len() > KEY_SIZE_MAX {
            return Ok(false);
        }
        if let Some(row) = self.view.get(Table::Row, key)? {
            return Ok(content(Table::Row, key, &row)?.0 > height);
        }
        Ok(self.ended_after(key, height)?.is_some())
    }

    /// The first version of a key that ended after a height.
    fn ended_after(&self, key: &[u8], height: Height) -> Result<Option<Vec<u8>>, StoreError> {
        let from = version_key(&groups(key), height.next());
        if from.len() > KEY_SIZE_MAX {
            return Ok(None);
        }
        let found = self.view.scan(Table::Old, &from, 1)?.pop();
        let found = found.filter(|(found, _)| found.starts_with(from_of(&from)));
        Ok(found.map(|(_, row)| row))
    }

    /// What stands there now, of rows that are no newer than the height.
    fn current(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Rows, StoreError> {
        let mut rows = Rows::new();
        let mut from = from.to_vec();
        let mut page_count = PAGE_COUNT_FIRST;
        while rows.len() < limit {
            let wanted = limit.saturating_sub(rows.len()).min(page_count);
            page_count = page_count.saturating_mul(4).min(PAGE_COUNT_MAX);
            let page = self.view.scan(Table::Row, &from, wanted)?;
            let is_last = page.len() < wanted;
            for (key, row) in page {
                if to.is_some_and(|to| key.as_slice() >= to) {
                    return Ok(rows);
                }
                from = after(&key);
                let (since, bytes) = content(Table::Row, &key, &row)?;
                if self.height.is_none_or(|height| since <= height) {
                    rows.push((key, bytes.to_vec()));
                }
            }
            if is_last {
                break;
            }
        }
        Ok(rows)
    }

    /// Up to `limit` versions of what stood there up to the height, ascending by key and time. Fewer are no end.
    pub(crate) fn versions(
        &self,
        from: &VersionPlace,
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Versions, StoreError> {
        let until = Height::new(from.ended_after.get().saturating_add(1));
        let begin = version_key(&groups(&from.key), until);
        let old = self.view.scan(Table::Old, &begin, limit)?;
        let current = self.view.scan(Table::Row, &from.key, limit)?;
        let (more_old, more_current) = (old.len() >= limit, current.len() >= limit);
        let (mut old, mut current) = (old.into_iter().peekable(), current.into_iter().peekable());
        let mut versions = Vec::new();
        let mut place = from.clone();
        loop {
            let next_old = match old.peek() {
                Some((found, _)) => Some(key_and_until(found)?),
                None if more_old => return Ok((versions, Some(place))),
                None => None,
            };
            let next_current = match current.peek() {
                Some((key, _)) => Some(key.clone()),
                None if more_current => return Ok((versions, Some(place))),
                None => None,
            };
            // What stood there before comes before what stands there.
            let is_old = match (&next_old, &next_current) {
                (None, None) => return Ok((versions, None)),
                (Some((key, _)), Some(other)) => key <= other,
                (next, _) => next.is_some(),
            };
            let (key, until, stored, table) = match (is_old, next_old, next_current) {
                (true, Some((key, until)), _) => (key, Some(until), old.next(), Table::Old),
                (_, _, Some(key)) => (key, None, current.next(), Table::Row),
                _ => return Ok((versions, None)),
            };
            if to.is_some_and(|to| key.as_slice() >= to) {
                return Ok((versions, None));
            }
            place = match until {
                Some(until) => VersionPlace { key: key.clone(), ended_after: until },
                None => VersionPlace::at(&after(&key)),
            };
            let value = stored.map(|(_, value)| value).unwrap_or_default();
            let (since, row) = content(table, &key, &value)?;
            if self.height.is_some_and(|height| since > height) {
                continue;
            }
            let until = until.filter(|until| self.height.is_none_or(|height| *until <= height));
            versions.push(Version { key, since, until, row: row.to_vec() });
        }
    }

    /// What stood there at a height, and does no more.
    fn old(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
        height: Height,
    ) -> Result<Rows, StoreError> {
        let mut rows = Rows::new();
        let mut from = groups(from);
        // The key whose version at the height was found, and versions passed over since.
        let mut known: Vec<u8> = Vec::new();
        let mut skipped = 0_u32;
        let mut page_count = PAGE_COUNT_FIRST;
        'pages: while rows.len() < limit {
            let wanted = page_count;
            page_count = page_count.saturating_mul(4).min(PAGE_COUNT_MAX);
            let page = self.view.scan(Table::Old, &from, wanted)?;
            let is_last = page.len() < wanted;
            for (found, row) in page {
                let (key, until) = key_and_until(&found)?;
                if to.is_some_and(|to| key.as_slice() >= to) || rows.len() >= limit {
                    break 'pages;
                }
                from = after(&found);
                if known == key || until <= height {
                    skipped = skipped.saturating_add(1);
                    if skipped < SKIP_COUNT {
                        continue;
                    }
                    skipped = 0;
                    from = match known == key {
                        true => after(&version_key(from_of(&found), Height::new(u64::MAX))),
                        false => version_key(from_of(&found), height.next()),
                    };
                    page_count = PAGE_COUNT_FIRST;
                    continue 'pages;
                }
                skipped = 0;
                let (since, bytes) = content(Table::Old, &found, &row)?;
                if since <= height {
                    rows.push((key.clone(), bytes.to_vec()));
                }
                known = key;
            }
            if is_last {
                break;
            }
        }
        Ok(rows)
    }
}

impl<S: Store> RowRead for At<'_, S> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if key.len() > KEY_SIZE_MAX {
            return Ok(None);
        }
        if let Some(row) = self.view.get(Table::Row, key)? {
            let (since, bytes) = content(Table::Row, key, &row)?;
            if self.height.is_none_or(|height| since <= height) {
                return Ok(Some(bytes.to_vec()));
            }
        }
        let Some(height) = self.height else { return Ok(None) };
        let Some(row) = self.ended_after(key, height)? else { return Ok(None) };
        let (since, bytes) = content(Table::Old, key, &row)?;
        Ok((since <= height).then(|| bytes.to_vec()))
    }

    fn range(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Rows, StoreError> {
        let mut rows = self.current(from, to, limit)?;
        if let Some(height) = self.height {
            // A key has one version at a height.
            rows.extend(self.old(from, to, limit, height)?);
            rows.sort();
            rows.truncate(limit);
        }
        Ok(rows)
    }
}

/// Writes what a height changed, and what stood there before as old versions.
pub(crate) fn put_versions<S: Store>(
    view: &View<S>,
    batch: &mut WriteBatch,
    changes: Changes,
    height: Height,
) -> Result<(), StoreError> {
    for (key, row) in changes {
        let before = view.get(Table::Row, &key)?.map(Cow::into_owned);
        let is_there = before.is_some();
        if let Some(before) = before {
            batch.put(Table::Old, version_key(&groups(&key), height), before);
        }
        match row {
            Some(row) => {
                let mut value = Vec::with_capacity(HEIGHT_SIZE.saturating_add(row.len()));
                value.extend_from_slice(&height.get().to_le_bytes());
                value.extend_from_slice(&row);
                batch.put(Table::Row, key, value);
            }
            None if is_there => batch.delete(Table::Row, key),
            None => {}
        }
    }
    Ok(())
}

/// Since when a stored row stands there, and its bytes.
fn content<'a>(
    table: Table,
    key: &[u8],
    value: &'a [u8],
) -> Result<(Height, &'a [u8]), StoreError> {
    let (since, bytes) =
        value.split_first_chunk::<HEIGHT_SIZE>().ok_or_else(|| damaged(table, key))?;
    Ok((Height::new(u64::from_le_bytes(*since)), bytes))
}

fn version_key(groups: &[u8], until: Height) -> Vec<u8> {
    [groups, &until.get().to_be_bytes()].concat()
}

/// The groups of a version's key.
fn from_of(version_key: &[u8]) -> &[u8] {
    version_key.split_last_chunk::<HEIGHT_SIZE>().map_or(&[], |(groups, _)| groups)
}

/// A key in groups (module header).
fn groups(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len().saturating_mul(2));
    let mut rest = key;
    loop {
        let (group, behind) = rest.split_at(rest.len().min(GROUP_SIZE));
        let mut filled = [0; GROUP_SIZE];
        for (to, from) in filled.iter_mut().zip(group) {
            *to = *from;
        }
        out.extend_from_slice(&filled);
        if behind.is_empty() {
            out.push(u8::try_from(group.len()).unwrap_or(MORE));
            return out;
        }
        out.push(MORE);
        rest = behind;
    }
}

/// The key and the end of a version.
fn key_and_until(found: &[u8]) -> Result<(Vec<u8>, Height), StoreError> {
    let wrong = || damaged(Table::Old, found);
    let (groups, until) = found.split_last_chunk::<HEIGHT_SIZE>().ok_or_else(wrong)?;
    if groups.is_empty() || !groups.len().is_multiple_of(GROUP_SIZE.saturating_add(1)) {
        return Err(wrong());
    }
    let mut key = Vec::with_capacity(groups.len());
    let mut chunks = groups.chunks_exact(GROUP_SIZE.saturating_add(1)).peekable();
    while let Some(chunk) = chunks.next() {
        let (count, group) = chunk.split_last().ok_or_else(wrong)?;
        let count = match (*count, chunks.peek()) {
            (MORE, Some(_)) => GROUP_SIZE,
            (count, None) => usize::from(count),
            _ => return Err(wrong()),
        };
        key.extend_from_slice(group.get(..count).ok_or_else(wrong)?);
    }
    Ok((key, Height::new(u64::from_be_bytes(*until))))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn groups_sort_as_their_keys_and_none_begins_anothers(
            a in vec(prop::sample::select(vec![0, 1, 8, 0xFF]), 0..20),
            b in vec(prop::sample::select(vec![0, 1, 8, 0xFF]), 0..20),
            until: u64,
        ) {
            let (left, right) = (groups(&a), groups(&b));
            prop_assert_eq!(a.cmp(&b), left.cmp(&right));
            prop_assert!(a == b || !left.starts_with(&right));
            let version = version_key(&left, Height::new(until));
            prop_assert_eq!(key_and_until(&version).expect("it was made"), (a, Height::new(until)));
        }

        #[test]
        fn no_bytes_make_a_version_panic(found in vec(0..10_u8, 0..40)) {
            if let Ok((key, until)) = key_and_until(&found) {
                prop_assert_eq!(version_key(&groups(&key), until).len(), found.len());
            }
        }
    }
}
