//! The machine: takes an input, leaves effects to be polled. See the crate's header for its invariants.
//!
//! ```text
//!  clients ── Submit ──> pending, producers ──> own lane's queue, or Forward to its sequencer
//!  peers ─── Received ─> chunks: lanes · forwards: queue · agreement: core · requests: Serve
//!                              └── Stored ──> acks ──> core ──> Commit ──> Execute ──> answers
//!  housekeeping, every 20 ms: what is missing is fetched, what is overdue is told to all, who is silent is suspected
//! ```

mod chunks;
mod clients;
mod complaints;
mod peers;
mod start;
mod stripes;

pub(crate) use start::first_term;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use quipu_clock::Run;
use quipu_consensus::core::{self, Core, Event, Output};
use quipu_consensus::safety::NOBODY;
use quipu_consensus::{Context, Message, Now, Parent, Record};
use quipu_crypto::coin::{CoinScheme, CoinSecret};
use quipu_proof::names;
use quipu_types::{
    Ack, Decode, Encode, Hash, Height, Lane as LaneNumber, SignedState, Time, Tip, ValidatorIndex,
    ValidatorSet,
};
use thiserror::Error;

use self::clients::EarlyForwards;
use self::start::start_lanes;
use crate::admission::Admitted;
use crate::api::{Barrier, Config, Effect, Input, Recovered, STOP_US, Status};
use crate::checking::Checking;
use crate::complaints::Complaints;
use crate::fetch::Fetch;
use crate::gate::Gate;
use crate::lane::{ChunkFault, Lane, Lanes};
use crate::observer::Observing;
use crate::peer::Received;
use crate::peer::{PeerMessage, ReceiveError};
use crate::pending::Pending;
use crate::producers::Producers;
use crate::stripes::{Gathering, Striping};
use crate::suspicion::Suspicion;
use crate::traps::Traps;
use crate::uncertified::Uncertified;

/// Bytes of chunks beyond the last cut that are held: what others send beyond it is fetched later.
pub const HELD_SIZE_MAX: usize = 64 << 20;
/// Heights that others are ahead when chunks that come early are passed over.
const FAR_HEIGHT_COUNT: u64 = 8;
/// How often what is missing, overdue or suspect is looked for.
const HOUSEKEEPING_US: u64 = 20_000;
/// Longest time that what has no haste waits for the sync of something else: longer than a busy ledger's heights take,
/// shorter than an idle one's.
const UNHURRIED_US: u64 = 15_000;

/// Why what another validator sent was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// By agreement.
    #[error(transparent)]
    Agreement(#[from] core::Refused),
    /// Before it was looked at.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// A chunk that its sequencer should not have made.
    #[error("chunk {index} of lane {lane}: {fault}")]
    Chunk {
        /// The lane.
        lane: LaneNumber,
        /// The chunk.
        index: u64,
        /// What is wrong.
        fault: ChunkFault,
    },
    /// A sequencer's own stripes are of no chunk that it may have made.
    #[error("chunk {index} of lane {lane}, made of its sequencer's stripes: {reason}")]
    Restored {
        /// The lane.
        lane: LaneNumber,
        /// The chunk.
        index: u64,
        /// What is wrong.
        reason: ReceiveError,
    },
    /// After the stop nothing is looked at.
    #[error("the replica is stopped")]
    Stopped,
}

impl Refused {
    /// Whether who sent it is to blame. A chunk's fault is its sequencer's, whoever hands it on.
    #[must_use]
    pub const fn is_offence(&self) -> bool {
        match self {
            Self::Agreement(refused) => refused.is_offence(),
            Self::Receive(_) => true,
            Self::Chunk { .. } | Self::Restored { .. } | Self::Stopped => false,
        }
    }
}

/// Why a replica cannot start from what was found.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// The key is of no validator of the genesis.
    #[error("the voting key is not of a validator of the genesis")]
    NotAValidator,
    /// There is not one lane for each of the genesis.
    #[error("{found} lanes were found, the genesis has {wanted}")]
    LaneCount {
        /// What was found.
        found: usize,
        /// What the genesis says.
        wanted: usize,
    },
    /// A lane's chunks do not follow each other, or are not what their headers say.
    #[error("lane {lane}: chunk {index} {what}")]
    Lane {
        /// The lane.
        lane: LaneNumber,
        /// The chunk.
        index: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A record of the write-ahead log does not decode.
    #[error("record {index} of the write-ahead log is none")]
    Record {
        /// Its place in the log, from 0.
        index: usize,
    },
}

/// A block that is being executed.
#[derive(Debug)]
struct Executing {
    height: Height,
    header: Hash,
    time: Time,
    transactions: Vec<Arc<Admitted>>,
}

/// What makes coins of parts, and the own shares.
type Coin = (CoinScheme, Option<CoinSecret>);

/// One validator.
#[derive(Debug)]
pub struct Replica {
    chunk_size_max: usize,
    striping: Striping,
    pending_size_max: usize,
    clock_interval_us: u64,
    clock_chunk_us: u64,
    ticks: bool,
    checkpoint_height_count: u64,
    lane_count: u16,
    others: Vec<ValidatorIndex>,
    core: Core,
    /// What makes the coins of an epoch, and the own shares, while that is not the one in force.
    coin: Option<(u64, Coin)>,
    lanes: Lanes,
    producers: Producers,
    pending: Pending,
    /// Transactions on their way to other sequencers.
    forwards: BTreeMap<ValidatorIndex, (Vec<Arc<Admitted>>, usize)>,
    /// By lane: what came for its next sequencer, which may be this one.
    early_forwards: Vec<EarlyForwards>,
    /// When a lane's pending transactions were last told to its sequencer, which may be this validator.
    told_us: Vec<u64>,
    suspicions: Vec<Suspicion>,
    complaints: Complaints,
    /// By own lane: what is to be found in its queue and put first.
    urgent: Vec<Vec<Arc<Admitted>>>,
    /// By lane: stripes that wait for others.
    gathering: Vec<Gathering>,
    /// How often evidence of each kind was given out against each validator.
    proven: BTreeMap<(ValidatorIndex, &'static str), u32>,
    fetch: Fetch,
    observing: Option<Observing>,
    /// Until others have said how far this validator had come.
    checking: Option<Checking>,
    /// Where own lanes are handed over for an observer's sake, and when that was done last.
    renewal: Option<Height>,
    renewed_us: Option<u64>,
    /// The greatest height that each other validator spoke of, since the start.
    heard: BTreeMap<ValidatorIndex, Height>,
    executing: VecDeque<Executing>,
    executed: Height,
    certified: Height,
    uncertified: Uncertified,
    traps: Option<Traps>,
    gate: Gate,
    /// The ack that the sync under way makes durable, with the tips of all lanes at its start.
    acking: Option<(Barrier, Option<Ack>, Vec<Tip>)>,
    /// Since when something that was written without haste waits for a sync.
    unhurried_us: Option<u64>,
    ticked_us: u64,
    kept_us: u64,
    now_us: u64,
    /// When a stop was asked for.
    stopping_us: Option<u64>,
    has_handed_over: bool,
    is_stopped: bool,
}

impl Replica {
    /// A validator that goes on from what was found on disk.
    ///
    /// # Errors
    /// When what was found does not fit together, or is another validator's.
    pub fn new(now: Now, config: Config, recovered: Recovered) -> Result<Self, StartError> {
        let Config { genesis, key, traps, .. } = config;
        let (chain, mut gate) = (names::chain_id(&genesis), Gate::new(config.wal_before_send));
        let context = Context::in_epoch(chain, recovered.epochs.clone());
        let own = own_index(&context, &genesis, &key)?;
        let observing = config.observer.map(|observer| Observing::new(observer, config.rules));
        let parent = parent(&recovered, &genesis, chain);
        let (certified, seen) = (parent.certified, (observing.as_ref(), &mut gate));
        let mut lanes = start_lanes(now, &genesis, own, &context, &recovered, seen)?;
        let last @ (height, ..) = (parent.height, parent.hash, parent.time);
        let mut producers = Producers::new(recovered.producers.clone(), height);
        start::restore_suffixes(&mut lanes, &mut producers, &recovered)?;
        let core = core::Config {
            rules: config.rules,
            verified: config.verified,
            coin: config.coin,
            coin_secret: config.coin_secret,
            epochs: recovered.epochs.clone(),
            ..core::Config::new(&genesis, chain, key)
        };
        let core = restore_core(now, core, parent, &recovered, observing.as_ref())?;
        let (lane_count, now_us) = (lanes.all.len(), now.mono_us);
        let mut replica = Self {
            chunk_size_max: config.chunk_size_max,
            striping: Striping::new(config.stripe_size_min, &core.context().set, own),
            pending_size_max: config.pending_size_max,
            clock_interval_us: config.clock_interval_us.max(1),
            clock_chunk_us: config.clock_chunk_us,
            ticks: config.ticks,
            checkpoint_height_count: config.checkpoint_height_count.max(1),
            lane_count: genesis.lane_count,
            others: others(&core.context().set, own),
            core,
            coin: None,
            lanes,
            producers,
            pending: Pending::default(),
            forwards: BTreeMap::new(),
            early_forwards: (0..lane_count).map(|_| EarlyForwards::default()).collect(),
            told_us: vec![now_us; lane_count],
            suspicions: vec![Suspicion::default(); lane_count],
            complaints: Complaints::new(lane_count, last),
            urgent: vec![Vec::new(); lane_count],
            gathering: (0..lane_count).map(|_| Gathering::default()).collect(),
            proven: BTreeMap::new(),
            fetch: Fetch::default(),
            heard: BTreeMap::new(),
            renewal: None,
            renewed_us: None,
            observing,
            checking: None,
            executing: VecDeque::new(),
            executed: height,
            certified,
            uncertified: Uncertified::default(),
            traps,
            gate,
            acking: None,
            unhurried_us: None,
            ticked_us: now_us,
            kept_us: now_us,
            now_us,
            stopping_us: None,
            has_handed_over: false,
            is_stopped: false,
        };
        replica.refresh_all();
        replica.begin_check(config.check_nonce);
        // What was read back is durable only when a sync of this process says so.
        replica.gate.rewritten();
        replica.flush();
        Ok(replica)
    }

    /// Takes what makes the coins of an epoch, and the own shares; none when there are none. May come before the epoch begins.
    pub fn take_coin(&mut self, epoch: u64, coin: Option<Coin>) {
        self.coin = coin.map(|coin| (epoch, coin));
        self.use_coin();
    }

    fn use_coin(&mut self) {
        let epoch = self.core.context().set.epoch;
        if let Some((_, (scheme, secret))) = self.coin.take_if(|(of, _)| *of == epoch) {
            self.core.take_coin(scheme, secret);
        }
    }

    /// Takes an input; then [`poll`](Self::poll) until there is nothing.
    ///
    /// # Errors
    /// When what another validator sent is refused; what it was about is then unchanged.
    pub fn step(&mut self, now: Now, input: Input) -> Result<(), Refused> {
        self.now_us = self.now_us.max(now.mono_us);
        let now = Now { mono_us: self.now_us, ..now };
        if self.is_stopped {
            return match input {
                Input::Received { .. } => Err(Refused::Stopped),
                _ => Ok(()),
            };
        }
        let mut taken = Ok(());
        match input {
            Input::Submit { ticket, admitted, is_early } => {
                self.submit((ticket, is_early), admitted);
                return Ok(());
            }
            Input::Complain { ticket, grievance } => self.complain(ticket, *grievance),
            Input::Stored(barrier) => self.stored(now, barrier),
            Input::Executed { state, receipts } => self.executed(now, state, &receipts),
            Input::NextSet(set) => self.drive(now, Event::NextSet(set)),
            Input::Received { from, received } => taken = self.received(now, from, received),
            Input::Restored(restored) => taken = self.restored(now, restored),
            Input::Linked(peer) => self.linked(now, peer),
            Input::Ticked(runs) => self.take_runs(runs),
            Input::Timer => self.drive(now, Event::Timer),
            Input::Stop => self.stopping_us = self.stopping_us.or(Some(self.now_us)),
        }
        self.tick(now);
        self.keep_house(now);
        if !self.gate.is_under_way() {
            self.cut_chunks();
        }
        self.send_forwards();
        self.flush();
        self.finish(now);
        self.check_invariants();
        taken
    }

    /// The next effect, to be done before the ones after it.
    pub fn poll(&mut self) -> Option<Effect> {
        self.gate.poll()
    }

    /// When [`Input::Timer`] is due, in microseconds of the monotonic clock. In the past: now, after the inputs that
    /// wait already (they then share a chunk).
    #[must_use]
    pub fn wake_at(&self) -> Option<u64> {
        if self.is_stopped {
            return None;
        }
        let queued = |lane: &Lane| lane.queue_size() > 0 && lane.may_cut();
        let cuts = !self.gate.is_under_way() && self.lanes.all.iter().any(queued);
        if cuts || !self.forwards.is_empty() {
            return Some(self.now_us);
        }
        let tick_at = self.ticked_us.saturating_add(self.clock_interval_us);
        let keep_at = self.kept_us.saturating_add(HOUSEKEEPING_US);
        let own_at = if self.is_alone() { tick_at } else { tick_at.min(keep_at) };
        let own_at = self.unhurried_until().map_or(own_at, |until| until.min(own_at));
        let core_at = self.core.wake_at(&self.lanes).unwrap_or(own_at);
        Some(core_at.min(own_at))
    }

    /// What the replica says of itself.
    #[must_use]
    pub fn status(&self) -> Status {
        let parent = self.core.parent();
        Status {
            height: parent.height,
            header: parent.hash,
            time: parent.time,
            executed: self.executed,
            certified: self.certified,
            pending_count: self.pending.count(),
            pending_size: self.pending.size(),
            tips: self.lanes.tips(),
            stopping: self.stopping_us.is_some(),
            round: self.core.round(),
            kind: self.core.kind(self.core.round()).0,
            rounds: parent.rounds,
            terms: self
                .lanes
                .all
                .iter()
                .map(|lane| (lane.term.term, lane.term.sequencer))
                .collect(),
            observing: self.observing.is_some() && self.core.is_muted(),
            checking: self.checking.is_some(),
        }
    }

    /// The chain, the set, who leads and sequences.
    #[must_use]
    pub const fn context(&self) -> &Context {
        self.core.context()
    }

    /// Checks the signatures of what waits to be [`received`](Input::Received), together: see
    /// [`Core::verify_together`].
    pub fn verify_together<'a>(&self, waiting: impl IntoIterator<Item = &'a Received>) {
        self.core.verify_together(waiting.into_iter().filter_map(|received| match received {
            Received::Agreement(message) => Some(message),
            _ => None,
        }));
    }

    /// Whether others have committed what this validator has not, as far as it knows.
    fn is_behind(&self) -> bool {
        let next = Some(self.core.parent().height.next());
        let heard = self.heard();
        !self.is_alone() && (self.core.is_muted() || heard.is_none() || heard > next)
    }

    /// The greatest height that validators of a third of the stake, so an honest one among them, speak of or beyond.
    fn heard(&self) -> Option<Height> {
        let set = &self.core.context().set;
        let mut heights: Vec<(Height, ValidatorIndex)> =
            self.heard.iter().map(|(validator, height)| (*height, *validator)).collect();
        heights.sort_by(|a, b| b.cmp(a));
        let mut power = 0_u128;
        heights.into_iter().find_map(|(height, validator)| {
            power = power.saturating_add(set.power(validator));
            set.is_third(power).then_some(height)
        })
    }

    /// Whether others are so far ahead that what they make now is of no use here yet.
    fn is_far_behind(&self) -> bool {
        let own = self.core.parent().height.get();
        self.heard().is_some_and(|heard| heard.get() > own.saturating_add(FAR_HEIGHT_COUNT))
    }

    fn is_alone(&self) -> bool {
        self.others.is_empty()
    }

    fn check_invariants(&self) {
        assert_eq!(self.pending.is_empty(), self.pending.size() == 0, "sizes add up");
        assert!(self.executed <= self.core.parent().height, "only what is committed is executed");
        for lane in &self.lanes.all {
            assert!(lane.durable.index <= lane.tip.index, "what is durable was written");
            assert!(lane.committed.index <= lane.durable.index, "what is committed is durable");
        }
        assert!(!self.gate.wants_sync(), "R5: a sync that is owed is asked for");
    }

    /// Asks for a sync when one is owed and none is under way; one ack covers every lane that it makes durable.
    fn flush(&mut self) {
        if self.unhurried_until().is_some_and(|until| until <= self.now_us) {
            self.gate.want_sync();
        }
        if !self.gate.wants_sync() {
            return;
        }
        let tips: Vec<Tip> = self.lanes.tips();
        let observing = self.observing.as_ref();
        let may_ack = |lane: &Lane| {
            let is_fresh = |observing: &Observing| observing.is_fresh(lane.term.height);
            lane.tip.index > 0 && observing.is_none_or(is_fresh)
        };
        let acked = self.lanes.all.iter().filter(|lane| may_ack(lane));
        let moved: Vec<Tip> = acked.map(|lane| lane.tip).collect();
        let ack = self.core.ack(&moved).map(|(record, ack)| {
            self.write_vote(&record);
            ack
        });
        let barrier = self.gate.sync();
        self.unhurried_us = None;
        self.acking = Some((barrier, ack, tips));
    }

    fn stored(&mut self, now: Now, barrier: Barrier) {
        self.gate.stored(barrier);
        let (asked, ack, tips) = self.acking.take().expect("every sync has its tips");
        assert_eq!(asked, barrier, "the driver answers each sync once, in order");
        for (lane, tip) in self.lanes.all.iter_mut().zip(tips) {
            // A lane that was cut back meanwhile holds another chunk there, or none.
            if tip.index > lane.durable.index && lane.tip_at(tip.index) == Some(tip) {
                lane.durable = tip;
            }
        }
        self.settle();
        // The epoch may have ended since it was signed.
        let ack = ack.filter(|ack| self.core.counts(ack));
        if let Some(ack) = &ack {
            self.tell_all(&PeerMessage::Agreement(Message::Ack(ack.clone())));
        }
        self.drive(now, ack.map_or(Event::Timer, Event::Acked));
    }

    fn executed(&mut self, now: Now, state: SignedState, receipts: &[quipu_types::Receipt]) {
        if state.height > self.executed {
            let block = self.executing.pop_front().expect("only what was committed is executed");
            assert_eq!(block.height, state.height, "heights are executed in order");
            let count = block.transactions.len();
            assert_eq!(count, receipts.len(), "each transaction has a receipt");
            self.executed = state.height;
            for (admitted, receipt) in block.transactions.iter().zip(receipts) {
                self.answer(&block, admitted, receipt);
            }
        }
        self.uncertified.executed(state.height);
        if let Some(traps) = &mut self.traps {
            traps.executed(&state);
        }
        self.drive(now, Event::Executed(state));
        self.feed(now);
    }

    /// An event that no one else is to blame for.
    fn drive(&mut self, now: Now, event: Event) {
        self.core.step(now, event, &self.lanes).expect("own events are never refused");
        self.drain(now);
    }

    fn drain(&mut self, now: Now) {
        // A commit frees chunks, so the core may have more to say: it is asked until it is silent.
        while let Some(output) = self.core.poll() {
            match output {
                Output::Persist(record @ Record::StateVote(_)) => self.write_state_vote(&record),
                Output::Persist(record) => self.write_vote(&record),
                Output::Send(message @ Message::StateVote(_)) => self.tell_all_unhurried(message),
                Output::Send(message) => self.tell_all(&PeerMessage::Agreement(message)),
                Output::Reply { to, message } => {
                    self.tell(to, &PeerMessage::Agreement(message));
                }
                Output::Speculate { header, hash } => self.speculate(header, hash),
                Output::Commit { header, hash, certificate } => {
                    self.commit(header, hash, certificate);
                    self.drive_once(now);
                    self.feed(now);
                }
                Output::StateCertified(certificate) => {
                    self.certified = self.certified.max(certificate.state.height);
                    self.uncertified.certified(certificate.state.height, self.executed);
                    self.gate.leave_unhurried(Effect::StateCertified(Arc::new(certificate)));
                }
                Output::WantValue { height, digest } => self.ask_value(height, digest),
                Output::Answer { to, height } => self.answer_headers(to, height),
                Output::Behind { to, .. } => self.ask_headers(Some(to)),
                Output::Stuck => self.ask_headers(None),
                Output::Evidence(evidence) => self.prove(*evidence),
            }
        }
    }

    fn drive_once(&mut self, now: Now) {
        self.core.step(now, Event::Timer, &self.lanes).expect("own events are never refused");
    }

    fn write_vote(&mut self, record: &Record) {
        let height = self.core.parent().height.next();
        self.gate.write(Effect::WriteVote { height, bytes: record.to_bytes() });
    }

    /// A word on a state is heard by no client: it shares the sync of what is written next, if that comes soon.
    fn write_state_vote(&mut self, record: &Record) {
        let height = self.core.parent().height.next();
        self.gate.write_unhurried(Effect::WriteVote { height, bytes: record.to_bytes() });
        self.unhurried_us.get_or_insert(self.now_us);
    }

    /// When what was written without haste is synced by itself.
    fn unhurried_until(&self) -> Option<u64> {
        let since_us = self.unhurried_us.filter(|_| self.gate.is_unhurried())?;
        Some(since_us.saturating_add(UNHURRIED_US))
    }

    /// Sends to every other validator once everything written is durable.
    fn tell_all(&mut self, message: &PeerMessage) {
        if !self.is_alone() {
            self.gate.leave(broadcast(message));
        }
    }

    /// Claims a false state of a height if the lot says so. That binds nobody, and waits for nothing.
    fn lay_trap(&mut self, height: Height) {
        let trap = self.traps.as_ref().and_then(|traps| traps.lay(height));
        if let Some(state) = trap.filter(|_| !self.is_alone()) {
            self.gate.answer(broadcast(&PeerMessage::Claim(state)));
        }
    }

    fn tell_all_unhurried(&mut self, message: Message) {
        if !self.is_alone() {
            self.gate.leave_unhurried(broadcast(&PeerMessage::Agreement(message)));
        }
    }

    /// Sends to one validator once everything written is durable.
    fn tell(&mut self, to: ValidatorIndex, message: &PeerMessage) {
        let class = message.class();
        self.gate.leave(Effect::Send { to, class, bytes: message.to_bytes().into() });
    }

    /// Sends to one validator, at once: what is said binds nobody.
    fn ask(&mut self, to: ValidatorIndex, message: &PeerMessage) {
        let class = message.class();
        self.gate.answer(Effect::Send { to, class, bytes: message.to_bytes().into() });
    }

    /// Lets the next height begin once the last commit has left.
    fn settle(&mut self) {
        if !self.gate.holds_header() {
            self.core.settle();
        }
    }

    fn tick(&mut self, now: Now) {
        if now.mono_us < self.ticked_us.saturating_add(self.clock_interval_us) {
            return;
        }
        self.ticked_us = now.mono_us;
        if !self.ticks {
            return;
        }
        for lane in &mut self.lanes.all {
            lane.tick(now.mono_us);
        }
    }

    fn take_runs(&mut self, runs: Vec<(LaneNumber, Run)>) {
        for (lane, run) in runs {
            if let Some(lane) = self.lanes.get_mut(lane) {
                lane.take_run(run);
            }
        }
    }

    /// Where the next ticks of own lanes' clocks begin.
    pub fn clock_bases(&self) -> impl Iterator<Item = (LaneNumber, Hash)> {
        self.lanes.all.iter().filter_map(|lane| Some((lane.term.lane, lane.clock_base()?)))
    }

    /// Ends a stop once everything that was taken is final, executed and durable, and the lanes are handed over.
    fn finish(&mut self, now: Now) {
        let Some(since_us) = self.stopping_us else { return };
        let is_done = self.pending.is_empty()
            && self.executing.is_empty()
            && self.lanes.all.iter().all(Lane::is_idle);
        if is_done && !self.is_alone() && !self.has_handed_over {
            self.has_handed_over = true;
            self.hand_over();
            self.leave(now);
            self.flush();
        }
        let keeps_lane = !self.is_alone() && self.lanes.all.iter().any(|lane| lane.is_own);
        let is_late = !self.is_alone() && self.now_us >= since_us.saturating_add(STOP_US);
        if !is_late && (!is_done || keeps_lane) {
            return;
        }
        if self.gate.is_quiet() {
            self.is_stopped = true;
            self.refuse_pending();
            self.gate.answer(Effect::Stopped);
        } else {
            self.gate.want_sync();
            self.flush();
        }
    }
}

/// Where sets change, a key that none of them has yet may come to be a validator's.
fn own_index(
    context: &Context,
    genesis: &quipu_types::Genesis,
    key: &quipu_crypto::SecretKey,
) -> Result<ValidatorIndex, StartError> {
    let nobody = genesis.stake.is_some().then_some(NOBODY);
    context.set.index_of(&key.public()).or(nobody).ok_or(StartError::NotAValidator)
}

fn records(recovered: &Recovered) -> Result<Vec<Record>, StartError> {
    let records = recovered.records.iter().enumerate();
    records
        .map(|(index, bytes)| Record::from_bytes(bytes).map_err(|_| StartError::Record { index }))
        .collect()
}

fn others(set: &ValidatorSet, own: ValidatorIndex) -> Vec<ValidatorIndex> {
    let validators = 0..u16::try_from(set.validators.len()).unwrap_or(u16::MAX);
    validators.map(ValidatorIndex::new).filter(|other| *other != own).collect()
}

/// What the next header follows.
pub(crate) fn parent(recovered: &Recovered, genesis: &quipu_types::Genesis, chain: Hash) -> Parent {
    let rounds = genesis.rounds();
    let first = Parent::genesis(chain, genesis.time_us, genesis.lane_count, rounds);
    let Some((header, certificate)) = &recovered.head else { return first };
    Parent {
        height: header.height,
        hash: names::header_hash(header),
        time: header.time,
        cut: header.cut.clone(),
        terms: start::terms(&chain, recovered),
        primary: recovered.primary,
        commit: Some(certificate.clone()),
        certified: recovered.certified,
        rounds: header.rounds,
    }
}

/// Chunks that this validator signed are remembered, so that none is signed twice; on a new disk it signs nothing yet.
fn restore_core(
    now: Now,
    config: core::Config,
    parent: Parent,
    recovered: &Recovered,
    observing: Option<&Observing>,
) -> Result<Core, StartError> {
    let mut core = Core::new(now, config, parent, records(recovered)?);
    for lane in &recovered.lanes {
        // The term that comes may be another's, and of an epoch that is not known here yet.
        let own = core.own();
        let next = lane.next_term.as_ref().filter(|(term, _)| term.sequencer == own);
        let next = next.and_then(|(_, chunks)| chunks.last());
        let last = lane.suffix.last().map(|chunk| &chunk.stored.header);
        let last = last
            .or(lane.committed.as_ref())
            .filter(|header| core.context().epochs.sequencer(header.lane, header.term) == own);
        for header in last.into_iter().chain(next.map(|chunk| &chunk.stored.header)) {
            core.restore_chunk(header);
        }
    }
    match observing.map(Observing::threshold) {
        None => {}
        Some(_) if !core.context().rules.observer_waits => {}
        Some(None) => core.mute_until(Height::new(u64::MAX)),
        Some(Some(threshold)) => core.mute_until(threshold),
    }
    Ok(core)
}

fn broadcast(message: &PeerMessage) -> Effect {
    Effect::Broadcast { class: message.class(), bytes: message.to_bytes().into() }
}
