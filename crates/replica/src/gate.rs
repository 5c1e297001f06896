//! The one place through which effects leave (R1, R5).
//!
//! ```text
//!  write ──────────────────────────────> effects       marks that a sync is owed
//!  leave ──> held, behind the barrier ──> effects       once Stored(barrier) came
//!  sync ───> Sync(barrier) ────────────> effects       one at a time
//! ```

use std::collections::VecDeque;

use crate::api::{Barrier, Effect};

/// Effects on their way out.
#[derive(Debug)]
pub(crate) struct Gate {
    /// `false` lets everything out at once: for the test that the simulator notices.
    is_closed_by_writes: bool,
    ready: VecDeque<Effect>,
    held: VecDeque<(Barrier, Effect)>,
    under_way: Option<Barrier>,
    last: Barrier,
    /// Something that others wait for was written since the last sync was asked for.
    is_dirty: bool,
    /// Something that nothing waits for was written: headers, and repeats of records.
    is_untidy: bool,
    /// Something waits for what was written.
    is_wanted: bool,
}

impl Gate {
    pub(crate) fn new(wal_before_send: bool) -> Self {
        Self {
            is_closed_by_writes: wal_before_send,
            ready: VecDeque::new(),
            held: VecDeque::new(),
            under_way: None,
            last: Barrier(0),
            is_dirty: false,
            is_untidy: false,
            is_wanted: false,
        }
    }

    /// Something to be written, whose durability something will wait for.
    pub(crate) fn write(&mut self, effect: Effect) {
        self.ready.push_back(effect);
        self.is_dirty = true;
        self.is_wanted = true;
    }

    /// Something to be written, whose durability something will wait for, but with no haste: the next sync is early enough.
    pub(crate) fn write_unhurried(&mut self, effect: Effect) {
        self.ready.push_back(effect);
        self.is_dirty = true;
    }

    /// Something that must wait for everything written before it.
    pub(crate) fn leave(&mut self, effect: Effect) {
        self.is_wanted |= self.is_dirty;
        self.leave_unhurried(effect);
    }

    /// As [`Gate::leave`], of what may wait for the next sync that something else asks for.
    pub(crate) fn leave_unhurried(&mut self, effect: Effect) {
        let barrier = if self.is_dirty { Some(self.next()) } else { self.under_way };
        match barrier {
            Some(barrier) if self.is_closed_by_writes => self.held.push_back((barrier, effect)),
            _ => self.release(effect),
        }
    }

    /// Something that depends on nothing written here.
    pub(crate) fn answer(&mut self, effect: Effect) {
        self.ready.push_back(effect);
    }

    /// What was found on disk may not be durable yet: as if it were written now.
    pub(crate) fn rewritten(&mut self) {
        self.is_dirty = true;
        self.is_wanted = true;
    }

    /// Whether a sync should be asked for now.
    pub(crate) fn wants_sync(&self) -> bool {
        self.under_way.is_none() && self.is_wanted && (self.is_dirty || self.is_untidy)
    }

    /// Asks that what was written last becomes durable, though nothing waits for it.
    pub(crate) fn want_sync(&mut self) {
        self.is_wanted = true;
    }

    /// Asks for a sync of everything written.
    pub(crate) fn sync(&mut self) -> Barrier {
        assert!(self.under_way.is_none(), "R5: one sync at a time");
        let barrier = self.next();
        self.last = barrier;
        self.under_way = Some(barrier);
        self.is_dirty = false;
        self.is_untidy = false;
        self.is_wanted = false;
        self.ready.push_back(Effect::Sync(barrier));
        barrier
    }

    /// Lets out what waited for a barrier.
    pub(crate) fn stored(&mut self, barrier: Barrier) {
        assert_eq!(self.under_way, Some(barrier), "the driver answers each sync once, in order");
        self.under_way = None;
        while let Some((_, effect)) = self.held.pop_front_if(|(wanted, _)| *wanted <= barrier) {
            self.release(effect);
        }
    }

    /// Whether something waits for a sync that is not asked for.
    pub(crate) const fn is_unhurried(&self) -> bool {
        self.is_dirty && !self.is_wanted
    }

    /// Whether a committed header waits.
    pub(crate) fn holds_header(&self) -> bool {
        self.held.iter().any(|(_, effect)| matches!(effect, Effect::WriteHeader { .. }))
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Nothing is written and not durable, nothing waits.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.is_dirty && !self.is_untidy && self.under_way.is_none() && self.held.is_empty()
    }

    pub(crate) fn poll(&mut self) -> Option<Effect> {
        self.ready.pop_front()
    }

    fn release(&mut self, effect: Effect) {
        let writes = matches!(
            effect,
            Effect::WriteHeader { .. } | Effect::BeginHeight(_) | Effect::WriteVote { .. }
        );
        self.is_untidy |= writes;
        self.ready.push_back(effect);
    }

    fn next(&self) -> Barrier {
        Barrier(self.last.0.checked_add(1).expect("syncs do not wrap in a ledger's life"))
    }
}
