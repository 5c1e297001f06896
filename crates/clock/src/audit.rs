//! Checks a sample of a clock's range against one root: a client's work is that of the sample, whatever the range's length.
//!
//! ```text
//!                     root, size, start, end          first: the prover says which range it is audited for
//!                   /      \
//!             ...             ...                     then: the client draws a nonce of its own;
//!          /       \       /       \                  root and nonce draw the leaves, with replacement
//!       leaf 0   leaf 1  leaf 2   leaf 3
//!       start ─┬─ value ┬─ value ┬─ value ┬─ end      drawn leaf 2: shown with its path, and leaf 1 with its own;
//!              └────────┴────────┴────────┘           its start is leaf 1's value, its value is hashed again
//!
//!  leaf = start 32 · count u64 · mixed (option of 32) · value 32     RFC 9162, as all trees here
//!  draw = SHA-256("quipu/1 clock audit" ‖ root ‖ size u64 ‖ start ‖ end ‖ nonce ‖ number u64), its first 16 bytes mod size
//! ```
//! # What is proven
//! A leaf is *false* when it does not start at the value before it, or its ticks and its mixing do not give its value, or it is
//! no clock entry (it does nothing, or has more than `TICKS_PER_ENTRY_MAX` ticks). When a share ε of the leaves is false, `s`
//! draws find one with probability 1 − (1 − ε)^s, as long as the root was fixed before the nonce was known:
//!
//! | ε      | s     | found with | hashes of the client, at most |
//! |-------:|------:|-----------:|------------------------------:|
//! | 10 %   |    30 |     95.8 % |                       245,760 |
//! | 1 %    |   300 |     95.1 % |                     2,457,600 |
//! | 1 %    |   459 |     99.0 % |                     3,760,128 |
//! | 0.1 %  | 3,000 |     95.0 % |                    24,576,000 |
//!
//! # What is not proven
//! * That the clock was made in one piece. One false leaf lets two pieces be made at the same time, and of a million leaves a
//!   sample of 300 misses one with 99.97 %. Only the whole check ([`verify_range`](crate::verify_range)) excludes it.
//! * That the work was done as often as it is counted. A piece that was made once can stand in the tree many times, each seam
//!   one false leaf: of n leaves of which f are false, no more than the longest run without a seam, which may be as short as
//!   (n − f) ÷ (f + 1) leaves, need have been made. What ends it is what a client knows to be mixed in at its place, such as headers.
//! * Elapsed time, therefore. A sample says that a prover did not make values up, beyond the share ε.
//! * A share of ticks: leaves may be short. How many ticks the leaves have that were not drawn, nobody checked.
//! * What the mixed digests stand for.
//!
//! # Invariants
//! * U1 A true range passes with every nonce and every number of draws.
//! * U2 An answer is taken only for the range, nonce and number of draws that it was made for: it shows the drawn leaves, in the
//!   order in which they were drawn. An error names the leaf.
//!
//! # Limits
//! [`SAMPLE_COUNT_MAX`] draws. One term: the value between two terms is no stretch of the chain. Draws differ from even ones by
//! less than size ÷ 2^128.

use quipu_accel::Accel;
use quipu_crypto::hash::{leaf_hash, leaf_hashes, sha256_concat};
use quipu_crypto::merkle::{self, MemoryNodes, MerkleError};
use quipu_types::chunk::TICKS_PER_ENTRY_MAX;
use quipu_types::{Encode, Hash};
use thiserror::Error;

use crate::stretch::{Stretch, first_wrong};

/// Most draws of an audit.
pub const SAMPLE_COUNT_MAX: usize = 4_096;

/// A leaf: a stretch, and where it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The value before.
    pub start: Hash,
    /// What leads from there to the value after.
    pub stretch: Stretch,
}

/// The checkpoints of stretches that begin at `start`.
#[must_use]
pub fn checkpoints(start: Hash, stretches: &[Stretch]) -> Vec<Checkpoint> {
    let mut value = start;
    let of = |stretch: &Stretch| Checkpoint {
        start: std::mem::replace(&mut value, stretch.value),
        stretch: *stretch,
    };
    stretches.iter().map(of).collect()
}

impl Encode for Checkpoint {
    fn encode(&self, out: &mut Vec<u8>) {
        let Stretch { count, mixed, value } = self.stretch;
        self.start.encode(out);
        out.extend_from_slice(&count.to_le_bytes());
        quipu_types::codec::put_option(out, mixed.as_ref());
        value.encode(out);
    }
}

/// What a prover says before it knows the nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Root over the checkpoints.
    pub root: Hash,
    /// How many there are.
    pub size: u64,
    /// Where the first starts: what the client knows the range to begin with.
    pub start: Hash,
    /// What the last gives: what the client knows the range to end with.
    pub end: Hash,
}

/// A client's question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    range: Range,
    nonce: Hash,
    sample_count: usize,
}

/// A leaf with its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Which, 0-based.
    pub index: u64,
    /// The leaf.
    pub checkpoint: Checkpoint,
    /// Its siblings up to the root, lowest first.
    pub path: Vec<Hash>,
}

/// A drawn leaf and the one before it; the first has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The drawn leaf.
    pub leaf: Shown,
    /// Its neighbour.
    pub before: Option<Shown>,
}

/// A prover's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The first leaf, which shows the range's start.
    pub first: Shown,
    /// The last leaf, which shows the range's end.
    pub last: Shown,
    /// One a draw, in the order of the draws.
    pub samples: Vec<Sample>,
}

/// Why an audit fails.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditError {
    /// A range without leaves, or of more than a tree has.
    #[error("no range has {size} checkpoints")]
    Size {
        /// Its leaves.
        size: u64,
    },
    /// More draws than an audit may have.
    #[error("{count} draws, the most is {SAMPLE_COUNT_MAX}")]
    TooManySamples {
        /// How many there are.
        count: usize,
    },
    /// An answer to another question.
    #[error("{found} samples for {wanted} draws")]
    SampleCount {
        /// Of the answer.
        found: usize,
        /// Of the question.
        wanted: usize,
    },
    /// Another leaf than the one that must be shown, or none.
    #[error("leaf {wanted} is not shown where it should be")]
    OtherLeaf {
        /// The leaf to be shown.
        wanted: u64,
    },
    /// A leaf that the root does not cover.
    #[error("leaf {index} is not in the tree: {error}")]
    NotInTree {
        /// Which.
        index: u64,
        /// Why.
        error: MerkleError,
    },
    /// A leaf that does not start at the value before it: the range's start for the first.
    #[error("leaf {index} does not start at the value before it")]
    Unlinked {
        /// Which.
        index: u64,
    },
    /// The last leaf does not give the range's end.
    #[error("leaf {index} is the last and does not give the range's end")]
    OtherEnd {
        /// Which.
        index: u64,
    },
    /// A leaf that is no clock entry.
    #[error("leaf {index} has {count} ticks, and does nothing or too much")]
    Shape {
        /// Which.
        index: u64,
        /// Its ticks.
        count: u64,
    },
    /// Ticks and mixing do not give the value.
    #[error("leaf {index} states a wrong value")]
    WrongValue {
        /// Which.
        index: u64,
    },
}

/// A prover's checkpoints and their tree.
#[derive(Clone, Debug)]
pub struct CheckpointTree {
    checkpoints: Vec<Checkpoint>,
    nodes: MemoryNodes,
    range: Range,
}

impl CheckpointTree {
    /// The tree over `checkpoints`, which are not checked; none without any.
    #[must_use]
    pub fn new(checkpoints: Vec<Checkpoint>) -> Option<Self> {
        let (start, end) = (checkpoints.first()?.start, checkpoints.last()?.stretch.value);
        let leaves: Vec<_> = checkpoints.iter().map(Checkpoint::to_bytes).collect();
        let leaves = leaf_hashes(&leaves.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let size = u64::try_from(leaves.len()).ok()?;
        let range = Range { root: merkle::root(&leaves), size, start, end };
        Some(Self { checkpoints, nodes: MemoryNodes::from_leaves(&leaves), range })
    }

    /// What to say before a nonce is known.
    #[must_use]
    pub const fn range(&self) -> Range {
        self.range
    }

    /// Answers a client that was told [`range`](Self::range); none to a question about another.
    #[must_use]
    pub fn answer(&self, audit: &Audit) -> Option<Answer> {
        if audit.range != self.range {
            return None;
        }
        let sample = |index: u64| {
            let before = match index.checked_sub(1) {
                None => None,
                Some(before) => Some(self.show(before)?),
            };
            Some(Sample { leaf: self.show(index)?, before })
        };
        Some(Answer {
            first: self.show(0)?,
            last: self.show(self.range.size.checked_sub(1)?)?,
            samples: audit.draws().map(sample).collect::<Option<_>>()?,
        })
    }

    fn show(&self, index: u64) -> Option<Shown> {
        let checkpoint = *self.checkpoints.get(usize::try_from(index).ok()?)?;
        let path = match merkle::inclusion_path(&self.nodes, index, self.range.size) {
            Ok(path) => path,
            Err(never) => match never {},
        };
        Some(Shown { index, checkpoint, path })
    }
}

impl Audit {
    /// A question about `range`, which the client knows to begin and end as it says. `nonce` is the client's own, drawn after the
    /// range was said.
    ///
    /// # Errors
    /// When there is nothing to draw from, or more is drawn than may be.
    pub fn new(range: Range, nonce: Hash, sample_count: usize) -> Result<Self, AuditError> {
        if range.size == 0 || range.size > merkle::SIZE_MAX {
            return Err(AuditError::Size { size: range.size });
        }
        if sample_count > SAMPLE_COUNT_MAX {
            return Err(AuditError::TooManySamples { count: sample_count });
        }
        Ok(Self { range, nonce, sample_count })
    }

    /// The leaves that are drawn, in order.
    pub fn draws(&self) -> impl Iterator<Item = u64> {
        let Self { range: Range { root, size, start, end }, nonce, sample_count } = *self;
        (0_u64..).take(sample_count).map(move |number| {
            let hash = sha256_concat(&[
                b"quipu/1 clock audit",
                root.bytes(),
                &size.to_le_bytes(),
                start.bytes(),
                end.bytes(),
                nonce.bytes(),
                &number.to_le_bytes(),
            ]);
            let (low, _) = hash.0.split_first_chunk().expect("a hash has more than 16 bytes");
            let index = u128::from_le_bytes(*low).checked_rem(u128::from(size));
            u64::try_from(index.unwrap_or(0)).expect("less than a size of 64 bits")
        })
    }

    /// Judges an answer, with all samples hashed side by side on `accel`.
    ///
    /// # Errors
    /// What is wrong first, links before values; it names the leaf.
    pub fn verify(&self, accel: &dyn Accel, answer: &Answer) -> Result<(), AuditError> {
        let Range { size, start, end, .. } = self.range;
        let (found, wanted) = (answer.samples.len(), self.sample_count);
        if found != wanted {
            return Err(AuditError::SampleCount { found, wanted });
        }
        self.check_shown(&answer.first, 0)?;
        if answer.first.checkpoint.start != start {
            return Err(AuditError::Unlinked { index: 0 });
        }
        let last = size.saturating_sub(1);
        self.check_shown(&answer.last, last)?;
        if answer.last.checkpoint.stretch.value != end {
            return Err(AuditError::OtherEnd { index: last });
        }
        for (sample, index) in answer.samples.iter().zip(self.draws()) {
            self.check_sample(sample, index)?;
        }
        let leaves = answer.samples.iter().map(|sample| &sample.leaf.checkpoint);
        let wrong = first_wrong(accel, leaves.map(|leaf| (leaf.start, &leaf.stretch)));
        match wrong.and_then(|place| answer.samples.get(place)) {
            Some(Sample { leaf: Shown { index, .. }, .. }) => {
                Err(AuditError::WrongValue { index: *index })
            }
            None => Ok(()),
        }
    }

    /// All of a sample but its value.
    fn check_sample(&self, sample: &Sample, index: u64) -> Result<(), AuditError> {
        self.check_shown(&sample.leaf, index)?;
        let before = match (index.checked_sub(1), &sample.before) {
            (None, None) => self.range.start,
            (Some(wanted), Some(before)) => {
                self.check_shown(before, wanted)?;
                before.checkpoint.stretch.value
            }
            (wanted, _) => return Err(AuditError::OtherLeaf { wanted: wanted.unwrap_or(index) }),
        };
        let Checkpoint { start, stretch: Stretch { count, mixed, .. } } = sample.leaf.checkpoint;
        if start != before {
            return Err(AuditError::Unlinked { index });
        }
        let is_idle = count == 0 && mixed.is_none();
        if is_idle || count > TICKS_PER_ENTRY_MAX {
            return Err(AuditError::Shape { index, count });
        }
        Ok(())
    }

    fn check_shown(&self, shown: &Shown, wanted: u64) -> Result<(), AuditError> {
        let Range { root, size, .. } = self.range;
        if shown.index != wanted {
            return Err(AuditError::OtherLeaf { wanted });
        }
        let leaf = leaf_hash(&shown.checkpoint.to_bytes());
        merkle::verify_inclusion(&leaf, wanted, size, &shown.path, &root)
            .map_err(|error| AuditError::NotInTree { index: wanted, error })
    }
}
