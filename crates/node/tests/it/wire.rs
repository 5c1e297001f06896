//! A client that says what a line of the traces says, and reads what is answered as soon as a client would.
//!
//! The lines have no values: a parameter is `1` where its type is known or it is a text, else null; a copied row is `3`
//! in every field; the portal that is executed is the one that was bound last.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::world::connect;

/// A section of the traces and a line of it, from 1.
pub(crate) type Place = (String, usize);

/// What was answered to a line, in the form that is compared; and what errors said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) form: String,
    pub(crate) errors: String,
}

/// What a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// `ReadyForQuery`, or that the client copies.
    Ready,
    /// One of these kinds.
    Any(&'static [u8]),
}

/// A connection that is replayed.
pub(crate) struct Wire {
    stream: TcpStream,
    pub(crate) place: Place,
    /// What was sent and is not answered yet, and the statement that it describes.
    waiting: VecDeque<(Place, Wait, String)>,
    /// The types of each statement's parameters, as far as they are known.
    types: BTreeMap<String, Vec<u32>>,
    /// The portal that was bound last: the traces do not say which is executed.
    portal: String,
    /// Columns of the row that is to be copied.
    copied_count: usize,
    /// What the end of what is copied waits for.
    copied: Option<Wait>,
    passes_over: bool,
    /// The first field of the row that came last.
    pub(crate) last_row: String,
    errors: String,
    pub(crate) answers: Vec<(Place, Answer)>,
}

/// A list of numbers: `[1, 0]`.
fn numbers(text: &str) -> Vec<u32> {
    let inner = text.trim_start_matches('[').trim_end_matches(']');
    inner.split(", ").filter(|part| !part.is_empty()).map(|part| part.parse().unwrap()).collect()
}

/// A name, `-` when it is empty.
fn name(text: &str) -> &str {
    if text == "-" { "" } else { text }
}

/// `name`, between `before` and `after`.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    text.split_once(before).and_then(|(_, rest)| rest.split_once(after)).unwrap().0
}

fn put_list<T>(out: &mut Vec<u8>, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    out.extend(u16::try_from(items.len()).unwrap().to_be_bytes());
    items.iter().for_each(|item| put(out, item));
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes());
    out.push(0);
}

fn put_format(out: &mut Vec<u8>, format: &u32) {
    out.extend(u16::try_from(*format).unwrap().to_be_bytes());
}

/// `1` of a type, in binary; null for a type that it is not known of.
fn one(oid: u32) -> Option<Vec<u8>> {
    match oid {
        16 => Some(vec![1]),
        20 => Some(1_i64.to_be_bytes().into()),
        21 => Some(1_i16.to_be_bytes().into()),
        23 | 26 => Some(1_i32.to_be_bytes().into()),
        19 | 25 | 1042 | 1043 => Some(b"1".into()),
        _ => None,
    }
}

impl Wire {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            stream: connect(address),
            place: Place::default(),
            waiting: VecDeque::new(),
            types: BTreeMap::new(),
            portal: String::new(),
            copied_count: 0,
            copied: None,
            passes_over: false,
            last_row: String::new(),
            errors: String::new(),
            answers: Vec::new(),
        }
    }

    /// Says a line of the traces, and reads what is answered as soon as a client would.
    pub(crate) fn say(&mut self, said: &str) {
        let (verb, rest) = said.split_once([' ', '(']).unwrap_or((said, ""));
        match verb {
            "SSLRequest" => {
                self.send(&[&8_u32.to_be_bytes()[..], &80_877_103_u32.to_be_bytes()].concat());
                let mut answer = [0; 1];
                self.stream.read_exact(&mut answer).unwrap();
                self.answer(self.place.clone(), char::from(answer[0]).to_string());
            }
            "Startup" => self.startup(rest),
            "Query" => self.message(b'Q', Some(Wait::Ready), |out| put_text(out, rest)),
            "Parse" => self.parse(rest),
            "Bind" => self.bind(rest),
            "Describe" | "Close" => {
                let (kind, target) = rest.strip_suffix(')').unwrap().split_once(':').unwrap();
                let (letter, wait): (u8, &[u8]) =
                    if verb == "Describe" { (b'D', b"Tn") } else { (b'C', b"3") };
                self.message(letter, Some(Wait::Any(wait)), |out| {
                    out.extend(kind.bytes());
                    put_text(out, name(target));
                });
                self.waiting.back_mut().unwrap().2 = name(target).into();
            }
            "Execute" => {
                let most: u32 = between(rest, "max=", ")").parse().unwrap();
                let portal = self.portal.clone();
                self.message(b'E', Some(Wait::Any(b"CsI")), |out| {
                    put_text(out, &portal);
                    out.extend(most.to_be_bytes());
                });
            }
            "Flush" => self.message(b'H', None, |_| {}),
            "Sync" => self.message(b'S', Some(Wait::Ready), |_| {}),
            "CopyData" => {
                let row = vec!["3"; self.copied_count].join("\t") + "\n";
                self.message(b'd', None, |out| out.extend(row.bytes()));
            }
            "CopyFail" => self.message(b'f', Some(Wait::Ready), |out| put_text(out, "enough")),
            "CopyDone" => {
                let wait = self.copied.take();
                self.message(b'c', wait, |_| {});
            }
            _ => panic!("{said}"),
        }
        if ["Startup", "Query", "Flush", "Sync", "CopyDone", "CopyFail"].contains(&verb) {
            self.read();
        }
    }

    /// `3.0 {'name': 'value', …}`
    fn startup(&mut self, said: &str) {
        let mut body = 196_608_u32.to_be_bytes().to_vec();
        let parameters = between(said, "{", "}");
        for parameter in parameters.split(", ") {
            for part in parameter.split(": ") {
                put_text(&mut body, part.trim_matches(['\'', '"']));
            }
        }
        body.push(0);
        let size = u32::try_from(body.len() + 4).unwrap();
        self.waiting.push_back((self.place.clone(), Wait::Ready, String::new()));
        self.send(&[&size.to_be_bytes()[..], &body].concat());
    }

    /// `name) text ptypes=[…]`
    fn parse(&mut self, said: &str) {
        let (statement, rest) = said.split_once(") ").unwrap();
        let (text, types) = rest.rsplit_once(" ptypes=").unwrap();
        let types = numbers(types);
        self.message(b'P', Some(Wait::Any(b"1")), |out| {
            put_text(out, name(statement));
            put_text(out, text);
            put_list(out, &types, |out, oid| out.extend(oid.to_be_bytes()));
        });
        self.types.insert(name(statement).into(), types);
    }

    /// `portal=…,stmt=…,pfmt=[…],nparams=…,rfmt=[…])`
    fn bind(&mut self, said: &str) {
        let statement = name(between(said, "stmt=", ","));
        let formats = numbers(between(said, "pfmt=", ",nparams"));
        let results = numbers(between(said, "rfmt=", ")"));
        let count: usize = between(said, "nparams=", ",").parse().unwrap();
        let types = self.types.get(statement).cloned().unwrap_or_default();
        let values: Vec<Option<Vec<u8>>> = (0..count)
            .map(|index| match formats.get(if formats.len() == 1 { 0 } else { index }) {
                Some(1) => one(types.get(index).copied().unwrap_or_default()),
                _ => Some(b"1".into()),
            })
            .collect();
        let portal = name(between(said, "portal=", ",")).to_owned();
        self.message(b'B', Some(Wait::Any(b"2")), |out| {
            put_text(out, &portal);
            put_text(out, statement);
            put_list(out, &formats, put_format);
            put_list(out, &values, |out, value| match value {
                Some(bytes) => {
                    out.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
                    out.extend(bytes);
                }
                None => out.extend((-1_i32).to_be_bytes()),
            });
            put_list(out, &results, put_format);
        });
        self.portal = portal;
    }

    fn message(&mut self, kind: u8, wait: Option<Wait>, write: impl FnOnce(&mut Vec<u8>)) {
        let mut body = Vec::new();
        write(&mut body);
        let size = u32::try_from(body.len() + 4).unwrap();
        self.send(&[&[kind][..], &size.to_be_bytes(), &body].concat());
        if let Some(wait) = wait {
            self.waiting.push_back((self.place.clone(), wait, String::new()));
        }
    }

    /// Says a line; what is answered.
    pub(crate) fn told(&mut self, said: &str) -> String {
        self.say(said);
        let answers = std::mem::take(&mut self.answers);
        let forms: Vec<String> =
            answers.into_iter().map(|(_, answer)| answer.form + &answer.errors).collect();
        forms.join(" ")
    }

    /// What is said to a client that says nothing.
    pub(crate) fn heard(&mut self) -> String {
        let form = self.read_one(Wait::Ready, "");
        form + &std::mem::take(&mut self.errors)
    }

    fn send(&mut self, bytes: &[u8]) {
        // A server that has closed already is noticed by the reading.
        drop(self.stream.write_all(bytes));
    }

    /// Reads the answers to all that was sent.
    fn read(&mut self) {
        while let Some((place, wait, statement)) = self.waiting.pop_front() {
            let form = match wait {
                Wait::Any(_) if self.passes_over => String::new(),
                wait => self.read_one(wait, &statement),
            };
            self.passes_over &= wait != Wait::Ready;
            self.answer(place, form);
        }
    }

    fn answer(&mut self, place: Place, form: String) {
        let errors = std::mem::take(&mut self.errors);
        if !form.is_empty() {
            self.answers.push((place, Answer { form, errors }));
        }
    }

    /// The answers to one message.
    fn read_one(&mut self, wait: Wait, statement: &str) -> String {
        self.errors.clear();
        let mut parts: Vec<String> = Vec::new();
        loop {
            let Some((kind, body)) = self.read_message() else {
                parts.push("closed".into());
                return parts.join(" ");
            };
            let part = self.form(kind, &body, statement);
            // How many rows there are tells nothing.
            let repeats = kind == b'd' && parts.last() == Some(&part);
            if !part.is_empty() && !repeats {
                parts.push(part);
            }
            match (kind, wait) {
                (b'G', _) => {
                    self.copied_count = usize::from(u16::from_be_bytes([body[1], body[2]]));
                    self.copied = Some(wait);
                    return parts.join(" ");
                }
                (b'E', Wait::Any(_)) => {
                    self.passes_over = true;
                    return parts.join(" ");
                }
                (b'Z', Wait::Ready) => {
                    let (mut parameters, others): (Vec<String>, Vec<String>) =
                        parts.into_iter().partition(|part| part.starts_with("S "));
                    // The order of parameters tells nothing.
                    parameters.sort();
                    return [others, parameters].concat().join(" ");
                }
                (kind, Wait::Any(kinds)) if kinds.contains(&kind) => return parts.join(" "),
                _ => {}
            }
        }
    }

    fn read_message(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).ok()?;
        let size = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; usize::try_from(size).unwrap() - 4];
        self.stream.read_exact(&mut body).ok()?;
        Some((head[0], body))
    }

    /// A message in the form that is compared.
    fn form(&mut self, kind: u8, body: &[u8], statement: &str) -> String {
        let letter = char::from(kind);
        let text = String::from_utf8_lossy(body);
        match kind {
            b'K' => String::new(),
            b'D' => {
                self.last_row = String::from_utf8_lossy(body.get(6..).unwrap_or_default()).into();
                String::new()
            }
            b'Z' => format!("Z[{text}]"),
            b'S' => format!("S {}", text.split('\0').next().unwrap()),
            b'C' => {
                let tag = text.trim_end_matches('\0');
                format!("C[{}]", if tag.starts_with("SELECT ") { "SELECT" } else { tag })
            }
            b'E' | b'N' => {
                let field = |letter: char| {
                    text.split('\0').find_map(|part| part.strip_prefix(letter)).unwrap_or_default()
                };
                if kind == b'E' {
                    write!(self.errors, "\n         {}", field('M')).unwrap();
                }
                format!("{letter}[{}]", field('C'))
            }
            b't' => {
                let oids: Vec<u32> = body[2..]
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|oid| u32::from_be_bytes(*oid))
                    .collect();
                let form = format!("t{oids:?}");
                self.types.insert(statement.to_owned(), oids);
                form
            }
            b'T' => format!("T[{}]", columns(body)),
            b'G' | b'H' => format!("{letter}[{} of {}]", body[0], body[2]),
            _ => letter.to_string(),
        }
    }
}

/// The columns of a `RowDescription`: names, types, and whether they are binary.
fn columns(body: &[u8]) -> String {
    let mut rest = &body[2..];
    let mut columns = Vec::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == 0).unwrap();
        let column = String::from_utf8_lossy(&rest[..end]);
        let fields = &rest[end + 1..end + 19];
        let oid = u32::from_be_bytes([fields[6], fields[7], fields[8], fields[9]]);
        let binary = if fields[17] == 1 { ":b" } else { "" };
        columns.push(format!("{column}:{oid}{binary}"));
        rest = &rest[end + 19..];
    }
    columns.join(" ")
}
