//! The column store: what the executor has applied, as columns, on disk and in a bounded tail.
//!
//! ```text
//!  ingest(h) ─ apply actions ─> tails ──(65,536 rows or 32 MiB)──> batches on disk, manifest(watermark h−1)
//!                                 └──────── view(): Arc snapshot of height h ────────┘
//! ```
//! # Invariants
//! * S1 Heights are ingested in order, each once; one at or below the watermark is ignored.
//! * S2 A [`ReadView`] holds exactly the rows of the heights up to its own.
//! * S3 After a crash the store holds exactly the rows up to [`ColumnStore::watermark`]; heights after it are
//!   fed again.
//! * S4 Only applied transactions give events; refused ones stand in `quipu.transactions` with their code.
//!
//! The newest height's rows always stay in the tail: their `_time_max` is not known yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{ArrayRef, AsArray as _, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::error::ArrowError;
use quipu_proof::order::transaction_count;
use quipu_types::row::{RowError, ValueRef};
use quipu_types::transaction::{RouteRule, StreamSpec, Writers};
use quipu_types::{
    AccountId, Action, Decode as _, Encode as _, Hash, Header, Height, Lane, Outcome, Position,
    Receipt, Seqno, Tip, Transaction,
};
use thiserror::Error;

use crate::column::{ColumnDef, Kind};
use crate::file::{self, Finding, Manifest, StoredBatch};
use crate::table::{EventPlace, TableDef, Tail, signed};

/// Rows in all tails beyond which they are written to disk.
const TAIL_ROW_COUNT_MAX: u64 = 65_536;
/// Bytes in all tails beyond which they are written to disk.
const TAIL_SIZE_MAX: usize = 32 << 20;
/// What a row costs beside its payload, about.
const ROW_OVERHEAD_SIZE: usize = 96;

const HEADERS: &str = "quipu.headers";
const TRANSACTIONS: &str = "quipu.transactions";
const TERMS: &str = "quipu.terms";
const STREAMS: &str = "quipu.streams";

/// A height that has been executed.
#[derive(Clone, Copy, Debug)]
pub struct IngestBlock<'a> {
    /// Its number.
    pub height: Height,
    /// Its header.
    pub header: &'a Header,
    /// The header's hash.
    pub header_hash: Hash,
    /// The header's time, in microseconds since 1970-01-01T00:00:00Z.
    pub time_us: u64,
    /// Its transactions, in the ledger's order.
    pub transactions: &'a [IngestTx<'a>],
}

/// A stream that was created before the first height that a store is fed.
#[derive(Clone, Copy, Debug)]
pub struct BegunStream<'a> {
    /// What it is.
    pub spec: &'a StreamSpec,
    /// The account of who created it.
    pub creator: AccountId,
    /// The creating transaction's place.
    pub position: Position,
    /// And its height.
    pub height: Height,
}

/// A transaction of an executed height.
#[derive(Clone, Copy, Debug)]
pub struct IngestTx<'a> {
    /// Its lane.
    pub lane: Lane,
    /// Its number in the lane.
    pub seqno: Seqno,
    /// Its name.
    pub tx: Hash,
    /// Itself.
    pub transaction: &'a Transaction,
    /// What became of it.
    pub receipt: &'a Receipt,
    /// The time of the header that its anchor names (the genesis' for the chain id).
    pub not_before_us: u64,
}

/// Why the store can not do what it was asked.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Arc<std::io::Error>,
    },
    /// Stored bytes are not what was written.
    #[error("{} at byte {offset}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// A height came out of order.
    #[error("height {found} was ingested after height {last}")]
    OutOfOrder {
        /// The height that came.
        found: Height,
        /// The newest before it.
        last: Height,
    },
    /// An applied transaction appends to a stream that the store never saw created.
    #[error("height {height} appends to stream {stream:?}, which does not exist")]
    NoStream {
        /// The stream.
        stream: String,
        /// The height.
        height: Height,
    },
    /// An applied event is no row of its stream.
    #[error("stream {stream:?}: {source}")]
    Row {
        /// The stream.
        stream: String,
        /// Why not.
        source: RowError,
    },
    /// Rows of a stream are not here.
    #[error(
        "stream \"{stream}\": its rows up to height {missing} are not here, since this ledger's log begins after it"
    )]
    Partial {
        /// The stream.
        stream: String,
        /// The last height of which none are here.
        missing: Height,
    },
    /// Arrow refused.
    #[error("columns: {0}")]
    Arrow(Arc<ArrowError>),
}

impl StoreError {
    pub(crate) fn io(path: &Path, error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            return Self::damaged(path, 0, "the file ends too early");
        }
        Self::Io { path: path.to_owned(), source: Arc::new(error) }
    }

    pub(crate) fn damaged(path: &Path, offset: u64, what: &str) -> Self {
        Self::Damaged { path: path.to_owned(), offset, what: what.to_owned() }
    }
}

impl From<ArrowError> for StoreError {
    fn from(error: ArrowError) -> Self {
        Self::Arrow(Arc::new(error))
    }
}

/// The store. Clones share it.
#[derive(Clone, Debug)]
pub struct ColumnStore {
    folder: Arc<PathBuf>,
    inner: Arc<Mutex<Inner>>,
}

/// Every table at one height.
#[derive(Clone, Debug)]
pub struct ReadView {
    pub(crate) height: Height,
    pub(crate) folder: Arc<PathBuf>,
    pub(crate) tables: BTreeMap<String, Arc<TableView>>,
    /// Times of the headers from `times_from` on.
    pub(crate) times: Arc<Vec<i64>>,
    pub(crate) times_from: Height,
    pub(crate) cut: Arc<Vec<Tip>>,
}

/// One table at one height.
#[derive(Clone, Debug)]
pub(crate) struct TableView {
    pub(crate) def: Arc<TableDef>,
    pub(crate) stored: Arc<Vec<StoredBatch>>,
    pub(crate) chunks: Vec<RecordBatch>,
    pub(crate) rows: u64,
    /// The stream's rows up to this height are not here, if it had some.
    pub(crate) missing: Option<Height>,
}

impl ReadView {
    /// The height.
    #[must_use]
    pub fn height(&self) -> Height {
        self.height
    }
}

#[derive(Debug)]
struct Table {
    def: Arc<TableDef>,
    tail: Tail,
    stored: Arc<Vec<StoredBatch>>,
    stored_rows: u64,
    file_size: u64,
    /// Rows of the newest height.
    fresh: u64,
    missing: Option<Height>,
    /// Its part of the last view, if nothing came since.
    view: Option<Arc<TableView>>,
}

/// Where a stream was created, and by whom.
struct StreamPlace<'a> {
    lane: Lane,
    seqno: Seqno,
    height: Height,
    /// Empty where it is not known any more.
    tx: &'a str,
    /// The key, or the account where no more is known.
    signer: &'a str,
}

#[derive(Debug)]
struct Inner {
    tables: BTreeMap<String, Table>,
    watermark: Height,
    last: Height,
    /// Rows of the heights up to this one were never here.
    missing: Height,
    /// Times of the headers after the watermark.
    times: Vec<i64>,
    cut: Arc<Vec<Tip>>,
    terms: BTreeMap<Lane, u64>,
    tail_size: usize,
    /// Tables that the newest height touched.
    touched: Vec<String>,
    view: Option<Arc<ReadView>>,
}

impl ColumnStore {
    /// Opens the store in `folder`, or begins one there.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when stored bytes are not what was written: [`ColumnStore::wipe`] and feed again.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let manifest = file::read_manifest(folder)?.unwrap_or_default();
        file::settle(folder, &manifest)?;
        let mut inner = Inner::new(manifest.watermark, manifest.missing);
        for def in system_tables() {
            inner.open_table(folder, &manifest, def)?;
        }
        for spec in inner.stored_specs(folder)? {
            inner.open_table(folder, &manifest, TableDef::stream(&spec))?;
        }
        inner.read_terms(folder)?;
        inner.mark_missing(folder)?;
        Ok(Self { folder: Arc::new(folder.to_owned()), inner: Arc::new(Mutex::new(inner)) })
    }

    /// Begins a store that is fed from the height after `after` on, where there is none: `streams` are those that there were.
    pub fn begin(
        folder: &Path,
        after: Height,
        streams: &[BegunStream<'_>],
    ) -> Result<Self, StoreError> {
        let manifest = Manifest::default();
        file::settle(folder, &manifest)?;
        let mut inner = Inner::new(after, after);
        for def in system_tables() {
            inner.open_table(folder, &manifest, def)?;
        }
        for stream in streams {
            inner.push_begun(stream);
        }
        inner.write_begun(folder)?;
        Self::open(folder)
    }

    /// Removes everything stored in `folder`.
    pub fn wipe(folder: &Path) -> Result<(), StoreError> {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::io(folder, error))
            }
            _ => Ok(()),
        }
    }

    /// Verifies every stored byte of a store that no one writes.
    #[must_use]
    pub fn check(folder: &Path) -> Vec<Finding> {
        file::check(folder)
    }

    /// The height up to which everything is on disk: heights after it must be fed again after a restart.
    #[must_use]
    pub fn watermark(&self) -> Height {
        self.lock().watermark
    }

    /// The newest height that was ingested.
    #[must_use]
    pub fn height(&self) -> Height {
        self.lock().last
    }

    /// Takes in an executed height; queries that begin after the return see it.
    ///
    /// # Errors
    /// The store is not to be used after one: open it again.
    pub fn ingest(&self, block: &IngestBlock<'_>) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if block.height <= inner.last {
            return Ok(());
        }
        if block.height != inner.last.next() {
            return Err(StoreError::OutOfOrder { found: block.height, last: inner.last });
        }
        inner.times.push(signed(block.time_us));
        if inner.is_full() {
            inner.flush(&self.folder)?;
        }
        inner.begin_height();
        inner.push_header(block);
        let count = u64::try_from(block.transactions.len()).unwrap_or(u64::MAX);
        // The height's transactions are the last up to its cut.
        let first = transaction_count(&block.header.cut).saturating_sub(count);
        for (order, transaction) in (first..).zip(block.transactions) {
            inner.push_transaction(block, transaction, order)?;
        }
        inner.last = block.height;
        inner.cut = Arc::new(block.header.cut.clone());
        Ok(())
    }

    /// Writes every tail to disk but the newest height's rows.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.lock().flush(&self.folder)
    }

    /// Every table at the newest height.
    pub fn view(&self) -> Result<Arc<ReadView>, StoreError> {
        self.lock().view(&self.folder)
    }

    /// The definition of a table, by `schema.name`.
    pub(crate) fn table(&self, key: &str) -> Option<Arc<TableDef>> {
        self.lock().tables.get(key).map(|table| Arc::clone(&table.def))
    }

    /// The tables whose key begins with `prefix`, without it.
    pub(crate) fn table_names(&self, prefix: &str) -> Vec<String> {
        self.lock()
            .tables
            .keys()
            .filter_map(|key| key.strip_prefix(prefix))
            .map(str::to_owned)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic in between leaves tails that the next ingest refuses or a query reads as they are.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn system_tables() -> [TableDef; 4] {
    let column = ColumnDef::new;
    let maybe = ColumnDef::nullable;
    [
        TableDef::system(
            "headers",
            vec![
                column("height", Kind::Int8),
                column("hash", Kind::Text),
                column("prev_hash", Kind::Text),
                column("epoch", Kind::Int8),
                column("proposer", Kind::Int4),
                column("time", Kind::Timestamptz),
                column("transactions", Kind::Int8),
            ],
        ),
        TableDef::system(
            "transactions",
            vec![
                column("lane", Kind::Int4),
                column("seqno", Kind::Int8),
                column("height", Kind::Int8),
                column("tx", Kind::Text),
                column("signer", Kind::Run),
                column("incarnation", Kind::Int8),
                column("sequence", Kind::Int8),
                column("anchor", Kind::Run),
                maybe("route", Kind::Bytea),
                column("action_count", Kind::Int4),
                column("time_min", Kind::Timestamptz),
                column("time", Kind::Timestamptz),
                column("fee", Kind::Int8),
                column("outcome", Kind::Run),
                maybe("code", Kind::Text),
                maybe("action", Kind::Int4),
            ],
        ),
        TableDef::system(
            "terms",
            vec![
                column("lane", Kind::Int4),
                column("term", Kind::Int8),
                column("height", Kind::Int8),
                column("time", Kind::Timestamptz),
            ],
        ),
        TableDef::system(
            "streams",
            vec![
                column("name", Kind::Text),
                column("columns", Kind::Text),
                column("route", Kind::Text),
                column("writers", Kind::Text),
                column("creator", Kind::Text),
                column("lane", Kind::Int4),
                column("seqno", Kind::Int8),
                column("height", Kind::Int8),
                column("tx", Kind::Text),
                column("spec", Kind::Bytea),
            ],
        ),
    ]
}

impl Inner {
    fn new(watermark: Height, missing: Height) -> Self {
        Self {
            tables: BTreeMap::new(),
            missing,
            watermark,
            last: watermark,
            times: Vec::new(),
            cut: Arc::new(Vec::new()),
            terms: BTreeMap::new(),
            tail_size: 0,
            touched: Vec::new(),
            view: None,
        }
    }

    fn open_table(
        &mut self,
        folder: &Path,
        manifest: &Manifest,
        def: TableDef,
    ) -> Result<(), StoreError> {
        let size =
            manifest.files.iter().find(|(name, _)| *name == def.key).map_or(0, |file| file.1);
        let stored = match size {
            0 => Vec::new(),
            size => file::read_batches(&file::path_of(folder, &def.key), size)?,
        };
        self.add_table(def, stored, size);
        Ok(())
    }

    fn add_table(&mut self, def: TableDef, stored: Vec<StoredBatch>, file_size: u64) {
        let table = Table {
            tail: Tail::new(&def),
            stored_rows: stored.iter().map(|batch| batch.rows).sum(),
            stored: Arc::new(stored),
            file_size,
            fresh: 0,
            missing: None,
            view: None,
            def: Arc::new(def),
        };
        self.tables.insert(table.def.key.clone(), table);
    }

    fn stored_column(
        &self,
        folder: &Path,
        key: &str,
        name: &str,
    ) -> Result<Vec<ArrayRef>, StoreError> {
        let Some(table) = self.tables.get(key) else { return Ok(Vec::new()) };
        let Some(column) = table.def.columns.iter().position(|column| column.name == name) else {
            return Ok(Vec::new());
        };
        let path = file::path_of(folder, key);
        table.stored.iter().map(|batch| file::read_column(&path, batch, column)).collect()
    }

    fn stored_specs(&self, folder: &Path) -> Result<Vec<StreamSpec>, StoreError> {
        let mut specs = Vec::new();
        for array in self.stored_column(folder, STREAMS, "spec")? {
            for bytes in array.as_binary::<i32>().iter().flatten() {
                let spec = StreamSpec::from_bytes(bytes).map_err(|error| {
                    StoreError::damaged(&file::path_of(folder, STREAMS), 0, &error.to_string())
                })?;
                specs.push(spec);
            }
        }
        Ok(specs)
    }

    fn read_terms(&mut self, folder: &Path) -> Result<(), StoreError> {
        let lanes = self.stored_column(folder, TERMS, "lane")?;
        let terms = self.stored_column(folder, TERMS, "term")?;
        for (lanes, terms) in lanes.iter().zip(&terms) {
            let lanes = lanes.as_primitive::<Int32Type>();
            let terms = terms.as_primitive::<Int64Type>();
            for (lane, term) in lanes.iter().flatten().zip(terms.iter().flatten()) {
                let lane = u16::try_from(lane).unwrap_or_default();
                self.terms.insert(Lane::new(lane), u64::try_from(term).unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Marks the streams that were there before the first height that came.
    fn mark_missing(&mut self, folder: &Path) -> Result<(), StoreError> {
        let names = self.stored_column(folder, STREAMS, "name")?;
        let heights = self.stored_column(folder, STREAMS, "height")?;
        for (names, heights) in names.iter().zip(&heights) {
            let heights = heights.as_primitive::<Int64Type>();
            for (name, height) in
                names.as_string::<i32>().iter().flatten().zip(heights.iter().flatten())
            {
                let table = self.tables.get_mut(&format!("public.{name}"));
                if let Some(table) = table.filter(|_| height <= signed(self.missing.get())) {
                    table.missing = Some(self.missing);
                }
            }
        }
        Ok(())
    }

    fn push_begun(&mut self, stream: &BegunStream<'_>) {
        let BegunStream { spec, creator, position, height } = *stream;
        let place = StreamPlace {
            lane: position.lane,
            seqno: position.seqno,
            height,
            tx: "",
            signer: &creator.to_string(),
        };
        self.push_stream(spec, place);
    }

    /// Writes what a store begins with.
    fn write_begun(&mut self, folder: &Path) -> Result<(), StoreError> {
        let heights = (Height::new(1), self.missing);
        let mut files = Vec::new();
        for table in self.tables.values_mut().filter(|table| table.tail.rows > 0) {
            table.write(folder, 0, heights, &[], self.missing.next())?;
            files.push((table.def.key.clone(), table.file_size));
        }
        let manifest = Manifest { watermark: self.missing, files, missing: self.missing };
        file::write_manifest(folder, &manifest)
    }

    fn is_full(&self) -> bool {
        let rows: u64 = self.tables.values().map(|table| table.tail.rows).sum();
        rows > TAIL_ROW_COUNT_MAX || self.tail_size > TAIL_SIZE_MAX
    }

    fn begin_height(&mut self) {
        for key in std::mem::take(&mut self.touched) {
            if let Some(table) = self.tables.get_mut(&key) {
                table.fresh = 0;
            }
        }
        self.view = None;
    }

    /// The table, with `rows` more counted to the newest height.
    fn touch(&mut self, key: &str, rows: usize) -> Option<&mut Table> {
        let table = self.tables.get_mut(key)?;
        if table.fresh == 0 {
            self.touched.push(key.to_owned());
        }
        table.fresh = table.fresh.saturating_add(u64::try_from(rows).unwrap_or(u64::MAX));
        table.view = None;
        self.tail_size = self.tail_size.saturating_add(ROW_OVERHEAD_SIZE.saturating_mul(rows));
        Some(table)
    }

    fn push_system(&mut self, key: &str, values: &[ValueRef<'_>]) {
        let table = self.touch(key, 1).expect("system tables are always there");
        table.tail.push(values);
        table.tail.seal_if_full().expect("push gives every column one value a row");
    }

    fn push_header(&mut self, block: &IngestBlock<'_>) {
        let header = block.header;
        let count = block.transactions.len();
        self.push_system(
            HEADERS,
            &[
                ValueRef::Int8(signed(block.height.get())),
                ValueRef::Text(&block.header_hash.to_string()),
                ValueRef::Text(&header.prev_header.to_string()),
                ValueRef::Int8(signed(header.epoch)),
                ValueRef::Int4(i32::from(header.proposer.get())),
                ValueRef::Timestamptz(signed(block.time_us)),
                ValueRef::Int8(i64::try_from(count).unwrap_or(i64::MAX)),
            ],
        );
        let begun = header.cut.iter().filter(|tip| tip.index > 0).map(|tip| (tip.lane, tip.term));
        let changed = header.term_changes.iter().copied();
        for (lane, term) in begun.chain(changed) {
            if self.terms.get(&lane).is_some_and(|known| *known >= term.get()) {
                continue;
            }
            self.terms.insert(lane, term.get());
            self.push_system(
                TERMS,
                &[
                    ValueRef::Int4(i32::from(lane.get())),
                    ValueRef::Int8(signed(term.get())),
                    ValueRef::Int8(signed(block.height.get())),
                    ValueRef::Timestamptz(signed(block.time_us)),
                ],
            );
        }
    }

    fn push_transaction(
        &mut self,
        block: &IngestBlock<'_>,
        ingest: &IngestTx<'_>,
        order: u64,
    ) -> Result<(), StoreError> {
        let transaction = ingest.transaction;
        let signer = transaction.signer.to_string();
        let mut tx = ingest.tx.to_string();
        self.push_transaction_row(block, ingest, &signer, &tx);
        if ingest.receipt.outcome != Outcome::Applied {
            return Ok(());
        }
        for action in &transaction.actions {
            if let Action::CreateStream(spec) = action {
                let (lane, seqno, height) = (ingest.lane, ingest.seqno, block.height);
                let place = StreamPlace { lane, seqno, height, tx: &tx, signer: &signer };
                self.push_stream(spec, place);
            }
        }
        if transaction.actions.len() > 1 {
            tx.push(':');
        }
        let place = EventPlace {
            lane: ingest.lane,
            seqno: ingest.seqno,
            action: 0,
            height: signed(block.height.get()),
            time_min_us: signed(ingest.not_before_us),
            signer: &signer,
            tx: &tx,
            key: &[],
            order: signed(order),
        };
        self.push_events(block.height, &transaction.actions, place)
    }

    fn push_events<'a>(
        &mut self,
        height: Height,
        actions: &'a [Action],
        mut place: EventPlace<'a>,
    ) -> Result<(), StoreError> {
        let mut rest: &'a [Action] = actions;
        while let Some(name) = rest.first() {
            // Neighbours mostly go to one stream: it is looked up once for all of them.
            let run = rest.iter().take_while(|action| stream_of(action) == stream_of(name)).count();
            let (events, after) = rest.split_at(run);
            rest = after;
            if let Some(stream) = stream_of(name) {
                self.push_run(height, stream, events, &mut place)?;
            } else {
                place.action = place.action.saturating_add(u32::try_from(run).unwrap_or(u32::MAX));
            }
        }
        Ok(())
    }

    /// Events of one stream, the first of which has the action `place.action`.
    fn push_run<'a>(
        &mut self,
        height: Height,
        stream: &str,
        events: &'a [Action],
        place: &mut EventPlace<'a>,
    ) -> Result<(), StoreError> {
        let no_stream = || StoreError::NoStream { stream: stream.to_owned(), height };
        let table = self.touch(&format!("public.{stream}"), events.len()).ok_or_else(no_stream)?;
        let def = Arc::clone(&table.def);
        let schema = def.stream.as_ref().ok_or_else(no_stream)?;
        let mut size = 0_usize;
        for action in events {
            let Action::Append { key, payload, .. } = action else { continue };
            place.key = key;
            table
                .tail
                .push_event(schema, payload, place)
                .map_err(|source| StoreError::Row { stream: stream.to_owned(), source })?;
            table.tail.seal_if_full()?;
            size = size.saturating_add(payload.len());
            place.action = place.action.saturating_add(1);
        }
        self.tail_size = self.tail_size.saturating_add(size);
        Ok(())
    }

    fn push_transaction_row(
        &mut self,
        block: &IngestBlock<'_>,
        ingest: &IngestTx<'_>,
        signer: &str,
        tx: &str,
    ) {
        let transaction = ingest.transaction;
        let (outcome, code, action) = match ingest.receipt.outcome {
            Outcome::Applied => ("applied", None, None),
            Outcome::Refused { code, action } => ("refused", Some(code.to_string()), action),
        };
        let count = i32::try_from(transaction.actions.len()).unwrap_or(i32::MAX);
        let action = action.map(|action| i32::try_from(action).unwrap_or(i32::MAX));
        self.push_system(
            TRANSACTIONS,
            &[
                ValueRef::Int4(i32::from(ingest.lane.get())),
                ValueRef::Int8(signed(ingest.seqno.get())),
                ValueRef::Int8(signed(block.height.get())),
                ValueRef::Text(tx),
                ValueRef::Text(signer),
                ValueRef::Int8(i64::from(transaction.incarnation)),
                ValueRef::Int8(signed(transaction.sequence)),
                ValueRef::Text(&transaction.anchor.to_string()),
                transaction.route.as_deref().map_or(ValueRef::Null, ValueRef::Bytea),
                ValueRef::Int4(count),
                ValueRef::Timestamptz(signed(ingest.not_before_us)),
                ValueRef::Timestamptz(signed(block.time_us)),
                ValueRef::Int8(signed(ingest.receipt.fee)),
                ValueRef::Text(outcome),
                code.as_deref().map_or(ValueRef::Null, ValueRef::Text),
                action.map_or(ValueRef::Null, ValueRef::Int4),
            ],
        );
        self.tail_size = self.tail_size.saturating_add(256);
    }

    fn push_stream(&mut self, spec: &StreamSpec, place: StreamPlace<'_>) {
        let route = match &spec.route {
            RouteRule::Signer => "signer".to_owned(),
            RouteRule::Column(column) => format!("column {column}"),
        };
        let writers = match &spec.writers {
            Writers::Creator => "creator".to_owned(),
            Writers::Anyone => "anyone".to_owned(),
            Writers::Accounts(accounts) => {
                accounts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            }
        };
        self.push_system(
            STREAMS,
            &[
                ValueRef::Text(&spec.name),
                ValueRef::Text(&spec.schema.to_string()),
                ValueRef::Text(&route),
                ValueRef::Text(&writers),
                ValueRef::Text(place.signer),
                ValueRef::Int4(i32::from(place.lane.get())),
                ValueRef::Int8(signed(place.seqno.get())),
                ValueRef::Int8(signed(place.height.get())),
                ValueRef::Text(place.tx),
                ValueRef::Bytea(&spec.to_bytes()),
            ],
        );
        self.add_table(TableDef::stream(spec), Vec::new(), 0);
    }

    /// Writes every tail up to the height before the newest.
    fn flush(&mut self, folder: &Path) -> Result<(), StoreError> {
        // During ingest the newest header's time is there already, and every row's height is before it.
        let count = u64::try_from(self.times.len()).expect("a count fits 64 bits");
        let timed = self.watermark.get().saturating_add(count);
        let watermark = Height::new(timed.saturating_sub(1));
        if watermark <= self.watermark {
            return Ok(());
        }
        let keeps_newest = watermark < self.last;
        let heights = (self.watermark.next(), watermark);
        for table in self.tables.values_mut() {
            let kept = if keeps_newest { table.fresh } else { 0 };
            if table.tail.rows > kept {
                table.write(folder, kept, heights, &self.times, self.watermark.next())?;
            }
        }
        let files = self
            .tables
            .values()
            .filter(|table| table.file_size > 0)
            .map(|table| (table.def.key.clone(), table.file_size))
            .collect();
        file::write_manifest(folder, &Manifest { watermark, files, missing: self.missing })?;
        let done = watermark.get().saturating_sub(self.watermark.get());
        self.times.drain(..usize::try_from(done).unwrap_or(usize::MAX).min(self.times.len()));
        self.watermark = watermark;
        self.tail_size = 0;
        self.view = None;
        Ok(())
    }

    fn view(&mut self, folder: &Arc<PathBuf>) -> Result<Arc<ReadView>, StoreError> {
        if let Some(view) = &self.view {
            return Ok(Arc::clone(view));
        }
        let mut tables = BTreeMap::new();
        for (key, table) in &mut self.tables {
            tables.insert(key.clone(), table.view()?);
        }
        let view = Arc::new(ReadView {
            height: self.last,
            folder: Arc::clone(folder),
            tables,
            times: Arc::new(self.times.clone()),
            times_from: self.watermark.next(),
            cut: Arc::clone(&self.cut),
        });
        self.view = Some(Arc::clone(&view));
        Ok(view)
    }
}

impl Table {
    /// Writes all rows of the tail but the last `kept`, all of them of `heights`.
    fn write(
        &mut self,
        folder: &Path,
        kept: u64,
        heights: (Height, Height),
        times: &[i64],
        times_from: Height,
    ) -> Result<(), StoreError> {
        self.tail.seal()?;
        let all = self.tail.concat()?;
        let kept = usize::try_from(kept).unwrap_or(usize::MAX).min(all.num_rows());
        let count = all.num_rows().saturating_sub(kept);
        let written = all.slice(0, count);
        let mut columns = written.columns().to_vec();
        if let Some(height) = self.def.height_column() {
            let heights = columns
                .get(height)
                .expect("a stream's table has a height column")
                .as_primitive::<Int64Type>();
            columns.push(time_max(heights, times, times_from));
        }
        let path = file::path_of(folder, &self.def.key);
        let (batch, size) = file::append_batch(&path, self.file_size, &columns, heights)?;
        self.stored_rows = self.stored_rows.saturating_add(batch.rows);
        Arc::make_mut(&mut self.stored).push(batch);
        self.file_size = size;
        // A slice would keep the written rows alive: what stays is copied.
        let rest = match kept {
            0 => None,
            kept => Some(arrow::compute::concat_batches(&all.schema(), [&all.slice(count, kept)])?),
        };
        self.tail.keep(rest);
        self.view = None;
        Ok(())
    }

    fn view(&mut self) -> Result<Arc<TableView>, StoreError> {
        if let Some(view) = &self.view {
            return Ok(Arc::clone(view));
        }
        let view = Arc::new(TableView {
            def: Arc::clone(&self.def),
            stored: Arc::clone(&self.stored),
            chunks: self.tail.snapshot()?,
            rows: self.stored_rows.saturating_add(self.tail.rows),
            missing: self.missing,
        });
        self.view = Some(Arc::clone(&view));
        Ok(view)
    }
}

/// The stream that an action appends to.
fn stream_of(action: &Action) -> Option<&str> {
    match action {
        Action::Append { stream, .. } => Some(stream),
        _ => None,
    }
}

/// The time of the header after each height; `times` begins with the header `from`.
pub(crate) fn time_max(
    heights: &arrow::array::Int64Array,
    times: &[i64],
    from: Height,
) -> ArrayRef {
    let from = signed(from.get());
    let after = heights.iter().map(|height| {
        let place = height?.checked_add(1)?.checked_sub(from)?;
        times.get(usize::try_from(place).ok()?).copied()
    });
    Arc::new(TimestampMicrosecondArray::from_iter(after).with_timezone("UTC"))
}
