//! Walking over a journal's files without changing them: what opening and checking have in common.
//!
//! ```text
//!  head right, ordinal dense ─> next frame          zeros up to the end of the last segment ─> the end
//!  anything else at record N ─> look at every later multiple of 8, and in every later segment:
//!        a frame there says "synced ≥ N"  ─> N was durable: damaged
//!        none does                        ─> N was never promised: a torn tail, cut when opened
//! ```
//! Bodies above the highest `synced` of all frames are checked too: a head may survive a crash that tears its body.
//!
//! # Limits
//! Looking for later frames costs one head checksum per 8 bytes of the segments behind the place, and only after
//! a crash. A producer who guessed a frame's exact place, and a crash that tore that very frame, could make a torn
//! tail look like damage: the node then stops and says so; nothing wrong is ever read.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets are below 2^32 and record numbers far below 2^64"
)]

use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, Doing, Finding, LogError, Place};
use crate::frame::{
    ALIGNMENT, HEAD_SIZE, Head, SEGMENT_HEADER_SIZE, Seed, segment_first, segment_name,
};

/// Bytes read at once while walking.
const WINDOW_SIZE: usize = 1 << 16;

/// Offset of a record that cannot be read.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// A segment's records.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// Number of its first record.
    pub(crate) first: u64,
    /// Path in the ledger.
    pub(crate) path: String,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Where each record's frame begins, 4 bytes a record; [`NOWHERE`] for one that is damaged.
    pub(crate) offsets: Vec<u32>,
    /// End of the last frame.
    pub(crate) end: u64,
}

impl Segment {
    /// Number of the record after the last.
    pub(crate) fn next(&self) -> u64 {
        self.first + u64::try_from(self.offsets.len()).expect("counts fit 64 bits")
    }

    /// Where a record's frame begins and ends.
    pub(crate) fn bounds(&self, number: u64) -> Option<(u64, u64)> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let start = *self.offsets.get(place)?;
        let mut later = self.offsets.iter().skip(place + 1);
        let end = later.find(|next| **next != NOWHERE).map_or(self.end, |next| u64::from(*next));
        (start != NOWHERE).then_some((u64::from(start), end))
    }
}

/// What a walk over a journal gave.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) segments: Vec<Segment>,
    /// Segments of records that do not count any more: what is left of a removal that a crash interrupted.
    pub(crate) stale: Vec<Segment>,
    /// The highest record that a frame says was durable.
    pub(crate) synced: u64,
    /// Where whole records end and something else follows: a torn tail.
    pub(crate) torn: Option<Torn>,
    /// Segments that hold nothing but torn tail.
    pub(crate) doomed: Vec<Segment>,
    /// What is damaged. Opening fails with the first.
    pub(crate) findings: Vec<Finding>,
}

/// What follows the last whole record and is no record.
#[derive(Debug)]
pub(crate) struct Torn {
    /// The first segment that is to go, or to be cut.
    pub(crate) segment: usize,
    /// Where it is to be cut; `0` if it is to go.
    pub(crate) offset: u64,
    pub(crate) finding: Finding,
}

/// Which journal, and how strictly.
#[derive(Clone, Debug)]
pub(crate) struct ScanSpec {
    pub(crate) directory: String,
    pub(crate) seed: Seed,
    /// The first record that must be there; those before it may be gone. None: any may be gone.
    pub(crate) first: Option<u64>,
    /// Check every body, and the unused space of every segment.
    pub(crate) thorough: bool,
}

struct Walk {
    offsets: Vec<u32>,
    end: u64,
    synced: u64,
    /// Stopped at something that is neither a frame nor zeros up to the end of the file.
    bad: bool,
}

/// Reads a file through a window.
pub(crate) struct Window<'a> {
    path: &'a str,
    file: &'a dyn DiskFile,
    pub(crate) size: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(crate) fn new(path: &'a str, file: &'a dyn DiskFile) -> Result<Self, LogError> {
        let size = file.size().map_err(|error| LogError::disk(path, Doing::Read, &error))?;
        Ok(Self { path, file, size, start: 0, bytes: Vec::new() })
    }

    /// `size` bytes from `offset`, fewer at the end of the file.
    pub(crate) fn get(&mut self, offset: u64, size: usize) -> Result<&[u8], LogError> {
        let wanted =
            u64::try_from(size).expect("sizes fit 64 bits").min(self.size.saturating_sub(offset));
        let held = self.start + u64::try_from(self.bytes.len()).expect("sizes fit 64 bits");
        if offset < self.start || offset + wanted > held {
            let read_size = wanted.max(u64::try_from(WINDOW_SIZE).unwrap_or(0));
            let read_size = read_size.min(self.size.saturating_sub(offset));
            self.bytes.resize(usize::try_from(read_size).unwrap_or(usize::MAX), 0);
            self.start = offset;
            let count = read_full(self.path, self.file, offset, &mut self.bytes)?;
            self.bytes.truncate(count);
        }
        let from = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let rest = self.bytes.get(from..).unwrap_or_default();
        Ok(rest.get(..size).unwrap_or(rest))
    }

    /// The first byte from `offset` on that is not zero.
    pub(crate) fn first_used(&mut self, mut offset: u64) -> Result<Option<(u64, u8)>, LogError> {
        while offset < self.size {
            let bytes = self.get(offset, WINDOW_SIZE)?;
            if bytes.is_empty() {
                break;
            }
            if let Some(place) = bytes.iter().position(|byte| *byte != 0) {
                let value = bytes.get(place).copied().unwrap_or_default();
                return Ok(Some((offset + u64::try_from(place).unwrap_or(0), value)));
            }
            offset += u64::try_from(bytes.len()).expect("sizes fit 64 bits");
        }
        Ok(None)
    }

    /// The end of what is not zero, at least `offset`.
    fn used_end(&mut self, mut offset: u64) -> Result<u64, LogError> {
        let mut end = offset;
        while offset < self.size {
            let bytes = self.get(offset, WINDOW_SIZE)?;
            if bytes.is_empty() {
                break;
            }
            if let Some(place) = bytes.iter().rposition(|byte| *byte != 0) {
                end = offset + u64::try_from(place + 1).unwrap_or(0);
            }
            offset += u64::try_from(bytes.len()).expect("sizes fit 64 bits");
        }
        Ok(end)
    }

    /// The first frame from `offset` on for which `wanted` holds.
    fn next_head(
        &mut self,
        seed: &Seed,
        first: u64,
        offset: u64,
        wanted: impl Fn(&Head) -> bool,
    ) -> Result<Option<(u64, Head)>, LogError> {
        let step = u64::try_from(ALIGNMENT).unwrap_or(8);
        let mut offset = offset.next_multiple_of(step).max(SEGMENT_HEADER_SIZE);
        while offset < self.size {
            let bytes = self.get(offset, HEAD_SIZE)?;
            if let Some(head) = seed.head(first, offset, bytes).filter(|head| wanted(head)) {
                return Ok(Some((offset, head)));
            }
            offset += step;
        }
        Ok(None)
    }

    fn body_is_right(&mut self, offset: u64, head: &Head) -> Result<bool, LogError> {
        let body_size = usize::try_from(head.frame_size()).unwrap_or(usize::MAX) - HEAD_SIZE;
        let body = self.get(offset + u64::try_from(HEAD_SIZE).unwrap_or(0), body_size)?;
        Ok(body.len() == body_size && crc32c::crc32c(body) == head.body_crc)
    }
}

/// Fills `into` unless the file ends before.
pub(crate) fn read_full(
    path: &str,
    file: &dyn DiskFile,
    offset: u64,
    into: &mut [u8],
) -> Result<usize, LogError> {
    let mut done = 0_usize;
    while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = offset + u64::try_from(done).expect("sizes fit 64 bits");
        let count =
            file.read_at(at, rest).map_err(|error| LogError::disk(path, Doing::Read, &error))?;
        if count == 0 {
            break;
        }
        done += count;
    }
    Ok(done)
}

/// The segments of a directory, by name.
fn list(disk: &dyn Disk, spec: &ScanSpec) -> Result<Vec<Segment>, LogError> {
    let directory = &spec.directory;
    let names =
        disk.list(directory).map_err(|error| LogError::disk(directory, Doing::List, &error))?;
    let mut segments = Vec::new();
    for name in names {
        let Some(first) = segment_first(&name) else { continue };
        let path = format!("{directory}/{name}");
        let opened = if spec.thorough { disk.open_read(&path) } else { disk.open(&path) };
        let file = opened.map_err(|error| LogError::disk(&path, Doing::Open, &error))?;
        segments.push(Segment { first, path, file, offsets: Vec::new(), end: SEGMENT_HEADER_SIZE });
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(segments)
}

/// Walks over a journal.
pub(crate) fn scan(disk: &dyn Disk, spec: &ScanSpec) -> Result<Scan, LogError> {
    let mut stale = list(disk, spec)?;
    let first = spec.first.or_else(|| stale.first().map(|oldest| oldest.first)).unwrap_or(1);
    let kept = stale.partition_point(|segment| segment.first <= first).saturating_sub(1);
    let segments = stale.split_off(kept.min(stale.len()));
    let mut scan =
        Scan { segments, stale, synced: 0, torn: None, doomed: Vec::new(), findings: Vec::new() };
    let mut next = first;
    for at in 0..scan.segments.len() {
        let stop = scan.segment(at, next, spec)?;
        if stop {
            break;
        }
        next = scan.segments.get(at).map_or(next, Segment::next);
    }
    scan.doom();
    scan.unsynced_bodies(spec)?;
    scan.doom();
    Ok(scan)
}

impl Scan {
    /// Walks over one segment; true where the journal ends in a torn tail.
    fn segment(&mut self, at: usize, next: u64, spec: &ScanSpec) -> Result<bool, LogError> {
        let Some(segment) = self.segments.get(at) else { return Ok(true) };
        let (first, path, file) = (segment.first, segment.path.clone(), Arc::clone(&segment.file));
        if first != next {
            return self.gap(at, next, spec);
        }
        let mut window = Window::new(&path, file.as_ref())?;
        let header = spec.seed.segment_header(first);
        if window.get(0, header.len())? != header {
            // The header is synced before any frame is written: with a frame behind it, it has rotted.
            if window.next_head(&spec.seed, first, 0, |_| true)?.is_none()
                && self.durable_later(at + 1, next, spec)?.is_none()
            {
                let size = window.used_end(0)?;
                self.tear(at, 0, finding(&path, 0, Place::Record(next), Damage::Tail { size }));
                return Ok(true);
            }
            self.findings.push(finding(&path, 0, Place::File, Damage::SegmentHeader));
        }
        let mut walk =
            Walk { offsets: Vec::new(), end: SEGMENT_HEADER_SIZE, synced: 0, bad: false };
        loop {
            self.walk(&mut window, &mut walk, first, spec)?;
            self.synced = self.synced.max(walk.synced);
            let number = first + u64::try_from(walk.offsets.len()).expect("counts fit 64 bits");
            let follower = self.segments.get(at + 1).map(|segment| segment.first);
            let sealed = if walk.bad { follower == Some(number) } else { follower.is_some() };
            let ended = !walk.bad && window.first_used(walk.end)?.is_none();
            if sealed || ended {
                if spec.thorough
                    && let Some((offset, value)) = window.first_used(walk.end)?
                {
                    self.findings.push(finding(
                        &path,
                        offset,
                        Place::File,
                        Damage::NotZero { value },
                    ));
                }
                break;
            }
            let ordinal_min = u32::try_from(walk.offsets.len()).unwrap_or(u32::MAX);
            let here =
                window.next_head(&spec.seed, first, walk.end, |head| head.synced >= number)?;
            if here.is_none() && self.durable_later(at + 1, number, spec)?.is_none() {
                let size = window.used_end(walk.end)?.saturating_sub(walk.end).max(1);
                let torn = finding(&path, walk.end, Place::Record(number), Damage::Tail { size });
                self.tear(at, walk.end, torn);
                self.put(at, walk);
                return Ok(true);
            }
            self.findings.push(finding(&path, walk.end, Place::Record(number), Damage::Frame));
            let resumed =
                window.next_head(&spec.seed, first, walk.end, |head| head.ordinal > ordinal_min)?;
            let Some((offset, head)) = resumed.filter(|_| spec.thorough) else { break };
            let lost = usize::try_from(head.ordinal).unwrap_or(usize::MAX);
            if lost > walk.offsets.len() + usize::try_from(window.size / 32).unwrap_or(0) {
                break; // more records than the bytes between could hold
            }
            walk.offsets.resize(lost, NOWHERE);
            walk.end = offset;
            walk.bad = false;
        }
        self.put(at, walk);
        Ok(false)
    }

    /// Goes on from `walk.end` as long as frames follow.
    fn walk(
        &mut self,
        window: &mut Window<'_>,
        walk: &mut Walk,
        first: u64,
        spec: &ScanSpec,
    ) -> Result<(), LogError> {
        loop {
            let bytes = window.get(walk.end, HEAD_SIZE)?;
            if bytes.iter().all(|byte| *byte == 0) {
                return Ok(());
            }
            let ordinal = u32::try_from(walk.offsets.len()).unwrap_or(u32::MAX);
            let head =
                spec.seed.head(first, walk.end, bytes).filter(|head| head.ordinal == ordinal);
            let Some(head) = head.filter(|head| walk.end + head.frame_size() <= window.size) else {
                walk.bad = true;
                return Ok(());
            };
            walk.offsets.push(u32::try_from(walk.end).unwrap_or(NOWHERE));
            walk.synced = walk.synced.max(head.synced);
            walk.end += head.frame_size();
        }
    }

    fn put(&mut self, at: usize, walk: Walk) {
        if let Some(segment) = self.segments.get_mut(at) {
            segment.offsets = walk.offsets;
            segment.end = walk.end;
        }
    }

    fn tear(&mut self, segment: usize, offset: u64, finding: Finding) {
        self.torn = Some(Torn { segment, offset, finding });
    }

    /// Sets aside the segments behind the tear.
    fn doom(&mut self) {
        if let Some(torn) = &self.torn {
            let keep = if torn.offset == 0 { torn.segment } else { torn.segment + 1 };
            let mut doomed = self.segments.split_off(keep.min(self.segments.len()));
            doomed.append(&mut self.doomed);
            self.doomed = doomed;
        }
    }

    /// A segment does not begin where the one before ended.
    fn gap(&mut self, at: usize, next: u64, spec: &ScanSpec) -> Result<bool, LogError> {
        let Some(segment) = self.segments.get(at) else { return Ok(true) };
        let (first, path) = (segment.first, segment.path.clone());
        let before = at.checked_sub(1).and_then(|before| self.segments.get(before));
        let lost = Damage::Missing { wanted: next, found: first };
        if first > next
            && let Some(before) = before
            && self.durable_later(at, next, spec)?.is_none()
        {
            let (file, offset) = (before.path.clone(), before.end);
            let torn = finding(&file, offset, Place::Record(next), Damage::Tail { size: 0 });
            self.tear(at - 1, offset, torn);
            return Ok(true);
        }
        self.findings.push(finding(&path, 0, Place::Record(next), lost));
        if spec.thorough && first > next {
            // Go on with what is there.
            return self.segment(at, first, spec);
        }
        Ok(true)
    }

    /// A frame in the segments from `at` on which says that record `number` was durable.
    fn durable_later(
        &self,
        at: usize,
        number: u64,
        spec: &ScanSpec,
    ) -> Result<Option<u64>, LogError> {
        for segment in self.segments.get(at..).unwrap_or_default() {
            let mut window = Window::new(&segment.path, segment.file.as_ref())?;
            let wanted = |head: &Head| head.synced >= number;
            if let Some((offset, _)) = window.next_head(&spec.seed, segment.first, 0, wanted)? {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    /// Checks the bodies above what is known durable (all of them in a thorough scan).
    fn unsynced_bodies(&mut self, spec: &ScanSpec) -> Result<(), LogError> {
        let synced = self.synced;
        for at in 0..self.segments.len() {
            let Some(segment) = self.segments.get(at) else { break };
            if segment.next() <= synced + 1 && !spec.thorough {
                continue;
            }
            let (path, file) = (segment.path.clone(), Arc::clone(&segment.file));
            let (first, offsets) = (segment.first, segment.offsets.clone());
            let mut window = Window::new(&path, file.as_ref())?;
            for (number, offset) in (first..).zip(offsets) {
                if offset == NOWHERE || (number <= synced && !spec.thorough) {
                    continue;
                }
                let offset = u64::from(offset);
                let head = spec.seed.head(first, offset, window.get(offset, HEAD_SIZE)?);
                if let Some(head) = head
                    && window.body_is_right(offset, &head)?
                {
                    continue;
                }
                if number <= synced {
                    self.findings.push(finding(
                        &path,
                        offset,
                        Place::Record(number),
                        Damage::Frame,
                    ));
                    continue;
                }
                let size = window.used_end(offset)?.saturating_sub(offset);
                self.tear(
                    at,
                    offset,
                    finding(&path, offset, Place::Record(number), Damage::Tail { size }),
                );
                self.cut(at, number);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Forgets `number` of segment `at` and all that follows.
    fn cut(&mut self, at: usize, number: u64) {
        if let Some(segment) = self.segments.get_mut(at) {
            let keep = usize::try_from(number.saturating_sub(segment.first)).unwrap_or(usize::MAX);
            if let Some(offset) = segment.offsets.get(keep) {
                segment.end = u64::from(*offset);
            }
            segment.offsets.truncate(keep);
        }
        for later in self.segments.iter_mut().skip(at + 1) {
            later.offsets.clear();
        }
    }
}

fn finding(file: &str, offset: u64, place: Place, damage: Damage) -> Finding {
    Finding { file: file.to_owned(), offset, place, damage }
}

/// Path of the segment whose first record is `first`.
pub(crate) fn segment_path(directory: &str, first: u64) -> String {
    format!("{directory}/{}", segment_name(first))
}
