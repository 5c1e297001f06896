//! Clients' transactions that were taken here and are not executed yet, whoever sequences their lanes.
//!
//! A transaction stays until it is executed, or another one took its place in its producer's sequence. While no chunk
//! holds it, it is told to its lane's sequencer: at once, again in order when the lane is silent, and to a new sequencer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quipu_types::{Hash, Lane, PublicKey};

use crate::admission::Admitted;
use crate::api::Ticket;

/// What a pending transaction costs beyond its bytes.
const OVERHEAD_SIZE: usize = 512;

/// One that is waited for.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) admitted: Arc<Admitted>,
    /// Who waits, and whether an early answer is enough.
    pub(crate) tickets: Vec<(Ticket, bool)>,
    /// When it was taken.
    pub(crate) since_us: u64,
    order: u64,
}

/// All that is waited for, in the order in which it was taken.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    all: BTreeMap<Hash, Waiting>,
    orders: BTreeMap<(Lane, u64), Hash>,
    producers: BTreeMap<(Lane, PublicKey), BTreeSet<u64>>,
    size: usize,
    next_order: u64,
}

impl Pending {
    /// Bytes that `admitted` counts for.
    pub(crate) fn size_of(admitted: &Admitted) -> usize {
        admitted.bytes.len().saturating_add(OVERHEAD_SIZE)
    }

    pub(crate) fn insert(&mut self, ticket: (Ticket, bool), admitted: Arc<Admitted>, now_us: u64) {
        let order = self.next_order;
        self.next_order = order.saturating_add(1);
        let lane = admitted.lane;
        self.size = self.size.saturating_add(Self::size_of(&admitted));
        self.orders.insert((lane, order), admitted.tx);
        self.producers.entry((lane, admitted.transaction.signer)).or_default().insert(order);
        let tx = admitted.tx;
        let waiting = Waiting { admitted, tickets: vec![ticket], since_us: now_us, order };
        self.all.insert(tx, waiting);
    }

    pub(crate) fn get_mut(&mut self, tx: &Hash) -> Option<&mut Waiting> {
        self.all.get_mut(tx)
    }

    pub(crate) fn remove(&mut self, tx: &Hash) -> Option<Waiting> {
        let waiting = self.all.remove(tx)?;
        let lane = waiting.admitted.lane;
        self.orders.remove(&(lane, waiting.order));
        let producer = (lane, waiting.admitted.transaction.signer);
        if let Some(orders) = self.producers.get_mut(&producer) {
            orders.remove(&waiting.order);
            if orders.is_empty() {
                self.producers.remove(&producer);
            }
        }
        self.size = self.size.saturating_sub(Self::size_of(&waiting.admitted));
        Some(waiting)
    }

    /// Those of a lane, the first taken first.
    pub(crate) fn of(&self, lane: Lane) -> impl Iterator<Item = &Waiting> {
        let orders = self.orders.range((lane, 0)..=(lane, u64::MAX));
        orders.filter_map(|(_, tx)| self.all.get(tx))
    }

    /// Those of a producer in a lane, the first taken first.
    pub(crate) fn by(&self, lane: Lane, signer: PublicKey) -> impl Iterator<Item = &Waiting> {
        let orders = self.producers.get(&(lane, signer)).into_iter().flatten();
        orders.filter_map(move |order| self.all.get(self.orders.get(&(lane, *order))?))
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}
