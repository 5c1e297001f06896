//! One sequence of records over segments: appended at the end, synced in groups, read anywhere by number.
//!
//! ```text
//!  00000000000000000001.log   [header][frame 1][frame 2] … [frame 40]0000    sealed
//!  00000000000000000041.log   [header][frame 41]0000000000000000000000000    grows by zero-filled steps
//! ```
//! * J1 An append that fails leaves no trace: the file is cut back to where it was. If even that fails, the journal
//!   refuses everything until the process has recovered.
//! * J2 A segment's header and name are durable before its first frame is written.
//! * J3 A read gives the record's bytes with both checksums right, or an error.
//!
//! A segment grows by steps of 16 KiB to 1 MiB that are written with zeros just ahead of the data, not in one piece:
//! the sync of a small group then rewrites allocated blocks and leaves the file system's own journal alone, no append ever waits
//! for 16 MiB of zeros, and a ledger of many quiet lanes stays small.
//!
//! Memory: 4 bytes a record.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets are below 2^32 and record numbers far below 2^64"
)]

use std::io;
use std::mem;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, Doing, Finding, LogError, Place};
use crate::frame::{FramePlace, HEAD_SIZE, RECORD_SIZE_MAX, SEGMENT_HEADER_SIZE, Seed, frame_size};
use crate::scan::{ScanSpec, Segment, read_full, scan, segment_path};

/// Smallest and largest step by which a segment grows.
const STEP_MIN: u64 = 16 << 10;
const STEP_MAX: u64 = 1 << 20;
/// Largest segment: offsets are kept in 32 bits.
const SEGMENT_SIZE_MAX: u64 = 1 << 30;

/// Which journal.
#[derive(Clone, Debug)]
pub(crate) struct JournalSpec {
    pub(crate) directory: String,
    pub(crate) seed: Seed,
    pub(crate) segment_size: u64,
    /// The first record that must be there, and the number of the first where there is none; those before it may be gone. None: any
    /// may be gone.
    pub(crate) first: Option<u64>,
    /// Whether frames stay in memory until the next sync.
    pub(crate) buffered: bool,
}

/// The writer's side of a journal.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    spec: JournalSpec,
    reader: JournalReader,
    next: u64,
    /// Records up to this one are durable.
    synced: u64,
    /// Bytes of the last segment that are written or zero-filled.
    allocated: u64,
    scratch: Vec<u8>,
    pending: Vec<PendingWrite>,
    dirty: Vec<(String, Arc<dyn DiskFile>)>,
    failed: bool,
}

/// The readers' side: clones share the index.
#[derive(Clone, Debug)]
pub(crate) struct JournalReader {
    directory: String,
    seed: Seed,
    segments: Arc<RwLock<Vec<Segment>>>,
}

/// What makes a journal durable up to a record.
#[derive(Debug)]
pub(crate) struct JournalSync {
    writes: Vec<PendingWrite>,
    files: Vec<(String, Arc<dyn DiskFile>)>,
    pub(crate) upto: u64,
}

#[derive(Debug)]
struct PendingWrite {
    path: String,
    file: Arc<dyn DiskFile>,
    offset: u64,
    bytes: Vec<u8>,
}

impl JournalSync {
    pub(crate) fn run(&self) -> Result<(), LogError> {
        for write in &self.writes {
            write
                .file
                .write_at(write.offset, &write.bytes)
                .map_err(|error| LogError::disk(&write.path, Doing::Write, &error))?;
        }
        for (path, file) in &self.files {
            sync_file(path, file.as_ref())?;
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

pub(crate) fn sync_file(path: &str, file: &dyn DiskFile) -> Result<(), LogError> {
    file.sync().map_err(|error| LogError::SyncFailed { file: path.to_owned(), kind: error.kind() })
}

pub(crate) fn sync_dir(disk: &dyn Disk, directory: &str) -> Result<(), LogError> {
    disk.sync_dir(directory)
        .map_err(|error| LogError::SyncFailed { file: directory.to_owned(), kind: error.kind() })
}

impl JournalReader {
    pub(crate) fn new(directory: &str, seed: Seed, segments: Vec<Segment>) -> Self {
        Self { directory: directory.to_owned(), seed, segments: Arc::new(RwLock::new(segments)) }
    }

    fn read_lock(&self) -> RwLockReadGuard<'_, Vec<Segment>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_lock(&self) -> RwLockWriteGuard<'_, Vec<Segment>> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers of the records that there are, first and one past the last.
    pub(crate) fn range(&self) -> (u64, u64) {
        let segments = self.read_lock();
        let first = segments.first().map_or(1, |segment| segment.first);
        (first, segments.last().map_or(first, Segment::next))
    }

    /// First record of the segment that holds a record.
    pub(crate) fn segment_first(&self, number: u64) -> u64 {
        let segments = self.read_lock();
        let at = segments.partition_point(|segment| segment.first <= number);
        at.checked_sub(1).and_then(|at| segments.get(at)).map_or(1, |segment| segment.first)
    }

    /// Where a record stands, for messages.
    pub(crate) fn locate(&self, number: u64) -> (String, u64) {
        let segments = self.read_lock();
        let at = segments.partition_point(|segment| segment.first <= number);
        match at.checked_sub(1).and_then(|at| segments.get(at)) {
            Some(segment) => {
                let start = segment.bounds(number).map_or(segment.end, |(start, _)| start);
                (segment.path.clone(), start)
            }
            None => (self.directory.clone(), 0),
        }
    }

    /// An error that names a record's file and offset.
    pub(crate) fn damaged(&self, number: u64, place: Place, damage: Damage) -> LogError {
        let (file, offset) = self.locate(number);
        LogError::damaged(&file, offset, place, damage)
    }

    /// A record (J3). Numbers come from an index, so one that is not there is damage.
    pub(crate) fn read(&self, number: u64) -> Result<Vec<u8>, LogError> {
        let (segment, start, end) = self.bounds(number)?;
        let frame = self.read_span(&segment, start, end - start)?;
        let bad = || LogError::damaged(&segment.path, start, Place::Record(number), Damage::Frame);
        let head = self.seed.head(segment.first, start, &frame).ok_or_else(bad)?;
        let ordinal = u64::from(head.ordinal) + segment.first;
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        let body_end = usize::try_from(head.frame_size()).unwrap_or(usize::MAX);
        let body = frame.get(HEAD_SIZE..body_end).ok_or_else(bad)?;
        if ordinal != number || crc32c::crc32c(body) != head.body_crc {
            return Err(bad());
        }
        let mut record = frame;
        record.drain(..HEAD_SIZE);
        record.truncate(length);
        Ok(record)
    }

    /// The first bytes of a record, its body's checksum not looked at: only to find places by.
    pub(crate) fn prefix(&self, number: u64, size: u64) -> Result<Vec<u8>, LogError> {
        let (segment, start, end) = self.bounds(number)?;
        let head_size = u64::try_from(HEAD_SIZE).expect("sizes fit 64 bits");
        let mut bytes = self.read_span(&segment, start, (end - start).min(size + head_size))?;
        bytes.drain(..HEAD_SIZE.min(bytes.len()));
        Ok(bytes)
    }

    /// The segment of a record without its offsets, and the frame's bounds.
    fn bounds(&self, number: u64) -> Result<(Segment, u64, u64), LogError> {
        let segments = self.read_lock();
        let at = segments.partition_point(|segment| segment.first <= number);
        let segment = at.checked_sub(1).and_then(|at| segments.get(at));
        if let Some(segment) = segment
            && let Some((start, end)) = segment.bounds(number)
        {
            let segment = Segment {
                first: segment.first,
                path: segment.path.clone(),
                file: Arc::clone(&segment.file),
                offsets: Vec::new(),
                end: segment.end,
            };
            return Ok((segment, start, end));
        }
        drop(segments);
        Err(self.damaged(number, Place::Record(number), Damage::Frame))
    }

    fn read_span(&self, segment: &Segment, start: u64, size: u64) -> Result<Vec<u8>, LogError> {
        let size = size.min(frame_size(RECORD_SIZE_MAX) + SEGMENT_HEADER_SIZE);
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        let count = read_full(&segment.path, segment.file.as_ref(), start, &mut bytes)?;
        bytes.truncate(count);
        Ok(bytes)
    }
}

impl Journal {
    /// Opens or makes a journal and cuts its torn tail, which is returned.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        spec: JournalSpec,
    ) -> Result<(Self, Option<Finding>), LogError> {
        make_dir(disk.as_ref(), &spec.directory)?;
        let scan_spec = ScanSpec {
            directory: spec.directory.clone(),
            seed: spec.seed,
            first: spec.first,
            thorough: false,
        };
        let mut scan = scan(disk.as_ref(), &scan_spec)?;
        if let Some(finding) = scan.findings.into_iter().next() {
            return Err(LogError::Damaged(Box::new(finding)));
        }
        let torn = scan.torn.take();
        for segment in scan.stale.iter().chain(scan.doomed.iter().rev()) {
            disk.remove(&segment.path)
                .map_err(|error| LogError::disk(&segment.path, Doing::Remove, &error))?;
            sync_dir(disk.as_ref(), &spec.directory)?;
        }
        let mut allocated = 0;
        if let Some(last) = scan.segments.last() {
            let failed = |doing| move |error: io::Error| LogError::disk(&last.path, doing, &error);
            if torn.is_some() {
                last.file.truncate(last.end).map_err(failed(Doing::Truncate))?;
            }
            allocated = last.file.size().map_err(failed(Doing::Read))?;
        }
        let next = scan.segments.last().map_or(spec.first.unwrap_or(1), Segment::next);
        // What a killed process left in the system's cache becomes durable before anything builds on it.
        for segment in scan.segments.iter().filter(|segment| segment.next() > scan.synced) {
            sync_file(&segment.path, segment.file.as_ref())?;
        }
        sync_dir(disk.as_ref(), &spec.directory)?;
        let reader = JournalReader::new(&spec.directory, spec.seed, scan.segments);
        let journal = Self {
            disk: Arc::clone(disk),
            spec: JournalSpec {
                segment_size: spec.segment_size.clamp(4 << 10, SEGMENT_SIZE_MAX),
                ..spec
            },
            reader,
            next,
            synced: next - 1,
            allocated,
            scratch: Vec::new(),
            pending: Vec::new(),
            dirty: Vec::new(),
            failed: false,
        };
        Ok((journal, torn.map(|torn| torn.finding)))
    }

    pub(crate) fn reader(&self) -> &JournalReader {
        &self.reader
    }

    /// Number that the next record gets.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Appends the record that `encode` adds to the buffer it is given; its number.
    pub(crate) fn append(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> Result<u64, LogError> {
        let mut frame = mem::take(&mut self.scratch);
        frame.clear();
        frame.resize(HEAD_SIZE, 0);
        encode(&mut frame);
        let result = self.append_frame(&mut frame);
        self.scratch = frame;
        result
    }

    fn append_frame(&mut self, frame: &mut Vec<u8>) -> Result<u64, LogError> {
        let length = frame.len() - HEAD_SIZE;
        assert!(length > 0, "a record has at least one byte");
        if length > RECORD_SIZE_MAX {
            return Err(LogError::TooLarge { size: length, size_max: RECORD_SIZE_MAX });
        }
        if self.failed {
            return Err(LogError::Failed { file: self.spec.directory.clone() });
        }
        let size = frame_size(length);
        frame.resize(usize::try_from(size).expect("frames are small"), 0);
        let last = self.last();
        let fits = last.as_ref().is_some_and(|last| {
            last.first == self.next || last.end + size <= self.spec.segment_size
        });
        let last = match last.filter(|_| fits) {
            Some(last) => last,
            None => self.rotate()?,
        };
        let place = FramePlace {
            first: last.first,
            offset: last.end,
            ordinal: u32::try_from(self.next - last.first).expect("a segment has few records"),
            synced: self.synced,
        };
        self.spec.seed.seal(frame, length, place);
        if self.spec.buffered { self.hold(&last, frame) } else { self.write(&last, frame) }?;
        let number = self.next;
        self.next += 1;
        self.note_dirty(&last);
        let mut segments = self.reader.write_lock();
        let segment = segments.last_mut().expect("rotation made one");
        segment.offsets.push(u32::try_from(last.end).expect("segments are below 4 GiB"));
        segment.end += size;
        Ok(number)
    }

    /// The last segment without its offsets.
    fn last(&self) -> Option<Segment> {
        self.reader.read_lock().last().map(|segment| Segment {
            first: segment.first,
            path: segment.path.clone(),
            file: Arc::clone(&segment.file),
            offsets: Vec::new(),
            end: segment.end,
        })
    }

    fn note_dirty(&mut self, segment: &Segment) {
        if self.dirty.last().is_none_or(|(path, _)| *path != segment.path) {
            self.dirty.push((segment.path.clone(), Arc::clone(&segment.file)));
        }
    }

    /// Where the zero-filled part is to end when data reaches `end`.
    fn step(&self, end: u64) -> u64 {
        let step = end.clamp(STEP_MIN, STEP_MAX);
        (end + step).next_multiple_of(4096).min(self.spec.segment_size.max(end))
    }

    /// Writes a frame at once; zeros ahead of it are a matter of speed only.
    fn write(&mut self, last: &Segment, frame: &[u8]) -> Result<(), LogError> {
        if let Err(error) = last.file.write_at(last.end, frame) {
            self.undo(last);
            return Err(LogError::disk(&last.path, Doing::Write, &error));
        }
        let end = last.end + u64::try_from(frame.len()).expect("sizes fit 64 bits");
        if end > self.allocated {
            let wanted = self.step(end);
            self.allocated = match last.file.preallocate(wanted) {
                Ok(()) => wanted,
                Err(_) => end,
            };
        }
        Ok(())
    }

    /// Keeps a frame for the next sync, its room on the medium taken now so that the sync finds it.
    fn hold(&mut self, last: &Segment, frame: &[u8]) -> Result<(), LogError> {
        let end = last.end + u64::try_from(frame.len()).expect("sizes fit 64 bits");
        if end > self.allocated {
            let wanted = self.step(end);
            last.file
                .preallocate(wanted)
                .map_err(|error| LogError::disk(&last.path, Doing::Write, &error))?;
            self.allocated = wanted;
        }
        match self.pending.last_mut() {
            Some(pending) if pending.path == last.path => pending.bytes.extend_from_slice(frame),
            _ => self.pending.push(PendingWrite {
                path: last.path.clone(),
                file: Arc::clone(&last.file),
                offset: last.end,
                bytes: frame.to_vec(),
            }),
        }
        Ok(())
    }

    /// Takes back a write that failed (J1).
    fn undo(&mut self, last: &Segment) {
        match last.file.truncate(last.end) {
            Ok(()) => self.allocated = last.end,
            Err(_) => self.failed = true,
        }
    }

    /// Begins a segment (J2).
    pub(crate) fn rotate(&mut self) -> Result<Segment, LogError> {
        let path = segment_path(&self.spec.directory, self.next);
        let header = self.spec.seed.segment_header(self.next);
        let file = self.make(&path, &header);
        if file.is_err() && self.disk.remove(&path).is_err() {
            // Nothing was made, or what was made is an empty segment, which recovery takes away.
            self.failed = !matches!(file, Err(LogError::Full { .. }));
        }
        let segment = Segment {
            first: self.next,
            path,
            file: file?,
            offsets: Vec::new(),
            end: SEGMENT_HEADER_SIZE,
        };
        self.allocated = SEGMENT_HEADER_SIZE;
        self.reader.write_lock().push(segment.clone());
        Ok(segment)
    }

    fn make(&self, path: &str, header: &[u8]) -> Result<Arc<dyn DiskFile>, LogError> {
        let file = match self.disk.create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Left by a failure of this very step.
                let file = self.disk.open(path);
                file.and_then(|file| file.truncate(0).map(|()| file))
            }
            made => made,
        };
        let file = file.map_err(|error| LogError::disk(path, Doing::Create, &error))?;
        file.write_at(0, header).map_err(|error| LogError::disk(path, Doing::Write, &error))?;
        sync_file(path, file.as_ref())?;
        sync_dir(self.disk.as_ref(), &self.spec.directory)?;
        Ok(file)
    }

    /// Bytes of the last segment that hold records.
    pub(crate) fn last_size(&self) -> u64 {
        self.last().map_or(0, |last| last.end)
    }

    /// First record of the last segment.
    pub(crate) fn last_first(&self) -> u64 {
        self.last().map_or(1, |last| last.first)
    }

    /// Removes the segments that end before record `first`, oldest first, so that no gap can come about.
    pub(crate) fn remove_below(&mut self, first: u64) -> Result<(), LogError> {
        loop {
            let path = {
                let segments = self.reader.read_lock();
                let [oldest, second, ..] = segments.as_slice() else { return Ok(()) };
                if second.first > first {
                    return Ok(());
                }
                oldest.path.clone()
            };
            self.disk
                .remove(&path)
                .map_err(|error| LogError::disk(&path, Doing::Remove, &error))?;
            sync_dir(self.disk.as_ref(), &self.spec.directory)?;
            self.reader.write_lock().remove(0);
        }
    }

    /// What makes all records so far durable.
    pub(crate) fn take_sync(&mut self) -> JournalSync {
        let (writes, files) = (mem::take(&mut self.pending), mem::take(&mut self.dirty));
        JournalSync { writes, files, upto: self.next - 1 }
    }

    /// Records up to `upto` are durable.
    pub(crate) fn synced(&mut self, upto: u64) {
        self.synced = self.synced.max(upto);
    }
}

/// Makes a directory, its name durable.
pub(crate) fn make_dir(disk: &dyn Disk, directory: &str) -> Result<(), LogError> {
    match disk.list(directory) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(LogError::disk(directory, Doing::List, &error)),
    }
    disk.make_dir(directory).map_err(|error| LogError::disk(directory, Doing::Create, &error))?;
    let parent = directory.rsplit_once('/').map_or("", |(parent, _)| parent);
    sync_dir(disk, parent)?;
    if parent.is_empty() { Ok(()) } else { sync_dir(disk, "") }
}
