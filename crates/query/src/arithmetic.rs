//! Arithmetic as PostgreSQL has it: integers and floats that overflow are an error, and a quotient of decimals has 16 digits
//! after the point (or its arguments', if more), rounded half away from zero.
//!
//! DataFusion's own operators wrap, and cut quotients short. Where both arguments' types are known to be such,
//! the operator is planned as one of these functions. Deviation: PostgreSQL's quotient has a number of digits
//! that depends on its size.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, Decimal128Array, Float64Array};
use arrow::compute::cast;
use arrow::compute::kernels::numeric::{add, mul, sub};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, i256};
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable as _, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::numeric::overflow;

/// Digits of a decimal, and after the point of a quotient.
const PRECISION: u8 = 38;
const QUOTIENT_SCALE: i8 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// Most of these operations within each other: planning takes time with the square of it.
const DEPTH_MAX: u32 = 64;
/// How the refusal of more begins; see [`crate::error`].
pub(crate) const TOO_DEEP: &str = "expression is nested too deeply";

/// Plans the operators.
#[derive(Debug)]
pub(crate) struct Planner;

fn depth_of(expr: &Expr) -> u32 {
    match expr {
        Expr::ScalarFunction(call) => {
            let inner: &dyn std::any::Any = call.func.inner().as_ref();
            inner.downcast_ref::<Checked>().map_or(0, |checked| checked.depth)
        }
        _ => 0,
    }
}

/// Whether a function is one of these operations.
pub(crate) fn is_checked(function: &ScalarUDF) -> bool {
    let inner: &dyn std::any::Any = function.inner().as_ref();
    inner.is::<Checked>()
}

/// An integer of a type with the other sign.
pub(crate) fn negative(expr: Expr, of: &DataType) -> Result<Expr> {
    let depth = depth_of(&expr).saturating_add(1);
    let function = ScalarUDF::new_from_impl(Checked::new(Operation::Subtract, depth));
    let zero = Expr::Literal(ScalarValue::new_zero(of)?, None);
    Ok(function.call(vec![zero, expr]))
}

fn is_decimal(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal128(_, scale) if *scale >= 0)
}

impl ExprPlanner for Planner {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let depth = depth_of(&expr.left).max(depth_of(&expr.right)).saturating_add(1);
        if depth > DEPTH_MAX {
            return Err(DataFusionError::Plan(format!(
                "{TOO_DEEP}: {DEPTH_MAX} operators at most"
            )));
        }
        let (Ok(left), Ok(right)) = (expr.left.get_type(schema), expr.right.get_type(schema))
        else {
            return Ok(PlannerResult::Original(expr));
        };
        let integers = left.is_signed_integer() && right.is_signed_integer();
        let decimals = (is_decimal(&left) || left.is_signed_integer())
            && (is_decimal(&right) || right.is_signed_integer())
            && !integers;
        let floats = (left.is_floating() && right.is_numeric())
            || (right.is_floating() && left.is_numeric());
        let operation = match &expr.op {
            BinaryOperator::Plus if floats => Operation::Add,
            BinaryOperator::Minus if floats => Operation::Subtract,
            BinaryOperator::Multiply if floats => Operation::Multiply,
            BinaryOperator::Divide if floats => Operation::Divide,
            BinaryOperator::Plus if integers => Operation::Add,
            BinaryOperator::Minus if integers => Operation::Subtract,
            BinaryOperator::Multiply if integers => Operation::Multiply,
            BinaryOperator::Divide if decimals => Operation::Divide,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let function = ScalarUDF::new_from_impl(Checked::new(operation, depth));
        let call = function.call(vec![expr.left, expr.right]);
        Ok(PlannerResult::Planned(call))
    }
}

/// One operation as a function of two arguments.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    operation: Operation,
    /// How many of these stand within each other here.
    depth: u32,
    signature: Signature,
}

impl Checked {
    fn new(operation: Operation, depth: u32) -> Self {
        Self { operation, depth, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn wider(left: &DataType, right: &DataType) -> DataType {
    let width = |data_type: &DataType| data_type.primitive_width().unwrap_or(8);
    if width(left) >= width(right) { left.clone() } else { right.clone() }
}

fn quotient_scale(types: &[DataType]) -> i8 {
    types
        .iter()
        .map(|data_type| match data_type {
            DataType::Decimal128(_, scale) => *scale,
            _ => 0,
        })
        .fold(QUOTIENT_SCALE, i8::max)
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &'static str {
        match self.operation {
            Operation::Add => "int_add",
            Operation::Subtract => "int_subtract",
            Operation::Multiply => "int_multiply",
            Operation::Divide => "numeric_divide",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [left, right] if left.is_floating() || right.is_floating() => {
                Ok(vec![DataType::Float64; 2])
            }
            [left, right] if self.operation != Operation::Divide => Ok(vec![wider(left, right); 2]),
            [_, _] => Ok(types.to_vec()),
            _ => Err(DataFusionError::Plan(format!("{} takes two arguments", self.name()))),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match (self.operation, types) {
            (_, [left, right]) if left.is_floating() || right.is_floating() => {
                Ok(DataType::Float64)
            }
            (Operation::Divide, types) => {
                Ok(DataType::Decimal128(PRECISION, quotient_scale(types)))
            }
            (_, [left, right]) => Ok(wider(left, right)),
            _ => Err(DataFusionError::Plan(format!("{} takes two arguments", self.name()))),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let arrays =
            args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<ArrayRef>>>()?;
        let [left, right] = arrays.as_slice() else {
            return Err(DataFusionError::Internal("two arguments were planned".into()));
        };
        let result = match self.operation {
            operation if *left.data_type() == DataType::Float64 => float(operation, left, right)?,
            Operation::Add => add(left, right).map_err(DataFusionError::from)?,
            Operation::Subtract => sub(left, right).map_err(DataFusionError::from)?,
            Operation::Multiply => mul(left, right).map_err(DataFusionError::from)?,
            Operation::Divide => divide(left, right)?,
        };
        if is_scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let sign = match self.operation {
            Operation::Add => '+',
            Operation::Subtract => '-',
            Operation::Multiply => '*',
            Operation::Divide => '/',
        };
        match args {
            [left, right] => Ok(format!("{} {sign} {}", left.schema_name(), right.schema_name())),
            _ => Ok(self.name().to_owned()),
        }
    }
}

/// An operation on floats, whose result is no infinity unless an operand is one.
fn float(operation: Operation, left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
    let right = cast(right, &DataType::Float64)?;
    let (left, right) = (left.as_primitive::<Float64Type>(), right.as_primitive::<Float64Type>());
    let one = |left: f64, right: f64| {
        let result = match operation {
            Operation::Add => left + right,
            Operation::Subtract => left - right,
            Operation::Multiply => left * right,
            Operation::Divide if right == 0.0 && !left.is_nan() => {
                return Err(DataFusionError::Execution("division by zero".into()));
            }
            Operation::Divide => left / right,
        };
        if result.is_infinite() && left.is_finite() && right.is_finite() {
            return Err(DataFusionError::Execution("value out of range: overflow".into()));
        }
        Ok(result)
    };
    let results = left.iter().zip(right.iter()).map(|pair| match pair {
        (Some(left), Some(right)) => one(left, right).map(Some),
        _ => Ok(None),
    });
    Ok(Arc::new(results.collect::<Result<Float64Array>>()?))
}

fn decimals(array: &ArrayRef) -> Result<(ArrayRef, i8)> {
    match array.data_type() {
        DataType::Decimal128(_, scale) => Ok((Arc::clone(array), *scale)),
        _ => Ok((cast(array, &DataType::Decimal128(PRECISION, 0))?, 0)),
    }
}

fn divide(left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
    let to = quotient_scale(&[left.data_type().clone(), right.data_type().clone()]);
    let (left, left_scale) = decimals(left)?;
    let (right, right_scale) = decimals(right)?;
    let left = left.as_primitive::<Decimal128Type>();
    let right = right.as_primitive::<Decimal128Type>();
    let shift = i32::from(to)
        .checked_add(i32::from(right_scale))
        .and_then(|sum| sum.checked_sub(i32::from(left_scale)))
        .and_then(|shift| u32::try_from(shift).ok())
        .ok_or_else(overflow)?;
    let factor = i256::from_i128(10).checked_pow(shift).ok_or_else(overflow)?;
    let quotients = left
        .iter()
        .zip(right.iter())
        .map(|pair| match pair {
            (Some(left), Some(right)) => quotient(left, right, factor).map(Some),
            _ => Ok(None),
        })
        .collect::<Result<Decimal128Array>>()?;
    Ok(Arc::new(quotients.with_precision_and_scale(PRECISION, to)?))
}

/// `left × factor ÷ right`, rounded half away from zero.
fn quotient(left: i128, right: i128, factor: i256) -> Result<i128> {
    if right == 0 {
        return Err(DataFusionError::Execution("division by zero".into()));
    }
    let scaled = i256::from_i128(left).checked_mul(factor).ok_or_else(overflow)?;
    let divisor = i256::from_i128(right);
    let whole = scaled.checked_div(divisor).and_then(i256::to_i128).ok_or_else(overflow)?;
    let rest = scaled.checked_rem(divisor).and_then(i256::to_i128).ok_or_else(overflow)?;
    let rest = rest.unsigned_abs();
    let rounds = rest >= right.unsigned_abs().saturating_sub(rest);
    let step =
        if rounds { left.signum().checked_mul(right.signum()).unwrap_or_default() } else { 0 };
    let result = whole.checked_add(step).ok_or_else(overflow)?;
    let fits =
        result.unsigned_abs() < 10_u128.checked_pow(u32::from(PRECISION)).unwrap_or(u128::MAX);
    if fits { Ok(result) } else { Err(overflow()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_round_half_away_from_zero() {
        let ten = |digits| i256::from_i128(10).checked_pow(digits).unwrap();
        assert_eq!(quotient(1, 3, ten(4)).unwrap(), 3333);
        assert_eq!(quotient(2, 3, ten(4)).unwrap(), 6667);
        assert_eq!(quotient(-1, 2, ten(0)).unwrap(), -1);
        assert_eq!(quotient(1, -2, ten(0)).unwrap(), -1);
        assert_eq!(quotient(1, i128::MIN, ten(0)).unwrap(), 0);
        assert!(quotient(1, 0, ten(0)).is_err());
        assert!(quotient(i128::MAX, 1, ten(16)).is_err());
    }
}
