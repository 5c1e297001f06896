//! Parameters of prepared statements: which types they have, and their values off the wire.
//!
//! A type that the client names holds: the placeholder is cast to it, so that an `int2` sent for a `bigint`
//! column means what PostgreSQL takes it for. What the client leaves open follows from the plan; what the plan
//! leaves open is text.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType as AstType, Expr as AstExpr, FunctionArg, FunctionArgExpr,
    FunctionArguments, Statement, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use pgwire::api::Type;
use quipu_types::row_json::{canonical_json, uuid_to_text};
use quipu_types::{Reader, code};

use crate::copy::value::uuid;
use crate::error::SqlError;
use crate::wire;

/// Most parameters of a statement.
pub const PARAMETER_COUNT_MAX: usize = 4096;
/// Most elements of an array that comes as a parameter.
const ELEMENT_COUNT_MAX: usize = 100_000;
/// Days from 1970-01-01 to PostgreSQL's 2000-01-01.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A parameter's value, as [`decode`] reads it and `Session::execute` takes it.
pub type Scalar = ScalarValue;

/// One parameter of a prepared statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its type on the wire.
    pub oid: u32,
    /// Its type in the plan, as far as that is known.
    pub data_type: Option<DataType>,
}

/// Casts every placeholder to the type that the client says, where there is one to cast to.
pub(crate) fn type_placeholders(statement: &mut Statement, types: &[u32]) {
    let _never_breaks = VisitMut::visit(statement, &mut Placeholders { types });
}

struct Placeholders<'a> {
    types: &'a [u32],
}

impl VisitorMut for Placeholders<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut AstExpr) -> ControlFlow<()> {
        // `x = ANY($1)` is `array_contains($1, x)` by now. A parameter without a type is an array of texts there.
        if let AstExpr::Function(function) = expr
            && function.name.to_string() == "array_contains"
            && let FunctionArguments::List(list) = &mut function.args
            && let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(array))) = list.args.first_mut()
            && let AstExpr::Value(value) = &*array
            && let Value::Placeholder(name) = &value.value
            && self.type_of(name) == 0
        {
            *array = cast_to(array, "text[]");
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut AstExpr) -> ControlFlow<()> {
        cast_placeholder(expr, |name| cast_name(self.type_of(name)));
        ControlFlow::Continue(())
    }
}

/// Casts a placeholder to the type that is told for it, if `expr` is one and there is one.
fn cast_placeholder<T: AsRef<str>>(expr: &mut AstExpr, type_of: impl FnOnce(&str) -> Option<T>) {
    if let AstExpr::Value(value) = &*expr
        && let Value::Placeholder(name) = &value.value
        && let Some(wanted) = type_of(name)
    {
        *expr = cast_to(expr, wanted.as_ref());
    }
}

impl Placeholders<'_> {
    fn type_of(&self, placeholder: &str) -> u32 {
        number_of(placeholder)
            .and_then(|number| self.types.get(number.checked_sub(1)?))
            .copied()
            .unwrap_or_default()
    }
}

/// Casts every placeholder to the type that `PREPARE` says.
pub(crate) fn cast_placeholders(statement: &mut Statement, types: &[AstType]) {
    let _never_breaks = VisitMut::visit(statement, &mut Said { types });
}

struct Said<'a> {
    types: &'a [AstType],
}

impl VisitorMut for Said<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut AstExpr) -> ControlFlow<()> {
        cast_placeholder(expr, |name| {
            let number = number_of(name)?.checked_sub(1)?;
            self.types.get(number).map(AstType::to_string)
        });
        ControlFlow::Continue(())
    }
}

/// `CAST(expr AS name)`; `expr` itself where the dialect has no such type.
pub(crate) fn cast_to(expr: &AstExpr, name: &str) -> AstExpr {
    let parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(name);
    match parser.and_then(|mut parser| parser.parse_data_type()) {
        Ok(data_type) => AstExpr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(expr.clone()),
            data_type,
            array: false,
            format: None,
        },
        Err(_) => expr.clone(),
    }
}

fn number_of(placeholder: &str) -> Option<usize> {
    placeholder.strip_prefix('$')?.parse().ok()
}

/// What a placeholder of this type is cast to. Exact decimals and times keep the precision they come with.
fn cast_name(oid: u32) -> Option<&'static str> {
    Some(match Type::from_oid(oid)? {
        Type::BOOL => "boolean",
        Type::INT2 => "smallint",
        Type::INT4 => "integer",
        Type::INT8 | Type::OID => "bigint",
        Type::FLOAT4 => "real",
        Type::FLOAT8 => "double precision",
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::CHAR => "text",
        Type::BYTEA => "bytea",
        Type::DATE => "date",
        Type::INT2_ARRAY | Type::INT4_ARRAY | Type::INT8_ARRAY | Type::OID_ARRAY => "bigint[]",
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY | Type::NAME_ARRAY => "text[]",
        _ => return None,
    })
}

/// The parameters of a plan, `$1` first.
pub(crate) fn of_plan(plan: &LogicalPlan, types: &[u32]) -> Result<Vec<Parameter>> {
    // Types that have no Arrow type of their own.
    let mut marked: BTreeMap<usize, Type> = BTreeMap::new();
    let mut inferred: BTreeMap<usize, Option<DataType>> = BTreeMap::new();
    let fields = plan.get_parameter_fields()?.into_iter();
    let numbered: BTreeMap<usize, _> =
        fields.filter_map(|(name, field)| Some((number_of(&name)?, field))).collect();
    for (number, field) in numbered {
        let said = field.as_ref().and_then(|field| wire::marked(field));
        // PostgreSQL compares a varchar as a text.
        if let Some((kind @ (Type::UUID | Type::JSONB), _)) = said {
            marked.insert(number, kind);
        }
        inferred.insert(number, field.map(|field| field.data_type().clone()));
    }
    plan.apply_with_subqueries(|node| {
        for expr in node.expressions() {
            expr.apply(|expr| {
                if let Expr::Cast(cast) = expr
                    && let Expr::Placeholder(placeholder) = cast.expr.as_ref()
                    && let Some(number) = number_of(&placeholder.id)
                {
                    inferred.insert(number, Some(cast.field.data_type().clone()));
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let last = inferred.keys().next_back().copied().unwrap_or_default();
    let count = last.max(types.len()).min(PARAMETER_COUNT_MAX);
    Ok((1..=count)
        .map(|number| {
            let said = number.checked_sub(1).and_then(|index| types.get(index)).copied();
            let data_type = inferred.remove(&number).flatten();
            let oid = match (said, marked.get(&number)) {
                (Some(oid), _) if oid != 0 && oid != Type::UNKNOWN.oid() => oid,
                (_, Some(kind)) => kind.oid(),
                _ => data_type.as_ref().map_or(Type::TEXT.oid(), |data_type| {
                    wire::type_of(data_type).map_or(Type::TEXT.oid(), |found| found.oid())
                }),
            };
            Parameter { oid, data_type }
        })
        .collect())
}

/// Reads a parameter's value off the wire.
pub fn decode(
    parameter: &Parameter,
    is_binary: bool,
    bytes: Option<&[u8]>,
) -> Result<ScalarValue, SqlError> {
    let Some(bytes) = bytes else {
        let data_type = parameter.data_type.clone().unwrap_or(DataType::Utf8);
        return Ok(ScalarValue::try_from(&data_type).unwrap_or(ScalarValue::Null));
    };
    let kind = Type::from_oid(parameter.oid).unwrap_or(Type::TEXT);
    if is_binary {
        decode_binary(&kind, bytes).ok_or_else(|| {
            let message =
                format!("incorrect binary data format for a parameter of type {}", kind.name());
            SqlError::new("22P03", code::SQL_SYNTAX, message)
        })
    } else {
        let text = std::str::from_utf8(bytes).map_err(|_| {
            SqlError::new("22021", code::SQL_SYNTAX, "invalid byte sequence for encoding \"UTF8\"")
        })?;
        decode_text(&kind, text, parameter.data_type.as_ref())
    }
}

fn malformed(kind: &str, text: &str) -> SqlError {
    let message = format!("invalid input syntax for type {kind}: \"{text}\"");
    SqlError::new("22P02", code::SQL_SYNTAX, message)
}

fn not_json() -> SqlError {
    SqlError::new("22P02", code::SQL_SYNTAX, "invalid input syntax for type json")
}

fn decode_text(
    kind: &Type,
    text: &str,
    wanted: Option<&DataType>,
) -> Result<ScalarValue, SqlError> {
    let wrong = || malformed(kind.name(), text);
    let trimmed = text.trim();
    let canonical = match *kind {
        Type::UUID => Some(uuid_to_text(&uuid(trimmed).ok_or_else(wrong)?)),
        Type::JSON | Type::JSONB => Some(canonical_json(text).ok_or_else(not_json)?),
        _ => None,
    };
    let text = canonical.as_deref().unwrap_or(text);
    Ok(match *kind {
        Type::BOOL => ScalarValue::Boolean(Some(match trimmed.to_lowercase().as_str() {
            "t" | "true" | "y" | "yes" | "on" | "1" => true,
            "f" | "false" | "n" | "no" | "off" | "0" => false,
            _ => return Err(wrong()),
        })),
        Type::INT2 => ScalarValue::Int16(Some(trimmed.parse().map_err(|_| wrong())?)),
        Type::INT4 => ScalarValue::Int32(Some(trimmed.parse().map_err(|_| wrong())?)),
        Type::INT8 | Type::OID => ScalarValue::Int64(Some(trimmed.parse().map_err(|_| wrong())?)),
        Type::FLOAT4 => ScalarValue::Float32(Some(trimmed.parse().map_err(|_| wrong())?)),
        Type::FLOAT8 => ScalarValue::Float64(Some(trimmed.parse().map_err(|_| wrong())?)),
        Type::NUMERIC => decimal(trimmed).ok_or_else(wrong)?,
        Type::BYTEA => match text.strip_prefix("\\x") {
            Some(digits) => ScalarValue::Binary(Some(hex::decode(digits).map_err(|_| wrong())?)),
            None => ScalarValue::Binary(Some(text.as_bytes().to_vec())),
        },
        Type::DATE => cast(text, &DataType::Date32).ok_or_else(wrong)?,
        Type::TIMESTAMP => {
            cast(text, &DataType::Timestamp(TimeUnit::Microsecond, None)).ok_or_else(wrong)?
        }
        Type::TIMESTAMPTZ => cast(text, &timestamptz()).ok_or_else(wrong)?,
        Type::INT2_ARRAY | Type::INT4_ARRAY | Type::INT8_ARRAY | Type::OID_ARRAY => {
            let elements = array_elements(text).ok_or_else(wrong)?;
            let parsed = elements
                .into_iter()
                .map(|element| match element {
                    Some(element) => element
                        .trim()
                        .parse()
                        .map(|value| ScalarValue::Int64(Some(value)))
                        .map_err(|_| wrong()),
                    None => Ok(ScalarValue::Int64(None)),
                })
                .collect::<Result<Vec<_>, _>>()?;
            list(&parsed, &DataType::Int64)
        }
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY | Type::NAME_ARRAY => {
            let elements = array_elements(text).ok_or_else(wrong)?;
            let parsed: Vec<ScalarValue> = elements.into_iter().map(ScalarValue::Utf8).collect();
            list(&parsed, &DataType::Utf8)
        }
        _ => match wanted {
            // An oid alias and the like: what the plan wants is read from the text.
            Some(wanted) if !matches!(wanted, DataType::Utf8 | DataType::Null) => {
                cast(text, wanted).ok_or_else(wrong)?
            }
            _ if kind.name().starts_with('_') && array_elements(text).is_none() => {
                return Err(wrong());
            }
            _ => ScalarValue::Utf8(Some(text.to_owned())),
        },
    })
}

fn timestamptz() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn cast(text: &str, to: &DataType) -> Option<ScalarValue> {
    ScalarValue::Utf8(Some(text.to_owned())).cast_to(to).ok()
}

fn list(values: &[ScalarValue], item: &DataType) -> ScalarValue {
    ScalarValue::List(ScalarValue::new_list_nullable(values, item))
}

/// A decimal of the digits that it is written with.
pub(crate) fn decimal(text: &str) -> Option<ScalarValue> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let mut value: i128 = digits.parse().ok()?;
    let mut scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    if scale < 0 {
        value = value.checked_mul(10_i128.checked_pow(scale.unsigned_abs())?)?;
        scale = 0;
    }
    let fits = value.unsigned_abs() < 10_u128.checked_pow(38)? && scale <= 38;
    fits.then_some(ScalarValue::Decimal128(Some(value), 38, i8::try_from(scale).ok()?))
}

/// The elements of a one-dimensional array's text.
fn array_elements(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut elements = Vec::new();
    if inner.trim().is_empty() {
        return Some(elements);
    }
    let mut characters = inner.chars();
    loop {
        let (element, more) = array_element(&mut characters)?;
        elements.push(element);
        if elements.len() > ELEMENT_COUNT_MAX {
            return None;
        }
        if !more {
            return Some(elements);
        }
    }
}

/// One element, and whether a comma follows.
fn array_element(characters: &mut std::str::Chars<'_>) -> Option<(Option<String>, bool)> {
    let mut element = String::new();
    let mut is_quoted = false;
    let mut was_quoted = false;
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                is_quoted = !is_quoted;
                was_quoted = true;
            }
            '\\' => element.push(characters.next()?),
            ',' if !is_quoted => return Some((finish_element(element, was_quoted), true)),
            '{' | '}' if !is_quoted => return None,
            other => element.push(other),
        }
    }
    (!is_quoted).then(|| (finish_element(element, was_quoted), false))
}

fn finish_element(element: String, was_quoted: bool) -> Option<String> {
    if was_quoted {
        return Some(element);
    }
    let trimmed = element.trim();
    (!trimmed.eq_ignore_ascii_case("null")).then(|| trimmed.to_owned())
}

/// The value of a binary parameter; none for bytes that are none of its type.
fn decode_binary(kind: &Type, bytes: &[u8]) -> Option<ScalarValue> {
    let text = || std::str::from_utf8(bytes).ok().map(str::to_owned);
    Some(match *kind {
        Type::BOOL => match bytes {
            [0] => ScalarValue::Boolean(Some(false)),
            [1] => ScalarValue::Boolean(Some(true)),
            _ => return None,
        },
        Type::INT2 => ScalarValue::Int16(Some(i16::from_be_bytes(bytes.try_into().ok()?))),
        Type::INT4 => ScalarValue::Int32(Some(i32::from_be_bytes(bytes.try_into().ok()?))),
        Type::INT8 => ScalarValue::Int64(Some(i64::from_be_bytes(bytes.try_into().ok()?))),
        Type::OID => {
            ScalarValue::Int64(Some(i64::from(u32::from_be_bytes(bytes.try_into().ok()?))))
        }
        Type::FLOAT4 => ScalarValue::Float32(Some(f32::from_be_bytes(bytes.try_into().ok()?))),
        Type::FLOAT8 => ScalarValue::Float64(Some(f64::from_be_bytes(bytes.try_into().ok()?))),
        Type::BYTEA => ScalarValue::Binary(Some(bytes.to_vec())),
        Type::NUMERIC => binary_numeric(bytes)?,
        Type::DATE => {
            let days = i32::from_be_bytes(bytes.try_into().ok()?).checked_add(EPOCH_DAYS)?;
            ScalarValue::Date32(Some(days))
        }
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let micros = i64::from_be_bytes(bytes.try_into().ok()?).checked_add(EPOCH_MICROS)?;
            let zone = (*kind == Type::TIMESTAMPTZ).then(|| "UTC".into());
            ScalarValue::TimestampMicrosecond(Some(micros), zone)
        }
        Type::UUID => {
            let bytes: [u8; 16] = bytes.try_into().ok()?;
            let digits = hex::encode(bytes);
            let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| digits.get(range));
            ScalarValue::Utf8(Some(parts.into_iter().flatten().collect::<Vec<_>>().join("-")))
        }
        Type::JSONB => {
            let (1, rest) = bytes.split_first().map(|(version, rest)| (*version, rest))? else {
                return None;
            };
            ScalarValue::Utf8(Some(std::str::from_utf8(rest).ok()?.to_owned()))
        }
        Type::INT2_ARRAY | Type::INT4_ARRAY | Type::INT8_ARRAY | Type::OID_ARRAY => {
            list(&binary_array(bytes)?, &DataType::Int64)
        }
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY | Type::NAME_ARRAY => {
            list(&binary_array(bytes)?, &DataType::Utf8)
        }
        _ => ScalarValue::Utf8(Some(text()?)),
    })
}

fn take_i16(reader: &mut Reader<'_>) -> Option<i16> {
    reader.array().ok().map(i16::from_be_bytes)
}

fn take_i32(reader: &mut Reader<'_>) -> Option<i32> {
    reader.array().ok().map(i32::from_be_bytes)
}

fn binary_numeric(bytes: &[u8]) -> Option<ScalarValue> {
    let (value, scale) = numeric_parts(bytes)?;
    Some(ScalarValue::Decimal128(Some(value), 38, scale))
}

/// PostgreSQL's binary numeric, digits of base 10,000 with a weight, a sign and a scale: as a value × 10^scale.
pub(crate) fn numeric_parts(bytes: &[u8]) -> Option<(i128, i8)> {
    let mut reader = Reader::new(bytes);
    let count = take_i16(&mut reader)?;
    let weight = i32::from(take_i16(&mut reader)?);
    let sign = take_i16(&mut reader)?;
    let scale = i32::from(take_i16(&mut reader)?);
    let mut value: i128 = 0;
    for _ in 0..count {
        value = value.checked_mul(10_000)?.checked_add(i128::from(take_i16(&mut reader)?))?;
    }
    reader.end().ok()?;
    let negative = match sign {
        0 => false,
        0x4000 => true,
        _ => return None,
    };
    // The value so far stands for digits down to 10^(4 · (weight − count + 1)).
    let exponent = weight.checked_sub(i32::from(count))?.checked_add(1)?.checked_mul(4)?;
    let shift = exponent.checked_add(scale)?;
    let factor = 10_i128.checked_pow(shift.unsigned_abs())?;
    value = if shift >= 0 { value.checked_mul(factor)? } else { value.checked_div(factor)? };
    let value = if negative { value.checked_neg()? } else { value };
    let fits = value.unsigned_abs() < 10_u128.checked_pow(38)? && (0..=38).contains(&scale);
    fits.then_some((value, i8::try_from(scale).ok()?))
}

/// The elements of a one-dimensional binary array of integers or texts.
fn binary_array(bytes: &[u8]) -> Option<Vec<ScalarValue>> {
    let mut reader = Reader::new(bytes);
    let dimensions = take_i32(&mut reader)?;
    let _has_null = take_i32(&mut reader)?;
    let item = Type::from_oid(u32::try_from(take_i32(&mut reader)?).ok()?)?;
    if dimensions == 0 {
        return Some(Vec::new());
    }
    let count = usize::try_from(take_i32(&mut reader)?).ok()?;
    let _lower_bound = take_i32(&mut reader)?;
    if dimensions != 1 || count > ELEMENT_COUNT_MAX {
        return None;
    }
    let mut elements = Vec::new();
    for _ in 0..count {
        let size = take_i32(&mut reader)?;
        let element = match usize::try_from(size) {
            Err(_) => None,
            Ok(size) => Some(decode_binary(&item, reader.take(size).ok()?)?),
        };
        elements.push(match (element, &item) {
            (Some(ScalarValue::Int16(value)), _) => ScalarValue::Int64(value.map(i64::from)),
            (Some(ScalarValue::Int32(value)), _) => ScalarValue::Int64(value.map(i64::from)),
            (Some(other), _) => other,
            (None, &(Type::TEXT | Type::VARCHAR | Type::NAME)) => ScalarValue::Utf8(None),
            (None, _) => ScalarValue::Int64(None),
        });
    }
    reader.end().ok()?;
    Some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_the_digits_they_are_written_with() {
        assert_eq!(decimal("12.50"), Some(ScalarValue::Decimal128(Some(1250), 38, 2)));
        assert_eq!(decimal("-1e3"), Some(ScalarValue::Decimal128(Some(-1000), 38, 0)));
        assert_eq!(decimal("x"), None);
    }

    #[test]
    fn what_is_no_uuid_and_no_json_is_refused_wherever_it_stands() {
        let read = |kind: Type, text: &str| {
            let parameter = Parameter { oid: kind.oid(), data_type: Some(DataType::Utf8) };
            let read = decode(&parameter, false, Some(text.as_bytes()));
            read.map(|value| value.to_string()).map_err(|error| error.to_string())
        };
        let id = "00112233-4455-6677-8899-aabbccddeeff";
        let braced = "{00112233-44556677-8899-AABBCCDDEEFF}";
        assert_eq!(read(Type::UUID, braced), Ok(id.into()));
        let refused = read(Type::UUID, "abc").expect_err("it is none");
        assert!(refused.contains("invalid input syntax for type uuid: \"abc\""), "{refused}");
        assert!(read(Type::JSONB, "{\"a\": 1}").is_ok());
        assert!(read(Type::JSONB, "{").expect_err("it is none").contains("type json"));
    }

    #[test]
    fn arrays_read_quotes_and_nulls() {
        let read = array_elements(r#"{a,"b,\"c",NULL,"NULL"}"#).unwrap();
        let wanted = [Some("a"), Some("b,\"c"), None, Some("NULL")];
        assert_eq!(read, wanted.map(|element| element.map(str::to_owned)));
        assert_eq!(array_elements("{}"), Some(Vec::new()));
        assert_eq!(array_elements("{a"), None);
    }

    #[test]
    fn binary_numerics_are_read() {
        // 12345.678: digits 1, 2345, 6780, weight 1, scale 3.
        let bytes: Vec<u8> =
            [3_i16, 1, 0, 3, 1, 2345, 6780].iter().flat_map(|digit| digit.to_be_bytes()).collect();
        assert_eq!(binary_numeric(&bytes), Some(ScalarValue::Decimal128(Some(12_345_678), 38, 3)));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let count = random.usize(..40);
            let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(count).collect();
            for kind in [
                Type::NUMERIC,
                Type::INT8_ARRAY,
                Type::TEXT_ARRAY,
                Type::UUID,
                Type::JSONB,
                Type::DATE,
                Type::TIMESTAMP,
            ] {
                let parameter = Parameter { oid: kind.oid(), data_type: None };
                let _any = decode(&parameter, true, Some(&bytes));
                let _any = decode(&parameter, false, Some(&bytes));
            }
        }
    }
}
