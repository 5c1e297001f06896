//! Rounds that are left, terms that end, primaries that fall.

use expect_test::expect;
use quipu_consensus::core::{ROUND_US, Refused};
use quipu_consensus::{Change, Message};
use quipu_crypto::Tag;
use quipu_proof::names::header_hash;
use quipu_types::{Height, High, Lane, RoundChange, RoundKind, Signature, Term, ValidatorIndex};

use crate::world::{CHAIN, IDLE_US, MIN_US, Node, World, context, number, sign};

const EQUAL: [u64; 4] = [1; 4];

/// A signed change to a round, honest or not.
pub(crate) fn change(index: usize, round: u32, high: Option<High>) -> RoundChange {
    let unsigned = Signature([0; 64]);
    let mut change = RoundChange {
        height: Height::new(1),
        round,
        kind: RoundKind::Led,
        high,
        validator: number(index),
        signature: unsigned,
    };
    change.signature = sign(index, Tag::RoundChange, &change.signed_body());
    change
}

fn bare(change: RoundChange) -> Message {
    Message::RoundChange(Change { change, polka: Vec::new(), coins: Vec::new() })
}

#[test]
fn when_the_leader_is_silent_the_next_one_proposes_with_a_certificate_and_all_commit() {
    let mut world = World::new(&EQUAL, 1);
    let (first, second) = (world.leader(0), world.leader(1));
    world.grow_all([1, 0, 0]);
    world.quiet();
    world.silent[first] = true;
    world.pass(MIN_US + ROUND_US + MIN_US);
    let heights: Vec<u64> = (0..4).map(|index| u64::from(index != first)).collect();
    assert_eq!(world.heights(), heights);
    let (header, certificate) = &world.nodes[second].committed[0];
    assert_eq!(header.proposer, number(second));
    assert!(certificate.precommits.iter().all(|vote| vote.round == 1));
    expect![[r#"
        persist RoundChange 1 round 1 with no polka
        send    RoundChange 1 round 1 with no polka
        persist Propose 1 round 1 cut [1, 0, 0] time 1000001
        send    Propose 1 round 1 cut [1, 0, 0] time 1000001
        persist Prevote 1 round 1
        send    Prevote 1 round 1
        guess   1
        persist Precommit 1 round 1 tips [] time 5505000
        send    Precommit 1 round 1 tips [] time 5505000
        commit  1
    "#]]
    .assert_eq(&format!("{}\n", world.nodes[second].trace.join("\n")));

    world.silent[first] = false;
    world.pass(2 * ROUND_US);
    assert!(
        world.heights().iter().all(|height| *height >= 1),
        "who was away learns what was decided"
    );
    world.assert_agreement();
}

#[test]
fn a_polka_carries_its_header_into_the_next_round_though_another_one_leads() {
    let mut world = World::new(&EQUAL, 2);
    let (first, second) = (world.leader(0), world.leader(1));
    world.grow_all([1, 0, 0]);
    world.quiet();
    world.loses = Box::new(move |_, to, message| match message {
        // The next leader has the polka, and asks for the header's bytes.
        Message::Propose(propose) => propose.round == 0 && to == second,
        Message::Precommit(vote) => vote.round == 0,
        _ => false,
    });
    world.pass(MIN_US + ROUND_US + 2 * MIN_US);
    assert_eq!(world.heights(), [1; 4]);
    for node in &world.nodes {
        let (header, certificate) = &node.committed[0];
        assert_eq!(header.proposer, number(first), "the header keeps who made it");
        let votes = &certificate.precommits;
        assert!(votes.iter().all(|vote| (vote.round, vote.instance) == (1, number(second))));
    }
    world.assert_agreement();
}

#[test]
fn a_leader_that_may_not_propose_another_value_than_its_certificate_s_is_refused() {
    let mut world = World::new(&EQUAL, 3);
    let second = world.leader(1);
    world.grow_all([1, 0, 0]);
    world.quiet();
    world.loses = Box::new(|_, _, message| matches!(message, Message::Precommit(_)));
    world.pass(MIN_US + ROUND_US);
    let said = world.nodes[second].log.iter().map(quipu_consensus::Record::message);
    let proposed = said.filter_map(|message| match message {
        Message::Propose(propose) if propose.round == 1 => Some(propose),
        _ => None,
    });
    let proposed: Vec<_> = proposed.collect();
    let [honest] = proposed.as_slice() else { panic!("one proposal of round 1") };
    let mut other = honest.clone();
    other.header.cut = quipu_consensus::genesis_cut(3);
    other.signature = sign(second, Tag::Propose, &other.signed_body());
    let (instance, height, round) = (number(second), Height::new(1), 1);
    let mut bystander = Node::new(&EQUAL, world.leader(2));
    let refused = bystander.hear(second, Message::Propose(other));
    assert_eq!(refused, Err(Refused::Unjustified { instance, height, round }));
    let mut naked = honest.clone();
    naked.certificate = None;
    naked.signature = sign(second, Tag::Propose, &naked.signed_body());
    let refused = bystander.hear(second, Message::Propose(naked));
    assert_eq!(refused, Err(Refused::Leader { instance, height }));
    bystander.hear(second, Message::Propose(honest.clone())).expect("the honest one");
    assert_eq!(bystander.core.round(), 1, "a justified proposal pulls");
}

#[test]
fn a_third_beyond_pulls_and_less_does_not() {
    let mut node = Node::new(&EQUAL, 0);
    node.hear(1, bare(change(1, 1, None))).expect("a signed round change");
    assert_eq!(node.core.round(), 0);
    assert_eq!(node.said(), []);
    node.hear(2, bare(change(2, 2, None))).expect("a signed round change");
    assert_eq!(node.core.round(), 1, "the highest round that a third went to, or beyond");
    assert_eq!(node.said(), [bare(change(0, 1, None))]);
    node.hear(3, bare(change(3, 2, None))).expect("a signed round change");
    assert_eq!(node.core.round(), 2);
}

#[test]
fn one_validator_s_round_changes_pull_nobody_and_take_no_room() {
    let mut node = Node::new(&EQUAL, 0);
    let sprayer = 1;
    let mut size_first = 0;
    for round in (1..400).chain((1..2_000).map(|step| u32::MAX - 2_000 + step)) {
        let _ = node.hear(sprayer, bare(change(sprayer, round, None)));
        let mut vote = quipu_types::Prevote {
            height: Height::new(1),
            round,
            kind: RoundKind::Led,
            instance: context(&EQUAL).schedule.leader(0, round),
            digest: CHAIN,
            proposal: CHAIN,
            validator: number(sprayer),
            signature: Signature([0; 64]),
        };
        vote.signature = sign(sprayer, Tag::Prevote, &vote.signed_body());
        let _ = node.hear(sprayer, Message::Prevote(vote.clone()));
        vote.height = Height::new(2);
        vote.signature = sign(sprayer, Tag::Prevote, &vote.signed_body());
        let _ = node.hear(sprayer, Message::Prevote(vote));
        if round == 40 {
            size_first = format!("{:?}", node.core).len();
        }
    }
    let size = format!("{:?}", node.core).len();
    assert!(size < size_first + 200, "{size} characters, {size_first} after 40 rounds");
    assert_eq!(node.core.round(), 0);
    assert_eq!(node.said(), []);
    assert_eq!(node.evidence, []);
}

#[test]
fn a_restart_in_the_middle_of_a_round_says_the_same_bytes_and_goes_on() {
    let mut world = World::new(&EQUAL, 4);
    world.grow_all([1, 0, 0]);
    world.quiet();
    world.loses = Box::new(|_, _, message| match message {
        Message::Propose(propose) => propose.round < 2,
        Message::Precommit(_) => true,
        _ => false,
    });
    world.pass(MIN_US + 3 * ROUND_US);
    assert!(world.nodes.iter().all(|node| node.core.round() == 2), "the middle of round 2");
    for index in 0..4 {
        let node = &mut world.nodes[index];
        let said: Vec<Message> =
            node.log.iter().map(quipu_consensus::Record::message).filter(is_of_round_2).collect();
        let leads = index == usize::from(context(&EQUAL).schedule.leader(0, 2).get());
        assert_eq!(said.len(), 3 + usize::from(leads), "round change, votes, maybe the proposal");
        node.restart(&EQUAL, index, 0);
        assert_eq!(node.core.round(), 2);
        node.wait(ROUND_US);
        let again: Vec<Message> = node.said().into_iter().filter(is_of_round_2).collect();
        assert!(said.iter().all(|message| again.contains(message)), "the same bytes");
        assert!(again.iter().all(|message| said.contains(message)), "and no others");
    }
    world.loses = Box::new(|_, _, _| false);
    world.pass(2 * ROUND_US);
    assert!(world.heights().iter().all(|height| *height >= 1), "{:?}", world.heights());
    world.assert_agreement();
}

fn is_of_round_2(message: &Message) -> bool {
    match message {
        Message::Propose(said) => said.round == 2,
        Message::Prevote(said) => said.round == 2,
        Message::Precommit(said) => said.round == 2,
        Message::RoundChange(Change { change, .. }) => change.round == 2,
        Message::CoinShare(share) => share.round == 2,
        Message::Ack(_) | Message::StateVote(_) | Message::Done(_) => false,
    }
}

#[test]
fn own_votes_of_a_height_whose_parent_was_lost_bind_when_it_begins_again() {
    let mut world = World::new(&EQUAL, 8);
    world.grow_all([1, 0, 0]);
    world.quiet();
    world.pass(2 * MIN_US);
    assert_eq!(world.heights(), [1; 4]);
    world.loses = Box::new(|_, _, message| matches!(message, Message::Precommit(_)));
    world.grow_all([2, 0, 0]);
    world.quiet();
    world.pass(2 * MIN_US);
    let precommitted = world.nodes[0].log.iter().any(|record| match record {
        quipu_consensus::Record::Precommit { vote, .. } => vote.height == Height::new(2),
        _ => false,
    });
    assert!(precommitted && world.heights() == [1; 4], "height 2 has votes, and no commit");
    world.nodes[0].restart(&EQUAL, 0, 1);
    let committed = world.nodes[1].committed[0].clone();
    world.nodes[0].step(quipu_consensus::Event::Decided(committed.0, committed.1)).expect("it is");
    // Its round change names the polka of the precommit that it does not remember having made.
    world.silent[0] = true;
    world.pass(IDLE_US + ROUND_US + MIN_US);
    let changes = world.nodes[0].log.iter().filter_map(|record| match record {
        quipu_consensus::Record::RoundChange(Change { change, .. }) => {
            change.high.map(|high| high.round)
        }
        _ => None,
    });
    assert_eq!(changes.collect::<Vec<_>>(), [0]);
    world.silent[0] = false;
    world.loses = Box::new(|_, _, _| false);
    world.pass(3 * ROUND_US);
    assert!(world.heights().iter().all(|height| *height >= 2), "{:?}", world.heights());
    world.assert_agreement();
}

#[test]
fn a_third_s_suspicions_end_a_term_and_one_validator_s_do_not() {
    let lane = Lane::new(1);
    for (count, term) in [(1, 1), (3, 2)] {
        let mut world = World::new(&EQUAL, 5);
        for node in world.nodes.iter_mut().take(count) {
            node.chunks.suspects = vec![(lane, Term::new(1))];
        }
        world.pass(3 * IDLE_US);
        world.assert_agreement();
        for node in &world.nodes {
            let parent = node.core.parent();
            let terms: Vec<u64> = parent.terms.iter().map(|term| term.term.get()).collect();
            assert_eq!(terms, [1, term, 1]);
            let began = node.committed.iter().find(|(header, _)| !header.term_changes.is_empty());
            assert_eq!(began.is_some(), term > 1);
            let Some((header, _)) = began else { continue };
            assert_eq!(header.term_changes, [(lane, Term::new(2))]);
            assert_eq!(parent.terms[1].branch, header_hash(header));
            assert_eq!(header.height, Height::new(2), "the header after the votes that suspect");
        }
    }
}

#[test]
fn suspicions_alone_start_a_height() {
    let mut world = World::new(&EQUAL, 6);
    for node in &mut world.nodes {
        node.chunks.suspects = vec![(Lane::new(0), Term::new(1))];
    }
    world.pass(IDLE_US / 5);
    let terms: Vec<Term> =
        world.nodes.iter().map(|node| node.core.parent().terms[0].term).collect();
    assert_eq!(terms, [Term::new(2); 4]);
}

#[test]
fn whoever_led_a_later_round_is_the_primary_two_heights_on() {
    let mut world = World::new(&EQUAL, 7);
    let (first, second) = (world.leader(0), world.leader(1));
    world.silent[first] = true;
    let mut led: Vec<(u32, ValidatorIndex)> = Vec::new();
    for height in 1..=4 {
        while world.nodes[second].height() < height {
            world.pass(MIN_US);
        }
        let (_, certificate) = world.nodes[second].committed.last().expect("it committed");
        let vote = &certificate.precommits[0];
        led.push((vote.round, vote.instance));
    }
    let later = number(second);
    assert_eq!(led, [(1, later), (1, later), (0, later), (0, later)]);
    world.silent[first] = false;
    world.pass(2 * IDLE_US);
    world.assert_agreement();
    let primaries: Vec<usize> = world.nodes.iter().map(|node| node.core.parent().primary).collect();
    assert_eq!(primaries, [1; 4], "it stays, though the first is back");
}
