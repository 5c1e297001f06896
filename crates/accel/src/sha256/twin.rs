//! The rounds of SHA-256, written once over the words of any vector machine, and the machine of plain arrays.
//!
//! Source: FIPS 180-4, section 6.2.2. Everything here is safe and portable. A kernel of real vectors supplies only the
//! operations of [`Machine`]; its twin is [`Portable`] with as many ways, which runs the same rounds on arrays.
//!
//! ```text
//!  words w0..w15 --- rounds 0..15 --- w16..w31 made and used, 16..31 --- the same twice more --- + state
//! ```
//! Of the two messages of fixed shape most of `w` is constant: the first 32 rounds are straight-line code, in which the
//! compiler folds what follows from constants (a chain's `w8..w15`, and nearly all of a node's second block).
//!
//! Rounds and their helpers are `inline(always)`: they must become part of the function that enables the
//! instructions, or each operation would be a call.

use super::{BLOCK_SIZE, INITIAL, Kernel, Pair, ROUND, Serial, State};

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
    /// Turn hashes into words.
    fn load_hashes(self, hashes: &[[u8; 32]; WAYS]) -> [Self::Word; 8];
    /// Turn words into hashes.
    fn store_hashes(self, words: [Self::Word; 8], hashes: &mut [[u8; 32]; WAYS]);
    /// Read a state.
    fn load_state(self, state: &State<WAYS>) -> [Self::Word; 8];
    /// Write a state.
    fn store_state(self, words: [Self::Word; 8], state: &mut State<WAYS>);
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
    s = rounds_next(m, s, &mut w, &ROUND[1]);
    for k in &ROUND[2..] {
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

/// [`Kernel::compress`] on any machine.
#[inline(always)]
pub(super) fn compress<const WAYS: usize, M: Machine<WAYS>>(
    m: M,
    state: &mut State<WAYS>,
    blocks: &[&[u8; BLOCK_SIZE]; WAYS],
) {
    let words = m.load_blocks(blocks);
    let folded = fold(m, m.load_state(state), words);
    m.store_state(folded, state);
}

/// [`Kernel::chain`] on any machine.
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

/// [`Kernel::nodes`] on any machine.
#[inline(always)]
pub(super) fn nodes<const WAYS: usize, M: Machine<WAYS>>(
    m: M,
    prefix: u8,
    pairs: &[Pair; WAYS],
    out: &mut [[u8; 32]; WAYS],
) {
    const EMPTY: &[u8; BLOCK_SIZE] = &[0; BLOCK_SIZE];
    let mut blocks = [EMPTY; WAYS];
    for (block, pair) in blocks.iter_mut().zip(pairs) {
        *block = pair.as_flattened().try_into().expect("two hashes have the size of a block");
    }
    let x = m.load_blocks(&blocks);
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
    let middle = fold(m, initial(m), words);
    let zero = m.splat(0);
    let last = m.straddle(x[15], m.splat(PADDING));
    let size = m.splat(NODE_BIT_COUNT);
    let words = [
        last, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero,
        size,
    ];
    m.store_hashes(fold(m, middle, words), out);
}

/// The machine of plain arrays: the twin of every kernel, and the serial kernel where there is no better.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Portable<const WAYS: usize>;

impl<const WAYS: usize> Portable<WAYS> {
    #[inline(always)]
    fn map(a: [u32; WAYS], f: impl Fn(u32) -> u32) -> [u32; WAYS] {
        a.map(f)
    }

    #[inline(always)]
    fn zip(mut a: [u32; WAYS], b: [u32; WAYS], f: impl Fn(u32, u32) -> u32) -> [u32; WAYS] {
        for (a, b) in a.iter_mut().zip(b) {
            *a = f(*a, b);
        }
        a
    }
}

impl<const WAYS: usize> Machine<WAYS> for Portable<WAYS> {
    type Word = [u32; WAYS];

    #[inline(always)]
    fn splat(self, value: u32) -> Self::Word {
        [value; WAYS]
    }

    #[inline(always)]
    fn add(self, a: Self::Word, b: Self::Word) -> Self::Word {
        Self::zip(a, b, u32::wrapping_add)
    }

    #[inline(always)]
    fn sum_0(self, a: Self::Word) -> Self::Word {
        Self::map(a, |a| a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22))
    }

    #[inline(always)]
    fn sum_1(self, e: Self::Word) -> Self::Word {
        Self::map(e, |e| e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25))
    }

    #[inline(always)]
    fn sigma_0(self, w: Self::Word) -> Self::Word {
        Self::map(w, |w| w.rotate_right(7) ^ w.rotate_right(18) ^ (w >> 3))
    }

    #[inline(always)]
    fn sigma_1(self, w: Self::Word) -> Self::Word {
        Self::map(w, |w| w.rotate_right(17) ^ w.rotate_right(19) ^ (w >> 10))
    }

    #[inline(always)]
    fn choose(self, e: Self::Word, f: Self::Word, g: Self::Word) -> Self::Word {
        Self::zip(Self::zip(Self::zip(f, g, |f, g| f ^ g), e, |fg, e| fg & e), g, |x, g| x ^ g)
    }

    #[inline(always)]
    fn majority(self, a: Self::Word, b: Self::Word, c: Self::Word) -> Self::Word {
        let both = Self::zip(a, b, |a, b| a & b);
        let either = Self::zip(a, b, |a, b| a | b);
        Self::zip(both, Self::zip(either, c, |either, c| either & c), |both, third| both | third)
    }

    #[inline(always)]
    fn straddle(self, left: Self::Word, right: Self::Word) -> Self::Word {
        Self::zip(left, right, |left, right| (left << 24) | (right >> 8))
    }

    #[inline(always)]
    fn load_blocks(self, blocks: &[&[u8; BLOCK_SIZE]; WAYS]) -> [Self::Word; 16] {
        let mut words = [[0; WAYS]; 16];
        for (way, block) in blocks.iter().enumerate() {
            load_column(&mut words, way, block.as_chunks::<4>().0);
        }
        words
    }

    #[inline(always)]
    fn load_hashes(self, hashes: &[[u8; 32]; WAYS]) -> [Self::Word; 8] {
        let mut words = [[0; WAYS]; 8];
        for (way, hash) in hashes.iter().enumerate() {
            load_column(&mut words, way, hash.as_chunks::<4>().0);
        }
        words
    }

    #[inline(always)]
    fn store_hashes(self, words: [Self::Word; 8], hashes: &mut [[u8; 32]; WAYS]) {
        for (way, hash) in hashes.iter_mut().enumerate() {
            *hash = super::digest(&words, way);
        }
    }

    #[inline(always)]
    fn load_state(self, state: &State<WAYS>) -> [Self::Word; 8] {
        *state
    }

    #[inline(always)]
    fn store_state(self, words: [Self::Word; 8], state: &mut State<WAYS>) {
        *state = words;
    }
}

#[inline(always)]
fn load_column<const WAYS: usize>(words: &mut [[u32; WAYS]], way: usize, bytes: &[[u8; 4]]) {
    for (row, bytes) in words.iter_mut().zip(bytes) {
        if let Some(word) = row.get_mut(way) {
            *word = u32::from_be_bytes(*bytes);
        }
    }
}

impl<const WAYS: usize> Kernel<WAYS> for Portable<WAYS> {
    fn compress(self, state: &mut State<WAYS>, blocks: &[&[u8; BLOCK_SIZE]; WAYS]) {
        compress(self, state, blocks);
    }

    fn chain(self, hashes: &mut [[u8; 32]; WAYS], count: u64) {
        chain(self, hashes, count);
    }

    fn nodes(self, prefix: u8, pairs: &[Pair; WAYS], out: &mut [[u8; 32]; WAYS]) {
        nodes(self, prefix, pairs, out);
    }
}

impl Serial for Portable<1> {
    fn blocks(&self, state: &mut [u32; 8], blocks: &[[u8; BLOCK_SIZE]]) {
        let mut column = state.map(|word| [word]);
        for block in blocks {
            compress(*self, &mut column, &[block]);
        }
        *state = column.map(|[word]| word);
    }
}
