//! State certificates by height, in files of equal slots: what proofs of receipts need.
//!
//! ```text
//!  certificates      slot of height h at (h - 1) * slot_size:  crc32c u32 · length u32 · certificate · zeros
//!                                                              all zero: not there (yet)
//!  certificates.E    the same from the first height of epoch E on, where the number of validators changed with it
//! ```
//! * The checksum covers height, length and certificate, so that a slot is never read as another's.
//! * Derived: a lost slot is signed for again after a restart, from the stored roots, byte for byte the same.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use quipu_log::{Disk, DiskFile};
use quipu_proof::Epochs;
use quipu_types::{Decode, Encode, Height, StateCertificate};
use thiserror::Error;

/// Name of the file.
pub(crate) const CERTIFICATE_FILE: &str = "certificates";
const HEAD_SIZE: usize = 8;
const STATE_SIZE: usize = 8 + 32 + 32 + 33 + 4;
const SIGNATURE_SIZE: usize = 2 + 64;

/// Why a slot can not be read or written.
#[derive(Debug, Error)]
pub(crate) enum CertificateFileError {
    /// The system refused.
    #[error("{CERTIFICATE_FILE}: {0}")]
    Io(#[from] std::io::Error),
    /// The slot's bytes are not what was written.
    #[error(
        "{CERTIFICATE_FILE} at byte {offset}, height {height}: the state certificate fails its checksum"
    )]
    Damaged {
        /// The height.
        height: Height,
        /// Where its slot begins.
        offset: u64,
    },
}

/// The files.
#[derive(Debug)]
pub(crate) struct CertificateFile {
    disk: Arc<dyn Disk>,
    /// Ascending by first height, never empty.
    parts: RwLock<Vec<Part>>,
}

/// One file.
#[derive(Clone, Debug)]
struct Part {
    first: Height,
    file: Arc<dyn DiskFile>,
    slot_size: usize,
}

impl CertificateFile {
    /// Opens the files, or makes them: the number of validators in an epoch fixes the size of a slot.
    pub(crate) fn open(disk: Arc<dyn Disk>, epochs: &Epochs) -> std::io::Result<Self> {
        let files = Self { disk, parts: RwLock::default() };
        files.pass(epochs)?;
        Ok(files)
    }

    /// Opens the files for reading.
    pub(crate) fn open_read(disk: Arc<dyn Disk>, epochs: &Epochs) -> std::io::Result<Self> {
        let parts = names(epochs)
            .into_iter()
            .map(|(first, count, name)| Ok(Part::over(first, disk.open_read(&name)?, count)));
        let parts = RwLock::new(parts.collect::<std::io::Result<_>>()?);
        Ok(Self { disk, parts })
    }

    /// Takes note of newer epochs, before certificates of their heights come.
    pub(crate) fn pass(&self, epochs: &Epochs) -> std::io::Result<()> {
        let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
        for (first, count, name) in names(epochs).into_iter().skip(parts.len()) {
            let file = match self.disk.open(&name) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    let file = self.disk.create(&name)?;
                    self.disk.sync_dir("")?;
                    file
                }
                other => other?,
            };
            parts.push(Part::over(first, file, count));
        }
        Ok(())
    }

    fn parts(&self) -> RwLockReadGuard<'_, Vec<Part>> {
        self.parts.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of a height.
    fn part(&self, height: Height) -> std::io::Result<Part> {
        let parts = self.parts();
        let place = parts.partition_point(|part| part.first <= height);
        let part = place.checked_sub(1).and_then(|place| parts.get(place));
        part.cloned().ok_or_else(|| std::io::Error::other("no certificate is of height 0"))
    }

    /// How many heights the files' sizes reach, and how many bytes follow the last whole slot of any.
    pub(crate) fn reach(&self) -> std::io::Result<(Height, u64)> {
        let (mut reach, mut rest) = (Height::default(), 0);
        for part in self.parts().iter() {
            let (slots, bytes) = part.reach()?;
            let before = part.first.get().saturating_sub(1);
            let last = if slots > 0 { before.saturating_add(slots) } else { 0 };
            (reach, rest) = (reach.max(Height::new(last)), rest.max(bytes));
        }
        Ok((reach, rest))
    }

    /// Where the slot of a height begins in its file.
    pub(crate) fn offset(&self, height: Height) -> u64 {
        self.part(height).map_or(0, |part| part.offset(height))
    }

    /// Writes the certificate of its height. Durable after [`CertificateFile::sync`].
    pub(crate) fn put(&self, certificate: &StateCertificate) -> std::io::Result<()> {
        self.part(certificate.state.height)?.put(certificate)
    }

    /// The certificate of a height, if it is there.
    pub(crate) fn get(
        &self,
        height: Height,
    ) -> Result<Option<StateCertificate>, CertificateFileError> {
        self.part(height)?.get(height)
    }

    /// Makes what was written durable.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        // Certificates come late, but by no more than an epoch.
        self.parts().iter().rev().take(2).try_for_each(|part| part.file.sync())
    }
}

/// The files of a ledger: from which height on, for how many validators, under which name.
fn names(epochs: &Epochs) -> Vec<(Height, usize, String)> {
    let mut names: Vec<(Height, usize, String)> = Vec::new();
    for epoch in epochs.iter() {
        let count = epoch.set.validators.len();
        let name = match epoch.set.epoch {
            0 => CERTIFICATE_FILE.to_owned(),
            number => format!("{CERTIFICATE_FILE}.{number}"),
        };
        if names.last().is_none_or(|(_, before, _)| *before != count) {
            names.push((epoch.first, count, name));
        }
    }
    names
}

impl Part {
    fn over(first: Height, file: Arc<dyn DiskFile>, validator_count: usize) -> Self {
        let signatures = validator_count.saturating_mul(SIGNATURE_SIZE);
        let slot_size = HEAD_SIZE.saturating_add(STATE_SIZE).saturating_add(signatures);
        Self { first, file, slot_size }
    }

    fn slot_size(&self) -> u64 {
        u64::try_from(self.slot_size).expect("at most 128 signatures are far below 2^64 bytes")
    }

    fn reach(&self) -> std::io::Result<(u64, u64)> {
        let size = self.file.size()?;
        let slots = size.checked_div(self.slot_size()).unwrap_or(0);
        Ok((slots, size.checked_rem(self.slot_size()).unwrap_or(0)))
    }

    fn offset(&self, height: Height) -> u64 {
        height.get().saturating_sub(self.first.get()).saturating_mul(self.slot_size())
    }

    fn put(&self, certificate: &StateCertificate) -> std::io::Result<()> {
        let height = certificate.state.height;
        let bytes = certificate.to_bytes();
        let length = u32::try_from(bytes.len()).expect("at most 128 signatures");
        let mut slot = checksum(height, length, &bytes).to_le_bytes().to_vec();
        slot.extend_from_slice(&length.to_le_bytes());
        slot.extend_from_slice(&bytes);
        if slot.len() > self.slot_size {
            return Err(std::io::Error::other("a certificate has more signatures than validators"));
        }
        slot.resize(self.slot_size, 0);
        self.file.write_at(self.offset(height), &slot)
    }

    fn get(&self, height: Height) -> Result<Option<StateCertificate>, CertificateFileError> {
        let offset = self.offset(height);
        let damaged = CertificateFileError::Damaged { height, offset };
        let mut slot = vec![0; self.slot_size];
        let read = self.file.read_at(offset, &mut slot)?;
        let slot = slot.get(..read).unwrap_or_default();
        if slot.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let certificate = (|| {
            let (sum, rest) = slot.split_first_chunk::<4>()?;
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (sum, length) = (u32::from_le_bytes(*sum), u32::from_le_bytes(*length));
            let (bytes, padding) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            let whole = padding.iter().all(|byte| *byte == 0) && read == self.slot_size;
            let certificate = StateCertificate::from_bytes(bytes).ok()?;
            (whole && sum == checksum(height, length, bytes)).then_some(certificate)
        })();
        certificate.map(Some).ok_or(damaged)
    }
}

fn checksum(height: Height, length: u32, bytes: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&height.get().to_le_bytes());
    let sum = crc32c::crc32c_append(sum, &length.to_le_bytes());
    crc32c::crc32c_append(sum, bytes)
}

#[cfg(test)]
mod tests {
    use quipu_log::MemoryDisk;
    use quipu_types::{
        Hash, PublicKey, Signature, SignedState, Suite, Validator, ValidatorIndex, ValidatorSet,
    };

    use super::*;

    fn certificate(height: u64, signatures: u16) -> StateCertificate {
        let height = Height::new(height);
        let state = SignedState {
            height,
            state_root: Hash([7; 32]),
            receipts_root: Hash([9; 32]),
            next_set: None,
        };
        let signatures =
            (0..signatures).map(|index| (ValidatorIndex::new(index), Signature([1; 64]))).collect();
        StateCertificate { state, signatures }
    }

    fn set(epoch: u64, count: u8) -> ValidatorSet {
        let key = |seed: u8| PublicKey::new(Suite::Ed25519Sha256, &[seed; 32]).unwrap();
        let validators = (0..count)
            .map(|seed| Validator { key: key(seed), power: 1, is_stale: false })
            .collect();
        ValidatorSet { epoch, validators, coin: None }
    }

    fn open(disk: &MemoryDisk, count: u8) -> CertificateFile {
        CertificateFile::open(Arc::new(disk.clone()), &Epochs::new(set(0, count), 1)).unwrap()
    }

    #[test]
    fn certificates_are_found_by_height_and_a_gap_is_nothing() {
        let disk = MemoryDisk::new();
        let file = open(&disk, 4);
        for (height, count) in [(1, 3), (2, 4), (7, 3)] {
            file.put(&certificate(height, count)).unwrap();
        }
        assert!(file.put(&certificate(3, 5)).is_err(), "more signatures than validators");
        let file = open(&disk, 4);
        assert_eq!(file.get(Height::new(2)).unwrap(), Some(certificate(2, 4)));
        assert_eq!(file.get(Height::new(7)).unwrap(), Some(certificate(7, 3)));
        assert_eq!(file.get(Height::new(5)).unwrap(), None);
        assert_eq!(file.get(Height::new(70)).unwrap(), None);
        assert_eq!(file.reach().unwrap(), (Height::new(7), 0));
    }

    #[test]
    fn a_flipped_byte_of_a_slot_is_an_error_and_never_a_certificate() {
        let disk = MemoryDisk::new();
        let file = open(&disk, 1);
        for height in 1..=3 {
            file.put(&certificate(height, 1)).unwrap();
        }
        let raw = disk.open(CERTIFICATE_FILE).unwrap();
        let begin = file.offset(Height::new(2));
        for offset in begin..file.offset(Height::new(3)) {
            let mut byte = [0];
            raw.read_at(offset, &mut byte).unwrap();
            raw.write_at(offset, &[byte[0] ^ 4]).unwrap();
            let error = file.get(Height::new(2)).expect_err("the byte is covered");
            assert!(error.to_string().contains("height 2"), "{error}");
            raw.write_at(offset, &byte).unwrap();
        }
        assert_eq!(file.get(Height::new(2)).unwrap(), Some(certificate(2, 1)));
    }
}
