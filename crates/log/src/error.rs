//! What can go wrong with a stored ledger, always with the file and the place.

use std::fmt;
use std::io;

use quipu_types::{DecodeError, Hash, Height, Lane, Seqno, Term};
use thiserror::Error;

/// What was being done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Doing {
    /// Opening it.
    Open,
    /// Making it.
    Create,
    /// Listing a directory.
    List,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Cutting it.
    Truncate,
    /// Removing it.
    Remove,
}

/// Which stored thing a file and an offset hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// Nothing smaller than the file can be named.
    File,
    /// Record of a journal, from 1.
    Record(u64),
    /// A chunk of a lane, or what follows after it.
    Chunk {
        /// The lane.
        lane: Lane,
        /// The chunk's index.
        index: u64,
        /// Seqno of its first transaction.
        seqno: Seqno,
    },
    /// A node of a lane's tree.
    Node {
        /// The lane.
        lane: Lane,
        /// The node's index, in post-order.
        node: u64,
    },
    /// A header.
    Header(Height),
}

/// What is wrong there.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// A segment's first bytes.
    #[error("the segment's header is damaged or of another ledger")]
    SegmentHeader,
    /// A frame's checksum, or its own header, in a place that was durable.
    #[error("a frame that was durable fails its checksum")]
    Frame,
    /// Bytes after the last whole frame: a write that a crash tore, or a last record that rotted.
    #[error(
        "{size} bytes from here to the last that is not zero are no frame: a torn write, or a damaged last record"
    )]
    Tail {
        /// Up to the last byte that is not zero.
        size: u64,
    },
    /// A byte of the space that nobody has written.
    #[error("a byte of unused space is {value}, not zero")]
    NotZero {
        /// The byte.
        value: u8,
    },
    /// Records are missing between two segments, or before the first.
    #[error("record {wanted} was to come, the next segment begins with {found}")]
    Missing {
        /// The record that was to come.
        wanted: u64,
        /// The record that the segment's name says.
        found: u64,
    },
    /// A frame whose checksum is right does not hold what it should.
    #[error("the record is malformed: {reason}")]
    Malformed {
        /// What the decoder says.
        reason: DecodeError,
    },
    /// A record does not continue the one before.
    #[error("{field} does not continue the record before")]
    Link {
        /// The field that does not fit.
        field: &'static str,
    },
    /// A body does not have the digest that its header signs.
    #[error("the body does not have the digest in its header")]
    Body,
    /// A chunk's lane root is not the root of the lane's tree.
    #[error("the tree's root is {found}, the chunk says {wanted}")]
    Root {
        /// What the chunk says.
        wanted: Hash,
        /// What the stored transactions give.
        found: Hash,
    },
    /// A node of the tree file is not what the transactions give.
    #[error("the node is not the hash of what stands below it")]
    Node,
    /// A node above the tree's mark, which a crash may have left unwritten.
    #[error("the node is not the hash of what stands below it, and was not marked durable")]
    NodeUnmarked,
    /// A mark of a tree file.
    #[error("the tree's mark is damaged, or its write was torn")]
    Mark,
    /// A header's cut names a chunk that the lane does not hold.
    #[error(
        "the header of height {height} covers this lane up to chunk {index} (seqno {seqno}), which is not stored"
    )]
    Short {
        /// Who names it.
        height: Height,
        /// The chunk's index.
        index: u64,
        /// Its last seqno.
        seqno: Seqno,
    },
    /// A header's cut names another chunk than the one stored.
    #[error("the header of height {height} names another chunk here")]
    Differs {
        /// Who names it.
        height: Height,
    },
    /// The write-ahead log is about heights whose parents are not stored.
    #[error("the write-ahead log has records about height {height}: headers are missing here")]
    HeadersShort {
        /// The highest height in the write-ahead log.
        height: Height,
    },
    /// A commit certificate is refused.
    #[error("the commit certificate does not commit this header")]
    Certificate,
    /// A chunk's signature is refused.
    #[error("the chunk is not signed by the sequencer of its term")]
    Signature,
    /// A node of a tree that was pruned is still there, or one that stays is another.
    #[error("a node before the base is not what pruning left")]
    NodePruned,
    /// A file or directory that does not belong to a ledger.
    #[error("no such file belongs to a ledger")]
    Unknown,
    /// A file that should be there.
    #[error("the file or directory is missing")]
    Gone,
    /// The medium refuses to give the bytes.
    #[error("cannot be read: {kind}")]
    Unreadable {
        /// What the system says.
        kind: io::ErrorKind,
    },
}

/// One thing that is wrong in a stored ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, relative to the ledger's directory.
    pub file: String,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What stands there.
    pub place: Place,
    /// What is wrong.
    pub damage: Damage,
}

impl Finding {
    /// Whether a crash alone explains it, without any fault of the medium: opening the ledger mends it.
    #[must_use]
    pub fn is_mended_by_opening(&self) -> bool {
        matches!(
            self.damage,
            Damage::Tail { .. } | Damage::NodeUnmarked | Damage::NodePruned | Damage::Mark
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.file, self.offset)?;
        match self.place {
            Place::File => Ok(()),
            Place::Record(record) => write!(f, ", record {record}"),
            Place::Chunk { lane, index, seqno } => {
                write!(f, ", lane {lane}, chunk {index}, seqno {seqno}")
            }
            Place::Node { lane, node } => write!(f, ", lane {lane}, tree node {node}"),
            Place::Header(height) => write!(f, ", height {height}"),
        }?;
        write!(f, ": {}", self.damage)
    }
}

/// Why the log refused or failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogError {
    /// The system failed at something other than a sync.
    #[error("{doing:?} of {file} failed: {kind}")]
    Disk {
        /// The file.
        file: String,
        /// What was tried.
        doing: Doing,
        /// What the system says.
        kind: io::ErrorKind,
    },
    /// The medium is full. Nothing of the record that was appended is visible, now or after a restart;
    /// appending works again once there is room.
    #[error("no room left on the medium for {file}")]
    Full {
        /// The file.
        file: String,
    },
    /// A sync failed: what it covered may be lost without a trace (D5). Stop the process.
    #[error("sync of {file} failed ({kind}): the process must stop and recover")]
    SyncFailed {
        /// The file.
        file: String,
        /// What the system says.
        kind: io::ErrorKind,
    },
    /// An earlier failure left a file in a state that only recovery can judge. Stop the process.
    #[error("{file} failed before: the process must stop and recover")]
    Failed {
        /// The file.
        file: String,
    },
    /// Stored bytes are wrong.
    #[error("damaged: {0}")]
    Damaged(Box<Finding>),
    /// A record that was to be appended does not continue what is stored; nothing was written.
    #[error("lane {lane}: {field} of chunk {index} does not continue what is stored")]
    DoesNotLink {
        /// The lane.
        lane: Lane,
        /// The chunk's index.
        index: u64,
        /// The field.
        field: &'static str,
    },
    /// A term record that was to be appended does not continue the failover log; nothing was written.
    #[error("lane {lane}: {field} of term {term} does not continue what is stored")]
    TermDoesNotLink {
        /// The lane.
        lane: Lane,
        /// The term.
        term: Term,
        /// The field.
        field: &'static str,
    },
    /// A header that was to be appended is not the next.
    #[error("header {height} does not follow the last one stored")]
    HeaderDoesNotLink {
        /// Its height.
        height: Height,
    },
    /// A record of the write-ahead log is about a height more than two above the last header's.
    #[error(
        "the write-ahead log cannot speak of height {height} before the headers below are stored"
    )]
    TooFarAhead {
        /// The record's height.
        height: Height,
    },
    /// A record is larger than a frame may be.
    #[error("a record of {size} bytes, the most is {size_max}")]
    TooLarge {
        /// Bytes.
        size: usize,
        /// What is allowed.
        size_max: usize,
    },
    /// A committed chunk was to be cut off.
    #[error("lane {lane}: chunk {index} is not above the last committed one")]
    Committed {
        /// The lane.
        lane: Lane,
        /// The index to cut back to.
        index: u64,
    },
    /// There is no such lane.
    #[error("there is no lane {lane}")]
    NoLane {
        /// The lane.
        lane: Lane,
    },
    /// There is no such transaction, or not yet.
    #[error("lane {lane} has no seqno {seqno}")]
    NoSeqno {
        /// The lane.
        lane: Lane,
        /// The seqno.
        seqno: Seqno,
    },
    /// There is no such chunk, or not yet.
    #[error("lane {lane} has no chunk {index}")]
    NoChunk {
        /// The lane.
        lane: Lane,
        /// The index.
        index: u64,
    },
    /// There is a ledger where one was to be made.
    #[error("there is a ledger already")]
    Begun,
    /// What a ledger was to begin with does not fit together; nothing was written.
    #[error("what the ledger is to begin with does not fit together: {part}")]
    Beginning {
        /// The first part that does not fit.
        part: String,
    },
    /// The transaction was pruned.
    #[error("lane {lane}: transactions up to {horizon} were pruned, {seqno} is one of them")]
    SeqnoPruned {
        /// The lane.
        lane: Lane,
        /// The seqno.
        seqno: Seqno,
        /// The last one that was pruned.
        horizon: Seqno,
    },
    /// The chunk was pruned.
    #[error("lane {lane}: chunks up to {horizon} were pruned, {index} is one of them")]
    ChunkPruned {
        /// The lane.
        lane: Lane,
        /// The index.
        index: u64,
        /// The last one that was pruned.
        horizon: u64,
    },
    /// The header was pruned.
    #[error("headers below height {first} were pruned, {height} is one of them")]
    HeightPruned {
        /// The height.
        height: Height,
        /// The first that is there.
        first: Height,
    },
    /// There is no such header, or not yet.
    #[error("there is no header of height {height}")]
    NoHeight {
        /// The height.
        height: Height,
    },
}

impl LogError {
    /// Whether what was asked for was there once, and was pruned.
    #[must_use]
    pub const fn is_pruned(&self) -> bool {
        matches!(
            self,
            Self::SeqnoPruned { .. } | Self::ChunkPruned { .. } | Self::HeightPruned { .. }
        )
    }

    /// Whether the process must stop and recover.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::SyncFailed { .. } | Self::Failed { .. } | Self::Damaged(_))
    }

    pub(crate) fn disk(file: &str, doing: Doing, error: &io::Error) -> Self {
        let file = file.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { file },
            kind => Self::Disk { file, doing, kind },
        }
    }

    pub(crate) fn damaged(file: &str, offset: u64, place: Place, damage: Damage) -> Self {
        Self::Damaged(Box::new(Finding { file: file.to_owned(), offset, place, damage }))
    }
}
