//! Arithmetic modulo p = 2^255 - 19 on eight numbers at once.
//!
//! Source: the radix and the carries are those of Bernstein et al., "High-speed high-security signatures"
//! (2011), section 3, cut for multiplications of 52 bits as in Gueron and Krasnov, "Software implementation of
//! modular exponentiation, using Advanced Vector Instructions architectures" (2012).
//!
//! ```text
//!  value = l0 + l1 2^51 + l2 2^102 + l3 2^153 + l4 2^204  (mod p), one word of 8 ways per limb
//!
//!  a_i b_j = low + high 2^52   low counts in column i + j, high twice in column i + j + 1
//!  columns 5..9 weigh 2^255 = 19 (mod p), so they are added, times 19, to columns 0..4
//! ```
//! # Invariants
//! Bounds of each limb, by name:
//! * *narrow*: below 2^52. What multiplication reads; anything more would be dropped silently.
//! * *tight*: below 2^51 + 2^15. What multiplications, [`carry`] and constants give. Tight is narrow.
//! * *wide*: at most 600 * 2^52. What [`carry`] takes and makes tight: what comes round is below
//!   `600 * 2 * 19 < 2^15`.
//!
//! [`add_wide`] and [`sub_wide`] do not carry: their callers state what the sums stay below. The sum of two tight
//! numbers is not narrow, hence each sum is carried before it is multiplied. The twin asserts all of it.
//! # Limits
//! Not constant in time where it need not be: only public data comes here.
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "every index is a constant, or counts the limbs of an array of that length"
)]

use crate::many::ways::{WAY_COUNT, Ways};

/// A number has so many limbs of 51 bits.
pub(super) const LIMB_COUNT: usize = 5;

/// The low 51 bits.
const LIMB_MASK: u64 = (1 << 51) - 1;

/// The lowest limb of p; the others are all ones.
const P_LOWEST_LIMB: u64 = (1 << 51) - 19;

/// One number, limb by limb, little end first.
pub(super) type Limbs = [u64; LIMB_COUNT];

/// The number 1.
pub(super) const ONE: Limbs = [1, 0, 0, 0, 0];

/// d of the curve `-x^2 + y^2 = 1 + d x^2 y^2`: -121665/121666.
pub(super) const D: Limbs =
    [0x34dca135978a3, 0x1a8283b156ebd, 0x5e7a26001c029, 0x739c663a03cbb, 0x52036cee2b6ff];

/// 2 d.
pub(super) const D_TWICE: Limbs =
    [0x69b9426b2f159, 0x35050762add7a, 0x3cf44c0038052, 0x6738cc7407977, 0x2406d9dc56dff];

/// A square root of -1: 2^((p-1)/4).
const ROOT_OF_MINUS_ONE: Limbs =
    [0x61b274a0ea0b0, 0xd5a5fc8f189d, 0x7ef5e9cbd0c60, 0x78595a6804c9e, 0x2b8324804fc1d];

/// 4 p in limbs of 53 bits: added before a subtraction, it keeps each limb from going below 0.
const P_FOUR_TIMES: Limbs =
    [4 * P_LOWEST_LIMB, 4 * LIMB_MASK, 4 * LIMB_MASK, 4 * LIMB_MASK, 4 * LIMB_MASK];

/// Eight numbers, one per way.
#[derive(Clone, Copy)]
pub(super) struct Element<W: Ways>(pub(super) [W::Word; LIMB_COUNT]);

/// The same number in every way. Tight if its limbs are.
#[inline(always)]
pub(super) fn splat<W: Ways>(w: W, limbs: &Limbs) -> Element<W> {
    Element([
        w.splat(limbs[0]),
        w.splat(limbs[1]),
        w.splat(limbs[2]),
        w.splat(limbs[3]),
        w.splat(limbs[4]),
    ])
}

/// One number per way, given as words of eight. Tight if its limbs are.
#[inline(always)]
pub(super) fn load<W: Ways>(w: W, limbs: &[[u64; WAY_COUNT]]) -> Element<W> {
    Element([
        w.load(&limbs[0]),
        w.load(&limbs[1]),
        w.load(&limbs[2]),
        w.load(&limbs[3]),
        w.load(&limbs[4]),
    ])
}

/// The 255 low bits of an encoding, little endian, as limbs below 2^51. Not reduced: p and above stay as they are.
pub(super) fn limbs_of_bytes(bytes: &[u8; 32]) -> Limbs {
    let (words, _) = bytes.as_chunks::<8>();
    let word = |index: usize| u64::from_le_bytes(words[index]);
    [
        word(0) & LIMB_MASK,
        (word(0) >> 51 | word(1) << 13) & LIMB_MASK,
        (word(1) >> 38 | word(2) << 26) & LIMB_MASK,
        (word(2) >> 25 | word(3) << 39) & LIMB_MASK,
        word(3) >> 12 & LIMB_MASK,
    ]
}

/// `a + b`, limb by limb, without carries.
#[inline(always)]
pub(super) fn add_wide<W: Ways>(w: W, a: &Element<W>, b: &Element<W>) -> Element<W> {
    let (a, b) = (&a.0, &b.0);
    Element([
        w.add(a[0], b[0]),
        w.add(a[1], b[1]),
        w.add(a[2], b[2]),
        w.add(a[3], b[3]),
        w.add(a[4], b[4]),
    ])
}

/// `a - b + 4 p`, limb by limb, without carries. `b` has limbs of at most 2^53 - 76: two tight numbers' sum will do.
#[inline(always)]
pub(super) fn sub_wide<W: Ways>(w: W, a: &Element<W>, b: &Element<W>) -> Element<W> {
    let lifted = add_wide(w, a, &splat(w, &P_FOUR_TIMES));
    let (a, b) = (&lifted.0, &b.0);
    Element([
        w.sub(a[0], b[0]),
        w.sub(a[1], b[1]),
        w.sub(a[2], b[2]),
        w.sub(a[3], b[3]),
        w.sub(a[4], b[4]),
    ])
}

/// The same numbers, tight, from wide limbs: all limbs at once pass on what is above their 51 bits.
#[inline(always)]
pub(super) fn carry<W: Ways>(w: W, a: &Element<W>) -> Element<W> {
    let a = &a.0;
    let mask = w.splat(LIMB_MASK);
    Element([
        w.madd_low(w.and(a[0], mask), w.shr::<51>(a[4]), w.splat(19)),
        w.add(w.and(a[1], mask), w.shr::<51>(a[0])),
        w.add(w.and(a[2], mask), w.shr::<51>(a[1])),
        w.add(w.and(a[3], mask), w.shr::<51>(a[2])),
        w.add(w.and(a[4], mask), w.shr::<51>(a[3])),
    ])
}

/// `a + b`, tight; both at most half of wide.
#[inline(always)]
pub(super) fn add<W: Ways>(w: W, a: &Element<W>, b: &Element<W>) -> Element<W> {
    carry(w, &add_wide(w, a, b))
}

/// `a - b`, tight; `b` as for [`sub_wide`].
#[inline(always)]
pub(super) fn sub<W: Ways>(w: W, a: &Element<W>, b: &Element<W>) -> Element<W> {
    carry(w, &sub_wide(w, a, b))
}

/// `low + 19 high`.
#[inline(always)]
fn folded<W: Ways>(w: W, low: W::Word, high: W::Word) -> W::Word {
    w.add(low, w.mul(high, w.splat(19)))
}

/// `2 a`.
#[inline(always)]
fn double<W: Ways>(w: W, a: W::Word) -> W::Word {
    w.add(a, a)
}

/// The ten columns of a product, folded to five.
///
/// Each column is a sum of at most five low halves and twice five high halves, so it is below `15 * 2^52`. Folded,
/// it is below `20 * 15 * 2^52 < 2^60.3`: wide.
#[inline(always)]
fn fold<W: Ways>(w: W, columns: &[W::Word; 2 * LIMB_COUNT]) -> Element<W> {
    let c = columns;
    Element([
        folded(w, c[0], c[5]),
        folded(w, c[1], c[6]),
        folded(w, c[2], c[7]),
        folded(w, c[3], c[8]),
        folded(w, c[4], c[9]),
    ])
}

/// Add the low halves of `a_i b` to the columns, from column `ROW`.
#[inline(always)]
fn row_low<W: Ways, const ROW: usize>(
    w: W,
    columns: &mut [W::Word; 10],
    a: &Element<W>,
    b: &Element<W>,
) {
    let (a, b) = (a.0[ROW], &b.0);
    columns[ROW] = w.madd_low(columns[ROW], a, b[0]);
    columns[ROW + 1] = w.madd_low(columns[ROW + 1], a, b[1]);
    columns[ROW + 2] = w.madd_low(columns[ROW + 2], a, b[2]);
    columns[ROW + 3] = w.madd_low(columns[ROW + 3], a, b[3]);
    columns[ROW + 4] = w.madd_low(columns[ROW + 4], a, b[4]);
}

/// Add the high halves of `a_i b` to the columns, from column `ROW + 1`.
#[inline(always)]
fn row_high<W: Ways, const ROW: usize>(
    w: W,
    columns: &mut [W::Word; 10],
    a: &Element<W>,
    b: &Element<W>,
) {
    let (a, b) = (a.0[ROW], &b.0);
    columns[ROW + 1] = w.madd_high(columns[ROW + 1], a, b[0]);
    columns[ROW + 2] = w.madd_high(columns[ROW + 2], a, b[1]);
    columns[ROW + 3] = w.madd_high(columns[ROW + 3], a, b[2]);
    columns[ROW + 4] = w.madd_high(columns[ROW + 4], a, b[3]);
    columns[ROW + 5] = w.madd_high(columns[ROW + 5], a, b[4]);
}

/// The columns of `a b`; both narrow.
#[inline(always)]
fn columns<W: Ways>(w: W, a: &Element<W>, b: &Element<W>) -> [W::Word; 2 * LIMB_COUNT] {
    let mut c = [w.splat(0); 10];
    row_high::<W, 0>(w, &mut c, a, b);
    row_high::<W, 1>(w, &mut c, a, b);
    row_high::<W, 2>(w, &mut c, a, b);
    row_high::<W, 3>(w, &mut c, a, b);
    row_high::<W, 4>(w, &mut c, a, b);
    let mut columns = doubles(w, &c);
    row_low::<W, 0>(w, &mut columns, a, b);
    row_low::<W, 1>(w, &mut columns, a, b);
    row_low::<W, 2>(w, &mut columns, a, b);
    row_low::<W, 3>(w, &mut columns, a, b);
    row_low::<W, 4>(w, &mut columns, a, b);
    columns
}

#[inline(always)]
fn doubles<W: Ways>(w: W, c: &[W::Word; 2 * LIMB_COUNT]) -> [W::Word; 2 * LIMB_COUNT] {
    [
        double(w, c[0]),
        double(w, c[1]),
        double(w, c[2]),
        double(w, c[3]),
        double(w, c[4]),
        double(w, c[5]),
        double(w, c[6]),
        double(w, c[7]),
        double(w, c[8]),
        double(w, c[9]),
    ]
}

/// `a b`, tight; both narrow.
#[inline(always)]
pub(super) fn mul<W: Ways>(w: W, a: &Element<W>, b: &Element<W>) -> Element<W> {
    carry(w, &fold(w, &columns(w, a, b)))
}

/// `2 a b`, tight; both narrow.
#[inline(always)]
pub(super) fn mul_twice<W: Ways>(w: W, a: &Element<W>, b: &Element<W>) -> Element<W> {
    let folded = fold(w, &columns(w, a, b));
    carry(w, &add_wide(w, &folded, &folded))
}

/// `sum` and the low half of one product of limbs.
#[inline(always)]
fn low<W: Ways>(w: W, a: &[W::Word; LIMB_COUNT], sum: W::Word, i: usize, j: usize) -> W::Word {
    w.madd_low(sum, a[i], a[j])
}

/// `sum` and the high half of one product of limbs.
#[inline(always)]
fn high<W: Ways>(w: W, a: &[W::Word; LIMB_COUNT], sum: W::Word, i: usize, j: usize) -> W::Word {
    w.madd_high(sum, a[i], a[j])
}

/// `a^2`, tight; `a` narrow. The same columns as [`mul`], each mixed product made once.
///
/// By weight: `once` has low halves of squares; `twice` low halves of mixed products and high halves of squares;
/// `four` high halves of mixed products.
#[inline(always)]
pub(super) fn square<W: Ways>(w: W, a: &Element<W>) -> Element<W> {
    let a = &a.0;
    let zero = w.splat(0);
    let c_2 = double(w, high(w, a, zero, 0, 1));
    let c_3 = double(w, high(w, a, zero, 0, 2));
    let c_4 = double(w, high(w, a, high(w, a, zero, 0, 3), 1, 2));
    let c_5 = double(w, high(w, a, high(w, a, zero, 0, 4), 1, 3));
    let c_6 = double(w, high(w, a, high(w, a, zero, 1, 4), 2, 3));
    let c_7 = double(w, high(w, a, zero, 2, 4));
    let c_8 = double(w, high(w, a, zero, 3, 4));
    let c_1 = double(w, high(w, a, low(w, a, zero, 0, 1), 0, 0));
    let c_2 = double(w, low(w, a, c_2, 0, 2));
    let c_3 = double(w, high(w, a, low(w, a, low(w, a, c_3, 0, 3), 1, 2), 1, 1));
    let c_4 = double(w, low(w, a, low(w, a, c_4, 0, 4), 1, 3));
    let c_5 = double(w, high(w, a, low(w, a, low(w, a, c_5, 1, 4), 2, 3), 2, 2));
    let c_6 = double(w, low(w, a, c_6, 2, 4));
    let c_7 = double(w, high(w, a, low(w, a, c_7, 3, 4), 3, 3));
    let c_8 = double(w, c_8);
    let c_9 = double(w, high(w, a, zero, 4, 4));
    let columns = [
        low(w, a, zero, 0, 0),
        c_1,
        low(w, a, c_2, 1, 1),
        c_3,
        low(w, a, c_4, 2, 2),
        c_5,
        low(w, a, c_6, 3, 3),
        c_7,
        low(w, a, c_8, 4, 4),
        c_9,
    ];
    carry(w, &fold(w, &columns))
}

/// `yes` in the ways whose bit is set, else `no`.
#[inline(always)]
pub(super) fn select<W: Ways>(w: W, mask: u8, yes: &Element<W>, no: &Element<W>) -> Element<W> {
    let (a, b) = (&yes.0, &no.0);
    Element([
        w.select(mask, a[0], b[0]),
        w.select(mask, a[1], b[1]),
        w.select(mask, a[2], b[2]),
        w.select(mask, a[3], b[3]),
        w.select(mask, a[4], b[4]),
    ])
}

/// The same numbers with limbs below 2^51, so below 2^255; only p to p + 18 have a second such form. `a` wide.
///
/// After the first pass limbs 1 to 4 are below 2^51 and limb 0 below 2^51 + 2^15. In the second a carry out of limb
/// 0 leaves it below 2^15, so that what comes round from limb 4 fits in it.
#[inline(always)]
fn reduce<W: Ways>(w: W, a: &Element<W>) -> Element<W> {
    let mask = w.splat(LIMB_MASK);
    let mut limbs = a.0;
    for _ in 0..2 {
        for index in 0..LIMB_COUNT - 1 {
            limbs[index + 1] = w.add(limbs[index + 1], w.shr::<51>(limbs[index]));
            limbs[index] = w.and(limbs[index], mask);
        }
        limbs[0] = w.madd_low(limbs[0], w.shr::<51>(limbs[4]), w.splat(19));
        limbs[4] = w.and(limbs[4], mask);
    }
    Element(limbs)
}

/// Where the number is 0 mod p. `a` wide.
#[inline(always)]
pub(super) fn zeroes<W: Ways>(w: W, a: &Element<W>) -> u8 {
    let a = reduce(w, a).0;
    let (zero, ones) = (w.splat(0), w.splat(LIMB_MASK));
    let mut zeroes = w.equal(a[0], zero);
    let mut moduli = w.equal(a[0], w.splat(P_LOWEST_LIMB));
    for limb in &a[1..] {
        zeroes &= w.equal(*limb, zero);
        moduli &= w.equal(*limb, ones);
    }
    zeroes | moduli
}

/// Where the number, reduced mod p, is odd. `a` wide.
#[inline(always)]
pub(super) fn odd<W: Ways>(w: W, a: &Element<W>) -> u8 {
    let a = reduce(w, a).0;
    let one = w.splat(1);
    // p to p + 18 stand for 0 to 18, of the other parity: all limbs are ones but the lowest, which carries when 19 is
    // added.
    let mut above = w.equal(w.shr::<51>(w.add(a[0], w.splat(19))), one);
    for limb in &a[1..] {
        above &= w.equal(*limb, w.splat(LIMB_MASK));
    }
    w.equal(w.and(a[0], one), one) ^ above
}

/// `a` squared `count` times, for two numbers whose chains of squarings the processor interleaves.
fn square_pair<W: Ways>(w: W, pair: &[Element<W>; 2], count: u32) -> [Element<W>; 2] {
    w.run(
        #[inline(always)]
        || {
            let mut squares = *pair;
            for _ in 0..count {
                squares = [square(w, &squares[0]), square(w, &squares[1])];
            }
            squares
        },
    )
}

fn mul_pair<W: Ways>(w: W, a: &[Element<W>; 2], b: &[Element<W>; 2]) -> [Element<W>; 2] {
    w.run(
        #[inline(always)]
        || [mul(w, &a[0], &b[0]), mul(w, &a[1], &b[1])],
    )
}

/// `a^((p-5)/8) = a^(2^252 - 3)`; `a` narrow. `ones_n` is `a^(2^n - 1)`.
fn power_pair<W: Ways>(w: W, a: &[Element<W>; 2]) -> [Element<W>; 2] {
    let squared = square_pair(w, a, 1);
    let to_9 = mul_pair(w, &square_pair(w, &squared, 2), a);
    let to_11 = mul_pair(w, &to_9, &squared);
    let ones_5 = mul_pair(w, &square_pair(w, &to_11, 1), &to_9);
    let ones_10 = mul_pair(w, &square_pair(w, &ones_5, 5), &ones_5);
    let ones_20 = mul_pair(w, &square_pair(w, &ones_10, 10), &ones_10);
    let ones_40 = mul_pair(w, &square_pair(w, &ones_20, 20), &ones_20);
    let ones_50 = mul_pair(w, &square_pair(w, &ones_40, 10), &ones_10);
    let ones_100 = mul_pair(w, &square_pair(w, &ones_50, 50), &ones_50);
    let ones_200 = mul_pair(w, &square_pair(w, &ones_100, 100), &ones_100);
    let ones_250 = mul_pair(w, &square_pair(w, &ones_200, 50), &ones_50);
    mul_pair(w, &square_pair(w, &ones_250, 2), a)
}

/// A square root of `u / v`, and where there is one; both tight, `v` not 0.
///
/// RFC 8032, section 5.1.3: `r = u v^3 (u v^7)^((p-5)/8)` has `v r^2 = u`, or `-u` and `r` times a root of -1 will do,
/// or there is none.
pub(super) fn root_of_ratio_pair<W: Ways>(
    w: W,
    u: &[Element<W>; 2],
    v: &[Element<W>; 2],
) -> [(Element<W>, u8); 2] {
    let v_3 = mul_pair(w, &square_pair(w, v, 1), v);
    let v_7 = mul_pair(w, &square_pair(w, &v_3, 1), v);
    let power = power_pair(w, &mul_pair(w, u, &v_7));
    let roots = mul_pair(w, &mul_pair(w, u, &v_3), &power);
    let checks = mul_pair(w, v, &square_pair(w, &roots, 1));
    let other = splat(w, &ROOT_OF_MINUS_ONE);
    let others = mul_pair(w, &roots, &[other, other]);
    w.run(
        #[inline(always)]
        || {
            [
                root_where_right(w, &roots[0], &others[0], &checks[0], &u[0]),
                root_where_right(w, &roots[1], &others[1], &checks[1], &u[1]),
            ]
        },
    )
}

/// `root` where its check is `u`, `other` where it is `-u`, and where it was either.
#[inline(always)]
fn root_where_right<W: Ways>(
    w: W,
    root: &Element<W>,
    other: &Element<W>,
    check: &Element<W>,
    u: &Element<W>,
) -> (Element<W>, u8) {
    let right = zeroes(w, &sub_wide(w, check, u));
    let turned = zeroes(w, &add_wide(w, check, u));
    (select(w, right, root, other), right | turned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::many::on_each_ways;

    /// Bounds of limbs by name, exclusive.
    const TIGHT: u64 = (1 << 51) + (1 << 15);
    const NARROW: u64 = 1 << 52;
    const WIDE: u64 = (600 << 52) + 1;

    /// A number below 2^255, four words, little end first: arithmetic of a kind the kernel does not use.
    type Number = [u64; 4];

    const P: Number = [u64::MAX - 18, u64::MAX, u64::MAX, u64::MAX >> 1];

    fn subtract_p_if_not_below(a: Number) -> Number {
        let mut borrow = false;
        let difference = std::array::from_fn(|index| {
            let (low, first) = a[index].overflowing_sub(P[index]);
            let (low, second) = low.overflowing_sub(u64::from(borrow));
            borrow = first | second;
            low
        });
        if borrow { a } else { difference }
    }

    fn plus(a: Number, b: Number) -> Number {
        let mut carry = false;
        let sum = std::array::from_fn(|index| {
            let (low, first) = a[index].overflowing_add(b[index]);
            let (low, second) = low.overflowing_add(u64::from(carry));
            carry = first | second;
            low
        });
        assert!(!carry, "two numbers below p sum to less than 2^256");
        subtract_p_if_not_below(sum)
    }

    fn times(a: Number, b: Number) -> Number {
        (0..256).rev().fold([0; 4], |sum, bit| {
            let doubled = plus(sum, sum);
            if b[bit / 64] >> (bit % 64) & 1 == 1 { plus(doubled, a) } else { doubled }
        })
    }

    fn number(limbs: &Limbs) -> Number {
        limbs
            .iter()
            .rev()
            .fold([0; 4], |sum, limb| plus(times(sum, [1 << 51, 0, 0, 0]), [*limb, 0, 0, 0]))
    }

    /// Five limbs below `bound`, often at an edge.
    fn limbs(random: &mut fastrand::Rng, bound: u64) -> Limbs {
        let kind = random.u8(0..4);
        std::array::from_fn(|_| match (kind, random.u8(0..6)) {
            (0, _) | (1, 0) => bound - 1,
            (1, 1) => 0,
            (1, 2) => LIMB_MASK.min(bound - 1),
            (1, 3) => (LIMB_MASK + 1).min(bound - 1),
            (1, 4) => P_LOWEST_LIMB.min(bound - 1),
            _ => random.u64(0..bound),
        })
    }

    fn eight(random: &mut fastrand::Rng, bound: u64) -> [Limbs; WAY_COUNT] {
        std::array::from_fn(|_| limbs(random, bound))
    }

    fn loaded<W: Ways>(w: W, ways: &[Limbs; WAY_COUNT]) -> Element<W> {
        let words: [[u64; WAY_COUNT]; LIMB_COUNT] =
            std::array::from_fn(|limb| std::array::from_fn(|way| ways[way][limb]));
        load(w, &words)
    }

    fn stored<W: Ways>(w: W, element: &Element<W>) -> [Limbs; WAY_COUNT] {
        let words = element.0.map(|limb| w.store(limb));
        std::array::from_fn(|way| std::array::from_fn(|limb| words[limb][way]))
    }

    fn check<W: Ways>(
        w: W,
        result: &Element<W>,
        inputs: [&[Limbs; WAY_COUNT]; 2],
        expected: fn(Number, Number) -> Number,
    ) {
        for (way, limbs) in stored(w, result).iter().enumerate() {
            assert!(limbs.iter().all(|limb| *limb < TIGHT), "results are tight: {limbs:?}");
            let [a, b] = inputs.map(|input| number(&input[way]));
            assert_eq!(number(limbs), expected(a, b), "way {way} of {inputs:?}");
        }
    }

    fn minus(a: Number, b: Number) -> Number {
        plus(a, times(b, [P[0] - 1, P[1], P[2], P[3]]))
    }

    #[test]
    fn products_of_narrow_numbers_are_right_and_tight_at_their_bounds_and_between() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..60 {
            let (a, b) = (eight(&mut random, NARROW), eight(&mut random, NARROW));
            on_each_ways!(w => {
                let (wide_a, wide_b) = (loaded(w, &a), loaded(w, &b));
                check(w, &w.run(|| mul(w, &wide_a, &wide_b)), [&a, &b], times);
                check(w, &w.run(|| square(w, &wide_a)), [&a, &a], times);
                let twice = |a, b| times(plus(a, a), b);
                check(w, &w.run(|| mul_twice(w, &wide_a, &wide_b)), [&a, &b], twice);
            });
        }
    }

    #[test]
    fn sums_and_differences_are_right_and_tight_at_their_bounds_and_between() {
        let mut random = fastrand::Rng::with_seed(2);
        for _ in 0..60 {
            let (a, b) = (eight(&mut random, 2 * TIGHT), eight(&mut random, 2 * TIGHT));
            on_each_ways!(w => {
                let (wide_a, wide_b) = (loaded(w, &a), loaded(w, &b));
                check(w, &w.run(|| add(w, &wide_a, &wide_b)), [&a, &b], plus);
                check(w, &w.run(|| sub(w, &wide_a, &wide_b)), [&a, &b], minus);
            });
        }
    }

    #[test]
    fn a_carry_makes_wide_numbers_tight_and_keeps_them() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..60 {
            let a = eight(&mut random, WIDE);
            on_each_ways!(w => {
                let wide_a = loaded(w, &a);
                check(w, &w.run(|| carry(w, &wide_a)), [&a, &a], |a, _| a);
            });
        }
    }

    /// Ways where zero and where odd, for every form of the numbers around 0 and p.
    #[test]
    fn zero_and_odd_are_those_of_the_number_mod_p_whatever_its_form() {
        let mut random = fastrand::Rng::with_seed(4);
        let top = [LIMB_MASK; LIMB_COUNT];
        let near_p = |distance: u64| {
            let mut limbs = top;
            limbs[0] -= distance;
            limbs
        };
        let mut forms: Vec<Limbs> = (0..40).map(near_p).collect();
        forms.extend((0..4).map(|low| [low, 0, 0, 0, 0]));
        forms.extend([1, 2, 4].map(|times| {
            let mut limbs = [times * LIMB_MASK; LIMB_COUNT];
            limbs[0] = times * P_LOWEST_LIMB;
            limbs
        }));
        forms.extend([[TIGHT - 1; LIMB_COUNT], [WIDE - 1; LIMB_COUNT]]);
        forms.extend((0..200).map(|_| limbs(&mut random, TIGHT)));
        let (groups, _) = forms.as_chunks::<WAY_COUNT>();
        for group in groups {
            let mask = |is_set: fn(Number) -> bool| {
                (0..WAY_COUNT)
                    .fold(0, |mask, way| mask | u8::from(is_set(number(&group[way]))) << way)
            };
            let expected = (mask(|a| a == [0; 4]), mask(|a| a[0] & 1 == 1));
            on_each_ways!(w => {
                let a = loaded(w, group);
                assert_eq!(w.run(|| (zeroes(w, &a), odd(w, &a))), expected, "{group:?}");
            });
        }
    }

    #[test]
    fn the_constants_are_what_they_are_called() {
        let one = number(&ONE);
        let minus_one = minus([0; 4], one);
        let root = number(&ROOT_OF_MINUS_ONE);
        assert_eq!(times(root, root), minus_one);
        assert_eq!(times(number(&D), [121_666, 0, 0, 0]), times(minus_one, [121_665, 0, 0, 0]));
        assert_eq!(number(&D_TWICE), plus(number(&D), number(&D)));
        assert_eq!(number(&P_FOUR_TIMES), [0; 4]);
    }

    #[test]
    fn the_limbs_of_an_encoding_are_its_number_without_the_sign() {
        let mut bytes = [0xff; 32];
        assert_eq!(limbs_of_bytes(&bytes), [LIMB_MASK; LIMB_COUNT]);
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::try_from(index * 7).expect("below 256");
        }
        let (words, _) = bytes.as_chunks::<8>();
        let mut expected: Number = std::array::from_fn(|index| u64::from_le_bytes(words[index]));
        expected[3] &= u64::MAX >> 1;
        assert_eq!(number(&limbs_of_bytes(&bytes)), subtract_p_if_not_below(expected));
    }
}
