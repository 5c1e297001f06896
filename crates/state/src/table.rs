//! Tables: row programs and definitions on a row space.
//!
//! ```text
//!  Program ─> definition of its version ─> rights ─> rows selected, ascending ─> new rows
//!               for each: defaults · identity · length · not null · checks · unique ─> row and index entries
//!               at the end: foreign keys, both ways ─> counters
//! ```
//! One piece serves validators, who execute what is ordered, and gateways, who show a session its own writes.
//!
//! # Invariants
//! * B1 What a program does is a function of the rows, the definitions and the [`Scene`]: nothing else is read.
//! * B2 A program that fails may leave changes behind: whoever runs it drops them.
//! * B3 Every row has its entry in each index, and there is no other entry.
//! * B4 Who reads a table's counters sees whether any of its rows was written.
//!
//! # Limits
//! [`METER_MAX`] rows visited or written a transaction. Index entries and definitions count as rows; every
//! [`METER_SIZE`] bytes, every [`METER_COLUMN_COUNT`] columns and every [`ROW_STEPS`] steps of an expression as one
//! more. [`RETURNED_SIZE_MAX`] bytes of rows that a transaction gives back. Foreign keys name primary keys, and do not
//! defer.

mod define;
mod procedure;
mod refer;
mod select;
mod write;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quipu_types::program::{Conflict, Op, Program, TableRef};
use quipu_types::table::{
    COUNTERS, DEFINITIONS, NUMBERS, TableCounters, TableDef, TableSpec, ledger_key, name_key,
};
use quipu_types::{
    AccountId, Code, Decode, Encode, Hash, Height, ProcedureDef, Schema, Time, Value, Writers, code,
};

pub(crate) use define::NAMES_RESERVED;
use refer::Gone;
use write::check_sets;

use crate::expr::{Scope, Seed};
use crate::rows::{Changes, Layer, RowRead};
use crate::store::{Rows, StoreError, Table};
use crate::value::Typed;
use crate::view::damaged;

/// Most rows that a transaction visits and writes.
pub const METER_MAX: u64 = 1 << 21;
/// Bytes of a row that cost as much as a row.
const METER_SIZE: usize = 256;
/// Columns of a row that cost as much as a row.
const METER_COLUMN_COUNT: usize = 16;
/// Steps of expressions that cost as much as a row.
pub(crate) const ROW_STEPS: u64 = 16;
/// Most bytes of rows that a transaction gives back, for an answer or for their hash.
pub const RETURNED_SIZE_MAX: usize = 16 << 20;
/// Most bytes of a definition.
const DEFINITION_SIZE_MAX: usize = 1 << 20;
/// Most bytes of a row.
const ROW_SIZE_MAX: usize = 1 << 20;
/// Most characters of a text that is filled up.
const PADDED_LENGTH_MAX: u32 = 1 << 16;
/// Rows that a scan reads at a time.
const PAGE_COUNT: usize = 256;
/// Most definitions kept.
const DEFINITION_COUNT_MAX: usize = 1_024;

/// Why a program can not run, and which constraint or column says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Why.
    pub code: Code,
    /// UNIQUE: 0 the primary key, `i` the index `i - 1`. CHECK, FOREIGN_KEY: `i` the one `i - 1`. NOT_NULL, GENERATED,
    /// TEXT_TOO_LONG: the 0-based column. Of a call, all this of the `i`-th program of its procedure, from 0: and `i`
    /// above the lower [`PROGRAM_SHIFT`](quipu_types::procedure::PROGRAM_SHIFT) bits.
    pub detail: u16,
}

impl Fault {
    pub(crate) const OUT_OF_RANGE: Self = Self::of(code::OUT_OF_RANGE);
    pub(crate) const DIVISION_BY_ZERO: Self = Self::of(code::DIVISION_BY_ZERO);
    pub(crate) const TYPE_MISMATCH: Self = Self::of(code::TYPE_MISMATCH);
    pub(crate) const TEXT_TOO_LONG: Self = Self::of(code::TEXT_TOO_LONG);
    pub(crate) const BAD_TEXT: Self = Self::of(code::BAD_TEXT);
    pub(crate) const BAD_DEFINITION: Self = Self::of(code::BAD_DEFINITION);

    pub(crate) const fn of(code: Code) -> Self {
        Self { code, detail: 0 }
    }

    fn at(code: Code, detail: usize) -> Self {
        Self { code, detail: u16::try_from(detail).unwrap_or(u16::MAX) }
    }
}

/// A program that can not run, or a store that can not be read.
#[derive(Debug)]
pub enum TableError {
    /// The program's fault.
    Fault(Fault),
    /// The store's.
    Store(StoreError),
}

impl From<Fault> for TableError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<StoreError> for TableError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Code> for TableError {
    fn from(code: Code) -> Self {
        Self::Fault(Fault::of(code))
    }
}

type Result<T> = std::result::Result<T, TableError>;

/// Where and for whom a program runs.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// The height.
    pub height: Height,
    /// Its time.
    pub time: Time,
    /// The transaction's name.
    pub tx: Hash,
    /// Account of who signed it.
    pub signer: AccountId,
    /// Whether everyone may do what a creator may.
    pub is_open: bool,
}

/// Definitions that were decoded, each beside its bytes: the bytes decide.
#[derive(Clone, Debug, Default)]
pub struct Definitions {
    kept: BTreeMap<u32, (Vec<u8>, Arc<TableDef>)>,
    procedures: BTreeMap<u32, (Vec<u8>, Arc<ProcedureDef>)>,
}

/// What a program did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Rows written or removed.
    pub row_count: u64,
    /// Those rows, where the program asks for them.
    pub rows: Vec<Vec<u8>>,
}

/// What a transaction may still do, and has done: it goes from one of its programs to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    /// Steps left.
    pub(crate) steps: u64,
    /// Bytes of rows given back.
    returned: usize,
    /// Rows made so far: tells random values of one transaction apart.
    made: u64,
}

impl Meter {
    /// For a transaction that may do `steps`.
    pub(crate) const fn new(steps: u64) -> Self {
        Self { steps, returned: 0, made: 0 }
    }
}

/// Most steps of a transaction.
pub(crate) const STEPS_MAX: u64 = METER_MAX * ROW_STEPS;

/// Tables over a row space, and what one transaction changes of them.
pub struct Tables<'a> {
    under: &'a dyn RowRead,
    changes: &'a mut Changes,
    definitions: &'a mut Definitions,
    scene: Scene,
    /// Of the program that runs.
    parameters: Vec<Typed>,
    /// Steps left.
    steps: Cell<u64>,
    returned: usize,
    made: u64,
}

impl std::fmt::Debug for Tables<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").field("scene", &self.scene).finish_non_exhaustive()
    }
}

/// A table while a program runs on it.
struct Work {
    def: Arc<TableDef>,
    counters: TableCounters,
    /// Numbers of the identity column that were handed out; 0 without one.
    numbers: u64,
    done: Done,
    keeps_rows: bool,
    /// Keys of rows written, whose foreign keys are checked in the end.
    written: Vec<Vec<u8>>,
    /// Keys of rows that are gone, to which no other row may refer in the end.
    gone: Vec<Gone>,
    /// Keys that an insert wrote: none is written twice.
    touched: BTreeSet<Vec<u8>>,
    is_insert: bool,
}

impl Work {
    fn spec(&self) -> &TableSpec {
        self.def.table().expect("a program's definition is a table's")
    }
}

impl<'a> Tables<'a> {
    /// Tables of `under`; what is written goes to `changes`.
    pub fn new(
        under: &'a dyn RowRead,
        changes: &'a mut Changes,
        definitions: &'a mut Definitions,
        scene: Scene,
    ) -> Self {
        let steps = Cell::new(STEPS_MAX);
        let parameters = Vec::new();
        Self { under, changes, definitions, scene, parameters, steps, returned: 0, made: 0 }
    }

    /// Goes on where another program of the transaction ended.
    pub(crate) fn resume(&mut self, Meter { steps, returned, made }: Meter) {
        (self.steps, self.returned, self.made) = (Cell::new(steps), returned, made);
    }

    /// Where the next program of the transaction goes on.
    pub(crate) const fn meter(&self) -> Meter {
        Meter { steps: self.steps.get(), returned: self.returned, made: self.made }
    }

    /// Runs a program (B2).
    pub fn run(&mut self, program: &Program) -> Result<Done> {
        let def = self.wanted(program.table)?;
        let parameters = program.parameters.iter();
        self.parameters =
            parameters.map(|(kind, value)| Typed { kind: *kind, value: value.clone() }).collect();
        self.run_on(&def, program)
    }

    /// Runs a program on the table that it is for, its parameters set.
    fn run_on(&mut self, def: &Arc<TableDef>, program: &Program) -> Result<Done> {
        let spec = def.table().ok_or(code::NO_TABLE)?;
        if !self.may_write(def.creator, &spec.writers) {
            return Err(code::NOT_OWNER.into());
        }
        let mut work = Work {
            keeps_rows: program.returns || program.rows_hash.is_some(),
            is_insert: matches!(program.op, Op::Insert { .. }),
            ..self.work_on(def)?
        };
        match &program.op {
            Op::Insert { columns, rows, conflict } => {
                self.insert(&mut work, columns, rows, conflict)?;
            }
            Op::Update { rows, sets } => self.update(&mut work, rows, sets)?,
            Op::Delete { rows } => self.delete(&mut work, rows)?,
            Op::Truncate => self.truncate(&mut work)?,
            Op::Number { count } => hand_out(&mut work, *count)?,
        }
        if work.done.row_count > 0 || matches!(program.op, Op::Truncate) {
            work.counters.write_count = work.counters.write_count.saturating_add(1);
        }
        self.settle(&work, 0)?;
        if program.row_count.is_some_and(|told| told != work.done.row_count) {
            return Err(code::ROW_COUNT.into());
        }
        if program.rows_hash.is_some_and(|told| told != rows_hash(&work.done.rows)) {
            return Err(code::ROW_COUNT.into());
        }
        Ok(work.done)
    }

    /// What is done to a table, before anything is.
    fn work_on(&self, def: &Arc<TableDef>) -> Result<Work> {
        let is_numbered = def.table().is_some_and(|spec| spec.identity().is_some());
        Ok(Work {
            def: Arc::clone(def),
            counters: self.counters(def.id)?,
            numbers: if is_numbered { self.numbers(def.id)? } else { 0 },
            done: Done::default(),
            keeps_rows: false,
            written: Vec::new(),
            gone: Vec::new(),
            touched: BTreeSet::new(),
            is_insert: false,
        })
    }

    /// The definition of a table or view of this name.
    pub fn named(&mut self, name: &str) -> Result<Option<Arc<TableDef>>> {
        let Some(bytes) = self.get(&name_key(name))? else { return Ok(None) };
        let id = <[u8; 4]>::try_from(bytes.as_slice()).map(u32::from_le_bytes);
        let id = id.map_err(|_| damaged(Table::Row, &name_key(name)))?;
        self.definition(id)
    }

    /// The definition of this number.
    pub fn definition(&mut self, id: u32) -> Result<Option<Arc<TableDef>>> {
        let key = ledger_key(DEFINITIONS, id);
        let Some(bytes) = self.get(&key)? else { return Ok(None) };
        self.spend(1)?;
        self.spend_size(bytes.len())?;
        if let Some((kept, def)) = self.definitions.kept.get(&id)
            && *kept == bytes
        {
            return Ok(Some(Arc::clone(def)));
        }
        let def = TableDef::from_bytes(&bytes).map_err(|_| damaged(Table::Row, &key))?;
        let def = Arc::new(def);
        if self.definitions.kept.len() >= DEFINITION_COUNT_MAX {
            self.definitions.kept.clear();
        }
        self.definitions.kept.insert(id, (bytes, Arc::clone(&def)));
        Ok(Some(def))
    }

    /// A table's counters.
    pub fn counters(&self, id: u32) -> Result<TableCounters> {
        let key = ledger_key(COUNTERS, id);
        let Some(bytes) = self.get(&key)? else { return Ok(TableCounters::default()) };
        Ok(TableCounters::from_bytes(&bytes).map_err(|_| damaged(Table::Row, &key))?)
    }

    /// The definition that a reference names, if it still is the one. What this very transaction defined has a version
    /// that its signer could not know.
    fn wanted(&mut self, table: TableRef) -> Result<Arc<TableDef>> {
        let def = self.definition(table.id)?.ok_or(code::NO_TABLE)?;
        if def.version != table.version && !self.is_defined_here(&def)? {
            return Err(code::TABLE_CHANGED.into());
        }
        Ok(def)
    }

    /// Whether this transaction made the definition what it is.
    fn is_defined_here(&self, def: &TableDef) -> Result<bool> {
        let key = ledger_key(DEFINITIONS, def.id);
        if !self.changes.contains_key(&key) {
            return Ok(false);
        }
        let before = self.under.get(&key)?.map(|bytes| TableDef::from_bytes(&bytes));
        let before = before.transpose().map_err(|_| damaged(Table::Row, &key))?;
        Ok(before.is_none_or(|before| before.version != def.version))
    }

    fn put_counters(&mut self, id: u32, counters: &TableCounters) -> Result<()> {
        if self.counters(id)? != *counters {
            self.put(ledger_key(COUNTERS, id), counters.to_bytes());
        }
        Ok(())
    }

    /// Numbers of a table's identity column that were handed out.
    fn numbers(&self, id: u32) -> Result<u64> {
        let key = ledger_key(NUMBERS, id);
        let Some(bytes) = self.get(&key)? else { return Ok(0) };
        let number = <[u8; 8]>::try_from(bytes.as_slice()).map(u64::from_le_bytes);
        Ok(number.map_err(|_| damaged(Table::Row, &key))?)
    }

    fn put_numbers(&mut self, id: u32, numbers: u64) -> Result<()> {
        let before = self.numbers(id)?;
        let key = ledger_key(NUMBERS, id);
        match numbers {
            same if same == before => {}
            0 => self.remove(key),
            more => self.put(key, more.to_le_bytes().to_vec()),
        }
        Ok(())
    }

    /// Whether the signer is among those who may do something with what `creator` has created.
    fn may_write(&self, creator: AccountId, writers: &Writers) -> bool {
        let signer = &self.scene.signer;
        let is_owner = self.scene.is_open || creator == *signer;
        match writers {
            Writers::Anyone => true,
            Writers::Creator => is_owner,
            Writers::Accounts(accounts) => is_owner || accounts.binary_search(signer).is_ok(),
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(Layer { under: self.under, changes: self.changes }.get(key)?)
    }

    fn range(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Rows> {
        Ok(Layer { under: self.under, changes: self.changes }.range(from, to, limit)?)
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.insert(key, Some(value));
    }

    fn remove(&mut self, key: Vec<u8>) {
        self.changes.insert(key, None);
    }

    fn spend(&self, rows: usize) -> Result<()> {
        let steps = u64::try_from(rows).unwrap_or(u64::MAX).saturating_mul(ROW_STEPS);
        let left = self.steps.get().checked_sub(steps);
        self.steps.set(left.unwrap_or(0));
        left.map(drop).ok_or(code::METER.into())
    }

    /// What so many bytes cost more than a row.
    fn spend_size(&self, size: usize) -> Result<()> {
        self.spend(size / METER_SIZE)
    }

    /// The scope of a program's expressions.
    fn scope<'s>(&'s self, row: &'s [Typed], excluded: &'s [Typed]) -> Scope<'s> {
        Scope { excluded, parameters: &self.parameters, ..self.own_scope(row) }
    }

    /// The scope of a definition's expressions over a row.
    fn own_scope<'s>(&'s self, row: &'s [Typed]) -> Scope<'s> {
        let seed = Seed { tx: self.scene.tx, row: self.made, part: 0 };
        let (excluded, parameters): (&[Typed], &[Typed]) = (&[], &[]);
        Scope { row, excluded, parameters, time: self.scene.time, seed, steps: &self.steps }
    }

    /// The scope of the default of a column.
    fn default_scope(&self, column: usize) -> Scope<'_> {
        let part = u16::try_from(column).unwrap_or(u16::MAX).saturating_add(1);
        let scope = self.own_scope(&[]);
        Scope { seed: Seed { part, ..scope.seed }, ..scope }
    }

    /// Keeps a row for an answer or for its hash.
    fn keep(&mut self, work: &mut Work, row: &[u8]) -> Result<()> {
        if work.keeps_rows {
            self.returned = self.returned.saturating_add(row.len());
            if self.returned > RETURNED_SIZE_MAX {
                return Err(code::METER.into());
            }
            work.done.rows.push(row.to_vec());
        }
        Ok(())
    }

    fn insert(
        &mut self,
        work: &mut Work,
        columns: &[u16],
        rows: &[Vec<quipu_types::Expr>],
        conflict: &Conflict,
    ) -> Result<()> {
        if let Conflict::Update { sets, .. } = conflict {
            check_sets(work.spec(), sets)?;
        }
        for exprs in rows {
            self.made = self.made.saturating_add(1);
            let row = self.new_row(work, columns, exprs)?;
            self.insert_row(work, row, conflict)?;
        }
        Ok(())
    }
}

/// Hands out numbers of the identity column; the row that is given is the first.
fn hand_out(work: &mut Work, count: u32) -> Result<()> {
    work.spec().identity().ok_or(Fault::BAD_DEFINITION)?;
    let first = work.numbers.checked_add(1).ok_or(Fault::BAD_DEFINITION)?;
    work.numbers = work.numbers.checked_add(u64::from(count)).ok_or(Fault::OUT_OF_RANGE)?;
    if work.keeps_rows {
        work.done.rows.push(first.to_le_bytes().to_vec());
    }
    Ok(())
}

/// What [`Program::rows_hash`] is of these rows.
#[must_use]
pub fn rows_hash(rows: &[Vec<u8>]) -> Hash {
    let mut bytes = Vec::new();
    for row in rows {
        quipu_types::codec::put_bytes(&mut bytes, row);
    }
    quipu_crypto::hash::sha256(&bytes)
}

/// A stored row, with its types.
fn typed(schema: &Schema, bytes: &[u8], key: &[u8]) -> Result<Vec<Typed>> {
    let values = schema.decode_row(bytes).map_err(|_| damaged(Table::Row, key))?;
    let columns = schema.columns().iter();
    Ok(columns.zip(values).map(|(c, v)| Typed { kind: c.kind, value: v.to_owned() }).collect())
}

/// A row's bytes.
fn encoded(schema: &Schema, row: &[Typed]) -> Result<Vec<u8>> {
    let values: Vec<Value> = row.iter().map(|typed| typed.value.clone()).collect();
    let bytes = schema.encode_row(&values).map_err(|_| Fault::OUT_OF_RANGE)?;
    if bytes.len() > ROW_SIZE_MAX { Err(Fault::OUT_OF_RANGE.into()) } else { Ok(bytes) }
}
