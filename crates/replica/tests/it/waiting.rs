//! What a client gave to a live validator is answered there, whoever falls silent meanwhile and
//! whatever is lost.

use quipu_consensus::Message;
use quipu_replica::{Answer, Input, Observer, PeerMessage, Refusal, Refused};
use quipu_types::Decode;

use crate::common::transaction_of;
use crate::net::Net;

/// The lane that the primary does not sequence.
const LANE: u16 = 1;
/// Time for what nobody tells anybody before it is overdue, and a term more.
const PATIENCE_US: u64 = 4_000_000;

fn is_ack(message: &PeerMessage) -> bool {
    matches!(message, PeerMessage::Agreement(Message::Ack(_)))
}

/// The sequencer of the lane, which gives its chunks to `holder` alone and falls silent, with what
/// a client gave it.
fn fallen(net: &mut Net, holder: usize, client: u8) -> usize {
    let first = net.sequencer(LANE, 1);
    net.loses = Box::new(move |from, to, message| {
        from == first && to != holder && matches!(message, PeerMessage::Chunk(_))
            || from == first && is_ack(message)
    });
    net.submit(first, 1, net.transaction(client, 1));
    net.quiet();
    let tips = net.members[holder].replica.status().tips;
    assert_eq!(tips[usize::from(LANE)].index, 1, "one validator holds the chunk");
    net.down(first);
    net.loses = Box::new(|_, _, _| false);
    first
}

#[test]
fn what_one_validator_alone_holds_of_a_silent_sequencer_is_ordered_by_the_next() {
    let mut net = Net::new();
    let [first, second, holder] = [1, 2, 3].map(|term| net.sequencer(LANE, term));
    let client = net.client(LANE, 0);
    assert_eq!(first, fallen(&mut net, holder, client));
    // Its client goes to the validator that has the chunk, with the same bytes, and nobody else has
    // anything to say.
    net.submit(holder, 2, net.transaction(client, 1));
    let took = net.until("it is answered", |net| net.is_answered(holder, 2));
    assert!(took <= PATIENCE_US, "{took} microseconds");
    assert_eq!(net.term(second, usize::from(LANE)), 2);
    net.up(first);
    net.until("who was silent answers too", |net| net.is_answered(first, 1));
    assert_eq!(net.ordered(first, LANE).len(), 1);
    net.assert_sound();
}

#[test]
fn what_stood_behind_a_lost_chunk_is_refused_when_its_place_is_gone() {
    let mut net = Net::new();
    let holder = net.sequencer(LANE, 3);
    let client = net.client(LANE, 0);
    fallen(&mut net, holder, client);
    net.submit(holder, 2, net.transaction(client, 2));
    let took = net.until("it is answered", |net| net.is_answered(holder, 2));
    assert!(took <= PATIENCE_US, "{took} microseconds");
    let (_, answer) = &net.members[holder].answers[0];
    assert!(matches!(answer, Answer::Refused(Refusal::Gap { .. })), "{answer:?}");
    for sequence in [1, 2] {
        net.submit(holder, 10 + sequence, net.transaction(client, sequence));
    }
    net.until("both are ordered", |net| net.ordered(holder, LANE).len() == 2);
    net.assert_sound();
}

#[test]
fn what_stood_behind_a_lost_chunk_is_ordered_by_who_holds_it_when_its_place_comes_back() {
    let mut net = Net::new();
    let [second, holder] = [2, 3].map(|term| net.sequencer(LANE, term));
    let client = net.client(LANE, 0);
    let first = fallen(&mut net, holder, client);
    net.submit(holder, 2, net.transaction(client, 2));
    net.until("the next term begins", |net| net.term(holder, usize::from(LANE)) == 2);
    // Who was silent has what comes before it, and tells the one after the next alone.
    net.loses = Box::new(move |from, to, message| {
        (from, to) == (first, second) && matches!(message, PeerMessage::Forward { .. })
    });
    net.up(first);
    net.step(second, Input::Stop);
    for (index, ticket) in [(first, 1), (holder, 2)] {
        net.until("it is answered", |net| net.is_answered(index, ticket));
        let (_, answer) = &net.members[index].answers[0];
        assert!(matches!(answer, Answer::Final { .. }), "{answer:?}");
    }
    assert_eq!(net.term(holder, usize::from(LANE)), 3);
    net.assert_sound();
}

#[test]
fn acks_of_a_term_that_ended_are_not_said_again() {
    let mut net = Net::new();
    let [second, holder] = [2, 3].map(|term| net.sequencer(LANE, term));
    let client = net.client(LANE, 0);
    fallen(&mut net, holder, client);
    net.submit(holder, 2, net.transaction(client, 2));
    net.until("it is answered", |net| net.is_answered(holder, 2));
    assert_eq!(net.ordered(second, LANE), [], "the chunk is void");
    net.heard.clear();
    net.pass(3_000_000);
    let heard = net.heard.iter().map(|bytes| PeerMessage::from_bytes(bytes).expect("it was sent"));
    assert_eq!(heard.filter(is_ack).count(), 0);
}

#[test]
fn acks_that_were_lost_are_said_again_though_heights_go_on() {
    let mut net = Net::new();
    let [first, second, third] = [1, 2, 3].map(|term| net.sequencer(LANE, term));
    let fourth = (0..4).find(|index| ![first, second, third].contains(index)).expect("four");
    let client = net.client(LANE, 0);
    // Three hold the chunk, and nobody hears that another one does.
    net.loses = Box::new(move |_, to, message| {
        is_ack(message) || to == fourth && matches!(message, PeerMessage::Chunk(_))
    });
    net.submit(third, 1, net.transaction(client, 1));
    net.quiet();
    for index in [first, second, third] {
        assert_eq!(net.members[index].replica.status().tips[usize::from(LANE)].index, 1);
    }
    net.loses = Box::new(|_, _, _| false);
    let other = net.client(0, 0);
    let top = net.top();
    for sequence in 1..=400 {
        net.submit(fourth, 1_000 + sequence, net.transaction(other, sequence));
        net.pass(10_000);
    }
    assert!(net.top() >= top + 200, "{}", net.told());
    assert!(net.is_answered(third, 1), "{}", net.told());
    assert_eq!(net.term(third, usize::from(LANE)), 1, "nobody is to blame");
    net.assert_sound();
}

#[test]
fn what_waits_at_a_sequencer_that_gave_its_lane_up_unheard_is_told_to_the_others() {
    let mut net = Net::new();
    let sequencer = net.sequencer(LANE, 1);
    let asker = (sequencer + 1) % 4;
    let client = net.client(LANE, 0);
    // A validator with a new disk asks: lanes are handed over for its sake.
    net.loses = Box::new(move |from, _, message| {
        from == sequencer && matches!(message, PeerMessage::Handover(_))
    });
    let observer = Observer { nonce: 77, threshold: None };
    net.restart(asker, Some(observer));
    net.until("it knows its threshold", |net| net.members[asker].threshold.is_some());
    net.pass(15_000_000);
    net.submit(sequencer, 1, net.transaction(client, 1));
    net.until("it is answered", |net| net.is_answered(sequencer, 1));
    net.assert_sound();
}

#[test]
fn chunks_of_a_term_whose_header_was_lost_are_not_made_twice() {
    let mut net = Net::new();
    let [first, second, third] = [1, 2, 3].map(|term| net.sequencer(LANE, term));
    let client = net.client(LANE, 0);
    net.pass(20_000);
    net.step(first, Input::Stop);
    net.until("it is suspected", |net| net.height(second) == 1);
    net.stuck = Some(second);
    net.until("the next term begins", |net| {
        [second, third].iter().all(|index| net.term(*index, usize::from(LANE)) == 2)
    });
    // Larger than a chunk: it is cut at once, before the header that begins the term is written.
    let large = transaction_of(&net.genesis, client, 0, 1, 5_000);
    net.submit(second, 1, large.clone());
    let tip = net.members[second].replica.status().tips[usize::from(LANE)];
    assert_eq!((tip.index, tip.term.get()), (1, 2), "it made a chunk");
    net.down(second);
    net.stuck = None;
    net.submit(third, 2, large);
    net.restart(second, None);
    // A height goes on, so it hears that it is behind before anyone suspects it.
    net.submit(third, 3, net.transaction(net.client(0, 0), 1));
    net.until("it is answered", |net| net.is_answered(third, 2));
    net.submit(third, 4, net.transaction(client, 2));
    net.until("the lane goes on", |net| net.is_answered(third, 4));
    assert_eq!(net.term(third, usize::from(LANE)), 2, "{}", net.told());
    let mut refused = net.members.iter().flat_map(|member| &member.refused);
    let chunk = refused.find(|refused| matches!(refused, Refused::Chunk { .. }));
    assert_eq!(chunk, None, "what it made in the term that it forgot stands");
    net.assert_sound();
}
