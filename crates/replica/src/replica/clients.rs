//! Clients' transactions: taken, brought to their lanes' sequencers, answered.

use std::collections::VecDeque;
use std::sync::Arc;

use quipu_types::{Lane as LaneNumber, Receipt, ValidatorIndex};

use super::{Executing, Replica};
use crate::admission::Admitted;
use crate::api::{Answer, Block, Effect, Producer, Refusal, Ticket};
use crate::lane::stored_size;
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
            Place::Gap { .. } if self.is_behind() => {
                return Err(Answer::Refused(Refusal::Behind));
            }
            Place::Gap { next } => return Err(Answer::Refused(Refusal::Gap { next })),
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

    /// Whether a chunk, or a block that is being executed, has this very transaction.
    fn is_under_way(&self, admitted: &Admitted) -> bool {
        let is_same = |other: &Arc<Admitted>| other.tx == admitted.tx;
        let executing = self.executing.iter().flat_map(|block| &block.transactions);
        let lane = self.lanes.get(admitted.lane);
        let held = lane.into_iter().flat_map(|lane| lane.held());
        let queue = lane.into_iter().flat_map(|lane| lane.queue());
        held.flat_map(|held| &held.transactions).chain(queue).chain(executing).any(is_same)
    }

    /// Puts a transaction on its way to its lane's sequencer.
    fn forward(&mut self, admitted: Arc<Admitted>) {
        let Some(lane) = self.lanes.get(admitted.lane) else { return };
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

    /// What a lane keeps waiting is told to its sequencer again, and its first to everyone.
    pub(super) fn press(&mut self, number: LaneNumber) {
        let place = usize::from(number.get());
        let Some((lane, suspicion)) = self.lanes.get(number).zip(self.suspicions.get(place)) else {
            return;
        };
        if lane.is_own {
            return;
        }
        let unheld = |waiting: &&Waiting| !self.producers.is_held(&waiting.admitted);
        let Some(first) = self.pending.of(number).find(unheld) else { return };
        let told_us = self.told_us.get(place).copied().unwrap_or(0);
        let since_us = first.since_us.max(told_us);
        let silent_us = since_us.max(suspicion.moved_us());
        let is_overdue = self.now_us >= silent_us.saturating_add(suspicion.patience(OVERDUE_US));
        // A lane that moves without it: it was lost on its way, or is left out.
        let is_passed_over = self.now_us >= since_us.saturating_add(PASSED_OVER_US);
        if !is_overdue && !is_passed_over {
            return;
        }
        let first = Arc::clone(&first.admitted);
        self.watch(&first);
        let transactions = vec![Arc::clone(&first.bytes)];
        let message = PeerMessage::Forward { is_overdue: true, transactions };
        for to in self.others() {
            self.ask(to, &message);
        }
        self.forward_pending(number);
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
            let Some(waiting) = self.pending.remove(&tx) else { continue };
            for (ticket, _) in waiting.tickets {
                let answer = Answer::Refused(Refusal::Stopping);
                self.gate.answer(Effect::Answer { ticket, answer });
            }
        }
    }
}
