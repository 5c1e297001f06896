//! `quipu sim`: worlds with faults; a seed replays exactly.

use quipu_sim::{Profile, Totals};
use quipu_types::code;

use crate::args::{Sim, SimProfile};
use crate::failure::{Failure, Result};
use crate::{screen, tools};

/// Runs worlds; the first that breaks a rule ends it with its seed.
pub(crate) fn run(args: &Sim) -> Result<()> {
    let profile = match args.profile {
        SimProfile::Short => Profile::short(),
        SimProfile::Long => Profile::long(),
    };
    let powers: &[u64] = if args.alone { &[1] } else { profile.powers };
    let profile = Profile { powers, keeps_trace: args.trace, ..profile };
    let mut totals = Totals::default();
    let bar = screen::bar("worlds", args.seeds);
    let last = args.seed.saturating_add(args.seeds);
    for seed in args.seed..last {
        match quipu_sim::run(seed, &profile) {
            Ok(report) => {
                totals.add(&report.totals);
                for line in &report.trace {
                    tools::print(line)?;
                }
                if args.trace {
                    tools::print(&format!("seed {seed}: digest {}", report.digest))?;
                }
            }
            Err(violation) => {
                bar.finish_and_clear();
                for line in &violation.trace {
                    tools::print(line)?;
                }
                let alone = if args.alone { " --alone" } else { "" };
                let again = format!("Replay it: quipu sim --seed {seed}{alone} --trace");
                return Err(Failure::is_false(code::STORE_DAMAGED, violation).with_help(again));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let rows: Vec<Vec<String>> = totals
        .rows()
        .iter()
        .map(|(name, count)| vec![(*name).to_owned(), screen::grouped(*count)])
        .collect();
    tools::print(&screen::table(&["what happened".into(), "times".into()], &rows))?;
    tools::print(&format!(
        "{} worlds, seeds {} to {}: no rule was broken",
        args.seeds,
        args.seed,
        last.saturating_sub(1)
    ))
}
