//! The state store on disk: LMDB under one directory, with checksums that LMDB does not have.
//!
//! ```text
//!  DIR/data.mdb   key = table u8 ‖ key        value = bytes ‖ crc32c u32 over table, key and bytes
//!  DIR/seal       "quipu/1 seal" · size u64 · crc32c u32 of every 64 KiB of data.mdb · crc32c u32 of all that
//! ```
//! * One commit is one LMDB transaction, synced before it returns but for LMDB's own meta page: a power cut
//!   may take the newest commit away whole, never a part, and never an older one.
//! * A value whose bytes changed is [`StoreError::Damaged`] with its table and key.
//! * The seal is written when the store is closed in order and taken away when it is opened: after a clean
//!   stop, any byte that changed in the file is [`StoreError::DamagedFile`] before LMDB follows it. After a crash
//!   there is none; then the values' checksums and the state root speak.
//!
//! # Locks
//! The directory is locked (`flock`) while the store is open, so LMDB runs without its own lock file. In this
//! process, `commit` takes the store exclusively and no read transaction outlives its call: no reader can
//! see pages that a writer reuses.

#![expect(
    unsafe_code,
    reason = "opening a memory map is unsafe: the file must not change under it"
)]

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use crc32c::{crc32c, crc32c_append};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, MdbError, WithoutTls};
use quipu_state::store::{KEY_SIZE_MAX, Rows, Store, StoreError, Table, WriteBatch};

use crate::disk::write_atomically;

/// Address space that a store may grow into unless the configuration says otherwise. Costs no memory.
pub const MAP_SIZE_DEFAULT: usize = 1 << 38;

const DATA_FILE: &str = "data.mdb";
const SEAL_FILE: &str = "seal";
const SEAL_HEAD: &[u8] = b"quipu/1 seal";
const SEAL_BLOCK_SIZE: usize = 1 << 16;
const CRC_SIZE: usize = 4;

/// The state's tables in LMDB.
#[derive(Debug)]
pub struct LmdbStore {
    dir: PathBuf,
    env: Env<WithoutTls>,
    rows: Database<'static, Bytes, Bytes>,
    is_read_only: bool,
    /// Holds the directory's lock; released when dropped, after `env`.
    lock: File,
}

impl LmdbStore {
    /// Opens the store in `dir`, which is made if it is not there, for reading and writing.
    ///
    /// `map_size` bounds the file; a commit beyond it fails with [`StoreError::Full`] and changes nothing.
    pub fn open(dir: &Path, map_size: usize) -> Result<Self, StoreError> {
        fs::create_dir_all(dir)?;
        let lock = lock(dir)?;
        if verify_seal(dir)? {
            fs::remove_file(dir.join(SEAL_FILE))?;
            lock.sync_all()?;
        }
        Self::open_locked(dir, map_size, lock, EnvFlags::NO_META_SYNC | EnvFlags::NO_LOCK)
    }

    /// Opens a store that exists, to look at it: its files stay as they are, a seal too.
    pub fn open_read_only(dir: &Path) -> Result<Self, StoreError> {
        let lock = lock(dir)?;
        verify_seal(dir)?;
        let size = usize::try_from(fs::metadata(dir.join(DATA_FILE))?.len()).unwrap_or(usize::MAX);
        Self::open_locked(dir, size, lock, EnvFlags::READ_ONLY | EnvFlags::NO_LOCK)
    }

    /// Whether the directory holds a whole store: `true` when it was closed in order and no byte of it has
    /// changed since, `false` when there is no seal to tell by.
    pub fn verify(dir: &Path) -> Result<bool, StoreError> {
        let _lock = lock(dir)?;
        verify_seal(dir)
    }

    fn open_locked(
        dir: &Path,
        map_size: usize,
        lock: File,
        flags: EnvFlags,
    ) -> Result<Self, StoreError> {
        let is_read_only = flags.contains(EnvFlags::READ_ONLY);
        let map_size = map_size
            .max(SEAL_BLOCK_SIZE)
            .checked_next_multiple_of(SEAL_BLOCK_SIZE)
            .unwrap_or(MAP_SIZE_DEFAULT);
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(map_size);
        // SAFETY: `NO_LOCK` asks that no reader runs beside a writer: `commit` has `&mut self`, every read
        // transaction ends in the call that began it, and the directory's lock keeps other processes out. That
        // lock also keeps the mapped file from being changed by any other store. `NO_META_SYNC` is safe: it may
        // lose the last commit in a power cut, never tear one.
        let env = unsafe {
            options.flags(flags);
            options.open(dir).map_err(from_heed)?
        };
        let rows = if is_read_only {
            let txn = env.read_txn().map_err(from_heed)?;
            let opened = env.open_databases_and_commit(txn, |opener, txn| {
                let rows = opener.open_database::<Bytes, Bytes>(txn, None)?;
                heed::Result::Ok(CommitOrAbort::<_, ()>::Commit(rows))
            });
            opened.map_err(from_heed)?.commit().flatten()
        } else {
            let txn = env.write_txn().map_err(from_heed)?;
            let created = env.create_databases_and_commit(txn, |opener, txn| {
                let rows = opener.create_database::<Bytes, Bytes>(txn, None)?;
                heed::Result::Ok(CommitOrAbort::<_, ()>::Commit(rows))
            });
            created.map_err(from_heed)?.commit()
        };
        let rows = rows.expect("the unnamed database is always there");
        Ok(Self { dir: dir.to_owned(), env, rows, is_read_only, lock })
    }

    /// Bytes of the file.
    pub fn size(&self) -> Result<u64, StoreError> {
        Ok(fs::metadata(self.dir.join(DATA_FILE))?.len())
    }

    /// Closes the store in order and seals it. One opened to be read only is just closed.
    pub fn close(self) -> Result<(), StoreError> {
        let Self { dir, env, rows: _, is_read_only, lock } = self;
        if is_read_only {
            env.prepare_for_closing().wait();
            return Ok(());
        }
        env.force_sync().map_err(from_heed)?;
        env.prepare_for_closing().wait();
        let seal = seal_of(&dir.join(DATA_FILE))?;
        write_atomically(&dir.join(SEAL_FILE), &seal)?;
        drop(lock);
        Ok(())
    }
}

impl Store for LmdbStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if key.len() > KEY_SIZE_MAX {
            return Ok(None);
        }
        let txn = self.env.read_txn().map_err(from_heed)?;
        let place = place(table, key);
        let stored = self.rows.get(&txn, &place).map_err(from_heed)?;
        stored.map(|stored| value_of(&place, stored)).transpose()
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Rows, StoreError> {
        let txn = self.env.read_txn().map_err(from_heed)?;
        let from = place(table, from);
        let range = (Bound::Included(from.as_slice()), Bound::Unbounded);
        let mut rows = Rows::new();
        for row in self.rows.range(&txn, &range).map_err(from_heed)?.take(limit) {
            let (place, stored) = row.map_err(from_heed)?;
            match place.split_first() {
                Some((tag, key)) if *tag == table.tag() => {
                    rows.push((key.to_vec(), value_of(place, stored)?));
                }
                _ => break,
            }
        }
        Ok(rows)
    }

    fn commit(&mut self, batch: &WriteBatch) -> Result<(), StoreError> {
        if self.is_read_only {
            return Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem).into());
        }
        let mut txn = self.env.write_txn().map_err(from_heed)?;
        let mut stored = Vec::new();
        for (table, key, value) in batch.changes() {
            let place = place(table, key);
            match value {
                Some(value) => {
                    stored.clear();
                    stored.extend_from_slice(value);
                    stored.extend_from_slice(&crc_of(&place, value).to_le_bytes());
                    self.rows.put(&mut txn, &place, &stored).map_err(from_heed)?;
                }
                None => {
                    self.rows.delete(&mut txn, &place).map_err(from_heed)?;
                }
            }
        }
        txn.commit().map_err(from_heed)
    }
}

fn place(table: Table, key: &[u8]) -> Vec<u8> {
    let mut place = Vec::with_capacity(key.len().saturating_add(1));
    place.push(table.tag());
    place.extend_from_slice(key);
    place
}

fn crc_of(place: &[u8], value: &[u8]) -> u32 {
    crc32c_append(crc32c(place), value)
}

/// The value in front of its checksum, if that is right.
fn value_of(place: &[u8], stored: &[u8]) -> Result<Vec<u8>, StoreError> {
    let whole = stored.split_last_chunk::<CRC_SIZE>();
    match whole.filter(|(value, crc)| crc_of(place, value) == u32::from_le_bytes(**crc)) {
        Some((value, _)) => Ok(value.to_vec()),
        None => Err(damaged(place)),
    }
}

fn damaged(place: &[u8]) -> StoreError {
    let (tag, key) = place.split_first().unwrap_or((&0, &[]));
    let table = Table::ALL.into_iter().find(|table| table.tag() == *tag).unwrap_or(Table::Meta);
    StoreError::Damaged { table, key: key.to_vec() }
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let file = File::open(dir)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

fn from_heed(error: heed::Error) -> StoreError {
    match error {
        heed::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => StoreError::Full,
        heed::Error::Io(error) => StoreError::Io(error),
        heed::Error::Mdb(MdbError::MapFull) => StoreError::Full,
        heed::Error::EnvAlreadyOpened => StoreError::Locked,
        other => StoreError::Library { reason: other.to_string() },
    }
}

/// The seal of a file as it is now.
fn seal_of(file: &Path) -> Result<Vec<u8>, StoreError> {
    let mut file = File::open(file)?;
    let mut seal = SEAL_HEAD.to_vec();
    seal.extend_from_slice(&file.metadata()?.len().to_le_bytes());
    while let Some(block) = read_block(&mut file)? {
        seal.extend_from_slice(&crc32c(&block).to_le_bytes());
    }
    seal.extend_from_slice(&crc32c(&seal).to_le_bytes());
    Ok(seal)
}

/// The next block, shorter at the end of the file; `None` behind it.
fn read_block(file: &mut File) -> Result<Option<Vec<u8>>, StoreError> {
    let mut block = Vec::with_capacity(SEAL_BLOCK_SIZE);
    let size_max = u64::try_from(SEAL_BLOCK_SIZE).unwrap_or(u64::MAX);
    file.take(size_max).read_to_end(&mut block)?;
    Ok((!block.is_empty()).then_some(block))
}

/// Whether there is a seal; an error names what does not agree with it.
fn verify_seal(dir: &Path) -> Result<bool, StoreError> {
    let stored = match fs::read(dir.join(SEAL_FILE)) {
        Ok(stored) => stored,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let data = dir.join(DATA_FILE);
    let wrong = |file: &str, offset: u64| {
        Err(StoreError::DamagedFile { file: dir.join(file).display().to_string(), offset })
    };
    let whole = stored.split_last_chunk::<CRC_SIZE>();
    if whole.is_none_or(|(seal, crc)| crc32c(seal) != u32::from_le_bytes(*crc)) {
        return wrong(SEAL_FILE, 0);
    }
    let found = seal_of(&data)?;
    if found == stored {
        return Ok(true);
    }
    let head_size = SEAL_HEAD.len().saturating_add(size_of::<u64>());
    let blocks = |seal: &[u8]| {
        let crcs = seal.get(head_size..).unwrap_or_default().chunks(CRC_SIZE);
        crcs.map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let (found, stored) = (blocks(&found), blocks(&stored));
    let same = found.iter().zip(&stored).take_while(|(found, stored)| found == stored).count();
    let offset = same.saturating_mul(SEAL_BLOCK_SIZE);
    wrong(DATA_FILE, u64::try_from(offset).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use quipu_state::store::MemoryStore;

    use super::*;

    const MAP_SIZE: usize = 64 << 20;

    fn open(dir: &Path) -> LmdbStore {
        LmdbStore::open(dir, MAP_SIZE).expect("the directory is ours")
    }

    fn filled(dir: &Path) -> LmdbStore {
        let mut store = open(dir);
        let mut batch = WriteBatch::new();
        for index in 0..200_u8 {
            batch.put(Table::Account, vec![index; 32], vec![index; 300]);
        }
        store.commit(&batch).expect("there is room");
        store
    }

    fn flip(file: &Path, offset: usize) {
        let mut bytes = fs::read(file).expect("the file is there");
        *bytes.get_mut(offset).expect("the file is longer") ^= 1;
        fs::write(file, bytes).expect("the file is ours");
    }

    #[test]
    fn lmdb_behaves_as_every_store_must() {
        let dirs = tempfile::tempdir().expect("a temporary directory");
        let mut count = 0_u32;
        let fresh = || {
            count = count.saturating_add(1);
            open(&dirs.path().join(count.to_string()))
        };
        quipu_state::conformance(fresh, |store| {
            let dir = store.dir.clone();
            store.close().expect("the store closes");
            open(&dir)
        });
    }

    #[test]
    fn a_store_that_is_open_is_locked_and_free_again_after() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = filled(dir.path());
        assert!(matches!(LmdbStore::open(dir.path(), MAP_SIZE), Err(StoreError::Locked)));
        assert!(matches!(LmdbStore::open_read_only(dir.path()), Err(StoreError::Locked)));
        drop(store);
        assert_eq!(open(dir.path()).scan(Table::Account, b"", 500).expect("reads").len(), 200);
    }

    #[test]
    fn a_changed_byte_of_a_value_is_named_and_its_neighbours_still_read() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        drop(filled(dir.path()));
        let file = dir.path().join(DATA_FILE);
        let bytes = fs::read(&file).expect("the file is there");
        let offset = bytes.windows(300).rposition(|part| part == [77; 300]).expect("it is stored");
        flip(&file, offset + 123);
        let store = open(dir.path());
        let key = [77; 32];
        let error = store.get(Table::Account, &key).expect_err("it is damaged");
        assert!(matches!(
            error,
            StoreError::Damaged { table: Table::Account, key: named } if named == key
        ));
        assert!(store.scan(Table::Account, b"", 500).is_err());
        assert_eq!(store.get(Table::Account, &[78; 32]).expect("reads"), Some(vec![78; 300]));
    }

    #[test]
    fn any_changed_byte_of_a_sealed_store_is_found_before_it_is_opened() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        filled(dir.path()).close().expect("the store closes");
        assert!(LmdbStore::verify(dir.path()).expect("nothing changed"));
        for name in [DATA_FILE, SEAL_FILE] {
            let file = dir.path().join(name);
            let size = fs::read(&file).expect("the file is there").len();
            for offset in (0..size).step_by(size.div_ceil(37)).chain([size - 1]) {
                flip(&file, offset);
                let error = LmdbStore::open(dir.path(), MAP_SIZE).expect_err("a byte changed");
                let StoreError::DamagedFile { file: named, offset: at } = error else {
                    panic!("{error}")
                };
                assert!(named.ends_with(name));
                if name == DATA_FILE {
                    let block = offset / SEAL_BLOCK_SIZE * SEAL_BLOCK_SIZE;
                    assert_eq!(at, u64::try_from(block).expect("small"));
                }
                flip(&file, offset);
            }
        }
        let mut longer = fs::read(dir.path().join(DATA_FILE)).expect("the file is there");
        longer.push(0);
        fs::write(dir.path().join(DATA_FILE), longer).expect("the file is ours");
        assert!(LmdbStore::verify(dir.path()).is_err());
    }

    #[test]
    fn looking_changes_nothing_and_opening_takes_the_seal_away() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        filled(dir.path()).close().expect("the store closes");
        let mut looked = LmdbStore::open_read_only(dir.path()).expect("it is there");
        let mut batch = WriteBatch::new();
        batch.put(Table::Meta, b"a".to_vec(), b"b".to_vec());
        assert!(looked.commit(&batch).is_err());
        assert_eq!(looked.scan(Table::Account, b"", 500).expect("reads").len(), 200);
        looked.close().expect("it closes");
        assert!(LmdbStore::verify(dir.path()).expect("nothing changed"));
        drop(open(dir.path()));
        assert!(!LmdbStore::verify(dir.path()).expect("there is no seal"));
        assert!(LmdbStore::open_read_only(&dir.path().join("none")).is_err());
    }

    #[test]
    fn a_full_map_is_an_error_that_changes_nothing() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut store = LmdbStore::open(dir.path(), 1 << 20).expect("the directory is ours");
        let mut twin = MemoryStore::new();
        let mut full = false;
        for index in 0..100_u8 {
            let mut batch = WriteBatch::new();
            batch.put(Table::Tx, vec![index], vec![index; 50_000]);
            batch.put(Table::Meta, b"last".to_vec(), vec![index]);
            match store.commit(&batch) {
                Ok(()) => twin.commit(&batch).expect("memory commits"),
                Err(error) => {
                    assert!(matches!(error, StoreError::Full), "{error}");
                    full = true;
                    break;
                }
            }
        }
        assert!(full);
        drop(store);
        let store = LmdbStore::open(dir.path(), 4 << 20).expect("a larger map is fine");
        for table in Table::ALL {
            let rows = |store: &dyn Store| store.scan(table, b"", 500).expect("reads");
            assert!(rows(&store) == rows(&twin), "{table}");
        }
    }
}
