//! Verdicts on many ed25519 signatures, each by ZIP-215, in the fastest way this machine has.
//!
//! ```text
//!  items --+-- AVX-512 IFMA --> wide: eight at once, each by its own equation, under a net (ed25519/wide.rs)
//!          |                      ^ kernel (group law) <- point <- field <- many/ways
//!          +-- others --------> batch: up to 128 by one equation, halved when it fails (ed25519/batch.rs)
//!          +-- one -----------> alone
//! ```
//! # Invariants
//! * Z1 The rule is Zcash improvement proposal 215, the same on every path: `s` below l; `A` and `R` any encoding that
//!   decodes, y taken mod p and the sign of x = 0 ignored; `[8]([s]B - [k]A - R)` is the neutral point, k made of the
//!   bytes as they came. `ed25519-zebra` checking one signature alone is the judge.

mod batch;
#[cfg(any(test, target_arch = "x86_64"))]
mod field;
#[cfg(any(test, target_arch = "x86_64"))]
mod kernel;
#[cfg(any(test, target_arch = "x86_64"))]
mod point;
#[cfg(any(test, target_arch = "x86_64"))]
mod scalar;
#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests;
#[cfg(any(test, target_arch = "x86_64"))]
mod vectors;
#[cfg(any(test, target_arch = "x86_64"))]
mod wide;

pub use batch::BATCH_COUNT_MAX;

use ed25519_zebra::{Signature, VerificationKey};

use crate::{BackendState, Ed25519Item};

/// Verdicts by ZIP-215, in order; by the wide kernel if it may serve.
pub(crate) fn verify_many(items: &[Ed25519Item<'_>], may_be_wide: bool) -> Vec<bool> {
    if let [one] = items {
        return vec![verify_alone(one)];
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(verdicts) = may_be_wide.then(|| wide::verify_many(items)).flatten() {
        return verdicts;
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = may_be_wide;
    batch::verify_many(items)
}

/// How the wide kernel stands on this machine.
pub(crate) fn standing() -> BackendState {
    #[cfg(target_arch = "x86_64")]
    return wide::standing();
    #[cfg(not(target_arch = "x86_64"))]
    BackendState::Absent
}

/// The rule itself, for one signature.
fn verify_alone(item: &Ed25519Item<'_>) -> bool {
    let signature = Signature::from(*item.signature);
    VerificationKey::try_from(*item.key)
        .is_ok_and(|key| key.verify(&signature, item.message).is_ok())
}
