//! One validator as its users see it: over sockets, across restarts, with bad neighbours and bad disks.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that panics has failed, and its numbers are small"
)]

mod blocks;
mod check;
mod compacted;
mod compacted_client;
mod feed;
mod follow;
mod garbage;
mod group;
mod grpc;
mod ledger;
mod pg;
mod start;
mod traces;
mod wire;
mod world;
