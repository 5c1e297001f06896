//! One validator of a world: its disk, its clocks, and the process that a crash ends.
#![expect(clippy::arithmetic_side_effects, reason = "counts of a bounded run")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use quipu_consensus::Context;
use quipu_crypto::{SecretKey, Verified};
use quipu_log::{Disk, Ledger, LedgerConfig, SyncGroup};
use quipu_replica::checkpoint::{self, Manifest};
use quipu_replica::storage::{read_block, read_epochs, recover};
use quipu_replica::{Barrier, Block, Config, Now, Observer, Replica, Traps};
use quipu_state::{Machine, MemoryStore, Store};
use quipu_types::{
    Decode, Encode, Genesis, Hash, Height, Receipt, RoundKind, SignedState, StateCertificate,
    ValidatorIndex, ValidatorSet,
};

use crate::actors::{Actor, Clocks, Crime};
use crate::coins::Dealing;
use crate::disk::{CrashDisk, DiskFaults};
use crate::shape::{LANE_COUNT, key};
use crate::stakes::with_coin;
use crate::verdict::{self, History};
use crate::witness::{Syncing, Words};
use crate::{Broken, Profile, rule};

/// The process: everything that a crash ends.
#[derive(Debug)]
pub(crate) struct Alive {
    pub(crate) replica: Replica,
    pub(crate) ledger: Ledger,
    pub(crate) machine: Machine<MemoryStore>,
    pub(crate) syncing: Option<Sync>,
    pub(crate) executing: VecDeque<Arc<Block>>,
    pub(crate) words: Words,
    pub(crate) header_written: Height,
    pub(crate) header_durable: Height,
    /// Whether its effects go on later.
    pub(crate) is_pausing: bool,
    /// When its timer is set to.
    pub(crate) wake_us: Option<u64>,
}

/// A sync under way.
#[derive(Debug)]
pub(crate) struct Sync {
    pub(crate) barrier: Barrier,
    pub(crate) group: SyncGroup,
    pub(crate) words: Syncing,
    pub(crate) header: Height,
}

/// One validator.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) number: u8,
    pub(crate) disk: CrashDisk,
    /// The state's store while no process has it.
    store: Option<MemoryStore>,
    pub(crate) alive: Option<Alive>,
    /// Counts processes: what was meant for one that died is nobody's.
    pub(crate) life: u64,
    mono_ahead_us: u64,
    /// Powers of two by which the monotonic clock is too fast.
    speed_log2: i8,
    /// A copy of the disk as it was at a height.
    copy: Option<(CrashDisk, Height)>,
    /// Whether a copy was put back.
    pub(crate) is_rewound: bool,
    /// In a storm: the last led round whose timer fired at once, and how often the clock leapt for it.
    stormed: (Height, u32, u8),
    pub(crate) wall_skew_us: i64,
    /// Whether the disk is not its first one, and the threshold if it was found.
    pub(crate) observer: Option<Option<Height>>,
    /// The state certificates that it keeps.
    pub(crate) certified: BTreeMap<Height, StateCertificate>,
    /// Chunks that the disk has, while no process has it.
    chunks: BTreeSet<Hash>,
    /// What its criminal signs with.
    pub(crate) key: SecretKey,
    /// Whose words are changed on their way out.
    pub(crate) actor: Option<Box<dyn Actor>>,
    pub(crate) is_honest: bool,
    /// Validators' signatures that were checked already: the world's, for it checks each once.
    pub(crate) verified: Arc<Verified>,
    /// Bytes from which its bodies travel in stripes.
    pub(crate) stripe_size_min: usize,
    /// As in the world's shape.
    pub(crate) trap_heights: u64,
}

/// Executed heights whose state certificates are not kept.
type Again = Vec<(SignedState, Arc<Vec<Receipt>>)>;

/// What a start found.
pub(crate) struct Started {
    /// What has to be fed to the replica first.
    pub(crate) again: Again,
    /// The next epoch's set, if it is known.
    pub(crate) next: Option<ValidatorSet>,
    pub(crate) head: Height,
    pub(crate) torn: usize,
}

impl Node {
    pub(crate) fn new(
        number: u8,
        crime: Option<Crime>,
        verified: &Arc<Verified>,
        stripe_size_min: usize,
        random: &mut fastrand::Rng,
    ) -> Self {
        let actor = crime.map(|crime| crime.actor(random));
        let Clocks { ahead_us, speed_log2 } =
            actor.as_ref().map(|actor| actor.clocks()).unwrap_or_default();
        Self {
            is_honest: actor.is_none(),
            actor,
            key: key(number),
            number,
            disk: CrashDisk::new(),
            store: Some(MemoryStore::new()),
            alive: None,
            life: 0,
            copy: None,
            is_rewound: false,
            stormed: (Height::default(), 0, 0),
            mono_ahead_us: random.u64(..1_000_000_000),
            speed_log2,
            wall_skew_us: random.i64(-500_000..500_000) + ahead_us,
            observer: None,
            certified: BTreeMap::new(),
            chunks: BTreeSet::new(),
            verified: Arc::clone(verified),
            stripe_size_min,
            trap_heights: 0,
        }
    }

    /// What its clocks show.
    pub(crate) fn now(&self, world_us: u64) -> Now {
        let wall_us = (2_000_000 + world_us).saturating_add_signed(self.wall_skew_us);
        Now { wall_us, mono_us: shifted(world_us, self.speed_log2) + self.mono_ahead_us }
    }

    /// Makes the timer of a led round fire with what comes next: the first leap may begin the height, the next ones end
    /// the round.
    pub(crate) fn storm(&mut self) {
        let Some(alive) = &self.alive else { return };
        let status = alive.replica.status();
        let (height, round, count) = self.stormed;
        let is_same = (height, round) == (status.height, status.round);
        let count = if is_same { count } else { 0 };
        if status.kind == RoundKind::Led && count < LEAP_COUNT_MAX {
            self.stormed = (status.height, status.round, count + 1);
            self.mono_ahead_us += STORM_US;
        }
    }

    /// When its monotonic clock shows `mono_us`.
    pub(crate) fn world_us(&self, mono_us: u64) -> u64 {
        shifted(mono_us.saturating_sub(self.mono_ahead_us), -self.speed_log2)
    }

    pub(crate) fn height(&self) -> Height {
        self.alive.as_ref().map_or(Height::default(), |alive| alive.replica.status().height)
    }

    /// Heights up to `last` whose state certificates it lacks; a checkpoint stands for those below it.
    pub(crate) fn uncertified(&self, last: Height) -> impl Iterator<Item = Height> {
        let first = self.alive.as_ref().map(|alive| alive.ledger.reader().first_height().get());
        let heights = (first.unwrap_or(1)..=last.get()).map(Height::new);
        heights.filter(|height| !self.certified.contains_key(height))
    }

    /// The process is gone; what the disk keeps was decided before.
    pub(crate) fn die(&mut self, random: &mut fastrand::Rng) {
        if let Some(alive) = self.alive.take() {
            self.store = Some(alive.machine.into_store());
            self.chunks = alive.words.into_chunks();
        }
        self.life += 1;
        self.mono_ahead_us = random.u64(..1_000_000_000);
    }

    pub(crate) fn cut_power(&mut self, random: &mut fastrand::Rng, faults: &mut DiskFaults) {
        self.disk.cut_power(random, faults);
        self.die(random);
    }

    /// A new disk, with nothing on it but the marker that it is new.
    pub(crate) fn wipe(&mut self, random: &mut fastrand::Rng) {
        self.disk.kill();
        self.die(random);
        self.disk = CrashDisk::new();
        self.store = Some(MemoryStore::new());
        self.certified.clear();
        self.chunks.clear();
        self.observer = Some(None);
    }

    /// A checkpoint of what it has executed, and its parts; none before all of it is certified.
    pub(crate) fn save(&self, context: &Context) -> Option<(Manifest, Vec<Vec<u8>>)> {
        let alive = self.alive.as_ref()?;
        if self.uncertified(alive.machine.applied()).next().is_some() {
            return None;
        }
        let reader = alive.ledger.reader();
        let (header, _) = reader.header(alive.machine.applied()).ok()?;
        let mut bytes = Vec::new();
        let parts = checkpoint::save(&alive.machine, |part| {
            bytes.push(part.to_vec());
            Ok(())
        });
        let (parts, beginning) =
            (parts.ok()?, checkpoint::beginning(&reader, &header, &context.epochs).ok()?);
        let own = ValidatorIndex::new(u16::from(self.number));
        let statement = checkpoint::statement(&header, &beginning, &parts);
        let signed = statement.sign(&key(self.number), own, context);
        Some((Manifest { signed, beginning, parts }, bytes))
    }

    /// Begins an empty disk with a checkpoint.
    pub(crate) fn restore(
        &mut self,
        manifest: &Manifest,
        parts: &[Vec<u8>],
        context: &Context,
        genesis: &Genesis,
    ) -> bool {
        let manifest = Manifest::from_bytes(&manifest.to_bytes()).expect("what was encoded");
        let first = Context::new(context.chain, genesis.validator_set(), LANE_COUNT);
        manifest.check(&first, LANE_COUNT).expect("what an honest validator saved");
        let mut store = MemoryStore::new();
        for (place, part) in parts.iter().enumerate() {
            let rows = manifest.rows(place, part).expect("what an honest validator saved");
            store.commit(&rows).expect("memory has room");
        }
        let machine = Machine::open(store.clone(), genesis).expect("its own root is right");
        assert_eq!(machine.applied(), manifest.signed.statement.height);
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let beginning = manifest.beginning.clone();
        let begun = Ledger::begin_with(&disk, context.chain, LOG_CONFIG, beginning);
        self.store = Some(if begun.is_ok() { store } else { MemoryStore::new() });
        begun.is_ok()
    }

    /// Keeps a copy of the disk as it is, with the height that it stands at.
    pub(crate) fn keep_copy(&mut self) {
        if let Some(alive) = &self.alive {
            self.copy = Some((self.disk.copy(), alive.header_written));
        }
    }

    /// Puts the copy of the disk back, if the validator went so far since that others have words of it.
    pub(crate) fn rewind(&mut self, random: &mut fastrand::Rng) -> bool {
        let Some((copy, height)) = self.copy.take() else { return false };
        let written = self.alive.as_ref().map_or(Height::default(), |alive| alive.header_written);
        if written.get() < height.get() + REWIND_HEIGHT_COUNT {
            return false;
        }
        self.disk.kill();
        self.die(random);
        self.disk = copy;
        self.store = Some(MemoryStore::new());
        self.certified.clear();
        self.chunks.clear();
        self.is_rewound = true;
        true
    }

    /// Starts a process on what the disk has. `None` when the power went meanwhile.
    pub(crate) fn start(
        &mut self,
        world_us: u64,
        profile: &Profile,
        genesis: &Genesis,
        context: &Context,
        history: &mut History,
        random: &mut fastrand::Rng,
    ) -> Result<Option<Started>, Broken> {
        let broken = |what: String| Broken { rule: "V4", what };
        let opened = Ledger::open(Arc::new(self.disk.clone()), context.chain, LOG_CONFIG);
        if opened.is_err() && self.disk.is_blown() {
            return Ok(None);
        }
        let (ledger, found) =
            opened.map_err(|error| broken(format!("the log does not open: {error}")))?;
        let torn = found.torn.len();
        let head = found.committed.as_ref().map_or(Height::default(), |(header, _)| header.height);
        let (machine, again, next) = self.replay(genesis, context, history, &ledger, head)?;
        let records = found.wal.iter().map(|record| record.bytes.clone());
        let words = Words::found(records, &ledger, std::mem::take(&mut self.chunks))?;
        let producers = verdict::producers(&machine)?;
        let unread = |error: String| broken(format!("the log does not read back: {error}"));
        let epochs = read_epochs(&ledger.reader(), genesis.validator_set())
            .map_err(|error| unread(error.to_string()))?;
        let set = epochs.current().set.clone();
        let recovered = recover(&ledger, found, &context.chain, epochs, producers)
            .map_err(|error| unread(error.to_string()))?;
        let config = self.config(profile, genesis, &set, random);
        let replica = Replica::new(self.now(world_us), config, recovered)
            .map_err(|error| broken(format!("the replica does not start: {error}")))?;
        self.alive = Some(Alive {
            replica,
            ledger,
            machine,
            syncing: None,
            executing: VecDeque::new(),
            words,
            header_written: head,
            header_durable: Height::default(),
            is_pausing: false,
            wake_us: None,
        });
        Ok(Some(Started { again, next, head, torn }))
    }

    /// Brings the state to the last header.
    fn replay(
        &mut self,
        genesis: &Genesis,
        context: &Context,
        history: &mut History,
        ledger: &Ledger,
        head: Height,
    ) -> Result<(Machine<MemoryStore>, Again, Option<ValidatorSet>), Broken> {
        let store = self.store.take().unwrap_or_default();
        let mut machine = Machine::open(store, genesis).map_err(|error| Broken {
            rule: "V4",
            what: format!("the state does not open: {error}"),
        })?;
        let flushed = machine.applied();
        rule(flushed <= head, "V4", || format!("the state is at {flushed}, the log at {head}"))?;
        let (mut again, mut next) = (Vec::new(), None);
        let reader = ledger.reader();
        for height in (1..=head.get()).map(Height::new) {
            let is_known = self.certified.contains_key(&height);
            if height > flushed {
                let block = read_block(&reader, &context.chain, height).map_err(|error| {
                    Broken { rule: "V4", what: format!("height {height}: {error}") }
                })?;
                let (state, receipts, found) = history.apply(&mut machine, &block)?;
                history.state(state)?;
                next = found;
                again.extend((!is_known).then(|| (state, Arc::new(receipts))));
            } else if let Some(state) = history.states.get(&height).filter(|_| !is_known) {
                again.push((*state, Arc::new(Vec::new())));
            }
        }
        let known = machine.next_set().map(|set| with_coin((*set).clone(), history.has_coin));
        next = next.or(known);
        Ok((machine, again, next))
    }

    fn config(
        &self,
        profile: &Profile,
        genesis: &Genesis,
        set: &ValidatorSet,
        random: &mut fastrand::Rng,
    ) -> Config {
        let mut config = Config::new(genesis.clone(), key(self.number));
        config.pending_size_max = PENDING_SIZE_MAX;
        config.checkpoint_height_count = 3;
        config.chunk_size_max = 1_200;
        config.stripe_size_min = self.stripe_size_min;
        config.clock_interval_us = 40_000;
        config.clock_chunk_us = profile.clock_chunk_ms.saturating_mul(1_000);
        config.wal_before_send = profile.wal_before_send;
        config.rules = profile.rules;
        config.verified = Arc::clone(&self.verified);
        if set.coin.is_some() {
            let dealing = Dealing::of(&set.powers());
            config.coin = Some(dealing.scheme.clone());
            config.coin_secret = dealing.secret(ValidatorIndex::new(u16::from(self.number)));
        }
        if self.trap_heights > 0 {
            // Of its own, so that a seed gives the world that it gave before there were traps.
            let mut of_traps = fastrand::Rng::with_seed(!random.clone().u64(..));
            let seed = std::array::from_fn(|_| of_traps.u8(..));
            config.traps = Some(Traps::new(seed, self.trap_heights));
        }
        let nonce = random.u64(..);
        config.check_nonce = profile.checks_its_store.then_some(nonce);
        config.observer = self.observer.map(|threshold| Observer { nonce, threshold });
        config
    }
}

/// Small segments; every read goes to the disk, whose faults are what is looked for.
const LOG_CONFIG: LedgerConfig = LedgerConfig {
    segment_size: 4 << 10,
    wal_segment_size: 4 << 10,
    chunk_cache_size: 0,
    ..LedgerConfig::new(LANE_COUNT)
};

/// A number times two to some power.
fn shifted(number: u64, log2: i8) -> u64 {
    let by = u32::from(log2.unsigned_abs());
    if log2 < 0 { number >> by } else { number << by }
}

/// Heights that a copy of a disk lies behind when it is put back: somewhere in them is a word of its validator.
const REWIND_HEIGHT_COUNT: u64 = 10;

/// Leaps for one round: more would only repeat words.
const LEAP_COUNT_MAX: u8 = 3;

/// Longer than the timers of the first led rounds.
const STORM_US: u64 = 2_000_000;

/// Most bytes that a validator takes before they are executed.
pub(crate) const PENDING_SIZE_MAX: usize = 20_000;
