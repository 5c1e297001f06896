//! The hash functions by name. Those of one message allocate nothing; those of many stand on `accel`.
//!
//! ```text
//!  leaf = SHA-256(0x00 ‖ data)        node = SHA-256(0x01 ‖ left ‖ right)        (RFC 9162, 2.1.1)
//! ```

use quipu_accel::Accel;
use quipu_types::Hash;
use sha2::Digest;
use sha3::Keccak256;

/// First byte of what is hashed into a leaf.
pub const LEAF_PREFIX: u8 = 0x00;
/// First byte of what is hashed into an inner node.
pub const NODE_PREFIX: u8 = 0x01;

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Hash {
    Hash(sha2::Sha256::digest(bytes).into())
}

/// SHA-256 of the parts one after another, without joining them.
///
/// The parts' borders are not hashed: fix their sizes, or prefix them.
#[must_use]
pub fn sha256_concat(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finish()
}

/// Hash of a tree's leaf.
#[must_use]
pub fn leaf_hash(data: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(&[LEAF_PREFIX]);
    hasher.update(data);
    hasher.finish()
}

/// As [`sha256`] of each, many at once.
#[must_use]
pub fn sha256_many(messages: &[&[u8]]) -> Vec<Hash> {
    prefixed_many(&[], messages)
}

/// As [`leaf_hash`] of each, many at once.
#[must_use]
pub fn leaf_hashes(data: &[&[u8]]) -> Vec<Hash> {
    prefixed_many(&[LEAF_PREFIX], data)
}

/// SHA-256 of `prefix ‖ message` for each message.
///
/// # Panics
/// If the prefix is longer than [`quipu_accel::PREFIX_SIZE_MAX`].
#[must_use]
pub fn prefixed_many(prefix: &[u8], messages: &[&[u8]]) -> Vec<Hash> {
    let mut hashes = vec![[0; 32]; messages.len()];
    quipu_accel::default().sha256_many(prefix, messages, &mut hashes);
    hashes.into_iter().map(Hash).collect()
}

/// Hash of an inner node of a tree.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [NODE_PREFIX; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    sha256(&bytes)
}

/// BLAKE3 of `bytes`: for bulk bytes of which nobody proves single pieces.
#[must_use]
pub fn blake3(bytes: &[u8]) -> Hash {
    Hash(*blake3::hash(bytes).as_bytes())
}

/// Keccak-256 of `bytes`, with the padding from before SHA-3.
#[must_use]
pub fn keccak256(bytes: &[u8]) -> Hash {
    Hash(Keccak256::digest(bytes).into())
}

/// BLAKE2b of `bytes` with a digest of 32 bytes.
#[must_use]
pub fn blake2b256(bytes: &[u8]) -> Hash {
    let digest = blake2b_simd::Params::new().hash_length(32).hash(bytes);
    Hash(digest.as_bytes().try_into().expect("a digest of 32 bytes was asked for"))
}

/// SHA-256 of bytes that come in pieces.
#[derive(Clone, Debug, Default)]
pub struct Sha256(sha2::Sha256);

impl Sha256 {
    /// Nothing hashed yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Hash `bytes` after what was hashed before.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all bytes so far.
    #[must_use]
    pub fn finish(self) -> Hash {
        Hash(self.0.finalize().into())
    }
}
