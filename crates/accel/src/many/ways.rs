//! Eight words of 64 bits side by side: what a register of 512 bits does, as a trait.
//!
//! The wide kernels (field and curve of ed25519, SHA-512, Keccak) are safe code over [`Ways`]. One file of one-line
//! wrappers (`avx512.rs`) runs them on the hardware; one safe file (`twin.rs`) runs them anywhere and asserts what the
//! hardware would let pass.
//!
//! ```text
//!  word     way 0 | way 1 | ... | way 7      one u64 each; ways never mix
//!  mask     bit 0 | bit 1 | ... | bit 7      one bool each
//! ```
//! # Invariants
//! * W1 Both implementations give the same words for the same operands, within the preconditions.
//! * W2 `madd_low` and `madd_high` read operands below 2^52: the hardware drops higher bits without a word, the
//!   twin asserts that there are none.
//! * W3 `add`, `sub` and `mul` do not wrap, nor do the sums inside of `madd_*`: the twin asserts it. Hashes, which
//!   mean to wrap, say `add_wrapping` and `rotate_left`.

/// How many independent items one word holds.
pub(crate) const WAY_COUNT: usize = 8;

/// The permission to use one implementation: a value exists only where its instructions do.
pub(crate) trait Ways: Copy + Send + Sync + 'static {
    /// Eight words of 64 bits.
    type Word: Copy;

    /// Run `work` as one function compiled for these instructions. Everything inside must be inlined into it, so
    /// `work` is an `#[inline(always)]` closure that calls `#[inline(always)]` functions, or functions that
    /// `run` themselves.
    fn run<Out>(self, work: impl FnOnce() -> Out) -> Out;

    /// The same value in every way.
    fn splat(self, value: u64) -> Self::Word;
    /// One value per way.
    fn load(self, values: &[u64; WAY_COUNT]) -> Self::Word;
    /// The value of each way.
    fn store(self, word: Self::Word) -> [u64; WAY_COUNT];

    /// `a + b`, which must stay below 2^64.
    fn add(self, a: Self::Word, b: Self::Word) -> Self::Word;
    /// `a - b`, which must not be negative.
    fn sub(self, a: Self::Word, b: Self::Word) -> Self::Word;
    /// `sum + (a b mod 2^52)` for `a`, `b` below 2^52.
    fn madd_low(self, sum: Self::Word, a: Self::Word, b: Self::Word) -> Self::Word;
    /// `sum + floor(a b / 2^52)` for `a`, `b` below 2^52.
    fn madd_high(self, sum: Self::Word, a: Self::Word, b: Self::Word) -> Self::Word;
    /// `a b`, which must stay below 2^64.
    fn mul(self, a: Self::Word, b: Self::Word) -> Self::Word;
    /// `floor(a / 2^BITS)`.
    fn shr<const BITS: u32>(self, a: Self::Word) -> Self::Word;
    /// Bits set in both.
    fn and(self, a: Self::Word, b: Self::Word) -> Self::Word;
    /// Where the ways of `a` and `b` are equal.
    fn equal(self, a: Self::Word, b: Self::Word) -> u8;
    /// `yes` where the bit of `mask` is set, else `no`.
    fn select(self, mask: u8, yes: Self::Word, no: Self::Word) -> Self::Word;

    /// Word i of the result has in way j what word j of `rows` has in way i.
    fn transpose(self, rows: [Self::Word; WAY_COUNT]) -> [Self::Word; WAY_COUNT];

    /// `a + b` mod 2^64.
    fn add_wrapping(self, a: Self::Word, b: Self::Word) -> Self::Word;
    /// Bits turned left within each way.
    fn rotate_left<const BITS: i32>(self, a: Self::Word) -> Self::Word;
    /// Bits set in an odd number of them.
    fn xor3(self, a: Self::Word, b: Self::Word, c: Self::Word) -> Self::Word;
    /// Bits of `b` where `a` is set, else of `c`.
    fn choose(self, a: Self::Word, b: Self::Word, c: Self::Word) -> Self::Word;
    /// Bits set in at least two.
    fn majority(self, a: Self::Word, b: Self::Word, c: Self::Word) -> Self::Word;
    /// `a ^ (!b & c)`.
    fn xor_and_not(self, a: Self::Word, b: Self::Word, c: Self::Word) -> Self::Word;
}

/// Words `FROM` to `FROM + 8` of eight rows, one row per way: what eight messages have at the same places.
#[inline(always)]
pub(crate) fn columns<W: Ways, const FROM: usize, const COUNT: usize>(
    w: W,
    rows: &[[u64; COUNT]; WAY_COUNT],
) -> [W::Word; WAY_COUNT] {
    const { assert!(FROM + WAY_COUNT <= COUNT, "a row has the words that are asked for") };
    let [a, b, c, d, e, f, g, h] = rows;
    w.transpose([
        w.load(eight::<FROM, COUNT>(a)),
        w.load(eight::<FROM, COUNT>(b)),
        w.load(eight::<FROM, COUNT>(c)),
        w.load(eight::<FROM, COUNT>(d)),
        w.load(eight::<FROM, COUNT>(e)),
        w.load(eight::<FROM, COUNT>(f)),
        w.load(eight::<FROM, COUNT>(g)),
        w.load(eight::<FROM, COUNT>(h)),
    ])
}

#[inline(always)]
fn eight<const FROM: usize, const COUNT: usize>(row: &[u64; COUNT]) -> &[u64; WAY_COUNT] {
    let rest = row.get(FROM..).expect("the caller has checked the end at compile time");
    rest.first_chunk().expect("the caller has checked the end at compile time")
}
