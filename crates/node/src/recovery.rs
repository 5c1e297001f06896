//! What a validator knows again after a restart: log first, then everything that follows from it.
//!
//! ```text
//!  log.open ─> lanes, headers, write-ahead log ──────────────────────────────┐
//!  state    ─> applied ── execute (applied, head] again ─> sequences ────────┼─> Recovered ─> Replica
//!  columns  ─> watermark ── show (watermark, head] again                     │
//!  suffixes: whole chunks above the last committed cut, decoded ─────────────┘
//! ```

use std::sync::Arc;

use quipu_log::Ledger;
use quipu_replica::storage::read_block;
use quipu_replica::{Producer, RecoverError, Recovered};
use quipu_state::Sequence;
use quipu_types::{Height, Receipt, SignedState};

use crate::driver::log_failed;
use crate::error::NodeError;
use crate::executor::{Executor, state_failed};
use crate::shared::Shared;

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
        let block = read_block(&shared.reader, &shared.chain, height).map_err(recover_failed)?;
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
    let sequences = shared.machine()?.sequences().map_err(state_failed)?;
    let producers = sequences
        .into_iter()
        .map(|(lane, signer, sequence)| {
            let Sequence { incarnation, next } = sequence;
            (lane, signer, Producer { incarnation, sequence: next })
        })
        .collect();
    let epochs = shared.context().epochs.clone();
    quipu_replica::recover(ledger, found, &shared.chain, epochs, producers).map_err(recover_failed)
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
    while number >= shared.reader.first_height().get() && run < CERTIFICATE_RUN {
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

/// The height up to which every certificate is stored, when these, ascending, are not.
pub(crate) fn certified_upto(head: Height, uncertified: &[Executed]) -> Height {
    let first = uncertified.first().map(|(state, _)| state.height.get());
    first.map_or(head, |first| Height::new(first.saturating_sub(1)))
}

fn recover_failed(error: RecoverError) -> NodeError {
    match error {
        RecoverError::Log(error) => log_failed(error),
        other => NodeError::Damaged { what: "the log", reason: other.to_string() },
    }
}
