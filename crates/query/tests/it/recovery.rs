//! What a store holds after a restart, a crash, and a flipped bit.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use quipu_query::ColumnStore;
use quipu_types::{Schema, Value};

use crate::ledger::{Feeder, SIGNER, append, create, engine, open, runtime, told};

const COLUMNS: &str = "n int8 not null, s text";

/// What the executor would feed at this height: a pure function of it.
fn feed(feeder: &mut Feeder, store: &ColumnStore, height: u64) {
    let schema = Schema::parse(COLUMNS).unwrap();
    match height {
        1 => feeder.feed(store, &[vec![create("a", COLUMNS), create("b", COLUMNS)]]),
        height => {
            let rows = i64::try_from(height * 7 % 5).unwrap();
            let transactions: Vec<_> = (0..rows)
                .map(|row| {
                    let stream = if row % 2 == 0 { "a" } else { "b" };
                    let values = [Value::Int8(row), Value::Text(format!("{height}"))];
                    vec![append(stream, &schema, &values)]
                })
                .collect();
            feeder.feed(store, &transactions);
        }
    }
}

fn everything(store: &ColumnStore) -> String {
    let mut session = engine(store).session("ann", SIGNER);
    runtime().block_on(async {
        let mut all = String::new();
        for sql in [
            "select * from a order by _seqno",
            "select * from b order by _seqno",
            "select * from quipu.headers order by height",
            "select * from quipu.transactions order by seqno",
            "select * from quipu.terms",
            "select name, height from quipu.streams order by name",
            "select stream, count(*), max(_height) from quipu.events group by 1 order by 1",
            "select * from quipu.lanes",
        ] {
            all.push_str(&told(&mut session, sql).await);
            all.push('\n');
        }
        all
    })
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_store_that_was_restarted_answers_like_one_that_was_not(
        stops in proptest::collection::vec((1_u64..12, any::<bool>(), 0_usize..200), 1..5),
    ) {
        let straight = tempfile::tempdir().unwrap();
        let broken = tempfile::tempdir().unwrap();
        let last: u64 = stops.iter().map(|stop| stop.0).sum();
        let whole = open(straight.path());
        let mut feeder = Feeder::new();
        for height in 1..=last {
            feed(&mut feeder, &whole, height);
        }
        let mut reached = 0;
        for (heights, is_flushed, torn) in stops {
            let store = open(broken.path());
            prop_assert!(store.watermark().get() <= reached);
            reached += heights;
            // Feeding begins at height 1: what the store has already, it ignores.
            let mut feeder = Feeder::new();
            for height in 1..=reached {
                feed(&mut feeder, &store, height);
            }
            if is_flushed {
                store.flush().unwrap();
            }
            drop(store);
            // A crash in a later flush leaves bytes behind the last watermark.
            for path in files(broken.path()) {
                let mut bytes = fs::read(&path).unwrap();
                bytes.extend(std::iter::repeat_n(0xa5, torn));
                fs::write(&path, bytes).unwrap();
            }
        }
        let store = open(broken.path());
        let mut feeder = Feeder::new();
        for height in 1..=last {
            feed(&mut feeder, &store, height);
        }
        prop_assert_eq!(everything(&store), everything(&whole));
        prop_assert_eq!(ColumnStore::check(broken.path()), Vec::new());
    }
}

fn flushed(folder: &Path) -> ColumnStore {
    let store = open(folder);
    let mut feeder = Feeder::new();
    for height in 1..=30 {
        feed(&mut feeder, &store, height);
    }
    store.flush().unwrap();
    store
}

#[test]
fn every_flipped_byte_is_found_by_the_check_and_never_read() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = everything(&flushed(folder.path()));
    let mut random = fastrand::Rng::with_seed(3);
    for path in files(folder.path()) {
        let bytes = fs::read(&path).unwrap();
        for _ in 0..12 {
            let place = random.usize(..bytes.len());
            let mut wrong = bytes.clone();
            wrong[place] ^= 1 << random.u8(..8);
            fs::write(&path, &wrong).unwrap();
            let findings = ColumnStore::check(folder.path());
            assert_eq!(findings.len(), 1, "{} at {place}: {findings:?}", path.display());
            assert_eq!(findings[0].file, path);
            if path.extension().is_some_and(|extension| extension == "col")
                && let Ok(store) = ColumnStore::open(folder.path())
            {
                let mut feeder = Feeder::new();
                for height in 1..=30 {
                    feed(&mut feeder, &store, height);
                }
                let found = everything(&store);
                assert!(found.contains("XX001") || found == wanted, "{}", path.display());
            }
        }
        fs::write(&path, &bytes).unwrap();
    }
}

#[test]
fn a_short_file_is_damage_and_a_wiped_store_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = everything(&flushed(folder.path()));
    let path = folder.path().join("public.a.col");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let error = ColumnStore::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("public.a.col") && error.contains("shorter"), "{error}");
    ColumnStore::wipe(folder.path()).unwrap();
    let store = open(folder.path());
    assert_eq!(store.watermark().get(), 0);
    drop(store);
    assert_eq!(everything(&flushed(folder.path())), wanted);
}

#[test]
fn heights_are_taken_in_order_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = flushed(folder.path());
    assert_eq!((store.height().get(), store.watermark().get()), (30, 29));
    let before = everything(&store);
    let mut feeder = Feeder::new();
    for height in 1..=30 {
        feed(&mut feeder, &store, height);
    }
    assert_eq!(everything(&store), before);
}
