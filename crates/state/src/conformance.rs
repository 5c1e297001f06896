//! One suite that every [`Store`] passes: it behaves like a sorted map, commits whole batches, and keeps them.

use crate::store::{KEY_SIZE_MAX, MemoryStore, Store, Table, WriteBatch};

const ROUND_COUNT: u64 = 60;

/// Runs the suite. `fresh` gives an empty store; `reopen` closes one and opens the same again.
///
/// # Panics
/// When the store does not behave: the message says where.
pub fn conformance<S: Store>(mut fresh: impl FnMut() -> S, mut reopen: impl FnMut(S) -> S) {
    an_empty_store_has_nothing(&fresh());
    let store = the_later_change_wins(fresh());
    drop(reopen(store));
    let store = tables_and_long_keys_do_not_mix(fresh());
    check_long_keys(&reopen(store));
    let (store, twin) = random_batches_equal_a_map(fresh(), &mut reopen);
    compare(&reopen(store), &twin);
}

fn read<S: Store>(store: &S, table: Table, key: &[u8]) -> Option<Vec<u8>> {
    store.get(table, key).expect("a healthy store reads")
}

fn write<S: Store>(store: &mut S, batch: &WriteBatch) {
    store.commit(batch).expect("a healthy store commits");
}

fn an_empty_store_has_nothing<S: Store>(store: &S) {
    for table in Table::ALL {
        assert_eq!(read(store, table, b"key"), None, "{table}");
        assert_eq!(store.scan(table, b"", 10).expect("an empty table scans"), vec![], "{table}");
    }
}

fn the_later_change_wins<S: Store>(mut store: S) -> S {
    let mut batch = WriteBatch::new();
    batch.put(Table::Meta, b"a".to_vec(), b"old".to_vec());
    batch.put(Table::Meta, b"a".to_vec(), b"new".to_vec());
    batch.put(Table::Meta, b"b".to_vec(), b"gone".to_vec());
    batch.delete(Table::Meta, b"b".to_vec());
    batch.delete(Table::Meta, b"never".to_vec());
    batch.put(Table::Meta, b"empty".to_vec(), vec![]);
    write(&mut store, &batch);
    assert_eq!(read(&store, Table::Meta, b"a").as_deref(), Some(b"new".as_slice()));
    assert_eq!(read(&store, Table::Meta, b"b"), None);
    assert_eq!(read(&store, Table::Meta, b"empty").as_deref(), Some(b"".as_slice()));
    write(&mut store, &WriteBatch::new());
    store
}

fn tables_and_long_keys_do_not_mix<S: Store>(mut store: S) -> S {
    let mut batch = WriteBatch::new();
    for table in Table::ALL {
        batch.put(table, vec![0xff; KEY_SIZE_MAX], vec![table.tag(); 100_000]);
        batch.put(table, vec![0], vec![table.tag()]);
    }
    write(&mut store, &batch);
    check_long_keys(&store);
    store
}

fn check_long_keys<S: Store>(store: &S) {
    for table in Table::ALL {
        let rows = store.scan(table, b"", 10).expect("a table scans");
        let wanted = vec![
            (vec![0], vec![table.tag()]),
            (vec![0xff; KEY_SIZE_MAX], vec![table.tag(); 100_000]),
        ];
        assert!(rows == wanted, "table {table} has rows of its own only, sorted");
    }
}

fn random_batches_equal_a_map<S: Store>(
    mut store: S,
    reopen: &mut impl FnMut(S) -> S,
) -> (S, MemoryStore) {
    let mut twin = MemoryStore::new();
    let mut chance = Chance(7);
    for round in 0..ROUND_COUNT {
        let mut batch = WriteBatch::new();
        for _ in 0..chance.below(40) {
            let table = if chance.below(2) == 0 { Table::Account } else { Table::Trie };
            let key = chance.bytes(4, 3);
            match chance.below(3) {
                0 => batch.delete(table, key),
                _ => batch.put(table, key, chance.bytes(3_000, 256)),
            }
        }
        write(&mut store, &batch);
        write(&mut twin, &batch);
        if round.is_multiple_of(20) {
            store = reopen(store);
        }
        compare(&store, &twin);
        let from = chance.bytes(4, 3);
        let limit = usize::try_from(chance.below(9)).expect("below 9");
        for table in [Table::Account, Table::Trie] {
            let rows = store.scan(table, &from, limit).expect("a table scans");
            let wanted = twin.scan(table, &from, limit).expect("memory does not fail");
            assert!(rows == wanted, "round {round}: scan of {table} from {from:?}, {limit} rows");
        }
    }
    (store, twin)
}

fn compare<S: Store>(store: &S, twin: &MemoryStore) {
    for table in Table::ALL {
        let wanted = twin.scan(table, b"", usize::MAX).expect("memory does not fail");
        let rows = store.scan(table, b"", usize::MAX).expect("a table scans");
        assert!(rows == wanted, "{table}: other rows than a map has");
        for (key, value) in &wanted {
            assert!(read(store, table, key).as_ref() == Some(value), "{table} {key:?}");
        }
    }
}

/// A small generator of repeatable chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33).checked_rem(bound).unwrap_or(0)
    }

    /// Up to `size_max` bytes, at least one, each below `bound`.
    fn bytes(&mut self, size_max: u64, bound: u64) -> Vec<u8> {
        let size = self.below(size_max).saturating_add(1);
        (0..size).map(|_| u8::try_from(self.below(bound)).unwrap_or(u8::MAX)).collect()
    }
}
