//! The chunks that no committed cut covers yet, in memory, for who follows lanes tentatively. One copy for all.
//!
//! ```text
//!  ledger's thread ── push, cut, commit ──> lanes of Arc<Chunk> ──> feeds (`http::feed`)
//! ```
//! * L1 A lane's chunks have neighbouring indices; what a cut covers leaves, and is read from the log.
//! * L2 It holds what the replica holds: at most `HELD_SIZE_MAX` bytes of bodies.
//! * L3 Chunks that were held before a restart are not in it: who needs one waits for the cut.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quipu_replica::Chunk;
use quipu_types::{Lane, Seqno, Tip};
use tokio::sync::watch;

type Chunks = VecDeque<Arc<Chunk>>;

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Tail {
    lanes: Vec<Mutex<Chunks>>,
    /// Counts changes.
    moved: watch::Sender<u64>,
}

impl Tail {
    pub(crate) fn new(lane_count: u16) -> Self {
        let lanes = (0..lane_count).map(|_| Mutex::default()).collect();
        Self { lanes, moved: watch::Sender::new(0) }
    }

    /// Wakes whenever a lane moves.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    fn lane(&self, lane: Lane) -> Option<MutexGuard<'_, Chunks>> {
        let lane = self.lanes.get(usize::from(lane.get()))?;
        Some(lane.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, lane: Lane, change: impl FnOnce(&mut Chunks)) {
        if let Some(mut chunks) = self.lane(lane) {
            change(&mut chunks);
        }
        self.moved.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The lane has this chunk next.
    pub(crate) fn push(&self, chunk: &Arc<Chunk>) {
        let header = &chunk.stored.header;
        self.change(header.lane, |chunks| {
            let next = chunks.back().map(|last| last.stored.header.index.saturating_add(1));
            if next.is_some_and(|next| next != header.index) {
                chunks.clear();
            }
            chunks.push_back(Arc::clone(chunk));
        });
    }

    /// What follows a chunk is void.
    pub(crate) fn cut(&self, lane: Lane, index: u64) {
        self.change(lane, |chunks| chunks.retain(|chunk| chunk.stored.header.index <= index));
    }

    /// A cut covers the lanes up to these tips. What leaves.
    pub(crate) fn commit(&self, cut: &[Tip]) -> Vec<Arc<Chunk>> {
        let mut covered = Vec::new();
        for tip in cut {
            let Some(mut chunks) = self.lane(tip.lane) else { continue };
            while chunks.front().is_some_and(|chunk| chunk.stored.header.index <= tip.index) {
                covered.extend(chunks.pop_front());
            }
        }
        covered
    }

    /// The last transaction of a lane's chunks.
    pub(crate) fn end(&self, lane: Lane) -> Option<Seqno> {
        let chunks = self.lane(lane)?;
        let header = &chunks.back()?.stored.header;
        let before = header.first_seqno.get().saturating_sub(1);
        Some(Seqno::new(before.saturating_add(u64::from(header.count))))
    }

    /// A lane's chunks.
    pub(crate) fn chunks(&self, lane: Lane) -> Vec<Arc<Chunk>> {
        self.lane(lane).map(|chunks| chunks.iter().cloned().collect()).unwrap_or_default()
    }
}
