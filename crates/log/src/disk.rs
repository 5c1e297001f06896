//! A directory of files, as little of one as the log needs: what a simulator has to imitate.
//!
//! Paths are relative to the ledger's directory, with `/` between names, and name nothing outside it.
//!
//! # What is assumed of a medium
//! * D1 What [`DiskFile::sync`] covered survives a crash, with the file's size; so does a name once
//!   [`Disk::sync_dir`] has covered its directory, and what [`DiskFile::truncate`] took away stays away.
//! * D2 Anything else may survive a crash whole, in parts, or not at all, and in any order.
//! * D3 A write that is not synced changes bytes of its own range only.
//! * D4 Rotten bytes may come back from any read; they are found by checksums, never trusted.
//! * D5 When a sync fails, what it was to cover is lost (the system may have dropped it): nobody may
//!   sync again and go on. The process stops and recovers from what is on the medium.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// A directory in which a ledger lives.
pub trait Disk: Debug + Send + Sync {
    /// Opens a file that exists, for reading and writing.
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file that exists, for reading only.
    fn open_read(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path)
    }

    /// Makes an empty file; `AlreadyExists` where there is one.
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Names in a directory, sorted; `NotFound` where there is none. `""` is the ledger's own.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;

    /// Makes a directory and those above it; nothing to do where it is.
    fn make_dir(&self, directory: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes the names in a directory durable (D1).
    fn sync_dir(&self, directory: &str) -> io::Result<()>;
}

/// An open file. Shared by one writer and many readers; offsets are in bytes.
pub trait DiskFile: Debug + Send + Sync {
    /// Reads into `into` from `offset`; fewer bytes than asked only at the file's end.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, growing the file if need be. `StorageFull` when there is no room:
    /// a part may be written then.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written, and the size, durable (D1): `fdatasync`.
    fn sync(&self) -> io::Result<()>;

    /// Size of the file.
    fn size(&self) -> io::Result<u64>;

    /// Cuts the file to `size`, durably (D1). Never grows it.
    fn truncate(&self, size: u64) -> io::Result<()>;

    /// Makes `size` bytes at `offset`, which are inside of the file, zeros, and gives their room back to the medium where it can.
    fn give_back(&self, offset: u64, size: u64) -> io::Result<()> {
        write_zeros(self, offset, offset.saturating_add(size))
    }

    /// Grows the file to `size` by writing zeros, so that later writes there change no metadata and a sync of
    /// theirs is one write to the medium. Nothing to do for a file that is as large.
    fn preallocate(&self, size: u64) -> io::Result<()> {
        write_zeros(self, self.size()?, size)
    }
}

/// Writes zeros over a range.
pub fn write_zeros<F: DiskFile + ?Sized>(file: &F, from: u64, to: u64) -> io::Result<()> {
    const ZEROS: &[u8] = &[0; 1 << 16];
    let mut from = from;
    while from < to {
        let step = to.saturating_sub(from).min(1 << 16);
        let zeros = ZEROS.get(..usize::try_from(step).unwrap_or(0)).unwrap_or(ZEROS);
        file.write_at(from, zeros)?;
        from = from.saturating_add(step);
    }
    Ok(())
}
