//! Between a replica and the log: which effect is which write, and what a replica starts from. No file is touched here
//! but through the ledger that the driver opened.

use std::sync::Arc;

use quipu_consensus::core::STATE_COUNT_MAX;
use quipu_log::{Before, Ledger, LedgerReader, LogError};
use quipu_proof::Epochs;
use quipu_proof::names::chunk_hash;
use quipu_types::chunk::split_body;
use quipu_types::{
    ChunkHeader, Code, DecodeError, Encode, Hash, Header, Height, Lane, PublicKey, Seqno,
    StateCertificate, Tip, ValidatorSet,
};
use thiserror::Error;

use crate::admission::{Admitted, readmit_many};
use crate::api::{Block, Chunk, Effect, Producer, Recovered, RecoveredLane};
use crate::fetch::CHUNK_COUNT_MAX;
use crate::peer::{HEADER_COUNT_MAX, PeerMessage, Request};

/// Bytes after which an answer to another validator is full.
const SERVE_SIZE: usize = 1 << 20;
/// Transactions that are read back, and hashed, together.
const READ_COUNT: usize = 1_024;

/// Why a replica's beginning cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The log says so.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A chunk's body is not a list of transactions, though its digest is right.
    #[error("lane {lane}, chunk {index}: {reason}")]
    Body {
        /// The lane.
        lane: Lane,
        /// The chunk.
        index: u64,
        /// What is wrong.
        reason: DecodeError,
    },
    /// A stored transaction is none, though its chunk's digest is right.
    #[error("lane {lane}, seqno {seqno}: the stored transaction is refused with {code}")]
    Transaction {
        /// The lane.
        lane: Lane,
        /// The number.
        seqno: Seqno,
        /// What is wrong.
        code: Code,
    },
    /// A lane ends before a committed cut.
    #[error("lane {lane} ends at seqno {seqno}, which is below a committed cut")]
    Short {
        /// The lane.
        lane: Lane,
        /// The last that was read.
        seqno: Seqno,
    },
}

/// Does the effects that write. `false` for every other effect, which is the driver's to do.
///
/// # Errors
/// What the log says; the process must stop then.
pub fn write(effect: &Effect, ledger: &mut Ledger) -> Result<bool, LogError> {
    match effect {
        Effect::WriteTerm(term) => ledger.append_term(term)?,
        Effect::WriteChunk(chunk) => {
            ledger.append_chunk(&chunk.stored, &chunk.leaves())?;
        }
        Effect::WriteVote { height, bytes } => ledger.append_wal(*height, bytes)?,
        Effect::CutLane { lane, index } => {
            ledger.truncate_after(*lane, *index)?;
        }
        Effect::WriteHeader { block, certificate } => {
            ledger.append_header(&block.header, certificate)?;
        }
        Effect::BeginHeight(height) => ledger.begin(*height)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// What a replica starts from: `found` as the ledger was opened, `producers` from the state at the last header.
///
/// # Errors
/// When stored bytes cannot be read back.
pub fn recover(
    ledger: &Ledger,
    found: quipu_log::Recovered,
    chain: &Hash,
    epochs: Epochs,
    producers: Vec<(Lane, PublicKey, Producer)>,
) -> Result<Recovered, RecoverError> {
    let head = found.committed;
    let height = head.as_ref().map_or(Height::default(), |(header, _)| header.height);
    let lane_count = u16::try_from(found.tips.len()).unwrap_or(u16::MAX);
    let mut lanes = Vec::with_capacity(found.tips.len());
    for (tip, terms) in found.tips.iter().zip(&found.terms) {
        let index = committed_index(head.as_ref().map(|(header, _)| header), tip.lane);
        let committed = match index {
            0 => None,
            _ => Some(ledger.chunk_header(tip.lane, index)?),
        };
        let seqno = committed.as_ref().map_or(Seqno::default(), ChunkHeader::last_seqno);
        let frontier = ledger.frontier(tip.lane, seqno)?;
        let mut suffix = (index.saturating_add(1)..=tip.index)
            .map(|index| read_chunk(ledger, chain, lane_count, tip.lane, index).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        // A term's record is durable before the header that begins it is written: that header comes again.
        let next_term = terms.last().filter(|term| term.height > height).map(|next| {
            let own = suffix.partition_point(|chunk| chunk.stored.header.term < next.term);
            (*next, suffix.split_off(own))
        });
        let term = terms.iter().rev().find(|term| term.height <= height).copied();
        lanes.push(RecoveredLane { term, next_term, frontier, committed, suffix });
    }
    let Before { primary, certified } = said_before(&ledger.reader(), height.next(), &epochs)?;
    let primary = usize::from(primary);
    let records = found.wal.into_iter().map(|record| record.bytes).collect();
    Ok(Recovered { lanes, head, epochs, primary, certified, records, producers })
}

/// The epochs of a ledger up to that of the height after its last header: those that its log knows of, from the genesis' `set`
/// on. Certificates were verified as they came.
///
/// # Errors
/// When stored bytes cannot be read back.
pub fn read_epochs(reader: &LedgerReader, set: ValidatorSet) -> Result<Epochs, LogError> {
    let mut epochs = Epochs::new(set, reader.lane_count());
    while let Some((header, _)) = reader.handover(epochs.current().set.epoch)? {
        epochs.pass(&header);
    }
    Ok(epochs)
}

/// Lets go what is before a height, as far as segments hold nothing else; what the rest needs of it stays known.
///
/// # Errors
/// What the log says.
pub fn prune(ledger: &mut Ledger, height: Height, epochs: &Epochs) -> Result<(), LogError> {
    let before = said_before(&ledger.reader(), ledger.first_kept(height), epochs)?;
    ledger.prune(height, before)
}

/// What the headers before a height said last of what not every one says.
///
/// # Errors
/// When stored bytes cannot be read back.
pub fn said_before(
    reader: &LedgerReader,
    height: Height,
    epochs: &Epochs,
) -> Result<Before, LogError> {
    let schedule = &epochs.at(height).schedule;
    let (mut primary, mut certified) = (None, None);
    let mut below = height.get();
    while below > 1 && (primary.is_none() || certified.is_none()) {
        below = below.saturating_sub(1);
        let header = match reader.header(Height::new(below)) {
            Err(error) if error.is_pruned() => break,
            read => read?.0,
        };
        primary = primary.or_else(|| schedule.primary_named(&header));
        let embedded = header.state_certificate.map(|certificate| certificate.state.height);
        certified = certified.or(embedded);
    }
    let gone = reader.before();
    let primary = primary.and_then(|rank| u16::try_from(rank).ok()).unwrap_or(gone.primary);
    Ok(Before { primary, certified: certified.unwrap_or(gone.certified) })
}

/// What another validator asked for, as messages: what is not held is left out, and so is what does not fit one answer.
/// `certificate` gives a height's state certificate, which the log does not hold.
///
/// # Errors
/// When stored bytes cannot be read back.
pub fn serve(
    ledger: &Ledger,
    certificate: impl Fn(Height) -> Option<StateCertificate>,
    request: &Request,
) -> Result<Vec<PeerMessage>, LogError> {
    match request {
        Request::Headers { from } => {
            let reader = ledger.reader();
            let (mut headers, mut size) = (Vec::new(), 0_usize);
            let mut height = (*from).max(Height::new(1));
            if height < reader.first_height() {
                return Ok(Vec::new());
            }
            while height <= reader.height() && headers.len() < HEADER_COUNT_MAX && size < SERVE_SIZE
            {
                let (header, certificate) = reader.header(height)?;
                size = size
                    .saturating_add(header.to_bytes().len())
                    .saturating_add(certificate.to_bytes().len());
                headers.push((header, certificate));
                height = height.next();
            }
            let is_empty = headers.is_empty();
            Ok(if is_empty { Vec::new() } else { vec![PeerMessage::Headers(headers)] })
        }
        Request::Chunks { first, tip } => serve_chunks(ledger, *first, tip),
        Request::Value { .. } => Ok(Vec::new()),
        Request::States { from } => {
            let heights = (from.get()..=ledger.reader().height().get()).take(STATE_COUNT_MAX);
            let certificates: Vec<StateCertificate> =
                heights.map(Height::new).filter_map(certificate).collect();
            let is_empty = certificates.is_empty();
            Ok(if is_empty { Vec::new() } else { vec![PeerMessage::States(certificates)] })
        }
    }
}

fn serve_chunks(ledger: &Ledger, first: u64, tip: &Tip) -> Result<Vec<PeerMessage>, LogError> {
    let (mut chunks, mut size) = (Vec::new(), 0_usize);
    match ledger.chunk(tip.lane, tip.index) {
        Ok(stored) if chunk_hash(&stored.header) == tip.chunk_hash => {}
        Ok(_) | Err(LogError::NoChunk { .. } | LogError::NoLane { .. }) => return Ok(chunks),
        Err(error) if error.is_pruned() => return Ok(chunks),
        Err(error) => return Err(error),
    }
    let last = tip.index.min(first.saturating_add(CHUNK_COUNT_MAX).saturating_sub(1));
    for index in first.max(1)..=last {
        let stored = match ledger.chunk(tip.lane, index) {
            Err(error) if error.is_pruned() => return Ok(Vec::new()),
            stored => stored?,
        };
        size = size.saturating_add(stored.body.len());
        chunks.push(PeerMessage::Chunk(stored));
        if size >= SERVE_SIZE {
            break;
        }
    }
    Ok(chunks)
}

/// The block of a committed height, read back.
///
/// # Errors
/// When stored bytes cannot be read back.
pub fn read_block(
    reader: &LedgerReader,
    chain: &Hash,
    height: Height,
) -> Result<Block, RecoverError> {
    let (header, _) = reader.header(height)?;
    let lane_count = u16::try_from(header.cut.len()).unwrap_or(u16::MAX);
    let cut = cut_before(reader, height)?;
    Block::assemble(header, &cut, |lane, after, to| {
        read_lane(reader, chain, lane_count, lane, after, to)
    })
}

/// The cut of the header before `height`; empty at height 1.
///
/// # Errors
/// When that header cannot be read back.
pub fn cut_before(reader: &LedgerReader, height: Height) -> Result<Vec<Tip>, LogError> {
    match height.get() {
        0 | 1 => Ok(Vec::new()),
        number => Ok(reader.header(Height::new(number.saturating_sub(1)))?.0.cut),
    }
}

fn read_lane(
    reader: &LedgerReader,
    chain: &Hash,
    lane_count: u16,
    lane: Lane,
    after: Seqno,
    to: Seqno,
) -> Result<Vec<Arc<Admitted>>, RecoverError> {
    let mut transactions = Vec::new();
    let mut last = after;
    let mut read = reader.read_from(lane, after.next())?;
    while last < to {
        let first = last.next();
        let mut some: Vec<Arc<[u8]>> = Vec::with_capacity(READ_COUNT);
        for read in read.by_ref().take(READ_COUNT) {
            let (seqno, bytes) = read?;
            some.push(bytes.into());
            last = seqno;
            if seqno >= to {
                break;
            }
        }
        if some.is_empty() {
            return Err(RecoverError::Short { lane, seqno: last });
        }
        transactions.extend(admitted(chain, lane_count, lane, first, some)?);
    }
    assert_eq!(last, to, "a lane's seqnos are dense");
    Ok(transactions)
}

fn committed_index(head: Option<&Header>, lane: Lane) -> u64 {
    let tip: Option<&Tip> = head.and_then(|head| head.cut.iter().find(|tip| tip.lane == lane));
    tip.map_or(0, |tip| tip.index)
}

fn read_chunk(
    ledger: &Ledger,
    chain: &Hash,
    lane_count: u16,
    lane: Lane,
    index: u64,
) -> Result<Chunk, RecoverError> {
    let stored = ledger.chunk(lane, index)?;
    let wrong = |reason| RecoverError::Body { lane, index, reason };
    let bodies = split_body(&stored.body, stored.header.count).map_err(wrong)?;
    let bodies = bodies.into_iter().map(Arc::from).collect();
    let transactions = admitted(chain, lane_count, lane, stored.header.first_seqno, bodies)?;
    let hash = chunk_hash(&stored.header);
    Ok(Chunk { stored, hash, transactions })
}

/// The transactions that stand in a lane from `first` on, read from their bytes.
fn admitted(
    chain: &Hash,
    lane_count: u16,
    lane: Lane,
    first: Seqno,
    bytes: Vec<Arc<[u8]>>,
) -> Result<Vec<Arc<Admitted>>, RecoverError> {
    let mut seqno = first;
    let mut all = Vec::with_capacity(bytes.len());
    for read in readmit_many(chain, lane_count, bytes) {
        let read = read.map_err(|code| RecoverError::Transaction { lane, seqno, code })?;
        all.push(Arc::new(read));
        seqno = seqno.next();
    }
    Ok(all)
}
