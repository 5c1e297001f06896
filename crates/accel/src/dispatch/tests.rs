//! Who is chosen, who is switched off, and that the results stay the same (D1, D2, D3, B1, B2, B3).

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::batch::{BatchError, ERROR_COUNT_MAX, RECHECK_PERIOD, RETRY_PERIOD};
use crate::sha256::kernel::Wide;
use crate::sha256::twin::Portable;

/// A kernel that is right but for one bit of the last way's chains.
#[derive(Debug)]
struct Liar;

impl Engine for Liar {
    fn ways(&self) -> usize {
        16
    }

    fn many(&self, job: &Job<'_>, out: &mut [[u8; 32]]) {
        Scalar.many(job, out);
    }

    fn nodes(&self, prefix: u8, pairs: &[Pair], out: &mut [[u8; 32]]) {
        Scalar.nodes(prefix, pairs, out);
    }

    fn chains(&self, hashes: &mut [[u8; 32]], count: u64) {
        Scalar.chains(hashes, count);
        if let Some(last) = hashes.last_mut() {
            last[31] ^= 1;
        }
    }
}

const CHEAP: StepTimes = StepTimes { many_ps: 1, nodes_ps: 1, chains_ps: 1 };

fn with_liar(choice: Choice) -> Dispatcher {
    let liar = Candidate {
        name: "liar",
        family: Choice::Avx512,
        engine: Some(Box::new(Liar)),
        estimate: CHEAP,
    };
    let mut all = vec![liar];
    all.extend(candidates().into_iter().filter(|other| other.family != Choice::Avx512));
    Dispatcher::with(choice, all, Vec::new())
}

fn state(dispatcher: &Dispatcher, name: &str) -> BackendState {
    let report = dispatcher.report();
    let found = report.backends.iter().find(|backend| backend.name == name);
    found.expect("the report names every backend").state
}

/// What must hold whoever serves.
fn check_results(dispatcher: &Dispatcher) {
    for count in [0_usize, 1, 2, 15, 16, 17, 33, 100] {
        let byte = |i: usize| i.to_le_bytes()[0];
        let messages: Vec<Vec<u8>> =
            (0..count).map(|i| vec![byte(i); i.wrapping_mul(29) % 400]).collect();
        let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let (mut ours, mut expected) = (vec![[0; 32]; count], vec![[0; 32]; count]);
        dispatcher.sha256_many(&[9, 9], &messages, &mut ours);
        Scalar.sha256_many(&[9, 9], &messages, &mut expected);
        assert_eq!(ours, expected);
        let pairs: Vec<_> = ours.iter().map(|hash| [*hash, [byte(count); 32]]).collect();
        dispatcher.sha256_nodes(1, &pairs, &mut ours);
        Scalar.sha256_nodes(1, &pairs, &mut expected);
        assert_eq!(ours, expected);
        dispatcher.sha256_chains(&mut ours, 9);
        Scalar.sha256_chains(&mut expected, 9);
        assert_eq!(ours, expected);
    }
}

#[test]
fn a_kernel_that_lies_is_off_and_the_next_serves() {
    for choice in [Choice::Auto, Choice::Avx512] {
        let dispatcher = with_liar(choice);
        assert_eq!(state(&dispatcher, "liar"), BackendState::FailedKnownAnswer);
        assert!(dispatcher.report().is_worrying());
        assert!(dispatcher.report().to_string().contains("liar: failed its known-answer test"));
        check_results(&dispatcher);
    }
}

#[test]
fn a_kernel_that_is_absent_is_replaced_by_the_next_in_order() {
    let absent = |absent: &[Choice]| {
        let mut all = candidates();
        for candidate in &mut all {
            if absent.contains(&candidate.family) {
                candidate.engine = None;
            }
        }
        Dispatcher::with(Choice::Avx512, all, Vec::new())
    };
    let vectors = [Choice::Avx512, Choice::Avx2, Choice::ShaNi];
    let dispatcher = absent(&vectors);
    let report = dispatcher.report();
    assert_eq!(report.fallback, Some(Choice::Scalar));
    assert_eq!(state(&dispatcher, "avx512/16"), BackendState::Absent);
    assert!(report.is_worrying() && report.to_string().contains("avx512/16: absent"));
    check_results(&dispatcher);
    for missing in 1..vectors.len() {
        check_results(&absent(&vectors[..missing]));
    }
}

#[test]
fn a_serial_kernel_that_lies_is_off() {
    #[derive(Debug)]
    struct Liar;
    impl Serial for Liar {
        fn blocks(&self, state: &mut [u32; 8], blocks: &[[u8; 64]]) {
            Portable::<1>.blocks(state, blocks);
            state[7] ^= 1;
        }
    }
    assert!(known::knows_serial(&Portable::<1>));
    assert!(!known::knows_serial(&Liar));
}

#[test]
fn whoever_was_asked_for_serves_or_the_report_says_who_does() {
    for word in ["scalar", "avx2", "avx512", "shani", "auto", ""] {
        let choice: Choice = word.parse().expect("a known word");
        let dispatcher = Dispatcher::from_word(word, Vec::new());
        let report = dispatcher.report();
        assert_eq!((report.choice, &report.unknown), (choice, &None));
        let serving = report
            .backends
            .iter()
            .filter(|backend| matches!(backend.state, BackendState::Serves { .. }));
        let family = report.fallback.unwrap_or(choice);
        for backend in serving {
            let name = family.to_string();
            assert!(choice == Choice::Auto || backend.name.starts_with(&name), "{report}");
        }
        if let Some(fallback) = report.fallback {
            println!("SKIPPED {choice}: this machine has no such instructions, {fallback} serves");
            assert!(report.is_worrying());
        }
        check_results(&dispatcher);
    }
}

#[test]
fn an_unknown_word_is_an_error_to_who_asks_and_auto_to_who_does_not() {
    let error = "avx1024".parse::<Choice>().expect_err("nobody is called so");
    assert_eq!(
        error.to_string(),
        "no backend is called \"avx1024\": say auto, scalar, avx2, avx512 or shani"
    );
    let dispatcher = Dispatcher::from_word("avx1024", Vec::new());
    let report = dispatcher.report();
    assert_eq!(
        (report.choice, report.fallback, &report.unknown),
        (Choice::Auto, None, &Some(error))
    );
    assert!(report.is_worrying() && report.to_string().contains("avx1024"));
}

#[test]
fn calibration_replaces_estimates_and_reads_no_other_clock() {
    let dispatcher = Dispatcher::new(Choice::Auto, Vec::new());
    // A clock that moves by a second at each look: every step costs the same.
    let now = Cell::new(0);
    dispatcher.calibrate(&|| now.replace(now.get() + 1_000_000_000));
    for backend in dispatcher.report().backends {
        if let BackendState::Serves { step_times, is_measured, .. } = backend.state {
            assert!(is_measured);
            assert_eq!(step_times.chains_ps, 1_000_000_000_000 / 32, "{}", backend.name);
        }
    }
    check_results(&dispatcher);
    // A clock that stands still says nothing, so what was known stays.
    let before = dispatcher.report();
    dispatcher.calibrate(&|| 7);
    assert_eq!(dispatcher.report(), before);
}

#[test]
fn prices_decide_who_serves() {
    let candidate = |name, many_ps| Candidate {
        name,
        family: if name == "scalar" { Choice::Scalar } else { Choice::Avx2 },
        engine: Some(match name {
            "scalar" => Box::new(Scalar),
            _ => Box::new(Wide(Portable::<8>)),
        }),
        estimate: StepTimes { many_ps, nodes_ps: many_ps, chains_ps: many_ps },
    };
    let all = vec![candidate("wide", 400), candidate("scalar", 100)];
    let dispatcher = Dispatcher::with(Choice::Auto, all, Vec::new());
    let ways = |item_count| {
        let shape = equal_shape(Work::Chains, item_count, 5, 32);
        dispatcher.kernel(&shape).0.ways()
    };
    assert_eq!([1, 3, 5, 8, 9].map(ways), [1, 1, 8, 8, 8]);
    let (bulk_count, bulk, tail) = dispatcher.split(Work::Chains, 19, 5);
    assert_eq!((bulk_count, bulk.ways(), tail.ways()), (16, 8, 1));
    // One long message alone is not worth eight ways; beside many short ones it is finished apart.
    let shape = |total, longest| Shape {
        work: Work::Many,
        item_count: 2,
        step_count_total: total,
        step_count_longest: longest,
        size: 0,
    };
    assert_eq!(dispatcher.kernel(&shape(1_000, 1_000)).0.ways(), 1);
    let wide = dispatcher.seats().next().expect("the first candidate has a seat");
    assert_eq!(wide.predict_ps(&shape(9_000, 4_000), None), 4_000 * 400);
    assert_eq!(wide.predict_ps(&shape(9_000, 4_000), Some(100)), 5_000 / 8 * 400 + 4_000 * 100);
    assert_eq!(wide.predict_ps(&shape(9_000, 1_000), Some(100)), 9_000 / 8 * 400);
}

/// What a batch backend of these tests does; the counter says how often it was asked.
#[derive(Debug, Default)]
struct Device {
    asked: AtomicU64,
    /// Errors from this call on; calls start at 1, the known-answer test makes three.
    errors_from: u64,
    errors_to: u64,
    /// One result is wrong from this call on.
    lies_from: u64,
}

#[derive(Debug)]
struct Handle(Arc<Device>);

impl Device {
    fn end(&self, out: &mut [[u8; 32]]) -> Result<(), BatchError> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if (self.errors_from..self.errors_to).contains(&asked) {
            out.fill([0xee; 32]);
            return Err(BatchError::Device { call: "launch", code: 700 });
        }
        if asked >= self.lies_from {
            out.iter_mut().for_each(|hash| hash[0] ^= 1);
        }
        Ok(())
    }
}

impl BatchBackend for Handle {
    fn name(&self) -> &'static str {
        "device"
    }

    fn predict_ns(&self, shape: &Shape) -> Option<u64> {
        (shape.item_count > 0).then_some(0)
    }

    fn sha256_many(
        &self,
        prefix: &[u8],
        messages: &[&[u8]],
        out: &mut [[u8; 32]],
    ) -> Result<(), BatchError> {
        Scalar.sha256_many(prefix, messages, out);
        self.0.end(out)
    }

    fn sha256_nodes(
        &self,
        prefix: u8,
        pairs: &[Pair],
        out: &mut [[u8; 32]],
    ) -> Result<(), BatchError> {
        Scalar.sha256_nodes(prefix, pairs, out);
        self.0.end(out)
    }

    fn sha256_chains(
        &self,
        starts: &[[u8; 32]],
        count: u64,
        out: &mut [[u8; 32]],
    ) -> Result<(), BatchError> {
        out.copy_from_slice(starts);
        Scalar.sha256_chains(out, count);
        self.0.end(out)
    }
}

fn with_device(device: Device) -> (Dispatcher, Arc<Device>) {
    let device = Arc::new(device);
    let dispatcher = Dispatcher::new(Choice::Auto, vec![Box::new(Handle(device.clone()))]);
    (dispatcher, device)
}

const NEVER: u64 = u64::MAX;

/// Big enough that the prediction of every kernel is more than nothing.
fn run_nodes(dispatcher: &Dispatcher) {
    let pairs = vec![[[3; 32], [4; 32]]; 1_000];
    let (mut ours, mut expected) = (vec![[0; 32]; 1_000], vec![[0; 32]; 1_000]);
    dispatcher.sha256_nodes(1, &pairs, &mut ours);
    Scalar.sha256_nodes(1, &pairs, &mut expected);
    assert_eq!(ours, expected);
}

#[test]
fn a_device_that_predicts_least_serves() {
    let (dispatcher, device) =
        with_device(Device { errors_from: NEVER, lies_from: NEVER, ..Device::default() });
    assert_eq!(state(&dispatcher, "device"), BackendState::ServesBatches);
    check_results(&dispatcher);
    let asked = device.asked.load(Ordering::Relaxed);
    assert!(asked > 3, "asked {asked} times");
}

#[test]
fn a_device_that_fails_is_replaced_at_once_asked_rarely_and_serves_again() {
    let errors_from = 4;
    let errors = u64::from(ERROR_COUNT_MAX);
    let (dispatcher, device) = with_device(Device {
        errors_from,
        errors_to: errors_from + errors,
        lies_from: NEVER,
        ..Device::default()
    });
    for _ in 0..errors + 10 {
        run_nodes(&dispatcher);
    }
    assert_eq!(state(&dispatcher, "device"), BackendState::BrokenOff);
    assert_eq!(device.asked.load(Ordering::Relaxed), 3 + errors);
    for _ in 10..RETRY_PERIOD {
        run_nodes(&dispatcher);
    }
    assert_eq!(state(&dispatcher, "device"), BackendState::ServesBatches);
    assert_eq!(device.asked.load(Ordering::Relaxed), 3 + errors + 1);
}

#[test]
fn a_device_that_lies_is_found_out_and_never_asked_again() {
    let (dispatcher, device) =
        with_device(Device { errors_from: NEVER, lies_from: 4, ..Device::default() });
    assert_eq!(state(&dispatcher, "device"), BackendState::ServesBatches);
    for _ in 0..3 {
        // More than a period of results, so one of them is done again.
        const { assert!(RECHECK_PERIOD < 1_000) };
        run_nodes(&dispatcher);
    }
    assert_eq!(state(&dispatcher, "device"), BackendState::Lied);
    assert_eq!(device.asked.load(Ordering::Relaxed), 4);
}

#[test]
fn a_device_without_the_known_answers_never_serves() {
    for (errors_from, lies_from) in [(1, NEVER), (NEVER, 3)] {
        let (dispatcher, device) =
            with_device(Device { errors_from, errors_to: NEVER, lies_from, ..Device::default() });
        let asked = device.asked.load(Ordering::Relaxed);
        assert_eq!(state(&dispatcher, "device"), BackendState::FailedKnownAnswer);
        run_nodes(&dispatcher);
        assert_eq!(device.asked.load(Ordering::Relaxed), asked);
    }
}

#[test]
fn a_forced_kernel_keeps_devices_out() {
    let device = Arc::new(Device { errors_from: NEVER, lies_from: NEVER, ..Device::default() });
    let dispatcher = Dispatcher::new(Choice::Scalar, vec![Box::new(Handle(device.clone()))]);
    run_nodes(&dispatcher);
    assert_eq!(device.asked.load(Ordering::Relaxed), 0);
    assert_eq!(state(&dispatcher, "device"), BackendState::NotChosen);
}
