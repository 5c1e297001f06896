//! Fixed work for a backend: to see that it knows the answers, and what a step costs it.
//!
//! The answers were made by an implementation that is not ours (OpenSSL's), as one hash over all results of a kind.
//! Each item differs from its neighbours in length and content, so that a kernel that confuses its ways fails. 67
//! items fill four groups of 16 and leave a tail.

use sha2::{Digest, Sha256};

use crate::batch::{BatchBackend, Guard, Work};
use crate::sha256::{Engine, Job, Pair};

/// Items of the known-answer test.
const ITEM_COUNT: usize = 67;

/// Hashes that each chain of the known-answer test has.
const CHAIN_COUNT: u64 = 5;

const ANSWER_MANY: &str = "aed72dc1c91fc6dcc1607d3519f357043dc1db4bd7225d52b2994c097082669e";
const ANSWER_NODES: &str = "78db5b9d85de26f7313f549c8b72bb144c20ca4310d47e89ebf7bf1b5d736a26";
const ANSWER_CHAINS: &str = "35501f45706f7d61d33671517919928ee49659f5b2929da13f4576b34e9e63cd";

/// Message `i` has `37 i mod 300` bytes; byte `j` is `31 i + 7 j mod 256`.
fn messages() -> Vec<Vec<u8>> {
    let byte = |value: usize| value.to_le_bytes()[0];
    let message = |i: usize| {
        let size = i.wrapping_mul(37) % 300;
        (0..size).map(|j| byte(i.wrapping_mul(31).wrapping_add(j.wrapping_mul(7)))).collect()
    };
    (0..ITEM_COUNT).map(message).collect()
}

/// Hash `i` is that of the one byte `i`.
fn hashes() -> impl Iterator<Item = [u8; 32]> {
    (0..=u8::MAX).map(|i| Sha256::digest([i]).into())
}

fn pairs() -> Vec<Pair> {
    let hashes: Vec<_> = hashes().collect();
    hashes.as_chunks::<2>().0.iter().copied().take(ITEM_COUNT).collect()
}

fn is(results: &[[u8; 32]], answer: &str) -> bool {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(results.as_flattened()) {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(digit), 16));
        }
    }
    text == answer
}

/// Whether a kernel gives the known answers.
pub(super) fn knows_answers(engine: &dyn Engine) -> bool {
    let mut out = vec![[0; 32]; ITEM_COUNT];
    let messages = messages();
    let slices: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    engine.many(&Job { prefix: &[0], messages: &slices, finish: None }, &mut out);
    if !is(&out, ANSWER_MANY) {
        return false;
    }
    engine.nodes(1, &pairs(), &mut out);
    if !is(&out, ANSWER_NODES) {
        return false;
    }
    let mut chains: Vec<_> = hashes().take(ITEM_COUNT).collect();
    engine.chains(&mut chains, CHAIN_COUNT);
    is(&chains, ANSWER_CHAINS)
}

/// Whether a serial kernel gives the known answers.
#[cfg(any(test, target_arch = "x86_64"))]
pub(super) fn knows_serial(serial: &dyn crate::sha256::Serial) -> bool {
    use crate::sha256::slots;

    let mut out = vec![[0; 32]; ITEM_COUNT];
    for (message, hash) in messages().iter().zip(&mut out) {
        *hash = slots::one(serial, &[0], message);
    }
    is(&out, ANSWER_MANY)
}

/// Ask a batch backend for the known answers and guard it.
pub(super) fn guard(backend: Box<dyn BatchBackend>) -> Guard {
    let knows = batch_knows_answers(&*backend);
    Guard::new(backend, knows)
}

fn batch_knows_answers(backend: &dyn BatchBackend) -> bool {
    let mut out = vec![[0; 32]; ITEM_COUNT];
    let messages = messages();
    let slices: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    let chains: Vec<_> = hashes().take(ITEM_COUNT).collect();
    backend.sha256_many(&[0], &slices, &mut out).is_ok()
        && is(&out, ANSWER_MANY)
        && backend.sha256_nodes(1, &pairs(), &mut out).is_ok()
        && is(&out, ANSWER_NODES)
        && backend.sha256_chains(&chains, CHAIN_COUNT, &mut out).is_ok()
        && is(&out, ANSWER_CHAINS)
}

/// Runs of each measurement; the least counts, because whatever disturbs only adds.
const RUN_COUNT: usize = 3;

/// Picoseconds that one step of all ways takes, at least; 0 if the clock sees nothing.
pub(super) fn measure_step_ps(engine: &dyn Engine, work: Work, now_ns: &dyn Fn() -> u64) -> u64 {
    /// Steps that are timed together: microseconds, well above what a clock costs.
    const STEP_COUNT: usize = 32;
    let steps = u64::try_from(STEP_COUNT).expect("a small constant");
    let ways = engine.ways();
    let item_count = ways.saturating_mul(STEP_COUNT);
    let run = |work: &mut dyn FnMut()| {
        let mut least = u64::MAX;
        for _ in 0..RUN_COUNT {
            let start = now_ns();
            work();
            least = least.min(now_ns().saturating_sub(start));
        }
        least.saturating_mul(1_000).checked_div(steps).unwrap_or_default()
    };
    match work {
        Work::Many => {
            // A leaf of 200 bytes: four blocks, of which two are assembled.
            let message = [7; 200];
            let messages = vec![&message[..]; item_count / 4];
            let mut out = vec![[0; 32]; messages.len()];
            let job = Job { prefix: &[0], messages: &messages, finish: None };
            run(&mut || engine.many(&job, &mut out))
        }
        Work::Nodes => {
            let pairs = vec![[[7; 32]; 2]; item_count];
            let mut out = vec![[0; 32]; item_count];
            run(&mut || engine.nodes(1, &pairs, &mut out))
        }
        Work::Chains => {
            let mut hashes = vec![[7; 32]; ways];
            run(&mut || engine.chains(&mut hashes, steps))
        }
    }
}
