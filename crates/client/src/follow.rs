//! Following a stream: events in the ledger's order, resumed after a position when a server goes away.

use std::time::Duration;

use bytes::Bytes;
use quipu_types::Position;
use serde::Deserialize;

use crate::LINE_SIZE_MAX;
use crate::api::{ErrorBody, Event};
use crate::http::{Client, ClientError};

/// Pause before a lost stream is opened again.
const REOPEN_PAUSE: Duration = Duration::from_millis(200);
/// How often in a row a stream may break without giving an event.
const REOPEN_COUNT_MAX: u32 = 50;

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FollowFrom {
    /// The stream's first event.
    #[default]
    Start,
    /// After this transaction, in the ledger's order over all lanes.
    After(Position),
}

/// A followed stream. One position resumes it, whatever lanes it spans.
#[derive(Debug)]
pub struct Follow<'a> {
    client: &'a Client,
    stream: String,
    /// The last transaction of which every event was given.
    from: FollowFrom,
    /// Whether to wait for what is not yet there.
    endless: bool,
    /// The last event given: after a reopen, what it repeats is skipped.
    last: Option<(Position, u32)>,
    body: Option<reqwest::Response>,
    buffer: Vec<u8>,
    failures: u32,
}

/// A line of the stream: an event, or why there is none.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Event(Event),
    Error { error: ErrorBody },
}

impl<'a> Follow<'a> {
    /// Follows `stream`; ends at the newest event unless `endless`.
    #[must_use]
    pub fn new(client: &'a Client, stream: &str, from: FollowFrom, endless: bool) -> Self {
        Self {
            client,
            stream: stream.to_owned(),
            from,
            endless,
            last: None,
            body: None,
            buffer: Vec::new(),
            failures: 0,
        }
    }

    /// The next event, or `None` at the end of a stream that is not followed further.
    ///
    /// Cancel safe: nothing is lost when the future is dropped between events.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(line) = self.take_line()? {
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                let (position, event) = self.parse(&line)?;
                if let Some(event) = self.admit(position, event) {
                    return Ok(Some(event));
                }
                continue;
            }
            if self.body.is_none() && !self.open().await? {
                continue;
            }
            match self.receive().await {
                Ok(Some(bytes)) => self.buffer.extend_from_slice(&bytes),
                Ok(None) if self.endless => self.lost("the server closed the stream").await?,
                Ok(None) => return Ok(None),
                Err(reason) => self.lost(&reason).await?,
            }
        }
    }

    fn parse(&self, line: &[u8]) -> Result<(Position, Event), ClientError> {
        let event: Event = match serde_json::from_slice(line) {
            Ok(Line::Event(event)) => event,
            Ok(Line::Error { error }) => return Err(error.into()),
            Err(error) => return Err(self.protocol(error.to_string())),
        };
        let position = event.position.parse().map_err(|_| self.protocol(event.position.clone()))?;
        Ok((position, event))
    }

    /// Moves the resume position; drops what a reopened stream repeats of the last transaction.
    ///
    /// A stream may break between two events of one transaction, so it resumes after the transaction before.
    fn admit(&mut self, position: Position, event: Event) -> Option<Event> {
        self.failures = 0;
        if let Some((last, action)) = self.last {
            if last == position && event.action <= action {
                return None;
            }
            if last != position {
                self.from = FollowFrom::After(last);
            }
        }
        self.last = Some((position, event.action));
        Some(event)
    }

    /// Opens the stream; `false` when nobody answered and it is worth another try. Whoever never had an event
    /// hears at once that nobody answers.
    async fn open(&mut self) -> Result<bool, ClientError> {
        let mut path = format!("/v1/streams/{}/events?follow={}", self.stream, self.endless);
        if let FollowFrom::After(position) = self.from {
            path.push_str(&format!("&from={position}"));
        }
        match self.client.open(&path).await {
            Ok(body) => self.body = Some(body),
            Err(ClientError::Unreachable { tried }) if self.last.is_some() => {
                self.lost(&tried).await?;
            }
            Err(error) => return Err(error),
        }
        Ok(self.body.is_some())
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, String> {
        match &mut self.body {
            Some(body) => body.chunk().await.map_err(|error| error.to_string()),
            None => Ok(None),
        }
    }

    async fn lost(&mut self, reason: &str) -> Result<(), ClientError> {
        self.body = None;
        self.buffer.clear();
        self.failures = self.failures.saturating_add(1);
        if self.failures > REOPEN_COUNT_MAX {
            return Err(ClientError::Unreachable { tried: reason.to_owned() });
        }
        tokio::time::sleep(REOPEN_PAUSE).await;
        Ok(())
    }

    fn take_line(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        match self.buffer.iter().position(|byte| *byte == b'\n') {
            Some(end) => Ok(Some(self.buffer.drain(..=end).collect())),
            None if self.buffer.len() > LINE_SIZE_MAX => {
                Err(self.protocol(format!("a line of more than {LINE_SIZE_MAX} bytes")))
            }
            None => Ok(None),
        }
    }

    fn protocol(&self, reason: String) -> ClientError {
        ClientError::Protocol { server: format!("stream {}", self.stream), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(position: &str, action: u32) -> (Position, Event) {
        let json = serde_json::json!({
            "position": position, "action": action, "height": 1, "time_us": 1,
            "tx": "00".repeat(32), "signer": format!("01{}", "00".repeat(32)), "data": {}
        });
        let event: Event = serde_json::from_value(json).expect("the members are an event's");
        (position.parse().expect("the test's positions are well formed"), event)
    }

    #[test]
    fn an_error_among_the_events_is_told_with_its_code() {
        let client = Client::new("http://127.0.0.1:1").expect("an address");
        let follow = Follow::new(&client, "s", FollowFrom::Start, false);
        let line = br#"{"error":{"code":"QP0301","message":"damaged","hint":"check"}}"#;
        let refused = follow.parse(line).expect_err("it is no event");
        assert!(matches!(refused, ClientError::Refused { code, .. } if code == "QP0301"));
    }

    #[test]
    fn a_stream_broken_inside_a_transaction_gives_each_event_once() {
        let client = Client::new("http://127.0.0.1:1").expect("an address");
        let mut follow = Follow::new(&client, "s", FollowFrom::Start, true);
        let given = |events: &[(&str, u32)], follow: &mut Follow<'_>| {
            events
                .iter()
                .filter(|(position, action)| {
                    let (position, event) = event(position, *action);
                    follow.admit(position, event).is_some()
                })
                .count()
        };
        assert_eq!(given(&[("0:1", 0), ("0:1", 1), ("3:1", 0)], &mut follow), 3);
        let resume = "0:1".parse().expect("a position");
        assert_eq!(follow.from, FollowFrom::After(resume));
        assert_eq!(given(&[("3:1", 0), ("3:1", 1), ("0:2", 0)], &mut follow), 2);
    }
}
