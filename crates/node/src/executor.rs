//! The executor's thread: committed blocks in, receipts, roots and visible rows out.
//!
//! * E1 Heights are executed in order, once; one that comes again after a restart is answered from what is stored.
//! * E2 The state is flushed in groups of heights, and only up to a height whose header is durable: state and
//!   log never disagree about what was ordered.
//! * E3 Rows are shown to readers before the clients that wait for them are answered.
//! * E4 Where a quorum signed another state than was computed here, the process stops: nothing more of it is shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use quipu_query::{IngestBlock, IngestTx};
use quipu_replica::Block;
use quipu_state::{Machine, StateError};
use quipu_types::{
    Action, Code, Hash, Height, Outcome, Receipt, SignedState, StateCertificate, Time, code,
};

use crate::checkpoint::Saver;
use crate::clocks::Widths;
use crate::driver::{Message, seconds};
use crate::error::NodeError;
use crate::metrics::gauge_value;
use crate::recovery::Executed;
use crate::shared::Shared;

/// Heights after which the state is flushed.
const FLUSH_HEIGHT_COUNT: u64 = 256;
/// Bytes after which the state is flushed.
const FLUSH_SIZE: usize = 16 << 20;
/// Time after which the state is flushed.
const FLUSH_TIME_US: u64 = 2_000_000;
const IDLE: Duration = Duration::from_secs(1);
/// Anchors whose times are remembered.
const ANCHOR_COUNT_MAX: usize = 4_096;

/// What reaches the executor's thread.
#[derive(Debug)]
pub(crate) enum Work {
    /// The next committed block.
    Execute(Arc<Block>),
    /// A block that will probably be the next.
    Speculate(Arc<Block>),
    /// A quorum signed a height's state.
    Certified(Arc<StateCertificate>),
}

/// The executor.
#[derive(Debug)]
pub(crate) struct Executor {
    shared: Arc<Shared>,
    /// Times of headers that transactions named as anchors.
    anchors: BTreeMap<Hash, u64>,
    /// The last height's time, and its brackets up to that.
    open: Option<(Time, Widths)>,
    flushed_us: u64,
    /// Who makes checkpoints, where some are wanted.
    saver: Option<Saver>,
}

impl Executor {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let flushed_us = shared.clock.mono_us();
        Self { shared, anchors: BTreeMap::new(), open: None, flushed_us, saver: None }
    }

    /// Has checkpoints made from now on.
    pub(crate) fn save_with(&mut self, saver: Option<Saver>) {
        self.saver = saver;
    }

    /// Runs until the ledger's thread is gone, then flushes everything.
    pub(crate) fn run(mut self, inbox: &Receiver<Work>) -> Result<(), NodeError> {
        loop {
            match inbox.recv_timeout(IDLE) {
                Ok(Work::Execute(block)) => {
                    let (state, receipts) = self.execute(&block)?;
                    let next = state.next_set.and(self.shared.machine()?.next_set());
                    if let Some(set) = next {
                        drop(self.shared.send_patiently(Message::NextSet(set)));
                    }
                    // Without the ledger's thread the channel's other end tells the end next.
                    drop(self.shared.send_patiently(Message::Executed { state, receipts }));
                }
                Ok(Work::Speculate(block)) => self.speculate(&block)?,
                Ok(Work::Certified(certificate)) => self.keep(&certificate)?,
                Err(RecvTimeoutError::Timeout) => self.flush_if_due()?,
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
            }
            if let Some(saver) = &mut self.saver {
                saver.finish(&self.shared)?;
            }
        }
    }

    /// Executes a block, or finds what its execution gave.
    pub(crate) fn execute(&mut self, block: &Block) -> Result<Executed, NodeError> {
        let began = self.shared.clock.mono_us();
        let height = block.header.height;
        let is_new = height > self.shared.machine()?.applied();
        let (state, receipts) = if is_new {
            self.flush_if_due()?;
            self.apply(block)?
        } else {
            self.stored(block)?
        };
        self.ingest(block, &receipts)?;
        if let Some(saver) = self.saver.as_mut().filter(|_| is_new) {
            saver.executed(&self.shared, &block.header)?;
        }
        if is_new {
            self.measure(block, &receipts, began);
            if let Some(own) = self.shared.index {
                self.shared.state_votes.voted(own, height, self.shared.clock.mono_us());
            }
        }
        self.shared.update(|progress| progress.executed = progress.executed.max(height));
        Ok((state, Arc::new(receipts)))
    }

    /// Executes a block that is being voted on, where no reader sees it.
    fn speculate(&self, block: &Block) -> Result<(), NodeError> {
        // One that is not the next any more was decided meanwhile.
        if block.header.height != self.shared.machine()?.applied().next() {
            return Ok(());
        }
        self.shared.with_machine(|machine| block.speculate(machine))
    }

    fn apply(&self, block: &Block) -> Result<(SignedState, Vec<Receipt>), NodeError> {
        let (state, applied) = self.shared.with_machine(|machine| block.apply(machine))?;
        if !applied.done.is_empty() {
            self.shared.awaited.give(applied.done);
        }
        Ok((state, applied.receipts))
    }

    fn stored(&self, block: &Block) -> Result<(SignedState, Vec<Receipt>), NodeError> {
        let height = block.header.height;
        let machine = self.shared.machine()?;
        let record = machine.state(height).map_err(state_failed)?;
        let receipts = machine.receipts(height).map_err(state_failed)?;
        match (record, receipts) {
            (Some(record), Some(receipts)) if record.header_hash == block.hash => {
                Ok((record.signed(), receipts))
            }
            _ => Err(NodeError::Damaged {
                what: "the state",
                reason: format!("height {height} was executed from another header than the log's"),
            }),
        }
    }

    fn ingest(&mut self, block: &Block, receipts: &[Receipt]) -> Result<(), NodeError> {
        if block.header.height <= self.shared.sql.height() {
            return Ok(());
        }
        let time = block.header.time;
        let mut widths = Widths::default();
        let mut transactions = Vec::with_capacity(receipts.len());
        for ((position, admitted), receipt) in block.ordered().zip(receipts) {
            let not_before_us = self.time_of(&admitted.transaction.anchor)?;
            widths.add(time.get().saturating_sub(not_before_us));
            transactions.push(IngestTx {
                lane: position.lane,
                seqno: position.seqno,
                tx: admitted.tx,
                transaction: &admitted.transaction,
                receipt,
                not_before_us,
            });
        }
        // The brackets of the height before end here.
        if let Some((before, widths)) = self.open.replace((time, widths)) {
            self.shared.clocks.close(widths.widened(time.get().saturating_sub(before.get())));
        }
        self.shared.sql.ingest(&IngestBlock {
            height: block.header.height,
            header: &block.header,
            header_hash: block.hash,
            time_us: block.header.time.get(),
            transactions: &transactions,
        })
    }

    /// Time of the header that an anchor names; the genesis' for one that this history does not know.
    fn time_of(&mut self, anchor: &Hash) -> Result<u64, NodeError> {
        if let Some(time) = self.anchors.get(anchor) {
            return Ok(*time);
        }
        let machine = self.shared.machine()?;
        let height = machine.anchor(anchor).map_err(state_failed)?;
        let record =
            height.map(|height| machine.state(height)).transpose().map_err(state_failed)?;
        drop(machine);
        let time = record.flatten().map_or(self.shared.genesis.time_us, |record| record.time_us);
        if self.anchors.len() >= ANCHOR_COUNT_MAX {
            self.anchors.clear();
        }
        self.anchors.insert(*anchor, time.get());
        Ok(time.get())
    }

    fn measure(&self, block: &Block, receipts: &[Receipt], began_us: u64) {
        let metrics = &self.shared.metrics;
        let mut events = 0_u64;
        for ((_, admitted), receipt) in block.ordered().zip(receipts) {
            match receipt.outcome {
                Outcome::Applied => {
                    let appended = admitted.transaction.actions.iter();
                    let appended = appended.filter(|one| matches!(one, Action::Append { .. }));
                    let count = u64::try_from(appended.count()).unwrap_or(u64::MAX);
                    events = events.saturating_add(count);
                }
                Outcome::Refused { code, .. } => metrics.refused(code).increment(1),
            }
        }
        let count = u64::try_from(receipts.len()).unwrap_or(u64::MAX);
        metrics.transactions.increment(count);
        metrics.events.increment(events);
        if count > 0 {
            metrics.batch_events.record(gauge_value(events));
        }
        self.shared.transactions.fetch_add(count, Ordering::Relaxed);
        self.shared.events.fetch_add(events, Ordering::Relaxed);
        let micros = self.shared.clock.mono_us().saturating_sub(began_us);
        metrics.execute_seconds.record(seconds(micros));
    }

    /// Keeps a height's certificate, which is of what was computed here (E4).
    fn keep(&self, certificate: &StateCertificate) -> Result<(), NodeError> {
        let signed = certificate.state;
        let record = self.shared.machine()?.state(signed.height).map_err(state_failed)?;
        if let Some(own) = record.map(|record| record.signed()).filter(|own| *own != signed) {
            let (height, own, signed) = (signed.height, own.state_root, signed.state_root);
            return Err(NodeError::Diverged { height, own, signed });
        }
        self.shared.certificates.put(certificate).map_err(|error| file_failed(&error))?;
        let height = certificate.state.height;
        self.shared.update(|progress| progress.certified = progress.certified.max(height));
        Ok(())
    }

    fn flush_if_due(&mut self) -> Result<(), NodeError> {
        let now = self.shared.clock.mono_us();
        let is_due = {
            let machine = self.shared.machine()?;
            let heights = machine.unflushed_heights();
            let waited = now.saturating_sub(self.flushed_us) >= FLUSH_TIME_US;
            let is_wanted = heights >= FLUSH_HEIGHT_COUNT
                || machine.unflushed_size() >= FLUSH_SIZE
                || (heights > 0 && waited);
            is_wanted && machine.applied() <= self.shared.durable()
        };
        if is_due { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), NodeError> {
        self.shared.with_machine(Machine::flush)?;
        self.shared.certificates.sync().map_err(|error| file_failed(&error))?;
        self.flushed_us = self.shared.clock.mono_us();
        Ok(())
    }

    fn finish(&mut self) -> Result<(), NodeError> {
        let applied = self.shared.machine()?.applied();
        // After a failure of the log its last headers may not be durable: they are executed again.
        if applied <= self.shared.durable() {
            self.flush()?;
        }
        self.shared.sql.flush()
    }

    /// Whether a height's certificate is missing.
    pub(crate) fn lacks_certificate(&self, height: Height) -> bool {
        !matches!(self.shared.certificates.get(height), Ok(Some(_)))
    }
}

fn file_failed(error: &std::io::Error) -> NodeError {
    let what = "the state certificates";
    let reason = error.to_string();
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            NodeError::Full { what, reason }
        }
        _ => NodeError::Disk { what, reason },
    }
}

/// Why the process stops, from why the state failed.
pub(crate) fn state_failed(error: StateError) -> NodeError {
    let what = "the state";
    let wanted: Code = error.code();
    let reason = error.to_string();
    match wanted {
        code::STORE_FULL => NodeError::Full { what, reason },
        _ => NodeError::Damaged { what, reason },
    }
}
