//! SHA-256 of many messages at once: kernels, and what drives them.
//!
//! Source: FIPS 180-4, sections 4.1.2 (functions), 4.2.2 (constants), 5.1.1 (padding), 6.2 (the computation). One
//! message is a chain of compressions, each of 64 rounds that wait for each other, so one message cannot be made
//! faster by width; many can. A *way* is one slot of a vector register, and carries one message.
//!
//! ```text
//!  messages -> slots (one per way) -> blocks -> Kernel<WAYS>::compress --+
//!                ^  refill when one ends                                 |
//!                +------------------------- state, WAYS columns <--------+
//!  pairs  -----------------------------------> Kernel::nodes  (two compressions, the second nearly constant)
//!  starts -----------------------------------> Kernel::chain  (state stays in registers for `count` steps)
//! ```
//! # Invariants
//! * S1 Every kernel equals its twin and the crate `sha2`, for all states, blocks and counts.
//! * S2 A kernel's value exists only where its instructions do: it is made by a `detect` that asked the processor.
//! * S3 Middle blocks of a message are read where they lie; only blocks with prefix or padding are assembled.
//! # Limits
//! A length of 2^61 bytes or more would not fit the 64-bit count of bits; it wraps, as in `sha2`. No slice is so long.

// Only kernels need these, and only this kind of processor has any; tests run them everywhere.
#[cfg(any(test, target_arch = "x86_64"))]
pub(crate) mod kernel;
#[cfg(any(test, target_arch = "x86_64"))]
mod rounds;
#[cfg(any(test, target_arch = "x86_64"))]
pub(crate) mod slots;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "x86_64")]
pub(crate) mod double;
#[cfg(target_arch = "x86_64")]
pub(crate) mod shani;
#[cfg(test)]
pub(crate) mod twin;

use std::fmt::Debug;

use crate::scalar::{self, Scalar};

/// Bytes of one block.
pub(crate) const BLOCK_SIZE: usize = 64;

/// Bytes that padding adds at least: the bit that ends the message, and the count of bits.
const PADDING_SIZE_MIN: usize = 9;

/// One pair of hashes: the content of an inner node.
pub(crate) type Pair = [[u8; 32]; 2];

/// Blocks of a message with its prefix.
pub(crate) const fn block_count(prefix_size: usize, message_size: usize) -> usize {
    // A slice has at most `isize::MAX` bytes, so nothing saturates; if it did, it would only be slow.
    message_size.saturating_add(prefix_size).saturating_add(PADDING_SIZE_MIN).div_ceil(BLOCK_SIZE)
}

/// One call of `sha256_many`, and who may finish what is left of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job<'a> {
    /// At most [`crate::PREFIX_SIZE_MAX`] bytes before each message.
    pub(crate) prefix: &'a [u8],
    pub(crate) messages: &'a [&'a [u8]],
    /// None when the wide kernel must do it alone.
    #[cfg_attr(
        not(any(test, target_arch = "x86_64")),
        expect(dead_code, reason = "only kernels hand messages over")
    )]
    pub(crate) finish: Option<Finish<'a>>,
}

/// Who takes the last few messages, one after another.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(any(test, target_arch = "x86_64")),
    expect(dead_code, reason = "only kernels hand messages over")
)]
pub(crate) struct Finish<'a> {
    pub(crate) serial: &'a dyn Serial,
    /// Blocks that `serial` does in the time of one step of the wide kernel, times [`RATE_ONE`].
    pub(crate) rate: u64,
}

/// Unit of [`Finish::rate`].
pub(crate) const RATE_ONE: u64 = 16;

/// The compression function on one message, for what is left when a batch runs dry.
pub(crate) trait Serial: Debug + Send + Sync {
    /// Fold blocks that follow each other into one state.
    #[cfg_attr(
        not(any(test, target_arch = "x86_64")),
        expect(dead_code, reason = "only kernels hand messages over")
    )]
    fn blocks(&self, state: &mut [u32; 8], blocks: &[[u8; BLOCK_SIZE]]);
}

/// A kernel of any width behind one type: batches of any size in, exact results out.
pub(crate) trait Engine: Debug + Send + Sync {
    /// Messages that run side by side.
    fn ways(&self) -> usize;

    /// `SHA-256(prefix ‖ message)` of each message of the job.
    fn many(&self, job: &Job<'_>, out: &mut [[u8; 32]]);

    /// Inner nodes of a tree.
    fn nodes(&self, prefix: u8, pairs: &[Pair], out: &mut [[u8; 32]]);

    /// Chains of hashes.
    fn chains(&self, hashes: &mut [[u8; 32]], count: u64);
}

impl Engine for Scalar {
    fn ways(&self) -> usize {
        1
    }

    fn many(&self, job: &Job<'_>, out: &mut [[u8; 32]]) {
        scalar::sha256_many(job.prefix, job.messages, out);
    }

    fn nodes(&self, prefix: u8, pairs: &[Pair], out: &mut [[u8; 32]]) {
        scalar::sha256_nodes(prefix, pairs, out);
    }

    fn chains(&self, hashes: &mut [[u8; 32]], count: u64) {
        scalar::sha256_chains(hashes, count);
    }
}

#[cfg(test)]
mod tests;
