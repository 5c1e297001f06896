//! Do many small hashes and signature checks at once, on whatever hardware there is.
//!
//! ```text
//!  caller (crypto, clock) -- slices in --> dyn Accel --+-- Scalar   one after another, always there
//!                         <- exact results ------------+-- (wider kernels stand behind the same trait)
//! ```
//! # Invariants
//! * A1 Results are exact functions of the inputs: every backend gives, item by item, what the
//!   plain function gives for that item alone. No chance, clock or thread timing reaches them.
//! * A2 An ed25519 verdict is that of ZIP-215, in a batch as alone: canonical `s`, any encoding of
//!   `A` and `R` that decompresses, cofactored equation.
//! * A3 One bad item never changes the verdict of another.
//! # Limits
//! At most [`BATCH_COUNT_MAX`] signatures share one batch equation, so that one bad signature costs
//! its neighbours little. This crate does not know what the bytes mean.

mod ed25519;
mod scalar;

pub use ed25519::BATCH_COUNT_MAX;
pub use scalar::Scalar;

use std::fmt::Debug;

/// One signature to check: raw bytes, nothing assumed about their validity.
#[derive(Clone, Copy, Debug)]
pub struct Ed25519Item<'a> {
    /// The encoded public key `A`.
    pub key: &'a [u8; 32],
    /// The message as it was signed.
    pub message: &'a [u8],
    /// The signature, `R ‖ s`.
    pub signature: &'a [u8; 64],
}

/// Batch work on wide hardware. Backends differ in speed only (A1).
pub trait Accel: Send + Sync + Debug {
    /// Name of the backend, for logs and for tests that print which one ran.
    fn name(&self) -> &'static str;

    /// Write the SHA-256 of each message to its place in `out`.
    ///
    /// # Panics
    /// If `messages` and `out` differ in length, which is a mistake of the caller.
    fn sha256_many(&self, messages: &[&[u8]], out: &mut [[u8; 32]]);

    /// Apply `h <- SHA-256(h)` to each start, `count` times each.
    fn sha256_chains(&self, starts: &mut [[u8; 32]], count: u64);

    /// Check ed25519 signatures by ZIP-215; one verdict per item, in order (A2, A3).
    fn verify_ed25519_many(&self, items: &[Ed25519Item<'_>]) -> Vec<bool>;
}

/// The backend to use on this machine.
pub fn default() -> &'static dyn Accel {
    &Scalar
}
