//! The two scalars of a signature as digits for the wide kernel.
//!
//! ```text
//!  s: 32 bytes, refused unless below l   -> 32 digits of -128..=128, s = sum of digit_i 256^i
//!  k: SHA-512(R ‖ A ‖ M) mod l           -> 64 digits of -8..=8,     k = sum of digit_i 16^i
//! ```
//! # Invariants
//! * D1 Both are below l < 2^253, so the last carry of the recoding fits in the last digit.

use curve25519_dalek::Scalar;
use sha2::{Digest, Sha512};

use crate::Ed25519Item;

/// Digits of s, to the base 256.
pub(super) const S_DIGIT_COUNT: usize = 32;

/// Digits of k, to the base 16.
const K_DIGIT_COUNT: usize = 64;

/// s and k of one signature.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scalars {
    /// Digits of s, little end first.
    pub(super) s: [i16; S_DIGIT_COUNT],
    /// Digits of k, little end first.
    pub(super) k: [i8; K_DIGIT_COUNT],
}

impl Scalars {
    /// None if s is not below l.
    pub(super) fn new(item: &Ed25519Item<'_>) -> Option<Self> {
        let (commitment, s) = item.signature.split_at(32);
        let s: [u8; 32] = s.try_into().expect("half of 64 bytes is 32 bytes");
        Option::<Scalar>::from(Scalar::from_canonical_bytes(s))?;
        let hash = Sha512::new()
            .chain_update(commitment)
            .chain_update(item.key)
            .chain_update(item.message)
            .finalize();
        Some(Self::from_parts(&s, &hash.into()))
    }

    /// From a canonical s and the hash that k is reduced from.
    fn from_parts(s: &[u8; 32], hash: &[u8; 64]) -> Self {
        let k = Scalar::from_bytes_mod_order_wide(hash).to_bytes();
        let nibbles: [u8; K_DIGIT_COUNT] = std::array::from_fn(|index| {
            let byte = k.get(index / 2).copied().unwrap_or(0);
            if index % 2 == 0 { byte & 15 } else { byte >> 4 }
        });
        let digit = |digit: i16| i8::try_from(digit).expect("a digit to the base 16 is at most 8");
        Self { s: recode(s, 256), k: recode(&nibbles, 16).map(digit) }
    }
}

/// Digits `0..radix` to digits `-radix/2..=radix/2` of the same sum.
fn recode<const COUNT: usize>(digits: &[u8; COUNT], radix: i16) -> [i16; COUNT] {
    let mut carry = 0_i16;
    let recoded = digits.map(|digit| {
        let value = i16::from(digit).saturating_add(carry);
        carry = i16::from(value > radix / 2);
        if carry == 1 { value.saturating_sub(radix) } else { value }
    });
    assert_eq!(carry, 0, "D1: the last digit is far below half of the radix");
    recoded
}
