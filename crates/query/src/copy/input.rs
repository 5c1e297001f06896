//! `COPY … FROM STDIN`: takes bytes as they come, gives rows.

use std::time::Duration;

use quipu_types::program::{Conflict, Expr, Op, Program, ROW_COUNT_MAX, TableRef};
use quipu_types::row::Value;
use quipu_types::table::TableDef;
use quipu_types::transaction::{ACTION_COUNT_MAX, TRANSACTION_SIZE_MAX};
use quipu_types::{Column, ColumnType, Schema, code};

use super::binary::Tuples;
use super::lines::{self, Lines};
use super::{Format, Header, Options, Record, malformed, value};
use crate::dml;
use crate::engine::Write;
use crate::error::SqlError;
use crate::insert::{self, Append};
use crate::table::TableDef as StreamDef;
use crate::transaction::{Act, EVENT_HEAD_SIZE, HEAD_SIZE};

/// Bytes of a constant beside its value's in a row: tags, type.
const VALUE_HEAD_SIZE: usize = 8;
const BATCH_HINT: &str = "COPY less, or SET quipu.copy_batch_rows = 10000: then rows are appended in parts as they \
                          come, and stay if a later one fails";

#[derive(Debug)]
enum Reader {
    Lines(Lines),
    Tuples(Tuples),
}

/// What is copied into, and what its rows look like.
#[derive(Debug)]
pub(crate) struct Sink {
    name: String,
    schema: Schema,
    /// A table, and the numbers of its columns that the schema has; none for a stream.
    table: Option<(TableRef, Vec<u16>)>,
}

impl Sink {
    pub(crate) fn stream(def: &StreamDef) -> Result<Self, SqlError> {
        let name = def.key.strip_prefix("public.").unwrap_or(&def.key);
        Ok(Self::of_stream(name, insert::schema_of(def)?.clone()))
    }

    pub(crate) fn of_stream(name: &str, schema: Schema) -> Self {
        Self { name: name.to_owned(), schema, table: None }
    }

    /// The named columns of a table; all of them when none is named. What they must be is checked with the rows.
    pub(crate) fn table(def: &TableDef, columns: &[String]) -> Result<Self, SqlError> {
        let spec = dml::table_of(def)?;
        let count = u16::try_from(spec.schema.columns().len()).unwrap_or(u16::MAX);
        let mut numbers: Vec<u16> = if columns.is_empty() {
            (0..count).collect()
        } else {
            let numbers = columns.iter().map(|name| dml::column_number(def, spec, name));
            numbers.collect::<Result<_, _>>()?
        };
        numbers.sort_unstable();
        numbers.dedup();
        dml::check_generated(spec, &numbers)?;
        let own = numbers.iter().filter_map(|number| spec.column(*number)).cloned();
        let schema = Schema::new(own.map(|column| Column { nullable: true, ..column }).collect());
        let schema = schema
            .map_err(|error| SqlError::new("42P16", code::SQL_UNSUPPORTED, error.to_string()))?;
        let table = Some((dml::table_ref(def), numbers));
        Ok(Self { name: def.body.name().to_owned(), schema, table })
    }

    /// What writes these rows.
    fn act(&self, rows: Vec<Vec<u8>>) -> Act {
        let Some((table, columns)) = &self.table else {
            return Act::Append(Append { stream: self.name.clone(), rows });
        };
        let kinds: Vec<ColumnType> =
            self.schema.columns().iter().map(|column| column.kind).collect();
        let constants = |row: &Vec<u8>| -> Vec<Expr> {
            let values = self.schema.decode_row(row).expect("a row of this schema was encoded");
            kinds
                .iter()
                .zip(values)
                .map(|(kind, value)| Expr::Const(*kind, value.to_owned()))
                .collect()
        };
        Act::Run(Box::new(Program {
            text: format!("COPY {}", self.name),
            table: *table,
            row_count: None,
            rows_hash: None,
            returns: false,
            parameters: Vec::new(),
            op: Op::Insert {
                columns: columns.clone(),
                rows: rows.iter().map(constants).collect(),
                conflict: Conflict::Fail,
            },
        }))
    }

    /// Rows that one ledger transaction takes.
    const fn row_count_max(&self) -> usize {
        if self.table.is_some() { ROW_COUNT_MAX } else { ACTION_COUNT_MAX }
    }

    /// Bytes of a row in a ledger transaction.
    fn size_of(&self, row: &[u8]) -> usize {
        let more = match self.table {
            Some(_) => self.schema.columns().len().saturating_mul(VALUE_HEAD_SIZE),
            None => self.name.len().saturating_add(EVENT_HEAD_SIZE),
        };
        row.len().saturating_add(more)
    }
}

/// What a client copies into a stream or a table.
#[derive(Debug)]
pub struct CopyIn {
    sink: Sink,
    /// What is to be written before the first row.
    pub before: Option<Box<Write>>,
    /// Where each field goes, as an index into the schema's columns.
    places: Vec<usize>,
    format: Format,
    header: Header,
    null: Vec<u8>,
    /// Of each field: whether an unquoted null is a text, and whether a quoted one is null.
    forced: Vec<(bool, bool)>,
    reader: Reader,
    record: Record,
    rows: Vec<Vec<u8>>,
    size: usize,
    row_count: u64,
    /// Rows of one ledger transaction; none: all go into one.
    batch_row_count: Option<usize>,
    batch_count: u64,
    /// The longest time that it may take.
    pub time_max: Option<Duration>,
}

impl CopyIn {
    pub(crate) fn new(
        sink: Sink,
        columns: &[String],
        options: &Options,
        batch_row_count: Option<usize>,
    ) -> Result<Self, SqlError> {
        let places = places(&sink.schema, &sink.name, columns)?;
        let all = sink.schema.columns();
        let names: Vec<&str> =
            places.iter().filter_map(|place| Some(all.get(*place)?.name.as_str())).collect();
        let texts = Options::places("FORCE_NOT_NULL", &options.force_not_null, &names)?;
        let nulls = Options::places("FORCE_NULL", &options.force_null, &names)?;
        let forced = texts.into_iter().zip(nulls).collect();
        let reader = match options.format {
            Format::Binary => Reader::Tuples(Tuples::new(places.len())),
            Format::Text | Format::Csv => Reader::Lines(Lines::new(options)),
        };
        Ok(Self {
            before: None,
            places,
            format: options.format,
            header: options.header,
            null: options.null.clone().into_bytes(),
            forced,
            reader,
            record: Record::default(),
            rows: Vec::new(),
            size: HEAD_SIZE,
            row_count: 0,
            batch_row_count: batch_row_count.map(|count| count.clamp(1, sink.row_count_max())),
            sink,
            batch_count: 0,
            time_max: None,
        })
    }

    /// Whether the data is binary.
    #[must_use]
    pub fn is_binary(&self) -> bool {
        self.format == Format::Binary
    }

    /// How many fields a record has.
    #[must_use]
    pub fn column_count(&self) -> usize {
        self.places.len()
    }

    /// How many rows there were.
    #[must_use]
    pub fn row_count(&self) -> u64 {
        self.row_count
    }

    /// How many parts were appended before the end.
    #[must_use]
    pub fn batch_count(&self) -> u64 {
        self.batch_count
    }

    /// Takes bytes, to be read by [`CopyIn::advance`].
    pub fn push(&mut self, bytes: &[u8]) {
        match &mut self.reader {
            Reader::Lines(lines) => lines.push(bytes),
            Reader::Tuples(tuples) => tuples.push(bytes),
        }
    }

    /// Reads the records that are there; rows that must be appended before it is called again. `at_end`: no more
    /// bytes will come.
    pub fn advance(&mut self, at_end: bool) -> Result<Option<Write>, SqlError> {
        let mut record = std::mem::take(&mut self.record);
        let advanced = self.advance_with(at_end, &mut record);
        self.record = record;
        advanced
    }

    fn advance_with(
        &mut self,
        at_end: bool,
        record: &mut Record,
    ) -> Result<Option<Write>, SqlError> {
        loop {
            if self.is_full() {
                self.batch_count = self.batch_count.saturating_add(1);
                return Ok(Some(Write::of_statement(vec![self.take()], "COPY")?));
            }
            let read = match &mut self.reader {
                Reader::Lines(lines) => lines.next(at_end, record),
                Reader::Tuples(tuples) => tuples.next(at_end, record),
            };
            if !read.map_err(|error| self.located(error))? {
                return Ok(None);
            }
            if self.header != Header::No {
                let header = std::mem::replace(&mut self.header, Header::No);
                if header == Header::Match {
                    self.match_header(record).map_err(|error| self.located(error))?;
                }
                continue;
            }
            let row = self.row(record)?;
            self.keep(row).map_err(|error| self.located(error))?;
        }
    }

    /// What is left when all was read.
    pub(crate) fn take(&mut self) -> Act {
        self.size = HEAD_SIZE;
        self.sink.act(std::mem::take(&mut self.rows))
    }

    /// Whether rows are written in parts as they come.
    pub(crate) const fn is_batched(&self) -> bool {
        self.batch_row_count.is_some()
    }

    /// Whether rows must be appended before more are read.
    fn is_full(&self) -> bool {
        self.batch_row_count.is_some_and(|most| {
            self.rows.len() >= most
                || self.size > TRANSACTION_SIZE_MAX.saturating_sub(TRANSACTION_SIZE_MAX / 8)
        })
    }

    fn keep(&mut self, row: Vec<u8>) -> Result<(), SqlError> {
        self.size = self.size.saturating_add(self.sink.size_of(&row));
        self.rows.push(row);
        self.row_count = self.row_count.saturating_add(1);
        if self.rows.len() <= self.sink.row_count_max() && self.size <= TRANSACTION_SIZE_MAX {
            return Ok(());
        }
        let message = format!(
            "COPY has more than one ledger transaction takes: {} rows, {TRANSACTION_SIZE_MAX} bytes",
            self.sink.row_count_max()
        );
        Err(SqlError::new("54000", code::SQL_LIMIT, message).hint(BATCH_HINT))
    }

    /// The canonical bytes of a record's row.
    fn row(&self, record: &Record) -> Result<Vec<u8>, SqlError> {
        let columns = self.sink.schema.columns();
        let mut values = vec![Value::Null; columns.len()];
        for (index, place) in self.places.iter().enumerate() {
            let (Some(column), Some(value)) = (columns.get(*place), values.get_mut(*place)) else {
                continue;
            };
            let Some(field) = record.field(index) else {
                let message = format!("missing data for column \"{}\"", column.name);
                return Err(self.located(malformed(message)));
            };
            let Some(bytes) = self.as_forced(index, field) else { continue };
            let read = match self.format {
                Format::Binary => value::from_binary(column, bytes),
                Format::Text | Format::Csv => value::from_text(column, bytes),
            };
            *value = read.map_err(|error| self.located_at(error, column, bytes))?;
        }
        if record.len() > self.places.len() {
            return Err(self.located(malformed("extra data after last expected column")));
        }
        self.sink
            .schema
            .encode_row(&values)
            .map_err(|error| self.located(insert::row_refused(&error, &self.sink.name)))
    }

    /// A field as the client wants its nulls to be read. A field of CSV that looks like null and is none was quoted.
    fn as_forced<'a>(&'a self, index: usize, field: Option<&'a [u8]>) -> Option<&'a [u8]> {
        let (is_text, is_null) = self.forced.get(index).copied().unwrap_or_default();
        match field {
            None if is_text => Some(&self.null),
            Some(field) if is_null && field == self.null => None,
            field => field,
        }
    }

    fn match_header(&self, record: &Record) -> Result<(), SqlError> {
        let (found, wanted) = (record.len(), self.places.len());
        if found != wanted {
            return Err(malformed(format!(
                "wrong number of fields in header line: got {found}, expected {wanted}"
            )));
        }
        let columns = self.sink.schema.columns();
        for (index, place) in self.places.iter().enumerate() {
            let name = columns.get(*place).map_or("", |column| &column.name);
            let number = index.saturating_add(1);
            let begin = format!("column name mismatch in header line field {number}: got");
            match record.field(index).flatten() {
                Some(field) if field == name.as_bytes() => {}
                Some(field) => {
                    let field = lines::shown(field);
                    return Err(malformed(format!("{begin} \"{field}\", expected \"{name}\"")));
                }
                None => {
                    return Err(malformed(format!("{begin} null value, expected \"{name}\"")));
                }
            }
        }
        Ok(())
    }

    /// An error with the record that it is about.
    fn located(&self, mut error: SqlError) -> SqlError {
        let (line, shown) = match &self.reader {
            Reader::Lines(lines) => (lines.line(), lines.shown()),
            Reader::Tuples(tuples) => (tuples.line(), None),
        };
        let shown = shown.map_or(String::new(), |shown| format!(": \"{shown}\""));
        if line > 0 {
            error.more().context = Some(format!("COPY {}, line {line}{shown}", self.sink.name));
        }
        error
    }

    /// An error with the field that it is about.
    fn located_at(&self, mut error: SqlError, column: &Column, bytes: &[u8]) -> SqlError {
        let (stream, name) = (&self.sink.name, &column.name);
        error.more().context = Some(match &self.reader {
            Reader::Lines(lines) => {
                let shown = lines::shown(bytes);
                format!("COPY {stream}, line {}, column {name}: \"{shown}\"", lines.line())
            }
            Reader::Tuples(tuples) => {
                format!("COPY {stream}, line {}, column {name}", tuples.line())
            }
        });
        error
    }
}

/// Where the named columns stand; all of them when none is named.
fn places(schema: &Schema, stream: &str, columns: &[String]) -> Result<Vec<usize>, SqlError> {
    if columns.is_empty() {
        return Ok((0..schema.columns().len()).collect());
    }
    let mut places = Vec::with_capacity(columns.len());
    for name in columns {
        let place = schema.index_of(name).ok_or_else(|| {
            let message = format!("column \"{name}\" of relation \"{stream}\" does not exist");
            SqlError::new("42703", code::SQL_SYNTAX, message)
        })?;
        if places.contains(&place) {
            let message = format!("column \"{name}\" specified more than once");
            return Err(SqlError::new("42701", code::SQL_SYNTAX, message));
        }
        places.push(place);
    }
    Ok(places)
}
