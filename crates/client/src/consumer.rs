//! A consumer of lanes that believes nobody: it resumes from cursors, checks everything against the genesis and the validators that follow from it, and keeps what was false.
//!
//! ```text
//!  Consumer::next ─> Told ── Snapshot: committed, with outcomes; Tentative, RolledBack
//!     ^  Feed (quipu-proof) checks frame by frame
//!     │  lost, busy, behind: the next server, from the cursors of what was told
//!     └─ false: Evidence, ClientError::False; the next call goes on with another server
//! ```
//! * K1 What is told was checked (`quipu_proof::feed`, E1 to E3). After a reconnect nothing is told twice and nothing is left out.
//! * K2 One request resumes all lanes: every place to which a roll back may go is known here since it was told. Only after a restart from a
//!   stored cursor may a roll back go to a root that is not known; it takes a second request, from what is certified.
//! * K4 The validators are followed as the feed goes; after a reconnect only what is new of them is asked for.
//! * K3 A server that showed something false is not asked again by this consumer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use quipu_proof::Pinned;
use quipu_proof::feed::{Feed, FeedError, Mark, Told, from_start};
use quipu_types::cursor::{Cursor, Cursors, FeedRequest, Mode, Start};
use quipu_types::{Genesis, Hash, Lane};

use crate::connection::{Broken, Connection, Received};
use crate::http::{Client, ClientError};

/// Pause before a lost feed is opened again.
const REOPEN_PAUSE: Duration = Duration::from_millis(100);
/// How often in a row a feed may be opened without telling anything.
const REOPEN_COUNT_MAX: u32 = 100;

/// A followed set of lanes. See the module's header.
pub struct Consumer {
    /// Asked in turn; those that lied are taken out.
    servers: Vec<Arc<Client>>,
    turn: usize,
    /// The validators that were followed.
    pinned: Pinned,
    request: FeedRequest,
    connection: Option<Connection>,
    told: VecDeque<Told>,
    /// Ends of the chunks that no cut covers, as they were told.
    marks: Vec<Mark>,
    failures: u32,
    fall_backs: u64,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("servers", &self.servers.len()).finish_non_exhaustive()
    }
}

impl Consumer {
    /// One that reads `lanes` (all when empty) of the ledger of `genesis` from any server of `urls` (separated by commas).
    ///
    /// # Errors
    /// When `urls` are no addresses.
    pub fn new(
        urls: &str,
        genesis: Genesis,
        lanes: &[Lane],
        mode: Mode,
    ) -> Result<Self, ClientError> {
        let servers = urls.split(',').map(|url| Client::new(url).map(Arc::new));
        let servers = servers.collect::<Result<Vec<_>, _>>()?;
        let pinned = Pinned::of_checked(&genesis);
        let every = (0..genesis.lane_count).map(Lane::new).collect::<Vec<_>>();
        let lanes = if lanes.is_empty() { &every } else { lanes };
        let request = from_start(*pinned.chain(), lanes, mode, true);
        let (connection, told) = (None, VecDeque::new());
        Ok(Self {
            servers,
            turn: 0,
            pinned,
            request,
            connection,
            told,
            marks: Vec::new(),
            failures: 0,
            fall_backs: 0,
        })
    }

    /// The same, from another place. Cursors bring their lanes with them.
    #[must_use]
    pub fn starting(mut self, start: Start) -> Self {
        if let Start::Cursors(cursors) = &start {
            self.request.lanes = cursors.lanes.iter().map(|cursor| cursor.lane).collect();
        }
        self.request.start = start;
        self
    }

    /// The same, for who has followed the validators before.
    ///
    /// # Panics
    /// When they are another ledger's.
    #[must_use]
    pub fn knowing(mut self, pinned: Pinned) -> Self {
        assert_eq!(pinned.chain(), self.pinned.chain(), "what was followed is of this ledger");
        self.pinned = pinned;
        self
    }

    /// The validators that were followed by now.
    #[must_use]
    pub const fn pinned(&self) -> &Pinned {
        &self.pinned
    }

    /// The same, ending at the newest height instead of waiting.
    #[must_use]
    pub fn ending(mut self) -> Self {
        self.request.follow = false;
        self
    }

    /// The ledger that is pinned.
    #[must_use]
    pub fn chain(&self) -> Hash {
        *self.pinned.chain()
    }

    /// Where a consumer stands who has taken everything that [`Consumer::next`] gave; none before a start that is not cursors was
    /// answered.
    #[must_use]
    pub fn cursors(&self) -> Option<&Cursors> {
        match &self.request.start {
            Start::Cursors(cursors) => Some(cursors),
            _ => None,
        }
    }

    /// How often a roll back could not be checked, so that a second request was needed (K2).
    #[must_use]
    pub const fn fall_backs(&self) -> u64 {
        self.fall_backs
    }

    /// What comes next, checked; `None` at the end of what is not followed further.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// [`ClientError::False`] when a server showed what does not verify: it is not asked again, and the next call goes on with
    /// the others. [`ClientError::Refused`] when a cursor can not be resumed. Else nobody answers.
    pub async fn next(&mut self) -> Result<Option<Told>, ClientError> {
        loop {
            if let Some(told) = self.told.pop_front() {
                self.keep(&told);
                return Ok(Some(told));
            }
            if self.connection.is_none() {
                self.open().await?;
                continue;
            }
            match self.receive().await {
                Received::Bytes(bytes) => self.take(&bytes)?,
                Received::End if !self.request.follow => return Ok(None),
                Received::End => self.lost("the server closed the feed").await?,
                Received::Lost(reason) => self.lost(&reason).await?,
            }
        }
    }

    /// Remembers where to resume after `told` was given.
    fn keep(&mut self, told: &Told) {
        let cursors = match told {
            Told::Hello(_) => return,
            Told::Snapshot(snapshot) => Cursors::clone(&snapshot.cursors),
            Told::Tentative(batch) => {
                let cursor = batch.cursor(batch.transactions.len());
                let Cursor { lane, seqno, root, .. } = cursor;
                self.marks.push(Mark { lane, seqno, root });
                return self.keep_lane(cursor);
            }
            Told::RolledBack { lane, to, cursor } => {
                self.marks.retain(|mark| mark.lane != *lane || mark.seqno <= *to);
                return self.keep_lane(Cursor::clone(cursor));
            }
        };
        self.marks.retain(|mark| {
            let own = cursors.lanes.iter().find(|cursor| cursor.lane == mark.lane);
            own.is_some_and(|cursor| cursor.certified.seqno < mark.seqno)
        });
        self.request.start = Start::Cursors(cursors);
    }

    fn keep_lane(&mut self, cursor: Cursor) {
        if let Start::Cursors(cursors) = &mut self.request.start
            && let Some(own) = cursors.lanes.iter_mut().find(|own| own.lane == cursor.lane)
        {
            *own = cursor;
        }
    }

    async fn open(&mut self) -> Result<(), ClientError> {
        let count = self.servers.len();
        let Some(client) = self.servers.get(self.turn.checked_rem(count).unwrap_or(0)) else {
            return Err(ClientError::Unreachable { tried: "every server given was false".into() });
        };
        self.request.epoch = self.pinned.epoch();
        let feed = Feed::new(self.pinned.clone(), self.request.clone());
        let feed = feed.knowing(self.marks.clone());
        match Connection::open(client, &self.request, feed).await {
            Ok(connection) => {
                self.connection = Some(connection);
                Ok(())
            }
            // Others may answer, or be further.
            Err(ClientError::Unreachable { tried } | ClientError::Busy { tried }) => {
                self.lost(&tried).await
            }
            Err(error) => Err(error),
        }
    }

    async fn receive(&mut self) -> Received {
        match &mut self.connection {
            Some(connection) => connection.receive().await,
            None => Received::End,
        }
    }

    /// Checks what came.
    fn take(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        connection.push(bytes);
        loop {
            let was_open = connection.feed.is_open();
            match connection.take() {
                Ok(None) => return Ok(()),
                Ok(Some(told)) => {
                    if connection.feed.pinned().epoch() > self.pinned.epoch() {
                        self.pinned = connection.feed.pinned().clone();
                    }
                    if told.iter().any(|told| !matches!(told, Told::Hello(_))) {
                        self.failures = 0;
                    }
                    self.told.extend(told);
                    if !was_open
                        && connection.feed.is_open()
                        && !matches!(self.request.start, Start::Cursors(_))
                    {
                        self.request.start = Start::Cursors(connection.feed.cursors());
                    }
                }
                Err(Broken::Protocol(error)) => {
                    self.connection = None;
                    return Err(error);
                }
                Err(Broken::Feed(FeedError::UnknownRoot { .. })) => {
                    // Nothing false: from what is certified it can be checked (K2).
                    self.fall_back();
                    return Ok(());
                }
                Err(Broken::Feed(error)) => return self.refuse(error),
            }
        }
    }

    /// Resumes from the certified positions alone.
    fn fall_back(&mut self) {
        self.connection = None;
        self.fall_backs = self.fall_backs.saturating_add(1);
        let Start::Cursors(cursors) = &mut self.request.start else { return };
        for cursor in &mut cursors.lanes {
            let Cursor { lane, certified, branch, seqno, .. } = *cursor;
            if certified.seqno < seqno {
                *cursor = Cursor::at(lane, certified, branch);
                let (to, cursor) = (certified.seqno, Arc::new(cursor.clone()));
                self.told.push_back(Told::RolledBack { lane, to, cursor });
            }
        }
    }

    fn refuse(&mut self, error: FeedError) -> Result<(), ClientError> {
        let Some(connection) = self.connection.take() else { return Ok(()) };
        let count = self.servers.len();
        if let Some(place) = self.turn.checked_rem(count) {
            self.servers.remove(place);
        }
        Err(connection.blame(error))
    }

    async fn lost(&mut self, reason: &str) -> Result<(), ClientError> {
        self.connection = None;
        self.turn = self.turn.wrapping_add(1);
        self.failures = self.failures.saturating_add(1);
        if self.failures > REOPEN_COUNT_MAX {
            return Err(ClientError::Unreachable { tried: reason.to_owned() });
        }
        // At once for as long as another server was not tried.
        if usize::try_from(self.failures).is_ok_and(|failures| failures >= self.servers.len()) {
            tokio::time::sleep(REOPEN_PAUSE).await;
        }
        Ok(())
    }
}
