//! The machine of one validator: from tips and votes to committed headers.
//!
//! ```text
//!            ┌────────────────────────────── height h ──────────────────────────────┐
//!  due ──> propose ──> prevote (header valid, chunks held) ──> polka ──> precommit ──> QC2 ──> Commit, h + 1
//!   r = 0     │ r > 0: with a certificate of round changes             (bodies durable)
//!             └<── change to r + 1 <── timer, a third beyond, a proposal of a later round
//! ```
//! A height is **due** soon after the last commit when a replicated tip lies beyond the cut (and the state certificates
//! allow lanes to move), else `interval_idle` after it (`pace`): certificates of idle heights do not start heights. The
//! timer of round 0 begins when the height is due, that of a later round when it is entered.

mod intake;
mod needs;
mod pace;
mod work;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use quipu_crypto::{SecretKey, Verified};
use quipu_proof::names::header_hash;
use quipu_types::{
    Ack, ChunkHeader, CommitCertificate, Genesis, Hash, Header, Height, Lane, Propose, Signature,
    SignedState, StateCertificate, StateVote, Term, Time, Tip, ValidatorIndex, ValidatorSet,
};
use thiserror::Error;

use crate::Now;
use crate::evidence::Evidence;
use crate::header::{CertificateError, Context, HeaderError, Parent, tip_of};
use crate::record::{Message, Record};
use crate::rules::Rules;
use crate::safety::{OwnPrecommit, Report, Safety, Said};
use crate::tally::{Acks, StateVotes};
use pace::Pace;
use work::{Proposal, Work};

/// Least time after a commit at which a suspicion alone starts a height.
pub const SUSPICION_INTERVAL_US: u64 = 50_000;
/// Time of a led round, and what each later round has more.
pub const ROUND_US: u64 = 500_000;
/// What each later round of a height has more.
pub const ROUND_MORE_US: u64 = 250_000;
/// Time after which what was said is said again, byte for byte, while nothing is decided.
pub const REPEAT_US: u64 = 500_000;

/// How a core is set up.
#[derive(Debug)]
pub struct Config {
    /// The ledger.
    pub chain: Hash,
    /// The epoch's validators.
    pub set: ValidatorSet,
    /// Lanes of the ledger.
    pub lane_count: u16,
    /// The voting key; its public key is in the set.
    pub key: SecretKey,
    /// Least time between two heights.
    pub interval_min_us: u64,
    /// Time after which a height is made though nothing moved.
    pub interval_idle_us: u64,
    /// Which rules hold: all, but in tests that show what each is for.
    pub rules: Rules,
    /// Signatures of validators that were checked already; whoever checks some of them shares it.
    pub verified: Arc<Verified>,
}

impl Config {
    /// What the genesis of `chain` says, with every rule.
    #[must_use]
    pub fn new(genesis: &Genesis, chain: Hash, key: SecretKey) -> Self {
        Self {
            chain,
            set: genesis.validator_set(),
            lane_count: genesis.lane_count,
            key,
            interval_min_us: genesis.height_interval_min_ms.saturating_mul(1_000),
            interval_idle_us: genesis.height_interval_idle_ms.saturating_mul(1_000),
            rules: Rules::ALL,
            verified: Arc::default(),
        }
    }
}

/// What this validator holds of the lanes: answered by whoever keeps them.
pub trait Holdings {
    /// The tip at chunk `index` of `lane`, when its header is held and links, hash by hash, to the last committed tip.
    fn linked(&self, lane: Lane, index: u64) -> Option<Tip>;
    /// Index of the last held chunk of the chain that ends in `acked`, the last committed one included, as far as chunks
    /// are known, held or not: an ack vouches for the whole chain before it.
    fn foot(&self, acked: &Tip) -> Option<u64> {
        (self.linked(acked.lane, acked.index) == Some(*acked)).then_some(acked.index)
    }
    /// Whether the chain that ends in `acked` passes `tip`, as far as chunks are known, held or not.
    fn passes(&self, acked: &Tip, tip: &Tip) -> bool {
        let is_held = self.linked(tip.lane, tip.index) == Some(*tip);
        acked == tip || (is_held && self.foot(acked).is_some_and(|foot| foot >= tip.index))
    }
    /// Index of the lane's last chunk whose body, with all before it, is checked and durable.
    fn durable(&self, lane: Lane) -> u64;
    /// Lanes whose sequencer this validator suspects, with the term, ascending.
    fn suspects(&self) -> Vec<(Lane, Term)>;
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message, and who handed it over.
    Message(ValidatorIndex, Message),
    /// An own ack became durable, with the chunks that it names.
    Acked(Ack),
    /// An executed height's roots.
    Executed(SignedState),
    /// The header of a hash that was asked for.
    Value(Header),
    /// A header that others committed.
    Decided(Header, CommitCertificate),
    /// Another validator can be reached again: it is told what was said.
    Linked(ValidatorIndex),
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
    /// Tell one validator.
    Reply {
        /// Whom.
        to: ValidatorIndex,
        /// What.
        message: Message,
    },
    /// This header will probably be committed: its execution may begin.
    Speculate {
        /// The header.
        header: Header,
        /// Its hash.
        hash: Hash,
    },
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
    /// Ask others for the bytes of a header of this height.
    WantValue {
        /// The height.
        height: Height,
        /// The header's hash.
        digest: Hash,
    },
    /// Someone asks about a height that is finished: give it the committed headers from there on.
    Answer {
        /// Whom.
        to: ValidatorIndex,
        /// Which height.
        height: Height,
    },
    /// Someone speaks of a height beyond the next: ask it for committed headers.
    Behind {
        /// Whom to ask.
        to: ValidatorIndex,
        /// What it speaks of.
        height: Height,
    },
    /// Nothing was decided for a while: ask anyone for committed headers.
    Stuck,
    /// Proof that a validator broke a rule.
    Evidence(Box<Evidence>),
}

/// A tip that has to be held, and who says that it holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The tip.
    pub tip: Tip,
    /// Who acknowledged it or voted for it.
    pub holders: Vec<ValidatorIndex>,
    /// Whether the height waits for it.
    pub is_due: bool,
    /// Whether another branch of the lane gives way to it: it is decided, or a third acknowledged it. Before that nobody
    /// gives up what it may have reported.
    pub overrides: bool,
}

/// Why a message was not taken. The core is as it was.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// Bytes that are no message.
    #[error("the bytes are no message")]
    Malformed,
    /// The height was committed before. Nobody is to blame.
    #[error("height {height} is committed")]
    Stale {
        /// The message's height.
        height: Height,
    },
    /// Too far ahead, or too many. Nobody is to blame.
    #[error("height {height} is too far ahead")]
    Ahead {
        /// The message's height.
        height: Height,
    },
    /// Its signature does not verify.
    #[error(transparent)]
    Signature(#[from] CertificateError),
    /// Not the leader's proposal.
    #[error("validator {instance} does not lead this round of height {height}")]
    Leader {
        /// Who proposed.
        instance: ValidatorIndex,
        /// The height.
        height: Height,
    },
    /// A round that nothing justifies, or not with this value.
    #[error("validator {instance}: round {round} of height {height} is not justified")]
    Unjustified {
        /// Who says it.
        instance: ValidatorIndex,
        /// The height.
        height: Height,
        /// The round.
        round: u32,
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

impl Refused {
    /// Whether who sent it is to blame: not when it is early, late, or about what this version lacks; nor when it
    /// contradicts what was heard before: then who signed it is, and anyone may have handed it on.
    #[must_use]
    pub const fn is_offence(&self) -> bool {
        let is_offence = !matches!(self, Self::Stale { .. } | Self::Ahead { .. });
        is_offence && !matches!(self, Self::NotBuilt { .. } | Self::Equivocation { .. })
    }
}

/// Why a core cannot be made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// The key is not of the set.
    #[error("the voting key is not of a validator of the set")]
    NotAValidator,
}

/// The machine.
#[derive(Debug)]
pub struct Core {
    context: Context,
    pace: Pace,
    safety: Safety,
    parent: Parent,
    /// Whether the last commit has left, so that the next height may begin.
    is_settled: bool,
    /// Signs nothing before this height is committed.
    muted_until: Option<Height>,
    work: Work,
    ahead: Vec<Message>,
    acks: Acks,
    /// Own acked tips that no cut had reached when that was looked at last, and when it was.
    unordered: (u64, Vec<Tip>),
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
    ) -> Result<Self, StartError> {
        let Config { chain, set, lane_count, key, interval_min_us, interval_idle_us, .. } = config;
        let (rules, verified) = (config.rules, config.verified);
        let own = set.index_of(&key.public()).ok_or(StartError::NotAValidator)?;
        let context = Context { rules, verified, ..Context::new(chain, set, lane_count) };
        let mut safety = Safety::new(key, &context, own);
        for record in records {
            safety.restore(record);
        }
        let mut core = Self {
            context,
            pace: Pace::new(interval_min_us, interval_idle_us, now.mono_us),
            safety,
            parent,
            is_settled: true,
            muted_until: None,
            work: Work::default(),
            ahead: Vec::new(),
            acks: Acks::default(),
            unordered: (now.mono_us, Vec::new()),
            states: BTreeMap::new(),
            certificate: None,
            outputs: VecDeque::new(),
        };
        core.restore(now);
        Ok(core)
    }

    /// Puts what was logged about this height, and the acks behind it, back into the tallies.
    fn restore(&mut self, now: Now) {
        for ack in self.safety.last_acks() {
            self.acks.add(&ack);
        }
        for OwnPrecommit { acks, .. } in self.safety.all_precommits() {
            for ack in acks.iter().filter(|_| self.context.rules.tips_logged) {
                self.acks.add(ack);
            }
        }
        self.safety.forget(self.parent.height, self.parent.certified);
        self.resume(now);
    }

    /// Puts the own words on this height back: also when it begins, for its parent may have been lost after they were logged.
    fn resume(&mut self, now: Now) {
        let height = self.height();
        let headers = self.safety.prevoted_headers(height).cloned();
        self.work.values.extend(headers.map(|header| (header_hash(&header), header)));
        for OwnPrecommit { vote, polka, .. } in self.safety.precommits(height) {
            self.work.raise(polka);
            self.work.precommits.entry(vote.round).or_default().add(vote.clone());
        }
        if let Some((change, polka)) = self.safety.changed(height).cloned() {
            self.work.round = change.round;
            self.work.since_us = Some(now.mono_us);
            self.work.raise(&polka);
            self.work.changes.insert(self.safety.own(), (change, polka));
        }
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
        let taken = match event {
            Event::Message(from, message) => self.message(from, message),
            Event::Value(header) => self.value(header),
            Event::Decided(header, certificate) => self.decided(header, certificate),
            Event::Acked(ack) => {
                self.acks.add(&ack);
                Ok(())
            }
            Event::Executed(state) => {
                self.executed(state);
                Ok(())
            }
            Event::Linked(peer) => {
                self.repeat_to(peer);
                Ok(())
            }
            Event::Timer => Ok(()),
        };
        while self.advance(now, holdings) {}
        self.repeat_acks(now);
        taken
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Event::Timer`] is due, in microseconds of the monotonic clock.
    #[must_use]
    pub fn wake_at(&self, holdings: &impl Holdings) -> Option<u64> {
        if !self.is_settled {
            return None;
        }
        let Some(deadline) = self.deadline() else { return Some(self.due_at(holdings)) };
        let repeat_at = self.work.said_us.saturating_add(REPEAT_US);
        let waits = self.is_muted() || self.work.decided.is_some();
        Some(if waits { repeat_at } else { deadline.min(repeat_at) })
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

    /// The chain, the set, who leads and sequences.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// The round of the height that is being decided.
    #[must_use]
    pub const fn round(&self) -> u32 {
        self.work.round
    }

    /// Signs nothing before `height` is committed: for a validator that does not know what it said before.
    pub fn mute_until(&mut self, height: Height) {
        self.muted_until = Some(height);
    }

    /// Whether it signs nothing.
    #[must_use]
    pub fn is_muted(&self) -> bool {
        self.muted_until.is_some_and(|height| self.parent.height < height)
    }

    /// Signs an ack of these durable-to-be tips; the record to log, if anything is new. Feed [`Event::Acked`] when it
    /// and the chunks are durable.
    pub fn ack(&mut self, tips: &[Tip]) -> Option<(Record, Ack)> {
        if self.is_muted() {
            return None;
        }
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

    /// Signs that this validator gives up a lane; `None` while it signs nothing.
    pub fn sign_handover(&self, body: &[u8]) -> Option<Signature> {
        (!self.is_muted()).then(|| self.safety.handover(body))
    }

    /// The acks of others that vouch for a tip that is held here.
    #[must_use]
    pub fn words_behind(&self, tip: &Tip, holdings: &impl Holdings) -> Vec<Ack> {
        let words = self.acks.behind(tip.lane, |named| holdings.passes(named, tip));
        words.into_iter().map(|word| (*word).clone()).collect()
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

    fn leader(&self, round: u32) -> ValidatorIndex {
        self.context.schedule.leader(self.parent.primary, round)
    }

    fn leads(&self) -> bool {
        self.leader(self.work.round) == self.safety.own()
    }

    /// Whether a leader has begun this height.
    fn has_heard(&self) -> bool {
        !self.work.proposals.is_empty()
    }

    /// Whether the last commit's votes suspect a lane.
    fn is_suspected(&self) -> bool {
        let commit = self.parent.commit.as_ref();
        commit.is_some_and(|commit| {
            let current = |(lane, term): &(Lane, Term)| {
                self.parent.term(*lane).is_some_and(|current| current.term == *term)
            };
            commit.precommits.iter().any(|vote| vote.suspects.iter().any(current))
        })
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
        let linked = |index| beyond(committed, holdings, index);
        let foot = |acked: &Tip| match self.context.rules.acks_beyond {
            true => holdings.foot(acked),
            false => is_linked(acked, holdings).then_some(acked.index),
        };
        self.acks.reached(&self.context.set, committed.lane, (linked, foot), enough)
    }

    /// As [`available`](Self::available), by acks of what is held here alone: that survives a restart.
    fn available_here(&self, committed: &Tip, holdings: &impl Holdings) -> Option<Tip> {
        let set = &self.context.set;
        let linked = |index| beyond(committed, holdings, index);
        let foot = |acked: &Tip| is_linked(acked, holdings).then_some(acked.index);
        self.acks.reached(set, committed.lane, (linked, foot), |power| set.is_third(power))
    }

    /// One step of the height, if one is due.
    fn advance(&mut self, now: Now, holdings: &impl Holdings) -> bool {
        if !self.is_settled {
            return false;
        }
        if self.decide() || self.commit(now, holdings) {
            return true;
        }
        if self.work.since_us.is_none() && now.mono_us >= self.due_at(holdings) {
            self.work.since_us = Some(now.mono_us);
            self.work.said_us = now.mono_us;
        }
        self.want_value(now);
        if self.is_muted() || self.work.decided.is_some() {
            self.repeat_if_due(now, holdings);
            return false;
        }
        let went = self.pull(now)
            || self.follow(now)
            || self.time_out(now)
            || self.propose(now, holdings)
            || self.prevote(holdings)
            || self.precommit(now, holdings);
        if !went {
            self.repeat_if_due(now, holdings);
        }
        went
    }

    /// A quorum of precommits in any round decides.
    fn decide(&mut self) -> bool {
        if self.work.decided.is_some() {
            return false;
        }
        let set = &self.context.set;
        let found = self.work.precommits.values().find_map(|votes| votes.quorum(set));
        let Some((digest, precommits)) = found else { return false };
        self.work.decided = Some((digest, CommitCertificate { precommits }));
        true
    }

    /// What is decided is committed once its header and its chunks are held, durably.
    fn commit(&mut self, now: Now, holdings: &impl Holdings) -> bool {
        let Some((digest, _)) = &self.work.decided else { return false };
        let Some(header) = self.work.values.get(digest) else { return false };
        if !self.moved_tips(header).all(|tip| is_durable(tip, holdings)) {
            return false;
        }
        let work = std::mem::take(&mut self.work);
        let (hash, certificate) = work.decided.expect("it was there above");
        let header = work.values.into_iter().find(|(digest, _)| *digest == hash);
        let (_, header) = header.expect("it was there above");
        self.pace.committed(now.mono_us, &self.parent.cut, &header.cut);
        let schedule = &self.context.schedule;
        self.parent = Parent::of(&header, certificate.clone(), &self.parent, schedule);
        self.is_settled = false;
        let certified = self.parent.certified;
        self.certificate = self.certificate.take().filter(|kept| kept.state.height > certified);
        self.states.retain(|height, _| *height > certified);
        self.outputs.push_back(Output::Commit { header, hash, certificate });
        self.resume(now);
        for message in std::mem::take(&mut self.ahead) {
            // It was signed by its sender, but may not fit the header that was committed: then it is dropped.
            let _ = self.take(message);
        }
        true
    }

    /// Tips of `header` that are not those of the last cut.
    fn moved_tips<'a>(&'a self, header: &'a Header) -> impl Iterator<Item = &'a Tip> {
        let pairs = header.cut.iter().zip(&self.parent.cut);
        pairs.filter(|(tip, before)| tip != before).map(|(tip, _)| tip)
    }

    fn want_value(&mut self, now: Now) {
        let Some(digest) = self.work.missing() else { return };
        let asked = self.work.asked_us;
        if asked.is_none_or(|at| now.mono_us >= at.saturating_add(REPEAT_US / 10)) {
            self.work.asked_us = Some(now.mono_us);
            self.outputs.push_back(Output::WantValue { height: self.height(), digest });
        }
    }

    /// A third beyond pulls (its honest ones have left this round).
    fn pull(&mut self, now: Now) -> bool {
        match self.work.pulled_to(&self.context.set) {
            Some(round) if round > self.work.round => {
                self.enter(now, round);
                true
            }
            _ => false,
        }
    }

    /// A justified proposal of a later round pulls.
    fn follow(&mut self, now: Now) -> bool {
        match self.work.proposals.keys().next_back().copied() {
            Some(round) if round > self.work.round => {
                self.enter(now, round);
                true
            }
            _ => false,
        }
    }

    fn deadline(&self) -> Option<u64> {
        let more = ROUND_MORE_US.saturating_mul(u64::from(self.work.round));
        Some(self.work.since_us?.saturating_add(ROUND_US).saturating_add(more))
    }

    fn time_out(&mut self, now: Now) -> bool {
        if self.deadline().is_none_or(|at| now.mono_us < at) {
            return false;
        }
        self.enter(now, self.work.round.saturating_add(1));
        true
    }

    /// Rule (a): whoever enters a round, in whatever way, first says so; that ends all its voting below.
    fn enter(&mut self, now: Now, round: u32) {
        assert!(round > self.work.round, "rounds are entered upwards");
        let high = self.work.high.clone();
        let said = self.safety.change(self.height(), round, high);
        self.work.round = round;
        self.work.since_us = Some(now.mono_us);
        self.work.said_us = now.mono_us;
        let (change, polka) =
            self.say(said, |(change, polka)| Message::RoundChange { change, polka });
        self.work.changes.insert(self.safety.own(), (change, polka));
    }

    fn propose(&mut self, now: Now, holdings: &impl Holdings) -> bool {
        let round = self.work.round;
        if !self.leads() || self.work.proposals.contains_key(&round) {
            return false;
        }
        if round == 0 && now.mono_us < self.due_at(holdings) {
            return false;
        }
        let said = match self.safety.proposed((self.height(), round)).cloned() {
            Some(message) => Some(Said { message, record: None }),
            None => self.new_proposal(round, holdings),
        };
        let Some(said) = said else { return false };
        let propose = self.say(said, |propose| Message::Propose(Box::new(propose)));
        let proposal = Proposal::new(propose);
        self.work.values.insert(proposal.digest, proposal.propose.header.clone());
        self.work.proposals.insert(round, proposal);
        true
    }

    fn new_proposal(&mut self, round: u32, holdings: &impl Holdings) -> Option<Said<Propose>> {
        let certificate = match round {
            0 => None,
            _ => Some(self.work.certificate(&self.context.set, round)?),
        };
        let high = certificate.as_ref().and_then(quipu_types::RoundChangeCertificate::high);
        let header = match high {
            Some(high) => {
                let known = self.work.values.get(&high.digest).cloned();
                if known.is_none()
                    && let Some(certificate) = &certificate
                {
                    // The bytes are asked for by the polka's name.
                    self.work.raise(&certificate.polka);
                }
                known?
            }
            None => {
                let cut = self.next_cut(holdings)?;
                let (own, certificate) = (self.safety.own(), self.certificate.clone());
                self.parent.next(&self.context, own, cut, certificate)
            }
        };
        self.safety.propose(round, header, certificate)
    }

    /// A tip for each lane; `None` while a chunk that inclusion demands is not held.
    fn next_cut(&self, holdings: &impl Holdings) -> Option<Vec<Tip>> {
        if !self.parent.may_move(self.certificate.as_ref()) {
            return Some(self.parent.cut.clone());
        }
        let tip = |before: &Tip| {
            let tip = self.replicated(before, holdings).unwrap_or(*before);
            let required = self.parent.index_required(&self.context, before.lane);
            if tip.index >= required {
                return Some(tip);
            }
            self.available(before, holdings).filter(|tip| tip.index >= required)
        };
        self.parent.cut.iter().map(tip).collect()
    }

    /// I3, for a prevote: each tip is the old one, or held, linked to it, and acked by a third.
    fn holds(&self, header: &Header, holdings: &impl Holdings) -> bool {
        let (set, rules) = (&self.context.set, self.context.rules);
        header.cut.iter().zip(&self.parent.cut).all(|(tip, before)| {
            let available = || self.available(before, holdings).map_or(0, |tip| tip.index);
            tip == before
                || (is_linked(tip, holdings) && available() >= tip.index)
                || (!rules.hold_headers && set.is_third(self.acks.power_on(set, tip)))
        })
    }

    /// Rounds that are voted in: the current one. Without rule (a) those below it too.
    fn open_rounds(&self) -> std::ops::RangeInclusive<u32> {
        let round = self.work.round;
        if self.context.rules.change_before_vote { round..=round } else { 0..=round }
    }

    fn prevote(&mut self, holdings: &impl Holdings) -> bool {
        let height = self.height();
        let due = self.open_rounds().find_map(|round| {
            let proposal = self.work.proposals.get(&round)?;
            let own = self.work.prevotes.get(&round).and_then(|votes| votes.of(self.own()));
            let is_new = own.is_none() && self.holds(&proposal.propose.header, holdings);
            let said = self.safety.prevoted((height, round)).is_some();
            (own.is_none() && (is_new || said)).then(|| proposal.clone())
        });
        let Some(proposal) = due else { return false };
        let Proposal { propose, digest, hash } = proposal;
        let Some(said) = self.safety.prevote(&propose, digest, hash) else { return false };
        let is_first = said.record.is_some();
        let vote = self.say(said, Message::Prevote);
        self.work.prevotes.entry(propose.round).or_default().add(vote);
        if is_first {
            self.outputs.push_back(Output::Speculate { header: propose.header, hash: digest });
        }
        true
    }

    fn precommit(&mut self, now: Now, holdings: &impl Holdings) -> bool {
        let set = &self.context.set;
        let polka = self.open_rounds().rev().find_map(|round| {
            let own = self.work.precommits.get(&round).and_then(|votes| votes.of(self.own()));
            let (digest, polka) = self.work.prevotes.get(&round)?.quorum(set)?;
            own.is_none().then_some((digest, polka))
        });
        let Some((digest, polka)) = polka else { return false };
        self.work.raise(&polka);
        let Some(header) = self.work.values.get(&digest).cloned() else {
            return false;
        };
        if !self.may_precommit(&header, holdings) {
            return false;
        }
        let report = self.report(now, &header, holdings);
        let said = self.safety.precommit(&self.context.set, polka, report);
        let Some(said) = said else { return false };
        let vote = self.say(said, Message::Precommit);
        self.work.precommits.entry(vote.round).or_default().add(vote);
        true
    }

    /// I3, for a precommit: the bodies are held, checked and durable. A polka says that a third acknowledged the tips.
    fn may_precommit(&self, header: &Header, holdings: &impl Holdings) -> bool {
        !self.context.rules.hold_bodies
            || self.moved_tips(header).all(|tip| is_durable(tip, holdings))
    }

    /// What a precommit for `header` says of the lanes and the time.
    fn report(&self, now: Now, header: &Header, holdings: &impl Holdings) -> Report {
        let rules = self.context.rules;
        let is_ended = |lane: Lane| header.term_changes.iter().any(|(ended, _)| *ended == lane);
        let live = |tip: &&Tip| !is_ended(tip.lane) || !rules.tips_of_live_terms;
        let best = |tip: &Tip| {
            if !rules.tips_extend {
                let own = self.safety.acked().find(|acked| acked.lane == tip.lane);
                return own.filter(|own| own.index > tip.index).copied();
            }
            if !rules.tips_acked {
                return beyond(tip, holdings, holdings.durable(tip.lane));
            }
            self.available_here(tip, holdings).filter(|tip| is_durable(tip, holdings))
        };
        let tips: Vec<Tip> = header.cut.iter().filter(live).filter_map(best).collect();
        let mut acks: Vec<Ack> = Vec::new();
        for tip in &tips {
            let vouches = |named: &Tip| named.index >= tip.index && is_linked(named, holdings);
            for word in self.acks.behind(tip.lane, vouches) {
                if !acks.contains(&word) {
                    acks.push((*word).clone());
                }
            }
        }
        let current = |(lane, term): &(Lane, Term)| {
            self.parent.term(*lane).is_some_and(|current| current.term == *term) && !is_ended(*lane)
        };
        let suspects = holdings.suspects().into_iter().filter(current).collect();
        let time = Time::new(now.wall_us).max(header.time.next());
        Report { tips, acks, suspects, time }
    }

    /// Logs what is new, then sends.
    fn say<T: Clone>(&mut self, said: Said<T>, message: impl FnOnce(T) -> Message) -> T {
        self.outputs.extend(said.record.map(Output::Persist));
        self.outputs.push_back(Output::Send(message(said.message.clone())));
        said.message
    }

    /// What was said and may not have been heard: of this height, of the lanes, of the state.
    fn words(&self) -> Vec<Message> {
        let height = self.height();
        let place = (height, self.work.round);
        let mut words: Vec<Message> =
            self.safety.last_acks().into_iter().map(Message::Ack).collect();
        let change = self.safety.changed(height).cloned();
        words.extend(change.map(|(change, polka)| Message::RoundChange { change, polka }));
        let propose = self.safety.proposed(place).cloned();
        words.extend(propose.map(|propose| Message::Propose(Box::new(propose))));
        words.extend(self.safety.prevoted(place).cloned().map(Message::Prevote));
        words.extend(
            self.safety.precommitted(place).map(|own| Message::Precommit(own.vote.clone())),
        );
        words.extend(self.safety.last_state().map(Message::StateVote));
        words
    }

    fn repeat_to(&mut self, to: ValidatorIndex) {
        let words = self.words().into_iter();
        self.outputs.extend(words.map(|message| Output::Reply { to, message }));
    }

    /// Says again, byte for byte, what was said of a height that takes long, and the acks of chunks that no cut reaches.
    fn repeat_if_due(&mut self, now: Now, holdings: &impl Holdings) {
        let waits = self.work.since_us.is_some() || self.has_unordered();
        if !waits || now.mono_us < self.work.said_us.saturating_add(REPEAT_US) {
            return;
        }
        let is_first = self.work.said_us == 0 && self.work.since_us.is_none();
        self.work.said_us = now.mono_us;
        if is_first {
            return;
        }
        if !self.context.rules.same_bytes && !self.is_muted() {
            self.safety.forget_precommit((self.height(), self.work.round));
            self.work.precommits.remove(&self.work.round);
            self.precommit(now, holdings);
        }
        self.outputs.extend(self.words().into_iter().map(Output::Send));
        self.outputs.push_back(Output::Stuck);
        self.unordered.0 = now.mono_us;
    }

    /// Says again, byte for byte, the acks of tips that no cut reached in [`REPEAT_US`]: heights that are decided at once
    /// repeat nothing, and may go on without a lane whose acks were lost.
    fn repeat_acks(&mut self, now: Now) {
        let (looked_us, before) = &self.unordered;
        if now.mono_us < looked_us.saturating_add(REPEAT_US) {
            return;
        }
        let unordered: Vec<Tip> = self.unordered().copied().collect();
        let is_late = |tip: &Tip| before.contains(tip) && unordered.contains(tip);
        let words = self.safety.last_acks().into_iter();
        let late = words.filter(|word| word.tips.iter().any(is_late));
        self.outputs.extend(late.map(|word| Output::Send(Message::Ack(word))));
        self.unordered = (now.mono_us, unordered);
    }

    /// The own acked tips that no cut reaches; those of a term that ended are void.
    fn unordered(&self) -> impl Iterator<Item = &Tip> {
        self.safety.acked().filter(|acked| {
            let is_beyond =
                tip_of(&self.parent.cut, acked.lane).is_some_and(|tip| acked.index > tip.index);
            let current = self.parent.term(acked.lane);
            is_beyond && current.is_some_and(|current| acked.term >= current.term)
        })
    }

    /// Whether an own ack names what no cut reaches.
    fn has_unordered(&self) -> bool {
        self.unordered().next().is_some()
    }

    fn executed(&mut self, state: SignedState) {
        if self.is_muted() {
            return;
        }
        let said = self.safety.state(state);
        let vote = self.say(said, Message::StateVote);
        self.count_state(&vote);
    }

    fn count_state(&mut self, vote: &StateVote) -> Option<Evidence> {
        let votes = self.states.entry(vote.state.height).or_default();
        if let Some(pair) = votes.add(vote) {
            return Some(Evidence::States(Box::new(pair)));
        }
        if let Some(certificate) = votes.quorum(&self.context.set, &vote.state) {
            let height = certificate.state.height;
            let newest = self.certificate.as_ref().map(|kept| kept.state.height);
            let is_done = height <= self.parent.height;
            if height > self.parent.certified && newest < Some(height) && is_done {
                self.certificate = Some(certificate.clone());
            }
            if height <= self.parent.certified {
                self.states.remove(&height);
            }
            self.outputs.push_back(Output::StateCertified(certificate));
        }
        None
    }
}

/// The tip at `index` if it is held and beyond `tip`.
fn beyond(tip: &Tip, holdings: &impl Holdings, index: u64) -> Option<Tip> {
    (index > tip.index).then(|| holdings.linked(tip.lane, index)).flatten()
}

fn is_linked(tip: &Tip, holdings: &impl Holdings) -> bool {
    holdings.linked(tip.lane, tip.index) == Some(*tip)
}

fn is_durable(tip: &Tip, holdings: &impl Holdings) -> bool {
    is_linked(tip, holdings) && holdings.durable(tip.lane) >= tip.index
}
