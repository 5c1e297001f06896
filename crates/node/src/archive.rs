//! Archives: a stretch of a ledger's log in a directory of its own, to be kept where pruning does not reach, and verified there.
//!
//! ```text
//!  validator, stopped ── heights FROM to TO ──> ARCHIVE/headers · lanes · base · genesis.json     the same formats as a validator's
//!  check ── frames, links, bodies, signatures, lane roots, certificates, clocks, against the operator's genesis
//! ```
//! * An archive has what is committed alone: nothing void, no gap. It is read as a log that begins behind height FROM - 1.
//! * What it says of itself is not believed: the genesis to check against is the operator's, not the copy inside.

use std::path::Path;
use std::sync::Arc;

use quipu_log::{Disk, Ledger, LedgerConfig, LedgerReader, TermRecord};
use quipu_proof::names::chain_id;
use quipu_replica::checkpoint::beginning;
use quipu_replica::storage::{cut_before, read_epochs};
use quipu_types::{Genesis, Hash, Header, Height};

use crate::check::{Finding, check_log, known_epochs, wrong_clocks};
use crate::config::Config;
use crate::disk::FileDisk;
use crate::driver::log_failed;
use crate::error::NodeError;
use crate::lock::DirLock;
use crate::node::read_genesis;
use crate::snapshot::SnapshotDisk;

/// Copy of the genesis in an archive, for whoever finds it.
const GENESIS_FILE: &str = "genesis.json";
/// Heights that become durable together.
const SYNC_HEIGHT_COUNT: u64 = 256;

/// What an archive holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archived {
    /// The first height whose transactions are in it.
    pub first: Height,
    /// The last.
    pub last: Height,
    /// Transactions.
    pub transaction_count: u64,
}

/// What a check of an archive found.
#[derive(Clone, Debug)]
pub struct ArchiveReport {
    /// What is wrong; empty when all is well.
    pub findings: Vec<Finding>,
    /// What it holds; none where that can not be read.
    pub archived: Option<Archived>,
}

/// Copies a stretch of the log of a validator that is stopped to `out`, which is made.
///
/// # Errors
/// When the directory is in use, the heights are not there, `out` is not empty, and what reading and writing give.
pub fn export(
    dir: &Path,
    out: &Path,
    (from, to): (Option<Height>, Option<Height>),
    tell: &mut dyn FnMut(Height, Height),
) -> Result<Archived, NodeError> {
    let config = Config::read(dir)?;
    let genesis = read_genesis(&config.genesis)?;
    let chain = chain_id(&genesis);
    let _lock = DirLock::take(dir)?;
    let (source, _) = open_snapshot(dir, &genesis, chain)?;
    let reader = source.reader();
    let (least, head) = (reader.first_whole_height().map_err(log_failed)?, reader.height());
    let (first, last) = (from.unwrap_or(least), to.unwrap_or(head));
    if first < least || last > head || first > last {
        let reason = format!("heights {first} to {last} are not there: it holds {least} to {head}");
        return Err(NodeError::system("exporting", reason));
    }
    let is_free = std::fs::read_dir(out).map_or(true, |mut entries| entries.next().is_none());
    if !is_free {
        return Err(NodeError::system("exporting", format!("{} is not empty", out.display())));
    }
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::new(out).map_err(failed)?);
    std::fs::copy(&config.genesis, out.join(GENESIS_FILE)).map_err(failed)?;
    let log = LedgerConfig {
        segment_size: config.limits.segment_size,
        ..LedgerConfig::new(genesis.lane_count)
    };
    if first > Height::new(1) {
        let before = Height::new(first.get().saturating_sub(1));
        let (header, _) = reader.header(before).map_err(log_failed)?;
        let epochs = read_epochs(&reader, genesis.validator_set()).map_err(log_failed)?;
        let begins = beginning(&reader, &header, &epochs).map_err(failed)?;
        Ledger::begin_with(&disk, chain, log, begins).map_err(log_failed)?;
    }
    let (mut ledger, found) = Ledger::open(disk, chain, log).map_err(log_failed)?;
    let mut terms: Vec<usize> = found.terms.iter().map(Vec::len).collect();
    let mut height = first;
    while height <= last {
        copy_height(&reader, &mut ledger, &mut terms, height)?;
        if height.get().is_multiple_of(SYNC_HEIGHT_COUNT) || height == last {
            ledger.sync().map_err(log_failed)?;
            tell(height, last);
        }
        height = height.next();
    }
    let archived = archived(&ledger.reader(), first).map_err(log_failed)?;
    ledger.close().map_err(log_failed)?;
    Ok(archived)
}

/// Appends what one height ordered, the terms that its chunks are of before them. `terms` are counted by lane.
fn copy_height(
    reader: &LedgerReader,
    ledger: &mut Ledger,
    terms: &mut [usize],
    height: Height,
) -> Result<(), NodeError> {
    let (header, certificate) = reader.header(height).map_err(log_failed)?;
    let before = cut_before(reader, height).map_err(log_failed)?;
    for (place, (tip, had)) in header.cut.iter().zip(terms).enumerate() {
        let log = reader.failover_log(tip.lane).map_err(log_failed)?;
        let is_begun = |term: &&TermRecord| term.height < height;
        for term in log.iter().take_while(is_begun).skip(*had) {
            ledger.append_term(term).map_err(log_failed)?;
            *had = had.saturating_add(1);
        }
        let first = before.get(place).map_or(0, |tip| tip.index).saturating_add(1);
        for index in first..=tip.index {
            let chunk = reader.chunk(tip.lane, index).map_err(log_failed)?;
            let leaves = quipu_log::leaves_of(&chunk).map_err(failed)?;
            ledger.append_chunk(&chunk, &leaves).map_err(log_failed)?;
        }
    }
    ledger.append_header(&header, &certificate).map_err(log_failed)
}

/// Verifies every byte of an archive against a genesis.
///
/// # Errors
/// When the genesis can not be read, or the directory is in use.
pub fn check_archive(
    dir: &Path,
    genesis: &Path,
    mut tell: impl FnMut(&str),
) -> Result<ArchiveReport, NodeError> {
    let genesis = read_genesis(genesis)?;
    let chain = chain_id(&genesis);
    let disk = FileDisk::new(dir).map_err(failed)?;
    if disk.list("headers").is_err() {
        let reason = format!("{} is no archive: it has no headers", dir.display());
        return Err(NodeError::system("checking", reason));
    }
    let mut findings: Vec<Finding> =
        check_log(&disk, &genesis, &known_epochs(&disk, &genesis), &mut tell)
            .into_iter()
            .map(Finding::from)
            .collect();
    if !findings.is_empty() {
        return Ok(ArchiveReport { findings, archived: None });
    }
    let (ledger, _) = open_snapshot(dir, &genesis, chain)?;
    let reader = ledger.reader();
    tell("the clocks");
    findings.extend(wrong_clocks(&reader, &genesis));
    let first = reader.first_whole_height().map_err(log_failed)?;
    let archived = archived(&reader, first).map_err(log_failed)?;
    Ok(ArchiveReport { findings, archived: Some(archived) })
}

fn archived(reader: &LedgerReader, first: Height) -> Result<Archived, quipu_log::LogError> {
    let last = reader.height();
    let count = |header: &Header| quipu_proof::order::transaction_count(&header.cut);
    let before = match first.get() {
        0 | 1 => 0,
        first => count(&reader.header(Height::new(first.saturating_sub(1)))?.0),
    };
    let all = if last.get() == 0 { 0 } else { count(&reader.header(last)?.0) };
    Ok(Archived { first, last, transaction_count: all.saturating_sub(before) })
}

/// Opens a log without changing a byte of it.
fn open_snapshot(
    dir: &Path,
    genesis: &Genesis,
    chain: Hash,
) -> Result<(Ledger, quipu_log::Recovered), NodeError> {
    let disk = Arc::new(FileDisk::new(dir).map_err(failed)?);
    let snapshot = Arc::new(SnapshotDisk::new(disk));
    Ledger::open(snapshot, chain, LedgerConfig::new(genesis.lane_count)).map_err(log_failed)
}

fn failed(error: impl std::fmt::Display) -> NodeError {
    NodeError::system("exporting", error)
}
