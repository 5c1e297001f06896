//! Subqueries in expressions, wherever they stand: as joins, with SQL's three truth values.
//!
//! Source: Neumann, Kemper, "Unnesting Arbitrary Queries" (BTW 2015): a subquery that depends on its row is joined with
//! the distinct values that it depends on, and this join is pushed down to where they are used.
//!
//! ```text
//!  SELECT e(S) FROM i       ─> SELECT e(s.v) FROM i LEFT JOIN s ON i.c = s.c      (nulls are equal)
//!    D = DISTINCT c of i       s = SELECT c, v(…) FROM D × S GROUP BY c           ([`domain`] pushes D down)
//!
//!  S as a value       v = its one row's value; of more rows 21000
//!  EXISTS S           v = count(*)                                         ─> (v > 0) IS TRUE
//!  x op ANY S, x IN S v = bool_or(x op S), n = bool_or(x op S IS NULL)     ─> CASE WHEN v THEN true WHEN n THEN null …
//!  x op ALL S         v = bool_or(NOT x op S), n as above                  ─> CASE WHEN v THEN false WHEN n THEN null …
//! ```
//! # Invariants
//! * U1 What a statement answers is what PostgreSQL's nested loop answers; an error too, as far as each row of the input
//!   has its subquery evaluated (PostgreSQL leaves out those under a branch of CASE that is not taken).
//! * U2 Semi- and antijoins that DataFusion makes well are left to it: `EXISTS` and `IN` that only AND and OR
//!   connect in a WHERE (null is as good as false there), `NOT IN` that only AND connects, of what does not depend.
//!
//! # Limits
//! A comparison with `ANY` or `ALL` takes distinct values × rows. What depends inside a full or right join, a UNION, an
//! INTERSECT or GROUPING SETS is refused.

mod domain;
mod single;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{
    Column, DFSchema, JoinType, NullEquality, Result, ScalarValue, not_impl_err, plan_err,
};
use datafusion::functions_aggregate::bool_and_or::bool_or;
use datafusion::functions_aggregate::count::count;
use datafusion::logical_expr::expr::{Case, Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::{Join, Subquery};
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{
    BinaryExpr, Expr, LogicalPlan, LogicalPlanBuilder, Operator, lit, not,
};
use datafusion::optimizer::AnalyzerRule;

use self::domain::{Domain, depends_of, is_plain};

/// The analyzer's rule; it goes after types are coerced.
#[derive(Debug, Default)]
pub(crate) struct Unnest {
    /// Numbers the relations that it makes.
    next: AtomicUsize,
}

impl AnalyzerRule for Unnest {
    fn name(&self) -> &'static str {
        "unnest"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| self.node(plan)).map(|done| done.data)
    }
}

/// What connects an expression with the WHERE that it stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Only AND.
    Conjunct,
    /// AND and OR.
    Condition,
    Value,
}

/// The subquery of an expression, if it is one.
fn subquery_of(expr: &Expr) -> Option<&Subquery> {
    match expr {
        Expr::ScalarSubquery(subquery)
        | Expr::Exists(Exists { subquery, .. })
        | Expr::InSubquery(InSubquery { subquery, .. })
        | Expr::SetComparison(SetComparison { subquery, .. }) => Some(subquery),
        _ => None,
    }
}

fn has_subquery(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(subquery_of(expr).is_some())).unwrap_or(true)
}

impl Unnest {
    fn number(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// One node, whose inputs and subqueries are done.
    fn node(&self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let exprs = plan.expressions();
        if !exprs.iter().any(has_subquery) {
            return Ok(Transformed::no(plan));
        }
        if let LogicalPlan::Join(join) = plan {
            return self.join(join);
        }
        let inputs = plan.inputs();
        let &[input] = inputs.as_slice() else { return Ok(Transformed::no(plan)) };
        let place = match &plan {
            LogicalPlan::Filter(_) => Place::Conjunct,
            _ => Place::Value,
        };
        let mut joined = Joined { rule: self, plan: input.clone(), is_changed: false };
        let names = NamePreserver::new(&plan);
        let exprs = exprs.into_iter().map(|expr| {
            let name = names.save(&expr);
            joined.replaced(expr, place).map(|expr| name.restore(expr))
        });
        let exprs = exprs.collect::<Result<Vec<_>>>()?;
        if !joined.is_changed {
            return Ok(Transformed::no(plan));
        }
        let columns: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let new = plan.with_new_exprs(exprs, vec![joined.plan])?;
        if new.schema().fields().len() == columns.len() {
            return Ok(Transformed::yes(new));
        }
        LogicalPlanBuilder::from(new).project(columns)?.build().map(Transformed::yes)
    }

    /// The conditions of an inner join that have a subquery are a filter above it.
    fn join(&self, mut join: Join) -> Result<Transformed<LogicalPlan>> {
        if join.join_type != JoinType::Inner
            || join.null_equality != NullEquality::NullEqualsNothing
        {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        let mut conditions = Vec::new();
        let (above, on): (Vec<_>, Vec<_>) = join
            .on
            .into_iter()
            .partition(|(left, right)| has_subquery(left) || has_subquery(right));
        conditions.extend(above.into_iter().map(|(left, right)| left.eq(right)));
        let filters = join.filter.take().map(split_conjunction_owned).unwrap_or_default();
        let (above, filters): (Vec<_>, Vec<_>) = filters.into_iter().partition(has_subquery);
        conditions.extend(above);
        join.on = on;
        join.filter = filters.into_iter().reduce(Expr::and);
        let plan = LogicalPlan::Join(join);
        let Some(condition) = conditions.into_iter().reduce(Expr::and) else {
            return Ok(Transformed::no(plan));
        };
        let plan = LogicalPlanBuilder::from(plan).filter(condition)?.build()?;
        self.node(plan).map(|done| Transformed::yes(done.data))
    }
}

/// The input of a node with what its subqueries gave beside it.
struct Joined<'a> {
    rule: &'a Unnest,
    plan: LogicalPlan,
    is_changed: bool,
}

impl Joined<'_> {
    /// An expression without subqueries but those that are DataFusion's (U2).
    fn replaced(&mut self, expr: Expr, place: Place) -> Result<Expr> {
        if !has_subquery(&expr) {
            return Ok(expr);
        }
        match expr {
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: op @ (Operator::And | Operator::Or),
                right,
            }) if place != Place::Value => {
                let place = if op == Operator::And { place } else { Place::Condition };
                let left = Box::new(self.replaced(*left, place)?);
                let right = Box::new(self.replaced(*right, place)?);
                Ok(Expr::BinaryExpr(BinaryExpr { left, op, right }))
            }
            expr if is_left(&expr, place) => Ok(expr),
            expr => expr.transform_up(|expr| self.value(expr)).map(|done| done.data),
        }
    }

    /// One subquery as a value; `expr` itself if it is none.
    fn value(&mut self, expr: Expr) -> Result<Transformed<Expr>> {
        let value = match expr {
            Expr::ScalarSubquery(subquery) => self.scalar(&subquery)?,
            Expr::Exists(Exists { subquery, negated }) => self.exists(&subquery, negated)?,
            Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                let found = self.compared(*expr, Operator::Eq, SetQuantifier::Any, &subquery)?;
                if negated { not(found) } else { found }
            }
            Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => {
                self.compared(*expr, op, quantifier, &subquery)?
            }
            other => return Ok(Transformed::no(other)),
        };
        self.is_changed = true;
        Ok(Transformed::yes(value))
    }

    fn scalar(&mut self, subquery: &Subquery) -> Result<Expr> {
        let domain = self.domain(subquery, None)?;
        let value = output(&subquery.subquery)?;
        let plan = domain.push(&subquery.subquery)?;
        let rows = LogicalPlanBuilder::from(plan);
        let rows = if domain::has_one_row(&subquery.subquery) {
            rows.project(domain.keys().into_iter().chain([value.alias("v")]))?
        } else {
            rows.aggregate(domain.keys(), [single::value(value).alias("v")])?
        };
        self.attach(&domain, rows).map(|relation| column(&relation, "v"))
    }

    fn exists(&mut self, subquery: &Subquery, negated: bool) -> Result<Expr> {
        let domain = self.domain(subquery, None)?;
        let rows = LogicalPlanBuilder::from(domain.push(&subquery.subquery)?)
            .aggregate(domain.keys(), [count(lit(1_i64)).alias("v")])?;
        let relation = self.attach(&domain, rows)?;
        let found = column(&relation, "v").gt(lit(0_i64));
        Ok(if negated { found.is_not_true() } else { found.is_true() })
    }

    fn compared(
        &mut self,
        left: Expr,
        op: Operator,
        quantifier: SetQuantifier,
        subquery: &Subquery,
    ) -> Result<Expr> {
        let domain = self.domain(subquery, Some(&left))?;
        let left = domain.bound(left, &DFSchema::empty())?;
        let right = output(&subquery.subquery)?;
        let holds = Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)));
        let decides = match quantifier {
            SetQuantifier::Any => holds.clone(),
            SetQuantifier::All => not(holds.clone()),
        };
        let plan = domain.push(&subquery.subquery)?;
        let all = [bool_or(decides).alias("v"), bool_or(holds.is_null()).alias("n")];
        let rows = LogicalPlanBuilder::from(plan).aggregate(domain.keys(), all)?;
        let relation = self.attach(&domain, rows)?;
        let found = quantifier == SetQuantifier::Any;
        let unknown = Expr::Literal(ScalarValue::Boolean(None), None);
        let branches = [("v", lit(found)), ("n", unknown)];
        let branches =
            branches.map(|(name, then)| (Box::new(column(&relation, name)), Box::new(then)));
        Ok(Expr::Case(Case::new(None, branches.to_vec(), Some(Box::new(lit(!found))))))
    }

    /// The columns of the input that a subquery, and what is compared with it, depend on.
    fn domain(&self, subquery: &Subquery, compared: Option<&Expr>) -> Result<Domain> {
        if subquery.subquery.schema().fields().len() != 1 && compared.is_some() {
            return plan_err!("subquery has too many columns");
        }
        let input = self.plan.schema();
        let mut columns: Vec<Column> = Vec::new();
        let depends = depends_of(&subquery.subquery)?;
        let compared = compared.map(Expr::column_refs).unwrap_or_default();
        for column in depends.iter().chain(compared) {
            if input.has_column(column) && !columns.contains(column) {
                columns.push(column.clone());
            }
        }
        columns.sort_unstable();
        Domain::new(self.rule.number(), columns, &self.plan)
    }

    /// Joins what a subquery gave with the input; gives its name.
    fn attach(&mut self, domain: &Domain, rows: LogicalPlanBuilder) -> Result<String> {
        let relation = format!("__subquery{}", self.rule.number());
        let rows = rows.alias(relation.as_str())?.build()?;
        let plan = if domain.columns.is_empty() {
            LogicalPlanBuilder::from(self.plan.clone()).cross_join(rows)?
        } else {
            let keys = domain.key_names();
            let keys = keys.map(|key| Column::new(Some(relation.as_str()), key));
            let on = domain.columns.iter().cloned().zip(keys).collect();
            domain::join_same(self.plan.clone(), rows, on)?
        };
        self.plan = plan.build()?;
        Ok(relation)
    }
}

/// Whether DataFusion makes a join of an expression, and a right one (U2).
fn is_left(expr: &Expr, place: Place) -> bool {
    match expr {
        Expr::Exists(Exists { subquery, .. }) => {
            place != Place::Value && is_plain(&subquery.subquery)
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            let depends = || depends_of(&subquery.subquery).is_ok_and(|found| !found.is_empty());
            !has_subquery(expr)
                && is_plain(&subquery.subquery)
                && match place {
                    Place::Value => false,
                    Place::Condition => !negated,
                    Place::Conjunct => !negated || !depends(),
                }
        }
        _ => false,
    }
}

fn column(relation: &str, name: &str) -> Expr {
    Expr::Column(Column::new(Some(relation), name))
}

/// The first column of a plan.
fn output(plan: &Arc<LogicalPlan>) -> Result<Expr> {
    match plan.schema().columns().as_slice() {
        [first] => Ok(Expr::Column(first.clone())),
        [] => not_impl_err!("a subquery without columns"),
        _ => plan_err!("subquery must return only one column"),
    }
}
