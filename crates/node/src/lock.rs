//! One process a directory: an exclusive `flock` on `dir/lock`, held as long as the value lives.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::NodeError;

/// Name of the lock file in a validator's directory.
pub const LOCK_FILE: &str = "lock";

/// The directory's lock; the system frees it when the process ends, however it ends.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock of `dir`, or says that another process has it.
    pub fn take(dir: &Path) -> Result<Self, NodeError> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(LOCK_FILE))
            .map_err(|error| NodeError::system("opening the directory's lock file", error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(NodeError::Locked { dir: dir.to_path_buf() }),
            Err(error) => Err(NodeError::system("locking the directory", error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::take(dir.path()).unwrap();
        assert!(matches!(DirLock::take(dir.path()), Err(NodeError::Locked { .. })));
        drop(first);
        DirLock::take(dir.path()).unwrap();
    }
}
