//! Rows that an executed transaction gives back, from the executor to the client that waits for them.
//!
//! Every validator computes them (`Program::returns`); only where somebody said before that he wants them are they kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quipu_types::Hash;

type Rows = Vec<Vec<u8>>;

/// Who waits for rows, by the transaction's name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Returned {
    wanted: Arc<Mutex<BTreeMap<Hash, Option<Rows>>>>,
}

/// That somebody waits; forgotten when it is dropped.
#[derive(Debug)]
pub(crate) struct Wanted {
    returned: Returned,
    tx: Hash,
}

impl Returned {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Hash, Option<Rows>>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the rows of a transaction that is not executed yet.
    pub(crate) fn want(&self, tx: Hash) -> Wanted {
        self.lock().insert(tx, None);
        Wanted { returned: self.clone(), tx }
    }

    /// Gives the rows of a height to those who wait for them.
    pub(crate) fn give(&self, all: BTreeMap<Hash, Rows>) {
        let mut wanted = self.lock();
        for (tx, rows) in all {
            if let Some(place) = wanted.get_mut(&tx) {
                *place = Some(rows);
            }
        }
    }
}

impl Wanted {
    /// The rows, if they have come.
    pub(crate) fn take(self) -> Option<Rows> {
        self.returned.lock().get_mut(&self.tx).and_then(Option::take)
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.returned.lock().remove(&self.tx);
    }
}
