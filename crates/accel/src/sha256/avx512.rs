//! SHA-256 on 16 ways, or 32 in two registers: the vector machine of AVX-512 (F and BW).
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
//! The rounds wait for each other, so one register leaves units idle where they are many (Zen 5: 96 M chained hashes a
//! second with one, 135 M with two); two registers need more names than there are, and spill.
//!
//! # Invariants
//! * An [`Avx512`] is made by [`Avx512::detect`] alone, so whoever holds one may use the instructions (S2).
//! * The twin is `Portable<16>` (`Portable<32>`): it runs the same rounds.
#![expect(unsafe_code, reason = "intrinsics of AVX-512; the twin is Portable<16>")]

use std::arch::x86_64::{
    __m512i, _mm_set_epi8, _mm256_loadu_si256, _mm256_storeu_si256, _mm512_add_epi32,
    _mm512_broadcast_i32x4, _mm512_castsi256_si512, _mm512_castsi512_si256,
    _mm512_extracti64x4_epi64, _mm512_inserti64x4, _mm512_loadu_si512, _mm512_or_si512,
    _mm512_permutex2var_epi64, _mm512_ror_epi32, _mm512_set_epi64, _mm512_set1_epi32,
    _mm512_shuffle_epi8, _mm512_shuffle_i32x4, _mm512_slli_epi32, _mm512_srli_epi32,
    _mm512_storeu_si512, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use super::double::Double;
use super::kernel::{Kernel, Rows};
use super::rounds::{self, Machine, kernel_of_rows};
use super::{BLOCK_SIZE, Pair};

/// Ways of one register.
pub(crate) const WAYS: usize = 16;

/// Ways of two registers.
pub(crate) const WAYS_DOUBLE: usize = 32;

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
    kernel_of_rows!(WAYS);

    fn compress(self, states: &mut Rows<WAYS>, blocks: &[&[u8; BLOCK_SIZE]; WAYS]) {
        // SAFETY: `self` proves the features.
        unsafe { compress(self, states, blocks) }
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

impl Kernel<WAYS_DOUBLE> for Double<Avx512> {
    kernel_of_rows!(WAYS_DOUBLE);

    fn compress(self, states: &mut Rows<WAYS_DOUBLE>, blocks: &[&[u8; BLOCK_SIZE]; WAYS_DOUBLE]) {
        // SAFETY: `self` proves the features.
        unsafe { compress(self, states, blocks) }
    }

    fn chain(self, hashes: &mut [[u8; 32]; WAYS_DOUBLE], count: u64) {
        // SAFETY: `self` proves the features.
        unsafe { chain(self, hashes, count) }
    }

    fn nodes(self, prefix: u8, pairs: &[Pair; WAYS_DOUBLE], out: &mut [[u8; 32]; WAYS_DOUBLE]) {
        // SAFETY: `self` proves the features.
        unsafe { nodes(self, prefix, pairs, out) }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn compress<const WAYS: usize, M: Machine<WAYS>>(
    m: M,
    states: &mut Rows<WAYS>,
    blocks: &[&[u8; BLOCK_SIZE]; WAYS],
) {
    rounds::compress(m, states, blocks);
}

#[target_feature(enable = "avx512f,avx512bw")]
fn chain<const WAYS: usize, M: Machine<WAYS>>(m: M, hashes: &mut [[u8; 32]; WAYS], count: u64) {
    rounds::chain(m, hashes, count);
}

#[target_feature(enable = "avx512f,avx512bw")]
fn nodes<const WAYS: usize, M: Machine<WAYS>>(
    m: M,
    prefix: u8,
    pairs: &[Pair; WAYS],
    out: &mut [[u8; 32]; WAYS],
) {
    rounds::nodes(m, prefix, pairs, out);
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
        let [b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, ba, bb, bc, bd, be, bf] = blocks;
        self.transpose([
            self.load(b0),
            self.load(b1),
            self.load(b2),
            self.load(b3),
            self.load(b4),
            self.load(b5),
            self.load(b6),
            self.load(b7),
            self.load(b8),
            self.load(b9),
            self.load(ba),
            self.load(bb),
            self.load(bc),
            self.load(bd),
            self.load(be),
            self.load(bf),
        ])
    }

    #[inline(always)]
    fn load_pairs(self, pairs: &[Pair; WAYS]) -> [__m512i; 16] {
        let [b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, ba, bb, bc, bd, be, bf] = pairs;
        self.transpose([
            self.load(as_block(b0)),
            self.load(as_block(b1)),
            self.load(as_block(b2)),
            self.load(as_block(b3)),
            self.load(as_block(b4)),
            self.load(as_block(b5)),
            self.load(as_block(b6)),
            self.load(as_block(b7)),
            self.load(as_block(b8)),
            self.load(as_block(b9)),
            self.load(as_block(ba)),
            self.load(as_block(bb)),
            self.load(as_block(bc)),
            self.load(as_block(bd)),
            self.load(as_block(be)),
            self.load(as_block(bf)),
        ])
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
        self.store_four(left[0], right[0], [h0, h4, h8, hc]);
        self.store_four(left[1], right[1], [h1, h5, h9, hd]);
        self.store_four(left[2], right[2], [h2, h6, ha, he]);
        self.store_four(left[3], right[3], [h3, h7, hb, hf]);
    }

    #[inline(always)]
    fn load_row(self, row: &[u32; WAYS]) -> __m512i {
        // SAFETY: `self` proves the features; the load reads the 16 words.
        unsafe { _mm512_loadu_si512(row.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store_row(self, word: __m512i, row: &mut [u32; WAYS]) {
        // SAFETY: `self` proves the features; the store writes the 16 words.
        unsafe { _mm512_storeu_si512(row.as_mut_ptr().cast(), word) }
    }
}

/// A pair as the block it is.
#[inline(always)]
fn as_block(pair: &Pair) -> &[u8; BLOCK_SIZE] {
    // SAFETY: both are 64 bytes without padding or alignment, borrowed for as long.
    unsafe { &*std::ptr::from_ref(pair).cast() }
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

    /// The words of a block.
    #[inline(always)]
    fn load(self, block: &[u8; BLOCK_SIZE]) -> __m512i {
        // SAFETY: `self` proves the features; the load reads the 64 bytes.
        self.swap(unsafe { _mm512_loadu_si512(block.as_ptr().cast()) })
    }

    /// Join the halves of four hashes, each half a 128-bit piece, and write them.
    #[inline(always)]
    fn store_four(self, left: __m512i, right: __m512i, [p0, p1, p2, p3]: [&mut [u8; 32]; 4]) {
        // SAFETY: `self` proves the features; each store writes the 32 bytes of one hash.
        unsafe {
            let first = _mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0);
            let second = _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4);
            let first = self.swap(_mm512_permutex2var_epi64(left, first, right));
            let second = self.swap(_mm512_permutex2var_epi64(left, second, right));
            _mm256_storeu_si256(p0.as_mut_ptr().cast(), _mm512_castsi512_si256(first));
            _mm256_storeu_si256(p1.as_mut_ptr().cast(), _mm512_extracti64x4_epi64::<1>(first));
            _mm256_storeu_si256(p2.as_mut_ptr().cast(), _mm512_castsi512_si256(second));
            _mm256_storeu_si256(p3.as_mut_ptr().cast(), _mm512_extracti64x4_epi64::<1>(second));
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
