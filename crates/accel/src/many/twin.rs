//! [`Ways`] in plain Rust: the judge of the wide kernels, and the proof of their bounds by assertion.
//!
//! Asserts what the hardware drops silently (W2, W3). Slow; used by tests only.

use super::ways::{WAY_COUNT, Ways};

/// Operands of a multiplication are below this.
const MULTIPLICAND_BOUND: u64 = 1 << 52;

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
    let low = u64::try_from(wide % u128::from(MULTIPLICAND_BOUND)).expect("52 bits fit in 64");
    (low, u64::try_from(wide >> 52).expect("52 bits fit in 64"))
}

#[expect(clippy::indexing_slicing, reason = "`from_fn` counts the ways, 0 to 7, of arrays of 8")]
impl Ways for Twin {
    type Word = Word;

    fn run<Out>(self, work: impl FnOnce() -> Out) -> Out {
        work()
    }

    fn splat(self, value: u64) -> Word {
        [value; WAY_COUNT]
    }

    fn load(self, values: &[u64; WAY_COUNT]) -> Word {
        *values
    }

    fn store(self, word: Word) -> [u64; WAY_COUNT] {
        word
    }

    fn add(self, a: Word, b: Word) -> Word {
        each(|way| a[way].checked_add(b[way]).expect("W3: a sum has 64 bits"))
    }

    fn sub(self, a: Word, b: Word) -> Word {
        each(|way| a[way].checked_sub(b[way]).expect("W3: a difference is not negative"))
    }

    fn madd_low(self, sum: Word, a: Word, b: Word) -> Word {
        self.add(sum, each(|way| product(a[way], b[way]).0))
    }

    fn madd_high(self, sum: Word, a: Word, b: Word) -> Word {
        self.add(sum, each(|way| product(a[way], b[way]).1))
    }

    fn mul(self, a: Word, b: Word) -> Word {
        each(|way| a[way].checked_mul(b[way]).expect("W3: a product has 64 bits"))
    }

    fn shl<const BITS: u32>(self, a: Word) -> Word {
        each(|way| {
            assert!(a[way].leading_zeros() >= BITS, "W3: a shift loses no bits");
            a[way] << BITS
        })
    }

    fn shr<const BITS: u32>(self, a: Word) -> Word {
        each(|way| a[way] >> BITS)
    }

    fn and(self, a: Word, b: Word) -> Word {
        each(|way| a[way] & b[way])
    }

    fn equal(self, a: Word, b: Word) -> u8 {
        (0..WAY_COUNT).fold(0, |mask, way| mask | u8::from(a[way] == b[way]) << way)
    }

    fn select(self, mask: u8, yes: Word, no: Word) -> Word {
        each(|way| if mask >> way & 1 == 1 { yes[way] } else { no[way] })
    }

    fn add_wrapping(self, a: Word, b: Word) -> Word {
        each(|way| a[way].wrapping_add(b[way]))
    }

    fn rotate_left<const BITS: i32>(self, a: Word) -> Word {
        each(|way| a[way].rotate_left(BITS.unsigned_abs()))
    }

    fn xor3(self, a: Word, b: Word, c: Word) -> Word {
        each(|way| a[way] ^ b[way] ^ c[way])
    }

    fn choose(self, a: Word, b: Word, c: Word) -> Word {
        each(|way| (a[way] & b[way]) | (!a[way] & c[way]))
    }

    fn majority(self, a: Word, b: Word, c: Word) -> Word {
        each(|way| (a[way] & b[way]) | (a[way] & c[way]) | (b[way] & c[way]))
    }

    fn xor_and_not(self, a: Word, b: Word, c: Word) -> Word {
        each(|way| a[way] ^ (!b[way] & c[way]))
    }
}
