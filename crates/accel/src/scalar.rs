//! The backend that is always there: one item after another on one core.
//!
//! SHA-256 uses the processor's own instructions where the crate `sha2` knows them; signatures share a batch
//! equation. It is an oracle for wider kernels, and what serves when none of them does.

use sha2::{Digest, Sha256};

use crate::{Accel, Ed25519Item, PREFIX_SIZE_MAX, Secp256k1Item, ed25519, many, secp256k1};

/// Plain loops over the `sha2` and `ed25519-zebra` crates.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scalar;

/// [`Accel::sha256_many`], one after another.
pub(crate) fn sha256_many(prefix: &[u8], messages: &[&[u8]], out: &mut [[u8; 32]]) {
    assert_eq!(messages.len(), out.len(), "each message has one place for its hash");
    assert!(prefix.len() <= PREFIX_SIZE_MAX, "a prefix has a bound");
    for (message, hash) in messages.iter().zip(out) {
        let hasher = Sha256::new().chain_update(prefix).chain_update(message);
        *hash = hasher.finalize().into();
    }
}

/// [`Accel::sha256_nodes`], one after another.
pub(crate) fn sha256_nodes(prefix: u8, pairs: &[[[u8; 32]; 2]], out: &mut [[u8; 32]]) {
    assert_eq!(pairs.len(), out.len(), "each pair has one place for its hash");
    for (pair, hash) in pairs.iter().zip(out) {
        *hash = sha256_node(prefix, pair);
    }
}

/// One inner node.
pub(crate) fn sha256_node(prefix: u8, [left, right]: &[[u8; 32]; 2]) -> [u8; 32] {
    Sha256::new().chain_update([prefix]).chain_update(left).chain_update(right).finalize().into()
}

/// [`Accel::sha256_chains`], one after another.
pub(crate) fn sha256_chains(hashes: &mut [[u8; 32]], count: u64) {
    for hash in hashes {
        for _ in 0..count {
            *hash = Sha256::digest(*hash).into();
        }
    }
}

impl Accel for Scalar {
    fn name(&self) -> &'static str {
        "scalar"
    }

    fn sha256_many(&self, prefix: &[u8], messages: &[&[u8]], out: &mut [[u8; 32]]) {
        sha256_many(prefix, messages, out);
    }

    fn sha256_nodes(&self, prefix: u8, pairs: &[[[u8; 32]; 2]], out: &mut [[u8; 32]]) {
        sha256_nodes(prefix, pairs, out);
    }

    fn sha256_chains(&self, starts: &mut [[u8; 32]], count: u64) {
        sha256_chains(starts, count);
    }

    fn keccak256_many(&self, messages: &[&[u8]], out: &mut [[u8; 32]]) {
        many::keccak256(messages, out, false);
    }

    fn blake2b256_many(&self, messages: &[&[u8]], out: &mut [[u8; 32]]) {
        many::blake2b256(messages, out);
    }

    fn verify_ed25519_many(&self, items: &[Ed25519Item<'_>]) -> Vec<bool> {
        ed25519::verify_many(items, false)
    }

    fn verify_secp256k1_many(&self, items: &[Secp256k1Item<'_>]) -> Vec<bool> {
        secp256k1::verify_many(items)
    }
}
