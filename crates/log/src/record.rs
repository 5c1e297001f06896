//! What stands in the journals.
//!
//! ```text
//!  lanes    0x01 term: lane u16 · term u64 · sequencer u16 · branch 32 · first_seqno u64 · height u64
//!           0x02 chunk: header · signature 64 · body (u32 length)
//!           0x03 cut: index u64            what follows chunk `index` so far is void
//!  headers  header · commit certificate    record number = height
//!  wal      height u64 · bytes
//! ```

pub use quipu_types::chunk::StoredChunk;
use quipu_types::{
    Decode, DecodeError, Encode, Hash, Height, Lane, Reader, Seqno, Term, ValidatorIndex,
};

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
