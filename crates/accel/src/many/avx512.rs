//! [`Ways`] on AVX-512 with IFMA (Intel since Ice Lake, AMD since Zen 4): one instruction per method.
//!
//! All `unsafe` of the eight-way kernels is here. Each block calls one intrinsic whose only precondition is that
//! the processor has it, and a value of [`Avx512`] is the proof of that: [`Avx512::detect`] alone makes one.
#![expect(unsafe_code, reason = "vector instructions chosen at run time; twin.rs is the safe twin")]

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_cmpeq_epu64_mask, _mm512_loadu_si512,
    _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_mask_blend_epi64, _mm512_mullo_epi64,
    _mm512_rol_epi64, _mm512_set1_epi64, _mm512_shuffle_i64x2, _mm512_srli_epi64,
    _mm512_storeu_si512, _mm512_sub_epi64, _mm512_ternarylogic_epi64, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi64,
};

use super::ways::{WAY_COUNT, Ways};

/// Proof that this processor has AVX-512 F, DQ, VL and IFMA, and that the system saves its registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// Ask the processor.
    pub(crate) fn detect() -> Option<Self> {
        let there = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512ifma");
        there.then_some(Self(()))
    }
}

/// The frame into which everything is inlined.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512ifma")]
#[inline(never)]
fn compiled_wide<Out>(work: impl FnOnce() -> Out) -> Out {
    work()
}

/// Three rounds of swaps: single words, then pairs of words, then fours.
#[target_feature(enable = "avx512f")]
#[inline]
fn transposed(rows: [__m512i; WAY_COUNT]) -> [__m512i; WAY_COUNT] {
    let [a, b, c, d, e, f, g, h] = rows;
    let even = half_transposed([
        _mm512_unpacklo_epi64(a, b),
        _mm512_unpacklo_epi64(c, d),
        _mm512_unpacklo_epi64(e, f),
        _mm512_unpacklo_epi64(g, h),
    ]);
    let odd = half_transposed([
        _mm512_unpackhi_epi64(a, b),
        _mm512_unpackhi_epi64(c, d),
        _mm512_unpackhi_epi64(e, f),
        _mm512_unpackhi_epi64(g, h),
    ]);
    [even[0], odd[0], even[1], odd[1], even[2], odd[2], even[3], odd[3]]
}

/// Transposes four rows of four pairs. `vshufi64x2` takes two pairs of each operand: 0x88 the even, 0xdd the odd ones.
#[target_feature(enable = "avx512f")]
#[inline]
fn half_transposed(rows: [__m512i; 4]) -> [__m512i; 4] {
    let [a, b, c, d] = rows;
    let (even_ab, odd_ab) = (even_pairs(a, b), odd_pairs(a, b));
    let (even_cd, odd_cd) = (even_pairs(c, d), odd_pairs(c, d));
    [
        even_pairs(even_ab, even_cd),
        even_pairs(odd_ab, odd_cd),
        odd_pairs(even_ab, even_cd),
        odd_pairs(odd_ab, odd_cd),
    ]
}

#[target_feature(enable = "avx512f")]
#[inline]
fn even_pairs(a: __m512i, b: __m512i) -> __m512i {
    _mm512_shuffle_i64x2::<0x88>(a, b)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn odd_pairs(a: __m512i, b: __m512i) -> __m512i {
    _mm512_shuffle_i64x2::<0xdd>(a, b)
}

/// The intrinsics of this file need AVX-512 F or IFMA and nothing else; `self` proves them.
macro_rules! intrinsic {
    ($call:expr) => {
        // SAFETY: a value of `Avx512` exists (`self`), so `detect` has seen the instruction's feature.
        unsafe { $call }
    };
}

impl Ways for Avx512 {
    type Word = __m512i;

    #[inline(always)]
    fn run<Out>(self, work: impl FnOnce() -> Out) -> Out {
        intrinsic!(compiled_wide(work))
    }

    #[inline(always)]
    fn splat(self, value: u64) -> __m512i {
        intrinsic!(_mm512_set1_epi64(value.cast_signed()))
    }

    #[inline(always)]
    fn load(self, values: &[u64; WAY_COUNT]) -> __m512i {
        // SAFETY: as in `intrinsic`; the array has the 64 bytes that are read, at any alignment.
        unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store(self, word: __m512i) -> [u64; WAY_COUNT] {
        let mut values = [0; WAY_COUNT];
        // SAFETY: as in `intrinsic`; the array has the 64 bytes that are written, at any alignment.
        unsafe { _mm512_storeu_si512(values.as_mut_ptr().cast(), word) }
        values
    }

    #[inline(always)]
    fn add(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsic!(_mm512_add_epi64(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsic!(_mm512_sub_epi64(a, b))
    }

    #[inline(always)]
    fn madd_low(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        intrinsic!(_mm512_madd52lo_epu64(sum, a, b))
    }

    #[inline(always)]
    fn madd_high(self, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        intrinsic!(_mm512_madd52hi_epu64(sum, a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsic!(_mm512_mullo_epi64(a, b))
    }

    #[inline(always)]
    fn shr<const BITS: u32>(self, a: __m512i) -> __m512i {
        intrinsic!(_mm512_srli_epi64::<BITS>(a))
    }

    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsic!(_mm512_and_si512(a, b))
    }

    #[inline(always)]
    fn equal(self, a: __m512i, b: __m512i) -> u8 {
        intrinsic!(_mm512_cmpeq_epu64_mask(a, b))
    }

    #[inline(always)]
    fn select(self, mask: u8, yes: __m512i, no: __m512i) -> __m512i {
        intrinsic!(_mm512_mask_blend_epi64(mask, no, yes))
    }

    #[inline(always)]
    fn transpose(self, rows: [__m512i; WAY_COUNT]) -> [__m512i; WAY_COUNT] {
        intrinsic!(transposed(rows))
    }

    #[inline(always)]
    fn add_wrapping(self, a: __m512i, b: __m512i) -> __m512i {
        intrinsic!(_mm512_add_epi64(a, b))
    }

    #[inline(always)]
    fn rotate_left<const BITS: i32>(self, a: __m512i) -> __m512i {
        intrinsic!(_mm512_rol_epi64::<BITS>(a))
    }

    // The immediate of `vpternlogq` is the truth table: bit (4a + 2b + c) is the result for those bits.

    #[inline(always)]
    fn xor3(self, a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        intrinsic!(_mm512_ternarylogic_epi64::<0x96>(a, b, c))
    }

    #[inline(always)]
    fn choose(self, a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        intrinsic!(_mm512_ternarylogic_epi64::<0xca>(a, b, c))
    }

    #[inline(always)]
    fn majority(self, a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        intrinsic!(_mm512_ternarylogic_epi64::<0xe8>(a, b, c))
    }

    #[inline(always)]
    fn xor_and_not(self, a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        intrinsic!(_mm512_ternarylogic_epi64::<0xd2>(a, b, c))
    }
}
