//! Print how many signatures and hashes this machine checks in a second, on one core.
//!
//! `cargo run --release -p quipu-accel --example measure_signatures` (without `--release`: what tests see).
//! Each line gives the median and the best of [`RUN_COUNT`] runs of at least [`RUN_MILLIS_MIN`] ms.
#![expect(clippy::disallowed_methods, reason = "a program that measures reads the clock")]
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a helper of a measurement fails by panicking"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use ed25519_zebra::{Signature, SigningKey, VerificationKey, batch};
use quipu_accel::{Accel, Ed25519Item, Secp256k1Item};
use rand_core::{TryCryptoRng, TryRng};

/// Runs per line.
const RUN_COUNT: usize = 25;

/// A run repeats its work for at least this long.
const RUN_MILLIS_MIN: u64 = 12;

struct Signed {
    key: [u8; 32],
    message: Vec<u8>,
    signature: [u8; 64],
}

fn signed(count: usize, key_count: u64) -> Vec<Signed> {
    let keys: Vec<SigningKey> = (0..key_count)
        .map(|index| {
            let mut seed = [7; 32];
            seed[..8].copy_from_slice(&index.to_le_bytes());
            SigningKey::from(seed)
        })
        .collect();
    let sign = |index: usize| {
        let key = &keys[index % keys.len()];
        let message = index.to_le_bytes().repeat(25);
        let signature = key.sign(&message).to_bytes();
        Signed { key: VerificationKey::from(key).into(), message, signature }
    };
    (0..count).map(sign).collect()
}

fn items(all: &[Signed]) -> Vec<Ed25519Item<'_>> {
    all.iter()
        .map(|one| Ed25519Item { key: &one.key, message: &one.message, signature: &one.signature })
        .collect()
}

/// Items per second of `work`, which does `count` of them.
fn report(name: &str, count: usize, mut work: impl FnMut()) {
    work();
    let mut rates: Vec<f64> = (0..RUN_COUNT)
        .map(|_| {
            let start = Instant::now();
            let mut done = 0_u32;
            while start.elapsed() < Duration::from_millis(RUN_MILLIS_MIN) {
                work();
                done += 1;
            }
            let count = u32::try_from(count).expect("a run does few items");
            f64::from(done) * f64::from(count) / start.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    println!("{name:44} {:>12.0} {:>12.0} /s", rates[RUN_COUNT / 2], rates[RUN_COUNT - 1]);
}

/// Coefficients for zebra's batch: any will do for a measurement.
struct Counter(u64);

impl TryRng for Counter {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        self.try_next_u64().map(|word| u32::try_from(word >> 32).expect("32 bits are left"))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        Ok(self.0)
    }

    fn try_fill_bytes(&mut self, destination: &mut [u8]) -> Result<(), Self::Error> {
        for byte in destination {
            *byte = self.try_next_u64()?.to_be_bytes()[0];
        }
        Ok(())
    }
}

impl TryCryptoRng for Counter {}

fn zebra_batch(all: &[Signed]) {
    let mut verifier = batch::Verifier::new();
    for one in all {
        let key = ed25519_zebra::VerificationKeyBytes::from(one.key);
        verifier.queue((key, Signature::from(one.signature), one.message.as_slice()));
    }
    assert!(verifier.verify(Counter(1)).is_ok(), "all are good");
}

fn zebra_single(one: &Signed) -> bool {
    VerificationKey::try_from(one.key)
        .is_ok_and(|key| key.verify(&Signature::from(one.signature), &one.message).is_ok())
}

fn measure_ed25519(accel: &dyn Accel) {
    let all = signed(1024, 1024);
    let start = Instant::now();
    black_box(accel.verify_ed25519_many(&items(&all[..2])));
    println!("ed25519 first call, 2 items: {:?}", start.elapsed());
    report("ed25519 zebra single", 64, || {
        assert!(all[..64].iter().all(zebra_single), "all are good");
    });
    report("ed25519 zebra batch of 128, distinct keys", 128, || zebra_batch(&all[..128]));
    let one_key = signed(128, 1);
    report("ed25519 zebra batch of 128, one key", 128, || zebra_batch(&one_key));
    for count in [1, 2, 4, 8, 9, 16, 128, 1024] {
        let items = items(&all[..count]);
        report(&format!("ed25519 ours, {count}"), count, || {
            assert!(accel.verify_ed25519_many(&items).iter().all(|good| *good), "all are good");
        });
    }
    let items_one_key = items(&one_key);
    report("ed25519 ours, 128 of one key", 128, || {
        black_box(accel.verify_ed25519_many(&items_one_key));
    });
    let few_keys = signed(1024, 16);
    let items_few_keys = items(&few_keys);
    report("ed25519 ours, 1024 of 16 keys in turn", 1024, || {
        black_box(accel.verify_ed25519_many(&items_few_keys));
    });
    let mut spoilt = signed(128, 128);
    spoilt[77].signature[40] ^= 1;
    let items_spoilt = items(&spoilt);
    report("ed25519 ours, 1 bad of 128", 128, || {
        black_box(accel.verify_ed25519_many(&items_spoilt));
    });
    let mut bad = signed(128, 128);
    bad.iter_mut().for_each(|one| one.signature[40] ^= 1);
    let items_bad = items(&bad);
    report("ed25519 ours, 128 bad of 128", 128, || {
        black_box(accel.verify_ed25519_many(&items_bad));
    });
}

fn measure_secp256k1(accel: &dyn Accel) {
    let secret = secp256k1::SecretKey::from_secret_bytes([7; 32]).expect("below the order");
    let key = secp256k1::PublicKey::from_secret_key(&secret).serialize();
    let signed: Vec<_> = (0..64_u8)
        .map(|index| {
            let digest = [index; 32];
            let message = secp256k1::Message::from_digest(digest);
            (digest, secp256k1::ecdsa::sign(message, &secret).serialize_compact())
        })
        .collect();
    let items: Vec<_> = signed
        .iter()
        .map(|(digest, signature)| Secp256k1Item { key: &key, digest, signature })
        .collect();
    report("secp256k1 ours, 64", 64, || {
        assert!(accel.verify_secp256k1_many(&items).iter().all(|good| *good), "all are good");
    });
}

fn measure_hashes(accel: &dyn Accel) {
    for size in [32, 200] {
        let messages: Vec<Vec<u8>> = (0..=255_u8).map(|index| vec![index; size]).collect();
        let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let mut out = vec![[0; 32]; messages.len()];
        report(&format!("keccak-256 ours, 256 of {size} bytes"), 256, || {
            accel.keccak256_many(black_box(&messages), &mut out);
        });
        report(&format!("keccak-256 sha3, {size} bytes"), 256, || {
            for message in &messages {
                black_box(<sha3::Keccak256 as sha3::Digest>::digest(black_box(message)));
            }
        });
        report(&format!("blake2b-256 ours, 256 of {size} bytes"), 256, || {
            accel.blake2b256_many(black_box(&messages), &mut out);
        });
    }
}

fn main() {
    let accel = quipu_accel::default();
    println!("backend {:36} {:>12} {:>12}", accel.name(), "median", "best");
    measure_ed25519(accel);
    measure_secp256k1(accel);
    measure_hashes(accel);
}
