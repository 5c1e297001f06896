//! What executing row programs costs, on one thread and on more: microseconds a transaction, the whole block counted.
//!
//! `cargo run -p quipu-state --example execute`: the median of some blocks. Each block is 1,000 transactions of one
//! `UPDATE t SET n = n + 1 WHERE …` on a table of 100,000 rows: *apart* takes a row for each, *some* has 1 of 10 take
//! one of 10 rows, *one row* has all take the same; *looked for* reads 50 rows and changes one of them. *commits* are of
//! the cursors of a consumer group of 256 members in 64 lanes, *joins* of a member that begins anew.

#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![expect(clippy::arithmetic_side_effects, reason = "a program for developers")]

use std::num::NonZeroUsize;
use std::time::Instant;

use quipu_crypto::hash::sha256;
use quipu_state::{
    ACTION_COUNT_MIN, Group, GroupLane, Machine, MemoryStore, Ordered, OrderedBlock,
};
use quipu_types::cursor::Certified;
use quipu_types::genesis::GENESIS_VERSION;
use quipu_types::group::{MEMBER_COUNT_MAX, SESSION_US_MAX};
use quipu_types::program::{
    Access, Binary, Conflict, Define, Expr, Op, Program, Selection, TableRef,
};
use quipu_types::table::{ColumnOptions, TABLE_ID_FIRST, TableSpec};
use quipu_types::{
    Action, ColumnType, Genesis, GroupAction, GroupOp, Hash, Height, Lane, Outcome, PublicKey,
    Schema, Seqno, Signature, Suite, Time, Transaction, Value, Voters, Writers,
};

const ROW_COUNT: i64 = 100_000;
const TRANSACTION_COUNT: i64 = 1_000;
const BLOCK_COUNT: i64 = 31;

/// Rows that a transaction reads, the one that it changes first, by the transaction's number.
type Shape = fn(i64) -> Vec<i64>;

const SHAPES: [(&str, Shape); 4] = [
    ("apart", |number| vec![spread(number)]),
    ("some", |number| vec![if number % 10 == 0 { number / 10 % 10 } else { spread(number) }]),
    ("one row", |_| vec![5]),
    ("looked for", |number| (0..50).map(|more| (spread(number) + more) % ROW_COUNT).collect()),
];

/// What a transaction does to a consumer group that stood so before its block, by the transaction's number.
type GroupShape = fn(&Group, i64) -> Vec<Action>;

const GROUP_SHAPES: [(&str, GroupShape); 2] = [("commits", commits), ("joins", joins)];

const fn spread(number: i64) -> i64 {
    number * 7_919 % ROW_COUNT
}

fn main() {
    println!("{TRANSACTION_COUNT} transactions a block, median of {BLOCK_COUNT} blocks");
    for (name, shape) in SHAPES {
        let mut line = format!("{name:10}");
        for threads in [1, 2, 4] {
            let (micros, taken) = measure(threads, shape);
            line += &format!("  {threads} threads {micros:6.2} us ({taken:3} % taken)");
        }
        println!("{line}");
    }
    for (name, shape) in GROUP_SHAPES {
        println!("{name:10}  1 threads {:6.2} us", measure_group(shape));
    }
}

/// Microseconds a transaction of a consumer group.
fn measure_group(shape: GroupShape) -> f64 {
    let mut world = World::new(1);
    let create = GroupOp::Create { consumers: Writers::Creator, starts: vec![] };
    let members = (0..MEMBER_COUNT_MAX).map(|member| join(&member.to_string()));
    world.apply(vec![vec![of_group(create)], members.collect()]);
    let mut all: Vec<f64> = (0..BLOCK_COUNT)
        .map(|_| {
            let group = world.machine.group("g").expect("memory is healthy").expect("it is there");
            world.apply((0..TRANSACTION_COUNT).map(|number| shape(&group, number)).collect())
        })
        .collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default() / 1_000.0
}

/// A commit of each lane in turn.
fn commits(group: &Group, number: i64) -> Vec<Action> {
    let number = usize::try_from(number).unwrap_or_default();
    let (lane, turn) = (number % group.lanes.len(), number / group.lanes.len());
    let Some(GroupLane { owner: Some(owner), cursor }) = group.lanes.get(lane).cloned() else {
        return vec![];
    };
    let from = cursor.seqno.get() + u64::try_from(turn).unwrap_or_default();
    vec![of_group(GroupOp::Commit {
        member: owner.member,
        lane: Lane::new(u16::try_from(lane).unwrap_or_default()),
        generation: owner.generation,
        from: Seqno::new(from),
        to: Certified { seqno: Seqno::new(from + 1), ..cursor },
    })]
}

/// A member that begins anew, which is all that a full group takes.
fn joins(_: &Group, number: i64) -> Vec<Action> {
    vec![join(&(number % 256).to_string())]
}

fn join(member: &str) -> Action {
    of_group(GroupOp::Join { member: member.into(), session_us: SESSION_US_MAX })
}

fn of_group(op: GroupOp) -> Action {
    Action::Group(Box::new(GroupAction { group: "g".into(), op }))
}

/// Microseconds a transaction, and how many of a hundred were taken as they were tried.
fn measure(threads: usize, shape: Shape) -> (f64, u64) {
    let mut world = World::new(threads);
    let mut all: Vec<f64> = (0..BLOCK_COUNT)
        .map(|block| {
            let numbers = block * TRANSACTION_COUNT..(block + 1) * TRANSACTION_COUNT;
            world.apply(numbers.map(|number| vec![run(update(&shape(number)))]).collect())
        })
        .collect();
    all.sort_by(f64::total_cmp);
    let median = all.get(all.len() / 2).copied().unwrap_or_default();
    let total = u64::try_from(BLOCK_COUNT * TRANSACTION_COUNT).unwrap_or(u64::MAX);
    (median / 1_000.0, world.machine.tried_counts().taken * 100 / total)
}

struct World {
    machine: Machine<MemoryStore>,
    anchor: Hash,
    sequence: u64,
}

impl World {
    fn new(threads: usize) -> Self {
        let threads = NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN);
        let machine = Machine::open(MemoryStore::new(), &genesis()).expect("memory opens");
        let machine = machine.with_threads(threads, ACTION_COUNT_MIN);
        let mut world = Self { anchor: machine.chain(), machine, sequence: 0 };
        let create = Define::CreateTable(Box::new(table()));
        world.apply(vec![vec![Action::Define(Box::new(create))]]);
        for from in (0..ROW_COUNT).step_by(10_000) {
            let rows = (from..from + 10_000).map(|id| vec![long(id), long(0)]).collect();
            let op = Op::Insert { columns: vec![0, 1], rows, conflict: Conflict::Fail };
            world.apply(vec![vec![run(op)]]);
        }
        world.machine.flush().expect("memory flushes");
        world
    }

    /// Applies a block of these transactions; microseconds that it took.
    fn apply(&mut self, transactions: Vec<Vec<Action>>) -> f64 {
        let signer = PublicKey::new(Suite::Ed25519Sha256, &[1; 32]).expect("32 bytes");
        let (anchor, first) = (self.anchor, self.sequence + 1);
        let made: Vec<Transaction> = (first..)
            .zip(transactions)
            .map(|(sequence, actions)| {
                let (incarnation, route, signature) = (0, None, Signature([0; 64]));
                Transaction { signer, incarnation, sequence, anchor, route, actions, signature }
            })
            .collect();
        let ordered: Vec<Ordered<'_>> = (first..)
            .zip(&made)
            .map(|(sequence, transaction)| {
                let (lane, seqno) = (Lane::new(0), Seqno::new(sequence));
                Ordered { lane, seqno, tx: sha256(&sequence.to_le_bytes()), transaction }
            })
            .collect();
        self.sequence = made.last().map_or(self.sequence, |last| last.sequence);
        let height = self.machine.applied().next();
        let header_hash = sha256(&height.get().to_le_bytes());
        let time_us = Time::new(height.get());
        let block = OrderedBlock {
            epoch: 0,
            height,
            header_hash,
            time_us,
            transactions: &ordered,
            present: Voters::default(),
        };
        let began = Instant::now();
        let applied = self.machine.apply(&block).expect("memory is healthy");
        let micros = began.elapsed().as_secs_f64() * 1e6;
        let is_done = |outcome| outcome == Outcome::Applied;
        assert!(applied.receipts.iter().all(|one| is_done(one.outcome)), "every one can run");
        micros
    }
}

fn run(op: Op) -> Action {
    let table = TableRef { id: TABLE_ID_FIRST, version: Height::new(1) };
    let (text, parameters) = (String::new(), Vec::new());
    let (row_count, rows_hash, returns) = (None, None, false);
    Action::Run(Box::new(Program { text, table, row_count, rows_hash, returns, parameters, op }))
}

/// One row is changed; all of them are read.
fn update(ids: &[i64]) -> Op {
    let access = Access::Keys(ids.iter().map(|id| vec![long(*id)]).collect());
    let one = ids.first().copied().unwrap_or_default();
    let filter = binary(Binary::Equal, Expr::Column(0), long(one));
    let sum = binary(Binary::Add, Expr::Column(1), long(1));
    Op::Update { rows: Selection { access, filter: Some(filter) }, sets: vec![(1, sum)] }
}

fn binary(op: Binary, left: Expr, right: Expr) -> Expr {
    Expr::Binary(op, Box::new(left), Box::new(right))
}

const fn long(value: i64) -> Expr {
    Expr::Const(ColumnType::Int8, Value::Int8(value))
}

fn table() -> TableSpec {
    TableSpec {
        name: "t".into(),
        schema: Schema::parse("id int8 not null, n int8").expect("a schema"),
        options: vec![ColumnOptions::default(); 2],
        primary_key: vec![0],
        primary_key_name: "t_pkey".into(),
        indexes: vec![],
        checks: vec![],
        foreign_keys: vec![],
        writers: Writers::Creator,
    }
}

fn genesis() -> Genesis {
    Genesis {
        version: GENESIS_VERSION,
        name: "execute".into(),
        time_us: Time::new(1),
        lane_count: 64,
        clock_seed: "seed".into(),
        clock_rate_hz: 1,
        hash_rate_fastest_hz: 1,
        anchor_window_heights: 1_000_000,
        height_interval_min_ms: 1,
        height_interval_idle_ms: 1,
        open_streams: true,
        validators: vec![],
        accounts: vec![],
        coin: None,
        stake: None,
    }
}
