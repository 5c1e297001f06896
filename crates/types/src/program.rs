//! Row programs: what one SQL statement does to one table's rows, compiled by who signs it, executed by everyone.
//!
//! ```text
//!  UPDATE t SET n = n + 1 WHERE id = 7      ── gateway ──>   Program { text, table, row_count?, parameters, op }
//!                                                              op: insert | update | delete | truncate | number
//!                                                              access: every row | keys | an index' values
//! ```
//! * What varies from one execution of a prepared statement to the next are its `parameters`, `$1` first: text and `op`
//!   stay as they were compiled.
//! * A program names its table by number and by the version of its definition: it runs on the columns that it was
//!   compiled for, or not at all.
//! * `row_count` and `rows_hash` are what its signer told somebody already: a program that changes another number of
//!   rows, or gives others, is refused.
//! * [`Reads`] says what its signer had read: a transaction that holds them runs only if nothing of that has changed, by
//!   others or by what stands before them in it.
//! * Expressions have no floats and nothing volatile: `Now` is the height's time, `Random` comes from the
//!   transaction's name.
//!
//! # Limits
//! Depth of an expression [`EXPR_DEPTH_MAX`]; all else by the size of a transaction.

use crate::codec::{
    Decode, DecodeError, Encode, Reader, put_bytes, put_count, put_list, put_option,
};
use crate::number::{Hash, Height};
use crate::procedure::ProcedureSpec;
use crate::row::{
    COLUMN_COUNT_MAX, Column, ColumnType, NAME_SIZE_MAX, VALUE_SIZE_MAX, Value, check_name,
    fits_precision, put_type, read_type,
};
use crate::table::{
    CheckSpec, ColumnOptions, ForeignKey, IndexSpec, KEY_COLUMN_COUNT_MAX, ROW_KEY_SIZE_MAX,
    TableSpec, VIEW_SIZE_MAX, decode_columns, decode_name, put_columns,
};
use crate::transaction::{TRANSACTION_SIZE_MAX, Writers};

/// Deepest expression.
pub const EXPR_DEPTH_MAX: u32 = 48;
/// Most rows that an insert lists, and keys that a selection lists.
pub const ROW_COUNT_MAX: usize = 1 << 17;
/// Most parameters of a program.
pub const PARAMETER_COUNT_MAX: usize = 4_096;
/// Longest key that a transaction says it has read: an index' entry, its values and its row's key.
pub const READ_KEY_SIZE_MAX: usize = 2 * ROW_KEY_SIZE_MAX;
/// Most keys and tables that a transaction says it has read.
pub const READ_COUNT_MAX: usize = 1 << 14;

/// One statement, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The statement as it was written, for readers.
    pub text: String,
    /// The table that it changes.
    pub table: TableRef,
    /// How many rows it must change, where its signer has told.
    pub row_count: Option<u64>,
    /// SHA-256 over the encodings of the rows that it must write or remove, each a byte string, where its signer has
    /// told.
    pub rows_hash: Option<Hash>,
    /// Whether whoever executes it for a client keeps the rows for an answer: `RETURNING`.
    pub returns: bool,
    /// What [`Expr::Parameter`] stands for, at most [`PARAMETER_COUNT_MAX`].
    pub parameters: Vec<(ColumnType, Value)>,
    /// What it does.
    pub op: Op,
}

/// A table at a version of its definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRef {
    /// Its number.
    pub id: u32,
    /// Height of the definition's newest change.
    pub version: Height,
}

/// What a program does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Adds rows.
    Insert {
        /// 0-based columns that are given.
        columns: Vec<u16>,
        /// A value for each of them, by row.
        rows: Vec<Vec<Expr>>,
        /// What is done where a row is there.
        conflict: Conflict,
    },
    /// Changes rows.
    Update {
        /// Which.
        rows: Selection,
        /// Columns and their new values; a column of the expression is the row before.
        sets: Vec<(u16, Expr)>,
    },
    /// Removes rows.
    Delete {
        /// Which.
        rows: Selection,
    },
    /// Removes every row; numbering goes on.
    Truncate,
    /// Hands out numbers of the identity column, for rows that a later transaction adds. Where the program returns rows,
    /// the first number's 8 bytes are the one.
    Number {
        /// How many, at most [`ROW_COUNT_MAX`].
        count: u32,
    },
}

/// What an insert does where a row with its key is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// It fails.
    Fail,
    /// The row is passed over.
    Nothing {
        /// The constraint: 0 the primary key, `i` index `i - 1`; any where none is said.
        target: Option<u8>,
    },
    /// The row that is there is changed.
    Update {
        /// As for `Nothing`.
        target: u8,
        /// As for [`Op::Update`]; `Excluded` is the row that was to be added.
        sets: Vec<(u16, Expr)>,
        /// Rows that are there and do not fulfil this stay as they are.
        filter: Option<Expr>,
    },
}

/// Some of a table's rows, ascending by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Where they are looked for.
    pub access: Access,
    /// What they fulfil.
    pub filter: Option<Expr>,
}

/// Where rows are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everywhere.
    All,
    /// Under these keys: a value for each column of the primary key, or a row's number.
    Keys(Vec<Vec<Expr>>),
    /// Where an index' first columns have these values: 0 is the primary key, `i` index `i - 1`.
    Index {
        /// The index.
        index: u8,
        /// The values.
        values: Vec<Expr>,
    },
}

/// A scalar expression over a row. Null is unknown, as in SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// A constant of a type.
    Const(ColumnType, Value),
    /// A column of the row, 0-based.
    Column(u16),
    /// A column of the row that was to be inserted.
    Excluded(u16),
    /// A parameter of the program, 0-based.
    Parameter(u16),
    /// Time of the height, `timestamptz`.
    Now,
    /// A `uuid` that the transaction's name gives; numbers tell those of one program apart.
    Random(u32),
    /// One operand.
    Unary(Unary, Box<Self>),
    /// Two operands.
    Binary(Binary, Box<Self>, Box<Self>),
    /// Whether the first is among the others.
    In(Box<Self>, Vec<Self>),
    /// The value behind the first condition that is true, or else the last.
    Case(Vec<(Self, Self)>, Option<Box<Self>>),
    /// As another type.
    Cast(Box<Self>, ColumnType),
    /// A function.
    Call(Function, Vec<Self>),
}

/// Operators of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is SQL's operator of that name")]
pub enum Unary {
    Not = 0,
    Negative = 1,
    IsNull = 2,
    IsTrue = 3,
    IsFalse = 4,
}

/// Operators of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is SQL's operator of that name")]
pub enum Binary {
    Add = 0,
    Subtract = 1,
    Multiply = 2,
    Divide = 3,
    Modulo = 4,
    Concat = 5,
    Equal = 6,
    NotEqual = 7,
    Less = 8,
    LessOrEqual = 9,
    Greater = 10,
    GreaterOrEqual = 11,
    And = 12,
    Or = 13,
    /// Equal, or both null.
    NotDistinct = 14,
    /// `LIKE` with `%`, `_` and `\`.
    Like = 15,
}

/// Functions, PostgreSQL's of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is SQL's function of that name")]
pub enum Function {
    Coalesce = 0,
    NullIf = 1,
    Greatest = 2,
    Least = 3,
    Abs = 4,
    Lower = 5,
    Upper = 6,
    Length = 7,
    Trim = 8,
    Substring = 9,
    Round = 10,
}

/// What a transaction's signer had read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// The height that was read.
    pub height: Height,
    /// Keys of the row space whose rows, or absence, were read.
    pub keys: Vec<Vec<u8>>,
    /// Tables of which any row may have been read.
    pub tables: Vec<u32>,
}

/// A change of what tables there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Define {
    /// Creates a table.
    CreateTable(Box<TableSpec>),
    /// Creates a view.
    CreateView {
        /// Its name.
        name: String,
        /// Its query.
        text: String,
        /// Whether a view of the name is replaced.
        replaces: bool,
    },
    /// Drops a table or a view.
    Drop(TableRef),
    /// Changes a table.
    Alter(TableRef, Alter),
    /// Creates a procedure.
    CreateProcedure {
        /// What it is; who may call it stays as it was where one is replaced.
        spec: Box<ProcedureSpec>,
        /// Whether a procedure of the name is replaced.
        replaces: bool,
    },
    /// Drops a procedure.
    DropProcedure(TableRef),
    /// Says who may call a procedure.
    SetCallers(TableRef, Writers),
}

/// A change of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alter {
    /// Adds a column at the end; rows that are there get its default.
    AddColumn(Column, ColumnOptions),
    /// Makes columns the primary key of a table that has none.
    AddPrimaryKey {
        /// The constraint's name.
        name: String,
        /// 0-based columns.
        columns: Vec<u16>,
    },
    /// Adds an index or a unique constraint.
    AddIndex(IndexSpec),
    /// Drops an index, a check or a foreign key by its name.
    DropConstraint(String),
    /// Adds a check.
    AddCheck(CheckSpec),
    /// Adds a foreign key.
    AddForeignKey(ForeignKey),
    /// Says who may change rows.
    SetWriters(Writers),
    /// Renames the table.
    Rename(String),
}

impl Expr {
    /// The expressions that it is made of, in order.
    pub fn children(&self) -> impl Iterator<Item = &Self> {
        let (single, pairs, list): (Vec<&Self>, &[(Self, Self)], &[Self]) = match self {
            Self::Unary(_, operand) | Self::Cast(operand, _) => (vec![operand], &[], &[]),
            Self::Binary(_, left, right) => (vec![left, right], &[], &[]),
            Self::In(operand, list) => (vec![operand], &[], list),
            Self::Case(branches, otherwise) => {
                (otherwise.as_deref().into_iter().collect(), branches, &[])
            }
            Self::Call(_, list) => (Vec::new(), &[], list),
            Self::Const(..)
            | Self::Column(_)
            | Self::Excluded(_)
            | Self::Parameter(_)
            | Self::Now
            | Self::Random(_) => (Vec::new(), &[], &[]),
        };
        let pairs = pairs.iter().flat_map(|(condition, value)| [condition, value]);
        single.into_iter().chain(pairs).chain(list)
    }
}

impl Encode for Program {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.text.as_bytes());
        self.table.encode(out);
        match self.row_count {
            None => out.push(0),
            Some(count) => {
                out.push(1);
                out.extend_from_slice(&count.to_le_bytes());
            }
        }
        put_option(out, self.rows_hash.as_ref());
        out.push(u8::from(self.returns));
        put_count(out, self.parameters.len());
        for (kind, value) in &self.parameters {
            put_const(out, *kind, value);
        }
        self.op.encode(out);
    }
}

impl Decode for Program {
    const SIZE_MIN: usize = 24;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            text: reader.text("statement", TRANSACTION_SIZE_MAX)?.to_owned(),
            table: TableRef::decode(reader)?,
            row_count: if reader.bool("row count")? { Some(reader.u64()?) } else { None },
            rows_hash: reader.option("rows' hash")?,
            returns: reader.bool("returns")?,
            parameters: decode_parameters(reader)?,
            op: Op::decode(reader)?,
        })
    }
}

fn decode_parameters(reader: &mut Reader<'_>) -> Result<Vec<(ColumnType, Value)>, DecodeError> {
    let count = reader.count("parameters", PARAMETER_COUNT_MAX, 2)?;
    (0..count).map(|_| decode_const(reader)).collect()
}

impl Encode for TableRef {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.to_le_bytes());
        self.version.encode(out);
    }
}

impl Decode for TableRef {
    const SIZE_MIN: usize = 12;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: reader.u32()?, version: Height::decode(reader)? })
    }
}

impl Encode for Op {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Insert { columns, rows, conflict } => {
                out.push(0);
                put_columns(out, columns);
                put_rows(out, rows);
                conflict.encode(out);
            }
            Self::Update { rows, sets } => {
                out.push(1);
                rows.encode(out);
                put_sets(out, sets);
            }
            Self::Delete { rows } => {
                out.push(2);
                rows.encode(out);
            }
            Self::Truncate => out.push(3),
            Self::Number { count } => {
                out.push(4);
                out.extend_from_slice(&count.to_le_bytes());
            }
        }
    }
}

impl Decode for Op {
    const SIZE_MIN: usize = 1;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            0 => {
                let columns = decode_columns(reader, COLUMN_COUNT_MAX)?;
                let rows = decode_rows(reader, columns.len())?;
                Self::Insert { columns, rows, conflict: Conflict::decode(reader)? }
            }
            1 => Self::Update { rows: Selection::decode(reader)?, sets: decode_sets(reader)? },
            2 => Self::Delete { rows: Selection::decode(reader)? },
            3 => Self::Truncate,
            4 => {
                let count = reader.u32()?;
                if usize::try_from(count).is_ok_and(|count| count > ROW_COUNT_MAX) {
                    return Err(DecodeError::NotCanonical { what: "numbers" });
                }
                Self::Number { count }
            }
            tag => return Err(DecodeError::Tag { what: "program", tag: u64::from(tag) }),
        })
    }
}

/// Rows of equally many values: the count of rows, then of values, then all values.
fn put_rows(out: &mut Vec<u8>, rows: &[Vec<Expr>]) {
    put_count(out, rows.len());
    for expr in rows.iter().flatten() {
        expr.encode(out);
    }
}

fn decode_rows(reader: &mut Reader<'_>, width: usize) -> Result<Vec<Vec<Expr>>, DecodeError> {
    // Rows of no columns have no bytes to bound them.
    let count_max = if width == 0 { 1 } else { ROW_COUNT_MAX };
    let count = reader.count("rows", count_max, width)?;
    let row = |reader: &mut Reader<'_>| (0..width).map(|_| Expr::decode(reader)).collect();
    (0..count).map(|_| row(reader)).collect()
}

fn put_sets(out: &mut Vec<u8>, sets: &[(u16, Expr)]) {
    put_count(out, sets.len());
    for (column, expr) in sets {
        out.extend_from_slice(&column.to_le_bytes());
        expr.encode(out);
    }
}

fn decode_sets(reader: &mut Reader<'_>) -> Result<Vec<(u16, Expr)>, DecodeError> {
    let count = reader.count("assignments", COLUMN_COUNT_MAX, 3)?;
    (0..count).map(|_| Ok((reader.u16()?, Expr::decode(reader)?))).collect()
}

impl Encode for Conflict {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Fail => out.push(0),
            Self::Nothing { target: None } => out.push(1),
            Self::Nothing { target: Some(target) } => out.extend_from_slice(&[2, *target]),
            Self::Update { target, sets, filter } => {
                out.extend_from_slice(&[3, *target]);
                put_sets(out, sets);
                put_option(out, filter.as_ref());
            }
        }
    }
}

impl Decode for Conflict {
    const SIZE_MIN: usize = 1;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            0 => Self::Fail,
            1 => Self::Nothing { target: None },
            2 => Self::Nothing { target: Some(reader.u8()?) },
            3 => Self::Update {
                target: reader.u8()?,
                sets: decode_sets(reader)?,
                filter: reader.option("filter")?,
            },
            tag => return Err(DecodeError::Tag { what: "conflict", tag: u64::from(tag) }),
        })
    }
}

impl Encode for Selection {
    fn encode(&self, out: &mut Vec<u8>) {
        match &self.access {
            Access::All => out.push(0),
            Access::Keys(keys) => {
                out.push(1);
                put_count(out, keys.first().map_or(0, Vec::len));
                put_rows(out, keys);
            }
            Access::Index { index, values } => {
                out.extend_from_slice(&[2, *index]);
                put_list(out, values);
            }
        }
        put_option(out, self.filter.as_ref());
    }
}

impl Decode for Selection {
    const SIZE_MIN: usize = 2;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let access = match reader.u8()? {
            0 => Access::All,
            1 => {
                let width = reader.count("key columns", KEY_COLUMN_COUNT_MAX, 0)?;
                let keys = decode_rows(reader, width)?;
                if (width == 0) != keys.is_empty() {
                    return Err(DecodeError::NotCanonical { what: "keys" });
                }
                Access::Keys(keys)
            }
            2 => {
                let index = reader.u8()?;
                Access::Index { index, values: reader.list("values", KEY_COLUMN_COUNT_MAX)? }
            }
            tag => return Err(DecodeError::Tag { what: "access", tag: u64::from(tag) }),
        };
        Ok(Self { access, filter: reader.option("filter")? })
    }
}

impl Encode for Expr {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Const(kind, value) => put_const(out, *kind, value),
            Self::Column(column) => put_tagged(out, 16, &column.to_le_bytes()),
            Self::Excluded(column) => put_tagged(out, 17, &column.to_le_bytes()),
            Self::Parameter(number) => put_tagged(out, 26, &number.to_le_bytes()),
            Self::Now => out.push(18),
            Self::Random(number) => put_tagged(out, 19, &number.to_le_bytes()),
            Self::Unary(op, expr) => {
                put_tagged(out, 20, &[unary_tag(*op)]);
                expr.encode(out);
            }
            Self::Binary(op, left, right) => {
                put_tagged(out, 21, &[binary_tag(*op)]);
                left.encode(out);
                right.encode(out);
            }
            Self::In(expr, list) => {
                out.push(22);
                expr.encode(out);
                put_list(out, list);
            }
            Self::Case(branches, otherwise) => {
                out.push(23);
                put_count(out, branches.len());
                for (condition, value) in branches {
                    condition.encode(out);
                    value.encode(out);
                }
                put_option(out, otherwise.as_deref());
            }
            Self::Cast(expr, kind) => {
                out.push(24);
                put_type(out, *kind);
                expr.encode(out);
            }
            Self::Call(function, arguments) => {
                put_tagged(out, 25, &[function_tag(*function)]);
                put_list(out, arguments);
            }
        }
    }
}

fn put_tagged(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

/// A constant: 0 and its type where it is null, else the tag of its type and its value.
pub(crate) fn put_const(out: &mut Vec<u8>, kind: ColumnType, value: &Value) {
    out.push(u8::from(!matches!(value, Value::Null)));
    put_type(out, kind);
    match value {
        Value::Null => {}
        Value::Bool(value) => out.push(u8::from(*value)),
        Value::Int2(value) => out.extend_from_slice(&value.to_le_bytes()),
        Value::Int4(value) | Value::Date(value) => out.extend_from_slice(&value.to_le_bytes()),
        Value::Int8(value) | Value::Timestamptz(value) | Value::Timestamp(value) => {
            out.extend_from_slice(&value.to_le_bytes());
        }
        Value::Numeric(value) => out.extend_from_slice(&value.to_le_bytes()),
        Value::Text(text) | Value::Jsonb(text) => put_bytes(out, text.as_bytes()),
        Value::Bytea(bytes) => put_bytes(out, bytes),
        Value::Uuid(bytes) => out.extend_from_slice(bytes),
        Value::Float8(bits) => out.extend_from_slice(&bits.to_le_bytes()),
    }
}

/// What [`put_const`] wrote.
pub(crate) fn decode_const(reader: &mut Reader<'_>) -> Result<(ColumnType, Value), DecodeError> {
    let has_value = reader.bool("constant")?;
    decode_value(reader, has_value)
}

fn decode_value(
    reader: &mut Reader<'_>,
    has_value: bool,
) -> Result<(ColumnType, Value), DecodeError> {
    let kind = read_type(reader)?;
    if !has_value {
        return Ok((kind, Value::Null));
    }
    let value = match kind {
        ColumnType::Bool => Value::Bool(reader.bool("bool")?),
        ColumnType::Int2 => Value::Int2(i16::from_le_bytes(reader.array()?)),
        ColumnType::Int4 => Value::Int4(i32::from_le_bytes(reader.array()?)),
        ColumnType::Int8 => Value::Int8(i64::from_le_bytes(reader.array()?)),
        ColumnType::Date => Value::Date(i32::from_le_bytes(reader.array()?)),
        ColumnType::Timestamptz => Value::Timestamptz(i64::from_le_bytes(reader.array()?)),
        ColumnType::Timestamp => Value::Timestamp(i64::from_le_bytes(reader.array()?)),
        ColumnType::Numeric { precision, .. } => {
            let value = i128::from_le_bytes(reader.array()?);
            if !fits_precision(value, precision) {
                return Err(DecodeError::NotCanonical { what: "numeric" });
            }
            Value::Numeric(value)
        }
        ColumnType::Text => Value::Text(reader.text("text", VALUE_SIZE_MAX)?.to_owned()),
        ColumnType::Jsonb => Value::Jsonb(reader.text("jsonb", VALUE_SIZE_MAX)?.to_owned()),
        ColumnType::Bytea => Value::Bytea(reader.bytes("bytea", VALUE_SIZE_MAX)?.to_vec()),
        ColumnType::Uuid => Value::Uuid(reader.array()?),
        ColumnType::Float8 => Value::Float8(reader.u64()?),
    };
    Ok((kind, value))
}

impl Decode for Expr {
    const SIZE_MIN: usize = 1;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        decode_expr(reader, 0)
    }
}

fn decode_expr(reader: &mut Reader<'_>, depth: u32) -> Result<Expr, DecodeError> {
    if depth >= EXPR_DEPTH_MAX {
        let (size, size_max) = (u64::from(depth), u64::from(EXPR_DEPTH_MAX));
        return Err(DecodeError::TooLong { what: "depth of an expression", size, size_max });
    }
    let deeper = depth.saturating_add(1);
    let list = |reader: &mut Reader<'_>| {
        let count = reader.count("operands", TRANSACTION_SIZE_MAX, 1)?;
        (0..count).map(|_| decode_expr(reader, deeper)).collect::<Result<Vec<_>, _>>()
    };
    Ok(match reader.u8()? {
        tag @ (0 | 1) => {
            let (kind, value) = decode_value(reader, tag == 1)?;
            Expr::Const(kind, value)
        }
        16 => Expr::Column(reader.u16()?),
        17 => Expr::Excluded(reader.u16()?),
        26 => Expr::Parameter(reader.u16()?),
        18 => Expr::Now,
        19 => Expr::Random(reader.u32()?),
        20 => {
            let op = tagged(&UNARY, reader.u8()?, "operator")?;
            Expr::Unary(op, Box::new(decode_expr(reader, deeper)?))
        }
        21 => {
            let op = tagged(&BINARY, reader.u8()?, "operator")?;
            let left = Box::new(decode_expr(reader, deeper)?);
            Expr::Binary(op, left, Box::new(decode_expr(reader, deeper)?))
        }
        22 => {
            let expr = Box::new(decode_expr(reader, deeper)?);
            Expr::In(expr, list(reader)?)
        }
        23 => {
            let count = reader.count("branches", TRANSACTION_SIZE_MAX, 2)?;
            let branches = (0..count)
                .map(|_| Ok((decode_expr(reader, deeper)?, decode_expr(reader, deeper)?)))
                .collect::<Result<Vec<_>, DecodeError>>()?;
            let otherwise = match reader.bool("else")? {
                true => Some(Box::new(decode_expr(reader, deeper)?)),
                false => None,
            };
            Expr::Case(branches, otherwise)
        }
        24 => {
            let kind = read_type(reader)?;
            Expr::Cast(Box::new(decode_expr(reader, deeper)?), kind)
        }
        25 => Expr::Call(tagged(&FUNCTIONS, reader.u8()?, "function")?, list(reader)?),
        tag => return Err(DecodeError::Tag { what: "expression", tag: u64::from(tag) }),
    })
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

/// The member of a list whose place is the tag.
fn tagged<T: Copy>(all: &[T], tag: u8, what: &'static str) -> Result<T, DecodeError> {
    let wrong = DecodeError::Tag { what, tag: u64::from(tag) };
    all.get(usize::from(tag)).copied().ok_or(wrong)
}

fn place<T: PartialEq>(all: &[T], member: &T) -> u8 {
    let place = all.iter().position(|other| other == member);
    place.and_then(|place| u8::try_from(place).ok()).expect("every member is listed")
}

fn unary_tag(op: Unary) -> u8 {
    place(&UNARY, &op)
}

fn binary_tag(op: Binary) -> u8 {
    place(&BINARY, &op)
}

fn function_tag(function: Function) -> u8 {
    place(&FUNCTIONS, &function)
}

impl Encode for Reads {
    fn encode(&self, out: &mut Vec<u8>) {
        self.height.encode(out);
        put_count(out, self.keys.len());
        for key in &self.keys {
            put_bytes(out, key);
        }
        put_count(out, self.tables.len());
        for table in &self.tables {
            out.extend_from_slice(&table.to_le_bytes());
        }
    }
}

impl Decode for Reads {
    const SIZE_MIN: usize = 16;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let height = Height::decode(reader)?;
        let count = reader.count("keys read", READ_COUNT_MAX, 4)?;
        let keys = (0..count)
            .map(|_| Ok(reader.bytes("key", READ_KEY_SIZE_MAX)?.to_vec()))
            .collect::<Result<_, DecodeError>>()?;
        let count = reader.count("tables read", READ_COUNT_MAX, 4)?;
        let tables = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
        Ok(Self { height, keys, tables })
    }
}

impl Encode for Define {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::CreateTable(spec) => {
                out.push(0);
                spec.encode(out);
            }
            Self::CreateView { name, text, replaces } => {
                out.push(1);
                put_bytes(out, name.as_bytes());
                put_bytes(out, text.as_bytes());
                out.push(u8::from(*replaces));
            }
            Self::Drop(table) => {
                out.push(2);
                table.encode(out);
            }
            Self::Alter(table, alter) => {
                out.push(3);
                table.encode(out);
                alter.encode(out);
            }
            Self::CreateProcedure { spec, replaces } => {
                out.push(4);
                spec.encode(out);
                out.push(u8::from(*replaces));
            }
            Self::DropProcedure(procedure) => {
                out.push(5);
                procedure.encode(out);
            }
            Self::SetCallers(procedure, callers) => {
                out.push(6);
                procedure.encode(out);
                callers.encode(out);
            }
        }
    }
}

impl Decode for Define {
    const SIZE_MIN: usize = 1;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            0 => Self::CreateTable(Box::new(TableSpec::decode(reader)?)),
            1 => Self::CreateView {
                name: decode_name(reader)?,
                text: reader.text("view", VIEW_SIZE_MAX)?.to_owned(),
                replaces: reader.bool("replaces")?,
            },
            2 => Self::Drop(TableRef::decode(reader)?),
            3 => Self::Alter(TableRef::decode(reader)?, Alter::decode(reader)?),
            4 => Self::CreateProcedure {
                spec: Box::new(ProcedureSpec::decode(reader)?),
                replaces: reader.bool("replaces")?,
            },
            5 => Self::DropProcedure(TableRef::decode(reader)?),
            6 => Self::SetCallers(TableRef::decode(reader)?, Writers::decode(reader)?),
            tag => return Err(DecodeError::Tag { what: "definition", tag: u64::from(tag) }),
        })
    }
}

impl Encode for Alter {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::AddColumn(column, options) => {
                out.push(0);
                put_bytes(out, column.name.as_bytes());
                put_type(out, column.kind);
                out.push(u8::from(column.nullable));
                options.encode(out);
            }
            Self::AddPrimaryKey { name, columns } => {
                out.push(1);
                put_bytes(out, name.as_bytes());
                put_columns(out, columns);
            }
            Self::AddIndex(index) => {
                out.push(2);
                index.encode(out);
            }
            Self::DropConstraint(name) => {
                out.push(3);
                put_bytes(out, name.as_bytes());
            }
            Self::AddCheck(check) => {
                out.push(4);
                check.encode(out);
            }
            Self::AddForeignKey(key) => {
                out.push(5);
                key.encode(out);
            }
            Self::SetWriters(writers) => {
                out.push(6);
                writers.encode(out);
            }
            Self::Rename(name) => {
                out.push(7);
                put_bytes(out, name.as_bytes());
            }
        }
    }
}

impl Decode for Alter {
    const SIZE_MIN: usize = 2;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            0 => {
                let name = reader.text("column", NAME_SIZE_MAX)?.to_owned();
                check_name(&name).map_err(|_| DecodeError::NotCanonical { what: "column" })?;
                let kind = read_type(reader)?;
                let column = Column { name, kind, nullable: reader.bool("nullable")? };
                Self::AddColumn(column, ColumnOptions::decode(reader)?)
            }
            1 => Self::AddPrimaryKey {
                name: decode_name(reader)?,
                columns: decode_columns(reader, KEY_COLUMN_COUNT_MAX)?,
            },
            2 => Self::AddIndex(IndexSpec::decode(reader)?),
            3 => Self::DropConstraint(decode_name(reader)?),
            4 => Self::AddCheck(CheckSpec::decode(reader)?),
            5 => Self::AddForeignKey(ForeignKey::decode(reader)?),
            6 => Self::SetWriters(Writers::decode(reader)?),
            7 => Self::Rename(decode_name(reader)?),
            tag => return Err(DecodeError::Tag { what: "change", tag: u64::from(tag) }),
        })
    }
}
