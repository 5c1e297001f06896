//! Numbers as integers: rounded, and an error where they do not fit. One rule for casts and for what is assigned.
//!
//! A numeric is rounded half away from zero, a float half to even, as PostgreSQL does; Arrow's own cast cuts them.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, Int64Array};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::coerce::type_name;

/// Whether a cast is one of these.
pub(crate) fn rounds(from: &DataType, to: &DataType) -> bool {
    let is_integer = matches!(to, DataType::Int16 | DataType::Int32 | DataType::Int64);
    is_integer && (matches!(from, DataType::Decimal128(..)) || from.is_floating())
}

/// The cast of an expression.
pub(crate) fn call(expr: Expr, to: &DataType) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    let function = ScalarUDF::new_from_impl(Round { to: to.clone(), signature });
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), vec![expr]))
}

/// An array as the type of what it is assigned to, or cast to.
pub(crate) fn array(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    if !rounds(array.data_type(), to) {
        return Ok(cast_with_options(array, to, &strict)?);
    }
    let failed = || DataFusionError::Execution(format!("{} out of range", type_name(to)));
    let whole: Int64Array = match array.data_type() {
        DataType::Decimal128(_, scale) => {
            let digits = u32::try_from(*scale).map_err(|_| failed())?;
            let factor = 10_i128.checked_pow(digits).ok_or_else(failed)?;
            let values = array.as_primitive::<Decimal128Type>();
            let round = |value: i128| of_decimal(value, factor).ok_or_else(failed);
            values.iter().map(|value| value.map(round).transpose()).collect::<Result<_>>()?
        }
        _ => {
            let values = cast(array, &DataType::Float64)?;
            let round = |value: f64| of_float(value).ok_or_else(failed);
            let values = values.as_primitive::<Float64Type>().iter();
            values.map(|value| value.map(round).transpose()).collect::<Result<_>>()?
        }
    };
    let whole: ArrayRef = Arc::new(whole);
    cast_with_options(&whole, to, &strict).map_err(|_| failed())
}

fn of_decimal(value: i128, factor: i128) -> Option<i64> {
    let whole = value.checked_div(factor)?;
    let rest = value.checked_rem(factor)?.unsigned_abs();
    let is_up = rest >= factor.unsigned_abs().checked_sub(rest)?;
    let step = if is_up { value.signum() } else { 0 };
    i64::try_from(whole.checked_add(step)?).ok()
}

fn of_float(value: f64) -> Option<i64> {
    // Arrow's cast of a float is checked.
    ScalarValue::Float64(Some(value.round_ties_even())).cast_to(&DataType::Int64).ok().and_then(
        |cast| match cast {
            ScalarValue::Int64(value) => value,
            _ => None,
        },
    )
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Round {
    to: DataType,
    signature: Signature,
}

impl ScalarUDFImpl for Round {
    fn name(&self) -> &'static str {
        match self.to {
            DataType::Int16 => "to_int2",
            DataType::Int32 => "to_int4",
            _ => "to_int8",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(argument) = args.args.first() else {
            return Err(DataFusionError::Internal("one argument was planned".into()));
        };
        match argument {
            ColumnarValue::Array(values) => array(values, &self.to).map(ColumnarValue::Array),
            ColumnarValue::Scalar(value) => {
                let value = array(&value.to_array()?, &self.to)?;
                ScalarValue::try_from_array(&value, 0).map(ColumnarValue::Scalar)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_round_half_away_from_zero_and_floats_half_to_even() {
        assert_eq!(of_decimal(25, 10), Some(3));
        assert_eq!(of_decimal(-25, 10), Some(-3));
        assert_eq!(of_decimal(24, 10), Some(2));
        assert_eq!(of_decimal(i128::MAX, 1), None);
        assert_eq!(of_float(2.5), Some(2));
        assert_eq!(of_float(-3.5), Some(-4));
        assert_eq!(of_float(f64::NAN), None);
        assert_eq!(of_float(1e19), None);
    }
}
