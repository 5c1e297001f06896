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

use std::collections::BTreeMap;

use quipu_consensus::Context;
use quipu_types::{CommitCertificate, Height, ValidatorIndex};

use crate::observer::{QUESTION_US, holds};

/// What is known while the question is open.
#[derive(Clone, Debug)]
pub(crate) struct Checking {
    nonce: u64,
    /// Up to here the store has headers: what was said of them is not asked about.
    head: Height,
    /// When everyone was last asked.
    asked_us: Option<u64>,
    told: BTreeMap<ValidatorIndex, Height>,
    target: Option<Height>,
}

impl Checking {
    pub(crate) fn new(nonce: u64, head: Height) -> Self {
        Self { nonce, head, asked_us: None, told: BTreeMap::new(), target: None }
    }

    pub(crate) const fn nonce(&self) -> u64 {
        self.nonce
    }

    /// Whether own words of this height would be known.
    pub(crate) fn is_beyond(&self, height: Height) -> bool {
        height > self.head
    }

    /// The question, while it is open.
    pub(crate) fn question(&self) -> Option<u64> {
        self.target.is_none().then_some(self.nonce)
    }

    /// Whether everyone is to be asked again now.
    pub(crate) fn asks_again(&mut self, now_us: u64) -> bool {
        let at = self.asked_us.map_or(0, |asked_us| asked_us.saturating_add(QUESTION_US));
        let is_due = now_us >= at && self.target.is_none();
        if is_due {
            self.asked_us = Some(now_us);
        }
        is_due
    }

    /// Whether every height that was committed when others answered is committed here.
    pub(crate) fn is_over(&self, committed: Height) -> bool {
        self.target.is_some_and(|target| committed >= target)
    }

    /// Takes an answer; the height to commit before anything is signed, once enough have answered.
    pub(crate) fn told(
        &mut self,
        (from, own): (ValidatorIndex, ValidatorIndex),
        nonce: u64,
        height: Height,
        certificate: Option<&CommitCertificate>,
        context: &Context,
    ) -> Option<Height> {
        let below = Height::new(height.get().checked_sub(1)?);
        if self.target.is_some() || nonce != self.nonce || !holds(below, certificate, context) {
            return None;
        }
        self.told.insert(from, below);
        let who = self.told.keys().chain([&own]);
        let power = who.fold(0_u128, |power, one| power.saturating_add(context.set.power(*one)));
        if context.set.is_quorum(power) {
            self.target = self.told.values().max().copied();
        }
        self.target
    }
}
