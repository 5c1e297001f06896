//! A validator that lost its ledger begins again with a checkpoint of others: `quipu recover`.
//!
//! ```text
//!  servers ── signed statements ──> one that a third of the stake says ── manifest, parts, each checked ──> checkpoints/H
//!     checkpoints/H ── state rebuilt, its root compared ──> recover.tmp ── renamed ──> state · headers · base · checkpoints
//!  then `quipu start`: an observer, which fetches what came after H from the other validators
//! ```
//! * Nothing is believed that one server says: see `quipu_replica::checkpoint`, C1 and C2.
//! * The directory holds no ledger before, and a whole one after; interrupted, it is begun anew.
//! * It signs nothing before that is safe: whoever has no ledger is an observer (`newcomer`).

use std::path::Path;
use std::sync::Arc;

use quipu_client::Client;
use quipu_consensus::Context;
use quipu_log::{Disk, Ledger, LedgerConfig};
use quipu_proof::names::chain_id;
use quipu_replica::checkpoint::{
    MANIFEST_SIZE_MAX, Manifest, PART_SIZE_MAX, SignedStatement, Statement,
};
use quipu_state::StateError;
use quipu_types::{Decode, Genesis, Height, ValidatorIndex};

use crate::checkpoint::{CHECKPOINT_DIR, Saved, context, fresh, part_name, publish, write};
use crate::config::{CONFIG_FILE, Config};
use crate::disk::FileDisk;
use crate::error::NodeError;
use crate::executor::state_failed;
use crate::http::shape::CheckpointBody;
use crate::lock::DirLock;
use crate::newcomer::{self, sync_dir};
use crate::node::{STATE_DIR, read_genesis};

/// Where it is built.
const WORK_DIR: &str = "recover.tmp";
/// What a ledger is made of, in a validator's directory.
const LEDGER: [&str; 7] = ["lanes", "headers", "handovers", "wal", "base", STATE_DIR, "columns"];

/// What a directory begins again with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// A checkpoint of this height, said by these validators of the genesis.
    Checkpoint {
        /// The height.
        height: Height,
        /// Their names.
        by: Vec<String>,
    },
    /// Nobody has a checkpoint: others keep everything, and it is fetched from the genesis on.
    Nothing,
}

/// How far it is: parts that are there, of so many.
pub type Tell<'a> = dyn FnMut(usize, usize) + 'a;

/// Gives the ledger of a validator's directory, which holds none, a beginning that others vouch for.
///
/// # Errors
/// When there is a ledger, when too few vouch for one checkpoint, and what reading, writing and asking give.
pub async fn recover(
    dir: &Path,
    urls: &[String],
    tell: &mut Tell<'_>,
) -> Result<Recovery, NodeError> {
    let config = Config::read(dir)?;
    let genesis = read_genesis(&config.genesis)?;
    let _lock = DirLock::take(dir)?;
    clear(dir)?;
    let clients = urls.iter().map(|url| {
        Client::new(url)
            .map(|client| (url.clone(), client))
            .map_err(|error| NodeError::system("--from", error))
    });
    let clients = clients.collect::<Result<Vec<_>, _>>()?;
    let Some((statement, sayers)) = agreed(&genesis, &clients).await? else {
        newcomer::made(dir)?;
        return Ok(Recovery::Nothing);
    };
    let work = dir.join(WORK_DIR);
    std::fs::create_dir_all(&work).map_err(failed)?;
    download(&work, &genesis, statement, &clients, tell).await?;
    build(&work, &config, &genesis, statement.height)?;
    install(dir, &work)?;
    let by = sayers.iter().filter_map(|index| genesis.validators.get(usize::from(index.get())));
    let by = by.map(|validator| validator.name.clone()).collect();
    Ok(Recovery::Checkpoint { height: statement.height, by })
}

/// Makes sure that there is no ledger; what an interrupted recovery left goes.
fn clear(dir: &Path) -> Result<(), NodeError> {
    let work = dir.join(WORK_DIR);
    let is_interrupted = work.exists() && !dir.join("lanes").exists();
    for name in LEDGER {
        let path = dir.join(name);
        if !path.exists() {
            continue;
        }
        if !is_interrupted {
            let reason = format!(
                "there is a ledger: {name}. Only a directory without one is recovered; when that one is beyond repair, move {LEDGER:?} and \
                 certificates out of the way, and keep them until the validator runs"
            );
            return Err(NodeError::Config { path: dir.join(CONFIG_FILE), reason });
        }
        std::fs::remove_dir_all(path).map_err(failed)?;
    }
    if work.exists() {
        std::fs::remove_dir_all(work).map_err(failed)?;
    }
    Ok(())
}

type Clients = [(String, Client)];

/// The newest statement that validators of a third of the stake say, with its sayers; none where nobody has a checkpoint.
async fn agreed(
    genesis: &Genesis,
    clients: &Clients,
) -> Result<Option<(Statement, Vec<ValidatorIndex>)>, NodeError> {
    let mut said: Vec<SignedStatement> = Vec::new();
    let mut faults = Vec::new();
    let mut lists = Vec::new();
    for (url, client) in clients {
        match client.get::<Vec<CheckpointBody>>("/v1/checkpoints").await {
            Ok(list) => lists.push((url, client, list)),
            Err(error) => faults.push(error.to_string()),
        }
    }
    let answer_count = lists.len();
    let mut context = context(genesis);
    for (_, client, list) in lists.iter().filter(|_| genesis.stake.is_some()) {
        let newest = list.iter().map(|body| body.height).max();
        if let Some(followed) = follow(genesis, client, newest).await
            && followed.set.epoch > context.set.epoch
        {
            context = followed;
        }
    }
    for (url, _, list) in lists {
        for body in list {
            let bytes = hex::decode(&body.statement).unwrap_or_default();
            match SignedStatement::from_bytes(&bytes) {
                Ok(signed) if signed.check(&context).is_ok() => said.push(signed),
                _ => faults
                    .push(format!("{url}: its statement of height {} is not signed", body.height)),
            }
        }
    }
    if answer_count == 0 {
        return Err(NodeError::system("asking for checkpoints", faults.join("; ")));
    }
    let mut statements: Vec<Statement> = said.iter().map(|signed| signed.statement).collect();
    statements.sort_by(|one, other| other.cmp(one));
    statements.dedup();
    for statement in &statements {
        let sayers = said.iter().filter(|signed| signed.statement == *statement);
        let mut sayers: Vec<ValidatorIndex> = sayers.map(|signed| signed.validator).collect();
        sayers.sort_unstable();
        sayers.dedup();
        if context.set.is_third(context.set.power_of(sayers.iter().copied())) {
            return Ok(Some((*statement, sayers)));
        }
    }
    if statements.is_empty() && faults.is_empty() {
        return Ok(None);
    }
    let heights: Vec<String> = said
        .iter()
        .map(|signed| format!("{} by {}", signed.statement.height, signed.validator))
        .collect();
    let reason = format!(
        "no checkpoint is vouched for by validators of a third of the stake: there are {heights:?} {}; give the addresses of more validators \
         (--from), and see that all have the same retention.checkpoint_heights",
        faults.join("; ")
    );
    Err(NodeError::system("choosing a checkpoint", reason.trim_end()))
}

/// The validators of the newest epoch that a server shows, followed from the genesis'; none where it shows none, or a false one.
async fn follow(genesis: &Genesis, client: &Client, newest: Option<u64>) -> Option<Context> {
    let path = format!("/v1/checkpoints/{}", newest?);
    let bytes = client.get_bytes(&path, MANIFEST_SIZE_MAX).await.ok()?;
    Manifest::from_bytes(&bytes).ok()?.follow(&context(genesis)).ok()
}

/// Fetches a checkpoint, each part from whoever gives it right.
async fn download(
    work: &Path,
    genesis: &Genesis,
    statement: Statement,
    clients: &Clients,
    tell: &mut Tell<'_>,
) -> Result<(), NodeError> {
    let path = format!("/v1/checkpoints/{}", statement.height);
    let context = context(genesis);
    let is_it = |bytes: Vec<u8>| {
        let manifest = Manifest::from_bytes(&bytes).map_err(|error| error.to_string())?;
        manifest.check(&context, genesis.lane_count).map_err(|error| error.to_string())?;
        let is_agreed = manifest.signed.statement == statement;
        is_agreed.then_some(manifest).ok_or_else(|| "it is of another statement".to_owned())
    };
    let manifest = any(clients, &path, MANIFEST_SIZE_MAX, is_it).await?;
    let dir = work.join(CHECKPOINT_DIR);
    let partial = fresh(&dir, statement.height).map_err(failed)?;
    let count = manifest.parts.len();
    for place in 0..count {
        tell(place, count);
        let path = format!("{path}/parts/{place}");
        let part = any(clients, &path, PART_SIZE_MAX, |bytes| {
            let rows = manifest.rows(place, &bytes).map_err(|error| error.to_string());
            rows.map(|_| bytes)
        });
        write(&partial.join(part_name(place)), &part.await?).map_err(failed)?;
    }
    tell(count, count);
    publish(&dir, statement.height, &manifest).map_err(failed)
}

/// Asks one after another until one gives what `read` takes.
async fn any<T>(
    clients: &Clients,
    path: &str,
    size_max: usize,
    read: impl Fn(Vec<u8>) -> Result<T, String>,
) -> Result<T, NodeError> {
    let mut faults = Vec::new();
    for (url, client) in clients {
        match client.get_bytes(path, size_max).await {
            Ok(bytes) => match read(bytes) {
                Ok(taken) => return Ok(taken),
                Err(reason) => {
                    tracing::warn!(validator = url, path, reason, "what it sends is false");
                    faults.push(format!("{url}: {reason}"));
                }
            },
            Err(error) => faults.push(error.to_string()),
        }
    }
    Err(NodeError::system("fetching a checkpoint", format!("{path}: {}", faults.join("; "))))
}

/// Makes state and log of the checkpoint in the work directory.
fn build(work: &Path, config: &Config, genesis: &Genesis, height: Height) -> Result<(), NodeError> {
    let saved = Saved::of(work, height);
    let machine = saved.load(genesis, &work.join(STATE_DIR), config.limits.state_size_max)?;
    let store = machine.into_store();
    store.close().map_err(|error| state_failed(StateError::from(error)))?;
    let manifest = saved.manifest(genesis).map_err(failed)?;
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::new(work).map_err(failed)?);
    let log = LedgerConfig {
        segment_size: config.limits.segment_size,
        ..LedgerConfig::new(genesis.lane_count)
    };
    Ledger::begin_with(&disk, chain_id(genesis), log, manifest.beginning).map_err(failed)
}

/// Gives the directory what was built: the log's base last, without which there is no ledger.
fn install(dir: &Path, work: &Path) -> Result<(), NodeError> {
    // It may have voted before.
    newcomer::made(dir)?;
    let checkpoints = dir.join(CHECKPOINT_DIR);
    if checkpoints.exists() {
        std::fs::remove_dir_all(&checkpoints).map_err(failed)?;
    }
    for name in [CHECKPOINT_DIR, STATE_DIR, "handovers", "headers", "base"] {
        std::fs::rename(work.join(name), dir.join(name)).map_err(failed)?;
    }
    sync_dir(dir)?;
    std::fs::remove_dir_all(work).map_err(failed)?;
    sync_dir(dir)
}

fn failed(error: impl std::fmt::Display) -> NodeError {
    NodeError::system("recovering the ledger", error)
}
