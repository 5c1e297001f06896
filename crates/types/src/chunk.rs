//! What a sequencer signs and streams: consecutive transactions of one lane, with clock ticks.
//!
//! ```text
//!  chunk = header · signature 64 · body (u32 length)
//!  header: lane u16 · term u64 · branch 32 · index u64 · first_seqno u64 · count u32 · prev 32
//!          · lane_root 32 · body_digest 32 · stripes (option of 32) · clock (count u32, entries)
//!  body:   each transaction as a u32 length and its bytes
//! ```
//! `prev` is the hash of the header before it; the first of a term has `H(branch ‖ tip)`. `lane_root` is the
//! lane's RFC 9162 root after the chunk. `body_digest` is the BLAKE3 of the body: bulk bytes in transit; what
//! is proven of the body is in the lane tree. `stripes` is what pieces of the body prove themselves against on their way:
//! it says nothing of the body that `body_digest` does not say. Chain id and epoch are in the signature's domain.

use crate::codec::{Decode, DecodeError, Encode, Reader, put_bytes, put_list, put_option};
use crate::number::{Hash, Height, Lane, Seqno, Signature, Term};

/// Most bytes of a chunk's body.
pub const CHUNK_BODY_SIZE_MAX: usize = 1 << 20;
/// Most clock entries of a chunk.
pub const CLOCK_ENTRY_COUNT_MAX: usize = 4_096;
/// Most hashes between two values that a clock entry states: a verifier's unit of work.
pub const TICKS_PER_ENTRY_MAX: u64 = 8_192;

const _: () = assert!(
    crate::transaction::TRANSACTION_SIZE_MAX + 4 <= CHUNK_BODY_SIZE_MAX,
    "the largest transaction fits a chunk"
);

/// What is mixed into a lane's clock after some hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Nothing: a checkpoint.
    Nothing,
    /// This chunk's batch: its `lane_root`.
    Batch,
    /// A tip of another lane.
    LaneTip {
        /// The lane.
        lane: Lane,
        /// The chunk's index.
        index: u64,
        /// The chunk's hash.
        hash: Hash,
    },
    /// A committed header.
    Header {
        /// Its height.
        height: Height,
        /// Its hash.
        hash: Hash,
    },
    /// Precommits or state votes, as one digest.
    Votes(Hash),
}

/// A stretch of the clock: `count` hashes, then a mixing, then the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockEntry {
    /// Hashes before the mixing, at most [`TICKS_PER_ENTRY_MAX`].
    pub count: u64,
    /// What is mixed in.
    pub mix: Mix,
    /// The clock's value after the mixing.
    pub value: Hash,
}

/// The part of a chunk that links and is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// The lane.
    pub lane: Lane,
    /// The term.
    pub term: Term,
    /// Hash of the header that began the term (the chain id for the first).
    pub branch: Hash,
    /// Number of the chunk in its lane, from 1, never reset.
    pub index: u64,
    /// Seqno of the first transaction; what it would be when there is none.
    pub first_seqno: Seqno,
    /// How many transactions there are; `0` in a chunk of clock alone.
    pub count: u32,
    /// Hash of the chunk before.
    pub prev: Hash,
    /// Root of the lane's tree after this chunk.
    pub lane_root: Hash,
    /// BLAKE3 of the body.
    pub body_digest: Hash,
    /// RFC 9162 root over the stripes in which the body travels; none when it travels whole.
    pub stripes: Option<Hash>,
    /// The clock since the chunk before.
    pub clock: Vec<ClockEntry>,
}

/// A chunk with its body, as it is stored and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChunk {
    /// What the sequencer signs.
    pub header: ChunkHeader,
    /// Over the header, tag `Chunk`.
    pub signature: Signature,
    /// The transactions, as [`put_transaction`] joins them.
    pub body: Vec<u8>,
}

impl ChunkHeader {
    /// Seqno of the last transaction, or the one before `first_seqno` when there is none.
    ///
    /// # Panics
    /// Never for a decoded header: decoding refuses a `first_seqno` of 0 and an overflow.
    #[must_use]
    pub fn last_seqno(&self) -> Seqno {
        let last = self.first_seqno.get().checked_add(u64::from(self.count));
        Seqno::new(last.and_then(|end| end.checked_sub(1)).expect("decoding bounds the seqnos"))
    }
}

impl Encode for Mix {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nothing => out.push(0),
            Self::Batch => out.push(1),
            Self::LaneTip { lane, index, hash } => {
                out.push(2);
                lane.encode(out);
                out.extend_from_slice(&index.to_le_bytes());
                hash.encode(out);
            }
            Self::Header { height, hash } => {
                out.push(3);
                height.encode(out);
                hash.encode(out);
            }
            Self::Votes(digest) => {
                out.push(4);
                digest.encode(out);
            }
        }
    }
}

impl Decode for Mix {
    const SIZE_MIN: usize = 1;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            0 => Self::Nothing,
            1 => Self::Batch,
            2 => Self::LaneTip {
                lane: Lane::decode(reader)?,
                index: reader.u64()?,
                hash: Hash::decode(reader)?,
            },
            3 => Self::Header { height: Height::decode(reader)?, hash: Hash::decode(reader)? },
            4 => Self::Votes(Hash::decode(reader)?),
            tag => return Err(DecodeError::Tag { what: "clock mix", tag: u64::from(tag) }),
        })
    }
}

impl Encode for ClockEntry {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_le_bytes());
        self.mix.encode(out);
        self.value.encode(out);
    }
}

impl Decode for ClockEntry {
    const SIZE_MIN: usize = 8 + 1 + 32;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.u64()?;
        if count > TICKS_PER_ENTRY_MAX {
            return Err(DecodeError::TooLong {
                what: "clock entry",
                size: count,
                size_max: TICKS_PER_ENTRY_MAX,
            });
        }
        Ok(Self { count, mix: Mix::decode(reader)?, value: Hash::decode(reader)? })
    }
}

impl Encode for ChunkHeader {
    fn encode(&self, out: &mut Vec<u8>) {
        self.lane.encode(out);
        self.term.encode(out);
        self.branch.encode(out);
        out.extend_from_slice(&self.index.to_le_bytes());
        self.first_seqno.encode(out);
        out.extend_from_slice(&self.count.to_le_bytes());
        self.prev.encode(out);
        self.lane_root.encode(out);
        self.body_digest.encode(out);
        put_option(out, self.stripes.as_ref());
        put_list(out, &self.clock);
    }
}

impl Decode for ChunkHeader {
    const SIZE_MIN: usize = 2 + 8 + 32 + 8 + 8 + 4 + 3 * 32 + 1 + 4;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let header = Self {
            lane: Lane::decode(reader)?,
            term: Term::decode(reader)?,
            branch: Hash::decode(reader)?,
            index: reader.u64()?,
            first_seqno: Seqno::decode(reader)?,
            count: reader.u32()?,
            prev: Hash::decode(reader)?,
            lane_root: Hash::decode(reader)?,
            body_digest: Hash::decode(reader)?,
            stripes: reader.option("stripes")?,
            clock: reader.list("clock entries", CLOCK_ENTRY_COUNT_MAX)?,
        };
        let end = header.first_seqno.get().checked_add(u64::from(header.count));
        if header.first_seqno.get() == 0 || end.is_none() {
            return Err(DecodeError::NotCanonical { what: "chunk seqnos" });
        }
        Ok(header)
    }
}

impl Encode for StoredChunk {
    fn encode(&self, out: &mut Vec<u8>) {
        self.header.encode(out);
        self.signature.encode(out);
        put_bytes(out, &self.body);
    }
}

impl Decode for StoredChunk {
    const SIZE_MIN: usize = ChunkHeader::SIZE_MIN + 64 + 4;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            header: ChunkHeader::decode(reader)?,
            signature: Signature::decode(reader)?,
            body: reader.bytes("chunk body", CHUNK_BODY_SIZE_MAX)?.to_vec(),
        })
    }
}

/// Appends one transaction's bytes to a chunk's body.
pub fn put_transaction(body: &mut Vec<u8>, bytes: &[u8]) {
    put_bytes(body, bytes);
}

/// The transactions of a chunk's body, as bytes, in order; `count` is the header's.
pub fn split_body(body: &[u8], count: u32) -> Result<Vec<&[u8]>, DecodeError> {
    let mut reader = Reader::new(body);
    let mut transactions =
        Vec::with_capacity(usize::try_from(count).unwrap_or(0).min(body.len() / 4));
    for _ in 0..count {
        transactions.push(reader.bytes("transaction", crate::transaction::TRANSACTION_SIZE_MAX)?);
    }
    reader.end()?;
    Ok(transactions)
}
