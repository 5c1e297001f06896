//! A body in stripes: any `least` of `count` give it back, and each proves itself.
//!
//! Reed-Solomon over GF(2^16), systematic, from `reed-solomon-simd`: this module is the only place that knows it.
//!
//! ```text
//!  body, zeros up to least equal parts of even size
//!    │ part 0 │ part 1 │ … │ part least-1 │ redundancy … │        count parts
//!  stripe i = size of the body u32 · part i                       one for each validator but the sequencer
//!  root     = RFC 9162 root, SHA-256, leaf i = stripe i           signed in the chunk's header
//! ```
//! # Invariants
//! * T1 `count` and `least` follow from the validators' stake and the sequencer alone. Of any quorum at least `least` are
//!   not the sequencer: when a quorum is honest and each of it passes its own stripe on, everyone gets the body.
//! * T2 A stripe that [`check`]s is the one of its place under the root, and has the size that its body's size gives.
//! * T3 [`restore`] gives *a* body: stripes under a root that its signer made up give another one from other stripes. Who
//!   restores compares the body's digest.
//! * T4 The same body and code give the same stripes, on every processor and in every version: a test freezes them.
//! # Limits
//! Bodies of 1 byte to [`CHUNK_BODY_SIZE_MAX`]. Fewer than two honest others: no stripes, the body goes whole.

use quipu_crypto::hash::{leaf_hash, leaf_hashes};
use quipu_crypto::merkle::{self, MemoryNodes};
use quipu_types::chunk::CHUNK_BODY_SIZE_MAX;
use quipu_types::{Hash, ValidatorIndex, ValidatorSet};
use thiserror::Error;

/// Bytes of a stripe that say how large the body is.
pub const PREFIX_SIZE: usize = 4;
/// Most bytes of a stripe: half of the largest body.
pub const STRIPE_SIZE_MAX: usize = PREFIX_SIZE + CHUNK_BODY_SIZE_MAX / 2;
/// Most siblings of a stripe's path: validators are fewer than `2^16`.
pub const PATH_COUNT_MAX: usize = 16;

const _: () = assert!(CHUNK_BODY_SIZE_MAX.is_multiple_of(4), "half of it is an even part");

/// Into how many stripes bodies of a sequencer go, and how many of them are enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    sequencer: ValidatorIndex,
    count: u16,
    least: u16,
}

/// One stripe, and the way from it to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stripe {
    /// Its place, from 0.
    pub index: u16,
    /// The body's size and the part.
    pub bytes: Vec<u8>,
    /// Siblings, lowest first.
    pub path: Vec<Hash>,
}

/// Why a stripe does not prove itself, or stripes give nothing.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum StripeError {
    /// There is no such place.
    #[error("there are {count} stripes, and none {index}")]
    Index {
        /// What was given.
        index: u16,
        /// How many there are.
        count: u16,
    },
    /// It has not the size that the body's size gives.
    #[error("a stripe of {size} bytes is of no body, or of one of another size")]
    Size {
        /// Its size.
        size: usize,
    },
    /// Its path does not lead to the root.
    #[error("the path does not lead to the root")]
    Path,
    /// Stripes of one root that name different sizes of the body: who signed the root is to blame.
    #[error("the stripes name different sizes")]
    Sizes,
    /// Too few for a body.
    #[error("{count} stripes are too few, {least} are enough")]
    Few {
        /// What was given.
        count: usize,
        /// What is enough.
        least: u16,
    },
}

impl Code {
    /// The code of a sequencer's bodies. None when fewer than two of the others are sure to be honest.
    #[must_use]
    pub fn of(set: &ValidatorSet, sequencer: ValidatorIndex) -> Option<Self> {
        set.get(sequencer)?;
        let own = usize::from(sequencer.get());
        let all = set.powers().into_iter().enumerate();
        let mut others: Vec<u64> =
            all.filter(|(at, _)| *at != own).map(|(_, power)| power).collect();
        others.sort_unstable();
        let total = set.power_total();
        let mut power = 0_u128;
        // The most validators whose power together is below a third: those may be silent.
        let silent = others.iter().take_while(|own| {
            power = power.saturating_add(u128::from(**own));
            power.saturating_mul(3) < total
        });
        let least = others.len().saturating_sub(silent.count());
        let (count, least) = (u16::try_from(others.len()).ok()?, u16::try_from(least).ok()?);
        (least >= 2).then_some(Self { sequencer, count, least })
    }

    /// Whose bodies they are.
    #[must_use]
    pub const fn sequencer(&self) -> ValidatorIndex {
        self.sequencer
    }

    /// How many stripes there are.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// How many are enough.
    #[must_use]
    pub const fn least(&self) -> u16 {
        self.least
    }

    /// The stripe of a validator; none for the sequencer.
    #[must_use]
    pub fn index_of(&self, validator: ValidatorIndex) -> Option<u16> {
        let (own, sequencer) = (validator.get(), self.sequencer.get());
        let index = if own < sequencer { own } else { own.checked_sub(1)? };
        (own != sequencer && index < self.count).then_some(index)
    }

    /// Whose stripe it is.
    #[must_use]
    pub const fn owner(&self, index: u16) -> ValidatorIndex {
        let is_below = index < self.sequencer.get();
        ValidatorIndex::new(if is_below { index } else { index.saturating_add(1) })
    }

    /// Bytes of each part of a body.
    fn part_size(&self, body_size: usize) -> usize {
        body_size.div_ceil(usize::from(self.least)).next_multiple_of(2)
    }

    /// Parts that are not the body's own bytes.
    fn spare(&self) -> usize {
        usize::from(self.count.saturating_sub(self.least))
    }
}

/// Lets tables be made that all later calls share: some ten milliseconds, better spent before a ledger runs.
pub fn prepare() {
    let parts = [[0_u8; 2]; 2];
    reed_solomon_simd::encode(2, 1, parts).expect("two parts of two bytes are a body");
}

/// The stripes of a body, and their root.
///
/// # Panics
/// If the body is empty or above [`CHUNK_BODY_SIZE_MAX`]: whoever cuts chunks bounds them.
#[must_use]
pub fn encode(code: &Code, body: &[u8]) -> (Hash, Vec<Stripe>) {
    assert!(!body.is_empty(), "an empty body has no stripes");
    assert!(body.len() <= CHUNK_BODY_SIZE_MAX, "a body is bounded");
    let size = u32::try_from(body.len()).expect("it was bounded above").to_le_bytes();
    let part_size = code.part_size(body.len());
    let mut stripes: Vec<Vec<u8>> = Vec::with_capacity(usize::from(code.count));
    for index in 0..usize::from(code.least) {
        let part = body.chunks(part_size).nth(index).unwrap_or_default();
        let mut stripe = Vec::with_capacity(PREFIX_SIZE.saturating_add(part_size));
        stripe.extend_from_slice(&size);
        stripe.extend_from_slice(part);
        stripe.resize(PREFIX_SIZE.saturating_add(part_size), 0);
        stripes.push(stripe);
    }
    for part in redundancy(code, &stripes) {
        stripes.push([&size[..], &part].concat());
    }
    let leaves = leaf_hashes(&stripes.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let nodes = MemoryNodes::from_leaves(&leaves);
    let stripes = (0_u16..).zip(stripes).map(|(index, bytes)| {
        let path = merkle::inclusion_path(&nodes, u64::from(index), u64::from(code.count));
        Stripe { index, bytes, path: path.unwrap_or_else(|never| match never {}) }
    });
    (merkle::root(&leaves), stripes.collect())
}

fn redundancy(code: &Code, stripes: &[Vec<u8>]) -> Vec<Vec<u8>> {
    if code.spare() == 0 {
        return Vec::new();
    }
    let parts = stripes.iter().map(|stripe| stripe.get(PREFIX_SIZE..).unwrap_or_default());
    reed_solomon_simd::encode(usize::from(code.least), code.spare(), parts)
        .expect("parts are as many as the code says, and of one even size")
}

/// Whether a stripe is the one of its place under `root` (T2).
///
/// # Errors
/// What is wrong with it.
pub fn check(code: &Code, root: &Hash, stripe: &Stripe) -> Result<(), StripeError> {
    check_shape(code, stripe)?;
    let (index, count) = (u64::from(stripe.index), u64::from(code.count));
    let leaf = leaf_hash(&stripe.bytes);
    merkle::verify_inclusion(&leaf, index, count, &stripe.path, root).map_err(|_| StripeError::Path)
}

/// The part of [`check`] that bounds what comes after it: index and size.
///
/// # Errors
/// What is wrong with it.
pub fn check_shape(code: &Code, stripe: &Stripe) -> Result<(), StripeError> {
    let Stripe { index, bytes, .. } = stripe;
    if *index >= code.count {
        return Err(StripeError::Index { index: *index, count: code.count });
    }
    let size = bytes.len();
    let body = body_size(bytes).filter(|body| (1..=CHUNK_BODY_SIZE_MAX).contains(body));
    let wanted = body.map(|body| PREFIX_SIZE.saturating_add(code.part_size(body)));
    if wanted == Some(size) { Ok(()) } else { Err(StripeError::Size { size }) }
}

fn body_size(bytes: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*bytes.first_chunk::<PREFIX_SIZE>()?)).ok()
}

/// The body that stripes give, each of another place and [`check`]ed (T3).
///
/// # Errors
/// If they are too few, or of bodies of different sizes.
pub fn restore<'a>(
    code: &Code,
    stripes: impl IntoIterator<Item = (u16, &'a [u8])>,
) -> Result<Vec<u8>, StripeError> {
    let least = usize::from(code.least);
    let mut all: Vec<(u16, &[u8])> = stripes.into_iter().collect();
    all.sort_unstable_by_key(|(index, _)| *index);
    all.dedup_by_key(|(index, _)| *index);
    all.truncate(least);
    let few = StripeError::Few { count: all.len(), least: code.least };
    let size = all.first().and_then(|(_, bytes)| body_size(bytes)).ok_or(few)?;
    if all.iter().any(|(_, bytes)| body_size(bytes) != Some(size)) {
        return Err(StripeError::Sizes);
    }
    let parts = all
        .iter()
        .map(|(index, bytes)| (usize::from(*index), bytes.get(PREFIX_SIZE..).unwrap_or_default()));
    let (own, spare): (Vec<_>, Vec<_>) = parts.partition(|(index, _)| *index < least);
    if own.len().saturating_add(spare.len()) < least {
        return Err(few);
    }
    let spare = spare.into_iter().map(|(index, part)| (index.saturating_sub(least), part));
    let missing = match code.spare() {
        0 => std::collections::BTreeMap::new(),
        count => {
            reed_solomon_simd::decode(least, count, own.iter().copied(), spare).map_err(|_| few)?
        }
    };
    let mut body = Vec::with_capacity(size.saturating_add(least));
    for index in 0..least {
        let held = own.iter().find(|(at, _)| *at == index).map(|(_, part)| *part);
        let part = held.or_else(|| missing.get(&index).map(Vec::as_slice)).ok_or(few)?;
        body.extend_from_slice(part);
    }
    body.truncate(size);
    Ok(body)
}

#[cfg(test)]
mod tests;
