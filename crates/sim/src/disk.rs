//! A disk that crashes as the log's assumptions (D1 to D3) allow, and no better.
//!
//! ```text
//!  write ──> seen by reads at once ──> pending ── sync ──> durable
//!                                        │
//!      power cut: each pending write survives whole, in sectors, or not at all, in any order
//!      kill:      all of them survive, still pending: a power cut may take them later
//! ```
//! Names that are made and removed are pending until their directory is synced. Directories themselves survive.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quipu_log::{Disk, DiskFile};

/// What a medium writes whole.
const SECTOR_SIZE: usize = 512;

/// What a crash did, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// Unsynced writes that were lost.
    pub lost: u64,
    /// Unsynced writes of which only some sectors survived.
    pub torn: u64,
    /// Unsynced writes that survived.
    pub kept: u64,
    /// Unsynced writes that survived though an earlier one of the same file did not.
    pub reordered: u64,
    /// Files made or removed, without their name synced, that a crash undid.
    pub names: u64,
}

/// A directory in memory that can crash. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct CrashDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    files: BTreeMap<String, Arc<Mutex<Bytes>>>,
    /// What the medium's directories name, as of their last syncs.
    durable: BTreeMap<String, Arc<Mutex<Bytes>>>,
    directories: BTreeSet<String>,
    fails_sync: bool,
    /// Changes to the medium that still succeed; none is left: the power is gone, all fail.
    fuse: Option<u64>,
    /// Counts up when the process dies: handles of a dead process do nothing.
    life: u64,
}

#[derive(Clone, Debug, Default)]
struct Bytes {
    seen: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug)]
struct CrashFile {
    disk: CrashDisk,
    life: u64,
    bytes: Arc<Mutex<Bytes>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn write_into(bytes: &mut Vec<u8>, offset: usize, from: &[u8]) {
    let end = offset.saturating_add(from.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(into) = bytes.get_mut(offset..end) {
        into.copy_from_slice(from);
    }
}

impl CrashDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next syncs fail; the process that sees it must stop.
    pub fn set_sync_fails(&self, fails: bool) {
        lock(&self.inner).fails_sync = fails;
    }

    /// Lets that many changes to the medium succeed; then the power goes, in the midst of whatever is done.
    pub fn set_fuse(&self, change_count: u64) {
        lock(&self.inner).fuse = Some(change_count);
    }

    /// Whether a fuse has blown.
    #[must_use]
    pub fn is_blown(&self) -> bool {
        lock(&self.inner).fuse == Some(0)
    }

    /// Whether a fuse is set.
    #[must_use]
    pub fn has_fuse(&self) -> bool {
        lock(&self.inner).fuse.is_some()
    }

    /// One change to the medium.
    fn burn(&self) -> io::Result<()> {
        match &mut lock(&self.inner).fuse {
            None => Ok(()),
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left = left.saturating_sub(1);
                if *left == 0 { Err(io::Error::other("the power is gone")) } else { Ok(()) }
            }
        }
    }

    /// The process dies; what it wrote is in the system's hands.
    pub fn kill(&self) {
        let mut inner = lock(&self.inner);
        inner.life = inner.life.saturating_add(1);
        inner.fails_sync = false;
        inner.fuse = None;
    }

    /// Another disk with what this one shows now.
    #[must_use]
    pub fn copy(&self) -> Self {
        let inner = lock(&self.inner);
        let copy = |bytes: &Arc<Mutex<Bytes>>| {
            let seen = lock(bytes).seen.clone();
            Arc::new(Mutex::new(Bytes { durable: seen.clone(), seen, pending: Vec::new() }))
        };
        let files: BTreeMap<_, _> =
            inner.files.iter().map(|(name, bytes)| (name.clone(), copy(bytes))).collect();
        let directories = inner.directories.clone();
        let copied = Inner { durable: files.clone(), files, directories, ..Inner::default() };
        Self { inner: Arc::new(Mutex::new(copied)) }
    }

    /// The power goes: what was not synced survives as chance has it.
    pub fn cut_power(&self, random: &mut fastrand::Rng, faults: &mut DiskFaults) {
        self.kill();
        let mut inner = lock(&self.inner);
        let names: BTreeSet<String> =
            inner.files.keys().chain(inner.durable.keys()).cloned().collect();
        let mut files = BTreeMap::new();
        for name in names {
            let (seen, durable) = (inner.files.get(&name), inner.durable.get(&name));
            let is_synced = match (seen, durable) {
                (Some(seen), Some(durable)) => Arc::ptr_eq(seen, durable),
                (None, None) => true,
                _ => false,
            };
            let survivor = if is_synced || random.bool() {
                seen
            } else {
                faults.names = faults.names.saturating_add(1);
                durable
            };
            if let Some(bytes) = survivor {
                let bytes = lock(bytes).survive(random, faults);
                files.insert(name, Arc::new(Mutex::new(bytes)));
            }
        }
        inner.durable = files.clone();
        inner.files = files;
    }
}

impl Bytes {
    fn survive(&self, random: &mut fastrand::Rng, faults: &mut DiskFaults) -> Self {
        let mut bytes = self.durable.clone();
        let mut order: Vec<usize> = (0..self.pending.len()).collect();
        random.shuffle(&mut order);
        // A crash soon after the writes loses most, one long after them few.
        let chance = random.u8(..);
        let mut lost_first = None;
        for index in order {
            let Some((offset, written)) = self.pending.get(index) else { continue };
            if random.u8(..) > chance {
                faults.lost = faults.lost.saturating_add(1);
                lost_first = Some(lost_first.map_or(index, |first: usize| first.min(index)));
            } else if random.u8(..) < 64 && written.len() > 1 {
                faults.torn = faults.torn.saturating_add(1);
                tear(&mut bytes, *offset, written, random);
            } else {
                faults.kept = faults.kept.saturating_add(1);
                if lost_first.is_some_and(|first| first < index) {
                    faults.reordered = faults.reordered.saturating_add(1);
                }
                write_into(&mut bytes, *offset, written);
            }
        }
        Self { seen: bytes.clone(), durable: bytes, pending: Vec::new() }
    }
}

/// Some sectors of a write, or its first bytes when it lies within one.
fn tear(bytes: &mut Vec<u8>, offset: usize, written: &[u8], random: &mut fastrand::Rng) {
    let sector = |at: usize| offset.saturating_add(at).checked_div(SECTOR_SIZE);
    if sector(0) == sector(written.len().saturating_sub(1)) {
        let size = random.usize(0..written.len());
        write_into(bytes, offset, written.get(..size).unwrap_or_default());
        return;
    }
    let mut at = 0;
    while at < written.len() {
        let into = offset.saturating_add(at).checked_rem(SECTOR_SIZE).unwrap_or(0);
        let end = at.saturating_add(SECTOR_SIZE.saturating_sub(into)).min(written.len());
        if random.bool() {
            write_into(bytes, offset.saturating_add(at), written.get(at..end).unwrap_or_default());
        }
        at = end;
    }
}

impl Disk for CrashDisk {
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let inner = lock(&self.inner);
        let bytes = Arc::clone(inner.files.get(path).ok_or(io::ErrorKind::NotFound)?);
        Ok(Arc::new(CrashFile { disk: self.clone(), life: inner.life, bytes }))
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.burn()?;
        let mut inner = lock(&self.inner);
        if inner.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !parent(path).is_empty() && !inner.directories.contains(parent(path)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let bytes = Arc::new(Mutex::new(Bytes::default()));
        inner.files.insert(path.to_owned(), Arc::clone(&bytes));
        Ok(Arc::new(CrashFile { disk: self.clone(), life: inner.life, bytes }))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let inner = lock(&self.inner);
        if !directory.is_empty() && !inner.directories.contains(directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let names: BTreeSet<String> = inner
            .files
            .keys()
            .chain(&inner.directories)
            .filter_map(|path| path.strip_prefix(&prefix)?.split('/').next().map(str::to_owned))
            .filter(|name| !name.is_empty())
            .collect();
        Ok(names.into_iter().collect())
    }

    fn make_dir(&self, directory: &str) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        let mut path = directory;
        while !path.is_empty() {
            inner.directories.insert(path.to_owned());
            path = parent(path);
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.burn()?;
        let removed = lock(&self.inner).files.remove(path);
        removed.map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        self.burn()?;
        let mut inner = lock(&self.inner);
        if inner.fails_sync {
            return Err(io::Error::other("the medium fails"));
        }
        let inner = &mut *inner;
        inner.durable.retain(|path, _| parent(path) != directory);
        let named = inner.files.iter().filter(|(path, _)| parent(path) == directory);
        inner.durable.extend(named.map(|(path, bytes)| (path.clone(), Arc::clone(bytes))));
        Ok(())
    }
}

impl CrashFile {
    fn alive(&self) -> io::Result<MutexGuard<'_, Bytes>> {
        if lock(&self.disk.inner).life == self.life {
            Ok(lock(&self.bytes))
        } else {
            Err(io::Error::other("the process that opened this file is dead"))
        }
    }
}

impl DiskFile for CrashFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.alive()?;
        let from = bytes.seen.get(place(offset)?..).unwrap_or_default();
        let size = from.len().min(into.len());
        if let (Some(into), Some(from)) = (into.get_mut(..size), from.get(..size)) {
            into.copy_from_slice(from);
        }
        Ok(size)
    }

    fn write_at(&self, offset: u64, written: &[u8]) -> io::Result<()> {
        self.disk.burn()?;
        let mut bytes = self.alive()?;
        let offset = place(offset)?;
        write_into(&mut bytes.seen, offset, written);
        bytes.pending.push((offset, written.to_vec()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.burn()?;
        if lock(&self.disk.inner).fails_sync {
            return Err(io::Error::other("the medium fails"));
        }
        let mut bytes = self.alive()?;
        let Bytes { durable, pending, .. } = &mut *bytes;
        for (offset, written) in pending.drain(..) {
            write_into(durable, offset, &written);
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let bytes = self.alive()?;
        u64::try_from(bytes.seen.len()).map_err(|_| io::ErrorKind::FileTooLarge.into())
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.disk.burn()?;
        let mut bytes = self.alive()?;
        let size = place(size)?;
        bytes.seen.truncate(size);
        bytes.durable.truncate(size);
        bytes.pending.retain_mut(|(offset, written)| {
            written.truncate(size.saturating_sub(*offset));
            !written.is_empty()
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_conforms_to_what_the_log_expects_of_a_disk() {
        quipu_log::conformance::run(&CrashDisk::new());
    }

    #[test]
    fn what_was_synced_survives_and_every_fault_happens() {
        let mut faults = DiskFaults::default();
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let disk = CrashDisk::new();
            disk.make_dir("a").expect("a directory");
            let file = disk.create("a/kept").expect("a new file");
            file.write_at(0, &[1; 2_000]).expect("room");
            file.sync().expect("no fault is asked for");
            disk.sync_dir("a").expect("no fault is asked for");
            for offset in [100, 1_500, 3_000] {
                file.write_at(offset, &[2; 1_200]).expect("room");
            }
            disk.create("a/new").expect("a new file").write_at(0, &[3; 9]).expect("room");
            disk.cut_power(&mut random, &mut faults);
            assert!(file.size().is_err(), "a dead process does nothing");
            let file = disk.open("a/kept").expect("its name was synced");
            let mut start = [0; 100];
            assert_eq!(file.read_at(0, &mut start).expect("alive"), 100);
            assert_eq!(start, [1; 100]);
        }
        let DiskFaults { lost, torn, kept, reordered, names } = faults;
        assert!([lost, torn, kept, reordered, names].iter().all(|count| *count > 0), "{faults:?}");
    }
}
