//! The only place where a validator signs. It remembers what it said and never says another thing of the same place.
//!
//! ```text
//!  restore(record)… ─> [ Safety: key, own votes by (height, round), own acks, last chunk by lane ]
//!                          │
//!      propose · prevote · precommit · change · ack · state · chunk ─> Said { message, record: new or none }
//! ```
//! # Invariants
//! * S1 For a (height, round) there is one own proposal; one prevote and one precommit, in an open round for each
//!   instance. Asked again, for whatever value, the first is given, byte for byte (consensus I1).
//! * S2 A precommit is made from a polka for its digest, and logged with it.
//! * S3 One chunk is acked for each (lane, index) of a term; acks never go back. One chunk header is signed for each.
//! * S5 Once a round change to r' was said, nothing is voted or proposed in a round below r' (rule (a)).
//! * S4 Two states of one height are never signed: that execution gave two is a fault that stops the validator.

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_crypto::{SecretKey, Tag, Verified, signing_bytes};
use quipu_types::{
    Ack, ChunkHeader, CoinPart, CoinShare, Encode, Hash, Header, Height, High, Lane, Precommit,
    Prevote, Propose, RoundChange, RoundChangeCertificate, RoundCoin, RoundKind, Signature,
    SignedState, StateVote, Term, Time, Tip, ValidatorIndex, ValidatorSet,
};

use crate::header::Context;
use crate::record::{Change, Message, Record};
use crate::rules::Rules;

/// A place that is voted in: height, round, and in an open round the instance. What is said of a whole round (proposals,
/// round changes) stands where the votes of a led one do.
pub type Place = (Height, u32, Option<ValidatorIndex>);

/// Where the votes of a round and instance stand.
#[must_use]
pub fn place(height: Height, round: u32, kind: RoundKind, instance: ValidatorIndex) -> Place {
    (height, round, (kind == RoundKind::Open).then_some(instance))
}

/// Every place of a round.
fn of_round(height: Height, round: u32) -> std::ops::RangeInclusive<Place> {
    (height, round, None)..=(height, round, Some(ValidatorIndex::new(u16::MAX)))
}

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
    prevote: Option<(Prevote, Box<Header>)>,
    precommit: Option<OwnPrecommit>,
    change: Option<Change>,
}

/// A precommit with what it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPrecommit {
    /// The vote.
    pub vote: Precommit,
    /// The polka that allowed it.
    pub polka: Vec<Prevote>,
    /// Acks of a third of each tip that it reports.
    pub acks: Vec<Ack>,
}

/// What a precommit says beside its polka.
#[derive(Clone, Debug)]
pub struct Report {
    /// Per lane the highest available tip.
    pub tips: Vec<Tip>,
    /// Acks of a third of each.
    pub acks: Vec<Ack>,
    /// Lanes and terms suspected.
    pub suspects: Vec<(Lane, Term)>,
    /// The own clock.
    pub time: Time,
}

/// The index of who is none of the validators.
pub const NOBODY: ValidatorIndex = ValidatorIndex::new(u16::MAX);

/// A validator's key and what it said with it.
#[derive(Debug)]
pub struct Safety {
    key: SecretKey,
    chain: Hash,
    epoch: u64,
    own: ValidatorIndex,
    rules: Rules,
    /// Where own signatures are known without a check.
    verified: Arc<Verified>,
    places: BTreeMap<Place, Own>,
    states: BTreeMap<Height, StateVote>,
    /// For each lane the last own ack that named it.
    acks: BTreeMap<Lane, (Tip, Ack)>,
    chunks: BTreeMap<Lane, (Term, u64)>,
}

impl Safety {
    /// A validator that has said nothing yet.
    #[must_use]
    pub fn new(key: SecretKey, context: &Context) -> Self {
        let Context { chain, rules, ref verified, .. } = *context;
        Self {
            chain,
            epoch: context.set.epoch,
            own: context.set.index_of(&key.public()).unwrap_or(NOBODY),
            key,
            rules,
            verified: Arc::clone(verified),
            places: BTreeMap::new(),
            states: BTreeMap::new(),
            acks: BTreeMap::new(),
            chunks: BTreeMap::new(),
        }
    }

    /// Goes on in the epoch of `context`. What was said of heights before stays said; acks of lanes' terms before are void.
    pub fn enter(&mut self, context: &Context) {
        self.acks.clear();
        self.epoch = context.set.epoch;
        self.own = context.set.index_of(&self.key.public()).unwrap_or(NOBODY);
    }

    /// Which validator this is; [`NOBODY`] for a key that the set does not have.
    #[must_use]
    pub const fn own(&self) -> ValidatorIndex {
        self.own
    }

    /// Remembers a logged record. The first of a place stands.
    pub fn restore(&mut self, record: Record) {
        match record {
            Record::Propose(propose) => {
                let own = self.places.entry((propose.height, propose.round, None)).or_default();
                own.propose.get_or_insert(*propose);
            }
            Record::Prevote { vote, header } => {
                let at = place(vote.height, vote.round, vote.kind, vote.instance);
                self.places.entry(at).or_default().prevote.get_or_insert((vote, header));
            }
            Record::Precommit { vote, polka, acks } => {
                let at = place(vote.height, vote.round, vote.kind, vote.instance);
                let own = OwnPrecommit { vote, polka, acks };
                self.places.entry(at).or_default().precommit.get_or_insert(own);
            }
            Record::RoundChange(own) => {
                let at = (own.change.height, own.change.round, None);
                self.places.entry(at).or_default().change.get_or_insert(own);
            }
            Record::Ack(ack) => self.remember_ack(&ack),
            Record::StateVote(vote) => {
                self.states.entry(vote.state.height).or_insert(vote);
            }
        }
    }

    fn remember_ack(&mut self, ack: &Ack) {
        for tip in &ack.tips {
            let known = self.acks.get(&tip.lane).map(|(tip, _)| (tip.term, tip.index));
            if known < Some((tip.term, tip.index)) {
                self.acks.insert(tip.lane, (*tip, ack.clone()));
            }
        }
    }

    /// The own proposal of a round, if one was made.
    #[must_use]
    pub fn proposed(&self, height: Height, round: u32) -> Option<&Propose> {
        self.places.get(&(height, round, None))?.propose.as_ref()
    }

    /// The own prevote of a place, if one was made.
    #[must_use]
    pub fn prevoted(&self, place: Place) -> Option<&Prevote> {
        self.places.get(&place)?.prevote.as_ref().map(|(vote, _)| vote)
    }

    /// The headers that were prevoted at a height: a prevoter serves them, after a restart too.
    pub fn prevoted_headers(&self, height: Height) -> impl Iterator<Item = &Header> {
        self.of_height(height).filter_map(|own| own.prevote.as_ref().map(|(_, header)| &**header))
    }

    /// The own precommit of a place, if one was made.
    #[must_use]
    pub fn precommitted(&self, place: Place) -> Option<&OwnPrecommit> {
        self.places.get(&place)?.precommit.as_ref()
    }

    /// The own precommits of a height, by round.
    pub fn precommits(&self, height: Height) -> impl Iterator<Item = &OwnPrecommit> {
        self.of_height(height).filter_map(|own| own.precommit.as_ref())
    }

    /// The own precommits of every height that is remembered.
    pub fn all_precommits(&self) -> impl Iterator<Item = &OwnPrecommit> {
        self.places.values().filter_map(|own| own.precommit.as_ref())
    }

    /// The own change to the highest round of a height.
    #[must_use]
    pub fn changed(&self, height: Height) -> Option<&Change> {
        self.of_height(height).rev().find_map(|own| own.change.as_ref())
    }

    fn of_height(&self, height: Height) -> impl DoubleEndedIterator<Item = &Own> {
        let last = (height, u32::MAX, Some(ValidatorIndex::new(u16::MAX)));
        self.places.range((height, 0, None)..=last).map(|(_, own)| own)
    }

    /// Whether a round of a height was left.
    fn has_left(&self, (height, round, _): Place) -> bool {
        self.rules.change_before_vote
            && self.changed(height).is_some_and(|own| own.change.round > round)
    }

    /// Proposes `header` in a round; `None` in one that was left.
    pub fn propose(
        &mut self,
        (round, kind): (u32, RoundKind),
        header: Header,
        certificate: Option<RoundChangeCertificate>,
    ) -> Option<Said<Propose>> {
        if let Some(message) = self.proposed(header.height, round).cloned() {
            return Some(Said { message, record: None });
        }
        let place = (header.height, round, None);
        if self.has_left(place) {
            return None;
        }
        let mut message = Propose {
            height: header.height,
            round,
            kind,
            instance: self.own,
            header,
            certificate,
            signature: UNSIGNED,
        };
        message.signature = self.sign(Tag::Propose, &message.signed_body());
        self.places.entry(place).or_default().propose = Some(message.clone());
        let record = Some(Record::Propose(Box::new(message.clone())));
        Some(Said { message, record })
    }

    /// Prevotes for a proposal whose header has the hash `digest` and which itself has the hash `proposal`; `None` in a
    /// round that was left.
    pub fn prevote(
        &mut self,
        propose: &Propose,
        digest: Hash,
        proposal: Hash,
    ) -> Option<Said<Prevote>> {
        let place = place(propose.height, propose.round, propose.kind, propose.instance);
        if let Some(message) = self.prevoted(place).cloned() {
            return Some(Said { message, record: None });
        }
        if self.has_left(place) {
            return None;
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
        let header = Box::new(propose.header.clone());
        let own = (message.clone(), header.clone());
        self.places.entry(place).or_default().prevote = Some(own);
        let record = Some(Record::Prevote { vote: message.clone(), header });
        Some(Said { message, record })
    }

    /// Precommits what `polka` prevoted; `None` in a round that was left.
    ///
    /// # Panics
    /// When `polka` is not a quorum of prevotes of one place and digest (S2).
    pub fn precommit(
        &mut self,
        set: &ValidatorSet,
        polka: Vec<Prevote>,
        report: Report,
    ) -> Option<Said<Precommit>> {
        let first = polka.first().expect("S2: a polka has votes").clone();
        let place = place(first.height, first.round, first.kind, first.instance);
        if let Some(own) = self.precommitted(place) {
            return Some(Said { message: own.vote.clone(), record: None });
        }
        if self.has_left(place) {
            return None;
        }
        let same = |vote: &Prevote| {
            (vote.height, vote.round, vote.kind, vote.instance, vote.digest)
                == (first.height, first.round, first.kind, first.instance, first.digest)
        };
        let power = set.power_of(polka.iter().map(|vote| vote.validator));
        assert!(polka.iter().all(same), "S2: a polka is about one header");
        assert!(set.is_quorum(power), "S2: a polka is a quorum");
        let Report { tips, acks, suspects, time } = report;
        let mut message = Precommit {
            height: first.height,
            round: first.round,
            kind: first.kind,
            instance: first.instance,
            digest: first.digest,
            tips,
            suspects,
            time,
            validator: self.own,
            signature: UNSIGNED,
        };
        message.signature = self.sign(Tag::Precommit, &message.signed_body());
        let own = OwnPrecommit { vote: message.clone(), polka: polka.clone(), acks: acks.clone() };
        self.places.entry(place).or_default().precommit = Some(own);
        let record = Some(Record::Precommit { vote: message.clone(), polka, acks });
        Some(Said { message, record })
    }

    /// Leaves every round of `height` below `round`; `high` is the highest polka seen in the height, `coins` those of every
    /// open round below. A precommit of an instance that its coin did not elect `is_void`.
    ///
    /// # Panics
    /// When `high` does not reach an own precommit below `round` that is not void: that would be amnesia.
    pub fn change(
        &mut self,
        (height, round, kind): (Height, u32, RoundKind),
        high: Option<(High, Vec<Prevote>)>,
        coins: Vec<RoundCoin>,
        is_void: impl Fn(&Precommit) -> bool,
    ) -> Said<Change> {
        let known = self.places.get(&(height, round, None)).and_then(|own| own.change.clone());
        if let Some(message) = known {
            return Said { message, record: None };
        }
        let (high, polka) = high.map_or((None, Vec::new()), |(high, polka)| (Some(high), polka));
        let reached = high.map(|high| high.round);
        let forgotten = self.precommits(height).any(|own| {
            own.vote.round < round && reached < Some(own.vote.round) && !is_void(&own.vote)
        });
        assert!(
            !forgotten || !self.rules.change_before_vote,
            "S2: a round change names the polka of every own precommit"
        );
        let (validator, signature) = (self.own, UNSIGNED);
        let mut change = RoundChange { height, round, kind, high, validator, signature };
        change.signature = self.sign(Tag::RoundChange, &change.signed_body());
        let message = Change { change, polka, coins };
        self.places.entry((height, round, None)).or_default().change = Some(message.clone());
        Said { record: Some(Record::RoundChange(message.clone())), message }
    }

    /// Signs the own part in the coin of an open round. It is a function of the place, so it is not logged: made anew it
    /// is the same.
    #[must_use]
    pub fn share(&self, height: Height, round: u32, parts: Vec<CoinPart>) -> CoinShare {
        let (validator, signature) = (self.own, UNSIGNED);
        let mut message = CoinShare { height, round, validator, parts, signature };
        message.signature = self.sign(Tag::CoinShare, &message.signed_body());
        message
    }

    /// Makes the precommits of a round be said anew: for the test that shows why none ever is.
    pub fn forget_precommits(&mut self, height: Height, round: u32) {
        assert!(!self.rules.same_bytes, "I1: what was said is never said anew");
        for own in self.places.range_mut(of_round(height, round)).map(|(_, own)| own) {
            own.precommit = None;
        }
    }

    /// The own votes of a round, prevotes first.
    #[must_use]
    pub fn votes(&self, height: Height, round: u32) -> Vec<Message> {
        let places = || self.places.range(of_round(height, round)).map(|(_, own)| own);
        let prevotes = places().filter_map(|own| own.prevote.as_ref());
        let prevotes = prevotes.map(|(vote, _)| Message::Prevote(vote.clone()));
        let precommits = places().filter_map(|own| own.precommit.as_ref());
        prevotes.chain(precommits.map(|own| Message::Precommit(own.vote.clone()))).collect()
    }

    /// Acknowledges chunks; `None` when nothing is new in `tips`. They ascend by lane.
    pub fn ack(&mut self, tips: &[Tip]) -> Option<Said<Ack>> {
        let is_new = |tip: &Tip| match self.acks.get(&tip.lane) {
            None => true,
            // Another chunk of this place was acked before: this one is held, and not acked (S3).
            Some((last, _)) if (last.term, last.index) == (tip.term, tip.index) => {
                !self.rules.one_ack && last != tip
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

    /// Whether a vote, a proposal or a round change is what was said of its place.
    #[must_use]
    pub fn remembers(&self, message: &Message) -> bool {
        match message {
            Message::Propose(said) => self.proposed(said.height, said.round) == Some(&**said),
            Message::Prevote(said) => {
                let at = place(said.height, said.round, said.kind, said.instance);
                self.prevoted(at) == Some(said)
            }
            Message::Precommit(said) => {
                let at = place(said.height, said.round, said.kind, said.instance);
                self.precommitted(at).is_some_and(|own| own.vote == *said)
            }
            Message::RoundChange(said) => {
                let own = self.places.get(&(said.change.height, said.change.round, None));
                own.is_some_and(|own| own.change.as_ref() == Some(said))
            }
            Message::Ack(_) | Message::StateVote(_) | Message::Done(_) | Message::CoinShare(_) => {
                true
            }
        }
    }

    /// The last chunk of a lane that was signed.
    #[must_use]
    pub fn chunk_signed(&self, lane: Lane) -> Option<(Term, u64)> {
        self.chunks.get(&lane).copied()
    }

    /// The last own acks: together they name the last acked tip of each lane.
    #[must_use]
    pub fn last_acks(&self) -> Vec<Ack> {
        let mut acks: Vec<Ack> = Vec::new();
        for (_, ack) in self.acks.values() {
            if !acks.contains(ack) {
                acks.push(ack.clone());
            }
        }
        acks
    }

    /// The newest own word on a state.
    #[must_use]
    pub fn last_state(&self) -> Option<StateVote> {
        self.states.values().next_back().copied()
    }

    /// Signs what execution of a height of `epoch` gave.
    ///
    /// # Panics
    /// When it gave another thing before (S4): execution is a pure function of the order.
    pub fn state(&mut self, epoch: u64, state: SignedState) -> Said<StateVote> {
        if let Some(message) = self.states.get(&state.height).copied() {
            assert!(
                message.state == state || !self.rules.claims_ignored,
                "S4: execution of height {} gives one state",
                state.height
            );
            return Said { message, record: None };
        }
        let signature = self.sign_in(epoch, Tag::StateVote, &state.to_bytes());
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

    /// Signs that a lane is given up: the body names the lane, the term and its last chunk.
    #[must_use]
    pub fn handover(&self, body: &[u8]) -> Signature {
        self.sign(Tag::Handover, body)
    }

    /// Forgets votes of heights up to `committed`, and state votes of heights up to `certified`.
    pub fn forget(&mut self, committed: Height, certified: Height) {
        self.places.retain(|(height, ..), _| *height > committed);
        self.states.retain(|height, _| *height > certified);
    }

    /// Every record that is still needed: a log that holds these restores this.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let mut records: Vec<Record> = self.last_acks().into_iter().map(Record::Ack).collect();
        records.extend(self.states.values().map(|vote| Record::StateVote(*vote)));
        for own in self.places.values() {
            records.extend(own.propose.clone().map(|propose| Record::Propose(Box::new(propose))));
            let prevote = own.prevote.clone();
            records.extend(prevote.map(|(vote, header)| Record::Prevote { vote, header }));
            records.extend(own.precommit.clone().map(|own| {
                let OwnPrecommit { vote, polka, acks } = own;
                Record::Precommit { vote, polka, acks }
            }));
            records.extend(own.change.clone().map(Record::RoundChange));
        }
        records
    }

    fn sign(&self, tag: Tag, body: &[u8]) -> Signature {
        self.sign_in(self.epoch, tag, body)
    }

    fn sign_in(&self, epoch: u64, tag: Tag, body: &[u8]) -> Signature {
        let message = signing_bytes(&self.chain, epoch, tag, body);
        let signature = self.key.sign(&message);
        self.verified.made(&self.key.public(), &message, &signature);
        signature
    }
}

/// Stands where a signature comes before it is made; no signature of any suite is zero.
const UNSIGNED: Signature = Signature([0; 64]);
