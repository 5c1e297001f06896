//! `coalesce`, `greatest` and `least` with a constant in quotes beside what is no text: it is read as that.
//!
//! DataFusion decides their type when it plans the call, before the constant can be read (`coerce`); these say by then
//! what it will be. All else is DataFusion's.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, not_impl_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

/// The functions.
pub(crate) fn functions() -> [ScalarUDF; 3] {
    use datafusion::functions::core::{coalesce, greatest, least};
    [coalesce(), greatest(), least()].map(|inner| {
        let signature = Signature::user_defined(Volatility::Immutable);
        ScalarUDF::new_from_impl(Alike { inner, signature })
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Alike {
    inner: Arc<ScalarUDF>,
    signature: Signature,
}

impl ScalarUDFImpl for Alike {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let is_open = |of: &&DataType| matches!(of, DataType::Utf8 | DataType::Null);
        let typed = types.iter().find(|of| !is_open(of));
        let types: Vec<DataType> = types
            .iter()
            .map(|of| typed.filter(|_| *of == DataType::Utf8).unwrap_or(of).clone())
            .collect();
        self.inner.inner().coerce_types(&types)
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        not_impl_err!("the type of {} without its arguments", self.name())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.inner.invoke_with_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, info)
    }

    fn conditional_arguments<'a>(
        &self,
        args: &'a [Expr],
    ) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(args)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }
}
