//! Hashes, keys, signature suites, Merkle trees and their proofs.
//!
//! ```text
//!  bytes -> hash ---> merkle (RFC 9162 trees: root, frontier, paths, checks)
//!  chain, epoch, tag, body -> domain -> suite (sign, verify, verify many by accel)
//!                                         ^
//!  a file of mode 0600 ----> keyfile -----+
//!  coin (threshold BLS12-381: parts of many, one coin)
//! ```
//! # Invariants
//! * C1 What is proven is hashed by SHA-256 in plain RFC 9162 trees; other hashes belong to bulk
//!   bytes (BLAKE3) or to a suite.
//! * C2 Signed bytes carry their domain: a signature of one tag, chain or epoch never verifies as
//!   another's.
//! * C3 A signature has one verdict, alone and among many.
//! * C4 Secrets are wiped when dropped and never printed.
//! * C5 No bytes that a peer sends make a check panic; the checks of paths allocate nothing.
//!
//! This crate does not know who signs what, and why.

pub mod coin;
pub mod domain;
pub mod hash;
pub mod keyfile;
pub mod merkle;
pub mod recent;
pub mod suite;
pub mod verified;

pub use domain::{Tag, signing_bytes};
pub use hash::{leaf_hash, node_hash, sha256};
pub use recent::{CacheCounts, Recent};
pub use suite::{SecretKey, account, sign_tagged, verify, verify_many, verify_tagged};
pub use verified::Verified;
