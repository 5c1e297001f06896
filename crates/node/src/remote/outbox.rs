//! What a gateway has signed, on its way to the ledger: posted to one validator after the other until this process itself
//! has executed the block that holds it.
//!
//! ```text
//!  Message::Submit ─> [ courier ] ─> waiting, in order ─> [ post ] ─ POST ?wait=none ─> a validator
//!                         ^              │                    └ no answer, or not executed in time: all of it to the next
//!  Message::Executed ─────┘              └─ receipt found: Final · its sequence is used by another: Used
//! ```
//! # Invariants
//! * O1 A transaction is answered by what was executed here, never by what a validator says of it.
//! * O2 Posts go out one at a time, transactions in the order in which they were signed: sequences arrive in order.
//! * O3 The same bytes go to every validator: whoever has them already drops the repeat, so nothing is applied twice.
//! * O4 What nobody waits for any more is not posted again. It may still be applied; its waiter was told so.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quipu_client::{ClientError, SubmitAnswer};
use quipu_replica::{Admitted, Answer, Producer};
use quipu_state::Sequence;
use quipu_types::{Hash, Receipt, SignedState, code};
use tokio::sync::{Notify, oneshot};

use super::sources::{Next, Sources};
use crate::driver::{Message, Reply, Submission, When};
use crate::error::NodeError;
use crate::executor::state_failed;
use crate::shared::Shared;

/// Time after which a transaction that was taken and is not executed goes to the next validator.
const AGAIN_US: u64 = 2_000_000;
/// Longest time that a post waits for its answer.
const POST_TIME_MAX: Duration = Duration::from_secs(5);
/// Bytes after which a post is full.
const POST_SIZE: usize = 4 << 20;
/// Pause before what a busy validator did not take is posted again.
const PAUSE: Duration = Duration::from_millis(20);
/// Pause before it is looked again whether there is a validator.
const NOBODY_TIME: Duration = Duration::from_secs(1);
/// How often a validator may be busy before the next is asked.
const BUSY_COUNT_MAX: u32 = 50;

#[derive(Debug)]
struct Waiting {
    admitted: Arc<Admitted>,
    reply: oneshot::Sender<Reply>,
    /// When a validator took it.
    taken_us: Option<u64>,
}

/// What is on its way.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Queue>,
    /// There is something to post.
    fresh: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    all: BTreeMap<u64, Waiting>,
    next: u64,
}

/// What a post is to do.
enum Due {
    /// Post this: places and frames.
    Post { places: Vec<u64>, body: Bytes },
    /// The validator that took it is too slow: the next one.
    Overdue,
    /// Nothing for this long.
    Wait(Duration),
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, submissions: Vec<Submission>) {
        let mut queue = self.lock();
        for Submission { admitted, reply, when } in submissions {
            assert_eq!(when, When::Executed, "a gateway takes SQL alone, which waits for its rows");
            let place = queue.next;
            queue.next = place.saturating_add(1);
            queue.all.insert(place, Waiting { admitted, reply, taken_us: None });
        }
        drop(queue);
        self.fresh.notify_one();
    }

    /// Answers those that were executed.
    fn executed(
        &self,
        shared: &Shared,
        state: &SignedState,
        receipts: &[Receipt],
    ) -> Result<(), NodeError> {
        let mut queue = self.lock();
        if queue.all.is_empty() || receipts.is_empty() {
            return Ok(());
        }
        let record = shared.machine()?.state(state.height).map_err(state_failed)?;
        let Some(record) = record else { return Ok(()) };
        let places: BTreeMap<Hash, u64> =
            queue.all.iter().map(|(place, waiting)| (waiting.admitted.tx, *place)).collect();
        for receipt in receipts {
            let place = places.get(&receipt.tx);
            let Some(waiting) = place.and_then(|place| queue.all.remove(place)) else { continue };
            let answer = Answer::Final {
                receipt: *receipt,
                height: state.height,
                header: record.header_hash,
                time: record.time_us,
            };
            // Whoever asked may have gone away.
            drop(waiting.reply.send(Reply::Answer(answer)));
        }
        Ok(())
    }

    /// Answers those whose sequence another transaction has used, as the executed state says.
    fn overtaken(&self, shared: &Shared) -> Result<(), NodeError> {
        let mut queue = self.lock();
        if queue.all.is_empty() {
            return Ok(());
        }
        let machine = shared.machine()?;
        let mut used = Vec::new();
        for (place, Waiting { admitted, .. }) in &queue.all {
            let transaction = &admitted.transaction;
            let state =
                machine.sequence(admitted.lane, &transaction.signer).map_err(state_failed)?;
            let own = (transaction.incarnation, transaction.sequence);
            if own < (state.incarnation, state.next) {
                used.push((*place, state));
            }
        }
        drop(machine);
        for (place, Sequence { incarnation, next }) in used {
            let Some(waiting) = queue.all.remove(&place) else { continue };
            let answer = Answer::Used {
                tx: waiting.admitted.tx,
                lane: waiting.admitted.lane,
                next: Producer { incarnation, sequence: next },
                otherwise: code::SEQUENCE_USED,
            };
            drop(waiting.reply.send(Reply::Answer(answer)));
        }
        Ok(())
    }

    /// What is to be done now.
    fn due(&self, now_us: u64) -> Due {
        let mut queue = self.lock();
        queue.all.retain(|_, waiting| !waiting.reply.is_closed());
        let oldest = queue.all.values().filter_map(|waiting| waiting.taken_us).min();
        if oldest.is_some_and(|at| now_us >= at.saturating_add(AGAIN_US)) {
            return Due::Overdue;
        }
        let (mut places, mut body) = (Vec::new(), Vec::new());
        for (place, waiting) in &queue.all {
            if waiting.taken_us.is_none() {
                quipu_net::put_frame(&mut body, &waiting.admitted.bytes);
                places.push(*place);
            }
            if body.len() >= POST_SIZE {
                break;
            }
        }
        if !places.is_empty() {
            return Due::Post { places, body: body.into() };
        }
        let us = oldest.map_or(AGAIN_US, |at| at.saturating_add(AGAIN_US).saturating_sub(now_us));
        Due::Wait(Duration::from_micros(us))
    }

    /// Takes note of what a validator took. `false` when it is to be asked again, after a pause.
    fn took(&self, places: &[u64], answers: &[SubmitAnswer], now_us: u64) -> bool {
        let mut queue = self.lock();
        let mut took_all = true;
        for (index, place) in places.iter().enumerate() {
            // A sequence that was used: by this very transaction, or by another. The execution here will show which (O1).
            let took = answers.get(index).is_some_and(|answer| {
                let is_used = [code::SEQUENCE_USED, code::FENCED];
                answer.status != "invalid"
                    || answer.refusal().is_some_and(|code| is_used.contains(&code))
            });
            took_all &= took;
            if let Some(waiting) = queue.all.get_mut(place).filter(|_| took) {
                waiting.taken_us = Some(now_us);
            }
        }
        took_all
    }

    /// Everything is posted again.
    pub(crate) fn again(&self) {
        for waiting in self.lock().all.values_mut() {
            waiting.taken_us = None;
        }
        self.fresh.notify_one();
    }
}

/// The courier's thread: takes what is signed, answers what is executed, until it is told to stop.
pub(crate) fn carry(
    shared: &Shared,
    outbox: &Outbox,
    inbox: &Receiver<Message>,
) -> Result<(), NodeError> {
    while let Ok(message) = inbox.recv() {
        match message {
            Message::Submit(submissions) => outbox.put(submissions),
            Message::Executed { state, receipts } => {
                outbox.executed(shared, &state, &receipts)?;
            }
            Message::Failed(error) => return Err(error),
            Message::Stop => return Ok(()),
            // A gateway has no links, no votes, no coins and no HTTP for clients, who complain to validators; it syncs its log itself,
            // and makes no checkpoints.
            Message::Complain { .. }
            | Message::Peer { .. }
            | Message::Linked(_)
            | Message::Synced { .. }
            | Message::Restored(_)
            | Message::NextSet(_)
            | Message::Coin { .. }
            | Message::Prune(_) => continue,
        }
        outbox.overtaken(shared)?;
    }
    Ok(())
}

/// Posts what waits, until the process stops.
pub(crate) struct Poster {
    pub(crate) shared: Arc<Shared>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) sources: Arc<Sources>,
    /// Who takes it.
    pub(crate) place: usize,
    /// How often in a row that one was busy.
    pub(crate) busy_count: u32,
}

/// How a post went.
enum Posted {
    Taken,
    /// The same validator may take it a moment later.
    Busy,
    /// It goes to another one.
    Lost(String),
}

impl Poster {
    pub(crate) async fn run(mut self) {
        while !self.shared.stopping() {
            match self.outbox.due(self.shared.clock.mono_us()) {
                Due::Wait(time) => {
                    tokio::select! {
                        () = self.outbox.fresh.notified() => {}
                        () = tokio::time::sleep(time) => {}
                        () = self.shared.stopped() => return,
                    }
                }
                Due::Overdue => self.go_on(),
                Due::Post { places, body } => match self.sources.next(self.place) {
                    Next::Ask(place) => {
                        self.place = place;
                        let posted = self.post(&places, body).await;
                        self.judge(posted).await;
                    }
                    Next::Wait(time) => tokio::time::sleep(time.min(PAUSE)).await,
                    Next::Nobody => tokio::time::sleep(NOBODY_TIME).await,
                },
            }
        }
    }

    /// Everything goes to the next validator.
    fn go_on(&mut self) {
        self.outbox.again();
        self.busy_count = 0;
        let next = self.place.saturating_add(1);
        self.place = next.checked_rem(self.sources.count()).unwrap_or(0);
    }

    async fn post(&self, places: &[u64], body: Bytes) -> Posted {
        let Some(source) = self.sources.get(self.place) else { return Posted::Busy };
        let answer = source.client.submit_frames(body);
        match tokio::time::timeout(POST_TIME_MAX, answer).await {
            Ok(Ok(answers)) => {
                let now_us = self.shared.clock.mono_us();
                if self.outbox.took(places, &answers, now_us) {
                    Posted::Taken
                } else {
                    Posted::Busy
                }
            }
            Ok(Err(ClientError::Busy { .. })) => Posted::Busy,
            Ok(Err(error)) => Posted::Lost(error.to_string()),
            Err(_) => Posted::Lost("it did not answer in time".into()),
        }
    }

    async fn judge(&mut self, posted: Posted) {
        match posted {
            Posted::Taken => self.busy_count = 0,
            Posted::Busy if self.busy_count < BUSY_COUNT_MAX => {
                self.busy_count = self.busy_count.saturating_add(1);
                tokio::time::sleep(PAUSE).await;
            }
            Posted::Busy => self.go_on(),
            Posted::Lost(why) => {
                let url = self.sources.get(self.place).map_or("", |source| source.url.as_str());
                tracing::warn!(validator = url, why, "a validator took no transactions");
                self.sources.failed(self.place);
                self.go_on();
            }
        }
    }
}
