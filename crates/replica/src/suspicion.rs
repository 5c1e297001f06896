//! When a validator suspects a lane's sequencer (consensus takes its suspicions into precommits; a third of them ends the
//! term).
//!
//! * A transaction that a client or another validator is kept waiting for is **watched**. While one is watched and no
//!   chunk of the lane comes for [`SILENCE_US`], or that one stands in no chunk for [`CENSORED_US`], the sequencer is
//!   suspected. Both double with each term that ended so, up to 32 times, and fall back when the lane is calm.
//! * A sequencer that signed two chunks of one place, or one that can not stand, is suspected at once.
//! * One that hands over is suspected as soon as a cut reaches its last chunk.
//! * One whose clock stands, or runs more than [`FAST_PERCENT`] of the declared rate, over [`WINDOW_US`] between committed
//!   headers. All see the same ticks there, but none has to: who is cut off a while and comes back may be suspected
//!   without fault, so that this is a reason to change the sequencer, and no proof against it.

use std::sync::Arc;

use quipu_types::Time;

use crate::admission::Admitted;

/// Silence of a lane after which an overdue transaction is told to everyone.
pub(crate) const OVERDUE_US: u64 = 250_000;
/// Time after which a transaction is told to everyone though its lane moves.
pub(crate) const PASSED_OVER_US: u64 = 1_000_000;
/// Silence of a lane, once an overdue transaction was told, after which its sequencer is suspected.
pub(crate) const SILENCE_US: u64 = 350_000;
/// Time after which one watched transaction alone is enough.
pub(crate) const CENSORED_US: u64 = 5_000_000;
/// Time of headers over which a clock is judged.
pub(crate) const WINDOW_US: u64 = 120_000_000;
/// Most of it that one header ends: while agreement stood, and before the first votes on the time, a clock had nowhere to show.
const GAP_US: u64 = WINDOW_US / 16;
/// Ticks of a clock that is too fast, for each hundred that were declared.
const FAST_PERCENT: u64 = 125;
/// Doublings at most.
const LEVEL_MAX: u32 = 5;
/// Chunks that a lane commits in a term until its timers have fallen back.
const CALM_COUNT: u64 = 16;

#[derive(Clone, Debug)]
struct Watch {
    admitted: Arc<Admitted>,
    since_us: u64,
}

/// What committed headers show of a clock.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// Times of the first header, and of the last.
    ends: Option<(Time, Time)>,
    /// The time between them, without what was longer than [`GAP_US`].
    shown_us: u64,
    ticks: u64,
}

impl Window {
    /// A header is committed, and covers `ticks`. At the window's end: whether the clock is far off its rate.
    fn committed(&mut self, time: Time, ticks: u64, rate_hz: u64) -> Option<bool> {
        let Some((since, last)) = self.ends else {
            self.ends = Some((time, time));
            return None;
        };
        self.ends = Some((since, time));
        self.ticks = self.ticks.saturating_add(ticks);
        let gap_us = time.get().saturating_sub(last.get());
        self.shown_us = self.shown_us.saturating_add(gap_us.min(GAP_US));
        if self.shown_us < WINDOW_US {
            return None;
        }
        let declared = |us: u64| u128::from(quipu_clock::ticks_due(us, rate_hz));
        let all = declared(time.get().saturating_sub(since.get()));
        let is_fast = u128::from(self.ticks).saturating_mul(100)
            > all.saturating_mul(u128::from(FAST_PERCENT));
        let stands = self.ticks == 0 && declared(self.shown_us) > 0;
        *self = Self { ends: Some((time, time)), ..Self::default() };
        Some(is_fast || stands)
    }
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
    window: Window,
    /// Whether the clock stood, or was far too fast, in the last whole window.
    is_off_rate: bool,
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
        self.is_guilty || self.is_off_rate || gave_up || late
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

    /// A header of `time` is committed, and covers `ticks` of the lane's clock first.
    pub(crate) fn ticked(&mut self, time: Time, ticks: u64, rate_hz: u64) {
        if let Some(is_off) = self.window.committed(time, ticks, rate_hz) {
            self.is_off_rate = is_off;
        }
    }

    /// The next term begins. More patience would not have saved one that was given up, or that had gone well before.
    pub(crate) fn begin(&mut self, now_us: u64) {
        let was_short = !self.is_calm && !self.is_guilty && self.last_index.is_none();
        let level = self.level.saturating_add(u32::from(was_short)).min(LEVEL_MAX);
        *self = Self { level, moved_us: now_us, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE_HZ: u64 = 10_000;

    fn at(second: u64) -> Time {
        Time::new(second.saturating_mul(1_000_000))
    }

    /// Three minutes of headers a second apart, each covering so many ticks: whether it ends in suspicion.
    fn is_suspected(ticks: impl Fn(u64) -> u64) -> bool {
        let mut suspicion = Suspicion::default();
        for second in 0..180_u64 {
            suspicion.ticked(at(second), ticks(second), RATE_HZ);
        }
        suspicion.holds(0, 0)
    }

    #[test]
    fn a_clock_that_stands_or_runs_far_too_fast_is_suspected() {
        assert!(is_suspected(|_| 0));
        assert!(is_suspected(|_| RATE_HZ * 126 / 100));
        assert!(!is_suspected(|_| RATE_HZ * 125 / 100));
        assert!(!is_suspected(|_| 1), "one on a slow machine is only shown");
        assert!(!is_suspected(|second| if second % 30 == 0 { 30 * RATE_HZ } else { 0 }));
    }

    #[test]
    fn a_clock_is_judged_where_it_could_show_and_anew_in_each_window() {
        let mut suspicion = Suspicion::default();
        // Agreement stood for an hour, and then caught up.
        suspicion.ticked(at(0), 0, RATE_HZ);
        for _ in 0..1_000 {
            suspicion.ticked(at(3_600), 0, RATE_HZ);
        }
        assert!(!suspicion.holds(0, 0));
        for second in 3_601..=3_713 {
            suspicion.ticked(at(second), 0, RATE_HZ);
        }
        assert!(suspicion.holds(0, 0));
        for second in 3_714..=3_834 {
            suspicion.ticked(at(second), RATE_HZ, RATE_HZ);
        }
        assert!(!suspicion.holds(0, 0), "it runs again");
        suspicion.begin(0);
        assert!(!suspicion.holds(0, 0));
    }
}
