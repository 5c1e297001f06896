//! How soon after a height is committed here each validator signs its state, as this validator sees it by its own clock.
//!
//! ```text
//!  ledger's thread ── committed(h) ──┐
//!  links ── voted(v, h) ─────────────┼─> delay of v at h: vote − commit, 0 if the vote was first ──> the last 1,024 of v ──> p99
//!  executor ── voted(own, h) ────────┘    (the own one when its execution is done)
//! ```
//! # Invariants
//! * D1 A validator's heights only rise: a vote that is told again, to who asks for it, counts once.
//! * D2 Of a height that was committed too long ago, or before this process began, nothing is known, so nothing counts.
//!
//! Delays on the way are part of it: what is seen of a far validator is its execution and the way here.

use std::sync::{Mutex, PoisonError};

use quipu_types::agreement::VALIDATOR_COUNT_MAX;
use quipu_types::{Height, ValidatorIndex};

/// Heights whose commit is remembered; delays of a validator that are.
const KEPT_COUNT: usize = 1_024;

/// See the module's header. Times are microseconds of one clock that never goes back.
#[derive(Debug)]
pub(crate) struct StateVotes {
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// By height modulo [`KEPT_COUNT`]: the height, and when it was committed.
    commits: Vec<Option<(Height, u64)>>,
    /// None before the first.
    newest: Option<Height>,
    /// By validator; empty until one voted.
    delays: Vec<Delays>,
}

#[derive(Clone, Debug, Default)]
struct Delays {
    /// The height of the newest vote.
    newest: Option<Height>,
    /// The last ones, in a ring.
    last_us: Vec<u64>,
    next: usize,
}

fn place(height: Height) -> usize {
    let count = u64::try_from(KEPT_COUNT).unwrap_or(u64::MAX);
    height.get().checked_rem(count).and_then(|place| usize::try_from(place).ok()).unwrap_or(0)
}

impl StateVotes {
    pub(crate) fn new() -> Self {
        let commits = vec![None; KEPT_COUNT];
        let delays = vec![Delays::default(); VALIDATOR_COUNT_MAX];
        Self { kept: Mutex::new(Kept { commits, newest: None, delays }) }
    }

    /// A height is committed here.
    pub(crate) fn committed(&self, height: Height, now_us: u64) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.newest = kept.newest.max(Some(height));
        if let Some(commit) = kept.commits.get_mut(place(height)) {
            *commit = Some((height, now_us));
        }
    }

    /// A validator signed the state of a height.
    pub(crate) fn voted(&self, validator: ValidatorIndex, height: Height, now_us: u64) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let committed_us = match (kept.newest, kept.commits.get(place(height)).copied().flatten()) {
            (Some(newest), _) if height > newest => now_us,
            (_, Some((of, at_us))) if of == height => at_us,
            _ => return,
        };
        let Some(delays) = kept.delays.get_mut(usize::from(validator.get())) else { return };
        if delays.newest.is_none_or(|newest| height > newest) {
            delays.newest = Some(height);
            delays.push(now_us.saturating_sub(committed_us));
        }
    }

    /// Microseconds within which 99 of 100 of a validator's last votes came; none when none did.
    pub(crate) fn p99_us(&self, validator: ValidatorIndex) -> Option<u64> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted = kept.delays.get(usize::from(validator.get()))?.last_us.clone();
        drop(kept);
        sorted.sort_unstable();
        let rank = sorted.len().saturating_mul(99).div_ceil(100);
        sorted.get(rank.checked_sub(1)?).copied()
    }
}

impl Delays {
    fn push(&mut self, delay_us: u64) {
        match self.last_us.get_mut(self.next) {
            Some(oldest) => *oldest = delay_us,
            None => self.last_us.push(delay_us),
        }
        self.next = self.next.saturating_add(1).checked_rem(KEPT_COUNT).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "small numbers of a test")]

    use proptest::prelude::*;

    use super::*;

    const SOMEBODY: ValidatorIndex = ValidatorIndex::new(3);

    fn height(number: usize) -> Height {
        Height::new(u64::try_from(number).unwrap())
    }

    proptest! {
        #[test]
        fn it_is_the_smallest_within_which_99_of_100_came(
            delays in prop::collection::vec(0_u64..1_000_000, 1..3_000),
        ) {
            let votes = StateVotes::new();
            for (number, delay_us) in (1..).zip(&delays) {
                votes.committed(height(number), 5);
                votes.voted(SOMEBODY, height(number), 5 + delay_us);
                // Told again, and by who is not one.
                votes.voted(SOMEBODY, height(number), 5_000_000);
                votes.voted(ValidatorIndex::new(u16::MAX), height(number), 5_000_000);
            }
            let last = &delays[delays.len().saturating_sub(KEPT_COUNT)..];
            let p99_us = votes.p99_us(SOMEBODY).unwrap();
            let within = |limit: u64| last.iter().filter(|delay| **delay <= limit).count();
            prop_assert!(within(p99_us) * 100 >= last.len() * 99);
            prop_assert!(p99_us == 0 || within(p99_us - 1) * 100 < last.len() * 99);
        }
    }

    #[test]
    fn what_is_not_known_counts_for_nothing() {
        let votes = StateVotes::new();
        votes.voted(SOMEBODY, height(4_000), 50);
        assert_eq!(votes.p99_us(SOMEBODY), None);
        votes.committed(height(5_000), 100);
        // Before this process began, and too long ago.
        votes.voted(SOMEBODY, height(4_999), 200);
        votes.voted(SOMEBODY, height(5_000 - KEPT_COUNT), 200);
        assert_eq!(votes.p99_us(SOMEBODY), None);
        // Who is ahead of this validator is not late.
        votes.voted(SOMEBODY, height(5_001), 200);
        assert_eq!(votes.p99_us(SOMEBODY), Some(0));
        // Its vote on a height below one it has voted on is an old one.
        votes.voted(SOMEBODY, height(5_000), 900);
        assert_eq!(votes.p99_us(SOMEBODY), Some(0));
    }
}
