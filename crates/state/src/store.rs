//! Where the state lives between restarts: tables of byte strings under one atomic commit.
//!
//! ```text
//!  Machine ── WriteBatch (a group of heights) ──> commit ──> Store: MemoryStore here, LMDB in `node`
//!          <── get, scan (sorted by key) ───────
//! ```
//! # Invariants
//! * A commit is seen whole or not at all, after a crash too.
//! * Bytes that changed behind the store's back are an error that names table and key, never a value.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use quipu_types::{Code, code};
use thiserror::Error;

/// Most bytes of a key: what LMDB takes, less the table's byte.
pub const KEY_SIZE_MAX: usize = 510;

/// A table of the state. Its tag is part of what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Chain id, format, applied height.
    Meta,
    /// Account → balance. Authenticated.
    Account,
    /// Stream's name → its specification and creator. Authenticated.
    Stream,
    /// Stream's name → events appended. Authenticated.
    EventCount,
    /// Lane and signer → incarnation and next sequence. Authenticated.
    Sequence,
    /// Hash of a header → its height.
    Anchor,
    /// Height and part → receipts.
    Receipt,
    /// Name of a transaction → where it stands.
    Tx,
    /// Height → what was executed there and its roots.
    State,
    /// Place in the trie → sixteen children.
    Trie,
    /// Key of the row space → what stands there and since when. What stands there is authenticated, but for indexes.
    Row,
    /// Key of the row space and height → what stood there until then.
    Old,
    /// Group, and member or lane → what stands there of it. Authenticated.
    Group,
    /// Compacted stream's name → how many keys it has, and their root. Authenticated.
    Keys,
    /// Compacted stream and key → its newest event. Authenticated by the keys' root.
    Newest,
    /// Compacted stream and place in the trie of its keys → sixteen children.
    KeyTrie,
    /// Epochs' sets, validators, bonds and misdeeds. Authenticated.
    Stake,
}

impl Table {
    /// Every table, ascending.
    pub const ALL: [Self; 17] = [
        Self::Meta,
        Self::Account,
        Self::Stream,
        Self::EventCount,
        Self::Sequence,
        Self::Anchor,
        Self::Receipt,
        Self::Tx,
        Self::State,
        Self::Trie,
        Self::Row,
        Self::Old,
        Self::Group,
        Self::Keys,
        Self::Newest,
        Self::KeyTrie,
        Self::Stake,
    ];

    /// The byte that stands for the table.
    #[must_use]
    pub const fn tag(self) -> u8 {
        match self {
            Self::Meta => 0,
            Self::Account => 1,
            Self::Stream => 2,
            Self::EventCount => 3,
            Self::Sequence => 4,
            Self::Anchor => 5,
            Self::Receipt => 6,
            Self::Tx => 7,
            Self::State => 8,
            Self::Trie => 9,
            Self::Row => 10,
            Self::Old => 11,
            Self::Group => 12,
            Self::Keys => 13,
            Self::Newest => 14,
            Self::KeyTrie => 15,
            Self::Stake => 16,
        }
    }

    /// Whether the state root covers the table.
    #[must_use]
    pub const fn is_authenticated(self) -> bool {
        matches!(
            self,
            Self::Account
                | Self::Stream
                | Self::EventCount
                | Self::Sequence
                | Self::Group
                | Self::Keys
                | Self::Stake
        )
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Meta => "meta",
            Self::Account => "account",
            Self::Stream => "stream",
            Self::EventCount => "event_count",
            Self::Sequence => "sequence",
            Self::Anchor => "anchor",
            Self::Receipt => "receipt",
            Self::Tx => "tx",
            Self::State => "state",
            Self::Trie => "trie",
            Self::Row => "row",
            Self::Old => "old",
            Self::Group => "group",
            Self::Keys => "keys",
            Self::Newest => "newest",
            Self::KeyTrie => "key_trie",
            Self::Stake => "stake",
        })
    }
}

/// Why a store could not do its work.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A stored value is not what was written.
    #[error("state store is damaged: table {table}, key {}", Hex(key))]
    Damaged {
        /// The table.
        table: Table,
        /// The key.
        key: Vec<u8>,
    },
    /// The file itself is not what was written.
    #[error("state store is damaged: {file} at byte {offset}")]
    DamagedFile {
        /// The file.
        file: String,
        /// Where the damaged part begins.
        offset: u64,
    },
    /// No room: on the disk, or in the map's announced size.
    #[error("state store has no room left")]
    Full,
    /// It is open already, here or in another process.
    #[error("state store is open already")]
    Locked,
    /// The operating system refused.
    #[error("state store: {0}")]
    Io(#[from] std::io::Error),
    /// The database library refused.
    #[error("state store: {reason}")]
    Library {
        /// Its words.
        reason: String,
    },
}

impl StoreError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Full => code::STORE_FULL,
            Self::Locked => code::STORE_LOCKED,
            Self::Damaged { .. }
            | Self::DamagedFile { .. }
            | Self::Io(_)
            | Self::Library { .. } => code::STORE_DAMAGED,
        }
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Keys and values, ascending by key.
pub type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Tables of byte strings. `&self` reads may come from several threads at once; writing is exclusive.
pub trait Store: Send + Sync {
    /// The value under a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The first `limit` rows whose key is `from` or above.
    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Rows, StoreError>;

    /// Writes all of `batch`, or nothing. What was written is there for the next `get`.
    fn commit(&mut self, batch: &WriteBatch) -> Result<(), StoreError>;
}

/// Changes that go together, sorted; the later one to a key wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    tables: BTreeMap<Table, BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
    size: usize,
}

impl WriteBatch {
    /// Nothing to write.
    #[must_use]
    pub const fn new() -> Self {
        Self { tables: BTreeMap::new(), size: 0 }
    }

    /// Writes `value` under `key`.
    pub fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.set(table, key, Some(value));
    }

    /// Removes what is under `key`.
    pub fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.set(table, key, None);
    }

    /// Writes `value` under `key`, or removes it.
    pub fn set(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) {
        let size = key.len().saturating_add(value.as_ref().map_or(0, Vec::len));
        self.size = self.size.saturating_add(size);
        self.tables.entry(table).or_default().insert(key, value);
    }

    /// What the batch says of a key: nothing, removed, or a value.
    #[must_use]
    pub fn get(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        self.tables.get(&table)?.get(key).map(Option::as_deref)
    }

    /// The changes to one table from `from` on, ascending by key.
    pub fn changes_from<'a>(
        &'a self,
        table: Table,
        from: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        self.tables.get(&table).into_iter().flat_map(move |rows| {
            rows.range::<[u8], _>((Bound::Included(from), Bound::Unbounded))
                .map(|(key, value)| (key.as_slice(), value.as_deref()))
        })
    }

    /// Every change, ascending by table and key.
    pub fn changes(&self) -> impl Iterator<Item = (Table, &[u8], Option<&[u8]>)> {
        self.tables.iter().flat_map(|(table, rows)| {
            rows.iter().map(move |(key, value)| (*table, key.as_slice(), value.as_deref()))
        })
    }

    /// Adds the changes of `later`, which win.
    pub fn absorb(&mut self, later: Self) {
        self.size = self.size.saturating_add(later.size);
        for (table, rows) in later.tables {
            self.tables.entry(table).or_default().extend(rows);
        }
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.values().all(BTreeMap::is_empty)
    }

    /// Bytes of all keys and values that were put, replaced ones included.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }
}

type MemoryTable = BTreeMap<Vec<u8>, Vec<u8>>;

/// A store in memory. A clone shares everything until one of the two is written to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStore {
    tables: BTreeMap<Table, Arc<MemoryTable>>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Store for MemoryStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.tables.get(&table).and_then(|rows| rows.get(key).cloned()))
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Rows, StoreError> {
        let rows = self
            .tables
            .get(&table)
            .into_iter()
            .flat_map(|rows| rows.range::<[u8], _>((Bound::Included(from), Bound::Unbounded)));
        Ok(rows.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn commit(&mut self, batch: &WriteBatch) -> Result<(), StoreError> {
        for (table, changes) in &batch.tables {
            let rows = Arc::make_mut(self.tables.entry(*table).or_default());
            for (key, value) in changes {
                match value {
                    Some(value) => rows.insert(key.clone(), value.clone()),
                    None => rows.remove(key),
                };
            }
        }
        Ok(())
    }
}
