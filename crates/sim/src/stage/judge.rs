//! Who sees everything that is said on a stage, and says what went wrong. It judges by itself: it shares no rule with the
//! code under test but the names of things.

use std::collections::{BTreeMap, BTreeSet};

use quipu_consensus::{Change, Context, LaneTerm, Message, Parent};
use quipu_proof::names::{chunk_hash, header_hash, term_start};
use quipu_replica::PeerMessage;
use quipu_types::{
    ChunkHeader, Hash, Header, Height, Lane, Precommit, Prevote, Propose, RoundChange, Rounds, Term,
    Time, Tip, ValidatorIndex,
};

use super::node::Node;
use super::{Failure, LANE_COUNT, Outcome};

/// How far a time may lie beyond every honest clock: each height adds a microsecond at least.
const TIME_SLACK_US: u64 = 1_000_000;

#[derive(Debug)]
struct Committed {
    hash: Hash,
    time: Time,
    cut: Vec<Tip>,
    terms: Vec<LaneTerm>,
}

/// See the module's header.
#[derive(Debug)]
pub(super) struct Judge {
    context: Context,
    pub(super) criminals: Vec<u16>,
    /// By height; the genesis first.
    committed: Vec<Committed>,
    values: BTreeMap<Hash, Header>,
    votes: BTreeMap<(Height, u32, Hash), BTreeSet<ValidatorIndex>>,
    chunks: BTreeMap<Hash, ChunkHeader>,
    suspected: BTreeMap<(Lane, Term), BTreeSet<u16>>,
    pub(super) tips: Vec<Tip>,
    pub(super) proposals: Vec<Propose>,
    pub(super) prevotes: BTreeMap<(Height, u32, ValidatorIndex), Prevote>,
    pub(super) precommits: BTreeMap<(Height, u32, ValidatorIndex), Precommit>,
    pub(super) changes: BTreeMap<(Height, u32, ValidatorIndex), (RoundChange, Vec<Prevote>)>,
}

impl Judge {
    pub(super) fn new(context: Context, criminals: Vec<u16>, time: Time) -> Self {
        let Parent { hash, cut, terms, .. } = Parent::genesis(context.chain, time, LANE_COUNT, Rounds::genesis(context.set.coin.is_some()));
        Self {
            context,
            criminals,
            committed: vec![Committed { hash, time, cut, terms }],
            values: BTreeMap::new(),
            votes: BTreeMap::new(),
            chunks: BTreeMap::new(),
            suspected: BTreeMap::new(),
            tips: Vec::new(),
            proposals: Vec::new(),
            prevotes: BTreeMap::new(),
            precommits: BTreeMap::new(),
            changes: BTreeMap::new(),
        }
    }

    /// Hears what anyone says.
    pub(super) fn hear(&mut self, message: &PeerMessage, nodes: &BTreeMap<u16, Node>) -> Outcome {
        match message {
            PeerMessage::Chunk(stored) => {
                let header = &stored.header;
                let chunk_hash = chunk_hash(header);
                if self.chunks.insert(chunk_hash, header.clone()).is_none() {
                    self.tips.push(Tip {
                        lane: header.lane,
                        term: header.term,
                        index: header.index,
                        seqno: header.last_seqno(),
                        lane_root: header.lane_root,
                        chunk_hash,
                    });
                }
            }
            PeerMessage::Agreement(Message::Propose(propose)) => {
                self.values.insert(header_hash(&propose.header), propose.header.clone());
                if !self.proposals.contains(propose) {
                    self.proposals.push((**propose).clone());
                }
            }
            PeerMessage::Agreement(Message::Prevote(vote)) => {
                let place = (vote.height, vote.round, vote.validator);
                self.prevotes.entry(place).or_insert_with(|| vote.clone());
            }
            PeerMessage::Agreement(Message::RoundChange(Change { change, polka, .. })) => {
                let place = (change.height, change.round, change.validator);
                self.changes.entry(place).or_insert_with(|| (*change, polka.clone()));
            }
            PeerMessage::Agreement(Message::Precommit(vote)) => return self.vote(vote, nodes),
            _ => {}
        }
        Ok(())
    }

    /// A chunk that was streamed.
    pub(super) fn chunk(&self, hash: &Hash) -> Option<&ChunkHeader> {
        self.chunks.get(hash)
    }

    fn vote(&mut self, vote: &Precommit, nodes: &BTreeMap<u16, Node>) -> Outcome {
        let place = (vote.height, vote.round, vote.validator);
        self.precommits.entry(place).or_insert_with(|| vote.clone());
        for suspected in &vote.suspects {
            self.suspected.entry(*suspected).or_default().insert(vote.validator.get());
        }
        let voters = self.votes.entry((vote.height, vote.round, vote.digest)).or_default();
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
