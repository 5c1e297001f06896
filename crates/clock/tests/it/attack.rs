//! Generators that cheat, and how far they come with the clock alone.

use proptest::prelude::*;
use quipu_clock::{Chain, ClockError, Generator, proven_micros, tick_count, ticks_due, verify};
use quipu_types::{ClockEntry, Hash, Height, Mix};

const START: Hash = Hash([1; 32]);
const ROOT: Hash = Hash([9; 32]);
/// A genesis whose two rates are near, so that a test hashes little: the fastest that is granted, and a lane's.
const FASTEST_HZ: u64 = 20_000_000;
const DECLARED_HZ: u64 = 100_000;

fn header(height: u64) -> Mix {
    let hash = quipu_crypto::sha256(&height.to_le_bytes());
    Mix::Header { height: Height::new(height), hash }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A generator that hashes less than it counts: at one entry, from where it goes on with what it has.
    #[test]
    fn a_clock_that_skips_work_is_refused_where_it_skips(
        counts in prop::collection::vec(1..400_u64, 1..20),
        place in any::<prop::sample::Index>(),
        done in any::<prop::sample::Index>(),
    ) {
        let place = place.index(counts.len());
        let mut chain = Chain::new(START);
        let entries: Vec<_> = counts.iter().enumerate().map(|(index, count)| {
            let ticks = if index == place {
                u64::try_from(done.index(usize::try_from(*count).unwrap())).unwrap()
            } else {
                *count
            };
            let mix = if index % 2 == 0 { Mix::Nothing } else { header(7) };
            chain.tick(ticks);
            if let Some(digest) = quipu_clock::mix_digest(&mix, &ROOT) {
                chain.mix(&digest);
            }
            ClockEntry { count: *count, mix, value: chain.value() }
        }).collect();
        let verdict = super::verify_entries(START, &entries, &ROOT);
        prop_assert_eq!(verdict, Err(ClockError::WrongValue { entry: place }));
    }

    /// Whoever hashes at any rate up to the fastest, for any time, in chunks of any lengths, proves no more than that time.
    #[test]
    fn a_hidden_faster_generator_proves_no_more_than_real_time(
        fastest_hz in prop_oneof![1..100_u64, 1..=100 * FASTEST_HZ, 1..=u64::MAX],
        rate in any::<prop::sample::Index>(),
        elapsed_us in prop::collection::vec(0..=100_000_000_000_u64, 1..20),
    ) {
        let share = u64::try_from(rate.index(1_001)).unwrap();
        let rate_hz = u64::try_from(u128::from(fastest_hz) * u128::from(share) / 1_000).unwrap();
        let ticks: Vec<_> = elapsed_us.iter().map(|us| ticks_due(*us, rate_hz)).collect();
        let proven: u64 = ticks.iter().map(|ticks| proven_micros(*ticks, fastest_hz)).sum();
        let real: u64 = elapsed_us.iter().sum();
        prop_assert!(proven <= real, "{} > {}", proven, real);
        let together = ticks.iter().fold(0_u64, |sum, ticks| sum.saturating_add(*ticks));
        prop_assert!(proven_micros(together, fastest_hz) <= real);
    }
}

/// The bound stands on genesis' rate being honest, and on nothing else.
#[test]
fn a_generator_that_beats_the_granted_rate_proves_more_than_real_time_by_as_much() {
    let ticks = ticks_due(1_000_000, FASTEST_HZ / 4 * 5);
    assert_eq!(proven_micros(ticks, FASTEST_HZ), 1_250_000);
    let ticks = ticks_due(1_000_000, FASTEST_HZ + 20);
    assert_eq!(proven_micros(ticks, FASTEST_HZ), 1_000_001);
}

/// What a generator computes ahead from the last value, without anything mixed.
fn ahead(start: Hash, ticks: u64) -> Vec<Hash> {
    let mut chain = Chain::new(start);
    let step = |_| {
        let value = chain.value();
        chain.tick(1);
        value
    };
    (0..=ticks).map(step).collect()
}

#[test]
fn an_idle_stretch_can_be_computed_ahead_and_any_piece_of_it_passes_until_something_is_mixed() {
    const AHEAD: u64 = 2_000;
    let values = ahead(START, AHEAD);
    // How far it succeeds: each value of the store is a true checkpoint, whenever it is brought out, and so is every header
    // that is mixed on one, as soon as the header is known. A verifier can not tell.
    for count in [1, 2, 500, AHEAD] {
        let value = values[usize::try_from(count).unwrap()];
        let idle = [ClockEntry { count, mix: Mix::Nothing, value }];
        assert_eq!(verify(START, &idle, &ROOT), Ok(value));
        let mut mixed = Chain::new(value);
        mixed.mix(&quipu_clock::mix_digest(&header(1), &ROOT).unwrap());
        let mixed = [ClockEntry { count, mix: header(1), value: mixed.value() }];
        assert_eq!(verify(START, &mixed, &ROOT), Ok(mixed[0].value));
    }
    // What ends it: nothing of the store follows on a header, a tip or a batch, wherever it is mixed.
    let tip = Mix::LaneTip { lane: quipu_types::Lane::new(2), index: 9, hash: ROOT };
    for mix in [header(1), tip, Mix::Batch, Mix::Votes(ROOT)] {
        for at in [0, 1, 700] {
            let mut clock = Generator::new(START);
            clock.tick(at);
            clock.mix(mix.clone(), &ROOT);
            let mut entries = clock.take();
            assert!(!values.contains(&clock.value()));
            let (count, rest) = (AHEAD - at, values[usize::try_from(AHEAD).unwrap()]);
            entries.push(ClockEntry { count, mix: Mix::Nothing, value: rest });
            let verdict = super::verify_entries(START, &entries, &ROOT);
            assert_eq!(verdict, Err(ClockError::WrongValue { entry: 1 }));
        }
    }
}

proptest! {
    /// The gain, in ticks and microseconds. A header is mixed, `interval_us` pass, the next header comes: the store was begun at
    /// the first, so it has no more than the ticks of that interval at the generator's own rate. What is brought out proves at
    /// most the interval; how far the clock runs before its declared rate is bounded by the interval too, and ends with it.
    #[test]
    fn what_an_idle_generator_gains_is_bounded_by_the_interval_between_mixed_headers(
        interval_us in 0..=60_000_000_u64,
        rate_hz in DECLARED_HZ..=FASTEST_HZ,
    ) {
        let store = ticks_due(interval_us, rate_hz);
        let due = ticks_due(interval_us, DECLARED_HZ);
        prop_assert!(proven_micros(store, FASTEST_HZ) <= interval_us);
        // Ahead of what is due: the head start, in ticks and in time that they prove, is less than the interval.
        let head_start = store - due;
        prop_assert!(head_start <= ticks_due(interval_us, FASTEST_HZ - DECLARED_HZ) + 1);
        prop_assert!(proven_micros(head_start, FASTEST_HZ) <= interval_us);
    }
}

#[test]
fn the_gain_of_an_idle_second_is_a_second_s_ticks_at_the_fastest_rate_and_no_time() {
    // Headers a second apart, the fastest silicon that is granted, a lane that declares 100,000 ticks a second.
    let store = ticks_due(1_000_000, FASTEST_HZ);
    assert_eq!(store, 20_000_000);
    assert_eq!(store - ticks_due(1_000_000, DECLARED_HZ), 19_900_000, "ticks ahead of what is due");
    assert_eq!(proven_micros(store, FASTEST_HZ), 1_000_000, "no more than what passed");
    // A second's due ticks are made in 5 milliseconds: 995 are free for another history, which proves as little.
    assert_eq!(proven_micros(ticks_due(1_000_000, DECLARED_HZ), FASTEST_HZ), 5_000);
}

/// Two histories of one stretch, made at once on two machines: each is a true clock. The clock alone does not tell which was
/// first; what was mixed in does (anchors, headers), and no history has a header before it was known.
#[test]
fn a_second_history_is_as_true_a_clock_and_has_no_header_that_was_not_known() {
    let history = |first: Mix, second: Mix| {
        let mut clock = Generator::new(START);
        for mix in [first, second] {
            clock.tick(100);
            clock.mix(mix, &ROOT);
        }
        clock.take()
    };
    let [told, hidden] = [history(header(1), Mix::Batch), history(Mix::Batch, header(1))];
    assert!(verify(START, &told, &ROOT).is_ok() && verify(START, &hidden, &ROOT).is_ok());
    assert_eq!(tick_count(&told), tick_count(&hidden));
    // A value after the header, moved before it, is no clock.
    let mut moved = told.clone();
    moved.swap(0, 1);
    let verdict = super::verify_entries(START, &moved, &ROOT);
    assert_eq!(verdict, Err(ClockError::WrongValue { entry: 0 }));
}
