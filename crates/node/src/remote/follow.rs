//! The thread that follows the ledger: one validator after the other is read, checked, stored and handed to the executor.
//!
//! ```text
//!  GET /v1/blocks?from=h+1 ─ frames ─ check (all cores) ─> Follower ─ Followed ─> log: chunks, terms, header ─> executor
//!                               │                            │
//!                               └── false: the validator is out; the next one goes on at the same height
//! ```
//! # Invariants
//! * W1 Only what the [`Follower`] gave is stored or executed.
//! * W2 What a restart finds is a prefix of what was stored; the rest is fetched again. The log is synced before the state is
//!   flushed (`E2` in `executor`).
//! * W3 At most [`AHEAD_COUNT_MAX`] heights and about [`AHEAD_SIZE_MAX`] bytes of blocks wait for the executor.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use bytes::Bytes;
use quipu_client::{Blocks, ClientError};
use quipu_log::{Ledger, LogError};
use quipu_proof::names::chunk_hash;
use quipu_replica::{Checked, Chunk, FollowError, Followed, Follower, TermRecord};
use quipu_types::{Height, code};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use tokio::runtime::Handle;

use super::outbox::Outbox;
use super::sources::{Next, Sources};
use crate::driver::log_failed;
use crate::error::NodeError;
use crate::executor::Work;
use crate::shared::Shared;

/// Heights that wait for the executor.
const AHEAD_COUNT_MAX: usize = 128;
/// Bytes of blocks that wait for the executor.
const AHEAD_SIZE_MAX: usize = 32 << 20;
/// Time after which what was stored is made durable.
const SYNC_TIME_US: u64 = 1_000_000;
/// Heights after which it is.
const SYNC_HEIGHT_COUNT: u64 = 256;
/// Longest time until a validator begins to answer.
const OPEN_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest time without a frame: one that lives says hello every second.
const SILENCE_TIME_MAX: Duration = Duration::from_secs(5);
/// Least time without a new height after which another validator is asked for one.
const QUIET_TIME_MIN_US: u64 = 3_000_000;
/// The same, in times of the ledger's idle interval.
const QUIET_INTERVAL_COUNT: u64 = 3;

/// Why a validator is not read any more.
enum Ended {
    /// The process stops.
    Stopping,
    /// It broke, or does not answer.
    Lost(ClientError),
    /// It shows what does not verify.
    False(FollowError),
    /// It gave no new height for a while.
    Quiet,
}

/// Why reading stops: for what a validator did, or for what happened here.
enum Broken {
    Ended(Ended),
    Here(NodeError),
}

impl From<FollowError> for Broken {
    fn from(error: FollowError) -> Self {
        Self::Ended(Ended::False(error))
    }
}

impl From<NodeError> for Broken {
    fn from(error: NodeError) -> Self {
        Self::Here(error)
    }
}

impl From<LogError> for Broken {
    fn from(error: LogError) -> Self {
        Self::Here(log_failed(error))
    }
}

/// See the module's header.
pub(crate) struct Following {
    pub(crate) shared: Arc<Shared>,
    pub(crate) follower: Follower,
    pub(crate) ledger: Ledger,
    /// The last term of each lane that is stored.
    pub(crate) terms: Vec<Option<TermRecord>>,
    pub(crate) executor: Sender<Work>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) runtime: Handle,
    /// Heights and sizes of the blocks that the executor has not finished.
    pub(crate) ahead: VecDeque<(Height, usize)>,
    pub(crate) synced: Height,
    pub(crate) synced_us: u64,
    /// When the last new height came, or the validator was asked.
    pub(crate) moved_us: u64,
    /// How far the validator said that it was when it was asked.
    pub(crate) greeting: Option<Height>,
    /// One that stood still, until another one goes on or stands still too.
    pub(crate) suspect: Option<usize>,
}

impl Following {
    /// Follows until the process stops. What was followed is durable when it returns without an error.
    pub(crate) fn run(mut self) -> Result<(), NodeError> {
        self.begin_terms()?;
        let mut place = 0;
        while !self.shared.stopping() {
            match self.sources.next(place) {
                Next::Ask(found) => place = found,
                Next::Wait(time) => {
                    self.rest(time);
                    continue;
                }
                Next::Nobody => {
                    self.rest(Duration::from_secs(3_600));
                    continue;
                }
            }
            let ended = match self.follow(place) {
                Err(Broken::Here(error)) => return Err(error),
                Err(Broken::Ended(ended)) => ended,
            };
            self.judge(place, &ended);
            place = place.saturating_add(1);
        }
        self.sync()
    }

    /// Sleeps until then, or until the process stops.
    fn rest(&self, time: Duration) {
        self.runtime.block_on(async {
            tokio::select! {
                () = tokio::time::sleep(time) => {}
                () = self.shared.stopped() => {}
            }
        });
    }

    fn judge(&mut self, place: usize, ended: &Ended) {
        let url = self.sources.get(place).map_or("", |source| source.url.as_str());
        match ended {
            Ended::Stopping => {}
            Ended::Lost(error) => {
                tracing::warn!(validator = url, %error, "a validator is not followed any more");
                self.sources.failed(place);
                self.outbox.again();
            }
            Ended::False(error) => {
                self.sources.expel(place, error.code(), error);
                self.outbox.again();
            }
            Ended::Quiet => self.suspect = Some(place),
        }
    }

    /// Reads one validator until it gives no more. Never `Ok`.
    fn follow(&mut self, place: usize) -> Result<std::convert::Infallible, Broken> {
        self.follower.reset();
        self.greeting = None;
        self.moved_us = self.shared.clock.mono_us();
        let mut blocks = self.open(place)?;
        loop {
            let frames = self.receive(&mut blocks)?;
            let mut rest = frames.as_slice();
            while !rest.is_empty() {
                rest = self.take_all(place, rest)?;
            }
            self.sync_if_due()?;
            if self.is_quiet() && self.sources.has_other(place) {
                return Err(Broken::Ended(Ended::Quiet));
            }
        }
    }

    /// Checks frames together and takes them, up to where an epoch ends; what is left is judged by the next one's validators.
    fn take_all<'a>(&mut self, place: usize, frames: &'a [Bytes]) -> Result<&'a [Bytes], Broken> {
        let (context, admissions) = (self.follower.context(), &self.shared.admissions);
        let epoch = context.set.epoch;
        let check = |frame: &Bytes| quipu_replica::follow::check(context, admissions, frame);
        let checked: Vec<Result<Checked, FollowError>> = match frames {
            [frame] => vec![check(frame)],
            many => many.par_iter().map(check).collect(),
        };
        for (frame, place_after) in checked.into_iter().zip(1..) {
            self.take(place, frame?)?;
            if self.follower.context().set.epoch != epoch {
                return Ok(frames.get(place_after..).unwrap_or_default());
            }
        }
        Ok(&[])
    }

    fn open(&self, place: usize) -> Result<Blocks, Broken> {
        let from = self.follower.height().next();
        let source = self.sources.get(place).expect("who is asked is one of them");
        let opened = self.wait(OPEN_TIME_MAX, source.client.blocks(from))?;
        tracing::info!(validator = source.url, from = from.get(), "following");
        Ok(opened)
    }

    fn receive(&self, blocks: &mut Blocks) -> Result<Vec<Bytes>, Broken> {
        let frames = self.wait(SILENCE_TIME_MAX, blocks.next())?;
        if frames.is_empty() {
            let tried = "it closed the stream".to_owned();
            return Err(Broken::Ended(Ended::Lost(ClientError::Unreachable { tried })));
        }
        Ok(frames)
    }

    /// What a validator answers in time.
    fn wait<T>(
        &self,
        time: Duration,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, Broken> {
        let answered = self.runtime.block_on(async {
            tokio::select! {
                () = self.shared.stopped() => Err(Ended::Stopping),
                answered = tokio::time::timeout(time, answer) => match answered {
                    Ok(answer) => answer.map_err(Ended::Lost),
                    Err(_) => {
                        let tried = "it did not answer in time".to_owned();
                        Err(Ended::Lost(ClientError::Unreachable { tried }))
                    }
                },
            }
        });
        answered.map_err(Broken::Ended)
    }

    fn is_quiet(&self) -> bool {
        let interval_us = self.shared.genesis.height_interval_idle_ms.saturating_mul(1_000);
        let time_us = interval_us.saturating_mul(QUIET_INTERVAL_COUNT).max(QUIET_TIME_MIN_US);
        self.shared.clock.mono_us() >= self.moved_us.saturating_add(time_us)
    }

    fn take(&mut self, place: usize, frame: Checked) -> Result<(), Broken> {
        let followed = match frame {
            Checked::Hello(height) => {
                self.greeting.get_or_insert(height);
                self.sources.says(place, height);
                return Ok(());
            }
            Checked::State(certificate) => {
                if certificate.state.height <= self.follower.height() {
                    drop(self.executor.send(Work::Certified(certificate)));
                }
                return Ok(());
            }
            Checked::Header(header) => {
                let (header, certificate) = *header;
                self.follower.header(header, certificate)?
            }
            Checked::Chunk(chunk) => self.follower.chunk(*chunk)?,
        };
        match followed {
            Some(followed) => self.store(place, followed),
            None => Ok(()),
        }
    }

    /// Stores a height and hands it to the executor.
    fn store(&mut self, place: usize, followed: Followed) -> Result<(), Broken> {
        let Followed { block, certificate, chunks, terms } = followed;
        let height = block.header.height;
        for chunk in &chunks {
            self.append(chunk)?;
        }
        for term in &terms {
            self.begin_term(term)?;
        }
        self.ledger.append_header(&block.header, &certificate)?;
        let passed = self.shared.pass(&block.header);
        passed.map_err(|error| NodeError::system("beginning an epoch", error))?;
        self.shared.update(|progress| progress.committed = height);
        self.convict(place, height);
        self.moved_us = self.shared.clock.mono_us();
        self.sources.works(place);
        self.sources.says(place, height);
        let size = chunks
            .iter()
            .fold(0, |size: usize, chunk| size.saturating_add(chunk.stored.body.len()));
        let certified = block.header.state_certificate.clone();
        // The executor ends only after this thread, or after it has said why.
        drop(self.executor.send(Work::Execute(block)));
        if let Some(certificate) = certified {
            drop(self.executor.send(Work::Certified(Arc::new(certificate))));
        }
        self.ahead.push_back((height, size));
        self.let_execute()
    }

    /// Whether another validator than the one that stood still had the next height all the while.
    fn convict(&mut self, place: usize, height: Height) {
        let suspect = self.suspect.take().filter(|suspect| *suspect != place);
        let had_it = self.greeting.is_some_and(|greeting| greeting >= height);
        let Some(suspect) = suspect.filter(|_| had_it) else { return };
        let url = |place| self.sources.get(place).map_or("", |source| source.url.as_str());
        tracing::warn!(
            code = %code::FOLLOWED_BEHIND, validator = url(suspect), other = url(place), %height,
            "a validator stands still below a height that another one has"
        );
        self.sources.was_behind(suspect);
    }

    /// Chunks that a crash left behind the last header are of the very chain that is followed: nothing else is ever stored.
    fn append(&mut self, chunk: &Chunk) -> Result<(), Broken> {
        let header = &chunk.stored.header;
        if header.index > self.ledger.tip(header.lane)?.index {
            self.ledger.append_chunk(&chunk.stored, &chunk.leaves())?;
            return Ok(());
        }
        let stored = self.ledger.chunk(header.lane, header.index)?;
        if chunk_hash(&stored.header) != chunk.hash {
            let reason = format!("lane {} holds another chunk {}", header.lane, header.index);
            return Err(NodeError::Damaged { what: "the log", reason }.into());
        }
        Ok(())
    }

    fn begin_term(&mut self, term: &TermRecord) -> Result<(), Broken> {
        let place = usize::from(term.lane.get());
        let stored = self.terms.get_mut(place).expect("there is one for each lane");
        if stored.is_none_or(|stored| stored.term < term.term) {
            self.ledger.append_term(term)?;
            *stored = Some(*term);
        }
        Ok(())
    }

    /// The first term of each lane, in a new directory.
    fn begin_terms(&mut self) -> Result<(), NodeError> {
        let terms: Vec<TermRecord> = self.follower.terms().copied().collect();
        for term in terms {
            match self.begin_term(&term) {
                Ok(()) | Err(Broken::Ended(_)) => {}
                Err(Broken::Here(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits while too much waits for the executor (W3).
    fn let_execute(&mut self) -> Result<(), Broken> {
        loop {
            let executed = self.shared.progress().executed;
            while self.ahead.front().is_some_and(|(height, _)| *height <= executed) {
                self.ahead.pop_front();
            }
            let sizes = self.ahead.iter().map(|(_, size)| *size);
            let size = sizes.fold(0, usize::saturating_add);
            if self.ahead.len() <= AHEAD_COUNT_MAX && size <= AHEAD_SIZE_MAX {
                return Ok(());
            }
            let mut progress = self.shared.watch();
            let moved = |progress: &crate::shared::Progress| {
                progress.executed > executed || progress.stopping
            };
            // The sender lives as long as `shared`.
            drop(self.runtime.block_on(progress.wait_for(moved)));
            if self.shared.stopping() {
                return Err(Broken::Ended(Ended::Stopping));
            }
        }
    }

    fn sync_if_due(&mut self) -> Result<(), NodeError> {
        let height = self.follower.height();
        let count = height.get().saturating_sub(self.synced.get());
        let waited = self.shared.clock.mono_us().saturating_sub(self.synced_us) >= SYNC_TIME_US;
        if count >= SYNC_HEIGHT_COUNT || (count > 0 && waited) { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), NodeError> {
        self.ledger.sync().map_err(log_failed)?;
        self.synced = self.follower.height();
        self.synced_us = self.shared.clock.mono_us();
        self.shared.set_durable(self.synced);
        Ok(())
    }
}
