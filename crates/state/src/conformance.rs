//! One suite that every [`Store`] passes: it behaves like a sorted map, commits whole batches, keeps them, and
//! holds after a machine that speculates what it holds after one that does not.

use quipu_crypto::hash::sha256;
use quipu_types::genesis::{GENESIS_VERSION, GenesisAccount};
use quipu_types::{
    AccountId, Action, Encode, Genesis, Hash, Height, Lane, PublicKey, Seqno, Signature, Suite,
    Time, Transaction, Voters,
};

use crate::machine::{Machine, Ordered, OrderedBlock};
use crate::store::{KEY_SIZE_MAX, MemoryStore, Store, Table, WriteBatch};

const ROUND_COUNT: u64 = 60;
const HEIGHT_COUNT: u64 = 24;

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
    let (store, twin) = speculation_leaves_nothing(fresh(), &mut reopen);
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

/// Every height is decided with a wrong block, the right one, or none executed ahead; the twin never does.
fn speculation_leaves_nothing<S: Store>(
    store: S,
    reopen: &mut impl FnMut(S) -> S,
) -> (S, MemoryStore) {
    let genesis = genesis();
    let mut machine = Machine::open(store, &genesis).expect("a healthy store opens");
    let mut twin = Machine::open(MemoryStore::new(), &genesis).expect("memory opens");
    for number in 1..=HEIGHT_COUNT {
        let (height, anchor) = (Height::new(number), machine.chain());
        if number % 3 > 0 {
            let wrong = transfer(number, 1_000, anchor);
            let held = with_block(height, "wrong", &wrong, |block| machine.speculate(block));
            held.expect("a healthy store reads");
        }
        let right = transfer(number, number, anchor);
        if number % 3 > 1 {
            let held = with_block(height, "right", &right, |block| machine.speculate(block));
            held.expect("a healthy store reads");
        }
        if number.is_multiple_of(5) {
            machine.flush().expect("a healthy store commits");
        }
        let applied = with_block(height, "right", &right, |block| machine.apply(block));
        let wanted = with_block(height, "right", &right, |block| twin.apply(block));
        let (applied, wanted) = (applied.expect("healthy"), wanted.expect("memory reads"));
        assert!(applied == wanted, "height {number}: other receipts or roots after speculation");
        if number.is_multiple_of(7) {
            machine.flush().expect("a healthy store commits");
            machine =
                Machine::open(reopen(machine.into_store()), &genesis).expect("it opens again");
        }
    }
    assert!(machine.speculation_counts().dropped > 0, "wrong blocks are dropped");
    machine.flush().expect("a healthy store commits");
    twin.flush().expect("memory flushes");
    (machine.into_store(), twin.into_store())
}

fn with_block<T>(
    height: Height,
    name: &str,
    transaction: &Transaction,
    act: impl FnOnce(&OrderedBlock<'_>) -> T,
) -> T {
    let ordered = Ordered {
        lane: Lane::new(0),
        seqno: Seqno::new(height.get()),
        tx: sha256(&transaction.to_bytes()),
        transaction,
    };
    act(&OrderedBlock {
        epoch: 0,
        height,
        header_hash: sha256(format!("{name} {height}").as_bytes()),
        time_us: Time::new(height.get()),
        transactions: &[ordered],
        present: Voters::default(),
    })
}

fn payer() -> PublicKey {
    PublicKey::new(Suite::Ed25519Sha256, &[b'p'; 32]).expect("32 bytes")
}

fn transfer(sequence: u64, amount: u64, anchor: Hash) -> Transaction {
    let to = AccountId([u8::try_from(sequence % 7).unwrap_or(0); 32]);
    Transaction {
        signer: payer(),
        incarnation: 0,
        sequence,
        anchor,
        route: None,
        actions: vec![Action::Transfer { to, amount }],
        signature: Signature([0; 64]),
    }
}

fn genesis() -> Genesis {
    let account = quipu_crypto::suite::account(&payer());
    Genesis {
        version: GENESIS_VERSION,
        name: "conformance".into(),
        time_us: Time::new(1),
        lane_count: 1,
        clock_seed: "conformance".into(),
        clock_rate_hz: 1,
        hash_rate_fastest_hz: 1,
        anchor_window_heights: HEIGHT_COUNT,
        height_interval_min_ms: 1,
        height_interval_idle_ms: 1,
        open_streams: false,
        validators: vec![],
        accounts: vec![GenesisAccount { account, balance: 1_000 }],
        coin: None,
        stake: None,
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
