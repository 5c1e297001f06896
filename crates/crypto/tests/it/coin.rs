//! The coin: shares by stake, one coin whatever parts make it, who is named when parts are wrong, junk refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use blst::MultiPoint as _;
use blst::min_sig::{AggregateSignature, PublicKey, Signature};
use expect_test::expect;
use proptest::prelude::*;
use quipu_crypto::coin::{
    CoinError, CoinMemory, CoinScheme, CoinSecret, Combined, deal, share_counts, threshold, verify,
};
use quipu_crypto::sha256;
use quipu_types::{Coin, CoinKey, CoinPart, CoinSetup, Encode as _, ValidatorIndex};

use crate::bytes;

const POWERS: [u64; 4] = [4, 3, 2, 1];
const MESSAGE: &[u8] = b"chain, epoch, height, round";

type Given = BTreeMap<ValidatorIndex, Vec<CoinPart>>;

fn world(powers: &[u64]) -> (CoinSetup, CoinScheme, Vec<CoinSecret>) {
    let (setup, secrets) = deal(powers, &[7; 32]);
    let scheme = CoinScheme::new(&setup, powers).unwrap();
    (setup, scheme, secrets)
}

fn index(place: usize) -> ValidatorIndex {
    ValidatorIndex::new(u16::try_from(place).unwrap())
}

/// What the validators whose bit is set in `mask` give.
fn given(secrets: &[CoinSecret], mask: usize) -> Given {
    let signing = secrets.iter().enumerate().filter(|(place, _)| mask >> place & 1 == 1);
    signing.map(|(place, secret)| (index(place), secret.sign(MESSAGE))).collect()
}

/// The order of the groups, least byte first.
fn order() -> [u8; 32] {
    bytes("01000000fffffffffe5bfeff02a4bd5305d8a10908d83933487d9d2953a7ed73")
}

/// `x` as a compressed point of G1, if it is one.
fn at(x: u8) -> Option<Signature> {
    let mut bytes = [0; 48];
    (bytes[0], bytes[47]) = (0x80, x);
    Signature::from_bytes(&bytes).ok()
}

/// A point of order 3: of the curve, outside its group.
fn of_order_3() -> Signature {
    // The curve has r·h points, and 3 divides h once: r·h/3 times any point has order 3 or 1.
    let cofactor = bytes::<16>("398e55558ee3aa2e72a01cc7aa2e2413");
    let multiple = |point: Signature| {
        let point = [point].mult(&order(), 255).to_signature();
        [point].mult(&cofactor, 128).to_signature()
    };
    let mut points = (1..).filter_map(at).map(multiple);
    points.find(|point| point.to_bytes() != identity().0).unwrap()
}

/// A point of the curve outside its group.
fn outside() -> CoinPart {
    let point = (1..).filter_map(at).find(|point| point.validate(true).is_err()).unwrap();
    CoinPart(point.to_bytes())
}

/// The identity of G1.
fn identity() -> CoinPart {
    let mut bytes = [0; 48];
    bytes[0] = 0xc0;
    CoinPart(bytes)
}

/// `part` and the point of order 3: a pairing cannot always tell them apart.
fn shifted(part: &[u8; 48]) -> [u8; 48] {
    let part = Signature::from_bytes(part).unwrap();
    let mut sum = AggregateSignature::from_signature(&part);
    sum.add_signature(&of_order_3(), false).unwrap();
    sum.to_signature().to_bytes()
}

#[test]
fn the_points_outside_are_what_the_tests_take_them_for() {
    let point = of_order_3();
    assert_eq!([point, point, point].add().to_signature().to_bytes(), identity().0);
    assert_ne!(point.to_bytes(), identity().0);
    assert!(point.validate(true).is_err() && Signature::from_bytes(&outside().0).is_ok());
}

proptest! {
    #[test]
    fn shares_follow_power_and_every_coalition_stays_on_its_side_of_the_threshold(
        powers in prop::collection::vec(prop_oneof![0..9_u64, any::<u64>(), Just(u64::MAX)], 1..=128),
        lone in any::<prop::sample::Index>(),
        mask in any::<u128>(),
    ) {
        let mut powers = powers;
        let place = lone.index(powers.len());
        powers[place] = powers[place].max(1);
        let counts: Vec<u64> = share_counts(&powers).into_iter().map(u64::from).collect();
        let (all, least) = (counts.iter().sum::<u64>(), u64::try_from(threshold(powers.len())).unwrap());
        prop_assert_eq!(all, u64::try_from(powers.len()).unwrap() * 6 + 1);
        prop_assert_eq!(least, all.div_ceil(2));
        let total: u128 = powers.iter().map(|power| u128::from(*power)).sum();
        for (count, power) in counts.iter().zip(&powers) {
            let (held, due) = (u128::from(*count) * total, u128::from(*power) * u128::from(all));
            prop_assert!(held.abs_diff(due) < total, "{} shares for {} of {}", count, power, total);
        }
        let chosen = |place: &usize| mask >> place & 1 == 1;
        let held: u64 = (0..powers.len()).filter(chosen).map(|place| counts[place]).sum();
        let power: u128 = (0..powers.len()).filter(chosen).map(|place| u128::from(powers[place])).sum();
        if power * 3 < total {
            prop_assert!(held < least);
        }
        if power * 3 > total * 2 {
            prop_assert!(held >= least);
        }
    }
}

#[test]
fn ties_go_to_the_lower_index_and_tiny_powers_may_get_nothing() {
    assert_eq!(share_counts(&[1; 4]), [7, 6, 6, 6]);
    assert_eq!(share_counts(&POWERS), [10, 8, 5, 2]);
    assert_eq!(share_counts(&[1_000, 1, 1_000, 0]), [13, 0, 12, 0]);
    assert_eq!(share_counts(&[3]), [7]);
}

#[test]
fn every_coalition_of_a_threshold_makes_the_same_coin_and_no_smaller_one_makes_any() {
    let (_, scheme, secrets) = world(&POWERS);
    let counts = share_counts(&POWERS);
    let Combined::Coin(coin) = scheme.combine(MESSAGE, &given(&secrets, 0b1111)) else {
        panic!("all together make the coin");
    };
    for mask in 0..16 {
        let held: u16 = (0..4).filter(|place| mask >> place & 1 == 1).map(|at| counts[at]).sum();
        let expected =
            if usize::from(held) < threshold(4) { Combined::TooFew } else { Combined::Coin(coin) };
        assert_eq!(scheme.combine(MESSAGE, &given(&secrets, mask)), expected, "{mask:04b}");
    }
    assert!(verify(&scheme.key(), MESSAGE, &coin) && scheme.verify(MESSAGE, &coin));
    assert!(!verify(&scheme.key(), b"another", &coin) && !scheme.verify(b"another", &coin));
    assert!(!verify(&world(&[1, 1]).1.key(), MESSAGE, &coin));
}

#[test]
fn a_memory_changes_no_part_and_no_verdict() {
    let (_, scheme, secrets) = world(&POWERS);
    let memory = Arc::new(CoinMemory::new(64));
    let remembering = scheme.clone().with_memory(Arc::clone(&memory));
    let honest = given(&secrets, 0b1111);
    let known: Vec<CoinSecret> = secrets
        .iter()
        .enumerate()
        .map(|(place, secret)| {
            let secret = CoinSecret::from_bytes(&secret.to_bytes()).unwrap();
            secret.with_memory(index(place), Arc::clone(&memory))
        })
        .collect();
    let mut words = vec![honest.clone()];
    words.extend((0..16).map(|mask| given(&secrets, mask)));
    for (_, parts) in spoilt(&honest[&index(0)], &secrets[3].sign(MESSAGE)) {
        words.push(honest.clone().into_iter().chain([(index(0), parts)]).collect());
    }
    // With nothing known, with the coin, with the coin and the parts.
    for round in 0..3 {
        for word in &words {
            let combined = remembering.combine(MESSAGE, word);
            assert_eq!(combined, scheme.combine(MESSAGE, word), "round {round}");
        }
        if round > 0 {
            assert_eq!(given(&known, 0b1111), honest);
        }
    }
    assert_eq!(known[0].sign(b"another"), secrets[0].sign(b"another"));
}

#[test]
fn one_validator_alone_and_one_without_shares_have_coins_too() {
    for powers in [vec![5], vec![1_000, 1, 1_000]] {
        let (_, scheme, secrets) = world(&powers);
        let combined = scheme.combine(MESSAGE, &given(&secrets, 0b111));
        assert!(matches!(combined, Combined::Coin(coin) if verify(&scheme.key(), MESSAGE, &coin)));
    }
    let (_, scheme, secrets) = world(&[1_000, 1, 1_000]);
    assert!(secrets[1].sign(MESSAGE).is_empty());
    assert!(scheme.verify_parts(index(1), MESSAGE, &[]));
    assert!(!scheme.verify_parts(index(1), MESSAGE, &secrets[0].sign(MESSAGE)[..1]));
}

/// Ways to give wrong parts, of a validator that holds at least two.
fn spoilt(parts: &[CoinPart], other: &[CoinPart]) -> Vec<(&'static str, Vec<CoinPart>)> {
    let with = |part: CoinPart| {
        let mut wrong = parts.to_vec();
        wrong[1] = part;
        wrong
    };
    let mut swapped = parts.to_vec();
    swapped.swap(0, 1);
    vec![
        ("another's part", with(other[0])),
        ("one part twice", with(parts[0])),
        ("two parts swapped: their sum is right", swapped),
        ("the identity", with(identity())),
        ("a point outside the group", with(outside())),
        ("a part moved outside the group", with(CoinPart(shifted(&parts[1].0)))),
        ("no point", with(CoinPart([0xff; 48]))),
        ("not compressed", with(CoinPart([0; 48]))),
        ("a part too few", parts[1..].to_vec()),
        ("a part too many", [parts, &other[..1]].concat()),
        ("nothing", Vec::new()),
    ]
}

#[test]
fn who_gives_a_wrong_part_is_named_and_nobody_else() {
    let (_, scheme, secrets) = world(&POWERS);
    let honest = given(&secrets, 0b1111);
    let other = secrets[3].sign(MESSAGE);
    for (what, parts) in spoilt(&honest[&index(0)], &other) {
        assert!(!scheme.verify_parts(index(0), MESSAGE, &parts), "{what}");
        let mut given = honest.clone();
        given.insert(index(0), parts);
        let combined = scheme.combine(MESSAGE, &given);
        assert_eq!(combined, Combined::Wrong(vec![index(0)]), "{what}");
        given.remove(&index(0));
        assert!(matches!(scheme.combine(MESSAGE, &given), Combined::Coin(_)));
    }
    for (place, secret) in secrets.iter().enumerate() {
        assert!(scheme.verify_parts(index(place), MESSAGE, &secret.sign(MESSAGE)));
        assert!(!scheme.verify_parts(index(place), MESSAGE, &secret.sign(b"another")));
    }
}

#[test]
fn several_wrong_ones_and_strangers_are_all_named() {
    let (_, scheme, secrets) = world(&POWERS);
    let mut given = given(&secrets, 0b1111);
    for place in [0, 3] {
        given.insert(index(place), secrets[place].sign(b"another"));
    }
    assert_eq!(scheme.combine(MESSAGE, &given), Combined::Wrong(vec![index(0), index(3)]));
    given.insert(index(4), Vec::new());
    assert_eq!(scheme.combine(MESSAGE, &given), Combined::Wrong(vec![index(4)]));
}

#[test]
fn dealing_is_a_function_of_powers_and_seed() {
    let (setup, secrets) = deal(&POWERS, &[7; 32]);
    let (again, secrets_again) = deal(&POWERS, &[7; 32]);
    assert_eq!(setup, again);
    assert_ne!(setup.key, deal(&POWERS, &[8; 32]).0.key);
    let scheme = CoinScheme::new(&setup, &POWERS).unwrap();
    for (place, (secret, again)) in secrets.iter().zip(&secrets_again).enumerate() {
        assert_eq!(*secret.to_bytes(), *again.to_bytes());
        let read = CoinSecret::from_bytes(&secret.to_bytes()).unwrap();
        assert!(scheme.fits(index(place), &read) && !scheme.fits(index(place ^ 1), &read));
        assert!(!scheme.fits(index(4), &read));
    }
    expect!["CoinSecret { share_count: 10, .. }"].assert_eq(&format!("{:?}", secrets[0]));
}

#[test]
fn what_is_dealt_and_what_coins_are_is_frozen() {
    let (setup, scheme, secrets) = world(&POWERS);
    let Combined::Coin(coin) = scheme.combine(MESSAGE, &given(&secrets, 0b1111)) else {
        panic!("all together make the coin");
    };
    expect![[r#"
        setup 92a97de0654c89ebd7f4cc96157f952c0f18e101f71b441492306ae99e67c66d
        secret ca83ffaeea1fc29bf500a3fbf092202f595e7247eb3b03c12d9000d01e817ab4
        part b895cf69b0cd31aabf91525a0ca11fb358aff7496ed8db440e830c9db2779e6e0051dc96d3502044625c3dff732d04ab
        coin 951fb3999359e7504b90d610fad1d9519cda34330df48e51f34c9db87625eb7f310bc048d12a4fb711d9a38b43511503
        elects 3
    "#]].assert_eq(&format!(
        "setup {}\nsecret {}\npart {}\ncoin {coin}\nelects {}\n",
        sha256(&setup.to_bytes()),
        sha256(&secrets[0].to_bytes()),
        secrets[0].sign(MESSAGE)[0],
        scheme.elect(&coin),
    ));
}

#[test]
fn a_setup_of_keys_that_do_not_belong_together_is_refused() {
    let (setup, _) = deal(&POWERS, &[7; 32]);
    let refused = |change: &dyn Fn(&mut CoinSetup)| {
        let mut setup = setup.clone();
        change(&mut setup);
        CoinScheme::new(&setup, &POWERS).unwrap_err()
    };
    assert_eq!(refused(&|setup| setup.parts.swap(3, 4)), CoinError::Inconsistent);
    assert_eq!(refused(&|setup| setup.parts[24] = setup.parts[0]), CoinError::Inconsistent);
    assert_eq!(refused(&|setup| setup.key = setup.parts[0]), CoinError::Inconsistent);
    // Of a higher degree: 25 points of a polynomial that 16 determine, where 13 should.
    let higher = deal(&[1; 5], &[7; 32]).0;
    assert_eq!(
        refused(&|setup| (setup.key, setup.parts) = (higher.key, higher.parts[..25].to_vec())),
        CoinError::Inconsistent
    );
    let count = CoinError::PartCount { found: 24, wanted: 25 };
    assert_eq!(refused(&|setup| setup.parts.truncate(24)), count);
    let scheme = |powers: &[u64]| CoinScheme::new(&setup, powers).unwrap_err();
    assert_eq!(scheme(&[]), CoinError::ValidatorCount { count: 0 });
    assert_eq!(scheme(&[1; 129]), CoinError::ValidatorCount { count: 129 });
    assert_eq!(scheme(&[0; 4]), CoinError::NoPower);
}

#[test]
fn keys_that_are_no_points_of_the_group_are_refused() {
    let (setup, scheme, secrets) = world(&POWERS);
    let Combined::Coin(coin) = scheme.combine(MESSAGE, &given(&secrets, 0b1111)) else {
        panic!("all together make the coin");
    };
    let with_first = |first: u8, last: u8| {
        let mut bytes = [0; 96];
        (bytes[0], bytes[95]) = (first, last);
        bytes
    };
    let on_curve = |bytes: &[u8; 96]| PublicKey::from_bytes(bytes).is_ok();
    let stray = (0..).map(|x| with_first(0x80, x)).find(on_curve).unwrap();
    let mut keys = vec![stray, [0; 96], [0xff; 96], with_first(0xc0, 0), with_first(0xc0, 1)];
    // The group's key, moved by a point whose order is prime to the group's.
    let stray = [PublicKey::from_bytes(&stray).unwrap()].mult(&order(), 255).to_public_key();
    let sum = [PublicKey::from_bytes(&setup.key.0).unwrap(), stray].add().to_public_key();
    keys.push(sum.to_bytes());
    for key in keys.into_iter().map(CoinKey) {
        assert!(!verify(&key, MESSAGE, &coin), "{key}");
        let wrong = CoinSetup { key, parts: setup.parts.clone() };
        assert_eq!(CoinScheme::new(&wrong, &POWERS).unwrap_err(), CoinError::GroupKey, "{key}");
        let mut wrong = setup.clone();
        wrong.parts[24] = key;
        let refused = CoinScheme::new(&wrong, &POWERS).unwrap_err();
        assert_eq!(refused, CoinError::PartKey { part: 24 }, "{key}");
    }
    for coin in [shifted(&coin.0), outside().0, identity().0, [0; 48], [0xff; 48]].map(Coin) {
        assert!(!verify(&scheme.key(), MESSAGE, &coin), "{coin}");
        assert!(!scheme.verify(MESSAGE, &coin), "{coin}");
    }
}

#[test]
fn elections_follow_power() {
    let powers = [4, 3, 0, 2, 1];
    let scheme = CoinScheme::new(&deal(&powers, &[7; 32]).0, &powers).unwrap();
    let mut wins = [0_u32; 5];
    let mut chance = fastrand::Rng::with_seed(11);
    for _ in 0..10_000 {
        let mut coin = Coin([0; 48]);
        chance.fill(&mut coin.0);
        wins[usize::from(scheme.elect(&coin).get())] += 1;
    }
    let expected = [4_000, 3_000, 0, 2_000, 1_000_u32];
    // Pearson's test in thousandths: with 3 degrees of freedom 16.27 is passed once in a thousand.
    let terms = wins.iter().zip(expected).filter(|(_, expected)| *expected > 0);
    let chi: u32 = terms.map(|(won, due)| won.abs_diff(due).pow(2) * 1_000 / due).sum();
    assert!(chi < 16_270, "{wins:?} wins, chi-square {chi} thousandths");
    assert_eq!(wins[2], 0, "no power, no election");
}

#[test]
fn elections_reach_both_ends_of_the_greatest_powers() {
    let powers = [u64::MAX; 128];
    let scheme = CoinScheme::new(&deal(&powers, &[7; 32]).0, &powers).unwrap();
    let winners = (0..4_000_u16).map(|seed| {
        let mut coin = Coin([0; 48]);
        coin.0[..2].copy_from_slice(&seed.to_le_bytes());
        usize::from(scheme.elect(&coin).get())
    });
    let winners: std::collections::BTreeSet<usize> = winners.collect();
    assert_eq!(winners.len(), 128, "each wins once in 4,000 by all but 1 chance in 10^11");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        key in prop::array::uniform32(any::<u8>()),
        points in prop::collection::vec(prop::array::uniform32(any::<u8>()), 13),
        places in prop::collection::btree_set(0..6_u16, 0..6),
    ) {
        let (setup, scheme, secrets) = world(&POWERS);
        if let Ok(secret) = CoinSecret::from_bytes(&bytes) {
            prop_assert_eq!(&**secret.to_bytes(), &bytes[..]);
        }
        // The flag of a compressed point gives half of them a place on the curve.
        let part = |half: &[u8; 32]| {
            let mut part = [half.as_slice(), &half[..16]].concat();
            part[0] = part[0] & 0x3f | 0x80;
            CoinPart(part.try_into().unwrap())
        };
        let parts: Vec<CoinPart> = points.iter().map(part).collect();
        let mut wrong = setup.clone();
        wrong.key.0[1..33].copy_from_slice(&key);
        prop_assert!(CoinScheme::new(&wrong, &POWERS).is_err());
        prop_assert!(!verify(&wrong.key, &bytes, &Coin(parts[0].0)));
        let counts = share_counts(&POWERS);
        let mut given = Given::new();
        for place in places {
            let count = counts.get(usize::from(place)).copied().unwrap_or(place).min(13);
            given.insert(ValidatorIndex::new(place), parts[..usize::from(count)].to_vec());
            prop_assert!(!scheme.verify_parts(ValidatorIndex::new(place), &bytes, &parts));
        }
        prop_assert!(!matches!(scheme.combine(&bytes, &given), Combined::Coin(_)));
        given.insert(index(3), secrets[3].sign(&bytes));
        if let Combined::Wrong(named) = scheme.combine(&bytes, &given) {
            prop_assert!(!named.contains(&index(3)), "an honest one is named");
        }
    }
}
