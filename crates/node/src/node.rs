//! A validator from its directory to its last flush.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use quipu_crypto::coin::{CoinScheme, CoinSecret};
use quipu_crypto::domain::Tag;
use quipu_crypto::keyfile;
use quipu_crypto::suite::{SecretKey, verify_tagged};
use quipu_log::{Ledger, LedgerConfig, LedgerReader, LogError, Recovered};
use quipu_proof::Epochs;
use quipu_proof::names::chain_id;
use quipu_replica::storage::read_epochs;
use quipu_replica::{Observer, Replica, Traps};
use quipu_state::{ACTION_COUNT_MIN, Machine, StateError};
use quipu_types::{Encode, Genesis, Hash, Height, ValidatorIndex};
use tokio::sync::oneshot;

use crate::certificates::CertificateFile;
use crate::checkpoint::Saver;
use crate::clock::Clock;
use crate::config::Config;
use crate::dealer::Dealer;
use crate::disk::FileDisk;
use crate::driver::{Driver, Message, QUEUE_COUNT_MAX, SyncJob, keep_syncing, log_failed};
use crate::error::NodeError;
use crate::executor::{Executor, Work, state_failed};
use crate::listen::Guarded;
use crate::lock::DirLock;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::recovery::Executed;
use crate::shared::{Parts, Progress, Shared, is_alone};
use crate::sql::Sql;
use crate::store::LmdbStore;
use crate::ticker::{THREAD_RATE_HZ, Ticker};
use crate::{admin, http, listen, newcomer, recovery};

/// How long open requests may finish once the ledger has stopped.
pub(crate) const DRAIN_TIME: Duration = Duration::from_secs(5);
/// Directories and files of one validator, relative to its own.
pub(crate) const STATE_DIR: &str = "state";
pub(crate) const COLUMN_DIR: &str = "columns";

/// Where a validator listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// The HTTP interface.
    pub http: SocketAddr,
    /// The PostgreSQL wire.
    pub pg: SocketAddr,
    /// Health and metrics.
    pub admin: SocketAddr,
    /// Links of the other validators; none for a lone one.
    pub peer: Option<SocketAddr>,
}

/// A validator that is recovered and bound, ready to [`run`](Node::run).
#[derive(Debug)]
pub struct Node {
    shared: Arc<Shared>,
    running: Running,
    driver: Driver,
    inbox: Receiver<Message>,
    executor: Executor,
    work: Receiver<Work>,
    /// Has its part in coins, where later epochs have some.
    dealer: Option<Dealer>,
    /// Heights that were executed before, whose state certificates are wanted.
    uncertified: Vec<Executed>,
    listeners: Listeners,
    /// What the syncing thread works on; none for a lone validator.
    syncs: Option<Receiver<SyncJob>>,
    /// Where the other validators listen, by index, and the key that proves who dials.
    peers: Option<(BTreeMap<String, String>, SecretKey)>,
    /// Freed last.
    _lock: DirLock,
}

#[derive(Debug)]
struct Listeners {
    http: TcpListener,
    pg: TcpListener,
    admin: TcpListener,
    peer: Option<TcpListener>,
}

impl Listeners {
    fn bind(config: &Config, is_alone: bool) -> Result<(Self, Running), NodeError> {
        let (http, http_at) = listen::bind("listen.http", config.listen.http)?;
        let (pg, pg_at) = listen::bind("listen.pg", config.listen.pg)?;
        let (admin, admin_at) = listen::bind("listen.admin", config.listen.admin)?;
        let peer =
            if is_alone { None } else { Some(listen::bind("listen.peer", config.listen.peer)?) };
        let (peer, peer_at) = peer.unzip();
        let running = Running { http: http_at, pg: pg_at, admin: admin_at, peer: peer_at };
        Ok((Self { http, pg, admin, peer }, running))
    }
}

impl Node {
    /// Takes the directory's lock, binds the listeners, recovers the ledger. Nothing is served before
    /// [`run`](Node::run), though connections may wait already.
    pub fn open(config: Config) -> Result<Self, NodeError> {
        let wrong = |reason| NodeError::Config { path: config.dir.join("config.toml"), reason };
        config.check().map_err(wrong)?;
        let genesis = read_genesis(&config.genesis)?;
        let chain = chain_id(&genesis);
        let key = load_key(&config)?;
        let is_alone = is_alone(&genesis);
        let peers = match is_alone {
            true => None,
            // A key has no copy: the links have their own.
            false => Some((config.peers.clone(), load_key(&config)?)),
        };
        crate::wide::start();
        let lock = DirLock::take(&config.dir)?;
        let (listeners, running) = Listeners::bind(&config, is_alone)?;
        let is_new = !config.dir.join("lanes").is_dir();
        let observer = newcomer::begin(&config.dir, is_new, is_alone)?;
        let (disk, ledger, found) = open_ledger(&config, &genesis, chain)?;
        let epochs = read_epochs(&ledger.reader(), genesis.validator_set()).map_err(log_failed)?;
        let index = own_index(&config, &epochs, &key)?;
        let coin = crate::coin::load(&config, &genesis, &epochs.current().set, index)?;
        let machine = open_machine(&config, &genesis, &ledger.reader())?;
        check_peers(&config, &genesis, &machine, index)?;
        let certificates = CertificateFile::open(disk, &epochs)
            .map_err(|error| NodeError::system("opening the state certificates", error))?;
        let sql =
            Sql::open(&config.dir.join(COLUMN_DIR), &config.limits, &ledger.reader(), &machine)?;
        let (inbox_sender, inbox) = mpsc::sync_channel(QUEUE_COUNT_MAX);
        let head = found.committed.as_ref().map(|(header, _)| header.height).unwrap_or_default();
        let shared = Shared::new(Parts {
            dir: config.dir.clone(),
            genesis: genesis.clone(),
            chain,
            index: Some(index),
            epochs,
            limits: config.limits,
            pg: running.pg,
            reader: ledger.reader(),
            machine,
            certificates,
            sql,
            metrics: Metrics::new(),
            clock: Clock::new(),
            inbox: inbox_sender,
            progress: Progress { committed: head, ..Progress::default() },
            roles: load_roles(&config)?,
            access: Arc::new(crate::pg::Access::load(&config, &read_key(&config.key)?)?),
        });
        shared.sql.attach(&shared)?;
        let (executor, uncertified) = start_executor(&config, &shared, (index, head))?;
        let recovered = recovery::recovered(&shared, &ledger, found)?;
        let dealer = Dealer::open(&config.dealing, load_key(&config)?, &shared)?;
        let replica = start_replica(&shared, key, (observer, coin, traps(&config)?), recovered)?;
        let (work_sender, work) = mpsc::channel();
        let (syncer, syncs) = (!is_alone).then(mpsc::channel).unzip();
        let ticker = start_ticker(&config, &shared)?;
        let driver = Driver::new(replica, ledger, work_sender, syncer, ticker, Arc::clone(&shared));
        tracing::info!(chain = %chain, height = head.get(), "the ledger is open");
        Ok(Self {
            shared,
            running,
            driver,
            inbox,
            executor,
            work,
            dealer,
            uncertified,
            listeners,
            syncs,
            peers,
            _lock: lock,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn running(&self) -> Running {
        self.running
    }

    /// The chain id.
    #[must_use]
    pub fn chain(&self) -> Hash {
        self.shared.chain
    }

    /// Serves until `shutdown` is ready or the ledger can not go on. When it returns, everything is flushed and the
    /// directory is free.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), NodeError> {
        let Self {
            shared,
            running: _,
            driver,
            inbox,
            executor,
            work,
            dealer,
            uncertified,
            mut listeners,
            syncs,
            peers,
            _lock,
        } = self;
        if let Some(((addresses, key), listener)) = peers.zip(listeners.peer.take()) {
            Peers::start(&shared, listener, addresses, key)?;
        }
        let servers = Servers::start(&shared, listeners)?;
        let executor = spawn_executor(executor, work, &shared)?;
        let syncer = syncs.map(|jobs| spawn_syncer(jobs, &shared)).transpose()?;
        let (mut ended, driver) = spawn_driver(driver, inbox, uncertified)?;
        let dealer = dealer.map(|dealer| tokio::spawn(dealer.run()));
        let mut second = tokio::time::interval(Duration::from_secs(1));
        tokio::pin!(shutdown);
        let early = loop {
            tokio::select! {
                () = &mut shutdown => break None,
                result = &mut ended => break Some(driver_result(result)),
                _ = second.tick() => shared.sample(),
            }
        };
        tracing::info!("stopping");
        shared.stop();
        let result = match early {
            Some(result) => {
                shared.fail();
                result
            }
            None => {
                let stop = Arc::clone(&shared);
                drop(tokio::task::spawn_blocking(move || stop.send_patiently(Message::Stop)).await);
                driver_result((&mut ended).await)
            }
        };
        let left = tokio::task::spawn_blocking(move || {
            join(driver, "ledger");
            syncer.into_iter().for_each(|thread| join(thread, "syncing"));
            executor.join().unwrap_or_else(|_| {
                Some(NodeError::system("executing", "the executor's thread panicked"))
            })
        });
        let left = left.await.map_err(|error| NodeError::system("stopping", error))?;
        dealer.inspect(tokio::task::JoinHandle::abort);
        shared.peers.stop().await;
        servers.finish().await;
        let closed = close(&shared, result.is_ok());
        match &result {
            Ok(()) => tracing::info!(height = shared.progress().executed.get(), "stopped"),
            Err(error) => tracing::error!(code = %error.code(), %error, "stopped"),
        }
        result.and(left.map_or(Ok(()), Err)).and(closed)
    }
}

/// Closes the state. Only after a clean stop it is sealed: otherwise the next start executes again.
pub(crate) fn close(shared: &Shared, is_clean: bool) -> Result<(), NodeError> {
    match shared.take_machine() {
        Some(machine) if is_clean => {
            machine.into_store().close().map_err(|error| state_failed(StateError::from(error)))
        }
        _ => Ok(()),
    }
}

fn driver_result(
    ended: Result<Result<(), NodeError>, oneshot::error::RecvError>,
) -> Result<(), NodeError> {
    ended.unwrap_or_else(|_| {
        Err(NodeError::system("keeping the ledger", "the ledger's thread panicked"))
    })
}

pub(crate) fn join(thread: JoinHandle<()>, name: &str) {
    if thread.join().is_err() {
        tracing::error!(thread = name, "a thread panicked");
    }
}

type Ended = oneshot::Receiver<Result<(), NodeError>>;

fn spawn_driver(
    mut driver: Driver,
    inbox: Receiver<Message>,
    uncertified: Vec<Executed>,
) -> Result<(Ended, JoinHandle<()>), NodeError> {
    let (sender, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("quipu-ledger".into()).spawn(move || {
        driver.execute_again(uncertified);
        // Whoever waited has gone only when the whole process goes.
        drop(sender.send(driver.run(&inbox)));
    });
    let thread = thread.map_err(|error| NodeError::system("starting a thread", error))?;
    Ok((ended, thread))
}

fn spawn_syncer(
    jobs: Receiver<SyncJob>,
    shared: &Arc<Shared>,
) -> Result<JoinHandle<()>, NodeError> {
    let shared = Arc::clone(shared);
    std::thread::Builder::new()
        .name("quipu-sync".into())
        .spawn(move || keep_syncing(&shared, &jobs))
        .map_err(|error| NodeError::system("starting a thread", error))
}

/// The thread gives the failure that the ledger's thread was not there to hear.
pub(crate) fn spawn_executor(
    executor: Executor,
    work: Receiver<Work>,
    shared: &Arc<Shared>,
) -> Result<JoinHandle<Option<NodeError>>, NodeError> {
    let shared = Arc::clone(shared);
    std::thread::Builder::new()
        .name("quipu-execute".into())
        .spawn(move || {
            let error = executor.run(&work).err()?;
            match shared.send_patiently(Message::Failed(error)) {
                Some(Message::Failed(error)) => Some(error),
                _ => None,
            }
        })
        .map_err(|error| NodeError::system("starting a thread", error))
}

/// The listeners' tasks.
struct Servers {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    admin: tokio::task::JoinHandle<()>,
    /// Dropped to end the admin listener, which outlives the others.
    admin_stop: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

impl Servers {
    fn start(shared: &Arc<Shared>, listeners: Listeners) -> Result<Self, NodeError> {
        let metrics = &shared.metrics;
        let limits = &shared.limits;
        let http = Guarded::new(
            listen::to_tokio(listeners.http)?,
            limits.http_connection_count_max,
            metrics.http_connections.clone(),
            metrics.garbage("http"),
        );
        let admin_listener = Guarded::new(
            listen::to_tokio(listeners.admin)?,
            64,
            ::metrics::Gauge::noop(),
            metrics.garbage("admin"),
        );
        let (sender, receiver) = oneshot::channel::<()>();
        let http_router = http::router(Arc::clone(shared));
        let stopped = Arc::clone(shared);
        let http = tokio::spawn(listen::serve(http, http_router, async move {
            stopped.stopped().await;
        }));
        let admin_router = admin::router(Arc::clone(shared));
        let admin = tokio::spawn(listen::serve(admin_listener, admin_router, async move {
            drop(receiver.await);
        }));
        let pg = shared.sql.serve(shared, listeners.pg);
        let admin_stop = Arc::new(Mutex::new(Some(sender)));
        Ok(Self { tasks: vec![http, pg], admin, admin_stop })
    }

    /// Lets open requests finish for a while, then closes.
    async fn finish(self) {
        let deadline = tokio::time::Instant::now().checked_add(DRAIN_TIME);
        let deadline = deadline.unwrap_or_else(tokio::time::Instant::now);
        for mut task in self.tasks {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
            }
        }
        drop(self.admin_stop.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut admin = self.admin;
        if tokio::time::timeout(Duration::from_secs(1), &mut admin).await.is_err() {
            admin.abort();
        }
    }
}

/// Reads and checks a genesis file.
pub(crate) fn read_genesis(path: &Path) -> Result<Genesis, NodeError> {
    let wrong = |reason: String| NodeError::Genesis { path: path.to_path_buf(), reason };
    let size = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    let size_max = quipu_types::genesis::GENESIS_SIZE_MAX;
    if usize::try_from(size).is_ok_and(|size| size > size_max) {
        return Err(wrong(format!("{size} bytes, the most is {size_max}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let genesis = Genesis::from_json(&text).map_err(|error| wrong(error.to_string()))?;
    for (place, validator) in genesis.validators.iter().enumerate() {
        let mut before = genesis.validators.iter().take(place);
        if before.any(|other| other.name == validator.name) {
            return Err(wrong(format!("two validators are named {:?}", validator.name)));
        }
        let (key, proof) = (&validator.key, &validator.possession);
        if !verify_tagged(key, &Hash::ZERO, 0, Tag::Possession, &key.to_bytes(), proof) {
            return Err(wrong(format!("validator {:?} does not prove its key", validator.name)));
        }
        // With a small-order key anyone could sign as this validator (ZIP-215 accepts it).
        if genesis.validators.len() > 1 && quipu_crypto::suite::is_weak(key) {
            return Err(wrong(format!("validator {:?} has a weak key", validator.name)));
        }
    }
    Ok(genesis)
}

fn load_key(config: &Config) -> Result<SecretKey, NodeError> {
    keyfile::load(&config.key, None)
        .map_err(|error| NodeError::Key { path: config.key.clone(), reason: error.to_string() })
}

/// A key file's bytes, of which a secret is made.
pub(crate) fn read_key(path: &Path) -> Result<Vec<u8>, NodeError> {
    let failed =
        |error: std::io::Error| NodeError::Key { path: path.into(), reason: error.to_string() };
    std::fs::read(path).map_err(failed)
}

/// The keys of the roles that write through SQL here.
pub(crate) fn load_roles(config: &Config) -> Result<BTreeMap<String, SecretKey>, NodeError> {
    let load = |(role, path): (&String, &PathBuf)| {
        let key = keyfile::load(path, None)
            .map_err(|error| NodeError::Key { path: path.clone(), reason: error.to_string() })?;
        Ok((role.clone(), key))
    };
    config.roles.iter().map(load).collect()
}

/// The executor, that has executed all that is committed; with the heights whose certificates are missing.
fn start_executor(
    config: &Config,
    shared: &Arc<Shared>,
    (own, head): (ValidatorIndex, Height),
) -> Result<(Executor, Vec<Executed>), NodeError> {
    let mut executor = Executor::new(Arc::clone(shared));
    recovery::replay(shared, &mut executor, head)?;
    let uncertified = recovery::uncertified(shared, &executor, head)?;
    let upto = recovery::certified_upto(head, &uncertified);
    executor.save_with(Saver::new(config.retention, load_key(config)?, own, shared, upto));
    Ok((executor, uncertified))
}

/// How a replica begins, what makes its coins, and what it claims.
type Given = (Option<Observer>, Option<(CoinScheme, Option<CoinSecret>)>, Option<Traps>);

/// Traps at heights that this process alone knows.
fn traps(config: &Config) -> Result<Option<Traps>, NodeError> {
    match config.traps.heights {
        0 => Ok(None),
        heights => Ok(Some(Traps::new(newcomer::chance()?, heights))),
    }
}

/// The validator's machine, with what the process gives it: a fresh nonce, limits, what was verified already.
fn start_replica(
    shared: &Shared,
    key: SecretKey,
    (observer, coin, traps): Given,
    recovered: quipu_replica::Recovered,
) -> Result<Replica, NodeError> {
    let (coin, coin_secret) = coin.unzip();
    let config = quipu_replica::Config {
        observer,
        traps,
        coin,
        coin_secret: coin_secret.flatten(),
        pending_size_max: shared.limits.pending_size_max,
        stripe_size_min: shared.limits.stripe_size_min(),
        check_nonce: Some(newcomer::nonce()?),
        ticks: shared.genesis.clock_rate_hz < THREAD_RATE_HZ,
        verified: Arc::clone(&shared.verified),
        ..quipu_replica::Config::new(shared.genesis.clone(), key)
    };
    Replica::new(shared.clock.now(), config, recovered)
        .map_err(|error| NodeError::Damaged { what: "the log", reason: error.to_string() })
}

/// The clocks' thread, where clocks are fast; lanes are dealt evenly, by and large.
fn start_ticker(config: &Config, shared: &Shared) -> Result<Option<Ticker>, NodeError> {
    let genesis = &shared.genesis;
    let count = u16::try_from(genesis.validators.len()).unwrap_or(u16::MAX).max(1);
    let (lane_count, rate_hz) = (genesis.lane_count, genesis.clock_rate_hz);
    let start = || {
        let seen = (shared.clock, &*shared.metrics);
        Ticker::start(
            lane_count,
            u64::from(lane_count.div_ceil(count)),
            rate_hz,
            config.clock.core,
            seen,
        )
    };
    (rate_hz >= THREAD_RATE_HZ).then(start).transpose()
}

fn own_index(
    config: &Config,
    epochs: &Epochs,
    key: &SecretKey,
) -> Result<ValidatorIndex, NodeError> {
    epochs.current().set.index_of(&key.public()).ok_or_else(|| NodeError::Key {
        path: config.key.clone(),
        reason: format!(
            "its public key {} is no validator of epoch {}, the newest that this directory knows; where stake moves, register it (quipu stake \
             register): the set of the next epoch has it (quipu stake show); then begin with a checkpoint that the others saved in that epoch \
             (quipu recover)",
            key.public(),
            epochs.current().set.epoch,
        ),
    })
}

/// Whether the configuration says where every other validator listens of whom the ledger does not say it, and names nobody else.
fn check_peers(
    config: &Config,
    genesis: &Genesis,
    machine: &Machine<LmdbStore>,
    own: ValidatorIndex,
) -> Result<(), NodeError> {
    if is_alone(genesis) {
        return Ok(());
    }
    let wrong = |reason| NodeError::Config { path: config.dir.join("config.toml"), reason };
    let members = crate::members::members(machine).map_err(state_failed)?;
    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    if let Some(name) = config.peers.keys().find(|name| !names.contains(&name.as_str())) {
        let reason = format!("peers.{name}: the ledger has no such validator, but {names:?}");
        return Err(wrong(reason));
    }
    let addresses = crate::members::addresses(&members, &config.peers);
    let mut places = (0..).map(ValidatorIndex::new).zip(members.iter().zip(&addresses));
    let unknown = places
        .find(|(index, (member, address))| address.is_none() && member.power > 0 && *index != own);
    match unknown {
        Some((_, (member, _))) => {
            let name = &member.name;
            Err(wrong(format!("peers has no {name:?}: say where that validator listens")))
        }
        None => Ok(()),
    }
}

fn open_failed(dir: &Path, error: LogError) -> NodeError {
    match error {
        LogError::Damaged(finding)
            if matches!(finding.damage, quipu_log::Damage::SegmentHeader) =>
        {
            NodeError::Foreign { dir: dir.to_path_buf(), reason: finding.to_string() }
        }
        other => log_failed(other),
    }
}

/// Opens the log, and cuts what a crash tore.
pub(crate) fn open_ledger(
    config: &Config,
    genesis: &Genesis,
    chain: Hash,
) -> Result<(Arc<FileDisk>, Ledger, Recovered), NodeError> {
    let disk = FileDisk::new(&config.dir)
        .map_err(|error| NodeError::system("opening the directory", error))?;
    let disk: Arc<FileDisk> = Arc::new(disk);
    let ledger_config = LedgerConfig {
        segment_size: config.limits.segment_size,
        chunk_cache_size: config.limits.chunk_cache_size,
        ..LedgerConfig::new(genesis.lane_count)
    };
    let (ledger, found) = Ledger::open(disk.clone(), chain, ledger_config)
        .map_err(|error| open_failed(&config.dir, error))?;
    newcomer::made(&config.dir)?;
    for torn in &found.torn {
        tracing::warn!(finding = %torn, "a torn tail was cut");
    }
    Ok((disk, ledger, found))
}

/// Opens the state. One that is behind what the log begins with is made from a checkpoint that is here.
pub(crate) fn open_machine(
    config: &Config,
    genesis: &Genesis,
    reader: &LedgerReader,
) -> Result<Machine<LmdbStore>, NodeError> {
    let state = config.dir.join(STATE_DIR);
    let open = || {
        let store = LmdbStore::open(&state, config.limits.state_size_max)
            .map_err(|error| state_failed(StateError::from(error)))?;
        Machine::open(store, genesis).map_err(|error| match error {
            StateError::Foreign { .. } => {
                NodeError::Foreign { dir: config.dir.clone(), reason: error.to_string() }
            }
            other => state_failed(other),
        })
    };
    let mut machine = open()?;
    let first = reader.first_whole_height().map_err(log_failed)?;
    if machine.applied().next() < first {
        tracing::warn!(applied = %machine.applied(), %first, "the log begins after the state: it is made from a checkpoint");
        machine.into_store().close().map_err(|error| state_failed(StateError::from(error)))?;
        crate::checkpoint::restore(config, genesis, reader, &state)?;
        machine = open()?;
    }
    Ok(machine.with_threads(config.limits.execution_threads(), ACTION_COUNT_MIN))
}
