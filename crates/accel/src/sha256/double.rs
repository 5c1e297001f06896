//! Two vectors side by side: twice the ways, for processors that wait for results more than for units.

use super::rounds::Machine;
use super::{BLOCK_SIZE, Pair};

/// A machine of two vectors of another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Double<M>(pub(crate) M);

/// Interleave what the two vectors of a [`Double`] have.
macro_rules! both {
    ($low:expr, $high:expr; $($name:ident $other:ident),*) => {{
        let ([$($name),*], [$($other),*]) = ($low, $high);
        [$([$name, $other]),*]
    }};
}

impl<M: Machine<16>> Machine<32> for Double<M> {
    type Word = [M::Word; 2];

    #[inline(always)]
    fn splat(self, value: u32) -> Self::Word {
        [self.0.splat(value); 2]
    }

    #[inline(always)]
    fn add(self, a: Self::Word, b: Self::Word) -> Self::Word {
        [self.0.add(a[0], b[0]), self.0.add(a[1], b[1])]
    }

    #[inline(always)]
    fn sum_0(self, a: Self::Word) -> Self::Word {
        [self.0.sum_0(a[0]), self.0.sum_0(a[1])]
    }

    #[inline(always)]
    fn sum_1(self, e: Self::Word) -> Self::Word {
        [self.0.sum_1(e[0]), self.0.sum_1(e[1])]
    }

    #[inline(always)]
    fn sigma_0(self, w: Self::Word) -> Self::Word {
        [self.0.sigma_0(w[0]), self.0.sigma_0(w[1])]
    }

    #[inline(always)]
    fn sigma_1(self, w: Self::Word) -> Self::Word {
        [self.0.sigma_1(w[0]), self.0.sigma_1(w[1])]
    }

    #[inline(always)]
    fn choose(self, e: Self::Word, f: Self::Word, g: Self::Word) -> Self::Word {
        [self.0.choose(e[0], f[0], g[0]), self.0.choose(e[1], f[1], g[1])]
    }

    #[inline(always)]
    fn majority(self, a: Self::Word, b: Self::Word, c: Self::Word) -> Self::Word {
        [self.0.majority(a[0], b[0], c[0]), self.0.majority(a[1], b[1], c[1])]
    }

    #[inline(always)]
    fn straddle(self, left: Self::Word, right: Self::Word) -> Self::Word {
        [self.0.straddle(left[0], right[0]), self.0.straddle(left[1], right[1])]
    }

    #[inline(always)]
    fn load_blocks(self, blocks: &[&[u8; BLOCK_SIZE]; 32]) -> [Self::Word; 16] {
        let [low, high] = split(blocks);
        both!(self.0.load_blocks(low), self.0.load_blocks(high);
            a0 b0, a1 b1, a2 b2, a3 b3, a4 b4, a5 b5, a6 b6, a7 b7,
            a8 b8, a9 b9, aa ba, ab bb, ac bc, ad bd, ae be, af bf)
    }

    #[inline(always)]
    fn load_pairs(self, pairs: &[Pair; 32]) -> [Self::Word; 16] {
        let [low, high] = split(pairs);
        both!(self.0.load_pairs(low), self.0.load_pairs(high);
            a0 b0, a1 b1, a2 b2, a3 b3, a4 b4, a5 b5, a6 b6, a7 b7,
            a8 b8, a9 b9, aa ba, ab bb, ac bc, ad bd, ae be, af bf)
    }

    #[inline(always)]
    fn load_hashes(self, hashes: &[[u8; 32]; 32]) -> [Self::Word; 8] {
        let [low, high] = split(hashes);
        both!(self.0.load_hashes(low), self.0.load_hashes(high);
            a0 b0, a1 b1, a2 b2, a3 b3, a4 b4, a5 b5, a6 b6, a7 b7)
    }

    #[inline(always)]
    fn store_hashes(self, words: [Self::Word; 8], hashes: &mut [[u8; 32]; 32]) {
        let [a, b, c, d, e, f, g, h] = words;
        let (low, high) = hashes.split_at_mut(16);
        let low = low.first_chunk_mut().expect("half of 32");
        let high = high.first_chunk_mut().expect("half of 32");
        self.0.store_hashes([a[0], b[0], c[0], d[0], e[0], f[0], g[0], h[0]], low);
        self.0.store_hashes([a[1], b[1], c[1], d[1], e[1], f[1], g[1], h[1]], high);
    }

    #[inline(always)]
    fn load_row(self, row: &[u32; 32]) -> Self::Word {
        let [low, high] = split(row);
        [self.0.load_row(low), self.0.load_row(high)]
    }

    #[inline(always)]
    fn store_row(self, word: Self::Word, row: &mut [u32; 32]) {
        let (low, high) = row.split_at_mut(16);
        self.0.store_row(word[0], low.first_chunk_mut().expect("half of 32"));
        self.0.store_row(word[1], high.first_chunk_mut().expect("half of 32"));
    }
}

#[inline(always)]
fn split<T>(all: &[T; 32]) -> [&[T; 16]; 2] {
    let low = all.first_chunk().expect("half of 32");
    let high = all.last_chunk().expect("half of 32");
    [low, high]
}
