//! Which sequence of which producer may stand next in a lane (R3), in three layers.
//!
//! ```text
//!  committed ──────────> what the ledger orders
//!    held ─────────────> and what chunks hold beyond the last cut; void when the lane is cut back
//!      waiting ────────> and what was taken here and stands in no chunk yet
//! ```

use std::collections::BTreeMap;

use quipu_state::Sequence;
use quipu_types::code::SEQUENCE_GAP;
use quipu_types::{Code, Height, Lane, PublicKey};

use crate::admission::Admitted;
use crate::api::Producer;

type Key = (Lane, PublicKey);

/// What is expected of every (lane, signer) that ever appended.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    /// With the height that ordered the last one.
    committed: BTreeMap<Key, (Producer, Height)>,
    held: BTreeMap<Key, Producer>,
    waiting: BTreeMap<Key, Producer>,
}

/// Where a transaction stands among its producer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The next: it may be taken.
    Next { after: Producer },
    /// Before the next.
    Used { next: Producer, otherwise: Code },
    /// After the next.
    Gap { next: Producer },
}

impl Producers {
    /// Of what is committed up to a height.
    pub(crate) fn new(rows: Vec<(Lane, PublicKey, Producer)>, height: Height) -> Self {
        let row = |(lane, signer, next)| ((lane, signer), (next, height));
        let committed = rows.into_iter().map(row).collect();
        Self { committed, held: BTreeMap::new(), waiting: BTreeMap::new() }
    }

    /// Where `admitted` stands after everything that was taken.
    pub(crate) fn place(&self, admitted: &Admitted) -> Place {
        let key = key(admitted);
        let waiting = self.waiting.get(&key).copied();
        judge(admitted, waiting.unwrap_or(Producer::NEW).max(self.next(&key)))
    }

    /// Where `admitted` stands after what chunks hold.
    pub(crate) fn place_in_chunk(&self, admitted: &Admitted) -> Place {
        judge(admitted, self.next(&key(admitted)))
    }

    /// Whether a chunk has `admitted`, or another in its place.
    pub(crate) fn is_held(&self, admitted: &Admitted) -> bool {
        matches!(self.place_in_chunk(admitted), Place::Used { .. })
    }

    /// Whether a cut covers `admitted`, or another in its place.
    pub(crate) fn is_committed(&self, admitted: &Admitted) -> bool {
        matches!(self.place_ordered(admitted).0, Place::Used { .. })
    }

    /// Where `admitted` stands after the cut, and the height at the latest that ordered what stands before it.
    pub(crate) fn place_ordered(&self, admitted: &Admitted) -> (Place, Height) {
        let committed = self.committed.get(&key(admitted)).copied();
        let (next, height) = committed.unwrap_or((Producer::NEW, Height::default()));
        (judge(admitted, next), height)
    }

    /// Whether something of a producer was taken that no chunk holds.
    pub(crate) fn is_waiting(&self, lane: Lane, signer: PublicKey) -> bool {
        self.waiting.contains_key(&(lane, signer))
    }

    /// Forgets what waits of a producer.
    pub(crate) fn void_waiting_of(&mut self, lane: Lane, signer: PublicKey) {
        self.waiting.remove(&(lane, signer));
    }

    fn next(&self, key: &Key) -> Producer {
        let committed = || self.committed.get(key).map(|(next, _)| *next);
        let known = self.held.get(key).copied().or_else(committed);
        known.unwrap_or(Producer::NEW)
    }

    /// Takes `admitted`, after which its producer stands at `after`.
    pub(crate) fn take(&mut self, admitted: &Admitted, after: Producer) {
        self.waiting.insert(key(admitted), after);
    }

    /// A chunk holds `admitted`.
    pub(crate) fn hold(&mut self, admitted: &Admitted) {
        let key = key(admitted);
        let after = after(admitted);
        self.held.insert(key, after);
        self.waiting.retain_one(&key, |waiting| waiting > after);
    }

    /// The cut of a height covers `admitted`.
    pub(crate) fn commit(&mut self, admitted: &Admitted, height: Height) {
        let key = key(admitted);
        let after = after(admitted);
        self.committed.insert(key, (after, height));
        self.held.retain_one(&key, |held| held > after);
        self.waiting.retain_one(&key, |waiting| waiting > after);
    }

    /// Forgets what chunks of a lane held and what waits for it: both are told again.
    pub(crate) fn void(&mut self, lane: Lane) {
        self.held.retain(|(own, _), _| *own != lane);
        self.void_waiting(lane);
    }

    /// Forgets what waits for a lane.
    pub(crate) fn void_waiting(&mut self, lane: Lane) {
        self.waiting.retain(|(own, _), _| *own != lane);
    }
}

trait RetainOne {
    /// Keeps the entry of a key only if it passes.
    fn retain_one(&mut self, key: &Key, keeps: impl FnOnce(Producer) -> bool);
}

impl RetainOne for BTreeMap<Key, Producer> {
    fn retain_one(&mut self, key: &Key, keeps: impl FnOnce(Producer) -> bool) {
        if self.get(key).is_some_and(|own| !keeps(*own)) {
            self.remove(key);
        }
    }
}

fn key(admitted: &Admitted) -> Key {
    (admitted.lane, admitted.transaction.signer)
}

/// Where a producer stands after a transaction of its.
fn after(admitted: &Admitted) -> Producer {
    let transaction = &admitted.transaction;
    Producer {
        incarnation: transaction.incarnation,
        sequence: transaction.sequence.saturating_add(1),
    }
}

fn judge(admitted: &Admitted, next: Producer) -> Place {
    let transaction = &admitted.transaction;
    let now = Sequence { incarnation: next.incarnation, next: next.sequence };
    match now.after(transaction.incarnation, transaction.sequence) {
        Ok(Sequence { incarnation, next: sequence }) => {
            Place::Next { after: Producer { incarnation, sequence } }
        }
        Err(SEQUENCE_GAP) if transaction.incarnation > next.incarnation => {
            let incarnation = transaction.incarnation;
            Place::Gap { next: Producer { incarnation, sequence: 1 } }
        }
        Err(SEQUENCE_GAP) => Place::Gap { next },
        Err(otherwise) => Place::Used { next, otherwise },
    }
}
