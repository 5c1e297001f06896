//! The one binary, `quipu`: reads the command line, runs one command, exits.
//!
//! ```text
//!  args (clap) ─> command/<name>.rs ─> quipu-client ─> a validator's HTTP interface
//!                        │
//!                        └─> local (a ledger's directory) ─> quipu-node in this process
//! ```
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 3 what was checked is false or damaged.

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Bench, Cli, Command, ConfigCommand};
use crate::failure::{Failure, Result};

mod args;
mod ceremony;
mod command;
mod failure;
mod fleet;
mod local;
mod sample;
mod screen;
mod tools;
mod validator;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.exit())
        }
    }
}

fn run(wanted: Command) -> Result<()> {
    check_environment()?;
    match wanted {
        Command::Dev(args) => command::dev::run(args),
        Command::Init(args) => command::init::run(&args),
        Command::Genesis(command) => command::genesis::run(command),
        Command::Start(args) => command::start::run(&args),
        Command::Gateway(args) => command::gateway::run(args),
        Command::Keys(args) => command::keys::run(args),
        Command::Check(args) => command::check::run(&args),
        Command::Export(args) => command::export::run(&args),
        Command::Recover(args) => command::recover::run(&args),
        Command::Verify(args) => command::verify::run(&args),
        Command::Sim(args) => command::sim::run(&args),
        Command::Config(ConfigCommand::Check { file }) => command::config::run(&file),
        Command::Completions { shell } => command::completions::run(shell),
        Command::Explain { code } => command::explain::run(code.as_deref()),
        Command::Stream(args) => tools::runtime()?.block_on(command::stream::run(args)),
        Command::Validators(args) => command::validators::run(&args),
        Command::Stake(args) => tools::runtime()?.block_on(command::stake::run(args)),
        Command::Consumers(args) => tools::runtime()?.block_on(command::consumers::run(args)),
        Command::Append(args) => tools::runtime()?.block_on(command::append::run(args)),
        Command::Tail(args) => tools::runtime()?.block_on(command::tail::run(args)),
        Command::Sql(args) => tools::runtime()?.block_on(command::sql::run(args)),
        Command::Prove(args) => tools::runtime()?.block_on(command::prove::run(args)),
        Command::Clock(args) => tools::runtime()?.block_on(command::clock::run(args)),
        Command::Status(args) => tools::runtime()?.block_on(command::status::run(args)),
        Command::Bench(Bench::Consume(args)) => {
            tools::runtime()?.block_on(command::bench_consume::consume(args))
        }
        Command::Bench(Bench::Resume(args)) => {
            tools::runtime()?.block_on(command::bench_consume::resume(args))
        }
        Command::Bench(Bench::Accel(args)) => command::bench_accel::run(&args),
        Command::Bench(Bench::Produce(args)) => {
            tools::runtime()?.block_on(command::bench_produce::run(args))
        }
    }
}

/// Whoever forces a kernel means it: a word that nobody knows is not passed over.
fn check_environment() -> Result<()> {
    let variable = quipu_accel::CHOICE_VARIABLE;
    let word = std::env::var_os(variable).unwrap_or_default();
    match word.to_string_lossy().parse::<quipu_accel::Choice>() {
        Ok(_) => Ok(()),
        Err(unknown) => Err(Failure::usage(format!("{variable}: {unknown}"))
            .with_help("It forces who hashes, to compare or to go around a fault. Unset it.")),
    }
}
