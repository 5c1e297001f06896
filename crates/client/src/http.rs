//! Requests to one of several servers; the next one when one does not answer.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quipu_net::encoding;
use quipu_proof::HandoverError;
use quipu_proof::compacted::PageError;
use quipu_proof::feed::FeedError;
use quipu_types::{Encode, Genesis, Hash, PublicKey, Transaction};
use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::RESPONSE_SIZE_MAX;
use crate::anchor::{HeaderFault, Known};
use crate::api::{ErrorBody, ProducerInfo, SqlAnswer, Status, StreamInfo, SubmitAnswer};
use crate::evidence::Evidence;

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before transactions that a busy server did not take are sent again.
const REPEAT_PAUSE: Duration = Duration::from_millis(25);
/// How often they are sent again without one of them being taken.
const REPEAT_COUNT_MAX: u32 = 400;
/// How long a server may take to answer; a commit takes milliseconds, a large query seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Most bodies that are sent as they are after one did not become smaller.
const PLAIN_COUNT_MAX: u32 = 256;

/// Why a request gave no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The addresses given are none.
    #[error(
        "{url:?} is no address of a validator; give http://HOST:PORT, several separated by commas"
    )]
    Url {
        /// What was given.
        url: String,
    },
    /// Nobody answers.
    #[error("no validator answers: {tried}")]
    Unreachable {
        /// Each server with its reason.
        tried: String,
    },
    /// Those that answer can not take more now.
    #[error("every validator is busy or stopping: {tried}")]
    Busy {
        /// Each server with its reason.
        tried: String,
    },
    /// A server refused.
    #[error("{message}")]
    Refused {
        /// Stable code.
        code: String,
        /// What happened.
        message: String,
        /// What to do next.
        hint: Option<String>,
    },
    /// A server's answer is not what the interface says.
    #[error("{server} answers what this client does not understand: {reason}")]
    Protocol {
        /// The server.
        server: String,
        /// What was wrong.
        reason: String,
    },
    /// The server runs another ledger than the one pinned.
    #[error("{server} runs chain {found}, the genesis given is of chain {pinned}")]
    OtherChain {
        /// The server.
        server: String,
        /// Its chain.
        found: Hash,
        /// The caller's, or the first that a server gave.
        pinned: Hash,
    },
    /// A server showed a header that does not verify: it is no anchor.
    #[error("{server} shows what is false: {error}")]
    FalseHeader {
        /// The server.
        server: String,
        /// Why it is false.
        error: Box<HeaderFault>,
    },
    /// A server showed events that do not verify.
    #[error("{server} shows what is false: {error}")]
    False {
        /// The server.
        server: String,
        /// Why it is false.
        error: Box<FeedError>,
        /// What was shown, to keep.
        evidence: Box<Evidence>,
    },
    /// A server showed a page of a compacted stream that does not verify.
    #[error("{server} shows what is false: {error}")]
    FalsePage {
        /// The server.
        server: String,
        /// Why it is false.
        error: Box<PageError>,
    },
    /// A server showed ends of epochs that do not verify.
    #[error("{server} shows what is false: {error}")]
    FalseEpochs {
        /// The server.
        server: String,
        /// Why it is false.
        error: Box<HandoverError>,
    },
    /// A row does not fit its stream.
    #[error("{0}")]
    Row(#[from] quipu_types::row::RowError),
    /// One event does not fit a transaction.
    #[error("event of {size} bytes does not fit a transaction; the most is {size_max}")]
    EventTooLarge {
        /// Its size.
        size: usize,
        /// The bound.
        size_max: usize,
    },
}

impl From<ErrorBody> for ClientError {
    fn from(body: ErrorBody) -> Self {
        Self::Refused { code: body.code, message: body.message, hint: body.hint }
    }
}

/// When a submission is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// Once the order is final and durable on a quorum; the outcome is not known yet.
    Final,
    /// The same, and executed: the answer has the outcome.
    #[default]
    Executed,
    /// At once: `pending` for what was taken. What becomes of it shows later.
    Taken,
}

/// A connection to a ledger through any of several validators.
#[derive(Debug)]
pub struct Client {
    servers: Vec<String>,
    /// Index of the server that answered last.
    preferred: AtomicUsize,
    http: reqwest::Client,
    pinned: Option<Hash>,
    pub(crate) known: Known,
    ack: Ack,
    compression: Option<Compression>,
}

/// Makes submitted bodies smaller while that pays (C4).
#[derive(Debug, Default)]
struct Compression {
    /// Bodies that are sent as they are before the next try.
    left_out: AtomicU32,
    /// How many that were after the last try; 0 when it paid.
    pause: AtomicU32,
}

impl Compression {
    /// The body as a block, when it became smaller.
    fn encode(&self, body: &[u8]) -> Option<Vec<u8>> {
        if body.len() < encoding::ENCODE_SIZE_MIN {
            return None;
        }
        let one_less = |left: u32| left.checked_sub(1);
        if self.left_out.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
            return None;
        }
        let block = encoding::encode(body);
        let pause = match block {
            Some(_) => 0,
            None => self.pause.load(Ordering::Relaxed).saturating_mul(2).clamp(1, PLAIN_COUNT_MAX),
        };
        self.pause.store(pause, Ordering::Relaxed);
        self.left_out.store(pause, Ordering::Relaxed);
        block
    }
}

/// Whether a server stands on this machine, to which bytes cost nothing.
fn is_loopback(url: &str) -> bool {
    let host = url.strip_prefix("http://").unwrap_or(url);
    ["127.", "localhost", "[::1]"].iter().any(|name| host.starts_with(name))
}

impl Client {
    /// A client of the servers in `urls`, separated by commas.
    pub fn new(urls: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Url { url: urls.to_owned() };
        let servers: Vec<String> =
            urls.split(',').map(|url| url.trim().trim_end_matches('/').to_owned()).collect();
        if servers.iter().any(|url| !url.starts_with("http://") || url.len() < 9) {
            return Err(wrong());
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .build()
            .map_err(|_| wrong())?;
        let is_far = !servers.iter().all(|url| is_loopback(url));
        Ok(Self {
            servers,
            preferred: AtomicUsize::new(0),
            http,
            pinned: None,
            known: Known::default(),
            ack: Ack::default(),
            compression: is_far.then(Compression::default),
        })
    }

    /// The same, refusing servers of another ledger than `genesis`' (C2).
    #[must_use]
    pub fn with_genesis(mut self, genesis: &Genesis) -> Self {
        self.known = Known::of(genesis);
        self.pinned = self.known.ledger.get().map(|ledger| ledger.chain);
        self
    }

    /// The same, with submissions answered when `ack` says.
    #[must_use]
    pub fn with_ack(mut self, ack: Ack) -> Self {
        self.ack = ack;
        self
    }

    /// The same, with submitted bodies compressed while that makes them smaller, or never. Unless said, those to
    /// servers of other machines are.
    #[must_use]
    pub fn with_compression(mut self, compresses: bool) -> Self {
        self.compression = compresses.then(Compression::default);
        self
    }

    /// When submissions are answered.
    #[must_use]
    pub fn ack(&self) -> Ack {
        self.ack
    }

    /// The pinned chain, when there is one.
    #[must_use]
    pub fn pinned(&self) -> Option<Hash> {
        self.pinned
    }

    /// The chain id of the genesis, pinned or seen first, after checking that the server's is the same; else the server's.
    pub async fn chain(&self) -> Result<Hash, ClientError> {
        let found = self.status().await?.chain;
        match self.known.ledger.get().map(|ledger| ledger.chain) {
            Some(pinned) if pinned != found => {
                Err(ClientError::OtherChain { server: self.servers.join(","), found, pinned })
            }
            _ => Ok(found),
        }
    }

    /// What the server says of itself.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status").await
    }

    /// A stream by name.
    pub async fn stream(&self, name: &str) -> Result<StreamInfo, ClientError> {
        self.get(&format!("/v1/streams/{name}")).await
    }

    /// Where a producer stands in the lane of a route.
    pub async fn producer(
        &self,
        signer: &PublicKey,
        route: Option<&[u8]>,
    ) -> Result<ProducerInfo, ClientError> {
        let query = route.map_or(String::new(), |route| format!("?route={}", hex::encode(route)));
        self.get(&format!("/v1/producers/{signer}{query}")).await
    }

    /// Submits transactions and waits until each is final, replicated and executed (or as [`Ack`] says), or refused.
    ///
    /// The answers are in the order of the transactions. The same bytes go to the next server when one
    /// does not answer (C1).
    pub async fn submit(
        &self,
        transactions: &[Transaction],
    ) -> Result<Vec<SubmitAnswer>, ClientError> {
        let mut body = Vec::new();
        for transaction in transactions {
            quipu_net::put_frame(&mut body, &transaction.to_bytes());
        }
        self.submit_frames(body.into()).await
    }

    /// [`Client::submit`] of frames that are already encoded.
    pub async fn submit_frames(&self, body: Bytes) -> Result<Vec<SubmitAnswer>, ClientError> {
        self.post(self.ack, body, ANSWER_TIMEOUT).await
    }

    /// [`Client::submit_frames`] with another moment of the answer, and another patience for each server's.
    pub(crate) async fn post(
        &self,
        ack: Ack,
        frames: Bytes,
        time_max: Duration,
    ) -> Result<Vec<SubmitAnswer>, ClientError> {
        let path = match ack {
            Ack::Final => "/v1/transactions?ack=final",
            Ack::Executed => "/v1/transactions",
            Ack::Taken => "/v1/transactions?wait=none",
        };
        let kind = "application/octet-stream";
        let block = self.compression.as_ref().and_then(|compression| compression.encode(&frames));
        let body = match block {
            Some(block) => Body { kind, encoding: Some(encoding::SNAPPY), bytes: block.into() },
            None => Body { kind, encoding: None, bytes: frames },
        };
        let answer = self.request(Method::POST, path, Some(body), Some(time_max)).await?;
        self.json(answer).await
    }

    /// Each server as a client of its own.
    pub(crate) fn each(&self) -> Vec<Self> {
        let one = |server: &String| Self {
            servers: vec![server.clone()],
            preferred: AtomicUsize::new(0),
            http: self.http.clone(),
            pinned: self.pinned,
            known: self.known.ledger_alone(),
            ack: self.ack,
            compression: None,
        };
        self.servers.iter().map(one).collect()
    }

    /// Its servers, for messages.
    pub(crate) fn name(&self) -> String {
        self.servers.join(",")
    }

    pub(crate) async fn post_complaint(&self, bytes: Bytes) -> Result<(), ClientError> {
        let body = Body { kind: "application/octet-stream", encoding: None, bytes };
        self.send(Method::POST, "/v1/complaints", Some(body)).await.map(drop)
    }

    /// Asks the next server first from now on: the one that answers leads nowhere.
    pub(crate) fn prefer_next(&self) {
        let next = |now: usize| now.checked_add(1)?.checked_rem(self.servers.len());
        // There is a server, so there is a next one.
        let _ = self.preferred.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Submits encoded transactions in order until each has its final answer: what a busy ledger did not take is
    /// sent again byte for byte, with everything after it (C1).
    pub async fn submit_until_final(
        &self,
        transactions: &[Bytes],
    ) -> Result<Vec<SubmitAnswer>, ClientError> {
        let mut answers: Vec<SubmitAnswer> = Vec::with_capacity(transactions.len());
        let mut repeats = 0_u32;
        while let Some(rest) = transactions.get(answers.len()..).filter(|rest| !rest.is_empty()) {
            let mut body = Vec::new();
            for transaction in rest {
                quipu_net::put_frame(&mut body, transaction);
            }
            let (before, rest_count) = (answers.len(), rest.len());
            match self.submit_frames(body.into()).await {
                Ok(part) => {
                    let last_try = repeats >= REPEAT_COUNT_MAX;
                    let done = part
                        .into_iter()
                        .take(rest_count)
                        .take_while(|answer| last_try || !answer.is_worth_repeating());
                    answers.extend(done);
                }
                Err(ClientError::Busy { .. }) if repeats < REPEAT_COUNT_MAX => {}
                Err(error) => return Err(error),
            }
            if answers.len() == before {
                repeats = repeats.saturating_add(1);
                if repeats > REPEAT_COUNT_MAX {
                    return Err(ClientError::Busy { tried: "gave no final answer".into() });
                }
                tokio::time::sleep(REPEAT_PAUSE).await;
            } else {
                repeats = 0;
            }
        }
        Ok(answers)
    }

    /// The proof bundle of a transaction or of one of its actions, as the server gives it: verify it.
    pub async fn prove(&self, tx: &Hash, action: Option<u32>) -> Result<String, ClientError> {
        let query = action.map_or(String::new(), |action| format!("?action={action}"));
        self.proof(tx, &query).await
    }

    /// As [`prove`](Self::prove), with a header that the lane's clock had mixed before, where there is one.
    pub async fn prove_time(&self, tx: &Hash, action: Option<u32>) -> Result<String, ClientError> {
        let action = action.map_or(String::new(), |action| format!("&action={action}"));
        self.proof(tx, &format!("?time=true{action}")).await
    }

    async fn proof(&self, tx: &Hash, query: &str) -> Result<String, ClientError> {
        let answer =
            self.send(Method::GET, &format!("/v1/transactions/{tx}/proof{query}"), None).await?;
        let server = answer.url().to_string();
        String::from_utf8(read(answer).await?)
            .map_err(|error| ClientError::Protocol { server, reason: error.to_string() })
    }

    /// Runs a query.
    pub async fn sql(&self, query: &str) -> Result<SqlAnswer, ClientError> {
        let body = serde_json::json!({ "query": query }).to_string();
        let body = Body { kind: "application/json", encoding: None, bytes: body.into() };
        let answer = self.send(Method::POST, "/v1/sql", Some(body)).await?;
        self.json(answer).await
    }

    /// A `GET` whose answer is JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let answer = self.send(Method::GET, path, None).await?;
        self.json(answer).await
    }

    /// A `GET` whose answer is bytes, at most `size_max` of them.
    ///
    /// # Errors
    /// When nobody answers, or refuses, or says more.
    pub async fn get_bytes(&self, path: &str, size_max: usize) -> Result<Vec<u8>, ClientError> {
        self.get_bytes_of(path, size_max).await.map(|(bytes, _)| bytes)
    }

    /// The same, with the address that answered.
    pub(crate) async fn get_bytes_of(
        &self,
        path: &str,
        size_max: usize,
    ) -> Result<(Vec<u8>, String), ClientError> {
        let mut answer = self.open(path).await?;
        let server = answer.url().to_string();
        let mut bytes = Vec::new();
        loop {
            let piece = tokio::time::timeout(ANSWER_TIMEOUT, answer.chunk()).await;
            let lost =
                |reason: String| ClientError::Unreachable { tried: format!("{server}: {reason}") };
            let piece = piece.map_err(|_| lost("it went silent".to_owned()))?;
            let Some(piece) = piece.map_err(|error| lost(root_cause(&error)))? else {
                return Ok((bytes, server));
            };
            if bytes.len().saturating_add(piece.len()) > size_max {
                let reason = format!("it sends more than {size_max} bytes");
                return Err(ClientError::Protocol { server, reason });
            }
            bytes.extend_from_slice(&piece);
        }
    }

    /// The same, with the address that answered.
    pub(crate) async fn get_of<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<(T, String), ClientError> {
        let answer = self.send(Method::GET, path, None).await?;
        let server = answer.url().origin().ascii_serialization();
        Ok((self.json(answer).await?, server))
    }

    /// A `GET` whose body is read as it comes.
    pub(crate) async fn open(&self, path: &str) -> Result<Response, ClientError> {
        self.request(Method::GET, path, None, None).await
    }

    /// Opens a feed of lanes; `request` is a `FeedRequest`'s encoding.
    pub(crate) async fn open_feed(&self, request: Bytes) -> Result<Response, ClientError> {
        let kind = "application/octet-stream";
        let body = Some(Body { kind, encoding: None, bytes: request });
        self.request(Method::POST, "/v1/feed", body, None).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Body>,
    ) -> Result<Response, ClientError> {
        self.request(method, path, body, Some(ANSWER_TIMEOUT)).await
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Body>,
        timeout: Option<Duration>,
    ) -> Result<Response, ClientError> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut tried = Vec::new();
        let mut busy = false;
        for (index, server) in
            self.servers.iter().enumerate().cycle().skip(first).take(self.servers.len())
        {
            let mut request = self.http.request(method.clone(), format!("{server}{path}"));
            if let Some(timeout) = timeout {
                request = request.timeout(timeout);
            }
            if let Some(Body { kind, encoding, bytes }) = &body {
                request = request.header("content-type", *kind).body(bytes.clone());
                if let Some(encoding) = encoding {
                    request = request.header("content-encoding", *encoding);
                }
            }
            match request.send().await {
                Ok(answer) if answer.status() == StatusCode::SERVICE_UNAVAILABLE => {
                    busy = true;
                    tried.push(format!("{server}: {}", refusal(answer).await));
                }
                Ok(answer) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return if answer.status().is_success() {
                        Ok(answer)
                    } else {
                        Err(refusal(answer).await)
                    };
                }
                Err(error) => tried.push(format!("{server}: {}", root_cause(&error))),
            }
        }
        let tried = tried.join("; ");
        Err(if busy { ClientError::Busy { tried } } else { ClientError::Unreachable { tried } })
    }

    async fn json<T: DeserializeOwned>(&self, answer: Response) -> Result<T, ClientError> {
        let server = answer.url().to_string();
        serde_json::from_slice(&read(answer).await?)
            .map_err(|error| ClientError::Protocol { server, reason: error.to_string() })
    }
}

/// What is sent with a request.
struct Body {
    kind: &'static str,
    encoding: Option<&'static str>,
    bytes: Bytes,
}

/// Reads a body of at most [`RESPONSE_SIZE_MAX`] bytes (C3).
async fn read(mut answer: Response) -> Result<Vec<u8>, ClientError> {
    let server = answer.url().to_string();
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(part)) if body.len().saturating_add(part.len()) <= RESPONSE_SIZE_MAX => {
                body.extend_from_slice(&part);
            }
            Ok(Some(_)) => {
                let reason = format!("more than {RESPONSE_SIZE_MAX} bytes");
                return Err(ClientError::Protocol { server, reason });
            }
            Ok(None) => return Ok(body),
            Err(error) => {
                let tried = format!("{server}: {}", root_cause(&error));
                return Err(ClientError::Unreachable { tried });
            }
        }
    }
}

async fn refusal(answer: Response) -> ClientError {
    let server = answer.url().to_string();
    let status = answer.status();
    let body = match read(answer).await {
        Ok(body) => body,
        Err(error) => return error,
    };
    match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(body) => body.into(),
        Err(_) => ClientError::Protocol { server, reason: format!("status {status}") },
    }
}

/// The innermost reason: "connection refused" rather than "error sending request".
pub(crate) fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_scheme_is_refused_with_an_example() {
        let refused = Client::new("localhost:8080").unwrap_err().to_string();
        assert!(refused.contains("http://HOST:PORT"), "{refused}");
        assert!(Client::new("http://127.0.0.1:1,http://127.0.0.1:2/").is_ok());
        assert!(Client::new("").is_err());
    }

    /// Answers one request with `[]`; gives the request's first line.
    async fn first_line(ack: Ack) -> String {
        use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = Client::new(&url).unwrap().with_ack(ack);
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let (reader, mut writer) = socket.split();
            let mut lines = tokio::io::BufReader::new(reader).lines();
            let first = lines.next_line().await.unwrap().unwrap();
            while lines.next_line().await.unwrap().is_some_and(|line| !line.is_empty()) {}
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]";
            writer.write_all(answer).await.unwrap();
            first
        };
        let (first, answers) = tokio::join!(server, client.submit(&[]));
        assert_eq!(answers.unwrap().len(), 0);
        first
    }

    #[test]
    fn what_does_not_become_smaller_is_tried_ever_less_often() {
        let compression = Compression::default();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut noise = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        };
        let noise: Vec<u8> = (0..4_096).map(|_| noise()).collect();
        let zeros = vec![0; 4_096];
        assert!(compression.encode(&zeros).is_some() && compression.encode(&zeros).is_some());
        // A try, then 1, 2, 4 bodies without one.
        let tries = |body: &[u8], count: u32| {
            let paid = (0..count).filter(|_| compression.encode(body).is_some()).count();
            (paid, compression.left_out.load(Ordering::Relaxed))
        };
        assert_eq!(tries(&noise, 1), (0, 1));
        assert_eq!(tries(&noise, 2), (0, 2));
        assert_eq!(tries(&zeros, 3), (1, 0));
        assert_eq!(tries(&zeros[..100], 1), (0, 0));
    }

    #[test]
    fn only_what_leaves_the_machine_is_made_smaller_unless_said() {
        let compresses = |urls: &str| Client::new(urls).unwrap().compression.is_some();
        assert!(!compresses("http://127.0.0.1:1,http://localhost:2,http://[::1]:3"));
        assert!(compresses("http://127.0.0.1:1,http://ledger.example:2"));
        let near = Client::new("http://127.0.0.1:1").unwrap();
        assert!(near.with_compression(true).compression.is_some());
    }

    #[tokio::test]
    async fn whoever_needs_no_outcome_asks_for_the_order_alone() {
        assert_eq!(first_line(Ack::Executed).await, "POST /v1/transactions HTTP/1.1");
        assert_eq!(first_line(Ack::Final).await, "POST /v1/transactions?ack=final HTTP/1.1");
    }
}
