//! What each backend of this machine does in a second, beside what its instructions allow.
//!
//! Bounds, by counting operations for one compression of all ways, per core at 4 GHz with four vector units of which
//! two shift and rotate (Zen 5):
//!
//! * AVX-512: 64 rounds of 7 additions (8 as we order them), 6 rotations, 4 functions of three bits; 48 words of 3
//!   additions, 6 rotations and shifts, 2 functions. 672 shifts on two units are 336 cycles, 1,680 operations on four
//!   are 420 cycles: 16 ways by 420 cycles is 152 M/s. A round waits for five operations of one or two cycles, so one
//!   register does not fill the units: two do. A machine that rotates on one unit only (Intel): 672 cycles, 60 M/s at
//!   2.5 GHz.
//! * AVX2: a rotation is three operations: about 3,300 operations on four units are 825 cycles, 8 ways, 39 M/s.
//! * SHA-NI: 32 `sha256rnds2` of four cycles in a row: 31 M/s for one stream; two cycles apart: 62 M/s for many.
//!
//! A node is two compressions. A leaf of 200 bytes is four, and its share of the tree another two.
//!
//! Run: `cargo run --release -p quipu-accel --example measure [backend...]`.
#![expect(clippy::disallowed_methods, reason = "a measurement reads a clock")]

use std::hint::black_box;
use std::time::Instant;

use quipu_accel::{Accel, Choice, Dispatcher};

/// Runs of each line; the median counts.
const RUN_COUNT: usize = 9;

fn main() {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if words.is_empty() {
        words = ["scalar", "shani", "avx2", "avx512", "auto"].map(String::from).to_vec();
    }
    let start = Instant::now();
    let now_ns = || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    for word in &words {
        let choice = match word.parse::<Choice>() {
            Ok(choice) => choice,
            Err(unknown) => {
                println!("{unknown}");
                continue;
            }
        };
        let before = now_ns();
        let dispatcher = Dispatcher::new(choice, Vec::new());
        let made = now_ns();
        dispatcher.calibrate(&now_ns);
        let calibrated = now_ns();
        let report = dispatcher.report();
        println!(
            "{report}  made in {} us, calibrated in {} us",
            made.saturating_sub(before) / 1_000,
            calibrated.saturating_sub(made) / 1_000
        );
        if report.fallback.is_none() {
            measure(word, &dispatcher);
        }
    }
}

fn measure(word: &str, accel: &dyn Accel) {
    for start_count in [1_usize, 16, 32, 256] {
        let mut starts = vec![[1; 32]; start_count];
        let name = format!("sha256::chains/starts={start_count} by={word}");
        print_rate(&name, start_count.saturating_mul(500), || {
            accel.sha256_chains(black_box(&mut starts), 500);
        });
    }
    let pairs = vec![[[3; 32]; 2]; 4_096];
    let mut nodes = vec![[0; 32]; pairs.len()];
    print_rate(&format!("sha256::nodes/pairs=4096 by={word}"), pairs.len(), || {
        accel.sha256_nodes(1, black_box(&pairs), &mut nodes);
    });
    for size in [32, 200, 1_000] {
        let messages = vec![vec![5; size]; 4_096];
        let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let mut hashes = vec![[0; 32]; messages.len()];
        print_rate(&format!("sha256::many/size={size} by={word}"), messages.len(), || {
            accel.sha256_many(&[0], black_box(&messages), &mut hashes);
        });
        if size == 200 {
            print_rate(&format!("sha256::tree/size={size} by={word}"), messages.len(), || {
                accel.sha256_many(&[0], black_box(&messages), &mut hashes);
                root(accel, &hashes);
            });
        }
    }
    let message = vec![5; 1 << 20];
    let mut hash = [[0; 32]];
    print_rate(&format!("sha256::many/size=32 calls of one by={word}"), 1_000, || {
        for _ in 0..1_000 {
            accel.sha256_many(&[0], black_box(&[&[5; 32]]), &mut hash);
        }
    });
    print_rate(&format!("sha256::many/one of 1 MiB, blocks by={word}"), message.len() / 64, || {
        accel.sha256_many(&[], black_box(&[&message]), &mut hash);
    });
}

/// The root over a power of two of leaves.
fn root(accel: &dyn Accel, leaves: &[[u8; 32]]) -> [u8; 32] {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        let pairs = level.as_chunks::<2>().0;
        let mut next = vec![[0; 32]; pairs.len()];
        accel.sha256_nodes(1, pairs, &mut next);
        level = next;
    }
    level.first().copied().unwrap_or_default()
}

/// Millions of hashes a second.
fn print_rate(name: &str, hash_count: usize, mut work: impl FnMut()) {
    let mut times: Vec<_> = (0..RUN_COUNT)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    let median = times.get(RUN_COUNT / 2).copied().unwrap_or(1).max(1);
    let count = u128::try_from(hash_count).unwrap_or_default();
    let hundredths = count.saturating_mul(100_000).checked_div(median).unwrap_or_default();
    println!("{name:<52} {:>6}.{:02} M hash/s", hundredths / 100, hundredths % 100);
}
