//! Fields to values: what PostgreSQL's input functions make of a text, and its receive functions of bytes.

use quipu_types::row::Value;
use quipu_types::row_json::{canonical_json, uuid_from_text};
use quipu_types::{Column, ColumnType, code};

use super::time::{self, Wrong};
use crate::error::SqlError;
use crate::parameters;

const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Most digits of a number's exponent.
const EXPONENT_SIZE_MAX: usize = 4;

/// The value that a text stands for in a column.
pub(crate) fn from_text(column: &Column, bytes: &[u8]) -> Result<Value, SqlError> {
    let text = text_of(bytes)?;
    let bare = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}');
    let malformed = |kind: &str| {
        let message = format!("invalid input syntax for type {kind}: \"{text}\"");
        SqlError::new("22P02", code::BAD_INPUT, message)
    };
    Ok(match column.kind {
        ColumnType::Bool => Value::Bool(boolean(bare).ok_or_else(|| malformed("boolean"))?),
        ColumnType::Int2 => Value::Int2(integer(bare, "smallint", text)?),
        ColumnType::Int4 => Value::Int4(integer(bare, "integer", text)?),
        ColumnType::Int8 => Value::Int8(integer(bare, "bigint", text)?),
        ColumnType::Numeric { precision, scale } => {
            let number = decimal(bare).ok_or_else(|| malformed("numeric"))?;
            Value::Numeric(fitted(number, precision, scale)?)
        }
        ColumnType::Text => Value::Text(text.to_owned()),
        ColumnType::Bytea => Value::Bytea(bytea(text)?),
        ColumnType::Date => {
            Value::Date(time::date(bare).map_err(|wrong| untimely(wrong, "date", text))?)
        }
        ColumnType::Timestamptz => {
            let read = time::timestamptz(bare);
            Value::Timestamptz(
                read.map_err(|wrong| untimely(wrong, "timestamp with time zone", text))?,
            )
        }
        ColumnType::Timestamp => {
            let read = time::timestamp(bare);
            Value::Timestamp(
                read.map_err(|wrong| untimely(wrong, "timestamp without time zone", text))?,
            )
        }
        ColumnType::Uuid => Value::Uuid(uuid(bare).ok_or_else(|| malformed("uuid"))?),
        ColumnType::Jsonb => Value::Jsonb(canonical_json(text).ok_or_else(|| malformed("json"))?),
        ColumnType::Float8 => Value::Float8(float(bare, text)?.to_bits()),
    })
}

/// The value that bytes in binary stand for in a column.
pub(crate) fn from_binary(column: &Column, bytes: &[u8]) -> Result<Value, SqlError> {
    let value = match column.kind {
        ColumnType::Bool => match bytes {
            [byte] => Some(Value::Bool(*byte != 0)),
            _ => None,
        },
        ColumnType::Int2 => bytes.try_into().ok().map(i16::from_be_bytes).map(Value::Int2),
        ColumnType::Int4 => bytes.try_into().ok().map(i32::from_be_bytes).map(Value::Int4),
        ColumnType::Int8 => bytes.try_into().ok().map(i64::from_be_bytes).map(Value::Int8),
        ColumnType::Numeric { precision, scale } => match parameters::numeric_parts(bytes) {
            Some((digits, own)) => {
                let number = Decimal { digits, scale: i32::from(own), is_whole: true };
                Some(Value::Numeric(fitted(number, precision, scale)?))
            }
            None => None,
        },
        ColumnType::Text => Some(Value::Text(text_of(bytes)?.to_owned())),
        ColumnType::Bytea => Some(Value::Bytea(bytes.to_vec())),
        ColumnType::Date => {
            let days = bytes.try_into().ok().map(i32::from_be_bytes);
            days.and_then(|days| days.checked_add(EPOCH_DAYS)).map(Value::Date)
        }
        ColumnType::Timestamptz => {
            let micros = bytes.try_into().ok().map(i64::from_be_bytes);
            micros.and_then(|micros| micros.checked_add(EPOCH_MICROS)).map(Value::Timestamptz)
        }
        ColumnType::Timestamp => {
            let micros = bytes.try_into().ok().map(i64::from_be_bytes);
            micros.and_then(|micros| micros.checked_add(EPOCH_MICROS)).map(Value::Timestamp)
        }
        ColumnType::Uuid => bytes.try_into().ok().map(Value::Uuid),
        ColumnType::Jsonb => match bytes {
            [1, rest @ ..] => canonical_json(text_of(rest)?).map(Value::Jsonb),
            _ => None,
        },
        ColumnType::Float8 => bytes.try_into().ok().map(u64::from_be_bytes).map(Value::Float8),
    };
    value.ok_or_else(|| {
        let message = format!("incorrect binary data format for type {}", column.kind);
        SqlError::new("22P03", code::BAD_INPUT, message)
    })
}

fn text_of(bytes: &[u8]) -> Result<&str, SqlError> {
    let wrong = |byte: u8| {
        let message = format!("invalid byte sequence for encoding \"UTF8\": 0x{byte:02x}");
        SqlError::new("22021", code::BAD_INPUT, message)
    };
    if bytes.contains(&0) {
        return Err(wrong(0));
    }
    std::str::from_utf8(bytes)
        .map_err(|error| wrong(bytes.get(error.valid_up_to()).copied().unwrap_or_default()))
}

/// Any beginning that only one of the words has.
fn boolean(text: &str) -> Option<bool> {
    let text = text.to_ascii_lowercase();
    let begins = |word: &str, least: usize| text.len() >= least && word.starts_with(&text);
    match text.as_str() {
        "1" => Some(true),
        "0" => Some(false),
        _ if begins("true", 1) || begins("yes", 1) || text == "on" => Some(true),
        _ if begins("false", 1) || begins("no", 1) || begins("off", 2) => Some(false),
        _ => None,
    }
}

fn integer<T: std::str::FromStr<Err = std::num::ParseIntError>>(
    bare: &str,
    kind: &str,
    text: &str,
) -> Result<T, SqlError> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    bare.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
        PosOverflow | NegOverflow => {
            let message = format!("value \"{text}\" is out of range for type {kind}");
            SqlError::new("22003", code::BAD_INPUT, message)
        }
        _ => {
            let message = format!("invalid input syntax for type {kind}: \"{text}\"");
            SqlError::new("22P02", code::BAD_INPUT, message)
        }
    })
}

/// `digits` × 10^-`scale`.
struct Decimal {
    digits: i128,
    scale: i32,
    /// False: there were more digits than 128 bits hold, so it fits no column.
    is_whole: bool,
}

fn decimal(text: &str) -> Option<Decimal> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            let size = exponent.trim_start_matches(['+', '-']).len();
            let exponent = (size <= EXPONENT_SIZE_MAX).then(|| exponent.parse::<i32>().ok());
            (mantissa, exponent.flatten()?)
        }
        None => (text, 0),
    };
    let (is_negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = || whole.bytes().chain(fraction.bytes());
    if all().next().is_none() || !all().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut digits: i128 = 0;
    let mut scale = exponent.checked_neg()?;
    let mut is_whole = true;
    let fraction = fraction.trim_end_matches('0');
    scale = scale.checked_add(i32::try_from(fraction.len()).ok()?)?;
    for byte in whole.bytes().chain(fraction.bytes()) {
        let digit = i128::from(byte.wrapping_sub(b'0'));
        match digits.checked_mul(10).and_then(|more| more.checked_add(digit)) {
            Some(more) => digits = more,
            None => is_whole = false,
        }
    }
    let digits = if is_negative { digits.checked_neg()? } else { digits };
    Some(Decimal { digits, scale, is_whole })
}

/// A number as a column holds it: rounded to its scale, half away from zero.
fn fitted(number: Decimal, precision: u8, scale: u8) -> Result<i128, SqlError> {
    let overflow = || {
        let bound = precision.saturating_sub(scale);
        let mut error = SqlError::new("22003", code::BAD_INPUT, "numeric field overflow");
        error.more().detail = Some(format!(
            "A field with precision {precision}, scale {scale} must round to an absolute value less than 10^{bound}."
        ));
        error
    };
    if !number.is_whole {
        return Err(overflow());
    }
    let shift = i32::from(scale).saturating_sub(number.scale);
    let value = match 10_i128.checked_pow(shift.unsigned_abs()) {
        _ if number.digits == 0 => Some(0),
        Some(factor) if shift >= 0 => number.digits.checked_mul(factor),
        Some(factor) => rounded(number.digits, factor),
        None if shift < 0 => Some(0),
        None => None,
    };
    let value = value.ok_or_else(overflow)?;
    let bound = 10_u128.checked_pow(u32::from(precision)).unwrap_or(u128::MAX);
    if value.unsigned_abs() < bound { Ok(value) } else { Err(overflow()) }
}

fn rounded(digits: i128, factor: i128) -> Option<i128> {
    let quotient = digits.checked_div(factor)?;
    let rest = digits.checked_rem(factor)?.unsigned_abs();
    let half = factor.unsigned_abs().checked_div(2)?;
    if rest >= half { quotient.checked_add(digits.signum()) } else { Some(quotient) }
}

/// Hexadecimal after `\x`, else bytes with `\\` and `\ooo` for some of them.
pub(crate) fn bytea(text: &str) -> Result<Vec<u8>, SqlError> {
    let wrong = |state, what: &str| Err(SqlError::new(state, code::BAD_INPUT, what));
    if let Some(digits) = text.strip_prefix("\\x") {
        let digits: String = digits.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        return match hex::decode(&digits) {
            Ok(bytes) => Ok(bytes),
            Err(hex::FromHexError::OddLength) => {
                wrong("22023", "invalid hexadecimal data: odd number of digits")
            }
            Err(hex::FromHexError::InvalidHexCharacter { c, .. }) => {
                wrong("22023", &format!("invalid hexadecimal digit: \"{c}\""))
            }
            Err(_) => wrong("22023", "invalid hexadecimal data"),
        };
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        (rest, _) = match rest {
            [] => return Ok(bytes),
            [b'\\', b'\\', tail @ ..] => (tail, bytes.push(b'\\')),
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                let octal = [a, b, c].iter().fold(0_u8, |sum, digit| sum << 3 | (**digit & 7));
                (tail, bytes.push(octal))
            }
            [b'\\', ..] => return wrong("22P02", "invalid input syntax for type bytea"),
            [byte, tail @ ..] => (tail, bytes.push(*byte)),
        };
    }
}

fn untimely(wrong: Wrong, kind: &str, text: &str) -> SqlError {
    match wrong {
        Wrong::Form => {
            let message = format!("invalid input syntax for type {kind}: \"{text}\"");
            SqlError::new("22007", code::BAD_INPUT, message)
                .hint("write it in the form of ISO 8601, such as 2013-01-31 06:00:00+00")
        }
        Wrong::Range => {
            let message = format!("date/time field value out of range: \"{text}\"");
            SqlError::new("22008", code::BAD_INPUT, message)
        }
    }
}

/// With or without braces, with hyphens after any four digits.
pub(crate) fn uuid(text: &str) -> Option<[u8; 16]> {
    let bare = text.strip_prefix('{').map_or(Some(text), |text| text.strip_suffix('}'))?;
    let groups = bare.split('-');
    let is_grouped = groups.clone().all(|group| !group.is_empty() && group.len().is_multiple_of(4));
    uuid_from_text(bare).filter(|_| is_grouped && bare.is_ascii())
}

fn float(bare: &str, text: &str) -> Result<f64, SqlError> {
    let has_form = !bare.is_empty() && !bare.ends_with(['e', 'E']);
    let value: f64 = bare.parse().ok().filter(|_| has_form).ok_or_else(|| {
        let message = format!("invalid input syntax for type double precision: \"{text}\"");
        SqlError::new("22P02", code::BAD_INPUT, message)
    })?;
    let mantissa = bare.split(['e', 'E']).next().unwrap_or_default();
    let is_number = bare.bytes().any(|byte| byte.is_ascii_digit());
    let vanished = value == 0.0 && mantissa.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
    if is_number && value.is_infinite() || vanished {
        let message = format!("\"{text}\" is out of range for type double precision");
        return Err(SqlError::new("22003", code::BAD_INPUT, message));
    }
    Ok(value)
}
