//! What is appended is what is read, across restarts, cuts and full disks.

use std::sync::Arc;

use expect_test::expect;
use proptest::prelude::*;
use quipu_log::{Beginning, Disk, Ledger, LogError, MemoryDisk, conformance};
use quipu_types::{Hash, Height, Lane, Seqno};

use crate::world::{CHAIN, World, check, config, first_term, nothing_is_wrong, open};

#[derive(Clone, Copy, Debug)]
enum Step {
    Chunk { lane: usize, count: usize },
    Vote { size: usize },
    Sync,
    Commit,
    FailOver { lane: usize },
    Reopen,
    Prune { back: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..2_usize, 0..9_usize).prop_map(|(lane, count)| Step::Chunk { lane, count }),
        3 => (1..900_usize).prop_map(|size| Step::Vote { size }),
        3 => Just(Step::Sync),
        3 => Just(Step::Commit),
        1 => (0..2_usize).prop_map(|lane| Step::FailOver { lane }),
        1 => Just(Step::Reopen),
        1 => (0..4_usize).prop_map(|back| Step::Prune { back }),
    ];
    proptest::collection::vec(step, 1..80)
}

fn take(world: &mut World, step: Step) -> Result<(), LogError> {
    match step {
        Step::Chunk { lane, count } => world.append(lane, count),
        Step::Vote { size } => world.vote(size),
        Step::Sync => world.ledger.sync(),
        Step::Commit => {
            // A header is made of what is durable.
            world.ledger.sync()?;
            world.commit()?;
            let height = Height::new(u64::try_from(world.headers.len()).expect("few") + 1);
            world.ledger.begin(height)
        }
        Step::FailOver { lane } => world.fail_over(lane),
        Step::Prune { back } => world.prune(back),
        Step::Reopen => {
            world.ledger.sync()?;
            holds_all(world);
            Ok(())
        }
    }
}

/// A restart gives back the model, and there is nothing to find fault with.
fn holds_all(world: &mut World) {
    let recovered = world.reopen();
    assert_eq!(recovered.torn, [], "nothing was torn");
    for (model, (tip, frontier)) in
        world.lanes.iter().zip(recovered.tips.iter().zip(&recovered.frontiers))
    {
        assert_eq!(model.tip(), *tip);
        assert_eq!(&model.frontier, frontier);
    }
    let terms: Vec<_> = recovered.terms.iter().map(|terms| *terms.last().unwrap()).collect();
    assert_eq!(terms, world.lanes.iter().map(|lane| lane.term).collect::<Vec<_>>());
    assert_eq!(nothing_is_wrong(&world.ledger, &recovered, world), 0, "all of it can be read");
    let height = u64::try_from(world.headers.len()).expect("few");
    let needed = world.wal.iter().filter(|(of, _)| of.get() >= height).count();
    assert!(recovered.wal.len() >= needed, "what consensus needs is kept");
    assert_eq!(check(&world.disk), [], "a sound ledger has no findings");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_was_appended_is_read_from_anywhere_after_any_restart(seed: u64, steps in steps()) {
        let mut world = World::new(seed);
        for step in steps {
            take(&mut world, step).expect("memory has room");
        }
        take(&mut world, Step::Reopen).expect("memory has room");
    }

    #[test]
    fn a_full_disk_leaves_nothing_half_visible_and_goes_on_when_there_is_room(
        seed: u64, steps in steps(), room in 0..60_000_u64,
    ) {
        let mut world = World::new(seed);
        world.disk.set_size_max(Some(world.disk.size() + room));
        let mut full = false;
        for step in steps {
            if matches!(step, Step::FailOver { .. }) {
                continue; // two appends: the model has no half of it
            }
            match take(&mut world, step) {
                Ok(()) => {}
                Err(LogError::Full { .. }) => {
                    full = true;
                    world.ledger.sync().expect("memory syncs");
                    holds_all(&mut world);
                    world.disk.set_size_max(None);
                }
                Err(error) => panic!("{error}"),
            }
        }
        prop_assert!(full || room > 0);
        take(&mut world, Step::Reopen).expect("there is room");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_ledger_that_begins_behind_a_header_goes_on_as_the_whole_one(
        seed: u64, before in 1..12_usize, after in 0..12_usize,
    ) {
        let mut whole = World::new(seed);
        for round in 0..before {
            whole.append(round % 2, 1 + round % 5).expect("room");
            if round % 5 == 3 {
                whole.fail_over(1).expect("room");
            }
            whole.ledger.sync().expect("memory syncs");
            whole.commit().expect("room");
        }
        let disk = MemoryDisk::new();
        let beginning = whole.beginning(whole.headers.len() - 1);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        Ledger::begin_with(&shared, CHAIN, config(), beginning.clone()).expect("room");
        let again = Ledger::begin_with(&shared, CHAIN, config(), beginning);
        prop_assert_eq!(again, Err(LogError::Begun));
        let (ledger, recovered) = open(&disk).expect("it begins");
        prop_assert_eq!(&recovered.committed, &whole.headers.last().cloned());
        whole.disk = disk;
        whole.ledger = ledger;
        for round in 0..after {
            whole.append(round % 2, 1 + round % 3).expect("room");
            whole.ledger.sync().expect("memory syncs");
            whole.commit().expect("room");
            if round % 4 == 3 {
                whole.fail_over(0).expect("room");
            }
        }
        whole.wal.clear();
        whole.ledger.sync().expect("memory syncs");
        holds_all(&mut whole);
    }
}

#[test]
fn what_does_not_belong_together_begins_no_ledger() {
    let world = World::small(3);
    let disk = MemoryDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let right = world.beginning(3);
    let mut refused = String::new();
    let mut refuse = |change: &dyn Fn(&mut Beginning)| {
        let mut beginning = right.clone();
        change(&mut beginning);
        let begun = Ledger::begin_with(&shared, CHAIN, config(), beginning);
        refused.push_str(&format!("{}\n", begun.expect_err("it does not fit")));
    };
    refuse(&|beginning| beginning.certificate = world.headers[0].1.clone());
    refuse(&|beginning| drop(beginning.lanes.pop()));
    refuse(&|beginning| beginning.lanes.swap(0, 1));
    refuse(&|beginning| beginning.lanes[1].frontier = beginning.lanes[0].frontier.clone());
    refuse(&|beginning| (beginning.header, beginning.certificate) = world.headers[2].clone());
    expect![[r#"
        what the ledger is to begin with does not fit together: its certificate
        what the ledger is to begin with does not fit together: its number of lanes
        what the ledger is to begin with does not fit together: lane 0
        what the ledger is to begin with does not fit together: lane 1
        what the ledger is to begin with does not fit together: lane 0
    "#]]
    .assert_eq(&refused);
    assert_eq!(disk.files(), MemoryDisk::new().files(), "not a byte was written");
    Ledger::begin_with(&shared, CHAIN, config(), right).expect("as it was made, it fits");
}

#[test]
fn a_pruned_ledger_is_smaller_and_a_crash_in_the_middle_is_finished_by_opening() {
    let mut world = World::new(11);
    for round in 0..200 {
        world.append(round % 2, 4).expect("room");
        world.ledger.sync().expect("memory syncs");
        world.commit().expect("room");
    }
    let (before, whole) = (world.disk.size(), world.disk.files());
    world.prune(10).expect("room");
    assert!(world.disk.size() * 2 < before, "{} of {before} bytes", world.disk.size());
    holds_all(&mut world);
    // The base is durable first: whatever of what it lets go is still there goes now.
    for (path, bytes) in whole {
        if path.contains(".log")
            && !path.starts_with("wal")
            && !world.disk.files().contains_key(&path)
        {
            world.disk.put(&path, bytes);
        }
    }
    assert_eq!(check(&world.disk), [], "what is left over is no fault");
    holds_all(&mut world);
    assert!(world.disk.size() * 2 < before, "{} of {before} bytes", world.disk.size());
}

#[test]
fn a_disk_in_memory_conforms() {
    let disk = MemoryDisk::new();
    conformance::run(&disk);
    conformance::run(&disk);
}

#[test]
fn what_does_not_continue_the_ledger_is_refused_and_leaves_it_as_it_was() {
    let mut world = World::small(1);
    let files = world.disk.files();
    let chunk = world.next_chunk(0, 2);
    let leaves = quipu_log::leaves_of(&chunk).expect("our own");
    let mut refused = String::new();
    let mut refuse = |ledger: &mut quipu_log::Ledger,
                      change: &dyn Fn(&mut quipu_log::StoredChunk)| {
        let mut chunk = chunk.clone();
        change(&mut chunk);
        let error = ledger.append_chunk(&chunk, &leaves).expect_err("it does not link");
        refused.push_str(&format!("{error}\n"));
    };
    refuse(&mut world.ledger, &|chunk| chunk.header.index += 1);
    refuse(&mut world.ledger, &|chunk| chunk.header.first_seqno = Seqno::new(99));
    refuse(&mut world.ledger, &|chunk| chunk.header.prev = Hash::ZERO);
    refuse(&mut world.ledger, &|chunk| chunk.header.term = chunk.header.term.next());
    refuse(&mut world.ledger, &|chunk| chunk.header.branch = Hash::ZERO);
    refuse(&mut world.ledger, &|chunk| chunk.header.lane_root = Hash::ZERO);
    refuse(&mut world.ledger, &|chunk| chunk.header.count = 1);
    refuse(&mut world.ledger, &|chunk| chunk.header.lane = Lane::new(9));
    for error in [
        world.ledger.append_term(&first_term(Lane::new(0))).expect_err("an old term"),
        world.ledger.truncate_after(Lane::new(0), 1).expect_err("committed"),
        world.ledger.truncate_after(Lane::new(0), 99).expect_err("no such chunk"),
        world.reader_error(),
    ] {
        refused.push_str(&format!("{error}\n"));
    }
    expect![[r#"
        lane 0: index of chunk 7 does not continue what is stored
        lane 0: first_seqno of chunk 6 does not continue what is stored
        lane 0: prev of chunk 6 does not continue what is stored
        lane 0: term of chunk 6 does not continue what is stored
        lane 0: branch of chunk 6 does not continue what is stored
        lane 0: lane_root of chunk 6 does not continue what is stored
        lane 0: count of chunk 6 does not continue what is stored
        there is no lane 9
        lane 0: term of term 1 does not continue what is stored
        lane 0: chunk 1 is not above the last committed one
        lane 0 has no chunk 99
        lane 0 has no seqno 13
    "#]]
    .assert_eq(&refused);
    assert_eq!(world.disk.files(), files, "not a byte was written");
    world.ledger.append_chunk(&chunk, &leaves).expect("as it was made, it links");
}

impl World {
    /// A reader asks for what is stored but not committed.
    fn reader_error(&self) -> LogError {
        self.ledger.reader().transaction(Lane::new(0), Seqno::new(13)).expect_err("not committed")
    }
}

#[test]
fn the_write_ahead_log_stays_small_however_long_the_ledger_runs() {
    let mut world = World::new(4);
    for _ in 0..300 {
        world.append(0, 1).expect("room");
        world.vote(300).expect("room");
        world.ledger.sync().expect("memory syncs");
        world.commit().expect("room");
        let height = Height::new(u64::try_from(world.headers.len()).expect("few") + 1);
        world.ledger.begin(height).expect("room");
    }
    world.ledger.sync().expect("memory syncs");
    let files = world.disk.files();
    let size: usize = files
        .iter()
        .filter(|(path, _)| path.starts_with("wal/"))
        .map(|(_, bytes)| bytes.len())
        .sum();
    assert!(size <= 3 * 4096, "{size} bytes of 90,000 that were written");
    holds_all(&mut world);
}

#[test]
fn a_quiet_ledger_is_small() {
    let world = World::new(5);
    assert!(world.disk.size() < 32 << 10, "{} bytes", world.disk.size());
}

#[test]
fn a_sync_that_fails_says_so() {
    let mut world = World::new(6);
    world.append(0, 1).expect("room");
    world.disk.set_sync_fails(true);
    let error = world.ledger.sync().expect_err("the disk refuses");
    assert!(matches!(error, LogError::SyncFailed { .. }));
    assert!(error.is_fatal());
}

#[test]
fn a_reader_follows_what_is_committed_while_the_writer_appends() {
    let mut world = World::new(7);
    let mut follow = world.ledger.reader().read_from(Lane::new(0), Seqno::new(0)).expect("a lane");
    assert!(follow.next().is_none(), "nothing yet");
    for round in 0..20_u64 {
        world.append(0, 3).expect("room");
        assert!(follow.next().is_none(), "not committed yet");
        world.commit().expect("room");
        let seqnos: Vec<u64> = follow.by_ref().map(|item| item.unwrap().0.get()).collect();
        assert_eq!(seqnos, (3 * round + 1..=3 * round + 3).collect::<Vec<_>>());
    }
}

#[test]
fn what_was_read_comes_out_of_memory_the_second_time_and_what_is_not_committed_never() {
    let mut world = World::new(9);
    for _ in 0..3 {
        world.append(0, 2).expect("room");
        world.commit().expect("room");
    }
    world.append(0, 2).expect("room");
    let reader = world.ledger.reader();
    let counts = || reader.cache_counts().map(|(name, counts)| (name, counts.hits, counts.misses));
    let read = || {
        let chunks = [1, 2, 3].map(|index| reader.chunk(Lane::new(0), index).expect("committed"));
        let headers = [1, 2, 3].map(|height| reader.header(Height::new(height)).expect("stored"));
        assert!(reader.chunk(Lane::new(0), 4).is_err(), "not committed");
        (chunks, headers)
    };
    let first = read();
    assert_eq!(counts(), [("headers", 0, 3), ("chunks", 0, 3)]);
    assert_eq!(read(), first);
    assert_eq!(counts(), [("headers", 3, 3), ("chunks", 3, 3)]);
}

#[test]
fn a_closed_ledger_opens_without_reading_its_chunks_again() {
    let mut world = World::small(8);
    let (ledger, _) = open(&world.disk).expect("a ledger");
    std::mem::replace(&mut world.ledger, ledger).close().expect("memory syncs");
    assert_eq!(check(&world.disk), []);
    // Were a leaf hashed again, this inner node would be mended.
    let mut files = world.disk.files();
    let tree = files.get_mut("lanes/00/tree").expect("a tree");
    tree[128 + 32] ^= 1;
    world.disk.put("lanes/00/tree", tree.clone());
    world.reopen();
    assert_eq!(check(&world.disk).len(), 1, "trusted, and found by a check");
}
