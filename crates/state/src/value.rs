//! Values with their types: casts, texts, decimals.

use quipu_types::row::NUMERIC_PRECISION_MAX;
use quipu_types::row_json::{
    canonical_json, date_from_text, date_to_text, numeric_to_text, timestamp_from_text,
    timestamp_to_text, uuid_from_text, uuid_to_text,
};
use quipu_types::{ColumnType, Value};

use crate::table::Fault;

const DAY_US: i64 = 86_400_000_000;

/// A value and its type: a decimal's scale is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Typed {
    pub(crate) kind: ColumnType,
    pub(crate) value: Value,
}

/// Who asks for a cast: an assignment reads no text as something else, a written cast and an unknown literal do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cast {
    Written,
    Assignment,
}

type Result<T> = std::result::Result<T, Fault>;

impl Typed {
    /// Null of no special type.
    pub(crate) const NULL: Self = Self { kind: ColumnType::Text, value: Value::Null };

    pub(crate) const fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    pub(crate) fn boolean(value: Option<bool>) -> Self {
        Self { kind: ColumnType::Bool, value: value.map_or(Value::Null, Value::Bool) }
    }

    pub(crate) const fn text(text: String) -> Self {
        Self { kind: ColumnType::Text, value: Value::Text(text) }
    }

    pub(crate) const fn integer(value: i64) -> Self {
        Self { kind: ColumnType::Int8, value: Value::Int8(value) }
    }

    /// Bytes of a value of any length.
    pub(crate) const fn size(&self) -> usize {
        match &self.value {
            Value::Text(text) | Value::Jsonb(text) => text.len(),
            Value::Bytea(bytes) => bytes.len(),
            _ => 0,
        }
    }

    /// A number as `value / 10^scale`; none for what is no exact number.
    pub(crate) fn decimal(&self) -> Option<(i128, u8)> {
        Some(match (&self.value, self.kind) {
            (Value::Int2(value), _) => (i128::from(*value), 0),
            (Value::Int4(value), _) => (i128::from(*value), 0),
            (Value::Int8(value), _) => (i128::from(*value), 0),
            (Value::Numeric(value), ColumnType::Numeric { scale, .. }) => (*value, scale),
            _ => return None,
        })
    }

    /// A time in microseconds; none for what is no time.
    pub(crate) fn instant(&self) -> Option<i128> {
        Some(match self.value {
            Value::Date(days) => i128::from(days).saturating_mul(i128::from(DAY_US)),
            Value::Timestamptz(micros) | Value::Timestamp(micros) => i128::from(micros),
            _ => return None,
        })
    }
}

/// 10^scale. Scales are at most 38 everywhere; above, the largest power.
pub(crate) fn power(scale: u8) -> i128 {
    10_i128.pow(u32::from(scale.min(NUMERIC_PRECISION_MAX)))
}

/// Quotient rounded half away from zero; none when it overflows or `b` is zero.
pub(crate) fn divide_rounded(a: i128, b: i128) -> Option<i128> {
    let quotient = a.checked_div(b)?;
    let rest = a.checked_rem(b)?.unsigned_abs();
    let size = b.unsigned_abs();
    // rest ≥ size - rest, without doubling.
    if rest == 0 || rest < size.checked_sub(rest)? {
        return Some(quotient);
    }
    let away = if (a < 0) == (b < 0) { 1 } else { -1 };
    quotient.checked_add(away)
}

/// A decimal at another scale, rounded half away from zero.
pub(crate) fn rescale(value: i128, from: u8, to: u8) -> Option<i128> {
    match to.checked_sub(from) {
        Some(more) => value.checked_mul(power(more)),
        None => divide_rounded(value, power(from.saturating_sub(to))),
    }
}

/// A decimal as a value.
pub(crate) fn decimal_of(value: i128, scale: u8) -> Result<Typed> {
    let is_too_long = value.unsigned_abs() >= 10_u128.pow(u32::from(NUMERIC_PRECISION_MAX));
    if is_too_long || scale > NUMERIC_PRECISION_MAX {
        return Err(Fault::OUT_OF_RANGE);
    }
    let kind = ColumnType::Numeric { precision: NUMERIC_PRECISION_MAX, scale };
    Ok(Typed { kind, value: Value::Numeric(value) })
}

/// Size of an integer type; none for others.
pub(crate) const fn width(kind: ColumnType) -> Option<u8> {
    match kind {
        ColumnType::Int2 => Some(2),
        ColumnType::Int4 => Some(4),
        ColumnType::Int8 => Some(8),
        _ => None,
    }
}

/// The integer type of a size.
pub(crate) const fn integer(width: u8) -> ColumnType {
    match width {
        2 => ColumnType::Int2,
        4 => ColumnType::Int4,
        _ => ColumnType::Int8,
    }
}

/// An integer as a value of an integer type.
pub(crate) fn of_integer(value: i128, kind: ColumnType) -> Result<Value> {
    let fits = match kind {
        ColumnType::Int2 => i16::try_from(value).map(Value::Int2).ok(),
        ColumnType::Int4 => i32::try_from(value).map(Value::Int4).ok(),
        ColumnType::Int8 => i64::try_from(value).map(Value::Int8).ok(),
        _ => return Err(Fault::TYPE_MISMATCH),
    };
    fits.ok_or(Fault::OUT_OF_RANGE)
}

/// A value as another type.
pub(crate) fn cast(from: Typed, kind: ColumnType, by: Cast) -> Result<Typed> {
    if from.kind == kind || from.is_null() {
        return Ok(Typed { kind, value: from.value });
    }
    let value = match (&from.value, kind) {
        (Value::Text(text), _) if by == Cast::Written => of_text(text, kind)?,
        (_, ColumnType::Int2 | ColumnType::Int4 | ColumnType::Int8) => match from.value {
            Value::Bool(value) if by == Cast::Written && kind == ColumnType::Int4 => {
                Value::Int4(i32::from(value))
            }
            _ => {
                let (value, scale) = from.decimal().ok_or(Fault::TYPE_MISMATCH)?;
                let whole = rescale(value, scale, 0).ok_or(Fault::OUT_OF_RANGE)?;
                of_integer(whole, kind)?
            }
        },
        (_, ColumnType::Numeric { precision, scale }) => {
            let (value, own) = from.decimal().ok_or(Fault::TYPE_MISMATCH)?;
            numeric(value, own, precision, scale)?
        }
        (Value::Int4(value), ColumnType::Bool) if by == Cast::Written => Value::Bool(*value != 0),
        (Value::Date(days), ColumnType::Timestamptz | ColumnType::Timestamp) => {
            let micros = i64::from(*days).checked_mul(DAY_US).ok_or(Fault::OUT_OF_RANGE)?;
            instant(micros, kind)
        }
        (Value::Timestamptz(micros) | Value::Timestamp(micros), ColumnType::Date) => {
            let days = i32::try_from(micros.div_euclid(DAY_US));
            Value::Date(days.map_err(|_| Fault::OUT_OF_RANGE)?)
        }
        (Value::Timestamptz(micros) | Value::Timestamp(micros), _) if is_instant(kind) => {
            instant(*micros, kind)
        }
        (_, ColumnType::Text) => Value::Text(text_of(&from)?),
        _ => return Err(Fault::TYPE_MISMATCH),
    };
    Ok(Typed { kind, value })
}

const fn is_instant(kind: ColumnType) -> bool {
    matches!(kind, ColumnType::Timestamptz | ColumnType::Timestamp)
}

const fn instant(micros: i64, kind: ColumnType) -> Value {
    match kind {
        ColumnType::Timestamp => Value::Timestamp(micros),
        _ => Value::Timestamptz(micros),
    }
}

fn numeric(value: i128, own: u8, precision: u8, scale: u8) -> Result<Value> {
    let value = rescale(value, own, scale).ok_or(Fault::OUT_OF_RANGE)?;
    let bound = 10_u128.pow(u32::from(precision.min(NUMERIC_PRECISION_MAX)));
    if value.unsigned_abs() >= bound {
        return Err(Fault::OUT_OF_RANGE);
    }
    Ok(Value::Numeric(value))
}

/// A value as PostgreSQL writes it.
pub(crate) fn text_of(value: &Typed) -> Result<String> {
    Ok(match (&value.value, value.kind) {
        (Value::Null, _) => String::new(),
        (Value::Bool(value), _) => if *value { "true" } else { "false" }.to_owned(),
        (Value::Int2(value), _) => value.to_string(),
        (Value::Int4(value), _) => value.to_string(),
        (Value::Int8(value), _) => value.to_string(),
        (Value::Numeric(value), ColumnType::Numeric { scale, .. }) => {
            numeric_to_text(*value, scale)
        }
        (Value::Text(text) | Value::Jsonb(text), _) => text.clone(),
        (Value::Bytea(bytes), _) => {
            bytes.iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
        }
        (Value::Date(days), _) => date_to_text(*days),
        (Value::Timestamp(micros), _) => instant_to_text(*micros),
        (Value::Timestamptz(micros), _) => instant_to_text(*micros) + "+00",
        (Value::Uuid(bytes), _) => uuid_to_text(bytes),
        _ => return Err(Fault::TYPE_MISMATCH),
    })
}

fn instant_to_text(micros: i64) -> String {
    let text = timestamp_to_text(micros).trim_end_matches('Z').replacen('T', " ", 1);
    let is_fraction = text.contains('.');
    if is_fraction { text.trim_end_matches('0').to_owned() } else { text }
}

/// Reads a text as PostgreSQL does, in the forms that it writes itself.
fn of_text(text: &str, kind: ColumnType) -> Result<Value> {
    let trimmed = text.trim();
    let value = match kind {
        ColumnType::Text => Some(Value::Text(text.to_owned())),
        ColumnType::Bool => match trimmed.to_ascii_lowercase().as_str() {
            "t" | "true" | "y" | "yes" | "on" | "1" => Some(Value::Bool(true)),
            "f" | "false" | "n" | "no" | "off" | "0" => Some(Value::Bool(false)),
            _ => None,
        },
        ColumnType::Int2 | ColumnType::Int4 | ColumnType::Int8 => {
            let value: i128 = trimmed.parse().map_err(|_| Fault::BAD_TEXT)?;
            return of_integer(value, kind);
        }
        ColumnType::Numeric { precision, scale } => {
            let (value, own) = decimal_from_text(trimmed).ok_or(Fault::BAD_TEXT)?;
            return numeric(value, own, precision, scale);
        }
        ColumnType::Bytea => trimmed.strip_prefix("\\x").and_then(hex_bytes).map(Value::Bytea),
        // A time behind the date is read and dropped.
        ColumnType::Date => date_from_text(trimmed)
            .or_else(|| instant_from_text(trimmed).and_then(|_| date_from_text(trimmed.get(..10)?)))
            .map(Value::Date),
        ColumnType::Timestamptz => instant_from_text(trimmed).map(Value::Timestamptz),
        ColumnType::Timestamp => instant_from_text(trimmed).map(Value::Timestamp),
        ColumnType::Uuid => uuid_from_text(trimmed).map(Value::Uuid),
        ColumnType::Jsonb => canonical_json(text).map(Value::Jsonb),
        ColumnType::Float8 => return Err(Fault::TYPE_MISMATCH),
    };
    value.ok_or(Fault::BAD_TEXT)
}

fn hex_bytes(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let is_hex = rest.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| pairs.iter().map(byte).collect())?
}

/// `-12.50` as 1250 and 2.
fn decimal_from_text(text: &str) -> Option<(i128, u8)> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all(whole) || !all(fraction) {
        return None;
    }
    let scale =
        u8::try_from(fraction.len()).ok().filter(|scale| *scale <= NUMERIC_PRECISION_MAX)?;
    let value: i128 = format!("{whole}{fraction}").parse().ok()?;
    Some((if text.starts_with('-') { value.checked_neg()? } else { value }, scale))
}

/// `2026-11-27 10:00:00[.5][+00]`, `T` for the blank, a date alone.
fn instant_from_text(text: &str) -> Option<i64> {
    if text.len() <= 10 {
        return i64::from(date_from_text(text)?).checked_mul(DAY_US);
    }
    let mut text = text.replacen(' ', "T", 1);
    let zone = text.rfind(['+', '-', 'Z']).filter(|place| *place > 10);
    match zone {
        None => text.push('Z'),
        // `+02` for `+02:00`.
        Some(place) if text.len().saturating_sub(place) == 3 => text.push_str(":00"),
        Some(_) => {}
    }
    timestamp_from_text(&text)
}
