//! Execution: outcomes, atomicity, crashes and replays, prices.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use proptest::collection::vec;
use proptest::prelude::*;
use quipu_crypto::hash::{leaf_hash, sha256_concat};
use quipu_types::genesis::{GENESIS_VERSION, GenesisAccount};
use quipu_types::{
    Action, Outcome, RouteRule, Schema, Signature, StreamSpec, Suite, Value, Voters, Writers,
};

use super::*;
use crate::store::MemoryStore;
use crate::verify_trie;

const WINDOW: u64 = 3;

fn genesis(open_streams: bool) -> Genesis {
    let account = |name: u8, balance| GenesisAccount { account: AccountId([name; 32]), balance };
    Genesis {
        version: GENESIS_VERSION,
        name: "test".into(),
        time_us: Time::new(1_000_000),
        lane_count: 4,
        clock_seed: "seed".into(),
        clock_rate_hz: 1,
        hash_rate_fastest_hz: 1,
        anchor_window_heights: WINDOW,
        height_interval_min_ms: 1,
        height_interval_idle_ms: 1,
        open_streams,
        validators: vec![],
        accounts: vec![account(b'a', 1_000), account(b'b', u64::MAX - 5), account(b'c', 0)],
        coin: None,
        stake: None,
    }
}

fn open(store: MemoryStore) -> Machine<MemoryStore> {
    Machine::open(store, &genesis(false)).expect("memory opens")
}

fn header_hash(height: u64) -> Hash {
    if height == 0 { names::chain_id(&genesis(false)) } else { sha256(&height.to_le_bytes()) }
}

fn signer(name: char) -> PublicKey {
    let byte = u8::try_from(name).expect("ASCII");
    PublicKey::new(Suite::Ed25519Sha256, &[byte; 32]).expect("32 bytes")
}

fn account(name: char) -> AccountId {
    AccountId([u8::try_from(name).expect("ASCII"); 32])
}

/// `who` is `signer[/incarnation].sequence[@anchor height]`.
fn tx(who: &str, route: Option<&[u8]>, actions: Vec<Action>) -> Transaction {
    let (who, anchor) = who.split_once('@').unwrap_or((who, "0"));
    let (who, sequence) = who.split_once('.').expect("signer.sequence");
    let (name, incarnation) = who.split_once('/').unwrap_or((who, "0"));
    Transaction {
        signer: signer(name.chars().next().expect("a name")),
        incarnation: incarnation.parse().expect("a number"),
        sequence: sequence.parse().expect("a number"),
        anchor: anchor.parse().map_or(Hash([9; 32]), header_hash),
        route: route.map(<[u8]>::to_vec),
        actions,
        signature: Signature([0; 64]),
    }
}

fn schema() -> Schema {
    Schema::parse("carrier text not null, delay int4, code numeric(4,1)").expect("a schema")
}

fn create(name: &str, route: Option<&str>, writers: Writers) -> Action {
    let route = route.map_or(RouteRule::Signer, |column| RouteRule::Column(column.into()));
    let (name, schema) = (name.into(), schema());
    Action::CreateStream(StreamSpec { name, schema, route, writers, compacted: false })
}

fn append(stream: &str, carrier: &str, delay: Option<i32>) -> Action {
    let row = [Value::Text(carrier.into()), delay.map_or(Value::Null, Value::Int4), Value::Null];
    let payload = schema().encode_row(&row).expect("a row");
    Action::Append { stream: stream.into(), key: vec![], payload }
}

fn transfer(to: char, amount: u64) -> Action {
    Action::Transfer { to: account(to), amount }
}

fn apply<S: Store>(machine: &mut Machine<S>, transactions: &[Transaction]) -> Applied {
    try_apply(machine, transactions).expect("the store is healthy")
}

fn try_apply<S: Store>(
    machine: &mut Machine<S>,
    transactions: &[Transaction],
) -> Result<Applied, StateError> {
    let height = machine.applied().next();
    with_block(height, header_hash(height.get()), transactions, |block| machine.apply(block))
}

/// Shows `act` the block of these transactions.
fn with_block<T>(
    height: Height,
    header_hash: Hash,
    transactions: &[Transaction],
    act: impl FnOnce(&OrderedBlock<'_>) -> T,
) -> T {
    let ordered: Vec<Ordered<'_>> = (0_u64..)
        .zip(transactions)
        .map(|(index, transaction)| Ordered {
            lane: Lane::new(1),
            seqno: Seqno::new(height.get().saturating_mul(100).saturating_add(index)),
            tx: sha256_concat(&[&height.to_bytes(), &index.to_le_bytes(), &transaction.to_bytes()]),
            transaction,
        })
        .collect();
    act(&OrderedBlock {
        epoch: 0,
        height,
        header_hash,
        time_us: Time::new(height.get()),
        transactions: &ordered,
        present: Voters::default(),
    })
}

fn outcome_text(receipt: &Receipt) -> String {
    match receipt.outcome {
        Outcome::Applied => "applied".into(),
        Outcome::Refused { code, action } => {
            let place = action.map_or(String::new(), |action| format!(" (action {action})"));
            format!("{code} {}{place}", code.explanation().title)
        }
    }
}

/// Runs blocks of transactions and shows what became of each, and what the state says in the end.
fn check(machine: &mut Machine<MemoryStore>, blocks: &[Vec<Transaction>], wanted: &Expect) {
    let mut text = String::new();
    for block in blocks {
        let applied = apply(machine, block);
        let height = machine.applied();
        for receipt in &applied.receipts {
            writeln!(text, "{height}: {}", outcome_text(receipt)).expect("a string takes it");
        }
    }
    for (account, balance) in machine.accounts(&AccountId([0; 32]), 10).expect("healthy") {
        let name = char::from(account.0[0]);
        writeln!(text, "account {name} {balance}").expect("a string takes it");
    }
    for stream in machine.streams("", 10).expect("healthy") {
        let name = &stream.spec.name;
        let count = machine.event_count(name).expect("healthy");
        writeln!(text, "stream {name} {count}").expect("a string takes it");
    }
    wanted.assert_eq(&text);
}

#[test]
fn transfers_move_units_or_say_why_not() {
    check(
        &mut open(MemoryStore::new()),
        &[vec![
            tx("a.1", None, vec![transfer('d', 300)]),
            tx("a.2", None, vec![transfer('d', 600), transfer('d', 101)]),
            tx("a.3", None, vec![transfer('a', 700), transfer('e', 0), transfer('a', 701)]),
            tx("a.4", None, vec![transfer('b', 6)]),
            tx("d.1", None, vec![transfer('a', 300)]),
            tx("x.1", None, vec![transfer('a', 1)]),
            tx("x.2", None, vec![transfer('a', 0)]),
        ]],
        &expect![[r#"
            1: applied
            1: QP0202 account has too few units (action 1)
            1: QP0202 account has too few units (action 2)
            1: QP0209 balance would overflow (action 0)
            1: applied
            1: QP0202 account has too few units (action 0)
            1: applied
            account a 1000
            account b 18446744073709551610
        "#]],
    );
}

#[test]
fn streams_are_created_once_and_take_rows_of_their_schema_from_their_writers() {
    let accounts = Writers::Accounts(vec![account('a'), account('b')]);
    check(
        &mut open(MemoryStore::new()),
        &[
            vec![
                tx("a.1", None, vec![append("s", "AA", None)]),
                tx("a.2", None, vec![create("s", None, Writers::Creator), append("s", "AA", None)]),
                tx(
                    "a.3",
                    None,
                    vec![create("t", None, accounts), create("s", None, Writers::Anyone)],
                ),
                tx("a.4", None, vec![create("pg_x", None, Writers::Anyone)]),
                tx("a.5", None, vec![create("quipu_x", None, Writers::Anyone)]),
            ],
            vec![
                tx("a.6", None, vec![append("s", "AA", None), append("s", "BB", Some(1))]),
                tx("b.1", None, vec![append("s", "AA", None)]),
                tx("b.2", None, vec![append("t", "AA", None)]),
                tx("a.7", None, vec![create("t", None, Writers::Accounts(vec![account('b')]))]),
                tx("a.8", None, vec![append("t", "AA", None)]),
                tx("b.3", None, vec![append("t", "AA", None), append("u", "AA", None)]),
                tx(
                    "b.4",
                    None,
                    vec![Action::Append {
                        stream: "t".into(),
                        key: vec![],
                        payload: vec![1, 2, 3],
                    }],
                ),
                tx("b.5", Some(b"AA"), vec![append("t", "AA", None)]),
            ],
        ],
        &expect![[r#"
            1: QP0203 no such stream (action 0)
            1: applied
            1: QP0204 stream exists already (action 1)
            1: QP0208 name is reserved (action 0)
            1: QP0208 name is reserved (action 0)
            2: applied
            2: QP0205 signer may not append to this stream (action 0)
            2: QP0203 no such stream (action 0)
            2: applied
            2: QP0205 signer may not append to this stream (action 0)
            2: QP0203 no such stream (action 1)
            2: QP0207 payload is no row of the stream (action 0)
            2: QP0206 transaction has another route than its stream (action 0)
            account a 1000
            account b 18446744073709551610
            stream s 3
            stream t 0
        "#]],
    );
}

#[test]
fn a_stream_routed_by_a_column_takes_that_route_only() {
    let delay = 7_i32.to_le_bytes();
    check(
        &mut open(MemoryStore::new()),
        &[
            vec![
                tx("a.1", Some(b"any"), vec![create("s", Some("carrier"), Writers::Creator)]),
                tx("a.2", None, vec![create("d", Some("delay"), Writers::Creator)]),
                tx("a.3", None, vec![create("n", Some("nothing"), Writers::Creator)]),
            ],
            vec![
                tx("a.4", Some(b"AA"), vec![append("s", "AA", None), append("s", "AA", Some(2))]),
                tx("a.5", Some(b"AA"), vec![append("s", "AA", None), append("s", "BB", Some(2))]),
                tx("a.6", None, vec![append("s", "AA", None)]),
                tx("a.7", Some(b""), vec![append("d", "AA", None)]),
                tx("a.8", Some(&delay), vec![append("d", "AA", Some(7))]),
                tx("a.9", Some(&delay), vec![append("d", "AA", Some(8))]),
                tx("a.10", None, vec![append("d", "AA", None)]),
            ],
        ],
        &expect![[r#"
            1: applied
            1: applied
            1: QP0206 transaction has another route than its stream (action 0)
            2: applied
            2: QP0206 transaction has another route than its stream (action 1)
            2: QP0206 transaction has another route than its stream (action 0)
            2: applied
            2: applied
            2: QP0206 transaction has another route than its stream (action 0)
            2: QP0206 transaction has another route than its stream (action 0)
            account a 1000
            account b 18446744073709551610
            stream d 2
            stream s 2
        "#]],
    );
}

#[test]
fn sequences_are_dense_and_a_higher_incarnation_fences_the_lower() {
    let nothing = || vec![transfer('a', 0)];
    check(
        &mut open(MemoryStore::new()),
        &[
            vec![
                tx("a.2", None, nothing()),
                tx("a.1", None, nothing()),
                tx("a.1", None, nothing()),
                tx("a.0", None, nothing()),
                tx("b/3.1", None, nothing()),
            ],
            vec![
                tx("a.2", None, nothing()),
                tx("a/1.3", None, nothing()),
                tx("a/1.1", None, nothing()),
                tx("a.3", None, nothing()),
                tx("a/1.2", None, nothing()),
                tx("b/2.1", None, nothing()),
            ],
        ],
        &expect![[r#"
            1: QP0103 sequence leaves a gap
            1: applied
            1: QP0102 sequence was used before
            1: QP0102 sequence was used before
            1: applied
            2: applied
            2: QP0103 sequence leaves a gap
            2: applied
            2: QP0104 a newer incarnation of this producer is active
            2: applied
            2: QP0104 a newer incarnation of this producer is active
            account a 1000
            account b 18446744073709551610
        "#]],
    );
}

#[test]
fn an_anchor_is_good_for_the_window_and_told_from_an_unknown_one_for_twice_that() {
    let mut machine = open(MemoryStore::new());
    let nothing = || vec![transfer('a', 0)];
    let blocks: Vec<_> = (1..=8_u64)
        .map(|height| {
            let mut block = vec![tx(&format!("a.{height}@0"), None, nothing())];
            if height == 8 {
                block.push(tx("b.1@7", None, nothing()));
                block.push(tx("b.2@5", None, nothing()));
                block.push(tx("b.3@4", None, nothing()));
                block.push(tx("b.4@8", None, nothing()));
                block.push(tx("b.5@never", None, nothing()));
            }
            block
        })
        .collect();
    check(
        &mut machine,
        &blocks,
        &expect![[r#"
        1: applied
        2: applied
        3: applied
        4: QP0201 anchor is too old
        5: QP0201 anchor is too old
        6: QP0201 anchor is too old
        7: QP0107 anchor is not in this history
        8: QP0107 anchor is not in this history
        8: applied
        8: applied
        8: QP0201 anchor is too old
        8: QP0107 anchor is not in this history
        8: QP0107 anchor is not in this history
        account a 1000
        account b 18446744073709551610
    "#]],
    );
    for height in 0..=30 {
        apply(&mut machine, &[]);
        assert_eq!(machine.anchor(&header_hash(height)).expect("healthy"), None, "{height}");
    }
    let mut anchors = 0;
    machine
        .rows(Table::Anchor, |_, _| {
            anchors += 1;
            Ok(())
        })
        .expect("healthy");
    assert_eq!(anchors, 2 * WINDOW + 1, "older anchors are gone");
}

#[test]
fn open_streams_let_anyone_append_where_the_creator_did_not_choose() {
    let mut machine = Machine::open(MemoryStore::new(), &genesis(true)).expect("memory opens");
    let anchored = |mut transaction: Transaction| {
        transaction.anchor = machine.chain();
        transaction
    };
    let only_a = Writers::Accounts(vec![account('a')]);
    let block = vec![
        anchored(tx("a.1", None, vec![create("s", None, Writers::Creator)])),
        anchored(tx("a.2", None, vec![create("t", None, only_a)])),
        anchored(tx("b.1", None, vec![append("s", "AA", None)])),
        anchored(tx("b.2", None, vec![append("t", "AA", None)])),
    ];
    check(
        &mut machine,
        &[block],
        &expect![[r#"
        1: applied
        1: applied
        1: applied
        1: QP0205 signer may not append to this stream (action 0)
        account a 1000
        account b 18446744073709551610
        stream s 1
        stream t 0
    "#]],
    );
}

#[test]
fn fees_are_paid_also_by_what_can_not_run_and_never_in_part() {
    let prices =
        Prices { transaction: 10, append: 5, append_byte: 1, transfer: 2, stream_create: 100 };
    let store = MemoryStore::new();
    let mut machine = Machine::open_priced(store, &genesis(false), prices).expect("memory opens");
    let blocks = [
        vec![tx("a.1", None, vec![create("s", None, Writers::Creator)])],
        vec![tx("a.2", None, vec![append("s", "AA", None), append("s", "AA", Some(1))])],
        vec![tx("a.3", None, vec![append("none", "AA", None)])],
        vec![tx("a.4@never", None, vec![transfer('d', 11)])],
        vec![tx("a.5@3", None, vec![transfer('d', 11)])],
        vec![tx("d.1@3", None, vec![transfer('a', 1)])],
    ];
    let fees: Vec<u64> =
        blocks.iter().map(|block| apply(&mut machine, block).receipts[0].fee).collect();
    assert_eq!(fees, [110, 10 + 2 * 5 + 7 + 11, 10 + 5 + 7, 12, 12, 0]);
    let left = machine.balance(&account('a')).expect("healthy");
    assert_eq!(left, 1_000 - fees.iter().sum::<u64>() - 11);
    assert_eq!(machine.balance(&account('d')).expect("healthy"), 11);
}

#[test]
fn a_height_that_does_not_follow_and_a_foreign_store_are_refused() {
    let mut machine = open(MemoryStore::new());
    let block = OrderedBlock {
        epoch: 0,
        height: Height::new(2),
        header_hash: Hash::ZERO,
        time_us: Time::new(0),
        transactions: &[],
        present: Voters::default(),
    };
    assert!(matches!(machine.apply(&block), Err(StateError::Height { .. })));
    assert_eq!(machine.applied(), Height::new(0));
    let error = Machine::open(machine.into_store(), &genesis(true)).expect_err("another chain");
    assert_eq!(error.code(), code::STORE_FOREIGN);
}

#[test]
fn empty_heights_keep_the_root_and_have_the_empty_receipts_root() {
    let mut machine = open(MemoryStore::new());
    let before = machine.state_root();
    for _ in 0..10 {
        let applied = apply(&mut machine, &[]);
        assert_eq!((applied.state_root, applied.receipts_root), (before, merkle::empty_root()));
    }
    assert_eq!(machine.unflushed_heights(), 10);
    machine.flush().expect("memory flushes");
    assert_eq!(machine.unflushed_heights(), 0);
    assert_eq!(machine.receipts(Height::new(10)).expect("healthy"), Some(vec![]));
    assert_eq!(machine.receipts(Height::new(11)).expect("healthy"), None);
}

#[test]
fn reads_find_every_transaction_and_receipt_of_a_height_of_several_parts() {
    let mut machine = open(MemoryStore::new());
    let count = 2_500_u64;
    let block: Vec<_> = (1..=count)
        .map(|sequence| tx(&format!("a.{sequence}"), None, vec![transfer('d', sequence % 2)]))
        .collect();
    let applied = apply(&mut machine, &block);
    for flush in [false, true] {
        if flush {
            machine.flush().expect("memory flushes");
        }
        let receipts = machine.receipts(Height::new(1)).expect("healthy").expect("executed");
        assert_eq!(receipts, applied.receipts);
        for (ordinal, receipt) in (0_u32..).zip(&receipts) {
            let place = machine.tx(&receipt.tx).expect("healthy").expect("executed");
            assert_eq!((place.ordinal, place.height), (ordinal, Height::new(1)));
            assert_eq!(machine.receipt(Height::new(1), ordinal).expect("healthy"), Some(*receipt));
        }
    }
    assert_eq!(machine.receipt(Height::new(1), 2_500).expect("healthy"), None);
    let leaves: Vec<Hash> =
        applied.receipts.iter().map(|receipt| leaf_hash(&receipt.to_bytes())).collect();
    assert_eq!(merkle::root(&leaves), applied.receipts_root);
}

#[test]
fn balances_streams_and_sequences_are_proven_and_the_first_root_is_frozen() {
    let mut machine = open(MemoryStore::new());
    let block = [
        tx("a.1", None, vec![transfer('d', 5), create("s", None, Writers::Creator)]),
        tx("a.2", None, vec![append("s", "AA", Some(1))]),
    ];
    let root = apply(&mut machine, &block).state_root;
    let sequence = sequence_key(Lane::new(1), &signer('a'));
    let keys: [(Table, &[u8]); 7] = [
        (Table::Account, &[b'a'; 32]),
        (Table::Account, &[b'd'; 32]),
        (Table::Account, &[b'z'; 32]),
        (Table::Stream, b"s"),
        (Table::Stream, b"none"),
        (Table::EventCount, b"s"),
        (Table::Sequence, &sequence),
    ];
    let mut text = format!("{root}\n");
    for (table, key) in keys {
        let (value, proof) = machine.prove(table, key).expect("healthy");
        let hash = value.as_deref().map(sha256);
        assert!(verify_trie(&root, &trie_key(table, key), hash.as_ref(), &proof));
        let wrong = sha256(b"wrong");
        assert!(!verify_trie(&root, &trie_key(table, key), Some(&wrong), &proof));
        let size = value.map_or(0, |value| value.len());
        writeln!(text, "{table}: {size} bytes").expect("a string takes it");
    }
    expect![[r#"
        2640d1e40ddfb21ddb329e3f0ac7a244379bf95c004db53b9aab22be48c468a6
        account: 8 bytes
        account: 8 bytes
        account: 0 bytes
        stream: 102 bytes
        stream: 0 bytes
        event_count: 8 bytes
        sequence: 12 bytes
    "#]]
    .assert_eq(&text);
}

/// A store that refuses one commit or one read.
#[derive(Debug, Default)]
struct Failing {
    inner: MemoryStore,
    refuse_commit: bool,
    refuse_table: Option<Table>,
}

impl Store for Failing {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if self.refuse_table == Some(table) {
            return Err(damaged(table, key));
        }
        self.inner.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        from: &[u8],
        limit: usize,
    ) -> Result<crate::store::Rows, StoreError> {
        self.inner.scan(table, from, limit)
    }

    fn commit(&mut self, batch: &WriteBatch) -> Result<(), StoreError> {
        if self.refuse_commit { Err(StoreError::Full) } else { self.inner.commit(batch) }
    }
}

#[test]
fn a_store_that_fails_leaves_the_machine_as_it_was() {
    let mut machine = Machine::open(Failing::default(), &genesis(false)).expect("memory opens");
    let mut twin = open(MemoryStore::new());
    let block = [
        tx("a.1", None, vec![create("s", None, Writers::Creator), append("s", "AA", None)]),
        tx("b.1", None, vec![transfer('b', 1)]),
    ];
    for table in [Table::Sequence, Table::Anchor, Table::Account, Table::Stream, Table::Trie] {
        machine.view.store.refuse_table = Some(table);
        let error = try_apply(&mut machine, &block).expect_err("the store refuses");
        assert_eq!(error.code(), code::STORE_DAMAGED, "{table}");
        assert_eq!(machine.unflushed_heights(), 0);
    }
    machine.view.store.refuse_table = None;
    assert_eq!(apply(&mut machine, &block), apply(&mut twin, &block));
    machine.view.store.refuse_commit = true;
    assert_eq!(machine.flush().expect_err("the disk is full").code(), code::STORE_FULL);
    assert_eq!(machine.unflushed_heights(), 1);
    machine.view.store.refuse_commit = false;
    machine.flush().expect("there is room again");
    twin.flush().expect("memory flushes");
    assert_eq!(machine.view.store.inner, twin.into_store());
}

#[test]
fn a_damaged_root_is_found_at_start() {
    let mut machine = open(MemoryStore::new());
    apply(&mut machine, &[tx("a.1", None, vec![transfer('d', 5)])]);
    machine.flush().expect("memory flushes");
    let mut store = machine.into_store();
    let mut batch = WriteBatch::new();
    batch.delete(Table::Trie, vec![0]);
    store.commit(&batch).expect("memory commits");
    let error = Machine::open(store, &genesis(false)).expect_err("the root page is missing");
    assert_eq!(error.code(), code::STORE_DAMAGED);
}

#[test]
fn memory_behaves_as_every_store_must() {
    crate::conformance(MemoryStore::new, |store| store);
}

fn action() -> impl Strategy<Value = Action> {
    let name = prop::sample::select(vec!["s", "t", "u", "pg_v"]);
    let who = prop::sample::select(vec!['a', 'b', 'c', 'd']);
    let route = prop::sample::select(vec![None, Some("carrier")]);
    let writers = prop::sample::select(vec![Writers::Creator, Writers::Anyone]);
    prop_oneof![
        3 => (name.clone(), prop::sample::select(vec!["AA", "BB"]), any::<Option<i32>>())
            .prop_map(|(name, carrier, delay)| append(name, carrier, delay)),
        3 => (who, 0..800_u64).prop_map(|(to, amount)| transfer(to, amount)),
        2 => (0..12_usize, 0..4_usize, 0..4_usize, 0..4_usize)
            .prop_map(|(op, a, b, c)| groups::any_action([op, a, b, c])),
        1 => (name, route, writers)
            .prop_map(|(name, route, writers)| create(name, route, writers)),
    ]
}

fn transaction() -> impl Strategy<Value = Transaction> {
    let who = prop::sample::select(vec!['a', 'b', 'c', 'd']);
    let route = prop::sample::select(vec![None, Some(b"AA".as_slice())]);
    (who, 0..2_u32, 1..6_u64, 0..12_u64, route, vec(action(), 1..4)).prop_map(
        |(who, incarnation, sequence, anchor, route, actions)| {
            tx(&format!("{who}/{incarnation}.{sequence}@{anchor}"), route, actions)
        },
    )
}

/// What a driver may do between two blocks.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Go,
    Flush,
    Crash,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![2 => Just(Fate::Go), 2 => Just(Fate::Flush), 1 => Just(Fate::Crash)]
}

fn dump<S: Store>(machine: &Machine<S>) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let mut rows = vec![];
    let visit = |table, key: &[u8], value: &[u8]| rows.push((table, key.to_vec(), value.to_vec()));
    machine.dump(visit).expect("healthy");
    rows
}

proptest! {
    #[test]
    fn any_schedule_of_flushes_and_crashes_gives_the_same_receipts_roots_and_tables(
        blocks in vec(vec(transaction(), 0..8), 1..12),
        fates in vec(fate(), 40),
    ) {
        let mut twin = open(MemoryStore::new());
        let wanted: Vec<Applied> = blocks.iter().map(|block| apply(&mut twin, block)).collect();
        let mut machine = open(MemoryStore::new());
        let mut fates = fates.into_iter();
        loop {
            let next = usize::try_from(machine.applied().get()).expect("small");
            let Some(block) = blocks.get(next) else { break };
            prop_assert_eq!(&apply(&mut machine, block), &wanted[next]);
            match fates.next().unwrap_or(Fate::Go) {
                Fate::Go => {}
                Fate::Flush => machine.flush().expect("memory flushes"),
                Fate::Crash => machine = open(machine.into_store()),
            }
        }
        prop_assert_eq!(dump(&machine), dump(&twin));
        machine.flush().expect("memory flushes");
        prop_assert_eq!(dump(&open(machine.into_store())), dump(&twin));
    }

    #[test]
    fn units_are_neither_made_nor_lost_and_every_receipt_reads_back(
        blocks in vec(vec(transaction(), 0..8), 1..8),
    ) {
        let mut machine = open(MemoryStore::new());
        let sum = |machine: &Machine<MemoryStore>| {
            let accounts = machine.accounts(&AccountId([0; 32]), 100).expect("healthy");
            accounts.iter().map(|(_, balance)| u128::from(*balance)).sum::<u128>()
        };
        let before = sum(&machine);
        for block in &blocks {
            let applied = apply(&mut machine, block);
            prop_assert_eq!(sum(&machine), before);
            let height = machine.applied();
            prop_assert_eq!(machine.receipts(height).expect("healthy"), Some(applied.receipts));
            let record = machine.state(height).expect("healthy").expect("executed");
            prop_assert_eq!(record.state_root, applied.state_root);
        }
    }

    #[test]
    fn scans_over_store_and_overlay_equal_scans_after_a_flush(
        blocks in vec(vec(transaction(), 0..8), 2..8),
        limit in 0..12_usize,
    ) {
        let mut machine = open(MemoryStore::new());
        for (index, block) in blocks.iter().enumerate() {
            apply(&mut machine, block);
            if index == blocks.len() / 2 {
                machine.flush().expect("memory flushes");
            }
        }
        let scan = |machine: &Machine<MemoryStore>| {
            let tables = Table::ALL.into_iter();
            tables.map(|table| machine.view.scan(table, b"b", limit).expect("healthy")).collect::<Vec<_>>()
        };
        let (before, all) = (scan(&machine), dump(&machine));
        machine.flush().expect("memory flushes");
        prop_assert_eq!(before, scan(&machine));
        prop_assert_eq!(all, dump(&machine));
    }
}

mod anchors;
mod compacted;
mod groups;
mod speculation;
mod stake;
mod tables;
