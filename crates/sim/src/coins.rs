//! Coins as a genesis deals them, from the stakes alone. Dealt once in a process: a dealing takes milliseconds. What was
//! signed and combined in one world is known in the next one with the same genesis.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use quipu_crypto::coin::{self, CoinMemory, CoinScheme, CoinSecret, Combined};
use quipu_types::{Coin, CoinSetup, ValidatorIndex};

/// Words of validators, and coins, that are kept for each dealing.
const MEMORY_COUNT_MAX: usize = 1 << 16;

/// What was dealt to validators of some stakes.
#[derive(Debug)]
pub(crate) struct Dealing {
    /// What all know.
    pub(crate) setup: CoinSetup,
    /// What makes coins of parts.
    pub(crate) scheme: CoinScheme,
    secrets: Vec<CoinSecret>,
    memory: Arc<CoinMemory>,
}

impl Dealing {
    /// What was dealt to validators of these stakes.
    pub(crate) fn of(powers: &[u64]) -> Arc<Self> {
        static DEALT: Mutex<BTreeMap<Vec<u64>, Arc<Dealing>>> = Mutex::new(BTreeMap::new());
        let mut dealt = DEALT.lock().unwrap_or_else(PoisonError::into_inner);
        let deal = || {
            let (setup, secrets) = coin::deal(powers, &[42; 32]);
            let scheme = CoinScheme::new(&setup, powers).expect("a dealing of our own is right");
            let memory = Arc::new(CoinMemory::new(MEMORY_COUNT_MAX));
            let scheme = scheme.with_memory(Arc::clone(&memory));
            Arc::new(Self { setup, scheme, secrets, memory })
        };
        Arc::clone(dealt.entry(powers.to_vec()).or_insert_with(deal))
    }

    /// The coin of a message, and whom it elects.
    pub(crate) fn elected(&self, message: &[u8]) -> (Coin, ValidatorIndex) {
        let numbered = (0_u16..).map(ValidatorIndex::new).zip(&self.secrets);
        let given = numbered.map(|(validator, secret)| (validator, secret.sign(message))).collect();
        match self.scheme.combine(message, &given) {
            Combined::Coin(coin) => (coin, self.scheme.elect(&coin)),
            other => unreachable!("all shares together make a coin: {other:?}"),
        }
    }

    /// A validator's shares.
    pub(crate) fn secret(&self, validator: ValidatorIndex) -> Option<CoinSecret> {
        let secret = self.secrets.get(usize::from(validator.get()))?;
        let secret = CoinSecret::from_bytes(&secret.to_bytes()).expect("its own bytes read back");
        Some(secret.with_memory(validator, Arc::clone(&self.memory)))
    }
}
