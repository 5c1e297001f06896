//! The ledger's thread: feeds the replica, does what it asks for, in the order in which it asks.
//!
//! ```text
//!  HTTP ── Message::Submit ──┐                          ┌── log: terms, chunks, votes, headers
//!  links ── Peer, Linked ────┤                          ├── Sync: fdatasync of all that was touched, then Stored
//!  executor ── Executed ─────┼─> step(now, input) ─poll─┼── Speculate, Execute ──> executor's thread
//!  workers ─── Restored, Coin ┤                          ├── Restore ──> workers
//!  clock ── Timer ───────────┤                          ├── Broadcast, Send, Serve ──> links
//!  run ── Stop ──────────────┘                          └── Answer ──> the waiting request
//! ```
//! * No decision about the protocol is taken here.
//! * A lone validator syncs on this thread: while a sync runs, submissions gather in the bounded channel and share the next
//!   one. With others the sync has a thread of its own, since votes and chunks go on coming.
//! * A write or a sync that fails ends the thread with an error: nothing is answered that was not stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use quipu_crypto::coin::{CoinScheme, CoinSecret};
use quipu_log::{Ledger, LogError, SyncGroup};
use quipu_net::Offence;
use quipu_replica::api::Barrier;
use quipu_replica::peer::STRIPE_TAG;
use quipu_replica::storage::prune;
use quipu_replica::{
    Admitted, Answer, Block, Chunk, Class, Effect, Grievance, Input, Received, Replica, Request,
    Restored, Ticket, serve,
};
use quipu_types::{
    CommitCertificate, Encode, Header, Height, Receipt, SignedState, ValidatorIndex, ValidatorSet,
};
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::error::NodeError;
use crate::executor::Work;
use crate::metrics::gauge_value;
use crate::recovery::Executed;
use crate::shared::Shared;
use crate::ticker::Ticker;

/// Messages that wait for the ledger's thread.
pub(crate) const QUEUE_COUNT_MAX: usize = 4_096;
/// Messages taken before effects are done: they share one sync.
const GROUP_COUNT_MAX: usize = 256;
/// Longest sleep while the replica wants nothing.
const SLEEP_MAX: Duration = Duration::from_millis(500);

/// What reaches the ledger's thread.
#[derive(Debug)]
pub(crate) enum Message {
    /// Clients' transactions.
    Submit(Vec<Submission>),
    /// A client's complaint, its signature checked.
    Complain { grievance: Box<Grievance>, reply: oneshot::Sender<Reply> },
    /// A height was executed.
    Executed { state: SignedState, receipts: Arc<Vec<Receipt>> },
    /// Execution found the next epoch's set to be this.
    NextSet(Arc<ValidatorSet>),
    /// What makes the coins of an epoch that its validators dealt, with the own shares.
    Coin { epoch: u64, coin: Box<(CoinScheme, Option<CoinSecret>)> },
    /// What another validator sent, checked.
    Peer { from: ValidatorIndex, received: Box<Received> },
    /// What a worker made of stripes.
    Restored(Box<Restored>),
    /// Another validator can be reached again.
    Linked(ValidatorIndex),
    /// A sync of the other thread ended well.
    Synced { barrier: Barrier, group: SyncGroup, header: Height, micros: u64 },
    /// A checkpoint is saved: what is before this height may go, as far as the next start does not need it.
    Prune(Height),
    /// Another thread can not go on.
    Failed(NodeError),
    /// Finish and stop.
    Stop,
}

impl Message {
    /// What another validator sent, if it is that.
    fn received(&self) -> Option<&Received> {
        match self {
            Self::Peer { received, .. } => Some(received),
            _ => None,
        }
    }
}

/// One admitted transaction and who waits for it.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) admitted: Arc<Admitted>,
    pub(crate) reply: oneshot::Sender<Reply>,
    /// When to reply.
    pub(crate) when: When,
}

/// When a submission is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// As soon as it is taken.
    Taken,
    /// When it is final and replicated.
    Final,
    /// When it is executed too.
    Executed,
}

/// A sync to be done by the thread that has no other work.
#[derive(Debug)]
pub(crate) struct SyncJob {
    barrier: Barrier,
    group: SyncGroup,
    header: Height,
}

/// What a request is told.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Taken; the rest shows later.
    Taken,
    /// The replica's word.
    Answer(Answer),
}

/// The ledger's thread.
pub(crate) struct Driver {
    pub(crate) replica: Replica,
    pub(crate) ledger: Ledger,
    pub(crate) executor: Sender<Work>,
    /// The syncing thread; none for a lone validator.
    syncer: Option<Sender<SyncJob>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Clock,
    tickets: BTreeMap<Ticket, oneshot::Sender<Reply>>,
    next_ticket: Ticket,
    /// Newest header written; durable after the next sync.
    header_written: Height,
    /// The clocks' thread, where clocks are fast.
    ticker: Option<Ticker>,
    stopped: bool,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

impl Driver {
    pub(crate) fn new(
        replica: Replica,
        ledger: Ledger,
        executor: Sender<Work>,
        syncer: Option<Sender<SyncJob>>,
        ticker: Option<Ticker>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            replica,
            ledger,
            executor,
            syncer,
            clock: shared.clock,
            header_written: shared.progress().committed,
            shared,
            tickets: BTreeMap::new(),
            next_ticket: 0,
            ticker,
            stopped: false,
        }
    }

    /// Runs until stopped. What was written is durable when it returns without an error.
    pub(crate) fn run(mut self, inbox: &Receiver<Message>) -> Result<(), NodeError> {
        self.perform()?;
        while !self.stopped {
            self.rebase_clocks();
            let first = match inbox.recv_timeout(self.sleep()) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Message::Stop),
            };
            let mut early = Vec::new();
            let mut group: Vec<Message> = first.into_iter().collect();
            if !group.is_empty() {
                group.extend(inbox.try_iter().take(GROUP_COUNT_MAX));
            }
            self.take_ticks();
            self.replica.verify_together(group.iter().filter_map(Message::received));
            for message in group {
                self.take(message, &mut early)?;
            }
            if self.replica.wake_at().is_some_and(|at| at <= self.clock.mono_us()) {
                self.step(Input::Timer);
            }
            self.answer_refused_and_early(early)?;
            self.perform()?;
            let status = self.replica.status();
            self.shared.set_pending_bytes(status.pending_size);
            self.shared.set_terms(&status.terms);
        }
        self.sync()
    }

    /// Feeds heights that were executed before the start and whose state certificates are not stored.
    pub(crate) fn execute_again(&mut self, states: Vec<Executed>) {
        let next = self.shared.machine().ok().and_then(|machine| machine.next_set());
        if let Some(set) = next {
            self.step(Input::NextSet(Box::new((*set).clone())));
        }
        for (state, receipts) in states {
            self.step(Input::Executed { state, receipts });
        }
    }

    fn rebase_clocks(&mut self) {
        if let Some(ticker) = &mut self.ticker {
            ticker.rebase(self.replica.clock_bases());
        }
    }

    /// Takes the ticks over that were made meanwhile: what is mixed next comes after them.
    fn take_ticks(&mut self) {
        let runs = self.ticker.as_mut().map(Ticker::take).unwrap_or_default();
        if !runs.is_empty() {
            self.step(Input::Ticked(runs));
        }
    }

    fn sleep(&self) -> Duration {
        let Some(at) = self.replica.wake_at() else { return SLEEP_MAX };
        Duration::from_micros(at.saturating_sub(self.clock.mono_us())).min(SLEEP_MAX)
    }

    fn step(&mut self, input: Input) {
        if let Err(refused) = self.replica.step(self.clock.now(), input) {
            tracing::error!(%refused, "an own input was refused");
        }
    }

    fn receive(&mut self, from: ValidatorIndex, received: Received) {
        let taken = self.replica.step(self.clock.now(), Input::Received { from, received });
        let Err(refused) = taken else { return };
        if refused.is_offence() {
            tracing::warn!(validator = %from, %refused, "a message was refused");
            self.shared.metrics.peer_refused.increment(1);
            self.shared.peers.blame(from, Offence::Refused);
        } else {
            tracing::debug!(validator = %from, %refused, "a message was passed over");
        }
    }

    /// A sequencer whose stripes give no chunk is suspected by the replica; nobody else is to blame.
    fn restored(&mut self, restored: Restored) {
        let is_whole = restored.chunk.is_ok();
        if let Err(refused) = self.replica.step(self.clock.now(), Input::Restored(restored)) {
            tracing::warn!(%refused, "a chunk made of stripes was refused");
        }
        let metrics = &self.shared.metrics;
        let counter = if is_whole { &metrics.stripes.restored } else { &metrics.stripes.refused };
        counter.increment(1);
    }

    fn take(&mut self, message: Message, early: &mut Vec<Ticket>) -> Result<(), NodeError> {
        match message {
            Message::Submit(submissions) => {
                for Submission { admitted, reply, when } in submissions {
                    let ticket = self.ticket(reply);
                    if when == When::Taken {
                        early.push(ticket);
                    }
                    let is_early = when == When::Final;
                    self.step(Input::Submit { ticket, admitted, is_early });
                }
            }
            Message::Complain { grievance, reply } => {
                let ticket = self.ticket(reply);
                self.step(Input::Complain { ticket, grievance });
            }
            Message::Peer { from, received } => self.receive(from, *received),
            Message::Restored(restored) => self.restored(*restored),
            Message::Linked(peer) => self.step(Input::Linked(peer)),
            Message::Synced { barrier, group, header, micros } => {
                self.ledger.synced(group).map_err(log_failed)?;
                self.synced(header, micros);
                self.step(Input::Stored(barrier));
            }
            Message::Executed { state, receipts } => {
                self.step(Input::Executed { state, receipts });
            }
            Message::NextSet(set) => self.step(Input::NextSet(Box::new((*set).clone()))),
            Message::Coin { epoch, coin } => self.replica.take_coin(epoch, Some(*coin)),
            Message::Prune(height) => self.prune(height)?,
            Message::Failed(error) => return Err(error),
            Message::Stop => self.step(Input::Stop),
        }
        Ok(())
    }

    /// The number under which an answer to somebody will come.
    fn ticket(&mut self, reply: oneshot::Sender<Reply>) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        self.tickets.insert(ticket, reply);
        ticket
    }

    /// Does what was asked for, and tells early waiters that are still unanswered that they were taken.
    fn answer_refused_and_early(&mut self, early: Vec<Ticket>) -> Result<(), NodeError> {
        if early.is_empty() {
            return Ok(());
        }
        self.perform()?;
        for ticket in early {
            if let Some(reply) = self.tickets.remove(&ticket) {
                // Whoever asked may have gone away.
                drop(reply.send(Reply::Taken));
            }
        }
        Ok(())
    }

    fn perform(&mut self) -> Result<(), NodeError> {
        while let Some(effect) = self.replica.poll() {
            match effect {
                Effect::WriteTerm(term) => self.ledger.append_term(&term).map_err(log_failed)?,
                Effect::WriteChunk(chunk) => {
                    self.write_chunk(&chunk)?;
                    self.shared.tail.push(&chunk);
                }
                Effect::WriteVote { height, bytes } => {
                    self.shared.metrics.log_bytes.increment(size_of_bytes(&bytes));
                    self.ledger.append_wal(height, &bytes).map_err(log_failed)?;
                }
                Effect::CutLane { lane, index } => {
                    self.ledger.truncate_after(lane, index).map_err(log_failed)?;
                    self.shared.tail.cut(lane, index);
                }
                Effect::WriteHeader { block, certificate } => {
                    self.write_header(&block, &certificate)?;
                }
                Effect::BeginHeight(height) => self.ledger.begin(height).map_err(log_failed)?,
                Effect::Sync(barrier) => self.sync_for(barrier)?,
                Effect::Broadcast { class, bytes } => self.shared.peers.broadcast(class, bytes),
                Effect::Send { to, class, bytes } => self.send(to, class, bytes),
                Effect::Restore(gathered) => self.shared.peers.restore(gathered),
                Effect::Serve { to, request } => self.serve(to, &request)?,
                Effect::Evidence(evidence) => {
                    let (dir, context) = (&self.shared.dir, self.replica.context());
                    if let Err(error) = crate::evidence::keep(dir, &evidence, context) {
                        tracing::error!(%error, "evidence could not be kept");
                    }
                }
                Effect::Observing(threshold) => {
                    crate::newcomer::keep(&self.shared.dir, threshold)?;
                    match threshold {
                        Some(threshold) => {
                            tracing::info!(%threshold, "this validator signs from that height on");
                        }
                        None => tracing::warn!(
                            "the directory is an old copy: this validator said more than it holds, and signs nothing until that is safe"
                        ),
                    }
                }
                Effect::Speculate(block) => drop(self.executor.send(Work::Speculate(block))),
                // The executor ends only after this thread, or after it has said why.
                Effect::Execute(block) => drop(self.executor.send(Work::Execute(block))),
                Effect::StateCertified(certificate) => {
                    drop(self.executor.send(Work::Certified(certificate)));
                }
                Effect::Answer { ticket, answer } => {
                    if let Some(reply) = self.tickets.remove(&ticket) {
                        drop(reply.send(Reply::Answer(answer)));
                    }
                }
                Effect::Stopped => self.stopped = true,
            }
        }
        Ok(())
    }

    fn prune(&mut self, height: Height) -> Result<(), NodeError> {
        if height < self.ledger.reader().first_height() {
            return Ok(());
        }
        let epochs = &self.replica.context().epochs;
        prune(&mut self.ledger, height, epochs).map_err(log_failed)?;
        let reader = self.ledger.reader();
        let whole = reader.first_whole_height().map_err(log_failed)?;
        let headers = reader.first_height();
        tracing::info!(%headers, transactions = %whole, "what is before these heights was pruned");
        Ok(())
    }

    fn write_chunk(&mut self, chunk: &Chunk) -> Result<(), NodeError> {
        self.shared.metrics.log_bytes.increment(size_of_bytes(&chunk.stored.body));
        self.ledger.append_chunk(&chunk.stored, &chunk.leaves()).map_err(log_failed)?;
        Ok(())
    }

    fn send(&self, to: ValidatorIndex, class: Class, bytes: Arc<[u8]>) {
        let is_stripe = bytes.first() == Some(&STRIPE_TAG);
        self.shared.metrics.stripes.sent.increment(u64::from(is_stripe));
        self.shared.peers.send(to, class, bytes);
    }

    /// Answers another validator's request, as far as its queue has room.
    fn serve(&mut self, to: ValidatorIndex, request: &Request) -> Result<(), NodeError> {
        // One that can not be read back is as one that was lost.
        let certificate = |height| self.shared.certificates.get(height).ok().flatten();
        for message in serve(&self.ledger, certificate, request).map_err(log_failed)? {
            self.shared.peers.send(to, Class::Bulk, message.to_bytes().into());
        }
        Ok(())
    }

    fn write_header(
        &mut self,
        block: &Block,
        certificate: &CommitCertificate,
    ) -> Result<(), NodeError> {
        self.ledger.append_header(&block.header, certificate).map_err(log_failed)?;
        if self
            .shared
            .pass(&block.header)
            .map_err(|error| NodeError::system("beginning an epoch", error))?
        {
            self.begin_epoch(&block.header)?;
        }
        self.header_written = block.header.height;
        self.shared.metrics.height_committed.set(gauge_value(block.header.height.get()));
        let covered = self.shared.tail.commit(&block.header.cut);
        self.shared.clocks.commit(&block.header, &covered);
        self.shared.state_votes.committed(block.header.height, self.shared.clock.mono_us());
        self.shared.update(|progress| progress.committed = block.header.height);
        Ok(())
    }

    /// Validators may have come or gone.
    fn begin_epoch(&self, header: &Header) -> Result<(), NodeError> {
        let context = self.shared.context();
        let (epoch, count) = (context.set.epoch, context.schedule.count());
        tracing::info!(epoch, validators = count, after = %header.height, "an epoch begins");
        self.shared.peers.admit(&self.shared)
    }

    fn sync_for(&mut self, barrier: Barrier) -> Result<(), NodeError> {
        if let Some(syncer) = &self.syncer {
            let (group, header) = (self.ledger.take_sync(), self.header_written);
            // The thread ends only after this one, or after it has said why.
            drop(syncer.send(SyncJob { barrier, group, header }));
            return Ok(());
        }
        self.sync()?;
        self.step(Input::Stored(barrier));
        Ok(())
    }

    fn sync(&mut self) -> Result<(), NodeError> {
        let began = self.clock.mono_us();
        self.ledger.sync().map_err(log_failed)?;
        self.synced(self.header_written, self.clock.mono_us().saturating_sub(began));
        Ok(())
    }

    fn synced(&self, header: Height, micros: u64) {
        self.shared.metrics.sync_seconds.record(seconds(micros));
        self.shared.set_durable(header);
    }
}

/// The syncing thread: runs each group, one at a time, until the ledger's thread is gone.
pub(crate) fn keep_syncing(shared: &Shared, jobs: &Receiver<SyncJob>) {
    while let Ok(SyncJob { barrier, group, header }) = jobs.recv() {
        let began = shared.clock.mono_us();
        let message = match group.run() {
            Ok(()) => {
                let micros = shared.clock.mono_us().saturating_sub(began);
                Message::Synced { barrier, group, header, micros }
            }
            Err(error) => Message::Failed(log_failed(error)),
        };
        let failed = matches!(message, Message::Failed(_));
        if shared.send_patiently(message).is_some() || failed {
            return;
        }
    }
}

/// Why the process stops, from why the log failed.
pub(crate) fn log_failed(error: LogError) -> NodeError {
    let what = "the log";
    match error {
        LogError::Full { .. } => NodeError::Full { what, reason: error.to_string() },
        LogError::Damaged(finding) => NodeError::Damaged { what, reason: finding.to_string() },
        other => NodeError::Disk { what, reason: other.to_string() },
    }
}

fn size_of_bytes(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Microseconds as seconds, for a histogram.
pub(crate) fn seconds(micros: u64) -> f64 {
    gauge_value(micros) / 1e6
}
