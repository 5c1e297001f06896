//! Columns of GROUPING SETS, of which nothing is known.
//!
//! DataFusion takes a column that a filter makes constant, or that is sorted, for such in the sets that leave it out, too,
//! where it is null: it then leaves out sorting by it. A volatile function around it hides that.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::common::{Column, Result, exec_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::logical_plan::Aggregate;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// An aggregate over columns that are hidden where its grouping sets name them; itself without such.
pub(super) fn grouped(mut aggregate: Aggregate) -> Result<Aggregate> {
    let mut hidden: Vec<Column> = Vec::new();
    for expr in &aggregate.group_expr {
        let Expr::GroupingSet(_) = expr else { continue };
        expr.apply(|expr| {
            hidden.extend(expr.try_as_col().cloned());
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    if hidden.is_empty() {
        return Ok(aggregate);
    }
    let columns = aggregate.input.schema().columns().into_iter().map(|column| {
        if !hidden.contains(&column) {
            return Expr::Column(column);
        }
        let (relation, name) = (column.relation.clone(), column.name.clone());
        let call = ScalarFunction::new_udf(Arc::clone(&OPAQUE), vec![Expr::Column(column)]);
        Expr::ScalarFunction(call).alias_qualified(relation, name)
    });
    let columns: Vec<Expr> = columns.collect();
    let input = LogicalPlanBuilder::from(LogicalPlan::clone(&aggregate.input));
    aggregate.input = Arc::new(input.project(columns)?.build()?);
    Ok(aggregate)
}

static OPAQUE: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let signature = Signature::any(1, Volatility::Volatile);
    Arc::new(ScalarUDF::new_from_impl(Opaque { signature }))
});

#[derive(Debug, PartialEq, Eq, Hash)]
struct Opaque {
    signature: Signature,
}

impl ScalarUDFImpl for Opaque {
    fn name(&self) -> &'static str {
        "opaque"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.first().cloned().unwrap_or(DataType::Null))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let Some(field) = args.arg_fields.first() else { return exec_err!("a column was planned") };
        Ok(Arc::clone(field))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(value) = args.args.into_iter().next() else {
            return exec_err!("a column was planned");
        };
        Ok(value)
    }
}
