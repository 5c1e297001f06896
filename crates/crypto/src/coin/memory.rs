//! What was signed and combined is not computed again: parts and coins are functions of their message.
//!
//! For processes that play many validators, as simulators and tests do: one of them says its parts once and throws a coin
//! once, and needs no memory.
//!
//! ```text
//!  CoinSecret::sign(message) ──> parts of a validator ──┐ known: theirs are right
//!  CoinScheme::combine(message, given) ── all known? ───┴──> the coin of the message, if it is known
//!                                         └─ no: combine, verify, keep
//! ```
//! # Invariants
//! * Y1 A verdict with a memory is the one without it: the coin of a message is given only for parts that are, byte for
//!   byte, those that secrets of the setup signed; these lie on its polynomial (K1).
//! # Limits
//! [`Recent`] with a size of 1 each: parts take up to 3 KiB, coins about 200 bytes. A memory is of one setup.

use std::fmt;

use quipu_types::{Coin, CoinPart, ValidatorIndex};

use crate::recent::Recent;

/// The memory of one setup. Its users share it.
pub struct CoinMemory {
    parts: Recent<(Vec<u8>, ValidatorIndex), Vec<CoinPart>>,
    coins: Recent<Vec<u8>, Coin>,
}

impl fmt::Debug for CoinMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoinMemory")
            .field("parts", &self.parts)
            .field("coins", &self.coins)
            .finish_non_exhaustive()
    }
}

impl CoinMemory {
    /// Knows nothing yet, and remembers at most so many validators' words, and coins.
    #[must_use]
    pub const fn new(count_max: usize) -> Self {
        Self { parts: Recent::new(count_max), coins: Recent::new(count_max) }
    }

    /// What a validator's secret signed, or signs now.
    pub(super) fn parts(
        &self,
        message: &[u8],
        validator: ValidatorIndex,
        sign: impl FnOnce() -> Vec<CoinPart>,
    ) -> Vec<CoinPart> {
        let place = (message.to_vec(), validator);
        self.parts.get(&place).unwrap_or_else(|| {
            let parts = sign();
            self.parts.keep(place, parts.clone(), 1);
            parts
        })
    }

    /// The coin of a message, if it and all these parts are known.
    pub(super) fn coin<'a>(
        &self,
        message: &[u8],
        mut given: impl Iterator<Item = (ValidatorIndex, &'a Vec<CoinPart>)>,
    ) -> Option<Coin> {
        let coin = self.coins.get(&message.to_vec())?;
        let is_known = |validator, parts: &Vec<CoinPart>| {
            self.parts.get(&(message.to_vec(), validator)).is_some_and(|known| known == *parts)
        };
        given.all(|(validator, parts)| is_known(validator, parts)).then_some(coin)
    }

    /// Keeps a coin that verifies.
    pub(super) fn keep(&self, message: &[u8], coin: Coin) {
        self.coins.keep(message.to_vec(), coin, 1);
    }
}
