//! Everything before a conversation: encryption, a cancel request, or a start with who the client is.
//!
//! ```text
//!  SSLRequest ─> S, handshake | N        16 03 …: a handshake at once        cancel ─> done
//!  Startup    ─> versions, parameters ─> password, if any user has one ─> the conversation
//! ```
//! # Invariants
//! * H1 Bytes that came with an `SSLRequest`, before the handshake, are never read as the client's (CVE-2021-23222).
//! * H2 Once a password is set here, nobody converses without one.
//! * H3 A client of another machine converses encrypted only, unless `pg.network_trusted` says that it need not.

use std::time::Duration;

use quipu_query::SqlError;
use quipu_types::code;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};

use super::STALL_SECONDS_MAX;
use super::connection::{ANSWERS_SIZE_MAX, Broken, Context};
use super::message::{self, Answers, Startup};
use super::scram;
use super::tls::{ALPN, Tls};

/// Requests for encryption and the like before a start.
const PREAMBLE_COUNT_MAX: usize = 4;
/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;

/// What bytes come and go on.
pub(crate) trait Link: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Link for T {}

/// A client's connection, encrypted or not, with what has come of it and is not read yet.
pub(crate) type Socket = BufReader<Box<dyn Link>>;

/// A connection's socket.
pub(crate) fn socket(link: impl Link + 'static) -> Socket {
    BufReader::new(Box::new(link))
}

/// The parameters of a start.
pub(crate) type Parameters = Vec<(String, String)>;

/// The value of a parameter.
pub(crate) fn find<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parameters.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

/// The parameters that the start-up message's `options` set, as a server's command line would: `-c name=value` and
/// `--name=value`, `\` before a blank that is part of a word.
pub(crate) fn options(text: &str) -> Vec<(String, String)> {
    let mut words = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, words.last_mut()) {
            ('\\', Some(word)) => word.extend(characters.next()),
            (blank, _) if blank.is_ascii_whitespace() => words.push(String::new()),
            (other, Some(word)) => word.push(other),
            (_, None) => {}
        }
    }
    let words = words.iter().filter(|word| !word.is_empty() && *word != "-c");
    let assignments = words.filter_map(|word| {
        let word = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")).unwrap_or(word);
        word.split_once('=')
    });
    assignments.map(|(name, value)| (name.replace('-', "_"), value.to_owned())).collect()
}

/// Sends what is gathered, all of it.
pub(crate) async fn send(socket: &mut Socket, answers: &mut Answers) -> Result<(), Broken> {
    if answers.bytes.is_empty() {
        return Ok(());
    }
    let limit = Duration::from_secs(STALL_SECONDS_MAX);
    let whole = async {
        socket.write_all(&answers.bytes).await?;
        socket.flush().await
    };
    let sent = tokio::time::timeout(limit, whole).await;
    answers.bytes.clear();
    answers.bytes.shrink_to(ANSWERS_SIZE_MAX.saturating_mul(2));
    sent.map_err(|_| Broken::Closed)?.map_err(Broken::from)
}

/// Reads exactly `size` bytes; nothing is reserved for bytes that have not come (P3).
pub(crate) async fn read_body(socket: &mut Socket, size: usize) -> Result<Vec<u8>, Broken> {
    let mut body = Vec::new();
    let most = u64::try_from(size).map_err(|_| Broken::Garbage)?;
    let limit = Duration::from_secs(STALL_SECONDS_MAX);
    let mut part = (&mut *socket).take(most);
    let read = tokio::time::timeout(limit, part.read_to_end(&mut body)).await;
    let count = read.map_err(|_| Broken::Closed)??;
    if count == size { Ok(body) } else { Err(Broken::Closed) }
}

/// The start's parameters, or none when there is to be no conversation.
pub(crate) async fn start(
    socket: &mut Socket,
    context: &Context,
) -> Result<Option<Parameters>, Broken> {
    let tls = context.access.tls.as_ref();
    let mut is_encrypted = false;
    if let Some(tls) = tls
        && socket.fill_buf().await?.first() == Some(&HANDSHAKE)
    {
        encrypt(socket, tls, true).await?;
        is_encrypted = true;
    }
    for _ in 0..PREAMBLE_COUNT_MAX {
        let mut prefix = [0; 4];
        socket.read_exact(&mut prefix).await?;
        let size = message::startup_size(prefix).ok_or(Broken::Garbage)?;
        let body = read_body(socket, size).await?;
        match message::startup(&body).ok_or(Broken::Garbage)? {
            Startup::Tls => match tls.filter(|_| !is_encrypted) {
                Some(tls) => {
                    encrypt(socket, tls, false).await?;
                    is_encrypted = true;
                }
                None => refuse_encryption(socket).await?,
            },
            Startup::Gss => refuse_encryption(socket).await?,
            Startup::Cancel { number, secret } => {
                context.registry.cancel(number, secret);
                return Ok(None);
            }
            Startup::Version { major } => {
                let message = format!("unsupported frontend protocol {major}: server supports 3.0");
                return Err(Broken::Fatal(SqlError::new("0A000", code::SQL_UNSUPPORTED, message)));
            }
            Startup::Start { minor, parameters } => {
                admit(context, &parameters, is_encrypted)?;
                if minor > 0 {
                    negotiate(socket, &parameters).await?;
                }
                authenticate(socket, context, &parameters, is_encrypted).await?;
                return Ok(Some(parameters));
            }
        }
    }
    Err(Broken::Garbage)
}

async fn refuse_encryption(socket: &mut Socket) -> Result<(), Broken> {
    socket.write_all(b"N").await?;
    socket.flush().await.map_err(Broken::from)
}

/// Goes on encrypted. `at_once`: the client began without asking, and must say what it wants to speak.
async fn encrypt(socket: &mut Socket, tls: &Tls, at_once: bool) -> Result<(), Broken> {
    if !at_once {
        if !socket.buffer().is_empty() {
            let message = "received unencrypted data after SSL request";
            let error = SqlError::new("08P01", code::BAD_REQUEST, message).hint(
                "this could be a bug of the client, or somebody who puts bytes into its connection",
            );
            return Err(Broken::Fatal(error));
        }
        socket.write_all(b"S").await?;
        socket.flush().await?;
    }
    let bare = std::mem::replace(socket, self::socket(tokio::io::empty()));
    let stream = match tls.acceptor.accept(bare).into_fallible().await {
        Ok(stream) => stream,
        Err((_, bare)) => {
            *socket = bare;
            return Err(Broken::Garbage);
        }
    };
    if at_once && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(Broken::Garbage);
    }
    *socket = self::socket(stream);
    Ok(())
}

/// Refuses those who can not be served, before anything is asked of them.
fn admit(
    context: &Context,
    parameters: &[(String, String)],
    is_encrypted: bool,
) -> Result<(), Broken> {
    let fatal =
        |state, code, message: &str| Err(Broken::Fatal(SqlError::new(state, code, message)));
    if context.is_refused {
        return fatal("53300", code::SQL_LIMIT, "sorry, too many clients already");
    }
    if !is_encrypted && !context.is_local && !context.access.network_trusted {
        let message = "connection is not encrypted: only TLS is taken from other machines";
        let error = SqlError::new("28000", code::NOT_ADMITTED, message);
        return Err(Broken::Fatal(error.hint("connect with sslmode=require")));
    }
    if find(parameters, "user").is_none() {
        let message = "no PostgreSQL user name specified in startup packet";
        return fatal("28000", code::NOT_ADMITTED, message);
    }
    match find(parameters, "replication") {
        None | Some("false" | "off" | "no" | "0") => Ok(()),
        Some(_) => fatal("0A000", code::SQL_UNSUPPORTED, "replication is not supported"),
    }
}

/// Tells a client of a later minor version that 3.0 it is, and which of its options are not known.
async fn negotiate(socket: &mut Socket, parameters: &[(String, String)]) -> Result<(), Broken> {
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
    send(socket, &mut answers).await
}

/// Has the client prove its password, where passwords are set (H2).
async fn authenticate(
    socket: &mut Socket,
    context: &Context,
    parameters: &[(String, String)],
    is_encrypted: bool,
) -> Result<(), Broken> {
    let passwords = &context.access.passwords;
    if passwords.is_empty() {
        return Ok(());
    }
    let user = find(parameters, "user").unwrap_or_default();
    let tls = context.access.tls.as_ref().filter(|_| is_encrypted);
    let first = passwords.check(user, tls.and_then(|tls| tls.binding.as_deref()));
    let mut answers = Answers::default();
    answers.sasl(first.mechanisms());
    send(socket, &mut answers).await?;
    let body = password_message(socket).await?;
    let (mechanism, said) =
        message::sasl_initial(&body).ok_or_else(|| violation("malformed SASL initial response"))?;
    let nonce = scram::nonce().map_err(Broken::Fatal)?;
    let (said, last) = first.answer(mechanism, said, &nonce).map_err(Broken::Fatal)?;
    answers.sasl_says(11, &said);
    send(socket, &mut answers).await?;
    let body = password_message(socket).await?;
    let said = last.answer(&body).map_err(Broken::Fatal)?;
    answers.sasl_says(12, &said);
    send(socket, &mut answers).await
}

async fn password_message(socket: &mut Socket) -> Result<Vec<u8>, Broken> {
    let mut head = [0; 5];
    socket.read_exact(&mut head).await?;
    let [kind, prefix @ ..] = head;
    let size = message::request_size(kind, prefix)
        .filter(|size| kind == b'p' && *size <= scram::MESSAGE_SIZE_MAX)
        .ok_or_else(|| violation("expected a SASL response"))?;
    read_body(socket, size).await
}

fn violation(message: &str) -> Broken {
    Broken::Fatal(SqlError::new("08P01", code::BAD_REQUEST, message))
}
