//! One validator as a pure machine: (now, input) to effects. No disk, socket, clock or thread.
//!
//! ```text
//!  bytes ─> admission ─> Submit ─> producers ─> lane ─> chunk ──┐ WriteChunk, Sync
//!                                                               v
//!            Answer <── Executed <── Execute <── [ consensus ] <┴─ acks of durable chunks
//!                          └─> state vote ─> StateCertified ─> a later header
//! ```
//! # Invariants
//! * R1 Nothing leaves (message, block, state certificate) before every record written ahead of it is durable:
//!   one [`gate`], one place.
//! * R2 A vote that was logged for a place is sent again byte for byte, never made anew: `quipu-consensus`'s safety
//!   rules alone hold the key.
//! * R3 Sequences of a signer in a lane are dense; only the next one is taken, so a repeat is never ordered twice.
//! * R4 A chunk that was acked stays until a commit covers it, across restarts too.
//! * R5 At most one `Sync` is under way; what comes meanwhile shares the next one.
//! * R6 Same inputs, same effects.
//! * R7 What another validator sent was checked by [`peer::receive`] before it comes here; what it says is used only as far
//!   as signatures and links carry it, and memory for it is bounded.
//! * R8 While a quorum lives, who waits for a transaction is answered: what no cut orders is told again, to its lane's
//!   sequencer and to everyone who has reason to suspect that one, or is refused when its place is gone.
//! * R9 Every executed height is certified here, sooner or later, whatever was lost on the way: what is missing is asked for.
//!
//! # Limits
//! Chunks beyond the last cut are held up to [`HELD_SIZE_MAX`] bytes, others are fetched later; stripes that wait for others
//! are bounded in each lane ([`stripes`]). Bytes taken and not executed are bounded by [`Config::pending_size_max`]; beyond it transactions are refused. The
//! table of producers is in memory, about 100 bytes for each (lane, signer) that ever appended.

pub mod admission;
pub mod api;
mod checking;
pub mod checkpoint;
pub mod complaints;
mod fetch;
pub mod follow;
mod gate;
mod lane;
pub mod observer;
pub mod peer;
mod pending;
mod producers;
mod question;
mod replica;
pub mod storage;
pub mod stripes;
mod suspicion;
mod traps;
mod uncertified;

pub use admission::{Admissions, Admitted, admit, admit_many, readmit_many};
pub use api::{
    Answer, Barrier, Block, Chunk, Config, Effect, Input, LaneBatch, Producer, Recovered,
    RecoveredLane, Refusal, Status, Ticket,
};
pub use complaints::{Grievance, Unheard};
pub use follow::{Checked, FollowError, Followed, Follower, Frame};
pub use lane::ChunkFault;
pub use observer::Observer;
pub use peer::{Class, PeerMessage, ReceiveError, Received, Request, receive};
pub use quipu_consensus::{Now, Rules, lane_order};
pub use quipu_log::{StoredChunk, TermRecord};
pub use replica::{HELD_SIZE_MAX, Refused, Replica, StartError};
pub use storage::{RecoverError, recover, serve, write};
pub use stripes::{Gathered, Restored, Stripe, restore};
pub use traps::Traps;
