//! The machine of one validator: from tips and votes to committed headers.
//!
//! ```text
//!            ┌────────────────────── height h ───────────────────────┐
//!  due ──> propose ──> prevote (header valid, chunks held) ──> polka ──> precommit ──> QC2 ──> Commit, h + 1
//! ```
//! A height is **due** `interval_min` after the last commit when a replicated tip lies beyond the cut (and the state
//! certificates allow lanes to move), else `interval_idle` after it: certificates of idle heights do not start heights.

use std::collections::{BTreeMap, VecDeque};

use quipu_crypto::Tag;
use quipu_crypto::suite::SecretKey;
use quipu_proof::names::{header_hash, proposal_hash};
use quipu_types::{
    Ack, ChunkHeader, CommitCertificate, Encode, Hash, Header, Height, Lane, Precommit, Prevote,
    Propose, RoundKind, Signature, SignedState, StateCertificate, StateVote, Time, Tip,
    ValidatorIndex, ValidatorSet,
};
use thiserror::Error;

use crate::Now;
use crate::header::{self, CertificateError, Context, HeaderError, Parent, tip_of, verify_by};
use crate::record::{Message, Record};
use crate::safety::{Safety, Said};
use crate::tally::{Acks, StateVotes, Votes};

/// The only round that is built.
const ROUND: u32 = 0;
/// Messages of the next height that are kept for each validator: one of each kind.
const AHEAD_COUNT_MAX: usize = 4;
/// Heights whose state votes are collected.
const STATE_HEIGHT_COUNT_MAX: usize = 1_024;

/// How a core is set up.
#[derive(Debug)]
pub struct Config {
    /// The ledger.
    pub chain: Hash,
    /// The epoch's validators.
    pub set: ValidatorSet,
    /// The voting key; its public key is in the set.
    pub key: SecretKey,
    /// Least time between two heights.
    pub interval_min_us: u64,
    /// Time after which a height is made though nothing moved.
    pub interval_idle_us: u64,
}

/// What this validator holds of the lanes: answered by whoever keeps them.
pub trait Holdings {
    /// The tip at chunk `index` of `lane`, when its header is held and links, hash by hash, to the last committed tip.
    fn linked(&self, lane: Lane, index: u64) -> Option<Tip>;
    /// Index of the lane's last chunk whose body, with all before it, is checked and durable.
    fn durable(&self, lane: Lane) -> u64;
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Another validator's message.
    Message(Message),
    /// An own ack became durable, with the chunks that it names.
    Acked(Ack),
    /// An executed height's roots.
    Executed(SignedState),
    /// Time passed, or holdings changed.
    Timer,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Log the record; nothing that comes after it may leave before it is durable (I2).
    Persist(Record),
    /// Tell every other validator.
    Send(Message),
    /// The header is final.
    Commit {
        /// The header.
        header: Header,
        /// Its hash.
        hash: Hash,
        /// Precommits of a quorum.
        certificate: CommitCertificate,
    },
    /// A quorum signed a state.
    StateCertified(StateCertificate),
}

/// Why a message was not taken. The sender is to blame, and the core is as it was.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// Bytes that are no message.
    #[error("the bytes are no message")]
    Malformed,
    /// The height was committed before.
    #[error("height {height} is committed")]
    Stale {
        /// The message's height.
        height: Height,
    },
    /// Too far ahead, or too many.
    #[error("height {height} is too far ahead")]
    Ahead {
        /// The message's height.
        height: Height,
    },
    /// Its signature does not verify.
    #[error(transparent)]
    Signature(#[from] CertificateError),
    /// Not the leader's proposal.
    #[error("validator {instance} does not lead height {height}")]
    Leader {
        /// Who proposed.
        instance: ValidatorIndex,
        /// The height.
        height: Height,
    },
    /// A header that may not follow.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The validator said another thing of the same place before: evidence.
    #[error("validator {validator} said two things at height {height}")]
    Equivocation {
        /// Who.
        validator: ValidatorIndex,
        /// Where.
        height: Height,
    },
    /// The message belongs to a part that is not built.
    #[error("{what} is not built yet")]
    NotBuilt {
        /// Which.
        what: &'static str,
    },
}

/// Why a core cannot be made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// The key is not of the set.
    #[error("the voting key is not of a validator of the set")]
    NotAValidator,
}

#[derive(Clone, Debug)]
struct Proposal {
    propose: Propose,
    digest: Hash,
    hash: Hash,
}

/// What is known of the height that is being decided.
#[derive(Clone, Debug, Default)]
struct Round {
    proposal: Option<Proposal>,
    prevoted: bool,
    precommitted: bool,
    prevotes: Votes<Prevote>,
    precommits: Votes<Precommit>,
}

/// The machine.
#[derive(Debug)]
pub struct Core {
    context: Context,
    interval_min_us: u64,
    interval_idle_us: u64,
    safety: Safety,
    leader: ValidatorIndex,
    parent: Parent,
    committed_mono_us: u64,
    /// Whether the last commit has left, so that the next height may begin.
    is_settled: bool,
    round: Round,
    ahead: Vec<Message>,
    acks: Acks,
    states: BTreeMap<Height, StateVotes>,
    /// The newest state certificate that no header embeds.
    certificate: Option<StateCertificate>,
    outputs: VecDeque<Output>,
}

impl Core {
    /// A core that follows `parent`, with what was logged before. Nothing is sent before the first step.
    ///
    /// # Errors
    /// When the key is of no validator.
    pub fn new(
        now: Now,
        config: Config,
        parent: Parent,
        records: Vec<Record>,
        holdings: &impl Holdings,
    ) -> Result<Self, StartError> {
        let Config { chain, set, key, interval_min_us, interval_idle_us } = config;
        let own = set.index_of(&key.public()).ok_or(StartError::NotAValidator)?;
        let mut safety = Safety::new(key, chain, set.epoch, own);
        let held = |tip: &Tip| match tip_of(&parent.cut, tip.lane) {
            Some(committed) if tip.index <= committed.index => tip.term <= committed.term,
            _ => holdings.linked(tip.lane, tip.index) == Some(*tip),
        };
        for record in records {
            safety.restore(record, held);
        }
        safety.forget(parent.height, parent.certified);
        let mut acks = Acks::default();
        for tip in safety.acked() {
            acks.add(own, *tip);
        }
        let leader = primary(&set);
        let context = Context { chain, set };
        Ok(Self {
            context,
            interval_min_us,
            interval_idle_us,
            safety,
            leader,
            parent,
            committed_mono_us: now.mono_us,
            is_settled: true,
            round: Round::default(),
            ahead: Vec::new(),
            acks,
            states: BTreeMap::new(),
            certificate: None,
            outputs: VecDeque::new(),
        })
    }

    /// Takes an event.
    ///
    /// # Errors
    /// When the event is a message that does not hold; the state is then unchanged.
    pub fn step(
        &mut self,
        now: Now,
        event: Event,
        holdings: &impl Holdings,
    ) -> Result<(), Refused> {
        match event {
            Event::Message(message) => self.message(message)?,
            Event::Acked(ack) => self.count_ack(&ack),
            Event::Executed(state) => self.executed(state),
            Event::Timer => {}
        }
        while self.advance(now, holdings) {}
        Ok(())
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Event::Timer`] is due, in microseconds of the monotonic clock.
    #[must_use]
    pub fn wake_at(&self, holdings: &impl Holdings) -> Option<u64> {
        let idle = self.round.proposal.is_none() && self.leader == self.safety.own();
        (idle && self.is_settled).then(|| self.due_at(holdings))
    }

    /// The last [`Output::Commit`] has left: its votes are durable. Until then no height is begun, so a slow medium holds
    /// heights back instead of being left behind.
    pub fn settle(&mut self) {
        self.is_settled = true;
    }

    /// What the next header follows.
    #[must_use]
    pub const fn parent(&self) -> &Parent {
        &self.parent
    }

    /// Signs an ack of these durable-to-be tips; the record to log, if anything is new. Feed [`Event::Acked`] when it
    /// and the chunks are durable.
    pub fn ack(&mut self, tips: &[Tip]) -> Option<(Record, Ack)> {
        let Said { message, record } = self.safety.ack(tips)?;
        Some((record?, message))
    }

    /// Remembers that this validator signed chunks of a lane up to this one, before a restart.
    pub fn restore_chunk(&mut self, header: &ChunkHeader) {
        self.safety.restore_chunk(header.lane, header.term, header.index);
    }

    /// Signs the header of a chunk that this validator sequences.
    pub fn sign_chunk(&mut self, header: &ChunkHeader) -> Signature {
        self.safety.chunk(header)
    }

    /// Which validator this is.
    #[must_use]
    pub const fn own(&self) -> ValidatorIndex {
        self.safety.own()
    }

    /// Forgets what was logged about heights up to `durable`, whose headers are durable, and gives what is still needed.
    pub fn checkpoint(&mut self, durable: Height) -> Vec<Record> {
        let committed = durable.min(self.parent.height);
        self.safety.forget(committed, self.parent.certified);
        self.safety.records()
    }

    fn height(&self) -> Height {
        self.parent.height.next()
    }

    fn due_at(&self, holdings: &impl Holdings) -> u64 {
        let logged = self.safety.proposed((self.height(), ROUND)).is_some();
        let interval = if logged {
            0
        } else if self.moved(holdings) {
            self.interval_min_us
        } else {
            self.interval_idle_us
        };
        self.committed_mono_us.saturating_add(interval)
    }

    /// Whether a height now would move a lane.
    fn moved(&self, holdings: &impl Holdings) -> bool {
        self.parent.may_move(self.certificate.as_ref())
            && self.parent.cut.iter().any(|tip| self.replicated(tip, holdings).is_some())
    }

    /// The lane's highest tip beyond `committed` that a quorum acknowledged.
    fn replicated(&self, committed: &Tip, holdings: &impl Holdings) -> Option<Tip> {
        let set = &self.context.set;
        self.reached(committed, holdings, |power| set.is_quorum(power))
    }

    /// The lane's highest tip beyond `committed` that a third acknowledged.
    fn available(&self, committed: &Tip, holdings: &impl Holdings) -> Option<Tip> {
        let set = &self.context.set;
        self.reached(committed, holdings, |power| set.is_third(power))
    }

    fn reached(
        &self,
        committed: &Tip,
        holdings: &impl Holdings,
        enough: impl Fn(u128) -> bool,
    ) -> Option<Tip> {
        let linked = |index| {
            let beyond = index > committed.index;
            beyond.then(|| holdings.linked(committed.lane, index)).flatten()
        };
        self.acks.reached(&self.context.set, committed.lane, linked, enough)
    }

    /// One step of the round, if one is due.
    fn advance(&mut self, now: Now, holdings: &impl Holdings) -> bool {
        let Some(proposal) = self.round.proposal.clone() else {
            return self.propose(now, holdings);
        };
        if !self.round.prevoted && self.holds(&proposal.propose.header, holdings) {
            let said = self.safety.prevote(&proposal.propose, proposal.digest, proposal.hash);
            let vote = self.say(said, Message::Prevote);
            self.round.prevoted = true;
            self.round.prevotes.add(vote);
            return true;
        }
        if !self.round.precommitted {
            return self.precommit(now, &proposal, holdings);
        }
        let quorum = self.round.precommits.quorum(&self.context.set, &proposal.digest);
        let Some(precommits) = quorum else { return false };
        self.commit(now, proposal, CommitCertificate { precommits });
        true
    }

    fn propose(&mut self, now: Now, holdings: &impl Holdings) -> bool {
        let leads = self.is_settled && self.leader == self.safety.own();
        let due = leads && now.mono_us >= self.due_at(holdings);
        if !due {
            return false;
        }
        let logged = self.safety.proposed((self.height(), ROUND)).cloned();
        let said = match logged {
            Some(message) => Said { message, record: None },
            None => {
                let Some(cut) = self.next_cut(holdings) else { return false };
                let own = self.safety.own();
                let certificate = self.certificate.clone();
                let header = self.parent.next(&self.context, own, cut, certificate);
                self.safety.propose(ROUND, header)
            }
        };
        let propose = self.say(said, |propose| Message::Propose(Box::new(propose)));
        self.round.proposal = Some(Proposal::new(propose));
        true
    }

    /// A tip for each lane; `None` while a chunk that inclusion demands is not held.
    fn next_cut(&self, holdings: &impl Holdings) -> Option<Vec<Tip>> {
        if !self.parent.may_move(self.certificate.as_ref()) {
            return Some(self.parent.cut.clone());
        }
        let tip = |before: &Tip| {
            let tip = self.replicated(before, holdings).unwrap_or(*before);
            let required = self.parent.index_required(&self.context.set, before.lane);
            if tip.index >= required { Some(tip) } else { holdings.linked(before.lane, required) }
        };
        self.parent.cut.iter().map(tip).collect()
    }

    /// I3, for a prevote: each tip is the old one, or held, linked to it, and acked by a third.
    fn holds(&self, header: &Header, holdings: &impl Holdings) -> bool {
        header.cut.iter().zip(&self.parent.cut).all(|(tip, before)| {
            let available = || self.available(before, holdings).map_or(0, |tip| tip.index);
            tip == before
                || (holdings.linked(tip.lane, tip.index) == Some(*tip) && available() >= tip.index)
        })
    }

    fn precommit(&mut self, now: Now, proposal: &Proposal, holdings: &impl Holdings) -> bool {
        let Some(polka) = self.round.prevotes.quorum(&self.context.set, &proposal.digest) else {
            return false;
        };
        let header = &proposal.propose.header;
        let durable = |tip: &Tip| holdings.durable(tip.lane) >= tip.index;
        let moved = header.cut.iter().zip(&self.parent.cut).filter(|(tip, before)| tip != before);
        let held = self.holds(header, holdings) && moved.into_iter().all(|(tip, _)| durable(tip));
        if !held {
            return false;
        }
        let tips = header.cut.iter().filter_map(|tip| self.available(tip, holdings));
        let tips: Vec<Tip> = tips.filter(durable).collect();
        let time = Time::new(now.wall_us).max(header.time.next());
        let said = self.safety.precommit(&self.context.set, polka, tips, time);
        let vote = self.say(said, Message::Precommit);
        self.round.precommitted = true;
        self.round.precommits.add(vote);
        true
    }

    fn commit(&mut self, now: Now, proposal: Proposal, certificate: CommitCertificate) {
        let Proposal { propose, digest, .. } = proposal;
        let header = propose.header;
        self.parent = Parent::of(&header, certificate.clone(), self.parent.certified);
        self.committed_mono_us = now.mono_us;
        self.is_settled = false;
        self.round = Round::default();
        let certified = self.parent.certified;
        self.certificate = self.certificate.take().filter(|kept| kept.state.height > certified);
        self.states.retain(|height, _| *height > certified);
        self.outputs.push_back(Output::Commit { header, hash: digest, certificate });
        for message in std::mem::take(&mut self.ahead) {
            // It was signed by its sender, but may not fit the header that was committed: then it is dropped.
            let _ = self.message(message);
        }
    }

    /// Logs what is new, then sends.
    fn say<T: Clone>(&mut self, said: Said<T>, message: impl FnOnce(T) -> Message) -> T {
        self.outputs.extend(said.record.map(Output::Persist));
        self.outputs.push_back(Output::Send(message(said.message.clone())));
        said.message
    }

    fn executed(&mut self, state: SignedState) {
        let said = self.safety.state(state);
        let vote = self.say(said, Message::StateVote);
        self.count_state(&vote);
    }

    fn count_state(&mut self, vote: &StateVote) -> bool {
        let votes = self.states.entry(vote.state.height).or_default();
        if !votes.add(vote) {
            return false;
        }
        if let Some(certificate) = votes.quorum(&self.context.set, &vote.state) {
            let height = certificate.state.height;
            let newest = self.certificate.as_ref().map(|kept| kept.state.height);
            if height > self.parent.certified && newest < Some(height) {
                self.certificate = Some(certificate.clone());
            }
            if height <= self.parent.certified {
                self.states.remove(&height);
            }
            self.outputs.push_back(Output::StateCertified(certificate));
        }
        true
    }

    fn count_ack(&mut self, ack: &Ack) {
        for tip in &ack.tips {
            self.acks.add(ack.validator, *tip);
        }
    }

    fn message(&mut self, message: Message) -> Result<(), Refused> {
        self.verify(&message)?;
        match message {
            Message::Ack(ack) => {
                let known = |tip: &Tip| tip_of(&self.parent.cut, tip.lane).is_some();
                if !ack.tips.iter().all(known) {
                    return Err(HeaderError::CutShape.into());
                }
                self.count_ack(&ack);
                Ok(())
            }
            Message::StateVote(vote) => self.state_vote(&vote),
            Message::Propose(propose) => self.peer_propose(*propose),
            Message::Prevote(vote) => {
                let at = (vote.height, vote.round, vote.kind, vote.instance, vote.validator);
                if self.keep_ahead(vote.height, Message::Prevote(vote.clone()))? {
                    return Ok(());
                }
                self.place(at.1, at.2, at.3)?;
                let counted = self.round.prevotes.add(vote);
                once(counted, at.4, at.0)
            }
            Message::Precommit(vote) => {
                let at = (vote.height, vote.round, vote.kind, vote.instance, vote.validator);
                if self.keep_ahead(vote.height, Message::Precommit(vote.clone()))? {
                    return Ok(());
                }
                self.place(at.1, at.2, at.3)?;
                let counted = self.round.precommits.add(vote);
                once(counted, at.4, at.0)
            }
        }
    }

    fn state_vote(&mut self, vote: &StateVote) -> Result<(), Refused> {
        let height = vote.state.height;
        if height <= self.parent.certified {
            return Err(Refused::Stale { height });
        }
        let full =
            self.states.len() >= STATE_HEIGHT_COUNT_MAX && !self.states.contains_key(&height);
        if full || height > self.height() {
            return Err(Refused::Ahead { height });
        }
        let counted = self.count_state(vote);
        once(counted, vote.validator, height)
    }

    fn peer_propose(&mut self, propose: Propose) -> Result<(), Refused> {
        let (height, instance) = (propose.height, propose.instance);
        if self.keep_ahead(height, Message::Propose(Box::new(propose.clone())))? {
            return Ok(());
        }
        self.place(propose.round, propose.kind, instance)?;
        if propose.header.proposer != instance || propose.header.height != height {
            return Err(Refused::Leader { instance, height });
        }
        if let Some(known) = &self.round.proposal {
            return once(known.propose == propose, instance, height);
        }
        header::check(&propose.header, &self.parent, &self.context)?;
        self.round.proposal = Some(Proposal::new(propose));
        Ok(())
    }

    /// Round 0, led, by the leader.
    fn place(&self, round: u32, kind: RoundKind, instance: ValidatorIndex) -> Result<(), Refused> {
        if round != ROUND {
            return Err(Refused::NotBuilt { what: "round change" });
        }
        if kind != RoundKind::Led {
            return Err(Refused::NotBuilt { what: "open rounds" });
        }
        let height = self.height();
        if instance == self.leader { Ok(()) } else { Err(Refused::Leader { instance, height }) }
    }

    /// Keeps a message of the next height. `false`: it is of this height.
    fn keep_ahead(&mut self, height: Height, message: Message) -> Result<bool, Refused> {
        let current = self.height();
        if height == current {
            return Ok(false);
        }
        if height < current {
            return Err(Refused::Stale { height });
        }
        let sender = message.validator();
        let kept = self.ahead.iter().filter(|kept| kept.validator() == sender).count();
        if height > current.next() || kept >= AHEAD_COUNT_MAX {
            return Err(Refused::Ahead { height });
        }
        if !self.ahead.contains(&message) {
            self.ahead.push(message);
        }
        Ok(true)
    }

    fn verify(&self, message: &Message) -> Result<(), Refused> {
        let (tag, body, signature) = match message {
            Message::Propose(propose) => (Tag::Propose, propose.signed_body(), propose.signature),
            Message::Prevote(vote) => (Tag::Prevote, vote.signed_body(), vote.signature),
            Message::Precommit(vote) => (Tag::Precommit, vote.signed_body(), vote.signature),
            Message::Ack(ack) => (Tag::Ack, ack.signed_body(), ack.signature),
            Message::StateVote(vote) => (Tag::StateVote, vote.state.to_bytes(), vote.signature),
        };
        Ok(verify_by(&self.context, message.validator(), tag, &body, &signature)?)
    }
}

impl Proposal {
    fn new(propose: Propose) -> Self {
        let (digest, hash) = (header_hash(&propose.header), proposal_hash(&propose));
        Self { propose, digest, hash }
    }
}

fn once(counted: bool, validator: ValidatorIndex, height: Height) -> Result<(), Refused> {
    if counted { Ok(()) } else { Err(Refused::Equivocation { validator, height }) }
}

/// The epoch's first in rank: most stake, then the greatest key.
fn primary(set: &ValidatorSet) -> ValidatorIndex {
    let best = set.validators.iter().max_by_key(|validator| (validator.power, validator.key));
    best.and_then(|validator| set.index_of(&validator.key)).unwrap_or_default()
}
