//! What is known of the height that is being decided.

use std::collections::BTreeMap;

use quipu_proof::names::{header_hash, proposal_hash};
use quipu_types::{
    CoinShare, CommitCertificate, Hash, Header, High, Precommit, Prevote, Propose, RoundChange,
    RoundChangeCertificate, RoundKind, ValidatorIndex, ValidatorSet,
};

use super::coins::Coins;
use crate::record::Change;
use crate::tally::Votes;

/// Led rounds above the own one whose messages are kept.
pub(super) const ROUNDS_AHEAD_MAX: u32 = 16;
/// Open rounds above the own one whose messages are kept: each has votes for every instance.
pub(super) const OPEN_ROUNDS_AHEAD_MAX: u32 = 4;

/// A round, and who proposes in it.
pub(super) type Instance = (u32, ValidatorIndex);

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

/// See the module's header. Rounds of votes that are kept: up to [`ROUNDS_AHEAD_MAX`] or [`OPEN_ROUNDS_AHEAD_MAX`] above
/// the own; one round change a validator, the highest.
#[derive(Clone, Debug, Default)]
pub(super) struct Work {
    pub(super) round: u32,
    /// When the round's timer began; none while the height is not due.
    pub(super) since_us: Option<u64>,
    /// When the own words were last said.
    pub(super) said_us: u64,
    /// Valid headers, by hash.
    pub(super) values: BTreeMap<Hash, Header>,
    pub(super) proposals: BTreeMap<Instance, Proposal>,
    pub(super) prevotes: BTreeMap<Instance, Votes<Prevote>>,
    pub(super) precommits: BTreeMap<Instance, Votes<Precommit>>,
    pub(super) changes: BTreeMap<ValidatorIndex, Change>,
    /// The coins of open rounds.
    pub(super) coins: Coins,
    /// The own part in the coin of the round.
    pub(super) share: Option<CoinShare>,
    /// The highest polka that counts.
    pub(super) high: Option<(High, Vec<Prevote>)>,
    /// Polkas of open rounds: one of a round counts once the coin elects its instance.
    pub(super) polkas: BTreeMap<Instance, Vec<Prevote>>,
    pub(super) decided: Option<(Hash, CommitCertificate)>,
    /// A header whose bytes are wanted, and by when they were asked for last.
    pub(super) asked_us: Option<u64>,
}

impl Work {
    /// Whether messages of a round are kept.
    pub(super) fn keeps(&self, round: u32, kind: RoundKind) -> bool {
        let ahead = match kind {
            RoundKind::Led => ROUNDS_AHEAD_MAX,
            RoundKind::Open => OPEN_ROUNDS_AHEAD_MAX,
        };
        round <= self.round.saturating_add(ahead)
    }

    /// The proposals of a round, by who proposes.
    pub(super) fn proposals_of(&self, round: u32) -> impl Iterator<Item = &Proposal> {
        self.proposals.range(instances(round)).map(|(_, proposal)| proposal)
    }

    /// The greatest round that a third has gone to, or beyond.
    pub(super) fn pulled_to(&self, set: &ValidatorSet) -> Option<u32> {
        let mut rounds: Vec<(u32, ValidatorIndex)> =
            self.changes.values().map(|own| (own.change.round, own.change.validator)).collect();
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
        let own = self.changes.values().filter(|own| own.change.round == round);
        let (changes, polkas): (Vec<RoundChange>, Vec<&Vec<Prevote>>) =
            own.map(|own| (own.change, &own.polka)).unzip();
        if !set.is_quorum(set.power_of(changes.iter().map(|change| change.validator))) {
            return None;
        }
        let highest = changes.iter().zip(polkas).filter(|(change, _)| change.high.is_some());
        let highest = highest.max_by_key(|(change, _)| change.high.map(|high| high.round));
        let polka = highest.map(|(_, polka)| polka.clone()).unwrap_or_default();
        let coins = self.coins.below(round);
        let certificate = RoundChangeCertificate { changes, polka, coins };
        let named = certificate.high().map(|high| high.round);
        debug_assert_eq!(certificate.polka.first().map(|vote| vote.round), named);
        Some(certificate)
    }

    /// Takes a polka. One of an open round waits for the coin that elects its instance, and is void if that elects another.
    pub(super) fn raise(&mut self, polka: &[Prevote]) {
        let Some(first) = polka.first() else { return };
        if first.kind == RoundKind::Open {
            self.polkas.entry((first.round, first.instance)).or_insert_with(|| polka.to_vec());
            return self.raise_elected();
        }
        self.raise_to(polka.to_vec());
    }

    /// Takes the polkas that coins elected since.
    pub(super) fn raise_elected(&mut self) {
        let elected = self.coins.elected().filter_map(|instance| self.polkas.get(&instance));
        for polka in elected.cloned().collect::<Vec<_>>() {
            self.raise_to(polka);
        }
    }

    fn raise_to(&mut self, polka: Vec<Prevote>) {
        let Some(first) = polka.first() else { return };
        let known = self.high.as_ref().map(|(high, _)| high.round);
        if known < Some(first.round) {
            let (round, instance, digest) = (first.round, first.instance, first.digest);
            self.high = Some((High { round, instance, digest }, polka));
        }
    }

    /// Whether a vote of an open round counts for nothing: the coin elected another instance.
    pub(super) fn is_void(&self, vote: &Precommit) -> bool {
        let elected = self.coins.of(vote.round).map(|(_, elected)| elected);
        vote.kind == RoundKind::Open && elected != Some(vote.instance)
    }

    /// The header whose bytes are missing: of a decision, of the highest polka, of one that a coin may elect.
    pub(super) fn missing(&self) -> Option<Hash> {
        self.wanted().find(|digest| !self.values.contains_key(digest))
    }

    /// Whether the bytes of this header are missing.
    pub(super) fn lacks(&self, digest: &Hash) -> bool {
        !self.values.contains_key(digest) && self.wanted().any(|wanted| wanted == *digest)
    }

    fn wanted(&self) -> impl Iterator<Item = Hash> {
        let decided = self.decided.as_ref().map(|(digest, _)| *digest);
        let high = self.high.as_ref().map(|(high, _)| high.digest);
        let polkas = self.polkas.range(instances(self.round));
        let polkas = polkas.filter_map(|(_, polka)| polka.first()).map(|vote| vote.digest);
        let is_open = decided.is_none();
        decided.into_iter().chain(high.into_iter().chain(polkas).filter(move |_| is_open))
    }
}

/// Every instance of a round.
pub(super) fn instances(round: u32) -> std::ops::RangeInclusive<Instance> {
    (round, ValidatorIndex::new(0))..=(round, ValidatorIndex::new(u16::MAX))
}
