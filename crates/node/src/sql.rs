//! SQL in the process: the columns that the executor feeds, the engine over them, and `POST /v1/sql`.
//!
//! Queries run on a runtime of their own, so that a heavy one delays other queries and never the ledger.

use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use quipu_log::LedgerReader;
use quipu_query::{
    AccountRow, BegunStream, ColumnStore, Engine, EpochRow, EvidenceRow, IngestBlock, MetricRow,
    Outcome, SqlError, StoreError, SystemSource, TableSource, ValidatorRow,
};
use quipu_state::{Machine, StateError, Stream};
use quipu_types::{AccountId, Hash, Height, ValidatorIndex, code};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::config::Limits;
use crate::driver::log_failed;
use crate::error::NodeError;
use crate::executor::state_failed;
use crate::http::error::ApiError;
use crate::http::shape::{ErrorBody, SqlAnswer, SqlColumn, SqlRequest};
use crate::shared::{MachineRead, Shared};
use crate::stake;
use crate::store::LmdbStore;

/// Most rows of an answer as JSON.
const ROW_COUNT_MAX: usize = 50_000;
/// Threads that run queries.
const THREAD_COUNT: usize = 2;
/// Streams that are read at a time.
const STREAM_COUNT: usize = 256;
/// Accounts that one query reads.
const ACCOUNT_COUNT_MAX: usize = 1 << 20;

/// The columns and the engine over them.
#[derive(Debug)]
pub(crate) struct Sql {
    columns: ColumnStore,
    limits: quipu_query::Limits,
    engine: OnceLock<Arc<Engine>>,
    runtime: Option<Runtime>,
}

impl Drop for Sql {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Sql {
    /// Opens the columns. Damaged ones are made anew from the log: they are derived. Of what was pruned they know nothing then.
    pub(crate) fn open(
        folder: &Path,
        limits: &Limits,
        reader: &LedgerReader,
        machine: &Machine<LmdbStore>,
    ) -> Result<Self, NodeError> {
        let columns = match ColumnStore::open(folder) {
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::warn!(%error, "the columns are damaged and are made anew from the log");
                ColumnStore::wipe(folder).and_then(|()| ColumnStore::open(folder))
            }
            other => other,
        };
        let mut columns = columns.map_err(columns_failed)?;
        let first = reader.first_whole_height().map_err(log_failed)?;
        if columns.height().next() < first {
            let after = Height::new(first.get().saturating_sub(1));
            tracing::warn!(%after, "the log begins after that height: of rows before it the columns know nothing");
            drop(columns);
            columns = begin(folder, machine, after)?;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREAD_COUNT)
            .thread_name("quipu-query")
            .enable_all()
            .build()
            .map_err(|error| NodeError::system("starting the query threads", error))?;
        let limits = quipu_query::Limits {
            memory_size_max: limits.query_memory_size_max,
            statement_time_max: Duration::from_secs(limits.query_seconds_max),
            partition_count: THREAD_COUNT,
        };
        Ok(Self { columns, limits, engine: OnceLock::new(), runtime: Some(runtime) })
    }

    /// Makes the engine, whose system tables show what `shared` knows.
    pub(crate) fn attach(&self, shared: &Arc<Shared>) -> Result<(), NodeError> {
        let source = Arc::new(Source { shared: Arc::downgrade(shared) });
        let tables = Arc::new(Tables { shared: Arc::downgrade(shared) });
        let engine = Engine::new(self.columns.clone(), source, tables, self.limits)
            .map_err(|error| NodeError::system("starting the query engine", error))?;
        // A second call changes nothing.
        drop(self.engine.set(engine));
        Ok(())
    }

    fn engine(&self) -> &Arc<Engine> {
        self.engine.get().expect("the node attaches the engine before anything is served")
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("the runtime is taken only when this is dropped")
    }

    /// Newest height that readers see.
    pub(crate) fn height(&self) -> Height {
        self.columns.height()
    }

    /// The height up to which everything is on disk.
    pub(crate) fn watermark(&self) -> Height {
        self.columns.watermark()
    }

    /// Shows an executed height to readers.
    pub(crate) fn ingest(&self, block: &IngestBlock<'_>) -> Result<(), NodeError> {
        self.columns.ingest(block).map_err(columns_failed)
    }

    /// Writes everything that is only in memory.
    pub(crate) fn flush(&self) -> Result<(), NodeError> {
        self.columns.flush().map_err(columns_failed)
    }

    /// Serves the PostgreSQL wire until the process stops.
    pub(crate) fn serve(
        &self,
        shared: &Arc<Shared>,
        listener: std::net::TcpListener,
    ) -> tokio::task::JoinHandle<()> {
        let engine = Arc::clone(self.engine());
        let shared = Arc::clone(shared);
        self.runtime().spawn(async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => crate::pg::serve(listener, engine, shared).await,
                Err(error) => tracing::error!(%error, "the PostgreSQL listener ended"),
            }
        })
    }

    /// Answers one statement.
    async fn answer(&self, text: String) -> Result<SqlAnswer, ApiError> {
        let engine = Arc::clone(self.engine());
        let work = self.runtime().spawn(async move { answer(&engine, &text).await });
        match work.await {
            Ok(result) => result.map_err(sql_failed),
            Err(error) if error.is_panic() => {
                tracing::error!("a query panicked");
                Err(ApiError::new(code::SQL_UNSUPPORTED, "the query failed inside the engine")
                    .with_status(StatusCode::INTERNAL_SERVER_ERROR)
                    .with_sqlstate("XX000"))
            }
            Err(_) => Err(ApiError::stopping()),
        }
    }
}

/// Columns that are fed from the height after `after` on.
fn begin(
    folder: &Path,
    machine: &Machine<LmdbStore>,
    after: Height,
) -> Result<ColumnStore, NodeError> {
    ColumnStore::wipe(folder).map_err(columns_failed)?;
    let mut streams = Vec::new();
    loop {
        let from =
            streams.last().map_or(String::new(), |last: &Stream| format!("{}\0", last.spec.name));
        let page = machine.streams(&from, STREAM_COUNT).map_err(state_failed)?;
        let is_last = page.len() < STREAM_COUNT;
        streams.extend(page);
        if is_last {
            break;
        }
    }
    let begun = streams.iter().filter(|stream| stream.height <= after).map(|stream| BegunStream {
        spec: &stream.spec,
        creator: stream.creator,
        position: stream.position,
        height: stream.height,
    });
    ColumnStore::begin(folder, after, &begun.collect::<Vec<_>>()).map_err(columns_failed)
}

async fn answer(engine: &Arc<Engine>, text: &str) -> Result<SqlAnswer, SqlError> {
    let mut session = engine.session("http", None);
    match session.query(text).await? {
        Outcome::Rows(mut rows) => {
            let columns = rows
                .columns()
                .iter()
                .map(|column| SqlColumn {
                    name: column.name.clone(),
                    kind: column.pg_type.name().to_owned(),
                })
                .collect();
            Ok(SqlAnswer { columns, rows: rows.texts(ROW_COUNT_MAX).await? })
        }
        Outcome::CopyIn(_) | Outcome::CopyOut(_) => {
            let what = "COPY over POST /v1/sql";
            Err(SqlError::new("0A000", code::SQL_UNSUPPORTED, format!("{what} is not supported"))
                .hint("COPY through the PostgreSQL port"))
        }
        Outcome::Write(_) => {
            let what = "POST /v1/sql reads only";
            Err(SqlError::new("25006", code::SQL_READ_ONLY, what)
                .hint("write through the PostgreSQL port, or send signed transactions"))
        }
        Outcome::Done { .. } => Ok(SqlAnswer { columns: Vec::new(), rows: Vec::new() }),
    }
}

fn sql_failed(error: SqlError) -> ApiError {
    let position = error.position.map_or(String::new(), |place| format!(" (character {place})"));
    let hint = error.hint.as_ref().map_or(String::new(), |hint| format!("; {hint}"));
    ApiError::new(error.code, format!("{}{position}{hint}", error.message))
        .with_sqlstate(error.sqlstate)
}

fn columns_failed(error: StoreError) -> NodeError {
    let what = "the columns";
    match &error {
        StoreError::Io { source, .. } => {
            let reason = error.to_string();
            match source.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    NodeError::Full { what, reason }
                }
                _ => NodeError::Disk { what, reason },
            }
        }
        _ => NodeError::Damaged { what, reason: error.to_string() },
    }
}

/// Run one SQL statement.
///
/// Values come as PostgreSQL writes them in text. Writes are refused: events are appended by signed transactions.
#[utoipa::path(
    post, path = "/v1/sql", tag = "queries", request_body = SqlRequest,
    responses((status = 200, body = SqlAnswer), (status = 400, body = ErrorBody))
)]
pub(crate) async fn query(
    State(shared): State<Arc<Shared>>,
    Json(request): Json<SqlRequest>,
) -> Result<Json<SqlAnswer>, ApiError> {
    if shared.stopping() {
        return Err(ApiError::stopping());
    }
    shared.sql.answer(request.query).await.map(Json)
}

/// What the system tables show of the process.
#[derive(Debug)]
struct Source {
    shared: Weak<Shared>,
}

/// Tables, read from the executed state.
#[derive(Debug)]
struct Tables {
    shared: Weak<Shared>,
}

impl Tables {
    fn read<T>(
        &self,
        read: impl FnOnce(&MachineRead<'_>) -> Result<T, quipu_state::StoreError>,
    ) -> Result<T, quipu_state::StoreError> {
        let closed = || quipu_state::StoreError::Io(std::io::Error::other("the state is closed"));
        let shared = self.shared.upgrade().ok_or_else(closed)?;
        let machine = shared.machine().map_err(|_| closed())?;
        read(&machine)
    }
}

impl TableSource for Tables {
    fn get(&self, key: &[u8], height: Height) -> Result<Option<Vec<u8>>, quipu_state::StoreError> {
        self.read(|machine| machine.row_at(key, height))
    }

    fn range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
        height: Height,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, quipu_state::StoreError> {
        self.read(|machine| machine.rows_at(from, to, limit, height))
    }

    fn versions(
        &self,
        from: &quipu_state::VersionPlace,
        to: Option<&[u8]>,
        limit: usize,
        height: Height,
    ) -> Result<Option<quipu_state::Versions>, quipu_state::StoreError> {
        self.read(|machine| machine.versions_at(from, to, limit, height).map(Some))
    }
}

impl Source {
    /// What the state says; nothing where it can not be read.
    fn rows<T>(
        &self,
        what: &'static str,
        read: impl FnOnce(&MachineRead<'_>) -> Result<Vec<T>, StateError>,
    ) -> Vec<T> {
        let Some(shared) = self.shared.upgrade() else { return Vec::new() };
        let Ok(machine) = shared.machine() else { return Vec::new() };
        read(&machine).unwrap_or_else(|error| {
            tracing::error!(%error, what, "the state can not be read");
            Vec::new()
        })
    }
}

impl SystemSource for Source {
    fn accounts(&self) -> Vec<AccountRow> {
        self.rows("the accounts", |machine| {
            let accounts = machine.accounts(&AccountId::default(), ACCOUNT_COUNT_MAX)?.into_iter();
            Ok(accounts.map(|(account, balance)| AccountRow { account, balance }).collect())
        })
    }

    fn validators(&self) -> Vec<ValidatorRow> {
        let Some(shared) = self.shared.upgrade() else { return Vec::new() };
        let mut rows = self.rows("the validators", |machine| stake::validators(machine));
        for row in &mut rows {
            row.state_vote_p99_us = shared.state_votes.p99_us(ValidatorIndex::new(row.index));
        }
        rows
    }

    fn evidence(&self) -> Vec<EvidenceRow> {
        self.rows("the evidence", |machine| stake::evidence(machine))
    }

    fn epochs(&self) -> Vec<EpochRow> {
        self.rows("the epochs", |machine| stake::epochs(machine))
    }

    fn metrics(&self) -> Vec<MetricRow> {
        let Some(shared) = self.shared.upgrade() else { return Vec::new() };
        shared.refresh_gauges();
        let samples = shared.metrics.samples().into_iter();
        samples
            .map(|(sample, value)| {
                let (name, labels) = sample.split_once('{').unwrap_or((&sample, ""));
                let labels = labels.trim_end_matches('}').replace('"', "");
                MetricRow { name: name.to_owned(), labels, value }
            })
            .collect()
    }

    fn happens_before(&self, first: Hash, second: Hash) -> Result<bool, SqlError> {
        let stopping = || quipu_query::refused(code::STOPPING);
        let shared = self.shared.upgrade().ok_or_else(stopping)?;
        crate::http::proof::is_before(&shared, &first, &second)
    }
}
