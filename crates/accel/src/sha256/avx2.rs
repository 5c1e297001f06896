//! SHA-256 on 8 ways: the vector machine of AVX2.
//!
//! Sources: FIPS 180-4, section 4.1.2; Intel's guide to intrinsics for what each does. There is no rotation: it is two
//! shifts, whose halves share no bit, so all the parts of `Σ` and `σ` are joined by exclusive or.
//!
//! ```text
//!  choose    g ^ (e & (f ^ g))          three operations instead of four
//!  majority  b ^ ((a ^ b) & (b ^ c))    and `b ^ c` was the `a ^ b` of the round before: the compiler finds it
//! ```
//! # Invariants
//! * An [`Avx2`] is made by [`Avx2::detect`] alone, so whoever holds one may use the instructions (S2).
//! * The twin is `Portable<8>`: it runs the same rounds.
#![expect(unsafe_code, reason = "intrinsics of AVX2; the twin is Portable<8>")]

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_loadu_si256, _mm256_or_si256,
    _mm256_permute2x128_si256, _mm256_set_epi8, _mm256_set1_epi32, _mm256_shuffle_epi8,
    _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_si256, _mm256_unpackhi_epi32,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use super::kernel::{Kernel, Rows};
use super::rounds::{self, Machine, kernel_of_rows};
use super::{BLOCK_SIZE, Pair};

/// Ways of one register.
pub(crate) const WAYS: usize = 8;

/// Proof that this machine has AVX2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// Ask the processor (and, through it, the operating system).
    pub(crate) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

impl Kernel<WAYS> for Avx2 {
    kernel_of_rows!(WAYS);

    fn compress(self, states: &mut Rows<WAYS>, blocks: &[&[u8; BLOCK_SIZE]; WAYS]) {
        // SAFETY: `self` proves the feature.
        unsafe { compress(self, states, blocks) }
    }

    fn chain(self, hashes: &mut [[u8; 32]; WAYS], count: u64) {
        // SAFETY: `self` proves the feature.
        unsafe { chain(self, hashes, count) }
    }

    fn nodes(self, prefix: u8, pairs: &[Pair; WAYS], out: &mut [[u8; 32]; WAYS]) {
        // SAFETY: `self` proves the feature.
        unsafe { nodes(self, prefix, pairs, out) }
    }
}

#[target_feature(enable = "avx2")]
fn compress(m: Avx2, states: &mut Rows<WAYS>, blocks: &[&[u8; BLOCK_SIZE]; WAYS]) {
    rounds::compress(m, states, blocks);
}

#[target_feature(enable = "avx2")]
fn chain(m: Avx2, hashes: &mut [[u8; 32]; WAYS], count: u64) {
    rounds::chain(m, hashes, count);
}

#[target_feature(enable = "avx2")]
fn nodes(m: Avx2, prefix: u8, pairs: &[Pair; WAYS], out: &mut [[u8; 32]; WAYS]) {
    rounds::nodes(m, prefix, pairs, out);
}

/// Rotate right by the first amount; the second is what is missing to 32.
macro_rules! rotate {
    ($value:expr, $right:literal, $left:literal) => {
        _mm256_xor_si256(_mm256_srli_epi32::<$right>($value), _mm256_slli_epi32::<$left>($value))
    };
}

impl Machine<WAYS> for Avx2 {
    type Word = __m256i;

    #[inline(always)]
    fn splat(self, value: u32) -> __m256i {
        // SAFETY: `self` proves the feature.
        unsafe { _mm256_set1_epi32(value.cast_signed()) }
    }

    #[inline(always)]
    fn add(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: `self` proves the feature.
        unsafe { _mm256_add_epi32(a, b) }
    }

    #[inline(always)]
    fn sum_0(self, a: __m256i) -> __m256i {
        // SAFETY: `self` proves the feature.
        unsafe {
            let two = _mm256_xor_si256(rotate!(a, 2, 30), rotate!(a, 13, 19));
            _mm256_xor_si256(two, rotate!(a, 22, 10))
        }
    }

    #[inline(always)]
    fn sum_1(self, e: __m256i) -> __m256i {
        // SAFETY: `self` proves the feature.
        unsafe {
            let two = _mm256_xor_si256(rotate!(e, 6, 26), rotate!(e, 11, 21));
            _mm256_xor_si256(two, rotate!(e, 25, 7))
        }
    }

    #[inline(always)]
    fn sigma_0(self, w: __m256i) -> __m256i {
        // SAFETY: `self` proves the feature.
        unsafe {
            let two = _mm256_xor_si256(rotate!(w, 7, 25), rotate!(w, 18, 14));
            _mm256_xor_si256(two, _mm256_srli_epi32::<3>(w))
        }
    }

    #[inline(always)]
    fn sigma_1(self, w: __m256i) -> __m256i {
        // SAFETY: `self` proves the feature.
        unsafe {
            let two = _mm256_xor_si256(rotate!(w, 17, 15), rotate!(w, 19, 13));
            _mm256_xor_si256(two, _mm256_srli_epi32::<10>(w))
        }
    }

    #[inline(always)]
    fn choose(self, e: __m256i, f: __m256i, g: __m256i) -> __m256i {
        // SAFETY: `self` proves the feature.
        unsafe { _mm256_xor_si256(g, _mm256_and_si256(e, _mm256_xor_si256(f, g))) }
    }

    #[inline(always)]
    fn majority(self, a: __m256i, b: __m256i, c: __m256i) -> __m256i {
        // SAFETY: `self` proves the feature.
        unsafe {
            let differ = _mm256_and_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(b, c));
            _mm256_xor_si256(b, differ)
        }
    }

    #[inline(always)]
    fn straddle(self, left: __m256i, right: __m256i) -> __m256i {
        // SAFETY: `self` proves the feature.
        unsafe { _mm256_or_si256(_mm256_slli_epi32::<24>(left), _mm256_srli_epi32::<8>(right)) }
    }

    #[inline(always)]
    fn load_blocks(self, blocks: &[&[u8; BLOCK_SIZE]; WAYS]) -> [__m256i; 16] {
        let [b0, b1, b2, b3, b4, b5, b6, b7] = blocks;
        let (b0, b1, b2, b3) = (
            self.load_halves(b0),
            self.load_halves(b1),
            self.load_halves(b2),
            self.load_halves(b3),
        );
        let (b4, b5, b6, b7) = (
            self.load_halves(b4),
            self.load_halves(b5),
            self.load_halves(b6),
            self.load_halves(b7),
        );
        let [w0, w1, w2, w3, w4, w5, w6, w7] =
            self.transpose([b0[0], b1[0], b2[0], b3[0], b4[0], b5[0], b6[0], b7[0]]);
        let [w8, w9, wa, wb, wc, wd, we, wf] =
            self.transpose([b0[1], b1[1], b2[1], b3[1], b4[1], b5[1], b6[1], b7[1]]);
        [w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, wa, wb, wc, wd, we, wf]
    }

    #[inline(always)]
    fn load_pairs(self, pairs: &[Pair; WAYS]) -> [__m256i; 16] {
        let [b0, b1, b2, b3, b4, b5, b6, b7] = pairs;
        let (b0, b1, b2, b3) =
            (self.load_pair(b0), self.load_pair(b1), self.load_pair(b2), self.load_pair(b3));
        let (b4, b5, b6, b7) =
            (self.load_pair(b4), self.load_pair(b5), self.load_pair(b6), self.load_pair(b7));
        let [w0, w1, w2, w3, w4, w5, w6, w7] =
            self.transpose([b0[0], b1[0], b2[0], b3[0], b4[0], b5[0], b6[0], b7[0]]);
        let [w8, w9, wa, wb, wc, wd, we, wf] =
            self.transpose([b0[1], b1[1], b2[1], b3[1], b4[1], b5[1], b6[1], b7[1]]);
        [w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, wa, wb, wc, wd, we, wf]
    }

    #[inline(always)]
    fn load_hashes(self, hashes: &[[u8; 32]; WAYS]) -> [__m256i; 8] {
        let [a, b, c, d, e, f, g, h] = hashes;
        self.transpose([
            self.load(a),
            self.load(b),
            self.load(c),
            self.load(d),
            self.load(e),
            self.load(f),
            self.load(g),
            self.load(h),
        ])
    }

    #[inline(always)]
    fn store_hashes(self, words: [__m256i; 8], hashes: &mut [[u8; 32]; WAYS]) {
        let [a, b, c, d, e, f, g, h] = hashes;
        let rows = self.transpose(words);
        self.store(rows[0], a);
        self.store(rows[1], b);
        self.store(rows[2], c);
        self.store(rows[3], d);
        self.store(rows[4], e);
        self.store(rows[5], f);
        self.store(rows[6], g);
        self.store(rows[7], h);
    }

    #[inline(always)]
    fn load_row(self, row: &[u32; WAYS]) -> __m256i {
        // SAFETY: `self` proves the feature; the load reads the 8 words.
        unsafe { _mm256_loadu_si256(row.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store_row(self, word: __m256i, row: &mut [u32; WAYS]) {
        // SAFETY: `self` proves the feature; the store writes the 8 words.
        unsafe { _mm256_storeu_si256(row.as_mut_ptr().cast(), word) }
    }
}

impl Avx2 {
    /// Between big endian and the machine's order, in each 32-bit word.
    #[inline(always)]
    fn swap(self, value: __m256i) -> __m256i {
        // SAFETY: `self` proves the feature.
        unsafe {
            let order = _mm256_set_epi8(
                12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3, //
                12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3,
            );
            _mm256_shuffle_epi8(value, order)
        }
    }

    /// Eight words.
    #[inline(always)]
    fn load(self, bytes: &[u8; 32]) -> __m256i {
        // SAFETY: `self` proves the feature; the load reads 32 bytes.
        self.swap(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) })
    }

    /// The words of a block.
    #[inline(always)]
    fn load_halves(self, block: &[u8; BLOCK_SIZE]) -> [__m256i; 2] {
        let low = block.first_chunk().expect("half of a block");
        let high = block.last_chunk().expect("half of a block");
        [self.load(low), self.load(high)]
    }

    /// The words of a pair.
    #[inline(always)]
    fn load_pair(self, [left, right]: &Pair) -> [__m256i; 2] {
        [self.load(left), self.load(right)]
    }

    /// Write a hash.
    #[inline(always)]
    fn store(self, words: __m256i, hash: &mut [u8; 32]) {
        // SAFETY: `self` proves the feature; the store writes 32 bytes.
        unsafe { _mm256_storeu_si256(hash.as_mut_ptr().cast(), self.swap(words)) }
    }

    /// Transpose the 4×4 words of each 128-bit piece.
    #[inline(always)]
    fn unpack(self, [a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
        // SAFETY: `self` proves the feature.
        unsafe {
            let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            [
                _mm256_unpacklo_epi64(ab_low, cd_low),
                _mm256_unpackhi_epi64(ab_low, cd_low),
                _mm256_unpacklo_epi64(ab_high, cd_high),
                _mm256_unpackhi_epi64(ab_high, cd_high),
            ]
        }
    }

    /// Transpose 8×8 words.
    #[inline(always)]
    fn transpose(self, [a, b, c, d, e, f, g, h]: [__m256i; 8]) -> [__m256i; 8] {
        // Piece `p` of `low[k]` is word `4p + k` of rows 0..4, of `high[k]` that of rows 4..8.
        let [low_0, low_1, low_2, low_3] = self.unpack([a, b, c, d]);
        let [high_0, high_1, high_2, high_3] = self.unpack([e, f, g, h]);
        // SAFETY: `self` proves the feature.
        unsafe {
            [
                _mm256_permute2x128_si256::<0x20>(low_0, high_0),
                _mm256_permute2x128_si256::<0x20>(low_1, high_1),
                _mm256_permute2x128_si256::<0x20>(low_2, high_2),
                _mm256_permute2x128_si256::<0x20>(low_3, high_3),
                _mm256_permute2x128_si256::<0x31>(low_0, high_0),
                _mm256_permute2x128_si256::<0x31>(low_1, high_1),
                _mm256_permute2x128_si256::<0x31>(low_2, high_2),
                _mm256_permute2x128_si256::<0x31>(low_3, high_3),
            ]
        }
    }
}
