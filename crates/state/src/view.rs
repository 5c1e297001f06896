//! Reads of the newest state: what is not flushed yet, over what is stored.

use std::borrow::Cow;

use quipu_types::{AccountId, Decode, DecodeError, Hash, Height, Lane, PublicKey, Reader, Receipt};

use crate::record::{
    RECEIPTS_PER_PART, Sequence, StateRecord, Stream, TxPlace, height_key, receipt_key,
    sequence_key,
};
use crate::store::{Rows, Store, StoreError, Table, WriteBatch};
use crate::trie::Pages;

/// The overlay over the store.
#[derive(Debug)]
pub(crate) struct View<S> {
    pub(crate) store: S,
    pub(crate) overlay: WriteBatch,
}

impl<S: Store> View<S> {
    pub(crate) fn get(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<Cow<'_, [u8]>>, StoreError> {
        match self.overlay.get(table, key) {
            Some(value) => Ok(value.map(Cow::Borrowed)),
            None => Ok(self.store.get(table, key)?.map(Cow::Owned)),
        }
    }

    /// The first `limit` rows from `from` on.
    pub(crate) fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Rows, StoreError> {
        let mut rows = Rows::new();
        let mut from = from.to_vec();
        loop {
            let wanted = limit.saturating_sub(rows.len());
            let stored = self.store.scan(table, &from, wanted)?;
            // Below this key the store has told everything: the overlay may be merged up to it.
            let end = match stored.last() {
                Some((key, _)) if stored.len() == wanted => Some(after(key)),
                _ => None,
            };
            let changes = self.overlay.changes_from(table, &from);
            let changes =
                changes.take_while(|(key, _)| end.as_deref().is_none_or(|end| *key < end));
            merge(stored, changes, wanted, &mut rows);
            match end {
                Some(end) if rows.len() < limit => from = end,
                _ => return Ok(rows),
            }
        }
    }

    /// A value that decodes itself.
    pub(crate) fn read<T: Decode>(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        let value = self.get(table, key)?;
        value.map(|bytes| T::from_bytes(&bytes).map_err(|_| damaged(table, key))).transpose()
    }

    fn number(&self, table: Table, key: &[u8]) -> Result<Option<u64>, StoreError> {
        let value = self.get(table, key)?;
        value.map(|bytes| number_of(&bytes).map_err(|_| damaged(table, key))).transpose()
    }

    pub(crate) fn balance(&self, account: &AccountId) -> Result<u64, StoreError> {
        Ok(self.number(Table::Account, &account.0)?.unwrap_or(0))
    }

    pub(crate) fn event_count(&self, stream: &str) -> Result<u64, StoreError> {
        Ok(self.number(Table::EventCount, stream.as_bytes())?.unwrap_or(0))
    }

    pub(crate) fn stream(&self, name: &str) -> Result<Option<Stream>, StoreError> {
        self.read(Table::Stream, name.as_bytes())
    }

    pub(crate) fn sequence(&self, lane: Lane, signer: &PublicKey) -> Result<Sequence, StoreError> {
        let key = sequence_key(lane, signer);
        Ok(self.read(Table::Sequence, &key)?.unwrap_or(Sequence::START))
    }

    pub(crate) fn anchor(&self, header: &Hash) -> Result<Option<Height>, StoreError> {
        self.read(Table::Anchor, header.bytes())
    }

    pub(crate) fn tx(&self, tx: &Hash) -> Result<Option<TxPlace>, StoreError> {
        self.read(Table::Tx, tx.bytes())
    }

    pub(crate) fn state(&self, height: Height) -> Result<Option<StateRecord>, StoreError> {
        let key = height_key(height);
        let value = self.get(Table::State, &key)?;
        let record = value.map(|bytes| StateRecord::from_value(height, &bytes));
        record.transpose().map_err(|_| damaged(Table::State, &key))
    }

    pub(crate) fn receipts(&self, height: Height) -> Result<Option<Vec<Receipt>>, StoreError> {
        let Some(state) = self.state(height)? else { return Ok(None) };
        let mut receipts = Vec::new();
        let count = usize::try_from(state.transaction_count).unwrap_or(usize::MAX);
        for part in 0.. {
            if receipts.len() >= count {
                break;
            }
            let key = receipt_key(height, part);
            let read = self.read_receipts(&key)?;
            receipts.extend(read.ok_or_else(|| damaged(Table::Receipt, &key))?);
        }
        Ok(Some(receipts))
    }

    pub(crate) fn receipt(
        &self,
        height: Height,
        ordinal: u32,
    ) -> Result<Option<Receipt>, StoreError> {
        let ordinal = usize::try_from(ordinal).unwrap_or(usize::MAX);
        let Ok(part) = u32::try_from(ordinal / RECEIPTS_PER_PART) else { return Ok(None) };
        let receipts = self.read_receipts(&receipt_key(height, part))?;
        Ok(receipts.and_then(|list| list.get(ordinal % RECEIPTS_PER_PART).copied()))
    }

    fn read_receipts(&self, key: &[u8]) -> Result<Option<Vec<Receipt>>, StoreError> {
        let Some(bytes) = self.get(Table::Receipt, key)? else { return Ok(None) };
        let mut reader = Reader::new(&bytes);
        let receipts: Result<Vec<Receipt>, DecodeError> =
            reader.list("receipts", RECEIPTS_PER_PART).and_then(|list| reader.end().map(|()| list));
        match receipts {
            Ok(receipts) if !receipts.is_empty() => Ok(Some(receipts)),
            _ => Err(damaged(Table::Receipt, key)),
        }
    }
}

impl<S: Store> Pages for View<S> {
    const TABLE: Table = Table::Trie;

    fn page(&self, place: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.get(Self::TABLE, place)?.map(Cow::into_owned))
    }

    fn key_of(&self, place: Vec<u8>) -> Vec<u8> {
        place
    }
}

/// Adds up to `limit` rows of the two sorted lists to `rows`; a change beats the stored row of its key.
pub(crate) fn merge<'a>(
    stored: Rows,
    changes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    limit: usize,
    rows: &mut Rows,
) {
    let full = rows.len().saturating_add(limit);
    let mut stored = stored.into_iter().peekable();
    for (key, value) in changes {
        while rows.len() < full
            && let Some(row) = stored.next_if(|row| row.0.as_slice() < key)
        {
            rows.push(row);
        }
        if rows.len() >= full {
            return;
        }
        let _replaced = stored.next_if(|row| row.0 == key);
        if let Some(value) = value {
            rows.push((key.to_vec(), value.to_vec()));
        }
    }
    let left = full.saturating_sub(rows.len());
    rows.extend(stored.take(left));
}

/// The first key after `key`.
pub(crate) fn after(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

pub(crate) fn number_of(bytes: &[u8]) -> Result<u64, DecodeError> {
    let mut reader = Reader::new(bytes);
    let number = reader.u64()?;
    reader.end()?;
    Ok(number)
}

pub(crate) fn damaged(table: Table, key: &[u8]) -> StoreError {
    StoreError::Damaged { table, key: key.to_vec() }
}

/// The stored parts of a height's receipts.
pub(crate) fn put_receipts(batch: &mut WriteBatch, height: Height, receipts: &[Receipt]) {
    for (part, receipts) in (0_u32..).zip(receipts.chunks(RECEIPTS_PER_PART)) {
        let mut value = Vec::with_capacity(receipts.len().saturating_mul(61).saturating_add(4));
        quipu_types::codec::put_list(&mut value, receipts);
        batch.put(Table::Receipt, receipt_key(height, part), value);
    }
}
