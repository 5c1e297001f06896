//! Rounds in which every case runs once, so that all see the same weather; and the table of their medians.

use std::time::{Duration, Instant};

/// Least time of one run of a case: long against the clock's resolution, short against a neighbour's moods.
const RUN_TIME: Duration = Duration::from_millis(20);

/// Whose code it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Ours,
    Peer,
    /// A peer that does something near it, and is no measure for ours.
    Near,
}

/// One way of doing something many times.
pub(crate) struct Case {
    /// What is done: cases of the same `what` are compared.
    pub(crate) what: &'static str,
    /// By whom, how wide.
    pub(crate) way: String,
    pub(crate) owner: Owner,
    /// Items of one call of `run`.
    pub(crate) item_count: usize,
    /// Items a second that the machine allows.
    pub(crate) bound: Option<f64>,
    pub(crate) run: Box<dyn FnMut()>,
}

/// Items a second of one case.
struct Rates {
    low: f64,
    median: f64,
    high: f64,
}

impl Rates {
    fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        let (low, high) = (all[0], all[all.len() - 1]);
        Self { low, median: all[all.len() / 2], high }
    }
}

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn time(case: &mut Case, call_count: u32) -> Duration {
    let start = Instant::now();
    for _ in 0..call_count {
        (case.run)();
    }
    start.elapsed()
}

/// Run every case once a round, and print the table.
pub(crate) fn measure(mut cases: Vec<Case>, round_count: usize) {
    let call_counts: Vec<u32> = cases
        .iter_mut()
        .map(|case| {
            // The first call warms up, the second says how many fill a run.
            let once = time(case, 1).min(time(case, 1)).max(Duration::from_nanos(50));
            u32::try_from(RUN_TIME.as_nanos().div_ceil(once.as_nanos())).unwrap_or(u32::MAX)
        })
        .collect();
    let mut rates = vec![Vec::new(); cases.len()];
    for _ in 0..round_count {
        for ((case, call_count), rates) in cases.iter_mut().zip(&call_counts).zip(&mut rates) {
            let items = case.item_count as f64 * f64::from(*call_count);
            rates.push(items / time(case, *call_count).as_secs_f64());
        }
    }
    print(&cases, &rates.into_iter().map(Rates::of).collect::<Vec<_>>());
}

fn print(cases: &[Case], rates: &[Rates]) {
    println!("| what | way | a second: median | low | high | bound | share | to the best peer |");
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    for (case, rate) in cases.iter().zip(rates) {
        let of_peers = cases.iter().zip(rates).filter(|(peer, _)| {
            peer.what == case.what && peer.owner == Owner::Peer && case.owner != Owner::Near
        });
        let best = of_peers.map(|(_, rate)| rate.median).max_by(f64::total_cmp);
        let bound = case.bound.map_or("".to_owned(), short);
        let share =
            case.bound.map_or("".to_owned(), |b| format!("{:.0} %", 100.0 * rate.median / b));
        let ratio = best.map_or("".to_owned(), |best| format!("{:.2}", rate.median / best));
        let way =
            if case.owner == Owner::Ours { format!("**{}**", case.way) } else { case.way.clone() };
        let (median, low, high) = (short(rate.median), short(rate.low), short(rate.high));
        let what = case.what;
        println!("| {what} | {way} | {median} | {low} | {high} | {bound} | {share} | {ratio} |");
    }
}

/// Three or four digits and a unit.
fn short(rate: f64) -> String {
    match rate {
        1e9.. => format!("{:.2} G", rate / 1e9),
        1e6.. => format!("{:.2} M", rate / 1e6),
        1e3.. => format!("{:.1} k", rate / 1e3),
        _ => format!("{rate:.1}"),
    }
}
