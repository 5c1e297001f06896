//! Complaints of clients: heard, told to the others, served first by who sequences the lane, counted by the rest. What
//! they count for is in [`crate::complaints`].

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_types::{Complaint, Hash, Height, Lane as LaneNumber, PublicKey, Time, ValidatorIndex};

use super::Replica;
use crate::admission::Admitted;
use crate::api::{Answer, Effect, Refusal, Ticket};
use crate::complaints::{Grievance, Heard, SOURCE_COUNT_MAX, Source, Standing};
use crate::lane::stored_size;
use crate::peer::PeerMessage;
use crate::producers::Place;

impl Replica {
    /// A client complains.
    pub(super) fn complain(&mut self, ticket: Ticket, grievance: Grievance) {
        let Complaint { lane, term, .. } = grievance.complaint;
        let answer = match self.hear(None, grievance) {
            Ok(()) => Answer::Heard { lane, term },
            Err(refusal) => Answer::Refused(refusal),
        };
        self.gate.answer(Effect::Answer { ticket, answer });
    }

    /// Another validator hands on a complaint. What is not heard may have been right where that one is.
    pub(super) fn complained(&mut self, from: ValidatorIndex, grievance: Grievance) {
        let _ = self.hear(Some(from), grievance);
    }

    fn hear(&mut self, source: Source, grievance: Grievance) -> Result<(), Refusal> {
        if self.stopping_us.is_some() {
            return Err(Refusal::Stopping);
        }
        if self.core.is_muted() || self.is_far_behind() {
            return Err(Refusal::Behind);
        }
        let number = grievance.complaint.lane;
        let Some(lane) = self.lanes.get(number) else {
            // Admission finds a lane of the genesis; a transaction that is not admitted may name any.
            return Err(Refusal::Behind);
        };
        let (is_own, sequencer) = (lane.is_own, lane.term.sequencer);
        let admitted = grievance.admitted.clone();
        if let Some(admitted) = admitted.clone().filter(|_| is_own && source.is_some()) {
            // Whatever is to be said of the complaint: others may hear it, and count.
            self.hurry(admitted);
            return Ok(());
        }
        let (place, ordered) = match &admitted {
            Some(admitted) => self.producers.place_ordered(admitted),
            None => (Place::Gap { next: crate::api::Producer::NEW }, Height::default()),
        };
        let standing = Standing {
            term: lane.term.term,
            tip_index: lane.tip.index,
            place,
            ordered,
            now_us: self.now_us,
            wants_next: self.core.context().rules.complaints_of_next,
        };
        let message = PeerMessage::Complaint(grievance.complaint.clone());
        let heard = self.complaints.hear(source, grievance, (standing, is_own));
        let heard = heard.map_err(Refusal::Complaint)?;
        if let Some(admitted) = admitted.filter(|_| is_own) {
            self.hurry(admitted);
            return Ok(());
        }
        match heard {
            Heard::TellAll => {
                for to in self.others() {
                    self.ask(to, &message);
                }
            }
            // Who brought it may have told this validator alone.
            Heard::TellSequencer => self.ask(sequencer, &message),
            Heard::Known => {}
        }
        Ok(())
    }

    /// Tells a lane's sequencer again what it is to order first.
    pub(super) fn press_complaints(&mut self, number: LaneNumber) {
        let Some(lane) = self.lanes.get(number).filter(|lane| !lane.is_own) else { return };
        let sequencer = lane.term.sequencer;
        for complaint in self.complaints.press(number, self.now_us) {
            self.ask(sequencer, &PeerMessage::Complaint(complaint));
        }
    }

    /// A transaction of an own lane is to stand in the next chunk, before what waits longer (B4).
    fn hurry(&mut self, admitted: Arc<Admitted>) {
        let number = admitted.lane;
        let Some(lane) = self.lanes.get_mut(number).filter(|lane| lane.may_cut()) else { return };
        let Place::Next { after } = self.producers.place_in_chunk(&admitted) else { return };
        let size = lane.queue_size().saturating_add(stored_size(&admitted));
        if size > self.pending_size_max {
            return;
        }
        let signer = admitted.transaction.signer;
        if lane.queue_size() == 0 || !self.producers.is_waiting(number, signer) {
            self.producers.take(&admitted, after);
            return lane.push_first(admitted);
        }
        // What it has in the queue is found when the next chunk is cut, together with that of others.
        let count_max = self.others.len().saturating_add(1).saturating_mul(SOURCE_COUNT_MAX);
        if let Some(urgent) = self.urgent.get_mut(usize::from(number.get()))
            && urgent.len() < count_max
            && urgent.iter().all(|other| other.transaction.signer != signer)
        {
            urgent.push(admitted);
        }
    }

    /// Puts first in an own lane's queue what its signers have waited for; what else they have there, last.
    pub(super) fn hurry_up(&mut self, number: LaneNumber) {
        let place = usize::from(number.get());
        let urgent = self.urgent.get_mut(place).map(std::mem::take).unwrap_or_default();
        let Some(lane) = self.lanes.get_mut(number).filter(|_| !urgent.is_empty()) else { return };
        let mut firsts = Vec::new();
        let mut later: BTreeMap<PublicKey, Vec<Arc<Admitted>>> = BTreeMap::new();
        for admitted in urgent {
            if let Place::Next { .. } = self.producers.place_in_chunk(&admitted) {
                later.insert(admitted.transaction.signer, Vec::new());
                firsts.push(admitted);
            }
        }
        let mut rest = Vec::new();
        for admitted in lane.take_queue() {
            match later.get_mut(&admitted.transaction.signer) {
                Some(own) => own.push(admitted),
                None => rest.push(admitted),
            }
        }
        for signer in later.keys() {
            self.producers.void_waiting_of(number, *signer);
        }
        // The first of a signer that is in the queue in the place of what it complains of will do as well.
        let in_place = |admitted: &Arc<Admitted>, own: &Arc<Admitted>| {
            let place = |one: &Admitted| (one.transaction.incarnation, one.transaction.sequence);
            place(admitted) == place(own)
        };
        for admitted in firsts {
            let own = later.get(&admitted.transaction.signer);
            let queued = own.into_iter().flatten().find(|own| in_place(&admitted, own)).cloned();
            self.enqueue(queued.unwrap_or(admitted));
        }
        if let Some(lane) = self.lanes.get_mut(number) {
            rest.into_iter().for_each(|admitted| lane.push(admitted));
        }
        for admitted in later.into_values().flatten() {
            self.enqueue(admitted);
        }
    }

    /// A header is committed: heights are counted, and what it orders is gone.
    pub(super) fn count_complaints(&mut self, header: (Height, Hash, Time), before: &[(u64, u64)]) {
        let counts = !self.is_far_behind();
        let has_excuses = self.core.context().rules.complaints_excuse;
        let lanes = &self.lanes.all;
        let moved = |place: usize| {
            let before = before.get(place).map_or(0, |(index, _)| *index);
            let lane = lanes.get(place);
            let (after, tip) = lane.map_or((0, 0), |lane| (lane.committed.index, lane.tip.index));
            (before, after, tip)
        };
        let producers = &self.producers;
        let is_gone = |admitted: &Admitted| producers.is_committed(admitted);
        self.complaints.committed(header, (counts, has_excuses), moved, is_gone);
    }
}
