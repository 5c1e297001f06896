//! From text to statements: bounds, parsing, and what kind of statement each is.
//!
//! The text is parsed twice: as it stands, for names and error positions, and by the catalog crate's parser,
//! which rewrites what PostgreSQL's clients say to their catalog into what DataFusion can plan. Which columns a
//! client sees is taken from the former, the plan from the latter.

use datafusion::sql::sqlparser::ast::{
    Expr, Query, Reset, Set, SetExpr, Statement, TableFactor, TransactionMode, UnaryOperator,
    Value, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_pg_catalog::sql::rules::{
    AliasDuplicatedProjectionRewrite, CurrentUserVariableToSessionUserFunctionCall,
    FixArrayLiteral, ResolveUnqualifiedIdentifier, RewriteArrayAnyAllOperation,
    SqlStatementRewriteRule, StripCallableQualifier, StripCollate,
};
use quipu_types::code;
use quipu_types::transaction::StreamSpec;
use std::ops::ControlFlow;

use crate::casts;
use crate::copy::Copy;
use crate::create;
use crate::ddl;
use crate::error::SqlError;
use crate::forms;
use crate::insert;
use crate::names;
use crate::parameters;
use crate::pg_catalog;
use crate::procedure::Create;
use crate::utility::{self, Upkeep};

/// Most bytes of a query text.
const TEXT_SIZE_MAX: usize = 1 << 20;
/// Most operators and keywords of a query text: expressions nest as deep as these are many.
const NODE_COUNT_MAX: usize = 1000;
/// Most tables, joins and set operations of a query text: plans nest as deep as these are many.
const RELATION_COUNT_MAX: usize = 128;

/// What is rewritten of statements that do not name the catalog.
const OWN_RULES: [&dyn SqlStatementRewriteRule; 7] = [
    &AliasDuplicatedProjectionRewrite,
    &ResolveUnqualifiedIdentifier,
    &RewriteArrayAnyAllOperation,
    &StripCallableQualifier,
    &FixArrayLiteral,
    &CurrentUserVariableToSessionUserFunctionCall,
    &StripCollate,
];

/// What a statement wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Rows.
    Query,
    /// Rows of PostgreSQL's catalog alone.
    Catalog,
    /// `EXPLAIN`.
    Explain,
    /// `INSERT`, `UPDATE` or `DELETE`.
    Write,
    /// `TRUNCATE`.
    Truncate,
    /// Changes what tables there are.
    Define,
    /// `CREATE STREAM`.
    CreateStream(Box<StreamSpec>),
    /// `COPY`.
    Copy(Box<Copy>),
    /// `VACUUM` and the like.
    Upkeep(Upkeep),
    /// `SHOW`: the parameter's name, lower case.
    Show(String),
    /// `BEGIN`.
    Begin(Modes),
    /// `SET TRANSACTION`.
    SetTransaction(Modes),
    /// `SAVEPOINT`.
    Savepoint(String),
    /// `RELEASE SAVEPOINT`.
    Release(String),
    /// `COMMIT`, `END`.
    Commit,
    /// `ROLLBACK`, `ABORT`.
    Rollback,
    /// `ROLLBACK TO SAVEPOINT`.
    RollbackTo(String),
    /// `SET`; without a value, back to the default.
    Set(String, Option<String>),
    /// `RESET ALL`.
    ResetAll,
    /// `DISCARD ALL`.
    DiscardAll,
    /// `DEALLOCATE`; without a name, all.
    Deallocate(Option<String>),
    /// `PREPARE`: a name, and the statement's text.
    Prepare(String, String),
    /// `EXECUTE`: a name, and constants as their texts.
    Execute(String, Vec<Option<String>>),
    /// `CREATE PROCEDURE`.
    CreateProcedure(Box<Create>),
    /// `CALL`.
    Call,
    /// Nothing to do but to answer with this tag.
    Nothing(&'static str),
}

/// What a transaction is asked to be. Every isolation level is had: all statements see one height, and what they read
/// is checked when the transaction commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Modes {
    pub(crate) is_read_only: Option<bool>,
}

/// A statement that may run.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    pub(crate) kind: Kind,
    /// As it is planned; none for a statement that no parser knows.
    pub(crate) plan: Option<Statement>,
    /// As it was written, if that parses.
    pub(crate) written: Option<Statement>,
}

/// Reads a query text.
pub(crate) fn parse(
    text: &str,
    parser: &PostgresCompatibilityParser,
) -> Result<Vec<Parsed>, SqlError> {
    if let Some(created) = create::parse(text) {
        let kind = Kind::CreateStream(Box::new(created?));
        return Ok(vec![Parsed { kind, plan: None, written: None }]);
    }
    bound(text)?;
    let plain = |text: &str| parse_plain(text, parser);
    utility::parse(text, plain).unwrap_or_else(|| plain(text))
}

/// Reads a text whose statements the parser knows.
fn parse_plain(text: &str, parser: &PostgresCompatibilityParser) -> Result<Vec<Parsed>, SqlError> {
    let written = Parser::parse_sql(&PostgreSqlDialect {}, text)
        .map(|all| all.into_iter().map(forms::unwrap_write).collect());
    let planned = match (planned(text, parser, &written), &written) {
        (Ok(planned), _) => planned,
        (Err(_), Err(error)) => return Err(SqlError::syntax(error, text)),
        (Err(error), Ok(_)) => return Err(SqlError::syntax(&error, text)),
    };
    let written = match written {
        Ok(written) if written.len() == planned.len() => written.into_iter().map(Some).collect(),
        _ => vec![None; planned.len()],
    };
    planned
        .into_iter()
        .zip(written)
        .map(|(mut plan, written)| {
            let kind = match kind_of(written.as_ref().unwrap_or(&plan))? {
                Kind::Query if written.as_ref().is_some_and(pg_catalog::wants) => Kind::Catalog,
                kind => kind,
            };
            unlock(&mut plan);
            casts::read_literals(&mut plan)?;
            names::alias(&mut plan);
            forms::call(&mut plan);
            Ok(Parsed { kind, plan: Some(plan), written })
        })
        .collect()
}

/// The statements as they are planned. Queries of the catalog are rewritten as far as its parser can; of all others
/// no subquery is taken out.
fn planned(
    text: &str,
    parser: &PostgresCompatibilityParser,
    written: &Result<Vec<Statement>, ParserError>,
) -> Result<Vec<Statement>, ParserError> {
    let lower = text.to_ascii_lowercase();
    let is_of_catalog = ["pg_", "information_schema", "regclass", "version("]
        .iter()
        .any(|word| lower.contains(word));
    match written {
        Ok(written) if !is_of_catalog || written.iter().all(pg_catalog::wants) => {
            let rewritten = |statement: &Statement| {
                let rules = OWN_RULES.iter();
                let mut statement = statement.clone();
                forms::unify(&mut statement);
                rules.fold(statement, |statement, rule| rule.rewrite(statement))
            };
            Ok(written.iter().map(rewritten).collect())
        }
        _ => parser.parse(text),
    }
}

/// Rows that are read are checked at the commit: nothing is locked, and nothing need be.
fn unlock(statement: &mut Statement) {
    if let Statement::Query(query) = statement {
        query.locks.clear();
    }
}

/// Refuses a text whose statements could nest too deep.
pub(crate) fn bound(text: &str) -> Result<(), SqlError> {
    let complex = |message: &str| Err(SqlError::new("54001", code::SQL_LIMIT, message));
    if text.len() > TEXT_SIZE_MAX {
        return complex("statement is longer than 1 MiB");
    }
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize().map_err(|error| {
        let parser_error = ParserError::from(error);
        SqlError::syntax(&parser_error, text)
    })?;
    let mut nodes: usize = 0;
    let mut relations: usize = 0;
    let mut is_in_from = false;
    for token in &tokens {
        match token {
            Token::Word(word) if word.keyword != Keyword::NoKeyword => {
                nodes = nodes.saturating_add(1);
                let joins = matches!(
                    word.keyword,
                    Keyword::UNION
                        | Keyword::INTERSECT
                        | Keyword::EXCEPT
                        | Keyword::JOIN
                        | Keyword::FROM
                );
                relations = relations.saturating_add(usize::from(joins));
                is_in_from = match word.keyword {
                    Keyword::FROM => true,
                    Keyword::SELECT | Keyword::WHERE | Keyword::GROUP | Keyword::ORDER => false,
                    _ => is_in_from,
                };
            }
            Token::Comma => relations = relations.saturating_add(usize::from(is_in_from)),
            Token::Word(_)
            | Token::Whitespace(_)
            | Token::Period
            | Token::SemiColon
            | Token::LParen
            | Token::RParen
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Placeholder(_) => {}
            _ => nodes = nodes.saturating_add(1),
        }
    }
    if nodes > NODE_COUNT_MAX {
        return complex("statement has too many operators");
    }
    if relations > RELATION_COUNT_MAX {
        return complex("statement has too many tables");
    }
    Ok(())
}

fn kind_of(statement: &Statement) -> Result<Kind, SqlError> {
    Ok(match statement {
        Statement::Query(query) => {
            check_query(query)?;
            Kind::Query
        }
        Statement::Insert(insert) => {
            if let Some(query) = &insert.source {
                check_query(query)?;
            }
            Kind::Write
        }
        Statement::Update(_) | Statement::Delete(_) => Kind::Write,
        Statement::Truncate(_) => Kind::Truncate,
        other if ddl::is_ddl(other) => Kind::Define,
        Statement::Explain { statement, .. } => match kind_of(statement)? {
            Kind::Query => Kind::Explain,
            _ => return Err(SqlError::unsupported("EXPLAIN of this statement")),
        },
        Statement::ShowVariable { variable } => {
            let words: Vec<String> =
                variable.iter().map(|word| word.value.to_lowercase()).collect();
            // Names of several words stand for parameters with one; else the parts are those of a dotted name.
            Kind::Show(match words.join(" ").as_str() {
                "transaction isolation level" => "transaction_isolation".into(),
                "time zone" => "timezone".into(),
                "session authorization" => "session_authorization".into(),
                _ => words.join("."),
            })
        }
        Statement::StartTransaction { modes, .. } => Kind::Begin(modes_of(modes)),
        Statement::Commit { .. } => Kind::Commit,
        Statement::Rollback { savepoint: None, .. } => Kind::Rollback,
        Statement::Rollback { savepoint: Some(name), .. } => Kind::RollbackTo(insert::folded(name)),
        Statement::Savepoint { name } => Kind::Savepoint(insert::folded(name)),
        Statement::ReleaseSavepoint { name } => Kind::Release(insert::folded(name)),
        Statement::Set(set) => kind_of_set(set)?,
        Statement::Reset(reset) => match &reset.reset {
            Reset::ALL => Kind::ResetAll,
            Reset::ConfigurationParameter(name) => Kind::Set(name.to_string().to_lowercase(), None),
        },
        Statement::Discard { .. } => Kind::DiscardAll,
        Statement::Deallocate { name, .. } => match name.value.as_str() {
            all if all.eq_ignore_ascii_case("all") && name.quote_style.is_none() => {
                Kind::Deallocate(None)
            }
            _ => Kind::Deallocate(Some(insert::folded(name))),
        },
        Statement::Prepare { name, data_types, statement } => {
            match kind_of(statement)? {
                Kind::Query | Kind::Write => {}
                _ => return Err(SqlError::unsupported("PREPARE of this statement")),
            }
            let mut statement = statement.as_ref().clone();
            parameters::cast_placeholders(&mut statement, data_types);
            Kind::Prepare(insert::folded(name), statement.to_string())
        }
        Statement::Execute { name: Some(name), parameters, immediate: false, using, .. }
            if using.is_empty() =>
        {
            let name = name.0.last().and_then(insert::word).unwrap_or_default();
            let constants = parameters.iter().map(constant).collect::<Option<Vec<_>>>();
            let constants = constants.ok_or_else(|| {
                SqlError::unsupported("EXECUTE with an expression").hint("write constants")
            })?;
            Kind::Execute(name, constants)
        }
        Statement::Call(_) => Kind::Call,
        Statement::UNLISTEN { .. } => Kind::Nothing("UNLISTEN"),
        Statement::Close { .. } => Kind::Nothing("CLOSE CURSOR"),
        other => return Err(refusal(other)),
    })
}

/// The text of a constant; none inside for null, none at all for what is no constant.
fn constant(expr: &Expr) -> Option<Option<String>> {
    match expr {
        Expr::Nested(inner) => constant(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
            constant(expr)?.map(|text| Some(format!("-{text}")))
        }
        Expr::Value(value) => match &value.value {
            Value::Null => Some(None),
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => {
                Some(Some(text.clone()))
            }
            Value::Number(..) | Value::Boolean(_) => Some(Some(value.value.to_string())),
            _ => None,
        },
        _ => None,
    }
}

/// Why a statement is refused: as a write, or as something that is not here.
fn refusal(statement: &Statement) -> SqlError {
    let text = statement.to_string();
    let words: Vec<&str> = text.split_whitespace().take(2).collect();
    let first = words.first().copied().unwrap_or("this statement").to_uppercase();
    match first.as_str() {
        "DECLARE" | "FETCH" | "LISTEN" | "NOTIFY" | "PREPARE" | "EXECUTE" | "USE" | "SHOW"
        | "COPY" | "LOCK" | "ANALYZE" | "VACUUM" | "CACHE" => SqlError::unsupported(&first),
        "CREATE" | "ALTER" | "DROP" => {
            let object = words.get(1).copied().unwrap_or_default().to_uppercase();
            SqlError::read_only(&format!("{first} {object}"))
        }
        verb => SqlError::read_only(verb),
    }
}

fn modes_of(modes: &[TransactionMode]) -> Modes {
    use datafusion::sql::sqlparser::ast::TransactionAccessMode as Access;
    let access = modes.iter().rev().find_map(|mode| match mode {
        TransactionMode::AccessMode(mode) => Some(*mode == Access::ReadOnly),
        TransactionMode::IsolationLevel(_) => None,
    });
    Modes { is_read_only: access }
}

fn kind_of_set(set: &Set) -> Result<Kind, SqlError> {
    Ok(match set {
        Set::SingleAssignment { variable, values, .. } => {
            let texts: Vec<String> = values.iter().map(value_text).collect();
            let value = texts.join(", ");
            let value = (!value.eq_ignore_ascii_case("default")).then_some(value);
            Kind::Set(variable.to_string().to_lowercase(), value)
        }
        Set::SetTimeZone { value, .. } => Kind::Set("timezone".into(), Some(value_text(value))),
        Set::SetNames { charset_name, .. } => {
            Kind::Set("client_encoding".into(), Some(charset_name.value.clone()))
        }
        Set::SetNamesDefault {} => Kind::Set("client_encoding".into(), None),
        Set::SetTransaction { modes, .. } => Kind::SetTransaction(modes_of(modes)),
        Set::SetRole { role_name: None, .. } => Kind::Nothing("SET"),
        other => return Err(SqlError::unsupported(&other.to_string())),
    })
}

fn value_text(expr: &Expr) -> String {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.clone(),
            other => other.to_string(),
        },
        Expr::Identifier(ident) => ident.value.clone(),
        other => other.to_string(),
    }
}

/// Refuses the writes that a query can hide, and what would be ignored.
fn check_query(query: &Query) -> Result<(), SqlError> {
    match query.visit(&mut Hidden) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Hidden;

impl Visitor for Hidden {
    type Break = Box<SqlError>;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        check_body(&query.body)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        if let TableFactor::Table { sample: Some(_), .. } = factor {
            return ControlFlow::Break(Box::new(SqlError::unsupported("TABLESAMPLE")));
        }
        ControlFlow::Continue(())
    }
}

fn check_body(body: &SetExpr) -> ControlFlow<Box<SqlError>> {
    match body {
        SetExpr::Select(select) if select.into.is_some() => {
            ControlFlow::Break(Box::new(SqlError::read_only("SELECT INTO")))
        }
        SetExpr::SetOperation { left, right, .. } => {
            check_body(left)?;
            check_body(right)
        }
        SetExpr::Insert(_) => ControlFlow::Break(Box::new(SqlError::read_only("INSERT"))),
        SetExpr::Update(_) => ControlFlow::Break(Box::new(SqlError::read_only("UPDATE"))),
        SetExpr::Delete(_) => ControlFlow::Break(Box::new(SqlError::read_only("DELETE"))),
        SetExpr::Merge(_) => ControlFlow::Break(Box::new(SqlError::read_only("MERGE"))),
        _ => ControlFlow::Continue(()),
    }
}
