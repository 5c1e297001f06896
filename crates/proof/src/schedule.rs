//! Who leads which round, and who sequences which lane: functions of the set and of committed headers alone.
//!
//! ```text
//!  rank       who has stake: those who are not stale first, then stake descending, then public key descending
//!  active     the ranks of those who are not stale; all, if all are
//!  led round k of a height: rank (primary + k) mod n
//!  lane l, first term of an epoch: dealt to the active by stake (lane 0: rank 0)      later ones: the other active in turn, then
//!             the first again
//!  open round              everyone proposes; the coin elects one, each with the chance of its part of the stake
//! ```
//! The **primary** after header x is the leader of the round that decided x - 1, if that round was not the first (what
//! x's `prev_commit` says); rank 0 after an epoch's last; every [`PRIMARY_HEIGHT_COUNT`] heights it is the next of the active, whatever round decided that height. It leads from x + 1 on. So
//! nobody's own certificate decides who leads, only what is inside committed headers.

use quipu_types::{Coin, Header, Lane, RoundKind, Term, Validator, ValidatorIndex, ValidatorSet};

/// Heights after which the next in rank becomes the primary, however well the last one leads.
pub const PRIMARY_HEIGHT_COUNT: u64 = 1_024;

/// The first term of every lane.
pub const TERM_FIRST: Term = Term::new(1);

/// The ranks of an epoch and what follows from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Validators by rank.
    rank: Vec<ValidatorIndex>,
    /// How many of the first ranks are not stale; all, if all are.
    active_count: usize,
    /// For each lane the rank of its first sequencer, and the first term that is this one's to deal.
    first: Vec<(usize, Term)>,
}

impl Schedule {
    /// The schedule of a genesis' set over `lane_count` lanes.
    ///
    /// # Panics
    /// When nobody has stake, which no checked genesis says.
    #[must_use]
    pub fn new(set: &ValidatorSet, lane_count: usize) -> Self {
        Self::from_terms(set, vec![TERM_FIRST; lane_count])
    }

    /// The schedule of an epoch whose lanes begin with these terms.
    ///
    /// # Panics
    /// When nobody has stake, which no checked set says.
    #[must_use]
    pub fn from_terms(set: &ValidatorSet, terms: Vec<Term>) -> Self {
        let mut order: Vec<(ValidatorIndex, &Validator)> = (0..)
            .map(ValidatorIndex::new)
            .zip(&set.validators)
            .filter(|(_, validator)| validator.power > 0)
            .collect();
        assert!(!order.is_empty(), "a set has at least one validator with stake");
        order.sort_by_key(|(_, one)| (one.is_stale, std::cmp::Reverse((one.power, one.key))));
        let active_count = match order.iter().filter(|(_, one)| !one.is_stale).count() {
            0 => order.len(),
            count => count,
        };
        let active = order.iter().take(active_count);
        let powers: Vec<i128> = active.map(|(_, one)| i128::from(one.power)).collect();
        let rank = order.into_iter().map(|(index, _)| index).collect();
        let dealt = deal(&powers, terms.len());
        Self { rank, active_count, first: dealt.into_iter().zip(terms).collect() }
    }

    /// How many validators have stake.
    #[must_use]
    pub fn count(&self) -> usize {
        self.rank.len()
    }

    /// Who leads the led round of number `round` among a height's led ones, when `primary` is the primary's rank.
    #[must_use]
    pub fn leader(&self, primary: usize, round: u32) -> ValidatorIndex {
        let round = usize::try_from(round).unwrap_or(usize::MAX);
        self.at(modulo(primary, self.count()).saturating_add(modulo(round, self.count())))
    }

    /// Rank of the primary after `header`, when it was `primary` before. After an epoch's last header it is a rank of the
    /// next one's.
    #[must_use]
    pub fn primary_after(&self, header: &Header, primary: usize) -> usize {
        self.primary_named(header).unwrap_or(primary)
    }

    /// Rank of the primary that `header` itself names, whoever it was before.
    #[must_use]
    pub fn primary_named(&self, header: &Header) -> Option<usize> {
        // The height of a turn was led by the primary before: what decided it says nothing of the next one.
        let height = header.height.get();
        let since = height.checked_rem(PRIMARY_HEIGHT_COUNT).unwrap_or(0);
        if since <= 1 {
            let turn = height.checked_div(PRIMARY_HEIGHT_COUNT).unwrap_or(0);
            return Some(modulo(usize::try_from(turn).unwrap_or(usize::MAX), self.active_count));
        }
        if header.next_set.is_some() {
            return Some(0);
        }
        let vote = header.prev_commit.as_ref()?.precommits.first()?;
        let deposed = vote.kind == RoundKind::Led && vote.round > 0;
        deposed.then(|| self.rank_of(vote.instance)).flatten()
    }

    /// The lane's first term in the epoch.
    #[must_use]
    pub fn first_term(&self, lane: Lane) -> Term {
        self.first.get(usize::from(lane.get())).map_or(TERM_FIRST, |(_, term)| *term)
    }

    /// Who sequences a lane in a term of the epoch.
    #[must_use]
    pub fn sequencer(&self, lane: Lane, term: Term) -> ValidatorIndex {
        let lane = usize::from(lane.get());
        let (first, begin) = self.first.get(lane).copied().unwrap_or((0, TERM_FIRST));
        let (count, terms) = (self.active_count, term.get().saturating_sub(begin.get()));
        let turn = modulo(usize::try_from(terms).unwrap_or(usize::MAX), count);
        let Some(other) = turn.checked_sub(1) else { return self.at(first) };
        // Lanes of one sequencer go to different ones when it falls.
        let others = count.saturating_sub(1);
        let spread = other.saturating_add(lane.checked_div(count).unwrap_or(0));
        let rank = first.saturating_add(1).saturating_add(modulo(spread, others));
        self.at(modulo(rank, count))
    }

    fn rank_of(&self, validator: ValidatorIndex) -> Option<usize> {
        self.rank.iter().position(|other| *other == validator)
    }

    fn at(&self, rank: usize) -> ValidatorIndex {
        let rank = modulo(rank, self.count());
        self.rank.get(rank).copied().expect("a rank below the count has a validator")
    }
}

/// Whom the coin of an open round elects.
///
/// # Panics
/// When nobody has stake, which no checked set has.
#[must_use]
pub fn elect(set: &ValidatorSet, coin: &Coin) -> ValidatorIndex {
    quipu_crypto::coin::elect(set.validators.iter().map(|validator| validator.power), coin)
}

fn modulo(number: usize, count: usize) -> usize {
    number.checked_rem(count).unwrap_or(0)
}

/// Deals lanes in proportion to stake: each lane goes to whoever is owed most, the first in rank of equals.
fn deal(powers: &[i128], lane_count: usize) -> Vec<usize> {
    let total: i128 = powers.iter().sum();
    let mut owed = vec![0_i128; powers.len()];
    let mut first = Vec::with_capacity(lane_count);
    for _ in 0..lane_count {
        for (owed, power) in owed.iter_mut().zip(powers) {
            *owed = owed.saturating_add(*power);
        }
        let most = owed.iter().max().copied().unwrap_or(0);
        let rank = owed.iter().position(|own| *own == most).unwrap_or(0);
        if let Some(owed) = owed.get_mut(rank) {
            *owed = owed.saturating_sub(total);
        }
        first.push(rank);
    }
    first
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test's numbers are small")]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use quipu_types::PublicKey;
    use quipu_types::Suite;

    use super::*;

    fn set(powers: &[u64]) -> ValidatorSet {
        let validators = (1_u8..).zip(powers).map(|(number, power)| Validator {
            key: PublicKey::new(Suite::Ed25519Sha256, &[number; 32]).expect("32 bytes"),
            power: *power,
            is_stale: false,
        });
        ValidatorSet { epoch: 0, validators: validators.collect(), coin: None }
    }

    fn lanes(powers: &[u64], lane_count: u16, term: u64) -> Vec<u16> {
        let schedule = Schedule::new(&set(powers), usize::from(lane_count));
        let lanes = (0..lane_count).map(Lane::new);
        lanes.map(|lane| schedule.sequencer(lane, Term::new(term)).get()).collect()
    }

    #[test]
    fn lanes_go_by_stake_and_the_lanes_of_the_fallen_are_spread() {
        assert_eq!(lanes(&[1, 1, 1, 1], 8, 1), [3, 2, 1, 0, 3, 2, 1, 0]);
        assert_eq!(lanes(&[1, 1, 1, 1], 8, 2), [2, 1, 0, 3, 1, 0, 3, 2]);
        assert_eq!(lanes(&[4, 3, 2, 1], 10, 1), [0, 1, 2, 0, 1, 3, 0, 2, 1, 0]);
        assert_eq!(lanes(&[5], 3, 9), [0, 0, 0]);
    }

    /// As [`set`], with these stale.
    fn set_with_stale(powers: &[u64], stale: &[bool]) -> ValidatorSet {
        let mut set = set(powers);
        set.validators.iter_mut().zip(stale).for_each(|(one, stale)| one.is_stale = *stale);
        set
    }

    #[test]
    fn the_stale_have_no_lane_and_no_turn_as_primary_and_lead_last() {
        let stale = set_with_stale(&[4, 3, 2, 1], &[true, false, false, true]);
        let schedule = Schedule::new(&stale, 4);
        let lanes = |term| {
            let lanes = (0..4).map(Lane::new);
            lanes.map(|lane| schedule.sequencer(lane, Term::new(term)).get()).collect::<Vec<_>>()
        };
        assert_eq!([lanes(1), lanes(2), lanes(3)], [[1, 2, 1, 2], [2, 1, 2, 1], [1, 2, 1, 2]]);
        let leaders: Vec<u16> = (0..4).map(|k| schedule.leader(0, k).get()).collect();
        assert_eq!(leaders, [1, 2, 0, 3]);
        let all = set_with_stale(&[4, 3, 2, 1], &[true; 4]);
        assert_eq!(Schedule::new(&all, 9), Schedule::new(&set(&[4, 3, 2, 1]), 9));
    }

    proptest! {
        #[test]
        fn staleness_changes_who_works_and_no_quorum(
            (powers, stale) in (1_usize..12).prop_flat_map(|count| (
                proptest::collection::vec(1_u64..50, count),
                proptest::collection::vec(any::<bool>(), count),
            )),
            (some, coin) in (any::<u16>(), any::<[u8; 48]>()),
        ) {
            let (plain, marked) = (set(&powers), set_with_stale(&powers, &stale));
            let voters = (0..16).filter(|bit| some >> bit & 1 == 1).map(ValidatorIndex::new);
            let power = plain.power_of(voters.clone());
            prop_assert_eq!(marked.power_of(voters), power);
            prop_assert_eq!(marked.power_total(), plain.power_total());
            prop_assert_eq!(marked.is_quorum(power), plain.is_quorum(power));
            prop_assert_eq!(marked.is_third(power), plain.is_third(power));
            let coin = Coin(coin);
            prop_assert_eq!(elect(&marked, &coin), elect(&plain, &coin));
            let schedule = Schedule::new(&marked, 64);
            let is_away = |index: ValidatorIndex| marked.get(index).is_some_and(|one| one.is_stale);
            let is_anyone_here = stale.contains(&false);
            for lane in (0..64).map(Lane::new) {
                let mut turns = (1..30).map(|term| schedule.sequencer(lane, Term::new(term)));
                prop_assert!(!is_anyone_here || turns.all(|index| !is_away(index)));
            }
            let leaders = (0..powers.len()).map(|k| schedule.leader(0, u32::try_from(k).expect("few")));
            prop_assert_eq!(leaders.collect::<std::collections::BTreeSet<_>>().len(), powers.len());
        }

        #[test]
        fn every_validator_has_its_turn_in_every_lane_and_its_share_of_lanes(
            powers in proptest::collection::vec(1_u64..50, 1..12), lane_count in 1_u16..64,
        ) {
            let schedule = Schedule::new(&set(&powers), usize::from(lane_count));
            let count = u64::try_from(powers.len()).expect("few");
            for lane in (0..lane_count).map(Lane::new) {
                let turns = (1..=count).map(|term| schedule.sequencer(lane, Term::new(term)));
                let distinct: std::collections::BTreeSet<_> = turns.collect();
                prop_assert_eq!(distinct.len(), powers.len());
            }
            let mut dealt: BTreeMap<u16, u64> = BTreeMap::new();
            for lane in (0..lane_count).map(Lane::new) {
                *dealt.entry(schedule.sequencer(lane, Term::new(1)).get()).or_default() += 1;
            }
            let total: u64 = powers.iter().sum();
            for (index, power) in (0_u16..).zip(&powers) {
                let own = dealt.get(&index).copied().unwrap_or(0);
                let share = u64::from(lane_count) * power;
                prop_assert!(own * total < share + 2 * total && (own + 2) * total > share);
            }
            let leaders: std::collections::BTreeSet<_> =
                (0..powers.len()).map(|k| schedule.leader(3, u32::try_from(k).expect("few"))).collect();
            prop_assert_eq!(leaders.len(), powers.len());
        }
    }
}
