//! Every backend against the plain functions: many = single, bad items stand alone.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a helper of a test fails by panicking"
)]

mod sha256;

use ed25519_zebra::{Signature, SigningKey, VerificationKey};
use proptest::prelude::*;
use quipu_accel::{Accel, BATCH_COUNT_MAX, Ed25519Item, Scalar};
use sha2::{Digest, Sha256};

/// Sizes at the edges of every width, and some above.
const COUNTS: [usize; 10] = [0, 1, 2, 7, 8, 15, 16, 17, 100, 2 * BATCH_COUNT_MAX + 1];

fn backends() -> Vec<&'static dyn Accel> {
    let backends: Vec<&'static dyn Accel> = vec![&Scalar, quipu_accel::default()];
    println!("backends: {:?}", backends.iter().map(|accel| accel.name()).collect::<Vec<_>>());
    backends
}

#[derive(Clone)]
struct Signed {
    key: [u8; 32],
    message: Vec<u8>,
    signature: [u8; 64],
}

impl Signed {
    fn item(&self) -> Ed25519Item<'_> {
        Ed25519Item { key: &self.key, message: &self.message, signature: &self.signature }
    }

    /// The rule itself, without any batch.
    fn verifies_alone(&self) -> bool {
        VerificationKey::try_from(self.key)
            .is_ok_and(|key| key.verify(&Signature::from(self.signature), &self.message).is_ok())
    }
}

fn signed(random: &mut fastrand::Rng) -> Signed {
    let mut seed = [0; 32];
    // Few keys, so that batches also coalesce terms of one key.
    seed[0] = random.u8(0..8);
    let key = SigningKey::from(seed);
    let message: Vec<u8> = (0..random.usize(0..200)).map(|_| random.u8(..)).collect();
    let signature = key.sign(&message).to_bytes();
    Signed { key: VerificationKey::from(&key).into(), message, signature }
}

fn spoil(good: &mut Signed, random: &mut fastrand::Rng) {
    match random.u8(0..5) {
        0 => good.key[random.usize(0..32)] ^= 1 << random.u8(0..8),
        1 => good.signature[random.usize(0..64)] ^= 1 << random.u8(0..8),
        2 => good.message.push(0),
        3 => good.signature = [0xff; 64],
        // No point has this encoding.
        _ => good.key = [2; 32],
    }
}

fn check_verdicts(all: &[Signed]) {
    let items: Vec<_> = all.iter().map(Signed::item).collect();
    let expected: Vec<_> = all.iter().map(Signed::verifies_alone).collect();
    for accel in backends() {
        assert_eq!(accel.verify_ed25519_many(&items), expected, "backend {}", accel.name());
    }
}

fn array<const SIZE: usize>(text: &str) -> [u8; SIZE] {
    hex::decode(text).unwrap().try_into().unwrap()
}

#[test]
fn many_hashes_are_single_hashes_at_every_edge_of_a_width() {
    let mut random = fastrand::Rng::with_seed(1);
    for count in COUNTS {
        let messages: Vec<Vec<u8>> =
            (0..count).map(|index| (0..index % 150).map(|_| random.u8(..)).collect()).collect();
        let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let expected: Vec<[u8; 32]> =
            messages.iter().map(|message| Sha256::digest(message).into()).collect();
        for accel in backends() {
            let mut hashes = vec![[0; 32]; count];
            accel.sha256_many(b"", &messages, &mut hashes);
            assert_eq!(hashes, expected, "backend {}", accel.name());
        }
    }
}

#[test]
fn the_hash_of_abc_is_that_of_fips_180() {
    for accel in backends() {
        let mut hashes = [[0; 32]];
        accel.sha256_many(b"", &[b"abc"], &mut hashes);
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex::encode(hashes[0]), expected);
    }
}

#[test]
fn chains_are_repeated_hashes_at_every_edge_of_a_width() {
    let mut random = fastrand::Rng::with_seed(2);
    for count in COUNTS {
        let starts: Vec<[u8; 32]> =
            (0..count).map(|_| std::array::from_fn(|_| random.u8(..))).collect();
        for length in [0, 1, 2, 65] {
            let mut expected = starts.clone();
            for hash in &mut expected {
                for _ in 0..length {
                    *hash = Sha256::digest(*hash).into();
                }
            }
            for accel in backends() {
                let mut hashes = starts.clone();
                accel.sha256_chains(&mut hashes, length);
                assert_eq!(hashes, expected, "backend {}", accel.name());
            }
        }
    }
}

#[test]
fn good_signatures_verify_at_every_edge_of_a_batch() {
    let mut random = fastrand::Rng::with_seed(3);
    for count in COUNTS.into_iter().chain([BATCH_COUNT_MAX - 1, BATCH_COUNT_MAX]) {
        let all: Vec<_> = (0..count).map(|_| signed(&mut random)).collect();
        assert!(all.iter().all(Signed::verifies_alone));
        check_verdicts(&all);
    }
}

#[test]
fn one_planted_bad_signature_is_named_wherever_it_stands() {
    let mut random = fastrand::Rng::with_seed(4);
    for count in [1, 2, 3, 5, 17] {
        let good: Vec<_> = (0..count).map(|_| signed(&mut random)).collect();
        for place in 0..count {
            let mut all = good.clone();
            spoil(&mut all[place], &mut random);
            assert!(!all[place].verifies_alone());
            check_verdicts(&all);
        }
    }
}

#[test]
fn two_errors_that_cancel_in_a_sum_do_not_pass_as_a_batch() {
    // Without coefficients, s1 + 1 and s2 - 1 would leave the sum of the equations as it was.
    let mut random = fastrand::Rng::with_seed(5);
    let mut all: Vec<_> = (0..2).map(|_| signed(&mut random)).collect();
    all[0].signature[33] = all[0].signature[33].wrapping_add(1);
    all[1].signature[33] = all[1].signature[33].wrapping_sub(1);
    assert!(all.iter().all(|signed| !signed.verifies_alone()));
    check_verdicts(&all);
}

#[test]
fn a_batch_takes_what_zip_215_takes() {
    // Encodings of small order, two of them not canonical; s = 0. Such a "signature" is valid for
    // every message under the cofactored equation.
    let points = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ];
    let mut all = Vec::new();
    for key in points {
        for commitment in points {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&array::<32>(commitment));
            all.push(Signed { key: array(key), message: b"Zcash".to_vec(), signature });
        }
    }
    assert!(all.iter().all(Signed::verifies_alone));
    check_verdicts(&all);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_batch_agrees_with_its_items_alone_whatever_is_spoilt(
        seed: u64,
        count in 0_usize..160,
        spoilt_percent in prop_oneof![Just(0_u8), Just(1), Just(50), Just(100)],
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut all: Vec<_> = (0..count).map(|_| signed(&mut random)).collect();
        for signed in &mut all {
            if random.u8(0..100) < spoilt_percent {
                spoil(signed, &mut random);
            }
        }
        check_verdicts(&all);
    }

    #[test]
    fn no_bytes_make_a_verdict_panic(key: [u8; 32], message: Vec<u8>, low: [u8; 32], high: [u8; 32]) {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&low);
        signature[32..].copy_from_slice(&high);
        check_verdicts(&[Signed { key, message: message.clone(), signature }]);
        check_verdicts(&vec![Signed { key, message, signature }; 6]);
    }
}
