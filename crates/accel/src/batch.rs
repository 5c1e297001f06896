//! The seam for hardware that takes whole batches at a price per call: a GPU, a kernel compiled on the spot.
//!
//! ```text
//!  dispatcher -- predict_ns(shape) cheapest? --> BatchBackend --Ok--> 1 in 256 results done again --same--> out
//!                       | no                         | error, panic-free           | differs
//!                       v                            v                             v
//!                   processor  <-------- whole batch done again ------- and the backend is never asked again
//! ```
//! # Invariants
//! * B1 No error of a backend reaches the caller: the processor does the batch again.
//! * B2 A backend serves only after its known-answer test, and never again after one wrong result.
//! * B3 After [`ERROR_COUNT_MAX`] errors in a row it is asked only once in [`RETRY_PERIOD`] batches that it would have
//!   won, so that a device that comes back serves again and one that is gone costs little.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Errors in a row that open the circuit.
pub const ERROR_COUNT_MAX: u32 = 3;

/// Batches between two tries once the circuit is open.
pub const RETRY_PERIOD: u64 = 1_024;

/// One in so many results is done again on the processor.
pub const RECHECK_PERIOD: u64 = 256;

/// What a batch asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Work {
    /// [`crate::Accel::sha256_many`]: one step is one block.
    Many,
    /// [`crate::Accel::sha256_nodes`]: one step is one node.
    Nodes,
    /// [`crate::Accel::sha256_chains`]: one step is one hash.
    Chains,
}

/// How much a batch asks for, as far as time depends on it. Counts saturate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What one step is.
    pub work: Work,
    /// Messages, pairs or starts.
    pub item_count: u64,
    /// Steps of all items together.
    pub step_count_total: u64,
    /// Steps of the longest item: they wait for each other.
    pub step_count_longest: u64,
    /// Bytes that go in.
    pub size: u64,
}

/// Why a batch did not come back. The code is the device's own.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchError {
    /// The device, or the library that drives it, refused a call.
    #[error("{call} failed with code {code}")]
    Device {
        /// The call that failed.
        call: &'static str,
        /// What it returned.
        code: i64,
    },
    /// The batch does not fit.
    #[error("a batch of {size} bytes does not fit in {size_max}")]
    TooLarge {
        /// Bytes of the batch.
        size: u64,
        /// Bytes there are.
        size_max: u64,
    },
}

/// Hardware that takes whole batches. It need not be right or alive: who calls checks (B1, B2).
///
/// Every method that writes `out` is given one place per item, and prefixes within
/// [`crate::PREFIX_SIZE_MAX`]. On an error the content of `out` is of no account.
pub trait BatchBackend: Debug + Send + Sync {
    /// Name, for the report.
    fn name(&self) -> &'static str;

    /// Nanoseconds from call to return, or `None` when it does not take such work.
    fn predict_ns(&self, shape: &Shape) -> Option<u64>;

    /// Replace what predictions rest on by measurements; `now_ns` is a clock that never goes back.
    fn calibrate(&self, now_ns: &dyn Fn() -> u64) {
        let _ = now_ns;
    }

    /// As [`crate::Accel::sha256_many`].
    ///
    /// # Errors
    /// The batch did not come back.
    fn sha256_many(
        &self,
        prefix: &[u8],
        messages: &[&[u8]],
        out: &mut [[u8; 32]],
    ) -> Result<(), BatchError>;

    /// As [`crate::Accel::sha256_nodes`].
    ///
    /// # Errors
    /// The batch did not come back.
    fn sha256_nodes(
        &self,
        prefix: u8,
        pairs: &[[[u8; 32]; 2]],
        out: &mut [[u8; 32]],
    ) -> Result<(), BatchError>;

    /// As [`crate::Accel::sha256_chains`], but not in place, so that the starts survive an error.
    ///
    /// # Errors
    /// The batch did not come back.
    fn sha256_chains(
        &self,
        starts: &[[u8; 32]],
        count: u64,
        out: &mut [[u8; 32]],
    ) -> Result<(), BatchError>;
}

/// How a backend stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Serves,
    /// Known answers were wrong, or did not come.
    FailedKnownAnswer,
    /// A result that was done again differed.
    Lied,
    /// Errors in a row opened the circuit.
    Open,
}

/// A backend and what was seen of it.
#[derive(Debug)]
pub(crate) struct Guard {
    backend: Box<dyn BatchBackend>,
    knows: bool,
    lied: AtomicBool,
    errors_in_a_row: AtomicU32,
    /// Batches that it would have won while the circuit was open.
    missed: AtomicU64,
    /// Results so far; every [`RECHECK_PERIOD`]th is done again.
    results: AtomicU64,
}

impl Guard {
    /// `knows` says whether it passed its known-answer test.
    pub(crate) fn new(backend: Box<dyn BatchBackend>, knows: bool) -> Self {
        Self {
            backend,
            knows,
            lied: AtomicBool::new(false),
            errors_in_a_row: AtomicU32::new(0),
            missed: AtomicU64::new(0),
            results: AtomicU64::new(0),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.backend.name()
    }

    pub(crate) fn standing(&self) -> Standing {
        if !self.knows {
            Standing::FailedKnownAnswer
        } else if self.lied.load(Ordering::Relaxed) {
            Standing::Lied
        } else if self.errors_in_a_row.load(Ordering::Relaxed) >= ERROR_COUNT_MAX {
            Standing::Open
        } else {
            Standing::Serves
        }
    }

    pub(crate) fn calibrate(&self, now_ns: &dyn Fn() -> u64) {
        if self.standing() == Standing::Serves {
            self.backend.calibrate(now_ns);
        }
    }

    /// What it promises for such a batch, unless it may not serve at all.
    pub(crate) fn predict_ns(&self, shape: &Shape) -> Option<u64> {
        match self.standing() {
            Standing::Serves | Standing::Open => self.backend.predict_ns(shape),
            Standing::FailedKnownAnswer | Standing::Lied => None,
        }
    }

    /// Run a batch that it won. True if `out` holds its results; otherwise they are still to be made (B1).
    pub(crate) fn run(
        &self,
        out: &mut [[u8; 32]],
        call: impl FnOnce(&dyn BatchBackend, &mut [[u8; 32]]) -> Result<(), BatchError>,
        again: impl Fn(usize) -> [u8; 32],
    ) -> bool {
        if self.standing() == Standing::Open {
            let missed = self.missed.fetch_add(1, Ordering::Relaxed);
            if !missed.wrapping_add(1).is_multiple_of(RETRY_PERIOD) {
                return false;
            }
        }
        if call(&*self.backend, out).is_err() {
            let add = |errors: u32| Some(errors.saturating_add(1));
            let _ = self.errors_in_a_row.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
            return false;
        }
        self.errors_in_a_row.store(0, Ordering::Relaxed);
        let holds = self.recheck(out, again);
        if !holds {
            self.lied.store(true, Ordering::Relaxed);
        }
        holds
    }

    fn recheck(&self, out: &[[u8; 32]], again: impl Fn(usize) -> [u8; 32]) -> bool {
        let count = u64::try_from(out.len()).expect("no target has a usize wider than 64 bits");
        let before = self.results.fetch_add(count, Ordering::Relaxed);
        let period = usize::try_from(RECHECK_PERIOD).expect("a small constant");
        let phase = usize::try_from(before % RECHECK_PERIOD).expect("less than a small constant");
        let first = period.saturating_sub(phase).saturating_sub(1);
        out.iter()
            .enumerate()
            .skip(first)
            .step_by(period)
            .all(|(place, hash)| *hash == again(place))
    }
}
