//! Four validators that can not reach each other, that lose a disk, and that hear what no validator says.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::fleet::{COUNT, Fleet, Load, longest_stop, until};
use crate::harness::{Ledger, Server, ok};
use crate::proxy::{Proxies, Way};

/// How long it is watched that nothing happens: several rounds' worth.
const QUIET: Duration = Duration::from_millis(1_500);
/// The longest time to the first answer after healing that fails a test. What is wanted is two seconds; what was is
/// printed.
const HEAL_MAX: Duration = Duration::from_secs(15);

fn heights(fleet: &Fleet) -> Vec<u64> {
    (0..COUNT).map(|index| fleet.height(index)).collect()
}

/// Waits until `quipu status` of a validator has a line with all these words.
fn until_status(fleet: &Fleet, index: usize, words: &[&str]) {
    until(&format!("node{index} says {words:?}"), || {
        let text = ok(&["status", "--url", fleet.url(index)]);
        text.lines().any(|line| words.iter().all(|word| line.contains(word)))
    });
}

/// Cuts two from two, looks, heals, and gives the time until every client is answered again.
fn cut_and_heal(
    fleet: &Fleet,
    proxies: &Proxies,
    load: &Load,
    way: Way,
    side: [usize; 2],
) -> Duration {
    proxies.around(&side, way);
    let names: Vec<String> = (0..COUNT).map(|index| format!("node{index} ")).collect();
    for index in 0..COUNT {
        let is_beyond = |other: &usize| side.contains(other) != side.contains(&index);
        let mut words: Vec<&str> =
            (0..COUNT).filter(is_beyond).map(|other| names[other].as_str()).collect();
        words.push("no quorum: missing ");
        until_status(fleet, index, &words);
    }
    let (before, answered) = (heights(fleet), load.total());
    let start = Instant::now();
    until("a while", || start.elapsed() > QUIET);
    assert_eq!(heights(fleet), before, "nothing is committed by two of four");
    assert_eq!(load.total(), answered, "nothing is acknowledged by two of four");
    proxies.around(&side, Way::Open);
    let healed = Instant::now();
    load.until_answered(1, &[]);
    let progress = healed.elapsed();
    fleet.until_linked();
    eprintln!("healed ({way:?}): all clients answered after {progress:?}");
    progress
}

#[test]
fn two_of_four_cut_off_commit_nothing_and_go_on_when_healed() {
    let mut proxies = None;
    let fleet = Fleet::with(|ledger| proxies = Some(Proxies::between(ledger, COUNT)));
    let proxies = proxies.unwrap();
    fleet.create_stream();
    let load = Load::start(&fleet);
    load.until_answered(3, &[]);
    for (way, side) in [(Way::Shut, [0, 1]), (Way::Silent, [1, 2])] {
        let progress = cut_and_heal(&fleet, &proxies, &load, way, side);
        assert!(progress < HEAL_MAX, "{way:?}: {progress:?}");
    }
    let done = load.finish(&fleet);
    fleet.check(&done);
}

/// Everything in a validator's directory but what its owner keeps elsewhere too.
fn lose_disk(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if ["validator.key", "coin.key", "config.toml"].contains(&name) {
            continue;
        }
        if path.is_dir() {
            std::fs::remove_dir_all(&path).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn a_validator_with_a_new_disk_watches_catches_up_and_signs_again() {
    let mut fleet = Fleet::new();
    fleet.create_stream();
    let load = Load::start(&fleet);
    load.until_answered(5, &[]);
    let from = Instant::now();
    fleet.stop(2);
    lose_disk(&fleet.dir(2));
    fleet.start(2);
    let mark = fleet.dir(2).join("observer");
    assert!(mark.exists(), "it starts as an observer");
    fleet.until_linked();
    let threshold = fleet.until_signs(2);
    load.until_answered(1, &[]);
    let to = Instant::now();

    // Without a fourth, every signature of the rest is needed.
    fleet.kill(0);
    load.until_answered(3, &[0]);
    fleet.start(0);
    fleet.until_caught_up(0);
    load.until_answered(1, &[]);
    let done = load.finish(&fleet);
    let (stop, client) = longest_stop(&done, (from, to), Some(2));
    eprintln!(
        "new disk: signs from {threshold} on, after {:?}; {client} waited {stop:?}",
        to - from
    );
    fleet.check(&done);
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_dir(&path, &to);
        } else {
            // With its mode: keys stay their owner's.
            std::fs::copy(&path, &to).unwrap();
        }
    }
}

#[test]
fn a_directory_of_yesterday_is_noticed_and_its_validator_waits_until_it_may_sign() {
    let mut fleet = Fleet::new();
    fleet.create_stream();
    let load = Load::start(&fleet);
    load.until_answered(2, &[]);
    fleet.stop(2);
    let backup = tempfile::tempdir().unwrap();
    copy_dir(&fleet.dir(2), &backup.path().join("v"));
    let yesterday = fleet.height(0);
    fleet.start(2);
    fleet.until_linked();
    fleet.until_caught_up(2);
    assert!(!fleet.dir(2).join("observer").exists(), "an ordinary start is none of an observer");
    // Its votes are needed, so that others have some.
    fleet.kill(0);
    load.until_answered(3, &[0]);
    let signed = fleet.height(1);
    fleet.start(0);
    fleet.until_linked();
    fleet.until_caught_up(0);
    load.until_answered(1, &[]);

    fleet.stop(2);
    std::fs::remove_dir_all(fleet.dir(2)).unwrap();
    copy_dir(&backup.path().join("v"), &fleet.dir(2));
    let from = Instant::now();
    fleet.start(2);
    let threshold = fleet.until_signs(2);
    assert!(threshold > signed, "signs from {threshold}, had signed up to {signed}");
    let to = Instant::now();

    // Without a fourth, every signature of the rest is needed.
    fleet.kill(0);
    load.until_answered(3, &[0]);
    fleet.start(0);
    fleet.until_caught_up(0);
    let done = load.finish(&fleet);
    eprintln!(
        "a directory of height {yesterday}: noticed, signs from {threshold} on, after {:?}",
        to - from
    );
    fleet.check(&done);
}

/// The address at which a validator listens for others.
fn peer_address(dir: &Path) -> String {
    let text = std::fs::read_to_string(dir.join("config.toml")).unwrap();
    let line = text.lines().find(|line| line.starts_with("peer = ")).unwrap();
    line.split('"').nth(1).unwrap().to_owned()
}

/// Says something, and holds on to the connection.
fn say(address: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    // It may close before it has read all.
    let _ = stream.write_all(bytes);
    stream
}

/// A validator of another ledger that takes `address` for that of its node1.
fn stranger(ledger: &Ledger, address: &str) -> Server {
    let path = ledger.node().join("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let own = peer_address(&ledger.path("l/node1"));
    assert!(text.contains(&own), "{text}");
    std::fs::write(&path, text.replace(&own, address)).unwrap();
    ledger.start()
}

#[test]
fn what_no_validator_says_at_the_peer_port_disturbs_nobody() {
    let mut fleet = Fleet::new();
    fleet.create_stream();
    let load = Load::start(&fleet);
    load.until_answered(1, &[]);
    let address = peer_address(&fleet.dir(1));
    let other = Ledger::of(COUNT);
    let stranger = stranger(&other, &address);
    let mut random = fastrand::Rng::with_seed(7);
    let mut held = Vec::new();
    for size in [0, 1, 5, 100, 70_000] {
        let noise: Vec<u8> = (0..size).map(|_| random.u8(..)).collect();
        held.push(say(&address, &noise));
    }
    // A record of TLS that announces more than comes, and one that announces too much.
    held.push(say(&address, &[22, 3, 1, 1, 0, 1, 0, 0, 252]));
    held.push(say(&address, &[22, 3, 1, 255, 255, 1, 255, 255, 255]));
    held.push(say(&address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"));
    // More connections than it lets wait.
    held.extend((0..100).map(|_| say(&address, b"\x16")));
    load.until_answered(5, &[]);
    fleet.until_linked();
    for stream in &mut held {
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        // Closed, reset or silent: it owes nobody an answer.
        let _ = stream.read(&mut [0; 64]);
    }
    drop(held);
    let said = ok(&["status", "--url", &stranger.http]);
    assert!(said.contains("no quorum: missing node1"), "{said}");
    stranger.stop();
    // A validator can be linked anew after all that.
    fleet.kill(3);
    fleet.start(3);
    fleet.until_linked();
    load.until_answered(1, &[]);
    let done = load.finish(&fleet);
    fleet.check(&done);
}
