//! Reading what is committed, from any thread, while the writer appends.
//!
//! * R1 A reader sees a lane up to the tip in the last header appended.
//! * R2 Every byte handed out was checked: frame checksums, the body's digest, and for what is made of tree nodes the
//!   lane root that a sequencer signed.
//! * R3 Reading on from any seqno gives what reading from the beginning gives there.

use std::sync::{Arc, PoisonError, RwLock};

use quipu_crypto::merkle::{
    Frontier, consistency_path, frontier, inclusion_path, root_at, verify_consistency,
    verify_inclusion,
};
use quipu_crypto::{CacheCounts, Recent};
use quipu_types::chunk::split_body;
use quipu_types::{ChunkHeader, CommitCertificate, Hash, Header, Height, Lane, Seqno, Tip};

use crate::base::Before;
use crate::error::{Damage, LogError, Place};
use crate::handovers::read_handover;
use crate::headers::read_header;
use crate::journal::JournalReader;
use crate::lane::{LaneShared, RecentChunks, leaves_of};
use crate::record::{StoredChunk, TermRecord};

/// A cheap handle; clones share everything.
#[derive(Clone, Debug)]
pub struct LedgerReader {
    lanes: Arc<Vec<Arc<LaneShared>>>,
    headers: JournalReader,
    handovers: JournalReader,
    before: Arc<RwLock<Before>>,
    recent_headers: Arc<Recent<Height, Committed>>,
    recent_chunks: Arc<RecentChunks>,
}

/// A header and its certificate.
type Committed = Arc<(Header, CommitCertificate)>;

/// Headers that were read last: what a catch-up, a proof and a follower of the newest heights ask for again.
const RECENT_HEADER_COUNT: usize = 1_024;

impl LedgerReader {
    pub(crate) fn new(
        lanes: Vec<Arc<LaneShared>>,
        (headers, handovers): (&JournalReader, &JournalReader),
        before: Before,
        recent_chunks: Arc<RecentChunks>,
    ) -> Self {
        let recent_headers = Arc::new(Recent::new(RECENT_HEADER_COUNT));
        let (lanes, before) = (Arc::new(lanes), Arc::new(RwLock::new(before)));
        let (headers, handovers) = (headers.clone(), handovers.clone());
        Self { lanes, headers, handovers, before, recent_headers, recent_chunks }
    }

    /// What the headers before [`first_height`](Self::first_height) said.
    #[must_use]
    pub fn before(&self) -> Before {
        *self.before.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_before(&self, before: Before) {
        *self.before.write().unwrap_or_else(PoisonError::into_inner) = before;
    }

    /// How often headers and chunks were read, and were in memory.
    #[must_use]
    pub fn cache_counts(&self) -> [(&'static str, CacheCounts); 2] {
        [("headers", self.recent_headers.counts()), ("chunks", self.recent_chunks.counts())]
    }

    fn lane(&self, lane: Lane) -> Result<&Arc<LaneShared>, LogError> {
        self.lanes.get(usize::from(lane.get())).ok_or(LogError::NoLane { lane })
    }

    /// How many lanes there are.
    #[must_use]
    pub fn lane_count(&self) -> u16 {
        u16::try_from(self.lanes.len()).expect("the number of lanes came as a u16")
    }

    /// The last header's height; `0` when there is none.
    #[must_use]
    pub fn height(&self) -> Height {
        let (_, next) = self.headers.range();
        Height::new(next.saturating_sub(1))
    }

    /// The first height whose header is there; those below were pruned.
    #[must_use]
    pub fn first_height(&self) -> Height {
        Height::new(self.headers.range().0)
    }

    /// A lane's last transaction that was pruned; `0` where all are there.
    ///
    /// # Errors
    /// `NoLane`.
    pub fn pruned(&self, lane: Lane) -> Result<Seqno, LogError> {
        Ok(self.lane(lane)?.index().base.seqno)
    }

    /// The first height whose transactions are all there, with its header and the one before.
    ///
    /// # Errors
    /// What reading a header gives.
    pub fn first_whole_height(&self) -> Result<Height, LogError> {
        let (mut low, mut high) = (self.first_height(), self.height());
        let nothing_is_gone = self.lanes.iter().all(|lane| lane.index().base.index == 0);
        if nothing_is_gone && low == Height::new(1) {
            return Ok(low);
        }
        // The cut of the height before must reach each lane's base: cuts only grow.
        while low < high {
            let middle = Height::new(low.get().midpoint(high.get()));
            let (header, _) = self.header(middle)?;
            let reaches = |tip: &Tip| self.pruned(tip.lane).is_ok_and(|base| tip.seqno >= base);
            if header.cut.iter().all(reaches) {
                high = middle;
            } else {
                low = middle.next();
            }
        }
        Ok(low.next())
    }

    /// A header with its certificate.
    ///
    /// # Errors
    /// `NoHeight`, `HeightPruned`, and `Damaged` if its bytes are wrong.
    pub fn header(&self, height: Height) -> Result<(Header, CommitCertificate), LogError> {
        if let Some(committed) = self.recent_headers.get(&height) {
            return Ok(Arc::unwrap_or_clone(committed));
        }
        let committed = Arc::new(read_header(&self.headers, height)?);
        self.recent_headers.keep(height, Arc::clone(&committed), 1);
        Ok(Arc::unwrap_or_clone(committed))
    }

    /// The last header of an epoch, which carries the set of the next; `None` while it has not ended. Pruning keeps it.
    ///
    /// # Errors
    /// `Damaged` if its bytes are wrong.
    pub fn handover(&self, epoch: u64) -> Result<Option<(Header, CommitCertificate)>, LogError> {
        read_handover(&self.handovers, epoch, self.height())
    }

    /// A lane's committed tip: the end of what this reader sees.
    ///
    /// # Errors
    /// `NoLane`.
    pub fn tip(&self, lane: Lane) -> Result<Tip, LogError> {
        Ok(self.lane(lane)?.index().committed)
    }

    /// A lane's terms, oldest first.
    ///
    /// # Errors
    /// `NoLane`.
    pub fn failover_log(&self, lane: Lane) -> Result<Vec<TermRecord>, LogError> {
        Ok(self.lane(lane)?.index().terms.clone())
    }

    /// A committed chunk by index.
    ///
    /// # Errors
    /// `NoChunk`, and `Damaged` if its bytes are wrong.
    pub fn chunk(&self, lane: Lane, index: u64) -> Result<Arc<StoredChunk>, LogError> {
        self.lane(lane)?.committed_chunk(index)
    }

    /// Index of a lane's first chunk that is there.
    ///
    /// # Errors
    /// `NoLane`.
    pub fn first_chunk(&self, lane: Lane) -> Result<u64, LogError> {
        Ok(self.lane(lane)?.index().base.index.saturating_add(1))
    }

    /// The header of a committed chunk, or of the last one that was pruned.
    ///
    /// # Errors
    /// As [`LedgerReader::chunk`].
    pub fn chunk_header(&self, lane: Lane, index: u64) -> Result<ChunkHeader, LogError> {
        match self.lane(lane)?.base_header(index) {
            Some(header) => Ok(Arc::unwrap_or_clone(header)),
            None => Ok(self.chunk(lane, index)?.header.clone()),
        }
    }

    /// Index of the committed chunk that holds a transaction.
    ///
    /// # Errors
    /// `NoSeqno`, `SeqnoPruned`.
    pub fn chunk_index(&self, lane: Lane, seqno: Seqno) -> Result<u64, LogError> {
        let index = self.lane(lane)?.index();
        let horizon = index.base.seqno;
        if (Seqno::new(1)..=horizon).contains(&seqno) {
            return Err(LogError::SeqnoPruned { lane, seqno, horizon });
        }
        let chunk = index.chunk_of(seqno.get()).filter(|_| seqno <= index.committed.seqno);
        chunk.ok_or(LogError::NoSeqno { lane, seqno })
    }

    /// The committed chunk that holds a transaction.
    ///
    /// # Errors
    /// `NoSeqno`, and `Damaged` if its bytes are wrong.
    pub fn chunk_at(&self, lane: Lane, seqno: Seqno) -> Result<Arc<StoredChunk>, LogError> {
        self.chunk(lane, self.chunk_index(lane, seqno)?)
    }

    /// A transaction's bytes.
    ///
    /// # Errors
    /// `NoSeqno`, and `Damaged` if its bytes are wrong.
    pub fn transaction(&self, lane: Lane, seqno: Seqno) -> Result<Vec<u8>, LogError> {
        self.read_from(lane, seqno)?
            .next()
            .unwrap_or(Err(LogError::NoSeqno { lane, seqno }))
            .map(|(_, bytes)| bytes)
    }

    /// Transactions from `seqno` (`0` reads as `1`) to the committed tip, which moves while one reads (R3).
    ///
    /// # Errors
    /// `NoLane`.
    pub fn read_from(&self, lane: Lane, seqno: Seqno) -> Result<Transactions, LogError> {
        Ok(Transactions {
            lane: Arc::clone(self.lane(lane)?),
            next: seqno.max(Seqno::new(1)),
            body: Vec::new(),
            at: 0,
            failed: false,
        })
    }

    /// Siblings from the leaf of `seqno` to the root of the lane's first `size` transactions, lowest first.
    ///
    /// # Errors
    /// `NoSeqno` for what is not there, `Damaged` if the nodes do not lead to the signed root.
    pub fn inclusion_path(
        &self,
        lane: Lane,
        seqno: Seqno,
        size: Seqno,
    ) -> Result<Vec<Hash>, LogError> {
        let root = self.root_at(lane, size)?;
        if seqno > size {
            return Err(LogError::NoSeqno { lane, seqno });
        }
        let chunk = self.chunk_at(lane, seqno)?;
        let tree = &self.lane(lane)?.tree;
        let place = seqno.get().checked_sub(1).ok_or(LogError::NoSeqno { lane, seqno })?;
        let path = inclusion_path(tree, place, size.get())?;
        let within = seqno.get().saturating_sub(chunk.header.first_seqno.get());
        let leaves = leaves_of(&chunk).map_err(|reason| {
            self.damaged_chunk(lane, chunk.header.index, Damage::Malformed { reason })
        })?;
        let leaf = usize::try_from(within).ok().and_then(|within| leaves.get(within));
        let leaf = leaf.ok_or(LogError::NoSeqno { lane, seqno })?;
        verify_inclusion(leaf, place, size.get(), &path, &root)
            .map_err(|_| self.damaged_tree(lane))?;
        Ok(path)
    }

    /// The nodes that show that the first `old_size` transactions are unchanged among the first `new_size`.
    ///
    /// # Errors
    /// `NoSeqno` for what is not there, `Damaged` if the nodes do not lead to the signed roots.
    pub fn consistency_path(
        &self,
        lane: Lane,
        old_size: Seqno,
        new_size: Seqno,
    ) -> Result<Vec<Hash>, LogError> {
        if old_size > new_size {
            return Err(LogError::NoSeqno { lane, seqno: old_size });
        }
        let (old, new) = (self.root_at(lane, old_size)?, self.root_at(lane, new_size)?);
        let path = consistency_path(&self.lane(lane)?.tree, old_size.get(), new_size.get())?;
        verify_consistency(old_size.get(), &old, new_size.get(), &new, &path)
            .map_err(|_| self.damaged_tree(lane))?;
        Ok(path)
    }

    /// Root of the lane's first `size` transactions, `0` included.
    ///
    /// # Errors
    /// `NoSeqno` for what is not there, `Damaged` if the nodes do not lead to the signed root.
    pub fn root_at(&self, lane: Lane, size: Seqno) -> Result<Hash, LogError> {
        let tree = &self.lane(lane)?.tree;
        if size.get() == 0 {
            return root_at(tree, 0);
        }
        let base = self.lane(lane)?.index().base;
        if size == base.seqno {
            let root = root_at(tree, size.get())?;
            return if root == base.lane_root { Ok(root) } else { Err(self.damaged_tree(lane)) };
        }
        // The chunk that holds the last of them has signed the root at its own end.
        let chunk = self.chunk_at(lane, size)?;
        let header = &chunk.header;
        let root = root_at(tree, size.get())?;
        let end = header.last_seqno().get();
        let path = consistency_path(tree, size.get(), end)?;
        verify_consistency(size.get(), &root, end, &header.lane_root, &path)
            .map_err(|_| self.damaged_tree(lane))?;
        Ok(root)
    }

    /// The tree over the lane's first `size` transactions, `0` included: what one needs to go on with it.
    ///
    /// # Errors
    /// As [`Self::root_at`].
    pub fn frontier(&self, lane: Lane, size: Seqno) -> Result<Frontier, LogError> {
        let frontier = frontier(&self.lane(lane)?.tree, size.get())?;
        let root = self.root_at(lane, size)?;
        if frontier.root() == root { Ok(frontier) } else { Err(self.damaged_tree(lane)) }
    }

    fn damaged_tree(&self, lane: Lane) -> LogError {
        let path = self.lane(lane).map(|lane| lane.tree.path.clone()).unwrap_or_default();
        LogError::damaged(&path, 0, Place::File, Damage::Node)
    }

    fn damaged_chunk(&self, lane: Lane, index: u64, damage: Damage) -> LogError {
        match self.lane(lane) {
            Ok(shared) => shared.damaged(index, damage),
            Err(error) => error,
        }
    }
}

/// Iterator over `(seqno, bytes)`; ends at the committed tip, and goes on when asked again after it moved.
#[derive(Debug)]
pub struct Transactions {
    lane: Arc<LaneShared>,
    next: Seqno,
    /// The chunk that `next` is in, as far as it was read.
    body: Vec<Vec<u8>>,
    at: usize,
    failed: bool,
}

impl Transactions {
    /// Seqno of what comes next.
    #[must_use]
    pub fn position(&self) -> Seqno {
        self.next
    }

    /// Reads the chunk that `next` is in; `false` at the committed tip.
    fn load(&mut self) -> Result<bool, LogError> {
        let chunk = {
            let index = self.lane.index();
            let (lane, seqno, horizon) = (index.lane, self.next, index.base.seqno);
            if seqno <= horizon {
                return Err(LogError::SeqnoPruned { lane, seqno, horizon });
            }
            let wanted = seqno.get();
            index.chunk_of(wanted).filter(|_| self.next <= index.committed.seqno)
        };
        let Some(index) = chunk else { return Ok(false) };
        let chunk = self.lane.committed_chunk(index)?;
        let transactions = split_body(&chunk.body, chunk.header.count)
            .map_err(|reason| self.lane.damaged(index, Damage::Malformed { reason }))?;
        let skip = self.next.get().saturating_sub(chunk.header.first_seqno.get());
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        self.body = transactions.into_iter().skip(skip).map(<[u8]>::to_vec).collect();
        self.at = 0;
        Ok(!self.body.is_empty())
    }
}

impl Iterator for Transactions {
    type Item = Result<(Seqno, Vec<u8>), LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.body.len() {
            if self.failed {
                return None;
            }
            match self.load() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        let bytes = std::mem::take(self.body.get_mut(self.at)?);
        self.at = self.at.saturating_add(1);
        let seqno = self.next;
        self.next = seqno.next();
        Some(Ok((seqno, bytes)))
    }
}
