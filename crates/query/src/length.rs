//! Casts to `varchar(n)` and `char(n)`: cut to their length, the latter filled with blanks; DataFusion forgets the length.
//! And how long a bytea is.

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, Int32Array, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, create_udf,
};

use crate::column::PG_TYPE_KEY;

/// The names of the casts, as `forms` writes them.
pub(crate) const VARCHAR: &str = "cast_varchar";
pub(crate) const BPCHAR: &str = "cast_bpchar";

/// The casts.
pub(crate) fn functions() -> [ScalarUDF; 2] {
    [false, true].map(|is_padded| {
        let types = vec![DataType::Utf8, DataType::Int64];
        let signature = Signature::exact(types, Volatility::Immutable);
        ScalarUDF::new_from_impl(Length { is_padded, signature })
    })
}

/// How many bytes a bytea has.
pub(crate) fn of_bytea() -> ScalarUDF {
    create_udf(
        "bytea_length",
        vec![DataType::Binary],
        DataType::Int32,
        Volatility::Immutable,
        Arc::new(|arguments: &[ColumnarValue]| {
            let arrays = ColumnarValue::values_to_arrays(arguments)?;
            let Some(array) = arrays.first() else { return exec_err!("a bytea was planned") };
            let size = |bytes: &[u8]| i32::try_from(bytes.len()).unwrap_or(i32::MAX);
            let sizes = array.as_binary::<i32>().iter().map(|bytes| bytes.map(size));
            Ok(ColumnarValue::Array(Arc::new(sizes.collect::<Int32Array>())))
        }),
    )
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Length {
    is_padded: bool,
    signature: Signature,
}

impl ScalarUDFImpl for Length {
    fn name(&self) -> &'static str {
        if self.is_padded { BPCHAR } else { VARCHAR }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let field = Field::new(self.name(), DataType::Utf8, true);
        let length = args.scalar_arguments.get(1).copied().flatten();
        let kind = if self.is_padded { "bpchar" } else { "varchar" };
        Ok(Arc::new(match length {
            Some(ScalarValue::Int64(Some(length))) => {
                field.with_metadata([(PG_TYPE_KEY.to_owned(), format!("{kind}({length})"))].into())
            }
            _ => field,
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = matches!(args.args.first(), Some(ColumnarValue::Scalar(_)));
        let (Some(texts), Some(ColumnarValue::Scalar(ScalarValue::Int64(Some(length))))) =
            (args.args.first(), args.args.get(1))
        else {
            return exec_err!("a text and a length were planned");
        };
        let length = usize::try_from(*length).unwrap_or_default();
        let texts = texts.to_array(if is_scalar { 1 } else { args.number_rows })?;
        let cut = |text: &str| {
            let end = text.char_indices().nth(length).map_or(text.len(), |(end, _)| end);
            let text = text.get(..end).unwrap_or(text);
            if self.is_padded { format!("{text:length$}") } else { text.to_owned() }
        };
        let cut: StringArray = texts.as_string::<i32>().iter().map(|text| text.map(cut)).collect();
        Ok(if is_scalar {
            let value = cut.is_valid(0).then(|| cut.value(0).to_owned());
            ColumnarValue::Scalar(ScalarValue::Utf8(value))
        } else {
            ColumnarValue::Array(Arc::new(cut))
        })
    }
}
