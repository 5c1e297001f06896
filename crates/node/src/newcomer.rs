//! Whether a validator knows what it said before. One with keys and a genesis, and neither a ledger nor the mark of its first
//! start, was given a new disk: it begins as an observer, and signs nothing until it can not contradict itself. So does one
//! whose directory turns out to be an old copy: every start asks the others.
//!
//! ```text
//!  first-start   made by `quipu init`, removed when the ledger is made: nothing was ever said
//!  observer      empty, then the height from which on it signs: made when the mark is missing
//! ```

use std::io::ErrorKind;
use std::path::Path;

use quipu_replica::Observer;
use quipu_types::Height;

use crate::config::FIRST_START_FILE;
use crate::disk::{self, write_atomically};
use crate::error::NodeError;

/// Name of the file that says that a validator was given a new disk.
pub(crate) const OBSERVER_FILE: &str = "observer";

/// How this start begins; `is_new` when the directory has no ledger, `is_alone` when nobody else validates.
pub(crate) fn begin(
    dir: &Path,
    is_new: bool,
    is_alone: bool,
) -> Result<Option<Observer>, NodeError> {
    let path = dir.join(OBSERVER_FILE);
    let threshold = match std::fs::read_to_string(&path) {
        Ok(text) if text.trim().is_empty() => None,
        Ok(text) => Some(Height::new(text.trim().parse().map_err(|_| {
            let reason = format!("{} holds no height", path.display());
            NodeError::Damaged { what: "the observer's mark", reason }
        })?)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mark = dir.join(FIRST_START_FILE);
            if !is_new || is_alone || mark.exists() {
                return Ok(None);
            }
            tracing::warn!(
                "no ledger and no {FIRST_START_FILE}: the disk is new, so this starts as an observer"
            );
            write(dir, "")?;
            None
        }
        Err(error) => return Err(NodeError::system("reading the observer's mark", error)),
    };
    Ok(Some(Observer { nonce: nonce()?, threshold }))
}

/// Makes the answers to a question fresh.
pub(crate) fn nonce() -> Result<u64, NodeError> {
    Ok(u64::from_le_bytes(chance()?))
}

/// Bytes that nobody foresees.
pub(crate) fn chance<const SIZE: usize>() -> Result<[u8; SIZE], NodeError> {
    let mut bytes = [0; SIZE];
    getrandom::fill(&mut bytes).map_err(|error| NodeError::system("reading chance", error))?;
    Ok(bytes)
}

/// The ledger is made, or was: from now on the directory does not begin as one that never said anything.
pub(crate) fn made(dir: &Path) -> Result<(), NodeError> {
    match std::fs::remove_file(dir.join(FIRST_START_FILE)) {
        Ok(()) => sync_dir(dir),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(NodeError::system("removing the mark of the first start", error)),
    }
}

/// Keeps the height from which on this validator signs, durably; none while it is not known.
pub(crate) fn keep(dir: &Path, threshold: Option<Height>) -> Result<(), NodeError> {
    write(dir, &threshold.map(|threshold| format!("{threshold}\n")).unwrap_or_default())
}

fn write(dir: &Path, text: &str) -> Result<(), NodeError> {
    let failed = |error| NodeError::system("writing the observer's mark", error);
    write_atomically(&dir.join(OBSERVER_FILE), text.as_bytes()).map_err(failed)
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), NodeError> {
    disk::sync_dir(dir).map_err(|error| NodeError::system("making the directory durable", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_directory_without_mark_and_ledger_begins_as_an_observer_and_stays_one() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert_eq!(begin(dir, false, false).unwrap(), None);
        assert_eq!(begin(dir, true, true).unwrap(), None);
        std::fs::write(dir.join(FIRST_START_FILE), "").unwrap();
        assert_eq!(begin(dir, true, false).unwrap(), None);
        made(dir).unwrap();
        made(dir).unwrap();
        assert_eq!(begin(dir, true, false).unwrap().unwrap().threshold, None);
        let again = begin(dir, false, false).unwrap().unwrap();
        assert_eq!(again.threshold, None);
        keep(dir, Some(Height::new(17))).unwrap();
        let kept = begin(dir, false, false).unwrap().unwrap();
        assert_eq!(kept.threshold, Some(Height::new(17)));
        assert_ne!(kept.nonce, again.nonce);
    }
}
