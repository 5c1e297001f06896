//! Plays about states that are claimed and were never executed.

use quipu_sim::stage::{Failure, IDLE_US, Outcome, Stage, Word};
use quipu_types::SignedState;

use crate::Setting;

/// The true state of a height, as a stage has it: its header's hash.
fn truth(stage: &Stage, height: u64) -> Option<SignedState> {
    let parent = stage.parent(0, height)?;
    let (height, root) = (parent.height, parent.hash);
    Some(SignedState { height, state_root: root, receipts_root: root, next_set: None })
}

/// A criminal signs the first word that it hears of height 1, which is a trap.
pub(crate) fn lazy(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[3]).trapping();
    while stage.height(0) == 0 {
        stage.pass(IDLE_US);
        stage.run(|letter| !matches!(letter.word(), Word::State | Word::Claim));
    }
    let trap = stage.claims(1).first().copied();
    stage.set_up(trap.is_some(), "a trap at height 1")?;
    stage.vote_state(3, trap.expect("it was set up"), &[0, 1, 2]);
    stage.settle(3)?;
    if stage.named().contains(&(3, "false state")) {
        return Ok(());
    }
    Err(Failure::new("UNCAUGHT", format!("only {:?} is known", stage.named())))
}

/// An honest validator hears a trap before it has committed the height, as long before as a criminal likes.
pub(crate) fn heard_first(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[3]).trapping();
    stage.pass(IDLE_US);
    stage.run(|letter| match letter.word() {
        Word::Propose(0) | Word::Prevote(0) => true,
        Word::Precommit(0) => letter.to == 0,
        _ => false,
    });
    stage.set_up(stage.height(0) == 1 && stage.height(1) == 0, "one commits")?;
    stage.run(|letter| letter.word() == Word::Claim && letter.to == 1);
    stage.lose(|letter| letter.word() == Word::Claim);
    let state = truth(&stage, 1);
    stage.set_up(state.is_some(), "the state of height 1")?;
    stage.vote_state(3, state.expect("it was set up"), &[0, 1, 2]);
    stage.settle(3)
}
