//! Nothing is computed of rows that a condition left out, as far as it could fail.
//!
//! PostgreSQL evaluates conditions from left to right, and what is selected of the rows that fulfil them. DataFusion
//! evaluates both sides of AND for a whole batch, makes AND of CASE, and pushes what is selected below filters.
//!
//! ```text
//!  WHERE a AND f(b) AND c    ─> WHERE CASE WHEN a AND c THEN f(b) ELSE false END        f may fail, a and c may not
//!  a AND f(b)  elsewhere     ─> CASE WHEN NOT a THEN false ELSE a AND f(b) END
//!  a OR f(b)   elsewhere     ─> CASE WHEN a THEN true ELSE a OR f(b) END
//! ```
//! The rule goes last, so that no other undoes it; [`physical_rules`] are DataFusion's without the one that swaps
//! projections with filters (columns are narrowed before, in the logical plan).
//!
//! # Limits
//! What may fail is told by its form, so that more is guarded than need be. A join's own condition is not guarded.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::Filter;
use datafusion::logical_expr::utils::{merge_schema, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable as _, LogicalPlan, Operator, lit, not,
};
use datafusion::optimizer::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

/// Functions that take every value of their types.
const TOTAL: [&str; 12] = [
    "coalesce",
    "nullif",
    "lower",
    "upper",
    "btrim",
    "ltrim",
    "rtrim",
    "character_length",
    "concat",
    "starts_with",
    "octet_length",
    "now",
];

/// The optimizer's rule.
#[derive(Debug)]
pub(crate) struct Guard;

/// DataFusion's rules for physical plans, less the one that computes before it filters.
pub(crate) fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    rules.retain(|rule| rule.name() != "ProjectionPushdown");
    rules
}

impl OptimizerRule for Guard {
    fn name(&self) -> &'static str {
        "guard"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Filter(filter) => guard_filter(filter),
            LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) => {
                let schema = merge_schema(&plan.inputs());
                let names = NamePreserver::new(&plan);
                plan.map_expressions(|expr| {
                    let name = names.save(&expr);
                    Ok(guarded(expr, &schema)?.update_data(|expr| name.restore(expr)))
                })
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

fn guard_filter(filter: Filter) -> Result<Transformed<LogicalPlan>> {
    let schema = filter.input.schema();
    let (fallible, safe): (Vec<&Expr>, Vec<&Expr>) =
        split_conjunction(&filter.predicate).into_iter().partition(|expr| may_fail(expr, schema));
    let all = |exprs: Vec<&Expr>| exprs.into_iter().cloned().reduce(Expr::and);
    let mut inner = Vec::with_capacity(fallible.len());
    let mut is_changed = false;
    for expr in &fallible {
        let expr = guarded((*expr).clone(), schema)?;
        is_changed |= expr.transformed;
        inner.push(expr.data);
    }
    // Each that may fail is evaluated where those before it hold.
    let nested = inner.into_iter().rev().reduce(|rest, expr| then(expr, rest));
    let predicate = match (all(safe), nested) {
        (Some(safe), Some(rest)) => then(safe, rest),
        (None, Some(rest)) if fallible.len() > 1 || is_changed => rest,
        _ => return Ok(Transformed::no(LogicalPlan::Filter(filter))),
    };
    Filter::try_new(predicate, filter.input).map(LogicalPlan::Filter).map(Transformed::yes)
}

/// `rest` where `first` holds; what is null does not.
fn then(first: Expr, rest: Expr) -> Expr {
    case(first, rest, lit(false))
}

fn case(when: Expr, then: Expr, otherwise: Expr) -> Expr {
    Expr::Case(Case::new(None, vec![(Box::new(when), Box::new(then))], Some(Box::new(otherwise))))
}

/// An expression whose every AND and OR evaluates its right side only where the left one leaves it open.
fn guarded(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_down(|expr| match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right })
            if may_fail(&right, schema) =>
        {
            let left = guarded(*left, schema)?.data;
            let right = guarded(*right, schema)?.data;
            let decides = if op == Operator::And { not(left.clone()) } else { left.clone() };
            let both = Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)));
            let guard = case(decides, lit(op == Operator::Or), both);
            Ok(Transformed::new(guard, true, TreeNodeRecursion::Jump))
        }
        // One that is guarded already.
        Expr::Case(case) if is_guard(&case) => {
            Ok(Transformed::new(Expr::Case(case), false, TreeNodeRecursion::Jump))
        }
        other => Ok(Transformed::no(other)),
    })
}

fn is_guard(case: &Case) -> bool {
    case.when_then_expr.len() == 1
        && matches!(
            case.else_expr.as_deref(),
            Some(Expr::BinaryExpr(BinaryExpr { op: Operator::And | Operator::Or, .. }))
        )
}

/// Whether evaluating an expression may be an error, as far as its form says.
fn may_fail(expr: &Expr, schema: &DFSchema) -> bool {
    expr.exists(|expr| {
        Ok(match expr {
            Expr::BinaryExpr(binary) => matches!(
                binary.op,
                Operator::Plus
                    | Operator::Minus
                    | Operator::Multiply
                    | Operator::Divide
                    | Operator::Modulo
            ),
            Expr::Negative(_) => true,
            Expr::ScalarFunction(call) => !TOTAL.contains(&call.func.name()),
            Expr::Cast(cast) => {
                let from = cast.expr.get_type(schema);
                !from.is_ok_and(|from| widens(&from, cast.field.data_type()))
            }
            _ => false,
        })
    })
    .unwrap_or(true)
}

fn widens(from: &DataType, to: &DataType) -> bool {
    let width = |data_type: &DataType| data_type.primitive_width().unwrap_or(usize::MAX);
    match (from, to) {
        (DataType::Null, _) | (_, DataType::Utf8) => true,
        (DataType::Decimal128(_, scale), DataType::Decimal128(precision, wider)) => {
            *precision == 38 && wider == scale
        }
        (from, to) if from.is_signed_integer() && to.is_signed_integer() => {
            width(from) <= width(to)
        }
        (from, to) if from.is_integer() => to.is_floating() || to.is_decimal(),
        (DataType::Date32, to) => to.is_temporal(),
        (DataType::Timestamp(..), DataType::Timestamp(..)) => true,
        (from, to) => from == to,
    }
}
