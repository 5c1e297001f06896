//! A validator that, whenever it votes, also goes to rounds that nobody is in: near and huge ones, without a polka, with a
//! true polka of another digest, with the polka of a round above. Now and then it tells some that it stops, and does not.

use std::sync::Arc;

use quipu_consensus::{Change, Message};
use quipu_crypto::Tag;
use quipu_replica::PeerMessage;
use quipu_types::{Decode, Encode, Hash, Height, High, Prevote, RoundChange, RoundKind, Signature};

use super::{Actor, Scene, word};

#[derive(Debug, Default)]
pub(super) struct Sprayer {
    /// The last prevote that passed.
    vote: Option<Prevote>,
}

impl Sprayer {
    fn change(&self, scene: &mut Scene<'_>, height: Height) -> Arc<[u8]> {
        let rounds = [1, 2, 3, 17, 1_000, u32::MAX - 1, u32::MAX];
        let round = scene.random.choice(rounds).unwrap_or(1);
        let high = scene.random.bool().then(|| High {
            round: if scene.random.bool() { 0 } else { scene.random.u32(..) },
            instance: scene.own,
            digest: Hash([scene.random.u8(..); 32]),
        });
        let mut change = RoundChange {
            height,
            round,
            kind: RoundKind::Led,
            high,
            validator: scene.own,
            signature: Signature([0; 64]),
        };
        change.signature = scene.sign(Tag::RoundChange, &change.signed_body());
        let polka = self.vote.iter().filter(|_| high.is_some()).cloned().collect();
        word(Message::RoundChange(Change { change, polka, coins: Vec::new() }))
    }
}

impl Actor for Sprayer {
    fn send(&mut self, scene: &mut Scene<'_>, _to: usize, bytes: Arc<[u8]>) -> Vec<Arc<[u8]>> {
        let mut sent = vec![Arc::clone(&bytes)];
        if let Ok(PeerMessage::Agreement(Message::Prevote(vote))) = PeerMessage::from_bytes(&bytes)
        {
            let height = vote.height;
            self.vote = Some(vote);
            for _ in 0..scene.random.u8(..4) {
                let height = if scene.random.bool() { height } else { height.next() };
                sent.push(self.change(scene, height));
            }
            if scene.random.u8(..8) == 0 {
                let until = Height::new(height.get().saturating_add(scene.random.u64(..2_000)));
                sent.push(PeerMessage::Leaving { until }.to_bytes().into());
            }
        }
        sent
    }
}
