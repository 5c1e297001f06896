//! What programs did, from the executor to the clients that wait for it.
//!
//! Every validator computes it; it is kept only where somebody said before that he waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quipu_state::Done;
use quipu_types::Hash;

type Waiting = BTreeMap<Hash, Option<Vec<Done>>>;

/// Who waits, by the transaction's name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Awaited {
    waiting: Arc<Mutex<Waiting>>,
}

/// That somebody waits; forgotten when it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    awaited: Awaited,
    tx: Hash,
}

impl Awaited {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a transaction that is not executed yet.
    pub(crate) fn wait(&self, tx: Hash) -> Ticket {
        self.lock().insert(tx, None);
        Ticket { awaited: self.clone(), tx }
    }

    /// Gives what the transactions of a height did to those who wait for it.
    pub(crate) fn give(&self, all: BTreeMap<Hash, Vec<Done>>) {
        let mut waiting = self.lock();
        if waiting.is_empty() {
            return;
        }
        for (tx, done) in all {
            if let Some(place) = waiting.get_mut(&tx) {
                *place = Some(done);
            }
        }
    }
}

impl Ticket {
    /// What each program of the transaction did, if that has come.
    pub(crate) fn take(self) -> Option<Vec<Done>> {
        self.awaited.lock().get_mut(&self.tx).and_then(Option::take)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.awaited.lock().remove(&self.tx);
    }
}
