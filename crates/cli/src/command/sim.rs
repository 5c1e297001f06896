//! `quipu sim`: worlds with faults; a seed replays exactly.

use std::fmt::Write as _;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use quipu_sim::{Profile, Report, Totals, Violation};
use quipu_types::{RoundKind, code};

use crate::args::{Sim, SimProfile};
use crate::failure::{Failure, Result};
use crate::{screen, tools};

/// Runs worlds on every core; the first that breaks a rule ends it with its seed. One world alone, or traced ones, run in
/// order.
pub(crate) fn run(args: &Sim) -> Result<()> {
    let profile = match args.profile {
        SimProfile::Short => Profile::short(),
        SimProfile::Long => Profile::long(),
        SimProfile::Storm => Profile::storm(),
    };
    let powers: &[u64] = if args.alone { &[1] } else { profile.powers };
    let profile = Profile { powers, keeps_trace: args.trace, ..profile };
    let bar = screen::bar("worlds", args.seeds);
    let last = args.seed.saturating_add(args.seeds);
    let (next, sum) = (AtomicU64::new(args.seed), Mutex::new(Sum::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= last {
                return;
            }
            let ran = quipu_sim::run(seed, &profile);
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            match ran {
                Ok(report) => sum.add(report, args),
                Err(violation) => {
                    next.store(last, Ordering::Relaxed);
                    sum.violation.get_or_insert(violation);
                }
            }
            bar.inc(1);
        }
    };
    let is_ordered = args.trace || args.seeds == 1;
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        (0..if is_ordered { 1 } else { threads }).for_each(|_| drop(scope.spawn(work)));
    });
    bar.finish_and_clear();
    report(args, sum.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// What worlds showed together.
#[derive(Default)]
struct Sum {
    totals: Totals,
    /// Heights decided in open rounds, and the open rounds that they took.
    open_heights: u64,
    open_rounds: u64,
    /// What is printed of single worlds.
    lines: Vec<String>,
    violation: Option<Box<Violation>>,
}

impl Sum {
    fn add(&mut self, report: Report, args: &Sim) {
        self.totals.add(&report.totals);
        for commit in report.commits.iter().filter(|commit| commit.kind == RoundKind::Open) {
            self.open_heights = self.open_heights.saturating_add(1);
            self.open_rounds = self.open_rounds.saturating_add(u64::from(commit.open_count));
        }
        if matches!(args.profile, SimProfile::Storm) && args.seeds == 1 {
            self.lines.push(plot(&report));
        }
        if args.trace {
            let (seed, digest) = (report.seed, report.digest);
            self.lines.extend(report.trace);
            self.lines.push(format!("seed {seed}: digest {digest}"));
        }
    }
}

fn report(args: &Sim, sum: Sum) -> Result<()> {
    for line in &sum.lines {
        tools::print(line)?;
    }
    if let Some(violation) = sum.violation {
        for line in &violation.trace {
            tools::print(line)?;
        }
        let profile = match args.profile {
            SimProfile::Short => "",
            SimProfile::Long => " --profile long",
            SimProfile::Storm => " --profile storm",
        };
        let alone = if args.alone { " --alone" } else { "" };
        let seed = violation.seed;
        let again = format!("Replay it: quipu sim --seed {seed}{profile}{alone} --trace");
        return Err(Failure::is_false(code::STORE_DAMAGED, violation).with_help(again));
    }
    let rows = sum.totals.rows();
    let rows = rows.iter().map(|(name, count)| vec![(*name).to_owned(), screen::grouped(*count)]);
    let rows: Vec<Vec<String>> = rows.collect();
    tools::print(&screen::table(&["what happened".into(), "times".into()], &rows))?;
    let mean = sum.open_rounds.saturating_mul(1_000).checked_div(sum.open_heights);
    if let Some(mean) = mean {
        tools::print(&format!(
            "{} open rounds for {} heights decided in one: {}.{:03} each",
            screen::grouped(sum.open_rounds),
            screen::grouped(sum.open_heights),
            mean / 1_000,
            mean % 1_000
        ))?;
    }
    let last = args.seed.saturating_add(args.seeds).saturating_sub(1);
    let (count, first) = (args.seeds, args.seed);
    tools::print(&format!("{count} worlds, seeds {first} to {last}: no rule was broken"))
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
