//! Plays about chunks: held or not, of one branch or another, acknowledged, reported, left out.

use quipu_replica::PeerMessage;
use quipu_sim::stage::{Failure, IDLE_US, Letter, Outcome, Stage, Word};
use quipu_types::{Lane, Propose, Tip, ValidatorIndex};

use crate::Setting;
use crate::rounds::plain;

pub(crate) fn chunks(letter: &Letter) -> bool {
    matches!(letter.word(), Word::Chunk | Word::Ack)
}

/// A criminal leads round 0 of the next height of `to`, with a tip for a lane, and votes for it.
fn lead(stage: &mut Stage, criminal: u16, tip: Tip, to: &[u16]) -> Propose {
    let number = *to.first().expect("somebody listens");
    let parent = stage.parent(number, stage.height(number)).expect("its own height");
    let mut cut = parent.cut.clone();
    if let Some(own) = cut.iter_mut().find(|own| own.lane == tip.lane) {
        *own = tip;
    }
    let header = parent.next(stage.context(), ValidatorIndex::new(criminal), cut, None, None);
    let propose = stage.propose(criminal, 0, &header, None, to);
    stage.vote(criminal, &propose, to);
    propose
}

/// A leader that sequences lane 0 has one branch committed, then proposes the other.
pub(crate) fn forked_cut(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[0]);
    let honest = stage.honest();
    let mut first = stage.strand(1, 0);
    let mut other = first.clone();
    let committed = stage.stream(&mut first, 3, &[1, 2]);
    stage.stream(&mut other, 5, &[3]);
    let beyond = stage.stream(&mut other, 5, &[3]);
    stage.run(chunks);
    stage.ack(0, &[committed], &honest);
    stage.run(chunks);
    lead(&mut stage, 0, committed, &honest);
    stage.run(|letter| letter.height() == Some(1));
    stage.set_up(stage.height(1) == 1 && stage.height(2) == 1, "one branch is committed")?;
    stage.ack(0, &[beyond], &honest);
    stage.run(chunks);
    lead(&mut stage, 0, beyond, &[1, 2]);
    stage.run(|letter| letter.height() == Some(2));
    stage.settle(4)
}

/// A sequencer gives its chunk to one validator alone, and leads.
pub(crate) fn withheld(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[0]);
    let honest = stage.honest();
    let mut strand = stage.strand(1, 0);
    let tip = stage.stream(&mut strand, 3, &[1]);
    stage.ack(0, &[tip], &honest);
    stage.run(chunks);
    lead(&mut stage, 0, tip, &honest);
    stage.run(|letter| letter.height() == Some(1));
    stage.settle(3)
}

/// A leader leaves out a lane that everyone holds.
pub(crate) fn left_out(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[0]);
    let honest = stage.honest();
    stage.submit(1, 1);
    stage.run(chunks);
    for height in 1..=4 {
        let header = plain(&stage, 1, 0);
        let propose = stage.propose(0, 0, &header, None, &honest);
        stage.vote(0, &propose, &honest);
        stage.run(|letter| letter.height().is_none_or(|own| own <= height));
        stage.verdict()?;
        if stage.height(1) < height {
            stage.settle(height + 2)?;
            return moved(&stage, 1);
        }
    }
    moved(&stage, 1)
}

fn moved(stage: &Stage, lane: usize) -> Outcome {
    let number = *stage.honest().last().expect("somebody is honest");
    let height = stage.height(number);
    let parent = stage.parent(number, height).expect("its own height");
    if parent.cut.get(lane).is_some_and(|tip| tip.index > 0) {
        return Ok(());
    }
    Err(Failure::new("CENSORED", format!("lane {lane}, held by all, in none of {height} headers")))
}

/// Three of the honest commit a height with votes of 0, 1 and 2; 3 learns of it later, with their certificate.
fn commit_without_third(stage: &mut Stage, tips: &[Tip], us: u64) -> Outcome {
    stage.pass(IDLE_US);
    let propose = stage.proposal(1, 0);
    stage.set_up(propose.is_some(), "a proposal")?;
    let propose = propose.expect("it was set up");
    stage.prevote(1, &propose, &[0, 2]);
    stage.precommit(1, &propose, tips, &[], &[0, 2]);
    stage.run_for(us, |letter| {
        let is_vote = matches!(letter.word(), Word::Prevote(_) | Word::Precommit(_));
        letter.height().is_none_or(|height| height == 1) && !(letter.to == 3 && is_vote)
    });
    let done = stage.height(0) == 1 && stage.height(2) == 1 && stage.height(3) == 0;
    stage.set_up(done, "0 and 2 commit by votes of 0, 1 and 2")?;
    stage.lose(|letter| letter.height() == Some(1) && letter.to == 3);
    Ok(())
}

/// Who acknowledged another branch than the one that is committed.
pub(crate) fn other_branch(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[1]);
    let mut long = stage.strand(0, 1);
    let mut short = long.clone();
    for _ in 0..3 {
        stage.stream(&mut long, 3, &[2]);
    }
    stage.stream(&mut short, 5, &[0, 3]);
    stage.run(chunks);
    stage.ack(1, &[long.tip], &[2]);
    stage.ack(1, &[short.tip], &[0, 3]);
    stage.run(chunks);
    commit_without_third(&mut stage, &[long.tip], 400_000)?;
    let parent = stage.parent(0, 1).expect("height 1 is committed");
    let cut = parent.cut.contains(&short.tip);
    stage.set_up(cut, "the short branch is committed")?;
    stage.settle(4)
}

/// Everyone holds another chunk, none of which a third acknowledged.
pub(crate) fn three_branches(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[1]);
    let strand = stage.strand(0, 1);
    for (ticks, number) in [(3, 0), (5, 2), (7, 3)] {
        stage.stream(&mut strand.clone(), ticks, &[number]);
    }
    stage.run(chunks);
    stage.pass(IDLE_US);
    stage.run(|letter| letter.height().is_none_or(|height| height == 1));
    stage.set_up(stage.height(0) == 1, "height 1")?;
    stage.settle(4)
}

/// Who reported a tip, by an ack that it alone has heard, starts again.
pub(crate) fn forgotten_acks(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[1]);
    let strand = stage.strand(0, 1);
    let mut first = strand.clone();
    stage.stream(&mut first, 3, &[0]);
    for (ticks, number) in [(5, 2), (7, 3)] {
        stage.stream(&mut strand.clone(), ticks, &[number]);
    }
    stage.ack(1, &[first.tip], &[0]);
    stage.run(chunks);
    // No time passes, so nobody asks for anything.
    commit_without_third(&mut stage, &[first.tip], 0)?;
    let parent = stage.parent(0, 1).expect("height 1 is committed");
    let required = parent.index_required(stage.context(), Lane::new(1));
    stage.set_up(required == 1, "the next header has to reach the tip")?;
    stage.crash(0);
    stage.restart(0);
    stage.settle(4)
}

/// Who acknowledged one chunk has to hold the other of its place.
pub(crate) fn two_acks(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[1]);
    let mut first = stage.strand(0, 1);
    let mut other = first.clone();
    stage.stream(&mut first, 3, &[2]);
    stage.stream(&mut other, 5, &[0, 3]);
    stage.ack(1, &[other.tip], &[0, 3]);
    stage.run(chunks);
    stage.settle(3)
}

/// Everyone reported a chunk, then acknowledged later ones, of two branches: one validator holds another than the rest.
pub(crate) fn forked_after(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(7, &[1, 6]);
    let honest = stage.honest();
    let mut first = stage.strand(0, 1);
    let common = stage.stream(&mut first, 3, &honest);
    stage.run(|letter| letter.word() == Word::Chunk);
    stage.pass(IDLE_US);
    stage.run(chunks);
    stage.run(|letter| letter.height() == Some(1));
    stage.set_up(honest.iter().all(|number| stage.height(*number) == 1), "height 1")?;
    let parent = stage.parent(0, 1).expect("height 1 is committed");
    let required = parent.index_required(stage.context(), Lane::new(1));
    stage.set_up(required == 1, "the next header has to reach the chunk")?;
    let mut other = first.clone();
    stage.stream(&mut first, 3, &[0, 2, 3, 4]);
    stage.stream(&mut other, 5, &[5]);
    stage.run(chunks);
    stage.ack(6, &[common], &honest);
    stage.settle(4)
}

/// Criminals report what nobody holds; they are a third of those who signed, and not of all.
pub(crate) fn few_signers(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(7, &[0, 1]);
    let honest = stage.honest();
    let header = plain(&stage, 2, 0);
    let propose = stage.propose(0, 0, &header, None, &honest);
    let mut strand = stage.strand(2, 1);
    for _ in 0..9 {
        stage.grow(&mut strand, 1);
    }
    for criminal in [0, 1] {
        stage.prevote(criminal, &propose, &honest);
        stage.precommit(criminal, &propose, &[strand.tip], &[], &honest);
    }
    stage.run(|letter| match letter.word() {
        Word::Propose(0) | Word::Prevote(0) => true,
        // With its own everyone holds five votes, and two of them are the criminals'.
        Word::Precommit(0) if letter.to < 5 => letter.from < 5,
        Word::Precommit(0) => letter.from < 4,
        _ => false,
    });
    let votes = |number: &u16| stage.parent(*number, 1)?.commit.map(|own| own.precommits.len());
    let all = honest.iter().all(|number| votes(number) == Some(5));
    stage.set_up(all, "everyone commits height 1 by five votes")?;
    stage.lose(|letter| letter.height() == Some(1));
    stage.settle(3)
}

/// No state is certified for so long that lanes may not move; then chunks come.
pub(crate) fn lagging(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[]);
    let passes = |letter: &Letter| letter.word() != Word::State;
    while stage.height(0) < 64 && stage.verdict().is_ok() {
        stage.run(passes);
        stage.pass(IDLE_US);
    }
    stage.run(passes);
    stage.submit(1, 1);
    stage.run_for(400_000, passes);
    let height = stage.height(0);
    stage.run_for(3_000_000, passes);
    stage.verdict()?;
    let parent = stage.parent(0, stage.height(0)).expect("its own height");
    let required = parent.index_required(stage.context(), Lane::new(1));
    stage.set_up(required == 1 && height >= 64, "a chunk that a header ought to reach")?;
    if stage.height(0) < height + 3 {
        let what = format!("height {height} stands while no state is certified");
        return Err(Failure::new("STALL", what));
    }
    stage.settle(stage.height(0) + 3)?;
    moved(&stage, 1)
}

/// A leader embeds no state certificate for so long that lanes may not move; then chunks come.
pub(crate) fn lag_made(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[0]);
    let lead = |stage: &mut Stage| {
        let (header, height) = (plain(stage, 1, 0), stage.height(1) + 1);
        let propose = stage.propose(0, 0, &header, None, &[1, 2, 3]);
        stage.vote(0, &propose, &[1, 2, 3]);
        stage.run(|letter| letter.height().is_none_or(|own| own <= height));
        stage.height(1) == height
    };
    for _ in 0..64 {
        let is_led = lead(&mut stage);
        stage.set_up(is_led, "a height that moves nothing")?;
    }
    stage.submit(1, 1);
    stage.run(chunks);
    for _ in 0..4 {
        if !lead(&mut stage) {
            stage.settle(stage.height(1) + 3)?;
            return moved(&stage, 1);
        }
        stage.verdict()?;
    }
    moved(&stage, 1)
}

#[test]
fn who_holds_the_wrong_end_of_a_long_fork_finds_back() {
    for count in [150, 400] {
        let mut stage = Setting::ALL.stage(4, &[1]);
        let mut first = stage.strand(0, 1);
        let mut other = first.clone();
        for _ in 0..count {
            stage.stream(&mut first, 1, &[0, 2]);
            stage.stream(&mut other, 2, &[3]);
        }
        stage.run(chunks);
        stage.ack(1, &[first.tip], &[0, 2, 3]);
        stage.run(chunks);
        let outcome = stage.settle(3).and_then(|()| moved(&stage, 1));
        assert_eq!(outcome, Ok(()), "{count} chunks");
    }
}

/// Whoever passes a body on changes a stripe of it; the header and its signature are right.
pub(crate) fn torn(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[3]).striped();
    stage.run(|_| true);
    stage.submit(0, 0);
    stage.run(|letter| letter.word() != Word::Stripe);
    let is_first = |letter: &&Letter| letter.word() == Word::Stripe && letter.to == 1;
    let letter = stage.letters().iter().find(is_first).cloned();
    stage.set_up(letter.is_some(), "the body travels in stripes")?;
    let Some(PeerMessage::Stripe(stripe)) = letter.map(|letter| (*letter.message).clone()) else {
        return stage.verdict();
    };
    // The criminal's own stripe is the third: bytes of its own making.
    let mut torn = stripe.clone();
    torn.stripe.index = 2;
    torn.stripe.bytes[5..].fill(7);
    stage.tell(3, &[1, 2], &PeerMessage::Stripe(torn));
    // It comes first, with what the sequencer itself sent.
    stage.run(|letter| letter.word() == Word::Stripe && [0, 3].contains(&letter.from));
    stage.verdict()?;
    let height = stage.height(0);
    stage.settle(height + 2)
}
