//! SHA-256 on 16 ways: the vector machine of AVX-512 (F and BW).
//!
//! Sources: FIPS 180-4, section 4.1.2; Intel's guide to intrinsics for what each does. A rotation is one instruction
//! (`vprold`), and so is any function of three bits (`vpternlogd`), whose constant is the column of its truth table.
//!
//! ```text
//!  a  1 1 1 1 0 0 0 0
//!  b  1 1 0 0 1 1 0 0
//!  c  1 0 1 0 1 0 1 0
//!     1 0 0 1 0 1 1 0  0x96  a ^ b ^ c
//!     1 1 0 0 1 0 1 0  0xca  a ? b : c
//!     1 1 1 0 1 0 0 0  0xe8  majority
//! ```
//! # Invariants
//! * An [`Avx512`] is made by [`Avx512::detect`] alone, so whoever holds one may use the instructions (S2).
//! * The twin is `Portable<16>`: it runs the same rounds.
#![expect(unsafe_code, reason = "intrinsics of AVX-512; the twin is Portable<16>")]

use std::arch::x86_64::{
    __m256i, __m512i, _mm_set_epi8, _mm256_loadu_si256, _mm256_storeu_si256, _mm512_add_epi32,
    _mm512_broadcast_i32x4, _mm512_castsi256_si512, _mm512_castsi512_si256,
    _mm512_extracti64x4_epi64, _mm512_inserti64x4, _mm512_loadu_si512, _mm512_or_si512,
    _mm512_permutex2var_epi64, _mm512_ror_epi32, _mm512_set_epi64, _mm512_set1_epi32,
    _mm512_shuffle_epi8, _mm512_shuffle_i32x4, _mm512_slli_epi32, _mm512_srli_epi32,
    _mm512_storeu_si512, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use super::twin::{self, Machine};
use super::{BLOCK_SIZE, Kernel, Pair, State};

/// Ways of one register.
pub(crate) const WAYS: usize = 16;

/// Truth tables for `vpternlogd`.
const XOR: i32 = 0x96;
const CHOOSE: i32 = 0xca;
const MAJORITY: i32 = 0xe8;

/// Proof that this machine has AVX-512 F and BW.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// Ask the processor (and, through it, the operating system).
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"))
            .then_some(Self(()))
    }
}

impl Kernel<WAYS> for Avx512 {
    fn compress(self, state: &mut State<WAYS>, blocks: &[&[u8; BLOCK_SIZE]; WAYS]) {
        // SAFETY: `self` proves the features.
        unsafe { compress(self, state, blocks) }
    }

    fn chain(self, hashes: &mut [[u8; 32]; WAYS], count: u64) {
        // SAFETY: `self` proves the features.
        unsafe { chain(self, hashes, count) }
    }

    fn nodes(self, prefix: u8, pairs: &[Pair; WAYS], out: &mut [[u8; 32]; WAYS]) {
        // SAFETY: `self` proves the features.
        unsafe { nodes(self, prefix, pairs, out) }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn compress(m: Avx512, state: &mut State<WAYS>, blocks: &[&[u8; BLOCK_SIZE]; WAYS]) {
    twin::compress(m, state, blocks);
}

#[target_feature(enable = "avx512f,avx512bw")]
fn chain(m: Avx512, hashes: &mut [[u8; 32]; WAYS], count: u64) {
    twin::chain(m, hashes, count);
}

#[target_feature(enable = "avx512f,avx512bw")]
fn nodes(m: Avx512, prefix: u8, pairs: &[Pair; WAYS], out: &mut [[u8; 32]; WAYS]) {
    twin::nodes(m, prefix, pairs, out);
}

impl Machine<WAYS> for Avx512 {
    type Word = __m512i;

    #[inline(always)]
    fn splat(self, value: u32) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_set1_epi32(value.cast_signed()) }
    }

    #[inline(always)]
    fn add(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_add_epi32(a, b) }
    }

    #[inline(always)]
    fn sum_0(self, a: __m512i) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe {
            let (x, y, z) =
                (_mm512_ror_epi32::<2>(a), _mm512_ror_epi32::<13>(a), _mm512_ror_epi32::<22>(a));
            _mm512_ternarylogic_epi32::<XOR>(x, y, z)
        }
    }

    #[inline(always)]
    fn sum_1(self, e: __m512i) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe {
            let (x, y, z) =
                (_mm512_ror_epi32::<6>(e), _mm512_ror_epi32::<11>(e), _mm512_ror_epi32::<25>(e));
            _mm512_ternarylogic_epi32::<XOR>(x, y, z)
        }
    }

    #[inline(always)]
    fn sigma_0(self, w: __m512i) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe {
            let (x, y, z) =
                (_mm512_ror_epi32::<7>(w), _mm512_ror_epi32::<18>(w), _mm512_srli_epi32::<3>(w));
            _mm512_ternarylogic_epi32::<XOR>(x, y, z)
        }
    }

    #[inline(always)]
    fn sigma_1(self, w: __m512i) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe {
            let (x, y, z) =
                (_mm512_ror_epi32::<17>(w), _mm512_ror_epi32::<19>(w), _mm512_srli_epi32::<10>(w));
            _mm512_ternarylogic_epi32::<XOR>(x, y, z)
        }
    }

    #[inline(always)]
    fn choose(self, e: __m512i, f: __m512i, g: __m512i) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_ternarylogic_epi32::<CHOOSE>(e, f, g) }
    }

    #[inline(always)]
    fn majority(self, a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_ternarylogic_epi32::<MAJORITY>(a, b, c) }
    }

    #[inline(always)]
    fn straddle(self, left: __m512i, right: __m512i) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_or_si512(_mm512_slli_epi32::<24>(left), _mm512_srli_epi32::<8>(right)) }
    }

    #[inline(always)]
    fn load_blocks(self, blocks: &[&[u8; BLOCK_SIZE]; WAYS]) -> [__m512i; 16] {
        // SAFETY: `self` proves the features; each load reads the 64 bytes of one block.
        unsafe {
            let mut rows = [_mm512_set1_epi32(0); 16];
            for (row, block) in rows.iter_mut().zip(blocks) {
                *row = self.swap(_mm512_loadu_si512(block.as_ptr().cast()));
            }
            self.transpose(rows)
        }
    }

    #[inline(always)]
    fn load_hashes(self, hashes: &[[u8; 32]; WAYS]) -> [__m512i; 8] {
        // Rows are paired so that the last shuffle puts the ways in order: in 128-bit pieces, of words `k` and `4 + k`,
        // `low` has ways 0..4, 0..4, 4..8, 4..8 and `high` has ways 8..12, 8..12, 12..16, 12..16.
        let [h0, h1, h2, h3, h4, h5, h6, h7, h8, h9, ha, hb, hc, hd, he, hf] = hashes;
        let low = self.unpack([
            self.load_two(h0, h4),
            self.load_two(h1, h5),
            self.load_two(h2, h6),
            self.load_two(h3, h7),
        ]);
        let high = self.unpack([
            self.load_two(h8, hc),
            self.load_two(h9, hd),
            self.load_two(ha, he),
            self.load_two(hb, hf),
        ]);
        // SAFETY: `self` proves the features.
        unsafe {
            [
                _mm512_shuffle_i32x4::<0x88>(low[0], high[0]),
                _mm512_shuffle_i32x4::<0x88>(low[1], high[1]),
                _mm512_shuffle_i32x4::<0x88>(low[2], high[2]),
                _mm512_shuffle_i32x4::<0x88>(low[3], high[3]),
                _mm512_shuffle_i32x4::<0xdd>(low[0], high[0]),
                _mm512_shuffle_i32x4::<0xdd>(low[1], high[1]),
                _mm512_shuffle_i32x4::<0xdd>(low[2], high[2]),
                _mm512_shuffle_i32x4::<0xdd>(low[3], high[3]),
            ]
        }
    }

    #[inline(always)]
    fn store_hashes(self, words: [__m512i; 8], hashes: &mut [[u8; 32]; WAYS]) {
        let [a, b, c, d, e, f, g, h] = words;
        // In 128-bit pieces: `left[j]` is the left half of hashes j, 4 + j, 8 + j, 12 + j; `right[j]` their right half.
        let left = self.unpack([a, b, c, d]);
        let right = self.unpack([e, f, g, h]);
        let [h0, h1, h2, h3, h4, h5, h6, h7, h8, h9, ha, hb, hc, hd, he, hf] = hashes;
        let groups = [[h0, h4, h8, hc], [h1, h5, h9, hd], [h2, h6, ha, he], [h3, h7, hb, hf]];
        for ((left, right), [p0, p1, p2, p3]) in left.into_iter().zip(right).zip(groups) {
            // SAFETY: `self` proves the features; each store writes the 32 bytes of one hash.
            unsafe {
                let first = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
                let second = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
                let first = self.swap(_mm512_permutex2var_epi64(left, first, right));
                let second = self.swap(_mm512_permutex2var_epi64(left, second, right));
                store(p0, _mm512_castsi512_si256(first));
                store(p1, _mm512_extracti64x4_epi64::<1>(first));
                store(p2, _mm512_castsi512_si256(second));
                store(p3, _mm512_extracti64x4_epi64::<1>(second));
            }
        }
    }

    #[inline(always)]
    fn load_state(self, state: &State<WAYS>) -> [__m512i; 8] {
        // SAFETY: `self` proves the features; each load reads the 16 words of one row.
        unsafe {
            let mut words = [_mm512_set1_epi32(0); 8];
            for (word, row) in words.iter_mut().zip(state) {
                *word = _mm512_loadu_si512(row.as_ptr().cast());
            }
            words
        }
    }

    #[inline(always)]
    fn store_state(self, words: [__m512i; 8], state: &mut State<WAYS>) {
        for (word, row) in words.into_iter().zip(state) {
            // SAFETY: `self` proves the features; each store writes the 16 words of one row.
            unsafe { _mm512_storeu_si512(row.as_mut_ptr().cast(), word) }
        }
    }
}

#[inline(always)]
unsafe fn store(hash: &mut [u8; 32], value: __m256i) {
    // SAFETY: a hash has the size of the store, and the caller proves the features.
    unsafe { _mm256_storeu_si256(hash.as_mut_ptr().cast(), value) }
}

impl Avx512 {
    /// Between big endian and the machine's order, in each 32-bit word.
    #[inline(always)]
    fn swap(self, value: __m512i) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe {
            let order = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
            _mm512_shuffle_epi8(value, _mm512_broadcast_i32x4(order))
        }
    }

    /// Two hashes as one vector of words.
    #[inline(always)]
    fn load_two(self, low: &[u8; 32], high: &[u8; 32]) -> __m512i {
        // SAFETY: `self` proves the features; each load reads the 32 bytes of one hash.
        unsafe {
            let low = _mm512_castsi256_si512(_mm256_loadu_si256(low.as_ptr().cast()));
            self.swap(_mm512_inserti64x4::<1>(low, _mm256_loadu_si256(high.as_ptr().cast())))
        }
    }

    /// Transpose the 4×4 words of each 128-bit piece.
    #[inline(always)]
    fn unpack(self, [a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
        // SAFETY: `self` proves the features.
        unsafe {
            let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            [
                _mm512_unpacklo_epi64(ab_low, cd_low),
                _mm512_unpackhi_epi64(ab_low, cd_low),
                _mm512_unpacklo_epi64(ab_high, cd_high),
                _mm512_unpackhi_epi64(ab_high, cd_high),
            ]
        }
    }

    /// Transpose 16×16 words.
    #[inline(always)]
    fn transpose(self, rows: [__m512i; 16]) -> [__m512i; 16] {
        // Piece `p` of `qRk` is word `4p + k` of rows `4R..4R + 4`.
        let [r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, ra, rb, rc, rd, re, rf] = rows;
        let [q00, q01, q02, q03] = self.unpack([r0, r1, r2, r3]);
        let [q10, q11, q12, q13] = self.unpack([r4, r5, r6, r7]);
        let [q20, q21, q22, q23] = self.unpack([r8, r9, ra, rb]);
        let [q30, q31, q32, q33] = self.unpack([rc, rd, re, rf]);
        let [w0, w4, w8, wc] = self.gather([q00, q10, q20, q30]);
        let [w1, w5, w9, wd] = self.gather([q01, q11, q21, q31]);
        let [w2, w6, wa, we] = self.gather([q02, q12, q22, q32]);
        let [w3, w7, wb, wf] = self.gather([q03, q13, q23, q33]);
        [w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, wa, wb, wc, wd, we, wf]
    }

    /// Transpose the 4×4 pieces of four vectors.
    #[inline(always)]
    fn gather(self, [a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
        // SAFETY: `self` proves the features.
        unsafe {
            let (ab_even, ab_odd) =
                (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
            let (cd_even, cd_odd) =
                (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
            [
                _mm512_shuffle_i32x4::<0x88>(ab_even, cd_even),
                _mm512_shuffle_i32x4::<0x88>(ab_odd, cd_odd),
                _mm512_shuffle_i32x4::<0xdd>(ab_even, cd_even),
                _mm512_shuffle_i32x4::<0xdd>(ab_odd, cd_odd),
            ]
        }
    }
}
