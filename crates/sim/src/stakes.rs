//! Stake that moves in a world: what its owner bonds and unbonds, who joins, and evidence that is shown to the ledger.
//!
//! ```text
//!  client 0, the owner ── Bond, Unbond by lot, within bounds that the world bears; Register and Bond of who joins
//!  client 1 ── Evidence of what honest validators found
//!  execution ── the next set, with a coin as a genesis would deal it
//! ```
//! * Criminals' stake stays below a third, whichever of these actions are ordered. In a world that loses disks the others
//!   stay a quorum without any one of them.

use std::collections::VecDeque;

use quipu_consensus::{Context, Evidence};
use quipu_crypto::Tag;
use quipu_crypto::suite::sign_tagged;
use quipu_types::stake::possession_body;
use quipu_types::{AccountId, Action, Encode, Hash, StakeAction, ValidatorSet};

use crate::coins::Dealing;
use crate::shape::{Shape, key};

/// Units of the genesis for each of its shape: so that one more or less is little.
pub(crate) const UNIT_COUNT: u64 = 16;
/// Units by which a bond is more or less than the genesis', at most.
const SWING: u64 = 2;
/// Proofs that wait to be shown.
const EVIDENCE_COUNT_MAX: usize = 64;

/// See the module's header.
#[derive(Debug, Default)]
pub(crate) struct Stakes {
    moves: bool,
    /// Units that the owner means each validator to have.
    bonds: Vec<u64>,
    genesis: Vec<u64>,
    is_honest: Vec<bool>,
    /// Who may be without any stake for a time.
    rests: Option<usize>,
    /// Who joins, as far as it has come: to be registered, to be bonded.
    joins: VecDeque<Action>,
    evidence: VecDeque<StakeAction>,
}

impl Stakes {
    pub(crate) fn new(shape: &Shape, chain: &Hash, owner: AccountId) -> Self {
        let genesis = shape.units();
        let is_honest: Vec<bool> = shape.crimes.iter().map(Option::is_none).collect();
        let mut stakes = Self { is_honest, bonds: genesis.clone(), genesis, ..Self::default() };
        let may_lose = shape.may_lose_disks;
        stakes.moves = shape.moves && stakes.bears(None, may_lose);
        if !stakes.moves {
            return stakes;
        }
        let honest =
            (0..stakes.genesis.len()).rev().find(|at| stakes.is_honest.get(*at) == Some(&true));
        stakes.rests = honest.filter(|at| stakes.bears(Some(*at), may_lose));
        for number in (0..u8::MAX).skip(stakes.genesis.len()).take(shape.joiner_count) {
            stakes.join(number, chain, owner);
        }
        stakes
    }

    fn join(&mut self, number: u8, chain: &Hash, owner: AccountId) {
        let secret = key(number);
        let voting = secret.public();
        let body = possession_body(&voting, &owner);
        let possession = sign_tagged(&secret, chain, 0, Tag::Possession, &body);
        let (name, address) = (format!("v{number}"), "localhost:1".to_owned());
        let register = StakeAction::Register { key: voting, possession, name, address };
        let bond = StakeAction::Bond { key: voting, amount: SWING };
        let both = [register, bond].map(|action| Action::Stake(Box::new(action)));
        self.joins.extend(both);
    }

    /// What the owner does next, if anything.
    pub(crate) fn act(&mut self, random: &mut fastrand::Rng) -> Option<Action> {
        if !self.moves {
            return None;
        }
        if random.bool()
            && let Some(join) = self.joins.pop_front()
        {
            return Some(join);
        }
        let at = random.usize(..self.bonds.len());
        let (bond, genesis) = (self.bonds.get_mut(at)?, *self.genesis.get(at)?);
        let (least, most) = (genesis.saturating_sub(SWING), genesis.saturating_add(SWING));
        let wanted = match random.u8(..4) {
            0 if self.rests == Some(at) => 0,
            _ => random.u64(least..=most),
        };
        // A guilty one never has more than the genesis gives it.
        let wanted =
            if self.is_honest.get(at) == Some(&true) { wanted } else { wanted.min(genesis) };
        let key = key(u8::try_from(at).ok()?).public();
        let action = match wanted.cmp(bond) {
            std::cmp::Ordering::Equal => return None,
            std::cmp::Ordering::Less => {
                StakeAction::Unbond { key, amount: bond.saturating_sub(wanted) }
            }
            std::cmp::Ordering::Greater => {
                StakeAction::Bond { key, amount: wanted.saturating_sub(*bond) }
            }
        };
        *bond = wanted;
        Some(Action::Stake(Box::new(action)))
    }

    /// An honest validator found a proof: it is shown to the ledger.
    pub(crate) fn found(&mut self, evidence: &Evidence, context: &Context) {
        let epoch = evidence.set(context).epoch;
        let shown = StakeAction::Evidence { epoch, bytes: evidence.to_bytes() };
        if self.moves && self.evidence.len() < EVIDENCE_COUNT_MAX && !self.evidence.contains(&shown)
        {
            self.evidence.push_back(shown);
        }
    }

    /// The next proof to be shown.
    pub(crate) fn show(&mut self) -> Option<Action> {
        self.evidence.pop_front().map(|shown| Action::Stake(Box::new(shown)))
    }

    /// Whether the world goes on whatever of its owner's actions is ordered, with `rests` without stake, with the guilty
    /// slashed or not, whoever loses its disk.
    fn bears(&self, rests: Option<usize>, may_lose: bool) -> bool {
        let honest = || {
            let numbered = self.genesis.iter().enumerate();
            let own = numbered.filter(|(at, _)| self.is_honest.get(*at) == Some(&true));
            own.filter(move |(at, _)| rests != Some(*at)).map(|(_, units)| *units)
        };
        let least: u64 = honest().map(|units| units.saturating_sub(SWING)).sum();
        let all: u64 = self.genesis.iter().zip(&self.is_honest).map(|(units, _)| *units).sum();
        let guilty = all
            .saturating_sub(honest().sum())
            .saturating_sub(rests.and_then(|at| self.genesis.get(at)).copied().unwrap_or(0));
        let most = honest().max().unwrap_or(0).saturating_add(SWING);
        let lost = if may_lose { most } else { 0 };
        // Everyone else has the least when the lost one has the most.
        let others = if may_lose {
            least.saturating_sub(most.saturating_sub(SWING.saturating_mul(2)))
        } else {
            least
        };
        [0, guilty].into_iter().all(|guilty| {
            let total = others.saturating_add(lost).saturating_add(guilty);
            guilty.saturating_mul(3) < total && others.saturating_mul(3) > total.saturating_mul(2)
        })
    }
}

/// A next set as a world has it: with the coin that a genesis would deal to it.
pub(crate) fn with_coin(mut set: ValidatorSet, has_coin: bool) -> ValidatorSet {
    set.coin = has_coin.then(|| Dealing::of(&set.powers()).setup.key);
    set
}
