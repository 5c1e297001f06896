//! A member of a consumer group: it reads its share of the lanes, checked, and commits how far it came with what it
//! made of them.
//!
//! ```text
//!  keeper, a task: Join ─ Beat … ─ Leave ──> share: lanes, generations, cursors
//!     ^ outputs + Commit, one transaction      │ lanes that stay are read on,
//!     │                                        v those that came from their cursors
//!  caller ── commit_with(batch) <── next() <── Consumer over all lanes that are held
//! ```
//! # Invariants
//! * R1 Batches are checked against the genesis, as everything of a [`Consumer`]; so is a committed cursor before a
//!   lane is read from it: height, seqno and root are those of a header that a quorum committed.
//! * R2 A commit takes the lane's cursor from where it stands to the batch's end in the transaction that holds the
//!   outputs. The ledger refuses it whole when the lane went to another or the cursor moved: what was made of a batch
//!   is appended once, or not at all.
//! * R3 A commit that may have landed is sent again byte for byte; where that comes to no answer, the group's cursor
//!   tells.
//! * R4 A batch of a lane that was lost is refused with [`GroupError::Lost`]; the consumer goes on with what it holds.
//! * R5 Memory: the batches of one height, and what a [`Consumer`] holds.
//!
//! Commits are cumulative: they cover what was given of the lane before and was not committed. What nobody wants,
//! this group's own beats and commits among it, is not given; the next beat moves the cursors over it.
//! # Limits
//! Which lanes are held, where cursors stand and what became of a commit is a server's word until the next commit:
//! one that goes on from another place than the ledger's is refused there. Lanes that stay wait while those that came
//! are read up to their height.

mod keeper;
mod place;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use quipu_crypto::suite::SecretKey;
use quipu_proof::feed::{LaneBatch, Snapshot, Told};
use quipu_types::cursor::{Certified, Cursor, Cursors, Mode, Start};
use quipu_types::group::{SESSION_US_MAX, SESSION_US_MIN, check_member};
use quipu_types::row::check_name;
use quipu_types::{Action, Code, Genesis, Height, Lane, Outcome, Seqno, code};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::api::SubmitAnswer;
use crate::consumer::Consumer;
use crate::http::{Client, ClientError};
use keeper::{Command, Commit, Keeper, Member, Passed, Share};
use place::Places;

/// Why a member of a group can not go on, or a commit was refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum GroupError {
    /// As for any client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The batch's lane is not held any more; nothing of the transaction was done.
    #[error("lane {lane} was given to another member, or the lease ended: nothing was done")]
    Lost {
        /// The lane.
        lane: Lane,
    },
    /// The lane's cursor is not before the batch's end where it was expected; nothing of the transaction was done.
    #[error("the cursor of lane {lane} stands elsewhere: nothing was done, the lane is read again")]
    Moved {
        /// The lane.
        lane: Lane,
    },
    /// The ledger refused a transaction for what it does; the cursor did not move.
    #[error("{message}")]
    Refused {
        /// Why.
        code: Code,
        /// In words.
        message: String,
    },
    /// A later process joined under this name.
    #[error("another process joined the group as {member:?}: give each process a name of its own")]
    Replaced {
        /// The name.
        member: String,
    },
    /// A lane's committed cursor is no place of the ledger: who committed it was wrong, or the server that shows it.
    #[error(
        "the committed cursor of lane {lane} names transaction {seqno} at height {height}, which the headers do not"
    )]
    Cursor {
        /// The lane.
        lane: Lane,
        /// The seqno that the cursor names.
        seqno: Seqno,
        /// The height that it names.
        height: Height,
    },
    /// What was given is no group's, member's or session's.
    #[error("{0}")]
    Usage(String),
    /// The task that speaks to the ledger ended with the runtime.
    #[error("the consumer was stopped with its runtime")]
    Stopped,
}

impl GroupError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        Some(match self {
            Self::Client(ClientError::Refused { code, .. }) => code.parse().ok()?,
            Self::Client(ClientError::False { error, .. }) => error.code(),
            Self::Client(ClientError::FalseHeader { error, .. }) => error.code(),
            Self::Client(_) => return None,
            Self::Lost { .. } => code::LANE_FENCED,
            Self::Moved { .. } | Self::Cursor { .. } => code::CURSOR_MOVED,
            Self::Refused { code, .. } => *code,
            Self::Replaced { .. } => code::NOT_A_MEMBER,
            Self::Usage(_) => code::BAD_REQUEST,
            Self::Stopped => code::STOPPING,
        })
    }
}

/// What one committed height adds to one lane that is held, and the token to commit it by.
#[derive(Clone, Debug)]
pub struct GroupBatch {
    snapshot: Snapshot,
    lane: Lane,
    generation: u64,
    to: Certified,
}

impl GroupBatch {
    /// The lane.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        self.lane
    }

    /// Where the cursor stands once this is committed.
    #[must_use]
    pub const fn to(&self) -> Certified {
        self.to
    }

    /// The height, with this lane alone: what [`Events::certified`](crate::Events::certified) takes.
    #[must_use]
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Transactions and their outcomes.
    #[must_use]
    pub fn transactions(&self) -> Option<&LaneBatch> {
        self.snapshot.lanes.first()
    }
}

/// Where a lane is read.
#[derive(Debug)]
struct Reading {
    generation: u64,
    /// The cursor that the group had when the lane came.
    committed: Certified,
    /// Where it is read on; none before the committed cursor was checked.
    cursor: Option<Cursor>,
    /// End of the last batch that was given and is not committed.
    open: Option<Seqno>,
}

/// A member of a consumer group. See the module's header.
pub struct GroupConsumer {
    places: Places,
    stream: Option<String>,
    follows: bool,
    share: watch::Receiver<Share>,
    passed: watch::Sender<Passed>,
    commands: mpsc::Sender<Command>,
    keeper: Option<JoinHandle<Result<(), GroupError>>>,
    lanes: BTreeMap<Lane, Reading>,
    consumer: Option<Consumer>,
    ready: VecDeque<GroupBatch>,
}

impl std::fmt::Debug for GroupConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupConsumer").field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

impl GroupConsumer {
    /// Joins a group as `member`, by any server of `urls` (separated by commas), and waits for the first share. The
    /// lease lasts `session` (1 to 300 s) when nothing is heard of this process; it beats by itself, on a task of the
    /// current runtime.
    ///
    /// # Errors
    /// When there is no such group, the key's account may not join, or nobody answers.
    pub async fn join(
        urls: &str,
        genesis: Genesis,
        key: SecretKey,
        group: &str,
        member: &str,
        session: Duration,
    ) -> Result<Self, GroupError> {
        check_name(group)
            .map_err(|reason| GroupError::Usage(format!("group {group:?}: {reason}")))?;
        check_member(member).map_err(GroupError::Usage)?;
        let session_us = u32::try_from(session.as_micros())
            .ok()
            .filter(|session_us| (SESSION_US_MIN..=SESSION_US_MAX).contains(session_us))
            .ok_or_else(|| GroupError::Usage("a session is 1 to 300 seconds".into()))?;
        let client = Client::new(urls)?.with_genesis(&genesis);
        let member = Member { group: group.to_owned(), name: member.to_owned(), session_us };
        let places = Places::new(urls, genesis)?;
        let (share_sender, share) = watch::channel(Share::default());
        let (passed, passed_receiver) = watch::channel(Passed::new());
        let (commands, receiver) = mpsc::channel(1);
        let keeper = tokio::spawn(async move {
            let keeper = Keeper::new(&client, &key, member, share_sender, passed_receiver);
            keeper.run(receiver).await
        });
        let mut own = Self {
            places,
            stream: None,
            follows: true,
            share,
            passed,
            commands,
            keeper: Some(keeper),
            lanes: BTreeMap::new(),
            consumer: None,
            ready: VecDeque::new(),
        };
        if own.share.wait_for(|share| share.is_joined).await.is_err() {
            return Err(own.ended().await);
        }
        Ok(own)
    }

    /// The same, giving only batches that hold an applied event of this stream.
    #[must_use]
    pub fn with_stream(mut self, stream: &str) -> Self {
        self.stream = Some(stream.to_owned());
        self
    }

    /// The same, whose [`GroupConsumer::next`] gives `None` when everything that was there is read.
    #[must_use]
    pub const fn ending(mut self) -> Self {
        self.follows = false;
        self
    }

    /// The lanes that are held now, as far as is known here.
    #[must_use]
    pub fn lanes(&self) -> Vec<Lane> {
        self.share.borrow().lanes.keys().copied().collect()
    }

    /// The next batch, lane by lane in the ledger's order.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// [`ClientError::False`] when a server showed what does not verify: it is not read from again, and the next call
    /// goes on with the others. [`GroupError::Replaced`] and what a Join is refused for end the consumer.
    pub async fn next(&mut self) -> Result<Option<GroupBatch>, GroupError> {
        loop {
            if self.share.has_changed().is_err() {
                return Err(self.ended().await);
            }
            self.adopt();
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            if self.lanes.is_empty() {
                if !self.follows {
                    return Ok(None);
                }
                // An error is found above.
                drop(self.share.changed().await);
                continue;
            }
            if self.consumer.is_none() {
                self.open().await?;
            }
            let Some(consumer) = &mut self.consumer else { continue };
            let told = tokio::select! {
                _ = self.share.changed() => continue,
                told = consumer.next() => told,
            };
            match told {
                Ok(Some(Told::Snapshot(snapshot))) => self.take(&snapshot),
                Ok(Some(_)) => {}
                Ok(None) => {
                    self.close();
                    return Ok(None);
                }
                Err(error) => {
                    self.places.blame(&error);
                    return Err(error.into());
                }
            }
        }
    }

    /// Commits the lane's cursor to the batch's end, in a transaction of its own. `None` where an earlier try had
    /// landed.
    ///
    /// # Errors
    /// As [`GroupConsumer::commit_with`].
    pub async fn commit(&mut self, batch: &GroupBatch) -> Result<Option<SubmitAnswer>, GroupError> {
        self.settle(batch, None).await
    }

    /// The same in one transaction with `actions`, under `route` (the signer's when there is none): all of it is
    /// done, or nothing.
    ///
    /// # Errors
    /// [`GroupError::Lost`], [`GroupError::Moved`]: nothing was done, drop what was made of the batch and go on with
    /// [`GroupConsumer::next`]. [`GroupError::Refused`]: the outputs can not be applied. Else nobody answers: the
    /// same batch may be committed again, with the same actions or others; one try at most counts.
    pub async fn commit_with(
        &mut self,
        batch: &GroupBatch,
        route: Option<Vec<u8>>,
        actions: Vec<Action>,
    ) -> Result<Option<SubmitAnswer>, GroupError> {
        self.settle(batch, Some((route, actions))).await
    }

    /// Gives up its lanes at once, and goes. Who is dropped does the same without waiting, if the runtime goes on.
    ///
    /// # Errors
    /// When nobody answers: the lease ends by itself then.
    pub async fn leave(mut self) -> Result<(), GroupError> {
        // Who is gone already needs no word.
        drop(self.commands.send(Command::Leave).await);
        match self.keeper.take() {
            Some(keeper) => keeper.await.unwrap_or(Err(GroupError::Stopped)),
            None => Ok(()),
        }
    }

    async fn settle(
        &mut self,
        batch: &GroupBatch,
        outputs: Option<(Option<Vec<u8>>, Vec<Action>)>,
    ) -> Result<Option<SubmitAnswer>, GroupError> {
        let (lane, generation, to) = (batch.lane, batch.generation, batch.to);
        let (reply, answer) = oneshot::channel();
        let commit = Commit { lane, generation, to, outputs, reply };
        // Whoever does not take it does not answer either.
        drop(self.commands.send(Command::Commit(commit)).await);
        let Ok(done) = answer.await else { return Err(self.ended().await) };
        match &done {
            Ok(_) => {
                let reading = self.lanes.get_mut(&lane);
                if let Some(reading) = reading.filter(|own| own.generation == generation)
                    && reading.open.is_some_and(|open| open <= to.seqno)
                {
                    reading.open = None;
                }
            }
            Err(GroupError::Lost { .. } | GroupError::Moved { .. }) => {
                self.forget(lane, generation)
            }
            Err(_) => {}
        }
        done
    }

    /// Why the keeper ended.
    async fn ended(&mut self) -> GroupError {
        let Some(keeper) = self.keeper.take() else { return GroupError::Stopped };
        match keeper.await {
            Ok(Err(error)) => error,
            _ => GroupError::Stopped,
        }
    }

    /// Drops what was read of a lane: if it is still held, or again, it begins at the group's cursor.
    fn forget(&mut self, lane: Lane, generation: u64) {
        if self.lanes.get(&lane).is_some_and(|reading| reading.generation == generation) {
            self.close();
            self.lanes.remove(&lane);
            self.ready.retain(|batch| batch.lane != lane);
        }
    }

    /// Ends the feed, remembering where each lane was read.
    fn close(&mut self) {
        let Some(consumer) = self.consumer.take() else { return };
        for cursor in consumer.cursors().into_iter().flat_map(|cursors| &cursors.lanes) {
            if let Some(reading) = self.lanes.get_mut(&cursor.lane) {
                reading.cursor = Some(cursor.clone());
            }
        }
    }

    /// Follows what the keeper knows: lanes that went and lanes that came.
    fn adopt(&mut self) {
        let held = self.share.borrow_and_update().lanes.clone();
        let is_held = |lane: &Lane, generation: u64| {
            held.get(lane).is_some_and(|held| held.generation == generation)
        };
        let is_same = self.lanes.len() == held.len()
            && self.lanes.iter().all(|(lane, reading)| is_held(lane, reading.generation));
        if is_same {
            return;
        }
        self.close();
        self.lanes.retain(|lane, reading| is_held(lane, reading.generation));
        self.ready.retain(|batch| is_held(&batch.lane, batch.generation));
        self.passed.send_modify(|passed| {
            passed.retain(|lane, (generation, _)| is_held(lane, *generation));
        });
        for (lane, held) in held {
            self.lanes.entry(lane).or_insert(Reading {
                generation: held.generation,
                committed: held.committed,
                cursor: None,
                open: None,
            });
        }
    }

    /// Opens one feed over all lanes that are held.
    async fn open(&mut self) -> Result<(), GroupError> {
        let fresh = self.lanes.iter().filter(|(_, reading)| reading.cursor.is_none());
        let fresh: Vec<(Lane, Certified)> =
            fresh.map(|(lane, reading)| (*lane, reading.committed)).collect();
        for cursor in self.places.find(&fresh).await? {
            if let Some(reading) = self.lanes.get_mut(&cursor.lane) {
                reading.cursor = Some(cursor);
            }
        }
        let lanes: Vec<Lane> = self.lanes.keys().copied().collect();
        let cursors = self.lanes.values().filter_map(|reading| reading.cursor.clone()).collect();
        let cursors = Cursors { chain: self.places.chain(), lanes: cursors };
        let consumer = self.places.consumer(&lanes, Mode::Certified)?;
        let consumer = consumer.starting(Start::Cursors(cursors));
        self.consumer = Some(if self.follows { consumer } else { consumer.ending() });
        Ok(())
    }

    /// Keeps what a height adds to each lane: to be given, or to be passed over.
    fn take(&mut self, snapshot: &Snapshot) {
        let Snapshot { height, header, time, lanes, cursors } = snapshot;
        for batch in lanes {
            let lane = batch.lane;
            let cursor = cursors.lanes.iter().find(|cursor| cursor.lane == lane);
            let (Some(reading), Some(cursor)) = (self.lanes.get_mut(&lane), cursor) else {
                continue;
            };
            let (generation, to) = (reading.generation, cursor.certified);
            if is_wanted(batch, self.stream.as_deref()) {
                reading.open = Some(to.seqno);
                let (height, header, time) = (*height, *header, *time);
                let (lanes, cursors) = (vec![batch.clone()], std::sync::Arc::clone(cursors));
                let snapshot = Snapshot { height, header, time, lanes, cursors };
                self.ready.push_back(GroupBatch { snapshot, lane, generation, to });
            } else if reading.open.is_none() {
                self.passed.send_modify(|passed| {
                    passed.insert(lane, (generation, to));
                });
            }
        }
    }
}

/// Whether a batch holds an applied event of the stream; without one, anything but what groups do.
fn is_wanted(batch: &LaneBatch, stream: Option<&str>) -> bool {
    batch.transactions.iter().zip(&batch.receipts).any(|(ordered, receipt)| {
        let Some(wanted) = stream else {
            // What does not decode is the caller's to see.
            return ordered.transaction().map_or(true, |transaction| {
                transaction.actions.iter().any(|action| !matches!(action, Action::Group(_)))
            });
        };
        receipt.outcome == Outcome::Applied
            && ordered.undecoded().events().any(|(_, event)| event.stream == wanted)
    })
}
