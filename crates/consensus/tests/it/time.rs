//! The third that lies about the time: how far a header's time follows it.

use proptest::prelude::*;
use quipu_consensus::{Context, Parent};
use quipu_types::agreement::Validator;
use quipu_types::{CommitCertificate, Height, Precommit, RoundKind, Signature, Time, ValidatorSet};

use crate::world::{CHAIN, GENESIS_TIME, LANES, ROUNDS, key, number};

const HOUR_US: u64 = 3_600_000_000;
/// What honest clocks say, and later.
const NOON_US: u64 = 12 * HOUR_US;

/// A voter: its stake, what it says that the time is, and whether it lies.
#[derive(Clone, Copy, Debug)]
struct Voter {
    power: u64,
    time_us: u64,
    lies: bool,
}

fn honest(power: u64, spread_us: u64) -> Voter {
    Voter { power, time_us: NOON_US + spread_us, lies: false }
}

fn ahead(power: u64) -> Voter {
    Voter { power, time_us: NOON_US + HOUR_US, lies: true }
}

fn behind(power: u64) -> Voter {
    Voter { power, time_us: NOON_US - HOUR_US, lies: true }
}

fn power<'a>(voters: impl IntoIterator<Item = &'a Voter>) -> u128 {
    voters.into_iter().map(|voter| u128::from(voter.power)).sum()
}

/// The time of the header that follows one that these of `all` precommitted.
fn time_due(all: &[Voter], signers: &[usize]) -> u64 {
    let validator = |(index, voter): (usize, &Voter)| Validator {
        key: key(index).public(),
        power: voter.power,
        is_stale: false,
    };
    let validators = all.iter().enumerate().map(validator).collect();
    let context = Context::new(CHAIN, ValidatorSet { epoch: 0, validators, coin: None }, LANES);
    let vote = |index: &usize| Precommit {
        height: Height::new(1),
        round: 0,
        kind: RoundKind::Led,
        instance: number(0),
        digest: CHAIN,
        tips: vec![],
        suspects: vec![],
        time: Time::new(all[*index].time_us),
        validator: number(*index),
        signature: Signature([0; 64]),
    };
    let commit = CommitCertificate { precommits: signers.iter().map(vote).collect(), coin: None };
    let parent = Parent::genesis(CHAIN, GENESIS_TIME, LANES, ROUNDS);
    Parent { commit: Some(commit), ..parent }.time_due(&context).get()
}

/// Those who lie, up to a third of the stake, and a quorum with all of them and as few others as it takes.
fn quorum(all: &mut [Voter]) -> Vec<usize> {
    let total = power(&*all);
    let mut left = total;
    for voter in &mut *all {
        voter.lies &= (total - left + u128::from(voter.power)) * 3 < total;
        if voter.lies {
            left -= u128::from(voter.power);
        } else {
            voter.time_us = voter.time_us.clamp(NOON_US, NOON_US + HOUR_US / 60);
        }
    }
    let mut signers: Vec<usize> = (0..all.len()).collect();
    for index in 0..all.len() {
        let rest = power(signers.iter().filter(|one| **one != index).map(|one| &all[*one]));
        if !all[index].lies && rest * 3 > total * 2 {
            signers.retain(|one| *one != index);
        }
    }
    signers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Less than a third, an hour ahead or behind, in any certificate: the time stays between the least and the greatest honest
    /// time in it. So it is moved by no more than honest clocks differ, from the median that they would have had alone.
    #[test]
    fn a_third_that_lies_by_an_hour_moves_the_time_no_further_than_honest_clocks_differ(
        mut all in prop::collection::vec((1..1_000_u64, 0..50_000_u64, any::<(bool, bool)>()), 1..20)
            .prop_map(|all| all.into_iter().map(|(power, spread, fate)| match fate {
                (true, true) => ahead(power),
                (true, false) => behind(power),
                _ => honest(power, spread),
            }).collect::<Vec<_>>()),
    ) {
        let signers = quorum(&mut all);
        let due = time_due(&all, &signers);
        let of = |index: &usize| (!all[*index].lies).then_some(all[*index].time_us);
        let times: Vec<u64> = signers.iter().filter_map(of).collect();
        let (least, greatest) = (*times.iter().min().unwrap(), *times.iter().max().unwrap());
        prop_assert!(least <= due && due <= greatest, "{} is not in {}..={}", due, least, greatest);
        let true_ones: Vec<usize> = signers.iter().copied().filter(|one| !all[*one].lies).collect();
        let alone = time_due(&all, &true_ones);
        prop_assert!(due.abs_diff(alone) <= greatest - least);
    }
}

/// The numbers: of an hour, the milliseconds that honest clocks are apart; and a third and a bit, in a small enough certificate, moves it by the hour.
#[test]
fn two_of_seven_that_lie_by_an_hour_move_the_time_by_ten_milliseconds_and_over_a_third_by_an_hour()
{
    let honest_ms = |ms: u64| honest(1, ms * 1_000);
    let true_ones = [honest_ms(0), honest_ms(10), honest_ms(20)];
    assert_eq!(time_due(&true_ones, &[0, 1, 2]) - NOON_US, 10_000);
    let with = |liar: fn(u64) -> Voter| {
        let [a, b, c] = true_ones;
        let all = [a, b, c, liar(1), liar(1), honest_ms(10), honest_ms(10)];
        // Two who are honest are left out: five of seven are a quorum.
        time_due(&all, &[0, 1, 2, 3, 4]) - NOON_US
    };
    assert_eq!(with(ahead), 20_000, "the greatest honest time");
    assert_eq!(with(behind), 0, "the least");
    // Exactly a third still does not: a quorum is more than two.
    assert_eq!(time_due(&[honest_ms(0), honest_ms(20), ahead(1)], &[0, 1, 2]) - NOON_US, 20_000);
    // 34 of 100: with 33 others it is a quorum, and has more than half of it.
    let all = [ahead(34), honest(33, 0), honest(33, 0)];
    assert_eq!(time_due(&all, &[0, 1]) - NOON_US, HOUR_US);
}
