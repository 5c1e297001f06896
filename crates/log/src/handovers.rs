//! The last headers of epochs, each with what commits it: they stay when other headers are pruned, for who knows the genesis
//! follows the validators by them alone.
//!
//! ```text
//!  handovers/…log     record 1: the last header of epoch 0, which carries the set of epoch 1 │ 2: of epoch 1 │ …
//! ```
//! * H1 A record is durable before its header is written among the [`headers`](crate::headers). One whose header was lost
//!   is shown to nobody, and stands for it when it comes again: a height has one header.

use std::sync::Arc;

use quipu_types::{CommitCertificate, Encode, Hash, Header, Height};

use crate::disk::Disk;
use crate::error::{Damage, LogError, Place};
use crate::frame::Seed;
use crate::headers::decode_header;
use crate::journal::{Journal, JournalReader, JournalSpec};
use crate::scan::{ScanSpec, scan};

pub(crate) const HANDOVERS: &str = "handovers";
pub(crate) const HANDOVERS_TAG: u64 = 0x0500;

/// A header with the certificate that commits it.
type Committed = (Header, CommitCertificate);

/// The writer's side.
#[derive(Debug)]
pub(crate) struct Handovers {
    journal: Journal,
}

impl Handovers {
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        chain: &Hash,
        segment_size: u64,
    ) -> Result<Self, LogError> {
        let spec = JournalSpec {
            directory: HANDOVERS.to_owned(),
            seed: Seed::new(chain, HANDOVERS_TAG),
            segment_size,
            first: Some(1),
            buffered: false,
        };
        let (journal, _) = Journal::open(disk, spec)?;
        Ok(Self { journal })
    }

    pub(crate) fn reader(&self) -> &JournalReader {
        self.journal.reader()
    }

    /// Keeps, durably, a header that ends its epoch (H1).
    pub(crate) fn keep(
        &mut self,
        header: &Header,
        certificate: &CommitCertificate,
    ) -> Result<(), LogError> {
        let number = header.epoch.saturating_add(1);
        if number < self.journal.next() {
            return Ok(());
        }
        if number > self.journal.next() {
            return Err(LogError::HeaderDoesNotLink { height: header.height });
        }
        self.journal.append(|out| {
            header.encode(out);
            certificate.encode(out);
        })?;
        let sync = self.journal.take_sync();
        sync.run()?;
        self.journal.synced(sync.upto);
        Ok(())
    }
}

/// The last headers of epochs that a log has, from the genesis' on, as far as they can be read; nothing is changed.
///
/// # Errors
/// What the medium gives.
pub fn handovers(disk: &dyn Disk, chain: &Hash) -> Result<Vec<Committed>, LogError> {
    if disk.list(HANDOVERS).is_err() {
        return Ok(Vec::new());
    }
    let seed = Seed::new(chain, HANDOVERS_TAG);
    let spec = ScanSpec { directory: HANDOVERS.to_owned(), seed, first: Some(1), thorough: false };
    let reader = JournalReader::new(HANDOVERS, seed, scan(disk, &spec)?.segments);
    let last = Height::new(u64::MAX);
    let each = (0_u64..).map_while(|epoch| read_handover(&reader, epoch, last).ok().flatten());
    Ok(each.collect())
}

/// The last header of an epoch, if it is not above `height`.
pub(crate) fn read_handover(
    journal: &JournalReader,
    epoch: u64,
    height: Height,
) -> Result<Option<Committed>, LogError> {
    let number = epoch.saturating_add(1);
    let (first, next) = journal.range();
    if !(first..next).contains(&number) {
        return Ok(None);
    }
    let (header, certificate) = decode_header(&journal.read(number)?).map_err(|reason| {
        journal.damaged(number, Place::Record(number), Damage::Malformed { reason })
    })?;
    let is_right = header.epoch == epoch && header.next_set.is_some();
    if !is_right {
        return Err(journal.damaged(number, Place::Record(number), Damage::Certificate));
    }
    Ok((header.height <= height).then_some((header, certificate)))
}
