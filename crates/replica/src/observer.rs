//! A validator with a new disk, or with an old copy of its own (see `checking`), does not know what it said before. It signs
//! nothing until it can not contradict itself: it asks the others, with a nonce of its own, which height they vote in, and waits for the commit of the height after
//! the highest that any of a quorum of them names (consensus design, section 8). That height is its **threshold**.
//!
//! In a term that began before the threshold it neither makes chunks nor acknowledges any: what it said of that term before is
//! not known. So that it need not wait for ever, whoever is asked hands its own lanes over a few heights later
//! ([`RENEWAL_HEIGHT_COUNT`]): their next terms are beyond the threshold.

use quipu_consensus::{Context, Rules};
use quipu_types::{CommitCertificate, Height, ValidatorIndex};

use crate::question::Question;

/// Heights after a question at which a sequencer hands its lanes over.
pub(crate) const RENEWAL_HEIGHT_COUNT: u64 = 8;
/// Least time between two such handovers: questions cost little.
pub(crate) const RENEWAL_US: u64 = 30_000_000;

/// How a validator with a new disk begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observer {
    /// Makes answers fresh: chosen at random by who starts the process.
    pub nonce: u64,
    /// The threshold, if it was found before a restart.
    pub threshold: Option<Height>,
}

/// What is known of the others.
#[derive(Clone, Debug)]
pub(crate) struct Observing {
    question: Question,
    threshold: Option<Height>,
    rules: Rules,
}

impl Observing {
    pub(crate) const fn new(observer: Observer, rules: Rules) -> Self {
        let Observer { nonce, threshold } = observer;
        Self { question: Question::new(nonce), threshold, rules }
    }

    /// The question, while it is open.
    pub(crate) fn question(&self) -> Option<u64> {
        self.threshold.is_none().then_some(self.question.nonce)
    }

    /// Whether everyone is to be asked again now.
    pub(crate) fn asks_again(&mut self, now_us: u64) -> bool {
        self.threshold.is_none() && self.question.asks_again(now_us)
    }

    pub(crate) fn threshold(&self) -> Option<Height> {
        self.threshold
    }

    /// Takes an answer; the threshold, once a quorum has answered.
    pub(crate) fn told(
        &mut self,
        from: ValidatorIndex,
        answer: (u64, Height),
        certificate: Option<&CommitCertificate>,
        context: &Context,
    ) -> Option<Height> {
        let is_open = self.threshold.is_none();
        if !is_open || !self.question.told(from, answer, certificate, context) {
            return None;
        }
        if !context.set.is_quorum(self.question.power(&context.set)) {
            return None;
        }
        self.threshold = self.question.highest().map(|height| match self.rules.observer_waits_on {
            true => height.next(),
            false => height,
        });
        self.threshold
    }

    /// Whether a term that began with the header of `height` is younger than everything that was said before.
    pub(crate) fn is_fresh(&self, height: Height) -> bool {
        !self.rules.observer_lanes || self.threshold.is_some_and(|threshold| height >= threshold)
    }
}
