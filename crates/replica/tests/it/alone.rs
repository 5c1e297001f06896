//! A replica with a driver in memory: what is written, what is durable, what leaves.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use expect_test::expect;
use proptest::prelude::*;
use quipu_clock::{LaneClock, Run, verify_range};
use quipu_consensus::{Message, Record};
use quipu_crypto::merkle::Frontier;
use quipu_proof::names::chain_id;
use quipu_replica::{
    Admitted, Answer, Barrier, Block, Chunk, Config, Effect, Input, Now, PeerMessage, Recovered,
    RecoveredLane, Replica, StartError, TermRecord,
};
use quipu_types::{CommitCertificate, Decode, Hash, Height, Lane, Outcome, Receipt, StateVote};

use crate::common::{LANES, MIN_US, genesis, key, state, transaction, transaction_of};

/// What a disk and an executor would do.
struct World {
    replica: Replica,
    now: Now,
    terms: Vec<TermRecord>,
    chunks: Vec<Arc<Chunk>>,
    records: Vec<Vec<u8>>,
    headers: Vec<(Arc<Block>, Arc<CommitCertificate>)>,
    /// How many records and chunks are durable.
    durable: (usize, usize),
    syncing: Option<(Barrier, (usize, usize))>,
    executing: VecDeque<Arc<Block>>,
    answers: Vec<(u64, Answer)>,
    left: Vec<Message>,
    trace: Vec<String>,
}

impl World {
    fn new(config: Config, recovered: Recovered) -> Self {
        let now = Now { wall_us: 1_000_000, mono_us: 0 };
        let replica = Replica::new(now, config, recovered).expect("what was found fits together");
        Self {
            replica,
            now,
            terms: Vec::new(),
            chunks: Vec::new(),
            records: Vec::new(),
            headers: Vec::new(),
            durable: (0, 0),
            syncing: None,
            executing: VecDeque::new(),
            answers: Vec::new(),
            left: Vec::new(),
            trace: Vec::new(),
        }
    }

    fn fresh() -> Self {
        Self::new(Config::new(genesis(1), key(1)), Recovered::empty(&genesis(1)))
    }

    fn step(&mut self, input: Input) {
        self.replica.step(self.now, input).expect("own inputs are taken");
    }

    fn submit(&mut self, ticket: u64, admitted: Arc<Admitted>) {
        self.step(Input::Submit { ticket, admitted, is_early: false });
    }

    fn wait(&mut self, us: u64) {
        self.now.mono_us += us;
        self.now.wall_us += us;
        self.step(Input::Timer);
    }

    fn assert_durable(&self, message: &Message) {
        let mut records = self.records[..self.durable.0].iter();
        let said = records.any(|bytes| {
            Record::from_bytes(bytes).expect("own records read back").message() == *message
        });
        assert!(said, "R1: left before its record was durable: {message:?}");
    }

    /// Does what is asked, one effect. `false` when there is none.
    fn effect(&mut self) -> bool {
        let Some(effect) = self.replica.poll() else { return false };
        match effect {
            Effect::WriteTerm(term) => self.terms.push(term),
            Effect::WriteChunk(chunk) => {
                self.trace.push(format!("chunk of {}", chunk.transactions.len()));
                self.chunks.push(chunk);
            }
            Effect::WriteVote { bytes, .. } => self.records.push(bytes),
            Effect::WriteHeader { block, certificate } => {
                for vote in &certificate.precommits {
                    self.assert_durable(&Message::Precommit(vote.clone()));
                }
                self.trace.push(format!("header {}", block.header.height));
                self.headers.push((block, certificate));
            }
            Effect::BeginHeight(_) => {}
            Effect::Sync(barrier) => {
                assert_eq!(self.syncing, None, "R5: one sync at a time");
                self.trace.push(format!("sync {}", barrier.0));
                self.syncing = Some((barrier, (self.records.len(), self.chunks.len())));
            }
            Effect::Broadcast { bytes, .. } | Effect::Send { bytes, .. } => {
                match PeerMessage::from_bytes(&bytes).expect("own messages read back") {
                    PeerMessage::Agreement(message) => {
                        self.assert_durable(&message);
                        self.left.push(message);
                    }
                    PeerMessage::Chunk(chunk) => {
                        let mut durable = self.chunks[..self.durable.1].iter();
                        let is_durable = durable.any(|own| own.stored == chunk);
                        assert!(is_durable, "R1: a chunk left before it was durable");
                    }
                    PeerMessage::Forward { .. } | PeerMessage::Fetch(_) => {}
                    other => panic!("a validator without others has no reason to say {other:?}"),
                }
            }
            Effect::Execute(block) => self.executing.push_back(block),
            Effect::Speculate(_) => {}
            Effect::CutLane { .. } | Effect::Serve { .. } => panic!("nobody else is there"),
            Effect::Evidence(_) | Effect::Observing(_) => panic!("nothing is wrong"),
            Effect::StateCertified(certificate) => {
                for (validator, signature) in &certificate.signatures {
                    let state = certificate.state;
                    let vote = StateVote { state, validator: *validator, signature: *signature };
                    self.assert_durable(&Message::StateVote(vote));
                }
            }
            Effect::Answer { ticket, answer } => self.answers.push((ticket, answer)),
            Effect::Restore(_) => panic!("a lone validator gets no stripes"),
            Effect::Stopped => self.trace.push("stopped".to_owned()),
        }
        true
    }

    fn effects(&mut self) {
        while self.effect() {}
    }

    fn stored(&mut self) -> bool {
        let Some((barrier, durable)) = self.syncing.take() else { return false };
        self.durable = durable;
        self.step(Input::Stored(barrier));
        true
    }

    fn execute(&mut self) -> bool {
        let Some(block) = self.executing.pop_front() else { return false };
        let receipts = block.ordered().map(|(position, admitted)| Receipt {
            lane: position.lane,
            seqno: position.seqno,
            tx: admitted.tx,
            action_count: 1,
            fee: 0,
            outcome: Outcome::Applied,
            row_count: 0,
            detail: 0,
        });
        let receipts = Arc::new(receipts.collect::<Vec<_>>());
        let state = state(block.header.height);
        self.step(Input::Executed { state, receipts });
        true
    }

    /// Everything that is due, until nothing is.
    fn settle(&mut self) {
        loop {
            self.effects();
            if !self.stored() && !self.execute() {
                let due = self.replica.wake_at().is_some_and(|at| at <= self.now.mono_us);
                if !due {
                    return;
                }
                self.step(Input::Timer);
            }
        }
    }

    /// What a restart would find, if everything that was written had survived.
    fn found(&self, header_count: usize) -> Recovered {
        let head = header_count.checked_sub(1).map(|last| &self.headers[last]);
        let lane = |lane: u16| {
            let chunks = self.chunks.iter().filter(|chunk| chunk.tip().lane.get() == lane);
            let chunks: Vec<_> = chunks.cloned().collect();
            let cut = head.map_or(0, |(block, _)| block.header.cut[usize::from(lane)].index);
            let cut = usize::try_from(cut).expect("few chunks");
            let (committed, suffix) = chunks.split_at(cut);
            let mut frontier = Frontier::new();
            let leaves = committed.iter().flat_map(|chunk| chunk.leaves());
            leaves.for_each(|leaf| frontier.append(leaf));
            RecoveredLane {
                term: self.terms.iter().find(|term| term.lane.get() == lane).copied(),
                next_term: None,
                frontier,
                committed: committed.last().map(|chunk| chunk.stored.header.clone()),
                suffix: suffix.to_vec(),
            }
        };
        let producers = self.headers[..header_count].iter().flat_map(|(block, _)| {
            block.ordered().map(|(position, admitted)| {
                let transaction = &admitted.transaction;
                let next = quipu_replica::Producer {
                    incarnation: transaction.incarnation,
                    sequence: transaction.sequence + 1,
                };
                (position.lane, transaction.signer, next)
            })
        });
        Recovered {
            lanes: (0..LANES).map(lane).collect(),
            head: head.map(|(block, why)| (block.header.clone(), (**why).clone())),
            epochs: quipu_proof::Epochs::new(genesis(1).validator_set(), LANES),
            primary: 0,
            certified: Height::default(),
            records: self.records.clone(),
            producers: producers.collect(),
        }
    }

    fn told(&self) -> String {
        let line = |(ticket, answer): &(u64, Answer)| match answer {
            Answer::Final { receipt, height, .. } => {
                format!("{ticket}: {}:{} at height {height}\n", receipt.lane, receipt.seqno)
            }
            Answer::Used { next, otherwise, .. } => {
                let (incarnation, sequence) = (next.incarnation, next.sequence);
                format!("{ticket}: used, next {sequence} of {incarnation}, else {otherwise}\n")
            }
            Answer::Ordered { position, height, .. } => {
                format!(
                    "{ticket}: {}:{} ordered at height {height}\n",
                    position.lane, position.seqno
                )
            }
            Answer::Heard { lane, term } => format!("{ticket}: heard of {lane}:{term}\n"),
            Answer::Refused(refusal) => format!("{ticket}: {} {refusal}\n", refusal.code()),
        };
        self.answers.iter().map(line).collect()
    }
}

#[test]
fn each_producer_is_told_what_became_of_every_sequence() {
    let mut world = World::fresh();
    let [first, second] = [1, 2].map(|sequence| transaction(9, 1, sequence, 10));
    world.submit(1, transaction(9, 1, 2, 10));
    world.submit(2, first.clone());
    world.submit(3, second);
    world.submit(4, first.clone());
    world.settle();
    world.wait(MIN_US);
    world.settle();
    world.submit(5, first);
    world.submit(6, transaction(9, 0, 3, 10));
    world.submit(7, transaction(9, 2, 2, 10));
    world.submit(8, transaction(9, 2, 1, 10));
    world.submit(9, transaction(9, 1, 3, 10));
    world.settle();
    world.wait(MIN_US);
    world.settle();
    expect![[r#"
        1: QP0103 the next sequence is 1 of incarnation 1
        2: 1:1 at height 1
        4: 1:1 at height 1
        3: 1:2 at height 1
        5: used, next 3 of 1, else QP0102
        6: used, next 3 of 1, else QP0104
        7: QP0103 the next sequence is 1 of incarnation 2
        9: used, next 2 of 2, else QP0104
        8: 1:3 at height 2
    "#]]
    .assert_eq(&world.told());
}

#[test]
fn what_comes_during_a_sync_shares_the_next_chunk() {
    let mut world = World::fresh();
    world.settle();
    world.trace.clear();
    world.submit(1, transaction(9, 0, 1, 10));
    world.wait(0);
    world.effects();
    for sequence in 2..=500 {
        world.submit(sequence, transaction(9, 0, sequence, 10));
        world.wait(0);
        world.effects();
    }
    world.settle();
    world.wait(MIN_US);
    world.settle();
    let chunks = "chunk of 1\nsync 2\nchunk of 499\nsync 3";
    assert_eq!(world.trace.join("\n"), format!("{chunks}\nsync 4\nheader 1"));
    assert_eq!(world.answers.len(), 500);
    // What is said of the state has no haste.
    world.wait(15_000);
    world.settle();
    assert_eq!(world.trace.join("\n"), format!("{chunks}\nsync 4\nheader 1\nsync 5"));
}

#[test]
fn a_full_queue_refuses_and_takes_again_once_it_is_executed() {
    let mut config = Config::new(genesis(1), key(1));
    config.pending_size_max = 4_000;
    let mut world = World::new(config, Recovered::empty(&genesis(1)));
    for sequence in 1..=4 {
        world.submit(sequence, transaction(9, 0, sequence, 1_000));
    }
    world.settle();
    world.wait(MIN_US);
    world.settle();
    world.submit(5, transaction(9, 0, 3, 1_000));
    world.step(Input::Stop);
    world.submit(6, transaction(8, 0, 1, 10));
    world.settle();
    world.wait(MIN_US);
    world.settle();
    expect![[r#"
        3: QP0105 3354 bytes are waiting, the most is 4000
        4: QP0103 the next sequence is 3 of incarnation 0
        1: 1:1 at height 1
        2: 1:2 at height 1
        6: QP0106 the validator is stopping
        5: 1:3 at height 2
    "#]]
    .assert_eq(&world.told());
    assert_eq!(world.trace.last().map(String::as_str), Some("stopped"));
    assert_eq!(world.durable.0, world.records.len(), "a stop leaves nothing that is not durable");
    assert_eq!(world.replica.wake_at(), None);
}

#[test]
fn a_body_never_exceeds_its_bound_and_the_largest_transaction_fits() {
    let mut world = World::fresh();
    for sequence in 1..=6 {
        world.submit(sequence, transaction(9, 0, sequence, 400_000));
    }
    world.submit(7, transaction(9, 0, 7, 999_000));
    world.settle();
    world.wait(MIN_US);
    world.settle();
    let counts: Vec<usize> = world.chunks.iter().map(|chunk| chunk.transactions.len()).collect();
    assert_eq!(counts, [2, 2, 2, 1]);
    assert_eq!(world.answers.len(), 7);
}

#[test]
fn clocks_tick_at_their_rate_and_mix_headers_and_other_lanes() {
    let mut world = World::fresh();
    world.settle();
    for turn in 1..=3_u64 {
        for signer in [8, 9, 10, 11] {
            world.submit(0, transaction(signer, 0, turn, 10));
        }
        world.wait(500_000);
        world.settle();
        world.wait(MIN_US);
        world.settle();
    }
    let seed = quipu_clock::seed_value("text");
    for lane in 0..LANES {
        let chunks = world.chunks.iter().filter(|chunk| chunk.tip().lane.get() == lane);
        let headers: Vec<_> = chunks.map(|chunk| &chunk.stored.header).collect();
        let clock = LaneClock::begin(Lane::new(lane), seed);
        let ticks = verify_range(clock, headers.iter().copied()).expect("true").tick_count();
        let mut mixes = BTreeSet::new();
        for header in headers {
            assert_eq!(header.branch, chain_id(&genesis(1)));
            mixes.extend(header.clock.iter().map(|entry| {
                let text = format!("{:?}", entry.mix);
                text.split([' ', '(']).next().unwrap_or_default().to_owned()
            }));
        }
        assert!((1_400..=1_600).contains(&ticks), "{ticks} ticks in 1.5 s at 1,000 a second");
        let mixes: Vec<&str> = mixes.iter().map(String::as_str).collect();
        assert_eq!(mixes, ["Batch", "Header", "LaneTip"]);
    }
}

#[test]
fn clocks_that_are_made_elsewhere_tick_here_no_more() {
    let config = Config { ticks: false, ..Config::new(genesis(1), key(1)) };
    let mut world = World::new(config, Recovered::empty(&genesis(1)));
    world.settle();
    let runs: Vec<(Lane, Run)> = world
        .replica
        .clock_bases()
        .collect::<Vec<_>>()
        .into_iter()
        .map(|(lane, base)| {
            let mut run = Run::new(base);
            run.tick(777);
            (lane, run)
        })
        .collect();
    world.step(Input::Ticked(runs));
    world.wait(500_000);
    for signer in [8, 9, 10, 11] {
        world.submit(0, transaction(signer, 0, 1, 10));
    }
    world.wait(MIN_US);
    world.settle();
    for lane in (0..LANES).map(Lane::new) {
        let chunks = world.chunks.iter().filter(|chunk| chunk.tip().lane == lane);
        let ticks = chunks.map(|chunk| quipu_clock::tick_count(&chunk.stored.header.clock));
        assert_eq!(ticks.sum::<u64>(), 777);
    }
}

#[test]
fn what_was_found_must_fit_together() {
    let mut world = World::fresh();
    for sequence in 1..=3 {
        world.submit(sequence, transaction(9, 0, sequence, 10));
        world.wait(0);
        world.settle();
    }
    let start = |change: fn(&mut Recovered)| {
        let mut found = world.found(0);
        change(&mut found);
        Replica::new(Now::default(), Config::new(genesis(1), key(1)), found).err()
    };
    assert_eq!(start(|_| {}), None);
    assert_eq!(world.chunks[0].tip().lane, Lane::new(1));
    let wrong = |index, what| Some(StartError::Lane { lane: Lane::new(1), index, what });
    assert_eq!(
        start(|found| drop(found.lanes.pop())),
        Some(StartError::LaneCount { found: 1, wanted: 2 })
    );
    assert_eq!(
        start(|found| drop(found.lanes[1].suffix.remove(1))),
        wrong(3, "does not link to the one before")
    );
    assert_eq!(
        start(|found| found.lanes[1].frontier.append(Hash::ZERO)),
        wrong(0, "does not end in the lane's tree")
    );
    assert_eq!(
        start(|found| Arc::make_mut(&mut found.lanes[1].suffix[2]).stored.body.clear()),
        wrong(3, "has not the body that its header names")
    );
    assert_eq!(
        start(|found| drop(Arc::make_mut(&mut found.lanes[1].suffix[1]).transactions.pop())),
        wrong(2, "has not the body that its header names")
    );
    assert_eq!(start(|found| found.records.push(vec![99])), Some(StartError::Record { index: 3 }));
    let other = Replica::new(Now::default(), Config::new(genesis(1), key(7)), world.found(0));
    assert_eq!(other.err(), Some(StartError::NotAValidator));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// The assertions are where effects are done: [`World::effect`].
    #[test]
    fn nothing_leaves_before_its_record_is_durable_whatever_the_schedule(
        seed in any::<u64>(), validator_count in prop_oneof![Just(1_u8), Just(4)],
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let ledger = genesis(validator_count);
        let config = Config::new(ledger.clone(), key(1));
        let mut world = World::new(config, Recovered::empty(&ledger));
        let mut next = [1_u64; 4];
        for _ in 0..300 {
            match random.u8(..10) {
                0..=2 => {
                    let signer = random.u8(..4);
                    let sequence = &mut next[usize::from(signer)];
                    let own = transaction_of(&ledger, signer + 20, 0, *sequence, 50);
                    world.submit(*sequence, own);
                    *sequence += 1;
                }
                3 | 4 => world.wait(random.u64(..4_000)),
                5 => drop(world.stored()),
                6 => drop(world.execute()),
                _ => drop(world.effect()),
            }
        }
        if validator_count == 1 {
            prop_assert!(world.left.is_empty(), "alone, there is nobody to tell");
            prop_assert!(!world.headers.is_empty(), "heights were committed");
        } else {
            prop_assert!(world.headers.is_empty(), "one of four is no quorum");
        }
    }

    /// R2, R4: a crash that loses headers, or everything after some record.
    #[test]
    fn a_restart_commits_the_same_header_and_drops_no_chunk(
        seed in any::<u64>(), heights in 1_usize..5,
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::fresh();
        let mut sequence = 0;
        for _ in 0..heights {
            for _ in 0..=random.u8(..3) {
                sequence += 1;
                world.submit(sequence, transaction(9, 0, sequence, 50));
            }
            world.wait(MIN_US);
            world.settle();
            world.wait(MIN_US);
            world.settle();
        }
        let kept = heights.saturating_sub(random.usize(..2));
        let mut again = World::new(Config::new(genesis(1), key(1)), world.found(kept));
        again.records.clone_from(&world.records);
        again.now.wall_us += 9_000_000;
        again.settle();
        again.wait(MIN_US);
        again.settle();
        for (first, second) in world.headers.iter().skip(kept).zip(&again.headers) {
            prop_assert_eq!(first, second);
        }
        prop_assert!(again.headers.len() >= world.headers.len() - kept);
        let ordered: usize = again.headers.iter().map(|(block, _)| block.transaction_count()).sum();
        let before: usize =
            world.headers.iter().take(kept).map(|(block, _)| block.transaction_count()).sum();
        prop_assert_eq!(before + ordered, world.answers.len());
        again.submit(1, transaction(9, 0, sequence, 50));
        again.submit(2, transaction(9, 0, sequence + 1, 50));
        again.settle();
        let is_used = matches!(&again.answers[0], (1, Answer::Used { .. }));
        prop_assert!(is_used, "a repeat of what was executed: {}", again.told());
    }
}
