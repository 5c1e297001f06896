//! Whole batches on devices with thousands of threads, from one text of kernels.
//!
//! ```text
//!  kernels/words.h, sha256.h --+-- build.rs, host C --> [host::Host]   every test run, and CI
//!                              +-- NVRTC, CUDA C -----> [cuda::Cuda]   where a driver is
//!                              +-- OpenCL C ----------> checked by a compiler where one is
//!  slices -> checks, packing (here) -> bytes aligned to words -> kernel -> hashes
//! ```
//! # Invariants
//! * G1 A batch is answered whole or refused whole: after an error the caller's values are as they were, or are
//!   places for results that the caller fills anew.
//! * G2 What reaches a kernel was checked here: every place that it reads or writes lies in its buffer.
//! * G3 Nothing here panics for the sake of a device: each of its errors is a value.
//! # Limits
//! Batches above [`BATCH_SIZE_MAX`] bytes are refused; so no size and no place exceeds 32 bits.

mod cuda;
mod host;
mod prices;
#[cfg(test)]
mod tests;

pub use cuda::{Cuda, OpenError};
pub use host::Host;

use crate::{BatchError, Shape};
use prices::Prices;

/// The kernels' text, as a compiler at run time gets it.
const SHA256_TEXT: &str =
    concat!(include_str!("../kernels/words.h"), include_str!("../kernels/sha256.h"));

/// Most bytes of a batch, prefixes and gaps included.
pub const BATCH_SIZE_MAX: usize = 1 << 30;

/// Size of the words in which kernels see memory.
const WORD_SIZE: usize = size_of::<u32>();

/// Messages behind each other, as the kernel `quipu_sha256_many` reads them.
struct Packed {
    /// Each message with its prefix from a multiple of [`WORD_SIZE`] on.
    bytes: Vec<u8>,
    /// `[first word, size]` of each message.
    places: Vec<[u32; 2]>,
}

/// Where each message stands; and the size of all of them, gaps included.
fn places(
    prefix_size: usize,
    message_sizes: impl Iterator<Item = usize>,
) -> Result<(Vec<[u32; 2]>, usize), BatchError> {
    let mut places = Vec::new();
    let mut end = 0_usize;
    for message_size in message_sizes {
        let first = end;
        let size = prefix_size.saturating_add(message_size);
        end = check_size(
            size.checked_next_multiple_of(WORD_SIZE).and_then(|size| first.checked_add(size)),
        )?;
        let word = |number| u32::try_from(number).expect("the limit of a batch fits 32 bits");
        places.push([word(first / WORD_SIZE), word(size)]);
    }
    Ok((places, end))
}

fn pack(prefix: &[u8], messages: &[&[u8]]) -> Result<Packed, BatchError> {
    check_size(messages.len().checked_mul(size_of::<[u8; 32]>()))?;
    let (places, size) = places(prefix.len(), messages.iter().map(|message| message.len()))?;
    let mut bytes = Vec::with_capacity(size);
    for message in messages {
        bytes.extend_from_slice(prefix);
        bytes.extend_from_slice(message);
        bytes.resize(bytes.len().next_multiple_of(WORD_SIZE), 0);
    }
    assert_eq!(bytes.len(), size, "places and bytes are laid out by one rule");
    Ok(Packed { bytes, places })
}

/// The size itself, unless it overflowed or is above the limit.
fn check_size(size: Option<usize>) -> Result<usize, BatchError> {
    let size = size.unwrap_or(usize::MAX);
    let number = |size| u64::try_from(size).expect("an address has at most 64 bits");
    let refused = BatchError::TooLarge { size: number(size), size_max: number(BATCH_SIZE_MAX) };
    if size <= BATCH_SIZE_MAX { Ok(size) } else { Err(refused) }
}

/// A count as the kernels take it.
fn count_of<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).expect("an address has at most 64 bits")
}
