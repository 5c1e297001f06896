//! The authenticated map behind the state root: a sparse Merkle trie over 256-bit keys.
//!
//! Source: Diem's Jellyfish Merkle tree; nodes are hashed as the `jmt` crate hashes them with SHA-256. What a proof of it
//! shows, `quipu_proof::trie` tells.
//!
//! ```text
//!  root of nothing      "SPARSE_MERKLE_PLACEHOLDER_HASH__"
//!  subtree of one leaf  SHA-256("JMT::LeafNode" ‖ key ‖ value hash)      wherever it hangs
//!  any other subtree    SHA-256("JMT::IntrnalNode" ‖ left ‖ right)       bit 0 of a key is the highest
//!
//!  stored: pages of 16 children (4 bits of the key), under the place they hang at
//!  page key   = the key's first `depth` nibbles, padded to bytes · depth u8
//!  page value = present u16 · leaf u16 · each present child: leaf (key 32 · value hash 32) | page (hash 32)
//! ```
//! # Invariants
//! * R1 Root and pages follow from the map's content alone, not from how it came to be.
//! * R2 A page below the root has two leaves or more beneath it; a single leaf hangs in its parent.
//! # Deviations
//! Pages have no versions: only the newest state is kept. Leaves are stored inside their parent's page.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "depths end at 64 nibbles and indices at 16 children"
)]

pub use quipu_proof::trie::{
    EMPTY_ROOT, PATH_SIZE_MAX, TrieProof, internal_hash, leaf_hash, place_of, verify_trie,
};
use quipu_types::{Decode, DecodeError, Encode, Hash, Reader};

use crate::store::{StoreError, Table, WriteBatch};

mod wide;

use wide::Draft;

const CHILD_COUNT: usize = 16;

/// Where a trie's pages are.
pub(crate) trait Pages {
    /// The table that holds them.
    const TABLE: Table;

    /// The stored bytes of a page.
    fn page(&self, place: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Under which key of the table a page is stored.
    fn key_of(&self, place: Vec<u8>) -> Vec<u8>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Child {
    Empty,
    Leaf { key: Hash, value: Hash },
    Page { hash: Hash },
}

impl Child {
    fn hash(&self) -> Hash {
        match self {
            Self::Empty => EMPTY_ROOT,
            Self::Leaf { key, value } => leaf_hash(key, value),
            Self::Page { hash } => *hash,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Page {
    children: [Child; CHILD_COUNT],
}

/// A leaf to be written, or (`None`) removed. Lists of them ascend by key, each key once.
pub(crate) type Change = (Hash, Option<Hash>);

/// The root of what is stored.
pub(crate) fn root<P: Pages>(pages: &P) -> Result<Hash, StoreError> {
    Ok(read_page(pages, &Hash::ZERO, 0)?.map_or(EMPTY_ROOT, |page| subtree_hash(&page.children)))
}

/// Applies `changes` to what `pages` holds: puts the pages that differ into `batch` and gives the new root.
pub(crate) fn update<P: Pages>(
    pages: &P,
    changes: &[Change],
    batch: &mut WriteBatch,
) -> Result<Hash, StoreError> {
    debug_assert!(changes.is_sorted_by(|a, b| a.0 < b.0), "each key once, ascending");
    let page = read_page(pages, &Hash::ZERO, 0)?.unwrap_or(Page::EMPTY);
    let Some((first, _)) = changes.first() else { return Ok(subtree_hash(&page.children)) };
    let mut update = Update { pages, batch, drafts: Vec::new() };
    let (page, below) = update.change(page, 0, changes)?;
    update.drafts.push(Draft { page, key: *first, depth: 0, below });
    Ok(update.finish())
}

struct Update<'a, P> {
    pages: &'a P,
    batch: &'a mut WriteBatch,
    /// The pages that changed, each after those below it.
    drafts: Vec<Draft>,
}

/// Which children of a page are drafts: the place, and the index of the draft.
type Below = Vec<(usize, usize)>;

impl<P: Pages> Update<'_, P> {
    /// The page at `depth` after the changes, which all hang below it.
    fn change(
        &mut self,
        mut page: Page,
        depth: usize,
        changes: &[Change],
    ) -> Result<(Page, Below), StoreError> {
        let mut drafts = Below::new();
        for group in changes.chunk_by(|a, b| nibble(&a.0, depth) == nibble(&b.0, depth)) {
            let Some((first, _)) = group.first() else { continue };
            let place = nibble(first, depth);
            let Some(child) = page.children.get_mut(place) else { continue };
            let (changed, draft) = match *child {
                Child::Empty => self.build(&leaves(None, group), depth + 1),
                Child::Leaf { key, value } => {
                    self.build(&leaves(Some((key, value)), group), depth + 1)
                }
                Child::Page { .. } => {
                    let below = read_page(self.pages, first, depth + 1)?
                        .ok_or_else(|| damaged(self.pages, page_key(first, depth + 1)))?;
                    let (below, drafts) = self.change(below, depth + 1, group)?;
                    self.settle(below, drafts, first, depth + 1)
                }
            };
            *child = changed;
            drafts.extend(draft.map(|index| (place, index)));
        }
        Ok((page, drafts))
    }

    /// A subtree of these leaves and nothing else.
    fn build(&mut self, leaves: &[(Hash, Hash)], depth: usize) -> (Child, Option<usize>) {
        let key = match leaves {
            [] => return (Child::Empty, None),
            [(key, value)] => return (Child::Leaf { key: *key, value: *value }, None),
            [(key, _), ..] => *key,
        };
        let mut page = Page::EMPTY;
        let mut drafts = Below::new();
        for group in leaves.chunk_by(|a, b| nibble(&a.0, depth) == nibble(&b.0, depth)) {
            let place = nibble(&group.first().map_or(key, |first| first.0), depth);
            if let Some(child) = page.children.get_mut(place) {
                let (built, draft) = self.build(group, depth + 1);
                *child = built;
                drafts.extend(draft.map(|index| (place, index)));
            }
        }
        self.settle(page, drafts, &key, depth)
    }

    /// Keeps a page below the root to be hashed, or takes it away when it need not be one (R2).
    fn settle(
        &mut self,
        page: Page,
        below: Below,
        key: &Hash,
        depth: usize,
    ) -> (Child, Option<usize>) {
        match page.only_child() {
            Some(child @ (Child::Empty | Child::Leaf { .. })) => {
                self.batch.delete(P::TABLE, self.pages.key_of(page_key(key, depth)));
                (child, None)
            }
            _ => {
                self.drafts.push(Draft { page, key: *key, depth, below });
                (Child::Page { hash: wide::OPEN }, Some(self.drafts.len() - 1))
            }
        }
    }

    fn write(&mut self, page: &Page, key: &Hash, depth: usize) {
        let place = self.pages.key_of(page_key(key, depth));
        match page.only_child() {
            Some(Child::Empty) => self.batch.delete(P::TABLE, place),
            _ => self.batch.put(P::TABLE, place, page.to_bytes()),
        }
    }
}

/// The leaves below one child: the one that hangs there, changed.
fn leaves(old: Option<(Hash, Hash)>, changes: &[Change]) -> Vec<(Hash, Hash)> {
    let mut leaves: Vec<(Hash, Hash)> =
        changes.iter().filter_map(|(key, value)| value.map(|value| (*key, value))).collect();
    if let Some((key, value)) = old
        && changes.binary_search_by_key(&key, |change| change.0).is_err()
    {
        let place = leaves.partition_point(|leaf| leaf.0 < key);
        leaves.insert(place, (key, value));
    }
    leaves
}

impl Page {
    const EMPTY: Self = Self { children: [Child::Empty; CHILD_COUNT] };

    /// The one child of a page that has no more than one; `Empty` when it has none.
    fn only_child(&self) -> Option<Child> {
        only_child(&self.children)
    }

    fn from_value(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (present, leaf) = (reader.u16()?, reader.u16()?);
        if leaf & !present != 0 || present == 0 {
            return Err(DecodeError::NotCanonical { what: "trie page" });
        }
        let mut page = Self::EMPTY;
        for (index, child) in page.children.iter_mut().enumerate() {
            let bit = 1_u16 << index;
            if leaf & bit != 0 {
                *child = Child::Leaf {
                    key: Hash::decode(&mut reader)?,
                    value: Hash::decode(&mut reader)?,
                };
            } else if present & bit != 0 {
                *child = Child::Page { hash: Hash::decode(&mut reader)? };
            }
        }
        reader.end()?;
        Ok(page)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let (mut present, mut leaf) = (0_u16, 0_u16);
        for (index, child) in self.children.iter().enumerate() {
            let bit = 1_u16 << index;
            present |= if *child == Child::Empty { 0 } else { bit };
            leaf |= if matches!(child, Child::Leaf { .. }) { bit } else { 0 };
        }
        let mut out = Vec::with_capacity(4 + CHILD_COUNT * 64);
        out.extend_from_slice(&present.to_le_bytes());
        out.extend_from_slice(&leaf.to_le_bytes());
        for child in &self.children {
            match child {
                Child::Empty => {}
                Child::Leaf { key, value } => {
                    key.encode(&mut out);
                    value.encode(&mut out);
                }
                Child::Page { hash } => hash.encode(&mut out),
            }
        }
        out
    }
}

/// As [`Page::only_child`], of a part of a page.
fn only_child(children: &[Child]) -> Option<Child> {
    let mut present = children.iter().filter(|child| **child != Child::Empty);
    let first = present.next().copied().unwrap_or(Child::Empty);
    present.next().is_none().then_some(first)
}

/// Hash of the subtree over a half, quarter … of a page.
fn subtree_hash(children: &[Child]) -> Hash {
    match (children, only_child(children)) {
        ([child], _) => child.hash(),
        (_, Some(child @ (Child::Empty | Child::Leaf { .. }))) => child.hash(),
        _ => {
            let (left, right) = children.split_at(children.len() / 2);
            internal_hash(&subtree_hash(left), &subtree_hash(right))
        }
    }
}

/// The `index`-th four bits of a key.
fn nibble(key: &Hash, index: usize) -> usize {
    let byte = key.0.get(index / 2).copied().unwrap_or(0);
    usize::from(if index.is_multiple_of(2) { byte >> 4 } else { byte & 0x0f })
}

/// Where the page that covers `key` below `depth` nibbles is stored.
fn page_key(key: &Hash, depth: usize) -> Vec<u8> {
    let mut place = Vec::with_capacity(34);
    place.extend(key.0.iter().take(depth.div_ceil(2)));
    if !depth.is_multiple_of(2)
        && let Some(last) = place.last_mut()
    {
        *last &= 0xf0;
    }
    place.push(u8::try_from(depth).expect("two keys differ before their 64th nibble"));
    place
}

fn read_page<P: Pages>(pages: &P, key: &Hash, depth: usize) -> Result<Option<Page>, StoreError> {
    let place = page_key(key, depth);
    let Some(bytes) = pages.page(&place)? else { return Ok(None) };
    Page::from_value(&bytes).map(Some).map_err(|_| damaged(pages, place))
}

fn damaged<P: Pages>(pages: &P, place: Vec<u8>) -> StoreError {
    StoreError::Damaged { table: P::TABLE, key: pages.key_of(place) }
}

/// The path of `key` in what is stored, down to the first `bits_max` bits of it.
pub(crate) fn prove<P: Pages>(
    pages: &P,
    key: &Hash,
    bits_max: usize,
) -> Result<TrieProof, StoreError> {
    let mut siblings = Vec::new();
    let mut depth = 0;
    let mut page = read_page(pages, key, 0)?.unwrap_or(Page::EMPTY);
    loop {
        let mut children = page.children.as_slice();
        let mut index = nibble(key, depth);
        while children.len() > 1 {
            match only_child(children) {
                Some(Child::Empty) => return Ok(TrieProof { leaf: None, siblings }),
                Some(Child::Leaf { key, value }) => {
                    return Ok(TrieProof { leaf: Some((key, value)), siblings });
                }
                _ if siblings.len() >= bits_max => return Ok(TrieProof { leaf: None, siblings }),
                _ => {}
            }
            let half = children.len() / 2;
            let (left, right) = children.split_at(half);
            let is_right = index >= half;
            siblings.push(subtree_hash(if is_right { left } else { right }));
            children = if is_right { right } else { left };
            index %= half;
        }
        match children {
            [Child::Page { .. }] if siblings.len() < bits_max => {
                depth += 1;
                page = read_page(pages, key, depth)?
                    .ok_or_else(|| damaged(pages, page_key(key, depth)))?;
            }
            [Child::Leaf { key, value }] => {
                return Ok(TrieProof { leaf: Some((*key, *value)), siblings });
            }
            _ => return Ok(TrieProof { leaf: None, siblings }),
        }
    }
}

#[cfg(test)]
mod tests;
