//! A gateway on its client's own machine: SQL in front of a ledger that runs elsewhere, with the client's key in this process.
//!
//! ```text
//!  validators ── GET /v1/blocks ──> [ follow: checks everything ] ─> log ─> [ executor: Machine, columns ] ─> readers
//!       ^                                                                           │ Executed
//!       └─── POST /v1/transactions <── [ post ] <── outbox <── [ courier ] <────────┴── Message ── gateway (signs) ── psql
//! ```
//! A validator and this share what serves SQL, signs and executes. In a validator the ledger's thread (`driver`) is behind
//! [`Shared::send`](crate::shared::Shared::send); here it is the courier.
//!
//! # Invariants
//! * N1 What a reader sees was committed by a quorum of the validators of the genesis file, and executed here.
//! * N2 A key never leaves this process; a write is answered by what was executed here.
//! * N3 Whoever shows what does not verify is named, with a code, and not asked again.
//! # Limits
//! It has what it verified, no more: it lags behind the validators by the way of a block, and shows the last verified height
//! while none answers. Its directory holds the ledger whole, as a validator's does, and nothing that is secret.

mod follow;
mod outbox;
mod sources;

use std::collections::VecDeque;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use quipu_consensus::Context;
use quipu_log::Ledger;
use quipu_proof::names::chain_id;
use quipu_replica::storage::read_epochs;
use quipu_replica::{Follower, Recovered, TermRecord};
use quipu_types::{Hash, Height};
use tokio::sync::oneshot;

use self::follow::Following;
use self::outbox::{Outbox, Poster};
use self::sources::Sources;
use crate::certificates::CertificateFile;
use crate::clock::Clock;
use crate::config::{CONFIG_FILE, Config};
use crate::driver::{Message, QUEUE_COUNT_MAX, log_failed};
use crate::error::NodeError;
use crate::executor::{Executor, Work};
use crate::listen::Guarded;
use crate::lock::DirLock;
use crate::metrics::Metrics;
use crate::node::{
    COLUMN_DIR, DRAIN_TIME, close, join, load_roles, open_ledger, open_machine, read_genesis,
    read_key, spawn_executor,
};
use crate::shared::{Parts, Progress, Shared};
use crate::sql::Sql;
use crate::{admin, listen, recovery};

/// Empty file that says that a directory is a gateway's: all of it can be fetched again, and no validator ever voted with it.
pub(crate) const MARK_FILE: &str = "gateway";

/// How a gateway is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteConfig {
    /// Directory, genesis, roles, passwords, limits, and where to listen for PostgreSQL and operators. What else a validator
    /// needs (key, peers, HTTP) is not read.
    pub config: Config,
    /// HTTP addresses of validators.
    pub validators: Vec<String>,
}

/// How far a gateway is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The height that readers see.
    pub height: Height,
    /// The newest that a validator says it has; unverified.
    pub tip: Height,
}

impl Standing {
    /// Whether nothing is left to catch up with, as far as a validator has said.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.tip > Height::default() && self.height >= self.tip
    }
}

/// A gateway that is recovered and bound, ready to [`run`](Remote::run).
#[derive(Debug)]
pub struct Remote {
    shared: Arc<Shared>,
    ledger: Ledger,
    recovered: Recovered,
    terms: Vec<Option<TermRecord>>,
    executor: Executor,
    inbox: Receiver<Message>,
    sources: Arc<Sources>,
    pg: (TcpListener, SocketAddr),
    admin: (TcpListener, SocketAddr),
    /// Freed last.
    _lock: DirLock,
}

impl Remote {
    /// Takes the directory's lock, binds the listeners, recovers what was followed before.
    pub fn open(remote: RemoteConfig) -> Result<Self, NodeError> {
        let RemoteConfig { config, validators } = remote;
        let wrong = |reason| NodeError::Config { path: config.dir.clone(), reason };
        config.check().map_err(wrong)?;
        let (mark, has_ledger) = (config.dir.join(MARK_FILE), config.dir.join("lanes").exists());
        if config.dir.join(CONFIG_FILE).exists() || (has_ledger && !mark.exists()) {
            let reason = "it is a validator's directory; give the gateway one of its own";
            return Err(wrong(reason.to_owned()));
        }
        let genesis = read_genesis(&config.genesis)?;
        let chain = chain_id(&genesis);
        let clock = Clock::new();
        let sources = Arc::new(Sources::new(&validators, clock)?);
        crate::wide::start();
        std::fs::create_dir_all(&config.dir)
            .map_err(|error| NodeError::system("making the gateway's directory", error))?;
        let lock = DirLock::take(&config.dir)?;
        std::fs::write(mark, "")
            .map_err(|error| NodeError::system("marking the gateway's directory", error))?;
        let pg = listen::bind("--pg", config.listen.pg)?;
        let admin = listen::bind("--admin", config.listen.admin)?;
        let (disk, ledger, found) = open_ledger(&config, &genesis, chain)?;
        let machine = open_machine(&config, &genesis, &ledger.reader())?;
        let epochs = read_epochs(&ledger.reader(), genesis.validator_set()).map_err(log_failed)?;
        let certificates = CertificateFile::open(disk, &epochs)
            .map_err(|error| NodeError::system("opening the state certificates", error))?;
        let sql =
            Sql::open(&config.dir.join(COLUMN_DIR), &config.limits, &ledger.reader(), &machine)?;
        let (inbox_sender, inbox) = mpsc::sync_channel(QUEUE_COUNT_MAX);
        let head = found.committed.as_ref().map(|(header, _)| header.height).unwrap_or_default();
        let shared = Shared::new(Parts {
            dir: config.dir.clone(),
            genesis,
            chain,
            index: None,
            epochs,
            limits: config.limits,
            pg: pg.1,
            reader: ledger.reader(),
            machine,
            certificates,
            sql,
            metrics: Metrics::new(),
            clock,
            inbox: inbox_sender,
            progress: Progress { committed: head, ..Progress::default() },
            roles: load_roles(&config)?,
            access: Arc::new(crate::pg::Access::load(&config, &secret(&config)?)?),
        });
        shared.sql.attach(&shared)?;
        let mut executor = Executor::new(Arc::clone(&shared));
        recovery::replay(&shared, &mut executor, head)?;
        let terms = found.terms.iter().map(|terms| terms.last().copied()).collect();
        let recovered = recovery::recovered(&shared, &ledger, found)?;
        tracing::info!(chain = %chain, height = head.get(), "the verified ledger is open");
        Ok(Self {
            shared,
            ledger,
            recovered,
            terms,
            executor,
            inbox,
            sources,
            pg,
            admin,
            _lock: lock,
        })
    }

    /// Where the PostgreSQL wire listens.
    #[must_use]
    pub fn pg(&self) -> SocketAddr {
        self.pg.1
    }

    /// Where health and metrics are.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin.1
    }

    /// The chain id.
    #[must_use]
    pub fn chain(&self) -> Hash {
        self.shared.chain
    }

    /// Serves until `shutdown` is ready or it can not go on; `tell` hears how far it is, about twice a second. When it
    /// returns, everything is flushed and the directory is free.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()>,
        mut tell: impl FnMut(Standing),
    ) -> Result<(), NodeError> {
        let Self { shared, ledger, recovered, terms, executor, inbox, sources, pg, admin, _lock } =
            self;
        let admin = Admin::start(&shared, admin.0)?;
        let pg = shared.sql.serve(&shared, pg.0);
        let outbox = Arc::new(Outbox::default());
        let (work_sender, work) = mpsc::channel();
        let executor = spawn_executor(executor, work, &shared)?;
        let following =
            following(&shared, ledger, (recovered, terms), work_sender, &sources, &outbox);
        let (mut lost, follow) = spawn_follow(following, &shared)?;
        let poster = tokio::spawn(poster(&shared, &outbox, &sources).run());
        let (mut ended, courier) = spawn_courier(&shared, outbox, inbox)?;
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        tokio::pin!(shutdown);
        let early = loop {
            tokio::select! {
                () = &mut shutdown => break None,
                result = &mut ended => break Some(courier_result(result)),
                _ = &mut lost => break None,
                _ = tick.tick() => {
                    shared.sample();
                    tell(Standing { height: shared.progress().executed, tip: sources.height() });
                }
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
                courier_result((&mut ended).await)
            }
        };
        let left = tokio::task::spawn_blocking(move || {
            join(courier, "courier");
            let followed = ended_of(follow, "following the ledger");
            followed.or(ended_of(executor, "executing"))
        });
        let left = left.await.map_err(|error| NodeError::system("stopping", error))?;
        poster.abort();
        finish(pg, admin).await;
        let result = result.and(left.map_or(Ok(()), Err));
        let closed = close(&shared, result.is_ok());
        if let Err(error) = &result {
            tracing::error!(code = %error.code(), %error, "stopped");
        }
        result.and(closed)
    }
}

/// Bytes that nobody else knows, of which the salts of unknown users are made.
fn secret(config: &Config) -> Result<Vec<u8>, NodeError> {
    if let Some(path) = config.roles.values().next() {
        return read_key(path);
    }
    let mut drawn = vec![0; 32];
    getrandom::fill(&mut drawn).map_err(|error| NodeError::system("reading chance", error))?;
    Ok(drawn)
}

fn poster(shared: &Arc<Shared>, outbox: &Arc<Outbox>, sources: &Arc<Sources>) -> Poster {
    let (shared, outbox, sources) = (Arc::clone(shared), Arc::clone(outbox), Arc::clone(sources));
    Poster { shared, outbox, sources, place: 0, busy_count: 0 }
}

fn following(
    shared: &Arc<Shared>,
    ledger: Ledger,
    (recovered, terms): (Recovered, Vec<Option<TermRecord>>),
    executor: mpsc::Sender<Work>,
    sources: &Arc<Sources>,
    outbox: &Arc<Outbox>,
) -> Following {
    let context = Context::clone(&shared.context());
    let follower = Follower::new(context, &shared.genesis, &recovered);
    let now_us = shared.clock.mono_us();
    Following {
        synced: follower.height(),
        follower,
        ledger,
        terms,
        executor,
        sources: Arc::clone(sources),
        outbox: Arc::clone(outbox),
        runtime: tokio::runtime::Handle::current(),
        ahead: VecDeque::new(),
        synced_us: now_us,
        moved_us: now_us,
        greeting: None,
        suspect: None,
        shared: Arc::clone(shared),
    }
}

type Worker = JoinHandle<Option<NodeError>>;

/// The thread gives the failure that the courier was not there to hear. That it ends is heard, however it does.
fn spawn_follow(
    following: Following,
    shared: &Arc<Shared>,
) -> Result<(oneshot::Receiver<()>, Worker), NodeError> {
    let shared = Arc::clone(shared);
    let (sender, ended) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name("quipu-follow".into());
    let thread = thread
        .spawn(move || {
            let _ends = sender;
            let error = following.run().err()?;
            match shared.send_patiently(Message::Failed(error)) {
                Some(Message::Failed(error)) => Some(error),
                _ => None,
            }
        })
        .map_err(|error| NodeError::system("starting a thread", error))?;
    Ok((ended, thread))
}

type Ended = oneshot::Receiver<Result<(), NodeError>>;

fn spawn_courier(
    shared: &Arc<Shared>,
    outbox: Arc<Outbox>,
    inbox: Receiver<Message>,
) -> Result<(Ended, JoinHandle<()>), NodeError> {
    let (sender, ended) = oneshot::channel();
    let shared = Arc::clone(shared);
    let thread = std::thread::Builder::new().name("quipu-courier".into()).spawn(move || {
        // Whoever waited has gone only when the whole process goes.
        drop(sender.send(outbox::carry(&shared, &outbox, &inbox)));
    });
    let thread = thread.map_err(|error| NodeError::system("starting a thread", error))?;
    Ok((ended, thread))
}

fn courier_result(
    ended: Result<Result<(), NodeError>, oneshot::error::RecvError>,
) -> Result<(), NodeError> {
    ended.unwrap_or_else(|_| Err(NodeError::system("carrying transactions", "the thread panicked")))
}

fn ended_of(worker: Worker, what: &'static str) -> Option<NodeError> {
    worker.join().unwrap_or_else(|_| Some(NodeError::system(what, "the thread panicked")))
}

/// The operators' listener, which outlives the others.
struct Admin {
    task: tokio::task::JoinHandle<()>,
    stop: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

impl Admin {
    fn start(shared: &Arc<Shared>, listener: TcpListener) -> Result<Self, NodeError> {
        let garbage = shared.metrics.garbage("admin");
        let listener =
            Guarded::new(listen::to_tokio(listener)?, 64, ::metrics::Gauge::noop(), garbage);
        let router = admin::router(Arc::clone(shared));
        let (sender, receiver) = oneshot::channel::<()>();
        let task = tokio::spawn(listen::serve(listener, router, async move {
            drop(receiver.await);
        }));
        Ok(Self { task, stop: Arc::new(Mutex::new(Some(sender))) })
    }
}

/// Lets open requests finish for a while, then closes.
async fn finish(mut pg: tokio::task::JoinHandle<()>, admin: Admin) {
    if tokio::time::timeout(DRAIN_TIME, &mut pg).await.is_err() {
        pg.abort();
    }
    let Admin { mut task, stop } = admin;
    drop(stop.lock().unwrap_or_else(PoisonError::into_inner).take());
    if tokio::time::timeout(Duration::from_secs(1), &mut task).await.is_err() {
        task.abort();
    }
}
