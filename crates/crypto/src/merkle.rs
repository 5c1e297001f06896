//! Append-only Merkle trees over SHA-256: roots, frontiers, proofs, and their checks.
//!
//! Source: RFC 9162, "Certificate Transparency Version 2.0", section 2.1. Leaves come as leaf hashes
//! (see [`leaf_hash`](crate::leaf_hash)). The root of the empty tree is the SHA-256 of nothing.
//!
//! ```text
//!             6                   Size 5. Stored nodes in the order in which they become known,
//!         /       \               post-order, append-only; only complete subtrees are stored:
//!       2           5
//!      / \         / \            index   0  1  2  3  4  5  6  7
//!     0   1       3   4    7      node    a  b  ab c  d  cd abcd e
//!     a   b       c   d    e
//!                                 The frontier has one peak per bit of the size: [6, 7].
//! ```
//! # Invariants
//! * M1 A tree of `size` leaves has exactly `2 * size - popcount(size)` stored nodes, and appending
//!   never changes one. The first node of leaf `i` stands at `node_count(i)`.
//! * M2 A path that [`inclusion_path`] or [`consistency_path`] makes is accepted by the check of the
//!   same name; one with a sibling missing, added or changed is refused.
//!   So it is with [`subset_path`] and many leaves.
//! * M3 The checks take any bytes and numbers, allocate nothing and never panic.
//! # Limits
//! [`SIZE_MAX`] leaves; a path has at most 63 hashes.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "sizes are at most 2^62, so that sums and doubles of sizes fit 64 bits"
)]

use std::convert::Infallible;

use quipu_types::{Decode, DecodeError, Encode, Hash, Reader};

use crate::hash::{node_hash, sha256};

mod subset;
mod wide;

pub use subset::{subset_path, verify_subset};
use wide::Growth;
pub use wide::roots;

/// Most leaves of a tree: no ledger comes near, and node counts fit 64 bits.
pub const SIZE_MAX: u64 = 1 << 62;

/// Leaves from which levels are worth their vectors.
const WIDE_COUNT_MIN: usize = 4;

/// Why a proof, or a frontier's parts, were refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MerkleError {
    /// There is no such leaf in a tree of that size.
    #[error("leaf {index} does not exist in a tree of {size} leaves")]
    IndexBeyondSize {
        /// The leaf that was to be proven.
        index: u64,
        /// Leaves of the tree.
        size: u64,
    },
    /// A tree cannot have been larger than it is.
    #[error("a tree of {new_size} leaves cannot extend one of {old_size}")]
    SizesReversed {
        /// Leaves of the tree that is said to be older.
        old_size: u64,
        /// Leaves of the tree that is said to be newer.
        new_size: u64,
    },
    /// Siblings are missing.
    #[error("the path has {count} hashes and ends before the root")]
    PathTooShort {
        /// Hashes of the path.
        count: usize,
    },
    /// Siblings are left over.
    #[error("the path has {count} hashes and goes on beyond the root")]
    PathTooLong {
        /// Hashes of the path.
        count: usize,
    },
    /// The path leads to another root.
    #[error("the path leads to root {computed}, not to {claimed}")]
    RootMismatch {
        /// Where the path leads.
        computed: Hash,
        /// The root that it was checked against.
        claimed: Hash,
    },
    /// The path starts from another old tree.
    #[error("the path starts from old root {computed}, not from {claimed}")]
    OldRootMismatch {
        /// Where the path leads for the old tree.
        computed: Hash,
        /// The old root that it was checked against.
        claimed: Hash,
    },
    /// A frontier has one peak per bit of its size.
    #[error("{count} peaks do not make a frontier of {size} leaves")]
    MalformedFrontier {
        /// Leaves that were announced.
        size: u64,
        /// Peaks that were given.
        count: usize,
    },
}

/// Root of the tree over `leaf_hashes`.
#[must_use]
pub fn root(leaf_hashes: &[Hash]) -> Hash {
    let mut frontier = Frontier::new();
    frontier.extend(leaf_hashes);
    frontier.root()
}

/// Root of the tree without leaves.
#[must_use]
pub fn empty_root() -> Hash {
    sha256(b"")
}

/// What is needed of a tree to append to it: the roots of its complete subtrees, largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// One per bit of `size`.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Most bytes of an encoding.
    pub const ENCODED_SIZE_MAX: usize = 8 + 62 * 32;

    /// The empty tree.
    #[must_use]
    pub const fn new() -> Self {
        Self { size: 0, peaks: Vec::new() }
    }

    /// The tree of `size` leaves with these complete subtrees, largest first.
    ///
    /// # Errors
    /// If the size is above [`SIZE_MAX`], or has not one bit per peak.
    pub fn from_parts(size: u64, peaks: Vec<Hash>) -> Result<Self, MerkleError> {
        let count = peaks.len();
        if size <= SIZE_MAX && u32::try_from(count) == Ok(size.count_ones()) {
            Ok(Self { size, peaks })
        } else {
            Err(MerkleError::MalformedFrontier { size, count })
        }
    }

    /// Append a leaf.
    pub fn append(&mut self, leaf_hash: Hash) {
        self.append_with(leaf_hash, |_| {});
    }

    /// Append a leaf and hand out the nodes that became known, in the order in which they are stored
    /// (M1): the first belongs at index `node_count(size)` of the size before.
    ///
    /// # Panics
    /// At [`SIZE_MAX`] leaves, which takes longer than hardware lasts.
    pub fn append_with(&mut self, leaf_hash: Hash, mut emit: impl FnMut(Hash)) {
        assert!(self.size < SIZE_MAX, "a tree has at most SIZE_MAX leaves");
        let mut node = leaf_hash;
        emit(node);
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("a frontier has one peak per bit of its size");
            node = node_hash(&left, &node);
            emit(node);
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// Append leaves, many nodes at once.
    ///
    /// # Panics
    /// As [`Frontier::append_with`].
    pub fn extend(&mut self, leaf_hashes: &[Hash]) {
        self.extend_with(leaf_hashes, |_| {});
    }

    /// Append leaves, many nodes at once, and hand out what became known as [`Frontier::append_with`] does.
    ///
    /// # Panics
    /// As [`Frontier::append_with`].
    pub fn extend_with(&mut self, leaf_hashes: &[Hash], mut emit: impl FnMut(Hash)) {
        if leaf_hashes.len() < WIDE_COUNT_MIN {
            leaf_hashes.iter().for_each(|leaf| self.append_with(*leaf, &mut emit));
            return;
        }
        let count = u64::try_from(leaf_hashes.len()).expect("a count fits 64 bits");
        let size = self.size.checked_add(count).filter(|size| *size <= SIZE_MAX);
        let size = size.expect("a tree has at most SIZE_MAX leaves");
        let growth = Growth::new(self.size, leaf_hashes, |level| self.peak(level));
        growth.each(emit);
        let levels = (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1);
        self.peaks = levels
            .map(|level| {
                growth.node(level, (size >> level) - 1).unwrap_or_else(|| self.peak(level))
            })
            .collect();
        self.size = size;
    }

    /// The peak over `2^level` leaves.
    fn peak(&self, level: u32) -> Hash {
        let place = (self.size >> level >> 1).count_ones();
        let peak = usize::try_from(place).ok().and_then(|place| self.peaks.get(place));
        *peak.expect("a frontier has one peak per bit of its size")
    }

    /// Leaves of the tree.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees, largest first.
    #[must_use]
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return empty_root() };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// Size as `u64`, then the peaks; their count follows from the size.
impl Encode for Frontier {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.size.to_le_bytes());
        for peak in &self.peaks {
            out.extend_from_slice(&peak.0);
        }
    }
}

impl Decode for Frontier {
    const SIZE_MIN: usize = 8;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let size = reader.u64()?;
        if size > SIZE_MAX {
            let what = "leaves of a frontier";
            return Err(DecodeError::TooLong { what, size, size_max: SIZE_MAX });
        }
        let peaks =
            (0..size.count_ones()).map(|_| reader.array().map(Hash)).collect::<Result<_, _>>()?;
        Ok(Self { size, peaks })
    }
}

/// Where a tree's stored nodes are read from (M1).
pub trait Nodes {
    /// Why a node could not be read.
    type Error;

    /// The node at `index`. Only indices below `node_count(size)` of the size asked about are read.
    ///
    /// # Errors
    /// Whatever keeps the node from being read.
    fn node(&self, index: u64) -> Result<Hash, Self::Error>;
}

/// Stored nodes in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryNodes(pub Vec<Hash>);

impl MemoryNodes {
    /// The stored nodes of the tree over `leaf_hashes`.
    #[must_use]
    pub fn from_leaves(leaf_hashes: &[Hash]) -> Self {
        let mut nodes = Vec::new();
        Frontier::new().extend_with(leaf_hashes, |node| nodes.push(node));
        Self(nodes)
    }
}

impl Nodes for MemoryNodes {
    type Error = Infallible;

    /// # Panics
    /// If `index` is beyond the nodes: the caller asked about a larger tree than it keeps.
    fn node(&self, index: u64) -> Result<Hash, Infallible> {
        let node = usize::try_from(index).ok().and_then(|index| self.0.get(index));
        Ok(*node.expect("callers ask about sizes that they keep the nodes of"))
    }
}

/// Stored nodes of a tree of `size` leaves (M1).
///
/// # Panics
/// If `size` is above [`SIZE_MAX`].
#[must_use]
pub const fn node_count(size: u64) -> u64 {
    assert!(size <= SIZE_MAX, "a tree has at most SIZE_MAX leaves");
    let mut bits_left = size;
    let mut count = 2 * size;
    while bits_left != 0 {
        bits_left &= bits_left - 1;
        count -= 1;
    }
    count
}

/// The siblings that lead from leaf `index` to the root of the first `size` leaves, lowest first.
///
/// # Errors
/// What reading a node gives.
/// # Panics
/// If `index` is not below `size`, or `size` is above [`SIZE_MAX`]: check what a client asks for.
pub fn inclusion_path<N: Nodes + ?Sized>(
    nodes: &N,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, N::Error> {
    assert!(index < size, "only a leaf of the tree has a path");
    assert!(size <= SIZE_MAX, "a tree has at most SIZE_MAX leaves");
    let mut path = Vec::new();
    // The subtree over leaves `start..start + count` holds the leaf; go down into it.
    let (mut start, mut count) = (0, size);
    while count > 1 {
        let left_count = split(count);
        if index - start < left_count {
            path.push(subtree(nodes, start + left_count, count - left_count)?);
            count = left_count;
        } else {
            path.push(subtree(nodes, start, left_count)?);
            start += left_count;
            count -= left_count;
        }
    }
    path.reverse();
    Ok(path)
}

/// The nodes that show that the first `old_size` leaves are unchanged in the tree of `new_size`.
/// Empty when there is nothing to show: equal sizes, or an empty old tree.
///
/// # Errors
/// What reading a node gives.
/// # Panics
/// If `old_size` is above `new_size`, or that above [`SIZE_MAX`]: check what a client asks for.
pub fn consistency_path<N: Nodes + ?Sized>(
    nodes: &N,
    old_size: u64,
    new_size: u64,
) -> Result<Vec<Hash>, N::Error> {
    assert!(old_size <= new_size, "a tree only grows");
    assert!(new_size <= SIZE_MAX, "a tree has at most SIZE_MAX leaves");
    let mut path = Vec::new();
    if old_size == 0 {
        return Ok(path);
    }
    // Go down to where the old tree ends; `start` is 0 as long as the subtree is a prefix.
    let (mut start, mut count) = (0, new_size);
    while old_size - start != count {
        let left_count = split(count);
        if old_size - start <= left_count {
            path.push(subtree(nodes, start + left_count, count - left_count)?);
            count = left_count;
        } else {
            path.push(subtree(nodes, start, left_count)?);
            start += left_count;
            count -= left_count;
        }
    }
    if start != 0 {
        path.push(subtree(nodes, start, count)?);
    }
    path.reverse();
    Ok(path)
}

/// The frontier of the first `size` leaves.
///
/// # Errors
/// What reading a node gives.
/// # Panics
/// If `size` is above [`SIZE_MAX`].
pub fn frontier<N: Nodes + ?Sized>(nodes: &N, size: u64) -> Result<Frontier, N::Error> {
    assert!(size <= SIZE_MAX, "a tree has at most SIZE_MAX leaves");
    let mut peaks = Vec::new();
    let mut start = 0;
    while start < size {
        let count = 1 << (size - start).ilog2();
        peaks.push(subtree(nodes, start, count)?);
        start += count;
    }
    Ok(Frontier { size, peaks })
}

/// The root of the first `size` leaves.
///
/// # Errors
/// What reading a node gives.
/// # Panics
/// If `size` is above [`SIZE_MAX`].
pub fn root_at<N: Nodes + ?Sized>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    Ok(frontier(nodes, size)?.root())
}

/// Check that the leaf at `index` is in the tree of `size` leaves with this root.
///
/// # Errors
/// Why it is not shown to be.
pub fn verify_inclusion(
    leaf_hash: &Hash,
    index: u64,
    size: u64,
    path: &[Hash],
    root: &Hash,
) -> Result<(), MerkleError> {
    let computed = root_from_inclusion(leaf_hash, index, size, path)?;
    if computed == *root {
        Ok(())
    } else {
        Err(MerkleError::RootMismatch { computed, claimed: *root })
    }
}

/// The root to which `path` leads from the leaf at `index`, for a tree of `size` leaves.
///
/// # Errors
/// If there is no such leaf, or the path has the wrong length.
pub fn root_from_inclusion(
    leaf_hash: &Hash,
    index: u64,
    size: u64,
    path: &[Hash],
) -> Result<Hash, MerkleError> {
    if index >= size {
        return Err(MerkleError::IndexBeyondSize { index, size });
    }
    // RFC 9162, 2.1.3.2: `place` and `last` are its `fn` and `sn`.
    let (mut place, mut last) = (index, size - 1);
    let mut node = *leaf_hash;
    for sibling in path {
        if last == 0 {
            return Err(MerkleError::PathTooLong { count: path.len() });
        }
        if place & 1 == 1 || place == last {
            node = node_hash(sibling, &node);
            (place, last) = above_right_edge(place, last);
        } else {
            node = node_hash(&node, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(MerkleError::PathTooShort { count: path.len() });
    }
    Ok(node)
}

/// Check that the tree of `new_size` leaves extends the one of `old_size`.
///
/// # Errors
/// Why it is not shown to.
pub fn verify_consistency(
    old_size: u64,
    old_root: &Hash,
    new_size: u64,
    new_root: &Hash,
    path: &[Hash],
) -> Result<(), MerkleError> {
    if old_size > new_size {
        return Err(MerkleError::SizesReversed { old_size, new_size });
    }
    if old_size == 0 || old_size == new_size {
        return verify_nothing_to_show(old_size, old_root, new_size, new_root, path);
    }
    // RFC 9162, 2.1.4.2: `place` and `last` are its `fn` and `sn`, `old` and `new` its `fr` and `sr`.
    let (place, last) = (old_size - 1, new_size - 1);
    let levels = place.trailing_ones();
    // `place` is below `last`, so that it is not all ones and the shift is below 64.
    let (mut place, mut last) = (place >> levels, last >> levels);
    let too_short = MerkleError::PathTooShort { count: path.len() };
    let (first, siblings) = if old_size.is_power_of_two() {
        (old_root, path)
    } else {
        path.split_first().ok_or_else(|| too_short.clone())?
    };
    let (mut old, mut new) = (*first, *first);
    for sibling in siblings {
        if last == 0 {
            return Err(MerkleError::PathTooLong { count: path.len() });
        }
        if place & 1 == 1 || place == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            (place, last) = above_right_edge(place, last);
        } else {
            new = node_hash(&new, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(too_short);
    }
    if old != *old_root {
        return Err(MerkleError::OldRootMismatch { computed: old, claimed: *old_root });
    }
    if new != *new_root {
        return Err(MerkleError::RootMismatch { computed: new, claimed: *new_root });
    }
    Ok(())
}

/// Equal trees and the empty old tree: no path, and the roots speak for themselves.
fn verify_nothing_to_show(
    old_size: u64,
    old_root: &Hash,
    new_size: u64,
    new_root: &Hash,
    path: &[Hash],
) -> Result<(), MerkleError> {
    if !path.is_empty() {
        return Err(MerkleError::PathTooLong { count: path.len() });
    }
    if old_size == 0 && *old_root != empty_root() {
        return Err(MerkleError::OldRootMismatch { computed: empty_root(), claimed: *old_root });
    }
    if old_size == new_size && old_root != new_root {
        return Err(MerkleError::RootMismatch { computed: *old_root, claimed: *new_root });
    }
    Ok(())
}

/// Skip the levels at which a node on the right edge has no sibling.
const fn above_right_edge(place: u64, last: u64) -> (u64, u64) {
    let levels = if place == 0 { 0 } else { place.trailing_zeros() };
    (place >> levels, last >> levels)
}

/// Leaves of the left part when a tree of `count` leaves is split: the largest power of two below.
fn split(count: u64) -> u64 {
    assert!(count > 1, "a leaf is not split");
    1 << (count - 1).ilog2()
}

/// Hash over leaves `start..start + count`, where `start` is a multiple of a power of two that is at
/// least `count`: what splitting a tree gives.
fn subtree<N: Nodes + ?Sized>(nodes: &N, start: u64, count: u64) -> Result<Hash, N::Error> {
    if count.is_power_of_two() {
        // The last leaf of a complete subtree makes its root known, one level per node (M1).
        return nodes.node(node_count(start + count - 1) + u64::from(count.ilog2()));
    }
    let left_count = split(count);
    let left = subtree(nodes, start, left_count)?;
    let right = subtree(nodes, start + left_count, count - left_count)?;
    Ok(node_hash(&left, &right))
}
