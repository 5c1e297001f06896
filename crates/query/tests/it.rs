//! The store and the engine together: what is ingested is what SQL answers.

#![expect(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "a test may fail loudly")]

#[path = "it/ledger.rs"]
mod ledger;

#[path = "it/answers.rs"]
mod answers;
#[path = "it/recovery.rs"]
mod recovery;
#[path = "it/sessions.rs"]
mod sessions;
