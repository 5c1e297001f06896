//! The order of opaque cuts: votes, certificates, stake. A pure state machine: no clock, socket, disk or thread.
//!
//! Sources: Buchman, Kwon, Milosevic, "The latest gossip on BFT consensus" (arXiv:1807.04938) for the led steps; Abraham,
//! Malkhi, Spiegelman, "Asymptotically Optimal Validated Asynchronous Byzantine Agreement" (PODC 2019) and Gelashvili et
//! al., "Jolteon and Ditto" (arXiv:2106.10362) for open rounds beside led ones; the project's design for lanes, weights,
//! times and recovery.
//!
//! ```text
//!   tips acked by a quorum ──> Propose ──> Prevote ──> polka (QC1) ──> Precommit ──> QC2 ──> Commit
//!                                 │            │                           │
//!                                 └── header   └── holds: chunk headers    └── holds: bodies, durable
//!                                     valid        link to the last cut
//!
//!   step(now, event, holdings) ─> [ Core ] ─> poll() ─> Persist(record) · Send(message) · Commit · StateCertified
//!                                    │
//!                                 [ safety ]  alone has the key: every signature of a validator is made there
//! ```
//! # Invariants
//! * I1 One vote a kind and place (height, round): what was logged is said again byte for byte, never made anew.
//! * I2 A vote's `Persist` comes before its `Send`, and before every output that depends on it; who drives the core lets
//!   nothing after a `Persist` out before that record is durable.
//! * I3 Hold before vote: no prevote without the linked chunk headers, no precommit without the durable bodies.
//! * I4 A header is judged by a pure function of headers and what they carry ([`header::check`]).
//! * I5 Powers add up in `u128`; a quorum is `3·p > 2·S`.
//! # Limits
//! Messages of the next height are kept, 4 for each validator and its two votes for each instance; those further ahead are
//! refused. Of this height votes are kept of led rounds up to 16, of open ones up to 4 above the own, and of each validator
//! its newest round change. `n <= 128`.
//!
//! The whole protocol, with its arguments and their numbers: `docs/consensus.md`.
//! # Deviations
//! Late votes are not looked through for crimes ([`late`]). The commit
//! certificate of a led round is not pushed to all: whoever is behind asks, and a round change of a finished height is
//! answered with the committed headers (decision 0007); that of an open round is (0027). A commit waits until its chunks
//! are durable here. Evidence is put out, and not acted on.

pub mod certificate;
pub mod core;
pub mod evidence;
pub mod header;
pub mod late;
pub mod record;
pub mod rules;
pub mod safety;
pub mod tally;

pub use crate::core::{Config, Core, Event, Holdings, Need, Output, Refused};
pub use evidence::{Evidence, SignedChunk};
pub use header::{Context, HeaderError, LaneTerm, Parent, genesis_cut, lane_order, moves};
pub use quipu_proof::schedule::{self, Schedule};
pub use record::{Change, Message, Record};
pub use rules::Rules;

/// What time it is: an argument everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Microseconds since 1970 by the validator's wall clock; may jump.
    pub wall_us: u64,
    /// Microseconds of a clock that never goes back, from any start.
    pub mono_us: u64,
}
