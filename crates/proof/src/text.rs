//! Proofs as text: JSON with a version, of bounded size, in its only form.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::before::BeforeError;
use crate::bundle::BUNDLE_SIZE_MAX;
use crate::verify::ProofError;

/// Why a text is none of a proof's.
pub(crate) enum TextError {
    TooLong { size: usize },
    Json { reason: String },
    Version { version: u64 },
    NotCanonical,
}

impl From<serde_json::Error> for TextError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json { reason: error.to_string() }
    }
}

impl From<TextError> for ProofError {
    fn from(error: TextError) -> Self {
        match error {
            TextError::TooLong { size } => Self::TooLong { size },
            TextError::Json { reason } => Self::Json { reason },
            TextError::Version { version } => Self::Version { version },
            TextError::NotCanonical => Self::NotCanonical,
        }
    }
}

impl From<TextError> for BeforeError {
    fn from(error: TextError) -> Self {
        match error {
            TextError::TooLong { size } => Self::TooLong { size },
            TextError::Json { reason } => Self::Json { reason },
            TextError::Version { version } => Self::Version { version },
            TextError::NotCanonical => Self::NotCanonical,
        }
    }
}

/// What every version of a format begins to be read by.
#[derive(Deserialize)]
struct Version {
    version: u64,
}

/// Reads a text of this version of its format.
pub(crate) fn read<T: DeserializeOwned + Serialize>(
    text: &str,
    expected: u64,
) -> Result<T, TextError> {
    if text.len() > BUNDLE_SIZE_MAX {
        return Err(TextError::TooLong { size: text.len() });
    }
    // The version goes first: a later format should not fail for the members it adds.
    let Version { version } = serde_json::from_str(text)?;
    if version != expected {
        return Err(TextError::Version { version });
    }
    let proof: T = serde_json::from_str(text)?;
    // A text of any other shape is refused above: as a value it could be far larger than itself.
    let value: Value = serde_json::from_str(text)?;
    if serde_json::to_value(&proof)? != value {
        return Err(TextError::NotCanonical);
    }
    Ok(proof)
}
