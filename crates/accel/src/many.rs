//! Keccak-256 and BLAKE2b-256 of many messages, and the eight-way words beneath the wide kernels.
//!
//! ```text
//!  keccak256    eight at a time on AVX-512 (many/keccak.rs), the rest one after another (sha3)
//!               tried at first use against sha3 on sizes around the ends of blocks, not used if it errs
//!  blake2b256   the many-at-once interface of blake2b_simd, which chooses its width at run time
//! ```

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(any(test, target_arch = "x86_64"))]
pub(crate) mod keccak;
#[cfg(any(test, target_arch = "x86_64"))]
pub(crate) mod sha512;
#[cfg(test)]
pub(crate) mod twin;
#[cfg(any(test, target_arch = "x86_64"))]
pub(crate) mod ways;

use sha3::{Digest, Keccak256};

use crate::BackendState;

#[cfg(any(test, target_arch = "x86_64"))]
use ways::{WAY_COUNT, Ways};

/// Fewer messages than this are hashed one after another.
#[cfg(target_arch = "x86_64")]
const KECCAK_WIDE_COUNT_MIN: usize = 2;

/// Keccak-256 of each message; by the wide kernel if it may serve.
pub(crate) fn keccak256(messages: &[&[u8]], out: &mut [[u8; 32]], may_be_wide: bool) {
    assert_eq!(messages.len(), out.len(), "each message has one place for its hash");
    #[cfg(target_arch = "x86_64")]
    if may_be_wide
        && messages.len() >= KECCAK_WIDE_COUNT_MIN
        && let Ok(w) = keccak_ways()
    {
        return keccak256_wide(w, messages, out);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = may_be_wide;
    keccak256_narrow(messages, out);
}

/// The ways of this machine, if it has them and they hash what the plain function hashes.
#[cfg(target_arch = "x86_64")]
fn keccak_ways() -> Result<avx512::Avx512, BackendState> {
    static WAYS: std::sync::OnceLock<Result<avx512::Avx512, BackendState>> =
        std::sync::OnceLock::new();
    *WAYS.get_or_init(|| {
        let w = avx512::Avx512::detect().ok_or(BackendState::Absent)?;
        let bytes = [0xa5; 300];
        let messages: [&[u8]; WAY_COUNT] =
            [0, 1, 135, 136, 137, 271, 272, 300].map(|size| bytes.get(..size).unwrap_or(&bytes));
        let expected = messages.map(|message| <[u8; 32]>::from(Keccak256::digest(message)));
        let knows = keccak::digests(w, &messages) == expected;
        if knows { Ok(w) } else { Err(BackendState::FailedKnownAnswer) }
    })
}

/// How the wide kernel of Keccak-256 stands on this machine.
pub(crate) fn keccak_standing() -> BackendState {
    #[cfg(target_arch = "x86_64")]
    return keccak_ways().err().unwrap_or(BackendState::ServesBatches);
    #[cfg(not(target_arch = "x86_64"))]
    BackendState::Absent
}

fn keccak256_narrow(messages: &[&[u8]], out: &mut [[u8; 32]]) {
    for (message, hash) in messages.iter().zip(out) {
        *hash = Keccak256::digest(message).into();
    }
}

/// Eight at a time, the last group filled up with empty messages.
#[cfg(any(test, target_arch = "x86_64"))]
fn keccak256_wide<W: Ways>(w: W, messages: &[&[u8]], out: &mut [[u8; 32]]) {
    for (group, hashes) in messages.chunks(WAY_COUNT).zip(out.chunks_mut(WAY_COUNT)) {
        if keccak::is_worth_it(group) {
            let filled = std::array::from_fn(|way| group.get(way).copied().unwrap_or(&[]));
            for (digest, hash) in keccak::digests(w, &filled).iter().zip(hashes) {
                *hash = *digest;
            }
        } else {
            keccak256_narrow(group, hashes);
        }
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

/// Do `$body` with the twin as `$w`, then with the hardware's ways, or say that they were skipped.
#[cfg(test)]
macro_rules! on_each_ways {
    ($w:ident => $body:expr) => {{
        {
            let $w = crate::many::twin::Twin;
            $body;
        }
        #[cfg(target_arch = "x86_64")]
        match crate::many::avx512::Avx512::detect() {
            Some($w) => $body,
            None => println!("SKIPPED: this processor has no AVX-512 IFMA"),
        }
        #[cfg(not(target_arch = "x86_64"))]
        println!("SKIPPED: AVX-512 is an extension of x86-64");
    }};
}
#[cfg(test)]
pub(crate) use on_each_ways;

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS: [usize; 9] = [0, 1, 2, 7, 8, 9, 16, 17, 100];

    fn messages(count: usize, random: &mut fastrand::Rng) -> Vec<Vec<u8>> {
        let size_max = random.usize(1..500);
        (0..count)
            .map(|_| (0..random.usize(0..size_max)).map(|_| random.u8(..)).collect())
            .collect()
    }

    #[test]
    fn many_keccaks_are_single_keccaks_at_every_edge_of_a_group() {
        let mut random = fastrand::Rng::with_seed(1);
        for count in COUNTS {
            let mut messages = messages(count, &mut random);
            if let Some(first) = messages.first_mut() {
                first.resize(random.usize(0..5_000), 7);
            }
            let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
            let mut expected = vec![[0; 32]; count];
            keccak256_narrow(&messages, &mut expected);
            let mut hashes = vec![[0; 32]; count];
            keccak256(&messages, &mut hashes, true);
            assert_eq!(hashes, expected, "{count} messages");
            on_each_ways!(w => {
                hashes.fill([0; 32]);
                keccak256_wide(w, &messages, &mut hashes);
                assert_eq!(hashes, expected, "{count} messages");
            });
        }
    }

    #[test]
    fn the_keccak_of_nothing_is_the_well_known_one() {
        let mut hashes = [[0; 32]; 2];
        keccak256(&[&[], &[]], &mut hashes, true);
        let expected = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470";
        assert_eq!(hashes.map(hex::encode), [expected, expected]);
    }

    #[test]
    fn many_blake2bs_are_single_blake2bs_at_every_edge_of_a_group() {
        let mut random = fastrand::Rng::with_seed(2);
        for count in COUNTS {
            let messages = messages(count, &mut random);
            let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
            let alone = |message: &&[u8]| -> [u8; 32] {
                let hash = blake2b_simd::Params::new().hash_length(32).hash(message);
                hash.as_bytes().try_into().expect("a digest of 32 bytes was asked for")
            };
            let expected: Vec<[u8; 32]> = messages.iter().map(alone).collect();
            let mut hashes = vec![[0; 32]; count];
            blake2b256(&messages, &mut hashes);
            assert_eq!(hashes, expected, "{count} messages");
        }
    }
}
