//! Stake that moves in a world: which set follows which, at which height it is known. A function of the seed, as the state
//! would be; the state machine's own bonds are tested beside it.
//!
//! ```text
//!  epoch 0   as in the genesis         4 times each stake, one honest validator has 1 more
//!  epoch e   the same of another one, or one honest validator has none, where the world bears that
//! ```
//! * Criminals' stake stays below a third. In a world that loses disks the others stay a quorum without any one of them.

use quipu_types::{Header, Validator, ValidatorSet};

use crate::coins::Dealing;
use crate::shape::Shape;

/// Epochs after which stake stands still: who holds up a lane gets it anew with each, faster than others may depose it.
const EPOCH_COUNT_MAX: u64 = 6;

/// See the module's header.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sets {
    /// Heights between two sets; 0 for none.
    step: u64,
    genesis: Option<ValidatorSet>,
    is_honest: Vec<bool>,
    may_lose_disks: bool,
}

impl Sets {
    pub(crate) fn new(shape: &Shape, genesis: ValidatorSet) -> Self {
        Self {
            step: shape.epoch_height_count,
            genesis: Some(genesis),
            is_honest: shape.crimes.iter().map(Option::is_none).collect(),
            may_lose_disks: shape.may_lose_disks,
        }
    }

    /// The set that execution of a height finds to be next.
    pub(crate) fn next(&self, header: &Header) -> Option<ValidatorSet> {
        let next = header.epoch.saturating_add(1);
        let moves = self.step > 0 && next <= EPOCH_COUNT_MAX;
        let known_at = next.checked_mul(self.step).filter(|_| moves)?;
        (header.height.get() >= known_at).then(|| self.of(next)).flatten()
    }

    fn of(&self, epoch: u64) -> Option<ValidatorSet> {
        let genesis = self.genesis.as_ref()?;
        let mut powers: Vec<u64> =
            genesis.validators.iter().map(|own| own.power.saturating_mul(4)).collect();
        let honest: Vec<usize> =
            (0..powers.len()).filter(|at| self.is_honest.get(*at) == Some(&true)).collect();
        let turn = usize::try_from(epoch).ok()?.checked_rem(honest.len())?;
        let at = *honest.get(turn)?;
        let mut without = powers.clone();
        *without.get_mut(at)? = 0;
        if epoch.is_multiple_of(2) && self.bears(&without) {
            powers = without;
        } else {
            let own = powers.get_mut(at)?;
            *own = own.saturating_add(1);
        }
        let coin = genesis.coin.map(|_| Dealing::of(&powers).setup.key);
        let validators = genesis.validators.iter().zip(powers);
        let validators = validators.map(|(own, power)| Validator { power, ..*own }).collect();
        Some(ValidatorSet { epoch, validators, coin })
    }

    /// Whether the world goes on with these stakes, whoever loses its disk.
    fn bears(&self, powers: &[u64]) -> bool {
        let total: u64 = powers.iter().sum();
        let of = |honest: bool| {
            let own = powers.iter().zip(&self.is_honest).filter(move |(_, is)| **is == honest);
            own.map(|(power, _)| *power)
        };
        let guilty: u64 = of(false).sum();
        let lost = if self.may_lose_disks { of(true).max().unwrap_or(0) } else { 0 };
        let rest = total.saturating_sub(guilty).saturating_sub(lost);
        guilty.saturating_mul(3) < total && rest.saturating_mul(3) > total.saturating_mul(2)
    }
}
