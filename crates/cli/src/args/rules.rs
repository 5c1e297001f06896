//! How stake moves in a ledger that is being made.

use clap::Args;
use quipu_types::genesis::StakeRules;

const EPOCH_MS: u64 = 10_000;
const UNBONDING_MS: u64 = 600_000;
const BOND_MIN: u64 = 1;
const SLASH_PERMILLE: u16 = 1_000;
const DEALING_MS: u64 = 2_000;
/// 2.6 s at 5 ms a height, 8.5 minutes at a second.
const STALE_HEIGHTS: u32 = 512;

/// Options of `quipu init` and `quipu genesis new`; they become part of the genesis, and never change.
#[derive(Clone, Debug, Args)]
pub(crate) struct Rules {
    /// Nobody joins or leaves: the validators are those of the genesis, always.
    #[arg(long, conflicts_with_all = ["epoch", "unbonding", "bond_min", "slash", "dealing", "stale_after"])]
    pub(crate) fixed_validators: bool,
    /// Least milliseconds of an epoch: so often the validators change at most.
    #[arg(long, value_name = "MS", default_value_t = EPOCH_MS)]
    pub(crate) epoch: u64,
    /// Milliseconds for which what was unbonded stays locked, and answers for its validator.
    #[arg(long, value_name = "MS", default_value_t = UNBONDING_MS)]
    pub(crate) unbonding: u64,
    /// Least units of a bond that gives power.
    #[arg(long, value_name = "UNITS", default_value_t = BOND_MIN)]
    pub(crate) bond_min: u64,
    /// What evidence costs of a bond, in thousandths.
    #[arg(long, value_name = "PERMILLE", default_value_t = SLASH_PERMILLE)]
    pub(crate) slash: u16,
    /// Milliseconds in which the next epoch's validators deal its coin, and as many again in which they may complain of what
    /// was dealt; with 0 only the first epoch has a coin, and later ones have led rounds only.
    #[arg(long, value_name = "MS", default_value_t = DEALING_MS)]
    pub(crate) dealing: u64,
    /// Heights without its vote after which a validator is stale: it keeps its weight, and from the next epoch on sequences no
    /// lane until it votes again; never with 0.
    #[arg(long, value_name = "HEIGHTS", default_value_t = STALE_HEIGHTS)]
    pub(crate) stale_after: u32,
}

impl Rules {
    /// As the genesis has them; none for fixed validators.
    pub(crate) fn stake(&self) -> Option<StakeRules> {
        (!self.fixed_validators).then_some(StakeRules {
            epoch_us: self.epoch.saturating_mul(1_000),
            unbond_us: self.unbonding.saturating_mul(1_000),
            bond_min: self.bond_min,
            slash_permille: self.slash,
            deal_us: self.dealing.saturating_mul(1_000),
            stale_heights: self.stale_after,
        })
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            fixed_validators: false,
            epoch: EPOCH_MS,
            unbonding: UNBONDING_MS,
            bond_min: BOND_MIN,
            slash: SLASH_PERMILLE,
            dealing: DEALING_MS,
            stale_after: STALE_HEIGHTS,
        }
    }
}
