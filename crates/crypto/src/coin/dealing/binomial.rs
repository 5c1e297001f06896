//! Polynomials by their differences at 0: `f(x) = Σ c_k · C(x, k)`, where `c_k` is the k-th difference.
//!
//! Newton's forward differences: those at `x` become those at `x + 1` by adding each to the one before it. Values at
//! 1, 2, 3, … cost additions alone, whether of numbers or of points, where Horner's rule multiplies.
//!
//! ```text
//!  at 0:  c0  c1  c2  c3 ...        c0 = f(0)
//!  at 1:  c0+c1  c1+c2  c2+c3 ...   the first is f(1)
//! ```
//! # Invariants
//! * No branch and no address depends on a value.
//! * Polynomials of a degree below the groups' order have one list of differences and one of coefficients: `count`
//!   differences say a degree below `count`, and uniform differences are a uniform polynomial.

use super::super::field::Scalar;

/// The values at 1 to `last` of the polynomial of these differences, which are used up.
pub(super) fn values<T: Copy, V>(
    differences: &mut [T],
    last: usize,
    add: impl Fn(&mut T, &T),
    value: impl Fn(&T) -> V,
) -> Vec<V> {
    let mut values = Vec::with_capacity(last);
    for left in (0..last).rev() {
        // What later values do not depend on is left behind.
        let needed = differences.len().min(left.saturating_add(2));
        let needed = differences.get_mut(..needed).expect("at most all");
        advance(needed, &add);
        values.extend(needed.first().map(&value));
    }
    values
}

/// Differences at `x` become those at `x + 1`.
fn advance<T: Copy>(differences: &mut [T], add: impl Fn(&mut T, &T)) {
    let mut rest = differences;
    while let [first, others @ ..] = rest {
        if let Some(second) = others.first() {
            add(first, second);
        }
        rest = others;
    }
}

/// What each of `count` differences counts for in `Σ weight · f(x)`, for the weights of x = 1, 2, …: [`values`],
/// transposed.
pub(super) fn coefficients(weights: &[Scalar], count: usize) -> Vec<Scalar> {
    let mut sums = vec![Scalar::ZERO; count];
    for weight in weights.iter().rev() {
        if let Some(first) = sums.first_mut() {
            *first = first.plus(*weight);
        }
        let mut below = Scalar::ZERO;
        for sum in &mut sums {
            let old = *sum;
            *sum = old.plus(below);
            below = old;
        }
    }
    sums
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `C(x, k)`, by Pascal's rule.
    fn binomial(x: usize, k: usize) -> u128 {
        let mut row = vec![1_u128];
        for _ in 0..x {
            let next = row.windows(2).map(|pair| pair[0] + pair[1]);
            row = std::iter::once(1).chain(next).chain([1]).collect();
        }
        row.get(k).copied().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn values_and_weighed_values_are_those_of_the_binomial_sum(
            differences in prop::collection::vec(any::<u64>(), 1..20),
            weights in prop::collection::vec(any::<u64>(), 0..30),
        ) {
            let scalar = |number: &u64| Scalar::new(u128::from(*number));
            let differences: Vec<Scalar> = differences.iter().map(scalar).collect();
            let weights: Vec<Scalar> = weights.iter().map(scalar).collect();
            let value = |x: usize| {
                let terms = differences.iter().enumerate();
                terms.fold(Scalar::ZERO, |sum, (k, difference)| {
                    sum.plus(difference.times(Scalar::new(binomial(x, k))))
                })
            };
            let expected: Vec<Scalar> = (1..=weights.len()).map(value).collect();
            let add = |to: &mut Scalar, from: &Scalar| *to = to.plus(*from);
            let found = values(&mut differences.clone(), weights.len(), add, |value| *value);
            prop_assert!(found == expected);
            let dot = |a: &[Scalar], b: &[Scalar]| {
                a.iter().zip(b).fold(Scalar::ZERO, |sum, (a, b)| sum.plus(a.times(*b)))
            };
            let counts = coefficients(&weights, differences.len());
            prop_assert!(dot(&counts, &differences) == dot(&weights, &expected));
        }
    }
}
