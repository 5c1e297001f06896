//! What every request handler sees: read handles, limits, progress, and the way to the ledger's thread.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use quipu_consensus::Context;
use quipu_crypto::{SecretKey, Verified};
use quipu_log::LedgerReader;
use quipu_proof::{Committed, Epochs, Pinned};
use quipu_replica::Admissions;
use quipu_state::{Machine, StateError};
use quipu_types::{Genesis, Hash, Header, Height, Lane, Receipt, Term, Time, ValidatorIndex};
use tokio::sync::{Semaphore, watch};

use crate::awaited::Awaited;
use crate::certificates::CertificateFile;
use crate::clock::Clock;
use crate::clocks::Clocks;
use crate::config::Limits;
use crate::driver::Message;
use crate::error::NodeError;
use crate::executor::state_failed;
use crate::gateway::Gateway;
use crate::http::complain::Desk;
use crate::http::error::ApiError;
use crate::metrics::{Metrics, gauge_value};
use crate::peers::Peers;
use crate::pg::Access;
use crate::sql::Sql;
use crate::state_votes::StateVotes;
use crate::store::LmdbStore;
use crate::tail::Tail;

/// Bytes of clients' transactions that need no second check: seconds of the fastest stream.
const ADMISSIONS_SIZE_MAX: usize = 16 << 20;
/// Most consumer groups whose lag is measured.
const LAG_GROUP_COUNT_MAX: usize = 64;

/// How far the ledger is, as this process knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Newest committed height.
    pub(crate) committed: Height,
    /// Newest executed height: what readers see.
    pub(crate) executed: Height,
    /// Newest height whose state certificate is stored.
    pub(crate) certified: Height,
    /// Whether the process is stopping.
    pub(crate) stopping: bool,
}

/// A transaction that stands in the ledger.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Final {
    pub(crate) receipt: Receipt,
    pub(crate) height: Height,
    pub(crate) time: Time,
}

/// One point of the rates: a time and two counters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) mono_us: u64,
    pub(crate) height: u64,
    pub(crate) transactions: u64,
    pub(crate) events: u64,
}

/// What handlers share.
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) genesis: Genesis,
    pub(crate) chain: Hash,
    /// This validator's index in the set; none for a gateway, which follows the ledger and votes nothing.
    pub(crate) index: Option<ValidatorIndex>,
    pub(crate) limits: Limits,
    /// Where the PostgreSQL wire listens.
    pub(crate) pg: SocketAddr,
    pub(crate) reader: LedgerReader,
    /// None once it is closed.
    machine: RwLock<Option<Machine<LmdbStore>>>,
    context: RwLock<Arc<Context>>,
    /// The validators as whoever has the genesis follows them.
    pinned: Mutex<Pinned>,
    pub(crate) certificates: CertificateFile,
    pub(crate) sql: Sql,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    /// The other validators.
    pub(crate) peers: Peers,
    /// How soon they sign states.
    pub(crate) state_votes: StateVotes,
    /// What no committed cut covers yet.
    pub(crate) tail: Tail,
    /// How lanes' clocks go.
    pub(crate) clocks: Clocks,
    /// Signs what is written through SQL.
    pub(crate) gateway: Gateway,
    /// What clients' programs did, for those who wait for it.
    pub(crate) awaited: Awaited,
    /// Who may connect to the PostgreSQL listener.
    pub(crate) access: Arc<Access>,
    /// Clients' transactions that were checked already, and validators' signatures.
    pub(crate) admissions: Admissions,
    pub(crate) verified: Arc<Verified>,
    inbox: SyncSender<Message>,
    progress: watch::Sender<Progress>,
    /// Newest height whose header is durable: the state is never flushed beyond it.
    durable: AtomicU64,
    failed: AtomicBool,
    /// Counters since genesis and since the start.
    pub(crate) transactions: AtomicU64,
    pub(crate) events: AtomicU64,
    pending_bytes: AtomicU64,
    /// Terms by lane; 0 until the ledger's thread has said.
    terms: Box<[AtomicU64]>,
    samples: Mutex<[Sample; 2]>,
    pub(crate) desk: Desk,
    pub(crate) body_room: Semaphore,
    pub(crate) followers: Arc<Semaphore>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// The state is closed: the process is at its very end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed;

impl From<Closed> for ApiError {
    fn from(_: Closed) -> Self {
        Self::stopping()
    }
}

impl From<Closed> for NodeError {
    fn from(_: Closed) -> Self {
        Self::system("reading the state", "it is closed")
    }
}

/// The state while it is read.
#[derive(Debug)]
pub(crate) struct MachineRead<'a>(RwLockReadGuard<'a, Option<Machine<LmdbStore>>>);

impl std::ops::Deref for MachineRead<'_> {
    type Target = Machine<LmdbStore>;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref().expect("it was there when the guard was made, and a guard keeps it there")
    }
}

/// What [`Shared`] is made of.
pub(crate) struct Parts {
    pub(crate) dir: PathBuf,
    pub(crate) genesis: Genesis,
    pub(crate) chain: Hash,
    pub(crate) index: Option<ValidatorIndex>,
    /// Up to that of the height after the last header.
    pub(crate) epochs: Epochs,
    pub(crate) limits: Limits,
    pub(crate) pg: SocketAddr,
    pub(crate) reader: LedgerReader,
    pub(crate) machine: Machine<LmdbStore>,
    pub(crate) certificates: CertificateFile,
    pub(crate) sql: Sql,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    pub(crate) inbox: SyncSender<Message>,
    pub(crate) progress: Progress,
    /// The roles' keys.
    pub(crate) roles: BTreeMap<String, SecretKey>,
    /// Who may connect to the PostgreSQL listener.
    pub(crate) access: Arc<Access>,
}

/// Whether nobody else ever validates: one validator, and stake that does not move.
pub(crate) fn is_alone(genesis: &Genesis) -> bool {
    genesis.validators.len() == 1 && genesis.stake.is_none()
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let room = crate::http::submit::body_units(parts.limits.pending_size_max);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        // Alone, nobody sends back what a client sent.
        let is_alone = is_alone(&parts.genesis) && parts.index.is_some();
        let known_size = if is_alone { 0 } else { ADMISSIONS_SIZE_MAX };
        let admissions = Admissions::new(parts.chain, parts.genesis.lane_count, known_size);
        let verified = Arc::<Verified>::default();
        let context = Context {
            verified: Arc::clone(&verified),
            sets_change: parts.genesis.stake.is_some(),
            ..Context::in_epoch(parts.chain, parts.epochs)
        };
        Arc::new(Self {
            context: RwLock::new(Arc::new(context)),
            pinned: Mutex::new(Pinned::of_checked(&parts.genesis)),
            admissions,
            gateway: Gateway::new(parts.roles),
            awaited: Awaited::default(),
            access: parts.access,
            verified,
            durable: AtomicU64::new(parts.progress.committed.get()),
            failed: AtomicBool::new(false),
            transactions: AtomicU64::new(0),
            events: AtomicU64::new(0),
            pending_bytes: AtomicU64::new(0),
            terms: (0..parts.genesis.lane_count).map(|_| AtomicU64::new(0)).collect(),
            samples: Mutex::new([Sample::default(); 2]),
            desk: Desk::default(),
            body_room: Semaphore::new(room.min(Semaphore::MAX_PERMITS)),
            followers: Arc::new(Semaphore::new(parts.limits.follower_count_max)),
            dir: parts.dir,
            state_votes: StateVotes::new(),
            tail: Tail::new(parts.genesis.lane_count),
            clocks: Clocks::default(),
            genesis: parts.genesis,
            chain: parts.chain,
            index: parts.index,
            limits: parts.limits,
            pg: parts.pg,
            reader: parts.reader,
            machine: RwLock::new(Some(parts.machine)),
            certificates: parts.certificates,
            sql: parts.sql,
            metrics: parts.metrics,
            clock: parts.clock,
            peers: Peers::new(),
            inbox: parts.inbox,
            progress: watch::Sender::new(parts.progress),
        })
    }

    /// What votes, certificates and chunks are judged by: every epoch up to that of the next height.
    pub(crate) fn context(&self) -> Arc<Context> {
        Arc::clone(&self.context.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The validators by this ledger's hand-overs, as whoever has the genesis follows them; each is verified once.
    pub(crate) fn pinned(&self) -> Result<Pinned, ApiError> {
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((header, certificate)) = self.reader.handover(pinned.epoch())? {
            let handover = Committed::new(header, certificate);
            pinned.follow(std::slice::from_ref(&handover)).map_err(ApiError::damaged)?;
        }
        Ok(pinned.clone())
    }

    /// Takes note of a header that is committed here. Whether an epoch ended.
    pub(crate) fn pass(&self, header: &Header) -> std::io::Result<bool> {
        if header.next_set.is_none() {
            return Ok(false);
        }
        let mut context = Context::clone(&self.context());
        context.pass(header);
        self.certificates.pass(&context.epochs)?;
        *self.context.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(context);
        Ok(true)
    }

    /// The terms that lanes are in, as the ledger's thread says.
    pub(crate) fn set_terms(&self, terms: &[(Term, ValidatorIndex)]) {
        for (own, (term, _)) in self.terms.iter().zip(terms) {
            own.store(term.get(), Ordering::Relaxed);
        }
    }

    /// The term that a lane is in, when the ledger's thread has said.
    pub(crate) fn term(&self, lane: Lane) -> Option<Term> {
        let term = self.terms.get(usize::from(lane.get()))?.load(Ordering::Relaxed);
        (term > 0).then_some(Term::new(term))
    }

    pub(crate) fn lane_count(&self) -> u16 {
        self.genesis.lane_count
    }

    /// The state, to read. Writers wait while it is held.
    pub(crate) fn machine(&self) -> Result<MachineRead<'_>, Closed> {
        let guard = self.machine.read().unwrap_or_else(PoisonError::into_inner);
        if guard.is_some() { Ok(MachineRead(guard)) } else { Err(Closed) }
    }

    /// Changes the state: for the executor alone.
    pub(crate) fn with_machine<T>(
        &self,
        change: impl FnOnce(&mut Machine<LmdbStore>) -> Result<T, StateError>,
    ) -> Result<T, NodeError> {
        let mut guard = self.machine.write().unwrap_or_else(PoisonError::into_inner);
        change(guard.as_mut().ok_or(Closed)?).map_err(state_failed)
    }

    /// Takes the state away from readers, to close it.
    pub(crate) fn take_machine(&self) -> Option<Machine<LmdbStore>> {
        self.machine.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Wakes whenever the progress moves.
    pub(crate) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(change);
    }

    pub(crate) fn stopping(&self) -> bool {
        self.progress().stopping
    }

    /// New requests are refused from here on, and followers end.
    pub(crate) fn stop(&self) {
        self.update(|progress| progress.stopping = true);
    }

    /// Returns when the process is stopping.
    pub(crate) async fn stopped(&self) {
        let mut progress = self.watch();
        // The sender lives as long as `self`.
        drop(progress.wait_for(|progress| progress.stopping).await);
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    pub(crate) fn durable(&self) -> Height {
        Height::new(self.durable.load(Ordering::Acquire))
    }

    pub(crate) fn set_durable(&self, height: Height) {
        self.durable.store(height.get(), Ordering::Release);
    }

    pub(crate) fn pending_bytes(&self) -> u64 {
        self.pending_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_pending_bytes(&self, size: usize) {
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        self.pending_bytes.store(size, Ordering::Relaxed);
        self.metrics.pending_bytes.set(gauge_value(size));
    }

    /// Hands a message to the ledger's thread without waiting; `Err(true)` when its queue is full,
    /// `Err(false)` when it has ended.
    pub(crate) fn send(&self, message: Message) -> Result<(), bool> {
        self.inbox.try_send(message).map_err(|error| matches!(error, TrySendError::Full(_)))
    }

    /// The same, giving back what found no room, or nobody.
    pub(crate) fn try_send(&self, message: Message) -> Option<Message> {
        self.inbox.try_send(message).err().map(|error| match error {
            TrySendError::Full(message) | TrySendError::Disconnected(message) => message,
        })
    }

    /// The same, waiting for room: for the executor, links and stopping, never for requests.
    /// Gives the message back when the ledger's thread has ended.
    pub(crate) fn send_patiently(&self, message: Message) -> Option<Message> {
        self.inbox.send(message).err().map(|unsent| unsent.0)
    }

    /// Where an executed transaction stands and what became of it.
    pub(crate) fn find(&self, tx: &Hash) -> Result<Option<Final>, ApiError> {
        let machine = self.machine()?;
        find(&machine, tx).map_err(ApiError::damaged)
    }

    fn refresh_clocks(&self) {
        let Some(pace) = self.clocks.pace() else { return };
        for (lane, clock) in (0..).zip(&pace.lanes) {
            if let Some(rate_hz) = clock.rate_hz {
                self.metrics.lane_clock(lane).set(rate_hz);
            }
        }
    }

    fn refresh_state_votes(&self) {
        let count = self.context().set.validators.len();
        for validator in (0..).map(ValidatorIndex::new).take(count) {
            if let Some(p99_us) = self.state_votes.p99_us(validator) {
                self.metrics.state_vote_p99(validator).set(gauge_value(p99_us) / 1_000_000.0);
            }
        }
    }

    /// Gauges that are computed when they are looked at.
    pub(crate) fn refresh_gauges(&self) {
        let progress = self.progress();
        self.metrics.height_committed.set(gauge_value(progress.committed.get()));
        self.metrics.height_executed.set(gauge_value(progress.executed.get()));
        self.metrics.height_certified.set(gauge_value(progress.certified.get()));
        self.metrics.accel(&quipu_accel::default().counts());
        self.metrics.cache("signatures", self.verified.counts());
        self.metrics.cache("transactions", self.admissions.counts());
        for (cache, counts) in self.reader.cache_counts() {
            self.metrics.cache(cache, counts);
        }
        if let Ok(machine) = self.machine() {
            self.metrics.cache("state", machine.cache_counts());
        }
        self.refresh_clocks();
        self.refresh_state_votes();
        self.metrics.uptime_seconds.set(gauge_value(self.uptime_seconds()));
        self.metrics.disk_free_bytes.set(gauge_value(self.disk().0));
        self.metrics.set_group_lags(&self.group_lags());
        for lane in 0..self.lane_count() {
            self.metrics.lane_lag(lane).set(gauge_value(self.lane_lag(Lane::new(lane))));
        }
    }

    /// How many transactions of a lane are held here, and no committed cut covers.
    fn lane_lag(&self, lane: Lane) -> u64 {
        // In this order, so that what is committed meanwhile is not counted.
        let held = self.tail.end(lane).unwrap_or_default();
        let committed = self.reader.tip(lane).map(|tip| tip.seqno).unwrap_or_default();
        held.get().saturating_sub(committed.get())
    }

    /// How far consumer groups are behind, lane by lane: the first [`LAG_GROUP_COUNT_MAX`] by name.
    fn group_lags(&self) -> Vec<(String, u16, u64)> {
        let groups =
            self.machine().ok().and_then(|machine| machine.groups("", LAG_GROUP_COUNT_MAX).ok());
        let mut lags = Vec::new();
        for (name, _) in groups.unwrap_or_default() {
            // One look each: the executor is not kept waiting for all.
            let group = self.machine().ok().and_then(|machine| machine.group(&name).ok().flatten());
            for (record, lane) in
                group.map(|group| group.lanes).unwrap_or_default().iter().zip(0_u16..)
            {
                let Ok(tip) = self.reader.tip(Lane::new(lane)) else { continue };
                let lag = tip.seqno.get().saturating_sub(record.cursor.seqno.get());
                lags.push((name.clone(), lane, lag));
            }
        }
        lags
    }

    pub(crate) fn uptime_seconds(&self) -> u64 {
        self.clock.mono_us().div_euclid(1_000_000)
    }

    /// Free and all bytes of the directory's disk; zeros when the system does not say.
    pub(crate) fn disk(&self) -> (u64, u64) {
        let Ok(disk) = rustix::fs::statvfs(&self.dir) else { return (0, 0) };
        (disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize))
    }

    /// Takes a point for the rates, once a second.
    pub(crate) fn sample(&self) {
        let fresh = Sample {
            mono_us: self.clock.mono_us(),
            height: self.progress().executed.get(),
            transactions: self.transactions.load(Ordering::Relaxed),
            events: self.events.load(Ordering::Relaxed),
        };
        let mut samples = self.samples();
        let [_, last] = *samples;
        *samples = [last, fresh];
    }

    /// The last two points.
    pub(crate) fn samples(&self) -> MutexGuard<'_, [Sample; 2]> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find(machine: &Machine<LmdbStore>, tx: &Hash) -> Result<Option<Final>, StateError> {
    let Some(place) = machine.tx(tx)? else { return Ok(None) };
    let receipt = machine.receipt(place.height, place.ordinal)?;
    let time = machine.state(place.height)?.map(|record| record.time_us);
    Ok(receipt.zip(time).map(|(receipt, time)| Final { receipt, height: place.height, time }))
}
