//! `COPY`: many rows in one statement, in PostgreSQL's three formats. Pure: bytes in, rows out, and back.
//!
//! ```text
//!  COPY … FROM STDIN   CopyData ─> Lines | Tuples ─> fields ─> values ─> a row's canonical bytes ─> [`Append`]
//!  COPY … TO STDOUT    batches ─> Encoder ─> fields ─> escaped or quoted ─> CopyData, one a row
//! ```
//! Source: PostgreSQL 15 documentation, SQL command COPY ("File Formats"), and what its server answers.
//!
//! # Invariants
//! * C1 How the input is cut into messages changes nothing.
//! * C2 What `COPY TO` writes of a stream, `COPY FROM` reads back as the same rows, in every format.
//! * C3 All rows of a `COPY FROM` are appended, or none: unless the client set `quipu.copy_batch_rows`.
//! # Limits
//! A record has at most [`RECORD_SIZE_MAX`] bytes. One ledger transaction takes what is copied at once.
//! # Deviations
//! `\.` ends the data where it stands alone on a line only. Refused by name: files and programs of the server, `WHERE`,
//! encodings other than UTF-8, dates and times that are not ISO 8601.
//!
//! [`Append`]: crate::Append

pub(crate) mod binary;
pub(crate) mod input;
pub(crate) mod lines;
pub(crate) mod output;
pub(crate) mod statement;
#[cfg(test)]
mod tests;
pub(crate) mod time;
pub(crate) mod value;

pub use input::CopyIn;
pub(crate) use input::Sink;
pub use output::CopyOut;

use quipu_types::code;

use crate::error::SqlError;

/// Most bytes of one record, as it is sent.
pub(crate) const RECORD_SIZE_MAX: usize = 8 << 20;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Csv,
    Binary,
}

/// Whether the first line has the columns' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    No,
    Yes,
    /// And whether they are compared with the table's.
    Match,
}

/// How rows are written, in every particular.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) format: Format,
    pub(crate) delimiter: u8,
    pub(crate) null: String,
    pub(crate) header: Header,
    pub(crate) quote: u8,
    pub(crate) escape: u8,
    /// Whose values are quoted though they need not be.
    pub(crate) force_quote: Forced,
    /// Whose unquoted nulls are texts.
    pub(crate) force_not_null: Vec<String>,
    /// Whose quoted nulls are nulls.
    pub(crate) force_null: Vec<String>,
}

/// Columns that an option is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Forced {
    All,
    Named(Vec<String>),
}

/// What is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Columns of a table; all of its own when none is named.
    Table { name: Vec<String>, columns: Vec<String> },
    /// The rows of a query.
    Query(String),
}

/// A `COPY` statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) what: What,
    /// From the client.
    pub(crate) is_input: bool,
    pub(crate) options: Options,
}

impl Options {
    /// Which of the columns an option names; a name that is none of them is refused.
    pub(crate) fn places(
        option: &str,
        named: &[String],
        columns: &[&str],
    ) -> Result<Vec<bool>, SqlError> {
        if let Some(name) = named.iter().find(|name| !columns.contains(&name.as_str())) {
            let message = format!("{option} column \"{name}\" not referenced by COPY");
            return Err(SqlError::new("42P10", code::SQL_SYNTAX, message));
        }
        Ok(columns.iter().map(|column| named.iter().any(|name| name == column)).collect())
    }
}

/// The fields of one record, as bytes; none for null.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    bytes: Vec<u8>,
    /// Where each field lies in `bytes`.
    fields: Vec<Option<(usize, usize)>>,
}

impl Record {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
    }

    /// Puts bytes behind those of the field that is being read.
    pub(crate) fn push(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// How many bytes there are: where the next field begins.
    pub(crate) fn mark(&self) -> usize {
        self.bytes.len()
    }

    /// Ends the field that begins at `start`.
    pub(crate) fn end_field(&mut self, start: usize, is_null: bool) {
        let end = self.bytes.len();
        self.fields.push((!is_null).then_some((start, end)));
    }

    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    /// The field of an index, if there is one.
    pub(crate) fn field(&self, index: usize) -> Option<Option<&[u8]>> {
        let field = self.fields.get(index)?;
        Some(field.and_then(|(start, end)| self.bytes.get(start..end)))
    }
}

/// What is no data of this format.
pub(crate) fn malformed(message: impl Into<String>) -> SqlError {
    SqlError::new("22P04", code::BAD_INPUT, message)
}

pub(crate) fn too_long() -> SqlError {
    let message = format!("a record of COPY has more than {RECORD_SIZE_MAX} bytes");
    SqlError::new("54000", code::SQL_LIMIT, message)
}
