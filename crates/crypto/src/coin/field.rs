//! Integers modulo `r`, the order of BLS12-381's groups: what shares and their coefficients are made of.
//!
//! Four words, little endian, times 2^256 modulo `r` (P. Montgomery, "Modular multiplication without trial division",
//! 1985; the loop is the CIOS form of Koç, Acar, Kaliski, 1996). `blst` multiplies points by such numbers but offers no
//! safe way to multiply the numbers themselves.
//!
//! # Invariants
//! * A [`Scalar`]'s words are below `r`.
//! * No branch and no address depends on a value, but for [`Scalar::invert`]'s exponent, a constant: dealing
//!   handles secrets by these.

use zeroize::Zeroize;

/// `r`, least word first.
const ORDER: [u64; 4] =
    [0xffff_ffff_0000_0001, 0x53bd_a402_fffe_5bfe, 0x3339_d808_09a1_d805, 0x73ed_a753_299d_7d48];

/// `-1/r` modulo 2^64.
const ORDER_INVERSE: u64 = 0xffff_fffe_ffff_ffff;

/// 2^512 modulo `r`: takes a number into Montgomery's form.
const SQUARE: Scalar = Scalar([
    0xc999_e990_f3f2_9c6d,
    0x2b6c_edcb_8792_5c23,
    0x05d3_1496_7254_398f,
    0x0748_d9d9_9f59_ff11,
]);

/// A number modulo `r`, in Montgomery's form.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct Scalar([u64; 4]);

impl Scalar {
    pub(super) const ZERO: Self = Self([0; 4]);

    pub(super) fn new(value: u128) -> Self {
        Self(words(value)).times(SQUARE)
    }

    /// The number of 32 bytes, greatest first, that are below `r`.
    pub(super) fn from_be_bytes(bytes: &[u8; 32]) -> Self {
        Self(words_of(bytes)).times(SQUARE)
    }

    /// The number of any 32 bytes, greatest first, if they are below `r`.
    pub(super) fn checked_from_be_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let words = words_of(bytes);
        let (_, is_below) = subtract(words, ORDER);
        is_below.then(|| Self(words).times(SQUARE))
    }

    /// The number as 32 bytes, least first: the form in which `blst` takes many scalars.
    pub(super) fn to_le_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        // Times one, without Montgomery's factor, takes the factor out.
        let plain = self.times(Self([1, 0, 0, 0]));
        for (to, word) in bytes.chunks_mut(8).zip(plain.0) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub(super) fn plus(self, other: Self) -> Self {
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (self.0, other.0);
        let (w0, carry) = a0.carrying_add(b0, false);
        let (w1, carry) = a1.carrying_add(b1, carry);
        let (w2, carry) = a2.carrying_add(b2, carry);
        // Both are below 2^255: no carry is left.
        let (w3, _) = a3.carrying_add(b3, carry);
        Self([w0, w1, w2, w3]).reduced()
    }

    pub(super) fn minus(self, other: Self) -> Self {
        let (difference, borrow) = subtract(self.0, other.0);
        let mask = 0_u64.wrapping_sub(u64::from(borrow));
        let [m0, m1, m2, m3] = ORDER;
        let [a0, a1, a2, a3] = difference;
        let (w0, carry) = a0.carrying_add(m0 & mask, false);
        let (w1, carry) = a1.carrying_add(m1 & mask, carry);
        let (w2, carry) = a2.carrying_add(m2 & mask, carry);
        let (w3, _) = a3.carrying_add(m3 & mask, carry);
        Self([w0, w1, w2, w3])
    }

    pub(super) fn times(self, other: Self) -> Self {
        let [b0, b1, b2, b3] = other.0;
        let [m0, m1, m2, m3] = ORDER;
        let [mut t0, mut t1, mut t2, mut t3] = [0_u64; 4];
        for a in self.0 {
            let (s0, carry) = a.carrying_mul_add(b0, t0, 0);
            let (s1, carry) = a.carrying_mul_add(b1, t1, carry);
            let (s2, carry) = a.carrying_mul_add(b2, t2, carry);
            let (s3, s4) = a.carrying_mul_add(b3, t3, carry);
            let factor = s0.wrapping_mul(ORDER_INVERSE);
            // The lowest word becomes zero and falls away.
            let (_, carry) = factor.carrying_mul_add(m0, s0, 0);
            let (r0, carry) = factor.carrying_mul_add(m1, s1, carry);
            let (r1, carry) = factor.carrying_mul_add(m2, s2, carry);
            let (r2, carry) = factor.carrying_mul_add(m3, s3, carry);
            // The sum stays below 2r < 2^256, so nothing is lost.
            (t0, t1, t2, t3) = (r0, r1, r2, s4.wrapping_add(carry));
        }
        Self([t0, t1, t2, t3]).reduced()
    }

    /// `1/self`, by Fermat: `self^(r-2)`. Zero gives zero.
    pub(super) fn invert(self) -> Self {
        let [m0, m1, m2, m3] = ORDER;
        let mut power = Self::new(1);
        for word in [m3, m2, m1, m0.wrapping_sub(2)] {
            for bit in (0..64).rev() {
                power = power.times(power);
                if word.wrapping_shr(bit) & 1 == 1 {
                    power = power.times(self);
                }
            }
        }
        power
    }

    /// Words below 2r to words below r.
    fn reduced(self) -> Self {
        let (less, borrow) = subtract(self.0, ORDER);
        let keep = 0_u64.wrapping_sub(u64::from(borrow));
        let [a0, a1, a2, a3] = self.0;
        let [b0, b1, b2, b3] = less;
        let choose = |a: u64, b: u64| (a & keep) | (b & !keep);
        Self([choose(a0, b0), choose(a1, b1), choose(a2, b2), choose(a3, b3)])
    }
}

impl Zeroize for Scalar {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

/// The inverses of numbers none of which is zero, for one inversion and three multiplications each.
pub(super) fn invert_all(numbers: &[Scalar]) -> Vec<Scalar> {
    let mut product = Scalar::new(1);
    let mut inverses = Vec::with_capacity(numbers.len());
    for number in numbers {
        inverses.push(product);
        product = product.times(*number);
    }
    let mut rest = product.invert();
    for (inverse, number) in inverses.iter_mut().zip(numbers).rev() {
        *inverse = inverse.times(rest);
        rest = rest.times(*number);
    }
    inverses
}

/// 32 bytes, greatest first, as words.
fn words_of(bytes: &[u8; 32]) -> [u64; 4] {
    let (high, low) = bytes.split_at(16);
    let half = |half: &[u8]| words(u128::from_be_bytes(half.try_into().expect("16 of 32")));
    let ([w0, w1, ..], [w2, w3, ..]) = (half(low), half(high));
    [w0, w1, w2, w3]
}

/// A number below 2^128 as words.
fn words(value: u128) -> [u64; 4] {
    let word = |value: u128| u64::try_from(value & u128::from(u64::MAX)).expect("64 bits are kept");
    [word(value), word(value.wrapping_shr(64)), 0, 0]
}

/// `a - b` modulo 2^256, and whether it wrapped.
fn subtract([a0, a1, a2, a3]: [u64; 4], [b0, b1, b2, b3]: [u64; 4]) -> ([u64; 4], bool) {
    let (w0, borrow) = a0.borrowing_sub(b0, false);
    let (w1, borrow) = a1.borrowing_sub(b1, borrow);
    let (w2, borrow) = a2.borrowing_sub(b2, borrow);
    let (w3, borrow) = a3.borrowing_sub(b3, borrow);
    ([w0, w1, w2, w3], borrow)
}

#[cfg(test)]
mod tests {
    use blst::MultiPoint as _;
    use blst::min_sig::{PublicKey, SecretKey};
    use proptest::prelude::*;

    use super::*;

    /// `r - below`, greatest byte first.
    fn order_less(below: u64) -> [u8; 32] {
        let mut bytes = [0; 32];
        let words = [ORDER[3], ORDER[2], ORDER[1], ORDER[0].wrapping_sub(below)];
        for (to, word) in bytes.chunks_mut(8).zip(words) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn bytes_of_the_order_and_above_are_no_number() {
        assert!(Scalar::checked_from_be_bytes(&order_less(1)).is_some());
        assert!(Scalar::checked_from_be_bytes(&order_less(0)).is_none());
        assert!(Scalar::checked_from_be_bytes(&[0xff; 32]).is_none());
    }

    /// Any number below `r`, its ends more often.
    fn scalars() -> impl Strategy<Value = Scalar> {
        let any = any::<[u8; 32]>().prop_map(|mut bytes| {
            bytes[0] &= 0x3f;
            Scalar::from_be_bytes(&bytes)
        });
        let low = (0..4_u128).prop_map(Scalar::new);
        let high = (1..4_u64).prop_map(|below| Scalar::from_be_bytes(&order_less(below)));
        prop_oneof![4 => any, 1 => low, 1 => high]
    }

    /// `scalar·g2`, by blst.
    fn point(scalar: Scalar) -> PublicKey {
        let mut one = [0; 32];
        one[31] = 1;
        let generator = SecretKey::from_bytes(&one).unwrap().sk_to_pk();
        [generator].mult(&scalar.to_le_bytes(), 255).to_public_key()
    }

    #[test]
    fn the_constants_are_those_of_the_order() {
        assert_eq!(ORDER[0].wrapping_mul(ORDER_INVERSE), u64::MAX, "-1 modulo 2^64");
        let square = (0..512).fold(Scalar([1, 0, 0, 0]), |double, _| double.plus(double));
        assert!(square == SQUARE, "2^512");
        assert_eq!(order_less(1), {
            let mut bytes = Scalar::ZERO.minus(Scalar::new(1)).to_le_bytes();
            bytes.reverse();
            bytes
        });
    }

    proptest! {
        #[test]
        fn it_is_a_field(a in scalars(), b in scalars(), c in scalars()) {
            prop_assert!(a.plus(b) == b.plus(a) && a.times(b) == b.times(a));
            prop_assert!(a.plus(b).plus(c) == a.plus(b.plus(c)));
            prop_assert!(a.times(b).times(c) == a.times(b.times(c)));
            prop_assert!(a.times(b.plus(c)) == a.times(b).plus(a.times(c)));
            prop_assert!(a.minus(b).plus(b) == a);
            let mut bytes = a.to_le_bytes();
            bytes.reverse();
            prop_assert!(Scalar::from_be_bytes(&bytes) == a);
            prop_assert!(Scalar::checked_from_be_bytes(&bytes) == Some(a));
            let one = if a == Scalar::ZERO { Scalar::ZERO } else { Scalar::new(1) };
            prop_assert!(a.times(a.invert()) == one);
        }

        #[test]
        fn small_numbers_multiply_as_integers_do(a in any::<u64>(), b in any::<u64>()) {
            let (a, b) = (u128::from(a), u128::from(b));
            prop_assert!(Scalar::new(a).times(Scalar::new(b)) == Scalar::new(a.wrapping_mul(b)));
            prop_assert!(Scalar::new(a).plus(Scalar::new(b)) == Scalar::new(a.wrapping_add(b)));
        }

        #[test]
        fn all_inverses_are_each_ones(numbers in prop::collection::vec(scalars(), 0..9)) {
            let numbers: Vec<Scalar> =
                numbers.into_iter().filter(|number| *number != Scalar::ZERO).collect();
            let each: Vec<Scalar> = numbers.iter().map(|number| number.invert()).collect();
            prop_assert!(invert_all(&numbers) == each);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn points_multiply_by_products_as_by_one_after_the_other(a in scalars(), b in scalars()) {
            let both = [point(a)].mult(&b.to_le_bytes(), 255).to_public_key();
            prop_assert!(point(a.times(b)) == both);
            prop_assert!(point(a.plus(b)) == [point(a), point(b)].add().to_public_key());
        }
    }
}
