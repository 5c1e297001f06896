//! The machine: takes an input, leaves effects to be polled. See the crate's header for its invariants.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use quipu_consensus::core::{self, Core, Event, Output, Refused};
use quipu_consensus::{Message, Now, Parent, Record, genesis_cut, moves};
use quipu_crypto::hash::blake3;
use quipu_log::TermRecord;
use quipu_proof::names;
use quipu_types::{
    Ack, CommitCertificate, Decode, Encode, Genesis, Hash, Header, Height, Lane as LaneNumber,
    Receipt, Seqno, SignedState, Time, Tip, ValidatorIndex,
};
use thiserror::Error;

use crate::admission::Admitted;
use crate::api::{
    Answer, Barrier, Block, Chunk, Config, Effect, Input, Recovered, RecoveredLane, Refusal,
    Status, Ticket,
};
use crate::gate::Gate;
use crate::lane::{Lane, LaneStart, Lanes, links};
use crate::producers::{Place, Producers};

/// Most tickets that wait for one transaction.
const TICKET_COUNT_MAX: usize = 16;
/// What a pending transaction costs beyond its bytes.
const PENDING_OVERHEAD_SIZE: usize = 512;

/// Why a replica cannot start from what was found.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// The key is of no validator of the genesis.
    #[error("the voting key is not of a validator of the genesis")]
    NotAValidator,
    /// There is not one lane for each of the genesis.
    #[error("{found} lanes were found, the genesis has {wanted}")]
    LaneCount {
        /// What was found.
        found: usize,
        /// What the genesis says.
        wanted: usize,
    },
    /// A lane's chunks do not follow each other, or are not what their headers say.
    #[error("lane {lane}: chunk {index} {what}")]
    Lane {
        /// The lane.
        lane: LaneNumber,
        /// The chunk.
        index: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A record of the write-ahead log does not decode.
    #[error("record {index} of the write-ahead log is none")]
    Record {
        /// Its place in the log, from 0.
        index: usize,
    },
}

/// Who waits for a transaction that was taken.
#[derive(Debug, Default)]
struct Pending {
    tickets: Vec<Ticket>,
    size: usize,
}

/// A block that is being executed.
#[derive(Debug)]
struct Executing {
    height: Height,
    header: Hash,
    time: Time,
    transaction_count: usize,
}

/// One validator.
#[derive(Debug)]
pub struct Replica {
    chunk_size_max: usize,
    pending_size_max: usize,
    clock_interval_us: u64,
    checkpoint_height_count: u64,
    is_alone: bool,
    core: Core,
    lanes: Lanes,
    producers: Producers,
    pending: BTreeMap<Hash, Pending>,
    pending_size: usize,
    executing: VecDeque<Executing>,
    executed: Height,
    certified: Height,
    gate: Gate,
    /// The ack that the sync under way makes durable, with the tips of all lanes at its start.
    acking: Option<(Barrier, Option<Ack>, Vec<Tip>)>,
    ticked_us: u64,
    now_us: u64,
    is_stopping: bool,
    is_stopped: bool,
}

impl Replica {
    /// A validator that goes on from what was found on disk.
    ///
    /// # Errors
    /// When what was found does not fit together, or is another validator's.
    pub fn new(now: Now, config: Config, recovered: Recovered) -> Result<Self, StartError> {
        let Config { genesis, key, .. } = config;
        let chain = names::chain_id(&genesis);
        let parent = match &recovered.head {
            None => Parent::genesis(chain, genesis.time_us, genesis.lane_count),
            Some((header, certificate)) => {
                Parent::of(header, certificate.clone(), recovered.certified)
            }
        };
        let records = recovered.records.iter().enumerate();
        let records = records
            .map(|(index, bytes)| {
                Record::from_bytes(bytes).map_err(|_| StartError::Record { index })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut gate = Gate::new(config.wal_before_send);
        let (height, certified) = (parent.height, parent.certified);
        let lanes = start_lanes(now, &genesis, &chain, &recovered, &mut gate)?;
        let core = core::Config {
            chain,
            set: genesis.validator_set(),
            key,
            interval_min_us: genesis.height_interval_min_ms.saturating_mul(1_000),
            interval_idle_us: genesis.height_interval_idle_ms.saturating_mul(1_000),
        };
        let mut core =
            Core::new(now, core, parent, records, &lanes).map_err(|_| StartError::NotAValidator)?;
        for lane in &recovered.lanes {
            let last = lane.suffix.last().map(|chunk| &chunk.stored.header);
            last.or(lane.committed.as_ref())
                .into_iter()
                .for_each(|header| core.restore_chunk(header));
        }
        let mut replica = Self {
            chunk_size_max: config.chunk_size_max,
            pending_size_max: config.pending_size_max,
            clock_interval_us: config.clock_interval_us.max(1),
            checkpoint_height_count: config.checkpoint_height_count.max(1),
            is_alone: genesis.validators.len() == 1,
            core,
            lanes,
            producers: Producers::new(recovered.producers),
            pending: BTreeMap::new(),
            pending_size: 0,
            executing: VecDeque::new(),
            executed: height,
            certified,
            gate,
            acking: None,
            ticked_us: now.mono_us,
            now_us: now.mono_us,
            is_stopping: false,
            is_stopped: false,
        };
        for lane in recovered.lanes {
            replica.restore_suffix(&lane)?;
        }
        // What was read back is durable only when a sync of this process says so.
        replica.gate.rewritten();
        replica.flush();
        Ok(replica)
    }

    /// Takes an input; then [`poll`](Self::poll) until there is nothing.
    ///
    /// # Errors
    /// When a message of another validator is refused; the state is then unchanged.
    pub fn step(&mut self, now: Now, input: Input) -> Result<(), Refused> {
        self.now_us = self.now_us.max(now.mono_us);
        let now = Now { mono_us: self.now_us, ..now };
        if self.is_stopped {
            return Ok(());
        }
        match input {
            Input::Submit { ticket, admitted } => {
                self.submit(ticket, admitted);
                return Ok(());
            }
            Input::Stored(barrier) => self.stored(now, barrier),
            Input::Executed { state, receipts } => self.executed(now, state, &receipts),
            Input::Message(bytes) => self.message(now, &bytes)?,
            Input::Timer => self.drive(now, Event::Timer),
            Input::Stop => self.is_stopping = true,
        }
        self.tick(now);
        if !self.gate.is_under_way() {
            self.cut_chunks();
        }
        self.flush();
        self.finish();
        self.check_invariants();
        Ok(())
    }

    /// The next effect, to be done before the ones after it.
    pub fn poll(&mut self) -> Option<Effect> {
        self.gate.poll()
    }

    /// When [`Input::Timer`] is due, in microseconds of the monotonic clock. In the past: now, after the inputs that
    /// wait already (they then share a chunk).
    #[must_use]
    pub fn wake_at(&self) -> Option<u64> {
        if self.is_stopped {
            return None;
        }
        if !self.gate.is_under_way() && self.lanes.0.iter().any(|lane| lane.queue_size() > 0) {
            return Some(self.now_us);
        }
        let tick_at = self.ticked_us.saturating_add(self.clock_interval_us);
        let core_at = self.core.wake_at(&self.lanes).unwrap_or(tick_at);
        Some(core_at.min(tick_at))
    }

    /// What the replica says of itself.
    #[must_use]
    pub fn status(&self) -> Status {
        let parent = self.core.parent();
        Status {
            height: parent.height,
            header: parent.hash,
            time: parent.time,
            executed: self.executed,
            certified: self.certified,
            pending_count: self.pending.len(),
            pending_size: self.pending_size,
            tips: self.lanes.tips(),
            stopping: self.is_stopping,
        }
    }

    fn check_invariants(&self) {
        assert_eq!(self.pending.is_empty(), self.pending_size == 0, "sizes add up");
        assert!(self.executed <= self.core.parent().height, "only what is committed is executed");
        for lane in &self.lanes.0 {
            assert!(lane.durable.index <= lane.tip.index, "what is durable was written");
        }
        assert!(!self.gate.wants_sync(), "R5: a sync that is owed is asked for");
    }

    fn submit(&mut self, ticket: Ticket, admitted: Arc<Admitted>) {
        let answer = match self.take(ticket, &admitted) {
            Ok(()) => return self.cut_full(admitted.lane),
            Err(answer) => answer,
        };
        self.gate.answer(Effect::Answer { ticket, answer });
    }

    fn take(&mut self, ticket: Ticket, admitted: &Arc<Admitted>) -> Result<(), Answer> {
        if let Some(pending) = self.pending.get_mut(&admitted.tx) {
            let count = pending.tickets.len();
            if count >= TICKET_COUNT_MAX {
                return Err(Answer::Refused(Refusal::Crowded { count }));
            }
            pending.tickets.push(ticket);
            return Ok(());
        }
        let after = match self.producers.place(admitted) {
            Place::Next { after } => after,
            Place::Gap { next } => return Err(Answer::Refused(Refusal::Gap { next })),
            Place::Used { next, otherwise } => {
                let (tx, lane) = (admitted.tx, admitted.lane);
                return Err(Answer::Used { tx, lane, next, otherwise });
            }
        };
        if self.is_stopping {
            return Err(Answer::Refused(Refusal::Stopping));
        }
        let size = admitted.bytes.len().saturating_add(PENDING_OVERHEAD_SIZE);
        let pending_size = self.pending_size.saturating_add(size);
        if pending_size > self.pending_size_max {
            let (pending_size, pending_size_max) = (self.pending_size, self.pending_size_max);
            let refusal = Refusal::Overloaded { pending_size, pending_size_max };
            return Err(Answer::Refused(refusal));
        }
        let lane =
            self.lanes.get_mut(admitted.lane).expect("admission finds a lane of the genesis");
        lane.push(Arc::clone(admitted));
        self.producers.take(admitted, after);
        self.pending.insert(admitted.tx, Pending { tickets: vec![ticket], size });
        self.pending_size = pending_size;
        Ok(())
    }

    /// Cuts full chunks of a lane at once: hashing them need not wait for a sync.
    fn cut_full(&mut self, lane: LaneNumber) {
        let is_full = |lanes: &Lanes, size_max| {
            lanes.get(lane).is_some_and(|lane| lane.queue_size() >= size_max)
        };
        while is_full(&self.lanes, self.chunk_size_max) {
            self.cut(lane);
        }
    }

    fn cut_chunks(&mut self) {
        let due = |lane: &&Lane| lane.queue_size() > 0 || lane.is_clock_full();
        let lanes: Vec<LaneNumber> =
            self.lanes.0.iter().filter(due).map(|lane| lane.term.lane).collect();
        for lane in lanes {
            self.cut(lane);
            self.cut_full(lane);
        }
    }

    fn cut(&mut self, lane: LaneNumber) {
        let tips = self.lanes.durable_tips();
        let parent = self.core.parent();
        let header = (parent.height > Height::default()).then_some((parent.height, parent.hash));
        let (now_us, size_max) = (self.now_us, self.chunk_size_max);
        let core = &mut self.core;
        let lane = self.lanes.get_mut(lane).expect("the caller has it from the lanes");
        lane.tick(now_us);
        let chunk = lane.cut(size_max, header, &tips, |header| core.sign_chunk(header));
        self.gate.write(Effect::WriteChunk(Arc::new(chunk)));
    }

    /// Asks for a sync when one is owed and none is under way; one ack covers every lane that it makes durable.
    fn flush(&mut self) {
        if !self.gate.wants_sync() {
            return;
        }
        let tips: Vec<Tip> = self.lanes.tips();
        let moved: Vec<Tip> = tips.iter().filter(|tip| tip.index > 0).copied().collect();
        let ack = self.core.ack(&moved).map(|(record, ack)| {
            self.write_vote(&record);
            ack
        });
        let barrier = self.gate.sync();
        self.acking = Some((barrier, ack, tips));
    }

    fn stored(&mut self, now: Now, barrier: Barrier) {
        self.gate.stored(barrier);
        let (asked, ack, tips) = self.acking.take().expect("every sync has its tips");
        assert_eq!(asked, barrier, "the driver answers each sync once, in order");
        for (lane, tip) in self.lanes.0.iter_mut().zip(tips) {
            lane.durable = tip;
        }
        self.settle();
        if let Some(ack) = &ack
            && !self.is_alone
        {
            self.gate.leave(Effect::Broadcast(Message::Ack(ack.clone()).to_bytes()));
        }
        self.drive(now, ack.map_or(Event::Timer, Event::Acked));
    }

    fn executed(&mut self, now: Now, state: SignedState, receipts: &[Receipt]) {
        if state.height > self.executed {
            let block = self.executing.pop_front().expect("only what was committed is executed");
            assert_eq!(block.height, state.height, "heights are executed in order");
            assert_eq!(block.transaction_count, receipts.len(), "each transaction has a receipt");
            self.executed = state.height;
            for receipt in receipts {
                self.answer(&block, receipt);
            }
        }
        self.drive(now, Event::Executed(state));
    }

    fn answer(&mut self, block: &Executing, receipt: &Receipt) {
        let pending = self.pending.remove(&receipt.tx).expect("what is executed was taken");
        self.pending_size = self.pending_size.saturating_sub(pending.size);
        for ticket in pending.tickets {
            let (height, header, time) = (block.height, block.header, block.time);
            let answer = Answer::Final { receipt: *receipt, height, header, time };
            self.gate.answer(Effect::Answer { ticket, answer });
        }
    }

    fn message(&mut self, now: Now, bytes: &[u8]) -> Result<(), Refused> {
        let message = Message::from_bytes(bytes).map_err(|_| Refused::Malformed)?;
        self.core.step(now, Event::Message(message), &self.lanes)?;
        self.drain(now);
        Ok(())
    }

    /// An event that no one else is to blame for.
    fn drive(&mut self, now: Now, event: Event) {
        self.core.step(now, event, &self.lanes).expect("own events are never refused");
        self.drain(now);
    }

    fn drain(&mut self, now: Now) {
        // A commit frees chunks, so the core may have more to say: it is asked until it is silent.
        while let Some(output) = self.core.poll() {
            match output {
                Output::Persist(record) => self.write_vote(&record),
                Output::Send(message) if !self.is_alone => {
                    self.gate.leave(Effect::Broadcast(message.to_bytes()));
                }
                Output::Send(_) => {}
                Output::Commit { header, hash, certificate } => {
                    self.commit(header, hash, certificate);
                    self.core
                        .step(now, Event::Timer, &self.lanes)
                        .expect("own events are never refused");
                }
                Output::StateCertified(certificate) => {
                    self.certified = self.certified.max(certificate.state.height);
                    self.gate.leave(Effect::StateCertified(Arc::new(certificate)));
                }
            }
        }
    }

    fn write_vote(&mut self, record: &Record) {
        let height = self.core.parent().height.next();
        self.gate.write(Effect::WriteVote { height, bytes: record.to_bytes() });
    }

    fn commit(&mut self, header: Header, hash: Hash, certificate: CommitCertificate) {
        let mut committed: BTreeMap<LaneNumber, (Seqno, Vec<Arc<Admitted>>)> = BTreeMap::new();
        let mut before = Vec::with_capacity(header.cut.len());
        for tip in &header.cut {
            let lane = self.lanes.get_mut(tip.lane).expect("a valid cut has the genesis' lanes");
            let transactions = lane.commit(tip);
            let count = u64::try_from(transactions.len()).unwrap_or(u64::MAX);
            let seqno = tip.seqno.get().checked_sub(count).expect("a lane's seqnos are dense");
            let after = Seqno::new(seqno);
            before.push(Tip { seqno: after, ..*tip });
            committed.insert(tip.lane, (after, transactions));
        }
        let lanes = moves(&header, &before)
            .into_iter()
            .map(|(lane, after, _)| {
                let (_, transactions) = committed.remove(&lane).expect("it was put in above");
                let mut seqno = after;
                let numbered = transactions.into_iter().map(|admitted| {
                    seqno = seqno.next();
                    (seqno, admitted)
                });
                (lane, numbered.collect())
            })
            .collect();
        let block = Arc::new(Block { header, hash, certificate, lanes });
        let height = block.header.height;
        self.executing.push_back(Executing {
            height,
            header: hash,
            time: block.header.time,
            transaction_count: block.transaction_count(),
        });
        self.gate.leave(Effect::WriteHeader(Arc::clone(&block)));
        self.gate.leave(Effect::Execute(block));
        self.settle();
        if height.get().is_multiple_of(self.checkpoint_height_count) {
            self.checkpoint(height.next());
        }
    }

    /// Lets the next height begin once the last commit has left.
    fn settle(&mut self) {
        if !self.gate.holds_header() {
            self.core.settle();
        }
    }

    /// Lets the write-ahead log drop what is over; votes of the height that was just committed stay until its header is
    /// durable.
    fn checkpoint(&mut self, height: Height) {
        self.gate.leave(Effect::BeginHeight(height));
        let durable = Height::new(height.get().saturating_sub(2));
        for record in self.core.checkpoint(durable) {
            self.gate.leave(Effect::WriteVote { height, bytes: record.to_bytes() });
        }
    }

    fn tick(&mut self, now: Now) {
        if now.mono_us < self.ticked_us.saturating_add(self.clock_interval_us) {
            return;
        }
        self.ticked_us = now.mono_us;
        for lane in &mut self.lanes.0 {
            lane.tick(now.mono_us);
        }
    }

    /// Ends a stop once everything that was taken is final, executed and durable.
    fn finish(&mut self) {
        let is_done = self.is_stopping
            && self.pending.is_empty()
            && self.executing.is_empty()
            && self.lanes.0.iter().all(Lane::is_idle);
        if !is_done {
            return;
        }
        if self.gate.is_quiet() {
            self.is_stopped = true;
            self.gate.answer(Effect::Stopped);
        } else {
            self.gate.want_sync();
            self.flush();
        }
    }

    /// Chunks beyond the last cut were taken and may have been acked: they stay, and are ordered next (R4).
    fn restore_suffix(&mut self, lane: &RecoveredLane) -> Result<(), StartError> {
        for chunk in &lane.suffix {
            let header = &chunk.stored.header;
            for admitted in &chunk.transactions {
                let Place::Next { after } = self.producers.place(admitted) else {
                    let (lane, index) = (header.lane, header.index);
                    let what = "has a transaction out of its producer's sequence";
                    return Err(StartError::Lane { lane, index, what });
                };
                self.producers.take(admitted, after);
                let size = admitted.bytes.len().saturating_add(PENDING_OVERHEAD_SIZE);
                self.pending_size = self.pending_size.saturating_add(size);
                self.pending.insert(admitted.tx, Pending { tickets: Vec::new(), size });
            }
        }
        Ok(())
    }
}

fn start_lanes(
    now: Now,
    genesis: &Genesis,
    chain: &Hash,
    recovered: &Recovered,
    gate: &mut Gate,
) -> Result<Lanes, StartError> {
    let (found, wanted) = (recovered.lanes.len(), usize::from(genesis.lane_count));
    if found != wanted {
        return Err(StartError::LaneCount { found, wanted });
    }
    let cut = match &recovered.head {
        None => genesis_cut(genesis.lane_count),
        Some((header, _)) => header.cut.clone(),
    };
    let mut lanes = Vec::with_capacity(wanted);
    for (committed, lane) in cut.into_iter().zip(&recovered.lanes) {
        let term = lane.term.unwrap_or_else(|| {
            let term = first_term(chain, &committed);
            gate.write(Effect::WriteTerm(term));
            term
        });
        check_suffix(&term, &committed, lane)?;
        let last = lane.suffix.last().map(|chunk| &chunk.stored.header).or(lane.committed.as_ref());
        let clock_value = match last.and_then(|header| header.clock.last()) {
            Some(entry) => entry.value,
            None => quipu_clock::start(&term.branch, &quipu_clock::seed_value(&genesis.clock_seed)),
        };
        lanes.push(Lane::new(LaneStart {
            term,
            committed,
            suffix: lane.suffix.clone(),
            frontier: lane.frontier.clone(),
            clock_value,
            clock_us: now.mono_us,
            rate_hz: genesis.clock_rate_hz,
            lane_count: wanted,
        }));
    }
    Ok(Lanes(lanes))
}

fn first_term(chain: &Hash, committed: &Tip) -> TermRecord {
    TermRecord {
        lane: committed.lane,
        term: committed.term,
        sequencer: ValidatorIndex::default(),
        branch: *chain,
        first_seqno: committed.seqno.next(),
        height: Height::default(),
    }
}

/// Whether a lane's chunks are what the cut and their headers say, link by link.
fn check_suffix(
    term: &TermRecord,
    committed: &Tip,
    lane: &RecoveredLane,
) -> Result<(), StartError> {
    let wrong = |index, what| StartError::Lane { lane: committed.lane, index, what };
    let found = lane.committed.as_ref().map(|header| (header.index, names::chunk_hash(header)));
    if found.unwrap_or_default() != (committed.index, committed.chunk_hash) {
        return Err(wrong(committed.index, "is not the one that the last header commits"));
    }
    let mut tip = *committed;
    for chunk in &lane.suffix {
        let index = chunk.stored.header.index;
        if !links(term, &tip, &chunk.stored.header) {
            return Err(wrong(index, "does not link to the one before"));
        }
        if blake3(&chunk.stored.body) != chunk.stored.header.body_digest || !has_count(chunk) {
            return Err(wrong(index, "has not the body that its header names"));
        }
        tip = chunk.tip();
    }
    if lane.frontier.size() == tip.seqno.get() && lane.frontier.root() == tip.lane_root {
        Ok(())
    } else {
        Err(wrong(tip.index, "does not end in the lane's tree"))
    }
}

fn has_count(chunk: &Chunk) -> bool {
    usize::try_from(chunk.stored.header.count) == Ok(chunk.transactions.len())
}
