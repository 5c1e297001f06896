//! The clocks' thread: ticks of the own lanes at the genesis' rate, beside the ledger's thread.
//!
//! ```text
//!  ledger's thread ── rebase: where the own lanes' clocks stand ──> slots <── a slice of ticks at a time ── quipu-clock
//!         ^────────── take: the ticks since (Input::Ticked) ─────────┘
//! ```
//! * G1 It runs where clocks are fast (from [`THREAD_RATE_HZ`] on). Slower ones cost the ledger's thread less than handing over.
//! * G2 A slot is held for one slice, some 20 microseconds, and given up at once when the ledger's thread wants it.
//! * G3 A clock that could not keep its rate for [`CATCH_UP_US`] stays behind: `quipu clock` and `/metrics` show the drift.
//! * G4 At its start the thread measures how many ticks its core makes, and says so if the own lanes want more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use core_affinity::{CoreId, get_core_ids, set_for_current};
use quipu_clock::{Chain, Run, proven_micros, ticks_due};
use quipu_types::{Hash, Lane};

use crate::clock::Clock;
use crate::error::NodeError;
use crate::metrics::Metrics;

/// Ticks a second of a lane from which on they are made on a thread of their own.
pub(crate) const THREAD_RATE_HZ: u64 = 100_000;
/// Ticks that are made while a slot is held.
const SLICE: u64 = 512;
/// Microseconds of ticks that are made up for.
const CATCH_UP_US: u64 = 100_000;
/// Rest when all clocks are on time.
const PAUSE: Duration = Duration::from_millis(1);
/// Ticks of the measurement at the start: some milliseconds.
const MEASURED_COUNT: u64 = 1 << 17;

/// One lane's clock.
#[derive(Debug)]
struct Slot {
    /// None where another validator makes the lane's chunks.
    run: Option<Run>,
    /// Up to when ticks are made.
    made_us: u64,
}

impl Slot {
    /// Makes a slice of what is due. Whether more is due.
    fn tick(&mut self, now_us: u64, rate_hz: u64) -> bool {
        let Some(run) = &mut self.run else { return false };
        self.made_us = self.made_us.max(now_us.saturating_sub(CATCH_UP_US));
        let due = ticks_due(now_us.saturating_sub(self.made_us), rate_hz);
        let made = run.tick(due.min(SLICE));
        // Time that gave no whole tick stays owed, so that rounding does not add up.
        self.made_us = self.made_us.saturating_add(proven_micros(made, rate_hz));
        made > 0 && made < due
    }
}

/// What both threads see.
#[derive(Debug)]
struct Slots {
    lanes: Vec<Mutex<Slot>>,
    is_wanted: AtomicBool,
    is_over: AtomicBool,
}

impl Slots {
    /// A slot, for the ledger's thread: before the other takes one again.
    fn want<T>(&self, lane: usize, deed: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        let slot = self.lanes.get(lane)?;
        self.is_wanted.store(true, Ordering::Release);
        let done = deed(&mut lock(slot));
        self.is_wanted.store(false, Ordering::Release);
        Some(done)
    }
}

/// The ledger's thread's end. The other thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Ticker {
    slots: Arc<Slots>,
    clock: Clock,
    /// By lane: where its clock stands, and the ticks since that were taken.
    known: Vec<Option<(Hash, u64)>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts the thread, on a core if one is named.
    ///
    /// # Errors
    /// When the system gives no thread, or has no such core for this process.
    pub(crate) fn start(
        lane_count: u16,
        own_count: u64,
        rate_hz: u64,
        core: Option<usize>,
        (clock, metrics): (Clock, &Metrics),
    ) -> Result<Self, NodeError> {
        let slot = || Mutex::new(Slot { run: None, made_us: 0 });
        let lanes = (0..lane_count).map(|_| slot()).collect();
        let (is_wanted, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
        let slots = Arc::new(Slots { lanes, is_wanted, is_over });
        let seen = Arc::clone(&slots);
        let (sender, begun) = std::sync::mpsc::channel();
        let work = move || {
            let pinned = core.map_or(Ok(()), pin);
            let measured_hz = measure();
            let is_pinned = pinned.is_ok();
            // Who starts it waits for this.
            drop(sender.send(pinned.map(|()| measured_hz)));
            if is_pinned {
                keep_ticking(&seen, clock, rate_hz);
            }
        };
        let thread = std::thread::Builder::new().name("quipu-clock".into()).spawn(work);
        let thread = thread.map_err(|error| NodeError::system("starting a thread", error))?;
        let begun =
            begun.recv().map_err(|error| NodeError::system("starting the clocks", error))?;
        let measured_hz =
            begun.map_err(|error| NodeError::system("pinning the clocks to clock.core", error))?;
        metrics.clock_capacity.set(crate::metrics::gauge_value(measured_hz));
        let wanted_hz = rate_hz.saturating_mul(own_count);
        tracing::info!(rate_hz, own_count, measured_hz, ?core, "the clocks have a thread");
        if wanted_hz > measured_hz {
            tracing::warn!(
                wanted_hz,
                measured_hz,
                "this core is too slow for its lanes' clocks: they will fall behind"
            );
        }
        let known = vec![None; usize::from(lane_count)];
        Ok(Self { slots, clock, known, thread: Some(thread) })
    }

    /// The ticks that were made since the last call.
    pub(crate) fn take(&mut self) -> Vec<(Lane, Run)> {
        let mut runs = Vec::new();
        for (lane, (place, known)) in (0..).map(Lane::new).zip(self.known.iter_mut().enumerate()) {
            let Some((_, taken)) = known else { continue };
            let fresh = |slot: &mut Slot| slot.run.clone().filter(|run| run.count() > *taken);
            if let Some(run) = self.slots.want(place, fresh).flatten() {
                *taken = run.count();
                runs.push((lane, run));
            }
        }
        runs
    }

    /// Says where the own lanes' clocks stand now: what was ticked since is lost where one was mixed meanwhile.
    pub(crate) fn rebase(&mut self, bases: impl Iterator<Item = (Lane, Hash)>) {
        let mut stands = vec![None; self.known.len()];
        for (lane, base) in bases {
            if let Some(place) = stands.get_mut(usize::from(lane.get())) {
                *place = Some(base);
            }
        }
        let now_us = self.clock.mono_us();
        for (place, (known, base)) in self.known.iter_mut().zip(stands).enumerate() {
            if known.map(|(base, _)| base) == base {
                continue;
            }
            let is_new = known.is_none();
            *known = base.map(|base| (base, 0));
            self.slots.want(place, |slot| {
                slot.run = base.map(Run::new);
                if is_new {
                    slot.made_us = now_us;
                }
            });
        }
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.slots.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            crate::node::join(thread, "clock");
        }
    }
}

fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the calling thread on a core, if the process may use that.
fn pin(id: usize) -> Result<(), String> {
    let all = get_core_ids().unwrap_or_default();
    match all.contains(&CoreId { id }) && set_for_current(CoreId { id }) {
        true => Ok(()),
        false => Err(format!(
            "this process has no core {id}; it has {:?}",
            all.iter().map(|core| core.id).collect::<Vec<_>>()
        )),
    }
}

/// Ticks a second of one chain on this core.
fn measure() -> u64 {
    let (mut chain, began) = (Chain::new(Hash::ZERO), Instant::now());
    chain.tick(MEASURED_COUNT);
    let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
    MEASURED_COUNT.saturating_mul(1_000_000).checked_div(micros).unwrap_or(0)
}

fn keep_ticking(slots: &Slots, clock: Clock, rate_hz: u64) {
    while !slots.is_over.load(Ordering::Acquire) {
        let mut is_behind = false;
        for slot in &slots.lanes {
            while slots.is_wanted.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            let now_us = clock.mono_us();
            is_behind |= lock(slot).tick(now_us, rate_hz);
        }
        if !is_behind {
            std::thread::park_timeout(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use quipu_clock::{Generator, verify};
    use quipu_types::Mix;

    use super::*;

    const RATE_HZ: u64 = 1_000_000;

    #[test]
    fn what_the_thread_makes_is_a_clock_through_mixes_and_terms() {
        let metrics = Metrics::new();
        let begin = (Clock::new(), &*metrics);
        let mut ticker = Ticker::start(2, 1, RATE_HZ, None, begin).unwrap();
        let (lane, root, start) = (Lane::new(1), Hash([5; 32]), Hash([7; 32]));
        let mut clock = Generator::new(start);
        let mut from = start;
        for turn in 0..20_u8 {
            ticker.rebase(std::iter::once((lane, clock.base())));
            let mut made = 0;
            while made < 100 {
                for (of, run) in ticker.take() {
                    assert_eq!(of, lane);
                    made += clock.take_run(run);
                }
            }
            if turn % 3 == 2 {
                clock.mix(Mix::Votes(Hash([turn; 32])), &root);
            }
            clock.mix(Mix::Batch, &root);
            let entries = clock.take();
            from = verify(from, &entries, &root).unwrap();
            assert!(quipu_clock::tick_count(&entries) >= made);
        }
        ticker.rebase(std::iter::empty());
        assert_eq!(ticker.take(), []);
    }

    #[test]
    fn a_clock_that_was_held_up_makes_up_for_little_and_never_runs_ahead() {
        let mut slot = Slot { run: Some(Run::new(Hash::ZERO)), made_us: 0 };
        let now_us = 10_000_000;
        while slot.tick(now_us, RATE_HZ) {}
        let count = |slot: &Slot| slot.run.as_ref().unwrap().count();
        assert_eq!(count(&slot), CATCH_UP_US * RATE_HZ / 1_000_000);
        assert!(!slot.tick(now_us, RATE_HZ));
        slot.tick(now_us + 7, RATE_HZ);
        assert_eq!(count(&slot), CATCH_UP_US * RATE_HZ / 1_000_000 + 7);
    }

    #[test]
    fn a_core_that_is_not_there_is_refused() {
        let metrics = Metrics::new();
        let begin = (Clock::new(), &*metrics);
        let refused = Ticker::start(1, 1, RATE_HZ, Some(1 << 20), begin).unwrap_err();
        assert!(refused.to_string().contains("clock.core"), "{refused}");
    }
}
