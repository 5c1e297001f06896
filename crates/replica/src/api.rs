//! What goes into a replica and what comes out of it.
//!
//! ```text
//!  Submit ──┐                       ┌── WriteTerm, CutLane, WriteChunk, WriteVote, WriteHeader, BeginHeight
//!  Stored ──┤                       ├── Sync(barrier)  ── the driver answers Stored(barrier)
//!  Executed ┼── step(now, input) ── ┤
//!  Received ┤      poll()           ├── Speculate(block), Execute(block) ── the driver answers Executed
//!  Restored ┤                       ├── Restore(stripes) ── the driver answers Restored
//!  Linked ──┤                       ├── StateCertified, Broadcast, Send, Serve, Evidence, Observing
//!  Timer ───┤                       └── Answer{ticket, answer}, Stopped
//!  Stop ────┘
//! ```
//! Effects are to be done in the order in which they come. A write is done when a read would give it;
//! `Sync(barrier)` asks that everything written before it becomes durable, lanes first, and
//! nothing else may be taken for durable.

use std::sync::Arc;

use quipu_clock::Run;
use quipu_consensus::{Evidence, Rules};
use quipu_crypto::coin::{CoinScheme, CoinSecret};
use quipu_crypto::merkle::Frontier;
use quipu_crypto::{SecretKey, Verified};
use quipu_log::{StoredChunk, TermRecord};
use quipu_proof::Epochs;
use quipu_proof::order::tip_after;
use quipu_state::{Applied, Machine, Ordered, OrderedBlock, StateError, Store};
use quipu_types::{
    ChunkHeader, Code, CommitCertificate, Genesis, Hash, Header, Height, Lane, Position, PublicKey,
    Receipt, RoundKind, Rounds, Seqno, SignedState, StateCertificate, Term, Time, Tip,
    ValidatorIndex, ValidatorSet,
};

use crate::admission::Admitted;
use crate::complaints::{Grievance, Unheard};
use crate::observer::Observer;
use crate::peer::{Class, Received, Request};
use crate::stripes::{Gathered, Restored};
use crate::traps::Traps;

/// Bytes from which a chunk's body travels in stripes, unless told otherwise.
pub const STRIPE_SIZE_MIN: usize = 64 << 10;
/// Time after which a lane without transactions shows its clock, unless told otherwise.
pub const CLOCK_CHUNK_US: u64 = 30_000_000;
/// Longest time that a stop waits for other validators.
pub const STOP_US: u64 = 3_000_000;

/// Names a request to make durable what was written before it. Ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Barrier(pub u64);

/// Who waits for an answer. The driver chooses the number and may use one several times.
pub type Ticket = u64;

/// What happened outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client's transaction passed [`admit`](crate::admission::admit).
    Submit {
        /// Comes back with the answer. Exactly one [`Effect::Answer`] comes for each `Submit`, unless the
        /// process dies first.
        ticket: Ticket,
        /// The transaction.
        admitted: Arc<Admitted>,
        /// Whether the answer may come before it is executed ([`Answer::Ordered`]).
        is_early: bool,
    },
    /// A client complains of a sequencer; the complaint passed [`check`](crate::complaints::check).
    Complain {
        /// Comes back with the answer, as that of a `Submit`.
        ticket: Ticket,
        /// The complaint.
        grievance: Box<Grievance>,
    },
    /// Everything written before [`Effect::Sync`] of this barrier is durable.
    Stored(Barrier),
    /// A committed block was executed. Heights come in order; one that came before may come again (after a
    /// restart, for each height whose state certificate the driver has not kept).
    Executed {
        /// The roots.
        state: SignedState,
        /// One per transaction, in the ledger's order.
        receipts: Arc<Vec<Receipt>>,
    },
    /// What execution found the next epoch's set to be, before the [`Executed`](Self::Executed) whose state names it; after
    /// a restart, when one is known already.
    NextSet(Box<ValidatorSet>),
    /// What another validator sent, as [`receive`](crate::peer::receive) gives it.
    Received {
        /// Who sent it: its link is authenticated.
        from: ValidatorIndex,
        /// What.
        received: Received,
    },
    /// What [`Effect::Restore`] asked for, in any order.
    Restored(Restored),
    /// Another validator can be reached again.
    Linked(ValidatorIndex),
    /// Ticks of own lanes' clocks that were made elsewhere ([`Config::ticks`]). Runs that a mix overtook count for nothing.
    Ticked(Vec<(Lane, Run)>),
    /// [`wake_at`](crate::Replica::wake_at) has come.
    Timer,
    /// Take nothing new, finish what was taken, hand lanes over, then [`Effect::Stopped`]. With other validators it comes
    /// after [`STOP_US`] in any case: what they have not ordered by then is not waited for.
    Stop,
}

/// What the driver is to do, in this order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Append a term's record to its lane.
    WriteTerm(TermRecord),
    /// Void what follows chunk `index` of a lane.
    CutLane {
        /// The lane.
        lane: Lane,
        /// The last chunk that stays.
        index: u64,
    },
    /// Append a chunk to its lane.
    WriteChunk(Arc<Chunk>),
    /// Append a record to the write-ahead log of votes.
    WriteVote {
        /// The height that is being decided.
        height: Height,
        /// The record.
        bytes: Vec<u8>,
    },
    /// Append a header and its certificate to the header log. It needs no sync of its own: what is
    /// lost is committed again, the same, from the votes.
    WriteHeader {
        /// The header's block.
        block: Arc<Block>,
        /// Precommits of a quorum.
        certificate: Arc<CommitCertificate>,
    },
    /// This height begins: records of the write-ahead log below the height before it may go. What must outlive them
    /// is written again by the effects that follow.
    BeginHeight(Height),
    /// Make everything written before durable, then feed [`Input::Stored`]. One at a time.
    Sync(Barrier),
    /// Send to every other validator. Never comes with one validator.
    Broadcast {
        /// How urgent it is.
        class: Class,
        /// A [`PeerMessage`](crate::peer::PeerMessage).
        bytes: Arc<[u8]>,
    },
    /// Send to one validator.
    Send {
        /// Whom.
        to: ValidatorIndex,
        /// How urgent it is.
        class: Class,
        /// A [`PeerMessage`](crate::peer::PeerMessage).
        bytes: Arc<[u8]>,
    },
    /// Read what another validator asks for ([`serve`](crate::storage::serve)) and send it.
    Serve {
        /// Whom.
        to: ValidatorIndex,
        /// What it asks for.
        request: Request,
    },
    /// Make a chunk of these stripes ([`restore`](crate::stripes::restore)), on a worker, and feed [`Input::Restored`].
    Restore(Arc<Gathered>),
    /// This block will probably be executed next: its execution may begin, where nobody sees it.
    Speculate(Arc<Block>),
    /// A validator broke a rule, and this proves it. Keep it.
    Evidence(Arc<Evidence>),
    /// A validator does not know what it said before, or knows from which height on it signs all the same, its threshold:
    /// keep that, durably, before anything that follows.
    Observing(Option<Height>),
    /// Apply to the state, show to readers, then feed [`Input::Executed`]. The order is final.
    Execute(Arc<Block>),
    /// A quorum signed what execution of a height gave. Keep it: proofs of receipts need it.
    StateCertified(Arc<StateCertificate>),
    /// Answer a client.
    Answer {
        /// As it came with [`Input::Submit`].
        ticket: Ticket,
        /// The answer.
        answer: Answer,
    },
    /// Nothing is left to do after [`Input::Stop`]; everything written is durable.
    Stopped,
}

/// What a client is told about a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Ordered for ever and replicated; not executed yet. Comes to tickets that asked for no more.
    Ordered {
        /// The transaction's name.
        tx: Hash,
        /// Where it stands.
        position: Position,
        /// The height that ordered it.
        height: Height,
        /// Hash of that height's header.
        header: Hash,
        /// Time of that header.
        time: Time,
    },
    /// Ordered for ever, replicated, executed.
    Final {
        /// Position, name and outcome.
        receipt: Receipt,
        /// The height that ordered it.
        height: Height,
        /// Hash of that height's header.
        header: Hash,
        /// Time of that header.
        time: Time,
    },
    /// The sequence was used and this transaction is not among the pending ones. If the executed state knows
    /// the name `tx`, it is a repeat: answer its first position. If not, refuse with `otherwise`.
    Used {
        /// The transaction's name.
        tx: Hash,
        /// Its lane.
        lane: Lane,
        /// What is expected of its signer in that lane next.
        next: Producer,
        /// [`SEQUENCE_USED`](quipu_types::code::SEQUENCE_USED), or [`FENCED`](quipu_types::code::FENCED) for an older
        /// incarnation.
        otherwise: Code,
    },
    /// A complaint is heard: the lane's sequencer is watched, until the transaction is ordered or the term ends.
    Heard {
        /// The lane.
        lane: Lane,
        /// The term that is accused.
        term: Term,
    },
    /// Not taken. A repeat later is safe.
    Refused(Refusal),
}

/// Why a transaction was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Sequences before it are missing.
    #[error("the next sequence is {} of incarnation {}", .next.sequence, .next.incarnation)]
    Gap {
        /// What is expected.
        next: Producer,
    },
    /// Too many bytes wait to be ordered and executed.
    #[error("{pending_size} bytes are waiting, the most is {pending_size_max}")]
    Overloaded {
        /// Bytes taken and not executed.
        pending_size: usize,
        /// The bound.
        pending_size_max: usize,
    },
    /// The same transaction is waited for by too many.
    #[error("{count} requests wait for this transaction already")]
    Crowded {
        /// How many.
        count: usize,
    },
    /// Sequences before it are missing here, where heights are missing too that others have committed.
    #[error("this validator is catching up, and does not know what comes before this")]
    Behind,
    /// A complaint is not heard.
    #[error(transparent)]
    Complaint(#[from] Unheard),
    /// [`Input::Stop`] came.
    #[error("the validator is stopping")]
    Stopping,
}

impl Refusal {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Gap { .. } => quipu_types::code::SEQUENCE_GAP,
            Self::Overloaded { .. } | Self::Crowded { .. } | Self::Behind => {
                quipu_types::code::OVERLOADED
            }
            Self::Complaint(unheard) => unheard.code(),
            Self::Stopping => quipu_types::code::STOPPING,
        }
    }
}

/// What is expected next of a signer in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Producer {
    /// The active incarnation.
    pub incarnation: u32,
    /// The next sequence of that incarnation. A higher incarnation begins at 1.
    pub sequence: u64,
}

impl Producer {
    /// What is expected of a signer that the lane has not seen: any incarnation, from 1.
    pub const NEW: Self = Self { incarnation: 0, sequence: 1 };
}

/// A chunk as its sequencer made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Header, signature and body, as they are written to the lane.
    pub stored: StoredChunk,
    /// Hash of the header.
    pub hash: Hash,
    /// The transactions, decoded, in order.
    pub transactions: Vec<Arc<Admitted>>,
}

impl Chunk {
    /// How far the lane reaches with this chunk.
    #[must_use]
    pub fn tip(&self) -> Tip {
        tip_after(&self.stored.header, self.hash)
    }

    /// Leaf hashes of the transactions, in order.
    #[must_use]
    pub fn leaves(&self) -> Vec<Hash> {
        self.transactions.iter().map(|admitted| admitted.leaf).collect()
    }
}

/// What one lane adds to the ledger at a height.
pub type LaneBatch = (Lane, Vec<(Seqno, Arc<Admitted>)>);

/// A height: the header and the transactions that it orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The header.
    pub header: Header,
    /// Its hash.
    pub hash: Hash,
    /// The lanes that the cut moved, in the order of this height, with their transactions.
    pub lanes: Vec<LaneBatch>,
}

impl Block {
    /// The block of a committed header, its transactions read from the lanes: `read(lane, after, to)` gives those
    /// with `after < seqno ≤ to` in order. `cut_before` is the cut of the header before; empty at height 1.
    ///
    /// # Errors
    /// What reading gives.
    pub fn assemble<E>(
        header: Header,
        cut_before: &[Tip],
        mut read: impl FnMut(Lane, Seqno, Seqno) -> Result<Vec<Arc<Admitted>>, E>,
    ) -> Result<Self, E> {
        let mut lanes = Vec::new();
        for (lane, after, to) in quipu_consensus::moves(&header, cut_before) {
            let mut seqno = after;
            let transactions = read(lane, after, to)?
                .into_iter()
                .map(|admitted| {
                    seqno = seqno.next();
                    (seqno, admitted)
                })
                .collect();
            assert_eq!(seqno, to, "a lane gives every transaction that was asked for");
            lanes.push((lane, transactions));
        }
        let hash = quipu_proof::names::header_hash(&header);
        Ok(Self { header, hash, lanes })
    }

    /// Every transaction with its position, in the ledger's order.
    pub fn ordered(&self) -> impl Iterator<Item = (Position, &Arc<Admitted>)> {
        self.lanes.iter().flat_map(|(lane, transactions)| {
            transactions
                .iter()
                .map(|(seqno, admitted)| (Position { lane: *lane, seqno: *seqno }, admitted))
        })
    }

    /// Executes it: the roots to sign, and what came of it.
    ///
    /// # Errors
    /// When the store fails, or the block does not follow what the machine has executed.
    pub fn apply<S: Store>(
        &self,
        machine: &mut Machine<S>,
    ) -> Result<(SignedState, Applied), StateError> {
        let height = self.header.height;
        let transactions = self.transactions();
        let applied = machine.apply(&self.ordered_block(&transactions))?;
        let Applied { state_root, receipts_root, .. } = applied;
        let next_set = applied.next_set.as_deref().map(quipu_proof::names::set_hash);
        Ok((SignedState { height, state_root, receipts_root, next_set }, applied))
    }

    /// Executes it where nobody sees it, so that [`apply`](Self::apply) has it done if it is committed.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn speculate<S: Store>(&self, machine: &mut Machine<S>) -> Result<(), StateError> {
        let transactions = self.transactions();
        machine.speculate(&self.ordered_block(&transactions))
    }

    fn transactions(&self) -> Vec<Ordered<'_>> {
        let ordered = self.ordered().map(|(position, admitted)| Ordered {
            lane: position.lane,
            seqno: position.seqno,
            tx: admitted.tx,
            transaction: &admitted.transaction,
        });
        ordered.collect()
    }

    fn ordered_block<'a>(&self, transactions: &'a [Ordered<'a>]) -> OrderedBlock<'a> {
        OrderedBlock {
            height: self.header.height,
            header_hash: self.hash,
            time_us: self.header.time,
            epoch: self.header.epoch,
            present: self.header.voters(),
            transactions,
        }
    }

    /// How many transactions it orders.
    #[must_use]
    pub fn transaction_count(&self) -> usize {
        self.lanes.iter().map(|(_, transactions)| transactions.len()).sum()
    }
}

/// How a replica is set up.
#[derive(Debug)]
pub struct Config {
    /// The ledger.
    pub genesis: Genesis,
    /// The validator's voting key; its public key stands in the genesis.
    pub key: SecretKey,
    /// Most bytes of transactions that are taken and not yet executed.
    pub pending_size_max: usize,
    /// Bytes of transactions after which a chunk is full, at most
    /// [`CHUNK_BODY_SIZE_MAX`](quipu_types::chunk::CHUNK_BODY_SIZE_MAX).
    pub chunk_size_max: usize,
    /// Bytes from which a chunk's body travels in stripes. Validators need not agree on it: others take either form.
    pub stripe_size_min: usize,
    /// How often the clocks are ticked while nothing comes.
    pub clock_interval_us: u64,
    /// Time after which a lane that has no transactions shows its clock in a chunk of its own.
    pub clock_chunk_us: u64,
    /// Whether ticks are made here, at the rate of the genesis; else [`Input::Ticked`] brings them, from
    /// [`clock_bases`](crate::Replica::clock_bases) on.
    pub ticks: bool,
    /// Heights after which the write-ahead log is told what it may drop.
    pub checkpoint_height_count: u64,
    /// Makes answers fresh, whether the store is the newest one; chosen at random by who starts the process. None: the
    /// store is not asked about, as in tests of other things.
    pub check_nonce: Option<u64>,
    /// How a validator begins that has keys and a genesis, and a new disk.
    pub observer: Option<Observer>,
    /// Whether everything that leaves waits for its records to be durable. Always `true`, except in the test that
    /// shows that the simulator notices.
    pub wal_before_send: bool,
    /// Which rules of agreement hold: all, except in tests that show what each is for.
    pub rules: Rules,
    /// Signatures of validators that were checked already: those that check a validator's messages share one.
    pub verified: Arc<Verified>,
    /// What makes coins of open rounds of parts; without it this validator waits for the coins of others.
    pub coin: Option<CoinScheme>,
    /// The own shares of the coin; without them others throw it.
    pub coin_secret: Option<CoinSecret>,
    /// At which heights a false state is claimed; none: at no height.
    pub traps: Option<Traps>,
}

impl Config {
    /// The defaults.
    #[must_use]
    pub fn new(genesis: Genesis, key: SecretKey) -> Self {
        Self {
            genesis,
            key,
            pending_size_max: 64 << 20,
            chunk_size_max: quipu_types::chunk::CHUNK_BODY_SIZE_MAX,
            stripe_size_min: STRIPE_SIZE_MIN,
            clock_interval_us: 50_000,
            clock_chunk_us: CLOCK_CHUNK_US,
            ticks: true,
            checkpoint_height_count: 32,
            check_nonce: None,
            observer: None,
            wal_before_send: true,
            rules: Rules::ALL,
            verified: Arc::default(),
            coin: None,
            coin_secret: None,
            traps: None,
        }
    }
}

/// What the driver found on disk. The driver executes everything up to `head` before it makes the replica.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// One per lane, ascending.
    pub lanes: Vec<RecoveredLane>,
    /// The last committed header; `None` before height 1.
    pub head: Option<(Header, CommitCertificate)>,
    /// The epochs up to that of the height after it.
    pub epochs: Epochs,
    /// Rank of the primary after it.
    pub primary: usize,
    /// Newest height whose state certificate a header up to `head` embeds; 0 if none.
    pub certified: Height,
    /// Records of the write-ahead log, in order.
    pub records: Vec<Vec<u8>>,
    /// The state's sequences at `head`.
    pub producers: Vec<(Lane, PublicKey, Producer)>,
}

/// One lane as it was found.
#[derive(Clone, Debug)]
pub struct RecoveredLane {
    /// The record of the term that `head` leaves the lane in; `None` for a lane that was never written.
    pub term: Option<TermRecord>,
    /// The record of a term that a header after `head` began, which was lost, and the chunks of that term.
    pub next_term: Option<(TermRecord, Vec<Arc<Chunk>>)>,
    /// The lane's tree at its last committed chunk.
    pub frontier: Frontier,
    /// Header of the last chunk that `head` commits; `None` when the cut has nothing of the lane.
    pub committed: Option<ChunkHeader>,
    /// Whole chunks after the committed one, which link to it.
    pub suffix: Vec<Arc<Chunk>>,
}

impl Recovered {
    /// A validator that was never started.
    #[must_use]
    pub fn empty(genesis: &Genesis) -> Self {
        let lane_count = genesis.lane_count;
        let lane = RecoveredLane {
            term: None,
            next_term: None,
            frontier: Frontier::new(),
            committed: None,
            suffix: Vec::new(),
        };
        let lanes = vec![lane; usize::from(lane_count)];
        Self {
            lanes,
            head: None,
            epochs: Epochs::new(genesis.validator_set(), lane_count),
            primary: 0,
            certified: Height::default(),
            records: Vec::new(),
            producers: Vec::new(),
        }
    }
}

/// What a replica says of itself, for metrics and status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Last committed height.
    pub height: Height,
    /// Hash of its header.
    pub header: Hash,
    /// Time of its header.
    pub time: Time,
    /// Newest height executed here.
    pub executed: Height,
    /// Newest height with a state certificate.
    pub certified: Height,
    /// Transactions that wait to be ordered and executed.
    pub pending_count: usize,
    /// Their bytes.
    pub pending_size: usize,
    /// How far each lane reaches here, committed or not.
    pub tips: Vec<Tip>,
    /// Whether [`Input::Stop`] came.
    pub stopping: bool,
    /// The round of the height that is being decided.
    pub round: u32,
    /// Whether that round has a leader.
    pub kind: RoundKind,
    /// Of which kind rounds are, after the last committed height.
    pub rounds: Rounds,
    /// Each lane's term and sequencer.
    pub terms: Vec<(Term, ValidatorIndex)>,
    /// Whether it signs nothing, because it does not know what it said before.
    pub observing: bool,
    /// Whether it signs nothing yet, because others have not said how far it had come.
    pub checking: bool,
}
