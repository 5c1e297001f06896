//! Lanes on disk: segments, sequence numbers, terms, the header chain, recovery.
//!
//! ```text
//!  lanes/00/00000000000000000001.log   chunks and terms of lane 0      } journals: segments of
//!  lanes/00/tree                       its Merkle nodes (derived)      } frames, cut by size,
//!  headers/00000000000000000001.log    headers with certificates       } named by first record
//!  handovers/00000000000000000001.log  the last header of each epoch; these are never pruned
//!  wal/00000000000000000001.log        what consensus must not forget  }
//!  base/00000000000000000001.log       what it stands on, where its beginning was pruned
//!
//!  frame ─ scan ─ journal ─┬─ lane (+ tree) ─┬─ ledger ── reader ── any thread
//!     what a crash or rot  ├─ headers ───────┤     │
//!     left is judged here  └─ wal ───────────┘   check: everything again, read only
//! ```
//! Sources: RFC 9162 for the trees. The rest is a log as everyone builds it, made to say where it is damaged.
//!
//! # Invariants
//! * V1 What a sync covered is there after any crash; what it did not cover is there whole, or gone with all that
//!   follows it.
//! * V2 No read gives wrong bytes: frames have checksums over place and content, bodies their signed digests, and
//!   what comes from a tree is compared with a signed root.
//! * V3 A byte that changed anywhere is named by [`Check`]. Where a later frame says that the place was durable,
//!   or a header or the write-ahead log speaks of it, opening refuses; at the very end a rotten record cannot be told from
//!   a torn write, and is cut as one.
//! * V4 Nothing is rewritten in place: what is voided stays as evidence.
//! * J, L, G, R, D: see `journal`, `lane`, [`ledger`], [`reader`], [`disk`].
//!
//! # Limits
//! Memory: 20 bytes a chunk and 4 a header for the indices. A record has at most [`RECORD_SIZE_MAX`] bytes. Opening
//! reads the head of every frame, and bodies only above what is known durable. One writer a directory: the caller
//! keeps others out.

pub mod base;
pub mod check;
pub mod conformance;
pub mod disk;
pub mod error;
mod frame;
mod handovers;
mod headers;
mod journal;
mod lane;
pub mod ledger;
pub mod memory;
mod mixed;
pub mod reader;
pub mod record;
pub mod resume;
mod scan;
mod tree;
mod wal;

pub use base::{Base, Before, Beginning, LaneBase};
pub use check::{Check, Progress};
pub use disk::{Disk, DiskFile};
pub use error::{Damage, Doing, Finding, LogError, Place};
pub use frame::RECORD_SIZE_MAX;
pub use handovers::handovers;
pub use lane::leaves_of;
pub use ledger::{Ledger, LedgerConfig, Recovered, SyncGroup};
pub use memory::MemoryDisk;
pub use mixed::Search;
pub use reader::{LedgerReader, Transactions};
pub use record::{StoredChunk, TermRecord, WalRecord};
