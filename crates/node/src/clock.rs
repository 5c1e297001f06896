//! The process's clocks: the only place that reads them for the ledger.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use quipu_replica::Now;

/// Microseconds since the process began, and since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Microseconds since the start; never goes back.
    pub(crate) fn mono_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Both clocks.
    pub(crate) fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_us = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX);
        Now { wall_us, mono_us: self.mono_us() }
    }
}
