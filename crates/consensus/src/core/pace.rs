//! When a height begins: late enough that whoever is about to ask shares it, and no later.
//!
//! ```text
//!  commit ──┬── least ── as many transactions have come as the last height that moved had ──> due
//!           ├── GATHER_US ── some have come ──────────────────────────────────────────> due
//!           ├── SUSPICION_INTERVAL_US ── somebody is suspected ───────────────────────> due
//!           └── idle ─────────────────────────────────────────────────────────────────> due
//! ```
//! Who waits for answers asks again when it has them: as many as were answered are expected. A height costs the same for
//! one transaction and for many, so that two halves of them, each in a height of its own, would wait for one another.
//! Only who leads goes by this, and nobody can tell from its header: it is no rule of agreement.

use quipu_types::Tip;

use super::{Core, Holdings, SUSPICION_INTERVAL_US};

/// Longest time for which what has come waits for more, unless the genesis says that heights are farther apart.
const GATHER_US: u64 = 5_000;

/// The times between two heights, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    least_us: u64,
    idle_us: u64,
    committed_us: u64,
    /// Transactions of the last height that ordered some.
    count: u64,
}

/// What a height would be made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It was begun already, here or elsewhere.
    Begun,
    /// So many transactions.
    Moved(u64),
    /// A suspicion.
    Suspicion,
    /// To show that the ledger lives.
    None,
}

impl Pace {
    pub(super) const fn new(least_us: u64, idle_us: u64, now_us: u64) -> Self {
        Self { least_us, idle_us, committed_us: now_us, count: 0 }
    }

    /// A height is committed that led from one cut to another.
    pub(super) fn committed(&mut self, now_us: u64, before: &[Tip], cut: &[Tip]) {
        self.committed_us = now_us;
        let sum = |cut: &[Tip]| cut.iter().map(|tip| tip.seqno.get()).fold(0, u64::saturating_add);
        match sum(cut).saturating_sub(sum(before)) {
            0 => {}
            count => self.count = count,
        }
    }

    /// When the next height is due.
    pub(super) fn due_at(&self, cause: Cause) -> u64 {
        let interval = match cause {
            Cause::Begun => 0,
            Cause::Moved(count) if count >= self.count => self.least_us,
            Cause::Moved(_) => self.least_us.max(GATHER_US),
            Cause::Suspicion => self.idle_us.min(SUSPICION_INTERVAL_US),
            Cause::None => self.idle_us,
        };
        self.committed_us.saturating_add(interval)
    }
}

impl Core {
    /// When the next height begins, if it does not before.
    pub(super) fn due_at(&self, holdings: &impl Holdings) -> u64 {
        let logged = self.safety.proposed(self.height(), 0).is_some();
        let cause = if logged || self.has_heard() {
            Cause::Begun
        } else if let Some(count) = self.moved(holdings) {
            Cause::Moved(count)
        } else if !holdings.suspects().is_empty() || self.is_suspected() {
            Cause::Suspicion
        } else {
            Cause::None
        };
        self.pace.due_at(cause)
    }

    /// How many transactions a height now would order; none when it would order none.
    fn moved(&self, holdings: &impl Holdings) -> Option<u64> {
        if !self.parent.may_move(self.certificate.as_ref()) {
            return None;
        }
        let moved = self.parent.cut.iter().filter_map(|tip| {
            let reached = self.replicated(tip, holdings);
            let is_required = || self.parent.index_required(&self.context, tip.lane) > tip.index;
            let count = |reached: Tip| reached.seqno.get().saturating_sub(tip.seqno.get());
            // Chunks of a clock alone keep nobody waiting.
            reached.map_or_else(
                || is_required().then_some(0),
                |tip| Some(count(tip)).filter(|n| *n > 0),
            )
        });
        moved.reduce(u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use quipu_types::{Hash, Lane, Seqno, Term};

    use super::*;

    fn cut(seqno: u64) -> [Tip; 1] {
        let (lane, term, chunk_hash) = (Lane::new(0), Term::new(0), Hash::ZERO);
        let seqno = Seqno::new(seqno);
        [Tip { lane, term, index: seqno.get(), seqno, lane_root: Hash::ZERO, chunk_hash }]
    }

    #[test]
    fn a_height_waits_for_as_many_as_the_last_one_had_and_not_for_ever() {
        let mut pace = Pace::new(1_000, 1_000_000, 0);
        pace.committed(10_000, &cut(0), &cut(8));
        assert_eq!(pace.due_at(Cause::Moved(8)), 11_000);
        assert_eq!(pace.due_at(Cause::Moved(7)), 15_000);
        // An idle height answers nobody.
        pace.committed(20_000, &cut(8), &cut(8));
        assert_eq!(pace.due_at(Cause::Moved(7)), 25_000);
        pace.committed(30_000, &cut(8), &cut(15));
        assert_eq!(pace.due_at(Cause::Moved(7)), 31_000);
        assert_eq!(pace.due_at(Cause::Begun), 30_000);
        assert_eq!(pace.due_at(Cause::Suspicion), 80_000);
        assert_eq!(pace.due_at(Cause::None), 1_030_000);
    }

    #[test]
    fn a_genesis_that_wants_heights_farther_apart_has_its_will() {
        let mut pace = Pace::new(20_000, 10_000, 0);
        pace.committed(0, &cut(0), &cut(8));
        assert_eq!(pace.due_at(Cause::Moved(1)), 20_000);
        assert_eq!(pace.due_at(Cause::Suspicion), 10_000);
    }
}
