//! Which expressions may be assigned to which columns.
//!
//! Source: PostgreSQL 15, "Value Storage" (10.4): a number goes into a column of numbers and is rounded to it
//! (`round`), a time into one of times, everything into a text; a constant in quotes is read as the column's type. What
//! needs a cast is refused with 42804, unless the cast is written.

use arrow::datatypes::DataType;
use datafusion::logical_expr::{Expr, ExprSchemable as _, LogicalPlan};
use datafusion::sql::sqlparser::ast::{Expr as Written, UnaryOperator, Value};
use quipu_types::{Column, ColumnType, code};

use crate::coerce::{self, Category};
use crate::error::SqlError;

fn takes(kind: ColumnType, category: Category) -> bool {
    match kind {
        ColumnType::Bool => category == Category::Bool,
        ColumnType::Int2
        | ColumnType::Int4
        | ColumnType::Int8
        | ColumnType::Numeric { .. }
        | ColumnType::Float8 => category == Category::Number,
        ColumnType::Bytea => category == Category::Bytes,
        ColumnType::Date | ColumnType::Timestamp | ColumnType::Timestamptz => {
            category == Category::Time
        }
        // A uuid or JSON is a text here.
        ColumnType::Uuid | ColumnType::Jsonb => category == Category::Text,
        ColumnType::Text => true,
    }
}

/// Refuses what is of a type that does not go into a column without a cast.
pub(crate) fn check(column: &Column, from: &DataType) -> Result<(), SqlError> {
    if coerce::category(from).is_none_or(|category| takes(column.kind, category)) {
        return Ok(());
    }
    let (name, kind) = (&column.name, name_of(column.kind));
    let message = format!(
        "column \"{name}\" is of type {kind} but expression is of type {}",
        coerce::type_name(from)
    );
    let hint = "You will need to rewrite or cast the expression.";
    Err(SqlError::new("42804", code::SQL_SYNTAX, message).hint(hint))
}

fn name_of(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Uuid => "uuid",
        ColumnType::Jsonb => "jsonb",
        other => coerce::type_name(&crate::column::Kind::from(other).data_type()),
    }
}

/// Refuses a constant of a VALUES list.
pub(crate) fn check_written(column: &Column, value: &Written) -> Result<(), SqlError> {
    let from = match value {
        Written::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => {
            return check_written(column, expr);
        }
        Written::Nested(inner) => return check_written(column, inner),
        Written::Value(value) => match &value.value {
            Value::Boolean(_) => DataType::Boolean,
            Value::Number(digits, _) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                DataType::Int32
            }
            Value::Number(..) => DataType::Decimal128(38, 10),
            _ => return Ok(()),
        },
        _ => return Ok(()),
    };
    check(column, &from)
}

/// Refuses what a plan's projection assigns to a column: its expression at `place`, or within the cast around that.
pub(crate) fn check_planned(
    column: &Column,
    plan: &LogicalPlan,
    place: usize,
    is_cast: bool,
) -> Result<(), SqlError> {
    let LogicalPlan::Projection(projection) = plan else { return Ok(()) };
    let expr = projection.expr.get(place).cloned().map(Expr::unalias);
    let expr = match expr {
        Some(Expr::Cast(cast)) if is_cast => *cast.expr,
        Some(expr) => expr,
        None => return Ok(()),
    };
    if coerce::is_unknown(&expr) || is_open(&expr, &projection.input) {
        return Ok(());
    }
    match expr.get_type(projection.input.schema()) {
        Ok(from) => check(column, &from),
        Err(_) => Ok(()),
    }
}

/// Whether a column of a source is a constant in quotes, or of a VALUES list, which was read as it is assigned.
fn is_open(expr: &Expr, source: &LogicalPlan) -> bool {
    let Expr::Column(column) = expr else { return false };
    let Some(place) = source.schema().maybe_index_of_column(column) else { return false };
    match source {
        LogicalPlan::Values(_) => true,
        LogicalPlan::Projection(projection) => {
            projection.expr.get(place).is_some_and(coerce::is_unknown)
        }
        LogicalPlan::Sort(sort) => is_open(expr, &sort.input),
        LogicalPlan::Limit(limit) => is_open(expr, &limit.input),
        _ => false,
    }
}
