//! Links between validators: each message takes its own time, and some are lost, come twice or come much later.
//!
//! ```text
//!  send ── lost? ── delay, by message ──> arrival ── is the way open then? ──> replica
//!            └─ twice? one more
//! ```
//! A way (from, to) is closed by any number of partitions; it opens when the last of them heals.
#![expect(clippy::arithmetic_side_effects, reason = "times of a bounded run")]

use std::collections::BTreeMap;

use crate::shape::Shape;

/// Least time of a message on its way.
const DELAY_US_MIN: u64 = 100;
/// What a slow message takes at most.
const SLOW_US: u64 = 500_000;

/// A way from one validator to another.
pub(crate) type Way = (usize, usize);

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Network {
    delay_us: u64,
    loss_per_mille: u16,
    twice_per_mille: u16,
    slow_per_mille: u16,
    /// Every message takes just this.
    exact_us: Option<u64>,
    closed: BTreeMap<Way, u32>,
}

impl Network {
    pub(crate) fn new(shape: &Shape) -> Self {
        Self {
            delay_us: shape.delay_us,
            loss_per_mille: shape.loss_per_mille,
            twice_per_mille: shape.twice_per_mille,
            slow_per_mille: shape.slow_per_mille,
            exact_us: None,
            closed: BTreeMap::new(),
        }
    }

    /// From now on every message takes just this.
    pub(crate) fn make_exact(&mut self, delay_us: u64) {
        self.exact_us = Some(delay_us);
    }

    /// Faults end: everything arrives, once, soon.
    pub(crate) fn make_fair(&mut self) {
        self.closed.clear();
        (self.loss_per_mille, self.twice_per_mille, self.slow_per_mille) = (0, 0, 0);
    }

    pub(crate) fn is_open(&self, way: Way) -> bool {
        !self.closed.contains_key(&way)
    }

    pub(crate) fn close(&mut self, ways: &[Way]) {
        for way in ways {
            *self.closed.entry(*way).or_default() += 1;
        }
    }

    /// Opens ways that one partition closed; those that are open now.
    pub(crate) fn open(&mut self, ways: &[Way]) -> Vec<Way> {
        let mut opened = Vec::new();
        for way in ways {
            let Some(count) = self.closed.get_mut(way) else { continue };
            *count -= 1;
            if *count == 0 {
                self.closed.remove(way);
                opened.push(*way);
            }
        }
        opened
    }

    /// How long a message takes, once for each time that it arrives.
    pub(crate) fn delays(&self, random: &mut fastrand::Rng) -> [Option<u64>; 2] {
        if self.exact_us.is_some() {
            return [self.exact_us, None];
        }
        let chance = random.u16(..1_000);
        if chance < self.loss_per_mille {
            return [None, None];
        }
        let is_twice = random.u16(..1_000) < self.twice_per_mille;
        [Some(self.delay(random)), is_twice.then(|| self.delay(random))]
    }

    fn delay(&self, random: &mut fastrand::Rng) -> u64 {
        let most = if random.u16(..1_000) < self.slow_per_mille { SLOW_US } else { self.delay_us };
        DELAY_US_MIN + random.u64(..most)
    }
}
