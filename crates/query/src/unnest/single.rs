//! The value of the one row that there is; null without any, an error of more.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray as _};
use arrow::datatypes::{DataType, Field, FieldRef, UInt64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, Signature, Volatility,
};
use quipu_types::code;

use crate::error::SqlError;

/// Of a subquery that gives more than one row.
fn too_many() -> DataFusionError {
    let message = "more than one row returned by a subquery used as an expression";
    DataFusionError::External(Box::new(SqlError::new("21000", code::SQL_SYNTAX, message)))
}

/// The aggregate over an expression.
pub(super) fn value(of: Expr) -> Expr {
    static SINGLE: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| {
        let signature = Signature::any(1, Volatility::Immutable);
        Arc::new(AggregateUDF::new_from_impl(Single { signature }))
    });
    SINGLE.call(vec![of])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Single {
    signature: Signature,
}

impl AggregateUDFImpl for Single {
    fn name(&self) -> &'static str {
        "single_value"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.first().cloned().unwrap_or(DataType::Null))
    }

    fn return_field(&self, fields: &[FieldRef]) -> Result<FieldRef> {
        let field = fields.first().map(|field| field.as_ref().clone());
        let field = field.unwrap_or_else(|| Field::new("", DataType::Null, true));
        Ok(Arc::new(field.with_name(self.name()).with_nullable(true)))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let value = Field::new(format!("{}[value]", args.name), args.return_type().clone(), true);
        let count = Field::new(format!("{}[count]", args.name), DataType::UInt64, true);
        Ok(vec![Arc::new(value), Arc::new(count)])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let value = ScalarValue::try_from(args.return_field.data_type())?;
        Ok(Box::new(One { value, is_there: false }))
    }
}

#[derive(Debug)]
struct One {
    value: ScalarValue,
    is_there: bool,
}

impl One {
    fn take(&mut self, array: &ArrayRef, row: usize) -> Result<()> {
        if self.is_there {
            return Err(too_many());
        }
        self.value = ScalarValue::try_from_array(array, row)?;
        self.is_there = true;
        Ok(())
    }
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(array) = values.first() else { return Ok(()) };
        match array.len() {
            0 => Ok(()),
            1 => self.take(array, 0),
            _ => Err(too_many()),
        }
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn size(&self) -> usize {
        size_of_val(self).saturating_add(self.value.size())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let count = ScalarValue::UInt64(Some(u64::from(self.is_there)));
        Ok(vec![self.value.clone(), count])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [values, counts] = states else { return Ok(()) };
        for (row, count) in counts.as_primitive::<UInt64Type>().iter().enumerate() {
            if count.is_some_and(|count| count > 0) {
                self.take(values, row)?;
            }
        }
        Ok(())
    }
}
