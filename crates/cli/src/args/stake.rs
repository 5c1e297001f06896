//! `quipu stake`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use quipu_types::PublicKey;

use super::{Server, Signer};

/// What `quipu stake --help` ends with.
pub(crate) const HELP: &str = "From nothing to power:
  quipu keys new --out validator.key      the voting key: it only votes, and never leaves its machine
  quipu keys new --out owner.key          the owner's: it holds the units
  quipu stake register --url U --genesis genesis.json --signer owner.key --key validator.key \\
      --name bank-a --address quipu.bank-a.example:8642 --bond 1000
  quipu stake show --url U                power_next says what it has from the next epoch on

Who signs a registration is the validator's owner. A bond counts from the next epoch on; what is
unbonded stays locked, and answers for the validator, for the time that the genesis says. Evidence
costs a part of both, for good, and the validator never has power again. A ledger whose genesis has
no rules of stake keeps the validators that it began with: everything here is refused there, QP0246.";

/// `quipu stake`.
#[derive(Debug, Subcommand)]
pub(crate) enum Stake {
    /// Register a voting key; the signer owns it.
    #[command(
        after_help = "Example:\n  quipu stake register --url U --genesis genesis.json --signer owner.key --key validator.key \\\n      --name bank-a --address quipu.bank-a.example:8642 --bond 1000\n\nThe voting key signs once, for this ledger and this owner: nobody else can use that. A key that ever\nsigned a transaction, holds units or owns a validator is refused. Without --bond the slot may go to\nanother while all 128 are taken."
    )]
    Register(Register),
    /// Move units from the owner's balance to a validator's bond.
    #[command(
        after_help = "Example:\n  quipu stake bond --url U --signer owner.key --key PUBLIC 500\n\nPUBLIC is what quipu keys show prints of the voting key."
    )]
    Bond(Amount),
    /// Take units from a validator's bond; they stay locked for a time.
    #[command(
        after_help = "Example:\n  quipu stake unbond --url U --signer owner.key --key PUBLIC 500\n\nIts power falls with the next epoch. The units can be slashed until they are withdrawn."
    )]
    Unbond(Amount),
    /// Move what is locked no more to the owner's balance.
    #[command(
        after_help = "Example:\n  quipu stake withdraw --url U --signer owner.key --key PUBLIC\n\nRefused with QP0256 when nothing is due yet. What covers power that the validator had stays until\nno evidence of that epoch is taken any more."
    )]
    Withdraw(Owned),
    /// Say where a validator is found from now on.
    #[command(
        after_help = "Example:\n  quipu stake move --url U --signer owner.key --key PUBLIC new.example:8642"
    )]
    Move(Relocate),
    /// Show the ledger evidence: it is ordered, judged, and costs whom it names.
    #[command(
        after_help = "Example:\n  quipu validators evidence --dir ./validator --out ./case\n  quipu stake evidence --url U --signer any.key --epoch 3 ./case/FILE\n\nAnyone may. The epoch is the one in which the two things were signed: their signatures cover it, and\nevidence under another names nobody."
    )]
    Evidence(ShowEvidence),
    /// List validators with their power, bonds and owners; epochs and evidence too.
    #[command(after_help = "Example:\n  quipu stake show --url U")]
    Show(Show),
}

/// `quipu stake register`.
#[derive(Debug, Args)]
pub(crate) struct Register {
    #[command(flatten)]
    pub(crate) server: Server,
    /// The genesis file that you trust: the voting key signs for that ledger alone.
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: PathBuf,
    #[command(flatten)]
    pub(crate) signer: Signer,
    /// The key file of the voting key.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// A name, for people.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// Where the other validators reach this one.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) address: String,
    /// Units to bond in the same transaction.
    #[arg(long, value_name = "UNITS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) bond: Option<u64>,
    /// Machine output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A validator, and who signs for it.
#[derive(Debug, Args)]
pub(crate) struct Owned {
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(flatten)]
    pub(crate) signer: Signer,
    /// The voting key.
    #[arg(long, value_name = "PUBLIC")]
    pub(crate) key: PublicKey,
    /// Machine output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `quipu stake bond` and `unbond`.
#[derive(Debug, Args)]
pub(crate) struct Amount {
    #[command(flatten)]
    pub(crate) owned: Owned,
    /// Units.
    #[arg(value_name = "UNITS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) units: u64,
}

/// `quipu stake move`.
#[derive(Debug, Args)]
pub(crate) struct Relocate {
    #[command(flatten)]
    pub(crate) owned: Owned,
    /// Where the other validators reach it.
    #[arg(value_name = "HOST:PORT")]
    pub(crate) address: String,
}

/// `quipu stake evidence`.
#[derive(Debug, Args)]
pub(crate) struct ShowEvidence {
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(flatten)]
    pub(crate) signer: Signer,
    /// The epoch in which the two things were signed.
    #[arg(long, value_name = "E")]
    pub(crate) epoch: u64,
    /// The file.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Machine output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `quipu stake show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) server: Server,
    /// Machine output: an object.
    #[arg(long)]
    pub(crate) json: bool,
}
