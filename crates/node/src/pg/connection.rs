//! One client's conversation.
//!
//! An error in a simple query ends that query; one in an extended query makes everything up to the next Sync be
//! passed over. Answers are gathered and sent when the client waits for them, or when they are many.

use std::sync::Arc;
use std::time::Duration;

use metrics::Counter;
use quipu_query::wire::Encoder;
use quipu_query::{Append, Engine, Forget, Outcome, Prepared, Rows, Session, SqlError, parameters};
use quipu_types::code;
use quipu_types::transaction::StreamSpec;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::cancel::{Registry, Ticket};
use super::message::{self, Answers, Formats, Request, Startup, Target};
use super::portal::{Holdings, Portal, Progress};
use super::{STALL_SECONDS_MAX, STARTUP_SECONDS_MAX};
use crate::shared::Shared;

/// Answers are sent when they are more bytes than this.
const ANSWERS_SIZE_MAX: usize = 64 * 1024;
/// Requests for encryption and the like before a start.
const PREAMBLE_COUNT_MAX: usize = 4;

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
    /// There are too many connections: this one is told so.
    pub(crate) is_refused: bool,
}

/// Why a connection can not go on.
enum Broken {
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
pub(crate) async fn run(mut stream: TcpStream, context: Context) {
    let limit = Duration::from_secs(STARTUP_SECONDS_MAX);
    let startup = tokio::time::timeout(limit, start(&mut stream, &context)).await;
    let parameters = match startup {
        Ok(Ok(Some(parameters))) => parameters,
        Ok(Ok(None)) | Err(_) => return,
        Ok(Err(broken)) => return finish(&mut stream, broken, &context.garbage).await,
    };
    let user = find(&parameters, "user").unwrap_or_default().to_owned();
    let mut session = context.engine.session(&user);
    for (name, value) in &parameters {
        if !matches!(name.as_str(), "user" | "database" | "options" | "replication") {
            session.offer(name, value);
        }
    }
    let ticket = context.registry.enter();
    let number = ticket.number;
    let mut connection = Connection {
        stream,
        session,
        ticket,
        stopping: context.stopping.clone(),
        answers: Answers::default(),
        holdings: Holdings::default(),
        ledger: context.ledger.clone(),
        user,
    };
    let ended = connection.converse().await;
    context.registry.leave(number);
    if let Err(broken) = ended {
        finish(&mut connection.stream, broken, &context.garbage).await;
    }
}

fn find<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parameters.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

/// Tells the client why it is closed, if it can be told; counts it before it sees the end.
async fn finish(stream: &mut TcpStream, broken: Broken, garbage: &Counter) {
    match broken {
        Broken::Closed => {}
        Broken::Garbage => garbage.increment(1),
        Broken::Fatal(error) => {
            let mut answers = Answers::default();
            answers.error("FATAL", &error);
            // A client that is gone is not told.
            let _told = send(stream, &mut answers).await;
        }
    }
}

async fn send(stream: &mut TcpStream, answers: &mut Answers) -> Result<(), Broken> {
    if answers.bytes.is_empty() {
        return Ok(());
    }
    let limit = Duration::from_secs(STALL_SECONDS_MAX);
    let sent = tokio::time::timeout(limit, stream.write_all(&answers.bytes)).await;
    answers.bytes.clear();
    answers.bytes.shrink_to(ANSWERS_SIZE_MAX.saturating_mul(2));
    sent.map_err(|_| Broken::Closed)?.map_err(Broken::from)
}

/// Reads exactly `size` bytes; nothing is reserved for bytes that have not come (P3).
async fn read_body(stream: &mut TcpStream, size: usize) -> Result<Vec<u8>, Broken> {
    let mut body = Vec::new();
    let most = u64::try_from(size).map_err(|_| Broken::Garbage)?;
    let limit = Duration::from_secs(STALL_SECONDS_MAX);
    let mut part = (&mut *stream).take(most);
    let read = tokio::time::timeout(limit, part.read_to_end(&mut body)).await;
    let count = read.map_err(|_| Broken::Closed)??;
    if count == size { Ok(body) } else { Err(Broken::Closed) }
}

/// Everything before the conversation: the start's parameters, or none when there is to be no conversation.
async fn start(
    stream: &mut TcpStream,
    context: &Context,
) -> Result<Option<Vec<(String, String)>>, Broken> {
    for _ in 0..PREAMBLE_COUNT_MAX {
        let mut prefix = [0; 4];
        stream.read_exact(&mut prefix).await?;
        let size = message::startup_size(prefix).ok_or(Broken::Garbage)?;
        let body = read_body(stream, size).await?;
        match message::startup(&body).ok_or(Broken::Garbage)? {
            Startup::Encryption => stream.write_all(b"N").await?,
            Startup::Cancel { number, secret } => {
                context.registry.cancel(number, secret);
                return Ok(None);
            }
            Startup::Version { major } => {
                let message = format!("unsupported frontend protocol {major}: server supports 3.0");
                return Err(Broken::Fatal(SqlError::new("0A000", code::SQL_UNSUPPORTED, message)));
            }
            Startup::Start { minor, parameters } => {
                if context.is_refused {
                    let message = "sorry, too many clients already";
                    return Err(Broken::Fatal(SqlError::new("53300", code::SQL_LIMIT, message)));
                }
                check_start(&parameters)?;
                if minor > 0 {
                    negotiate(stream, &parameters).await?;
                }
                return Ok(Some(parameters));
            }
        }
    }
    Err(Broken::Garbage)
}

fn check_start(parameters: &[(String, String)]) -> Result<(), Broken> {
    let fatal = |state, message: &str| {
        Err(Broken::Fatal(SqlError::new(state, code::SQL_UNSUPPORTED, message)))
    };
    if find(parameters, "user").is_none() {
        return fatal("28000", "no PostgreSQL user name specified in startup packet");
    }
    match find(parameters, "replication") {
        None | Some("false" | "off" | "no" | "0") => Ok(()),
        Some(_) => fatal("0A000", "replication is not supported"),
    }
}

/// Tells a client of a later minor version that 3.0 it is, and which of its options are not known.
async fn negotiate(stream: &mut TcpStream, parameters: &[(String, String)]) -> Result<(), Broken> {
    let unknown: Vec<&str> = parameters
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| name.starts_with("_pq_."))
        .collect();
    let mut answers = Answers::default();
    answers.message(b'v', |out| {
        out.extend_from_slice(&0_u32.to_be_bytes());
        out.extend_from_slice(&u32::try_from(unknown.len()).unwrap_or(u32::MAX).to_be_bytes());
        for name in unknown {
            out.extend_from_slice(name.as_bytes());
            out.push(0);
        }
    });
    send(stream, &mut answers).await
}

/// What serving a request comes to, but for a broken connection.
type Served = Result<Result<(), SqlError>, Broken>;

struct Connection {
    stream: TcpStream,
    session: Session,
    ticket: Ticket,
    stopping: watch::Receiver<bool>,
    answers: Answers,
    holdings: Holdings,
    ledger: Option<Arc<Shared>>,
    user: String,
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
            if request == Request::Sync {
                passes_over = false;
                if self.session.status() == b'I' {
                    self.holdings.close_portals();
                }
                self.answers.ready(self.session.status());
                continue;
            }
            if passes_over {
                continue;
            }
            let is_simple = matches!(request, Request::Query(_));
            if let Err(error) = self.serve(request).await? {
                self.session.fail();
                self.answers.error("ERROR", &error);
                passes_over = !is_simple;
            }
            if is_simple {
                if self.session.status() == b'I' {
                    self.holdings.close_portals();
                }
                self.answers.ready(self.session.status());
            }
        }
    }

    fn welcome(&mut self) {
        self.answers.message(b'R', |out| out.extend_from_slice(&[0; 4]));
        for (name, value) in self.session.reported() {
            self.answers.parameter(&name, &value);
        }
        let Ticket { number, secret, .. } = self.ticket;
        self.answers.message(b'K', |out| {
            out.extend_from_slice(&number.to_be_bytes());
            out.extend_from_slice(&secret.to_be_bytes());
        });
        self.answers.ready(self.session.status());
    }

    /// Sends what is gathered, unless the next request is here already: answers of a pipeline go together.
    async fn send_if_idle(&mut self) -> Result<(), Broken> {
        let is_waiting = {
            let mut byte = [0; 1];
            let peek = self.stream.peek(&mut byte);
            tokio::select! {
                biased;
                peeked = peek => matches!(peeked, Ok(1)),
                () = std::future::ready(()) => false,
            }
        };
        if is_waiting && self.answers.bytes.len() < ANSWERS_SIZE_MAX {
            return Ok(());
        }
        send(&mut self.stream, &mut self.answers).await
    }

    async fn request(&mut self) -> Result<Request, Broken> {
        let mut kind = [0; 1];
        tokio::select! {
            biased;
            _ = self.stopping.wait_for(|stopping| *stopping) => return Err(Broken::Fatal(stopping())),
            read = self.stream.read_exact(&mut kind) => read?,
        };
        let [kind] = kind;
        let mut prefix = [0; 4];
        let limit = Duration::from_secs(STALL_SECONDS_MAX);
        tokio::time::timeout(limit, self.stream.read_exact(&mut prefix))
            .await
            .map_err(|_| Broken::Closed)??;
        let size =
            message::request_size(kind, prefix).ok_or_else(|| violation("invalid message"))?;
        let body = read_body(&mut self.stream, size).await?;
        message::request(kind, &body).ok_or_else(|| violation("invalid message format"))
    }

    async fn serve(&mut self, request: Request) -> Served {
        Ok(match request {
            Request::Query(text) => return self.simple(&text).await,
            Request::Parse { name, text, types } => match self.prepare(&text, &types).await {
                Ok(statement) => {
                    let kept = self.holdings.prepare(&name, statement);
                    if kept.is_ok() {
                        self.answers.bare(b'1');
                    }
                    kept
                }
                Err(error) => Err(error),
            },
            Request::Bind(bind) => {
                let bound = self.holdings.bind(bind);
                if bound.is_ok() {
                    self.answers.bare(b'2');
                }
                bound
            }
            Request::Describe(target, name) => self.describe(target, &name),
            Request::Execute { portal, row_count_max } => {
                return self.execute(&portal, row_count_max).await;
            }
            Request::Close(target, name) => {
                match target {
                    Target::Statement => self.holdings.close_statement(&name),
                    Target::Portal => self.holdings.close_portal(&name),
                }
                self.answers.bare(b'3');
                Ok(())
            }
            Request::Flush => {
                send(&mut self.stream, &mut self.answers).await?;
                Ok(())
            }
            Request::Copy | Request::Sync | Request::Terminate => Ok(()),
        })
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

    /// A simple query: statements one after the other, up to the first that fails.
    async fn simple(&mut self, text: &str) -> Served {
        let statements = match self.session.parse(text).await {
            Ok(statements) => statements,
            Err(error) => return Ok(Err(error)),
        };
        if statements.is_empty() {
            self.answers.bare(b'I');
        }
        for statement in statements {
            let prepared = match self.session.prepare(&statement, &[]).await {
                Ok(prepared) => prepared,
                Err(error) => return Ok(Err(error)),
            };
            if !prepared.parameters.is_empty() {
                let message = "there is no parameter $1";
                return Ok(Err(SqlError::new("42P02", code::SQL_SYNTAX, message)));
            }
            let outcome = match self.begin(&prepared, Vec::new()).await {
                Ok(outcome) => outcome,
                Err(error) => return Ok(Err(error)),
            };
            match outcome {
                Outcome::Done { tag, report, forget } => self.done(&tag, report, &forget),
                Outcome::Append { tag, appends } => match self.append(appends).await {
                    Ok(()) => self.answers.complete(&tag),
                    Err(error) => return Ok(Err(error)),
                },
                Outcome::Create(spec) => match self.create(*spec).await {
                    Ok(()) => self.answers.complete("CREATE STREAM"),
                    Err(error) => return Ok(Err(error)),
                },
                Outcome::Rows(rows) => {
                    let formats = Formats::default();
                    self.answers.description(Some(rows.columns().as_slice()), &formats);
                    let mut progress = Progress::Running(Box::new(rows), None);
                    if let Err(error) = self.rows(&mut progress, &formats, usize::MAX).await? {
                        return Ok(Err(error));
                    }
                }
            }
        }
        Ok(Ok(()))
    }

    /// Begins a statement, unless it is cancelled first.
    async fn begin(
        &mut self,
        prepared: &Prepared,
        values: Vec<parameters::Scalar>,
    ) -> Result<Outcome, SqlError> {
        self.ticket.canceled.mark_unchanged();
        tokio::select! {
            outcome = self.session.execute(prepared, values) => outcome,
            Ok(()) = self.ticket.canceled.changed() => Err(SqlError::canceled()),
        }
    }

    /// Hands rows to the ledger, and waits until they are applied or refused. What is on its way can not be cancelled.
    async fn append(&mut self, appends: Vec<Append>) -> Result<(), SqlError> {
        match &self.ledger {
            Some(ledger) => ledger.gateway.append(ledger, &self.user, appends).await,
            None => Err(SqlError::new("0A000", code::SQL_READ_ONLY, "nothing can be written here")),
        }
    }

    async fn create(&mut self, spec: StreamSpec) -> Result<(), SqlError> {
        match &self.ledger {
            Some(ledger) => ledger.gateway.create(ledger, &self.user, spec).await,
            None => Err(SqlError::new("0A000", code::SQL_READ_ONLY, "nothing can be written here")),
        }
    }

    fn done(&mut self, tag: &str, report: Option<(String, String)>, forget: &Forget) {
        match forget {
            Forget::Nothing => {}
            Forget::Named(name) => self.holdings.close_statement(name),
            Forget::All => self.holdings.close_statements(),
        }
        if let Some((name, value)) = report {
            self.answers.parameter(&name, &value);
        }
        self.answers.complete(tag);
    }

    async fn execute(&mut self, name: &str, row_count_max: usize) -> Served {
        let portal = match self.holdings.portal(name) {
            Ok(portal) => portal,
            Err(error) => return Ok(Err(error)),
        };
        let Some(prepared) = portal.statement.clone() else {
            self.answers.bare(b'I');
            return Ok(Ok(()));
        };
        let formats = portal.result_formats.clone();
        let mut progress = std::mem::replace(&mut portal.progress, Progress::Done);
        match &mut progress {
            Progress::New => {
                let values = match decode_values(portal, &prepared) {
                    Ok(values) => values,
                    Err(error) => return Ok(Err(error)),
                };
                progress = match self.begin(&prepared, values).await {
                    Err(error) => return Ok(Err(error)),
                    Ok(Outcome::Done { tag, report, forget }) => {
                        self.done(&tag, report, &forget);
                        return Ok(Ok(()));
                    }
                    Ok(Outcome::Create(spec)) => {
                        let created = self.create(*spec).await;
                        return Ok(created.map(|()| self.answers.complete("CREATE STREAM")));
                    }
                    Ok(Outcome::Append { tag, appends }) => {
                        let appended = self.append(appends).await;
                        return Ok(appended.map(|()| self.answers.complete(&tag)));
                    }
                    Ok(Outcome::Rows(rows)) => Progress::Running(Box::new(rows), None),
                };
            }
            Progress::Running(rows, _) => rows.renew(),
            Progress::Done if prepared.columns.is_some() => {
                self.answers.complete("SELECT 0");
                return Ok(Ok(()));
            }
            Progress::Done => {
                let message = format!("portal \"{name}\" cannot be run");
                return Ok(Err(SqlError::new("55000", code::SQL_SYNTAX, message)));
            }
        }
        let served = self.rows(&mut progress, &formats, row_count_max).await?;
        if let (Ok(()), Ok(portal)) = (&served, self.holdings.portal(name)) {
            portal.progress = progress;
        }
        Ok(served)
    }

    /// Sends rows, up to `row_count_max`, and what ends them.
    async fn rows(
        &mut self,
        progress: &mut Progress,
        formats: &Formats,
        row_count_max: usize,
    ) -> Served {
        let Progress::Running(rows, rest) = progress else { return Ok(Ok(())) };
        let mut sent: usize = 0;
        loop {
            let (mut encoder, mut row) = match rest.take() {
                Some(rest) => rest,
                None => match self.batch(rows).await? {
                    Some(Ok(encoder)) => (encoder, 0),
                    Some(Err(error)) => return Ok(Err(error)),
                    None => break,
                },
            };
            while row < encoder.row_count() {
                if sent == row_count_max {
                    *rest = Some((encoder, row));
                    self.answers.bare(b's');
                    return Ok(Ok(()));
                }
                let is_binary = |index| formats.is_binary(index);
                let written =
                    self.answers.try_message(b'D', |out| encoder.row(row, is_binary, out));
                if let Err(error) = written {
                    return Ok(Err(error));
                }
                row = row.saturating_add(1);
                sent = sent.saturating_add(1);
                if self.answers.bytes.len() >= ANSWERS_SIZE_MAX {
                    send(&mut self.stream, &mut self.answers).await?;
                }
            }
        }
        match rows.tag() {
            "SELECT" => self.answers.complete(&format!("SELECT {sent}")),
            tag => self.answers.complete(tag),
        }
        *progress = Progress::Done;
        Ok(Ok(()))
    }

    /// The next rows, ready to be written; an error when the client or the process wants no more.
    async fn batch(
        &mut self,
        rows: &mut Rows,
    ) -> Result<Option<Result<Encoder, SqlError>>, Broken> {
        let batch = tokio::select! {
            biased;
            _ = self.stopping.wait_for(|stopping| *stopping) => return Err(Broken::Fatal(stopping())),
            Ok(()) = self.ticket.canceled.changed() => Some(Err(SqlError::canceled())),
            batch = rows.next() => batch,
        };
        let columns = Arc::clone(rows.columns());
        Ok(batch.map(|batch| batch.and_then(|batch| Encoder::new(&batch, &columns))))
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

fn stopping() -> SqlError {
    let message = "terminating connection due to administrator command";
    SqlError::new("57P01", code::STOPPING, message)
}

fn violation(message: &str) -> Broken {
    Broken::Fatal(SqlError::new("08P01", code::BAD_REQUEST, message))
}
