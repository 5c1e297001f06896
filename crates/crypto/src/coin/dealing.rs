//! An epoch's coin made by its validators, with no dealer to trust: each deals, and the coin is the sum.
//!
//! Sources: Pedersen, "A Threshold Cryptosystem without a Trusted Party" (EUROCRYPT 1991); Feldman (FOCS 1987) for the
//! commitments; Gennaro, Jarecki, Krawczyk, Rabin, "Secure Distributed Key Generation for Discrete-Log Based
//! Cryptosystems" (EUROCRYPT 1999) for what this is not, and "Secure Applications of Pedersen's Distributed Key
//! Generation Protocol" (CT-RSA 2003) for why it is enough; Boneh, Franklin (CRYPTO 2001) for the shares' seal.
//!
//! ```text
//!  dealer i: f_i of degree t - 1, r_i           receiver v: d_v, D_v = d_v·g2, registered with a proof
//!    commitments C_k = (k-th difference of f_i at 0)·g2
//!    R_i = r_i·g2,  H = hash(plan, i, R_i, v) in G1
//!    share x sealed by SHA-256(e(r_i·H, D_v), x)  = the receiver's e(d_v·H, R_i)
//!    proof: a signature of all this by f_i(0)
//!                                 | ordered                                  | ordered
//!  deal ---> Dealing --- check ---+--- open ---> own shares, or Grievance ---+--- judge ---> out, or false
//!                                                                            |
//!  all that are in and not out, of more than a third of the power:  key = Σ C_0, part x = Σ f_i(x)·g2
//! ```
//! # Invariants
//! * G1 What is in the order decides: [`Plan::check`], [`Plan::judge`] and [`Plan::setup`] are functions of public
//!   bytes, so all get one setup, of the type that a genesis holds.
//! * G2 An honest dealer is never out: a grievance against it opens to shares that fit.
//! * G3 A dealer whose shares for an honest receiver do not fit is out as soon as that receiver's grievance is ordered.
//! * G4 A grievance opens one dealing's shares for one receiver. The opening is that receiver's signature of a message
//!   that names plan, dealer, R and receiver, so another dealer's dealing that copies R or sealed shares stays closed.
//! * G5 A dealing counts for one chain, epoch, set and dealer: all are in what its proof signs.
//! * G6 With one honest dealer among those that count, and less than t shares in faulty hands, nobody knows the coin's
//!   secret. Dealers of more than a third of the power ([`enough`]) have an honest one among them.
//!
//! # What bias means here
//! Whoever speaks last can choose which of its own dealings are out, and so which of several keys is taken: the key is
//! not uniform, as Gennaro et al. showed in 1999. The coin needs no uniform key. Let an honest dealer's value at 0 be s.
//! The coin's secret is s + a, where `a` is the sum of the other dealings that count, whichever are out, and a coin is
//! `s·H + a·H`. Each faulty dealer's proof gives its part of `a·H`, were H where its own message is hashed to (Ristenpart,
//! Yilek, EUROCRYPT 2007), and honest receivers' t shares give its part of `a` itself. So who guesses a coin guesses
//! `s·H`, a signature under a key that is uniform (the argument of 2003). Nor does choosing a key choose coins: before a
//! threshold has spoken, the coins of all keys that could be chosen are unknown alike.
//!
//! # Limits
//! 128 validators: 385 commitments and 769 shares, 61,730 bytes. That the dealer said its dealing is for its transaction
//! to show: the proof binds the name, and needs no key of the dealer's. A grievance needs nothing beside it. A receiver whose grievance is not ordered in time lacks
//! its shares of the sum ([`Plan::secret`] fails, and its parts are missing, not wrong); the others' coin is what it is.
//! Bound: checking costs a square root and a group check in G2 for each commitment; opening and judging, a pairing and
//! t multiplications; a setup, W·t additions, then what any setup costs.
//! # Deviations
//! Feldman's commitments are to coefficients; here they are to differences (`binomial`), so that all parts' keys
//! follow by additions. Shares of a receiver are opened together, by a signature, where a proof of equal
//! logarithms would open one: the secret `d_v` is then used by `blst`'s signing alone, in constant time.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use blst::min_sig::{AggregatePublicKey, PublicKey, SecretKey, Signature};
use blst::{BLST_ERROR, MultiPoint, blst_fp12};
use quipu_types::{
    CoinKey, CoinSetup, Dealing, DealingKey, DealingProof, Encode, Grievance, Hash, Opening,
    SealedShare, ValidatorIndex,
};
use zeroize::Zeroizing;

use super::field::Scalar;
use super::{
    CoinError, CoinSecret, SCALAR_BITS, challenge, check_powers, ranges, secret_key, share_count,
    threshold, verify_by, widened,
};
use crate::hash::{sha256, sha256_concat};

mod binomial;
mod key;

pub use key::{DecryptionKey, verify_key};

/// Ties a dealer's proof to this use of the dealt secret.
const PROOF_DOMAIN: &[u8] = b"QUIPU-DEAL-PROOF-V01-CS01-with-BLS12381G1_XMD:SHA-256_SSWU_RO_";

/// Ties the seals of shares, and what opens them, to this use of a key.
const SEAL_DOMAIN: &[u8] = b"QUIPU-DEAL-SEAL-V01-CS01-with-BLS12381G1_XMD:SHA-256_SSWU_RO_";

/// What a plan's digest begins with.
const PLAN_DOMAIN: &[u8] = b"quipu/dealing/plan/1";

/// What a dealing's digest begins with.
const DIGEST_DOMAIN: &[u8] = b"quipu/dealing/digest/1";

/// What a share's mask begins with.
const MASK_DOMAIN: &[u8] = b"quipu/dealing/mask/1";

/// Salt of the differences that follow from a seed.
const DIFFERENCE_SALT: &[u8] = b"quipu/dealing/difference/1";

/// Salt of the dealing's own key that follows from a seed.
const EPHEMERAL_SALT: &[u8] = b"quipu/dealing/ephemeral/1";

/// One of the set that will throw the coin: it deals, and is dealt to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its power. Who has none deals nothing and gets nothing.
    pub power: u64,
    /// Its key, whose proof was verified when it was registered ([`verify_key`]).
    pub key: Option<DealingKey>,
}

/// Why a set cannot make a coin.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// Too many validators, none, or none with power.
    #[error(transparent)]
    Set(#[from] CoinError),
    /// A validator with power has no key.
    #[error("validator {validator} has no key that shares could be dealt to; register one")]
    KeyMissing {
        /// The validator.
        validator: ValidatorIndex,
    },
    /// Bytes that are no point of G2, or its identity.
    #[error("validator {validator}'s key for shares is no key of BLS12-381; register another")]
    Key {
        /// The validator.
        validator: ValidatorIndex,
    },
}

/// Why a dealing does not count. All see it.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// Made for another epoch.
    #[error("the dealing is for epoch {found}, dealt is for {wanted}")]
    Epoch {
        /// Its epoch.
        found: u64,
        /// The plan's.
        wanted: u64,
    },
    /// By nobody of the set, or by one without power.
    #[error("validator {dealer} is none that deals")]
    Dealer {
        /// Who dealt.
        dealer: ValidatorIndex,
    },
    /// A polynomial of another degree.
    #[error("the dealing has {found} commitments, {wanted} are due")]
    CommitmentCount {
        /// Its commitments.
        found: usize,
        /// As many as parts make a coin.
        wanted: usize,
    },
    /// Too few shares, or too many.
    #[error("the dealing has {found} shares, {wanted} are due")]
    ShareCount {
        /// Its shares.
        found: usize,
        /// The set's.
        wanted: usize,
    },
    /// Bytes that are no point of G2, or its identity.
    #[error("the dealing's key is no key of BLS12-381")]
    Key,
    /// Bytes that are no point of G2, or its identity.
    #[error("commitment {place} of the dealing is no key of BLS12-381")]
    Commitment {
        /// Which, 0-based.
        place: usize,
    },
    /// The dealer does not know the secret, or said another thing, or elsewhere.
    #[error("the dealing's proof does not hold")]
    Proof,
}

/// Why a receiver has no shares of a dealing.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// Not the key that the set names for this validator.
    #[error(
        "the key for shares is not the one that validator {receiver} registered; give that one"
    )]
    Key {
        /// The receiver.
        receiver: ValidatorIndex,
    },
    /// The shares are wrong: say this, so that the dealer is out.
    #[error("validator {} dealt shares that do not fit its commitments", .0.dealer)]
    Wrong(Box<Grievance>),
}

/// Why a grievance changes nothing.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unfounded {
    /// It is about another dealing.
    #[error("the grievance is about another dealing")]
    Dealing,
    /// Its receiver is dealt nothing.
    #[error("validator {receiver} is dealt no shares")]
    Receiver {
        /// Who complains.
        receiver: ValidatorIndex,
    },
    /// It opens nothing: it is not the receiver's signature.
    #[error("the grievance's opening is not the receiver's")]
    Opening,
    /// The shares are right.
    #[error("the shares fit the dealing's commitments")]
    Fits,
}

/// Why dealings make no coin.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CombineError {
    /// The dealers hold a third of the power or less.
    #[error("the dealings are of a third of the power or less: all could be of faulty dealers")]
    TooFew,
    /// Two dealings of one dealer.
    #[error("validator {dealer} deals twice; the first that was ordered counts")]
    Twice {
        /// The dealer.
        dealer: ValidatorIndex,
    },
    /// Own shares of a dealing that counts are missing, or are of another.
    #[error("own shares of validator {dealer}'s dealing are missing: this coin goes without them")]
    Missing {
        /// The dealer.
        dealer: ValidatorIndex,
    },
    /// Shares that add up to zero: by a chance of 2^-255 if a dealer is honest.
    #[error("the shares add up to zero")]
    Zero,
}

/// Whether `dealers` hold more than a third of the power: then one of them is honest.
#[must_use]
pub fn enough(powers: &[u64], dealers: &BTreeSet<ValidatorIndex>) -> bool {
    let power = |dealer: &ValidatorIndex| powers.get(usize::from(dealer.get())).copied();
    let dealt: u128 = dealers.iter().filter_map(power).map(u128::from).sum();
    dealt.saturating_mul(3) > super::power_total(powers)
}

/// Who makes a coin for which epoch of which chain.
#[derive(Clone, Debug)]
pub struct Plan {
    epoch: u64,
    powers: Vec<u64>,
    /// [validator_count]
    keys: Vec<Option<PublicKey>>,
    /// Which shares are whose. [validator_count]
    ranges: Vec<Range<usize>>,
    /// Of all of this, and the chain.
    digest: Hash,
}

/// A dealing that [`Plan::check`] found right as far as all can see.
#[derive(Clone)]
pub struct Checked {
    dealer: ValidatorIndex,
    plan: Hash,
    digest: Hash,
    key: PublicKey,
    /// [threshold]
    commitments: Vec<PublicKey>,
    /// [share_count]
    shares: Vec<SealedShare>,
}

/// A receiver's shares of one dealing, which fit. Wiped when dropped, and never printed.
pub struct Opened {
    dealer: ValidatorIndex,
    receiver: ValidatorIndex,
    dealing: Hash,
    shares: Zeroizing<Vec<Scalar>>,
}

impl Plan {
    /// The plan for the set that throws the coin of `epoch`.
    ///
    /// # Errors
    /// If the set is none, or a member with power has no key.
    pub fn new(chain: &Hash, epoch: u64, members: &[Member]) -> Result<Self, PlanError> {
        let powers: Vec<u64> = members.iter().map(|member| member.power).collect();
        check_powers(&powers)?;
        let keys = (0_u16..).map(ValidatorIndex::new).zip(members).map(|(validator, member)| {
            let key = member.key.filter(|_| member.power > 0);
            let point = key.map(|key| PublicKey::key_validate(&key.0)).transpose();
            let point = point.map_err(|_| PlanError::Key { validator })?;
            if member.power > 0 && point.is_none() {
                return Err(PlanError::KeyMissing { validator });
            }
            Ok(point)
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let mut bytes = PLAN_DOMAIN.to_vec();
        chain.encode(&mut bytes);
        bytes.extend_from_slice(&epoch.to_le_bytes());
        for (power, key) in powers.iter().zip(&keys) {
            bytes.extend_from_slice(&power.to_le_bytes());
            bytes.extend_from_slice(&key.map_or([0; 96], |key| key.to_bytes()));
        }
        let ranges = ranges(&powers);
        Ok(Self { epoch, powers, keys, ranges, digest: sha256(&bytes) })
    }

    /// The powers of the set, by index.
    #[must_use]
    pub fn powers(&self) -> &[u64] {
        &self.powers
    }

    /// A dealing of `dealer`, with a seed that the operating system draws and nobody keeps.
    ///
    /// # Panics
    /// As [`Plan::deal`], and if the system gives no randomness.
    #[must_use]
    pub fn draw(&self, dealer: ValidatorIndex) -> Dealing {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).expect("the operating system gives randomness");
        self.deal(dealer, &seed)
    }

    /// The dealing of `dealer` that follows from `seed`: whoever knows the seed knows all that is dealt.
    ///
    /// # Panics
    /// If `dealer` is none of the set, or has no power.
    #[must_use]
    pub fn deal(&self, dealer: ValidatorIndex, seed: &[u8; 32]) -> Dealing {
        assert!(self.deals(dealer), "who deals is of the set and has power");
        let ephemeral = self.secret_of_seed(dealer, seed, EPHEMERAL_SALT, 0);
        self.deal_secrets(dealer, &self.secrets(dealer, seed), &ephemeral)
    }

    /// What a faulty dealer says instead of [`Plan::deal`]: all can check it, and the shares of `receiver` are wrong. For
    /// simulations.
    ///
    /// # Panics
    /// As [`Plan::deal`].
    #[must_use]
    pub fn misdeal(
        &self,
        dealer: ValidatorIndex,
        seed: &[u8; 32],
        receiver: ValidatorIndex,
    ) -> Dealing {
        let mut dealing = self.deal(dealer, seed);
        let range = self.ranges.get(usize::from(receiver.get())).cloned().unwrap_or_default();
        for share in dealing.shares.get_mut(range).into_iter().flatten() {
            share.0[31] ^= 1;
        }
        let secrets = self.secrets(dealer, seed);
        let secret = secrets.first().expect("a threshold is above zero");
        dealing.proof = self.prove(&dealing, secret);
        dealing
    }

    fn deal_secrets(
        &self,
        dealer: ValidatorIndex,
        secrets: &[SecretKey],
        ephemeral: &SecretKey,
    ) -> Dealing {
        let shares = self.shares_of(secrets);
        let mut dealing = Dealing {
            epoch: self.epoch,
            dealer,
            key: CoinKey(ephemeral.sk_to_pk().to_bytes()),
            commitments: secrets.iter().map(|one| CoinKey(one.sk_to_pk().to_bytes())).collect(),
            shares: Vec::with_capacity(shares.len()),
            proof: DealingProof([0; 48]),
        };
        for (receiver, range) in self.receivers() {
            let Some(Some(key)) = self.keys.get(usize::from(receiver.get())) else { continue };
            let message = self.seal_message(&dealing.key, dealer, receiver);
            let sealed_by = Seal::new(&ephemeral.sign(&message, SEAL_DOMAIN, &[]), key);
            for (place, share) in range.clone().zip(shares.get(range).into_iter().flatten()) {
                dealing.shares.push(sealed_by.seal(place, *share));
            }
        }
        let secret = secrets.first().expect("a threshold is above zero");
        dealing.proof = self.prove(&dealing, secret);
        dealing
    }

    /// Check all of a dealing that everyone can see.
    ///
    /// # Errors
    /// If it does not count.
    pub fn check(&self, dealing: &Dealing) -> Result<Checked, Refused> {
        let dealer = dealing.dealer;
        if dealing.epoch != self.epoch {
            return Err(Refused::Epoch { found: dealing.epoch, wanted: self.epoch });
        }
        if !self.deals(dealer) {
            return Err(Refused::Dealer { dealer });
        }
        let (found, wanted) = (dealing.commitments.len(), threshold(self.powers.len()));
        if found != wanted {
            return Err(Refused::CommitmentCount { found, wanted });
        }
        let (found, wanted) = (dealing.shares.len(), share_count(self.powers.len()));
        if found != wanted {
            return Err(Refused::ShareCount { found, wanted });
        }
        let key = PublicKey::key_validate(&dealing.key.0).map_err(|_| Refused::Key)?;
        let mut points = dealing.commitments.iter().enumerate().map(|(place, commitment)| {
            PublicKey::key_validate(&commitment.0).map_err(|_| Refused::Commitment { place })
        });
        let first = points.next().expect("a threshold is above zero")?;
        // Before the other points: who proves nothing costs little.
        if !verify_by(&first, &self.proof_message(dealing).0, PROOF_DOMAIN, &dealing.proof.0) {
            return Err(Refused::Proof);
        }
        let mut commitments = Vec::with_capacity(dealing.commitments.len());
        commitments.push(first);
        for point in points {
            commitments.push(point?);
        }
        let digest = self.digest_of(dealing);
        let shares = dealing.shares.clone();
        Ok(Checked { dealer, plan: self.digest, digest, key, commitments, shares })
    }

    /// Read the shares that were dealt to `receiver`: again after a restart, since nothing else is needed.
    ///
    /// # Errors
    /// If they are wrong, with what shows it, or the key is another's.
    ///
    /// # Panics
    /// If the dealing was checked by another plan.
    pub fn open(
        &self,
        dealing: &Checked,
        receiver: ValidatorIndex,
        key: &DecryptionKey,
    ) -> Result<Opened, Closed> {
        self.assert_ours(dealing);
        let shares = match self.receiver(receiver) {
            None => Zeroizing::new(Vec::new()),
            Some((point, _)) if *point != key.0.sk_to_pk() => {
                return Err(Closed::Key { receiver });
            }
            Some((_, range)) => {
                let key_bytes = CoinKey(dealing.key.to_bytes());
                let message = self.seal_message(&key_bytes, dealing.dealer, receiver);
                let opening = key.0.sign(&message, SEAL_DOMAIN, &[]);
                let seal = Seal::new(&opening, &dealing.key);
                dealing.shares_in(range, &seal).ok_or_else(|| {
                    Closed::Wrong(Box::new(Grievance {
                        epoch: self.epoch,
                        dealer: dealing.dealer,
                        receiver,
                        dealing: dealing.digest,
                        opening: Opening(opening.to_bytes()),
                    }))
                })?
            }
        };
        Ok(Opened { dealer: dealing.dealer, receiver, dealing: dealing.digest, shares })
    }

    /// Whether a grievance is right: then the dealer is out.
    ///
    /// # Errors
    /// If it is false, or about another dealing.
    ///
    /// # Panics
    /// If the dealing was checked by another plan.
    pub fn judge(&self, dealing: &Checked, grievance: &Grievance) -> Result<(), Unfounded> {
        self.assert_ours(dealing);
        let place = (grievance.epoch, grievance.dealer, grievance.dealing);
        if place != (self.epoch, dealing.dealer, dealing.digest) {
            return Err(Unfounded::Dealing);
        }
        let receiver = grievance.receiver;
        let (key, range) = self.receiver(receiver).ok_or(Unfounded::Receiver { receiver })?;
        let message = self.seal_message(&CoinKey(dealing.key.to_bytes()), dealing.dealer, receiver);
        if !verify_by(key, &message, SEAL_DOMAIN, &grievance.opening.0) {
            return Err(Unfounded::Opening);
        }
        let opening =
            Signature::from_bytes(&grievance.opening.0).expect("its pairing was verified");
        match dealing.shares_in(range, &Seal::new(&opening, &dealing.key)) {
            Some(_) => Err(Unfounded::Fits),
            None => Ok(()),
        }
    }

    /// The coin's public side, of all dealings that count: of the type that a genesis holds.
    ///
    /// # Errors
    /// If the dealers are too few, or one deals twice.
    ///
    /// # Panics
    /// If a dealing was checked by another plan.
    pub fn setup(&self, dealings: &[&Checked]) -> Result<CoinSetup, CombineError> {
        self.check_dealers(dealings)?;
        let mut differences = Vec::with_capacity(threshold(self.powers.len()));
        let mut lists: Vec<_> = dealings.iter().map(|one| one.commitments.iter()).collect();
        for _ in 0..threshold(self.powers.len()) {
            let points: Vec<&PublicKey> = lists.iter_mut().filter_map(Iterator::next).collect();
            let sum = AggregatePublicKey::aggregate(&points, false);
            differences.push(sum.expect("points that were checked, at least one"));
        }
        let key = |point: &AggregatePublicKey| CoinKey(point.to_public_key().to_bytes());
        let group = differences.first().map(key).expect("a threshold is above zero");
        let add = AggregatePublicKey::add_aggregate;
        let last = share_count(self.powers.len());
        let parts = binomial::values(&mut differences, last, add, key);
        Ok(CoinSetup { key: group, parts })
    }

    /// A validator's own side of the coin: the sums of what `opened` of each dealing that counts gave it.
    ///
    /// # Errors
    /// As [`Plan::setup`], and if a dealing's shares are missing.
    ///
    /// # Panics
    /// If a dealing was checked by another plan, or shares are of several receivers.
    pub fn secret(
        &self,
        dealings: &[&Checked],
        opened: &[Opened],
    ) -> Result<CoinSecret, CombineError> {
        self.check_dealers(dealings)?;
        let mut sums: Option<Zeroizing<Vec<Scalar>>> = None;
        let mut receivers = BTreeSet::new();
        for dealing in dealings {
            let own = opened.iter().find(|own| own.dealing == dealing.digest);
            let own = own.ok_or(CombineError::Missing { dealer: dealing.dealer })?;
            receivers.insert(own.receiver);
            match &mut sums {
                None => sums = Some(own.shares.clone()),
                Some(sums) => {
                    for (sum, share) in sums.iter_mut().zip(own.shares.iter()) {
                        *sum = sum.plus(*share);
                    }
                }
            }
        }
        assert!(receivers.len() == 1, "own shares are of one receiver");
        let sums = sums.unwrap_or_default();
        let mut shares = Vec::with_capacity(sums.len());
        for sum in sums.iter() {
            shares.push(secret_key(*sum).ok_or(CombineError::Zero)?);
        }
        Ok(CoinSecret { shares, memory: None })
    }

    fn check_dealers(&self, dealings: &[&Checked]) -> Result<(), CombineError> {
        let mut dealers = BTreeSet::new();
        for dealing in dealings {
            self.assert_ours(dealing);
            if !dealers.insert(dealing.dealer) {
                return Err(CombineError::Twice { dealer: dealing.dealer });
            }
        }
        if enough(&self.powers, &dealers) { Ok(()) } else { Err(CombineError::TooFew) }
    }

    fn assert_ours(&self, dealing: &Checked) {
        assert!(dealing.plan == self.digest, "a dealing is used by the plan that checked it");
    }

    fn deals(&self, dealer: ValidatorIndex) -> bool {
        self.powers.get(usize::from(dealer.get())).is_some_and(|power| *power > 0)
    }

    /// Who is dealt shares, and which.
    fn receivers(&self) -> impl Iterator<Item = (ValidatorIndex, Range<usize>)> {
        let all = (0_u16..).map(ValidatorIndex::new).zip(self.ranges.iter().cloned());
        all.filter(|(_, range)| !range.is_empty())
    }

    /// The key and the shares of one of them.
    fn receiver(&self, receiver: ValidatorIndex) -> Option<(&PublicKey, Range<usize>)> {
        let place = usize::from(receiver.get());
        let range = self.ranges.get(place).filter(|range| !range.is_empty())?;
        Some((self.keys.get(place)?.as_ref()?, range.clone()))
    }

    /// The differences at 0 that `dealer` deals.
    fn secrets(&self, dealer: ValidatorIndex, seed: &[u8; 32]) -> Vec<SecretKey> {
        let count = threshold(self.powers.len());
        // Sized before: a growing list would leave secrets behind.
        let mut secrets = Vec::with_capacity(count);
        for place in 0..count {
            secrets.push(self.secret_of_seed(dealer, seed, DIFFERENCE_SALT, place));
        }
        secrets
    }

    fn secret_of_seed(
        &self,
        dealer: ValidatorIndex,
        seed: &[u8; 32],
        salt: &[u8],
        place: usize,
    ) -> SecretKey {
        // Another plan's secrets are unrelated, should a seed be used twice.
        let mut info = self.digest.to_bytes();
        dealer.encode(&mut info);
        info.extend_from_slice(&widened(place).to_le_bytes());
        SecretKey::key_gen_v5(seed, salt, &info).expect("a seed has 32 bytes")
    }

    /// All shares of the polynomial of these differences.
    fn shares_of(&self, secrets: &[SecretKey]) -> Zeroizing<Vec<Scalar>> {
        let mut differences = Zeroizing::new(Vec::with_capacity(secrets.len()));
        for secret in secrets {
            differences.push(Scalar::from_be_bytes(&Zeroizing::new(secret.to_bytes())));
        }
        let add = |to: &mut Scalar, from: &Scalar| *to = to.plus(*from);
        let last = share_count(self.powers.len());
        Zeroizing::new(binomial::values(&mut differences, last, add, |share| *share))
    }

    /// What a receiver signs to read its shares.
    fn seal_message(
        &self,
        key: &CoinKey,
        dealer: ValidatorIndex,
        receiver: ValidatorIndex,
    ) -> Vec<u8> {
        let mut bytes = self.digest.to_bytes();
        dealer.encode(&mut bytes);
        key.encode(&mut bytes);
        receiver.encode(&mut bytes);
        bytes
    }

    fn proof_message(&self, dealing: &Dealing) -> Hash {
        let mut bytes = self.digest.to_bytes();
        dealing.encode_body(&mut bytes);
        sha256(&bytes)
    }

    fn prove(&self, dealing: &Dealing, secret: &SecretKey) -> DealingProof {
        let message = self.proof_message(dealing).0;
        DealingProof(secret.sign(&message, PROOF_DOMAIN, &[]).to_bytes())
    }

    /// Names a dealing as [`Checked::digest`] does, before it is checked.
    #[must_use]
    pub fn digest_of(&self, dealing: &Dealing) -> Hash {
        sha256_concat(&[DIGEST_DOMAIN, &self.digest.0, &dealing.to_bytes()])
    }
}

impl Checked {
    /// Who dealt.
    #[must_use]
    pub fn dealer(&self) -> ValidatorIndex {
        self.dealer
    }

    /// Names the dealing.
    #[must_use]
    pub fn digest(&self) -> Hash {
        self.digest
    }

    /// The shares of `range`, if all of them are on the polynomial.
    fn shares_in(&self, range: Range<usize>, seal: &Seal) -> Option<Zeroizing<Vec<Scalar>>> {
        let sealed = self.shares.get(range.clone()).expect("a checked dealing has all shares");
        let mut shares = Zeroizing::new(Vec::with_capacity(sealed.len()));
        for (place, sealed) in range.clone().zip(sealed) {
            shares.push(seal.open(place, sealed)?);
        }
        self.fit(range, &shares).then_some(shares)
    }

    /// Whether `Σ w·share = Σ w·f(x)`, in the exponent, for weights that follow from the dealing.
    ///
    /// A dealing fixes its shares, so its weights were unknown when they were chosen: wrong ones pass by a chance of
    /// 2^-128.
    fn fit(&self, range: Range<usize>, shares: &[Scalar]) -> bool {
        let weight = |place| Scalar::new(challenge(&self.digest.0, widened(place)));
        let mut weights = vec![Scalar::ZERO; range.start];
        weights.extend(range.map(weight));
        let used = weights.iter().skip(weights.len().saturating_sub(shares.len()));
        let sum = Zeroizing::new(
            used.zip(shares)
                .fold(Scalar::ZERO, |sum, (weight, share)| sum.plus(weight.times(*share))),
        );
        let factors = binomial::coefficients(&weights, self.commitments.len());
        let factors: Vec<u8> = factors.into_iter().flat_map(Scalar::to_le_bytes).collect();
        let point = self.commitments.mult(&factors, SCALAR_BITS).to_public_key();
        match secret_key(*sum) {
            Some(secret) => secret.sk_to_pk() == point,
            None => point.validate() == Err(BLST_ERROR::BLST_PK_IS_INFINITY),
        }
    }
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checked")
            .field("dealer", &self.dealer)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl Opened {
    /// Whose dealing it is of.
    #[must_use]
    pub fn dealer(&self) -> ValidatorIndex {
        self.dealer
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("dealer", &self.dealer)
            .field("receiver", &self.receiver)
            .field("share_count", &self.shares.len())
            .finish_non_exhaustive()
    }
}

/// What dealer and receiver share: `e(H, g2)^(r·d)`.
struct Seal(Zeroizing<[u8; 576]>);

impl Seal {
    /// By the dealer's signature and the receiver's key, or the receiver's and the dealing's.
    fn new(signature: &Signature, key: &PublicKey) -> Self {
        let value = blst_fp12::miller_loop(&(*key).into(), &(*signature).into()).final_exp();
        Self(Zeroizing::new(value.to_bendian()))
    }

    fn mask(&self, place: usize) -> Zeroizing<[u8; 32]> {
        let place = widened(place).to_le_bytes();
        Zeroizing::new(sha256_concat(&[MASK_DOMAIN, &*self.0, &place]).0)
    }

    fn seal(&self, place: usize, share: Scalar) -> SealedShare {
        let mut bytes = self.mask(place);
        for (byte, of_share) in bytes.iter_mut().rev().zip(*Zeroizing::new(share.to_le_bytes())) {
            *byte ^= of_share;
        }
        SealedShare(*bytes)
    }

    fn open(&self, place: usize, sealed: &SealedShare) -> Option<Scalar> {
        let mut bytes = self.mask(place);
        for (byte, of_share) in bytes.iter_mut().zip(sealed.0) {
            *byte ^= of_share;
        }
        Scalar::checked_from_be_bytes(&bytes)
    }
}

#[cfg(test)]
mod tests;
