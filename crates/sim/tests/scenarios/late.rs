//! A play about late votes: who is always a little late was there.

use quipu_sim::stage::{Failure, IDLE_US, Outcome, Word};

use crate::Setting;

/// Headers in which everyone is seen once at least.
const HEIGHT_COUNT: u64 = 8;

/// The precommits of one come only when the height is over, however often.
pub(crate) fn always_late(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[]);
    stage.run(|_| true);
    let mut unseen = 0;
    for height in 1..=2 * HEIGHT_COUNT {
        stage.pass(2 * IDLE_US);
        stage.run(|letter| letter.word() == Word::Propose(0) && letter.from != 0);
        let proposal = stage.proposal(height, 0);
        stage.set_up(proposal.is_some(), "a proposal")?;
        let is_seen = proposal
            .is_some_and(|own| own.header.voters().contains(quipu_types::ValidatorIndex::new(3)));
        unseen = if is_seen { 0 } else { unseen + 1 };
        if unseen > HEIGHT_COUNT {
            return Err(Failure::new(
                "MISSED",
                format!("no header has a vote of 3 up to {height}"),
            ));
        }
        stage.run(|letter| !(letter.from == 3 && matches!(letter.word(), Word::Precommit(_))));
        stage.set_up(stage.height(0) == height, "the height without 3")?;
        stage.run(|_| true);
    }
    stage.verdict()
}
