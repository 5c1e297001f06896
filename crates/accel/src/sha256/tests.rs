//! Every kernel against its twin and the crate `sha2` (S1), and the padding at its edges.

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::kernel::{Kernel, Wide, digest};
use super::twin::Portable;
use super::{Engine, Finish, Job, Pair, Serial, block_count};

/// One kernel with its twin. Random input comes from a seed, so that a failure is one number.
fn equals_its_twin<const WAYS: usize>(kernel: impl Kernel<WAYS>, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    equals_its_twin_in_compressions(kernel, &mut random);
    for count in [0, 1, 2, 3, random.u64(4..40)] {
        let starts: [[u8; 32]; WAYS] = std::array::from_fn(|_| bytes(&mut random));
        let (mut ours, mut twins) = (starts, starts);
        kernel.chain(&mut ours, count);
        Portable::<WAYS>.chain(&mut twins, count);
        assert_eq!(ours, twins, "chains of {count}");
        assert_eq!(ours, starts.map(|start| chain(start, count)), "chains of {count} and sha2");
    }
    let prefix = random.u8(..);
    let pairs: [Pair; WAYS] = std::array::from_fn(|_| [bytes(&mut random), bytes(&mut random)]);
    let (mut ours, mut twins) = ([[0; 32]; WAYS], [[0; 32]; WAYS]);
    kernel.nodes(prefix, &pairs, &mut ours);
    Portable::<WAYS>.nodes(prefix, &pairs, &mut twins);
    assert_eq!(ours, twins, "nodes");
    assert_eq!(ours, pairs.map(|pair| crate::scalar::sha256_node(prefix, &pair)), "nodes and sha2");
}

fn equals_its_twin_in_compressions<const WAYS: usize, K: Kernel<WAYS>>(
    kernel: K,
    random: &mut fastrand::Rng,
) {
    let mut ours = K::STARTS;
    let mut twins = <Portable<WAYS> as Kernel<WAYS>>::STARTS;
    for step in 0..6 {
        // Some ways start anywhere, some go on from where they are.
        for way in 0..WAYS {
            if step == 0 || random.bool() {
                let state = std::array::from_fn(|_| random.u32(..));
                K::set_column(&mut ours, way, state);
                Portable::<WAYS>::set_column(&mut twins, way, state);
            }
        }
        let blocks: [[u8; 64]; WAYS] = std::array::from_fn(|_| bytes(random));
        let blocks = std::array::from_fn(|way| &blocks[way]);
        kernel.compress(&mut ours, &blocks);
        Portable::<WAYS>.compress(&mut twins, &blocks);
        for way in 0..WAYS {
            let (our, twin) = (K::column(&ours, way), Portable::<WAYS>::column(&twins, way));
            assert_eq!(our, twin, "way {way} of step {step}");
        }
    }
}

fn bytes<const SIZE: usize>(random: &mut fastrand::Rng) -> [u8; SIZE] {
    std::array::from_fn(|_| random.u8(..))
}

fn chain(start: [u8; 32], count: u64) -> [u8; 32] {
    (0..count).fold(start, |hash, _| Sha256::digest(hash).into())
}

/// Run `check` on a kernel, or say that this machine has none.
#[cfg(target_arch = "x86_64")]
macro_rules! on {
    ($name:literal, $detected:expr, $check:expr) => {
        match $detected {
            Some(kernel) => $check(kernel),
            None => println!("SKIPPED {}: this machine has no such instructions", $name),
        }
    };
}

fn every_kernel_equals_its_twin(seed: u64) {
    equals_its_twin(Portable::<1>, seed);
    #[cfg(target_arch = "x86_64")]
    {
        use super::{avx2::Avx2, avx512::Avx512, double::Double, shani::ShaNi};
        on!("avx512/16", Avx512::detect(), |kernel| equals_its_twin::<16>(kernel, seed));
        on!("avx512/32", Avx512::detect(), |kernel| equals_its_twin::<32>(Double(kernel), seed));
        on!("avx2/8", Avx2::detect(), |kernel| equals_its_twin::<8>(kernel, seed));
        on!("shani/1", ShaNi::detect(), |kernel| equals_its_twin::<1>(kernel, seed));
        on!("shani/2", ShaNi::detect(), |kernel| equals_its_twin::<2>(kernel, seed));
        on!("shani/3", ShaNi::detect(), |kernel| equals_its_twin::<3>(kernel, seed));
    }
}

/// Every engine of this machine, and the twin driven by slots.
fn engines() -> Vec<Box<dyn Engine>> {
    let plain: [Box<dyn Engine>; 2] = [Box::new(Wide(Portable::<4>)), Box::new(crate::Scalar)];
    plain.into_iter().chain(vector_engines()).collect()
}

#[cfg(target_arch = "x86_64")]
fn vector_engines() -> Vec<Box<dyn Engine>> {
    use super::{avx2::Avx2, avx512::Avx512, double::Double, shani::ShaNi};
    let mut engines: Vec<Box<dyn Engine>> = Vec::new();
    on!("avx512/16", Avx512::detect(), |kernel| engines.push(Box::new(Wide::<_, 16>(kernel))));
    on!("avx512/32", Avx512::detect(), |kernel| {
        engines.push(Box::new(Wide::<_, 32>(Double(kernel))));
    });
    on!("avx2/8", Avx2::detect(), |kernel| engines.push(Box::new(Wide::<_, 8>(kernel))));
    on!("shani/1", ShaNi::detect(), |kernel| engines.push(Box::new(Wide::<_, 1>(kernel))));
    on!("shani/3", ShaNi::detect(), |kernel| engines.push(Box::new(Wide::<_, 3>(kernel))));
    engines
}

#[cfg(not(target_arch = "x86_64"))]
fn vector_engines() -> Vec<Box<dyn Engine>> {
    Vec::new()
}

/// Serial kernels of this machine.
fn serials() -> Vec<Box<dyn Serial>> {
    let plain: [Box<dyn Serial>; 1] = [Box::new(Portable::<1>)];
    #[cfg(target_arch = "x86_64")]
    {
        let shani = super::shani::ShaNi::detect();
        let shani = shani.map(|kernel| -> Box<dyn Serial> { Box::new(kernel) });
        plain.into_iter().chain(shani).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    plain.into()
}

/// `finish_rate` as in [`Finish::rate`]: the greater, the sooner the serial kernel takes over.
fn check_many(prefix: &[u8], messages: &[Vec<u8>], finish_rate: Option<u64>) {
    let expected: Vec<[u8; 32]> = messages
        .iter()
        .map(|message| Sha256::new().chain_update(prefix).chain_update(message).finalize().into())
        .collect();
    let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    for engine in engines() {
        for serial in serials() {
            let finish = finish_rate.map(|rate| Finish { serial: &*serial, rate });
            let mut out = vec![[0; 32]; messages.len()];
            engine.many(&Job { prefix, messages: &messages, finish }, &mut out);
            assert_eq!(out, expected, "{engine:?}, {serial:?}, rate {finish_rate:?}");
        }
    }
}

#[test]
fn padding_is_right_at_every_edge_of_a_block() {
    let mut random = fastrand::Rng::with_seed(6);
    let messages: Vec<Vec<u8>> =
        (0..=130).map(|size| (0..size).map(|_| random.u8(..)).collect()).collect();
    for prefix_size in [0, 1, 7, 8, 9, 31, 32] {
        let prefix = vec![0xa5; prefix_size];
        for rate in [None, Some(16), Some(u64::MAX)] {
            check_many(&prefix, &messages, rate);
        }
    }
}

#[test]
fn a_message_alone_is_finished_from_wherever_it_stands() {
    // One long message among short ones, at any place, so that it is handed over in the middle.
    for place in [0, 3, 20, 39] {
        let mut messages: Vec<Vec<u8>> = (0..40_u8).map(|byte| vec![byte; 100]).collect();
        messages[place] = vec![0x5a; 5_000];
        for prefix in [&b""[..], &[1]] {
            check_many(prefix, &messages, Some(64));
        }
    }
}

#[test]
fn lengths_that_overflow_saturate() {
    for size in [usize::MAX, usize::MAX - 8, usize::MAX / 2] {
        assert!(block_count(32, size) >= block_count(0, size) || size > usize::MAX - 41);
        assert!(block_count(0, size) > usize::MAX / 129);
    }
    assert_eq!([0, 55, 56, 64, 119, 120].map(|size| block_count(0, size)), [1, 1, 2, 2, 2, 3]);
    assert_eq!([22, 23, 24].map(|size| block_count(32, size)), [1, 1, 2]);
}

#[test]
fn a_digest_is_its_state_in_big_endian() {
    let hash = digest([0x0102_0304, 0, 0, 0, 0, 0, 0, 0x1d1e_1f20]);
    assert_eq!((&hash[..4], &hash[28..]), (&[1, 2, 3, 4][..], &[29, 30, 31, 32][..]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn kernels_equal_their_twins(seed: u64) {
        every_kernel_equals_its_twin(seed);
    }

    #[test]
    fn mixed_lengths_are_hashed_as_each_alone(
        seed: u64,
        count in 0_usize..80,
        size_max in prop_oneof![Just(1_usize), Just(70), Just(300), Just(3_000)],
        prefix_size in 0_usize..=32,
        rate in prop_oneof![Just(None), Just(Some(1)), Just(Some(100)), Just(Some(u64::MAX))],
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut message = |_| {
            let size = random.usize(0..=size_max);
            (0..size).map(|_| random.u8(..)).collect()
        };
        let messages: Vec<Vec<u8>> = (0..count).map(&mut message).collect();
        check_many(&vec![7; prefix_size], &messages, rate);
    }
}
