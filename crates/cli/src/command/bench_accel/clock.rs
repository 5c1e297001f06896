//! How many ticks of a lane's clock are verified in a second: one after another, and side by side on each kernel, in parts on
//! one thread to as many as there are cores.

use quipu_accel::{Accel, Choice, Dispatcher};
use quipu_clock::stretch::{Part, Stretch, verify_parallel, verify_serial};
use quipu_clock::{Generator, stretches};
use quipu_types::Hash;
use quipu_types::chunk::TICKS_PER_ENTRY_MAX;

/// Entries for each core: two groups of the widest kernel.
const ENTRY_COUNT_PER_CORE: usize = 32;

/// Rows of `(how, ticks a second)`. `rate` gives items a second of work on so many.
pub(super) fn measure(rate: impl Fn(usize, &mut dyn FnMut()) -> f64) -> Vec<(String, f64)> {
    let start = quipu_clock::seed_value("quipu bench accel");
    let entry_count = ENTRY_COUNT_PER_CORE.saturating_mul(core_count());
    let ticks = TICKS_PER_ENTRY_MAX.saturating_mul(u64::try_from(entry_count).unwrap_or(u64::MAX));
    let mut clock = Generator::new(start);
    // As many as a chunk holds, which is enough for a hundred cores.
    let ticks = clock.tick(ticks);
    let stretches = stretches(&clock.take(), &Hash::ZERO).expect("a generator keeps the bounds");
    let tick_count = usize::try_from(ticks).unwrap_or(usize::MAX);
    let mut serial = || assert!(verify_serial(start, &stretches).is_ok(), "a true clock");
    let mut rates = vec![("one after another".to_owned(), rate(tick_count, &mut serial))];
    for (name, kernel) in kernels() {
        for threads in thread_counts() {
            let mut wide =
                || assert!(verify_on(&kernel, start, &stretches, threads), "a true clock");
            let row = format!("side by side, {name}, threads: {threads}");
            rates.push((row, rate(tick_count, &mut wide)));
        }
    }
    rates
}

/// The kernels that this machine has, each by itself.
fn kernels() -> Vec<(String, Dispatcher)> {
    [Choice::Scalar, Choice::ShaNi, Choice::Avx2, Choice::Avx512]
        .map(|choice| (choice.to_string(), Dispatcher::new(choice, Vec::new())))
        .into_iter()
        .filter(|(_, kernel)| kernel.report().fallback.is_none())
        .collect()
}

/// 1, 2, 4 and so on, and all cores.
fn thread_counts() -> Vec<usize> {
    let cores = core_count();
    let doubled = std::iter::successors(Some(1_usize), |count| count.checked_mul(2));
    doubled.take_while(|count| *count < cores).chain([cores]).collect()
}

fn core_count() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn verify_on(accel: &dyn Accel, start: Hash, stretches: &[Stretch], threads: usize) -> bool {
    let run = |parts: &[Part<'_>]| {
        std::thread::scope(|scope| {
            let verifiers: Vec<_> =
                parts.iter().map(|part| scope.spawn(|| part.verify(accel))).collect();
            let verdicts = verifiers.into_iter().map(|verifier| verifier.join());
            verdicts.map(|verdict| verdict.expect("no bytes make a verifier panic")).collect()
        })
    };
    verify_parallel(start, stretches, threads, run).is_ok()
}
