//! Votes counted by stake. A tally never counts a validator twice in one place (I5).

use std::collections::BTreeMap;

use quipu_types::{
    Hash, Lane, Precommit, Prevote, Signature, SignedState, StateCertificate, Tip, ValidatorIndex,
    ValidatorSet,
};

use crate::header::index_reached;

/// A vote that is for a header.
pub trait Vote: Clone + PartialEq {
    /// The header.
    fn digest(&self) -> Hash;
    /// Whose it is.
    fn validator(&self) -> ValidatorIndex;
}

impl Vote for Prevote {
    fn digest(&self) -> Hash {
        self.digest
    }

    fn validator(&self) -> ValidatorIndex {
        self.validator
    }
}

impl Vote for Precommit {
    fn digest(&self) -> Hash {
        self.digest
    }

    fn validator(&self) -> ValidatorIndex {
        self.validator
    }
}

/// The votes of one kind in one round.
#[derive(Clone, Debug)]
pub struct Votes<V> {
    votes: BTreeMap<ValidatorIndex, V>,
}

impl<V> Default for Votes<V> {
    fn default() -> Self {
        Self { votes: BTreeMap::new() }
    }
}

impl<V: Vote> Votes<V> {
    /// Counts a vote. `false` when its validator voted otherwise before: the first one stands.
    pub fn add(&mut self, vote: V) -> bool {
        let counted = self.votes.entry(vote.validator()).or_insert_with(|| vote.clone());
        *counted == vote
    }

    /// The votes for `digest`, ascending by validator, if they are a quorum.
    #[must_use]
    pub fn quorum(&self, set: &ValidatorSet, digest: &Hash) -> Option<Vec<V>> {
        let votes: Vec<V> =
            self.votes.values().filter(|vote| vote.digest() == *digest).cloned().collect();
        let power = votes
            .iter()
            .fold(0_u128, |power, vote| power.saturating_add(set.power(vote.validator())));
        set.is_quorum(power).then_some(votes)
    }
}

/// The last tip that each validator acknowledged in each lane.
#[derive(Clone, Debug, Default)]
pub struct Acks {
    tips: BTreeMap<(Lane, ValidatorIndex), Tip>,
}

impl Acks {
    /// Counts an acknowledgement; older ones than known are passed over.
    pub fn add(&mut self, validator: ValidatorIndex, tip: Tip) {
        let known = self.tips.entry((tip.lane, validator)).or_insert(tip);
        if (tip.term, tip.index) > (known.term, known.index) {
            *known = tip;
        }
    }

    /// The highest tip of a lane that validators of enough power vouch for. An ack vouches for the whole prefix, and
    /// counts only if it stands on the chain that `linked` knows.
    #[must_use]
    pub fn reached(
        &self,
        set: &ValidatorSet,
        lane: Lane,
        linked: impl Fn(u64) -> Option<Tip>,
        enough: impl Fn(u128) -> bool,
    ) -> Option<Tip> {
        let range = (lane, ValidatorIndex::new(0))..=(lane, ValidatorIndex::new(u16::MAX));
        let mut reported: Vec<(u64, u128)> = self
            .tips
            .range(range)
            .filter(|(_, tip)| linked(tip.index) == Some(**tip))
            .map(|((_, validator), tip)| (tip.index, set.power(*validator)))
            .collect();
        linked(index_reached(&mut reported, enough)?)
    }
}

/// The votes on what execution of one height gave.
#[derive(Clone, Debug, Default)]
pub struct StateVotes {
    votes: BTreeMap<ValidatorIndex, (SignedState, Signature)>,
}

impl StateVotes {
    /// Counts a vote. `false` when its validator voted otherwise before.
    pub fn add(&mut self, vote: &quipu_types::StateVote) -> bool {
        let said = (vote.state, vote.signature);
        *self.votes.entry(vote.validator).or_insert(said) == said
    }

    /// The certificate of `state`, if its votes are a quorum.
    #[must_use]
    pub fn quorum(&self, set: &ValidatorSet, state: &SignedState) -> Option<StateCertificate> {
        let signatures: Vec<(ValidatorIndex, Signature)> = self
            .votes
            .iter()
            .filter(|(_, (said, _))| said == state)
            .map(|(validator, (_, signature))| (*validator, *signature))
            .collect();
        let power = signatures
            .iter()
            .fold(0_u128, |power, (validator, _)| power.saturating_add(set.power(*validator)));
        set.is_quorum(power).then_some(StateCertificate { state: *state, signatures })
    }
}
