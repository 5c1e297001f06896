//! Tables as queries see them: a snapshot of the row space, and a provider that scans it.
//!
//! ```text
//!  TableSource (state, behind the node's lock, a page at a time) ── at one height ──> Snapshot ── + the session's
//!     own changes ─> RowTable ─ scan ─> a key, a range of an index, or everything ─> batches
//! ```
//! # Invariants
//! * N1 All tables of a query are read at one height, that of its streams (Q1), under the session's own changes.
//! * N2 What a scan reads is noted: a key where it asks for one, else the whole table.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema as ArrowSchema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::datasource::{TableType, source_as_provider};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::TableSource as TableSourceOfPlan;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use quipu_state::rows::{Changes, Layer, RowRead};
use quipu_state::store::Rows as StoredRows;
use quipu_state::{Definitions, Scene, StoreError, TableError, Tables, VersionPlace, Versions};
use quipu_types::procedure::procedure_name_key;
use quipu_types::program::{READ_COUNT_MAX, Reads};
use quipu_types::row::{Value, ValueRef};
use quipu_types::row_json::uuid_from_text;
use quipu_types::table::{
    DEFINITIONS, PROCEDURES, TableDef, TableSpec, end_of, ledger_key, put_key, space_key,
};
use quipu_types::{AccountId, ColumnType, Decode, Hash, Height, ProcedureDef, Time};

use crate::column::{ColumnBuilder, Kind, PG_TYPE_KEY};
use crate::compile;

/// Rows of one batch.
const PAGE_COUNT: usize = 1_024;
/// The hidden column with the number of a row that has no primary key.
pub(crate) const ROW_NUMBER: &str = "_row";

/// Where rows of tables come from: the state, at any height that it has executed.
pub trait TableSource: fmt::Debug + Send + Sync {
    /// What stood under a key at a height.
    fn get(&self, key: &[u8], height: Height) -> std::result::Result<Option<Vec<u8>>, StoreError>;

    /// Up to `limit` rows from `from` on and below `to`, ascending, at a height.
    fn range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
        height: Height,
    ) -> std::result::Result<StoredRows, StoreError>;

    /// Up to `limit` versions up to a height, from a place on and below `to`, and where there are more; none where old
    /// versions are not at hand.
    fn versions(
        &self,
        _from: &VersionPlace,
        _to: Option<&[u8]>,
        _limit: usize,
        _height: Height,
    ) -> std::result::Result<Option<Versions>, StoreError> {
        Ok(None)
    }
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The account that pays and owns.
    pub account: AccountId,
    /// Whether everyone may do what a creator may.
    pub is_open: bool,
}

/// The row space at one height.
#[derive(Clone, Debug)]
struct AtHeight {
    source: Arc<dyn TableSource>,
    height: Height,
}

impl RowRead for AtHeight {
    fn get(&self, key: &[u8]) -> std::result::Result<Option<Vec<u8>>, StoreError> {
        self.source.get(key, self.height)
    }

    fn range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> std::result::Result<StoredRows, StoreError> {
        self.source.range(from, to, limit, self.height)
    }
}

/// What a transaction has read.
#[derive(Debug, Default)]
pub(crate) struct ReadLog {
    pub(crate) keys: BTreeSet<Vec<u8>>,
    pub(crate) tables: BTreeSet<u32>,
}

impl ReadLog {
    /// Any of a table's rows.
    pub(crate) fn table(&mut self, table: u32) {
        self.tables.insert(table);
    }

    /// A row, or that there is none; beyond as many as a transaction can say, the whole table.
    pub(crate) fn key(&mut self, table: u32, key: Vec<u8>) {
        if self.keys.len().saturating_add(self.tables.len()) < READ_COUNT_MAX {
            self.keys.insert(key);
        } else {
            self.tables.insert(table);
        }
    }
}

/// The row space as one statement sees it.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    under: AtHeight,
    /// What the session has changed and not committed.
    pub(crate) changes: Arc<Changes>,
    reads: Arc<Mutex<ReadLog>>,
}

impl RowRead for Snapshot {
    fn get(&self, key: &[u8]) -> std::result::Result<Option<Vec<u8>>, StoreError> {
        Layer { under: &self.under, changes: &self.changes }.get(key)
    }

    fn range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> std::result::Result<StoredRows, StoreError> {
        Layer { under: &self.under, changes: &self.changes }.range(from, to, limit)
    }
}

impl Snapshot {
    pub(crate) fn new(source: Arc<dyn TableSource>, height: Height) -> Self {
        Self { under: AtHeight { source, height }, changes: Arc::default(), reads: Arc::default() }
    }

    /// Puts more changes over those that are there.
    pub(crate) fn change(&mut self, more: Changes) {
        Arc::make_mut(&mut self.changes).extend(more);
    }

    /// Versions up to this height, without the session's own changes.
    pub(crate) fn versions(
        &self,
        from: &VersionPlace,
        to: Option<&[u8]>,
        limit: usize,
    ) -> std::result::Result<Option<Versions>, StoreError> {
        self.under.source.versions(from, to, limit, self.under.height)
    }

    pub(crate) fn height(&self) -> Height {
        self.under.height
    }

    /// Notes a read.
    pub(crate) fn note(&self, note: impl FnOnce(&mut ReadLog)) {
        note(&mut self.reads.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What was read so far.
    pub(crate) fn reads(&self) -> Reads {
        let log = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        Reads {
            height: self.height(),
            keys: log.keys.iter().cloned().collect(),
            tables: log.tables.iter().copied().collect(),
        }
    }

    /// Shows `act` the tables, as `signer` would change them in the next height; gives what it changed of them.
    pub(crate) fn with_tables<T>(
        &self,
        signer: Signer,
        time: Time,
        act: impl FnOnce(&mut Tables<'_>) -> std::result::Result<T, TableError>,
    ) -> std::result::Result<(T, Changes), TableError> {
        let mut changes = Changes::new();
        let mut definitions = Definitions::default();
        let Signer { account, is_open } = signer;
        let scene = Scene {
            height: self.height().next(),
            time,
            tx: Hash::default(),
            signer: account,
            is_open,
        };
        let done = act(&mut Tables::new(self, &mut changes, &mut definitions, scene))?;
        Ok((done, changes))
    }

    /// The table or view of this name.
    pub(crate) fn named(
        &self,
        name: &str,
    ) -> std::result::Result<Option<Arc<TableDef>>, StoreError> {
        let Some(id) = self.get(&quipu_types::table::name_key(name))? else { return Ok(None) };
        let id = <[u8; 4]>::try_from(id.as_slice()).map_or(0, u32::from_le_bytes);
        self.definition(id)
    }

    /// The table or view of this number.
    pub(crate) fn definition(
        &self,
        id: u32,
    ) -> std::result::Result<Option<Arc<TableDef>>, StoreError> {
        let bytes = self.get(&ledger_key(DEFINITIONS, id))?;
        Ok(bytes.and_then(|bytes| TableDef::from_bytes(&bytes).ok()).map(Arc::new))
    }

    /// The procedure of this name.
    pub(crate) fn procedure_named(
        &self,
        name: &str,
    ) -> std::result::Result<Option<Arc<ProcedureDef>>, StoreError> {
        let Some(id) = self.get(&procedure_name_key(name))? else { return Ok(None) };
        let id = <[u8; 4]>::try_from(id.as_slice()).map_or(0, u32::from_le_bytes);
        self.procedure(id)
    }

    /// The procedure of this number.
    pub(crate) fn procedure(
        &self,
        id: u32,
    ) -> std::result::Result<Option<Arc<ProcedureDef>>, StoreError> {
        let bytes = self.get(&ledger_key(PROCEDURES, id))?;
        Ok(bytes.and_then(|bytes| ProcedureDef::from_bytes(&bytes).ok()).map(Arc::new))
    }

    /// Every procedure, by number.
    pub(crate) fn procedures(&self) -> std::result::Result<Vec<Arc<ProcedureDef>>, StoreError> {
        self.defined(PROCEDURES)
    }

    /// Every table and view, by number.
    pub(crate) fn all(&self) -> std::result::Result<Vec<Arc<TableDef>>, StoreError> {
        self.defined(DEFINITIONS)
    }

    fn defined<T: Decode>(&self, space: u32) -> std::result::Result<Vec<Arc<T>>, StoreError> {
        let mut all = Vec::new();
        let prefix = space_key(space, 0);
        let end = end_of(&prefix);
        let mut from = prefix;
        loop {
            let page = self.range(&from, end.as_deref(), PAGE_COUNT)?;
            let defs = page.iter().filter_map(|(_, bytes)| T::from_bytes(bytes).ok());
            all.extend(defs.map(Arc::new));
            match page.last() {
                Some((key, _)) if page.len() == PAGE_COUNT => from = next_key(key),
                _ => return Ok(all),
            }
        }
    }
}

fn next_key(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

fn external(error: StoreError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// What a statement wants of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// To read rows.
    Rows,
    /// To add rows: a null is refused where it is written, with the column's name.
    Insert,
    /// To change rows; as for adding, and one that has no key has a number, behind its columns.
    Change,
}

/// A table's columns as statements see them.
pub(crate) fn schema_of(spec: &TableSpec, want: Want) -> SchemaRef {
    let mut fields: Vec<Field> = spec
        .schema
        .columns()
        .iter()
        .zip(&spec.options)
        .map(|(column, options)| {
            let field =
                Kind::from(column.kind).field(&column.name, column.nullable || want != Want::Rows);
            match (options.length, options.is_padded) {
                (0, _) => field,
                (length, is_padded) => {
                    let name = if is_padded { "bpchar" } else { "varchar" };
                    let pg_type = format!("{name}({length})");
                    field.with_metadata(
                        BTreeMap::from([(PG_TYPE_KEY.to_owned(), pg_type)]).into_iter().collect(),
                    )
                }
            }
        })
        .collect();
    if spec.primary_key.is_empty() && want == Want::Change {
        fields.push(Field::new(ROW_NUMBER, arrow::datatypes::DataType::Int64, false));
    }
    Arc::new(ArrowSchema::new(fields))
}

/// A table to be scanned, in the snapshot that the session of its query carries.
#[derive(Clone, Debug)]
pub(crate) struct RowTable {
    pub(crate) def: Arc<TableDef>,
    schema: SchemaRef,
    /// Another snapshot than that of the query.
    at: Option<Arc<Snapshot>>,
}

impl RowTable {
    /// None for a view.
    pub(crate) fn new(def: Arc<TableDef>, want: Want) -> Option<Self> {
        let schema = schema_of(def.table()?, want);
        Some(Self { def, schema, at: None })
    }

    /// The table in another snapshot than that of the query.
    pub(crate) fn at(self, snapshot: Arc<Snapshot>) -> Self {
        Self { at: Some(snapshot), ..self }
    }

    fn spec(&self) -> &TableSpec {
        self.def.table().expect("it was made of a table")
    }

    /// Where the rows that fulfil the filters stand, and notes the read (N2).
    fn place(&self, filters: &[Expr], snapshot: &Snapshot) -> Place {
        let under = |index, values: &[Value]| with_keys(space_key(self.def.id, index), values);
        let way = way(filters, self.spec(), literal);
        if let Way::Key(values) = &way {
            let key = under(0, values);
            snapshot.note(|log| log.key(self.def.id, key.clone()));
            return Place::Key(key);
        }
        snapshot.note(|log| log.table(self.def.id));
        match way {
            Way::Index(0, values) | Way::Key(values) => Place::Rows(under(0, &values)),
            Way::Index(number, values) => Place::Index(under(number, &values)),
            Way::All => Place::Rows(under(0, &[])),
        }
    }
}

/// How the rows that fulfil filters are found.
#[derive(Clone, Debug)]
pub(crate) enum Way<T> {
    /// One row at most: the values of its whole primary key.
    Key(Vec<T>),
    /// Under the first columns' values of an index: 0 is the primary key, `i` index `i - 1`.
    Index(u8, Vec<T>),
    /// Everywhere.
    All,
}

/// The shortest way to the rows that fulfil the filters. `known` reads an expression as a value of a type, where it is
/// one.
pub(crate) fn way<T: Clone>(
    filters: &[Expr],
    spec: &TableSpec,
    known: impl Fn(&Expr, ColumnType) -> Option<T>,
) -> Way<T> {
    let mut fixed = BTreeMap::new();
    for filter in filters {
        fix(filter, spec, &known, &mut fixed);
    }
    let values = |columns: &[u16]| -> Vec<T> {
        columns.iter().map_while(|column| fixed.get(column).cloned()).collect()
    };
    let of_key = values(&spec.primary_key);
    if !of_key.is_empty() {
        let is_whole = of_key.len() == spec.primary_key.len();
        return if is_whole { Way::Key(of_key) } else { Way::Index(0, of_key) };
    }
    (1_u8..)
        .zip(&spec.indexes)
        .map(|(number, index)| (number, values(&index.columns)))
        .filter(|(_, values)| !values.is_empty())
        .max_by_key(|(_, values)| values.len())
        .map_or(Way::All, |(number, values)| Way::Index(number, values))
}

/// The definition of a scan's table, as it is now.
pub(crate) fn def_of(source: &Arc<dyn TableSourceOfPlan>) -> Option<Arc<TableDef>> {
    let provider = source_as_provider(source).ok()?;
    let provider: &dyn Any = provider.as_ref();
    let table = provider.downcast_ref::<RowTable>()?;
    table.at.is_none().then(|| Arc::clone(&table.def))
}

/// The key of the row whose primary key has these values; none where they are of other kinds.
pub(crate) fn row_key<'a>(
    def: &TableDef,
    values: impl Iterator<Item = Option<&'a ScalarValue>>,
) -> Option<Vec<u8>> {
    let kinds = def.table()?.key_kinds();
    let known = values.zip(&kinds).map(|(value, kind)| key_value(value?, *kind));
    let known = known.collect::<Option<Vec<Value>>>()?;
    (known.len() == kinds.len()).then(|| with_keys(space_key(def.id, 0), &known))
}

/// The definitions of the tables that a plan scans.
pub(crate) fn defs_of(plan: &LogicalPlan, defs: &mut Vec<Arc<TableDef>>) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            defs.extend(def_of(&scan.source));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// The values that columns must have for a row to fulfil a filter, where it says so.
fn fix<T>(
    filter: &Expr,
    spec: &TableSpec,
    known: &impl Fn(&Expr, ColumnType) -> Option<T>,
    all: &mut BTreeMap<u16, T>,
) {
    let Expr::BinaryExpr(binary) = filter else { return };
    match binary.op {
        Operator::And => {
            fix(&binary.left, spec, known, all);
            fix(&binary.right, spec, known, all);
        }
        Operator::Eq => {
            all.extend(fixed_by(&binary.left, &binary.right, spec, known));
            all.extend(fixed_by(&binary.right, &binary.left, spec, known));
        }
        _ => {}
    }
}

/// The column and the value of `column = value`.
pub(crate) fn fixed_by<T>(
    column: &Expr,
    value: &Expr,
    spec: &TableSpec,
    known: impl Fn(&Expr, ColumnType) -> Option<T>,
) -> Option<(u16, T)> {
    let place = u16::try_from(spec.schema.index_of(bare_column(column)?)?).ok()?;
    Some((place, known(value, spec.column(place)?.kind)?))
}

/// A literal as a value of a key column.
pub(crate) fn literal(expr: &Expr, kind: ColumnType) -> Option<Value> {
    let Expr::Literal(value, _) = expr else { return None };
    key_value(value, kind)
}

/// The column of an expression that is one, widened or not.
fn bare_column(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(&column.name),
        Expr::Cast(cast) if cast.field.data_type().is_integer() => bare_column(&cast.expr),
        _ => None,
    }
}

/// A constant as a value of a key column; none where no row can have it or it is of another kind.
fn key_value(value: &ScalarValue, kind: ColumnType) -> Option<Value> {
    let (_, value) = compile::constant(value)?;
    let integer = match &value {
        Value::Int2(value) => Some(i64::from(*value)),
        Value::Int4(value) => Some(i64::from(*value)),
        Value::Int8(value) => Some(*value),
        _ => None,
    };
    Some(match (kind, integer, value) {
        (ColumnType::Int2, Some(value), _) => Value::Int2(i16::try_from(value).ok()?),
        (ColumnType::Int4, Some(value), _) => Value::Int4(i32::try_from(value).ok()?),
        (ColumnType::Int8, Some(value), _) => Value::Int8(value),
        (ColumnType::Text, None, value @ Value::Text(_))
        | (ColumnType::Bool, None, value @ Value::Bool(_))
        | (ColumnType::Bytea, None, value @ Value::Bytea(_))
        | (ColumnType::Date, None, value @ Value::Date(_)) => value,
        (ColumnType::Uuid, None, Value::Text(text)) => Value::Uuid(uuid_from_text(&text)?),
        _ => return None,
    })
}

fn with_keys(mut prefix: Vec<u8>, values: &[Value]) -> Vec<u8> {
    for value in values {
        // Kinds without a key were not taken.
        let _has_key = put_key(value, &mut prefix);
    }
    prefix
}

/// Where rows are read.
#[derive(Clone, Debug)]
enum Place {
    /// One row at most.
    Key(Vec<u8>),
    /// Rows whose keys begin so.
    Rows(Vec<u8>),
    /// Rows whose entries of an index begin so.
    Index(Vec<u8>),
}

#[async_trait]
impl TableProvider for RowTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns: Vec<usize> = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.schema.fields().len()).collect(),
        };
        let schema = Arc::new(self.schema.project(&columns)?);
        let own = || state.config().get_extension::<Snapshot>();
        let snapshot = self.at.clone().or_else(own);
        let snapshot = snapshot.ok_or_else(|| {
            DataFusionError::Internal("a table is read without a snapshot".to_owned())
        })?;
        let scan = Scan {
            place: self.place(filters, &snapshot),
            table: self.clone(),
            snapshot,
            schema: Arc::clone(&schema),
            columns,
        };
        let plan = StreamingTableExec::try_new(
            schema,
            vec![Arc::new(scan)],
            None,
            Vec::new(),
            false,
            // A filter above may drop rows: only without one is the limit of the rows read.
            limit.filter(|_| filters.is_empty()),
        )?;
        Ok(Arc::new(plan))
    }
}

/// A scan of one table.
#[derive(Clone, Debug)]
struct Scan {
    table: RowTable,
    snapshot: Arc<Snapshot>,
    place: Place,
    schema: SchemaRef,
    columns: Vec<usize>,
}

impl PartitionStream for Scan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let from = match &self.place {
            Place::Key(key) | Place::Rows(key) | Place::Index(key) => Some(key.clone()),
        };
        let pages = futures::stream::unfold((self.clone(), from), |(scan, from)| async move {
            let page = scan.page(&from?);
            match page {
                Ok((batch, next)) => Some((Ok(batch), (scan, next))),
                Err(error) => Some((Err(error), (scan, None))),
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), pages))
    }
}

impl Scan {
    /// The rows of the next page, and where the one after begins.
    fn page(&self, from: &[u8]) -> Result<(RecordBatch, Option<Vec<u8>>)> {
        let snapshot = &self.snapshot;
        let (rows, next) = match &self.place {
            Place::Key(key) => {
                let row = snapshot.get(key).map_err(external)?;
                (row.map(|row| (key.clone(), row)).into_iter().collect(), None)
            }
            Place::Rows(prefix) | Place::Index(prefix) => {
                let end = end_of(prefix);
                let found = snapshot.range(from, end.as_deref(), PAGE_COUNT).map_err(external)?;
                let last = found.last().filter(|_| found.len() == PAGE_COUNT);
                (found.clone(), last.map(|(key, _)| next_key(key)))
            }
        };
        let rows = match &self.place {
            Place::Index(_) => self.rows_of(rows)?,
            _ => rows,
        };
        Ok((batch_of(self.table.spec(), &self.columns, &self.schema, &rows)?, next))
    }

    /// The rows that entries of an index name.
    fn rows_of(&self, entries: StoredRows) -> Result<StoredRows> {
        let mut rows = Vec::with_capacity(entries.len());
        for (_, key) in entries {
            let row = self.snapshot.get(&key).map_err(external)?;
            rows.extend(row.map(|row| (key, row)));
        }
        Ok(rows)
    }
}

/// Some of a table's columns of rows, by key; the one behind its own is the row's number.
pub(crate) fn batch_of(
    spec: &TableSpec,
    columns: &[usize],
    schema: &SchemaRef,
    rows: &StoredRows,
) -> Result<RecordBatch> {
    let own = spec.schema.columns();
    let kinds = columns.iter().map(|index| own.get(*index).map(|column| column.kind));
    let mut builders: Vec<ColumnBuilder> =
        kinds.map(|kind| ColumnBuilder::new(kind.map_or(Kind::Int8, Kind::from))).collect();
    // Place of each of the table's columns in the batch.
    let mut places: Vec<Option<usize>> = vec![None; own.len().saturating_add(1)];
    for (place, index) in columns.iter().enumerate() {
        if let Some(slot) = places.get_mut(*index) {
            *slot = Some(place);
        }
    }
    let number = places.get(own.len()).copied().flatten();
    for (key, row) in rows {
        let walked = spec.schema.walk_row(row, |index, value| {
            let place = places.get(index).copied().flatten();
            if let Some(builder) = place.and_then(|place| builders.get_mut(place)) {
                builder.append(value);
            }
        });
        walked.map_err(|error| DataFusionError::External(Box::new(error)))?;
        if let Some(builder) = number.and_then(|place| builders.get_mut(place)) {
            builder.append(number_of(key));
        }
    }
    let arrays = builders
        .iter_mut()
        .map(ColumnBuilder::finish)
        .collect::<std::result::Result<Vec<ArrayRef>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)?)
}

/// The number of a row, from its key.
fn number_of(key: &[u8]) -> ValueRef<'static> {
    let number = key.split_last_chunk::<8>().map(|(_, bytes)| i64::from_be_bytes(*bytes));
    number.map_or(ValueRef::Null, |number| ValueRef::Int8(number ^ i64::MIN))
}
