//! One lane: its chunks and terms in a journal, an index by seqno and by chunk, the tree beside it.
//!
//! ```text
//!  record   1 term   2 chunk 1   3 chunk 2   4 chunk 3   5 cut to 2   6 term   7 chunk 3'   …
//!  index      │        (1, 2)     (6, 3)       void                     │       (9, 7)
//!             └─ failover log ──────────────────────────────────────────┘     (first seqno, record)
//! ```
//! * L1 A chunk is appended only if it continues the tip: index, seqno, term, `prev`, and the lane root that its
//!   leaves give.
//! * L2 Nothing is ever taken back on the medium: a **cut** record voids the chunks after it, which stay as evidence, so
//!   there is no moment at which a crash could leave half a cut.
//! * L3 A chunk that is read has its frame's checksum, its place and its body's digest right.
//! * L4 A lane that was pruned goes on from its `base`: indices and seqnos stay what they are.
//!
//! Memory: 16 bytes a chunk and 4 a record: 20 MB for a million chunks, which are 83 minutes of 5 ms chunks.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "indices and seqnos are dense and start at 1, far below 2^64"
)]

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use quipu_crypto::Recent;
use quipu_crypto::hash::blake3;
use quipu_crypto::merkle::{Frontier, empty_root, frontier, node_count};
use quipu_proof::names::{self, WithActions};
use quipu_proof::order::tip_after;
use quipu_types::chunk::split_body;
use quipu_types::{
    ChunkHeader, Decode, DecodeError, Encode, Hash, Lane, Reader, Seqno, Term, Tip, Transaction,
};

use crate::base::LaneBase;
use crate::disk::Disk;
use crate::error::{Damage, Finding, LogError, Place};
use crate::frame::Seed;
use crate::journal::{Journal, JournalReader, JournalSpec, JournalSync};
use crate::record::{CHUNK, CUT, StoredChunk, TERM, TermRecord};
use crate::tree::{MARK_LEAVES, Mark, Tree, TreeSync, lane_directory};

/// Bytes of a chunk record that the index needs: kind, lane, term, branch, index, first seqno, count.
const PREFIX_SIZE: u64 = 1 + 2 + 8 + 32 + 8 + 8 + 4;

/// Tag of a lane's journal.
pub(crate) fn lane_tag(lane: Lane) -> u64 {
    0x0100 | (u64::from(lane.get()) << 16)
}

/// Where a chunk stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkPlace {
    pub(crate) first_seqno: u64,
    pub(crate) record: u64,
}

/// A lane's index; the chunk behind the base stands at `0`.
#[derive(Clone, Debug)]
pub(crate) struct LaneIndex {
    pub(crate) lane: Lane,
    /// The last chunk that was pruned, and its header.
    pub(crate) base: Tip,
    base_header: Option<Arc<ChunkHeader>>,
    pub(crate) chunks: Vec<ChunkPlace>,
    pub(crate) last_seqno: u64,
    pub(crate) terms: Vec<TermRecord>,
    /// What readers may see.
    pub(crate) committed: Tip,
}

/// What the writer and the readers of a lane share.
#[derive(Debug)]
pub(crate) struct LaneShared {
    pub(crate) lane: Lane,
    pub(crate) journal: JournalReader,
    pub(crate) tree: Tree,
    index: RwLock<LaneIndex>,
    recent: Arc<RecentChunks>,
}

/// Committed chunks that were read last, of all lanes; what is committed never changes.
pub(crate) type RecentChunks = Recent<(Lane, u64), Arc<StoredChunk>>;

/// The writer's side of a lane.
#[derive(Debug)]
pub(crate) struct LaneLog {
    chain: Hash,
    journal: Journal,
    shared: Arc<LaneShared>,
    base: LaneBase,
    frontier: Frontier,
    /// The last committed tip, then every tip above it.
    tips: VecDeque<Tip>,
    mark: Mark,
    nodes: Vec<u8>,
}

/// The tip of a lane in which nothing is.
pub(crate) fn empty_tip(lane: Lane) -> Tip {
    Tip {
        lane,
        term: Term::default(),
        index: 0,
        seqno: Seqno::default(),
        lane_root: empty_root(),
        chunk_hash: Hash::ZERO,
    }
}

/// The tip that a chunk makes.
pub(crate) fn tip_of(header: &ChunkHeader) -> Tip {
    tip_after(header, names::chunk_hash(header))
}

/// Leaf hashes of a chunk's transactions.
pub fn leaves_of(chunk: &StoredChunk) -> Result<Vec<Hash>, DecodeError> {
    let transactions = split_body(&chunk.body, chunk.header.count)?
        .into_iter()
        .map(Transaction::from_bytes_with_actions)
        .collect::<Result<Vec<_>, _>>()?;
    let parts: Vec<WithActions<'_>> = transactions
        .iter()
        .map(|(transaction, actions)| (transaction, actions.as_slice()))
        .collect();
    Ok(names::envelope_leaves(&names::envelopes(&parts)))
}

/// The field of `header` that does not continue `tip` in the term `term`.
pub(crate) fn link_fault(
    tip: &Tip,
    term: Option<&TermRecord>,
    header: &ChunkHeader,
) -> Option<&'static str> {
    let Some(term) = term else { return Some("term") };
    let prev = if tip.index > 0 && tip.term == header.term {
        tip.chunk_hash
    } else {
        names::term_start(&header.branch, &tip.chunk_hash)
    };
    let checks = [
        (header.lane == tip.lane, "lane"),
        (header.index == tip.index + 1, "index"),
        (header.first_seqno == tip.seqno.next(), "first_seqno"),
        (header.term == term.term, "term"),
        (header.branch == term.branch, "branch"),
        (header.prev == prev, "prev"),
    ];
    checks.into_iter().find(|(right, _)| !right).map(|(_, field)| field)
}

impl LaneIndex {
    /// What the base knows.
    fn new(lane: Lane, base: &LaneBase) -> Self {
        let tip = base.tip(lane);
        let mut index = Self {
            lane,
            base: tip,
            base_header: base.header.clone().map(Arc::new),
            chunks: Vec::new(),
            last_seqno: tip.seqno.get(),
            terms: base.terms.clone(),
            committed: tip,
        };
        for last_seqno in &base.ghosts {
            index.chunks.push(ChunkPlace { first_seqno: index.last_seqno + 1, record: 0 });
            index.last_seqno = *last_seqno;
        }
        index
    }

    /// Rebuilds the index from a journal's records: as they left it, or as those before `until` had.
    fn build(
        lane: Lane,
        base: &LaneBase,
        journal: &JournalReader,
        until: Option<u64>,
    ) -> Result<Self, LogError> {
        let mut index = Self::new(lane, base);
        let (first, next) = journal.range();
        for record in first..until.unwrap_or(next) {
            let prefix = journal.prefix(record, PREFIX_SIZE)?;
            if let Err(damage) = index.add(record, &prefix, journal)? {
                return Err(journal.damaged(record, index.end_place(), damage));
            }
        }
        Ok(index)
    }

    /// Index of the last chunk.
    fn last(&self) -> u64 {
        self.base.index + u64::try_from(self.chunks.len()).expect("counts fit 64 bits")
    }

    /// What follows the last chunk.
    pub(crate) fn end_place(&self) -> Place {
        Place::Chunk {
            lane: self.lane,
            index: self.last() + 1,
            seqno: Seqno::new(self.last_seqno + 1),
        }
    }

    /// Adds a record by its first bytes.
    pub(crate) fn add(
        &mut self,
        record: u64,
        prefix: &[u8],
        journal: &JournalReader,
    ) -> Result<Result<(), Damage>, LogError> {
        let malformed = |reason| Damage::Malformed { reason };
        Ok(match prefix.first() {
            Some(&CHUNK) => self.add_chunk(record, prefix),
            Some(&TERM) => {
                let bytes = journal.read(record)?;
                let term = TermRecord::from_bytes(bytes.get(1..).unwrap_or_default());
                term.map_err(malformed).and_then(|term| self.add_term(term))
            }
            Some(&CUT) => {
                let bytes = journal.read(record)?;
                let mut reader = Reader::new(bytes.get(1..).unwrap_or_default());
                let index = reader.u64().and_then(|index| reader.end().map(|()| index));
                index.map_err(malformed).and_then(|index| self.cut(index))
            }
            tag => {
                let tag = u64::from(tag.copied().unwrap_or_default());
                Err(malformed(DecodeError::Tag { what: "lane record", tag }))
            }
        })
    }

    fn add_chunk(&mut self, record: u64, prefix: &[u8]) -> Result<(), Damage> {
        let read = || -> Result<_, DecodeError> {
            let mut reader = Reader::new(prefix.get(1..).unwrap_or_default());
            let lane = Lane::decode(&mut reader)?;
            reader.take(8 + 32)?;
            Ok((lane, reader.u64()?, reader.u64()?, reader.u32()?))
        };
        let (lane, index, first_seqno, count) =
            read().map_err(|reason| Damage::Malformed { reason })?;
        let next = self.last() + 1;
        let end = first_seqno.checked_add(u64::from(count));
        let checks = [
            (lane == self.lane, "lane"),
            (index == next, "index"),
            (first_seqno == self.last_seqno + 1 && end.is_some(), "first_seqno"),
        ];
        if let Some((_, field)) = checks.into_iter().find(|(right, _)| !right) {
            return Err(Damage::Link { field });
        }
        self.chunks.push(ChunkPlace { first_seqno, record });
        self.last_seqno += u64::from(count);
        Ok(())
    }

    fn term_fault(&self, term: &TermRecord) -> Option<&'static str> {
        let last = self.terms.last().map_or(0, |last| last.term.get());
        let checks = [
            (term.lane == self.lane, "lane"),
            (term.term.get() > last, "term"),
            (term.first_seqno.get() == self.last_seqno + 1, "first_seqno"),
        ];
        checks.into_iter().find(|(right, _)| !right).map(|(_, field)| field)
    }

    fn add_term(&mut self, term: TermRecord) -> Result<(), Damage> {
        match self.term_fault(&term) {
            Some(field) => Err(Damage::Link { field }),
            None => {
                self.terms.push(term);
                Ok(())
            }
        }
    }

    fn cut(&mut self, index: u64) -> Result<(), Damage> {
        let keep = index.checked_sub(self.base.index).and_then(|keep| usize::try_from(keep).ok());
        let keep = keep.filter(|keep| *keep <= self.chunks.len());
        let keep = keep.ok_or(Damage::Link { field: "cut" })?;
        if let Some(void) = self.chunks.get(keep) {
            self.last_seqno = void.first_seqno - 1;
        }
        self.chunks.truncate(keep);
        // A term that began in what is void began nowhere.
        self.terms.retain(|term| term.first_seqno.get() <= self.last_seqno + 1);
        Ok(())
    }

    pub(crate) fn place(&self, index: u64) -> Option<ChunkPlace> {
        let at = usize::try_from(index.checked_sub(self.base.index + 1)?).ok()?;
        self.chunks.get(at).copied()
    }

    /// Index of the chunk that holds `seqno`.
    pub(crate) fn chunk_of(&self, seqno: u64) -> Option<u64> {
        let reached = (self.base.seqno.get() + 1..=self.last_seqno).contains(&seqno);
        let count = self.chunks.partition_point(|chunk| chunk.first_seqno <= seqno);
        u64::try_from(count).ok().filter(|_| reached).map(|count| self.base.index + count)
    }

    /// The term that a chunk beginning at `first_seqno` is in.
    pub(crate) fn term_of(&self, term: Term) -> Option<&TermRecord> {
        self.terms.iter().rev().find(|record| record.term == term)
    }
}

impl LaneShared {
    pub(crate) fn new(
        journal: JournalReader,
        tree: Tree,
        index: LaneIndex,
        recent: Arc<RecentChunks>,
    ) -> Self {
        Self { lane: index.lane, journal, tree, index: RwLock::new(index), recent }
    }

    pub(crate) fn index(&self) -> RwLockReadGuard<'_, LaneIndex> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_mut(&self) -> RwLockWriteGuard<'_, LaneIndex> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A chunk by index (L3).
    pub(crate) fn chunk(&self, index: u64) -> Result<StoredChunk, LogError> {
        let place = self.index().place(index);
        let absent = || self.pruned(index).unwrap_or(LogError::NoChunk { lane: self.lane, index });
        let place = place.ok_or_else(absent)?;
        let read = Self::read_chunk(self.lane, &self.journal, index, place);
        // It may go between the look at the index and the one at the segment.
        read.map_err(|error| self.pruned(index).unwrap_or(error))
    }

    /// Header of the last chunk that was pruned, if `index` is that one's.
    pub(crate) fn base_header(&self, index: u64) -> Option<Arc<ChunkHeader>> {
        self.index().base_header.as_ref().filter(|header| header.index == index).map(Arc::clone)
    }

    /// The error of a chunk that was pruned.
    fn pruned(&self, index: u64) -> Option<LogError> {
        let horizon = self.index().base.index;
        (1..=horizon).contains(&index).then_some(LogError::ChunkPruned {
            lane: self.lane,
            index,
            horizon,
        })
    }

    /// A committed chunk by index (L3), out of memory if it was read not long ago.
    pub(crate) fn committed_chunk(&self, index: u64) -> Result<Arc<StoredChunk>, LogError> {
        if index > self.index().committed.index {
            return Err(LogError::NoChunk { lane: self.lane, index });
        }
        let key = (self.lane, index);
        if let Some(chunk) = self.recent.get(&key) {
            return Ok(chunk);
        }
        let chunk = Arc::new(self.chunk(index)?);
        let clock_size = size_of_val(chunk.header.clock.as_slice());
        let size =
            chunk.body.len().saturating_add(clock_size).saturating_add(size_of::<StoredChunk>());
        self.recent.keep(key, Arc::clone(&chunk), size);
        Ok(chunk)
    }

    pub(crate) fn read_chunk(
        lane: Lane,
        journal: &JournalReader,
        index: u64,
        place: ChunkPlace,
    ) -> Result<StoredChunk, LogError> {
        let seqno = Seqno::new(place.first_seqno);
        let name = Place::Chunk { lane, index, seqno };
        let bytes = journal.read(place.record).map_err(|error| match error {
            LogError::Damaged(finding) => {
                LogError::Damaged(Box::new(Finding { place: name, ..*finding }))
            }
            other => other,
        })?;
        let damaged = |damage| journal.damaged(place.record, name, damage);
        let chunk = StoredChunk::from_bytes(bytes.get(1..).unwrap_or_default())
            .map_err(|reason| damaged(Damage::Malformed { reason }))?;
        let header = &chunk.header;
        let in_place = header.lane == lane && header.index == index && header.first_seqno == seqno;
        if !in_place || bytes.first() != Some(&CHUNK) {
            return Err(damaged(Damage::Link { field: "index" }));
        }
        if blake3(&chunk.body) != header.body_digest {
            return Err(damaged(Damage::Body));
        }
        Ok(chunk)
    }

    /// An error about a chunk.
    pub(crate) fn damaged(&self, index: u64, damage: Damage) -> LogError {
        let place = self.index().place(index);
        let (record, seqno) = place.map_or((0, 0), |place| (place.record, place.first_seqno));
        let name = Place::Chunk { lane: self.lane, index, seqno: Seqno::new(seqno) };
        self.journal.damaged(record, name, damage)
    }
}

impl LaneLog {
    /// Opens a lane and recovers its index and tree. `tips` know only the last chunk until [`LaneLog::settle`].
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        chain: Hash,
        lane: Lane,
        segment_size: u64,
        base: LaneBase,
        recent: &Arc<RecentChunks>,
    ) -> Result<(Self, Option<Finding>), LogError> {
        let directory = lane_directory(lane);
        let spec = JournalSpec {
            directory: directory.clone(),
            seed: Seed::new(&chain, lane_tag(lane)),
            segment_size,
            first: Some(base.first_record),
            buffered: false,
        };
        let (journal, torn) = Journal::open(disk, spec)?;
        let index = LaneIndex::build(lane, &base, journal.reader(), None)?;
        if index.chunks.iter().any(|chunk| chunk.record == 0) {
            let damage = Damage::Link { field: "base" };
            return Err(journal.reader().damaged(journal.next(), index.end_place(), damage));
        }
        let tree = Tree::open(disk.as_ref(), &directory)?;
        let shared =
            Arc::new(LaneShared::new(journal.reader().clone(), tree, index, Arc::clone(recent)));
        let mark = shared.tree.mark(&chain)?;
        let mut log = Self {
            chain,
            journal,
            shared,
            tips: VecDeque::from([base.tip(lane)]),
            frontier: base.frontier.clone(),
            base,
            mark,
            nodes: Vec::new(),
        };
        log.mend_tree()?;
        Ok((log, torn))
    }

    /// Brings the tree file to the last chunk: trusts it below its mark if the root there is right, makes the rest.
    fn mend_tree(&mut self) -> Result<(), LogError> {
        let (good, last) = {
            let index = self.shared.index();
            let base = index.base.index;
            let trusted = self.mark.leaves.min(index.last_seqno);
            // The last chunk that ends at or below the mark.
            let ends = index.chunks.iter().skip(1).map(|next| next.first_seqno - 1);
            let ends = ends.chain(index.chunks.last().map(|_| index.last_seqno));
            let good = ends.take_while(|end| *end <= trusted).count();
            (base + u64::try_from(good).expect("counts fit 64 bits"), index.last())
        };
        let base = self.base.tip(self.shared.lane).index;
        let good = if self.adopt(good)? { good } else { base };
        if good == base {
            self.frontier = self.base.frontier.clone();
            self.set_mark(self.frontier.size())?;
            self.shared.tree.write_peaks(&self.frontier)?;
        }
        // What a crash took of an earlier pruning is done again.
        self.shared.tree.prune(self.base.frontier.size())?;
        // Chunks below the mark may have been lost with everything else that a crash took.
        let leaves = self.shared.index().last_seqno;
        self.set_mark(leaves)?;
        self.shared.tree.cut(self.frontier.size())?;
        for index in good + 1..=last {
            let chunk = self.shared.chunk(index)?;
            let malformed = |reason| self.shared.damaged(index, Damage::Malformed { reason });
            let leaves = leaves_of(&chunk).map_err(malformed)?;
            let (wanted, first) = (chunk.header.lane_root, self.frontier.size());
            let next = self.grow(&leaves);
            let found = next.root();
            if found != wanted {
                return Err(self.shared.damaged(index, Damage::Root { wanted, found }));
            }
            self.shared.tree.write_nodes(node_count(first), &self.nodes)?;
            self.frontier = next;
        }
        Ok(())
    }

    /// Takes the frontier at the end of chunk `index` from the tree file, if its root is the signed one.
    fn adopt(&mut self, index: u64) -> Result<bool, LogError> {
        if index == self.base.tip(self.shared.lane).index {
            return Ok(true);
        }
        let chunk = self.shared.chunk(index)?;
        let size = chunk.header.last_seqno().get();
        if !self.shared.tree.holds(size)? {
            return Ok(false);
        }
        let frontier = frontier(&self.shared.tree, size)?;
        let right = frontier.root() == chunk.header.lane_root;
        if right {
            self.frontier = frontier;
        }
        Ok(right)
    }

    /// The frontier after `leaves`; their nodes are left in `self.nodes`.
    fn grow(&mut self, leaves: &[Hash]) -> Frontier {
        let mut next = self.frontier.clone();
        self.nodes.clear();
        next.extend_with(leaves, |node| self.nodes.extend_from_slice(node.bytes()));
        next
    }

    /// Lowers the mark before nodes below it change.
    fn set_mark(&mut self, leaves: u64) -> Result<(), LogError> {
        if self.mark.leaves > leaves {
            let mark = Mark { generation: self.mark.generation + 1, leaves };
            let sync = TreeSync { tree: self.shared.tree.clone(), chain: self.chain, mark };
            sync.run()?;
            crate::journal::sync_file(&sync.tree.path, sync.tree.file.as_ref())?;
            self.mark = mark;
        }
        Ok(())
    }

    /// Compares the lane with the last committed header's tip and checks every link above it.
    pub(crate) fn settle(
        &mut self,
        committed: Option<(quipu_types::Height, Tip)>,
    ) -> Result<(), LogError> {
        let mut tip = self.base.tip(self.shared.lane);
        if let Some((height, wanted)) = committed.filter(|(_, wanted)| *wanted != tip) {
            let short = Damage::Short { height, index: wanted.index, seqno: wanted.seqno };
            if wanted.index > 0 {
                if self.shared.index().place(wanted.index).is_none() {
                    let (index, (_, next)) = (self.shared.index(), self.shared.journal.range());
                    return Err(self.shared.journal.damaged(next, index.end_place(), short));
                }
                tip = tip_of(&self.shared.chunk(wanted.index)?.header);
            }
            if tip != wanted && wanted.index > 0 {
                return Err(self.shared.damaged(wanted.index, Damage::Differs { height }));
            }
        }
        self.tips = VecDeque::from([tip]);
        let last = self.shared.index().last();
        for index in tip.index + 1..=last {
            let chunk = self.shared.chunk(index)?;
            let fault = {
                let terms = self.shared.index();
                link_fault(&tip, terms.term_of(chunk.header.term), &chunk.header)
            };
            if let Some(field) = fault {
                return Err(self.shared.damaged(index, Damage::Link { field }));
            }
            tip = tip_of(&chunk.header);
            self.tips.push_back(tip);
        }
        let (wanted, found) = (tip.lane_root, self.frontier.root());
        if wanted != found {
            return Err(self.shared.damaged(tip.index, Damage::Root { wanted, found }));
        }
        self.shared.index_mut().committed = self.committed();
        Ok(())
    }

    pub(crate) fn shared(&self) -> &Arc<LaneShared> {
        &self.shared
    }

    pub(crate) fn tip(&self) -> Tip {
        *self.tips.back().expect("the committed tip stays")
    }

    pub(crate) fn committed(&self) -> Tip {
        *self.tips.front().expect("the committed tip stays")
    }

    pub(crate) fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// What the lane can stand on when its chunks up to `keep_after` may go: segments go whole.
    pub(crate) fn base_after(&self, keep_after: u64) -> Result<LaneBase, LogError> {
        let lane = self.shared.lane;
        let reader = self.journal.reader();
        let (first_record, live) = {
            let index = self.shared.index();
            let next = index.place(keep_after.max(index.base.index) + 1);
            let next = next.map(|next| next.record);
            let first_record = reader.segment_first(next.unwrap_or(self.journal.next()));
            (first_record, index.chunks.partition_point(|chunk| chunk.record < first_record))
        };
        if first_record <= self.base.first_record {
            return Ok(self.base.clone());
        }
        let then = LaneIndex::build(lane, &self.base, reader, Some(first_record))?;
        let ends = then.chunks.iter().skip(1).map(|next| next.first_seqno - 1);
        let ghosts = ends.chain(then.chunks.last().map(|_| then.last_seqno)).skip(live).collect();
        let index = then.base.index + u64::try_from(live).expect("counts fit 64 bits");
        let (header, frontier) = if live == 0 {
            (self.base.header.clone(), self.base.frontier.clone())
        } else {
            let header = self.shared.chunk(index)?.header;
            let frontier = frontier(&self.shared.tree, header.last_seqno().get())?;
            if frontier.root() != header.lane_root {
                let damage = Damage::Root { wanted: header.lane_root, found: frontier.root() };
                return Err(self.shared.damaged(index, damage));
            }
            (Some(header), frontier)
        };
        Ok(LaneBase { header, frontier, terms: then.terms, first_record, ghosts })
    }

    /// Whether something is before a base that stands now.
    pub(crate) fn goes_before(&self, base: &LaneBase) -> bool {
        base.first_record > self.base.first_record
    }

    /// Lets go what is before the base, whose record is durable.
    pub(crate) fn prune(&mut self, base: LaneBase) -> Result<(), LogError> {
        let (tip, first_record) = (base.tip(self.shared.lane), base.first_record);
        {
            let mut index = self.shared.index_mut();
            let gone = index.chunks.partition_point(|chunk| chunk.record < first_record);
            index.chunks.drain(..gone);
            index.base = tip;
            index.base_header = base.header.clone().map(Arc::new);
        }
        self.base = base;
        self.journal.remove_below(first_record)?;
        self.shared.tree.prune(tip.seqno.get())
    }

    pub(crate) fn terms(&self) -> Vec<TermRecord> {
        self.shared.index().terms.clone()
    }

    pub(crate) fn append_term(&mut self, term: &TermRecord) -> Result<(), LogError> {
        if let Some(field) = self.shared.index().term_fault(term) {
            return Err(LogError::TermDoesNotLink { lane: term.lane, term: term.term, field });
        }
        self.journal.append(|out| {
            out.push(TERM);
            term.encode(out);
        })?;
        self.shared.index_mut().terms.push(*term);
        Ok(())
    }

    pub(crate) fn append_chunk(
        &mut self,
        chunk: &StoredChunk,
        leaves: &[Hash],
    ) -> Result<Tip, LogError> {
        let header = &chunk.header;
        let tip = self.tip();
        let mut fault = link_fault(&tip, self.shared.index().terms.last(), header);
        if fault.is_none() && u32::try_from(leaves.len()) != Ok(header.count) {
            fault = Some("count");
        }
        let next = self.grow(leaves);
        if fault.is_none() && next.root() != header.lane_root {
            fault = Some("lane_root");
        }
        if let Some(field) = fault {
            return Err(LogError::DoesNotLink { lane: header.lane, index: header.index, field });
        }
        let nodes_first = node_count(self.frontier.size());
        let appended = self.shared.tree.write_nodes(nodes_first, &self.nodes).and_then(|()| {
            self.journal.append(|out| {
                out.push(CHUNK);
                chunk.encode(out);
            })
        });
        let record = match appended {
            Ok(record) => record,
            Err(error) => {
                // Nodes are derived: what is left of them is overwritten, or cut when the lane is opened.
                self.shared.tree.cut(self.frontier.size()).ok();
                return Err(error);
            }
        };
        self.frontier = next;
        let tip = tip_of(header);
        self.tips.push_back(tip);
        let mut index = self.shared.index_mut();
        index.chunks.push(ChunkPlace { first_seqno: header.first_seqno.get(), record });
        index.last_seqno = tip.seqno.get();
        Ok(tip)
    }

    pub(crate) fn truncate_after(&mut self, to: u64) -> Result<Tip, LogError> {
        let lane = self.shared.lane;
        let Some(kept) = self.tips.iter().position(|tip| tip.index == to) else {
            let known = to > self.tip().index;
            return Err(if known {
                LogError::NoChunk { lane, index: to }
            } else {
                LogError::Committed { lane, index: to }
            });
        };
        if to == self.tip().index {
            return Ok(self.tip());
        }
        let tip = self.tips.get(kept).copied().unwrap_or_else(|| empty_tip(lane));
        let size = tip.seqno.get();
        let frontier = frontier(&self.shared.tree, size)?;
        if frontier.root() != tip.lane_root {
            let damage = Damage::Root { wanted: tip.lane_root, found: frontier.root() };
            return Err(LogError::damaged(&self.shared.tree.path, 0, Place::File, damage));
        }
        self.set_mark(size)?;
        self.journal.append(|out| {
            out.push(CUT);
            out.extend_from_slice(&to.to_le_bytes());
        })?;
        self.shared.index_mut().cut(to).expect("the chunk to keep is in the index");
        self.tips.truncate(kept + 1);
        self.frontier = frontier;
        self.shared.tree.cut(size)?;
        Ok(tip)
    }

    /// Whether a cut may name this tip.
    pub(crate) fn holds(&self, tip: &Tip) -> bool {
        tip.index == 0 || self.tips.contains(tip)
    }

    /// Lets readers see up to a tip that the lane [`LaneLog::holds`].
    pub(crate) fn publish(&mut self, tip: &Tip) {
        while self.tips.len() > 1 && self.committed().index < tip.index {
            self.tips.pop_front();
        }
        self.shared.index_mut().committed = self.committed();
    }

    /// What makes the lane durable, and its tree's next mark if one is due.
    pub(crate) fn take_sync(&mut self, mark_now: bool) -> (JournalSync, Option<TreeSync>) {
        let leaves = self.frontier.size();
        let due = if mark_now {
            leaves != self.mark.leaves
        } else {
            leaves >= self.mark.leaves + MARK_LEAVES
        };
        let sync = due.then(|| {
            self.mark = Mark { generation: self.mark.generation + 1, leaves };
            TreeSync { tree: self.shared.tree.clone(), chain: self.chain, mark: self.mark }
        });
        (self.journal.take_sync(), sync)
    }

    pub(crate) fn synced(&mut self, upto: u64) {
        self.journal.synced(upto);
    }
}
