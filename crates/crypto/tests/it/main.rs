//! Hashes and suites against published vectors; trees and paths against another implementation.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod coin;
mod domain;
mod hash;
mod keyfile;
mod merkle;
mod suite;

fn bytes<const SIZE: usize>(text: &str) -> [u8; SIZE] {
    hex::decode(text).unwrap().try_into().unwrap()
}
