//! Bytes to records: `COPY`'s binary form.
//!
//! ```text
//!  "PGCOPY\n\xff\r\n\0" · flags u32 · size u32 of an extension, and that
//!  each row:  count of fields i16 · each field: size i32 (-1: null) · bytes        end: -1 i16
//! ```

use quipu_types::Reader;

use super::{RECORD_SIZE_MAX, Record, malformed, too_long};
use crate::error::SqlError;

/// What the data begins with.
pub(crate) const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Flags that a reader must know.
const CRITICAL_FLAGS: u32 = 0xffff_0000;
const KEPT_SIZE_MAX: usize = 64 << 10;

/// Reads rows in binary.
#[derive(Debug)]
pub(crate) struct Tuples {
    column_count: usize,
    buffer: Vec<u8>,
    start: usize,
    line: u64,
    has_begun: bool,
    is_over: bool,
}

impl Tuples {
    pub(crate) fn new(column_count: usize) -> Self {
        let buffer = Vec::new();
        Self { column_count, buffer, start: 0, line: 0, has_begun: false, is_over: false }
    }

    /// Takes more bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.start > KEPT_SIZE_MAX || self.start == self.buffer.len() {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The number of the row that was read last, from 1.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// Reads the next row; false when there is none (yet). `at_end`: no more bytes will come.
    pub(crate) fn next(&mut self, at_end: bool, record: &mut Record) -> Result<bool, SqlError> {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        if self.is_over {
            return match rest {
                [] => Ok(false),
                _ => Err(malformed("received copy data after EOF marker")),
            };
        }
        let (mut reader, size) = (Reader::new(rest), rest.len());
        if !self.has_begun {
            let Some(taken) = head(rest)? else { return short(at_end, size) };
            self.has_begun = true;
            self.start = self.start.saturating_add(taken);
            return self.next(at_end, record);
        }
        record.clear();
        let Some(count) = array(&mut reader).map(i16::from_be_bytes) else {
            // PostgreSQL takes an end without its mark, too.
            return if at_end && rest.is_empty() { Ok(false) } else { short(at_end, size) };
        };
        if count == -1 {
            self.start = self.start.saturating_add(2);
            self.is_over = true;
            return self.next(at_end, record);
        }
        if usize::try_from(count).ok() != Some(self.column_count) {
            self.line = self.line.saturating_add(1);
            let wanted = self.column_count;
            return Err(malformed(format!("row field count is {count}, expected {wanted}")));
        }
        let mut taken: usize = 2;
        for _ in 0..count {
            let Some(size_of_field) = array(&mut reader).map(i32::from_be_bytes) else {
                return short(at_end, size);
            };
            taken = taken.saturating_add(4);
            let start = record.mark();
            if size_of_field == -1 {
                record.end_field(start, true);
                continue;
            }
            let Ok(field_size) = usize::try_from(size_of_field) else {
                self.line = self.line.saturating_add(1);
                return Err(malformed("invalid field size"));
            };
            taken = taken.saturating_add(field_size);
            if taken > RECORD_SIZE_MAX {
                return Err(too_long());
            }
            let Ok(bytes) = reader.take(field_size) else { return short(at_end, size) };
            record.bytes.extend_from_slice(bytes);
            record.end_field(start, false);
        }
        self.start = self.start.saturating_add(taken);
        self.line = self.line.saturating_add(1);
        Ok(true)
    }
}

fn array<const N: usize>(reader: &mut Reader<'_>) -> Option<[u8; N]> {
    reader.array().ok()
}

/// What is there is no whole row: more will come, or it never will.
fn short(at_end: bool, size: usize) -> Result<bool, SqlError> {
    match at_end {
        true => Err(malformed("unexpected EOF in COPY data")),
        false if size > RECORD_SIZE_MAX.saturating_mul(2) => Err(too_long()),
        false => Ok(false),
    }
}

/// How many bytes the head has; none when it is not there yet.
fn head(bytes: &[u8]) -> Result<Option<usize>, SqlError> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes.get(..known) != SIGNATURE.get(..known) {
        return Err(malformed("COPY file signature not recognized"));
    }
    let mut reader = Reader::new(bytes.get(known..).unwrap_or_default());
    let Some(flags) = array(&mut reader).map(u32::from_be_bytes) else { return Ok(None) };
    if flags & CRITICAL_FLAGS != 0 {
        return Err(malformed("unrecognized critical flags in COPY file header"));
    }
    let Some(extension) = array(&mut reader).map(u32::from_be_bytes) else { return Ok(None) };
    let size = usize::try_from(extension).ok().filter(|size| *size <= RECORD_SIZE_MAX);
    let size = size.ok_or_else(|| malformed("invalid COPY file header (wrong length)"))?;
    Ok(reader.take(size).ok().map(|_| known.saturating_add(8).saturating_add(size)))
}
