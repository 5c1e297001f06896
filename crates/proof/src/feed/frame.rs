//! The frames of a feed.
//!
//! ```text
//!  frame = tag u8 · Hello    (1): chain 32 · height u64         first, and every second while nothing else comes
//!                 | Epoch    (8): header · commit certificate    after the greeting: how epochs ended that the consumer does not know, in order
//!                 | Base     (2): header · commit certificate    of the height that was followed last; none for the genesis
//!                 | Resumed  (3): lane u16 · branch 32 · frontier (size u64 · peaks)      each lane, ascending
//!                 | Chunk    (4): header · signature 64 · body   the next of its lane; at first the one that the cursor is in
//!                 | RollBack (5): lane u16 · index u64           chunks after `index` do not count
//!                 | Receipts (6): lane u16 · list of receipts    of what the next cut adds to a lane, in parts
//!                 | Cut      (7): header · commit certificate · option of: state certificate
//!                                 · list of hashes              the next height, and what stands around the receipts
//! ```

use quipu_crypto::merkle::Frontier;
use quipu_types::agreement::LANE_COUNT_MAX;
use quipu_types::chunk::StoredChunk;
use quipu_types::codec::{put_list, put_option};
use quipu_types::{
    CommitCertificate, Decode, DecodeError, Encode, Hash, Header, Height, Lane, Reader, Receipt,
    StateCertificate,
};

/// Most receipts of one frame.
pub const RECEIPT_COUNT_MAX: usize = 16_384;
/// Most hashes around the receipts of some lanes.
const PATH_SIZE_MAX: usize = LANE_COUNT_MAX * 128;

/// What a server sends to who follows lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "chunks are what most frames are")]
pub enum Frame {
    /// Which ledger it has, and how far.
    Hello {
        /// The chain id.
        chain: Hash,
        /// The newest committed height.
        height: Height,
    },
    /// How an epoch ended: by whom headers are signed from then on.
    Epoch {
        /// Its last header.
        header: Box<Header>,
        /// Why it is committed.
        certificate: CommitCertificate,
    },
    /// The header that the feed goes on from.
    Base {
        /// The header.
        header: Box<Header>,
        /// Why it is committed.
        certificate: CommitCertificate,
    },
    /// The answer to a lane's cursor.
    Resumed(Resumed),
    /// The next chunk of a lane.
    Chunk(StoredChunk),
    /// What follows a chunk of a lane does not count.
    RollBack {
        /// The lane.
        lane: Lane,
        /// The last chunk that stays.
        index: u64,
    },
    /// Outcomes of transactions that the next cut adds.
    Receipts {
        /// Their lane.
        lane: Lane,
        /// In the lane's order.
        receipts: Vec<Receipt>,
    },
    /// The next height.
    Cut(Box<Cut>),
}

/// Where a lane goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// The lane.
    pub lane: Lane,
    /// The branch of its last transaction that counts.
    pub branch: Hash,
    /// The tree at that transaction; its size is the seqno.
    pub frontier: Frontier,
}

/// A committed height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The header.
    pub header: Header,
    /// Why it is committed.
    pub certificate: CommitCertificate,
    /// What its execution gave; none where it adds nothing to the lanes that are followed.
    pub results: Option<Results>,
}

/// What certifies the receipts of a height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Results {
    /// A quorum's word on the receipts' root.
    pub certificate: StateCertificate,
    /// What stands around the receipts that were sent, in the height's tree.
    pub path: Vec<Hash>,
}

impl Frame {
    /// For errors.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "a greeting",
            Self::Epoch { .. } => "a hand-over",
            Self::Base { .. } => "a base",
            Self::Resumed(_) => "an answer to a cursor",
            Self::Chunk(_) => "a chunk",
            Self::RollBack { .. } => "a roll back",
            Self::Receipts { .. } => "receipts",
            Self::Cut(_) => "a cut",
        }
    }
}

impl Encode for Frame {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello { chain, height } => {
                out.push(1);
                chain.encode(out);
                height.encode(out);
            }
            Self::Base { header, certificate } => {
                out.push(2);
                header.encode(out);
                certificate.encode(out);
            }
            Self::Epoch { header, certificate } => {
                out.push(8);
                header.encode(out);
                certificate.encode(out);
            }
            Self::Resumed(Resumed { lane, branch, frontier }) => {
                out.push(3);
                lane.encode(out);
                branch.encode(out);
                frontier.encode(out);
            }
            Self::Chunk(chunk) => {
                out.push(4);
                chunk.encode(out);
            }
            Self::RollBack { lane, index } => {
                out.push(5);
                lane.encode(out);
                out.extend_from_slice(&index.to_le_bytes());
            }
            Self::Receipts { lane, receipts } => {
                out.push(6);
                lane.encode(out);
                put_list(out, receipts);
            }
            Self::Cut(cut) => {
                out.push(7);
                cut.header.encode(out);
                cut.certificate.encode(out);
                put_option(out, cut.results.as_ref());
            }
        }
    }
}

impl Decode for Frame {
    const SIZE_MIN: usize = 1 + 2 + 4;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            1 => Self::Hello { chain: Hash::decode(reader)?, height: Height::decode(reader)? },
            2 => Self::Base {
                header: Box::new(Header::decode(reader)?),
                certificate: CommitCertificate::decode(reader)?,
            },
            3 => Self::Resumed(Resumed {
                lane: Lane::decode(reader)?,
                branch: Hash::decode(reader)?,
                frontier: Frontier::decode(reader)?,
            }),
            4 => Self::Chunk(StoredChunk::decode(reader)?),
            5 => Self::RollBack { lane: Lane::decode(reader)?, index: reader.u64()? },
            6 => Self::Receipts {
                lane: Lane::decode(reader)?,
                receipts: reader.list("receipts", RECEIPT_COUNT_MAX)?,
            },
            7 => Self::Cut(Box::new(Cut {
                header: Header::decode(reader)?,
                certificate: CommitCertificate::decode(reader)?,
                results: reader.option("results")?,
            })),
            8 => Self::Epoch {
                header: Box::new(Header::decode(reader)?),
                certificate: CommitCertificate::decode(reader)?,
            },
            tag => return Err(DecodeError::Tag { what: "frame", tag: u64::from(tag) }),
        })
    }
}

impl Encode for Results {
    fn encode(&self, out: &mut Vec<u8>) {
        self.certificate.encode(out);
        put_list(out, &self.path);
    }
}

impl Decode for Results {
    const SIZE_MIN: usize = StateCertificate::SIZE_MIN + 4;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let certificate = StateCertificate::decode(reader)?;
        Ok(Self { certificate, path: reader.list("hashes of a path", PATH_SIZE_MAX)? })
    }
}
