//! The store and the engine together: what is ingested is what SQL answers.

#[path = "it/ledger.rs"]
mod ledger;

#[path = "it/answers.rs"]
mod answers;
#[path = "it/recovery.rs"]
mod recovery;
#[path = "it/sessions.rs"]
mod sessions;
