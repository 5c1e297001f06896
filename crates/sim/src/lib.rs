//! A world of replicas: seeds, faults, crashes, checkers. Seed in, verdict out; the same seed gives the same trace.
//!
//! ```text
//!  clients ──submit──> [ Replica ] ──effects──> [ Ledger on CrashDisk ]      one validator; every turn is one of
//!     ^                     │                                                these, chosen by the seed: a client acts,
//!     └──answers────────────┴──blocks──> [ Machine on MemoryStore ]          an effect is done, a sync ends, a block is
//!                                                                            executed, time passes, something crashes
//! ```
//! # What is checked
//! * V1 What a client was told is final stays where it is: same position, same bytes, once, in its producer's order.
//! * V2 A committed height never changes, nor its certificate, nor what its execution gave; a replay from scratch gives
//!   the same roots.
//! * V3 Nothing that depends on a vote leaves before the vote's record is durable.
//! * V4 Whatever a crash leaves, the validator starts again, and once faults end everything is answered.
//! * V5 What is stored passes every check of the log.
//! # Limits
//! One validator: its peers come with the network. The state's store is taken to commit atomically and durably, as the
//! conformance suite of stores demands.

mod client;
mod disk;
pub mod stage;
mod verdict;
mod world;

use quipu_types::Hash;
use thiserror::Error;

pub use disk::{CrashDisk, DiskFaults};

/// How a world is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Turns with faults; after them everything has to come to rest.
    pub turn_count: usize,
    /// Crashes in a thousand turns.
    pub crash_per_mille: u16,
    /// Whether the trace is kept.
    pub keeps_trace: bool,
    /// As [`quipu_replica::Config::wal_before_send`].
    pub wal_before_send: bool,
}

impl Profile {
    /// What the test command runs.
    #[must_use]
    pub const fn short() -> Self {
        Self { turn_count: 600, crash_per_mille: 12, keeps_trace: false, wal_before_send: true }
    }
}

/// What happened, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Processes killed; what they wrote survived.
    pub kills: u64,
    /// Power cuts.
    pub power_cuts: u64,
    /// Power cuts in the midst of a write, a sync or a start.
    pub power_cuts_in_writes: u64,
    /// Syncs that failed, each with a power cut.
    pub failed_syncs: u64,
    /// Crashes between two effects.
    pub crashes_between_effects: u64,
    /// Crashes while a sync was under way.
    pub crashes_in_sync: u64,
    /// What power cuts did to unsynced writes.
    pub disk: DiskFaults,
    /// Times that a torn tail was cut at the start.
    pub torn_tails: u64,
    /// Starts from what a crash left.
    pub restarts: u64,
    /// Heights that were committed again from the write-ahead log.
    pub heights_again: u64,
    /// Heights committed.
    pub heights: u64,
    /// Transactions told to be final.
    pub finals: u64,
    /// Repeats that were answered with their first position.
    pub repeats: u64,
    /// Refusals of a gap.
    pub gaps: u64,
    /// Refusals of an old incarnation.
    pub fenced: u64,
    /// Refusals of an overloaded replica.
    pub overloads: u64,
    /// State certificates.
    pub certificates: u64,
}

impl Totals {
    /// Every total with its name.
    #[must_use]
    pub const fn rows(&self) -> [(&'static str, u64); 21] {
        [
            ("kills", self.kills),
            ("power cuts", self.power_cuts),
            ("power cuts in writes", self.power_cuts_in_writes),
            ("failed syncs", self.failed_syncs),
            ("crashes between effects", self.crashes_between_effects),
            ("crashes in a sync", self.crashes_in_sync),
            ("writes lost", self.disk.lost),
            ("writes torn", self.disk.torn),
            ("writes kept", self.disk.kept),
            ("writes reordered", self.disk.reordered),
            ("names undone", self.disk.names),
            ("torn tails cut", self.torn_tails),
            ("restarts", self.restarts),
            ("heights again", self.heights_again),
            ("heights", self.heights),
            ("finals", self.finals),
            ("repeats", self.repeats),
            ("gaps", self.gaps),
            ("fenced", self.fenced),
            ("overloads", self.overloads),
            ("state certificates", self.certificates),
        ]
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        let into = [
            (&mut self.kills, other.kills),
            (&mut self.power_cuts, other.power_cuts),
            (&mut self.power_cuts_in_writes, other.power_cuts_in_writes),
            (&mut self.failed_syncs, other.failed_syncs),
            (&mut self.crashes_between_effects, other.crashes_between_effects),
            (&mut self.crashes_in_sync, other.crashes_in_sync),
            (&mut self.disk.lost, other.disk.lost),
            (&mut self.disk.torn, other.disk.torn),
            (&mut self.disk.kept, other.disk.kept),
            (&mut self.disk.reordered, other.disk.reordered),
            (&mut self.disk.names, other.disk.names),
            (&mut self.torn_tails, other.torn_tails),
            (&mut self.restarts, other.restarts),
            (&mut self.heights_again, other.heights_again),
            (&mut self.heights, other.heights),
            (&mut self.finals, other.finals),
            (&mut self.repeats, other.repeats),
            (&mut self.gaps, other.gaps),
            (&mut self.fenced, other.fenced),
            (&mut self.overloads, other.overloads),
            (&mut self.certificates, other.certificates),
        ];
        for (sum, own) in into {
            *sum = sum.saturating_add(own);
        }
    }
}

/// A run without a violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What happened.
    pub totals: Totals,
    /// Digest of the trace: the same for the same seed.
    pub digest: Hash,
    /// Each turn in a line, if it was asked for.
    pub trace: Vec<String>,
}

/// A rule was broken. The seed replays it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("seed {seed}, turn {turn}: {rule}: {what}")]
pub struct Violation {
    /// The seed.
    pub seed: u64,
    /// The turn.
    pub turn: usize,
    /// Which rule, as in the crate's header.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
    /// Each turn in a line, if it was asked for.
    pub trace: Vec<String>,
}

/// A rule that was broken, before the world adds when.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) rule: &'static str,
    pub(crate) what: String,
}

/// Fails with a rule unless it holds.
pub(crate) fn rule(
    holds: bool,
    rule: &'static str,
    what: impl FnOnce() -> String,
) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken { rule, what: what() }) }
}

/// Runs the world of a seed.
///
/// # Errors
/// The first rule that is broken.
pub fn run(seed: u64, profile: &Profile) -> Result<Report, Box<Violation>> {
    world::World::new(seed, profile).run()
}
