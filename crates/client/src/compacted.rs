//! The newest event of each key of a compacted stream, checked against the genesis that is given.
//!
//! ```text
//!  GET /v1/streams/S/compacted?from=HASH ─> page ─> proof::compacted: newest of each key, none left out ─> rows
//!                                                     next page: where this one must end
//! ```
//! # Invariants
//! * K1 What is given is the newest event of its key at the page's height, and the pages from the first to the last
//!   have every key. The schema by which rows are shown is the state's.
//! * K2 Heights do not go back from page to page.
//!
//! # Limits
//! Each page is of its own height; they are of one state where their roots are the same. That a height is the newest
//! is not shown: a server that is behind is known by its heights alone.

use quipu_proof::Pinned;
use quipu_proof::compacted::{Entry, Newest, Page, PageError};
use quipu_types::row::check_name;
use quipu_types::{Decode, Genesis, Hash, Height};
use serde::{Deserialize, Serialize};

use crate::events::key_text;
use crate::http::{Client, ClientError};

/// The newest event of a key.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CompactedEvent {
    /// The key; `\x` and hexadecimal for one that is no text.
    pub key: String,
    /// `LANE:SEQNO`.
    pub position: String,
    /// 0-based index of the action in its transaction.
    pub action: u32,
    /// Height that ordered it.
    pub height: u64,
    /// The row.
    pub data: serde_json::Value,
}

/// A page that was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct CompactedPage {
    /// The height that it is of.
    pub height: Height,
    /// How many keys the stream has at that height.
    pub key_count: u64,
    /// Root of the trie of its keys.
    pub root: Hash,
    /// Its keys, ascending by their SHA-256.
    pub events: Vec<CompactedEvent>,
}

/// What is read of an answer; all else in it is for people.
#[derive(Debug, Deserialize)]
struct Answer {
    proof: String,
}

/// Reads a compacted stream, page by page.
#[derive(Debug)]
pub struct Compacted<'a> {
    client: &'a Client,
    pinned: Pinned,
    stream: String,
    next: Option<Hash>,
    height: Height,
}

impl<'a> Compacted<'a> {
    /// A reader of `stream` from its first key on.
    #[must_use]
    pub fn new(client: &'a Client, genesis: &Genesis, stream: &str) -> Self {
        let (stream, next) = (stream.to_owned(), Some(Hash::ZERO));
        let pinned = Pinned::of_checked(genesis);
        Self { client, pinned, stream, next, height: Height::default() }
    }

    /// The next page; none behind the last.
    ///
    /// # Errors
    /// [`ClientError::FalsePage`] when what a server shows does not verify; when nobody answers; when there is no such
    /// stream.
    pub async fn next(&mut self) -> Result<Option<CompactedPage>, ClientError> {
        let Some(start) = self.next else { return Ok(None) };
        let (page, next) = self.page(&start, None).await?;
        self.next = next;
        Ok(Some(page))
    }

    /// The page that has the key, if the stream has it, and at most it.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn of_key(&mut self, key: &[u8]) -> Result<CompactedPage, ClientError> {
        let (mut page, _) = self.page(&Newest::place(key), Some(1)).await?;
        let wanted = key_text(key);
        page.events.retain(|event| event.key == wanted);
        Ok(page)
    }

    async fn page(
        &mut self,
        start: &Hash,
        limit: Option<u32>,
    ) -> Result<(CompactedPage, Option<Hash>), ClientError> {
        let server = format!("stream {}", self.stream);
        let protocol = |reason: String| ClientError::Protocol { server: server.clone(), reason };
        // The name goes into a path.
        check_name(&self.stream).map_err(protocol)?;
        let limit = limit.map_or(String::new(), |limit| format!("&limit={limit}"));
        let path = format!("/v1/streams/{}/compacted?from={start}{limit}", self.stream);
        let (answer, server): (Answer, String) = self.client.get_of(&path).await?;
        let bytes = hex::decode(&answer.proof);
        let bytes = bytes.map_err(|error| protocol(format!("proof: {error}")))?;
        let page = Page::from_bytes(&bytes).map_err(|error| protocol(format!("proof: {error}")))?;
        let refused = |error: PageError| ClientError::FalsePage { server, error: Box::new(error) };
        let mut shown = page.verify_from(&self.pinned, &self.stream, start);
        // A page does not say of which epoch it is: it may be of one that is not known yet.
        if matches!(shown, Err(PageError::Certificate(_)))
            && self.client.follow_epochs(&mut self.pinned).await?
        {
            shown = page.verify_from(&self.pinned, &self.stream, start);
        }
        let shown = shown.map_err(refused)?;
        if shown.height < self.height {
            let (found, known) = (shown.height, self.height);
            let reason = format!("its page is of height {found}, one of {known} was shown before");
            return Err(protocol(reason));
        }
        self.height = shown.height;
        let event = |Entry { newest, payload }: &Entry| {
            Ok(CompactedEvent {
                key: key_text(&newest.key),
                position: newest.position.to_string(),
                action: newest.action,
                height: newest.height.get(),
                data: shown.spec.schema.row_to_json(payload)?,
            })
        };
        let events = page.entries.iter().map(event).collect::<Result<_, ClientError>>()?;
        let (key_count, root) = (shown.keys.count, shown.keys.root);
        Ok((CompactedPage { height: shown.height, key_count, root, events }, shown.next))
    }
}
