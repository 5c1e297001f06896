//! `quipu sim`: worlds with faults; a seed replays exactly.

use std::fmt::Write as _;

use quipu_sim::{Commit, Profile, Report, Totals};
use quipu_types::{RoundKind, code};

use crate::args::{Sim, SimProfile};
use crate::failure::{Failure, Result};
use crate::{screen, tools};

/// Runs worlds; the first that breaks a rule ends it with its seed.
pub(crate) fn run(args: &Sim) -> Result<()> {
    let profile = match args.profile {
        SimProfile::Short => Profile::short(),
        SimProfile::Long => Profile::long(),
        SimProfile::Storm => Profile::storm(),
    };
    let powers: &[u64] = if args.alone { &[1] } else { profile.powers };
    let profile = Profile { powers, keeps_trace: args.trace, ..profile };
    let (mut totals, mut commits) = (Totals::default(), Vec::new());
    let bar = screen::bar("worlds", args.seeds);
    let last = args.seed.saturating_add(args.seeds);
    for seed in args.seed..last {
        match quipu_sim::run(seed, &profile) {
            Ok(report) => {
                totals.add(&report.totals);
                commits.extend_from_slice(&report.commits);
                if matches!(args.profile, SimProfile::Storm) && args.seeds == 1 {
                    tools::print(&plot(&report))?;
                }
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
    if let Some(line) = open_rounds(&commits) {
        tools::print(&line)?;
    }
    tools::print(&format!(
        "{} worlds, seeds {} to {}: no rule was broken",
        args.seeds,
        args.seed,
        last.saturating_sub(1)
    ))
}

/// Time that one line of the plot stands for.
const LINE_US: u64 = 250_000;

/// What was decided when, a line for each quarter of a second: `l` a height of a led round, `o` of an open one.
fn plot(report: &Report) -> String {
    let last = report.commits.last().map_or(0, |commit| commit.at_us);
    let mut out = "  time  heights, by the round that decided them: l led, o open; | while every timer fires at once\n".to_owned();
    for line in 0..=last.checked_div(LINE_US).unwrap_or(0) {
        let from_us = line.saturating_mul(LINE_US);
        let times = from_us..from_us.saturating_add(LINE_US);
        let own = report.commits.iter().filter(|commit| times.contains(&commit.at_us));
        let marks: String = own
            .map(|commit| match commit.kind {
                RoundKind::Led => 'l',
                RoundKind::Open => 'o',
            })
            .collect();
        let storm = if report.storm_us.contains(&from_us) { '|' } else { ' ' };
        let (seconds, rest) = (from_us / 1_000_000, from_us / 10_000 % 100);
        let _ = writeln!(out, "{seconds:>3}.{rest:02} {storm} {marks}");
    }
    out
}

/// How many open rounds a height took that was decided in one; none where there was none.
fn open_rounds(commits: &[Commit]) -> Option<String> {
    let open = commits.iter().filter(|commit| commit.kind == RoundKind::Open);
    let (mut heights, mut rounds) = (0_u64, 0_u64);
    for commit in open {
        heights = heights.saturating_add(1);
        rounds = rounds.saturating_add(u64::from(commit.open_count));
    }
    let mean = rounds.saturating_mul(1_000).checked_div(heights)?;
    Some(format!(
        "{} open rounds for {} heights decided in one: {}.{:03} each",
        screen::grouped(rounds),
        screen::grouped(heights),
        mean / 1_000,
        mean % 1_000
    ))
}
