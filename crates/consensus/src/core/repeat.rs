//! What is said, and said again byte for byte while nothing comes of it.

use quipu_types::{Tip, ValidatorIndex};

use super::{Core, Holdings, Output, REPEAT_US};
use crate::Now;
use crate::header::tip_of;
use crate::record::Message;
use crate::safety::Said;

impl Core {
    /// Logs what is new, then sends.
    pub(super) fn say<T: Clone>(&mut self, said: Said<T>, message: impl FnOnce(T) -> Message) -> T {
        self.outputs.extend(said.record.map(Output::Persist));
        self.outputs.push_back(Output::Send(message(said.message.clone())));
        said.message
    }

    /// What was said and may not have been heard: of this height, of the lanes, of the state.
    fn words(&self) -> Vec<Message> {
        let (height, round) = (self.height(), self.work.round);
        let mut words: Vec<Message> =
            self.safety.last_acks().into_iter().map(Message::Ack).collect();
        words.extend(self.safety.changed(height).cloned().map(Message::RoundChange));
        let propose = self.safety.proposed(height, round).cloned();
        words.extend(propose.map(|propose| Message::Propose(Box::new(propose))));
        words.extend(self.safety.votes(height, round));
        words.extend(self.work.share.clone().map(Message::CoinShare));
        words.extend(self.safety.last_state().map(Message::StateVote));
        words
    }

    pub(super) fn repeat_to(&mut self, to: ValidatorIndex) {
        let words = self.words().into_iter();
        self.outputs.extend(words.map(|message| Output::Reply { to, message }));
    }

    /// Says again, byte for byte, what was said of a height that takes long, and the acks of chunks that no cut reaches.
    pub(super) fn repeat_if_due(&mut self, now: Now, holdings: &impl Holdings) {
        let waits = self.work.since_us.is_some() || self.has_unordered();
        if !waits || now.mono_us < self.work.said_us.saturating_add(REPEAT_US) {
            return;
        }
        let is_first = self.work.said_us == 0 && self.work.since_us.is_none();
        self.work.said_us = now.mono_us;
        if is_first {
            return;
        }
        if !self.context.rules.same_bytes && !self.is_silent() {
            let round = self.work.round;
            self.safety.forget_precommits(self.height(), round);
            self.work.precommits.retain(|(of, _), _| *of != round);
            self.precommit(now, holdings);
        }
        self.outputs.extend(self.words().into_iter().map(Output::Send));
        self.outputs.push_back(Output::Stuck);
        self.unordered.0 = now.mono_us;
    }

    /// Says again, byte for byte, the acks of tips that no cut reached in [`REPEAT_US`]: heights that are decided at once
    /// repeat nothing, and may go on without a lane whose acks were lost.
    pub(super) fn repeat_acks(&mut self, now: Now) {
        let (looked_us, before) = &self.unordered;
        if now.mono_us < looked_us.saturating_add(REPEAT_US) {
            return;
        }
        let unordered: Vec<Tip> = self.unordered().copied().collect();
        let is_late = |tip: &Tip| before.contains(tip) && unordered.contains(tip);
        let words = self.safety.last_acks().into_iter();
        let late = words.filter(|word| word.tips.iter().any(is_late));
        self.outputs.extend(late.map(|word| Output::Send(Message::Ack(word))));
        self.unordered = (now.mono_us, unordered);
    }

    /// The own acked tips that no cut reaches; those of a term that ended are void.
    fn unordered(&self) -> impl Iterator<Item = &Tip> {
        self.safety.acked().filter(|acked| {
            let is_beyond =
                tip_of(&self.parent.cut, acked.lane).is_some_and(|tip| acked.index > tip.index);
            let current = self.parent.term(acked.lane);
            is_beyond && current.is_some_and(|current| acked.term >= current.term)
        })
    }

    /// Whether an own ack names what no cut reaches.
    fn has_unordered(&self) -> bool {
        self.unordered().next().is_some()
    }
}
