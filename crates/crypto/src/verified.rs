//! What was verified is not verified again: a bounded memory of signatures that were found right.
//!
//! ```text
//!  verify(key, message, signature) ── name = BLAKE3(suite ‖ key ‖ signature ‖ message) ── known? yes
//!                                                                                          └─ no: check, keep
//! ```
//! # Invariants
//! * V1 [`verify`] is a pure function, so remembering changes no verdict. Only right ones are kept: what is wrong
//!   is found wrong again.
//! * V2 A name covers every byte that a verdict depends on; the suite fixes the sizes of key and signature, so
//!   no two different triples share the bytes that are hashed.
//! # Limits
//! [`Recent`] with a size of 1 each; one takes about 100 bytes.

use std::fmt;

use quipu_types::{Coin, CoinKey, Hash, PublicKey, Signature};

use crate::coin;
use crate::hash::blake3;
use crate::recent::{CacheCounts, Recent};
use crate::suite::{VerifyItem, verify, verify_many};

/// Signatures that one validator remembers: the votes and acks of some hundred heights, of a hundred validators.
pub const COUNT_DEFAULT: usize = 1 << 15;

/// Stands where a suite's tag does, and is none.
const COIN_TAG: u8 = u8::MAX;

/// The memory. One serves a whole validator; its users share it.
pub struct Verified(Recent<Hash, ()>);

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Verified").field(&self.0).finish()
    }
}

impl Default for Verified {
    fn default() -> Self {
        Self::new(COUNT_DEFAULT)
    }
}

impl Verified {
    /// Knows nothing yet and remembers at most `count_max` signatures.
    #[must_use]
    pub const fn new(count_max: usize) -> Self {
        Self(Recent::new(count_max))
    }

    /// As [`verify`].
    #[must_use]
    pub fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        let name = name(key, message, signature);
        if self.knows(&name) {
            return true;
        }
        let holds = verify(key, message, signature);
        if holds {
            self.keep(name);
        }
        holds
    }

    /// As [`verify_many`]; only what is not known is checked, together.
    #[must_use]
    pub fn verify_many(&self, items: &[VerifyItem<'_>]) -> Vec<bool> {
        let names: Vec<Hash> =
            items.iter().map(|item| name(item.key, item.message, item.signature)).collect();
        let known: Vec<bool> = names.iter().map(|name| self.knows(name)).collect();
        let asked: Vec<VerifyItem<'_>> =
            items.iter().zip(&known).filter(|(_, known)| !**known).map(|(item, _)| *item).collect();
        let mut verdicts = verify_many(&asked).into_iter();
        let mut verdict_of = |name: Hash, known: bool| {
            if known {
                return true;
            }
            let holds = verdicts.next().expect("each that is not known was asked about");
            if holds {
                self.keep(name);
            }
            holds
        };
        names.into_iter().zip(known).map(|(name, known)| verdict_of(name, known)).collect()
    }

    /// As [`coin::verify`].
    #[must_use]
    pub fn verify_coin(&self, key: &CoinKey, message: &[u8], coin: &Coin) -> bool {
        let name = coin_name(key, message, coin);
        let holds = self.knows(&name) || coin::verify(key, message, coin);
        if holds {
            self.keep(name);
        }
        holds
    }

    /// Remembers a signature that was made here, by the key itself.
    pub fn made(&self, key: &PublicKey, message: &[u8], signature: &Signature) {
        self.keep(name(key, message, signature));
    }

    /// Remembers a coin that was combined here, and so verified.
    pub fn combined(&self, key: &CoinKey, message: &[u8], coin: &Coin) {
        self.keep(coin_name(key, message, coin));
    }

    /// How often it was asked.
    #[must_use]
    pub fn counts(&self) -> CacheCounts {
        self.0.counts()
    }

    fn knows(&self, name: &Hash) -> bool {
        self.0.get(name).is_some()
    }

    fn keep(&self, name: Hash) {
        self.0.keep(name, (), 1);
    }
}

fn name(key: &PublicKey, message: &[u8], signature: &Signature) -> Hash {
    let tag = [key.suite().tag()];
    blake3(&[&tag[..], key.bytes(), &signature.0, message].concat())
}

fn coin_name(key: &CoinKey, message: &[u8], coin: &Coin) -> Hash {
    blake3(&[&[COIN_TAG][..], &key.0, &coin.0, message].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quipu_types::Suite;

    use super::*;
    use crate::suite::SecretKey;

    /// Messages of one key; a message of an odd number is signed by another.
    fn signed(number: u8) -> (PublicKey, [u8; 1], Signature) {
        let key = SecretKey::from_seed(Suite::Ed25519Sha256, [7; 32]);
        let other = SecretKey::from_seed(Suite::Ed25519Sha256, [8; 32]);
        let signer = if number.is_multiple_of(2) { &key } else { &other };
        (key.public(), [number], signer.sign(&[number]))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn remembering_changes_no_verdict(
            numbers in prop::collection::vec(0_u8..12, 0..40),
            count_max in 0_usize..10,
            cut in 0_usize..40,
        ) {
            let verified = Verified::new(count_max);
            let all: Vec<_> = numbers.iter().map(|number| signed(*number)).collect();
            let right = |number: &u8| number.is_multiple_of(2);
            let (one_by_one, together) = all.split_at(cut.min(all.len()));
            for ((key, message, signature), number) in one_by_one.iter().zip(&numbers) {
                prop_assert_eq!(verified.verify(key, message, signature), right(number));
            }
            let items: Vec<_> = together
                .iter()
                .map(|(key, message, signature)| VerifyItem { key, message, signature })
                .collect();
            let wanted: Vec<bool> = numbers.iter().skip(one_by_one.len()).map(right).collect();
            prop_assert_eq!(verified.verify_many(&items), wanted);
            let CacheCounts { hits, misses } = verified.counts();
            prop_assert_eq!(usize::try_from(hits.saturating_add(misses)), Ok(numbers.len()));
        }
    }

    #[test]
    fn what_was_verified_or_made_is_known_and_what_was_wrong_is_not() {
        let verified = Verified::default();
        let ask = |number: u8| {
            let (key, message, signature) = signed(number);
            (verified.verify(&key, &message, &signature), verified.counts().hits)
        };
        assert_eq!(
            [ask(0), ask(0), ask(1), ask(1)],
            [(true, 0), (true, 1), (false, 1), (false, 1)]
        );
        let (key, message, signature) = signed(2);
        verified.made(&key, &message, &signature);
        assert_eq!(ask(2), (true, 2));
    }
}
