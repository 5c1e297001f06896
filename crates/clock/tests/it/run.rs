//! Ticks that are made beside a clock.

use proptest::prelude::*;
use quipu_clock::{Generator, Run};
use quipu_types::chunk::TICKS_PER_ENTRY_MAX;
use quipu_types::{Hash, Mix};

use crate::verify_entries;

const ROOT: Hash = Hash([9; 32]);

#[derive(Clone, Debug)]
enum Deed {
    /// The run ticks.
    Tick(u64),
    /// It is taken over.
    Take,
    /// Something is mixed in; the run begins anew.
    Mix(u8),
    /// A chunk is cut.
    Cut,
    /// A run comes that began before the last mix.
    Late,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let ticks = prop_oneof![
        0..40_u64,
        TICKS_PER_ENTRY_MAX - 2..TICKS_PER_ENTRY_MAX + 3,
        0..3 * TICKS_PER_ENTRY_MAX,
    ];
    let deed = prop_oneof![
        3 => ticks.prop_map(Deed::Tick),
        3 => Just(Deed::Take),
        2 => any::<u8>().prop_map(Deed::Mix),
        1 => Just(Deed::Cut),
        1 => Just(Deed::Late),
    ];
    prop::collection::vec(deed, 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_run_that_is_taken_over_is_as_if_the_ticks_were_made_here(deeds in deeds()) {
        let start = Hash([3; 32]);
        let (mut clock, mut plain) = (Generator::new(start), Generator::new(start));
        let (mut run, mut late) = (Run::new(start), None);
        let mut taken = 0;
        let (mut all, mut from) = (Vec::new(), start);
        for deed in deeds {
            match deed {
                Deed::Tick(count) => prop_assert_eq!(run.tick(count), count),
                Deed::Take => {
                    prop_assert_eq!(clock.take_run(run.clone()), run.count() - taken);
                    plain.tick(run.count() - taken);
                    taken = run.count();
                }
                Deed::Mix(byte) => {
                    for clock in [&mut clock, &mut plain] {
                        clock.mix(Mix::Votes(Hash([byte; 32])), &ROOT);
                    }
                    late = Some(std::mem::replace(&mut run, Run::new(clock.base())));
                    taken = 0;
                }
                Deed::Cut => {
                    let entries = clock.take();
                    prop_assert_eq!(&entries, &plain.take());
                    prop_assert_eq!(verify_entries(from, &entries, &ROOT), Ok(clock.value()));
                    from = clock.value();
                    all.extend(entries);
                    if clock.base() != run.base() {
                        (run, taken) = (Run::new(clock.base()), 0);
                    }
                }
                Deed::Late => {
                    if let Some(late) = &late {
                        prop_assert_eq!(clock.take_run(late.clone()), 0);
                    }
                }
            }
            prop_assert_eq!(&clock, &plain);
        }
        let ticks: u64 = all.iter().map(|entry| entry.count).sum();
        prop_assert_eq!(quipu_clock::tick_count(&all), ticks);
    }
}

#[test]
fn a_run_stops_where_a_chunk_is_full() {
    let mut clock = Generator::new(ROOT);
    let mut run = Run::new(ROOT);
    let room = clock.tick_room();
    assert_eq!(run.tick(5), 5);
    assert_eq!(clock.take_run(run.clone()), 5);
    assert_eq!(clock.tick_room(), room - 5);
    assert_eq!(clock.take_run(run.clone()), 0);
}
