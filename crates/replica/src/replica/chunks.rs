//! Chunks: cut, received, cut back, committed; and the terms that begin with a header.

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_consensus::{Evidence, SignedChunk, moves};
use quipu_log::TermRecord;
use quipu_types::{
    ChunkHeader, CommitCertificate, Hash, Header, Height, Lane as LaneNumber, Seqno, Term, Tip,
    ValidatorIndex,
};

use super::{Executing, HELD_SIZE_MAX, Refused, Replica, others};
use crate::admission::Admitted;
use crate::api::{Block, Chunk, Effect, LaneBatch};
use crate::checking::Checking;
use crate::fetch::ASIDE_COUNT_MAX;
use crate::lane::{ChunkFault, Fit, Lane, Lanes};
use crate::peer::PeerMessage;
use crate::producers::Place;
use crate::replica::clients::EarlyForwards;
use crate::replica::start::may_sequence;

/// Evidence of one kind against one validator that is given out: more says nothing new, and would fill disks.
const EVIDENCE_COUNT_MAX: u32 = 4;

impl Replica {
    /// Cuts full chunks of a lane at once: hashing them need not wait for a sync.
    pub(super) fn cut_full(&mut self, lane: LaneNumber) {
        let is_full = |lanes: &Lanes, size_max| {
            lanes.get(lane).is_some_and(|lane| lane.may_cut() && lane.queue_size() >= size_max)
        };
        while is_full(&self.lanes, self.chunk_size_max) && self.has_room() {
            self.cut(lane);
        }
    }

    pub(super) fn cut_chunks(&mut self) {
        let (now_us, interval_us) = (self.now_us, self.clock_chunk_us);
        let is_stopping = self.stopping_us.is_some();
        let due = |lane: &&Lane| {
            let is_due = || !is_stopping && lane.is_clock_due(now_us, interval_us);
            lane.may_cut() && (lane.queue_size() > 0 || is_due())
        };
        let lanes: Vec<LaneNumber> =
            self.lanes.all.iter().filter(due).map(|lane| lane.term.lane).collect();
        for lane in lanes {
            if self.has_room() {
                self.cut(lane);
                self.cut_full(lane);
            }
        }
    }

    /// Own chunks wait while what no cut covers is as much as others hold.
    fn has_room(&self) -> bool {
        self.lanes.held_size() < HELD_SIZE_MAX / 2
    }

    fn cut(&mut self, lane: LaneNumber) {
        self.hurry_up(lane);
        let tips = self.lanes.durable_tips();
        let parent = self.core.parent();
        let header = (parent.height > Height::default()).then_some((parent.height, parent.hash));
        let (now_us, size_max) = (self.now_us, self.chunk_size_max);
        let (core, striping) = (&mut self.core, &self.striping);
        let lane = self.lanes.get_mut(lane).expect("the caller has it from the lanes");
        if lane.next_term.is_some() {
            return;
        }
        if self.ticks {
            lane.tick(now_us);
        }
        let sign = |header: &ChunkHeader| core.sign_chunk(header);
        let (chunk, stripes) =
            lane.cut((now_us, size_max), header, &tips, |body| striping.of(body), sign);
        for admitted in &chunk.transactions {
            self.producers.hold(admitted);
        }
        let chunk = Arc::new(chunk);
        self.gate.write(Effect::WriteChunk(Arc::clone(&chunk)));
        if stripes.is_empty() {
            self.tell_all(&PeerMessage::Chunk(chunk.stored.clone()));
        }
        for (to, stripe) in self.striping.letters(&chunk.stored, stripes) {
            self.tell(to, &PeerMessage::Stripe(stripe));
        }
    }

    /// Takes another validator's chunk, and those that waited for it.
    pub(super) fn chunk(&mut self, chunk: Arc<Chunk>) -> Result<(), Refused> {
        let number = chunk.stored.header.lane;
        let Some(lane) = self.lanes.get(number) else { return Ok(()) };
        let place = usize::from(number.get());
        match lane.fit(&chunk.stored.header, &chunk.hash, self.core.context().rules.branch) {
            Fit::Known | Fit::Void => return Ok(()),
            fit @ (Fit::Ahead | Fit::Fork) => {
                if fit == Fit::Fork {
                    self.accuse_of_fork(&chunk);
                } else if self.is_far_behind() {
                    // What comes early is fetched when its turn comes.
                    return Ok(());
                }
                if let Some(side) = self.lanes.side_mut(place) {
                    side.keep(chunk);
                }
                return Ok(());
            }
            Fit::Next => self.append(&chunk)?,
        }
        self.take_early(number)
    }

    /// Takes the chunks that waited for the last one.
    fn take_early(&mut self, number: LaneNumber) -> Result<(), Refused> {
        let place = usize::from(number.get());
        let checks_branch = self.core.context().rules.branch;
        loop {
            let Some((lane, side)) = self.lanes.get(number).zip(self.lanes.side(place)) else {
                return Ok(());
            };
            let (tip, next) = (lane.tip, lane.tip.index.saturating_add(1));
            let others: Vec<Arc<Chunk>> = side.at(tip.index).cloned().collect();
            let fits = |chunk: &&Arc<Chunk>| {
                lane.fit(&chunk.stored.header, &chunk.hash, checks_branch) == Fit::Next
            };
            let next = side.at(next).find(fits).cloned();
            for other in others.iter().filter(|other| other.hash != tip.chunk_hash) {
                self.accuse_of_fork(other);
            }
            let Some(chunk) = next else { return Ok(()) };
            if let Some(side) = self.lanes.side_mut(place) {
                side.remove(&chunk);
            }
            self.append(&chunk)?;
            if self.lanes.get(number).is_none_or(|lane| lane.tip.chunk_hash != chunk.hash) {
                // There is no room for it.
                return Ok(());
            }
        }
    }

    /// Holds a chunk that links, if it keeps every rule (L2).
    fn append(&mut self, chunk: &Arc<Chunk>) -> Result<(), Refused> {
        let header = &chunk.stored.header;
        let (number, index) = (header.lane, header.index);
        let size = self.lanes.held_size().saturating_add(chunk.stored.body.len());
        if size > HELD_SIZE_MAX {
            return Ok(());
        }
        let mut fault = None;
        for admitted in &chunk.transactions {
            match self.producers.place_in_chunk(admitted) {
                Place::Next { .. } => self.producers.hold(admitted),
                _ => fault = Some(ChunkFault::Sequence),
            }
        }
        let lane = self.lanes.get_mut(number).expect("the caller found it");
        let fault = fault.or_else(|| lane.append(chunk).err());
        if let Some(fault) = fault {
            self.refresh(number);
            self.convict(number);
            return Err(Refused::Chunk { lane: number, index, fault });
        }
        self.gate.write(Effect::WriteChunk(Arc::clone(chunk)));
        if let Some(suspicion) = self.suspicions.get_mut(usize::from(number.get())) {
            suspicion.moved(self.now_us);
        }
        Ok(())
    }

    /// A chunk of a place at which another one is held: proof against the lane's sequencer.
    fn accuse_of_fork(&mut self, chunk: &Chunk) {
        let header = &chunk.stored.header;
        let held = self.lanes.get(header.lane).and_then(|lane| lane.signed(header.index));
        let Some(held) = held.filter(|held| held.header != *header) else { return };
        let signature = chunk.stored.signature;
        let other = SignedChunk { header: header.clone(), signature };
        self.prove(Evidence::Chunks(Box::new([(**held).clone(), other])));
    }

    /// Evidence was found here: it is kept, and told to all if it ends a term.
    pub(super) fn prove(&mut self, evidence: Evidence) {
        let Some(culprit) = evidence.culprit(self.core.context()) else { return };
        if let Evidence::Chunks(pair) = &evidence {
            let [first, _] = &**pair;
            let (lane, term) = (first.header.lane, first.header.term);
            if self.is_current(lane, term) && self.convict(lane) {
                self.tell_all(&PeerMessage::Evidence(evidence.clone()));
            }
        }
        let count = self.proven.entry((culprit, evidence.kind())).or_default();
        if *count < EVIDENCE_COUNT_MAX {
            *count = count.saturating_add(1);
            self.gate.answer(Effect::Evidence(Arc::new(evidence)));
        }
    }

    pub(super) fn is_current(&self, lane: LaneNumber, term: Term) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.term.term == term)
    }

    /// Suspects a lane's sequencer for good. `false` when it was so before.
    pub(super) fn convict(&mut self, lane: LaneNumber) -> bool {
        let suspicion = self.suspicions.get_mut(usize::from(lane.get()));
        suspicion.is_some_and(crate::suspicion::Suspicion::convict)
    }

    /// A tip that has to be held, and overrides: if it stands on another branch than the one that is held, and all of it is
    /// here, the lane is cut back to the fork and goes on with it.
    pub(super) fn switch(&mut self, target: &Tip) {
        let Some((fork, path)) = self.lanes.path(target) else {
            return self.make_room(target);
        };
        let branch: Vec<Arc<Chunk>> = path.into_iter().rev().cloned().collect();
        if branch.is_empty() {
            return;
        }
        self.cut_back(target.lane, fork);
        for chunk in branch {
            if let Some(side) = self.lanes.side_mut(usize::from(target.lane.get())) {
                side.remove(&chunk);
            }
            // What does not fit after all is not held, and asked for again.
            if self.append(&chunk).is_err() {
                return;
            }
        }
        // Its own faults are those of who made them.
        let _ = self.take_early(target.lane);
    }

    /// More of another branch is missing than is kept aside: what is held is given up, and the other comes from the cut on.
    fn make_room(&mut self, target: &Tip) {
        let place = usize::from(target.lane.get());
        let Some((lane, side)) = self.lanes.get(target.lane).zip(self.lanes.side(place)) else {
            return;
        };
        let committed = lane.committed.index;
        let count = target.index.saturating_sub(committed);
        let is_long = usize::try_from(count).is_ok_and(|count| count >= ASIDE_COUNT_MAX);
        let next = lane.tip.index.saturating_add(1);
        let is_fork = lane.tip_at(target.index).is_some() || side.at(next).next().is_some();
        if is_long && is_fork && self.fetch.makes_room(target, count, self.now_us) {
            self.cut_back(target.lane, committed);
            if let Some(side) = self.lanes.side_mut(place) {
                side.clear();
            }
        }
    }

    /// Cuts a lane back to chunk `index`; what was cut off stays aside, where it is found if it is needed after all.
    fn cut_back(&mut self, number: LaneNumber, index: u64) -> Vec<Arc<Admitted>> {
        let Some(lane) = self.lanes.get_mut(number) else { return Vec::new() };
        if lane.tip.index == index {
            return Vec::new();
        }
        let cut = lane.truncate(index);
        if let Some(side) = self.lanes.side_mut(usize::from(number.get())) {
            cut.iter().for_each(|held| side.keep(Arc::new(held.chunk())));
        }
        self.gate.write(Effect::CutLane { lane: number, index });
        self.refresh(number);
        cut.into_iter().flat_map(|held| held.transactions).collect()
    }

    /// Tells the producers anew what the lane holds and what waits for it.
    pub(super) fn refresh(&mut self, number: LaneNumber) {
        self.producers.void(number);
        let Some(lane) = self.lanes.get(number) else { return };
        for admitted in lane.held().flat_map(|held| &held.transactions) {
            self.producers.hold(admitted);
        }
        let queue = lane.queue();
        let pending = self.pending.of(number).map(|waiting| &waiting.admitted);
        for admitted in queue.chain(pending) {
            if let Place::Next { after } = self.producers.place(admitted) {
                self.producers.take(admitted, after);
            }
        }
    }

    pub(super) fn refresh_all(&mut self) {
        for lane in (0..self.lane_count).map(LaneNumber::new) {
            self.refresh(lane);
        }
    }

    /// The block of a header that is about to be voted on, if all of it is held.
    pub(super) fn speculate(&mut self, header: Header, hash: Hash) {
        if self.is_alone() || !self.executing.is_empty() {
            return;
        }
        let held = |tip: &Tip| self.lanes.get(tip.lane)?.tip_at(tip.index).filter(|own| own == tip);
        if !header.cut.iter().all(|tip| tip.index == 0 || held(tip).is_some()) {
            return;
        }
        let lanes = self.batches(&header, |lane, tip| lane.upto(tip));
        self.gate.answer(Effect::Speculate(Arc::new(Block { header, hash, lanes })));
    }

    /// What a header adds, lane by lane in its order; `take` gives a lane's transactions up to a tip.
    fn batches(
        &mut self,
        header: &Header,
        mut take: impl FnMut(&mut Lane, &Tip) -> Vec<Arc<Admitted>>,
    ) -> Vec<LaneBatch> {
        let mut taken: BTreeMap<LaneNumber, (Seqno, Vec<Arc<Admitted>>)> = BTreeMap::new();
        let mut before = Vec::with_capacity(header.cut.len());
        for tip in &header.cut {
            let lane = self.lanes.get_mut(tip.lane).expect("a valid cut has the genesis' lanes");
            let after = lane.committed.seqno;
            let transactions = take(lane, tip);
            before.push(Tip { seqno: after, ..*tip });
            taken.insert(tip.lane, (after, transactions));
        }
        moves(header, &before)
            .into_iter()
            .map(|(lane, after, to)| {
                let (_, transactions) = taken.remove(&lane).expect("it was put in above");
                let mut seqno = after;
                let numbered: Vec<(Seqno, Arc<Admitted>)> = transactions
                    .into_iter()
                    .map(|admitted| {
                        seqno = seqno.next();
                        (seqno, admitted)
                    })
                    .collect();
                assert_eq!(seqno, to, "a lane's seqnos are dense");
                (lane, numbered)
            })
            .collect()
    }

    pub(super) fn commit(&mut self, header: Header, hash: Hash, certificate: CommitCertificate) {
        self.look_back(&header, &certificate);
        if header.next_set.is_some() {
            self.enter_epoch();
        }
        let seen = |lane: &Lane| (lane.committed.index, lane.committed_ticks());
        let before: Vec<(u64, u64)> = self.lanes.all.iter().map(seen).collect();
        for tip in &header.cut {
            let place = usize::from(tip.lane.get());
            if let Some(side) = self.lanes.side_mut(place) {
                side.forget_upto(tip.index);
            }
            if let Some(gathering) = self.gathering.get_mut(place) {
                gathering.forget_upto(tip.index);
            }
        }
        let lanes = self.batches(&header, |lane, tip| lane.commit(tip));
        let lanes_seen = self.lanes.all.iter().zip(&before);
        for (suspicion, (lane, before)) in self.suspicions.iter_mut().zip(lanes_seen) {
            let after = seen(lane);
            suspicion.committed(after.0.saturating_sub(before.0));
            suspicion.ticked(header.time, after.1.saturating_sub(before.1), lane.rate_hz);
        }
        for (_, admitted) in lanes.iter().flat_map(|(_, batch)| batch) {
            self.producers.commit(admitted, header.height);
        }
        self.count_complaints((header.height, hash, header.time), &before);
        for (lane, term) in header.term_changes.clone() {
            self.begin_term(lane, term, header.height, hash);
        }
        let block = Arc::new(Block { header, hash, lanes });
        let height = block.header.height;
        let transactions = block.ordered().map(|(_, admitted)| Arc::clone(admitted)).collect();
        self.answer_early(&block);
        self.executing.push_back(Executing {
            height,
            header: hash,
            time: block.header.time,
            transactions,
        });
        let certificate = Arc::new(certificate);
        self.gate.leave(Effect::WriteHeader { block: Arc::clone(&block), certificate });
        self.gate.leave(Effect::Execute(block));
        self.lay_trap(height);
        self.settle();
        self.end_check();
        if height.get().is_multiple_of(self.checkpoint_height_count) {
            self.checkpoint(height.next());
        }
    }

    /// The core is in the next epoch: other validators, of other weights.
    fn enter_epoch(&mut self) {
        let (set, own) = (&self.core.context().set, self.core.own());
        self.others = others(set, own);
        self.striping = self.striping.among(set, own);
        self.heard.retain(|validator, _| set.get(*validator).is_some());
        self.use_coin();
    }

    /// The term of a lane ends with the header that was just committed; the next begins after its cut.
    fn begin_term(&mut self, number: LaneNumber, term: Term, height: Height, branch: Hash) {
        let committed = self.lanes.get(number).map_or(0, |lane| lane.committed.index);
        let void = self.cut_back(number, committed);
        let sequencer = self.core.context().epochs.sequencer(number, term);
        let place = usize::from(number.get());
        let Some(lane) = self.lanes.get_mut(number) else { return };
        let first_seqno = lane.committed.seqno.next();
        let record = TermRecord { lane: number, term, sequencer, branch, first_seqno, height };
        // Who stops takes no lane: it would only give it up again.
        let is_own = sequencer == self.core.own()
            && may_sequence(&record, self.observing.as_ref())
            && self.stopping_us.is_none();
        let known = lane.next_term.take();
        let queue = lane.begin(record, is_own, self.now_us);
        lane.is_held_back = self.checking.is_some();
        if let Some((known, chunks)) = known {
            assert_eq!(known, record, "a height has one header, and it begins one term");
            for chunk in chunks {
                lane.append(&chunk).expect("what was written was judged before");
            }
            // Nothing may be written for as long as these are waited for.
            self.gate.rewritten();
        } else {
            self.gate.write(Effect::WriteTerm(record));
        }
        if let Some(suspicion) = self.suspicions.get_mut(place) {
            suspicion.begin(self.now_us);
        }
        if let Some(side) = self.lanes.side_mut(place) {
            side.clear();
        }
        if let Some(gathering) = self.gathering.get_mut(place) {
            gathering.clear();
        }
        self.fetch.satisfied(number);
        self.refresh(number);
        if let Some(urgent) = self.urgent.get_mut(place) {
            urgent.clear();
        }
        self.reorder(number, void, queue);
    }

    /// A lane's new sequencer orders first what the old one had ordered in vain, in its old order; then what was complained of.
    fn reorder(&mut self, number: LaneNumber, void: Vec<Arc<Admitted>>, queue: Vec<Arc<Admitted>>) {
        let is_own = self.lanes.get(number).is_some_and(|lane| lane.is_own);
        let early = self.early_forwards.get_mut(usize::from(number.get()));
        let early = early.map(EarlyForwards::take).unwrap_or_default();
        let complained = self.complaints.end(number);
        if is_own {
            let pending = self.pending.of(number).map(|waiting| Arc::clone(&waiting.admitted));
            let all = void.into_iter().chain(complained).chain(queue).chain(pending).chain(early);
            let all: Vec<Arc<Admitted>> = all.collect();
            // The producers were told of what is pending: the queue is judged from what is held alone. That is nothing,
            // or the chunks of this very term that were made before its header was lost: they stay.
            self.producers.void_waiting(number);
            if let Some(told) = self.told_us.get_mut(usize::from(number.get())) {
                *told = self.now_us;
            }
            for admitted in all {
                self.enqueue(admitted);
            }
        } else {
            complained.into_iter().for_each(|admitted| self.forward(admitted));
            self.forward_pending(number);
        }
    }

    /// Puts a transaction into the queue of an own lane, if it comes next there.
    pub(super) fn enqueue(&mut self, admitted: Arc<Admitted>) {
        let Place::Next { after } = self.producers.place(&admitted) else { return };
        self.producers.take(&admitted, after);
        let lane =
            self.lanes.get_mut(admitted.lane).expect("admission finds a lane of the genesis");
        lane.push(admitted);
    }

    /// Lets the write-ahead log drop what is over; votes of the height that was just committed stay until its header is
    /// durable.
    fn checkpoint(&mut self, height: Height) {
        self.gate.leave(Effect::BeginHeight(height));
        let durable = Height::new(height.get().saturating_sub(2));
        // Others may still tell what it said since its head: until they have, it has to know that itself.
        let head = self.checking.as_ref().map(Checking::head);
        let durable = head.map_or(durable, |head| head.min(durable));
        for record in self.core.checkpoint(durable) {
            let bytes = quipu_types::Encode::to_bytes(&record);
            self.gate.leave(Effect::WriteVote { height, bytes });
        }
    }

    /// Whom to ask when nobody in particular is known to hold a thing.
    pub(super) fn others(&self) -> Vec<ValidatorIndex> {
        self.others.clone()
    }
}
