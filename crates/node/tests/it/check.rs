//! One flipped byte anywhere in what is stored: the check names the file, a reader never gets the wrong bytes.

use std::num::NonZeroUsize;
use std::path::Path;

use crate::world::{Served, World, append, create_stream, files, route};

fn filled() -> World {
    let world = World::new();
    let served = world.start();
    let mut producer = world.producer(2);
    served.submit(&[producer.sign(None, vec![create_stream("readings")])]);
    for n in 0..20 {
        let place = ["EWR", "JFK", "LGA"][usize::try_from(n % 3).unwrap()];
        let bytes = producer.sign(Some(&route(place)), vec![append("readings", n, place)]);
        assert_eq!(served.submit(&[bytes])[0]["applied"], true);
    }
    served.stop().unwrap();
    world
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_whole_directory_is_clean_and_checking_changes_nothing() {
    let world = filled();
    let before: Vec<_> =
        files(&world.dir()).into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect();
    let report = quipu_node::check(&world.dir(), NonZeroUsize::MIN, |_| {}).unwrap();
    assert_eq!(report.findings, vec![], "{}", report.summary());
    assert_eq!(report.transaction_count, 21);
    assert!(
        report.height_count > 0 && report.certificate_count == report.height_count,
        "{report:?}"
    );
    let after: Vec<_> =
        files(&world.dir()).into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect();
    assert!(before == after, "the same files with the same bytes");
}

#[test]
fn a_flipped_byte_in_any_stored_file_is_found_and_its_file_named() {
    let world = filled();
    let unsaid = ["config.toml", "lock"];
    let mut tried = 0;
    for path in files(&world.dir()) {
        let name = path.strip_prefix(world.dir()).unwrap().display().to_string();
        let bytes = std::fs::read(&path).unwrap();
        if unsaid.contains(&name.as_str()) || bytes.is_empty() {
            continue;
        }
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        for offset in [0, used / 2, used] {
            flip(&path, offset);
            let report = quipu_node::check(&world.dir(), NonZeroUsize::MIN, |_| {}).unwrap();
            let said: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
            assert!(
                said.iter().any(|line| line.contains(&name)),
                "{name} at byte {offset} of {}: {said:?}",
                bytes.len()
            );
            std::fs::write(&path, &bytes).unwrap();
            tried += 1;
        }
    }
    assert!(tried > 20, "{tried} bytes were flipped");
    assert_eq!(
        quipu_node::check(&world.dir(), NonZeroUsize::MIN, |_| {}).unwrap().findings,
        vec![]
    );
}

#[test]
fn a_reader_of_a_byte_that_was_flipped_while_the_validator_runs_gets_an_error() {
    let world = filled();
    let mut config = world.config();
    // What is in memory would not be read again.
    config.limits.chunk_cache_size = 0;
    let served = Served::start(config).unwrap();
    let whole = served.get("/v1/streams/readings/events").text();
    let wanted = b"event 7";
    let mut flipped = 0;
    for path in files(&world.dir().join("lanes")) {
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(wanted.len()).position(|window| window == wanted);
        if let Some(offset) = found {
            use std::os::unix::fs::FileExt;
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.write_all_at(b"E", u64::try_from(offset).unwrap()).unwrap();
            flipped += 1;
        }
    }
    assert_eq!(flipped, 1);
    let read = served.get("/v1/streams/readings/events").text();
    let last = read.lines().last().unwrap();
    assert!(last.contains("\"error\"") && last.contains("QP0301"), "{last}");
    let lines = read.lines().count() - 1;
    assert!(
        whole.lines().take(lines).eq(read.lines().take(lines)),
        "what was read before is what was written"
    );
    assert_eq!(served.get_json("/v1/status")["name"], "test", "the validator goes on");
    served.stop().unwrap();
}

#[test]
fn what_is_derived_is_made_anew() {
    let world = filled();
    for derived in ["state", "columns", "certificates"] {
        let path = world.dir().join(derived);
        if path.is_dir() {
            std::fs::remove_dir_all(&path).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
    }
    let served = world.start();
    assert_eq!(served.get("/v1/streams/readings/events").text().lines().count(), 20);
    served.stop().unwrap();
    assert_eq!(
        quipu_node::check(&world.dir(), NonZeroUsize::MIN, |_| {}).unwrap().findings,
        vec![]
    );
}
