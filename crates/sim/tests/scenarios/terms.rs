//! Plays about terms: who may sequence a lane, and what of an old term counts.

use quipu_sim::stage::{Failure, IDLE_US, Outcome, Stage};
use quipu_types::{Lane, Term};

use crate::Setting;
use crate::lanes::chunks;
use crate::rounds::plain;

const FIRST: Term = Term::new(1);

/// The sequencer of lane 1 gives it up; a header that ends the term is proposed at height 2.
fn give_up(stage: &mut Stage) -> Outcome {
    let honest = stage.honest();
    stage.hand_over(1, 1, FIRST, 0, &honest);
    stage.run(|letter| letter.height().is_none());
    stage.pass(2 * IDLE_US);
    stage.run(|letter| letter.height().is_none_or(|height| height == 1));
    stage.set_up(stage.height(0) == 1, "height 1")?;
    stage.pass(2 * IDLE_US);
    let second = stage.proposal(2, 0);
    let ends = second.is_some_and(|second| !second.header.term_changes.is_empty());
    stage.set_up(ends, "a header that ends the term")
}

/// Chunks of a term come while the header that ends it is voted on.
pub(crate) fn dead_tips(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(7, &[1, 2]);
    let honest = stage.honest();
    give_up(&mut stage)?;
    let mut strand = stage.strand(0, 1);
    for _ in 0..3 {
        stage.stream(&mut strand, 3, &honest);
    }
    for criminal in [1, 2] {
        stage.ack(criminal, &[strand.tip], &honest);
    }
    stage.run(chunks);
    stage.run(|letter| letter.height() == Some(2));
    stage.set_up(stage.term(0, 1) == Some(FIRST.next()), "the term ends")?;
    stage.settle(5)
}

/// A leader that everyone suspects keeps its own lane.
pub(crate) fn kept(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[0]);
    let honest = stage.honest();
    stage.hand_over(0, 0, FIRST, 0, &honest);
    stage.run(|_| true);
    stage.pass(2 * IDLE_US);
    for height in 1..=6 {
        let mut header = plain(&stage, 1, 0);
        header.term_changes.clear();
        let propose = stage.propose(0, 0, &header, None, &honest);
        stage.vote(0, &propose, &honest);
        stage.run(|letter| letter.height().is_none_or(|own| own <= height));
        stage.verdict()?;
        if stage.height(1) < height {
            stage.settle(height + 2)?;
            break;
        }
    }
    if stage.term(1, 0) == Some(FIRST) {
        let what = "every honest validator suspects lane 0, and 6 headers keep its term";
        return Err(Failure::new("KEPT", what));
    }
    Ok(())
}

/// The sequencer of lane 1 gives it up; everyone suspects that term, and no later one.
pub(crate) fn suspected_once(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[1]);
    let honest = stage.honest();
    stage.hand_over(1, 1, FIRST, 0, &honest);
    stage.settle(6)?;
    let term = stage.term(0, 1);
    stage.set_up(term == Some(FIRST.next()), "one term ended")
}

/// A leader ends the term of a lane that nobody suspects.
pub(crate) fn deposed(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[0]);
    let honest = stage.honest();
    let mut header = plain(&stage, 1, 0);
    header.term_changes.push((Lane::new(1), FIRST.next()));
    let propose = stage.propose(0, 0, &header, None, &honest);
    stage.vote(0, &propose, &honest);
    stage.run(|letter| letter.height() == Some(1));
    stage.settle(3)
}

/// The new sequencer goes on where no header has begun its term.
pub(crate) fn void_branch(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(7, &[1, 2]);
    let honest = stage.honest();
    give_up(&mut stage)?;
    stage.run(|letter| letter.height() == Some(2));
    stage.set_up(stage.term(0, 1) == Some(FIRST.next()), "the term ends")?;
    let mut strand = stage.strand(0, 1);
    strand.branch = stage.context().chain;
    let tip = stage.stream(&mut strand, 3, &honest);
    for criminal in [1, 2] {
        stage.ack(criminal, &[tip], &honest);
    }
    stage.run(chunks);
    stage.settle(5)
}
