//! Proofs that validators broke rules: kept one a file under `evidence/`, listed, and judged by the genesis alone. Nothing
//! here acts on them.
//!
//! ```text
//!  ledger's thread ── keep ──> DIR/evidence/KIND-VALIDATOR-HASH ── files ──> quipu validators evidence
//!                                              └── judge(bytes, genesis) ──> who, what, where; or that it names nobody
//! ```
//! A file is the [`Evidence`] itself and nothing else, so that it can be handed to anyone; its name is only a name.

use std::path::{Path, PathBuf};

use quipu_consensus::{Context, Evidence};
use quipu_crypto::sha256;
use quipu_proof::names::chain_id;
use quipu_types::{Decode, DecodeError, Encode, Genesis, ValidatorIndex};

/// Directory of the files.
pub(crate) const EVIDENCE_DIR: &str = "evidence";
/// Most files; what comes after is logged and not kept.
const FILE_COUNT_MAX: usize = 1_024;

/// What a proof shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misdeed {
    /// Who did it.
    pub validator: ValidatorIndex,
    /// Its name in the genesis.
    pub name: String,
    /// What was signed twice, or forgotten: see [`Evidence`].
    pub kind: &'static str,
    /// The height and round, or the chunk, or the state.
    pub place: String,
}

/// Judges a proof by the validators of the genesis alone, so one of epoch 0; none when it names nobody: its parts agree, are of different places, or are not all
/// signed by whom they should be.
///
/// # Errors
/// When the bytes are no evidence.
pub fn judge(bytes: &[u8], genesis: &Genesis) -> Result<Option<Misdeed>, DecodeError> {
    let evidence = Evidence::from_bytes(bytes)?;
    let context = Context::new(chain_id(genesis), genesis.validator_set(), genesis.lane_count);
    Ok(evidence.culprit(&context).map(|validator| {
        let named = genesis.validators.get(usize::from(validator.get()));
        let name = named.map_or_else(|| validator.to_string(), |one| one.name.clone());
        Misdeed { validator, name, kind: evidence.kind(), place: evidence.place() }
    }))
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
    let path: PathBuf = dir.join(format!("{kind}-{culprit}-{name}"));
    if path.exists() || std::fs::read_dir(&dir)?.count() >= FILE_COUNT_MAX {
        return Ok(());
    }
    tracing::warn!(validator = %culprit, kind = evidence.kind(), file = %path.display(), "evidence");
    std::fs::write(path, bytes)
}
