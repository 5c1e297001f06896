//! Honest runs, and everything that dealers and receivers may try.
#![expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::coin::{CoinScheme, Combined, share_counts};
use quipu_types::dealing::DEALING_SIZE_MAX;
use quipu_types::{Coin, CoinPart, Decode};

const POWERS: [u64; 5] = [4, 3, 0, 2, 1];
const CHAIN: Hash = Hash([1; 32]);
const MESSAGE: &[u8] = b"chain, epoch, height, round";

struct World {
    plan: Plan,
    keys: Vec<DecryptionKey>,
    members: Vec<Member>,
}

fn index(place: usize) -> ValidatorIndex {
    ValidatorIndex::new(u16::try_from(place).unwrap())
}

fn seed(place: usize) -> [u8; 32] {
    [u8::try_from(place).unwrap() + 100; 32]
}

fn world_of(chain: Hash, epoch: u64, powers: &[u64]) -> World {
    let keys: Vec<DecryptionKey> = (0..powers.len())
        .map(|place| DecryptionKey::from_seed(&[u8::try_from(place).unwrap() + 1; 32]))
        .collect();
    let member = |(power, key): (&u64, &DecryptionKey)| Member {
        power: *power,
        key: (*power > 0).then(|| key.public()),
    };
    let members: Vec<Member> = powers.iter().zip(&keys).map(member).collect();
    World { plan: Plan::new(&chain, epoch, &members).unwrap(), keys, members }
}

fn world() -> World {
    world_of(CHAIN, 7, &POWERS)
}

impl World {
    fn deal(&self, dealer: usize) -> Dealing {
        self.plan.deal(index(dealer), &seed(dealer))
    }

    fn checked(&self, dealer: usize) -> Checked {
        self.plan.check(&self.deal(dealer)).unwrap()
    }

    /// The dealing of a dealer that changes something, and proves what it then says.
    fn changed(&self, dealer: usize, change: impl FnOnce(&mut Dealing)) -> Dealing {
        let mut dealing = self.deal(dealer);
        change(&mut dealing);
        let secret = self.plan.secrets(index(dealer), &seed(dealer)).remove(0);
        dealing.proof = self.plan.prove(&dealing, &secret);
        dealing
    }

    fn open(&self, dealing: &Checked, receiver: usize) -> Result<Opened, Closed> {
        self.plan.open(dealing, index(receiver), &self.keys[receiver])
    }

    fn grievance(&self, dealing: &Checked, receiver: usize) -> Option<Grievance> {
        match self.open(dealing, receiver) {
            Ok(_) => None,
            Err(Closed::Wrong(grievance)) => Some(*grievance),
            Err(closed) => panic!("{closed}"),
        }
    }

    /// What a receiver says that complains, whether or not there is a reason.
    fn complaint(&self, dealing: &Checked, receiver: usize) -> Grievance {
        let key = CoinKey(dealing.key.to_bytes());
        let message = self.plan.seal_message(&key, dealing.dealer, index(receiver));
        let opening = self.keys[receiver].0.sign(&message, SEAL_DOMAIN, &[]);
        Grievance {
            epoch: self.plan.epoch,
            dealer: dealing.dealer,
            receiver: index(receiver),
            dealing: dealing.digest,
            opening: Opening(opening.to_bytes()),
        }
    }

    /// Everyone's side of the coin.
    fn coin(&self, dealings: &[&Checked]) -> (CoinScheme, Vec<CoinSecret>) {
        let setup = self.plan.setup(dealings).unwrap();
        let scheme = CoinScheme::new(&setup, self.plan.powers()).unwrap();
        let secret = |receiver| {
            let open = |dealing: &&Checked| self.open(dealing, receiver).unwrap();
            let opened: Vec<Opened> = dealings.iter().map(open).collect();
            self.plan.secret(dealings, &opened).unwrap()
        };
        (scheme, (0..self.keys.len()).map(secret).collect())
    }
}

fn given(secrets: &[CoinSecret], mask: usize) -> BTreeMap<ValidatorIndex, Vec<CoinPart>> {
    let signing = secrets.iter().enumerate().filter(|(place, _)| mask >> place & 1 == 1);
    signing.map(|(place, secret)| (index(place), secret.sign(MESSAGE))).collect()
}

#[test]
fn all_get_one_setup_and_every_half_of_the_shares_throws_its_one_coin() {
    let world = world();
    let all: Vec<Checked> = [0, 1, 3, 4].map(|dealer| world.checked(dealer)).into();
    let counts = share_counts(&POWERS);
    let mut coins: Vec<Coin> = Vec::new();
    for dealers in [vec![&all[0]], vec![&all[0], &all[2]], all.iter().collect()] {
        let (scheme, secrets) = world.coin(&dealers);
        for (place, secret) in secrets.iter().enumerate() {
            assert!(scheme.fits(index(place), secret), "{place}");
        }
        assert!(secrets[2].sign(MESSAGE).is_empty(), "who has no power has no shares");
        let Combined::Coin(coin) = scheme.combine(MESSAGE, &given(&secrets, 0b11111)) else {
            panic!("all together make the coin");
        };
        for mask in 0..32 {
            let held: u16 =
                (0..5).filter(|place| mask >> place & 1 == 1).map(|at| counts[at]).sum();
            let is_enough = usize::from(held) >= threshold(POWERS.len());
            let expected = if is_enough { Combined::Coin(coin) } else { Combined::TooFew };
            assert_eq!(scheme.combine(MESSAGE, &given(&secrets, mask)), expected, "{mask:05b}");
        }
        assert!(crate::coin::verify(&scheme.key(), MESSAGE, &coin));
        coins.push(coin);
    }
    coins.dedup();
    assert_eq!(coins.len(), 3, "each dealing changes the coin");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn sets_of_any_powers_make_their_coin_of_any_dealings_that_are_enough(
        powers in prop::collection::vec(prop_oneof![Just(0), 1..9_u64, any::<u64>()], 1..=7),
        lone in any::<prop::sample::Index>(),
        mask in any::<u8>(),
        order in any::<bool>(),
    ) {
        let mut powers = powers;
        let lone = lone.index(powers.len());
        powers[lone] = powers[lone].max(1);
        let world = world_of(CHAIN, 3, &powers);
        let dealers = (0..powers.len()).filter(|place| mask >> place & 1 == 1 && powers[*place] > 0);
        let dealings: Vec<Checked> = dealers.map(|dealer| world.checked(dealer)).collect();
        let mut listed: Vec<&Checked> = dealings.iter().collect();
        let dealt: u128 = dealings.iter().map(|one| u128::from(powers[usize::from(one.dealer().get())])).sum();
        let total: u128 = powers.iter().map(|power| u128::from(*power)).sum();
        if dealt * 3 <= total {
            prop_assert_eq!(world.plan.setup(&listed), Err(CombineError::TooFew));
            return Ok(());
        }
        let setup = world.plan.setup(&listed);
        if order {
            listed.reverse();
        }
        prop_assert_eq!(world.plan.setup(&listed), setup);
        let (scheme, secrets) = world.coin(&listed);
        for (place, secret) in secrets.iter().enumerate() {
            prop_assert!(scheme.fits(index(place), secret));
        }
        let combined = scheme.combine(MESSAGE, &given(&secrets, 0xff));
        prop_assert!(matches!(combined, Combined::Coin(coin) if scheme.verify(MESSAGE, &coin)));
    }

    #[test]
    fn no_cut_or_flipped_bytes_pass_a_check_and_none_panic(
        place in any::<prop::sample::Index>(), bit in 0..8_u32, reproved in any::<bool>(),
    ) {
        let world = world_of(CHAIN, 7, &[2, 1]);
        let dealing = world.deal(0);
        let mut bytes = dealing.to_bytes();
        let at = place.index(bytes.len());
        prop_assert!(Dealing::from_bytes(&bytes[..at]).is_err());
        bytes[at] ^= 1 << bit;
        let Ok(mut flipped) = Dealing::from_bytes(&bytes) else { return Ok(()) };
        prop_assert!(world.plan.check(&flipped).is_err());
        // Proven by who made it, it still ends in an error or in a grievance that is right.
        if reproved {
            flipped.proof = world.plan.prove(&flipped, &world.plan.secrets(index(0), &seed(0))[0]);
            if let Ok(checked) = world.plan.check(&flipped) {
                let opened = [0, 1].map(|receiver| world.grievance(&checked, receiver));
                prop_assert!(checked.digest == world.checked(0).digest || opened.iter().any(Option::is_some));
                for grievance in opened.iter().flatten() {
                    prop_assert_eq!(world.plan.judge(&checked, grievance), Ok(()));
                }
            }
        }
    }
}

#[test]
fn the_sum_is_that_of_the_dealt_polynomials() {
    let world = world();
    let dealers = [0, 3];
    let checked = dealers.map(|dealer| world.checked(dealer));
    let (scheme, secrets) = world.coin(&[&checked[0], &checked[1]]);
    let lists = dealers.map(|dealer| world.plan.secrets(index(dealer), &seed(dealer)));
    let zero = |list: &Vec<SecretKey>| Scalar::from_be_bytes(&list[0].to_bytes());
    let sum = secret_key(zero(&lists[0]).plus(zero(&lists[1]))).unwrap();
    assert_eq!(scheme.key().0, sum.sk_to_pk().to_bytes());
    let shares = lists.map(|list| world.plan.shares_of(&list));
    let sums = shares[0].iter().zip(shares[1].iter()).map(|(a, b)| a.plus(*b));
    let expected: Vec<u8> = sums.flat_map(|sum| secret_key(sum).unwrap().to_bytes()).collect();
    let found: Vec<u8> = secrets.iter().flat_map(|secret| secret.to_bytes().to_vec()).collect();
    assert_eq!(found, expected);
}

/// What opens the shares of receiver 1 in a dealing of 0.
fn seal_of_1(world: &World, dealing: &Dealing) -> Seal {
    let message = world.plan.seal_message(&dealing.key, index(0), index(1));
    let signed = world.keys[1].0.sign(&message, SEAL_DOMAIN, &[]);
    Seal::new(&signed, &PublicKey::from_bytes(&dealing.key.0).unwrap())
}

/// Ways to deal wrong shares to receiver 1.
fn wrong_shares(world: &World) -> Vec<(&'static str, Dealing)> {
    let range = world.plan.ranges[1].clone();
    let at = range.start;
    let mut ways: Vec<(&str, Dealing)> = vec![
        ("a bit of a share", world.changed(0, |one| one.shares[at].0[31] ^= 1)),
        ("the last share", world.changed(0, |one| one.shares[range.end - 1].0[0] ^= 0x10)),
        ("a share above the order", world.changed(0, |one| one.shares[at].0[0] ^= 0x80)),
        ("two shares swapped", world.changed(0, |one| one.shares.swap(at, at + 1))),
        ("another dealer's shares", world.changed(0, |one| one.shares = world.deal(1).shares)),
        ("another dealer's key", world.changed(0, |one| one.key = world.deal(1).key)),
        ("a commitment", world.changed(0, |one| one.commitments[9] = one.commitments[8])),
    ];
    // Two shares moved so that their plain sum is right.
    ways.push((
        "shares with the right sum",
        world.changed(0, |one| {
            let seal = seal_of_1(world, one);
            for (place, up) in [(at, true), (at + 1, false)] {
                let share = seal.open(place, &one.shares[place]).unwrap();
                let one_more = Scalar::new(1);
                let moved = if up { share.plus(one_more) } else { share.minus(one_more) };
                one.shares[place] = seal.seal(place, moved);
            }
        }),
    ));
    ways.push((
        "a share that is right but for the order",
        world.changed(0, |one| {
            let order = "73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001";
            let order: Vec<u8> = hex::decode(order).unwrap();
            let mask = seal_of_1(world, one).mask(at);
            let mut carry = 0;
            for place in (0..32).rev() {
                let share = one.shares[at].0[place] ^ mask[place];
                let sum = u16::from(share) + u16::from(order[place]) + carry;
                carry = sum >> 8;
                one.shares[at].0[place] = u8::try_from(sum & 0xff).unwrap() ^ mask[place];
            }
            assert_eq!(carry, 0, "both are below 2^255");
        }),
    ));
    ways
}

#[test]
fn a_wrong_share_is_a_grievance_that_all_accept() {
    let world = world();
    for (what, dealing) in wrong_shares(&world) {
        let checked = world.plan.check(&dealing).unwrap();
        let grievance = world.grievance(&checked, 1).unwrap_or_else(|| panic!("{what}: opened"));
        let bytes = grievance.to_bytes();
        assert_eq!(Grievance::from_bytes(&bytes), Ok(grievance.clone()));
        assert_eq!(world.plan.judge(&checked, &grievance), Ok(()), "{what}");
    }
    // Who is dealt right shares has none, and none is upheld.
    let checked = world.plan.check(&wrong_shares(&world)[0].1).unwrap();
    for receiver in [0, 2, 3, 4] {
        assert_eq!(world.grievance(&checked, receiver), None);
    }
    let complaint = world.complaint(&checked, 3);
    assert_eq!(world.plan.judge(&checked, &complaint), Err(Unfounded::Fits));
}

#[test]
fn a_false_grievance_is_refused_and_says_why() {
    let world = world();
    let (checked, other) = (world.checked(0), world.checked(1));
    let honest = world.complaint(&checked, 1);
    let judge = |change: &dyn Fn(&mut Grievance)| {
        let mut grievance = honest.clone();
        change(&mut grievance);
        world.plan.judge(&checked, &grievance).unwrap_err()
    };
    assert_eq!(judge(&|_| ()), Unfounded::Fits);
    assert_eq!(judge(&|one| one.epoch = 8), Unfounded::Dealing);
    assert_eq!(judge(&|one| one.dealer = index(1)), Unfounded::Dealing);
    assert_eq!(judge(&|one| one.dealing = other.digest), Unfounded::Dealing);
    for receiver in [2, 5, 65_535] {
        let receiver = index(receiver);
        assert_eq!(judge(&|one| one.receiver = receiver), Unfounded::Receiver { receiver });
    }
    assert_eq!(judge(&|one| one.receiver = index(3)), Unfounded::Opening);
    let openings = [
        world.complaint(&other, 1).opening.0,
        world.complaint(&checked, 3).opening.0,
        [0; 48],
        [0xff; 48],
        std::array::from_fn(|place| if place == 0 { 0xc0 } else { 0 }),
        stray_g1(),
    ];
    for opening in openings {
        assert_eq!(judge(&|one| one.opening = Opening(opening)), Unfounded::Opening);
    }
}

/// Openings are of one dealer's dealing: a copy of another's shares stays closed.
#[test]
fn a_grievance_opens_nothing_but_the_dealing_that_it_is_about() {
    let world = world();
    let honest = world.checked(1);
    let (key, shares) = (world.deal(1).key, world.deal(1).shares);
    let copied = world.changed(0, |one| (one.key, one.shares) = (key, shares));
    let copied = world.plan.check(&copied).unwrap();
    let grievance = world.grievance(&copied, 3).unwrap();
    assert_eq!(world.plan.judge(&copied, &grievance), Ok(()));
    let opening = Signature::from_bytes(&grievance.opening.0).unwrap();
    let range = world.plan.ranges[3].clone();
    assert!(honest.shares_in(range.clone(), &Seal::new(&opening, &honest.key)).is_none());
    let own = world.keys[3].0.sign(
        &world.plan.seal_message(&CoinKey(honest.key.to_bytes()), index(1), index(3)),
        SEAL_DOMAIN,
        &[],
    );
    assert!(honest.shares_in(range, &Seal::new(&own, &honest.key)).is_some());
}

#[test]
fn a_dealing_is_of_one_chain_epoch_set_and_dealer() {
    let world = world();
    let dealing = world.deal(0);
    assert!(world.plan.check(&dealing).is_ok());
    let refused = |world: &World, dealing: &Dealing| world.plan.check(dealing).unwrap_err();
    let next = world_of(CHAIN, 8, &POWERS);
    assert_eq!(refused(&next, &dealing), Refused::Epoch { found: 7, wanted: 8 });
    let renamed = Dealing { epoch: 8, ..dealing.clone() };
    assert_eq!(refused(&next, &renamed), Refused::Proof);
    assert_eq!(refused(&world_of(Hash([2; 32]), 7, &POWERS), &dealing), Refused::Proof);
    assert_eq!(refused(&world_of(CHAIN, 7, &[4, 3, 0, 2, 2]), &dealing), Refused::Proof);
    let mut members = world.members.clone();
    members[4].key = members[3].key;
    let rekeyed = Plan::new(&CHAIN, 7, &members).unwrap();
    assert_eq!(rekeyed.check(&dealing).unwrap_err(), Refused::Proof);
    for (dealer, error) in [
        (1, Refused::Proof),
        (2, Refused::Dealer { dealer: index(2) }),
        (5, Refused::Dealer { dealer: index(5) }),
        (65_535, Refused::Dealer { dealer: index(65_535) }),
    ] {
        assert_eq!(refused(&world, &Dealing { dealer: index(dealer), ..dealing.clone() }), error);
    }
}

#[test]
fn more_or_fewer_commitments_or_shares_are_refused_even_when_proven() {
    let world = world();
    let check = |dealing: &Dealing| world.plan.check(dealing).unwrap_err();
    let wanted = threshold(5);
    for found in [0, 1, wanted - 1, wanted + 1, 2 * wanted] {
        let dealing = world.changed(0, |one| one.commitments.resize(found, one.key));
        assert_eq!(check(&dealing), Refused::CommitmentCount { found, wanted });
    }
    for found in [0, 30, 32, 700] {
        let dealing = world.changed(0, |one| one.shares.resize(found, one.shares[0]));
        assert_eq!(check(&dealing), Refused::ShareCount { found, wanted: 31 });
    }
}

/// Of the curve over which G2 is, outside of it.
fn stray_g2() -> [u8; 96] {
    let with_last = |last| -> [u8; 96] {
        std::array::from_fn(|place| match place {
            0 => 0x80,
            95 => last,
            _ => 0,
        })
    };
    let mut strays =
        (0..=255).map(with_last).filter_map(|bytes| PublicKey::from_bytes(&bytes).ok());
    strays.find(|point| point.validate().is_err()).unwrap().to_bytes()
}

/// Of the curve of G1, outside of it.
fn stray_g1() -> [u8; 48] {
    let with_last = |last| -> [u8; 48] {
        std::array::from_fn(|place| match place {
            0 => 0x80,
            47 => last,
            _ => 0,
        })
    };
    let mut strays =
        (0..=255).map(with_last).filter_map(|bytes| Signature::from_bytes(&bytes).ok());
    strays.find(|point| point.validate(true).is_err()).unwrap().to_bytes()
}

#[test]
fn what_is_no_point_of_its_group_is_refused_wherever_it_stands() {
    let world = world();
    let check = |dealing: &Dealing| world.plan.check(dealing).unwrap_err();
    let identity = std::array::from_fn(|place| if place == 0 { 0xc0 } else { 0 });
    let point = PublicKey::from_bytes(&world.deal(0).commitments[3].0).unwrap();
    let stray = PublicKey::from_bytes(&stray_g2()).unwrap();
    let moved = [point, stray].add().to_public_key().to_bytes();
    for bytes in [stray_g2(), moved, identity, [0; 96], [0xff; 96]].map(CoinKey) {
        assert_eq!(check(&world.changed(0, |one| one.key = bytes)), Refused::Key);
        for place in [0, 3, 15] {
            let dealing = world.changed(0, |one| one.commitments[place] = bytes);
            assert_eq!(check(&dealing), Refused::Commitment { place });
        }
        let mut members = world.members.clone();
        members[1].key = Some(DealingKey(bytes.0));
        let refused = Plan::new(&CHAIN, 7, &members).unwrap_err();
        assert_eq!(refused, PlanError::Key { validator: index(1) });
    }
    for proof in [stray_g1(), [0; 48], [0xff; 48]].map(DealingProof) {
        assert_eq!(check(&Dealing { proof, ..world.deal(0) }), Refused::Proof);
    }
}

/// Without the proof the last dealer could choose the sum's key, and so what it is a signature under.
#[test]
fn a_key_whose_secret_the_dealer_does_not_know_is_refused() {
    let world = world();
    let others = world.checked(1).commitments[0];
    let wanted = SecretKey::key_gen(&[9; 32], &[]).unwrap();
    let mut rogue = AggregatePublicKey::from_public_key(&wanted.sk_to_pk());
    rogue.sub_aggregate(&AggregatePublicKey::from_public_key(&others));
    let rogue = CoinKey(rogue.to_public_key().to_bytes());
    let mut dealing = world.changed(0, |one| one.commitments[0] = rogue);
    assert_eq!(world.plan.check(&dealing).unwrap_err(), Refused::Proof);
    dealing.proof = world.plan.prove(&dealing, &wanted);
    assert_eq!(world.plan.check(&dealing).unwrap_err(), Refused::Proof);
}

#[test]
fn dealings_are_combined_once_each_and_own_shares_of_all_are_needed() {
    let world = world();
    let (first, second) = (world.checked(1), world.checked(3));
    let setup = |dealings: &[&Checked]| world.plan.setup(dealings);
    assert_eq!(setup(&[]), Err(CombineError::TooFew));
    assert_eq!(setup(&[&first]), Err(CombineError::TooFew), "3 of 10");
    let twice = CombineError::Twice { dealer: index(1) };
    assert_eq!(setup(&[&first, &second, &first]), Err(twice));
    let open = |dealing: &Checked| world.open(dealing, 0).unwrap();
    let missing = |dealings: &[&Checked], opened: &[Opened]| {
        world.plan.secret(dealings, opened).map(|_| ()).unwrap_err()
    };
    let dealer = index(3);
    assert_eq!(missing(&[&first, &second], &[open(&first)]), CombineError::Missing { dealer });
    let other = world.plan.check(&world.plan.deal(dealer, &[5; 32])).unwrap();
    let opened = [open(&first), open(&other)];
    assert_eq!(missing(&[&first, &second], &opened), CombineError::Missing { dealer });
    assert!(world.plan.secret(&[&other, &first], &opened).is_ok());
}

/// Nobody but a lone dealer can do so: a sum with an honest dealing is zero by chance only.
#[test]
fn a_share_of_zero_is_a_share_and_a_sum_of_zero_is_refused() {
    let world = world_of(CHAIN, 7, &[10, 10, 1]);
    assert_eq!(share_counts(world.plan.powers()), [9, 9, 1]);
    let mut secrets = world.plan.secrets(index(0), &seed(0));
    let share = world.plan.shares_of(&secrets)[18];
    let first = Scalar::from_be_bytes(&secrets[0].to_bytes()).minus(share);
    secrets[0] = secret_key(first).unwrap();
    let dealing = world.plan.deal_secrets(index(0), &secrets, &secrets[1]);
    let checked = world.plan.check(&dealing).unwrap();
    let opened = world.open(&checked, 2).unwrap();
    assert!(opened.shares[0] == Scalar::ZERO);
    let error = world.plan.secret(&[&checked], &[opened]).map(|_| ()).unwrap_err();
    assert_eq!(error, CombineError::Zero);
    let setup = world.plan.setup(&[&checked]).unwrap();
    let refused = CoinScheme::new(&setup, world.plan.powers()).map(|_| ()).unwrap_err();
    assert_eq!(refused, CoinError::PartKey { part: 18 });
    let (other, both) = (world.checked(1), [0, 1, 2]);
    let (scheme, secrets) = world.coin(&[&checked, &other]);
    assert!(both.iter().all(|place| scheme.fits(index(*place), &secrets[*place])));
}

#[test]
fn the_largest_set_has_the_largest_dealing_and_makes_its_coin() {
    let powers: Vec<u64> = (0..128).map(|place| if place == 5 { 90_000 } else { place }).collect();
    let world = world_of(CHAIN, 7, &powers);
    let bytes = world.deal(5).to_bytes();
    assert_eq!(bytes.len(), DEALING_SIZE_MAX);
    let checked = world.plan.check(&Dealing::from_bytes(&bytes).unwrap()).unwrap();
    let setup = world.plan.setup(&[&checked]).unwrap();
    let scheme = CoinScheme::new(&setup, &powers).unwrap();
    for receiver in [0, 1, 5, 127] {
        let opened = world.open(&checked, receiver).unwrap();
        let secret = world.plan.secret(&[&checked], &[opened]).unwrap();
        assert!(scheme.fits(index(receiver), &secret), "{receiver}");
    }
}

#[test]
fn a_wrong_key_file_is_no_grievance() {
    let world = world();
    let opened = world.plan.open(&world.checked(0), index(1), &world.keys[3]);
    assert_eq!(opened.unwrap_err(), Closed::Key { receiver: index(1) });
}

#[test]
fn a_set_in_which_one_with_power_has_no_key_makes_no_coin() {
    let world = world();
    let plan = |change: &dyn Fn(&mut Vec<Member>)| {
        let mut members = world.members.clone();
        change(&mut members);
        Plan::new(&CHAIN, 7, &members).map(|_| ())
    };
    assert_eq!(plan(&|_| ()), Ok(()));
    let missing = PlanError::KeyMissing { validator: index(3) };
    assert_eq!(plan(&|members| members[3].key = None), Err(missing));
    assert_eq!(plan(&|members| members[2].key = Some(DealingKey([0; 96]))), Ok(()));
    let none = PlanError::Set(CoinError::ValidatorCount { count: 0 });
    assert_eq!(plan(&Vec::clear), Err(none));
    let many = PlanError::Set(CoinError::ValidatorCount { count: 129 });
    assert_eq!(plan(&|members| *members = vec![members[0]; 129]), Err(many));
    let powerless = PlanError::Set(CoinError::NoPower);
    assert_eq!(plan(&|members| members.iter_mut().for_each(|one| one.power = 0)), Err(powerless));
}

#[test]
fn enough_is_more_than_a_third_of_the_power() {
    let set = |dealers: &[usize]| dealers.iter().map(|dealer| index(*dealer)).collect();
    assert!(!enough(&[1, 1, 1], &set(&[0])) && enough(&[1, 1, 1], &set(&[0, 2])));
    assert!(enough(&[4, 3, 0, 2, 1], &set(&[0])) && !enough(&[4, 3, 0, 2, 1], &set(&[1, 2])));
    assert!(!enough(&[1, 1, 1], &set(&[])) && !enough(&[1, 1, 1], &set(&[0, 7])));
    assert!(enough(&[u64::MAX; 128], &(0..43).map(index).collect()));
    assert!(!enough(&[u64::MAX; 128], &(0..42).map(index).collect()));
}

#[test]
fn what_is_dealt_is_frozen_and_never_printed() {
    let world = world();
    let checked = [0, 1].map(|dealer| world.checked(dealer));
    let dealings = [&checked[0], &checked[1]];
    let opened = dealings.map(|dealing| world.open(dealing, 4).unwrap());
    let secret = world.plan.secret(&dealings, &opened).unwrap();
    expect![[r#"
        dealing 04374e6625431600ba280b7e6c85ccddfac3603276e5a90cf11072b9c9629ab9
        setup b7f5973fcfc4e61901134754f9f849ef52f8d68e601b76b7bc16d83741632be2
        secret 443cccab7c7e11d9c482c4ac852492717fb734fae714280aab6c5a79292c40fa
        grievance 08753140d17741294711511bf8b2b3b98796ef36b9d1cbb4c62764814301a656
        Opened { dealer: ValidatorIndex(0), receiver: ValidatorIndex(4), share_count: 3, .. }
        Checked { dealer: ValidatorIndex(1), digest: ba453585e3f5d03874cf15268eca1260e0f7555577b4620dfadafac1dd100206, .. }
    "#]].assert_eq(&format!(
        "dealing {}\nsetup {}\nsecret {}\ngrievance {}\n{:?}\n{:?}\n",
        sha256(&world.deal(0).to_bytes()),
        sha256(&world.plan.setup(&dealings).unwrap().to_bytes()),
        sha256(&secret.to_bytes()),
        sha256(&world.complaint(dealings[0], 4).to_bytes()),
        opened[0],
        dealings[1],
    ));
    let drawn = [(); 2].map(|()| world.plan.draw(index(0)));
    assert_ne!(drawn[0].commitments[0], drawn[1].commitments[0]);
    assert!(drawn.iter().all(|dealing| world.plan.check(dealing).is_ok()));
}
