//! The engine that answers SQL, and one client's session with it.
//!
//! ```text
//!  Session::parse(text) ─> statements ─ prepare ─> Prepared (plan, columns, parameters) ─ execute ─> Outcome
//! ```
//! A statement is planned against the tables of the moment and executed on the newest height (Q1), inside a transaction
//! on the transaction's own; a prepared one on the newest height of each execution. Memory, time and the size of a text
//! are bounded.

mod catalog;
mod copy;
mod named;
mod number;
mod procedure;
mod write;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider};
use datafusion::common::ParamValues;
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::execution::context::{SQLOptions, SessionContext};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{FunctionRegistry as _, SendableRecordBatchStream};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionConfig;
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement as PlanStatement;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::setup_pg_catalog;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use futures::StreamExt as _;
use futures::executor::block_on;
use pgwire::api::Type;
use quipu_types::{AccountId, code};
use tokio::time::Instant;

use crate::arithmetic;
use crate::before;
use crate::casts;
use crate::catalog::{System, SystemSource};
use crate::coerce;
use crate::copy::{CopyIn, CopyOut};
use crate::deep;
use crate::error::{Notice, SqlError};
use crate::history::{self, History};
use crate::names;
use crate::newest::{self, Compacted};
use crate::numeric;
use crate::order;
use crate::origin;
use crate::parameters;
use crate::past::{self, AtHeight};
use crate::point::Point;
use crate::public::{Catalogs, Look, Public, Special};
use crate::scalar;
use crate::scan::ReadsPartial;
use crate::settings::Settings;
use crate::statement::{self, Kind, Parsed};
use crate::store::ColumnStore;
use crate::tables::{Signer, Snapshot, TableSource};
use crate::transaction::{Act, Work};
use crate::unnest::Unnest;
use crate::wire::{self, Column};

pub use write::{Write, Written};

/// The name of the one database and of DataFusion's catalog.
pub const DATABASE: &str = "quipu";

/// What a query may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that all queries together may hold.
    pub memory_size_max: usize,
    /// The longest time of one statement.
    pub statement_time_max: Duration,
    /// Threads of one query.
    pub partition_count: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_size_max: 256 << 20,
            statement_time_max: Duration::from_secs(60),
            partition_count: 2,
        }
    }
}

/// Answers SQL over a column store.
pub struct Engine {
    store: ColumnStore,
    tables: Arc<dyn TableSource>,
    context: Arc<SessionContext>,
    parser: PostgresCompatibilityParser,
    limits: Limits,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine over the streams of `store` and the tables of `tables`.
    pub fn new(
        store: ColumnStore,
        source: Arc<dyn SystemSource>,
        tables: Arc<dyn TableSource>,
        limits: Limits,
    ) -> Result<Arc<Self>, SqlError> {
        Self::build(store, source, tables, limits)
            .map(Arc::new)
            .map_err(|error| SqlError::from_datafusion(&error, ""))
    }

    fn build(
        store: ColumnStore,
        source: Arc<dyn SystemSource>,
        tables: Arc<dyn TableSource>,
        limits: Limits,
    ) -> datafusion::common::Result<Self> {
        let mut config = SessionConfig::new()
            .with_default_catalog_and_schema(DATABASE, "public")
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(true)
            .with_target_partitions(limits.partition_count.max(1));
        let options = config.options_mut();
        // One string type everywhere; literals with a point are exact, as in PostgreSQL.
        options.sql_parser.map_string_types_to_utf8view = false;
        options.sql_parser.parse_float_as_decimal = true;
        options.catalog.has_header = true;
        options.execution.time_zone = Some("UTC".into());
        let five = std::num::NonZeroUsize::MIN.saturating_add(4);
        let pool = TrackConsumersPool::new(GreedyMemoryPool::new(limits.memory_size_max), five);
        // Nothing is spilled: a query that needs more than its memory is refused.
        let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(disk)
            .build_arc()?;
        let state = SessionStateBuilder::new_with_default_features()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_analyzer_rule(Arc::new(Unnest::default()))
            .with_optimizer_rule(Arc::new(order::Guard))
            .with_physical_optimizer_rules(order::physical_rules())
            .build();
        let context = SessionContext::new_with_state(state);
        let catalog = Arc::new(MemoryCatalogProvider::new());
        let planner = Arc::new(OnceLock::new());
        let public = Public::newest(store.clone(), Arc::clone(&tables), Arc::clone(&planner));
        catalog.register_schema("public", Arc::new(public))?;
        let before = before::functions(&source);
        catalog.register_schema("quipu", Arc::new(System { store: store.clone(), source }))?;
        context.register_catalog(DATABASE, catalog);
        setup_pg_catalog(&context, DATABASE, EmptyContextProvider).map_err(|error| *error)?;
        // A state that is built anew registers functions in any order: ours come after.
        let state = SessionStateBuilder::new_from_existing(context.state());
        let state = state.with_type_planner(Arc::new(casts::Types)).build();
        let mut context = SessionContext::new_with_state(state);
        let every = datafusion::functions_aggregate::bool_and_or::bool_and_udaf();
        context.register_udaf(every.as_ref().clone().with_aliases(["every"]));
        for function in numeric::functions() {
            context.register_udaf(function);
        }
        context.register_expr_planner(Arc::new(arithmetic::Planner))?;
        for function in scalar::functions() {
            context.register_udf(function);
        }
        context.register_udf(before);
        let past = AtHeight { store: store.clone(), source: Arc::clone(&tables) };
        context.register_udtf(past::NAME, Arc::new(past));
        let past = History { store: store.clone(), source: Arc::clone(&tables) };
        context.register_udtf(history::NAME, Arc::new(past));
        let newest = Compacted { store: store.clone() };
        context.register_udtf(newest::NAME, Arc::new(newest));
        let context = Arc::new(context);
        // The first to say so is heard, and nobody else does.
        let _is_first = planner.set(Arc::downgrade(&context));
        Ok(Self { store, tables, context, parser: PostgresCompatibilityParser::new(), limits })
    }

    /// A session of a client that is `user`, who may write with this signer's key if there is one.
    #[must_use]
    pub fn session(self: &Arc<Self>, user: &str, signer: Option<Signer>) -> Session {
        let mut settings = Settings::default();
        settings.authorize(user);
        let engine = Arc::clone(self);
        Session {
            engine,
            settings,
            signer,
            roles: Arc::default(),
            transaction: Transaction::None,
            is_implicit: false,
            is_read_only: false,
            work: None,
            notices: Vec::new(),
            named: BTreeMap::new(),
        }
    }

    /// Everything at the newest height.
    fn look(&self) -> Result<Look, SqlError> {
        let view = self.store.view()?;
        let snapshot = Arc::new(Snapshot::new(Arc::clone(&self.tables), view.height()));
        Ok(Look { view, snapshot })
    }

    fn state(
        &self,
        settings: &Settings,
        look: &Look,
        special: Special,
    ) -> Result<SessionState, SqlError> {
        let mut state = self.context.state();
        Catalogs::attach(&mut state, &self.store, look, special);
        let config = state.config_mut();
        config.set_extension(Arc::clone(&look.view));
        config.set_extension(Arc::clone(&look.snapshot));
        if settings.reads_partial() {
            config.set_extension(Arc::new(ReadsPartial));
        }
        let schema = settings.search_path().into_iter().find(|name| {
            matches!(name.as_str(), "public" | "quipu" | "pg_catalog" | "information_schema")
        });
        if let Some(schema) = schema.filter(|schema| schema != "public") {
            config.options_mut().catalog.default_schema = schema;
        }
        Ok(state)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transaction {
    None,
    Open,
    Failed,
}

/// One client's conversation: its parameters and where its transaction stands.
#[derive(Clone, Debug)]
pub struct Session {
    engine: Arc<Engine>,
    settings: Settings,
    signer: Option<Signer>,
    /// Accounts of the roles that can be named.
    roles: Arc<BTreeMap<String, AccountId>>,
    transaction: Transaction,
    /// The statements of one query text are a transaction of their own.
    is_implicit: bool,
    /// The open transaction writes nothing.
    is_read_only: bool,
    /// What the open transaction has seen and done.
    work: Option<Work>,
    notices: Vec<Notice>,
    /// Statements that `PREPARE` named.
    named: BTreeMap<String, Prepared>,
}

/// A statement that was read and may be prepared.
#[derive(Clone, Debug)]
pub struct Statement {
    parsed: Arc<Parsed>,
    text: Arc<str>,
}

/// A statement that may be executed, many times.
#[derive(Clone, Debug)]
pub struct Prepared {
    kind: Kind,
    plan: Option<LogicalPlan>,
    text: Arc<str>,
    /// The one row that it asks for by its key.
    point: Option<Arc<Point>>,
    /// What it writes.
    target: Option<write::Target>,
    /// The query whose rows it copies, or which answers with the rows that it writes.
    source: Option<Box<Prepared>>,
    /// The statement that it was prepared from, and the types that the client said.
    origin: (Statement, Vec<u32>),
    /// The columns of its rows; none for a statement without rows.
    pub columns: Option<Arc<Vec<Column>>>,
    /// The types of its parameters, `$1` first.
    pub parameters: Vec<parameters::Parameter>,
}

impl Prepared {
    /// Whether it may change something that waits for the end of a transaction.
    #[must_use]
    pub const fn changes(&self) -> bool {
        matches!(
            self.kind,
            Kind::Write | Kind::Call | Kind::Define | Kind::CreateProcedure(_) | Kind::Truncate
        )
    }
}

/// What a statement did.
#[derive(Debug)]
pub enum Outcome {
    /// It has rows.
    Rows(Rows),
    /// It is done when the ledger has applied this: whoever asked sees to it, then calls [`Session::written`].
    Write(Box<Write>),
    /// It waits for what the client copies: whoever asked reads it, then calls [`Session::copied`].
    CopyIn(Box<CopyIn>),
    /// It has rows, to be copied to the client.
    CopyOut(Box<CopyOut>),
    /// It is done.
    Done {
        /// What PostgreSQL calls it.
        tag: String,
        /// A parameter that the client is to be told.
        report: Option<(String, String)>,
        /// Prepared statements to forget.
        forget: Forget,
    },
}

/// Which prepared statements a session's owner forgets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forget {
    /// None.
    Nothing,
    /// The one of this name.
    Named(String),
    /// All.
    All,
}

/// Rows to come.
pub struct Rows {
    columns: Arc<Vec<Column>>,
    tag: &'static str,
    text: Arc<str>,
    schema: SchemaRef,
    stream: SendableRecordBatchStream,
    time_max: Duration,
    deadline: Instant,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl Rows {
    /// Rows of a test.
    #[cfg(test)]
    pub(crate) fn of_stream(
        columns: Vec<Column>,
        stream: SendableRecordBatchStream,
        schema: &SchemaRef,
    ) -> Self {
        Self {
            columns: Arc::new(columns),
            tag: "SELECT",
            text: "".into(),
            schema: Arc::clone(schema),
            stream,
            time_max: Duration::MAX,
            deadline: after(Duration::MAX),
        }
    }

    /// The columns.
    #[must_use]
    pub fn columns(&self) -> &Arc<Vec<Column>> {
        &self.columns
    }

    /// `SELECT`, `SHOW` or `EXPLAIN`.
    #[must_use]
    pub fn tag(&self) -> &'static str {
        self.tag
    }

    /// Begins the statement's time anew: for a portal that is fetched from again.
    pub fn renew(&mut self) {
        self.deadline = after(self.time_max);
    }

    /// The next rows; none when all have come.
    pub async fn next(&mut self) -> Option<Result<RecordBatch, SqlError>> {
        let next = tokio::time::timeout_at(self.deadline, self.stream.next()).await;
        match next {
            Err(_) => Some(Err(SqlError::timeout())),
            Ok(None) => None,
            Ok(Some(Err(error))) => Some(Err(SqlError::from_datafusion(&error, &self.text))),
            Ok(Some(Ok(batch))) => Some(conform(batch, &self.schema)),
        }
    }

    /// Every row, as PostgreSQL's text; refused beyond `row_count_max` rows.
    pub async fn texts(
        &mut self,
        row_count_max: usize,
    ) -> Result<Vec<Vec<Option<String>>>, SqlError> {
        let mut rows = Vec::new();
        while let Some(batch) = self.next().await {
            let batch = batch?;
            if rows.len().saturating_add(batch.num_rows()) > row_count_max {
                let message = format!("the answer has more than {row_count_max} rows");
                return Err(SqlError::new("54000", code::SQL_LIMIT, message).hint("use LIMIT"));
            }
            wire::text_rows(&batch, &self.columns, &mut rows)?;
        }
        Ok(rows)
    }
}

fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or(now)
}

/// A batch with the types that were described.
fn conform(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, SqlError> {
    let same = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .all(|(column, field)| column.data_type() == field.data_type());
    if same {
        return Ok(batch);
    }
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| arrow::compute::cast(column, field.data_type()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| SqlError::from_datafusion(&error.into(), ""))?;
    let fields: Vec<Field> =
        schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|error| SqlError::from_datafusion(&error.into(), ""))
}

impl Session {
    /// Takes a parameter of the start-up message; one that can not be had keeps its default.
    pub fn offer(&mut self, name: &str, value: &str) {
        self.settings.offer(name, value);
    }

    /// The parameters that a client is told at its start.
    #[must_use]
    pub fn reported(&self) -> Vec<(String, String)> {
        self.settings.reported()
    }

    /// Where the transaction stands, as `ReadyForQuery` says it: `I`, `T` or `E`.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self.transaction {
            Transaction::None => b'I',
            Transaction::Open => b'T',
            Transaction::Failed => b'E',
        }
    }

    /// Notes that a statement failed: an open transaction is failed with it.
    pub fn fail(&mut self) {
        match self.transaction {
            Transaction::Open => self.transaction = Transaction::Failed,
            Transaction::None => self.work = None,
            Transaction::Failed => {}
        }
        self.is_implicit = false;
    }

    /// Begins a query text of several statements, or a pipeline: what they write waits for [`Session::end_implicit`].
    pub fn begin_implicit(&mut self) {
        self.is_implicit = true;
    }

    /// Ends a query text of several statements, or a pipeline: what is to be written now, unless a transaction is open.
    ///
    /// # Errors
    /// It is more than the ledger takes at once.
    pub fn end_implicit(&mut self) -> Result<Option<Write>, SqlError> {
        self.is_implicit = false;
        match self.transaction {
            Transaction::None => {
                let acts = self.work.take().map(Work::commit).unwrap_or_default();
                (!acts.is_empty()).then(|| Write::of_transaction(acts)).transpose()
            }
            Transaction::Open | Transaction::Failed => Ok(None),
        }
    }

    /// Whether what is written waits for the end of a transaction.
    fn defers(&self) -> bool {
        self.is_implicit || self.transaction != Transaction::None
    }

    /// What the client is to be told beside the answer, as far as it wants to.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        let mut notices = std::mem::take(&mut self.notices);
        notices.retain(|notice| self.settings.wants(notice.severity));
        notices
    }

    fn warn(&mut self, sqlstate: &'static str, message: &str) {
        self.notices.push(Notice { severity: "WARNING", sqlstate, message: message.into() });
    }

    /// How long the client may be silent now, and what it is told when it is silent for longer.
    #[must_use]
    pub fn idle_time_max(&self) -> Option<(Duration, SqlError)> {
        let (name, state, what) = match self.transaction {
            Transaction::None => ("idle_session_timeout", "57P05", "idle-session"),
            Transaction::Open | Transaction::Failed => {
                ("idle_in_transaction_session_timeout", "25P03", "idle-in-transaction")
            }
        };
        let message = format!("terminating connection due to {what} timeout");
        let error = SqlError::new(state, code::SQL_LIMIT, message);
        self.settings.time(name).map(|time| (time, error))
    }

    /// Reads a query text: no statement, one, or several.
    pub async fn parse(&self, text: &str) -> Result<Vec<Statement>, SqlError> {
        let engine = Arc::clone(&self.engine);
        let text: Arc<str> = text.into();
        deep::run(move || {
            let parsed = statement::parse(&text, &engine.parser)?;
            let statement =
                |parsed| Statement { parsed: Arc::new(parsed), text: Arc::clone(&text) };
            Ok(parsed.into_iter().map(statement).collect())
        })
        .await
    }

    /// Plans a statement; `types` are the parameters' types as far as the client says them (0: it does not).
    pub async fn prepare(
        &self,
        statement: &Statement,
        types: &[u32],
    ) -> Result<Prepared, SqlError> {
        let Statement { parsed, text } = statement;
        let kind = parsed.kind.clone();
        self.admit(&kind)?;
        let bare = |columns: Option<Vec<Column>>| Prepared {
            kind: kind.clone(),
            plan: None,
            text: Arc::clone(text),
            point: None,
            target: None,
            source: None,
            origin: (statement.clone(), types.to_vec()),
            columns: columns.map(Arc::new),
            parameters: Vec::new(),
        };
        match &kind {
            Kind::Query | Kind::Explain => {}
            Kind::Catalog => return self.prepare_catalog(statement, types).await,
            Kind::Write => return self.prepare_write(statement, types).await,
            Kind::Copy(copy) => return self.prepare_copy(statement, copy).await,
            Kind::Call => return self.prepare_call(statement, types).await,
            Kind::Show(name) => return Ok(bare(Some(self.show(name)?.1))),
            _ => return self.prepare_named(&kind, bare(None)),
        }
        let state = self.engine.state(&self.settings, &self.look()?, Special::default())?;
        self.plan(state, statement.clone(), types).await
    }

    /// Plans a query, or the source of a write.
    async fn plan(
        &self,
        state: SessionState,
        statement: Statement,
        types: &[u32],
    ) -> Result<Prepared, SqlError> {
        let types = types.to_vec();
        let work = deep::run(move || prepare(&state, &statement, &types));
        let deadline = after(self.time_max());
        tokio::time::timeout_at(deadline, work).await.map_err(|_| SqlError::timeout())?
    }

    /// What a statement sees now: its transaction's look, or the newest.
    fn look(&self) -> Result<Look, SqlError> {
        match &self.work {
            Some(work) => Ok(work.look.clone()),
            None => self.engine.look(),
        }
    }

    /// The open transaction, begun with the first statement that sees something.
    fn work(&mut self) -> Result<Option<&mut Work>, SqlError> {
        if self.defers() && self.work.is_none() {
            self.work = Some(Work::new(self.engine.look()?));
        }
        Ok(self.work.as_mut())
    }

    /// Executes a prepared statement with a value for each of its parameters.
    pub async fn execute(
        &mut self,
        prepared: &Prepared,
        values: Vec<ScalarValue>,
    ) -> Result<Outcome, SqlError> {
        self.admit(&prepared.kind)?;
        if !matches!(prepared.kind, Kind::Commit | Kind::Rollback | Kind::RollbackTo(_)) {
            self.work()?;
        }
        let renewed = self.renewed(prepared).await?;
        let prepared = renewed.as_ref().unwrap_or(prepared);
        match (&prepared.kind, &prepared.plan) {
            (Kind::Query | Kind::Explain, Some(plan)) => {
                let look = self.look()?;
                let point = prepared.point.as_ref();
                if let Some(batch) = point.and_then(|point| point.read(&look.snapshot, &values)) {
                    let columns = prepared.columns.clone().unwrap_or_default();
                    return Ok(Outcome::Rows(self.rows_at_hand("SELECT", columns, batch?)));
                }
                self.check_unwritten(plan)?;
                let state = self.engine.state(&self.settings, &look, Special::default())?;
                self.run(prepared, state, plan, values).await.map(Outcome::Rows)
            }
            (Kind::Catalog, _) => self.catalog(prepared, values).await,
            (Kind::Write | Kind::Call, _) => self.write(prepared, values).await,
            (Kind::CreateProcedure(create), _) => self.create_procedure(create).await,
            (Kind::Define | Kind::Truncate, _) => self.define(prepared).await,
            (Kind::Copy(copy), _) => self.copy(prepared, copy).await,
            (Kind::Show(name), _) => self.show_rows(name).map(Outcome::Rows),
            (Kind::Prepare(name, text), _) => self.name(name, text).await,
            (Kind::Execute(name, constants), _) => self.execute_named(name, constants).await,
            (kind, _) => self.command(kind),
        }
    }

    /// Parses, prepares and executes one statement without parameters.
    pub async fn query(&mut self, text: &str) -> Result<Outcome, SqlError> {
        let mut statements = self.parse(text).await?;
        let (Some(statement), true) = (statements.pop(), statements.is_empty()) else {
            return Err(SqlError::new(
                "42601",
                code::SQL_SYNTAX,
                "exactly one statement is needed",
            ));
        };
        let prepared = self.prepare(&statement, &[]).await?;
        self.execute(&prepared, Vec::new()).await
    }

    fn admit(&self, kind: &Kind) -> Result<(), SqlError> {
        let ends = matches!(kind, Kind::Commit | Kind::Rollback | Kind::RollbackTo(_));
        match self.transaction {
            Transaction::Failed if !ends => Err(SqlError::in_failed_transaction()),
            _ => Ok(()),
        }
    }

    fn time_max(&self) -> Duration {
        let most = self.engine.limits.statement_time_max;
        self.settings.statement_timeout().map_or(most, |time| time.min(most))
    }

    async fn run(
        &self,
        prepared: &Prepared,
        state: SessionState,
        plan: &LogicalPlan,
        values: Vec<ScalarValue>,
    ) -> Result<Rows, SqlError> {
        let deadline = after(self.time_max());
        let text = Arc::clone(&prepared.text);
        let (plan, sql) = (plan.clone(), Arc::clone(&text));
        let is_analyzed = prepared.kind == Kind::Query && prepared.point.is_none();
        let work = deep::run(move || begin(&state, plan, values, is_analyzed, &sql));
        let stream =
            tokio::time::timeout_at(deadline, work).await.map_err(|_| SqlError::timeout())??;
        let columns = prepared.columns.clone().unwrap_or_default();
        let fields: Vec<Field> = columns
            .iter()
            .map(|column| Field::new(&column.name, column.data_type.clone(), true))
            .collect();
        Ok(Rows {
            columns,
            tag: if prepared.kind == Kind::Explain { "EXPLAIN" } else { "SELECT" },
            text,
            schema: Arc::new(Schema::new(fields)),
            stream,
            time_max: self.time_max(),
            deadline,
        })
    }

    /// Rows that are there already.
    fn rows_at_hand(
        &self,
        tag: &'static str,
        columns: Arc<Vec<Column>>,
        batch: RecordBatch,
    ) -> Rows {
        let schema = batch.schema();
        let stream = futures::stream::iter([Ok(batch)]);
        let stream = RecordBatchStreamAdapter::new(Arc::clone(&schema), stream);
        Rows {
            columns,
            tag,
            text: "".into(),
            schema,
            stream: Box::pin(stream),
            time_max: self.time_max(),
            deadline: after(self.time_max()),
        }
    }

    /// The values of `SHOW` and its columns.
    fn show(&self, name: &str) -> Result<(Vec<Vec<String>>, Vec<Column>), SqlError> {
        let text = |name: &str| Column::text(name);
        if name == "all" {
            let rows: Vec<(String, String)> = self.settings.all();
            let (names, values) = rows.into_iter().unzip();
            return Ok((vec![names, values], vec![text("name"), text("setting")]));
        }
        let (canonical, value) = self.settings.get(name)?;
        Ok((vec![vec![value]], vec![text(&canonical)]))
    }

    fn show_rows(&self, name: &str) -> Result<Rows, SqlError> {
        let (values, columns) = self.show(name)?;
        let fields: Vec<Field> =
            columns.iter().map(|column| Field::new(&column.name, DataType::Utf8, false)).collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let arrays = values
            .into_iter()
            .map(|values| -> arrow::array::ArrayRef { Arc::new(StringArray::from(values)) })
            .collect();
        let batch = RecordBatch::try_new(schema, arrays)
            .map_err(|error| SqlError::from_datafusion(&error.into(), ""))?;
        Ok(self.rows_at_hand("SHOW", Arc::new(columns), batch))
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each command")]
    fn command(&mut self, kind: &Kind) -> Result<Outcome, SqlError> {
        let mut report = None;
        let mut forget = Forget::Nothing;
        let tag = match kind {
            Kind::Begin(modes) => {
                if self.transaction == Transaction::Open {
                    self.warn("25001", "there is already a transaction in progress");
                }
                self.transaction = Transaction::Open;
                self.is_read_only =
                    modes.is_read_only.unwrap_or_else(|| self.settings.is_read_only());
                "BEGIN"
            }
            Kind::SetTransaction(modes) => {
                self.is_read_only = modes.is_read_only.unwrap_or(self.is_read_only);
                "SET"
            }
            Kind::Commit => {
                self.warn_if_none();
                let acts = self.work.take().map(Work::commit).unwrap_or_default();
                self.is_read_only = false;
                match std::mem::replace(&mut self.transaction, Transaction::None) {
                    Transaction::Failed => "ROLLBACK",
                    _ if acts.is_empty() => "COMMIT",
                    _ => return Ok(Outcome::Write(Box::new(Write::of_transaction(acts)?))),
                }
            }
            Kind::Rollback => {
                self.warn_if_none();
                self.work = None;
                self.is_read_only = false;
                self.transaction = Transaction::None;
                "ROLLBACK"
            }
            Kind::Savepoint(name) => {
                self.open_work("SAVEPOINT")?.save(name)?;
                "SAVEPOINT"
            }
            Kind::Release(name) => {
                self.open_work("RELEASE SAVEPOINT")?.release(name)?;
                "RELEASE"
            }
            Kind::RollbackTo(name) => {
                self.open_work("ROLLBACK TO SAVEPOINT")?.roll_back_to(name)?;
                self.transaction = Transaction::Open;
                "ROLLBACK"
            }
            Kind::Set(name, value) => {
                report = self.settings.set(name, value.as_deref())?;
                "SET"
            }
            Kind::ResetAll => {
                self.settings.reset();
                "RESET"
            }
            Kind::DiscardAll => {
                self.settings.reset();
                self.unname(None);
                forget = Forget::All;
                "DISCARD ALL"
            }
            Kind::Deallocate(name) => {
                self.unname(name.as_deref());
                forget = name.clone().map_or(Forget::All, Forget::Named);
                if name.is_some() { "DEALLOCATE" } else { "DEALLOCATE ALL" }
            }
            Kind::Nothing(tag) => tag,
            Kind::Upkeep(upkeep) => self.upkeep(upkeep)?,
            Kind::CreateStream(spec) if !self.defers() => {
                let acts = vec![Act::CreateStream(spec.clone())];
                return Ok(Outcome::Write(Box::new(Write::of_statement(acts, "CREATE STREAM")?)));
            }
            Kind::CreateStream(_) => {
                let message = "CREATE STREAM cannot run inside a transaction block";
                return Err(SqlError::new("25001", code::SQL_UNSUPPORTED, message));
            }
            Kind::Query
            | Kind::Catalog
            | Kind::Explain
            | Kind::Show(_)
            | Kind::Write
            | Kind::Define
            | Kind::Truncate
            | Kind::CreateProcedure(_)
            | Kind::Call
            | Kind::Prepare(..)
            | Kind::Execute(..)
            | Kind::Copy(_) => "SELECT",
        };
        Ok(Outcome::Done { tag: tag.into(), report, forget })
    }

    /// The work of a transaction block, which a statement needs.
    fn open_work(&mut self, what: &str) -> Result<&mut Work, SqlError> {
        if self.transaction == Transaction::None {
            let message = format!("{what} can only be used in transaction blocks");
            return Err(SqlError::new("25P01", code::SQL_SYNTAX, message));
        }
        self.work()?.ok_or_else(|| SqlError::unsupported(what))
    }

    fn warn_if_none(&mut self) {
        if self.transaction == Transaction::None {
            self.warn("25P01", "there is no transaction in progress");
        }
    }
}

/// Plans a query. Nothing in planning waits: the tables are in memory.
fn prepare(
    state: &SessionState,
    statement: &Statement,
    types: &[u32],
) -> Result<Prepared, SqlError> {
    let Statement { parsed, text } = statement;
    let failed = |error| SqlError::from_datafusion(&error, text);
    let plan = match block_on(plan(state, parsed, types)).map_err(failed)? {
        // Only the source of a write is planned here.
        LogicalPlan::Dml(write) if parsed.kind == Kind::Write => LogicalPlan::clone(&write.input),
        plan => plan,
    };
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&plan)
        .map_err(failed)?;
    let parameters = parameters::of_plan(&plan, types).map_err(failed)?;
    let is_query = parsed.kind == Kind::Query;
    let point = is_query.then(|| Point::of_plan(&plan)).flatten().map(Arc::new);
    // What a query answers with has the types that analysis gives it.
    let plan = if is_query && point.is_none() {
        let analyzer = state.analyzer();
        analyzer.execute_and_check(plan, state.config_options(), |_, _| {}).map_err(failed)?
    } else {
        plan
    };
    let schema = plan.schema().as_arrow();
    let count = schema.fields().len();
    let names = match (&parsed.kind, &parsed.written) {
        (Kind::Query, Some(written)) => names::output(written, count),
        _ => vec![None; count],
    };
    let columns = match parsed.kind {
        Kind::Write => None,
        _ => {
            let mut columns = wire::columns(schema, &names)?;
            for (index, column) in columns.iter_mut().enumerate() {
                column.origin = origin::of(&plan, index).unwrap_or_default();
            }
            Some(Arc::new(columns))
        }
    };
    let (kind, text) = (parsed.kind.clone(), Arc::clone(text));
    let origin = (statement.clone(), types.to_vec());
    let (plan, target, source) = (Some(plan), None, None);
    Ok(Prepared { kind, plan, text, point, target, source, origin, columns, parameters })
}

async fn plan(
    state: &SessionState,
    parsed: &Parsed,
    types: &[u32],
) -> datafusion::common::Result<LogicalPlan> {
    let mut statement = parsed.plan.clone().expect("what is planned was parsed");
    parameters::type_placeholders(&mut statement, types);
    let plan =
        state.statement_to_plan(PlanStatement::Statement(Box::new(statement.clone()))).await?;
    let known = parameters::of_plan(&plan, types)?;
    if known.iter().all(|parameter| parameter.data_type.is_some()) {
        return coerce::plan(plan);
    }
    // What neither the client nor the plan says is text.
    let text_types: Vec<u32> = known
        .iter()
        .map(|parameter| parameter.data_type.as_ref().map_or(Type::TEXT.oid(), |_| 0))
        .collect();
    parameters::type_placeholders(&mut statement, &text_types);
    let plan = state.statement_to_plan(PlanStatement::Statement(Box::new(statement))).await?;
    coerce::plan(plan)
}

/// Begins to run a plan.
fn begin(
    state: &SessionState,
    plan: LogicalPlan,
    values: Vec<ScalarValue>,
    is_analyzed: bool,
    text: &str,
) -> Result<SendableRecordBatchStream, SqlError> {
    let failed = |error| SqlError::from_datafusion(&error, text);
    // Values may have other types than the parameters were said to have.
    let is_analyzed = is_analyzed && values.is_empty();
    let plan = with_values(plan, values).map_err(failed)?;
    let plan = if is_analyzed {
        state.optimizer().optimize(plan, state, |_, _| {})
    } else {
        state.optimize(&plan)
    };
    let plan = plan.map_err(failed)?;
    let physical = state.query_planner().create_physical_plan(&plan, state);
    let physical = block_on(physical).map_err(failed)?;
    execute_stream(physical, state.task_ctx()).map_err(failed)
}

/// A plan with values for its parameters.
pub(crate) fn with_values(
    plan: LogicalPlan,
    values: Vec<ScalarValue>,
) -> datafusion::common::Result<LogicalPlan> {
    if values.is_empty() {
        return Ok(plan);
    }
    let values = values.into_iter().map(|value| ScalarAndMetadata::new(value, None)).collect();
    plan.replace_params_with_values(&ParamValues::List(values))
}
