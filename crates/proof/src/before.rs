//! That one transaction was there before another was: two bundles and the chain of hashes between them, offline.
//!
//! ```text
//!  first ─path─> lane root ∈ ┬ anchor's header    <─named─ what the client of the second signed        anchor
//!                            ├ a header or chunk  <─mixed─ steps (`Mixings`) … ─> tip of the second's cut  mixed
//!                            └ (one lane: the seqnos say it)                                           lane
//! ```
//! # Invariants
//! * Y1 Both bundles verify, against the same pinned genesis and the same hand-overs: what the first brings is there for the second.
//! * Y2 A proof has one form, as a bundle has.
//! * Y3 The link is a chain of hashes: nobody, not all validators together, can make one for a second transaction that was
//!   stamped (by `anchor`: signed) before the first was known to anybody.
//! * Y4 No proof says that two transactions are concurrent: that is what is left when neither order has one.

use std::fmt;

use quipu_crypto::merkle::{MerkleError, verify_inclusion};
use quipu_types::{Code, Genesis, Height, Lane, Tip, code};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bundle::{BUNDLE_SIZE_MAX, Bundle, LanePart, PATH_SIZE_MAX};
use crate::mixings::{MixingError, Mixings, Point, Step};
use crate::names;
use crate::order::{tip_after, tip_of};
use crate::pinned::Pinned;
use crate::text;
use crate::verify::{ProofError, Verified};

/// The format of [`BeforeProof`].
pub const BEFORE_VERSION: u64 = 1;

/// Everything that proves that `first` was before `second`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeforeProof {
    /// [`BEFORE_VERSION`].
    pub version: u64,
    /// The earlier transaction.
    pub first: Bundle,
    /// The later one.
    pub second: Bundle,
    /// What leads from the one to the other.
    pub link: Link,
}

/// What leads from the first transaction to the second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case", deny_unknown_fields)]
pub enum Link {
    /// They stand in one lane.
    Lane {},
    /// The header that the second's anchor names covers the first.
    Anchor {
        /// From the first to the lane's root in that header.
        path: LanePart,
    },
    /// A header or chunk that covers the first was mixed before the second was stamped.
    Mixed {
        /// From the first to its lane's root in the first step.
        path: LanePart,
        /// From what covers the first to the tip of the second's cut.
        steps: Mixings,
    },
}

/// Why a proof of order is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BeforeError {
    /// More text than such a proof can have.
    #[error("proof of order has {size} bytes, the most is {BUNDLE_SIZE_MAX}")]
    TooLong {
        /// Its size.
        size: usize,
    },
    /// Not the JSON of such a proof.
    #[error("not a proof of order: {reason}")]
    Json {
        /// The parser's words.
        reason: String,
    },
    /// Another format.
    #[error("proof of order has format version {version}, this is {BEFORE_VERSION}")]
    Version {
        /// Its version.
        version: u64,
    },
    /// Read and written again, it is another text.
    #[error("proof of order is not in its only form")]
    NotCanonical,
    /// The genesis at hand is itself wrong: no proof can be checked against it.
    #[error("the pinned genesis breaks a rule")]
    BadGenesis,
    /// One of the two transactions is not proven.
    #[error("the {which} transaction: {error}")]
    Bundle {
        /// Which.
        which: &'static str,
        /// Why.
        error: ProofError,
    },
    /// By the lane, but the lanes differ or the seqnos do not ascend.
    #[error("the first transaction does not stand before the second in one lane")]
    NotInLane,
    /// By the anchor, but the second's anchor is not part of its bundle.
    #[error("the second transaction's bundle has no anchor's header")]
    NoAnchor,
    /// What is said to hold the first transaction does not reach it.
    #[error("what is said to cover the first transaction ends at {last}")]
    NotCovered {
        /// Its lane's last seqno there.
        last: u64,
    },
    /// The path does not lead from the first to what covers it.
    #[error("path of the first transaction: {error}")]
    Path {
        /// Why.
        error: MerkleError,
    },
    /// The path is of another leaf, of another tree, or longer than any.
    #[error("path of the first transaction is of another leaf or tree")]
    OtherLeaf,
    /// The chunks between them show nothing.
    #[error("between the two: {error}")]
    Mixing {
        /// Why.
        #[from]
        error: MixingError,
    },
}

impl BeforeError {
    /// The stable code: the text is no proof of order, or it is one and false.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::TooLong { .. }
            | Self::Json { .. }
            | Self::Version { .. }
            | Self::NotCanonical => code::PROOF_MALFORMED,
            Self::BadGenesis => code::GENESIS,
            Self::Bundle { error, .. } => error.code(),
            _ => code::PROOF_FALSE,
        }
    }
}

/// What shows the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// The seqnos of one lane.
    Lane(Lane),
    /// The header of this height, which the second's client had seen.
    Anchor(Height),
    /// What covers the first, and what came to know of it, one after another.
    Mixed(Vec<Point>),
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lane(lane) => write!(f, "the order of lane {lane}"),
            Self::Anchor(height) => write!(f, "the second is anchored at header {height}"),
            Self::Mixed(way) => {
                let way: Vec<String> = way.iter().map(ToString::to_string).collect();
                f.write_str(&way.join(" -> "))
            }
        }
    }
}

/// What a true proof of order says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// The earlier transaction.
    pub first: Verified,
    /// The later one.
    pub second: Verified,
    /// What shows it.
    pub by: By,
}

/// Checks the text of a proof of order against the genesis that the verifier trusts.
///
/// # Errors
/// Why the text is none ([`code::PROOF_MALFORMED`]), or a false one ([`code::PROOF_FALSE`]).
pub fn verify_before(text: &str, genesis: &Genesis) -> Result<Before, BeforeError> {
    BeforeProof::from_json(text)?.verify(genesis)
}

impl BeforeProof {
    /// Reads a proof's text. Says nothing about whether it is true: that is [`BeforeProof::verify`].
    ///
    /// # Errors
    /// The text is no proof of order.
    pub fn from_json(text: &str) -> Result<Self, BeforeError> {
        Ok(text::read(text, BEFORE_VERSION)?)
    }

    /// The text, for people.
    ///
    /// # Panics
    /// Never: plain data has a JSON form.
    #[must_use]
    pub fn to_json_pretty(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("plain data has a JSON form");
        text.push('\n');
        text
    }

    /// Checks a proof that was read.
    ///
    /// # Errors
    /// Why it is false.
    pub fn verify(&self, genesis: &Genesis) -> Result<Before, BeforeError> {
        let pinned = Pinned::new(genesis);
        let mut pinned = pinned.map_err(|_| BeforeError::BadGenesis)?;
        self.verify_from(&mut pinned)
    }

    /// Checks a proof that was read against what the verifier has followed, which goes on by the hand-overs that the proof brings.
    ///
    /// # Errors
    /// Why it is false. What is followed by then is true all the same.
    pub fn verify_from(&self, pinned: &mut Pinned) -> Result<Before, BeforeError> {
        let mut checked = |which, bundle: &Bundle| {
            bundle.verify_from(pinned).map_err(|error| BeforeError::Bundle { which, error })
        };
        let first = checked("first", &self.first)?;
        let second = checked("second", &self.second)?;
        let by = self.check_link()?;
        Ok(Before { first, second, by })
    }

    fn check_link(&self) -> Result<By, BeforeError> {
        let (first, second) = (self.first.position(), self.second.position());
        match &self.link {
            Link::Lane {} if first.lane == second.lane && first.seqno < second.seqno => {
                Ok(By::Lane(first.lane))
            }
            Link::Lane {} => Err(BeforeError::NotInLane),
            Link::Anchor { path } => {
                let anchor = self.second.time.anchor.as_ref().ok_or(BeforeError::NoAnchor)?;
                self.check_covered(tip_of(&anchor.header.0.cut, first.lane), path)?;
                Ok(By::Anchor(anchor.header.0.height))
            }
            Link::Mixed { path, steps } => {
                let tip = match steps.0.first() {
                    Some(Step::Header(header)) => tip_of(&header.0.cut, first.lane).copied(),
                    Some(Step::Chunk(chunk)) => {
                        Some(tip_after(&chunk.0, names::chunk_hash(&chunk.0)))
                    }
                    None => None,
                };
                self.check_covered(tip.as_ref(), path)?;
                Ok(By::Mixed(self.second.check_mixings(steps)?))
            }
        }
    }

    /// The first transaction is a leaf of the lane's tree at `tip`.
    fn check_covered(&self, tip: Option<&Tip>, path: &LanePart) -> Result<(), BeforeError> {
        let position = self.first.position();
        let last = tip.map_or(0, |tip| tip.seqno.get());
        let Some(tip) = tip.filter(|tip| tip.lane == position.lane && position.seqno <= tip.seqno)
        else {
            return Err(BeforeError::NotCovered { last });
        };
        if path.index.checked_add(1) != Some(position.seqno.get())
            || path.size != tip.seqno.get()
            || path.path.len() > PATH_SIZE_MAX
        {
            return Err(BeforeError::OtherLeaf);
        }
        let leaf = names::envelope_leaf(&self.first.envelope.0);
        verify_inclusion(&leaf, path.index, path.size, &path.path, &tip.lane_root)
            .map_err(|error| BeforeError::Path { error })
    }
}
