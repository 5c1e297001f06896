//! Four validators: transactions on their way, sequencers that fall, validators that come back.

use proptest::prelude::*;
use quipu_clock::{LaneClock, verify_range};
use quipu_consensus::Message;
use quipu_consensus::core::ROUND_US;
use quipu_replica::api::STOP_US;
use quipu_replica::{Answer, Input, Observer, PeerMessage};
use quipu_types::{Encode, Height, Lane};

use crate::common::{LANES, MIN_US};
use crate::net::Net;

/// The lane that the primary does not sequence.
const LANE: u16 = 1;

#[test]
fn a_transaction_goes_through_its_gateway_to_its_sequencer_and_back() {
    let mut net = Net::new();
    let sequencer = net.sequencer(LANE, 1);
    let gateway = (sequencer + 1) % 4;
    let client = net.client(LANE, 0);
    for sequence in 1..=20 {
        net.submit(gateway, sequence, net.transaction(client, sequence));
    }
    net.quiet();
    let took = net.until("it is answered", |net| net.is_answered(gateway, 20));
    assert!(took <= 4 * MIN_US, "{took} microseconds for 20 transactions");
    let key = net.transaction(client, 1).transaction.signer;
    let expected: Vec<_> = (1..=20).map(|sequence| (key, sequence)).collect();
    for index in 0..4 {
        assert_eq!(net.ordered(index, LANE), expected, "in the client's order");
        assert_eq!(net.members[index].answers.len(), if index == gateway { 20 } else { 0 });
        let answers = net.members[index].answers.iter();
        assert!(answers.into_iter().all(|(_, answer)| matches!(answer, Answer::Final { .. })));
    }
    net.assert_sound();
}

#[test]
fn both_lanes_move_under_load_from_every_gateway() {
    let mut net = Net::new();
    for sequence in 1..=50 {
        for gateway in 0..4 {
            for lane in 0..2 {
                let client = net.client(lane, gateway);
                net.submit(gateway, sequence, net.transaction(client, sequence));
            }
        }
        net.pass(1_000);
    }
    net.until("all are answered", |net| {
        net.members.iter().all(|member| member.answers.len() == 100)
    });
    assert_eq!(net.ordered(0, 0).len() + net.ordered(0, 1).len(), 400);
    assert_eq!([net.term(0, 0), net.term(0, 1)], [1, 1]);
    net.assert_sound();
}

#[test]
fn a_silent_sequencer_is_deposed_and_the_void_suffix_comes_before_what_is_pending() {
    let mut net = Net::new();
    let [first, second, third] = [1, 2, 3].map(|term| net.sequencer(LANE, term));
    // Two chunks of the first sequencer reach only the second one; nobody hears that they did.
    let [early, later, waiting] = [0, 1, 2].map(|turn| net.client(LANE, turn));
    net.loses = Box::new(move |from, to, message| match message {
        PeerMessage::Chunk(_) => from == first && to != second,
        PeerMessage::Agreement(Message::Ack(_)) => from == first || from == second,
        PeerMessage::Fetch(_) => true,
        _ => false,
    });
    net.submit(first, 1, net.transaction(early, 1));
    net.quiet();
    net.submit(first, 2, net.transaction(later, 1));
    net.quiet();
    let tips = net.members[second].replica.status().tips;
    assert_eq!(tips[usize::from(LANE)].index, 2, "the second sequencer holds two chunks");
    net.down(first);
    net.loses = Box::new(move |from, _, message| {
        matches!(message, PeerMessage::Agreement(Message::Ack(_))) && from == second
            || matches!(message, PeerMessage::Fetch(_))
    });
    net.submit(third, 3, net.transaction(waiting, 1));
    let took = net.until("the sequencer is deposed", |net| net.term(third, 1) == 2);
    assert!(took <= 2_000_000, "{took} microseconds");
    net.loses = Box::new(|_, _, _| false);
    net.until("the pending one is answered", |net| net.is_answered(third, 3));
    let keys = [early, later, waiting].map(|client| net.transaction(client, 1).transaction.signer);
    let expected: Vec<_> = keys.into_iter().map(|key| (key, 1)).collect();
    assert_eq!(net.ordered(third, LANE), expected);
    net.up(first);
    net.until("who was away knows", |net| net.ordered(first, LANE).len() == 3);
    net.until("and answers its clients", |net| {
        net.is_answered(first, 1) && net.is_answered(first, 2)
    });
    net.assert_sound();
}

#[test]
fn a_sequencer_that_stops_hands_its_lanes_over_and_goes_at_once() {
    let mut net = Net::new();
    let [first, second] = [1, 2].map(|term| net.sequencer(LANE, term));
    let client = net.client(LANE, 0);
    net.submit(first, 1, net.transaction(client, 1));
    net.until("it is answered", |net| net.is_answered(first, 1));
    net.step(first, Input::Stop);
    net.submit(first, 2, net.transaction(client, 2));
    let took = net.until("it stops", |net| net.members[first].is_stopped);
    assert!(took < STOP_US / 2, "{took} microseconds until it stopped");
    assert!(net.is_answered(first, 2), "it takes nothing new");
    net.until("the others see the next term", |net| net.term(second, 1) == 2);
    net.down(first);
    net.submit((first + 1) % 4, 3, net.transaction(client, 2));
    let took = net.until("the next goes on", |net| net.ordered(second, LANE).len() == 2);
    assert!(took <= 3_000_000, "{took} microseconds");
    net.assert_sound();
}

#[test]
fn a_leader_that_stops_is_not_waited_for() {
    let mut net = Net::new();
    let client = net.client(LANE, 0);
    let (leader, gateway) = (leader(&net, 0), leader(&net, 1));
    net.submit(gateway, 1, net.transaction(client, 1));
    net.until("it is answered", |net| net.is_answered(gateway, 1));
    net.step(leader, Input::Stop);
    net.until("it stops", |net| net.members[leader].is_stopped);
    net.down(leader);
    net.submit(gateway, 2, net.transaction(client, 2));
    let took = net.until("the others go on", |net| net.is_answered(gateway, 2));
    assert!(took < ROUND_US / 2, "{took} microseconds");
    net.assert_sound();
}

/// Who leads the first round of a height when the primary is of this rank.
fn leader(net: &Net, primary: usize) -> usize {
    usize::from(net.context().schedule.leader(primary, 0).get())
}

/// Who proposed the newest height that a validator executed.
fn proposer(net: &Net, index: usize) -> usize {
    let block = net.members[index].executed.last().expect("a height");
    usize::from(block.header.proposer.get())
}

#[test]
fn who_said_that_it_stops_leads_again_when_it_is_linked_or_its_word_has_run_out() {
    let mut net = Net::new();
    let [first, second] = [0, 1].map(|rank| leader(&net, rank));
    let says = |net: &mut Net, who: usize, until: u64| {
        let word = PeerMessage::Leaving { until: Height::new(until) }.to_bytes();
        (0..4).filter(|to| *to != who).for_each(|to| net.put(who, to, word.clone()));
    };
    let next = |net: &mut Net| {
        let height = net.top();
        net.until("a height", |net| (0..4).all(|index| net.height(index) > height));
        proposer(net, second)
    };
    assert_eq!(next(&mut net), first);
    let until = net.top() + 1_000;
    says(&mut net, first, until);
    net.down(first);
    net.up(first);
    assert_eq!(next(&mut net), first, "it is back");
    let until = net.top();
    says(&mut net, first, until);
    assert_eq!(next(&mut net), first, "of no height to come");
    says(&mut net, first, until + 2);
    assert_eq!(next(&mut net), second);
    net.assert_sound();
}

#[test]
fn lanes_without_transactions_show_their_clocks_and_cause_no_heights_of_their_own() {
    let mut net = Net::new();
    net.pass(186_000_000);
    let top = net.top();
    assert!((183..=189).contains(&top), "{top} heights in 186 s, a second apart");
    for lane in 0..LANES {
        let headers: Vec<_> = net.chunk_headers(0, lane).collect();
        assert!((5..=7).contains(&headers.len()), "{} chunks, half a minute apart", headers.len());
        let seed = quipu_clock::seed_value(&net.genesis.clock_seed);
        let clock = LaneClock::begin(Lane::new(lane), seed);
        let ticks = verify_range(clock, headers.iter()).expect("true").tick_count();
        assert!((148_000..=186_000).contains(&ticks), "{ticks} ticks at 1,000 a second");
        assert!(headers.iter().all(|header| header.count == 0));
    }
    assert_eq!([net.term(0, 0), net.term(0, 1)], [1, 1], "nobody is suspected");
    net.assert_sound();
}

#[test]
fn a_standstill_gathers_no_chunks_of_clocks() {
    let mut net = Net::new();
    let sequencer = net.sequencer(LANE, 1);
    for other in (0..4).filter(|other| *other != sequencer) {
        net.down(other);
    }
    net.pass(150_000_000);
    let status = net.members[sequencer].replica.status();
    assert!(status.tips[usize::from(LANE)].index <= 1, "{}", net.told());
}

#[test]
fn a_clock_that_stands_costs_its_sequencer_the_lane_though_nobody_waits() {
    let mut net = Net::new();
    let [first, second] = [1, 2].map(|term| net.sequencer(LANE, term));
    net.pass(65_000_000);
    net.down(first);
    net.pass(100_000_000);
    assert_eq!(net.term(second, usize::from(LANE)), 1, "two minutes' silence is what it takes");
    net.pass(150_000_000);
    assert_eq!(net.term(second, usize::from(LANE)), 2, "{}", net.told());
    net.up(first);
    net.pass(2_000_000);
    assert_eq!(net.term(first, usize::from(LANE)), 2);
    net.assert_sound();
}

#[test]
fn one_transaction_through_two_gateways_is_ordered_once_and_answered_at_both() {
    let mut net = Net::new();
    let sequencer = net.sequencer(LANE, 1);
    let [here, there, last] = [1, 2, 3].map(|step| (sequencer + step) % 4);
    let client = net.client(LANE, 0);
    net.submit(here, 1, net.transaction(client, 1));
    net.submit(there, 2, net.transaction(client, 1));
    net.until("both are answered", |net| net.is_answered(here, 1) && net.is_answered(there, 2));
    net.submit(last, 3, net.transaction(client, 1));
    net.until("the third is answered", |net| net.is_answered(last, 3));
    let is_final = |index: usize| matches!(net.members[index].answers[0].1, Answer::Final { .. });
    assert!(is_final(here) && is_final(there), "{}", net.told());
    assert!(matches!(net.members[last].answers[0].1, Answer::Used { .. }), "{}", net.told());
    assert_eq!(net.ordered(0, LANE).len(), 1);
    net.assert_sound();
}

#[test]
fn two_transactions_of_one_sequence_through_two_gateways_leave_one() {
    let mut net = Net::new();
    let sequencer = net.sequencer(LANE, 1);
    let [here, there] = [1, 2].map(|step| (sequencer + step) % 4);
    let client = net.client(LANE, 0);
    let genesis = net.genesis.clone();
    net.submit(here, 1, net.transaction(client, 1));
    net.submit(there, 2, crate::common::transaction_of(&genesis, client, 0, 1, 99));
    net.until("both are answered", |net| net.is_answered(here, 1) && net.is_answered(there, 2));
    let answers = [here, there].map(|index| net.members[index].answers[0].1.clone());
    let finals = answers.iter().filter(|answer| matches!(answer, Answer::Final { .. })).count();
    let used = answers.iter().filter(|answer| matches!(answer, Answer::Used { .. })).count();
    assert_eq!((finals, used), (1, 1), "{}", net.told());
    net.assert_sound();
}

#[test]
fn who_missed_chunks_and_headers_fetches_them() {
    let mut net = Net::new();
    let sequencer = net.sequencer(LANE, 1);
    let (away, gateway) = ((sequencer + 1) % 4, (sequencer + 2) % 4);
    let client = net.client(LANE, 0);
    net.down(away);
    for sequence in 1..=200 {
        net.submit(gateway, sequence, net.transaction(client, sequence));
        net.pass(STEP_OF_LOAD_US);
    }
    net.until("all are answered", |net| net.is_answered(gateway, 200));
    assert_eq!(net.height(away), 0);
    assert!(net.top() > 20, "{}", net.told());
    net.up(away);
    let took = net.until("it caught up", |net| net.height(away) + 1 >= net.top());
    assert!(took <= 2_000_000, "{took} microseconds");
    assert_eq!(net.ordered(away, LANE).len(), 200);
    net.assert_sound();
}

const STEP_OF_LOAD_US: u64 = 10_000;

#[test]
fn restarts_one_after_the_other_lose_nothing() {
    let mut net = Net::new();
    let client = net.client(LANE, 0);
    let mut sequence = 0;
    for turn in 0..8 {
        let index = turn % 4;
        let gateway = (index + 1) % 4;
        for _ in 0..5 {
            sequence += 1;
            net.submit(gateway, sequence, net.transaction(client, sequence));
        }
        net.pass(1_000);
        net.restart(index, None);
        net.until("it goes on", |net| net.is_answered(gateway, sequence));
    }
    net.pass(1_500_000);
    for index in 0..4 {
        assert_eq!(net.ordered(index, LANE).len(), 40);
    }
    net.assert_sound();
}

#[test]
fn terms_without_a_chunk_leave_the_clock_where_a_restart_finds_it() {
    let mut net = Net::new();
    let [first, second, third] = [1, 2, 3].map(|term| net.sequencer(LANE, term));
    let client = net.client(LANE, 0);
    net.pass(20_000);
    net.step(first, Input::Stop);
    net.until("the first goes", |net| net.term(third, 1) == 2);
    net.down(first);
    net.step(second, Input::Stop);
    net.until("the second goes", |net| net.term(third, 1) == 3);
    net.restart(first, None);
    net.submit(third, 1, net.transaction(client, 1));
    net.quiet();
    net.restart(third, None);
    net.submit(third, 1, net.transaction(client, 1));
    net.until("the third orders it", |net| net.ordered(third, LANE).len() == 1);
    for index in [first, third] {
        net.restart(index, None);
    }
    net.submit(third, 2, net.transaction(client, 2));
    net.until("and goes on", |net| net.is_answered(third, 2));
    net.assert_sound();
}

#[test]
fn a_validator_with_a_new_disk_watches_until_it_cannot_contradict_itself() {
    let mut net = Net::new();
    let sequencer = net.sequencer(LANE, 1);
    let (wiped, gateway) = ((sequencer + 1) % 4, (sequencer + 2) % 4);
    let client = net.client(LANE, 0);
    for sequence in 1..=30 {
        net.submit(gateway, sequence, net.transaction(client, sequence));
        net.pass(STEP_OF_LOAD_US);
    }
    net.until("all are answered", |net| net.is_answered(gateway, 30));
    let before = net.height(wiped);
    net.restart(wiped, Some(Observer { nonce: 77, threshold: None }));
    assert!(net.members[wiped].replica.status().observing);
    net.until("it knows its threshold", |net| net.members[wiped].threshold.is_some());
    let threshold = net.members[wiped].threshold.expect("it does");
    assert!(threshold.get() > before, "beyond all that it can have voted in");
    net.until("it votes again", |net| !net.members[wiped].replica.status().observing);
    assert!(net.height(wiped) >= threshold.get());
    assert_eq!(net.ordered(wiped, LANE).len(), 30);
    // It is needed now: its acks and its votes count.
    net.down((sequencer + 3) % 4);
    for sequence in 31..=40 {
        net.submit(gateway, sequence, net.transaction(client, sequence));
        net.pass(STEP_OF_LOAD_US);
    }
    net.until("it is counted", |net| net.is_answered(gateway, 40));
    net.assert_sound();
}

#[test]
fn a_validator_with_a_new_disk_that_restarts_still_watches() {
    let mut net = Net::new();
    let sequencer = net.sequencer(LANE, 1);
    net.pass(2_500_000);
    // It sequenced the lane: it makes no chunk in a term that began before its threshold.
    net.restart(sequencer, Some(Observer { nonce: 77, threshold: None }));
    net.until("it knows its threshold", |net| net.members[sequencer].threshold.is_some());
    let threshold = net.members[sequencer].threshold;
    net.restart(sequencer, Some(Observer { nonce: 78, threshold }));
    assert!(net.members[sequencer].replica.status().observing);
    let gateway = (sequencer + 1) % 4;
    let client = net.client(LANE, 0);
    net.submit(gateway, 1, net.transaction(client, 1));
    net.until("the next sequencer orders it", |net| net.is_answered(gateway, 1));
    assert_eq!(net.term(gateway, usize::from(LANE)), 2);
    net.until("it votes again", |net| !net.members[sequencer].replica.status().observing);
    net.assert_sound();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 12,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Messages are lost, validators fall silent, come back, restart; then it is calm and everything is answered.
    #[test]
    fn whatever_is_lost_and_whoever_restarts_everything_is_ordered_once_and_answered(
        seed in any::<u64>(), loss in 0_u8..90,
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut net = Net::new();
        let chance = std::cell::RefCell::new(random.fork());
        net.loses = Box::new(move |_, _, _| chance.borrow_mut().u8(..) < loss);
        let mut next = [1_u64; 8];
        let mut down = None;
        for _ in 0..150 {
            match random.u8(..40) {
                0..=14 => {
                    let client = random.usize(..8);
                    let sequence = next[client];
                    next[client] += 1;
                    let gateway = client / 2;
                    let signer = net.client(u16::try_from(client % 2).expect("few"), gateway);
                    if down != Some(gateway) {
                        net.submit(gateway, sequence, net.transaction(signer, sequence));
                    } else {
                        next[client] = sequence;
                    }
                }
                15 => {
                    if let Some(index) = down.take() {
                        net.up(index);
                    } else {
                        let index = random.usize(..4);
                        net.down(index);
                        down = Some(index);
                    }
                }
                16 | 17 => {
                    let index = random.usize(..4);
                    if down != Some(index) {
                        net.restart(index, None);
                        // Clients ask again for what was not ordered.
                        next[2 * index..2 * index + 2].fill(1);
                    }
                }
                18 => net.pass(1_000_000),
                _ => net.pass(5_000),
            }
        }
        net.loses = Box::new(|_, _, _| false);
        if let Some(index) = down {
            net.up(index);
        }
        let mut due = 0;
        for (client, last) in next.into_iter().enumerate() {
            let gateway = client / 2;
            let signer = net.client(u16::try_from(client % 2).expect("few"), gateway);
            for sequence in 1..=last {
                let ticket = 1_000 * (u64::try_from(client).expect("few") + 1) + sequence;
                net.submit(gateway, ticket, net.transaction(signer, sequence));
                due += 1;
            }
        }
        net.until("everything is answered", |net| {
            let told = net.members.iter().flat_map(|member| &member.answers);
            told.filter(|(ticket, _)| *ticket > 1_000).count() == due
        });
        let refused = net.members.iter().flat_map(|member| &member.answers).find(|(ticket, answer)| {
            *ticket > 1_000 && matches!(answer, Answer::Refused(_))
        });
        prop_assert_eq!(refused, None);
        net.pass(1_500_000);
        let top = net.top();
        for index in 0..4 {
            prop_assert!(net.height(index) + 1 >= top, "{}", net.told());
        }
        net.assert_sound();
    }
}
