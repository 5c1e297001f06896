//! `quipu clock`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Server;

pub(super) const HELP: &str = "\
Examples:
  quipu clock --url U
  quipu clock before --url U TX1 TX2
  quipu clock before --url U --genesis genesis.json --out order.json TX1 TX2
  quipu verify --genesis genesis.json order.json    later, offline

Each lane has a clock: a chain of hashes that takes time to make and mixes in what its sequencer sees: batches,
other lanes' tips, committed headers. Rates are ticks over the time between headers, which validators agreed on.
What the ticks alone prove is little, for they are counted at the rate of the fastest silicon there might be;
the brackets of transactions rest on headers, and on what was mixed before what.";

/// `quipu clock`.
#[derive(Debug, Args)]
pub(crate) struct Clock {
    /// What else.
    #[command(subcommand)]
    pub(crate) command: Option<ClockCommand>,
    #[command(flatten)]
    pub(crate) server: Option<Server>,
    /// Machine output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `quipu clock` does beside showing.
#[derive(Debug, Subcommand)]
pub(crate) enum ClockCommand {
    /// Say which of two transactions was there before the other was stamped, with a proof: before, after, or concurrent.
    Before(Before),
}

/// `quipu clock before`.
#[derive(Debug, Args)]
pub(crate) struct Before {
    #[command(flatten)]
    pub(crate) server: Server,
    /// Check the proof against this genesis file, rather than the one that the server names.
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: Option<PathBuf>,
    /// Write the proof here; `quipu verify` checks it offline.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Machine output.
    #[arg(long)]
    pub(crate) json: bool,
    /// A transaction's name, as _tx has it.
    #[arg(value_name = "TX1")]
    pub(crate) first: String,
    /// Another one's.
    #[arg(value_name = "TX2")]
    pub(crate) second: String,
}
