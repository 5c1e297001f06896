//! Check ed25519 signatures by one equation for many, and find the bad ones when it fails: the path of machines
//! without the wide kernel.
//!
//! Source: Bernstein et al., "High-speed high-security signatures", section 5, for the batch. The equation of a batch
//! weighs each item by a coefficient that its author must not foresee. Here the coefficients come out of SHA-256 over
//! the whole batch (keys, signatures, hashes of messages), so they are fixed only after the items are, and the same
//! batch always runs the same way.
//!
//! ```text
//!  items -> by key -> chunks of at most 128 -> one equation --holds--> all good
//!                                                  | fails
//!                                                  v
//!                         groups of 16 -> one equation each --holds--> all good
//!                                                  | fails
//!                                                  v
//!                                              one by one; after three failed groups, all that are left
//! ```
//! The equation has one term per key, not per item, so items of one key are put side by side before the chunks are
//! cut. The verdicts come back in the order of the items.
//! # Limits
//! Measured on one core of an AMD EPYC (Zen 5), messages of 200 bytes, against 30 k/s one by one: 66 k/s with no bad
//! signature, 130 k/s if all are of one key, 28 k/s with one bad in 128, 18 k/s with four or more spread over the 128
//! or all of them bad. So one bad signature takes a chunk what it gained, and the worst chunk costs 1.7 times what its
//! items cost alone: one equation of all, three of groups, and every item.

use std::convert::Infallible;

use ed25519_zebra::{Signature, VerificationKeyBytes, batch};
use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest, Sha256};

use crate::Ed25519Item;

/// Most signatures that share one batch equation.
pub const BATCH_COUNT_MAX: usize = 128;

/// A chunk that fails is tried again in groups of so many.
const GROUP_COUNT: usize = 16;

/// After so many failed groups the rest of a chunk is checked one by one.
const FAILED_GROUP_COUNT_MAX: usize = 3;

/// Verdicts by ZIP-215, in order.
pub(super) fn verify_many(items: &[Ed25519Item<'_>]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    if items.len() > BATCH_COUNT_MAX {
        order.sort_by_key(|index| items.get(*index).map(|item| item.key));
    }
    let sorted: Vec<_> = order.iter().filter_map(|index| items.get(*index)).copied().collect();
    let mut sorted_verdicts = Vec::with_capacity(items.len());
    for chunk in sorted.chunks(BATCH_COUNT_MAX) {
        verify_chunk(chunk, &mut sorted_verdicts);
    }
    assert_eq!(sorted_verdicts.len(), items.len(), "each item has one verdict");
    let mut verdicts = vec![false; items.len()];
    for (index, verdict) in order.iter().zip(sorted_verdicts) {
        if let Some(place) = verdicts.get_mut(*index) {
            *place = verdict;
        }
    }
    verdicts
}

fn verify_chunk(chunk: &[Ed25519Item<'_>], verdicts: &mut Vec<bool>) {
    let mut transcript = Sha256::new_with_prefix(b"quipu-accel/ed25519-batch/1");
    let mut prepared = Vec::with_capacity(chunk.len());
    for item in chunk {
        transcript.update(item.key);
        transcript.update(item.signature);
        transcript.update(Sha256::digest(item.message));
        let key = VerificationKeyBytes::from(*item.key);
        prepared.push(batch::Item::from((key, Signature::from(*item.signature), item.message)));
    }
    let mut coefficients = Coefficients::new(transcript.finalize().into());
    if holds(&prepared, &mut coefficients) {
        verdicts.extend(prepared.iter().map(|_| true));
        return;
    }
    // A chunk that is no larger than a group has failed as one already.
    let mut failed_left = if chunk.len() > GROUP_COUNT { FAILED_GROUP_COUNT_MAX } else { 0 };
    for group in prepared.chunks(GROUP_COUNT) {
        if failed_left > 0 && group.len() > 1 && holds(group, &mut coefficients) {
            verdicts.extend(group.iter().map(|_| true));
        } else {
            failed_left = failed_left.saturating_sub(1);
            verdicts.extend(group.iter().map(|item| item.clone().verify_single().is_ok()));
        }
    }
}

/// Whether the one equation of all of them is satisfied.
fn holds(items: &[batch::Item], coefficients: &mut Coefficients) -> bool {
    let mut verifier = batch::Verifier::new();
    for item in items {
        verifier.queue(item.clone());
    }
    verifier.verify(coefficients).is_ok()
}

/// SHA-256 in counter mode under the hash of the batch's transcript.
struct Coefficients {
    seed: [u8; 32],
    block: [u8; 32],
    block_used: usize,
    block_count: u64,
}

impl Coefficients {
    fn new(seed: [u8; 32]) -> Self {
        Self { seed, block: [0; 32], block_used: 32, block_count: 0 }
    }

    fn next_byte(&mut self) -> u8 {
        if self.block_used >= self.block.len() {
            let mut hasher = Sha256::new_with_prefix(self.seed);
            hasher.update(self.block_count.to_le_bytes());
            self.block = hasher.finalize().into();
            self.block_count = self.block_count.wrapping_add(1);
            self.block_used = 0;
        }
        let byte = self.block.get(self.block_used).copied();
        self.block_used = self.block_used.saturating_add(1);
        byte.expect("a fresh block was made when the old one was used up")
    }

    fn next_array<const SIZE: usize>(&mut self) -> [u8; SIZE] {
        std::array::from_fn(|_| self.next_byte())
    }
}

impl TryRng for Coefficients {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.next_array()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(self.next_array()))
    }

    fn try_fill_bytes(&mut self, destination: &mut [u8]) -> Result<(), Infallible> {
        destination.fill_with(|| self.next_byte());
        Ok(())
    }
}

impl TryCryptoRng for Coefficients {}
