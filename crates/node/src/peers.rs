//! Between the links and the ledger's thread: bytes of other validators in, checked; effects of the replica out.
//!
//! ```text
//!  LinkEvent::Frame ─┬─ small: votes, requests ── receive ─────────────────────────> Message::Peer ─> ledger's thread
//!                    └─ chunks, stripes, forwards ─> queue of the peer ─ worker: receive ──^
//!  Effect::Restore ──> queue of the sequencer ── worker: restore ──────────────────> Message::Restored
//!  Up, Down ──────────────────────────────────────────────────────────────────────> Message::Linked
//! ```
//! * Votes do not wait behind the signatures of a chunk. Chunks of one peer keep their order.
//! * A peer's queue holds [`QUEUE_COUNT_MAX`] messages of [`QUEUE_SIZE_MAX`] bytes together; while it is full nothing more is
//!   read from that peer. What the replica wants restored is bounded by what it gathers. What waits is checked together: each hand-over to a worker costs a thread's turn.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use quipu_consensus::Message as Vote;
use quipu_crypto::SecretKey;
use quipu_net::Offence;
use quipu_replica::peer::STRIPE_TAG;
use quipu_replica::{Class, Gathered, ReceiveError, Received, receive, restore};
use quipu_types::agreement::VALIDATOR_COUNT_MAX;
use quipu_types::{Height, ValidatorIndex, ValidatorSet};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::driver::Message;
use crate::error::NodeError;
use crate::executor::state_failed;
use crate::links::{LinkEvent, Links, LinksConfig, PeerState};
use crate::members::{addresses, members};
use crate::shared::Shared;

/// Chunks and forwards of one peer that wait to be checked.
const QUEUE_COUNT_MAX: usize = 256;
/// Their bytes, in units of [`UNIT_SIZE`]: two of the largest messages.
const QUEUE_UNIT_COUNT: usize = QUEUE_SIZE_MAX / UNIT_SIZE;
/// Their bytes.
const QUEUE_SIZE_MAX: usize = 8 << 20;
/// What bytes are counted in.
const UNIT_SIZE: usize = 1_024;
/// A message whose first byte says that it holds transactions: a chunk, a forward, a part of a chunk.
const BULKY_TAGS: [u8; 3] = [2, 3, STRIPE_TAG];

/// The way to what makes chunks of one sequencer's stripes.
type Restorer = mpsc::UnboundedSender<Arc<Gathered>>;

/// What is known of the other validators.
#[derive(Debug)]
pub(crate) struct Peers {
    links: RwLock<Option<Links>>,
    /// Where others listen, as the configuration says it.
    configured: OnceLock<BTreeMap<String, String>>,
    /// By sequencer: where stripes go that are enough for a body.
    restorers: OnceLock<Vec<Restorer>>,
    heights: Vec<AtomicU64>,
    seen_us: Vec<AtomicU64>,
}

impl Peers {
    pub(crate) fn new() -> Self {
        let zeros = || (0..VALIDATOR_COUNT_MAX).map(|_| AtomicU64::new(0)).collect();
        let (links, configured, restorers) = (RwLock::new(None), OnceLock::new(), OnceLock::new());
        Self { links, configured, restorers, heights: zeros(), seen_us: zeros() }
    }

    /// Begins to listen and to dial.
    pub(crate) fn start(
        shared: &Arc<Shared>,
        listener: std::net::TcpListener,
        configured: BTreeMap<String, String>,
        key: SecretKey,
    ) -> Result<(), NodeError> {
        let _ = shared.peers.configured.set(configured);
        let (set, addresses) = shared.peers.known(shared)?;
        let config = LinksConfig {
            chain: shared.chain,
            set,
            own: shared.index.expect("only a validator has links, and it has an index"),
            key: Arc::new(key),
            listener,
            addresses,
            limits: crate::links::LinkLimits::default(),
        };
        let indices = (0_u16..).map(ValidatorIndex::new).take(VALIDATOR_COUNT_MAX);
        let workers: Vec<Worker> =
            indices.map(|peer| spawn_worker(Arc::clone(shared), peer)).collect();
        // Before the first chunk: it takes some milliseconds.
        tokio::task::spawn_blocking(quipu_net::stripes::prepare);
        let restorers = workers.iter().map(|_| spawn_restorer(shared)).collect();
        let _ = shared.peers.restorers.set(restorers);
        let (owner, workers) = (Arc::clone(shared), Arc::new(workers));
        let links = Links::start(config, shared.metrics.links(), move |event| {
            let (shared, workers) = (Arc::clone(&owner), Arc::clone(&workers));
            async move { take(&shared, &workers, event).await }
        })?;
        *shared.peers.links.write().unwrap_or_else(PoisonError::into_inner) = Some(links);
        Ok(())
    }

    /// Who may be linked, and where they listen.
    fn known(&self, shared: &Shared) -> Result<(ValidatorSet, Vec<Option<String>>), NodeError> {
        let none = BTreeMap::new();
        let members = members(&*shared.machine()?).map_err(state_failed)?;
        let addresses = addresses(&members, self.configured.get().unwrap_or(&none));
        Ok((shared.context().set.clone(), addresses))
    }

    /// Lets the validators of the epoch in force be linked.
    pub(crate) fn admit(&self, shared: &Shared) -> Result<(), NodeError> {
        let (set, addresses) = self.known(shared)?;
        self.with_links(|links| links.admit(set, addresses));
        Ok(())
    }

    /// Closes every link.
    pub(crate) async fn stop(&self) {
        let links = self.links.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(links) = links {
            links.stop().await;
        }
    }

    fn with_links(&self, act: impl FnOnce(&Links)) {
        if let Some(links) = &*self.links.read().unwrap_or_else(PoisonError::into_inner) {
            act(links);
        }
    }

    pub(crate) fn send(&self, to: ValidatorIndex, class: Class, bytes: Arc<[u8]>) {
        // One that is dropped is counted by the links; the protocol says it again.
        self.with_links(|links| _ = links.send(to, class, bytes));
    }

    pub(crate) fn broadcast(&self, class: Class, bytes: Arc<[u8]>) {
        self.with_links(|links| links.broadcast(class, bytes));
    }

    /// Lets a worker make a chunk of stripes.
    pub(crate) fn restore(&self, gathered: Arc<Gathered>) {
        let place = usize::from(gathered.sequencer().get());
        if let Some(restorer) = self.restorers.get().and_then(|all| all.get(place)) {
            // Its other end lives as long as the process serves.
            drop(restorer.send(gathered));
        }
    }

    pub(crate) fn blame(&self, from: ValidatorIndex, offence: Offence) {
        self.with_links(|links| links.blame(from, offence));
    }

    /// How the links are; nothing for a lone validator.
    pub(crate) fn states(&self) -> Vec<PeerState> {
        let mut states = Vec::new();
        self.with_links(|links| states = links.peers());
        states
    }

    /// The height that a validator last spoke of, and when it last spoke, if it did.
    pub(crate) fn heard(&self, validator: ValidatorIndex) -> Option<(Height, u64)> {
        let place = usize::from(validator.get());
        let seen_us = self.seen_us.get(place)?.load(Ordering::Relaxed);
        let height = self.heights.get(place)?.load(Ordering::Relaxed);
        (seen_us > 0).then(|| (Height::new(height), seen_us))
    }

    fn hear(&self, validator: ValidatorIndex, height: Option<Height>, now_us: u64) {
        let place = usize::from(validator.get());
        if let (Some(known), Some(height)) = (self.heights.get(place), height) {
            known.fetch_max(height.get(), Ordering::Relaxed);
        }
        if let Some(seen) = self.seen_us.get(place) {
            seen.store(now_us.max(1), Ordering::Relaxed);
        }
    }
}

async fn take(shared: &Arc<Shared>, workers: &[Worker], event: LinkEvent) {
    match event {
        LinkEvent::Up(peer) => deliver(shared, Message::Linked(peer)).await,
        LinkEvent::Down(peer) => tracing::info!(validator = %peer, "the link is down"),
        LinkEvent::Frame { from, bytes } => {
            let is_bulky = bytes.first().is_some_and(|tag| BULKY_TAGS.contains(tag));
            if is_bulky {
                if let Some(worker) = workers.get(usize::from(from.get())) {
                    worker.give(bytes).await;
                }
            } else {
                let received = receive(&shared.context(), &shared.admissions, &bytes);
                hand_over(shared, from, received).await;
            }
        }
    }
}

/// The way to what checks a peer's large messages.
struct Worker {
    queue: mpsc::Sender<(Vec<u8>, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

impl Worker {
    /// Waits until there is room in the peer's queue.
    async fn give(&self, bytes: Vec<u8>) {
        let units = bytes.len().div_ceil(UNIT_SIZE).clamp(1, QUEUE_UNIT_COUNT);
        let units = u32::try_from(units).expect("a queue has fewer units than 32 bits count");
        let Ok(permit) = Arc::clone(&self.room).acquire_many_owned(units).await else { return };
        // Its other end lives as long as the process serves.
        drop(self.queue.send((bytes, permit)).await);
    }
}

/// Checks what is large, in a peer's order, off the runtime's threads: all that waits together.
fn spawn_worker(shared: Arc<Shared>, from: ValidatorIndex) -> Worker {
    let (sender, mut queue) = mpsc::channel(QUEUE_COUNT_MAX);
    tokio::spawn(async move {
        let mut batch = Vec::new();
        while queue.recv_many(&mut batch, QUEUE_COUNT_MAX).await > 0 {
            let (context, checker) = (shared.context(), Arc::clone(&shared));
            let messages = std::mem::take(&mut batch);
            let checked = tokio::task::spawn_blocking(move || {
                let each = messages.into_iter();
                each.map(|(bytes, room): (Vec<u8>, OwnedSemaphorePermit)| {
                    let received = receive(&context, &checker.admissions, &bytes);
                    drop(room);
                    received
                })
                .collect::<Vec<_>>()
            });
            let Ok(checked) = checked.await else { return };
            for received in checked {
                hand_over(&shared, from, received).await;
            }
        }
    });
    Worker { queue: sender, room: Arc::new(Semaphore::new(QUEUE_UNIT_COUNT)) }
}

/// Makes chunks of one sequencer's stripes, in the order in which they are enough, off the runtime's threads.
fn spawn_restorer(shared: &Arc<Shared>) -> Restorer {
    let (sender, mut queue) = mpsc::unbounded_channel::<Arc<Gathered>>();
    let shared = Arc::downgrade(shared);
    tokio::spawn(async move {
        while let Some(gathered) = queue.recv().await {
            let Some(shared) = shared.upgrade() else { return };
            let (context, checker) = (shared.context(), Arc::clone(&shared));
            let restored = tokio::task::spawn_blocking(move || {
                restore(&context, &checker.admissions, &gathered)
            });
            let Ok(restored) = restored.await else { return };
            deliver(&shared, Message::Restored(Box::new(restored))).await;
        }
    });
    sender
}

async fn hand_over(
    shared: &Arc<Shared>,
    from: ValidatorIndex,
    received: Result<Received, ReceiveError>,
) {
    match received {
        Ok(received) => {
            let is_stripe = matches!(received, Received::Stripe(_));
            shared.metrics.stripes.received.increment(u64::from(is_stripe));
            let now_us = shared.clock.mono_us();
            shared.peers.hear(from, height_of(&received), now_us);
            if let Some(height) = state_signed(&received, from) {
                shared.state_votes.voted(from, height, now_us);
            }
            deliver(shared, Message::Peer { from, received: Box::new(received) }).await;
        }
        Err(refused) => {
            if shared.context().sets_change && !matches!(refused, ReceiveError::Malformed(_)) {
                // It may be of an epoch that is not known here yet.
                tracing::debug!(validator = %from, %refused, "a message was passed over");
                return;
            }
            let offence = match &refused {
                ReceiveError::Malformed(_) => Offence::Malformed,
                _ => Offence::BadSignature,
            };
            tracing::warn!(validator = %from, %refused, "a message was refused");
            shared.metrics.peer_refused.increment(1);
            let is_stripe = matches!(refused, ReceiveError::Stripe { .. });
            shared.metrics.stripes.refused.increment(u64::from(is_stripe));
            shared.peers.blame(from, offence);
        }
    }
}

/// Hands a message to the ledger's thread; waits, off the runtime's threads, while its queue is full.
async fn deliver(shared: &Arc<Shared>, message: Message) {
    if let Some(message) = shared.try_send(message) {
        let shared = Arc::clone(shared);
        // Without the ledger's thread there is nobody to tell.
        drop(tokio::task::spawn_blocking(move || shared.send_patiently(message)).await);
    }
}

/// The height whose state the sender signs in a message.
fn state_signed(received: &Received, from: ValidatorIndex) -> Option<Height> {
    let Received::Agreement(Vote::StateVote(vote)) = received else { return None };
    (vote.validator == from).then_some(vote.state.height)
}

/// The height that a message's author is at.
fn height_of(received: &Received) -> Option<Height> {
    let Received::Agreement(message) = received else { return None };
    match message {
        Vote::StateVote(vote) => Some(vote.state.height),
        other => other.height(),
    }
}
