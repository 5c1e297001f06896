//! The rounds of SHA-256, written once over the words of any vector machine.
//!
//! Source: FIPS 180-4, section 6.2.2. Everything here is safe and portable. A kernel of real vectors supplies only the
//! operations of [`Machine`]; its twin supplies them on arrays, for as many ways, and so runs the same rounds.
//!
//! ```text
//!  words w0..w15 --- rounds 0..15 --- 16 more words made and used --- twice more --- + state
//! ```
//! Sixteen rounds are straight-line code, and the later 48 are one loop of three: all 64 in a line, or a second copy of
//! them for a node's second block, save a few operations where words are constant, and lose more because the code no
//! longer fits where the processor keeps decoded instructions (measured on Zen 5: nodes 1.4 times slower on 32 ways).
//!
//! Rounds and their helpers are `inline(always)`: they must become part of the function that enables the
//! instructions, or each operation would be a call.

use super::kernel::{INITIAL, ROUND, Rows};
use super::{BLOCK_SIZE, Pair};

/// The first bit of padding, in the word after a message that ends at a word's edge.
const PADDING: u32 = 0x8000_0000;

/// Bits of a message that is one hash.
const HASH_BIT_COUNT: u32 = 256;

/// Bits of a node: one byte of prefix and two hashes.
const NODE_BIT_COUNT: u32 = 520;

/// What the rounds need of a vector machine. Names are those of FIPS 180-4, section 4.1.2.
pub(crate) trait Machine<const WAYS: usize>: Copy {
    /// One 32-bit word of each way.
    type Word: Copy;

    /// The same word in each way.
    fn splat(self, value: u32) -> Self::Word;
    /// Sum modulo 2^32.
    fn add(self, a: Self::Word, b: Self::Word) -> Self::Word;
    /// `Σ0`: rotations by 2, 13, 22.
    fn sum_0(self, a: Self::Word) -> Self::Word;
    /// `Σ1`: rotations by 6, 11, 25.
    fn sum_1(self, e: Self::Word) -> Self::Word;
    /// `σ0`: rotations by 7, 18, shift by 3.
    fn sigma_0(self, w: Self::Word) -> Self::Word;
    /// `σ1`: rotations by 17, 19, shift by 10.
    fn sigma_1(self, w: Self::Word) -> Self::Word;
    /// `Ch`: bits of `f` where `e` is set, of `g` elsewhere.
    fn choose(self, e: Self::Word, f: Self::Word, g: Self::Word) -> Self::Word;
    /// `Maj`: the bit that two of three have.
    fn majority(self, a: Self::Word, b: Self::Word, c: Self::Word) -> Self::Word;
    /// The word that starts at the last byte of `left` and goes on in `right`: a stream moved on by one byte.
    fn straddle(self, left: Self::Word, right: Self::Word) -> Self::Word;

    /// Turn blocks (one per way) into words (one vector per place).
    fn load_blocks(self, blocks: &[&[u8; BLOCK_SIZE]; WAYS]) -> [Self::Word; 16];
    /// Turn pairs, each a block, into words.
    fn load_pairs(self, pairs: &[Pair; WAYS]) -> [Self::Word; 16];
    /// Turn hashes into words.
    fn load_hashes(self, hashes: &[[u8; 32]; WAYS]) -> [Self::Word; 8];
    /// Turn words into hashes.
    fn store_hashes(self, words: [Self::Word; 8], hashes: &mut [[u8; 32]; WAYS]);
    /// Read one word of all ways.
    fn load_row(self, row: &[u32; WAYS]) -> Self::Word;
    /// Write one word of all ways.
    fn store_row(self, word: Self::Word, row: &mut [u32; WAYS]);
}

/// One round; the names of the eight words move by one from round to round, so nothing is copied.
macro_rules! round {
    ($m:ident $k:ident $w:ident $t:literal: $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident) => {
        let early = $m.add($h, $m.add($w[$t], $m.splat($k[$t])));
        let sum = $m.add($m.add(early, $m.choose($e, $f, $g)), $m.sum_1($e));
        $d = $m.add($d, sum);
        $h = $m.add(sum, $m.add($m.sum_0($a), $m.majority($a, $b, $c)));
    };
}

/// Replace word `t` of the schedule by word `t + 16`.
macro_rules! extend {
    ($m:ident $w:ident $t:literal $t1:literal $t9:literal $t14:literal) => {
        let early = $m.add($m.add($w[$t], $w[$t9]), $m.sigma_0($w[$t1]));
        $w[$t] = $m.add(early, $m.sigma_1($w[$t14]));
    };
}

/// Rounds 0 to 15.
#[inline(always)]
fn rounds_first<const WAYS: usize, M: Machine<WAYS>>(
    m: M,
    state: [M::Word; 8],
    w: &[M::Word; 16],
) -> [M::Word; 8] {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
    let k = &ROUND[0];
    round!(m k w 0: a b c d e f g h);
    round!(m k w 1: h a b c d e f g);
    round!(m k w 2: g h a b c d e f);
    round!(m k w 3: f g h a b c d e);
    round!(m k w 4: e f g h a b c d);
    round!(m k w 5: d e f g h a b c);
    round!(m k w 6: c d e f g h a b);
    round!(m k w 7: b c d e f g h a);
    round!(m k w 8: a b c d e f g h);
    round!(m k w 9: h a b c d e f g);
    round!(m k w 10: g h a b c d e f);
    round!(m k w 11: f g h a b c d e);
    round!(m k w 12: e f g h a b c d);
    round!(m k w 13: d e f g h a b c);
    round!(m k w 14: c d e f g h a b);
    round!(m k w 15: b c d e f g h a);
    [a, b, c, d, e, f, g, h]
}

/// Sixteen later rounds, each with the word of the schedule that it needs.
#[inline(always)]
fn rounds_next<const WAYS: usize, M: Machine<WAYS>>(
    m: M,
    state: [M::Word; 8],
    w: &mut [M::Word; 16],
    k: &[u32; 16],
) -> [M::Word; 8] {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
    extend!(m w 0 1 9 14);
    round!(m k w 0: a b c d e f g h);
    extend!(m w 1 2 10 15);
    round!(m k w 1: h a b c d e f g);
    extend!(m w 2 3 11 0);
    round!(m k w 2: g h a b c d e f);
    extend!(m w 3 4 12 1);
    round!(m k w 3: f g h a b c d e);
    extend!(m w 4 5 13 2);
    round!(m k w 4: e f g h a b c d);
    extend!(m w 5 6 14 3);
    round!(m k w 5: d e f g h a b c);
    extend!(m w 6 7 15 4);
    round!(m k w 6: c d e f g h a b);
    extend!(m w 7 8 0 5);
    round!(m k w 7: b c d e f g h a);
    extend!(m w 8 9 1 6);
    round!(m k w 8: a b c d e f g h);
    extend!(m w 9 10 2 7);
    round!(m k w 9: h a b c d e f g);
    extend!(m w 10 11 3 8);
    round!(m k w 10: g h a b c d e f);
    extend!(m w 11 12 4 9);
    round!(m k w 11: f g h a b c d e);
    extend!(m w 12 13 5 10);
    round!(m k w 12: e f g h a b c d);
    extend!(m w 13 14 6 11);
    round!(m k w 13: d e f g h a b c);
    extend!(m w 14 15 7 12);
    round!(m k w 14: c d e f g h a b);
    extend!(m w 15 0 8 13);
    round!(m k w 15: b c d e f g h a);
    [a, b, c, d, e, f, g, h]
}

/// The compression function on words.
#[inline(always)]
fn fold<const WAYS: usize, M: Machine<WAYS>>(
    m: M,
    state: [M::Word; 8],
    mut w: [M::Word; 16],
) -> [M::Word; 8] {
    let mut s = rounds_first(m, state, &w);
    for k in &ROUND[1..] {
        s = rounds_next(m, s, &mut w, k);
    }
    [
        m.add(state[0], s[0]),
        m.add(state[1], s[1]),
        m.add(state[2], s[2]),
        m.add(state[3], s[3]),
        m.add(state[4], s[4]),
        m.add(state[5], s[5]),
        m.add(state[6], s[6]),
        m.add(state[7], s[7]),
    ]
}

#[inline(always)]
fn initial<const WAYS: usize, M: Machine<WAYS>>(m: M) -> [M::Word; 8] {
    let [a, b, c, d, e, f, g, h] = INITIAL;
    [m.splat(a), m.splat(b), m.splat(c), m.splat(d), m.splat(e), m.splat(f), m.splat(g), m.splat(h)]
}

/// [`super::kernel::Kernel::compress`] on any machine.
#[inline(always)]
pub(super) fn compress<const WAYS: usize, M: Machine<WAYS>>(
    m: M,
    states: &mut Rows<WAYS>,
    blocks: &[&[u8; BLOCK_SIZE]; WAYS],
) {
    let words = m.load_blocks(blocks);
    let [a, b, c, d, e, f, g, h] = states;
    let before = [
        m.load_row(a),
        m.load_row(b),
        m.load_row(c),
        m.load_row(d),
        m.load_row(e),
        m.load_row(f),
        m.load_row(g),
        m.load_row(h),
    ];
    let after = fold(m, before, words);
    m.store_row(after[0], a);
    m.store_row(after[1], b);
    m.store_row(after[2], c);
    m.store_row(after[3], d);
    m.store_row(after[4], e);
    m.store_row(after[5], f);
    m.store_row(after[6], g);
    m.store_row(after[7], h);
}

/// [`super::kernel::Kernel::STARTS`] in rows.
pub(super) const fn starts<const WAYS: usize>() -> Rows<WAYS> {
    let [a, b, c, d, e, f, g, h] = INITIAL;
    [[a; WAYS], [b; WAYS], [c; WAYS], [d; WAYS], [e; WAYS], [f; WAYS], [g; WAYS], [h; WAYS]]
}

/// [`super::kernel::Kernel::set_column`] in rows.
#[inline]
#[expect(clippy::indexing_slicing, reason = "a way is less than WAYS")]
pub(super) fn set_column<const WAYS: usize>(states: &mut Rows<WAYS>, way: usize, state: [u32; 8]) {
    let [a, b, c, d, e, f, g, h] = states;
    [a[way], b[way], c[way], d[way], e[way], f[way], g[way], h[way]] = state;
}

/// [`super::kernel::Kernel::column`] in rows.
#[inline]
#[expect(clippy::indexing_slicing, reason = "a way is less than WAYS")]
pub(super) fn column<const WAYS: usize>(states: &Rows<WAYS>, way: usize) -> [u32; 8] {
    let [a, b, c, d, e, f, g, h] = states;
    [a[way], b[way], c[way], d[way], e[way], f[way], g[way], h[way]]
}

/// [`super::kernel::Kernel::chain`] on any machine.
#[inline(always)]
pub(super) fn chain<const WAYS: usize, M: Machine<WAYS>>(
    m: M,
    hashes: &mut [[u8; 32]; WAYS],
    count: u64,
) {
    let mut s = m.load_hashes(hashes);
    let zero = m.splat(0);
    let padding = m.splat(PADDING);
    let size = m.splat(HASH_BIT_COUNT);
    for _ in 0..count {
        let [a, b, c, d, e, f, g, h] = s;
        let words = [a, b, c, d, e, f, g, h, padding, zero, zero, zero, zero, zero, zero, size];
        s = fold(m, initial(m), words);
    }
    m.store_hashes(s, hashes);
}

/// [`super::kernel::Kernel::nodes`] on any machine.
#[inline(always)]
pub(super) fn nodes<const WAYS: usize, M: Machine<WAYS>>(
    m: M,
    prefix: u8,
    pairs: &[Pair; WAYS],
    out: &mut [[u8; 32]; WAYS],
) {
    let x = m.load_pairs(pairs);
    let words = [
        m.straddle(m.splat(u32::from(prefix)), x[0]),
        m.straddle(x[0], x[1]),
        m.straddle(x[1], x[2]),
        m.straddle(x[2], x[3]),
        m.straddle(x[3], x[4]),
        m.straddle(x[4], x[5]),
        m.straddle(x[5], x[6]),
        m.straddle(x[6], x[7]),
        m.straddle(x[7], x[8]),
        m.straddle(x[8], x[9]),
        m.straddle(x[9], x[10]),
        m.straddle(x[10], x[11]),
        m.straddle(x[11], x[12]),
        m.straddle(x[12], x[13]),
        m.straddle(x[13], x[14]),
        m.straddle(x[14], x[15]),
    ];
    let zero = m.splat(0);
    let last = m.straddle(x[15], m.splat(PADDING));
    let size = m.splat(NODE_BIT_COUNT);
    let mut w = words;
    let mut s = initial(m);
    for _ in 0..2 {
        s = fold(m, s, w);
        w = [
            last, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero,
            zero, size,
        ];
    }
    m.store_hashes(s, out);
}

/// The parts of [`super::kernel::Kernel`] that are the same for all machines whose states are [`Rows`].
macro_rules! kernel_of_rows {
    ($ways:tt) => {
        type States = $crate::sha256::kernel::Rows<$ways>;

        const STARTS: Self::States = $crate::sha256::rounds::starts();

        #[inline]
        fn set_column(states: &mut Self::States, way: usize, state: [u32; 8]) {
            $crate::sha256::rounds::set_column(states, way, state);
        }

        #[inline]
        fn column(states: &Self::States, way: usize) -> [u32; 8] {
            $crate::sha256::rounds::column(states, way)
        }
    };
}
pub(super) use kernel_of_rows;
