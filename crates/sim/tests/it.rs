//! Seeds. A failure prints its seed: `quipu sim --seed S --trace` tells the story.

use quipu_sim::{Profile, Totals, run};

#[test]
fn seeds_with_crashes_keep_every_promise_and_every_fault_happens() {
    let mut totals = Totals::default();
    for seed in 0..500 {
        match run(seed, &Profile::short()) {
            Ok(report) => totals.add(&report.totals),
            Err(violation) => panic!("{violation}"),
        }
    }
    for (name, count) in totals.rows() {
        println!("{count:>9} {name}");
    }
    for (name, count) in totals.rows() {
        assert!(count > 0, "no {name}: the world is too kind");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let profile = Profile { keeps_trace: true, ..Profile::short() };
    for seed in [3, 1_000_003] {
        assert_eq!(run(seed, &profile), run(seed, &profile));
    }
}

#[test]
fn votes_that_leave_before_they_are_durable_are_caught() {
    let profile = Profile { wal_before_send: false, crash_per_mille: 0, ..Profile::short() };
    let violation = run(1, &profile).expect_err("a vote left too early");
    assert_eq!(violation.rule, "V3");
}
