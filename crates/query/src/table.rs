//! The columns of a table: of a stream, with its system columns, or of one the store keeps itself.
//!
//! ```text
//!  stream as stored   user columns · _lane _seqno _action _height _time_min _signer _tx _key _order · _time_max
//!  stream as queried  user columns · _lane _seqno _action _height _time_min _time_max _signer _tx _key _order
//! ```
//! * `_time_min` is the time of the header that the transaction names: it was signed after it.
//! * `_time_max` is the time of the header after the transaction's: it was final before it. Null while that
//!   header is not there.
//! * `_order` is how many transactions of the whole ledger come before the event's, all lanes together
//!   (`quipu_proof::order`): `ORDER BY _order, _action` is the order in which the ledger is executed and streams are followed.
//! * `_tx` is what `quipu prove` takes: the transaction's name, and `:ACTION` when it has several actions. As
//!   stored it is `NAME` or `NAME:`, once a transaction.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema as ArrowSchema, SchemaRef};
use arrow::error::ArrowError;
use quipu_types::row::{RowError, ValueRef};
use quipu_types::{Lane, Schema, Seqno, StreamSpec};

use crate::column::{ColumnBuilder, ColumnDef, Kind};

/// Rows after which the growing part of a tail is sealed: what a reader copies at most.
pub(crate) const CHUNK_ROW_COUNT: u64 = 4096;

/// Where a queried column comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// This stored column.
    Plain(usize),
    /// This stored column, its dictionary unfolded.
    Run(usize),
    /// The stream's name.
    Name,
    /// The stored column `tx`, with the action from `action` where it ends in a colon.
    Tx { tx: usize, action: usize },
    /// The stored column `stored` of a batch on disk; in the tail, from the heights in `height`.
    TimeMax { stored: usize, height: usize },
}

/// A table: how it is stored and how it is queried.
#[derive(Debug, PartialEq, Eq)]
pub struct TableDef {
    /// `schema.name`.
    pub(crate) key: String,
    /// As stored, without `_time_max`.
    pub(crate) columns: Vec<ColumnDef>,
    /// As queried.
    pub(crate) schema: SchemaRef,
    /// For each queried column, where it comes from.
    pub(crate) sources: Vec<Source>,
    /// The stream's own schema, if it is a stream.
    pub(crate) stream: Option<Schema>,
    /// Whether it is a compacted stream.
    pub(crate) compacted: bool,
}

impl TableDef {
    /// A table that the store keeps itself.
    pub(crate) fn system(name: &str, columns: Vec<ColumnDef>) -> Self {
        let fields: Vec<Field> =
            columns.iter().map(|column| column.kind.field(&column.name, column.nullable)).collect();
        let sources = columns
            .iter()
            .enumerate()
            .map(|(index, column)| source_of(index, column.kind))
            .collect();
        Self {
            key: format!("quipu.{name}"),
            columns,
            schema: Arc::new(ArrowSchema::new(fields)),
            sources,
            stream: None,
            compacted: false,
        }
    }

    /// The table of a stream.
    pub(crate) fn stream(spec: &StreamSpec) -> Self {
        let StreamSpec { name, schema, compacted, .. } = spec;
        let mut columns: Vec<ColumnDef> = schema.columns().iter().map(ColumnDef::from).collect();
        let base = columns.len();
        let system = [
            ColumnDef::new("_lane", Kind::Int4),
            ColumnDef::new("_seqno", Kind::Int8),
            ColumnDef::new("_action", Kind::Int4),
            ColumnDef::new("_height", Kind::Int8),
            ColumnDef::new("_time_min", Kind::Timestamptz),
            ColumnDef::new("_signer", Kind::Run),
            ColumnDef::new("_tx", Kind::Run),
            ColumnDef::new("_key", Kind::Bytea),
            ColumnDef::new("_order", Kind::Int8),
        ];
        columns.extend(system);
        let at = |place: usize| base.saturating_add(place);
        let mut fields = Vec::new();
        let mut sources = Vec::new();
        for (index, column) in columns.iter().enumerate() {
            if index == at(5) {
                fields.push(Kind::Timestamptz.field("_time_max", true));
                sources.push(Source::TimeMax { stored: at(9), height: at(3) });
            }
            fields.push(column.kind.field(&column.name, column.nullable));
            sources.push(if index == at(6) {
                Source::Tx { tx: at(6), action: at(2) }
            } else {
                source_of(index, column.kind)
            });
        }
        Self {
            key: format!("public.{name}"),
            columns,
            schema: Arc::new(ArrowSchema::new(fields)),
            sources,
            stream: Some(schema.clone()),
            compacted: *compacted,
        }
    }

    /// The same rows as `quipu.events` shows them: the stream's name and the system columns.
    pub(crate) fn events(&self) -> Option<Self> {
        let base = self.stream.as_ref()?.columns().len();
        let mut sources = vec![Source::Name];
        sources.extend(self.sources.get(base..)?);
        Some(Self {
            key: self.key.clone(),
            columns: self.columns.clone(),
            schema: events_schema(),
            sources,
            stream: self.stream.clone(),
            compacted: self.compacted,
        })
    }

    /// The stored `_height`'s place, if it is a stream.
    pub(crate) fn height_column(&self) -> Option<usize> {
        self.stream.as_ref().map(|schema| schema.columns().len().saturating_add(3))
    }

    /// The schema of a chunk in the tail.
    fn chunk_schema(&self) -> SchemaRef {
        let fields: Vec<Field> = self
            .columns
            .iter()
            .map(|column| Field::new(&column.name, column.kind.stored_type(), true))
            .collect();
        Arc::new(ArrowSchema::new(fields))
    }
}

/// The columns of `quipu.events`.
pub(crate) fn events_schema() -> SchemaRef {
    let fields = [
        Kind::Text.field("stream", false),
        Kind::Int4.field("_lane", false),
        Kind::Int8.field("_seqno", false),
        Kind::Int4.field("_action", false),
        Kind::Int8.field("_height", false),
        Kind::Timestamptz.field("_time_min", false),
        Kind::Timestamptz.field("_time_max", true),
        Kind::Text.field("_signer", false),
        Kind::Text.field("_tx", false),
        Kind::Bytea.field("_key", false),
        Kind::Int8.field("_order", false),
    ];
    Arc::new(ArrowSchema::new(fields.to_vec()))
}

fn source_of(index: usize, kind: Kind) -> Source {
    match kind {
        Kind::Run => Source::Run(index),
        _ => Source::Plain(index),
    }
}

/// What an event's system columns say besides the row itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventPlace<'a> {
    pub(crate) lane: Lane,
    pub(crate) seqno: Seqno,
    pub(crate) action: u32,
    pub(crate) height: i64,
    pub(crate) time_min_us: i64,
    pub(crate) signer: &'a str,
    /// The name, with a colon at its end when the transaction has several actions.
    pub(crate) tx: &'a str,
    pub(crate) key: &'a [u8],
    pub(crate) order: i64,
}

/// The tail of a table: sealed chunks, and builders that grow.
#[derive(Debug)]
pub(crate) struct Tail {
    schema: SchemaRef,
    builders: Vec<ColumnBuilder>,
    /// Rows in the builders.
    growing: u64,
    /// The transaction of the last row in the builders.
    last: Option<(Lane, Seqno)>,
    pub(crate) chunks: Vec<RecordBatch>,
    /// Rows in chunks and builders.
    pub(crate) rows: u64,
}

impl Tail {
    pub(crate) fn new(def: &TableDef) -> Self {
        Self {
            schema: def.chunk_schema(),
            builders: def.columns.iter().map(|column| ColumnBuilder::new(column.kind)).collect(),
            growing: 0,
            last: None,
            chunks: Vec::new(),
            rows: 0,
        }
    }

    /// Appends an event; its row must be one of the stream's schema.
    pub(crate) fn push_event(
        &mut self,
        schema: &Schema,
        row: &[u8],
        place: &EventPlace<'_>,
    ) -> Result<(), RowError> {
        let (user, system) = self
            .builders
            .split_at_mut_checked(schema.columns().len())
            .expect("a stream's table has its columns first");
        let mut columns = user.iter_mut();
        schema.walk_row(row, |_, value| {
            if let Some(column) = columns.next() {
                column.append(value);
            }
        })?;
        let again = self.last == Some((place.lane, place.seqno));
        let values = [
            ValueRef::Int4(i32::from(place.lane.get())),
            ValueRef::Int8(signed(place.seqno.get())),
            ValueRef::Int4(i32::try_from(place.action).unwrap_or(i32::MAX)),
            ValueRef::Int8(place.height),
            ValueRef::Timestamptz(place.time_min_us),
            ValueRef::Text(place.signer),
            ValueRef::Text(place.tx),
            ValueRef::Bytea(place.key),
            ValueRef::Int8(place.order),
        ];
        for (builder, value) in system.iter_mut().zip(values) {
            match builder {
                ColumnBuilder::Run(run) if again => run.repeat(),
                builder => builder.append(value),
            }
        }
        self.last = Some((place.lane, place.seqno));
        self.count_row();
        Ok(())
    }

    /// Appends a row of a system table.
    pub(crate) fn push(&mut self, values: &[ValueRef<'_>]) {
        debug_assert_eq!(values.len(), self.builders.len(), "one value a column");
        for (builder, value) in self.builders.iter_mut().zip(values) {
            builder.append(*value);
        }
        self.count_row();
    }

    fn count_row(&mut self) {
        self.growing = self.growing.saturating_add(1);
        self.rows = self.rows.saturating_add(1);
    }

    /// Seals the builders when they hold a chunk's rows.
    pub(crate) fn seal_if_full(&mut self) -> Result<(), ArrowError> {
        if self.growing >= CHUNK_ROW_COUNT { self.seal() } else { Ok(()) }
    }

    /// Seals the builders.
    pub(crate) fn seal(&mut self) -> Result<(), ArrowError> {
        if self.growing == 0 {
            return Ok(());
        }
        let columns = self
            .builders
            .iter_mut()
            .map(ColumnBuilder::finish)
            .collect::<Result<Vec<ArrayRef>, _>>()?;
        self.chunks.push(RecordBatch::try_new(Arc::clone(&self.schema), columns)?);
        self.growing = 0;
        self.last = None;
        Ok(())
    }

    /// Every row of the tail, as chunks.
    pub(crate) fn snapshot(&self) -> Result<Vec<RecordBatch>, ArrowError> {
        let mut chunks = self.chunks.clone();
        if self.growing > 0 {
            let columns = self
                .builders
                .iter()
                .map(ColumnBuilder::snapshot)
                .collect::<Result<Vec<ArrayRef>, _>>()?;
            chunks.push(RecordBatch::try_new(Arc::clone(&self.schema), columns)?);
        }
        Ok(chunks)
    }

    /// The sealed rows as one batch.
    pub(crate) fn concat(&self) -> Result<RecordBatch, ArrowError> {
        arrow::compute::concat_batches(&self.schema, &self.chunks)
    }

    /// Puts `kept` in the place of every sealed row.
    pub(crate) fn keep(&mut self, kept: Option<RecordBatch>) {
        self.rows = kept.as_ref().map_or(0, |batch| {
            u64::try_from(batch.num_rows()).expect("a batch's rows fit 64 bits")
        });
        self.chunks = kept.into_iter().collect();
    }
}

/// A counter as SQL's bigint has it.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
