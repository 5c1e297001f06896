//! Late votes that are kept for the own proposals (see [`crate::late`]).
//!
//! Most heights are certified without some votes. Who is only sometimes late is in one of the next certificates, so a late vote is
//! kept, verified and proposed only of who was in none of the last [`MISSED_HEIGHT_COUNT`] headers.
//!
//! * W1 What is kept was verified, is of a height that a proposal may still name, and the validator's newest: others can not push it
//!   out with words that it never said.
//! * W2 Late votes are not looked through for crimes: the votes that they would contradict are forgotten with their height.

use std::collections::BTreeMap;

use quipu_types::{Header, Height, Precommit, ValidatorIndex, Voters};

use super::Core;
use crate::header::Context;
use crate::late::{is_in_time, signed_by};

/// Who is in none of so many headers is missed.
const MISSED_HEIGHT_COUNT: u64 = 4;

/// See the module's header.
#[derive(Clone, Debug, Default)]
pub(super) struct LateVotes {
    /// The last header that had a validator's vote.
    seen: BTreeMap<ValidatorIndex, Height>,
    kept: BTreeMap<ValidatorIndex, Precommit>,
}

impl LateVotes {
    /// Takes a committed header.
    pub(super) fn pass(&mut self, header: &Header) {
        self.seen.extend(header.voters().iter().map(|validator| (validator, header.height)));
        let next = header.height.next();
        self.kept.retain(|_, vote| is_in_time(vote, next));
    }

    /// Takes a vote of a height that is finished, if it may be wanted while `height` is decided.
    pub(super) fn take(&mut self, vote: &Precommit, height: Height, context: &Context) {
        let validator = vote.validator;
        let newest = self.kept.get(&validator).map(|kept| kept.height);
        let is_wanted = is_in_time(vote, height)
            && newest < Some(vote.height)
            && self.is_missed(validator, height)
            && context.set_at(vote.height).power(validator) > 0;
        let verifies = || {
            let signed = signed_by(vote, context);
            signed.is_some_and(|(key, body)| context.verified.verify(&key, &body, &vote.signature))
        };
        if is_wanted && verifies() {
            self.kept.insert(validator, vote.clone());
        }
    }

    /// Those that a header carries beside its `prev_commit`.
    fn of(&self, header: &Header) -> Vec<Precommit> {
        let commit = header.prev_commit.iter().flat_map(|commit| &commit.precommits);
        let known = Voters::of(commit.map(|vote| vote.validator));
        let is_due = |vote: &&Precommit| {
            is_in_time(vote, header.height)
                && !known.contains(vote.validator)
                && self.is_missed(vote.validator, header.height)
        };
        self.kept.values().filter(is_due).cloned().collect()
    }

    fn is_missed(&self, validator: ValidatorIndex, height: Height) -> bool {
        let seen = self.seen.get(&validator);
        seen.is_none_or(|seen| seen.get().saturating_add(MISSED_HEIGHT_COUNT) < height.get())
    }
}

impl Core {
    /// A new header with the late votes that are kept.
    pub(super) fn with_late_votes(&self, mut header: Header) -> Header {
        if self.context.rules.late_votes {
            header.late_votes = self.late.of(&header);
        }
        header
    }
}
