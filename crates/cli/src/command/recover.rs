//! `quipu recover`: a validator that lost its ledger begins again with what others vouch for.

use quipu_node::Recovery;
use quipu_types::code;

use crate::args::Recover;
use crate::failure::{Failure, Result};
use crate::{screen, tools};

/// Gives a validator's directory without a ledger a checkpoint to begin with.
pub(crate) fn run(args: &Recover) -> Result<()> {
    let bar = screen::bar("parts", 0);
    let mut tell = |done: usize, all: usize| {
        bar.set_length(u64::try_from(all).unwrap_or(u64::MAX));
        bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
    };
    let recovered = quipu_node::recover(&args.dir, &args.from, &mut tell);
    let recovered = tools::runtime()?.block_on(recovered);
    bar.finish_and_clear();
    let recovered = recovered.map_err(|error| Failure::new(code::RECOVER, error))?;
    tools::print(&match recovered {
        Recovery::Checkpoint { height, by } => format!(
            "begins after height {height}: the state there is vouched for by {}",
            by.join(", ")
        ),
        Recovery::Nothing => {
            "nobody has a checkpoint: others keep everything, and it comes from the genesis on"
                .to_owned()
        }
    })?;
    tools::print("It signs nothing before it can not contradict what it may have signed before.")?;
    tools::print(&format!("Next: quipu start --dir {}", args.dir.display()))
}
