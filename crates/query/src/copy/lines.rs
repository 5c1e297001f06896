//! Bytes to records: `COPY`'s text and CSV.
//!
//! ```text
//!  bytes, in any pieces ─> line (ends found once: an escaped or quoted one is data) ─> fields ─> Record
//! ```
//! * The first line says how all of them end: `\n`, `\r\n` or `\r`. Another end in the data is refused.
//! * A line `\.` alone ends the data; what follows it is passed over.

use super::{Format, Options, RECORD_SIZE_MAX, Record, malformed, too_long};
use crate::error::SqlError;

/// Bytes that were read stay in the buffer until they are so many.
const KEPT_SIZE_MAX: usize = 64 << 10;
/// Most bytes of a line that an error shows.
const SHOWN_SIZE_MAX: usize = 100;

/// How lines end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Newline,
    Both,
    Return,
}

/// Reads lines, and fields of them.
#[derive(Debug)]
pub(crate) struct Lines {
    is_csv: bool,
    delimiter: u8,
    quote: u8,
    escape: u8,
    null: Vec<u8>,
    buffer: Vec<u8>,
    /// Where the line begins that is not read yet.
    start: usize,
    /// Up to where its end was looked for.
    scanned: usize,
    in_quotes: bool,
    was_escape: bool,
    end: Option<End>,
    /// The line that was read last, if its end was found.
    last: Option<(usize, usize)>,
    line: u64,
    is_over: bool,
}

impl Lines {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            is_csv: options.format == Format::Csv,
            delimiter: options.delimiter,
            quote: options.quote,
            escape: options.escape,
            null: options.null.clone().into_bytes(),
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            in_quotes: false,
            was_escape: false,
            end: None,
            last: None,
            line: 0,
            is_over: false,
        }
    }

    /// Takes more bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.is_over {
            return;
        }
        if self.start > KEPT_SIZE_MAX || self.start == self.buffer.len() {
            self.buffer.drain(..self.start);
            self.scanned = self.scanned.saturating_sub(self.start);
            self.start = 0;
            self.last = None;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The number of the line that was read last, from 1.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// The line that was read last, as an error shows it.
    pub(crate) fn shown(&self) -> Option<String> {
        let (start, end) = self.last?;
        self.buffer.get(start..end).map(shown)
    }

    /// Reads the next record; false when there is none (yet). `at_end`: no more bytes will come.
    pub(crate) fn next(&mut self, at_end: bool, record: &mut Record) -> Result<bool, SqlError> {
        if self.is_over {
            return Ok(false);
        }
        let Some((start, end)) = self.find(at_end)? else { return Ok(false) };
        self.last = Some((start, end));
        self.in_quotes = false;
        self.was_escape = false;
        if end.saturating_sub(start) > RECORD_SIZE_MAX {
            return Err(too_long());
        }
        // Fields are written elsewhere, so the line can be looked at while they are.
        let buffer = std::mem::take(&mut self.buffer);
        let line = buffer.get(start..end).unwrap_or_default();
        record.clear();
        let read = match line {
            b"\\." => {
                self.is_over = true;
                Ok(())
            }
            line if self.is_csv => self.quoted_fields(line, record),
            line => {
                self.escaped_fields(line, record);
                Ok(())
            }
        };
        self.buffer = buffer;
        read?;
        Ok(!self.is_over)
    }

    /// Finds the end of the next line: the line without it. What was looked at is not looked at again.
    fn find(&mut self, at_end: bool) -> Result<Option<(usize, usize)>, SqlError> {
        let begin = self.start;
        while let Some(byte) = self.buffer.get(self.scanned).copied() {
            let next = self.buffer.get(self.scanned.saturating_add(1)).copied();
            let is_last = next.is_none();
            match byte {
                b'\\' if !self.is_csv => {
                    // What follows it is data, whatever it is.
                    if is_last && !at_end {
                        break;
                    }
                    self.scanned = self.scanned.saturating_add(2).min(self.buffer.len());
                    continue;
                }
                b'\r' | b'\n' if !self.in_quotes => {
                    if byte == b'\r' && is_last && !at_end {
                        break;
                    }
                    let size = self.line_end(byte, next)?;
                    let end = self.scanned;
                    self.scanned = end.saturating_add(size);
                    self.start = self.scanned;
                    self.line = self.line.saturating_add(1);
                    return Ok(Some((begin, end)));
                }
                _ => self.note(byte),
            }
            self.scanned = self.scanned.saturating_add(1);
        }
        if self.buffer.len().saturating_sub(begin) > RECORD_SIZE_MAX.saturating_add(2) {
            return Err(too_long());
        }
        if !at_end || begin >= self.buffer.len() {
            return Ok(None);
        }
        self.start = self.buffer.len();
        self.scanned = self.start;
        self.line = self.line.saturating_add(1);
        Ok(Some((begin, self.start)))
    }

    /// Notes whether the byte opens or closes quotes.
    fn note(&mut self, byte: u8) {
        if !self.is_csv {
            return;
        }
        // Where both are one character, two of them close and open again.
        let has_escape = self.escape != self.quote;
        if self.in_quotes && has_escape && byte == self.escape {
            self.was_escape = !self.was_escape;
        }
        if byte == self.quote && !self.was_escape {
            self.in_quotes = !self.in_quotes;
        }
        if !has_escape || byte != self.escape {
            self.was_escape = false;
        }
        let breaks = if self.end == Some(End::Newline) { b'\n' } else { b'\r' };
        self.line = self.line.saturating_add(u64::from(self.in_quotes && byte == breaks));
    }

    /// How many bytes end the line here.
    fn line_end(&mut self, byte: u8, next: Option<u8>) -> Result<usize, SqlError> {
        let found = match (byte, next) {
            (b'\n', _) => End::Newline,
            (_, Some(b'\n')) if self.end != Some(End::Return) => End::Both,
            _ => End::Return,
        };
        if *self.end.get_or_insert(found) == found {
            return Ok(if found == End::Both { 2 } else { 1 });
        }
        self.line = self.line.saturating_add(1);
        self.last = None;
        let (name, written) =
            if byte == b'\n' { ("newline", "\\n") } else { ("carriage return", "\\r") };
        Err(if self.is_csv {
            malformed(format!("unquoted {name} found in data"))
                .hint(format!("Use quoted CSV field to represent {name}."))
        } else {
            malformed(format!("literal {name} found in data"))
                .hint(format!("Use \"{written}\" to represent {name}."))
        })
    }

    /// Text: the delimiter ends a field, a backslash begins an escape.
    fn escaped_fields(&self, line: &[u8], record: &mut Record) {
        let mut at: usize = 0;
        loop {
            let from = at;
            let start = record.mark();
            while let Some(byte) = line.get(at).copied().filter(|byte| *byte != self.delimiter) {
                at = at.saturating_add(1);
                if byte == b'\\' && at < line.len() {
                    at = escape(line, at, record);
                } else {
                    record.push(byte);
                }
            }
            let is_null = line.get(from..at).is_some_and(|raw| raw == self.null);
            record.end_field(start, is_null);
            if at >= line.len() {
                return;
            }
            at = at.saturating_add(1);
        }
    }

    /// CSV: quotes may begin and end anywhere in a field; a field that has any is not null.
    fn quoted_fields(&self, line: &[u8], record: &mut Record) -> Result<(), SqlError> {
        let mut bytes = line.iter().copied().peekable();
        loop {
            let start = record.mark();
            let mut raw_size: usize = 0;
            let mut was_quoted = false;
            let mut in_quotes = false;
            let ends = loop {
                let Some(byte) = bytes.next() else { break true };
                raw_size = raw_size.saturating_add(1);
                if !in_quotes && byte == self.delimiter {
                    break false;
                }
                if !in_quotes && byte == self.quote {
                    in_quotes = true;
                    was_quoted = true;
                    continue;
                }
                let is_escaped = in_quotes
                    && byte == self.escape
                    && bytes.peek().is_some_and(|next| [self.escape, self.quote].contains(next));
                if is_escaped {
                    record.bytes.extend(bytes.next());
                } else if in_quotes && byte == self.quote {
                    in_quotes = false;
                } else {
                    record.push(byte);
                }
            };
            if in_quotes {
                return Err(malformed("unterminated CSV quoted field"));
            }
            let own = record.bytes.get(start..).unwrap_or_default();
            let is_null = !was_quoted && own == self.null;
            record.end_field(start, is_null);
            if ends {
                return Ok(());
            }
        }
    }
}

/// Reads what follows a backslash at `at`; where it goes on then.
fn escape(line: &[u8], at: usize, record: &mut Record) -> usize {
    let rest = line.get(at..).unwrap_or_default();
    let digits = |radix: u32, rest: &[u8], count_max: usize| {
        let of = |byte: &u8| char::from(*byte).to_digit(radix);
        rest.iter().take(count_max).map_while(of).fold((0_u32, 0_usize), |(value, count), digit| {
            (value.wrapping_mul(radix).wrapping_add(digit), count.wrapping_add(1))
        })
    };
    let low = |value: u32| u8::try_from(value & 0xff).unwrap_or_default();
    let (byte, size) = match rest {
        [b'0'..=b'7', ..] => {
            let (value, count) = digits(8, rest, 3);
            (low(value), count)
        }
        [b'x', tail @ ..] => match digits(16, tail, 2) {
            (_, 0) => (b'x', 1),
            (value, count) => (low(value), count.wrapping_add(1)),
        },
        [b'b', ..] => (8, 1),
        [b'f', ..] => (12, 1),
        [b'n', ..] => (b'\n', 1),
        [b'r', ..] => (b'\r', 1),
        [b't', ..] => (b'\t', 1),
        [b'v', ..] => (11, 1),
        [other, ..] => (*other, 1),
        [] => (b'\\', 0),
    };
    record.push(byte);
    at.saturating_add(size)
}

/// Bytes as an error shows them: not too many, and text.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let cut = bytes.get(..SHOWN_SIZE_MAX).unwrap_or(bytes);
    let text = String::from_utf8_lossy(cut);
    if cut.len() < bytes.len() { format!("{text}...") } else { text.into_owned() }
}
