//! Rows as PostgreSQL's wire has them: types, and every value as text or binary.
//!
//! A row is a count of columns (u16), then each value as a size (i32, −1 for null) and its bytes: the body of a
//! `DataRow` message. Text is what PostgreSQL prints; times are in UTC.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "calendar and digit arithmetic on bounded numbers"
)]

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_pg::datatypes::{field_into_pg_type, into_pg_type};
use pgwire::api::Type;
use quipu_types::code;

use crate::column::PG_TYPE_KEY;
use crate::error::SqlError;
use crate::interval;

const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = 946_684_800_000_000;
const DAY_MICROS: i64 = 86_400_000_000;

/// A column of an answer.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type in a batch.
    pub data_type: DataType,
    /// Its type for PostgreSQL.
    pub pg_type: Type,
    /// The type's size in bytes, −1 when it varies.
    pub size: i16,
    /// The type's modifier, −1 without one.
    pub modifier: i32,
    /// The table that it comes from and its place there, from 1; 0 and 0 where it is computed.
    pub origin: (u32, i16),
}

/// Where a column comes from does not tell it from another: a table that was made anew has the same.
impl PartialEq for Column {
    fn eq(&self, other: &Self) -> bool {
        let parts = |column: &Self| (column.pg_type.clone(), column.size, column.modifier);
        self.name == other.name && self.data_type == other.data_type && parts(self) == parts(other)
    }
}

impl Column {
    pub(crate) fn text(name: &str) -> Self {
        Self::new(name, DataType::Utf8, &Type::TEXT)
    }

    /// A column of this type, with its modifier.
    pub(crate) fn of(name: &str, data_type: DataType, kind: &Type, modifier: i32) -> Self {
        Self { modifier, ..Self::new(name, data_type, kind) }
    }

    fn new(name: &str, data_type: DataType, kind: &Type) -> Self {
        let modifier = match &data_type {
            DataType::Decimal128(precision, scale) if *precision < 38 => {
                (i32::from(*precision) << 16 | i32::from(*scale)) + 4
            }
            _ => -1,
        };
        Self {
            name: name.to_owned(),
            data_type,
            pg_type: kind.clone(),
            size: size_of_type(kind),
            modifier,
            origin: (0, 0),
        }
    }
}

fn size_of_type(kind: &Type) -> i16 {
    match *kind {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::FLOAT4 | Type::DATE | Type::OID => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
        Type::UUID | Type::INTERVAL => 16,
        Type::NAME => 64,
        _ => -1,
    }
}

/// PostgreSQL's type of an Arrow type; none for one that it does not have.
pub(crate) fn type_of(data_type: &DataType) -> Option<Type> {
    into_pg_type(data_type).ok()
}

/// The type that a field says beside its Arrow type, and its modifier.
pub(crate) fn marked(field: &Field) -> Option<(Type, i32)> {
    let said = field.metadata().get(PG_TYPE_KEY)?;
    let (name, length) = said.trim_end_matches(')').split_once('(').unwrap_or((said, ""));
    let modifier = length.parse().map_or(-1, |length: i32| length.saturating_add(4));
    let kind = match name {
        "uuid" => Type::UUID,
        "jsonb" => Type::JSONB,
        "varchar" => Type::VARCHAR,
        "bpchar" => Type::BPCHAR,
        _ => return None,
    };
    Some((kind, modifier))
}

/// The columns of a schema; `names` where the statement's text says one.
pub(crate) fn columns(schema: &Schema, names: &[Option<String>]) -> Result<Vec<Column>, SqlError> {
    schema
        .fields()
        .iter()
        .enumerate()
        .map(|(index, field)| {
            let name = names.get(index).and_then(Option::as_deref).unwrap_or(field.name());
            let marked = marked(field);
            let kind = match (&marked, field.data_type()) {
                (Some((kind, _)), _) => kind.clone(),
                // PostgreSQL calls a literal without a type text.
                (None, DataType::Null) => Type::TEXT,
                _ => field_into_pg_type(field).map_err(|_| {
                    SqlError::unsupported(&format!("a result of type {}", field.data_type()))
                })?,
            };
            // Counts of rows are what PostgreSQL gives as int8.
            if *field.data_type() == DataType::UInt64 {
                return Ok(Column::new(name, DataType::Int64, &Type::INT8));
            }
            let mut column = Column::new(name, field.data_type().clone(), &kind);
            if let Some((_, modifier @ 0..)) = marked {
                column.modifier = modifier;
            }
            Ok(column)
        })
        .collect()
}

fn failed(error: &ArrowError) -> SqlError {
    SqlError::new("XX000", code::SQL_UNSUPPORTED, error.to_string())
}

/// A batch made ready to write rows from.
#[derive(Debug)]
pub struct Encoder {
    arrays: Vec<ArrayRef>,
    kinds: Vec<Type>,
    row_count: usize,
    scratch: String,
}

impl Encoder {
    /// For the rows of a batch that has these columns.
    pub fn new(batch: &RecordBatch, columns: &[Column]) -> Result<Self, SqlError> {
        let arrays = batch
            .columns()
            .iter()
            .map(|array| simple(array).map_err(|error| failed(&error)))
            .collect::<Result<Vec<_>, _>>()?;
        let kinds = columns.iter().map(|column| column.pg_type.clone()).collect();
        Ok(Self { arrays, kinds, row_count: batch.num_rows(), scratch: String::new() })
    }

    /// How many rows there are.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.row_count
    }

    /// Appends a row to `out`; `is_binary` says it for each column.
    pub fn row(
        &mut self,
        row: usize,
        is_binary: impl Fn(usize) -> bool,
        out: &mut Vec<u8>,
    ) -> Result<(), SqlError> {
        let count = u16::try_from(self.arrays.len())
            .map_err(|_| SqlError::unsupported("so many columns"))?;
        out.extend_from_slice(&count.to_be_bytes());
        for (index, (array, kind)) in self.arrays.iter().zip(&self.kinds).enumerate() {
            if array.is_null(row) || array.data_type() == &DataType::Null {
                out.extend_from_slice(&(-1_i32).to_be_bytes());
                continue;
            }
            let start = out.len();
            out.extend_from_slice(&[0; 4]);
            if is_binary(index) {
                binary(array, row, kind, out)?;
            } else {
                self.scratch.clear();
                text(array, row, kind, &mut self.scratch)?;
                out.extend_from_slice(self.scratch.as_bytes());
            }
            let size = i32::try_from(out.len() - start - 4).map_err(|_| {
                SqlError::new("54000", code::SQL_LIMIT, "a value is larger than 2 GiB")
            })?;
            if let Some(place) = out.get_mut(start..start + 4) {
                place.copy_from_slice(&size.to_be_bytes());
            }
        }
        Ok(())
    }
}

/// Appends every row of a batch as texts.
pub(crate) fn text_rows(
    batch: &RecordBatch,
    columns: &[Column],
    rows: &mut Vec<Vec<Option<String>>>,
) -> Result<(), SqlError> {
    let encoder = Encoder::new(batch, columns)?;
    for row in 0..encoder.row_count {
        let mut values = Vec::with_capacity(encoder.arrays.len());
        for (array, kind) in encoder.arrays.iter().zip(&encoder.kinds) {
            let is_null = array.is_null(row) || array.data_type() == &DataType::Null;
            let mut value = String::new();
            if !is_null {
                text(array, row, kind, &mut value)?;
            }
            values.push((!is_null).then_some(value));
        }
        rows.push(values);
    }
    Ok(())
}

/// An array of one of the types that are written below.
fn simple(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let to = match array.data_type() {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Dictionary(_, value) => {
            let unfolded = cast(array, value)?;
            return simple(&unfolded);
        }
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(TimeUnit::Microsecond, _) => return Ok(array.clone()),
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Float16 => DataType::Float32,
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            DataType::List(item.clone())
        }
        _ => return Ok(array.clone()),
    };
    cast(array, &to)
}

/// Writes a value that is not null as PostgreSQL prints it.
fn text(array: &ArrayRef, row: usize, kind: &Type, out: &mut String) -> Result<(), SqlError> {
    let written = match array.data_type() {
        DataType::Boolean => {
            out.push(if array.as_boolean().value(row) { 't' } else { 'f' });
            Ok(())
        }
        DataType::Int8 => write!(out, "{}", array.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => write!(out, "{}", array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => write!(out, "{}", array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => write!(out, "{}", array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => write!(out, "{}", array.as_primitive::<UInt8Type>().value(row)),
        DataType::UInt16 => write!(out, "{}", array.as_primitive::<UInt16Type>().value(row)),
        DataType::UInt32 => write!(out, "{}", array.as_primitive::<UInt32Type>().value(row)),
        DataType::UInt64 => write!(out, "{}", array.as_primitive::<UInt64Type>().value(row)),
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            float_text(&format!("{value:e}"), f64::from(value), 6, out);
            Ok(())
        }
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            float_text(&format!("{value:e}"), value, 15, out);
            Ok(())
        }
        DataType::Decimal128(_, scale) => {
            decimal_text(array.as_primitive::<Decimal128Type>().value(row), *scale, out);
            Ok(())
        }
        DataType::Utf8 => {
            out.push_str(array.as_string::<i32>().value(row));
            Ok(())
        }
        DataType::Binary => {
            out.push_str("\\x");
            out.push_str(&hex::encode(array.as_binary::<i32>().value(row)));
            Ok(())
        }
        DataType::Date32 => {
            date_text(i64::from(array.as_primitive::<Date32Type>().value(row)), out);
            Ok(())
        }
        DataType::Timestamp(_, zone) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            timestamp_text(micros, zone.is_some(), out);
            Ok(())
        }
        DataType::List(_) => return list_text(array, row, kind, out),
        _ => return other_text(array, row, out),
    };
    // Writing into a string never fails.
    written.map_err(|_| SqlError::unsupported("this value"))
}

fn other_text(array: &ArrayRef, row: usize, out: &mut String) -> Result<(), SqlError> {
    if let Some(text) = interval::text(array, row).map_err(|error| failed(&error))? {
        out.push_str(&text);
        return Ok(());
    }
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array, &options).map_err(|error| failed(&error))?;
    write!(out, "{}", formatter.value(row)).map_err(|_| SqlError::unsupported("this value"))
}

fn list_text(array: &ArrayRef, row: usize, kind: &Type, out: &mut String) -> Result<(), SqlError> {
    let items = simple(&array.as_list::<i32>().value(row)).map_err(|error| failed(&error))?;
    out.push('{');
    let mut item = String::new();
    for index in 0..items.len() {
        if index > 0 {
            out.push(',');
        }
        if items.is_null(index) || items.data_type() == &DataType::Null {
            out.push_str("NULL");
            continue;
        }
        item.clear();
        text(&items, index, kind, &mut item)?;
        let nested = matches!(items.data_type(), DataType::List(_));
        let needs_quotes = !nested
            && (item.is_empty()
                || item.eq_ignore_ascii_case("null")
                || item.contains(['{', '}', ',', '"', '\\', ' ', '\t', '\n']));
        if needs_quotes {
            out.push('"');
            for character in item.chars() {
                if matches!(character, '"' | '\\') {
                    out.push('\\');
                }
                out.push(character);
            }
            out.push('"');
        } else {
            out.push_str(&item);
        }
    }
    out.push('}');
    Ok(())
}

/// A date's text.
pub(crate) fn date(days: i32) -> String {
    let mut out = String::new();
    date_text(days.into(), &mut out);
    out
}

/// An instant's text.
pub(crate) fn timestamp(micros: i64, has_zone: bool) -> String {
    let mut out = String::new();
    timestamp_text(micros, has_zone, &mut out);
    out
}

/// A numeric's text.
pub(crate) fn decimal(value: i128, scale: u8) -> String {
    let mut out = String::new();
    decimal_text(value, i8::try_from(scale).unwrap_or_default(), &mut out);
    out
}

/// `scientific` is the shortest text that reads back, as Rust writes it: `1.5e-7`.
fn float_text(scientific: &str, value: f64, digits_max: i32, out: &mut String) {
    if value.is_nan() {
        out.push_str("NaN");
        return;
    }
    if value.is_infinite() {
        out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
        return;
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if exponent < -4 || exponent >= digits_max {
        let sign = if exponent < 0 { '-' } else { '+' };
        let _into_memory = write!(out, "{mantissa}e{sign}{:02}", exponent.unsigned_abs());
        return;
    }
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    out.push_str(sign);
    match usize::try_from(exponent) {
        Err(_) => {
            out.push_str("0.");
            let zeros = usize::try_from(-exponent - 1).unwrap_or_default();
            out.extend(std::iter::repeat_n('0', zeros));
            out.push_str(&digits);
        }
        Ok(exponent) if digits.len() <= exponent + 1 => {
            out.push_str(&digits);
            out.extend(std::iter::repeat_n('0', exponent + 1 - digits.len()));
        }
        Ok(exponent) => {
            let (whole, fraction) = digits.split_at_checked(exponent + 1).unwrap_or((&digits, ""));
            out.push_str(whole);
            out.push('.');
            out.push_str(fraction);
        }
    }
}

fn decimal_text(value: i128, scale: i8, out: &mut String) {
    if value < 0 {
        out.push('-');
    }
    let digits = value.unsigned_abs().to_string();
    let Ok(scale) = usize::try_from(scale) else {
        out.push_str(&digits);
        out.extend(std::iter::repeat_n('0', usize::from(scale.unsigned_abs())));
        return;
    };
    if scale == 0 {
        out.push_str(&digits);
        return;
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at_checked(padded.len() - scale).unwrap_or((&padded, ""));
    out.push_str(whole);
    out.push('.');
    out.push_str(fraction);
}

/// Year, month and day of a day since 1970-01-01, in the proleptic Gregorian calendar.
///
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Writes the date without its era; says whether it is before year 1.
fn date_digits(days: i64, out: &mut String) -> bool {
    let (year, month, day) = civil(days);
    let (year, before) = if year > 0 { (year, false) } else { (1 - year, true) };
    let _into_memory = write!(out, "{year:04}-{month:02}-{day:02}");
    before
}

fn date_text(days: i64, out: &mut String) {
    if date_digits(days, out) {
        out.push_str(" BC");
    }
}

fn timestamp_text(micros: i64, has_zone: bool, out: &mut String) {
    let before = date_digits(micros.div_euclid(DAY_MICROS), out);
    let time = micros.rem_euclid(DAY_MICROS);
    let seconds = time / 1_000_000;
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let _into_memory = write!(out, " {hours:02}:{minutes:02}:{seconds:02}");
    let fraction = time % 1_000_000;
    if fraction > 0 {
        let digits = format!("{fraction:06}");
        out.push('.');
        out.push_str(digits.trim_end_matches('0'));
    }
    if has_zone {
        out.push_str("+00");
    }
    if before {
        out.push_str(" BC");
    }
}

/// Writes a value that is not null in PostgreSQL's binary form.
fn binary(array: &ArrayRef, row: usize, kind: &Type, out: &mut Vec<u8>) -> Result<(), SqlError> {
    match (array.data_type(), kind) {
        (DataType::Boolean, _) => out.push(u8::from(array.as_boolean().value(row))),
        (DataType::Float32, _) => {
            out.extend_from_slice(&array.as_primitive::<Float32Type>().value(row).to_be_bytes());
        }
        (DataType::Float64, _) => {
            out.extend_from_slice(&array.as_primitive::<Float64Type>().value(row).to_be_bytes());
        }
        (DataType::Decimal128(_, scale), _) => {
            numeric_binary(array.as_primitive::<Decimal128Type>().value(row), *scale, out);
        }
        (DataType::UInt64, _) => {
            numeric_binary(i128::from(array.as_primitive::<UInt64Type>().value(row)), 0, out);
        }
        (data_type, _) if data_type.is_integer() => {
            integer_binary(integer(array, row).unwrap_or_default(), kind, out);
        }
        (DataType::Utf8, &Type::UUID) => {
            let digits: String =
                array.as_string::<i32>().value(row).chars().filter(|c| *c != '-').collect();
            let bytes = hex::decode(digits).map_err(|_| SqlError::unsupported("this UUID"))?;
            out.extend_from_slice(&bytes);
        }
        (DataType::Utf8, &Type::JSONB) => {
            out.push(1);
            out.extend_from_slice(array.as_string::<i32>().value(row).as_bytes());
        }
        (DataType::Utf8, _) => {
            out.extend_from_slice(array.as_string::<i32>().value(row).as_bytes())
        }
        (DataType::Binary, _) => out.extend_from_slice(array.as_binary::<i32>().value(row)),
        (DataType::Date32, _) => {
            let days = array.as_primitive::<Date32Type>().value(row).saturating_sub(EPOCH_DAYS);
            out.extend_from_slice(&days.to_be_bytes());
        }
        (DataType::Timestamp(..), _) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            out.extend_from_slice(&micros.saturating_sub(EPOCH_MICROS).to_be_bytes());
        }
        (DataType::List(item), _) => list_binary(array, row, item, out)?,
        (other, _) => {
            return Err(SqlError::unsupported(&format!("type {other} in binary"))
                .hint("ask for text, or cast it to text"));
        }
    }
    Ok(())
}

fn integer(array: &ArrayRef, row: usize) -> Option<i64> {
    let wide = cast(&array.slice(row, 1), &DataType::Int64).ok()?;
    Some(wide.as_primitive::<Int64Type>().value(0))
}

fn integer_binary(value: i64, kind: &Type, out: &mut Vec<u8>) {
    // The low bytes, as many as the type has: the type follows from the array's, so nothing is lost.
    let bytes = value.to_be_bytes();
    let size = match *kind {
        Type::INT2 => 2,
        Type::INT8 => 8,
        _ => 4,
    };
    out.extend_from_slice(bytes.get(8 - size..).unwrap_or(&bytes));
}

fn list_binary(
    array: &ArrayRef,
    row: usize,
    item: &Field,
    out: &mut Vec<u8>,
) -> Result<(), SqlError> {
    let items = simple(&array.as_list::<i32>().value(row)).map_err(|error| failed(&error))?;
    let kind =
        type_of(item.data_type()).filter(|_| !matches!(items.data_type(), DataType::List(_)));
    let Some(kind) = kind else {
        return Err(SqlError::unsupported("a nested array in binary").hint("ask for text"));
    };
    let count = i32::try_from(items.len()).unwrap_or(i32::MAX);
    let has_null = i32::from(items.null_count() > 0);
    out.extend_from_slice(&i32::from(count > 0).to_be_bytes());
    out.extend_from_slice(&has_null.to_be_bytes());
    out.extend_from_slice(&kind.oid().to_be_bytes());
    if count > 0 {
        out.extend_from_slice(&count.to_be_bytes());
        out.extend_from_slice(&1_i32.to_be_bytes());
    }
    for index in 0..items.len() {
        if items.is_null(index) || items.data_type() == &DataType::Null {
            out.extend_from_slice(&(-1_i32).to_be_bytes());
            continue;
        }
        let mut value = Vec::new();
        binary(&items, index, &kind, &mut value)?;
        out.extend_from_slice(&i32::try_from(value.len()).unwrap_or(i32::MAX).to_be_bytes());
        out.extend_from_slice(&value);
    }
    Ok(())
}

/// Digits of base 10,000, the first of them at 10,000^weight.
fn numeric_binary(value: i128, scale: i8, out: &mut Vec<u8>) {
    let mut digits: Vec<u16> = Vec::new();
    let negative = value < 0;
    let scale = usize::try_from(scale).unwrap_or_default();
    // The point must fall between two digits of base 10,000: zeros are appended until it does.
    let mut text = value.unsigned_abs().to_string();
    text.extend(std::iter::repeat_n('0', (4 - scale % 4) % 4));
    let fraction_count = scale.div_ceil(4);
    let lead = (4 - text.len() % 4) % 4;
    let padded = format!("{}{text}", "0".repeat(lead));
    for chunk in padded.as_bytes().chunks(4) {
        digits.push(chunk.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')));
    }
    let whole = i16::try_from(digits.len()).unwrap_or_default()
        - i16::try_from(fraction_count).unwrap_or_default();
    let mut weight = whole - 1;
    let leading = digits.iter().take_while(|digit| **digit == 0).count();
    digits.drain(..leading);
    weight -= i16::try_from(leading).unwrap_or_default();
    while digits.last() == Some(&0) {
        digits.pop();
    }
    if digits.is_empty() {
        weight = 0;
    }
    let count = u16::try_from(digits.len()).unwrap_or_default();
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    let sign: u16 = if negative { 0x4000 } else { 0 };
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&u16::try_from(scale).unwrap_or_default().to_be_bytes());
    for digit in digits {
        out.extend_from_slice(&digit.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn floats_are_written_as_postgresql_writes_them() {
        for (value, wanted) in [
            (0.0, "0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (1e15, "1e+15"),
            (1e14, "100000000000000"),
            (1.5e-7, "1.5e-07"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123_456.789, "123456.789"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
            (-0.0, "-0"),
            (1e300, "1e+300"),
        ] {
            assert_eq!(written(|out| float_text(&format!("{value:e}"), value, 15, out)), wanted);
        }
    }

    #[test]
    fn decimals_dates_and_times_are_written_as_postgresql_writes_them() {
        assert_eq!(written(|out| decimal_text(-5, 2, out)), "-0.05");
        assert_eq!(written(|out| decimal_text(738, 2, out)), "7.38");
        assert_eq!(written(|out| decimal_text(0, 0, out)), "0");
        assert_eq!(written(|out| date_text(15_706, out)), "2013-01-01");
        assert_eq!(written(|out| date_text(-719_529, out)), "0002-12-31 BC");
        assert_eq!(
            written(|out| timestamp_text(1_357_016_400_000_000, true, out)),
            "2013-01-01 05:00:00+00"
        );
        assert_eq!(written(|out| timestamp_text(-1, false, out)), "1969-12-31 23:59:59.999999");
    }

    #[test]
    fn binary_numerics_have_digits_of_base_ten_thousand() {
        let of = |value, scale| {
            let mut out = Vec::new();
            numeric_binary(value, scale, &mut out);
            out.chunks(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]])).collect::<Vec<_>>()
        };
        assert_eq!(of(12_345_678, 3), [3, 1, 0, 3, 1, 2345, 6780]);
        assert_eq!(of(0, 2), [0, 0, 0, 2]);
        assert_eq!(of(-5, 2), [1, -1, 0x4000, 2, 500]);
        assert_eq!(of(10_000, 0), [1, 1, 0, 0, 1]);
    }
}
