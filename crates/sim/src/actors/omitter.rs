//! A validator that leaves out whatever it may.
//!
//! * As a leader it keeps only as many votes in `prev_commit` as are a quorum, those that report and suspect least; moves
//!   no lane that inclusion does not demand; ends no term that the votes which are left do not end; embeds no state
//!   certificate. The header keeps every rule.
//! * As a voter it reports no tips and suspects nobody.
//!
//! Certificates that its replica makes hold the vote as its replica signed it, which nobody compares with what was told.

use std::sync::Arc;

use quipu_consensus::{Message, Parent};
use quipu_crypto::Tag;
use quipu_types::{CommitCertificate, Header, Precommit};

use super::chain::Chain;
use super::instead::Instead;
use super::{Actor, Scene, heard, word};

#[derive(Debug, Default)]
pub(super) struct Omitter {
    chain: Chain,
    instead: Instead,
}

/// The same vote with nothing said of the lanes.
fn emptied(scene: &Scene<'_>, vote: &Precommit) -> Precommit {
    let mut vote = Precommit { tips: Vec::new(), suspects: Vec::new(), ..vote.clone() };
    vote.signature = scene.sign(Tag::Precommit, &vote.signed_body());
    vote
}

/// The votes of a quorum that say least.
fn least(scene: &Scene<'_>, commit: &CommitCertificate) -> CommitCertificate {
    let own = |vote: &Precommit| match vote.validator == scene.own {
        true => emptied(scene, vote),
        false => vote.clone(),
    };
    let mut votes: Vec<Precommit> = commit.precommits.iter().map(own).collect();
    votes.sort_by_key(|vote| (vote.suspects.len(), vote.tips.len(), vote.validator));
    let set = &scene.context.set;
    let mut power = 0_u128;
    votes.retain(|vote| {
        let is_wanted = !set.is_quorum(power);
        power = power.saturating_add(set.power(vote.validator));
        is_wanted
    });
    votes.sort_by_key(|vote| vote.validator);
    CommitCertificate { precommits: votes, coin: commit.coin }
}

impl Omitter {
    /// The least that a header in place of this one must say.
    fn thin(&self, scene: &Scene<'_>, header: &Header) -> Option<Header> {
        let full = self.chain.parent(scene, header)?;
        let commit = full.commit.as_ref().map(|commit| least(scene, commit));
        let parent = Parent { commit, ..full };
        let may_move = parent.may_move(None);
        let tip = |(before, tip): (&quipu_types::Tip, &quipu_types::Tip)| {
            let required = parent.index_required(scene.context, before.lane);
            if required > before.index && may_move { *tip } else { *before }
        };
        let cut = parent.cut.iter().zip(&header.cut).map(tip).collect();
        let thin = parent.next(scene.context, scene.own, cut, None, None);
        (thin != *header).then_some(thin)
    }
}

impl Actor for Omitter {
    fn send(&mut self, scene: &mut Scene<'_>, _to: usize, bytes: Arc<[u8]>) -> Vec<Arc<[u8]>> {
        self.chain.learn(scene, &bytes);
        let other = match heard(&bytes) {
            Some(Message::Propose(own)) => {
                let certificate = own.certificate.as_ref();
                let has_polka = certificate.is_some_and(|tc| tc.high().is_some());
                let is_free = own.header.proposer == scene.own && !has_polka;
                let thin = is_free.then(|| self.thin(scene, &own.header)).flatten();
                let make = || thin.map(|thin| (thin, own.certificate.clone()));
                self.instead.propose(scene, &own, make)
            }
            Some(Message::Prevote(vote)) => self.instead.prevote(scene, &vote),
            Some(Message::Precommit(vote)) if vote.validator == scene.own => {
                Some(word(Message::Precommit(emptied(scene, &vote))))
            }
            _ => None,
        };
        vec![other.unwrap_or(bytes)]
    }

    fn hear(&mut self, scene: &mut Scene<'_>, bytes: &Arc<[u8]>) {
        self.chain.learn(scene, bytes);
    }
}
