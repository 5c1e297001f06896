//! A disk in memory: honest, and open to whoever wants to look or to break something. Clones share the files.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};

/// A directory in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    files: BTreeMap<String, Arc<Mutex<Vec<u8>>>>,
    directories: BTreeSet<String>,
    size_max: Option<u64>,
    sync_fails: bool,
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    bytes: Arc<Mutex<Vec<u8>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryDisk {
    /// An empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every file with its bytes.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let inner = lock(&self.inner);
        inner.files.iter().map(|(path, bytes)| (path.clone(), lock(bytes).clone())).collect()
    }

    /// A disk of its own with the same files.
    #[must_use]
    pub fn fork(&self) -> Self {
        let fork = Self::new();
        for (path, bytes) in self.files() {
            fork.put(&path, bytes);
        }
        lock(&fork.inner).directories.clone_from(&lock(&self.inner).directories);
        fork
    }

    /// Replaces a file's bytes.
    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        let mut inner = lock(&self.inner);
        if let Some(file) = inner.files.get(path) {
            *lock(file) = bytes;
        } else {
            inner.files.insert(path.to_owned(), Arc::new(Mutex::new(bytes)));
        }
    }

    /// Lets all files together have `size_max` bytes.
    pub fn set_size_max(&self, size_max: Option<u64>) {
        lock(&self.inner).size_max = size_max;
    }

    /// Makes every sync fail.
    pub fn set_sync_fails(&self, sync_fails: bool) {
        lock(&self.inner).sync_fails = sync_fails;
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn size(&self) -> u64 {
        let inner = lock(&self.inner);
        inner.files.values().map(|bytes| count(lock(bytes).len())).sum()
    }

    fn sync(&self) -> io::Result<()> {
        if lock(&self.inner).sync_fails { Err(io::Error::other("sync")) } else { Ok(()) }
    }
}

fn count(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

fn memory_index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl Disk for MemoryDisk {
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let inner = lock(&self.inner);
        let bytes = inner.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(MemoryFile { disk: self.clone(), bytes: Arc::clone(bytes) }))
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = lock(&self.inner);
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        if !parent.is_empty() && !inner.directories.contains(parent) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if inner.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let bytes = Arc::new(Mutex::new(Vec::new()));
        inner.files.insert(path.to_owned(), Arc::clone(&bytes));
        Ok(Arc::new(MemoryFile { disk: self.clone(), bytes }))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let inner = lock(&self.inner);
        if !directory.is_empty() && !inner.directories.contains(directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let paths = inner.files.keys().chain(&inner.directories);
        let below = paths.filter_map(|path| path.strip_prefix(&prefix));
        let names: BTreeSet<String> =
            below.filter_map(|rest| rest.split('/').next()).map(str::to_owned).collect();
        Ok(names.into_iter().collect())
    }

    fn make_dir(&self, directory: &str) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        let mut path = String::new();
        for name in directory.split('/') {
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(name);
            inner.directories.insert(path.clone());
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        inner.files.remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        self.sync()
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let bytes = lock(&self.bytes);
        let rest = bytes.get(memory_index(offset)?..).unwrap_or_default();
        let size = rest.len().min(into.len());
        for (to, from) in into.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(size)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = memory_index(offset)?;
        let held = self.disk.size();
        let size_max = lock(&self.disk.inner).size_max;
        let mut file = lock(&self.bytes);
        let wanted = start.saturating_add(bytes.len());
        let more = count(wanted.saturating_sub(file.len()));
        let room = size_max.map_or(u64::MAX, |size_max| size_max.saturating_sub(held));
        // Like a real disk: what fits is written before the error comes.
        let lacking = usize::try_from(more.saturating_sub(room)).unwrap_or(usize::MAX);
        let end = wanted.saturating_sub(lacking).max(file.len().min(wanted));
        if end > file.len() {
            file.resize(end, 0);
        }
        let to = file.get_mut(start.min(end)..end).unwrap_or_default();
        for (to, from) in to.iter_mut().zip(bytes) {
            *to = *from;
        }
        if lacking > 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(count(lock(&self.bytes).len()))
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        lock(&self.bytes).truncate(memory_index(size)?);
        Ok(())
    }
}
