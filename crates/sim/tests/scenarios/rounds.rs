//! Plays about rounds, votes and certificates.

use quipu_consensus::core::ROUND_US;
use quipu_replica::PeerMessage;
use quipu_sim::stage::{Failure, IDLE_US, Outcome, Stage, Word};
use quipu_types::{Header, Height, Signature, Time};

use crate::Setting;

/// The header that a criminal makes after what `number` has committed: no lane moves.
pub(crate) fn plain(stage: &Stage, number: u16, proposer: u16) -> Header {
    let parent = stage.parent(number, stage.height(number)).expect("its own height");
    let proposer = quipu_types::ValidatorIndex::new(proposer);
    parent.next(stage.context(), proposer, parent.cut.clone(), None, None)
}

/// Nothing happens, height by height.
pub(crate) fn quiet(setting: &Setting) -> Outcome {
    setting.stage(4, &[]).settle(3)
}

/// A leader says that it stops, and does: nobody waits for a timer, of this height or of the next.
pub(crate) fn planned_stop(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[0]);
    let first = stage.context().schedule.leader(0, 0);
    stage.set_up(first.get() == 0, "the criminal leads")?;
    stage.tell(0, &[1, 2, 3], &PeerMessage::Leaving { until: Height::new(9) });
    for height in 1..=3 {
        stage.run_for(IDLE_US + ROUND_US / 2, |_| true);
        if stage.height(1) < height {
            let what = format!("height {height} is not over: {}", stage.describe());
            return Err(Failure::new("WAITED", what));
        }
    }
    stage.verdict()
}

/// Rule (a). Two validators leave round 0; then the polka of round 0 reaches them.
pub(crate) fn late_polka(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[1]);
    stage.pass(IDLE_US);
    stage.run(|letter| letter.word() == Word::Propose(0));
    let first = stage.proposal(1, 0);
    stage.set_up(first.is_some(), "a proposal")?;
    let first = first.expect("it was set up");
    stage.timer(2);
    stage.timer(3);
    stage.prevote(1, &first, &[0, 2, 3]);
    stage.precommit(1, &first, &[], &[], &[0]);
    stage.run(|letter| match letter.word() {
        Word::Prevote(0) => true,
        Word::Precommit(0) => letter.to == 0,
        _ => false,
    });
    let own = stage.change(1, 1, 1, None, &[]);
    let certificate = stage.change_certificate(1, 1, &[2, 3], &[own]);
    stage.set_up(certificate.changes.len() == 3, "a certificate of round changes")?;
    let header = plain(&stage, 2, 1);
    let second = stage.propose(1, 1, &header, Some(certificate), &[2, 3]);
    stage.vote(1, &second, &[2, 3]);
    stage.run(|letter| {
        let word = letter.word();
        letter.from != 0
            && letter.to > 1
            && matches!(word, Word::Propose(1) | Word::Prevote(1) | Word::Precommit(1))
    });
    stage.settle(4)
}

/// Rule (b). One commits; the leader of the next round, a criminal, proposes another header all the same.
pub(crate) fn another_value(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[1]);
    stage.pass(IDLE_US);
    let first = stage.proposal(1, 0);
    stage.set_up(first.is_some(), "a proposal")?;
    let first = first.expect("it was set up");
    stage.vote(1, &first, &[0, 2, 3]);
    stage.run(|letter| match letter.word() {
        Word::Propose(0) | Word::Prevote(0) => true,
        Word::Precommit(0) => letter.to == 0,
        _ => false,
    });
    stage.set_up(stage.height(0) == 1 && stage.height(2) == 0, "one commits")?;
    stage.timer(2);
    stage.timer(3);
    let own = stage.change(1, 1, 1, None, &[]);
    let certificate = stage.change_certificate(1, 1, &[2, 3], &[own]);
    stage.set_up(certificate.high().is_some(), "round changes that name the polka")?;
    let header = plain(&stage, 2, 1);
    let second = stage.propose(1, 1, &header, Some(certificate), &[2, 3]);
    stage.vote(1, &second, &[2, 3]);
    stage.run(|letter| {
        let word = letter.word();
        letter.from != 0
            && letter.to > 1
            && matches!(word, Word::Propose(1) | Word::Prevote(1) | Word::Precommit(1))
    });
    stage.settle(4)
}

/// What was precommitted is said again after half a second.
pub(crate) fn said_again(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[]);
    stage.pass(IDLE_US);
    stage.run(|letter| letter.word() == Word::Propose(0));
    for number in 0..4 {
        stage.timer(number);
    }
    stage.run(|letter| {
        matches!(letter.word(), Word::Change(1) | Word::Propose(1) | Word::Prevote(1))
    });
    let heard = |letter: &quipu_sim::stage::Letter| {
        letter.word() == Word::Precommit(1) && (letter.from, letter.to) == (2, 0)
    };
    stage.run(heard);
    stage.set_up(stage.precommits(1, 1).len() == 4, "precommits of round 1")?;
    stage.pass_of(2, 600_000);
    stage.run(heard);
    stage.settle(3)
}

/// A leader adds votes with times of its own choice, and no signatures, to the certificate of the last height.
pub(crate) fn forged_times(setting: &Setting) -> Outcome {
    const FAR: Time = Time::new(1 << 50);
    let mut stage = setting.stage(7, &[0, 1]);
    let honest = stage.honest();
    let header = plain(&stage, 2, 0);
    let first = stage.propose(0, 0, &header, None, &honest);
    stage.vote(0, &first, &honest);
    stage.vote(1, &first, &honest);
    stage.run(|letter| letter.height() == Some(1));
    stage.set_up(honest.iter().all(|number| stage.height(*number) == 1), "height 1")?;
    let mut certificate = stage.commit_certificate(1, 0, &[0, 1, 2, 3, 4, 5, 6]);
    for vote in &mut certificate.precommits {
        match vote.validator.get() {
            criminal @ (0 | 1) => {
                *vote = stage.signed_precommit(criminal, &first, (&[], &[]), FAR);
            }
            5 | 6 => {
                vote.time = FAR;
                vote.signature = Signature([9; 64]);
            }
            _ => {}
        }
    }
    stage.set_up(certificate.precommits.len() == 7, "every vote")?;
    let mut parent = stage.parent(2, 1).expect("height 1 is committed");
    parent.commit = Some(certificate);
    let proposer = quipu_types::ValidatorIndex::new(0);
    let header = parent.next(stage.context(), proposer, parent.cut.clone(), None, None);
    let second = stage.propose(0, 0, &header, None, &honest);
    stage.vote(0, &second, &honest);
    stage.vote(1, &second, &honest);
    stage.run(|letter| letter.height() == Some(2));
    stage.settle(4)
}

/// One commits with a criminal's help; the others, two of four, are left in the height before.
pub(crate) fn left_behind(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[3]);
    stage.pass(IDLE_US);
    let first = stage.proposal(1, 0);
    stage.set_up(first.is_some(), "a proposal")?;
    stage.vote(3, &first.expect("it was set up"), &[0]);
    stage.run(|letter| match letter.word() {
        Word::Propose(0) => true,
        Word::Prevote(0) => letter.to != 2,
        Word::Precommit(0) => letter.to == 0,
        _ => false,
    });
    stage.set_up(stage.height(0) == 1 && stage.height(1) == 0, "one commits")?;
    stage.lose(|letter| letter.height() == Some(1));
    stage.settle(3)
}

/// The votes on a state are all lost, and later heights are certified as ever.
pub(crate) fn lost_state_votes(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[]);
    while stage.height(3) == 0 {
        stage.run(|letter| letter.word() != Word::State);
        stage.pass(IDLE_US);
    }
    let is_committed = (0..4).all(|number| stage.height(number) == 1);
    stage.set_up(is_committed, "all commit, and no state is certified")?;
    stage.lose(|letter| letter.word() == Word::State);
    stage.settle(4)?;
    stage.settle_proven(1)
}
