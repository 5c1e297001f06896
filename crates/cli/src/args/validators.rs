//! `quipu validators`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `quipu validators`.
#[derive(Debug, Subcommand)]
pub(crate) enum Validators {
    /// List what a validator keeps against others: whom each proof names, and for what.
    #[command(after_help = HELP)]
    Evidence(ListEvidence),
}

const HELP: &str = "Examples:
  quipu validators evidence --dir ./ledger/node0
  quipu validators evidence --dir ./ledger/node0 --out ./case
  quipu verify --genesis genesis.json --evidence ./case/FILE
  quipu verify --genesis genesis.json --epochs ./case/epochs --evidence ./case/FILE

A proof is what one validator signed and no honest one signs. It needs the genesis and nothing else; of a later epoch
than the first it needs how the epochs before ended, too, which --out writes beside it as ./case/epochs. Give both to the
other members. quipu stake evidence --epoch E shows it to the ledger. The validator may be running.";

/// `quipu validators evidence`.
#[derive(Debug, Args)]
pub(crate) struct ListEvidence {
    /// The validator's directory.
    #[arg(long, value_name = "D/node0")]
    pub(crate) dir: PathBuf,
    /// The genesis file that you trust; the validator's own if none is given.
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: Option<PathBuf>,
    /// Copies the proofs that hold to this directory, which is made.
    #[arg(long, value_name = "D")]
    pub(crate) out: Option<PathBuf>,
    /// Machine output: an object a line.
    #[arg(long)]
    pub(crate) json: bool,
}
