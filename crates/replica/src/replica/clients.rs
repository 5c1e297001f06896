//! Clients' transactions: taken, brought to their lanes' sequencers, answered.
//!
//! ```text
//!  Submit ─> taken ─┬ own lane: queue ───────────> chunk ─> cut ─> executed ─> answered
//!                   └ Forward ─> sequencer's queue ─┘
//!  in no cut for long (R8):
//!    next here, or in a chunk that is held here ─> told to everyone, who watch what they hold in no chunk
//!    next in the own lane                       ─> queued
//!    after what is gone                         ─> refused: a gap
//! ```
//! # Invariants
//! * R8 Who waits is answered, if a quorum lives. A transaction of a chunk that others lack is told to them too: they
//!   see neither that chunk nor what stands after it, and have no other reason to suspect its sequencer.
//! * C1 What is refused as a gap after it was taken had its predecessor in a chunk that a new term made void, and
//!   nobody brought that one again for [`PASSED_OVER_US`] after the term began. It may still be ordered, by who heard of
//!   it: the client sends both again, byte for byte.

use std::collections::VecDeque;
use std::sync::Arc;

use quipu_types::{Hash, Lane as LaneNumber, Receipt, ValidatorIndex};

use super::{Executing, Replica};
use crate::admission::Admitted;
use crate::api::{Answer, Block, Effect, Producer, Refusal, Ticket};
use crate::lane::{Lane, stored_size};
use crate::peer::{FORWARD_COUNT_MAX, FORWARD_SIZE, PeerMessage};
use crate::pending::{Pending, Waiting};
use crate::producers::Place;
use crate::suspicion::{OVERDUE_US, PASSED_OVER_US};

/// Most tickets that wait for one transaction.
const TICKET_COUNT_MAX: usize = 16;
/// Transactions that are told to a silent lane's sequencer again at a time.
const AGAIN_COUNT_MAX: usize = 512;

/// Transactions of a lane that others forwarded before this validator knew that it is the lane's sequencer: those who
/// commit a header first tell the new one at once. The first taken give way when there are too many.
#[derive(Debug, Default)]
pub(super) struct EarlyForwards {
    all: VecDeque<Arc<Admitted>>,
    size: usize,
}

impl EarlyForwards {
    fn keep(&mut self, admitted: Arc<Admitted>) {
        self.size = self.size.saturating_add(stored_size(&admitted));
        self.all.push_back(admitted);
        while self.all.len() > AGAIN_COUNT_MAX || self.size > FORWARD_SIZE {
            let Some(first) = self.all.pop_front() else { break };
            self.size = self.size.saturating_sub(stored_size(&first));
        }
    }

    /// All, in the order in which they came.
    pub(super) fn take(&mut self) -> VecDeque<Arc<Admitted>> {
        std::mem::take(self).all
    }
}

impl Replica {
    pub(super) fn submit(&mut self, ticket: (Ticket, bool), admitted: Arc<Admitted>) {
        let answer = match self.take(ticket, &admitted) {
            Ok(()) => return self.cut_full(admitted.lane),
            Err(answer) => answer,
        };
        self.gate.answer(Effect::Answer { ticket: ticket.0, answer });
    }

    #[expect(clippy::result_large_err, reason = "what is answered instead, once a transaction")]
    fn take(&mut self, ticket: (Ticket, bool), admitted: &Arc<Admitted>) -> Result<(), Answer> {
        if let Some(waiting) = self.pending.get_mut(&admitted.tx) {
            let count = waiting.tickets.len();
            if count >= TICKET_COUNT_MAX {
                return Err(Answer::Refused(Refusal::Crowded { count }));
            }
            waiting.tickets.push(ticket);
            return Ok(());
        }
        let place = self.producers.place(admitted);
        let after = match place {
            Place::Next { after } => Some(after),
            Place::Gap { next } => return Err(Answer::Refused(self.no_place(next))),
            // It may be this very one, in a chunk that is not executed yet: then its answer comes.
            Place::Used { .. } if self.is_under_way(admitted) => None,
            Place::Used { next, otherwise } => {
                let (tx, lane) = (admitted.tx, admitted.lane);
                return Err(Answer::Used { tx, lane, next, otherwise });
            }
        };
        if self.stopping_us.is_some() {
            return Err(Answer::Refused(Refusal::Stopping));
        }
        let pending_size = self.pending.size().saturating_add(Pending::size_of(admitted));
        if pending_size > self.pending_size_max {
            let (pending_size, pending_size_max) = (self.pending.size(), self.pending_size_max);
            let refusal = Refusal::Overloaded { pending_size, pending_size_max };
            return Err(Answer::Refused(refusal));
        }
        self.pending.insert(ticket, Arc::clone(admitted), self.now_us);
        if let Some(after) = after {
            self.producers.take(admitted, after);
            let lane =
                self.lanes.get_mut(admitted.lane).expect("admission finds a lane of the genesis");
            if lane.is_own {
                lane.push(Arc::clone(admitted));
            } else {
                self.forward(Arc::clone(admitted));
            }
        }
        Ok(())
    }

    /// Why a transaction is not taken that stands after `next`.
    fn no_place(&self, next: Producer) -> Refusal {
        if self.is_behind() { Refusal::Behind } else { Refusal::Gap { next } }
    }

    /// Whether a chunk, or a block that is being executed, has this very transaction.
    fn is_under_way(&self, admitted: &Admitted) -> bool {
        let is_same = |other: &Arc<Admitted>| other.tx == admitted.tx;
        let executing = self.executing.iter().flat_map(|block| &block.transactions);
        let lane = self.lanes.get(admitted.lane);
        let held = lane.into_iter().flat_map(|lane| lane.held());
        let queue = lane.into_iter().flat_map(|lane| lane.queue());
        held.flat_map(|held| &held.transactions).chain(queue).chain(executing).any(is_same)
    }

    /// Puts a transaction on its way to its lane's sequencer, which may be this validator.
    pub(super) fn forward(&mut self, admitted: Arc<Admitted>) {
        let Some(lane) = self.lanes.get(admitted.lane) else { return };
        if lane.may_cut() {
            return self.enqueue(admitted);
        }
        let to = lane.term.sequencer;
        let (transactions, size) = self.forwards.entry(to).or_default();
        *size = size.saturating_add(stored_size(&admitted));
        transactions.push(admitted);
        if *size >= FORWARD_SIZE || transactions.len() >= FORWARD_COUNT_MAX {
            self.send_forwards_to(to);
        }
    }

    /// Sends what is on its way.
    pub(super) fn send_forwards(&mut self) {
        let whom: Vec<ValidatorIndex> = self.forwards.keys().copied().collect();
        for to in whom {
            self.send_forwards_to(to);
        }
    }

    fn send_forwards_to(&mut self, to: ValidatorIndex) {
        let Some((transactions, _)) = self.forwards.remove(&to) else { return };
        if to == self.core.own() {
            // A lane of an own term in which no chunk may be made: another term comes.
            return;
        }
        let transactions = transactions.iter().map(|admitted| Arc::clone(&admitted.bytes));
        let transactions = transactions.collect();
        self.ask(to, &PeerMessage::Forward { is_overdue: false, transactions });
    }

    /// Tells a lane's sequencer everything that waits for it, in order.
    pub(super) fn forward_pending(&mut self, number: LaneNumber) {
        if let Some(told) = self.told_us.get_mut(usize::from(number.get())) {
            *told = self.now_us;
        }
        let waiting = self.pending.of(number);
        let unheld = waiting.filter(|waiting| !self.producers.is_held(&waiting.admitted));
        let again: Vec<Arc<Admitted>> =
            unheld.take(AGAIN_COUNT_MAX).map(|waiting| Arc::clone(&waiting.admitted)).collect();
        for admitted in again {
            self.forward(admitted);
        }
    }

    /// Another validator's clients' transactions, for a lane of this one; or overdue ones, for all to know.
    pub(super) fn forwarded(&mut self, is_overdue: bool, admitted: Vec<Arc<Admitted>>) {
        for admitted in admitted {
            let number = admitted.lane;
            let Some(lane) = self.lanes.get(number) else { continue };
            if lane.is_own {
                let size = lane.queue_size().saturating_add(stored_size(&admitted));
                if size <= self.pending_size_max && self.stopping_us.is_none() {
                    self.enqueue(admitted);
                }
            } else if is_overdue {
                self.watch(&admitted);
                if let Place::Next { .. } = self.producers.place_in_chunk(&admitted) {
                    self.forward(admitted);
                }
            } else if let Some(early) = self.early_forwards.get_mut(usize::from(number.get())) {
                early.keep(admitted);
            }
        }
        for lane in (0..self.lane_count).map(LaneNumber::new) {
            self.cut_full(lane);
        }
    }

    /// Watches a lane for a transaction that could stand there next.
    fn watch(&mut self, admitted: &Arc<Admitted>) {
        if let Place::Next { .. } = self.producers.place_in_chunk(admitted)
            && let Some(suspicion) = self.suspicions.get_mut(usize::from(admitted.lane.get()))
        {
            suspicion.watch(admitted, self.now_us);
        }
    }

    /// What a lane keeps waiting is told to its sequencer again, and to everyone what they can watch for (R8).
    pub(super) fn press(&mut self, number: LaneNumber) {
        let place = usize::from(number.get());
        let Some((lane, suspicion)) = self.lanes.get(number).zip(self.suspicions.get(place)) else {
            return;
        };
        let unordered = |waiting: &&Waiting| !self.producers.is_committed(&waiting.admitted);
        let Some(first) = self.pending.of(number).find(unordered) else { return };
        let told_us = self.told_us.get(place).copied().unwrap_or(0);
        // Not ordered though its lane may move: it was lost on its way, is left out, or stands where nobody else looks.
        let passed_over_us = first.since_us.max(told_us).saturating_add(PASSED_OVER_US);
        let is_passed_over = self.now_us >= passed_over_us;
        if is_passed_over && let Place::Gap { next } = self.producers.place(&first.admitted) {
            let (tx, refusal) = (first.admitted.tx, self.no_place(next));
            return self.refuse(&tx, refusal);
        }
        if lane.may_cut() {
            if is_passed_over {
                self.forward_pending(number);
            }
            return;
        }
        let silent_us = suspicion.moved_us().max(told_us);
        let patience_us = suspicion.patience(OVERDUE_US);
        let is_silent =
            |since_us: u64| self.now_us >= silent_us.max(since_us).saturating_add(patience_us);
        if !is_passed_over && !is_silent(first.since_us) {
            return;
        }
        let is_next = |waiting: &&Waiting| {
            matches!(self.producers.place_in_chunk(&waiting.admitted), Place::Next { .. })
        };
        let next = self.pending.of(number).find(is_next);
        if is_passed_over || next.is_some_and(|next| is_silent(next.since_us)) {
            let next = next.map(|waiting| Arc::clone(&waiting.admitted));
            self.tell_overdue(number, next);
        }
    }

    /// Tells everyone what stands next in a lane here, and, for those who have not the first chunk that is held here,
    /// what stands next there; and the lane's sequencer all that waits.
    fn tell_overdue(&mut self, number: LaneNumber, next: Option<Arc<Admitted>>) {
        let held = self.lanes.get(number).into_iter().flat_map(Lane::held);
        let held = held.flat_map(|held| &held.transactions).next().map(Arc::clone);
        let told: Vec<Arc<Admitted>> = held.into_iter().chain(next).collect();
        for admitted in &told {
            self.watch(admitted);
        }
        if !told.is_empty() {
            let transactions = told.iter().map(|admitted| Arc::clone(&admitted.bytes)).collect();
            let message = PeerMessage::Forward { is_overdue: true, transactions };
            for to in self.others() {
                self.ask(to, &message);
            }
        }
        self.forward_pending(number);
    }

    /// Answers those who wait for a transaction that it is not taken after all.
    fn refuse(&mut self, tx: &Hash, refusal: Refusal) {
        let Some(waiting) = self.pending.remove(tx) else { return };
        for (ticket, _) in waiting.tickets {
            let answer = Answer::Refused(refusal);
            self.gate.answer(Effect::Answer { ticket, answer });
        }
    }

    /// Tells those who asked for no more that a block orders their transactions.
    pub(super) fn answer_early(&mut self, block: &Block) {
        let (height, header, time) = (block.header.height, block.hash, block.header.time);
        for (position, admitted) in block.ordered() {
            let Some(waiting) = self.pending.get_mut(&admitted.tx) else { continue };
            let tx = admitted.tx;
            let (early, late) = waiting.tickets.drain(..).partition(|(_, is_early)| *is_early);
            waiting.tickets = late;
            let early: Vec<(Ticket, bool)> = early;
            for (ticket, _) in early {
                let answer = Answer::Ordered { tx, position, height, header, time };
                self.gate.leave(Effect::Answer { ticket, answer });
            }
        }
    }

    /// Answers those who wait for an executed transaction, and those whose own one it made impossible.
    pub(super) fn answer(&mut self, block: &Executing, admitted: &Admitted, receipt: &Receipt) {
        let (height, header, time) = (block.height, block.header, block.time);
        if let Some(waiting) = self.pending.remove(&receipt.tx) {
            for (ticket, _) in waiting.tickets {
                let answer = Answer::Final { receipt: *receipt, height, header, time };
                self.gate.answer(Effect::Answer { ticket, answer });
            }
            return;
        }
        let transaction = &admitted.transaction;
        let own = (transaction.incarnation, transaction.sequence);
        let passed: Vec<_> = self
            .pending
            .by(admitted.lane, transaction.signer)
            .filter(|waiting| {
                let other = &waiting.admitted.transaction;
                (other.incarnation, other.sequence) <= own
            })
            .map(|waiting| waiting.admitted.tx)
            .collect();
        let incarnation = transaction.incarnation;
        let next = Producer { incarnation, sequence: transaction.sequence.saturating_add(1) };
        for tx in passed {
            let Some(waiting) = self.pending.remove(&tx) else { continue };
            let lane = admitted.lane;
            let otherwise = if waiting.admitted.transaction.incarnation < incarnation {
                quipu_types::code::FENCED
            } else {
                quipu_types::code::SEQUENCE_USED
            };
            for (ticket, _) in waiting.tickets {
                let answer = Answer::Used { tx, lane, next, otherwise };
                self.gate.answer(Effect::Answer { ticket, answer });
            }
        }
    }

    /// The validator stops, though something is pending.
    pub(super) fn refuse_pending(&mut self) {
        let all: Vec<_> = (0..self.lane_count)
            .flat_map(|lane| self.pending.of(LaneNumber::new(lane)))
            .map(|waiting| waiting.admitted.tx)
            .collect();
        for tx in all {
            self.refuse(&tx, Refusal::Stopping);
        }
    }
}
