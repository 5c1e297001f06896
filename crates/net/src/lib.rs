//! Bytes to messages: bounded frames, sans-IO.
//!
//! ```text
//!  frame = length u32, little endian · that many bytes
//!
//!  push(bytes in any pieces) ─> [ Decoder ] ─> next_frame() ─> a frame's bytes ─> unpack ─> a message
//!  a message ─> [ Outbox: votes, chunks, bulk ] ─> pop() ─> pack ─> a frame's bytes
//!
//!  encoding what a request's body is over HTTP, when it is made smaller
//!  hello    who speaks on a link, to whom, over which channel; and why it is not believed
//!  pack     what a frame holds: nothing, a message, a message made smaller
//!  outbox   what waits to be sent to one peer: bounded in bytes, by class
//!  score    what a peer did wrong, and when it is shut out for how long
//!  stripes  a chunk's body in pieces that prove themselves, any few of which give it back
//! ```
//! # Invariants
//! * N1 How a stream is cut into pieces never changes which frames come out.
//! * N2 An announced length above the bound is refused before anything is reserved for it; the decoder then
//!   stays broken, since no border after it can be trusted.
//! * N3 A decoder holds at most one frame's announced bytes beyond what was pushed and not yet taken.

pub mod encoding;
pub mod hello;
pub mod outbox;
pub mod pack;
pub mod score;
pub mod stripes;

use thiserror::Error;

pub use hello::{Answer, Expected, Hello, HelloError, Reason, Role};
pub use outbox::{Class, Outbox, OutboxLimits, Pushed};
pub use pack::{FRAME_SIZE_MAX, Incoming, MESSAGE_SIZE_MAX, UnpackError, pack, unpack};
pub use score::{Offence, Score};

/// Bytes of a frame's length.
pub const LENGTH_SIZE: usize = 4;

/// Why a stream is not frames. The sender is to blame.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame is announced longer than allowed.
    #[error("a frame of {size} bytes is announced, the most is {size_max}")]
    TooLong {
        /// What was announced.
        size: usize,
        /// The bound.
        size_max: usize,
    },
    /// The stream ended inside a frame.
    #[error("the stream ends inside a frame: {left} bytes are left over")]
    Short {
        /// Bytes after the last whole frame.
        left: usize,
    },
}

/// Appends `bytes` as a frame.
///
/// # Panics
/// When they are 4 GiB or more: whoever makes a message bounds it far below.
pub fn put_frame(out: &mut Vec<u8>, bytes: &[u8]) {
    let size = u32::try_from(bytes.len()).expect("messages are bounded below 4 GiB");
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Takes frames out of a stream of bytes.
#[derive(Clone, Debug)]
pub struct Decoder {
    size_max: usize,
    bytes: Vec<u8>,
    /// Bytes of `bytes` that were handed out.
    taken: usize,
    broken: Option<FrameError>,
}

impl Decoder {
    /// A decoder of frames of at most `size_max` bytes.
    #[must_use]
    pub const fn new(size_max: usize) -> Self {
        Self { size_max, bytes: Vec::new(), taken: 0, broken: None }
    }

    /// Takes the next piece of the stream. Bound a piece's size, and call
    /// [`next_frame`](Self::next_frame) until it has none before pushing more.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.broken.is_some() {
            return;
        }
        if self.taken > 0 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// [`FrameError::TooLong`], from then on for ever.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, FrameError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH_SIZE>() else { return Ok(None) };
        let size = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if size > self.size_max {
            let error = FrameError::TooLong { size, size_max: self.size_max };
            self.broken = Some(error.clone());
            self.bytes = Vec::new();
            self.taken = 0;
            return Err(error);
        }
        if rest.len() < size {
            return Ok(None);
        }
        let start = self.taken.saturating_add(LENGTH_SIZE);
        self.taken = start.saturating_add(size);
        Ok(self.bytes.get(start..self.taken))
    }

    /// Bytes that are held and not handed out.
    #[must_use]
    pub fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.taken)
    }

    /// That the stream may end here.
    ///
    /// # Errors
    /// When it ends inside a frame.
    pub fn end(&self) -> Result<(), FrameError> {
        match (&self.broken, self.left()) {
            (Some(error), _) => Err(error.clone()),
            (None, 0) => Ok(()),
            (None, left) => Err(FrameError::Short { left }),
        }
    }
}

/// All frames of `bytes`, at most `count_max`, each at most `size_max` bytes.
///
/// # Errors
/// When a frame is too long, too many come (said as the size of the rest), or the last one is cut short.
pub fn split(bytes: &[u8], size_max: usize, count_max: usize) -> Result<Vec<&[u8]>, FrameError> {
    let mut frames = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let short = FrameError::Short { left: rest.len() };
        if frames.len() == count_max {
            return Err(short);
        }
        let (length, after) = rest.split_first_chunk::<LENGTH_SIZE>().ok_or(short.clone())?;
        let size = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if size > size_max {
            return Err(FrameError::TooLong { size, size_max });
        }
        let (frame, after) = after.split_at_checked(size).ok_or(short)?;
        frames.push(frame);
        rest = after;
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every frame that comes out of `stream` when it is pushed in pieces of these sizes.
    fn decode(stream: &[u8], pieces: &[usize], size_max: usize) -> (Vec<Vec<u8>>, bool) {
        let mut decoder = Decoder::new(size_max);
        let mut frames = Vec::new();
        let mut rest = stream;
        let mut pieces = pieces.iter().cycle();
        while !rest.is_empty() {
            let size = pieces.next().map_or(rest.len(), |size| (*size).clamp(1, rest.len()));
            let (piece, after) = rest.split_at(size);
            decoder.push(piece);
            rest = after;
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => frames.push(frame.to_vec()),
                    Ok(None) => break,
                    Err(_) => return (frames, false),
                }
            }
        }
        (frames, decoder.end().is_ok())
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_the_stream_is_cut(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
            pieces in proptest::collection::vec(1_usize..20, 1..5),
        ) {
            let mut stream = Vec::new();
            for frame in &frames {
                put_frame(&mut stream, frame);
            }
            prop_assert_eq!(&decode(&stream, &pieces, 40), &(frames.clone(), true));
            let split = split(&stream, 40, 8).expect("whole frames");
            prop_assert_eq!(split, frames.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }

        #[test]
        fn garbage_gives_the_same_frames_in_any_pieces_and_holds_no_more_than_it_was_given(
            stream in proptest::collection::vec(0_u8..4, 0..200),
            pieces in proptest::collection::vec(1_usize..20, 1..5),
        ) {
            prop_assert_eq!(decode(&stream, &pieces, 64), decode(&stream, &[200], 64));
            prop_assert_eq!(split(&stream, 64, 200).is_ok(), decode(&stream, &pieces, 64).1);
        }
    }

    #[test]
    fn a_frame_above_the_bound_breaks_the_stream_for_ever() {
        let mut decoder = Decoder::new(4);
        decoder.push(&5_u32.to_le_bytes());
        let error = FrameError::TooLong { size: 5, size_max: 4 };
        assert_eq!(decoder.next_frame(), Err(error.clone()));
        decoder.push(&[0; 1_000]);
        assert_eq!(decoder.left(), 0);
        assert_eq!(decoder.next_frame(), Err(error.clone()));
        assert_eq!(decoder.end(), Err(error));
        assert_eq!(split(&[0; 8], 4, 1), Err(FrameError::Short { left: 4 }));
    }
}
