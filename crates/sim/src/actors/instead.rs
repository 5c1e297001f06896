//! What a criminal proposes in place of its replica, the same to all, and prevotes then.

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_consensus::Message;
use quipu_crypto::Tag;
use quipu_proof::names::{header_hash, proposal_hash};
use quipu_types::{Hash, Header, Height, Prevote, Propose, RoundChangeCertificate};

use super::{Scene, word};

#[derive(Debug)]
struct Made {
    propose: Propose,
    /// Hash of the header that it takes the place of.
    of: Hash,
    digest: Hash,
    proposal: Hash,
}

/// By height and round; none where the replica's own proposal is good enough.
#[derive(Debug, Default)]
pub(super) struct Instead {
    made: BTreeMap<(Height, u32), Option<Made>>,
}

impl Instead {
    /// Whether it is settled what is proposed in a round.
    pub(super) fn is_settled(&self, height: Height, round: u32) -> bool {
        self.made.contains_key(&(height, round))
    }

    /// What goes out in place of a proposal: what `make` gave when it was asked first.
    pub(super) fn propose(
        &mut self,
        scene: &mut Scene<'_>,
        own: &Propose,
        make: impl FnOnce() -> Option<(Header, Option<RoundChangeCertificate>)>,
    ) -> Option<Arc<[u8]>> {
        let made = self.made.entry((own.height, own.round)).or_insert_with(|| {
            let (header, certificate) = make()?;
            scene.did();
            let mut propose = Propose { header, certificate, ..own.clone() };
            propose.signature = scene.sign(Tag::Propose, &propose.signed_body());
            let (digest, proposal) = (header_hash(&propose.header), proposal_hash(&propose));
            Some(Made { propose, of: header_hash(&own.header), digest, proposal })
        });
        made.as_ref().map(|made| word(Message::Propose(Box::new(made.propose.clone()))))
    }

    /// The replica's prevote for its own proposal, for what was proposed in its place.
    pub(super) fn prevote(&self, scene: &Scene<'_>, vote: &Prevote) -> Option<Arc<[u8]>> {
        let made = self.made.get(&(vote.height, vote.round))?.as_ref()?;
        let is_own = vote.validator == scene.own && vote.instance == scene.own;
        if !is_own || vote.digest != made.of {
            return None;
        }
        let mut vote = Prevote { digest: made.digest, proposal: made.proposal, ..vote.clone() };
        vote.signature = scene.sign(Tag::Prevote, &vote.signed_body());
        Some(word(Message::Prevote(vote)))
    }
}
