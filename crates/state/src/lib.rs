//! Accounts, streams and tables: apply an ordered batch, get receipts and a root.
//!
//! ```text
//!  OrderedBlock ─> execute (rules, one transaction after another) ─> Receipts ─> receipts root (RFC 9162)
//!                     └─> trie (sparse Merkle, batched per height) ─> state root
//!
//!  Machine::speculate: execute, hold ──┐ kept if it is the block that comes, else dropped
//!  Machine::apply:     execute ────────┴──> overlay ── flush, a group of heights in one commit ──> Store
//! ```
//! # Invariants
//! * S1 Receipts and roots are a pure function of the genesis and the ordered blocks: when the overlay is
//!   flushed, what was speculated before, and where a crash falls, changes nothing.
//! * S2 A transaction is atomic: all its actions or none; one that can not run uses up its sequence, pays
//!   its fee and changes nothing else.
//! * S3 A store holds whole heights only, and which was the last stands in the same commit.
//! * S4 A failed `apply`, `speculate` or `flush` leaves the machine as it was.
//! * S5 What is read is what was written, or an error names the table and the key.
//! * S6 A speculation shows nowhere: no read, root, dump or store has anything of it before its block is applied,
//!   and nothing has anything of one that was dropped.
//!
//! # What the state root covers
//! Balances, streams (with their schemas), events counted per stream, the newest event of each key of compacted streams,
//! producers' sequences, consumer groups with their cursors, epochs' sets, validators, bonds and misdeeds, and what stands now in the row space: rows, definitions, procedures, names and counters. Receipts
//! have a root of their own; anchors, positions and receipts by height follow from headers, index entries from rows,
//! and are not in it.
//!
//! # Limits
//! No contracts yet. Balances are read through the overlay and the store; the root keeps no old versions.
//! One block is speculated at a time, and only on the applied state; while another takes its place, the changes
//! of both are in memory.

pub mod absence;
mod cache;
pub mod compacted;
pub mod conformance;
pub mod dealing;
mod execute;
mod expr;
pub mod group;
mod machine;
mod price;
mod record;
pub mod rows;
pub mod stake;
pub mod store;
pub mod table;
pub mod trie;
mod value;
mod view;

pub use absence::Absence;
pub use conformance::conformance;
pub use dealing::{KeyRecord, Maker, Making, Proposal, Stage};
pub use group::{Group, GroupHead, GroupLane, Lease, Owner};
pub use machine::{
    ACTION_COUNT_MIN, Applied, Machine, Ordered, OrderedBlock, SpeculationCounts, StateError,
    TriedCounts, trie_key,
};
pub use price::{PRICES, Prices};
pub use record::{Sequence, StateRecord, Stream, TxPlace};
pub use rows::{Changes, Layer, RowRead, Version, VersionPlace, Versions};
pub use stake::{EpochRecord, Misdeed, MisdeedOf, StakeHead, ValidatorRecord};
pub use store::{MemoryStore, Store, StoreError, Table, WriteBatch};
pub use table::{Definitions, Done, Fault, METER_MAX, Scene, TableError, Tables, rows_hash};
pub use trie::{TrieProof, verify_trie};
