//! The bundle as a file: JSON, so that it can be read, mailed and kept; one form, so that it can be named.
//!
//! Hashes and canonical encodings stand in lower-case hexadecimal, numbers as JSON numbers. Every
//! member is there; what is not proven is `null`. White space and the order of members are free, nothing
//! else is: a text is read when writing it again gives the same JSON value.

use quipu_types::{
    Action, CommitCertificate, Envelope, Hash, Header, Lane, Receipt, Seqno, StateCertificate,
};
use serde::{Deserialize, Serialize};

use crate::hexed::Hexed;
use crate::mixings::Mixings;
use crate::text;
use crate::verify::ProofError;

/// Most bytes of a bundle's text: four headers and three certificates of the largest set, an action, and hand-overs: all that
/// may be of a few validators, some seven hundred of the largest set.
pub const BUNDLE_SIZE_MAX: usize = 64 << 20;
/// Most hand-overs that a bundle carries. Who needs more of them keeps those that were followed ([`crate::Pinned`]).
pub const HANDOVER_COUNT_MAX: usize = 4_096;
/// Version of the format.
pub const BUNDLE_VERSION: u64 = 1;
/// Most hashes of a path: one a level of a tree of 2^64 leaves.
pub const PATH_SIZE_MAX: usize = 64;

/// Everything that proves one transaction, or one of its actions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// [`BUNDLE_VERSION`].
    pub version: u64,
    /// Chain id of the ledger.
    pub chain: Hash,
    /// The hand-overs of its first epochs, in order: what shows who the validators of later ones are. Left out when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub epochs: Vec<Committed>,
    /// The transaction's name.
    pub tx: Hash,
    /// Where it stands.
    pub position: Place,
    /// What the client signed, with the signature.
    pub envelope: Hexed<Envelope>,
    /// One action, when the bundle is about one.
    pub action: Option<ActionPart>,
    /// The way from the envelope to the lane's root.
    pub lane_path: LanePart,
    /// The header whose cut covers it first.
    pub header: Hexed<Header>,
    /// What commits the header.
    pub certificate: Hexed<CommitCertificate>,
    /// The header before: it shows that it was not covered yet. `null` at height 1.
    pub previous: Option<Hexed<Header>>,
    /// What became of it.
    pub receipt: Option<ReceiptPart>,
    /// When it was.
    pub time: TimePart,
}

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The lane.
    pub lane: Lane,
    /// The number in the lane.
    pub seqno: Seqno,
}

/// One action, proven from the envelope's actions root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionPart {
    /// Its 0-based index.
    pub index: u32,
    /// The action.
    pub bytes: Hexed<Action>,
    /// RFC 9162 path to the actions root, from the leaf up.
    pub path: Vec<Hash>,
}

/// The way through the lane's tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanePart {
    /// 0-based index of the leaf: the seqno less one.
    pub index: u64,
    /// Leaves of the tree: the seqno of the cut's tip.
    pub size: u64,
    /// RFC 9162 path to the tip's lane root, from the leaf up.
    pub path: Vec<Hash>,
}

/// The outcome, proven from a state certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptPart {
    /// The receipt.
    pub bytes: Hexed<Receipt>,
    /// Its 0-based index among the height's receipts.
    pub index: u64,
    /// How many receipts the height has: as many as its cut adds transactions.
    pub count: u64,
    /// RFC 9162 path to the receipts root, from the leaf up.
    pub path: Vec<Hash>,
    /// What certifies the receipts root.
    pub certificate: Hexed<StateCertificate>,
}

/// Headers that bound when the transaction was made and ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimePart {
    /// The header that the transaction's anchor names; `null` when that is the genesis, or not known.
    pub anchor: Option<Committed>,
    /// The header after the covering one; `null` while there is none.
    pub next: Option<Committed>,
    /// A header that the lane's clock mixed before the transaction; left out when it was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixed: Option<MixedPart>,
}

/// A header that was there before the transaction was stamped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixedPart {
    /// What commits the header, which is the first step.
    pub certificate: Hexed<CommitCertificate>,
    /// From the header to the tip of the covering header's cut.
    pub steps: Mixings,
}

/// A header and what commits it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Committed {
    /// The header.
    pub header: Hexed<Header>,
    /// Its certificate.
    pub certificate: Hexed<CommitCertificate>,
}

impl Committed {
    /// The pair.
    #[must_use]
    pub const fn new(header: Header, certificate: CommitCertificate) -> Self {
        Self { header: Hexed(header), certificate: Hexed(certificate) }
    }
}

impl Bundle {
    /// Reads a bundle's text. Says nothing about whether it is true: that is [`Bundle::verify`].
    ///
    /// # Errors
    /// The text is not a bundle in its only form.
    pub fn from_json(text: &str) -> Result<Self, ProofError> {
        let bundle: Self = text::read(text, BUNDLE_VERSION)?;
        bundle.check_paths()?;
        Ok(bundle)
    }

    /// The text, on one line.
    ///
    /// # Panics
    /// Never: plain data has a JSON form.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain data has a JSON form")
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

    fn check_paths(&self) -> Result<(), ProofError> {
        let action = self.action.as_ref().map(|part| &part.path);
        let receipt = self.receipt.as_ref().map(|part| &part.path);
        let longest = [Some(&self.lane_path.path), action, receipt].into_iter().flatten();
        match longest.map(Vec::len).max() {
            Some(count) if count > PATH_SIZE_MAX => Err(ProofError::PathTooLong { count }),
            _ => Ok(()),
        }
    }
}
