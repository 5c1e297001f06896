//! From bytes to a transaction that may stand in a lane. Pure, so that any number of threads may do it.
//!
//! What needs no state is checked here: canonical form, sizes, signature over this chain. Sequences are the
//! replica's; whether the anchor is in this history, and everything else, is judged at execution.

use std::borrow::Cow;
use std::sync::Arc;

use quipu_crypto::suite::{self, VerifyItem};
use quipu_proof::names::{Names, WithActions, names_of_many};
use quipu_types::code::{BAD_SIGNATURE, MALFORMED, TOO_LARGE};
use quipu_types::transaction::TRANSACTION_SIZE_MAX;
use quipu_types::{Code, Envelope, Hash, Lane, Transaction};

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
    let read = read_many(chain, lane_count, transactions.into_iter().collect());
    let items: Vec<VerifyItem<'_>> = read
        .iter()
        .flatten()
        .map(|(admitted, message)| VerifyItem {
            key: &admitted.envelope.signer,
            message,
            signature: &admitted.envelope.signature,
        })
        .collect();
    let mut verdicts = suite::verify_many(&items).into_iter();
    drop(items);
    read.into_iter()
        .map(|read| {
            let (admitted, _) = read?;
            let holds = verdicts.next().expect("there is a verdict for each that was read");
            if holds { Ok(admitted) } else { Err(BAD_SIGNATURE) }
        })
        .collect()
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
    let read = read_many(chain, lane_count, transactions);
    read.into_iter().map(|read| read.map(|(admitted, _)| admitted)).collect()
}

fn only<T>(all: Vec<T>) -> T {
    let [only] = <[T; 1]>::try_from(all).ok().expect("one was given and gives one");
    only
}

type Read = (Admitted, Vec<u8>);

fn read_many(
    chain: &Hash,
    lane_count: u16,
    transactions: Vec<Arc<[u8]>>,
) -> Vec<Result<Read, Code>> {
    let decoded: Vec<Result<_, Code>> = transactions.iter().map(|bytes| decode(bytes)).collect();
    let parts: Vec<WithActions<'_>> = decoded
        .iter()
        .flatten()
        .map(|(transaction, actions)| (transaction, actions.as_slice()))
        .collect();
    let mut names = names_of_many(chain, lane_count, &parts).into_iter();
    let read: Vec<Result<(Transaction, Names), Code>> = decoded
        .into_iter()
        .map(|decoded| {
            let (transaction, _) = decoded?;
            Ok((transaction, names.next().expect("each that was decoded has names")))
        })
        .collect();
    read.into_iter()
        .zip(transactions)
        .map(|(read, bytes)| {
            let (transaction, names) = read?;
            let Names { envelope, message, tx, leaf, lane } = names;
            Ok((Admitted { transaction, bytes, envelope, leaf, tx, lane }, message))
        })
        .collect()
}

fn decode(bytes: &[u8]) -> Result<(Transaction, Vec<Cow<'_, [u8]>>), Code> {
    if bytes.len() > TRANSACTION_SIZE_MAX {
        return Err(TOO_LARGE);
    }
    Transaction::from_bytes_with_actions(bytes).map_err(|_| MALFORMED)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quipu_crypto::suite::SecretKey;
    use quipu_proof::names::{TransactionDraft, sign_transaction};
    use quipu_types::{Action, Encode, Suite};

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
            prop_assert_eq!(admit_many(&CHAIN, 4, sent), single);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = admit(&CHAIN, 4, bytes.into());
        }
    }
}
