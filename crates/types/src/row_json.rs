//! Rows as JSON objects: what people type and what `tail` prints.
//!
//! * bool, int2, int4, int8: JSON's own. int8 beyond 2^53 reads back exactly (no float on the way).
//! * numeric: a string with exactly `scale` digits after the point; a JSON number is taken too.
//! * bytea: `"\\x…"` in hexadecimal. date: `"2013-01-01"`. timestamptz: RFC 3339, written in UTC with `Z`.
//! * uuid: the hyphenated text. jsonb: the value itself, in canonical form (keys sorted, no spaces).
//! * float8: a number, or `"NaN"`, `"Infinity"`, `"-Infinity"`, or `"0x…"` with the bits of other NaNs.
//!
//! A member left out is null. A member that is no column is refused.

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat};
use serde_json::{Map, Value as Json};

use crate::row::{Column, ColumnType, RowError, Schema, Value, ValueRef};

/// Days from 0001-01-01 to 1970-01-01, chrono's day numbers being 1-based from the year 1.
const EPOCH_DAY: i32 = 719_163;
/// Years that RFC 3339 can write.
const FOUR_DIGIT_YEARS: std::ops::RangeInclusive<i32> = 0..=9_999;

/// JSON with sorted keys and no spaces, or `None` when the text is no JSON.
///
/// Numbers are those that a 64-bit integer or a double can hold; nesting is bounded by the parser (128).
#[must_use]
pub fn canonical_json(text: &str) -> Option<String> {
    let value: Json = serde_json::from_str(text).ok()?;
    serde_json::to_string(&value).ok()
}

impl Schema {
    /// A stored row as a JSON object, columns in alphabetical order.
    pub fn row_to_json(&self, bytes: &[u8]) -> Result<Json, RowError> {
        let mut object = Map::new();
        let mut names = self.columns().iter();
        let mut failed = None;
        self.walk_row(bytes, |_, value| {
            if let Some(column) = names.next() {
                match value_to_json(column, value) {
                    Ok(json) => drop(object.insert(column.name.clone(), json)),
                    Err(error) => failed = Some(error),
                }
            }
        })?;
        failed.map_or(Ok(Json::Object(object)), Err)
    }

    /// The canonical bytes of a row given as a JSON object.
    pub fn row_from_json(&self, json: &Json) -> Result<Vec<u8>, RowError> {
        self.encode_row(&self.values_from_json(json)?)
    }

    /// The values of a row given as a JSON object, in column order.
    pub fn values_from_json(&self, json: &Json) -> Result<Vec<Value>, RowError> {
        let Json::Object(object) = json else {
            return Err(RowError::Schema { reason: "a row is a JSON object".into() });
        };
        if let Some(name) = object.keys().find(|name| self.index_of(name).is_none()) {
            return Err(RowError::Unknown { name: name.clone() });
        }
        self.columns()
            .iter()
            .map(|column| match object.get(&column.name) {
                None | Some(Json::Null) => Ok(Value::Null),
                Some(json) => value_from_json(column, json),
            })
            .collect()
    }
}

fn value_to_json(column: &Column, value: ValueRef<'_>) -> Result<Json, RowError> {
    let wrong =
        |reason: &str| RowError::Value { column: column.name.clone(), reason: reason.into() };
    Ok(match value {
        ValueRef::Null => Json::Null,
        ValueRef::Bool(value) => value.into(),
        ValueRef::Int2(value) => value.into(),
        ValueRef::Int4(value) => value.into(),
        ValueRef::Int8(value) => value.into(),
        ValueRef::Numeric(value) => {
            let ColumnType::Numeric { scale, .. } = column.kind else {
                return Err(wrong("value is not of the column's type"));
            };
            numeric_to_text(value, scale).into()
        }
        ValueRef::Text(value) => value.into(),
        ValueRef::Bytea(value) => format!("\\x{}", hex::encode(value)).into(),
        ValueRef::Date(days) => date_to_text(days).into(),
        ValueRef::Timestamptz(micros) => timestamp_to_text(micros).into(),
        ValueRef::Timestamp(micros) => timestamp_to_text(micros).trim_end_matches('Z').into(),
        ValueRef::Uuid(bytes) => uuid_to_text(&bytes).into(),
        ValueRef::Jsonb(text) => serde_json::from_str(text).map_err(|_| wrong("not JSON"))?,
        ValueRef::Float8(bits) => float_to_json(bits),
    })
}

/// A scaled integer as decimal text with exactly `scale` digits after the point.
#[must_use]
pub fn numeric_to_text(value: i128, scale: u8) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let digits = value.unsigned_abs().to_string();
    let scale = usize::from(scale);
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let padded = format!("{digits:0>width$}", width = scale.saturating_add(1));
    let (whole, fraction) = padded.split_at(padded.len().saturating_sub(scale));
    format!("{sign}{whole}.{fraction}")
}

/// Reads decimal text exactly: no rounding, at most `scale` digits after the point.
#[must_use]
pub fn numeric_from_text(text: &str, scale: u8) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 39 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let missing = usize::from(scale).checked_sub(fraction.len())?;
    let text = format!("{whole}{fraction}{}", "0".repeat(missing));
    let value: i128 = text.parse().ok()?;
    if negative { value.checked_neg() } else { Some(value) }
}

/// `YYYY-MM-DD`; days outside the years 0 to 9999 are written as `@days`.
#[must_use]
pub fn date_to_text(days: i32) -> String {
    days.checked_add(EPOCH_DAY)
        .and_then(NaiveDate::from_num_days_from_ce_opt)
        .filter(|date| FOUR_DIGIT_YEARS.contains(&date.year()))
        .map_or_else(|| format!("@{days}"), |date| date.to_string())
}

/// Reads what [`date_to_text`] writes.
#[must_use]
pub fn date_from_text(text: &str) -> Option<i32> {
    if let Some(days) = text.strip_prefix('@') {
        return days.parse().ok();
    }
    text.parse::<NaiveDate>().ok()?.num_days_from_ce().checked_sub(EPOCH_DAY)
}

/// RFC 3339 in UTC; instants outside the years 0 to 9999 are written as `@micros`.
#[must_use]
pub fn timestamp_to_text(micros: i64) -> String {
    DateTime::from_timestamp_micros(micros)
        .filter(|time| FOUR_DIGIT_YEARS.contains(&time.year()))
        .map_or_else(
            || format!("@{micros}"),
            |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        )
}

/// Reads RFC 3339 with at most microseconds, and what [`timestamp_to_text`] writes.
#[must_use]
pub fn timestamp_from_text(text: &str) -> Option<i64> {
    if let Some(micros) = text.strip_prefix('@') {
        return micros.trim_end_matches('Z').parse().ok();
    }
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    (time.timestamp_subsec_nanos() % 1_000 == 0).then(|| time.timestamp_micros())
}

/// The hyphenated text of a UUID.
#[must_use]
pub fn uuid_to_text(bytes: &[u8; 16]) -> String {
    let mut text = hex::encode(bytes);
    for place in [20, 16, 12, 8] {
        text.insert(place, '-');
    }
    text
}

/// Reads 32 hexadecimal digits, hyphens anywhere.
#[must_use]
pub fn uuid_from_text(text: &str) -> Option<[u8; 16]> {
    let plain: String = text.chars().filter(|character| *character != '-').collect();
    let mut bytes = [0; 16];
    hex::decode_to_slice(plain, &mut bytes).ok()?;
    Some(bytes)
}

fn float_to_json(bits: u64) -> Json {
    let value = f64::from_bits(bits);
    if bits == f64::NAN.to_bits() {
        "NaN".into()
    } else if value.is_nan() {
        format!("0x{bits:016x}").into()
    } else if value == f64::INFINITY {
        "Infinity".into()
    } else if value == f64::NEG_INFINITY {
        "-Infinity".into()
    } else {
        value.into()
    }
}

fn float_from_json(json: &Json) -> Option<u64> {
    match json {
        Json::Number(number) => number.as_f64().map(f64::to_bits),
        Json::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN.to_bits()),
            "Infinity" => Some(f64::INFINITY.to_bits()),
            "-Infinity" => Some(f64::NEG_INFINITY.to_bits()),
            other => u64::from_str_radix(other.strip_prefix("0x")?, 16).ok(),
        },
        _ => None,
    }
}

fn value_from_json(column: &Column, json: &Json) -> Result<Value, RowError> {
    let text = json.as_str();
    let value = match column.kind {
        ColumnType::Bool => json.as_bool().map(Value::Bool),
        ColumnType::Int2 => json.as_i64().and_then(|value| value.try_into().ok()).map(Value::Int2),
        ColumnType::Int4 => json.as_i64().and_then(|value| value.try_into().ok()).map(Value::Int4),
        ColumnType::Int8 => json.as_i64().map(Value::Int8),
        ColumnType::Numeric { scale, .. } => {
            let digits = match json {
                Json::Number(number) => Some(number.to_string()),
                other => other.as_str().map(str::to_owned),
            };
            digits.and_then(|digits| numeric_from_text(&digits, scale)).map(Value::Numeric)
        }
        ColumnType::Text => text.map(|text| Value::Text(text.into())),
        ColumnType::Bytea => text
            .and_then(|text| text.strip_prefix("\\x"))
            .and_then(|text| hex::decode(text).ok())
            .map(Value::Bytea),
        ColumnType::Date => text.and_then(date_from_text).map(Value::Date),
        ColumnType::Timestamptz => text.and_then(timestamp_from_text).map(Value::Timestamptz),
        ColumnType::Timestamp => {
            text.and_then(|text| timestamp_from_text(&format!("{text}Z"))).map(Value::Timestamp)
        }
        ColumnType::Uuid => text.and_then(uuid_from_text).map(Value::Uuid),
        ColumnType::Jsonb => serde_json::to_string(json).ok().map(Value::Jsonb),
        ColumnType::Float8 => float_from_json(json).map(Value::Float8),
    };
    value.ok_or_else(|| RowError::Value {
        column: column.name.clone(),
        reason: format!("{json} is not of type {}", column.kind),
    })
}
