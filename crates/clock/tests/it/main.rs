//! The clock as others use and attack it: foreign chains, ranges of a lane, audits, generators that cheat.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod attack;
mod audit;
mod foreign;
mod lane;
mod run;

use quipu_accel::{Choice, Dispatcher};
use quipu_clock::stretch::{self, Stretch, WrongStretch};
use quipu_clock::{ClockError, verify, verify_parallel, verify_serial, verify_wide};
use quipu_types::{ClockEntry, Hash};

/// Every kernel of this machine; one that is not there is stood in for by another.
fn backends() -> Vec<Dispatcher> {
    [Choice::Auto, Choice::Scalar, Choice::ShaNi, Choice::Avx2, Choice::Avx512]
        .map(|choice| Dispatcher::new(choice, Vec::new()))
        .into()
}

/// Every way to verify stretches, which must agree.
fn verify_stretches(start: Hash, stretches: &[Stretch]) -> Result<Hash, WrongStretch> {
    let verdict = stretch::verify_serial(start, stretches);
    assert_eq!(stretch::verify(start, stretches), verdict);
    for backend in backends() {
        assert_eq!(stretch::verify_wide(&backend, start, stretches), verdict, "{backend:?}");
        let parts = stretch::verify_parallel(start, stretches, 3, |parts| {
            parts.iter().map(|part| part.verify(&backend)).collect()
        });
        assert_eq!(parts, verdict, "{backend:?}");
    }
    verdict
}

/// Every way to verify entries, which must agree (K2).
fn verify_entries(start: Hash, entries: &[ClockEntry], root: &Hash) -> Result<Hash, ClockError> {
    let verdict = verify_serial(start, entries, root);
    assert_eq!(verify(start, entries, root), verdict);
    for backend in backends() {
        assert_eq!(verify_wide(&backend, start, entries, root), verdict, "{backend:?}");
        let parts = verify_parallel(start, entries, root, 3, |parts| {
            parts.iter().map(|part| part.verify(&backend)).collect()
        });
        assert_eq!(parts, verdict, "{backend:?}");
    }
    verdict
}
