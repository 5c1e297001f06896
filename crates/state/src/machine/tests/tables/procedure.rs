//! Procedures: a call does what its programs do one by one, for whom it may, and only while they mean what they meant.

use quipu_types::procedure::{PROGRAM_SHIFT, ProcedureParameter, procedure_name_key};
use quipu_types::program::{Access, Alter};
use quipu_types::table::{COUNTERS, PROCEDURES, TableCounters, ledger_key};
use quipu_types::{Call, Decode as _, ProcedureDef, ProcedureSpec};

use super::program::{World, all, alter, delete, drop_table, insert, keys, row_key, update};
use super::property::blocks;
use super::*;

type Arguments = Vec<(ColumnType, Value)>;

fn spec(name: &str, programs: Vec<Action>) -> ProcedureSpec {
    let program = |action: Action| match action {
        Action::Run(program) => *program,
        other => panic!("{other:?} is no program"),
    };
    ProcedureSpec {
        name: name.into(),
        parameters: vec![],
        text: "text".into(),
        is_atomic: false,
        programs: programs.into_iter().map(program).collect(),
        is_definer: false,
        callers: Writers::Anyone,
    }
}

fn parameter(kind: ColumnType) -> ProcedureParameter {
    ProcedureParameter { name: String::new(), kind, default: None }
}

fn create(spec: ProcedureSpec) -> Action {
    Action::Define(Box::new(Define::CreateProcedure { spec: Box::new(spec), replaces: false }))
}

fn replace(spec: ProcedureSpec) -> Action {
    Action::Define(Box::new(Define::CreateProcedure { spec: Box::new(spec), replaces: true }))
}

fn drop_procedure(procedure: TableRef) -> Action {
    Action::Define(Box::new(Define::DropProcedure(procedure)))
}

fn set_callers(procedure: TableRef, callers: Writers) -> Action {
    Action::Define(Box::new(Define::SetCallers(procedure, callers)))
}

fn call(procedure: TableRef, arguments: Arguments) -> Action {
    let arguments = arguments.into_iter().map(Some).collect();
    Action::Call(Box::new(Call { procedure, arguments }))
}

fn four(value: i32) -> (ColumnType, Value) {
    (ColumnType::Int4, Value::Int4(value))
}

impl World {
    fn procedure(&self, name: &str) -> TableRef {
        let id = self.get(&procedure_name_key(name)).expect("there is one");
        let id = u32::from_le_bytes(id.try_into().expect("4 bytes"));
        let def = self.get(&ledger_key(PROCEDURES, id)).expect("it has a definition");
        TableRef { id, version: ProcedureDef::from_bytes(&def).expect("a definition").version }
    }

    fn created(&mut self, spec: ProcedureSpec) -> TableRef {
        let name = spec.name.clone();
        assert_eq!(self.run('a', vec![create(spec)]), "0 rows");
        self.procedure(&name)
    }
}

/// The transaction that runs programs one by one, and the one that calls a procedure of them; none where they may not be
/// those of a procedure. Both use up a number.
fn twins(actions: &[Action], next_id: u32) -> Option<(Vec<Action>, Vec<Action>)> {
    let mut arguments = Arguments::new();
    let mut programs = Vec::new();
    for action in actions {
        let Action::Run(program) = action else { return None };
        let is_number = matches!(program.op, Op::Number { .. });
        if program.returns || program.row_count.is_some() || is_number {
            return None;
        }
        let mut program = program.clone();
        if let Op::Insert { rows, .. } = &mut program.op {
            for expr in rows.iter_mut().flatten() {
                if let Expr::Const(kind, value) = expr {
                    arguments.push((*kind, value.clone()));
                    let place = u16::try_from(arguments.len() - 1).expect("few");
                    *expr = Expr::Parameter(place);
                }
            }
        }
        programs.push(Action::Run(program));
    }
    let procedure = TableRef { id: next_id, version: Height::new(0) };
    let ends = |spec: ProcedureSpec, inside: Vec<Action>| {
        [vec![create(spec)], inside, vec![drop_procedure(procedure)]].concat()
    };
    let parameters = arguments.iter().map(|(kind, _)| parameter(*kind)).collect();
    let own = ProcedureSpec { parameters, ..spec("p", programs) };
    let alone = ends(spec("p", vec![]), actions.to_vec());
    Some((alone, ends(own, vec![call(procedure, arguments)])))
}

/// The number that comes next.
fn next_id(machine: &Machine<MemoryStore>) -> u32 {
    let counters = machine.row_at(&ledger_key(COUNTERS, 0), machine.applied()).expect("healthy");
    let counters = counters.map(|bytes| TableCounters::from_bytes(&bytes).expect("counters"));
    16 + u32::try_from(counters.unwrap_or_default().next_row).expect("few")
}

proptest! {
    #[test]
    fn a_call_does_what_its_programs_do_one_by_one(bytes in vec(any::<u8>(), 0..1_200)) {
        let (mut alone, called) = (open(MemoryStore::new()), open(MemoryStore::new()));
        // Calls beside one another, too (O1).
        let mut called = called.with_threads(NonZeroUsize::MIN.saturating_add(1), 0);
        for transaction in blocks(bytes).into_iter().flat_map(|(block, ..)| block) {
            // One a height, so that both know the number that comes next.
            let (mut left, mut right) = (transaction.clone(), transaction);
            if let Some((one, other)) = twins(&left.actions, next_id(&alone)) {
                (left.actions, right.actions) = (one, other);
            }
            let is_call = left.actions != right.actions;
            let (one, other) =
                (apply(&mut alone, &[left]).receipts[0], apply(&mut called, &[right]).receipts[0]);
            match (one.outcome, other.outcome) {
                (Outcome::Refused { code, action: Some(place) }, Outcome::Refused { code: same, action })
                    if is_call && action == Some(1) =>
                {
                    let program = u16::try_from(place - 1).expect("few") << PROGRAM_SHIFT;
                    prop_assert_eq!((code, program | one.detail), (same, other.detail));
                }
                // A constraint that is not there is no rival of a row, but nothing that a procedure can rely on.
                (Outcome::Applied, Outcome::Refused { code: code::BAD_DEFINITION, action: Some(0) })
                    if is_call => return Ok(()),
                // A program that is for another definition is found when the procedure is created.
                (Outcome::Refused { .. }, Outcome::Refused { action: Some(0), .. }) if is_call => {}
                (one_outcome, other_outcome) => {
                    prop_assert_eq!(one_outcome, other_outcome);
                    prop_assert_eq!(one.row_count, other.row_count);
                    prop_assert_eq!(one.detail, other.detail);
                }
            }
            let height = alone.applied();
            prop_assert_eq!(row_space(&alone, height), row_space(&called, height));
        }
    }
}

fn counted() -> TableSpec {
    let mut spec = table_spec("t", "id int4 not null, n int4, m int4", &[0]);
    spec.indexes = vec![index("by_n", &[1], false), index("by_m", &[2], true)];
    spec.checks = vec![above("positive", 1, 0)];
    spec
}

fn by_index(number: u8, value: Expr) -> Selection {
    Selection { access: Access::Index { index: number, values: vec![value] }, filter: None }
}

#[test]
fn who_may_call_and_with_whose_rights() {
    let mut world = World::new();
    let table = world.create(counted());
    let add =
        || insert(table, &[0, 1, 2], vec![vec![Expr::Parameter(0), int(1), Expr::Parameter(0)]]);
    let own = |name: &str| ProcedureSpec {
        parameters: vec![parameter(ColumnType::Int4)],
        ..spec(name, vec![add()])
    };
    let invoker = world.created(own("invoker"));
    let definer = world.created(ProcedureSpec { is_definer: true, ..own("definer") });
    world.check(
        'b',
        vec![
            add(),
            call(invoker, vec![four(1)]),
            call(definer, vec![four(2)]),
            replace(own("definer")),
            drop_procedure(definer),
            set_callers(definer, Writers::Anyone),
        ],
        &expect![[r#"
            QP0225 role may not change this (action 0)
            QP0225 role may not change this (action 0)
            1 rows
            QP0225 role may not change this (action 0)
            QP0225 role may not change this (action 0)
            QP0225 role may not change this (action 0)
        "#]],
    );
    world.check(
        'a',
        vec![call(invoker, vec![four(3)]), set_callers(definer, Writers::Creator)],
        &expect![[r#"
            1 rows
            0 rows
        "#]],
    );
    let narrow = world.procedure("definer");
    world.check(
        'b',
        vec![call(definer, vec![four(4)]), call(narrow, vec![four(4)])],
        &expect![[r#"
            QP0212 table was changed meanwhile (action 0)
            QP0235 role may not call this (action 0)
        "#]],
    );
    // Who may call is kept where a procedure is replaced, and who owns it.
    assert_eq!(world.run('a', vec![replace(own("definer"))]), "0 rows");
    let narrow = world.procedure("definer");
    assert_eq!(narrow.id, definer.id);
    world.check(
        'b',
        vec![call(narrow, vec![four(4)])],
        &expect![[r#"
        QP0235 role may not call this (action 0)
    "#]],
    );
    assert_eq!(world.count(table), 2);
}

#[test]
fn a_failure_inside_leaves_nothing_and_says_where() {
    let mut world = World::new();
    let table = world.create(counted());
    let add = |n: Expr| insert(table, &[0, 1, 2], vec![vec![Expr::Parameter(0), n, int(5)]]);
    let programs = vec![
        add(int(1)),
        update(table, all(), vec![(2, null(ColumnType::Int4))]),
        update(table, keys(vec![Expr::Parameter(0)]), vec![(1, Expr::Parameter(1))]),
    ];
    let parameters = vec![parameter(ColumnType::Int4), parameter(ColumnType::Int4)];
    let both = world.created(ProcedureSpec { parameters, ..spec("both", programs) });
    world.check(
        'a',
        vec![
            call(both, vec![four(1), four(0)]),
            call(both, vec![four(1), four(7)]),
            call(both, vec![four(1), four(7)]),
            call(both, vec![four(2), (ColumnType::Int4, Value::Null)]),
        ],
        &expect![[r#"
            QP0215 row violates a check constraint (action 0), 1025
            3 rows
            QP0213 duplicate key value (action 0)
            4 rows
        "#]],
    );
    assert_eq!(world.count(table), 2);
    // Nor do the actions beside it.
    let (one, wrong) = (call(both, vec![four(3), four(1)]), call(both, vec![four(4), four(0)]));
    assert_eq!(
        world.run('a', vec![one, wrong]),
        "QP0215 row violates a check constraint (action 1), 1025"
    );
    assert_eq!(world.count(table), 2);
}

#[test]
fn arguments_are_as_many_and_of_the_types_that_were_declared() {
    let mut world = World::new();
    let table = world.create(counted());
    let numeric = |scale| ColumnType::Numeric { precision: 38, scale };
    let row = vec![Expr::Parameter(0), Expr::Parameter(1), Expr::Parameter(2)];
    let default = |kind, value| ProcedureParameter { default: Some(value), ..parameter(kind) };
    let parameters = vec![
        parameter(ColumnType::Int4),
        parameter(numeric(10)),
        default(ColumnType::Int4, binary(Binary::Add, int(40), int(2))),
    ];
    let add = insert(table, &[0, 1, 2], vec![row]);
    let add = world.created(ProcedureSpec { parameters, ..spec("add", vec![add]) });
    let lacking = |arguments| Action::Call(Box::new(Call { procedure: add, arguments }));
    let two = || (numeric(1), Value::Numeric(24));
    world.check(
        'a',
        vec![
            call(add, vec![four(1), two()]),
            call(add, vec![four(1), two(), four(1), four(1)]),
            call(add, vec![four(1), four(2), four(3)]),
            call(add, vec![(ColumnType::Int8, Value::Int8(1)), two(), four(3)]),
            lacking(vec![None, Some(two()), Some(four(3))]),
            lacking(vec![Some(four(1)), Some(two()), None]),
            call(TableRef { id: 99, ..add }, vec![]),
            call(TableRef { version: add.version.next(), ..add }, vec![four(2), two(), four(3)]),
        ],
        &expect![[r#"
            QP0222 types do not fit (action 0)
            QP0222 types do not fit (action 0)
            QP0222 types do not fit (action 0)
            QP0222 types do not fit (action 0)
            QP0222 types do not fit (action 0)
            1 rows
            QP0232 no such procedure (action 0)
            QP0212 table was changed meanwhile (action 0)
        "#]],
    );
    let row = world.get(&row_key(table, &[Value::Int4(1)])).expect("it was added");
    assert_eq!(row, [0, 1, 0, 0, 0, 2, 0, 0, 0, 42, 0, 0, 0]);
}

#[test]
fn a_procedure_lives_as_long_as_its_tables_have_what_it_names() {
    let mut world = World::new();
    let table = world.create(counted());
    let mut wide = table_spec("wide", "n int4", &[]);
    wide.writers = Writers::Anyone;
    let keyless = world.create(wide);
    let first = world.created(spec("first", vec![update(table, by_index(1, int(1)), vec![])]));
    let second = world.created(spec("second", vec![update(table, by_index(2, int(1)), vec![])]));
    let whole = world.created(spec("whole", vec![delete(table, all())]));
    let add = world.created(spec("add", vec![insert(keyless, &[0], vec![vec![int(1)]])]));
    let column = Column { name: "more".into(), kind: ColumnType::Int4, nullable: true };
    let dropped = |name: &str| Alter::DropConstraint(name.into());
    let changes = [
        ("t", Alter::AddColumn(column, ColumnOptions::default())),
        ("t", Alter::AddIndex(index("third", &[1, 2], false))),
        ("t", Alter::Rename("u".into())),
        ("u", dropped("third")),
        ("u", dropped("by_m")),
        ("u", dropped("by_n")),
    ];
    let mut shown = String::new();
    for (name, change) in changes {
        let now = world.table(name);
        assert_eq!(world.run('a', vec![alter(now, change)]), "0 rows");
        for procedure in [first, second, whole, add] {
            let outcome = world.run('a', vec![call(procedure, vec![])]);
            shown += outcome.split(" procedure").next().unwrap_or_default();
            shown += if procedure == add { "\n" } else { " | " };
        }
    }
    expect![[r#"
        0 rows | 0 rows | 0 rows | 1 rows
        0 rows | 0 rows | 0 rows | 1 rows
        0 rows | 0 rows | 0 rows | 1 rows
        0 rows | 0 rows | 0 rows | 1 rows
        0 rows | QP0234 | 0 rows | 1 rows
        QP0234 | QP0234 | 0 rows | 1 rows
    "#]]
    .assert_eq(&shown);
    let now = world.table("wide");
    assert_eq!(world.run('a', vec![delete(now, all())]), "6 rows");
    let key = Alter::AddPrimaryKey { name: "key".into(), columns: vec![0] };
    assert_eq!(world.run('a', vec![alter(now, key)]), "0 rows");
    world.check(
        'a',
        vec![call(add, vec![])],
        &expect![[r#"
        QP0234 procedure is out of date (action 0)
    "#]],
    );
}

#[test]
fn a_dropped_table_stays_dropped_for_a_procedure() {
    let mut world = World::new();
    let table = world.create(counted());
    let clear = world.created(spec("clear", vec![delete(table, all()), delete(table, all())]));
    assert_eq!(world.run('a', vec![drop_table(table)]), "0 rows");
    world.create(counted());
    world.check(
        'a',
        vec![call(clear, vec![]), drop_procedure(clear)],
        &expect![[r#"
        QP0210 no such table (action 0)
        0 rows
    "#]],
    );
    world.check(
        'a',
        vec![call(clear, vec![]), drop_procedure(clear)],
        &expect![[r#"
        QP0232 no such procedure (action 0)
        QP0232 no such procedure (action 0)
    "#]],
    );
}

#[test]
fn what_a_procedure_may_not_be_is_refused() {
    let mut world = World::new();
    let table = world.create(counted());
    let programs = |change: fn(&mut Program)| {
        let mut program = program(table, Op::Delete { rows: all() });
        change(&mut program);
        create(spec("p", vec![Action::Run(Box::new(program))]))
    };
    world.check(
        'a',
        vec![
            create(spec("pg_p", vec![])),
            programs(|program| program.returns = true),
            programs(|program| program.row_count = Some(0)),
            programs(|program| program.rows_hash = Some(Hash::ZERO)),
            programs(|program| program.parameters = vec![four(1)]),
            programs(|program| program.op = Op::Number { count: 1 }),
            programs(|program| program.table.id = 99),
            programs(|program| program.table.version = program.table.version.next()),
            programs(|program| {
                let rows =
                    Selection { access: Access::Index { index: 9, values: vec![] }, filter: None };
                program.op = Op::Delete { rows };
            }),
            // A table of the name is something else.
            create(spec("t", vec![])),
            create(spec("t", vec![])),
            replace(spec("t", vec![])),
        ],
        &expect![[r#"
            QP0208 name is reserved (action 0)
            QP0229 definition is wrong (action 0)
            QP0229 definition is wrong (action 0)
            QP0229 definition is wrong (action 0)
            QP0229 definition is wrong (action 0)
            QP0229 definition is wrong (action 0)
            QP0210 no such table (action 0)
            QP0212 table was changed meanwhile (action 0)
            QP0229 definition is wrong (action 0)
            0 rows
            QP0233 procedure exists already (action 0)
            0 rows
        "#]],
    );
}
