//! Proofs that validators broke rules: kept one a file under `evidence/`, listed, and judged by what a verifier trusts. Nothing
//! here acts on them.
//!
//! ```text
//!  ledger's thread ── keep ──> DIR/evidence/KIND-VALIDATOR-HASH ── files ──> quipu validators evidence
//!                                                      └──────────┐
//!  genesis ── hand-overs (DIR/handovers, or a file of them) ── judge ──> who, what, where; or that it names nobody
//! ```
//! A file is the [`Evidence`] itself and nothing else, so that it can be handed to anyone; its name is only a name. What was
//! signed in a later epoch is judged by that epoch's validators, which the hand-overs give.

use std::path::{Path, PathBuf};

use quipu_consensus::{Context, Evidence};
use quipu_crypto::sha256;
use quipu_proof::{Committed, HandoverError, Pinned};
use quipu_types::{Decode, DecodeError, Encode, Genesis, PublicKey, ValidatorIndex};

use crate::disk::{FileDisk, PARTIAL_SUFFIX, write_atomically};

/// Directory of the files.
pub(crate) const EVIDENCE_DIR: &str = "evidence";
/// Most files of a validator and kind: one is enough, and who breaks a rule at each height leaves room for what others do. What
/// comes after is not kept.
const FILE_COUNT_MAX: usize = 8;

/// What a proof shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misdeed {
    /// Who did it.
    pub validator: ValidatorIndex,
    /// Its voting key.
    pub key: PublicKey,
    /// Its name in the genesis; its key, if it came later.
    pub name: String,
    /// The epoch in which it signed.
    pub epoch: u64,
    /// What was signed twice, or forgotten: see [`Evidence`].
    pub kind: &'static str,
    /// The height and round, or the chunk, or the state.
    pub place: String,
}

/// Judges a proof by the validators that were followed from the genesis; none when it names nobody: its parts agree, are of
/// different places or of an epoch that was not followed, or are not all signed by whom they should be.
///
/// # Errors
/// When the bytes are no evidence.
pub fn judge(
    bytes: &[u8],
    genesis: &Genesis,
    pinned: &Pinned,
) -> Result<Option<Misdeed>, DecodeError> {
    let evidence = Evidence::from_bytes(bytes)?;
    let context = Context::in_epoch(*pinned.chain(), pinned.epochs().clone());
    let named = || {
        let validator = evidence.culprit(&context)?;
        let set = evidence.set(&context);
        let key = set.get(validator)?.key;
        let own = genesis.validators.iter().find(|one| one.key == key);
        let name = own.map_or_else(|| key.to_string(), |one| one.name.clone());
        let (epoch, kind, place) = (set.epoch, evidence.kind(), evidence.place());
        Some(Misdeed { validator, key, name, epoch, kind, place })
    };
    Ok(named())
}

/// Why the validators of a directory are not followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// It cannot be opened.
    #[error(transparent)]
    Directory(#[from] std::io::Error),
    /// What it keeps cannot be read.
    #[error(transparent)]
    Log(#[from] quipu_log::LogError),
    /// What it keeps is not of this genesis.
    #[error(transparent)]
    False(#[from] HandoverError),
}

/// Who votes by the genesis and by the hand-overs that a validator's directory keeps, each of which is verified. The validator
/// may be running.
///
/// # Errors
/// When they cannot be read, or do not follow from the genesis.
pub fn followed(dir: &Path, genesis: &Genesis) -> Result<Pinned, FollowError> {
    let mut pinned = Pinned::of_checked(genesis);
    if !dir.is_dir() {
        return Ok(pinned);
    }
    let kept = quipu_log::handovers(&FileDisk::new(dir)?, pinned.chain())?;
    let kept: Vec<Committed> =
        kept.into_iter().map(|(header, by)| Committed::new(header, by)).collect();
    pinned.follow(&kept)?;
    Ok(pinned)
}

/// The files of a validator's directory, in the order of their names; none when it never kept any.
///
/// # Errors
/// What the system says of the directory.
pub fn files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir.join(EVIDENCE_DIR)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    // What a validator that died was about to write is none.
    files.retain(|path| !path.as_os_str().as_encoded_bytes().ends_with(PARTIAL_SUFFIX.as_bytes()));
    files.sort();
    Ok(files)
}

/// Keeps a proof; one that is kept already is passed over.
///
/// # Errors
/// What the system says of the file.
pub(crate) fn keep(dir: &Path, evidence: &Evidence, context: &Context) -> std::io::Result<()> {
    let Some(culprit) = evidence.culprit(context) else { return Ok(()) };
    let bytes = evidence.to_bytes();
    let name: String = sha256(&bytes).to_string().chars().take(16).collect();
    let kind = evidence.kind().replace(' ', "-");
    let dir = dir.join(EVIDENCE_DIR);
    std::fs::create_dir_all(&dir)?;
    let of_both = format!("{kind}-{culprit}-");
    let path = dir.join(format!("{of_both}{name}"));
    let others = std::fs::read_dir(&dir)?.flatten();
    let count = others
        .filter(|other| other.file_name().as_encoded_bytes().starts_with(of_both.as_bytes()))
        .count();
    if path.exists() || count >= FILE_COUNT_MAX {
        return Ok(());
    }
    tracing::warn!(validator = %culprit, kind = evidence.kind(), file = %path.display(), "evidence");
    write_atomically(&path, &bytes)
}
