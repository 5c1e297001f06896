//! What agreement costs: worlds without faults in which every message takes the same time and every sync a millisecond.
//!
//! ```text
//!  quorum of acks of a tip is at the proposer ── 3 delays ──> the tip's height is committed at a validator
//!  CPU: `receive` and `step` of every validator, nothing of the world, no verdict remembered
//! ```
#![expect(clippy::arithmetic_side_effects, reason = "counts and times of a bounded run")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use quipu_types::{Ack, Header, Height, Lane, Tip, ValidatorIndex, ValidatorSet};

/// Tells time in nanoseconds, from any start: the one thing that a measurement takes from outside.
pub type Clock = Box<dyn FnMut() -> u64>;

/// What a measured world gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Validators.
    pub count: usize,
    /// Heights committed.
    pub height_count: u64,
    /// Virtual microseconds from one height to the next, on the mean.
    pub height_us: u64,
    /// Nanoseconds of CPU that one validator spends on a height.
    pub cpu_ns: u64,
    /// Messages of all validators together for a height.
    pub message_count: u64,
    /// Their bytes.
    pub message_size: u64,
    /// Microseconds from a tip's quorum of acks at the proposer to its commit, at the validator that is last: the median and
    /// the worst, of heights in which a lane moved.
    pub commit_us: (u64, u64),
    /// How many such heights there were.
    pub commit_count: usize,
}

/// Who acked a tip, and since when that is a quorum.
type Acked = (BTreeSet<ValidatorIndex>, Option<u64>);

/// Looks at a measured world.
pub(crate) struct Probe {
    clock: Clock,
    pub(crate) cpu_ns: u64,
    pub(crate) message_size: u64,
    /// What each validator heard of a tip.
    acked: BTreeMap<(usize, Lane, u64), Acked>,
    commits: BTreeMap<Height, u64>,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("cpu_ns", &self.cpu_ns).finish_non_exhaustive()
    }
}

impl Probe {
    pub(crate) fn new(clock: Clock) -> Self {
        let (acked, commits) = (BTreeMap::new(), BTreeMap::new());
        Self { clock, cpu_ns: 0, message_size: 0, acked, commits }
    }

    pub(crate) fn now_ns(&mut self) -> u64 {
        (self.clock)()
    }

    /// A validator takes what it does for its own time since `from_ns`.
    pub(crate) fn spent(&mut self, from_ns: u64) {
        self.cpu_ns += self.now_ns().saturating_sub(from_ns);
    }

    /// A validator hears an ack, or makes one.
    pub(crate) fn ack(&mut self, at: usize, ack: &Ack, set: &ValidatorSet, now_us: u64) {
        for tip in &ack.tips {
            let (voters, since_us) = self.acked.entry((at, tip.lane, tip.index)).or_default();
            voters.insert(ack.validator);
            let power = voters.iter().fold(0, |power, voter| power + set.power(*voter));
            if since_us.is_none() && set.is_quorum(power) {
                *since_us = Some(now_us);
            }
        }
    }

    /// A validator commits.
    pub(crate) fn commit(&mut self, header: &Header, moved: &[Tip], now_us: u64) {
        let at = usize::from(header.proposer.get());
        let since = |tip: &Tip| self.acked.get(&(at, tip.lane, tip.index))?.1;
        if let Some(since_us) = moved.iter().filter_map(since).max() {
            let took = self.commits.entry(header.height).or_default();
            *took = (*took).max(now_us - since_us);
        }
    }

    /// Median, worst, count.
    pub(crate) fn commit_us(&self) -> ((u64, u64), usize) {
        let mut all: Vec<u64> = self.commits.values().copied().collect();
        all.sort_unstable();
        let median = all.get(all.len() / 2).copied().unwrap_or(0);
        ((median, all.last().copied().unwrap_or(0)), all.len())
    }
}
