//! The common coin of open rounds: a threshold BLS signature, which nobody can know before a threshold of shares
//! speaks, and nobody can bend.
//!
//! Sources: Boldyreva, "Threshold Signatures … Based on the Gap-Diffie-Hellman-Group Signature Scheme" (PKC 2003);
//! Cachin, Kursawe, Shoup, "Random Oracles in Constantinople" (PODC 2000), section 4: the coin; RFC 9380 for the hash
//! to G1; draft-irtf-cfrg-bls-signature, minimal signatures (G1), keys in G2; Cascudo, David, "SCRAPE" (ACNS 2017) for
//! the check of a setup. Curve and pairing are `blst`'s; the numbers modulo the order are `field`'s.
//!
//! ```text
//!  powers of n ---> W = 6n + 1 virtual shares, t = 3n + 1
//!  seed ---> f of degree t - 1 ---> share x = f(x), x = 1..W     key = f(0)·g2
//!                                      |                           parts' keys = f(x)·g2
//!  message ---> H in G1 ---> part x = f(x)·H --(any t)--> coin = f(0)·H ---> elect, by stake
//! ```
//! # Invariants
//! * K1 There is one coin for a key and a message: whichever parts it is made of, whoever made them.
//! * K2 Less than a third of the power never holds t shares, and more than two thirds always do. Each validator's
//!   shares are within one of W·p/S. So f validators of less than a third hold less than W/3 + f ≤ 2n + 1/3 + n − 1
//!   < t, and h validators of a quorum more than 2W/3 − h ≥ 4n + 2/3 − n > 3n: t or more.
//! * K3 What comes from outside is a point of its group and not the identity before it counts: parts when they
//!   are judged, a coin and the keys always.
//! * K4 Only validators whose parts do not verify are named as wrong.
//! * K5 The verdicts are functions of the arguments: batches are weighed by a hash, not by chance.
//!
//! # Limits
//! 128 validators, 769 shares. No part is worth more than another, so validators of small power may hold none.
//! Bound: two pairings and a hash to the curve, 0.7 ms, are the least that any verdict costs. Verifying a coin adds a
//! square root; the parts of a validator, a square root, a group check and two multiplications by 128 bits each;
//! combining, t square roots and multiplications in G1. A setup is checked once an epoch: W square roots, group checks
//! and multiplications in G2.
//! # Deviations
//! Shares carry no proof of equality of logarithms (as in Cachin et al.): the pairing says it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use blst::min_sig::{PublicKey, SecretKey, Signature};
use blst::{BLST_ERROR, MultiPoint};
use quipu_types::agreement::VALIDATOR_COUNT_MAX;
use quipu_types::{
    COIN_PART_COUNT_MAX, Coin, CoinKey, CoinPart, CoinSetup, Encode, Hash, ValidatorIndex,
};
use zeroize::Zeroizing;

use crate::hash::sha256;
use field::{Scalar, invert_all};

pub mod dealing;
mod field;
pub mod file;
mod memory;

pub use memory::CoinMemory;

/// Ties the hash to the curve to this use of it (RFC 9380, section 3.1).
const DOMAIN: &[u8] = b"QUIPU-COIN-V01-CS01-with-BLS12381G1_XMD:SHA-256_SSWU_RO_";

/// Salt of the coefficients that follow from a seed.
const DEAL_SALT: &[u8] = b"quipu/coin/deal/1";

/// Bits of a scalar below the groups' order.
const SCALAR_BITS: usize = 255;

/// Bits of a weight in a batch: an attacker passes with a chance of 2^-128.
const WEIGHT_BITS: usize = 128;

/// Why a setup or a secret is none.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CoinError {
    /// No validators, or more than a set may have.
    #[error("a coin is for 1 to {VALIDATOR_COUNT_MAX} validators, not {count}; correct the set")]
    ValidatorCount {
        /// How many there are.
        count: usize,
    },
    /// All powers are zero.
    #[error("the validators of a coin have no power; correct the set")]
    NoPower,
    /// A setup for another number of validators.
    #[error("the coin's setup has {found} parts, this set needs {wanted}; deal again for this set")]
    PartCount {
        /// Parts of the setup.
        found: usize,
        /// Shares of the set.
        wanted: usize,
    },
    /// Bytes that are no point of G2, or its identity.
    #[error("the coin's group key is no key of BLS12-381; take the setup from its source again")]
    GroupKey,
    /// Bytes that are no point of G2, or its identity.
    #[error("the key of the coin's part {part} is no key; take the setup from its source again")]
    PartKey {
        /// The part, 0-based.
        part: usize,
    },
    /// Fewer than all would not combine to the same coin.
    #[error("the keys of the coin's parts do not belong together; deal again")]
    Inconsistent,
    /// A secret that is not made of shares.
    #[error("a coin's secret of {size} bytes is not made of shares; restore it from a backup")]
    Secret {
        /// Its size.
        size: usize,
    },
}

/// What parts give together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Combined {
    /// The coin. It verifies.
    Coin(Coin),
    /// There are not yet as many parts as it takes.
    TooFew,
    /// No coin: the parts of these validators do not verify, or are not as many as their shares; ascending.
    Wrong(Vec<ValidatorIndex>),
}

/// How many virtual shares each of `powers` holds: `6n + 1` by largest remainder, ties to the lower index.
///
/// # Panics
/// If there are no or too many validators, or none has power: a set was checked before.
#[must_use]
pub fn share_counts(powers: &[u64]) -> Vec<u16> {
    check_powers(powers).expect("a set of validators has members and power");
    let share_count = widened(share_count(powers.len()));
    let total = power_total(powers);
    let split = |power: &u64| {
        let product = share_count.saturating_mul(u128::from(*power));
        let whole = product.checked_div(total).expect("the total is above zero");
        (whole, product.saturating_sub(whole.saturating_mul(total)))
    };
    let quotas: Vec<(u128, u128)> = powers.iter().map(split).collect();
    let given: u128 = quotas.iter().map(|(whole, _)| whole).sum();
    let left = usize::try_from(share_count.saturating_sub(given)).expect("fewer than validators");
    let mut order: Vec<usize> = (0..powers.len()).collect();
    order.sort_by_key(|place| std::cmp::Reverse(quotas.get(*place).map(|(_, rest)| *rest)));
    let mut counts: Vec<u16> = quotas
        .iter()
        .map(|(whole, _)| u16::try_from(*whole).expect("at most 769 shares"))
        .collect();
    for place in order.into_iter().take(left) {
        let count = counts.get_mut(place).expect("places are those of the counts");
        *count = count.saturating_add(1);
    }
    counts
}

/// How many parts make a coin: `⌈(6n + 1) / 2⌉ = 3n + 1`.
#[must_use]
pub fn threshold(validator_count: usize) -> usize {
    validator_count.saturating_mul(3).saturating_add(1)
}

/// `W = 6n + 1`.
fn share_count(validator_count: usize) -> usize {
    validator_count.saturating_mul(6).saturating_add(1)
}

fn widened(count: usize) -> u128 {
    u128::try_from(count).expect("a usize has at most 128 bits")
}

fn power_total(powers: &[u64]) -> u128 {
    powers.iter().map(|power| u128::from(*power)).sum()
}

fn check_powers(powers: &[u64]) -> Result<(), CoinError> {
    if powers.is_empty() || powers.len() > VALIDATOR_COUNT_MAX {
        return Err(CoinError::ValidatorCount { count: powers.len() });
    }
    if power_total(powers) == 0 { Err(CoinError::NoPower) } else { Ok(()) }
}

/// Make a setup and each validator's secret, in the order of their indices, out of `seed`.
///
/// Whoever knows the seed knows every coin: it is drawn at random, used once, and forgotten.
///
/// # Panics
/// As [`share_counts`].
#[must_use]
pub fn deal(powers: &[u64], seed: &[u8; 32]) -> (CoinSetup, Vec<CoinSecret>) {
    let counts = share_counts(powers);
    let mut coefficients = Zeroizing::new(Vec::with_capacity(threshold(powers.len())));
    // Another set's coefficients are unrelated, should a seed be used twice.
    let set: Vec<u8> = powers.iter().flat_map(|power| power.to_le_bytes()).collect();
    for place in 0..threshold(powers.len()) {
        let info = [&widened(place).to_le_bytes(), set.as_slice()].concat();
        let secret = SecretKey::key_gen_v5(seed, DEAL_SALT, &info).expect("a seed has 32 bytes");
        coefficients.push(Scalar::from_be_bytes(&Zeroizing::new(secret.to_bytes())));
    }
    let key = CoinKey(secret_of(&coefficients, 0).sk_to_pk().to_bytes());
    let mut points = 1_u128..;
    let secrets: Vec<CoinSecret> = counts
        .iter()
        .map(|count| {
            let points = points.by_ref().take(usize::from(*count));
            let shares = points.map(|point| secret_of(&coefficients, point)).collect();
            CoinSecret { shares, memory: None }
        })
        .collect();
    let shares = secrets.iter().flat_map(|secret| &secret.shares);
    let parts = shares.map(|share| CoinKey(share.sk_to_pk().to_bytes())).collect();
    (CoinSetup { key, parts }, secrets)
}

/// The polynomial's value at `point`, by Horner's rule.
fn secret_of(coefficients: &[Scalar], point: u128) -> SecretKey {
    let point = Scalar::new(point);
    let value = coefficients
        .iter()
        .rev()
        .fold(Scalar::ZERO, |value, coefficient| value.times(point).plus(*coefficient));
    secret_key(value).expect("a share is zero by a chance of 2^-255")
}

/// The key whose secret `value` is: none for zero.
fn secret_key(value: Scalar) -> Option<SecretKey> {
    let mut bytes = Zeroizing::new(value.to_le_bytes());
    bytes.reverse();
    SecretKey::from_bytes(&*bytes).ok()
}

/// As [`deal`], with a seed that the operating system draws and nobody keeps.
///
/// # Panics
/// As [`deal`], and if the system gives no randomness.
#[must_use]
pub fn draw(powers: &[u64]) -> (CoinSetup, Vec<CoinSecret>) {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).expect("the operating system gives randomness");
    deal(powers, &seed)
}

/// A validator's virtual shares. Wiped when dropped, and never printed.
pub struct CoinSecret {
    shares: Vec<SecretKey>,
    memory: Option<(ValidatorIndex, Arc<CoinMemory>)>,
}

impl CoinSecret {
    /// The shares, 32 bytes each, for a key file.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let size = self.shares.len().saturating_mul(32);
        let mut bytes = Zeroizing::new(Vec::with_capacity(size));
        for share in &self.shares {
            bytes.extend_from_slice(&*Zeroizing::new(share.to_bytes()));
        }
        bytes
    }

    /// The shares of a key file.
    ///
    /// # Errors
    /// If the bytes are not what [`CoinSecret::to_bytes`] gives.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CoinError> {
        let wrong = CoinError::Secret { size: bytes.len() };
        let (shares, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() || shares.len() > COIN_PART_COUNT_MAX {
            return Err(wrong);
        }
        // Sized before: a growing list would leave shares behind.
        let mut secret = Self { shares: Vec::with_capacity(shares.len()), memory: None };
        for share in shares {
            secret.shares.push(SecretKey::from_bytes(share).map_err(|_| wrong.clone())?);
        }
        Ok(secret)
    }

    /// The same secret, of `validator`, that asks a memory of its setup first.
    #[must_use]
    pub fn with_memory(self, validator: ValidatorIndex, memory: Arc<CoinMemory>) -> Self {
        Self { memory: Some((validator, memory)), ..self }
    }

    /// This validator's parts of the coin of `message`: one a share, none if it holds none.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<CoinPart> {
        let part = |share: &SecretKey| CoinPart(share.sign(message, DOMAIN, &[]).to_bytes());
        let sign = || self.shares.iter().map(part).collect();
        match &self.memory {
            None => sign(),
            Some((validator, memory)) => memory.parts(message, *validator, sign),
        }
    }
}

impl fmt::Debug for CoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoinSecret")
            .field("share_count", &self.shares.len())
            .finish_non_exhaustive()
    }
}

/// The public side of an epoch's coin. A copy shares its points.
#[derive(Clone)]
pub struct CoinScheme {
    inner: Arc<Inner>,
    memory: Option<Arc<CoinMemory>>,
}

struct Inner {
    key: PublicKey,
    /// [share_count]
    parts: Vec<PublicKey>,
    /// Which parts are whose. [validator_count]
    ranges: Vec<Range<usize>>,
    powers: Vec<u64>,
    /// Of the setup: binds the weights of batches to the keys.
    digest: Hash,
}

impl CoinScheme {
    /// Check a setup for a set of these `powers`.
    ///
    /// # Errors
    /// If it is for another set, its keys are none, or do not belong together.
    pub fn new(setup: &CoinSetup, powers: &[u64]) -> Result<Self, CoinError> {
        check_powers(powers)?;
        let wanted = share_count(powers.len());
        if setup.parts.len() != wanted {
            return Err(CoinError::PartCount { found: setup.parts.len(), wanted });
        }
        let key = PublicKey::key_validate(&setup.key.0).map_err(|_| CoinError::GroupKey)?;
        let keys = setup.parts.iter().enumerate().map(|(part, key)| {
            PublicKey::key_validate(&key.0).map_err(|_| CoinError::PartKey { part })
        });
        let parts = keys.collect::<Result<Vec<_>, _>>()?;
        let digest = sha256(&setup.to_bytes());
        if !on_one_polynomial(&key, &parts, threshold(powers.len()), &digest) {
            return Err(CoinError::Inconsistent);
        }
        let ranges = ranges(powers);
        let powers = powers.to_vec();
        Ok(Self { inner: Arc::new(Inner { key, parts, ranges, powers, digest }), memory: None })
    }

    /// The same scheme, that asks a memory of its setup first.
    #[must_use]
    pub fn with_memory(self, memory: Arc<CoinMemory>) -> Self {
        Self { memory: Some(memory), ..self }
    }

    /// What verifies coins.
    #[must_use]
    pub fn key(&self) -> CoinKey {
        CoinKey(self.inner.key.to_bytes())
    }

    /// Whether `secret` is that of `validator` in this setup.
    #[must_use]
    pub fn fits(&self, validator: ValidatorIndex, secret: &CoinSecret) -> bool {
        let keys = secret.shares.iter().map(SecretKey::sk_to_pk);
        self.keys_of(validator).is_some_and(|parts| keys.eq(parts.iter().copied()))
    }

    /// Whether `parts` are all those of `validator` for `message`. True of no parts for who holds no shares.
    #[must_use]
    pub fn verify_parts(
        &self,
        validator: ValidatorIndex,
        message: &[u8],
        parts: &[CoinPart],
    ) -> bool {
        let Some(keys) = self.keys_of(validator).filter(|keys| keys.len() == parts.len()) else {
            return false;
        };
        if keys.is_empty() {
            return true;
        }
        let points = parts.iter().map(|part| Signature::sig_validate(&part.0, true));
        let Ok(points) = points.collect::<Result<Vec<_>, _>>() else {
            return false;
        };
        let weights = self.weights(validator, message, parts);
        let sum = points.mult(&weights, WEIGHT_BITS).to_signature();
        let key = keys.mult(&weights, WEIGHT_BITS).to_public_key();
        is_signed(&sum, message, DOMAIN, &key)
    }

    /// Make the coin of `message` out of what validators gave, each all its parts.
    ///
    /// The first parts by index are combined and the sum is verified; only if that fails is each validator's
    /// word checked. Leave the wrong ones out and try again.
    #[must_use]
    pub fn combine(
        &self,
        message: &[u8],
        given: &BTreeMap<ValidatorIndex, Vec<CoinPart>>,
    ) -> Combined {
        let counts = |(validator, parts): &(&ValidatorIndex, &Vec<CoinPart>)| {
            self.keys_of(**validator).is_none_or(|keys| keys.len() != parts.len())
        };
        let wrong: Vec<_> = given.iter().filter(counts).map(|(validator, _)| *validator).collect();
        if !wrong.is_empty() {
            return Combined::Wrong(wrong);
        }
        let threshold = threshold(self.inner.powers.len());
        let parts = given.iter().flat_map(|(validator, parts)| {
            let range = self.inner.ranges.get(usize::from(validator.get())).cloned();
            range.unwrap_or_default().zip(parts)
        });
        let parts: Vec<(usize, &CoinPart)> = parts.take(threshold).collect();
        if parts.len() < threshold {
            return Combined::TooFew;
        }
        let given_parts = || given.iter().map(|(validator, parts)| (*validator, parts));
        if let Some(memory) = &self.memory
            && let Some(coin) = memory.coin(message, given_parts())
        {
            return Combined::Coin(coin);
        }
        if let Some(coin) = interpolate(&parts).filter(|coin| self.verify(message, coin)) {
            if let Some(memory) = &self.memory {
                memory.keep(message, coin);
            }
            return Combined::Coin(coin);
        }
        let fails = |(validator, parts): &(&ValidatorIndex, &Vec<CoinPart>)| {
            !self.verify_parts(**validator, message, parts)
        };
        let wrong: Vec<_> = given.iter().filter(fails).map(|(validator, _)| *validator).collect();
        assert!(!wrong.is_empty(), "parts that verify lie on the polynomial of the group's key");
        Combined::Wrong(wrong)
    }

    /// Whether `coin` is that of `message`.
    #[must_use]
    pub fn verify(&self, message: &[u8], coin: &Coin) -> bool {
        verify_by(&self.inner.key, message, DOMAIN, &coin.0)
    }

    /// Whom `coin` elects in the set of this setup.
    #[must_use]
    pub fn elect(&self, coin: &Coin) -> ValidatorIndex {
        elect(self.inner.powers.iter().copied(), coin)
    }

    fn keys_of(&self, validator: ValidatorIndex) -> Option<&[PublicKey]> {
        let range = self.inner.ranges.get(usize::from(validator.get()))?;
        self.inner.parts.get(range.clone())
    }

    /// The weights of a validator's parts in a batch, [`WEIGHT_BITS`] each.
    fn weights(&self, validator: ValidatorIndex, message: &[u8], parts: &[CoinPart]) -> Vec<u8> {
        let mut bytes = b"quipu/coin/parts/1".to_vec();
        bytes.extend_from_slice(&self.inner.digest.0);
        validator.encode(&mut bytes);
        bytes.extend_from_slice(&sha256(message).0);
        for part in parts {
            part.encode(&mut bytes);
        }
        let seed = sha256(&bytes).0;
        let weight = |place: usize| challenge(&seed, widened(place)).to_le_bytes();
        (0..parts.len()).flat_map(weight).collect()
    }
}

impl fmt::Debug for CoinScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoinScheme")
            .field("key", &self.key())
            .field("powers", &self.inner.powers)
            .finish_non_exhaustive()
    }
}

/// Whom `coin` elects of validators of these `powers`: each with the chance of its power's part of the whole.
///
/// 256 bits of a hash modulo a total below 2^71: the bias is below 2^-185.
///
/// # Panics
/// If nobody has power, which no checked set or setup allows.
#[must_use]
pub fn elect(powers: impl Iterator<Item = u64> + Clone, coin: &Coin) -> ValidatorIndex {
    let total: u128 = powers.clone().map(u128::from).sum();
    let mut place = sha256(&coin.0).0.into_iter().fold(0_u128, |rest, byte| {
        let next = rest.wrapping_shl(8) | u128::from(byte);
        next.checked_rem(total).expect("a set's power is above zero")
    });
    for (index, power) in (0_u16..).zip(powers) {
        match place.checked_sub(u128::from(power)) {
            None => return ValidatorIndex::new(index),
            Some(rest) => place = rest,
        }
    }
    unreachable!("the place is below the sum of the powers")
}

/// Whether `coin` is that of `message` under the group's `key`: all that a light client needs.
#[must_use]
pub fn verify(key: &CoinKey, message: &[u8], coin: &Coin) -> bool {
    PublicKey::key_validate(&key.0).is_ok_and(|key| verify_by(&key, message, DOMAIN, &coin.0))
}

fn verify_by(key: &PublicKey, message: &[u8], domain: &[u8], point: &[u8; 48]) -> bool {
    Signature::sig_validate(point, true).is_ok_and(|point| is_signed(&point, message, domain, key))
}

/// The pairings. Both points were checked, or are sums of such.
fn is_signed(point: &Signature, message: &[u8], domain: &[u8], key: &PublicKey) -> bool {
    point.verify(false, message, domain, &[], key, false) == BLST_ERROR::BLST_SUCCESS
}

/// Which parts are whose: validator 0's come first.
fn ranges(powers: &[u64]) -> Vec<Range<usize>> {
    let ends = share_counts(powers).into_iter().scan(0_usize, |end, count| {
        let start = *end;
        *end = start.saturating_add(usize::from(count));
        Some(start..*end)
    });
    ends.collect()
}

/// 128 bits that depend on all of `seed`.
fn challenge(seed: &[u8; 32], place: u128) -> u128 {
    let mut bytes = seed.to_vec();
    bytes.extend_from_slice(&place.to_le_bytes());
    let hash = sha256(&bytes);
    u128::from_le_bytes(*hash.0.first_chunk().expect("16 of 32 bytes"))
}

/// The value at zero of the polynomial through `parts`, each with its index: Lagrange's, in the exponent.
///
/// `x_i = index + 1`, and the weight of part i is `Π x_j / (x_j − x_i)` over all others. Points outside their
/// group do no harm: the sum is verified. `None` if one is no point at all.
fn interpolate(parts: &[(usize, &CoinPart)]) -> Option<Coin> {
    let points = parts.iter().map(|(_, part)| Signature::from_bytes(&part.0));
    let points = points.collect::<Result<Vec<_>, _>>().ok()?;
    let places: Vec<Scalar> =
        parts.iter().map(|(index, _)| Scalar::new(widened(*index).saturating_add(1))).collect();
    let all = places.iter().fold(Scalar::new(1), |product, place| product.times(*place));
    let divisor = |place: &Scalar| {
        let others = places.iter().filter(|other| *other != place);
        others.fold(*place, |product, other| product.times(other.minus(*place)))
    };
    let divisors: Vec<Scalar> = places.iter().map(divisor).collect();
    let weights = invert_all(&divisors).into_iter().map(|inverse| all.times(inverse));
    let weights: Vec<u8> = weights.flat_map(Scalar::to_le_bytes).collect();
    Some(Coin(points.mult(&weights, SCALAR_BITS).to_signature().to_bytes()))
}

/// Whether a polynomial of degree below `threshold` has `key` at 0 and `parts` at 1 to W, in the exponent.
///
/// SCRAPE's test: the values of every such polynomial are orthogonal to `g(x) · Π 1/(x − x')`, x' over all other
/// places, for each `g` of degree at most W − threshold. One `g` is tried, with the powers of a challenge as
/// coefficients: others pass by a chance below W·2^-128.
fn on_one_polynomial(
    key: &PublicKey,
    parts: &[PublicKey],
    threshold: usize,
    digest: &Hash,
) -> bool {
    let last = widened(parts.len());
    let challenge = Scalar::new(challenge(&digest.0, 0));
    let factorials: Vec<Scalar> = std::iter::once(Scalar::new(1))
        .chain((1..=last).scan(Scalar::new(1), |product, factor| {
            *product = product.times(Scalar::new(factor));
            Some(*product)
        }))
        .collect();
    let inverses = invert_all(&factorials);
    // Π 1/(x − x') is 1 / (x! (W − x)!), with a minus for every other place.
    let scalars = inverses.iter().zip(inverses.iter().rev()).zip(0_u128..=last);
    let scalars = scalars.flat_map(|((below, above), place)| {
        let step = challenge.times(Scalar::new(place));
        let value = (0..=parts.len().saturating_sub(threshold))
            .fold(Scalar::ZERO, |value, _| value.times(step).plus(Scalar::new(1)));
        let product = below.times(*above).times(value);
        let signed = if place & 1 == 0 { product } else { Scalar::ZERO.minus(product) };
        signed.to_le_bytes()
    });
    let scalars: Vec<u8> = scalars.collect();
    let points: Vec<PublicKey> = std::iter::once(key).chain(parts).copied().collect();
    let sum = points.mult(&scalars, SCALAR_BITS).to_public_key();
    sum.validate() == Err(BLST_ERROR::BLST_PK_IS_INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const SIZE: usize>(text: &str) -> [u8; SIZE] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    #[test]
    fn a_setup_is_of_a_degree_below_the_threshold_and_of_no_other() {
        for (coefficient_count, expected) in [(1, true), (3, true), (4, true), (5, false)] {
            let coefficients: Vec<Scalar> =
                (11..).take(coefficient_count).map(Scalar::new).collect();
            let key = |point| secret_of(&coefficients, point).sk_to_pk();
            let parts: Vec<PublicKey> = (1..=7).map(key).collect();
            let verdict = on_one_polynomial(&key(0), &parts, threshold(1), &Hash([9; 32]));
            assert_eq!(verdict, expected, "{coefficient_count} coefficients");
        }
    }

    /// RFC 9380, appendix J.9.1: what the secret 1 signs is the hash itself.
    #[test]
    fn messages_are_hashed_to_the_curve_as_rfc_9380_says() {
        let domain = b"QUUX-V01-CS02-with-BLS12381G1_XMD:SHA-256_SSWU_RO_";
        let mut one = [0; 32];
        one[31] = 1;
        let one = SecretKey::from_bytes(&one).unwrap();
        let table = [
            (
                "",
                "052926add2207b76ca4fa57a8734416c8dc95e24501772c814278700eed6d1e4e8cf62d9c09db0fac349612b759e79a1",
                "08ba738453bfed09cb546dbb0783dbb3a5f1f566ed67bb6be0e8c67e2e81a4cc68ee29813bb7994998f3eae0c9c6a265",
            ),
            (
                "abc",
                "03567bc5ef9c690c2ab2ecdf6a96ef1c139cc0b2f284dca0a9a7943388a49a3aee664ba5379a7655d3c68900be2f6903",
                "0b9c15f3fe6e5cf4211f346271d7b01c8f3b28be689c8429c85b67af215533311f0b8dfaaa154fa6b88176c229f2885d",
            ),
            (
                "abcdef0123456789",
                "11e0b079dea29a68f0383ee94fed1b940995272407e3bb916bbf268c263ddd57a6a27200a784cbc248e84f357ce82d98",
                "03a87ae2caf14e8ee52e51fa2ed8eefe80f02457004ba4d486d6aa1f517c0889501dc7413753f9599b099ebcbbd2d709",
            ),
        ];
        for (message, x, y) in table {
            let point = one.sign(message.as_bytes(), domain, &[]).serialize();
            assert_eq!(hex::encode(point), format!("{x}{y}"), "{message}");
        }
    }

    /// Coins of a threshold network that runs in public: drand's quicknet (`bls-unchained-g1-rfc9380`), rounds
    /// 1000 and 1001, whose message is the SHA-256 of the round's number. Only the domain is another.
    #[test]
    fn coins_of_a_public_network_verify_under_its_key() {
        let domain = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_";
        let key = bytes::<96>(
            "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d106451\
             0d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a",
        );
        let point = PublicKey::key_validate(&key).unwrap();
        let coins = [
            "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39",
            "b33bf3667cbd5a82de3a24b4e0e9fe5513cc1a0e840368c6e31f5fcfa79bea03f73896b25883abf2853d10337fb8fa41",
        ];
        for (round, coin) in (1_000_u64..).zip(coins) {
            let (coin, message) = (Coin(bytes(coin)), sha256(&round.to_be_bytes()).0);
            assert!(verify_by(&point, &message, domain, &coin.0), "round {round}");
            let later = sha256(&(round + 1).to_be_bytes()).0;
            assert!(!verify_by(&point, &later, domain, &coin.0), "round {round}'s for the next");
            assert!(
                !verify(&CoinKey(key), &message, &coin),
                "another domain's coin is none of ours"
            );
        }
    }
}
