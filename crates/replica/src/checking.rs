//! After a start a validator asks whether its store is the newest one it had: a copy of yesterday's, put back, would let
//! it say anew, and otherwise, what it said since. It signs nothing until others have answered, and until it has every
//! height that they had committed.
//!
//! ```text
//!  start ── Check{nonce} ──> all      Checked{nonce, height, its certificate, a word of the asker} <── others
//!   others of enough power, with its own a quorum ──> target = the highest height that they committed
//!   commits up to the target ──┬── a vote or a chunk of its own that it does not know ──> observer (see `observer`)
//!                              └── none ──> it goes on where its log ends
//! ```
//! # What this shows, and what not
//! * Whoever answers need not be able to vote itself: after an outage of all, all answer each other, and go on.
//! * Others without whom there is no quorum answer, so waiting for them costs no progress.
//! * Own words are found in certificates, in cuts of lanes that it sequences, and as the vote that another validator holds of
//!   it in the height that it is in. A store that lost only its very last words, of which no answerer heard, is not found: a
//!   disk that loses what it synced is a fault like any other, and counts among those that are tolerated.
//! * Alone, a validator has nobody to ask.

use quipu_consensus::Context;
use quipu_types::{CommitCertificate, Height, ValidatorIndex};

use crate::question::{Question, below};

/// What is known while the question is open.
#[derive(Clone, Debug)]
pub(crate) struct Checking {
    question: Question,
    /// Up to here the store has headers: what was said of them is not asked about.
    head: Height,
    target: Option<Height>,
}

impl Checking {
    pub(crate) const fn new(nonce: u64, head: Height) -> Self {
        Self { question: Question::new(nonce), head, target: None }
    }

    pub(crate) const fn nonce(&self) -> u64 {
        self.question.nonce
    }

    /// The last height that the store had: what was said since is asked about.
    pub(crate) const fn head(&self) -> Height {
        self.head
    }

    /// Whether own words of this height would be known.
    pub(crate) fn is_beyond(&self, height: Height) -> bool {
        height > self.head
    }

    /// The question, while it is open.
    pub(crate) fn question(&self) -> Option<u64> {
        self.target.is_none().then_some(self.question.nonce)
    }

    /// Whether everyone is to be asked again now.
    pub(crate) fn asks_again(&mut self, now_us: u64) -> bool {
        self.target.is_none() && self.question.asks_again(now_us)
    }

    /// Whether every height that was committed when others answered is committed here.
    pub(crate) fn is_over(&self, committed: Height) -> bool {
        self.target.is_some_and(|target| committed >= target)
    }

    /// Takes an answer; the height to commit before anything is signed, once those who answered are a quorum with `own`.
    pub(crate) fn told(
        &mut self,
        (from, own): (ValidatorIndex, ValidatorIndex),
        answer: (u64, Height),
        certificate: Option<&CommitCertificate>,
        context: &Context,
    ) -> Option<Height> {
        if self.target.is_some() || !self.question.told(from, answer, certificate, context) {
            return None;
        }
        let power = self.question.power(&context.set).saturating_add(context.set.power(own));
        if context.set.is_quorum(power) {
            self.target = self.question.highest().and_then(below);
        }
        self.target
    }
}
