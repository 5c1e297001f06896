//! How often each operation is asked for, and for how many items: whether callers gather enough for wide kernels.

use std::sync::atomic::{AtomicU64, Ordering};

/// An operation of [`crate::Accel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Sha256Many,
    Sha256Nodes,
    Sha256Chains,
    Keccak256,
    Blake2b256,
    Ed25519,
    Secp256k1,
}

/// In the order of the enumeration.
const NAMES: [&str; 7] = [
    "sha256_many",
    "sha256_nodes",
    "sha256_chains",
    "keccak256",
    "blake2b256",
    "ed25519",
    "secp256k1",
];

/// What was asked of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationCount {
    /// Its name.
    pub operation: &'static str,
    /// Calls.
    pub calls: u64,
    /// Items of all calls: what a call had on average is this by [`OperationCount::calls`].
    pub items: u64,
}

/// Counters that any thread adds to.
#[derive(Debug, Default)]
pub(super) struct Counts([(AtomicU64, AtomicU64); NAMES.len()]);

impl Counts {
    /// Counts a call; one for nothing does not count.
    #[expect(clippy::as_conversions, reason = "the discriminant of a plain enumeration")]
    pub(super) fn add(&self, operation: Operation, item_count: usize) {
        if let Some((calls, items)) = self.0.get(operation as usize).filter(|_| item_count > 0) {
            calls.fetch_add(1, Ordering::Relaxed);
            items.fetch_add(u64::try_from(item_count).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> Vec<OperationCount> {
        let read = |(operation, (calls, items)): (&&'static str, &(AtomicU64, AtomicU64))| {
            let (calls, items) = (calls.load(Ordering::Relaxed), items.load(Ordering::Relaxed));
            OperationCount { operation, calls, items }
        };
        NAMES.iter().zip(&self.0).map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_counts_under_its_own_name() {
        let all = [
            Operation::Sha256Many,
            Operation::Sha256Nodes,
            Operation::Sha256Chains,
            Operation::Keccak256,
            Operation::Blake2b256,
            Operation::Ed25519,
            Operation::Secp256k1,
        ];
        let counts = Counts::default();
        for (item_count, operation) in (1..).zip(all) {
            counts.add(operation, item_count);
            counts.add(operation, 10);
            counts.add(operation, 0);
        }
        let read = counts.read();
        assert_eq!(read.len(), all.len());
        for ((items, operation), count) in (11..).zip(all).zip(read) {
            let name = format!("{operation:?}").to_lowercase();
            assert_eq!(name, count.operation.replace('_', ""));
            assert_eq!((count.calls, count.items), (2, items));
        }
    }
}
