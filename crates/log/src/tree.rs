//! A lane's Merkle nodes in a file: derived from the chunks, kept so that paths need few reads.
//!
//! ```text
//!  tree   0       64      128       160       192
//!         mark A │ mark B │ node 0  │ node 1  │ …        nodes in post-order, 32 bytes each (RFC 9162 trees)
//!  mark   "QPTREE\0\1" · generation u64 · leaves u64 · chain 32 · crc u32 · 4 zeros
//! ```
//! * Nodes are written without syncs. A **mark** says up to how many leaves they are durable; the two marks take
//!   turns, so that one is always whole. Opening trusts the nodes below the mark if they give the root that the chunk
//!   there has signed, and makes those above it anew from the chunks.
//! * No node is believed: whatever is made of nodes is compared with a signed root before it is handed out.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "a tree has at most 2^62 leaves, far fewer than a medium's bytes"
)]

use std::io;
use std::sync::Arc;

use quipu_crypto::merkle::{Frontier, Nodes, node_count};
use quipu_types::{Hash, Lane, Reader};

use crate::disk::{Disk, DiskFile};
use crate::error::{Doing, LogError};
use crate::journal::{sync_dir, sync_file};
use crate::scan::read_full;

const MAGIC: [u8; 8] = *b"QPTREE\0\x01";
pub(crate) const MARK_SIZE: u64 = 64;
pub(crate) const NODES_START: u64 = 2 * MARK_SIZE;
/// Leaves after which a group sync sets a new mark: what opening hashes again after a crash is at most this and a group.
pub(crate) const MARK_LEAVES: u64 = 1 << 16;

/// The file of nodes; shared by the writer and readers.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    pub(crate) path: String,
    pub(crate) file: Arc<dyn DiskFile>,
}

/// A mark as it stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) generation: u64,
    pub(crate) leaves: u64,
}

/// What writes a mark once the nodes are durable.
#[derive(Debug)]
pub(crate) struct TreeSync {
    pub(crate) tree: Tree,
    pub(crate) chain: Hash,
    pub(crate) mark: Mark,
}

impl TreeSync {
    pub(crate) fn run(&self) -> Result<(), LogError> {
        sync_file(&self.tree.path, self.tree.file.as_ref())?;
        self.tree.write_mark(&self.chain, self.mark)
    }
}

impl Mark {
    fn to_bytes(self, chain: &Hash) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&self.leaves.to_le_bytes());
        bytes.extend_from_slice(chain.bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes
    }

    pub(crate) fn from_bytes(chain: &Hash, bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes.get(MAGIC.len()..)?);
        let mark = Self { generation: reader.u64().ok()?, leaves: reader.u64().ok()? };
        (mark.to_bytes(chain) == bytes).then_some(mark)
    }
}

impl Tree {
    /// Opens or makes a lane's tree file.
    pub(crate) fn open(disk: &dyn Disk, directory: &str) -> Result<Self, LogError> {
        let path = Self::path(directory);
        let file = match disk.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = disk
                    .create(&path)
                    .map_err(|error| LogError::disk(&path, Doing::Create, &error))?;
                sync_dir(disk, directory)?;
                file
            }
            opened => opened.map_err(|error| LogError::disk(&path, Doing::Open, &error))?,
        };
        Ok(Self { path, file })
    }

    pub(crate) fn path(directory: &str) -> String {
        format!("{directory}/tree")
    }

    /// The newest whole mark.
    pub(crate) fn mark(&self, chain: &Hash) -> Result<Mark, LogError> {
        let mut newest = Mark { generation: 0, leaves: 0 };
        for slot in 0..2 {
            let mut bytes = [0; 64];
            let count = read_full(&self.path, self.file.as_ref(), slot * MARK_SIZE, &mut bytes)?;
            let mark = Mark::from_bytes(chain, bytes.get(..count).unwrap_or_default());
            if let Some(mark) = mark.filter(|mark| mark.generation > newest.generation) {
                newest = mark;
            }
        }
        Ok(newest)
    }

    pub(crate) fn write_mark(&self, chain: &Hash, mark: Mark) -> Result<(), LogError> {
        let slot = mark.generation % 2;
        self.write(slot * MARK_SIZE, &mark.to_bytes(chain))
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), LogError> {
        self.file
            .write_at(offset, bytes)
            .map_err(|error| LogError::disk(&self.path, Doing::Write, &error))
    }

    /// Writes nodes from `index` on; `bytes` are 32 for each.
    pub(crate) fn write_nodes(&self, index: u64, bytes: &[u8]) -> Result<(), LogError> {
        if bytes.is_empty() { Ok(()) } else { self.write(node_offset(index), bytes) }
    }

    /// Cuts the file behind the nodes of `leaves` leaves.
    pub(crate) fn cut(&self, leaves: u64) -> Result<(), LogError> {
        let end = node_offset(node_count(leaves));
        let failed = |doing| move |error: io::Error| LogError::disk(&self.path, doing, &error);
        if self.file.size().map_err(failed(Doing::Read))? > end {
            self.file.truncate(end).map_err(failed(Doing::Truncate))?;
        }
        Ok(())
    }

    /// Gives back the room of nodes that no tree of `leaves` leaves or more has for a peak: those are all that is read of what is
    /// before its last leaf.
    pub(crate) fn prune(&self, leaves: u64) -> Result<(), LogError> {
        for (start, end) in pruned(leaves) {
            self.file
                .give_back(start, end - start)
                .map_err(|error| LogError::disk(&self.path, Doing::Truncate, &error))?;
        }
        Ok(())
    }

    /// Writes the peaks of a tree whose other nodes are not there.
    pub(crate) fn write_peaks(&self, frontier: &Frontier) -> Result<(), LogError> {
        for (node, peak) in peaks(frontier.size()).zip(frontier.peaks()) {
            self.write_nodes(node, peak.bytes())?;
        }
        Ok(())
    }

    /// How many leaves' nodes the file is long enough for, at most `leaves`.
    pub(crate) fn holds(&self, leaves: u64) -> Result<bool, LogError> {
        let size =
            self.file.size().map_err(|error| LogError::disk(&self.path, Doing::Read, &error))?;
        Ok(size >= node_offset(node_count(leaves)))
    }
}

/// Where the peaks of a tree stand, largest first.
pub(crate) fn peaks(leaves: u64) -> impl Iterator<Item = u64> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = leaves - start;
        let count = 1 << rest.checked_ilog2()?;
        let node = node_count(start) + 2 * count - 2;
        start += count;
        Some(node)
    })
}

/// The ranges of the file in which no peak stands, before the last leaf of so many.
pub(crate) fn pruned(leaves: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut from = NODES_START;
    let ranges = peaks(leaves).map(move |node| {
        let range = (from, node_offset(node));
        from = node_offset(node + 1);
        range
    });
    ranges.filter(|(start, end)| start < end)
}

/// Where a node stands in the file.
pub(crate) fn node_offset(index: u64) -> u64 {
    NODES_START + 32 * index
}

impl Nodes for Tree {
    type Error = LogError;

    fn node(&self, index: u64) -> Result<Hash, LogError> {
        // Beyond the end: zeros, which give a root that nobody has signed.
        let mut bytes = [0; 32];
        read_full(&self.path, self.file.as_ref(), node_offset(index), &mut bytes)?;
        Ok(Hash(bytes))
    }
}

/// Name of a lane's directory.
pub(crate) fn lane_directory(lane: Lane) -> String {
    format!("lanes/{:02}", lane.get())
}
