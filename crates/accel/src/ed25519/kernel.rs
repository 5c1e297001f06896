//! Verify eight independent ed25519 signatures at once, each by its own equation.
//!
//! Source: ZIP-215 for the rule; Straus, "Addition chains of vectors" (1964), for one run of doublings under both
//! products.
//!
//! ```text
//!  for each way   [8]([s]B - [k]A - R) = identity
//!
//!  k = 64 digits of -8..8, s = 32 digits of -128..128, both little end first
//!  from the top:  4 doublings, + digit of k times -A
//!                 4 doublings, + digit of k times -A, + digit of s times B      32 times
//!  then           - R, 3 doublings, is it the identity?
//!
//!  1..8 times -A:  made per call, eight ways wide, chosen by comparison
//!  0..128 times B: made once per process, chosen by index
//! ```
//! # Invariants
//! * K1 Ways never mix: a way's verdict depends on that way's item alone.
//! * K2 k may be reduced mod l although A may have a part of small order: 8 kills that part.
//! # Limits
//! Variable in time where digits index the table of B: there are no secrets here.
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "indices count ways, limbs and digits of arrays of those lengths"
)]

use super::field::{self, Limbs, limbs_of_bytes};
use super::point::{
    Affine, Cached, Point, add_affine, add_cached, affine, cached, choose, decode_pair,
    double_times, identities, identity, negative, sum,
};
use super::scalar::{S_DIGIT_COUNT, Scalars};
use crate::many::ways::{WAY_COUNT, Ways};

/// Most multiples of A that a digit of k asks for.
const KEY_MULTIPLE_MAX: usize = 8;

/// Most multiples of B that a digit of s asks for.
pub(super) const BASE_MULTIPLE_MAX: usize = 128;

/// Words of one multiple of B: three coordinates of five limbs.
const BASE_WORD_COUNT: usize = 15;

/// One item, ready for the kernel.
#[derive(Clone, Copy)]
pub(super) struct Prepared {
    pub(super) key: [u8; 32],
    pub(super) commitment: [u8; 32],
    pub(super) scalars: Scalars,
}

/// The multiples 0 to 128 of B in affine form, one row each.
pub(super) struct BaseTable(Vec<[u64; BASE_WORD_COUNT]>);

impl BaseTable {
    /// From the encodings of 1 B, 2 B, ... 128 B. None if the kernel says of one that it is no point.
    pub(super) fn new<W: Ways>(w: W, encodings: &[[u8; 32]]) -> Option<Self> {
        let mut identity_row = [0; BASE_WORD_COUNT];
        identity_row[0] = 1;
        identity_row[5] = 1;
        let mut rows = vec![identity_row];
        let (groups, _) = encodings.as_chunks::<WAY_COUNT>();
        for group in groups {
            let (y, sign) = load_encodings(w, group);
            let [(point, valid), _] = decode_pair(w, &[y, y], [sign, sign]);
            if valid != u8::MAX {
                return None;
            }
            let affine = affine(w, &point);
            let words = [affine.y_plus_x, affine.y_minus_x, affine.t_d_twice]
                .map(|element| element.0.map(|limb| w.store(limb)));
            let row = |way: usize| std::array::from_fn(|index| words[index / 5][index % 5][way]);
            rows.extend((0..WAY_COUNT).map(row));
        }
        assert_eq!(rows.len(), BASE_MULTIPLE_MAX + 1, "a row for each digit's magnitude");
        Some(Self(rows))
    }

    /// The row that each way asks for, word by word.
    fn gather(&self, magnitudes: &[usize; WAY_COUNT]) -> [[u64; WAY_COUNT]; BASE_WORD_COUNT] {
        let mut words = [[0; WAY_COUNT]; BASE_WORD_COUNT];
        for (way, magnitude) in magnitudes.iter().enumerate() {
            let row = &self.0[*magnitude];
            for (word, limb) in words.iter_mut().zip(row) {
                word[way] = *limb;
            }
        }
        words
    }
}

/// The y of eight encodings, and their sign bits.
pub(super) fn load_encodings<W: Ways>(
    w: W,
    encodings: &[[u8; 32]; WAY_COUNT],
) -> (field::Element<W>, u8) {
    let limbs: [Limbs; WAY_COUNT] = std::array::from_fn(|way| limbs_of_bytes(&encodings[way]));
    let words: [[u64; WAY_COUNT]; 5] =
        std::array::from_fn(|limb| std::array::from_fn(|way| limbs[way][limb]));
    let sign = mask_of(|way| encodings[way][31] >> 7 == 1);
    let y = w.run(
        #[inline(always)]
        || field::load(w, &words),
    );
    (y, sign)
}

/// One bit per way.
fn mask_of(is_set: impl Fn(usize) -> bool) -> u8 {
    (0..WAY_COUNT).fold(0, |mask, way| mask | u8::from(is_set(way)) << way)
}

/// A digit of each way as magnitudes and a mask of the negative ones.
fn digits(digit: impl Fn(usize) -> i16) -> ([usize; WAY_COUNT], u8) {
    let magnitudes = std::array::from_fn(|way| usize::from(digit(way).unsigned_abs()));
    (magnitudes, mask_of(|way| digit(way) < 0))
}

/// 0 to 8 times a point.
fn multiples<W: Ways>(w: W, point: &Point<W>) -> [Cached<W>; KEY_MULTIPLE_MAX + 1] {
    let once = cached(w, point);
    let p2 = double_times::<W, true>(w, point, 1);
    let p3 = sum(w, &p2, &once);
    let p4 = double_times::<W, true>(w, &p2, 1);
    let p5 = sum(w, &p4, &once);
    let p6 = double_times::<W, true>(w, &p3, 1);
    let p7 = sum(w, &p6, &once);
    let p8 = double_times::<W, true>(w, &p4, 1);
    let cached = |point| cached(w, point);
    let zero = w.run(
        #[inline(always)]
        || identity(w),
    );
    [
        cached(&zero),
        once,
        cached(&p2),
        cached(&p3),
        cached(&p4),
        cached(&p5),
        cached(&p6),
        cached(&p7),
        cached(&p8),
    ]
}

/// `point` plus each way's digit times the point of `table`.
fn add_digit<W: Ways, const WITH_T: bool>(
    w: W,
    point: &Point<W>,
    table: &[Cached<W>; KEY_MULTIPLE_MAX + 1],
    digits: &([usize; WAY_COUNT], u8),
) -> Point<W> {
    let magnitudes = digits.0.map(|magnitude| u64::try_from(magnitude).expect("at most 8"));
    w.run(
        #[inline(always)]
        || {
            let magnitudes = w.load(&magnitudes);
            let mut chosen = table[0];
            let mut index = w.splat(0);
            for multiple in &table[1..] {
                index = w.add(index, w.splat(1));
                chosen = choose(w, w.equal(magnitudes, index), multiple, &chosen);
            }
            add_cached::<W, WITH_T>(w, point, &chosen, digits.1)
        },
    )
}

/// `point` plus what was gathered, negated where `minus` is set.
fn add_base<W: Ways, const WITH_T: bool>(
    w: W,
    point: &Point<W>,
    words: &[[u64; WAY_COUNT]; BASE_WORD_COUNT],
    minus: u8,
) -> Point<W> {
    w.run(
        #[inline(always)]
        || {
            let multiple = Affine {
                y_plus_x: field::load(w, &words[..5]),
                y_minus_x: field::load(w, &words[5..10]),
                t_d_twice: field::load(w, &words[10..]),
            };
            add_affine::<W, WITH_T>(w, point, &multiple, minus)
        },
    )
}

/// Eight doublings, two digits of k, one of s.
fn round<W: Ways, const WITH_T: bool>(
    w: W,
    point: &Point<W>,
    table: &[Cached<W>; KEY_MULTIPLE_MAX + 1],
    base: &BaseTable,
    items: &[Prepared; WAY_COUNT],
    index: usize,
) -> Point<W> {
    // Gathered well before it is read: words written one by one are slow to read as a whole at once.
    let (magnitudes, minus) = digits(|way| items[way].scalars.s[index]);
    let words = base.gather(&magnitudes);
    let upper = digits(|way| i16::from(items[way].scalars.k[2 * index + 1]));
    let lower = digits(|way| i16::from(items[way].scalars.k[2 * index]));
    let point = double_times::<W, true>(w, point, 4);
    let point = add_digit::<W, false>(w, &point, table, &upper);
    let point = double_times::<W, true>(w, &point, 4);
    let point = add_digit::<W, true>(w, &point, table, &lower);
    add_base::<W, WITH_T>(w, &point, &words, minus)
}

/// The verdict of each way, one bit each.
pub(super) fn verify<W: Ways>(w: W, base: &BaseTable, items: &[Prepared; WAY_COUNT]) -> u8 {
    let (key_y, key_sign) = load_encodings(w, &items.map(|item| item.key));
    let (commitment_y, commitment_sign) = load_encodings(w, &items.map(|item| item.commitment));
    let [(key, key_valid), (commitment, commitment_valid)] =
        decode_pair(w, &[key_y, commitment_y], [key_sign, commitment_sign]);
    let table = multiples(w, &negative(w, &key));
    let mut point = w.run(
        #[inline(always)]
        || identity(w),
    );
    for index in (1..S_DIGIT_COUNT).rev() {
        point = round::<W, false>(w, &point, &table, base, items, index);
    }
    point = round::<W, true>(w, &point, &table, base, items, 0);
    let residue = sum(w, &point, &cached(w, &negative(w, &commitment)));
    let cleared = double_times::<W, false>(w, &residue, 3);
    identities(w, &cleared) & key_valid & commitment_valid
}
