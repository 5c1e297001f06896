//! What honest validators say, judged as it leaves them. The witness sees every validator's records and messages; no
//! validator does.
//!
//! ```text
//!  WriteVote ──> Words (of one process): rounds left, highest polka      A5, A6
//!  Broadcast ──> Words: is it durable?  Witness: said before otherwise?  A3, A4, A7
//!  Execute ────> Witness: one header a height, inclusion, hold           A1, A7, A8
//! ```
#![expect(clippy::arithmetic_side_effects, reason = "counts of a bounded run")]

use std::collections::{BTreeMap, BTreeSet};

use quipu_consensus::header::STATE_LAG_MAX;
use quipu_consensus::header::tip_of;
use quipu_consensus::{Change, Context, Message, Record, genesis_cut};
use quipu_log::Ledger;
use quipu_proof::names::{chunk_hash, header_hash};
use quipu_types::{
    CommitCertificate, Decode, Encode, Genesis, Hash, Header, Height, Lane, RoundKind, Rounds,
    Term, Time, Tip, ValidatorIndex,
};

use crate::shape::LANE_COUNT;
use crate::{Broken, rule};

/// Chunks of a lane that a process looks at when it starts.
const FOUND_COUNT_MAX: u64 = 16;

/// What a thing that is said only once is about: kind, validator, and up to three numbers.
type Place = (&'static str, ValidatorIndex, u64, u64, u64);

/// Everything that honest validators said, whoever forgot it since.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    said: BTreeMap<Place, Vec<u8>>,
    polkas: BTreeMap<(Height, u32, u64), Hash>,
    precommitted: BTreeMap<(Height, Hash), BTreeSet<ValidatorIndex>>,
    headers: BTreeMap<Hash, Header>,
    /// The committed headers in order, from height 1.
    pub(crate) committed: Vec<Header>,
    terms: BTreeMap<Lane, Term>,
    pub(crate) term_changes: u64,
    pub(crate) round_changes: u64,
    pub(crate) late_rounds: u64,
    pub(crate) open_rounds: u64,
}

/// What one process wrote, and what of it is durable.
#[derive(Debug, Default)]
pub(crate) struct Words {
    /// Messages whose records no sync covers yet.
    written: Vec<Vec<u8>>,
    durable: BTreeSet<Vec<u8>>,
    /// Every record that is in the log.
    recorded: BTreeSet<Vec<u8>>,
    /// For each height the highest round that was gone to, and the round of the polka that was named then.
    left: BTreeMap<Height, (u32, Option<u32>)>,
    /// Chunks that no sync covers yet, and durable ones, cut off since or not, by hash.
    chunks_written: Vec<Hash>,
    chunks: BTreeSet<Hash>,
}

impl Words {
    /// What a process finds in its log: durable only once a sync of its own says so. `chunks` are those that were durable
    /// before, cut off since or not.
    pub(crate) fn found(
        records: impl IntoIterator<Item = Vec<u8>>,
        ledger: &Ledger,
        chunks: BTreeSet<Hash>,
    ) -> Result<Self, Broken> {
        let mut words = Self { chunks, ..Self::default() };
        for lane in (0..LANE_COUNT).map(Lane::new) {
            let last = ledger.tip(lane).map_or(0, |tip| tip.index);
            for index in last.saturating_sub(FOUND_COUNT_MAX) + 1..=last {
                match ledger.chunk_header(lane, index) {
                    Ok(header) => words.wrote(chunk_hash(&header)),
                    Err(error) if error.is_pruned() => {}
                    Err(error) => {
                        let what = format!("chunk {index} of lane {lane}: {error}");
                        return Err(Broken { rule: "V5", what });
                    }
                }
            }
        }
        for bytes in records {
            let record = decode(&bytes)?;
            words.written.push(record.message().to_bytes());
            if let Record::RoundChange(Change { change, .. }) = record {
                words.leave(change.height, change.round, change.high.map(|high| high.round));
            }
            words.recorded.insert(bytes);
        }
        Ok(words)
    }

    fn leave(&mut self, height: Height, round: u32, high: Option<u32>) {
        let left = self.left.entry(height).or_default();
        *left = (*left).max((round, high));
    }

    /// A record is written. `true` when it is new.
    fn write(&mut self, bytes: &[u8], record: &Record) -> Result<bool, Broken> {
        self.written.push(record.message().to_bytes());
        if !self.recorded.insert(bytes.to_vec()) {
            return Ok(false);
        }
        let (height, round) = match record {
            Record::Propose(propose) => (propose.height, propose.round),
            Record::Prevote { vote, .. } => (vote.height, vote.round),
            Record::Precommit { vote, .. } => (vote.height, vote.round),
            Record::RoundChange(Change { change, .. }) => (change.height, change.round),
            Record::Ack(_) | Record::StateVote(_) => return Ok(true),
        };
        let (left, high) = self.left.get(&height).copied().unwrap_or_default();
        rule(round >= left, "A5", || format!("a word on round {round}, {left} was gone to"))?;
        if let Record::RoundChange(Change { change, .. }) = record {
            let named = change.high.map(|high| high.round);
            rule(named >= high, "A6", || format!("high went from {high:?} to {named:?}"))?;
            self.leave(height, round, named);
        }
        Ok(true)
    }

    /// The chunks that its disk keeps for the next process.
    pub(crate) fn into_chunks(self) -> BTreeSet<Hash> {
        self.chunks
    }

    /// A chunk is written.
    pub(crate) fn wrote(&mut self, chunk: Hash) {
        self.chunks_written.push(chunk);
    }

    /// What a sync that begins now will make durable.
    pub(crate) fn take(&mut self) -> Syncing {
        let words = std::mem::take(&mut self.written);
        Syncing { words, chunks: std::mem::take(&mut self.chunks_written) }
    }

    pub(crate) fn synced(&mut self, syncing: Syncing) {
        self.durable.extend(syncing.words);
        self.chunks.extend(syncing.chunks);
    }

    pub(crate) fn is_durable(&self, message: &[u8]) -> bool {
        self.durable.contains(message)
    }

    fn has(&self, tip: &Tip) -> bool {
        self.chunks.contains(&tip.chunk_hash)
    }
}

/// What a sync under way makes durable.
#[derive(Debug)]
pub(crate) struct Syncing {
    words: Vec<Vec<u8>>,
    chunks: Vec<Hash>,
}

fn decode(bytes: &[u8]) -> Result<Record, Broken> {
    Record::from_bytes(bytes)
        .map_err(|error| Broken { rule: "A3", what: format!("a record does not read: {error}") })
}

/// Whose message it is, what it is about, and in which words.
fn places(message: &Message) -> Vec<(Place, Vec<u8>)> {
    let own = message.validator();
    let place = |kind, height: Height, round: u32| (kind, own, height.get(), u64::from(round), 0);
    let vote = |kind, height, round, of: RoundKind, instance: ValidatorIndex| {
        (kind, own, Height::get(height), u64::from(round), open(of, instance))
    };
    let place = match message {
        Message::Propose(propose) => place("propose", propose.height, propose.round),
        Message::Prevote(own) => vote("prevote", own.height, own.round, own.kind, own.instance),
        Message::Precommit(own) => vote("precommit", own.height, own.round, own.kind, own.instance),
        Message::RoundChange(Change { change, .. }) => place("change", change.height, change.round),
        Message::StateVote(vote) => place("state", vote.state.height, 0),
        Message::Ack(ack) => {
            let tip = |tip: &Tip| {
                let lane = u64::from(tip.lane.get());
                (("ack", own, lane, tip.term.get(), tip.index), tip.to_bytes())
            };
            return ack.tips.iter().map(tip).collect();
        }
        Message::CoinShare(share) => place("share", share.height, share.round),
        Message::Done(_) => return Vec::new(),
    };
    vec![(place, message.to_bytes())]
}

/// Each instance of an open round is a place of its own.
fn open(kind: RoundKind, instance: ValidatorIndex) -> u64 {
    match kind {
        RoundKind::Led => 0,
        RoundKind::Open => u64::from(instance.get()) + 1,
    }
}

impl Witness {
    /// An honest validator writes a record.
    pub(crate) fn record(&mut self, words: &mut Words, bytes: &[u8]) -> Result<(), Broken> {
        let record = decode(bytes)?;
        if !words.write(bytes, &record)? {
            return Ok(());
        }
        match &record {
            Record::Propose(propose) => self.header(&propose.header),
            Record::Prevote { header, .. } => self.header(header),
            _ => {}
        }
        self.round_changes += u64::from(matches!(record, Record::RoundChange(_)));
        Ok(())
    }

    fn header(&mut self, header: &Header) {
        self.headers.entry(header_hash(header)).or_insert_with(|| header.clone());
    }

    /// A quorum prevoted `digest`, says someone.
    fn polka(&mut self, place: (Height, u32, u64), digest: Hash) -> Result<(), Broken> {
        let known = *self.polkas.entry(place).or_insert(digest);
        let what = || format!("two headers were prevoted at {place:?}: {known} {digest}");
        rule(known == digest, "A2", what)
    }

    /// An honest validator says something of its own, for the first time or again.
    pub(crate) fn say(
        &mut self,
        message: &Message,
        words: &Words,
        ledger: &Ledger,
    ) -> Result<(), Broken> {
        for (place, bytes) in places(message) {
            if let Some(first) = self.said.get(&place) {
                let what = || format!("{place:?} was said in other words before");
                rule(*first == bytes, "A4", what)?;
                continue;
            }
            self.said.insert(place, bytes);
            match message {
                Message::Precommit(vote) => {
                    let instance = open(vote.kind, vote.instance);
                    self.polka((vote.height, vote.round, instance), vote.digest)?;
                }
                Message::RoundChange(Change { change, polka, .. }) => {
                    if let (Some(high), Some(vote)) = (change.high, polka.first()) {
                        let instance = open(vote.kind, vote.instance);
                        self.polka((change.height, high.round, instance), high.digest)?;
                    }
                }
                _ => {}
            }
            self.hold(message, words, ledger)?;
        }
        Ok(())
    }

    /// Whether this very word was said before.
    pub(crate) fn has_said(&self, message: &Message) -> bool {
        places(message).iter().all(|(place, bytes)| self.said.get(place) == Some(bytes))
    }

    /// A chunk of an honest sequencer leaves it.
    pub(crate) fn chunk(
        &mut self,
        own: ValidatorIndex,
        tip: &Tip,
        words: &Words,
    ) -> Result<(), Broken> {
        let place = ("chunk", own, u64::from(tip.lane.get()), tip.term.get(), tip.index);
        let bytes = tip.to_bytes();
        rule(words.has(tip), "A3", || format!("{place:?} left before it was durable"))?;
        let first = self.said.entry(place).or_insert_with(|| bytes.clone());
        rule(*first == bytes, "A4", || format!("{place:?} was another chunk before"))
    }

    /// Hold before vote: whoever says it has the chunks, whoever precommits has them durably.
    fn hold(&mut self, message: &Message, words: &Words, ledger: &Ledger) -> Result<(), Broken> {
        let (validator, height, digest, is_durable) = match message {
            Message::Prevote(vote) => (vote.validator, vote.height, vote.digest, false),
            Message::Precommit(vote) => (vote.validator, vote.height, vote.digest, true),
            Message::Ack(ack) => {
                // It may leave after the lane was cut back.
                let all = ack.tips.iter().all(|tip| words.has(tip));
                return rule(all, "A7", || format!("{ack:?} is of chunks that are not durable"));
            }
            _ => return Ok(()),
        };
        let header = self.headers.get(&digest);
        let header = header.ok_or_else(|| Broken { rule: "A7", what: format!("{digest}?") })?;
        if self.committed.len() >= usize::try_from(height.get()).unwrap_or(usize::MAX) {
            // What others decided meanwhile may have taken the place of what was held.
            return Ok(());
        }
        let before = self.cut_before(height);
        for (tip, _) in header.cut.iter().zip(&before).filter(|(tip, before)| tip != before) {
            // What was durable may have been cut back since by a decision, before the vote left.
            let held = words.has(tip) || (!is_durable && holds(tip, ledger));
            let kind = if is_durable { "precommits" } else { "prevotes" };
            let what = || format!("{validator} {kind} {height} without {tip:?}");
            rule(held, "A7", what)?;
        }
        if is_durable {
            self.precommitted.entry((height, digest)).or_default().insert(validator);
        }
        Ok(())
    }

    /// The cut that a height's header follows, if the one before is committed.
    pub(crate) fn cut_before(&self, height: Height) -> Vec<Tip> {
        let before = usize::try_from(height.get()).ok().and_then(|height| height.checked_sub(2));
        let header = before.and_then(|before| self.committed.get(before));
        header.map_or_else(|| genesis_cut(LANE_COUNT), |header| header.cut.clone())
    }

    /// Of which kind the rounds of a height are.
    pub(crate) fn rounds_before(&self, height: Height, genesis: &Genesis) -> Rounds {
        let before = usize::try_from(height.get()).ok().and_then(|height| height.checked_sub(2));
        let header = before.and_then(|before| self.committed.get(before));
        header.map_or_else(|| genesis.rounds(), |header| header.rounds)
    }

    /// An honest validator commits. `true` when it is the first to commit this height.
    pub(crate) fn commit(
        &mut self,
        header: &Header,
        certificate: &CommitCertificate,
        context: &Context,
        is_honest: impl Fn(ValidatorIndex) -> bool,
    ) -> Result<bool, Broken> {
        let (height, hash) = (header.height, header_hash(header));
        let place = usize::try_from(height.get()).unwrap_or(usize::MAX).saturating_sub(1);
        if let Some(first) = self.committed.get(place) {
            let what = || format!("height {height} is {} and {hash}", header_hash(first));
            return rule(first == header, "A1", what).map(|()| false);
        }
        rule(place == self.committed.len(), "A1", || format!("height {height} has no parent"))?;
        let set = context.set_at(height);
        let power = |signers: &mut dyn Iterator<Item = ValidatorIndex>| {
            signers.fold(0_u128, |power, signer| power + set.power(signer))
        };
        let named = certificate.digest() == Some(hash);
        let signed = power(&mut certificate.precommits.iter().map(|vote| vote.validator));
        rule(named && set.is_quorum(signed), "A1", || format!("{height}: no quorum"))?;
        // Alone, a validator tells nobody; its votes are judged when it writes them.
        let is_alone = set.validators.len() == 1;
        let held = self.precommitted.get(&(height, hash)).into_iter().flatten().copied();
        let honest = power(&mut held.filter(|voter| is_honest(*voter)));
        rule(is_alone || set.is_third(honest), "A7", || {
            format!("{height} is held by {honest} of {}", set.power_total())
        })?;
        self.inclusion(header, context)?;
        self.time(header, is_honest)?;
        for (lane, term) in &header.term_changes {
            self.terms.insert(*lane, *term);
            self.term_changes += 1;
        }
        let first = certificate.precommits.first();
        self.late_rounds += u64::from(first.is_some_and(|vote| vote.round > 0));
        self.open_rounds += u64::from(first.is_some_and(|vote| vote.kind == RoundKind::Open));
        self.committed.push(header.clone());
        Ok(true)
    }

    /// A header's time is between those of two honest votes, or just above its parent's.
    fn time(
        &self,
        header: &Header,
        is_honest: impl Fn(ValidatorIndex) -> bool,
    ) -> Result<(), Broken> {
        let Some(commit) = &header.prev_commit else { return Ok(()) };
        let honest = commit.precommits.iter().filter(|vote| is_honest(vote.validator));
        let times: Vec<Time> = honest.map(|vote| vote.time).collect();
        let (first, last) = (times.iter().min(), times.iter().max());
        let least = self.committed.last().map(|before| before.time.next());
        let is_between = first <= Some(&header.time) && Some(&header.time) <= last;
        rule(is_between || Some(header.time) == least, "T1", || {
            format!("height {} is of {}, honest votes of {times:?}", header.height, header.time)
        })
    }

    /// Nobody can leave out what a third held when the height before was committed, but for want of a state certificate.
    fn inclusion(&self, header: &Header, context: &Context) -> Result<(), Broken> {
        let Some(commit) = &header.prev_commit else { return Ok(()) };
        let set = context.set_at(Height::new(header.height.get().saturating_sub(1)));
        let embedded = |header: &Header| Some(header.state_certificate.as_ref()?.state.height);
        let certified = self.committed.iter().chain([header]).filter_map(embedded).max();
        if header.height.get() - certified.unwrap_or_default().get() > STATE_LAG_MAX {
            return Ok(());
        }
        for tip in &header.cut {
            let term = self.terms.get(&tip.lane).copied().unwrap_or(Term::new(1));
            let reported = commit.precommits.iter().filter_map(|vote| {
                let own = tip_of(&vote.tips, tip.lane)?;
                (own.term == term).then_some((own.index, set.power(vote.validator)))
            });
            let reported: Vec<(u64, u128)> = reported.collect();
            for (index, _) in reported.iter().filter(|(index, _)| *index > tip.index) {
                let beyond = reported.iter().filter(|(other, _)| other >= index);
                let power = beyond.fold(0_u128, |sum, (_, power)| sum + power);
                let what = || format!("{tip:?} leaves out chunk {index}, which {power} hold");
                rule(!set.is_third(power), "A8", what)?;
            }
        }
        Ok(())
    }
}

/// Whether the chunk of a tip is the one that the lane has there.
fn holds(tip: &Tip, ledger: &Ledger) -> bool {
    let header = ledger.chunk_header(tip.lane, tip.index);
    header.is_ok_and(|header| chunk_hash(&header) == tip.chunk_hash)
}
