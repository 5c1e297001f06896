//! From bytes to a transaction that may stand in a lane. Pure, so that any number of threads may do it.
//!
//! What needs no state is checked here: canonical form, sizes, signature over this chain. Sequences are the
//! replica's; whether the anchor is in this history, and everything else, is judged at execution.
//!
//! A transaction comes to a validator more than once: from its client, forwarded, in a chunk, sent again.
//! [`Admissions`] remember what was admitted, by its bytes, so that it is decoded and checked once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quipu_crypto::CacheCounts;
use quipu_crypto::suite::{self, VerifyItem};
use quipu_proof::names::{Messages, Names, WithActions, names_of_many};
use quipu_types::code::{BAD_SIGNATURE, MALFORMED, TOO_LARGE};
use quipu_types::transaction::{Encodings, TRANSACTION_SIZE_MAX};
use quipu_types::{Action, Code, Envelope, Hash, Lane, Transaction};

/// A transaction and everything of it that is hashed once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The transaction.
    pub transaction: Transaction,
    /// Its encoding.
    pub bytes: Arc<[u8]>,
    /// Its envelope.
    pub envelope: Envelope,
    /// Leaf hash of the envelope in its lane's tree.
    pub leaf: Hash,
    /// Its name.
    pub tx: Hash,
    /// Its lane.
    pub lane: Lane,
}

/// Checks what a client sent.
///
/// # Errors
/// The code to refuse it with.
pub fn admit(chain: &Hash, lane_count: u16, bytes: Arc<[u8]>) -> Result<Admitted, Code> {
    only(admit_many(chain, lane_count, [bytes]))
}

/// Checks many at once: the same verdicts as [`admit`] one by one, faster.
#[must_use]
pub fn admit_many(
    chain: &Hash,
    lane_count: u16,
    transactions: impl IntoIterator<Item = Arc<[u8]>>,
) -> Vec<Result<Admitted, Code>> {
    let (read, messages) = read_many(chain, lane_count, transactions.into_iter().collect());
    let items: Vec<VerifyItem<'_>> = read
        .iter()
        .flatten()
        .zip(messages.iter())
        .map(|(Admitted { envelope: Envelope { signer, signature, .. }, .. }, message)| {
            VerifyItem { key: signer, message, signature }
        })
        .collect();
    let mut verdicts = suite::verify_many(&items).into_iter();
    drop(items);
    read.into_iter()
        .map(|read| {
            let admitted = read?;
            let holds = verdicts.next().expect("there is a verdict for each that was read");
            if holds { Ok(admitted) } else { Err(BAD_SIGNATURE) }
        })
        .collect()
}

/// Admits, and remembers what it admitted.
///
/// # Invariants
/// * D1 The verdict is [`admit`]'s: what is remembered is taken for equal bytes only, and nothing that was refused is
///   remembered.
/// # Limits
/// Between half and all of `size_max` bytes of what was admitted last.
#[derive(Debug)]
pub struct Admissions {
    chain: Hash,
    lane_count: u16,
    known: Mutex<Known>,
    size_half: usize,
    hit_count: AtomicU64,
    miss_count: AtomicU64,
}

/// When the young take half of the room the old are forgotten.
#[derive(Debug, Default)]
struct Known {
    young: Generation,
    young_size: usize,
    old: Generation,
}

/// By their [`slot`]: two of one slot take each other's place.
#[derive(Debug)]
struct Generation(Vec<Option<Arc<Admitted>>>);

/// Slots of a generation.
const SLOT_COUNT: usize = 1 << 13;

impl Default for Generation {
    fn default() -> Self {
        Self(vec![None; SLOT_COUNT])
    }
}

impl Admissions {
    /// Of the ledger `chain`. A `size_max` of 0 remembers nothing.
    #[must_use]
    pub fn new(chain: Hash, lane_count: u16, size_max: usize) -> Self {
        Self {
            chain,
            lane_count,
            known: Mutex::default(),
            size_half: size_max.div_ceil(2),
            hit_count: AtomicU64::new(0),
            miss_count: AtomicU64::new(0),
        }
    }

    /// Lanes of the ledger.
    #[must_use]
    pub const fn lane_count(&self) -> u16 {
        self.lane_count
    }

    /// As [`admit_many`]; only what is not known is checked, together.
    #[must_use]
    pub fn admit_many(&self, transactions: Vec<Arc<[u8]>>) -> Vec<Result<Arc<Admitted>, Code>> {
        if self.size_half == 0 {
            let admitted = admit_many(&self.chain, self.lane_count, transactions);
            return admitted.into_iter().map(|admitted| admitted.map(Arc::new)).collect();
        }
        let known = self.find(&transactions);
        let unknown = transactions.into_iter().zip(&known).filter(|(_, known)| known.is_none());
        let unknown = unknown.map(|(bytes, _)| bytes);
        let fresh = admit_many(&self.chain, self.lane_count, unknown);
        let mut fresh: VecDeque<_> = fresh.into_iter().map(|one| one.map(Arc::new)).collect();
        self.keep(fresh.iter().flatten());
        let mut verdict_of = |known: Option<Arc<Admitted>>| match known {
            Some(known) => Ok(known),
            None => fresh.pop_front().expect("each that is not known was checked"),
        };
        known.into_iter().map(&mut verdict_of).collect()
    }

    /// As [`admit`] of what this process has signed itself just now: nobody else's signature is in doubt. It is remembered,
    /// since it will come back in a chunk.
    ///
    /// # Errors
    /// As [`admit`].
    pub fn vouch(&self, bytes: Arc<[u8]>) -> Result<Arc<Admitted>, Code> {
        let admitted = Arc::new(only(readmit_many(&self.chain, self.lane_count, vec![bytes]))?);
        if self.size_half > 0 {
            self.keep([&admitted].into_iter());
        }
        Ok(admitted)
    }

    /// How often it was asked for a transaction.
    #[must_use]
    pub fn counts(&self) -> CacheCounts {
        CacheCounts {
            hits: self.hit_count.load(Ordering::Relaxed),
            misses: self.miss_count.load(Ordering::Relaxed),
        }
    }

    fn find(&self, transactions: &[Arc<[u8]>]) -> Vec<Option<Arc<Admitted>>> {
        let candidates: Vec<Option<Arc<Admitted>>> = {
            let known = self.lock();
            transactions.iter().map(|bytes| known.get(bytes)).collect()
        };
        // Compared whole outside the lock: bytes may be many.
        let equal = |bytes: &Arc<[u8]>, known: &Arc<Admitted>| known.bytes == *bytes;
        let found: Vec<_> = candidates
            .into_iter()
            .zip(transactions)
            .map(|(known, bytes)| known.filter(|known| equal(bytes, known)))
            .collect();
        let hits = u64::try_from(found.iter().flatten().count()).unwrap_or(u64::MAX);
        let asked = u64::try_from(found.len()).unwrap_or(u64::MAX);
        self.hit_count.fetch_add(hits, Ordering::Relaxed);
        self.miss_count.fetch_add(asked.saturating_sub(hits), Ordering::Relaxed);
        found
    }

    fn keep<'a>(&self, fresh: impl Iterator<Item = &'a Arc<Admitted>>) {
        let mut forgotten = Vec::new();
        let mut known = self.lock();
        for admitted in fresh {
            forgotten.extend(known.keep(admitted, self.size_half));
        }
        drop(known);
        // Giving back the memory of many transactions takes long: nobody waits for it.
        drop(forgotten);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// One that has the signature of `bytes`, if there is one.
    fn get(&self, bytes: &[u8]) -> Option<Arc<Admitted>> {
        let slot = slot(bytes)?;
        let kept = [&self.young, &self.old].map(|kept| kept.0.get(slot).and_then(Option::as_ref));
        let is_like = |known: &&Arc<Admitted>| known.bytes.ends_with(signature(bytes));
        kept.into_iter().flatten().find(is_like).cloned()
    }

    /// Keeps one, and gives what is forgotten for it.
    fn keep(&mut self, admitted: &Arc<Admitted>, size_half: usize) -> Option<Generation> {
        let size = memory_size(admitted);
        let slot = slot(&admitted.bytes).filter(|_| size <= size_half)?;
        let is_full = self.young_size.saturating_add(size) > size_half;
        let forgotten = is_full.then(|| {
            self.young_size = 0;
            std::mem::replace(&mut self.old, std::mem::take(&mut self.young))
        });
        let replaced = self.young.0.get_mut(slot)?.replace(Arc::clone(admitted));
        let size_before = replaced.map_or(0, |replaced| memory_size(&replaced));
        self.young_size = self.young_size.saturating_sub(size_before).saturating_add(size);
        forgotten
    }
}

/// The signature ends both encodings of a transaction.
fn signature(bytes: &[u8]) -> &[u8] {
    bytes.last_chunk::<64>().map_or(bytes, <[u8; 64]>::as_slice)
}

/// By the first bytes of the signature, which are as good as random; who makes them collide makes these forgotten.
fn slot(bytes: &[u8]) -> Option<usize> {
    let first = signature(bytes).first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*first)).ok()?.checked_rem(SLOT_COUNT)
}

/// About what one takes: its bytes, its actions decoded beside them, and itself.
fn memory_size(admitted: &Admitted) -> usize {
    let decoded = admitted.transaction.actions.len().saturating_mul(size_of::<Action>());
    let bytes = admitted.bytes.len().saturating_mul(2);
    bytes.saturating_add(decoded).saturating_add(size_of::<Admitted>())
}

/// Reads transactions back from a lane, where they stand because their signatures were checked.
///
/// # Errors
/// For each the code that says what is wrong with bytes that are not what was stored.
#[must_use]
pub fn readmit_many(
    chain: &Hash,
    lane_count: u16,
    transactions: Vec<Arc<[u8]>>,
) -> Vec<Result<Admitted, Code>> {
    read_many(chain, lane_count, transactions).0
}

fn only<T>(all: Vec<T>) -> T {
    let [only] = <[T; 1]>::try_from(all).ok().expect("one was given and gives one");
    only
}

/// The transactions, their signatures unchecked, and what the signatures of those that could be read cover.
fn read_many(
    chain: &Hash,
    lane_count: u16,
    transactions: Vec<Arc<[u8]>>,
) -> (Vec<Result<Admitted, Code>>, Messages) {
    let decoded: Vec<Result<_, Code>> = transactions.iter().map(|bytes| decode(bytes)).collect();
    let parts: Vec<WithActions<'_>> = decoded
        .iter()
        .flatten()
        .map(|(transaction, actions)| (transaction, actions.as_slice()))
        .collect();
    let (names, messages) = names_of_many(chain, lane_count, &parts);
    let mut names = names.into_iter();
    let read: Vec<Result<(Transaction, Names), Code>> = decoded
        .into_iter()
        .map(|decoded| {
            let (transaction, _) = decoded?;
            Ok((transaction, names.next().expect("each that was decoded has names")))
        })
        .collect();
    let read = read.into_iter().zip(transactions).map(|(read, bytes)| {
        let (transaction, Names { envelope, tx, leaf, lane }) = read?;
        Ok(Admitted { transaction, bytes, envelope, leaf, tx, lane })
    });
    (read.collect(), messages)
}

fn decode(bytes: &[u8]) -> Result<(Transaction, Encodings<'_>), Code> {
    if bytes.len() > TRANSACTION_SIZE_MAX {
        return Err(TOO_LARGE);
    }
    Transaction::from_bytes_with_actions(bytes).map_err(|_| MALFORMED)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of tests")]
mod tests {
    use proptest::prelude::*;
    use quipu_crypto::suite::SecretKey;
    use quipu_proof::names::{TransactionDraft, sign_transaction};
    use quipu_types::{Encode, Suite};

    use super::*;

    const CHAIN: Hash = Hash([3; 32]);

    fn sample(sequence: u64) -> Vec<u8> {
        let key = SecretKey::from_seed(Suite::Ed25519Sha256, [7; 32]);
        let actions =
            vec![Action::Append { stream: "s".into(), key: vec![1], payload: vec![0, 9] }];
        let draft =
            TransactionDraft { incarnation: 0, sequence, anchor: CHAIN, route: None, actions };
        sign_transaction(&key, &CHAIN, draft).to_bytes()
    }

    #[test]
    fn a_wrong_chain_a_flipped_byte_and_excess_size_have_each_their_code() {
        let bytes = sample(1);
        assert!(admit(&CHAIN, 4, bytes.clone().into()).is_ok());
        assert_eq!(admit(&Hash::ZERO, 4, bytes.clone().into()), Err(BAD_SIGNATURE));
        assert_eq!(admit(&CHAIN, 4, vec![0; TRANSACTION_SIZE_MAX + 1].into()), Err(TOO_LARGE));
        for place in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1;
            let code = admit(&CHAIN, 4, flipped.into()).expect_err("every byte is covered");
            assert!([MALFORMED, BAD_SIGNATURE].contains(&code), "byte {place}: {code}");
        }
    }

    proptest! {
        #[test]
        fn many_at_once_have_the_same_verdicts_as_one_by_one(
            flips in proptest::collection::vec(any::<Option<(usize, u8)>>(), 0..8),
        ) {
            let sent: Vec<Arc<[u8]>> = flips.iter().zip(1..).map(|(flip, sequence)| {
                let mut bytes = sample(sequence);
                if let Some((place, mask)) = flip {
                    let place = place.checked_rem(bytes.len()).unwrap_or(0);
                    bytes[place] ^= mask;
                }
                bytes.into()
            }).collect();
            let single: Vec<_> =
                sent.iter().map(|bytes| admit(&CHAIN, 4, bytes.clone())).collect();
            prop_assert_eq!(admit_many(&CHAIN, 4, sent.clone()), single.clone());
            let wanted: Vec<_> = single.into_iter().map(|one| one.map(Arc::new)).collect();
            for size_max in [0, 2_000, 1 << 20] {
                let admissions = Admissions::new(CHAIN, 4, size_max);
                for _ in 0..3 {
                    prop_assert_eq!(admissions.admit_many(sent.clone()), wanted.clone());
                }
                let CacheCounts { hits, misses } = admissions.counts();
                let good = u64::try_from(wanted.iter().flatten().count())?;
                let all = if size_max == 0 { 0 } else { u64::try_from(3 * sent.len())? };
                prop_assert_eq!(hits + misses, all);
                if size_max > 2_000 {
                    prop_assert_eq!(hits, 2 * good);
                }
                let known = admissions.lock();
                prop_assert!(known.young_size <= size_max.div_ceil(2));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = admit(&CHAIN, 4, bytes.into());
        }
    }
}
