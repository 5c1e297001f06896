//! Scalar functions that PostgreSQL's clients call and DataFusion has not, or has otherwise.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};

use crate::alike;
use crate::length;
use crate::settings::Settings;

/// What `version()` says.
pub(crate) const VERSION: &str = concat!("PostgreSQL 15.0 (Quipu ", env!("CARGO_PKG_VERSION"), ")");

/// The functions.
pub(crate) fn functions() -> Vec<ScalarUDF> {
    let text = DataType::Utf8;
    let uuid = datafusion::functions::string::uuid();
    let signum = datafusion::functions::math::signum();
    let typed = alike::functions().into_iter().chain(length::functions());
    let own = vec![
        signum.as_ref().clone().with_aliases(["sign"]),
        uuid.as_ref().clone().with_aliases(["gen_random_uuid"]),
        constant("version", VERSION),
        create_udf(
            "current_setting",
            vec![text.clone()],
            text.clone(),
            Volatility::Stable,
            Arc::new(|arguments: &[ColumnarValue]| map_text(arguments, default_setting)),
        ),
        create_udf(
            "obj_description",
            vec![DataType::Int32, text.clone()],
            text.clone(),
            Volatility::Stable,
            Arc::new(|arguments: &[ColumnarValue]| Ok(nothing(arguments))),
        ),
        create_udf(
            "col_description",
            vec![DataType::Int32, DataType::Int32],
            text,
            Volatility::Stable,
            Arc::new(|arguments: &[ColumnarValue]| Ok(nothing(arguments))),
        ),
    ];
    typed.chain(own).collect()
}

fn constant(name: &str, value: &'static str) -> ScalarUDF {
    create_udf(
        name,
        Vec::new(),
        DataType::Utf8,
        Volatility::Stable,
        Arc::new(move |_: &[ColumnarValue]| {
            Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(value.to_owned()))))
        }),
    )
}

/// The value a parameter has unless a session changes it.
fn default_setting(name: &str) -> Option<String> {
    Settings::default().get(name).ok().map(|(_, value)| value)
}

fn nothing(arguments: &[ColumnarValue]) -> ColumnarValue {
    match arguments.first() {
        Some(ColumnarValue::Array(array)) => {
            let nulls: ArrayRef = Arc::new(StringArray::new_null(arrow::array::Array::len(array)));
            ColumnarValue::Array(nulls)
        }
        _ => ColumnarValue::Scalar(ScalarValue::Utf8(None)),
    }
}

fn map_text(
    arguments: &[ColumnarValue],
    map: impl Fn(&str) -> Option<String>,
) -> Result<ColumnarValue> {
    match arguments.first() {
        Some(ColumnarValue::Array(array)) => {
            let texts = array.as_string::<i32>();
            let mapped: StringArray = texts.iter().map(|text| text.and_then(&map)).collect();
            Ok(ColumnarValue::Array(Arc::new(mapped)))
        }
        Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(text)))) => {
            Ok(ColumnarValue::Scalar(ScalarValue::Utf8(map(text))))
        }
        _ => Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None))),
    }
}
