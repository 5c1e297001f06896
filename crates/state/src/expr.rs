//! Expressions over one row: exact, total, the same everywhere.
//!
//! Semantics are PostgreSQL 15's of the same operators, with bytewise comparison of texts (collation "C") and no floats.
//! Integers overflow into an error; `numeric` results keep PostgreSQL's scales where they fit 38 digits.
//!
//! Every step is metered: one a node, and one for every [`STEP_SIZE`] bytes of what it gives.

use std::cell::Cell;
use std::cmp::Ordering;

use quipu_types::program::{Binary, Expr, Function, Unary};
use quipu_types::row::NUMERIC_PRECISION_MAX;
use quipu_types::{ColumnType, Hash, Time, Value, code};

use crate::table::Fault;
use crate::value::{self, Typed};

/// Longest text that an expression makes, in bytes.
const TEXT_SIZE_MAX: usize = 1 << 20;
/// Bytes that are read, compared or copied in about the time of one node.
const STEP_SIZE: usize = 64;
/// Bytes of JSON that are parsed in that time.
const JSON_STEP_SIZE: usize = 4;

/// What an expression sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    /// The row, as its columns' types and values.
    pub(crate) row: &'a [Typed],
    /// The row that was to be inserted.
    pub(crate) excluded: &'a [Typed],
    /// What the program's signer gave beside its expressions.
    pub(crate) parameters: &'a [Typed],
    /// Time of the height.
    pub(crate) time: Time,
    /// What random values come from.
    pub(crate) seed: Seed,
    /// Steps that may still be done.
    pub(crate) steps: &'a Cell<u64>,
}

/// What random values come from, beside their number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed {
    /// Name of the transaction.
    pub(crate) tx: Hash,
    /// Which of its rows this is.
    pub(crate) row: u64,
    /// 0 for the program's own expressions, `i` for the default of column `i - 1`.
    pub(crate) part: u16,
}

impl Scope<'_> {
    fn spend(&self, size: usize, step_size: usize) -> Result<()> {
        let steps = u64::try_from(size.checked_div(step_size).unwrap_or(0)).unwrap_or(u64::MAX);
        let left = self.steps.get().checked_sub(steps.saturating_add(1));
        self.steps.set(left.unwrap_or(0));
        left.map(drop).ok_or(Fault::of(code::METER))
    }
}

type Result<T> = std::result::Result<T, Fault>;

/// The value of an expression.
pub(crate) fn eval(expr: &Expr, scope: &Scope<'_>) -> Result<Typed> {
    let value = value_of(expr, scope)?;
    scope.spend(value.size(), STEP_SIZE)?;
    Ok(value)
}

fn value_of(expr: &Expr, scope: &Scope<'_>) -> Result<Typed> {
    match expr {
        Expr::Const(kind, value) => Ok(Typed { kind: *kind, value: value.clone() }),
        Expr::Column(column) => member(scope.row, *column),
        Expr::Excluded(column) => member(scope.excluded, *column),
        Expr::Parameter(number) => member(scope.parameters, *number),
        Expr::Now => {
            let micros = i64::try_from(scope.time.get()).map_err(|_| Fault::OUT_OF_RANGE)?;
            Ok(Typed { kind: ColumnType::Timestamptz, value: Value::Timestamptz(micros) })
        }
        Expr::Random(number) => Ok(random(scope.seed, *number)),
        Expr::Unary(op, operand) => unary(*op, eval(operand, scope)?),
        Expr::Binary(op @ (Binary::And | Binary::Or), left, right) => {
            logic(*op, &eval(left, scope)?, || eval(right, scope))
        }
        Expr::Binary(Binary::Like, left, right) => {
            like(&eval(left, scope)?, &eval(right, scope)?, scope)
        }
        Expr::Binary(op, left, right) => binary(*op, &eval(left, scope)?, &eval(right, scope)?),
        Expr::In(operand, list) => {
            let operand = eval(operand, scope)?;
            let mut found = Some(false);
            for member in list {
                match equal(&operand, &eval(member, scope)?)? {
                    Some(true) => return Ok(Typed::boolean(Some(true))),
                    Some(false) => {}
                    None => found = None,
                }
            }
            Ok(Typed::boolean(found))
        }
        Expr::Case(branches, otherwise) => {
            for (condition, value) in branches {
                if truth(&eval(condition, scope)?)? == Some(true) {
                    return eval(value, scope);
                }
            }
            let otherwise = otherwise.as_deref().map(|expr| eval(expr, scope));
            otherwise.unwrap_or(Ok(Typed::NULL))
        }
        Expr::Cast(operand, kind) => {
            let operand = eval(operand, scope)?;
            if *kind == ColumnType::Jsonb {
                scope.spend(operand.size(), JSON_STEP_SIZE)?;
            }
            value::cast(operand, *kind, value::Cast::Written)
        }
        Expr::Call(function, arguments) => call(*function, arguments, scope),
    }
}

/// Whether a condition is true; unknown is not.
pub(crate) fn holds(expr: Option<&Expr>, scope: &Scope<'_>) -> Result<bool> {
    match expr {
        None => Ok(true),
        Some(expr) => Ok(truth(&eval(expr, scope)?)? == Some(true)),
    }
}

/// The truth of a value of a condition.
pub(crate) fn truth(value: &Typed) -> Result<Option<bool>> {
    match value.value {
        Value::Null => Ok(None),
        Value::Bool(value) => Ok(Some(value)),
        _ => Err(Fault::TYPE_MISMATCH),
    }
}

fn member(all: &[Typed], place: u16) -> Result<Typed> {
    all.get(usize::from(place)).cloned().ok_or(Fault::TYPE_MISMATCH)
}

/// A version 4 UUID (RFC 9562) of bits that the transaction's name gives.
fn random(Seed { tx, row, part }: Seed, number: u32) -> Typed {
    let (row, part, number) = (row.to_le_bytes(), part.to_le_bytes(), number.to_le_bytes());
    let parts: [&[u8]; 5] = [b"quipu/1 random", tx.bytes(), &row, &part, &number];
    let hash = quipu_crypto::hash::sha256_concat(&parts);
    let mut bytes = [0; 16];
    for (index, (byte, source)) in bytes.iter_mut().zip(hash.bytes()).enumerate() {
        *byte = match index {
            6 => source & 0x0F | 0x40,
            8 => source & 0x3F | 0x80,
            _ => *source,
        };
    }
    Typed { kind: ColumnType::Uuid, value: Value::Uuid(bytes) }
}

fn unary(op: Unary, operand: Typed) -> Result<Typed> {
    Ok(match op {
        Unary::Not => Typed::boolean(truth(&operand)?.map(|value| !value)),
        Unary::IsNull => Typed::boolean(Some(operand.is_null())),
        Unary::IsTrue => Typed::boolean(Some(truth(&operand)? == Some(true))),
        Unary::IsFalse => Typed::boolean(Some(truth(&operand)? == Some(false))),
        Unary::Negative => {
            let negative = match operand.value {
                Value::Null => Value::Null,
                Value::Int2(value) => Value::Int2(value.checked_neg().ok_or(Fault::OUT_OF_RANGE)?),
                Value::Int4(value) => Value::Int4(value.checked_neg().ok_or(Fault::OUT_OF_RANGE)?),
                Value::Int8(value) => Value::Int8(value.checked_neg().ok_or(Fault::OUT_OF_RANGE)?),
                Value::Numeric(value) => {
                    Value::Numeric(value.checked_neg().ok_or(Fault::OUT_OF_RANGE)?)
                }
                _ => return Err(Fault::TYPE_MISMATCH),
            };
            Typed { kind: operand.kind, value: negative }
        }
    })
}

/// AND and OR of three truths; the second operand is not looked at where the first decides.
fn logic(op: Binary, left: &Typed, right: impl FnOnce() -> Result<Typed>) -> Result<Typed> {
    let decides = op == Binary::Or;
    let left = truth(left)?;
    if left == Some(decides) {
        return Ok(Typed::boolean(left));
    }
    let right = truth(&right()?)?;
    Ok(Typed::boolean(match (left, right) {
        (_, Some(right)) if right == decides => Some(decides),
        (Some(_), Some(right)) => Some(right),
        _ => None,
    }))
}

fn binary(op: Binary, left: &Typed, right: &Typed) -> Result<Typed> {
    if op == Binary::NotDistinct {
        let same = match (left.is_null(), right.is_null()) {
            (true, true) => true,
            (false, false) => equal(left, right)? == Some(true),
            _ => false,
        };
        return Ok(Typed::boolean(Some(same)));
    }
    if let Some(wanted) = comparison(op) {
        let ordering = compare(left, right)?;
        return Ok(Typed::boolean(ordering.map(wanted)));
    }
    match op {
        Binary::Concat => concat(left, right),
        _ => arithmetic(op, left, right),
    }
}

fn comparison(op: Binary) -> Option<fn(Ordering) -> bool> {
    Some(match op {
        Binary::Equal => Ordering::is_eq,
        Binary::NotEqual => Ordering::is_ne,
        Binary::Less => Ordering::is_lt,
        Binary::LessOrEqual => Ordering::is_le,
        Binary::Greater => Ordering::is_gt,
        Binary::GreaterOrEqual => Ordering::is_ge,
        _ => return None,
    })
}

fn equal(left: &Typed, right: &Typed) -> Result<Option<bool>> {
    Ok(compare(left, right)?.map(Ordering::is_eq))
}

fn uuid_of(text: &str) -> Result<[u8; 16]> {
    quipu_types::row_json::uuid_from_text(text.trim()).ok_or(Fault::BAD_TEXT)
}

/// How two values stand to each other; unknown where one is null.
pub(crate) fn compare(left: &Typed, right: &Typed) -> Result<Option<Ordering>> {
    Ok(Some(match (&left.value, &right.value) {
        (Value::Null, _) | (_, Value::Null) => return Ok(None),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) | (Value::Jsonb(a), Value::Jsonb(b)) => a.cmp(b),
        (Value::Bytea(a), Value::Bytea(b)) => a.cmp(b),
        (Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
        // A text beside a uuid is meant as one.
        (Value::Uuid(a), Value::Text(b)) => a.cmp(&uuid_of(b)?),
        (Value::Text(a), Value::Uuid(b)) => uuid_of(a)?.cmp(b),
        _ => match (left.instant(), right.instant()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => {
                let (a, a_scale) = left.decimal().ok_or(Fault::TYPE_MISMATCH)?;
                let (b, b_scale) = right.decimal().ok_or(Fault::TYPE_MISMATCH)?;
                compare_decimals((a, a_scale), (b, b_scale))
            }
        },
    }))
}

/// Compares `value / 10^scale`s: whole parts first, so that nothing overflows.
fn compare_decimals((a, a_scale): (i128, u8), (b, b_scale): (i128, u8)) -> Ordering {
    let (a_unit, b_unit) = (value::power(a_scale), value::power(b_scale));
    let whole = (a.div_euclid(a_unit)).cmp(&b.div_euclid(b_unit));
    let scale = a_scale.max(b_scale);
    // Fractions are below 10^38.
    let part = |value: i128, unit: i128, own: u8| {
        value.rem_euclid(unit).saturating_mul(value::power(scale.saturating_sub(own)))
    };
    whole.then_with(|| part(a, a_unit, a_scale).cmp(&part(b, b_unit, b_scale)))
}

fn concat(left: &Typed, right: &Typed) -> Result<Typed> {
    if let (Value::Bytea(a), Value::Bytea(b)) = (&left.value, &right.value) {
        let bytes = [a.as_slice(), b.as_slice()].concat();
        let value = Value::Bytea(bounded(bytes, Vec::len)?);
        return Ok(Typed { kind: ColumnType::Bytea, value });
    }
    if left.is_null() || right.is_null() {
        return Ok(Typed { kind: ColumnType::Text, value: Value::Null });
    }
    let text = format!("{}{}", value::text_of(left)?, value::text_of(right)?);
    Ok(Typed::text(bounded(text, String::len)?))
}

fn bounded<T>(made: T, size: impl Fn(&T) -> usize) -> Result<T> {
    if size(&made) > TEXT_SIZE_MAX { Err(Fault::TEXT_TOO_LONG) } else { Ok(made) }
}

fn like(left: &Typed, right: &Typed, scope: &Scope<'_>) -> Result<Typed> {
    match (&left.value, &right.value) {
        (Value::Null, _) | (_, Value::Null) => Ok(Typed::boolean(None)),
        (Value::Text(text), Value::Text(pattern)) => {
            Ok(Typed::boolean(Some(is_like(text, pattern, scope)?)))
        }
        _ => Err(Fault::TYPE_MISMATCH),
    }
}

/// `%` any characters, `_` one, `\` takes the next as it is. Goes back to the last `%` alone: at most the product
/// of both lengths, which is metered.
fn is_like(text: &str, pattern: &str, scope: &Scope<'_>) -> Result<bool> {
    let (text, pattern): (Vec<char>, Vec<char>) =
        (text.chars().collect(), pattern.chars().collect());
    let (mut at, mut place) = (0_usize, 0_usize);
    let mut back: Option<(usize, usize)> = None;
    while at < text.len() {
        let (wanted, width) = match pattern.get(place) {
            Some('%') => {
                place = place.saturating_add(1);
                back = Some((place, at));
                continue;
            }
            Some('_') => (text.get(at), 1),
            Some('\\') if place.saturating_add(1) < pattern.len() => {
                (pattern.get(place.saturating_add(1)), 2)
            }
            other => (other, 1),
        };
        if wanted.is_some() && wanted == text.get(at) {
            at = at.saturating_add(1);
            place = place.saturating_add(width);
            continue;
        }
        let Some((restart, from)) = back else { return Ok(false) };
        scope.spend(at.saturating_sub(from), STEP_SIZE)?;
        back = Some((restart, from.saturating_add(1)));
        (place, at) = (restart, from.saturating_add(1));
    }
    let mut rest = pattern.get(place..).into_iter().flatten();
    Ok(rest.all(|character| *character == '%'))
}

fn arithmetic(op: Binary, left: &Typed, right: &Typed) -> Result<Typed> {
    if let Some(done) = days(op, left, right)? {
        return Ok(done);
    }
    let is_null = left.is_null() || right.is_null();
    let kind = match (value::width(left.kind), value::width(right.kind)) {
        (Some(a), Some(b)) => value::integer(a.max(b)),
        _ if left.kind == ColumnType::Float8 || right.kind == ColumnType::Float8 => {
            return Err(Fault::TYPE_MISMATCH);
        }
        _ if is_null => return Ok(Typed::NULL),
        _ => return decimals(op, left, right),
    };
    if is_null {
        return Ok(Typed { kind, value: Value::Null });
    }
    let (Some((a, _)), Some((b, _))) = (left.decimal(), right.decimal()) else {
        return Err(Fault::TYPE_MISMATCH);
    };
    let result = match op {
        Binary::Add => a.checked_add(b),
        Binary::Subtract => a.checked_sub(b),
        Binary::Multiply => a.checked_mul(b),
        Binary::Divide | Binary::Modulo if b == 0 => return Err(Fault::DIVISION_BY_ZERO),
        Binary::Divide => a.checked_div(b),
        Binary::Modulo => a.checked_rem(b),
        _ => return Err(Fault::TYPE_MISMATCH),
    };
    let result = result.ok_or(Fault::OUT_OF_RANGE)?;
    Ok(Typed { kind, value: value::of_integer(result, kind)? })
}

/// `date ± days` and `date - date`; none for other operands.
fn days(op: Binary, left: &Typed, right: &Typed) -> Result<Option<Typed>> {
    let number = |operand: &Typed| match operand.value {
        Value::Int2(_) | Value::Int4(_) | Value::Int8(_) => {
            operand.decimal().map(|(value, _)| value)
        }
        _ => None,
    };
    let result = match (op, &left.value, &right.value) {
        (Binary::Subtract, Value::Date(a), Value::Date(b)) => {
            let days = a.checked_sub(*b).ok_or(Fault::OUT_OF_RANGE)?;
            return Ok(Some(Typed { kind: ColumnType::Int4, value: Value::Int4(days) }));
        }
        (Binary::Add, Value::Date(a), _) => number(right).map(|b| i128::from(*a).checked_add(b)),
        (Binary::Add, _, Value::Date(b)) => number(left).map(|a| i128::from(*b).checked_add(a)),
        (Binary::Subtract, Value::Date(a), _) => {
            number(right).map(|b| i128::from(*a).checked_sub(b))
        }
        _ => None,
    };
    let Some(days) = result else { return Ok(None) };
    let days = days.and_then(|days| i32::try_from(days).ok()).ok_or(Fault::OUT_OF_RANGE)?;
    Ok(Some(Typed { kind: ColumnType::Date, value: Value::Date(days) }))
}

/// Arithmetic of exact decimals.
fn decimals(op: Binary, left: &Typed, right: &Typed) -> Result<Typed> {
    let (a, a_scale) = left.decimal().ok_or(Fault::TYPE_MISMATCH)?;
    let (b, b_scale) = right.decimal().ok_or(Fault::TYPE_MISMATCH)?;
    let scale = a_scale.max(b_scale);
    let grown = |value: i128, own: u8, to: u8| {
        value.checked_mul(value::power(to.saturating_sub(own))).ok_or(Fault::OUT_OF_RANGE)
    };
    let (result, scale) = match op {
        Binary::Add => (grown(a, a_scale, scale)?.checked_add(grown(b, b_scale, scale)?), scale),
        Binary::Subtract => {
            (grown(a, a_scale, scale)?.checked_sub(grown(b, b_scale, scale)?), scale)
        }
        Binary::Multiply => (a.checked_mul(b), a_scale.saturating_add(b_scale)),
        Binary::Divide | Binary::Modulo if b == 0 => return Err(Fault::DIVISION_BY_ZERO),
        Binary::Modulo => (grown(a, a_scale, scale)?.checked_rem(grown(b, b_scale, scale)?), scale),
        Binary::Divide => {
            let scale = quotient_scale((a, a_scale), (b, b_scale));
            // a / 10^i ÷ b / 10^j = a × 10^(scale + j - i) ÷ b ÷ 10^scale, and scale ≥ i.
            let up = u32::from(scale.saturating_add(b_scale).saturating_sub(a_scale));
            let grown = match a {
                0 => Some(0),
                _ => 10_i128.checked_pow(up).and_then(|unit| a.checked_mul(unit)),
            };
            (grown.and_then(|a| value::divide_rounded(a, b)), scale)
        }
        _ => return Err(Fault::TYPE_MISMATCH),
    };
    value::decimal_of(result.ok_or(Fault::OUT_OF_RANGE)?, scale)
}

/// PostgreSQL's scale of a quotient (`select_div_scale`): at least 16 significant digits, counted in groups of four,
/// and no fewer than either operand has.
fn quotient_scale(a: (i128, u8), b: (i128, u8)) -> u8 {
    let ((a_weight, a_first), (b_weight, b_first)) = (group(a), group(b));
    let mut weight = a_weight.saturating_sub(b_weight);
    if a_first <= b_first {
        weight = weight.saturating_sub(1);
    }
    let scale = 16_i32.saturating_sub(weight.saturating_mul(4));
    let scale = scale.max(i32::from(a.1)).max(i32::from(b.1)).max(0);
    u8::try_from(scale.min(i32::from(NUMERIC_PRECISION_MAX))).unwrap_or(NUMERIC_PRECISION_MAX)
}

/// Weight, in base 10,000, and value of a decimal's first group of four digits.
fn group((value, scale): (i128, u8)) -> (i32, u128) {
    let value = value.unsigned_abs();
    if value == 0 {
        return (0, 0);
    }
    let digits = i32::try_from(value.ilog10()).unwrap_or(0);
    // Place of the first digit: 0 is the ones.
    let place = digits.saturating_sub(i32::from(scale));
    let weight = place.div_euclid(4);
    // Digits of the first group, and how many digits stand behind them.
    let behind = weight.saturating_mul(4).saturating_add(i32::from(scale));
    let first = match u32::try_from(behind) {
        Ok(behind) => 10_u128.checked_pow(behind).and_then(|unit| value.checked_div(unit)),
        Err(_) => {
            10_u128.checked_pow(behind.unsigned_abs()).and_then(|unit| value.checked_mul(unit))
        }
    };
    (weight, first.unwrap_or(0))
}

fn call(function: Function, arguments: &[Expr], scope: &Scope<'_>) -> Result<Typed> {
    let argument = |index: usize| match arguments.get(index) {
        Some(expr) => eval(expr, scope),
        None => Err(Fault::TYPE_MISMATCH),
    };
    match function {
        Function::Coalesce => {
            let mut last = Typed::NULL;
            for expr in arguments {
                last = eval(expr, scope)?;
                if !last.is_null() {
                    break;
                }
            }
            Ok(last)
        }
        Function::NullIf => {
            let (first, second) = (argument(0)?, argument(1)?);
            let same = equal(&first, &second)? == Some(true);
            Ok(if same { Typed { value: Value::Null, ..first } } else { first })
        }
        Function::Greatest | Function::Least => {
            let wanted =
                if function == Function::Greatest { Ordering::Greater } else { Ordering::Less };
            let mut best = Typed::NULL;
            for expr in arguments {
                let next = eval(expr, scope)?;
                let is_better = best.is_null() || compare(&next, &best)? == Some(wanted);
                if !next.is_null() && is_better {
                    best = next;
                }
            }
            Ok(best)
        }
        Function::Abs => {
            let operand = argument(0)?;
            match operand.decimal() {
                Some((value, _)) if value < 0 => unary(Unary::Negative, operand),
                None if !operand.is_null() => Err(Fault::TYPE_MISMATCH),
                _ => Ok(operand),
            }
        }
        Function::Round => {
            let scale = if arguments.len() > 1 { argument(1)? } else { Typed::integer(0) };
            round(&argument(0)?, &scale)
        }
        Function::Lower | Function::Upper | Function::Length | Function::Trim => {
            of_text(function, &argument(0)?)
        }
        Function::Substring => {
            let length = if arguments.len() > 2 { Some(argument(2)?) } else { None };
            substring(&argument(0)?, &argument(1)?, length.as_ref())
        }
    }
}

fn round(operand: &Typed, scale: &Typed) -> Result<Typed> {
    if operand.is_null() || scale.is_null() {
        return Ok(Typed::NULL);
    }
    let (value, own) = operand.decimal().ok_or(Fault::TYPE_MISMATCH)?;
    let places = whole(scale)?;
    let Ok(scale) = u8::try_from(places.max(0)) else { return Err(Fault::OUT_OF_RANGE) };
    if places < 0 {
        // Before the point: more places than a number has leave nothing of it.
        let unit = |places: i128| 10_i128.checked_pow(u32::try_from(places).ok()?);
        let places = places.saturating_neg();
        let whole = unit(places.saturating_add(i128::from(own)));
        let whole = whole.and_then(|unit| value::divide_rounded(value, unit)).unwrap_or(0);
        let rounded = if whole == 0 {
            Some(0)
        } else {
            unit(places).and_then(|unit| unit.checked_mul(whole))
        };
        return value::decimal_of(rounded.ok_or(Fault::OUT_OF_RANGE)?, 0);
    }
    let value = value::rescale(value, own, scale.min(NUMERIC_PRECISION_MAX));
    value::decimal_of(value.ok_or(Fault::OUT_OF_RANGE)?, scale.min(NUMERIC_PRECISION_MAX))
}

/// The value of an integer.
fn whole(operand: &Typed) -> Result<i128> {
    match (value::width(operand.kind), operand.decimal()) {
        (Some(_), Some((value, _))) => Ok(value),
        _ => Err(Fault::TYPE_MISMATCH),
    }
}

fn of_text(function: Function, operand: &Typed) -> Result<Typed> {
    let text = match &operand.value {
        Value::Null => return Ok(Typed::NULL),
        Value::Text(text) => text,
        _ => return Err(Fault::TYPE_MISMATCH),
    };
    Ok(match function {
        // As PostgreSQL under collation "C": ASCII alone.
        Function::Lower => Typed::text(text.to_ascii_lowercase()),
        Function::Upper => Typed::text(text.to_ascii_uppercase()),
        Function::Trim => Typed::text(text.trim_matches(' ').to_owned()),
        _ => {
            let count = i32::try_from(text.chars().count()).map_err(|_| Fault::OUT_OF_RANGE)?;
            Typed { kind: ColumnType::Int4, value: Value::Int4(count) }
        }
    })
}

fn substring(text: &Typed, from: &Typed, length: Option<&Typed>) -> Result<Typed> {
    if text.is_null() || from.is_null() || length.is_some_and(Typed::is_null) {
        return Ok(Typed::NULL);
    }
    let Value::Text(text) = &text.value else { return Err(Fault::TYPE_MISMATCH) };
    let from = whole(from)?;
    let end = match length {
        None => i128::MAX,
        Some(length) => match whole(length)? {
            negative if negative < 0 => return Err(Fault::OUT_OF_RANGE),
            length => from.saturating_add(length),
        },
    };
    let part = (1_i128..).zip(text.chars()).filter(|(place, _)| *place >= from && *place < end);
    Ok(Typed::text(part.map(|(_, character)| character).collect()))
}

#[cfg(test)]
mod tests;
