//! [`Ways`] in plain Rust: the judge of the wide kernels, and the proof of their bounds by assertion.
//!
//! Asserts what the hardware drops silently (W2, W3). Slow; used by tests only. Nothing is inlined: the kernels, which
//! inline everything into themselves, would take a minute to compile.

use super::ways::{WAY_COUNT, Ways};

/// Operands of a multiplication are below this.
const MULTIPLICAND_BOUND: u64 = 1 << 52;

/// The low 52 bits of a product.
const PRODUCT_MASK: u128 = (1 << 52) - 1;

/// The safe implementation: there on every machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Twin;

type Word = [u64; WAY_COUNT];

#[inline(always)]
fn each(f: impl Fn(usize) -> u64) -> Word {
    std::array::from_fn(f)
}

/// The product as (low 52 bits, the bits above).
fn product(a: u64, b: u64) -> (u64, u64) {
    assert!(a < MULTIPLICAND_BOUND, "W2: a multiplicand has 52 bits");
    assert!(b < MULTIPLICAND_BOUND, "W2: a multiplier has 52 bits");
    let wide = u128::from(a).checked_mul(u128::from(b)).expect("104 bits fit in 128");
    let low = u64::try_from(wide & PRODUCT_MASK).expect("52 bits fit in 64");
    (low, u64::try_from(wide >> 52).expect("52 bits fit in 64"))
}

impl Ways for Twin {
    type Word = Word;

    fn run<Out>(self, work: impl FnOnce() -> Out) -> Out {
        work()
    }

    #[inline(never)]
    fn splat(self, value: u64) -> Word {
        [value; WAY_COUNT]
    }

    #[inline(never)]
    fn load(self, values: &[u64; WAY_COUNT]) -> Word {
        *values
    }

    #[inline(never)]
    fn store(self, word: Word) -> [u64; WAY_COUNT] {
        word
    }

    #[inline(never)]
    fn add(self, a: Word, b: Word) -> Word {
        each(|way| a[way].checked_add(b[way]).expect("W3: a sum has 64 bits"))
    }

    #[inline(never)]
    fn sub(self, a: Word, b: Word) -> Word {
        each(|way| a[way].checked_sub(b[way]).expect("W3: a difference is not negative"))
    }

    #[inline(never)]
    fn madd_low(self, sum: Word, a: Word, b: Word) -> Word {
        self.add(sum, each(|way| product(a[way], b[way]).0))
    }

    #[inline(never)]
    fn madd_high(self, sum: Word, a: Word, b: Word) -> Word {
        self.add(sum, each(|way| product(a[way], b[way]).1))
    }

    #[inline(never)]
    fn mul(self, a: Word, b: Word) -> Word {
        each(|way| a[way].checked_mul(b[way]).expect("W3: a product has 64 bits"))
    }

    #[inline(never)]
    fn shr<const BITS: u32>(self, a: Word) -> Word {
        each(|way| a[way] >> BITS)
    }

    #[inline(never)]
    fn and(self, a: Word, b: Word) -> Word {
        each(|way| a[way] & b[way])
    }

    #[inline(never)]
    fn equal(self, a: Word, b: Word) -> u8 {
        (0..WAY_COUNT).fold(0, |mask, way| mask | u8::from(a[way] == b[way]) << way)
    }

    #[inline(never)]
    fn select(self, mask: u8, yes: Word, no: Word) -> Word {
        each(|way| if mask >> way & 1 == 1 { yes[way] } else { no[way] })
    }

    #[inline(never)]
    fn transpose(self, rows: [Word; WAY_COUNT]) -> [Word; WAY_COUNT] {
        std::array::from_fn(|index| each(|way| rows[way][index]))
    }

    #[inline(never)]
    fn add_wrapping(self, a: Word, b: Word) -> Word {
        each(|way| a[way].wrapping_add(b[way]))
    }

    #[inline(never)]
    fn rotate_left<const BITS: i32>(self, a: Word) -> Word {
        each(|way| a[way].rotate_left(BITS.unsigned_abs()))
    }

    #[inline(never)]
    fn xor3(self, a: Word, b: Word, c: Word) -> Word {
        each(|way| a[way] ^ b[way] ^ c[way])
    }

    #[inline(never)]
    fn choose(self, a: Word, b: Word, c: Word) -> Word {
        each(|way| (a[way] & b[way]) | (!a[way] & c[way]))
    }

    #[inline(never)]
    fn majority(self, a: Word, b: Word, c: Word) -> Word {
        each(|way| (a[way] & b[way]) | (a[way] & c[way]) | (b[way] & c[way]))
    }

    #[inline(never)]
    fn xor_and_not(self, a: Word, b: Word, c: Word) -> Word {
        each(|way| a[way] ^ (!b[way] & c[way]))
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::many::avx512::Avx512;

    /// A word of which each way is at an edge or anywhere below `2^bits`.
    fn word(random: &mut fastrand::Rng, bits: u32) -> Word {
        let mask = u64::MAX >> (64 - bits);
        std::array::from_fn(|_| match random.u8(0..5) {
            0 => mask,
            1 => mask - 1,
            2 => random.u64(0..3),
            3 => 1 << random.u32(0..bits),
            _ => random.u64(..) & mask,
        })
    }

    fn check_arithmetic(w: Avx512, random: &mut fastrand::Rng) {
        let t = Twin;
        let (a, b, sum) = (word(random, 52), word(random, 52), word(random, 63));
        let (wide_a, wide_b, wide_sum) = (w.load(&a), w.load(&b), w.load(&sum));
        assert_eq!(w.store(w.add(wide_sum, wide_a)), t.add(sum, a));
        assert_eq!(w.store(w.sub(w.add(wide_sum, wide_a), wide_a)), sum);
        assert_eq!(w.store(w.madd_low(wide_sum, wide_a, wide_b)), t.madd_low(sum, a, b));
        assert_eq!(w.store(w.madd_high(wide_sum, wide_a, wide_b)), t.madd_high(sum, a, b));
        let small = word(random, 12);
        assert_eq!(w.store(w.mul(wide_a, w.load(&small))), t.mul(a, small));
        assert_eq!(w.store(w.shr::<51>(wide_sum)), t.shr::<51>(sum));
        assert_eq!(w.store(w.shr::<6>(wide_sum)), t.shr::<6>(sum));
        assert_eq!(w.store(w.and(wide_a, wide_sum)), t.and(a, sum));
    }

    fn check_bits(w: Avx512, random: &mut fastrand::Rng) {
        let t = Twin;
        let [a, b, c] = std::array::from_fn(|_| word(random, 64));
        let (wide_a, wide_b, wide_c) = (w.load(&a), w.load(&b), w.load(&c));
        let mask = random.u8(..);
        let mixed = t.select(mask, a, b);
        assert_eq!(w.store(w.select(mask, wide_a, wide_b)), mixed);
        assert_eq!(w.equal(w.load(&mixed), wide_a), t.equal(mixed, a));
        assert_eq!(w.store(w.splat(a[0])), t.splat(a[0]));
        let rows: [Word; WAY_COUNT] = std::array::from_fn(|_| word(random, 64));
        let turned = w.transpose(rows.each_ref().map(|row| w.load(row)));
        assert_eq!(turned.map(|word| w.store(word)), t.transpose(rows));
        assert_eq!(w.store(w.add_wrapping(wide_a, wide_b)), t.add_wrapping(a, b));
        assert_eq!(w.store(w.rotate_left::<1>(wide_a)), t.rotate_left::<1>(a));
        assert_eq!(w.store(w.rotate_left::<63>(wide_a)), t.rotate_left::<63>(a));
        assert_eq!(w.store(w.xor3(wide_a, wide_b, wide_c)), t.xor3(a, b, c));
        assert_eq!(w.store(w.choose(wide_a, wide_b, wide_c)), t.choose(a, b, c));
        assert_eq!(w.store(w.majority(wide_a, wide_b, wide_c)), t.majority(a, b, c));
        assert_eq!(w.store(w.xor_and_not(wide_a, wide_b, wide_c)), t.xor_and_not(a, b, c));
    }

    #[test]
    fn every_instruction_does_what_its_twin_does_on_edges_and_between() {
        let Some(w) = Avx512::detect() else {
            println!("SKIPPED: this processor has no AVX-512 IFMA");
            return;
        };
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..2_000 {
            check_arithmetic(w, &mut random);
            check_bits(w, &mut random);
        }
    }

    #[test]
    fn the_twin_refuses_what_the_hardware_would_drop() {
        let refused = |work: fn() -> Word| std::panic::catch_unwind(work).is_err();
        assert!(refused(|| Twin.madd_low([0; 8], [1 << 52; 8], [1; 8])));
        assert!(refused(|| Twin.madd_high([0; 8], [1; 8], [1 << 52; 8])));
        assert!(refused(|| Twin.add([u64::MAX; 8], [1; 8])));
        assert!(refused(|| Twin.sub([0; 8], [1; 8])));
        assert!(refused(|| Twin.mul([1 << 60; 8], [19; 8])));
    }
}
