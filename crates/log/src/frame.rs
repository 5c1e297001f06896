//! Frames and segment headers, byte by byte.
//!
//! ```text
//!  segment  0        8         12     16     24      32        64
//!           QUIPULOG │ version │ crc  │ tag  │ first │ chain   │ frames …  zeros …
//!
//!  frame    0        8        12        16         20         24
//!           synced   │ length │ ordinal │ crc body │ crc head │ bytes, zeros up to a multiple of 8
//! ```
//! * `first` is the number of the segment's first record, `ordinal` counts within the segment from 0.
//! * `synced`: all records up to this number were known durable when the frame was made.
//! * The head's CRC-32C starts from the chain and the journal's tag and covers the segment's `first`, the frame's
//!   offset and the head, so that a frame counts in one place only; the body's covers the padding too.
//! * A head of zeros is the end. A record has at least one byte, so no frame is all zeros.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets are below 2^32 and sizes below RECORD_SIZE_MAX, in u64"
)]

use quipu_types::{Hash, Reader};

/// Bytes before a segment's first frame.
pub(crate) const SEGMENT_HEADER_SIZE: u64 = 64;
/// Bytes before a frame's record.
pub(crate) const HEAD_SIZE: usize = 24;
/// Frames begin at multiples of this.
pub(crate) const ALIGNMENT: usize = 8;
/// Most bytes of a record: the largest header with two certificates of 128 validators and 64 lanes.
pub const RECORD_SIZE_MAX: usize = 4 << 20;

const MAGIC: [u8; 8] = *b"QUIPULOG";
const VERSION: u32 = 1;

/// What a journal's checksums start from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed {
    chain: Hash,
    tag: u64,
    crc: u32,
}

/// A frame's head, its checksum found right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) synced: u64,
    pub(crate) length: u32,
    pub(crate) ordinal: u32,
    pub(crate) body_crc: u32,
}

impl Head {
    /// Bytes of the whole frame.
    pub(crate) fn frame_size(&self) -> u64 {
        frame_size(usize::try_from(self.length).unwrap_or(usize::MAX))
    }
}

/// Bytes of the frame of a record of `length` bytes.
pub(crate) fn frame_size(length: usize) -> u64 {
    let size = length.next_multiple_of(ALIGNMENT) + HEAD_SIZE;
    u64::try_from(size).expect("sizes fit 64 bits")
}

impl Seed {
    pub(crate) fn new(chain: &Hash, tag: u64) -> Self {
        let crc = crc32c::crc32c_append(crc32c::crc32c(chain.bytes()), &tag.to_le_bytes());
        Self { chain: *chain, tag, crc }
    }

    pub(crate) fn segment_header(&self, first: u64) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        let mut rest = self.tag.to_le_bytes().to_vec();
        rest.extend_from_slice(&first.to_le_bytes());
        rest.extend_from_slice(self.chain.bytes());
        bytes
            .extend_from_slice(&crc32c::crc32c_append(crc32c::crc32c(&bytes), &rest).to_le_bytes());
        bytes.extend_from_slice(&rest);
        bytes
    }

    fn head_crc(&self, first: u64, offset: u64, head: &[u8]) -> u32 {
        let mut crc = crc32c::crc32c_append(self.crc, &first.to_le_bytes());
        crc = crc32c::crc32c_append(crc, &offset.to_le_bytes());
        crc32c::crc32c_append(crc, head)
    }

    /// Fills in the head of `frame`: 24 bytes that are to be overwritten, the record, its padding.
    pub(crate) fn seal(&self, frame: &mut [u8], length: usize, place: FramePlace) {
        let Some((head, body)) = frame.split_first_chunk_mut::<HEAD_SIZE>() else {
            unreachable!("a frame has a head");
        };
        let mut bytes = Vec::with_capacity(HEAD_SIZE);
        bytes.extend_from_slice(&place.synced.to_le_bytes());
        let length = u32::try_from(length).expect("a record has at most RECORD_SIZE_MAX bytes");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&place.ordinal.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
        let crc = self.head_crc(place.first, place.offset, &bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        head.copy_from_slice(&bytes);
    }

    /// The head at `offset`, if that is what `bytes` begin with.
    pub(crate) fn head(&self, first: u64, offset: u64, bytes: &[u8]) -> Option<Head> {
        let covered = bytes.get(..HEAD_SIZE - 4)?;
        let mut reader = Reader::new(bytes);
        let synced = reader.u64().ok()?;
        let length = reader.u32().ok()?;
        let ordinal = reader.u32().ok()?;
        let body_crc = reader.u32().ok()?;
        let crc = reader.u32().ok()?;
        let length_fits =
            usize::try_from(length).is_ok_and(|size| (1..=RECORD_SIZE_MAX).contains(&size));
        let valid = length_fits && crc == self.head_crc(first, offset, covered);
        valid.then_some(Head { synced, length, ordinal, body_crc })
    }
}

/// Where a frame goes and what is known when it does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FramePlace {
    pub(crate) first: u64,
    pub(crate) offset: u64,
    pub(crate) ordinal: u32,
    pub(crate) synced: u64,
}

/// Name of the segment whose first record is `first`.
pub(crate) fn segment_name(first: u64) -> String {
    format!("{first:020}.log")
}

/// First record of the segment with this name.
pub(crate) fn segment_first(name: &str) -> Option<u64> {
    let first = name.strip_suffix(".log")?.parse().ok()?;
    (segment_name(first) == name && first > 0).then_some(first)
}
