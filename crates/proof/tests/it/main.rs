//! What verifiers take and refuse: true bundles, every change of one, and a corpus of false proofs.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that panics has failed, and its numbers are small"
)]

mod attack;
mod before;
mod corpus;
mod epochs;
mod flips;
mod truth;
mod world;

use quipu_proof::ProofError;

/// An error without its numbers: which rule refused what.
fn reason(error: &ProofError) -> String {
    match error {
        ProofError::Certificate { part, error } => format!("{part}: {}", first_word(error)),
        ProofError::Path { part, error } => format!("{part}: {}", first_word(error)),
        ProofError::NotLinked { part }
        | ProofError::NotInOrder { part }
        | ProofError::HandOver { part, .. } => format!("{part}: {}", first_word(error)),
        _ => first_word(error),
    }
}

fn first_word(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
}
