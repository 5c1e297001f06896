//! A validator that floods the others with complaints of clients that it makes up: right ones, which the sequencer has to
//! order; of transactions that come too early; of terms that are over or have not begun; twice the same; forged ones.

use std::sync::Arc;

use quipu_consensus::Message;
use quipu_crypto::Tag;
use quipu_crypto::suite::{SecretKey, sign_tagged};
use quipu_proof::names::{TransactionDraft, lane_of, sign_transaction};
use quipu_replica::PeerMessage;
use quipu_types::{Action, Complaint, Encode, Signature, Suite, Term};

use super::{Actor, Scene, heard};

#[derive(Debug, Default)]
pub(super) struct Complainer {
    /// One that was right.
    last: Option<Arc<[u8]>>,
}

/// A complaint of a new client, of its transaction of a sequence; `ahead` terms away from the lane's.
fn made_up(scene: &mut Scene<'_>, sequence: u64, ahead: i8) -> Option<Complaint> {
    let seed: [u8; 32] = std::array::from_fn(|_| scene.random.u8(..));
    let key = SecretKey::from_seed(Suite::Ed25519Sha256, seed);
    let chain = scene.context.chain;
    let lane = lane_of(key.public().bytes(), scene.genesis.lane_count);
    let (term, _) = *scene.status.terms.get(usize::from(lane.get()))?;
    let term = Term::new(term.get().saturating_add_signed(ahead.into()));
    let anchor = scene.status.header;
    let action = Action::Append { stream: "s0".into(), key: vec![9], payload: vec![0, 9] };
    let draft =
        TransactionDraft { incarnation: 0, sequence, anchor, route: None, actions: vec![action] };
    let transaction = sign_transaction(&key, &chain, draft).to_bytes();
    let mut complaint =
        Complaint { transaction, anchor, lane, term, signature: Signature([0; 64]) };
    complaint.signature = sign_tagged(&key, &chain, 0, Tag::Complaint, &complaint.signed_body());
    Some(complaint)
}

impl Complainer {
    fn next(&mut self, scene: &mut Scene<'_>) -> Option<Arc<[u8]>> {
        let bytes = |complaint| Arc::<[u8]>::from(PeerMessage::Complaint(complaint).to_bytes());
        Some(match scene.random.u8(..6) {
            0 => bytes(made_up(scene, 7, 0)?),
            1 => bytes(made_up(scene, 1, -1)?),
            2 => bytes(made_up(scene, 1, 1)?),
            3 => self.last.clone()?,
            4 => {
                let forged = made_up(scene, 1, 0)?;
                bytes(Complaint { signature: Signature([7; 64]), ..forged })
            }
            _ => {
                let right = bytes(made_up(scene, 1, 0)?);
                self.last = Some(Arc::clone(&right));
                right
            }
        })
    }
}

impl Actor for Complainer {
    fn send(&mut self, scene: &mut Scene<'_>, _to: usize, bytes: Arc<[u8]>) -> Vec<Arc<[u8]>> {
        let is_word = matches!(heard(&bytes), Some(Message::Precommit(_)));
        let mut all = vec![bytes];
        if is_word {
            all.extend(self.next(scene));
            scene.did();
        }
        all
    }
}
