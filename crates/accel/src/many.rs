//! Keccak-256 and BLAKE2b-256 of many messages.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(test)]
pub(crate) mod twin;
pub(crate) mod ways;

use sha3::{Digest, Keccak256};

/// One after another.
pub(crate) fn keccak256(messages: &[&[u8]], out: &mut [[u8; 32]]) {
    assert_eq!(messages.len(), out.len(), "each message has one place for its hash");
    for (message, hash) in messages.iter().zip(out) {
        *hash = Keccak256::digest(message).into();
    }
}

/// By the many-at-once interface of `blake2b_simd`, which chooses its width at run time.
pub(crate) fn blake2b256(messages: &[&[u8]], out: &mut [[u8; 32]]) {
    assert_eq!(messages.len(), out.len(), "each message has one place for its hash");
    let mut params = blake2b_simd::Params::new();
    params.hash_length(32);
    let mut jobs: Vec<_> = messages
        .iter()
        .map(|message| blake2b_simd::many::HashManyJob::new(&params, message))
        .collect();
    blake2b_simd::many::hash_many(&mut jobs);
    for (job, hash) in jobs.iter().zip(out) {
        *hash = job.to_hash().as_bytes().try_into().expect("a digest of 32 bytes was asked for");
    }
}
