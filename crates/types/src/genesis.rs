//! The genesis: what every member of a ledger agrees on before its first header. JSON, pretty, for people.
//!
//! The **chain id** is the SHA-256 of [`Genesis::to_bytes`] (its canonical bytes, not the file's text), and is
//! also the anchor and `prev_header` of height 1. Whoever holds the file can verify any proof of the ledger.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::agreement::{LANE_COUNT_MAX, VALIDATOR_COUNT_MAX, Validator, ValidatorSet};
use crate::codec::{Encode, put_bytes, put_count, put_option};
use crate::coin::CoinSetup;
use crate::number::{AccountId, PublicKey, Signature, Time};
use crate::round::Rounds;

/// Most bytes of a genesis file.
pub const GENESIS_SIZE_MAX: usize = 1 << 20;
/// Version of the format.
pub const GENESIS_VERSION: u32 = 1;

/// What all members agree on before height 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// [`GENESIS_VERSION`].
    pub version: u32,
    /// For people.
    pub name: String,
    /// When it was made; the parent time of height 1.
    pub time_us: Time,
    /// Number of lanes, 1 to 64. Never changes.
    pub lane_count: u16,
    /// A public text that no clock of this ledger can have started before.
    pub clock_seed: String,
    /// Declared rate of each lane's clock, in hashes a second.
    pub clock_rate_hz: u64,
    /// Rate of the fastest silicon granted to an attacker, in hashes a second: n hashes prove n ÷ this seconds.
    pub hash_rate_fastest_hz: u64,
    /// Heights for which an anchor is good: 1,048,576 are 87 minutes at 5 ms a height, 12 days at 1 s.
    pub anchor_window_heights: u64,
    /// Least time between two heights.
    pub height_interval_min_ms: u64,
    /// Time after which a height is made though nothing is pending.
    pub height_interval_idle_ms: u64,
    /// Whether anyone may append to a stream whose creator did not say otherwise.
    pub open_streams: bool,
    /// Who validates, in the order of their indices.
    pub validators: Vec<GenesisValidator>,
    /// Balances at height 0, ascending by account.
    pub accounts: Vec<GenesisAccount>,
    /// The coin of open rounds, as it was dealt: whoever dealt it is trusted to have forgotten the secret. None: every
    /// round is led.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coin: Option<CoinSetup>,
    /// How stake moves. None: the validators are those of the genesis, always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stake: Option<StakeRules>,
}

/// How stake moves. Times are those of headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StakeRules {
    /// Least time of an epoch, in µs: so often the set of validators changes at most.
    pub epoch_us: u64,
    /// Time, in µs, for which what was unbonded stays locked, and answers for its validator.
    pub unbond_us: u64,
    /// Least bond, in units, with which a validator has power.
    pub bond_min: u64,
    /// What a validator's bond loses by evidence, in thousandths.
    pub slash_permille: u16,
    /// Time, in µs, of each of two phases in which the validators of the next epoch make its coin: for dealings, and for
    /// grievances. With 0, or a genesis without a coin, an epoch whose set differs has none.
    #[serde(default)]
    pub deal_us: u64,
    /// Heights without its vote after which a validator is stale, while nobody else is; never with 0.
    #[serde(default)]
    pub stale_heights: u32,
}

/// A validator of the first epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisValidator {
    /// For people.
    pub name: String,
    /// The voting key.
    pub key: PublicKey,
    /// The stake.
    pub power: u64,
    /// The key's signature over itself (tag `Possession`, chain id zero): whoever names it holds it.
    pub possession: Signature,
    /// Who may bond more to it, and unbond: its power is what is bonded to it at height 0. Nobody, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<AccountId>,
}

/// A balance at height 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisAccount {
    /// The account.
    pub account: AccountId,
    /// Units.
    pub balance: u64,
}

/// Why a text is no genesis.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum GenesisError {
    /// Not the JSON of a genesis.
    #[error("genesis file is not valid JSON of a genesis: {reason}")]
    Json {
        /// The parser's words.
        reason: String,
    },
    /// A rule is broken.
    #[error("genesis: {reason}")]
    Rule {
        /// Which.
        reason: String,
    },
}

impl Genesis {
    /// Reads and checks a genesis file's text. Proofs of possession are for `quipu-crypto` to check.
    pub fn from_json(text: &str) -> Result<Self, GenesisError> {
        if text.len() > GENESIS_SIZE_MAX {
            return Err(rule(format!("{} bytes, the most is {GENESIS_SIZE_MAX}", text.len())));
        }
        let genesis: Self = serde_json::from_str(text)
            .map_err(|error| GenesisError::Json { reason: error.to_string() })?;
        genesis.check()?;
        Ok(genesis)
    }

    /// The file's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("plain data has a JSON form");
        text.push('\n');
        text
    }

    /// The validators of epoch 0.
    #[must_use]
    pub fn validator_set(&self) -> ValidatorSet {
        let validators = self
            .validators
            .iter()
            .map(|one| Validator { key: one.key, power: one.power, is_stale: false })
            .collect();
        let coin = self.coin.as_ref().map(|setup| setup.key);
        ValidatorSet { epoch: 0, validators, coin }
    }

    /// Of which kind the rounds of height 1 are.
    #[must_use]
    pub const fn rounds(&self) -> Rounds {
        Rounds::genesis(self.coin.is_some())
    }

    /// Checks a draft: everything but who validates, which is not known yet.
    pub fn check_draft(&self) -> Result<(), GenesisError> {
        if !self.validators.is_empty() {
            return Err(rule(format!(
                "a draft names no validators, not {}",
                self.validators.len()
            )));
        }
        if self.coin.is_some() {
            return Err(rule("a draft deals no coin: it is dealt to those who join".into()));
        }
        self.check_rules()
    }

    /// Checks every rule that needs no cryptography.
    pub fn check(&self) -> Result<(), GenesisError> {
        self.check_rules()?;
        if self.validators.is_empty() || self.validators.len() > VALIDATOR_COUNT_MAX {
            return Err(rule(format!("{} validators", self.validators.len())));
        }
        let mut keys = std::collections::BTreeSet::new();
        for validator in &self.validators {
            if validator.power == 0 {
                return Err(rule(format!("validator {:?} has no power", validator.name)));
            }
            if !keys.insert(validator.key) {
                return Err(rule(format!("validator {:?} repeats a key", validator.name)));
            }
            if validator.owner.is_some() && self.stake.is_none() {
                let name = &validator.name;
                return Err(rule(format!(
                    "validator {name:?} has an owner, but stake cannot move"
                )));
            }
        }
        Ok(())
    }

    /// The rules that do not depend on who validates.
    fn check_rules(&self) -> Result<(), GenesisError> {
        if self.version != GENESIS_VERSION {
            return Err(rule(format!("version {}, this is {GENESIS_VERSION}", self.version)));
        }
        if self.lane_count == 0 || usize::from(self.lane_count) > LANE_COUNT_MAX {
            return Err(rule(format!("lane_count {}, 1 to {LANE_COUNT_MAX}", self.lane_count)));
        }
        if self.clock_rate_hz == 0 || self.clock_rate_hz > self.hash_rate_fastest_hz {
            return Err(rule("clock_rate_hz must be 1 to hash_rate_fastest_hz".into()));
        }
        if self.height_interval_min_ms == 0
            || self.height_interval_idle_ms < self.height_interval_min_ms
            || self.height_interval_idle_ms > 60_000
        {
            return Err(rule("height intervals must be 1 ms ≤ min ≤ idle ≤ 60,000 ms".into()));
        }
        if self.stake.is_some_and(|stake| {
            stake.epoch_us == 0 || stake.bond_min == 0 || stake.slash_permille > 1_000
        }) {
            return Err(rule(
                "stake needs epoch_us and bond_min above 0, slash_permille up to 1,000".into(),
            ));
        }
        if !self.accounts.is_sorted_by(|a, b| a.account < b.account) {
            return Err(rule("accounts must ascend, each once".into()));
        }
        Ok(())
    }
}

fn rule(reason: String) -> GenesisError {
    GenesisError::Rule { reason }
}

impl Encode for Genesis {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_le_bytes());
        put_bytes(out, self.name.as_bytes());
        self.time_us.encode(out);
        out.extend_from_slice(&self.lane_count.to_le_bytes());
        put_bytes(out, self.clock_seed.as_bytes());
        for number in [
            self.clock_rate_hz,
            self.hash_rate_fastest_hz,
            self.anchor_window_heights,
            self.height_interval_min_ms,
            self.height_interval_idle_ms,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.push(u8::from(self.open_streams));
        put_count(out, self.validators.len());
        for validator in &self.validators {
            put_bytes(out, validator.name.as_bytes());
            validator.key.encode(out);
            out.extend_from_slice(&validator.power.to_le_bytes());
            validator.possession.encode(out);
        }
        put_count(out, self.accounts.len());
        for account in &self.accounts {
            account.account.encode(out);
            out.extend_from_slice(&account.balance.to_le_bytes());
        }
        put_option(out, self.coin.as_ref());
        // Nothing follows where stake does not move: such a genesis keeps the name that it had before there were rules.
        if let Some(stake) = &self.stake {
            for number in [stake.epoch_us, stake.unbond_us, stake.bond_min] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(&stake.slash_permille.to_le_bytes());
            out.extend_from_slice(&stake.deal_us.to_le_bytes());
            out.extend_from_slice(&stake.stale_heights.to_le_bytes());
            for validator in &self.validators {
                put_option(out, validator.owner.as_ref());
            }
        }
    }
}
