//! One client's conversation.
//!
//! An error in a simple query ends that query; one in an extended query makes everything up to the next Sync be
//! passed over. Answers are gathered and sent when the client waits for them, or when they are many.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use quipu_query::wire::Encoder;
use quipu_query::{Engine, Forget, Outcome, Prepared, Rows, Session, SqlError, Write, parameters};
use quipu_types::code;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::cancel::{Registry, Ticket};
use super::message::{self, Answers, Formats, Request, Target};
use super::portal::{Holdings, Portal, Progress};
use super::start::{self, Socket, find, read_body, send};
use super::{Access, STALL_SECONDS_MAX, STARTUP_SECONDS_MAX};
use crate::gateway::Unwritten;
use crate::shared::Shared;

/// Answers are sent when they are more bytes than this.
pub(crate) const ANSWERS_SIZE_MAX: usize = 64 * 1024;

/// What a connection needs.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) engine: Arc<Engine>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) stopping: watch::Receiver<bool>,
    /// Counts connections whose bytes are of no protocol.
    pub(crate) garbage: Counter,
    /// Who sees to what is written; none where nothing can be.
    pub(crate) ledger: Option<Arc<Shared>>,
    /// Who may connect, and how.
    pub(crate) access: Arc<Access>,
    /// The client is on this machine.
    pub(crate) is_local: bool,
    /// There are too many connections: this one is told so.
    pub(crate) is_refused: bool,
}

/// Why a connection can not go on.
pub(crate) enum Broken {
    Closed,
    Garbage,
    /// The client is told this, then closed.
    Fatal(SqlError),
}

impl From<std::io::Error> for Broken {
    fn from(_: std::io::Error) -> Self {
        Self::Closed
    }
}

/// Serves one connection to its end.
pub(crate) async fn run(stream: TcpStream, context: Context) {
    let mut socket = start::socket(stream);
    let limit = Duration::from_secs(STARTUP_SECONDS_MAX);
    let startup = tokio::time::timeout(limit, start::start(&mut socket, &context)).await;
    let parameters = match startup {
        Ok(Ok(Some(parameters))) => parameters,
        Ok(Ok(None)) | Err(_) => return,
        Ok(Err(broken)) => return finish(&mut socket, broken, &context.garbage).await,
    };
    let user = find(&parameters, "user").unwrap_or_default().to_owned();
    let mut session = session(&context, &user);
    for (name, value) in &parameters {
        if !matches!(name.as_str(), "user" | "database" | "options" | "replication") {
            session.offer(name, value);
        }
    }
    for (name, value) in start::options(find(&parameters, "options").unwrap_or_default()) {
        session.offer(&name, &value);
    }
    let ticket = context.registry.enter();
    let number = ticket.number;
    let mut connection = Connection {
        socket,
        session,
        ticket,
        stopping: context.stopping.clone(),
        answers: Answers::default(),
        holdings: Holdings::default(),
        ledger: context.ledger.clone(),
        user,
        reports: BTreeMap::new(),
        told: BTreeMap::new(),
        is_ready: false,
    };
    let ended = connection.converse().await;
    context.registry.leave(number);
    if let Err(broken) = ended {
        finish(&mut connection.socket, broken, &context.garbage).await;
    }
}

/// A session of a user, who writes with the key that is held for that role.
fn session(context: &Context, user: &str) -> Session {
    let Some(ledger) = &context.ledger else { return context.engine.session(user, None) };
    let mut session = context.engine.session(user, ledger.gateway.signer(ledger, user));
    session.set_roles(Arc::new(ledger.gateway.accounts()));
    session
}

/// Tells the client why it is closed, if it can be told; counts it before it sees the end.
async fn finish(socket: &mut Socket, broken: Broken, garbage: &Counter) {
    match broken {
        Broken::Closed => {}
        Broken::Garbage => garbage.increment(1),
        Broken::Fatal(error) => {
            let mut answers = Answers::default();
            answers.error("FATAL", &error);
            // A client that is gone is not told.
            let _told = send(socket, &mut answers).await;
        }
    }
}

/// Why a request is not served.
pub(crate) enum Failed {
    /// The client is told this, and goes on.
    Sql(SqlError),
    /// The connection is at its end.
    Broken(Broken),
}

impl From<SqlError> for Failed {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<Broken> for Failed {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// What serving a request comes to.
pub(crate) type Served<T = ()> = Result<T, Failed>;

/// What a statement came to, but for its rows.
enum Settled {
    Done(Done),
    Rows(Rows),
}

/// What the client is told of a statement that is done.
struct Done {
    tag: String,
    report: Option<(String, String)>,
    forget: Forget,
}

impl Done {
    fn new(tag: impl Into<String>) -> Self {
        Self { tag: tag.into(), report: None, forget: Forget::Nothing }
    }
}

pub(crate) struct Connection {
    pub(crate) socket: Socket,
    pub(crate) session: Session,
    pub(crate) ticket: Ticket,
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) answers: Answers,
    holdings: Holdings,
    ledger: Option<Arc<Shared>>,
    user: String,
    /// Parameters that were set since the client was told that it may ask, and what it knows of all.
    reports: BTreeMap<String, String>,
    told: BTreeMap<String, String>,
    /// The client was told that it may ask, and has not yet.
    is_ready: bool,
}

impl Connection {
    async fn converse(&mut self) -> Result<(), Broken> {
        self.welcome();
        let mut passes_over = false;
        loop {
            self.send_if_idle().await?;
            let request = match self.request().await? {
                Request::Terminate => return Ok(()),
                request => request,
            };
            let ends = request == Request::Sync;
            if ends {
                passes_over = false;
            }
            if passes_over {
                continue;
            }
            let is_simple = matches!(request, Request::Query(_));
            match self.serve(request).await {
                Ok(()) => {}
                Err(Failed::Broken(broken)) => return Err(broken),
                Err(Failed::Sql(error)) => {
                    self.session.fail();
                    self.notices();
                    self.answers.error("ERROR", &error);
                    passes_over = !is_simple && !ends;
                }
            }
            if is_simple || ends {
                self.ready();
            }
        }
    }

    fn welcome(&mut self) {
        self.answers.message(b'R', |out| out.extend_from_slice(&[0; 4]));
        self.reports.extend(self.session.reported());
        self.report();
        let Ticket { number, secret, .. } = self.ticket;
        self.answers.message(b'K', |out| {
            out.extend_from_slice(&number.to_be_bytes());
            out.extend_from_slice(&secret.to_be_bytes());
        });
        self.ready();
    }

    /// The client may ask again.
    fn ready(&mut self) {
        if self.session.status() == b'I' {
            self.holdings.close_portals();
        }
        self.report();
        self.answers.ready(self.session.status());
        self.is_ready = true;
    }

    /// Tells the parameters that have another value than the client knows.
    fn report(&mut self) {
        for (name, value) in std::mem::take(&mut self.reports) {
            if self.told.get(&name) != Some(&value) {
                self.answers.parameter(&name, &value);
                self.told.insert(name, value);
            }
        }
    }

    /// Sends what is gathered, unless the next request is here already: answers of a pipeline go together.
    async fn send_if_idle(&mut self) -> Result<(), Broken> {
        let is_waiting = !self.socket.buffer().is_empty();
        if is_waiting && self.answers.bytes.len() < ANSWERS_SIZE_MAX {
            return Ok(());
        }
        send(&mut self.socket, &mut self.answers).await
    }

    async fn request(&mut self) -> Result<Request, Broken> {
        let idle = self.session.idle_time_max().filter(|_| self.is_ready);
        let silent = async {
            match idle {
                Some((time, error)) => {
                    tokio::time::sleep(time).await;
                    error
                }
                None => std::future::pending().await,
            }
        };
        let kind = tokio::select! {
            biased;
            _ = self.stopping.wait_for(|stopping| *stopping) => return Err(Broken::Fatal(stopping())),
            kind = self.socket.read_u8() => kind?,
            error = silent => return Err(Broken::Fatal(error)),
        };
        self.is_ready = false;
        self.request_of(kind).await
    }

    /// The request that begins with this byte.
    pub(crate) async fn request_of(&mut self, kind: u8) -> Result<Request, Broken> {
        let mut prefix = [0; 4];
        let limit = Duration::from_secs(STALL_SECONDS_MAX);
        tokio::time::timeout(limit, self.socket.read_exact(&mut prefix))
            .await
            .map_err(|_| Broken::Closed)??;
        let size =
            message::request_size(kind, prefix).ok_or_else(|| violation("invalid message"))?;
        let body = read_body(&mut self.socket, size).await?;
        message::request(kind, body).ok_or_else(|| violation("invalid message format"))
    }

    async fn serve(&mut self, request: Request) -> Served {
        match request {
            Request::Query(text) => self.simple(&text).await?,
            Request::Parse { name, text, types } => {
                let statement = self.prepare(&text, &types).await?;
                self.holdings.prepare(&name, statement)?;
                self.answers.bare(b'1');
            }
            Request::Bind(bind) => {
                self.holdings.bind(bind)?;
                self.answers.bare(b'2');
            }
            Request::Describe(target, name) => self.describe(target, &name)?,
            Request::Execute { portal, row_count_max } => {
                self.execute(&portal, row_count_max).await?;
            }
            Request::Close(target, name) => {
                match target {
                    Target::Statement => self.holdings.close_statement(&name),
                    Target::Portal => self.holdings.close_portal(&name),
                }
                self.answers.bare(b'3');
            }
            Request::Flush => send(&mut self.socket, &mut self.answers).await?,
            // What a client sends of a COPY that has failed is passed over, as the protocol says.
            Request::CopyData(_) | Request::CopyDone | Request::CopyFail(_) => {}
            Request::Sync => self.end_implicit().await?,
            Request::Terminate => {}
        }
        Ok(())
    }

    async fn prepare(
        &mut self,
        text: &str,
        types: &[u32],
    ) -> Result<Option<Arc<Prepared>>, SqlError> {
        let mut statements = self.session.parse(text).await?;
        let Some(statement) = statements.pop() else { return Ok(None) };
        if !statements.is_empty() {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(SqlError::new("42601", code::SQL_SYNTAX, message));
        }
        self.session.prepare(&statement, types).await.map(Arc::new).map(Some)
    }

    fn describe(&mut self, target: Target, name: &str) -> Result<(), SqlError> {
        let (statement, formats) = match target {
            Target::Statement => (self.holdings.statement(name)?.clone(), Formats::default()),
            Target::Portal => {
                let portal = self.holdings.portal(name)?;
                (portal.statement.clone(), portal.result_formats.clone())
            }
        };
        if target == Target::Statement {
            let oids: Vec<u32> = statement
                .iter()
                .flat_map(|prepared| &prepared.parameters)
                .map(|parameter| parameter.oid)
                .collect();
            self.answers.parameters(&oids);
        }
        let columns = statement.as_ref().and_then(|prepared| prepared.columns.as_ref());
        self.answers.description(columns.map(|columns| columns.as_slice()), &formats);
        Ok(())
    }

    /// A simple query: statements one after the other, up to the first that fails. Several are one transaction.
    async fn simple(&mut self, text: &str) -> Served {
        let statements = self.session.parse(text).await?;
        let count = statements.len();
        if count == 0 {
            self.answers.bare(b'I');
        }
        if count > 1 {
            self.session.begin_implicit();
        }
        for (index, statement) in statements.into_iter().enumerate() {
            let prepared = self.session.prepare(&statement, &[]).await?;
            if !prepared.parameters.is_empty() {
                let message = "there is no parameter $1";
                return Err(SqlError::new("42P02", code::SQL_SYNTAX, message).into());
            }
            let done = match self.run(&prepared, Vec::new()).await? {
                Settled::Done(done) => done,
                Settled::Rows(rows) => {
                    let formats = Formats::default();
                    self.answers.description(Some(rows.columns().as_slice()), &formats);
                    let mut progress = Progress::Running(Box::new(rows), None);
                    let tag = self.rows(&mut progress, &formats, usize::MAX).await?;
                    Done::new(tag.unwrap_or_default())
                }
            };
            if index.saturating_add(1) == count {
                // Only now is the last statement done: all of them are.
                self.end_implicit().await?;
            }
            self.done(done);
        }
        Ok(())
    }

    /// Writes what the statements of a query text, or of a pipeline, left to its end.
    async fn end_implicit(&mut self) -> Served {
        if let Some(write) = self.session.end_implicit()? {
            self.write(write).await?;
        }
        Ok(())
    }

    /// Runs a statement up to its rows, unless it is cancelled first.
    async fn run(
        &mut self,
        prepared: &Prepared,
        values: Vec<parameters::Scalar>,
    ) -> Served<Settled> {
        self.ticket.canceled.mark_unchanged();
        let begun = tokio::select! {
            outcome = self.session.execute(prepared, values) => outcome?,
            Ok(()) = self.ticket.canceled.changed() => return Err(SqlError::canceled().into()),
        };
        let outcome = match begun {
            Outcome::CopyIn(copy) => self.copy_in(*copy).await?,
            outcome => outcome,
        };
        Ok(Settled::Done(match outcome {
            Outcome::Rows(rows) => return Ok(Settled::Rows(rows)),
            Outcome::Done { tag, report, forget } => Done { tag, report, forget },
            Outcome::Write(write) => match self.write(*write).await? {
                Outcome::Rows(rows) => return Ok(Settled::Rows(rows)),
                Outcome::Done { tag, report, forget } => Done { tag, report, forget },
                _ => return Err(violation("a write inside a write").into()),
            },
            Outcome::CopyOut(copy) => Done::new(self.copy_out(*copy).await?),
            Outcome::CopyIn(_) => return Err(violation("a COPY inside a COPY").into()),
        }))
    }

    /// Hands a write to the ledger, and waits until it is applied or refused. What is on its way can not be cancelled.
    pub(crate) async fn write(&mut self, write: Write) -> Result<Outcome, SqlError> {
        let Some(ledger) = &self.ledger else {
            return Err(SqlError::new("0A000", code::SQL_READ_ONLY, "nothing can be written here"));
        };
        match ledger.gateway.write(ledger, &self.user, &write).await {
            Ok(written) => self.session.written(write, written).await,
            Err(Unwritten::Refused { code, action, detail }) => {
                if let Some(numbers) = self.session.numbers_lost(&write) {
                    // Nobody depends on it: the next one that fails takes them.
                    drop(ledger.gateway.write(ledger, &self.user, &numbers).await);
                }
                Err(self.session.refused(&write, code, action, detail))
            }
            Err(Unwritten::Failed(error)) => Err(error),
        }
    }

    fn notices(&mut self) {
        for notice in self.session.take_notices() {
            self.answers.notice(&notice);
        }
    }

    fn done(&mut self, done: Done) {
        let Done { tag, report, forget } = done;
        match forget {
            Forget::Nothing => {}
            Forget::Named(name) => self.holdings.close_statement(&name),
            Forget::All => self.holdings.close_statements(),
        }
        self.notices();
        self.reports.extend(report);
        self.answers.complete(&tag);
    }

    async fn execute(&mut self, name: &str, row_count_max: usize) -> Served {
        let portal = self.holdings.portal(name)?;
        let Some(prepared) = portal.statement.clone() else {
            self.answers.bare(b'I');
            return Ok(());
        };
        let formats = portal.result_formats.clone();
        let mut progress = std::mem::replace(&mut portal.progress, Progress::Done);
        match &mut progress {
            Progress::New => {
                let values = decode_values(portal, &prepared)?;
                // The statements of a pipeline are one transaction; one that `Sync` follows at once is a pipeline by itself.
                if prepared.changes() && self.socket.buffer().first() != Some(&b'S') {
                    self.session.begin_implicit();
                }
                match self.run(&prepared, values).await? {
                    Settled::Rows(rows) => progress = Progress::Running(Box::new(rows), None),
                    Settled::Done(done) => {
                        self.done(done);
                        return Ok(());
                    }
                }
            }
            Progress::Running(rows, _) => rows.renew(),
            Progress::Done if prepared.columns.is_some() => {
                self.answers.complete("SELECT 0");
                return Ok(());
            }
            Progress::Done => {
                let message = format!("portal \"{name}\" cannot be run");
                return Err(SqlError::new("55000", code::SQL_SYNTAX, message).into());
            }
        }
        let tag = self.rows(&mut progress, &formats, row_count_max).await?;
        if let Ok(portal) = self.holdings.portal(name) {
            portal.progress = progress;
        }
        if let Some(tag) = tag {
            self.done(Done::new(tag));
        }
        Ok(())
    }

    /// Sends rows, up to `row_count_max`: the tag that ends them, or none when there may be more.
    async fn rows(
        &mut self,
        progress: &mut Progress,
        formats: &Formats,
        row_count_max: usize,
    ) -> Served<Option<String>> {
        let Progress::Running(rows, rest) = progress else { return Ok(None) };
        let mut sent: usize = 0;
        loop {
            let (mut encoder, mut row) = match rest.take() {
                Some(rest) => rest,
                None => match self.batch(rows).await? {
                    Some(encoder) => (encoder, 0),
                    None => break,
                },
            };
            while row < encoder.row_count() {
                let is_binary = |index| formats.is_binary(index);
                self.answers.try_message(b'D', |out| encoder.row(row, is_binary, out))?;
                row = row.saturating_add(1);
                sent = sent.saturating_add(1);
                if sent == row_count_max {
                    // Whether there are more is told when they are asked for.
                    *rest = Some((encoder, row));
                    self.answers.bare(b's');
                    return Ok(None);
                }
                self.send_if_many().await?;
            }
        }
        let tag = match rows.tag() {
            tag @ ("SHOW" | "EXPLAIN") => tag.to_owned(),
            tag => format!("{tag} {sent}"),
        };
        *progress = Progress::Done;
        Ok(Some(tag))
    }

    /// Sends what is gathered when it is much.
    pub(crate) async fn send_if_many(&mut self) -> Result<(), Broken> {
        if self.answers.bytes.len() < ANSWERS_SIZE_MAX {
            return Ok(());
        }
        send(&mut self.socket, &mut self.answers).await
    }

    /// The next rows, ready to be written; an error when the client or the process wants no more.
    pub(crate) async fn batch(&mut self, rows: &mut Rows) -> Served<Option<Encoder>> {
        let batch = tokio::select! {
            biased;
            _ = self.stopping.wait_for(|stopping| *stopping) => return Err(Broken::Fatal(stopping()).into()),
            Ok(()) = self.ticket.canceled.changed() => return Err(SqlError::canceled().into()),
            batch = rows.next() => batch,
        };
        let Some(batch) = batch else { return Ok(None) };
        Ok(Some(Encoder::new(&batch?, rows.columns())?))
    }
}

fn decode_values(
    portal: &Portal,
    prepared: &Prepared,
) -> Result<Vec<parameters::Scalar>, SqlError> {
    prepared
        .parameters
        .iter()
        .zip(&portal.values)
        .enumerate()
        .map(|(index, (parameter, value))| {
            parameters::decode(parameter, portal.formats.is_binary(index), value.as_deref())
        })
        .collect()
}

pub(crate) fn stopping() -> SqlError {
    let message = "terminating connection due to administrator command";
    SqlError::new("57P01", code::STOPPING, message)
}

pub(crate) fn violation(message: &str) -> Broken {
    Broken::Fatal(SqlError::new("08P01", code::BAD_REQUEST, message))
}
