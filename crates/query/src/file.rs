//! Column files and their manifest: bytes on disk.
//!
//! ```text
//!  <schema>.<table>.col = batch*
//!  batch    = "QCB2" · head size u32 · head crc32c u32 · head · column*
//!  head     = rows u64 · first height u64 · last height u64 · column count u32 · (size u64 · crc32c u32)*
//!  column   = an Arrow IPC stream of one column, one record batch
//!
//!  manifest = frame*      frame = "QCM1" · size u32 · crc32c u32 · body
//!  body     = watermark u64 · file count u32 · (name size u32 · name · file size u64)*
//! ```
//! The last whole frame of the manifest holds: its files, cut to their sizes, are the rows of every height up
//! to the watermark. Files are synced before the frame that names them, so a crash leaves a longer file (cut at
//! open) or an older frame, never a shorter file; a shorter one is damage.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Cursor, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use quipu_types::{Height, Reader};

use crate::store::StoreError;

const BATCH_MAGIC: &[u8; 4] = b"QCB2";
const MANIFEST_MAGIC: &[u8; 4] = b"QCM1";
const PREFIX_SIZE: u64 = 12;
/// Bytes of a head before its pieces, and of each piece.
const HEAD_SIZE: u64 = 28;
const PIECE_SIZE: u64 = 12;
/// Writes smaller than this are gathered.
const GATHER_SIZE: usize = 64 << 10;
/// Head of a batch with the most columns that a table can have, and room.
const HEAD_SIZE_MAX: u32 = 64 * 1024;
const MANIFEST_NAME: &str = "manifest";
/// The manifest is written anew when it has grown beyond this.
const MANIFEST_SIZE_MAX: u64 = 1 << 20;
const FRAME_SIZE_MAX: usize = 1 << 28;

/// One thing wrong in the column files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// The table, as `schema.table`; empty for the manifest.
    pub table: String,
    /// The batch, 0-based, if one.
    pub batch: Option<usize>,
    /// The column's index in the batch, if one.
    pub column: Option<usize>,
    /// What is wrong.
    pub what: String,
}

/// Where one column of a batch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) crc: u32,
}

/// A batch on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredBatch {
    pub(crate) rows: u64,
    pub(crate) first_height: Height,
    pub(crate) last_height: Height,
    pub(crate) pieces: Vec<Piece>,
}

/// The state that a manifest names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) watermark: Height,
    pub(crate) files: Vec<(String, u64)>,
    /// Rows of the heights up to this one were never here.
    pub(crate) missing: Height,
}

/// The file of a table.
pub(crate) fn path_of(folder: &Path, table: &str) -> PathBuf {
    folder.join(format!("{table}.col"))
}

/// Appends a batch at `offset` (the file's end as the manifest knows it), synced; its place comes back.
///
/// The columns go to the file as they are encoded, the head before them when their checksums are known.
pub(crate) fn append_batch(
    path: &Path,
    offset: u64,
    columns: &[ArrayRef],
    heights: (Height, Height),
) -> Result<(StoredBatch, u64), StoreError> {
    let failed = |error| StoreError::io(path, error);
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    let count = u32::try_from(columns.len()).expect("a table has at most some hundred columns");
    let head_size = HEAD_SIZE.saturating_add(PIECE_SIZE.saturating_mul(u64::from(count)));
    let mut end = offset.saturating_add(PREFIX_SIZE).saturating_add(head_size);
    let rows = columns.first().map_or(0, |column| column.len());
    let rows = u64::try_from(rows).expect("a batch's rows fit 64 bits");
    let mut head = Vec::new();
    head.extend_from_slice(&rows.to_le_bytes());
    head.extend_from_slice(&heights.0.get().to_le_bytes());
    head.extend_from_slice(&heights.1.get().to_le_bytes());
    head.extend_from_slice(&count.to_le_bytes());
    for column in columns {
        let piece = write_column(&file, end, column).map_err(|error| match error {
            ArrowError::IoError(_, error) => failed(error),
            error => error.into(),
        })?;
        head.extend_from_slice(&piece.size.to_le_bytes());
        head.extend_from_slice(&piece.crc.to_le_bytes());
        end = end.saturating_add(piece.size);
    }
    assert_eq!(size_of_bytes(&head), head_size, "the columns stand right behind the head");
    file.write_all_at(&frame(BATCH_MAGIC, &head), offset).map_err(failed)?;
    file.sync_data().map_err(failed)?;
    let columns_at = offset.saturating_add(PREFIX_SIZE).saturating_add(head_size);
    let batch = decode_head(&head, columns_at).expect("the head was just written");
    Ok((batch, end))
}

/// Writes a column at `offset`.
fn write_column(file: &File, offset: u64, array: &ArrayRef) -> Result<Piece, ArrowError> {
    let schema = Arc::new(Schema::new(vec![Field::new("c", array.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::clone(array)])?;
    let sink = PieceSink { file, piece: Piece { offset, size: 0, crc: 0 } };
    // What is small is gathered; what is large is not copied.
    let sink = BufWriter::with_capacity(GATHER_SIZE, sink);
    let mut writer = StreamWriter::try_new(sink, &schema)?;
    writer.write(&batch)?;
    let sink = writer.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(sink.piece)
}

/// Writes one after another from a place on, and knows what was written.
struct PieceSink<'a> {
    file: &'a File,
    piece: Piece,
}

impl Write for PieceSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Piece { offset, size, crc } = self.piece;
        self.file.write_all_at(bytes, offset.saturating_add(size))?;
        self.piece.size = size.saturating_add(size_of_bytes(bytes));
        self.piece.crc = crc32c::crc32c_append(crc, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn size_of_bytes(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("sizes fit 64 bits")
}

fn frame(magic: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len().saturating_add(12));
    out.extend_from_slice(magic);
    let size = u32::try_from(body.len()).expect("heads and manifests are below 4 GiB");
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    out.extend_from_slice(body);
    out
}

fn decode_head(head: &[u8], mut offset: u64) -> Option<StoredBatch> {
    let mut reader = Reader::new(head);
    let rows = reader.u64().ok()?;
    let first_height = Height::new(reader.u64().ok()?);
    let last_height = Height::new(reader.u64().ok()?);
    let count = reader.u32().ok()?;
    let mut pieces = Vec::new();
    for _ in 0..count {
        let size = reader.u64().ok()?;
        let crc = reader.u32().ok()?;
        pieces.push(Piece { offset, size, crc });
        offset = offset.checked_add(size)?;
    }
    reader.end().ok()?;
    Some(StoredBatch { rows, first_height, last_height, pieces })
}

/// The batches of a file whose first `size` bytes count.
pub(crate) fn read_batches(path: &Path, size: u64) -> Result<Vec<StoredBatch>, StoreError> {
    let file = File::open(path).map_err(|error| StoreError::io(path, error))?;
    let mut batches = Vec::new();
    let mut offset = 0;
    while offset < size {
        let (batch, end) = read_head(&file, path, offset, size)?;
        batches.push(batch);
        offset = end;
    }
    Ok(batches)
}

fn read_head(
    file: &File,
    path: &Path,
    offset: u64,
    size: u64,
) -> Result<(StoredBatch, u64), StoreError> {
    let damaged = |what: &str| StoreError::damaged(path, offset, what);
    let mut prefix = [0; 12];
    file.read_exact_at(&mut prefix, offset).map_err(|error| StoreError::io(path, error))?;
    let mut reader = Reader::new(&prefix);
    let magic: [u8; 4] = reader.array().map_err(|_| damaged("a batch's prefix is short"))?;
    let (Ok(head_size), Ok(crc)) = (reader.u32(), reader.u32()) else {
        return Err(damaged("a batch's prefix is short"));
    };
    if magic != *BATCH_MAGIC || head_size > HEAD_SIZE_MAX {
        return Err(damaged("no batch begins here"));
    }
    let mut head = vec![0; usize::try_from(head_size).expect("HEAD_SIZE_MAX fits")];
    let body_offset = offset.saturating_add(PREFIX_SIZE);
    file.read_exact_at(&mut head, body_offset).map_err(|error| StoreError::io(path, error))?;
    if crc32c::crc32c(&head) != crc {
        return Err(damaged("a batch's head fails its checksum"));
    }
    let batch = decode_head(&head, body_offset.saturating_add(u64::from(head_size)))
        .ok_or_else(|| damaged("a batch's head does not decode"))?;
    let end =
        batch.pieces.last().map_or(body_offset, |piece| piece.offset.saturating_add(piece.size));
    if end > size || end <= offset {
        return Err(damaged("a batch reaches beyond the file"));
    }
    Ok((batch, end))
}

/// Reads one column of a batch and checks its CRC (Q2).
pub(crate) fn read_column(
    path: &Path,
    batch: &StoredBatch,
    column: usize,
) -> Result<ArrayRef, StoreError> {
    let file = File::open(path).map_err(|error| StoreError::io(path, error))?;
    read_piece(&file, path, batch, column)
}

fn read_piece(
    file: &File,
    path: &Path,
    batch: &StoredBatch,
    column: usize,
) -> Result<ArrayRef, StoreError> {
    let piece = batch
        .pieces
        .get(column)
        .ok_or_else(|| StoreError::damaged(path, 0, "a batch has fewer columns than its table"))?;
    let damaged = |what: &str| StoreError::damaged(path, piece.offset, what);
    let size = usize::try_from(piece.size).map_err(|_| damaged("a column is too large"))?;
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, piece.offset).map_err(|error| StoreError::io(path, error))?;
    if crc32c::crc32c(&bytes) != piece.crc {
        return Err(damaged("a column fails its checksum"));
    }
    let mut reader = StreamReader::try_new(Cursor::new(bytes), None)?;
    let array = match reader.next() {
        Some(read) => read?.columns().first().map(Arc::clone),
        None => None,
    };
    match array {
        Some(array) if u64::try_from(array.len()) == Ok(batch.rows) => Ok(array),
        _ => Err(damaged("a column has another number of rows than its batch")),
    }
}

/// The state that the manifest names; none when there is no manifest or no whole frame in it.
pub(crate) fn read_manifest(folder: &Path) -> Result<Option<Manifest>, StoreError> {
    let path = folder.join(MANIFEST_NAME);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io(&path, error)),
    };
    let mut rest = bytes.as_slice();
    let mut newest = None;
    while let Some((manifest, after)) = decode_frame(rest) {
        newest = Some(manifest);
        rest = after;
    }
    Ok(newest)
}

fn decode_frame(bytes: &[u8]) -> Option<(Manifest, &[u8])> {
    let mut reader = Reader::new(bytes.get(..12)?);
    let magic: [u8; 4] = reader.array().ok()?;
    let size = usize::try_from(reader.u32().ok()?).ok()?;
    let crc = reader.u32().ok()?;
    if magic != *MANIFEST_MAGIC || size > FRAME_SIZE_MAX {
        return None;
    }
    let end = size.checked_add(12)?;
    let body = bytes.get(12..end)?;
    if crc32c::crc32c(body) != crc {
        return None;
    }
    let mut reader = Reader::new(body);
    let watermark = Height::new(reader.u64().ok()?);
    let count = reader.u32().ok()?;
    let mut files = Vec::new();
    for _ in 0..count {
        let name = reader.text("file name", 256).ok()?.to_owned();
        files.push((name, reader.u64().ok()?));
    }
    // Manifests of earlier versions end here.
    let missing = if reader.left() > 0 { Height::new(reader.u64().ok()?) } else { Height::new(0) };
    reader.end().ok()?;
    Some((Manifest { watermark, files, missing }, bytes.get(end..)?))
}

/// Makes `manifest` the state that the next open finds; returns when that is durable.
pub(crate) fn write_manifest(folder: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    let path = folder.join(MANIFEST_NAME);
    let mut body = Vec::new();
    encode_manifest(manifest, &mut body);
    let bytes = frame(MANIFEST_MAGIC, &body);
    let failed = |error| StoreError::io(&path, error);
    // New files of this flush must be found by name after a crash, too.
    sync_folder(folder)?;
    let size = fs::metadata(&path).map_or(0, |data| data.len());
    if (1..MANIFEST_SIZE_MAX).contains(&size) {
        let mut file = OpenOptions::new().append(true).open(&path).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        return file.sync_data().map_err(failed);
    }
    rewrite_manifest(folder, &path, &bytes)
}

fn rewrite_manifest(folder: &Path, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let fresh = folder.join("manifest.new");
    let failed = |error| StoreError::io(&fresh, error);
    let mut file = File::create(&fresh).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_data().map_err(failed)?;
    fs::rename(&fresh, path).map_err(failed)?;
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| StoreError::io(folder, error))
}

/// Makes the folder hold exactly what the manifest names: cuts longer files, removes files it does not know,
/// and writes the manifest anew without its torn or older frames.
pub(crate) fn settle(folder: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    fs::create_dir_all(folder).map_err(|error| StoreError::io(folder, error))?;
    for entry in fs::read_dir(folder).map_err(|error| StoreError::io(folder, error))? {
        let path = entry.map_err(|error| StoreError::io(folder, error))?.path();
        let known = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .and_then(|stem| manifest.files.iter().find(|(name, _)| name == stem));
        if path.extension().is_some_and(|extension| extension == "col") && known.is_none() {
            fs::remove_file(&path).map_err(|error| StoreError::io(&path, error))?;
        }
    }
    for (name, size) in &manifest.files {
        let path = path_of(folder, name);
        let failed = |error| StoreError::io(&path, error);
        let file = OpenOptions::new().write(true).open(&path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?.len();
        if found < *size {
            return Err(StoreError::damaged(
                &path,
                found,
                "the file is shorter than its manifest says",
            ));
        }
        if found > *size {
            file.set_len(*size).map_err(failed)?;
            file.sync_all().map_err(failed)?;
        }
    }
    let path = folder.join(MANIFEST_NAME);
    let _gone_or_never_there = fs::remove_file(folder.join("manifest.new"));
    if path.exists() {
        let mut body = Vec::new();
        encode_manifest(manifest, &mut body);
        rewrite_manifest(folder, &path, &frame(MANIFEST_MAGIC, &body))?;
    }
    Ok(())
}

fn encode_manifest(manifest: &Manifest, body: &mut Vec<u8>) {
    body.extend_from_slice(&manifest.watermark.get().to_le_bytes());
    let count = u32::try_from(manifest.files.len()).expect("there are fewer than 2^32 tables");
    body.extend_from_slice(&count.to_le_bytes());
    for (name, size) in &manifest.files {
        let length = u32::try_from(name.len()).expect("names are short");
        body.extend_from_slice(&length.to_le_bytes());
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(&size.to_le_bytes());
    }
    body.extend_from_slice(&manifest.missing.get().to_le_bytes());
}

/// Verifies every stored byte: heads, checksums, Arrow's structure, row counts.
#[must_use]
pub fn check(folder: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let manifest = match read_manifest(folder) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => {
            let path = folder.join(MANIFEST_NAME);
            if path.exists() {
                findings.push(finding(
                    path,
                    "",
                    None,
                    None,
                    "no whole frame in the manifest".into(),
                ));
            }
            return findings;
        }
        Err(error) => {
            let path = folder.join(MANIFEST_NAME);
            return vec![finding(path, "", None, None, error.to_string())];
        }
    };
    for (table, size) in &manifest.files {
        check_file(folder, table, *size, &mut findings);
    }
    findings
}

fn check_file(folder: &Path, table: &str, size: u64, findings: &mut Vec<Finding>) {
    let path = path_of(folder, table);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) => {
            findings.push(finding(path, table, None, None, error.to_string()));
            return;
        }
    };
    let mut offset = 0;
    let mut index: usize = 0;
    while offset < size {
        match read_head(&file, &path, offset, size) {
            Ok((batch, end)) => {
                for column in 0..batch.pieces.len() {
                    if let Err(error) = read_piece(&file, &path, &batch, column) {
                        let what = error.to_string();
                        findings.push(finding(
                            path.clone(),
                            table,
                            Some(index),
                            Some(column),
                            what,
                        ));
                    }
                }
                offset = end;
            }
            Err(error) => {
                findings.push(finding(path, table, Some(index), None, error.to_string()));
                return;
            }
        }
        index = index.saturating_add(1);
    }
}

fn finding(
    file: PathBuf,
    table: &str,
    batch: Option<usize>,
    column: Option<usize>,
    what: String,
) -> Finding {
    Finding { file, table: table.to_owned(), batch, column, what }
}
