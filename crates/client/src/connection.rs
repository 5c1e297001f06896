//! A feed of one server while it is open: bytes in, what was checked out, and what is kept if something is false.

use std::time::Duration;

use bytes::Bytes;
use quipu_net::{Decoder, FRAME_SIZE_MAX};
use quipu_proof::feed::{Feed, FeedError, Told};
use quipu_types::Encode as _;
use quipu_types::cursor::FeedRequest;

use crate::evidence::Evidence;
use crate::http::{Client, ClientError};

/// Longest silence: servers greet far more often.
const SILENCE_TIME: Duration = Duration::from_secs(30);

/// See the module's header.
pub(crate) struct Connection {
    server: String,
    body: reqwest::Response,
    decoder: Decoder,
    pub(crate) feed: Feed,
    evidence: Evidence,
}

/// What a server sent, as far as its connection goes.
pub(crate) enum Received {
    Bytes(Bytes),
    End,
    Lost(String),
}

/// Why a server's words are not taken.
pub(crate) enum Broken {
    /// They are no frames.
    Protocol(ClientError),
    /// A frame is refused.
    Feed(FeedError),
}

impl Connection {
    /// Asks a server for what `feed` is to check.
    pub(crate) async fn open(
        client: &Client,
        request: &FeedRequest,
        feed: Feed,
    ) -> Result<Self, ClientError> {
        let body = client.open_feed(request.to_bytes().into()).await?;
        let server = body.url().to_string();
        let evidence = Evidence::new(&server, feed.pinned(), request);
        Ok(Self { server, body, decoder: Decoder::new(FRAME_SIZE_MAX), feed, evidence })
    }

    /// The server's address.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// What comes next. Cancel safe.
    pub(crate) async fn receive(&mut self) -> Received {
        match tokio::time::timeout(SILENCE_TIME, self.body.chunk()).await {
            Ok(Ok(Some(bytes))) => Received::Bytes(bytes),
            Ok(Ok(None)) => Received::End,
            Ok(Err(error)) => Received::Lost(crate::http::root_cause(&error)),
            Err(_) => Received::Lost("the server is silent".into()),
        }
    }

    /// Adds what was received to what is to be taken.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.decoder.push(bytes);
    }

    /// Checks the next frame; nothing when it has not come whole.
    pub(crate) fn take(&mut self) -> Result<Option<Vec<Told>>, Broken> {
        let frame = self.decoder.next_frame().map_err(|error| {
            let (server, reason) = (self.server.clone(), error.to_string());
            Broken::Protocol(ClientError::Protocol { server, reason })
        })?;
        let Some(frame) = frame else { return Ok(None) };
        self.evidence.add(frame);
        let told = self.feed.take_bytes(frame).map_err(Broken::Feed)?;
        if told.iter().any(|told| matches!(told, Told::Snapshot(_))) {
            self.evidence.restart(&self.feed);
        }
        Ok(Some(told))
    }

    /// What is told of a server whose last frame is false.
    pub(crate) fn blame(self, error: FeedError) -> ClientError {
        let (error, evidence) = (Box::new(error), Box::new(self.evidence));
        ClientError::False { server: self.server, error, evidence }
    }
}
