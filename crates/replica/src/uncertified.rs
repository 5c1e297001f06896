//! Executed heights whose state certificates are not known here, and when others are asked for them. A height waits
//! [`WAIT_US`] for the votes that are on their way; then one validator after the other is asked, each time for as many as one
//! answer holds.

use std::collections::BTreeSet;

use quipu_consensus::core::STATE_COUNT_MAX;
use quipu_types::Height;

use crate::fetch::ASK_US;

/// Time that the votes of a height may take; after it others are asked, one after the other.
const WAIT_US: u64 = 4 * ASK_US;

/// Heights that are remembered; older ones give way, and are found again at the next start.
const HEIGHT_COUNT_MAX: usize = 65_536;

/// Certified heights that are remembered before they are executed.
const EARLY_COUNT_MAX: usize = 1_024;

/// See the module's header.
#[derive(Debug, Default)]
pub(crate) struct Uncertified {
    heights: BTreeSet<Height>,
    /// Certified before they were executed here.
    early: BTreeSet<Height>,
    /// The first one when it was looked at last, and since when it waits.
    waiting: Option<(Height, u64)>,
}

impl Uncertified {
    pub(crate) fn executed(&mut self, height: Height) {
        if self.early.remove(&height) {
            return;
        }
        self.heights.insert(height);
        if self.heights.len() > HEIGHT_COUNT_MAX {
            self.heights.pop_first();
        }
    }

    /// Whether a certificate is wanted.
    pub(crate) fn wants(&self, height: Height) -> bool {
        self.heights.contains(&height)
    }

    /// A height's certificate is known; `executed` is the newest that was executed here.
    pub(crate) fn certified(&mut self, height: Height, executed: Height) {
        if !self.heights.remove(&height) && height > executed {
            self.early.insert(height);
            if self.early.len() > EARLY_COUNT_MAX {
                self.early.pop_last();
            }
        }
    }

    /// The height from which on others are asked now, if they are.
    pub(crate) fn due(&mut self, now_us: u64) -> Option<Height> {
        let first = *self.heights.first()?;
        match self.waiting {
            Some((height, since_us)) if height == first => {
                let is_due = now_us >= since_us.saturating_add(WAIT_US);
                if is_due {
                    self.waiting = Some((first, now_us));
                }
                is_due.then_some(first)
            }
            _ => {
                self.waiting = Some((first, now_us));
                None
            }
        }
    }

    /// After an answer of `count` certificates: the height from which on the same validator is asked for more, if it may
    /// have more.
    pub(crate) fn next(&mut self, count: usize, now_us: u64) -> Option<Height> {
        let first = *self.heights.first().filter(|_| count >= STATE_COUNT_MAX)?;
        self.waiting = Some((first, now_us));
        Some(first)
    }
}
