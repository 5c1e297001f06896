//! Votes counted by stake. A tally never counts a validator twice in one place (I5).

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_types::{
    Ack, Hash, Lane, Precommit, Prevote, Signature, SignedState, StateCertificate, StateVote, Tip,
    ValidatorIndex, ValidatorSet,
};

use crate::evidence::{Evidence, acks_differ};
use crate::header::index_reached;

/// A vote that is for a header.
pub trait Vote: Clone + PartialEq {
    /// The header.
    fn digest(&self) -> Hash;
    /// Whose it is.
    fn validator(&self) -> ValidatorIndex;
    /// What the signature covers.
    fn body(&self) -> Vec<u8>;
}

impl Vote for Prevote {
    fn digest(&self) -> Hash {
        self.digest
    }

    fn validator(&self) -> ValidatorIndex {
        self.validator
    }

    fn body(&self) -> Vec<u8> {
        self.signed_body()
    }
}

impl Vote for Precommit {
    fn digest(&self) -> Hash {
        self.digest
    }

    fn validator(&self) -> ValidatorIndex {
        self.validator
    }

    fn body(&self) -> Vec<u8> {
        self.signed_body()
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
    /// Counts a vote. Gives the first one back when its validator voted otherwise before: the first one stands.
    pub fn add(&mut self, vote: V) -> Option<[V; 2]> {
        let counted = self.votes.entry(vote.validator()).or_insert_with(|| vote.clone());
        let differs = *counted != vote && counted.body() != vote.body();
        differs.then(|| [counted.clone(), vote])
    }

    /// A validator's vote.
    #[must_use]
    pub fn of(&self, validator: ValidatorIndex) -> Option<&V> {
        self.votes.get(&validator)
    }

    /// Every vote, ascending by validator.
    pub fn all(&self) -> impl Iterator<Item = &V> {
        self.votes.values()
    }

    /// The votes, ascending by validator, of the header for which they are a quorum.
    #[must_use]
    pub fn quorum(&self, set: &ValidatorSet) -> Option<(Hash, Vec<V>)> {
        let mut powers: BTreeMap<Hash, u128> = BTreeMap::new();
        for vote in self.votes.values() {
            let power = powers.entry(vote.digest()).or_default();
            *power = power.saturating_add(set.power(vote.validator()));
        }
        let (digest, _) = powers.into_iter().find(|(_, power)| set.is_quorum(*power))?;
        let votes = self.votes.values().filter(|vote| vote.digest() == digest).cloned();
        Some((digest, votes.collect()))
    }
}

/// The last tip that each validator acknowledged in each lane, with its word.
#[derive(Clone, Debug, Default)]
pub struct Acks {
    tips: BTreeMap<(Lane, ValidatorIndex), (Tip, Arc<Ack>)>,
}

impl Acks {
    /// Counts an acknowledgement; tips that are older than known are passed over. Evidence, when it contradicts one.
    pub fn add(&mut self, ack: &Ack) -> Option<Evidence> {
        let validator = ack.validator;
        let shared = Arc::new(ack.clone());
        let mut evidence = None;
        for tip in &ack.tips {
            let known = self.tips.entry((tip.lane, validator));
            let (last, word) = known.or_insert_with(|| (*tip, Arc::clone(&shared)));
            if (tip.term, tip.index) > (last.term, last.index) {
                (*last, *word) = (*tip, Arc::clone(&shared));
            } else if (tip.term, tip.index) == (last.term, last.index)
                && tip != last
                && acks_differ(word, ack)
            {
                evidence = Some(Evidence::Acks(Box::new([(**word).clone(), ack.clone()])));
            }
        }
        evidence
    }

    /// What validators acknowledged last in a lane.
    pub fn of(&self, lane: Lane) -> impl Iterator<Item = (ValidatorIndex, &Tip)> {
        let range = (lane, ValidatorIndex::new(0))..=(lane, ValidatorIndex::new(u16::MAX));
        self.tips.range(range).map(|((_, validator), (tip, _))| (*validator, tip))
    }

    /// The highest tip of a lane that validators of enough power vouch for. An ack vouches for the whole prefix: for what
    /// is held of it, up to the index that `foot` gives; it counts only where chunks say that it stands on them.
    #[must_use]
    pub fn reached(
        &self,
        set: &ValidatorSet,
        lane: Lane,
        (linked, foot): (impl Fn(u64) -> Option<Tip>, impl Fn(&Tip) -> Option<u64>),
        enough: impl Fn(u128) -> bool,
    ) -> Option<Tip> {
        let mut reported: Vec<(u64, u128)> = self
            .of(lane)
            .filter_map(|(validator, tip)| Some((foot(tip)?, set.power(validator))))
            .collect();
        linked(index_reached(&mut reported, enough)?)
    }

    /// Stake of the validators whose last ack names this very tip.
    #[must_use]
    pub fn power_on(&self, set: &ValidatorSet, tip: &Tip) -> u128 {
        let own = self.of(tip.lane).filter(|(_, named)| *named == tip);
        set.power_of(own.map(|(validator, _)| validator))
    }

    /// The last words of a lane that name a tip which `vouches`.
    pub fn behind(&self, lane: Lane, vouches: impl Fn(&Tip) -> bool) -> Vec<Arc<Ack>> {
        let range = (lane, ValidatorIndex::new(0))..=(lane, ValidatorIndex::new(u16::MAX));
        let words = self.tips.range(range).map(|(_, said)| said);
        words.filter(|(named, _)| vouches(named)).map(|(_, word)| Arc::clone(word)).collect()
    }
}

/// The votes on what execution of one height gave.
#[derive(Clone, Debug, Default)]
pub struct StateVotes {
    votes: BTreeMap<ValidatorIndex, (SignedState, Signature)>,
}

impl StateVotes {
    /// Counts a vote. Gives the first one back when its validator voted otherwise before.
    pub fn add(&mut self, vote: &StateVote) -> Option<[StateVote; 2]> {
        let said = (vote.state, vote.signature);
        let (state, signature) = *self.votes.entry(vote.validator).or_insert(said);
        let first = StateVote { state, validator: vote.validator, signature };
        (state != vote.state).then_some([first, *vote])
    }

    /// The votes on another state than this.
    pub fn others<'a>(&'a self, state: &'a SignedState) -> impl Iterator<Item = StateVote> + 'a {
        let said = self.votes.iter().filter(move |(_, (said, _))| said != state);
        said.map(|(validator, (state, signature))| StateVote {
            state: *state,
            validator: *validator,
            signature: *signature,
        })
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
        let power = set.power_of(signatures.iter().map(|(validator, _)| *validator));
        set.is_quorum(power).then_some(StateCertificate { state: *state, signatures })
    }
}
