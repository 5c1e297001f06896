//! `happens_before(tx, tx)`: whether one transaction was there before another was stamped, by what lanes' clocks mixed.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, BooleanArray};
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use quipu_types::{Hash, code};

use crate::catalog::SystemSource;
use crate::error::SqlError;

const NAME: &str = "happens_before";

/// The function, with the schema's name and without. It takes what `_tx` holds, and is null when either is null.
pub(crate) fn functions(source: &Arc<dyn SystemSource>) -> ScalarUDF {
    let source = Arc::clone(source);
    let run = move |arguments: &[ColumnarValue]| run(source.as_ref(), arguments);
    let texts = vec![DataType::Utf8, DataType::Utf8];
    // What lanes mix after the fact changes no answer; a search that was cut short may give one later.
    create_udf(NAME, texts, DataType::Boolean, Volatility::Stable, Arc::new(run))
        .with_aliases(["quipu.happens_before"])
}

fn run(source: &dyn SystemSource, arguments: &[ColumnarValue]) -> Result<ColumnarValue> {
    let arrays = ColumnarValue::values_to_arrays(arguments)?;
    let [first, second] = arrays.as_slice() else {
        return datafusion::common::exec_err!("{NAME} takes two transactions");
    };
    let (first, second) = (first.as_string::<i32>(), second.as_string::<i32>());
    let pairs = first.iter().zip(second.iter());
    let answers = pairs.map(|(first, second)| {
        let (Some(first), Some(second)) = (first, second) else { return Ok(None) };
        source.happens_before(parse(first)?, parse(second)?).map(Some)
    });
    let answers = answers.collect::<std::result::Result<BooleanArray, SqlError>>();
    let answers = answers.map_err(|error| DataFusionError::External(Box::new(error)))?;
    let all: ArrayRef = Arc::new(answers);
    match arguments.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_))) {
        true => {
            Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&all, 0)?))
        }
        false => Ok(ColumnarValue::Array(all)),
    }
}

/// `TX`, or `TX:ACTION`, as `_tx` has it.
fn parse(text: &str) -> std::result::Result<Hash, SqlError> {
    let name = text.split_once(':').map_or(text, |(name, _)| name);
    name.parse().map_err(|_| {
        SqlError::new("22023", code::SQL_SYNTAX, format!("{text:?} names no transaction"))
            .hint("A transaction's name has 64 hexadecimal digits; the column _tx holds it.")
    })
}
