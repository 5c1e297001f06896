//! Do many small hashes and signature checks at once, on whatever hardware there is.
//!
//! ```text
//!  caller (crypto, clock) -- slices in --> Dispatcher --+-- kernels   AVX-512, AVX2, SHA-NI: what the machine has
//!                         <- exact results ------------+-- batches   a GPU: when its prediction is better
//!                                                      +-- Scalar    one after another, always there
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

mod batch;
mod dispatch;
mod ed25519;
pub mod gpu;
mod many;
mod scalar;
mod secp256k1;
mod sha256;

pub use batch::{
    BatchBackend, BatchError, ERROR_COUNT_MAX, RECHECK_PERIOD, RETRY_PERIOD, Shape, Work,
};
pub use dispatch::Dispatcher;
pub use dispatch::counts::OperationCount;
pub use dispatch::report::{BackendReport, BackendState, Choice, Report, StepTimes, UnknownChoice};
pub use ed25519::BATCH_COUNT_MAX;
pub use scalar::Scalar;

use std::fmt::Debug;
use std::sync::LazyLock;

/// One ed25519 signature to check: raw bytes, nothing assumed about their validity.
#[derive(Clone, Copy, Debug)]
pub struct Ed25519Item<'a> {
    /// The encoded public key `A`.
    pub key: &'a [u8; 32],
    /// The message as it was signed.
    pub message: &'a [u8],
    /// The signature, `R ‖ s`.
    pub signature: &'a [u8; 64],
}

/// One ECDSA signature over secp256k1 to check: raw bytes, nothing assumed about their validity.
#[derive(Clone, Copy, Debug)]
pub struct Secp256k1Item<'a> {
    /// The compressed public key.
    pub key: &'a [u8; 33],
    /// The digest that was signed.
    pub digest: &'a [u8; 32],
    /// The signature, `r ‖ s`, big endian; an `s` in the upper half is refused.
    pub signature: &'a [u8; 64],
}

/// Batch work on wide hardware. Backends differ in speed only (A1).
///
/// # Panics
/// Every method that writes to `out`: if its length is not the one said, a mistake of the caller.
pub trait Accel: Send + Sync + Debug {
    /// Name of the backend, for logs and for tests that print which one ran.
    fn name(&self) -> &'static str;

    /// Write `SHA-256(prefix ‖ message)` of each message to its place in `out` (one place each). `prefix` has at
    /// most [`PREFIX_SIZE_MAX`] bytes.
    fn sha256_many(&self, prefix: &[u8], messages: &[&[u8]], out: &mut [[u8; 32]]);

    /// Write `SHA-256(prefix ‖ left ‖ right)` of each pair to its place in `out`: the inner nodes of one level of a
    /// tree. `pairs` is `[left, right]` each (one place each).
    fn sha256_nodes(&self, prefix: u8, pairs: &[[[u8; 32]; 2]], out: &mut [[u8; 32]]);

    /// Apply `h <- SHA-256(h)` to each start, `count` times each.
    fn sha256_chains(&self, starts: &mut [[u8; 32]], count: u64);

    /// Write the keccak-256 (padding from before SHA-3) of each message to its place in `out`.
    fn keccak256_many(&self, messages: &[&[u8]], out: &mut [[u8; 32]]);

    /// Write the BLAKE2b of each message, with a digest of 32 bytes, to its place in `out`.
    fn blake2b256_many(&self, messages: &[&[u8]], out: &mut [[u8; 32]]);

    /// Check ed25519 signatures by ZIP-215; one verdict per item, in order (A2, A3).
    fn verify_ed25519_many(&self, items: &[Ed25519Item<'_>]) -> Vec<bool>;

    /// Check ECDSA signatures over secp256k1; one verdict per item, in order (A3).
    fn verify_secp256k1_many(&self, items: &[Secp256k1Item<'_>]) -> Vec<bool>;
}

/// Most bytes of the prefix of [`Accel::sha256_many`].
pub const PREFIX_SIZE_MAX: usize = 32;

/// Name of the environment variable that says who does SHA-256: a word of [`Choice`].
pub const CHOICE_VARIABLE: &str = "QUIPU_ACCEL";

/// The backend to use on this machine. The environment is read once, at the first call; a word that nobody knows means
/// auto, and stands in [`Dispatcher::report`]. Devices take seconds to start: whoever has the time opens them
/// ([`gpu::Cuda`]) and [`attach`](Dispatcher::attach)es them.
pub fn default() -> &'static Dispatcher {
    static DEFAULT: LazyLock<Dispatcher> = LazyLock::new(|| {
        let word = std::env::var_os(CHOICE_VARIABLE).unwrap_or_default();
        Dispatcher::from_word(&word.to_string_lossy(), Vec::new())
    });
    &DEFAULT
}
