//! A validator that does not execute: of each height it signs the first word on its state that it hears, a vote or a mere
//! claim. While it has heard none it says nothing.
//!
//! What it copies of honest votes is true. A trap is said before anyone has executed, so it hears that first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quipu_consensus::Message;
use quipu_crypto::Tag;
use quipu_crypto::suite::sign_tagged;
use quipu_replica::PeerMessage;
use quipu_types::{Decode, Encode, Height, SignedState, StateVote};

use super::{Actor, Scene, heard, word};

/// Heights whose first words are remembered.
const HEIGHT_COUNT_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Lazy {
    first: BTreeMap<Height, SignedState>,
    /// What it owes to whom: no word was heard yet when it was due.
    owed: BTreeSet<(Height, usize)>,
}

impl Lazy {
    fn learn(&mut self, state: SignedState) {
        self.first.entry(state.height).or_insert(state);
        while self.first.len() > HEIGHT_COUNT_MAX {
            self.first.pop_first();
        }
    }

    /// Another's word on a height, under its own name.
    fn copied(&self, scene: &mut Scene<'_>, height: Height) -> Option<Arc<[u8]>> {
        let state = *self.first.get(&height)?;
        let epoch = scene.context.set_at(height).epoch;
        let (chain, body) = (&scene.context.chain, state.to_bytes());
        let signature = sign_tagged(scene.key, chain, epoch, Tag::StateVote, &body);
        scene.did();
        Some(word(Message::StateVote(StateVote { state, validator: scene.own, signature })))
    }
}

impl Actor for Lazy {
    fn send(&mut self, scene: &mut Scene<'_>, to: usize, bytes: Arc<[u8]>) -> Vec<Arc<[u8]>> {
        let mut all = Vec::new();
        match heard(&bytes) {
            Some(Message::StateVote(vote)) if vote.validator == scene.own => {
                self.owed.insert((vote.state.height, to));
            }
            _ => all.push(bytes),
        }
        let due: Vec<(Height, usize)> =
            self.owed.iter().filter(|(_, other)| *other == to).copied().collect();
        for (height, to) in due {
            if let Some(said) = self.copied(scene, height) {
                self.owed.remove(&(height, to));
                all.push(said);
            }
        }
        all
    }

    fn hear(&mut self, _scene: &mut Scene<'_>, bytes: &Arc<[u8]>) {
        match PeerMessage::from_bytes(bytes) {
            Ok(PeerMessage::Claim(state)) => self.learn(state),
            Ok(PeerMessage::Agreement(Message::StateVote(vote))) => self.learn(vote.state),
            _ => {}
        }
    }
}
