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
use quipu_proof::names::chain_id;
use quipu_replica::{Observer, Replica};
use quipu_state::{ACTION_COUNT_MIN, Machine, StateError};
use quipu_types::{Encode, Genesis, Hash, ValidatorIndex};
use tokio::sync::oneshot;

use crate::certificates::CertificateFile;
use crate::checkpoint::Saver;
use crate::clock::Clock;
use crate::config::Config;
use crate::disk::FileDisk;
use crate::driver::{Driver, Message, QUEUE_COUNT_MAX, SyncJob, keep_syncing, log_failed};
use crate::error::NodeError;
use crate::executor::{Executor, Work, state_failed};
use crate::listen::Guarded;
use crate::lock::DirLock;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::recovery::Executed;
use crate::shared::{Parts, Progress, Shared};
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
    /// Heights that were executed before, whose state certificates are wanted.
    uncertified: Vec<Executed>,
    listeners: Listeners,
    /// What the syncing thread works on; none for a lone validator.
    syncs: Option<Receiver<SyncJob>>,
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
    let members = crate::members::members(genesis, machine).map_err(state_failed)?;
    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    if let Some(name) = config.peers.keys().find(|name| !names.contains(&name.as_str())) {
        let reason = format!("peers.{name}: the ledger has no such validator, but {names:?}");
        return Err(wrong(reason));
    }
    let addresses = crate::members::addresses(&members, &config.peers);
    let mut unknown = members.iter().zip(&addresses).zip(0..);
    let unknown = unknown.find(|((member, address), index)| {
        address.is_none() && member.power > 0 && ValidatorIndex::new(*index) != own
    });
    match unknown {
        Some(((member, _), _)) => {
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
