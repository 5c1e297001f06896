//! What a text in quotes stands for, read by PostgreSQL's input functions.

use arrow::datatypes::{DataType, Field};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use quipu_types::row::Value;
use quipu_types::row_json::uuid_to_text;
use quipu_types::{Column, ColumnType};

use super::padded_length;
use crate::column::PG_TYPE_KEY;
use crate::compile;
use crate::copy::value::from_text;
use crate::parameters;

/// A text as a value of a type; none where the type has no input function here.
pub(crate) fn read(text: &str, wanted: &DataType) -> Result<Option<ScalarValue>> {
    let kind = match wanted {
        DataType::Float64 => Some(ColumnType::Float8),
        other => compile::kind_of(other).filter(|kind| *kind != ColumnType::Text),
    };
    let Some(kind) = kind else { return Ok(None) };
    value(text, kind)?.cast_to(wanted).map(Some)
}

fn value(text: &str, kind: ColumnType) -> Result<ScalarValue> {
    let column = Column { name: String::new(), kind, nullable: true };
    let value = from_text(&column, text.as_bytes())
        .map_err(|error| DataFusionError::External(Box::new(error)))?;
    Ok(match (value, kind) {
        (Value::Bool(value), _) => ScalarValue::Boolean(Some(value)),
        (Value::Int2(value), _) => ScalarValue::Int16(Some(value)),
        (Value::Int4(value), _) => ScalarValue::Int32(Some(value)),
        (Value::Int8(value), _) => ScalarValue::Int64(Some(value)),
        (Value::Numeric(value), ColumnType::Numeric { precision, scale }) => {
            ScalarValue::Decimal128(Some(value), precision, i8::try_from(scale).unwrap_or(i8::MAX))
        }
        (Value::Float8(bits), _) => ScalarValue::Float64(Some(f64::from_bits(bits))),
        (Value::Bytea(bytes), _) => ScalarValue::Binary(Some(bytes)),
        (Value::Date(days), _) => ScalarValue::Date32(Some(days)),
        (Value::Timestamp(micros), _) => ScalarValue::TimestampMicrosecond(Some(micros), None),
        (Value::Timestamptz(micros), _) => {
            ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()))
        }
        (Value::Uuid(bytes), _) => ScalarValue::Utf8(Some(uuid_to_text(&bytes))),
        (Value::Text(text) | Value::Jsonb(text), _) => ScalarValue::Utf8(Some(text)),
        _ => ScalarValue::Null,
    })
}

/// A text that stands beside something of another type; none where it is what it is.
pub(super) fn compared(text: &str, beside: &Field) -> Result<Option<ScalarValue>> {
    if let Some(length) = padded_length(beside) {
        return Ok(Some(ScalarValue::Utf8(Some(format!(
            "{:length$}",
            text.trim_end_matches(' ')
        )))));
    }
    match (beside.metadata().get(PG_TYPE_KEY).map(String::as_str), beside.data_type()) {
        (Some("uuid"), _) => value(text, ColumnType::Uuid).map(Some),
        (Some("jsonb"), _) => value(text, ColumnType::Jsonb).map(Some),
        // It has the digits that it is written with.
        (_, DataType::Decimal128(..)) => Ok(parameters::decimal(text.trim())),
        (_, other) => read(text, other),
    }
}
