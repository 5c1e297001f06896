//! What actions cost. Every price is zero until a genesis sets others; fees go through this table all the same.
//!
//! ```text
//!  fee = transaction + Σ over actions: append + append_byte × (key + payload) | transfer | stream_create
//!                                      | program: append × rows listed, 1 at least, + append_byte × size
//!                                      | definition: stream_create + append_byte × size | reads: append_byte × size
//!                                      | call, group, stake: append + append_byte × size
//! ```
//! Prices are in units, the same in which balances are counted. A fee leaves the signer's account before
//! the actions run and goes to no one. Sums saturate: a fee that does not fit can not be paid.

use quipu_types::program::Op;
use quipu_types::{Action, Encode as _, Transaction};

/// Prices in units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// Per transaction.
    pub transaction: u64,
    /// Per event appended, row that a program lists, call, or action of a group or of stake.
    pub append: u64,
    /// Per byte of an event's key and payload, of a program, a call, an action of a group or of stake, a definition or what was read.
    pub append_byte: u64,
    /// Per transfer.
    pub transfer: u64,
    /// Per stream created or definition.
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
        let bytes = |size: usize| self.append_byte.saturating_mul(number(size));
        match action {
            Action::Append { key, payload, .. } => {
                self.append.saturating_add(bytes(key.len().saturating_add(payload.len())))
            }
            Action::Transfer { .. } => self.transfer,
            Action::CreateStream(_) => self.stream_create,
            Action::Run(program) => {
                let rows = match &program.op {
                    Op::Insert { rows, .. } => rows.len().max(1),
                    Op::Update { .. } | Op::Delete { .. } | Op::Truncate | Op::Number { .. } => 1,
                };
                let rows = self.append.saturating_mul(number(rows));
                rows.saturating_add(bytes(program.to_bytes().len()))
            }
            Action::Define(define) => {
                self.stream_create.saturating_add(bytes(define.to_bytes().len()))
            }
            Action::Reads(reads) => bytes(reads.to_bytes().len()),
            Action::Call(call) => self.append.saturating_add(bytes(call.to_bytes().len())),
            Action::Group(action) => self.append.saturating_add(bytes(action.to_bytes().len())),
            Action::Stake(action) => self.append.saturating_add(bytes(action.to_bytes().len())),
        }
    }
}

fn number(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}
