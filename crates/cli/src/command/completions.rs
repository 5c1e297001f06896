//! `quipu completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::failure::Result;

/// Prints a shell's completion script.
#[expect(clippy::unnecessary_wraps, reason = "every command has the same form")]
pub(crate) fn run(shell: Shell) -> Result<()> {
    clap_complete::generate(shell, &mut Cli::command(), "quipu", &mut std::io::stdout());
    Ok(())
}
