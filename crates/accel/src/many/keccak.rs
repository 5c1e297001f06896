//! Keccak-256 of eight messages at once: the padding from before SHA-3, as Ethereum hashes.
//!
//! Source: the Keccak reference, version 3.0, section 1 (the permutation), 1.1.3 (the sponge), rate 1088, capacity
//! 512, pad10*1 without the suffix that FIPS 202 adds. Rotations and chi are one instruction each.
//!
//! ```text
//!  136 bytes of every message -> xor into words 0..17 of 25 -> 24 rounds -> state, where the way has this block
//! ```
//! # Invariants
//! * E1 Ways never mix, and a way past its last block keeps its state: the digests are those of each message alone.
//! # Limits
//! All eight pay for the longest: [`is_worth_it`] says when that is still cheaper than one after another.
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "indices count words of arrays of that length; sizes of slices fit in half of 64 bits"
)]

use super::ways::{WAY_COUNT, Ways, columns};

/// Bytes of a block.
const BLOCK_SIZE: usize = 136;

/// Words of a block.
const BLOCK_WORD_COUNT: usize = BLOCK_SIZE / 8;

/// Words of the state, x + 5 y.
const STATE_WORD_COUNT: usize = 25;

/// What each round adds to the first word (iota).
const ROUND: [u64; 24] = [
    0x0000_0000_0000_0001,
    0x0000_0000_0000_8082,
    0x8000_0000_0000_808a,
    0x8000_0000_8000_8000,
    0x0000_0000_0000_808b,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8009,
    0x0000_0000_0000_008a,
    0x0000_0000_0000_0088,
    0x0000_0000_8000_8009,
    0x0000_0000_8000_000a,
    0x0000_0000_8000_808b,
    0x8000_0000_0000_008b,
    0x8000_0000_0000_8089,
    0x8000_0000_0000_8003,
    0x8000_0000_0000_8002,
    0x8000_0000_0000_0080,
    0x0000_0000_0000_800a,
    0x8000_0000_8000_000a,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8080,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8008,
];

/// The state of eight sponges in memory.
type State = [[u64; WAY_COUNT]; STATE_WORD_COUNT];

/// The same in registers, row by row: word x of row y.
type Rows<W> = [[<W as Ways>::Word; 5]; 5];

/// Blocks with the padding, which takes at least one byte.
fn block_count(message: &[u8]) -> usize {
    message.len() / BLOCK_SIZE + 1
}

/// Block `index` with its share of the padding; zeros past the last.
fn block(message: &[u8], index: usize) -> [u64; BLOCK_WORD_COUNT] {
    let mut block = [0; BLOCK_SIZE];
    let rest = &message[(index * BLOCK_SIZE).min(message.len())..];
    let size = rest.len().min(BLOCK_SIZE);
    block[..size].copy_from_slice(&rest[..size]);
    if index + 1 == block_count(message) {
        block[size] ^= 0x01;
        block[BLOCK_SIZE - 1] ^= 0x80;
    }
    let (words, _) = block.as_chunks();
    std::array::from_fn(|index| u64::from_le_bytes(words[index]))
}

/// Whether eight at once cost less than one after another: a block of eight costs less than two single blocks.
pub(crate) fn is_worth_it(messages: &[&[u8]]) -> bool {
    let counts = || messages.iter().map(|message| block_count(message));
    counts().sum::<usize>() >= 2 * counts().max().unwrap_or(0)
}

/// The digest of each message.
pub(crate) fn digests<W: Ways>(w: W, messages: &[&[u8]; WAY_COUNT]) -> [[u8; 32]; WAY_COUNT] {
    let counts = messages.map(block_count);
    let longest = counts.into_iter().max().unwrap_or(0);
    let mut state: State = [[0; WAY_COUNT]; STATE_WORD_COUNT];
    for index in 0..longest {
        let blocks = messages.map(|message| block(message, index));
        let live = (0..WAY_COUNT).fold(0, |mask, way| mask | u8::from(index < counts[way]) << way);
        absorb(w, &mut state, &blocks, live);
    }
    std::array::from_fn(|way| {
        let mut digest = [0; 32];
        for (bytes, word) in digest.chunks_exact_mut(8).zip(&state) {
            bytes.copy_from_slice(&word[way].to_le_bytes());
        }
        digest
    })
}

/// Take one block into the state, in the ways of `live`.
fn absorb<W: Ways>(
    w: W,
    state: &mut State,
    blocks: &[[u64; BLOCK_WORD_COUNT]; WAY_COUNT],
    live: u8,
) {
    let last = blocks.map(|block| block[BLOCK_WORD_COUNT - 1]);
    w.run(
        #[inline(always)]
        || {
            let mut a = load_state(w, state);
            let [b, c] = [columns::<W, 0, _>(w, blocks), columns::<W, 8, _>(w, blocks)];
            a[0] = xor_row(w, &a[0], [b[0], b[1], b[2], b[3], b[4]]);
            a[1] = xor_row(w, &a[1], [b[5], b[6], b[7], c[0], c[1]]);
            a[2] = xor_row(w, &a[2], [c[2], c[3], c[4], c[5], c[6]]);
            a[3][0] = w.xor3(a[3][0], c[7], w.splat(0));
            a[3][1] = w.xor3(a[3][1], w.load(&last), w.splat(0));
            for constant in &ROUND {
                a = round(w, &a, w.splat(*constant));
            }
            let (rows, _) = state.as_chunks_mut::<5>();
            store_row(w, live, &mut rows[0], &a[0]);
            store_row(w, live, &mut rows[1], &a[1]);
            store_row(w, live, &mut rows[2], &a[2]);
            store_row(w, live, &mut rows[3], &a[3]);
            store_row(w, live, &mut rows[4], &a[4]);
        },
    );
}

#[inline(always)]
fn load_state<W: Ways>(w: W, state: &State) -> Rows<W> {
    let (rows, _) = state.as_chunks::<5>();
    [
        load_row(w, &rows[0]),
        load_row(w, &rows[1]),
        load_row(w, &rows[2]),
        load_row(w, &rows[3]),
        load_row(w, &rows[4]),
    ]
}

#[inline(always)]
fn load_row<W: Ways>(w: W, row: &[[u64; WAY_COUNT]; 5]) -> [W::Word; 5] {
    [w.load(&row[0]), w.load(&row[1]), w.load(&row[2]), w.load(&row[3]), w.load(&row[4])]
}

#[inline(always)]
fn xor_row<W: Ways>(w: W, row: &[W::Word; 5], words: [W::Word; 5]) -> [W::Word; 5] {
    let zero = w.splat(0);
    [
        w.xor3(row[0], words[0], zero),
        w.xor3(row[1], words[1], zero),
        w.xor3(row[2], words[2], zero),
        w.xor3(row[3], words[3], zero),
        w.xor3(row[4], words[4], zero),
    ]
}

/// Store a row in the ways of `live`.
#[inline(always)]
fn store_row<W: Ways>(w: W, live: u8, row: &mut [[u64; WAY_COUNT]; 5], words: &[W::Word; 5]) {
    let before = load_row(w, row);
    row[0] = w.store(w.select(live, words[0], before[0]));
    row[1] = w.store(w.select(live, words[1], before[1]));
    row[2] = w.store(w.select(live, words[2], before[2]));
    row[3] = w.store(w.select(live, words[3], before[3]));
    row[4] = w.store(w.select(live, words[4], before[4]));
}

/// One round of the permutation of 1600 bits.
#[inline(always)]
fn round<W: Ways>(w: W, a: &Rows<W>, constant: W::Word) -> Rows<W> {
    let a = rho_and_pi(w, &theta(w, a));
    let mut b = [chi(w, &a[0]), chi(w, &a[1]), chi(w, &a[2]), chi(w, &a[3]), chi(w, &a[4])];
    b[0][0] = w.xor3(b[0][0], constant, w.splat(0));
    b
}

/// Add to each word the parities of two columns.
#[inline(always)]
fn theta<W: Ways>(w: W, a: &Rows<W>) -> Rows<W> {
    let c = [
        parity::<W, 0>(w, a),
        parity::<W, 1>(w, a),
        parity::<W, 2>(w, a),
        parity::<W, 3>(w, a),
        parity::<W, 4>(w, a),
    ];
    let turned = [
        w.rotate_left::<1>(c[0]),
        w.rotate_left::<1>(c[1]),
        w.rotate_left::<1>(c[2]),
        w.rotate_left::<1>(c[3]),
        w.rotate_left::<1>(c[4]),
    ];
    [
        add_parities(w, &a[0], &c, &turned),
        add_parities(w, &a[1], &c, &turned),
        add_parities(w, &a[2], &c, &turned),
        add_parities(w, &a[3], &c, &turned),
        add_parities(w, &a[4], &c, &turned),
    ]
}

/// Bits set in an odd number of the words of column `X`.
#[inline(always)]
fn parity<W: Ways, const X: usize>(w: W, a: &Rows<W>) -> W::Word {
    w.xor3(w.xor3(a[0][X], a[1][X], a[2][X]), a[3][X], a[4][X])
}

#[inline(always)]
fn add_parities<W: Ways>(
    w: W,
    row: &[W::Word; 5],
    c: &[W::Word; 5],
    turned: &[W::Word; 5],
) -> [W::Word; 5] {
    [
        w.xor3(row[0], c[4], turned[1]),
        w.xor3(row[1], c[0], turned[2]),
        w.xor3(row[2], c[1], turned[3]),
        w.xor3(row[3], c[2], turned[4]),
        w.xor3(row[4], c[3], turned[0]),
    ]
}

/// Turn each word by its offset and move it to its new place.
#[inline(always)]
fn rho_and_pi<W: Ways>(w: W, a: &Rows<W>) -> Rows<W> {
    [
        [
            a[0][0],
            w.rotate_left::<44>(a[1][1]),
            w.rotate_left::<43>(a[2][2]),
            w.rotate_left::<21>(a[3][3]),
            w.rotate_left::<14>(a[4][4]),
        ],
        [
            w.rotate_left::<28>(a[0][3]),
            w.rotate_left::<20>(a[1][4]),
            w.rotate_left::<3>(a[2][0]),
            w.rotate_left::<45>(a[3][1]),
            w.rotate_left::<61>(a[4][2]),
        ],
        [
            w.rotate_left::<1>(a[0][1]),
            w.rotate_left::<6>(a[1][2]),
            w.rotate_left::<25>(a[2][3]),
            w.rotate_left::<8>(a[3][4]),
            w.rotate_left::<18>(a[4][0]),
        ],
        [
            w.rotate_left::<27>(a[0][4]),
            w.rotate_left::<36>(a[1][0]),
            w.rotate_left::<10>(a[2][1]),
            w.rotate_left::<15>(a[3][2]),
            w.rotate_left::<56>(a[4][3]),
        ],
        [
            w.rotate_left::<62>(a[0][2]),
            w.rotate_left::<55>(a[1][3]),
            w.rotate_left::<39>(a[2][4]),
            w.rotate_left::<41>(a[3][0]),
            w.rotate_left::<2>(a[4][1]),
        ],
    ]
}

/// The only step that is not linear: each word of a row with the two behind it.
#[inline(always)]
fn chi<W: Ways>(w: W, row: &[W::Word; 5]) -> [W::Word; 5] {
    [
        w.xor_and_not(row[0], row[1], row[2]),
        w.xor_and_not(row[1], row[2], row[3]),
        w.xor_and_not(row[2], row[3], row[4]),
        w.xor_and_not(row[3], row[4], row[0]),
        w.xor_and_not(row[4], row[0], row[1]),
    ]
}

#[cfg(test)]
mod tests {
    use sha3::{Digest, Keccak256};

    use super::*;
    use crate::many::on_each_ways;

    #[test]
    fn eight_digests_are_those_of_each_message_alone_at_every_size_of_the_last_block() {
        let bytes: Vec<u8> = (0..=255).chain(0..=255).collect();
        for size in 0..300 {
            let messages: [&[u8]; WAY_COUNT] =
                std::array::from_fn(|way| &bytes[way..way + (size + way * way) % 420]);
            let expected = messages.map(|message| <[u8; 32]>::from(Keccak256::digest(message)));
            on_each_ways!(w => assert_eq!(digests(w, &messages), expected, "size {size}"));
        }
    }

    #[test]
    fn one_long_message_among_short_ones_goes_alone() {
        let long = vec![0; 100_000];
        let mut messages: [&[u8]; WAY_COUNT] = [&[]; WAY_COUNT];
        assert!(is_worth_it(&messages));
        messages[3] = &long;
        assert!(!is_worth_it(&messages));
    }
}
