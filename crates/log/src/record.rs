//! What stands in the journals.
//!
//! ```text
//!  lanes    0x01 term: lane u16 · term u64 · sequencer u16 · branch 32 · first_seqno u64 · height u64
//!           0x02 chunk: header · signature 64 · body (u32 length)
//!           0x03 cut: index u64            what follows chunk `index` so far is void
//!  headers  header · commit certificate    record number = height
//!  wal      height u64 · bytes
//! ```

use quipu_types::chunk::CHUNK_BODY_SIZE_MAX;
use quipu_types::codec::put_bytes;
use quipu_types::{
    ChunkHeader, Decode, DecodeError, Encode, Hash, Height, Lane, Reader, Seqno, Signature, Term,
    ValidatorIndex,
};

/// A chunk with its body, as it is stored and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChunk {
    /// What the sequencer signs.
    pub header: ChunkHeader,
    /// Over the header, tag `Chunk`.
    pub signature: Signature,
    /// The transactions, as [`quipu_types::chunk::put_transaction`] joins them.
    pub body: Vec<u8>,
}

/// The beginning of a sequencer's reign over a lane: one line of the failover log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermRecord {
    /// The lane.
    pub lane: Lane,
    /// The term.
    pub term: Term,
    /// Who sequences.
    pub sequencer: ValidatorIndex,
    /// Hash of the header that began the term; the chain id for the first.
    pub branch: Hash,
    /// Seqno that the term's first transaction has.
    pub first_seqno: Seqno,
    /// Height of the header that began the term; `0` for the first.
    pub height: Height,
}

/// A record of the write-ahead log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalRecord {
    /// The height it is about.
    pub height: Height,
    /// What consensus wrote.
    pub bytes: Vec<u8>,
}

pub(crate) const TERM: u8 = 1;
pub(crate) const CHUNK: u8 = 2;
pub(crate) const CUT: u8 = 3;

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

impl Encode for TermRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        self.lane.encode(out);
        self.term.encode(out);
        self.sequencer.encode(out);
        self.branch.encode(out);
        self.first_seqno.encode(out);
        self.height.encode(out);
    }
}

impl Decode for TermRecord {
    const SIZE_MIN: usize = 2 + 8 + 2 + 32 + 8 + 8;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            lane: Lane::decode(reader)?,
            term: Term::decode(reader)?,
            sequencer: ValidatorIndex::decode(reader)?,
            branch: Hash::decode(reader)?,
            first_seqno: Seqno::decode(reader)?,
            height: Height::decode(reader)?,
        })
    }
}
