//! The coins of a height's open rounds, and the parts that they are made of.
//!
//! ```text
//!  CoinShare ──> parts by round and validator ── enough ──> combine ──> Coin, the instance that it elects
//!  round changes, proposals of later rounds, Done ── bring whole coins ──┘
//! ```
//! # Invariants
//! * A coin that is kept verifies under the set's key for its place: it is unique, so its first word is the last.
//! * Parts that spoil a combination are dropped with their validator's name; that round takes none of it again.

use std::collections::{BTreeMap, BTreeSet};

use quipu_crypto::coin::{CoinScheme, Combined};
use quipu_types::{Coin, CoinPart, CoinShare, RoundCoin, ValidatorIndex};

use super::work::Instance;

#[derive(Clone, Debug, Default)]
struct Parts {
    given: BTreeMap<ValidatorIndex, Vec<CoinPart>>,
    spoiled: BTreeSet<ValidatorIndex>,
    /// Whether some came since they were last tried.
    is_fresh: bool,
}

/// See the module's header.
#[derive(Clone, Debug, Default)]
pub(super) struct Coins {
    known: BTreeMap<u32, (Coin, ValidatorIndex)>,
    parts: BTreeMap<u32, Parts>,
}

impl Coins {
    /// The coin of a round, and whom it elects.
    pub(super) fn of(&self, round: u32) -> Option<(Coin, ValidatorIndex)> {
        self.known.get(&round).copied()
    }

    /// The instances that are elected, by round.
    pub(super) fn elected(&self) -> impl Iterator<Item = Instance> {
        self.known.iter().map(|(round, (_, elected))| (*round, *elected))
    }

    /// Every known coin below a round, ascending.
    pub(super) fn below(&self, round: u32) -> Vec<RoundCoin> {
        let below = self.known.range(..round);
        below.map(|(round, (coin, _))| RoundCoin { round: *round, coin: *coin }).collect()
    }

    /// Keeps a coin that was checked.
    pub(super) fn learn(&mut self, round: u32, coin: Coin, elected: ValidatorIndex) {
        self.known.entry(round).or_insert((coin, elected));
        self.parts.remove(&round);
    }

    /// Keeps parts whose sender signed them. Two different words of one validator: the first stands.
    pub(super) fn add(&mut self, share: CoinShare) {
        if self.known.contains_key(&share.round) {
            return;
        }
        let parts = self.parts.entry(share.round).or_default();
        if !parts.spoiled.contains(&share.validator) && !parts.given.contains_key(&share.validator)
        {
            parts.given.insert(share.validator, share.parts);
            parts.is_fresh = true;
        }
    }

    /// Combines what came; a coin with its round, if one came out.
    pub(super) fn toss(
        &mut self,
        scheme: &CoinScheme,
        message: impl Fn(u32) -> Vec<u8>,
    ) -> Option<(u32, Coin)> {
        for (round, parts) in self.parts.iter_mut().filter(|(_, parts)| parts.is_fresh) {
            loop {
                match scheme.combine(&message(*round), &parts.given) {
                    Combined::Coin(coin) => return Some((*round, coin)),
                    Combined::Wrong(validators) if !validators.is_empty() => {
                        parts.given.retain(|validator, _| !validators.contains(validator));
                        parts.spoiled.extend(validators);
                    }
                    Combined::Wrong(_) | Combined::TooFew => break,
                }
            }
            parts.is_fresh = false;
        }
        None
    }
}
