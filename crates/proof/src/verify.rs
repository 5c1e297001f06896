//! Checks a bundle against the pinned genesis and the validators that follow from it, part by part, and says what it proves.
//!
//! ```text
//!  bound       rests on                                              basis
//!  not before  time of the header that the client's anchor names     anchor
//!              time of the genesis, whose chain id the client signed genesis
//!  stamped     time of a header that the lane's clock mixed before   mixed header
//!  not after   time of header h + 1, where h covers it first         next header
//! ```
//! The covering header's own time is the median of votes cast before it, and bounds nothing from above:
//! it is told, but is no bound. The anchor bounds when the client signed; the mixed header, if the bundle has one, when the
//! lane's sequencer stamped what was signed.

use std::fmt;

use quipu_crypto::hash::leaf_hash;
use quipu_crypto::merkle::{MerkleError, verify_inclusion};
use quipu_crypto::suite::account;
use quipu_types::{
    AccountId, Action, Code, CommitCertificate, Encode, Genesis, Hash, Header, Height, Lane,
    Position, PublicKey, Receipt, Seqno, Time, code,
};
use thiserror::Error;

use crate::bundle::{
    ActionPart, BUNDLE_SIZE_MAX, BUNDLE_VERSION, Bundle, Committed, HANDOVER_COUNT_MAX, MixedPart,
    PATH_SIZE_MAX, ReceiptPart,
};
use crate::certificate::{CertificateError, Support};
use crate::mixings::{MixingError, Mixings, Point, Step};
use crate::names;
use crate::order::tip_of;
use crate::pinned::{HandoverError, Pinned};

/// A part of a bundle, for errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The action.
    Action,
    /// The way through the lane's tree.
    Lane,
    /// The covering header.
    Header,
    /// The header before it.
    Previous,
    /// The receipt.
    Receipt,
    /// The anchor's header.
    Anchor,
    /// The header after the covering one.
    Next,
    /// The header that the lane's clock mixed.
    Mixed,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Action => "action",
            Self::Lane => "lane",
            Self::Header => "header",
            Self::Previous => "previous header",
            Self::Receipt => "receipt",
            Self::Anchor => "anchor",
            Self::Next => "next header",
            Self::Mixed => "mixed header",
        })
    }
}

/// Why a bundle is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProofError {
    /// More text than a bundle can have.
    #[error("bundle has {size} bytes, the most is {BUNDLE_SIZE_MAX}")]
    TooLong {
        /// Its size.
        size: usize,
    },
    /// Not the JSON of a bundle.
    #[error("not a bundle: {reason}")]
    Json {
        /// The parser's words.
        reason: String,
    },
    /// Another format.
    #[error("bundle has format version {version}, this is {BUNDLE_VERSION}")]
    Version {
        /// Its version.
        version: u64,
    },
    /// Read and written again, it is another text.
    #[error("bundle is not in its only form")]
    NotCanonical,
    /// More siblings than any tree has levels.
    #[error("a path has {count} hashes, the most is {PATH_SIZE_MAX}")]
    PathTooLong {
        /// How many.
        count: usize,
    },
    /// The genesis at hand is itself wrong: no bundle can be checked against it.
    #[error("the pinned genesis breaks a rule")]
    BadGenesis,
    /// A proof of another ledger.
    #[error("bundle is of ledger {chain}, the pinned genesis is of {pinned}")]
    OtherChain {
        /// The bundle's.
        chain: Hash,
        /// The verifier's.
        pinned: Hash,
    },
    /// The hand-overs at hand say otherwise, or do not reach that far.
    #[error("{part} is of epoch {epoch}, its height is of epoch {known} by the hand-overs at hand")]
    HandOver {
        /// Which header.
        part: Part,
        /// Its epoch.
        epoch: u64,
        /// What is known.
        known: u64,
    },
    /// The hand-overs that it brings are false.
    #[error("{0}")]
    Epochs(Box<HandoverError>),
    /// More hand-overs than a bundle can have.
    #[error("bundle has {count} hand-overs, the most is {HANDOVER_COUNT_MAX}")]
    TooManyHandovers {
        /// How many.
        count: usize,
    },
    /// The name is not the envelope's.
    #[error("bundle names transaction {tx}, its envelope is of {computed}")]
    OtherTransaction {
        /// The name in the bundle.
        tx: Hash,
        /// The envelope's.
        computed: Hash,
    },
    /// The client did not sign the envelope.
    #[error("client's signature does not verify")]
    ClientSignature,
    /// The route leads to another lane.
    #[error("transaction is said to stand in lane {lane}, its route leads to {computed}")]
    OtherLane {
        /// The lane in the bundle.
        lane: Lane,
        /// The route's.
        computed: Lane,
    },
    /// A certificate proves nothing.
    #[error("certificate of {part}: {error}")]
    Certificate {
        /// What it should certify.
        part: Part,
        /// Why.
        error: CertificateError,
    },
    /// Two headers do not follow each other.
    #[error("{part} does not link to the covering header")]
    NotLinked {
        /// The other one.
        part: Part,
    },
    /// The cut does not reach the transaction, or an earlier one did.
    #[error("header adds {first} to {last} of lane {lane}, not {seqno}")]
    NotCovered {
        /// The lane.
        lane: Lane,
        /// First seqno that the header adds.
        first: u64,
        /// Last seqno that it covers.
        last: Seqno,
        /// The transaction's.
        seqno: Seqno,
    },
    /// The lane path is said to be of another leaf or tree.
    #[error("lane path is of leaf {index} of {size}, not of leaf {seqno} less one of {tip}")]
    OtherLeaf {
        /// The index in the bundle.
        index: u64,
        /// The size in the bundle.
        size: u64,
        /// The transaction's seqno.
        seqno: Seqno,
        /// The cut's.
        tip: Seqno,
    },
    /// A path does not lead from leaf to root.
    #[error("path of {part}: {error}")]
    Path {
        /// Of what.
        part: Part,
        /// Why.
        error: MerkleError,
    },
    /// A receipt of something else.
    #[error("receipt is of transaction {tx} at {position} with {action_count} actions")]
    OtherReceipt {
        /// Its transaction.
        tx: Hash,
        /// Its place.
        position: Position,
        /// Its count of actions.
        action_count: u32,
    },
    /// The height has another number of receipts.
    #[error("receipt is one of {count}, the header adds {added} transactions")]
    ReceiptCount {
        /// As the bundle says.
        count: u64,
        /// As the cuts say.
        added: u64,
    },
    /// A header that the transaction's anchor does not name.
    #[error("anchor's header is {hash}, the transaction names {anchor}")]
    OtherAnchor {
        /// The header's name.
        hash: Hash,
        /// The transaction's anchor.
        anchor: Hash,
    },
    /// The lane's clock does not show that the header was there before.
    #[error("{part}: {error}")]
    Mixing {
        /// Of what.
        part: Part,
        /// Why.
        error: MixingError,
    },
    /// Heights or times that do not ascend.
    #[error("{part} is not on its side of the covering header")]
    NotInOrder {
        /// Which.
        part: Part,
    },
}

impl ProofError {
    /// The stable code: the text is no bundle, or it is one and false.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::TooLong { .. }
            | Self::Json { .. }
            | Self::Version { .. }
            | Self::NotCanonical
            | Self::PathTooLong { .. }
            | Self::TooManyHandovers { .. } => code::PROOF_MALFORMED,
            Self::BadGenesis => code::GENESIS,
            _ => code::PROOF_FALSE,
        }
    }
}

/// What a bound of time rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The genesis, whose chain id the client signed.
    Genesis,
    /// The header of this height, which the client named as its anchor.
    Anchor(Height),
    /// The header of this height, which the lane's clock mixed.
    Mixed(Height),
    /// The header of this height, which follows the covering one.
    NextHeader(Height),
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Genesis => f.write_str("genesis"),
            Self::Anchor(height) => write!(f, "anchor: header {height}"),
            Self::Mixed(height) => write!(f, "mixed header {height}"),
            Self::NextHeader(height) => write!(f, "next header {height}"),
        }
    }
}

/// A bound of time with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// When.
    pub time: Time,
    /// Why.
    pub basis: Basis,
}

/// What a true bundle proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The ledger.
    pub chain: Hash,
    /// The transaction.
    pub tx: Hash,
    /// Where it stands.
    pub position: Position,
    /// The height whose header covers it first.
    pub height: Height,
    /// That header's name.
    pub header: Hash,
    /// That header's time: when the cut was agreed on, no bound of the transaction's.
    pub header_time: Time,
    /// Who signed it.
    pub signer: PublicKey,
    /// The signer's account.
    pub account: AccountId,
    /// How many actions it has.
    pub action_count: u32,
    /// The action that is proven, with its 0-based index.
    pub action: Option<(u32, Action)>,
    /// What became of it.
    pub receipt: Option<Receipt>,
    /// It was signed after this.
    pub not_before: Bound,
    /// Its lane's clock stamped it after this.
    pub stamped_after: Option<Bound>,
    /// It was ordered before this.
    pub not_after: Option<Bound>,
    /// Who committed the header.
    pub support: Support,
}

/// Checks the text of a bundle against the genesis that the verifier trusts.
///
/// # Errors
/// Why the text is no bundle ([`code::PROOF_MALFORMED`]), or a false one ([`code::PROOF_FALSE`]).
pub fn verify(text: &str, genesis: &Genesis) -> Result<Verified, ProofError> {
    Bundle::from_json(text)?.verify(genesis)
}

impl Bundle {
    /// Checks a bundle that was read against the genesis that the verifier trusts.
    ///
    /// # Errors
    /// Why it is false.
    pub fn verify(&self, genesis: &Genesis) -> Result<Verified, ProofError> {
        let mut pinned = Pinned::new(genesis).map_err(|_| ProofError::BadGenesis)?;
        self.verify_from(&mut pinned)
    }

    /// Checks a bundle that was read against what the verifier has followed, which goes on by the hand-overs that the bundle brings.
    ///
    /// # Errors
    /// Why it is false. What is followed by then is true all the same.
    pub fn verify_from(&self, pinned: &mut Pinned) -> Result<Verified, ProofError> {
        self.check_form(pinned)?;
        pinned.follow(&self.epochs).map_err(|error| ProofError::Epochs(Box::new(error)))?;
        self.check(pinned)
    }

    /// That its format and ledger are these.
    fn check_form(&self, pinned: &Pinned) -> Result<(), ProofError> {
        if self.version != BUNDLE_VERSION {
            return Err(ProofError::Version { version: self.version });
        }
        let count = self.epochs.len();
        if count > HANDOVER_COUNT_MAX {
            return Err(ProofError::TooManyHandovers { count });
        }
        if self.chain != *pinned.chain() {
            return Err(ProofError::OtherChain { chain: self.chain, pinned: *pinned.chain() });
        }
        Ok(())
    }

    fn check(&self, pinned: &Pinned) -> Result<Verified, ProofError> {
        let envelope = &self.envelope.0;
        let header = &self.header.0;
        self.check_transaction(pinned)?;
        let support = check_committed(pinned, Part::Header, header, &self.certificate.0)?;
        self.check_previous(pinned)?;
        self.check_lane()?;
        if let Some(part) = &self.action {
            self.check_action(part)?;
        }
        if let Some(part) = &self.receipt {
            self.check_receipt(pinned, part)?;
        }
        Ok(Verified {
            chain: self.chain,
            tx: self.tx,
            position: self.position(),
            height: header.height,
            header: names::header_hash(header),
            header_time: header.time,
            signer: envelope.signer,
            account: account(&envelope.signer),
            action_count: envelope.action_count,
            action: self.action.as_ref().map(|part| (part.index, part.bytes.0.clone())),
            receipt: self.receipt.as_ref().map(|part| part.bytes.0),
            not_before: self.not_before(pinned)?,
            stamped_after: self.stamped_after(pinned)?,
            not_after: self.not_after(pinned)?,
            support,
        })
    }

    /// Where the transaction is said to stand.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position { lane: self.position.lane, seqno: self.position.seqno }
    }

    /// Name, client's signature, lane.
    fn check_transaction(&self, pinned: &Pinned) -> Result<(), ProofError> {
        let chain = self.chain;
        let envelope = &self.envelope.0;
        let computed = names::tx_name(&chain, envelope);
        if self.tx != computed {
            return Err(ProofError::OtherTransaction { tx: self.tx, computed });
        }
        if !names::verify_envelope(&chain, envelope) {
            return Err(ProofError::ClientSignature);
        }
        let route = envelope.route.as_deref().unwrap_or(envelope.signer.bytes());
        let computed = names::lane_of(route, pinned.lane_count());
        let lane = self.position.lane;
        if lane != computed {
            return Err(ProofError::OtherLane { lane, computed });
        }
        Ok(())
    }

    /// The header before the covering one is certified by the hash in it.
    fn check_previous(&self, pinned: &Pinned) -> Result<(), ProofError> {
        let header = &self.header.0;
        let linked = match &self.previous {
            None => header.height == Height::new(1) && header.prev_header == *pinned.chain(),
            Some(previous) => follows(&previous.0, header),
        };
        if linked { Ok(()) } else { Err(ProofError::NotLinked { part: Part::Previous }) }
    }

    /// The header covers the envelope, and no header before did.
    fn check_lane(&self) -> Result<(), ProofError> {
        let Position { lane, seqno } = self.position();
        let tip = tip_of(&self.header.0.cut, lane);
        let last = tip.map_or(Seqno::default(), |tip| tip.seqno);
        let before = self.covered_before(lane);
        let covered = before < seqno && seqno <= last;
        let Some(tip) = tip.filter(|_| covered) else {
            let first = before.get().saturating_add(1);
            return Err(ProofError::NotCovered { lane, first, last, seqno });
        };
        let part = &self.lane_path;
        if part.index.checked_add(1) != Some(seqno.get()) || part.size != tip.seqno.get() {
            let (index, size) = (part.index, part.size);
            return Err(ProofError::OtherLeaf { index, size, seqno, tip: tip.seqno });
        }
        let leaf = names::envelope_leaf(&self.envelope.0);
        verify_inclusion(&leaf, part.index, part.size, &part.path, &tip.lane_root)
            .map_err(|error| ProofError::Path { part: Part::Lane, error })
    }

    /// How far the header before reached.
    fn covered_before(&self, lane: Lane) -> Seqno {
        let tip = self.previous.as_ref().and_then(|previous| tip_of(&previous.0.cut, lane));
        tip.map_or(Seqno::default(), |tip| tip.seqno)
    }

    fn check_action(&self, part: &ActionPart) -> Result<(), ProofError> {
        let envelope = &self.envelope.0;
        let leaf = leaf_hash(&part.bytes.0.to_bytes());
        let (index, count) = (u64::from(part.index), u64::from(envelope.action_count));
        verify_inclusion(&leaf, index, count, &part.path, &envelope.actions_root)
            .map_err(|error| ProofError::Path { part: Part::Action, error })
    }

    /// The receipt is this transaction's, and validators certified it for the header's height.
    fn check_receipt(&self, pinned: &Pinned, part: &ReceiptPart) -> Result<(), ProofError> {
        let receipt = &part.bytes.0;
        let position = Position { lane: receipt.lane, seqno: receipt.seqno };
        let action_count = receipt.action_count;
        if position != self.position()
            || receipt.tx != self.tx
            || action_count != self.envelope.0.action_count
        {
            let tx = receipt.tx;
            return Err(ProofError::OtherReceipt { tx, position, action_count });
        }
        let header = &self.header.0;
        // The root does not bind the number of leaves; the cuts do.
        let added = header.cut.iter().fold(0_u64, |sum, tip| {
            let before = self.covered_before(tip.lane).get();
            sum.saturating_add(tip.seqno.get().saturating_sub(before))
        });
        if part.count != added {
            return Err(ProofError::ReceiptCount { count: part.count, added });
        }
        pinned
            .verify_state(header.height, &part.certificate.0)
            .map_err(|error| ProofError::Certificate { part: Part::Receipt, error })?;
        let leaf = leaf_hash(&receipt.to_bytes());
        let root = &part.certificate.0.state.receipts_root;
        verify_inclusion(&leaf, part.index, part.count, &part.path, root)
            .map_err(|error| ProofError::Path { part: Part::Receipt, error })
    }

    fn not_before(&self, pinned: &Pinned) -> Result<Bound, ProofError> {
        let Some(anchor) = &self.time.anchor else {
            return Ok(Bound { time: pinned.time(), basis: Basis::Genesis });
        };
        let Committed { header, certificate } = anchor;
        check_committed(pinned, Part::Anchor, &header.0, &certificate.0)?;
        let hash = names::header_hash(&header.0);
        let wanted = self.envelope.0.anchor;
        if hash != wanted {
            return Err(ProofError::OtherAnchor { hash, anchor: wanted });
        }
        let covering = &self.header.0;
        if header.0.height >= covering.height || header.0.time >= covering.time {
            return Err(ProofError::NotInOrder { part: Part::Anchor });
        }
        Ok(Bound { time: header.0.time, basis: Basis::Anchor(header.0.height) })
    }

    fn stamped_after(&self, pinned: &Pinned) -> Result<Option<Bound>, ProofError> {
        let Some(MixedPart { certificate, steps }) = &self.time.mixed else { return Ok(None) };
        let mixing = |error| ProofError::Mixing { part: Part::Mixed, error };
        let Some(Step::Header(header)) = steps.0.first() else {
            return Err(mixing(MixingError::NotMixed));
        };
        check_committed(pinned, Part::Mixed, &header.0, &certificate.0)?;
        let covering = &self.header.0;
        if header.0.height >= covering.height || header.0.time >= covering.time {
            return Err(ProofError::NotInOrder { part: Part::Mixed });
        }
        self.check_mixings(steps).map_err(mixing)?;
        Ok(Some(Bound { time: header.0.time, basis: Basis::Mixed(header.0.height) }))
    }

    /// That the first step was there before this transaction was stamped.
    pub(crate) fn check_mixings(&self, steps: &Mixings) -> Result<Vec<Point>, MixingError> {
        let position = self.position();
        let tip = tip_of(&self.header.0.cut, position.lane).ok_or(MixingError::OtherTip)?;
        steps.verify(position, tip)
    }

    fn not_after(&self, pinned: &Pinned) -> Result<Option<Bound>, ProofError> {
        let Some(Committed { header, certificate }) = &self.time.next else { return Ok(None) };
        check_committed(pinned, Part::Next, &header.0, &certificate.0)?;
        if !follows(&self.header.0, &header.0) {
            return Err(ProofError::NotLinked { part: Part::Next });
        }
        if header.0.time <= self.header.0.time {
            return Err(ProofError::NotInOrder { part: Part::Next });
        }
        let basis = Basis::NextHeader(header.0.height);
        Ok(Some(Bound { time: header.0.time, basis }))
    }
}

fn follows(before: &Header, after: &Header) -> bool {
    before.height.get().checked_add(1) == Some(after.height.get())
        && after.prev_header == names::header_hash(before)
}

fn check_committed(
    pinned: &Pinned,
    part: Part,
    header: &Header,
    certificate: &CommitCertificate,
) -> Result<Support, ProofError> {
    let known = pinned.epochs().at(header.height).set.epoch;
    if header.epoch != known {
        return Err(ProofError::HandOver { part, epoch: header.epoch, known });
    }
    pinned
        .verify_committed(header, certificate)
        .map_err(|error| ProofError::Certificate { part, error })
}
