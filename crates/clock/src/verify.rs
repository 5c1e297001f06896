//! Checks a chunk's clock entries: their shape here, their values as [`stretch`](crate::stretch)es.

use quipu_accel::Accel;
use quipu_types::chunk::{CLOCK_ENTRY_COUNT_MAX, TICKS_PER_ENTRY_MAX};
use quipu_types::{ClockEntry, Hash, Mix};
use thiserror::Error;

use crate::mix_digest;
use crate::stretch::{self, Part, Stretch, WrongStretch};

/// Why entries are no clock. `entry` is the 0-based index of the first wrong one.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClockError {
    /// More entries than a chunk may have.
    #[error("{count} clock entries, the most is {CLOCK_ENTRY_COUNT_MAX}")]
    TooManyEntries {
        /// How many there are.
        count: usize,
    },
    /// An entry without ticks that mixes nothing.
    #[error("clock entry {entry} does nothing")]
    Idle {
        /// Which.
        entry: usize,
    },
    /// More ticks than one entry may have.
    #[error("clock entry {entry} has {count} ticks, the most is {TICKS_PER_ENTRY_MAX}")]
    TooManyTicks {
        /// Which.
        entry: usize,
        /// Its ticks.
        count: u64,
    },
    /// The stated value is not what ticks and mixing give.
    #[error("clock entry {entry} states a wrong value")]
    WrongValue {
        /// Which.
        entry: usize,
    },
}

impl ClockError {
    /// The first wrong entry; `None` when there are too many.
    #[must_use]
    pub const fn entry(&self) -> Option<usize> {
        match self {
            Self::TooManyEntries { .. } => None,
            Self::Idle { entry }
            | Self::TooManyTicks { entry, .. }
            | Self::WrongValue { entry } => Some(*entry),
        }
    }
}

/// Checks `entries` from `start` on, on this machine's best backend; gives the last value.
///
/// # Errors
/// The first entry that is wrong.
pub fn verify(start: Hash, entries: &[ClockEntry], lane_root: &Hash) -> Result<Hash, ClockError> {
    verify_by(0, entries, lane_root, |stretches| stretch::verify(start, stretches))
}

/// As [`verify`], one entry after another: the twin of the other ways.
///
/// # Errors
/// As [`verify`].
pub fn verify_serial(
    start: Hash,
    entries: &[ClockEntry],
    lane_root: &Hash,
) -> Result<Hash, ClockError> {
    verify_by(0, entries, lane_root, |stretches| stretch::verify_serial(start, stretches))
}

/// As [`verify`], with all entries side by side on `accel`.
///
/// # Errors
/// As [`verify`].
pub fn verify_wide(
    accel: &dyn Accel,
    start: Hash,
    entries: &[ClockEntry],
    lane_root: &Hash,
) -> Result<Hash, ClockError> {
    verify_by(0, entries, lane_root, |stretches| stretch::verify_wide(accel, start, stretches))
}

/// As [`verify`], in parts that `run` checks, as [`stretch::verify_parallel`] says.
///
/// # Errors
/// As [`verify`].
///
/// # Panics
/// When `run` does not give one verdict a part.
pub fn verify_parallel(
    start: Hash,
    entries: &[ClockEntry],
    lane_root: &Hash,
    part_count: usize,
    run: impl FnOnce(&[Part<'_>]) -> Vec<Result<(), WrongStretch>>,
) -> Result<Hash, ClockError> {
    verify_by(0, entries, lane_root, |stretches| {
        stretch::verify_parallel(start, stretches, part_count, run)
    })
}

/// Checks all entries but the first, which states where they start.
pub(crate) fn verify_rest(entries: &[ClockEntry], lane_root: &Hash) -> Result<(), ClockError> {
    check_size(entries)?;
    let Some((first, rest)) = entries.split_first() else { return Ok(()) };
    verify_by(1, rest, lane_root, |stretches| stretch::verify(first.value, stretches)).map(drop)
}

/// The stretches that `entries` are, up to the first of a bad shape.
///
/// # Errors
/// As [`verify`], but no value is checked.
pub fn stretches(entries: &[ClockEntry], lane_root: &Hash) -> Result<Vec<Stretch>, ClockError> {
    let (stretches, shape) = shaped(0, entries, lane_root);
    check_size(entries).and(shape).map(|()| stretches)
}

/// Maps `entries`, the first of which is number `first`, onto stretches that `check` judges. Entries behind one of a bad shape are
/// not hashed; the ones before it still go first.
fn verify_by(
    first: usize,
    entries: &[ClockEntry],
    lane_root: &Hash,
    check: impl FnOnce(&[Stretch]) -> Result<Hash, WrongStretch>,
) -> Result<Hash, ClockError> {
    check_size(entries)?;
    let (stretches, shape) = shaped(first, entries, lane_root);
    let value = check(&stretches).map_err(|WrongStretch { index }| ClockError::WrongValue {
        entry: first.saturating_add(index),
    })?;
    shape.map(|()| value)
}

fn shaped(
    first: usize,
    entries: &[ClockEntry],
    lane_root: &Hash,
) -> (Vec<Stretch>, Result<(), ClockError>) {
    let mut stretches = Vec::with_capacity(entries.len());
    for (offset, entry) in entries.iter().enumerate() {
        let shape = check_entry(first.saturating_add(offset), entry);
        if shape.is_err() {
            return (stretches, shape);
        }
        let mixed = mix_digest(&entry.mix, lane_root);
        stretches.push(Stretch { count: entry.count, mixed, value: entry.value });
    }
    (stretches, Ok(()))
}

fn check_size(entries: &[ClockEntry]) -> Result<(), ClockError> {
    if entries.len() > CLOCK_ENTRY_COUNT_MAX {
        return Err(ClockError::TooManyEntries { count: entries.len() });
    }
    Ok(())
}

fn check_entry(index: usize, entry: &ClockEntry) -> Result<(), ClockError> {
    if entry.count == 0 && entry.mix == Mix::Nothing {
        return Err(ClockError::Idle { entry: index });
    }
    if entry.count > TICKS_PER_ENTRY_MAX {
        return Err(ClockError::TooManyTicks { entry: index, count: entry.count });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "small numbers of tests")]

    use proptest::prelude::*;
    use quipu_types::{Height, Lane};

    use super::*;
    use crate::{Generator, tick_count};

    const ROOT: Hash = Hash([9; 32]);

    /// What a sequencer does: ticks, then something to mix.
    fn steps() -> impl Strategy<Value = Vec<(u64, Mix)>> {
        let hash = any::<[u8; 32]>().prop_map(Hash);
        let mix = prop_oneof![
            Just(Mix::Nothing),
            Just(Mix::Batch),
            (0..64_u16, any::<u64>(), hash.clone()).prop_map(|(lane, index, hash)| {
                Mix::LaneTip { lane: Lane::new(lane), index, hash }
            }),
            (any::<u64>(), hash.clone())
                .prop_map(|(height, hash)| Mix::Header { height: Height::new(height), hash }),
            hash.prop_map(Mix::Votes),
        ];
        let ticks = prop_oneof![0..40_u64, Just(TICKS_PER_ENTRY_MAX), 8_000..20_000_u64];
        prop::collection::vec((ticks, mix), 0..12)
    }

    fn run(start: Hash, steps: &[(u64, Mix)]) -> (Vec<ClockEntry>, Hash) {
        let mut clock = Generator::new(start);
        for (ticks, mix) in steps {
            assert_eq!(clock.tick(*ticks), *ticks);
            clock.mix(mix.clone(), &ROOT);
        }
        let entries = clock.take();
        assert!(clock.is_empty());
        (entries, clock.value())
    }

    /// Every way to verify, which must agree (K2).
    fn verify_all(start: Hash, entries: &[ClockEntry], root: &Hash) -> Result<Hash, ClockError> {
        let accel = quipu_accel::default();
        let verdict = verify_serial(start, entries, root);
        assert_eq!(verify(start, entries, root), verdict);
        assert_eq!(verify_wide(accel, start, entries, root), verdict);
        for part_count in [0, 1, 2, 3, 7, 100] {
            let parallel = verify_parallel(start, entries, root, part_count, |parts| {
                assert!(parts.len() <= part_count.max(1));
                // Backwards, as threads may finish; the verdicts stand in the parts' order.
                let mut verdicts: Vec<_> =
                    parts.iter().rev().map(|part| part.verify(accel)).collect();
                verdicts.reverse();
                verdicts
            });
            assert_eq!(parallel, verdict, "{part_count} parts");
        }
        verdict
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn what_a_generator_makes_is_taken_by_every_verifier(
            start in any::<[u8; 32]>().prop_map(Hash),
            steps in steps(),
        ) {
            let (entries, end) = run(start, &steps);
            prop_assert_eq!(verify_all(start, &entries, &ROOT), Ok(end));
            prop_assert_eq!(tick_count(&entries), steps.iter().map(|(ticks, _)| ticks).sum::<u64>());
            prop_assert!(entries.iter().all(|entry| entry.count <= TICKS_PER_ENTRY_MAX));
        }

        #[test]
        fn cutting_chunks_anywhere_gives_the_values_of_one_long_chain(
            steps in steps(),
            cut in 0..13_usize,
        ) {
            let start = Hash([1; 32]);
            let (head, tail) = steps.split_at(cut.min(steps.len()));
            let (first, middle) = run(start, head);
            let (second, end) = run(middle, tail);
            prop_assert_eq!(verify(start, &first, &ROOT), Ok(middle));
            prop_assert_eq!(verify(middle, &second, &ROOT), Ok(end));
            prop_assert_eq!(run(start, &steps).1, end);
        }

        #[test]
        fn a_change_of_any_entry_is_refused_where_it_is(
            steps in steps(),
            place in any::<prop::sample::Index>(),
            what in 0..7_u8,
            byte in 0..32_usize,
        ) {
            let start = Hash([1; 32]);
            let (mut entries, _) = run(start, &steps);
            prop_assume!(!entries.is_empty());
            let place = place.index(entries.len());
            let entry = &mut entries[place];
            match what {
                0 => entry.count += 1,
                1 => entry.count = entry.count.saturating_sub(1),
                2 => entry.value.0[byte] ^= 1,
                3 => entry.mix = Mix::Votes(Hash([3; 32])),
                4 => entry.mix = Mix::Nothing,
                5 => entry.mix = if entry.mix == Mix::Batch { Mix::Nothing } else { Mix::Batch },
                _ => {
                    if let Mix::LaneTip { hash, .. } | Mix::Header { hash, .. } | Mix::Votes(hash) =
                        &mut entry.mix
                    {
                        hash.0[byte] ^= 1;
                    }
                }
            }
            let changed = entries != run(start, &steps).0;
            let verdict = verify_all(start, &entries, &ROOT);
            if changed {
                prop_assert_eq!(verdict.map_err(|error| error.entry()), Err(Some(place)));
            } else {
                prop_assert!(verdict.is_ok());
            }
        }

        #[test]
        fn entries_left_out_put_in_or_swapped_are_refused(
            steps in steps(),
            place in any::<prop::sample::Index>(),
        ) {
            let start = Hash([1; 32]);
            let (entries, end) = run(start, &steps);
            prop_assume!(entries.len() >= 2);
            let place = place.index(entries.len() - 1);
            let mut without = entries.clone();
            without.remove(place);
            prop_assert!(verify_all(start, &without, &ROOT).is_err());
            let mut twice = entries.clone();
            twice.insert(place, entries[place].clone());
            prop_assert!(verify_all(start, &twice, &ROOT).is_err());
            let mut swapped = entries.clone();
            swapped.swap(place, place + 1);
            prop_assert!(verify_all(start, &swapped, &ROOT).is_err());
            // The last entry may be missing: then the clock ends earlier, and says so.
            prop_assert_ne!(verify(start, &entries[..entries.len() - 1], &ROOT), Ok(end));
        }
    }

    #[test]
    fn another_start_or_another_batch_is_refused_at_the_entry_it_reaches() {
        let start = Hash([1; 32]);
        let (entries, _) = run(start, &[(10, Mix::Votes(ROOT)), (10, Mix::Batch)]);
        let other = Hash([2; 32]);
        assert_eq!(verify_all(other, &entries, &ROOT), Err(ClockError::WrongValue { entry: 0 }));
        assert_eq!(verify_all(start, &entries, &other), Err(ClockError::WrongValue { entry: 1 }));
    }

    #[test]
    fn entries_that_do_nothing_or_too_much_are_refused_before_they_are_hashed() {
        let start = Hash([1; 32]);
        let idle = ClockEntry { count: 0, mix: Mix::Nothing, value: start };
        assert_eq!(
            verify_all(start, std::slice::from_ref(&idle), &ROOT),
            Err(ClockError::Idle { entry: 0 })
        );
        let endless = ClockEntry { count: u64::MAX, mix: Mix::Nothing, value: start };
        assert_eq!(
            verify_all(start, &[endless], &ROOT),
            Err(ClockError::TooManyTicks { entry: 0, count: u64::MAX })
        );
        let many = vec![idle; CLOCK_ENTRY_COUNT_MAX + 1];
        let error = ClockError::TooManyEntries { count: CLOCK_ENTRY_COUNT_MAX + 1 };
        assert_eq!(verify_all(start, &many, &ROOT), Err(error));
        assert_eq!(verify_all(start, &[], &ROOT), Ok(start));
    }

    #[test]
    fn ticks_stop_where_a_chunk_is_full_and_leave_room_to_mix() {
        let mut clock = Generator::new(Hash([1; 32]));
        // A long time asleep: far more ticks are due than a chunk may hold. Shape only, few hashes:
        // the room shrinks by what was done.
        let room = clock.tick_room();
        clock.tick(5);
        assert_eq!(clock.tick_room(), room - 5);
        for _ in 0..crate::MIX_COUNT_MAX {
            clock.mix(Mix::Batch, &ROOT);
        }
        let entries = clock.take();
        assert_eq!(entries.len(), crate::MIX_COUNT_MAX);
        assert_eq!(clock.tick_room(), room);
        let entry_count = CLOCK_ENTRY_COUNT_MAX - crate::MIX_COUNT_MAX;
        assert_eq!(room, u64::try_from(entry_count).unwrap() * TICKS_PER_ENTRY_MAX);
        // Mixing nothing on a mixed value adds no entry (K4).
        clock.mix(Mix::Nothing, &ROOT);
        assert!(clock.take().is_empty());
    }
}
