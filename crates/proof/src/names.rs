//! Names: the hashes that stand for a genesis, a header, a chunk, a transaction; and who signed the last.
//!
//! ```text
//!  chain id   = SHA-256("quipu/1 genesis"  ‖ canonical genesis)
//!  set        = SHA-256("quipu/1 set"      ‖ encoding)        what a state certificate names
//!  header     = SHA-256("quipu/1 header"   ‖ encoding)        chains by prev_header from the chain id
//!  chunk      = SHA-256("quipu/1 chunk"    ‖ encoded header)  chains by prev from the term's start
//!  proposal   = SHA-256("quipu/1 proposal" ‖ encoding)
//!  term start = SHA-256("quipu/1 term"     ‖ branch ‖ hash of the last chunk before the term)
//!  tx         = SHA-256(signing bytes of the envelope): fixed before it is signed
//!  lane       = first 8 bytes of SHA-256(route), little endian, mod lane count
//! ```
//! Prefixes keep one kind of name from ever being another's. The functions are pure and allocate little:
//! every validator calls them for every transaction.

use std::borrow::Cow;

use quipu_crypto::domain::{HEADER_SIZE, Tag, signing_bytes};
use quipu_crypto::hash::{leaf_hash, leaf_hashes, sha256, sha256_concat, sha256_many};
use quipu_crypto::merkle;
use quipu_crypto::suite::{SecretKey, verify};
use quipu_types::{
    Action, ChunkHeader, Encode, Envelope, Genesis, Hash, Header, Lane, Propose, Signature,
    Transaction, Unsigned, ValidatorSet,
};

/// The chain id: what every signature of the ledger is bound to, and the anchor that names the genesis.
#[must_use]
pub fn chain_id(genesis: &Genesis) -> Hash {
    sha256_concat(&[b"quipu/1 genesis", &genesis.to_bytes()])
}

/// The name of a header: what a commit certificate's votes call `digest`.
#[must_use]
pub fn header_hash(header: &Header) -> Hash {
    sha256_concat(&[b"quipu/1 header", &header.to_bytes()])
}

/// The name of a validator set: what a state certificate calls `next_set`.
#[must_use]
pub fn set_hash(set: &ValidatorSet) -> Hash {
    sha256_concat(&[b"quipu/1 set", &set.to_bytes()])
}

/// The name of a chunk: what the next chunk's `prev` holds.
#[must_use]
pub fn chunk_hash(header: &ChunkHeader) -> Hash {
    sha256_concat(&[b"quipu/1 chunk", &header.to_bytes()])
}

/// The name of a very proposal, signature included.
#[must_use]
pub fn proposal_hash(propose: &Propose) -> Hash {
    sha256_concat(&[b"quipu/1 proposal", &propose.to_bytes()])
}

/// `prev` of the first chunk of a term: `branch` names the term, `last_chunk` is zero in a lane's first term.
#[must_use]
pub fn term_start(branch: &Hash, last_chunk: &Hash) -> Hash {
    sha256_concat(&[b"quipu/1 term", branch.bytes(), last_chunk.bytes()])
}

/// RFC 9162 root over the encodings of a transaction's actions.
#[must_use]
pub fn actions_root(actions: &[Action]) -> Hash {
    let mut bytes = Vec::new();
    let ends: Vec<usize> = actions
        .iter()
        .map(|action| {
            action.encode(&mut bytes);
            bytes.len()
        })
        .collect();
    let mut start = 0;
    let encodings: Vec<&[u8]> = ends
        .iter()
        .map(|end| {
            let encoding = bytes.get(start..*end).expect("ends ascend to the length");
            start = *end;
            encoding
        })
        .collect();
    merkle::root(&leaf_hashes(&encodings))
}

/// The envelope of a transaction, its actions root computed.
#[must_use]
pub fn envelope(transaction: &Transaction) -> Envelope {
    transaction.envelope(actions_root(&transaction.actions))
}

/// What a transaction's signature covers.
#[must_use]
pub fn transaction_message(chain: &Hash, envelope: &Envelope) -> Vec<u8> {
    signing_bytes(chain, 0, Tag::Transaction, &envelope.signed_body())
}

/// The name of a transaction, from the bytes of [`transaction_message`].
#[must_use]
pub fn tx_of_message(message: &[u8]) -> Hash {
    sha256(message)
}

/// The name of a transaction.
#[must_use]
pub fn tx_name(chain: &Hash, envelope: &Envelope) -> Hash {
    tx_of_message(&transaction_message(chain, envelope))
}

/// The leaf hash by which a transaction stands in its lane's tree.
#[must_use]
pub fn envelope_leaf(envelope: &Envelope) -> Hash {
    leaf_hash(&envelope.to_bytes())
}

/// The lane of a route.
///
/// # Panics
/// When `lane_count` is 0, which no checked genesis has.
#[must_use]
pub fn lane_of(route: &[u8], lane_count: u16) -> Lane {
    lane_of_digest(&sha256(route), lane_count)
}

fn lane_of_digest(digest: &Hash, lane_count: u16) -> Lane {
    let first = digest.0.first_chunk::<8>().expect("a digest has 32 bytes");
    let lane = u64::from_le_bytes(*first)
        .checked_rem(u64::from(lane_count))
        .expect("a checked genesis has at least one lane");
    Lane::new(u16::try_from(lane).expect("a remainder of a u16 is a u16"))
}

/// A transaction, with the encodings of its actions as [`Transaction::from_bytes_with_actions`] gives them.
pub type WithActions<'a> = (&'a Transaction, &'a [Cow<'a, [u8]>]);

/// As [`envelope`] of each, hashed together.
#[must_use]
pub fn envelopes(transactions: &[WithActions<'_>]) -> Vec<Envelope> {
    let actions = transactions.iter().flat_map(|(_, actions)| actions.iter());
    let encodings: Vec<&[u8]> = actions.map(|action| &**action).collect();
    let counts: Vec<usize> = transactions.iter().map(|(_, actions)| actions.len()).collect();
    let roots = merkle::roots(leaf_hashes(&encodings), &counts);
    let with_roots = transactions.iter().zip(roots);
    with_roots.map(|((transaction, _), root)| transaction.envelope(root)).collect()
}

/// As [`envelope_leaf`] of each, hashed together.
#[must_use]
pub fn envelope_leaves(envelopes: &[Envelope]) -> Vec<Hash> {
    let encodings: Vec<Vec<u8>> = envelopes.iter().map(Encode::to_bytes).collect();
    leaf_hashes(&encodings.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// Everything that is hashed of a transaction that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Its [`envelope`].
    pub envelope: Envelope,
    /// Its [`tx_of_message`].
    pub tx: Hash,
    /// Its [`envelope_leaf`].
    pub leaf: Hash,
    /// Its [`lane_of`].
    pub lane: Lane,
}

/// What the signatures of many transactions cover, in order: each [`transaction_message`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// One after another, each with the signature behind it.
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Messages {
    fn new(chain: &Hash, envelopes: &[Envelope]) -> Self {
        let header = signing_bytes(chain, 0, Tag::Transaction, &[]);
        let mut messages = Self::default();
        messages.bytes.reserve(envelopes.len().saturating_mul(MESSAGE_SIZE));
        for envelope in envelopes {
            messages.bytes.extend_from_slice(&header);
            envelope.encode(&mut messages.bytes);
            messages.ends.push(messages.bytes.len());
        }
        messages
    }

    /// Each message, with its signature behind it.
    fn signed(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let signed = self.bytes.get(start..*end).expect("ends ascend to the length");
            start = *end;
            signed
        })
    }

    /// Each message.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let split = |signed: &'_ [u8]| signed.len().saturating_sub(size_of::<Signature>());
        self.signed().map(move |signed| signed.split_at(split(signed)).0)
    }

    /// The envelopes' encodings.
    fn envelopes(&self) -> impl Iterator<Item = &[u8]> {
        self.signed().map(|signed| signed.split_at(HEADER_SIZE).1)
    }
}

/// Bytes of a message and a signature, about.
const MESSAGE_SIZE: usize = 320;

/// The names of many transactions, and what their signatures cover: the same as one by one, hashed together.
///
/// # Panics
/// As [`lane_of`].
#[must_use]
pub fn names_of_many(
    chain: &Hash,
    lane_count: u16,
    transactions: &[WithActions<'_>],
) -> (Vec<Names>, Messages) {
    let envelopes = envelopes(transactions);
    let messages = Messages::new(chain, &envelopes);
    let routes: Vec<&[u8]> =
        transactions.iter().map(|(transaction, _)| transaction.route_bytes()).collect();
    let txs = sha256_many(&messages.iter().collect::<Vec<_>>());
    let leaves = leaf_hashes(&messages.envelopes().collect::<Vec<_>>());
    let digests = sha256_many(&routes);
    let hashes = txs.into_iter().zip(leaves).zip(digests);
    let names = envelopes
        .into_iter()
        .zip(hashes)
        .map(|(envelope, ((tx, leaf), digest))| {
            let lane = lane_of_digest(&digest, lane_count);
            Names { envelope, tx, leaf, lane }
        })
        .collect();
    (names, messages)
}

/// What a client fills in before it signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionDraft {
    /// Restart count of the producer.
    pub incarnation: u32,
    /// Next sequence of the producer in the lane.
    pub sequence: u64,
    /// Hash of a header the signer has seen, or the chain id.
    pub anchor: Hash,
    /// What the lane is chosen by, when not the signer.
    pub route: Option<Vec<u8>>,
    /// What to do.
    pub actions: Vec<Action>,
}

/// Signs a draft for the ledger `chain`.
#[must_use]
pub fn sign_transaction(key: &SecretKey, chain: &Hash, draft: TransactionDraft) -> Transaction {
    let TransactionDraft { incarnation, sequence, anchor, route, actions } = draft;
    let mut transaction = Transaction {
        signer: key.public(),
        incarnation,
        sequence,
        anchor,
        route,
        actions,
        signature: Signature([0; 64]),
    };
    let message = transaction_message(chain, &envelope(&transaction));
    transaction.signature = key.sign(&message);
    transaction
}

/// The encoding of a transaction, signed for the ledger `chain`: as [`sign_transaction`], but nothing is copied to be
/// hashed.
///
/// # Panics
/// If the signer is not the key's public half, or there are 2^32 actions.
#[must_use]
pub fn signed_bytes(key: &SecretKey, chain: &Hash, unsigned: &Unsigned<'_>) -> Vec<u8> {
    assert_eq!(unsigned.signer, key.public(), "who signs is who is said to sign");
    let mut bytes = Vec::new();
    let places = unsigned.encode(&mut bytes);
    let actions_root = if places.is_empty() {
        actions_root(unsigned.actions)
    } else {
        let encoding = |place| bytes.get(place).expect("it was just written there");
        merkle::root(&leaf_hashes(&places.into_iter().map(encoding).collect::<Vec<_>>()))
    };
    let envelope = Envelope {
        signer: unsigned.signer,
        incarnation: unsigned.incarnation,
        sequence: unsigned.sequence,
        anchor: unsigned.anchor,
        route: unsigned.route.map(<[u8]>::to_vec),
        action_count: u32::try_from(unsigned.actions.len()).expect("actions are bounded"),
        actions_root,
        signature: Signature([0; 64]),
    };
    key.sign(&transaction_message(chain, &envelope)).encode(&mut bytes);
    bytes
}

/// Whether the envelope's signature is its signer's, for the ledger `chain`.
#[must_use]
pub fn verify_envelope(chain: &Hash, envelope: &Envelope) -> bool {
    verify(&envelope.signer, &transaction_message(chain, envelope), &envelope.signature)
}

#[cfg(test)]
mod tests {
    use quipu_types::Suite;

    use super::*;

    fn draft() -> TransactionDraft {
        let actions = vec![Action::Append { stream: "s".into(), key: vec![], payload: vec![0] }];
        TransactionDraft { incarnation: 0, sequence: 1, anchor: Hash::ZERO, route: None, actions }
    }

    #[test]
    fn a_signature_holds_for_its_chain_and_actions_only() {
        for suite in Suite::ALL {
            let key = SecretKey::from_seed(suite, [7; 32]);
            let chain = sha256(b"chain");
            let transaction = sign_transaction(&key, &chain, draft());
            assert!(verify_envelope(&chain, &envelope(&transaction)), "{suite:?}");
            assert!(!verify_envelope(&Hash::ZERO, &envelope(&transaction)), "{suite:?}");
            let mut other = transaction.clone();
            other.actions.push(Action::Transfer { to: Default::default(), amount: 1 });
            assert!(!verify_envelope(&chain, &envelope(&other)), "{suite:?}");
        }
    }

    #[test]
    fn a_name_does_not_depend_on_the_signature() {
        let key = SecretKey::from_seed(Suite::Ed25519Sha256, [7; 32]);
        let mut transaction = sign_transaction(&key, &Hash::ZERO, draft());
        let name = tx_name(&Hash::ZERO, &envelope(&transaction));
        transaction.signature = Signature([1; 64]);
        assert_eq!(tx_name(&Hash::ZERO, &envelope(&transaction)), name);
        assert_ne!(tx_name(&sha256(b"other"), &envelope(&transaction)), name);
    }

    #[test]
    fn names_of_many_are_the_names_of_each() {
        let chain = sha256(b"chain");
        let transactions: Vec<Transaction> = (0..40_u8)
            .map(|n| {
                let suite = *Suite::ALL.get(usize::from(n) % 3).expect("there are three suites");
                let key = SecretKey::from_seed(suite, [n / 4 + 1; 32]);
                let append =
                    Action::Append { stream: "s".into(), key: vec![n], payload: vec![n; 90] };
                let mut draft = draft();
                draft.actions = vec![append; usize::from(n % 9) + 1];
                if n % 5 == 0 {
                    draft.actions = vec![Action::Transfer { to: Default::default(), amount: 1 }];
                }
                draft.route = (n % 4 == 0).then(|| vec![n; 3]);
                let signed = sign_transaction(&key, &chain, draft);
                let bytes = signed_bytes(&key, &chain, &signed.unsigned());
                assert_eq!(bytes, signed.to_bytes());
                signed
            })
            .collect();
        let bytes: Vec<Vec<u8>> = transactions.iter().map(Encode::to_bytes).collect();
        let read: Vec<_> = bytes
            .iter()
            .map(|bytes| Transaction::from_bytes_with_actions(bytes).expect("it was encoded"))
            .collect();
        let parts: Vec<WithActions<'_>> =
            read.iter().map(|(transaction, actions)| (transaction, actions.as_slice())).collect();
        let wanted: Vec<Names> = transactions
            .iter()
            .map(|transaction| {
                let envelope = envelope(transaction);
                Names {
                    tx: tx_name(&chain, &envelope),
                    leaf: envelope_leaf(&envelope),
                    lane: lane_of(transaction.route_bytes(), 16),
                    envelope,
                }
            })
            .collect();
        let (names, messages) = names_of_many(&chain, 16, &parts);
        assert_eq!(names, wanted);
        let wanted = wanted.iter().map(|names| transaction_message(&chain, &names.envelope));
        assert_eq!(messages.iter().collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
    }

    #[test]
    fn every_lane_is_reached_and_routes_stay_where_they_are() {
        let lanes: std::collections::BTreeSet<_> =
            (0..200_u8).map(|route| lane_of(&[route], 16)).collect();
        assert_eq!(lanes.len(), 16);
        assert_eq!(lane_of(b"EWR", 16), lane_of(b"EWR", 16));
        assert_eq!(lane_of(b"anything", 1), Lane::new(0));
    }
}
