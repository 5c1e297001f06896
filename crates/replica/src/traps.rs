//! Traps: states that are made up, and claimed of a height as soon as it is committed, for who signs what another says instead
//! of executing.
//!
//! ```text
//!  seed, height ── lot ──> no trap
//!                   └────> SignedState of chance ──> Claim, to all ──> who executes passes it over
//!                                                                  └─> who signs it: a vote against the certificate, evidence
//! ```
//! # Invariants
//! * T1 A claim is no vote: it has a message of its own, is signed by nobody, and counts for nothing. So who lays a trap says
//!   its true vote of that height as ever, and needs no excuse.
//! * T2 Whether a height has a trap, and which, nobody knows before the claim who does not know the seed.
//! # Limits
//! Who signs only what others have *voted* for is not caught by it: decision 0042 says what catches that one.

use std::fmt;

use quipu_crypto::sha256;
use quipu_types::{Hash, Height, SignedState};

/// See the module's header.
#[derive(Clone)]
pub struct Traps {
    seed: [u8; 32],
    height_count: u64,
    next_set: Option<Hash>,
}

impl fmt::Debug for Traps {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Traps").field("heights", &self.height_count).finish_non_exhaustive()
    }
}

impl Traps {
    /// A trap at one of `height_count` heights, by and large; chosen by a secret seed.
    #[must_use]
    pub fn new(seed: [u8; 32], height_count: u64) -> Self {
        Self { seed, height_count: height_count.max(1), next_set: None }
    }

    /// What execution gave last: a false state names the same next set, which everyone may know.
    pub(crate) fn executed(&mut self, state: &SignedState) {
        self.next_set = state.next_set;
    }

    /// What is claimed of a height, if there is a trap.
    #[must_use]
    pub(crate) fn lay(&self, height: Height) -> Option<SignedState> {
        let first = self.lot(height, 0).0;
        let number = first.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let (state_root, receipts_root) = (self.lot(height, 1), self.lot(height, 2));
        let next_set = self.next_set;
        number.is_multiple_of(self.height_count).then_some(SignedState {
            height,
            state_root,
            receipts_root,
            next_set,
        })
    }

    fn lot(&self, height: Height, what: u8) -> Hash {
        let parts: [&[u8]; 4] = [b"quipu trap", &self.seed, &height.get().to_le_bytes(), &[what]];
        sha256(&parts.concat())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "small numbers of a test")]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn traps_are_about_as_many_as_wanted_and_no_two_alike(
            seed: [u8; 32], other: [u8; 32], height_count in 1_u64..20,
        ) {
            let laid = |seed| -> Vec<SignedState> {
                let traps = Traps::new(seed, height_count);
                (1..=2_000).filter_map(|height| traps.lay(Height::new(height))).collect()
            };
            let all = laid(seed);
            let wanted = 2_000 / height_count;
            let count = u64::try_from(all.len()).unwrap();
            prop_assert!(count > wanted / 2 && count < wanted * 2, "{} of {}", count, wanted);
            for (first, second) in all.iter().zip(all.iter().skip(1)) {
                prop_assert_ne!(first.state_root, second.state_root);
                prop_assert_ne!(first.state_root, first.receipts_root);
            }
            if seed != other && height_count > 1 {
                prop_assert_ne!(all, laid(other));
            }
        }
    }
}
