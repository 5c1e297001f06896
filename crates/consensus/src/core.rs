//! The machine of one validator: from tips and votes to committed headers.
//!
//! ```text
//!            ┌────────────────────────────── height h ──────────────────────────────┐
//!  due ──> propose ──> prevote (header valid, chunks held) ──> polka ──> precommit ──> QC2 ──> Commit, h + 1
//!   r = 0     │ r > 0: with a certificate of round changes             (bodies durable)
//!             └<── change to r + 1 <── timer, a third beyond, a proposal of a later round, the coin of an open round
//! ```
//! In an open round all of this goes on for every proposer at once, and the coin says whose counts (`rounds`).
//!
//! A height is **due** soon after the last commit when a replicated tip lies beyond the cut (and the state certificates
//! allow lanes to move), else `interval_idle` after it (`pace`): certificates of idle heights do not start heights. The
//! timer of round 0 begins when the height is due, that of a later round when it is entered.

mod coins;
mod epoch;
mod intake;
mod late;
mod needs;
mod pace;
mod repeat;
mod rounds;
mod states;
mod vote;
mod work;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use quipu_crypto::coin::{CoinScheme, CoinSecret};
use quipu_crypto::{SecretKey, Verified};
use quipu_proof::Epochs;
use quipu_proof::names::header_hash;
use quipu_proof::schedule::PRIMARY_HEIGHT_COUNT;
use quipu_types::{
    Ack, ChunkHeader, CommitCertificate, Genesis, Hash, Header, Height, Lane, RoundKind, Signature,
    SignedState, StateCertificate, Term, Tip, ValidatorIndex, ValidatorSet, Voters,
};
use thiserror::Error;

use crate::Now;
use crate::certificate::CertificateError;
use crate::evidence::Evidence;
use crate::header::{Context, HeaderError, Parent};
use crate::record::{Message, Record};
use crate::rules::Rules;
use crate::safety::{OwnPrecommit, Safety, Said};
use crate::tally::{Acks, Votes};
use epoch::{ack_is_of_epoch, is_of_epoch};
use late::LateVotes;
use pace::Pace;
pub use states::STATE_COUNT_MAX;
use states::States;
use work::Work;

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
    /// The epochs up to the one of the height that follows.
    pub epochs: Epochs,
    /// Whether sets change: then a word that does not verify may be of an epoch that is not known here yet.
    pub sets_change: bool,
    /// The voting key. One that no validator of the set has, or one without power, says nothing.
    pub key: SecretKey,
    /// Least time between two heights.
    pub interval_min_us: u64,
    /// Time after which a height is made though nothing moved.
    pub interval_idle_us: u64,
    /// Which rules hold: all, but in tests that show what each is for.
    pub rules: Rules,
    /// Signatures of validators that were checked already; whoever checks some of them shares it.
    pub verified: Arc<Verified>,
    /// What makes coins of parts; without it this validator waits for the coins of others.
    pub coin: Option<CoinScheme>,
    /// The own shares of the coin; without them others throw it.
    pub coin_secret: Option<CoinSecret>,
}

impl Config {
    /// What the genesis of `chain` says, with every rule, in its epoch; without what makes coins.
    #[must_use]
    pub fn new(genesis: &Genesis, chain: Hash, key: SecretKey) -> Self {
        Self {
            chain,
            epochs: Epochs::new(genesis.validator_set(), genesis.lane_count),
            sets_change: genesis.stake.is_some(),
            key,
            interval_min_us: genesis.height_interval_min_ms.saturating_mul(1_000),
            interval_idle_us: genesis.height_interval_idle_ms.saturating_mul(1_000),
            rules: Rules::ALL,
            verified: Arc::default(),
            coin: None,
            coin_secret: None,
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
    /// A state's certificate that others gave and that was checked.
    Certified(StateCertificate),
    /// What execution found the next epoch's set to be.
    NextSet(Box<ValidatorSet>),
    /// The header of a hash that was asked for.
    Value(Header),
    /// A header that others committed.
    Decided(Header, CommitCertificate),
    /// Another validator can be reached again: it is told what was said, and it leads again if it had stopped.
    Linked(ValidatorIndex),
    /// A validator stops: up to this height nobody waits for it to lead.
    Leaving(ValidatorIndex, Height),
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
}

impl Refused {
    /// Whether who sent it is to blame: not when it is early or late; nor when it contradicts what was heard before: then
    /// who signed it is, and anyone may have handed it on.
    #[must_use]
    pub const fn is_offence(&self) -> bool {
        let is_offence = !matches!(self, Self::Stale { .. } | Self::Ahead { .. });
        is_offence && !matches!(self, Self::Equivocation { .. })
    }
}

/// The machine.
#[derive(Debug)]
pub struct Core {
    context: Context,
    pace: Pace,
    safety: Safety,
    coin_secret: Option<CoinSecret>,
    /// The next epoch's set, once execution said it.
    next_set: Option<ValidatorSet>,
    parent: Parent,
    /// Whether the last commit has left, so that the next height may begin.
    is_settled: bool,
    /// Signs nothing before this height is committed.
    muted_until: Option<Height>,
    work: Work,
    ahead: Vec<Message>,
    acks: Acks,
    /// Votes of finished heights, for the own proposals.
    late: LateVotes,
    /// Who stops, and up to which height.
    leaving: BTreeMap<ValidatorIndex, Height>,
    /// Own acked tips that no cut had reached when that was looked at last, and when it was.
    unordered: (u64, Vec<Tip>),
    states: States,
    /// The newest state certificate that no header embeds.
    certificate: Option<StateCertificate>,
    outputs: VecDeque<Output>,
}

impl Core {
    /// A core that follows `parent`, with what was logged before. Nothing is sent before the first step.
    #[must_use]
    pub fn new(now: Now, config: Config, parent: Parent, records: Vec<Record>) -> Self {
        let Config {
            chain,
            epochs,
            sets_change,
            key,
            interval_min_us,
            interval_idle_us,
            rules,
            verified,
            coin,
            coin_secret,
        } = config;
        let context =
            Context { sets_change, rules, verified, coin, ..Context::in_epoch(chain, epochs) };
        let mut safety = Safety::new(key, &context);
        for record in records.into_iter().filter(|record| is_of_epoch(record, &context)) {
            safety.restore(record);
        }
        let mut core = Self {
            leaving: BTreeMap::new(),
            context,
            pace: Pace::new(interval_min_us, interval_idle_us, now.mono_us),
            safety,
            coin_secret,
            next_set: None,
            parent,
            is_settled: true,
            muted_until: None,
            work: Work::default(),
            ahead: Vec::new(),
            acks: Acks::default(),
            late: LateVotes::default(),
            unordered: (now.mono_us, Vec::new()),
            states: States::default(),
            certificate: None,
            outputs: VecDeque::new(),
        };
        core.restore(now);
        core
    }

    /// Puts what was logged about this height, and the acks behind it, back into the tallies.
    fn restore(&mut self, now: Now) {
        for ack in self.safety.last_acks() {
            self.acks.add(&ack);
        }
        for OwnPrecommit { acks, .. } in self.safety.all_precommits() {
            let acks = acks.iter().filter(|ack| ack_is_of_epoch(ack, &self.context));
            for ack in acks.filter(|_| self.context.rules.tips_logged) {
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
            if self.context.rules.polka_logged {
                self.work.raise(polka);
            }
            let at = (vote.round, vote.instance);
            self.work.precommits.entry(at).or_default().add(vote.clone());
        }
        if let Some(own) = self.safety.changed(height).cloned() {
            self.work.round = own.change.round;
            self.work.since_us = Some(now.mono_us);
            self.learn(&own.coins);
            self.work.raise(&own.polka);
            self.work.changes.insert(self.safety.own(), own);
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
            Event::Certified(certificate) => {
                self.certify(certificate);
                Ok(())
            }
            Event::NextSet(set) => {
                self.next_set = Some(*set);
                Ok(())
            }
            Event::Linked(peer) => {
                self.leaving.remove(&peer);
                self.repeat_to(peer);
                Ok(())
            }
            Event::Leaving(who, until) => {
                let last = Height::new(self.height().get().saturating_add(PRIMARY_HEIGHT_COUNT));
                self.leaving.insert(who, until.min(last));
                Ok(())
            }
            Event::Timer => Ok(()),
        };
        while self.advance(now, holdings) {}
        self.say_states();
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
        if self.work.since_us.is_none() {
            return Some(self.due_at(holdings));
        }
        let repeat_at = self.work.said_us.saturating_add(REPEAT_US);
        let waits = self.is_silent() || self.work.decided.is_some();
        let deadline = self.deadline().filter(|_| !waits);
        Some(deadline.map_or(repeat_at, |deadline| deadline.min(repeat_at)))
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

    /// Whether it signs nothing, for it does not know what it said before.
    #[must_use]
    pub fn is_muted(&self) -> bool {
        self.muted_until.is_some_and(|height| self.parent.height < height)
    }

    /// Whether this validator remembers having said a vote, a proposal or a round change of a height that is not forgotten.
    #[must_use]
    pub fn remembers(&self, message: &Message) -> bool {
        self.safety.remembers(message)
    }

    /// Whether it remembers having signed a chunk of its lane at this place, or one after it.
    #[must_use]
    pub fn remembers_chunk(&self, tip: &Tip) -> bool {
        self.safety.chunk_signed(tip.lane) >= Some((tip.term, tip.index))
    }

    /// Something that another validator said of this height, if anything was heard.
    #[must_use]
    pub fn word_of(&self, validator: ValidatorIndex) -> Option<Message> {
        let changed = self.work.changes.get(&validator).cloned().map(Message::RoundChange);
        let precommits = self.work.precommits.values().rev();
        let precommit = || precommits.filter_map(|votes| votes.of(validator)).next().cloned();
        let prevotes = self.work.prevotes.values().rev();
        let prevote = || prevotes.filter_map(|votes| votes.of(validator)).next().cloned();
        changed
            .or_else(|| precommit().map(Message::Precommit))
            .or_else(|| prevote().map(Message::Prevote))
    }

    /// Signs an ack of these durable-to-be tips; the record to log, if anything is new. Feed [`Event::Acked`] when it
    /// and the chunks are durable.
    pub fn ack(&mut self, tips: &[Tip]) -> Option<(Record, Ack)> {
        if self.is_silent() {
            return None;
        }
        // Tips of an epoch before are committed, or void.
        let first = |tip: &Tip| self.context.schedule.first_term(tip.lane);
        let tips: Vec<Tip> = tips.iter().filter(|tip| tip.term >= first(tip)).copied().collect();
        let Said { message, record } = self.safety.ack(&tips)?;
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
        (!self.is_silent()).then(|| self.safety.handover(body))
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
        if self.toss() || self.decide() || self.commit(now, holdings) {
            return true;
        }
        if self.work.since_us.is_none() && now.mono_us >= self.due_at(holdings) {
            self.work.since_us = Some(now.mono_us);
            self.work.said_us = now.mono_us;
        }
        self.want_value(now);
        if self.is_silent() || self.work.decided.is_some() {
            self.repeat_if_due(now, holdings);
            return false;
        }
        let went = self.pull(now)
            || self.follow(now)
            || self.end_open(now)
            || self.time_out(now)
            || self.propose(now, holdings)
            || self.prevote(holdings)
            || self.precommit(now, holdings)
            || self.share();
        if !went {
            self.repeat_if_due(now, holdings);
        }
        went
    }

    /// A quorum of precommits in any round decides; in an open round those of the instance that the coin elects.
    fn decide(&mut self) -> bool {
        if self.work.decided.is_some() {
            return false;
        }
        let rules = self.context.rules;
        let found = self.work.precommits.iter().find_map(|((round, instance), votes)| {
            let coin = match self.kind(*round).0 {
                RoundKind::Led => None,
                RoundKind::Open if !rules.coin_commits => None,
                RoundKind::Open => {
                    let (coin, elected) = self.work.coins.of(*round)?;
                    if elected != *instance {
                        return None;
                    }
                    Some(coin)
                }
            };
            let (digest, precommits) = votes.quorum(&self.context.set)?;
            Some((digest, CommitCertificate { precommits, coin }))
        });
        let Some((digest, certificate)) = found else { return false };
        if certificate.coin.is_some() {
            // Whoever lacks a vote of the elected instance would wait for the next round.
            self.outputs.push_back(Output::Send(Message::Done(certificate.clone())));
        }
        self.work.decided = Some((digest, certificate));
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
        let ends = header.next_set.is_some();
        self.late.pass(&header);
        let counted = Voters::of(certificate.precommits.iter().map(|vote| vote.validator));
        let rest = work.precommits.values().flat_map(Votes::all);
        for vote in rest.filter(|vote| !counted.contains(vote.validator)) {
            self.late.take(vote, header.height.next(), &self.context);
        }
        self.context.pass(&header);
        let schedule = &self.context.schedule;
        self.parent = Parent::of(&header, certificate.clone(), &self.parent, schedule);
        if ends {
            self.enter_epoch();
        }
        self.is_settled = false;
        let certified = self.parent.certified;
        self.certificate = self.certificate.take().filter(|kept| kept.state.height > certified);
        let embedded = self.states.unknown(header.state_certificate.as_ref());
        self.outputs.push_back(Output::Commit { header, hash, certificate });
        self.embedded(embedded);
        self.resume(now);
        for message in std::mem::take(&mut self.ahead) {
            // It was signed by its sender, but may not fit the header that was committed: then it is dropped.
            // What was kept may be of an epoch that did not begin, or of the one that ended.
            let is_of_epoch = !self.context.sets_change || self.is_signed(&message);
            let _ = is_of_epoch.then(|| self.take(message));
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
