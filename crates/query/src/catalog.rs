//! What a client finds: schema `public` with a table for each stream, schema `quipu` with the ledger's own.
//!
//! | table | rows | from |
//! |---|---|---|
//! | `public.<stream>` | its events | column store |
//! | `quipu.events` | every stream's events, system columns only | column store |
//! | `quipu.headers`, `transactions`, `terms`, `streams` | what was executed | column store |
//! | `quipu.receipts` | outcome of every transaction | `quipu.transactions` |
//! | `quipu.lanes` | how far each lane is cut | the newest header |
//! | `quipu.accounts`, `metrics` | of this moment | [`SystemSource`] |
//! | `quipu.validators`, `epochs` | stake of this moment | [`SystemSource`] |
//! | `quipu.evidence` | what was ordered against validators, and held | [`SystemSource`] |

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, Session, TableProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::{TableType, ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, col};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use quipu_types::row::ValueRef;
use quipu_types::{AccountId, Hash};

use crate::column::{ColumnBuilder, ColumnDef, Kind};
use crate::error::SqlError;
use crate::scan::{ScanPlan, StoredTable, view_of};
use crate::store::{ColumnStore, ReadView};
use crate::table::{events_schema, signed};

mod stake;

pub use stake::{EpochRow, EvidenceRow, ValidatorRow};

/// Units of one account or validator.
const UNITS: Kind = Kind::Numeric { precision: 20, scale: 0 };

/// An account and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountRow {
    /// The account.
    pub account: AccountId,
    /// Units.
    pub balance: u64,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricRow {
    /// Its name, with its unit.
    pub name: String,
    /// Its labels, as `key=value` joined by commas; may be empty.
    pub labels: String,
    /// Its value.
    pub value: f64,
}

/// What the shell knows and the column store does not.
pub trait SystemSource: fmt::Debug + Send + Sync {
    /// Every account, in any order.
    fn accounts(&self) -> Vec<AccountRow>;
    /// The validators that are registered, in the order of their indices.
    fn validators(&self) -> Vec<ValidatorRow>;
    /// The evidence that was ordered and held, in the order of heights.
    fn evidence(&self) -> Vec<EvidenceRow>;
    /// The epochs by whose sets evidence is judged and the next one, ascending.
    fn epochs(&self) -> Vec<EpochRow>;
    /// What is measured.
    fn metrics(&self) -> Vec<MetricRow>;
    /// Whether the first transaction was there before the second was stamped.
    ///
    /// # Errors
    /// Either is not known, or too much lies between them to say.
    fn happens_before(&self, first: Hash, second: Hash) -> Result<bool, SqlError>;
}

/// A table of the column store.
pub(crate) fn stored(store: &ColumnStore, key: &str) -> Option<Arc<dyn TableProvider>> {
    let def = store.table(key)?;
    Some(Arc::new(StoredTable { store: store.clone(), def }))
}

/// Schema `quipu`: the ledger's own tables.
#[derive(Debug)]
pub(crate) struct System {
    pub(crate) store: ColumnStore,
    pub(crate) source: Arc<dyn SystemSource>,
}

#[async_trait]
impl SchemaProvider for System {
    fn table_names(&self) -> Vec<String> {
        let mut names = self.store.table_names("quipu.");
        names.extend(Computed::ALL.map(|table| table.name().to_owned()));
        names.extend(["events".to_owned(), "receipts".to_owned()]);
        names.sort();
        names
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(table) = Computed::ALL.into_iter().find(|table| table.name() == name) {
            let columns = table.columns();
            let store = self.store.clone();
            let source = Arc::clone(&self.source);
            return Ok(Some(Arc::new(ComputedTable { table, columns, store, source })));
        }
        Ok(match name {
            "events" => Some(Arc::new(Events { store: self.store.clone() })),
            "receipts" => Some(receipts(&self.store)?),
            _ => stored(&self.store, &format!("quipu.{name}")),
        })
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == name)
    }
}

fn receipts(store: &ColumnStore) -> Result<Arc<dyn TableProvider>> {
    const COLUMNS: [&str; 9] =
        ["lane", "seqno", "height", "tx", "action_count", "fee", "outcome", "code", "action"];
    let transactions = stored(store, "quipu.transactions")
        .ok_or_else(|| DataFusionError::Internal("quipu.transactions is missing".into()))?;
    let plan = LogicalPlanBuilder::scan("transactions", provider_as_source(transactions), None)?
        .project(COLUMNS.map(col))?
        .build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// `quipu.events`.
#[derive(Debug)]
struct Events {
    store: ColumnStore,
}

#[async_trait]
impl TableProvider for Events {
    fn schema(&self) -> SchemaRef {
        events_schema()
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
        let view = view_of(&self.store, state)?;
        let mut plans: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        for table in view.tables.values() {
            if let Some(def) = table.def.events() {
                let view = Arc::clone(&view);
                let plan = ScanPlan::new(view, Arc::new(def), projection, limit, state)?;
                plans.push(Arc::new(plan));
            }
        }
        match plans.len() {
            0 => empty(events_schema(), projection),
            1 => plans.pop().ok_or_else(|| DataFusionError::Internal("one plan".into())),
            _ => UnionExec::try_new(plans),
        }
    }
}

fn empty(schema: SchemaRef, projection: Option<&Vec<usize>>) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = MemorySourceConfig::try_new_exec(&[Vec::new()], schema, projection.cloned())?;
    Ok(plan)
}

/// A table whose rows are made when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Computed {
    Accounts,
    Epochs,
    Evidence,
    Lanes,
    Metrics,
    Validators,
}

#[derive(Debug)]
struct ComputedTable {
    table: Computed,
    columns: Vec<ColumnDef>,
    store: ColumnStore,
    source: Arc<dyn SystemSource>,
}

impl Computed {
    const ALL: [Self; 6] = [
        Self::Accounts,
        Self::Epochs,
        Self::Evidence,
        Self::Lanes,
        Self::Metrics,
        Self::Validators,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Epochs => "epochs",
            Self::Evidence => "evidence",
            Self::Lanes => "lanes",
            Self::Metrics => "metrics",
            Self::Validators => "validators",
        }
    }

    fn columns(self) -> Vec<ColumnDef> {
        let column = ColumnDef::new;
        match self {
            Self::Accounts => vec![column("account", Kind::Text), column("balance", UNITS)],
            Self::Epochs => EpochRow::columns(),
            Self::Evidence => EvidenceRow::columns(),
            Self::Lanes => vec![
                column("lane", Kind::Int4),
                column("term", Kind::Int8),
                column("chunk", Kind::Int8),
                column("seqno", Kind::Int8),
                column("lane_root", Kind::Text),
                column("chunk_hash", Kind::Text),
                column("height", Kind::Int8),
            ],
            Self::Metrics => vec![
                column("name", Kind::Text),
                column("labels", Kind::Text),
                column("value", Kind::Float8),
            ],
            Self::Validators => ValidatorRow::columns(),
        }
    }

    /// Calls `row` with the values of each row.
    fn rows(
        self,
        view: &ReadView,
        source: &dyn SystemSource,
        mut row: impl FnMut(&[ValueRef<'_>]),
    ) {
        match self {
            Self::Accounts => {
                for found in source.accounts() {
                    let account = found.account.to_string();
                    row(&[ValueRef::Text(&account), ValueRef::Numeric(found.balance.into())]);
                }
            }
            Self::Epochs => source.epochs().iter().for_each(|found| found.show(&mut row)),
            Self::Evidence => source.evidence().iter().for_each(|found| found.show(&mut row)),
            Self::Lanes => {
                for tip in view.cut.iter() {
                    row(&[
                        ValueRef::Int4(i32::from(tip.lane.get())),
                        ValueRef::Int8(signed(tip.term.get())),
                        ValueRef::Int8(signed(tip.index)),
                        ValueRef::Int8(signed(tip.seqno.get())),
                        ValueRef::Text(&tip.lane_root.to_string()),
                        ValueRef::Text(&tip.chunk_hash.to_string()),
                        ValueRef::Int8(signed(view.height.get())),
                    ]);
                }
            }
            Self::Metrics => {
                for found in source.metrics() {
                    row(&[
                        ValueRef::Text(&found.name),
                        ValueRef::Text(&found.labels),
                        ValueRef::Float8(found.value.to_bits()),
                    ]);
                }
            }
            Self::Validators => source.validators().iter().for_each(|found| found.show(&mut row)),
        }
    }
}

#[async_trait]
impl TableProvider for ComputedTable {
    fn schema(&self) -> SchemaRef {
        let fields: Vec<Field> = self
            .columns
            .iter()
            .map(|column| column.kind.field(&column.name, column.nullable))
            .collect();
        Arc::new(Schema::new(fields))
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let view = view_of(&self.store, state)?;
        let mut builders: Vec<ColumnBuilder> =
            self.columns.iter().map(|column| ColumnBuilder::new(column.kind)).collect();
        self.table.rows(&view, self.source.as_ref(), |values| {
            for (builder, value) in builders.iter_mut().zip(values) {
                builder.append(*value);
            }
        });
        let columns = builders.iter_mut().map(ColumnBuilder::finish).collect::<Result<_, _>>()?;
        let batch = RecordBatch::try_new(self.schema(), columns)?;
        let batches = [vec![batch]];
        let plan = MemorySourceConfig::try_new_exec(&batches, self.schema(), projection.cloned())?;
        Ok(plan)
    }
}
