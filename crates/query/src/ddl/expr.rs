//! Defaults and checks: SQL's expressions as row programs evaluate them, with the types of the table's columns.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use arrow::datatypes::{DataType, Schema as ArrowSchema};
use datafusion::common::tree_node::TreeNode as _;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{Expr as Plan, ExprSchemable as _};
use datafusion::optimizer::analyzer::type_coercion::TypeCoercionRewriter;
use datafusion::sql::sqlparser::ast::{
    Expr as Ast, ExprWithAlias, Function, FunctionArguments, Ident, ObjectName, Value as Literal,
    VisitMut, visit_expressions, visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use quipu_types::program::Binary;
use quipu_types::row_json::{canonical_json, uuid_from_text};
use quipu_types::{Column, ColumnType, Expr, Value, code};

use super::types::{self, pg_name};
use super::{Scope, name};
use crate::column::Kind;
use crate::compile;
use crate::error::SqlError;

/// Where an expression stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Default,
    Check,
}

impl Place {
    const fn plural(self) -> &'static str {
        match self {
            Self::Default => "DEFAULT expressions",
            Self::Check => "check constraints",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Default => "DEFAULT expression",
            Self::Check => "check constraint",
        }
    }
}

/// The default of the last of `columns`; none where it is null.
pub(super) fn default(
    written: &Ast,
    table: &str,
    columns: &[Column],
    scope: &Scope<'_>,
) -> Result<Option<Expr>, SqlError> {
    let column = columns.last().expect("a default is of a column");
    let written = bare(written);
    if let Some(literal) = literal(written, column.kind) {
        let Literal::SingleQuotedString(text) = literal else { return Ok(None) };
        let value = constant(text, column.kind)?;
        return Ok(Some(Expr::Const(column.kind, value)));
    }
    let (plan, from) = planned(written, table, columns, scope, Place::Default)?;
    if !plan.column_refs().is_empty() {
        let message = "cannot use column reference in DEFAULT expression";
        return Err(SqlError::new("0A000", code::SQL_UNSUPPORTED, message));
    }
    if let (Plan::Literal(value, _), ColumnType::Float8) = (&plan, column.kind) {
        let value = value.cast_to(&DataType::Float64);
        if let Ok(ScalarValue::Float64(Some(value))) = value {
            return Ok(Some(Expr::Const(ColumnType::Float8, Value::Float8(value.to_bits()))));
        }
    }
    let mut expr = compiled(&plan, table, columns, written, Place::Default)?;
    let from = match expr {
        Expr::Random(_) => Some(ColumnType::Uuid),
        Expr::Now => Some(ColumnType::Timestamptz),
        // A number that fits is an integer for PostgreSQL.
        Expr::Const(ColumnType::Int8, _) if narrowed(&expr, ColumnType::Int4).is_some() => {
            Some(ColumnType::Int4)
        }
        _ => from.as_ref().and_then(compile::kind_of),
    };
    if !from.is_some_and(|from| is_assignable(from, column.kind)) {
        let from = from.map_or_else(|| "another type".to_owned(), pg_name);
        let message = format!(
            "column \"{}\" is of type {} but default expression is of type {from}",
            column.name,
            pg_name(column.kind),
        );
        let error = SqlError::new("42804", code::TYPE_MISMATCH, message);
        return Err(error.hint("You will need to rewrite or cast the expression."));
    }
    settle(&mut expr, &[], &mut 0);
    let is_same = match expr {
        Expr::Const(kind, _) => kind == column.kind,
        _ => from == Some(column.kind),
    };
    Ok(Some(match narrowed(&expr, column.kind) {
        Some(value) => Expr::Const(column.kind, value),
        None if is_same => expr,
        None => Expr::Cast(Box::new(expr), column.kind),
    }))
}

/// A check, and which columns it looks at.
pub(super) fn check(
    written: &Ast,
    table: &str,
    columns: &[Column],
    scope: &Scope<'_>,
) -> Result<(Expr, BTreeSet<String>), SqlError> {
    let (plan, kind) = planned(written, table, columns, scope, Place::Check)?;
    if !matches!(kind, Some(DataType::Boolean | DataType::Null)) {
        let kind = kind.as_ref().and_then(compile::kind_of);
        let kind = kind.map_or_else(|| "another".to_owned(), pg_name);
        let message = format!("argument of CHECK must be type boolean, not type {kind}");
        return Err(SqlError::new("42804", code::TYPE_MISMATCH, message));
    }
    let mut expr = compiled(&plan, table, columns, written, Place::Check)?;
    let kinds: Vec<ColumnType> = columns.iter().map(|column| column.kind).collect();
    settle(&mut expr, &kinds, &mut 0);
    let used = plan.column_refs().into_iter().map(|column| column.name.clone()).collect();
    Ok((expr, used))
}

/// An expression without the parentheses around it.
fn bare(mut expr: &Ast) -> &Ast {
    while let Ast::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

/// A text or null that is read as the column's type: written so, or cast to it.
fn literal(expr: &Ast, kind: ColumnType) -> Option<&Literal> {
    match expr {
        Ast::Value(value) => match &value.value {
            text @ (Literal::SingleQuotedString(_) | Literal::Null) => Some(text),
            _ => None,
        },
        Ast::Cast { expr, data_type, .. } => {
            let same = types::read(data_type).is_ok_and(|to| to.kind == kind && to.length == 0);
            literal(bare(expr), kind).filter(|_| same)
        }
        Ast::TypedString(typed) => {
            let same = types::read(&typed.data_type).is_ok_and(|to| to.kind == kind);
            Some(&typed.value.value).filter(|_| same)
        }
        _ => None,
    }
}

/// A text as a value of a type.
fn constant(text: &str, kind: ColumnType) -> Result<Value, SqlError> {
    let value = match kind {
        ColumnType::Text => Some(Value::Text(text.to_owned())),
        ColumnType::Uuid => uuid_from_text(text.trim()).map(Value::Uuid),
        ColumnType::Jsonb => canonical_json(text).map(Value::Jsonb),
        ColumnType::Bytea => match text.strip_prefix("\\x") {
            Some(digits) => hex::decode(digits).ok().map(Value::Bytea),
            None if text.contains('\\') => None,
            None => Some(Value::Bytea(text.as_bytes().to_vec())),
        },
        _ => {
            let read = ScalarValue::Utf8(Some(text.trim().to_owned()));
            match read.cast_to(&Kind::from(kind).data_type()).ok().filter(|value| !value.is_null())
            {
                Some(ScalarValue::Float64(Some(value))) => Some(Value::Float8(value.to_bits())),
                Some(value) => compile::constant(&value).map(|(_, value)| value),
                None => None,
            }
        }
    };
    value.ok_or_else(|| {
        let kind = match kind {
            ColumnType::Numeric { .. } => "numeric".to_owned(),
            ColumnType::Jsonb => "json".to_owned(),
            kind => pg_name(kind),
        };
        let message = format!("invalid input syntax for type {kind}: \"{text}\"");
        SqlError::new("22P02", code::BAD_TEXT, message)
    })
}

/// A constant number as a value of the type, where it is one without rounding.
fn narrowed(expr: &Expr, kind: ColumnType) -> Option<Value> {
    let Expr::Const(from, value) = expr else { return None };
    let (whole, own) = match (value, *from) {
        (Value::Int2(value), _) => (i128::from(*value), 0),
        (Value::Int4(value), _) => (i128::from(*value), 0),
        (Value::Int8(value), _) => (i128::from(*value), 0),
        (Value::Numeric(value), ColumnType::Numeric { scale, .. }) => (*value, scale),
        _ => return None,
    };
    match kind {
        ColumnType::Int2 if own == 0 => i16::try_from(whole).ok().map(Value::Int2),
        ColumnType::Int4 if own == 0 => i32::try_from(whole).ok().map(Value::Int4),
        ColumnType::Int8 if own == 0 => i64::try_from(whole).ok().map(Value::Int8),
        ColumnType::Numeric { precision, scale } => {
            let unit = 10_i128.checked_pow(u32::from(scale.checked_sub(own)?))?;
            let value = whole.checked_mul(unit)?;
            let bound = 10_u128.checked_pow(u32::from(precision))?;
            (value.unsigned_abs() < bound).then_some(Value::Numeric(value))
        }
        _ => None,
    }
}

/// Whether PostgreSQL assigns a value of one type to a column of the other.
const fn is_assignable(from: ColumnType, to: ColumnType) -> bool {
    use ColumnType as T;
    match to {
        T::Int2 | T::Int4 | T::Int8 | T::Numeric { .. } => {
            matches!(from, T::Int2 | T::Int4 | T::Int8 | T::Numeric { .. })
        }
        T::Date | T::Timestamp | T::Timestamptz => {
            matches!(from, T::Date | T::Timestamp | T::Timestamptz)
        }
        T::Text => true,
        T::Bool => matches!(from, T::Bool),
        T::Bytea => matches!(from, T::Bytea),
        T::Uuid => matches!(from, T::Uuid),
        T::Jsonb => matches!(from, T::Jsonb),
        T::Float8 => false,
    }
}

fn schema_of(table: &str, columns: &[Column]) -> Result<DFSchema, SqlError> {
    let fields: Vec<_> = columns
        .iter()
        .map(|column| Kind::from(column.kind).field(&column.name, column.nullable))
        .collect();
    DFSchema::try_from_qualified_schema(table, &ArrowSchema::new(fields))
        .map_err(|error| SqlError::from_datafusion(&error, ""))
}

/// Plans an expression; its type, where it has one.
fn planned(
    written: &Ast,
    table: &str,
    columns: &[Column],
    scope: &Scope<'_>,
    place: Place,
) -> Result<(Plan, Option<DataType>), SqlError> {
    admit(written, place)?;
    let schema = schema_of(table, columns)?;
    let mut expr = written.clone();
    spell(&mut expr);
    let failed = |error| {
        let mut error = SqlError::from_datafusion(&error, "");
        error.position = None;
        error
    };
    let expr = ExprWithAlias { expr, alias: None };
    let plan = scope.state.create_logical_expr_from_sql_expr(expr, &schema).map_err(failed)?;
    let plan = plan.rewrite(&mut TypeCoercionRewriter::new(&schema)).map_err(failed)?.data;
    let counts = |part: &Plan| Ok(matches!(part, Plan::AggregateFunction(_)));
    if plan.exists(counts).map_err(failed)? {
        let message = format!("aggregate functions are not allowed in {}", place.plural());
        return Err(SqlError::new("42803", code::SQL_SYNTAX, message));
    }
    let kind = plan.get_type(&schema).ok();
    Ok((plan, kind))
}

fn compiled(
    plan: &Plan,
    table: &str,
    columns: &[Column],
    written: &Ast,
    place: Place,
) -> Result<Expr, SqlError> {
    compile::expr(plan, &schema_of(table, columns)?).ok_or_else(|| {
        let error = SqlError::unsupported(&format!("{} {written}", place.name()));
        error.hint("operators, CASE, casts and a few functions of text and numbers are")
    })
}

/// Refuses what no row can be asked.
fn admit(written: &Ast, place: Place) -> Result<(), SqlError> {
    let found = visit_expressions(written, |expr| match expr {
        Ast::Subquery(_) | Ast::Exists { .. } | Ast::InSubquery { .. } => {
            let message = format!("cannot use subquery in {}", place.name());
            ControlFlow::Break(SqlError::new("0A000", code::SQL_UNSUPPORTED, message))
        }
        Ast::Function(function) => match function_name(function).as_str() {
            name @ ("nextval" | "currval" | "lastval" | "setval") => ControlFlow::Break(
                SqlError::unsupported(&format!("{name}() in a {}", place.name()))
                    .hint("there are no sequences: GENERATED BY DEFAULT AS IDENTITY, or serial"),
            ),
            _ => ControlFlow::Continue(()),
        },
        _ => ControlFlow::Continue(()),
    });
    match found {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn function_name(function: &Function) -> String {
    let last = function.name.0.last().and_then(|part| part.as_ident());
    last.map(name::folded).unwrap_or_default()
}

/// Writes functions of time and chance as DataFusion knows them.
pub(crate) fn spell<T: VisitMut>(expr: &mut T) {
    let _never_breaks = visit_expressions_mut(expr, |expr| {
        let Ast::Function(function) = expr else { return ControlFlow::<()>::Continue(()) };
        let bare = matches!(&function.args, FunctionArguments::None)
            || matches!(&function.args, FunctionArguments::List(list) if list.args.is_empty());
        let to = match function_name(function).as_str() {
            _ if !bare => None,
            "current_timestamp" | "transaction_timestamp" | "statement_timestamp" => Some("now()"),
            "current_date" => Some("CAST(now() AS DATE)"),
            "localtimestamp" => Some("CAST(now() AS TIMESTAMP)"),
            "gen_random_uuid" | "uuid_generate_v4" => Some("uuid()"),
            _ => None,
        };
        if let Some(text) = to {
            let parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(text);
            if let Ok(spelled) = parser.and_then(|mut parser| parser.parse_expr()) {
                *expr = spelled;
            }
        }
        ControlFlow::Continue(())
    });
}

/// Tells random values apart, and reads texts that are compared with a column as that column's type, where Arrow's type
/// does not say it.
fn settle(expr: &mut Expr, kinds: &[ColumnType], random: &mut u32) {
    if let Expr::Random(number) = expr {
        *number = *random;
        *random = random.saturating_add(1);
    }
    let compares = match expr {
        Expr::In(..) => true,
        Expr::Binary(op, ..) => {
            !matches!(op, Binary::And | Binary::Or | Binary::Concat | Binary::Like)
        }
        _ => false,
    };
    let mut children = children(expr);
    let kind = children.iter().find_map(|child| match child {
        Expr::Column(column) => kinds.get(usize::from(*column)).copied(),
        _ => None,
    });
    for child in &mut children {
        let is_text = matches!(child, Expr::Const(ColumnType::Text, Value::Text(_)));
        match kind.filter(|kind| matches!(kind, ColumnType::Uuid | ColumnType::Jsonb)) {
            Some(kind) if compares && is_text => {
                let text = std::mem::replace(*child, Expr::Now);
                **child = Expr::Cast(Box::new(text), kind);
            }
            _ => settle(child, kinds, random),
        }
    }
}

fn children(expr: &mut Expr) -> Vec<&mut Expr> {
    match expr {
        Expr::Const(..)
        | Expr::Column(_)
        | Expr::Excluded(_)
        | Expr::Parameter(_)
        | Expr::Now
        | Expr::Random(_) => Vec::new(),
        Expr::Unary(_, operand) | Expr::Cast(operand, _) => vec![operand],
        Expr::Binary(_, left, right) => vec![left, right],
        Expr::In(operand, list) => std::iter::once(&mut **operand).chain(list).collect(),
        Expr::Case(branches, otherwise) => branches
            .iter_mut()
            .flat_map(|(condition, value)| [condition, value])
            .chain(otherwise.as_deref_mut())
            .collect(),
        Expr::Call(_, list) => list.iter_mut().collect(),
    }
}

/// A name as SQL writes it, quoted.
pub(super) fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

/// As [`quoted`], for a name of one part.
pub(super) fn object(name: &str) -> ObjectName {
    ObjectName::from(vec![quoted(name)])
}
