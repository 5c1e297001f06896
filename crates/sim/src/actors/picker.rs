//! A validator that, as the leader of a later round, picks the round changes that hide the highest polka.
//!
//! * If those without the highest polka are a quorum, it proposes by them: the value of the next lower polka, or, when they
//!   name none, one of its own. That is within the rules: a value that may have been decided cannot be hidden.
//! * If they are none, it holds its proposal back until it may have heard of more, in every other round, and in the end
//!   proposes its own value all the same, with the certificate that names another one; nobody prevotes that.
//! * Its own round changes name no polka by which it has not precommitted: a lie that nobody can prove.

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_consensus::{Change, Message};
use quipu_crypto::Tag;
use quipu_proof::names::header_hash;
use quipu_types::{
    Hash, Header, Height, High, Propose, RoundChange, RoundChangeCertificate, Tip, ValidatorIndex,
};

use super::chain::Chain;
use super::instead::Instead;
use super::{Actor, Scene, heard, word};

/// How long it waits for more round changes: less than what is said takes to be said again.
const WAIT_US: u64 = 400_000;

#[derive(Debug, Default)]
pub(super) struct Picker {
    chain: Chain,
    instead: Instead,
    /// Since when it has a proposal for a round.
    since_us: BTreeMap<(Height, u32), u64>,
    /// The highest round that it precommitted in.
    precommitted: Option<(Height, u32)>,
    changes: BTreeMap<(Height, u32, ValidatorIndex), Change>,
    values: BTreeMap<Hash, Header>,
}

impl Picker {
    fn learn(&mut self, scene: &Scene<'_>, bytes: &[u8]) {
        self.chain.learn(scene, bytes);
        match heard(bytes) {
            Some(Message::RoundChange(own)) => {
                let change = own.change;
                self.changes.insert((change.height, change.round, change.validator), own);
            }
            Some(Message::Propose(propose)) => {
                self.values.insert(header_hash(&propose.header), propose.header);
            }
            _ => {}
        }
        let height = scene.status.height;
        self.changes.retain(|(of, _, _), _| *of > height);
        self.values.retain(|_, header| header.height > height);
    }

    /// The round changes that do not name the highest polka, if they are a quorum.
    fn pick(
        &self,
        scene: &Scene<'_>,
        own: &Propose,
        hidden: &High,
    ) -> Option<RoundChangeCertificate> {
        let first = (own.height, own.round, ValidatorIndex::new(0));
        let last = (own.height, own.round, ValidatorIndex::new(u16::MAX));
        let is_lower =
            |change: &&Change| change.change.high.is_none_or(|high| high.round < hidden.round);
        let all = self.changes.range(first..=last).map(|(_, change)| change);
        let picked: Vec<&Change> = all.filter(is_lower).collect();
        let set = &scene.context.set;
        let power = set.power_of(picked.iter().map(|change| change.change.validator));
        let of = |change: &&&Change| change.change.high.map(|high| high.round);
        let highest = picked.iter().max_by_key(of)?;
        let coins = own.certificate.as_ref()?.coins.clone();
        let changes = picked.iter().map(|change| change.change).collect();
        let polka = highest.polka.clone();
        set.is_quorum(power).then_some(RoundChangeCertificate { changes, polka, coins })
    }

    /// A value of its own that moves no lane more than it must.
    fn value(&self, scene: &Scene<'_>, header: &Header) -> Option<Header> {
        let parent = self.chain.parent(scene, header)?;
        let tip = |(before, tip): (&Tip, &Tip)| {
            let required = parent.index_required(scene.context, before.lane);
            if required > before.index && parent.may_move(None) { *tip } else { *before }
        };
        let cut = parent.cut.iter().zip(&header.cut).map(tip).collect();
        Some(parent.next(scene.context, scene.own, cut, None, None))
    }

    fn other(
        &self,
        scene: &Scene<'_>,
        own: &Propose,
    ) -> Option<(Header, Option<RoundChangeCertificate>)> {
        let full = own.certificate.as_ref()?;
        let hidden = full.high()?;
        let certificate = self.pick(scene, own, &hidden);
        let header = match certificate.as_ref().and_then(RoundChangeCertificate::high) {
            Some(lower) => self.values.get(&lower.digest).cloned()?,
            None => self.value(scene, &own.header)?,
        };
        Some((header, certificate.or_else(|| own.certificate.clone())))
    }

    /// What goes out in place of a later round's proposal.
    fn propose(
        &mut self,
        scene: &mut Scene<'_>,
        own: &Propose,
        bytes: Arc<[u8]>,
    ) -> Vec<Arc<[u8]>> {
        let has_polka = own.certificate.as_ref().is_some_and(|tc| tc.high().is_some());
        if own.instance != scene.own || !has_polka {
            return vec![bytes];
        }
        let place = (own.height, own.round);
        let since_us = *self.since_us.entry(place).or_insert(scene.now_us);
        let is_patient = own.height.get().is_multiple_of(2);
        let waits = is_patient && scene.now_us < since_us.saturating_add(WAIT_US);
        let hides = own.certificate.as_ref().and_then(RoundChangeCertificate::high);
        let may_hide = hides.is_some_and(|high| self.pick(scene, own, &high).is_some());
        if waits && !may_hide && !self.instead.is_settled(own.height, own.round) {
            return Vec::new();
        }
        let other = self.other(scene, own);
        vec![self.instead.propose(scene, own, || other).unwrap_or(bytes)]
    }
}

/// Its own round change, without the polka.
fn silenced(scene: &Scene<'_>, own: &Change) -> Arc<[u8]> {
    let mut change = RoundChange { high: None, ..own.change };
    change.signature = scene.sign(Tag::RoundChange, &change.signed_body());
    let coins = own.coins.clone();
    word(Message::RoundChange(Change { change, polka: Vec::new(), coins }))
}

impl Actor for Picker {
    fn send(&mut self, scene: &mut Scene<'_>, _to: usize, bytes: Arc<[u8]>) -> Vec<Arc<[u8]>> {
        let bytes = match heard(&bytes) {
            Some(Message::RoundChange(own)) if own.change.validator == scene.own => {
                let high = own.change.high.map(|high| (own.change.height, high.round));
                if high > self.precommitted { silenced(scene, &own) } else { bytes }
            }
            Some(Message::Precommit(vote)) if vote.validator == scene.own => {
                self.precommitted = self.precommitted.max(Some((vote.height, vote.round)));
                bytes
            }
            _ => bytes,
        };
        self.learn(scene, &bytes);
        match heard(&bytes) {
            Some(Message::Propose(own)) => self.propose(scene, &own, bytes),
            Some(Message::Prevote(vote)) if vote.instance == scene.own => {
                let (height, round) = (vote.height, vote.round);
                let waits = self.since_us.contains_key(&(height, round));
                if waits && !self.instead.is_settled(height, round) {
                    return Vec::new();
                }
                vec![self.instead.prevote(scene, &vote).unwrap_or(bytes)]
            }
            _ => vec![bytes],
        }
    }

    fn hear(&mut self, scene: &mut Scene<'_>, bytes: &Arc<[u8]>) {
        self.learn(scene, bytes);
    }
}
