//! Who is away, and what follows: stories, and random presence beside what its history says.

use super::*;
use crate::absence::ABSENCES_KEY;

fn here(validators: &[u16]) -> Voters {
    Voters::of(validators.iter().copied().map(ValidatorIndex::new))
}

fn tale(stale_heights: u32) -> Tale {
    let stake = Some(StakeRules { stale_heights, ..RULES });
    Tale::new(Genesis { stake, ..stake_genesis() })
}

fn stale(set: &ValidatorSet) -> Vec<bool> {
    set.validators.iter().map(|one| one.is_stale).collect()
}

/// Blocks with the votes of these, 1 µs each.
fn blocks(tale: &mut Tale, count: u64, present: &[u16]) {
    tale.present = here(present);
    for _ in 0..count {
        tale.block(1, false, &[]);
    }
}

#[test]
fn who_is_away_is_stale_in_the_next_set_keeps_its_power_and_comes_back() {
    let mut tale = tale(16);
    blocks(&mut tale, 3, &[0, 1, 2]);
    // Seen last at height 3; heights 2, 4, … look for who is missing.
    blocks(&mut tale, 16, &[0, 1]);
    let since = |tale: &Tale| {
        let all = tale.machine.absences().iter();
        all.map(|one| (one.validator.get(), one.since.get(), one.is_stale)).collect::<Vec<_>>()
    };
    assert_eq!(since(&tale), [(2, 4, false)]);
    blocks(&mut tale, 1, &[0, 1]);
    assert_eq!(since(&tale), [(2, 4, true)]);
    assert_eq!(tale.machine.next_set(), None, "the epoch is too young");
    tale.block(1_000, false, &[]);
    let next = tale.machine.next_set().expect("a set that differs in it alone differs");
    assert_eq!((stale(&next), next.powers()), (vec![false, false, true], vec![30, 20, 10]));
    assert_eq!(next.power_total(), tale.machine.current_set().power_total());
    tale.block(1, true, &[]);
    tale.restart();
    assert_eq!(since(&tale), [(2, 4, true)]);
    // One vote is enough, and the set that follows says so.
    blocks(&mut tale, 1, &[0, 1, 2]);
    assert_eq!(since(&tale), []);
    assert!(stale(&tale.machine.current_set())[2], "not before the next epoch");
    blocks(&mut tale, 20, &[0, 1, 2]);
    tale.block(1_000, false, &[]);
    assert_eq!(stale(&tale.machine.next_set().expect("it differs")), [false; 3]);
}

#[test]
fn the_more_are_stale_the_longer_it_takes_and_somebody_is_always_left() {
    let mut tale = tale(8);
    blocks(&mut tale, 1, &[0, 1, 2]);
    blocks(&mut tale, 9, &[0, 2]);
    let is_stale = |tale: &Tale, index: u16| {
        let mut all = tale.machine.absences().iter();
        all.any(|one| one.validator.get() == index && one.is_stale)
    };
    assert!(is_stale(&tale, 1));
    // 20 of 60 are stale: 8 · (1 + 20 / 40) = 12 heights, from height 11 on.
    blocks(&mut tale, 12, &[0]);
    assert!(!is_stale(&tale, 2));
    blocks(&mut tale, 1, &[0]);
    assert!(is_stale(&tale, 2));
    // All that is left takes its bond back: the others would be all stale, so nobody is.
    assert_eq!(tale.one(1, false, 'a', vec![unbond(0, 30)]), "applied");
    tale.block(1_000, false, &[]);
    let next = tale.machine.next_set().expect("it differs");
    assert_eq!((next.powers(), stale(&next)), (vec![0, 20, 10], vec![false; 3]));
}

#[test]
fn nothing_is_written_while_all_are_there_now_and_then() {
    let mut tale = tale(64);
    blocks(&mut tale, 1, &[0, 1, 2]);
    let root = tale.machine.state_root();
    // Heights 2 to 7 are no samples, whoever is missing.
    blocks(&mut tale, 6, &[0, 2]);
    assert_eq!(tale.machine.state_root(), root);
    blocks(&mut tale, 1, &[0, 2]);
    assert_ne!(tale.machine.state_root(), root);
    let (value, proof) = tale.machine.prove(Table::Stake, &ABSENCES_KEY).expect("healthy");
    let (place, hash) = (trie_key(Table::Stake, &ABSENCES_KEY), value.as_deref().map(sha256));
    assert!(hash.is_some());
    assert!(verify_trie(&tale.machine.state_root(), &place, hash.as_ref(), &proof));
    blocks(&mut tale, 1, &[1, 2]);
    assert_eq!(tale.machine.state_root(), root, "as if nobody had been away");
}

#[test]
fn without_rules_of_it_nobody_is_ever_away() {
    let fixed = Genesis { stake: None, ..stake_genesis() };
    for mut tale in [tale(0), Tale::new(fixed)] {
        let root = tale.machine.state_root();
        blocks(&mut tale, 100, &[0, 1]);
        assert_eq!((tale.machine.state_root(), tale.machine.absences().len()), (root, 0));
    }
}

proptest! {
    /// Nobody is stale whose vote was seen in the last heights; everybody is who was not for long enough.
    #[test]
    fn who_is_stale_follows_from_who_voted(
        count in 1..20_u32,
        runs in vec((1..40_u64, 0..8_u16), 1..12),
    ) {
        let mut tale = tale(count);
        let (count, mut height, mut seen) = (u64::from(count), 0, [0; 3]);
        for (length, bits) in runs {
            let present: Vec<u16> = (0..3).filter(|bit| bits >> bit & 1 == 1).collect();
            for _ in 0..length {
                height += 1;
                blocks(&mut tale, 1, &present);
                present.iter().for_each(|index| seen[usize::from(*index)] = height);
                for (index, seen) in (0..3_u16).zip(seen) {
                    let all = tale.machine.absences().iter();
                    let own = all.clone().find(|one| one.validator.get() == index);
                    let is_stale = own.is_some_and(|one| one.is_stale);
                    let stale = all.filter(|one| one.is_stale && one.validator.get() != index);
                    let others = tale.machine.current_set().power_of(stale.map(|one| one.validator));
                    if !present.is_empty() {
                        prop_assert!(!is_stale || height - seen >= count);
                        // Enough for each that is stale before it, were they all but one unit.
                        prop_assert!(is_stale || height - seen < 200 * count || others > 0);
                    }
                    prop_assert!(own.is_none_or(|one| one.since.get() > seen));
                }
            }
        }
        tale.block(1_000, false, &[]);
        if let Some(next) = tale.machine.next_set() {
            prop_assert_eq!(next.powers(), [30, 20, 10]);
            prop_assert!(stale(&next).contains(&false), "A4");
        }
    }
}
