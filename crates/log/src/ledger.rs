//! All of a validator's durable bytes, opened and synced together.
//!
//! ```text
//!  append_chunk ─> lanes/00/…log ──┐
//!  append_term  ─> lanes/07/…log ──┤ fdatasync each ──> append_wal's records: write, fdatasync ──> durable
//!  append_header ─> headers/…log ──┘ (only what was touched)
//! ```
//! # Invariants
//! * G1 A record of the write-ahead log that is found after a crash was written after everything that was appended
//!   before the sync it belongs to was durable.
//! * G2 What is returned by [`Ledger::open`] is what stays: whatever a crash left is cut or made durable before.
//! * G3 Readers see a lane up to the tip in the last header appended, never beyond; no committed chunk is ever voided.
//! * G4 An append that fails leaves nothing behind, not even after a restart, if the error is `Full`.
//! * G5 What was pruned stays known as far as what is left needs it: its [`base`](crate::base).

use std::sync::Arc;

use quipu_crypto::merkle::Frontier;
use quipu_types::{ChunkHeader, CommitCertificate, Hash, Header, Height, Lane, Seqno, Tip};

use crate::base::{BASE, Base, Before, Beginning, LaneBase};
use crate::disk::Disk;
use crate::error::{Finding, LogError};
use crate::handovers::Handovers;
use crate::headers::{HEADERS, HeaderLog};
use crate::journal::JournalSync;
use crate::lane::{LaneLog, RecentChunks};
use crate::reader::LedgerReader;
use crate::record::{StoredChunk, TermRecord, WalRecord};
use crate::tree::TreeSync;
use crate::wal::{AHEAD_MAX, Wal, WalSync, headers_short};

/// How files are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerConfig {
    /// Lanes of the ledger (genesis).
    pub lane_count: u16,
    /// Bytes of a segment, 4 KiB to 1 GiB; a record that is larger has a segment of its own.
    pub segment_size: u64,
    /// Bytes of a segment of the write-ahead log.
    pub wal_segment_size: u64,
    /// Bytes of committed chunks that are kept in memory for whoever reads them next.
    pub chunk_cache_size: usize,
}

impl LedgerConfig {
    /// Segments of 16 MiB, 4 MiB in the write-ahead log, 16 MiB of chunks in memory.
    #[must_use]
    pub const fn new(lane_count: u16) -> Self {
        let (segment_size, chunk_cache_size) = (16 << 20, 16 << 20);
        Self { lane_count, segment_size, wal_segment_size: 4 << 20, chunk_cache_size }
    }
}

/// What was found when a ledger was opened.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Per lane its last chunk, committed or not. `index` 0 where there is none.
    pub tips: Vec<Tip>,
    /// Per lane the tree up to its tip.
    pub frontiers: Vec<Frontier>,
    /// Per lane its failover log, oldest first.
    pub terms: Vec<Vec<TermRecord>>,
    /// The last header stored. One that was committed just before a crash may be missing, though the
    /// write-ahead log has its votes: the replica derives it again.
    pub committed: Option<(Header, CommitCertificate)>,
    /// The write-ahead log, oldest first.
    pub wal: Vec<WalRecord>,
    /// Torn tails that were cut.
    pub torn: Vec<Finding>,
}

/// The writer's side. One a directory (the caller holds a lock); readers come from [`Ledger::reader`].
#[derive(Debug)]
pub struct Ledger {
    disk: Arc<dyn Disk>,
    chain: Hash,
    lanes: Vec<LaneLog>,
    headers: HeaderLog,
    handovers: Handovers,
    wal: Wal,
    reader: LedgerReader,
}

/// Files to be made durable, to be run anywhere while the writer goes on appending.
///
/// A group that is dropped without having run loses records of the write-ahead log: the process must stop then.
#[derive(Debug)]
#[must_use = "records of the write-ahead log are lost with it"]
pub struct SyncGroup {
    lanes: Vec<(usize, JournalSync)>,
    headers: JournalSync,
    trees: Vec<TreeSync>,
    wal: WalSync,
}

impl Ledger {
    /// Opens, or makes, the ledger of `chain` in `disk`, and recovers what a crash left: torn tails are cut, trees
    /// mended, the lanes compared with the last header.
    ///
    /// # Errors
    /// `Damaged` names the first place at which stored bytes are wrong; nothing was changed behind it.
    pub fn open(
        disk: Arc<dyn Disk>,
        chain: Hash,
        config: LedgerConfig,
    ) -> Result<(Self, Recovered), LogError> {
        let mut torn = Vec::new();
        let base = Base::read(disk.as_ref(), &chain, config.lane_count)?;
        let before = base.before;
        let (headers, committed, cut) =
            HeaderLog::open(&disk, chain, config.segment_size, base.first_height)?;
        torn.extend(cut);
        let handovers = Handovers::open(&disk, &chain, config.wal_segment_size)?;
        let mut lanes = Vec::new();
        let recent = Arc::new(RecentChunks::new(config.chunk_cache_size));
        for (lane, base) in (0..config.lane_count).map(Lane::new).zip(base.lanes) {
            let (mut log, cut) =
                LaneLog::open(&disk, chain, lane, config.segment_size, base, &recent)?;
            torn.extend(cut);
            let tip = committed.as_ref().and_then(|(header, _)| {
                let tip = header.cut.iter().find(|tip| tip.lane == lane)?;
                Some((header.height, *tip))
            });
            log.settle(tip)?;
            lanes.push(log);
        }
        let (wal, records, cut) = Wal::open(&disk, chain, config.wal_segment_size)?;
        torn.extend(cut);
        let height = committed.as_ref().map_or(Height::new(0), |(header, _)| header.height);
        let ahead = records.iter().map(|record| record.height).max();
        if let Some(finding) = ahead.and_then(|ahead| headers_short(height, ahead)) {
            return Err(LogError::Damaged(Box::new(finding)));
        }
        let shared = lanes.iter().map(|lane| Arc::clone(lane.shared())).collect();
        let reader =
            LedgerReader::new(shared, (headers.reader(), handovers.reader()), before, recent);
        let recovered = Recovered {
            tips: lanes.iter().map(LaneLog::tip).collect(),
            frontiers: lanes.iter().map(|lane| lane.frontier().clone()).collect(),
            terms: lanes.iter().map(LaneLog::terms).collect(),
            committed,
            wal: records,
            torn,
        };
        Ok((Self { disk, chain, lanes, headers, handovers, wal, reader }, recovered))
    }

    /// Makes a ledger that does not begin at the genesis, in a directory where there is none: it is there once this has
    /// succeeded, and is then [opened](Ledger::open). The caller has checked what it begins with.
    ///
    /// # Errors
    /// `Begun` where there is one, `Beginning` if the parts are not of one place, and what the medium gives.
    pub fn begin_with(
        disk: &Arc<dyn Disk>,
        chain: Hash,
        config: LedgerConfig,
        beginning: Beginning,
    ) -> Result<(), LogError> {
        if disk.list(BASE).is_ok() || disk.list(HEADERS).is_ok() {
            return Err(LogError::Begun);
        }
        if let Some(part) = beginning.fault(config.lane_count) {
            return Err(LogError::Beginning { part });
        }
        let Beginning { header, certificate, before, handovers, lanes } = beginning;
        let mut kept = Handovers::open(disk, &chain, config.wal_segment_size)?;
        for (header, certificate) in &handovers {
            kept.keep(header, certificate)?;
        }
        HeaderLog::begin(disk, chain, config.segment_size, &header, &certificate)?;
        Base { first_height: header.height, before, lanes }.write(disk, &chain)
    }

    /// The first header that stays when those below `height` may go: segments go whole.
    #[must_use]
    pub fn first_kept(&self, height: Height) -> Height {
        self.headers.first_kept(height)
    }

    /// Lets go what no header of `height` or above needs: chunks up to that one's cut, and the headers below
    /// [`first_kept`](Ledger::first_kept), as far as whole segments hold nothing else. `before` is what those headers said. Proofs of
    /// what comes after stay possible.
    ///
    /// # Errors
    /// `NoHeight`, and what the medium gives: after a failure that is not [`fatal`](LogError::is_fatal) everything is there, or the next
    /// opening finishes it.
    pub fn prune(&mut self, height: Height, before: Before) -> Result<(), LogError> {
        let (header, _) = self.reader.header(height)?;
        let mut bases = Vec::with_capacity(self.lanes.len());
        for (lane, log) in (0..).map(Lane::new).zip(&self.lanes) {
            let tip = header.cut.iter().find(|tip| tip.lane == lane);
            bases.push(log.base_after(tip.map_or(0, |tip| tip.index))?);
        }
        let first_height = self.headers.first_kept(height);
        let goes = |(log, base): (&LaneLog, &LaneBase)| log.goes_before(base);
        if first_height == self.reader.first_height() && !self.lanes.iter().zip(&bases).any(goes) {
            return Ok(());
        }
        let base = Base { first_height, before, lanes: bases };
        base.write(&self.disk, &self.chain)?;
        self.reader.set_before(before);
        for (log, base) in self.lanes.iter_mut().zip(base.lanes) {
            log.prune(base)?;
        }
        self.headers.prune(first_height)
    }

    fn lane(&self, lane: Lane) -> Result<&LaneLog, LogError> {
        self.lanes.get(usize::from(lane.get())).ok_or(LogError::NoLane { lane })
    }

    fn lane_mut(&mut self, lane: Lane) -> Result<&mut LaneLog, LogError> {
        self.lanes.get_mut(usize::from(lane.get())).ok_or(LogError::NoLane { lane })
    }

    /// Appends a chunk to its lane with one write; `leaves` are the leaf hashes of its transactions. Durable after
    /// the next sync; readers see it once a header that covers it is appended. The new tip.
    ///
    /// # Errors
    /// `DoesNotLink` and `Full` leave everything as it was.
    pub fn append_chunk(&mut self, chunk: &StoredChunk, leaves: &[Hash]) -> Result<Tip, LogError> {
        self.lane_mut(chunk.header.lane)?.append_chunk(chunk, leaves)
    }

    /// Begins a term in its lane. A lane's first chunk needs a term before it.
    ///
    /// # Errors
    /// `TermDoesNotLink` and `Full` leave everything as it was.
    pub fn append_term(&mut self, term: &TermRecord) -> Result<(), LogError> {
        self.lane_mut(term.lane)?.append_term(term)
    }

    /// Voids what follows chunk `index` of a lane, which must not be below the last committed one. The new tip.
    ///
    /// # Errors
    /// `Committed` and `NoChunk` leave everything as it was.
    pub fn truncate_after(&mut self, lane: Lane, index: u64) -> Result<Tip, LogError> {
        self.lane_mut(lane)?.truncate_after(index)
    }

    /// Adds a record about `height` to the write-ahead log: written and durable with the next sync, after
    /// everything else that the sync covers (G1). `height` is at most two above the last header's: that is how a later
    /// opening knows that headers are missing.
    ///
    /// # Errors
    /// `Full` and `TooFarAhead` leave everything as it was.
    pub fn append_wal(&mut self, height: Height, bytes: &[u8]) -> Result<(), LogError> {
        if height.get() > self.reader.height().get().saturating_add(AHEAD_MAX) {
            return Err(LogError::TooFarAhead { height });
        }
        self.wal.append(height, bytes)
    }

    /// Consensus begins `height`: records of heights below `height - 1` are dropped, a segment at a time, once
    /// the next sync is done. What must outlive them (last acks) is appended again by the caller after this call.
    ///
    /// # Errors
    /// `Full` when there is no room for a new segment.
    pub fn begin(&mut self, height: Height) -> Result<(), LogError> {
        self.wal.begin(height)
    }

    /// Appends the next header and lets readers see what its cut covers. Durable with the next sync.
    ///
    /// # Errors
    /// `HeaderDoesNotLink` if it is not the next of the chain, its cut names chunks that are not here, or it ends an epoch
    /// before which another did not end.
    pub fn append_header(
        &mut self,
        header: &Header,
        certificate: &CommitCertificate,
    ) -> Result<(), LogError> {
        let held = header.cut.iter().all(|tip| {
            self.lane(tip.lane)
                .is_ok_and(|lane| lane.holds(tip) && lane.committed().index <= tip.index)
        });
        if !held || !self.headers.links(header, certificate) {
            return Err(LogError::HeaderDoesNotLink { height: header.height });
        }
        if header.next_set.is_some() {
            self.handovers.keep(header, certificate)?;
        }
        self.headers.append(header, certificate)?;
        for tip in &header.cut {
            self.lane_mut(tip.lane)?.publish(tip);
        }
        Ok(())
    }

    /// Makes all that was appended durable: lanes and headers, then the write-ahead log.
    ///
    /// # Errors
    /// After any error here the process must stop and recover: what was to become durable may be lost.
    pub fn sync(&mut self) -> Result<(), LogError> {
        let group = self.take_sync();
        group.run()?;
        self.synced(group)
    }

    /// What [`Ledger::sync`] would do, to be done by another thread. Groups are run in the order in which they are
    /// taken, one at a time.
    pub fn take_sync(&mut self) -> SyncGroup {
        self.take(false)
    }

    fn take(&mut self, mark_trees: bool) -> SyncGroup {
        let mut trees = Vec::new();
        let mut lanes = Vec::new();
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            let (sync, tree) = lane.take_sync(mark_trees);
            trees.extend(tree);
            if !sync.is_empty() {
                lanes.push((at, sync));
            }
        }
        let (headers, wal) = (self.headers.take_sync(), self.wal.take_sync());
        SyncGroup { lanes, headers, trees, wal }
    }

    /// Takes note that a group's [`SyncGroup::run`] has succeeded.
    ///
    /// # Errors
    /// If old segments of the write-ahead log cannot be removed.
    pub fn synced(&mut self, group: SyncGroup) -> Result<(), LogError> {
        for (at, sync) in &group.lanes {
            if let Some(lane) = self.lanes.get_mut(*at) {
                lane.synced(sync.upto);
            }
        }
        self.headers.synced(group.headers.upto);
        self.wal.synced(&group.wal)
    }

    /// Syncs everything, the trees too, so that the next opening has nothing to hash again.
    ///
    /// # Errors
    /// As [`Ledger::sync`].
    pub fn close(mut self) -> Result<(), LogError> {
        let group = self.take(true);
        group.run()?;
        for tree in &group.trees {
            crate::journal::sync_file(&tree.tree.path, tree.tree.file.as_ref())?;
        }
        self.synced(group)
    }

    /// A lane's last chunk, committed or not.
    ///
    /// # Errors
    /// `NoLane`.
    pub fn tip(&self, lane: Lane) -> Result<Tip, LogError> {
        self.lane(lane).map(LaneLog::tip)
    }

    /// A chunk of a lane, committed or not.
    ///
    /// # Errors
    /// `NoChunk`, and `Damaged` if its bytes are wrong.
    pub fn chunk(&self, lane: Lane, index: u64) -> Result<StoredChunk, LogError> {
        let lane = self.lane(lane)?.shared();
        if index <= lane.index().committed.index {
            lane.committed_chunk(index).map(Arc::unwrap_or_clone)
        } else {
            lane.chunk(index)
        }
    }

    /// The header of a chunk of a lane, committed or not, or of the last one that was pruned.
    ///
    /// # Errors
    /// As [`Ledger::chunk`].
    pub fn chunk_header(&self, lane: Lane, index: u64) -> Result<ChunkHeader, LogError> {
        match self.lane(lane)?.shared().base_header(index) {
            Some(header) => Ok(Arc::unwrap_or_clone(header)),
            None => Ok(self.chunk(lane, index)?.header),
        }
    }

    /// A lane's tree at its transaction `seqno`, read back from its nodes.
    ///
    /// # Errors
    /// `NoLane`, and what reading gives.
    pub fn frontier(&self, lane: Lane, seqno: Seqno) -> Result<Frontier, LogError> {
        quipu_crypto::merkle::frontier(&self.lane(lane)?.shared().tree, seqno.get())
    }

    /// A reader of what is committed, for any thread.
    #[must_use]
    pub fn reader(&self) -> LedgerReader {
        self.reader.clone()
    }
}

impl SyncGroup {
    /// Whether there is nothing to make durable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
            && self.headers.is_empty()
            && self.trees.is_empty()
            && self.wal.journal.is_empty()
    }

    /// Syncs: lanes and headers, then the write-ahead log (G1).
    ///
    /// # Errors
    /// After any error the process must stop and recover.
    pub fn run(&self) -> Result<(), LogError> {
        for (_, lane) in &self.lanes {
            lane.run()?;
        }
        self.headers.run()?;
        for tree in &self.trees {
            tree.run()?;
        }
        self.wal.journal.run()
    }
}
