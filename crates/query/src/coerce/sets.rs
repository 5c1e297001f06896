//! Rows of one form from several places: VALUES, set operations, recursion.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, JoinType, NullEquality, Result};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, WindowFunction};
use datafusion::logical_expr::logical_plan::{
    Distinct, Join, RecursiveQuery, Subquery, TableScan, TableScanBuilder, Values,
};
use datafusion::logical_expr::{
    Expr, ExprFunctionExt as _, ExprSchemable as _, LogicalPlan, LogicalPlanBuilder, Union,
};

use super::{Types, check_match, is_unknown};

/// The number of a row among those that are equal to it.
const NUMBER: &str = "__number";

/// VALUES: a column of nothing but int4 is one.
pub(super) fn values(values: Values) -> Result<LogicalPlan> {
    let empty = DFSchema::empty();
    let types = Types { schema: &empty, is_strict: true };
    let rows = values
        .values
        .into_iter()
        .map(|row| row.into_iter().map(|expr| types.all(expr).map(|done| done.data)).collect());
    let mut rows = rows.collect::<Result<Vec<Vec<Expr>>>>()?;
    let mut fields = Vec::with_capacity(values.schema.fields().len());
    for (place, (relation, field)) in values.schema.iter().enumerate() {
        let mut widest = DataType::Null;
        for row in &rows {
            let own = row.get(place).map_or(Ok(DataType::Null), |expr| expr.get_type(&empty))?;
            if own != DataType::Null && !has_null(row, place) && widest != DataType::Int64 {
                widest = own;
            }
        }
        let narrows = *field.data_type() == DataType::Int64 && widest == DataType::Int32;
        let wanted = if narrows { DataType::Int32 } else { field.data_type().clone() };
        for expr in rows.iter_mut().filter_map(|row| row.get_mut(place)) {
            if expr.get_type(&empty)? != wanted {
                *expr = std::mem::take(expr).cast_to(&wanted, &empty)?;
            }
        }
        // What it says of nulls is not to be relied on: a null of a key is refused where it is written.
        let nullable = field.is_nullable() || rows.iter().any(|row| has_null(row, place));
        let field =
            Field::new(field.name(), wanted, nullable).with_metadata(field.metadata().clone());
        fields.push((relation.cloned(), Arc::new(field)));
    }
    let schema = DFSchema::new_with_metadata(fields, values.schema.metadata().clone())?;
    Ok(LogicalPlan::Values(Values { schema: Arc::new(schema), values: rows }))
}

fn has_null(row: &[Expr], place: usize) -> bool {
    let null = |expr: &Expr| matches!(expr, Expr::Literal(value, _) if value.is_null());
    row.get(place).is_some_and(|expr| match expr {
        Expr::Cast(cast) => null(&cast.expr),
        other => null(other),
    })
}

/// Whether the columns of a UNION can be of one type each.
pub(super) fn check_union(union: &Union) -> Result<()> {
    for place in 0..union.schema.fields().len() {
        let mut first: Option<DataType> = None;
        for input in &union.inputs {
            let Some(field) = input.schema().fields().get(place) else { continue };
            let is_unknown = match input.as_ref() {
                LogicalPlan::Projection(projection) => {
                    projection.expr.get(place).is_some_and(is_unknown)
                }
                _ => false,
            };
            match &first {
                _ if is_unknown => {}
                None => first = Some(field.data_type().clone()),
                Some(first) => check_match("UNION", first, field.data_type())?,
            }
        }
    }
    Ok(())
}

/// A recursive query: its second part reads rows of the types that its first has by now.
pub(super) fn recursive(query: RecursiveQuery) -> Result<LogicalPlan> {
    let RecursiveQuery { name, static_term, recursive_term, is_distinct, .. } = query;
    let schema: SchemaRef = Arc::new(static_term.schema().as_arrow().clone());
    let term = Arc::unwrap_or_clone(recursive_term).transform_up_with_subqueries(|plan| {
        let plan = match plan {
            LogicalPlan::TableScan(scan) => LogicalPlan::TableScan(scan_of(scan, &name, &schema)?),
            other => other.recompute_schema()?,
        };
        Ok(Transformed::yes(plan))
    })?;
    let term = Arc::new(term.data);
    RecursiveQuery::try_new(name, static_term, term, is_distinct).map(LogicalPlan::RecursiveQuery)
}

fn scan_of(scan: TableScan, name: &str, schema: &SchemaRef) -> Result<TableScan> {
    let provider = source_as_provider(&scan.source)?;
    let provider: &dyn std::any::Any = provider.as_ref();
    let Some(table) = provider.downcast_ref::<CteWorkTable>().filter(|table| table.name() == name)
    else {
        return Ok(scan);
    };
    let known = table.schema();
    let fields = schema
        .fields()
        .iter()
        .zip(known.fields())
        .map(|(now, field)| field.as_ref().clone().with_data_type(now.data_type().clone()));
    let schema = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
    let source = provider_as_source(Arc::new(CteWorkTable::new(name, schema)));
    TableScanBuilder::new(scan.table_name, source)
        .with_projection(scan.projection)
        .with_filters(scan.filters)
        .with_fetch(scan.fetch)
        .build()
}

/// Whether a join is what DataFusion makes of `EXCEPT ALL` or `INTERSECT ALL`.
pub(super) fn counts(join: &Join) -> bool {
    matches!(join.join_type, JoinType::LeftAnti | JoinType::LeftSemi)
        && join.null_equality == NullEquality::NullEqualsNull
        && !matches!(join.left.as_ref(), LogicalPlan::Distinct(Distinct::All(_)))
}

/// That join, of rows that are numbered among those that are equal.
pub(super) fn counted(join: Join) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = join.left.schema().columns().into_iter().map(Expr::Column).collect();
    let number = |plan: &LogicalPlan| {
        let all = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let number = Expr::from(WindowFunction::new(row_number_udwf(), Vec::new()))
            .partition_by(all)
            .build()?
            .alias(NUMBER);
        LogicalPlanBuilder::from(plan.clone()).window([number])?.build()
    };
    let (left, right) = (number(&join.left)?, number(&join.right)?);
    let mut on = join.on.clone();
    let own = || Expr::Column(Column::new_unqualified(NUMBER));
    on.push((own(), own()));
    let joined = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        on,
        join.filter,
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?;
    LogicalPlanBuilder::from(LogicalPlan::Join(joined)).project(columns)?.build()
}

/// Changes the plan of a subquery; what is none stays.
pub(super) fn map_subquery(
    mut expr: Expr,
    change: impl Fn(LogicalPlan) -> Result<LogicalPlan>,
) -> Result<Transformed<Expr>> {
    let (Expr::ScalarSubquery(subquery)
    | Expr::Exists(Exists { subquery, .. })
    | Expr::InSubquery(InSubquery { subquery, .. })
    | Expr::SetComparison(SetComparison { subquery, .. })) = &mut expr
    else {
        return Ok(Transformed::no(expr));
    };
    let plan = change(LogicalPlan::clone(&subquery.subquery))?;
    let outer_ref_columns = plan.all_out_ref_exprs();
    let spans = subquery.spans.clone();
    *subquery = Subquery { subquery: Arc::new(plan), outer_ref_columns, spans };
    Ok(Transformed::yes(expr))
}
