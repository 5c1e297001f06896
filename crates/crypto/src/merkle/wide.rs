//! Trees by levels: what [`Frontier::append`](super::Frontier::append) does leaf by leaf, many nodes at once.
//!
//! ```text
//!  level 2          n            A frontier of 3 leaves (peaks P, Q) grows by 3 (a, b, c):
//!  level 1    P         n'       level 0 gives Q‖a and b‖c to one call of accel, level 1 gives P‖n.
//!  level 0   . .  Q a   b c      Only a level's first pair can need a peak: all others are new.
//! ```
//! Every function here gives exactly what appending gives; a property says so.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "indices are of leaves, at most 2^62, and levels at most 62"
)]

use quipu_accel::Accel;
use quipu_types::Hash;

use super::empty_root;
use crate::hash::NODE_PREFIX;

type Bytes = [u8; 32];

/// The nodes that growing makes, by level. `levels[l]` begins with the node of index `start >> l` of its level.
#[derive(Debug)]
pub(super) struct Growth {
    start: u64,
    levels: Vec<Vec<Bytes>>,
}

impl Growth {
    /// `peak(l)` is the peak that covers `2^l` leaves of the tree of `start` leaves; it is asked only where bit `l` of
    /// `start` is set.
    pub(super) fn new(start: u64, leaves: &[Hash], peak: impl Fn(u32) -> Hash) -> Self {
        let mut levels = vec![leaves.iter().map(|leaf| leaf.0).collect::<Vec<_>>()];
        for level in 0.. {
            let first = start >> level;
            let nodes = levels.last().expect("there is one level at least");
            let takes_peak = first & 1 == 1;
            let mut pairs = Vec::with_capacity(nodes.len() / 2 + 1);
            let mut rest = nodes.as_slice();
            if let Some((right, after)) = rest.split_first().filter(|_| takes_peak) {
                pairs.push([peak(level).0, *right]);
                rest = after;
            }
            pairs.extend(rest.as_chunks::<2>().0);
            if pairs.is_empty() {
                break;
            }
            levels.push(hash_pairs(&pairs));
        }
        Self { start, levels }
    }

    /// The new nodes in the order in which they are stored: each leaf, then the subtrees that it completes.
    pub(super) fn each(&self, mut emit: impl FnMut(Hash)) {
        let leaves = self.levels.first().map_or(&[][..], Vec::as_slice);
        for (index, leaf) in (self.start..).zip(leaves) {
            emit(Hash(*leaf));
            for level in 1..=index.trailing_ones() {
                emit(self.node(level, index >> level).expect("the leaf completes this subtree"));
            }
        }
    }

    /// The node of `index` in `level`, if it is new.
    pub(super) fn node(&self, level: u32, index: u64) -> Option<Hash> {
        let nodes = self.levels.get(usize::try_from(level).ok()?)?;
        let place = index.checked_sub(self.start >> level)?;
        nodes.get(usize::try_from(place).ok()?).copied().map(Hash)
    }
}

/// The roots of many trees at once: the first has the first `counts[0]` of `leaf_hashes`, and so on.
///
/// # Panics
/// If the counts do not sum up to the leaves.
#[must_use]
pub fn roots(leaf_hashes: Vec<Hash>, counts: &[usize]) -> Vec<Hash> {
    assert_eq!(counts.iter().sum::<usize>(), leaf_hashes.len(), "each leaf is one tree's");
    let mut nodes: Vec<Bytes> = leaf_hashes.into_iter().map(|leaf| leaf.0).collect();
    let mut counts = counts.to_vec();
    // A level's last node without a neighbour goes up as it is: RFC 9162, 2.1.1 splits at a power of two.
    while counts.iter().any(|count| *count > 1) {
        let mut pairs = Vec::with_capacity(nodes.len() / 2);
        for tree in trees(&nodes, &counts) {
            pairs.extend(tree.as_chunks::<2>().0);
        }
        let mut hashes = hash_pairs(&pairs).into_iter();
        let mut above = Vec::with_capacity(nodes.len() / 2 + counts.len());
        for tree in trees(&nodes, &counts) {
            let (pairs, alone) = tree.as_chunks::<2>();
            above.extend(hashes.by_ref().take(pairs.len()));
            above.extend(alone);
        }
        nodes = above;
        counts.iter_mut().for_each(|count| *count = count.div_ceil(2));
    }
    let mut nodes = nodes.into_iter();
    counts
        .iter()
        .map(|count| match count {
            0 => empty_root(),
            _ => Hash(nodes.next().expect("each tree that is not empty has come to one node")),
        })
        .collect()
}

/// `nodes` cut into the trees' parts.
fn trees<'a>(nodes: &'a [Bytes], counts: &'a [usize]) -> impl Iterator<Item = &'a [Bytes]> {
    let mut rest = nodes;
    counts.iter().map(move |count| {
        let (tree, after) = rest.split_at(*count);
        rest = after;
        tree
    })
}

fn hash_pairs(pairs: &[[Bytes; 2]]) -> Vec<Bytes> {
    let mut hashes = vec![[0; 32]; pairs.len()];
    quipu_accel::default().sha256_nodes(NODE_PREFIX, pairs, &mut hashes);
    hashes
}
