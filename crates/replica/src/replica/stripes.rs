//! Stripes of chunks: passed on, gathered, made whole. The invariants are in [`crate::stripes`].

use std::sync::Arc;

use quipu_consensus::Now;
use quipu_types::{Encode, ValidatorIndex};

use super::{Refused, Replica};
use crate::api::Effect;
use crate::lane::Fit;
use crate::peer::PeerMessage;
use crate::stripes::{Proven, Restored};

impl Replica {
    /// Takes a stripe that proved itself.
    pub(super) fn stripe(&mut self, from: ValidatorIndex, proven: Proven) {
        let header = &proven.stripe.header;
        let place = usize::from(header.lane.get());
        let Some(lane) = self.lanes.get(header.lane) else { return };
        let fit = lane.fit(header, &proven.hash, self.core.context().rules.branch);
        let (committed, sequencer) = (lane.committed.index, lane.term.sequencer);
        if fit == Fit::Void {
            return;
        }
        let is_aside = self
            .lanes
            .side(place)
            .is_some_and(|side| side.get(header.index, &proven.hash).is_some());
        let is_of_use = fit != Fit::Known && !is_aside && !self.is_far_behind();
        let is_own = proven.code.index_of(self.core.own()) == Some(proven.stripe.stripe.index);
        let Some(gathering) = self.gathering.get_mut(place) else { return };
        let passes = is_own && gathering.passes(committed, header.index);
        let message = passes.then(|| PeerMessage::Stripe(proven.stripe.clone()));
        let gathered = if is_of_use { gathering.keep(proven) } else { None };
        if let Some(message) = message {
            self.pass_on(&message, &[sequencer, from]);
        }
        if let Some(gathered) = gathered {
            self.gate.answer(Effect::Restore(Arc::new(gathered)));
        }
    }

    /// Sends what another signed to all but some: it binds nobody, so nothing has to be durable.
    fn pass_on(&mut self, message: &PeerMessage, but: &[ValidatorIndex]) {
        let class = message.class();
        let bytes: Arc<[u8]> = message.to_bytes().into();
        for to in self.others().into_iter().filter(|to| !but.contains(to)) {
            self.gate.answer(Effect::Send { to, class, bytes: Arc::clone(&bytes) });
        }
    }

    /// A worker has made a chunk of stripes, or found that it can not be one.
    pub(super) fn restored(&mut self, now: Now, restored: Restored) -> Result<(), Refused> {
        let Restored { lane, term, index, hash, chunk } = restored;
        if self.is_current(lane, term)
            && let Some(gathering) = self.gathering.get_mut(usize::from(lane.get()))
        {
            gathering.restored(index, hash, chunk.is_ok());
        }
        match chunk {
            Ok(chunk) => self.whole_chunk(now, chunk),
            Err(reason) => {
                if self.is_current(lane, term) {
                    self.convict(lane);
                }
                Err(Refused::Restored { lane, index, reason })
            }
        }
    }
}
