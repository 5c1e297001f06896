//! The chain in stretches, whoever published it: checked one after another, many at once, or in parts on several cores.
//!
//! ```text
//!  start ─ count ticks ─┬─ H(h ‖ mixed), or nothing ─┬─ count ticks ─ ...
//!                                                    └ value            one Stretch each
//! ```
//! This is the one core of every check: a chunk's entries ([`verify`](crate::verify)) and an audit's samples
//! ([`audit`](crate::audit)) are mapped onto stretches, and keep their rules of shape to themselves. A stretch has none: it may
//! do nothing, and as many ticks as its publisher counts. Who takes stretches from others bounds the ticks first.

use quipu_accel::Accel;
use quipu_types::Hash;
use thiserror::Error;

use crate::Chain;

/// `count` ticks, then perhaps a mixing, then the value that results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Ticks before the mixing.
    pub count: u64,
    /// The digest that is mixed in, or nothing.
    pub mixed: Option<Hash>,
    /// The value after the mixing.
    pub value: Hash,
}

/// A stretch states a value that its ticks and its mixing do not give.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("stretch {index} states a wrong value")]
pub struct WrongStretch {
    /// The first wrong one, 0-based.
    pub index: usize,
}

/// Checks `stretches` from `start` on, on this machine's best backend; gives the last value.
///
/// # Errors
/// The first stretch that is wrong.
pub fn verify(start: Hash, stretches: &[Stretch]) -> Result<Hash, WrongStretch> {
    match stretches {
        [] | [_] => verify_serial(start, stretches),
        _ => verify_wide(quipu_accel::default(), start, stretches),
    }
}

/// As [`verify`], one stretch after another: the twin of the other ways.
///
/// # Errors
/// As [`verify`].
pub fn verify_serial(start: Hash, stretches: &[Stretch]) -> Result<Hash, WrongStretch> {
    let mut chain = Chain::new(start);
    for (index, stretch) in stretches.iter().enumerate() {
        chain.tick(stretch.count);
        if let Some(digest) = &stretch.mixed {
            chain.mix(digest);
        }
        if chain.value() != stretch.value {
            return Err(WrongStretch { index });
        }
    }
    Ok(chain.value())
}

/// As [`verify`], with all stretches side by side on `accel`: each states its value, so each is checked from the value that the
/// one before states.
///
/// # Errors
/// As [`verify`].
pub fn verify_wide(
    accel: &dyn Accel,
    start: Hash,
    stretches: &[Stretch],
) -> Result<Hash, WrongStretch> {
    Part { first: 0, start, stretches }.verify(accel)?;
    Ok(end(start, stretches))
}

/// As [`verify`], with the parts of [`split`] given to `run`, which checks each on a core of its own
/// (or not) and gives the verdicts in the order of the parts.
///
/// # Errors
/// As [`verify`].
///
/// # Panics
/// When `run` does not give one verdict a part.
pub fn verify_parallel(
    start: Hash,
    stretches: &[Stretch],
    part_count: usize,
    run: impl FnOnce(&[Part<'_>]) -> Vec<Result<(), WrongStretch>>,
) -> Result<Hash, WrongStretch> {
    let parts = split(start, stretches, part_count);
    let verdicts = run(&parts);
    assert_eq!(verdicts.len(), parts.len(), "one verdict a part");
    verdicts.into_iter().collect::<Result<(), _>>()?;
    Ok(end(start, stretches))
}

/// A run of stretches that is checked for itself.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    first: usize,
    start: Hash,
    stretches: &'a [Stretch],
}

impl Part<'_> {
    /// Checks the part; errors name stretches by their index in the whole.
    ///
    /// # Errors
    /// The first stretch of the part that is wrong.
    pub fn verify(&self, accel: &dyn Accel) -> Result<(), WrongStretch> {
        let mut start = self.start;
        let works = self
            .stretches
            .iter()
            .map(|stretch| (std::mem::replace(&mut start, stretch.value), stretch));
        match first_wrong(accel, works) {
            Some(index) => Err(WrongStretch { index: self.first.saturating_add(index) }),
            None => Ok(()),
        }
    }
}

/// Cuts `stretches` into at most `part_count` parts of about equally many ticks, in order, for as many
/// cores. Together they say what [`verify`] says: the error of the first part that has one.
#[must_use]
pub fn split(start: Hash, stretches: &[Stretch], part_count: usize) -> Vec<Part<'_>> {
    // A mixing costs about as much as a tick, and a part has a stretch at least.
    let work = |stretch: &Stretch| stretch.count.saturating_add(1);
    let total = stretches.iter().map(work).fold(0, u64::saturating_add);
    let parts = u64::try_from(part_count.max(1)).unwrap_or(u64::MAX);
    let target = total.div_ceil(parts).max(1);
    let mut out = Vec::new();
    let (mut rest, mut first, mut start) = (stretches, 0_usize, start);
    while !rest.is_empty() {
        let mut sum = 0_u64;
        let size = rest
            .iter()
            .take_while(|stretch| {
                let fits = sum < target;
                sum = sum.saturating_add(work(stretch));
                fits
            })
            .count();
        let (part, after) = rest.split_at_checked(size).unwrap_or((rest, &[]));
        out.push(Part { first, start, stretches: part });
        start = end(start, part);
        first = first.saturating_add(part.len());
        rest = after;
    }
    out
}

/// The value that the last of `stretches` states.
fn end(start: Hash, stretches: &[Stretch]) -> Hash {
    stretches.last().map_or(start, |stretch| stretch.value)
}

/// Hashes stretches side by side, each from its own start; the place of the first that does not give its value.
pub(crate) fn first_wrong<'a>(
    accel: &dyn Accel,
    works: impl Iterator<Item = (Hash, &'a Stretch)>,
) -> Option<usize> {
    let mut works: Vec<_> = works.enumerate().collect();
    // Shortest first: every chain from a place on has at least that stretch's ticks still to do.
    works.sort_by_key(|(_, (_, stretch))| stretch.count);
    let mut values: Vec<_> = works.iter().map(|(_, (start, _))| start.0).collect();
    let mut done = 0_u64;
    for (place, (_, (_, stretch))) in works.iter().enumerate() {
        let step = stretch.count.saturating_sub(done);
        if let Some(open) = values.get_mut(place..)
            && step > 0
        {
            accel.sha256_chains(open, step);
        }
        done = stretch.count;
    }
    let wrong = works.iter().zip(values).filter(|((_, (_, stretch)), value)| {
        let mut chain = Chain::new(Hash(*value));
        if let Some(digest) = &stretch.mixed {
            chain.mix(digest);
        }
        chain.value() != stretch.value
    });
    wrong.map(|((index, _), _)| *index).min()
}
