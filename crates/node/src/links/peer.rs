//! What is known of one peer: its outbox, its incoming connection, its score, its numbers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use quipu_net::{Class, MESSAGE_SIZE_MAX, Offence, Outbox, Score, pack};
use quipu_types::ValidatorIndex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::error::LinkError;
use super::metrics::LinkMetrics;
use super::{HANDSHAKE_COUNT_MAX_BY_PEER, LinkLimits, PeerState};

/// A message that waits; packed when the first peer is ready for it, and shared by all.
pub(super) struct Packet {
    message: Arc<[u8]>,
    frame: OnceLock<Vec<u8>>,
}

impl Packet {
    pub(super) const fn new(message: Arc<[u8]>) -> Self {
        Self { message, frame: OnceLock::new() }
    }

    /// The frame, with its length.
    pub(super) fn frame(&self) -> &[u8] {
        self.frame.get_or_init(|| pack(&self.message))
    }
}

/// Our link to a peer.
struct Outgoing {
    is_up: bool,
    changed: Instant,
    outbox: Outbox<Arc<Packet>>,
}

/// One peer.
pub(super) struct Peer {
    pub(super) index: ValidatorIndex,
    address: Mutex<Option<String>>,
    outgoing: Mutex<Outgoing>,
    /// Something waits in the outbox.
    pub(super) wake: Notify,
    score: Mutex<Score>,
    /// What ends its connection to us.
    inbound: Mutex<Option<Arc<Notify>>>,
    /// Held while its connection is read (N5).
    pub(super) reading: tokio::sync::Mutex<()>,
    /// Connections between a believed hello and being read.
    pub(super) greeting: Semaphore,
    last_error: Mutex<Option<String>>,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    dropped: AtomicU64,
}

/// What is behind the lock: each section leaves it whole, so a panic elsewhere does not spoil it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Peer {
    pub(super) fn new(index: ValidatorIndex, limits: &LinkLimits, now: Instant) -> Self {
        let outbox = Outbox::new(limits.outbox);
        Self {
            index,
            address: Mutex::new(None),
            outgoing: Mutex::new(Outgoing { is_up: false, changed: now, outbox }),
            wake: Notify::new(),
            score: Mutex::new(Score::new()),
            inbound: Mutex::new(None),
            reading: tokio::sync::Mutex::new(()),
            greeting: Semaphore::new(HANDSHAKE_COUNT_MAX_BY_PEER),
            last_error: Mutex::new(None),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Where it is dialed.
    pub(super) fn address(&self) -> Option<String> {
        locked(&self.address).clone()
    }

    /// It is dialed there from the next try on; where it was, if that is not known.
    pub(super) fn move_to(&self, address: Option<String>) {
        let mut known = locked(&self.address);
        *known = address.or(known.take());
    }

    /// Lets a message wait, if our link is up (N2). Whether it does.
    pub(super) fn push(&self, class: Class, packet: Arc<Packet>, metrics: &LinkMetrics) -> bool {
        let size = packet.message.len();
        let (is_queued, dropped) = {
            let mut outgoing = locked(&self.outgoing);
            if outgoing.is_up && size <= MESSAGE_SIZE_MAX {
                let pushed = outgoing.outbox.push(class, size, packet);
                (pushed.is_queued, pushed.dropped_count)
            } else {
                (false, 1)
            }
        };
        if size > MESSAGE_SIZE_MAX {
            tracing::error!(size, "a message is too long for a link and was dropped");
        }
        if is_queued {
            self.wake.notify_one();
        }
        self.count_dropped(class, dropped, metrics);
        is_queued
    }

    fn count_dropped(&self, class: Class, count: u64, metrics: &LinkMetrics) {
        self.dropped.fetch_add(count, Ordering::Relaxed);
        metrics.drop_frames(class, count);
    }

    /// The next message to send.
    pub(super) fn pop(&self) -> Option<Arc<Packet>> {
        locked(&self.outgoing).outbox.pop().map(|(_, packet)| packet)
    }

    /// Our link came up: from now on messages wait.
    pub(super) fn up(&self, now: Instant) {
        let mut outgoing = locked(&self.outgoing);
        assert!(!outgoing.is_up, "one task dials a peer");
        outgoing.is_up = true;
        outgoing.changed = now;
        drop(outgoing);
        *locked(&self.last_error) = None;
    }

    /// Our link broke: what waits is dropped.
    pub(super) fn down(&self, now: Instant, metrics: &LinkMetrics) {
        let dropped = {
            let mut outgoing = locked(&self.outgoing);
            outgoing.is_up = false;
            outgoing.changed = now;
            outgoing.outbox.clear()
        };
        for (class, count) in dropped {
            self.count_dropped(class, count, metrics);
        }
    }

    /// Remembers why a link or a try ended. Whether that is news.
    pub(super) fn note(&self, error: &LinkError) -> bool {
        let text = error.text();
        let mut last = locked(&self.last_error);
        let is_news = last.as_ref() != Some(&text);
        *last = Some(text);
        is_news
    }

    /// Makes room for a newer connection of this peer: the one before is told to end. What comes back ends this one.
    pub(super) fn replace_inbound(&self) -> Arc<Notify> {
        let end = Arc::new(Notify::new());
        if let Some(older) = locked(&self.inbound).replace(Arc::clone(&end)) {
            older.notify_one();
        }
        end
    }

    /// Ends its connection to us, if there is one.
    pub(super) fn close_inbound(&self) {
        if let Some(end) = locked(&self.inbound).take() {
            end.notify_one();
        }
    }

    /// The connection that `end` ends has ended.
    pub(super) fn forget_inbound(&self, end: &Arc<Notify>) {
        let mut inbound = locked(&self.inbound);
        if inbound.as_ref().is_some_and(|current| Arc::ptr_eq(current, end)) {
            *inbound = None;
        }
    }

    /// Counts an offence: `Some` says until when the peer is shut out.
    pub(super) fn blame(&self, now_us: u64, offence: Offence) -> Option<u64> {
        locked(&self.score).blame(now_us, offence)
    }

    /// Whether it is shut out.
    pub(super) fn is_banned(&self, now_us: u64) -> bool {
        locked(&self.score).banned_until(now_us).is_some()
    }

    /// For people.
    pub(super) fn state(&self, now_us: u64) -> PeerState {
        let (connected_out, since) = {
            let outgoing = locked(&self.outgoing);
            (outgoing.is_up, outgoing.changed.elapsed())
        };
        let (score, banned_until) = {
            let score = locked(&self.score);
            (score.points(now_us), score.banned_until(now_us))
        };
        PeerState {
            validator: self.index,
            address: self.address(),
            connected_out,
            connected_in: locked(&self.inbound).is_some(),
            since_us: u64::try_from(since.as_micros()).unwrap_or(u64::MAX),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            score,
            banned_us: banned_until.map_or(0, |until| until.saturating_sub(now_us)),
            last_error: locked(&self.last_error).clone(),
        }
    }
}
