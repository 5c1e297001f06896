//! The world: what happens when. Everything that takes time is an event in one queue, ordered by virtual time.
//!
//! ```text
//!  clients ── Submit ─> node: Replica ── effects ─> Ledger on CrashDisk · Machine · Network ── Arrive ─> node …
//!                         ^  step(now, input)          └ Synced    └ Executed
//!                         └── Wake (its own clocks)
//!  faults: Crash, Start, Split, Heal, Jump, Stop; at `fault_ms` they freeze, and everything has to come to rest
//! ```
#![expect(clippy::arithmetic_side_effects, reason = "counts and times of a bounded run")]

mod clients;
mod effects;
mod faults;
mod measure;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use quipu_consensus::{Context, Message};
use quipu_crypto::hash::sha256;
use quipu_log::LedgerReader;
use quipu_proof::names::chain_id;
use quipu_replica::peer::STRIPE_TAG;
use quipu_replica::{Admissions, Gathered, Input, ReceiveError, Received, Ticket, receive};
use quipu_types::{Genesis, Height, Lane, ValidatorIndex};

use crate::actors::{Actor, Forged, Scene};
use crate::client::{Client, client_key};
use crate::coins::Dealing;
use crate::network::{Network, Way};
use crate::node::{Node, PENDING_SIZE_MAX, Sync};
use crate::probe::Probe;
use crate::shape::{CLIENT_COUNT, LANE_COUNT, Shape};
use crate::stakes::Stakes;
use crate::verdict::{self, History};
use crate::witness::Witness;
use crate::{Broken, Commit, Profile, Report, Totals, Violation, rule};
use clients::Asked;
use faults::Death;

/// Virtual time in which a world whose faults ended has to come to rest.
const REST_US: u64 = 40_000_000;
/// Heights that every world reaches.
const HEIGHT_COUNT_MIN: u64 = 20;
/// Most bytes on their way at once.
const IN_FLIGHT_SIZE_MAX: usize = 32 << 20;
/// Most bytes of transactions that need no second check.
const ADMISSIONS_SIZE_MAX: usize = 1 << 20;

/// A message on its way, checked once for all who get it: the check is a pure function.
#[derive(Debug)]
pub(crate) struct Parcel {
    bytes: Arc<[u8]>,
    received: std::cell::OnceCell<Result<Received, ReceiveError>>,
}

/// What happens at a time.
#[derive(Clone, Debug)]
enum Event {
    Arrive { from: usize, to: usize, parcel: Rc<Parcel> },
    Linked { at: usize, peer: usize },
    Wake { node: usize, life: u64 },
    Work { node: usize, life: u64 },
    Synced { node: usize, life: u64 },
    Executed { node: usize, life: u64 },
    Restored { node: usize, life: u64, gathered: Arc<Gathered> },
    Client(usize),
    Expire(Ticket),
    Die(usize, Death),
    Start(usize),
    Split(usize),
    Heal(usize),
    Jump(usize),
    Copy,
}

/// See the module's header.
#[derive(Debug)]
pub(crate) struct World {
    seed: u64,
    profile: Profile,
    random: fastrand::Rng,
    genesis: Genesis,
    context: Context,
    /// What makes coins, where there are any.
    dealing: Option<Arc<Dealing>>,
    /// What criminals said that nobody may take.
    forged: Forged,
    /// What any validator of the world admitted, the others need not check.
    admissions: Admissions,
    shape: Shape,
    now_us: u64,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    nodes: Vec<Node>,
    network: Network,
    in_flight_size: usize,
    partitions: Vec<Vec<Way>>,
    clients: Vec<Client>,
    stakes: Stakes,
    asked: BTreeMap<Ticket, Asked>,
    next_ticket: Ticket,
    history: History,
    witness: Witness,
    commits: Vec<Commit>,
    is_fair: bool,
    has_wiped: bool,
    step: usize,
    totals: Totals,
    /// Lanes that have not moved in the epoch, and since when they wait.
    waiting: BTreeMap<Lane, u64>,
    digest: u64,
    trace: Vec<String>,
    /// In a measured world.
    probe: Option<Probe>,
}

impl World {
    pub(crate) fn new(seed: u64, profile: &Profile) -> Self {
        Self::with_idle(seed, profile, None)
    }

    /// With a heartbeat that is given, not chosen.
    fn with_idle(seed: u64, profile: &Profile, idle_ms: Option<u64>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut shape = Shape::new(&mut random, profile);
        shape.idle_ms = idle_ms.unwrap_or(shape.idle_ms);
        let genesis = shape.genesis();
        let chain = chain_id(&genesis);
        let mut context = Context::new(chain, genesis.validator_set(), LANE_COUNT);
        context.sets_change = genesis.stake.is_some();
        // What comes is checked with the world's context, the rest by each replica with its own.
        context.rules.stripes_proven = profile.rules.stripes_proven;
        let joiners = std::iter::repeat_n(&None, shape.joiner_count);
        let guilty = shape.crimes.iter().chain(joiners);
        let verified = &context.verified;
        let nodes = (0..)
            .zip(guilty)
            .map(|(number, crime)| {
                let mut node =
                    Node::new(number, *crime, verified, shape.stripe_size_min, &mut random);
                node.trap_heights = shape.trap_heights;
                node
            })
            .collect();
        let may_lose_disks = shape.may_lose_disks;
        let stakes = Stakes::new(&shape, &chain, client_key(0).account());
        let mut history = History::default();
        history.has_coin = shape.has_coin;
        Self {
            seed,
            profile: *profile,
            nodes,
            random,
            genesis,
            admissions: Admissions::new(chain, LANE_COUNT, ADMISSIONS_SIZE_MAX),
            context,
            dealing: shape.has_coin.then(|| Dealing::of(&shape.units())),
            forged: Forged::default(),
            now_us: 0,
            events: BTreeMap::new(),
            next_event: 0,
            network: Network::new(&shape),
            shape,
            in_flight_size: 0,
            partitions: Vec::new(),
            clients: (0..CLIENT_COUNT).map(Client::new).collect(),
            stakes,
            asked: BTreeMap::new(),
            next_ticket: 0,
            history,
            witness: Witness::default(),
            commits: Vec::new(),
            is_fair: false,
            has_wiped: !may_lose_disks,
            step: 0,
            totals: Totals::default(),
            waiting: BTreeMap::new(),
            digest: 0xcbf2_9ce4_8422_2325,
            trace: Vec::new(),
            probe: None,
        }
    }

    pub(crate) fn run(mut self) -> Result<Report, Box<Violation>> {
        match self.live() {
            Ok(()) => Ok(Report {
                seed: self.seed,
                height_count: self.height(),
                totals: self.totals,
                commits: self.commits,
                storm_us: self.shape.storm_us,
                digest: sha256(&self.digest.to_le_bytes()),
                trace: self.trace,
            }),
            Err(Broken { rule, what }) => Err(Box::new(Violation {
                seed: self.seed,
                turn: self.step,
                rule,
                what,
                trace: self.trace,
            })),
        }
    }

    fn live(&mut self) -> Result<(), Broken> {
        self.plan();
        let fault_us = self.profile.fault_ms * 1_000;
        while self.next_at().is_some_and(|at_us| at_us < fault_us) {
            self.turn()?;
        }
        self.now_us = self.now_us.max(fault_us);
        self.freeze()?;
        let rest_us = self.now_us + REST_US;
        let height = (self.height() + 3).max(HEIGHT_COUNT_MIN);
        while !self.is_at_rest(height) {
            let Some(at_us) = self.next_at().filter(|at_us| *at_us < rest_us) else {
                return Err(Broken { rule: "L1", what: self.unrest(height) });
            };
            self.now_us = at_us;
            self.turn()?;
        }
        self.judge()
    }

    /// Heights committed by anyone.
    fn height(&self) -> u64 {
        u64::try_from(self.witness.committed.len()).unwrap_or(u64::MAX)
    }

    fn honest(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.is_honest)
    }

    /// Every honest validator is up, speaks, has the height and the certificates of all that it executed before; every
    /// client has its answers.
    fn is_at_rest(&self, height: u64) -> bool {
        self.witness.committed.len() >= usize::try_from(height).unwrap_or(usize::MAX)
            && self.clients.iter().all(Client::is_done)
            && self.honest().all(|node| {
                let status = node.alive.as_ref().map(|alive| alive.replica.status());
                status.is_some_and(|status| {
                    status.executed >= Height::new(height)
                        && !status.observing
                        && node.uncertified(Height::new(height)).next().is_none()
                })
            })
    }

    fn unrest(&self, height: u64) -> String {
        let nodes = self.nodes.iter().map(|node| {
            let alive = node.alive.as_ref();
            alive.map_or("down".to_owned(), |alive| {
                let status = alive.replica.status();
                let (round, pending) = (status.round, status.pending_count);
                let open: Vec<u64> =
                    node.uncertified(Height::new(height)).take(3).map(Height::get).collect();
                format!("{} r{round} p{pending} o{} u{open:?}", status.height, status.observing)
            })
        });
        let nodes: Vec<String> = nodes.collect();
        let open = self.clients.iter().filter(|client| !client.is_done()).count();
        format!("no rest at height {height}: {nodes:?}, {open} clients wait")
    }

    fn judge(&mut self) -> Result<(), Broken> {
        let mut highest: Option<LedgerReader> = None;
        for node in self.nodes.iter_mut().filter(|node| node.is_honest) {
            let mut alive = node.alive.take().expect("a world at rest is alive");
            if let Some(Sync { group, .. }) = alive.syncing.take() {
                let done = group.run().and_then(|()| alive.ledger.synced(group));
                rule(done.is_ok(), "V5", || format!("{done:?}"))?;
            }
            let reader = alive.ledger.reader();
            verdict::check_headers(&self.witness.committed, &reader)?;
            let is_whole = reader.first_whole_height().is_ok_and(|first| first == Height::new(1));
            let is_higher = |highest: &LedgerReader| highest.height() < reader.height();
            if is_whole && highest.as_ref().is_none_or(is_higher) {
                highest = Some(reader);
            }
            let closed = alive.ledger.close();
            rule(closed.is_ok(), "V5", || format!("{closed:?}"))?;
            verdict::check_log(&self.history, &node.disk, &self.context)?;
        }
        let reader = highest.expect("some honest validator never lost its disk");
        let is_honest = |at: usize| self.nodes.get(at).is_some_and(|node| node.is_honest);
        let slashed = verdict::check_all(
            &self.history,
            &self.witness.committed,
            &self.genesis,
            (&reader, &is_honest),
        )?;
        self.totals.slashed += slashed;
        self.totals.heights += self.height();
        self.totals.term_changes += self.witness.term_changes;
        self.totals.round_changes += self.witness.round_changes;
        self.totals.late_rounds += self.witness.late_rounds;
        self.totals.open_rounds += self.witness.open_rounds;
        Ok(())
    }

    fn node(&self, at: usize) -> &Node {
        self.nodes.get(at).expect("events name nodes of the world")
    }

    fn node_mut(&mut self, at: usize) -> &mut Node {
        self.nodes.get_mut(at).expect("events name nodes of the world")
    }

    /// What happened is part of the digest; in words it is part of the trace.
    fn note(&mut self, what: u64, line: impl FnOnce() -> String) {
        for part in [self.now_us, what] {
            self.digest = (self.digest ^ part).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
        if self.profile.keeps_trace {
            self.trace.push(format!("{:>6} {:>9} {}", self.step, self.now_us, line()));
        }
    }

    fn at(&mut self, delay_us: u64, event: Event) {
        let place = (self.now_us + delay_us, self.next_event);
        self.next_event += 1;
        self.events.insert(place, event);
    }

    fn next_at(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at_us, _), _)| *at_us)
    }

    /// The next event.
    fn turn(&mut self) -> Result<(), Broken> {
        let Some(((at_us, _), event)) = self.events.pop_first() else { return Ok(()) };
        self.now_us = self.now_us.max(at_us);
        self.step += 1;
        match event {
            Event::Arrive { from, to, parcel } => self.arrive(from, to, &parcel),
            Event::Linked { at, peer } => self.linked(at, peer),
            Event::Wake { node, life } => self.wake(node, life),
            Event::Work { node, life } => self.work(node, life),
            Event::Synced { node, life } => self.synced(node, life),
            Event::Executed { node, life } => self.executed(node, life),
            Event::Restored { node, life, gathered } => self.restored(node, life, &gathered),
            Event::Client(number) => self.client_turn(number),
            Event::Expire(ticket) => self.expire(ticket),
            Event::Die(at, how) => self.death(at, how),
            Event::Start(at) => self.start(at),
            Event::Split(number) => {
                self.split(number);
                Ok(())
            }
            Event::Heal(number) => {
                self.heal(number);
                Ok(())
            }
            Event::Copy => {
                self.keep_copies();
                Ok(())
            }
            Event::Jump(at) => {
                self.jump(at);
                Ok(())
            }
        }
    }

    /// Puts a message on its way, after some time.
    fn send(&mut self, from: usize, to: usize, bytes: &Rc<Parcel>, later_us: u64) {
        if from == to || to >= self.nodes.len() || !self.network.is_open((from, to)) {
            return;
        }
        self.totals.messages += 1;
        self.totals.stripes += u64::from(bytes.bytes.first() == Some(&STRIPE_TAG));
        if let Some(probe) = &mut self.probe {
            probe.message_size += u64::try_from(bytes.bytes.len()).unwrap_or(u64::MAX);
        }
        let delays = self.network.delays(&mut self.random);
        self.totals.losses += u64::from(delays.iter().all(Option::is_none));
        self.totals.twice += u64::from(delays.iter().all(Option::is_some));
        for delay_us in delays.into_iter().flatten() {
            self.in_flight_size += bytes.bytes.len();
            let event = Event::Arrive { from, to, parcel: Rc::clone(bytes) };
            self.at(later_us + delay_us, event);
        }
    }

    /// Puts a replica's message on its way, if it is honest; what its actor makes of it, if it is not.
    fn speak(&mut self, from: usize, to: usize, parcel: &Rc<Parcel>) {
        if from == to {
            return;
        }
        let bytes = Arc::clone(&parcel.bytes);
        match self.scene(from, |actor, scene| actor.send(scene, to, bytes)) {
            None => self.send(from, to, parcel, 0),
            Some(sent) => self.send_all(from, to, sent),
        }
    }

    /// Puts a criminal's messages on their way.
    fn send_all(&mut self, from: usize, to: usize, sent: Vec<Arc<[u8]>>) {
        for bytes in sent {
            let later_us = self.scene(from, |actor, scene| actor.delay_us(scene));
            self.send(from, to, &Self::parcel(bytes), later_us.unwrap_or(0));
        }
    }

    /// Lets a criminal act.
    fn scene<T>(
        &mut self,
        at: usize,
        act: impl FnOnce(&mut dyn Actor, &mut Scene<'_>) -> T,
    ) -> Option<T> {
        let node = self.nodes.get_mut(at).expect("events name nodes of the world");
        let actor = node.actor.as_mut()?;
        let mut scene = Scene {
            random: &mut self.random,
            context: &self.context,
            key: &node.key,
            own: ValidatorIndex::new(u16::from(node.number)),
            now_us: self.now_us,
            genesis: &self.genesis,
            dealing: self.dealing.as_deref(),
            status: node.alive.as_ref()?.replica.status(),
            forged: &mut self.forged,
            deeds: &mut self.totals.deeds,
        };
        Some(act(&mut **actor, &mut scene))
    }

    fn parcel(bytes: Arc<[u8]>) -> Rc<Parcel> {
        Rc::new(Parcel { bytes, received: std::cell::OnceCell::new() })
    }

    fn arrive(&mut self, from: usize, to: usize, parcel: &Rc<Parcel>) -> Result<(), Broken> {
        self.in_flight_size -= parcel.bytes.len();
        if !self.network.is_open((from, to)) || self.node(to).alive.is_none() {
            return Ok(());
        }
        let size = self.in_flight_size;
        rule(size < IN_FLIGHT_SIZE_MAX, "B1", || format!("{size} bytes are on their way"))?;
        let context = &self.context;
        let check = || receive(context, &self.admissions, &parcel.bytes);
        if let Some(probe) = &mut self.probe {
            // Each receiver checks for itself.
            let from_ns = probe.now_ns();
            let received = check();
            probe.spent(from_ns);
            if let Ok(Received::Agreement(Message::Ack(ack))) = &received {
                probe.ack(to, ack, &context.set, self.now_us);
            }
        }
        let received = parcel.received.get_or_init(check);
        let is_honest = self.node(from).is_honest;
        let is_forged = !is_honest && self.forged.words.contains(&parcel.bytes);
        let bytes = Arc::clone(&parcel.bytes);
        let received = match received {
            Ok(received) => received.clone(),
            Err(error) => {
                return rule(!is_honest, "A9", || format!("{from} sent {to} {error}"));
            }
        };
        if let Received::Headers(headers) = &received {
            let last = headers.last().map(|(header, _)| header.height);
            self.totals.catch_ups += u64::from(last > Some(self.node(to).height()));
        }
        self.scene(to, |actor, scene| actor.hear(scene, &bytes));
        let what = parcel.bytes.first().copied().unwrap_or(0);
        self.note(u64::from(what), || {
            format!("{to} gets of {from} {}", effects::describe_received(&received))
        });
        let peer = effects::validator(from);
        let what = is_forged.then(|| effects::describe_received(&received));
        let received = match self.scene(to, |actor, scene| actor.take(scene, received.clone())) {
            Some(None) => return Ok(()),
            Some(Some(other)) => other,
            None => received,
        };
        let taken = self.step(to, Input::Received { from: peer, received })?;
        if let Some(what) = what {
            rule(taken != Some(true), "F1", || format!("{to} takes of {from} {what}"))?;
        }
        self.effects(to)
    }

    fn linked(&mut self, at: usize, peer: usize) -> Result<(), Broken> {
        let ways = [(at, peer), (peer, at)];
        let is_up = self.node(peer).alive.is_some();
        if !is_up || !ways.iter().all(|way| self.network.is_open(*way)) {
            return Ok(());
        }
        self.note(1, || format!("{at} is linked to {peer}"));
        let peer = effects::validator(peer);
        self.feed(at, Input::Linked(peer))
    }

    /// Gives a replica an input, and does what comes of it.
    fn feed(&mut self, at: usize, input: Input) -> Result<(), Broken> {
        self.step(at, input)?;
        self.effects(at)
    }

    /// Gives a replica an input. Whether it took it; none when it is down.
    fn step(&mut self, at: usize, input: Input) -> Result<Option<bool>, Broken> {
        let sender = match &input {
            Input::Received { from, .. } => Some(usize::from(from.get())),
            Input::Restored(restored) => Some(self.sequencer(restored)),
            _ => None,
        };
        if self.shape.storm_us.contains(&self.now_us) {
            self.node_mut(at).storm();
        }
        let now = self.node(at).now(self.now_us);
        let from_ns = self.probe.as_mut().map(Probe::now_ns);
        let Some(alive) = &mut self.node_mut(at).alive else { return Ok(None) };
        let taken = alive.replica.step(now, input);
        if let Some((probe, from_ns)) = self.probe.as_mut().zip(from_ns) {
            probe.spent(from_ns);
        }
        let is_taken = taken.is_ok();
        if let Err(refused) = taken {
            let sender = sender.map(|sender| self.node(sender).is_honest);
            let is_fair = sender == Some(false) || (sender.is_some() && !refused.is_offence());
            rule(is_fair, "A9", || format!("{at} blames an honest sender: {refused}"))?;
        }
        Ok(Some(is_taken))
    }

    fn wake(&mut self, at: usize, life: u64) -> Result<(), Broken> {
        let (now_us, looks) = (self.now_us, self.step.is_multiple_of(8));
        let node = self.node_mut(at);
        let Some(alive) = node.alive.as_mut().filter(|_| node.life == life) else { return Ok(()) };
        if alive.wake_us.is_none_or(|wake_us| wake_us > now_us) {
            return Ok(());
        }
        alive.wake_us = None;
        if looks {
            let size = alive.replica.status().pending_size;
            rule(size <= PENDING_SIZE_MAX, "B1", || format!("{size} bytes are pending"))?;
        }
        self.feed(at, Input::Timer)
    }

    /// Sets the timer to when the replica wants it.
    fn set_timer(&mut self, at: usize) {
        let now_us = self.now_us;
        let late_us = self.random.u64(1..200);
        let node = self.node_mut(at);
        let life = node.life;
        let Some(mono_us) = node.alive.as_ref().and_then(|alive| alive.replica.wake_at()) else {
            return;
        };
        let wake_us = node.world_us(mono_us).max(now_us) + late_us;
        let Some(alive) = &mut node.alive else { return };
        if alive.wake_us.is_none_or(|set_us| wake_us < set_us) {
            alive.wake_us = Some(wake_us);
            self.at(wake_us - now_us, Event::Wake { node: at, life });
        }
    }
}
