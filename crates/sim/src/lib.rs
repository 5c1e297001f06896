//! A world of replicas: seeds, faults, crashes, checkers. Seed in, verdict out; the same seed gives the same trace.
//!
//! ```text
//!  clients ── submit ──> [ Replica ] ── effects ──> [ Ledger on CrashDisk ]   1, 4 or 7 validators, some criminal
//!     ^                    ^     │                                            ([`actors`]); a queue of events in
//!     └──── answers ───────│─────┴── blocks ──────> [ Machine on MemoryStore] virtual time says what happens next
//!                          └─ delay, loss, repeats, partitions ─ the others
//! ```
//! A world is rough for [`Profile::fault_ms`] (its safety mode: whatever happens, no rule is broken), then faults freeze and
//! everything has to come to rest (its liveness mode). Every rule is about honest validators.
//!
//! # What is checked
//! * A1 One header is committed at a height, by a quorum.
//! * A2 One header is prevoted by a quorum in a round.
//! * A3 A vote, ack, proposal, round change, state vote or chunk leaves only after its bytes are durable.
//! * A4 What is said of a place is said in one form, whatever crashed in between.
//! * A5 Nobody votes or proposes in a round below one that it went to.
//! * A6 The highest polka that round changes name never goes back.
//! * A7 Who acks or precommits holds the chunks, durably; who prevotes holds them; so honest stake above a third holds what
//!   is committed.
//! * A8 A cut reaches what a third reported (inclusion).
//! * A9 Nobody is blamed but criminals: neither by evidence nor by a refusal that calls a message an offence.
//! * F1 Nothing forged is taken: neither a word that is not signed by whom it names, nor a certificate of nothing, nor a chunk
//!   that breaks a rule.
//! * T1 The time of a header lies between those of honest votes, or just above its parent's.
//! * V1 What a client was told is final stays where it is: same position, same bytes, once, in its producer's order.
//! * V2 Execution of a height gives the same roots everywhere; what is stored is what was committed; a replay from scratch
//!   gives the same roots.
//! * V4 Whatever a crash leaves, the validator starts again; every ticket is answered at most once.
//! * O1 Nobody whose disk is its own and newest observes.
//! * V5 What is stored passes every check of the log.
//! * B1 What is pending and what is on its way is bounded.
//! * L1 Once faults end, every honest validator goes on with the others, and every client is answered.
//! * P1 Nothing panics.
//! # Limits
//! The state's store is taken to commit atomically and durably, as the conformance suite of stores demands.

pub mod actors;
mod client;
mod coins;
mod disk;
mod network;
mod node;
mod probe;
mod shape;
pub mod stage;
mod stakes;
mod verdict;
mod witness;
mod world;

use quipu_replica::Rules;
use quipu_types::{Hash, RoundKind};
use thiserror::Error;

pub use disk::{CrashDisk, DiskFaults};
pub use probe::{Clock, Measured};

/// How a world is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Virtual milliseconds with faults; after them everything has to come to rest.
    pub fault_ms: u64,
    /// Whether anything goes wrong in them.
    pub has_faults: bool,
    /// Stake of each validator; when empty, 4 or 7 validators with stake that the seed chooses.
    pub powers: &'static [u64],
    /// Whether some worlds have criminals.
    pub has_crimes: bool,
    /// The crime of those who commit one; chosen by the seed when none is named.
    pub crime: Option<actors::Crime>,
    /// Whether the trace is kept.
    pub keeps_trace: bool,
    /// As [`quipu_replica::Config::wal_before_send`].
    pub wal_before_send: bool,
    /// Which rules of agreement hold.
    pub rules: Rules,
    /// Whether a validator asks, when it starts, how far it had come: always, except in the test that shows why.
    pub checks_its_store: bool,
    /// Milliseconds after which a lane without transactions shows its clock.
    pub clock_chunk_ms: u64,
    /// How often of a hundred the bodies of a world travel in stripes, if they are not the smallest.
    pub stripe_percent: u8,
    /// How often of a hundred clients complain when they are not answered.
    pub complaint_percent: u8,
    /// How often of a hundred a world has a coin, and so open rounds.
    pub coin_percent: u8,
    /// How often of a hundred the stake of a world moves.
    pub epoch_percent: u8,
    /// Heights after which a validator without votes is stale, where stake moves; chosen by the seed when none is given.
    pub stale_heights: Option<u32>,
    /// How often of a hundred a world with a coin has a storm: some time in which every led timer fires at once.
    pub storm_percent: u8,
}

impl Profile {
    /// What the test command runs.
    #[must_use]
    pub const fn short() -> Self {
        Self {
            fault_ms: 2_500,
            has_faults: true,
            powers: &[],
            has_crimes: true,
            crime: None,
            keeps_trace: false,
            wal_before_send: true,
            rules: Rules::ALL,
            checks_its_store: true,
            clock_chunk_ms: 300,
            stripe_percent: 33,
            complaint_percent: 50,
            coin_percent: 75,
            epoch_percent: 40,
            stale_heights: None,
            storm_percent: 50,
        }
    }

    /// No faults but a storm in the middle third: every led timer fires at once.
    #[must_use]
    pub const fn storm() -> Self {
        Self {
            fault_ms: 9_000,
            has_faults: false,
            has_crimes: false,
            coin_percent: 100,
            storm_percent: 100,
            ..Self::short()
        }
    }

    /// Twenty times as long.
    #[must_use]
    pub const fn long() -> Self {
        Self { fault_ms: 50_000, ..Self::short() }
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
    /// Validators that were asked to stop.
    pub stops: u64,
    /// Disks that were lost.
    pub wipes: u64,
    /// Old copies of disks that were put back.
    pub rewinds: u64,
    /// New disks that began with a checkpoint.
    pub restores: u64,
    /// Validators with a new disk that found their threshold.
    pub thresholds: u64,
    /// What power cuts did to unsynced writes.
    pub disk: DiskFaults,
    /// Times that a torn tail was cut at the start.
    pub torn_tails: u64,
    /// Starts from what a crash left.
    pub restarts: u64,
    /// Wall clocks that were set.
    pub clock_jumps: u64,
    /// Partitions in both directions.
    pub partitions: u64,
    /// Partitions in which some ways are closed in one direction only.
    pub partitions_one_way: u64,
    /// Messages sent.
    pub messages: u64,
    /// Messages lost on their way, partitions aside.
    pub losses: u64,
    /// Messages that came twice.
    pub twice: u64,
    /// Heights committed.
    pub heights: u64,
    /// Commits of a height that another validator, or an earlier process, committed before.
    pub heights_again: u64,
    /// Heights decided in a round above 0.
    pub late_rounds: u64,
    /// Heights decided in an open round.
    pub open_rounds: u64,
    /// Round changes said.
    pub round_changes: u64,
    /// Terms of lanes that ended.
    pub term_changes: u64,
    /// Lanes cut back.
    pub cuts_back: u64,
    /// Answers with committed headers that were news.
    pub catch_ups: u64,
    /// What criminals did that no honest validator does, as far as they say so.
    pub deeds: u64,
    /// Proofs that a criminal broke a rule.
    pub evidence: u64,
    /// Transactions told to be final.
    pub finals: u64,
    /// Transactions told to be ordered.
    pub early: u64,
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
    /// Blocks executed ahead of their commit.
    pub speculations: u64,
    /// Epochs that ended.
    pub epochs: u64,
    /// Stale validators of epochs that began, each once an epoch.
    pub stale: u64,
    /// Milliseconds from an epoch's end until each lane moved, or the epoch ended; of all epochs but the first, and lanes.
    pub lane_wait_ms: u64,
    /// Late votes in committed headers.
    pub late_votes: u64,
    /// Validators that were slashed.
    pub slashed: u64,
    /// Stripes sent or passed on.
    pub stripes: u64,
    /// Bodies restored from stripes.
    pub restored: u64,
    /// Complaints of clients that were heard.
    pub complaints: u64,
}

impl Totals {
    /// Every total with its name.
    #[must_use]
    pub const fn rows(&self) -> [(&'static str, u64); 50] {
        [
            ("kills", self.kills),
            ("power cuts", self.power_cuts),
            ("power cuts in writes", self.power_cuts_in_writes),
            ("failed syncs", self.failed_syncs),
            ("crashes between effects", self.crashes_between_effects),
            ("crashes in a sync", self.crashes_in_sync),
            ("stops", self.stops),
            ("disks lost", self.wipes),
            ("old copies put back", self.rewinds),
            ("new disks from checkpoints", self.restores),
            ("thresholds found", self.thresholds),
            ("writes lost", self.disk.lost),
            ("writes torn", self.disk.torn),
            ("writes kept", self.disk.kept),
            ("writes reordered", self.disk.reordered),
            ("names undone", self.disk.names),
            ("torn tails cut", self.torn_tails),
            ("restarts", self.restarts),
            ("clocks set", self.clock_jumps),
            ("partitions", self.partitions),
            ("partitions one way", self.partitions_one_way),
            ("messages", self.messages),
            ("messages lost", self.losses),
            ("messages twice", self.twice),
            ("heights", self.heights),
            ("heights at others", self.heights_again),
            ("heights of later rounds", self.late_rounds),
            ("heights of open rounds", self.open_rounds),
            ("round changes", self.round_changes),
            ("term changes", self.term_changes),
            ("lanes cut back", self.cuts_back),
            ("catch-ups", self.catch_ups),
            ("deeds of criminals", self.deeds),
            ("evidence", self.evidence),
            ("finals", self.finals),
            ("early answers", self.early),
            ("repeats", self.repeats),
            ("gaps", self.gaps),
            ("fenced", self.fenced),
            ("overloads", self.overloads),
            ("state certificates", self.certificates),
            ("blocks executed ahead", self.speculations),
            ("epochs ended", self.epochs),
            ("stale in an epoch", self.stale),
            ("ms that lanes wait", self.lane_wait_ms),
            ("late votes", self.late_votes),
            ("slashed", self.slashed),
            ("stripes", self.stripes),
            ("bodies restored", self.restored),
            ("complaints heard", self.complaints),
        ]
    }

    /// Crashes of any kind.
    #[must_use]
    pub const fn crashes(&self) -> u64 {
        let sudden = self.kills.saturating_add(self.power_cuts);
        sudden.saturating_add(self.power_cuts_in_writes).saturating_add(self.failed_syncs)
    }

    /// Partitions of any kind.
    #[must_use]
    pub const fn splits(&self) -> u64 {
        self.partitions.saturating_add(self.partitions_one_way)
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (sum, (_, own)) in self.fields().into_iter().zip(other.rows()) {
            *sum = sum.saturating_add(own);
        }
    }

    /// In the order of [`rows`](Self::rows).
    const fn fields(&mut self) -> [&mut u64; 50] {
        [
            &mut self.kills,
            &mut self.power_cuts,
            &mut self.power_cuts_in_writes,
            &mut self.failed_syncs,
            &mut self.crashes_between_effects,
            &mut self.crashes_in_sync,
            &mut self.stops,
            &mut self.wipes,
            &mut self.rewinds,
            &mut self.restores,
            &mut self.thresholds,
            &mut self.disk.lost,
            &mut self.disk.torn,
            &mut self.disk.kept,
            &mut self.disk.reordered,
            &mut self.disk.names,
            &mut self.torn_tails,
            &mut self.restarts,
            &mut self.clock_jumps,
            &mut self.partitions,
            &mut self.partitions_one_way,
            &mut self.messages,
            &mut self.losses,
            &mut self.twice,
            &mut self.heights,
            &mut self.heights_again,
            &mut self.late_rounds,
            &mut self.open_rounds,
            &mut self.round_changes,
            &mut self.term_changes,
            &mut self.cuts_back,
            &mut self.catch_ups,
            &mut self.deeds,
            &mut self.evidence,
            &mut self.finals,
            &mut self.early,
            &mut self.repeats,
            &mut self.gaps,
            &mut self.fenced,
            &mut self.overloads,
            &mut self.certificates,
            &mut self.speculations,
            &mut self.epochs,
            &mut self.stale,
            &mut self.lane_wait_ms,
            &mut self.late_votes,
            &mut self.slashed,
            &mut self.stripes,
            &mut self.restored,
            &mut self.complaints,
        ]
    }
}

/// The first commit of a height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// When, in microseconds from the start.
    pub at_us: u64,
    /// Whether the round that decided had a leader.
    pub kind: RoundKind,
    /// Open rounds of the height up to there.
    pub open_count: u32,
}

/// A run without a violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Heights that were committed.
    pub height_count: u64,
    /// What happened.
    pub totals: Totals,
    /// When each height was first committed.
    pub commits: Vec<Commit>,
    /// When every led timer fired at once, in microseconds from the start; empty in a calm world.
    pub storm_us: std::ops::Range<u64>,
    /// Digest of the trace: the same for the same seed.
    pub digest: Hash,
    /// Each event in a line, if it was asked for.
    pub trace: Vec<String>,
}

/// A rule was broken. The seed replays it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("seed {seed}, event {turn}: {rule}: {what}")]
pub struct Violation {
    /// The seed.
    pub seed: u64,
    /// Number of the event.
    pub turn: usize,
    /// Which rule, as in the crate's header.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
    /// Each event in a line, if it was asked for.
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
    std::panic::catch_unwind(|| world::World::new(seed, profile).run()).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let what = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = what.unwrap_or_else(|| "a panic".to_owned());
        Err(Box::new(Violation { seed, turn: 0, rule: "P1", what, trace: Vec::new() }))
    })
}

/// What agreement of `count` equal validators costs, whose messages take `delay_us`: `height_count` heights, one every
/// `idle_ms` or when a transaction comes, which is every two seconds; in open rounds, if `kind` says so, because every led timer fires at once. `clock` tells what time the machine spends.
///
/// # Errors
/// The first rule that is broken.
pub fn measure(
    count: usize,
    delay_us: u64,
    idle_ms: u64,
    (height_count, kind): (u64, RoundKind),
    clock: Clock,
) -> Result<Measured, Box<Violation>> {
    world::World::measure(count, delay_us, idle_ms, (height_count, kind), clock)
}
