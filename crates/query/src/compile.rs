//! From DataFusion's expressions to those of row programs, where they say the same.
//!
//! What has no counterpart (a float, a subquery, an interval, a function that row programs do not know) is no
//! error: the caller then runs it here and sends what came of it.

use std::cell::Cell;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{Expr as Plan, Operator};
use quipu_types::program::{Binary, Expr, Function, Unary};
use quipu_types::{ColumnType, Value};

use crate::column::Kind;

/// The expression of a definition, which has no parameters; `schema` has the table's columns, by their numbers.
pub(crate) fn expr(plan: &Plan, schema: &DFSchema) -> Option<Expr> {
    compiled(plan, &Scope { schema, made: &Cell::new(0), takes_parameters: false })
}

/// The expression that a row program evaluates, parameters included; behind the table's columns `schema` may have those
/// of `excluded`. `made` counts the random values of all expressions of the program.
pub(crate) fn open(plan: &Plan, schema: &DFSchema, made: &Cell<u32>) -> Option<Expr> {
    compiled(plan, &Scope { schema, made, takes_parameters: true })
}

struct Scope<'a> {
    schema: &'a DFSchema,
    /// How many random values there are so far, which their numbers tell apart.
    made: &'a Cell<u32>,
    takes_parameters: bool,
}

/// A parameter's 0-based number and its type, where an expression is one.
pub(crate) fn placeholder(plan: &Plan) -> Option<(u16, &DataType)> {
    match plan {
        Plan::Alias(alias) => placeholder(&alias.expr),
        Plan::Placeholder(placeholder) => {
            let number: u16 = placeholder.id.strip_prefix('$')?.parse().ok()?;
            Some((number.checked_sub(1)?, placeholder.field.as_ref()?.data_type()))
        }
        // The value comes as what the client says it is.
        Plan::Cast(cast) => {
            let (number, from) = placeholder(&cast.expr)?;
            let to = cast.field.data_type();
            is_exact(from, to).then_some((number, to))
        }
        _ => None,
    }
}

/// Name of the field of a placeholder that stands for an argument of a procedure: its type is what it was declared as, and
/// its casts are the program's.
const ARGUMENT: &str = "argument";

/// An argument of a procedure as a field of its placeholder.
pub(crate) fn argument_field(kind: ColumnType) -> Field {
    Kind::from(kind).field(ARGUMENT, true)
}

/// An argument's 0-based number and its declared type.
fn argument(plan: &Plan) -> Option<(u16, &DataType)> {
    let Plan::Placeholder(placeholder) = plan else { return None };
    let field = placeholder.field.as_ref().filter(|field| field.name() == ARGUMENT)?;
    let number: u16 = placeholder.id.strip_prefix('$')?.parse().ok()?;
    Some((number.checked_sub(1)?, field.data_type()))
}

/// Whether a value of a type is one of the other type, or out of its range.
pub(crate) fn is_exact(from: &DataType, to: &DataType) -> bool {
    from == to || (from.is_integer() && to.is_integer())
}

#[expect(clippy::too_many_lines, reason = "one arm for each kind of expression")]
fn compiled(plan: &Plan, scope: &Scope<'_>) -> Option<Expr> {
    let Scope { schema, made, takes_parameters } = scope;
    let one = |plan: &Plan| compiled(plan, scope);
    let boxed = |plan: &Plan| compiled(plan, scope).map(Box::new);
    Some(match plan {
        Plan::Cast(cast) if argument(&cast.expr).is_some() => {
            let (number, from) = argument(&cast.expr)?;
            let to = cast.field.data_type();
            match from == to || kind_of(from) == kind_of(to) {
                true => Expr::Parameter(number),
                false => Expr::Cast(Box::new(Expr::Parameter(number)), kind_of(to)?),
            }
        }
        Plan::Placeholder(_) if *takes_parameters => Expr::Parameter(placeholder(plan)?.0),
        // What a text or a decimal becomes is decided here, where its value is known.
        Plan::Cast(cast) if matches!(*cast.expr, Plan::Placeholder(_)) => {
            let (number, to) = placeholder(plan).filter(|_| *takes_parameters)?;
            Expr::Cast(Box::new(Expr::Parameter(number)), kind_of(to)?)
        }
        Plan::Alias(alias) => one(&alias.expr)?,
        Plan::Column(column) => {
            let place = u16::try_from(schema.maybe_index_of_column(column)?).ok()?;
            match &column.relation {
                Some(relation) if relation.table() == "excluded" => {
                    let (_, field) = schema.iter().nth(usize::from(place))?;
                    let own = schema.iter().position(|(relation, other)| {
                        other.name() == field.name()
                            && relation.is_none_or(|relation| relation.table() != "excluded")
                    });
                    Expr::Excluded(u16::try_from(own?).ok()?)
                }
                // Of a joined subquery's columns programs know nothing.
                relation if *relation != schema.iter().next()?.0.cloned() => return None,
                // Nor of floats.
                _ if *schema.field(usize::from(place)).data_type() == DataType::Float64 => {
                    return None;
                }
                _ => Expr::Column(place),
            }
        }
        Plan::Literal(value, _) => {
            let (kind, value) = constant(value)?;
            Expr::Const(kind, value)
        }
        Plan::BinaryExpr(binary) => {
            let (left, right) = (boxed(&binary.left)?, boxed(&binary.right)?);
            match binary.op {
                Operator::IsDistinctFrom => {
                    let same = Expr::Binary(Binary::NotDistinct, left, right);
                    Expr::Unary(Unary::Not, Box::new(same))
                }
                op => Expr::Binary(operator(op)?, left, right),
            }
        }
        Plan::Not(inner) => Expr::Unary(Unary::Not, boxed(inner)?),
        Plan::Negative(inner) => Expr::Unary(Unary::Negative, boxed(inner)?),
        Plan::IsNull(inner) | Plan::IsUnknown(inner) => Expr::Unary(Unary::IsNull, boxed(inner)?),
        Plan::IsNotNull(inner) | Plan::IsNotUnknown(inner) => {
            not(Expr::Unary(Unary::IsNull, boxed(inner)?))
        }
        Plan::IsTrue(inner) => Expr::Unary(Unary::IsTrue, boxed(inner)?),
        Plan::IsFalse(inner) => Expr::Unary(Unary::IsFalse, boxed(inner)?),
        Plan::IsNotTrue(inner) => not(Expr::Unary(Unary::IsTrue, boxed(inner)?)),
        Plan::IsNotFalse(inner) => not(Expr::Unary(Unary::IsFalse, boxed(inner)?)),
        Plan::Between(between) => {
            let low =
                Expr::Binary(Binary::GreaterOrEqual, boxed(&between.expr)?, boxed(&between.low)?);
            let high =
                Expr::Binary(Binary::LessOrEqual, boxed(&between.expr)?, boxed(&between.high)?);
            let inside = Expr::Binary(Binary::And, Box::new(low), Box::new(high));
            if between.negated { not(inside) } else { inside }
        }
        Plan::InList(list) => {
            let members = list.list.iter().map(one).collect::<Option<Vec<_>>>()?;
            let found = Expr::In(boxed(&list.expr)?, members);
            if list.negated { not(found) } else { found }
        }
        Plan::Like(like)
            if !like.case_insensitive && like.escape_char.is_none_or(|c| c == '\\') =>
        {
            let found = Expr::Binary(Binary::Like, boxed(&like.expr)?, boxed(&like.pattern)?);
            if like.negated { not(found) } else { found }
        }
        Plan::Case(case) => {
            let base = case.expr.as_deref().map(one);
            let mut branches = Vec::with_capacity(case.when_then_expr.len());
            for (when, then) in &case.when_then_expr {
                let when = match &base {
                    None => one(when)?,
                    Some(base) => {
                        Expr::Binary(Binary::Equal, Box::new(base.clone()?), boxed(when)?)
                    }
                };
                branches.push((when, one(then)?));
            }
            let otherwise = match &case.else_expr {
                None => None,
                Some(otherwise) => Some(boxed(otherwise)?),
            };
            Expr::Case(branches, otherwise)
        }
        Plan::Cast(cast) => Expr::Cast(boxed(&cast.expr)?, kind_of(cast.field.data_type())?),
        Plan::ScalarFunction(call) => {
            let arguments = call.args.iter().map(one).collect::<Option<Vec<_>>>()?;
            function(call.func.name(), arguments, made)?
        }
        _ => return None,
    })
}

/// Numbers of the parameters in an expression.
pub(crate) fn parameters_of(expr: &Expr, numbers: &mut Vec<u16>) {
    if let Expr::Parameter(number) = expr {
        numbers.push(*number);
    }
    for child in expr.children() {
        parameters_of(child, numbers);
    }
}

fn not(expr: Expr) -> Expr {
    Expr::Unary(Unary::Not, Box::new(expr))
}

fn operator(op: Operator) -> Option<Binary> {
    Some(match op {
        Operator::Eq => Binary::Equal,
        Operator::NotEq => Binary::NotEqual,
        Operator::Lt => Binary::Less,
        Operator::LtEq => Binary::LessOrEqual,
        Operator::Gt => Binary::Greater,
        Operator::GtEq => Binary::GreaterOrEqual,
        Operator::Plus => Binary::Add,
        Operator::Minus => Binary::Subtract,
        Operator::Multiply => Binary::Multiply,
        Operator::Divide => Binary::Divide,
        Operator::Modulo => Binary::Modulo,
        Operator::And => Binary::And,
        Operator::Or => Binary::Or,
        Operator::IsNotDistinctFrom => Binary::NotDistinct,
        Operator::StringConcat => Binary::Concat,
        _ => return None,
    })
}

fn function(name: &str, arguments: Vec<Expr>, made: &Cell<u32>) -> Option<Expr> {
    let function = match (name, arguments.as_slice()) {
        ("int_add" | "int_subtract" | "int_multiply" | "numeric_divide", [_, _]) => {
            let op = match name {
                "int_add" => Binary::Add,
                "int_subtract" => Binary::Subtract,
                "int_multiply" => Binary::Multiply,
                _ => Binary::Divide,
            };
            let mut operands = arguments.into_iter().map(Box::new);
            return Some(Expr::Binary(op, operands.next()?, operands.next()?));
        }
        ("to_int2" | "to_int4" | "to_int8", [_]) => {
            let kind = match name {
                "to_int2" => ColumnType::Int2,
                "to_int4" => ColumnType::Int4,
                _ => ColumnType::Int8,
            };
            return Some(Expr::Cast(Box::new(arguments.into_iter().next()?), kind));
        }
        ("now", []) => return Some(Expr::Now),
        ("uuid", []) => {
            let number = made.get();
            made.set(number.checked_add(1)?);
            return Some(Expr::Random(number));
        }
        ("coalesce", [_, ..]) => Function::Coalesce,
        ("nullif", [_, _]) => Function::NullIf,
        ("greatest", [_, ..]) => Function::Greatest,
        ("least", [_, ..]) => Function::Least,
        ("abs", [_]) => Function::Abs,
        // Of other letters than ASCII the two halves may think differently.
        ("character_length", [_]) => Function::Length,
        ("btrim", [_]) => Function::Trim,
        ("substr", [_, _] | [_, _, _]) => Function::Substring,
        _ => return None,
    };
    Some(Expr::Call(function, arguments))
}

/// The type of the ledger that an Arrow type stands for.
pub(crate) fn kind_of(data_type: &DataType) -> Option<ColumnType> {
    Some(match data_type {
        DataType::Boolean => ColumnType::Bool,
        DataType::Int8 | DataType::Int16 => ColumnType::Int2,
        DataType::Int32 => ColumnType::Int4,
        DataType::Int64 => ColumnType::Int8,
        DataType::Decimal128(precision, scale) => {
            ColumnType::Numeric { precision: *precision, scale: u8::try_from(*scale).ok()? }
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ColumnType::Text,
        DataType::Binary => ColumnType::Bytea,
        DataType::Date32 => ColumnType::Date,
        DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, Some(_)) => {
            ColumnType::Timestamptz
        }
        DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, None) => {
            ColumnType::Timestamp
        }
        _ => return None,
    })
}

/// A constant of a type of the ledger.
pub(crate) fn constant(value: &ScalarValue) -> Option<(ColumnType, Value)> {
    let kind = match value {
        ScalarValue::Null => return Some((ColumnType::Text, Value::Null)),
        other => kind_of(&other.data_type())?,
    };
    if value.is_null() {
        return Some((kind, Value::Null));
    }
    let value = match value {
        ScalarValue::Boolean(Some(value)) => Value::Bool(*value),
        ScalarValue::Int8(Some(value)) => Value::Int2(i16::from(*value)),
        ScalarValue::Int16(Some(value)) => Value::Int2(*value),
        ScalarValue::Int32(Some(value)) => Value::Int4(*value),
        ScalarValue::Int64(Some(value)) => Value::Int8(*value),
        ScalarValue::Decimal128(Some(value), ..) => Value::Numeric(*value),
        ScalarValue::Utf8(Some(text))
        | ScalarValue::LargeUtf8(Some(text))
        | ScalarValue::Utf8View(Some(text)) => Value::Text(text.clone()),
        ScalarValue::Binary(Some(bytes)) => Value::Bytea(bytes.clone()),
        ScalarValue::Date32(Some(days)) => Value::Date(*days),
        ScalarValue::TimestampMicrosecond(Some(micros), zone) => instant(*micros, zone.is_some()),
        ScalarValue::TimestampNanosecond(Some(nanos), zone) => {
            instant(nanos.div_euclid(1_000), zone.is_some())
        }
        _ => return None,
    };
    Some((kind, value))
}

const fn instant(micros: i64, has_zone: bool) -> Value {
    if has_zone { Value::Timestamptz(micros) } else { Value::Timestamp(micros) }
}
