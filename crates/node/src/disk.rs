//! Real files as the log's disk: positional reads and writes, `fdatasync`, zeros written ahead.
//!
//! * A path is taken apart and must stay below the directory: no `..`, no root.
//! * `sync` is `fdatasync`: it covers the file's size, not its times. A cut is followed by `fsync`, because what was cut must
//!   not come back. Directories are synced by `fsync` of the directory itself.
//! * Space is taken by writing zeros, not by `fallocate`: blocks that were never written are marked so in the file system's own
//!   journal, and the first sync after each write there would have to change those marks too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use quipu_log::disk::write_zeros;
use quipu_log::{Disk, DiskFile};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// How the name of a file ends that is not whole yet.
pub(crate) const PARTIAL_SUFFIX: &str = ".partial";

/// Writes a file so that it is whole or not there, durable when this returns; it replaces one of its name.
///
/// # Errors
/// What the system says.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(PARTIAL_SUFFIX);
    let partial = PathBuf::from(partial);
    let mut file = File::create(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_dir(parent.unwrap_or(Path::new(".")))
}

/// Makes durable what a directory names.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A directory of the file system.
#[derive(Clone, Debug)]
pub struct FileDisk {
    directory: PathBuf,
}

#[derive(Debug)]
struct RealFile(File);

impl FileDisk {
    /// The directory `directory`, which is made if it is not there.
    ///
    /// # Errors
    /// What making it gives.
    pub fn new(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        fs::create_dir_all(&directory)?;
        Ok(Self { directory })
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, path: &str) -> io::Result<PathBuf> {
        let below = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if below { Ok(self.directory.join(path)) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }
}

impl Disk for FileDisk {
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path(path)?)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open_read(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(File::open(self.path(path)?)?)))
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = File::create_new(self.path(path)?)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(directory)?)? {
            // A name that is not UTF-8 is none of ours; a check shall still see that it is there.
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn make_dir(&self, directory: &str) -> io::Result<()> {
        fs::create_dir_all(self.path(directory)?)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path)?)
    }

    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        sync_dir(&self.path(directory)?)
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0_usize;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
            match self.0.read_at(rest, at) {
                Ok(0) => break,
                Ok(count) => done = done.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn give_back(&self, offset: u64, size: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.0, flags, offset, size) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                write_zeros(self, offset, offset.saturating_add(size))
            }
            done => Ok(done?),
        }
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        if self.size()? > size {
            self.0.set_len(size)?;
        }
        self.0.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_files_conform() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let disk = FileDisk::new(directory.path().join("made")).expect("directories are made");
        quipu_log::conformance::run(&disk);
        quipu_log::conformance::run(&disk);
    }

    #[test]
    fn paths_that_lead_out_of_the_directory_are_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let disk = FileDisk::new(directory.path()).expect("it is there");
        for path in ["../x", "/etc/passwd", "a/../../x", "./../x"] {
            let kind = disk.open(path).expect_err("outside").kind();
            assert_eq!(kind, io::ErrorKind::InvalidInput, "{path}");
        }
    }
}
