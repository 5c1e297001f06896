//! Column types, schemas, and the canonical encoding of one row (the payload of an event).
//!
//! ```text
//!  row = null bitmap, ceil(columns / 8) bytes, bit i of byte i/8 set: column i is null, spare bits 0
//!        then each value that is not null, in column order:
//!        bool 1 · int2 2 · int4 4 · int8 8 · date 4 (days since 1970-01-01)
//!        timestamptz, timestamp 8 (µs since 1970-01-01T00:00:00Z) · uuid 16 · float8 8 (its bits, unread)
//!        numeric(p,s): value × 10^s, 8 bytes for p ≤ 18, else 16
//!        text, bytea, jsonb: u32 length, bytes (jsonb: keys sorted, no spaces)
//! ```
//! Signed numbers are two's complement, little endian. One row has one encoding (T1): decoding checks
//! every value, so what is stored can be read by everyone for ever.

use std::fmt;

use thiserror::Error;

use crate::codec::{Decode, DecodeError, Encode, Reader, put_bytes, put_count};

/// Most columns of a schema.
pub const COLUMN_COUNT_MAX: usize = 256;
/// Longest name of a stream or a column, in bytes (PostgreSQL's limit).
pub const NAME_SIZE_MAX: usize = 63;
/// Most digits of a `numeric`.
pub const NUMERIC_PRECISION_MAX: u8 = 38;
/// Longest value of a row, in bytes.
pub const VALUE_SIZE_MAX: usize = 1 << 20;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// Truth value.
    Bool,
    /// 16-bit integer.
    Int2,
    /// 32-bit integer.
    Int4,
    /// 64-bit integer.
    Int8,
    /// Exact decimal of `precision` digits, `scale` of them after the point.
    Numeric {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, at most `precision`.
        scale: u8,
    },
    /// UTF-8 text.
    Text,
    /// Bytes.
    Bytea,
    /// Days.
    Date,
    /// Microseconds, UTC.
    Timestamptz,
    /// 128-bit identifier.
    Uuid,
    /// JSON in canonical form.
    Jsonb,
    /// IEEE 754 double, kept as opaque bits: no row program computes with it.
    Float8,
    /// Microseconds, of no zone.
    Timestamp,
}

impl ColumnType {
    /// Whether it holds integers alone.
    #[must_use]
    pub const fn is_integer(self) -> bool {
        matches!(self, Self::Int2 | Self::Int4 | Self::Int8)
    }
}

/// One column of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Lower-case name.
    pub name: String,
    /// What it holds.
    pub kind: ColumnType,
    /// Whether a row may leave it null.
    pub nullable: bool,
}

/// The columns of a stream, 1 to [`COLUMN_COUNT_MAX`], names unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    columns: Vec<Column>,
}

/// An owned value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// No value.
    Null,
    /// `bool`
    Bool(bool),
    /// `int2`
    Int2(i16),
    /// `int4`
    Int4(i32),
    /// `int8`
    Int8(i64),
    /// `numeric`: the value × 10^scale.
    Numeric(i128),
    /// `text`
    Text(String),
    /// `bytea`
    Bytea(Vec<u8>),
    /// `date`: days since 1970-01-01.
    Date(i32),
    /// `timestamptz`: microseconds since 1970-01-01T00:00:00Z.
    Timestamptz(i64),
    /// `uuid`
    Uuid([u8; 16]),
    /// `jsonb` in canonical form.
    Jsonb(String),
    /// `float8`: the bits.
    Float8(u64),
    /// `timestamp`: microseconds since 1970-01-01T00:00:00.
    Timestamp(i64),
}

/// A value borrowed from a row's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the borrowed twin of `Value`'s")]
pub enum ValueRef<'a> {
    Null,
    Bool(bool),
    Int2(i16),
    Int4(i32),
    Int8(i64),
    Numeric(i128),
    Text(&'a str),
    Bytea(&'a [u8]),
    Date(i32),
    Timestamptz(i64),
    Uuid([u8; 16]),
    Jsonb(&'a str),
    Float8(u64),
    Timestamp(i64),
}

/// Why a schema or a row is not valid.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowError {
    /// A schema's text or columns break a rule.
    #[error("schema: {reason}")]
    Schema {
        /// Which rule, with the offending part.
        reason: String,
    },
    /// The row does not have the schema's columns.
    #[error("row has {found} columns, its stream {wanted}")]
    Count {
        /// Columns of the row.
        found: usize,
        /// Columns of the schema.
        wanted: usize,
    },
    /// Null in a column that refuses it.
    #[error("column {column:?} must not be null")]
    Null {
        /// The column.
        column: String,
    },
    /// A value does not fit its column.
    #[error("column {column:?}: {reason}")]
    Value {
        /// The column.
        column: String,
        /// Why not.
        reason: String,
    },
    /// A member that no column has.
    #[error("no column {name:?}")]
    Unknown {
        /// The name.
        name: String,
    },
    /// The bytes are no row.
    #[error("row bytes: {0}")]
    Decode(#[from] DecodeError),
}

impl Schema {
    /// A schema of these columns.
    pub fn new(columns: Vec<Column>) -> Result<Self, RowError> {
        let wrong = |reason: String| Err(RowError::Schema { reason });
        if columns.is_empty() || columns.len() > COLUMN_COUNT_MAX {
            return wrong(format!(
                "{} columns, 1 to {COLUMN_COUNT_MAX} are allowed",
                columns.len()
            ));
        }
        let mut seen = std::collections::BTreeSet::new();
        for column in &columns {
            check_name(&column.name).map_err(|reason| RowError::Schema { reason })?;
            if column.name.starts_with('_') {
                return wrong(format!(
                    "column {:?}: a leading _ is for system columns",
                    column.name
                ));
            }
            if !seen.insert(column.name.as_str()) {
                return wrong(format!("column {:?} appears twice", column.name));
            }
            if let ColumnType::Numeric { precision, scale } = column.kind
                && (precision == 0 || precision > NUMERIC_PRECISION_MAX || scale > precision)
            {
                return wrong(format!(
                    "column {:?}: numeric({precision},{scale}) is not allowed, at most {NUMERIC_PRECISION_MAX} digits",
                    column.name
                ));
            }
        }
        Ok(Self { columns })
    }

    /// The columns.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Where a column stands, 0-based.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Reads `"carrier text not null, dep_delay int4, …"`: names, types, and `not null`.
    pub fn parse(text: &str) -> Result<Self, RowError> {
        let columns =
            split_columns(text).into_iter().map(parse_column).collect::<Result<_, _>>()?;
        Self::new(columns)
    }

    /// The canonical bytes of a row.
    pub fn encode_row(&self, values: &[Value]) -> Result<Vec<u8>, RowError> {
        if values.len() != self.columns.len() {
            return Err(RowError::Count { found: values.len(), wanted: self.columns.len() });
        }
        let mut out = vec![0; self.columns.len().div_ceil(8)];
        for (index, (column, value)) in self.columns.iter().zip(values).enumerate() {
            if matches!(value, Value::Null) {
                if !column.nullable {
                    return Err(RowError::Null { column: column.name.clone() });
                }
                if let Some(byte) = out.get_mut(index / 8) {
                    *byte |= 1 << (index % 8);
                }
            } else {
                encode_value(column, value, &mut out)?;
            }
        }
        Ok(out)
    }

    /// Walks a row's values without copying them; `visit` gets the column's index and its value.
    ///
    /// Accepts exactly the bytes that [`Schema::encode_row`] gives.
    pub fn walk_row<'a>(
        &self,
        bytes: &'a [u8],
        mut visit: impl FnMut(usize, ValueRef<'a>),
    ) -> Result<(), RowError> {
        let mut reader = Reader::new(bytes);
        let bitmap = reader.take(self.columns.len().div_ceil(8))?;
        let is_null =
            |index: usize| bitmap.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
        if (self.columns.len()..bitmap.len().saturating_mul(8)).any(is_null) {
            return Err(DecodeError::NotCanonical { what: "null bitmap" }.into());
        }
        for (index, column) in self.columns.iter().enumerate() {
            if is_null(index) {
                if !column.nullable {
                    return Err(RowError::Null { column: column.name.clone() });
                }
                visit(index, ValueRef::Null);
            } else {
                visit(index, decode_value(column, &mut reader)?);
            }
        }
        reader.end()?;
        Ok(())
    }

    /// A row's values, borrowed.
    pub fn decode_row<'a>(&self, bytes: &'a [u8]) -> Result<Vec<ValueRef<'a>>, RowError> {
        let mut values = Vec::with_capacity(self.columns.len());
        self.walk_row(bytes, |_, value| values.push(value))?;
        Ok(values)
    }

    /// Whether `bytes` are a row of this schema.
    pub fn check_row(&self, bytes: &[u8]) -> Result<(), RowError> {
        self.walk_row(bytes, |_, _| {})
    }

    /// The encoding of one column's value: what a stream routed by that column is hashed by.
    /// `Null` has the empty encoding.
    pub fn route_bytes(&self, bytes: &[u8], column: usize) -> Result<Vec<u8>, RowError> {
        let mut route = Vec::new();
        let mut failed = None;
        self.walk_row(bytes, |index, value| {
            if index == column
                && let Some(column) = self.columns.get(index)
            {
                failed = route_of(column, &value.to_owned(), &mut route).err();
            }
        })?;
        failed.map_or(Ok(route), Err)
    }
}

/// The bytes that route a value: a text's own bytes, else its row encoding; null is empty.
pub fn route_of(column: &Column, value: &Value, out: &mut Vec<u8>) -> Result<(), RowError> {
    match value {
        Value::Null => Ok(()),
        Value::Text(text) => {
            out.extend_from_slice(text.as_bytes());
            Ok(())
        }
        other => encode_value(column, other, out),
    }
}

impl ValueRef<'_> {
    /// The owned twin.
    #[must_use]
    pub fn to_owned(&self) -> Value {
        match *self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Int2(value) => Value::Int2(value),
            Self::Int4(value) => Value::Int4(value),
            Self::Int8(value) => Value::Int8(value),
            Self::Numeric(value) => Value::Numeric(value),
            Self::Text(value) => Value::Text(value.into()),
            Self::Bytea(value) => Value::Bytea(value.into()),
            Self::Date(value) => Value::Date(value),
            Self::Timestamptz(value) => Value::Timestamptz(value),
            Self::Uuid(value) => Value::Uuid(value),
            Self::Jsonb(value) => Value::Jsonb(value.into()),
            Self::Float8(value) => Value::Float8(value),
            Self::Timestamp(value) => Value::Timestamp(value),
        }
    }
}

/// Whether a name may stand for a stream or a column: lower case, digits, `_`, letter or `_` first.
pub fn check_name(name: &str) -> Result<(), String> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let rest =
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if first && rest && name.len() <= NAME_SIZE_MAX {
        Ok(())
    } else {
        Err(format!("name {name:?}: 1 to {NAME_SIZE_MAX} of a-z, 0-9 and _, no digit first"))
    }
}

fn split_columns(text: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    text.split(move |character: char| {
        match character {
            '(' => depth = depth.saturating_add(1),
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    })
    .collect()
}

fn parse_column(text: &str) -> Result<Column, RowError> {
    let lower = text.trim().to_ascii_lowercase();
    let wrong = |reason: String| RowError::Schema { reason };
    let (name, rest) = lower
        .split_once(char::is_whitespace)
        .ok_or_else(|| wrong(format!("{:?} is not `name type [not null]`", text.trim())))?;
    let (kind, nullable) = match rest.trim().strip_suffix("not null") {
        Some(kind) => (kind.trim(), false),
        None => (rest.trim(), true),
    };
    Ok(Column { name: name.to_owned(), kind: kind.parse()?, nullable })
}

impl std::str::FromStr for ColumnType {
    type Err = RowError;

    fn from_str(text: &str) -> Result<Self, RowError> {
        Ok(match text {
            "bool" | "boolean" => Self::Bool,
            "int2" | "smallint" => Self::Int2,
            "int4" | "int" | "integer" => Self::Int4,
            "int8" | "bigint" => Self::Int8,
            "text" => Self::Text,
            "bytea" => Self::Bytea,
            "date" => Self::Date,
            "timestamptz" | "timestamp with time zone" => Self::Timestamptz,
            "uuid" => Self::Uuid,
            "jsonb" => Self::Jsonb,
            "float8" | "double precision" => Self::Float8,
            "timestamp" | "timestamp without time zone" => Self::Timestamp,
            other => parse_numeric(other).ok_or_else(|| RowError::Schema {
                reason: format!(
                    "no type {other:?}; there are bool, int2, int4, int8, numeric(p,s), text, bytea, date, timestamptz, uuid, jsonb, float8, timestamp"
                ),
            })?,
        })
    }
}

fn parse_numeric(text: &str) -> Option<ColumnType> {
    let inner = text.strip_prefix("numeric")?.trim().strip_prefix('(')?.strip_suffix(')')?;
    let (precision, scale) = inner.split_once(',').unwrap_or((inner, "0"));
    Some(ColumnType::Numeric {
        precision: precision.trim().parse().ok()?,
        scale: scale.trim().parse().ok()?,
    })
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::Int2 => f.write_str("int2"),
            Self::Int4 => f.write_str("int4"),
            Self::Int8 => f.write_str("int8"),
            Self::Numeric { precision, scale } => write!(f, "numeric({precision},{scale})"),
            Self::Text => f.write_str("text"),
            Self::Bytea => f.write_str("bytea"),
            Self::Date => f.write_str("date"),
            Self::Timestamptz => f.write_str("timestamptz"),
            Self::Uuid => f.write_str("uuid"),
            Self::Jsonb => f.write_str("jsonb"),
            Self::Float8 => f.write_str("float8"),
            Self::Timestamp => f.write_str("timestamp"),
        }
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, column) in self.columns.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let not_null = if column.nullable { "" } else { " not null" };
            write!(f, "{comma}{} {}{not_null}", column.name, column.kind)?;
        }
        Ok(())
    }
}

/// 10^38 does not fit the check `|value| < 10^p` in 128 bits only above 38 digits.
pub(crate) fn fits_precision(value: i128, precision: u8) -> bool {
    10_u128.checked_pow(u32::from(precision)).is_some_and(|bound| value.unsigned_abs() < bound)
}

/// Whether a `numeric` of this precision is stored in 8 bytes.
fn is_short_numeric(precision: u8) -> bool {
    precision <= 18
}

fn encode_value(column: &Column, value: &Value, out: &mut Vec<u8>) -> Result<(), RowError> {
    let wrong =
        |reason: &str| RowError::Value { column: column.name.clone(), reason: reason.into() };
    match (column.kind, value) {
        (ColumnType::Bool, Value::Bool(value)) => out.push(u8::from(*value)),
        (ColumnType::Int2, Value::Int2(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (ColumnType::Int4, Value::Int4(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (ColumnType::Int8, Value::Int8(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (ColumnType::Date, Value::Date(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (ColumnType::Timestamptz, Value::Timestamptz(value))
        | (ColumnType::Timestamp, Value::Timestamp(value)) => {
            out.extend_from_slice(&value.to_le_bytes());
        }
        (ColumnType::Uuid, Value::Uuid(value)) => out.extend_from_slice(value),
        (ColumnType::Float8, Value::Float8(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (ColumnType::Numeric { precision, .. }, Value::Numeric(value)) => {
            if !fits_precision(*value, precision) {
                return Err(wrong("more digits than the column holds"));
            }
            match i64::try_from(*value) {
                Ok(short) if is_short_numeric(precision) => {
                    out.extend_from_slice(&short.to_le_bytes());
                }
                _ => out.extend_from_slice(&value.to_le_bytes()),
            }
        }
        (ColumnType::Text, Value::Text(value)) => put_value_bytes(column, value.as_bytes(), out)?,
        (ColumnType::Bytea, Value::Bytea(value)) => put_value_bytes(column, value, out)?,
        (ColumnType::Jsonb, Value::Jsonb(value)) => {
            if crate::row_json::canonical_json(value).as_deref() != Some(value.as_str()) {
                return Err(wrong("JSON is not in canonical form"));
            }
            put_value_bytes(column, value.as_bytes(), out)?;
        }
        (kind, _) => return Err(wrong(&format!("value is not of type {kind}"))),
    }
    Ok(())
}

fn put_value_bytes(column: &Column, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), RowError> {
    if bytes.len() > VALUE_SIZE_MAX {
        return Err(RowError::Value {
            column: column.name.clone(),
            reason: format!("{} bytes, the most is {VALUE_SIZE_MAX}", bytes.len()),
        });
    }
    put_bytes(out, bytes);
    Ok(())
}

fn decode_value<'a>(column: &Column, reader: &mut Reader<'a>) -> Result<ValueRef<'a>, RowError> {
    Ok(match column.kind {
        ColumnType::Bool => ValueRef::Bool(reader.bool("bool")?),
        ColumnType::Int2 => ValueRef::Int2(i16::from_le_bytes(reader.array()?)),
        ColumnType::Int4 => ValueRef::Int4(i32::from_le_bytes(reader.array()?)),
        ColumnType::Int8 => ValueRef::Int8(i64::from_le_bytes(reader.array()?)),
        ColumnType::Date => ValueRef::Date(i32::from_le_bytes(reader.array()?)),
        ColumnType::Timestamptz => ValueRef::Timestamptz(i64::from_le_bytes(reader.array()?)),
        ColumnType::Timestamp => ValueRef::Timestamp(i64::from_le_bytes(reader.array()?)),
        ColumnType::Uuid => ValueRef::Uuid(reader.array()?),
        ColumnType::Float8 => ValueRef::Float8(reader.u64()?),
        ColumnType::Numeric { precision, .. } => {
            let value = if is_short_numeric(precision) {
                i128::from(i64::from_le_bytes(reader.array()?))
            } else {
                i128::from_le_bytes(reader.array()?)
            };
            if !fits_precision(value, precision) {
                return Err(DecodeError::NotCanonical { what: "numeric" }.into());
            }
            ValueRef::Numeric(value)
        }
        ColumnType::Text => ValueRef::Text(reader.text("text", VALUE_SIZE_MAX)?),
        ColumnType::Bytea => ValueRef::Bytea(reader.bytes("bytea", VALUE_SIZE_MAX)?),
        ColumnType::Jsonb => {
            let text = reader.text("jsonb", VALUE_SIZE_MAX)?;
            if crate::row_json::canonical_json(text).as_deref() != Some(text) {
                return Err(DecodeError::NotCanonical { what: "jsonb" }.into());
            }
            ValueRef::Jsonb(text)
        }
    })
}

impl Encode for Schema {
    fn encode(&self, out: &mut Vec<u8>) {
        put_count(out, self.columns.len());
        for column in &self.columns {
            put_bytes(out, column.name.as_bytes());
            put_type(out, column.kind);
            out.push(u8::from(column.nullable));
        }
    }
}

impl Decode for Schema {
    const SIZE_MIN: usize = 4;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.count("columns", COLUMN_COUNT_MAX, 8)?;
        let mut columns = Vec::with_capacity(count);
        for _ in 0..count {
            let name = reader.text("column name", NAME_SIZE_MAX)?.to_owned();
            let kind = read_type(reader)?;
            columns.push(Column { name, kind, nullable: reader.bool("nullable")? });
        }
        Self::new(columns).map_err(|_| DecodeError::NotCanonical { what: "schema" })
    }
}

/// Appends a type: its tag, and a numeric's precision and scale.
pub(crate) fn put_type(out: &mut Vec<u8>, kind: ColumnType) {
    let (tag, precision, scale) = type_tag(kind);
    out.extend_from_slice(&[tag, precision, scale]);
}

/// Reads what [`put_type`] appends.
pub(crate) fn read_type(reader: &mut Reader<'_>) -> Result<ColumnType, DecodeError> {
    let [tag, precision, scale] = reader.array()?;
    type_of_tag(tag, precision, scale)
}

fn type_tag(kind: ColumnType) -> (u8, u8, u8) {
    match kind {
        ColumnType::Bool => (1, 0, 0),
        ColumnType::Int2 => (2, 0, 0),
        ColumnType::Int4 => (3, 0, 0),
        ColumnType::Int8 => (4, 0, 0),
        ColumnType::Numeric { precision, scale } => (5, precision, scale),
        ColumnType::Text => (6, 0, 0),
        ColumnType::Bytea => (7, 0, 0),
        ColumnType::Date => (8, 0, 0),
        ColumnType::Timestamptz => (9, 0, 0),
        ColumnType::Uuid => (10, 0, 0),
        ColumnType::Jsonb => (11, 0, 0),
        ColumnType::Float8 => (12, 0, 0),
        ColumnType::Timestamp => (13, 0, 0),
    }
}

fn type_of_tag(tag: u8, precision: u8, scale: u8) -> Result<ColumnType, DecodeError> {
    let kind = match tag {
        1 => ColumnType::Bool,
        2 => ColumnType::Int2,
        3 => ColumnType::Int4,
        4 => ColumnType::Int8,
        5 if (1..=NUMERIC_PRECISION_MAX).contains(&precision) && scale <= precision => {
            return Ok(ColumnType::Numeric { precision, scale });
        }
        5 => return Err(DecodeError::NotCanonical { what: "numeric" }),
        6 => ColumnType::Text,
        7 => ColumnType::Bytea,
        8 => ColumnType::Date,
        9 => ColumnType::Timestamptz,
        10 => ColumnType::Uuid,
        11 => ColumnType::Jsonb,
        12 => ColumnType::Float8,
        13 => ColumnType::Timestamp,
        _ => return Err(DecodeError::Tag { what: "column type", tag: u64::from(tag) }),
    };
    if (precision, scale) == (0, 0) {
        Ok(kind)
    } else {
        Err(DecodeError::NotCanonical { what: "column type" })
    }
}

#[cfg(test)]
mod tests;
