//! The only place where a validator signs. It remembers what it said and never says another thing of the same place.
//!
//! ```text
//!  restore(record)… ─> [ Safety: key, own votes by (height, round), own acks, last chunk by lane ]
//!                          │
//!      propose · prevote · precommit · ack · state · chunk ─> Said { message, record: new or none }
//! ```
//! # Invariants
//! * S1 For a (height, round) there is one own proposal, one prevote, one precommit. Asked again, for whatever value,
//!   the first is given, byte for byte (consensus I1).
//! * S2 A precommit is made from a polka for its digest, and logged with it.
//! * S3 One chunk is acked for each (lane, index) of a term; acks never go back. One chunk header is signed for each.
//! * S4 Two states of one height are never signed: that execution gave two is a fault that stops the validator.

use std::collections::BTreeMap;

use quipu_crypto::Tag;
use quipu_crypto::suite::{SecretKey, sign_tagged};
use quipu_types::{
    Ack, ChunkHeader, Encode, Hash, Header, Height, Lane, Precommit, Prevote, Propose, RoundKind,
    Signature, SignedState, StateVote, Term, Time, Tip, ValidatorIndex, ValidatorSet,
};

use crate::record::Record;

/// A place that is voted in: height and round.
pub type Place = (Height, u32);

/// What was said, and the record to log before it leaves; no record when it was logged before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said<T> {
    /// The signed message.
    pub message: T,
    /// What to make durable first.
    pub record: Option<Record>,
}

#[derive(Clone, Debug, Default)]
struct Own {
    propose: Option<Propose>,
    prevote: Option<Prevote>,
    precommit: Option<(Precommit, Vec<Prevote>)>,
}

/// A validator's key and what it said with it.
#[derive(Debug)]
pub struct Safety {
    key: SecretKey,
    chain: Hash,
    epoch: u64,
    own: ValidatorIndex,
    places: BTreeMap<Place, Own>,
    states: BTreeMap<Height, StateVote>,
    /// For each lane the last own ack that named it.
    acks: BTreeMap<Lane, (Tip, Ack)>,
    chunks: BTreeMap<Lane, (Term, u64)>,
}

impl Safety {
    /// A validator that has said nothing yet.
    #[must_use]
    pub fn new(key: SecretKey, chain: Hash, epoch: u64, own: ValidatorIndex) -> Self {
        let (places, states) = (BTreeMap::new(), BTreeMap::new());
        let (acks, chunks) = (BTreeMap::new(), BTreeMap::new());
        Self { key, chain, epoch, own, places, states, acks, chunks }
    }

    /// Which validator this is.
    #[must_use]
    pub const fn own(&self) -> ValidatorIndex {
        self.own
    }

    /// Remembers a logged record. The first of a place stands.
    ///
    /// An ack is remembered only when `held` says of all its tips that their chunks are there: a record that became
    /// durable while a chunk did not was never sent, because both wait for one sync.
    pub fn restore(&mut self, record: Record, held: impl Fn(&Tip) -> bool) {
        match record {
            Record::Propose(propose) => {
                let own = self.places.entry((propose.height, propose.round)).or_default();
                own.propose.get_or_insert(*propose);
            }
            Record::Prevote(vote) => {
                let own = self.places.entry((vote.height, vote.round)).or_default();
                own.prevote.get_or_insert(vote);
            }
            Record::Precommit { vote, polka } => {
                let own = self.places.entry((vote.height, vote.round)).or_default();
                own.precommit.get_or_insert((vote, polka));
            }
            Record::Ack(ack) => {
                if ack.tips.iter().all(held) {
                    for tip in &ack.tips {
                        let known = self.acks.get(&tip.lane).map(|(tip, _)| (tip.term, tip.index));
                        if known < Some((tip.term, tip.index)) {
                            self.acks.insert(tip.lane, (*tip, ack.clone()));
                        }
                    }
                }
            }
            Record::StateVote(vote) => {
                self.states.entry(vote.state.height).or_insert(vote);
            }
        }
    }

    /// The own proposal of a place, if one was made.
    #[must_use]
    pub fn proposed(&self, place: Place) -> Option<&Propose> {
        self.places.get(&place)?.propose.as_ref()
    }

    /// Whether a precommit was made in a place.
    #[must_use]
    pub fn precommitted(&self, place: Place) -> Option<&(Precommit, Vec<Prevote>)> {
        self.places.get(&place)?.precommit.as_ref()
    }

    /// Proposes `header` in a led round.
    pub fn propose(&mut self, round: u32, header: Header) -> Said<Propose> {
        let place = (header.height, round);
        if let Some(message) = self.proposed(place).cloned() {
            return Said { message, record: None };
        }
        let mut message = Propose {
            height: header.height,
            round,
            kind: RoundKind::Led,
            instance: self.own,
            header,
            signature: UNSIGNED,
        };
        message.signature = self.sign(Tag::Propose, &message.signed_body());
        self.places.entry(place).or_default().propose = Some(message.clone());
        let record = Some(Record::Propose(Box::new(message.clone())));
        Said { message, record }
    }

    /// Prevotes for a proposal whose header has the hash `digest` and which itself has the hash `proposal`.
    pub fn prevote(&mut self, propose: &Propose, digest: Hash, proposal: Hash) -> Said<Prevote> {
        let place = (propose.height, propose.round);
        let said = self.places.get(&place).and_then(|own| own.prevote.clone());
        if let Some(message) = said {
            return Said { message, record: None };
        }
        let mut message = Prevote {
            height: propose.height,
            round: propose.round,
            kind: propose.kind,
            instance: propose.instance,
            digest,
            proposal,
            validator: self.own,
            signature: UNSIGNED,
        };
        message.signature = self.sign(Tag::Prevote, &message.signed_body());
        self.places.entry(place).or_default().prevote = Some(message.clone());
        let record = Some(Record::Prevote(message.clone()));
        Said { message, record }
    }

    /// Precommits the header that `polka`, a quorum of prevotes, is for.
    ///
    /// # Panics
    /// When `polka` is no quorum for one digest in one place (S2).
    pub fn precommit(
        &mut self,
        set: &ValidatorSet,
        polka: Vec<Prevote>,
        tips: Vec<Tip>,
        time: Time,
    ) -> Said<Precommit> {
        let first = polka.first().expect("a polka has votes");
        let place = (first.height, first.round);
        if let Some((message, _)) = self.precommitted(place).cloned() {
            return Said { message, record: None };
        }
        let same = |vote: &Prevote| {
            (vote.height, vote.round, vote.kind, vote.instance, vote.digest)
                == (first.height, first.round, first.kind, first.instance, first.digest)
        };
        assert!(polka.iter().all(same), "a polka is for one header in one place");
        assert!(polka.is_sorted_by(|a, b| a.validator < b.validator), "a validator votes once");
        let power =
            polka.iter().fold(0_u128, |sum, vote| sum.saturating_add(set.power(vote.validator)));
        assert!(set.is_quorum(power), "a polka is a quorum");
        let mut message = Precommit {
            height: first.height,
            round: first.round,
            kind: first.kind,
            instance: first.instance,
            digest: first.digest,
            tips,
            suspects: Vec::new(),
            time,
            validator: self.own,
            signature: UNSIGNED,
        };
        message.signature = self.sign(Tag::Precommit, &message.signed_body());
        self.places.entry(place).or_default().precommit = Some((message.clone(), polka.clone()));
        let record = Some(Record::Precommit { vote: message.clone(), polka });
        Said { message, record }
    }

    /// Acknowledges chunks; `None` when nothing is new in `tips`. They ascend by lane.
    ///
    /// # Panics
    /// When another chunk of the same place was acked before (S3).
    pub fn ack(&mut self, tips: &[Tip]) -> Option<Said<Ack>> {
        let is_new = |tip: &Tip| match self.acks.get(&tip.lane) {
            None => true,
            Some((last, _)) if (last.term, last.index) == (tip.term, tip.index) => {
                assert_eq!(last, tip, "one chunk is acked for each lane, term and index");
                false
            }
            Some((last, _)) => (last.term, last.index) < (tip.term, tip.index),
        };
        let tips: Vec<Tip> = tips.iter().filter(|tip| is_new(tip)).copied().collect();
        if tips.is_empty() {
            return None;
        }
        let mut message = Ack { validator: self.own, tips, signature: UNSIGNED };
        message.signature = self.sign(Tag::Ack, &message.signed_body());
        for tip in &message.tips {
            self.acks.insert(tip.lane, (*tip, message.clone()));
        }
        let record = Some(Record::Ack(message.clone()));
        Some(Said { message, record })
    }

    /// The last tip that was acked in each lane.
    pub fn acked(&self) -> impl Iterator<Item = &Tip> {
        self.acks.values().map(|(tip, _)| tip)
    }

    /// Remembers that a chunk of a lane was signed before.
    pub fn restore_chunk(&mut self, lane: Lane, term: Term, index: u64) {
        let last = self.chunks.entry(lane).or_insert((term, index));
        *last = (*last).max((term, index));
    }

    fn last_acks(&self) -> Vec<Ack> {
        let mut acks: Vec<Ack> = Vec::new();
        for (_, ack) in self.acks.values() {
            if !acks.contains(ack) {
                acks.push(ack.clone());
            }
        }
        acks
    }

    /// Signs what execution of a height gave.
    ///
    /// # Panics
    /// When it gave another thing before (S4): execution is a pure function of the order.
    pub fn state(&mut self, state: SignedState) -> Said<StateVote> {
        if let Some(message) = self.states.get(&state.height).copied() {
            assert_eq!(message.state, state, "execution of one height gives one state");
            return Said { message, record: None };
        }
        let signature = self.sign(Tag::StateVote, &state.to_bytes());
        let message = StateVote { state, validator: self.own, signature };
        self.states.insert(state.height, message);
        Said { message, record: Some(Record::StateVote(message)) }
    }

    /// Signs the header of the next chunk of a lane that this validator sequences. The chunk itself is the record: it is
    /// written to its lane and leaves when it is durable.
    ///
    /// # Panics
    /// When a chunk of that index or a later one was signed before (S3).
    pub fn chunk(&mut self, header: &ChunkHeader) -> Signature {
        let place = (header.term, header.index);
        let last = self.chunks.insert(header.lane, place);
        assert!(last < Some(place), "one chunk header is signed for each lane, term and index");
        self.sign(Tag::Chunk, &header.to_bytes())
    }

    /// Forgets votes of heights up to `committed`, and state votes of heights up to `certified`.
    pub fn forget(&mut self, committed: Height, certified: Height) {
        self.places.retain(|(height, _), _| *height > committed);
        self.states.retain(|height, _| *height > certified);
    }

    /// Every record that is still needed: a log that holds these restores this.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let mut records: Vec<Record> = self.last_acks().into_iter().map(Record::Ack).collect();
        records.extend(self.states.values().map(|vote| Record::StateVote(*vote)));
        for own in self.places.values() {
            records.extend(own.propose.clone().map(|propose| Record::Propose(Box::new(propose))));
            records.extend(own.prevote.clone().map(Record::Prevote));
            let precommit = own.precommit.clone();
            records.extend(precommit.map(|(vote, polka)| Record::Precommit { vote, polka }));
        }
        records
    }

    fn sign(&self, tag: Tag, body: &[u8]) -> Signature {
        sign_tagged(&self.key, &self.chain, self.epoch, tag, body)
    }
}

/// Stands where a signature comes before it is made; no signature of any suite is zero.
const UNSIGNED: Signature = Signature([0; 64]);
