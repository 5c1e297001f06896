//! Codes of all kinds of stake, stripes that are lost, changed, frozen.

#![expect(clippy::arithmetic_side_effects, reason = "small numbers of tests")]

use proptest::prelude::*;
use quipu_crypto::hash::sha256;
use quipu_types::{PublicKey, Suite, Validator};

use super::*;

fn set(powers: &[u64]) -> ValidatorSet {
    let key = PublicKey::new(Suite::Ed25519Sha256, &[7; 32]).expect("32 bytes");
    let validators =
        powers.iter().map(|power| Validator { key, power: *power, is_stale: false }).collect();
    ValidatorSet { epoch: 0, validators, coin: None }
}

fn code(powers: &[u64], sequencer: u16) -> Option<Code> {
    Code::of(&set(powers), ValidatorIndex::new(sequencer))
}

fn body(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from((at * 7 + at / 251) % 256).expect("below 256")).collect()
}

fn shape(powers: &[u64], sequencer: u16) -> Option<(u16, u16)> {
    code(powers, sequencer).map(|code| (code.count(), code.least()))
}

#[test]
fn equal_validators_have_as_many_stripes_as_others_and_need_those_that_are_honest() {
    assert_eq!(shape(&[1], 0), None);
    assert_eq!(shape(&[1; 2], 0), None);
    assert_eq!(shape(&[1; 3], 0), Some((2, 2)));
    assert_eq!(shape(&[1; 4], 3), Some((3, 2)));
    assert_eq!(shape(&[1; 7], 0), Some((6, 4)));
    assert_eq!(shape(&[1; 16], 0), Some((15, 10)));
    assert_eq!(shape(&[1; 128], 0), Some((127, 85)));
}

#[test]
fn stake_says_how_many_may_be_silent() {
    // Two of the three others have less than a third: one honest one could be all that speaks.
    assert_eq!(shape(&[33, 23, 22, 22], 0), Some((3, 2)));
    assert_eq!(shape(&[100, 1, 1, 1], 0), None);
    assert_eq!(shape(&[9, 5, 5, 4, 4, 3, 2], 0), Some((6, 3)));
    assert_eq!(shape(&[1; 4], 4), None, "nobody has that index");
}

/// A set and one of its validators.
fn sets() -> impl Strategy<Value = (Vec<u64>, u16)> {
    let powers = prop::collection::vec(prop_oneof![0_u64..5, 1_u64..100, Just(u64::MAX)], 1..12);
    powers.prop_flat_map(|powers| {
        let count = u16::try_from(powers.len()).expect("few");
        (Just(powers), 0..count)
    })
}

fn restored(code: &Code, stripes: &[Stripe]) -> Result<Vec<u8>, StripeError> {
    restore(code, stripes.iter().map(|stripe| (stripe.index, stripe.bytes.as_slice())))
}

proptest! {
    /// T1.
    #[test]
    fn every_quorum_without_the_sequencer_holds_enough(
        (powers, sequencer) in sets(), members in any::<u16>(),
    ) {
        let set = set(&powers);
        let chosen = (0_u16..).take(powers.len()).filter(|at| members >> at & 1 == 1);
        let chosen: Vec<ValidatorIndex> = chosen.map(ValidatorIndex::new).collect();
        let is_quorum = set.is_quorum(set.power_of(chosen.iter().copied()));
        if let Some(code) = code(&powers, sequencer).filter(|_| is_quorum) {
            let held = chosen.iter().filter_map(|own| code.index_of(*own)).count();
            prop_assert!(held >= usize::from(code.least()), "{held} of {code:?}");
        }
    }

    #[test]
    fn each_other_validator_has_a_stripe_of_its_own((powers, sequencer) in sets()) {
        let Some(code) = code(&powers, sequencer) else { return Ok(()) };
        for index in 0..code.count() {
            prop_assert_eq!(code.index_of(code.owner(index)), Some(index));
            prop_assert_ne!(code.owner(index).get(), sequencer);
        }
        prop_assert_eq!(code.index_of(ValidatorIndex::new(sequencer)), None);
        prop_assert_eq!(code.index_of(ValidatorIndex::new(code.count() + 1)), None);
    }

    #[test]
    fn any_that_are_enough_restore_the_body_and_fewer_do_not(
        count in 3_usize..20, size in 1_usize..5_000, order in any::<u64>(),
    ) {
        let code = code(&vec![1; count], 1).expect("three or more");
        let body = body(size);
        let (root, mut stripes) = encode(&code, &body);
        for stripe in &stripes {
            prop_assert_eq!(check(&code, &root, stripe), Ok(()));
        }
        // A shuffle that needs no dependency.
        stripes.sort_by_key(|stripe| sha256(&[order.to_le_bytes(), u64::from(stripe.index).to_le_bytes()].concat()));
        stripes.truncate(usize::from(code.least()));
        prop_assert_eq!(restored(&code, &stripes), Ok(body));
        stripes.pop();
        let few = StripeError::Few { count: stripes.len(), least: code.least() };
        prop_assert_eq!(restored(&code, &stripes), Err(few));
    }

    /// T2.
    #[test]
    fn what_is_changed_does_not_prove_itself(
        size in 1_usize..300, at in any::<prop::sample::Index>(), bit in 0_u8..8, path in 0_usize..2,
    ) {
        let code = code(&[1; 4], 0).expect("four");
        let (root, stripes) = encode(&code, &body(size));
        let mut stripe = stripes[0].clone();
        let place = at.index(stripe.bytes.len());
        stripe.bytes[place] ^= 1 << bit;
        prop_assert!(check(&code, &root, &stripe).is_err());
        let mut stripe = stripes[1].clone();
        stripe.path[path].0[0] ^= 1;
        prop_assert_eq!(check(&code, &root, &stripe), Err(StripeError::Path));
        let swapped = Stripe { index: 1, ..stripes[0].clone() };
        // Two parts of one content are each the other.
        let is_same = stripes[0].bytes == stripes[1].bytes;
        let wanted = if is_same { Ok(()) } else { Err(StripeError::Path) };
        prop_assert_eq!(check(&code, &root, &swapped), wanted);
        let beyond = Stripe { index: 3, ..stripes[0].clone() };
        prop_assert_eq!(check(&code, &root, &beyond), Err(StripeError::Index { index: 3, count: 3 }));
        let mut longer = stripes[0].clone();
        longer.bytes.push(0);
        let size = longer.bytes.len();
        prop_assert_eq!(check(&code, &root, &longer), Err(StripeError::Size { size }));
    }

    #[test]
    fn stripes_that_prove_themselves_never_make_it_panic(
        size in 0_u32..40, other in 0_u32..40, content in prop::collection::vec(any::<u8>(), 40),
    ) {
        // A sequencer may sign any root.
        let code = code(&[1; 4], 0).expect("four");
        let stripe = |index: u16, size: u32| {
            let part = usize::try_from(size).expect("small").div_ceil(2).next_multiple_of(2);
            let part = content.get(..part).unwrap_or_default();
            let bytes = [&size.to_le_bytes(), part].concat();
            Stripe { index, bytes, path: Vec::new() }
        };
        let stripes = [stripe(0, size), stripe(2, other)];
        let given = stripes.iter().all(|stripe| check_shape(&code, stripe).is_ok());
        prop_assert_eq!(given, size > 0 && other > 0);
        if given {
            match restored(&code, &stripes) {
                Ok(body) => prop_assert_eq!(body.len(), usize::try_from(size).expect("small")),
                Err(error) => prop_assert_eq!(error, StripeError::Sizes),
            }
        }
    }
}

#[test]
fn the_largest_body_has_the_largest_stripes() {
    let code = code(&[1; 4], 0).expect("four");
    let body = body(CHUNK_BODY_SIZE_MAX);
    let (_, stripes) = encode(&code, &body);
    assert!(stripes.iter().all(|stripe| stripe.bytes.len() == STRIPE_SIZE_MAX));
    assert_eq!(restored(&code, &stripes[1..]), Ok(body));
    let (_, stripes) = encode(&self::code(&[1; 128], 0).expect("many"), &[1]);
    assert!(stripes.iter().all(|stripe| stripe.path.len() <= PATH_COUNT_MAX));
}

/// T4. Another hash here is another format on the wire: validators of the two would not restore each other's bodies.
#[test]
fn stripes_are_frozen() {
    let roots = [(4, 1_000), (7, 65_537), (16, 333_333)].map(|(count, size)| {
        let code = code(&vec![1; count], 0).expect("enough");
        encode(&code, &body(size)).0.to_string()
    });
    expect_test::expect![[r#"
        0c81a9b7b6782c148697acf5ed8e2e597fe585b69c0f6faaca260c70d478f93c
        1650ed33a5af0d7c995f102bde155dd458f1478323541702e21a200f0dde41a1
        d87620fa7cf8b21258a8dd11ceb99bc93a030be15e6a4a1c15457a9b8d7e6be0"#]]
    .assert_eq(&roots.join("\n"));
}
