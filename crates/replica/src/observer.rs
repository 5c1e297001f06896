//! A validator with a new disk, or with an old copy of its own (see `checking`), does not know what it said before. It signs nothing until it can not contradict itself:
//! it asks the others, with a nonce of its own, which height they vote in, and waits for the commit of the height after
//! the highest that any of a quorum of them names (consensus design, section 8). That height is its **threshold**.
//!
//! In a term that began before the threshold it neither makes chunks nor acknowledges any: what it said of that term before is
//! not known. So that it need not wait for ever, whoever is asked hands its own lanes over a few heights later
//! ([`RENEWAL_HEIGHT_COUNT`]): their next terms are beyond the threshold.

use std::collections::BTreeMap;

use quipu_consensus::certificate::check_commit;
use quipu_consensus::{Context, Rules};
use quipu_types::{CommitCertificate, Height, ValidatorIndex};

/// Heights after a question at which a sequencer hands its lanes over.
pub(crate) const RENEWAL_HEIGHT_COUNT: u64 = 8;
/// Least time between two such handovers: questions cost little.
pub(crate) const RENEWAL_US: u64 = 30_000_000;

/// How often the question is asked until a quorum has answered.
pub(crate) const QUESTION_US: u64 = 250_000;

/// How a validator with a new disk begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observer {
    /// Makes answers fresh: chosen at random by who starts the process.
    pub nonce: u64,
    /// The threshold, if it was found before a restart.
    pub threshold: Option<Height>,
}

/// Whether what another validator says it committed is committed: the genesis needs no certificate.
pub(crate) fn holds(
    height: Height,
    certificate: Option<&CommitCertificate>,
    context: &Context,
) -> bool {
    certificate.map_or(height == Height::default(), |certificate| {
        let digest = certificate.digest();
        digest.is_some_and(|digest| check_commit(certificate, height, &digest, context).is_ok())
    })
}

/// What is known of the others.
#[derive(Clone, Debug)]
pub(crate) struct Observing {
    nonce: u64,
    /// When everyone was last asked.
    asked_us: u64,
    threshold: Option<Height>,
    told: BTreeMap<ValidatorIndex, Height>,
    rules: Rules,
}

impl Observing {
    pub(crate) fn new(observer: Observer, rules: Rules) -> Self {
        let Observer { nonce, threshold } = observer;
        Self { nonce, asked_us: 0, threshold, told: BTreeMap::new(), rules }
    }

    /// The question, while it is open.
    pub(crate) fn question(&self) -> Option<u64> {
        self.threshold.is_none().then_some(self.nonce)
    }

    /// Whether everyone is to be asked again now: from time to time, while the question is open.
    pub(crate) fn asks_again(&mut self, now_us: u64) -> bool {
        let is_due = now_us >= self.asked_us.saturating_add(QUESTION_US);
        if is_due {
            self.asked_us = now_us;
        }
        is_due && self.threshold.is_none()
    }

    pub(crate) fn threshold(&self) -> Option<Height> {
        self.threshold
    }

    /// Takes an answer; the threshold, once a quorum has answered.
    pub(crate) fn told(
        &mut self,
        from: ValidatorIndex,
        nonce: u64,
        height: Height,
        certificate: Option<&CommitCertificate>,
        context: &Context,
    ) -> Option<Height> {
        let below = Height::new(height.get().checked_sub(1)?);
        if self.threshold.is_some() || nonce != self.nonce || !holds(below, certificate, context) {
            return None;
        }
        self.told.insert(from, height);
        let power = self
            .told
            .keys()
            .fold(0_u128, |power, validator| power.saturating_add(context.set.power(*validator)));
        if !context.set.is_quorum(power) {
            return None;
        }
        self.threshold =
            self.told.values().max().map(|height| match self.rules.observer_waits_on {
                true => height.next(),
                false => *height,
            });
        self.threshold
    }

    /// Whether a term that began with the header of `height` is younger than everything that was said before.
    pub(crate) fn is_fresh(&self, height: Height) -> bool {
        !self.rules.observer_lanes || self.threshold.is_some_and(|threshold| height >= threshold)
    }
}
