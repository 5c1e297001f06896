//! Worlds of cores: every message goes through its bytes, every vote through its record.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use quipu_consensus::core::Refused;
use quipu_consensus::{
    Change, Config, Context, Core, Event, Evidence, Holdings, Message, Now, Output, Parent, Record,
    Rules, genesis_cut,
};
use quipu_crypto::Tag;
use quipu_crypto::coin::{self, CoinScheme, CoinSecret};
use quipu_crypto::suite::SecretKey;
use quipu_types::agreement::Validator;
use quipu_types::{
    CommitCertificate, Decode, Encode, Hash, Header, Height, Lane, RoundKind, Rounds, Seqno,
    Signature, SignedState, Suite, Term, Time, Tip, ValidatorIndex, ValidatorSet,
};

pub(crate) const CHAIN: Hash = Hash([9; 32]);
pub(crate) const GENESIS_TIME: Time = Time::new(1_000_000);
pub(crate) const LANES: u16 = 3;
pub(crate) const MIN_US: u64 = 5_000;
pub(crate) const IDLE_US: u64 = 1_000_000;
pub(crate) const ROUNDS: Rounds = Rounds::genesis(true);

/// What was dealt for a set.
type Dealing = Arc<(CoinScheme, Vec<Vec<u8>>)>;

/// The coin of a set, and each validator's shares as bytes. Dealt once in a process: it takes milliseconds.
pub(crate) fn dealing(powers: &[u64]) -> Dealing {
    static DEALT: Mutex<BTreeMap<Vec<u64>, Dealing>> = Mutex::new(BTreeMap::new());
    let mut dealt = DEALT.lock().expect("no dealing panics");
    let deal = || {
        let (setup, secrets) = coin::deal(powers, &[42; 32]);
        let scheme = CoinScheme::new(&setup, powers).expect("a right dealing");
        Arc::new((scheme, secrets.iter().map(|secret| secret.to_bytes().to_vec()).collect()))
    };
    Arc::clone(dealt.entry(powers.to_vec()).or_insert_with(deal))
}

/// Chunks of every lane up to an index, the same for everyone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chunks {
    pub(crate) held: [u64; 3],
    /// How many of the last ones of each lane are not durable.
    pub(crate) unsynced: [u64; 3],
    pub(crate) suspects: Vec<(Lane, Term)>,
}

impl Holdings for Chunks {
    fn linked(&self, lane: Lane, index: u64) -> Option<Tip> {
        let held = self.held[usize::from(lane.get())];
        (index > 0 && index <= held).then(|| tip(lane.get(), index))
    }

    fn durable(&self, lane: Lane) -> u64 {
        let lane = usize::from(lane.get());
        self.held[lane] - self.unsynced[lane]
    }

    fn suspects(&self) -> Vec<(Lane, Term)> {
        self.suspects.clone()
    }
}

pub(crate) fn tip(lane: u16, index: u64) -> Tip {
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

pub(crate) fn key(index: usize) -> SecretKey {
    SecretKey::from_seed(Suite::Ed25519Sha256, [u8::try_from(index).expect("few keys") + 1; 32])
}

pub(crate) fn set(powers: &[u64]) -> ValidatorSet {
    let validators = powers.iter().enumerate();
    let validators = validators
        .map(|(index, power)| Validator {
            key: key(index).public(),
            power: *power,
            is_stale: false,
        })
        .collect();
    ValidatorSet { epoch: 0, validators, coin: Some(dealing(powers).0.key()) }
}

pub(crate) fn context(powers: &[u64]) -> Context {
    Context::new(CHAIN, set(powers), LANES)
}

pub(crate) fn number(index: usize) -> ValidatorIndex {
    ValidatorIndex::new(u16::try_from(index).expect("few validators"))
}

/// What a validator signs, honest or not.
pub(crate) fn sign(index: usize, tag: Tag, body: &[u8]) -> Signature {
    quipu_crypto::sign_tagged(&key(index), &CHAIN, 0, tag, body)
}

pub(crate) fn state(height: u64) -> SignedState {
    let root = Hash([u8::try_from(height % 251).expect("below 251"); 32]);
    SignedState {
        height: Height::new(height),
        state_root: root,
        receipts_root: root,
        next_set: None,
    }
}

/// What a core asks of others beside its messages.
#[derive(Clone, Debug)]
pub(crate) enum Want {
    Value(Height, Hash),
    Headers(Option<ValidatorIndex>),
    Answer(ValidatorIndex, Height),
}

/// One validator: its core, its chunks, what it logged and committed.
pub(crate) struct Node {
    pub(crate) core: Core,
    pub(crate) chunks: Chunks,
    pub(crate) log: Vec<Record>,
    pub(crate) committed: Vec<(Header, CommitCertificate)>,
    /// What each height follows, the genesis first.
    pub(crate) parents: Vec<Parent>,
    pub(crate) trace: Vec<String>,
    pub(crate) now: Now,
    /// What was said and not fetched yet: to all, or to one.
    pub(crate) sent: Vec<(Option<ValidatorIndex>, Message)>,
    pub(crate) wants: Vec<Want>,
    pub(crate) evidence: Vec<Evidence>,
}

impl Node {
    pub(crate) fn new(powers: &[u64], index: usize) -> Self {
        let parent = Parent::genesis(CHAIN, GENESIS_TIME, LANES, ROUNDS);
        let core = start(powers, index, Now::default(), parent.clone(), Vec::new());
        Self {
            core,
            chunks: Chunks::default(),
            log: Vec::new(),
            committed: Vec::new(),
            parents: vec![parent],
            trace: Vec::new(),
            now: Now { wall_us: 5_000_000, mono_us: 0 },
            sent: Vec::new(),
            wants: Vec::new(),
            evidence: Vec::new(),
        }
    }

    /// The same validator after a crash that lost its last headers, and nothing else that was logged.
    pub(crate) fn restart(&mut self, powers: &[u64], index: usize, lost: usize) {
        let kept = self.committed.len().saturating_sub(lost);
        self.committed.truncate(kept);
        self.parents.truncate(kept + 1);
        let parent = self.parents[kept].clone();
        self.core = start(powers, index, self.now, parent, self.log.clone());
        self.sent.clear();
        self.wants.clear();
    }

    pub(crate) fn step(&mut self, event: Event) -> Result<(), Refused> {
        let taken = self.core.step(self.now, event, &self.chunks);
        while let Some(output) = self.core.poll() {
            self.trace.push(describe(&output));
            match output {
                Output::Persist(record) => {
                    let bytes = record.to_bytes();
                    self.log.push(Record::from_bytes(&bytes).expect("own records read back"));
                }
                Output::Send(message) => self.say(None, message),
                Output::Reply { to, message } => self.say(Some(to), message),
                Output::Commit { header, certificate, .. } => {
                    self.committed.push((header, certificate));
                    self.parents.push(self.core.parent().clone());
                    self.core.settle();
                }
                Output::WantValue { height, digest } => {
                    self.wants.push(Want::Value(height, digest))
                }
                Output::Answer { to, height } => self.wants.push(Want::Answer(to, height)),
                Output::Behind { to, .. } => self.wants.push(Want::Headers(Some(to))),
                Output::Stuck => self.wants.push(Want::Headers(None)),
                Output::Evidence(evidence) => self.evidence.push(*evidence),
                Output::StateCertified(_) | Output::Speculate { .. } => {}
            }
        }
        taken
    }

    fn say(&mut self, to: Option<ValidatorIndex>, message: Message) {
        let logged = self.log.iter().any(|record| record.message() == message);
        let is_own = !matches!(message, Message::Done(_) | Message::CoinShare(_));
        assert!(logged || !is_own, "I2: a message comes after its record");
        self.sent.push((to, message));
    }

    /// What was said to all since it was asked last.
    pub(crate) fn said(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.sent).into_iter().map(|(_, message)| message).collect()
    }

    pub(crate) fn hear(&mut self, from: usize, message: Message) -> Result<(), Refused> {
        self.step(Event::Message(number(from), message))
    }

    /// Lanes grow and the own ack of them becomes durable.
    pub(crate) fn grow(&mut self, held: [u64; 3]) {
        self.chunks.held = held;
        let lanes = (0..LANES).zip(held).filter(|(_, index)| *index > 0);
        let tips: Vec<Tip> = lanes.map(|(lane, index)| tip(lane, index)).collect();
        let Some((record, ack)) = self.core.ack(&tips) else { return };
        self.log.push(record.clone());
        self.sent.push((None, record.message()));
        self.step(Event::Acked(ack)).expect("own events are not refused");
    }

    pub(crate) fn wait(&mut self, us: u64) {
        self.now.mono_us += us;
        self.now.wall_us += us;
        self.step(Event::Timer).expect("time is not refused");
    }

    pub(crate) fn height(&self) -> u64 {
        self.core.parent().height.get()
    }
}

pub(crate) fn start(
    powers: &[u64],
    index: usize,
    now: Now,
    parent: Parent,
    records: Vec<Record>,
) -> Core {
    let dealing = dealing(powers);
    let config = Config {
        chain: CHAIN,
        epochs: context(powers).epochs,
        sets_change: false,
        key: key(index),
        interval_min_us: MIN_US,
        interval_idle_us: IDLE_US,
        rules: Rules::ALL,
        verified: Arc::default(),
        coin: Some(dealing.0.clone()),
        coin_secret: Some(CoinSecret::from_bytes(&dealing.1[index]).expect("its own bytes")),
    };
    Core::new(now, config, parent, records)
}

fn name(message: &Message) -> String {
    let round = |round: u32| if round == 0 { String::new() } else { format!(" round {round}") };
    match message {
        Message::Propose(propose) => {
            let cut: Vec<u64> = propose.header.cut.iter().map(|tip| tip.index).collect();
            let (height, time) = (propose.height, propose.header.time);
            format!("Propose {height}{} cut {cut:?} time {time}", round(propose.round))
        }
        Message::Prevote(vote) => format!("Prevote {}{}", vote.height, round(vote.round)),
        Message::Precommit(vote) => {
            let tips: Vec<u64> = vote.tips.iter().map(|tip| tip.index).collect();
            let (height, time) = (vote.height, vote.time);
            format!("Precommit {height}{} tips {tips:?} time {time}", round(vote.round))
        }
        Message::Ack(ack) => format!("Ack {:?}", ack.tips.len()),
        Message::StateVote(vote) => format!("StateVote {}", vote.state.height),
        Message::RoundChange(Change { change, polka, .. }) => {
            let high = change.high.map_or("no polka".to_owned(), |high| {
                format!("the polka of round {}, {} votes", high.round, polka.len())
            });
            format!("RoundChange {}{} with {high}", change.height, round(change.round))
        }
        Message::Done(certificate) => {
            let vote = &certificate.precommits[0];
            format!("Done {}{} instance {}", vote.height, round(vote.round), vote.instance)
        }
        Message::CoinShare(share) => format!("CoinShare {}{}", share.height, round(share.round)),
    }
}

fn describe(output: &Output) -> String {
    match output {
        Output::Persist(record) => format!("persist {}", name(&record.message())),
        Output::Send(message) => format!("send    {}", name(message)),
        Output::Reply { to, message } => format!("reply   {to} {}", name(message)),
        Output::Speculate { header, .. } => format!("guess   {}", header.height),
        Output::Commit { header, .. } => format!("commit  {}", header.height),
        Output::StateCertified(certificate) => format!("state   {}", certificate.state.height),
        Output::WantValue { height, .. } => format!("want    {height}"),
        Output::Answer { to, height } => format!("answer  {to} from {height}"),
        Output::Behind { to, height } => format!("behind  {to} at {height}"),
        Output::Stuck => "stuck".to_owned(),
        Output::Evidence(evidence) => format!("proof   {}", evidence.kind()),
    }
}

/// What goes over a wire.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    Message(Vec<u8>),
    Value(Header),
    Decided(Header, CommitCertificate),
}

/// Decides which messages a network loses: (from, to, message).
pub(crate) type Loses = Box<dyn Fn(usize, usize, &Message) -> bool>;

/// A kind of message, whose, at which height and round: spoken of in one way only.
type Place = (u8, ValidatorIndex, Height, u32, Option<ValidatorIndex>);

fn open(kind: RoundKind, instance: ValidatorIndex) -> Option<ValidatorIndex> {
    (kind == RoundKind::Open).then_some(instance)
}

/// Validators that hear each other.
pub(crate) struct World {
    pub(crate) powers: Vec<u64>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) wires: VecDeque<(usize, usize, Packet)>,
    /// Those that neither hear nor are heard.
    pub(crate) silent: Vec<bool>,
    pub(crate) loses: Loses,
    pub(crate) random: fastrand::Rng,
    spoken: BTreeMap<Place, Message>,
}

impl World {
    pub(crate) fn new(powers: &[u64], seed: u64) -> Self {
        Self {
            powers: powers.to_vec(),
            nodes: (0..powers.len()).map(|index| Node::new(powers, index)).collect(),
            wires: VecDeque::new(),
            silent: vec![false; powers.len()],
            loses: Box::new(|_, _, _| false),
            random: fastrand::Rng::with_seed(seed),
            spoken: BTreeMap::new(),
        }
    }

    /// Who leads a round while the first primary stays.
    pub(crate) fn leader(&self, round: u32) -> usize {
        usize::from(context(&self.powers).schedule.leader(0, round).get())
    }

    /// I1 for everything that is ever said, before and after restarts.
    fn assert_one_word(&mut self, message: &Message) {
        let place = match message {
            Message::Propose(said) => (1, said.instance, said.height, said.round, None),
            Message::Prevote(said) => {
                (2, said.validator, said.height, said.round, open(said.kind, said.instance))
            }
            Message::Precommit(said) => {
                (3, said.validator, said.height, said.round, open(said.kind, said.instance))
            }
            Message::RoundChange(Change { change, .. }) => {
                (4, change.validator, change.height, change.round, None)
            }
            Message::CoinShare(share) => (5, share.validator, share.height, share.round, None),
            Message::Ack(_) | Message::StateVote(_) | Message::Done(_) => return,
        };
        let first = self.spoken.entry(place).or_insert_with(|| message.clone());
        assert_eq!(first, message, "I1: said twice, in two ways");
    }

    /// Puts what a validator said on the wires, and answers what it asks.
    pub(crate) fn fetch(&mut self, from: usize) {
        let sent = std::mem::take(&mut self.nodes[from].sent);
        for (to, message) in sent {
            self.assert_one_word(&message);
            let all = 0..self.nodes.len();
            for to in all.filter(|other| to.is_none_or(|to| to == number(*other))) {
                if to != from && !(self.loses)(from, to, &message) {
                    self.wires.push_back((from, to, Packet::Message(message.to_bytes())));
                }
            }
        }
        for want in std::mem::take(&mut self.nodes[from].wants) {
            self.serve(from, &want);
        }
    }

    fn serve(&mut self, asker: usize, want: &Want) {
        match want {
            Want::Value(height, digest) => {
                for other in (0..self.nodes.len()).filter(|other| *other != asker) {
                    let value = self.nodes[other].core.value_of(*height, digest).cloned();
                    let packet = value.map(|header| (other, asker, Packet::Value(header)));
                    self.wires.extend(packet);
                }
            }
            Want::Answer(to, height) => {
                self.give(asker, usize::from(to.get()), *height);
            }
            Want::Headers(of) => {
                let other = self.random.usize(..self.nodes.len());
                let of = of.map_or(other, |of| usize::from(of.get()));
                let next = self.nodes[asker].core.parent().height.next();
                self.give(of, asker, next);
            }
        }
    }

    fn give(&mut self, from: usize, to: usize, height: Height) {
        let committed = self.nodes[from].committed.iter();
        let later = committed.filter(|(header, _)| header.height >= height).cloned();
        let packets = later.map(|(header, why)| (from, to, Packet::Decided(header, why)));
        self.wires.extend(packets.collect::<Vec<_>>());
    }

    pub(crate) fn grow_all(&mut self, chunks: [u64; 3]) {
        for index in 0..self.nodes.len() {
            self.nodes[index].grow(chunks);
            self.fetch(index);
        }
    }

    /// Delivers one packet. What honest validators say is never an offence.
    pub(crate) fn deliver(&mut self, (from, to, packet): (usize, usize, Packet)) {
        if self.silent[from] || self.silent[to] {
            return;
        }
        let taken = match packet {
            Packet::Message(bytes) => {
                let message = Message::from_bytes(&bytes).expect("messages read back");
                self.nodes[to].hear(from, message)
            }
            Packet::Value(header) => self.nodes[to].step(Event::Value(header)),
            Packet::Decided(header, why) => self.nodes[to].step(Event::Decided(header, why)),
        };
        if let Err(refused) = taken {
            assert!(!refused.is_offence(), "honest messages are taken: {refused}");
        }
        self.fetch(to);
    }

    /// Delivers everything, first come, first served.
    pub(crate) fn quiet(&mut self) {
        for _ in 0..100_000 {
            let Some(packet) = self.wires.pop_front() else { return };
            self.deliver(packet);
        }
        panic!("the validators never fall silent");
    }

    /// Time passes for everyone, in steps.
    pub(crate) fn pass(&mut self, us: u64) {
        let mut left = us;
        while left > 0 {
            let step = left.min(MIN_US);
            left -= step;
            for index in 0..self.nodes.len() {
                self.nodes[index].wait(step);
                self.fetch(index);
            }
            self.quiet();
        }
    }

    /// Delivers one message, any of those under way; or lets time pass.
    pub(crate) fn turn(&mut self) {
        if self.wires.is_empty() || self.random.u8(..) < 20 {
            let index = self.random.usize(..self.nodes.len());
            self.nodes[index].wait(MIN_US);
            self.fetch(index);
            return;
        }
        let pick = self.random.usize(..self.wires.len());
        let packet = self.wires.swap_remove_back(pick).expect("picked below the length");
        self.deliver(packet);
    }

    pub(crate) fn run_until(&mut self, height: u64) {
        for _ in 0..400_000 {
            let mut heard = self.nodes.iter().zip(&self.silent).filter(|(_, silent)| !**silent);
            if heard.all(|(node, _)| node.height() >= height) {
                return;
            }
            self.turn();
        }
        panic!("no progress: {:?}", self.heights());
    }

    pub(crate) fn heights(&self) -> Vec<u64> {
        self.nodes.iter().map(Node::height).collect()
    }

    /// Everyone committed the same headers, as far as each is; and nobody is accused.
    pub(crate) fn assert_agreement(&self) {
        for node in &self.nodes {
            assert_eq!(node.evidence, [], "no honest validator is accused");
            for other in &self.nodes {
                for ((own, _), (header, _)) in node.committed.iter().zip(&other.committed) {
                    assert_eq!(own, header, "one header a height");
                }
            }
        }
    }
}
