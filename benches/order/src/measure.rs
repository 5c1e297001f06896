//! Rounds in which every way runs once, so that all see the same weather; and the table of their medians.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Validators of every way, of equal weight.
pub(crate) const COUNT: usize = 4;

/// How long one way runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    /// Heights before the clock is read.
    pub(crate) warm: u64,
    /// Heights that are timed.
    pub(crate) timed: u64,
}

impl Length {
    pub(crate) const fn last(self) -> u64 {
        self.warm + self.timed
    }
}

/// What happened so far, all validators together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Signatures made.
    pub(crate) signed: u64,
    /// Signatures checked, alone or among others.
    pub(crate) checked: u64,
    /// Messages that arrived, and their bytes.
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// Bytes appended to the logs in memory, where that is seen.
    pub(crate) logged: Option<u64>,
}

impl Counts {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            signed: self.signed - before.signed,
            checked: self.checked - before.checked,
            messages: self.messages - before.messages,
            bytes: self.bytes - before.bytes,
            logged: self.logged.zip(before.logged).map(|(all, before)| all - before),
        }
    }
}

/// What each validator committed, first height first.
pub(crate) type Commits = Vec<Vec<[u8; 32]>>;

/// One run of one way.
#[derive(Clone, Debug)]
pub(crate) struct Play {
    pub(crate) commits: Commits,
    /// Of the timed heights.
    pub(crate) cpu: Duration,
    pub(crate) counts: Counts,
    pub(crate) timed: u64,
}

impl Play {
    fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.timed as f64
    }
}

/// Reads clock and counters at the two heights between which is timed.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    length: Length,
    start: Option<(Duration, Counts)>,
    stop: Option<(Duration, Counts)>,
}

impl Stopwatch {
    pub(crate) const fn new(length: Length) -> Self {
        Self { length, start: None, stop: None }
    }

    /// Told how far the slowest validator is; whether that is far enough.
    pub(crate) fn reached(&mut self, height: u64, counts: impl FnOnce() -> Counts) -> bool {
        if self.start.is_none() && height >= self.length.warm {
            self.start = Some((cpu(), counts()));
        } else if self.stop.is_none() && height >= self.length.last() {
            self.stop = Some((cpu(), counts()));
        }
        self.stop.is_some()
    }

    pub(crate) fn play(self, commits: Commits) -> Play {
        let (from, before) = self.start.expect("it ran");
        let (to, after) = self.stop.expect("it ran to its end");
        let timed = self.length.timed;
        Play { commits, cpu: to - from, counts: after.since(before), timed }
    }
}

/// Processor time of all threads of this process.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(now.tv_sec).expect("time goes on from 0");
    let nanos = u32::try_from(now.tv_nsec).expect("below a second");
    Duration::new(seconds, nanos)
}

/// Whose code it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Ours,
    Peer,
    /// It does more than order, and is compared with nobody.
    More,
}

/// Whether others' signatures are checked. That they are not shows what all the rest costs; they are made all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checks {
    All,
    None,
}

/// One way to agree.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) owner: Owner,
    /// Ways of the same kind are compared.
    pub(crate) checks: Checks,
    pub(crate) run: fn(Length, Checks) -> Play,
    /// A spoilt signature among good ones: what was refused.
    pub(crate) spoil: fn() -> String,
}

impl Way {
    /// The name, and whether it is told apart.
    pub(crate) fn full_name(&self) -> String {
        match self.checks {
            Checks::All => self.name.to_owned(),
            Checks::None => format!("{}, unchecked", self.name),
        }
    }
}

/// Looks whether a way orders, and refuses what is forged.
pub(crate) fn check(way: &Way) {
    let length = Length { warm: 10, timed: 40 };
    let Play { commits, .. } = (way.run)(length, way.checks);
    assert_eq!(commits.len(), COUNT, "{}: validators", way.name);
    let last = usize::try_from(length.last()).expect("few");
    let first = &commits[0][..last];
    for (validator, own) in commits.iter().enumerate() {
        assert_eq!(&own[..last], first, "{}: validator {validator} differs", way.name);
    }
    let mut distinct = first.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), last, "{}: a value twice", way.name);
    let refused = match way.checks {
        Checks::All => (way.spoil)(),
        Checks::None => "nothing to refuse".to_owned(),
    };
    eprintln!("{}: {last} heights, four alike; {refused}", way.full_name());
}

/// Runs every way once a round, and prints the tables.
pub(crate) fn measure(ways: &[Way], round_count: usize, length: Length) {
    let mut plays: Vec<Vec<Play>> = vec![Vec::new(); ways.len()];
    for round in 1..=round_count {
        eprint!("round {round} of {round_count}, µs a height:");
        for (way, plays) in ways.iter().zip(&mut plays) {
            let play = (way.run)(length, way.checks);
            eprint!(" {:.0}", play.cpu_us());
            plays.push(play);
        }
        eprintln!();
    }
    for plays in &mut plays {
        plays.sort_by(|a, b| a.cpu_us().total_cmp(&b.cpu_us()));
    }
    for (checks, title) in [
        (Checks::All, "Every signature is made, and checked by whoever would check it"),
        (Checks::None, "The same, and no signature of another is checked: what all the rest costs"),
    ] {
        println!("{title}:\n");
        let all = ways.iter().zip(&plays).filter(|(way, _)| way.checks == checks);
        print_times(&all.collect::<Vec<_>>());
    }
    println!("What happens in a height, all four together:\n");
    print_counts(ways, &plays);
}

fn median(plays: &[Play]) -> &Play {
    &plays[plays.len() / 2]
}

fn print_times(all: &[(&Way, &Vec<Play>)]) {
    let peers = all.iter().filter(|(way, _)| way.owner == Owner::Peer);
    let best = peers.map(|(_, plays)| median(plays).cpu_us()).min_by(f64::total_cmp);
    println!(
        "| way | µs a height, all four: median | low | high | µs a height and validator | heights a second, one thread | of the best peer's |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for (way, plays) in all {
        let us = median(plays).cpu_us();
        let (low, high) = (plays[0].cpu_us(), plays[plays.len() - 1].cpu_us());
        let is_compared = way.owner != Owner::More;
        let ratio = best.filter(|_| is_compared).map(|best| format!("{:.2}", best / us));
        let (ratio, name, each) = (ratio.unwrap_or_default(), name(way), us / COUNT as f64);
        let rate = 1e6 / us;
        println!("| {name} | {us:.1} | {low:.1} | {high:.1} | {each:.1} | {rate:.0} | {ratio} |");
    }
    println!();
}

fn print_counts(ways: &[Way], plays: &[Vec<Play>]) {
    println!("| way | signatures made | checked | messages | their bytes | bytes logged |");
    println!("|---|---:|---:|---:|---:|---:|");
    for (way, plays) in ways.iter().zip(plays).filter(|(way, _)| way.checks == Checks::All) {
        let Play { counts, timed, .. } = median(plays);
        let each = |count: u64| count as f64 / *timed as f64;
        let (signed, checked) = (each(counts.signed), each(counts.checked));
        let (messages, bytes) = (each(counts.messages), each(counts.bytes));
        let logged =
            counts.logged.map_or("not counted".to_owned(), |all| format!("{:.0}", each(all)));
        let name = name(way);
        println!("| {name} | {signed:.1} | {checked:.1} | {messages:.1} | {bytes:.0} | {logged} |");
    }
}

fn name(way: &Way) -> String {
    if way.owner == Owner::Peer { way.name.to_owned() } else { format!("**{}**", way.name) }
}
