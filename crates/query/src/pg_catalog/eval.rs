//! Evaluates an expression over a row. Null is unknown, as in SQL.

use std::sync::Arc;

use arrow::array::StringArray;
use quipu_types::code;

use super::plan::{Compare, Expr, Math, Pattern, Query};
use super::run::{Env, Frame};
use super::types;
use super::value::{self, Datum};
use crate::error::SqlError;

type Value = Result<Datum, SqlError>;

impl Compare {
    /// Of two values that are not null.
    fn holds(self, a: &Datum, b: &Datum) -> bool {
        let order = a.order(b);
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }

    fn value(self, a: &Datum, b: &Datum) -> Datum {
        if a.is_null() || b.is_null() { Datum::Null } else { self.holds(a, b).into() }
    }

    /// Compared with some of several values, or with all.
    fn among(self, value: &Datum, others: impl Iterator<Item = Datum>, is_all: bool) -> Datum {
        let mut is_unknown = false;
        for other in others {
            match self.value(value, &other) {
                Datum::Null => is_unknown = true,
                found if found.is_true() != is_all => return (!is_all).into(),
                _ => {}
            }
        }
        if is_unknown { Datum::Null } else { is_all.into() }
    }
}

impl Expr {
    /// Its value for a row.
    #[expect(clippy::too_many_lines, reason = "one arm for each kind")]
    pub(super) fn value(&self, env: &Env<'_>, frame: &Frame<'_>) -> Value {
        let get = |expr: &Self| expr.value(env, frame);
        let all = |exprs: &[Self]| exprs.iter().map(get).collect::<Result<Vec<_>, _>>();
        Ok(match self {
            Self::Const(value) => value.clone(),
            Self::Parameter(index) => env.parameters.get(*index).cloned().unwrap_or(Datum::Null),
            Self::Column { depth, index } => column(frame, *depth, *index),
            Self::Set(index) => frame.sets.get(*index).cloned().unwrap_or(Datum::Null),
            Self::Aggregate(index) => frame.aggregates.get(*index).cloned().unwrap_or(Datum::Null),
            Self::Window(index) => frame.windows.get(*index).cloned().unwrap_or(Datum::Null),
            Self::Cast(inner, from, to) => value::cast(&get(inner)?, *from, *to, env.world)?,
            Self::Call(function, arguments) => {
                let arguments = all(arguments)?;
                if function.is_strict && arguments.iter().any(Datum::is_null) {
                    Datum::Null
                } else {
                    (function.run)(env, &arguments)?
                }
            }
            Self::And(a, b) => both(get(a)?, || get(b), false)?,
            Self::Or(a, b) => both(get(a)?, || get(b), true)?,
            Self::Not(inner) => match get(inner)? {
                Datum::Bool(value) => (!value).into(),
                _ => Datum::Null,
            },
            Self::IsNull(inner) => get(inner)?.is_null().into(),
            Self::Is(inner, wanted) => (get(inner)? == Datum::Bool(*wanted)).into(),
            Self::NotDistinct(a, b) => get(a)?.order(&get(b)?).is_eq().into(),
            Self::Compare(op, a, b) => op.value(&get(a)?, &get(b)?),
            Self::Math(op, a, b) => math(*op, &get(a)?, &get(b)?)?,
            Self::Negative(inner) => math(Math::Subtract, &Datum::Int(0), &get(inner)?)?,
            Self::Case(arms, otherwise) => {
                for (when, then) in arms {
                    if get(when)?.is_true() {
                        return get(then);
                    }
                }
                get(otherwise)?
            }
            Self::Coalesce(exprs) => {
                for expr in exprs {
                    let value = get(expr)?;
                    if !value.is_null() {
                        return Ok(value);
                    }
                }
                Datum::Null
            }
            Self::NullIf(a, b) => {
                let (a, b) = (get(a)?, get(b)?);
                if !b.is_null() && a.order(&b).is_eq() { Datum::Null } else { a }
            }
            Self::Extreme(is_least, exprs) => {
                let values = all(exprs)?.into_iter().filter(|value| !value.is_null());
                let found = if *is_least {
                    values.min_by(Datum::order)
                } else {
                    values.max_by(Datum::order)
                };
                found.unwrap_or(Datum::Null)
            }
            Self::In(value, others) => {
                Compare::Equal.among(&get(value)?, all(others)?.into_iter(), false)
            }
            Self::Any { left, op, list, is_all } => match get(list)? {
                Datum::Null => Datum::Null,
                list => op.among(&get(left)?, list.items().iter().cloned(), *is_all),
            },
            Self::Match { pattern, text, with } => match (get(text)?, get(with)?) {
                (Datum::Text(text), Datum::Text(with)) => {
                    matches(env, *pattern, &text, &with)?.into()
                }
                _ => Datum::Null,
            },
            Self::Array(exprs) => Datum::list(all(exprs)?),
            Self::Record(exprs) => Datum::Record(all(exprs)?.into()),
            Self::Concat(a, b) => concat(get(a)?, get(b)?),
            Self::Index { list, index, first } => {
                let place = get(index)?.int().and_then(|index| usize::try_from(index - first).ok());
                place.and_then(|place| get(list).ok()?.items().get(place).cloned()).into_value()
            }
            Self::Slice { list, low, high, first } => {
                let end = |expr: &Option<Box<Self>>| -> Result<Option<i64>, SqlError> {
                    Ok(expr.as_ref().map(|expr| get(expr)).transpose()?.and_then(|end| end.int()))
                };
                let (low, high) = (end(low)?.unwrap_or(*first), end(high)?.unwrap_or(i64::MAX));
                let list = get(list)?;
                let within = list
                    .items()
                    .iter()
                    .zip(*first..)
                    .filter(|(_, place)| (low..=high).contains(place));
                Datum::list(within.map(|(item, _)| item.clone()))
            }
            Self::Field(inner, place) => get(inner)?.items().get(*place).cloned().into_value(),
            Self::Scalar(query) => scalar(query, env, frame)?,
            Self::Exists(query) => (!query.run(env, Some(frame))?.is_empty()).into(),
            Self::ArrayOf(query) => Datum::list(firsts(query, env, frame)?),
            Self::InQuery { left, op, query, is_all } => {
                op.among(&get(left)?, firsts(query, env, frame)?.into_iter(), *is_all)
            }
        })
    }
}

trait IntoValue {
    fn into_value(self) -> Datum;
}

impl IntoValue for Option<Datum> {
    fn into_value(self) -> Datum {
        self.unwrap_or(Datum::Null)
    }
}

fn column(frame: &Frame<'_>, depth: usize, index: usize) -> Datum {
    let mut frame = frame;
    for _ in 0..depth {
        let Some(outer) = frame.outer else { return Datum::Null };
        frame = outer;
    }
    frame.row.get(index).cloned().into_value()
}

/// `AND` and `OR`: the second is asked only if the first does not decide.
fn both(a: Datum, b: impl FnOnce() -> Value, decides: bool) -> Value {
    if a == Datum::Bool(decides) {
        return Ok(a);
    }
    let b = b()?;
    Ok(if b == Datum::Bool(decides) {
        b
    } else if a.is_null() || b.is_null() {
        Datum::Null
    } else {
        a
    })
}

fn firsts(query: &Arc<Query>, env: &Env<'_>, frame: &Frame<'_>) -> Result<Vec<Datum>, SqlError> {
    let rows = query.run(env, Some(frame))?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next()).collect())
}

fn scalar(query: &Arc<Query>, env: &Env<'_>, frame: &Frame<'_>) -> Value {
    let mut values = firsts(query, env, frame)?;
    if values.len() > 1 {
        let message = "more than one row returned by a subquery used as an expression";
        return Err(SqlError::new("21000", code::SQL_SYNTAX, message));
    }
    Ok(values.pop().into_value())
}

fn concat(a: Datum, b: Datum) -> Datum {
    match (&a, &b) {
        (Datum::List(left), Datum::List(right)) => {
            Datum::list(left.iter().chain(right.iter()).cloned())
        }
        (Datum::List(_), Datum::Null) => a,
        (Datum::Null, Datum::List(_)) => b,
        (Datum::List(left), item) => Datum::list(left.iter().chain([item]).cloned()),
        (item, Datum::List(right)) => Datum::list([item].into_iter().chain(right.iter()).cloned()),
        (Datum::Text(a), Datum::Text(b)) => Datum::text([a.as_ref(), b.as_ref()].concat()),
        _ => Datum::Null,
    }
}

fn out_of_range() -> SqlError {
    SqlError::new("22003", code::SQL_SYNTAX, "integer out of range")
}

fn math(op: Math, a: &Datum, b: &Datum) -> Value {
    match (a, b) {
        (Datum::Int(a), Datum::Int(b)) => {
            if *b == 0 && matches!(op, Math::Divide | Math::Modulo) {
                return Err(SqlError::new("22012", code::SQL_SYNTAX, "division by zero"));
            }
            let shift = u32::try_from(*b).ok();
            let found = match op {
                Math::Add => a.checked_add(*b),
                Math::Subtract => a.checked_sub(*b),
                Math::Multiply => a.checked_mul(*b),
                Math::Divide => a.checked_div(*b),
                Math::Modulo => a.checked_rem(*b),
                Math::And => Some(a & b),
                Math::Or => Some(a | b),
                Math::ShiftLeft => shift.and_then(|shift| a.checked_shl(shift)),
                Math::ShiftRight => shift.and_then(|shift| a.checked_shr(shift)),
            };
            found.map(Datum::Int).ok_or_else(out_of_range)
        }
        (Datum::Float(a), Datum::Float(b)) => Ok(Datum::Float(match op {
            Math::Add => a + b,
            Math::Subtract => a - b,
            Math::Multiply => a * b,
            Math::Divide if *b == 0.0 => {
                return Err(SqlError::new("22012", code::SQL_SYNTAX, "division by zero"));
            }
            Math::Divide => a / b,
            _ => a % b,
        })),
        (Datum::Int(0), Datum::Float(b)) => Ok(Datum::Float(-b)),
        _ => Ok(Datum::Null),
    }
}

fn matches(
    env: &Env<'_>,
    pattern: Pattern,
    text: &Arc<str>,
    with: &Arc<str>,
) -> Result<bool, SqlError> {
    let (regex, ignores_case) = match pattern {
        Pattern::Like { escape, ignores_case: false } => {
            let (text, with): (Vec<char>, Vec<char>) =
                (text.chars().collect(), with.chars().collect());
            return Ok(like(&text, &with, escape));
        }
        Pattern::Like { escape, ignores_case: true } => {
            let folded = |text: &str| text.to_lowercase().chars().collect::<Vec<_>>();
            return Ok(like(&folded(text), &folded(with), escape));
        }
        Pattern::Regex { ignores_case } => (with, ignores_case),
    };
    let key = (Arc::clone(regex), Arc::clone(text));
    if let Some(known) = env.matches.borrow().get(&key).filter(|_| !ignores_case) {
        return Ok(*known);
    }
    let flags = ignores_case.then_some("i");
    let array = StringArray::from(vec![text.as_ref()]);
    let found = arrow::compute::regexp_is_match_scalar(&array, regex, flags).map_err(|_| {
        let message = format!("invalid regular expression: {regex}");
        SqlError::new("2201B", code::SQL_SYNTAX, message)
    })?;
    let found = found.value(0);
    if !ignores_case {
        env.matches.borrow_mut().insert(key, found);
    }
    Ok(found)
}

/// `LIKE`: of two ways to go on behind the last `%`, the shorter is tried first.
fn like(text: &[char], pattern: &[char], escape: Option<char>) -> bool {
    let (mut at, mut place) = (0, 0);
    // Where the last `%` stood, and where in the text it ends.
    let mut last: Option<(usize, usize)> = None;
    loop {
        let wanted = pattern.get(place).copied();
        let is_escaped = wanted.is_some() && wanted == escape;
        let (wanted, width) = match (is_escaped, wanted) {
            (true, _) => (pattern.get(place + 1).copied(), 2),
            (false, wanted) => (wanted, 1),
        };
        let here = text.get(at).copied();
        match (wanted, here) {
            (Some('%'), _) if !is_escaped => {
                last = Some((place + 1, at));
                place += 1;
                continue;
            }
            (Some('_'), Some(_)) if !is_escaped => {
                (at, place) = (at + 1, place + 1);
                continue;
            }
            (Some(wanted), Some(here)) if wanted == here => {
                (at, place) = (at + 1, place + width);
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        match last {
            Some((after, from)) if from < text.len() => {
                last = Some((after, from + 1));
                (at, place) = (from + 1, after);
            }
            _ => return false,
        }
    }
}

/// The first subscript of a list of this type.
pub(super) const fn first_of(oid: types::Oid) -> i64 {
    if types::is_vector(oid) { 0 } else { 1 }
}
