//! Verifying everything that is stored, again, without writing a byte.
//!
//! ```text
//!  names of files ─ headers: frames, links, certificates ─ lanes: frames, links, bodies, leaves, roots, signatures,
//!  the tree's nodes, the cuts of all headers ─ write-ahead log: frames ─ unused space: zeros
//! ```
//! Every byte of every file is looked at: whichever is flipped, a [`Finding`] names the file. It goes on behind a
//! damaged place as far as it can.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "record numbers, indices and sizes are far below 2^64"
)]

use std::io;

use quipu_crypto::merkle::{Frontier, Nodes, frontier, node_count};
use quipu_proof::names;
use quipu_types::{
    ChunkHeader, CommitCertificate, Decode, Hash, Header, Height, Lane, Reader, Seqno, Signature,
    Tip,
};

use crate::base::{BASE, BASE_TAG, Base, LaneBase};
use crate::disk::Disk;
use crate::error::{Damage, Finding, LogError, Place};
use crate::frame::{Seed, segment_first};
use crate::handovers::{HANDOVERS, HANDOVERS_TAG, read_handover};
use crate::headers::{HEADERS, HEADERS_TAG, decode_header, headers_gone};
use crate::journal::JournalReader;
use crate::lane::{ChunkPlace, LaneShared, lane_tag, leaves_of, link_fault, tip_of};
use crate::record::{CHUNK, CUT, StoredChunk, TERM, TermRecord};
use crate::scan::{NOWHERE, ScanSpec, Window, read_full, scan};
use crate::tree::{MARK_SIZE, Mark, Tree, lane_directory, node_offset, peaks, pruned};
use crate::wal::{WAL, WAL_TAG, decode_wal, headers_short};

/// Whether a certificate commits a header, links of the chain aside.
pub type CertificateCheck<'a> = dyn Fn(&Header, &CommitCertificate) -> bool + 'a;
/// Whether a chunk is signed by the sequencer of its term.
pub type ChunkCheck<'a> = dyn Fn(&TermRecord, &ChunkHeader, &Signature) -> bool + 'a;

/// What is to be checked, and by whom signatures are judged.
pub struct Check<'a> {
    /// The ledger's directory.
    pub disk: &'a dyn Disk,
    /// The ledger.
    pub chain: Hash,
    /// How many lanes it has.
    pub lane_count: u16,
    /// Judges commit certificates.
    pub certificate: &'a CertificateCheck<'a>,
    /// Judges signatures of chunks.
    pub chunk: &'a ChunkCheck<'a>,
}

/// How far a check has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Records checked.
    pub record_count: u64,
    /// Bytes of stored chunks and headers checked.
    pub size: u64,
}

/// A tip that a header names.
struct Expected {
    height: Height,
    tip: Tip,
}

/// A chunk that is not void.
struct Live {
    place: ChunkPlace,
    index: u64,
    last_seqno: u64,
}

/// How far a lane's check has come; `None` behind a damaged place, until it can be known again.
struct LaneState {
    tip: Option<Tip>,
    frontier: Option<Frontier>,
}

impl Live {
    /// Chunks before the base that records behind it void.
    fn ghosts(index: u64, lasts: &[u64]) -> Vec<Self> {
        let ghost = |(index, last_seqno): (u64, &u64)| Self {
            place: ChunkPlace { first_seqno: 0, record: 0 },
            index,
            last_seqno: *last_seqno,
        };
        (index + 1..).zip(lasts).map(ghost).collect()
    }
}

impl std::fmt::Debug for Check<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check").field("chain", &self.chain).finish_non_exhaustive()
    }
}

struct Run<'a, 'p> {
    check: &'a Check<'a>,
    progress: &'p mut dyn FnMut(Progress),
    so_far: Progress,
    findings: Vec<Finding>,
}

impl Check<'_> {
    /// Checks everything; empty when all is well.
    pub fn run(&self, progress: &mut dyn FnMut(Progress)) -> Vec<Finding> {
        let so_far = Progress { record_count: 0, size: 0 };
        let mut run = Run { check: self, progress, so_far, findings: Vec::new() };
        let mut expected = Vec::new();
        expected.resize_with(usize::from(self.lane_count), Vec::new);
        run.names();
        let base = run.base();
        let height = run.headers(base.first_height, &mut expected);
        let lanes = (0..self.lane_count).map(Lane::new).zip(&base.lanes);
        for ((lane, base), expected) in lanes.zip(&expected) {
            run.lane(lane, base, expected);
        }
        run.handovers(height);
        run.wal(height);
        run.findings
    }
}

impl Run<'_, '_> {
    fn note(&mut self, file: &str, offset: u64, place: Place, damage: Damage) {
        self.findings.push(Finding { file: file.to_owned(), offset, place, damage });
    }

    fn note_error(&mut self, error: LogError) {
        match error {
            LogError::Damaged(finding) => self.findings.push(*finding),
            LogError::Disk { file, kind, .. } => {
                self.note(&file, 0, Place::File, Damage::Unreadable { kind });
            }
            LogError::Full { file } | LogError::SyncFailed { file, .. } => {
                let kind = io::ErrorKind::Other;
                self.note(&file, 0, Place::File, Damage::Unreadable { kind });
            }
            _ => {}
        }
    }

    fn progress(&mut self, size: usize) {
        self.so_far.record_count += 1;
        self.so_far.size += u64::try_from(size).unwrap_or(0);
        (self.progress)(self.so_far);
    }

    /// Directories and files that should be there are, and no others.
    fn names(&mut self) {
        let lanes: Vec<String> =
            (0..self.check.lane_count).map(|lane| format!("{lane:02}")).collect();
        self.directory("lanes", |name| lanes.iter().any(|lane| lane == name));
        for lane in &lanes {
            let directory = format!("lanes/{lane}");
            self.directory(&directory, |name| name == "tree" || segment_first(name).is_some());
        }
        self.directory(HEADERS, |name| segment_first(name).is_some());
        self.directory(WAL, |name| segment_first(name).is_some());
        for directory in [BASE, HANDOVERS] {
            if self.check.disk.list(directory).is_ok() {
                self.directory(directory, |name| segment_first(name).is_some());
            }
        }
    }

    /// The ends of epochs stand in order, each carries a set, and each is certified.
    fn handovers(&mut self, headers: Height) {
        if self.check.disk.list(HANDOVERS).is_err() {
            return;
        }
        let (journal, numbers, findings) = self.journal(HANDOVERS, HANDOVERS_TAG, Some(1));
        self.findings.extend(findings);
        for (number, epoch) in numbers.into_iter().zip(0_u64..) {
            match read_handover(&journal, epoch, headers) {
                Ok(Some((header, certificate))) => {
                    if !(self.check.certificate)(&header, &certificate) {
                        let place = Place::Record(number);
                        self.note_error(journal.damaged(number, place, Damage::Certificate));
                    }
                }
                Ok(None) => {}
                Err(error) => self.note_read(error),
            }
        }
    }

    /// What the log stands on; the genesis' where that is damaged.
    fn base(&mut self) -> Base {
        if self.check.disk.list(BASE).is_ok() {
            let (_, _, findings) = self.journal(BASE, BASE_TAG, None);
            self.findings.extend(findings);
        }
        let Check { disk, chain, lane_count, .. } = self.check;
        Base::read(*disk, chain, *lane_count).unwrap_or_else(|error| {
            self.note_read(error);
            Base::genesis(*lane_count)
        })
    }

    fn directory(&mut self, directory: &str, known: impl Fn(&str) -> bool) {
        match self.check.disk.list(directory) {
            Ok(names) => {
                for name in names.iter().filter(|name| !known(name)) {
                    self.note(&format!("{directory}/{name}"), 0, Place::File, Damage::Unknown);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.note(directory, 0, Place::File, Damage::Gone);
            }
            Err(error) => {
                let damage = Damage::Unreadable { kind: error.kind() };
                self.note(directory, 0, Place::File, damage);
            }
        }
    }

    /// Walks over a journal; its whole records, and what is wrong between them.
    fn journal(
        &mut self,
        directory: &str,
        tag: u64,
        first: Option<u64>,
    ) -> (JournalReader, Vec<u64>, Vec<Finding>) {
        let seed = Seed::new(&self.check.chain, tag);
        let spec = ScanSpec { directory: directory.to_owned(), seed, first, thorough: true };
        match scan(self.check.disk, &spec) {
            Ok(scan) => {
                let mut findings = scan.findings;
                findings.extend(scan.torn.map(|torn| torn.finding));
                let mut numbers = Vec::new();
                for segment in &scan.segments {
                    let whole = (segment.first..).zip(&segment.offsets);
                    numbers
                        .extend(whole.filter(|(_, at)| **at != NOWHERE).map(|(number, _)| number));
                }
                numbers.retain(|number| {
                    findings.iter().all(|finding| finding.place != Place::Record(*number))
                });
                for doomed in &scan.doomed {
                    if findings.iter().all(|finding| finding.file != doomed.path) {
                        let (file, place) = (doomed.path.clone(), Place::Record(doomed.first));
                        let damage = Damage::Tail { size: doomed.file.size().unwrap_or(0) };
                        findings.push(Finding { file, offset: 0, place, damage });
                    }
                }
                (JournalReader::new(directory, seed, scan.segments), numbers, findings)
            }
            Err(error) => {
                let gone = matches!(&error, LogError::Disk { kind: io::ErrorKind::NotFound, .. });
                if !gone {
                    self.note_error(error);
                }
                (JournalReader::new(directory, seed, Vec::new()), Vec::new(), Vec::new())
            }
        }
    }

    fn wal(&mut self, headers: Height) {
        let (journal, numbers, findings) = self.journal(WAL, WAL_TAG, None);
        self.findings.extend(findings);
        let mut height = Height::new(0);
        for number in numbers {
            match journal.read(number).map(|bytes| (bytes.len(), decode_wal(&bytes))) {
                Ok((size, Some(record))) => {
                    height = height.max(record.height);
                    self.progress(size);
                }
                Ok(_) => {
                    let damage = Damage::Link { field: "height" };
                    self.note_error(journal.damaged(number, Place::Record(number), damage));
                }
                Err(error) => self.note_read(error),
            }
        }
        if let Some(finding) = headers_short(headers, height) {
            self.findings.push(finding);
        }
    }

    /// Whether something in a directory is known to be wrong already: what follows from that is not told too.
    fn is_suspect(&self, directory: &str) -> bool {
        let below =
            |file: &str| file.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
        self.findings.iter().any(|finding| below(&finding.file))
    }

    /// A read that fails after the scan: said already if the scan found it.
    fn note_read(&mut self, error: LogError) {
        let known = match &error {
            LogError::Damaged(new) => {
                self.findings.iter().any(|old| old.file == new.file && old.offset == new.offset)
            }
            _ => false,
        };
        if !known {
            self.note_error(error);
        }
    }

    fn headers(&mut self, first: Height, expected: &mut [Vec<Expected>]) -> Height {
        let (journal, numbers, findings) = self.journal(HEADERS, HEADERS_TAG, Some(first.get()));
        self.findings.extend(findings.into_iter().map(|finding| match finding.place {
            Place::Record(number) => {
                Finding { place: Place::Header(Height::new(number)), ..finding }
            }
            _ => finding,
        }));
        if let Some(finding) = headers_gone(&journal, first) {
            self.findings.push(finding);
        }
        let mut last = (first == Height::new(1)).then_some((0, self.check.chain));
        for number in numbers {
            let height = Height::new(number);
            let place = Place::Header(height);
            let bytes = match journal.read(number) {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.note_read(error);
                    continue;
                }
            };
            self.progress(bytes.len());
            let (header, certificate) = match decode_header(&bytes) {
                Ok(decoded) => decoded,
                Err(reason) => {
                    let damage = Damage::Malformed { reason };
                    self.note_error(journal.damaged(number, place, damage));
                    continue;
                }
            };
            let linked = last.filter(|(before, _)| before + 1 == number);
            let hash = names::header_hash(&header);
            let fault = if header.height != height {
                Some(Damage::Link { field: "height" })
            } else if linked.is_some_and(|(_, prev)| header.prev_header != prev) {
                Some(Damage::Link { field: "prev_header" })
            } else if certificate.digest() != Some(hash)
                || !(self.check.certificate)(&header, &certificate)
            {
                Some(Damage::Certificate)
            } else {
                None
            };
            if let Some(damage) = fault {
                self.note_error(journal.damaged(number, place, damage));
            }
            last = Some((number, hash));
            expect(expected, height, &header.cut);
        }
        let (_, next) = journal.range();
        Height::new(next.saturating_sub(1))
    }

    fn lane(&mut self, lane: Lane, base: &LaneBase, expected: &[Expected]) {
        let directory = lane_directory(lane);
        let (journal, numbers, findings) =
            self.journal(&directory, lane_tag(lane), Some(base.first_record));
        let mut terms = base.terms.clone();
        let mut live: Vec<Live> = Live::ghosts(base.tip(lane).index, &base.ghosts);
        for number in numbers {
            if let Err(error) = self.lane_record(number, &journal, &mut terms, &mut live) {
                self.note_read(error);
            }
        }
        for finding in findings {
            let place = match finding.place {
                Place::Record(number) => after(lane, &live, number),
                place => place,
            };
            self.findings.push(Finding { place, ..finding });
        }
        let tree = self.tree_file(&directory);
        let tip = base.tip(lane);
        let mut state = LaneState { tip: Some(tip), frontier: Some(base.frontier.clone()) };
        let mut cuts = expected.iter().peekable();
        while let Some(cut) = cuts.next_if(|cut| cut.tip.index <= tip.index) {
            if cut.tip.index == tip.index && cut.tip != tip {
                let damage = Damage::Differs { height: cut.height };
                self.note_error(journal.damaged(base.first_record, after(lane, &[], 0), damage));
            }
        }
        let reader = Stored { lane, journal: &journal, terms: &terms, tree: tree.as_ref() };
        for chunk in &live {
            let header = self.live_chunk(&reader, chunk, &mut state);
            while let Some(cut) = cuts.next_if(|cut| cut.tip.index <= chunk.index) {
                let height = cut.height;
                let (index, seqno) = (cut.tip.index, cut.tip.seqno);
                let damage = if index < chunk.index {
                    Damage::Short { height, index, seqno }
                } else if header.as_ref().is_some_and(|header| tip_of(header) != cut.tip) {
                    Damage::Differs { height }
                } else {
                    continue;
                };
                if matches!(damage, Damage::Short { .. }) && self.is_suspect(&directory) {
                    continue;
                }
                self.note_error(journal.damaged(chunk.place.record, reader.name(chunk), damage));
            }
        }
        if let Some(cut) = cuts.next()
            && !self.is_suspect(&directory)
        {
            let (_, next) = journal.range();
            let (height, index, seqno) = (cut.height, cut.tip.index, cut.tip.seqno);
            let damage = Damage::Short { height, index, seqno };
            self.note_error(journal.damaged(next, after(lane, &live, next), damage));
        }
        if let Some(tree) = &tree {
            let leaves = live.last().map_or(tip.seqno.get(), |last| last.last_seqno);
            let checked = self.tree_frame(tree, leaves);
            if let Err(error) = checked.and_then(|()| self.tree_before(lane, tree, base)) {
                self.note_error(error);
            }
        }
    }

    fn tree_file(&mut self, directory: &str) -> Option<Tree> {
        let path = Tree::path(directory);
        match self.check.disk.open_read(&path) {
            Ok(file) => Some(Tree { path, file }),
            Err(error) => {
                let damage = match error.kind() {
                    io::ErrorKind::NotFound => Damage::Gone,
                    kind => Damage::Unreadable { kind },
                };
                self.note(&path, 0, Place::File, damage);
                None
            }
        }
    }

    /// What is left of a tree before the base: its peaks there, and zeros.
    fn tree_before(&mut self, lane: Lane, tree: &Tree, base: &LaneBase) -> Result<(), LogError> {
        let size = base.frontier.size();
        for (node, peak) in peaks(size).zip(base.frontier.peaks()) {
            if tree.node(node)? != *peak {
                let place = Place::Node { lane, node };
                self.note(&tree.path, node_offset(node), place, Damage::NodePruned);
            }
        }
        let mut window = Window::new(&tree.path, tree.file.as_ref())?;
        for (start, end) in pruned(size) {
            let used = window.first_used(start)?.filter(|(offset, _)| *offset < end);
            if let Some((offset, _)) = used {
                self.note(&tree.path, offset, Place::File, Damage::NodePruned);
            }
        }
        Ok(())
    }

    /// Sorts one record of a lane.
    fn lane_record(
        &mut self,
        number: u64,
        journal: &JournalReader,
        terms: &mut Vec<TermRecord>,
        live: &mut Vec<Live>,
    ) -> Result<(), LogError> {
        let bytes = journal.read(number)?;
        self.progress(bytes.len());
        let malformed =
            |reason| journal.damaged(number, Place::Record(number), Damage::Malformed { reason });
        let rest = bytes.get(1..).unwrap_or_default();
        match bytes.first() {
            Some(&TERM) => terms.push(TermRecord::from_bytes(rest).map_err(malformed)?),
            Some(&CUT) => {
                let to = Reader::new(rest).u64().map_err(malformed)?;
                while live.last().is_some_and(|last| last.index > to) {
                    live.pop();
                }
            }
            Some(&CHUNK) => {
                let header = StoredChunk::from_bytes(rest).map_err(malformed)?.header;
                let first_seqno = header.first_seqno.get();
                let place = ChunkPlace { first_seqno, record: number };
                let last_seqno = header.last_seqno().get();
                live.push(Live { place, index: header.index, last_seqno });
            }
            _ => {
                let damage = Damage::Link { field: "kind" };
                return Err(journal.damaged(number, Place::Record(number), damage));
            }
        }
        Ok(())
    }

    /// Checks a chunk against what came before it.
    fn live_chunk(
        &mut self,
        stored: &Stored<'_>,
        live: &Live,
        state: &mut LaneState,
    ) -> Option<ChunkHeader> {
        let chunk = match stored.chunk(live) {
            Ok(chunk) => chunk,
            Err(error) => {
                self.note_read(error);
                (state.tip, state.frontier) = (None, None);
                return None;
            }
        };
        let header = chunk.header.clone();
        let place = stored.name(live);
        let damaged = |damage| stored.journal.damaged(live.place.record, place, damage);
        let term = stored.terms.iter().rev().find(|term| term.term == header.term);
        if let Some(tip) = state.tip.filter(|tip| tip.index + 1 == header.index)
            && let Some(field) = link_fault(&tip, term, &header)
        {
            self.note_error(damaged(Damage::Link { field }));
        } else if state.tip.is_some_and(|tip| tip.index + 1 != header.index) {
            if !self.is_suspect(&lane_directory(stored.lane)) {
                self.note_error(damaged(Damage::Link { field: "index" }));
            }
            state.frontier = None;
        }
        if term.is_none_or(|term| !(self.check.chunk)(term, &header, &chunk.signature)) {
            self.note_error(damaged(Damage::Signature));
        }
        match leaves_of(&chunk) {
            Ok(leaves) => {
                if let Err(error) = self.tree(stored, (live, &header), &leaves, state) {
                    self.note_error(error);
                }
            }
            Err(reason) => {
                self.note_error(damaged(Damage::Malformed { reason }));
                state.frontier = None;
            }
        }
        state.tip = Some(tip_of(&header));
        Some(header)
    }

    /// Compares a chunk's lane root, and the nodes it brings, with its leaves.
    fn tree(
        &mut self,
        stored: &Stored<'_>,
        (live, header): (&Live, &ChunkHeader),
        leaves: &[Hash],
        state: &mut LaneState,
    ) -> Result<(), LogError> {
        let Some(mut grown) = state.frontier.take() else {
            // Behind a gap: the tree file knows what the missing chunks held, if the signed root agrees.
            if let Some(tree) = stored.tree {
                let known = frontier(tree, header.last_seqno().get())?;
                state.frontier = Some(known).filter(|known| known.root() == header.lane_root);
            }
            return Ok(());
        };
        let first = node_count(grown.size());
        let mut nodes = Vec::new();
        for leaf in leaves {
            grown.append_with(*leaf, |node| nodes.push(node));
        }
        let (wanted, found) = (header.lane_root, grown.root());
        state.frontier = Some(grown);
        if wanted != found {
            state.frontier = None;
            let damage = Damage::Root { wanted, found };
            return Err(stored.journal.damaged(live.place.record, stored.name(live), damage));
        }
        let Some(tree) = stored.tree else { return Ok(()) };
        let marked = node_count(tree.mark(&self.check.chain)?.leaves);
        let mut bytes = vec![0; nodes.len() * 32];
        read_full(&tree.path, tree.file.as_ref(), node_offset(first), &mut bytes)?;
        for ((at, node), stored_node) in (first..).zip(&nodes).zip(bytes.chunks(32)) {
            if node.bytes() != stored_node {
                let damage = if at < marked { Damage::Node } else { Damage::NodeUnmarked };
                let place = Place::Node { lane: header.lane, node: at };
                self.note(&tree.path, node_offset(at), place, damage);
            }
        }
        Ok(())
    }

    /// The marks of a tree file, and what stands behind its last node.
    fn tree_frame(&mut self, tree: &Tree, leaves: u64) -> Result<(), LogError> {
        for slot in 0..2 {
            let offset = slot * MARK_SIZE;
            let mut bytes = [0; 64];
            read_full(&tree.path, tree.file.as_ref(), offset, &mut bytes)?;
            let mark = Mark::from_bytes(&self.check.chain, &bytes);
            let never_written = bytes.iter().all(|byte| *byte == 0);
            if !never_written && mark.is_none_or(|mark| mark.generation % 2 != slot) {
                self.note(&tree.path, offset, Place::File, Damage::Mark);
            }
        }
        let mut window = Window::new(&tree.path, tree.file.as_ref())?;
        if let Some((offset, value)) = window.first_used(node_offset(node_count(leaves)))? {
            self.note(&tree.path, offset, Place::File, Damage::NotZero { value });
        }
        Ok(())
    }
}

/// What a lane's files hold.
struct Stored<'a> {
    lane: Lane,
    journal: &'a JournalReader,
    terms: &'a [TermRecord],
    tree: Option<&'a Tree>,
}

impl Stored<'_> {
    fn name(&self, live: &Live) -> Place {
        Place::Chunk {
            lane: self.lane,
            index: live.index,
            seqno: Seqno::new(live.place.first_seqno),
        }
    }

    fn chunk(&self, live: &Live) -> Result<StoredChunk, LogError> {
        LaneShared::read_chunk(self.lane, self.journal, live.index, live.place)
    }
}

/// What comes after the last live chunk before record `number`.
fn after(lane: Lane, live: &[Live], number: u64) -> Place {
    let before = live.iter().rev().find(|live| live.place.record < number);
    let (index, seqno) = before.map_or((0, 0), |live| (live.index, live.last_seqno));
    Place::Chunk { lane, index: index + 1, seqno: Seqno::new(seqno + 1) }
}

/// Keeps the tips that a cut moves.
fn expect(expected: &mut [Vec<Expected>], height: Height, cut: &[Tip]) {
    for tip in cut {
        let Some(lane) = expected.get_mut(usize::from(tip.lane.get())) else { continue };
        if lane.last().map_or(0, |last| last.tip.index) < tip.index {
            lane.push(Expected { height, tip: *tip });
        }
    }
}
