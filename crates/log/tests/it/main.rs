//! The log against a model of itself: crashes, rot, full disks.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that overflows or misses has failed"
)]

mod damage;
mod ledger;
mod mixed;
mod world;
