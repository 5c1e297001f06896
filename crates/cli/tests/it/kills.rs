//! Validators of four that end, by `kill -9` and in peace, while clients append: nothing acknowledged is lost, and nobody
//! waits for long.

use std::time::{Duration, Instant};

use quipu_types::cursor::Mode;

use crate::fleet::{COUNT, Fleet, Load, check_events, longest_stop};
use crate::followers::Follower;

/// How often a validator is killed; `QUIPU_KILL_COUNT` says otherwise.
const KILL_COUNT: usize = 20;
/// The longest stop that fails a test. What is wanted is two seconds; what was is printed.
const STOP_MAX: Duration = Duration::from_secs(10);

#[test]
fn any_of_four_is_killed_again_and_again_and_then_all() {
    let kill_count =
        std::env::var("QUIPU_KILL_COUNT").map_or(KILL_COUNT, |text| text.parse().unwrap());
    let seed = std::env::var("QUIPU_KILL_SEED")
        .map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
    eprintln!("QUIPU_KILL_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut fleet = Fleet::new();
    fleet.create_stream();
    let genesis = fleet.ledger.read_genesis();
    let follower = |mode| Follower::start(&fleet.runtime, &fleet.all_urls(), &genesis, mode);
    let followers = [Mode::Certified, Mode::Tentative].map(follower);
    let load = Load::start(&fleet);
    load.until_answered(1, &[]);
    let mut windows = Vec::new();
    for victim in (0..COUNT).cycle().take(kill_count) {
        load.until_answered(random.u64(1..8), &[]);
        let from = Instant::now();
        fleet.kill(victim);
        load.until_answered(random.u64(1..8), &[victim]);
        fleet.start(victim);
        fleet.until_linked();
        fleet.until_caught_up(victim);
        load.until_answered(1, &[]);
        windows.push((victim, from, Instant::now()));
    }
    for victim in 0..COUNT {
        fleet.kill(victim);
    }
    fleet.start_all();
    let back = Instant::now();
    load.until_answered(1, &[]);
    let all = back.elapsed();
    let done = load.finish(&fleet);
    let mut longest = Duration::ZERO;
    for (victim, from, to) in windows {
        let (stop, client) = longest_stop(&done, (from, to), Some(victim));
        eprintln!("node{victim} killed: {client} waited {stop:?}, back after {:?}", to - from);
        longest = longest.max(stop);
    }
    eprintln!("{kill_count} kills: longest stop {longest:?}; all killed: all answer after {all:?}");
    assert!(longest < STOP_MAX);
    let height = (0..COUNT).map(|index| fleet.height(index)).max().unwrap();
    for follower in followers {
        let followed = follower.finish(&fleet.runtime, height);
        eprintln!(
            "a consumer was told {} chunks early, rolled back {} times, asked a second time {} times",
            followed.chunks, followed.roll_backs, followed.second_rounds
        );
        check_events(&followed.events(), &done);
        assert_eq!(followed.second_rounds, 0, "each resumes in one round");
    }
    fleet.check(&done);
}

#[test]
fn each_of_four_is_restarted_and_nobody_waits_for_it() {
    let mut fleet = Fleet::new();
    fleet.create_stream();
    let load = Load::start(&fleet);
    load.until_answered(1, &[]);
    let mut windows = Vec::new();
    for index in 0..COUNT {
        let from = Instant::now();
        let took = fleet.stop(index);
        load.until_answered(1, &[index]);
        fleet.start(index);
        fleet.until_linked();
        fleet.until_caught_up(index);
        load.until_answered(1, &[]);
        windows.push((index, from, Instant::now(), took));
    }
    let done = load.finish(&fleet);
    for (index, from, to, took) in windows {
        let (stop, client) = longest_stop(&done, (from, to), Some(index));
        let back = to - from;
        eprintln!(
            "node{index} restarted: {client} waited {stop:?}, ended in {took:?}, back after {back:?}"
        );
        assert!(stop < STOP_MAX);
    }
    fleet.check(&done);
}
