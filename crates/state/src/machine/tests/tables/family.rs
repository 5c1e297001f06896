//! Foreign keys that say what becomes of rows whose parents go, over three tables of which one refers to itself too:
//! against the model.

use quipu_types::program::Access;

use super::model::Model;
use super::property::{Tape, model_run, outcome};
use super::*;

const ROW_COUNT: i32 = 6;

/// `g (id)`, `p (id, of g)`, `c (id, of p, boss of c)`.
fn tables(tape: &mut Tape, ids: [u32; 3]) -> Vec<TableSpec> {
    let columns = |tape: &mut Tape| {
        let null = tape.pick(&["", "", " not null"]);
        format!("id int4 not null, of int4{null}, boss int4")
    };
    let mut specs = Vec::new();
    for (name, parent) in [("g", None), ("p", Some(ids[0])), ("c", Some(ids[1]))] {
        let mut spec = table_spec(name, &columns(tape), &[0]);
        spec.writers = Writers::Anyone;
        spec.options[1].default = tape.pick(&[None, Some(int(1)), Some(int(9))]);
        if tape.below(2) == 0 {
            spec.indexes.push(index("i", &tape.pick(&[vec![1], vec![1, 0]]), false));
        }
        if tape.below(6) == 0 {
            spec.checks.push(above("k", 1, 0));
        }
        spec.foreign_keys.extend(parent.map(|parent| tape.foreign("f", &[1], parent)));
        if name == "c" {
            spec.foreign_keys.push(tape.foreign("b", &[2], 0));
        }
        specs.push(spec);
    }
    specs
}

fn run(id: u32, version: Height, op: Op) -> Action {
    Action::Run(Box::new(program(TableRef { id, version }, op)))
}

fn number(tape: &mut Tape) -> i32 {
    i32::try_from(tape.below(7)).expect("small")
}

/// A row that most often has its parents.
fn insert(id: u32, version: Height, key: i32, tape: &mut Tape) -> Action {
    let of = if tape.below(8) == 0 { null(ColumnType::Int4) } else { int(key % 3) };
    let boss = if key == 0 || tape.below(3) == 0 { null(ColumnType::Int4) } else { int(key / 2) };
    let rows = vec![vec![int(key), of, boss]];
    run(id, version, Op::Insert { columns: vec![0, 1, 2], rows, conflict: Conflict::Fail })
}

fn change(id: u32, version: Height, tape: &mut Tape) -> Action {
    let keys = tape.some(2, |tape| vec![int(number(tape))]);
    let access = if tape.below(8) == 0 { Access::All } else { Access::Keys(keys) };
    let rows = Selection { access, filter: None };
    let op = match tape.below(4) {
        0 | 1 => Op::Delete { rows },
        2 => Op::Update { rows, sets: vec![(0, int(number(tape) + 3))] },
        _ => {
            let sum = binary(Binary::Add, Expr::Column(0), int(number(tape) - 3));
            Op::Update { rows, sets: vec![(0, sum)] }
        }
    };
    run(id, version, op)
}

/// Transactions of one action each, a block each.
fn story(tape: &mut Tape, ids: [u32; 3]) -> Vec<Action> {
    let made = Height::new(1);
    let specs = tables(tape, ids).into_iter();
    let mut all: Vec<Action> =
        specs.map(|spec| Action::Define(Box::new(Define::CreateTable(Box::new(spec))))).collect();
    for (id, version) in ids.into_iter().zip([made, made.next(), made.next().next()]) {
        all.extend((0..ROW_COUNT).map(|key| insert(id, version, key, tape)));
    }
    all.extend((0..6).map(|_| {
        let place = tape.pick(&[0, 0, 0, 1, 1, 2]);
        change(ids[place], Height::new(u64::try_from(place).expect("small") + 1), tape)
    }));
    all
}

/// Runs a story on both sides; gives how many rows each of its changes made different, beside those it counts.
fn tell(bytes: Vec<u8>) -> std::result::Result<usize, TestCaseError> {
    let mut tape = Tape::new(bytes);
    let first = quipu_types::table::TABLE_ID_FIRST;
    let actions = story(&mut tape, [first, first + 1, first + 2]);
    let (mut machine, mut model) = (open(MemoryStore::new()), Model::default());
    let mut follows = 0;
    for (action, sequence) in actions.into_iter().zip(1..) {
        model.height = model.height.next();
        let anchor = model.height.get() - 1;
        let before = model.row_space();
        let transaction = tx(&format!("a.{sequence}@{anchor}"), None, vec![action]);
        let (wanted, _) = model_run(&mut model, &transaction);
        let applied = apply(&mut machine, std::slice::from_ref(&transaction));
        prop_assert_eq!(outcome(&applied.receipts[0]), wanted, "{:?}", transaction.actions);
        let space: Rows = model.row_space().into_iter().collect();
        prop_assert_eq!(row_space(&machine, machine.applied()), space, "{:?}", transaction.actions);
        let tables = |space: &BTreeMap<Vec<u8>, Vec<u8>>| {
            let rows = space
                .keys()
                .filter(|key| key.first_chunk().is_some_and(|id| u32::from_be_bytes(*id) >= first));
            rows.count()
        };
        let lost = tables(&before).saturating_sub(tables(&model.row_space()));
        follows += usize::from(u64::try_from(lost).expect("small") > wanted.unwrap_or(u64::MAX));
    }
    Ok(follows)
}

proptest! {
    #[test]
    fn rows_follow_their_parents_as_in_a_list_of_rows(bytes in vec(any::<u8>(), 150)) {
        tell(bytes)?;
    }
}

/// The stories reach what they are for.
#[test]
fn rows_do_follow_their_parents() {
    let follows = (0..300_u64).map(|seed| {
        let part = |part: u64| *sha256_concat(&[&seed.to_le_bytes(), &part.to_le_bytes()]).bytes();
        tell((0..5).flat_map(part).collect()).expect("the model agrees")
    });
    let follows: usize = follows.sum();
    assert!(follows > 100, "{follows}");
}
