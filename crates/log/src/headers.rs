//! The chain of committed headers, each with the certificate that commits it. Record number = height.

use quipu_proof::names;
use quipu_types::{CommitCertificate, Decode, DecodeError, Encode, Hash, Header, Height, Reader};
use std::sync::Arc;

use crate::disk::Disk;
use crate::error::{Damage, Finding, LogError, Place};
use crate::frame::Seed;
use crate::journal::{Journal, JournalReader, JournalSpec, JournalSync};

pub(crate) const HEADERS: &str = "headers";
pub(crate) const HEADERS_TAG: u64 = 0x0200;

/// A header with the certificate that commits it.
type Committed = (Header, CommitCertificate);

/// The writer's side.
#[derive(Debug)]
pub(crate) struct HeaderLog {
    journal: Journal,
    /// Hash of the last header; the chain id before the first.
    last: Hash,
}

/// Reads a header record.
pub(crate) fn decode_header(bytes: &[u8]) -> Result<(Header, CommitCertificate), DecodeError> {
    let mut reader = Reader::new(bytes);
    let header = Header::decode(&mut reader)?;
    let certificate = CommitCertificate::decode(&mut reader)?;
    reader.end()?;
    Ok((header, certificate))
}

/// A stored header.
pub(crate) fn read_header(
    journal: &JournalReader,
    height: Height,
) -> Result<(Header, CommitCertificate), LogError> {
    let (first, next) = journal.range();
    if (1..first).contains(&height.get()) {
        return Err(LogError::HeightPruned { height, first: Height::new(first) });
    }
    if !(first..next).contains(&height.get()) {
        return Err(LogError::NoHeight { height });
    }
    let place = Place::Header(height);
    let bytes = journal.read(height.get()).map_err(|error| match error {
        LogError::Damaged(finding) => LogError::Damaged(Box::new(Finding { place, ..*finding })),
        other => other,
    })?;
    let (header, certificate) = decode_header(&bytes)
        .map_err(|reason| journal.damaged(height.get(), place, Damage::Malformed { reason }))?;
    if header.height != height || certificate.digest() != Some(names::header_hash(&header)) {
        return Err(journal.damaged(height.get(), place, Damage::Certificate));
    }
    Ok((header, certificate))
}

fn spec(chain: &Hash, segment_size: u64, first: Height) -> JournalSpec {
    JournalSpec {
        directory: HEADERS.to_owned(),
        seed: Seed::new(chain, HEADERS_TAG),
        segment_size,
        first: Some(first.get()),
        buffered: false,
    }
}

/// What is wrong when a log was pruned up to a header, and there is none.
pub(crate) fn headers_gone(journal: &JournalReader, first: Height) -> Option<Finding> {
    let (begin, next) = journal.range();
    (first > Height::new(1) && begin == next).then(|| Finding {
        file: HEADERS.to_owned(),
        offset: 0,
        place: Place::Header(first),
        damage: Damage::Gone,
    })
}

impl HeaderLog {
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        chain: Hash,
        segment_size: u64,
        first: Height,
    ) -> Result<(Self, Option<Committed>, Option<Finding>), LogError> {
        let (journal, torn) = Journal::open(disk, spec(&chain, segment_size, first))?;
        if let Some(finding) = headers_gone(journal.reader(), first) {
            return Err(LogError::Damaged(Box::new(finding)));
        }
        let height = Height::new(journal.next().saturating_sub(1));
        let mut last = chain;
        let mut tip = None;
        if height >= first {
            let (header, certificate) = read_header(journal.reader(), height)?;
            last = names::header_hash(&header);
            tip = Some((header, certificate));
        }
        Ok((Self { journal, last }, tip, torn))
    }

    /// Writes, durably, the header that a log begins with, where there is none.
    pub(crate) fn begin(
        disk: &Arc<dyn Disk>,
        chain: Hash,
        segment_size: u64,
        header: &Header,
        certificate: &CommitCertificate,
    ) -> Result<(), LogError> {
        let first = header.height;
        let (journal, _) = Journal::open(disk, spec(&chain, segment_size, first))?;
        let mut log = Self { journal, last: chain };
        log.append(header, certificate)?;
        log.take_sync().run()
    }

    pub(crate) fn reader(&self) -> &JournalReader {
        self.journal.reader()
    }

    /// Whether the header and its certificate continue the chain.
    pub(crate) fn links(&self, header: &Header, certificate: &CommitCertificate) -> bool {
        header.height.get() == self.journal.next()
            && header.prev_header == self.last
            && certificate.digest() == Some(names::header_hash(header))
    }

    pub(crate) fn append(
        &mut self,
        header: &Header,
        certificate: &CommitCertificate,
    ) -> Result<(), LogError> {
        self.journal.append(|out| {
            header.encode(out);
            certificate.encode(out);
        })?;
        self.last = names::header_hash(header);
        Ok(())
    }

    /// The first header that stays when those below `height` may go: segments go whole.
    pub(crate) fn first_kept(&self, height: Height) -> Height {
        Height::new(self.reader().segment_first(height.get()))
    }

    /// Removes what is before a height that [`HeaderLog::first_kept`] gave.
    pub(crate) fn prune(&mut self, first: Height) -> Result<(), LogError> {
        self.journal.remove_below(first.get())
    }

    pub(crate) fn take_sync(&mut self) -> JournalSync {
        self.journal.take_sync()
    }

    pub(crate) fn synced(&mut self, upto: u64) {
        self.journal.synced(upto);
    }
}
