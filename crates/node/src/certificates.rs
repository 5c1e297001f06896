//! State certificates by height, in one file of equal slots: what proofs of receipts need.
//!
//! ```text
//!  slot of height h at (h - 1) * slot_size:  crc32c u32 · length u32 · certificate · zeros
//!                                            all zero: not there (yet)
//! ```
//! * The checksum covers height, length and certificate, so that a slot is never read as another's.
//! * Derived: a lost slot is signed for again after a restart, from the stored roots, byte for byte the same.

use std::sync::Arc;

use quipu_log::{Disk, DiskFile};
use quipu_types::{Decode, Encode, Height, StateCertificate};
use thiserror::Error;

/// Name of the file.
pub(crate) const CERTIFICATE_FILE: &str = "certificates";
const HEAD_SIZE: usize = 8;
const STATE_SIZE: usize = 8 + 32 + 32 + 4;
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

/// The file.
#[derive(Clone, Debug)]
pub(crate) struct CertificateFile {
    file: Arc<dyn DiskFile>,
    slot_size: usize,
}

impl CertificateFile {
    /// Opens the file, or makes it. `validator_count` fixes the size of a slot.
    pub(crate) fn open(disk: &dyn Disk, validator_count: usize) -> std::io::Result<Self> {
        let file = match disk.open(CERTIFICATE_FILE) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let file = disk.create(CERTIFICATE_FILE)?;
                disk.sync_dir("")?;
                file
            }
            other => other?,
        };
        Ok(Self::over(file, validator_count))
    }

    /// Opens the file for reading.
    pub(crate) fn open_read(disk: &dyn Disk, validator_count: usize) -> std::io::Result<Self> {
        Ok(Self::over(disk.open_read(CERTIFICATE_FILE)?, validator_count))
    }

    fn over(file: Arc<dyn DiskFile>, validator_count: usize) -> Self {
        let signatures = validator_count.saturating_mul(SIGNATURE_SIZE);
        let slot_size = HEAD_SIZE.saturating_add(STATE_SIZE).saturating_add(signatures);
        Self { file, slot_size }
    }

    /// Bytes of one slot.
    pub(crate) fn slot_size(&self) -> u64 {
        u64::try_from(self.slot_size).expect("at most 128 signatures are far below 2^64 bytes")
    }

    /// How many heights the file's size reaches, and how many bytes follow the last whole slot.
    pub(crate) fn reach(&self) -> std::io::Result<(Height, u64)> {
        let size = self.file.size()?;
        let slots = size.checked_div(self.slot_size()).unwrap_or(0);
        Ok((Height::new(slots), size.checked_rem(self.slot_size()).unwrap_or(0)))
    }

    /// Where the slot of a height begins.
    pub(crate) fn offset(&self, height: Height) -> u64 {
        height.get().saturating_sub(1).saturating_mul(self.slot_size())
    }

    /// Writes the certificate of its height. Durable after [`CertificateFile::sync`].
    pub(crate) fn put(&self, certificate: &StateCertificate) -> std::io::Result<()> {
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

    /// The certificate of a height, if it is there.
    pub(crate) fn get(
        &self,
        height: Height,
    ) -> Result<Option<StateCertificate>, CertificateFileError> {
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

    /// Makes what was written durable.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.file.sync()
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
    use quipu_types::{Hash, Signature, SignedState, ValidatorIndex};

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

    #[test]
    fn certificates_are_found_by_height_and_a_gap_is_nothing() {
        let disk = MemoryDisk::new();
        let file = CertificateFile::open(&disk, 4).unwrap();
        for (height, count) in [(1, 3), (2, 4), (7, 3)] {
            file.put(&certificate(height, count)).unwrap();
        }
        assert!(file.put(&certificate(3, 5)).is_err(), "more signatures than validators");
        let file = CertificateFile::open(&disk, 4).unwrap();
        assert_eq!(file.get(Height::new(2)).unwrap(), Some(certificate(2, 4)));
        assert_eq!(file.get(Height::new(7)).unwrap(), Some(certificate(7, 3)));
        assert_eq!(file.get(Height::new(5)).unwrap(), None);
        assert_eq!(file.get(Height::new(70)).unwrap(), None);
        assert_eq!(file.reach().unwrap(), (Height::new(7), 0));
    }

    #[test]
    fn a_flipped_byte_of_a_slot_is_an_error_and_never_a_certificate() {
        let disk = MemoryDisk::new();
        let file = CertificateFile::open(&disk, 1).unwrap();
        for height in 1..=3 {
            file.put(&certificate(height, 1)).unwrap();
        }
        let raw = disk.open(CERTIFICATE_FILE).unwrap();
        let begin = file.offset(Height::new(2));
        for offset in begin..begin + file.slot_size() {
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
