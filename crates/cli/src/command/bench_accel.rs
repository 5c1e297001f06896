//! `quipu bench accel`: what this machine's kernels are, how much of each operation one core does in a second, and how fast
//! clocks are verified.

mod clock;

use std::time::{Duration, Instant};

use quipu_accel::{Accel, Ed25519Item};
use quipu_crypto::{SecretKey, leaf_hash, sha256};
use quipu_types::Suite;
use serde_json::json;

use crate::args::BenchAccel;
use crate::failure::Result;
use crate::{screen, tools};

/// Items of one call: many groups of the widest kernel.
const ITEM_COUNT: usize = 1_024;
/// How long each round takes at least, and how many there are.
const ROUND: Duration = Duration::from_millis(40);
const ROUND_COUNT: usize = 5;

pub(crate) fn run(args: &BenchAccel) -> Result<()> {
    let accel = quipu_accel::default();
    let start = Instant::now();
    accel.calibrate(&|| u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    let rates = measure(accel);
    let clocks = clock::measure(rate);
    let report = accel.report().to_string();
    if args.json {
        let all = rates.iter().map(|(name, rate)| ((*name).to_owned(), json!(rate.round())));
        let rates: serde_json::Map<String, serde_json::Value> = all.collect();
        let all = clocks.into_iter().map(|(name, rate)| (name, json!(rate.round())));
        let clocks: serde_json::Map<String, serde_json::Value> = all.collect();
        let all = json!({ "per_second": rates, "clock_per_second": clocks, "kernels": report });
        return tools::print(&all.to_string());
    }
    tools::print(report.trim_end())?;
    tools::print(&screen::bold(&format!("\n{:<44}  {:>14}", "one core", "a second")))?;
    for (name, rate) in rates {
        tools::print(&format!("{name:<44}  {rate:>14.0}"))?;
    }
    tools::print(&screen::bold(&format!(
        "\n{:<44}  {:>14}",
        "a clock's ticks, verified", "a second"
    )))?;
    for (name, rate) in clocks {
        tools::print(&format!("{name:<44}  {rate:>14.0}"))?;
    }
    Ok(())
}

fn measure(accel: &dyn Accel) -> Vec<(&'static str, f64)> {
    let hashes: Vec<[u8; 32]> =
        (0..=u8::MAX).cycle().take(2 * ITEM_COUNT).map(|n| sha256(&[n]).0).collect();
    let messages: Vec<&[u8]> = vec![&[7; 200]; ITEM_COUNT];
    let mut out = vec![[0; 32]; ITEM_COUNT];
    let pairs = hashes.as_chunks::<2>().0;
    let mut chains = hashes.clone();
    let (keys, signatures) = signed();
    let items: Vec<Ed25519Item<'_>> = keys
        .iter()
        .zip(&signatures)
        .map(|(key, signature)| Ed25519Item { key, message: MESSAGE, signature })
        .collect();
    let mut rates = vec![
        ("SHA-256, chained", rate(chains.len(), &mut || accel.sha256_chains(&mut chains, 1))),
        (
            "SHA-256, leaves of 200 bytes",
            rate(ITEM_COUNT, &mut || accel.sha256_many(&[0], &messages, &mut out)),
        ),
        (
            "SHA-256, nodes of 65 bytes",
            rate(ITEM_COUNT, &mut || accel.sha256_nodes(1, pairs, &mut out)),
        ),
        (
            "Keccak-256, 200 bytes",
            rate(ITEM_COUNT, &mut || accel.keccak256_many(&messages, &mut out)),
        ),
        (
            "BLAKE2b-256, 200 bytes",
            rate(ITEM_COUNT, &mut || accel.blake2b256_many(&messages, &mut out)),
        ),
    ];
    rates.push((
        "SHA-256, one after another",
        rate(1, &mut || {
            std::hint::black_box(leaf_hash(&[7; 200]));
        }),
    ));
    rates.push((
        "ed25519, signatures of many keys",
        rate(items.len(), &mut || drop(accel.verify_ed25519_many(&items))),
    ));
    rates.push((
        "ed25519, one after another",
        rate(1, &mut || drop(items.get(..1).map(|one| accel.verify_ed25519_many(one)))),
    ));
    rates
}

const MESSAGE: &[u8] = b"quipu bench accel";

fn signed() -> (Vec<[u8; 32]>, Vec<[u8; 64]>) {
    (0..128_u8)
        .map(|n| {
            let key = SecretKey::from_seed(Suite::Ed25519Sha256, [n; 32]);
            let public = key.public();
            let public: &[u8; 32] = public.bytes().try_into().expect("an ed25519 key has 32 bytes");
            (*public, key.sign(MESSAGE).0)
        })
        .unzip()
}

/// Items a second: the best round, because whatever disturbs only adds.
fn rate(item_count: usize, work: &mut dyn FnMut()) -> f64 {
    let items = f64::from(u32::try_from(item_count).unwrap_or(u32::MAX));
    let round = |_| {
        let (start, mut calls) = (Instant::now(), 0.0);
        while start.elapsed() < ROUND {
            work();
            calls += 1.0;
        }
        calls * items / start.elapsed().as_secs_f64()
    };
    (0..ROUND_COUNT).map(round).fold(0.0, f64::max)
}
