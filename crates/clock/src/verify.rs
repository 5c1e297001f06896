//! Checks clock entries: one after another, many at once, or in parts on several cores.

use quipu_accel::Accel;
use quipu_types::chunk::{CLOCK_ENTRY_COUNT_MAX, TICKS_PER_ENTRY_MAX};
use quipu_types::{ClockEntry, Hash, Mix};
use thiserror::Error;

use crate::{Chain, mix_digest};

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
    match entries {
        [] | [_] => verify_serial(start, entries, lane_root),
        _ => verify_wide(quipu_accel::default(), start, entries, lane_root),
    }
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
    check_shape(entries)?;
    let mut chain = Chain::new(start);
    for (index, entry) in entries.iter().enumerate() {
        check_entry(index, entry)?;
        chain.tick(entry.count);
        if let Some(digest) = mix_digest(&entry.mix, lane_root) {
            chain.mix(&digest);
        }
        if chain.value() != entry.value {
            return Err(ClockError::WrongValue { entry: index });
        }
    }
    Ok(chain.value())
}

/// As [`verify`], with all entries side by side on `accel`: each states its value, so each is checked
/// from the value that the one before states.
///
/// # Errors
/// As [`verify`].
pub fn verify_wide(
    accel: &dyn Accel,
    start: Hash,
    entries: &[ClockEntry],
    lane_root: &Hash,
) -> Result<Hash, ClockError> {
    check_shape(entries)?;
    verify_part(accel, 0, start, entries, lane_root)?;
    Ok(entries.last().map_or(start, |entry| entry.value))
}

/// A run of entries that is checked for itself.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    first: usize,
    start: Hash,
    entries: &'a [ClockEntry],
}

impl Part<'_> {
    /// Checks the part; errors name entries by their index in the whole.
    ///
    /// # Errors
    /// The first entry of the part that is wrong.
    pub fn verify(&self, accel: &dyn Accel, lane_root: &Hash) -> Result<(), ClockError> {
        verify_part(accel, self.first, self.start, self.entries, lane_root)
    }
}

/// Cuts `entries` into at most `part_count` parts of about equally many ticks, in order, for as many
/// cores. Together they say what [`verify`] says: the error of the first part that has one.
///
/// # Errors
/// When there are more entries than a chunk may have.
pub fn split<'a>(
    start: Hash,
    entries: &'a [ClockEntry],
    part_count: usize,
) -> Result<Vec<Part<'a>>, ClockError> {
    check_shape(entries)?;
    // A mixing costs about as much as a tick, and a part has an entry at least.
    let work = |entry: &ClockEntry| entry.count.min(TICKS_PER_ENTRY_MAX).saturating_add(1);
    let total = entries.iter().map(work).fold(0, u64::saturating_add);
    let parts = u64::try_from(part_count.max(1)).unwrap_or(u64::MAX);
    let target = total.div_ceil(parts).max(1);
    let mut out = Vec::new();
    let (mut rest, mut first, mut start) = (entries, 0_usize, start);
    while !rest.is_empty() {
        let mut sum = 0_u64;
        let size = rest
            .iter()
            .take_while(|entry| {
                let fits = sum < target;
                sum = sum.saturating_add(work(entry));
                fits
            })
            .count();
        let (part, after) = rest.split_at_checked(size).unwrap_or((rest, &[]));
        out.push(Part { first, start, entries: part });
        start = part.last().map_or(start, |entry| entry.value);
        first = first.saturating_add(part.len());
        rest = after;
    }
    Ok(out)
}

/// As [`verify`], with the parts of [`split`] given to `run`, which checks each on a core of its own
/// (or not) and gives the verdicts in the order of the parts.
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
    run: impl FnOnce(&[Part<'_>], &Hash) -> Vec<Result<(), ClockError>>,
) -> Result<Hash, ClockError> {
    let parts = split(start, entries, part_count)?;
    let verdicts = run(&parts, lane_root);
    assert_eq!(verdicts.len(), parts.len(), "one verdict a part");
    verdicts.into_iter().collect::<Result<(), _>>()?;
    Ok(entries.last().map_or(start, |entry| entry.value))
}

fn check_shape(entries: &[ClockEntry]) -> Result<(), ClockError> {
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

/// What is left to do for one entry of a part.
struct Work<'a> {
    index: usize,
    entry: &'a ClockEntry,
}

fn verify_part(
    accel: &dyn Accel,
    first: usize,
    start: Hash,
    entries: &[ClockEntry],
    lane_root: &Hash,
) -> Result<(), ClockError> {
    // Entries behind one of a bad shape are not hashed; the ones before it still go first.
    let mut shape = Ok(());
    let mut starts = Vec::with_capacity(entries.len());
    let mut value = start;
    for (offset, entry) in entries.iter().enumerate() {
        let index = first.saturating_add(offset);
        shape = check_entry(index, entry);
        if shape.is_err() {
            break;
        }
        starts.push((Work { index, entry }, value));
        value = entry.value;
    }
    // Shortest first: every chain from a place on has at least that entry's ticks still to do.
    starts.sort_by_key(|(work, _)| work.entry.count);
    let (works, mut values): (Vec<_>, Vec<_>) =
        starts.into_iter().map(|(work, value)| (work, value.0)).unzip();
    let mut done = 0_u64;
    for (place, work) in works.iter().enumerate() {
        let step = work.entry.count.saturating_sub(done);
        if let Some(open) = values.get_mut(place..)
            && step > 0
        {
            accel.sha256_chains(open, step);
        }
        done = work.entry.count;
    }
    let wrong = works
        .iter()
        .zip(values)
        .filter(|(work, value)| {
            let mut chain = Chain::new(Hash(*value));
            if let Some(digest) = mix_digest(&work.entry.mix, lane_root) {
                chain.mix(&digest);
            }
            chain.value() != work.entry.value
        })
        .map(|(work, _)| work.index)
        .min();
    match wrong {
        Some(entry) => Err(ClockError::WrongValue { entry }),
        None => shape,
    }
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
            let parallel = verify_parallel(start, entries, root, part_count, |parts, root| {
                assert!(parts.len() <= part_count.max(1));
                // Backwards, as threads may finish; the verdicts stand in the parts' order.
                let mut verdicts: Vec<_> =
                    parts.iter().rev().map(|part| part.verify(accel, root)).collect();
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
