//! A disk that reads from another and keeps writes to itself: what is checked is never changed by checking.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quipu_log::{Disk, DiskFile};

const PAGE_SIZE: usize = 4_096;
const PAGE_BYTES: u64 = 4_096;

/// The disk. Writes live in memory and go with it.
#[derive(Debug)]
pub(crate) struct SnapshotDisk {
    base: Arc<dyn Disk>,
    files: Mutex<BTreeMap<String, Option<Arc<SnapshotFile>>>>,
    directories: Mutex<BTreeSet<String>>,
}

impl SnapshotDisk {
    pub(crate) fn new(base: Arc<dyn Disk>) -> Self {
        Self { base, files: Mutex::default(), directories: Mutex::default() }
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Option<Arc<SnapshotFile>>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for SnapshotDisk {
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.files();
        match files.get(path) {
            Some(Some(file)) => return Ok(Arc::<SnapshotFile>::clone(file)),
            Some(None) => return Err(io::ErrorKind::NotFound.into()),
            None => {}
        }
        let base = self.base.open_read(path)?;
        let size = base.size()?;
        let content = Content { base: Some(base), base_size: size, size, pages: BTreeMap::new() };
        let file = Arc::new(SnapshotFile { content: Mutex::new(content) });
        files.insert(path.to_owned(), Some(Arc::clone(&file)));
        Ok(file)
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.files();
        let is_there = match files.get(path) {
            Some(entry) => entry.is_some(),
            None => self.base.open_read(path).is_ok(),
        };
        if is_there {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let content = Content { base: None, base_size: 0, size: 0, pages: BTreeMap::new() };
        let file = Arc::new(SnapshotFile { content: Mutex::new(content) });
        files.insert(path.to_owned(), Some(Arc::clone(&file)));
        Ok(file)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let files = self.files();
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let mut names = match self.base.list(directory) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
                let made = made.contains(directory);
                if !made && !files.keys().any(|path| path.starts_with(&prefix)) {
                    return Err(error);
                }
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        for (path, entry) in &*files {
            let Some(name) = path.strip_prefix(&prefix) else { continue };
            let name = name.split('/').next().unwrap_or(name).to_owned();
            let is_file = !path.get(prefix.len()..).is_some_and(|rest| rest.contains('/'));
            names.retain(|other| *other != name || !is_file);
            if entry.is_some() && !names.contains(&name) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn make_dir(&self, directory: &str) -> io::Result<()> {
        let mut directories = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        directories.insert(directory.to_owned());
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        drop(self.open(path)?);
        self.files().insert(path.to_owned(), None);
        Ok(())
    }

    fn sync_dir(&self, _directory: &str) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct SnapshotFile {
    content: Mutex<Content>,
}

#[derive(Debug)]
struct Content {
    base: Option<Arc<dyn DiskFile>>,
    /// How much of the base still shows.
    base_size: u64,
    size: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Content {
    /// Reads within `size`; `into` does not cross a page.
    fn read_in_page(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let (page, place) = (offset / PAGE_BYTES, usize_of(offset % PAGE_BYTES));
        if let Some(bytes) = self.pages.get(&page) {
            let end = place.saturating_add(into.len());
            into.copy_from_slice(bytes.get(place..end).unwrap_or_default());
            return Ok(());
        }
        into.fill(0);
        let Some(base) = &self.base else { return Ok(()) };
        let shown = usize_of(self.base_size.saturating_sub(offset)).min(into.len());
        let into = into.get_mut(..shown).unwrap_or_default();
        let mut done = 0;
        while done < into.len() {
            let at = offset.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
            match base.read_at(at, into.get_mut(done..).unwrap_or_default())? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => done = done.saturating_add(read),
            }
        }
        Ok(())
    }
}

impl SnapshotFile {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiskFile for SnapshotFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let content = self.content();
        let wanted = usize_of(content.size.saturating_sub(offset)).min(into.len());
        let mut offset = offset;
        let mut rest = into.get_mut(..wanted).unwrap_or_default();
        while !rest.is_empty() {
            let in_page = usize_of(PAGE_BYTES.saturating_sub(offset % PAGE_BYTES));
            let (head, tail) = rest.split_at_mut(in_page.min(rest.len()));
            content.read_in_page(offset, head)?;
            offset = offset.saturating_add(u64::try_from(head.len()).unwrap_or(u64::MAX));
            rest = tail;
        }
        Ok(wanted)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut content = self.content();
        let mut offset = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (page, place) = (offset / PAGE_BYTES, usize_of(offset % PAGE_BYTES));
            let (head, tail) = rest.split_at(PAGE_SIZE.saturating_sub(place).min(rest.len()));
            if !content.pages.contains_key(&page) {
                let mut bytes = vec![0; PAGE_SIZE];
                content.read_in_page(page.saturating_mul(PAGE_BYTES), &mut bytes)?;
                content.pages.insert(page, bytes);
            }
            let target = content
                .pages
                .get_mut(&page)
                .and_then(|bytes| bytes.get_mut(place..place.saturating_add(head.len())));
            target
                .expect("the page was just put there, and the part is inside it")
                .copy_from_slice(head);
            offset = offset.saturating_add(u64::try_from(head.len()).unwrap_or(u64::MAX));
            rest = tail;
        }
        content.size = content.size.max(offset);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.content().size)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let mut content = self.content();
        if size >= content.size {
            return Ok(());
        }
        content.size = size;
        content.base_size = content.base_size.min(size);
        let (page, place) = (size / PAGE_BYTES, usize_of(size % PAGE_BYTES));
        content.pages.split_off(&page.saturating_add(u64::from(place > 0)));
        if let Some(bytes) = content.pages.get_mut(&page) {
            bytes.get_mut(place..).unwrap_or_default().fill(0);
        }
        Ok(())
    }

    fn preallocate(&self, size: u64) -> io::Result<()> {
        let mut content = self.content();
        content.size = content.size.max(size);
        Ok(())
    }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FileDisk;

    #[test]
    fn a_snapshot_conforms_as_a_disk_does_and_its_base_stays_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let base: Arc<dyn Disk> = Arc::new(FileDisk::new(directory.path()).unwrap());
        quipu_log::conformance::run(&SnapshotDisk::new(Arc::clone(&base)));
        assert_eq!(base.list("").unwrap(), Vec::<String>::new());
    }

    proptest::proptest! {
        #[test]
        fn reads_see_the_base_below_and_the_writes_above(
            before in proptest::collection::vec(proptest::num::u8::ANY, 0..10_000),
            writes in proptest::collection::vec(
                (0..12_000_usize, proptest::collection::vec(proptest::num::u8::ANY, 0..5_000), 0..3_u8),
                0..8,
            ),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let base: Arc<dyn Disk> = Arc::new(FileDisk::new(directory.path()).unwrap());
            base.create("file").unwrap().write_at(0, &before).unwrap();
            let file = SnapshotDisk::new(Arc::clone(&base)).open("file").unwrap();
            let mut twin = before.clone();
            for (offset, bytes, kind) in &writes {
                let end = offset.saturating_add(bytes.len());
                if *kind == 0 {
                    file.truncate(u64::try_from(*offset).unwrap()).unwrap();
                    twin.truncate(*offset);
                } else {
                    file.write_at(u64::try_from(*offset).unwrap(), bytes).unwrap();
                    if !bytes.is_empty() {
                        twin.resize(twin.len().max(end), 0);
                        twin[*offset..end].copy_from_slice(bytes);
                    }
                }
            }
            let size = usize::try_from(file.size().unwrap()).unwrap();
            let mut read = vec![0; size];
            proptest::prop_assert_eq!(file.read_at(0, &mut read).unwrap(), size);
            proptest::prop_assert!(size >= twin.len());
            twin.resize(size, 0);
            proptest::prop_assert!(read == twin);
            proptest::prop_assert_eq!(std::fs::read(directory.path().join("file")).unwrap(), before);
        }
    }
}
