//! What order alone costs: our consensus beside those of others, in one run, on one machine, in one table.

mod malachite;
mod measure;
mod ours;
mod post;
mod simplex;

use std::time::Instant;

use measure::{Length, Owner, Way};

const HELP: &str = "\
What order alone costs: four validators in one process, no network, no disk.

    cargo run --release --manifest-path benches/order/Cargo.toml -- [ROUNDS] [--heights N] [--only WORD]

    ROUNDS       interleaved rounds, of which the median is taken (7)
    --heights N  heights of one run that are timed; a fifth as many run before (2000)
    --only WORD  ways whose name has the word, for a profile
    --help       this text";

/// What was asked for.
struct Arguments {
    round_count: usize,
    heights: u64,
    only: Option<String>,
}

impl Arguments {
    fn read() -> Option<Self> {
        let mut arguments = Self { round_count: 7, heights: 2_000, only: None };
        let mut words = std::env::args().skip(1);
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
    use Owner::{More, Ours, Peer};
    vec![
        Way { name: "malachite", owner: Peer, run: malachite::play, spoil: malachite::spoil },
        Way { name: "commonware simplex", owner: Peer, run: simplex::play, spoil: simplex::spoil },
        Way { name: "quipu, 1 lane", owner: Ours, run: ours::idle_1, spoil: ours::spoil },
        Way { name: "quipu, 16 lanes", owner: Ours, run: ours::idle_16, spoil: ours::spoil },
        Way {
            name: "quipu, 16 lanes, a chunk and a state each height",
            owner: More,
            run: ours::moving_16,
            spoil: ours::spoil,
        },
    ]
}

#[expect(clippy::disallowed_methods, reason = "kernels are measured against a clock")]
fn main() {
    let Some(Arguments { round_count, heights, only }) = Arguments::read() else {
        eprintln!("{HELP}");
        return;
    };
    let start = Instant::now();
    quipu_accel::default()
        .calibrate(&|| u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    let mut ways = ways();
    ways.retain(|way| only.as_ref().is_none_or(|word| way.name.contains(word)));
    for way in &ways {
        measure::check(way);
    }
    println!("{round_count} rounds, interleaved, of {heights} heights each; ours in bold\n");
    measure::measure(&ways, round_count, Length { warm: heights / 5, timed: heights });
}
