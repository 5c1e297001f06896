//! Checkpoints on disk: made by the executor, served to whoever has lost more than others keep, and what retention rests on.
//!
//! ```text
//!  checkpoints/00000000000000020000/    manifest · part-000000 · part-000001 · …      (format: `quipu_replica::checkpoint`)
//!  checkpoints/partial-…20000/          one that is being made
//!
//!  executor   height h executed ── state ─> parts         h durable ── log ─> manifest ─> renamed ─> prune below h - keep
//! ```
//! * A checkpoint is there whole or not at all: its directory gets its name once everything in it is durable.
//! * The state is read while nothing is executed; the order goes on (`docs/measurements.md` says how long that takes).
//! * It is there only once every state up to it is certified here: who begins with it can not vote on those any more, and
//!   asks others for their certificates.
//! * The newest [`KEPT_COUNT`] stay.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use quipu_consensus::Context;
use quipu_crypto::suite::SecretKey;
use quipu_log::LedgerReader;
use quipu_proof::names::chain_id;
use quipu_replica::checkpoint::{self, CheckpointError, Manifest, SignedStatement, Statement};
use quipu_state::{Machine, Store};
use quipu_types::{Decode, Encode, Genesis, Hash, Header, Height, ValidatorIndex};

use crate::config::{Config, Retention};
use crate::driver::{Message, log_failed};
use crate::error::NodeError;
use crate::executor::state_failed;
use crate::shared::Shared;
use crate::store::LmdbStore;

/// Directory of the checkpoints.
pub(crate) const CHECKPOINT_DIR: &str = "checkpoints";
const PARTIAL: &str = "partial-";
const MANIFEST_FILE: &str = "manifest";
/// Checkpoints that are kept.
const KEPT_COUNT: usize = 2;
/// Checkpoints that wait for a header or for certificates; while there are as many, no other is made.
const PENDING_COUNT_MAX: usize = 4;

/// Makes checkpoints, for the executor.
pub(crate) struct Saver {
    retention: Retention,
    key: SecretKey,
    own: ValidatorIndex,
    /// Those whose parts are made, oldest first.
    pending: VecDeque<Pending>,
    /// Every height up to here has its certificate here.
    certified: Height,
}

struct Pending {
    header: Header,
    parts: Vec<Hash>,
    /// What reading and writing the rows took, during which nothing was executed.
    micros: u64,
}

impl std::fmt::Debug for Saver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saver").field("retention", &self.retention).finish_non_exhaustive()
    }
}

impl Saver {
    /// None where no checkpoint is wanted. Every height up to `certified` has its certificate.
    pub(crate) fn new(
        retention: Retention,
        key: SecretKey,
        own: ValidatorIndex,
        shared: &Shared,
        certified: Height,
    ) -> Option<Self> {
        let is_wanted = retention.checkpoint_heights > 0;
        let pending = VecDeque::new();
        let dir = shared.dir.join(CHECKPOINT_DIR);
        if let Err(error) = sweep(&dir).or_else(absent_is_empty) {
            tracing::warn!(%error, "what was left of a checkpoint stays");
        }
        is_wanted.then_some(Self { retention, key, own, pending, certified })
    }

    /// Saves the state after this header, if that is due: nothing else was executed since.
    pub(crate) fn executed(&mut self, shared: &Shared, header: &Header) -> Result<(), NodeError> {
        let height = header.height;
        let is_due = height.get().is_multiple_of(self.retention.checkpoint_heights);
        if !is_due || self.pending.len() >= PENDING_COUNT_MAX {
            return Ok(());
        }
        let began_us = shared.clock.mono_us();
        let dir = fresh(&shared.dir.join(CHECKPOINT_DIR), height).map_err(failed)?;
        let mut count = 0_usize;
        let machine = shared.machine()?;
        let parts = checkpoint::save(&machine, |part| {
            let path = dir.join(part_name(count));
            count = count.saturating_add(1);
            write(&path, part).map_err(|error| error.to_string())
        });
        let parts = parts.map_err(failed)?;
        let micros = shared.clock.mono_us().saturating_sub(began_us);
        self.pending.push_back(Pending { header: header.clone(), parts, micros });
        Ok(())
    }

    /// Finishes a checkpoint whose header is durable by now, and every state up to it certified; then what nobody needs any
    /// more goes.
    pub(crate) fn finish(&mut self, shared: &Shared) -> Result<(), NodeError> {
        let Some(first) = self.pending.front().map(|pending| pending.header.height) else {
            return Ok(());
        };
        while self.certified < first
            && shared.certificates.get(self.certified.next()).map_err(failed)?.is_some()
        {
            self.certified = self.certified.next();
        }
        let is_ready = |_: &mut Pending| first <= self.certified.min(shared.durable());
        let Some(Pending { header, parts, micros }) = self.pending.pop_front_if(is_ready) else {
            return Ok(());
        };
        shared.certificates.sync().map_err(failed)?;
        let context = shared.context();
        let beginning = checkpoint::beginning(&shared.reader, &header, &context.epochs);
        let beginning = beginning.map_err(failed)?;
        let statement = checkpoint::statement(&header, &beginning, &parts);
        let signed = statement.sign(&self.key, self.own, &context);
        let part_count = parts.len();
        let manifest = Manifest { signed, beginning, parts };
        let dir = shared.dir.join(CHECKPOINT_DIR);
        publish(&dir, header.height, &manifest).map_err(failed)?;
        let (height, digest) = (statement.height, statement.digest);
        tracing::info!(%height, %digest, parts = part_count, micros, "a checkpoint was saved");
        self.let_go(shared, height)
    }

    /// Asks the ledger's thread to prune, as far as state and columns are durable.
    fn let_go(&self, shared: &Shared, height: Height) -> Result<(), NodeError> {
        let Retention { keep_heights, .. } = self.retention;
        let below = height.get().saturating_sub(keep_heights);
        if keep_heights == 0 || below == 0 {
            return Ok(());
        }
        shared.sql.flush()?;
        let stored = shared.machine()?.flushed().min(shared.sql.watermark());
        let height = Height::new(below).min(stored);
        drop(shared.send_patiently(Message::Prune(height)));
        Ok(())
    }
}

/// A checkpoint that is there.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    dir: PathBuf,
    pub(crate) height: Height,
}

impl Saved {
    /// The checkpoints of a validator's directory, newest first.
    pub(crate) fn all(dir: &Path) -> std::io::Result<Vec<Self>> {
        let dir = dir.join(CHECKPOINT_DIR);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let height = name.to_str().and_then(|name| name.parse().ok()).map(Height::new);
            all.extend(height.map(|height| Self { dir: dir.join(&name), height }));
        }
        all.sort_by_key(|saved| std::cmp::Reverse(saved.height));
        Ok(all)
    }

    /// Those that a log goes on from, newest first.
    pub(crate) fn before(dir: &Path, reader: &LedgerReader) -> Result<Vec<Self>, NodeError> {
        let (first, last) = (reader.first_whole_height().map_err(log_failed)?, reader.height());
        let mut all = Self::all(dir).map_err(failed)?;
        all.retain(|saved| saved.height.next() >= first && saved.height <= last);
        Ok(all)
    }

    /// The one of a height.
    pub(crate) fn of(dir: &Path, height: Height) -> Self {
        Self { dir: dir.join(CHECKPOINT_DIR).join(name(height)), height }
    }

    /// The manifest's bytes.
    pub(crate) fn manifest_bytes(&self) -> std::io::Result<Vec<u8>> {
        fs::read(self.dir.join(MANIFEST_FILE))
    }

    /// The manifest, of this ledger and whole.
    pub(crate) fn manifest(&self, genesis: &Genesis) -> Result<Manifest, CheckpointError> {
        let bytes =
            self.manifest_bytes().map_err(|error| CheckpointError::Sink(error.to_string()))?;
        let manifest = Manifest::from_bytes(&bytes)?;
        manifest.check(&context(genesis), genesis.lane_count)?;
        Ok(manifest)
    }

    /// Makes a state of it in `dir`, where there is none, and opens that. Every part is checked against the manifest, and the state's
    /// root against what is stored of its height.
    pub(crate) fn load(
        &self,
        genesis: &Genesis,
        dir: &Path,
        size_max: usize,
    ) -> Result<Machine<LmdbStore>, NodeError> {
        let wrong = |reason: String| NodeError::Damaged {
            what: "the checkpoint",
            reason: format!("{}: {reason}", self.dir.display()),
        };
        let manifest = self.manifest(genesis).map_err(|error| wrong(error.to_string()))?;
        let mut store =
            LmdbStore::open(dir, size_max).map_err(|error| state_failed(error.into()))?;
        for place in 0..manifest.parts.len() {
            let part = self.part(place).map_err(|error| wrong(format!("part {place}: {error}")))?;
            let rows = manifest.rows(place, &part).map_err(|error| wrong(error.to_string()))?;
            store.commit(&rows).map_err(|error| state_failed(error.into()))?;
        }
        let machine = Machine::open(store, genesis).map_err(|error| wrong(error.to_string()))?;
        let Statement { height, header_hash, .. } = manifest.signed.statement;
        let record = machine.state(height).map_err(state_failed)?;
        let is_right = record.is_some_and(|record| record.header_hash == header_hash);
        if machine.applied() != height || !is_right {
            return Err(wrong("its state is of another height or header".to_owned()));
        }
        Ok(machine)
    }

    /// What its maker says of it.
    pub(crate) fn signed(&self) -> std::io::Result<SignedStatement> {
        let mut bytes = vec![0; SignedStatement::SIZE_MIN];
        std::io::Read::read_exact(&mut File::open(self.dir.join(MANIFEST_FILE))?, &mut bytes)?;
        SignedStatement::from_bytes(&bytes).map_err(std::io::Error::other)
    }

    /// A part's bytes.
    pub(crate) fn part(&self, place: usize) -> std::io::Result<Vec<u8>> {
        fs::read(self.dir.join(part_name(place)))
    }
}

/// Makes the state anew from the newest checkpoint that the log goes on from.
pub(crate) fn restore(
    config: &Config,
    genesis: &Genesis,
    reader: &LedgerReader,
    state: &Path,
) -> Result<(), NodeError> {
    let usable = Saved::before(&config.dir, reader)?;
    let Some(saved) = usable.first() else {
        let first = reader.first_whole_height().map_err(log_failed)?;
        let reason = format!(
            "it is behind height {first}, from which on the log has transactions, and no checkpoint here is between: \
             restore a backup of the directory, or give the validator an empty one and quipu recover it"
        );
        return Err(NodeError::Damaged { what: "the state", reason });
    };
    match fs::remove_dir_all(state) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let machine = saved.load(genesis, state, config.limits.state_size_max)?;
    machine.into_store().close().map_err(|error| state_failed(error.into()))
}

/// What the first hand-over is judged by.
pub(crate) fn context(genesis: &Genesis) -> Context {
    Context::new(chain_id(genesis), genesis.validator_set(), genesis.lane_count)
}

fn name(height: Height) -> String {
    format!("{:020}", height.get())
}

pub(crate) fn part_name(place: usize) -> String {
    format!("part-{place:06}")
}

/// An empty directory for one that is being made.
pub(crate) fn fresh(dir: &Path, height: Height) -> std::io::Result<PathBuf> {
    let partial = partial(dir, height);
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(&partial)?;
    Ok(partial)
}

fn partial(dir: &Path, height: Height) -> PathBuf {
    dir.join(format!("{PARTIAL}{}", name(height)))
}

fn absent_is_empty(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Removes what a process that ended was making.
fn sweep(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

pub(crate) fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives the directory that is being made its name, and removes old ones.
pub(crate) fn publish(dir: &Path, height: Height, manifest: &Manifest) -> std::io::Result<()> {
    let partial = partial(dir, height);
    write(&partial.join(MANIFEST_FILE), &manifest.to_bytes())?;
    File::open(&partial)?.sync_all()?;
    let path = dir.join(name(height));
    if path.exists() {
        fs::remove_dir_all(&path)?;
    }
    fs::rename(&partial, &path)?;
    File::open(dir)?.sync_all()?;
    let parent = dir.parent().unwrap_or(dir);
    for old in Saved::all(parent)?.into_iter().skip(KEPT_COUNT) {
        fs::remove_dir_all(&old.dir)?;
    }
    Ok(())
}

fn failed(error: impl std::fmt::Display) -> NodeError {
    NodeError::system("saving a checkpoint", error)
}
