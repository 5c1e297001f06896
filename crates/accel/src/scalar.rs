//! The backend that is always there: one item after another on one core.
//!
//! SHA-256 uses the processor's own instructions where it has them; signatures share a batch
//! equation. It is the twin against which wider kernels are tested.

use sha2::{Digest, Sha256};

use crate::{Accel, Ed25519Item, ed25519};

/// Plain loops over the `sha2` and `ed25519-zebra` crates.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scalar;

impl Accel for Scalar {
    fn name(&self) -> &'static str {
        "scalar"
    }

    fn sha256_many(&self, messages: &[&[u8]], out: &mut [[u8; 32]]) {
        assert_eq!(messages.len(), out.len(), "each message has one place for its hash");
        for (message, hash) in messages.iter().zip(out) {
            *hash = Sha256::digest(message).into();
        }
    }

    fn sha256_chains(&self, starts: &mut [[u8; 32]], count: u64) {
        for start in starts {
            for _ in 0..count {
                *start = Sha256::digest(*start).into();
            }
        }
    }

    fn verify_ed25519_many(&self, items: &[Ed25519Item<'_>]) -> Vec<bool> {
        ed25519::verify_many(items)
    }
}
