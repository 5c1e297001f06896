//! The kinds of columns, and how values become Arrow arrays without an allocation a row.
//!
//! | ledger | PostgreSQL | Arrow |
//! |---|---|---|
//! | bool, int2, int4, int8, float8 | the same | Boolean, Int16, Int32, Int64, Float64 |
//! | numeric(p,s) | numeric | Decimal128(p,s) |
//! | text, uuid, jsonb | text, uuid, jsonb | Utf8, the latter two marked in the field's metadata |
//! | bytea, date, timestamptz, timestamp | the same | Binary, Date32, Timestamp(µs, UTC), Timestamp(µs) |
//!
//! A [`Kind::Run`] column is text that repeats from row to row (a signer, a transaction's name): kept as a
//! dictionary whose entries are appended once a run, read as Utf8.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "days, digits and offsets are bounded by their types"
)]

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, DictionaryArray,
    Float64Builder, Int16Builder, Int32Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Int32Type, TimeUnit};
use arrow::error::ArrowError;
use quipu_types::row::ValueRef;
use quipu_types::{Column, ColumnType};

/// The key of a field's metadata that names its PostgreSQL type, where Arrow's does not say it.
pub const PG_TYPE_KEY: &str = "quipu.pg_type";

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Truth value.
    Bool,
    /// 16-bit integer.
    Int2,
    /// 32-bit integer.
    Int4,
    /// 64-bit integer.
    Int8,
    /// Exact decimal.
    Numeric {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// Text.
    Text,
    /// Text that mostly repeats the row before.
    Run,
    /// UUID as its text.
    Uuid,
    /// Canonical JSON as its text.
    Jsonb,
    /// Bytes.
    Bytea,
    /// Days since 1970-01-01.
    Date,
    /// Microseconds since 1970-01-01T00:00:00Z.
    Timestamptz,
    /// Microseconds since 1970-01-01T00:00:00, of no zone.
    Timestamp,
    /// Double.
    Float8,
}

impl From<ColumnType> for Kind {
    fn from(kind: ColumnType) -> Self {
        match kind {
            ColumnType::Bool => Self::Bool,
            ColumnType::Int2 => Self::Int2,
            ColumnType::Int4 => Self::Int4,
            ColumnType::Int8 => Self::Int8,
            ColumnType::Numeric { precision, scale } => Self::Numeric { precision, scale },
            ColumnType::Text => Self::Text,
            ColumnType::Bytea => Self::Bytea,
            ColumnType::Date => Self::Date,
            ColumnType::Timestamptz => Self::Timestamptz,
            ColumnType::Uuid => Self::Uuid,
            ColumnType::Jsonb => Self::Jsonb,
            ColumnType::Timestamp => Self::Timestamp,
            ColumnType::Float8 => Self::Float8,
        }
    }
}

impl Kind {
    /// The Arrow type that queries see.
    #[must_use]
    pub fn data_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 => DataType::Int64,
            Self::Numeric { precision, scale } => {
                DataType::Decimal128(precision, i8::try_from(scale).unwrap_or(i8::MAX))
            }
            Self::Text | Self::Run | Self::Uuid | Self::Jsonb => DataType::Utf8,
            Self::Bytea => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Float8 => DataType::Float64,
        }
    }

    /// The Arrow type on disk and in the tail.
    #[must_use]
    pub fn stored_type(self) -> DataType {
        match self {
            Self::Run => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            other => other.data_type(),
        }
    }

    /// A field as queries see it.
    #[must_use]
    pub fn field(self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, self.data_type(), nullable);
        let pg_type = match self {
            Self::Uuid => "uuid",
            Self::Jsonb => "jsonb",
            _ => return field,
        };
        field.with_metadata([(PG_TYPE_KEY.to_owned(), pg_type.to_owned())].into())
    }
}

/// One column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDef {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// Whether it may be null.
    pub nullable: bool,
}

impl ColumnDef {
    /// A column that is never null.
    #[must_use]
    pub fn new(name: &str, kind: Kind) -> Self {
        Self { name: name.to_owned(), kind, nullable: false }
    }

    /// The same, but it may be null.
    #[must_use]
    pub fn nullable(name: &str, kind: Kind) -> Self {
        Self { name: name.to_owned(), kind, nullable: true }
    }
}

impl From<&Column> for ColumnDef {
    fn from(column: &Column) -> Self {
        Self { name: column.name.clone(), kind: column.kind.into(), nullable: column.nullable }
    }
}

/// Text of runs: entries, and for each row the entry it has.
#[derive(Debug, Default)]
pub(crate) struct RunBuilder {
    keys: Int32Builder,
    values: StringBuilder,
    count: i32,
}

impl RunBuilder {
    /// Begins a run and appends its first row.
    pub(crate) fn begin(&mut self, text: &str) {
        self.values.append_value(text);
        self.keys.append_value(self.count);
        self.count += 1;
    }

    /// Appends a row to the run; null when none has begun.
    pub(crate) fn repeat(&mut self) {
        match self.count {
            0 => self.keys.append_null(),
            count => self.keys.append_value(count - 1),
        }
    }
}

/// A column being filled.
#[derive(Debug)]
pub(crate) enum ColumnBuilder {
    Bool(BooleanBuilder),
    Int2(Int16Builder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Numeric(Decimal128Builder),
    Text(StringBuilder),
    Run(RunBuilder),
    Bytea(BinaryBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Float8(Float64Builder),
}

impl ColumnBuilder {
    pub(crate) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Bool => Self::Bool(BooleanBuilder::new()),
            Kind::Int2 => Self::Int2(Int16Builder::new()),
            Kind::Int4 => Self::Int4(Int32Builder::new()),
            Kind::Int8 => Self::Int8(Int64Builder::new()),
            Kind::Numeric { .. } => {
                Self::Numeric(Decimal128Builder::new().with_data_type(kind.data_type()))
            }
            Kind::Text | Kind::Uuid | Kind::Jsonb => Self::Text(StringBuilder::new()),
            Kind::Run => Self::Run(RunBuilder::default()),
            Kind::Bytea => Self::Bytea(BinaryBuilder::new()),
            Kind::Date => Self::Date(Date32Builder::new()),
            Kind::Timestamptz | Kind::Timestamp => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(kind.data_type()))
            }
            Kind::Float8 => Self::Float8(Float64Builder::new()),
        }
    }

    /// Appends a value; one of another kind than the column's is a null.
    pub(crate) fn append(&mut self, value: ValueRef<'_>) {
        match (self, value) {
            (Self::Bool(builder), ValueRef::Bool(value)) => builder.append_value(value),
            (Self::Int2(builder), ValueRef::Int2(value)) => builder.append_value(value),
            (Self::Int4(builder), ValueRef::Int4(value)) => builder.append_value(value),
            (Self::Int8(builder), ValueRef::Int8(value)) => builder.append_value(value),
            (Self::Numeric(builder), ValueRef::Numeric(value)) => builder.append_value(value),
            (Self::Text(builder), ValueRef::Text(value) | ValueRef::Jsonb(value)) => {
                builder.append_value(value);
            }
            (Self::Text(builder), ValueRef::Uuid(value)) => {
                let mut text = [0; 36];
                builder.append_value(uuid_text(value, &mut text));
            }
            (Self::Bytea(builder), ValueRef::Bytea(value)) => builder.append_value(value),
            (Self::Date(builder), ValueRef::Date(value)) => builder.append_value(value),
            (
                Self::Timestamp(builder),
                ValueRef::Timestamptz(value) | ValueRef::Timestamp(value),
            ) => builder.append_value(value),
            (Self::Float8(builder), ValueRef::Float8(value)) => {
                builder.append_value(f64::from_bits(value));
            }
            (Self::Run(builder), ValueRef::Text(value)) => builder.begin(value),
            (builder, _) => builder.append_null(),
        }
    }

    fn append_null(&mut self) {
        match self {
            Self::Bool(builder) => builder.append_null(),
            Self::Int2(builder) => builder.append_null(),
            Self::Int4(builder) => builder.append_null(),
            Self::Int8(builder) => builder.append_null(),
            Self::Numeric(builder) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Run(builder) => builder.keys.append_null(),
            Self::Bytea(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
            Self::Float8(builder) => builder.append_null(),
        }
    }

    /// What stands in the builder so far; the builder keeps it.
    pub(crate) fn snapshot(&self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Bool(builder) => Arc::new(builder.finish_cloned()),
            Self::Int2(builder) => Arc::new(builder.finish_cloned()),
            Self::Int4(builder) => Arc::new(builder.finish_cloned()),
            Self::Int8(builder) => Arc::new(builder.finish_cloned()),
            Self::Numeric(builder) => Arc::new(builder.finish_cloned()),
            Self::Text(builder) => Arc::new(builder.finish_cloned()),
            Self::Run(builder) => Arc::new(DictionaryArray::<Int32Type>::try_new(
                builder.keys.finish_cloned(),
                Arc::new(builder.values.finish_cloned()),
            )?),
            Self::Bytea(builder) => Arc::new(builder.finish_cloned()),
            Self::Date(builder) => Arc::new(builder.finish_cloned()),
            Self::Timestamp(builder) => Arc::new(builder.finish_cloned()),
            Self::Float8(builder) => Arc::new(builder.finish_cloned()),
        })
    }

    /// Takes what stands in the builder and leaves it empty.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::Int2(builder) => Arc::new(builder.finish()),
            Self::Int4(builder) => Arc::new(builder.finish()),
            Self::Int8(builder) => Arc::new(builder.finish()),
            Self::Numeric(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Run(builder) => {
                builder.count = 0;
                Arc::new(DictionaryArray::<Int32Type>::try_new(
                    builder.keys.finish(),
                    Arc::new(builder.values.finish()),
                )?)
            }
            Self::Bytea(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
            Self::Float8(builder) => Arc::new(builder.finish()),
        })
    }
}

/// The text of a UUID, written into `out`.
fn uuid_text(bytes: [u8; 16], out: &mut [u8; 36]) -> &str {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or(b'0');
    let mut places = out.iter_mut();
    for (index, byte) in bytes.into_iter().enumerate() {
        let dash = if matches!(index, 4 | 6 | 8 | 10) { Some(b'-') } else { None };
        for character in dash.into_iter().chain([digit(byte >> 4), digit(byte & 15)]) {
            if let Some(place) = places.next() {
                *place = character;
            }
        }
    }
    std::str::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_written_with_its_dashes() {
        let mut out = [0; 36];
        let bytes = std::array::from_fn(|index| u8::try_from(index * 17).unwrap());
        assert_eq!(uuid_text(bytes, &mut out), "00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    fn a_run_is_stored_once_and_read_for_every_row() {
        let mut builder = ColumnBuilder::new(Kind::Run);
        builder.append(ValueRef::Text("a"));
        if let ColumnBuilder::Run(run) = &mut builder {
            run.repeat();
        }
        builder.append(ValueRef::Text("b"));
        let array = builder.finish().unwrap();
        let text = arrow::compute::cast(&array, &DataType::Utf8).unwrap();
        assert_eq!(text.as_ref(), &arrow::array::StringArray::from(vec!["a", "a", "b"]));
        assert_eq!(array.to_data().child_data()[0].len(), 2);
    }
}
