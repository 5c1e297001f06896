//! Crashes at every byte, and rot of every byte.

use proptest::prelude::*;
use quipu_log::{Damage, LogError, MemoryDisk};

use crate::world::{World, check, nothing_is_wrong, open};

/// Opens a damaged copy: refused as damaged, or all that can be read is right.
fn refused_or_right(disk: &MemoryDisk, world: &World) -> Option<LogError> {
    match open(disk) {
        Ok((ledger, recovered)) => {
            nothing_is_wrong(&ledger, &recovered, world);
            None
        }
        Err(LogError::Damaged(finding)) => Some(LogError::Damaged(finding)),
        Err(error) => panic!("damage must be called damage: {error}"),
    }
}

#[test]
fn whichever_byte_is_flipped_a_check_names_its_file_and_no_reader_is_deceived() {
    let mut world = World::small(1);
    for (closed, pruned) in [(false, false), (true, false), (true, true)] {
        if pruned {
            world = World::pruned(1);
        }
        if closed {
            let (ledger, _) = open(&world.disk).expect("a ledger");
            std::mem::replace(&mut world.ledger, ledger).close().expect("memory syncs");
        }
        let files = world.disk.files();
        let mut random = fastrand::Rng::with_seed(2);
        let mut flip_count = 0;
        for (path, bytes) in &files {
            let mut offset = 0;
            while offset < bytes.len() {
                let disk = world.disk.fork();
                let mut flipped = bytes.clone();
                flipped[offset] ^= 1 << random.u8(..8);
                disk.put(path, flipped);
                let findings = check(&disk);
                let named = findings.iter().find(|finding| finding.file == *path);
                assert!(named.is_some(), "{path} byte {offset}: {findings:?}");
                refused_or_right(&disk, &world);
                flip_count += 1;
                // Every byte of what is used, some of what is not.
                let quiet = bytes[offset..].iter().take(64).all(|byte| *byte == 0);
                offset += if quiet { random.usize(1..64) } else { random.usize(1..4) };
            }
        }
        assert!(flip_count > 3_000, "{flip_count} flips");
    }
}

#[test]
fn findings_read_as_file_place_and_reason() {
    let mut world = World::small(1);
    for _ in 0..3 {
        world.append(0, 2).expect("room");
        world.ledger.sync().expect("memory syncs");
    }
    let files = world.disk.files();
    let mut text = String::new();
    let mut flip = |path: &str, offset: usize| {
        let disk = world.disk.fork();
        let mut bytes = files[path].clone();
        bytes[offset] ^= 0x10;
        disk.put(path, bytes);
        for finding in check(&disk) {
            text.push_str(&format!("{finding}\n"));
        }
        let opened = open(&disk).map(|_| ());
        text.push_str(&format!(
            "    opening: {}\n",
            match opened {
                Ok(()) => "goes on".to_owned(),
                Err(error) => error.to_string(),
            }
        ));
    };
    let first = "00000000000000000001.log";
    flip(&format!("lanes/00/{first}"), 8);
    flip(&format!("lanes/00/{first}"), 300);
    flip(&format!("headers/{first}"), 100);
    flip(&format!("wal/{first}"), 70);
    flip(&format!("wal/{first}"), 4000);
    flip("lanes/01/tree", 200);
    flip("lanes/01/tree", 20);
    expect_test::expect![[r#"
        lanes/00/00000000000000000001.log at byte 0: the segment's header is damaged or of another ledger
            opening: damaged: lanes/00/00000000000000000001.log at byte 0: the segment's header is damaged or of another ledger
        lanes/00/00000000000000000001.log at byte 152, lane 0, chunk 1, seqno 1: a frame that was durable fails its checksum
            opening: damaged: lanes/00/00000000000000000001.log at byte 152, lane 0, chunk 1, seqno 1: a frame that was durable fails its checksum
        headers/00000000000000000001.log at byte 64, height 1: a frame that was durable fails its checksum
            opening: goes on
        wal/00000000000000000001.log at byte 64, record 1: a frame that was durable fails its checksum
            opening: damaged: wal/00000000000000000001.log at byte 64, record 1: a frame that was durable fails its checksum
        wal/00000000000000000001.log at byte 744, record 6: 3257 bytes from here to the last that is not zero are no frame: a torn write, or a damaged last record
            opening: goes on
        lanes/01/tree at byte 192, lane 1, tree node 2: the node is not the hash of what stands below it, and was not marked durable
            opening: goes on
        lanes/01/tree at byte 0: the tree's mark is damaged, or its write was torn
            opening: goes on
    "#]].assert_eq(&text);
}

#[test]
fn files_that_are_missing_or_strange_are_found() {
    let mut world = World::small(1);
    // What no header covers yet is missed by nobody.
    world.commit().expect("room");
    world.ledger.sync().expect("memory syncs");
    for world in [&world, &World::pruned(2)] {
        for path in world.disk.files().keys().filter(|path| !path.ends_with("tree")) {
            let disk = world.disk.fork();
            quipu_log::Disk::remove(&disk, path).expect("it is there");
            // Of a write-ahead log that ends earlier than it did nobody else knows.
            let of_wal = path.starts_with("wal/");
            assert!(of_wal || !check(&disk).is_empty(), "{path} is missing");
            let opened = refused_or_right(&disk, world);
            assert!(of_wal || opened.is_some(), "{path} is missing");
        }
    }
    let disk = world.disk.fork();
    disk.put("lanes/00/notes.txt", vec![1]);
    assert!(check(&disk).iter().any(|finding| finding.damage == Damage::Unknown));
}

/// The bytes that a crash leaves of a file: `old` is durable, `new` was written since.
fn torn(old: &[u8], new: &[u8], keeps: &mut dyn FnMut(usize) -> bool) -> Vec<u8> {
    let mut bytes: Vec<u8> = new.to_vec();
    for (at, byte) in bytes.iter_mut().enumerate() {
        if !keeps(at) {
            *byte = old.get(at).copied().unwrap_or(0);
        }
    }
    bytes
}

/// After a crash the durable part is there, the rest is a prefix, and a check after opening finds nothing.
fn recovers(disk: &MemoryDisk, world: &World, durable: &[u64]) {
    let (ledger, recovered) = open(disk).expect("a crash alone damages nothing");
    assert_eq!(nothing_is_wrong(&ledger, &recovered, world), 0, "all that is there can be read");
    for ((model, tip), durable) in world.lanes.iter().zip(&recovered.tips).zip(durable) {
        assert!(tip.index >= *durable, "what was synced is there");
        assert!(model.tips.contains(tip), "and only what was appended");
    }
    drop(ledger);
    assert_eq!(check(disk), [], "opening mends what a crash did");
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_to_whole_records() {
    let mut world = World::small(3);
    let old = world.disk.files();
    let durable: Vec<u64> = world.lanes.iter().map(|lane| lane.tip().index).collect();
    for count in [2, 0, 3] {
        world.append(0, count).expect("room");
        world.vote(50).expect("room");
    }
    world.ledger.sync().expect("memory syncs");
    let new = world.disk.files();
    for (path, bytes) in &new {
        let before = old.get(path).cloned().unwrap_or_default();
        if before == *bytes {
            continue;
        }
        for end in 0..=bytes.len() {
            let unchanged = end.checked_sub(1).is_some_and(|at| before.get(at) == bytes.get(at));
            if unchanged {
                continue;
            }
            let disk = world.disk.fork();
            for (path, bytes) in &old {
                disk.put(path, bytes.clone());
            }
            disk.put(path, torn(&before, bytes, &mut |at| at < end));
            for created in new.keys().filter(|path| !old.contains_key(*path)) {
                // A segment's header is durable before its first frame.
                if created != path {
                    disk.put(created, new[created][..64].to_vec());
                }
            }
            recovers(&disk, &world, &durable);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn writes_that_a_crash_keeps_in_any_order_never_deceive(
        seed: u64, sector in prop_oneof![Just(8_usize), Just(64), Just(512)],
        chunks in proptest::collection::vec((0..2_usize, 0..6_usize), 1..12),
    ) {
        let mut world = World::small(seed);
        let old = world.disk.files();
        let durable: Vec<u64> = world.lanes.iter().map(|lane| lane.tip().index).collect();
        for (lane, count) in chunks {
            world.append(lane, count).expect("room");
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = world.disk.fork();
        for (path, bytes) in world.disk.files() {
            let before = old.get(&path).cloned().unwrap_or_else(|| bytes[..64].to_vec());
            let kept: Vec<bool> = (0..=bytes.len() / sector).map(|_| random.bool()).collect();
            disk.put(&path, torn(&before, &bytes, &mut |at| kept[at / sector]));
        }
        recovers(&disk, &world, &durable);
    }
}
