//! The machine of plain arrays: the safe twin of every kernel, for as many ways. Tests alone run it.

use super::kernel::{Kernel, Rows, digest};
use super::rounds::{self, Machine, column, kernel_of_rows};
use super::{BLOCK_SIZE, Pair, Serial};

/// The machine of plain arrays: the twin of every kernel.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Portable<const WAYS: usize>;

impl<const WAYS: usize> Portable<WAYS> {
    fn map(a: [u32; WAYS], f: impl Fn(u32) -> u32) -> [u32; WAYS] {
        a.map(f)
    }

    fn zip(a: [u32; WAYS], b: [u32; WAYS], f: impl Fn(u32, u32) -> u32) -> [u32; WAYS] {
        std::array::from_fn(|way| f(a[way], b[way]))
    }
}

impl<const WAYS: usize> Machine<WAYS> for Portable<WAYS> {
    type Word = [u32; WAYS];

    fn splat(self, value: u32) -> Self::Word {
        [value; WAYS]
    }

    fn add(self, a: Self::Word, b: Self::Word) -> Self::Word {
        Self::zip(a, b, u32::wrapping_add)
    }

    fn sum_0(self, a: Self::Word) -> Self::Word {
        Self::map(a, |a| a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22))
    }

    fn sum_1(self, e: Self::Word) -> Self::Word {
        Self::map(e, |e| e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25))
    }

    fn sigma_0(self, w: Self::Word) -> Self::Word {
        Self::map(w, |w| w.rotate_right(7) ^ w.rotate_right(18) ^ (w >> 3))
    }

    fn sigma_1(self, w: Self::Word) -> Self::Word {
        Self::map(w, |w| w.rotate_right(17) ^ w.rotate_right(19) ^ (w >> 10))
    }

    fn choose(self, e: Self::Word, f: Self::Word, g: Self::Word) -> Self::Word {
        Self::zip(Self::zip(Self::zip(f, g, |f, g| f ^ g), e, |fg, e| fg & e), g, |x, g| x ^ g)
    }

    fn majority(self, a: Self::Word, b: Self::Word, c: Self::Word) -> Self::Word {
        let both = Self::zip(a, b, |a, b| a & b);
        let either = Self::zip(a, b, |a, b| a | b);
        Self::zip(both, Self::zip(either, c, |either, c| either & c), |both, third| both | third)
    }

    fn straddle(self, left: Self::Word, right: Self::Word) -> Self::Word {
        Self::zip(left, right, |left, right| (left << 24) | (right >> 8))
    }

    fn load_blocks(self, blocks: &[&[u8; BLOCK_SIZE]; WAYS]) -> [Self::Word; 16] {
        let mut words = [[0; WAYS]; 16];
        for (way, block) in blocks.iter().enumerate() {
            load_column(&mut words, way, block.as_chunks::<4>().0);
        }
        words
    }

    fn load_pairs(self, pairs: &[Pair; WAYS]) -> [Self::Word; 16] {
        let mut words = [[0; WAYS]; 16];
        for (way, pair) in pairs.iter().enumerate() {
            load_column(&mut words, way, pair.as_flattened().as_chunks::<4>().0);
        }
        words
    }

    fn load_hashes(self, hashes: &[[u8; 32]; WAYS]) -> [Self::Word; 8] {
        let mut words = [[0; WAYS]; 8];
        for (way, hash) in hashes.iter().enumerate() {
            load_column(&mut words, way, hash.as_chunks::<4>().0);
        }
        words
    }

    fn store_hashes(self, words: [Self::Word; 8], hashes: &mut [[u8; 32]; WAYS]) {
        for (way, hash) in hashes.iter_mut().enumerate() {
            *hash = digest(column(&words, way));
        }
    }

    fn load_row(self, row: &[u32; WAYS]) -> Self::Word {
        *row
    }

    fn store_row(self, word: Self::Word, row: &mut [u32; WAYS]) {
        *row = word;
    }
}

fn load_column<const WAYS: usize>(words: &mut [[u32; WAYS]], way: usize, bytes: &[[u8; 4]]) {
    for (row, bytes) in words.iter_mut().zip(bytes) {
        row[way] = u32::from_be_bytes(*bytes);
    }
}

impl<const WAYS: usize> Kernel<WAYS> for Portable<WAYS> {
    kernel_of_rows!(WAYS);

    fn compress(self, states: &mut Rows<WAYS>, blocks: &[&[u8; BLOCK_SIZE]; WAYS]) {
        rounds::compress(self, states, blocks);
    }

    fn chain(self, hashes: &mut [[u8; 32]; WAYS], count: u64) {
        rounds::chain(self, hashes, count);
    }

    fn nodes(self, prefix: u8, pairs: &[Pair; WAYS], out: &mut [[u8; 32]; WAYS]) {
        rounds::nodes(self, prefix, pairs, out);
    }
}

impl Serial for Portable<1> {
    fn blocks(&self, state: &mut [u32; 8], blocks: &[[u8; BLOCK_SIZE]]) {
        let mut rows = state.map(|word| [word]);
        for block in blocks {
            self.compress(&mut rows, &[block]);
        }
        *state = column(&rows, 0);
    }
}
