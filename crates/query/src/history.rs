//! `history('t')`: every version of every row of a table, with the heights that it stood from and to.
//!
//! ```text
//!  versions of the table's definition ─> which columns a row of a height has
//!  versions of its rows, a page at a time, by key and height ─> columns (null where a version had none yet) · from · until
//! ```
//! What a session has written and not committed is no version yet. A row that gets another key ends under the old one, and
//! begins under the new.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::datasource::TableType;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use quipu_state::{StoreError, Version, VersionPlace};
use quipu_types::row::ValueRef;
use quipu_types::table::{DEFINITIONS, TableDef, end_of, ledger_key, space_key};
use quipu_types::{Decode as _, Height};

use crate::column::{ColumnBuilder, Kind};
use crate::error::SqlError;
use crate::past::text_of;
use crate::store::ColumnStore;
use crate::tables::{Snapshot, TableSource, Want, schema_of};

/// Its name in SQL.
pub(crate) const NAME: &str = "history";
/// Versions of one batch.
const PAGE_COUNT: usize = 1_024;
/// The columns behind the table's own.
const OWN: [&str; 2] = ["_height_from", "_height_until"];

/// The function.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) store: ColumnStore,
    pub(crate) source: Arc<dyn TableSource>,
}

impl TableFunctionImpl for History {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let [name] = args.exprs() else {
            return plan_err!("{NAME} takes a table, such as {NAME}('accounts')");
        };
        let Some(name) = text_of(name) else {
            return plan_err!("{NAME} takes a table's name, which is constant");
        };
        if self.store.table(&format!("public.{name}")).is_some() {
            return plan_err!("\"{name}\" is a stream: what it has does not change");
        }
        let snapshot = Snapshot::new(Arc::clone(&self.source), self.store.height());
        let def = snapshot.named(name).map_err(external)?;
        let Some(def) = def.filter(|def| def.table().is_some()) else {
            return plan_err!("table '{name}' not found");
        };
        Ok(Arc::new(Rows { schema: schema(&def), def }))
    }
}

fn external(error: StoreError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The table's columns, which an older version may lack, and when a version stood.
fn schema(def: &TableDef) -> SchemaRef {
    let table = def.table().map(|spec| schema_of(spec, Want::Rows));
    let own = table.iter().flat_map(|schema| schema.fields()).map(|field| {
        let field = Field::clone(field);
        field.with_nullable(true)
    });
    let heights = OWN.iter().zip([false, true]);
    let heights = heights.map(|(name, nullable)| Field::new(*name, DataType::Int64, nullable));
    Arc::new(ArrowSchema::new(own.chain(heights).collect::<Vec<_>>()))
}

/// A table's history, to be scanned.
#[derive(Clone, Debug)]
struct Rows {
    def: Arc<TableDef>,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for Rows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns: Vec<usize> = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.schema.fields().len()).collect(),
        };
        let schema = Arc::new(self.schema.project(&columns)?);
        let snapshot = state.config().get_extension::<Snapshot>().ok_or_else(|| {
            DataFusionError::Internal("a history is read without a snapshot".to_owned())
        })?;
        let id = self.def.id;
        snapshot.note(|log| log.table(id));
        let layouts = layouts(&snapshot, id)?;
        let scan = Scan { id, snapshot, layouts, schema: Arc::clone(&schema), columns };
        let parts: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(scan)];
        Ok(Arc::new(StreamingTableExec::try_new(schema, parts, None, Vec::new(), false, limit)?))
    }
}

fn page(snapshot: &Snapshot, from: &VersionPlace, to: Option<&[u8]>) -> Result<Page> {
    let found = snapshot.versions(from, to, PAGE_COUNT).map_err(external)?;
    found.ok_or_else(|| {
        let error = SqlError::unsupported("a table's history on a gateway without the state");
        DataFusionError::External(Box::new(error.hint("ask a validator")))
    })
}

type Page = (Vec<Version>, Option<VersionPlace>);

/// The definitions that a table had, each with the height that it is of.
fn layouts(snapshot: &Snapshot, id: u32) -> Result<Arc<Vec<(Height, TableDef)>>> {
    let key = ledger_key(DEFINITIONS, id);
    let end = end_of(&key);
    let mut layouts = Vec::new();
    let mut from = Some(VersionPlace::at(&key));
    while let Some(place) = from {
        let (versions, next) = page(snapshot, &place, end.as_deref())?;
        for Version { since, row, .. } in versions {
            let def = TableDef::from_bytes(&row);
            layouts.push((since, def.map_err(|error| DataFusionError::External(Box::new(error)))?));
        }
        from = next;
    }
    Ok(Arc::new(layouts))
}

#[derive(Clone, Debug)]
struct Scan {
    id: u32,
    snapshot: Arc<Snapshot>,
    /// Ascending.
    layouts: Arc<Vec<(Height, TableDef)>>,
    schema: SchemaRef,
    columns: Vec<usize>,
}

impl PartitionStream for Scan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let from = VersionPlace::at(&space_key(self.id, 0));
        let pages =
            futures::stream::unfold((self.clone(), Some(from)), |(scan, from)| async move {
                match scan.batch(&from?) {
                    Ok((batch, next)) => Some((Ok(batch), (scan, next))),
                    Err(error) => Some((Err(error), (scan, None))),
                }
            });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), pages))
    }
}

impl Scan {
    /// The versions of the next page, and where the one after begins.
    fn batch(&self, from: &VersionPlace) -> Result<(RecordBatch, Option<VersionPlace>)> {
        let end = end_of(&space_key(self.id, 0));
        let (versions, next) = page(&self.snapshot, from, end.as_deref())?;
        let newest = self.layouts.last().and_then(|(_, def)| def.table());
        let kinds: Vec<Kind> =
            newest.iter().flat_map(|spec| spec.schema.columns()).map(|c| c.kind.into()).collect();
        let kind = |index: &usize| kinds.get(*index).copied().unwrap_or(Kind::Int8);
        let mut builders: Vec<ColumnBuilder> =
            self.columns.iter().map(|index| ColumnBuilder::new(kind(index))).collect();
        let mut values = Vec::with_capacity(kinds.len());
        for version in &versions {
            values.clear();
            values.resize(kinds.len(), ValueRef::Null);
            let at = self.layouts.partition_point(|(height, _)| *height <= version.since);
            let layout = at.checked_sub(1).and_then(|place| self.layouts.get(place));
            let Some(spec) = layout.and_then(|(_, def)| def.table()) else { continue };
            let walked = spec.schema.walk_row(&version.row, |index, value| {
                if let Some(place) = values.get_mut(index) {
                    *place = value;
                }
            });
            walked.map_err(|error| DataFusionError::External(Box::new(error)))?;
            let height =
                |height: Height| i64::try_from(height.get()).map_or(ValueRef::Null, ValueRef::Int8);
            values.push(height(version.since));
            values.push(version.until.map_or(ValueRef::Null, height));
            for (index, builder) in self.columns.iter().zip(&mut builders) {
                builder.append(values.get(*index).copied().unwrap_or(ValueRef::Null));
            }
        }
        let arrays = builders.iter_mut().map(ColumnBuilder::finish);
        let arrays = arrays.collect::<std::result::Result<Vec<ArrayRef>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(versions.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        Ok((batch, next))
    }
}
