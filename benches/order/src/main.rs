//! What order alone costs: our consensus beside those of others, in one run, on one machine, in one table.

mod malachite;
mod measure;
mod ours;
mod post;
mod simplex;

use std::process::ExitCode;
use std::time::Instant;

use measure::{Checks, Length, Owner, Way};

const HELP: &str = "\
What order alone costs: four validators in one process, no network, no disk.

    cargo run --release --manifest-path benches/order/Cargo.toml -- [ROUNDS] [--heights N] [--only WORD]

    ROUNDS       interleaved rounds, of which the median is taken (7)
    --heights N  heights of one run that are timed; a fifth as many run before (2000)
    --only WORD  ways whose name has the word, \"unchecked\" behind it where so, for a profile
    --help       this text";

/// What was asked for.
struct Arguments {
    round_count: usize,
    heights: u64,
    only: Option<String>,
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Option<Self> {
        let mut arguments = Self { round_count: 7, heights: 2_000, only: None };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--heights" => arguments.heights = words.next()?.parse().ok()?,
                "--only" => arguments.only = Some(words.next()?),
                number => arguments.round_count = number.parse().ok()?,
            }
        }
        (arguments.round_count > 0 && arguments.heights > 0).then_some(arguments)
    }
}

fn ways() -> Vec<Way> {
    use Checks::{All, None};
    use Owner::{More, Ours, Peer};
    let malachite = |checks| Way {
        name: "malachite",
        owner: Peer,
        checks,
        run: malachite::play,
        spoil: malachite::spoil,
    };
    let simplex = |checks| Way {
        name: "commonware simplex",
        owner: Peer,
        checks,
        run: simplex::play,
        spoil: simplex::spoil,
    };
    let ours = |name, owner, checks, run| Way { name, owner, checks, run, spoil: ours::spoil };
    vec![
        malachite(All),
        simplex(All),
        ours("quipu, 1 lane", Ours, All, ours::idle_1),
        ours("quipu, 1 lane, messages one by one", Ours, All, ours::idle_1_alone),
        ours("quipu, 16 lanes", Ours, All, ours::idle_16),
        ours("quipu, 16 lanes, a chunk and a state each height", More, All, ours::moving_16),
        malachite(None),
        simplex(None),
        ours("quipu, 1 lane", Ours, None, ours::idle_1),
        ours("quipu, 16 lanes", Ours, None, ours::idle_16),
    ]
}

#[expect(clippy::disallowed_methods, reason = "kernels are measured against a clock")]
fn main() -> ExitCode {
    if std::env::args().any(|word| word == "--help" || word == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let Some(arguments) = Arguments::read(std::env::args().skip(1)) else {
        eprintln!("{HELP}");
        return ExitCode::from(2);
    };
    let Arguments { round_count, heights, only } = arguments;
    let start = Instant::now();
    quipu_accel::default()
        .calibrate(&|| u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    let mut ways = ways();
    ways.retain(|way| only.as_ref().is_none_or(|word| way.full_name().contains(word)));
    for way in &ways {
        measure::check(way);
    }
    println!("{round_count} rounds, interleaved, of {heights} heights each; ours in bold.\n");
    measure::measure(&ways, round_count, Length { warm: heights / 5, timed: heights });
    ExitCode::SUCCESS
}
