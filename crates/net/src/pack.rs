//! What a frame on a link holds: nothing, a message as it is, or a message made smaller.
//!
//! ```text
//!  keep-alive   no bytes
//!  plain        0 u8 │ the message
//!  smaller      1 u8 │ Snappy block: size of the message as a varint, then its elements
//! ```
//! # Invariants
//! * K1 The size that a block announces is checked against [`MESSAGE_SIZE_MAX`] before anything is reserved
//!   for it, and what comes out has exactly that size.
//! * K2 A message is made smaller only from [`COMPRESS_SIZE_MIN`] bytes, and only when an eighth is saved:
//!   keys, hashes and signatures are noise, and go plain.
//!
//! Whether a message was made smaller is between two ends of one link: it is in no signature and no hash.

use std::borrow::Cow;

use thiserror::Error;

use crate::put_frame;

/// Most bytes of a frame, without its length.
pub const FRAME_SIZE_MAX: usize = 4 << 20;
/// Most bytes of a message.
pub const MESSAGE_SIZE_MAX: usize = FRAME_SIZE_MAX - 1;
/// From this size on it is tried whether a message becomes smaller.
pub const COMPRESS_SIZE_MIN: usize = 4 << 10;

const FORM_PLAIN: u8 = 0;
const FORM_SNAPPY: u8 = 1;

/// A frame's contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// The peer lives and has nothing to say.
    KeepAlive,
    /// A message.
    Message(Cow<'a, [u8]>),
}

/// Why a frame holds no message. The sender is to blame.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnpackError {
    /// The first byte names no form.
    #[error("a frame has no form {form}")]
    Form {
        /// What was found.
        form: u8,
    },
    /// More is announced than a message may have.
    #[error("a message of {size} bytes is announced in a frame, the most is {size_max}")]
    TooLong {
        /// What was announced.
        size: usize,
        /// The bound.
        size_max: usize,
    },
    /// The block is no Snappy block of the announced size.
    #[error("a compressed frame is damaged")]
    Damaged,
}

/// The frame, with its length, that carries `message`.
///
/// # Panics
/// When the message is longer than [`MESSAGE_SIZE_MAX`]: whoever makes a message bounds it.
#[must_use]
pub fn pack(message: &[u8]) -> Vec<u8> {
    assert!(message.len() <= MESSAGE_SIZE_MAX, "messages are bounded where they are made");
    let smaller = smaller(message);
    let (form, body) = match &smaller {
        Some(block) => (FORM_SNAPPY, block.as_slice()),
        None => (FORM_PLAIN, message),
    };
    let mut contents = Vec::with_capacity(body.len().saturating_add(1));
    contents.push(form);
    contents.extend_from_slice(body);
    let mut frame = Vec::with_capacity(contents.len().saturating_add(crate::LENGTH_SIZE));
    put_frame(&mut frame, &contents);
    frame
}

/// The frame, with its length, of a keep-alive.
#[must_use]
pub fn keep_alive() -> Vec<u8> {
    let mut frame = Vec::new();
    put_frame(&mut frame, &[]);
    frame
}

/// The message as a block, when that pays (K2).
fn smaller(message: &[u8]) -> Option<Vec<u8>> {
    if message.len() < COMPRESS_SIZE_MIN {
        return None;
    }
    let block = snap::raw::Encoder::new().compress_vec(message).ok()?;
    let worth = message.len().saturating_sub(message.len() / 8);
    (block.len() <= worth).then_some(block)
}

/// What the bytes of a frame, without its length, hold.
///
/// # Errors
/// When they are of no form, announce too much, or are damaged.
pub fn unpack(frame: &[u8]) -> Result<Incoming<'_>, UnpackError> {
    let Some((form, body)) = frame.split_first() else { return Ok(Incoming::KeepAlive) };
    match *form {
        FORM_PLAIN if body.len() <= MESSAGE_SIZE_MAX => Ok(Incoming::Message(Cow::Borrowed(body))),
        FORM_PLAIN => Err(UnpackError::TooLong { size: body.len(), size_max: MESSAGE_SIZE_MAX }),
        FORM_SNAPPY => {
            let size = snap::raw::decompress_len(body).map_err(|_| UnpackError::Damaged)?;
            if size > MESSAGE_SIZE_MAX {
                return Err(UnpackError::TooLong { size, size_max: MESSAGE_SIZE_MAX });
            }
            let message = snap::raw::Decoder::new().decompress_vec(body);
            let message = message.map_err(|_| UnpackError::Damaged)?;
            assert_eq!(message.len(), size, "the decoder fills the announced size or fails");
            Ok(Incoming::Message(Cow::Owned(message)))
        }
        form => Err(UnpackError::Form { form }),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "small numbers of tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::Decoder;

    /// What a receiver makes of a frame.
    fn receive(frame: &[u8]) -> Vec<u8> {
        let mut decoder = Decoder::new(FRAME_SIZE_MAX);
        decoder.push(frame);
        let contents = decoder.next_frame().unwrap().expect("a whole frame");
        match unpack(contents).unwrap() {
            Incoming::Message(message) => message.into_owned(),
            Incoming::KeepAlive => panic!("a message was sent"),
        }
    }

    /// Bytes of which the same seed gives the same, and which nothing makes smaller.
    fn noise(size: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let step = |state: &mut u64| {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            state.to_le_bytes()[0]
        };
        (0..size).map(|_| step(&mut state)).collect()
    }

    proptest! {
        #[test]
        fn a_message_comes_out_as_it_went_in(
            piece in proptest::collection::vec(any::<u8>(), 0..400),
            times in 1_usize..40,
        ) {
            let message = piece.repeat(times);
            prop_assert_eq!(receive(&pack(&message)), message);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(unpack(&bytes));
            let mut block = vec![FORM_SNAPPY];
            block.extend_from_slice(&bytes);
            drop(unpack(&block));
        }

        #[test]
        fn a_flipped_bit_of_a_block_gives_an_error_or_a_message_of_the_announced_size(
            at in 0_usize..2_000, bit in 0_u32..8,
        ) {
            let message = b"one knot for each event; ".repeat(400);
            let frame = pack(&message);
            let mut contents = frame[crate::LENGTH_SIZE..].to_vec();
            let at = 1 + at % (contents.len() - 1);
            contents[at] ^= 1 << bit;
            if let Ok(Incoming::Message(other)) = unpack(&contents) {
                prop_assert!(other.len() <= MESSAGE_SIZE_MAX);
            }
        }
    }

    #[test]
    fn what_repeats_is_made_smaller_and_noise_and_short_messages_go_plain() {
        let text = b"a quipu has one main cord. ".repeat(1_000);
        let size_of = |message: &[u8]| pack(message).len();
        assert!(size_of(&text) < text.len() / 4, "{}", size_of(&text));
        assert_eq!(size_of(&noise(100_000)), 100_000 + 5);
        assert_eq!(size_of(&[0; COMPRESS_SIZE_MIN - 1]), COMPRESS_SIZE_MIN - 1 + 5);
        assert_eq!(receive(&pack(&noise(MESSAGE_SIZE_MAX))).len(), MESSAGE_SIZE_MAX);
        assert_eq!(receive(&pack(&vec![7; MESSAGE_SIZE_MAX])), vec![7; MESSAGE_SIZE_MAX]);
    }

    #[test]
    fn an_announced_size_above_the_bound_is_refused_before_it_is_reserved() {
        // The varint of 2^32 - 1, and no elements.
        let block = [FORM_SNAPPY, 0xff, 0xff, 0xff, 0xff, 0x0f];
        let size = 0xffff_ffff;
        assert_eq!(unpack(&block), Err(UnpackError::TooLong { size, size_max: MESSAGE_SIZE_MAX }));
        assert_eq!(unpack(&[2, 0]), Err(UnpackError::Form { form: 2 }));
        assert_eq!(unpack(&[FORM_SNAPPY, 4, 0]), Err(UnpackError::Damaged));
        assert_eq!(unpack(&[]), Ok(Incoming::KeepAlive));
        assert_eq!(keep_alive(), [0; 4]);
    }
}
