//! The write-ahead log: what consensus must not forget before it speaks.
//!
//! Records stay in memory until the sync that makes them durable, and are written only after the lanes and headers
//! of that sync are: a vote that is found after a crash never speaks of chunks that the crash took.
//!
//! ```text
//!  begin(h): records below h - 1 are of no use ─> a new segment, if the last is large enough
//!                                              ─> the old ones go once the next sync is done
//! ```
//! Size on the medium: the records of two heights and what the caller repeats, and at most two segments more.

use std::sync::Arc;

use quipu_types::{Decode, Encode, Hash, Height, Reader};

use crate::disk::Disk;
use crate::error::{Damage, Finding, LogError, Place};
use crate::frame::Seed;
use crate::headers::HEADERS;
use crate::journal::{Journal, JournalSpec, JournalSync};
use crate::record::WalRecord;

pub(crate) const WAL: &str = "wal";
pub(crate) const WAL_TAG: u64 = 0x0300;

/// How far ahead of the last header a record may be: a height is begun while the header before waits for the sync
/// that its own chunks, or its neighbours', are part of.
pub(crate) const AHEAD_MAX: u64 = 2;

/// The writer's side.
#[derive(Debug)]
pub(crate) struct Wal {
    journal: Journal,
    segment_size: u64,
    /// Per segment that ended: its last record and the highest height in it.
    ended: Vec<(u64, Height)>,
    /// Highest height of the last segment.
    height_max: Height,
    /// First record of the segment that `height_max` is of.
    first: u64,
    /// Records of lower heights are of no use.
    floor: Height,
}

/// A sync of the log, with what may be dropped after it.
#[derive(Debug)]
pub(crate) struct WalSync {
    pub(crate) journal: JournalSync,
    floor: Height,
}

impl Wal {
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        chain: Hash,
        segment_size: u64,
    ) -> Result<(Self, Vec<WalRecord>, Option<Finding>), LogError> {
        let spec = JournalSpec {
            directory: WAL.to_owned(),
            seed: Seed::new(&chain, WAL_TAG),
            segment_size,
            first: None,
            buffered: true,
        };
        let (journal, torn) = Journal::open(disk, spec)?;
        let (first, next) = journal.reader().range();
        let mut wal = Self {
            journal,
            segment_size,
            ended: Vec::new(),
            height_max: Height::default(),
            first,
            floor: Height::default(),
        };
        let mut records = Vec::new();
        for number in first..next {
            let bytes = wal.journal.reader().read(number)?;
            let record = decode_wal(&bytes).ok_or_else(|| {
                let damage = Damage::Link { field: "height" };
                wal.journal.reader().damaged(number, Place::Record(number), damage)
            })?;
            wal.note(number, record.height, wal.journal.reader().segment_first(number));
            records.push(record);
        }
        Ok((wal, records, torn))
    }

    /// Keeps count of the heights of segments.
    fn note(&mut self, number: u64, height: Height, segment_first: u64) {
        if segment_first != self.first {
            self.ended.push((number.saturating_sub(1), self.height_max));
            self.first = segment_first;
            self.height_max = height;
        }
        self.height_max = self.height_max.max(height);
    }

    pub(crate) fn append(&mut self, height: Height, bytes: &[u8]) -> Result<(), LogError> {
        let number = self.journal.append(|out| {
            height.encode(out);
            out.extend_from_slice(bytes);
        })?;
        self.note(number, height, self.journal.last_first());
        Ok(())
    }

    pub(crate) fn begin(&mut self, height: Height) -> Result<(), LogError> {
        let floor = Height::new(height.get().saturating_sub(1));
        self.floor = self.floor.max(floor);
        // A segment that is half full of old heights is worth a new one.
        if self.journal.last_size() > self.segment_size / 2 && self.height_max < self.floor {
            self.journal.rotate()?;
        }
        Ok(())
    }

    pub(crate) fn take_sync(&mut self) -> WalSync {
        WalSync { journal: self.journal.take_sync(), floor: self.floor }
    }

    pub(crate) fn synced(&mut self, sync: &WalSync) -> Result<(), LogError> {
        self.journal.synced(sync.journal.upto);
        let dead =
            |(last, height): &&(u64, Height)| *height < sync.floor && *last <= sync.journal.upto;
        let count = self.ended.iter().take_while(dead).count();
        if let Some((last, _)) = count.checked_sub(1).and_then(|at| self.ended.get(at)) {
            self.journal.remove_below(last.saturating_add(1))?;
            self.ended.drain(..count);
        }
        Ok(())
    }
}

/// What is wrong when the last header is of height `headers` and the log has records about `height`.
///
/// The headers of a sync are durable before its records are written, so no crash can take one and leave the other.
pub(crate) fn headers_short(headers: Height, height: Height) -> Option<Finding> {
    (height.get() > headers.get().saturating_add(AHEAD_MAX)).then(|| Finding {
        file: HEADERS.to_owned(),
        offset: 0,
        place: Place::Header(headers.next()),
        damage: Damage::HeadersShort { height },
    })
}

/// Reads a record of the log.
pub(crate) fn decode_wal(bytes: &[u8]) -> Option<WalRecord> {
    let mut reader = Reader::new(bytes);
    let height = Height::decode(&mut reader).ok()?;
    let bytes = reader.take(reader.left()).ok()?.to_vec();
    Some(WalRecord { height, bytes })
}
