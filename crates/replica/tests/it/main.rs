//! Replicas in memory: one alone, and four that talk to each other.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test's numbers are small, and a wrong index is a failed test"
)]

mod alone;
mod bytes;
mod chunks;
mod common;
mod four;
mod lives;
mod net;
mod stripes;
mod waiting;
