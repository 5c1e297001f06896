//! `quipu sim`: worlds with faults; a seed replays exactly.

use quipu_types::code;

use crate::args::Sim;
use crate::failure::{Failure, Result};
use crate::{screen, tools};

/// Runs worlds; the first that breaks a promise ends it with its seed.
pub(crate) fn run(_args: &Sim) -> Result<()> {
    let _ = (screen::bold(""), code::NOT_BUILT);
    tools::print("")?;
    Err(Failure::usage(""))
}
