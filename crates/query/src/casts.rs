//! Types that casts may name and DataFusion has not: those whose values are texts, beside the catalog's own. And
//! numbers that no decimal holds, which are floats.
//!
//! A value keeps the text that it is given: it is checked where it is written to a column.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::{
    DataType as Ast, Expr, Statement, Value, VisitMut, VisitorMut,
};
use datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner;

use crate::error::SqlError;
use crate::insert;
use crate::parameters::cast_to;

/// Digits of a decimal.
const DIGITS_MAX: i64 = 38;

/// Plans the types of casts.
#[derive(Debug)]
pub(crate) struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, written: &Ast) -> datafusion::common::Result<Option<FieldRef>> {
        match written {
            Ast::Uuid | Ast::JSON | Ast::JSONB => {
                Ok(Some(Arc::new(Field::new("", DataType::Utf8, true))))
            }
            other => PgOidTypePlanner.plan_type_field(other),
        }
    }
}

/// Casts numbers that no decimal holds to floats (`1e300`), and reads what is cast to a bytea (`'\\x00'::bytea`).
pub(crate) fn read_literals(statement: &mut Statement) -> Result<(), SqlError> {
    match VisitMut::visit(statement, &mut Literals) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Literals;

impl VisitorMut for Literals {
    type Break = Box<SqlError>;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if let Expr::Cast { expr: inner, data_type: Ast::Bytea, .. } = &*expr
            && let Expr::Value(_) = inner.as_ref()
        {
            let mut inner = inner.as_ref().clone();
            if let Err(error) = insert::read_bytea(&mut inner) {
                return ControlFlow::Break(Box::new(error));
            }
            *expr = inner;
        }
        if let Expr::Value(value) = &*expr
            && let Value::Number(digits, _) = &value.value
            && is_wide(digits)
            && digits.parse().is_ok_and(f64::is_finite)
        {
            let text = Expr::Value(Value::SingleQuotedString(digits.clone()).into());
            *expr = cast_to(&text, "double precision");
        }
        ControlFlow::Continue(())
    }
}

fn is_wide(number: &str) -> bool {
    let Some((digits, exponent)) = number.split_once(['e', 'E']) else { return false };
    let Ok(exponent) = exponent.parse::<i64>() else { return true };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let count = |digits: &str| i64::try_from(digits.len()).unwrap_or(i64::MAX);
    let before = count(whole).saturating_add(exponent);
    let behind = count(fraction).saturating_sub(exponent);
    before.max(0).saturating_add(behind.max(0)) > DIGITS_MAX
}
