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

impl HeaderLog {
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        chain: Hash,
        segment_size: u64,
    ) -> Result<(Self, Option<Committed>, Option<Finding>), LogError> {
        let spec = JournalSpec {
            directory: HEADERS.to_owned(),
            seed: Seed::new(&chain, HEADERS_TAG),
            segment_size,
            floating: false,
            buffered: false,
        };
        let (journal, torn) = Journal::open(disk, spec)?;
        let height = Height::new(journal.next().saturating_sub(1));
        let mut last = chain;
        let mut tip = None;
        if height.get() > 0 {
            let (header, certificate) = read_header(journal.reader(), height)?;
            last = names::header_hash(&header);
            tip = Some((header, certificate));
        }
        Ok((Self { journal, last }, tip, torn))
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

    pub(crate) fn take_sync(&mut self) -> JournalSync {
        self.journal.take_sync()
    }

    pub(crate) fn synced(&mut self, upto: u64) {
        self.journal.synced(upto);
    }
}
