//! Late votes: precommits of the last heights that a header carries beside the certificate of the height before.
//!
//! They show that a validator was there, though its vote came after a quorum's; execution says by that who is away. What they
//! voted for does not matter, so who began with a checkpoint, and lacks old headers, judges them too. Nothing else counts them:
//! no certificate, no time, no tip, no suspicion.
//!
//! # Invariants
//! * V1 Each is of a validator with power in its height's set, that is not in `prev_commit`, and signed in that height's epoch;
//!   ascending by validator, one each.
//! * V2 Of the [`LATE_HEIGHT_COUNT`] heights before the header's, the one before it among them: a vote that came when the
//!   certificate was made already is late by one.
//! # Limits
//! With those in `prev_commit` at most one vote of each validator: a header is no larger than one whose `prev_commit` has all.

use quipu_crypto::suite::VerifyItem;
use quipu_crypto::{Tag, signing_bytes};
use quipu_types::{Header, Height, Precommit, PublicKey, ValidatorIndex, Voters};

use crate::header::{Context, HeaderError};

/// So many heights before a header's its late votes may be of.
pub const LATE_HEIGHT_COUNT: u64 = 16;

/// Whether a header's late votes are what they must be; the rest of it is right.
///
/// # Errors
/// Whose is not, and why.
pub(crate) fn check_late_votes(header: &Header, context: &Context) -> Result<(), HeaderError> {
    let votes = &header.late_votes;
    let wrong = |vote: &Precommit, why| HeaderError::LateVote { validator: vote.validator, why };
    let commit = header.prev_commit.iter().flat_map(|commit| &commit.precommits);
    let known = Voters::of(commit.map(|vote| vote.validator));
    let mut last: Option<ValidatorIndex> = None;
    for vote in votes {
        let is_of_height = is_in_time(vote, header.height);
        let rules = [
            (last < Some(vote.validator), "it does not ascend"),
            (is_of_height && vote.height.get() > 0, "its height is out of range"),
            (!known.contains(vote.validator), "it is in prev_commit"),
            (context.set_at(vote.height).power(vote.validator) > 0, "it has no power"),
        ];
        if let Some((_, why)) = rules.into_iter().find(|(holds, _)| !holds) {
            return Err(wrong(vote, why));
        }
        last = Some(vote.validator);
    }
    let signed: Vec<_> = votes.iter().filter_map(|vote| signed_by(vote, context)).collect();
    let items = signed.iter().zip(votes).map(|((key, message), vote)| {
        let signature = &vote.signature;
        VerifyItem { key, message, signature }
    });
    let verdicts = context.verified.verify_many(&items.collect::<Vec<_>>());
    match votes.iter().zip(verdicts).find(|(_, holds)| !holds) {
        Some((vote, _)) => Err(wrong(vote, "its signature does not verify")),
        None => Ok(()),
    }
}

/// Whether a header of `height` may carry a vote (V2).
pub(crate) fn is_in_time(vote: &Precommit, height: Height) -> bool {
    let age = height.get().checked_sub(vote.height.get());
    age.is_some_and(|age| (1..=LATE_HEIGHT_COUNT).contains(&age))
}

/// Who must have signed a vote, and what; none when its height's set has no such validator.
pub(crate) fn signed_by(vote: &Precommit, context: &Context) -> Option<(PublicKey, Vec<u8>)> {
    let set = context.set_at(vote.height);
    let key = set.get(vote.validator)?.key;
    let body = vote.signed_body();
    Some((key, signing_bytes(&context.chain, set.epoch, Tag::Precommit, &body)))
}
