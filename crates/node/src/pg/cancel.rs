//! Whom a cancel request means: every connection has a number and a secret, told at its start.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// The connections that can be cancelled.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u32,
    connections: BTreeMap<u32, (u32, watch::Sender<()>)>,
}

/// A connection's number and secret, and where its cancel requests arrive.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) number: u32,
    pub(crate) secret: u32,
    pub(crate) canceled: watch::Receiver<()>,
}

impl Registry {
    /// Enters a connection.
    pub(crate) fn enter(&self) -> Ticket {
        // The standard library's hasher has a key from the system's random source.
        let random = RandomState::new().build_hasher().finish();
        let secret = u32::try_from(random >> 32).expect("the upper half of 64 bits has 32");
        let (sender, canceled) = watch::channel(());
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let number = (1..=u32::MAX)
            .map(|step| inner.last.wrapping_add(step) & 0x7fff_ffff)
            .find(|number| *number != 0 && !inner.connections.contains_key(number))
            .expect("there are fewer than 2^31 connections");
        inner.last = number;
        inner.connections.insert(number, (secret, sender));
        Ticket { number, secret, canceled }
    }

    /// Removes a connection.
    pub(crate) fn leave(&self, number: u32) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).connections.remove(&number);
    }

    /// Cancels what the connection of this number runs, if the secret is its own.
    pub(crate) fn cancel(&self, number: u32, secret: u32) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, sender)) = inner.connections.get(&number)
            && *known == secret
        {
            sender.send_replace(());
        }
    }
}
