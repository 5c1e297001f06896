//! SQL's types as the ledger has them.

use datafusion::sql::sqlparser::ast::{
    CharacterLength, DataType, ExactNumberInfo, ObjectName, TimezoneInfo,
};
use quipu_types::row::NUMERIC_PRECISION_MAX;
use quipu_types::{ColumnType, code};

use super::name::folded;
use crate::error::SqlError;

/// Longest `varchar(n)`, PostgreSQL's.
const LENGTH_MAX: u64 = 10_485_760;
/// Longest `char(n)`: the ledger fills up no longer ones.
const PADDED_LENGTH_MAX: u64 = 1 << 16;
/// Digits after the point that a numeric parameter is planned with; values keep theirs.
const PARAMETER_SCALE: u8 = 10;
/// Digits after the second that a time has.
const TIME_DIGITS: u64 = 6;

/// Types that PostgreSQL has and the ledger has not, by their first words.
const REFUSED: &[&str] = &[
    "bit",
    "box",
    "cidr",
    "circle",
    "float4",
    "inet",
    "int4range",
    "int8range",
    "interval",
    "line",
    "lseg",
    "macaddr",
    "macaddr8",
    "money",
    "name",
    "numrange",
    "oid",
    "path",
    "pg_lsn",
    "point",
    "polygon",
    "real",
    "regclass",
    "time",
    "timetz",
    "tsquery",
    "tsrange",
    "tstzrange",
    "tsvector",
    "varbit",
    "xml",
    "daterange",
];

/// What a column's type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Type {
    pub(super) kind: ColumnType,
    /// Most characters; 0 for any number.
    pub(super) length: u32,
    pub(super) is_padded: bool,
    pub(super) is_serial: bool,
    /// Whether it was written as `json`.
    pub(super) is_json: bool,
}

impl Type {
    const fn of(kind: ColumnType) -> Self {
        Self { kind, length: 0, is_padded: false, is_serial: false, is_json: false }
    }

    const fn serial(kind: ColumnType) -> Self {
        Self { is_serial: true, ..Self::of(kind) }
    }
}

/// Reads a type.
pub(super) fn read(data_type: &DataType) -> Result<Type, SqlError> {
    let kind = match data_type {
        DataType::Bool | DataType::Boolean => ColumnType::Bool,
        DataType::SmallInt(None) | DataType::Int2(None) => ColumnType::Int2,
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => ColumnType::Int4,
        DataType::BigInt(None) | DataType::Int8(None) => ColumnType::Int8,
        DataType::Numeric(info) | DataType::Decimal(info) | DataType::Dec(info) => {
            return numeric(*info).map(Type::of);
        }
        DataType::Text => ColumnType::Text,
        DataType::Varchar(length)
        | DataType::CharacterVarying(length)
        | DataType::CharVarying(length) => return characters(*length, "varchar"),
        DataType::Char(length) | DataType::Character(length) => {
            return characters(*length, "char");
        }
        DataType::Bytea => ColumnType::Bytea,
        DataType::Uuid => ColumnType::Uuid,
        DataType::Date => ColumnType::Date,
        DataType::Timestamp(digits, zone) => return timestamp(*digits, *zone, data_type),
        DataType::JSONB => ColumnType::Jsonb,
        DataType::JSON => return Ok(Type { is_json: true, ..Type::of(ColumnType::Jsonb) }),
        DataType::DoublePrecision | DataType::Float8 | DataType::Double(ExactNumberInfo::None) => {
            ColumnType::Float8
        }
        DataType::Float(info) => return float(*info),
        DataType::Custom(name, modifiers) => return custom(name, modifiers, data_type),
        other => return Err(refused(other)),
    };
    Ok(Type::of(kind))
}

/// Reads the type of a procedure's parameter. How long a text and how precise a numeric is asked of columns only, as in
/// PostgreSQL.
pub(super) fn of_parameter(data_type: &DataType) -> Result<ColumnType, SqlError> {
    if let DataType::Numeric(_) | DataType::Decimal(_) | DataType::Dec(_) = data_type {
        return Ok(ColumnType::Numeric {
            precision: NUMERIC_PRECISION_MAX,
            scale: PARAMETER_SCALE,
        });
    }
    match read(data_type)? {
        found if found.is_serial => Err(refused(data_type)),
        found => Ok(found.kind),
    }
}

/// What PostgreSQL calls the type of a parameter.
pub(crate) fn parameter_name(kind: ColumnType) -> String {
    match kind {
        ColumnType::Numeric { .. } => "numeric".to_owned(),
        other => pg_name(other),
    }
}

/// What PostgreSQL calls a type.
pub(super) fn pg_name(kind: ColumnType) -> String {
    let name = match kind {
        ColumnType::Bool => "boolean",
        ColumnType::Int2 => "smallint",
        ColumnType::Int4 => "integer",
        ColumnType::Int8 => "bigint",
        ColumnType::Timestamptz => "timestamp with time zone",
        ColumnType::Timestamp => "timestamp without time zone",
        ColumnType::Float8 => "double precision",
        ColumnType::Numeric { .. }
        | ColumnType::Text
        | ColumnType::Bytea
        | ColumnType::Date
        | ColumnType::Uuid
        | ColumnType::Jsonb => return kind.to_string(),
    };
    name.to_owned()
}

fn numeric(info: ExactNumberInfo) -> Result<ColumnType, SqlError> {
    let most = u64::from(NUMERIC_PRECISION_MAX);
    let (precision, scale) = match info {
        ExactNumberInfo::None => {
            let error = SqlError::unsupported("numeric without a precision");
            return Err(error.hint(format!(
                "say how many digits it has, and how many of them after the point: numeric({most}, 10)"
            )));
        }
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    if precision == 0 || precision > 1000 {
        let message = format!("NUMERIC precision {precision} must be between 1 and 1000");
        return Err(SqlError::new("22023", code::SQL_SYNTAX, message));
    }
    let places = u64::try_from(scale).ok().filter(|scale| *scale <= precision && precision <= most);
    let parts = places.and_then(|s| Some((u8::try_from(precision).ok()?, u8::try_from(s).ok()?)));
    let Some((precision, scale)) = parts else {
        let error = SqlError::unsupported(&format!("numeric({precision},{scale})"));
        return Err(error.hint(format!(
            "a numeric has at most {most} digits, and no more of them after the point than in all"
        )));
    };
    Ok(ColumnType::Numeric { precision, scale })
}

/// `varchar` and `char`, with their lengths.
fn characters(length: Option<CharacterLength>, name: &str) -> Result<Type, SqlError> {
    let is_padded = name == "char";
    let length = match length {
        None => u64::from(is_padded),
        Some(CharacterLength::IntegerLength { length, .. }) => {
            let wrong = match length {
                0 => format!("length for type {name} must be at least 1"),
                _ if length > LENGTH_MAX => {
                    format!("length for type {name} cannot exceed {LENGTH_MAX}")
                }
                _ => String::new(),
            };
            if !wrong.is_empty() {
                return Err(SqlError::new("22023", code::SQL_SYNTAX, wrong));
            }
            if is_padded && length > PADDED_LENGTH_MAX {
                let error = SqlError::unsupported(&format!("type {name}({length})"));
                return Err(error.hint(format!("at most {PADDED_LENGTH_MAX}; use varchar(n)")));
            }
            length
        }
        Some(CharacterLength::Max) => {
            let message = format!("invalid length for type {name}");
            return Err(SqlError::new("42601", code::SQL_SYNTAX, message));
        }
    };
    let length = u32::try_from(length).expect("it was found to be small");
    Ok(Type { length, is_padded, ..Type::of(ColumnType::Text) })
}

fn timestamp(
    digits: Option<u64>,
    zone: TimezoneInfo,
    written: &DataType,
) -> Result<Type, SqlError> {
    if digits.is_some_and(|digits| digits != TIME_DIGITS) {
        let error = SqlError::unsupported(&format!("type {}", written.to_string().to_lowercase()));
        return Err(error.hint("times have six digits after the second"));
    }
    Ok(Type::of(match zone {
        TimezoneInfo::WithTimeZone | TimezoneInfo::Tz => ColumnType::Timestamptz,
        TimezoneInfo::None | TimezoneInfo::WithoutTimeZone => ColumnType::Timestamp,
    }))
}

fn float(info: ExactNumberInfo) -> Result<Type, SqlError> {
    match info {
        ExactNumberInfo::None | ExactNumberInfo::Precision(25..=53) => {
            Ok(Type::of(ColumnType::Float8))
        }
        ExactNumberInfo::Precision(1..=24) => Err(refused(&DataType::Real)),
        _ => {
            let message = "precision for type float must be between 1 and 53 bits";
            Err(SqlError::new("22023", code::SQL_SYNTAX, message))
        }
    }
}

/// Types that the parser does not know.
fn custom(
    ObjectName(parts): &ObjectName,
    modifiers: &[String],
    written: &DataType,
) -> Result<Type, SqlError> {
    let words: Option<Vec<String>> = parts.iter().map(|part| part.as_ident().map(folded)).collect();
    let words = words.unwrap_or_default();
    let word = match words.as_slice() {
        [word] => word.as_str(),
        [schema, word] if schema == "pg_catalog" => word.as_str(),
        _ => return Err(refused(written)),
    };
    let length = match modifiers {
        [] => None,
        [length] => length.parse().ok(),
        _ => return Err(refused(written)),
    };
    let length = length.map(|length| CharacterLength::IntegerLength { length, unit: None });
    Ok(match (word, length) {
        ("serial" | "serial4", None) => Type::serial(ColumnType::Int4),
        ("bigserial" | "serial8", None) => Type::serial(ColumnType::Int8),
        ("smallserial" | "serial2", None) => Type::serial(ColumnType::Int2),
        ("bpchar", Some(length)) => return characters(Some(length), "char"),
        ("varchar", length) => return characters(length, "varchar"),
        ("json", None) => Type { is_json: true, ..Type::of(ColumnType::Jsonb) },
        (word, None) => Type::of(word.parse().map_err(|_| refused(written))?),
        _ => return Err(refused(written)),
    })
}

fn refused(data_type: &DataType) -> SqlError {
    let text = data_type.to_string().to_lowercase();
    let word = text.split(['(', ' ', '[']).next().unwrap_or_default();
    let word = word.strip_prefix("pg_catalog.").unwrap_or(word);
    let is_array = matches!(data_type, DataType::Array(_));
    if !is_array && !REFUSED.contains(&word) {
        let message = format!("type \"{text}\" does not exist");
        return SqlError::new("42704", code::SQL_SYNTAX, message);
    }
    let error = SqlError::unsupported(&format!("type {text}"));
    match word {
        _ if is_array => error.hint("use jsonb, or a table of its own"),
        "real" | "float4" => error.hint("use double precision or numeric(p,s)"),
        "money" => error.hint("use numeric(p,s)"),
        "interval" | "time" | "timetz" => error.hint("use an integer, or a timestamp"),
        _ => error.hint("use text"),
    }
}
