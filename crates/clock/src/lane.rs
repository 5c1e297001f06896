//! A lane's clock over chunks: any range, from a value that is known, through terms.
//!
//! ```text
//!  seed ── H(branch ‖ seed) ─ chunk 1 ─ chunk 2 ── H(branch' ‖ value after 2) ─ chunk 3 ─ ...
//!   │      first value of term 1           │       first value of term 2
//!   └ begin                                └ resume: a certified chunk's header
//! ```
//! A term goes on from the last value before it, certified or the seed, whatever terms without chunks lay between.
//!
//! Nothing here knows who made a chunk, or what `prev` and `lane_root` should be: that the headers are the lane's is shown by
//! signatures, links and certificates.

use quipu_types::{ChunkHeader, Hash, Lane, Mix, Term};
use thiserror::Error;

use crate::verify::{verify, verify_rest};
use crate::{ClockError, start, tick_count};

/// Where the clock of a lane stands after a chunk, and how far it went since it was made.
///
/// ```
/// use quipu_clock::{LaneClock, seed_value};
/// use quipu_types::{Hash, Lane, Term};
///
/// let clock = LaneClock::begin(Lane::new(0), seed_value("headline of the day"));
/// let first = clock.first_value(Term::new(1), &Hash([7; 32]));
/// assert_eq!(first, quipu_clock::start(&Hash([7; 32]), &clock.value()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneClock {
    lane: Lane,
    /// Of the last chunk; index 0 is "nothing yet", in no term.
    term: Term,
    index: u64,
    value: Hash,
    tick_count: u64,
    mix_count: u64,
}

/// The first chunk of a range that is wrong, and where in it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaneClockError {
    /// Another chunk comes next.
    #[error(
        "chunk {index} of lane {lane} comes next, not {found_index} of {found_lane} in term {found_term}"
    )]
    NotNext {
        /// The lane.
        lane: Lane,
        /// The chunk that comes next.
        index: u64,
        /// Lane of the chunk that came.
        found_lane: Lane,
        /// Index of the chunk that came.
        found_index: u64,
        /// Its term, which may not be before that of the last.
        found_term: Term,
    },
    /// The last entry does not mix the batch, so that the clock does not say when the transactions were there.
    #[error("the clock of chunk {index} does not end with its batch")]
    NoBatch {
        /// The chunk.
        index: u64,
    },
    /// An entry is wrong.
    #[error("chunk {index}: {error}")]
    Entry {
        /// The chunk.
        index: u64,
        /// Which of its entries, and why.
        error: ClockError,
    },
}

impl LaneClock {
    /// Before the first chunk of a lane; `seed` is genesis' [`seed_value`](crate::seed_value).
    #[must_use]
    pub const fn begin(lane: Lane, seed: Hash) -> Self {
        Self { lane, term: Term::new(0), index: 0, value: seed, tick_count: 0, mix_count: 0 }
    }

    /// After `last`, a chunk of the lane that is certified, or trusted for another reason; before the first if there is none.
    /// A chunk without entries, which no validator takes, leaves the seed.
    #[must_use]
    pub fn resume(lane: Lane, seed: Hash, last: Option<&ChunkHeader>) -> Self {
        let begin = Self::begin(lane, seed);
        last.map_or(begin, |header| {
            let value = header.clock.last().map_or(seed, |entry| entry.value);
            Self { term: header.term, index: header.index, value, ..begin }
        })
    }

    /// What it shows.
    #[must_use]
    pub const fn value(&self) -> Hash {
        self.value
    }

    /// Index of the last chunk, 0 before the first.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Ticks of the chunks that it was advanced by.
    #[must_use]
    pub const fn tick_count(&self) -> u64 {
        self.tick_count
    }

    /// Mixings of the chunks that it was advanced by.
    #[must_use]
    pub const fn mix_count(&self) -> u64 {
        self.mix_count
    }

    /// What the next chunk's clock goes on from, if it is of `term`, which began on `branch`. A function of the last chunk and
    /// the term alone: a term in which nothing was certified leaves no trace in it.
    #[must_use]
    pub fn first_value(&self, term: Term, branch: &Hash) -> Hash {
        let goes_on = self.index > 0 && self.term == term;
        if goes_on { self.value } else { start(branch, &self.value) }
    }

    /// Goes on by the next chunk, whole.
    ///
    /// # Errors
    /// What is wrong first; the clock stays where it is.
    pub fn advance(&mut self, header: &ChunkHeader) -> Result<(), LaneClockError> {
        self.check_next(header)?;
        check_batch(header)?;
        let index = header.index;
        let first = self.first_value(header.term, &header.branch);
        verify(first, &header.clock, &header.lane_root)
            .map_err(|error| LaneClockError::Entry { index, error })?;
        self.pass(header);
        Ok(())
    }

    /// As [`advance`](Self::advance), for a chunk that [`check_alone`] took: only the first entry is left to check.
    ///
    /// # Errors
    /// As [`advance`](Self::advance).
    pub fn link(&mut self, header: &ChunkHeader) -> Result<(), LaneClockError> {
        self.check_next(header)?;
        let index = header.index;
        let value = self.first_value(header.term, &header.branch);
        let first = header.clock.get(..1).unwrap_or_default();
        verify(value, first, &header.lane_root)
            .map_err(|error| LaneClockError::Entry { index, error })?;
        self.pass(header);
        Ok(())
    }

    /// Goes on by a chunk that the caller made, or checked: nothing is.
    pub fn pass(&mut self, header: &ChunkHeader) {
        let value = self.first_value(header.term, &header.branch);
        let mixes = header.clock.iter().filter(|entry| entry.mix != Mix::Nothing).count();
        self.value = header.clock.last().map_or(value, |entry| entry.value);
        (self.term, self.index) = (header.term, header.index);
        self.tick_count = self.tick_count.saturating_add(tick_count(&header.clock));
        self.mix_count = self.mix_count.saturating_add(u64::try_from(mixes).unwrap_or(u64::MAX));
    }

    fn check_next(&self, header: &ChunkHeader) -> Result<(), LaneClockError> {
        let ChunkHeader { lane: found_lane, index: found_index, term: found_term, .. } = *header;
        let (lane, index) = (self.lane, self.index.saturating_add(1));
        if (found_lane, found_index) == (lane, index) && found_term >= self.term {
            return Ok(());
        }
        Err(LaneClockError::NotNext { lane, index, found_lane, found_index, found_term })
    }
}

/// Checks all that a chunk says of its clock by itself: each entry states where the next begins, and the last mixes the batch.
/// Where the first begins is known to who has the chunk before ([`LaneClock::link`]).
///
/// # Errors
/// What is wrong first, of the batch and of the entries after the first.
pub fn check_alone(header: &ChunkHeader) -> Result<(), LaneClockError> {
    check_batch(header)?;
    let index = header.index;
    verify_rest(&header.clock, &header.lane_root)
        .map_err(|error| LaneClockError::Entry { index, error })
}

/// Checks a range of chunks, in order, after `from`; where the clock stands then, and how far it went.
///
/// # Errors
/// The first chunk that is wrong, and where in it.
pub fn verify_range<'a>(
    from: LaneClock,
    headers: impl IntoIterator<Item = &'a ChunkHeader>,
) -> Result<LaneClock, LaneClockError> {
    let mut clock = from;
    headers.into_iter().try_for_each(|header| clock.advance(header))?;
    Ok(clock)
}

fn check_batch(header: &ChunkHeader) -> Result<(), LaneClockError> {
    let has_batch = header.clock.last().is_some_and(|entry| entry.mix == Mix::Batch);
    if has_batch { Ok(()) } else { Err(LaneClockError::NoBatch { index: header.index }) }
}
