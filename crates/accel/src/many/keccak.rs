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

use super::ways::{WAY_COUNT, Ways};

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

/// The state of eight sponges.
type State = [[u64; WAY_COUNT]; STATE_WORD_COUNT];

/// Blocks with the padding, which takes at least one byte.
fn block_count(message: &[u8]) -> usize {
    message.len() / BLOCK_SIZE + 1
}

/// Block `index` with its share of the padding; zeros past the last.
fn block(message: &[u8], index: usize) -> [u8; BLOCK_SIZE] {
    let mut block = [0; BLOCK_SIZE];
    let rest = &message[(index * BLOCK_SIZE).min(message.len())..];
    let size = rest.len().min(BLOCK_SIZE);
    block[..size].copy_from_slice(&rest[..size]);
    if index + 1 == block_count(message) {
        block[size] ^= 0x01;
        block[BLOCK_SIZE - 1] ^= 0x80;
    }
    block
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
        let words: [[u64; WAY_COUNT]; BLOCK_WORD_COUNT] = std::array::from_fn(|word| {
            std::array::from_fn(|way| {
                let (words, _) = blocks[way].as_chunks::<8>();
                u64::from_le_bytes(words[word])
            })
        });
        let live = (0..WAY_COUNT).fold(0, |mask, way| mask | u8::from(index < counts[way]) << way);
        absorb(w, &mut state, &words, live);
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
    words: &[[u64; WAY_COUNT]; BLOCK_WORD_COUNT],
    live: u8,
) {
    w.run(
        #[inline(always)]
        || {
            let zero = w.splat(0);
            let mut start = [zero; STATE_WORD_COUNT];
            for (word, values) in start.iter_mut().zip(state.iter()) {
                *word = w.load(values);
            }
            let mut a = start;
            for (word, values) in a.iter_mut().zip(words) {
                *word = w.xor3(*word, w.load(values), zero);
            }
            for constant in &ROUND {
                a = round(w, &a, w.splat(*constant));
            }
            for (index, values) in state.iter_mut().enumerate() {
                *values = w.store(w.select(live, a[index], start[index]));
            }
        },
    );
}

/// One round of Keccak-f[1600].
#[inline(always)]
fn round<W: Ways>(
    w: W,
    a: &[W::Word; STATE_WORD_COUNT],
    constant: W::Word,
) -> [W::Word; STATE_WORD_COUNT] {
    let a = rho_and_pi(w, &theta(w, a));
    let mut b = chi(w, &a);
    b[0] = w.xor3(b[0], constant, w.splat(0));
    b
}

/// Add to each word the parities of two columns.
#[inline(always)]
fn theta<W: Ways>(w: W, a: &[W::Word; STATE_WORD_COUNT]) -> [W::Word; STATE_WORD_COUNT] {
    let mut c = [w.splat(0); 5];
    for (x, parity) in c.iter_mut().enumerate() {
        *parity = w.xor3(w.xor3(a[x], a[x + 5], a[x + 10]), a[x + 15], a[x + 20]);
    }
    let turned = [
        w.rotate_left::<1>(c[0]),
        w.rotate_left::<1>(c[1]),
        w.rotate_left::<1>(c[2]),
        w.rotate_left::<1>(c[3]),
        w.rotate_left::<1>(c[4]),
    ];
    let mut b = *a;
    for (index, word) in b.iter_mut().enumerate() {
        *word = w.xor3(*word, c[(index + 4) % 5], turned[(index + 1) % 5]);
    }
    b
}

/// Turn each word by its offset and move it to its new place.
#[inline(always)]
fn rho_and_pi<W: Ways>(w: W, a: &[W::Word; STATE_WORD_COUNT]) -> [W::Word; STATE_WORD_COUNT] {
    [
        a[0],
        w.rotate_left::<44>(a[6]),
        w.rotate_left::<43>(a[12]),
        w.rotate_left::<21>(a[18]),
        w.rotate_left::<14>(a[24]),
        w.rotate_left::<28>(a[3]),
        w.rotate_left::<20>(a[9]),
        w.rotate_left::<3>(a[10]),
        w.rotate_left::<45>(a[16]),
        w.rotate_left::<61>(a[22]),
        w.rotate_left::<1>(a[1]),
        w.rotate_left::<6>(a[7]),
        w.rotate_left::<25>(a[13]),
        w.rotate_left::<8>(a[19]),
        w.rotate_left::<18>(a[20]),
        w.rotate_left::<27>(a[4]),
        w.rotate_left::<36>(a[5]),
        w.rotate_left::<10>(a[11]),
        w.rotate_left::<15>(a[17]),
        w.rotate_left::<56>(a[23]),
        w.rotate_left::<62>(a[2]),
        w.rotate_left::<55>(a[8]),
        w.rotate_left::<39>(a[14]),
        w.rotate_left::<41>(a[15]),
        w.rotate_left::<2>(a[21]),
    ]
}

/// The only step that is not linear: each word with the two behind it in its row.
#[inline(always)]
fn chi<W: Ways>(w: W, a: &[W::Word; STATE_WORD_COUNT]) -> [W::Word; STATE_WORD_COUNT] {
    let mut b = *a;
    for (index, word) in b.iter_mut().enumerate() {
        let row = index - index % 5;
        *word = w.xor_and_not(*word, a[row + (index + 1) % 5], a[row + (index + 2) % 5]);
    }
    b
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
