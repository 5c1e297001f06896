//! A validator that, as a sequencer, orders everything but the transactions of one client: the first of which it hears. It
//! takes no complaint of that client either. All it signs keeps every rule, and its lanes move.

use std::sync::Arc;

use quipu_replica::{Admitted, Received};
use quipu_types::PublicKey;

use super::{Actor, Scene};

#[derive(Debug, Default)]
pub(super) struct Dropper {
    victim: Option<PublicKey>,
}

impl Dropper {
    fn is_dropped(&mut self, admitted: &Admitted) -> bool {
        let signer = admitted.transaction.signer;
        *self.victim.get_or_insert(signer) == signer
    }
}

impl Actor for Dropper {
    fn send(&mut self, _scene: &mut Scene<'_>, _to: usize, bytes: Arc<[u8]>) -> Vec<Arc<[u8]>> {
        vec![bytes]
    }

    fn take(&mut self, scene: &mut Scene<'_>, received: Received) -> Option<Received> {
        match received {
            Received::Forward { is_overdue, mut admitted } => {
                admitted.retain(|admitted| {
                    let is_dropped = self.is_dropped(admitted);
                    if is_dropped {
                        scene.did();
                    }
                    !is_dropped
                });
                Some(Received::Forward { is_overdue, admitted })
            }
            Received::Complaint(grievance) if self.victim == Some(grievance.signer) => {
                scene.did();
                None
            }
            other => Some(other),
        }
    }
}
