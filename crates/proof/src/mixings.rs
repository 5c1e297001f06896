//! A chain of hashes from something to a transaction that was stamped later (happens-before, lanes.md section 3).
//!
//! ```text
//!  s0 <─ s1 <─ … <─ se <─next─ … <─next─ sm    chunk headers and headers, oldest first
//!                   │                    └ tip of the cut that covers the transaction
//!                   └ holds the transaction, or comes before the chunk that does
//!
//!  chunk <─next─ chunk       the next of its lane         chunk <─covers─ header    the header's cut names it
//!  chunk <─mixed─ chunk      a lane tip in the clock      header <─mixed─ chunk     a header in the clock
//! ```
//! A chunk's hash covers what it mixes and the hash of the chunk before it, a header's hash covers its cut: whoever knows `sm`
//! knows that `s0` was there when `se` was made. Where `se` itself holds the transaction, what it mixes stands before the batch
//! in its clock, and the stretch between them is hashed again.
//!
//! # Invariants
//! * X1 [`Mixings::verify`] rests on hashes alone; nothing in it is a validator's word but the cut's tip.
//! * X2 At most [`STEP_COUNT_MAX`] steps, each in its bounds: so is the work.

use std::fmt;

use quipu_types::{ChunkHeader, Hash, Header, Height, Lane, Mix, Position, Seqno, Tip};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::hexed::Hexed;
use crate::names;
use crate::order::tip_of;

/// Most steps from a thing to the tip of the cut that covers what came after it.
pub const STEP_COUNT_MAX: usize = 256;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[expect(clippy::large_enum_variant, reason = "a way has few steps")]
pub enum Step {
    /// A header.
    Header(Hexed<Header>),
    /// A chunk.
    Chunk(Hexed<ChunkHeader>),
}

impl Step {
    /// Which one it is.
    #[must_use]
    pub const fn point(&self) -> Point {
        match self {
            Self::Header(header) => Point::Header(header.0.height),
            Self::Chunk(chunk) => Point::Chunk(chunk.0.lane, chunk.0.index),
        }
    }
}

/// The name of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// The header of a height.
    Header(Height),
    /// A lane's chunk, by index.
    Chunk(Lane, u64),
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(height) => write!(f, "header {height}"),
            Self::Chunk(lane, index) => write!(f, "chunk {index} of lane {lane}"),
        }
    }
}

/// The steps, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mixings(pub Vec<Step>);

/// Why steps show nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MixingError {
    /// None, or too many.
    #[error("{count} steps, there are 1 to {STEP_COUNT_MAX}")]
    Count {
        /// How many.
        count: usize,
    },
    /// No chunk mixes anything.
    #[error("no chunk mixes what was there before")]
    NotMixed,
    /// A step does not lead to the next.
    #[error("{after} does not follow, mix or cover {before}")]
    NotLinked {
        /// The step.
        before: Point,
        /// The next.
        after: Point,
    },
    /// The last step is not the covering cut's tip.
    #[error("the last step is not the tip that the cut names")]
    OtherTip,
    /// The transaction stands before the chunk that knows of what was before.
    #[error("{chunk} begins after {seqno}")]
    TooLate {
        /// The chunk.
        chunk: Point,
        /// The transaction's.
        seqno: Seqno,
    },
    /// The chunk that holds the transaction stamps its batch before it mixes what was before, or not at all.
    #[error("{chunk} does not stamp its batch after what it mixes")]
    StampedBefore {
        /// The chunk.
        chunk: Point,
    },
    /// The clock between the mixing and the batch is wrong.
    #[error("clock of {chunk}: {reason}")]
    Clock {
        /// The chunk.
        chunk: Point,
        /// What is wrong with it.
        reason: String,
    },
}

impl Mixings {
    /// Checks that the first step was there before the transaction at `position` was stamped. `tip` is the one of its lane in a
    /// committed cut that covers it. Gives the way: the first step, and each that is not just the next chunk of its lane.
    ///
    /// # Errors
    /// Which link does not hold.
    pub fn verify(&self, position: Position, tip: &Tip) -> Result<Vec<Point>, MixingError> {
        let count = self.0.len();
        let (Some(first), Some(Step::Chunk(last))) = (self.0.first(), self.0.last()) else {
            return Err(if count == 0 {
                MixingError::Count { count }
            } else {
                MixingError::OtherTip
            });
        };
        if count > STEP_COUNT_MAX {
            return Err(MixingError::Count { count });
        }
        let last = &last.0;
        if (last.lane, last.index) != (tip.lane, tip.index)
            || last.lane != position.lane
            || names::chunk_hash(last) != tip.chunk_hash
        {
            return Err(MixingError::OtherTip);
        }
        let mut way = vec![first.point()];
        let mut known = None;
        for pair in self.0.windows(2) {
            let [before, after] = pair else { continue };
            let not_linked =
                MixingError::NotLinked { before: before.point(), after: after.point() };
            match (link(before, after).ok_or(not_linked)?, after) {
                (Link::Next, _) => continue,
                (Link::Mixed(entry), Step::Chunk(chunk)) => known = Some((&chunk.0, entry)),
                _ => {}
            }
            way.push(after.point());
        }
        let (chunk, entry) = known.ok_or(MixingError::NotMixed)?;
        check_stamp(chunk, entry, position.seqno)?;
        Ok(way)
    }
}

/// How a step leads to the next.
enum Link {
    /// It is the next chunk of its lane.
    Next,
    /// Its clock mixes it, in this entry.
    Mixed(usize),
    /// Its cut names it, or it is the next header.
    Covered,
}

fn link(before: &Step, after: &Step) -> Option<Link> {
    match (before, after) {
        (Step::Chunk(before), Step::Chunk(after)) => {
            let hash = names::chunk_hash(&before.0);
            if follows(&before.0, &hash, &after.0) {
                return Some(Link::Next);
            }
            let wanted =
                |mix: &Mix| matches!(mix, Mix::LaneTip { hash: mixed, .. } if *mixed == hash);
            entry_of(&after.0, wanted).map(Link::Mixed)
        }
        (Step::Header(before), Step::Chunk(after)) => {
            let hash = names::header_hash(&before.0);
            let wanted =
                |mix: &Mix| matches!(mix, Mix::Header { hash: mixed, .. } if *mixed == hash);
            entry_of(&after.0, wanted).map(Link::Mixed)
        }
        (Step::Chunk(before), Step::Header(after)) => {
            let tip = tip_of(&after.0.cut, before.0.lane)?;
            (tip.chunk_hash == names::chunk_hash(&before.0)).then_some(Link::Covered)
        }
        (Step::Header(before), Step::Header(after)) => {
            (after.0.prev_header == names::header_hash(&before.0)).then_some(Link::Covered)
        }
    }
}

/// Where a chunk's clock mixes what is wanted.
fn entry_of(header: &ChunkHeader, wanted: impl Fn(&Mix) -> bool) -> Option<usize> {
    header.clock.iter().position(|entry| wanted(&entry.mix))
}

/// Whether a chunk is the next of the same lane.
fn follows(before: &ChunkHeader, hash: &Hash, after: &ChunkHeader) -> bool {
    let prev =
        if after.term == before.term { *hash } else { names::term_start(&after.branch, hash) };
    after.lane == before.lane
        && before.index.checked_add(1) == Some(after.index)
        && after.prev == prev
}

/// The transaction comes after entry `mixed` of the chunk: in a later one, or in this one's batch, stamped after it.
fn check_stamp(header: &ChunkHeader, mixed: usize, seqno: Seqno) -> Result<(), MixingError> {
    let chunk = Point::Chunk(header.lane, header.index);
    if seqno < header.first_seqno {
        return Err(MixingError::TooLate { chunk, seqno });
    }
    if seqno > header.last_seqno() {
        return Ok(());
    }
    let stamped_before = MixingError::StampedBefore { chunk };
    let batch = header.clock.iter().position(|entry| entry.mix == Mix::Batch);
    let batch = batch.filter(|batch| *batch > mixed).ok_or_else(|| stamped_before.clone())?;
    let start = header.clock.get(mixed).ok_or_else(|| stamped_before.clone())?.value;
    let between = header.clock.get(mixed.saturating_add(1)..=batch).ok_or(stamped_before)?;
    quipu_clock::verify(start, between, &header.lane_root)
        .map(|_| ())
        .map_err(|error| MixingError::Clock { chunk, reason: error.to_string() })
}
