//! Where a lane's committed cursor is in the ledger: asked of a server, checked against the genesis.
//!
//! A feed that begins after a height opens with that header, its certificate and the lanes' trees there. A cursor is
//! right when it names that place. Where nothing came after it, the newest header names it, too: then nothing in
//! between need be read.

use std::collections::BTreeMap;
use std::time::Duration;

use quipu_proof::Pinned;
use quipu_proof::feed::Feed;
use quipu_types::cursor::{Certified, Cursor, FeedRequest, Mode, Start};
use quipu_types::{Genesis, Hash, Height, Lane};

use super::GroupError;
use crate::connection::{Broken, Connection, Received};
use crate::consumer::Consumer;
use crate::http::{Client, ClientError};

/// How long a server may take to open a feed.
const ASK_TIME: Duration = Duration::from_secs(30);
/// Pause before servers that do not answer, or are behind, are asked again.
const ASK_PAUSE: Duration = Duration::from_millis(50);
/// How often they are.
const ASK_COUNT_MAX: u32 = 100;

/// The servers that are read from.
pub(super) struct Places {
    genesis: Genesis,
    /// The validators that were followed.
    pinned: Pinned,
    /// Those that showed something false are taken out.
    servers: Vec<(String, Client)>,
    turn: usize,
}

impl Places {
    pub(super) fn new(urls: &str, genesis: Genesis) -> Result<Self, ClientError> {
        let servers = urls.split(',').map(|url| Ok((url.trim().to_owned(), Client::new(url)?)));
        let servers = servers.collect::<Result<_, ClientError>>()?;
        let pinned = Pinned::of_checked(&genesis);
        Ok(Self { servers, genesis, pinned, turn: 0 })
    }

    pub(super) fn chain(&self) -> Hash {
        *self.pinned.chain()
    }

    /// A consumer that reads from them.
    pub(super) fn consumer(&self, lanes: &[Lane], mode: Mode) -> Result<Consumer, ClientError> {
        if self.servers.is_empty() {
            return Err(nobody());
        }
        let urls: Vec<&str> = self.servers.iter().map(|(url, _)| url.as_str()).collect();
        let consumer = Consumer::new(&urls.join(","), self.genesis.clone(), lanes, mode)?;
        Ok(consumer.knowing(self.pinned.clone()))
    }

    /// Takes out who showed something false.
    pub(super) fn blame(&mut self, error: &ClientError) {
        if let ClientError::False { server, .. } = error {
            self.servers.retain(|(url, _)| !server.starts_with(url.trim_end_matches('/')));
        }
    }

    /// The cursors to read from.
    pub(super) async fn find(
        &mut self,
        lanes: &[(Lane, Certified)],
    ) -> Result<Vec<Cursor>, GroupError> {
        if lanes.is_empty() {
            return Ok(Vec::new());
        }
        let all: Vec<Lane> = lanes.iter().map(|(lane, _)| *lane).collect();
        let newest = self.ask(&all, Start::End).await?;
        let mut found = Vec::new();
        let mut older: BTreeMap<Height, Vec<(Lane, Certified)>> = BTreeMap::new();
        for ((lane, committed), cursor) in lanes.iter().zip(newest) {
            if cursor.seqno == committed.seqno {
                found.push(fits(*committed, cursor)?);
            } else {
                older.entry(committed.height).or_default().push((*lane, *committed));
            }
        }
        for (height, lanes) in older {
            let all: Vec<Lane> = lanes.iter().map(|(lane, _)| *lane).collect();
            let cursors = self.ask(&all, Start::Height(height)).await?;
            for ((_, committed), cursor) in lanes.into_iter().zip(cursors) {
                found.push(fits(committed, cursor)?);
            }
        }
        Ok(found)
    }

    /// Where lanes stand at a start, checked.
    async fn ask(&mut self, lanes: &[Lane], start: Start) -> Result<Vec<Cursor>, ClientError> {
        let (mode, lanes) = (Mode::Certified, lanes.to_vec());
        let epoch = self.pinned.epoch();
        let request = FeedRequest { mode, follow: false, epoch, lanes, start };
        let mut tries = 0_u32;
        loop {
            let place = self.turn.checked_rem(self.servers.len()).unwrap_or(0);
            let Some((_, client)) = self.servers.get(place) else { return Err(nobody()) };
            let opened = tokio::time::timeout(ASK_TIME, open(client, &self.pinned, &request));
            let silent = || ClientError::Unreachable { tried: "a server is silent".into() };
            match opened.await.unwrap_or_else(|_| Err(silent())) {
                Err(ClientError::Unreachable { .. } | ClientError::Busy { .. })
                    if tries < ASK_COUNT_MAX =>
                {
                    tries = tries.saturating_add(1);
                    self.turn = self.turn.wrapping_add(1);
                    tokio::time::sleep(ASK_PAUSE).await;
                }
                Err(error) => {
                    self.blame(&error);
                    return Err(error);
                }
                Ok((cursors, pinned)) => {
                    self.pinned = pinned;
                    return Ok(cursors);
                }
            }
        }
    }
}

fn nobody() -> ClientError {
    ClientError::Unreachable { tried: "every server given was false".into() }
}

/// The checked cursor, where it is the committed one.
fn fits(committed: Certified, cursor: Cursor) -> Result<Cursor, GroupError> {
    let Certified { height, seqno, root } = committed;
    if cursor.seqno == seqno && (root == Hash::ZERO || root == cursor.root) {
        Ok(cursor)
    } else {
        Err(GroupError::Cursor { lane: cursor.lane, seqno, height })
    }
}

/// Reads a feed's first frames.
async fn open(
    client: &Client,
    pinned: &Pinned,
    request: &FeedRequest,
) -> Result<(Vec<Cursor>, Pinned), ClientError> {
    let feed = Feed::new(pinned.clone(), request.clone());
    let mut connection = Connection::open(client, request, feed).await?;
    loop {
        let lost = |server: &str, reason: &str| ClientError::Unreachable {
            tried: format!("{server}: {reason}"),
        };
        match connection.receive().await {
            Received::Bytes(bytes) => connection.push(&bytes),
            Received::End => return Err(lost(connection.server(), "it closed the feed")),
            Received::Lost(reason) => return Err(lost(connection.server(), &reason)),
        }
        while !connection.feed.is_open() {
            match connection.take() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(Broken::Protocol(error)) => return Err(error),
                Err(Broken::Feed(error)) => return Err(connection.blame(error)),
            }
        }
        if connection.feed.is_open() {
            let feed = &connection.feed;
            return Ok((feed.cursors().lanes, feed.pinned().clone()));
        }
    }
}
