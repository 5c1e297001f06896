//! Writes that are compiled once, when they are prepared: an execution binds values and plans nothing.
//!
//! ```text
//!  INSERT … VALUES ($1, …)      ── Projection(Values) ─┐
//!  UPDATE, DELETE that compile  ───────────────────────┼─> Ready { op, kinds } ── values ─> Program { parameters, op }
//!  INSERT into a stream         ───────────────────────┴─> ReadyRows           ── values ─> rows
//! ```
//! Bound: a copy of the operation and of the values, a microsecond or two; planning the same statement takes about a
//! thousand times that.
//!
//! # Invariants
//! * Y1 What is bound does what planning the statement with those values would do. Whatever is not surely so (a value of
//!   another type than the place that it is for, a cast that may fail, a null beside a key) is planned instead.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr as Plan, LogicalPlan};
use quipu_types::program::{Conflict, Expr, Op};
use quipu_types::table::TableSpec;
use quipu_types::{Column, ColumnType, Schema, Value};

use crate::column::Kind;
use crate::compile;
use crate::dml::{self, Change, OnRival};
use crate::insert;
use crate::parameters::Parameter;
use crate::round;

/// The rows of an INSERT into a stream, and what the parameters in them must be.
#[derive(Clone, Debug)]
pub(crate) struct ReadyRows {
    rows: Vec<Vec<Expr>>,
    kinds: Vec<ColumnType>,
}

impl ReadyRows {
    /// An INSERT of constants and parameters into a stream of this schema.
    pub(crate) fn of_insert(
        state: &SessionState,
        plan: &LogicalPlan,
        schema: &Schema,
        parameters: &[Parameter],
    ) -> Option<Self> {
        let mut places = Places::default();
        let columns: Vec<(usize, &Column)> = schema.columns().iter().enumerate().collect();
        let rows = places.rows(state, plan, &columns)?;
        let kinds = places.kinds_of(parameters)?;
        Some(Self { rows, kinds })
    }

    /// The rows with these values as the parameters; none where the statement is to be planned with them.
    pub(crate) fn bind(&self, values: &[ScalarValue]) -> Option<Vec<Vec<Value>>> {
        let parameters = bound_all(values, &self.kinds)?;
        let value = |expr: &Expr| match expr {
            Expr::Const(_, value) => Some(value.clone()),
            Expr::Parameter(number) => {
                parameters.get(usize::from(*number)).map(|(_, value)| value.clone())
            }
            _ => None,
        };
        self.rows.iter().map(|row| row.iter().map(value).collect()).collect()
    }
}

/// A compiled write and what its parameters must be.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    op: Op,
    kinds: Vec<ColumnType>,
    /// Whether a null is as good as any value.
    takes_null: bool,
}

impl Ready {
    /// An INSERT of constants and parameters.
    pub(crate) fn of_insert(
        state: &SessionState,
        plan: Option<&LogicalPlan>,
        spec: &TableSpec,
        columns: &[u16],
        rival: &OnRival,
        parameters: &[Parameter],
    ) -> Option<Self> {
        let mut places = Places::default();
        let rows = match plan {
            None => vec![Vec::new()],
            Some(plan) => {
                let place = |place: &u16| Some((usize::from(*place), spec.column(*place)?));
                let columns: Vec<_> = columns.iter().map(place).collect::<Option<_>>()?;
                places.rows(state, plan, &columns)?
            }
        };
        let conflict = dml::conflict(state, spec, rival, &[]).ok()?;
        if let Conflict::Update { sets, filter, .. } = &conflict {
            for expr in sets.iter().map(|(_, expr)| expr).chain(filter) {
                places.of_expr(expr, parameters)?;
            }
        }
        let kinds = places.kinds_of(parameters)?;
        let takes_null = !matches!(conflict, Conflict::Update { .. });
        Some(Self {
            op: Op::Insert { columns: columns.to_vec(), rows, conflict },
            kinds,
            takes_null,
        })
    }

    /// An UPDATE or DELETE that compiles.
    pub(crate) fn of_change(change: Change, parameters: &[Parameter]) -> Option<Self> {
        let Change::Op(op) = change else { return None };
        let kinds = parameters.iter().map(kind_of).collect::<Option<_>>()?;
        Some(Self { op, kinds, takes_null: false })
    }

    /// The operation, and these values as its parameters; none where the statement is to be planned with them.
    pub(crate) fn bind(&self, values: &[ScalarValue]) -> Option<(Op, Vec<(ColumnType, Value)>)> {
        if !self.takes_null && values.iter().any(ScalarValue::is_null) {
            return None;
        }
        Some((self.op.clone(), bound_all(values, &self.kinds)?))
    }
}

/// Values as those of these types, as many as there are types.
fn bound_all(values: &[ScalarValue], kinds: &[ColumnType]) -> Option<Vec<(ColumnType, Value)>> {
    let bound = values.iter().zip(kinds).map(|(value, kind)| bound(value, *kind));
    if values.len() == kinds.len() { bound.collect() } else { None }
}

fn kind_of(parameter: &Parameter) -> Option<ColumnType> {
    compile::kind_of(parameter.data_type.as_ref()?)
}

/// A value as one of this type; none where it does not fit.
pub(crate) fn bound(value: &ScalarValue, kind: ColumnType) -> Option<(ColumnType, Value)> {
    if value.is_null() {
        return Some((kind, Value::Null));
    }
    if let Some(same) = compile::constant(value).filter(|(own, _)| *own == kind) {
        return Some(same);
    }
    let array = round::array(&value.to_array().ok()?, &Kind::from(kind).data_type()).ok()?;
    let column = Column { name: String::new(), kind, nullable: true };
    Some((kind, insert::value(&column, &array, 0).ok()?))
}

/// What the parameters that were met must be.
#[derive(Debug, Default)]
struct Places {
    kinds: BTreeMap<u16, ColumnType>,
}

impl Places {
    /// A parameter that is met twice must be of one type.
    fn put(&mut self, number: u16, kind: ColumnType) -> Option<()> {
        (*self.kinds.entry(number).or_insert(kind) == kind).then_some(())
    }

    fn of_expr(&mut self, expr: &Expr, parameters: &[Parameter]) -> Option<()> {
        let mut numbers = Vec::new();
        compile::parameters_of(expr, &mut numbers);
        numbers.into_iter().try_for_each(|number| {
            let kind = kind_of(parameters.get(usize::from(number))?)?;
            self.put(number, kind)
        })
    }

    /// What each parameter must be, if each was met.
    fn kinds_of(&self, parameters: &[Parameter]) -> Option<Vec<ColumnType>> {
        (0_u16..).zip(parameters).map(|(number, _)| self.kinds.get(&number).copied()).collect()
    }

    /// The rows of a VALUES list, each a constant or a parameter for each of these columns, which stand beside their
    /// places in the plan's rows.
    fn rows(
        &mut self,
        state: &SessionState,
        plan: &LogicalPlan,
        columns: &[(usize, &Column)],
    ) -> Option<Vec<Vec<Expr>>> {
        let LogicalPlan::Projection(projection) = plan else { return None };
        let LogicalPlan::Values(source) = projection.input.as_ref() else { return None };
        let nothing = Arc::new(DFSchema::empty());
        let mut rows = Vec::with_capacity(source.values.len());
        for values in &source.values {
            let mut row = Vec::with_capacity(columns.len());
            for (place, column) in columns {
                let expr = projection.expr.get(*place)?;
                let expr = in_place(expr, &source.schema, values)?;
                row.push(self.given(state, &expr, column, &nothing)?);
            }
            rows.push(row);
        }
        Some(rows)
    }

    /// One value of a row.
    fn given(
        &mut self,
        state: &SessionState,
        expr: &Plan,
        column: &Column,
        nothing: &Arc<DFSchema>,
    ) -> Option<Expr> {
        if let Some((number, data_type)) = compile::placeholder(expr) {
            let wanted = Kind::from(column.kind).data_type();
            self.put(number, column.kind)?;
            return compile::is_exact(data_type, &wanted).then_some(Expr::Parameter(number));
        }
        let folded = dml::folded(state, expr, nothing).ok()?;
        let Plan::Literal(value, _) = folded else { return None };
        let (kind, value) = bound(&value, column.kind)?;
        Some(Expr::Const(kind, value))
    }
}

/// An expression over a VALUES list, with the row's own expressions in the place of its columns.
fn in_place(expr: &Plan, schema: &DFSchema, values: &[Plan]) -> Option<Plan> {
    Some(match expr {
        Plan::Alias(alias) => in_place(&alias.expr, schema, values)?,
        Plan::Column(column) => values.get(schema.maybe_index_of_column(column)?)?.clone(),
        Plan::Cast(cast) => {
            let mut cast = cast.clone();
            *cast.expr = in_place(&cast.expr, schema, values)?;
            Plan::Cast(cast)
        }
        _ => return None,
    })
}
