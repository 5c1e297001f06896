//! `COPY … TO STDOUT`: rows to bytes, one message each.

use super::binary::SIGNATURE;
use super::{Forced, Format, Header, Options};
use crate::engine::Rows;
use crate::error::SqlError;
use crate::wire::Encoder;

/// What a client copies out.
#[derive(Debug)]
pub struct CopyOut {
    /// The rows to come.
    pub rows: Rows,
    options: Options,
    /// Of each column: whether its values are quoted though they need not be.
    quoted: Vec<bool>,
    row: Vec<u8>,
}

impl CopyOut {
    pub(crate) fn new(rows: Rows, options: Options) -> Result<Self, SqlError> {
        let columns = rows.columns();
        let quoted = match &options.force_quote {
            Forced::All => vec![true; columns.len()],
            Forced::Named(named) => {
                let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
                Options::places("FORCE_QUOTE", named, &names)?
            }
        };
        Ok(Self { rows, options, quoted, row: Vec::new() })
    }

    /// Whether the data is binary.
    #[must_use]
    pub fn is_binary(&self) -> bool {
        self.options.format == Format::Binary
    }

    /// Writes what comes before the first row; nothing in most formats.
    pub fn begin(&self, out: &mut Vec<u8>) {
        let Options { format, header, .. } = &self.options;
        match (format, header) {
            (Format::Binary, _) => {
                out.extend_from_slice(SIGNATURE);
                out.extend_from_slice(&[0; 8]);
            }
            (_, Header::No) => {}
            _ => {
                let columns = self.rows.columns();
                for (index, column) in columns.iter().enumerate() {
                    let name = Some(column.name.as_bytes());
                    self.field(index, (columns.len() == 1, false), name, out);
                }
                out.push(b'\n');
            }
        }
    }

    /// Writes a row.
    pub fn row(
        &mut self,
        encoder: &mut Encoder,
        row: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), SqlError> {
        if self.is_binary() {
            // A row is written there as on the wire.
            return encoder.row(row, |_| true, out);
        }
        let mut bytes = std::mem::take(&mut self.row);
        bytes.clear();
        encoder.row(row, |_| false, &mut bytes)?;
        let mut rest = bytes.get(2..).unwrap_or_default();
        let is_only = self.rows.columns().len() == 1;
        let mut index: usize = 0;
        while let Some((size, tail)) = rest.split_first_chunk() {
            let size = usize::try_from(i32::from_be_bytes(*size)).ok();
            let (field, tail) = tail.split_at_checked(size.unwrap_or(0)).unwrap_or_default();
            let is_quoted = self.quoted.get(index).copied().unwrap_or(false);
            self.field(index, (is_only, is_quoted), size.map(|_| field), out);
            rest = tail;
            index = index.saturating_add(1);
        }
        out.push(b'\n');
        self.row = bytes;
        Ok(())
    }

    /// Writes what comes after the last row; nothing in most formats.
    pub fn end(&self, out: &mut Vec<u8>) {
        if self.is_binary() {
            out.extend_from_slice(&(-1_i16).to_be_bytes());
        }
    }

    fn field(
        &self,
        index: usize,
        (is_only, is_quoted): (bool, bool),
        field: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) {
        let Options { format, delimiter, null, quote, escape, .. } = &self.options;
        if index > 0 {
            out.push(*delimiter);
        }
        match (field, format) {
            (None, _) => out.extend_from_slice(null.as_bytes()),
            (Some(field), Format::Csv) => {
                let special = [*delimiter, *quote, b'\n', b'\r'];
                let needs_quotes = is_quoted
                    || field == null.as_bytes()
                    || (is_only && field == b"\\.")
                    || field.iter().any(|byte| special.contains(byte));
                if needs_quotes {
                    quoted(field, *quote, *escape, out);
                } else {
                    out.extend_from_slice(field);
                }
            }
            (Some(field), _) => escaped(field, *delimiter, out),
        }
    }
}

fn quoted(field: &[u8], quote: u8, escape: u8, out: &mut Vec<u8>) {
    out.push(quote);
    for byte in field {
        if *byte == quote || *byte == escape {
            out.push(escape);
        }
        out.push(*byte);
    }
    out.push(quote);
}

fn escaped(field: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    for byte in field {
        let letter = match *byte {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            other if other == b'\\' || other == delimiter => other,
            other => {
                out.push(other);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
}
