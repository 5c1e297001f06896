//! `CREATE STREAM`, which PostgreSQL has not: read here, for no parser knows it.
//!
//! ```text
//!  CREATE STREAM name (column type [NOT NULL], …) [ROUTE BY column | SIGNER] [WRITERS ANYONE | CREATOR]
//!      [WITH (compacted [= true | false])] [;]
//! ```
//! Events of one route are kept in order; without `ROUTE BY` the route is who signs. Without `WRITERS` anyone may append.
//! Of a compacted stream the state keeps the newest event of each key.

use quipu_types::row::check_name;
use quipu_types::transaction::{RouteRule, StreamSpec, Writers};
use quipu_types::{Schema, code};

use crate::error::SqlError;

/// What a text creates; none when it is another statement.
pub(crate) fn parse(text: &str) -> Option<Result<StreamSpec, SqlError>> {
    let rest = word(text, "create").and_then(|rest| word(rest, "stream"))?;
    Some(spec(rest))
}

fn spec(text: &str) -> Result<StreamSpec, SqlError> {
    let text = text.trim_end();
    let text = text.strip_suffix(';').unwrap_or(text);
    if text.contains(';') {
        return Err(syntax("CREATE STREAM stands alone in its query"));
    }
    let (name, rest) = text.split_once('(').ok_or_else(|| syntax("the columns are missing"))?;
    let name = unquoted(name.trim());
    check_name(&name).map_err(|reason| SqlError::new("42602", code::SQL_SYNTAX, reason))?;
    let (columns, mut rest) =
        enclosed(rest).ok_or_else(|| syntax("the columns' list has no end"))?;
    let schema = Schema::parse(columns)
        .map_err(|error| SqlError::new("42601", code::SQL_SYNTAX, error.to_string()))?;
    let (mut route, mut writers, mut compacted) = (None, None, None);
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            break;
        }
        if let Some(after) = word(rest, "route").and_then(|after| word(after, "by")) {
            let (column, after) = next(after);
            rest = after;
            route
                .replace(route_by(&schema, column)?)
                .map_or(Ok(()), |_| Err(syntax("ROUTE BY twice")))?;
        } else if let Some(after) = word(rest, "writers") {
            let (who, after) = next(after);
            rest = after;
            let who = match who.to_ascii_lowercase().as_str() {
                "anyone" => Writers::Anyone,
                "creator" => Writers::Creator,
                _ => return Err(syntax("WRITERS is ANYONE or CREATOR")),
            };
            writers.replace(who).map_or(Ok(()), |_| Err(syntax("WRITERS twice")))?;
        } else if let Some(after) = word(rest, "with") {
            let (options, after) = after
                .trim_start()
                .strip_prefix('(')
                .and_then(enclosed)
                .ok_or_else(|| syntax("WITH has no list in parentheses"))?;
            rest = after;
            let found = compacted.replace(is_compacted(options)?);
            found.map_or(Ok(()), |_| Err(syntax("WITH twice")))?;
        } else {
            return Err(syntax(&format!("unexpected {:?}", next(rest).0)));
        }
    }
    Ok(StreamSpec {
        name,
        schema,
        route: route.unwrap_or(RouteRule::Signer),
        writers: writers.unwrap_or(Writers::Anyone),
        compacted: compacted.unwrap_or_default(),
    })
}

/// What the one option there is says.
fn is_compacted(options: &str) -> Result<bool, SqlError> {
    let (name, value) = options.split_once('=').unwrap_or((options, "true"));
    let name = unquoted(name.trim());
    if name != "compacted" {
        let message = format!("unrecognized parameter \"{name}\"");
        return Err(SqlError::new("22023", code::SQL_SYNTAX, message).hint("there is: compacted"));
    }
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "on" => Ok(true),
        "false" | "off" => Ok(false),
        other => {
            let message = format!("invalid value for boolean option \"compacted\": {other}");
            Err(SqlError::new("22023", code::SQL_SYNTAX, message))
        }
    }
}

fn route_by(schema: &Schema, column: &str) -> Result<RouteRule, SqlError> {
    if column.eq_ignore_ascii_case("signer") {
        return Ok(RouteRule::Signer);
    }
    let column = unquoted(column);
    if schema.index_of(&column).is_none() {
        let message = format!("column \"{column}\" named in ROUTE BY does not exist");
        return Err(SqlError::new("42703", code::SQL_SYNTAX, message));
    }
    Ok(RouteRule::Column(column))
}

/// What follows `wanted`, if the text begins with it as a word.
fn word<'a>(text: &'a str, wanted: &str) -> Option<&'a str> {
    let text = text.trim_start();
    let (head, rest) = text.split_at_checked(wanted.len())?;
    let ends = rest.chars().next().is_none_or(|next| !next.is_alphanumeric() && next != '_');
    (head.eq_ignore_ascii_case(wanted) && ends).then_some(rest)
}

/// The next word, and what follows it.
fn next(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_once(char::is_whitespace).unwrap_or((text, ""))
}

/// What stands before the parenthesis that closes, and behind it.
fn enclosed(text: &str) -> Option<(&str, &str)> {
    let mut depth = 1_usize;
    for (place, character) in text.char_indices() {
        match character {
            '(' => depth = depth.saturating_add(1),
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            let (inside, rest) = text.split_at_checked(place)?;
            return Some((inside, rest.get(1..)?));
        }
    }
    None
}

/// Names that are not quoted are lower case.
fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(name) => name.to_owned(),
        None => name.to_lowercase(),
    }
}

fn syntax(what: &str) -> SqlError {
    SqlError::new("42601", code::SQL_SYNTAX, format!("syntax error: {what}")).hint(
        "CREATE STREAM name (column type [NOT NULL], …) [ROUTE BY column] [WRITERS ANYONE | CREATOR] \
         [WITH (compacted = true)]",
    )
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;

    fn told(text: &str) -> String {
        match parse(text) {
            None => format!("{text}\n  another statement\n"),
            Some(Err(error)) => format!("{text}\n  {} {}\n", error.sqlstate, error.message),
            Some(Ok(spec)) => {
                let StreamSpec { name, schema, route, writers, compacted } = spec;
                let kind = if compacted { " compacted" } else { "" };
                format!("{text}\n  {name} ({schema}) {route:?} {writers:?}{kind}\n")
            }
        }
    }

    #[test]
    fn streams_are_created_as_they_are_written_and_refused_with_the_reason() {
        let texts = [
            "create stream s (a text not null, b numeric(6, 2))",
            "  CREATE  STREAM \"s\"(A int4) Route By a WRITERS creator ;",
            "create stream s (a bigint) writers anyone route by signer",
            "create streams (a int4)",
            "create table s (a int4)",
            "create stream s",
            "create stream s (a int4",
            "create stream s (a money)",
            "create stream s ()",
            "create stream 9s (a int4)",
            "create stream s (a int4) route by b",
            "create stream s (a int4) route by a route by a",
            "create stream s (a int4) writers everyone",
            "create stream s (a int4) with (x)",
            "create stream s (a int4) WITH (Compacted = ON) route by a",
            "create stream s (a int4) with (compacted)",
            "create stream s (a int4) with (compacted = false)",
            "create stream s (a int4) with (compacted = 2)",
            "create stream s (a int4) with (compacted) with (compacted)",
            "create stream s (a int4) with compacted",
            "create stream s (a int4); drop table s",
        ];
        expect![[r#"
            create stream s (a text not null, b numeric(6, 2))
              s (a text not null, b numeric(6,2)) Signer Anyone
              CREATE  STREAM "s"(A int4) Route By a WRITERS creator ;
              s (a int4) Column("a") Creator
            create stream s (a bigint) writers anyone route by signer
              s (a int8) Signer Anyone
            create streams (a int4)
              another statement
            create table s (a int4)
              another statement
            create stream s
              42601 syntax error: the columns are missing
            create stream s (a int4
              42601 syntax error: the columns' list has no end
            create stream s (a money)
              42601 schema: no type "money"; there are bool, int2, int4, int8, numeric(p,s), text, bytea, date, timestamptz, uuid, jsonb, float8, timestamp
            create stream s ()
              42601 schema: "" is not `name type [not null]`
            create stream 9s (a int4)
              42602 name "9s": 1 to 63 of a-z, 0-9 and _, no digit first
            create stream s (a int4) route by b
              42703 column "b" named in ROUTE BY does not exist
            create stream s (a int4) route by a route by a
              42601 syntax error: ROUTE BY twice
            create stream s (a int4) writers everyone
              42601 syntax error: WRITERS is ANYONE or CREATOR
            create stream s (a int4) with (x)
              22023 unrecognized parameter "x"
            create stream s (a int4) WITH (Compacted = ON) route by a
              s (a int4) Column("a") Anyone compacted
            create stream s (a int4) with (compacted)
              s (a int4) Signer Anyone compacted
            create stream s (a int4) with (compacted = false)
              s (a int4) Signer Anyone
            create stream s (a int4) with (compacted = 2)
              22023 invalid value for boolean option "compacted": 2
            create stream s (a int4) with (compacted) with (compacted)
              42601 syntax error: WITH twice
            create stream s (a int4) with compacted
              42601 syntax error: WITH has no list in parentheses
            create stream s (a int4); drop table s
              42601 syntax error: CREATE STREAM stands alone in its query
        "#]].assert_eq(&texts.map(told).concat());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(?i)create stream [ -~é(]{0,60}") {
            let _ = parse(&text);
        }
    }
}
