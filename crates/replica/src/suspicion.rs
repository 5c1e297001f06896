//! When a validator suspects a lane's sequencer (consensus takes its suspicions into precommits; a third of them ends the
//! term).
//!
//! * A transaction that a client or another validator is kept waiting for is **watched**. While one is watched and no
//!   chunk of the lane comes for [`SILENCE_US`], or that one stands in no chunk for [`CENSORED_US`], the sequencer is
//!   suspected. Both double with each term that ended so, up to 32 times, and fall back when the lane is calm.
//! * A sequencer that signed two chunks of one place, or one that can not stand, is suspected at once.
//! * One that hands over is suspected as soon as a cut reaches its last chunk.

use std::sync::Arc;

use crate::admission::Admitted;

/// Silence of a lane after which an overdue transaction is told to everyone.
pub(crate) const OVERDUE_US: u64 = 250_000;
/// Time after which a transaction is told to everyone though its lane moves.
pub(crate) const PASSED_OVER_US: u64 = 1_000_000;
/// Silence of a lane, once an overdue transaction was told, after which its sequencer is suspected.
pub(crate) const SILENCE_US: u64 = 350_000;
/// Time after which one watched transaction alone is enough.
pub(crate) const CENSORED_US: u64 = 5_000_000;
/// Doublings at most.
const LEVEL_MAX: u32 = 5;
/// Chunks that a lane commits in a term until its timers have fallen back.
const CALM_COUNT: u64 = 16;

#[derive(Clone, Debug)]
struct Watch {
    admitted: Arc<Admitted>,
    since_us: u64,
}

/// What is known of one lane's sequencer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suspicion {
    watch: Option<Watch>,
    /// When the last chunk came.
    moved_us: u64,
    level: u32,
    is_guilty: bool,
    /// The last chunk of a sequencer that gives up.
    last_index: Option<u64>,
    committed_count: u64,
    /// Whether the term went well for [`CALM_COUNT`] chunks.
    is_calm: bool,
}

impl Suspicion {
    /// A chunk of the lane came.
    pub(crate) fn moved(&mut self, now_us: u64) {
        self.moved_us = now_us;
    }

    /// When the last chunk came.
    pub(crate) fn moved_us(&self) -> u64 {
        self.moved_us
    }

    /// The time that a silence may last, times `base`.
    pub(crate) fn patience(&self, base: u64) -> u64 {
        base.saturating_mul(1 << self.level.min(LEVEL_MAX))
    }

    /// Watches for a transaction, unless another one is watched.
    pub(crate) fn watch(&mut self, admitted: &Arc<Admitted>, now_us: u64) {
        if self.watch.is_none() {
            self.watch = Some(Watch { admitted: Arc::clone(admitted), since_us: now_us });
        }
    }

    /// Forgets a watched transaction that `is_held` says is in a chunk.
    pub(crate) fn unwatch(&mut self, is_held: impl FnOnce(&Admitted) -> bool) {
        if self.watch.as_ref().is_some_and(|watch| is_held(&watch.admitted)) {
            self.watch = None;
        }
    }

    /// The sequencer broke a rule. `false` when that was known.
    pub(crate) fn convict(&mut self) -> bool {
        !std::mem::replace(&mut self.is_guilty, true)
    }

    /// The sequencer gives up after chunk `index`.
    pub(crate) fn give_up(&mut self, index: u64) {
        self.last_index = Some(index);
    }

    /// Whether the sequencer is suspected, when the lane is committed up to chunk `index`.
    pub(crate) fn holds(&self, now_us: u64, index: u64) -> bool {
        let gave_up = self.last_index.is_some_and(|last| index >= last);
        let late = self.watch.as_ref().is_some_and(|watch| {
            let waited = now_us.saturating_sub(watch.since_us);
            let silent = now_us.saturating_sub(self.moved_us.max(watch.since_us));
            silent >= self.patience(SILENCE_US) || waited >= self.patience(CENSORED_US)
        });
        self.is_guilty || gave_up || late
    }

    /// A cut moved the lane by that many chunks.
    pub(crate) fn committed(&mut self, count: u64) {
        self.committed_count = self.committed_count.saturating_add(count);
        if self.committed_count >= CALM_COUNT {
            self.committed_count = 0;
            self.is_calm = true;
            self.level = self.level.saturating_sub(1);
        }
    }

    /// The next term begins. More patience would not have saved one that was given up, or that had gone well before.
    pub(crate) fn begin(&mut self, now_us: u64) {
        let was_short = !self.is_calm && !self.is_guilty && self.last_index.is_none();
        let level = self.level.saturating_add(u32::from(was_short)).min(LEVEL_MAX);
        *self = Self { level, moved_us: now_us, ..Self::default() };
    }
}
