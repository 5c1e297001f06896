//! Signature suites: one way to sign, one verdict, one account per key, chosen by a tag at run time.
//!
//! ```text
//!  suite             curve      signs                   account (32 bytes)
//!  ed25519-sha256    ed25519    message                 the key
//!  ed25519-blake2b   ed25519    BLAKE2b-256(message)    BLAKE2b-256(key)
//!  secp256k1-keccak  secp256k1  keccak-256(message)     12 zeros ‖ last 20 of keccak-256(x ‖ y)
//! ```
//! # Invariants
//! * ed25519 is checked by ZIP-215 on every path; [`verify`] and [`verify_many`] agree (C3).
//! * secp256k1 signatures are `r ‖ s` with the lower `s`; the higher one is refused, so that a third
//!   party cannot turn one valid signature into another.
//! * A [`SecretKey`] is wiped when dropped and prints its public key only (C4).
//! # Limits
//! ZIP-215 takes keys of small order, for which anyone can sign. Whoever registers a key must ask
//! [`is_weak`].

use std::fmt;

use ed25519_zebra::{SigningKey, VerificationKey};
use quipu_accel::{Accel, Ed25519Item, Secp256k1Item};
use quipu_types::{AccountId, Hash, PublicKey, Signature, Suite};
use secp256k1::{Message, ecdsa};
use zeroize::{Zeroize, Zeroizing};

use crate::domain::{Tag, signing_bytes};
use crate::hash::{blake2b256, keccak256, sha256};

/// A key that signs. It has no copy, is wiped when dropped, and is never printed.
pub struct SecretKey {
    public: PublicKey,
    secret: Secret,
}

/// On the heap, so that moving a key leaves no secret behind on the stack.
enum Secret {
    Ed25519(Box<Zeroizing<SigningKey>>),
    Secp256k1(Box<Zeroizing<[u8; 32]>>),
}

impl SecretKey {
    /// A new key of the default suite, out of the operating system's randomness.
    ///
    /// # Panics
    /// If the operating system has no randomness to give; no key is better than a guessable one.
    #[must_use]
    pub fn generate() -> Self {
        Self::generate_for(Suite::Ed25519Sha256)
    }

    /// A new key of `suite`, out of the operating system's randomness.
    ///
    /// # Panics
    /// As [`SecretKey::generate`].
    #[must_use]
    pub fn generate_for(suite: Suite) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).expect("the operating system gives randomness");
        Self::from_seed(suite, *seed)
    }

    /// The key of `suite` that follows from `seed`; the same seed gives the same key.
    ///
    /// For secp256k1 the seed is the scalar itself. The 1 in 2^128 seeds that are no scalar are
    /// replaced by their SHA-256.
    #[must_use]
    pub fn from_seed(suite: Suite, seed: [u8; 32]) -> Self {
        let mut seed = Zeroizing::new(seed);
        let (secret, public) = match suite {
            Suite::Ed25519Sha256 | Suite::Ed25519Blake2b => {
                let key = Box::new(Zeroizing::new(SigningKey::from_bytes(&seed)));
                let public = PublicKey::new(suite, VerificationKey::from(&**key).as_ref());
                (Secret::Ed25519(key), public)
            }
            Suite::Secp256k1Keccak => {
                while secp256k1::SecretKey::from_secret_bytes(*seed).is_err() {
                    *seed = sha256(&*seed).0;
                }
                let public = with_scalar(&seed, |scalar| {
                    PublicKey::new(suite, &scalar.public_key().serialize())
                });
                (Secret::Secp256k1(Box::new(seed)), public)
            }
        };
        let public = public.expect("a suite's keys have the suite's size");
        Self { public, secret }
    }

    /// The suite that this key signs by.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.public.suite()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The account of the public half.
    #[must_use]
    pub fn account(&self) -> AccountId {
        account(&self.public)
    }

    /// Sign `message`. The same key and message give the same signature.
    ///
    /// What other parties will read is signed through [`sign_tagged`], which adds the domain.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        match (&self.secret, self.suite()) {
            (Secret::Ed25519(key), Suite::Ed25519Blake2b) => {
                Signature(key.sign(&blake2b256(message).0).to_bytes())
            }
            (Secret::Ed25519(key), _) => Signature(key.sign(message).to_bytes()),
            (Secret::Secp256k1(bytes), _) => {
                let digest = Message::from_digest(keccak256(message).0);
                let mut signature = with_scalar(bytes, |scalar| ecdsa::sign(digest, scalar));
                signature.normalize_s();
                Signature(signature.serialize_compact())
            }
        }
    }

    /// The seed that makes this key again, for a key file.
    pub(crate) fn seed(&self) -> Zeroizing<[u8; 32]> {
        match &self.secret {
            Secret::Ed25519(key) => Zeroizing::new(*key.as_bytes()),
            Secret::Secp256k1(bytes) => Zeroizing::clone(bytes),
        }
    }
}

/// Lend the scalar of a secp256k1 key, and wipe it after use.
fn with_scalar<T>(bytes: &[u8; 32], act: impl FnOnce(&secp256k1::SecretKey) -> T) -> T {
    let mut scalar = secp256k1::SecretKey::from_secret_bytes(*bytes)
        .expect("the bytes of a key were found to be a scalar when it was made");
    let result = act(&scalar);
    scalar.non_secure_erase();
    result
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl Zeroize for SecretKey {
    /// Wipe the secret now. The key signs nothing that verifies afterwards.
    fn zeroize(&mut self) {
        match &mut self.secret {
            Secret::Ed25519(key) => key.zeroize(),
            // One, not zero: the bytes stay a scalar.
            Secret::Secp256k1(bytes) => {
                bytes.zeroize();
                if let Some(last) = bytes.last_mut() {
                    *last = 1;
                }
            }
        }
    }
}

/// One signature to check.
#[derive(Clone, Copy, Debug)]
pub struct VerifyItem<'a> {
    /// Who is said to have signed.
    pub key: &'a PublicKey,
    /// The bytes that were signed, with their domain.
    pub message: &'a [u8],
    /// The signature.
    pub signature: &'a Signature,
}

/// Whether `signature` is of `message` by `key`.
#[must_use]
pub fn verify(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    match key.suite() {
        Suite::Ed25519Sha256 => verify_ed25519(key, message, signature),
        Suite::Ed25519Blake2b => verify_ed25519(key, &blake2b256(message).0, signature),
        Suite::Secp256k1Keccak => verify_secp256k1(key, message, signature),
    }
}

/// One verdict per item, in order; the same as [`verify`] gives for each alone (C3).
#[must_use]
pub fn verify_many(items: &[VerifyItem<'_>]) -> Vec<bool> {
    let accel = quipu_accel::default();
    let digests = digests(accel, items);
    let mut batches = Batches::default();
    for (item, digest) in items.iter().zip(&digests) {
        batches.push(item, digest);
    }
    let mut ed25519 = accel.verify_ed25519_many(&batches.ed25519).into_iter();
    let mut secp256k1 = accel.verify_secp256k1_many(&batches.secp256k1).into_iter();
    items
        .iter()
        .map(|item| match item.key.suite() {
            Suite::Ed25519Sha256 | Suite::Ed25519Blake2b => ed25519.next(),
            Suite::Secp256k1Keccak => secp256k1.next(),
        })
        .map(|verdict| verdict.expect("accel gives each item of its batch a verdict"))
        .collect()
}

/// What is left to ask `accel` once each message was reduced to what its suite signs.
#[derive(Default)]
struct Batches<'a> {
    ed25519: Vec<Ed25519Item<'a>>,
    secp256k1: Vec<Secp256k1Item<'a>>,
}

impl<'a> Batches<'a> {
    fn push(&mut self, item: &VerifyItem<'a>, digest: &'a [u8; 32]) {
        let signature = &item.signature.0;
        match item.key.suite() {
            Suite::Ed25519Sha256 => {
                let (key, message) = (ed25519_bytes(item.key), item.message);
                self.ed25519.push(Ed25519Item { key, message, signature });
            }
            Suite::Ed25519Blake2b => {
                let key = ed25519_bytes(item.key);
                self.ed25519.push(Ed25519Item { key, message: digest, signature });
            }
            Suite::Secp256k1Keccak => {
                let key = secp256k1_bytes(item.key);
                self.secp256k1.push(Secp256k1Item { key, digest, signature });
            }
        }
    }
}

/// The digests of the suites that sign one, each in its item's place; zeros for the others.
fn digests(accel: &dyn Accel, items: &[VerifyItem<'_>]) -> Vec<[u8; 32]> {
    let mut digests = vec![[0; 32]; items.len()];
    type HashMany<'a> = &'a dyn Fn(&[&[u8]], &mut [[u8; 32]]);
    let mut fill = |suite: Suite, hash_many: HashMany<'_>| {
        let of_suite = || items.iter().enumerate().filter(|(_, item)| item.key.suite() == suite);
        let messages: Vec<&[u8]> = of_suite().map(|(_, item)| item.message).collect();
        if messages.is_empty() {
            return;
        }
        let mut hashes = vec![[0; 32]; messages.len()];
        hash_many(&messages, &mut hashes);
        for ((index, _), hash) in of_suite().zip(hashes) {
            if let Some(digest) = digests.get_mut(index) {
                *digest = hash;
            }
        }
    };
    fill(Suite::Ed25519Blake2b, &|messages, out| accel.blake2b256_many(messages, out));
    fill(Suite::Secp256k1Keccak, &|messages, out| accel.keccak256_many(messages, out));
    digests
}

/// The account that `key` acts for.
///
/// Bytes that are no point of secp256k1 have an account too, outside the addresses of that suite;
/// no signature of theirs verifies.
#[must_use]
pub fn account(key: &PublicKey) -> AccountId {
    match key.suite() {
        Suite::Ed25519Sha256 => AccountId(*ed25519_bytes(key)),
        Suite::Ed25519Blake2b => AccountId(blake2b256(key.bytes()).0),
        Suite::Secp256k1Keccak => match secp256k1::PublicKey::from_slice(key.bytes()) {
            Ok(point) => {
                let mut bytes = uncompressed_hash(&point).0;
                for byte in bytes.iter_mut().take(12) {
                    *byte = 0;
                }
                AccountId(bytes)
            }
            Err(_) => {
                let mut bytes = keccak256(key.bytes()).0;
                for byte in bytes.iter_mut().take(12) {
                    *byte = 0xff;
                }
                AccountId(bytes)
            }
        },
    }
}

/// Whether `key` must not be registered: it is no point of its curve, or one of small order, for
/// which anyone can sign.
#[must_use]
pub fn is_weak(key: &PublicKey) -> bool {
    match key.suite() {
        // A commitment to the identity and `s = 0` satisfy the cofactored equation exactly when
        // eight times the key is the identity, whatever the message.
        Suite::Ed25519Sha256 | Suite::Ed25519Blake2b => {
            let mut identity = [0; 64];
            if let Some(first) = identity.first_mut() {
                *first = 1;
            }
            let is_point = VerificationKey::try_from(*ed25519_bytes(key)).is_ok();
            !is_point || verify_ed25519(key, b"", &Signature(identity))
        }
        Suite::Secp256k1Keccak => secp256k1::PublicKey::from_slice(key.bytes()).is_err(),
    }
}

/// Sign `body` in its domain.
///
/// # Panics
/// If a client's tag comes with an epoch, as [`signing_bytes`].
#[must_use]
pub fn sign_tagged(key: &SecretKey, chain: &Hash, epoch: u64, tag: Tag, body: &[u8]) -> Signature {
    key.sign(&signing_bytes(chain, epoch, tag, body))
}

/// Whether `signature` is of `body` in its domain by `key`.
///
/// # Panics
/// If a client's tag comes with an epoch, as [`signing_bytes`].
#[must_use]
pub fn verify_tagged(
    key: &PublicKey,
    chain: &Hash,
    epoch: u64,
    tag: Tag,
    body: &[u8],
    signature: &Signature,
) -> bool {
    verify(key, &signing_bytes(chain, epoch, tag, body), signature)
}

fn ed25519_bytes(key: &PublicKey) -> &[u8; 32] {
    key.bytes().try_into().expect("keys of the ed25519 suites have 32 bytes")
}

fn secp256k1_bytes(key: &PublicKey) -> &[u8; 33] {
    key.bytes().try_into().expect("keys of the secp256k1 suite have 33 bytes")
}

fn verify_ed25519(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    let item = Ed25519Item { key: ed25519_bytes(key), message, signature: &signature.0 };
    quipu_accel::default().verify_ed25519_many(&[item]) == [true]
}

fn verify_secp256k1(key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    let item = Secp256k1Item {
        key: secp256k1_bytes(key),
        digest: &keccak256(message).0,
        signature: &signature.0,
    };
    quipu_accel::default().verify_secp256k1_many(&[item]) == [true]
}

/// Keccak-256 of the coordinates `x ‖ y`.
fn uncompressed_hash(point: &secp256k1::PublicKey) -> Hash {
    let bytes = point.serialize_uncompressed();
    let (_, coordinates) = bytes.split_first().expect("an uncompressed point has 65 bytes");
    keccak256(coordinates)
}
