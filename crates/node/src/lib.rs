//! Sockets, files, threads, wall clock, metrics, HTTP, PostgreSQL wire: one validator as a process.
//!
//! ```text
//!  http ── admission on worker threads ──┐                        ┌── log (FileDisk)
//!                                        ├─> [ driver: Replica ] ─┤
//!  run ── stop ──────────────────────────┘      ^ Executed        └── Execute ─> [ executor: Machine, columns ]
//!                                               └──────────────────────────────────────┘
//!  http, pg, admin <── read handles: LedgerReader, RwLock<Machine>, SQL views, watch(Progress)
//! ```
//! # Invariants
//! * D1 No decision about the protocol is taken here: the replica asks, the driver does.
//! * D2 A failed write or sync stops the process with its code; nothing that was answered is lost by it.
//! * D3 What clients send is bounded before it is kept: connections, heads, bodies, queues, pages, results.
//! * D4 A reader gets the bytes that were written or an error, never anything else.

mod admin;
mod archive;
mod awaited;
mod certificates;
mod check;
mod checkpoint;
mod clock;
mod clocks;
mod coin;
mod config;
mod dealer;
pub mod disk;
mod driver;
mod error;
pub mod evidence;
mod executor;
mod gateway;
pub mod http;
pub mod links;
mod listen;
mod lock;
mod members;
mod metrics;
mod newcomer;
mod node;
mod peers;
pub mod pg;
mod recover;
mod recovery;
mod remote;
mod shared;
mod snapshot;
mod sql;
mod stake;
mod state_votes;
pub mod store;
mod tail;
mod ticker;
mod view;
mod wide;

pub use archive::{ArchiveReport, Archived, check_archive, export};
pub use check::{Finding, Report, check};
pub use config::{
    CONFIG_FILE, CONFIG_VERSION, Config, FIRST_START_FILE, Limits, Listen, Log, LogFormat,
    Retention, TlsFiles, check_peer_address,
};
pub use error::NodeError;
pub use lock::{DirLock, LOCK_FILE};
pub use node::{Node, Running};
pub use recover::{Recovery, Tell, recover};
pub use remote::{Remote, RemoteConfig, Standing};
