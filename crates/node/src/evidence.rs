//! Proofs that validators broke rules, kept one a file under `evidence/` for whoever acts on them. Nothing here does.

use std::path::{Path, PathBuf};

use quipu_consensus::{Context, Evidence};
use quipu_crypto::sha256;
use quipu_types::Encode;

/// Directory of the files.
pub(crate) const EVIDENCE_DIR: &str = "evidence";
/// Most files; what comes after is logged and not kept.
const FILE_COUNT_MAX: usize = 1_024;

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
