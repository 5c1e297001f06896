//! `at_height('t', h)`: a table as it stood when height `h` was executed.

use std::sync::Arc;

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::logical_expr::Expr;
use quipu_types::Height;

use crate::store::ColumnStore;
use crate::tables::{RowTable, Snapshot, TableSource, Want};

/// Its name in SQL.
pub(crate) const NAME: &str = "at_height";

/// The function.
#[derive(Debug)]
pub(crate) struct AtHeight {
    pub(crate) store: ColumnStore,
    pub(crate) source: Arc<dyn TableSource>,
}

impl TableFunctionImpl for AtHeight {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let [name, height] = args.exprs() else {
            return plan_err!(
                "{NAME} takes a table and a height, such as {NAME}('accounts', 1000)"
            );
        };
        let (Some(name), Some(height)) = (text_of(name), height_of(height)) else {
            return plan_err!("{NAME} takes a table's name and a height, both constant");
        };
        let newest = self.store.height();
        if height > newest {
            return plan_err!("height {height} is not executed here; the newest is {newest}");
        }
        if self.store.table(&format!("public.{name}")).is_some() {
            return plan_err!("\"{name}\" is a stream: it has its heights in _height");
        }
        let snapshot = Arc::new(Snapshot::new(Arc::clone(&self.source), height));
        let def =
            snapshot.named(name).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let table = def.and_then(|def| RowTable::new(def, Want::Rows));
        match table {
            Some(table) => Ok(Arc::new(table.at(snapshot))),
            None => plan_err!("there was no table \"{name}\" at height {height}"),
        }
    }
}

pub(crate) fn text_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(
            ScalarValue::Utf8(Some(text))
            | ScalarValue::LargeUtf8(Some(text))
            | ScalarValue::Utf8View(Some(text)),
            _,
        ) => Some(text),
        _ => None,
    }
}

fn height_of(expr: &Expr) -> Option<Height> {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(height)), _) => {
            u64::try_from(*height).ok().map(Height::new)
        }
        _ => None,
    }
}
