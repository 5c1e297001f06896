//! Ours: four [`Core`]s, driven as a node drives its own. Every message goes through its bytes, every record and every
//! committed header into a log in memory before what follows it leaves, and the signatures of what waits together are
//! checked together.

use std::sync::Arc;

use quipu_consensus::core::Refused;
use quipu_consensus::{
    Config, Core, Event, Holdings, Message, Now, Output, Parent, Rules, genesis_cut,
};
use quipu_crypto::{SecretKey, Verified};
use quipu_types::agreement::Validator;
use quipu_types::{
    Decode, Encode, Hash, Height, Lane, Rounds, Seqno, SignedState, Suite, Term, Time, Tip,
    ValidatorIndex, ValidatorSet,
};

use crate::measure::{COUNT, Checks, Counts, Length, Play, Stopwatch};
use crate::post::{Fate, Letter, Post};

const CHAIN: Hash = Hash([9; 32]);
/// Heights between two times at which the log drops what is over, as in a replica.
const CHECKPOINT_COUNT: u64 = 32;

/// Headers that move no lane: nothing but order.
pub(crate) fn idle_1(length: Length, checks: Checks) -> Play {
    play(Shape { checks, ..Shape::IDLE }, length)
}

/// The same when no two messages wait at once: every signature is checked alone.
pub(crate) fn idle_1_alone(length: Length, checks: Checks) -> Play {
    play(Shape { checks, together: false, ..Shape::IDLE }, length)
}

/// The same with as many lanes as a new ledger has: each header and precommit is as long as that makes it.
pub(crate) fn idle_16(length: Length, checks: Checks) -> Play {
    play(Shape { checks, lane_count: 16, ..Shape::IDLE }, length)
}

/// One chunk a height, acknowledged by all, and one state, signed by all.
pub(crate) fn moving_16(length: Length, checks: Checks) -> Play {
    play(Shape { checks, lane_count: 16, moves: true, ..Shape::IDLE }, length)
}

/// How a world is made.
#[derive(Clone, Copy, Debug)]
struct Shape {
    lane_count: u16,
    /// Whether a lane moves in each height.
    moves: bool,
    /// Whether what waits together is checked together.
    together: bool,
    checks: Checks,
}

impl Shape {
    const IDLE: Self = Self { lane_count: 1, moves: false, together: true, checks: Checks::All };
}

fn play(shape: Shape, length: Length) -> Play {
    let mut world = World::new(shape);
    let mut watch = Stopwatch::new(length);
    while !watch.reached(world.height(), || world.counts()) {
        world.step(&|_, bytes| bytes);
    }
    watch.play(world.nodes.into_iter().map(|node| node.committed).collect())
}

/// One validator's signatures are spoilt on their way: the others refuse each, and go on without it.
pub(crate) fn spoil() -> String {
    let mut world = World::new(Shape::IDLE);
    let spoilt = |(from, bytes): &Letter, good: Arc<[u8]>| {
        let Ok(Message::Prevote(mut vote)) = Message::from_bytes(bytes) else { return good };
        vote.signature.0[5] ^= u8::from(*from == 3);
        Message::Prevote(vote).to_bytes().into()
    };
    while world.height() < 20 {
        world.step(&|letter, bytes| spoilt(letter, bytes));
    }
    let refused: usize = world.nodes.iter().map(|node| node.refused.len()).sum();
    let signatures = world.nodes.iter().flat_map(|node| &node.refused);
    assert!(signatures.clone().all(|why| matches!(why, Refused::Signature(_))), "only those");
    assert!(refused >= 3 * 20, "each of them by each of the others");
    format!("{refused} spoilt votes refused")
}

/// Chunks of lane 0 up to an index, held and durable at everyone's.
#[derive(Clone, Copy, Debug, Default)]
struct Chunks {
    index: u64,
}

impl Holdings for Chunks {
    fn linked(&self, lane: Lane, index: u64) -> Option<Tip> {
        (lane.get() == 0 && index > 0 && index <= self.index).then(|| tip(index))
    }

    fn durable(&self, lane: Lane) -> u64 {
        if lane.get() == 0 { self.index } else { 0 }
    }

    fn suspects(&self) -> Vec<(Lane, Term)> {
        Vec::new()
    }
}

fn tip(index: u64) -> Tip {
    let mut name = [7; 32];
    name[..8].copy_from_slice(&index.to_le_bytes());
    let seqno = Seqno::new(index);
    Tip { index, seqno, lane_root: Hash(name), chunk_hash: Hash(name), ..genesis_cut(1)[0] }
}

struct Node {
    core: Core,
    verified: Arc<Verified>,
    chunks: Chunks,
    moves: bool,
    log: Vec<u8>,
    committed: Vec<[u8; 32]>,
    refused: Vec<Refused>,
    signed: u64,
    logged: u64,
}

struct World {
    nodes: Vec<Node>,
    shape: Shape,
    post: Post,
    now: Now,
}

impl World {
    fn new(shape: Shape) -> Self {
        let now = Now { wall_us: 2_000_000, mono_us: 0 };
        let shared = Arc::new(Verified::default());
        let verified = || match shape.checks {
            Checks::All => Arc::default(),
            // What one has made, all know to be right.
            Checks::None => Arc::clone(&shared),
        };
        let nodes = (0..COUNT).map(|index| Node::new(index, shape, verified(), now)).collect();
        let mut world = Self { nodes, shape, post: Post::default(), now };
        for index in 0..COUNT {
            world.nodes[index].grow(index, &mut world.post, now);
        }
        world
    }

    /// How far the slowest validator is.
    fn height(&self) -> u64 {
        self.nodes.iter().map(|node| node.core.parent().height.get()).min().unwrap_or(0)
    }

    fn counts(&self) -> Counts {
        let sum = |of: fn(&Node) -> u64| self.nodes.iter().map(of).sum();
        Counts {
            signed: sum(|node| node.signed),
            checked: sum(|node| node.verified.counts().misses),
            messages: self.post.messages,
            bytes: self.post.bytes,
            logged: Some(sum(|node| node.logged)),
        }
    }

    /// Everyone takes what has arrived, and answers.
    fn step(&mut self, on_its_way: Fate<'_>) {
        self.now.wall_us += 1_000;
        self.now.mono_us += 1_000;
        self.post.turn();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            let letters = self.post.take(index);
            let messages: Vec<(ValidatorIndex, Message)> = letters
                .iter()
                .map(|letter| {
                    let bytes = on_its_way(letter, Arc::clone(&letter.1));
                    (number(letter.0), Message::from_bytes(&bytes).expect("it was encoded here"))
                })
                .collect();
            if self.shape.together {
                node.core.verify_together(messages.iter().map(|(_, message)| message));
            }
            let is_idle = messages.is_empty();
            for (from, message) in messages {
                node.take(index, Event::Message(from, message), &mut self.post, self.now);
            }
            if is_idle {
                node.take(index, Event::Timer, &mut self.post, self.now);
            }
        }
    }
}

impl Node {
    fn new(index: usize, shape: Shape, verified: Arc<Verified>, now: Now) -> Self {
        let Shape { lane_count, moves, .. } = shape;
        let config = Config {
            chain: CHAIN,
            set: set(),
            lane_count,
            key: key(index),
            interval_min_us: 0,
            interval_idle_us: 0,
            rules: Rules::ALL,
            verified: Arc::clone(&verified),
            coin: None,
            coin_secret: None,
        };
        let parent = Parent::genesis(CHAIN, Time::new(1), lane_count, Rounds::genesis(false));
        let core = Core::new(now, config, parent, Vec::new()).expect("its key is of the set");
        Self {
            core,
            verified,
            chunks: Chunks::default(),
            moves,
            log: Vec::new(),
            committed: Vec::new(),
            refused: Vec::new(),
            signed: 0,
            logged: 0,
        }
    }

    fn take(&mut self, own: usize, event: Event, post: &mut Post, now: Now) {
        match self.core.step(now, event, &self.chunks) {
            Ok(()) | Err(Refused::Stale { .. }) => {}
            Err(refused) => self.refused.push(refused),
        }
        while let Some(output) = self.core.poll() {
            match output {
                Output::Persist(record) => {
                    self.signed += 1;
                    self.write(&record);
                }
                Output::Send(message) => post.tell_all(own, message.to_bytes()),
                Output::Reply { to, message } => {
                    post.tell((own, message.to_bytes().into()), usize::from(to.get()));
                }
                Output::Commit { header, hash, certificate } => {
                    self.write(&header);
                    self.write(&certificate);
                    self.commit(own, header.height, hash, post, now);
                }
                Output::Speculate { .. } | Output::StateCertified(_) => {}
                other => panic!("without faults nobody asks: {other:?}"),
            }
        }
    }

    fn commit(&mut self, own: usize, height: Height, hash: Hash, post: &mut Post, now: Now) {
        self.committed.push(hash.0);
        if height.get().is_multiple_of(CHECKPOINT_COUNT) {
            self.log.clear();
            let durable = Height::new(height.get() - 1);
            for record in self.core.checkpoint(durable) {
                self.write(&record);
            }
        }
        self.core.settle();
        if self.moves {
            let state = SignedState { height, state_root: hash, receipts_root: hash };
            self.take(own, Event::Executed(state), post, now);
            self.grow(own, post, now);
        }
    }

    /// One more chunk arrives at everyone's and is acknowledged.
    fn grow(&mut self, own: usize, post: &mut Post, now: Now) {
        if !self.moves {
            return;
        }
        self.chunks.index += 1;
        let (record, ack) = self.core.ack(&[tip(self.chunks.index)]).expect("it is new");
        self.signed += 1;
        self.write(&record);
        post.tell_all(own, record.message().to_bytes());
        self.take(own, Event::Acked(ack), post, now);
    }

    fn write(&mut self, what: &impl Encode) {
        let before = self.log.len();
        what.encode(&mut self.log);
        self.logged += u64::try_from(self.log.len() - before).expect("small");
    }
}

fn key(index: usize) -> SecretKey {
    SecretKey::from_seed(Suite::Ed25519Sha256, [u8::try_from(index).expect("few") + 1; 32])
}

fn set() -> ValidatorSet {
    let validators = (0..COUNT).map(|index| Validator { key: key(index).public(), power: 1 });
    ValidatorSet { epoch: 0, validators: validators.collect(), coin: None }
}

fn number(index: usize) -> ValidatorIndex {
    ValidatorIndex::new(u16::try_from(index).expect("few"))
}
