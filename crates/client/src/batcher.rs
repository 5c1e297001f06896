//! A batching producer: events in one by one, a future of its position out for each; batches, retries and order between.
//!
//! ```text
//!  send(stream, event) ─ checked, waits for room ─> the lane's task: [ Queue ] ── requests, several at once ─> any validator
//!        <────────────── Appended, or why not ───────────────────────── answers, the same bytes again <──────────┘
//! ```
//! # Invariants
//! * B1 An event that was taken is appended once, or its future says why it is not; only [`AppendError::Undelivered`] and
//!   an end leave that open. Events of one route are appended in the order in which `send` took them.
//! * B2 Everything taken and unanswered has at most [`Limits::memory_size`] bytes; `send` waits for room. The
//!   bytes of requests under way come on top, `in_flight_count` of at most two MiB for each lane in use.
//! * B3 Each lane is written under an incarnation of its own, one above what the ledger knows. Whoever else writes with the
//!   key then ends this batcher ([`AppendError::Fenced`]), or is fenced by it: one key, one batcher.
//!
//! # What fails alone
//! An event that is no row of its stream, has too long a route or does not fit a transaction is refused by `send`, by the
//! stream's own schema: nothing of it is signed. What only the ledger knows (who may append) is learned
//! from the first batch of a stream, behind which nothing is sent; the refused events fail with their code, and the
//! others of their batch are signed again. When later events of the route stand already, those others fail too:
//! order is kept before all.

mod queue;
#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "sums of tests' own small numbers")]
mod served;
#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "sums of tests' own small numbers")]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quipu_crypto::suite::SecretKey;
use quipu_proof::names::{lane_of, signed_bytes};
use quipu_types::transaction::{ACTION_COUNT_MAX, ROUTE_SIZE_MAX, TRANSACTION_SIZE_MAX};
use quipu_types::{Action, Code, Hash, Lane, Position, Schema, Unsigned, code};
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::api::SubmitAnswer;
use crate::complaint::COMPLAINT_AFTER;
use crate::http::{Ack, Client, ClientError};
use crate::producer::{ENVELOPE_SIZE_MAX, NewEvent};
use queue::{Draft, Place, Queue, Request, Route, Unanswered, size_of};

/// How old an anchor may become before a newer one is fetched.
const ANCHOR_TIME_MAX: Duration = Duration::from_secs(5);
/// How long fetching it may hold a lane up.
const ANCHOR_WAIT_MAX: Duration = Duration::from_secs(1);
/// Pause before an incarnation is asked for again.
const CLAIM_PAUSE: Duration = Duration::from_millis(50);
/// Least memory: two transactions of the largest size.
const MEMORY_SIZE_MIN: usize = 2 * TRANSACTION_SIZE_MAX;
const MEMORY_SIZE_MAX: usize = 1 << 30;
/// Events that a lane takes before it looks at anything else.
const TAKE_COUNT_MAX: usize = 4_096;

/// How a batcher gathers and sends.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most events of a batch.
    pub batch_count: usize,
    /// Most bytes of a batch; a transaction's bound holds above it.
    pub batch_size: usize,
    /// How long an event waits for company.
    pub linger: Duration,
    /// Requests of one lane that are under way at once, each with one or many batches.
    pub in_flight_count: usize,
    /// Most bytes of events that have no answer yet, 2 MB to 1 GiB.
    pub memory_size: usize,
    /// How long a validator may take to answer before another is asked.
    pub answer_time_max: Duration,
    /// How long a request may go unanswered until the first of its transactions that is not ordered is complained of, and
    /// again after as long; never, if it is none.
    pub complaint_after: Option<Duration>,
    /// How long nothing of a lane may be answered before the batcher gives up.
    pub delivery_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_count: 1_000,
            batch_size: 512 << 10,
            linger: Duration::from_millis(2),
            in_flight_count: 4,
            memory_size: 32 << 20,
            answer_time_max: Duration::from_secs(10),
            complaint_after: Some(COMPLAINT_AFTER),
            delivery_time_max: Duration::from_secs(120),
        }
    }
}

/// Why an event is not appended, or may not be.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum AppendError {
    /// It is refused, and stands nowhere.
    #[error("{message}")]
    Refused {
        /// Stable code.
        code: Code,
        /// What happened.
        message: Arc<str>,
    },
    /// Another process writes with this key. What was not answered yet may be appended or not.
    #[error("another producer has begun to write with this key")]
    Fenced,
    /// Nobody gave a final answer in time: it may be appended or not.
    #[error("no validator gave a final answer in time: {reason}")]
    Undelivered {
        /// What was heard last.
        reason: Arc<str>,
    },
    /// The batcher was dropped, or its runtime has ended.
    #[error("the batcher was stopped before the answer came")]
    Stopped,
    /// The stream could not be looked up.
    #[error("{0}")]
    Client(#[from] Arc<ClientError>),
}

impl AppendError {
    fn refused(code: Code, message: impl Into<Arc<str>>) -> Self {
        Self::Refused { code, message: message.into() }
    }

    /// What is told of events that were in a batch with the refused one, and can not follow in order.
    fn beside(&self) -> Self {
        match self {
            Self::Refused { code, message } => Self::refused(
                *code,
                format!(
                    "another event of its batch was refused, and later ones are appended: {message}"
                ),
            ),
            other => other.clone(),
        }
    }

    /// The stable code of a refusal.
    #[must_use]
    pub const fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Fenced => Some(code::FENCED),
            Self::Undelivered { .. } => Some(code::UNREACHABLE),
            _ => None,
        }
    }
}

/// Where an event stands.
#[derive(Clone, Debug)]
pub struct Appended {
    answer: Arc<SubmitAnswer>,
    action: u32,
    event_count: u32,
}

impl Appended {
    /// The answer to its transaction, which other events may share.
    #[must_use]
    pub fn answer(&self) -> &SubmitAnswer {
        &self.answer
    }

    /// Its transaction's position.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.answer.position.as_deref()?.parse().ok()
    }

    /// Its 0-based index in the transaction.
    #[must_use]
    pub const fn action(&self) -> u32 {
        self.action
    }

    /// How many events its transaction has; 1 for one of the caller's own making.
    #[must_use]
    pub const fn event_count(&self) -> u32 {
        self.event_count
    }
}

/// The future of an event's position. Dropping it takes nothing back.
#[derive(Debug)]
pub struct Appending {
    answer: oneshot::Receiver<Result<Appended, AppendError>>,
    shared: Arc<Shared>,
}

impl Future for Appending {
    type Output = Result<Appended, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(context).map(|answer| match answer {
            Ok(result) => result,
            Err(_) => Err(self.shared.why()),
        })
    }
}

type Reply = oneshot::Sender<Result<Appended, AppendError>>;

enum Item {
    Event { route: Route, action: Action, reply: Reply },
    Whole { route: Route, actions: Vec<Action>, reply: Reply },
    Flush(oneshot::Sender<()>),
}

/// A stream as events are checked against it.
#[derive(Debug)]
struct Stream {
    schema: Schema,
    route_by: Option<usize>,
}

/// See the module's header.
#[derive(Debug)]
pub struct Batcher {
    shared: Arc<Shared>,
    streams: Mutex<BTreeMap<String, Arc<Stream>>>,
    lanes: Mutex<BTreeMap<Lane, mpsc::UnboundedSender<Item>>>,
}

#[derive(Debug)]
struct Shared {
    client: Arc<Client>,
    key: Arc<SecretKey>,
    ack: Ack,
    chain: Hash,
    lane_count: u16,
    limits: Limits,
    room: Semaphore,
    /// The newest header that is known, and when it was.
    anchor: Mutex<(Hash, Option<Instant>)>,
    ended: watch::Sender<Option<AppendError>>,
}

impl Batcher {
    /// A batcher of `key`. Must be called, and used, within a tokio runtime.
    pub async fn new(
        client: Arc<Client>,
        key: Arc<SecretKey>,
        limits: Limits,
    ) -> Result<Self, ClientError> {
        let (chain, lane_count) = client.signs_for().await?;
        let memory_size = limits.memory_size.clamp(MEMORY_SIZE_MIN, MEMORY_SIZE_MAX);
        let in_flight_count = limits.in_flight_count.max(1);
        // Who asks for no outcome still learns where an event stands.
        let ack = if client.ack() == Ack::Final { Ack::Final } else { Ack::Executed };
        let shared = Shared {
            client,
            key,
            ack,
            chain,
            lane_count,
            limits: Limits { memory_size, in_flight_count, ..limits },
            room: Semaphore::new(memory_size),
            anchor: Mutex::new((chain, None)),
            ended: watch::Sender::new(None),
        };
        let shared = Arc::new(shared);
        Ok(Self { shared, streams: Mutex::default(), lanes: Mutex::default() })
    }

    /// Takes an event, after waiting for room. Errors say that it was not taken.
    pub async fn send(&self, stream: &str, event: NewEvent) -> Result<Appending, AppendError> {
        let shape = self.stream(stream).await?;
        let route = shape.check(&event)?;
        let NewEvent { key, payload } = event;
        let action = Action::Append { stream: stream.to_owned(), key, payload };
        let size = size_of(&action);
        self.make_room(size).await?;
        let (reply, answer) = oneshot::channel();
        self.hand_over(Item::Event { route, action, reply }, size, answer)
    }

    /// Takes a transaction of several actions, which stands after everything of its route that was taken, whole or not at all.
    pub async fn submit(
        &self,
        route: Option<Vec<u8>>,
        actions: Vec<Action>,
    ) -> Result<Appending, AppendError> {
        let size = actions.iter().map(size_of).fold(0, usize::saturating_add);
        check_size(size, actions.len())?;
        self.make_room(size).await?;
        let (reply, answer) = oneshot::channel();
        self.hand_over(Item::Whole { route, actions, reply }, size, answer)
    }

    /// Sends everything that was taken, and waits until all of it has its answer, good or bad.
    pub async fn flush(&self) -> Result<(), AppendError> {
        let mut waits = Vec::new();
        for lane in lock(&self.lanes).values() {
            let (reply, answer) = oneshot::channel();
            if lane.send(Item::Flush(reply)).is_ok() {
                waits.push(answer);
            }
        }
        for wait in waits {
            // A lane that ended says why below.
            drop(wait.await);
        }
        self.shared.ended.borrow().clone().map_or(Ok(()), Err)
    }

    /// [`Batcher::flush`], and no more.
    pub async fn close(self) -> Result<(), AppendError> {
        self.flush().await
    }

    /// The stream's shape, asked for once.
    async fn stream(&self, name: &str) -> Result<Arc<Stream>, AppendError> {
        if let Some(stream) = lock(&self.streams).get(name) {
            return Ok(Arc::clone(stream));
        }
        let info = self.shared.client.stream(name).await.map_err(|error| match error {
            ClientError::Refused { code: told, message, .. } => {
                AppendError::refused(told.parse().unwrap_or(code::NO_STREAM), message)
            }
            other => Arc::new(other).into(),
        })?;
        let wrong = |error| AppendError::from(Arc::new(ClientError::Row(error)));
        let schema = Schema::parse(&info.schema).map_err(wrong)?;
        let route_by = info.route_by.as_deref().and_then(|column| schema.index_of(column));
        let stream = Arc::new(Stream { schema, route_by });
        lock(&self.streams).insert(name.to_owned(), Arc::clone(&stream));
        Ok(stream)
    }

    async fn make_room(&self, size: usize) -> Result<(), AppendError> {
        let permits = u32::try_from(size).unwrap_or(u32::MAX);
        match self.shared.room.acquire_many(permits).await {
            Ok(room) => {
                // The lane gives it back with the answer.
                room.forget();
                Ok(())
            }
            Err(_) => Err(self.shared.why()),
        }
    }

    fn hand_over(
        &self,
        item: Item,
        size: usize,
        answer: oneshot::Receiver<Result<Appended, AppendError>>,
    ) -> Result<Appending, AppendError> {
        let route = match &item {
            Item::Event { route, .. } | Item::Whole { route, .. } => route.as_deref(),
            Item::Flush(_) => None,
        };
        let public = self.shared.key.public();
        let lane = lane_of(route.unwrap_or(public.bytes()), self.shared.lane_count);
        let mut lanes = lock(&self.lanes);
        let sender = lanes.entry(lane).or_insert_with(|| {
            let (sender, inbox) = mpsc::unbounded_channel();
            let route = route.map(<[u8]>::to_vec);
            tokio::spawn(LaneTask::new(Arc::clone(&self.shared), route, inbox).run());
            sender
        });
        if sender.send(item).is_err() {
            self.shared.room.add_permits(size);
            return Err(self.shared.why());
        }
        Ok(Appending { answer, shared: Arc::clone(&self.shared) })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check_size(size: usize, count: usize) -> Result<(), AppendError> {
    let size_max = TRANSACTION_SIZE_MAX.saturating_sub(ENVELOPE_SIZE_MAX);
    let framed = size.saturating_add(count.saturating_mul(4));
    if framed <= size_max && (1..=ACTION_COUNT_MAX).contains(&count) {
        return Ok(());
    }
    let message = format!(
        "{count} actions of {size} bytes are no transaction: it has 1 to {ACTION_COUNT_MAX}, and \
         at most {size_max} bytes"
    );
    Err(AppendError::refused(code::TOO_LARGE, message))
}

impl Stream {
    /// The route of an event that the ledger will not refuse for itself.
    fn check(&self, event: &NewEvent) -> Result<Route, AppendError> {
        let bad = |error: quipu_types::row::RowError| {
            AppendError::refused(code::BAD_ROW, error.to_string())
        };
        let longest = event.key.len();
        let route = match self.route_by {
            Some(column) => Some(self.schema.route_bytes(&event.payload, column).map_err(bad)?),
            None => {
                self.schema.check_row(&event.payload).map_err(bad)?;
                None
            }
        };
        let longest = longest.max(route.as_ref().map_or(0, Vec::len));
        if longest > ROUTE_SIZE_MAX {
            let message =
                format!("a route or key of {longest} bytes; the most is {ROUTE_SIZE_MAX}");
            return Err(AppendError::refused(code::TOO_LARGE, message));
        }
        let size = event.key.len().saturating_add(event.payload.len()).saturating_add(256);
        check_size(size, 1)?;
        Ok(route)
    }
}

impl Shared {
    fn why(&self) -> AppendError {
        self.ended.borrow().clone().unwrap_or(AppendError::Stopped)
    }

    /// Ends the batcher: the first reason stays.
    fn end(&self, error: &AppendError) {
        self.ended.send_if_modified(|ended| {
            let is_first = ended.is_none();
            ended.get_or_insert_with(|| error.clone());
            is_first
        });
        self.room.close();
    }

    fn sign(&self, place: Place, anchor: Hash, draft: &Draft<Reply>) -> Bytes {
        let unsigned = Unsigned {
            signer: self.key.public(),
            incarnation: place.incarnation,
            sequence: place.sequence,
            anchor,
            route: draft.route.as_deref(),
            actions: &draft.actions,
        };
        signed_bytes(&self.key, &self.chain, &unsigned).into()
    }

    /// An anchor that is new enough; the last known one when nobody says a newer. By a header that does not verify nothing
    /// is signed: the batcher ends, and names the server.
    async fn anchor(&self, is_refused: bool) -> Result<Hash, AppendError> {
        let (known, at) = *lock(&self.anchor);
        if !is_refused && at.is_some_and(|at| at.elapsed() < ANCHOR_TIME_MAX) {
            return Ok(known);
        }
        let asked = tokio::time::timeout(ANCHOR_WAIT_MAX, self.client.anchor(known)).await;
        let newest = asked.unwrap_or(Ok(known)).map_err(Arc::new)?;
        *lock(&self.anchor) = (newest, Some(Instant::now()));
        Ok(newest)
    }
}

/// Drives one lane's queue.
struct LaneTask {
    shared: Arc<Shared>,
    /// Any route of the lane.
    route: Route,
    inbox: mpsc::UnboundedReceiver<Item>,
    is_closed: bool,
    queue: Queue<Reply>,
    requests: JoinSet<(Request, Result<Vec<SubmitAnswer>, Unanswered>)>,
    flushes: Vec<(u64, oneshot::Sender<()>)>,
    ended: watch::Receiver<Option<AppendError>>,
}

impl LaneTask {
    fn new(shared: Arc<Shared>, route: Route, inbox: mpsc::UnboundedReceiver<Item>) -> Self {
        let queue = Queue::new(shared.limits, Instant::now());
        let (ended, requests) = (shared.ended.subscribe(), JoinSet::new());
        let (is_closed, flushes) = (false, Vec::new());
        Self { shared, route, inbox, is_closed, queue, requests, flushes, ended }
    }

    /// Works until everything has its answer and no more can come, or the batcher has ended.
    async fn run(mut self) {
        let mut ended = self.ended.clone();
        tokio::select! {
            _ = ended.wait_for(Option::is_some) => {}
            result = self.work() => if let Err(error) = result {
                self.shared.end(&error);
            }
        }
    }

    async fn work(&mut self) -> Result<(), AppendError> {
        loop {
            self.queue.seal_due(Instant::now());
            self.send_requests().await?;
            self.queue.check_time(Instant::now());
            self.tell();
            if let Some(error) = self.queue.ended() {
                return Err(error.clone());
            }
            if self.is_closed && self.queue.is_idle() {
                return Ok(());
            }
            let wake = self.queue.deadline().map(tokio::time::Instant::from_std);
            tokio::select! {
                Some(done) = self.requests.join_next() => {
                    let Ok((request, answers)) = done else { return Err(AppendError::Stopped) };
                    self.queue.answered(&request, answers, Instant::now());
                }
                item = self.inbox.recv(), if !self.is_closed => match item {
                    Some(item) => self.take(item),
                    None => {
                        self.is_closed = true;
                        self.queue.flush();
                    }
                },
                () = tokio::time::sleep_until(wake.unwrap_or_else(tokio::time::Instant::now)),
                    if wake.is_some() => {}
                // Nothing is to come, nothing to be done, and something left: a queue never says so.
                else => return Err(AppendError::Stopped),
            }
        }
    }

    /// Takes what came, and what stands behind it.
    fn take(&mut self, first: Item) {
        let now = Instant::now();
        let mut next = Some(first);
        let mut count = 0_usize;
        while let Some(item) = next {
            match item {
                Item::Event { route, action, reply } => self.queue.take(route, action, reply, now),
                Item::Whole { route, actions, reply } => {
                    self.queue.take_whole(route, actions, reply, now);
                }
                Item::Flush(reply) => {
                    let mark = self.queue.flush();
                    self.flushes.push((mark, reply));
                }
            }
            count = count.saturating_add(1);
            next = if count < TAKE_COUNT_MAX { self.inbox.try_recv().ok() } else { None };
        }
    }

    /// Gives out results, and room.
    fn tell(&mut self) {
        for (reply, result) in self.queue.take_done() {
            // Nobody may wait for it.
            drop(reply.send(result));
        }
        self.shared.room.add_permits(self.queue.take_freed());
        let (settled, waiting) =
            self.flushes.drain(..).partition(|(mark, _)| self.queue.is_settled(*mark));
        self.flushes = waiting;
        let settled: Vec<(u64, oneshot::Sender<()>)> = settled;
        for (_, reply) in settled {
            let _ = reply.send(());
        }
    }

    async fn send_requests(&mut self) -> Result<(), AppendError> {
        if self.queue.wants_place() {
            self.claim().await?;
        }
        let is_refused = self.queue.take_wants_anchor();
        let anchor = self.shared.anchor(is_refused).await?;
        let shared = Arc::clone(&self.shared);
        while let Some(request) = self
            .queue
            .next_request(Instant::now(), |place, draft| shared.sign(place, anchor, draft))
        {
            self.post(request);
        }
        Ok(())
    }

    /// Claims an incarnation that nobody has used in the lane (B3).
    async fn claim(&mut self) -> Result<(), AppendError> {
        let key = self.shared.key.public();
        let began = Instant::now();
        loop {
            match self.shared.client.producer(&key, self.route.as_deref()).await {
                Ok(info) => {
                    self.queue.claim(info.incarnation);
                    return Ok(());
                }
                Err(ClientError::Unreachable { .. } | ClientError::Busy { .. })
                    if began.elapsed() < self.shared.limits.delivery_time_max =>
                {
                    tokio::time::sleep(CLAIM_PAUSE).await;
                }
                Err(error) => {
                    return Err(AppendError::Undelivered { reason: error.to_string().into() });
                }
            }
        }
    }

    fn post(&mut self, request: Request) {
        let shared = Arc::clone(&self.shared);
        self.requests.spawn(async move {
            let (ack, time_max) = (shared.ack, shared.limits.answer_time_max);
            let post = shared.client.post(ack, request.body.clone(), time_max);
            let after = shared.limits.complaint_after;
            let frames = frames(&request.body);
            let answers = shared.client.submit_or_complain(&shared.key, frames, after, post).await;
            let leads_nowhere = match &answers {
                Ok(answers) => answers.iter().any(SubmitAnswer::is_worth_repeating),
                Err(_) => true,
            };
            if leads_nowhere {
                shared.client.prefer_next();
            }
            (request, answers.map_err(unanswered))
        });
    }
}

/// The transactions of a body.
fn frames(body: &Bytes) -> Vec<Bytes> {
    let frames = quipu_net::split(body, TRANSACTION_SIZE_MAX, usize::MAX).unwrap_or_default();
    frames.into_iter().map(|frame| body.slice_ref(frame)).collect()
}

fn unanswered(error: ClientError) -> Unanswered {
    match error {
        ClientError::Refused { code: told, .. } if told == code::TOO_LARGE.to_string() => {
            Unanswered::TooLarge
        }
        other => Unanswered::Lost(other.to_string()),
    }
}
