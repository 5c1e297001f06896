//! Hand groups of eight to the kernel, and hold a net beneath it.
//!
//! The kernel gives every item its own verdict, so a bad signature costs its neighbours nothing. It is our own code,
//! and validators must agree, so it is not trusted alone:
//!
//! ```text
//!  first use:  published vectors and fresh signatures --all as known--> on
//!                                                     --else----------> off, batches instead
//!  each call:  kernel --invalid, or 1 in 256--> checked alone by zebra --same--> verdict
//!                                                                      --else--> off for good, batches instead
//! ```
//! # Invariants
//! * N1 No item is refused that zebra takes: every refusal is zebra's own.
//! * N2 After one disagreement the kernel gives no verdict in this process any more.
//! * N3 What is re-checked depends on the items alone.
//! # Limits
//! Measured on one core of an AMD EPYC (Zen 5), messages of 200 bytes, against 30 k/s one by one and 66 k/s in
//! batches: 225 to 240 k/s, the sampling included, with or without one bad in 128. All bad: 26 k/s, because each
//! refusal is checked again: 1.15 times what the items cost alone, and less than batches that fail. Whoever makes
//! signatures that are sampled on purpose gains the same.
//!
//! The first use takes about 10 ms. A group that is not full costs as much as a full one, about 1.1 single checks.

use std::sync::atomic::{AtomicU64, Ordering};

use curve25519_dalek::{EdwardsPoint, Scalar};
use ed25519_zebra::{SigningKey, VerificationKey};

use super::kernel::{self, BASE_MULTIPLE_MAX, BaseTable, Prepared};
use super::scalar::{Scalars, has_canonical_s};
use super::{batch, vectors, verify_alone};
use crate::Ed25519Item;
use crate::many::ways::{WAY_COUNT, Ways};

/// Signatures made for the known-answer test, each also spoilt.
const FRESH_COUNT: u8 = 32;

/// The kernel on the hardware, and what is watched while it serves.
#[cfg(target_arch = "x86_64")]
mod hardware {
    use std::sync::OnceLock;
    use std::sync::atomic::Ordering;

    use super::{Net, Wide, knows_its_answers};
    use crate::many::avx512::Avx512;
    use crate::{BackendState, Ed25519Item};

    static KERNEL: OnceLock<Result<Wide<Avx512>, BackendState>> = OnceLock::new();
    static NET: Net = Net::new();

    fn kernel() -> &'static Result<Wide<Avx512>, BackendState> {
        KERNEL.get_or_init(|| {
            let wide = Avx512::detect().and_then(Wide::new).ok_or(BackendState::Absent)?;
            let knows = knows_its_answers(&|items| wide.verdicts(items));
            if knows { Ok(wide) } else { Err(BackendState::FailedKnownAnswer) }
        })
    }

    /// The verdicts, if this machine has the kernel and the kernel has not failed.
    pub(in super::super) fn verify_many(items: &[Ed25519Item<'_>]) -> Option<Vec<bool>> {
        let kernel = kernel().as_ref().ok();
        NET.verify_many(items, &|items| kernel.map(|wide| wide.verdicts(items)))
    }

    /// How the kernel stands.
    pub(in super::super) fn standing() -> BackendState {
        match kernel() {
            Err(state) => *state,
            Ok(_) if NET.disagreement_count.load(Ordering::Relaxed) > 0 => BackendState::Lied,
            Ok(_) => BackendState::ServesBatches,
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use hardware::{standing, verify_many};

/// What a kernel must agree with, and whether it still does.
struct Net {
    disagreement_count: AtomicU64,
}

impl Net {
    const fn new() -> Self {
        Self { disagreement_count: AtomicU64::new(0) }
    }

    /// The verdicts of `kernel`, checked; `None` if there are none to trust.
    fn verify_many(
        &self,
        items: &[Ed25519Item<'_>],
        kernel: &dyn Fn(&[Ed25519Item<'_>]) -> Option<Vec<bool>>,
    ) -> Option<Vec<bool>> {
        if self.disagreement_count.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let verdicts = kernel(items)?;
        assert_eq!(verdicts.len(), items.len(), "each item has one verdict");
        let disagrees = |(item, verdict): &(&Ed25519Item<'_>, &bool)| {
            (!**verdict || is_sample(item)) && verify_alone(item) != **verdict
        };
        let count = items.iter().zip(&verdicts).filter(disagrees).count();
        if count > 0 {
            let count = u64::try_from(count).expect("a count has 64 bits");
            self.disagreement_count.fetch_add(count, Ordering::Relaxed);
            return Some(batch::verify_many(items));
        }
        Some(verdicts)
    }
}

/// One valid signature in 256, by the lowest byte of its s.
fn is_sample(item: &Ed25519Item<'_>) -> bool {
    item.signature.get(32) == Some(&0)
}

/// Whether `kernel` says what is known of every published vector and of fresh signatures, good and spoilt.
fn knows_its_answers(kernel: &dyn Fn(&[Ed25519Item<'_>]) -> Vec<bool>) -> bool {
    let published = vectors::all();
    let items: Vec<_> = published.iter().map(vectors::Judged::item).collect();
    let expected: Vec<bool> = published.iter().map(|judged| judged.valid).collect();
    let fresh: Vec<_> = (0..FRESH_COUNT).map(Fresh::new).collect();
    let spoilt: Vec<_> = fresh.iter().map(Fresh::spoilt).collect();
    let good_items: Vec<_> = fresh.iter().map(Fresh::item).collect();
    let bad_items: Vec<_> = spoilt.iter().map(Fresh::item).collect();
    kernel(&items) == expected
        && kernel(&good_items).iter().all(|good| *good)
        && kernel(&bad_items).iter().all(|good| !*good)
}

/// A signature that nobody published.
#[derive(Clone, Debug)]
struct Fresh {
    key: [u8; 32],
    message: Vec<u8>,
    signature: [u8; 64],
}

impl Fresh {
    fn new(seed: u8) -> Self {
        let key = SigningKey::from([seed; 32]);
        let message = vec![seed; usize::from(seed).saturating_mul(9)];
        let signature = key.sign(&message).to_bytes();
        Self { key: VerificationKey::from(&key).into(), message, signature }
    }

    /// The same with one more byte in the message: never valid.
    fn spoilt(&self) -> Self {
        let mut spoilt = self.clone();
        spoilt.message.push(0);
        spoilt
    }

    fn item(&self) -> Ed25519Item<'_> {
        Ed25519Item { key: &self.key, message: &self.message, signature: &self.signature }
    }
}

/// The kernel over one implementation of the ways.
pub(super) struct Wide<W: Ways> {
    w: W,
    base: BaseTable,
}

impl<W: Ways> Wide<W> {
    /// Make the table of B's multiples. None if the kernel fails at that.
    pub(super) fn new(w: W) -> Option<Self> {
        let multiple =
            |factor: u8| EdwardsPoint::mul_base(&Scalar::from(factor)).compress().to_bytes();
        let factors = 1..=u8::try_from(BASE_MULTIPLE_MAX).expect("128 fits in a byte");
        let encodings: Vec<[u8; 32]> = factors.map(multiple).collect();
        Some(Self { w, base: BaseTable::new(w, &encodings)? })
    }

    /// What the kernel says of each item, not re-checked.
    pub(super) fn verdicts(&self, items: &[Ed25519Item<'_>]) -> Vec<bool> {
        let mut verdicts = vec![false; items.len()];
        let mut hopeful = items.iter().zip(&mut verdicts).filter(|(item, _)| has_canonical_s(item));
        loop {
            let mut group: Vec<_> = hopeful.by_ref().take(WAY_COUNT).collect();
            let Some(first) = group.first().map(|(item, _)| **item) else { break };
            let filled: [Ed25519Item<'_>; WAY_COUNT] =
                std::array::from_fn(|way| group.get(way).map_or(first, |(item, _)| **item));
            let mask = self.verdicts_of_eight(&filled);
            for (way, (_, verdict)) in group.iter_mut().enumerate() {
                **verdict = mask >> way & 1 == 1;
            }
        }
        verdicts
    }

    fn verdicts_of_eight(&self, items: &[Ed25519Item<'_>; WAY_COUNT]) -> u8 {
        let scalars = Scalars::of_eight(self.w, items);
        let prepared = std::array::from_fn(|way| {
            let item = items.get(way).expect("eight items");
            let scalars = *scalars.get(way).expect("eight pairs of scalars");
            Prepared { key: *item.key, commitment: commitment(item), scalars }
        });
        kernel::verify(self.w, &self.base, &prepared)
    }
}

/// R of a signature.
fn commitment(item: &Ed25519Item<'_>) -> [u8; 32] {
    let (commitment, _) = item.signature.split_first_chunk().expect("64 bytes are at least 32");
    *commitment
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that tells the truth but for one item.
    fn lying_about(index: usize) -> impl Fn(&[Ed25519Item<'_>]) -> Option<Vec<bool>> {
        move |items| {
            let mut verdicts: Vec<_> = items.iter().map(verify_alone).collect();
            verdicts[index] = !verdicts[index];
            Some(verdicts)
        }
    }

    fn truth(items: &[Ed25519Item<'_>]) -> Option<Vec<bool>> {
        Some(items.iter().map(verify_alone).collect())
    }

    #[test]
    fn a_kernel_that_refuses_a_good_signature_is_corrected_and_switched_off() {
        let fresh: Vec<_> = (0..9).map(Fresh::new).collect();
        let items: Vec<_> = fresh.iter().map(Fresh::item).collect();
        let net = Net::new();
        assert_eq!(net.verify_many(&items, &truth), Some(vec![true; 9]));
        assert_eq!(net.verify_many(&items, &lying_about(4)), Some(vec![true; 9]));
        assert_eq!(net.disagreement_count.load(Ordering::Relaxed), 1);
        assert_eq!(net.verify_many(&items, &truth), None, "off for good");
    }

    #[test]
    fn a_kernel_that_takes_a_bad_sample_is_corrected_and_switched_off() {
        let mut fresh: Vec<_> = (0..9).map(Fresh::new).collect();
        fresh[4].signature[32..].fill(0);
        let items: Vec<_> = fresh.iter().map(Fresh::item).collect();
        let mut expected = vec![true; 9];
        expected[4] = false;
        let net = Net::new();
        assert_eq!(net.verify_many(&items, &truth), Some(expected.clone()));
        assert_eq!(net.verify_many(&items, &lying_about(4)), Some(expected));
        assert_eq!(net.verify_many(&items, &truth), None, "off for good");
    }

    #[test]
    fn a_kernel_that_errs_on_any_known_answer_is_not_used() {
        let published = vectors::all();
        assert!(knows_its_answers(&|items| truth(items).expect("the truth is known")));
        for index in [0, 15, 16, published.len() - 1] {
            let errs = |items: &[Ed25519Item<'_>]| {
                let mut verdicts = truth(items).expect("the truth is known");
                if items.len() == published.len() {
                    verdicts[index] = !verdicts[index];
                }
                verdicts
            };
            assert!(!knows_its_answers(&errs), "vector {index}");
        }
        assert!(!knows_its_answers(&|items| vec![true; items.len()]));
        assert!(!knows_its_answers(&|items| vec![false; items.len()]));
    }

    #[test]
    fn without_a_kernel_there_are_no_verdicts() {
        let fresh = Fresh::new(1);
        assert_eq!(Net::new().verify_many(&[fresh.item()], &|_| None), None);
    }
}
