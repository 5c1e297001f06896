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
use crate::many::sha512::{self, Parts};
use crate::many::ways::{WAY_COUNT, Ways};

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

/// Whether the item's s is below l: the only one of its form.
pub(super) fn has_canonical_s(item: &Ed25519Item<'_>) -> bool {
    bool::from(Scalar::from_canonical_bytes(*s_of(item)).is_some())
}

fn s_of<'a>(item: &Ed25519Item<'a>) -> &'a [u8; 32] {
    item.signature.last_chunk().expect("64 bytes are at least 32")
}

impl Scalars {
    /// Of eight items with canonical s. The hashes are made side by side unless one message is much longer.
    pub(super) fn of_eight<W: Ways>(
        w: W,
        items: &[Ed25519Item<'_>; WAY_COUNT],
    ) -> [Self; WAY_COUNT] {
        let messages = items.each_ref().map(parts);
        let hashes = if sha512::is_worth_it(&messages) {
            sha512::digests(w, &messages)
        } else {
            messages.map(|parts| {
                Sha512::new().chain_update(parts.head).chain_update(parts.tail).finalize().into()
            })
        };
        std::array::from_fn(|way| {
            let item = items.get(way).expect("eight items");
            Self::from_parts(s_of(item), hashes.get(way).expect("eight hashes"))
        })
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

/// What k is the hash of: R ‖ A ‖ M, the bytes as they came.
fn parts<'a>(item: &Ed25519Item<'a>) -> Parts<'a> {
    let mut head = [0; 64];
    let (commitment, key) = head.split_at_mut(32);
    commitment.copy_from_slice(item.signature.first_chunk::<32>().expect("64 bytes are more"));
    key.copy_from_slice(item.key);
    Parts { head, tail: item.message }
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

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::ed25519::tests::ORDER;

    /// The sum of the digits times powers of the radix, as a scalar.
    fn value(digits: impl DoubleEndedIterator<Item = i16>, radix: u64) -> Scalar {
        digits.rev().fold(Scalar::ZERO, |sum, digit| {
            let magnitude = Scalar::from(digit.unsigned_abs());
            let shifted = sum * Scalar::from(radix);
            if digit < 0 { shifted - magnitude } else { shifted + magnitude }
        })
    }

    #[test]
    fn digits_are_small_and_sum_to_the_scalar() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut below_order = ORDER;
        below_order[0] -= 1;
        let ends = [[0; 32], below_order, [0x80; 32], [0x7f; 32], [0x88; 32], [0x08; 32]];
        for index in 0..500 {
            let bytes =
                ends.get(index).copied().unwrap_or_else(|| std::array::from_fn(|_| random.u8(..)));
            let s = Scalar::from_bytes_mod_order(bytes);
            let hash: [u8; 64] = std::array::from_fn(|index| bytes[index % 32]);
            let k = Scalar::from_bytes_mod_order_wide(&hash);
            let scalars = Scalars::from_parts(s.as_bytes(), &hash);
            assert_eq!(value(scalars.s.into_iter(), 256), s);
            assert_eq!(value(scalars.k.into_iter().map(i16::from), 16), k);
            assert!(scalars.s.iter().all(|digit| digit.abs() <= 128));
            assert!(scalars.k.iter().all(|digit| digit.abs() <= 8));
        }
    }
}
