//! What a validator knows again after a restart: log first, then everything that follows from it.
//!
//! ```text
//!  log.open ─> lanes, headers, write-ahead log ──────────────────────────────┐
//!  state    ─> applied ── execute (applied, head] again ─> sequences ────────┼─> Recovered ─> Replica
//!  columns  ─> watermark ── show (watermark, head] again                     │
//!  suffixes: whole chunks above the last committed cut, decoded ─────────────┘
//! ```

use std::sync::Arc;

use quipu_log::{Ledger, LogError};
use quipu_proof::names::chunk_hash;
use quipu_replica::{Chunk, Producer, Recovered, RecoveredLane, readmit};
use quipu_state::Sequence;
use quipu_types::chunk::split_body;
use quipu_types::{CommitCertificate, Header, Height, Lane, Receipt, SignedState, Tip};

use crate::driver::log_failed;
use crate::error::NodeError;
use crate::executor::{Executor, state_failed};
use crate::shared::Shared;
use crate::view::{self, ViewError};

/// Heights without a stored state certificate that are looked for below the newest that has one.
const CERTIFICATE_RUN: u64 = 1_024;

/// Executes every committed height that the state or the columns do not hold yet.
pub(crate) fn replay(
    shared: &Shared,
    executor: &mut Executor,
    head: Height,
) -> Result<(), NodeError> {
    let applied = shared.machine()?.applied();
    if applied > head {
        return Err(NodeError::Damaged {
            what: "the log",
            reason: format!("the state holds height {applied}, the header log ends at {head}"),
        });
    }
    let from = applied.min(shared.sql.height()).next();
    if from <= head {
        tracing::info!(from = from.get(), to = head.get(), "executing committed heights again");
    }
    let mut height = from;
    while height <= head {
        let block = view::block(&shared.reader, &shared.chain, shared.lane_count(), height)
            .map_err(view_failed)?;
        executor.execute(&block)?;
        height = height.next();
    }
    shared.update(|progress| progress.executed = head);
    Ok(())
}

/// What execution of a height gave.
pub(crate) type Executed = (SignedState, Arc<Vec<Receipt>>);

/// Everything that the replica needs, after [`replay`].
pub(crate) fn recovered(
    shared: &Shared,
    ledger: &Ledger,
    found: quipu_log::Recovered,
) -> Result<Recovered, NodeError> {
    let head = found.committed;
    let cut: &[Tip] = head.as_ref().map_or(&[], |(header, _)| &header.cut);
    let mut lanes = Vec::with_capacity(found.tips.len());
    for ((tip, frontier), terms) in found.tips.iter().zip(found.frontiers).zip(&found.terms) {
        let committed = cut.iter().find(|one| one.lane == tip.lane).filter(|one| one.index > 0);
        let committed_index = committed.map_or(0, |one| one.index);
        let committed = match committed {
            None => None,
            Some(one) => Some(ledger.chunk(one.lane, one.index).map_err(log_failed)?.header),
        };
        let first = committed_index.saturating_add(1);
        let suffix = (first..=tip.index)
            .map(|index| chunk(shared, ledger, tip.lane, index).map(Arc::new))
            .collect::<Result<Vec<_>, NodeError>>()?;
        let term = terms.last().copied();
        lanes.push(RecoveredLane { term, frontier, committed, suffix });
    }
    let sequences = shared.machine()?.sequences().map_err(state_failed)?;
    let producers = sequences
        .into_iter()
        .map(|(lane, signer, sequence)| {
            let Sequence { incarnation, next } = sequence;
            (lane, signer, Producer { incarnation, sequence: next })
        })
        .collect();
    let certified = certified(shared, head.as_ref()).map_err(log_failed)?;
    let records = found.wal.into_iter().map(|record| record.bytes).collect();
    Ok(Recovered { lanes, head, certified, records, producers })
}

fn chunk(shared: &Shared, ledger: &Ledger, lane: Lane, index: u64) -> Result<Chunk, NodeError> {
    let stored = ledger.chunk(lane, index).map_err(log_failed)?;
    let damaged = |reason: String| NodeError::Damaged { what: "the log", reason };
    let transactions = split_body(&stored.body, stored.header.count)
        .map_err(|error| damaged(format!("lane {lane}, chunk {index}: {error}")))?
        .into_iter()
        .map(|bytes| {
            readmit(&shared.chain, shared.lane_count(), bytes.into()).map(Arc::new).map_err(
                |code| {
                    damaged(format!("lane {lane}, chunk {index}: a transaction fails with {code}"))
                },
            )
        })
        .collect::<Result<Vec<_>, NodeError>>()?;
    let hash = chunk_hash(&stored.header);
    Ok(Chunk { stored, hash, transactions })
}

/// The newest height whose state certificate a header embeds.
fn certified(
    shared: &Shared,
    head: Option<&(Header, CommitCertificate)>,
) -> Result<Height, LogError> {
    let Some((head, _)) = head else { return Ok(Height::default()) };
    let mut header = head.clone();
    loop {
        if let Some(certificate) = &header.state_certificate {
            return Ok(certificate.state.height);
        }
        let Some(before) = header.height.get().checked_sub(1).filter(|height| *height > 0) else {
            return Ok(Height::default());
        };
        header = shared.reader.header(Height::new(before))?.0;
    }
}

/// Executed heights up to `head` whose state certificates are not stored, ascending, with what execution gave.
pub(crate) fn uncertified(
    shared: &Shared,
    executor: &Executor,
    head: Height,
) -> Result<Vec<Executed>, NodeError> {
    let mut missing = Vec::new();
    let mut run = 0_u64;
    let mut newest = Height::default();
    let mut number = head.get();
    while number > 0 && run < CERTIFICATE_RUN {
        let height = Height::new(number);
        if executor.lacks_certificate(height) {
            run = 0;
            missing.push(height);
        } else {
            run = run.saturating_add(1);
            newest = newest.max(height);
        }
        number = number.saturating_sub(1);
    }
    shared.update(|progress| progress.certified = newest);
    let machine = shared.machine()?;
    let mut states = Vec::with_capacity(missing.len());
    for height in missing.into_iter().rev() {
        let record = machine.state(height).map_err(state_failed)?;
        let receipts = machine.receipts(height).map_err(state_failed)?;
        if let (Some(record), Some(receipts)) = (record, receipts) {
            states.push((record.signed(), Arc::new(receipts)));
        }
    }
    Ok(states)
}

fn view_failed(error: ViewError) -> NodeError {
    match error {
        ViewError::Log(error) => log_failed(error),
        other => NodeError::Damaged { what: "the log", reason: other.to_string() },
    }
}
