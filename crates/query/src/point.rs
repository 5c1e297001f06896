//! One row by its whole primary key, without a query engine around it.
//!
//! ```text
//!  SELECT columns FROM t WHERE key = constant | $n [AND …]  ── seen when it is planned ─> Point
//!       ── executed ─> key's bytes ─> one read of the snapshot ─> one batch
//! ```
//! Bound: two reads of a B-tree (the definition's and the row's) and the copy of a row, a few microseconds; what a client
//! sees beyond that is its socket.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};
use quipu_state::RowRead as _;
use quipu_types::table::TableDef;

use crate::error::SqlError;
use crate::fault;
use crate::tables::{self, Snapshot, Want};

/// A query of one row by its key.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    def: Arc<TableDef>,
    /// By column of the primary key.
    key: Vec<Operand>,
    columns: Vec<usize>,
    schema: SchemaRef,
}

#[derive(Clone, Debug)]
enum Operand {
    Constant(ScalarValue),
    /// 0-based.
    Parameter(usize),
}

impl Point {
    /// The query of a plan, if it is one.
    pub(crate) fn of_plan(plan: &LogicalPlan) -> Option<Self> {
        let LogicalPlan::Projection(projection) = plan else { return None };
        let LogicalPlan::Filter(filter) = projection.input.as_ref() else { return None };
        let scan = match filter.input.as_ref() {
            LogicalPlan::SubqueryAlias(alias) => alias.input.as_ref(),
            other => other,
        };
        let LogicalPlan::TableScan(scan) = scan else { return None };
        if scan.projection.is_some() || !scan.filters.is_empty() || scan.fetch.is_some() {
            return None;
        }
        let def = tables::def_of(&scan.source)?;
        let spec = def.table()?;
        let mut equal: Vec<(u16, Operand)> = Vec::new();
        collect(&filter.predicate, &def, &mut equal)?;
        let key: Vec<Operand> = spec
            .primary_key
            .iter()
            .filter_map(|column| equal.iter().find(|(own, _)| own == column))
            .map(|(_, operand)| operand.clone())
            .collect();
        if key.is_empty() || key.len() != spec.primary_key.len() || equal.len() != key.len() {
            return None;
        }
        let columns: Vec<usize> = projection
            .expr
            .iter()
            .map(|expr| spec.schema.index_of(name_of(expr)?))
            .collect::<Option<_>>()?;
        let distinct: BTreeSet<usize> = columns.iter().copied().collect();
        if distinct.len() != columns.len() {
            return None;
        }
        let all = tables::schema_of(spec, Want::Rows);
        let fields: Vec<_> =
            columns.iter().filter_map(|column| all.fields().get(*column)).cloned().collect();
        let schema = Arc::new(Schema::new(fields));
        Some(Self { def, key, columns, schema })
    }

    /// The row, or none; `None` where a value is of a kind that this does not know.
    pub(crate) fn read(
        &self,
        snapshot: &Snapshot,
        values: &[ScalarValue],
    ) -> Option<Result<RecordBatch, SqlError>> {
        let operands = self.key.iter().map(|operand| match operand {
            Operand::Constant(value) => Some(value),
            Operand::Parameter(index) => values.get(*index),
        });
        let key = tables::row_key(&self.def, operands)?;
        snapshot.note(|log| log.key(self.def.id, key.clone()));
        let spec = self.def.table()?;
        let row = match snapshot.get(&key) {
            Ok(row) => row,
            Err(error) => return Some(Err(fault::failed(&error))),
        };
        let rows = row.map(|row| (key, row)).into_iter().collect();
        let batch = tables::batch_of(spec, &self.columns, &self.schema, &rows);
        Some(batch.map_err(|error| SqlError::from_datafusion(&error, "")))
    }
}

/// The equalities of a filter that is nothing but them.
fn collect(filter: &Expr, def: &TableDef, all: &mut Vec<(u16, Operand)>) -> Option<()> {
    let Expr::BinaryExpr(binary) = filter else { return None };
    match binary.op {
        Operator::And => {
            collect(&binary.left, def, all)?;
            collect(&binary.right, def, all)
        }
        Operator::Eq => {
            let (column, operand) = match (name_of(&binary.left), name_of(&binary.right)) {
                (Some(column), None) => (column, operand_of(&binary.right)?),
                (None, Some(column)) => (column, operand_of(&binary.left)?),
                _ => return None,
            };
            let place = def.table()?.schema.index_of(column)?;
            all.push((u16::try_from(place).ok()?, operand));
            Some(())
        }
        _ => None,
    }
}

fn name_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(&column.name),
        Expr::Alias(alias) => name_of(&alias.expr),
        _ => None,
    }
}

fn operand_of(expr: &Expr) -> Option<Operand> {
    match expr {
        Expr::Literal(value, _) if !value.is_null() => Some(Operand::Constant(value.clone())),
        Expr::Placeholder(placeholder) => {
            let number: usize = placeholder.id.strip_prefix('$')?.parse().ok()?;
            Some(Operand::Parameter(number.checked_sub(1)?))
        }
        // The value comes as what the client says it is.
        Expr::Cast(cast) => match cast.expr.as_ref() {
            inner @ Expr::Placeholder(_) => operand_of(inner),
            _ => None,
        },
        _ => None,
    }
}
