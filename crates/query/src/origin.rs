//! Where a column of an answer comes from: the table and its column, as `RowDescription` says them.
//!
//! A column is followed through what only passes it on; one that is computed comes from nowhere.

use std::any::Any;
use std::sync::Arc;

use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, JoinType, LogicalPlan, TableSource};

use crate::pg_catalog;
use crate::scan::StoredTable;
use crate::tables;

/// The number of the table that a plan's column comes from, and that of the table's column, from 1.
pub(crate) fn of(plan: &LogicalPlan, index: usize) -> Option<(u32, i16)> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let mut expr = projection.expr.get(index)?;
            while let Expr::Alias(alias) = expr {
                expr = &alias.expr;
            }
            let Expr::Column(column) = expr else { return None };
            of(&projection.input, projection.input.schema().maybe_index_of_column(column)?)
        }
        LogicalPlan::Filter(filter) => of(&filter.input, index),
        LogicalPlan::Sort(sort) => of(&sort.input, index),
        LogicalPlan::Limit(limit) => of(&limit.input, index),
        LogicalPlan::SubqueryAlias(alias) => of(&alias.input, index),
        LogicalPlan::Join(join)
            if matches!(
                join.join_type,
                JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full
            ) =>
        {
            let width = join.left.schema().fields().len();
            match index.checked_sub(width) {
                None => of(&join.left, index),
                Some(index) => of(&join.right, index),
            }
        }
        LogicalPlan::TableScan(scan) => {
            let place = match &scan.projection {
                Some(places) => *places.get(index)?,
                None => index,
            };
            let place = i16::try_from(place).ok()?.checked_add(1)?;
            Some((table(&scan.source)?, place))
        }
        _ => None,
    }
}

fn table(source: &Arc<dyn TableSource>) -> Option<u32> {
    if let Some(def) = tables::def_of(source) {
        return Some(pg_catalog::table_oid(def.id));
    }
    let provider = source_as_provider(source).ok()?;
    let provider: &dyn Any = provider.as_ref();
    let stream = provider.downcast_ref::<StoredTable>()?;
    Some(pg_catalog::named_oid(&stream.def.key))
}
