//! What actions cost. Every price is zero until a genesis sets others; fees go through this table all the same.
//!
//! ```text
//!  fee = transaction + Σ over actions: append + append_byte × (key + payload) | transfer | stream_create
//! ```
//! Prices are in units, the same in which balances are counted. A fee leaves the signer's account before
//! the actions run and goes to no one. Sums saturate: a fee that does not fit can not be paid.

use quipu_types::{Action, Transaction};

/// Prices in units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// Per transaction.
    pub transaction: u64,
    /// Per event appended.
    pub append: u64,
    /// Per byte of an event's key and payload.
    pub append_byte: u64,
    /// Per transfer.
    pub transfer: u64,
    /// Per stream created.
    pub stream_create: u64,
}

/// The prices in force.
pub const PRICES: Prices =
    Prices { transaction: 0, append: 0, append_byte: 0, transfer: 0, stream_create: 0 };

impl Prices {
    /// What a transaction pays, whether its actions can run or not.
    #[must_use]
    pub fn fee(&self, transaction: &Transaction) -> u64 {
        if *self == Self::default() {
            return 0;
        }
        let actions = transaction.actions.iter().map(|action| self.action(action));
        actions.fold(self.transaction, u64::saturating_add)
    }

    fn action(&self, action: &Action) -> u64 {
        match action {
            Action::Append { key, payload, .. } => {
                let size = key.len().saturating_add(payload.len());
                let size = u64::try_from(size).unwrap_or(u64::MAX);
                self.append.saturating_add(self.append_byte.saturating_mul(size))
            }
            Action::Transfer { .. } => self.transfer,
            Action::CreateStream(_) => self.stream_create,
        }
    }
}
