//! Messages of protocol 3: bytes to requests, answers to bytes. Pure.
//!
//! ```text
//!  start-up  size i32 (itself included) · code i32 · body        request  type u8 · size i32 · body
//!  code      196608 + minor: start · 80877103: SSL · 80877104: GSS · 80877102: cancel
//! ```
//! Source: PostgreSQL 15 documentation, chapter 55, "Frontend/Backend Protocol".

use quipu_query::{Column, More, Notice, SqlError};
use quipu_types::Reader;

/// Most bytes of a start-up packet.
pub(crate) const STARTUP_SIZE_MAX: usize = 10_000;
/// Most bytes of a request.
pub(crate) const MESSAGE_SIZE_MAX: usize = 16 << 20;
const SSL_CODE: u32 = 80_877_103;
const GSS_CODE: u32 = 80_877_104;
const CANCEL_CODE: u32 = 80_877_102;

/// What a connection begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Startup {
    /// May it be encrypted with TLS?
    Tls,
    /// May it be encrypted with GSSAPI?
    Gss,
    /// Cancel what another connection runs.
    Cancel { number: u32, secret: u32 },
    /// Begin, with these parameters.
    Start { minor: u16, parameters: Vec<(String, String)> },
    /// A version of the protocol that is not 3.
    Version { major: u16 },
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Statement,
    Portal,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Query(String),
    Parse {
        name: String,
        text: String,
        types: Vec<u32>,
    },
    Bind(Bind),
    Describe(Target, String),
    Execute {
        portal: String,
        row_count_max: usize,
    },
    Close(Target, String),
    Flush,
    Sync,
    Terminate,
    /// A piece of what is copied.
    CopyData(Vec<u8>),
    /// All of it was sent.
    CopyDone,
    /// The client gives up, and says why.
    CopyFail(String),
}

/// A Bind request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(crate) portal: String,
    pub(crate) statement: String,
    pub(crate) formats: Formats,
    pub(crate) values: Vec<Option<Vec<u8>>>,
    pub(crate) result_formats: Formats,
}

/// Whether values are binary: none said (text), one for all, or one each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Formats(Vec<bool>);

impl Formats {
    pub(crate) fn is_binary(&self, index: usize) -> bool {
        match self.0.as_slice() {
            [only] => *only,
            several => several.get(index).copied().unwrap_or(false),
        }
    }

    /// Whether they can be said of `count` values.
    pub(crate) fn suit(&self, count: usize) -> bool {
        self.0.len() <= 1 || self.0.len() == count
    }
}

/// The size that a start-up packet announces, if it can be one.
pub(crate) fn startup_size(prefix: [u8; 4]) -> Option<usize> {
    let size = usize::try_from(u32::from_be_bytes(prefix)).ok()?;
    (8..=STARTUP_SIZE_MAX).contains(&size).then(|| size.saturating_sub(4))
}

/// The size that a request announces, if its type and size can be.
pub(crate) fn request_size(kind: u8, prefix: [u8; 4]) -> Option<usize> {
    let size = usize::try_from(u32::from_be_bytes(prefix)).ok()?;
    (b"QPBDECHSXdcfp".contains(&kind) && (4..=MESSAGE_SIZE_MAX).contains(&size))
        .then(|| size.saturating_sub(4))
}

/// Reads a start-up packet without its size; none for garbage.
pub(crate) fn startup(body: &[u8]) -> Option<Startup> {
    let mut reader = Reader::new(body);
    let code = take_u32(&mut reader)?;
    match code {
        SSL_CODE | GSS_CODE => {
            reader.end().ok()?;
            Some(if code == SSL_CODE { Startup::Tls } else { Startup::Gss })
        }
        CANCEL_CODE => {
            let number = take_u32(&mut reader)?;
            let secret = take_u32(&mut reader)?;
            reader.end().ok()?;
            Some(Startup::Cancel { number, secret })
        }
        _ => {
            let [a, b, c, d] = code.to_be_bytes();
            let major = u16::from_be_bytes([a, b]);
            match major {
                3 => {
                    let minor = u16::from_be_bytes([c, d]);
                    let parameters = startup_parameters(&mut reader)?;
                    Some(Startup::Start { minor, parameters })
                }
                1 | 2 | 4..=9 => Some(Startup::Version { major }),
                _ => None,
            }
        }
    }
}

fn startup_parameters(reader: &mut Reader<'_>) -> Option<Vec<(String, String)>> {
    let mut parameters = Vec::new();
    loop {
        let name = take_text(reader)?;
        if name.is_empty() {
            reader.end().ok()?;
            return Some(parameters);
        }
        parameters.push((name, take_text(reader)?));
    }
}

/// Reads a request without its type and size; none for a body that its type does not have.
pub(crate) fn request(kind: u8, body: Vec<u8>) -> Option<Request> {
    if kind == b'd' {
        return Some(Request::CopyData(body));
    }
    let mut reader = Reader::new(&body);
    let reader = &mut reader;
    let request = match kind {
        b'Q' => Request::Query(take_text(reader)?),
        b'P' => {
            let name = take_text(reader)?;
            let text = take_text(reader)?;
            let types = take_list(reader, take_u32)?;
            Request::Parse { name, text, types }
        }
        b'B' => Request::Bind(Bind {
            portal: take_text(reader)?,
            statement: take_text(reader)?,
            formats: take_formats(reader)?,
            values: take_list(reader, take_value)?,
            result_formats: take_formats(reader)?,
        }),
        b'D' => Request::Describe(take_target(reader)?, take_text(reader)?),
        b'E' => {
            let portal = take_text(reader)?;
            // Zero and below: no limit.
            let most = i32::from_be_bytes(reader.array().ok()?);
            let row_count_max = usize::try_from(most).ok().filter(|most| *most > 0);
            Request::Execute { portal, row_count_max: row_count_max.unwrap_or(usize::MAX) }
        }
        b'C' => Request::Close(take_target(reader)?, take_text(reader)?),
        b'H' => Request::Flush,
        b'S' => Request::Sync,
        b'X' => Request::Terminate,
        b'c' => Request::CopyDone,
        b'f' => Request::CopyFail(take_text(reader)?),
        _ => return None,
    };
    reader.end().ok()?;
    Some(request)
}

/// Reads a SASL initial response: the mechanism, and what the client says first.
pub(crate) fn sasl_initial(body: &[u8]) -> Option<(&str, &[u8])> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let (mechanism, rest) = body.split_at_checked(end)?;
    let (size, said) = rest.get(1..)?.split_first_chunk()?;
    let fits = usize::try_from(u32::from_be_bytes(*size)).ok()? == said.len();
    Some((std::str::from_utf8(mechanism).ok()?, said)).filter(|_| fits)
}

fn take_u16(reader: &mut Reader<'_>) -> Option<u16> {
    reader.array().ok().map(u16::from_be_bytes)
}

fn take_u32(reader: &mut Reader<'_>) -> Option<u32> {
    reader.array().ok().map(u32::from_be_bytes)
}

/// A text that ends with a zero byte; bytes that are no UTF-8 are replaced, and then mean nothing.
fn take_text(reader: &mut Reader<'_>) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        match reader.u8().ok()? {
            0 => return Some(String::from_utf8_lossy(&bytes).into_owned()),
            byte => bytes.push(byte),
        }
    }
}

fn take_list<T>(
    reader: &mut Reader<'_>,
    take: impl Fn(&mut Reader<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let count = take_u16(reader)?;
    (0..count).map(|_| take(reader)).collect()
}

fn take_formats(reader: &mut Reader<'_>) -> Option<Formats> {
    let formats = take_list(reader, |reader| match take_u16(reader)? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    })?;
    Some(Formats(formats))
}

fn take_value(reader: &mut Reader<'_>) -> Option<Option<Vec<u8>>> {
    let size = i32::from_be_bytes(reader.array().ok()?);
    if size == -1 {
        return Some(None);
    }
    let size = usize::try_from(size).ok()?;
    Some(Some(reader.take(size).ok()?.to_vec()))
}

fn take_target(reader: &mut Reader<'_>) -> Option<Target> {
    match reader.u8().ok()? {
        b'S' => Some(Target::Statement),
        b'P' => Some(Target::Portal),
        _ => None,
    }
}

/// Answers, written one after the other.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) bytes: Vec<u8>,
}

impl Answers {
    /// A message whose body `write` appends.
    pub(crate) fn message(&mut self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
        // What is written into memory can not fail.
        let _done: Result<(), ()> = self.try_message(kind, |out| {
            write(out);
            Ok(())
        });
    }

    /// The same for a body that may fail to be written: then there is no message.
    pub(crate) fn try_message<E>(
        &mut self,
        kind: u8,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&[0; 4]);
        if let Err(error) = write(&mut self.bytes) {
            self.bytes.truncate(start);
            return Err(error);
        }
        let size = self.bytes.len().saturating_sub(start).saturating_sub(1);
        let size = u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(place) = self.bytes.get_mut(start.saturating_add(1)..start.saturating_add(5)) {
            place.copy_from_slice(&size);
        }
        Ok(())
    }

    /// A message without a body.
    pub(crate) fn bare(&mut self, kind: u8) {
        self.message(kind, |_| {});
    }

    /// `AuthenticationSASL`: the mechanisms to choose from.
    pub(crate) fn sasl(&mut self, mechanisms: &[&str]) {
        self.message(b'R', |out| {
            out.extend_from_slice(&10_u32.to_be_bytes());
            mechanisms.iter().for_each(|mechanism| put_text(out, mechanism));
            out.push(0);
        });
    }

    /// `AuthenticationSASLContinue` (11) or `AuthenticationSASLFinal` (12).
    pub(crate) fn sasl_says(&mut self, kind: u32, said: &str) {
        self.message(b'R', |out| {
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(said.as_bytes());
        });
    }

    /// `ReadyForQuery`.
    pub(crate) fn ready(&mut self, status: u8) {
        self.message(b'Z', |out| out.push(status));
    }

    /// `CommandComplete`.
    pub(crate) fn complete(&mut self, tag: &str) {
        self.message(b'C', |out| put_text(out, tag));
    }

    /// `ParameterStatus`.
    pub(crate) fn parameter(&mut self, name: &str, value: &str) {
        self.message(b'S', |out| {
            put_text(out, name);
            put_text(out, value);
        });
    }

    /// `RowDescription`, or `NoData` without columns.
    pub(crate) fn description(&mut self, columns: Option<&[Column]>, formats: &Formats) {
        let Some(columns) = columns else {
            self.bare(b'n');
            return;
        };
        self.message(b'T', |out| {
            put_count(out, columns.len());
            for (index, column) in columns.iter().enumerate() {
                put_text(out, &column.name);
                let (table, place) = column.origin;
                out.extend_from_slice(&table.to_be_bytes());
                out.extend_from_slice(&place.to_be_bytes());
                out.extend_from_slice(&column.pg_type.oid().to_be_bytes());
                out.extend_from_slice(&column.size.to_be_bytes());
                out.extend_from_slice(&column.modifier.to_be_bytes());
                out.extend_from_slice(&u16::from(formats.is_binary(index)).to_be_bytes());
            }
        });
    }

    /// `ParameterDescription`.
    pub(crate) fn parameters(&mut self, oids: &[u32]) {
        self.message(b't', |out| {
            put_count(out, oids.len());
            for oid in oids {
                out.extend_from_slice(&oid.to_be_bytes());
            }
        });
    }

    /// `CopyInResponse` (`G`) or `CopyOutResponse` (`H`).
    pub(crate) fn copy(&mut self, kind: u8, is_binary: bool, column_count: usize) {
        self.message(kind, |out| {
            out.push(u8::from(is_binary));
            put_count(out, column_count);
            for _ in 0..column_count {
                out.extend_from_slice(&u16::from(is_binary).to_be_bytes());
            }
        });
    }

    /// `NoticeResponse`.
    pub(crate) fn notice(&mut self, notice: &Notice) {
        self.message(b'N', |out| {
            put_field(out, b'S', notice.severity);
            put_field(out, b'V', notice.severity);
            put_field(out, b'C', notice.sqlstate);
            put_field(out, b'M', &notice.message);
            out.push(0);
        });
    }

    /// `ErrorResponse`.
    pub(crate) fn error(&mut self, severity: &str, error: &SqlError) {
        let own = format!("{} (quipu explain {})", error.code, error.code);
        let more = error.more.as_deref();
        let detail = match more.and_then(|more| more.detail.as_ref()) {
            Some(detail) => format!("{detail}\n{own}"),
            None => own,
        };
        let position = error.position.map(|position| position.to_string());
        let of_more =
            |part: fn(&More) -> &Option<String>| more.and_then(|more| part(more).as_ref());
        let optional = [
            (b'H', error.hint.as_ref()),
            (b'P', position.as_ref()),
            (b'W', of_more(|more| &more.context)),
            (b's', of_more(|more| &more.schema)),
            (b't', of_more(|more| &more.table)),
            (b'c', of_more(|more| &more.column)),
            (b'n', of_more(|more| &more.constraint)),
        ];
        self.message(b'E', |out| {
            put_field(out, b'S', severity);
            put_field(out, b'V', severity);
            put_field(out, b'C', error.sqlstate);
            put_field(out, b'M', &error.message);
            put_field(out, b'D', &detail);
            for (kind, text) in optional {
                if let Some(text) = text {
                    put_field(out, kind, text);
                }
            }
            out.push(0);
        });
    }
}

fn put_field(out: &mut Vec<u8>, kind: u8, text: &str) {
    out.push(kind);
    put_text(out, text);
}

/// Writes a text and its zero byte; zero bytes inside would end it early and are left out.
fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().filter(|byte| *byte != 0));
    out.push(0);
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
}
