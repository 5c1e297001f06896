//! The content encoding of a request's body: one Snappy block.
//!
//! ```text
//!  Content-Encoding: snappy
//!  size of the body as a varint │ the block's elements: literals, copies
//! ```
//! The name and the form are those of Prometheus' remote write: the block form, not the framed one.
//!
//! # Invariants
//! * E1 What a block announces is checked against a bound, and against what its bytes can hold at most
//!   ([`EXPANSION_MAX`]), before anything is reserved for it; what comes out has exactly that size.
//! * E2 A body is made smaller only from [`ENCODE_SIZE_MIN`] bytes, and only when an eighth is saved.

use thiserror::Error;

/// The name in `Content-Encoding` and `Accept-Encoding`.
pub const SNAPPY: &str = "snappy";
/// From this size on it is tried whether a body becomes smaller.
pub const ENCODE_SIZE_MIN: usize = 1 << 10;
/// Most bytes that one byte of a block can stand for: a copy of three bytes gives 64.
pub const EXPANSION_MAX: usize = 22;

/// Why bytes are no block. The sender is to blame.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodingError {
    /// More is announced than is allowed.
    #[error("{size} bytes are announced, the most is {size_max}")]
    TooLong {
        /// What was announced.
        size: usize,
        /// The bound.
        size_max: usize,
    },
    /// The bytes are no block of the size that they announce.
    #[error("the Snappy block is damaged")]
    Damaged,
}

/// The body as a block, when that pays (E2).
#[must_use]
pub fn encode(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() < ENCODE_SIZE_MIN {
        return None;
    }
    let block = snap::raw::Encoder::new().compress_vec(body).ok()?;
    let worth = body.len().saturating_sub(body.len() / 8);
    (block.len() <= worth).then_some(block)
}

/// How large the body of a block of `block_size` bytes can be, under a bound.
#[must_use]
pub const fn decoded_size_max(block_size: usize, size_max: usize) -> usize {
    let size = block_size.saturating_mul(EXPANSION_MAX);
    if size < size_max { size } else { size_max }
}

/// The size that a block announces (E1).
///
/// # Errors
/// When it is above the bound, or more than the block's bytes can hold.
pub fn decoded_size(block: &[u8], size_max: usize) -> Result<usize, EncodingError> {
    let size = snap::raw::decompress_len(block).map_err(|_| EncodingError::Damaged)?;
    if size > size_max {
        return Err(EncodingError::TooLong { size, size_max });
    }
    if size > decoded_size_max(block.len(), size_max) {
        return Err(EncodingError::Damaged);
    }
    Ok(size)
}

/// The body of a block.
///
/// # Errors
/// As [`decoded_size`], and when the block is damaged.
pub fn decode(block: &[u8], size_max: usize) -> Result<Vec<u8>, EncodingError> {
    let size = decoded_size(block, size_max)?;
    let body = snap::raw::Decoder::new().decompress_vec(block);
    let body = body.map_err(|_| EncodingError::Damaged)?;
    assert_eq!(body.len(), size, "the decoder fills the announced size or fails");
    Ok(body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(unit in prop::collection::vec(any::<u8>(), 1..50), count in 1..500_usize) {
            let body = unit.repeat(count);
            if let Some(block) = encode(&body) {
                prop_assert!(block.len() < body.len());
                prop_assert_eq!(decode(&block, body.len()).unwrap(), body.clone());
                let (size, size_max) = (body.len(), body.len().saturating_sub(1));
                let refused = decode(&block, size_max).unwrap_err();
                prop_assert_eq!(refused, EncodingError::TooLong { size, size_max });
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(body) = decode(&bytes, 1 << 16) {
                prop_assert!(body.len() <= decoded_size_max(bytes.len(), 1 << 16));
            }
        }
    }

    #[test]
    fn the_smallest_block_for_its_size_is_decoded_and_what_announces_more_is_refused() {
        let zeros = vec![0; 1 << 20];
        let block = encode(&zeros).expect("zeros become smaller");
        assert_eq!(decode(&block, 1 << 20).unwrap(), zeros);
        // 16 MiB, says a varint; then a literal of one byte.
        let bomb = [0x80, 0x80, 0x80, 0x08, 0x00, 0x00];
        assert_eq!(decode(&bomb, 16 << 20), Err(EncodingError::Damaged));
        assert!(matches!(decode(&bomb, 1 << 20), Err(EncodingError::TooLong { .. })));
    }

    #[test]
    fn noise_and_small_bodies_stay_as_they_are() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let noise: Vec<u8> = (0..10_000)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[0]
            })
            .collect();
        assert_eq!(encode(&noise), None);
        assert_eq!(encode(&[0; ENCODE_SIZE_MIN - 1]), None);
    }
}
