//! A feed of lanes, checked by who consumes it: events from a server that may lie, against the genesis alone. Pure.
//!
//! ```text
//!  Hello ─ Epoch … ─ Base h ─ Resumed (each lane) ─┬─ Chunk … ─ Receipts … ─ Cut h+1 ─┬─ Chunk … ─ Cut h+2 ─ …
//!                                        └─ tentative: Chunk, RollBack as the sequencer's stream comes
//!
//!  cursor (seqno, root) ══ frontier ──leaves of the chunks──> lane root = tip's in the cut ∈ header <── commit certificate
//!                                         receipts ──range path──> receipts root <── state certificate
//! ```
//! The frames have the layout that [`frame`] draws. A **base** is the header of the height that was followed last: it gives every lane's
//! root and the hash that the next header names, so that a server has no choice in what comes.
//! # Invariants
//! * E1 What is told as certified is exactly what the cuts of consecutive heights, each with a quorum's certificate, add to the lanes that are
//!   followed: no transaction is missing, swapped, repeated or invented, and each has the outcome that a quorum signed.
//! * E2 A feed that was resumed continues what the cursor's root stands for: the frontier that comes with the answer gives that
//!   root, and the leaves that follow it give the roots of the cuts (this is the consistency proof, made by the reader himself).
//! * E3 Nothing certified is rolled back. A roll back goes to a place whose root the consumer knows, or is refused
//!   ([`FeedError::UnknownRoot`]), and he falls back to his certified cursor.
//! * E4 After an error nothing more is taken: whoever goes on begins anew from the last cursor, with another server.
//! * E5 Memory: what a lane has beyond its last cut, at most [`HELD_SIZE_MAX`] bytes of bodies together.
//! * E7 Each height is judged by its own epoch's validators. Epochs are followed from the genesis by their ends: those before the
//!   base come as frames of their own, as far as the consumer has not followed them; later ones by the cuts themselves.
//! * E6 Every transaction's outcome is told once with the cut that covers it, also to a tentative consumer who had the transaction before he
//!   resumed.
//! # Limits
//! That a tentative chunk was streamed by its sequencer is its signature's word; that the sequencer showed
//! others the same is not known before the cut. The failover log's branches are the server's word, and decide nothing: roots do.

pub mod frame;
mod lane;

use std::sync::Arc;

use quipu_crypto::hash::leaf_hashes;
use quipu_crypto::merkle::{MerkleError, verify_subset};
use quipu_types::cursor::{Cursor, Cursors, FeedRequest, Mode, Start};
use quipu_types::{
    Code, CommitCertificate, Decode, DecodeError, Encode, Hash, Header, Height, Lane, Seqno, Time,
    Tip, code,
};
use thiserror::Error;

use crate::bundle::Committed;
use crate::certificate::CertificateError;
use crate::names;
use crate::order::{moves, tip_of};
use crate::pinned::{HandoverError, Pinned};
pub use frame::Frame;
use frame::{Cut, Results, Resumed};
use lane::LaneFeed;
pub use lane::{LaneBatch, LaneFault, Ordered};

/// Most bytes of chunk bodies that no cut covers, all lanes together: what validators hold at most.
pub const HELD_SIZE_MAX: usize = 64 << 20;

/// Why a feed is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedError {
    /// The bytes are no frame.
    #[error("the bytes are no frame: {0}")]
    Malformed(#[from] DecodeError),
    /// Another ledger's.
    #[error("it serves chain {found}, the genesis is of chain {pinned}")]
    OtherChain {
        /// The server's.
        found: Hash,
        /// The genesis'.
        pinned: Hash,
    },
    /// How an epoch ended is false.
    #[error("{0}")]
    Epoch(#[from] HandoverError),
    /// A frame out of its turn.
    #[error("{what} came out of turn")]
    Turn {
        /// Which.
        what: &'static str,
    },
    /// A header that no quorum committed.
    #[error("the certificate of height {height} does not hold: {error}")]
    Certificate {
        /// Which.
        height: Height,
        /// Why.
        error: CertificateError,
    },
    /// A state that no quorum signed.
    #[error("the state certificate of height {height} does not hold: {error}")]
    State {
        /// Which.
        height: Height,
        /// Why.
        error: CertificateError,
    },
    /// A height other than the next: an old one again, or one left out.
    #[error("height {expected} was expected, {found} came")]
    Height {
        /// What comes next.
        expected: Height,
        /// What came.
        found: Height,
    },
    /// A header that names another before it.
    #[error("height {height} does not follow the height before it")]
    Link {
        /// Which.
        height: Height,
    },
    /// The feed does not begin where it was asked to.
    #[error("it begins after height {found}, which is not what was asked for")]
    Begin {
        /// Where it begins.
        found: Height,
    },
    /// A lane's part is false.
    #[error("lane {lane}: {fault}")]
    Lane {
        /// Which.
        lane: Lane,
        /// Why.
        fault: LaneFault,
    },
    /// Outcomes are missing, or are of other transactions.
    #[error("height {height}, lane {lane}: the receipts are not those of its transactions")]
    Receipts {
        /// Which.
        height: Height,
        /// Of which lane.
        lane: Lane,
    },
    /// Outcomes that are not what a quorum signed.
    #[error("the receipts of height {height} are not what a quorum signed: {error}")]
    Outcome {
        /// Which.
        height: Height,
        /// Why.
        error: MerkleError,
    },
    /// More than a server may have in advance.
    #[error("more than {HELD_SIZE_MAX} bytes came without a cut that covers them")]
    TooMuch,
    /// A roll back to a place whose root is not known here: no lie, but it can not be checked.
    #[error("lane {lane} is to be rolled back to {to}, whose root is not known")]
    UnknownRoot {
        /// The lane.
        lane: Lane,
        /// Where to.
        to: Seqno,
    },
}

impl FeedError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::OtherChain { .. } => code::LINK_CHAIN,
            _ => code::FEED_FALSE,
        }
    }

    /// Whether the server, or who stands between, is to blame.
    #[must_use]
    pub const fn is_lie(&self) -> bool {
        !matches!(self, Self::UnknownRoot { .. })
    }
}

/// What a feed tells, each after it was checked.
#[derive(Clone, Debug)]
pub enum Told {
    /// The newest committed height, by the server's own word.
    Hello(Height),
    /// What was told of a lane after this seqno does not count.
    RolledBack {
        /// The lane.
        lane: Lane,
        /// The last transaction that stays.
        to: Seqno,
        /// Where the consumer stands then.
        cursor: Arc<Cursor>,
    },
    /// A chunk that no cut covers yet.
    Tentative(LaneBatch),
    /// A committed height.
    Snapshot(Snapshot),
}

/// What a committed height adds to the lanes that are followed.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The height.
    pub height: Height,
    /// Hash of its header.
    pub header: Hash,
    /// Its time.
    pub time: Time,
    /// The lanes that moved, in the ledger's order, with outcomes.
    pub lanes: Vec<LaneBatch>,
    /// Where a consumer stands who has taken all of it, in every lane that is followed.
    pub cursors: Arc<Cursors>,
}

/// A place in a lane whose root a consumer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The lane.
    pub lane: Lane,
    /// The place.
    pub seqno: Seqno,
    /// The root of the lane's tree there.
    pub root: Hash,
}

/// The last header that was followed.
#[derive(Clone, Debug)]
struct Base {
    height: Height,
    hash: Hash,
    time: Time,
    cut: Vec<Tip>,
    /// None for the genesis.
    committed: Option<(Header, CommitCertificate)>,
}

/// See the module's header.
pub struct Feed {
    pinned: Pinned,
    request: FeedRequest,
    marks: Vec<Mark>,
    base: Base,
    is_greeted: bool,
    has_base: bool,
    /// Those that the server has resumed, in the order of the request.
    lanes: Vec<LaneFeed>,
    held_size: usize,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("base", &self.base.height).finish_non_exhaustive()
    }
}

impl Feed {
    /// What will judge the answer to `request`, knowing what was followed.
    #[must_use]
    pub fn new(pinned: Pinned, request: FeedRequest) -> Self {
        let chain = *pinned.chain();
        let time = Time::default();
        let (height, cut) = (Height::default(), Vec::new());
        let base = Base { height, hash: chain, time, cut, committed: None };
        Self {
            pinned,
            request,
            marks: Vec::new(),
            base,
            is_greeted: false,
            has_base: false,
            lanes: Vec::new(),
            held_size: 0,
        }
    }

    /// The same, knowing more places to which it may be rolled back than the cursors do (E3).
    #[must_use]
    pub fn knowing(mut self, marks: Vec<Mark>) -> Self {
        self.marks = marks;
        self
    }

    /// The validators that were followed by now.
    #[must_use]
    pub const fn pinned(&self) -> &Pinned {
        &self.pinned
    }

    /// The last height that was followed to its end.
    #[must_use]
    pub fn height(&self) -> Height {
        self.base.height
    }

    /// Whether every lane was resumed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_greeted && self.lanes.len() == self.request.lanes.len()
    }

    /// Where a consumer stands who has taken everything that was told.
    #[must_use]
    pub fn cursors(&self) -> Cursors {
        let is_tentative = self.request.mode == Mode::Tentative;
        let lanes = self.lanes.iter().map(|feed| feed.cursor(is_tentative)).collect();
        Cursors { chain: *self.pinned.chain(), lanes }
    }

    /// The frames that open another feed where this one stands, at [`Feed::cursors`], for who knows [`Feed::pinned`].
    #[must_use]
    pub fn opening(&self) -> Vec<Frame> {
        let greeting = Frame::Hello { chain: *self.pinned.chain(), height: self.base.height };
        let base = self
            .base
            .committed
            .clone()
            .map(|(header, certificate)| Frame::Base { header: Box::new(header), certificate });
        let is_tentative = self.request.mode == Mode::Tentative;
        let resumed = self.lanes.iter().map(|feed| Frame::Resumed(feed.opening(is_tentative)));
        std::iter::once(greeting).chain(base).chain(resumed).collect()
    }

    /// Takes a frame's bytes.
    ///
    /// # Errors
    /// Why it is refused (E4).
    pub fn take_bytes(&mut self, bytes: &[u8]) -> Result<Vec<Told>, FeedError> {
        self.take(Frame::from_bytes(bytes)?)
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// Why it is refused (E4).
    pub fn take(&mut self, frame: Frame) -> Result<Vec<Told>, FeedError> {
        let what = frame.name();
        match frame {
            Frame::Hello { chain: found, height } => {
                let pinned = *self.pinned.chain();
                if found != pinned {
                    return Err(FeedError::OtherChain { found, pinned });
                }
                self.is_greeted = true;
                Ok(vec![Told::Hello(height)])
            }
            // What is kept of a feed begins with those that its consumer knew.
            Frame::Epoch { header, certificate } => {
                if self.has_base || !self.lanes.is_empty() {
                    return Err(FeedError::Turn { what });
                }
                self.pinned.follow(&[Committed::new(*header, certificate)])?;
                Ok(Vec::new())
            }
            _ if !self.is_greeted => Err(FeedError::Turn { what }),
            Frame::Base { header, certificate } => {
                if self.has_base || !self.lanes.is_empty() {
                    return Err(FeedError::Turn { what });
                }
                self.check_committed(&header, &certificate)?;
                self.base = Base::of(*header, certificate);
                self.has_base = true;
                Ok(Vec::new())
            }
            Frame::Resumed(resumed) => self.resumed(resumed),
            _ if !self.is_open() => Err(FeedError::Turn { what }),
            Frame::Chunk(chunk) => self.chunk(chunk),
            Frame::RollBack { lane, index } => self.roll_back(lane, index),
            Frame::Receipts { lane, receipts } => {
                let feed = self.lane(lane)?;
                feed.add_receipts(receipts).map_err(|fault| FeedError::Lane { lane, fault })?;
                Ok(Vec::new())
            }
            Frame::Cut(cut) => self.cut(*cut),
        }
    }

    fn check_committed(
        &self,
        header: &Header,
        certificate: &CommitCertificate,
    ) -> Result<(), FeedError> {
        let height = header.height;
        self.pinned
            .verify_committed(header, certificate)
            .map(drop)
            .map_err(|error| FeedError::Certificate { height, error })
    }

    fn lane(&mut self, lane: Lane) -> Result<&mut LaneFeed, FeedError> {
        let found = self.lanes.iter_mut().find(|feed| feed.lane() == lane);
        found.ok_or(FeedError::Lane { lane, fault: LaneFault::NotAsked })
    }

    /// Takes the answer to a lane's cursor.
    fn resumed(&mut self, resumed: Resumed) -> Result<Vec<Told>, FeedError> {
        let (lane, what) = (resumed.lane, "an answer to a cursor");
        let wanted = self.request.lanes.get(self.lanes.len());
        if wanted != Some(&lane) {
            return Err(FeedError::Turn { what });
        }
        self.check_begin()?;
        let fault = |fault| FeedError::Lane { lane, fault };
        let base = tip_of(&self.base.cut, lane);
        let cursor = match &self.request.start {
            Start::Cursors(cursors) => cursors.lanes.get(self.lanes.len()).cloned(),
            _ => None,
        };
        let (feed, told) = match cursor {
            Some(cursor) => {
                let to = Seqno::new(resumed.frontier.size());
                let height = self.base.height;
                let feed = LaneFeed::resume(&cursor, base, height, resumed, &self.marks);
                let is_kept = to == cursor.seqno;
                let feed = feed.map_err(|error| match error {
                    LaneFault::UnknownRoot => FeedError::UnknownRoot { lane, to },
                    other => fault(other),
                })?;
                let told = (!is_kept).then(|| feed.rolled_back(to));
                (feed, told)
            }
            None => {
                let feed = LaneFeed::begin(base, self.base.height, resumed);
                (feed.map_err(fault)?, None)
            }
        };
        let is_tentative = self.request.mode == Mode::Tentative;
        self.lanes.push(if is_tentative { feed.tentative() } else { feed });
        Ok(told.into_iter().collect())
    }

    /// Whether the base is where the feed was asked to begin.
    fn check_begin(&self) -> Result<(), FeedError> {
        let found = self.base.height;
        let is_right = match &self.request.start {
            Start::Cursors(cursors) => {
                let heights = cursors.lanes.iter().map(|cursor| cursor.certified.height);
                heights.min() == Some(found)
            }
            Start::Height(height) => *height == found,
            // The header that follows is checked for the time, too.
            Start::Time(time) => self.base.time < *time,
            // Which is the newest is the server's word.
            Start::End => true,
        };
        if is_right { Ok(()) } else { Err(FeedError::Begin { found }) }
    }

    fn chunk(&mut self, chunk: quipu_types::chunk::StoredChunk) -> Result<Vec<Told>, FeedError> {
        let lane = chunk.header.lane;
        self.held_size = self.held_size.saturating_add(chunk.body.len());
        if self.held_size > HELD_SIZE_MAX {
            return Err(FeedError::TooMuch);
        }
        let is_tentative = self.request.mode == Mode::Tentative;
        let key = self.pinned.epochs().sequencer_key(lane, chunk.header.term);
        let chain = *self.pinned.chain();
        let feed = self.lane(lane)?;
        let fault = |fault| FeedError::Lane { lane, fault };
        if is_tentative {
            lane::check_signature(&chain, key, &chunk).map_err(fault)?;
        }
        let batch = feed.push(chunk).map_err(fault)?;
        if is_tentative && let Some(batch) = &batch {
            // No quorum has accepted these yet.
            batch.check().map_err(fault)?;
        }
        Ok(batch.filter(|_| is_tentative).map(Told::Tentative).into_iter().collect())
    }

    fn roll_back(&mut self, lane: Lane, index: u64) -> Result<Vec<Told>, FeedError> {
        if self.request.mode == Mode::Certified {
            return Err(FeedError::Turn { what: "a roll back" });
        }
        let feed = self.lane(lane)?;
        let (to, size) = feed.roll_back(index).map_err(|fault| FeedError::Lane { lane, fault })?;
        let told = feed.rolled_back(to);
        self.held_size = self.held_size.saturating_sub(size);
        Ok(vec![told])
    }

    /// Takes the next height.
    fn cut(&mut self, cut: Cut) -> Result<Vec<Told>, FeedError> {
        let Cut { header, certificate, results } = cut;
        let (expected, found) = (self.base.height.next(), header.height);
        if found != expected {
            return Err(FeedError::Height { expected, found });
        }
        if header.prev_header != self.base.hash {
            return Err(FeedError::Link { height: found });
        }
        self.check_committed(&header, &certificate)?;
        if let Start::Time(time) = &self.request.start
            && header.time < *time
        {
            return Err(FeedError::Begin { found });
        }
        let moved = moves(&header, &self.base.cut);
        let total = moved.iter().map(|(_, after, to)| to.get().saturating_sub(after.get()));
        let total = total.fold(0, u64::saturating_add);
        let mut first = 0_u64;
        let mut batches = Vec::new();
        for (lane, after, to) in moved {
            if let Some(feed) = self.lanes.iter_mut().find(|feed| feed.lane() == lane) {
                let batch = certify(feed, &header, &self.base.cut)?;
                batches.extend(batch.map(|batch| {
                    // What the consumer had of this height is left out.
                    let had = batch.first_outcome().get().saturating_sub(after.next().get());
                    (first.saturating_add(had), batch)
                }));
            }
            first = first.saturating_add(to.get().saturating_sub(after.get()));
        }
        // Lanes whose cut has chunks of clock alone, or none.
        for feed in &mut self.lanes {
            certify(feed, &header, &self.base.cut)?;
        }
        self.held_size = self.lanes.iter().map(LaneFeed::held_size).sum();
        self.check_outcomes(&header, results, total, &batches)?;
        let lanes = batches.into_iter().map(|(_, batch)| batch).collect();
        let time = header.time;
        self.pinned.pass(&header, &certificate);
        self.base = Base::of(header, certificate);
        let cursors = Arc::new(self.cursors());
        let header = self.base.hash;
        Ok(vec![Told::Snapshot(Snapshot { height: found, header, time, lanes, cursors })])
    }

    /// Checks the outcomes of the lanes' new transactions. With each batch comes the place of its first in the height.
    fn check_outcomes(
        &self,
        header: &Header,
        results: Option<Results>,
        total: u64,
        batches: &[(u64, LaneBatch)],
    ) -> Result<(), FeedError> {
        let height = header.height;
        let no_receipts = |batch: &LaneBatch| FeedError::Receipts { height, lane: batch.lane };
        if let Some((_, batch)) = batches.iter().find(|(_, batch)| !batch.fits_receipts()) {
            return Err(no_receipts(batch));
        }
        let Some(results) = results else {
            return batches.first().map_or(Ok(()), |(_, batch)| Err(no_receipts(batch)));
        };
        self.pinned
            .verify_state(height, &results.certificate)
            .map_err(|error| FeedError::State { height, error })?;
        let receipts = batches.iter().flat_map(|(first, batch)| (*first..).zip(&batch.receipts));
        let (places, encodings): (Vec<u64>, Vec<Vec<u8>>) =
            receipts.map(|(place, receipt)| (place, receipt.to_bytes())).unzip();
        let leaves = leaf_hashes(&encodings.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let known: Vec<(u64, Hash)> = places.into_iter().zip(leaves).collect();
        let root = results.certificate.state.receipts_root;
        verify_subset(&known, total, &results.path, &root)
            .map_err(|error| FeedError::Outcome { height, error })
    }
}

/// Certifies what a header's cut covers of a lane.
fn certify(
    feed: &mut LaneFeed,
    header: &Header,
    before: &[Tip],
) -> Result<Option<LaneBatch>, FeedError> {
    let lane = feed.lane();
    let fault = |fault| FeedError::Lane { lane, fault };
    let tip = tip_of(&header.cut, lane).ok_or(fault(LaneFault::NoTip))?;
    feed.certify(header.height, tip, tip_of(before, lane)).map_err(fault)
}

impl Base {
    fn of(header: Header, certificate: CommitCertificate) -> Self {
        let hash = names::header_hash(&header);
        let (height, time, cut) = (header.height, header.time, header.cut.clone());
        Self { height, hash, time, cut, committed: Some((header, certificate)) }
    }
}

/// A consumer's request for a lane from its beginning.
#[must_use]
pub fn from_start(chain: Hash, lanes: &[Lane], mode: Mode, follow: bool) -> FeedRequest {
    let root = quipu_crypto::merkle::empty_root();
    let cursors = lanes.iter().map(|lane| Cursor::start(*lane, chain, root)).collect();
    let start = Start::Cursors(Cursors { chain, lanes: cursors });
    FeedRequest { mode, follow, epoch: 0, lanes: lanes.to_vec(), start }
}
