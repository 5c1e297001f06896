//! The real binary, over real sockets and files: what people do, and what must hold when things break.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "what is missing fails the test; its numbers are small"
)]

mod batcher;
mod battery;
mod bench;
mod ceremony;
mod clients;
mod clock;
mod complaints;
mod consumers;
mod crash;
mod crimes;
mod damage;
mod epochs;
mod false_feed;
mod fleet;
mod flood;
mod followers;
mod four;
mod gateway;
mod harness;
mod insert;
mod kills;
mod lazy;
mod ledger;
mod liar;
mod partition;
mod proof;
mod proxy;
mod register;
mod retention;
mod sample;
mod sql;
mod stake;
mod swallower;
mod tables;
mod tour;
mod validators;
