//! Types as PostgreSQL decides them, where DataFusion decides otherwise: in a plan as it was just made of a statement,
//! before parameters have values and before DataFusion's own coercion.
//!
//! Source: PostgreSQL 15, "Type Conversion": constants (4.1.2.6), operators (10.2), value storage (10.4), UNION and CASE
//! (10.5).
//!
//! | written | PostgreSQL | DataFusion, without this |
//! |---|---|---|
//! | `5` | int4 where it fits | int8 |
//! | `b = '\x00'`, `u IN ('A0EE…')`, `c = 'ab'` | read as the other side's type, by its input function | text |
//! | `'32768'::int2` | the input function, with its SQLSTATEs | Arrow's cast |
//! | `2.5::int`, a numeric assigned to an int | rounded | cut |
//! | `c \|\| 'x'`, `length(c)` of a char(n) | without trailing blanks | with them |
//! | `-x` | checked | wraps |
//! | `f > 1e20` of a float | floats | decimals |
//! | `x NOT IN (1, NULL)` | null or false | as without the null, beside another list |
//! | `LIKE … ESCAPE`, `SIMILAR TO`, `~` | [`pattern`] | other escapes and line ends |
//! | `extract(second FROM t)`, `trunc(1.25, 1)` | numeric, of the digits asked for | int4, of the argument's digits |
//! | `EXCEPT ALL`, `INTERSECT ALL` | counts equal rows | drops them all, keeps them all |
//! | `1 UNION 'a'::text`, `t = 1` | 42804, 42883 | text |
//!
//! # Invariants
//! * C1 A plan keeps the names of its columns.
//! * C2 It is applied once: a parameter's value, which comes later, keeps the type that it has.
//!
//! # Limits
//! Queries of the catalog, whose columns have other types than PostgreSQL's, are not refused for their types. A direct
//! argument of a function stays int8, which DataFusion's functions take and look at.

mod lists;
mod literal;
mod opaque;
mod pattern;
mod sets;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, ExprSchema as _, Result, ScalarValue};
use datafusion::logical_expr::expr::{
    AggregateFunction, Between, Case, Cast, InList, ScalarFunction, WindowFunction,
};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable as _, LogicalPlan, Operator, ScalarUDF, Union,
};
use quipu_types::code;

use crate::arithmetic;
use crate::column::PG_TYPE_KEY;
use crate::error::SqlError;
use crate::length;
use crate::round;

/// Digits of a numeric.
const PRECISION: u8 = 38;
/// Functions whose result has their arguments' type.
const ALIKE: [&str; 5] = ["coalesce", "nullif", "greatest", "least", "make_array"];
/// Functions that take a number of digits.
const OF_DIGITS: [&str; 2] = ["round", "trunc"];
/// Aggregates whose result follows from their argument's type.
const OF_VALUES: [&str; 5] = ["sum", "avg", "min", "max", "array_agg"];

/// A plan with PostgreSQL's types.
pub(crate) fn plan(plan: LogicalPlan) -> Result<LogicalPlan> {
    let is_strict = !reads_catalog(&plan)?;
    plan.transform_up_with_subqueries(|plan| node(plan, is_strict)).map(|done| done.data)
}

fn reads_catalog(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|plan| {
        if let LogicalPlan::TableScan(scan) = plan {
            found |= scan.table_name.schema().is_some_and(|name| name != "public");
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

fn node(plan: LogicalPlan, is_strict: bool) -> Result<Transformed<LogicalPlan>> {
    let plan = match plan {
        LogicalPlan::Limit(_) | LogicalPlan::TableScan(_) | LogicalPlan::EmptyRelation(_) => {
            return Ok(Transformed::no(plan));
        }
        LogicalPlan::Values(values) => return sets::values(values).map(Transformed::yes),
        LogicalPlan::RecursiveQuery(query) => {
            return sets::recursive(query).map(Transformed::yes);
        }
        LogicalPlan::Union(union) => {
            if is_strict {
                sets::check_union(&union)?;
            }
            let union = Union::try_new_with_loose_types(union.inputs)?;
            return Ok(Transformed::yes(LogicalPlan::Union(union)));
        }
        LogicalPlan::Join(join) if sets::counts(&join) => {
            return sets::counted(join).map(Transformed::yes);
        }
        LogicalPlan::Aggregate(aggregate) => LogicalPlan::Aggregate(opaque::grouped(aggregate)?),
        other => other,
    };
    let schema = merge_schema(&plan.inputs());
    let types = Types { schema: &schema, is_strict };
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        Ok(types.all(expr)?.update_data(|expr| name.restore(expr)))
    })?
    .map_data(LogicalPlan::recompute_schema)
}

pub(super) fn wrong(sqlstate: &'static str, message: String) -> DataFusionError {
    DataFusionError::External(Box::new(SqlError::new(sqlstate, code::SQL_SYNTAX, message)))
}

/// What PostgreSQL calls a type of Arrow.
pub(crate) fn type_name(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "boolean",
        DataType::Int8 | DataType::Int16 => "smallint",
        DataType::Int32 => "integer",
        DataType::Int64 | DataType::UInt64 => "bigint",
        DataType::Float32 => "real",
        DataType::Float64 => "double precision",
        DataType::Binary => "bytea",
        DataType::Date32 => "date",
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone",
        DataType::Timestamp(_, None) => "timestamp without time zone",
        DataType::Interval(_) => "interval",
        data_type if data_type.is_decimal() => "numeric",
        _ => "text",
    }
}

/// Types of one kind, which PostgreSQL lets stand for each other. None: unknown, or of no kind here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Category {
    Number,
    Text,
    Bool,
    Time,
    Bytes,
}

pub(crate) fn category(data_type: &DataType) -> Option<Category> {
    Some(match data_type {
        data_type if data_type.is_numeric() => Category::Number,
        DataType::Utf8 => Category::Text,
        DataType::Boolean => Category::Bool,
        DataType::Date32 | DataType::Timestamp(..) => Category::Time,
        DataType::Binary => Category::Bytes,
        _ => return None,
    })
}

/// A constant without a type of its own: a text that stands for what is wanted, a null, a parameter.
pub(crate) fn is_unknown(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_unknown(&alias.expr),
        Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Null, _) | Expr::Placeholder(_) => true,
        _ => false,
    }
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Null, _))
}

/// The length of a `char(n)`.
fn padded_length(field: &Field) -> Option<usize> {
    let pg_type = field.metadata().get(PG_TYPE_KEY)?;
    pg_type.strip_prefix("bpchar(")?.strip_suffix(')')?.parse().ok()
}

struct Types<'a> {
    schema: &'a DFSchema,
    is_strict: bool,
}

impl Types<'_> {
    fn all(&self, expr: Expr) -> Result<Transformed<Expr>> {
        expr.transform_up(|expr| self.one(expr))
    }

    /// One expression, whose operands are done.
    fn one(&self, expr: Expr) -> Result<Transformed<Expr>> {
        Ok(Transformed::yes(match expr {
            Expr::Literal(ScalarValue::Int64(Some(value)), metadata) => {
                let value = match i32::try_from(value) {
                    Ok(value) => ScalarValue::Int32(Some(value)),
                    Err(_) => ScalarValue::Int64(Some(value)),
                };
                Expr::Literal(value, metadata)
            }
            Expr::Literal(ScalarValue::UInt64(Some(value)), metadata) => {
                let value = ScalarValue::Decimal128(Some(i128::from(value)), 20, 0);
                Expr::Literal(value, metadata)
            }
            Expr::Negative(inner) => match inner.get_type(self.schema) {
                Ok(of) if of.is_signed_integer() => arithmetic::negative(*inner, &of)?,
                _ => Expr::Negative(inner),
            },
            Expr::BinaryExpr(binary) => self.binary(binary)?,
            Expr::InList(list) => self.in_list(list)?,
            Expr::Like(like) => pattern::like(like)?,
            Expr::SimilarTo(like) => pattern::similar(like),
            Expr::Between(Between { expr, negated, low, high }) => {
                let low = Box::new(self.beside(*low, &expr)?);
                let high = Box::new(self.beside(*high, &expr)?);
                Expr::Between(Between { expr, negated, low, high })
            }
            Expr::Case(case) => self.case(case)?,
            Expr::Cast(cast) => self.cast(cast)?,
            Expr::ScalarFunction(call) => self.function(call)?,
            Expr::AggregateFunction(AggregateFunction { func, mut params })
                if !OF_VALUES.contains(&func.name()) =>
            {
                params.args = params.args.into_iter().map(widened).collect();
                Expr::AggregateFunction(AggregateFunction { func, params })
            }
            Expr::WindowFunction(mut window) if !OF_VALUES.contains(&window.fun.name()) => {
                let WindowFunction { params, .. } = window.as_mut();
                params.args = std::mem::take(&mut params.args).into_iter().map(widened).collect();
                Expr::WindowFunction(window)
            }
            other => return self.subquery(other),
        }))
    }

    fn field(&self, expr: &Expr) -> Option<FieldRef> {
        expr.to_field(self.schema).ok().map(|(_, field)| field)
    }

    fn in_list(&self, list: InList) -> Result<Expr> {
        let InList { expr, list, negated } = list;
        let count = list.len();
        let list = list.into_iter().filter(|member| !is_null(member));
        let list = list.map(|member| self.beside(member, &expr)).collect::<Result<Vec<_>>>()?;
        let has_null = list.len() < count;
        let found = Expr::InList(InList { expr, list, negated });
        // DataFusion makes one list of several, and forgets that one had a null.
        let null = Expr::Literal(ScalarValue::Boolean(None), None);
        Ok(match (has_null, negated) {
            (false, _) => found,
            (true, false) => found.or(null),
            (true, true) => found.and(null),
        })
    }

    /// A constant of unknown type, read as what stands beside it; a numeric beside a float as one.
    fn beside(&self, expr: Expr, other: &Expr) -> Result<Expr> {
        let Some(field) = self.field(other) else { return Ok(expr) };
        if *field.data_type() == DataType::Float64
            && expr.get_type(self.schema).is_ok_and(|own| own.is_decimal())
        {
            return expr.cast_to(&DataType::Float64, self.schema);
        }
        if !is_unknown(&expr) {
            return Ok(expr);
        }
        let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = &expr else { return Ok(expr) };
        Ok(literal::compared(text, &field)?.map_or(expr, |value| Expr::Literal(value, None)))
    }

    fn binary(&self, binary: BinaryExpr) -> Result<Expr> {
        let BinaryExpr { left, op, right } = binary;
        if let Some(null) = lists::emptied(&left, op, &right) {
            return Ok(null);
        }
        if op == Operator::StringConcat {
            let (left, right) = (self.trimmed(*left)?, self.trimmed(*right)?);
            return Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))));
        }
        if matches!(
            op,
            Operator::RegexMatch
                | Operator::RegexIMatch
                | Operator::RegexNotMatch
                | Operator::RegexNotIMatch
        ) {
            return Ok(pattern::regex(BinaryExpr { left, op, right }));
        }
        if !compares(op) {
            return Ok(Expr::BinaryExpr(BinaryExpr { left, op, right }));
        }
        let (left, right) = (self.beside(*left, &right)?, right);
        let right = self.beside(*right, &left)?;
        let (left, right) = self.same_length(left, right)?;
        if self.is_strict && !is_unknown(&left) && !is_unknown(&right) {
            let types = (left.get_type(self.schema)?, right.get_type(self.schema)?);
            if let (Some(Category::Number), Some(Category::Text))
            | (Some(Category::Text), Some(Category::Number)) =
                (category(&types.0), category(&types.1))
            {
                let (left, right) = (type_name(&types.0), type_name(&types.1));
                let message = format!("operator does not exist: {left} {op} {right}");
                return Err(wrong("42883", message));
            }
        }
        Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
    }

    /// Operands of a comparison: where one is a `char(n)` and the other is none, without its trailing blanks.
    fn same_length(&self, left: Expr, right: Expr) -> Result<(Expr, Expr)> {
        // A parameter comes as it was sent, whatever type was found for it.
        let length = |expr: &Expr| match expr {
            Expr::Placeholder(_) => None,
            other => self.field(other).as_deref().and_then(padded_length),
        };
        let is_literal = |expr: &Expr| matches!(expr, Expr::Literal(..));
        if length(&left) == length(&right) || is_literal(&left) || is_literal(&right) {
            return Ok((left, right));
        }
        Ok((self.trimmed(left)?, self.trimmed(right)?))
    }

    /// A `char(n)` as a text.
    fn trimmed(&self, expr: Expr) -> Result<Expr> {
        let is_padded = self.field(&expr).as_deref().and_then(padded_length).is_some();
        Ok(if is_padded { call(&datafusion::functions::string::rtrim(), expr) } else { expr })
    }

    fn case(&self, case: Case) -> Result<Expr> {
        let Case { expr, when_then_expr, else_expr } = case;
        let results = || when_then_expr.iter().map(|(_, then)| then).chain(&else_expr);
        let typed = results().find(|result| !is_unknown(result)).map(|result| (**result).clone());
        if self.is_strict {
            self.check_alike("CASE", results().map(AsRef::as_ref))?;
            for (when, _) in when_then_expr.iter().filter(|_| expr.is_none()) {
                self.check_truth("CASE/WHEN", when)?;
            }
        }
        let read = |result: Box<Expr>| match &typed {
            Some(typed) => self.beside(*result, typed).map(Box::new),
            None => Ok(result),
        };
        let when_then_expr = when_then_expr.into_iter().map(|(when, then)| {
            let when = match &expr {
                Some(expr) => Box::new(self.beside(*when, expr)?),
                None => when,
            };
            Ok((when, read(then)?))
        });
        let when_then_expr = when_then_expr.collect::<Result<_>>()?;
        let else_expr = else_expr.map(read).transpose()?;
        Ok(Expr::Case(Case { expr, when_then_expr, else_expr }))
    }

    fn check_alike<'a>(&self, what: &str, exprs: impl Iterator<Item = &'a Expr>) -> Result<()> {
        let mut first: Option<DataType> = None;
        for expr in exprs.filter(|expr| !is_unknown(expr)) {
            let own = expr.get_type(self.schema)?;
            match first.as_ref() {
                None => first = Some(own),
                Some(first) => check_match(what, first, &own)?,
            }
        }
        Ok(())
    }

    fn check_truth(&self, what: &str, expr: &Expr) -> Result<()> {
        let own = expr.get_type(self.schema)?;
        if is_unknown(expr) || matches!(category(&own), None | Some(Category::Bool)) {
            return Ok(());
        }
        let message =
            format!("argument of {what} must be type boolean, not type {}", type_name(&own));
        Err(wrong("42804", message))
    }

    fn cast(&self, cast: Cast) -> Result<Expr> {
        let Cast { expr, field } = cast;
        let field = own_type(field);
        if let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = expr.as_ref()
            && let Some(value) = literal::read(text, field.data_type())?
        {
            return Ok(Expr::Literal(value, None));
        }
        let expr = match field.data_type() {
            DataType::Utf8 => Box::new(self.trimmed(*expr)?),
            _ => expr,
        };
        let from = expr.get_type(self.schema)?;
        if round::rounds(&from, field.data_type()) {
            return Ok(round::call(*expr, field.data_type()));
        }
        Ok(Expr::Cast(Cast { expr, field }))
    }

    fn function(&self, mut function: ScalarFunction) -> Result<Expr> {
        let name = function.func.name();
        if ALIKE.contains(&name) {
            if self.is_strict {
                self.check_alike(&name.to_uppercase(), function.args.iter())?;
            }
            let typed = function.args.iter().find(|argument| !is_unknown(argument)).cloned();
            if let Some(typed) = typed {
                let args = function.args.into_iter().map(|argument| self.beside(argument, &typed));
                function.args = args.collect::<Result<_>>()?;
            }
        } else if !arithmetic::is_checked(&function.func) {
            let name = name.to_owned();
            let takes_int4 = OF_DIGITS.contains(&name.as_str());
            let args = function.args.into_iter().map(|argument| {
                self.trimmed(if takes_int4 { argument } else { widened(argument) })
            });
            function.args = args.collect::<Result<_>>()?;
            return self.other_function(&name, function);
        }
        Ok(Expr::ScalarFunction(function))
    }

    /// Functions whose result has another type, or as many digits as it has.
    fn other_function(&self, name: &str, mut function: ScalarFunction) -> Result<Expr> {
        let own = function.args.first().and_then(|first| first.get_type(self.schema).ok());
        let scale = match (name, function.args.as_slice()) {
            ("ceil" | "floor" | "trunc", [_]) => Some(0),
            ("trunc", [_, Expr::Literal(ScalarValue::Int32(Some(digits)), _)]) => {
                i8::try_from(*digits).ok()
            }
            _ => None,
        };
        match (name, own, scale) {
            (_, Some(own), Some(scale)) if own.is_decimal() && scale >= 0 => {
                cast_to(Expr::ScalarFunction(function), DataType::Decimal128(PRECISION, scale))
            }
            ("character_length" | "octet_length", Some(DataType::Binary), _) => {
                function.func = Arc::new(length::of_bytea());
                Ok(Expr::ScalarFunction(function))
            }
            ("date_part", ..) => date_part(function),
            _ => Ok(Expr::ScalarFunction(function)),
        }
    }

    /// A subquery's references to the row around it have the types that the row has by now.
    fn subquery(&self, expr: Expr) -> Result<Transformed<Expr>> {
        let now = |expr: Expr| {
            let Expr::OuterReferenceColumn(field, column) = expr else {
                return Ok(Transformed::no(expr));
            };
            match self.schema.field_from_column(&column) {
                Ok(own) if own.data_type() != field.data_type() => {
                    Ok(Transformed::yes(Expr::OuterReferenceColumn(Arc::clone(own), column)))
                }
                _ => Ok(Transformed::no(Expr::OuterReferenceColumn(field, column))),
            }
        };
        sets::map_subquery(expr, |plan| {
            plan.transform_up_with_subqueries(|plan| {
                plan.map_expressions(|expr| expr.transform_up(now))?
                    .map_data(LogicalPlan::recompute_schema)
            })
            .map(|done| done.data)
        })
    }
}

fn cast_to(expr: Expr, data_type: DataType) -> Result<Expr> {
    Ok(Expr::Cast(Cast::new(Box::new(expr), data_type)))
}

/// A part of a time is a numeric; seconds have their fraction.
fn date_part(mut function: ScalarFunction) -> Result<Expr> {
    let part = match function.args.first() {
        Some(Expr::Literal(ScalarValue::Utf8(Some(part)), _)) => part.to_lowercase(),
        _ => return Ok(Expr::ScalarFunction(function)),
    };
    match part.as_str() {
        "epoch" => cast_to(Expr::ScalarFunction(function), DataType::Decimal128(PRECISION, 6)),
        "second" | "seconds" => {
            if let Some(part) = function.args.first_mut() {
                *part = Expr::Literal(ScalarValue::Utf8(Some("microsecond".into())), None);
            }
            let micros = cast_to(Expr::ScalarFunction(function), DataType::Decimal128(20, 0))?;
            let unit = Expr::Literal(ScalarValue::Decimal128(Some(1), 7, 6), None);
            let seconds = BinaryExpr::new(Box::new(micros), Operator::Multiply, Box::new(unit));
            Ok(Expr::BinaryExpr(seconds))
        }
        _ => cast_to(Expr::ScalarFunction(function), DataType::Decimal128(PRECISION, 0)),
    }
}

/// Whether two types can stand in one column, or be branches of one expression.
pub(super) fn check_match(what: &str, first: &DataType, own: &DataType) -> Result<()> {
    match (category(first), category(own)) {
        (Some(left), Some(right)) if left != right => {
            let (first, own) = (type_name(first), type_name(own));
            Err(wrong("42804", format!("{what} types {first} and {own} cannot be matched")))
        }
        _ => Ok(()),
    }
}

const fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// A type that a statement names, as the ledger has it: times in microseconds.
fn own_type(field: FieldRef) -> FieldRef {
    match field.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            let micros = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
            Arc::new(field.as_ref().clone().with_data_type(micros))
        }
        _ => field,
    }
}

/// A constant as a function's argument, which DataFusion takes as int8.
fn widened(expr: Expr) -> Expr {
    match expr {
        Expr::Literal(ScalarValue::Int32(Some(value)), metadata) => {
            Expr::Literal(ScalarValue::Int64(Some(i64::from(value))), metadata)
        }
        other => other,
    }
}

fn call(function: &Arc<ScalarUDF>, argument: Expr) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(function), vec![argument]))
}
