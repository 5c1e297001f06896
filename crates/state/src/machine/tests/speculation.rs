//! Speculation: what is held shows nowhere, what is kept is what executing gives, what is dropped never was.

use super::*;
use crate::SpeculationCounts;

/// The header of a block that is proposed and not committed.
fn other_hash(salt: u64) -> Hash {
    sha256_concat(&[b"other", &salt.to_le_bytes()])
}

fn speculate<S: Store>(machine: &mut Machine<S>, header: Hash, transactions: &[Transaction]) {
    try_speculate(machine, header, transactions).expect("the store is healthy");
}

fn try_speculate<S: Store>(
    machine: &mut Machine<S>,
    header: Hash,
    transactions: &[Transaction],
) -> Result<(), StateError> {
    let height = machine.applied().next();
    with_block(height, header, transactions, |block| machine.speculate(block))
}

/// The header that `apply` gives the next block.
fn next_hash<S: Store>(machine: &Machine<S>) -> Hash {
    header_hash(machine.applied().next().get())
}

fn counts(kept: u64, dropped: u64) -> SpeculationCounts {
    SpeculationCounts { kept, dropped }
}

/// Everything that a reader can see, and what the store holds.
fn seen(machine: &Machine<MemoryStore>) -> impl PartialEq + std::fmt::Debug + use<> {
    let next = machine.applied().next();
    let points = (
        machine.state(next).expect("healthy"),
        machine.receipts(next).expect("healthy"),
        machine.receipt(next, 0).expect("healthy"),
        machine.prove(Table::Account, &account('a').0).expect("healthy"),
        machine.prove(Table::Stream, b"s").expect("healthy"),
    );
    let lists = (
        machine.accounts(&account('b'), 2).expect("healthy"),
        machine.streams("t", 2).expect("healthy"),
        machine.sequences().expect("healthy"),
        ['a', 'b', 'c', 'd'].map(|name| machine.balance(&account(name)).expect("healthy")),
        ["s", "t", "u"].map(|name| machine.stream(name).expect("healthy")),
        ["s", "t", "u"].map(|name| machine.event_count(name).expect("healthy")),
    );
    let place = (machine.applied(), machine.flushed(), machine.state_root());
    let waiting = (machine.unflushed_heights(), machine.unflushed_size());
    (points, lists, place, waiting, dump(machine), machine.store().clone())
}

#[test]
fn what_a_dropped_speculation_spent_can_be_spent() {
    let mut machine = open(MemoryStore::new());
    speculate(&mut machine, other_hash(0), &[tx("a.1", None, vec![transfer('d', 900)])]);
    assert_eq!(machine.speculated(), Some((Height::new(1), other_hash(0))));
    assert_eq!(machine.balance(&account('a')).expect("healthy"), 1_000);
    assert_eq!(machine.balance(&account('d')).expect("healthy"), 0);
    check(
        &mut machine,
        &[vec![
            tx("a.1", None, vec![transfer('e', 800)]),
            tx("a.2", None, vec![transfer('d', 200)]),
            tx("d.1", None, vec![transfer('a', 201)]),
        ]],
        &expect![[r#"
            1: applied
            1: applied
            1: QP0202 account has too few units (action 0)
            account b 18446744073709551610
            account d 200
            account e 800
        "#]],
    );
    assert_eq!(machine.speculated(), None);
    assert_eq!(machine.speculation_counts(), counts(0, 1));
}

#[test]
fn streams_and_anchors_of_a_dropped_speculation_are_not_remembered() {
    let mut machine = open(MemoryStore::new());
    apply(&mut machine, &[tx("a.1", None, vec![create("t", None, Writers::Creator)])]);
    let ahead = [
        tx("a.2", None, vec![create("s", None, Writers::Anyone), append("s", "AA", None)]),
        tx("b.1@1", None, vec![append("s", "AA", None)]),
        tx("a.3", None, vec![append("t", "AA", None)]),
    ];
    speculate(&mut machine, other_hash(2), &ahead);
    machine.forget_speculation();
    let mut orphan = tx("b.2", None, vec![transfer('b', 0)]);
    orphan.anchor = other_hash(2);
    check(
        &mut machine,
        &[
            vec![
                tx("b.1", None, vec![append("s", "AA", None)]),
                tx("a.2@1", None, vec![create("s", Some("carrier"), Writers::Creator)]),
                tx("a.3", None, vec![append("s", "AA", None)]),
                orphan,
            ],
            vec![tx("b.3@2", Some(b"AA"), vec![append("s", "AA", None)])],
        ],
        &expect![[r#"
            2: QP0203 no such stream (action 0)
            2: applied
            2: QP0206 transaction has another route than its stream (action 0)
            2: QP0107 anchor is not in this history
            3: QP0205 signer may not append to this stream (action 0)
            account a 1000
            account b 18446744073709551610
            stream s 0
            stream t 0
        "#]],
    );
}

#[test]
fn the_same_block_is_executed_once_and_another_takes_its_place() {
    let mut machine = Machine::open(Failing::default(), &genesis(false)).expect("memory opens");
    let mut twin = open(MemoryStore::new());
    let block = [tx("a.1", None, vec![transfer('d', 5)])];
    let hash = next_hash(&machine);
    speculate(&mut machine, other_hash(0), &[]);
    speculate(&mut machine, hash, &block);
    assert_eq!(machine.speculation_counts(), counts(0, 1));
    machine.view.store.refuse_table = Some(Table::Sequence);
    speculate(&mut machine, hash, &block);
    assert_eq!(apply(&mut machine, &block), apply(&mut twin, &block), "nothing is read again");
    assert_eq!(machine.speculation_counts(), counts(1, 1));
    assert_eq!(machine.speculated(), None);
    machine.forget_speculation();
    assert_eq!(machine.speculation_counts(), counts(1, 1));
}

#[test]
fn a_header_that_comes_with_other_contents_is_executed() {
    let mut machine = open(MemoryStore::new());
    let mut twin = open(MemoryStore::new());
    let block = [tx("a.1", None, vec![transfer('d', 5)])];
    let hash = next_hash(&machine);
    for wrong in [&[][..], &[tx("a.1", None, vec![transfer('d', 6)])]] {
        speculate(&mut machine, hash, wrong);
    }
    assert_eq!(apply(&mut machine, &block), apply(&mut twin, &block));
    assert_eq!(machine.speculation_counts(), counts(0, 2));
    assert_eq!(dump(&machine), dump(&twin));
}

#[test]
fn only_the_next_height_is_speculated() {
    let mut machine = open(MemoryStore::new());
    speculate(&mut machine, other_hash(1), &[]);
    for height in [0, 2, u64::MAX] {
        let given = Height::new(height);
        let speculated = with_block(given, other_hash(2), &[], |block| machine.speculate(block));
        assert!(matches!(speculated, Err(StateError::Height { .. })), "{height}");
        let applied = with_block(given, other_hash(1), &[], |block| machine.apply(block));
        assert!(matches!(applied, Err(StateError::Height { .. })), "{height}");
        assert_eq!(machine.speculated(), Some((Height::new(1), other_hash(1))));
    }
}

#[test]
fn a_failed_speculation_apply_or_flush_leaves_what_is_held() {
    let mut machine = Machine::open(Failing::default(), &genesis(false)).expect("memory opens");
    let mut twin = open(MemoryStore::new());
    let first = [tx("a.1", None, vec![create("s", None, Writers::Creator), transfer('d', 3)])];
    apply(&mut machine, &first);
    machine.flush().expect("memory flushes");
    apply(&mut twin, &first);
    let block = [tx("a.2@1", None, vec![append("s", "AA", None), transfer('e', 2)])];
    let (height, hash) = (Height::new(2), next_hash(&machine));
    speculate(&mut machine, hash, &block);
    let other = [
        tx("b.1@0", None, vec![append("t", "AA", None)]),
        tx("b.2@1", None, vec![transfer('e', 1)]),
    ];
    for table in [Table::Sequence, Table::Account, Table::Stream, Table::Trie] {
        machine.view.store.refuse_table = Some(table);
        try_speculate(&mut machine, other_hash(2), &other).expect_err("the store refuses");
        with_block(height, other_hash(2), &other, |block| machine.apply(block))
            .expect_err("the store refuses");
        assert_eq!(machine.speculated(), Some((height, hash)), "{table}");
        assert_eq!(machine.applied(), Height::new(1), "{table}");
    }
    assert_eq!(apply(&mut machine, &block), apply(&mut twin, &block));
    machine.view.store.refuse_table = None;
    speculate(&mut machine, other_hash(3), &other);
    machine.view.store.refuse_commit = true;
    machine.flush().expect_err("the disk is full");
    assert_eq!(machine.speculated(), Some((Height::new(3), other_hash(3))));
    assert_eq!(machine.speculation_counts(), counts(1, 0));
    machine.view.store.refuse_commit = false;
    machine.flush().expect("there is room again");
    twin.flush().expect("memory flushes");
    assert_eq!(machine.into_store().inner, twin.into_store());
}

/// What happens to a machine while a height is decided.
#[derive(Clone, Debug)]
enum Event {
    /// The block that will be committed is proposed.
    Right,
    /// These are proposed under another header.
    Wrong(Vec<Transaction>),
    /// The block's transactions are proposed under another header.
    RightTransactions,
    /// Other transactions come under the block's header.
    WrongTransactions(Vec<Transaction>),
    Forget,
    Flush,
    Reopen,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Right),
        3 => vec(transaction(), 0..6).prop_map(Event::Wrong),
        1 => Just(Event::RightTransactions),
        1 => vec(transaction(), 0..6).prop_map(Event::WrongTransactions),
        1 => Just(Event::Forget),
        2 => Just(Event::Flush),
        1 => Just(Event::Reopen),
    ]
}

/// A machine that speculates and one that never does, moved on together.
struct Twins {
    machine: Machine<MemoryStore>,
    plain: Machine<MemoryStore>,
    salt: u64,
}

impl Twins {
    fn happen(&mut self, event: &Event, block: &[Transaction]) {
        self.salt = self.salt.saturating_add(1);
        let (right, other) = (next_hash(&self.machine), other_hash(self.salt));
        match event {
            Event::Right => self.speculate(right, block),
            Event::Wrong(transactions) => self.speculate(other, transactions),
            Event::RightTransactions => self.speculate(other, block),
            Event::WrongTransactions(transactions) => self.speculate(right, transactions),
            Event::Forget => self.machine.forget_speculation(),
            Event::Flush => self.flush(),
            Event::Reopen => {
                for twin in [&mut self.machine, &mut self.plain] {
                    *twin = open(twin.store().clone());
                }
            }
        }
    }

    fn speculate(&mut self, header: Hash, transactions: &[Transaction]) {
        let before = seen(&self.machine);
        speculate(&mut self.machine, header, transactions);
        assert_eq!(seen(&self.machine), before, "a reader sees nothing");
        assert_eq!(self.machine.anchor(&header).expect("healthy"), None);
        let height = self.machine.applied().next();
        assert_eq!(self.machine.speculated(), Some((height, header)));
        with_block(height, header, transactions, |block| {
            for ordered in block.transactions {
                assert_eq!(self.machine.tx(&ordered.tx).expect("healthy"), None);
            }
        });
    }

    fn flush(&mut self) {
        let held = self.machine.speculated();
        self.machine.flush().expect("memory flushes");
        self.plain.flush().expect("memory flushes");
        assert_eq!(self.machine.speculated(), held, "a flush leaves it");
    }

    /// Applies the block to both. Whether the machine kept what it held must be plain from the events.
    fn apply(&mut self, events: &[Event], block: &[Transaction]) {
        let is_wrong =
            self.machine.speculated().map(|held| held.1) != Some(next_hash(&self.machine));
        let kept = self.machine.speculation_counts().kept;
        assert_eq!(apply(&mut self.machine, block), apply(&mut self.plain, block));
        assert_eq!(self.machine.speculated(), None);
        let kept = self.machine.speculation_counts().kept.saturating_sub(kept);
        assert!(kept <= u64::from(!is_wrong), "another header's is not kept");
        if let [.., Event::Right] | [.., Event::Right, Event::Flush] = events {
            assert_eq!(kept, 1, "the block's own is kept");
        }
        assert_eq!(seen(&self.machine), seen(&self.plain));
    }
}

proptest! {
    #[test]
    fn a_machine_that_speculates_equals_one_that_never_does(
        blocks in vec(vec(transaction(), 0..6), 1..8),
        events in vec(vec(event(), 0..4), 16),
    ) {
        let (machine, plain) = (open(MemoryStore::new()), open(MemoryStore::new()));
        let mut twins = Twins { machine, plain, salt: 0 };
        let next = |twins: &Twins| {
            blocks.get(usize::try_from(twins.machine.applied().get()).expect("small"))
        };
        for events in events {
            for event in &events {
                let block = next(&twins).map_or(&[][..], Vec::as_slice);
                twins.happen(event, block);
            }
            if let Some(block) = next(&twins) {
                twins.apply(&events, block);
            }
        }
        twins.flush();
        prop_assert_eq!(twins.machine.into_store(), twins.plain.into_store());
    }
}
