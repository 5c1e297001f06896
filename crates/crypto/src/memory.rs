//! Verdicts that a thread remembers, for a simulator: there a dozen validators live on one thread, and each would check
//! the same signatures. [`verify`](crate::suite::verify) is a pure function, so remembering changes no verdict. Nothing is
//! remembered unless a [`Memory`] lives; no validator's process makes one.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::marker::PhantomData;

use quipu_types::{Hash, PublicKey, Signature};

use crate::hash::blake3;

/// Verdicts after which all are forgotten.
const VERDICT_COUNT_MAX: usize = 1 << 16;

thread_local! {
    static VERDICTS: RefCell<Option<BTreeSet<Hash>>> = const { RefCell::new(None) };
}

/// While it lives, its thread checks no signature again that it found right, and none that it made.
#[derive(Debug)]
#[must_use = "nothing is remembered once it is dropped"]
pub struct Memory {
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl Memory {
    /// Begins with nothing.
    #[expect(clippy::new_without_default, reason = "it changes what a thread does")]
    pub fn new() -> Self {
        VERDICTS.with_borrow_mut(|verdicts| *verdicts = Some(BTreeSet::new()));
        Self { _thread: PhantomData }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        VERDICTS.with_borrow_mut(|verdicts| *verdicts = None);
    }
}

/// Whether this thread remembers.
pub(crate) fn is_on() -> bool {
    VERDICTS.with_borrow(Option::is_some)
}

/// The verdict of `check`, which is asked only if it was not found right before.
pub(crate) fn once(
    key: &PublicKey,
    message: &[u8],
    signature: &Signature,
    check: impl FnOnce() -> bool,
) -> bool {
    if !is_on() {
        return check();
    }
    let name = name(key, message, signature);
    if VERDICTS.with_borrow(|verdicts| verdicts.as_ref().is_some_and(|all| all.contains(&name))) {
        return true;
    }
    let holds = check();
    if holds {
        remember(name);
    }
    holds
}

/// A signature that this thread made itself is right.
pub(crate) fn made(key: &PublicKey, message: &[u8], signature: &Signature) {
    if is_on() {
        remember(name(key, message, signature));
    }
}

/// Sizes of key and signature follow from the suite: no other three parts have these bytes.
fn name(key: &PublicKey, message: &[u8], signature: &Signature) -> Hash {
    let tag = [key.suite().tag()];
    blake3(&[&tag[..], key.bytes(), &signature.0, message].concat())
}

fn remember(name: Hash) {
    VERDICTS.with_borrow_mut(|verdicts| {
        if let Some(all) = verdicts {
            if all.len() >= VERDICT_COUNT_MAX {
                all.clear();
            }
            all.insert(name);
        }
    });
}

#[cfg(test)]
mod tests {
    use quipu_types::Suite;

    use super::*;
    use crate::suite::{SecretKey, VerifyItem, verify, verify_many};

    #[test]
    fn what_is_remembered_changes_no_verdict() {
        let key = SecretKey::from_seed(Suite::Ed25519Sha256, [7; 32]);
        let (public, signature) = (key.public(), key.sign(b"yes"));
        let verdicts = || {
            let items = [&b"yes"[..], b"no"].map(|message| VerifyItem {
                key: &public,
                message,
                signature: &signature,
            });
            let alone = items.map(|item| verify(item.key, item.message, item.signature));
            assert_eq!(verify_many(&items), alone);
            alone
        };
        assert_eq!(verdicts(), [true, false]);
        let memory = Memory::new();
        assert_eq!(verdicts(), [true, false]);
        assert_eq!(verdicts(), [true, false]);
        assert_eq!(key.sign(b"yes"), signature);
        assert_eq!(verdicts(), [true, false]);
        drop(memory);
        assert!(!is_on());
        assert_eq!(verdicts(), [true, false]);
    }
}
