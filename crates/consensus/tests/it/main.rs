//! Cores that talk to each other, in memory.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test's numbers are small, and a wrong index is a failed test"
)]

mod evidence;
mod late;
mod model;
mod open;
mod random;
mod rounds;
mod steps;
mod time;
mod twins;
mod world;
