//! Our hashes and signature checks beside those of others: one run, one machine, one table.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml [-- ROUNDS]`

mod hashes;
mod machine;
mod measure;
mod signatures;

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn main() {
    let word = std::env::args().nth(1);
    let round_count = word.map_or(7, |word| word.parse().expect("ROUNDS is a number"));
    assert!(round_count > 0, "a median needs a round");
    let start = Instant::now();
    let now_ns = || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);

    let machine = machine::Machine::detect();
    println!(
        "{}, {:.2} GHz by a chain of additions, one core",
        machine.name,
        machine.clock_hz / 1e9
    );
    quipu_accel::default().calibrate(&now_ns);
    println!("{}", quipu_accel::default().report());
    let mut cases = hashes::cases(&machine, &now_ns);
    cases.extend(signatures::cases(&machine));
    println!("\n{round_count} rounds, interleaved; ours in bold\n");
    measure::measure(cases, round_count);
}
