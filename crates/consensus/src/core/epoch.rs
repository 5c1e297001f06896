//! From one epoch into the next.
//!
//! ```text
//!  Executed, NextSet ──> the own proposal embeds a certificate that names the set, and carries it ──> Commit
//!  Commit of a header with a set ──> context, key's index, tallies of acks: anew      messages kept for it: verified again
//! ```
//! * N1 Everything that is signed about a height is signed and judged in that height's epoch; acks in that of their lanes'
//!   terms, so those from before an epoch's end are void, like the chunks they name.
//! * N2 Others may be in an epoch that is not known here. What they say then is kept if it verifies by a set that a header of
//!   this height would bring, and else passed over: nobody is to blame.

use quipu_crypto::coin::{CoinScheme, CoinSecret};
use quipu_types::{Ack, ValidatorSet};

use super::{Core, Refused};
use crate::header::Context;
use crate::record::{Message, Record};
use crate::tally::Acks;

impl Core {
    /// Whether it has no say: it does not know what it said before, or has no power.
    pub(super) fn is_silent(&self) -> bool {
        self.is_muted() || self.context.set.power(self.safety.own()) == 0
    }

    /// The next epoch's set, once execution said it; not yet in force.
    pub(super) fn next_set(&self) -> Option<&ValidatorSet> {
        let next = self.context.set.epoch.checked_add(1);
        self.next_set.as_ref().filter(|set| Some(set.epoch) == next)
    }

    /// The context is the next epoch's already.
    pub(super) fn enter_epoch(&mut self) {
        self.safety.enter(&self.context);
        self.acks = Acks::default();
        self.unordered.1.clear();
        (self.next_set, self.coin_secret) = (None, None);
    }

    /// Whether an own ack still counts: the epoch whose chunks it names is not over.
    #[must_use]
    pub fn counts(&self, ack: &Ack) -> bool {
        ack_is_of_epoch(ack, &self.context)
    }

    /// Takes what makes coins of parts in this epoch, and the own shares; the set has the key of both.
    pub fn take_coin(&mut self, scheme: CoinScheme, secret: Option<CoinSecret>) {
        (self.context.coin, self.coin_secret) = (Some(scheme), secret);
    }

    /// The validators whose word on this counts, as far as their epoch is known.
    pub(super) fn set_of(&self, message: &Message) -> &ValidatorSet {
        match message {
            Message::Ack(_) => &self.context.set,
            Message::StateVote(vote) => self.context.set_at(vote.state.height),
            _ => self.context.set_at(message.height().unwrap_or_default()),
        }
    }

    /// What does not verify by a set that is known (N2).
    pub(super) fn unverified(&mut self, message: Message, refused: Refused) -> Result<(), Refused> {
        let height = match &message {
            Message::Ack(_) => self.height().next(),
            Message::StateVote(vote) => vote.state.height,
            _ => message.height().unwrap_or_default(),
        };
        if !self.context.sets_change || height <= self.height() {
            return Err(refused);
        }
        // A certificate has no signature of its own to be known by: whoever gave it gives it again.
        if matches!(message, Message::Done(_)) {
            return Err(Refused::Ahead { height });
        }
        let sets = self.work.values.values().filter_map(|header| header.next_set.as_ref());
        let mut sets = sets.chain(self.next_set());
        if sets.any(|set| self.verify_by(set, &message).is_ok()) {
            return self.keep_ahead(height, message);
        }
        Err(Refused::Ahead { height })
    }
}

/// Whether the lanes' terms that an ack names are of the epoch of `context` (N1).
pub(super) fn ack_is_of_epoch(ack: &Ack, context: &Context) -> bool {
    ack.tips.iter().all(|tip| tip.term >= context.schedule.first_term(tip.lane))
}

/// Whether a record may bind in the epoch of `context`: an ack of an epoch before does not.
pub(super) fn is_of_epoch(record: &Record, context: &Context) -> bool {
    !matches!(record, Record::Ack(ack) if !ack_is_of_epoch(ack, context))
}
