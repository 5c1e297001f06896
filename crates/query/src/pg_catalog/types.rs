//! PostgreSQL's types by number: their rows in `pg_type`, their names, and which of them are one family.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::sql::sqlparser::ast::{ArrayElemTypeDef, DataType as Ast, TimezoneInfo};
use std::sync::Arc;

use crate::error::SqlError;

/// A number of PostgreSQL's catalog.
pub(crate) type Oid = u32;

pub(crate) const BOOL: Oid = 16;
pub(crate) const BYTEA: Oid = 17;
pub(crate) const CHAR: Oid = 18;
pub(crate) const NAME: Oid = 19;
pub(crate) const INT8: Oid = 20;
pub(crate) const INT2: Oid = 21;
pub(crate) const INT2VECTOR: Oid = 22;
pub(crate) const INT4: Oid = 23;
pub(crate) const REGPROC: Oid = 24;
pub(crate) const TEXT: Oid = 25;
pub(crate) const OID: Oid = 26;
pub(crate) const XID: Oid = 28;
pub(crate) const OIDVECTOR: Oid = 30;
pub(crate) const JSON: Oid = 114;
pub(crate) const FLOAT4: Oid = 700;
pub(crate) const FLOAT8: Oid = 701;
/// A literal or a parameter that nothing has given a type yet.
pub(crate) const UNKNOWN: Oid = 705;
pub(crate) const BPCHAR: Oid = 1042;
pub(crate) const VARCHAR: Oid = 1043;
pub(crate) const DATE: Oid = 1082;
pub(crate) const TIMESTAMP: Oid = 1114;
pub(crate) const TIMESTAMPTZ: Oid = 1184;
pub(crate) const NUMERIC: Oid = 1700;
pub(crate) const REGPROCEDURE: Oid = 2202;
pub(crate) const REGCLASS: Oid = 2205;
pub(crate) const REGTYPE: Oid = 2206;
pub(crate) const RECORD: Oid = 2249;
pub(crate) const VOID: Oid = 2278;
pub(crate) const UUID: Oid = 2950;
pub(crate) const JSONB: Oid = 3802;
pub(crate) const REGNAMESPACE: Oid = 4089;
pub(crate) const REGROLE: Oid = 4096;
pub(crate) const TEXT_ARRAY: Oid = 1009;
pub(crate) const NAME_ARRAY: Oid = 1003;

/// A row of `pg_type`.
#[derive(Debug)]
pub(super) struct TypeRow {
    pub(super) oid: Oid,
    pub(super) name: &'static str,
    pub(super) size: i64,
    pub(super) by_value: bool,
    pub(super) kind: &'static str,
    pub(super) category: &'static str,
    pub(super) is_preferred: bool,
    pub(super) delimiter: &'static str,
    pub(super) element: Oid,
    pub(super) array: Oid,
    /// Input, output, receive and send: names and numbers.
    pub(super) functions: [(&'static str, Oid); 4],
    pub(super) alignment: &'static str,
    pub(super) storage: &'static str,
    pub(super) collation: Oid,
}

/// Every type, by number.
pub(super) static TYPES: LazyLock<BTreeMap<Oid, TypeRow>> = LazyLock::new(|| {
    let rows = include_str!("types.txt").lines().filter(|line| !line.starts_with('#'));
    rows.filter_map(type_row).map(|row| (row.oid, row)).collect()
});

/// Numbers of types by name.
static BY_NAME: LazyLock<BTreeMap<&'static str, Oid>> =
    LazyLock::new(|| TYPES.values().map(|row| (row.name, row.oid)).collect());

/// Functions of types, by number.
pub(super) static FUNCTIONS: LazyLock<BTreeMap<Oid, &'static str>> = LazyLock::new(|| {
    let all = TYPES.values().flat_map(|row| row.functions);
    all.filter(|(_, oid)| *oid != 0).map(|(name, oid)| (oid, name)).collect()
});

fn type_row(line: &'static str) -> Option<TypeRow> {
    let mut words = line.split(' ');
    let mut next = || words.next();
    let function = |word: &'static str| match word.split_once('/') {
        Some((name, oid)) => (name, oid.parse().unwrap_or_default()),
        None => ("-", 0),
    };
    Some(TypeRow {
        oid: next()?.parse().ok()?,
        name: next()?,
        size: next()?.parse().ok()?,
        by_value: next()? == "t",
        kind: next()?,
        category: next()?,
        is_preferred: next()? == "t",
        delimiter: next()?,
        element: next()?.parse().ok()?,
        array: next()?.parse().ok()?,
        functions: [function(next()?), function(next()?), function(next()?), function(next()?)],
        alignment: next()?,
        storage: next()?,
        collation: next()?.parse().ok()?,
    })
}

/// The number of a type that PostgreSQL's catalog calls so.
pub(super) fn by_name(name: &str) -> Option<Oid> {
    BY_NAME.get(name).copied()
}

/// The element of an array or a vector.
pub(super) fn element_of(oid: Oid) -> Option<Oid> {
    let row = TYPES.get(&oid)?;
    let is_list = row.category == "A" || matches!(oid, INT2VECTOR | OIDVECTOR);
    (is_list && row.element != 0).then_some(row.element)
}

/// The array of a type; of texts where there is none.
pub(super) fn array_of(oid: Oid) -> Oid {
    TYPES.get(&oid).map(|row| row.array).filter(|array| *array != 0).unwrap_or(TEXT_ARRAY)
}

/// Subscripts of these begin at 0.
pub(super) const fn is_vector(oid: Oid) -> bool {
    matches!(oid, INT2VECTOR | OIDVECTOR)
}

/// Values that are kept as integers.
pub(super) const fn is_integer(oid: Oid) -> bool {
    matches!(oid, INT2 | INT4 | INT8 | OID | XID | 29 | 5069) || is_alias(oid)
}

/// Numbers that are written as names.
pub(super) const fn is_alias(oid: Oid) -> bool {
    matches!(oid, REGPROC | REGPROCEDURE | REGCLASS | REGTYPE | REGNAMESPACE | REGROLE)
}

pub(super) const fn is_float(oid: Oid) -> bool {
    matches!(oid, FLOAT4 | FLOAT8 | NUMERIC)
}

pub(super) const fn is_text(oid: Oid) -> bool {
    matches!(oid, TEXT | NAME | CHAR | VARCHAR | BPCHAR | 2275)
}

pub(super) const fn is_time(oid: Oid) -> bool {
    matches!(oid, TIMESTAMP | TIMESTAMPTZ)
}

/// What `format_type` says, with a modifier of −1 where there is none.
pub(super) fn format(oid: Oid, modifier: i64) -> String {
    let Some(row) = TYPES.get(&oid) else {
        return if oid == 0 { "-".into() } else { "???".into() };
    };
    if row.category == "A" && !is_vector(oid) {
        return format!("{}[]", format(row.element, modifier));
    }
    let size = modifier - 4;
    let length = if modifier >= 4 { format!("({size})") } else { String::new() };
    match oid {
        BOOL => "boolean".into(),
        INT2 => "smallint".into(),
        INT4 => "integer".into(),
        INT8 => "bigint".into(),
        FLOAT4 => "real".into(),
        FLOAT8 => "double precision".into(),
        CHAR => "\"char\"".into(),
        BPCHAR if modifier < 4 => "bpchar".into(),
        BPCHAR => format!("character{length}"),
        VARCHAR => format!("character varying{length}"),
        TIMESTAMP => "timestamp without time zone".into(),
        TIMESTAMPTZ => "timestamp with time zone".into(),
        1083 => "time without time zone".into(),
        1266 => "time with time zone".into(),
        1560 => "bit".into(),
        1562 => "bit varying".into(),
        NUMERIC if modifier >= 4 => format!("numeric({},{})", size >> 16, size & 0xFFFF),
        _ => row.name.to_owned(),
    }
}

/// The type of an array's elements in a batch, or of a value itself.
pub(super) fn arrow_type(oid: Oid) -> DataType {
    match oid {
        INT2VECTOR | OIDVECTOR => DataType::Utf8,
        BOOL => DataType::Boolean,
        INT2 => DataType::Int16,
        INT4 => DataType::Int32,
        INT8 => DataType::Int64,
        OID | XID | 29 => DataType::UInt32,
        FLOAT4 => DataType::Float32,
        FLOAT8 => DataType::Float64,
        TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        _ => match element_of(oid) {
            Some(element) => {
                DataType::List(Arc::new(Field::new("item", arrow_type(element), true)))
            }
            None => DataType::Utf8,
        },
    }
}

/// The type that a cast names: its number and its modifier.
pub(super) fn read(written: &Ast) -> Result<(Oid, i64), SqlError> {
    let plain = |oid| Ok((oid, -1));
    match written {
        Ast::Array(ArrayElemTypeDef::SquareBracket(element, _)) => {
            return read(element).map(|(oid, _)| (array_of(oid), -1));
        }
        Ast::Regclass => return plain(REGCLASS),
        Ast::Custom(name, modifiers) if modifiers.is_empty() => {
            let (_, own) = super::bind::last_of(name);
            let is_quoted = name.0.last().and_then(|part| part.as_ident());
            let is_quoted = is_quoted.is_some_and(|ident| ident.quote_style.is_some());
            let found = by_name(if is_quoted { own.as_str() } else { sql_name(&own) });
            return found.map(|oid| (oid, -1)).ok_or_else(|| none(&own));
        }
        Ast::DoublePrecision => return plain(FLOAT8),
        Ast::Timestamp(_, zone) => {
            let with = matches!(zone, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone);
            return plain(if with { TIMESTAMPTZ } else { TIMESTAMP });
        }
        _ => {}
    }
    let text = written.to_string().to_lowercase();
    let (base, rest) = match text.split_once('(') {
        Some((base, rest)) => (base.trim(), rest.trim_end_matches(')')),
        None => (text.trim(), ""),
    };
    let base = base.strip_prefix("pg_catalog.").unwrap_or(base);
    if let Some(element) = base.strip_suffix("[]") {
        return by_name(sql_name(element)).map(|oid| (array_of(oid), -1)).ok_or_else(|| none(base));
    }
    let oid = by_name(sql_name(base)).ok_or_else(|| none(base))?;
    let mut numbers = rest.split(',').filter_map(|number| number.trim().parse::<i64>().ok());
    let modifier = match (oid, numbers.next(), numbers.next()) {
        (VARCHAR | BPCHAR, Some(length), None) => length + 4,
        (NUMERIC, Some(precision), scale) => (precision << 16) + scale.unwrap_or(0) + 4,
        (BPCHAR, None, None) if base == "char" || base == "character" => 5,
        _ => -1,
    };
    Ok((oid, modifier))
}

/// The catalog's name of a type that SQL calls otherwise.
pub(super) fn sql_name(name: &str) -> &str {
    match name {
        "boolean" => "bool",
        "smallint" => "int2",
        "int" | "integer" => "int4",
        "bigint" => "int8",
        "real" => "float4",
        "float" | "double precision" => "float8",
        "decimal" | "dec" => "numeric",
        "char" | "character" => "bpchar",
        "character varying" | "character_data" | "yes_or_no" => "varchar",
        "sql_identifier" => "name",
        "cardinal_number" => "int4",
        "timestamp with time zone" | "time_stamp" => "timestamptz",
        "timestamp without time zone" => "timestamp",
        other => other,
    }
}

fn none(name: &str) -> SqlError {
    let message = format!("type \"{name}\" does not exist");
    SqlError::new("42704", quipu_types::code::SQL_SYNTAX, message)
}
