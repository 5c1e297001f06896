//! Who sees everything that is said on a stage, and says what went wrong. It judges by itself: it shares no rule with the
//! code under test but the names of things.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quipu_consensus::{Change, Context, Evidence, LaneTerm, Message, Parent};
use quipu_crypto::coin::{share_counts, threshold};
use quipu_proof::names::{chunk_hash, header_hash, term_start};
use quipu_proof::order::tip_after;
use quipu_replica::PeerMessage;
use quipu_types::{
    ChunkHeader, Coin, Genesis, Hash, Header, Height, Lane, Precommit, Prevote, Propose,
    RoundChange, RoundKind, SignedState, Term, Time, Tip, ValidatorIndex,
};

use super::node::Node;
use super::{Failure, LANE_COUNT, Outcome};
use crate::coins::Dealing;

/// How far a time may lie beyond every honest clock: each height adds a microsecond at least.
const TIME_SLACK_US: u64 = 1_000_000;

#[derive(Debug)]
struct Committed {
    hash: Hash,
    time: Time,
    cut: Vec<Tip>,
    terms: Vec<LaneTerm>,
}

/// A vote's place: height, round, voter, instance.
type Ballot = (Height, u32, ValidatorIndex, ValidatorIndex);

/// What is voted on: in an open round each instance by itself.
type Matter = (Height, u32, Option<ValidatorIndex>, Hash);

/// See the module's header.
#[derive(Debug)]
pub(super) struct Judge {
    context: Context,
    pub(super) criminals: Vec<u16>,
    /// By height; the genesis first.
    committed: Vec<Committed>,
    values: BTreeMap<Hash, Header>,
    votes: BTreeMap<Matter, BTreeSet<ValidatorIndex>>,
    dealing: Option<Arc<Dealing>>,
    /// The coin of every round of which something was said that concerns it, and whom it elects.
    coins: BTreeMap<(Height, u32), (Coin, ValidatorIndex)>,
    /// Who said its part.
    shares: BTreeMap<(Height, u32), BTreeSet<u16>>,
    chunks: BTreeMap<Hash, ChunkHeader>,
    suspected: BTreeMap<(Lane, Term), BTreeSet<u16>>,
    pub(super) tips: Vec<Tip>,
    pub(super) proposals: Vec<Propose>,
    pub(super) prevotes: BTreeMap<Ballot, Prevote>,
    pub(super) precommits: BTreeMap<Ballot, Precommit>,
    pub(super) changes: BTreeMap<(Height, u32, ValidatorIndex), (RoundChange, Vec<Prevote>)>,
    /// States that were claimed.
    pub(super) claims: Vec<SignedState>,
}

impl Judge {
    pub(super) fn new(
        context: Context,
        criminals: Vec<u16>,
        genesis: &Genesis,
        dealing: Option<Arc<Dealing>>,
    ) -> Self {
        let first = Parent::genesis(context.chain, genesis.time_us, LANE_COUNT, genesis.rounds());
        let Parent { hash, time, cut, terms, .. } = first;
        Self {
            context,
            criminals,
            committed: vec![Committed { hash, time, cut, terms }],
            dealing,
            coins: BTreeMap::new(),
            shares: BTreeMap::new(),
            values: BTreeMap::new(),
            votes: BTreeMap::new(),
            chunks: BTreeMap::new(),
            suspected: BTreeMap::new(),
            tips: Vec::new(),
            proposals: Vec::new(),
            prevotes: BTreeMap::new(),
            precommits: BTreeMap::new(),
            changes: BTreeMap::new(),
            claims: Vec::new(),
        }
    }

    /// A chunk's header, alone or with all of its body or a part.
    fn hear_chunk(&mut self, header: &ChunkHeader) {
        let chunk_hash = chunk_hash(header);
        if self.chunks.insert(chunk_hash, header.clone()).is_none() {
            self.tips.push(tip_after(header, chunk_hash));
        }
    }

    /// Hears what anyone says.
    pub(super) fn hear(&mut self, message: &PeerMessage, nodes: &BTreeMap<u16, Node>) -> Outcome {
        match message {
            PeerMessage::Chunk(stored) => self.hear_chunk(&stored.header),
            PeerMessage::Stripe(stripe) => self.hear_chunk(&stripe.header),
            PeerMessage::Claim(state) => self.claims.push(*state),
            PeerMessage::Agreement(Message::Propose(propose)) => {
                self.values.insert(header_hash(&propose.header), propose.header.clone());
                if !self.proposals.contains(propose) {
                    self.proposals.push((**propose).clone());
                }
            }
            PeerMessage::Agreement(Message::Prevote(vote)) => {
                let place = (vote.height, vote.round, vote.validator, vote.instance);
                self.prevotes.entry(place).or_insert_with(|| vote.clone());
            }
            PeerMessage::Agreement(Message::RoundChange(Change { change, polka, .. })) => {
                let place = (change.height, change.round, change.validator);
                self.changes.entry(place).or_insert_with(|| (*change, polka.clone()));
            }
            PeerMessage::Agreement(Message::Precommit(vote)) => return self.vote(vote, nodes),
            PeerMessage::Agreement(Message::CoinShare(share)) => {
                let place = (share.height, share.round);
                let _ = self.toss(place);
                self.shares.entry(place).or_default().insert(share.validator.get());
            }
            _ => {}
        }
        Ok(())
    }

    /// What anyone could accuse an honest validator of, for what it says now and said before: evidence that has to be
    /// none.
    pub(super) fn accusations(&self, message: &PeerMessage) -> Vec<Evidence> {
        let PeerMessage::Agreement(message) = message else { return Vec::new() };
        if self.criminals.contains(&message.validator().get()) {
            return Vec::new();
        }
        match message {
            Message::Prevote(vote) if vote.kind == RoundKind::Open => {
                let place = (vote.height, vote.round, vote.validator);
                let others = of_round(&self.prevotes, place, vote.instance);
                let pair =
                    |own: &Prevote| Evidence::Prevotes(Box::new([own.clone(), vote.clone()]));
                others.map(pair).collect()
            }
            Message::Precommit(vote) if vote.kind == RoundKind::Open => {
                let place = (vote.height, vote.round, vote.validator);
                let others = of_round(&self.precommits, place, vote.instance);
                let pair =
                    |own: &Precommit| Evidence::Precommits(Box::new([own.clone(), vote.clone()]));
                others.map(pair).collect()
            }
            Message::RoundChange(Change { change, .. }) => {
                let own = self.precommits.values().filter(|vote| {
                    let same = (vote.height, vote.validator) == (change.height, change.validator);
                    same && vote.kind == RoundKind::Open
                });
                let told = own.filter_map(|vote| {
                    let coin = self.public((vote.height, vote.round))?.0;
                    Some(Evidence::Amnesia(Box::new((vote.clone(), *change, Some(coin)))))
                });
                told.collect()
            }
            _ => Vec::new(),
        }
    }

    /// The coin of a place, and whom it elects, whether anyone can know it or not.
    fn toss(&mut self, place: (Height, u32)) -> Option<(Coin, ValidatorIndex)> {
        let dealing = self.dealing.as_ref()?;
        let message = self.context.coin_message(place);
        Some(*self.coins.entry(place).or_insert_with(|| dealing.elected(&message)))
    }

    /// The same, once the parts that were said, with those of the criminals, are enough to know it.
    pub(super) fn public(&self, place: (Height, u32)) -> Option<(Coin, ValidatorIndex)> {
        let said = self.shares.get(&place)?;
        let powers = self.context.set.powers();
        let counts = share_counts(&powers);
        let knows = |number: &u16| said.contains(number) || self.criminals.contains(number);
        let known = (0_u16..).zip(counts).filter(|(number, _)| knows(number));
        let count = known.map(|(_, count)| usize::from(count)).sum::<usize>();
        (count >= threshold(powers.len())).then(|| self.coins.get(&place).copied()).flatten()
    }

    /// A chunk that was streamed.
    pub(super) fn chunk(&self, hash: &Hash) -> Option<&ChunkHeader> {
        self.chunks.get(hash)
    }

    fn vote(&mut self, vote: &Precommit, nodes: &BTreeMap<u16, Node>) -> Outcome {
        let place = (vote.height, vote.round, vote.validator, vote.instance);
        self.precommits.entry(place).or_insert_with(|| vote.clone());
        for suspected in &vote.suspects {
            self.suspected.entry(*suspected).or_default().insert(vote.validator.get());
        }
        let instance = (vote.kind == RoundKind::Open).then_some(vote.instance);
        if instance.is_some() {
            // What is not elected decides nothing.
            let elected = self.toss((vote.height, vote.round)).map(|(_, elected)| elected);
            if elected != instance {
                return Ok(());
            }
        }
        let matter = (vote.height, vote.round, instance, vote.digest);
        let voters = self.votes.entry(matter).or_default();
        voters.insert(vote.validator);
        let set = &self.context.set;
        let power = voters.iter().fold(0_u128, |power, own| power.saturating_add(set.power(*own)));
        if !set.is_quorum(power) {
            return Ok(());
        }
        let Some(header) = self.values.get(&vote.digest).cloned() else { return Ok(()) };
        self.decide(&header, nodes)
    }

    /// A quorum has precommitted a header: whoever holds those votes may commit it.
    fn decide(&mut self, header: &Header, nodes: &BTreeMap<u16, Node>) -> Outcome {
        let hash = header_hash(header);
        let place = usize::try_from(header.height.get()).unwrap_or(usize::MAX);
        if let Some(known) = self.committed.get(place) {
            let what = || format!("two headers have a quorum at height {}", header.height);
            return if known.hash == hash { Ok(()) } else { Err(Failure::new("FORK", what())) };
        }
        let Some(before) = self.committed.get(place.saturating_sub(1)) else { return Ok(()) };
        if header.prev_header != before.hash {
            let what = format!("height {} does not follow what is committed", header.height);
            return Err(Failure::new("FORK", what));
        }
        self.judge_lanes(header, before, nodes)?;
        self.judge_terms(header, before)?;
        let latest = nodes.values().map(|node| node.now().wall_us).max().unwrap_or(0);
        let is_early = header.time <= before.time;
        if is_early || header.time.get() > latest.saturating_add(TIME_SLACK_US) {
            let what = format!("{} at height {}, clocks show {latest}", header.time, header.height);
            return Err(Failure::new("TIME", what));
        }
        let mut terms = before.terms.clone();
        for (lane, term) in &header.term_changes {
            if let Some(current) = terms.get_mut(usize::from(lane.get())) {
                *current = LaneTerm { term: *term, branch: hash };
            }
        }
        let (time, cut) = (header.time, header.cut.clone());
        self.committed.push(Committed { hash, time, cut, terms });
        Ok(())
    }

    fn judge_lanes(
        &self,
        header: &Header,
        before: &Committed,
        nodes: &BTreeMap<u16, Node>,
    ) -> Outcome {
        let height = header.height;
        for ((tip, old), current) in header.cut.iter().zip(&before.cut).zip(&before.terms) {
            let (lane, mut wanted) = (tip.lane, tip.chunk_hash);
            let first = old.index.saturating_add(1);
            let mut chunks = Vec::new();
            for index in (first..=tip.index).rev() {
                let chunk = self.chunks.get(&wanted).filter(|chunk| chunk.index == index);
                let Some(chunk) = chunk else {
                    let what = format!("lane {lane} at height {height} has no chunk {index}");
                    return Err(Failure::new("LANE FORK", what));
                };
                chunks.push((wanted, chunk));
                wanted = chunk.prev;
            }
            let is_void =
                |chunk: &ChunkHeader| (chunk.term, chunk.branch) != (current.term, current.branch);
            if let Some((_, void)) = chunks.iter().find(|(_, chunk)| is_void(chunk)) {
                let what = format!("chunk {} of lane {lane} at height {height}", void.index);
                return Err(Failure::new("VOID", what));
            }
            let start = term_start(&current.branch, &old.chunk_hash);
            if tip != old && wanted != old.chunk_hash && wanted != start {
                let what = format!("lane {lane} at height {height} leaves what was cut");
                return Err(Failure::new("LANE FORK", what));
            }
            for (hash, chunk) in chunks {
                let place = || format!("chunk {} of lane {lane} at height {height}", chunk.index);
                self.judge_holders(&hash, nodes, place)?;
            }
        }
        Ok(())
    }

    fn judge_holders(
        &self,
        chunk: &Hash,
        nodes: &BTreeMap<u16, Node>,
        place: impl Fn() -> String,
    ) -> Outcome {
        let holders = nodes.iter().filter(|(_, node)| node.holds(chunk));
        let holders: Vec<u16> = holders.map(|(number, _)| *number).collect();
        if self.is_third(&holders) {
            return Ok(());
        }
        Err(Failure::new("NOT DURABLE", format!("{} is held by {holders:?}", place())))
    }

    /// What suspicions a term's end rests on: those said by anyone; criminals may have said any.
    fn judge_terms(&self, header: &Header, before: &Committed) -> Outcome {
        for (lane, _) in &header.term_changes {
            let current = before.terms.get(usize::from(lane.get())).map(|current| current.term);
            let known = current.and_then(|term| self.suspected.get(&(*lane, term)));
            let mut who = known.cloned().unwrap_or_default();
            who.extend(&self.criminals);
            let who: Vec<u16> = who.into_iter().collect();
            let is_honest = who.iter().any(|number| !self.criminals.contains(number));
            if !self.is_third(&who) || !is_honest {
                let what = format!("lane {lane} at height {}: {who:?}", header.height);
                return Err(Failure::new("DEPOSED", what));
            }
        }
        Ok(())
    }

    fn is_third(&self, who: &[u16]) -> bool {
        let set = &self.context.set;
        let powers = who.iter().map(|number| set.power(ValidatorIndex::new(*number)));
        set.is_third(powers.sum())
    }

    /// An honest validator commits a header.
    pub(super) fn commit(&self, header: &Header) -> Outcome {
        let place = usize::try_from(header.height.get()).unwrap_or(usize::MAX);
        let known = self.committed.get(place).map(|committed| committed.hash);
        if known == Some(header_hash(header)) {
            return Ok(());
        }
        let what = format!("height {} is committed without a quorum", header.height);
        Err(Failure::new("FORK", what))
    }
}

/// The votes of one validator in a round, but for those on one instance.
fn of_round<V>(
    votes: &BTreeMap<Ballot, V>,
    (height, round, validator): (Height, u32, ValidatorIndex),
    but: ValidatorIndex,
) -> impl Iterator<Item = &V> {
    let place = move |instance| (height, round, validator, ValidatorIndex::new(instance));
    let all = votes.range(place(0)..=place(u16::MAX));
    all.filter(move |((.., instance), _)| *instance != but).map(|(_, vote)| vote)
}
