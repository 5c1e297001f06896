//! SHA-256 by the processor's own instructions (SHA-NI), a few streams interleaved.
//!
//! Sources: FIPS 180-4, section 6.2.2; Intel's "New Instructions Supporting the Secure Hash Algorithm" for what each
//! does. `sha256rnds2` makes two rounds and takes several cycles, but the next one can start before it ends if it
//! belongs to another message: so streams are interleaved, and one message alone leaves the unit half idle.
//!
//! ```text
//!  state   abef, cdgh: `sha256rnds2` turns (cdgh, abef, two words) into the new abef; the old abef is the new cdgh
//!  words   w[i] holds 4 of them. Four groups are alive; the next is made from them:
//!          msg2(msg1(w[i], w[i + 1]) + (w[i + 2], w[i + 3] moved by one word), w[i + 3])
//! ```
//! # Invariants
//! * A [`ShaNi`] is made by [`ShaNi::detect`] alone, so whoever holds one may use the instructions (S2).
//! * The twin is `Portable<WAYS>`.
#![expect(unsafe_code, reason = "intrinsics of SHA-NI; the twin is Portable")]
#![expect(
    clippy::indexing_slicing,
    reason = "a way is less than WAYS, the length of every array here"
)]

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_loadu_si128, _mm_set_epi8, _mm_set_epi32,
    _mm_setzero_si128, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32,
    _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_slli_epi32, _mm_srli_epi32, _mm_storeu_si128,
    _mm_unpackhi_epi64, _mm_unpacklo_epi64, _mm_xor_si128,
};

use super::kernel::{INITIAL, Kernel, ROUND};
use super::{BLOCK_SIZE, Pair, Serial};

/// Proof that this machine has SHA-NI, SSSE3 and SSE4.1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShaNi(());

impl ShaNi {
    /// Ask the processor.
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("sse4.1"))
        .then_some(Self(()))
    }
}

impl<const WAYS: usize> Kernel<WAYS> for ShaNi {
    type States = [Stored; WAYS];

    const STARTS: Self::States = [store_order(INITIAL); WAYS];

    #[inline]
    fn set_column(states: &mut Self::States, way: usize, state: [u32; 8]) {
        states[way] = store_order(state);
    }

    #[inline]
    fn column(states: &Self::States, way: usize) -> [u32; 8] {
        let [[f, e, b, a], [h, g, d, c]] = states[way];
        [a, b, c, d, e, f, g, h]
    }

    fn compress(self, states: &mut Self::States, blocks: &[&[u8; BLOCK_SIZE]; WAYS]) {
        // SAFETY: `self` proves the features.
        unsafe { compress(states, blocks) }
    }

    fn chain(self, hashes: &mut [[u8; 32]; WAYS], count: u64) {
        // SAFETY: `self` proves the features.
        unsafe { chain(hashes, count) }
    }

    fn nodes(self, prefix: u8, pairs: &[Pair; WAYS], out: &mut [[u8; 32]; WAYS]) {
        // SAFETY: `self` proves the features.
        unsafe { nodes(prefix, pairs, out) }
    }

    fn as_serial(&self) -> Option<&dyn Serial> {
        (WAYS == 1).then_some(self)
    }
}

/// A state as its two registers have it, lowest word first.
type Stored = [[u32; 4]; 2];

const fn store_order([a, b, c, d, e, f, g, h]: [u32; 8]) -> Stored {
    [[f, e, b, a], [h, g, d, c]]
}

impl Serial for ShaNi {
    fn blocks(&self, state: &mut [u32; 8], blocks: &[[u8; BLOCK_SIZE]]) {
        // SAFETY: `self` proves the features.
        unsafe { serial(state, blocks) }
    }
}

/// Both halves of a state: `abef`, `cdgh`.
type Halves = [__m128i; 2];

/// Sixteen words, four by four.
type Words = [__m128i; 4];

/// Four rounds of each way with group `t` of its words; then that group is made 16 words newer, but for the last 16
/// rounds.
macro_rules! quad {
    ($ways:ident $state:ident $words:ident $k:ident: $t:literal $t1:literal $t2:literal $t3:literal $is_last:literal) => {
        for way in 0..$ways {
            let [abef, cdgh] = $state[way];
            let w = &mut $words[way];
            let sum = _mm_add_epi32(w[$t], constants($k, $t));
            let first = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            let second = _mm_sha256rnds2_epu32(abef, first, _mm_shuffle_epi32::<0x0e>(sum));
            $state[way] = [second, first];
            if !$is_last {
                let moved = _mm_alignr_epi8::<4>(w[$t3], w[$t2]);
                let early = _mm_add_epi32(_mm_sha256msg1_epu32(w[$t], w[$t1]), moved);
                w[$t] = _mm_sha256msg2_epu32(early, w[$t3]);
            }
        }
    };
}

/// Four of the constants of 16 rounds.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn constants(k: &[u32; 16], group: usize) -> __m128i {
    let fours = k.as_chunks::<4>().0;
    let four = fours.get(group).expect("there are four groups of four");
    // SAFETY: the load reads the four words.
    unsafe { _mm_loadu_si128(four.as_ptr().cast()) }
}

/// The compression function.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn fold<const WAYS: usize>(before: [Halves; WAYS], mut words: [Words; WAYS]) -> [Halves; WAYS] {
    let mut state = before;
    for k in &ROUND[..3] {
        quad!(WAYS state words k: 0 1 2 3 false);
        quad!(WAYS state words k: 1 2 3 0 false);
        quad!(WAYS state words k: 2 3 0 1 false);
        quad!(WAYS state words k: 3 0 1 2 false);
    }
    let k = &ROUND[3];
    quad!(WAYS state words k: 0 1 2 3 true);
    quad!(WAYS state words k: 1 2 3 0 true);
    quad!(WAYS state words k: 2 3 0 1 true);
    quad!(WAYS state words k: 3 0 1 2 true);
    for way in 0..WAYS {
        let ([abef, cdgh], [abef_before, cdgh_before]) = (state[way], before[way]);
        state[way] = [_mm_add_epi32(abef, abef_before), _mm_add_epi32(cdgh, cdgh_before)];
    }
    state
}

/// Words of one half of a state, `a..d` and `e..h`.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn in_order([abef, cdgh]: Halves) -> [__m128i; 2] {
    [
        _mm_shuffle_epi32::<0xb1>(_mm_unpackhi_epi64(abef, cdgh)),
        _mm_shuffle_epi32::<0xb1>(_mm_unpacklo_epi64(abef, cdgh)),
    ]
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn halves([low, high]: &Stored) -> Halves {
    // SAFETY: each load reads four words.
    unsafe { [_mm_loadu_si128(low.as_ptr().cast()), _mm_loadu_si128(high.as_ptr().cast())] }
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn store([abef, cdgh]: Halves, [low, high]: &mut Stored) {
    // SAFETY: each store writes four words.
    unsafe {
        _mm_storeu_si128(low.as_mut_ptr().cast(), abef);
        _mm_storeu_si128(high.as_mut_ptr().cast(), cdgh);
    }
}

/// Between big endian and the machine's order, in each 32-bit word.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn swap(value: __m128i) -> __m128i {
    _mm_shuffle_epi8(value, _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3))
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn load(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the load reads the 16 bytes.
    swap(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn load_block(block: &[u8]) -> Words {
    let (quarters, _) = block.as_chunks::<16>();
    let quarters: &[[u8; 16]; 4] = quarters.try_into().expect("a block has four quarters");
    let [a, b, c, d] = quarters;
    [load(a), load(b), load(c), load(d)]
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn store_hash(state: Halves, hash: &mut [u8; 32]) {
    let (halves, _) = hash.as_chunks_mut::<16>();
    for (bytes, words) in halves.iter_mut().zip(in_order(state)) {
        // SAFETY: the store writes the 16 bytes.
        unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), swap(words)) }
    }
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress<const WAYS: usize>(states: &mut [Stored; WAYS], blocks: &[&[u8; BLOCK_SIZE]; WAYS]) {
    let zero = _mm_setzero_si128();
    let mut words = [[zero; 4]; WAYS];
    let mut all = [[zero; 2]; WAYS];
    for way in 0..WAYS {
        words[way] = load_block(blocks[way]);
        all[way] = halves(&states[way]);
    }
    all = fold(all, words);
    for way in 0..WAYS {
        store(all[way], &mut states[way]);
    }
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn serial(state: &mut [u32; 8], blocks: &[[u8; BLOCK_SIZE]]) {
    let mut all = [halves(&store_order(*state))];
    for block in blocks {
        all = fold(all, [load_block(block)]);
    }
    let mut stored = [[0; 4]; 2];
    store(all[0], &mut stored);
    *state = <ShaNi as Kernel<1>>::column(&[stored], 0);
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn chain<const WAYS: usize>(hashes: &mut [[u8; 32]; WAYS], count: u64) {
    if count == 0 {
        return;
    }
    let initial = halves(&store_order(INITIAL));
    // A hash fills half a block; the other half is padding and the size, 256 bits.
    let padding = [_mm_set_epi32(0, 0, 0, i32::MIN), _mm_set_epi32(256, 0, 0, 0)];
    let mut words = [[_mm_setzero_si128(); 2]; WAYS];
    for (words, hash) in words.iter_mut().zip(hashes.iter()) {
        let (halves, _) = hash.as_chunks::<16>();
        *words = [load(&halves[0]), load(&halves[1])];
    }
    let mut states = [initial; WAYS];
    for _ in 0..count {
        states = [initial; WAYS];
        let mut blocks = [[padding[0]; 4]; WAYS];
        for way in 0..WAYS {
            blocks[way] = [words[way][0], words[way][1], padding[0], padding[1]];
        }
        states = fold(states, blocks);
        for way in 0..WAYS {
            words[way] = in_order(states[way]);
        }
    }
    for (hash, state) in hashes.iter_mut().zip(states) {
        store_hash(state, hash);
    }
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn nodes<const WAYS: usize>(prefix: u8, pairs: &[Pair; WAYS], out: &mut [[u8; 32]; WAYS]) {
    let mut states = [halves(&store_order(INITIAL)); WAYS];
    let mut words = [[_mm_setzero_si128(); 4]; WAYS];
    let mut last = words;
    let zero = _mm_setzero_si128();
    for way in 0..WAYS {
        let x = load_block(pairs[way].as_flattened());
        // The word before the first ends with the prefix; the word after the last starts with padding.
        let before = _mm_set_epi32(i32::from(prefix), 0, 0, 0);
        let moved = |before, group| straddle(_mm_alignr_epi8::<12>(group, before), group);
        words[way] = [moved(before, x[0]), moved(x[0], x[1]), moved(x[1], x[2]), moved(x[2], x[3])];
        let end = _mm_set_epi32(0, 0, 0, i32::MIN);
        let first = straddle(_mm_alignr_epi8::<12>(zero, x[3]), end);
        last[way] = [first, zero, zero, _mm_set_epi32(520, 0, 0, 0)];
    }
    states = fold(states, words);
    states = fold(states, last);
    for (hash, state) in out.iter_mut().zip(states) {
        store_hash(state, hash);
    }
}

/// Words that start at the last byte of `left` and go on in `right`.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn straddle(left: __m128i, right: __m128i) -> __m128i {
    _mm_xor_si128(_mm_slli_epi32::<24>(left), _mm_srli_epi32::<8>(right))
}
