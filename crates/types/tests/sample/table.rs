//! Samples of tables and row programs.

use fastrand::Rng;
use quipu_types::procedure::{Call, ProcedureDef, ProcedureParameter, ProcedureSpec, Relied};
use quipu_types::program::{
    Access, Alter, Binary, Conflict, Define, Expr, Function, Op, Program, Selection, TableRef,
    Unary,
};
use quipu_types::table::{
    Body, CheckSpec, ColumnOptions, ForeignKey, Identity, IndexSpec, Reaction, TableDef, TableSpec,
};
use quipu_types::*;

use super::{Sample, array, bytes, list, name};

impl Sample for Writers {
    fn sample(rng: &mut Rng) -> Self {
        match rng.u8(0..3) {
            0 => Self::Creator,
            1 => Self::Anyone,
            _ => Self::Accounts(vec![AccountId([1; 32]), AccountId([2; 32])]),
        }
    }
}

fn constant(rng: &mut Rng) -> Expr {
    let (kind, value) = parameter(rng);
    Expr::Const(kind, value)
}

fn parameter(rng: &mut Rng) -> (ColumnType, Value) {
    let numeric = ColumnType::Numeric { precision: 12, scale: 2 };
    match rng.u8(0..14) {
        0 => (ColumnType::Bool, Value::Bool(rng.bool())),
        1 => (ColumnType::Int2, Value::Int2(rng.i16(..))),
        2 => (ColumnType::Int4, Value::Int4(rng.i32(..))),
        3 => (ColumnType::Int8, Value::Int8(rng.i64(..))),
        4 => (numeric, Value::Numeric(rng.i128(-999_999_999_999..=999_999_999_999))),
        5 => (ColumnType::Text, Value::Text(name(rng))),
        6 => (ColumnType::Bytea, Value::Bytea(bytes(rng))),
        7 => (ColumnType::Date, Value::Date(rng.i32(..))),
        8 => (ColumnType::Timestamptz, Value::Timestamptz(rng.i64(..))),
        9 => (ColumnType::Uuid, Value::Uuid(array(rng))),
        10 => (ColumnType::Jsonb, Value::Jsonb("{}".into())),
        11 => (ColumnType::Float8, Value::Float8(rng.u64(..))),
        12 => (ColumnType::Timestamp, Value::Timestamp(rng.i64(..))),
        _ => (numeric, Value::Null),
    }
}

const UNARY: [Unary; 5] =
    [Unary::Not, Unary::Negative, Unary::IsNull, Unary::IsTrue, Unary::IsFalse];
const BINARY: [Binary; 16] = [
    Binary::Add,
    Binary::Subtract,
    Binary::Multiply,
    Binary::Divide,
    Binary::Modulo,
    Binary::Concat,
    Binary::Equal,
    Binary::NotEqual,
    Binary::Less,
    Binary::LessOrEqual,
    Binary::Greater,
    Binary::GreaterOrEqual,
    Binary::And,
    Binary::Or,
    Binary::NotDistinct,
    Binary::Like,
];
const FUNCTIONS: [Function; 11] = [
    Function::Coalesce,
    Function::NullIf,
    Function::Greatest,
    Function::Least,
    Function::Abs,
    Function::Lower,
    Function::Upper,
    Function::Length,
    Function::Trim,
    Function::Substring,
    Function::Round,
];

fn expr(rng: &mut Rng, depth: u32) -> Expr {
    let kind = if depth == 0 { rng.u8(0..6) } else { rng.u8(0..12) };
    let depth_tag = rng.usize(0..1_000);
    let mut deeper = || Box::new(expr(rng, depth - 1));
    match kind {
        0 => constant(rng),
        1 => Expr::Column(rng.u16(..)),
        2 => Expr::Excluded(rng.u16(..)),
        3 => Expr::Now,
        4 => Expr::Random(rng.u32(..)),
        5 => Expr::Parameter(rng.u16(..)),
        6 => Expr::Unary(UNARY[depth_tag % UNARY.len()], deeper()),
        7 => Expr::Binary(BINARY[depth_tag % BINARY.len()], deeper(), deeper()),
        8 => Expr::In(deeper(), vec![constant(rng)]),
        9 => Expr::Case(vec![(*deeper(), *deeper())], Some(deeper())),
        10 => Expr::Cast(deeper(), ColumnType::Int8),
        _ => Expr::Call(FUNCTIONS[depth_tag % FUNCTIONS.len()], vec![*deeper(), *deeper()]),
    }
}

impl Sample for Expr {
    fn sample(rng: &mut Rng) -> Self {
        expr(rng, 3)
    }
}

impl Sample for TableRef {
    fn sample(rng: &mut Rng) -> Self {
        Self { id: rng.u32(..), version: Height::new(rng.u64(..)) }
    }
}

impl Sample for Selection {
    fn sample(rng: &mut Rng) -> Self {
        let access = match rng.u8(0..3) {
            0 => Access::All,
            1 => Access::Keys(list(rng, |rng| vec![constant(rng), constant(rng)])),
            _ => Access::Index { index: rng.u8(..), values: list(rng, constant) },
        };
        Self { access, filter: rng.bool().then(|| Expr::sample(rng)) }
    }
}

fn sets(rng: &mut Rng) -> Vec<(u16, Expr)> {
    list(rng, |rng| (rng.u16(..), Expr::sample(rng)))
}

impl Sample for Program {
    fn sample(rng: &mut Rng) -> Self {
        let conflict = match rng.u8(0..4) {
            0 => Conflict::Fail,
            1 => Conflict::Nothing { target: None },
            2 => Conflict::Nothing { target: Some(rng.u8(..)) },
            _ => Conflict::Update { target: 0, sets: sets(rng), filter: None },
        };
        let op = match rng.u8(0..5) {
            0 => {
                let rows = list(rng, |rng| vec![Expr::sample(rng), constant(rng)]);
                Op::Insert { columns: vec![0, 2], rows, conflict }
            }
            1 => Op::Update { rows: Selection::sample(rng), sets: sets(rng) },
            2 => Op::Delete { rows: Selection::sample(rng) },
            3 => Op::Truncate,
            _ => Op::Number { count: rng.u32(..1 << 17) },
        };
        Self {
            text: "insert".into(),
            table: TableRef::sample(rng),
            row_count: rng.bool().then(|| rng.u64(..)),
            rows_hash: rng.bool().then(|| Hash(array(rng))),
            returns: rng.bool(),
            parameters: list(rng, parameter),
            op,
        }
    }
}

impl Sample for ColumnOptions {
    fn sample(rng: &mut Rng) -> Self {
        Self {
            default: rng.bool().then(|| constant(rng)),
            identity: [Identity::Never, Identity::ByDefault, Identity::Always][rng.usize(0..3)],
            length: rng.u32(..),
            is_padded: rng.bool(),
        }
    }
}

fn index(rng: &mut Rng) -> IndexSpec {
    IndexSpec { name: name(rng), columns: vec![2, 1], is_unique: rng.bool() }
}

fn check(rng: &mut Rng) -> CheckSpec {
    CheckSpec { name: name(rng), expr: Expr::sample(rng), text: "n > 0".into() }
}

fn foreign_key(rng: &mut Rng) -> ForeignKey {
    let all = [Reaction::Refuse, Reaction::Cascade, Reaction::SetNull, Reaction::SetDefault];
    let mut reaction = || all[rng.usize(0..4)];
    let (on_delete, on_update) = (reaction(), reaction());
    ForeignKey { name: name(rng), columns: vec![1], table: rng.u32(..), on_delete, on_update }
}

impl Sample for Reads {
    fn sample(rng: &mut Rng) -> Self {
        let height = Height::new(rng.u64(..));
        Self { height, keys: list(rng, bytes), tables: list(rng, |rng| rng.u32(..)) }
    }
}

impl Sample for TableSpec {
    fn sample(rng: &mut Rng) -> Self {
        let schema = Schema::parse("id int8 not null, n int4, t text").expect("a schema");
        Self {
            name: name(rng),
            options: schema.columns().iter().map(|_| ColumnOptions::sample(rng)).collect(),
            schema,
            primary_key: if rng.bool() { vec![0] } else { vec![] },
            primary_key_name: "t_pkey".into(),
            indexes: list(rng, index),
            checks: list(rng, check),
            foreign_keys: list(rng, foreign_key),
            writers: Writers::sample(rng),
        }
    }
}

impl Sample for Define {
    fn sample(rng: &mut Rng) -> Self {
        let alter = match rng.u8(0..8) {
            0 => Alter::AddPrimaryKey { name: name(rng), columns: vec![0] },
            1 => Alter::DropConstraint(name(rng)),
            2 => Alter::SetWriters(Writers::sample(rng)),
            3 => Alter::AddIndex(index(rng)),
            4 => Alter::AddCheck(check(rng)),
            5 => Alter::AddForeignKey(foreign_key(rng)),
            6 => Alter::Rename(name(rng)),
            _ => {
                let column = Column { name: name(rng), kind: ColumnType::Int8, nullable: true };
                Alter::AddColumn(column, ColumnOptions::sample(rng))
            }
        };
        match rng.u8(0..7) {
            0 => Self::CreateTable(Box::new(TableSpec::sample(rng))),
            1 => {
                let text = "select 1".into();
                Self::CreateView { name: name(rng), text, replaces: rng.bool() }
            }
            2 => Self::Drop(TableRef::sample(rng)),
            3 => {
                let spec = Box::new(ProcedureSpec::sample(rng));
                Self::CreateProcedure { spec, replaces: rng.bool() }
            }
            4 => Self::DropProcedure(TableRef::sample(rng)),
            5 => Self::SetCallers(TableRef::sample(rng), Writers::sample(rng)),
            _ => Self::Alter(TableRef::sample(rng), alter),
        }
    }
}

impl Sample for ProcedureSpec {
    fn sample(rng: &mut Rng) -> Self {
        let parameter = |rng: &mut Rng| ProcedureParameter {
            name: if rng.bool() { name(rng) } else { String::new() },
            kind: parameter(rng).0,
            default: rng.bool().then(|| constant(rng)),
        };
        Self {
            name: name(rng),
            parameters: list(rng, parameter),
            text: "insert".into(),
            is_atomic: rng.bool(),
            programs: list(rng, Program::sample),
            is_definer: rng.bool(),
            callers: Writers::sample(rng),
        }
    }
}

impl Sample for ProcedureDef {
    fn sample(rng: &mut Rng) -> Self {
        let relied = |(table, rng): (u32, &mut Rng)| Relied {
            table,
            column_count: rng.u16(..),
            index_count: rng.u8(..),
            shape: Hash(array(rng)),
        };
        Self {
            id: rng.u32(..),
            creator: AccountId(array(rng)),
            version: Height::new(rng.u64(..)),
            spec: ProcedureSpec::sample(rng),
            relied: (16..rng.u32(16..20)).map(|table| relied((table, rng))).collect(),
        }
    }
}

impl Sample for Call {
    fn sample(rng: &mut Rng) -> Self {
        let argument = |rng: &mut Rng| rng.bool().then(|| parameter(rng));
        Self { procedure: TableRef::sample(rng), arguments: list(rng, argument) }
    }
}

impl Sample for TableDef {
    fn sample(rng: &mut Rng) -> Self {
        let view = Body::View { name: name(rng), text: "select 1".into() };
        Self {
            id: rng.u32(..),
            creator: AccountId(array(rng)),
            version: Height::new(rng.u64(..)),
            body: if rng.bool() { view } else { Body::Table(TableSpec::sample(rng)) },
            referenced_by: list(rng, |rng| rng.u32(..)),
        }
    }
}
