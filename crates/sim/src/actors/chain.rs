//! What passes a criminal of the ledger's headers, and what follows each of them: enough to make headers of its own that
//! keep every rule.

use std::collections::BTreeMap;

use quipu_consensus::{Message, Parent};
use quipu_proof::names::header_hash;
use quipu_replica::PeerMessage;
use quipu_types::{CommitCertificate, Decode, Hash, Header, Height};

use super::Scene;

/// Heights that are remembered.
const KEPT_HEIGHT_COUNT: u64 = 16;

#[derive(Debug, Default)]
pub(super) struct Chain {
    /// By hash of the header that is followed; the certificate is that of who follows.
    parents: BTreeMap<Hash, Parent>,
}

impl Chain {
    /// Takes what bytes say of headers.
    pub(super) fn learn(&mut self, scene: &Scene<'_>, bytes: &[u8]) {
        match PeerMessage::from_bytes(bytes) {
            Ok(PeerMessage::Agreement(Message::Propose(propose))) => {
                self.header(scene, &propose.header);
            }
            Ok(PeerMessage::Value(header)) => self.header(scene, &header),
            Ok(PeerMessage::Headers(headers)) => {
                headers.iter().for_each(|(header, _)| self.header(scene, header));
            }
            _ => {}
        }
    }

    fn header(&mut self, scene: &Scene<'_>, header: &Header) {
        let hash = header_hash(header);
        let Some(before) = self.parent(scene, header).filter(|_| !self.parents.contains_key(&hash))
        else {
            return;
        };
        let none = CommitCertificate { precommits: Vec::new(), coin: None };
        self.parents.insert(hash, Parent::of(header, none, &before, &scene.context.schedule));
        let last = self.parents.values().map(|parent| parent.height).max().unwrap_or_default();
        let first = Height::new(last.get().saturating_sub(KEPT_HEIGHT_COUNT));
        self.parents.retain(|_, parent| parent.height >= first);
    }

    /// What a header follows, with the certificate that it carries.
    pub(super) fn parent(&self, scene: &Scene<'_>, header: &Header) -> Option<Parent> {
        let genesis = scene.genesis;
        let (chain, lanes) = (scene.context.chain, genesis.lane_count);
        let first = || Parent::genesis(chain, genesis.time_us, lanes, genesis.rounds());
        let known = self.parents.get(&header.prev_header).cloned();
        let known = known.or_else(|| (header.prev_header == chain).then(first))?;
        Some(Parent { commit: header.prev_commit.clone(), ..known })
    }
}
