//! What a replica wants done: each effect is judged as it leaves, then done, in its time.

use std::sync::Arc;

use quipu_consensus::{Change, Evidence, Message};
use quipu_proof::Epochs;
use quipu_proof::names::chunk_hash;
use quipu_proof::order::tip_after;
use quipu_replica::storage::write;
use quipu_replica::{
    Barrier, Block, Effect, Gathered, Input, PeerMessage, Received, Request, Restored, StoredChunk,
    Stripe, lane_order, restore, serve,
};
use quipu_types::{
    ChunkHeader, CommitCertificate, Complaint, Decode, Encode, Hash, Header, Height, Lane,
    SignedState, StateCertificate, StateVote, Tip, ValidatorIndex,
};

use super::measure::SYNC_US;
use super::{Event, World};
use crate::coins::Dealing;
use crate::node::{Alive, Sync};
use crate::witness::{Witness, Words};
use crate::{Broken, Commit, rule};

/// Effects in a thousand after which a process pauses, so that it can die between two.
const PAUSE_PER_MILLE: u16 = 40;

impl World {
    /// Does the effects of a replica, until there is none or it pauses; then sets its timer.
    pub(super) fn effects(&mut self, at: usize) -> Result<(), Broken> {
        loop {
            let is_fair = self.is_fair;
            let node = self.node_mut(at);
            let life = node.life;
            let Some(alive) = &mut node.alive else { return Ok(()) };
            if alive.is_pausing {
                return Ok(());
            }
            let Some(effect) = alive.replica.poll() else { break };
            if !self.effect(at, effect)? {
                return Ok(());
            }
            if !is_fair && self.random.u16(..1_000) < PAUSE_PER_MILLE {
                let most_us = if self.random.u8(..8) == 0 { 20_000 } else { 300 };
                let delay_us = self.random.u64(1..most_us);
                if let Some(alive) = &mut self.node_mut(at).alive {
                    alive.is_pausing = true;
                }
                self.at(delay_us, Event::Work { node: at, life });
                return Ok(());
            }
        }
        self.set_timer(at);
        Ok(())
    }

    /// The process of a node, if it is still the one that was meant.
    fn process(&mut self, at: usize, life: u64) -> Option<&mut Alive> {
        let node = self.node_mut(at);
        node.alive.as_mut().filter(|_| node.life == life)
    }

    pub(super) fn work(&mut self, at: usize, life: u64) -> Result<(), Broken> {
        let Some(alive) = self.process(at, life) else { return Ok(()) };
        alive.is_pausing = false;
        self.effects(at)
    }

    /// Does one effect. `false` when the process died of it.
    fn effect(&mut self, at: usize, effect: Effect) -> Result<bool, Broken> {
        let what = effect_number(&effect);
        self.note(what, || format!("{at} {}", describe(&effect)));
        let node = self.nodes.get_mut(at).expect("events name nodes of the world");
        let Some(alive) = &mut node.alive else { return Ok(false) };
        let written = write(&effect, &mut alive.ledger);
        if written.is_err() && node.disk.is_blown() {
            self.blow(at);
            return Ok(false);
        }
        rule(written.is_ok(), "V4", || format!("{at}: a write failed: {written:?}"))?;
        match effect {
            Effect::WriteVote { bytes, .. } if node.is_honest => {
                self.witness.record(&mut alive.words, &bytes)?;
            }
            Effect::WriteChunk(chunk) => alive.words.wrote(chunk.hash),
            Effect::CutLane { .. } => {
                self.totals.cuts_back = self.totals.cuts_back.saturating_add(1);
            }
            Effect::WriteHeader { block, certificate } => {
                write_down(at, alive, &block);
                self.commit(at, &block, &certificate)?;
            }
            Effect::Sync(barrier) => self.sync(at, barrier),
            Effect::Broadcast { bytes, .. } => self.tell(at, None, bytes)?,
            Effect::Send { to, bytes, .. } => self.tell(at, Some(to), bytes)?,
            Effect::Serve { to, request } => self.serve(at, to, &request)?,
            Effect::Restore(gathered) => {
                let life = node.life;
                let delay_us = self.random.u64(20..2_000);
                self.at(delay_us, Event::Restored { node: at, life, gathered });
            }
            Effect::Execute(block) => {
                alive.executing.push_back(block);
                if alive.executing.len() == 1 {
                    let life = node.life;
                    self.execute_later(at, life);
                }
            }
            Effect::Speculate(block) => {
                // As the driver does: only what comes next, while nothing waits to be executed.
                let is_next = alive.machine.applied().next() == block.header.height;
                if is_next && alive.executing.is_empty() && self.random.bool() {
                    let done = block.speculate(&mut alive.machine);
                    rule(done.is_ok(), "V4", || format!("{at} can not speculate: {done:?}"))?;
                    self.totals.speculations = self.totals.speculations.saturating_add(1);
                }
            }
            Effect::Evidence(evidence) => self.accuse(at, &evidence)?,
            Effect::Observing(threshold) => {
                let is_new = node.observer.is_some() || node.is_rewound || !node.is_honest;
                rule(is_new, "O1", || format!("{at} has its disk, and takes it for an old one"))?;
                node.observer = Some(threshold);
                let found = u64::from(threshold.is_some());
                self.totals.thresholds = self.totals.thresholds.saturating_add(found);
            }
            Effect::StateCertified(certificate) => {
                if node.is_honest {
                    check_state(validator(at), &certificate, &alive.words, &self.witness)?;
                }
                self.totals.certificates = self.totals.certificates.saturating_add(1);
                node.certified
                    .insert(certificate.state.height, StateCertificate::clone(&certificate));
            }
            Effect::Answer { ticket, answer } => self.answer(at, ticket, &answer)?,
            Effect::Stopped => {
                self.end(at);
                return Ok(false);
            }
            _ => {}
        }
        Ok(true)
    }

    /// A process that was asked to stop has done so.
    fn end(&mut self, at: usize) {
        let mut random = self.random.fork();
        self.node_mut(at).disk.kill();
        self.node_mut(at).die(&mut random);
        self.stopped(at);
    }

    /// How long lanes wait in an epoch until they move.
    fn wait_for_lanes(&mut self, header: &Header) {
        let before = self.witness.cut_before(header.height);
        let moved = header.cut.iter().filter(|tip| !before.contains(tip)).map(|tip| tip.lane);
        let moved: Vec<Lane> = moved.collect();
        let (ends, now_us) = (header.next_set.is_some(), self.now_us);
        let is_over = |lane: &Lane| ends || moved.contains(lane);
        let over: Vec<Lane> = self.waiting.keys().copied().filter(is_over).collect();
        for since in over.iter().filter_map(|lane| self.waiting.remove(lane)) {
            self.totals.lane_wait_ms += (now_us - since) / 1_000;
        }
        if ends {
            self.waiting = header.cut.iter().map(|tip| (tip.lane, now_us)).collect();
        }
    }

    fn commit(
        &mut self,
        at: usize,
        block: &Block,
        certificate: &CommitCertificate,
    ) -> Result<(), Broken> {
        if !self.node(at).is_honest {
            return Ok(());
        }
        let header = &block.header;
        if let Some(probe) = &mut self.probe {
            let before = self.witness.cut_before(header.height);
            let moved = header.cut.iter().filter(|tip| !before.contains(tip));
            let moved: Vec<Tip> = moved.copied().collect();
            probe.commit(header, &moved, self.now_us);
        }
        let is_forged = |tip: &&Tip| self.forged.chunks.contains(&tip.chunk_hash);
        let forged = header.cut.iter().find(is_forged);
        rule(forged.is_none(), "F1", || format!("{} commits {forged:?}", header.height))?;
        let crimes = &self.shape.crimes;
        let is_honest =
            |voter: ValidatorIndex| matches!(crimes.get(usize::from(voter.get())), Some(None));
        let is_first = self.witness.commit(header, certificate, &self.context, is_honest)?;
        if is_first {
            self.wait_for_lanes(header);
            let next = header.next_set.iter().flat_map(|set| &set.validators);
            self.totals.stale += next.map(|one| u64::from(one.is_stale)).sum::<u64>();
            self.totals.late_votes += u64::try_from(header.late_votes.len()).unwrap_or(0);
        }
        self.context.pass(header);
        self.totals.epochs = self.context.set.epoch;
        if let Some(vote) = certificate.precommits.first().filter(|_| is_first) {
            let rounds = self.witness.rounds_before(header.height, &self.genesis);
            let open = rounds.open_below(header.height, vote.round.saturating_add(1));
            let open_count = u32::try_from(open.count()).unwrap_or(u32::MAX);
            self.commits.push(Commit { at_us: self.now_us, kind: vote.kind, open_count });
        }
        let again = &mut self.totals.heights_again;
        *again = again.saturating_add(u64::from(!is_first));
        Ok(())
    }

    fn sync(&mut self, at: usize, barrier: Barrier) {
        let slow = if self.random.u8(..100) == 0 { 20 } else { 1 };
        let most_us = self.shape.sync_us.saturating_mul(slow);
        let delay_us = self.random.u64(50..most_us.max(100));
        let delay_us = if self.is_measured() { SYNC_US } else { delay_us };
        let node = self.node_mut(at);
        let life = node.life;
        let Some(alive) = &mut node.alive else { return };
        let (words, group) = (alive.words.take(), alive.ledger.take_sync());
        alive.syncing = Some(Sync { barrier, group, words, header: alive.header_written });
        self.at(delay_us, Event::Synced { node: at, life });
    }

    /// Tells one validator, or all.
    fn tell(
        &mut self,
        at: usize,
        to: Option<ValidatorIndex>,
        bytes: Arc<[u8]>,
    ) -> Result<(), Broken> {
        let node = self.nodes.get(at).expect("events name nodes of the world");
        if let Some(alive) = node.alive.as_ref().filter(|_| node.is_honest) {
            let is_new = node.observer.is_some() || node.is_rewound;
            let epochs = &self.context.epochs;
            leave(&mut self.witness, (validator(at), epochs), &bytes, alive, is_new)?;
        }
        if let Some(probe) = &mut self.probe
            && let Ok(PeerMessage::Agreement(Message::Ack(ack))) = PeerMessage::from_bytes(&bytes)
        {
            probe.ack(at, &ack, &self.context.set, self.now_us);
        }
        let parcel = Self::parcel(bytes);
        match to {
            Some(to) => self.speak(at, usize::from(to.get()), &parcel),
            None => (0..self.nodes.len()).for_each(|to| self.speak(at, to, &parcel)),
        }
        Ok(())
    }

    fn serve(&mut self, at: usize, to: ValidatorIndex, request: &Request) -> Result<(), Broken> {
        let Some(alive) = &self.node(at).alive else { return Ok(()) };
        let certificate = |height| self.node(at).certified.get(&height).cloned();
        let served = serve(&alive.ledger, certificate, request)
            .map_err(|error| Broken { rule: "V5", what: error.to_string() })?;
        let served: Vec<Arc<[u8]>> =
            served.into_iter().map(|message| message.to_bytes().into()).collect();
        let to = usize::from(to.get());
        if self.node(at).actor.is_some() {
            let served = self.scene(at, |actor, scene| actor.serve(scene, request, served));
            self.send_all(at, to, served.unwrap_or_default());
        } else {
            served.into_iter().for_each(|bytes| self.send(at, to, &Self::parcel(bytes), 0));
        }
        Ok(())
    }

    /// Evidence names a criminal.
    fn accuse(&mut self, at: usize, evidence: &Evidence) -> Result<(), Broken> {
        let culprit = evidence.culprit(&self.context);
        let named = culprit.map(|culprit| usize::from(culprit.get()));
        let is_guilty = named.is_some_and(|named| !self.node(named).is_honest);
        let kind = evidence.kind();
        rule(is_guilty, "A9", || format!("{at} has evidence ({kind}) against {named:?}"))?;
        self.totals.evidence = self.totals.evidence.saturating_add(1);
        self.stakes.found(evidence, &self.context);
        Ok(())
    }

    fn execute_later(&mut self, at: usize, life: u64) {
        let slow = if self.random.u8(..50) == 0 { 50 } else { 1 };
        let delay_us = self.random.u64(20..1_000) * slow;
        self.at(delay_us, Event::Executed { node: at, life });
    }

    pub(super) fn synced(&mut self, at: usize, life: u64) -> Result<(), Broken> {
        let node = self.nodes.get_mut(at).expect("events name nodes of the world");
        let Some(alive) = node.alive.as_mut().filter(|_| node.life == life) else { return Ok(()) };
        let Some(sync) = alive.syncing.take() else { return Ok(()) };
        let Sync { barrier, group, words, header } = sync;
        let done = group.run().and_then(|()| alive.ledger.synced(group));
        if done.is_err() && node.disk.is_blown() {
            self.blow(at);
            return Ok(());
        }
        rule(done.is_ok(), "V4", || format!("{at}: a sync failed: {done:?}"))?;
        alive.words.synced(words);
        alive.header_durable = header;
        self.note(9, || format!("{at} stored {}", barrier.0));
        self.feed(at, Input::Stored(barrier))
    }

    /// Who signed the root of stripes.
    pub(super) fn sequencer(&self, restored: &Restored) -> usize {
        usize::from(self.context.epochs.sequencer(restored.lane, restored.term).get())
    }

    pub(super) fn restored(
        &mut self,
        at: usize,
        life: u64,
        gathered: &Gathered,
    ) -> Result<(), Broken> {
        if self.process(at, life).is_none() {
            return Ok(());
        }
        let restored = restore(&self.context, &self.admissions, gathered);
        let is_whole = restored.chunk.is_ok();
        let is_honest = self.node(self.sequencer(&restored)).is_honest;
        rule(is_whole || !is_honest, "A9", || {
            format!("{at} blames an honest sequencer's stripes: {:?}", restored.chunk)
        })?;
        self.totals.restored = self.totals.restored.saturating_add(u64::from(is_whole));
        let (lane, term, index) = gathered.place();
        self.note(number_of(&restored.hash), || {
            format!("{at} restores {lane}:{term}/{index}, whole: {is_whole}")
        });
        self.feed(at, Input::Restored(restored))
    }

    pub(super) fn executed(&mut self, at: usize, life: u64) -> Result<(), Broken> {
        let does_flush = self.random.u8(..3) == 0;
        let node = self.nodes.get_mut(at).expect("events name nodes of the world");
        let Some(alive) = node.alive.as_mut().filter(|_| node.life == life) else { return Ok(()) };
        let Some(block) = alive.executing.pop_front() else { return Ok(()) };
        let (state, receipts, next) = self.history.apply(&mut alive.machine, &block)?;
        self.history.state(state)?;
        // A state never runs ahead of what is durable.
        if alive.header_durable >= state.height && does_flush {
            let flushed = alive.machine.flush();
            rule(flushed.is_ok(), "V4", || format!("{flushed:?}"))?;
        }
        if !alive.executing.is_empty() {
            self.execute_later(at, life);
        }
        self.note(state_number(&state), || format!("{at} executed {}", state.height));
        if let Some(set) = next {
            self.step(at, Input::NextSet(Box::new(set)))?;
        }
        self.feed(at, Input::Executed { state, receipts: Arc::new(receipts) })
    }
}

/// A header is written. Where an epoch begins after it, what makes its coins is there, and the own shares.
fn write_down(at: usize, alive: &mut Alive, block: &Block) {
    alive.header_written = block.header.height;
    let Some(set) = &block.header.next_set else { return };
    let dealt = set.coin.map(|_| Dealing::of(&set.powers()));
    let coin = dealt.map(|dealt| (dealt.scheme.clone(), dealt.secret(validator(at))));
    alive.replica.take_coin(set.epoch, coin);
}

/// The index of the validator at a place of the world.
pub(super) fn validator(at: usize) -> ValidatorIndex {
    ValidatorIndex::new(u16::try_from(at).unwrap_or(u16::MAX))
}

/// What an honest validator sends of its own is durable, and was never said otherwise.
fn leave(
    witness: &mut Witness,
    (own, epochs): (ValidatorIndex, &Epochs),
    bytes: &[u8],
    alive: &Alive,
    is_new: bool,
) -> Result<(), Broken> {
    let message = PeerMessage::from_bytes(bytes);
    let message = message.map_err(|error| Broken {
        rule: "A3",
        what: format!("an honest validator's message does not read: {error}"),
    })?;
    match message {
        // Others' votes, and what is a function of its place, may leave at once.
        PeerMessage::Agreement(Message::Done(_)) => Ok(()),
        PeerMessage::Agreement(message @ Message::CoinShare(_)) => {
            witness.say(&message, &alive.words, &alive.ledger)
        }
        PeerMessage::Agreement(message) if message.validator() == own => {
            let said = bytes.get(1..).unwrap_or_default();
            // Who lost its disk may hear its old words again, and hand them on.
            let is_durable = alive.words.is_durable(said) || (is_new && witness.has_said(&message));
            rule(is_durable, "A3", || {
                format!("left before its record was durable: {}", describe_message(&message))
            })?;
            witness.say(&message, &alive.words, &alive.ledger)
        }
        PeerMessage::Chunk(StoredChunk { header, .. })
        | PeerMessage::Stripe(Stripe { header, .. }) => {
            // Others' are passed on from memory: they bind nobody here.
            let is_own = epochs.sequencer(header.lane, header.term) == own;
            let tip = is_own.then(|| tip_of(&header));
            tip.map_or(Ok(()), |tip| witness.chunk(own, &tip, &alive.words))
        }
        _ => Ok(()),
    }
}

fn tip_of(header: &ChunkHeader) -> Tip {
    tip_after(header, chunk_hash(header))
}

/// The own vote in a state certificate is durable before the certificate leaves, or left before with what the disk forgot.
fn check_state(
    own: ValidatorIndex,
    certificate: &StateCertificate,
    words: &Words,
    witness: &Witness,
) -> Result<(), Broken> {
    let state = certificate.state;
    let signed = certificate.signatures.iter().find(|(validator, _)| *validator == own);
    let Some((validator, signature)) = signed else { return Ok(()) };
    let vote = StateVote { state, validator: *validator, signature: *signature };
    let message = Message::StateVote(vote);
    let is_durable = words.is_durable(&message.to_bytes()) || witness.has_said(&message);
    rule(is_durable, "A3", || "a state vote counted before it was durable".to_owned())
}

fn number_of(hash: &Hash) -> u64 {
    hash.0.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn state_number(state: &SignedState) -> u64 {
    number_of(&state.state_root) ^ state.height.get()
}

/// What an effect adds to the digest.
fn effect_number(effect: &Effect) -> u64 {
    match effect {
        Effect::WriteChunk(chunk) => number_of(&chunk.hash),
        Effect::WriteHeader { block, .. } => number_of(&block.hash),
        Effect::Execute(block) => !number_of(&block.hash),
        Effect::WriteVote { bytes, .. } => tail_number(bytes),
        Effect::Broadcast { bytes, .. } | Effect::Send { bytes, .. } => !tail_number(bytes),
        Effect::Sync(barrier) => barrier.0,
        _ => 10,
    }
}

/// The last bytes: of a signed thing they are of its signature.
fn tail_number(bytes: &[u8]) -> u64 {
    bytes.last_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

pub(super) fn short(hash: &Hash) -> String {
    hash.to_string().chars().take(8).collect()
}

fn describe_tip(tip: &Tip) -> String {
    format!("{}:{}/{} {}", tip.lane, tip.term, tip.index, short(&tip.chunk_hash))
}

fn describe_tips(tips: &[Tip]) -> String {
    tips.iter().map(describe_tip).collect::<Vec<_>>().join(", ")
}

pub(super) fn describe_message(message: &Message) -> String {
    let own = message.validator();
    match message {
        Message::Propose(propose) => {
            let (height, round) = (propose.height, propose.round);
            let hash = short(&quipu_proof::names::header_hash(&propose.header));
            let cut = describe_tips(&propose.header.cut);
            format!("{own} proposes {height}/{round} {hash} [{cut}]")
        }
        Message::Prevote(vote) => {
            format!("{own} prevotes {}/{} {}", vote.height, vote.round, short(&vote.digest))
        }
        Message::Precommit(vote) => {
            let (tips, hash) = (describe_tips(&vote.tips), short(&vote.digest));
            let (height, round, suspects) = (vote.height, vote.round, &vote.suspects);
            format!("{own} precommits {height}/{round} {hash} [{tips}] {suspects:?}")
        }
        Message::Ack(ack) => format!("{own} acks [{}]", describe_tips(&ack.tips)),
        Message::StateVote(vote) => format!("{own} votes for state {}", vote.state.height),
        Message::RoundChange(Change { change, .. }) => {
            let high = change.high.map(|high| (high.round, short(&high.digest)));
            format!("{own} changes {}/{} {high:?}", change.height, change.round)
        }
        Message::CoinShare(share) => format!("{own} shares {}/{}", share.height, share.round),
        Message::Done(certificate) => {
            let vote = certificate.precommits.first();
            let place = vote.map(|vote| (vote.height.get(), vote.round));
            format!("{own} is elected and done: {place:?}")
        }
    }
}

pub(super) fn describe_received(received: &Received) -> String {
    match received {
        Received::Agreement(message) => describe_message(message),
        Received::Chunk(chunk) => format!("chunk {}", describe_tip(&chunk.tip())),
        Received::Forward { is_overdue, admitted } => {
            format!("forward of {}, overdue: {is_overdue}", admitted.len())
        }
        Received::Fetch(request) => describe_request(request),
        Received::Headers(headers) => {
            let last = headers.last().map_or(Height::default(), |(header, _)| header.height);
            format!("{} headers up to {last}", headers.len())
        }
        Received::Value(header) => format!("value of {}", header.height),
        Received::Ask { .. } => "ask".to_owned(),
        Received::Tell { height, .. } => format!("tell {height}"),
        Received::Check { .. } => "check".to_owned(),
        Received::Checked { height, word, .. } => {
            let word = word.as_ref().map_or("nothing".to_owned(), describe_message);
            format!("checked {height}, heard: {word}")
        }
        Received::Handover(handover) => {
            format!("handover of {}/{} at {}", handover.lane, handover.term, handover.index)
        }
        Received::Evidence(evidence) => format!("evidence: {}", evidence.kind()),
        Received::Stripe(proven) => describe_stripe(&proven.stripe),
        Received::Complaint(grievance) => {
            let Complaint { lane, term, .. } = &grievance.complaint;
            format!("complaint of {lane}:{term}")
        }
        Received::Claim(state) => format!("claim of state {}", state.height),
        Received::Leaving { until } => format!("leaves up to {until}"),
        Received::States(certificates) => format!("{} state certificates", certificates.len()),
    }
}

fn describe_stripe(Stripe { header, stripe, .. }: &Stripe) -> String {
    let ChunkHeader { lane, term, index, count, .. } = header;
    format!("stripe {} of chunk {lane}:{term}/{index} of {count}", stripe.index)
}

fn describe_request(request: &Request) -> String {
    match request {
        Request::Headers { from } => format!("fetch of headers from {from}"),
        Request::Chunks { first, tip } => format!("fetch from {first} to {}", describe_tip(tip)),
        Request::Value { height, digest } => format!("fetch of {height} {}", short(digest)),
        Request::States { from } => format!("fetch of state certificates from {from}"),
    }
}

fn describe_block(block: &Block) -> String {
    let (count, cut) = (block.transaction_count(), describe_tips(&block.header.cut));
    let lanes = lane_order(&block.header.prev_header, crate::shape::LANE_COUNT);
    let first = lanes.first().copied().unwrap_or(Lane::new(0));
    let (height, hash) = (block.header.height, short(&block.hash));
    let terms = &block.header.term_changes;
    format!("{height} of {count} from lane {first} {hash} [{cut}] {terms:?}")
}

fn describe(effect: &Effect) -> String {
    let message = |bytes: &[u8]| match PeerMessage::from_bytes(bytes) {
        Ok(PeerMessage::Agreement(message)) => describe_message(&message),
        Ok(PeerMessage::Chunk(stored)) => {
            let header = &stored.header;
            format!("chunk {}:{}/{} of {}", header.lane, header.term, header.index, header.count)
        }
        Ok(PeerMessage::Stripe(stripe)) => describe_stripe(&stripe),
        Ok(PeerMessage::Fetch(request)) => describe_request(&request),
        Ok(PeerMessage::Forward { transactions, .. }) => format!("forward {}", transactions.len()),
        Ok(PeerMessage::Headers(headers)) => format!("{} headers", headers.len()),
        Ok(PeerMessage::Handover(_)) => "handover".to_owned(),
        Ok(PeerMessage::Claim(state)) => format!("claim of state {}", state.height),
        Ok(PeerMessage::Leaving { until }) => format!("leaves up to {until}"),
        other => format!("{other:?}").chars().take(40).collect(),
    };
    match effect {
        Effect::WriteTerm(term) => format!("writes term {} of lane {}", term.term, term.lane),
        Effect::CutLane { lane, index } => format!("cuts lane {lane} back to {index}"),
        Effect::WriteChunk(chunk) => format!("writes chunk {}", describe_tip(&chunk.tip())),
        Effect::WriteVote { bytes, .. } => match quipu_consensus::Record::from_bytes(bytes) {
            Ok(record) => format!("writes: {}", describe_message(&record.message())),
            Err(error) => error.to_string(),
        },
        Effect::BeginHeight(height) => format!("begins {height}"),
        Effect::WriteHeader { block, .. } => format!("writes header {}", describe_block(block)),
        Effect::Sync(barrier) => format!("syncs {}", barrier.0),
        Effect::Broadcast { bytes, .. } => format!("tells all: {}", message(bytes)),
        Effect::Send { to, bytes, .. } => format!("tells {to}: {}", message(bytes)),
        Effect::Serve { to, request } => format!("serves {to}: {}", describe_request(request)),
        Effect::Restore(gathered) => format!("restores {:?}", gathered.place()),
        Effect::Speculate(block) => format!("speculates {}", block.header.height),
        Effect::Evidence(evidence) => format!("has evidence: {}", evidence.kind()),
        Effect::Observing(height) => format!("observes up to {height:?}"),
        Effect::Execute(block) => format!("executes {}", block.header.height),
        Effect::StateCertified(certificate) => format!("certified {}", certificate.state.height),
        Effect::Answer { ticket, answer } => format!("answers {ticket}: {answer:?}"),
        Effect::Stopped => "stopped".to_owned(),
    }
}
