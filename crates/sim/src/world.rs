//! The world of one validator: who acts when, what crashes, and what is left of it.
#![expect(clippy::arithmetic_side_effects, reason = "counts of a bounded run")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use quipu_consensus::Message;
use quipu_crypto::hash::sha256_concat;
use quipu_crypto::suite::SecretKey;
use quipu_log::{Ledger, LedgerConfig, SyncGroup};
use quipu_proof::names::chain_id;
use quipu_replica::storage::{read_block, recover, write};
use quipu_replica::{
    Admitted, Answer, Barrier, Block, Config, Effect, Input, Now, Refusal, Replica, Ticket,
};
use quipu_state::{Machine, MemoryStore};
use quipu_types::genesis::{GENESIS_VERSION, GenesisAccount, GenesisValidator};
use quipu_types::{Genesis, Hash, Height, Lane, Position, Signature, StateVote, Suite, Time, code};

use crate::client::{Act, Client};
use crate::disk::CrashDisk;
use crate::verdict::{self, History, Votes};
use crate::{Broken, Profile, Report, Totals, Violation, rule};

const LANE_COUNT: u16 = 3;
const CLIENT_COUNT: u8 = 3;
/// Turns in which a world without faults has to come to rest.
const REST_TURN_COUNT: usize = 20_000;

/// The process: everything that a crash ends.
#[derive(Debug)]
struct Alive {
    replica: Replica,
    ledger: Ledger,
    machine: Machine<MemoryStore>,
    syncing: Option<Syncing>,
    executing: VecDeque<Arc<Block>>,
    /// Records that no sync covers yet.
    written: Vec<Vec<u8>>,
    votes: Votes,
    header_written: Height,
    header_durable: Height,
    is_stopped: bool,
}

#[derive(Debug)]
struct Syncing {
    barrier: Barrier,
    group: SyncGroup,
    records: Vec<Vec<u8>>,
    header: Height,
}

/// What a ticket is for.
#[derive(Clone, Debug)]
enum Asked {
    Sent(usize, Lane, usize),
    Old(usize, usize),
    Gap,
}

/// See the module's header.
#[derive(Debug)]
pub(crate) struct World {
    seed: u64,
    profile: Profile,
    random: fastrand::Rng,
    genesis: Genesis,
    chain: Hash,
    disk: CrashDisk,
    /// The state's store while no process has it.
    store: Option<MemoryStore>,
    alive: Option<Alive>,
    clients: Vec<Client>,
    asked: BTreeMap<Ticket, (Asked, Arc<Admitted>)>,
    next_ticket: Ticket,
    history: History,
    now: Now,
    turn: usize,
    totals: Totals,
    digest: Hash,
    trace: Vec<String>,
}

impl World {
    pub(crate) fn new(seed: u64, profile: &Profile) -> Self {
        let genesis = genesis();
        let chain = chain_id(&genesis);
        Self {
            seed,
            profile: *profile,
            random: fastrand::Rng::with_seed(seed),
            genesis,
            chain,
            disk: CrashDisk::new(),
            store: Some(MemoryStore::new()),
            alive: None,
            clients: (0..CLIENT_COUNT).map(Client::new).collect(),
            asked: BTreeMap::new(),
            next_ticket: 0,
            history: History::default(),
            now: Now { wall_us: 2_000_000, mono_us: 0 },
            turn: 0,
            totals: Totals::default(),
            digest: Hash::ZERO,
            trace: Vec::new(),
        }
    }

    pub(crate) fn run(mut self) -> Result<Report, Box<Violation>> {
        match self.live() {
            Ok(()) => Ok(Report {
                seed: self.seed,
                totals: self.totals,
                digest: self.digest,
                trace: self.trace,
            }),
            Err(Broken { rule, what }) => Err(Box::new(Violation {
                seed: self.seed,
                turn: self.turn,
                rule,
                what,
                trace: self.trace,
            })),
        }
    }

    fn live(&mut self) -> Result<(), Broken> {
        while self.turn < self.profile.turn_count {
            self.turn += 1;
            self.faulty_turn()?;
        }
        self.rest()?;
        let alive = self.alive.as_ref().expect("a world at rest is alive");
        verdict::check_all(&self.history, &self.genesis, &alive.ledger.reader())?;
        let Some(alive) = self.alive.take() else { return Ok(()) };
        let closed = alive.ledger.close();
        rule(closed.is_ok(), "V5", || format!("{closed:?}"))?;
        verdict::check_log(&self.disk, &self.genesis)
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        let line = format!("{:>5} {:>9} {}", self.turn, self.now.mono_us, line());
        self.digest = sha256_concat(&[self.digest.bytes(), line.as_bytes()]);
        if self.profile.keeps_trace {
            self.trace.push(line);
        }
    }

    fn faulty_turn(&mut self) -> Result<(), Broken> {
        if self.alive.is_none() {
            if self.random.u8(..8) == 0 {
                self.disk.set_fuse(1 + self.random.u64(..30));
            }
            return self.start();
        }
        if self.random.u16(..1_000) < self.profile.crash_per_mille {
            if self.random.bool() {
                return self.crash();
            }
            self.disk.set_fuse(1 + self.random.u64(..60));
        }
        match self.random.u8(..100) {
            0..=29 => self.client_turn(),
            30..=84 => self.work(),
            _ => {
                self.pass(8_000);
                self.feed(Input::Timer)
            }
        }
    }

    /// One thing that the process has to do, any of those that are due.
    fn work(&mut self) -> Result<(), Broken> {
        match self.random.u8(..8) {
            0 | 1 => self.end_sync(),
            2 | 3 => self.execute(),
            _ => self.effect().map(|_| ()),
        }
    }

    fn pass(&mut self, us_max: u64) {
        let us = self.random.u64(..us_max);
        self.now.mono_us += us;
        // Wall clocks drift, and now and then are set.
        self.now.wall_us = match self.random.u8(..200) {
            0 => self.now.wall_us.saturating_sub(self.random.u64(..2_000_000)),
            1 => self.now.wall_us + self.random.u64(..2_000_000),
            _ => self.now.wall_us + us,
        };
    }

    fn feed(&mut self, input: Input) -> Result<(), Broken> {
        let Some(alive) = &mut self.alive else { return Ok(()) };
        let taken = alive.replica.step(self.now, input);
        rule(taken.is_ok(), "V4", || format!("an own input was refused: {taken:?}"))
    }

    /// The power went in the midst of a change to the medium.
    fn blow(&mut self) -> Result<(), Broken> {
        self.totals.power_cuts_in_writes += 1;
        self.disk.cut_power(&mut self.random, &mut self.totals.disk);
        self.die("in a write");
        Ok(())
    }

    /// What is the same for every way to die.
    fn die(&mut self, how: &str) {
        if let Some(alive) = self.alive.take() {
            self.store = Some(alive.machine.into_store());
        }
        self.asked.clear();
        for client in &mut self.clients {
            client.disconnect();
        }
        let faults = self.totals.disk;
        self.note(|| format!("crash {how} {faults:?}"));
    }

    /// Faults end: everything is answered, then the validator stops by itself.
    fn rest(&mut self) -> Result<(), Broken> {
        if self.alive.is_some() {
            self.crash()?;
        }
        if self.alive.is_none() {
            self.start()?;
        }
        let mut is_stopping = false;
        for _ in 0..REST_TURN_COUNT {
            self.turn += 1;
            for number in 0..self.clients.len() {
                self.submit(number, Client::retry)?;
            }
            while self.effect()? {}
            self.end_sync()?;
            self.execute()?;
            if self.alive.as_ref().is_some_and(|alive| alive.is_stopped) {
                return Ok(());
            }
            if !is_stopping && self.clients.iter().all(Client::is_done) {
                is_stopping = true;
                self.note(|| "stop".to_owned());
                self.feed(Input::Stop)?;
            }
            self.pass(3_000);
            self.feed(Input::Timer)?;
        }
        Err(Broken { rule: "V4", what: "no rest: something is never answered".to_owned() })
    }

    fn client_turn(&mut self) -> Result<(), Broken> {
        let number = self.random.usize(..self.clients.len());
        let (chain, anchor) = (self.chain, self.anchor());
        let mut random = self.random.fork();
        self.submit(number, |client| client.act(&mut random, &chain, LANE_COUNT, anchor))
    }

    fn anchor(&self) -> Hash {
        let newest = self.history.commits.values().next_back();
        newest.map_or(self.chain, |(hash, _)| *hash)
    }

    fn submit(
        &mut self,
        number: usize,
        act: impl FnOnce(&mut Client) -> Act,
    ) -> Result<(), Broken> {
        let Some(client) = self.clients.get_mut(number) else { return Ok(()) };
        let (asked, admitted) = match act(client) {
            Act::Nothing => return Ok(()),
            Act::Submit(lane, at, admitted) => (Asked::Sent(number, lane, at), admitted),
            Act::Old(at, admitted) => (Asked::Old(number, at), admitted),
            Act::Gap(admitted) => (Asked::Gap, admitted),
        };
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.note(|| format!("client {number} submits {asked:?} {}", short(&admitted.tx)));
        self.asked.insert(ticket, (asked, Arc::clone(&admitted)));
        self.feed(Input::Submit { ticket, admitted })
    }

    /// Does one effect. `false` when there is none.
    fn effect(&mut self) -> Result<bool, Broken> {
        let Some(alive) = &mut self.alive else { return Ok(false) };
        let Some(effect) = alive.replica.poll() else { return Ok(false) };
        let written = write(&effect, &mut alive.ledger);
        if written.is_err() && self.disk.is_blown() {
            return self.blow().map(|()| false);
        }
        rule(written.is_ok(), "V4", || format!("a write failed: {written:?}"))?;
        match &effect {
            Effect::WriteVote { bytes, .. } => alive.written.push(bytes.clone()),
            Effect::WriteHeader(block) => {
                alive.header_written = block.header.height;
                alive.votes.check_commit(&block.certificate)?;
            }
            Effect::Sync(barrier) => {
                alive.syncing = Some(Syncing {
                    barrier: *barrier,
                    group: alive.ledger.take_sync(),
                    records: std::mem::take(&mut alive.written),
                    header: alive.header_written,
                });
            }
            Effect::Execute(block) => {
                alive.votes.check_commit(&block.certificate)?;
                alive.executing.push_back(Arc::clone(block));
                if self.history.commit(block)? {
                    self.totals.heights += 1;
                } else {
                    self.totals.heights_again += 1;
                }
            }
            Effect::StateCertified(certificate) => {
                let state = certificate.state;
                for (validator, signature) in &certificate.signatures {
                    let vote = StateVote { state, validator: *validator, signature: *signature };
                    alive.votes.check(&Message::StateVote(vote))?;
                }
                self.totals.certificates += 1;
                self.history.certified.insert(state.height);
            }
            Effect::Stopped => alive.is_stopped = true,
            _ => {}
        }
        if let Effect::Answer { ticket, answer } = &effect {
            self.answer(*ticket, answer)?;
        }
        self.note(|| describe(&effect));
        Ok(true)
    }

    fn end_sync(&mut self) -> Result<(), Broken> {
        let Some(alive) = &mut self.alive else { return Ok(()) };
        let Some(Syncing { barrier, group, records, header }) = alive.syncing.take() else {
            return Ok(());
        };
        let done = group.run().and_then(|()| alive.ledger.synced(group));
        if done.is_err() && self.disk.is_blown() {
            return self.blow();
        }
        rule(done.is_ok(), "V4", || format!("a sync failed: {done:?}"))?;
        alive.votes.add(records)?;
        alive.header_durable = header;
        self.note(|| format!("stored {}", barrier.0));
        self.feed(Input::Stored(barrier))
    }

    fn execute(&mut self) -> Result<(), Broken> {
        let Some(alive) = &mut self.alive else { return Ok(()) };
        let Some(block) = alive.executing.pop_front() else { return Ok(()) };
        let (state, receipts) = verdict::apply(&mut alive.machine, &block)?;
        self.history.state(state)?;
        // A state never runs ahead of what is durable.
        if alive.header_durable >= state.height && self.random.u8(..3) == 0 {
            let flushed = alive.machine.flush();
            rule(flushed.is_ok(), "V4", || format!("{flushed:?}"))?;
        }
        self.note(|| format!("executed {} {}", state.height, short(&state.state_root)));
        self.feed(Input::Executed { state, receipts: Arc::new(receipts) })
    }

    fn answer(&mut self, ticket: Ticket, answer: &Answer) -> Result<(), Broken> {
        let asked = self.asked.remove(&ticket);
        let (asked, admitted) =
            asked.ok_or_else(|| Broken { rule: "V4", what: format!("{ticket} answered twice") })?;
        let Some(alive) = &self.alive else { return Ok(()) };
        let told = match answer {
            Answer::Final { receipt, height, .. } => {
                rule(receipt.tx == admitted.tx, "V1", || "another's receipt".to_owned())?;
                Some((Position { lane: receipt.lane, seqno: receipt.seqno }, *height))
            }
            Answer::Used { tx, otherwise, .. } => {
                let found = verdict::place(&alive.machine, tx)?;
                let is_fenced = *otherwise == code::FENCED && matches!(asked, Asked::Old(..));
                self.totals.repeats += u64::from(found.is_some());
                self.totals.fenced += u64::from(found.is_none() && is_fenced);
                let known = found.is_some() || is_fenced;
                rule(known, "V1", || format!("{asked:?}: {otherwise}, though never ordered"))?;
                found
            }
            Answer::Refused(refusal) => {
                self.totals.gaps += u64::from(matches!(refusal, Refusal::Gap { .. }));
                self.totals.overloads += u64::from(matches!(refusal, Refusal::Overloaded { .. }));
                None
            }
        };
        if let Some((position, height)) = told
            && self.history.tell(&admitted, position, height)?
        {
            self.totals.finals += 1;
        }
        let sent = match asked {
            Asked::Gap => {
                let what = || "a sequence beyond a gap was taken".to_owned();
                return rule(told.is_none(), "V1", what);
            }
            Asked::Sent(client, lane, at) => {
                let lanes = self.clients.get_mut(client).map(|client| &mut client.sent);
                lanes.and_then(|lanes| lanes.get_mut(&lane)?.get_mut(at))
            }
            Asked::Old(client, at) => {
                self.clients.get_mut(client).and_then(|client| client.old.get_mut(at))
            }
        };
        // The producer may have begun a new incarnation since: then another stands in that place.
        if let Some(sent) = sent.filter(|sent| sent.admitted.tx == admitted.tx) {
            sent.waits = false;
            sent.done = told.or(sent.done);
        }
        Ok(())
    }

    fn crash(&mut self) -> Result<(), Broken> {
        let Some(alive) = &mut self.alive else { return Ok(()) };
        self.totals.crashes_in_sync += u64::from(alive.syncing.is_some());
        self.totals.crashes_between_effects += u64::from(alive.replica.poll().is_some());
        let how = match (self.random.u8(..4), alive.syncing.take()) {
            (0, _) => {
                self.totals.kills += 1;
                self.disk.kill();
                "by a kill"
            }
            (1, Some(Syncing { group, .. })) => {
                self.totals.failed_syncs += 1;
                self.disk.set_sync_fails(true);
                let noticed = group.is_empty() || group.run().is_err();
                rule(noticed, "V4", || "a failed sync is not noticed".to_owned())?;
                self.disk.cut_power(&mut self.random, &mut self.totals.disk);
                "in a failed sync"
            }
            _ => {
                self.totals.power_cuts += 1;
                self.disk.cut_power(&mut self.random, &mut self.totals.disk);
                "by a power cut"
            }
        };
        self.die(how);
        Ok(())
    }

    fn start(&mut self) -> Result<(), Broken> {
        let broken = |what: String| Broken { rule: "V4", what };
        let disk = Arc::new(self.disk.clone());
        let config = LedgerConfig {
            lane_count: LANE_COUNT,
            segment_size: 4 << 10,
            wal_segment_size: 4 << 10,
        };
        let opened = Ledger::open(disk, self.chain, config);
        if opened.is_err() && self.disk.is_blown() {
            return self.blow();
        }
        let (ledger, found) =
            opened.map_err(|error| broken(format!("the log does not open: {error}")))?;
        self.totals.torn_tails += u64::try_from(found.torn.len()).unwrap_or(0);
        self.totals.restarts += u64::from(found.committed.is_some());
        let head = found.committed.as_ref().map_or(Height::default(), |(header, _)| header.height);
        let store = self.store.take().unwrap_or_default();
        let mut machine = Machine::open(store, &self.genesis)
            .map_err(|error| broken(format!("the state does not open: {error}")))?;
        let flushed = machine.applied();
        rule(flushed <= head, "V4", || format!("the state is at {flushed}, the log at {head}"))?;
        let mut again = Vec::new();
        let reader = ledger.reader();
        for height in (1..=head.get()).map(Height::new) {
            let is_known = self.history.certified.contains(&height);
            if height <= flushed && is_known {
                continue;
            }
            let block = read_block(&reader, &self.chain, height)
                .map_err(|error| broken(format!("height {height}: {error}")))?;
            if height > flushed {
                let (state, receipts) = verdict::apply(&mut machine, &block)?;
                self.history.state(state)?;
                again.extend((!is_known).then(|| (state, Arc::new(receipts))));
            } else if let Some(state) = self.history.states.get(&height) {
                again.push((*state, Arc::new(Vec::new())));
            }
        }
        let records = found.wal.iter().map(|record| record.bytes.clone()).collect();
        let recovered = recover(&ledger, found, &self.chain, verdict::producers(&machine)?)
            .map_err(|error| broken(format!("the log does not read back: {error}")))?;
        let replica = Replica::new(self.now, self.config(), recovered)
            .map_err(|error| broken(format!("the replica does not start: {error}")))?;
        self.alive = Some(Alive {
            replica,
            ledger,
            machine,
            syncing: None,
            executing: VecDeque::new(),
            written: records,
            votes: Votes::default(),
            header_written: head,
            header_durable: Height::default(),
            is_stopped: false,
        });
        self.note(|| format!("start at {head}, state at {flushed}"));
        for (state, receipts) in again {
            self.feed(Input::Executed { state, receipts })?;
        }
        Ok(())
    }

    fn config(&self) -> Config {
        let mut config = Config::new(self.genesis.clone(), key());
        config.pending_size_max = 20_000;
        config.checkpoint_height_count = 3;
        config.chunk_size_max = 1_200;
        config.clock_interval_us = 4_000;
        config.wal_before_send = self.profile.wal_before_send;
        config
    }
}

fn key() -> SecretKey {
    SecretKey::from_seed(Suite::Ed25519Sha256, [1; 32])
}

fn genesis() -> Genesis {
    let validator = GenesisValidator {
        name: "solo".to_owned(),
        key: key().public(),
        power: 1,
        possession: Signature([0; 64]),
    };
    let account = |number: u8| {
        let key = SecretKey::from_seed(Suite::Ed25519Sha256, [number + 100; 32]);
        GenesisAccount { account: key.account(), balance: 50 }
    };
    let mut accounts: Vec<GenesisAccount> = (0..CLIENT_COUNT).map(account).collect();
    accounts.sort_by_key(|account| account.account);
    let genesis = Genesis {
        version: GENESIS_VERSION,
        name: "simulation".to_owned(),
        time_us: Time::new(1_000_000),
        lane_count: LANE_COUNT,
        clock_seed: "a public text".to_owned(),
        clock_rate_hz: 20_000,
        hash_rate_fastest_hz: 20_000_000,
        anchor_window_heights: 40,
        height_interval_min_ms: 5,
        height_interval_idle_ms: 40,
        open_streams: true,
        validators: vec![validator],
        accounts,
    };
    genesis.check().expect("the simulation's genesis keeps the rules");
    genesis
}

fn short(hash: &Hash) -> String {
    hash.to_string().chars().take(8).collect()
}

fn describe(effect: &Effect) -> String {
    match effect {
        Effect::WriteTerm(term) => format!("write term {} of lane {}", term.term, term.lane),
        Effect::WriteChunk(chunk) => {
            let header = &chunk.stored.header;
            let name = short(&chunk.hash);
            format!("write chunk {}/{} of {} {name}", header.lane, header.index, header.count)
        }
        Effect::WriteVote { height, bytes } => {
            format!("write vote at {height} {}", short(&quipu_crypto::sha256(bytes)))
        }
        Effect::BeginHeight(height) => format!("begin {height}"),
        Effect::WriteHeader(block) => {
            format!("write header {} {}", block.header.height, short(&block.hash))
        }
        Effect::Sync(barrier) => format!("sync {}", barrier.0),
        Effect::Broadcast(bytes) => format!("broadcast {}", bytes.len()),
        Effect::Execute(block) => {
            let count = block.transaction_count();
            format!("execute {} of {count} {}", block.header.height, short(&block.hash))
        }
        Effect::StateCertified(certificate) => format!("certified {}", certificate.state.height),
        Effect::Answer { ticket, answer } => match answer {
            Answer::Final { receipt, height, .. } => {
                format!("answer {ticket}: {}:{} at {height}", receipt.lane, receipt.seqno)
            }
            Answer::Used { otherwise, .. } => format!("answer {ticket}: used, else {otherwise}"),
            Answer::Refused(refusal) => format!("answer {ticket}: {refusal}"),
        },
        Effect::Stopped => "stopped".to_owned(),
    }
}
