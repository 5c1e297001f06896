//! `CREATE PROCEDURE`: its clauses and its body's statements, and what its parameters are called within them.
//!
//! ```text
//!  name ([IN] [name] type [DEFAULT value], …) { LANGUAGE SQL | SECURITY … | AS '…' | AS $$…$$ | BEGIN ATOMIC …; END }
//!  body: UPDATE t SET n = n + by WHERE id = $1   ── by is no column of t ─>   … n + CAST($2 AS integer) WHERE id = CAST($1 AS …)
//! ```
//! A column's name is meant before a parameter's, as in PostgreSQL; `procedure.parameter` and `$n` mean a parameter always.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AssignmentTarget, DataType, DoUpdate, Expr, Ident, Insert, ObjectName, OnConflict,
    OnConflictAction, OnInsert, SetExpr, Statement, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use quipu_types::procedure::ProcedureParameter;
use quipu_types::{ColumnType, TableSpec, code};

use crate::assign;
use crate::column::Kind;
use crate::error::SqlError;
use crate::insert;
use crate::parameters::cast_to;
use crate::utility::{Tokens, is_word};

/// A procedure as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Create {
    pub(crate) replaces: bool,
    /// The parts of its name.
    pub(crate) name: Vec<String>,
    pub(crate) parameters: Vec<Written>,
    pub(crate) is_definer: bool,
    pub(crate) is_atomic: bool,
    pub(crate) body: String,
    /// The character that the body begins at, from 0.
    pub(crate) body_start: u32,
}

/// A parameter as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Empty without one.
    pub(crate) name: String,
    pub(crate) data_type: DataType,
    pub(crate) default: Option<Expr>,
}

/// Whether a statement begins as one that creates a procedure.
pub(crate) fn is_create<'a>(tokens: impl Iterator<Item = &'a Token>) -> bool {
    let mut tokens = tokens.peekable();
    let mut takes = |word: &str| tokens.next_if(|token| is_word(token, word)).is_some();
    takes("create") && (!takes("or") || takes("replace")) && takes("procedure")
}

/// Whether a statement begins as one that changes a procedure.
pub(crate) fn is_alter<'a>(mut tokens: impl Iterator<Item = &'a Token>) -> bool {
    let mut is = |word: &str| tokens.next().is_some_and(|token| is_word(token, word));
    is("alter") && is("procedure")
}

fn invalid(message: impl Into<String>) -> SqlError {
    SqlError::new("42P13", code::SQL_SYNTAX, message)
}

/// Clauses behind the parameters, each once.
#[derive(Default)]
struct Clauses {
    language: Option<String>,
    is_definer: Option<bool>,
    body: Option<(String, u32, bool)>,
}

/// Reads a statement that [`is_create`].
pub(crate) fn parse(tokens: &mut Tokens<'_>) -> Result<Create, SqlError> {
    tokens.take_word("create");
    let replaces = tokens.take_word("or");
    tokens.take_word("replace");
    tokens.take_word("procedure");
    let name = tokens.name()?;
    tokens.expect(&Token::LParen)?;
    let mut listed = tokens.listed()?;
    if let [only] = listed.as_slice()
        && only.is_empty()
    {
        listed.clear();
    }
    let parameters = listed.into_iter().map(parameter).collect::<Result<_, _>>()?;
    let mut clauses = Clauses::default();
    while !tokens.is_empty() {
        clause(tokens, &mut clauses)?;
    }
    let Some((body, body_start, is_atomic)) = clauses.body else {
        return Err(invalid("no function body specified"));
    };
    if clauses.language.is_none() && !is_atomic {
        return Err(invalid("no language specified"));
    }
    let is_definer = clauses.is_definer.unwrap_or_default();
    Ok(Create { replaces, name, parameters, is_definer, is_atomic, body, body_start })
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), SqlError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => {
            Err(SqlError::new("42601", code::SQL_SYNTAX, "conflicting or redundant options"))
        }
    }
}

fn clause(tokens: &mut Tokens<'_>, clauses: &mut Clauses) -> Result<(), SqlError> {
    const OF_FUNCTIONS: [&str; 11] = [
        "immutable",
        "stable",
        "volatile",
        "strict",
        "called",
        "returns",
        "leakproof",
        "not",
        "parallel",
        "cost",
        "window",
    ];
    if tokens.take_word("language") {
        let language = match tokens.is_quoted() {
            true => tokens.quoted()?,
            false => tokens.identifier()?,
        };
        check_language(&language)?;
        return once(&mut clauses.language, language);
    }
    let is_external = tokens.take_word("external");
    if tokens.take_word("security") {
        let is_definer = tokens.take_word("definer");
        if !is_definer && !tokens.take_word("invoker") {
            return Err(tokens.unexpected());
        }
        return once(&mut clauses.is_definer, is_definer);
    }
    if is_external {
        return Err(tokens.unexpected());
    }
    if tokens.take_word("as") {
        return once(&mut clauses.body, body(tokens)?);
    }
    if tokens.take_word("begin") {
        if !tokens.take_word("atomic") {
            return Err(tokens.unexpected());
        }
        let (rest, start) = tokens.rest();
        tokens.skip_to_last();
        if !tokens.take_word("end") {
            return Err(tokens.unexpected());
        }
        let body = rest.get(..rest.len().saturating_sub("end".len())).unwrap_or_default();
        return once(&mut clauses.body, (body.to_owned(), start, true));
    }
    for what in ["set", "transform", "return"] {
        if tokens.take_word(what) {
            let what = what.to_uppercase();
            return Err(SqlError::unsupported(&format!("{what} in CREATE PROCEDURE")));
        }
    }
    if OF_FUNCTIONS.iter().any(|word| tokens.take_word(word)) {
        return Err(invalid("invalid attribute in procedure definition"));
    }
    Err(tokens.unexpected())
}

fn check_language(language: &str) -> Result<(), SqlError> {
    const KNOWN: [&str; 8] =
        ["plpgsql", "c", "internal", "plpython3u", "plperl", "plperlu", "pltcl", "pltclu"];
    match language.to_lowercase().as_str() {
        "sql" => Ok(()),
        known if KNOWN.contains(&known) => {
            let error = SqlError::unsupported(&format!("language {known}"));
            Err(error.hint("nothing but SQL runs in the ledger: LANGUAGE SQL"))
        }
        other => {
            let message = format!("language \"{other}\" does not exist");
            Err(SqlError::new("42704", code::SQL_SYNTAX, message))
        }
    }
}

/// The body behind AS.
fn body(tokens: &mut Tokens<'_>) -> Result<(String, u32, bool), SqlError> {
    let (_, start) = tokens.rest();
    let (text, open) = match tokens.peek() {
        Some(Token::DollarQuotedString(text)) => {
            let tag = text.tag.as_deref().map_or(0, |tag| tag.chars().count());
            (text.value.clone(), tag.saturating_add(2))
        }
        Some(Token::SingleQuotedString(text)) => (text.clone(), 1),
        Some(Token::EscapedStringLiteral(text)) => (text.clone(), 2),
        _ => return Err(tokens.unexpected()),
    };
    tokens.any()?;
    if tokens.take(&Token::Comma) {
        return Err(invalid("only one AS item needed for language \"sql\""));
    }
    Ok((text, start.saturating_add(u32::try_from(open).unwrap_or(u32::MAX)), false))
}

/// `[mode] [name] type [{DEFAULT | =} value]`, the mode before or behind the name.
fn parameter(mut tokens: Tokens<'_>) -> Result<Written, SqlError> {
    take_mode(&mut tokens)?;
    let (text, _) = tokens.rest();
    let failed = |error| SqlError::syntax(&error, text);
    let read = |text: &str| -> Result<(DataType, Option<Expr>), ParserError> {
        let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(text)?;
        let data_type = parser.parse_data_type()?;
        let is_given = parser.parse_keyword(Keyword::DEFAULT)
            || parser.consume_token(&Token::Eq)
            || parser.consume_token(&Token::Assignment);
        let default = if is_given { Some(parser.parse_expr()?) } else { None };
        let next = parser.peek_token();
        match next.token {
            Token::EOF => Ok((data_type, default)),
            _ => parser.expected("a comma or a parenthesis", next),
        }
    };
    // A type alone is one without a name.
    if let Ok((data_type, default)) = read(text) {
        return Ok(Written { name: String::new(), data_type, default });
    }
    let name = tokens.identifier()?;
    take_mode(&mut tokens)?;
    let (text, _) = tokens.rest();
    let (data_type, default) = read(text).map_err(failed)?;
    Ok(Written { name, data_type, default })
}

fn take_mode(tokens: &mut Tokens<'_>) -> Result<(), SqlError> {
    for mode in ["out", "inout", "variadic"] {
        if tokens.take_word(mode) {
            let error = SqlError::unsupported(&format!("{} parameter", mode.to_uppercase()));
            return Err(error.hint("a CALL answers with no rows; read what it wrote"));
        }
    }
    if tokens.take_word("in") && tokens.take_word("out") {
        return Err(SqlError::unsupported("INOUT parameter"));
    }
    Ok(())
}

/// A type as it is written in a cast.
fn written_type(kind: ColumnType) -> String {
    match kind {
        ColumnType::Timestamptz => "timestamp with time zone".to_owned(),
        ColumnType::Float8 => "double precision".to_owned(),
        other => other.to_string(),
    }
}

/// Writes `CAST($n AS type)` for what means a parameter of the procedure `name`; `spec` is the table that the statement
/// writes.
pub(crate) fn number(
    statement: &mut Statement,
    name: &str,
    parameters: &[ProcedureParameter],
    spec: &TableSpec,
) -> Result<(), SqlError> {
    let mut inside = Numbering { name, parameters, columns: Some(spec) };
    check_given(statement, &inside, spec)?;
    let done = match statement {
        // What an INSERT gives sees no columns of the table, what it does with a row that is there does.
        Statement::Insert(Insert { on, .. }) if on.is_some() => {
            let mut on = on.take();
            let of_update = match &mut on {
                Some(OnInsert::OnConflict(OnConflict {
                    action: OnConflictAction::DoUpdate(DoUpdate { assignments, selection }),
                    ..
                })) => match VisitMut::visit(assignments, &mut inside) {
                    ControlFlow::Continue(()) => VisitMut::visit(selection, &mut inside),
                    stop => stop,
                },
                _ => ControlFlow::Continue(()),
            };
            inside.columns = None;
            let of_source = VisitMut::visit(statement, &mut inside);
            if let Statement::Insert(insert) = statement {
                insert.on = on;
            }
            match of_update {
                ControlFlow::Continue(()) => of_source,
                stop => stop,
            }
        }
        Statement::Insert(_) => {
            inside.columns = None;
            VisitMut::visit(statement, &mut inside)
        }
        _ => VisitMut::visit(statement, &mut inside),
    };
    match done {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// Refuses a parameter where it is given to a column of another kind: what is planned has casts.
fn check_given(
    statement: &Statement,
    inside: &Numbering<'_>,
    spec: &TableSpec,
) -> Result<(), SqlError> {
    let check = |column: Option<usize>, value: &Expr, inside: &Numbering<'_>| {
        let column = column.and_then(|place| spec.schema.columns().get(place));
        let parameter = inside.meant(value)?.and_then(|place| inside.parameters.get(place));
        match column.zip(parameter) {
            Some((column, parameter)) => {
                assign::check(column, &Kind::from(parameter.kind).data_type())
            }
            None => Ok(()),
        }
    };
    let place = |name: &ObjectName| {
        let name = name.0.last().and_then(insert::word);
        name.and_then(|name| spec.schema.index_of(&name))
    };
    match statement {
        Statement::Update(update) => update.assignments.iter().try_for_each(|assigned| {
            let AssignmentTarget::ColumnName(name) = &assigned.target else { return Ok(()) };
            check(place(name), &assigned.value, inside)
        }),
        Statement::Insert(Insert { columns, source: Some(source), .. }) => {
            let SetExpr::Values(values) = source.body.as_ref() else { return Ok(()) };
            let inside = Numbering { columns: None, ..*inside };
            let rows = values.rows.iter().flat_map(|row| row.content.iter().enumerate());
            let mut rows = rows.map(|(at, value)| match columns.as_slice() {
                [] => (Some(at), value),
                named => (named.get(at).and_then(place), value),
            });
            rows.try_for_each(|(column, value)| check(column, value, &inside))
        }
        _ => Ok(()),
    }
}

struct Numbering<'a> {
    name: &'a str,
    parameters: &'a [ProcedureParameter],
    columns: Option<&'a TableSpec>,
}

impl Numbering<'_> {
    fn named(&self, ident: &Ident) -> Option<usize> {
        let name = insert::folded(ident);
        self.parameters.iter().position(|parameter| parameter.name == name)
    }

    /// The 0-based number of the parameter that an expression is.
    fn meant(&self, expr: &Expr) -> Result<Option<usize>, SqlError> {
        Ok(match expr {
            Expr::Identifier(ident) => {
                let name = insert::folded(ident);
                let is_column = self.columns.is_some_and(|spec| has(spec, ident));
                let is_default = ident.quote_style.is_none() && name == "default";
                if is_column || is_default { None } else { self.named(ident) }
            }
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [owner, ident] if insert::folded(owner) == self.name => {
                    let is_table = |spec: &&TableSpec| spec.name == self.name && has(spec, ident);
                    if self.columns.is_some_and(|spec| is_table(&spec)) {
                        None
                    } else {
                        self.named(ident)
                    }
                }
                _ => None,
            },
            Expr::Value(value) => {
                let Value::Placeholder(text) = &value.value else { return Ok(None) };
                let number = text.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok());
                let place = number.and_then(|number| number.checked_sub(1));
                let place = place.filter(|place| *place < self.parameters.len());
                Some(place.ok_or_else(|| {
                    let message = format!("there is no parameter {text}");
                    SqlError::new("42P02", code::SQL_SYNTAX, message)
                })?)
            }
            _ => None,
        })
    }
}

fn has(spec: &TableSpec, column: &Ident) -> bool {
    spec.schema.index_of(&insert::folded(column)).is_some()
}

impl VisitorMut for Numbering<'_> {
    type Break = Box<SqlError>;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        let place = match self.meant(expr) {
            Ok(Some(place)) => place,
            Ok(None) => return ControlFlow::Continue(()),
            Err(error) => return ControlFlow::Break(Box::new(error)),
        };
        if let Some(parameter) = self.parameters.get(place) {
            let number = Value::Placeholder(format!("${}", place.saturating_add(1)));
            *expr = cast_to(&Expr::Value(number.into()), &written_type(parameter.kind));
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;
    use crate::statement::{self, Kind};

    /// What a text creates, or why not.
    fn read(text: &str) -> String {
        let parsed = match statement::parse(text, &PostgresCompatibilityParser::new()) {
            Ok(parsed) => parsed,
            Err(error) => return format!("{} {}\n", error.sqlstate, error.message),
        };
        let shown = parsed.into_iter().map(|parsed| {
            let Kind::CreateProcedure(create) = parsed.kind else { return "another\n".into() };
            let Create { name, parameters, is_definer, body, body_start, .. } = *create;
            let parameters = parameters.iter().map(|Written { name, data_type, default }| {
                let default = default.as_ref().map(|default| format!(" = {default}"));
                format!("{name}: {data_type}{}", default.unwrap_or_default())
            });
            let parameters = parameters.collect::<Vec<_>>().join(", ");
            let rights = if is_definer { "definer" } else { "invoker" };
            format!("{}({parameters}) {rights} {body_start} {body:?}\n", name.join("."))
        });
        shown.collect()
    }

    fn check(texts: &[&str], wanted: &Expect) {
        wanted.assert_eq(&texts.iter().map(|text| read(text)).collect::<String>());
    }

    #[test]
    fn clauses_come_in_any_order_and_once() {
        check(
            &[
                "create procedure p() language sql as 'x'",
                "create or replace procedure public.p() as $é$a;b$é$ security definer language 'SQL'",
                "create procedure p() external security invoker language sql as $$$$",
                "create procedure p() security external language sql as $$$$",
                "create procedure p() language sql as $$$$ as $$$$",
                "create procedure p() language sql as $$$$, $$$$",
                "create procedure p() language sql set a = 1 as $$$$",
                "create procedure p language sql as $$$$",
                "create procedure p(",
                "create procedure",
            ],
            &expect![[r#"
                p() invoker 38 "x"
                public.p() definer 45 "a;b"
                p() invoker 65 ""
                42601 syntax error at or near "external"
                42601 conflicting or redundant options
                42P13 only one AS item needed for language "sql"
                0A000 SET in CREATE PROCEDURE is not supported
                42601 syntax error at or near "language"
                42601 syntax error at end of input
                42601 syntax error at end of input
            "#]],
        );
    }

    #[test]
    fn parameters_have_types_and_may_have_names_modes_and_defaults() {
        check(
            &[
                "create procedure p(a int, in b numeric(12, 2) default 1 + (2), text) language sql as ''",
                "create procedure p(double precision, \"Ab\" timestamp with time zone = now()) language sql as ''",
                "create procedure p(a in varchar(3), date date default 'x, y') language sql as ''",
                "create procedure p(a int int) language sql as ''",
                "create procedure p(a int,) language sql as ''",
                "create procedure p(a out int) language sql as ''",
                "create procedure p(in out a int) language sql as ''",
            ],
            &expect![[r#"
                p(a: INT, b: NUMERIC(12,2) = 1 + (2), : TEXT) invoker 86 ""
                p(: DOUBLE PRECISION, Ab: TIMESTAMP WITH TIME ZONE = now()) invoker 93 ""
                p(a: VARCHAR(3), date: DATE = 'x, y') invoker 79 ""
                42601 syntax error: Expected: a comma or a parenthesis, found: int
                42601 syntax error at end of input
                0A000 OUT parameter is not supported
                0A000 INOUT parameter is not supported
            "#]],
        );
    }

    #[test]
    fn a_body_between_begin_and_end_has_semicolons_of_its_own() {
        check(
            &[
                "begin; create procedure p() begin atomic delete from t; \
                 update t set a = case when b then 1 end; end; select 1; commit",
                "create procedure p() begin atomic end",
                "create procedure p() begin atomic delete from t;",
                "create procedure p() begin delete from t; end",
            ],
            &expect![[r#"
                another
                p() invoker 41 "delete from t; update t set a = case when b then 1 end; "
                another
                another
                p() invoker 34 ""
                42601 syntax error at or near ";"
                42601 syntax error at or near "delete"
            "#]],
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            words in prop::collection::vec(prop::sample::select(vec![
                "create", "or", "replace", "procedure", "p", "(", ")", ",", "in", "out", "a", "int", "default", "=", "1",
                "language", "sql", "as", "$$ delete from t $$", "'x'", "begin", "atomic", "end", ";", "case", "security",
                "definer", "external", "é", "\"", "'", "$", "call", "numeric",
            ]), 0..24),
        ) {
            let soup = words.join(" ");
            read(&soup);
            read(&format!("create procedure {soup}"));
            read(&format!("create procedure p(a int) {soup}"));
        }
    }
}
