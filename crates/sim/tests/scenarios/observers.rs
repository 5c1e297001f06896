//! Plays about a validator whose disk is lost: it does not know what it said, and others may.

use quipu_replica::PeerMessage;
use quipu_sim::stage::{IDLE_US, Letter, NONCE, Outcome, Stage, Word};
use quipu_types::Height;

use crate::Setting;

/// 0 is the only one that committed height 1, has left round 0 of height 2, and loses its disk.
fn lose_disk(setting: &Setting) -> Result<Stage, quipu_sim::stage::Failure> {
    let mut stage = setting.stage(4, &[1]);
    stage.pass(IDLE_US);
    let first = stage.proposal(1, 0);
    stage.set_up(first.is_some(), "a proposal")?;
    stage.run(|letter| match letter.word() {
        Word::Propose(0) | Word::Prevote(0) => true,
        Word::Precommit(0) => letter.to == 0,
        _ => false,
    });
    stage.set_up(stage.height(0) == 1 && stage.height(2) == 0, "0 commits height 1")?;
    while stage.round(0) == 0 && stage.verdict().is_ok() {
        stage.timer(0);
    }
    let changes = stage.changes(2, 1);
    stage.set_up(changes.len() == 1 && changes[0].high.is_none(), "0 leaves round 0")?;
    stage.lose(|letter| letter.from == 0 || letter.to == 0);
    stage.wipe(0);
    let told = PeerMessage::Tell { nonce: NONCE, height: Height::new(1), certificate: None };
    stage.tell(1, &[0], &told);
    Ok(stage)
}

/// What it said at height 2 is used against what it says there again.
pub(crate) fn said_before(setting: &Setting) -> Outcome {
    let mut stage = lose_disk(setting)?;
    stage.run(|letter| letter.word() == Word::Other && (letter.to == 0 || letter.from == 0));
    // Height 1 is committed by all, with the criminal's help; it tells 0 of that.
    let first = stage.proposal(1, 0).expect("it was committed");
    stage.vote(1, &first, &[2, 3]);
    let commit = stage.commit_certificate(1, 0, &[1, 2, 3]);
    stage.tell(1, &[0], &PeerMessage::Headers(vec![(first.header, commit)]));
    stage.run(|letter| letter.word() == Word::Other || letter.height() == Some(1));
    let at_second = [0, 2, 3].iter().all(|number| stage.height(*number) == 1);
    stage.set_up(at_second, "all are at height 2")?;
    stage.pass(2 * IDLE_US);
    if let Some(second) = stage.proposal(2, 0) {
        stage.vote(1, &second, &[0, 2]);
    }
    let second = |letter: &Letter| letter.height() == Some(2);
    stage.run(|letter| match letter.word() {
        Word::Propose(0) | Word::Prevote(0) => second(letter) && letter.to != 3,
        Word::Precommit(0) => second(letter) && letter.to == 2,
        _ => false,
    });
    for number in [2, 3] {
        if stage.height(number) == 1 && stage.round(number) == 0 {
            stage.timer(number);
        }
    }
    let own = stage.change(1, 2, 1, None, &[]);
    let certificate = stage.change_certificate(2, 1, &[0, 3], &[own]);
    stage.set_up(certificate.changes.len() == 3, "a certificate of round changes")?;
    let header = crate::rounds::plain(&stage, 3, 1);
    let other = stage.propose(1, 1, &header, Some(certificate), &[0, 2, 3]);
    stage.vote(1, &other, &[0, 2, 3]);
    stage.run(|letter| {
        let word = letter.word();
        let is_vote = matches!(word, Word::Propose(1) | Word::Prevote(1) | Word::Precommit(1));
        second(letter) && is_vote
    });
    stage.settle(5)
}

/// One commits a height alone, answers one that has restarted, and loses its disk: the answer holds the only certificate.
pub(crate) fn only_certificate(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[]);
    stage.pass(IDLE_US);
    stage.run(|letter| match letter.word() {
        Word::Propose(0) => true,
        Word::Prevote(0) => letter.to != 2,
        Word::Precommit(0) => letter.to == 0,
        _ => false,
    });
    let is_alone = stage.height(0) == 1 && (1..4).all(|number| stage.height(number) == 0);
    stage.set_up(is_alone, "0 commits height 1")?;
    // 2 sees no polka, and leaves.
    while stage.round(2) == 0 {
        stage.timer(2);
    }
    stage.restart_asking(3);
    stage.run(|letter| {
        let is_between = [(3, 0), (0, 3), (3, 1), (1, 3)].contains(&(letter.from, letter.to));
        let is_asked = |message: &PeerMessage| {
            matches!(message, PeerMessage::Check { .. } | PeerMessage::Checked { .. })
        };
        is_between && is_asked(&letter.message)
    });
    stage.lose(|_| true);
    stage.wipe(0);
    stage.settle(3)
}

/// A sequencer that lost its disk makes a chunk where it had made one before.
pub(crate) fn sequenced_before(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[]);
    stage.submit(1, 1);
    stage.run(|letter| letter.word() == Word::Chunk && letter.to == 2);
    stage.set_up(stage.tips(1).len() == 1, "a chunk")?;
    stage.lose(|letter| letter.word() == Word::Chunk);
    stage.wipe(1);
    let others = |letter: &Letter| !matches!(letter.word(), Word::Chunk | Word::Ack);
    stage.run_for(400_000, others);
    stage.submit(1, 1);
    stage.run_for(400_000, others);
    stage.run(|letter| letter.from == 1 && letter.word() == Word::Chunk);
    stage.settle(stage.height(0) + 3)
}

/// A validator that lost its disk is given another chunk in the place of one that it had acknowledged.
pub(crate) fn acknowledged_before(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(7, &[1]);
    let first = stage.strand(0, 1);
    stage.stream(&mut first.clone(), 3, &[6]);
    stage.run(|letter| {
        letter.word() == Word::Chunk || (letter.word() == Word::Ack && letter.to == 2)
    });
    stage.lose(|letter| letter.word() == Word::Ack);
    stage.wipe(6);
    stage.stream(&mut first.clone(), 5, &[6]);
    stage.run_for(400_000, |letter| letter.word() != Word::Ack);
    stage.set_up(stage.height(6) > 4, "it goes on with the others")?;
    stage.run(|letter| letter.word() == Word::Ack && letter.to == 2);
    stage.settle(stage.height(0) + 3)
}
