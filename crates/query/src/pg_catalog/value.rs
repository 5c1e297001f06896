//! Values of catalog queries: how they compare, how they are read and written, how one type becomes another.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::sync::Arc;

use quipu_types::code;

use super::types::{self, Oid};
use crate::error::SqlError;

/// A value; its type stands beside it where it is computed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Datum {
    Null,
    Bool(bool),
    /// Integers, numbers of the catalog, and microseconds.
    Int(i64),
    /// Floats and numerics: the catalog has no exact decimals.
    Float(f64),
    Text(Arc<str>),
    List(Arc<[Datum]>),
    Record(Arc<[Datum]>),
}

impl Datum {
    pub(super) fn text(text: impl AsRef<str>) -> Self {
        Self::Text(text.as_ref().into())
    }

    pub(super) fn oid(oid: Oid) -> Self {
        Self::Int(oid.into())
    }

    pub(super) fn list(items: impl IntoIterator<Item = Self>) -> Self {
        Self::List(items.into_iter().collect())
    }

    pub(super) const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub(super) const fn is_true(&self) -> bool {
        matches!(self, Self::Bool(true))
    }

    pub(super) const fn int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn as_oid(&self) -> Option<Oid> {
        self.int().and_then(|value| Oid::try_from(value).ok())
    }

    pub(super) fn str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }

    pub(super) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) | Self::Record(items) => items,
            _ => &[],
        }
    }

    /// Order of two values of one type; nulls are last.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Null, Self::Null) => Ordering::Equal,
            (Self::Null, _) => Ordering::Greater,
            (_, Self::Null) => Ordering::Less,
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (a, b) => {
                let pairs = a.items().iter().zip(b.items());
                let differing = pairs.map(|(a, b)| a.order(b)).find(|order| order.is_ne());
                differing.unwrap_or_else(|| a.items().len().cmp(&b.items().len()))
            }
        }
    }

    /// Appends bytes that are equal for equal values only.
    pub(super) fn put_key(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(0),
            Self::Bool(value) => out.extend([1, u8::from(*value)]),
            Self::Int(value) => {
                out.push(2);
                out.extend(value.to_le_bytes());
            }
            Self::Float(value) => {
                out.push(3);
                out.extend((value + 0.0).to_bits().to_le_bytes());
            }
            Self::Text(text) => {
                out.push(4);
                out.extend(text.len().to_le_bytes());
                out.extend(text.as_bytes());
            }
            Self::List(items) | Self::Record(items) => {
                out.push(5);
                out.extend(items.len().to_le_bytes());
                items.iter().for_each(|item| item.put_key(out));
            }
        }
    }
}

impl From<bool> for Datum {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Datum {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<i32> for Datum {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u32> for Datum {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<usize> for Datum {
    fn from(value: usize) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<&str> for Datum {
    fn from(value: &str) -> Self {
        Self::text(value)
    }
}

impl From<String> for Datum {
    fn from(value: String) -> Self {
        Self::text(value)
    }
}

impl<T: Into<Self>> From<Option<T>> for Datum {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Names of numbers and numbers of names: what the catalog itself must say.
pub(super) trait Names {
    /// What an alias type writes for a number.
    fn name_of(&self, alias: Oid, oid: Oid) -> Option<String>;
    /// The number of what an alias type is given.
    fn number_of(&self, alias: Oid, name: &str) -> Option<Oid>;
}

fn malformed(kind: Oid, text: &str) -> SqlError {
    let message = format!("invalid input syntax for type {}: \"{text}\"", types::format(kind, -1));
    SqlError::new("22P02", code::SQL_SYNTAX, message)
}

/// Reads a value as a type's input function does.
pub(super) fn parse(text: &str, kind: Oid, names: &dyn Names) -> Result<Datum, SqlError> {
    let wrong = || malformed(kind, text);
    let trimmed = text.trim();
    if types::is_alias(kind) {
        return alias(trimmed, kind, names);
    }
    Ok(match kind {
        types::BOOL => Datum::Bool(match trimmed.to_lowercase().as_str() {
            "t" | "true" | "y" | "yes" | "on" | "1" => true,
            "f" | "false" | "n" | "no" | "off" | "0" => false,
            _ => return Err(wrong()),
        }),
        types::CHAR => Datum::text(text.chars().take(1).collect::<String>()),
        types::NAME => Datum::text(text.chars().take(63).collect::<String>()),
        types::INT2VECTOR | types::OIDVECTOR => {
            let items = trimmed.split_whitespace().map(|item| item.parse().map(Datum::Int));
            Datum::list(items.collect::<Result<Vec<_>, _>>().map_err(|_| wrong())?)
        }
        types::TIMESTAMP | types::TIMESTAMPTZ => instant(trimmed).ok_or_else(wrong)?,
        _ if types::is_integer(kind) => Datum::Int(trimmed.parse().map_err(|_| wrong())?),
        _ if types::is_float(kind) => Datum::Float(trimmed.parse().map_err(|_| wrong())?),
        _ => match types::element_of(kind) {
            Some(element) => {
                let items = elements(trimmed).ok_or_else(wrong)?;
                let items = items.into_iter().map(|item| match item {
                    Some(item) => parse(&item, element, names),
                    None => Ok(Datum::Null),
                });
                Datum::list(items.collect::<Result<Vec<_>, _>>()?)
            }
            None => Datum::text(text),
        },
    })
}

fn alias(text: &str, kind: Oid, names: &dyn Names) -> Result<Datum, SqlError> {
    if text == "-" {
        return Ok(Datum::Int(0));
    }
    if let Ok(number) = text.parse::<Oid>() {
        return Ok(Datum::oid(number));
    }
    names.number_of(kind, text).map(Datum::oid).ok_or_else(|| {
        let (sqlstate, what) = match kind {
            types::REGCLASS => ("42P01", "relation"),
            types::REGTYPE => ("42704", "type"),
            types::REGNAMESPACE => ("3F000", "schema"),
            types::REGROLE => ("42704", "role"),
            _ => ("42883", "function"),
        };
        let message = format!("{what} \"{text}\" does not exist");
        SqlError::new(sqlstate, code::SQL_SYNTAX, message)
    })
}

fn instant(text: &str) -> Option<Datum> {
    let parsed = arrow::compute::kernels::cast_utils::string_to_timestamp_nanos(text).ok()?;
    Some(Datum::Int(parsed.div_euclid(1_000)))
}

/// The elements of `{a,"b c",NULL}`.
fn elements(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let mut all = Vec::new();
    if inner.trim().is_empty() {
        return Some(all);
    }
    let (mut item, mut is_quoted, mut was_quoted) = (String::new(), false, false);
    let mut characters = inner.chars();
    let finish = |item: &mut String, was_quoted: bool| {
        let item = std::mem::take(item);
        let is_null = !was_quoted && item.trim().eq_ignore_ascii_case("null");
        (!is_null).then(|| if was_quoted { item } else { item.trim().to_owned() })
    };
    while let Some(character) = characters.next() {
        match character {
            '"' => (is_quoted, was_quoted) = (!is_quoted, true),
            '\\' => item.push(characters.next()?),
            // Around what is quoted, and before what is not, blanks mean nothing.
            ' ' if !is_quoted && (item.is_empty() || was_quoted) => {}
            ',' if !is_quoted => {
                all.push(finish(&mut item, was_quoted));
                was_quoted = false;
            }
            other => item.push(other),
        }
    }
    all.push(finish(&mut item, was_quoted));
    (!is_quoted).then_some(all)
}

/// Writes a value as a type's output function does.
pub(super) fn write(value: &Datum, kind: Oid, names: &dyn Names) -> String {
    match value {
        Datum::Null => String::new(),
        Datum::Bool(value) => if *value { "t" } else { "f" }.to_owned(),
        Datum::Int(value) if types::is_alias(kind) => {
            let oid = Oid::try_from(*value).unwrap_or_default();
            match oid {
                0 => "-".to_owned(),
                oid => names.name_of(kind, oid).unwrap_or_else(|| oid.to_string()),
            }
        }
        Datum::Int(value) if types::is_time(kind) => {
            crate::wire::timestamp(*value, kind == types::TIMESTAMPTZ)
        }
        Datum::Int(value) => value.to_string(),
        Datum::Float(value) => number(*value),
        Datum::Text(text) => text.as_ref().to_owned(),
        Datum::List(items) => {
            let element = types::element_of(kind).unwrap_or(types::TEXT);
            if types::is_vector(kind) {
                let items: Vec<String> =
                    items.iter().map(|item| write(item, element, names)).collect();
                return items.join(" ");
            }
            let items: Vec<String> = items
                .iter()
                .map(|item| match item {
                    Datum::Null => "NULL".to_owned(),
                    item => quoted_element(write(item, element, names)),
                })
                .collect();
            format!("{{{}}}", items.join(","))
        }
        Datum::Record(items) => {
            let items: Vec<String> =
                items.iter().map(|item| write(item, types::TEXT, names)).collect();
            format!("({})", items.join(","))
        }
    }
}

fn quoted_element(text: String) -> String {
    let is_plain = !text.is_empty()
        && !text.eq_ignore_ascii_case("null")
        && !text.contains(['{', '}', ',', '"', '\\', ' ', '\t', '\n']);
    if is_plain {
        return text;
    }
    let mut out = String::from("\"");
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
    out
}

/// A number without what it does not need.
pub(super) fn number(value: f64) -> String {
    let mut out = String::new();
    let _into_memory = write!(out, "{value}");
    out
}

/// A value of one type as another.
pub(super) fn cast(
    value: &Datum,
    from: Oid,
    to: Oid,
    names: &dyn Names,
) -> Result<Datum, SqlError> {
    if from == to || value.is_null() {
        return Ok(value.clone());
    }
    let is_list = |kind| types::element_of(kind).is_some();
    if let (Datum::List(items), true) = (value, is_list(to)) {
        let elements = (
            types::element_of(from).unwrap_or(types::TEXT),
            types::element_of(to).unwrap_or(types::TEXT),
        );
        let items = items.iter().map(|item| cast(item, elements.0, elements.1, names));
        return Ok(Datum::list(items.collect::<Result<Vec<_>, _>>()?));
    }
    match value {
        Datum::Text(text) => parse(text, to, names),
        Datum::Bool(value) if types::is_text(to) => {
            Ok(if *value { "true" } else { "false" }.into())
        }
        Datum::Bool(value) if types::is_integer(to) => Ok(Datum::Int((*value).into())),
        Datum::Int(value) if to == types::BOOL => Ok(Datum::Bool(*value != 0)),
        Datum::Int(number) if types::is_integer(to) || types::is_time(to) => {
            let fits = match to {
                types::INT2 => i16::try_from(*number).is_ok(),
                types::INT4 => i32::try_from(*number).is_ok(),
                types::OID => Oid::try_from(*number).is_ok(),
                _ => true,
            };
            if !fits {
                let message = format!("{} out of range", types::format(to, -1));
                return Err(SqlError::new("22003", code::SQL_SYNTAX, message));
            }
            Ok(value.clone())
        }
        Datum::Int(value) if types::is_float(to) => parse(&value.to_string(), types::FLOAT8, names),
        Datum::Float(value) if types::is_integer(to) => {
            let rounded = format!("{:.0}", value.round_ties_even());
            parse(&rounded, to, names)
        }
        Datum::Float(_) if types::is_float(to) => Ok(value.clone()),
        value if types::is_text(to) => parse(&write(value, from, names), to, names),
        value => parse(&write(value, from, names), to, names),
    }
}
