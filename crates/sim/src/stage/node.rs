//! One honest validator of a stage: a replica, its ledger on a disk in memory, its clock. What is asked of its driver is
//! done at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use quipu_consensus::{Evidence, Message, Record, Rules, Schedule};
use quipu_log::{Ledger, LedgerConfig, LogError, MemoryDisk};
use quipu_proof::names::{chain_id, chunk_hash};
use quipu_replica::storage::{read_block, read_epochs, recover, serve, write};
use quipu_replica::{
    Admissions, Admitted, Answer, Barrier, Block, Config, Effect, Gathered, Grievance, Input, Now,
    Observer, PeerMessage, Producer, Received, Refused, Replica, Ticket, Traps, restore,
};
use quipu_types::{
    ChunkHeader, CommitCertificate, Decode, Encode, Genesis, Hash, Header, Height, Lane, Outcome,
    PublicKey, Receipt, SignedState, StateCertificate, Term, ValidatorIndex,
};

use super::{Failure, LANE_COUNT, secret};
use crate::coins::Dealing;

/// What every wall clock shows when a play begins.
pub(super) const WALL_US: u64 = 1_000_000_000;
/// Wakes at one moment that are no sign of a fault.
const WAKE_COUNT_MAX: usize = 64;

/// What makes the answers to an observer fresh.
pub const NONCE: u64 = 7;

/// What a replica did that others see.
#[derive(Debug)]
pub(super) enum Deed {
    Tell { to: Option<u16>, bytes: Arc<[u8]> },
    Evidence(Arc<Evidence>),
    FalseStripes(Lane, Term),
    Commit(Box<Header>),
    Failed(Failure),
}

#[derive(Debug)]
struct Alive {
    replica: Replica,
    ledger: Ledger,
    executing: VecDeque<Arc<Block>>,
    restoring: VecDeque<Arc<Gathered>>,
    syncing: Option<Barrier>,
}

/// See the module's header.
#[derive(Debug)]
pub(super) struct Node {
    number: u16,
    seed: [u8; 32],
    genesis: Genesis,
    chain: Hash,
    rules: Rules,
    wal_before_send: bool,
    stripe_size_min: usize,
    traps: Option<Traps>,
    dealing: Option<Arc<Dealing>>,
    disk: MemoryDisk,
    /// Whether the disk is not its first one, and the threshold if it was found.
    observer: Option<Option<Height>>,
    /// Whether it asks at its next starts whether its disk is the newest.
    asks: bool,
    mono_us: u64,
    alive: Option<Alive>,
    /// Messages whose records are written, and those whose records are durable.
    written: Vec<Vec<u8>>,
    durable: BTreeSet<Vec<u8>>,
    /// Chunks by hash, with their place and whether they are durable.
    chunks: BTreeMap<Hash, (Lane, u64, bool)>,
    headers: Vec<(Header, CommitCertificate)>,
    certified: BTreeMap<Height, StateCertificate>,
    /// The height that ordered each transaction here.
    ordered: BTreeMap<Hash, u64>,
    /// What it last told a client, and by which ticket.
    pub(super) told: Option<(Ticket, Answer)>,
}

impl Node {
    pub(super) fn new(
        number: u16,
        seed: [u8; 32],
        genesis: &Genesis,
        rules: Rules,
        wal_before_send: bool,
    ) -> Self {
        Self {
            number,
            seed,
            genesis: genesis.clone(),
            chain: chain_id(genesis),
            rules,
            wal_before_send,
            stripe_size_min: usize::MAX,
            traps: None,
            dealing: None,
            disk: MemoryDisk::new(),
            observer: None,
            asks: false,
            mono_us: 0,
            alive: None,
            written: Vec::new(),
            durable: BTreeSet::new(),
            chunks: BTreeMap::new(),
            headers: Vec::new(),
            certified: BTreeMap::new(),
            ordered: BTreeMap::new(),
            told: None,
        }
    }

    /// With its part in this coin.
    pub(super) fn with_coin(self, dealing: Option<Arc<Dealing>>) -> Self {
        Self { dealing, ..self }
    }

    /// From its next start on its bodies travel in stripes.
    pub(super) fn stripe(&mut self) {
        self.stripe_size_min = 1;
    }

    /// From its next start on it claims a false state of each height.
    pub(super) fn trap(&mut self) {
        self.traps = Some(Traps::new(self.seed, 1));
    }

    /// From its next start on it asks whether its disk is the newest.
    pub(super) fn ask(&mut self) {
        self.asks = true;
    }

    pub(super) fn is_alive(&self) -> bool {
        self.alive.is_some()
    }

    /// Last committed height, and the round of the next.
    pub(super) fn place(&self) -> (u64, u32) {
        let status = self.alive.as_ref().map(|alive| alive.replica.status());
        status.map_or((self.height(), 0), |status| (status.height.get(), status.round))
    }

    pub(super) fn height(&self) -> u64 {
        u64::try_from(self.headers.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn ordered(&self, tx: &Hash) -> Option<u64> {
        self.ordered.get(tx).copied()
    }

    pub(super) fn headers(&self) -> &[(Header, CommitCertificate)] {
        &self.headers
    }

    pub(super) fn now(&self) -> Now {
        Now { wall_us: WALL_US.saturating_add(self.mono_us), mono_us: self.mono_us }
    }

    /// Whether it has a certificate of a height's state.
    pub(super) fn is_certified(&self, height: u64) -> bool {
        self.certified.contains_key(&Height::new(height))
    }

    /// Whether a chunk is held, durably.
    pub(super) fn holds(&self, chunk: &Hash) -> bool {
        self.chunks.get(chunk).is_some_and(|(_, _, is_durable)| *is_durable)
    }

    pub(super) fn crash(&mut self) {
        self.alive = None;
    }

    /// Another disk, on which nothing is.
    pub(super) fn wipe(&mut self) {
        self.crash();
        self.disk = MemoryDisk::new();
        self.observer = Some(None);
        self.written.clear();
        self.chunks.clear();
    }

    fn schedule(&self) -> Schedule {
        Schedule::new(&self.genesis.validator_set(), usize::from(LANE_COUNT))
    }

    /// Starts from what the disk holds.
    pub(super) fn start(&mut self) -> Vec<Deed> {
        let config = LedgerConfig {
            segment_size: 1 << 20,
            wal_segment_size: 1 << 20,
            ..LedgerConfig::new(LANE_COUNT)
        };
        let opened = Ledger::open(Arc::new(self.disk.clone()), self.chain, config);
        let (ledger, found) = opened.expect("what a replica wrote opens");
        let epochs = read_epochs(&ledger.reader(), self.genesis.validator_set());
        let epochs = epochs.expect("what was committed reads back");
        let height = found.committed.as_ref().map_or(0, |(header, _)| header.height.get());
        let blocks: Vec<Block> = (1..=height)
            .map(|height| read_block(&ledger.reader(), &self.chain, Height::new(height)))
            .collect::<Result<_, _>>()
            .expect("what was committed reads back");
        self.headers.truncate(usize::try_from(height).unwrap_or(usize::MAX));
        let recovered = recover(&ledger, found, &self.chain, epochs, producers(&blocks))
            .expect("what a replica wrote reads back");
        let mut config = Config::new(self.genesis.clone(), secret(&self.seed));
        config.rules = self.rules;
        config.wal_before_send = self.wal_before_send;
        config.stripe_size_min = self.stripe_size_min;
        config.traps.clone_from(&self.traps);
        config.coin = self.dealing.as_ref().map(|dealing| dealing.scheme.clone());
        let own = ValidatorIndex::new(self.number);
        config.coin_secret = self.dealing.as_ref().and_then(|dealing| dealing.secret(own));
        config.check_nonce = self.asks.then_some(NONCE);
        config.observer = self.observer.map(|threshold| Observer { nonce: NONCE, threshold });
        let replica = Replica::new(self.now(), config, recovered).expect("it goes on");
        let (executing, restoring) = (VecDeque::new(), VecDeque::new());
        self.alive = Some(Alive { replica, ledger, executing, restoring, syncing: None });
        if let Some(block) = blocks.last() {
            self.step(executed(block));
        }
        self.work()
    }

    pub(super) fn link(&mut self, peer: ValidatorIndex) -> Vec<Deed> {
        self.step(Input::Linked(peer));
        self.work()
    }

    pub(super) fn submit(&mut self, admitted: Arc<Admitted>) -> Vec<Deed> {
        self.step(Input::Submit { ticket: 0, admitted, is_early: false });
        self.work()
    }

    pub(super) fn complain(&mut self, ticket: Ticket, grievance: Grievance) -> Vec<Deed> {
        self.step(Input::Complain { ticket, grievance: Box::new(grievance) });
        self.work()
    }

    pub(super) fn receive(
        &mut self,
        from: ValidatorIndex,
        received: Received,
    ) -> Result<Vec<Deed>, Refused> {
        let now = self.now();
        let Some(alive) = &mut self.alive else { return Ok(Vec::new()) };
        alive.replica.step(now, Input::Received { from, received })?;
        Ok(self.work())
    }

    /// Time passes; whatever falls due meanwhile is done.
    pub(super) fn pass(&mut self, us: u64) -> Vec<Deed> {
        let until = self.mono_us.saturating_add(us);
        let mut deeds = Vec::new();
        loop {
            let wake = self.alive.as_ref().and_then(|alive| alive.replica.wake_at());
            match wake.filter(|at| *at <= until && *at > self.mono_us) {
                Some(at) => self.mono_us = at,
                None => break,
            }
            self.step(Input::Timer);
            deeds.append(&mut self.work());
        }
        self.mono_us = until;
        self.step(Input::Timer);
        deeds.append(&mut self.work());
        deeds
    }

    fn step(&mut self, input: Input) {
        let now = self.now();
        if let Some(alive) = &mut self.alive {
            alive.replica.step(now, input).expect("own inputs are taken");
        }
    }

    /// Does everything that is asked, until nothing is.
    pub(super) fn work(&mut self) -> Vec<Deed> {
        let mut deeds = Vec::new();
        let mut wakes = 0_usize;
        loop {
            let Some(alive) = &mut self.alive else { return deeds };
            if let Some(effect) = alive.replica.poll() {
                self.effect(&effect, &mut deeds);
            } else if let Some(barrier) = alive.syncing.take() {
                alive.ledger.sync().expect("a disk in memory syncs");
                self.durable.extend(self.written.drain(..));
                self.chunks.values_mut().for_each(|(_, _, is_durable)| *is_durable = true);
                self.step(Input::Stored(barrier));
            } else if let Some(gathered) = alive.restoring.pop_front() {
                self.restore(&gathered, &mut deeds);
            } else if let Some(block) = alive.executing.pop_front() {
                self.step(executed(&block));
            } else if alive.replica.wake_at().is_some_and(|at| at <= self.mono_us) {
                wakes = wakes.saturating_add(1);
                if wakes > WAKE_COUNT_MAX {
                    deeds.push(Deed::Failed(Failure::new("SPINS", self.number.to_string())));
                    return deeds;
                }
                self.step(Input::Timer);
            } else {
                return deeds;
            }
        }
    }

    fn restore(&mut self, gathered: &Gathered, deeds: &mut Vec<Deed>) {
        let now = self.now();
        let Some(alive) = &mut self.alive else { return };
        let admissions = Admissions::new(self.chain, LANE_COUNT, 0);
        let restored = restore(alive.replica.context(), &admissions, gathered);
        let (lane, term, _) = gathered.place();
        if alive.replica.step(now, Input::Restored(restored)).is_err() {
            deeds.push(Deed::FalseStripes(lane, term));
        }
    }

    fn effect(&mut self, effect: &Effect, deeds: &mut Vec<Deed>) {
        let Some(alive) = &mut self.alive else { return };
        match write(effect, &mut alive.ledger) {
            Ok(false) => {}
            Ok(true) => return self.note(effect, deeds),
            // The log has a wall of its own against void branches; the play is about the one before it.
            Err(LogError::DoesNotLink { field: "branch", .. }) if !self.rules.branch => {
                return self.note(effect, deeds);
            }
            Err(error) => {
                return deeds.push(Deed::Failed(Failure::new("HALT", error.to_string())));
            }
        }
        match effect {
            Effect::Sync(barrier) => alive.syncing = Some(*barrier),
            Effect::Restore(gathered) => alive.restoring.push_back(Arc::clone(gathered)),
            Effect::Execute(block) => alive.executing.push_back(Arc::clone(block)),
            Effect::Serve { to, request } => {
                let certificate = |height| self.certified.get(&height).cloned();
                let answers = serve(&alive.ledger, certificate, request);
                let answers = answers.expect("what is stored reads back");
                deeds.extend(answers.iter().map(|answer| Deed::Tell {
                    to: Some(to.get()),
                    bytes: answer.to_bytes().into(),
                }));
            }
            Effect::Broadcast { bytes, .. } => self.say(None, bytes, deeds),
            Effect::Send { to, bytes, .. } => self.say(Some(to.get()), bytes, deeds),
            Effect::Answer { ticket, answer } => self.told = Some((*ticket, answer.clone())),
            Effect::Observing(threshold) => self.observer = Some(*threshold),
            Effect::Evidence(evidence) => deeds.push(Deed::Evidence(Arc::clone(evidence))),
            Effect::StateCertified(certificate) => {
                self.certified.insert(certificate.state.height, (**certificate).clone());
            }
            _ => {}
        }
    }

    /// Remembers what was written.
    fn note(&mut self, effect: &Effect, deeds: &mut Vec<Deed>) {
        match effect {
            Effect::WriteVote { bytes, .. } => {
                let record = Record::from_bytes(bytes).expect("own records read back");
                self.written.push(record.message().to_bytes());
            }
            Effect::WriteChunk(chunk) => {
                let tip = chunk.tip();
                self.chunks.insert(tip.chunk_hash, (tip.lane, tip.index, false));
            }
            Effect::CutLane { lane, index } => {
                self.chunks.retain(|_, (own, at, _)| own != lane || *at <= *index);
            }
            Effect::WriteHeader { block, certificate } => {
                let height = block.header.height.get();
                let all = block.ordered().map(|(_, admitted)| (admitted.tx, height));
                self.ordered.extend(all);
                self.headers.push((block.header.clone(), (**certificate).clone()));
                deeds.push(Deed::Commit(Box::new(block.header.clone())));
            }
            _ => {}
        }
    }

    /// Lets a message out, if what binds its sender is durable.
    fn say(&self, to: Option<u16>, bytes: &Arc<[u8]>, deeds: &mut Vec<Deed>) {
        let message = PeerMessage::from_bytes(bytes).expect("own messages read back");
        let is_bound = match &message {
            PeerMessage::Agreement(message) => self.is_bound(message),
            PeerMessage::Chunk(stored) => {
                // What another signed may be handed on from memory.
                self.holds_own(&stored.header)
            }
            PeerMessage::Stripe(stripe) => self.holds_own(&stripe.header),
            _ => true,
        };
        if !is_bound {
            let what = format!("{} said what it may forget: {message:?}", self.number);
            let what = what.chars().take(160).collect::<String>();
            deeds.push(Deed::Failed(Failure::new("LEFT EARLY", what)));
        }
        deeds.push(Deed::Tell { to, bytes: Arc::clone(bytes) });
    }

    /// Whether a chunk is another's, or held, durably.
    fn holds_own(&self, header: &ChunkHeader) -> bool {
        let sequencer = self.schedule().sequencer(header.lane, header.term);
        sequencer.get() != self.number || self.holds(&chunk_hash(header))
    }

    fn is_bound(&self, message: &Message) -> bool {
        let binds = !matches!(message, Message::Done(_) | Message::CoinShare(_));
        !binds
            || message.validator().get() != self.number
            || self.durable.contains(&message.to_bytes())
    }
}

/// What execution gives on a stage: the header's hash as the state.
fn executed(block: &Block) -> Input {
    let height = block.header.height;
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
    let state =
        SignedState { height, state_root: block.hash, receipts_root: block.hash, next_set: None };
    Input::Executed { state, receipts: Arc::new(receipts.collect()) }
}

fn producers(blocks: &[Block]) -> Vec<(Lane, PublicKey, Producer)> {
    let mut all: BTreeMap<(Lane, PublicKey), Producer> = BTreeMap::new();
    for (position, admitted) in blocks.iter().flat_map(Block::ordered) {
        let transaction = &admitted.transaction;
        let incarnation = transaction.incarnation;
        let next = Producer { incarnation, sequence: transaction.sequence.saturating_add(1) };
        all.insert((position.lane, transaction.signer), next);
    }
    all.into_iter().map(|((lane, signer), next)| (lane, signer, next)).collect()
}
