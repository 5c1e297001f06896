//! The distinct values that a subquery depends on, and the subquery's rows for each of them.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{
    Column, DFSchema, DataFusionError, ExprSchema as _, JoinType, NullEquality, Result,
    ScalarValue, TableReference,
};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::{AggregateFunction, GroupingSet, WindowFunction};
use datafusion::logical_expr::logical_plan::{
    Aggregate, Distinct, FetchType, Join, Limit, SkipType, Subquery, SubqueryAlias, Window,
};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Expr, ExprFunctionExt as _, LogicalPlan, LogicalPlanBuilder, SortExpr, lit,
};

use super::subquery_of;

/// Distinct values of columns of an input, as a relation of their own.
#[derive(Clone, Debug)]
pub(super) struct Domain {
    /// Columns of the input.
    pub(super) columns: Vec<Column>,
    relation: TableReference,
    /// None where there are no columns.
    plan: Option<LogicalPlan>,
}

fn unsupported(what: &str) -> DataFusionError {
    DataFusionError::NotImplemented(format!("a subquery that depends on its row inside {what}"))
}

impl Domain {
    pub(super) fn new(number: usize, columns: Vec<Column>, input: &LogicalPlan) -> Result<Self> {
        let relation = TableReference::bare(format!("__domain{number}"));
        let values = columns.iter().cloned().map(Expr::Column).collect();
        let plan = match columns.as_slice() {
            [] => None,
            _ => Some(named(LogicalPlanBuilder::from(input.clone()), values, &relation, true)?),
        };
        Ok(Self { columns, relation, plan })
    }

    /// The same values under another name.
    fn renamed(&self, name: &str) -> Result<Self> {
        let relation = TableReference::bare(format!("{}{name}", self.relation.table()));
        let plan = self
            .plan
            .clone()
            .map(|plan| named(LogicalPlanBuilder::from(plan), self.keys(), &relation, false));
        Ok(Self { columns: self.columns.clone(), plan: plan.transpose()?, relation })
    }

    /// The names of the values, which no other relation has.
    pub(super) fn key_names(&self) -> impl Iterator<Item = String> {
        key_names(&self.relation).take(self.columns.len())
    }

    fn key_columns(&self) -> Vec<Column> {
        self.key_names().map(|name| Column::new(Some(self.relation.clone()), name)).collect()
    }

    /// The values as expressions.
    pub(super) fn keys(&self) -> Vec<Expr> {
        self.key_columns().into_iter().map(Expr::Column).collect()
    }

    fn key_of(&self, column: &Column) -> Option<Column> {
        let number = self.columns.iter().position(|own| own == column)?;
        self.key_columns().into_iter().nth(number)
    }

    /// An expression over the values; `inside` are the columns that hide those of the same name from its subqueries.
    pub(super) fn bound(&self, expr: Expr, inside: &DFSchema) -> Result<Expr> {
        let bound = expr.transform_up(|expr| match expr {
            Expr::OuterReferenceColumn(field, column) => Ok(match self.key_of(&column) {
                Some(key) => Transformed::yes(Expr::Column(key)),
                None => Transformed::no(Expr::OuterReferenceColumn(field, column)),
            }),
            Expr::Column(column) if !inside.has_column(&column) => Ok(match self.key_of(&column) {
                Some(key) => Transformed::yes(Expr::Column(key)),
                None => Transformed::no(Expr::Column(column)),
            }),
            mut other => {
                let Some(subquery) = subquery_mut(&mut other) else {
                    return Ok(Transformed::no(other));
                };
                *subquery = self.bound_subquery(subquery, inside)?;
                Ok(Transformed::yes(other))
            }
        });
        bound.map(|done| done.data)
    }

    /// A subquery within the one that is pushed into: it depends on the values where it depended on the input.
    fn bound_subquery(&self, subquery: &Subquery, inside: &DFSchema) -> Result<Subquery> {
        let rename = |expr: Expr| match expr {
            Expr::OuterReferenceColumn(field, column) if !inside.has_column(&column) => {
                Ok(match self.key_of(&column) {
                    Some(key) => Transformed::yes(Expr::OuterReferenceColumn(field, key)),
                    None => Transformed::no(Expr::OuterReferenceColumn(field, column)),
                })
            }
            other => Ok(Transformed::no(other)),
        };
        let plan = LogicalPlan::clone(&subquery.subquery);
        let plan = plan.transform_up_with_subqueries(|plan| {
            plan.map_expressions(|expr| expr.transform_up(rename))
        })?;
        let outer = subquery.outer_ref_columns.iter().cloned();
        let outer = outer.map(|expr| expr.transform_up(rename).map(|done| done.data));
        Ok(Subquery {
            subquery: Arc::new(plan.data),
            outer_ref_columns: outer.collect::<Result<_>>()?,
            spans: subquery.spans.clone(),
        })
    }

    /// Rows of `plan` for each of the values, which stand before them.
    pub(super) fn push(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        let Some(own) = &self.plan else { return Ok(plan.clone()) };
        let depends = depends_of(plan)?;
        if !depends.iter().any(|column| self.columns.contains(column)) {
            return LogicalPlanBuilder::from(own.clone()).cross_join(plan.clone())?.build();
        }
        match plan {
            LogicalPlan::Projection(projection) => {
                let input = self.push(&projection.input)?;
                let exprs = self.all_bound(&projection.expr, projection.input.schema())?;
                let exprs = self.keys().into_iter().chain(exprs);
                LogicalPlanBuilder::from(input).project(exprs.collect::<Vec<_>>())?.build()
            }
            LogicalPlan::Filter(filter) => {
                let predicate = self.bound(filter.predicate.clone(), filter.input.schema())?;
                LogicalPlanBuilder::from(self.push(&filter.input)?).filter(predicate)?.build()
            }
            LogicalPlan::SubqueryAlias(alias) => self.push_alias(alias),
            LogicalPlan::Aggregate(aggregate) => self.push_aggregate(aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                LogicalPlanBuilder::from(self.push(input)?).distinct()?.build()
            }
            // Which row comes first matters to LIMIT only, which sees to it.
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.push(&sort.input),
            LogicalPlan::Limit(limit) => self.push_limit(limit),
            LogicalPlan::Window(window) => self.push_window(window),
            LogicalPlan::Join(join) => self.push_join(join),
            LogicalPlan::Subquery(subquery) => self.push(&subquery.subquery),
            other => Err(unsupported(&other.display().to_string())),
        }
    }

    fn all_bound(&self, exprs: &[Expr], inside: &DFSchema) -> Result<Vec<Expr>> {
        let named = exprs.iter().map(|expr| {
            let (relation, name) = expr.qualified_name();
            let bound = self.bound(expr.clone(), inside)?;
            Ok(if bound.qualified_name() == (relation.clone(), name.clone()) {
                bound
            } else {
                bound.alias_qualified(relation, name)
            })
        });
        named.collect()
    }

    fn push_alias(&self, alias: &SubqueryAlias) -> Result<LogicalPlan> {
        let input = self.push(&alias.input)?;
        let columns = alias.input.schema().columns().into_iter().zip(alias.schema.fields());
        let columns = columns.map(|(column, field)| {
            Expr::Column(column).alias_qualified(Some(alias.alias.clone()), field.name())
        });
        let exprs = self.keys().into_iter().chain(columns);
        LogicalPlanBuilder::from(input).project(exprs.collect::<Vec<_>>())?.build()
    }

    fn push_aggregate(&self, aggregate: &Aggregate) -> Result<LogicalPlan> {
        let inside = aggregate.input.schema();
        if matches!(
            aggregate.group_expr.as_slice(),
            [Expr::GroupingSet(
                GroupingSet::Rollup(_) | GroupingSet::Cube(_) | GroupingSet::GroupingSets(_)
            )]
        ) {
            return Err(unsupported("GROUPING SETS"));
        }
        let groups = self.all_bound(&aggregate.group_expr, inside)?;
        let aggregates = self.all_bound(&aggregate.aggr_expr, inside)?;
        let input = LogicalPlanBuilder::from(self.push(&aggregate.input)?);
        let is_global = groups.is_empty();
        let groups = self.keys().into_iter().chain(groups);
        let plan = input.aggregate(groups.collect::<Vec<_>>(), aggregates)?.build()?;
        if !is_global {
            return Ok(plan);
        }
        // Without groups there is a row where there is nothing to aggregate, too.
        let all = self.renamed("_all")?;
        let (Some(left), keys) = (all.plan.clone(), all.keys()) else { return Ok(plan) };
        let on: Vec<_> = all.key_columns().into_iter().zip(self.key_columns()).collect();
        let named = keys.into_iter().zip(self.key_columns());
        let keys = named.map(|(key, own)| key.alias_qualified(own.relation, own.name));
        let columns = aggregate.schema.columns().into_iter().zip(&aggregate.aggr_expr);
        let columns = columns.map(|(column, expr)| of_nothing(column, expr, &aggregate.schema));
        let exprs = keys.map(Ok).chain(columns).collect::<Result<Vec<_>>>()?;
        join_same(left, plan, on)?.project(exprs)?.build()
    }

    fn push_limit(&self, limit: &Limit) -> Result<LogicalPlan> {
        let (SkipType::Literal(skip), FetchType::Literal(fetch)) =
            (limit.get_skip_type()?, limit.get_fetch_type()?)
        else {
            return Err(unsupported("LIMIT with an expression"));
        };
        // A limit above a projection is one below it, where the order is known.
        if let LogicalPlan::Projection(projection) = limit.input.as_ref() {
            let below = Limit { input: Arc::clone(&projection.input), ..limit.clone() };
            let below = LogicalPlan::Limit(below);
            let plan = LogicalPlanBuilder::from(below).project(projection.expr.clone())?.build()?;
            return self.push(&plan);
        }
        let (input, order): (_, &[SortExpr]) = match limit.input.as_ref() {
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => (sort.input.as_ref(), &sort.expr),
            other => (other, &[]),
        };
        let inside = input.schema();
        let order = order.iter().map(|sort| {
            let expr = self.bound(sort.expr.clone(), inside)?;
            Ok(SortExpr { expr, ..sort.clone() })
        });
        let order = order.collect::<Result<Vec<_>>>()?;
        let plan = self.push(input)?;
        let columns: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        let number = Expr::from(WindowFunction::new(row_number_udwf(), Vec::new()))
            .partition_by(self.keys())
            .order_by(order)
            .build()?
            .alias("__number");
        let size = |count: usize| lit(u64::try_from(count).unwrap_or(u64::MAX));
        let place = Expr::Column(Column::new_unqualified("__number"));
        let mut within = place.clone().gt(size(skip));
        if let Some(fetch) = fetch {
            within = within.and(place.lt_eq(size(skip.saturating_add(fetch))));
        }
        LogicalPlanBuilder::from(plan).window([number])?.filter(within)?.project(columns)?.build()
    }

    fn push_window(&self, window: &Window) -> Result<LogicalPlan> {
        let exprs = self.all_bound(&window.window_expr, window.input.schema())?;
        let exprs = exprs.into_iter().map(|expr| {
            let named = expr.qualified_name();
            let expr = expr.transform_up(|expr| match expr {
                Expr::WindowFunction(mut call) => {
                    call.params.partition_by.extend(self.keys());
                    Ok(Transformed::yes(Expr::WindowFunction(call)))
                }
                other => Ok(Transformed::no(other)),
            });
            expr.map(|done| done.data.unalias().alias_qualified(named.0, named.1))
        });
        let exprs = exprs.collect::<Result<Vec<_>>>()?;
        LogicalPlanBuilder::from(self.push(&window.input)?).window(exprs)?.build()
    }

    fn push_join(&self, join: &Join) -> Result<LogicalPlan> {
        use JoinType::{Inner, Left, LeftAnti, LeftSemi};
        if !matches!(join.join_type, Inner | Left | LeftSemi | LeftAnti)
            || join.null_equality != NullEquality::NullEqualsNothing
            || join.null_aware
        {
            return Err(unsupported("this kind of join"));
        }
        let left = self.push(&join.left)?;
        let is_of = |column: &Column| self.columns.contains(column);
        let (right, mut conditions) = if depends_of(&join.right)?.iter().any(is_of) {
            let own = self.renamed("_right")?;
            let pairs = self.keys().into_iter().zip(own.keys());
            let same = pairs.map(|(left, right)| {
                let op = datafusion::logical_expr::Operator::IsNotDistinctFrom;
                datafusion::logical_expr::binary_expr(left, op, right)
            });
            (own.push(&join.right)?, same.collect())
        } else {
            (LogicalPlan::clone(&join.right), Vec::new())
        };
        let inside = merge_schema(&[&join.left, &join.right]);
        for (left, right) in &join.on {
            conditions.push(self.bound(left.clone().eq(right.clone()), &inside)?);
        }
        if let Some(filter) = &join.filter {
            conditions.push(self.bound(filter.clone(), &inside)?);
        }
        let plan = LogicalPlanBuilder::from(left).join_on(right, join.join_type, conditions)?;
        let columns = join.schema.columns().into_iter().map(Expr::Column);
        let exprs = self.keys().into_iter().chain(columns);
        plan.project(exprs.collect::<Vec<_>>())?.build()
    }
}

fn key_names(relation: &TableReference) -> impl Iterator<Item = String> {
    let prefix = relation.table().to_owned();
    (0_u32..).map(move |number| format!("{prefix}_{number}"))
}

/// Values as a relation.
fn named(
    plan: LogicalPlanBuilder,
    values: Vec<Expr>,
    relation: &TableReference,
    is_distinct: bool,
) -> Result<LogicalPlan> {
    let values = values.into_iter().zip(key_names(relation));
    let values = values.map(|(value, name)| value.alias(name)).collect::<Vec<_>>();
    let plan = plan.project(values)?;
    let plan = if is_distinct { plan.distinct()? } else { plan };
    plan.alias(relation.clone())?.build()
}

/// A left join on columns that are equal or both null.
///
/// Not with nulls that equal nulls: DataFusion adds conditions to such a join whose nulls then are equal, too. And not
/// on expressions: it projects their sides under one name each, where columns of two tables may be called the same.
pub(super) fn join_same(
    left: LogicalPlan,
    right: LogicalPlan,
    on: Vec<(Column, Column)>,
) -> Result<LogicalPlanBuilder> {
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for (column, key) in on {
        let field = Arc::clone(left.schema().field_from_column(&column)?);
        let some = Expr::Literal(ScalarValue::new_default(field.data_type())?, None);
        let name = key.name.clone();
        for (side, column, keys) in [("left", column, &mut own), ("right", key, &mut other)] {
            let column = Expr::Column(column);
            let is_null = column.clone().is_null().alias(format!("{name}_{side}_null"));
            let value = coalesce(vec![column, some.clone()]).alias(format!("{name}_{side}"));
            keys.extend([is_null, value]);
        }
    }
    let with = |plan: LogicalPlan, keys: &[Expr]| {
        let columns = plan.schema().columns().into_iter().map(Expr::Column);
        let exprs: Vec<Expr> = columns.chain(keys.iter().cloned()).collect();
        LogicalPlanBuilder::from(plan).project(exprs)
    };
    let names = |keys: &[Expr]| {
        let names = keys.iter().map(|key| Column::new_unqualified(key.schema_name().to_string()));
        names.collect::<Vec<_>>()
    };
    let right = with(right, &other)?.build()?;
    with(left, &own)?.join(right, JoinType::Left, (names(&own), names(&other)), None)
}

/// What an aggregate is where there is nothing to aggregate: its column, or the value that stands for null.
fn of_nothing(column: Column, expr: &Expr, schema: &DFSchema) -> Result<Expr> {
    let (relation, name) = (column.relation.clone(), column.name.clone());
    let data_type = schema.field_from_column(&column)?.data_type().clone();
    let default = match expr.clone().unalias() {
        Expr::AggregateFunction(AggregateFunction { func, .. }) => {
            func.default_value(&data_type)?
        }
        _ => ScalarValue::Null,
    };
    let column = Expr::Column(column);
    if default.is_null() {
        return Ok(column);
    }
    let value = coalesce(vec![column, Expr::Literal(default, None)]);
    Ok(value.alias_qualified(relation, name))
}

fn subquery_mut(expr: &mut Expr) -> Option<&mut Subquery> {
    match expr {
        Expr::ScalarSubquery(subquery) => Some(subquery),
        Expr::Exists(exists) => Some(&mut exists.subquery),
        Expr::InSubquery(within) => Some(&mut within.subquery),
        Expr::SetComparison(comparison) => Some(&mut comparison.subquery),
        _ => None,
    }
}

/// The columns of rows around it that a plan depends on.
pub(super) fn depends_of(plan: &LogicalPlan) -> Result<Vec<Column>> {
    let mut found = Vec::new();
    plan.apply(|node| {
        let inside = merge_schema(&node.inputs());
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::OuterReferenceColumn(_, column) = expr {
                    found.push(column.clone());
                } else if let Some(subquery) = subquery_of(expr) {
                    let within = depends_of(&subquery.subquery)?;
                    found.extend(within.into_iter().filter(|column| !inside.has_column(column)));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(found)
}

/// Whether a plan depends on rows around it in filters only, on the way from its top that DataFusion knows to undo.
pub(super) fn is_plain(plan: &LogicalPlan) -> bool {
    if depends_of(plan).is_ok_and(|found| found.is_empty()) {
        return true;
    }
    let depends = |expr: &Expr| {
        expr.exists(|expr| {
            Ok(matches!(expr, Expr::OuterReferenceColumn(..)) || subquery_of(expr).is_some())
        })
        .unwrap_or(true)
    };
    match plan {
        LogicalPlan::Projection(projection) => {
            !projection.expr.iter().any(depends) && is_plain(&projection.input)
        }
        LogicalPlan::SubqueryAlias(alias) => is_plain(&alias.input),
        LogicalPlan::Subquery(subquery) => is_plain(&subquery.subquery),
        LogicalPlan::Filter(filter) => {
            let has = filter.predicate.exists(|expr| Ok(subquery_of(expr).is_some()));
            !has.unwrap_or(true) && is_plain(&filter.input)
        }
        _ => false,
    }
}

/// Whether a plan gives one row, whatever there is.
pub(super) fn has_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => has_one_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => has_one_row(&alias.input),
        LogicalPlan::Subquery(subquery) => has_one_row(&subquery.subquery),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        _ => false,
    }
}
