//! Four replicas, each with a ledger on a disk in memory, and wires between them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use quipu_consensus::Context;
use quipu_crypto::Verified;
use quipu_log::{Ledger, LedgerConfig, MemoryDisk};
use quipu_proof::names::{chain_id, header_hash};
use quipu_replica::storage::read_block;
use quipu_replica::{
    Admissions, Admitted, Answer, Barrier, Block, Config, Effect, Input, Now, Observer,
    PeerMessage, Producer, Recovered, Refused, Replica, receive, recover, restore, serve, write,
};
use quipu_types::{
    ChunkHeader, Encode, Genesis, Hash, Height, Lane, Outcome, PublicKey, Receipt, ValidatorIndex,
};

use crate::common::{LANES, equal, key, state, transaction_of};

/// How finely time passes.
pub(crate) const STEP_US: u64 = 5_000;

/// One validator with its disk and what it told its clients.
pub(crate) struct Member {
    pub(crate) replica: Replica,
    pub(crate) ledger: Ledger,
    pub(crate) disk: MemoryDisk,
    executing: VecDeque<Arc<Block>>,
    syncing: VecDeque<Barrier>,
    pub(crate) executed: Vec<Arc<Block>>,
    pub(crate) answers: Vec<(u64, Answer)>,
    pub(crate) evidence: Vec<String>,
    pub(crate) threshold: Option<Height>,
    pub(crate) is_stopped: bool,
    pub(crate) refused: Vec<Refused>,
}

/// Decides which messages a network loses: (from, to, message).
pub(crate) type Loses = Box<dyn Fn(usize, usize, &PeerMessage) -> bool>;

/// The validators and their wires.
pub(crate) struct Net {
    pub(crate) genesis: Genesis,
    pub(crate) members: Vec<Member>,
    pub(crate) is_up: Vec<bool>,
    pub(crate) wires: VecDeque<(usize, usize, Vec<u8>)>,
    pub(crate) loses: Loses,
    /// Whose disk ends no sync.
    pub(crate) stuck: Option<usize>,
    pub(crate) now: Now,
    /// Everything that was put on a wire, the first of each.
    pub(crate) heard: Vec<Vec<u8>>,
    /// What one validator checked, the others need not: checks are most of a test's time.
    verified: Arc<Verified>,
    stripe_size_min: usize,
    admissions: Admissions,
}

fn config(genesis: &Genesis, index: usize, stripe_size_min: usize) -> Config {
    let number = u8::try_from(index + 1).expect("few validators");
    let mut config = Config::new(genesis.clone(), key(number));
    config.chunk_size_max = 4_000;
    config.stripe_size_min = stripe_size_min;
    config
}

pub(crate) fn number(index: usize) -> ValidatorIndex {
    ValidatorIndex::new(u16::try_from(index).expect("few validators"))
}

/// Opens a disk and executes what it has, as a driver does before it makes a replica.
fn start(
    genesis: &Genesis,
    index: usize,
    now: Now,
    disk: MemoryDisk,
    observer: Option<Observer>,
    (verified, stripe_size_min): (&Arc<Verified>, usize),
) -> Member {
    let chain = chain_id(genesis);
    let (ledger, found) =
        Ledger::open(Arc::new(disk.clone()), chain, LedgerConfig::new(LANES)).expect("it opens");
    let head = found.committed.as_ref().map_or(Height::default(), |(header, _)| header.height);
    let reader = ledger.reader();
    let blocks = (1..=head.get()).map(|height| {
        Arc::new(read_block(&reader, &chain, Height::new(height)).expect("it reads back"))
    });
    let executed: Vec<Arc<Block>> = blocks.collect();
    let context = Context::new(chain, genesis.validator_set(), LANES);
    let producers = producers(&executed);
    let recovered: Recovered =
        recover(&ledger, found, &chain, context.epochs.clone(), producers).expect("it recovers");
    let mut config = config(genesis, index, stripe_size_min);
    config.observer = observer;
    config.verified = Arc::clone(verified);
    let replica = Replica::new(now, config, recovered).expect("what was found fits together");
    Member {
        replica,
        ledger,
        disk,
        executing: VecDeque::new(),
        syncing: VecDeque::new(),
        executed,
        answers: Vec::new(),
        evidence: Vec::new(),
        threshold: None,
        is_stopped: false,
        refused: Vec::new(),
    }
}

fn producers(blocks: &[Arc<Block>]) -> Vec<(Lane, PublicKey, Producer)> {
    let mut next: BTreeMap<(Lane, PublicKey), Producer> = BTreeMap::new();
    for (position, admitted) in blocks.iter().flat_map(|block| block.ordered()) {
        let transaction = &admitted.transaction;
        let (incarnation, sequence) = (transaction.incarnation, transaction.sequence + 1);
        next.insert((position.lane, transaction.signer), Producer { incarnation, sequence });
    }
    next.into_iter().map(|((lane, signer), next)| (lane, signer, next)).collect()
}

impl Net {
    pub(crate) fn new() -> Self {
        Self::striped(usize::MAX)
    }

    /// Bodies of so many bytes travel in stripes.
    pub(crate) fn striped(stripe_size_min: usize) -> Self {
        let genesis = equal();
        let now = Now { wall_us: 1_000_000, mono_us: 0 };
        let verified = Arc::default();
        let how = (&verified, stripe_size_min);
        let member = |index| start(&genesis, index, now, MemoryDisk::new(), None, how);
        let members: Vec<Member> = (0..4).map(member).collect();
        let mut net = Self {
            members,
            is_up: vec![true; 4],
            wires: VecDeque::new(),
            loses: Box::new(|_, _, _| false),
            stuck: None,
            now,
            heard: Vec::new(),
            admissions: Admissions::new(chain_id(&genesis), LANES, 1 << 20),
            verified,
            stripe_size_min,
            genesis,
        };
        net.quiet();
        net
    }

    pub(crate) fn chain(&self) -> Hash {
        chain_id(&self.genesis)
    }

    pub(crate) fn context(&self) -> &Context {
        self.members[0].replica.context()
    }

    /// Who makes the chunks of a lane in a term.
    pub(crate) fn sequencer(&self, lane: u16, term: u64) -> usize {
        let term = quipu_types::Term::new(term);
        usize::from(self.context().schedule.sequencer(Lane::new(lane), term).get())
    }

    /// A client whose transactions go to a lane; clients of one lane have different `turn`s.
    pub(crate) fn client(&self, lane: u16, turn: usize) -> u8 {
        let in_lane = |signer: &u8| self.transaction(*signer, 1).lane == Lane::new(lane);
        (30..=u8::MAX).filter(in_lane).nth(turn).expect("keys of both lanes")
    }

    pub(crate) fn transaction(&self, signer: u8, sequence: u64) -> Arc<Admitted> {
        transaction_of(&self.genesis, signer, 0, sequence, 10)
    }

    pub(crate) fn submit(&mut self, index: usize, ticket: u64, admitted: Arc<Admitted>) {
        self.step(index, Input::Submit { ticket, admitted, is_early: false });
    }

    pub(crate) fn step(&mut self, index: usize, input: Input) {
        let taken = self.members[index].replica.step(self.now, input);
        self.members[index].refused.extend(taken.err());
        self.effects(index);
    }

    fn effects(&mut self, index: usize) {
        while let Some(effect) = self.members[index].replica.poll() {
            self.effect(index, effect);
        }
    }

    fn effect(&mut self, index: usize, effect: Effect) {
        let member = &mut self.members[index];
        if write(&effect, &mut member.ledger).expect("a disk in memory writes") {
            return;
        }
        match effect {
            Effect::Sync(barrier) => {
                member.ledger.sync().expect("a disk in memory syncs");
                member.syncing.push_back(barrier);
            }
            Effect::Broadcast { bytes, .. } => {
                for to in (0..4).filter(|to| *to != index) {
                    self.put(index, to, bytes.to_vec());
                }
            }
            Effect::Send { to, bytes, .. } => {
                self.put(index, usize::from(to.get()), bytes.to_vec());
            }
            Effect::Serve { to, request } => {
                let given =
                    serve(&member.ledger, |_| None, &request).expect("a disk in memory reads");
                for message in given {
                    self.put(index, usize::from(to.get()), message.to_bytes());
                }
            }
            Effect::Restore(gathered) => {
                let restored = restore(member.replica.context(), &self.admissions, &gathered);
                self.step(index, Input::Restored(restored));
            }
            Effect::Execute(block) => member.executing.push_back(block),
            Effect::Evidence(evidence) => member.evidence.push(evidence.kind().to_owned()),
            Effect::Observing(threshold) => member.threshold = threshold,
            Effect::Answer { ticket, answer } => member.answers.push((ticket, answer)),
            Effect::Stopped => member.is_stopped = true,
            Effect::Speculate(_) | Effect::StateCertified(_) => {}
            other => panic!("it was written: {other:?}"),
        }
    }

    pub(crate) fn put(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        use quipu_types::Decode;
        assert_ne!(from, to, "nobody talks to itself");
        let message = PeerMessage::from_bytes(&bytes).expect("messages read back");
        if self.heard.len() < 5_000 {
            self.heard.push(bytes.clone());
        }
        if !(self.loses)(from, to, &message) {
            self.wires.push_back((from, to, bytes));
        }
    }

    fn deliver(&mut self, (from, to, bytes): (usize, usize, Vec<u8>)) {
        if !self.is_up[to] {
            return;
        }
        let context = self.members[to].replica.context();
        match receive(context, &self.admissions, &bytes) {
            Ok(received) => self.step(to, Input::Received { from: number(from), received }),
            Err(refused) => self.members[to].refused.push(refused.into()),
        }
    }

    fn stored(&mut self, index: usize) -> bool {
        if self.stuck == Some(index) {
            return false;
        }
        let Some(barrier) = self.members[index].syncing.pop_front() else { return false };
        self.step(index, Input::Stored(barrier));
        true
    }

    fn execute(&mut self, index: usize) -> bool {
        let Some(block) = self.members[index].executing.pop_front() else { return false };
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
        self.members[index].executed.push(block);
        self.step(index, Input::Executed { state, receipts });
        true
    }

    /// Everything that is due, until nothing is.
    pub(crate) fn quiet(&mut self) {
        assert!(self.goes_quiet(50_000), "the validators never fall silent");
    }

    /// As many turns of everything that is due. Whether nothing is any more.
    pub(crate) fn goes_quiet(&mut self, turn_count: usize) -> bool {
        (0..turn_count).any(|_| !self.turn())
    }

    /// One thing of each validator that is due, and one message. Whether there was any.
    fn turn(&mut self) -> bool {
        let mut went = false;
        for index in (0..4).filter(|index| self.is_up[*index]).collect::<Vec<_>>() {
            self.effects(index);
            went |= self.stored(index) || self.execute(index);
            let due = self.members[index].replica.wake_at();
            if due.is_some_and(|at| at <= self.now.mono_us) {
                self.step(index, Input::Timer);
                went = true;
            }
        }
        if let Some(packet) = self.wires.pop_front() {
            self.deliver(packet);
            went = true;
        }
        went
    }

    pub(crate) fn pass(&mut self, us: u64) {
        let mut left = us;
        while left > 0 {
            let step = left.min(STEP_US);
            left -= step;
            self.now.mono_us += step;
            self.now.wall_us += step;
            self.quiet();
        }
    }

    /// Lets time pass until something holds; the microseconds that it took.
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> u64 {
        let since = self.now.mono_us;
        while !holds(self) {
            assert!(self.now.mono_us < since + 30_000_000, "{what}: {}", self.told());
            self.pass(STEP_US);
        }
        self.now.mono_us - since
    }

    /// A validator is gone; what was on the wires to it is lost.
    pub(crate) fn down(&mut self, index: usize) {
        self.is_up[index] = false;
        self.wires.retain(|(from, to, _)| *from != index && *to != index);
    }

    /// It comes back as the same process, and its links with it.
    pub(crate) fn up(&mut self, index: usize) {
        self.is_up[index] = true;
        self.link(index);
    }

    fn link(&mut self, index: usize) {
        for other in (0..4).filter(|other| *other != index) {
            if self.is_up[other] {
                self.step(other, Input::Linked(number(index)));
                self.step(index, Input::Linked(number(other)));
            }
        }
        self.quiet();
    }

    /// It comes back as another process, on its disk or on a new one.
    pub(crate) fn restart(&mut self, index: usize, observer: Option<Observer>) {
        self.start(index, observer);
        self.link(index);
    }

    /// The same, not linked yet.
    pub(crate) fn start(&mut self, index: usize, observer: Option<Observer>) {
        let disk = match observer {
            Some(Observer { threshold: None, .. }) => MemoryDisk::new(),
            _ => self.members[index].disk.clone(),
        };
        self.wires.retain(|(from, to, _)| *from != index && *to != index);
        let answers = std::mem::take(&mut self.members[index].answers);
        let how = (&self.verified, self.stripe_size_min);
        self.members[index] = start(&self.genesis, index, self.now, disk, observer, how);
        self.members[index].answers = answers;
        self.is_up[index] = true;
    }

    pub(crate) fn height(&self, index: usize) -> u64 {
        self.members[index].replica.status().height.get()
    }

    pub(crate) fn top(&self) -> u64 {
        (0..4).map(|index| self.height(index)).max().unwrap_or(0)
    }

    pub(crate) fn term(&self, index: usize, lane: usize) -> u64 {
        self.members[index].replica.status().terms[lane].0.get()
    }

    /// What a lane orders, as one validator executed it: (signer, sequence) by seqno.
    pub(crate) fn ordered(&self, index: usize, lane: u16) -> Vec<(PublicKey, u64)> {
        let blocks = self.members[index].executed.iter();
        let all = blocks.flat_map(|block| block.ordered());
        let own = all.filter(|(position, _)| position.lane == Lane::new(lane));
        own.map(|(_, admitted)| (admitted.transaction.signer, admitted.transaction.sequence))
            .collect()
    }

    /// The headers of a lane's committed chunks, as one validator wrote them.
    pub(crate) fn chunk_headers(
        &self,
        index: usize,
        lane: u16,
    ) -> impl Iterator<Item = ChunkHeader> {
        let member = &self.members[index];
        let committed = member.executed.last().map(|block| block.header.cut[usize::from(lane)]);
        let reader = member.ledger.reader();
        (1..=committed.map_or(0, |tip| tip.index)).map(move |index| {
            reader.chunk(Lane::new(lane), index).expect("it was written").header.clone()
        })
    }

    pub(crate) fn is_answered(&self, index: usize, ticket: u64) -> bool {
        self.members[index].answers.iter().any(|(own, _)| *own == ticket)
    }

    pub(crate) fn told(&self) -> String {
        let mut told = String::new();
        for (index, member) in self.members.iter().enumerate() {
            let status = member.replica.status();
            let tips: Vec<u64> = status.tips.iter().map(|tip| tip.index).collect();
            let (height, round, pending) = (status.height, status.round, status.pending_count);
            told += &format!("\n{index}: height {height} round {round} tips {tips:?} ");
            told += &format!("terms {:?} pending {pending}; ", status.terms);
            for (ticket, answer) in &member.answers {
                told += &match answer {
                    Answer::Final { receipt, .. } => {
                        format!("{ticket} is {}:{}; ", receipt.lane, receipt.seqno)
                    }
                    other => format!("{ticket} {other:?}; "),
                };
            }
            told += &format!("refused {:?}", member.refused);
        }
        told
    }

    /// One header a height, nobody accused, nothing refused that someone is to blame for, nothing ordered twice.
    pub(crate) fn assert_sound(&self) {
        for (index, member) in self.members.iter().enumerate() {
            assert_eq!(member.evidence, [""; 0], "no honest validator is accused by {index}");
            let offence = member.refused.iter().find(|refused| refused.is_offence());
            assert_eq!(offence, None, "what honest validators say is taken by {index}");
            for block in &member.executed {
                let height = block.header.height;
                let (header, _) = member.ledger.reader().header(height).expect("it was written");
                assert_eq!(header_hash(&header), block.hash);
                for other in &self.members {
                    let place = usize::try_from(height.get() - 1).expect("few heights");
                    let same = other.executed.get(place).is_none_or(|own| own.hash == block.hash);
                    assert!(same, "one header at height {height}");
                }
            }
            for lane in 0..LANES {
                let ordered = self.ordered(index, lane);
                let mut distinct = ordered.clone();
                distinct.sort();
                distinct.dedup();
                assert_eq!(distinct.len(), ordered.len(), "nothing is ordered twice");
            }
        }
    }
}
