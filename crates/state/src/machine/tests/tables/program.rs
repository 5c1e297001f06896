//! Programs and definitions that lie, ask for too much, or are not meant for who sends them.

use quipu_types::program::{Access, Alter, Function, Reads};
use quipu_types::table::{
    COUNTERS, DEFINITIONS, Identity, TableCounters, TableDef, end_of, ledger_key, name_key,
    put_key, space_key,
};
use quipu_types::{Column, Decode as _, ValueRef};

use super::*;
use crate::rows_hash;

/// A machine, and the next sequence of everyone.
pub(super) struct World {
    machine: Machine<MemoryStore>,
    sequences: BTreeMap<char, u64>,
}

impl World {
    pub(super) fn new() -> Self {
        Self { machine: open(MemoryStore::new()), sequences: BTreeMap::new() }
    }

    pub(super) fn apply(&mut self, block: Vec<(char, Vec<Action>)>) -> Applied {
        let anchor = self.machine.applied().get();
        let transactions: Vec<Transaction> = block
            .into_iter()
            .map(|(who, actions)| {
                let sequence = self.sequences.entry(who).or_default();
                *sequence += 1;
                tx(&format!("{who}.{sequence}@{anchor}"), None, actions)
            })
            .collect();
        apply(&mut self.machine, &transactions)
    }

    /// What becomes of the transactions of one height.
    pub(super) fn block(&mut self, block: Vec<(char, Vec<Action>)>) -> Vec<String> {
        let applied = self.apply(block);
        let show = |receipt: &Receipt| match receipt.outcome {
            Outcome::Applied => format!("{} rows", receipt.row_count),
            Outcome::Refused { .. } if receipt.detail > 0 => {
                format!("{}, {}", outcome_text(receipt), receipt.detail)
            }
            Outcome::Refused { .. } => outcome_text(receipt),
        };
        applied.receipts.iter().map(show).collect()
    }

    pub(super) fn run(&mut self, who: char, actions: Vec<Action>) -> String {
        self.block(vec![(who, actions)]).remove(0)
    }

    pub(super) fn create(&mut self, spec: TableSpec) -> TableRef {
        let name = spec.name.clone();
        assert_eq!(self.run('a', vec![create_table(spec)]), "0 rows");
        self.table(&name)
    }

    /// A transaction of one action for each, by `who`; shows what became of them.
    pub(super) fn check(&mut self, who: char, actions: Vec<Action>, wanted: &Expect) {
        let shown = actions.into_iter().map(|action| self.run(who, vec![action]) + "\n");
        wanted.assert_eq(&shown.collect::<String>());
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.machine.row_at(key, self.machine.applied()).expect("healthy")
    }

    pub(super) fn table(&self, name: &str) -> TableRef {
        let id = self.get(&name_key(name)).expect("there is one");
        let id = u32::from_le_bytes(id.try_into().expect("4 bytes"));
        let def = self.get(&ledger_key(DEFINITIONS, id)).expect("it has a definition");
        TableRef { id, version: TableDef::from_bytes(&def).expect("a definition").version }
    }

    pub(super) fn count(&self, table: TableRef) -> usize {
        let prefix = space_key(table.id, 0);
        let height = self.machine.applied();
        let rows = self.machine.rows_at(&prefix, end_of(&prefix).as_deref(), usize::MAX, height);
        rows.expect("healthy").len()
    }
}

pub(super) fn run(table: TableRef, op: Op) -> Action {
    Action::Run(Box::new(program(table, op)))
}

pub(super) fn create_table(spec: TableSpec) -> Action {
    Action::Define(Box::new(Define::CreateTable(Box::new(spec))))
}

pub(super) fn alter(table: TableRef, alter: Alter) -> Action {
    Action::Define(Box::new(Define::Alter(table, alter)))
}

pub(super) fn drop_table(table: TableRef) -> Action {
    Action::Define(Box::new(Define::Drop(table)))
}

pub(super) fn insert(table: TableRef, columns: &[u16], rows: Vec<Vec<Expr>>) -> Action {
    run(table, Op::Insert { columns: columns.to_vec(), rows, conflict: Conflict::Fail })
}

pub(super) const fn all() -> Selection {
    Selection { access: Access::All, filter: None }
}

pub(super) fn keys(values: Vec<Expr>) -> Selection {
    Selection { access: Access::Keys(vec![values]), filter: None }
}

pub(super) fn update(table: TableRef, rows: Selection, sets: Vec<(u16, Expr)>) -> Action {
    run(table, Op::Update { rows, sets })
}

pub(super) fn delete(table: TableRef, rows: Selection) -> Action {
    run(table, Op::Delete { rows })
}

pub(super) fn row_key(table: TableRef, values: &[Value]) -> Vec<u8> {
    let mut key = space_key(table.id, 0);
    values.iter().for_each(|value| assert!(put_key(value, &mut key), "it has a key"));
    key
}

fn reads(height: u64, keys: &[Vec<u8>], tables: &[u32]) -> Action {
    let height = Height::new(height);
    Action::Reads(Reads { height, keys: keys.to_vec(), tables: tables.to_vec() })
}

/// `t (a int4 primary key, b int4, c text)` with rows 0 and 1.
fn world() -> (World, TableRef) {
    let mut world = World::new();
    let table = world.create(table_spec("t", "a int4 not null, b int4, c text", &[0]));
    let rows = vec![vec![int(0), int(10)], vec![int(1), int(11)]];
    assert_eq!(world.run('a', vec![insert(table, &[0, 1], rows)]), "2 rows");
    (world, table)
}

#[test]
fn what_was_read_and_changed_since_is_found() {
    let (mut world, table) = world();
    let key = |number: i32| row_key(table, &[Value::Int4(number)]);
    let set = |number: i32| update(table, keys(vec![int(number)]), vec![(1, int(7))]);
    let read = |height: u64, number: i32| reads(height, &[key(number)], &[]);
    let changed = "QP0218 what the transaction had read was changed (action 0)";
    // Height 2 wrote rows 0 and 1.
    assert_eq!(world.run('b', vec![read(2, 0), read(2, 9), reads(2, &[], &[table.id])]), "0 rows");
    assert_eq!(world.run('b', vec![read(1, 0)]), changed);
    assert_eq!(world.run('b', vec![reads(1, &[], &[table.id])]), changed);
    assert_eq!(world.run('b', vec![read(1, 9)]), "0 rows", "it was not there and is not");
    // Of one's own changes those count that stand before, of others in the same height all.
    let now = world.machine.applied().get();
    assert_eq!(world.run('a', vec![read(now, 0), reads(now, &[], &[table.id]), set(0)]), "1 rows");
    let now = world.machine.applied().get();
    let later = "QP0218 what the transaction had read was changed (action 1)";
    assert_eq!(world.run('a', vec![set(0), read(now, 0)]), later);
    assert_eq!(world.run('a', vec![set(0), reads(now, &[], &[table.id])]), later);
    assert_eq!(world.run('a', vec![set(0), read(now, 1), set(1), read(now, 9)]), "2 rows");
    let now = world.machine.applied().get();
    let block = vec![
        ('a', vec![set(0)]),
        ('b', vec![read(now, 0)]),
        ('b', vec![reads(now, &[], &[table.id])]),
        ('b', vec![read(now, 1)]),
    ];
    assert_eq!(world.block(block), ["1 rows", changed, changed, "0 rows"]);
    // A refused transaction changes nothing that anyone has read.
    let now = world.machine.applied().get();
    let block = vec![('a', vec![set(1), transfer('b', u64::MAX)]), ('b', vec![read(now, 1)])];
    assert_eq!(world.block(block), ["QP0202 account has too few units (action 1)", "0 rows"]);
    // What came and went was changed.
    let now = world.machine.applied().get();
    world.run('a', vec![insert(table, &[0], vec![vec![int(9)]])]);
    world.run('a', vec![delete(table, keys(vec![int(9)]))]);
    for flushes in [false, true] {
        if flushes {
            world.machine.flush().expect("memory flushes");
        }
        assert_eq!(world.run('b', vec![read(now, 9)]), changed);
        assert_eq!(world.run('b', vec![read(now + 1, 9)]), changed);
        assert_eq!(world.run('b', vec![read(now + 2, 9)]), "0 rows");
    }
    // Nobody has read what is to come.
    for height in [world.machine.applied().get() + 1, u64::MAX] {
        assert_eq!(world.run('b', vec![read(height, 1)]), changed);
    }
    let long = reads(2, &[vec![0xFF; 480], vec![], vec![0; 440]], &[u32::MAX]);
    assert_eq!(world.run('b', vec![long]), "0 rows", "nothing is there");
}

#[test]
fn parameters_are_the_programs_own() {
    let (mut world, table) = world();
    let given = |parameters: Vec<(ColumnType, Value)>, op: Op| {
        Action::Run(Box::new(Program { parameters, ..program(table, op) }))
    };
    let parameter = Expr::Parameter;
    let sets = || vec![(1, binary(Binary::Add, Expr::Column(1), parameter(0)))];
    let set =
        |parameters| given(parameters, Op::Update { rows: keys(vec![parameter(1)]), sets: sets() });
    let five = (ColumnType::Int2, Value::Int2(5));
    let wide = |number| (ColumnType::Int8, Value::Int8(number));
    assert_eq!(world.run('a', vec![set(vec![five.clone(), wide(1)])]), "1 rows");
    for nowhere in [wide(1 << 40), (ColumnType::Int4, Value::Null)] {
        assert_eq!(world.run('a', vec![set(vec![five.clone(), nowhere])]), "0 rows");
    }
    // A parameter that is not given, also where the program before had it.
    let wrong = "QP0222 types do not fit (action 1)";
    let before = set(vec![five.clone(), wide(0)]);
    assert_eq!(world.run('a', vec![before.clone(), set(vec![five.clone()])]), wrong);
    let rows = vec![vec![parameter(0), parameter(1), parameter(2)]];
    let op = Op::Insert { columns: vec![0, 1, 2], rows, conflict: Conflict::Fail };
    let text = (ColumnType::Text, Value::Text("x".into()));
    assert_eq!(world.run('a', vec![given(vec![wide(7), five.clone(), text], op)]), "1 rows");
    let spec = Schema::parse("a int4 not null, b int4, c text").expect("a schema");
    let row =
        world.machine.rows_at(&row_key(table, &[Value::Int4(7)]), None, 1, world.machine.applied());
    let row = row.expect("healthy");
    let row = spec.decode_row(&row[0].1).expect("a row");
    assert_eq!(row, [ValueRef::Int4(7), ValueRef::Int4(5), ValueRef::Text("x")]);
    // What a table's definition says has none.
    let mut spec = table_spec("u", "a int4 not null, b int4", &[0]);
    spec.options[1].default = Some(parameter(0));
    let other = world.create(spec);
    let op =
        Op::Insert { columns: vec![0], rows: vec![vec![parameter(0)]], conflict: Conflict::Fail };
    let insert = Program { parameters: vec![wide(1)], ..program(other, op) };
    let wrong = "QP0222 types do not fit (action 0)";
    assert_eq!(world.run('a', vec![Action::Run(Box::new(insert))]), wrong);
}

#[test]
fn what_a_signer_told_must_come_true() {
    let (mut world, table) = world();
    let told = |op: Op, row_count: Option<u64>, rows: Option<&[i32]>| {
        let schema = Schema::parse("a int4 not null, b int4, c text").expect("a schema");
        let encode = |number: &i32| {
            let row = [Value::Int4(*number), Value::Int4(5), Value::Null];
            schema.encode_row(&row).expect("a row")
        };
        let rows_hash = rows.map(|rows| rows_hash(&rows.iter().map(encode).collect::<Vec<_>>()));
        Action::Run(Box::new(Program { row_count, rows_hash, ..program(table, op) }))
    };
    let set = || Op::Update { rows: all(), sets: vec![(1, int(5))] };
    let nothing = || Op::Delete { rows: keys(vec![int(77)]) };
    world.check(
        'a',
        vec![
            told(set(), Some(1), None),
            told(set(), Some(2), None),
            told(set(), None, Some(&[0])),
            told(set(), None, Some(&[1, 0])),
            told(set(), Some(2), Some(&[0, 1])),
            told(nothing(), Some(1), None),
            told(nothing(), Some(0), Some(&[])),
            told(Op::Truncate, Some(2), None),
            told(Op::Delete { rows: all() }, Some(2), Some(&[0, 1])),
            told(Op::Truncate, Some(0), Some(&[])),
        ],
        &expect![[r#"
            QP0217 another number of rows would have changed (action 0)
            2 rows
            QP0217 another number of rows would have changed (action 0)
            QP0217 another number of rows would have changed (action 0)
            2 rows
            QP0217 another number of rows would have changed (action 0)
            0 rows
            QP0217 another number of rows would have changed (action 0)
            2 rows
            0 rows
        "#]],
    );
}

#[test]
fn rows_that_do_not_fit_the_table_are_refused() {
    let (mut world, table) = world();
    let id = table.id;
    let other = |id: u32, version: u64| TableRef { id, version: Height::new(version) };
    let float = Expr::Const(ColumnType::Float8, Value::Float8(0));
    let conflict = |conflict: Conflict| {
        run(table, Op::Insert { columns: vec![0], rows: vec![vec![int(0)]], conflict })
    };
    let sets = |sets: Vec<(u16, Expr)>| Conflict::Update { target: 0, sets, filter: None };
    world.check(
        'a',
        vec![
            insert(other(id, 0), &[0], vec![vec![int(5)]]),
            insert(other(id, 2), &[0], vec![vec![int(5)]]),
            insert(other(id + 1, 1), &[0], vec![vec![int(5)]]),
            insert(other(0, 1), &[0], vec![vec![int(5)]]),
            insert(table, &[3], vec![vec![int(5)]]),
            insert(table, &[0, 0], vec![vec![int(5), int(5)]]),
            insert(table, &[0], vec![vec![text("5")]]),
            insert(table, &[0], vec![vec![long(1 << 40)]]),
            insert(table, &[0], vec![vec![float]]),
            insert(table, &[0], vec![vec![Expr::Column(0)]]),
            insert(table, &[0], vec![vec![Expr::Excluded(0)]]),
            insert(table, &[1], vec![vec![int(5)]]),
            conflict(sets(vec![(9, int(5))])),
            conflict(sets(vec![(1, int(5)), (1, int(6))])),
            conflict(sets(vec![(1, Expr::Excluded(9))])),
            conflict(Conflict::Update { target: 9, sets: vec![], filter: None }),
            conflict(Conflict::Nothing { target: Some(9) }),
        ],
        &expect![[r#"
            QP0212 table was changed meanwhile (action 0)
            QP0212 table was changed meanwhile (action 0)
            QP0210 no such table (action 0)
            QP0210 no such table (action 0)
            QP0222 types do not fit (action 0)
            QP0222 types do not fit (action 0)
            QP0222 types do not fit (action 0)
            QP0219 value out of range (action 0)
            QP0222 types do not fit (action 0)
            QP0222 types do not fit (action 0)
            QP0222 types do not fit (action 0)
            QP0214 null value in a column that refuses it (action 0)
            QP0222 types do not fit (action 0)
            QP0222 types do not fit (action 0)
            QP0222 types do not fit (action 0)
            QP0213 duplicate key value (action 0)
            QP0213 duplicate key value (action 0)
        "#]],
    );
    assert_eq!(world.count(table), 2);
}

#[test]
fn changes_that_do_not_fit_the_table_are_refused() {
    let (mut world, table) = world();
    let index = |index: u8, values: Vec<Expr>| {
        delete(table, Selection { access: Access::Index { index, values }, filter: None })
    };
    let filter =
        |filter: Expr| delete(table, Selection { access: Access::All, filter: Some(filter) });
    world.check(
        'a',
        vec![
            update(table, all(), vec![(3, int(5))]),
            update(table, keys(vec![int(77)]), vec![(3, int(5))]),
            update(table, all(), vec![(1, int(5)), (1, int(6))]),
            update(table, all(), vec![(1, Expr::Column(3))]),
            update(table, all(), vec![(1, Expr::Excluded(1))]),
            update(table, all(), vec![(0, int(5))]),
            update(table, keys(vec![]), vec![(1, int(5))]),
            update(table, keys(vec![int(0), int(0)]), vec![(1, int(5))]),
            update(table, keys(vec![text("0")]), vec![(1, int(5))]),
            index(1, vec![int(0)]),
            index(255, vec![]),
            index(0, vec![int(0), int(0)]),
            filter(int(1)),
            filter(Expr::Column(1)),
            filter(Expr::Column(9)),
        ],
        &expect![[r#"
            QP0222 types do not fit (action 0)
            QP0222 types do not fit (action 0)
            QP0222 types do not fit (action 0)
            QP0222 types do not fit (action 0)
            QP0222 types do not fit (action 0)
            QP0213 duplicate key value (action 0)
            QP0222 types do not fit (action 0)
            QP0222 types do not fit (action 0)
            QP0222 types do not fit (action 0)
            QP0229 definition is wrong (action 0)
            QP0229 definition is wrong (action 0)
            QP0222 types do not fit (action 0)
            QP0222 types do not fit (action 0)
            QP0222 types do not fit (action 0)
            QP0222 types do not fit (action 0)
        "#]],
    );
    assert_eq!(world.count(table), 2);
}

#[test]
fn a_key_is_short_or_refused_and_a_long_one_finds_nothing() {
    let mut world = World::new();
    let mut spec = table_spec("t", "a text not null, b bytea, c text", &[0]);
    spec.indexes = vec![index("i", &[1], true)];
    let table = world.create(spec);
    let mut spec = table_spec("u", "a int4 not null, b text", &[0]);
    spec.foreign_keys = vec![foreign("f", &[1], table.id)];
    let child = world.create(spec);
    let bytes = |size: usize| Expr::Const(ColumnType::Bytea, Value::Bytea(vec![0; size]));
    let name = |size: usize| text(&"x".repeat(size));
    // A key has 5 bytes of its table, and 3 about a text.
    let longest = quipu_types::table::ROW_KEY_SIZE_MAX - 8;
    world.check(
        'a',
        vec![
            insert(table, &[0, 1], vec![vec![name(longest), bytes(longest / 2)]]),
            insert(table, &[0], vec![vec![name(longest + 1)]]),
            insert(table, &[0, 1], vec![vec![text("y"), bytes(longest / 2 + 1)]]),
            update(table, all(), vec![(0, name(longest + 1))]),
            update(table, keys(vec![name(100_000)]), vec![(2, int(1))]),
            update(table, keys(vec![name(longest)]), vec![(2, int(1))]),
            insert(child, &[0, 1], vec![vec![int(1), name(100_000)]]),
            insert(child, &[0, 1], vec![vec![int(1), name(longest)]]),
            delete(table, all()),
        ],
        &expect![[r#"
            1 rows
            QP0224 key is too long (action 0)
            QP0224 key is too long (action 0)
            QP0224 key is too long (action 0)
            0 rows
            1 rows
            QP0216 referenced row is missing (action 0), 1
            1 rows
            QP0230 row is still referenced (action 0)
        "#]],
    );
}

#[test]
fn a_program_that_does_too_much_is_refused_and_its_fee_kept() {
    let prices = Prices { transaction: 3, ..Prices::default() };
    let machine = Machine::open_priced(MemoryStore::new(), &genesis(false), prices);
    let mut world = World { machine: machine.expect("memory opens"), sequences: BTreeMap::new() };
    let table = world.create(table_spec("t", "a int4 not null, b int4, c text", &[0]));
    let rows = (0..40).map(|number| vec![int(number), int(0)]).collect();
    assert_eq!(world.run('a', vec![insert(table, &[0, 1], rows)]), "40 rows");
    // 100 rows' worth.
    world.machine.rules.steps_max = 1_600;
    let before = row_space(&world.machine, world.machine.applied());
    let refused = |action: u32| format!("QP0223 statement does too much (action {action})");
    let set = |to: i32| update(table, all(), vec![(1, int(to))]);
    let list = (1..201).map(int).collect();
    let filter = Expr::In(Box::new(Expr::Column(1)), list);
    let slow = delete(table, Selection { access: Access::All, filter: Some(filter) });
    let balance = world.machine.balance(&account('a')).expect("healthy");
    assert_eq!(world.run('a', vec![set(1), set(2)]), refused(1), "the second of 80 rows each");
    assert_eq!(world.run('a', vec![slow]), refused(0), "200 steps a row");
    let access = Access::Keys(vec![vec![int(77)]; 101]);
    assert_eq!(world.run('a', vec![delete(table, Selection { access, filter: None })]), refused(0));
    assert_eq!(row_space(&world.machine, world.machine.applied()), before, "nothing has changed");
    let after = world.machine.balance(&account('a')).expect("healthy");
    assert_eq!(after, balance - 9, "but the fee");
    // A height does as much as four transactions may.
    let block = world.block((0..6).map(|to| ('a', vec![set(to)])).collect());
    assert_eq!(block, ["40 rows", "40 rows", "40 rows", "40 rows", &refused(0), &refused(0)]);
    assert_eq!(world.run('a', vec![set(9)]), "40 rows", "the next one again");
}

#[test]
fn rows_that_are_given_back_are_bounded() {
    let mut world = World::new();
    let table = world.create(table_spec("t", "a int4 not null, b bytea", &[0]));
    let large = Expr::Const(ColumnType::Bytea, Value::Bytea(vec![1; 1_000_000]));
    let give = |first: i32, count: i32| {
        let rows = (first..first + count).map(|a| vec![int(a), large.clone()]).collect();
        let op = Op::Insert { columns: vec![0, 1], rows, conflict: Conflict::Fail };
        Action::Run(Box::new(Program { returns: true, ..program(table, op) }))
    };
    let hashed = |op: Op| {
        Action::Run(Box::new(Program { rows_hash: Some(Hash::ZERO), ..program(table, op) }))
    };
    let refused = "QP0223 statement does too much (action 0)";
    assert_eq!(world.run('a', vec![give(0, 17)]), refused, "17 MB");
    let applied = world.apply((0..6).map(|tx| ('a', vec![give(tx * 12, 12)])).collect());
    let names: Vec<&Hash> = applied.done.keys().collect();
    assert_eq!(names.len(), 5, "64 MiB a height");
    let last = applied.receipts.last().expect("six");
    assert_eq!(outcome_text(last), "QP0223 statement does too much");
    assert!(!names.contains(&&last.tx), "only what was applied gives rows");
    assert_eq!(world.run('a', vec![hashed(Op::Delete { rows: all() })]), refused, "60 MB");
    let twice = vec![give(100, 9), give(109, 9)];
    assert_eq!(world.run('a', twice), "QP0223 statement does too much (action 1)");
    let lost = world.apply(vec![('a', vec![give(200, 1), transfer('b', u64::MAX)])]);
    assert!(lost.done.is_empty(), "a refused transaction gives nothing");
    // A row that only an expression makes.
    let longer = binary(Binary::Concat, Expr::Column(1), Expr::Column(1));
    let grow = update(table, keys(vec![int(0)]), vec![(1, longer)]);
    assert_eq!(world.run('a', vec![grow]), "QP0227 value too long for its column (action 0)");
}

#[test]
fn tables_are_their_owners_and_their_writers() {
    let mut world = World::new();
    let table = world.create(table_spec("t", "a int4 not null", &[0]));
    let row = |number: i32| vec![vec![int(number)]];
    let mut child = table_spec("u", "a int4 not null", &[0]);
    child.foreign_keys = vec![foreign("f", &[0], table.id)];
    world.check(
        'b',
        vec![
            insert(table, &[0], row(1)),
            delete(table, all()),
            run(table, Op::Truncate),
            drop_table(table),
            alter(table, Alter::Rename("mine".into())),
            alter(table, Alter::SetWriters(Writers::Anyone)),
            create_table(child.clone()),
        ],
        &expect![[r#"
            QP0225 role may not change this (action 0)
            QP0225 role may not change this (action 0)
            QP0225 role may not change this (action 0)
            QP0225 role may not change this (action 0)
            QP0225 role may not change this (action 0)
            QP0225 role may not change this (action 0)
            QP0225 role may not change this (action 0)
        "#]],
    );
    let granted = Writers::Accounts(vec![account('b')]);
    assert_eq!(world.run('a', vec![alter(table, Alter::SetWriters(granted))]), "0 rows");
    assert_eq!(
        world.run('b', vec![insert(table, &[0], row(1))]),
        "QP0212 table was changed meanwhile (action 0)"
    );
    let table = world.table("t");
    world.check(
        'b',
        vec![insert(table, &[0], row(1)), drop_table(table), create_table(child)],
        &expect![[r#"
            1 rows
            QP0225 role may not change this (action 0)
            0 rows
        "#]],
    );
    assert_eq!(
        world.run('c', vec![insert(table, &[0], row(2))]),
        "QP0225 role may not change this (action 0)"
    );
    assert_eq!(world.run('a', vec![insert(table, &[0], row(2))]), "1 rows", "an owner always may");
}

#[test]
fn what_others_depend_on_stays() {
    let (mut world, table) = world();
    let mut spec = table_spec("u", "a int4 not null, b int4", &[0]);
    spec.foreign_keys = vec![foreign("f", &[1], table.id), foreign("g", &[0], 0)];
    let child = world.create(spec);
    world.check(
        'a',
        vec![
            insert(
                child,
                &[0, 1],
                vec![vec![int(1), int(1)], vec![int(2), null(ColumnType::Int4)]],
            ),
            drop_table(table),
            run(table, Op::Truncate),
            delete(table, all()),
            update(table, keys(vec![int(1)]), vec![(0, int(5))]),
            delete(table, keys(vec![int(0)])),
            update(child, keys(vec![int(2)]), vec![(1, int(0))]),
            run(child, Op::Truncate),
            delete(table, keys(vec![int(1)])),
            drop_table(child),
            drop_table(table),
        ],
        &expect![[r#"
            2 rows
            QP0226 others depend on it (action 0)
            QP0226 others depend on it (action 0)
            QP0230 row is still referenced (action 0)
            QP0230 row is still referenced (action 0)
            1 rows
            QP0216 referenced row is missing (action 0), 1
            0 rows
            1 rows
            0 rows
            0 rows
        "#]],
    );
    let left = row_space(&world.machine, world.machine.applied());
    assert_eq!(left.len(), 1, "how many tables there were");
}

#[test]
fn a_refused_action_takes_everything_of_its_transaction_back() {
    let (mut world, table) = world();
    let space = row_space(&world.machine, world.machine.applied());
    let applied = world.apply(vec![(
        'a',
        vec![
            update(table, all(), vec![(1, int(99))]),
            insert(table, &[0], vec![vec![int(5)]]),
            create_table(table_spec("u", "a int4", &[])),
            alter(table, Alter::AddIndex(index("i", &[1], false))),
            create("s", None, Writers::Creator),
            transfer('b', 1),
            insert(table, &[0], vec![vec![int(6)]]),
            insert(table, &[0], vec![vec![int(6)]]),
        ],
    )]);
    // The table that has the index by then is this transaction's own: only the row that is there is refused.
    assert_eq!(outcome_text(&applied.receipts[0]), "QP0213 duplicate key value (action 7)");
    assert_eq!(row_space(&world.machine, world.machine.applied()), space);
    assert_eq!(world.machine.stream("s").expect("healthy"), None);
    assert_eq!(world.machine.balance(&account('a')).expect("healthy"), 1_000);
    let table_of_twin = table;
    let (mut twin, _) = self::world();
    twin.apply(vec![('a', vec![insert(table_of_twin, &[0], vec![vec![int(0)]])])]);
    assert_eq!(world.machine.state_root(), twin.machine.state_root(), "as any refused transaction");
}

fn padded() -> ColumnOptions {
    ColumnOptions { length: u32::MAX, is_padded: true, ..ColumnOptions::default() }
}

fn numbered() -> ColumnOptions {
    ColumnOptions { identity: Identity::Always, ..ColumnOptions::default() }
}

#[test]
fn a_change_that_does_not_read_back_is_refused() {
    let (mut world, parent) = world();
    let mut spec = table_spec("u", "a int4, b int4, c text, d float8", &[]);
    spec.indexes = vec![index("i", &[0], false)];
    let table = world.create(spec);
    let key =
        |columns: &[u16]| Alter::AddPrimaryKey { name: "k".into(), columns: columns.to_vec() };
    let many: Vec<u16> = (0..17).collect();
    let add = |name: &str, kind, options| {
        Alter::AddColumn(Column { name: name.into(), kind, nullable: true }, options)
    };
    let changes = vec![
        Alter::AddIndex(index("j", &[0, 0], true)),
        Alter::AddIndex(index("j", &[9], true)),
        Alter::AddIndex(index("j", &[3], true)),
        Alter::AddIndex(index("j", &many, true)),
        Alter::AddIndex(index("i", &[1], true)),
        key(&[0, 0]),
        key(&[9]),
        key(&[3]),
        Alter::AddForeignKey(foreign("f", &[0, 99], parent.id)),
        Alter::AddForeignKey(foreign("f", &[99], parent.id)),
        Alter::AddForeignKey(foreign("f", &[2], parent.id)),
        Alter::AddForeignKey(foreign("f", &[0], 99)),
        Alter::AddForeignKey(foreign("f", &[0], 0)),
        add("a", ColumnType::Int4, ColumnOptions::default()),
        add("e", ColumnType::Text, padded()),
        add("e", ColumnType::Text, numbered()),
        Alter::DropConstraint("none".into()),
        Alter::Rename("t".into()),
        Alter::Rename("pg_table".into()),
    ];
    let changes = changes.into_iter().map(|change| alter(table, change)).collect();
    world.check(
        'a',
        changes,
        &expect![[r#"
        QP0229 definition is wrong (action 0)
        QP0229 definition is wrong (action 0)
        QP0229 definition is wrong (action 0)
        QP0229 definition is wrong (action 0)
        QP0211 name is taken (action 0)
        QP0229 definition is wrong (action 0)
        QP0229 definition is wrong (action 0)
        QP0229 definition is wrong (action 0)
        QP0229 definition is wrong (action 0)
        QP0229 definition is wrong (action 0)
        QP0229 definition is wrong (action 0)
        QP0210 no such table (action 0)
        QP0229 definition is wrong (action 0)
        QP0229 definition is wrong (action 0)
        QP0229 definition is wrong (action 0)
        QP0229 definition is wrong (action 0)
        QP0229 definition is wrong (action 0)
        QP0211 name is taken (action 0)
        QP0208 name is reserved (action 0)
    "#]],
    );
    assert_eq!(world.table("u"), table, "it is as it was");
}

#[test]
fn a_table_that_does_not_read_back_is_refused() {
    let (mut world, parent) = world();
    let with = |change: &dyn Fn(&mut TableSpec)| {
        let mut spec = table_spec("v", "a int4 not null, b int4, c text", &[0]);
        change(&mut spec);
        create_table(spec)
    };
    let long = || CheckSpec { text: "x".repeat(2 << 20), ..above("k", 1, 0) };
    let twice = || vec![numbered(), numbered(), ColumnOptions::default()];
    world.check(
        'a',
        vec![
            with(&|spec| spec.indexes = vec![index("i", &[1, 1], true)]),
            with(&|spec| spec.indexes = vec![index("i", &[1], true), index("i", &[2], true)]),
            with(&|spec| spec.checks = vec![above("pkey", 1, 0)]),
            with(&|spec| spec.checks = vec![long()]),
            with(&|spec| spec.primary_key = vec![1]),
            with(&|spec| spec.foreign_keys = vec![foreign("f", &[1, 1], parent.id)]),
            with(&|spec| spec.options[2] = padded()),
            with(&|spec| spec.options = twice()),
            with(&|spec| spec.options.truncate(2)),
            with(&|spec| spec.name = "quipu_v".into()),
            with(&|_| {}),
        ],
        &expect![[r#"
            QP0229 definition is wrong (action 0)
            QP0211 name is taken (action 0)
            QP0211 name is taken (action 0)
            QP0229 definition is wrong (action 0)
            QP0229 definition is wrong (action 0)
            QP0229 definition is wrong (action 0)
            QP0229 definition is wrong (action 0)
            QP0229 definition is wrong (action 0)
            QP0229 definition is wrong (action 0)
            QP0208 name is reserved (action 0)
            0 rows
        "#]],
    );
}

#[test]
fn tables_of_several_pages_are_visited_row_by_row() {
    let mut world = World::new();
    let table = world.create(table_spec("t", "a int4, b int4", &[]));
    let count = 3_000;
    let rows = (0..count).map(|number| vec![int(number), int(0)]).collect();
    assert_eq!(world.run('a', vec![insert(table, &[0, 1], rows)]), "3000 rows");
    let plus = binary(Binary::Add, Expr::Column(1), int(1));
    let add = |kind, identity| {
        let options = ColumnOptions { identity, ..ColumnOptions::default() };
        let name = format!("c{}", u8::from(identity == Identity::Never));
        Alter::AddColumn(Column { name, kind, nullable: true }, options)
    };
    let steps = [
        update(table, all(), vec![(1, plus)]),
        alter(table, add(ColumnType::Int8, Identity::Always)),
    ];
    let mut shown: Vec<String> = steps.into_iter().map(|step| world.run('a', vec![step])).collect();
    let more = [
        alter(world.table("t"), add(ColumnType::Text, Identity::Never)),
        insert(world.table("t"), &[], vec![vec![]]),
    ];
    shown.extend(more.into_iter().map(|step| world.run('a', vec![step])));
    world.machine.flush().expect("memory flushes");
    let key = Alter::AddPrimaryKey { name: "k".into(), columns: vec![2] };
    for change in
        [key, Alter::AddIndex(index("i", &[1, 0], false)), Alter::DropConstraint("i".into())]
    {
        let table = world.table("t");
        shown.push(world.run('a', vec![alter(table, change)]));
    }
    let table = world.table("t");
    shown.push(world.run('a', vec![delete(table, keys(vec![long(3_000)]))]));
    shown.push(world.run('a', vec![delete(table, all())]));
    expect![[r#"
        3000 rows
        0 rows
        0 rows
        QP0212 table was changed meanwhile (action 0)
        0 rows
        0 rows
        0 rows
        1 rows
        2999 rows"#]]
    .assert_eq(&shown.join("\n"));
    let counters = world.get(&ledger_key(COUNTERS, table.id)).expect("it has some");
    assert_eq!(TableCounters::from_bytes(&counters).expect("counters").row_count, 0);
    assert_eq!(world.count(table), 0);
}

/// An index takes the place of one that is gone: entries of both stay apart at every height, though the bytes of one
/// begin the other's.
#[test]
fn an_index_in_the_place_of_another_has_its_own_entries() {
    let mut world = World::new();
    let mut spec = table_spec("t", "a int4 not null, b bytea, c int4", &[0]);
    spec.indexes = vec![index("i", &[1], true)];
    let table = world.create(spec);
    // c = 7, then the key of row a = 1, then what versions end with, as bytes of `b`.
    let mut bytes = vec![0x80, 1, 1, 7, 1, 0x80, 1, 1, 1];
    bytes.extend_from_slice(&[1; 8]);
    let c = i32::from_be_bytes([0x80, 1, 1, 7]) ^ i32::MIN;
    let a = i32::from_be_bytes([0x80, 1, 1, 1]) ^ i32::MIN;
    let b = Expr::Const(ColumnType::Bytea, Value::Bytea(bytes));
    let by_c = |table: TableRef| {
        let access = Access::Index { index: 1, values: vec![int(c)] };
        update(table, Selection { access, filter: None }, vec![(1, null(ColumnType::Bytea))])
    };
    assert_eq!(
        world.run('a', vec![insert(table, &[0, 1, 2], vec![vec![int(a), b, int(c)]])]),
        "1 rows"
    );
    let mut spaces = vec![];
    for change in [
        Alter::DropConstraint("i".into()),
        Alter::AddIndex(index("j", &[2], false)),
        Alter::DropConstraint("j".into()),
        Alter::AddIndex(index("i", &[1], true)),
        Alter::DropConstraint("i".into()),
        Alter::AddIndex(index("j", &[2], true)),
    ] {
        let table = world.table("t");
        let name = format!("{change:?}");
        assert_eq!(world.run('a', vec![alter(table, change)]), "0 rows", "{name}");
        spaces.push((world.machine.applied(), row_space(&world.machine, world.machine.applied())));
    }
    let table = world.table("t");
    assert_eq!(world.run('a', vec![by_c(table)]), "1 rows");
    assert_eq!(world.run('a', vec![delete(table, all())]), "1 rows");
    assert_eq!(world.run('a', vec![by_c(table)]), "0 rows");
    for (height, space) in spaces {
        assert_eq!(row_space(&world.machine, height), space, "{height}");
    }
}

#[test]
fn random_values_are_never_twice_the_same() {
    let mut world = World::new();
    let mut spec = table_spec("t", "a uuid not null, b uuid, c uuid, n int4", &[0]);
    let random = || Some(Expr::Random(0));
    spec.options[0].default = random();
    spec.options[1].default = random();
    let table = world.create(spec);
    let two = || insert(table, &[2, 3], vec![vec![Expr::Random(0), int(1)]; 2]);
    let set = update(table, all(), vec![(2, Expr::Random(0))]);
    assert_eq!(world.run('a', vec![two(), two(), set.clone()]), "8 rows");
    assert_eq!(world.run('a', vec![two(), two()]), "4 rows");
    let prefix = space_key(table.id, 0);
    let rows =
        world.machine.rows_at(&prefix, end_of(&prefix).as_deref(), 99, world.machine.applied());
    let schema = Schema::parse("a uuid not null, b uuid, c uuid, n int4").expect("a schema");
    let mut seen = std::collections::BTreeSet::new();
    for (_, row) in rows.expect("healthy") {
        let values = schema.decode_row(&row).expect("a row");
        assert!(values[..3].iter().all(|value| seen.insert(format!("{value:?}"))), "{values:?}");
    }
    assert_eq!(seen.len(), 24);
}

#[test]
fn names_are_of_one_table_view_or_stream() {
    let (mut world, table) = world();
    let view = |name: &str, replaces: bool| {
        let (name, text) = (name.into(), "select 1".into());
        Action::Define(Box::new(Define::CreateView { name, text, replaces }))
    };
    let stream = |name: &str| create(name, None, Writers::Creator);
    world.check(
        'a',
        vec![
            stream("t"),
            stream("s"),
            view("s", true),
            view("t", true),
            create_table(table_spec("s", "a int4", &[])),
            alter(table, Alter::Rename("s".into())),
            view("v", false),
            view("v", false),
            view("v", true),
            stream("v"),
        ],
        &expect![[r#"
            QP0204 stream exists already (action 0)
            0 rows
            QP0204 stream exists already (action 0)
            QP0211 name is taken (action 0)
            QP0204 stream exists already (action 0)
            QP0204 stream exists already (action 0)
            0 rows
            QP0211 name is taken (action 0)
            0 rows
            QP0204 stream exists already (action 0)
        "#]],
    );
    let view_ref = world.table("v");
    world.check(
        'a',
        vec![
            insert(view_ref, &[0], vec![vec![int(5)]]),
            alter(
                view_ref,
                Alter::AddColumn(
                    Column { name: "d".into(), kind: ColumnType::Int4, nullable: true },
                    ColumnOptions::default(),
                ),
            ),
            alter(table, Alter::AddForeignKey(foreign("f", &[1], view_ref.id))),
            alter(view_ref, Alter::Rename("w".into())),
        ],
        &expect![[r#"
            QP0210 no such table (action 0)
            QP0210 no such table (action 0)
            QP0210 no such table (action 0)
            0 rows
        "#]],
    );
    assert_eq!(world.run('b', vec![view("w", true)]), "QP0225 role may not change this (action 0)");
    let view_ref = world.table("w");
    assert_eq!(
        world.run('b', vec![drop_table(view_ref)]),
        "QP0225 role may not change this (action 0)"
    );
    // A name that a transaction gives up is free in it.
    assert_eq!(
        world.run('a', vec![drop_table(view_ref), stream("w"), drop_table(table), stream("t")]),
        "0 rows"
    );
}

#[test]
fn rows_definitions_and_counters_are_proven_and_index_entries_are_not() {
    let mut world = World::new();
    let mut spec = table_spec("t", "a int4 not null, b int4", &[0]);
    spec.indexes = vec![index("i", &[1], false)];
    let table = world.create(spec);
    world.run('a', vec![insert(table, &[0, 1], vec![vec![int(1), int(2)], vec![int(3), int(4)]])]);
    world.run('a', vec![delete(table, keys(vec![int(3)]))]);
    let mut shown = Vec::new();
    let gone = row_key(table, &[Value::Int4(3)]);
    let all = row_space(&world.machine, world.machine.applied());
    for key in all.into_iter().map(|(key, _)| key).chain([gone]) {
        let (value, proof) = world.machine.prove(Table::Row, &key).expect("healthy");
        let hash = value.as_deref().map(sha256);
        let place = trie_key(Table::Row, &key);
        assert!(verify_trie(&world.machine.state_root(), &place, hash.as_ref(), &proof));
        shown.push(format!("{:?} {}", &key[..5], value.is_some()));
    }
    expect![[r#"
        [0, 0, 0, 0, 0] true
        [0, 0, 0, 1, 0] true
        [0, 0, 0, 1, 0] true
        [0, 0, 0, 2, 0] true
        [0, 0, 0, 16, 0] true
        [0, 0, 0, 16, 1] false
        [0, 0, 0, 16, 0] false"#]]
    .assert_eq(&shown.join("\n"));
}

#[test]
fn programs_definitions_and_reads_have_prices() {
    let (_, table) = world();
    let prices =
        Prices { transaction: 1, append: 100, append_byte: 0, transfer: 0, stream_create: 1_000 };
    let fee = |prices: Prices, action: Action| prices.fee(&tx("a.1", None, vec![action]));
    let rows = |count: usize| insert(table, &[0], vec![vec![int(1)]; count]);
    let fees =
        [rows(0), rows(1), rows(3), delete(table, all()), drop_table(table), reads(1, &[], &[])];
    assert_eq!(fees.map(|action| fee(prices, action)), [101, 101, 301, 101, 1_001, 1]);
    let bytes = Prices { append_byte: 1, ..Prices::default() };
    for action in [rows(3), drop_table(table), reads(1, &[vec![1; 9]], &[2])] {
        // An action has its tag before it.
        let size = u64::try_from(action.to_bytes().len()).expect("small") - 1;
        assert_eq!(fee(bytes, action), size);
    }
}

/// The text of a statement may be as long as a transaction; functions of long texts cost what they read.
#[test]
fn long_texts_cost_their_size() {
    let (mut world, table) = world();
    let long_text = "x".repeat(900_000);
    let set = update(table, keys(vec![int(0)]), vec![(2, text(&long_text))]);
    assert_eq!(world.run('a', vec![set]), "1 rows");
    let length = || Expr::Call(Function::Length, vec![Expr::Column(2)]);
    let sum = (0..40).fold(int(0), |sum, _| binary(Binary::Add, sum, length()));
    let lengths = |count: usize| {
        let filter = binary(Binary::Equal, sum.clone(), int(1));
        let filter = Expr::In(
            Box::new(Expr::Const(ColumnType::Bool, Value::Bool(true))),
            vec![filter; count],
        );
        delete(table, Selection { access: keys(vec![int(0)]).access, filter: Some(filter) })
    };
    assert_eq!(world.run('a', vec![lengths(10)]), "0 rows");
    assert_eq!(world.run('a', vec![lengths(100)]), "QP0223 statement does too much (action 0)");
}
