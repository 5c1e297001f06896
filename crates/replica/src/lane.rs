//! One lane as this validator holds it: its term, the chunks that no cut covers yet, and, for its sequencer, the queue and
//! the clock.
//!
//! ```text
//!  committed ─ chunk ─ chunk ─ chunk <─ own: queue of transactions, clock
//!                        ^       └ tip  <─ others': chunks that link
//!                        └ durable
//! ```
//! * L1 What is held links, hash by hash, from the last committed tip to the tip, in the current term and branch.
//! * L2 A chunk is held only if its transactions come next in their producers' sequences and its root and clock are
//!   what they give. Its signatures and its body's digest were checked before it came here.
//! * L3 What another chunk takes the place of is cut off, and stays on disk as evidence.
//! * L4 A branch gives way to what is decided, or acknowledged by a third, and to nothing else: what was reported of it stays
//!   at hand until then.
//! * L5 Chunks that are known and not held, early ones and those of other branches, are kept aside by their hashes, 256 of a
//!   lane: an ack of one of them counts for what is held of its chain.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use quipu_clock::{Generator, LaneClock, Run};
use quipu_consensus::{Holdings, SignedChunk};
use quipu_crypto::hash::blake3;
use quipu_crypto::merkle::Frontier;
use quipu_log::{StoredChunk, TermRecord};
use quipu_net::stripes::Stripe;
use quipu_proof::names;
use quipu_types::chunk::{CHUNK_BODY_SIZE_MAX, TICKS_PER_ENTRY_MAX, put_transaction};
use quipu_types::{ChunkHeader, Hash, Height, Lane as LaneNumber, Mix, Signature, Term, Tip};

use crate::admission::Admitted;
use crate::api::Chunk;
use crate::fetch::Aside;

/// Most microseconds of ticks that are made up for at once: a clock that was stopped longer stays behind.
const CATCH_UP_US_MAX: u64 = 1_000_000;
/// A chunk of clock alone is cut when less than this still fits.
const TICK_ROOM_MIN: u64 = TICKS_PER_ENTRY_MAX * 64;
/// Bytes of a transaction's length in a body.
const LENGTH_SIZE: usize = 4;
/// Tips whose feet are remembered: every validator's in every lane, and some that went by.
const FOOT_COUNT_MAX: usize = 16_384;

/// Stripes of a body, under their root.
pub(crate) type Striped = (Hash, Vec<Stripe>);
/// A committed header that clocks mix.
pub(crate) type Mixed = (Height, Hash);

/// Whether a chunk may follow `tip` in the term `term` (the one predicate of acks, tips and prevotes).
pub(crate) fn links(term: &TermRecord, tip: &Tip, header: &ChunkHeader) -> bool {
    header.branch == term.branch && links_but_branch(term, tip, header)
}

fn links_but_branch(term: &TermRecord, tip: &Tip, header: &ChunkHeader) -> bool {
    let prev = if tip.term == term.term && tip.index > 0 {
        tip.chunk_hash
    } else {
        names::term_start(&header.branch, &tip.chunk_hash)
    };
    header.lane == term.lane
        && header.term == term.term
        && Some(header.index) == tip.index.checked_add(1)
        && header.first_seqno == tip.seqno.next()
        && header.prev == prev
}

/// A chunk that no committed cut covers.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) tip: Tip,
    pub(crate) transactions: Vec<Arc<Admitted>>,
    signed: Arc<SignedChunk>,
    /// The lane's tree and clock after it.
    frontier: Frontier,
    clock: LaneClock,
    size: usize,
}

impl Held {
    /// The chunk as it came.
    pub(crate) fn chunk(&self) -> Chunk {
        let SignedChunk { header, signature } = (*self.signed).clone();
        let mut body = Vec::with_capacity(self.size);
        for admitted in &self.transactions {
            put_transaction(&mut body, &admitted.bytes);
        }
        let stored = StoredChunk { header, signature, body };
        Chunk { stored, hash: self.tip.chunk_hash, transactions: self.transactions.clone() }
    }
}

/// How another validator's chunk stands to what is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It is the next.
    Next,
    /// It is held.
    Known,
    /// Chunks before it are missing.
    Ahead,
    /// It is of another term, or below the last cut.
    Void,
    /// It is of this term, and not of the chain that is held.
    Fork,
}

/// Why a chunk that links can not stand: its sequencer is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkFault {
    /// A transaction that does not come next in its producer's sequence.
    #[error("a transaction is out of its producer's sequence")]
    Sequence,
    /// The lane's root is not what the transactions give.
    #[error("the lane's root is another")]
    Root,
    /// The clock's first stretch is not what follows the last.
    #[error("the clock does not go on from the last chunk")]
    Clock,
}

/// One lane.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) term: TermRecord,
    /// The last committed chunk.
    pub(crate) committed: Tip,
    /// The last chunk that is held.
    pub(crate) tip: Tip,
    /// The last chunk that is durable.
    pub(crate) durable: Tip,
    /// Whether this validator makes the chunks.
    pub(crate) is_own: bool,
    /// Whether this validator handed the lane over: no chunk of this term comes after.
    pub(crate) is_given_up: bool,
    /// Whether it makes no chunk yet, because it may have made others before.
    pub(crate) is_held_back: bool,
    /// A term that begins with a header that was lost, though its record was not, and its chunks: nothing is taken until
    /// that header comes again.
    pub(crate) next_term: Option<(TermRecord, Vec<Arc<Chunk>>)>,
    committed_frontier: Frontier,
    /// Where the clock stands after the last committed chunk, whatever its term.
    committed_clock: LaneClock,
    clock: Generator,
    clock_us: u64,
    /// Ticks a second that its clock should make.
    pub(crate) rate_hz: u64,
    /// When the last own chunk was cut, or the term began.
    cut_us: u64,
    queue: VecDeque<Arc<Admitted>>,
    queue_size: usize,
    /// Chunks that no committed cut covers, by index.
    held: VecDeque<Held>,
    held_size: usize,
    mixed_header: Height,
    /// By lane, the index of the last chunk that was mixed.
    mixed_tips: Vec<u64>,
}

/// What a lane starts from.
pub(crate) struct LaneStart {
    pub(crate) term: TermRecord,
    pub(crate) next_term: Option<(TermRecord, Vec<Arc<Chunk>>)>,
    pub(crate) committed: Tip,
    /// The tree at the committed tip, and the clock after its chunk.
    pub(crate) frontier: Frontier,
    pub(crate) clock: LaneClock,
    pub(crate) clock_us: u64,
    pub(crate) rate_hz: u64,
    pub(crate) lane_count: usize,
    pub(crate) is_own: bool,
}

impl Lane {
    pub(crate) fn new(start: LaneStart) -> Self {
        let clock_value = start.clock.first_value(start.term.term, &start.term.branch);
        Self {
            term: start.term,
            committed: start.committed,
            tip: start.committed,
            durable: start.committed,
            is_own: start.is_own,
            is_given_up: false,
            is_held_back: false,
            next_term: start.next_term,
            committed_frontier: start.frontier,
            committed_clock: start.clock,
            clock: Generator::new(clock_value),
            clock_us: start.clock_us,
            rate_hz: start.rate_hz,
            cut_us: start.clock_us,
            queue: VecDeque::new(),
            queue_size: 0,
            held: VecDeque::new(),
            held_size: 0,
            mixed_header: Height::default(),
            mixed_tips: vec![0; start.lane_count],
        }
    }

    pub(crate) fn push(&mut self, admitted: Arc<Admitted>) {
        self.queue_size = self.queue_size.saturating_add(stored_size(&admitted));
        self.queue.push_back(admitted);
    }

    /// Before everything that waits.
    pub(crate) fn push_first(&mut self, admitted: Arc<Admitted>) {
        self.queue_size = self.queue_size.saturating_add(stored_size(&admitted));
        self.queue.push_front(admitted);
    }

    /// All that waits for a chunk, to be put back in another order.
    pub(crate) fn take_queue(&mut self) -> VecDeque<Arc<Admitted>> {
        self.queue_size = 0;
        std::mem::take(&mut self.queue)
    }

    /// Bytes that the queue would have in chunks.
    pub(crate) fn queue_size(&self) -> usize {
        self.queue_size
    }

    /// What waits for a chunk.
    pub(crate) fn queue(&self) -> impl Iterator<Item = &Arc<Admitted>> {
        self.queue.iter()
    }

    /// Bytes of the chunks that no cut covers.
    pub(crate) fn held_size(&self) -> usize {
        self.held_size
    }

    /// The chunks that no cut covers.
    pub(crate) fn held(&self) -> impl Iterator<Item = &Held> {
        self.held.iter()
    }

    /// Nothing of this validator's waits for a chunk or for a commit.
    pub(crate) fn is_idle(&self) -> bool {
        let has_none = |held: &Held| held.transactions.is_empty();
        !self.is_own || (self.queue.is_empty() && self.held.iter().all(has_none))
    }

    /// Whether this validator makes the next chunk.
    pub(crate) fn may_cut(&self) -> bool {
        self.is_own && !self.is_given_up && !self.is_held_back && self.next_term.is_none()
    }

    /// Whether the clock needs a chunk of its own: it is full, or nothing has shown it for `interval_us`. Before a cut covers
    /// the last chunk it does not, so that a standstill gathers no chunks.
    pub(crate) fn is_clock_due(&self, now_us: u64, interval_us: u64) -> bool {
        let is_full = self.clock.tick_room() < TICK_ROOM_MIN;
        let is_unseen = now_us >= self.cut_us.saturating_add(interval_us);
        is_full || (is_unseen && self.held.is_empty() && !self.clock.is_empty())
    }

    /// Ticks of the committed chunks since the start of the process.
    pub(crate) fn committed_ticks(&self) -> u64 {
        self.committed_clock.tick_count()
    }

    /// Ticks that fell due until `now_us`.
    pub(crate) fn tick(&mut self, now_us: u64) {
        if !self.is_own {
            return;
        }
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

    /// Where the clock's next ticks begin, if this validator makes them.
    pub(crate) fn clock_base(&self) -> Option<Hash> {
        self.is_own.then(|| self.clock.base())
    }

    /// Takes ticks over that were made elsewhere.
    pub(crate) fn take_run(&mut self, run: Run) {
        if self.is_own {
            self.clock.take_run(run);
        }
    }

    /// Cuts the next chunk from the queue at `now_us`, `sign` signs its header, `stripe` makes stripes of its body, or none. `header` is
    /// the newest committed one, `tips` are the durable tips of all lanes: what is not mixed yet is mixed in before the batch.
    pub(crate) fn cut(
        &mut self,
        (now_us, chunk_size_max): (u64, usize),
        header: Option<Mixed>,
        tips: &[Tip],
        stripe: impl FnOnce(&[u8]) -> Option<Striped>,
        sign: impl FnOnce(&ChunkHeader) -> Signature,
    ) -> (Chunk, Vec<Stripe>) {
        assert!(
            self.is_own && self.next_term.is_none(),
            "only its sequencer makes a lane's chunks"
        );
        self.cut_us = now_us;
        let (transactions, body) = self.take_batch(chunk_size_max);
        let mut frontier = self.frontier().clone();
        frontier.extend(&transactions.iter().map(|admitted| admitted.leaf).collect::<Vec<_>>());
        let lane_root = frontier.root();
        self.mix(header, tips, lane_root);
        let (root, stripes) =
            stripe(&body).map_or((None, Vec::new()), |(root, all)| (Some(root), all));
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
            stripes: root,
            clock: self.clock.take(),
        };
        assert!(links(&self.term, &self.tip, &header), "L1: an own chunk links");
        let signature = sign(&header);
        let hash = names::chunk_hash(&header);
        let chunk = Chunk { stored: StoredChunk { header, signature, body }, hash, transactions };
        let mut clock = *self.lane_clock();
        clock.pass(&chunk.stored.header);
        self.hold(&chunk, frontier, clock);
        (chunk, stripes)
    }

    fn frontier(&self) -> &Frontier {
        self.held.back().map_or(&self.committed_frontier, |held| &held.frontier)
    }

    fn lane_clock(&self) -> &LaneClock {
        self.held.back().map_or(&self.committed_clock, |held| &held.clock)
    }

    fn hold(&mut self, chunk: &Chunk, frontier: Frontier, clock: LaneClock) {
        let StoredChunk { header, signature, body } = &chunk.stored;
        self.tip = chunk.tip();
        self.held_size = self.held_size.saturating_add(body.len());
        self.held.push_back(Held {
            tip: self.tip,
            transactions: chunk.transactions.clone(),
            signed: Arc::new(SignedChunk { header: header.clone(), signature: *signature }),
            frontier,
            clock,
            size: body.len(),
        });
    }

    /// How a chunk stands to what is held.
    pub(crate) fn fit(&self, header: &ChunkHeader, hash: &Hash, checks_branch: bool) -> Fit {
        let is_current =
            header.term == self.term.term && (header.branch == self.term.branch || !checks_branch);
        if !is_current || header.index <= self.committed.index || self.next_term.is_some() {
            return Fit::Void;
        }
        if let Some(held) = self.at(header.index) {
            return if held.tip.chunk_hash == *hash { Fit::Known } else { Fit::Fork };
        }
        if header.index > self.tip.index.saturating_add(1) {
            Fit::Ahead
        } else if links_but_branch(&self.term, &self.tip, header) {
            Fit::Next
        } else {
            Fit::Fork
        }
    }

    /// Holds a chunk that [`fit`](Self::fit)s as the next, if it keeps L2. The producers are judged by the caller.
    pub(crate) fn append(&mut self, chunk: &Chunk) -> Result<(), ChunkFault> {
        let header = &chunk.stored.header;
        let mut frontier = self.frontier().clone();
        frontier.extend(&chunk.leaves());
        if frontier.root() != header.lane_root {
            return Err(ChunkFault::Root);
        }
        // What it says by itself was checked with the signature.
        let mut clock = *self.lane_clock();
        clock.link(header).map_err(|_| ChunkFault::Clock)?;
        self.hold(chunk, frontier, clock);
        if self.is_own {
            // Read back after a restart: the own clock goes on from it.
            self.clock = Generator::new(clock.value());
        }
        Ok(())
    }

    /// The signed header of the chunk that is held at an index.
    pub(crate) fn signed(&self, index: u64) -> Option<&Arc<SignedChunk>> {
        self.at(index).map(|held| &held.signed)
    }

    fn at(&self, index: u64) -> Option<&Held> {
        let first = self.held.front()?.tip.index;
        self.held.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    /// The tip at an index, the last committed one included.
    pub(crate) fn tip_at(&self, index: u64) -> Option<Tip> {
        if index == self.committed.index {
            return Some(self.committed);
        }
        self.at(index).map(|held| held.tip)
    }

    /// Cuts off what follows chunk `index`, which is held or the last committed one. What is cut off.
    pub(crate) fn truncate(&mut self, index: u64) -> Vec<Held> {
        assert!(index >= self.committed.index, "L1: what is committed stays");
        let keep = index.saturating_sub(self.committed.index);
        let keep = usize::try_from(keep).unwrap_or(usize::MAX).min(self.held.len());
        let cut: Vec<Held> = self.held.split_off(keep).into();
        self.tip = self.held.back().map_or(self.committed, |held| held.tip);
        for held in &cut {
            self.held_size = self.held_size.saturating_sub(held.size);
        }
        if self.durable.index > self.tip.index {
            self.durable = self.tip;
        }
        cut
    }

    /// Begins a term after the last committed chunk, which is the tip. What waited in the queue is given back.
    pub(crate) fn begin(
        &mut self,
        term: TermRecord,
        is_own: bool,
        now_us: u64,
    ) -> Vec<Arc<Admitted>> {
        assert_eq!(self.tip, self.committed, "L1: a term begins at the cut");
        self.term = term;
        self.is_own = is_own;
        self.is_given_up = false;
        self.next_term = None;
        self.clock = Generator::new(self.lane_clock().first_value(term.term, &term.branch));
        self.clock_us = now_us;
        self.cut_us = now_us;
        self.mixed_header = Height::default();
        self.mixed_tips.fill(0);
        self.queue_size = 0;
        std::mem::take(&mut self.queue).into()
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

    /// The transactions up to a tip, which stay.
    pub(crate) fn upto(&self, tip: &Tip) -> Vec<Arc<Admitted>> {
        let chunks = self.held.iter().take_while(|held| held.tip.index <= tip.index);
        chunks.flat_map(|held| held.transactions.iter().cloned()).collect()
    }

    /// The transactions up to a committed tip, which leave the lane.
    pub(crate) fn commit(&mut self, tip: &Tip) -> Vec<Arc<Admitted>> {
        let mut transactions = Vec::new();
        while let Some(held) = self.held.pop_front_if(|held| held.tip.index <= tip.index) {
            self.held_size = self.held_size.saturating_sub(held.size);
            self.committed = held.tip;
            self.committed_frontier = held.frontier;
            self.committed_clock = held.clock;
            transactions.extend(held.transactions);
        }
        assert_eq!(self.committed, *tip, "L1: what is committed was held");
        transactions
    }
}

/// Bytes of a transaction in a body.
pub(crate) fn stored_size(admitted: &Admitted) -> usize {
    admitted.bytes.len().saturating_add(LENGTH_SIZE)
}

/// All lanes, by number.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    pub(crate) all: Vec<Lane>,
    /// By lane, chunks that are not held: they came early, or stand on another branch.
    side: Vec<Aside>,
    /// By lane, how often it or its side may have changed.
    stamps: Vec<u64>,
    /// What [`Holdings::foot`] found for a tip, with the lane's stamp then: votes ask for the same tips again and again.
    feet: RefCell<BTreeMap<Hash, (u64, Option<u64>)>>,
    /// Lanes whose sequencer is suspected, with the term.
    pub(crate) suspects: Vec<(LaneNumber, Term)>,
}

impl Lanes {
    pub(crate) fn new(all: Vec<Lane>) -> Self {
        let side = all.iter().map(|_| Aside::default()).collect();
        let stamps = vec![0; all.len()];
        Self { all, side, stamps, ..Self::default() }
    }

    /// Whether own chunks wait.
    pub(crate) fn hold_back(&mut self, is_held_back: bool) {
        for lane in &mut self.all {
            lane.is_held_back = is_held_back;
        }
    }

    /// No chunk is made in any term that has begun.
    pub(crate) fn give_up_own(&mut self) {
        for lane in &mut self.all {
            (lane.is_own, lane.is_held_back) = (false, false);
        }
    }

    pub(crate) fn get(&self, lane: LaneNumber) -> Option<&Lane> {
        self.all.get(usize::from(lane.get()))
    }

    pub(crate) fn get_mut(&mut self, lane: LaneNumber) -> Option<&mut Lane> {
        self.stamp(usize::from(lane.get()));
        self.all.get_mut(usize::from(lane.get()))
    }

    /// A lane's chunks that are not held.
    pub(crate) fn side(&self, place: usize) -> Option<&Aside> {
        self.side.get(place)
    }

    pub(crate) fn side_mut(&mut self, place: usize) -> Option<&mut Aside> {
        self.stamp(place);
        self.side.get_mut(place)
    }

    fn stamp(&mut self, place: usize) {
        if let Some(stamp) = self.stamps.get_mut(place) {
            *stamp = stamp.wrapping_add(1);
        }
        // One entry a lane and validator is of use; more are of tips that went by.
        if self.feet.get_mut().len() > FOOT_COUNT_MAX {
            self.feet.get_mut().clear();
        }
    }

    pub(crate) fn tips(&self) -> Vec<Tip> {
        self.all.iter().map(|lane| lane.tip).collect()
    }

    pub(crate) fn durable_tips(&self) -> Vec<Tip> {
        self.all.iter().map(|lane| lane.durable).collect()
    }

    /// The chunks that lead from what is held to `tip`, the last first, and the index from which they do; none when one is
    /// not known.
    pub(crate) fn path(&self, tip: &Tip) -> Option<(u64, Vec<&Arc<Chunk>>)> {
        let place = usize::from(tip.lane.get());
        let (lane, side) = self.all.get(place).zip(self.side.get(place))?;
        let (mut index, mut wanted) = (tip.index, tip.chunk_hash);
        let mut path = Vec::new();
        loop {
            if lane.tip_at(index).is_some_and(|held| held.chunk_hash == wanted) {
                return Some((index, path));
            }
            if index <= lane.committed.index {
                // The first chunk of a term links by the term's start, not by a chunk's hash.
                let start = names::term_start(&lane.term.branch, &lane.committed.chunk_hash);
                let begins = index == lane.committed.index && wanted == start;
                return begins.then_some((index, path));
            }
            let chunk = side.get(index, &wanted)?;
            wanted = chunk.stored.header.prev;
            path.push(chunk);
            index = index.saturating_sub(1);
        }
    }

    /// Bytes of the chunks that no cut covers, in all lanes.
    pub(crate) fn held_size(&self) -> usize {
        self.all.iter().fold(0, |size, lane| size.saturating_add(lane.held_size()))
    }
}

impl Holdings for Lanes {
    fn linked(&self, lane: LaneNumber, index: u64) -> Option<Tip> {
        self.get(lane)?.at(index).map(|held| held.tip)
    }

    fn foot(&self, acked: &Tip) -> Option<u64> {
        if self.get(acked.lane).is_none_or(|lane| lane.term.term != acked.term) {
            return None;
        }
        let stamp = self.stamps.get(usize::from(acked.lane.get())).copied().unwrap_or(0);
        if let Some((then, foot)) = self.feet.borrow().get(&acked.chunk_hash)
            && *then == stamp
        {
            return *foot;
        }
        let foot = self.path(acked).map(|(foot, _)| foot);
        self.feet.borrow_mut().insert(acked.chunk_hash, (stamp, foot));
        foot
    }

    fn passes(&self, acked: &Tip, tip: &Tip) -> bool {
        if acked == tip {
            return true;
        }
        let is_beyond = (acked.lane, acked.term) == (tip.lane, tip.term) && acked.index > tip.index;
        let path = is_beyond.then(|| self.path(acked)).flatten();
        path.is_some_and(|(foot, path)| {
            if foot >= tip.index {
                return self.linked(tip.lane, tip.index) == Some(*tip);
            }
            path.iter().any(|chunk| chunk.hash == tip.chunk_hash)
        })
    }

    fn durable(&self, lane: LaneNumber) -> u64 {
        self.get(lane).map_or(0, |lane| lane.durable.index)
    }

    fn suspects(&self) -> Vec<(LaneNumber, Term)> {
        self.suspects.clone()
    }
}
