//! Why a validator process does not start, or stops: what happened, to what, what to do next.

use std::net::SocketAddr;
use std::path::PathBuf;

use quipu_types::Code;
use quipu_types::{Hash, Height, code};
use thiserror::Error;

/// Why a validator does not start or had to stop.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The configuration file is wrong.
    #[error("configuration {}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with which key.
        reason: String,
    },
    /// The genesis file is missing or wrong.
    #[error("genesis file {}: {reason}; take it again from whoever operates the ledger", path.display())]
    Genesis {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The key file is missing, unreadable or not a validator's.
    #[error("key file {}: {reason}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another process listens there.
    #[error(
        "{listener} can not listen on {address}: {reason}; choose another port, or 0 for any free one"
    )]
    Port {
        /// Which listener.
        listener: &'static str,
        /// Where.
        address: SocketAddr,
        /// The system's words.
        reason: String,
    },
    /// Another process has the directory open.
    #[error("directory {} is open in another process; stop that one first", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory was made for another genesis.
    #[error("directory {} belongs to another ledger: {reason}; start with the genesis file it was made with", dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// Which chains.
        reason: String,
    },
    /// Stored bytes are damaged.
    #[error("{what} is damaged: {reason}; run quipu check on the directory, then restore it")]
    Damaged {
        /// Which part.
        what: &'static str,
        /// File, offset, record.
        reason: String,
    },
    /// The disk is full.
    #[error(
        "no room left while writing {what}: {reason}; nothing acknowledged is lost: make room, then start again"
    )]
    Full {
        /// Which part.
        what: &'static str,
        /// The system's words.
        reason: String,
    },
    /// The disk refused a write or a sync; what it holds now is not known, so the process stops.
    #[error(
        "disk failed while writing {what}: {reason}; nothing acknowledged is lost: check the disk, then start again"
    )]
    Disk {
        /// Which part.
        what: &'static str,
        /// The system's words.
        reason: String,
    },
    /// What was computed here is not what a quorum signed.
    #[error(
        "the state after height {height} has root {own} here, and a quorum of the validators signed {signed}"
    )]
    Diverged {
        /// The height.
        height: Height,
        /// What was computed.
        own: Hash,
        /// What was signed.
        signed: Hash,
    },
    /// A feature that this version does not have.
    #[error("{what} is not built yet")]
    NotBuilt {
        /// Which.
        what: String,
    },
    /// The system refused a thread, a file or a socket.
    #[error("{what}: {reason}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's words.
        reason: String,
    },
}

impl NodeError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Config { .. } | Self::System { .. } => code::CONFIG,
            Self::Genesis { .. } => code::GENESIS,
            Self::Key { .. } => code::KEY_FILE,
            Self::Port { .. } => code::PORT,
            Self::Locked { .. } => code::STORE_LOCKED,
            Self::Foreign { .. } => code::STORE_FOREIGN,
            Self::Damaged { .. } | Self::Disk { .. } => code::STORE_DAMAGED,
            Self::Full { .. } => code::STORE_FULL,
            Self::Diverged { .. } => code::DIVERGED,
            Self::NotBuilt { .. } => code::NOT_BUILT,
        }
    }

    pub(crate) fn system(what: &'static str, error: impl std::fmt::Display) -> Self {
        Self::System { what, reason: error.to_string() }
    }
}
