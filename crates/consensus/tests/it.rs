//! Worlds of cores: every message goes through its bytes, every vote through its record.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test's numbers are small, and a wrong index is a failed test"
)]

use std::collections::VecDeque;

use expect_test::expect;
use proptest::prelude::*;
use quipu_consensus::core::Refused;
use quipu_consensus::header::{CertificateError, Context, HeaderError, STATE_LAG_MAX, check};
use quipu_consensus::{
    Config, Core, Event, Holdings, Message, Now, Output, Parent, Record, genesis_cut, lane_order,
    moves,
};
use quipu_crypto::suite::SecretKey;
use quipu_types::agreement::Validator;
use quipu_types::{
    CommitCertificate, Decode, Encode, Hash, Header, Height, Lane, Seqno, SignedState, Suite, Time,
    Tip, ValidatorIndex, ValidatorSet,
};

const CHAIN: Hash = Hash([9; 32]);
const GENESIS_TIME: Time = Time::new(1_000_000);
const LANES: u16 = 3;
const MIN_US: u64 = 5_000;
const IDLE_US: u64 = 1_000_000;

/// Chunks of every lane up to an index, the same for everyone.
#[derive(Clone, Debug, Default)]
struct Chunks([u64; 3]);

impl Holdings for Chunks {
    fn linked(&self, lane: Lane, index: u64) -> Option<Tip> {
        (index > 0 && index <= self.durable(lane)).then(|| tip(lane.get(), index))
    }

    fn durable(&self, lane: Lane) -> u64 {
        self.0[usize::from(lane.get())]
    }
}

fn tip(lane: u16, index: u64) -> Tip {
    let mut name = [7; 32];
    name[..8].copy_from_slice(&index.to_le_bytes());
    name[8] = u8::try_from(lane).expect("few lanes");
    Tip {
        lane: Lane::new(lane),
        index,
        seqno: Seqno::new(index * 10),
        lane_root: Hash(name),
        chunk_hash: Hash(name),
        ..genesis_cut(LANES)[0]
    }
}

fn key(index: usize) -> SecretKey {
    SecretKey::from_seed(Suite::Ed25519Sha256, [u8::try_from(index).expect("few keys") + 1; 32])
}

fn set(powers: &[u64]) -> ValidatorSet {
    let validators = powers.iter().enumerate();
    let validators = validators
        .map(|(index, power)| Validator { key: key(index).public(), power: *power })
        .collect();
    ValidatorSet { epoch: 0, validators }
}

/// One validator: its core, its chunks, what it logged and committed.
struct Node {
    core: Core,
    chunks: Chunks,
    log: Vec<Record>,
    committed: Vec<(Header, CommitCertificate)>,
    trace: Vec<String>,
    now: Now,
}

impl Node {
    fn new(powers: &[u64], index: usize) -> Self {
        let chunks = Chunks::default();
        let parent = Parent::genesis(CHAIN, GENESIS_TIME, LANES);
        let core = start(powers, index, parent, Vec::new(), &chunks);
        let (log, committed, trace) = (Vec::new(), Vec::new(), Vec::new());
        Self { core, chunks, log, committed, trace, now: Now { wall_us: 5_000_000, mono_us: 0 } }
    }

    fn step(&mut self, event: Event) -> Result<Vec<Message>, Refused> {
        self.core.step(self.now, event, &self.chunks)?;
        let mut sent = Vec::new();
        while let Some(output) = self.core.poll() {
            self.trace.push(describe(&output));
            match output {
                Output::Persist(record) => {
                    let bytes = record.to_bytes();
                    self.log.push(Record::from_bytes(&bytes).expect("own records read back"));
                }
                Output::Send(message) => {
                    let logged = self.log.iter().any(|record| record.message() == message);
                    assert!(logged, "I2: a message comes after its record");
                    sent.push(message);
                }
                Output::Commit { header, certificate, .. } => {
                    self.committed.push((header, certificate));
                    self.core.settle();
                }
                Output::StateCertified(_) => {}
            }
        }
        Ok(sent)
    }

    /// Lanes grow and the own ack of them becomes durable.
    fn grow(&mut self, chunks: [u64; 3]) -> Vec<Message> {
        self.chunks = Chunks(chunks);
        let lanes = (0..LANES).zip(chunks).filter(|(_, index)| *index > 0);
        let tips: Vec<Tip> = lanes.map(|(lane, index)| tip(lane, index)).collect();
        let Some((record, ack)) = self.core.ack(&tips) else { return Vec::new() };
        self.log.push(record.clone());
        let mut sent = vec![record.message()];
        sent.extend(self.step(Event::Acked(ack)).expect("own events are not refused"));
        sent
    }

    fn wait(&mut self, us: u64) -> Vec<Message> {
        self.now.mono_us += us;
        self.now.wall_us += us;
        self.step(Event::Timer).expect("time is not refused")
    }

    fn height(&self) -> u64 {
        self.core.parent().height.get()
    }
}

fn start(
    powers: &[u64],
    index: usize,
    parent: Parent,
    records: Vec<Record>,
    chunks: &Chunks,
) -> Core {
    let config = Config {
        chain: CHAIN,
        set: set(powers),
        key: key(index),
        interval_min_us: MIN_US,
        interval_idle_us: IDLE_US,
    };
    Core::new(Now::default(), config, parent, records, chunks).expect("a validator's key")
}

fn describe(output: &Output) -> String {
    let name = |message: &Message| match message {
        Message::Propose(propose) => {
            let cut: Vec<u64> = propose.header.cut.iter().map(|tip| tip.index).collect();
            format!("Propose {} cut {cut:?} time {}", propose.height, propose.header.time)
        }
        Message::Prevote(vote) => format!("Prevote {}", vote.height),
        Message::Precommit(vote) => {
            let tips: Vec<u64> = vote.tips.iter().map(|tip| tip.index).collect();
            format!("Precommit {} tips {tips:?} time {}", vote.height, vote.time)
        }
        Message::Ack(ack) => format!("Ack {:?}", ack.tips.len()),
        Message::StateVote(vote) => format!("StateVote {}", vote.state.height),
    };
    match output {
        Output::Persist(record) => format!("persist {}", name(&record.message())),
        Output::Send(message) => format!("send    {}", name(message)),
        Output::Commit { header, .. } => format!("commit  {}", header.height),
        Output::StateCertified(certificate) => format!("state   {}", certificate.state.height),
    }
}

fn state(height: u64) -> SignedState {
    let root = Hash([u8::try_from(height % 251).expect("below 251"); 32]);
    SignedState { height: Height::new(height), state_root: root, receipts_root: root }
}

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
    expect!["15 records 2f29ffd152f6868b3d3af512730c6a025d509c522194cecac65d97de48e852c0"]
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
    let context = Context { chain: CHAIN, set: set(&[1]) };
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
    refused(|header| header.next_set_hash = Some(CHAIN));
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
        next_set_hash is not built yet
        term_changes is not built yet
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
    assert_eq!(parent.index_required(&set(&powers), Lane::new(0)), 7);
    parent.commit.as_mut().expect("still there").precommits[1].tips = vec![tip(0, 3)];
    assert_eq!(parent.index_required(&set(&powers), Lane::new(0)), 3);
    assert_eq!(parent.index_required(&set(&powers), Lane::new(1)), 0);
    let context = Context { chain: CHAIN, set: set(&powers) };
    let cut = vec![tip(0, 2), parent.cut[1], parent.cut[2]];
    let header = parent.next(&context, ValidatorIndex::new(0), cut, None);
    let left_out = HeaderError::LeftOut { lane: Lane::new(0), index: 2, required: 3 };
    assert_eq!(check(&header, &parent, &context), Err(left_out));
}

#[test]
fn two_votes_of_one_place_name_the_validator_and_change_nothing() {
    let powers = [4, 3, 2, 1];
    let (mut leader, mut peer, mut other) =
        (Node::new(&powers, 0), Node::new(&powers, 1), Node::new(&powers, 1));
    let first = leader.wait(IDLE_US);
    let vote_of = |node: &mut Node, propose: &Message| {
        node.step(Event::Message(propose.clone())).expect("the leader's proposal").pop()
    };
    let vote = vote_of(&mut peer, &first[0]).expect("a prevote");
    let Message::Prevote(mut forged) = vote.clone() else { panic!("a prevote") };
    forged.digest = CHAIN;
    let wrong = CertificateError::Signature { validator: ValidatorIndex::new(1) };
    let refused = leader.step(Event::Message(Message::Prevote(forged.clone())));
    assert_eq!(refused, Err(Refused::Signature(wrong)));
    forged.signature = quipu_crypto::sign_tagged(
        &key(1),
        &CHAIN,
        0,
        quipu_crypto::Tag::Prevote,
        &forged.signed_body(),
    );
    leader.step(Event::Message(vote.clone())).expect("an honest vote");
    let refused = leader.step(Event::Message(Message::Prevote(forged)));
    let height = Height::new(1);
    let validator = ValidatorIndex::new(1);
    assert_eq!(refused, Err(Refused::Equivocation { validator, height }));
    leader.step(Event::Message(vote)).expect("a repeat is no crime");
    let refused = other.step(Event::Message(Message::Propose(match &first[0] {
        Message::Propose(propose) => {
            let mut propose = propose.clone();
            propose.round = 1;
            let body = propose.signed_body();
            let tag = quipu_crypto::Tag::Propose;
            propose.signature = quipu_crypto::sign_tagged(&key(0), &CHAIN, 0, tag, &body);
            propose
        }
        _ => panic!("a proposal"),
    })));
    assert_eq!(refused, Err(Refused::NotBuilt { what: "round change" }));
}

#[test]
fn lanes_take_turns_and_only_moved_ones_are_ordered() {
    let order = lane_order(&Hash([1; 32]), 4);
    let first = u64::from_le_bytes([1; 8]) % 4;
    let expected: Vec<u64> = (0..4).map(|step| (first + step) % 4).collect();
    assert_eq!(order.iter().map(|lane| u64::from(lane.get())).collect::<Vec<_>>(), expected);
    let parent = Parent::genesis(CHAIN, GENESIS_TIME, LANES);
    let context = Context { chain: CHAIN, set: set(&[1]) };
    let cut = vec![tip(0, 2), parent.cut[1], tip(2, 1)];
    let header = parent.next(&context, ValidatorIndex::new(0), cut, None);
    let mut moved = moves(&header, &[]);
    moved.sort();
    let of = |lane, to| (Lane::new(lane), Seqno::new(0), Seqno::new(to));
    assert_eq!(moved, [of(0, 20), of(2, 10)]);
    assert_eq!(moves(&header, &header.cut), []);
}

/// Validators that hear each other, in any order.
struct World {
    nodes: Vec<Node>,
    wires: VecDeque<(usize, Vec<u8>)>,
    random: fastrand::Rng,
}

impl World {
    fn new(powers: &[u64], seed: u64) -> Self {
        let nodes = (0..powers.len()).map(|index| Node::new(powers, index)).collect();
        Self { nodes, wires: VecDeque::new(), random: fastrand::Rng::with_seed(seed) }
    }

    fn send(&mut self, from: usize, messages: Vec<Message>) {
        for message in messages {
            for to in (0..self.nodes.len()).filter(|to| *to != from) {
                self.wires.push_back((to, message.to_bytes()));
            }
        }
    }

    fn grow_all(&mut self, chunks: [u64; 3]) {
        for index in 0..self.nodes.len() {
            let sent = self.nodes[index].grow(chunks);
            self.send(index, sent);
        }
    }

    /// Delivers one message, any of those under way; or lets time pass.
    fn turn(&mut self) {
        if self.wires.is_empty() || self.random.u8(..) < 20 {
            let index = self.random.usize(..self.nodes.len());
            let sent = self.nodes[index].wait(MIN_US);
            self.send(index, sent);
            return;
        }
        let pick = self.random.usize(..self.wires.len());
        let (to, bytes) = self.wires.swap_remove_back(pick).expect("picked below the length");
        let message = Message::from_bytes(&bytes).expect("messages read back");
        match self.nodes[to].step(Event::Message(message)) {
            Ok(sent) => self.send(to, sent),
            Err(Refused::Stale { .. }) => {}
            // Comes again later, as a peer would ask for it.
            Err(Refused::Ahead { .. } | Refused::Header(_)) => self.wires.push_back((to, bytes)),
            Err(error) => panic!("honest messages are taken: {error}"),
        }
    }

    fn run_until(&mut self, height: u64) {
        for _ in 0..200_000 {
            if self.nodes.iter().all(|node| node.height() >= height) {
                return;
            }
            self.turn();
        }
        panic!("no progress: {:?}", self.nodes.iter().map(Node::height).collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn validators_of_any_stake_commit_the_same_headers_in_any_order_of_delivery(
        powers in proptest::collection::vec(1_u64..5, 1..6), seed in any::<u64>(),
    ) {
        let mut world = World::new(&powers, seed);
        for height in 1..5 {
            let [a, b, c] = [0; 3].map(|_: u64| world.random.u64(0..3));
            let before = world.nodes[0].chunks.0;
            world.grow_all([before[0] + a, before[1] + b, before[2] + c]);
            world.run_until(height);
        }
        let first: Vec<Header> =
            world.nodes[0].committed.iter().take(4).map(|(header, _)| header.clone()).collect();
        for node in &world.nodes {
            let own: Vec<Header> =
                node.committed.iter().take(4).map(|(header, _)| header.clone()).collect();
            prop_assert_eq!(&own, &first);
        }
    }

    #[test]
    fn after_a_restart_at_any_record_the_same_bytes_are_said_again(
        seed in any::<u64>(), heights in 1_u64..4,
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut node = Node::new(&[1], 0);
        for height in 1..=heights {
            node.grow([height * 2, height / 2, 0]);
            node.wait(MIN_US);
        }
        let kept = random.usize(0..=node.log.len());
        let (records, lost) = node.log.split_at(kept);
        let said: Vec<Message> = records.iter().map(Record::message).collect();
        let parent = Parent::genesis(CHAIN, GENESIS_TIME, LANES);
        let core = start(&[1], 0, parent, records.to_vec(), &node.chunks);
        let mut again = Node { core, log: records.to_vec(), ..Node::new(&[1], 0) };
        again.now.wall_us += 77_777;
        let mut repeated = again.grow(node.chunks.0);
        for _ in 0..heights {
            again.chunks = node.chunks.clone();
            repeated.extend(again.wait(IDLE_US));
        }
        for message in &said {
            let is_ack = matches!(message, Message::Ack(_));
            prop_assert!(is_ack || repeated.contains(message), "{:?} was not repeated", message);
        }
        if lost.is_empty() {
            prop_assert_eq!(&again.committed, &node.committed);
        }
    }
}
