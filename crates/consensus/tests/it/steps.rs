//! The steps of a height, one by one, and the header's rules.

use expect_test::expect;
use quipu_consensus::certificate::CertificateError;
use quipu_consensus::core::Refused;
use quipu_consensus::header::{HeaderError, STATE_LAG_MAX, check};
use quipu_consensus::{Event, Message, Parent, lane_order, moves};
use quipu_crypto::Tag;
use quipu_types::{Encode, Hash, Header, Height, Lane, Seqno, ValidatorIndex};

use crate::world::{
    CHAIN, GENESIS_TIME, IDLE_US, LANES, MIN_US, Node, ROUNDS, World, context, sign, state, tip,
};

#[test]
fn one_validator_goes_through_every_step_and_logs_before_it_says() {
    let mut node = Node::new(&[1], 0);
    node.grow([2, 0, 1]);
    node.wait(MIN_US);
    node.grow([3, 0, 1]);
    node.step(Event::Executed(state(1))).expect("own events are not refused");
    node.wait(MIN_US);
    expect![[r#"
        persist Propose 1 cut [2, 0, 1] time 1000001
        send    Propose 1 cut [2, 0, 1] time 1000001
        persist Prevote 1
        send    Prevote 1
        guess   1
        persist Precommit 1 tips [] time 5005000
        send    Precommit 1 tips [] time 5005000
        commit  1
        persist StateVote 1
        send    StateVote 1
        state   1
        persist Propose 2 cut [3, 0, 1] time 5005000
        send    Propose 2 cut [3, 0, 1] time 5005000
        persist Prevote 2
        send    Prevote 2
        guess   2
        persist Precommit 2 tips [] time 5010000
        send    Precommit 2 tips [] time 5010000
        commit  2"#]]
    .assert_eq(&node.trace.join("\n"));
    let (second, _) = &node.committed[1];
    assert_eq!(second.state_certificate.as_ref().map(|kept| kept.state), Some(state(1)));
}

#[test]
fn records_keep_their_bytes() {
    let mut node = Node::new(&[1], 0);
    for height in 1..=3 {
        node.grow([height * 2, height, 1]);
        node.wait(MIN_US);
        node.step(Event::Executed(state(height))).expect("own events are not refused");
    }
    let bytes: Vec<u8> = node.log.iter().flat_map(Encode::to_bytes).collect();
    let frozen = format!("{} records {}", node.log.len(), quipu_crypto::sha256(&bytes));
    expect!["15 records 405451ee43d941563284dd70090ed49d4b744762fac1bf8ac262917d7915e766"]
        .assert_eq(&frozen);
}

#[test]
fn idle_heights_come_at_the_heartbeat_and_do_not_chase_their_own_certificates() {
    let mut node = Node::new(&[1], 0);
    for height in 1..=5 {
        assert_eq!(node.core.wake_at(&node.chunks), Some(node.now.mono_us + IDLE_US));
        node.wait(IDLE_US - 1);
        assert_eq!(node.height(), height - 1);
        node.wait(1);
        assert_eq!(node.height(), height);
        node.step(Event::Executed(state(height))).expect("own events are not refused");
    }
    node.grow([1, 0, 0]);
    assert_eq!(node.core.wake_at(&node.chunks), Some(node.now.mono_us + MIN_US));
}

#[test]
fn lanes_stop_when_execution_is_64_heights_behind_and_move_again_when_it_catches_up() {
    let mut node = Node::new(&[1], 0);
    for index in 1..=STATE_LAG_MAX + 3 {
        node.grow([index, 0, 0]);
        node.wait(MIN_US);
    }
    assert_eq!(node.height(), STATE_LAG_MAX);
    node.wait(IDLE_US);
    let (header, _) = node.committed.last().expect("heights go on at the heartbeat");
    assert_eq!(header.cut[0].index, STATE_LAG_MAX);
    assert_eq!(header.height.get(), STATE_LAG_MAX + 1);
    node.step(Event::Executed(state(10))).expect("own events are not refused");
    node.wait(MIN_US);
    let (header, _) = node.committed.last().expect("a certificate lets lanes move");
    assert_eq!(header.cut[0].index, STATE_LAG_MAX + 3);
}

#[test]
fn a_header_is_refused_for_the_rule_that_it_breaks() {
    let mut node = Node::new(&[1], 0);
    node.grow([2, 0, 0]);
    node.wait(MIN_US);
    node.grow([4, 1, 0]);
    let before_second = node.core.parent().clone();
    node.step(Event::Executed(state(1))).expect("own events are not refused");
    node.wait(MIN_US);
    let context = context(&[1]);
    let (good, _) = node.committed[1].clone();
    assert_eq!(check(&good, &before_second, &context), Ok(()));
    let mut seen = Vec::new();
    let mut refused = |change: fn(&mut Header)| {
        let mut header = good.clone();
        change(&mut header);
        let error = check(&header, &before_second, &context).expect_err("one rule is broken");
        seen.push(error.to_string());
    };
    refused(|header| header.height = Height::new(9));
    refused(|header| header.prev_header = CHAIN);
    refused(|header| header.epoch = 1);
    refused(|header| header.proposer = ValidatorIndex::new(1));
    refused(|header| header.prev_commit = None);
    refused(|header| header.cut.truncate(2));
    refused(|header| header.cut[0].index = 1);
    refused(|header| header.cut[2].lane_root = CHAIN);
    refused(|header| header.cut[1].term = header.cut[1].term.next());
    refused(|header| header.time = header.time.next());
    refused(|header| header.evidence_root = CHAIN);
    refused(|header| header.next_set = Some(crate::world::context(&[1]).set));
    refused(|header| header.term_changes.push((Lane::new(0), header.cut[0].term.next())));
    refused(|header| {
        header.state_certificate.as_mut().expect("it has one").state.state_root = CHAIN;
    });
    refused(|header| {
        header.state_certificate.as_mut().expect("it has one").signatures.clear();
    });
    refused(|header| {
        header.prev_commit.as_mut().expect("it has one").precommits[0].time = GENESIS_TIME;
    });
    expect![[r#"
        the header does not follow the last one: height
        the header does not follow the last one: prev_header
        the header does not follow the last one: epoch
        the header does not follow the last one: proposer
        prev_commit: missing, or where none belongs
        the cut has not one tip for each lane, ascending
        the tip of lane 0 does not extend the last cut
        the tip of lane 2 does not extend the last cut
        the tip of lane 1 does not extend the last cut
        the time is 5005001, it follows that it is 5005000
        evidence_root is not built yet
        lane 0: its term has to end
        lane 0: its term has to go on
        state certificate: the signature of validator 0 does not verify
        state certificate: 0 of 1 is no quorum
        prev_commit: the signature of validator 0 does not verify"#]]
    .assert_eq(&seen.join("\n"));
}

#[test]
fn nobody_can_leave_out_what_a_third_reported() {
    let powers = [1, 1, 1, 1];
    let mut world = World::new(&powers, 1);
    world.grow_all([1, 0, 0]);
    world.run_until(1);
    let mut parent = world.nodes[0].core.parent().clone();
    let commit = parent.commit.as_mut().expect("height 1 is committed");
    let third = tip(0, 7);
    for vote in commit.precommits.iter_mut().take(2) {
        vote.tips = vec![third];
    }
    let context = context(&powers);
    assert_eq!(parent.index_required(&context, Lane::new(0)), 7);
    parent.commit.as_mut().expect("still there").precommits[1].tips = vec![tip(0, 3)];
    assert_eq!(parent.index_required(&context, Lane::new(0)), 3);
    assert_eq!(parent.index_required(&context, Lane::new(1)), 0);

    let cut = vec![tip(0, 2), parent.cut[1], parent.cut[2]];
    let header = parent.next(&context, ValidatorIndex::new(0), cut, None, None);
    let left_out = HeaderError::LeftOut { lane: Lane::new(0), index: 2, required: 3 };
    assert_eq!(check(&header, &parent, &context), Err(left_out));
}

#[test]
fn two_votes_of_one_place_name_the_validator_and_change_nothing() {
    let powers = [4, 3, 2, 1];
    let (mut leader, mut peer, mut other) =
        (Node::new(&powers, 0), Node::new(&powers, 1), Node::new(&powers, 1));
    leader.wait(IDLE_US);
    let first = leader.said();
    peer.hear(0, first[0].clone()).expect("the leader's proposal");
    let Some(Message::Prevote(vote)) = peer.said().pop() else { panic!("a prevote") };
    let mut forged = vote.clone();
    forged.digest = CHAIN;
    let wrong = CertificateError::Signature { validator: ValidatorIndex::new(1) };
    let refused = leader.hear(1, Message::Prevote(forged.clone()));
    assert_eq!(refused, Err(Refused::Signature(wrong)));
    forged.signature = sign(1, Tag::Prevote, &forged.signed_body());
    leader.hear(1, Message::Prevote(vote.clone())).expect("an honest vote");
    let refused = leader.hear(1, Message::Prevote(forged));
    let height = Height::new(1);
    let validator = ValidatorIndex::new(1);
    assert_eq!(refused, Err(Refused::Equivocation { validator, height }));
    let named: Vec<_> =
        leader.evidence.iter().map(|found| found.culprit(&context(&powers))).collect();
    assert_eq!(named, [Some(validator)]);
    leader.hear(1, Message::Prevote(vote)).expect("a repeat is no crime");
    let Message::Propose(mut propose) = first[0].clone() else { panic!("a proposal") };
    propose.round = 1;
    propose.signature = sign(0, Tag::Propose, &propose.signed_body());
    let refused = other.hear(0, Message::Propose(propose));
    let instance = ValidatorIndex::new(0);
    assert_eq!(refused, Err(Refused::Leader { instance, height }));
}

#[test]
fn lanes_take_turns_and_only_moved_ones_are_ordered() {
    let order = lane_order(&Hash([1; 32]), 4);
    let first = u64::from_le_bytes([1; 8]) % 4;
    let expected: Vec<u64> = (0..4).map(|step| (first + step) % 4).collect();
    assert_eq!(order.iter().map(|lane| u64::from(lane.get())).collect::<Vec<_>>(), expected);
    let parent = Parent::genesis(CHAIN, GENESIS_TIME, LANES, ROUNDS);
    let context = context(&[1]);
    let cut = vec![tip(0, 2), parent.cut[1], tip(2, 1)];
    let header = parent.next(&context, ValidatorIndex::new(0), cut, None, None);
    let mut moved = moves(&header, &[]);
    moved.sort();
    let of = |lane, to| (Lane::new(lane), Seqno::new(0), Seqno::new(to));
    assert_eq!(moved, [of(0, 20), of(2, 10)]);
    assert_eq!(moves(&header, &header.cut), []);
}

/// The kinds of what a validator said since it was asked last.
fn kinds(node: &mut Node) -> Vec<&'static str> {
    let kind = |message: Message| match message {
        Message::Prevote(_) => Some("prevote"),
        Message::Precommit(_) => Some("precommit"),
        _ => None,
    };
    node.said().into_iter().filter_map(kind).collect()
}

#[test]
fn no_prevote_without_the_chunks_and_no_precommit_before_they_are_durable() {
    let powers = [4, 3, 2, 1];
    let mut world = World::new(&powers, 1);
    world.loses = Box::new(|_, to, _| to == 1);
    world.grow_all([2, 0, 0]);
    world.pass(2 * MIN_US);
    assert_eq!(world.heights(), [1, 0, 1, 1]);
    let said: Vec<(usize, Message)> = [0, 2, 3]
        .into_iter()
        .flat_map(|index| world.nodes[index].log.iter().map(move |own| (index, own.message())))
        .collect();
    let mut node = Node::new(&powers, 1);
    for (index, message) in said {
        if !matches!(message, Message::Precommit(_)) {
            node.hear(index, message).expect("what honest validators said");
        }
    }
    assert_eq!(kinds(&mut node), [""; 0], "it holds nothing");
    let needs = node.core.needs(&node.chunks);
    assert_eq!(
        needs.iter().map(|need| (need.tip, need.is_due)).collect::<Vec<_>>(),
        [(tip(0, 2), true)]
    );
    assert_eq!(needs[0].holders, [0, 2, 3].map(ValidatorIndex::new));
    node.chunks.held = [1, 0, 0];
    node.wait(1);
    assert_eq!(kinds(&mut node), [""; 0], "it holds a part");
    node.chunks.held = [2, 0, 0];
    node.chunks.unsynced = [1, 0, 0];
    node.wait(1);
    assert_eq!(kinds(&mut node), ["prevote"], "it holds all");
    node.chunks.unsynced = [0; 3];
    node.wait(1);
    assert_eq!(kinds(&mut node), ["precommit"], "and durably");
}

#[test]
fn a_precommit_reports_what_a_third_acknowledged_and_the_next_header_reaches_it() {
    let powers = [1, 1, 1, 1];
    let mut world = World::new(&powers, 1);
    world.grow_all([1, 0, 0]);
    // Two of four hold more: available, not replicated.
    let [leader, other, behind] = [0, 1, 2].map(|round| world.leader(round));
    for index in [leader, other] {
        world.nodes[index].grow([5, 0, 0]);
        world.fetch(index);
        world.quiet();
    }
    world.pass(MIN_US);
    assert_eq!(world.heights(), [1; 4]);
    let (header, _) = &world.nodes[0].committed[0];
    assert_eq!(header.cut[0].index, 1, "a cut has what a quorum acknowledged");
    let reported = |index: usize| {
        let votes = world.nodes[index].log.iter().filter_map(|record| match record {
            quipu_consensus::Record::Precommit { vote, acks, .. } => {
                Some((vote.tips.clone(), acks.len()))
            }
            _ => None,
        });
        votes.collect::<Vec<_>>()
    };
    assert_eq!(reported(leader), [(vec![tip(0, 5)], 2)], "with the acks of a third");
    assert_eq!(reported(behind), [(vec![], 0)], "who does not hold it reports nothing");
    world.grow_all([5, 0, 0]);
    world.pass(2 * MIN_US);
    let (header, _) = &world.nodes[0].committed[1];
    assert_eq!(header.cut[0].index, 5);
    world.assert_agreement();
}

#[test]
fn a_muted_validator_follows_and_signs_nothing() {
    let powers = [1, 1, 1, 1];
    let mut world = World::new(&powers, 1);
    let muted = world.leader(1);
    world.nodes[muted].core.mute_until(Height::new(3));
    for index in 1..=5 {
        world.grow_all([index, 0, 0]);
        world.pass(2 * MIN_US);
        let node = &world.nodes[muted];
        assert_eq!(node.height(), index);
        assert_eq!(node.core.is_muted(), index < 3);
        assert_eq!(node.log.is_empty(), index <= 3, "what it says is said of height 4 on");
    }
    world.assert_agreement();
}
