//! A stage for plays: a few real replicas, criminals who are keys alone, and a script that decides what arrives when.
//!
//! ```text
//!   script ── run(filter) ──> [ queue of letters ] ──> Replica (honest: ledger on a disk in memory, own clock)
//!     │  └─── timer, pass, crash ────────────────────────^  │
//!     └─ criminal signs anything ──> queue                  └─ everything that is said ──> [ judge ] ──> Failure
//! ```
//! Random runs hardly ever meet the schedules in which a rule matters; a play is one such schedule. Its outcome is `Ok`,
//! or the first thing that went wrong, by name:
//!
//! | name | what |
//! |---|---|
//! | FORK | precommits of a quorum on two headers of one height, or one that does not follow the last |
//! | LANE FORK | a committed tip that does not link, hash by hash, to the one before |
//! | VOID | a committed chunk that is not of its term's branch |
//! | NOT DURABLE | a committed chunk that honest validators of no more than a third hold durably |
//! | DEPOSED | a term ended that no third suspects, or no honest validator |
//! | TIME | a committed time beyond every honest clock |
//! | HONEST NAMED | evidence, or stripes that give no chunk, against a validator that keeps all rules |
//! | BLAMED | what an honest validator sent is an offence to another (looked for while all rules hold) |
//! | LEFT EARLY | something left before its record was durable |
//! | HALT | a replica that asks the log for what it refuses |
//! | SPINS | a replica that asks to be woken again and again at one moment |
//! | STALL | no progress though everything arrives and time passes |
//!
//! CENSORED, KEPT, RARE and UNCAUGHT are said by plays themselves. Validators are numbered by rank: `0` is the first primary,
//! lane `l` is first sequenced by `l`, round `r` of the first heights is led by `r`. A stage with a coin knows every
//! share of it, so a play can choose whom the coin elects; criminals attach only coins that anyone could know.
#![expect(clippy::arithmetic_side_effects, reason = "counts and times of a short play")]

mod coin;
mod complaint;
mod crime;
mod judge;
mod node;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use quipu_consensus::Rules;
use quipu_consensus::{Change, Context, Evidence, Message, Parent};
use quipu_crypto::suite::SecretKey;
use quipu_proof::names::{TransactionDraft, chain_id, sign_transaction};
use quipu_replica::{Admissions, PeerMessage, Refused, admit, receive};
use quipu_types::genesis::{GENESIS_VERSION, GenesisValidator};
use quipu_types::{
    Action, CoinSetup, Encode, Genesis, Height, Lane, Precommit, Prevote, Propose, RoundChange,
    RoundKind, Signature, Suite, Term, Time, ValidatorIndex,
};
use thiserror::Error;

use crate::coins::Dealing;

pub use complaint::Client;
pub use crime::Strand;
use judge::Judge;
pub use node::NONCE;
use node::{Deed, Node};

/// Lanes of a stage's ledger.
pub const LANE_COUNT: u16 = 2;
/// Time without a commit after which a height is made all the same.
pub const IDLE_US: u64 = 20_000;
/// Steps of [`Stage::settle`], and how long each is.
const SETTLE_COUNT: usize = 2_000;
const STEP_US: u64 = 20_000;
/// Longest time until a round's timer fires.
const TIMER_COUNT_MAX: usize = 6_000;
const TIMER_US: u64 = 10_000;

/// What went wrong in a play, by name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{name}: {what}")]
pub struct Failure {
    /// As in the module's header; SETUP when the play itself did not come about.
    pub name: &'static str,
    /// What was seen.
    pub what: String,
}

impl Failure {
    /// A failure of this name.
    #[must_use]
    pub fn new(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, what: what.into() }
    }
}

/// How a play ends.
pub type Outcome = Result<(), Failure>;

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Who sent it.
    pub from: u16,
    /// To whom.
    pub to: u16,
    /// What it says.
    pub message: Arc<PeerMessage>,
    bytes: Arc<[u8]>,
}

/// What a letter is, as scripts tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// A proposal of a round.
    Propose(u32),
    /// A first vote in a round.
    Prevote(u32),
    /// A second vote in a round.
    Precommit(u32),
    /// A change to a round.
    Change(u32),
    /// A part in the coin of an open round.
    Share(u32),
    /// An open round has decided.
    Done,
    /// Chunks are held.
    Ack,
    /// A vote on a state.
    State,
    /// A state that is claimed.
    Claim,
    /// A chunk.
    Chunk,
    /// A part of a chunk.
    Stripe,
    /// Questions, answers, and the rest.
    Other,
}

impl Letter {
    /// What it is.
    #[must_use]
    pub fn word(&self) -> Word {
        match &*self.message {
            PeerMessage::Agreement(Message::Propose(propose)) => Word::Propose(propose.round),
            PeerMessage::Agreement(Message::Prevote(vote)) => Word::Prevote(vote.round),
            PeerMessage::Agreement(Message::Precommit(vote)) => Word::Precommit(vote.round),
            PeerMessage::Agreement(Message::RoundChange(Change { change, .. })) => {
                Word::Change(change.round)
            }
            PeerMessage::Agreement(Message::CoinShare(share)) => Word::Share(share.round),
            PeerMessage::Agreement(Message::Done(_)) => Word::Done,
            PeerMessage::Agreement(Message::Ack(_)) => Word::Ack,
            PeerMessage::Agreement(Message::StateVote(_)) => Word::State,
            PeerMessage::Claim(_) => Word::Claim,
            PeerMessage::Chunk(_) => Word::Chunk,
            PeerMessage::Stripe(_) => Word::Stripe,
            _ => Word::Other,
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Who proposed what a proposal or a vote is about.
    #[must_use]
    pub fn instance(&self) -> Option<u16> {
        let PeerMessage::Agreement(message) = &*self.message else { return None };
        let instance = match message {
            Message::Propose(propose) => propose.instance,
            Message::Prevote(vote) => vote.instance,
            Message::Precommit(vote) => vote.instance,
            _ => return None,
        };
        Some(instance.get())
    }

    /// The height of a vote, a proposal or a round change.
    #[must_use]
    pub fn height(&self) -> Option<u64> {
        let PeerMessage::Agreement(message) = &*self.message else { return None };
        let height = match message {
            Message::Propose(propose) => propose.height,
            Message::Prevote(vote) => vote.height,
            Message::Precommit(vote) => vote.height,
            Message::RoundChange(Change { change, .. }) => change.height,
            Message::CoinShare(share) => share.height,
            Message::Done(certificate) => certificate.precommits.first()?.height,
            Message::Ack(_) | Message::StateVote(_) => return None,
        };
        Some(height.get())
    }
}

/// See the module's header.
#[derive(Debug)]
pub struct Stage {
    genesis: Genesis,
    context: Context,
    admissions: Admissions,
    dealing: Option<Arc<Dealing>>,
    seeds: Vec<[u8; 32]>,
    nodes: BTreeMap<u16, Node>,
    queue: Vec<Letter>,
    judge: Judge,
    signer_count: u64,
    named: BTreeSet<(u16, &'static str)>,
    failure: Option<Failure>,
}

impl Stage {
    /// `count` validators of equal stake, of whom `criminals` have no replica.
    ///
    /// # Panics
    /// Never: a new ledger in memory opens.
    #[must_use]
    pub fn new(count: u8, criminals: &[u16], rules: Rules) -> Self {
        Self::with(count, criminals, rules, true)
    }

    /// As [`new`](Self::new), and whether what leaves waits for its records.
    ///
    /// # Panics
    /// Never: a new ledger in memory opens.
    #[must_use]
    pub fn with(count: u8, criminals: &[u16], rules: Rules, wal_before_send: bool) -> Self {
        Self::weighted(&vec![1; usize::from(count)], criminals, rules, wal_before_send)
    }

    /// As [`with`](Self::with), with these stakes, the greatest first.
    ///
    /// # Panics
    /// Never: a new ledger in memory opens.
    #[must_use]
    pub fn weighted(
        powers: &[u64],
        criminals: &[u16],
        rules: Rules,
        wal_before_send: bool,
    ) -> Self {
        let seeds = seeds(powers.len());
        let genesis = genesis(&seeds, powers, "stage", None);
        Self::raise(seeds, genesis, criminals, (rules, wal_before_send), None)
    }

    /// With bodies in stripes, whatever their size.
    ///
    /// # Panics
    /// Never: what a replica wrote opens again.
    #[must_use]
    pub fn striped(self) -> Self {
        self.again(Node::stripe)
    }

    /// With a trap of every honest validator at each height.
    ///
    /// # Panics
    /// Never: what a replica wrote opens again.
    #[must_use]
    pub fn trapping(self) -> Self {
        self.again(Node::trap)
    }

    /// Starts all anew, each changed.
    fn again(mut self, change: impl Fn(&mut Node)) -> Self {
        for number in self.honest() {
            self.crash(number);
            if let Some(node) = self.nodes.get_mut(&number) {
                change(node);
            }
        }
        self.queue.clear();
        for number in self.honest() {
            self.restart(number);
        }
        self
    }

    fn raise(
        seeds: Vec<[u8; 32]>,
        genesis: Genesis,
        criminals: &[u16],
        (rules, wal_before_send): (Rules, bool),
        dealing: Option<Arc<Dealing>>,
    ) -> Self {
        let chain = chain_id(&genesis);
        let coin = dealing.as_ref().map(|dealing| dealing.scheme.clone());
        let set = genesis.validator_set();
        let context = Context { rules, coin, ..Context::new(chain, set, LANE_COUNT) };
        let numbered = (0_u16..).zip(&seeds);
        let honest = numbered.filter(|(number, _)| !criminals.contains(number));
        let nodes = honest.map(|(number, seed)| {
            let node = Node::new(number, *seed, &genesis, rules, wal_before_send);
            (number, node.with_coin(dealing.clone()))
        });
        let nodes = nodes.collect();
        let judge = Judge::new(context.clone(), criminals.to_vec(), &genesis, dealing.clone());
        let mut stage = Self {
            genesis,
            context,
            admissions: Admissions::new(chain, LANE_COUNT, 1 << 20),
            dealing,
            seeds,
            nodes,
            queue: Vec::new(),
            judge,
            signer_count: 0,
            named: BTreeSet::new(),
            failure: None,
        };
        stage.work_all();
        stage
    }

    /// The numbers of the honest.
    #[must_use]
    pub fn honest(&self) -> Vec<u16> {
        self.nodes.keys().copied().collect()
    }

    /// The chain, the set, who leads and sequences.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// The first failure, if there was one.
    ///
    /// # Errors
    /// That failure.
    pub fn verdict(&self) -> Outcome {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Whom evidence named so far, and for what.
    #[must_use]
    pub const fn named(&self) -> &BTreeSet<(u16, &'static str)> {
        &self.named
    }

    /// Fails the play, unless what it needs has come about.
    ///
    /// # Errors
    /// The first failure, or SETUP.
    pub fn set_up(&self, holds: bool, what: &str) -> Outcome {
        self.verdict()?;
        let state = || format!("{what} ({})", self.describe());
        if holds { Ok(()) } else { Err(Failure::new("SETUP", state())) }
    }

    /// Delivers the letters that `passes` lets through, those that come meanwhile too, until none is left. The others
    /// stay on their way.
    pub fn run(&mut self, passes: impl Fn(&Letter) -> bool) {
        loop {
            let mut kept = Vec::new();
            let mut any = false;
            for letter in std::mem::take(&mut self.queue) {
                if self.failure.is_none() && passes(&letter) {
                    any = true;
                    self.deliver(&letter);
                } else {
                    kept.push(letter);
                }
            }
            kept.append(&mut self.queue);
            self.queue = kept;
            if !any {
                return;
            }
        }
    }

    /// Letters on their way.
    #[must_use]
    pub fn letters(&self) -> &[Letter] {
        &self.queue
    }

    /// Delivers one letter; a repeat of it may stay on its way.
    pub fn deliver_one(&mut self, place: usize, stays: bool) {
        let Some(letter) = self.queue.get(place).cloned() else { return };
        if !stays {
            self.queue.remove(place);
        }
        if self.failure.is_none() {
            self.deliver(&letter);
        }
    }

    /// Lets letters go lost.
    pub fn lose(&mut self, is_lost: impl Fn(&Letter) -> bool) {
        self.queue.retain(|letter| !is_lost(letter));
    }

    /// Time passes for everyone, and nothing arrives.
    pub fn pass(&mut self, us: u64) {
        for number in self.honest() {
            self.pass_of(number, us);
        }
    }

    /// Time passes for one.
    pub fn pass_of(&mut self, number: u16, us: u64) {
        if self.failure.is_some() {
            return;
        }
        let Some(node) = self.nodes.get_mut(&number) else { return };
        let deeds = node.pass(us);
        self.judge_all(number, deeds);
    }

    /// Time passes for one until it leaves its round, or begins one.
    pub fn timer(&mut self, number: u16) {
        let before = self.nodes.get(&number).map(Node::place);
        for _ in 0..TIMER_COUNT_MAX {
            if self.nodes.get(&number).map(Node::place) != before || self.failure.is_some() {
                return;
            }
            self.pass_of(number, TIMER_US);
        }
    }

    /// As [`run`](Self::run), again and again while time passes in small steps: for what is asked for again.
    pub fn run_for(&mut self, us: u64, passes: impl Fn(&Letter) -> bool) {
        for _ in 0..us.div_ceil(STEP_US) {
            self.run(&passes);
            self.pass(STEP_US);
        }
        self.run(&passes);
    }

    /// A client's transaction comes to one, for a lane.
    ///
    /// # Panics
    /// Never: some signer's lane is every lane.
    pub fn submit(&mut self, number: u16, lane: u16) {
        self.submit_sized(number, lane, 9);
    }

    /// The same, with a payload of so many bytes.
    ///
    /// # Panics
    /// If that is more than a transaction holds.
    pub fn submit_sized(&mut self, number: u16, lane: u16, payload_size: usize) {
        let chain = self.context.chain;
        let payload = vec![7; payload_size];
        let action = Action::Append { stream: "s".into(), key: Vec::new(), payload };
        let admitted = (0..u16::MAX).find_map(|_| {
            self.signer_count += 1;
            let mut seed = [200; 32];
            seed.first_chunk_mut::<8>()?.copy_from_slice(&self.signer_count.to_le_bytes());
            let draft = TransactionDraft {
                incarnation: 0,
                sequence: 1,
                anchor: chain,
                route: None,
                actions: vec![action.clone()],
            };
            let bytes = sign_transaction(&secret(&seed), &chain, draft).to_bytes();
            let admitted = admit(&chain, LANE_COUNT, bytes.into()).ok()?;
            (admitted.lane.get() == lane).then(|| Arc::new(admitted))
        });
        let admitted = admitted.expect("some signer's lane is this one");
        let deeds = self.nodes.get_mut(&number).map(|node| node.submit(admitted));
        self.judge_all(number, deeds.unwrap_or_default());
    }

    /// The process of one dies; what it wrote survives, what was on its way to it does not.
    pub fn crash(&mut self, number: u16) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.crash();
        }
        self.queue.retain(|letter| letter.to != number);
    }

    /// Starts one again, and links it with the others.
    ///
    /// # Panics
    /// Never: what a replica wrote opens again.
    pub fn restart(&mut self, number: u16) {
        let Some(node) = self.nodes.get_mut(&number) else { return };
        let mut deeds = node.start();
        let others: Vec<u16> = self.context_numbers().filter(|other| *other != number).collect();
        if let Some(node) = self.nodes.get_mut(&number) {
            deeds.extend(others.iter().flat_map(|other| node.link(index(*other))));
        }
        self.judge_all(number, deeds);
        for other in others {
            let deeds = self.nodes.get_mut(&other).map(|node| node.link(index(number)));
            self.judge_all(other, deeds.unwrap_or_default());
        }
    }

    /// The process of one dies and starts again on its disk, and asks the others whether that is the newest.
    pub fn restart_asking(&mut self, number: u16) {
        self.crash(number);
        if let Some(node) = self.nodes.get_mut(&number) {
            node.ask();
        }
        self.restart(number);
    }

    /// One loses its disk, and begins anew on an empty one; what it said may still be under way.
    pub fn wipe(&mut self, number: u16) {
        self.crash(number);
        if let Some(node) = self.nodes.get_mut(&number) {
            node.wipe();
        }
        self.restart(number);
    }

    /// Everything arrives and time passes until every honest validator has committed `height`.
    ///
    /// # Errors
    /// The first failure, or STALL.
    pub fn settle(&mut self, height: u64) -> Outcome {
        for number in self.honest() {
            if self.nodes.get(&number).is_some_and(|node| !node.is_alive()) {
                self.restart(number);
            }
        }
        for _ in 0..SETTLE_COUNT {
            self.run(|_| true);
            self.verdict()?;
            if self.nodes.values().all(|node| node.height() >= height) {
                return Ok(());
            }
            self.pass(STEP_US);
        }
        Err(Failure::new("STALL", format!("below height {height}: {}", self.describe())))
    }

    /// As [`settle`](Self::settle); then, until every honest validator has the certificate of that height's state.
    ///
    /// # Errors
    /// The first failure, STALL, or UNPROVEN.
    pub fn settle_proven(&mut self, height: u64) -> Outcome {
        self.settle(height)?;
        for _ in 0..SETTLE_COUNT {
            if self.nodes.values().all(|node| node.is_certified(height)) {
                return Ok(());
            }
            self.pass(STEP_US);
            self.run(|_| true);
            self.verdict()?;
        }
        Err(Failure::new("UNPROVEN", format!("height {height}: {}", self.describe())))
    }

    /// Where each honest validator stands.
    #[must_use]
    pub fn describe(&self) -> String {
        let places = self.nodes.iter().map(|(number, node)| {
            let (height, round) = node.place();
            format!("{number}: h{} r{round}", height + 1)
        });
        places.collect::<Vec<_>>().join(", ")
    }

    /// Whether the process of one runs.
    #[must_use]
    pub fn is_alive(&self, number: u16) -> bool {
        self.nodes.get(&number).is_some_and(Node::is_alive)
    }

    /// Last committed height of one.
    #[must_use]
    pub fn height(&self, number: u16) -> u64 {
        self.nodes.get(&number).map_or(0, Node::height)
    }

    /// Round of one.
    #[must_use]
    pub fn round(&self, number: u16) -> u32 {
        self.nodes.get(&number).map_or(0, |node| node.place().1)
    }

    /// What the header after `height` follows, as one that committed it sees it; none when it did not.
    #[must_use]
    pub fn parent(&self, number: u16, height: u64) -> Option<Parent> {
        let node = self.nodes.get(&number)?;
        let chain = self.context.chain;
        let mut parent =
            Parent::genesis(chain, self.genesis.time_us, LANE_COUNT, self.genesis.rounds());
        let height = usize::try_from(height).ok()?;
        let headers = node.headers().get(..height)?;
        for (header, certificate) in headers {
            parent = Parent::of(header, certificate.clone(), &parent, &self.context.schedule);
        }
        Some(parent)
    }

    /// The current term of a lane, after what one has committed.
    #[must_use]
    pub fn term(&self, number: u16, lane: u16) -> Option<Term> {
        let parent = self.parent(number, self.height(number))?;
        parent.terms.get(usize::from(lane)).map(|current| current.term)
    }

    /// Of which kind a round is; led, when nobody honest knows.
    #[must_use]
    pub fn kind(&self, height: u64, round: u32) -> RoundKind {
        let before = height.saturating_sub(1);
        let parent = self.nodes.keys().find_map(|number| self.parent(*number, before));
        let kind = |parent: Parent| parent.rounds.kind(Height::new(height), round).0;
        parent.map_or(RoundKind::Led, kind)
    }

    /// The last proposal of a round that anyone made.
    #[must_use]
    pub fn proposal(&self, height: u64, round: u32) -> Option<Propose> {
        self.proposals(height, round).next_back().cloned()
    }

    /// The last proposal of an instance of an open round.
    #[must_use]
    pub fn proposal_of(&self, height: u64, round: u32, instance: u16) -> Option<Propose> {
        let mut all = self.proposals(height, round).rev();
        all.find(|propose| propose.instance.get() == instance).cloned()
    }

    fn proposals(&self, height: u64, round: u32) -> impl DoubleEndedIterator<Item = &Propose> {
        let place = (Height::new(height), round);
        let all = self.judge.proposals.iter();
        all.filter(move |propose| (propose.height, propose.round) == place)
    }

    /// The round changes that honest validators have said for a place.
    #[must_use]
    pub fn changes(&self, height: u64, round: u32) -> Vec<RoundChange> {
        let place = (Height::new(height), round);
        let all = self.judge.changes.values().map(|(change, _)| *change);
        all.filter(|change| (change.height, change.round) == place).collect()
    }

    /// The prevotes of a round that anyone made, by validator.
    #[must_use]
    pub fn prevotes(&self, height: u64, round: u32) -> Vec<Prevote> {
        let place = (Height::new(height), round);
        let all = self.judge.prevotes.values();
        all.filter(|vote| (vote.height, vote.round) == place).cloned().collect()
    }

    /// The precommits of a round that anyone made, by validator.
    #[must_use]
    pub fn precommits(&self, height: u64, round: u32) -> Vec<Precommit> {
        let place = (Height::new(height), round);
        let all = self.judge.precommits.values();
        all.filter(|vote| (vote.height, vote.round) == place).cloned().collect()
    }

    fn context_numbers(&self) -> impl Iterator<Item = u16> {
        0..u16::try_from(self.seeds.len()).unwrap_or(u16::MAX)
    }

    fn work_all(&mut self) {
        for number in self.honest() {
            let deeds = self.nodes.get_mut(&number).map(Node::start).unwrap_or_default();
            self.judge_all(number, deeds);
        }
    }

    fn deliver(&mut self, letter: &Letter) {
        let Some(node) = self.nodes.get_mut(&letter.to) else { return };
        let received = receive(&self.context, &self.admissions, &letter.bytes);
        let is_honest = !self.judge.criminals.contains(&letter.from);
        let taken: Result<Vec<Deed>, Refused> = match received {
            Ok(received) => node.receive(index(letter.from), received),
            Err(error) => Err(error.into()),
        };
        match taken {
            Ok(deeds) => self.judge_all(letter.to, deeds),
            Err(refused) => {
                let deeds = node.work();
                self.judge_all(letter.to, deeds);
                if refused.is_offence() && is_honest && self.context.rules == Rules::ALL {
                    let what = format!("{} by {}: {refused}", letter.from, letter.to);
                    self.fail(Failure::new("BLAMED", what));
                }
            }
        }
    }

    fn judge_all(&mut self, number: u16, deeds: Vec<Deed>) {
        for deed in deeds {
            match deed {
                Deed::Tell { to, bytes } => self.post(number, to, bytes),
                Deed::Evidence(evidence) => self.accuse(&evidence, true),
                Deed::FalseStripes(lane, term) => self.suspect_of_stripes(number, lane, term),
                Deed::Commit(header) => {
                    let judged = self.judge.commit(&header);
                    judged.unwrap_or_else(|failure| self.fail(failure));
                }
                Deed::Failed(failure) => self.fail(failure),
            }
        }
    }

    /// Looks whom evidence names. What an honest validator puts out has to hold.
    fn accuse(&mut self, evidence: &Evidence, has_to_hold: bool) {
        let culprit = evidence.culprit(&self.context).map(ValidatorIndex::get);
        let is_right = |culprit| self.judge.criminals.contains(&culprit);
        self.named.extend(culprit.map(|culprit| (culprit, evidence.kind())));
        if !culprit.map_or(!has_to_hold, is_right) {
            let what = format!("{} against {culprit:?}", evidence.kind());
            self.fail(Failure::new("HONEST NAMED", what));
        }
    }

    /// Stripes that were taken for the sequencer's own give no chunk, so its term is to end.
    fn suspect_of_stripes(&mut self, by: u16, lane: Lane, term: Term) {
        let sequencer = self.context.epochs.sequencer(lane, term);
        if !self.judge.criminals.contains(&sequencer.get()) {
            let what = format!("{by} has stripes of {sequencer:?} that give no chunk");
            self.fail(Failure::new("HONEST NAMED", what));
        }
    }

    /// Puts what `from` says into the queue of one, or of all, and shows it to the judge.
    fn post(&mut self, from: u16, to: Option<u16>, bytes: Arc<[u8]>) {
        let Ok(message) = quipu_types::Decode::from_bytes(&bytes) else {
            // Nobody would take it from a criminal.
            if self.judge.criminals.contains(&from) {
                return;
            }
            return self.fail(Failure::new("SETUP", "a message that does not read back"));
        };
        let message: Arc<PeerMessage> = Arc::new(message);
        let judged = self.judge.hear(&message, &self.nodes);
        judged.unwrap_or_else(|failure| self.fail(failure));
        for evidence in self.judge.accusations(&message) {
            self.accuse(&evidence, false);
        }
        let all: Vec<u16> = self.nodes.keys().copied().filter(|other| *other != from).collect();
        for to in to.map_or(all, |to| vec![to]) {
            if self.nodes.get(&to).is_some_and(Node::is_alive) {
                let (message, bytes) = (Arc::clone(&message), Arc::clone(&bytes));
                self.queue.push(Letter { from, to, message, bytes });
            }
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }
}

fn index(number: u16) -> ValidatorIndex {
    ValidatorIndex::new(number)
}

fn secret(seed: &[u8; 32]) -> SecretKey {
    SecretKey::from_seed(Suite::Ed25519Sha256, *seed)
}

/// The keys of so many validators, the first in rank first.
fn seeds(count: usize) -> Vec<[u8; 32]> {
    let numbers = 1..=u8::try_from(count).unwrap_or(u8::MAX);
    let mut seeds: Vec<[u8; 32]> = numbers.map(|number| [number; 32]).collect();
    // Of equal stakes the greater key is first in rank.
    seeds.sort_by_key(|seed| std::cmp::Reverse(secret(seed).public()));
    seeds
}

fn genesis(seeds: &[[u8; 32]], powers: &[u64], name: &str, coin: Option<CoinSetup>) -> Genesis {
    let validator = |(number, (seed, power)): (usize, (&[u8; 32], &u64))| GenesisValidator {
        name: format!("v{number}"),
        key: secret(seed).public(),
        power: *power,
        possession: Signature([0; 64]),
        owner: None,
    };
    Genesis {
        version: GENESIS_VERSION,
        name: name.to_owned(),
        time_us: Time::new(1),
        lane_count: LANE_COUNT,
        clock_seed: "stage".to_owned(),
        clock_rate_hz: 1_000,
        hash_rate_fastest_hz: 1_000_000,
        anchor_window_heights: 100,
        height_interval_min_ms: 5,
        height_interval_idle_ms: IDLE_US / 1_000,
        open_streams: true,
        validators: seeds.iter().zip(powers).enumerate().map(validator).collect(),
        accounts: Vec::new(),
        coin,
        stake: None,
    }
}
