//! Tables as DataFusion sees them: providers, and a plan that reads batches of a view.
//!
//! ```text
//!  view ─ pieces (batches on disk, chunks of the tail) ─ dealt to partitions ─> thread reads, unfolds, slices
//! ```
//! A partition reads on a blocking thread, one batch ahead of who consumes it. Which view a query reads is
//! an extension of its session's configuration (Q1); without one it is the newest.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, RecordBatch, RecordBatchOptions, StringArray, StringBuilder,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::datasource::TableType;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};

use crate::file::{self, StoredBatch};
use crate::store::{ColumnStore, ReadView, StoreError, TableView, time_max};
use crate::table::{Source, TableDef};

/// Rows of one batch that a scan gives.
const SCAN_ROW_COUNT: usize = 8192;

impl From<StoreError> for DataFusionError {
    fn from(error: StoreError) -> Self {
        Self::External(Box::new(error))
    }
}

/// A stored table.
#[derive(Debug)]
pub(crate) struct StoredTable {
    pub(crate) store: ColumnStore,
    pub(crate) def: Arc<TableDef>,
}

#[async_trait]
impl TableProvider for StoredTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.def.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let view = view_of(&self.store, state)?;
        Ok(Arc::new(ScanPlan::new(view, Arc::clone(&self.def), projection, limit, state)?))
    }
}

/// The view that a query reads.
pub(crate) fn view_of(store: &ColumnStore, state: &dyn Session) -> Result<Arc<ReadView>> {
    match state.config().get_extension::<ReadView>() {
        Some(view) => Ok(view),
        None => Ok(store.view()?),
    }
}

/// In a session's configuration: streams whose first rows are not here are read as far as they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadsPartial;

/// How many partitions a scan has at most.
fn partitions(state: &dyn Session) -> usize {
    state.config().target_partitions().max(1)
}

/// Something that holds rows.
#[derive(Clone, Debug)]
enum Piece {
    Stored(StoredBatch),
    Chunk(RecordBatch),
}

/// Reads some columns of a table.
#[derive(Clone, Debug)]
pub(crate) struct ScanPlan {
    view: Arc<ReadView>,
    def: Arc<TableDef>,
    schema: SchemaRef,
    sources: Vec<Source>,
    path: PathBuf,
    /// By partition.
    pieces: Vec<Vec<Piece>>,
    rows: u64,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
}

impl ScanPlan {
    pub(crate) fn new(
        view: Arc<ReadView>,
        def: Arc<TableDef>,
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
        state: &dyn Session,
    ) -> Result<Self> {
        let (schema, sources) = match projection {
            None => (Arc::clone(&def.schema), def.sources.clone()),
            Some(columns) => {
                let sources = columns.iter().filter_map(|index| def.sources.get(*index)).copied();
                (Arc::new(def.schema.project(columns)?), sources.collect())
            }
        };
        // A stream created after this view has no table in it: no rows.
        let table: Option<Arc<TableView>> = view.tables.get(&def.key).map(Arc::clone);
        if let Some(missing) = table.as_ref().and_then(|table| table.missing)
            && state.config().get_extension::<ReadsPartial>().is_none()
        {
            let stream = def.key.rsplit('.').next().unwrap_or_default().to_owned();
            return Err(StoreError::Partial { stream, missing }.into());
        }
        let pieces = deal(table.as_deref(), partitions(state));
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(pieces.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self {
            path: file::path_of(&view.folder, &def.key),
            rows: table.map_or(0, |table| table.rows),
            view,
            def,
            schema,
            sources,
            pieces,
            limit,
            properties: Arc::new(properties),
        })
    }
}

/// Deals pieces to partitions, evenly by rows and in order within each.
fn deal(table: Option<&TableView>, partition_count: usize) -> Vec<Vec<Piece>> {
    let Some(table) = table else { return vec![Vec::new()] };
    let stored = table.stored.iter().cloned().map(|batch| {
        let rows = usize::try_from(batch.rows).unwrap_or(usize::MAX);
        (rows, Piece::Stored(batch))
    });
    let chunks = table.chunks.iter().cloned().map(|chunk| (chunk.num_rows(), Piece::Chunk(chunk)));
    let pieces: Vec<(usize, Piece)> = stored.chain(chunks).collect();
    let count = partition_count.clamp(1, pieces.len().max(1));
    let mut partitions: Vec<(usize, Vec<Piece>)> = vec![(0, Vec::new()); count];
    for (rows, piece) in pieces {
        if let Some((sum, least)) = partitions.iter_mut().min_by_key(|(sum, _)| *sum) {
            *sum = sum.saturating_add(rows);
            least.push(piece);
        }
    }
    partitions.into_iter().map(|(_, pieces)| pieces).collect()
}

impl DisplayAs for ScanPlan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<&str> =
            self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(
            f,
            "Columns: table={}, columns=[{}], rows={}, height={}",
            self.def.key,
            columns.join(", "),
            self.rows,
            self.view.height
        )
    }
}

impl ExecutionPlan for ScanPlan {
    fn name(&self) -> &'static str {
        "Columns"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let pieces = self.pieces.get(partition).cloned().unwrap_or_default();
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), 2);
        let sender = builder.tx();
        let plan = self.clone();
        builder.spawn_blocking(move || {
            let mut left = plan.limit.unwrap_or(usize::MAX);
            for piece in pieces {
                let batch = plan.read(&piece)?;
                let mut offset = 0;
                while offset < batch.num_rows() && left > 0 {
                    let rest = batch.num_rows().saturating_sub(offset);
                    let count = SCAN_ROW_COUNT.min(rest).min(left);
                    if sender.blocking_send(Ok(batch.slice(offset, count))).is_err() {
                        return Ok(());
                    }
                    offset = offset.saturating_add(count);
                    left = left.saturating_sub(count);
                }
                if left == 0 {
                    break;
                }
            }
            Ok(())
        });
        Ok(builder.build())
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        let rows = match partition {
            None => usize::try_from(self.rows).ok(),
            Some(partition) => {
                self.pieces.get(partition).map(|pieces| pieces.iter().map(rows_of).sum())
            }
        };
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = rows.map_or(Precision::Absent, Precision::Exact);
        Ok(Arc::new(statistics))
    }
}

fn rows_of(piece: &Piece) -> usize {
    match piece {
        Piece::Stored(batch) => usize::try_from(batch.rows).unwrap_or(usize::MAX),
        Piece::Chunk(chunk) => chunk.num_rows(),
    }
}

impl ScanPlan {
    fn read(&self, piece: &Piece) -> Result<RecordBatch> {
        let columns = self
            .sources
            .iter()
            .map(|source| self.read_source(piece, *source))
            .collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows_of(piece)));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }

    fn read_source(&self, piece: &Piece, source: Source) -> Result<ArrayRef> {
        match source {
            Source::Plain(column) => self.column(piece, column),
            Source::Run(column) => Ok(cast(&self.column(piece, column)?, &DataType::Utf8)?),
            Source::Name => {
                let name = self.def.key.strip_prefix("public.").unwrap_or(&self.def.key);
                Ok(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(
                    name,
                    rows_of(piece),
                ))))
            }
            Source::Tx { tx, action } => {
                tx_text(&self.column(piece, tx)?, &self.column(piece, action)?)
            }
            Source::TimeMax { stored, height } => match piece {
                Piece::Stored(_) => self.column(piece, stored),
                Piece::Chunk(_) => {
                    let heights = self.column(piece, height)?;
                    let heights = heights.as_primitive::<Int64Type>();
                    Ok(time_max(heights, &self.view.times, self.view.times_from))
                }
            },
        }
    }

    fn column(&self, piece: &Piece, column: usize) -> Result<ArrayRef> {
        match piece {
            Piece::Stored(batch) => Ok(file::read_column(&self.path, batch, column)?),
            Piece::Chunk(chunk) => chunk.columns().get(column).map(Arc::clone).ok_or_else(|| {
                DataFusionError::Internal(format!("{} has no column {column}", self.def.key))
            }),
        }
    }
}

/// Names of transactions with their actions where there are several.
fn tx_text(tx: &ArrayRef, action: &ArrayRef) -> Result<ArrayRef> {
    use std::fmt::Write as _;

    let runs = tx.as_dictionary::<Int32Type>();
    let names = runs.values().as_string::<i32>();
    let actions = action.as_primitive::<Int32Type>();
    let mut out = StringBuilder::with_capacity(tx.len(), tx.len().saturating_mul(70));
    for (key, action) in runs.keys().iter().zip(actions.iter()) {
        let name = key
            .and_then(|key| usize::try_from(key).ok())
            .filter(|key| *key < names.len())
            .map_or("", |key| names.value(key));
        // Writing into memory never fails.
        let _written = match name.ends_with(':') {
            true => write!(out, "{name}{}", action.unwrap_or_default()),
            false => out.write_str(name),
        };
        out.append_value("");
    }
    Ok(Arc::new(out.finish()))
}
