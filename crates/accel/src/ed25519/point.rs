//! Points of the curve `-x^2 + y^2 = 1 + d x^2 y^2`, eight at once.
//!
//! Source: Hisil, Wong, Carter, Dawson, "Twisted Edwards curves revisited" (2008): extended coordinates, additions by
//! section 3.1, doublings by section 3.3. Since -1 is a square mod p and d is none, the addition is complete: it is
//! right for every pair of points of the curve, those of small order included.
//!
//! ```text
//!  Point    x = X/Z, y = Y/Z, T = XY/Z        what is doubled and added to
//!  Cached   Y + X, Y - X, 2 Z, 2 d T          what is added; its negative swaps the first two and the sign of the last
//!  Affine   y + x, y - x,      2 d x y        the same for Z = 1
//! ```
//! # Invariants
//! * P1 Every coordinate that a function takes or gives is tight (`field`). A comment beside each sum that is not
//!   carried at once says what it stays below.
//! * P2 A point's T is right unless it came from a function called with `WITH_T` false; only doublings take those.

use super::field::{
    self, D, D_TWICE, Element, ONE, add, add_wide, mul, mul_twice, select, splat, square, sub,
    sub_wide,
};
use crate::many::ways::Ways;

/// Eight points.
#[derive(Clone, Copy)]
pub(super) struct Point<W: Ways> {
    pub(super) x: Element<W>,
    pub(super) y: Element<W>,
    pub(super) z: Element<W>,
    pub(super) t: Element<W>,
}

/// Eight points in the form that is added to others.
#[derive(Clone, Copy)]
pub(super) struct Cached<W: Ways> {
    y_plus_x: Element<W>,
    y_minus_x: Element<W>,
    z_twice: Element<W>,
    t_d_twice: Element<W>,
}

/// Eight points in the form that is added to others, of denominator 1.
#[derive(Clone, Copy)]
pub(super) struct Affine<W: Ways> {
    pub(super) y_plus_x: Element<W>,
    pub(super) y_minus_x: Element<W>,
    pub(super) t_d_twice: Element<W>,
}

/// The neutral point in every way.
#[inline(always)]
pub(super) fn identity<W: Ways>(w: W) -> Point<W> {
    let (zero, one) = (splat(w, &[0; 5]), splat(w, &ONE));
    Point { x: zero, y: one, z: one, t: zero }
}

/// Where the point is neutral: x = 0 and y = 1.
pub(super) fn identities<W: Ways>(w: W, point: &Point<W>) -> u8 {
    w.run(
        #[inline(always)]
        || field::zeroes(w, &point.x) & field::zeroes(w, &sub_wide(w, &point.y, &point.z)),
    )
}

/// The points that two encodings per way stand for, and where they do.
///
/// ZIP-215: y is taken mod p whatever it is, and the sign bit is obeyed where x is not 0, ignored where it is.
pub(super) fn decode_pair<W: Ways>(
    w: W,
    y: &[Element<W>; 2],
    sign: [u8; 2],
) -> [(Point<W>, u8); 2] {
    let ratio = |index: usize| {
        w.run(
            #[inline(always)]
            || {
                let one = splat(w, &ONE);
                let squared = square(w, if index == 0 { &y[0] } else { &y[1] });
                (sub(w, &squared, &one), add(w, &mul(w, &squared, &splat(w, &D)), &one))
            },
        )
    };
    let ((u_0, v_0), (u_1, v_1)) = (ratio(0), ratio(1));
    let [root_0, root_1] = field::root_of_ratio_pair(w, &[u_0, u_1], &[v_0, v_1]);
    [
        (with_sign(w, &root_0.0, &y[0], sign[0]), root_0.1),
        (with_sign(w, &root_1.0, &y[1], sign[1]), root_1.1),
    ]
}

/// The point of this y and one of `root` and `-root`: that which is odd where `sign` is set.
fn with_sign<W: Ways>(w: W, root: &Element<W>, y: &Element<W>, sign: u8) -> Point<W> {
    w.run(
        #[inline(always)]
        || {
            let negative = sub(w, &splat(w, &[0; 5]), root);
            let x = select(w, field::odd(w, root) ^ sign, &negative, root);
            Point { x, y: *y, z: splat(w, &ONE), t: mul(w, &x, y) }
        },
    )
}

/// `-point`.
pub(super) fn negative<W: Ways>(w: W, point: &Point<W>) -> Point<W> {
    w.run(
        #[inline(always)]
        || {
            let zero = splat(w, &[0; 5]);
            Point { x: sub(w, &zero, &point.x), t: sub(w, &zero, &point.t), ..*point }
        },
    )
}

/// `2 point`; does not read T.
#[inline(always)]
fn doubled<W: Ways, const WITH_T: bool>(w: W, point: &Point<W>) -> Point<W> {
    let xx = square(w, &point.x);
    let yy = square(w, &point.y);
    let zz = square(w, &point.z);
    // F and H have the other sign than in the paper, so all four coordinates do: the same point.
    let e = mul_twice(w, &point.x, &point.y);
    let f = sub(w, &add_wide(w, &add_wide(w, &zz, &zz), &xx), &yy); // below 2^55 before
    let g = sub(w, &yy, &xx);
    let h = add(w, &xx, &yy);
    from_factors::<W, WITH_T>(w, &e, &f, &g, &h)
}

#[inline(always)]
fn from_factors<W: Ways, const WITH_T: bool>(
    w: W,
    e: &Element<W>,
    f: &Element<W>,
    g: &Element<W>,
    h: &Element<W>,
) -> Point<W> {
    Point {
        x: mul(w, e, f),
        y: mul(w, g, h),
        z: mul(w, f, g),
        t: if WITH_T { mul(w, e, h) } else { *e },
    }
}

/// `2^count point` for `count` of at least 1, with T if `WITH_T`.
pub(super) fn double_times<W: Ways, const WITH_T: bool>(
    w: W,
    point: &Point<W>,
    count: u32,
) -> Point<W> {
    w.run(
        #[inline(always)]
        || {
            let mut point = *point;
            for _ in 1..count {
                point = doubled::<W, false>(w, &point);
            }
            doubled::<W, WITH_T>(w, &point)
        },
    )
}

/// The form of `point` that is added.
pub(super) fn cached<W: Ways>(w: W, point: &Point<W>) -> Cached<W> {
    w.run(
        #[inline(always)]
        || Cached {
            y_plus_x: add(w, &point.y, &point.x),
            y_minus_x: sub(w, &point.y, &point.x),
            z_twice: add(w, &point.z, &point.z),
            t_d_twice: mul(w, &point.t, &splat(w, &D_TWICE)),
        },
    )
}

/// The form of `point`, whose Z is 1, that is added.
pub(super) fn affine<W: Ways>(w: W, point: &Point<W>) -> Affine<W> {
    let cached = cached(w, point);
    Affine { y_plus_x: cached.y_plus_x, y_minus_x: cached.y_minus_x, t_d_twice: cached.t_d_twice }
}

/// The parts of an addition that depend on both points; `d` is `2 Z1 Z2`, at most twice a tight number.
#[inline(always)]
fn add_parts<W: Ways, const WITH_T: bool>(
    w: W,
    point: &Point<W>,
    other: &Affine<W>,
    d: &Element<W>,
    minus: u8,
) -> Point<W> {
    let plus = select(w, minus, &other.y_minus_x, &other.y_plus_x);
    let difference = select(w, minus, &other.y_plus_x, &other.y_minus_x);
    let a = mul(w, &sub(w, &point.y, &point.x), &difference);
    let b = mul(w, &add(w, &point.y, &point.x), &plus);
    let c = mul(w, &point.t, &other.t_d_twice);
    let e = sub(w, &b, &a);
    let h = add(w, &b, &a);
    // A negated point has the other sign of c, which swaps f and g.
    let (d_minus_c, d_plus_c) = (sub(w, d, &c), add(w, d, &c)); // below 2^54 before
    let f = select(w, minus, &d_plus_c, &d_minus_c);
    let g = select(w, minus, &d_minus_c, &d_plus_c);
    from_factors::<W, WITH_T>(w, &e, &f, &g, &h)
}

/// `point + other`, `point - other` where `minus` is set.
#[inline(always)]
pub(super) fn add_cached<W: Ways, const WITH_T: bool>(
    w: W,
    point: &Point<W>,
    other: &Cached<W>,
    minus: u8,
) -> Point<W> {
    let affine =
        Affine { y_plus_x: other.y_plus_x, y_minus_x: other.y_minus_x, t_d_twice: other.t_d_twice };
    add_parts::<W, WITH_T>(w, point, &affine, &mul(w, &point.z, &other.z_twice), minus)
}

/// The same for a denominator of 1.
#[inline(always)]
pub(super) fn add_affine<W: Ways, const WITH_T: bool>(
    w: W,
    point: &Point<W>,
    other: &Affine<W>,
    minus: u8,
) -> Point<W> {
    add_parts::<W, WITH_T>(w, point, other, &add_wide(w, &point.z, &point.z), minus)
}

/// `point + other`.
pub(super) fn sum<W: Ways>(w: W, point: &Point<W>, other: &Cached<W>) -> Point<W> {
    w.run(
        #[inline(always)]
        || add_cached::<W, true>(w, point, other, 0),
    )
}

/// `other` where its magnitude is `index`, else what was chosen before.
#[inline(always)]
pub(super) fn choose<W: Ways>(w: W, mask: u8, other: &Cached<W>, before: &Cached<W>) -> Cached<W> {
    Cached {
        y_plus_x: select(w, mask, &other.y_plus_x, &before.y_plus_x),
        y_minus_x: select(w, mask, &other.y_minus_x, &before.y_minus_x),
        z_twice: select(w, mask, &other.z_twice, &before.z_twice),
        t_d_twice: select(w, mask, &other.t_d_twice, &before.t_d_twice),
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;
    use curve25519_dalek::edwards::CompressedEdwardsY;
    use curve25519_dalek::traits::Identity;
    use curve25519_dalek::{EdwardsPoint, Scalar};

    use super::super::kernel::load_encodings;
    use super::*;
    use crate::many::on_each_ways;
    use crate::many::ways::WAY_COUNT;

    type Eight = [EdwardsPoint; WAY_COUNT];

    /// Points of every kind: neutral, of small order, of the large order, and sums of those.
    fn eight(random: &mut fastrand::Rng) -> Eight {
        std::array::from_fn(|_| {
            let large = EdwardsPoint::mul_base(&Scalar::from(random.u128(..)));
            let small = EIGHT_TORSION[random.usize(0..8)];
            match random.u8(0..4) {
                0 => small,
                1 => large,
                2 => EdwardsPoint::identity(),
                _ => large + small,
            }
        })
    }

    fn loaded<W: Ways>(w: W, points: &Eight) -> Point<W> {
        let encodings = points.map(|point| point.compress().to_bytes());
        let (y, sign) = load_encodings(w, &encodings);
        let [(point, valid), _] = decode_pair(w, &[y, y], [sign, sign]);
        assert_eq!(valid, u8::MAX, "what compress gives decodes");
        point
    }

    /// Whether the coordinates are those of `expected`, T included if `with_t`.
    fn check<W: Ways>(w: W, point: &Point<W>, expected: &Eight, with_t: bool) {
        let affine = loaded(w, expected);
        let same = |a: &Element<W>, b: &Element<W>| {
            w.run(|| field::zeroes(w, &sub_wide(w, a, &mul(w, b, &point.z)))) == u8::MAX
        };
        assert!(same(&point.x, &affine.x), "x is that of the oracle");
        assert!(same(&point.y, &affine.y), "y is that of the oracle");
        assert!(!with_t || same(&point.t, &affine.t), "T is x y Z");
    }

    #[test]
    fn sums_doubles_and_negatives_are_those_of_the_oracle_for_points_of_every_order() {
        let mut random = fastrand::Rng::with_seed(1);
        for round in 0..40 {
            let (a, mut b) = (eight(&mut random), eight(&mut random));
            match round % 4 {
                0 => b = a,
                1 => b = a.map(|point| -point),
                _ => {}
            }
            let plus: Eight = std::array::from_fn(|way| a[way] + b[way]);
            let minus: Eight = std::array::from_fn(|way| a[way] - b[way]);
            let mixed: Eight =
                std::array::from_fn(|way| if way % 2 == 0 { minus[way] } else { plus[way] });
            on_each_ways!(w => {
                let (wide_a, wide_b) = (loaded(w, &a), loaded(w, &b));
                check(w, &negative(w, &wide_a), &a.map(|point| -point), true);
                check(w, &double_times::<_, true>(w, &wide_a, 1), &a.map(|p| p + p), true);
                let eightfold = a.map(|point| point.mul_by_cofactor());
                check(w, &double_times::<_, false>(w, &wide_a, 3), &eightfold, false);
                // A denominator that is not 1, the same point.
                let shifted = sum(w, &wide_a, &cached(w, &wide_b));
                check(w, &shifted, &plus, true);
                let back = sum(w, &shifted, &cached(w, &negative(w, &wide_b)));
                check(w, &back, &a, true);
                let added = w.run(|| add_cached::<_, true>(w, &back, &cached(w, &wide_b), 0x55));
                check(w, &added, &mixed, true);
                let added = w.run(|| add_affine::<_, true>(w, &back, &affine(w, &wide_b), 0x55));
                check(w, &added, &mixed, true);
            });
        }
    }

    /// Coordinates that are no point, with every limb at the end of what is tight.
    fn extreme<W: Ways>(w: W) -> Point<W> {
        let top = splat(w, &[(1 << 51) + (1 << 15) - 1; 5]);
        Point { x: top, y: top, z: top, t: top }
    }

    fn stored<W: Ways>(w: W, points: &[Point<W>]) -> Vec<[u64; WAY_COUNT]> {
        let coordinates = points.iter().flat_map(|point| [point.x, point.y, point.z, point.t]);
        coordinates.flat_map(|coordinate| coordinate.0.map(|limb| w.store(limb))).collect()
    }

    /// The twin asserts each bound on the way; the hardware must end where the twin does.
    #[test]
    fn formulas_keep_their_bounds_where_every_limb_is_at_its_end() {
        let mut results = Vec::new();
        on_each_ways!(w => {
            let top = extreme(w);
            let zero = w.run(|| splat(w, &[0; 5]));
            let bottom = Point { x: zero, y: zero, z: zero, t: zero };
            let mut points = Vec::new();
            for point in [top, bottom] {
                points.push(negative(w, &point));
                points.push(double_times::<_, true>(w, &point, 1));
                for other in [top, bottom] {
                    let (cached, affine) = (cached(w, &other), affine(w, &other));
                    points.push(w.run(|| add_cached::<_, true>(w, &point, &cached, 0x0f)));
                    points.push(w.run(|| add_affine::<_, true>(w, &point, &affine, 0x0f)));
                }
            }
            let mixed = Point { x: top.x, y: zero, z: zero, t: top.t };
            points.push(double_times::<_, true>(w, &mixed, 1));
            points.push(double_times::<_, true>(w, &Point { x: zero, y: top.y, ..top }, 1));
            results.push(stored(w, &points));
        });
        assert!(results.iter().all(|result| *result == results[0]), "all end at the same limbs");
        let tight = |limb: &u64| *limb < (1 << 51) + (1 << 15);
        assert!(results[0].iter().flatten().all(tight), "all results are tight");
    }

    #[test]
    fn neutral_points_are_told_from_those_of_small_order() {
        on_each_ways!(w => {
            let point = loaded(w, &EIGHT_TORSION);
            assert_eq!(identities(w, &point), 1, "the first of them is neutral, no other is");
            let cleared = double_times::<_, false>(w, &point, 3);
            assert_eq!(identities(w, &cleared), u8::MAX);
            assert_eq!(identities(w, &w.run(|| identity(w))), u8::MAX);
        });
    }

    #[test]
    fn the_bytes_that_decode_are_those_of_the_oracle_and_give_the_same_points() {
        let mut random = fastrand::Rng::with_seed(2);
        for round in 0..60 {
            let encodings: [[u8; 32]; WAY_COUNT] = std::array::from_fn(|way| {
                let mut bytes: [u8; 32] = std::array::from_fn(|_| random.u8(..));
                if round < 20 {
                    // p - 10 to p + 18 and below 20, with either sign: the ends of the field.
                    let low = u8::try_from(round + way).expect("below 28");
                    bytes = if random.bool() { [0; 32] } else { [0xff; 32] };
                    bytes[0] = if bytes[0] == 0 { low } else { 0xff - low };
                    bytes[31] ^= random.u8(0..2) << 7;
                }
                bytes
            });
            let oracle = encodings.map(|bytes| CompressedEdwardsY(bytes).decompress());
            let expected: Eight = oracle.map(|point| point.unwrap_or(EdwardsPoint::identity()));
            let expected_valid =
                (0..WAY_COUNT).fold(0, |mask, way| mask | u8::from(oracle[way].is_some()) << way);
            on_each_ways!(w => {
                let (y, sign) = load_encodings(w, &encodings);
                let [(first, first_valid), (second, second_valid)] =
                    decode_pair(w, &[y, y], [sign, sign ^ u8::MAX]);
                assert_eq!(first_valid, expected_valid, "{encodings:02x?}");
                assert_eq!(second_valid, expected_valid, "the sign does not matter");
                let valid_or_neutral = |point: &Point<_>| w.run(|| {
                    let neutral = identity(w);
                    Point {
                        x: select(w, first_valid, &point.x, &neutral.x),
                        y: select(w, first_valid, &point.y, &neutral.y),
                        z: point.z,
                        t: select(w, first_valid, &point.t, &neutral.t),
                    }
                });
                check(w, &valid_or_neutral(&first), &expected, true);
                check(w, &negative(w, &valid_or_neutral(&second)), &expected, true);
            });
        }
    }
}
