//! Compacted streams: the newest event of each key, in a trie of the stream's own under the state root.
//!
//! ```text
//!  keys      name                             → count u64 · root 32         authenticated: a leaf under the state root
//!  newest    name · 00 · SHA-256(key) 32      → what [`Newest`] says        a leaf under that root
//!  key_trie  name · 00 · page of the trie     → sixteen children
//! ```
//! A key is known by its hash, and pages are told in that order: what begins with the same bits hangs below one place,
//! so that one path shows all of it (`quipu_proof::trie`).
//!
//! # Invariants
//! * K1 The newest event of a key is the last in the ledger's order among those of applied transactions; a key whose
//!   newest event has nothing but nulls is not there.
//! * K2 `keys` is there exactly while the stream has a key.
//! * K3 An append reads nothing of this: it is written over whatever stands there when the height is put. So
//!   transactions that were tried side by side and are accepted in order leave the last one's event (`execute::parallel`).

use std::collections::BTreeMap;

use quipu_crypto::hash::sha256;
use quipu_proof::compacted::{Entry, Page};
pub use quipu_proof::compacted::{Keys, Newest};
use quipu_proof::trie::{PATH_SIZE_MAX, TrieProof, shared_bits, zero_bits};
use quipu_types::{Decode, Encode, Hash, Height, StateCertificate};

use crate::machine::{Machine, StateError};
use crate::store::{Store, StoreError, Table, WriteBatch};
use crate::trie::{self, Pages};
use crate::view::{View, damaged};

/// Ends a stream's name in keys.
const END: u8 = 0;

/// What a height writes: by stream and key its newest event, or none.
pub(crate) type NewestOf = BTreeMap<String, BTreeMap<Vec<u8>, Option<Newest>>>;

/// A page as the state has it: still without the payloads, and without the certificate of a quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The height whose state it is of.
    pub height: Height,
    /// That state's root.
    pub state_root: Hash,
    /// Whose payloads are wanted, in this order.
    pub newest: Vec<Newest>,
    record: (Vec<u8>, TrieProof),
    keys: (Option<Keys>, TrieProof),
    start: Hash,
    bits: u16,
    proof: TrieProof,
}

impl Draft {
    /// The page, with a certificate of a state of the same root and the payload of each key.
    #[must_use]
    pub fn finish(self, certificate: StateCertificate, payloads: Vec<Vec<u8>>) -> Page {
        let entries = self.newest.into_iter().zip(payloads);
        Page {
            certificate,
            record: self.record.0,
            record_proof: self.record.1,
            keys: self.keys.0,
            keys_proof: self.keys.1,
            start: self.start,
            bits: self.bits,
            proof: self.proof,
            entries: entries.map(|(newest, payload)| Entry { newest, payload }).collect(),
        }
    }
}

/// The trie of a stream's keys.
struct KeyPages<'a, S> {
    view: &'a View<S>,
    stream: &'a str,
}

impl<S: Store> Pages for KeyPages<'_, S> {
    const TABLE: Table = Table::KeyTrie;

    fn page(&self, place: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let key = joined(self.stream, place);
        Ok(self.view.get(Self::TABLE, &key)?.map(std::borrow::Cow::into_owned))
    }

    fn key_of(&self, place: Vec<u8>) -> Vec<u8> {
        joined(self.stream, &place)
    }
}

fn joined(stream: &str, rest: &[u8]) -> Vec<u8> {
    [stream.as_bytes(), &[END], rest].concat()
}

/// Puts the newest events of a stream's keys and the pages that change with them; gives what `keys` becomes (K2).
pub(crate) fn put_newest<S: Store>(
    view: &View<S>,
    stream: &str,
    changes: BTreeMap<Vec<u8>, Option<Newest>>,
    batch: &mut WriteBatch,
) -> Result<Option<Keys>, StoreError> {
    let before: Option<Keys> = view.read(Table::Keys, stream.as_bytes())?;
    let mut count = before.map_or(0, |keys| keys.count);
    let mut leaves = BTreeMap::new();
    for (key, newest) in changes {
        let place = Newest::place(&key);
        let row = joined(stream, place.bytes());
        let was_there = view.get(Table::Newest, &row)?.is_some();
        count = match (was_there, newest.is_some()) {
            (false, true) => count.saturating_add(1),
            (true, false) => count.saturating_sub(1),
            _ => count,
        };
        let value = newest.map(|newest| newest.to_bytes());
        leaves.insert(place, value.as_deref().map(sha256));
        batch.set(Table::Newest, row, value);
    }
    let leaves: Vec<trie::Change> = leaves.into_iter().collect();
    let root = trie::update(&KeyPages { view, stream }, &leaves, batch)?;
    Ok((count > 0).then_some(Keys { count, root }))
}

/// The longest page that begins at `start` and has at most so many keys, and bytes of payloads and keys, or one key:
/// how many bits they share, the path of their place, and their newest events.
pub(crate) fn page<S: Store>(
    view: &View<S>,
    stream: &str,
    start: &Hash,
    limits: (usize, usize),
) -> Result<(u16, TrieProof, Vec<Newest>), StoreError> {
    let found = take(view, stream, start, limits)?;
    let mut bits = PATH_SIZE_MAX.saturating_sub(zero_bits(start));
    if let Some(behind) = found.behind {
        bits = bits.max(shared_bits(start, &behind).saturating_add(1)).min(PATH_SIZE_MAX);
    }
    let is_in = |newest: &Newest| shared_bits(start, &Newest::place(&newest.key)) >= bits;
    let newest: Vec<Newest> = found.newest.into_iter().take_while(is_in).collect();
    let mut proof = trie::prove(&KeyPages { view, stream }, start, bits)?;
    // A lone leaf of the page is told by the page.
    proof.leaf = proof.leaf.filter(|(key, _)| shared_bits(start, key) < bits);
    let bits = u16::try_from(bits).expect("a path has at most 256 steps");
    Ok((bits, proof, newest))
}

impl<S: Store> Machine<S> {
    /// The newest event of a key of a compacted stream; none when it has none, or its newest removed the key.
    pub fn newest(&self, stream: &str, key: &[u8]) -> Result<Option<Newest>, StateError> {
        Ok(self.view.read(Table::Newest, &joined(stream, Newest::place(key).bytes()))?)
    }

    /// The newest events of the keys of a compacted stream, from the hash `start` on: as many as hang below one place
    /// and are at most `count_max` of `size_max` bytes, or one. None where there is no such stream.
    pub fn newest_page(
        &self,
        stream: &str,
        start: &Hash,
        count_max: usize,
        size_max: usize,
    ) -> Result<Option<Draft>, StateError> {
        let (record, record_proof) = self.prove(Table::Stream, stream.as_bytes())?;
        let Some(record) = record else { return Ok(None) };
        let (keys, keys_proof) = self.prove(Table::Keys, stream.as_bytes())?;
        let keys = keys.map(|bytes| Keys::from_bytes(&bytes)).transpose();
        let keys = keys.map_err(|_| damaged(Table::Keys, stream.as_bytes()))?;
        let (bits, proof, newest) = page(&self.view, stream, start, (count_max, size_max))?;
        Ok(Some(Draft {
            height: self.applied,
            state_root: self.state_root,
            newest,
            record: (record, record_proof),
            keys: (keys, keys_proof),
            start: *start,
            bits,
            proof,
        }))
    }
}

struct Found {
    newest: Vec<Newest>,
    /// The first key that is left out.
    behind: Option<Hash>,
}

fn take<S: Store>(
    view: &View<S>,
    stream: &str,
    start: &Hash,
    (count_max, size_max): (usize, usize),
) -> Result<Found, StoreError> {
    let mut found = Found { newest: Vec::new(), behind: None };
    let prefix = joined(stream, &[]);
    let from = joined(stream, start.bytes());
    let mut size = 0_usize;
    for (row, value) in view.scan(Table::Newest, &from, count_max.saturating_add(1))? {
        let Some(place) = row.strip_prefix(prefix.as_slice()) else { break };
        let wrong = || damaged(Table::Newest, &row);
        let place = Hash(<[u8; 32]>::try_from(place).map_err(|_| wrong())?);
        let newest = Newest::from_bytes(&value).map_err(|_| wrong())?;
        let own = usize::try_from(newest.size).unwrap_or(usize::MAX);
        size = size.saturating_add(own).saturating_add(newest.key.len());
        let is_full = found.newest.len() >= count_max || size > size_max;
        if is_full && !found.newest.is_empty() {
            found.behind = Some(place);
            break;
        }
        found.newest.push(newest);
    }
    Ok(found)
}
