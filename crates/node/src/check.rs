//! Everything that a validator stores, verified again: what `quipu check` says. Changes nothing.
//!
//! ```text
//!  configuration, genesis, key ── files of the directory
//!  log          frames, links, bodies, signatures, lane roots, trees, certificates, unused space
//!  certificates each slot, its signatures
//!  state        seal (every byte, after a clean stop), then table by table against an execution from scratch
//!  columns      every piece against its checksum
//!  clocks       every lane's hash chain once more, lanes side by side
//!  execution    every block from the log once more, into a scratch store: roots against every state certificate
//! ```
//! * K1 The directory is locked while it is checked; what the log's recovery would mend is mended in memory only.
//! * K2 One flipped byte anywhere gives a finding that names its file, and its lane and seqno, header or height
//!   where there is one.
//! # Limits
//! A state store without a seal (after a crash) is read through LMDB, which may end the process if its pages are damaged;
//! so `quipu check` runs this in a second process and takes such an end for a finding.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quipu_clock::LaneClock;
use quipu_crypto::coin::dealing::DecryptionKey;
use quipu_crypto::domain::Tag;
use quipu_crypto::keyfile::{self, KeyFileError};
use quipu_crypto::suite::verify_tagged;
use quipu_log::{Disk, Ledger, LedgerConfig, LedgerReader};
use quipu_proof::names::chain_id;
use quipu_proof::{Epochs, verify_certificate, verify_state_certificate};
use quipu_query::ColumnStore;
use quipu_replica::storage::read_block;
use quipu_state::{Machine, Store, StoreError, Table};
use quipu_types::{Encode, Genesis, Hash, Header, Height, Lane, SignedState, ValidatorIndex};
use rayon::prelude::*;

use crate::certificates::{CERTIFICATE_FILE, CertificateFile};
use crate::checkpoint::{CHECKPOINT_DIR, Saved};
use crate::config::{CONFIG_FILE, Config, FIRST_START_FILE};
use crate::disk::{FileDisk, PARTIAL_SUFFIX};
use crate::error::NodeError;
use crate::evidence::EVIDENCE_DIR;
use crate::executor::state_failed;
use crate::lock::{DirLock, LOCK_FILE};
use crate::newcomer::OBSERVER_FILE;
use crate::node::{COLUMN_DIR, STATE_DIR, read_genesis};
use crate::snapshot::SnapshotDisk;
use crate::store::LmdbStore;

/// Where the execution from scratch keeps its state; removed afterwards.
const SCRATCH_DIR: &str = "check.tmp";
/// Heights that the execution from scratch flushes together.
const FLUSH_HEIGHT_COUNT: u64 = 256;
/// Findings after which one kind of comparison stops.
const FINDING_COUNT_MAX: usize = 100;

/// One thing that is wrong in a validator's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, relative to the directory where it is inside.
    pub file: String,
    /// Where in the file, if that can be said.
    pub offset: Option<u64>,
    /// What stands there, and what is wrong with it.
    pub what: String,
    /// Whether a crash alone explains it and the next start mends it.
    pub is_mended_by_starting: bool,
}

impl Finding {
    pub(crate) fn new(file: impl Into<String>, what: impl Into<String>) -> Self {
        let (file, what) = (file.into(), what.into());
        Self { file, offset: None, what, is_mended_by_starting: false }
    }
}

impl From<quipu_log::Finding> for Finding {
    fn from(finding: quipu_log::Finding) -> Self {
        let text = finding.to_string();
        let prefix = format!("{} at byte {}", finding.file, finding.offset);
        let what = text.strip_prefix(&prefix).unwrap_or(&text);
        Self {
            what: what.trim_start_matches([',', ':', ' ']).to_owned(),
            is_mended_by_starting: finding.is_mended_by_opening(),
            file: finding.file,
            offset: Some(finding.offset),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        write!(f, ": {}", self.what)?;
        if self.is_mended_by_starting {
            f.write_str(" (a crash explains it; starting the validator mends it)")?;
        }
        Ok(())
    }
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong; empty when all is well.
    pub findings: Vec<Finding>,
    /// The first height that was executed again: 1, or the one after a checkpoint where what is before it was pruned.
    pub first_height: Height,
    /// Committed heights that were read and executed again.
    pub height_count: u64,
    /// Transactions in them.
    pub transaction_count: u64,
    /// Those whose actions were executed beside others, and could be taken as they were.
    pub parallel_count: u64,
    /// State certificates that were verified against the execution.
    pub certificate_count: u64,
}

impl Report {
    /// One line for people.
    #[must_use]
    pub fn summary(&self) -> String {
        match self.findings.len() {
            0 => format!(
                "clean: {} heights {}with {} transactions executed again ({} of them side by side), {} state certificates verified",
                self.height_count,
                match self.first_height.get() {
                    0 | 1 => String::new(),
                    first => format!("from {first} on "),
                },
                self.transaction_count,
                self.parallel_count,
                self.certificate_count
            ),
            count => format!("{count} findings"),
        }
    }
}

/// Verifies everything in a validator's directory, its blocks executed on so many threads; `progress` is told what is
/// being looked at.
///
/// An error is about the directory as a whole: it is in use, or its genesis can not be read.
pub fn check(
    dir: &Path,
    threads: NonZeroUsize,
    mut progress: impl FnMut(&str),
) -> Result<Report, NodeError> {
    let mut report = Report::default();
    progress("the configuration");
    let config = match Config::read(dir) {
        Ok(config) => config,
        Err(error) => {
            report.findings.push(Finding::new(CONFIG_FILE, error.to_string()));
            Config::new(dir)
        }
    };
    if !dir.join("lanes").is_dir() && !dir.join("headers").is_dir() {
        let reason = "it is no validator's directory, or the validator never ran".to_owned();
        return Err(NodeError::Config { path: dir.to_path_buf(), reason });
    }
    if dir.join(crate::remote::MARK_FILE).exists() {
        let reason = "it is a gateway's directory, and only a validator's is checked; a gateway that starts in an \
                      empty one verifies everything anew";
        return Err(NodeError::Config { path: dir.to_path_buf(), reason: reason.to_owned() });
    }
    let _lock = DirLock::take(dir)?;
    let genesis = read_genesis(&config.genesis)?;
    let chain = chain_id(&genesis);
    let disk = open_disk(dir)?;
    let mut checking = Checking {
        epochs: known_epochs(&*disk, &genesis),
        config,
        genesis,
        chain,
        report,
        disk,
        threads,
        progress: &mut progress,
    };
    if let Some(own) = checking.key() {
        checking.coin(own);
    }
    let log_is_whole = checking.log();
    checking.names();
    checking.columns();
    let state_is_readable = checking.seal();
    checking.slots();
    if log_is_whole {
        checking.execution(state_is_readable)?;
    }
    Ok(checking.report)
}

fn open_disk(dir: &Path) -> Result<Arc<dyn Disk>, NodeError> {
    let disk =
        FileDisk::new(dir).map_err(|error| NodeError::system("opening the directory", error))?;
    Ok(Arc::new(disk))
}

/// Verifies a log's bytes, links, and its signatures and certificates by the sets of the epochs it knows of.
pub(crate) fn check_log(
    disk: &dyn Disk,
    genesis: &Genesis,
    epochs: &Epochs,
    tell: &mut dyn FnMut(&str),
) -> Vec<quipu_log::Finding> {
    let chain = chain_id(genesis);
    let check = quipu_log::Check {
        disk,
        chain,
        lane_count: genesis.lane_count,
        certificate: &|header, certificate| {
            verify_certificate(&chain, &epochs.at(header.height).set, header, certificate).is_ok()
        },
        chunk: &|term, header, signature| {
            let set = &epochs.of_term(term.lane, term.term).set;
            set.get(term.sequencer).is_some_and(|validator| {
                let body = header.to_bytes();
                verify_tagged(&validator.key, &chain, set.epoch, Tag::Chunk, &body, signature)
            })
        },
    };
    check.run(&mut |so_far| {
        if so_far.record_count.is_multiple_of(64) {
            tell(&format!("the log: {} records", so_far.record_count));
        }
    })
}

/// The epochs that a log knows of, followed from the genesis' as far as each is certified; nothing of the disk is changed.
pub(crate) fn known_epochs(disk: &dyn Disk, genesis: &Genesis) -> Epochs {
    let mut epochs = Epochs::new(genesis.validator_set(), genesis.lane_count);
    let chain = chain_id(genesis);
    let handovers = quipu_log::handovers(disk, &chain).unwrap_or_default();
    for (header, certificate) in handovers {
        if epochs.follow(&chain, &header, &certificate).is_err() {
            break;
        }
    }
    epochs
}

struct Checking<'a> {
    config: Config,
    genesis: Genesis,
    chain: Hash,
    /// Those the log knows of; nothing here changes the log.
    epochs: Epochs,
    report: Report,
    disk: Arc<dyn Disk>,
    threads: NonZeroUsize,
    progress: &'a mut dyn FnMut(&str),
}

impl Checking<'_> {
    fn note(&mut self, file: impl Into<String>, what: impl Into<String>) {
        self.report.findings.push(Finding::new(file, what));
    }

    /// Which validator's key it is, if it is one's.
    fn key(&mut self) -> Option<ValidatorIndex> {
        (self.progress)("the key");
        let name = self.config.key.display().to_string();
        match keyfile::load(&self.config.key, None) {
            Err(error) => {
                self.note(name, error.to_string());
                None
            }
            Ok(key) => {
                let own = self.epochs.current().set.index_of(&key.public());
                if own.is_none() {
                    self.note(name, "the key is of no validator of the ledger");
                }
                own
            }
        }
    }

    /// What the genesis deals of the coin of open rounds, the validator's shares, and its key for those of later coins, where it
    /// has some.
    fn coin(&mut self, own: ValidatorIndex) {
        (self.progress)("the coin");
        let set = &self.epochs.current().set;
        if let Err(error) = crate::coin::load(&self.config, &self.genesis, set, own) {
            self.note(self.config.coin.display().to_string(), error.to_string());
        }
        match DecryptionKey::load(&self.config.dealing) {
            Ok(_) | Err(KeyFileError::Missing { .. }) => {}
            Err(error) => {
                self.note(self.config.dealing.display().to_string(), error.to_string());
            }
        }
    }

    /// Verifies the log's own bytes; whether it can be opened afterwards.
    fn log(&mut self) -> bool {
        let found = check_log(&*self.disk, &self.genesis, &self.epochs, self.progress);
        let is_whole = found.iter().all(quipu_log::Finding::is_mended_by_opening);
        self.report.findings.extend(found.into_iter().map(Finding::from));
        is_whole
    }

    /// Files that nobody knows.
    fn names(&mut self) {
        // They may lie here or elsewhere.
        let own = [&self.config.key, &self.config.coin, &self.config.dealing, &self.config.genesis]
            .map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
        let observer_partial = format!("{OBSERVER_FILE}{PARTIAL_SUFFIX}");
        let known = [
            CONFIG_FILE,
            FIRST_START_FILE,
            OBSERVER_FILE,
            &observer_partial,
            EVIDENCE_DIR,
            CHECKPOINT_DIR,
            LOCK_FILE,
            CERTIFICATE_FILE,
            STATE_DIR,
            COLUMN_DIR,
            SCRATCH_DIR,
            "lanes",
            "base",
            "headers",
            "handovers",
            "wal",
        ];
        match self.disk.list("") {
            Err(error) => self.note(".", error.to_string()),
            Ok(names) => {
                for name in names {
                    let is_own = own.iter().flatten().any(|own| *own == name);
                    let is_certificates = name
                        .strip_prefix(CERTIFICATE_FILE)
                        .and_then(|rest| rest.strip_prefix('.'))
                        .is_some_and(|rest| rest.parse::<u64>().is_ok());
                    if !known.contains(&name.as_str()) && !is_own && !is_certificates {
                        self.note(name, "no such file belongs to a validator");
                    }
                }
            }
        }
    }

    fn columns(&mut self) {
        (self.progress)("the columns");
        let folder = self.config.dir.join(COLUMN_DIR);
        if !folder.exists() {
            return;
        }
        for finding in ColumnStore::check(&folder) {
            let file = relative(&finding.file, &self.config.dir);
            let table = if finding.table.is_empty() { "" } else { " of table " };
            self.note(file, format!("columns{table}{}: {}", finding.table, finding.what));
        }
    }

    /// Compares the state's file with its seal; whether the state may be read.
    fn seal(&mut self) -> bool {
        (self.progress)("the state");
        let state = self.config.dir.join(STATE_DIR);
        if !state.exists() {
            return false;
        }
        match LmdbStore::verify(&state) {
            Ok(_) => true,
            Err(error) => {
                self.note_store(&error);
                false
            }
        }
    }

    fn note_store(&mut self, error: &StoreError) {
        let finding = match error {
            StoreError::DamagedFile { file, offset } => Finding {
                offset: Some(*offset),
                ..Finding::new(format!("{STATE_DIR}/{}", file_name(file)), error.to_string())
            },
            other => Finding::new(STATE_DIR, other.to_string()),
        };
        self.report.findings.push(finding);
    }

    /// Verifies every state certificate by itself.
    fn slots(&mut self) {
        (self.progress)("the state certificates");
        if self.disk.open_read(CERTIFICATE_FILE).is_err() {
            return;
        }
        let file = match CertificateFile::open_read(Arc::clone(&self.disk), &self.epochs) {
            Ok(file) => file,
            Err(error) => return self.note(CERTIFICATE_FILE, error.to_string()),
        };
        let (reach, rest) = match file.reach() {
            Ok(reach) => reach,
            Err(error) => return self.note(CERTIFICATE_FILE, error.to_string()),
        };
        if rest > 0 {
            self.note(CERTIFICATE_FILE, "the file does not end with a whole slot");
        }
        let mut height = Height::new(1);
        while height <= reach && self.report.findings.len() < FINDING_COUNT_MAX {
            let fault = match file.get(height) {
                Ok(None) => None,
                Ok(Some(held)) => {
                    let set = &self.epochs.at(height).set;
                    verify_state_certificate(&self.chain, set, height, &held)
                        .err()
                        .map(|error| format!("state certificate of height {height}: {error}"))
                }
                Err(error) => Some(error.to_string()),
            };
            if let Some(what) = fault {
                let offset = Some(file.offset(height));
                self.report
                    .findings
                    .push(Finding { offset, ..Finding::new(CERTIFICATE_FILE, what) });
            }
            height = height.next();
        }
    }

    /// Executes every block from scratch and compares what comes of it with what is stored and signed.
    fn execution(&mut self, state_is_readable: bool) -> Result<(), NodeError> {
        (self.progress)("the execution");
        let snapshot = Arc::new(SnapshotDisk::new(Arc::clone(&self.disk)));
        let config = LedgerConfig::new(self.genesis.lane_count);
        let (ledger, _) = match Ledger::open(snapshot, self.chain, config) {
            Ok(opened) => opened,
            Err(error) => {
                self.note("log", error.to_string());
                return Ok(());
            }
        };
        let scratch = Scratch::new(&self.config.dir)?;
        let store = LmdbStore::open(&scratch.path, self.config.limits.state_size_max)
            .map_err(|error| NodeError::system("making the scratch state", error))?;
        let reader = ledger.reader();
        let Some(machine) = self.beginning(&reader, store, &scratch.path)? else { return Ok(()) };
        // Whatever can go side by side does: it is to be shown that it changes nothing.
        let mut machine = machine.with_threads(self.threads, 0);
        let stored = if state_is_readable { self.stored_state() } else { None };
        let stored_at = stored.as_ref().map(Machine::applied);
        self.clocks(&reader);
        let head = reader.height();
        if let Some(at) = stored_at.filter(|at| *at > head) {
            self.note(STATE_DIR, format!("the state is at height {at}, the log ends at {head}"));
        }
        let file = CertificateFile::open_read(Arc::clone(&self.disk), &self.epochs).ok();
        if stored_at == Some(machine.applied()) {
            self.compare(&machine, stored.as_ref());
        }
        let mut height = machine.applied().next();
        while height <= head {
            let (header, state) = match self.apply(&reader, &mut machine, height) {
                Ok(done) => done,
                Err(what) => {
                    self.note("log", what);
                    return Ok(());
                }
            };
            self.compare_certificates(&machine, file.as_ref(), &header, &state);
            let is_compared = stored_at == Some(height);
            if is_compared || machine.unflushed_heights() >= FLUSH_HEIGHT_COUNT || height == head {
                machine.flush().map_err(state_failed)?;
                (self.progress)(&format!("the execution: height {height} of {head}"));
            }
            if is_compared {
                self.compare(&machine, stored.as_ref());
            }
            height = height.next();
        }
        self.report.parallel_count = machine.tried_counts().taken;
        Ok(())
    }

    /// The state that an execution of the log begins with: the genesis', or a checkpoint's where the log begins later.
    fn beginning(
        &mut self,
        reader: &LedgerReader,
        store: LmdbStore,
        path: &Path,
    ) -> Result<Option<Machine<LmdbStore>>, NodeError> {
        let first = match reader.first_whole_height() {
            Ok(first) => first,
            Err(error) => {
                self.note("log", error.to_string());
                return Ok(None);
            }
        };
        if first == Height::new(1) {
            return Machine::open(store, &self.genesis).map(Some).map_err(state_failed);
        }
        drop(store);
        let usable = Saved::before(&self.config.dir, reader).unwrap_or_default();
        let Some(saved) = usable.last() else {
            let what = format!(
                "the log begins at height {first}, and no checkpoint is there from which it could be executed again"
            );
            self.note(CHECKPOINT_DIR, what);
            return Ok(None);
        };
        (self.progress)(&format!("the checkpoint of height {}", saved.height));
        self.report.first_height = saved.height.next();
        match saved.load(&self.genesis, path, self.config.limits.state_size_max) {
            Ok(machine) => Ok(Some(machine)),
            Err(error) => {
                self.note(CHECKPOINT_DIR, error.to_string());
                Ok(None)
            }
        }
    }

    /// Hashes the clock of every committed chunk again.
    fn clocks(&mut self, reader: &LedgerReader) {
        (self.progress)("the clocks");
        self.report.findings.extend(wrong_clocks(reader, &self.genesis));
    }

    fn stored_state(&mut self) -> Option<Machine<LmdbStore>> {
        let path = self.config.dir.join(STATE_DIR);
        let opened = LmdbStore::open_read_only(&path)
            .map_err(quipu_state::StateError::from)
            .and_then(|store| Machine::open(store, &self.genesis));
        match opened {
            Ok(machine) => Some(machine),
            Err(error) => {
                self.note(STATE_DIR, error.to_string());
                None
            }
        }
    }

    fn apply(
        &mut self,
        reader: &LedgerReader,
        machine: &mut Machine<LmdbStore>,
        height: Height,
    ) -> Result<(Header, SignedState), String> {
        let block = read_block(reader, &self.chain, height)
            .map_err(|error| format!("height {height}: {error}"))?;
        let (state, _) =
            block.apply(machine).map_err(|error| format!("height {height}: {error}"))?;
        let count = u64::try_from(block.transaction_count()).unwrap_or(u64::MAX);
        self.report.height_count = self.report.height_count.saturating_add(1);
        self.report.transaction_count = self.report.transaction_count.saturating_add(count);
        Ok((block.header, state))
    }

    /// The stored certificate of this height, and the one that its header embeds, against the execution.
    fn compare_certificates(
        &mut self,
        machine: &Machine<LmdbStore>,
        file: Option<&CertificateFile>,
        header: &Header,
        state: &SignedState,
    ) {
        let height = state.height;
        if let Some(Ok(Some(held))) = file.map(|file| file.get(height)) {
            self.report.certificate_count = self.report.certificate_count.saturating_add(1);
            if held.state != *state {
                let what = format!(
                    "height {height}: the certificate is for state root {}, an execution from scratch \
                     gives {}",
                    held.state.state_root, state.state_root
                );
                self.note(CERTIFICATE_FILE, what);
            }
        }
        let Some(embedded) = &header.state_certificate else { return };
        let about = embedded.state.height;
        let set = &self.epochs.at(about).set;
        if let Err(error) = verify_state_certificate(&self.chain, set, about, embedded) {
            self.note("headers", format!("header {height}, state certificate inside: {error}"));
        }
        let executed = machine.state(about).ok().flatten().map(|record| record.signed());
        if executed != Some(embedded.state) {
            let what =
                format!("header {height} embeds a certificate of another state of height {about}");
            self.note("headers", what);
        }
    }

    /// Every row of the stored state against the scratch state of the same height, both ways.
    fn compare(&mut self, scratch: &Machine<LmdbStore>, stored: Option<&Machine<LmdbStore>>) {
        let Some(stored) = stored else { return };
        (self.progress)("the state, row by row");
        let mut wrong = Vec::new();
        for (from, to, missing) in [
            (scratch, stored, "is missing or differs from an execution from scratch"),
            (stored, scratch, "is not what an execution from scratch gives"),
        ] {
            let visited = from.dump(|table, key, value| {
                if wrong.len() >= FINDING_COUNT_MAX {
                    return;
                }
                match to.store().get(table, key) {
                    Ok(Some(other)) if other == value => {}
                    Ok(_) => wrong.push(row(table, key, missing)),
                    Err(error) => wrong.push(error.to_string()),
                }
            });
            if let Err(error) = visited {
                wrong.push(error.to_string());
            }
        }
        wrong.dedup();
        for what in wrong {
            self.note(format!("{STATE_DIR}/data.mdb"), what);
        }
    }
}

fn row(table: Table, key: &[u8], what: &str) -> String {
    format!("table {table}, key {} {what}", hex::encode(key))
}

fn relative(path: &Path, dir: &Path) -> String {
    path.strip_prefix(dir).unwrap_or(path).display().to_string()
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A directory that is removed when it is no longer wanted.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(dir: &Path) -> Result<Self, NodeError> {
        let path = dir.join(SCRATCH_DIR);
        let failed = |error| NodeError::system("making the scratch directory", error);
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(failed)?;
        }
        std::fs::create_dir(&path).map_err(failed)?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, "the scratch directory was not removed");
        }
    }
}

/// In each lane the first chunk whose clock does not follow from the chunk before.
pub(crate) fn wrong_clocks(reader: &LedgerReader, genesis: &Genesis) -> Vec<Finding> {
    let seed = quipu_clock::seed_value(&genesis.clock_seed);
    let lanes: Vec<Lane> = (0..genesis.lane_count).map(Lane::new).collect();
    lanes.into_par_iter().filter_map(|lane| wrong_clock(reader, lane, seed)).collect()
}

/// The first chunk of a lane whose clock does not follow from the chunk before. A chunk that can not be read ends the
/// walk: the check of the log has named it.
fn wrong_clock(reader: &LedgerReader, lane: Lane, seed: Hash) -> Option<Finding> {
    let end = reader.tip(lane).ok()?.index;
    let first = reader.first_chunk(lane).ok()?;
    let before = match first {
        1 => None,
        first => Some(reader.chunk_header(lane, first.saturating_sub(1)).ok()?),
    };
    let mut clock = LaneClock::resume(lane, seed, before.as_ref());
    for index in first..=end {
        let chunk = reader.chunk(lane, index).ok()?;
        if let Err(error) = clock.advance(&chunk.header) {
            return Some(Finding::new(format!("lanes/{lane:02}"), error.to_string()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use quipu_clock::Generator;
    use quipu_crypto::hash::blake3;
    use quipu_crypto::merkle::empty_root;
    use quipu_log::{MemoryDisk, StoredChunk, TermRecord};
    use quipu_proof::names::{chunk_hash, header_hash, term_start};
    use quipu_types::{
        ChunkHeader, CommitCertificate, Mix, Precommit, RoundKind, Seqno, Signature, Term, Time,
        Tip,
    };

    use super::*;

    const CHAIN: Hash = Hash([7; 32]);

    /// A ledger of one lane with one chunk of clock alone, its clock begun at `start`.
    fn ledger(start: Hash) -> Ledger {
        let lane = Lane::new(0);
        let (mut ledger, _) =
            Ledger::open(Arc::new(MemoryDisk::new()), CHAIN, LedgerConfig::new(1)).unwrap();
        let term = TermRecord {
            lane,
            term: Term::new(1),
            sequencer: ValidatorIndex::new(0),
            branch: CHAIN,
            first_seqno: Seqno::new(1),
            height: Height::new(0),
        };
        ledger.append_term(&term).unwrap();
        let mut clock = Generator::new(start);
        clock.tick(10);
        clock.mix(Mix::Batch, &empty_root());
        let header = ChunkHeader {
            lane,
            term: term.term,
            branch: CHAIN,
            index: 1,
            first_seqno: Seqno::new(1),
            count: 0,
            prev: term_start(&CHAIN, &Hash::ZERO),
            lane_root: empty_root(),
            body_digest: blake3(&[]),
            stripes: None,
            clock: clock.take(),
        };
        let tip = Tip {
            lane,
            term: term.term,
            index: 1,
            seqno: Seqno::new(0),
            lane_root: empty_root(),
            chunk_hash: chunk_hash(&header),
        };
        let signature = Signature([0; 64]);
        ledger.append_chunk(&StoredChunk { header, signature, body: Vec::new() }, &[]).unwrap();
        let header = Header {
            epoch: 0,
            height: Height::new(1),
            proposer: ValidatorIndex::new(0),
            prev_header: CHAIN,
            cut: vec![tip],
            term_changes: Vec::new(),
            time: Time::new(1),
            prev_commit: None,
            late_votes: Vec::new(),
            state_certificate: None,
            next_set: None,
            evidence_root: empty_root(),
            rounds: quipu_types::Rounds::genesis(false),
        };
        let precommit = Precommit {
            height: header.height,
            round: 0,
            kind: RoundKind::Led,
            instance: header.proposer,
            digest: header_hash(&header),
            tips: Vec::new(),
            suspects: Vec::new(),
            time: Time::new(2),
            validator: header.proposer,
            signature,
        };
        let certificate = CommitCertificate { precommits: vec![precommit], coin: None };
        ledger.append_header(&header, &certificate).unwrap();
        ledger
    }

    #[test]
    fn a_clock_that_does_not_follow_from_the_seed_is_named_by_lane_and_chunk() {
        let seed = quipu_clock::seed_value("a public text");
        let true_start = quipu_clock::start(&CHAIN, &seed);
        let found = |start| wrong_clock(&ledger(start).reader(), Lane::new(0), seed);
        assert_eq!(found(true_start), None);
        let finding = found(Hash([1; 32])).unwrap();
        assert_eq!(finding.file, "lanes/00");
        assert_eq!(finding.what, "chunk 1: clock entry 0 states a wrong value");
    }
}
