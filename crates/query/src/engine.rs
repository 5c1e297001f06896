//! The engine that answers SQL, and one client's session with it.
//!
//! ```text
//!  Session::parse(text) ─> statements ─ prepare ─> Prepared (plan, columns, parameters) ─ execute ─> Outcome
//! ```
//! A statement is planned against the streams of the moment and executed on the newest height (Q1); a prepared
//! one on the newest height of each execution. Memory, time and the size of a text are bounded.

mod copy;

use std::sync::Arc;
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
use datafusion::prelude::SessionConfig;
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement as PlanStatement;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::setup_pg_catalog;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use futures::StreamExt as _;
use futures::executor::block_on;
use pgwire::api::Type;
use quipu_types::code;
use quipu_types::transaction::{ACTION_COUNT_MAX, StreamSpec, TRANSACTION_SIZE_MAX};
use tokio::time::Instant;

use crate::arithmetic;
use crate::catalog::{Streams, System, SystemSource};
use crate::copy::{CopyIn, CopyOut};
use crate::deep;
use crate::error::{Notice, SqlError};
use crate::insert::{self, Append};
use crate::names;
use crate::numeric;
use crate::parameters;
use crate::scalar;
use crate::settings::Settings;
use crate::statement::{self, Kind, Parsed};
use crate::store::ColumnStore;
use crate::table::TableDef;
use crate::wire::{self, Column};

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
    context: SessionContext,
    parser: PostgresCompatibilityParser,
    limits: Limits,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine over `store`.
    pub fn new(
        store: ColumnStore,
        source: Arc<dyn SystemSource>,
        limits: Limits,
    ) -> Result<Arc<Self>, SqlError> {
        Self::build(store, source, limits)
            .map(Arc::new)
            .map_err(|error| SqlError::from_datafusion(&error, ""))
    }

    fn build(
        store: ColumnStore,
        source: Arc<dyn SystemSource>,
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
            .build();
        let context = SessionContext::new_with_state(state);
        let catalog = Arc::new(MemoryCatalogProvider::new());
        catalog.register_schema("public", Arc::new(Streams { store: store.clone() }))?;
        catalog.register_schema("quipu", Arc::new(System { store: store.clone(), source }))?;
        context.register_catalog(DATABASE, catalog);
        setup_pg_catalog(&context, DATABASE, EmptyContextProvider).map_err(|error| *error)?;
        for function in numeric::functions() {
            context.register_udaf(function);
        }
        let mut context = context;
        context.register_expr_planner(Arc::new(arithmetic::Planner))?;
        for function in scalar::functions() {
            context.register_udf(function);
        }
        Ok(Self { store, context, parser: PostgresCompatibilityParser::new(), limits })
    }

    /// A session of a client that says it is `user`.
    #[must_use]
    pub fn session(self: &Arc<Self>, user: &str) -> Session {
        let mut settings = Settings::default();
        settings.authorize(user);
        let engine = Arc::clone(self);
        Session {
            engine,
            settings,
            transaction: Transaction::None,
            is_implicit: false,
            writes: Vec::new(),
            notices: Vec::new(),
        }
    }

    fn state(&self, settings: &Settings) -> Result<SessionState, SqlError> {
        let mut state = self.context.state();
        let view = self.store.view()?;
        let config = state.config_mut();
        config.set_extension(view);
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
    transaction: Transaction,
    /// The statements of one query text are a transaction of their own.
    is_implicit: bool,
    /// What the open transaction appends when it commits.
    writes: Vec<Append>,
    notices: Vec<Notice>,
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
    /// The stream that it inserts into.
    target: Option<Arc<TableDef>>,
    /// The query whose rows it copies.
    source: Option<Box<Prepared>>,
    /// The columns of its rows; none for a statement without rows.
    pub columns: Option<Arc<Vec<Column>>>,
    /// The types of its parameters, `$1` first.
    pub parameters: Vec<parameters::Parameter>,
}

/// What a statement did.
#[derive(Debug)]
pub enum Outcome {
    /// It has rows.
    Rows(Rows),
    /// It is done when the ledger has taken these rows, all or none: whoever asked sees to it.
    Append {
        /// What PostgreSQL calls it then.
        tag: String,
        /// The rows, in order.
        appends: Vec<Append>,
    },
    /// It waits for what the client copies: whoever asked reads it, then calls [`Session::copied`].
    CopyIn(Box<CopyIn>),
    /// It has rows, to be copied to the client.
    CopyOut(Box<CopyOut>),
    /// It is done when the ledger has created this stream: whoever asked sees to it.
    Create(Box<StreamSpec>),
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
        if self.transaction == Transaction::Open {
            self.transaction = Transaction::Failed;
        }
        self.is_implicit = false;
        self.writes.clear();
    }

    /// Begins a query text of several statements: what they append waits for [`Session::end_implicit`].
    pub fn begin_implicit(&mut self) {
        self.is_implicit = true;
    }

    /// Ends a query text of several statements: what is to be appended now, unless a transaction is open.
    pub fn end_implicit(&mut self) -> Vec<Append> {
        self.is_implicit = false;
        match self.transaction {
            Transaction::None => std::mem::take(&mut self.writes),
            Transaction::Open | Transaction::Failed => Vec::new(),
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
            target: None,
            source: None,
            columns: columns.map(Arc::new),
            parameters: Vec::new(),
        };
        match &kind {
            Kind::Query | Kind::Explain => {}
            Kind::Insert => return self.prepare_insert(statement, types).await,
            Kind::Copy(copy) => return self.prepare_copy(statement, copy).await,
            Kind::Show(name) => return Ok(bare(Some(self.show(name)?.1))),
            _ => return Ok(bare(None)),
        }
        let state = self.engine.state(&self.settings)?;
        let statement = statement.clone();
        let types = types.to_vec();
        let work = deep::run(move || prepare(&state, &statement, &types));
        let deadline = after(self.time_max());
        tokio::time::timeout_at(deadline, work).await.map_err(|_| SqlError::timeout())?
    }

    /// Executes a prepared statement with a value for each of its parameters.
    pub async fn execute(
        &mut self,
        prepared: &Prepared,
        values: Vec<ScalarValue>,
    ) -> Result<Outcome, SqlError> {
        self.admit(&prepared.kind)?;
        match (&prepared.kind, &prepared.plan) {
            (Kind::Query | Kind::Explain, Some(plan)) => {
                if !self.writes.is_empty() {
                    let what = "a query after an INSERT in one transaction";
                    return Err(SqlError::unsupported(what).hint("COMMIT first"));
                }
                self.run(prepared, plan, values).await.map(Outcome::Rows)
            }
            (Kind::Insert, Some(plan)) => self.insert(prepared, plan, values).await,
            (Kind::Copy(copy), _) => self.copy(prepared, copy).await,
            (Kind::Show(name), _) => self.show_rows(name).map(Outcome::Rows),
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
        let ends = matches!(kind, Kind::Commit | Kind::Rollback | Kind::RollbackTo);
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
        plan: &LogicalPlan,
        values: Vec<ScalarValue>,
    ) -> Result<Rows, SqlError> {
        let deadline = after(self.time_max());
        let text = Arc::clone(&prepared.text);
        let state = self.engine.state(&self.settings)?;
        let (plan, sql) = (plan.clone(), Arc::clone(&text));
        let work = deep::run(move || begin(&state, plan, values, &sql));
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
        let failed =
            |error: datafusion::common::DataFusionError| SqlError::from_datafusion(&error, "");
        let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)
            .map_err(|error| failed(error.into()))?;
        let stream = datafusion::physical_plan::memory::MemoryStream::try_new(
            vec![batch],
            Arc::clone(&schema),
            None,
        )
        .map_err(failed)?;
        Ok(Rows {
            columns: Arc::new(columns),
            tag: "SHOW",
            text: "".into(),
            schema,
            stream: Box::pin(stream),
            time_max: self.time_max(),
            deadline: after(self.time_max()),
        })
    }

    fn command(&mut self, kind: &Kind) -> Result<Outcome, SqlError> {
        let mut report = None;
        let mut forget = Forget::Nothing;
        let tag = match kind {
            Kind::Begin => {
                if self.transaction == Transaction::Open {
                    self.warn("25001", "there is already a transaction in progress");
                }
                self.transaction = Transaction::Open;
                "BEGIN"
            }
            Kind::Commit => {
                self.warn_if_none();
                let appends = std::mem::take(&mut self.writes);
                match std::mem::replace(&mut self.transaction, Transaction::None) {
                    Transaction::Failed => "ROLLBACK",
                    _ if appends.is_empty() => "COMMIT",
                    _ => return Ok(Outcome::Append { tag: "COMMIT".into(), appends }),
                }
            }
            Kind::Rollback => {
                self.warn_if_none();
                self.writes.clear();
                self.transaction = Transaction::None;
                "ROLLBACK"
            }
            Kind::RollbackTo if !self.writes.is_empty() => {
                let what = "ROLLBACK TO SAVEPOINT after an INSERT";
                return Err(SqlError::unsupported(what).hint("ROLLBACK the whole transaction"));
            }
            Kind::RollbackTo => {
                if self.transaction == Transaction::Failed {
                    self.transaction = Transaction::Open;
                }
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
                forget = Forget::All;
                "DISCARD ALL"
            }
            Kind::Deallocate(name) => {
                forget = name.clone().map_or(Forget::All, Forget::Named);
                if name.is_some() { "DEALLOCATE" } else { "DEALLOCATE ALL" }
            }
            Kind::Nothing(tag) => tag,
            Kind::Upkeep(upkeep) => self.upkeep(upkeep)?,
            Kind::CreateStream(spec) if !self.defers() => {
                return Ok(Outcome::Create(spec.clone()));
            }
            Kind::CreateStream(_) => {
                let message = "CREATE STREAM cannot run inside a transaction block";
                return Err(SqlError::new("25001", code::SQL_UNSUPPORTED, message));
            }
            Kind::Query | Kind::Explain | Kind::Show(_) | Kind::Insert | Kind::Copy(_) => "SELECT",
        };
        Ok(Outcome::Done { tag: tag.into(), report, forget })
    }

    fn warn_if_none(&mut self) {
        if self.transaction == Transaction::None {
            self.warn("25P01", "there is no transaction in progress");
        }
    }

    async fn prepare_insert(
        &self,
        statement: &Statement,
        types: &[u32],
    ) -> Result<Prepared, SqlError> {
        let Statement { parsed, text } = statement;
        let def = self.target(parsed)?;
        let mut parsed = Parsed::clone(parsed);
        if let Some(plan) = &mut parsed.plan {
            insert::fill(plan, &def)?;
        }
        let statement = Statement { parsed: Arc::new(parsed), text: Arc::clone(text) };
        let state = self.engine.state(&self.settings)?;
        let types = types.to_vec();
        let work = deep::run(move || prepare(&state, &statement, &types));
        let deadline = after(self.time_max());
        let prepared = tokio::time::timeout_at(deadline, work).await;
        let prepared = prepared.map_err(|_| SqlError::timeout())??;
        Ok(Prepared { target: Some(def), ..prepared })
    }

    /// The stream that a statement inserts into.
    fn target(&self, parsed: &Parsed) -> Result<Arc<TableDef>, SqlError> {
        let plan = parsed.plan.as_ref().expect("an INSERT was parsed");
        self.table_of(&insert::target(plan)?)
    }

    /// The table of a name.
    fn table(&self, name: &[String]) -> Result<Arc<TableDef>, SqlError> {
        self.table_of(&copy::key(name))
    }

    fn table_of(&self, key: &str) -> Result<Arc<TableDef>, SqlError> {
        self.engine.store.table(key).ok_or_else(|| {
            let name = key.strip_prefix("public.").unwrap_or(key);
            let message = format!("relation \"{name}\" does not exist");
            SqlError::new("42P01", code::SQL_SYNTAX, message)
        })
    }

    /// Finds out which rows a statement appends; inside a transaction they wait for its end.
    async fn insert(
        &mut self,
        prepared: &Prepared,
        plan: &LogicalPlan,
        values: Vec<ScalarValue>,
    ) -> Result<Outcome, SqlError> {
        let def = prepared.target.clone();
        let def = def.expect("an INSERT is prepared with its stream");
        let schema = insert::schema_of(&def)?;
        let mut source = self.run(prepared, plan, values).await?;
        let mut rows = Vec::new();
        let stream = def.key.strip_prefix("public.").unwrap_or(&def.key).to_owned();
        while let Some(batch) = source.next().await {
            insert::rows(&stream, schema, &batch?, &mut rows)?;
        }
        let tag = format!("INSERT 0 {}", rows.len());
        self.hand_over(Append { stream, rows }, tag)
    }

    /// What a statement appends: at once, or with the transaction that is open.
    fn hand_over(&mut self, append: Append, tag: String) -> Result<Outcome, SqlError> {
        if append.rows.is_empty() {
            return Ok(Outcome::Done { tag, report: None, forget: Forget::Nothing });
        }
        if !self.defers() {
            return Ok(Outcome::Append { tag, appends: vec![append] });
        }
        self.check_room(&append)?;
        self.writes.push(append);
        Ok(Outcome::Done { tag, report: None, forget: Forget::Nothing })
    }

    /// What waits for a transaction's end is bounded, as the ledger bounds what it takes at once.
    fn check_room(&self, more: &Append) -> Result<(), SqlError> {
        let all = || self.writes.iter().chain([more]).flat_map(|append| &append.rows);
        let size = all().fold(0_usize, |sum, row| sum.saturating_add(row.len()));
        if all().count() > ACTION_COUNT_MAX || size > TRANSACTION_SIZE_MAX {
            let message = format!(
                "a transaction appends at most {ACTION_COUNT_MAX} rows and {TRANSACTION_SIZE_MAX} bytes"
            );
            return Err(SqlError::new("54000", code::SQL_LIMIT, message).hint("COMMIT more often"));
        }
        Ok(())
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
        // Only the source of an INSERT is run here.
        LogicalPlan::Dml(insert) if parsed.kind == Kind::Insert => {
            LogicalPlan::clone(&insert.input)
        }
        plan => plan,
    };
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&plan)
        .map_err(failed)?;
    let parameters = parameters::of_plan(&plan, types).map_err(failed)?;
    let schema = plan.schema().as_arrow();
    let count = schema.fields().len();
    let names = match (&parsed.kind, &parsed.written) {
        (Kind::Query, Some(written)) => names::output(written, count),
        _ => vec![None; count],
    };
    let columns = match parsed.kind {
        Kind::Insert => None,
        _ => Some(Arc::new(wire::columns(schema, &names)?)),
    };
    let (kind, text) = (parsed.kind.clone(), Arc::clone(text));
    Ok(Prepared { kind, plan: Some(plan), text, target: None, source: None, columns, parameters })
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
        return Ok(plan);
    }
    // What neither the client nor the plan says is text.
    let text_types: Vec<u32> = known
        .iter()
        .map(|parameter| parameter.data_type.as_ref().map_or(Type::TEXT.oid(), |_| 0))
        .collect();
    parameters::type_placeholders(&mut statement, &text_types);
    state.statement_to_plan(PlanStatement::Statement(Box::new(statement))).await
}

/// Begins to run a plan.
fn begin(
    state: &SessionState,
    plan: LogicalPlan,
    values: Vec<ScalarValue>,
    text: &str,
) -> Result<SendableRecordBatchStream, SqlError> {
    let failed = |error| SqlError::from_datafusion(&error, text);
    let plan = if values.is_empty() {
        plan
    } else {
        let values = values.into_iter().map(|value| ScalarAndMetadata::new(value, None)).collect();
        plan.replace_params_with_values(&ParamValues::List(values)).map_err(failed)?
    };
    let physical = block_on(state.create_physical_plan(&plan)).map_err(failed)?;
    execute_stream(physical, state.task_ctx()).map_err(failed)
}
