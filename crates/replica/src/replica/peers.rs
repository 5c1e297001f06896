//! Other validators: what they sent, what is asked of them, what they are suspected of.

use std::sync::Arc;

use quipu_consensus::core::Event;
use quipu_consensus::{Evidence, Message, Now};
use quipu_proof::schedule::PRIMARY_HEIGHT_COUNT;
use quipu_types::{
    CommitCertificate, Hash, Header, Height, Lane as LaneNumber, Signature, SignedState,
    StateCertificate, Tip, ValidatorIndex,
};

use super::{HOUSEKEEPING_US, Refused, Replica};
use crate::api::{Chunk, Effect};
use crate::checking::Checking;
use crate::complaints::SHOWN_US;
use crate::fetch::{Asked, CHUNK_COUNT_MAX};
use crate::observer::{Observer, Observing, RENEWAL_HEIGHT_COUNT, RENEWAL_US};
use crate::peer::{Handover, PeerMessage, Received, Request};

/// Blocks that wait to be executed, beyond which committed headers of others wait too.
const EXECUTING_COUNT_MAX: usize = 16;

impl Replica {
    /// Takes what another validator sent.
    pub(super) fn received(
        &mut self,
        now: Now,
        from: ValidatorIndex,
        received: Received,
    ) -> Result<(), Refused> {
        match received {
            Received::Agreement(message) => {
                if let Some(height) = message.height() {
                    let heard = self.heard.entry(from).or_insert(height);
                    *heard = height.max(*heard);
                }
                let taken = self.core.step(now, Event::Message(from, message), &self.lanes);
                self.drain(now);
                taken?;
            }
            Received::Chunk(chunk) => self.whole_chunk(now, chunk)?,
            Received::Stripe(proven) => self.stripe(from, *proven),
            Received::Forward { is_overdue, admitted } => self.forwarded(is_overdue, admitted),
            Received::Fetch(request) => self.requested(from, request),
            Received::Headers(headers) => {
                self.fetch.keep(headers, self.core.parent().height);
                self.feed(now);
            }
            Received::Value(header) => {
                let taken = self.core.step(now, Event::Value(*header), &self.lanes);
                self.drain(now);
                taken?;
            }
            Received::Ask { nonce } => self.tell_height(from, nonce),
            Received::Tell { nonce, height, certificate } => {
                self.told(from, nonce, height, certificate.as_ref());
                self.learn(now, from, certificate);
            }
            Received::Check { nonce } => self.tell_checker(from, nonce),
            Received::Checked { nonce, height, certificate, word } => {
                self.checked(from, (nonce, height), certificate.as_ref(), word.as_ref());
                self.learn(now, from, certificate);
            }
            Received::Handover(handover) => self.handed_over(&handover),
            Received::Evidence(evidence) => self.shown(evidence),
            Received::Complaint(grievance) => self.complained(from, *grievance),
            Received::Claim(state) => self.claimed(now, state),
            Received::Leaving { until } => self.drive(now, Event::Leaving(from, until)),
            Received::States(certificates) => self.certificates(now, from, certificates),
        }
        Ok(())
    }

    /// A state that is claimed is nobody's word (T1 of the traps), and nothing comes of it.
    fn claimed(&mut self, now: Now, state: SignedState) {
        if !self.core.context().rules.claims_ignored {
            self.drive(now, Event::Executed(state));
        }
    }

    /// A chunk that came whole, or was made whole.
    pub(super) fn whole_chunk(&mut self, now: Now, chunk: Arc<Chunk>) -> Result<(), Refused> {
        let place = usize::from(chunk.stored.header.lane.get());
        let taken = self.chunk(chunk);
        if self.lanes.side(place).is_some_and(|side| !side.is_empty()) {
            // It may say what an ack stands on.
            self.drive(now, Event::Timer);
        }
        taken
    }

    /// Another validator can be reached again: it is told what it may have missed.
    pub(super) fn linked(&mut self, now: Now, peer: ValidatorIndex) {
        self.drive(now, Event::Linked(peer));
        self.ask_question(peer);
        for lane in (0..self.lane_count).map(LaneNumber::new) {
            let to_it = self.lanes.get(lane).is_some_and(|lane| lane.term.sequencer == peer);
            if to_it {
                self.forward_pending(lane);
            }
        }
    }

    fn requested(&mut self, from: ValidatorIndex, request: Request) {
        if !self.fetch.serves(from, self.now_us) {
            return;
        }
        match request {
            Request::Value { height, digest } => {
                if let Some(header) = self.core.value_of(height, &digest).cloned() {
                    self.ask(from, &PeerMessage::Value(header));
                }
            }
            Request::Headers { .. } if !self.core.context().rules.answers => {}
            Request::Headers { .. } => {
                self.gate.answer(Effect::Serve { to: from, request });
            }
            Request::Chunks { first, tip } => self.requested_chunks(from, first, tip),
            Request::States { from: first } => {
                for word in self.core.state_words(first) {
                    self.tell(from, &PeerMessage::Agreement(word));
                }
                self.gate.answer(Effect::Serve { to: from, request });
            }
        }
    }

    /// Asks for the certificates of states whose votes did not come.
    fn ask_states(&mut self) {
        if !self.core.context().rules.states_asked {
            return;
        }
        let Some(from) = self.uncertified.due(self.now_us) else { return };
        let others = self.others();
        let Some(to) = self.fetch.next(Asked::States, &others) else { return };
        self.ask(to, &PeerMessage::Fetch(Request::States { from }));
    }

    /// State certificates that were asked for; others are nobody's business.
    fn certificates(
        &mut self,
        now: Now,
        from: ValidatorIndex,
        certificates: Vec<StateCertificate>,
    ) {
        let count = certificates.len();
        for certificate in certificates {
            if self.uncertified.wants(certificate.state.height) {
                self.drive(now, Event::Certified(certificate));
            }
        }
        if let Some(next) = self.uncertified.next(count, self.now_us) {
            self.ask(from, &PeerMessage::Fetch(Request::States { from: next }));
        }
    }

    /// Who fetches a tip wants to see that it is available: it is given the acks behind it, and the chunks on which those
    /// stand.
    fn requested_chunks(&mut self, from: ValidatorIndex, first: u64, mut tip: Tip) {
        let mut ends = vec![tip];
        for word in self.core.words_behind(&tip, &self.lanes) {
            ends.extend(word.tips.iter().filter(|end| end.lane == tip.lane));
            let is_own = word.validator == self.core.own();
            let message = PeerMessage::Agreement(Message::Ack(word));
            if is_own {
                // Found on disk after a crash, it may not be durable yet.
                self.tell(from, &message);
            } else {
                self.ask(from, &message);
            }
        }
        let mut side: Vec<Arc<Chunk>> = Vec::new();
        let last = first.saturating_add(CHUNK_COUNT_MAX);
        for end in ends {
            let Some((_, path)) = self.lanes.path(&end) else { continue };
            if path.is_empty() && end.index > tip.index && end.index < last {
                tip = end;
            }
            let fresh = path.into_iter().rev().filter(|chunk| !side.contains(chunk)).cloned();
            let fresh: Vec<Arc<Chunk>> = fresh.collect();
            side.extend(fresh);
        }
        self.gate.answer(Effect::Serve { to: from, request: Request::Chunks { first, tip } });
        for chunk in side.into_iter().filter(|chunk| chunk.stored.header.index >= first) {
            self.ask(from, &PeerMessage::Chunk(chunk.stored.clone()));
        }
    }

    pub(super) fn ask_value(&mut self, height: Height, digest: Hash) {
        let message = PeerMessage::Fetch(Request::Value { height, digest });
        for to in self.others() {
            self.ask(to, &message);
        }
    }

    /// Asks for committed headers from the next height on.
    pub(super) fn ask_headers(&mut self, of: Option<ValidatorIndex>) {
        let from = self.core.parent().height.next();
        if self.is_alone() || !self.fetch.asks_headers(from, self.now_us) {
            return;
        }
        let others = self.others();
        let Some(to) = of.or_else(|| self.fetch.next(Asked::Headers, &others)) else { return };
        self.ask(to, &PeerMessage::Fetch(Request::Headers { from }));
    }

    pub(super) fn answer_headers(&mut self, to: ValidatorIndex, from: Height) {
        if self.fetch.answers(to, self.now_us) {
            self.gate.leave(Effect::Serve { to, request: Request::Headers { from } });
        }
    }

    /// Hands the next committed header that others sent to the core.
    pub(super) fn feed(&mut self, now: Now) {
        if self.executing.len() >= EXECUTING_COUNT_MAX {
            return;
        }
        let height = self.core.parent().height.next();
        if let Some((header, certificate)) = self.fetch.take(height) {
            // One that does not hold is dropped, and asked of the next in turn.
            let _ = self.core.step(now, Event::Decided(header, certificate), &self.lanes);
            self.drain(now);
            self.fetch_chunks();
        }
        let goes_on = self.fetch.ahead_last().is_some_and(|last| last > height);
        if goes_on && self.fetch.ahead_count() == 1 {
            self.ask_headers(None);
        }
    }

    /// What is missing is fetched, what is overdue told, who is silent suspected.
    pub(super) fn keep_house(&mut self, now: Now) {
        if self.is_alone() || now.mono_us < self.kept_us.saturating_add(HOUSEKEEPING_US) {
            return;
        }
        self.kept_us = now.mono_us;
        self.ask_question_again();
        self.ask_states();
        self.fetch_chunks();
        if self.renewal.is_some_and(|height| self.core.parent().height >= height) {
            self.renewal = None;
            self.renewed_us = Some(self.now_us);
            self.hand_over();
        }
        for lane in (0..self.lane_count).map(LaneNumber::new) {
            self.press(lane);
            self.press_complaints(lane);
        }
        if self.suspect() {
            self.drive(now, Event::Timer);
        }
        self.feed(now);
    }

    /// Asks for the chunks that are missing; a branch that is whole takes the other's place.
    fn fetch_chunks(&mut self) {
        let others = self.others();
        let needs = self.core.needs(&self.lanes);
        for lane in (0..self.lane_count).map(LaneNumber::new) {
            if !needs.iter().any(|need| need.tip.lane == lane) {
                self.fetch.satisfied(lane);
            }
        }
        for need in needs {
            if need.overrides {
                self.switch(&need.tip);
            }
            let Some(lane) = self.lanes.get(need.tip.lane) else { continue };
            let is_held = lane.tip_at(need.tip.index) == Some(need.tip);
            if is_held && (need.overrides || !need.is_due) {
                continue;
            }
            let is_fork = lane.tip_at(need.tip.index).is_some();
            let is_other = !is_held && (is_fork || self.is_stuck(&need.tip));
            let (held, committed) = (lane.tip.index, lane.committed.index);
            let first = match (is_held, is_other) {
                (true, _) => need.tip.index,
                (false, true) => committed,
                (false, false) => held,
            };
            let first = first.saturating_add(1);
            let mut tip = need.tip;
            let farthest = self.fetch.farthest(&need.tip).filter(|_| need.overrides);
            if let Some(farthest) = farthest.filter(|_| !is_held) {
                tip = farthest;
            }
            let lacks = (held, first, is_other);
            let asked = self.fetch.chunks(&need, lacks, tip.index, self.now_us, &others);
            if let Some((to, first)) = asked {
                self.ask(to, &PeerMessage::Fetch(Request::Chunks { first, tip }));
            }
        }
    }

    /// Whether the chunk that would come next does not link to what is held.
    fn is_stuck(&self, tip: &Tip) -> bool {
        let place = usize::from(tip.lane.get());
        let held = self.lanes.get(tip.lane).map_or(0, |lane| lane.tip.index);
        let side = self.lanes.side(place);
        side.is_some_and(|side| side.at(held.saturating_add(1)).next().is_some())
    }

    /// Judges every lane's sequencer anew. Whether anything changed.
    fn suspect(&mut self) -> bool {
        let mut suspects = Vec::new();
        let (producers, complaints) = (&self.producers, &self.complaints);
        let counts = self.core.context().rules.complaints;
        for (lane, suspicion) in self.lanes.all.iter().zip(&mut self.suspicions) {
            suspicion.unwatch(|admitted| producers.is_held(admitted));
            let number = lane.term.lane;
            let kept_out = counts && complaints.holds(number, suspicion.patience(SHOWN_US));
            if kept_out || suspicion.holds(self.now_us, lane.committed.index) {
                suspects.push((lane.term.lane, lane.term.term));
            }
        }
        let changed = suspects != self.lanes.suspects;
        self.lanes.suspects = suspects;
        changed
    }

    /// Gives up every own lane, after its last chunk.
    pub(super) fn hand_over(&mut self) {
        let own: Vec<(LaneNumber, quipu_types::Term, u64)> = self
            .lanes
            .all
            .iter()
            .filter(|lane| lane.may_cut())
            .map(|lane| (lane.term.lane, lane.term.term, lane.tip.index))
            .collect();
        for (lane, term, index) in own {
            let validator = self.core.own();
            let unsigned = Signature([0; 64]);
            let mut handover = Handover { lane, term, index, validator, signature: unsigned };
            let signature = self.core.sign_handover(&handover.signed_body());
            let Some(signature) = signature else { continue };
            handover.signature = signature;
            if let Some(lane) = self.lanes.get_mut(lane) {
                lane.is_given_up = true;
            }
            self.handed_over(&handover);
            self.tell_all(&PeerMessage::Handover(handover));
        }
    }

    /// Tells all that they need not wait for this validator to lead.
    pub(super) fn leave(&mut self, now: Now) {
        let height = self.core.parent().height.get();
        let until = Height::new(height.saturating_add(PRIMARY_HEIGHT_COUNT));
        self.tell_all(&PeerMessage::Leaving { until });
        self.drive(now, Event::Leaving(self.core.own(), until));
    }

    fn handed_over(&mut self, handover: &Handover) {
        if self.is_current(handover.lane, handover.term)
            && let Some(suspicion) = self.suspicions.get_mut(usize::from(handover.lane.get()))
        {
            suspicion.give_up(handover.index);
        }
    }

    /// Evidence that another validator found.
    fn shown(&mut self, evidence: Evidence) {
        let Evidence::Chunks(pair) = &evidence else { return };
        let [first, _] = &**pair;
        if self.is_current(first.header.lane, first.header.term) {
            self.prove(evidence);
        }
    }

    /// Says how far this validator is, to one that does not know what it said before.
    fn tell_height(&mut self, to: ValidatorIndex, nonce: u64) {
        if self.core.is_muted() {
            return;
        }
        let parent = self.core.parent();
        let (height, certificate) = (parent.height.next(), parent.commit.clone());
        let is_due = |at: u64| self.now_us >= at.saturating_add(RENEWAL_US);
        if self.renewed_us.is_none_or(is_due) {
            self.renewal = Some(Height::new(height.get().saturating_add(RENEWAL_HEIGHT_COUNT)));
        }
        self.tell(to, &PeerMessage::Tell { nonce, height, certificate });
    }

    /// An answer is lost when the link that it comes by is not up yet.
    fn ask_question_again(&mut self) {
        let observes = self.observing.as_mut().is_some_and(|one| one.asks_again(self.now_us));
        let checks = self.checking.as_mut().is_some_and(|one| one.asks_again(self.now_us));
        if observes || checks {
            for other in self.others() {
                self.ask_question(other);
            }
        }
    }

    fn ask_question(&mut self, of: ValidatorIndex) {
        let question = self.observing.as_ref().and_then(Observing::question);
        if let Some(nonce) = question {
            self.ask(of, &PeerMessage::Ask { nonce });
        }
        if let Some(nonce) = self.checking.as_ref().and_then(Checking::question) {
            self.ask(of, &PeerMessage::Check { nonce });
        }
    }

    /// Nothing is signed before others have said how far this validator had come. Who observes knows that it does not know;
    /// who is alone has nobody to ask.
    pub(super) fn begin_check(&mut self, nonce: Option<u64>) {
        let asks = self.observing.is_none() && !self.is_alone();
        let Some(nonce) = nonce.filter(|_| asks) else { return };
        self.checking = Some(Checking::new(nonce, self.core.parent().height));
        self.core.mute_until(Height::new(u64::MAX));
        self.lanes.hold_back(true);
    }

    /// Says how far this validator is, and what it holds of the asker's words. Who is asked about its own store answers too:
    /// after an outage of all nobody else could.
    fn tell_checker(&mut self, to: ValidatorIndex, nonce: u64) {
        if self.observing.is_some() && self.core.is_muted() {
            return;
        }
        let parent = self.core.parent();
        let (height, certificate) = (parent.height.next(), parent.commit.clone());
        let word = self.core.word_of(to);
        self.tell(to, &PeerMessage::Checked { nonce, height, certificate, word });
    }

    fn checked(
        &mut self,
        from: ValidatorIndex,
        (nonce, height): (u64, Height),
        certificate: Option<&CommitCertificate>,
        word: Option<&Message>,
    ) {
        let own = self.core.own();
        let Some(checking) = self.checking.as_mut().filter(|one| one.nonce() == nonce) else {
            return;
        };
        let is_beyond = |word: &&Message| word.height().is_some_and(|of| checking.is_beyond(of));
        let word = word.filter(|word| word.validator() == own).filter(is_beyond);
        let is_forgotten =
            word.is_some_and(|word| !self.core.remembers(word) && self.core.is_signed(word));
        if is_forgotten {
            self.observe();
            return;
        }
        let context = self.core.context();
        if let Some(target) = checking.told((from, own), (nonce, height), certificate, context) {
            self.core.mute_until(target);
            self.ask_headers(Some(from));
            self.end_check();
        }
    }

    /// Whether a header that others committed shows a word of this validator that it does not remember.
    pub(super) fn look_back(&mut self, header: &Header, certificate: &CommitCertificate) {
        let Some(checking) = &self.checking else { return };
        let own = self.core.own();
        let core = &self.core;
        let vote = certificate.precommits.iter().find(|vote| vote.validator == own);
        let forgets_vote = vote.is_some_and(|vote| {
            checking.is_beyond(vote.height) && !core.remembers(&Message::Precommit(vote.clone()))
        });
        let epochs = &core.context().epochs;
        let forgets_chunk = header.cut.iter().any(|tip| {
            let is_own = epochs.sequencer(tip.lane, tip.term) == own && tip.index > 0;
            let before = self.lanes.get(tip.lane).map(|lane| lane.committed);
            is_own && before != Some(*tip) && !core.remembers_chunk(tip)
        });
        if forgets_vote || forgets_chunk {
            self.observe();
        }
    }

    /// The store is an old copy: from now on as with a new disk.
    fn observe(&mut self) {
        let Some(checking) = self.checking.take() else { return };
        let observer = Observer { nonce: checking.nonce(), threshold: None };
        self.observing = Some(Observing::new(observer, self.core.context().rules));
        self.core.mute_until(Height::new(u64::MAX));
        self.lanes.give_up_own();
        self.gate.answer(Effect::Observing(None));
        for other in self.others() {
            self.ask_question(other);
        }
    }

    /// Once everything that was committed before is committed here, and nothing forgotten was found, the store is the newest.
    pub(super) fn end_check(&mut self) {
        let committed = self.core.parent().height;
        if self.checking.as_ref().is_some_and(|checking| checking.is_over(committed)) {
            self.checking = None;
            self.lanes.hold_back(false);
        }
    }

    /// What an answer proves of the own height is used at once: the one that answered may lose its disk next, and with it the
    /// only certificate of a height that others wait for.
    fn learn(&mut self, now: Now, from: ValidatorIndex, certificate: Option<CommitCertificate>) {
        let decides = self.core.context().rules.answers_decide;
        if let Some(certificate) = certificate.filter(|_| decides) {
            let done = Event::Message(from, Message::Done(certificate));
            // One of another height, or that does not hold, is no matter here.
            let _ = self.core.step(now, done, &self.lanes);
            self.drain(now);
        }
    }

    fn told(
        &mut self,
        from: ValidatorIndex,
        nonce: u64,
        height: Height,
        certificate: Option<&CommitCertificate>,
    ) {
        let Some(observing) = &mut self.observing else { return };
        let context = self.core.context();
        let Some(threshold) = observing.told(from, (nonce, height), certificate, context) else {
            return;
        };
        self.gate.answer(Effect::Observing(Some(threshold)));
        if self.core.context().rules.observer_waits {
            self.core.mute_until(threshold);
        }
        self.ask_headers(Some(from));
    }
}
