//! The pages that a change touches, hashed together: deepest first, each depth by the levels inside its pages.
//!
//! ```text
//!  change ─> pages in an arena, hashes of pages below left open ─> finish: depth 9, 8, … 0
//!                                            at each depth: all leaves, then 8, 4, 2, 1 nodes a page
//! ```
//! Which pages there are follows from keys alone (R2), so the shape is settled before anything is hashed.

use std::collections::BTreeMap;

use quipu_crypto::hash::prefixed_many;
use quipu_proof::trie::{INTERNAL_DOMAIN, LEAF_DOMAIN};
use quipu_types::Hash;

use super::{CHILD_COUNT, Child, EMPTY_ROOT, Page, Pages, Update};

/// Hash of a page that is not hashed yet.
pub(super) const OPEN: Hash = Hash::ZERO;

/// A page that changed.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) page: Page,
    /// A key under it.
    pub(super) key: Hash,
    pub(super) depth: usize,
    /// Its children that are drafts too: the place, and the index in the arena.
    pub(super) below: Vec<(usize, usize)>,
}

impl<P: Pages> Update<'_, P> {
    /// Hashes and writes every draft; the last one is the root, whose hash is given.
    pub(super) fn finish(&mut self) -> Hash {
        let mut by_depth: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, draft) in self.drafts.iter().enumerate() {
            by_depth.entry(draft.depth).or_default().push(index);
        }
        let mut hashes = vec![OPEN; self.drafts.len()];
        for group in by_depth.values().rev() {
            for index in group {
                if let Some(draft) = self.drafts.get_mut(*index) {
                    draft.close(&hashes);
                }
            }
            let pages: Vec<&Page> = group
                .iter()
                .filter_map(|index| self.drafts.get(*index))
                .map(|draft| &draft.page)
                .collect();
            for (index, hash) in group.iter().zip(page_hashes(&pages)) {
                if let Some(place) = hashes.get_mut(*index) {
                    *place = hash;
                }
            }
        }
        for draft in std::mem::take(&mut self.drafts) {
            self.write(&draft.page, &draft.key, draft.depth);
        }
        hashes.last().copied().unwrap_or(EMPTY_ROOT)
    }
}

impl Draft {
    /// Enters the hashes of the pages below.
    fn close(&mut self, hashes: &[Hash]) {
        for (place, index) in &self.below {
            let child = self.page.children.get_mut(*place).zip(hashes.get(*index));
            let (child, hash) = child.expect("a draft names places of its page and of the arena");
            *child = Child::Page { hash: *hash };
        }
    }
}

/// What stands over a part of a page.
#[derive(Clone, Copy)]
enum Slot {
    Empty,
    Leaf(Hash),
    Node(Hash),
}

impl Slot {
    const fn hash(self) -> Hash {
        match self {
            Self::Empty => EMPTY_ROOT,
            Self::Leaf(hash) | Self::Node(hash) => hash,
        }
    }

    /// What stands over two neighbours, unless that is to be hashed: a lone leaf hangs as high as it can.
    const fn over(left: Self, right: Self) -> Option<Self> {
        match (left, right) {
            (Self::Empty, alone @ (Self::Empty | Self::Leaf(_)))
            | (alone @ Self::Leaf(_), Self::Empty) => Some(alone),
            _ => None,
        }
    }
}

/// The hash over each page: what [`subtree_hash`](super::subtree_hash) gives of its children, many at once.
pub(super) fn page_hashes(pages: &[&Page]) -> Vec<Hash> {
    let children: Vec<&Child> = pages.iter().flat_map(|page| &page.children).collect();
    let mut slots = bottom(&children);
    let mut width = CHILD_COUNT;
    while width > 1 {
        slots = level(&slots);
        width /= 2;
    }
    slots.into_iter().map(Slot::hash).collect()
}

fn bottom(children: &[&Child]) -> Vec<Slot> {
    let leaves: Vec<[u8; 64]> = children
        .iter()
        .filter_map(|child| match child {
            Child::Leaf { key, value } => Some(joined(key, value)),
            Child::Empty | Child::Page { .. } => None,
        })
        .collect();
    let mut hashes = hash_many(LEAF_DOMAIN, &leaves);
    let mut next = || hashes.next().expect("each leaf has its hash");
    children
        .iter()
        .map(|child| match child {
            Child::Empty => Slot::Empty,
            Child::Leaf { .. } => Slot::Leaf(next()),
            Child::Page { hash } => Slot::Node(*hash),
        })
        .collect()
}

fn level(slots: &[Slot]) -> Vec<Slot> {
    let (pairs, alone) = slots.as_chunks::<2>();
    assert!(alone.is_empty(), "a page's width is a power of two");
    let nodes: Vec<[u8; 64]> = pairs
        .iter()
        .filter(|[left, right]| Slot::over(*left, *right).is_none())
        .map(|[left, right]| joined(&left.hash(), &right.hash()))
        .collect();
    let mut hashes = hash_many(INTERNAL_DOMAIN, &nodes);
    let mut next = || Slot::Node(hashes.next().expect("each node has its hash"));
    pairs.iter().map(|[left, right]| Slot::over(*left, *right).unwrap_or_else(&mut next)).collect()
}

fn joined(left: &Hash, right: &Hash) -> [u8; 64] {
    let mut bytes = [0; 64];
    let (first, second) = bytes.split_at_mut(32);
    first.copy_from_slice(left.bytes());
    second.copy_from_slice(right.bytes());
    bytes
}

fn hash_many(domain: &[u8], messages: &[[u8; 64]]) -> impl Iterator<Item = Hash> {
    let messages: Vec<&[u8]> = messages.iter().map(<[u8; 64]>::as_slice).collect();
    prefixed_many(domain, &messages).into_iter()
}
