//! Proofs for many leaves at once: what stands around them, instead of a path for each.
//!
//! ```text
//!          root                 leaves b c of five: the path is [a, d, e], from the left to the right
//!        /      \
//!      *          e             a subtree without a known leaf is one hash; one whose leaves are all known is
//!    /   \                      computed from them
//!   *     *
//!  a b   c d
//! ```

use std::ops::Range;

use quipu_types::Hash;

use super::{MerkleError, SIZE_MAX, root, split};
use crate::hash::node_hash;

/// The hashes that, with the leaves in `ranges`, give the root over `leaf_hashes`. Empty when those are all.
///
/// # Panics
/// If a range is empty, begins before the one before it ends, or reaches beyond the leaves.
#[must_use]
pub fn subset_path(leaf_hashes: &[Hash], ranges: &[Range<usize>]) -> Vec<Hash> {
    let mut last = 0;
    for range in ranges {
        let is_next = last <= range.start && range.start < range.end;
        assert!(is_next && range.end <= leaf_hashes.len(), "ranges of the leaves, in order");
        last = range.end;
    }
    let mut path = Vec::new();
    collect(leaf_hashes, 0, ranges, &mut path);
    path
}

/// Of the subtree over `leaves`, the first of which is number `start`.
fn collect(leaves: &[Hash], start: usize, ranges: &[Range<usize>], path: &mut Vec<Hash>) {
    let end = start + leaves.len();
    let known = |range: &Range<usize>| range.end.min(end).saturating_sub(range.start.max(start));
    let count: usize = ranges.iter().map(known).sum();
    if count == leaves.len() {
        return;
    }
    if count == 0 {
        path.push(root(leaves));
        return;
    }
    let size = u64::try_from(leaves.len()).expect("a count fits 64 bits");
    let middle = usize::try_from(split(size)).expect("a part of what is in memory");
    let (left, right) = leaves.split_at(middle);
    collect(left, start, ranges, path);
    collect(right, start + middle, ranges, path);
}

/// Check that `leaves`, each with its index and in order, stand in the tree of `size` leaves with this root.
///
/// # Errors
/// Why they are not shown to.
pub fn verify_subset(
    leaves: &[(u64, Hash)],
    size: u64,
    path: &[Hash],
    root: &Hash,
) -> Result<(), MerkleError> {
    let index = leaves.last().map_or(0, |(index, _)| *index);
    let ascend = leaves.is_sorted_by(|(before, _), (after, _)| before < after);
    if !ascend || index >= size || size > SIZE_MAX {
        return Err(MerkleError::IndexBeyondSize { index, size });
    }
    let mut rest = path;
    let computed = compute(leaves, 0, size, &mut rest)
        .ok_or(MerkleError::PathTooShort { count: path.len() })?;
    if !rest.is_empty() {
        return Err(MerkleError::PathTooLong { count: path.len() });
    }
    if computed == *root {
        Ok(())
    } else {
        Err(MerkleError::RootMismatch { computed, claimed: *root })
    }
}

/// The root of the subtree over `size` leaves from `start` on, of which `known` are known; `None` when the path is too short.
fn compute(known: &[(u64, Hash)], start: u64, size: u64, path: &mut &[Hash]) -> Option<Hash> {
    if known.is_empty() {
        let (hash, rest) = path.split_first()?;
        *path = rest;
        return Some(*hash);
    }
    if u64::try_from(known.len()) == Ok(size) {
        return Some(root(&known.iter().map(|(_, leaf)| *leaf).collect::<Vec<_>>()));
    }
    let left = split(size);
    let middle = known.partition_point(|(index, _)| *index < start + left);
    let (before, after) = known.split_at(middle);
    let left_root = compute(before, start, left, path)?;
    let right_root = compute(after, start + left, size - left, path)?;
    Some(node_hash(&left_root, &right_root))
}
