//! SQL over what the ledger has executed: columns on disk, a catalog that PostgreSQL's clients know, sessions.
//!
//! ```text
//!  executor ── ingest(block) ─> [ ColumnStore ] ── view() ─> ReadView of one height ─┐
//!                                 tail in memory, batches on disk                    v
//!  SQL text ─> statement ─> prepare ─> plan ────────────────────────────> Engine::execute ─> batches
//!                                                                                    └─ wire: rows, formats
//!  column   kinds and builders       store    ingest, flush, recovery    numeric  PostgreSQL's avg and sum
//!  table    a table's columns        scan     tables as plans            names    PostgreSQL's column names
//!  file     frames on disk, check    catalog  schemas public and quipu   wire     parameters in, rows out
//!  copy     many rows in and out     procedure  programs that the ledger keeps
//!  utility  what the parser does not read as PostgreSQL does
//! ```
//! # Invariants
//! * Q1 A query reads one height: every table of it comes from one [`ReadView`].
//! * Q2 A column's bytes are checked against their CRC on every read; a wrong one is an error, never a row.
//! * Q3 Nothing here changes the ledger: every write through SQL is refused by name.
//! * Q4 The columns are derived: they can be wiped and are fed again from the first height.

mod alike;
mod arithmetic;
mod assign;
mod before;
mod casts;
pub mod catalog;
mod coerce;
pub mod column;
mod compile;
mod copy;
mod create;
mod ddl;
mod deep;
mod dml;
pub mod engine;
pub mod error;
mod fault;
pub mod file;
mod forms;
mod history;
mod insert;
mod interval;
mod length;
mod names;
mod newest;
mod numeric;
mod order;
mod origin;
pub mod parameters;
mod past;
mod pg_catalog;
mod point;
mod procedure;
mod public;
mod ready;
mod round;
mod scalar;
mod scan;
mod settings;
mod statement;
pub mod store;
pub mod table;
mod tables;
mod transaction;
mod unnest;
mod utility;
pub mod wire;

pub use catalog::{AccountRow, EpochRow, EvidenceRow, MetricRow, SystemSource, ValidatorRow};
pub use copy::{CopyIn, CopyOut};
pub use engine::{
    DATABASE, Engine, Forget, Limits, Outcome, Prepared, Rows, Session, Statement, Write, Written,
};
pub use error::{More, Notice, SqlError};
pub use fault::refused;
pub use file::Finding;
pub use insert::Append;
pub use parameters::Parameter;
pub use store::{BegunStream, ColumnStore, IngestBlock, IngestTx, ReadView, StoreError};
pub use tables::{Signer, TableSource};
pub use transaction::Act;
pub use wire::Column;
