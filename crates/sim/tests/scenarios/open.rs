//! Plays about open rounds and their coins. Three led rounds pass in silence, then everyone is in round 3, which is
//! open; the play chooses whom its coin elects.

use quipu_consensus::Message;
use quipu_proof::names::proposal_hash;
use quipu_replica::PeerMessage;
use quipu_sim::stage::{Failure, IDLE_US, Letter, Outcome, Stage, Word};
use quipu_types::{CommitCertificate, RoundKind};

use crate::Setting;
use crate::rounds::plain;

/// The first open round of height 1.
const OPEN: u32 = 3;

/// Four validators of whom 3 is a criminal, and a coin that elects one of them in round 3.
fn stage(setting: &Setting, elected: u16) -> Stage {
    setting.stage_with_coin(&[1; 4], &[3], &[((1, OPEN), elected)])
}

/// The same, everyone in round 3.
fn open(setting: &Setting, elected: u16) -> Stage {
    let mut stage = stage(setting, elected);
    stage.open();
    stage
}

/// The criminal proposes an own header in round 3, and votes for it.
fn propose(stage: &mut Stage) {
    let honest = stage.honest();
    let own = stage.change(3, 1, OPEN, None, &[]);
    let certificate = stage.change_certificate(1, OPEN, &honest, &[own]);
    let header = plain(stage, 0, 3);
    let propose = stage.propose(3, OPEN, &header, Some(certificate), &honest);
    stage.vote(3, &propose, &honest);
}

/// Every instance gets its votes, and all arrive. Nothing goes wrong.
pub(crate) fn votes_for_all(setting: &Setting) -> Outcome {
    let mut stage = open(setting, 1);
    stage.settle(3)
}

/// One holds the precommits of instance 0, another those of instance 1; nobody has thrown the coin.
pub(crate) fn without_coin(setting: &Setting) -> Outcome {
    let mut stage = open(setting, 2);
    stage.run(|letter| match letter.word() {
        Word::Propose(_) | Word::Prevote(_) => true,
        Word::Precommit(_) => letter.to < 2 && letter.instance() == Some(letter.to),
        _ => false,
    });
    stage.set_up(stage.precommits(1, OPEN).len() == 9, "precommits of three instances")?;
    stage.settle(3)
}

/// A criminal hands on the precommits of an instance, and no coin.
pub(crate) fn certificate_without_coin(setting: &Setting) -> Outcome {
    let mut stage = open(setting, 2);
    stage.run(|letter| matches!(letter.word(), Word::Propose(_) | Word::Prevote(_)));
    let mut precommits = stage.precommits(1, OPEN);
    precommits.retain(|vote| vote.instance.get() == 0);
    stage.set_up(precommits.len() == 3, "precommits of instance 0")?;
    let certificate = CommitCertificate { precommits, coin: None };
    stage.tell(3, &[0], &PeerMessage::Agreement(Message::Done(certificate)));
    stage.run(|letter| letter.from == 3);
    stage.settle(3)
}

/// Two have precommitted what the coin elects and do not know it; a third knows.
pub(crate) fn left_before_the_coin(setting: &Setting) -> Outcome {
    let mut stage = open(setting, 0);
    stage.run(|letter| match letter.word() {
        Word::Propose(_) | Word::Prevote(_) => true,
        Word::Precommit(_) => letter.to != 0 || letter.from == 1,
        _ => false,
    });
    stage.share(3, 1, OPEN, &[0]);
    let to_first = |letter: &Letter| letter.to == 0 && letter.word() == Word::Share(OPEN);
    stage.run(to_first);
    stage.set_up(stage.round(0) == 4 && stage.round(1) == OPEN, "0 knows the coin")?;
    stage.pass_of(1, 3_000_000);
    stage.pass_of(2, 3_000_000);
    stage.run(|letter| letter.to == 0 && letter.word() == Word::Change(4));
    stage.settle(3)
}

/// Who alone precommitted what is elected starts again before the coin is thrown.
pub(crate) fn forgotten_polka(setting: &Setting) -> Outcome {
    let mut stage = open(setting, 0);
    propose(&mut stage);
    stage.run(|letter| match letter.word() {
        Word::Propose(_) => true,
        Word::Prevote(_) => letter.instance() != Some(0) || letter.to != 2,
        Word::Precommit(_) => letter.instance() != Some(0) || letter.to == 0,
        _ => false,
    });
    let own = |vote: &quipu_types::Precommit| (vote.validator.get(), vote.instance.get()) == (1, 0);
    stage.set_up(stage.precommits(1, OPEN).iter().any(own), "1 precommits instance 0")?;
    stage.crash(1);
    stage.restart(1);
    stage.share(3, 1, OPEN, &[0, 1, 2]);
    stage.run(|letter| match letter.word() {
        Word::Prevote(_) | Word::Precommit(_) => letter.instance() != Some(0),
        Word::Change(round) => round == OPEN,
        Word::Done => false,
        _ => true,
    });
    stage.set_up(stage.round(1) == 4, "1 leaves the round")?;
    stage.run(|letter| letter.word() == Word::Change(4));
    stage.settle(3)
}

/// Everyone has seen the polka of round 0, so every instance of the open round is that header.
pub(crate) fn one_header_for_all(setting: &Setting) -> Outcome {
    let mut stage = stage(setting, 1);
    stage.pass(IDLE_US);
    stage.run(|letter| matches!(letter.word(), Word::Propose(0) | Word::Prevote(0)));
    stage.set_up(stage.precommits(1, 0).len() == 3, "a polka")?;
    stage.open();
    let again = stage.proposal(1, OPEN);
    let is_first = |again: &quipu_types::Propose| again.header.proposer.get() == 0;
    stage.set_up(again.as_ref().is_some_and(is_first), "the header of 0 is proposed again")?;
    stage.settle(3)
}

/// A criminal collects the round changes of two, and shows their certificate to the third alone.
pub(crate) fn led_into_a_round(setting: &Setting) -> Outcome {
    let mut stage = stage(setting, 1);
    for number in [1, 2] {
        while stage.round(number) < OPEN {
            stage.timer(number);
        }
    }
    let own = stage.change(3, 1, OPEN, None, &[]);
    let certificate = stage.change_certificate(1, OPEN, &[1, 2], &[own]);
    let header = plain(&stage, 0, 3);
    stage.propose(3, OPEN, &header, Some(certificate), &[0]);
    stage.run(|letter| letter.to == 0 && letter.word() == Word::Propose(OPEN));
    stage.set_up(stage.round(0) == OPEN, "0 follows")?;
    stage.settle(3)
}

/// One height is decided twice, the same way: in its led round, which 0 saw, and in an open one, which the others saw.
pub(crate) fn decided_twice(setting: &Setting) -> Outcome {
    let mut stage = stage(setting, 1);
    stage.pass(IDLE_US);
    stage.run(|letter| match letter.word() {
        Word::Propose(0) | Word::Prevote(0) => true,
        Word::Precommit(0) => letter.to == 0,
        _ => false,
    });
    stage.set_up(stage.height(0) == 1 && stage.height(1) == 0, "0 commits")?;
    for number in [1, 2] {
        while stage.round(number) < OPEN {
            stage.timer(number);
        }
    }
    let own = stage.change(3, 1, OPEN, None, &[1, 2]);
    let others = |letter: &Letter| letter.to != 0 && letter.from != 0;
    stage.run(|letter| others(letter) && letter.word() == Word::Change(OPEN));
    let certificate = stage.change_certificate(1, OPEN, &[1, 2], &[own]);
    let header = stage.proposal(1, 0).expect("it was committed").header;
    stage.propose(3, OPEN, &header, Some(certificate), &[1, 2]);
    for instance in [1, 2, 3] {
        let propose = stage.proposal_of(1, OPEN, instance);
        stage.set_up(propose.is_some(), "three proposals")?;
        stage.vote(3, &propose.expect("it was set up"), &[1, 2]);
    }
    stage.share(3, 1, OPEN, &[1, 2]);
    stage.run(|letter| others(letter) && letter.height() == Some(1));
    let kinds = [0, 1, 2].map(|number| {
        let commit = stage.parent(number, 1).and_then(|parent| parent.commit);
        commit.and_then(|commit| Some(commit.precommits.first()?.kind))
    });
    let both = [RoundKind::Led, RoundKind::Open, RoundKind::Open].map(Some);
    stage.set_up(kinds == both, "height 1 is decided led and open")?;
    stage.settle(4)
}

/// The coin elects a validator that has not proposed: what was precommitted is void, and nobody's polka counts.
pub(crate) fn void_votes(setting: &Setting) -> Outcome {
    let mut stage = open(setting, 3);
    stage.settle(3)
}

/// A criminal lets its own instance finish first, then the others, one after the other, until the coin is known. A
/// round that commits does so with what had its precommits before: how often of many ledgers, each with another coin.
pub(crate) fn own_instance_first(setting: &Setting) -> Outcome {
    const COUNT: u32 = 60;
    let mut commits = 0;
    for seed in 0..COUNT {
        let mut stage = setting.stage_with_coin_after(&[1; 4], &[3], &[], seed);
        stage.open();
        propose(&mut stage);
        stage.share(3, 1, OPEN, &[0, 1, 2]);
        stage.run(|letter| letter.word() == Word::Propose(OPEN));
        for instance in [3, 0, 1, 2] {
            if stage.elected(1, OPEN).is_some() {
                break;
            }
            stage.run(|letter| match letter.word() {
                Word::Prevote(_) | Word::Precommit(_) => letter.instance() == Some(instance),
                Word::Share(_) => true,
                _ => false,
            });
        }
        stage.verdict()?;
        stage.run(|letter| {
            !matches!(letter.word(), Word::Prevote(_) | Word::Precommit(_) | Word::Change(_))
        });
        stage.verdict()?;
        commits += u32::from(stage.honest().iter().any(|number| stage.height(*number) > 0));
    }
    println!("{commits} of {COUNT} open rounds commit, owners_done: {}", setting.rules.owners_done);
    let what = format!("{commits} of {COUNT} open rounds commit");
    match commits * 5 {
        // Three of four instances, or the criminal's alone, could be elected.
        often if often >= COUNT * 3 => Ok(()),
        rare if rare < COUNT * 2 => Err(Failure::new("RARE", what)),
        _ => Err(Failure::new("UNCLEAR", what)),
    }
}

/// The first led round of a height that begins open is its primary's own: that it decides replaces nobody.
#[test]
fn the_first_led_round_of_a_height_that_began_open_keeps_the_primary() {
    // Height 1 is decided in its open round, so height 3 begins open, and its coin elects who is silent.
    let elected = [((1, OPEN), 1), ((3, 0), 3)];
    let mut stage = Setting::ALL.stage_with_coin(&[1; 4], &[3], &elected);
    stage.open();
    assert_eq!(stage.settle(2), Ok(()));
    assert_eq!(stage.kind(3, 0), RoundKind::Open);
    assert_eq!(stage.settle(4), Ok(()));
    let third = stage.parent(0, 3).expect("height 3 is committed");
    let vote = third.commit.as_ref().and_then(|commit| commit.precommits.first());
    assert_eq!(vote.map(|vote| (vote.kind, vote.round)), Some((RoundKind::Led, 1)));
    let fourth = stage.parent(0, 4).expect("height 4 is committed");
    assert_eq!(fourth.primary, third.primary);
}

/// What a vote was for can be told from its words alone: another proposal of the same header has another hash.
#[test]
fn a_prevote_names_the_very_proposal_that_it_is_for() {
    let mut stage = open(&Setting::ALL, 1);
    let own = stage.change(3, 1, OPEN, None, &[]);
    let header = plain(&stage, 0, 3);
    let certificates = [[0, 1], [1, 2]];
    let certificates = certificates.map(|who| stage.change_certificate(1, OPEN, &who, &[own]));
    let [first, second] = certificates.map(|made| stage.propose(3, OPEN, &header, Some(made), &[]));
    assert_ne!(proposal_hash(&first), proposal_hash(&second));
    stage.vote(3, &first, &[]);
    for (to, propose) in [(0, &first), (1, &second)] {
        stage.propose(3, OPEN, &header, propose.certificate.clone(), &[to]);
        stage.run(|letter| letter.from == 3 && letter.to == to);
        let vote = stage
            .prevotes(1, OPEN)
            .into_iter()
            .find(|vote| (vote.validator.get(), vote.instance.get()) == (to, 3));
        assert_eq!(vote.map(|vote| vote.proposal), Some(proposal_hash(propose)));
    }
    assert_eq!(stage.settle(2), Ok(()));
}
