//! One lane of a feed: its tree, what no cut covers yet, and the cursor of who has taken it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use quipu_crypto::domain::Tag;
use quipu_crypto::hash::{blake3, leaf_hashes};
use quipu_crypto::merkle::{self, Frontier};
use quipu_crypto::verify_tagged;
use quipu_types::chunk::{StoredChunk, split_body};
use quipu_types::cursor::{Branch, Certified, Cursor, OLDER_COUNT_MAX};
use quipu_types::transaction::Undecoded;
use quipu_types::{
    ChunkHeader, Decode, DecodeError, Encode, Envelope, Hash, Height, Lane, PublicKey, Receipt,
    Seqno, Term, Tip, Transaction,
};
use thiserror::Error;

use super::frame::Resumed;
use super::{Mark, Told};
use crate::names;

/// Why a lane's part of a feed is false.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaneFault {
    /// A lane that was not asked for.
    #[error("it was not asked for")]
    NotAsked,
    /// The header has no tip of it.
    #[error("the header has no tip of it")]
    NoTip,
    /// The answer goes on from another place than the cursor's.
    #[error("it goes on after {found}, which the cursor ({seqno}) does not allow")]
    Place {
        /// Where it goes on.
        found: Seqno,
        /// The cursor's.
        seqno: Seqno,
    },
    /// The tree at that place is another.
    #[error("its first {size} transactions have another root than the cursor or the cut says")]
    Root {
        /// How many.
        size: Seqno,
    },
    /// It can not be known whether the tree is another.
    #[error("the root is not known")]
    UnknownRoot,
    /// A chunk is not the next: something is missing, or comes again.
    #[error("a chunk begins with transaction {found}, {expected} comes next")]
    NotNext {
        /// What comes next.
        expected: Seqno,
        /// What came.
        found: Seqno,
    },
    /// A chunk does not link to the one before it.
    #[error("chunk {index} does not link to the one before it")]
    Link {
        /// Which.
        index: u64,
    },
    /// A chunk's body is not what its header says.
    #[error("the body of chunk {index} is not what its header says")]
    Body {
        /// Which.
        index: u64,
    },
    /// A chunk's body does not decode.
    #[error("the body of chunk {index} does not decode: {error}")]
    Malformed {
        /// Which.
        index: u64,
        /// Why.
        error: DecodeError,
    },
    /// A transaction does not decode.
    #[error("transaction {lane}:{seqno} does not decode: {error}")]
    Transaction {
        /// The lane.
        lane: Lane,
        /// Its number.
        seqno: Seqno,
        /// Why.
        error: DecodeError,
    },
    /// The transactions give another root than the header says.
    #[error("the transactions of chunk {index} give another root than its header says")]
    ChunkRoot {
        /// Which.
        index: u64,
    },
    /// Its sequencer did not sign it.
    #[error("chunk {index} is not signed by the sequencer of term {term}")]
    Signature {
        /// Which.
        index: u64,
        /// Its term.
        term: Term,
    },
    /// The cut covers what was not sent.
    #[error("height {height} covers {seqno} transactions, those up to {held} were sent")]
    Withheld {
        /// The height.
        height: Height,
        /// The tip's.
        seqno: Seqno,
        /// What came.
        held: Seqno,
    },
    /// The cut covers another chunk than was sent.
    #[error("height {height} covers another chunk {index} than was sent")]
    OtherChunk {
        /// The height.
        height: Height,
        /// Which.
        index: u64,
    },
    /// What is certified is rolled back.
    #[error("what is certified up to {certified} is rolled back")]
    Certified {
        /// The certified seqno.
        certified: Seqno,
    },
    /// More receipts than transactions.
    #[error("more receipts than transactions came")]
    Receipts,
}

/// One transaction of a lane.
#[derive(Clone, Debug)]
pub struct Ordered {
    /// Its number.
    pub seqno: Seqno,
    /// The chunk's body, shared by its transactions.
    body: Arc<Vec<u8>>,
    place: Range<usize>,
    leaf: Hash,
}

impl Ordered {
    /// What the client signed, encoded.
    ///
    /// # Panics
    /// Never: its place is in its body.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.body.get(self.place.clone()).expect("its place is in its body")
    }

    /// The same, its parts found and not copied.
    ///
    /// # Panics
    /// Never: they were found before.
    #[must_use]
    pub fn undecoded(&self) -> Undecoded<'_> {
        Undecoded::read(self.bytes()).expect("the same bytes were read when they came")
    }

    /// The same, decoded.
    ///
    /// # Errors
    /// When an action does not decode, which no quorum of validators accepts.
    pub fn transaction(&self) -> Result<Transaction, DecodeError> {
        Transaction::from_bytes(self.bytes())
    }
}

/// Neighbouring transactions of a lane: of a chunk that no cut covers, or what a cut adds.
#[derive(Clone, Debug)]
pub struct LaneBatch {
    /// The lane.
    pub lane: Lane,
    /// The snapshot that they are of, `(start, end]`; those that the consumer had are left out.
    pub start: Seqno,
    /// See `start`.
    pub end: Seqno,
    /// In order, without a gap; none that the consumer had.
    pub transactions: Vec<Arc<Ordered>>,
    /// Up to `end`, one for each transaction that is certified with it: also of those that a tentative consumer had before.
    /// None while no cut covers them.
    pub receipts: Vec<Receipt>,
    /// The last transaction whose outcome was told before.
    outcomes_after: Seqno,
    /// The tree before the first.
    before: Frontier,
    branch: Hash,
    certified: Certified,
    certified_after: Certified,
    older: Vec<Branch>,
}

impl LaneBatch {
    /// Number of the first transaction.
    #[must_use]
    pub fn first_seqno(&self) -> Seqno {
        Seqno::new(self.before.size()).next()
    }

    /// Where a consumer stands who has taken the first `taken` transactions.
    ///
    /// # Panics
    /// When that are more than there are.
    #[must_use]
    pub fn cursor(&self, taken: usize) -> Cursor {
        let leaves = self.transactions.get(..taken).expect("what was taken was there");
        let mut tree = self.before.clone();
        tree.extend(&leaves.iter().map(|ordered| ordered.leaf).collect::<Vec<_>>());
        let is_whole = taken == self.transactions.len();
        let certified = if is_whole { self.certified_after } else { self.certified };
        let mut older = self.older.clone();
        older.retain(|branch| branch.seqno > certified.seqno);
        Cursor {
            lane: self.lane,
            certified,
            branch: self.branch,
            seqno: Seqno::new(tree.size()),
            start: self.start,
            end: self.end,
            root: tree.root(),
            older,
        }
    }

    /// Whether every action decodes.
    pub(super) fn check(&self) -> Result<(), LaneFault> {
        let wrong = |ordered: &Arc<Ordered>| {
            let (lane, seqno) = (self.lane, ordered.seqno);
            ordered.transaction().err().map(|error| LaneFault::Transaction { lane, seqno, error })
        };
        self.transactions.iter().find_map(wrong).map_or(Ok(()), Err)
    }

    /// The transactions with their receipts.
    pub fn with_receipts(&self) -> impl Iterator<Item = (&Arc<Ordered>, &Receipt)> {
        let had = self.receipts.len().saturating_sub(self.transactions.len());
        self.transactions.iter().zip(self.receipts.iter().skip(had))
    }

    /// Number of the first transaction whose outcome is told.
    pub(super) fn first_outcome(&self) -> Seqno {
        self.outcomes_after.next()
    }

    /// Whether there is one receipt of each transaction, in order.
    pub(super) fn fits_receipts(&self) -> bool {
        let mut seqno = self.outcomes_after;
        let is_next = |receipt: &Receipt| {
            seqno = seqno.next();
            (receipt.lane, receipt.seqno) == (self.lane, seqno)
        };
        self.receipts.iter().all(is_next) && seqno == self.end
    }
}

/// A chunk that no cut covers.
#[derive(Debug)]
struct Held {
    index: u64,
    hash: Hash,
    term: Term,
    branch: Hash,
    /// The snapshot that it is.
    start: Seqno,
    end: Seqno,
    transactions: Vec<Arc<Ordered>>,
    /// The tree after it.
    tree: Frontier,
    size: usize,
}

/// One lane.
#[derive(Debug)]
pub(super) struct LaneFeed {
    lane: Lane,
    certified: Certified,
    /// The tree where the lane was resumed, or at the last cut since.
    tree: Frontier,
    branch: Hash,
    /// The snapshot in which it was resumed.
    snapshot: (Seqno, Seqno),
    /// The last chunk below what is held, if it is known.
    last: Option<(u64, Hash, Term)>,
    held: VecDeque<Held>,
    held_size: usize,
    receipts: Vec<Receipt>,
    /// The last transaction whose outcome the consumer knows.
    outcomes_after: Seqno,
    older: Vec<Branch>,
}

impl LaneFeed {
    /// A lane that begins at the base.
    pub(super) fn begin(
        base: Option<&Tip>,
        height: Height,
        resumed: Resumed,
    ) -> Result<Self, LaneFault> {
        let Resumed { lane, branch, frontier } = resumed;
        let seqno = base.map_or(Seqno::default(), |tip| tip.seqno);
        let root = base.map_or_else(quipu_crypto::merkle::empty_root, |tip| tip.lane_root);
        if frontier.size() != seqno.get() || frontier.root() != root {
            return Err(LaneFault::Root { size: seqno });
        }
        let certified = Certified { height, seqno, root };
        let cursor = Cursor::at(lane, certified, branch);
        Ok(Self::new(&cursor, branch, frontier, base))
    }

    /// A lane that goes on from a cursor, as far as the server says that it counts.
    pub(super) fn resume(
        cursor: &Cursor,
        base: Option<&Tip>,
        height: Height,
        resumed: Resumed,
        marks: &[Mark],
    ) -> Result<Self, LaneFault> {
        let Resumed { branch, frontier, .. } = resumed;
        let (certified, to) = (cursor.certified, Seqno::new(frontier.size()));
        let is_base = certified.height == height;
        let holds = |tip: &Tip| (tip.seqno, tip.lane_root) == (certified.seqno, certified.root);
        if is_base && base.is_some_and(|tip| !holds(tip)) {
            return Err(LaneFault::Root { size: certified.seqno });
        }
        if to > cursor.seqno || to < certified.seqno {
            return Err(LaneFault::Place { found: to, seqno: cursor.seqno });
        }
        let known = [(cursor.seqno, cursor.root), (certified.seqno, certified.root)];
        let older = cursor.older.iter().map(|older| (older.seqno, older.root));
        let marks = marks.iter().filter(|mark| mark.lane == cursor.lane);
        let marks = marks.map(|mark| (mark.seqno, mark.root));
        let roots = known.into_iter().chain(older).chain(marks);
        let mut roots = roots.filter(|(seqno, _)| *seqno == to);
        let root = frontier.root();
        let Some((_, wanted)) = roots.next() else { return Err(LaneFault::UnknownRoot) };
        if wanted != root {
            return Err(LaneFault::Root { size: to });
        }
        if to == cursor.seqno {
            return Ok(Self::new(cursor, cursor.branch, frontier, base));
        }
        let (start, end) = (to, to);
        let mut cursor = Cursor { seqno: to, start, end, branch, root, ..cursor.clone() };
        cursor.older.retain(|older| older.seqno < to);
        Ok(Self::new(&cursor, branch, frontier, base))
    }

    fn new(cursor: &Cursor, branch: Hash, tree: Frontier, base: Option<&Tip>) -> Self {
        let is_at_base = base.is_some_and(|tip| tip.seqno == cursor.seqno && tip.index > 0);
        let last = base.filter(|_| is_at_base);
        Self {
            lane: cursor.lane,
            certified: cursor.certified,
            tree,
            branch,
            snapshot: (cursor.start, cursor.end),
            last: last.map(|tip| (tip.index, tip.chunk_hash, tip.term)),
            held: VecDeque::new(),
            held_size: 0,
            receipts: Vec::new(),
            outcomes_after: cursor.seqno,
            older: cursor.older.clone(),
        }
    }

    /// The same for a tentative consumer, who was told the outcomes up to his certified position alone.
    #[must_use]
    pub(super) fn tentative(mut self) -> Self {
        self.outcomes_after = self.certified.seqno;
        self
    }

    pub(super) const fn lane(&self) -> Lane {
        self.lane
    }

    pub(super) const fn held_size(&self) -> usize {
        self.held_size
    }

    /// The tree after everything that came.
    fn end(&self) -> &Frontier {
        self.held.back().map_or(&self.tree, |held| &held.tree)
    }

    /// Where a consumer stands who has taken everything that came;
    /// everything that was certified, if not `is_tentative`.
    pub(super) fn cursor(&self, is_tentative: bool) -> Cursor {
        let held = self.held.back().filter(|_| is_tentative);
        let tree = held.map_or(&self.tree, |held| &held.tree);
        let seqno = Seqno::new(tree.size());
        let (start, end) = held.map_or(self.snapshot, |held| (held.start, held.end));
        let branch = held.map_or(self.branch, |held| held.branch);
        let (certified, older) = (self.certified, self.older.clone());
        Cursor { lane: self.lane, certified, branch, seqno, start, end, root: tree.root(), older }
    }

    /// The answer to that cursor.
    pub(super) fn opening(&self, is_tentative: bool) -> Resumed {
        let held = self.held.back().filter(|_| is_tentative);
        let branch = held.map_or(self.branch, |held| held.branch);
        let frontier = held.map_or(&self.tree, |held| &held.tree).clone();
        Resumed { lane: self.lane, branch, frontier }
    }

    /// What a consumer is told of a roll back to `to`, where the lane stands now.
    pub(super) fn rolled_back(&self, to: Seqno) -> Told {
        Told::RolledBack { lane: self.lane, to, cursor: Arc::new(self.cursor(true)) }
    }

    /// Takes the next chunk; what is new in it, if anything is.
    pub(super) fn push(&mut self, chunk: StoredChunk) -> Result<Option<LaneBatch>, LaneFault> {
        let StoredChunk { header, body, .. } = chunk;
        let header = &header;
        let (index, first, last) = (header.index, header.first_seqno, header.last_seqno());
        let known = self.held.back().map(|held| (held.index, held.hash, held.term)).or(self.last);
        let before = self.end().clone();
        let expected = Seqno::new(before.size()).next();
        match known {
            Some((last_index, hash, term)) => {
                let prev = if term == header.term {
                    hash
                } else {
                    names::term_start(&header.branch, &hash)
                };
                if Some(index) != last_index.checked_add(1) || header.prev != prev {
                    return Err(LaneFault::Link { index });
                }
                if first != expected {
                    return Err(LaneFault::NotNext { expected, found: first });
                }
            }
            // The chunk that the cursor is in, or the first one.
            None if first > expected || last.next() < expected => {
                return Err(LaneFault::NotNext { expected, found: first });
            }
            None => {}
        }
        if blake3(&body) != header.body_digest {
            return Err(LaneFault::Body { index });
        }
        let size = body.len();
        let all = read(header, body).map_err(|error| LaneFault::Malformed { index, error })?;
        let transactions: Vec<_> = all.into_iter().filter(|one| one.seqno >= expected).collect();
        let mut tree = before.clone();
        tree.extend(&transactions.iter().map(|ordered| ordered.leaf).collect::<Vec<_>>());
        if tree.root() != header.lane_root {
            return Err(LaneFault::ChunkRoot { index });
        }
        if header.branch != self.held.back().map_or(self.branch, |held| held.branch) {
            self.leave_branch(&before);
        }
        self.held_size = self.held_size.saturating_add(size);
        let start = Seqno::new(first.get().saturating_sub(1));
        let batch = LaneBatch {
            lane: self.lane,
            start,
            end: last,
            transactions: transactions.clone(),
            receipts: Vec::new(),
            outcomes_after: self.outcomes_after,
            before,
            branch: header.branch,
            certified: self.certified,
            certified_after: self.certified,
            older: self.older.clone(),
        };
        self.held.push_back(Held {
            index,
            hash: names::chunk_hash(header),
            term: header.term,
            branch: header.branch,
            start,
            end: last,
            transactions,
            tree,
            size,
        });
        Ok(Some(batch).filter(|batch| !batch.transactions.is_empty()))
    }

    /// Remembers where a branch was left that is not certified to its end.
    fn leave_branch(&mut self, tree: &Frontier) {
        let seqno = Seqno::new(tree.size());
        if seqno <= self.certified.seqno {
            return;
        }
        let branch = self.held.back().map_or(self.branch, |held| held.branch);
        self.older.insert(0, Branch { branch, seqno, root: tree.root() });
        self.older.truncate(OLDER_COUNT_MAX);
    }

    /// Drops what follows a chunk. The last seqno that stays, and the bytes that went.
    pub(super) fn roll_back(&mut self, index: u64) -> Result<(Seqno, usize), LaneFault> {
        let kept = self.held.iter().take_while(|held| held.index <= index).count();
        let floor = self.held.front().map_or(0, |held| held.index.saturating_sub(1));
        if index < floor {
            return Err(LaneFault::Certified { certified: self.certified.seqno });
        }
        let gone: usize = self.held.drain(kept..).map(|held| held.size).sum();
        self.held_size = self.held_size.saturating_sub(gone);
        let to = Seqno::new(self.end().size());
        self.older.retain(|older| older.seqno < to);
        Ok((to, gone))
    }

    pub(super) fn add_receipts(&mut self, receipts: Vec<Receipt>) -> Result<(), LaneFault> {
        let known = self.end().size().saturating_sub(self.outcomes_after.get());
        self.receipts.extend(receipts);
        if u64::try_from(self.receipts.len()).is_ok_and(|count| count > known) {
            Err(LaneFault::Receipts)
        } else {
            Ok(())
        }
    }

    /// Certifies what a tip covers: what that adds, if it is anything new. `before` is the tip of the cut before.
    pub(super) fn certify(
        &mut self,
        height: Height,
        tip: &Tip,
        before: Option<&Tip>,
    ) -> Result<Option<LaneBatch>, LaneFault> {
        let after = before.map_or(Seqno::default(), |tip| tip.seqno);
        if height <= self.certified.height {
            return Ok(None);
        }
        let count = self.held.iter().take_while(|held| held.index <= tip.index).count();
        let Some(last) = count.checked_sub(1).and_then(|place| self.held.get(place)) else {
            return self.certify_known(height, tip, before);
        };
        if last.index != tip.index {
            let held = Seqno::new(self.end().size());
            return Err(LaneFault::Withheld { height, seqno: tip.seqno, held });
        }
        if last.hash != tip.chunk_hash || last.end != tip.seqno {
            return Err(LaneFault::OtherChunk { height, index: tip.index });
        }
        let covered: Vec<Held> = self.held.drain(..count).collect();
        let certified_after = Certified { height, seqno: tip.seqno, root: tip.lane_root };
        let branch = covered.last().map_or(self.branch, |held| held.branch);
        let tree = covered.last().map_or_else(|| self.tree.clone(), |held| held.tree.clone());
        let gone: usize = covered.iter().map(|held| held.size).sum();
        self.held_size = self.held_size.saturating_sub(gone);
        let batch = LaneBatch {
            lane: self.lane,
            start: after,
            end: tip.seqno,
            transactions: covered.into_iter().flat_map(|held| held.transactions).collect(),
            receipts: std::mem::take(&mut self.receipts),
            outcomes_after: self.outcomes_after,
            before: std::mem::replace(&mut self.tree, tree),
            branch,
            certified: self.certified,
            certified_after,
            older: self.older.clone(),
        };
        self.outcomes_after = tip.seqno.max(self.outcomes_after);
        self.certified = certified_after;
        self.branch = branch;
        self.snapshot = (after, tip.seqno);
        self.last = Some((tip.index, tip.chunk_hash, tip.term));
        self.older.retain(|older| older.seqno > tip.seqno);
        Ok(Some(batch).filter(|batch| batch.outcomes_after < batch.end))
    }

    /// A cut that covers nothing that came since the lane was resumed.
    fn certify_known(
        &mut self,
        height: Height,
        tip: &Tip,
        before: Option<&Tip>,
    ) -> Result<Option<LaneBatch>, LaneFault> {
        let unchanged = match before {
            Some(before) => before == tip,
            None => tip.index == 0,
        };
        let held = Seqno::new(self.tree.size());
        // A cursor that is ahead of the base in this lane has all of it already.
        let has_all = tip.seqno <= held && (unchanged || self.last.is_none());
        if !has_all {
            return Err(LaneFault::Withheld { height, seqno: tip.seqno, held });
        }
        if tip.seqno == held && self.tree.root() != tip.lane_root {
            return Err(LaneFault::Root { size: held });
        }
        if tip.seqno == held && self.held.is_empty() && tip.index > 0 {
            self.last = Some((tip.index, tip.chunk_hash, tip.term));
        }
        let certified = Certified { height, seqno: tip.seqno, root: tip.lane_root };
        let batch = LaneBatch {
            lane: self.lane,
            start: before.map_or(Seqno::default(), |tip| tip.seqno),
            end: tip.seqno,
            transactions: Vec::new(),
            receipts: std::mem::take(&mut self.receipts),
            outcomes_after: self.outcomes_after,
            before: self.tree.clone(),
            branch: self.branch,
            certified: self.certified,
            certified_after: certified,
            older: self.older.clone(),
        };
        self.outcomes_after = tip.seqno.max(self.outcomes_after);
        self.certified = certified;
        self.older.retain(|older| older.seqno > tip.seqno);
        Ok(Some(batch).filter(|batch| batch.outcomes_after < batch.end))
    }
}

/// The transactions of a chunk, with the leaves by which they stand in the lane's tree. Actions are hashed, not decoded.
fn read(header: &ChunkHeader, body: Vec<u8>) -> Result<Vec<Arc<Ordered>>, DecodeError> {
    let parts = split_body(&body, header.count)?;
    let sizes: Vec<usize> = parts.iter().map(|bytes| bytes.len()).collect();
    let parts = parts.into_iter().map(Undecoded::read).collect::<Result<Vec<_>, _>>()?;
    let actions = parts.iter().flat_map(|parts| parts.actions.iter());
    let encodings: Vec<&[u8]> = actions.map(|action| &**action).collect();
    let counts: Vec<usize> = parts.iter().map(|parts| parts.actions.len()).collect();
    let roots = merkle::roots(leaf_hashes(&encodings), &counts);
    let envelopes: Vec<Envelope> =
        parts.iter().zip(roots).map(|(parts, root)| parts.envelope(root)).collect();
    let leaves = names::envelope_leaves(&envelopes);
    let body = Arc::new(body);
    let (mut seqno, mut end) = (header.first_seqno, 0_usize);
    let ordered = sizes.into_iter().zip(leaves).map(|(size, leaf)| {
        // Each stands behind its length.
        let start = end.saturating_add(size_of::<u32>());
        end = start.saturating_add(size);
        let ordered = Ordered { seqno, body: Arc::clone(&body), place: start..end, leaf };
        seqno = seqno.next();
        Arc::new(ordered)
    });
    Ok(ordered.collect())
}

/// Whether a chunk is its sequencer's.
pub(super) fn check_signature(
    chain: &Hash,
    key: Option<(PublicKey, u64)>,
    chunk: &StoredChunk,
) -> Result<(), LaneFault> {
    let StoredChunk { header, signature, .. } = chunk;
    let holds = key.is_some_and(|(key, epoch)| {
        verify_tagged(&key, chain, epoch, Tag::Chunk, &header.to_bytes(), signature)
    });
    let fault = LaneFault::Signature { index: header.index, term: header.term };
    if holds { Ok(()) } else { Err(fault) }
}
