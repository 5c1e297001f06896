//! The kernels against the plain function, by every device of this machine.

use std::sync::OnceLock;

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::BatchBackend;
use crate::{Accel, BackendState, Choice, Dispatcher};

/// Sizes of batches at the edges of warps and blocks of threads.
const COUNTS: [usize; 9] = [0, 1, 15, 16, 17, 127, 128, 129, 1_000];

/// Every device there is; of an absent one the reason is printed.
fn devices() -> Vec<&'static dyn BatchBackend> {
    static CUDA: OnceLock<Result<Cuda, OpenError>> = OnceLock::new();
    let mut devices: Vec<&'static dyn BatchBackend> = vec![&Host];
    match CUDA.get_or_init(Cuda::open) {
        Ok(cuda) => devices.push(cuda),
        Err(OpenError::Compiler { log }) => panic!("a compiler is there and refuses: {log}"),
        Err(absent) => println!("SKIPPED cuda: {absent}"),
    }
    println!("devices: {devices:?}");
    devices
}

fn is_too_large<T>(answer: &Result<T, BatchError>) -> bool {
    matches!(answer, Err(BatchError::TooLarge { .. }))
}

fn random_hash(random: &mut fastrand::Rng) -> [u8; 32] {
    std::array::from_fn(|_| random.u8(..))
}

fn check_messages(prefix: &[u8], messages: &[Vec<u8>]) {
    let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    let expected: Vec<[u8; 32]> = messages
        .iter()
        .map(|message| Sha256::new().chain_update(prefix).chain_update(message).finalize().into())
        .collect();
    for device in devices() {
        let mut hashes = vec![[0xa5; 32]; messages.len()];
        assert_eq!(device.sha256_many(prefix, &messages, &mut hashes), Ok(()));
        assert_eq!(hashes, expected, "{device:?}");
    }
}

#[test]
fn messages_start_at_words_and_empty_ones_take_no_room() {
    let (places, end) = places(1, [0, 3, 4, 200].into_iter()).expect("a small batch");
    assert_eq!(places, [[0, 1], [1, 4], [2, 5], [4, 201]]);
    assert_eq!(end, 4 + 4 + 8 + 204);
    assert_eq!(super::places(0, [0, 0].into_iter()), Ok((vec![[0, 0], [0, 0]], 0)));
}

#[test]
fn sizes_that_do_not_fit_are_refused_before_anything_is_reserved() {
    let end = |prefix_size, sizes: &[usize]| {
        places(prefix_size, sizes.iter().copied()).map(|(_, end)| end)
    };
    assert_eq!(end(0, &[BATCH_SIZE_MAX]), Ok(BATCH_SIZE_MAX));
    let beyond_32_bits = usize::try_from(1_u64 << 32).unwrap_or(usize::MAX);
    for (prefix_size, sizes) in [
        (0, [BATCH_SIZE_MAX, 1].as_slice()),
        (1, &[BATCH_SIZE_MAX]),
        (0, &[beyond_32_bits]),
        (0, &[usize::MAX]),
        (32, &[usize::MAX - 1]),
        (0, &[usize::MAX, usize::MAX]),
    ] {
        assert!(is_too_large(&end(prefix_size, sizes)), "{sizes:?}");
    }
    assert!(is_too_large(&check_size(usize::MAX.checked_mul(64))));
}

#[test]
fn messages_of_every_size_up_to_three_blocks_with_every_prefix() {
    let mut random = fastrand::Rng::with_seed(1);
    let messages: Vec<Vec<u8>> =
        (0..=200).map(|size| (0..size).map(|_| random.u8(..)).collect()).collect();
    for prefix_size in [0, 1, 2, 3, 4, 5, 31, 32] {
        check_messages(&random_hash(&mut random)[..prefix_size], &messages);
    }
}

#[test]
fn the_answers_of_nist_as_one_batch_and_a_million_times_a() {
    let (mut messages, mut expected) = (Vec::new(), Vec::new());
    for line in include_str!("../../tests/data/sha256-nist.txt").lines() {
        if let ["fips" | "msg", message, digest] = line.split(' ').collect::<Vec<_>>()[..] {
            messages.push(hex::decode(message.trim_matches('-')).expect("hexadecimal digits"));
            expected.push(digest);
        }
    }
    assert!(messages.len() > 60, "the file has the short messages");
    messages.push(vec![b'a'; 1_000_000]);
    expected.push("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    let slices: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    for device in devices() {
        let mut hashes = vec![[0; 32]; slices.len()];
        assert_eq!(device.sha256_many(b"", &slices, &mut hashes), Ok(()));
        let hashes: Vec<String> = hashes.iter().map(hex::encode).collect();
        assert_eq!(hashes, expected, "{device:?}");
    }
}

#[test]
fn batches_of_every_count_of_nodes_and_chains() {
    let mut random = fastrand::Rng::with_seed(2);
    for count in COUNTS {
        let pairs: Vec<[[u8; 32]; 2]> =
            (0..count).map(|_| [random_hash(&mut random), random_hash(&mut random)]).collect();
        let prefix = random.u8(..);
        let node = |pair: &[[u8; 32]; 2]| -> [u8; 32] {
            Sha256::new().chain_update([prefix]).chain_update(pair.as_flattened()).finalize().into()
        };
        let nodes: Vec<[u8; 32]> = pairs.iter().map(node).collect();
        let step_count = random.u64(0..40);
        let chain =
            |hash: &[u8; 32]| (0..step_count).fold(*hash, |hash, _| Sha256::digest(hash).into());
        let ends: Vec<[u8; 32]> = nodes.iter().map(chain).collect();
        for device in devices() {
            let mut hashes = vec![[0xa5; 32]; count];
            assert_eq!(device.sha256_nodes(prefix, &pairs, &mut hashes), Ok(()));
            assert_eq!(hashes, nodes, "{device:?}");
            assert_eq!(device.sha256_chains(&nodes, step_count, &mut hashes), Ok(()));
            assert_eq!(hashes, ends, "{device:?}");
        }
    }
}

/// The host build at a price that nobody beats.
#[derive(Debug)]
struct Preferred;

impl BatchBackend for Preferred {
    fn name(&self) -> &'static str {
        "host, preferred"
    }

    fn predict_ns(&self, _: &Shape) -> Option<u64> {
        Some(0)
    }

    fn sha256_many(
        &self,
        prefix: &[u8],
        messages: &[&[u8]],
        out: &mut [[u8; 32]],
    ) -> Result<(), BatchError> {
        Host.sha256_many(prefix, messages, out)
    }

    fn sha256_nodes(
        &self,
        prefix: u8,
        pairs: &[[[u8; 32]; 2]],
        out: &mut [[u8; 32]],
    ) -> Result<(), BatchError> {
        Host.sha256_nodes(prefix, pairs, out)
    }

    fn sha256_chains(
        &self,
        starts: &[[u8; 32]],
        count: u64,
        out: &mut [[u8; 32]],
    ) -> Result<(), BatchError> {
        Host.sha256_chains(starts, count, out)
    }
}

#[test]
fn the_dispatcher_lets_the_kernels_serve_and_finds_no_lie() {
    let dispatcher = Dispatcher::new(Choice::Auto, vec![Box::new(Preferred)]);
    let mut random = fastrand::Rng::with_seed(3);
    let mut hashes: Vec<[u8; 32]> = (0..1_000).map(|_| random_hash(&mut random)).collect();
    let mut expected = hashes.clone();
    dispatcher.sha256_chains(&mut hashes, 3);
    crate::Scalar.sha256_chains(&mut expected, 3);
    assert_eq!(hashes, expected);
    let report = dispatcher.report();
    let host = report.backends.iter().find(|backend| backend.name == "host, preferred");
    assert_eq!(host.map(|host| host.state), Some(BackendState::ServesBatches), "{report:?}");
}

#[test]
fn what_is_too_large_is_refused_and_nothing_is_written() {
    // As many messages as it takes share one slice, so that little memory is used.
    let message = vec![0; 1 << 20];
    let messages = vec![message.as_slice(); (BATCH_SIZE_MAX >> 20) + 1];
    for device in devices() {
        let mut hashes = vec![[0xa5; 32]; messages.len()];
        let answer = device.sha256_many(b"", &messages, &mut hashes);
        assert!(is_too_large(&answer), "{device:?}");
        assert!(hashes.iter().all(|hash| *hash == [0xa5; 32]), "{device:?}");
    }
}

#[test]
fn the_text_compiles_as_opencl_where_a_compiler_for_it_is() {
    let text = std::env::temp_dir().join(format!("quipu-kernels-{}.cl", std::process::id()));
    std::fs::write(&text, SHA256_TEXT).expect("a temporary folder takes files");
    let mut clang = std::process::Command::new("clang");
    clang.args(["-x", "cl", "-cl-std=CL1.2", "-target", "spir64", "-Werror", "-fsyntax-only"]);
    match clang.arg(&text).output() {
        Err(error) => println!("SKIPPED opencl: no clang on this machine: {error}"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
        }
    }
    std::fs::remove_file(&text).expect("it was just written");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn mixed_messages_with_a_prefix_are_as_each_alone(
        prefix in proptest::collection::vec(any::<u8>(), 0..=32),
        messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..40),
    ) {
        check_messages(&prefix, &messages);
    }
}
