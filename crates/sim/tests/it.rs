//! Seeds. A failure prints its seed: `quipu sim --seed S --trace` tells the story.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;

use quipu_replica::Rules;
use quipu_sim::actors::Crime;
use quipu_sim::{Profile, Report, Totals, run};

/// Runs seeds on every core. Each world has a thread of its own, so a seed gives what it gives alone.
fn totals(seeds: std::ops::Range<u64>, profile: Profile, check: impl Fn(&Report) + Sync) -> Totals {
    let (next, totals) = (AtomicU64::new(seeds.start), Mutex::new(Totals::default()));
    std::thread::scope(|scope| {
        for _ in 0..available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    match run(seed, &profile) {
                        Ok(report) => {
                            check(&report);
                            totals.lock().expect("no holder panics").add(&report.totals);
                        }
                        Err(violation) => {
                            next.store(seeds.end, Ordering::Relaxed);
                            panic!("{violation}");
                        }
                    }
                }
            });
        }
    });
    totals.into_inner().expect("no holder panics")
}

fn print(totals: &Totals) {
    for (name, count) in totals.rows() {
        println!("{count:>9} {name}");
    }
}

#[test]
fn four_and_seven_keep_every_promise_through_crashes_and_partitions() {
    let totals = totals(0..2_000, Profile::short(), |report| {
        let Report { seed, height_count, totals, .. } = report;
        assert!(*height_count >= 20, "seed {seed}: {height_count} heights");
        assert!(totals.crashes() > 0, "seed {seed}: nobody crashed");
        assert!(totals.splits() > 0, "seed {seed}: there was no partition");
    });
    print(&totals);
    for (name, count) in totals.rows() {
        assert!(count > 0, "no {name}: the world is too kind");
    }
}

#[test]
fn one_alone_keeps_every_promise_through_crashes() {
    let profile = Profile { powers: &[1], ..Profile::short() };
    let totals = totals(0..300, profile, |report| assert!(report.totals.crashes() > 0));
    print(&totals);
    assert_eq!(totals.messages, 0);
    assert!(totals.restarts > 0 && totals.disk.torn > 0 && totals.finals > 0);
}

#[test]
fn without_faults_nothing_is_said_twice() {
    let profile = Profile { has_faults: false, has_crimes: false, ..Profile::short() };
    let totals = totals(0..20, profile, |report| assert!(report.height_count >= 20));
    assert_eq!((totals.crashes(), totals.splits()), (0, 0));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let profile = Profile { keeps_trace: true, ..Profile::short() };
    for seed in [3, 21, 1_000_003] {
        let first = run(seed, &profile);
        assert_eq!(first, run(seed, &profile));
        assert!(first.is_ok_and(|report| report.trace.len() > 1_000));
    }
    let digest = |seed, keeps_trace| {
        run(seed, &Profile { keeps_trace, ..profile }).map(|report| report.digest)
    };
    assert_eq!(digest(3, false), digest(3, true));
    assert_ne!(digest(3, false), digest(4, false));
}

#[test]
fn words_that_leave_before_they_are_durable_are_caught() {
    for powers in [&[1, 1, 1, 1][..], &[1]] {
        let profile = Profile { wal_before_send: false, powers, ..Profile::short() };
        let violation = run(1, &profile).expect_err("a vote left too early");
        assert_eq!(violation.rule, "A3");
    }
}

/// The first rule that breaks in some seeds.
fn broken(rules: Rules) -> Option<&'static str> {
    let profile = Profile { rules, ..Profile::short() };
    (0..40).find_map(|seed| run(seed, &profile).err()).map(|violation| violation.rule)
}

#[test]
fn votes_below_a_left_round_and_votes_without_chunks_are_caught() {
    assert_eq!(broken(Rules { change_before_vote: false, ..Rules::ALL }), Some("A5"));
    assert_eq!(broken(Rules { hold_headers: false, ..Rules::ALL }), Some("A7"));
    assert_eq!(broken(Rules { hold_bodies: false, ..Rules::ALL }), Some("A7"));
    assert_eq!(broken(Rules { same_bytes: false, ..Rules::ALL }), Some("A4"));
}

#[test]
fn stripes_that_need_not_prove_themselves_are_caught() {
    let rules = Rules { stripes_proven: false, ..Rules::ALL };
    let crime = Some(Crime::Tear);
    let profile = Profile { rules, crime, stripe_percent: 100, ..Profile::short() };
    let broken = (0..20).find_map(|seed| run(seed, &profile).err());
    assert_eq!(broken.map(|violation| violation.rule), Some("A9"));
}

#[test]
fn an_old_copy_of_a_store_that_nobody_is_asked_about_is_caught() {
    let careless = Profile { checks_its_store: false, has_crimes: false, ..Profile::short() };
    let (mut rewinds, mut broken) = (0, Vec::new());
    for seed in 0..150 {
        match run(seed, &careless) {
            Ok(report) => rewinds += report.totals.rewinds,
            Err(violation) => broken.push(violation.rule),
        }
    }
    println!("{rewinds} copies were put back unseen, {broken:?} broken by others");
    assert!(broken.iter().any(|rule| ["A4", "A9"].contains(rule)), "{rewinds}, {broken:?}");
}

/// No led round can be: heights go on, each after few open rounds.
#[test]
fn in_a_storm_heights_go_on_by_coins_alone() {
    let profile = Profile {
        coin_percent: 100,
        has_faults: false,
        has_crimes: false,
        storm_percent: 100,
        ..Profile::short()
    };
    let totals = totals(0..20, profile, |_| ());
    println!("{} heights, {} of open rounds", totals.heights, totals.open_rounds);
    assert!(totals.open_rounds * 4 > totals.heights, "{totals:?}");
}

/// A validator that was behind knew the coin and the polka of the round that it was about to enter, and named that polka in
/// its change to this very round.
#[test]
fn a_round_change_names_no_polka_of_the_round_that_it_enters() {
    assert!(run(10_201, &Profile::short()).is_ok());
}

/// A validator had caught up beyond what it said last before a crash, and dropped those words, when an answer came that named
/// one of them: it took its own store for an old copy.
#[test]
fn who_catches_up_before_it_is_answered_is_taken_for_no_old_copy() {
    let profile = Profile { crime: Some(Crime::Mislead), ..Profile::short() };
    let report = run(44, &profile).unwrap_or_else(|violation| panic!("{violation}"));
    assert_eq!(report.totals.thresholds, 0);
}
