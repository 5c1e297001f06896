//! What a path of the state's trie shows: of one key, or of every key that begins with the same bits.
//!
//! ```text
//!  root of nothing      "SPARSE_MERKLE_PLACEHOLDER_HASH__"
//!  subtree of one leaf  SHA-256("JMT::LeafNode" ‖ key ‖ value hash)      wherever it hangs
//!  any other subtree    SHA-256("JMT::IntrnalNode" ‖ left ‖ right)       bit 0 of a key is the highest
//!
//!  root ─ siblings[0] ─ siblings[1] ─ … ─┬─ leaf: this key's, another's with the same first bits, or nothing
//!                                        └─ or every leaf below here
//! ```
//! Source: Diem's Jellyfish Merkle tree; nodes are hashed as the `jmt` crate hashes them with SHA-256.
//!
//! A subtree's hash follows from its leaves alone, and no two sets of leaves give one hash: so who shows all leaves
//! below a place, and the path to it, has left none out.

use quipu_crypto::hash::sha256_concat;
use quipu_types::codec::{put_list, put_option};
use quipu_types::{Decode, DecodeError, Encode, Hash, Reader};

/// The root of an empty map.
pub const EMPTY_ROOT: Hash = Hash(*b"SPARSE_MERKLE_PLACEHOLDER_HASH__");
/// Bits of a key: the longest path.
pub const PATH_SIZE_MAX: usize = 256;
/// What is hashed before a leaf.
pub const LEAF_DOMAIN: &[u8] = b"JMT::LeafNode";
/// What is hashed before an inner node.
pub const INTERNAL_DOMAIN: &[u8] = b"JMT::IntrnalNode";

/// Hash of a leaf.
#[must_use]
pub fn leaf_hash(key: &Hash, value_hash: &Hash) -> Hash {
    sha256_concat(&[LEAF_DOMAIN, key.bytes(), value_hash.bytes()])
}

/// Hash of an inner node.
#[must_use]
pub fn internal_hash(left: &Hash, right: &Hash) -> Hash {
    sha256_concat(&[INTERNAL_DOMAIN, left.bytes(), right.bytes()])
}

/// Where a key of the state's table with this tag stands under the state root.
#[must_use]
pub fn place_of(tag: u8, key: &[u8]) -> Hash {
    sha256_concat(&[b"quipu/1 state", &[tag], key])
}

/// What shows that a key has a value under a root, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrieProof {
    /// Key and value hash of the leaf where the key's path ends.
    pub leaf: Option<(Hash, Hash)>,
    /// The other child at each step, from the root down, at most [`PATH_SIZE_MAX`].
    pub siblings: Vec<Hash>,
}

impl Encode for TrieProof {
    fn encode(&self, out: &mut Vec<u8>) {
        put_option(out, self.leaf.as_ref().map(|leaf| &leaf.0));
        if let Some((_, value)) = &self.leaf {
            value.encode(out);
        }
        put_list(out, &self.siblings);
    }
}

impl Decode for TrieProof {
    const SIZE_MIN: usize = 5;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let leaf = match reader.option::<Hash>("leaf")? {
            Some(key) => Some((key, Hash::decode(reader)?)),
            None => None,
        };
        Ok(Self { leaf, siblings: reader.list("siblings", PATH_SIZE_MAX)? })
    }
}

/// Whether `proof` shows that under `root` the key has a value of this hash, or (`None`) no value.
#[must_use]
pub fn verify_trie(root: &Hash, key: &Hash, value_hash: Option<&Hash>, proof: &TrieProof) -> bool {
    let depth = proof.siblings.len();
    if depth > PATH_SIZE_MAX {
        return false;
    }
    let says_so = match (&proof.leaf, value_hash) {
        (Some((leaf, value)), Some(wanted)) => leaf == key && value == wanted,
        (Some((leaf, _)), None) => leaf != key && shared_bits(leaf, key) >= depth,
        (None, wanted) => wanted.is_none(),
    };
    let bottom = proof.leaf.as_ref().map_or(EMPTY_ROOT, |(leaf, value)| leaf_hash(leaf, value));
    says_so && top(bottom, key, &proof.siblings) == *root
}

/// Whether `proof` shows that under `root` these are all leaves (key and value hash, ascending) whose keys share the
/// first `bits` bits of `start`.
#[must_use]
pub fn verify_subtree(
    root: &Hash,
    start: &Hash,
    bits: usize,
    leaves: &[(Hash, Hash)],
    proof: &TrieProof,
) -> bool {
    let depth = proof.siblings.len();
    let is_below = |key: &Hash| shared_bits(key, start) >= bits;
    if bits > PATH_SIZE_MAX
        || depth > bits
        || !leaves.is_sorted_by(|a, b| a.0 < b.0)
        || !leaves.iter().all(|(key, _)| is_below(key))
    {
        return false;
    }
    let bottom = match (leaves, &proof.leaf) {
        ([], None) => EMPTY_ROOT,
        // Another leaf stands alone where the path ends.
        ([], Some((key, value))) if !is_below(key) && shared_bits(key, start) >= depth => {
            leaf_hash(key, value)
        }
        ([(key, value)], None) => leaf_hash(key, value),
        ([_, _, ..], None) if depth == bits => subtree_hash(leaves, bits),
        _ => return false,
    };
    top(bottom, start, &proof.siblings) == *root
}

/// The first key behind those that share the first `bits` bits of `start`; none behind the last.
#[must_use]
pub fn subtree_end(start: &Hash, bits: usize) -> Option<Hash> {
    let mut key = start.0;
    for index in (0..bits).rev() {
        let byte = key.get_mut(index >> 3)?;
        let mask = 0x80_u8 >> (index & 7);
        *byte ^= mask;
        // What was 0 is 1: nothing is carried on.
        if *byte & mask != 0 {
            return Some(Hash(key));
        }
    }
    None
}

/// How many first bits two keys share.
#[must_use]
pub fn shared_bits(a: &Hash, b: &Hash) -> usize {
    let same = a.0.iter().zip(&b.0).take_while(|(a, b)| a == b).count();
    let rest = a.0.get(same).zip(b.0.get(same)).map_or(0, |(a, b)| (a ^ b).leading_zeros());
    same.saturating_mul(8).saturating_add(usize::try_from(rest).unwrap_or(0))
}

/// How many last bits of a key are zero.
#[must_use]
pub fn zero_bits(key: &Hash) -> usize {
    let zeros = key.0.iter().rev().take_while(|byte| **byte == 0).count();
    let rest = key.0.iter().rev().nth(zeros).map_or(0, |byte| byte.trailing_zeros());
    zeros.saturating_mul(8).saturating_add(usize::try_from(rest).unwrap_or(0))
}

/// The hash of the leaves that share their first `depth` bits. They ascend, so that each step down parts them or ends.
fn subtree_hash(leaves: &[(Hash, Hash)], depth: usize) -> Hash {
    match leaves {
        [] => EMPTY_ROOT,
        [(key, value)] => leaf_hash(key, value),
        _ => {
            let (left, right) =
                leaves.split_at(leaves.partition_point(|leaf| !bit(&leaf.0, depth)));
            let below = depth.saturating_add(1);
            internal_hash(&subtree_hash(left, below), &subtree_hash(right, below))
        }
    }
}

/// The root above `bottom`, to which the first bits of `key` lead.
fn top(bottom: Hash, key: &Hash, siblings: &[Hash]) -> Hash {
    siblings.iter().enumerate().rev().fold(bottom, |below, (index, sibling)| {
        if bit(key, index) {
            internal_hash(sibling, &below)
        } else {
            internal_hash(&below, sibling)
        }
    })
}

/// The `index`-th bit of a key.
fn bit(key: &Hash, index: usize) -> bool {
    let byte = key.0.get(index >> 3).copied().unwrap_or(0);
    byte & (0x80 >> (index & 7)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_end_where_the_next_begins() {
        let half = Hash(std::array::from_fn(|index| if index == 0 { 0x80 } else { 0 }));
        assert_eq!(subtree_end(&Hash::ZERO, 0), None);
        assert_eq!(subtree_end(&Hash::ZERO, 1), Some(half));
        assert_eq!(subtree_end(&half, 1), None);
        assert_eq!(subtree_end(&Hash([0xff; 32]), 256), None);
        let (mut before, mut after) = ([0xff; 32], [0; 32]);
        (before[0], after[0]) = (0x3f, 0x40);
        assert_eq!(subtree_end(&Hash(before), 256), Some(Hash(after)));
        assert_eq!((zero_bits(&half), zero_bits(&Hash::ZERO)), (255, 256));
        assert_eq!(shared_bits(&half, &Hash::ZERO), 0);
        assert_eq!(shared_bits(&Hash(before), &Hash(after)), 1);
        assert_eq!(shared_bits(&half, &half), 256);
    }
}
