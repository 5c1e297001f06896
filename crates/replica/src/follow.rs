//! The ledger as one reads along who is no validator: committed heights from a server that may lie, checked against the
//! genesis alone. Pure.
//!
//! ```text
//!  frame = tag u8 · Hello (1): chain 32 · height u64      first, and every second to who has everything
//!                 | Header (2): header · commit certificate
//!                 | Chunk (3): header · signature · body  after the header that newly orders it, lanes ascending, by index
//!                 | State (4): state certificate
//!
//!  bytes ── check: signatures, bodies (any thread) ──> Checked ── Follower: links, roots, clocks, cuts ──> Followed
//! ```
//! # Invariants
//! * F1 A [`Followed`] block is the one that a quorum of the genesis' validators committed at its height: its header's
//!   certificate, every rule that a header keeps to the one before, its chunks link by link from the cut before to its
//!   own cut, their sequencers' and their clients' signatures, bodies, lane roots and clocks.
//! * F2 What is refused changes nothing: the next server goes on from the same height.
//! * F3 No bytes allocate more than a small multiple of themselves, and a height's chunks have the bound that validators
//!   have ([`HELD_SIZE_MAX`]).
//! # Limits
//! That sequences of producers are dense is the quorum's word, and judged again when the block is executed. A hello's height
//! is the server's own word: of use for a progress bar.

use std::sync::Arc;

use quipu_clock::LaneClock;
use quipu_consensus::header::check as check_header;
use quipu_consensus::{Context, HeaderError, Parent};
use quipu_crypto::merkle::Frontier;
use quipu_log::{StoredChunk, TermRecord};
use quipu_proof::names::header_hash;
use quipu_proof::{CertificateError, verify_certificate, verify_state_certificate};
use quipu_types::{
    Code, CommitCertificate, Decode, DecodeError, Encode, Genesis, Hash, Header, Height, Lane,
    Reader, Seqno, StateCertificate, Tip, code,
};
use thiserror::Error;

use crate::admission::{Admissions, Admitted};
use crate::api::{Block, Chunk, Recovered};
use crate::lane::{ChunkFault, links};
use crate::peer::{ReceiveError, check_chunk};
use crate::replica::{HELD_SIZE_MAX, first_term, parent};

/// What a server sends to who follows the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "chunks and headers are what most frames are")]
pub enum Frame {
    /// Which ledger the server has, and how far.
    Hello {
        /// The chain id.
        chain: Hash,
        /// The newest committed height.
        height: Height,
    },
    /// The next height.
    Header {
        /// The header.
        header: Header,
        /// Why it is committed.
        certificate: CommitCertificate,
    },
    /// A chunk that the last header newly orders.
    Chunk(StoredChunk),
    /// What a quorum says of the state after a height.
    State(StateCertificate),
}

/// A frame whose signatures and bodies hold.
#[derive(Clone, Debug)]
pub enum Checked {
    /// See [`Frame::Hello`]; of the right chain.
    Hello(Height),
    /// A header with a quorum's certificate.
    Header(Box<(Header, CommitCertificate)>),
    /// A chunk as [`peer`](crate::peer) checks it (P1).
    Chunk(Box<Chunk>),
    /// A quorum's word.
    State(Arc<StateCertificate>),
}

/// Why a server's words are refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FollowError {
    /// It serves another ledger.
    #[error("it serves chain {found}, the genesis is of chain {pinned}")]
    OtherChain {
        /// The server's.
        found: Hash,
        /// The genesis'.
        pinned: Hash,
    },
    /// No frame.
    #[error("the bytes are no frame: {0}")]
    Malformed(#[from] DecodeError),
    /// A header that no quorum committed.
    #[error("the certificate of height {height} does not hold: {error}")]
    Certificate {
        /// Which.
        height: Height,
        /// Why.
        error: CertificateError,
    },
    /// A header that does not follow the one before.
    #[error("height {height} was expected; header {found}: {error}")]
    Header {
        /// What comes next.
        height: Height,
        /// What came.
        found: Height,
        /// The rule that it breaks.
        error: HeaderError,
    },
    /// A state certificate that no quorum signed.
    #[error("the state certificate of height {height} does not hold: {error}")]
    State {
        /// Which.
        height: Height,
        /// Why.
        error: CertificateError,
    },
    /// A chunk that is not what it says.
    #[error(transparent)]
    Chunk(#[from] ReceiveError),
    /// A chunk that is not the next of its lane, or that the header does not order.
    #[error("chunk {index} of lane {lane} is not the next that height {height} orders")]
    NotOrdered {
        /// The height that is open, or that was the last.
        height: Height,
        /// The lane.
        lane: Lane,
        /// The chunk.
        index: u64,
    },
    /// A chunk that links and can not stand.
    #[error("chunk {index} of lane {lane}: {fault}")]
    Fault {
        /// The lane.
        lane: Lane,
        /// The chunk.
        index: u64,
        /// Why.
        fault: ChunkFault,
    },
    /// Chunks of the height before are missing.
    #[error("chunks of height {height} are withheld")]
    Missing {
        /// Which.
        height: Height,
    },
    /// More bytes than a height can have.
    #[error("height {height} has more than {HELD_SIZE_MAX} bytes of chunks")]
    TooMuch {
        /// Which.
        height: Height,
    },
}

impl FollowError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::OtherChain { .. } => code::LINK_CHAIN,
            _ => code::FOLLOWED_FALSE,
        }
    }
}

/// Reads a frame and checks what needs no knowledge of what came before.
///
/// # Errors
/// What is wrong with it.
pub fn check(
    context: &Context,
    admissions: &Admissions,
    bytes: &[u8],
) -> Result<Checked, FollowError> {
    let chain = &context.chain;
    Ok(match Frame::from_bytes(bytes)? {
        Frame::Hello { chain: found, height } => {
            if found != *chain {
                return Err(FollowError::OtherChain { found, pinned: *chain });
            }
            Checked::Hello(height)
        }
        Frame::Header { header, certificate } => {
            let height = header.height;
            verify_certificate(chain, context.set_at(height), &header, &certificate)
                .map_err(|error| FollowError::Certificate { height, error })?;
            Checked::Header(Box::new((header, certificate)))
        }
        Frame::Chunk(stored) => Checked::Chunk(Box::new(check_chunk(context, admissions, stored)?)),
        Frame::State(certificate) => {
            let height = certificate.state.height;
            verify_state_certificate(chain, context.set_at(height), height, &certificate)
                .map_err(|error| FollowError::State { height, error })?;
            Checked::State(Arc::new(certificate))
        }
    })
}

/// A committed height, and everything that stores it: chunks first, then terms, then the header.
#[derive(Clone, Debug)]
pub struct Followed {
    /// The block.
    pub block: Arc<Block>,
    /// Why it is committed.
    pub certificate: CommitCertificate,
    /// The chunks that it newly orders, each lane's by index.
    pub chunks: Vec<Chunk>,
    /// The terms that begin with it.
    pub terms: Vec<TermRecord>,
}

/// How far a lane was followed.
#[derive(Clone, Debug)]
struct LaneEnd {
    term: TermRecord,
    tip: Tip,
    frontier: Frontier,
    /// Where the clock stands after the tip's chunk.
    clock: LaneClock,
}

/// A height whose chunks come.
#[derive(Debug)]
struct Open {
    header: Header,
    certificate: CommitCertificate,
    lanes: Vec<LaneEnd>,
    chunks: Vec<Chunk>,
    size: usize,
}

/// See the module's header.
#[derive(Debug)]
pub struct Follower {
    context: Context,
    parent: Parent,
    lanes: Vec<LaneEnd>,
    open: Option<Open>,
}

impl Follower {
    /// One that goes on after what was stored.
    ///
    /// # Panics
    /// When what was stored is of another number of lanes than the genesis.
    #[must_use]
    pub fn new(context: Context, genesis: &Genesis, recovered: &Recovered) -> Self {
        let parent = parent(recovered, genesis, context.chain);
        assert_eq!(recovered.lanes.len(), parent.cut.len(), "a lane was opened for each");
        let seed = quipu_clock::seed_value(&genesis.clock_seed);
        let ends = parent.cut.iter().zip(&recovered.lanes).map(|(tip, lane)| LaneEnd {
            term: lane.term.unwrap_or_else(|| first_term(&context, tip)),
            tip: *tip,
            frontier: lane.frontier.clone(),
            clock: LaneClock::resume(tip.lane, seed, lane.committed.as_ref()),
        });
        let lanes = ends.collect();
        Self { context, parent, lanes, open: None }
    }

    /// The last height that was followed.
    #[must_use]
    pub fn height(&self) -> Height {
        self.parent.height
    }

    /// What frames are checked with.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The term that each lane is in.
    pub fn terms(&self) -> impl Iterator<Item = &TermRecord> {
        self.lanes.iter().map(|lane| &lane.term)
    }

    /// Forgets the height that is not whole: another server begins it anew.
    pub fn reset(&mut self) {
        self.open = None;
    }

    /// Takes the next header; the block, if it orders no chunk.
    ///
    /// # Errors
    /// Why it is not the next (F2).
    pub fn header(
        &mut self,
        header: Header,
        certificate: CommitCertificate,
    ) -> Result<Option<Followed>, FollowError> {
        if let Some(open) = &self.open {
            return Err(FollowError::Missing { height: open.header.height });
        }
        check_header(&header, &self.parent, &self.context).map_err(|error| {
            FollowError::Header { height: self.parent.height.next(), found: header.height, error }
        })?;
        let lanes = self.lanes.clone();
        self.open = Some(Open { header, certificate, lanes, chunks: Vec::new(), size: 0 });
        Ok(self.finish())
    }

    /// Takes the next chunk; the block, if it was the last.
    ///
    /// # Errors
    /// Why it is not the next (F2).
    pub fn chunk(&mut self, chunk: Chunk) -> Result<Option<Followed>, FollowError> {
        let (lane, index) = (chunk.stored.header.lane, chunk.stored.header.index);
        let height = self.parent.height;
        let Some(open) = &mut self.open else {
            return Err(FollowError::NotOrdered { height, lane, index });
        };
        let height = open.header.height;
        open.size = open.size.saturating_add(chunk.stored.body.len());
        if open.size > HELD_SIZE_MAX {
            return Err(FollowError::TooMuch { height });
        }
        let place = usize::from(lane.get());
        let not_ordered = FollowError::NotOrdered { height, lane, index };
        let Some((end, wanted)) = open.lanes.get_mut(place).zip(open.header.cut.get(place)) else {
            return Err(not_ordered);
        };
        let tip = chunk.tip();
        let is_last = index == wanted.index;
        let is_next = index <= wanted.index && links(&end.term, &end.tip, &chunk.stored.header);
        if !is_next || (is_last && tip != *wanted) {
            return Err(not_ordered);
        }
        end.advance(&chunk, tip).map_err(|fault| FollowError::Fault { lane, index, fault })?;
        open.chunks.push(chunk);
        Ok(self.finish())
    }

    /// The open block, once its lanes reach its cut.
    fn finish(&mut self) -> Option<Followed> {
        let is_whole = |open: &mut Open| {
            open.lanes.iter().zip(&open.header.cut).all(|(end, wanted)| end.tip == *wanted)
        };
        let Open { header, certificate, mut lanes, chunks, .. } = self.open.take_if(is_whole)?;
        let hash = header_hash(&header);
        self.context.pass(&header);
        let mut terms = Vec::new();
        for (lane, term) in &header.term_changes {
            let Some(end) = lanes.get_mut(usize::from(lane.get())) else { continue };
            end.term = TermRecord {
                lane: *lane,
                term: *term,
                sequencer: self.context.epochs.sequencer(*lane, *term),
                branch: hash,
                first_seqno: end.tip.seqno.next(),
                height: header.height,
            };
            terms.push(end.term);
        }
        let schedule = &self.context.schedule;
        let parent = Parent::of(&header, certificate.clone(), &self.parent, schedule);
        let read = |lane, _: Seqno, _: Seqno| Ok::<_, std::convert::Infallible>(of(&chunks, lane));
        let block = match Block::assemble(header, &self.parent.cut, read) {
            Ok(block) => Arc::new(block),
            Err(never) => match never {},
        };
        (self.parent, self.lanes) = (parent, lanes);
        Some(Followed { block, certificate, chunks, terms })
    }
}

/// The transactions of a lane's chunks.
fn of(chunks: &[Chunk], lane: Lane) -> Vec<Arc<Admitted>> {
    let own = chunks.iter().filter(|chunk| chunk.stored.header.lane == lane);
    own.flat_map(|chunk| chunk.transactions.iter().cloned()).collect()
}

impl LaneEnd {
    /// Goes on with a chunk that links.
    fn advance(&mut self, chunk: &Chunk, tip: Tip) -> Result<(), ChunkFault> {
        let header = &chunk.stored.header;
        let mut frontier = self.frontier.clone();
        frontier.extend(&chunk.leaves());
        if frontier.root() != header.lane_root {
            return Err(ChunkFault::Root);
        }
        // What it says by itself was checked with the signature.
        self.clock.link(header).map_err(|_| ChunkFault::Clock)?;
        (self.frontier, self.tip) = (frontier, tip);
        Ok(())
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
            Self::Header { header, certificate } => {
                out.push(2);
                header.encode(out);
                certificate.encode(out);
            }
            Self::Chunk(chunk) => {
                out.push(3);
                chunk.encode(out);
            }
            Self::State(certificate) => {
                out.push(4);
                certificate.encode(out);
            }
        }
    }
}

impl Decode for Frame {
    const SIZE_MIN: usize = 1 + 32 + 8;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            1 => Self::Hello { chain: Hash::decode(reader)?, height: Height::decode(reader)? },
            2 => Self::Header {
                header: Header::decode(reader)?,
                certificate: CommitCertificate::decode(reader)?,
            },
            3 => Self::Chunk(StoredChunk::decode(reader)?),
            4 => Self::State(StateCertificate::decode(reader)?),
            tag => return Err(DecodeError::Tag { what: "frame", tag: u64::from(tag) }),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic_and_what_decodes_has_one_form(
            tag in 0_u8..6, bytes in proptest::collection::vec(0_u8..3, 0..900),
        ) {
            let mut all = vec![tag];
            all.extend(bytes);
            if let Ok(frame) = Frame::from_bytes(&all) {
                prop_assert_eq!(frame.to_bytes(), all);
            }
        }
    }
}
