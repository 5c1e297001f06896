//! Statements that are compiled to be run later, with arguments that nobody knows yet: those of procedures.
//!
//! Nothing is run here, so nothing may be left to run: what does not compile is refused. The time is that of the height
//! that a call is executed at.

use std::cell::Cell;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{DFSchema, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr as Plan, LogicalPlan};
use quipu_types::ColumnType;
use quipu_types::program::{Conflict, Expr as Compiled, Op, ROW_COUNT_MAX};
use quipu_types::table::TableSpec;

use super::assignments::as_column;
use super::{Change, Dml, OnRival, Verb, coerced, folded, table_of};
use crate::compile;
use crate::error::SqlError;

/// An extension of a planner's configuration: what it folds has no time of its own.
#[derive(Debug)]
pub(crate) struct Lasting;

fn uncompiled(what: &str) -> SqlError {
    SqlError::unsupported(&format!("{what} in a procedure")).hint(
        "a procedure's statements change the rows of one table by its columns, arguments, constants, operators and simple \
         functions: no subqueries, no other tables, no floats",
    )
}

/// The operation of a statement whose plan has arguments of these types.
pub(crate) fn op(
    state: &SessionState,
    dml: &Dml,
    plan: Option<LogicalPlan>,
    kinds: &[ColumnType],
) -> std::result::Result<Op, SqlError> {
    let failed = |error| SqlError::from_datafusion(&error, "");
    let open = |plan: LogicalPlan| {
        with_arguments(plan, kinds).and_then(|plan| coerced(state, plan, Vec::new()))
    };
    let spec = table_of(&dml.target)?;
    let plan = plan.map(open).transpose().map_err(failed)?;
    let (verb, plan) = match (&dml.verb, plan) {
        (Verb::Insert { columns, conflict }, plan) => {
            let conflict = match conflict {
                OnRival::Update(target, places, values) => {
                    let values = with_arguments(LogicalPlan::clone(values), kinds);
                    OnRival::Update(*target, places.clone(), Box::new(values.map_err(failed)?))
                }
                other => other.clone(),
            };
            let mut conflict = super::conflict(state, spec, &conflict, &[])?;
            if let Conflict::Update { sets, .. } = &mut conflict {
                sets.extend(dml.defaults.iter().cloned());
            }
            let rows = match plan {
                None => vec![Vec::new()],
                Some(plan) => rows(state, spec, columns, &plan)?,
            };
            return Ok(Op::Insert { columns: columns.clone(), rows, conflict });
        }
        (Verb::Joined { sets }, _) if sets.is_empty() => return Err(uncompiled("DELETE … USING")),
        (Verb::Joined { .. }, _) => return Err(uncompiled("UPDATE … FROM")),
        (verb, Some(plan)) => (verb, plan),
        (_, None) => return Err(uncompiled("this statement")),
    };
    let change = match verb {
        Verb::Update => super::update(state, &plan, spec, &dml.owner)?,
        _ => super::delete(state, &plan, spec)?,
    };
    match change {
        Change::Op(mut op) => {
            if let Op::Update { sets, .. } = &mut op {
                sets.extend(dml.defaults.iter().cloned());
            }
            Ok(op)
        }
        Change::Run { .. } => Err(uncompiled("this form of UPDATE or DELETE")),
    }
}

/// Says of every parameter of a plan that it is an argument, and of which type.
fn with_arguments(plan: LogicalPlan, kinds: &[ColumnType]) -> Result<LogicalPlan> {
    let argument = |expr: Plan| {
        let Plan::Placeholder(mut placeholder) = expr else { return Ok(Transformed::no(expr)) };
        let number = placeholder.id.strip_prefix('$').and_then(|id| id.parse::<usize>().ok());
        let kind = number.and_then(|number| kinds.get(number.checked_sub(1)?));
        placeholder.field = kind.map(|kind| Arc::new(compile::argument_field(*kind)));
        Ok(Transformed::yes(Plan::Placeholder(placeholder)))
    };
    let node = |node: LogicalPlan| node.map_expressions(|expr| expr.transform(argument));
    Ok(plan.transform_up_with_subqueries(node)?.data)
}

/// The rows of an INSERT's source, compiled.
fn rows(
    state: &SessionState,
    spec: &TableSpec,
    columns: &[u16],
    plan: &LogicalPlan,
) -> std::result::Result<Vec<Vec<Compiled>>, SqlError> {
    let failed = |error| SqlError::from_datafusion(&error, "");
    let given = given(plan).map_err(failed)?;
    let given = given.ok_or_else(|| uncompiled("INSERT … SELECT from tables"))?;
    let (made, nothing) = (Cell::new(0), Arc::new(DFSchema::empty()));
    let row = |values: Vec<Plan>| {
        let compiled = |place: &u16| {
            let value = values.get(usize::from(*place)).ok_or_else(|| uncompiled("this INSERT"))?;
            let value = folded(state, value, &nothing).map_err(failed)?;
            let compiled = compile::open(&value, &nothing, &made);
            as_column(spec, *place, compiled.ok_or_else(|| uncompiled("this value"))?)
        };
        columns.iter().map(compiled).collect()
    };
    given.into_iter().map(row).collect()
}

/// The expressions of each row that a plan gives; none where it reads something.
fn given(plan: &LogicalPlan) -> Result<Option<Vec<Vec<Plan>>>> {
    Ok(match plan {
        LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => Some(vec![Vec::new()]),
        LogicalPlan::Values(values) => Some(values.values.clone()),
        LogicalPlan::SubqueryAlias(alias) => given(&alias.input)?,
        LogicalPlan::Union(union) => {
            let mut all = Vec::new();
            for input in &union.inputs {
                let Some(rows) = given(input)? else { return Ok(None) };
                all.extend(rows);
                if all.len() > ROW_COUNT_MAX {
                    return Ok(None);
                }
            }
            Some(all)
        }
        LogicalPlan::Projection(projection) => {
            let Some(rows) = given(&projection.input)? else { return Ok(None) };
            let schema = projection.input.schema();
            let row = |values: Vec<Plan>| -> Result<Vec<Plan>> {
                let exprs = projection.expr.iter().cloned();
                exprs.map(|expr| in_place(expr, schema, &values)).collect()
            };
            Some(rows.into_iter().map(row).collect::<Result<_>>()?)
        }
        _ => None,
    })
}

/// An expression with a row's own in the place of its columns.
fn in_place(expr: Plan, schema: &DFSchema, values: &[Plan]) -> Result<Plan> {
    let place = |expr: Plan| {
        let Plan::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
        let value = schema.maybe_index_of_column(column).and_then(|place| values.get(place));
        Ok(match value {
            // What is put in has columns of nothing.
            Some(value) => Transformed::new(
                value.clone().unalias(),
                true,
                datafusion::common::tree_node::TreeNodeRecursion::Jump,
            ),
            None => Transformed::no(expr),
        })
    };
    expr.transform_down(place).map(|done| done.data)
}
