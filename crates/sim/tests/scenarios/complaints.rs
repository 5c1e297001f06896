//! Plays about clients that are kept out, and about those who say so without reason. Lane 1 is first sequenced by 1.

use std::sync::Arc;

use quipu_consensus::Message;
use quipu_replica::{Admitted, PeerMessage};
use quipu_sim::stage::{Client, Failure, IDLE_US, Letter, Outcome, Stage};
use quipu_types::code::{
    BAD_SIGNATURE, COMPLAINT_ANCHOR, COMPLAINT_FALSE, COMPLAINT_NOT_NEXT, COMPLAINT_TERM,
    COMPLAINT_UNHEARD, COMPLAINTS_FULL, SEQUENCE_USED,
};
use quipu_types::{Hash, Lane, Term};

use crate::Setting;
use crate::rounds::plain;

const FIRST: Term = Term::new(1);
const STEP_US: u64 = 20_000;

/// The newest header that one has committed.
fn newest(stage: &Stage, number: u16) -> Hash {
    stage.parent(number, stage.height(number)).expect("its own height").hash
}

fn term(stage: &Stage, lane: u16) -> Option<Term> {
    stage.term(stage.honest()[0], lane)
}

/// Complains to one that lane 1 keeps a transaction out.
fn complain(
    stage: &mut Stage,
    number: u16,
    client: &Client,
    admitted: &Arc<Admitted>,
) -> Option<quipu_types::Code> {
    let current = stage.term(number, 1).expect("a lane of the stage").get();
    let complaint =
        client.complaint(&stage.context().chain, &admitted.bytes, newest(stage, number), current);
    stage.complain(number, &complaint)
}

/// Everything arrives for so long, in small steps, while `each` happens in each of them. How long it took until `done`.
fn until(
    stage: &mut Stage,
    us: u64,
    mut each: impl FnMut(&mut Stage, u64),
    done: impl Fn(&Stage) -> bool,
) -> Option<u64> {
    for step in 0..us.div_ceil(STEP_US) {
        each(stage, step);
        stage.run(|_| true);
        if done(stage) {
            return Some(step * STEP_US);
        }
        stage.pass(STEP_US);
    }
    None
}

/// The sequencer of lane 1 streams chunks in which one client's transactions never stand; the others of the lane, if it
/// had any, would. The client complains to one validator. How long until its transaction is ordered.
fn without_one(stage: &mut Stage, us: u64) -> Option<u64> {
    let honest = stage.honest();
    let mut strand = stage.strand(0, 1);
    let client = stage.client(1);
    let kept_out = stage.transaction(&client, 1, 9);
    stage.settle(3).ok()?;
    assert_eq!(complain(stage, 0, &client, &kept_out), None);
    let streams = |stage: &mut Stage, step: u64| {
        if term(stage, 1) == Some(FIRST) && step.is_multiple_of(5) {
            let tip = stage.stream(&mut strand, 3, &honest);
            stage.ack(1, &[tip], &honest);
        }
    };
    until(stage, us, streams, |stage| stage.ordered(2, &kept_out).is_some())
}

/// One complaint deposes who keeps one client's transactions out of a lane that moves.
pub(crate) fn kept_out(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[1]);
    let took_us = without_one(&mut stage, 4_000_000);
    stage.verdict()?;
    match took_us {
        Some(_) => stage.set_up(term(&stage, 1) > Some(FIRST), "it is deposed"),
        None => Err(Failure::new("CENSORED", "lane 1 moves, and leaves out one client for 4 s")),
    }
}

/// A client complains to all of a transaction that comes after one which it never sent.
pub(crate) fn not_its_turn(setting: &Setting) -> Outcome {
    let mut stage = setting.stage(4, &[3]);
    let client = stage.client(1);
    let second = stage.transaction(&client, 2, 9);
    stage.settle(3)?;
    let refused = complain(&mut stage, 0, &client, &second);
    let _ = complain(&mut stage, 2, &client, &second);
    until(&mut stage, 4_000_000, |_, _| (), |stage| term(stage, 1) != Some(FIRST));
    stage.verdict()?;
    if term(&stage, 1) != Some(FIRST) {
        return Err(Failure::new("DEPOSED", "for what the sequencer of lane 1 could not order"));
    }
    stage.set_up(refused == Some(COMPLAINT_NOT_NEXT), "it is refused by name")
}

/// The chunk of lane 1 that an ack reaches.
fn acked(letter: &Letter) -> u64 {
    match &*letter.message {
        PeerMessage::Agreement(Message::Ack(ack)) => {
            let tip = ack.tips.iter().find(|tip| tip.lane == Lane::new(1));
            tip.map_or(0, |tip| tip.index)
        }
        _ => 0,
    }
}

/// Acks are slow, so that the cut is far behind an honest sequencer's chunks when a client complains: what it complains of
/// is in the next of them, and stands in a cut long after.
pub(crate) fn under_load(setting: &Setting) -> Outcome {
    const BACKLOG: u64 = 60;
    let mut stage = setting.stage(4, &[3]);
    stage.settle(3)?;
    for _ in 0..BACKLOG {
        stage.submit(1, 1);
        stage.run(|letter| acked(letter) == 0);
    }
    let client = stage.client(1);
    let late = stage.transaction(&client, 1, 9);
    for number in [0, 2] {
        let _ = complain(&mut stage, number, &client, &late);
    }
    for index in 1..=BACKLOG + 2 {
        for _ in 0..3 {
            stage.run(|letter| acked(letter) <= index);
            stage.pass(STEP_US);
        }
        stage.verdict()?;
        if term(&stage, 1) != Some(FIRST) {
            let what = format!("at chunk {index} of {BACKLOG} that were there before");
            return Err(Failure::new("DEPOSED", what));
        }
    }
    until(&mut stage, 1_000_000, |_, _| (), |stage| stage.ordered(0, &late).is_some());
    stage.set_up(stage.ordered(0, &late).is_some(), "it is ordered")?;
    stage.set_up(term(&stage, 1) == Some(FIRST), "by the same sequencer")
}

#[test]
fn one_complaint_deposes_who_keeps_a_client_out_in_less_than_three_seconds() {
    let mut stage = Setting::ALL.stage(4, &[1]);
    let took_us = without_one(&mut stage, 10_000_000).expect("it is ordered");
    println!("ordered by the next sequencer {} ms after the complaint", took_us / 1_000);
    assert!(took_us < 3_000_000, "{took_us}");
}

#[test]
fn an_honest_sequencer_orders_what_is_complained_of_and_stays() {
    let mut stage = Setting::ALL.stage(4, &[3]);
    stage.settle(3).expect("heights are made");
    for round in 0..5 {
        let clients: Vec<Client> = (0..10).map(|_| stage.client(1)).collect();
        let all: Vec<_> = clients.iter().map(|client| stage.transaction(client, 1, 9)).collect();
        for (client, admitted) in clients.iter().zip(&all) {
            assert_eq!(complain(&mut stage, 0, client, admitted), None, "round {round}");
        }
        let all_ordered = |stage: &Stage| all.iter().all(|one| stage.ordered(0, one).is_some());
        let took_us = until(&mut stage, 1_000_000, |_, _| (), all_ordered);
        assert!(took_us.is_some_and(|us| us < 200_000), "{took_us:?}");
    }
    until(&mut stage, 4_000_000, |_, _| (), |_| false);
    assert_eq!(term(&stage, 1), Some(FIRST));
}

#[test]
fn a_third_minus_one_that_complains_and_suspects_deposes_nobody() {
    let mut stage = Setting::ALL.stage(7, &[5, 6]);
    let honest = stage.honest();
    stage.settle(3).expect("heights are made");
    let client = stage.client(1);
    let gap = stage.transaction(&client, 7, 9);
    for _ in 0..100 {
        let anchor = newest(&stage, 0);
        let complaint = client.complaint(&stage.context().chain, &gap.bytes, anchor, 1);
        for criminal in [5, 6] {
            stage.tell(criminal, &honest, &PeerMessage::Complaint(complaint.clone()));
            let height = stage.height(0) + 1;
            if let Some(propose) = stage.proposal(height, 0) {
                stage.prevote(criminal, &propose, &honest);
                let suspects = [(Lane::new(0), FIRST), (Lane::new(1), FIRST)];
                stage.precommit(criminal, &propose, &[], &suspects, &honest);
            }
        }
        stage.run_for(2 * IDLE_US, |_| true);
        stage.verdict().expect("no rule is broken");
    }
    assert!(stage.height(0) > 50, "{}", stage.describe());
    assert_eq!([0, 1].map(|lane| term(&stage, lane)), [Some(FIRST); 2]);
}

#[test]
fn complaints_are_refused_by_name() {
    let mut stage = Setting::ALL.stage(4, &[1]);
    let honest = stage.honest();
    let chain = stage.context().chain;
    let before = newest(&stage, 0);
    stage.settle(3).expect("heights are made");
    let client = stage.client(1);
    let first = stage.transaction(&client, 1, 9);
    let anchor = newest(&stage, 0);
    let kept_out = client.complaint(&chain, &first.bytes, anchor, 1);

    let mut told = kept_out.clone();
    told.signature = client.complaint(&chain, &first.bytes, before, 1).signature;
    assert_eq!(stage.complain(0, &told), Some(BAD_SIGNATURE));
    let unseen = client.complaint(&chain, &first.bytes, Hash([9; 32]), 1);
    assert_eq!(stage.complain(0, &unseen), Some(COMPLAINT_ANCHOR));
    let later = client.complaint(&chain, &first.bytes, anchor, 2);
    assert_eq!(stage.complain(0, &later), Some(COMPLAINT_TERM));
    let second = stage.transaction(&client, 2, 9);
    let early = client.complaint(&chain, &second.bytes, anchor, 1);
    assert_eq!(stage.complain(0, &early), Some(COMPLAINT_NOT_NEXT));

    // It is right, and the term ends for it; then it is of an old term, and of something that was ordered meanwhile.
    assert_eq!(stage.complain(0, &kept_out), None);
    let other = stage.transaction(&client, 1, 10);
    let other = client.complaint(&chain, &other.bytes, anchor, 1);
    assert_eq!(stage.complain(0, &other), Some(COMPLAINTS_FULL));
    let mut strand = stage.strand(0, 1);
    let streams = |stage: &mut Stage, _: u64| {
        if term(stage, 1) == Some(FIRST) {
            let tip = stage.stream(&mut strand, 3, &honest);
            stage.ack(1, &[tip], &honest);
        }
    };
    let ordered = |stage: &Stage| honest.iter().all(|one| stage.ordered(*one, &first).is_some());
    until(&mut stage, 4_000_000, streams, ordered).expect("it is ordered");
    assert_eq!(stage.complain(0, &kept_out), Some(COMPLAINT_TERM));
    assert_eq!(stage.complain(2, &kept_out), Some(COMPLAINT_TERM));
    let again = client.complaint(&chain, &first.bytes, anchor, 2);
    assert_eq!(stage.complain(0, &again), Some(SEQUENCE_USED));

    // Who has seen that it was ordered, and complains all the same, is not heard for a while.
    assert_eq!(complain(&mut stage, 0, &client, &first), Some(COMPLAINT_FALSE));
    assert_eq!(complain(&mut stage, 0, &client, &second), Some(COMPLAINT_UNHEARD));
    let height = stage.height(0) + 300;
    stage.settle(height).expect("heights are made");
    assert_eq!(complain(&mut stage, 0, &client, &second), None);
}

/// A leader that keeps every rule and moves no lane that it need not. After how many heights does a client's transaction
/// stand in a cut that everyone holds? The first height is the one that was being decided when they came to hold it.
#[test]
fn no_leader_keeps_a_transaction_out_for_more_than_two_heights() {
    let mut stage = Setting::ALL.stage(4, &[0]);
    let honest = stage.honest();
    let client = stage.client(1);
    let mut waits = Vec::new();
    for sequence in 1..=12_u64 {
        let admitted = stage.transaction(&client, sequence, 9);
        let before = stage.height(1);
        stage.give(1, &admitted);
        stage.run(|letter| letter.height().is_none());
        while stage.ordered(2, &admitted).is_none() {
            let height = stage.height(1) + 1;
            assert!(height < before + 6, "the leader keeps it out");
            // The least that a header may hold: no lane moves but where inclusion demands it.
            let least = least(&stage);
            let propose = stage.propose(0, 0, &least, None, &honest);
            stage.vote(0, &propose, &honest);
            stage.run(|letter| letter.height().is_none_or(|own| own <= height));
            stage.verdict().expect("no rule is broken");
            if stage.height(1) < height {
                stage.settle(height).expect("others lead on");
            }
        }
        waits.push(stage.ordered(2, &admitted).expect("it was waited for") - before);
    }
    println!(
        "heights until a transaction stands in the cut of a leader that would leave it out: {waits:?}"
    );
    assert!(waits.iter().all(|wait| *wait <= 2), "{waits:?}");
}

/// The least header that follows what 1 has committed, of leader 0.
fn least(stage: &Stage) -> quipu_types::Header {
    let parent = stage.parent(1, stage.height(1)).expect("its own height");
    let mut header = plain(stage, 1, 0);
    for tip in &mut header.cut {
        let required = parent.index_required(stage.context(), tip.lane);
        if required > tip.index {
            let tips = stage.tips(tip.lane.get());
            *tip = *tips.iter().find(|held| held.index == required).expect("it was streamed");
        }
    }
    header
}
