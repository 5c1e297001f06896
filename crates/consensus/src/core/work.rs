//! What is known of the height that is being decided.

use std::collections::BTreeMap;

use quipu_proof::names::{header_hash, proposal_hash};
use quipu_types::{
    CommitCertificate, Hash, Header, High, Precommit, Prevote, Propose, RoundChange,
    RoundChangeCertificate, ValidatorIndex, ValidatorSet,
};

use crate::tally::Votes;

/// Rounds above the own one whose messages are kept.
pub(super) const ROUNDS_AHEAD_MAX: u32 = 16;

/// A proposal with its names.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    pub(super) propose: Propose,
    pub(super) digest: Hash,
    pub(super) hash: Hash,
}

impl Proposal {
    pub(super) fn new(propose: Propose) -> Self {
        let (digest, hash) = (header_hash(&propose.header), proposal_hash(&propose));
        Self { propose, digest, hash }
    }
}

/// A round change with the polka that it names.
pub(super) type Change = (RoundChange, Vec<Prevote>);

/// See the module's header. Rounds of votes that are kept: up to [`ROUNDS_AHEAD_MAX`] above the own; one round change a
/// validator, the highest.
#[derive(Clone, Debug, Default)]
pub(super) struct Work {
    pub(super) round: u32,
    /// When the round's timer began; none while the height is not due.
    pub(super) since_us: Option<u64>,
    /// When the own words were last said.
    pub(super) said_us: u64,
    /// Valid headers, by hash.
    pub(super) values: BTreeMap<Hash, Header>,
    pub(super) proposals: BTreeMap<u32, Proposal>,
    pub(super) prevotes: BTreeMap<u32, Votes<Prevote>>,
    pub(super) precommits: BTreeMap<u32, Votes<Precommit>>,
    pub(super) changes: BTreeMap<ValidatorIndex, Change>,
    /// The highest polka.
    pub(super) high: Option<(High, Vec<Prevote>)>,
    pub(super) decided: Option<(Hash, CommitCertificate)>,
    /// A header whose bytes are wanted, and by when they were asked for last.
    pub(super) asked_us: Option<u64>,
}

impl Work {
    /// Whether messages of a round are kept.
    pub(super) fn keeps(&self, round: u32) -> bool {
        round <= self.round.saturating_add(ROUNDS_AHEAD_MAX)
    }

    /// The greatest round that a third has gone to, or beyond.
    pub(super) fn pulled_to(&self, set: &ValidatorSet) -> Option<u32> {
        let mut rounds: Vec<(u32, ValidatorIndex)> =
            self.changes.values().map(|(change, _)| (change.round, change.validator)).collect();
        rounds.sort_by(|a, b| b.cmp(a));
        let mut power = 0_u128;
        rounds.into_iter().find_map(|(round, validator)| {
            power = power.saturating_add(set.power(validator));
            set.is_third(power).then_some(round)
        })
    }

    /// A quorum's changes to `round`.
    pub(super) fn certificate(
        &self,
        set: &ValidatorSet,
        round: u32,
    ) -> Option<RoundChangeCertificate> {
        let own = self.changes.values().filter(|(change, _)| change.round == round);
        let (changes, polkas): (Vec<RoundChange>, Vec<&Vec<Prevote>>) =
            own.map(|(change, polka)| (*change, polka)).unzip();
        let power = changes
            .iter()
            .fold(0_u128, |power, change| power.saturating_add(set.power(change.validator)));
        if !set.is_quorum(power) {
            return None;
        }
        let highest = changes.iter().zip(polkas).filter(|(change, _)| change.high.is_some());
        let highest = highest.max_by_key(|(change, _)| change.high.map(|high| high.round));
        let polka = highest.map(|(_, polka)| polka.clone()).unwrap_or_default();
        let certificate = RoundChangeCertificate { changes, polka };
        let named = certificate.high().map(|high| high.round);
        debug_assert_eq!(certificate.polka.first().map(|vote| vote.round), named);
        Some(certificate)
    }

    /// Takes a polka of the current round.
    pub(super) fn raise(&mut self, polka: &[Prevote]) {
        let Some(first) = polka.first() else { return };
        let known = self.high.as_ref().map(|(high, _)| high.round);
        if known < Some(first.round) {
            let (round, instance, digest) = (first.round, first.instance, first.digest);
            self.high = Some((High { round, instance, digest }, polka.to_vec()));
        }
    }

    /// The header whose bytes are missing: of a decision, of the highest polka.
    pub(super) fn missing(&self) -> Option<Hash> {
        let decided = self.decided.as_ref().map(|(digest, _)| *digest);
        let wanted = decided.or(self.high.as_ref().map(|(high, _)| high.digest));
        wanted.filter(|digest| !self.values.contains_key(digest))
    }
}
