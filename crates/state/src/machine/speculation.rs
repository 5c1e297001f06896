//! A block executed before it is committed: held beside the applied state until it is decided.
//!
//! ```text
//!                        ┌── Speculation: batch · receipts · roots ──┐
//!  speculate ─ execute ──┘    (no reader sees it, no flush writes it) │ the same block
//!                                                                    v
//!  apply ──────── another block: drop it, execute ───────────────> overlay ── flush ──> Store
//! ```
//! # Invariants
//! * P1 At most one is held, and its height is the one after the applied.
//! * P2 Its batch is what executing the block on the applied state gives. A `flush` moves that state from the
//!   overlay to the store and does not change it, so the batch stays right; an `apply` keeps or drops it.
//! * P3 It is kept only for the block that it executed: the same header, time, places and names.
//!
//! # Limits
//! One block ahead: a block on top of a speculation is refused, as one that does not follow.

use quipu_types::{Hash, Height, Time, Voters};

use super::{Applied, Machine, OrderedBlock, StateError};
use crate::stake::Stake;
use crate::store::{Store, WriteBatch};

/// A block's outcome that is not applied.
#[derive(Debug)]
pub(super) struct Speculation {
    pub(super) height: Height,
    pub(super) header_hash: Hash,
    pub(super) time_us: Time,
    pub(super) epoch: u64,
    pub(super) present: Voters,
    pub(super) batch: WriteBatch,
    /// Stake after it.
    pub(super) stake: Stake,
    pub(super) applied: Applied,
}

impl Speculation {
    /// Whether it is this block's (P3). A header's hash names all the rest, so that only a broken caller can
    /// tell them apart; asking costs little beside a wrong state.
    fn is_of(&self, block: &OrderedBlock<'_>) -> bool {
        let receipts = &self.applied.receipts;
        self.height == block.height
            && self.header_hash == block.header_hash
            && self.time_us == block.time_us
            && self.epoch == block.epoch
            && self.present == block.present
            && receipts.len() == block.transactions.len()
            && receipts.iter().zip(block.transactions).all(|(receipt, ordered)| {
                (receipt.tx, receipt.lane, receipt.seqno)
                    == (ordered.tx, ordered.lane, ordered.seqno)
            })
    }
}

/// What became of speculations since the machine was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpeculationCounts {
    /// Blocks that were committed as they had been speculated.
    pub kept: u64,
    /// Speculations that another block, another speculation or [`Machine::forget_speculation`] ended.
    pub dropped: u64,
}

impl<S: Store> Machine<S> {
    /// Executes the block that would come next, and holds what it gives for [`Machine::apply`].
    ///
    /// Every reader, [`Machine::state_root`] and [`Machine::flush`] go on as if nothing had happened (S6). The
    /// block that is held already is not executed again; another one takes its place. An error leaves
    /// everything as it was, what was held too (S4).
    pub fn speculate(&mut self, block: &OrderedBlock<'_>) -> Result<(), StateError> {
        if self.speculation.as_ref().is_some_and(|held| held.is_of(block)) {
            return Ok(());
        }
        let speculation = self.execute(block)?;
        self.forget_speculation();
        self.speculation = Some(speculation);
        Ok(())
    }

    /// Drops what is held, if anything is.
    pub fn forget_speculation(&mut self) {
        if self.speculation.take().is_some() {
            self.speculations.dropped = self.speculations.dropped.saturating_add(1);
        }
    }

    /// Height and header of the block that is held.
    #[must_use]
    pub fn speculated(&self) -> Option<(Height, Hash)> {
        self.speculation.as_ref().map(|held| (held.height, held.header_hash))
    }

    /// What became of speculations since the machine was opened.
    #[must_use]
    pub const fn speculation_counts(&self) -> SpeculationCounts {
        self.speculations
    }

    /// Takes what is held, if it is this block's.
    pub(super) fn take_speculation(&mut self, block: &OrderedBlock<'_>) -> Option<Speculation> {
        let kept = self.speculation.take_if(|held| held.is_of(block))?;
        self.speculations.kept = self.speculations.kept.saturating_add(1);
        Some(kept)
    }
}
