//! A validator that says two things of one place, each to some of the others and now and then both to one.
//!
//! * As a leader it proposes two headers, one to each half, and prevotes and precommits both.
//! * As a voter it prevotes what nobody proposed.
//! * As a sequencer it makes two chunks of one place; the second goes to less than a third, so that its own replica need
//!   never give up the first.

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_consensus::Message;
use quipu_crypto::Tag;
use quipu_proof::names::{header_hash, proposal_hash};
use quipu_replica::{PeerMessage, StoredChunk};
use quipu_types::{Decode, Encode, Hash, Height, Lane, Precommit, Prevote, Propose, Term};

use super::{Actor, Scene, word};

/// The other proposal of a round: hash of its header and its own.
type Other = (Hash, Hash);

#[derive(Debug, Default)]
pub(super) struct Equivocator {
    others: BTreeMap<(Height, u32), (Propose, Other)>,
    /// Chunks of which there are two.
    forks: BTreeMap<(Lane, Term, u64), bool>,
}

impl Equivocator {
    fn propose(&mut self, scene: &Scene<'_>, propose: &Propose) -> Arc<[u8]> {
        let place = (propose.height, propose.round);
        let (other, _) = self.others.entry(place).or_insert_with(|| {
            let mut other = propose.clone();
            if other.header.state_certificate.take().is_none() {
                // Nothing can be left out: this header is invalid, and still a second one.
                other.header.time = other.header.time.next();
            }
            other.signature = scene.sign(Tag::Propose, &other.signed_body());
            let names = (header_hash(&other.header), proposal_hash(&other));
            (other, names)
        });
        word(Message::Propose(Box::new(other.clone())))
    }

    fn prevote(&self, scene: &mut Scene<'_>, vote: &Prevote) -> Option<Arc<[u8]>> {
        let other = self.others.get(&(vote.height, vote.round)).map(|(_, names)| *names);
        let made_up = || (Hash([7; 32]), Hash([8; 32]));
        let (digest, proposal) = other.or_else(|| (scene.random.u8(..4) == 0).then(made_up))?;
        let mut vote = Prevote { digest, proposal, ..vote.clone() };
        vote.signature = scene.sign(Tag::Prevote, &vote.signed_body());
        Some(word(Message::Prevote(vote)))
    }

    fn precommit(&self, scene: &Scene<'_>, vote: &Precommit) -> Option<Arc<[u8]>> {
        let (_, (digest, _)) = self.others.get(&(vote.height, vote.round))?;
        let mut vote = Precommit { digest: *digest, ..vote.clone() };
        vote.signature = scene.sign(Tag::Precommit, &vote.signed_body());
        Some(word(Message::Precommit(vote)))
    }

    fn chunk(
        &mut self,
        scene: &mut Scene<'_>,
        to: usize,
        stored: &StoredChunk,
    ) -> Option<Arc<[u8]>> {
        let mut header = stored.header.clone();
        let place = (header.lane, header.term, header.index);
        let random = &mut scene.random;
        let forks = *self.forks.entry(place).or_insert_with(|| random.u8(..4) == 0);
        let set = &scene.context.set;
        let few = scene.first_others(|power| !set.is_third(power));
        let is_own = set.get(scene.own).is_some() && header.clock.len() > 1;
        if !forks || !is_own || !few.contains(&to) {
            return None;
        }
        header.clock.pop();
        let signature = scene.sign(Tag::Chunk, &header.to_bytes());
        let other = StoredChunk { header, signature, body: stored.body.clone() };
        Some(PeerMessage::Chunk(other).to_bytes().into())
    }
}

impl Actor for Equivocator {
    fn send(&mut self, scene: &mut Scene<'_>, to: usize, bytes: Arc<[u8]>) -> Vec<Arc<[u8]>> {
        let own = scene.own;
        let is_half = to.is_multiple_of(2);
        let other = match PeerMessage::from_bytes(&bytes) {
            Ok(PeerMessage::Agreement(Message::Propose(propose))) => {
                let is_fresh = propose.header.proposer == own && propose.certificate.is_none();
                is_fresh.then(|| self.propose(scene, &propose)).filter(|_| is_half)
            }
            Ok(PeerMessage::Agreement(Message::Prevote(vote))) if is_half => {
                self.prevote(scene, &vote)
            }
            Ok(PeerMessage::Agreement(Message::Precommit(vote))) if is_half => {
                self.precommit(scene, &vote)
            }
            Ok(PeerMessage::Chunk(stored)) => self.chunk(scene, to, &stored),
            _ => None,
        };
        match other {
            None => vec![bytes],
            Some(other) if scene.random.u8(..3) == 0 => vec![other, bytes],
            Some(other) => vec![other],
        }
    }
}
