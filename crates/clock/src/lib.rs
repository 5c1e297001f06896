//! The verifiable clock: a chain of SHA-256 that takes time to make and far less to check.
//!
//! Source: A. Yakovenko, "Solana: A new architecture for a high performance blockchain" (Proof of History).
//! The design's lanes.md, section 3, says what it is used for here; `docs/clock.md` what is proven, and which attacks fail.
//!
//! ```text
//!  seed = H("quipu/1 clock" ‖ text of genesis)           start of a term = H(branch ‖ last value)
//!
//!  start ─H─H─H─ ... ─H─┬─ H(h ‖ digest) ─┬─H─ ... ─H─┬─ H(h ‖ digest) ─┬─ ...
//!        count ticks    └ mix: what of    └ value     └                 └ value      one ClockEntry each
//! ```
//! # What is proven
//! * Order inside a lane: whatever is mixed was there before every value after it, exactly.
//! * Order across lanes: a tip that another lane mixes was there before, transitively.
//! * Time, as one half of a two-sided bracket: n ticks were not made in less than
//!   n ÷ `hash_rate_fastest` seconds ([`proven_micros`]). The other half are the signed times of
//!   headers. Nothing here says that the clock ran all the time, or at its declared rate.
//!
//! What a sequencer that idles can compute ahead is bounded too: from the last value on, until something is mixed that it did not
//! know. Whatever it has then was made in the time since the last mixed header, so it proves no more than that time.
//!
//! # Invariants
//! * K1 [`verify`] takes exactly what a [`Generator`] with the same start and mixes gives.
//! * K2 Every way to verify ([`verify`], [`verify_serial`], [`verify_wide`], [`verify_parallel`]) has one verdict, and names the
//!   same entry: the first that is wrong. All stand on [`stretch`], which has the same ways for chains that others published,
//!   with the same verdicts.
//! * K3 A tick hashes 32 bytes and a mixing 64, so neither can stand for the other; a mix's digest
//!   covers its kind, so no kind stands for another.
//! * K4 An entry does something: no ticks and nothing mixed is refused. So it is with an audit's leaves, not with stretches.
//! * K5 [`LaneClock`] says what a term's clock goes on from, and which chunk of a range is wrong first. [`check_alone`]
//!   and [`LaneClock::link`] take a chunk exactly when [`LaneClock::advance`] does.
//! * K6 An [`audit`] takes every true range. What a sample does not prove stands there.
//!
//! # Limits
//! `TICKS_PER_ENTRY_MAX` ticks an entry, `CLOCK_ENTRY_COUNT_MAX` entries a chunk, of which
//! [`MIX_COUNT_MAX`] are kept for mixing. Mixings are not counted as ticks, which errs to less time.
//! No wall clock: how many ticks are due is the caller's to say ([`ticks_due`] does the arithmetic).

pub mod audit;
mod generator;
mod lane;
pub mod stretch;
mod verify;

pub use generator::{Generator, MIX_COUNT_MAX, Run};
pub use lane::{LaneClock, LaneClockError, check_alone, verify_range};
pub use verify::{ClockError, stretches, verify, verify_parallel, verify_serial, verify_wide};

use quipu_accel::Accel;
use quipu_crypto::hash::sha256_concat;
use quipu_types::{ClockEntry, Encode, Hash, Mix};

/// The value before the first term of every lane: nobody knew it before the text was public.
#[must_use]
pub fn seed_value(text: &str) -> Hash {
    sha256_concat(&[b"quipu/1 clock", text.as_bytes()])
}

/// Where a term's clock starts: `branch` names the term, `last` is the last certified value before it
/// ([`seed_value`] in a lane's first term).
#[must_use]
pub fn start(branch: &Hash, last: &Hash) -> Hash {
    sha256_concat(&[branch.bytes(), last.bytes()])
}

/// What is hashed into the clock for `mix`; `None` for [`Mix::Nothing`], which hashes nothing.
/// `lane_root` is the chunk's, and counts for [`Mix::Batch`] only.
#[must_use]
pub fn mix_digest(mix: &Mix, lane_root: &Hash) -> Option<Hash> {
    match mix {
        Mix::Nothing => None,
        Mix::Batch => Some(sha256_concat(&[&mix.to_bytes(), lane_root.bytes()])),
        Mix::LaneTip { .. } | Mix::Header { .. } | Mix::Votes(_) => {
            Some(sha256_concat(&[&mix.to_bytes()]))
        }
    }
}

/// The chain itself: one value, forward only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    value: Hash,
}

impl Chain {
    /// A chain that stands at `value`.
    #[must_use]
    pub const fn new(value: Hash) -> Self {
        Self { value }
    }

    /// Where it stands.
    #[must_use]
    pub const fn value(&self) -> Hash {
        self.value
    }

    /// `count` ticks: `h ← H(h)`.
    pub fn tick(&mut self, count: u64) {
        self.tick_on(quipu_accel::default(), count);
    }

    fn tick_on(&mut self, accel: &dyn Accel, count: u64) {
        let mut values = [self.value.0];
        accel.sha256_chains(&mut values, count);
        let [value] = values;
        self.value = Hash(value);
    }

    /// Stamps `digest`: `h ← H(h ‖ digest)`.
    pub fn mix(&mut self, digest: &Hash) {
        self.value = sha256_concat(&[self.value.bytes(), digest.bytes()]);
    }
}

/// Ticks of all entries together.
#[must_use]
pub fn tick_count(entries: &[ClockEntry]) -> u64 {
    entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.count))
}

/// Microseconds that `ticks` ticks prove to have passed, when nobody hashes faster than
/// `hash_rate_fastest_hz`. A rate of 0 proves nothing.
#[must_use]
pub fn proven_micros(ticks: u64, hash_rate_fastest_hz: u64) -> u64 {
    per_million(ticks, hash_rate_fastest_hz)
}

/// Ticks due after `elapsed_us` at `rate_hz`. Ask with the time since the clock's start and subtract
/// what was done: rounding then never adds up.
#[must_use]
pub fn ticks_due(elapsed_us: u64, rate_hz: u64) -> u64 {
    let ticks = u128::from(elapsed_us).saturating_mul(u128::from(rate_hz)) / 1_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

fn per_million(count: u64, rate: u64) -> u64 {
    let micros = u128::from(count).saturating_mul(1_000_000).checked_div(u128::from(rate));
    u64::try_from(micros.unwrap_or(0)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use quipu_types::{Height, Lane};

    use super::*;

    #[test]
    fn ticks_prove_time_at_the_fastest_rate_and_are_due_at_the_declared_one() {
        assert_eq!(proven_micros(20_000_000, 20_000_000), 1_000_000);
        assert_eq!(proven_micros(1, 20_000_000), 0);
        assert_eq!(proven_micros(u64::MAX, 1), u64::MAX);
        assert_eq!(proven_micros(5, 0), 0);
        assert_eq!(ticks_due(1_500_000, 100_000), 150_000);
        assert_eq!(ticks_due(u64::MAX, u64::MAX), u64::MAX);
        assert_eq!(ticks_due(9, 100_000), 0);
    }

    #[test]
    fn no_kind_of_mix_stands_for_another_and_each_field_counts() {
        let [a, b] = [Hash([1; 32]), Hash([2; 32])];
        let tip = |lane, index, hash| Mix::LaneTip { lane: Lane::new(lane), index, hash };
        let header = |height, hash| Mix::Header { height: Height::new(height), hash };
        let mixes = [
            tip(0, 1, a),
            tip(1, 1, a),
            tip(0, 2, a),
            tip(0, 1, b),
            header(1, a),
            header(2, a),
            header(1, b),
            Mix::Votes(a),
            Mix::Votes(b),
        ];
        let mut digests: Vec<_> = mixes.iter().map(|mix| mix_digest(mix, &a)).collect();
        assert!(mixes.iter().all(|mix| mix_digest(mix, &a) == mix_digest(mix, &b)));
        digests.push(mix_digest(&Mix::Batch, &a));
        digests.push(mix_digest(&Mix::Batch, &b));
        digests.push(mix_digest(&Mix::Nothing, &a));
        let count = digests.len();
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), count);
        assert_eq!(mix_digest(&Mix::Nothing, &a), None);
    }

    #[test]
    fn a_term_starts_at_its_branch_and_the_value_before() {
        let [branch, last] = [Hash([1; 32]), seed_value("headline of the day")];
        assert_ne!(start(&branch, &last), start(&last, &branch));
        assert_ne!(seed_value("a"), seed_value("b"));
        // An empty text leaves the prefix alone.
        assert_eq!(seed_value(""), quipu_crypto::sha256(b"quipu/1 clock"));
    }
}
