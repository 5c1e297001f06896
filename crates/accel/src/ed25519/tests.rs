//! Every path against the judge: `ed25519-zebra`, one signature alone.

use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::{EdwardsPoint, Scalar};
use ed25519_zebra::{SigningKey, VerificationKey};
use sha2::{Digest, Sha512};

use super::wide::Wide;
use super::{batch, vectors, verify_alone, verify_many};
use crate::Ed25519Item;
use crate::many::on_each_ways;
use crate::many::twin::Twin;
use crate::many::ways::Ways;

/// l, little end first.
pub(super) const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

#[derive(Clone, Debug)]
struct Signed {
    key: [u8; 32],
    message: Vec<u8>,
    signature: [u8; 64],
}

impl Signed {
    fn new(random: &mut fastrand::Rng, key_count: u8) -> Self {
        let key = SigningKey::from([random.u8(0..key_count); 32]);
        let size = if random.u8(0..50) == 0 { 3_000 } else { random.usize(0..300) };
        let message: Vec<u8> = (0..size).map(|_| random.u8(..)).collect();
        let signature = key.sign(&message).to_bytes();
        Self { key: VerificationKey::from(&key).into(), message, signature }
    }

    fn item(&self) -> Ed25519Item<'_> {
        Ed25519Item { key: &self.key, message: &self.message, signature: &self.signature }
    }

    fn set_commitment(&mut self, bytes: &[u8]) {
        self.signature[..32].copy_from_slice(bytes);
    }

    fn set_s(&mut self, bytes: &[u8]) {
        self.signature[32..].copy_from_slice(bytes);
    }

    /// s + l: the same number mod l, and refused for that.
    fn add_order(&mut self) {
        let mut carry = 0;
        for (byte, order) in self.signature[32..].iter_mut().zip(ORDER) {
            carry += u16::from(*byte) + u16::from(order);
            *byte = carry.to_le_bytes()[0];
            carry >>= 8;
        }
    }

    fn spoil(&mut self, random: &mut fastrand::Rng) {
        let bytes: [u8; 32] = std::array::from_fn(|_| random.u8(..));
        let small = EIGHT_TORSION[random.usize(0..8)].compress().to_bytes();
        let mut not_canonical = [0xff; 32];
        not_canonical[0] = 0xed + random.u8(0..19);
        not_canonical[31] ^= random.u8(0..2) << 7;
        match random.u8(0..14) {
            0 => self.key[random.usize(0..32)] ^= 1 << random.u8(0..8),
            1 => self.signature[random.usize(0..32)] ^= 1 << random.u8(0..8),
            2 => self.signature[random.usize(32..64)] ^= 1 << random.u8(0..8),
            3 => self.message.push(0),
            4 => self.set_s(&ORDER),
            5 => self.add_order(),
            6 => self.key = not_canonical,
            7 => self.set_commitment(&not_canonical),
            8 => self.key = small,
            9 => self.set_commitment(&small),
            10 => self.key = bytes,
            11 => self.set_commitment(&bytes),
            12 => self.set_s(&[0; 32]),
            _ => {
                self.key = small;
                self.set_commitment(&not_canonical);
                self.set_s(&[0; 32]);
            }
        }
    }
}

fn items(all: &[Signed]) -> Vec<Ed25519Item<'_>> {
    all.iter().map(Signed::item).collect()
}

fn alone(items: &[Ed25519Item<'_>]) -> Vec<bool> {
    items.iter().map(verify_alone).collect()
}

fn wide<W: Ways>(w: W) -> Wide<W> {
    Wide::new(w).expect("multiples of B are points")
}

/// The dispatcher and the batches against the judge; the kernel on the hardware too, if it is there.
fn check(all: &[Signed]) {
    let items = items(all);
    let expected = alone(&items);
    assert_eq!(verify_many(&items, true), expected);
    assert_eq!(verify_many(&items, false), expected);
    assert_eq!(batch::verify_many(&items), expected);
    #[cfg(target_arch = "x86_64")]
    match crate::many::avx512::Avx512::detect() {
        Some(w) => assert_eq!(wide(w).verdicts(&items), expected),
        None => println!("SKIPPED: this processor has no AVX-512 IFMA"),
    }
}

#[test]
fn every_path_gives_the_published_verdicts() {
    let published = vectors::all();
    assert_eq!(published.len(), 4 + 12 + 914 + 14 * 14);
    let items: Vec<_> = published.iter().map(vectors::Judged::item).collect();
    let expected: Vec<_> = published.iter().map(|judged| judged.valid).collect();
    assert_eq!(alone(&items), expected, "the judge itself");
    assert_eq!(verify_many(&items, true), expected, "the widest way");
    assert_eq!(batch::verify_many(&items), expected, "batches");
    on_each_ways!(w => assert_eq!(wide(w).verdicts(&items), expected, "the kernel"));
}

#[test]
fn good_signatures_are_valid_at_every_edge_of_a_group_and_of_a_batch() {
    let mut random = fastrand::Rng::with_seed(1);
    for count in [0, 1, 2, 7, 8, 9, 15, 16, 17, 127, 128, 129, 300] {
        let all: Vec<_> = (0..count).map(|_| Signed::new(&mut random, 200)).collect();
        assert!(alone(&items(&all)).iter().all(|good| *good));
        check(&all);
    }
}

#[test]
fn one_bad_signature_is_named_in_whichever_way_it_stands() {
    let mut random = fastrand::Rng::with_seed(2);
    let good: Vec<_> = (0..9).map(|_| Signed::new(&mut random, 200)).collect();
    for place in 0..good.len() {
        for byte in [0, 31, 32, 62] {
            let mut all = good.clone();
            all[place].signature[byte] ^= 1;
            check(&all);
        }
    }
}

#[test]
fn tens_of_thousands_of_good_and_spoilt_signatures_get_the_judge_s_verdict() {
    let mut random = fastrand::Rng::with_seed(3);
    // Few keys in every second part, so that batches coalesce their terms.
    let mut valid_count = 0;
    for part in 0..16_u8 {
        let key_count = if part % 2 == 0 { 3 } else { 250 };
        let mut all: Vec<_> = (0..1_500).map(|_| Signed::new(&mut random, key_count)).collect();
        for signed in &mut all {
            if random.bool() {
                signed.spoil(&mut random);
            }
        }
        valid_count += alone(&items(&all)).iter().filter(|valid| **valid).count();
        check(&all);
    }
    assert!((8_000..16_000).contains(&valid_count), "both verdicts are common: {valid_count}");
}

#[test]
fn the_twin_gives_the_judge_s_verdicts_within_its_bounds() {
    let mut random = fastrand::Rng::with_seed(4);
    let mut all: Vec<_> = (0..150).map(|_| Signed::new(&mut random, 200)).collect();
    for signed in &mut all {
        if random.bool() {
            signed.spoil(&mut random);
        }
    }
    let items = items(&all);
    assert_eq!(wide(Twin).verdicts(&items), alone(&items));
}

/// `A = aB + T`, `R = rB + U` with T and U of small order, `s = r + k a`: valid, because 8 kills T and U.
#[test]
fn parts_of_small_order_in_key_and_commitment_do_not_matter() {
    let mut random = fastrand::Rng::with_seed(5);
    let mut all = Vec::new();
    for key_part in EIGHT_TORSION {
        for commitment_part in EIGHT_TORSION {
            let [a, r] = [(); 2].map(|()| Scalar::from(random.u128(..)));
            let key = (EdwardsPoint::mul_base(&a) + key_part).compress().to_bytes();
            let commitment = (EdwardsPoint::mul_base(&r) + commitment_part).compress().to_bytes();
            let message = random.u64(..).to_le_bytes().to_vec();
            let hash = Sha512::new().chain_update(commitment).chain_update(key);
            let hash: [u8; 64] = hash.chain_update(&message).finalize().into();
            let s = r + Scalar::from_bytes_mod_order_wide(&hash) * a;
            let mut signed = Signed { key, message, signature: [0; 64] };
            signed.set_commitment(&commitment);
            signed.set_s(s.as_bytes());
            all.push(signed);
        }
    }
    assert!(alone(&items(&all)).iter().all(|valid| *valid));
    check(&all);
    let items = items(&all);
    assert!(wide(Twin).verdicts(&items).iter().all(|valid| *valid));
}
