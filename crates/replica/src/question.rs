//! A question to all other validators: which height are you in? Its nonce makes answers fresh, and an answer counts only with
//! the commit certificate of the height below the one that it claims.

use std::collections::BTreeMap;

use quipu_consensus::Context;
use quipu_consensus::certificate::check_commit;
use quipu_types::{CommitCertificate, Height, ValidatorIndex, ValidatorSet};

/// How often it is asked until enough have answered.
const QUESTION_US: u64 = 250_000;

/// What was asked, and who answered what.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) nonce: u64,
    /// When everyone was last asked.
    asked_us: Option<u64>,
    told: BTreeMap<ValidatorIndex, Height>,
}

impl Question {
    pub(crate) const fn new(nonce: u64) -> Self {
        Self { nonce, asked_us: None, told: BTreeMap::new() }
    }

    /// Whether everyone is to be asked again now: from time to time.
    pub(crate) fn asks_again(&mut self, now_us: u64) -> bool {
        let at = self.asked_us.map_or(0, |asked_us| asked_us.saturating_add(QUESTION_US));
        let is_due = now_us >= at;
        if is_due {
            self.asked_us = Some(now_us);
        }
        is_due
    }

    /// Takes an answer: whether it is one to this question, and holds.
    pub(crate) fn told(
        &mut self,
        from: ValidatorIndex,
        (nonce, height): (u64, Height),
        certificate: Option<&CommitCertificate>,
        context: &Context,
    ) -> bool {
        let holds = nonce == self.nonce && is_committed_below(height, certificate, context);
        if holds {
            self.told.insert(from, height);
        }
        holds
    }

    /// The stake of those who answered.
    pub(crate) fn power(&self, set: &ValidatorSet) -> u128 {
        set.power_of(self.told.keys().copied())
    }

    /// The highest height that anyone is in.
    pub(crate) fn highest(&self) -> Option<Height> {
        self.told.values().max().copied()
    }
}

/// Whether the height below one is committed, as its certificate says; the genesis needs none.
fn is_committed_below(
    height: Height,
    certificate: Option<&CommitCertificate>,
    context: &Context,
) -> bool {
    let Some(below) = below(height) else { return false };
    certificate.map_or(below == Height::default(), |certificate| {
        let digest = certificate.digest();
        digest.is_some_and(|digest| check_commit(certificate, below, &digest, context).is_ok())
    })
}

/// The height before; none before the genesis.
pub(crate) fn below(height: Height) -> Option<Height> {
    height.get().checked_sub(1).map(Height::new)
}
