//! What a client is told when its SQL can not be answered: SQLSTATE, position, hint.

use datafusion::common::{Column, DataFusionError, SchemaError};
use datafusion::sql::sqlparser::parser::ParserError;
use quipu_types::{Code, code};
use thiserror::Error;

use crate::store::StoreError;

/// Why a statement was not answered, as PostgreSQL's clients expect it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{message}")]
pub struct SqlError {
    /// Five characters of PostgreSQL's list.
    pub sqlstate: &'static str,
    /// The ledger's own code.
    pub code: Code,
    /// What is wrong.
    pub message: String,
    /// Where in the statement, in characters from 1.
    pub position: Option<u32>,
    /// What to do.
    pub hint: Option<String>,
    /// What else is known.
    pub more: Option<Box<More>>,
}

/// What is known of some errors only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct More {
    /// The particulars.
    pub detail: Option<String>,
    /// Where in the input it happened.
    pub context: Option<String>,
    /// The schema of the table.
    pub schema: Option<String>,
    /// The table.
    pub table: Option<String>,
    /// The column.
    pub column: Option<String>,
    /// The constraint.
    pub constraint: Option<String>,
}

/// What a client is told beside an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// `NOTICE` or `WARNING`.
    pub severity: &'static str,
    /// Five characters of PostgreSQL's list.
    pub sqlstate: &'static str,
    /// What there is to know.
    pub message: String,
}

impl SqlError {
    /// An error of this SQLSTATE.
    #[must_use]
    pub fn new(sqlstate: &'static str, code: Code, message: impl Into<String>) -> Self {
        Self { sqlstate, code, message: message.into(), position: None, hint: None, more: None }
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What else is known, to be filled in.
    pub fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// A write that is hidden in a query.
    pub(crate) fn read_only(verb: &str) -> Self {
        Self::new("0A000", code::SQL_READ_ONLY, format!("{verb} is not supported"))
            .hint("INSERT, UPDATE, DELETE and COPY write")
    }

    /// A change of what a stream has.
    pub(crate) fn append_only(key: &str) -> Self {
        let name = key.strip_prefix("public.").unwrap_or(key);
        let message = format!("\"{name}\" only grows: what it has can not be changed");
        Self::new("0A000", code::SQL_READ_ONLY, message)
            .hint("INSERT what corrects it, or keep in a table what changes")
    }

    /// A feature of PostgreSQL that is not here.
    pub(crate) fn unsupported(what: &str) -> Self {
        Self::new("0A000", code::SQL_UNSUPPORTED, format!("{what} is not supported"))
    }

    /// The statement ran too long.
    #[must_use]
    pub fn timeout() -> Self {
        Self::new("57014", code::SQL_LIMIT, "canceling statement due to statement timeout")
            .hint("narrow the query, or raise limits.query_seconds_max")
    }

    /// The client asked for it.
    #[must_use]
    pub fn canceled() -> Self {
        Self::new("57014", code::SQL_LIMIT, "canceling statement due to user request")
    }

    /// A statement in a transaction that has failed.
    pub(crate) fn in_failed_transaction() -> Self {
        Self::new(
            "25P02",
            code::SQL_SYNTAX,
            "current transaction is aborted, commands ignored until end of transaction block",
        )
    }

    /// Reads a parser's error; `sql` is what it parsed.
    pub(crate) fn syntax(error: &ParserError, sql: &str) -> Self {
        let (text, sqlstate) = match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => {
                (text.as_str(), "42601")
            }
            ParserError::RecursionLimitExceeded => ("statement is nested too deeply", "54001"),
        };
        let (message, place) = split_place(text);
        let mut built = Self::new(sqlstate, code::SQL_SYNTAX, format!("syntax error: {message}"));
        built.position = match place {
            Some((line, column)) => position_of(sql, line, column),
            None if message.ends_with("found: EOF") => {
                u32::try_from(sql.chars().count().saturating_add(1)).ok()
            }
            None => None,
        };
        built
    }

    /// Reads DataFusion's error; `sql` is the statement's text.
    pub(crate) fn from_datafusion(error: &DataFusionError, sql: &str) -> Self {
        match error {
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
                Self::from_datafusion(inner, sql)
            }
            DataFusionError::Shared(inner) => Self::from_datafusion(inner, sql),
            DataFusionError::Collection(errors) => match errors.first() {
                Some(first) => Self::from_datafusion(first, sql),
                None => Self::new("XX000", code::SQL_SYNTAX, error.to_string()),
            },
            DataFusionError::SQL(error, _) => Self::syntax(error, sql),
            DataFusionError::SchemaError(error, _) => Self::from_schema(error, sql),
            DataFusionError::NotImplemented(text) if text.contains("AggregateFunction(") => {
                let message = "aggregate functions are not allowed here";
                Self::new("42803", code::SQL_SYNTAX, message)
            }
            DataFusionError::NotImplemented(text) => {
                Self::new("0A000", code::SQL_UNSUPPORTED, first_line(text))
            }
            DataFusionError::ResourcesExhausted(_) => Self::new(
                "53200",
                code::SQL_LIMIT,
                "out of memory: the query needs more than is allowed",
            )
            .hint("narrow the query, or raise limits.query_memory_size_max"),
            DataFusionError::ArrowError(error, _) => Self::from_text(&error.to_string(), sql),
            DataFusionError::Plan(text)
            | DataFusionError::Execution(text)
            | DataFusionError::Configuration(text) => Self::from_text(text, sql),
            DataFusionError::External(inner) if inner.is::<Self>() => {
                inner.downcast_ref().cloned().expect("it is one")
            }
            DataFusionError::External(inner) => match inner.downcast_ref::<StoreError>() {
                Some(partial @ StoreError::Partial { .. }) => {
                    Self::new("55000", code::PRUNED, partial.to_string()).hint(
                        "SET quipu.partial_streams = on reads the rows that are here; another validator may have all",
                    )
                }
                Some(store) => Self::new("XX001", code::STORE_DAMAGED, store.to_string())
                    .hint("run quipu check; the columns can be rebuilt from the log"),
                None => Self::from_text(&inner.to_string(), sql),
            },
            other => Self::new("XX000", code::SQL_UNSUPPORTED, first_line(&other.to_string())),
        }
    }

    fn from_schema(error: &SchemaError, sql: &str) -> Self {
        match error {
            SchemaError::FieldNotFound { field, valid_fields }
                if field.relation.as_ref().is_some_and(|own| {
                    let is_own = |other: &Column| other.relation.as_ref() == Some(own);
                    !valid_fields.is_empty() && !valid_fields.iter().any(is_own)
                }) =>
            {
                let table = field.relation.as_ref().map_or("", |own| own.table());
                let message = format!("missing FROM-clause entry for table \"{table}\"");
                let mut built = Self::new("42P01", code::SQL_SYNTAX, message);
                built.position = find_word(sql, table);
                built
            }
            SchemaError::FieldNotFound { field, valid_fields } => {
                let name = field.name.as_str();
                let mut built = Self::new(
                    "42703",
                    code::SQL_SYNTAX,
                    format!("column \"{}\" does not exist", field.flat_name()),
                );
                built.position = find_word(sql, name);
                built.hint = nearest(name, valid_fields.iter().map(|field| field.name.as_str()))
                    .map(|near| format!("Perhaps you meant to reference the column \"{near}\"."));
                built
            }
            SchemaError::AmbiguousReference { field } => {
                let message = format!("column reference \"{}\" is ambiguous", field.name);
                let mut built = Self::new("42702", code::SQL_SYNTAX, message);
                built.position = find_word(sql, &field.name);
                built
            }
            other => Self::new("42701", code::SQL_SYNTAX, other.to_string()),
        }
    }

    /// What DataFusion says only in words.
    fn from_text(text: &str, sql: &str) -> Self {
        let lower = text.to_lowercase();
        let state = if lower.contains("table '") && lower.contains("not found") {
            let full = text.split('\'').nth(1).unwrap_or_default();
            let name = full.strip_prefix("quipu.").unwrap_or(full);
            let name = name.strip_prefix("public.").unwrap_or(name);
            let message = format!("relation \"{name}\" does not exist");
            let mut built = Self::new("42P01", code::SQL_SYNTAX, message);
            let last = name.rsplit('.').next().unwrap_or(name);
            built.position = find_word(sql, name.split('.').next().unwrap_or(last));
            return built;
        } else if let Some((_, cast)) = text.split_once("Can't cast value ") {
            let (value, kind) = cast.split_once(" to type ").unwrap_or((cast, "unknown"));
            let message = format!("value \"{value}\" is out of range for type {}", pg_name(kind));
            return Self::new("22003", code::SQL_SYNTAX, message);
        } else if lower.contains("column count doesn't match") {
            let message = "INSERT has another number of expressions than of target columns";
            return Self::new("42601", code::SQL_SYNTAX, message).hint("name the columns");
        } else if lower.contains("inconsistent data length across values") {
            let message = "VALUES lists must all be the same length";
            return Self::new("42601", code::SQL_SYNTAX, message);
        } else if let Some(of) = own_form(text) {
            return Self::new(of, code::SQL_SYNTAX, first_line(text));
        } else if text.contains(crate::arithmetic::TOO_DEEP) {
            "54001"
        } else if lower.contains("invalid function") || lower.contains("no function matches") {
            "42883"
        } else if lower.contains("divide by zero") || lower.contains("division by zero") {
            "22012"
        } else if lower.contains("overflow")
            || lower.contains("out of range")
            || lower.contains("too large to store")
        {
            "22003"
        } else if lower.contains("cast") || lower.contains("parse") || lower.contains("parsing") {
            "22P02"
        } else if lower.contains("group by") {
            "42803"
        } else if lower.contains("schema") && lower.contains("not found") {
            "3F000"
        } else if lower.contains("unsupported") || lower.contains("not supported") {
            return Self::new("0A000", code::SQL_UNSUPPORTED, first_line(text));
        } else {
            "42000"
        };
        Self::new(state, code::SQL_SYNTAX, first_line(text))
    }
}

/// The SQLSTATE of what DataFusion says in a form of its own.
fn own_form(text: &str) -> Option<&'static str> {
    const FORMS: [(&str, &str); 14] = [
        ("square root of a negative number", "2201F"),
        ("only return one column", "42601"),
        ("different number of columns", "42601"),
        ("must have the same number of columns", "42601"),
        ("at least one argument", "42601"),
        ("LIMIT must be >=", "2201W"),
        ("OFFSET must be >=", "2201X"),
        ("Aggregate functions are not allowed", "42803"),
        ("Cannot coerce arithmetic expression", "42883"),
        ("a common type to coerce", "42883"),
        ("common argument type", "42883"),
        ("infer common string type", "42883"),
        ("non-boolean predicate 'Utf8(", "22P02"),
        ("non-boolean predicate", "42804"),
    ];
    FORMS.into_iter().find(|(form, _)| text.contains(form)).map(|(_, state)| state)
}

/// What PostgreSQL calls a type of Arrow.
fn pg_name(kind: &str) -> &str {
    match kind {
        "Int16" => "smallint",
        "Int32" => "integer",
        "Int64" => "bigint",
        "Float64" => "double precision",
        other => other,
    }
}

impl From<StoreError> for SqlError {
    fn from(error: StoreError) -> Self {
        Self::from_datafusion(&DataFusionError::from(error), "")
    }
}

/// What DataFusion says, without what it says of itself.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or(text);
    let line = line.rsplit(" coercion failed with: ").next().unwrap_or(line);
    let line = line.split(" No function matches").next().unwrap_or(line);
    let line = line.strip_prefix("Execution error: ").unwrap_or(line);
    line.strip_prefix("Error during planning: ").unwrap_or(line).trim().to_owned()
}

/// Splits the parser's `… at Line: L, Column: C` from its words.
fn split_place(text: &str) -> (&str, Option<(usize, usize)>) {
    let Some((message, place)) = text.rsplit_once(" at Line: ") else { return (text, None) };
    let place = place.split_once(", Column: ").and_then(|(line, column)| {
        let digits: String = column.chars().take_while(char::is_ascii_digit).collect();
        Some((line.trim().parse().ok()?, digits.parse().ok()?))
    });
    (message, place)
}

fn position_of(sql: &str, line: usize, column: usize) -> Option<u32> {
    let before: usize = sql
        .split('\n')
        .take(line.checked_sub(1)?)
        .map(|line| line.chars().count().saturating_add(1))
        .sum();
    u32::try_from(before.checked_add(column)?).ok()
}

/// Where `word` first stands in `sql` as a word of its own, in characters from 1.
pub(crate) fn find_word(sql: &str, word: &str) -> Option<u32> {
    if word.is_empty() {
        return None;
    }
    let lower = sql.to_ascii_lowercase();
    let word = word.to_ascii_lowercase();
    let inside =
        |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let mut from = 0;
    while let Some(found) = lower.get(from..).and_then(|rest| rest.find(&word)) {
        let start = from.checked_add(found)?;
        let end = start.checked_add(word.len())?;
        let before = lower.get(..start).and_then(|text| text.chars().next_back());
        let after = lower.get(end..).and_then(|text| text.chars().next());
        if !inside(before) && !inside(after) {
            let characters = sql.get(..start)?.chars().count().checked_add(1)?;
            return u32::try_from(characters).ok();
        }
        from = end;
    }
    None
}

/// The name that is like `name`, if one is.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = name.chars().count() / 3;
    names
        .map(|other| (distance(name, other), other))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

/// Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, from) in left.chars().enumerate() {
        let mut diagonal = index;
        let mut last = index.saturating_add(1);
        for (place, to) in right.iter().enumerate() {
            let above = row.get(place.saturating_add(1)).copied().unwrap_or_default();
            let change = diagonal.saturating_add(usize::from(from != *to));
            let best = change.min(above.saturating_add(1)).min(last.saturating_add(1));
            diagonal = above;
            if let Some(cell) = row.get_mut(place) {
                *cell = last;
            }
            last = best;
        }
        if let Some(cell) = row.last_mut() {
            *cell = last;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted_in_edits() {
        assert_eq!(distance("carrier", "carier"), 1);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn a_word_is_found_only_as_a_word() {
        assert_eq!(find_word("select dest_x, dest", "dest"), Some(16));
        assert_eq!(find_word("select é, dest", "dest"), Some(11));
        assert_eq!(find_word("select 1", "dest"), None);
    }
}
