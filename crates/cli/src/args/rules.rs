//! How stake moves in a ledger that is being made.

use clap::Args;
use quipu_types::genesis::StakeRules;

/// Options of `quipu init` and `quipu genesis new`; they become part of the genesis, and never change.
#[derive(Clone, Debug, Args)]
pub(crate) struct Rules {
    /// Nobody joins or leaves: the validators are those of the genesis, always.
    #[arg(long, conflicts_with_all = ["epoch", "unbonding", "bond_min", "slash"])]
    pub(crate) fixed_validators: bool,
    /// Least milliseconds of an epoch: so often the validators change at most.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    pub(crate) epoch: u64,
    /// Milliseconds for which what was unbonded stays locked, and answers for its validator.
    #[arg(long, value_name = "MS", default_value_t = 600_000)]
    pub(crate) unbonding: u64,
    /// Least units of a bond that gives power.
    #[arg(long, value_name = "UNITS", default_value_t = 1)]
    pub(crate) bond_min: u64,
    /// What evidence costs of a bond, in thousandths.
    #[arg(long, value_name = "PERMILLE", default_value_t = 1_000)]
    pub(crate) slash: u16,
}

impl Rules {
    /// As the genesis has them; none for fixed validators.
    pub(crate) fn stake(&self) -> Option<StakeRules> {
        (!self.fixed_validators).then_some(StakeRules {
            epoch_us: self.epoch.saturating_mul(1_000),
            unbond_us: self.unbonding.saturating_mul(1_000),
            bond_min: self.bond_min,
            slash_permille: self.slash,
        })
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            fixed_validators: false,
            epoch: 10_000,
            unbonding: 600_000,
            bond_min: 1,
            slash: 1_000,
        }
    }
}
