//! What simplex orders, and who hears of it: a 32-byte value for each view, which everyone agrees with.

use std::sync::{Arc, Mutex, PoisonError};

use commonware_actor::Feedback;
use commonware_consensus::simplex::Plan;
use commonware_consensus::simplex::types::{Activity, Context};
use commonware_consensus::{Automaton, CertifiableAutomaton, Relay, Reporter};
use commonware_cryptography::ed25519::PublicKey;
use commonware_cryptography::sha256::Digest;
use commonware_utils::channel::mpsc::UnboundedSender;
use commonware_utils::channel::oneshot;

use super::scheme::Counted;

/// Proposes, agrees, and has no block to spread.
#[derive(Clone, Debug)]
pub(crate) struct Values;

impl Automaton for Values {
    type Digest = Digest;
    type Context = Context<Digest, PublicKey>;

    async fn propose(&mut self, context: Self::Context) -> oneshot::Receiver<Digest> {
        let mut value = [7; 32];
        value[..8].copy_from_slice(&context.round.view().get().to_le_bytes());
        answer(Digest(value))
    }

    async fn verify(&mut self, _: Self::Context, _: Digest) -> oneshot::Receiver<bool> {
        answer(true)
    }
}

impl CertifiableAutomaton for Values {}

impl Relay for Values {
    type Digest = Digest;
    type PublicKey = PublicKey;
    type Plan = Plan<PublicKey>;

    fn broadcast(&mut self, _: Digest, _: Self::Plan) -> Feedback {
        Feedback::Ok
    }
}

fn answer<T>(what: T) -> oneshot::Receiver<T> {
    let (sender, receiver) = oneshot::channel();
    // It is held just below.
    let _ = sender.send(what);
    receiver
}

/// Hears what a validator finalized, view by view.
#[derive(Clone, Debug)]
pub(crate) struct Finalized {
    pub(crate) own: usize,
    pub(crate) values: Arc<Mutex<Vec<[u8; 32]>>>,
    pub(crate) told: UnboundedSender<(usize, u64)>,
}

impl Reporter for Finalized {
    type Activity = Activity<Counted, Digest>;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        if let Activity::Finalization(finalization) = activity {
            let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
            let view = finalization.proposal.round.view().get();
            let next = u64::try_from(values.len()).expect("few") + 1;
            if view >= next {
                assert_eq!(view, next, "without faults no view is passed over");
                values.push(finalization.proposal.payload.0);
                // Who asked may have seen enough.
                let _ = self.told.send((self.own, view));
            }
        }
        Feedback::Ok
    }
}
