//! The async client library: sign, submit, batch, follow, resume, prove. Talks to any validator over HTTP.
//!
//! ```text
//!  Producer ── rows ─> route ─> batches ─> sign ─> Client::submit ──┐
//!     ^ sequence per lane, incarnation, anchor                      │ several servers: the next one
//!     └────────── answers: position, height, code <─────────────────┘ when one does not answer
//!
//!  Batcher ── events one by one ─> a task a lane ─> signed batches, several requests at once ─> the same servers
//! ```
//! # Invariants
//! * C1 A transaction is signed once. After a lost answer the same bytes are sent again, to any server: the
//!   ledger answers a repeat with the first position, so nothing is appended twice.
//! * C2 What the chain is, the caller pins (a genesis) or the first server says; [`Client::pinned`] tells which. What is signed
//!   is anchored at a header that validators of that genesis committed, or at the genesis itself.
//! * C3 Nothing a server sends is buffered beyond [`RESPONSE_SIZE_MAX`], or [`LINE_SIZE_MAX`] a line.
//! * C4 What a [`Consumer`], a [`GroupConsumer`] or a [`Compacted`] tells was checked against the genesis; what
//!   [`Follow`] gives is the server's word.
//! * C5 What is submitted is compressed where that made the last bodies smaller and leaves the machine.
//! * C6 What a producer or a batcher submits and has no answer to in time is complained of to every server ([`complaint`]).

pub mod anchor;
pub mod api;
pub mod batcher;
pub mod blocks;
pub mod compacted;
pub mod complaint;
mod connection;
pub mod consumer;
mod epochs;
pub mod events;
pub mod evidence;
pub mod follow;
pub mod group;
pub mod http;
pub mod producer;

pub use anchor::{HeaderFault, HeaderInfo};
pub use api::{Event, Status, StreamInfo, SubmitAnswer};
pub use batcher::{AppendError, Appended, Appending, Batcher, Limits};
pub use blocks::Blocks;
pub use compacted::{Compacted, CompactedEvent, CompactedPage};
pub use complaint::COMPLAINT_AFTER;
pub use consumer::Consumer;
pub use events::Events;
pub use evidence::Evidence;
pub use follow::{Follow, FollowFrom};
pub use group::{GroupBatch, GroupConsumer, GroupError};
pub use http::{Ack, Client, ClientError};
pub use producer::{NewEvent, Producer};

/// Most bytes of one answer.
pub const RESPONSE_SIZE_MAX: usize = 64 << 20;
/// Most bytes of one line of a followed stream.
pub const LINE_SIZE_MAX: usize = 4 << 20;
