//! The kernels as host C, one item after another: the GPU's text, executed without a GPU.
//!
//! Never the fastest: it is there to be tested. Its safe twin is [`crate::Scalar`].
#![expect(unsafe_code, reason = "calls the kernels, which are C; every length is checked before")]

use crate::BatchBackend;

use super::{BatchError, Prices, Shape, WORD_SIZE, check_size, count_of, pack};

/// A guess on the slow side, so that nobody prefers it: one step after another, each a scalar compression.
const PRICES: Prices =
    Prices { call_ns: 1_000, byte_ps: 1_000, step_ps: 1_000_000, step_serial_ps: 0 };

// SAFETY: these are the prototypes at the end of kernels/sha256.h, with its u32 and u64.
unsafe extern "C" {
    fn quipu_sha256_chains(hashes: *mut u32, count: u64, steps: u64);
    fn quipu_sha256_nodes(pairs: *const u32, out: *mut u32, count: u64, prefix: u32);
    fn quipu_sha256_many(words: *const u32, places: *const u32, out: *mut u32, count: u64);
}

/// The kernels on the processor that calls them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host;

/// Bytes as the words in which a kernel loads them.
fn words_of(bytes: &[u8]) -> Vec<u32> {
    let (words, rest) = bytes.as_chunks::<WORD_SIZE>();
    assert!(rest.is_empty(), "kernels see whole words");
    words.iter().map(|word| u32::from_ne_bytes(*word)).collect()
}

/// Words as a kernel stored them, in the hashes that they are.
fn write_hashes(words: &[u32], out: &mut [[u8; 32]]) {
    let (places, _) = out.as_flattened_mut().as_chunks_mut::<WORD_SIZE>();
    assert_eq!(words.len(), places.len(), "a hash has eight words");
    for (word, place) in words.iter().zip(places) {
        *place = word.to_ne_bytes();
    }
}

impl BatchBackend for Host {
    fn name(&self) -> &'static str {
        "host"
    }

    fn predict_ns(&self, shape: &Shape) -> Option<u64> {
        Some(PRICES.predict_ns(shape))
    }

    fn sha256_many(
        &self,
        prefix: &[u8],
        messages: &[&[u8]],
        out: &mut [[u8; 32]],
    ) -> Result<(), BatchError> {
        assert_eq!(messages.len(), out.len(), "each message has one place for its hash");
        let packed = pack(prefix, messages)?;
        let words = words_of(&packed.bytes);
        let places = packed.places.as_flattened();
        let mut hashes = words_of(out.as_flattened());
        // SAFETY: `places` has two words and `hashes` eight for each of the messages; `pack` laid every place within
        // `words`, and the kernel reads no word of a message beyond its size.
        unsafe {
            let (words, places) = (words.as_ptr(), places.as_ptr());
            quipu_sha256_many(words, places, hashes.as_mut_ptr(), count_of(messages));
        }
        write_hashes(&hashes, out);
        Ok(())
    }

    fn sha256_nodes(
        &self,
        prefix: u8,
        pairs: &[[[u8; 32]; 2]],
        out: &mut [[u8; 32]],
    ) -> Result<(), BatchError> {
        assert_eq!(pairs.len(), out.len(), "each pair has one place for its hash");
        check_size(Some(size_of_val(pairs)))?;
        let words = words_of(pairs.as_flattened().as_flattened());
        let mut hashes = words_of(out.as_flattened());
        // SAFETY: `words` has sixteen words and `hashes` eight for each of the pairs.
        unsafe {
            let (words, hashes) = (words.as_ptr(), hashes.as_mut_ptr());
            quipu_sha256_nodes(words, hashes, count_of(pairs), u32::from(prefix));
        }
        write_hashes(&hashes, out);
        Ok(())
    }

    fn sha256_chains(
        &self,
        starts: &[[u8; 32]],
        count: u64,
        out: &mut [[u8; 32]],
    ) -> Result<(), BatchError> {
        assert_eq!(starts.len(), out.len(), "each start has one place for its end");
        check_size(Some(size_of_val(starts)))?;
        let mut hashes = words_of(starts.as_flattened());
        // SAFETY: `hashes` has eight words for each of the chains.
        unsafe { quipu_sha256_chains(hashes.as_mut_ptr(), count_of(starts), count) };
        write_hashes(&hashes, out);
        Ok(())
    }
}
