//! `quipu init`: a ledger's directory, for development.

use crate::args::Init;
use crate::failure::{Failure, Result};
use crate::local::{self, Layout, Ports};
use crate::tools;

/// Makes genesis, keys and configuration.
pub(crate) fn run(args: &Init) -> Result<()> {
    local::check_validators(args.validators)?;
    let stake = match args.stake.as_slice() {
        [] => 1,
        [0] => return Err(Failure::usage("--stake 0: a validator has at least one unit of power")),
        [stake] => *stake,
        stakes => {
            return Err(Failure::usage(format!(
                "--stake names {} validators, --validators {}",
                stakes.len(),
                args.validators
            )));
        }
    };
    let ports = args.base_port.map_or_else(|| Ok(Ports::default()), Ports::from_base)?;
    let layout = Layout::new(&args.dir);
    let genesis = local::create(&layout, stake, ports)?;
    let chain = quipu_proof::names::chain_id(&genesis);
    tools::print(&format!("genesis    {}", layout.genesis().display()))?;
    tools::print(&format!("chain      {chain}"))?;
    tools::print(&format!("validator  {}", layout.node().display()))?;
    tools::print(&format!(
        "client     {}  (holds units; signs appends)",
        layout.dev_key().display()
    ))?;
    tools::print("")?;
    tools::print("All keys were made here, in one place: unsafe, for development only.")?;
    tools::print(&format!("Next: quipu start --dir {}", layout.node().display()))
}
