//! One lane as its sequencer keeps it: the queue, the tree, the clock, and the chunks that no cut covers yet.
//!
//! ```text
//!  committed ─ chunk ─ chunk ─ chunk <─ queue of transactions
//!                        ^       └ tip (written)
//!                        └ durable
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use quipu_clock::Generator;
use quipu_consensus::Holdings;
use quipu_crypto::hash::blake3;
use quipu_crypto::merkle::Frontier;
use quipu_log::{StoredChunk, TermRecord};
use quipu_proof::names;
use quipu_types::chunk::{CHUNK_BODY_SIZE_MAX, TICKS_PER_ENTRY_MAX, put_transaction};
use quipu_types::{ChunkHeader, Hash, Height, Lane as LaneNumber, Mix, Signature, Tip};

use crate::admission::Admitted;
use crate::api::Chunk;

/// Most microseconds of ticks that are made up for at once: a clock that was stopped longer stays behind.
const CATCH_UP_US_MAX: u64 = 1_000_000;
/// A chunk of clock alone is cut when less than this still fits.
const TICK_ROOM_MIN: u64 = TICKS_PER_ENTRY_MAX * 64;
/// Bytes of a transaction's length in a body.
const LENGTH_SIZE: usize = 4;

/// A committed header that clocks mix.
pub(crate) type Mixed = (Height, Hash);

/// Whether a chunk may follow `tip` in the term `term` (the one predicate of acks, tips and prevotes).
pub(crate) fn links(term: &TermRecord, tip: &Tip, header: &ChunkHeader) -> bool {
    let prev = if tip.term == term.term && tip.index > 0 {
        tip.chunk_hash
    } else {
        names::term_start(&term.branch, &tip.chunk_hash)
    };
    header.lane == term.lane
        && header.term == term.term
        && header.branch == term.branch
        && Some(header.index) == tip.index.checked_add(1)
        && header.first_seqno == tip.seqno.next()
        && header.prev == prev
}

/// One lane.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) term: TermRecord,
    /// The last chunk that was written.
    pub(crate) tip: Tip,
    /// The last chunk that is durable.
    pub(crate) durable: Tip,
    frontier: Frontier,
    clock: Generator,
    clock_us: u64,
    rate_hz: u64,
    queue: VecDeque<Arc<Admitted>>,
    queue_size: usize,
    /// Chunks that no committed cut covers, by index.
    held: VecDeque<(Tip, Vec<Arc<Admitted>>)>,
    mixed_header: Height,
    /// By lane, the index of the last chunk that was mixed.
    mixed_tips: Vec<u64>,
}

/// What a lane starts from.
pub(crate) struct LaneStart {
    pub(crate) term: TermRecord,
    pub(crate) committed: Tip,
    pub(crate) suffix: Vec<Arc<Chunk>>,
    pub(crate) frontier: Frontier,
    pub(crate) clock_value: Hash,
    pub(crate) clock_us: u64,
    pub(crate) rate_hz: u64,
    pub(crate) lane_count: usize,
}

impl Lane {
    pub(crate) fn new(start: LaneStart) -> Self {
        let tip = start.suffix.last().map_or(start.committed, |chunk| chunk.tip());
        let held =
            start.suffix.iter().map(|chunk| (chunk.tip(), chunk.transactions.clone())).collect();
        Self {
            term: start.term,
            tip,
            durable: tip,
            frontier: start.frontier,
            clock: Generator::new(start.clock_value),
            clock_us: start.clock_us,
            rate_hz: start.rate_hz,
            queue: VecDeque::new(),
            queue_size: 0,
            held,
            mixed_header: Height::default(),
            mixed_tips: vec![0; start.lane_count],
        }
    }

    pub(crate) fn push(&mut self, admitted: Arc<Admitted>) {
        self.queue_size = self.queue_size.saturating_add(stored_size(&admitted));
        self.queue.push_back(admitted);
    }

    /// Bytes that the queue would have in chunks.
    pub(crate) fn queue_size(&self) -> usize {
        self.queue_size
    }

    /// Nothing waits for a chunk or for a commit.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.held.is_empty()
    }

    /// Whether the clock needs a chunk of its own.
    pub(crate) fn is_clock_full(&self) -> bool {
        self.clock.tick_room() < TICK_ROOM_MIN
    }

    /// Ticks that fell due until `now_us`.
    pub(crate) fn tick(&mut self, now_us: u64) {
        let elapsed = now_us.saturating_sub(self.clock_us);
        if elapsed > CATCH_UP_US_MAX {
            self.clock_us = now_us.saturating_sub(CATCH_UP_US_MAX);
        }
        let due = quipu_clock::ticks_due(now_us.saturating_sub(self.clock_us), self.rate_hz);
        if due == 0 {
            return;
        }
        self.clock.tick(due);
        // Time that gave no whole tick stays owed, so that rounding does not add up.
        let paid = quipu_clock::proven_micros(due, self.rate_hz);
        self.clock_us = self.clock_us.saturating_add(paid).min(now_us);
    }

    /// Cuts the next chunk from the queue, `sign` signs its header. `header` is the newest committed one, `tips` are
    /// the durable tips of all lanes: what is not mixed yet is mixed in before the batch.
    pub(crate) fn cut(
        &mut self,
        chunk_size_max: usize,
        header: Option<Mixed>,
        tips: &[Tip],
        sign: impl FnOnce(&ChunkHeader) -> Signature,
    ) -> Chunk {
        let (transactions, body) = self.take_batch(chunk_size_max);
        for admitted in &transactions {
            self.frontier.append(admitted.leaf);
        }
        let lane_root = self.frontier.root();
        self.mix(header, tips, lane_root);
        let is_first = self.tip.term != self.term.term || self.tip.index == 0;
        let prev = if is_first {
            names::term_start(&self.term.branch, &self.tip.chunk_hash)
        } else {
            self.tip.chunk_hash
        };
        let header = ChunkHeader {
            lane: self.term.lane,
            term: self.term.term,
            branch: self.term.branch,
            index: self.tip.index.checked_add(1).expect("chunks do not wrap in a ledger's life"),
            first_seqno: self.tip.seqno.next(),
            count: u32::try_from(transactions.len()).expect("a body of 1 MiB bounds the count"),
            prev,
            lane_root,
            body_digest: blake3(&body),
            clock: self.clock.take(),
        };
        assert!(links(&self.term, &self.tip, &header), "I3: an own chunk links");
        let signature = sign(&header);
        let hash = names::chunk_hash(&header);
        let stored = StoredChunk { header, signature, body };
        let chunk = Chunk { stored, hash, transactions };
        self.tip = chunk.tip();
        self.held.push_back((self.tip, chunk.transactions.clone()));
        chunk
    }

    fn take_batch(&mut self, chunk_size_max: usize) -> (Vec<Arc<Admitted>>, Vec<u8>) {
        let size_max = chunk_size_max.min(CHUNK_BODY_SIZE_MAX);
        let mut body = Vec::with_capacity(self.queue_size.min(size_max));
        let mut transactions = Vec::new();
        while let Some(admitted) = self.queue.front() {
            let size = body.len().saturating_add(stored_size(admitted));
            if !transactions.is_empty() && size > size_max {
                break;
            }
            put_transaction(&mut body, &admitted.bytes);
            transactions.extend(self.queue.pop_front());
        }
        self.queue_size = self.queue_size.saturating_sub(body.len());
        (transactions, body)
    }

    fn mix(&mut self, header: Option<Mixed>, tips: &[Tip], lane_root: Hash) {
        if let Some((height, hash)) = header.filter(|(height, _)| *height > self.mixed_header) {
            self.clock.mix(Mix::Header { height, hash }, &lane_root);
            self.mixed_header = height;
        }
        for (tip, mixed) in tips.iter().zip(&mut self.mixed_tips) {
            if tip.lane != self.term.lane && tip.index > *mixed {
                let Tip { lane, index, chunk_hash: hash, .. } = *tip;
                self.clock.mix(Mix::LaneTip { lane, index, hash }, &lane_root);
                *mixed = index;
            }
        }
        self.clock.mix(Mix::Batch, &lane_root);
    }

    /// The transactions up to a committed tip, which leave the lane.
    pub(crate) fn commit(&mut self, tip: &Tip) -> Vec<Arc<Admitted>> {
        let mut transactions = Vec::new();
        while let Some((last, chunk)) = self.held.pop_front_if(|(held, _)| held.index <= tip.index)
        {
            transactions.extend(chunk);
            if last.index == tip.index {
                assert_eq!(last, *tip, "I3: what is committed was held");
            }
        }
        transactions
    }
}

/// Bytes of a transaction in a body.
fn stored_size(admitted: &Admitted) -> usize {
    admitted.bytes.len().saturating_add(LENGTH_SIZE)
}

/// All lanes, by number.
#[derive(Debug, Default)]
pub(crate) struct Lanes(pub(crate) Vec<Lane>);

impl Lanes {
    pub(crate) fn get(&self, lane: LaneNumber) -> Option<&Lane> {
        self.0.get(usize::from(lane.get()))
    }

    pub(crate) fn get_mut(&mut self, lane: LaneNumber) -> Option<&mut Lane> {
        self.0.get_mut(usize::from(lane.get()))
    }

    pub(crate) fn tips(&self) -> Vec<Tip> {
        self.0.iter().map(|lane| lane.tip).collect()
    }

    pub(crate) fn durable_tips(&self) -> Vec<Tip> {
        self.0.iter().map(|lane| lane.durable).collect()
    }
}

impl Holdings for Lanes {
    fn linked(&self, lane: LaneNumber, index: u64) -> Option<Tip> {
        let held = &self.get(lane)?.held;
        let first = held.front()?.0.index;
        let place = usize::try_from(index.checked_sub(first)?).ok()?;
        held.get(place).map(|(tip, _)| *tip)
    }

    fn durable(&self, lane: LaneNumber) -> u64 {
        self.get(lane).map_or(0, |lane| lane.durable.index)
    }
}
