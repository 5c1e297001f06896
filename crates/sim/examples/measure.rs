//! What agreement costs: `cargo run --release -p quipu-sim --example measure`.
#![expect(clippy::disallowed_methods, reason = "a measurement takes its time from outside")]
#![expect(clippy::print_stdout, reason = "its output is a table")]

use std::time::Instant;

use quipu_sim::{Clock, Measured, Violation, measure};
use quipu_types::RoundKind;

fn clock() -> Clock {
    let start = Instant::now();
    Box::new(move || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

fn main() -> Result<(), Box<Violation>> {
    println!("rounds  n   CPU us a height and validator   messages a height   bytes a height");
    for (kind, name) in [(RoundKind::Led, "led"), (RoundKind::Open, "open")] {
        for count in [4, 7, 16, 32] {
            let heights = if count > 16 { 20 } else { 100 };
            let Measured { cpu_ns, message_count, message_size, .. } =
                measure(count, 500, 40, (heights, kind), clock())?;
            let cpu_us = cpu_ns / 1_000;
            println!("{name:<7} {count:<3} {cpu_us:>29} {message_count:>19} {message_size:>16}");
        }
    }
    println!();
    println!("n   one-way delay us   quorum of acks to commit us: median, worst, heights");
    for count in [4, 7, 16] {
        for delay_us in [1_000, 100_000] {
            let Measured { commit_us: (median, worst), commit_count, .. } =
                measure(count, delay_us, 60_000, (40, RoundKind::Led), clock())?;
            println!("{count:<3} {delay_us:>16} {median:>18} {worst:>8} {commit_count:>6}");
        }
    }
    Ok(())
}
