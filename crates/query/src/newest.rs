//! `compacted('s')`: the newest event of each key of a compacted stream, as the state has it.
//!
//! ```text
//!  the stream ─> the last of each `_key` by `_order`, `_action` ─> without those whose own columns are all null
//! ```
//! It is computed from the events; `GET /v1/streams/{name}/compacted` gives the same with proofs.

use std::sync::Arc;

use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, plan_err};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, ident};

use crate::catalog::stored;
use crate::past::text_of;
use crate::store::ColumnStore;

/// Its name in SQL.
pub(crate) const NAME: &str = "compacted";

/// The function.
#[derive(Debug)]
pub(crate) struct Compacted {
    pub(crate) store: ColumnStore,
}

impl TableFunctionImpl for Compacted {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let [name] = args.exprs() else {
            return plan_err!("{NAME} takes a stream, such as {NAME}('prices')");
        };
        let Some(name) = text_of(name) else {
            return plan_err!("{NAME} takes a stream's name, which is constant");
        };
        let key = format!("public.{name}");
        let def = self.store.table(&key);
        let (Some(def), Some(events)) = (def, stored(&self.store, &key)) else {
            return plan_err!("there is no stream '{name}'");
        };
        let Some(schema) = def.stream.as_ref().filter(|_| def.compacted) else {
            return plan_err!("stream \"{name}\" is not compacted");
        };
        let columns = def.schema.fields().iter().map(|field| ident(field.name())).collect();
        let (key, newest) = (ident("_key"), ["_order", "_action"].map(ident));
        let mut order = vec![key.clone().sort(true, false)];
        order.extend(newest.map(|column| column.sort(false, false)));
        let own = schema.columns().iter().map(|column| ident(&column.name).is_not_null());
        let has_value = own.reduce(Expr::or);
        let mut plan = LogicalPlanBuilder::scan(name, provider_as_source(events), None)?
            .distinct_on(vec![key], columns, Some(order))?;
        if let Some(has_value) = has_value {
            plan = plan.filter(has_value)?;
        }
        Ok(Arc::new(ViewTable::new(plan.build()?, None)))
    }
}
