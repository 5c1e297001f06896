//! The rules: what one ordered transaction does to the state, or why it can do nothing.
//!
//! ```text
//!  sequence ── wrong ──> refused, nothing at all changes (a lane never holds such a transaction)
//!      │ used up
//!  fee ─────── none ───> refused: NO_FUNDS
//!      │ paid
//!  anchor ──── old ────> refused: EXPIRED, ANCHOR_UNKNOWN
//!  signer ──── votes ──> refused: VOTING_KEY
//!      │
//!  actions ── any wrong ─> refused with the action's index; all that it did is dropped (S2)
//!      └─ Trial ──> Delta of the height
//! ```
//! An anchor is remembered for twice the window, so that an expired one is told from an unknown one.
//!
//! What actions do may have been tried before (`parallel`); all else is done here, in the ledger's order.

pub(crate) mod group;
pub(crate) mod parallel;
mod stake;

use std::cell::RefCell;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quipu_crypto::{sha256, suite};
use quipu_types::genesis::StakeRules;
use quipu_types::program::Alter;
use quipu_types::table::{COUNTERS, ledger_key, name_key};
use quipu_types::{
    AccountId, Action, Code, Define, Hash, Height, Lane, Outcome, Position, PublicKey, Reads,
    Receipt, RouteRule, StreamSpec, Time, Transaction, ValueRef, Writers, code, row,
};

use crate::cache::Cache;
use crate::compacted::{Newest, NewestOf};
use crate::dealing::Proposal;
use crate::execute::parallel::{Base, ReadSet, Tried};
use crate::machine::Ordered;
use crate::price::Prices;
use crate::record::{Sequence, Stream};
use crate::rows::{At, Changes, Layer, RowRead as _};
use crate::store::{Store, StoreError};
use crate::table::{
    Done, Fault, Meter, NAMES_RESERVED, RETURNED_SIZE_MAX, Scene, TableError, Tables,
};
use crate::view::View;

/// Transactions that may do all that one may, in a height.
const HEIGHT_SHARE: u64 = 4;
/// Most bytes of rows that a height keeps for answers.
const HEIGHT_RETURNED_SIZE_MAX: usize = 4 * RETURNED_SIZE_MAX;

/// What the genesis fixes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) anchor_window: u64,
    pub(crate) open_streams: bool,
    pub(crate) lane_count: u16,
    /// The chain id.
    pub(crate) chain: Hash,
    pub(crate) stake: Option<StakeRules>,
    /// Whether sets that have no coin get one.
    pub(crate) deals: bool,
    pub(crate) prices: Prices,
    /// Most steps of a transaction's programs.
    pub(crate) steps_max: u64,
}

impl Rules {
    /// Most steps of a height's programs.
    pub(crate) const fn height_steps_max(&self) -> u64 {
        self.steps_max.saturating_mul(HEIGHT_SHARE)
    }

    /// Heights after which an anchor is forgotten.
    pub(crate) const fn anchor_memory(&self) -> u64 {
        self.anchor_window.saturating_mul(2)
    }
}

/// What a height has changed so far.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    pub(crate) balances: BTreeMap<AccountId, u64>,
    pub(crate) streams: BTreeMap<String, Arc<Stream>>,
    pub(crate) event_counts: BTreeMap<String, u64>,
    pub(crate) sequences: BTreeMap<(Lane, PublicKey), Sequence>,
    /// Rows of tables, definitions among them.
    pub(crate) rows: Changes,
    /// Records of consumer groups.
    pub(crate) groups: Changes,
    /// Records of stake.
    pub(crate) stake: Changes,
    /// The newest events of keys of compacted streams.
    pub(crate) newest: NewestOf,
    /// What each program did, by the transaction's name, with the rows that it keeps for an answer.
    pub(crate) done: BTreeMap<Hash, Vec<Done>>,
    /// Bytes of those rows.
    returned_size: usize,
    /// Names of the transactions that used up a sequence, with their ordinals.
    pub(crate) sequenced: Vec<(Hash, Position, u32)>,
}

/// Executes the transactions of one height, in order.
#[derive(Debug)]
pub(crate) struct Executor<'m, S> {
    pub(crate) view: &'m View<S>,
    pub(crate) cache: &'m mut Cache,
    pub(crate) rules: Rules,
    pub(crate) height: Height,
    pub(crate) time: Time,
    /// Steps that programs of the height may still do.
    pub(crate) steps: u64,
    pub(crate) delta: Delta,
    /// Voting keys that were registered before the height; none where only tries are made, which do not ask.
    pub(crate) voting: Option<Arc<BTreeSet<PublicKey>>>,
    /// The set whose coin was being made before the height, if one was.
    pub(crate) proposal: Option<Arc<Proposal>>,
    /// What was read of the height so far, where that is wanted.
    reads: Option<RefCell<ReadSet>>,
    /// Marks of the rows that the height has changed, where tries are judged by them.
    changed: Option<BTreeSet<u64>>,
    /// Transactions whose try was taken.
    pub(crate) taken_count: u64,
}

/// What a transaction would change.
#[derive(Debug, Default)]
pub(crate) struct Trial<'a> {
    balances: BTreeMap<AccountId, u64>,
    created: BTreeMap<&'a str, Arc<Stream>>,
    appended: BTreeMap<&'a str, Appended<'a>>,
    scratch: Vec<u8>,
    rows: Changes,
    groups: Changes,
    stake: Changes,
    meter: Option<Meter>,
    row_count: u64,
    done: Vec<Done>,
}

impl Trial<'_> {
    /// Bytes of rows that it keeps for an answer.
    fn returned_size(&self) -> usize {
        let rows = self.done.iter().flat_map(|done| &done.rows);
        rows.map(Vec::len).fold(0, usize::saturating_add)
    }
}

#[derive(Debug)]
struct Appended<'a> {
    stream: Arc<Stream>,
    count: u64,
    /// By key the newest event, or none where that removes the key; of compacted streams alone.
    newest: BTreeMap<&'a [u8], Option<Newest>>,
}

/// What is appended.
#[derive(Clone, Copy, Debug)]
struct Event<'a> {
    stream: &'a str,
    key: &'a [u8],
    payload: &'a [u8],
}

/// A transaction that can not run, or a store that can not be read.
#[derive(Debug)]
enum Stop {
    Refused { code: Code, action: Option<u32>, detail: u16 },
    Store(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Code> for Stop {
    fn from(code: Code) -> Self {
        Self::Refused { code, action: None, detail: 0 }
    }
}

impl<'m, S: Store> Executor<'m, S> {
    /// For the height that comes on top of `view`.
    pub(crate) fn new(
        view: &'m View<S>,
        cache: &'m mut Cache,
        rules: Rules,
        height: Height,
        time: Time,
    ) -> Self {
        let steps = rules.height_steps_max();
        Self {
            view,
            cache,
            rules,
            height,
            time,
            steps,
            delta: Delta::default(),
            voting: None,
            proposal: None,
            reads: None,
            changed: None,
            taken_count: 0,
        }
    }

    /// Executes a transaction; what it did when it was tried is taken where that still holds.
    pub(crate) fn execute<'t>(
        &mut self,
        ordered: &Ordered<'t>,
        ordinal: u32,
        tried: Option<Tried<'t>>,
    ) -> Result<Receipt, StoreError> {
        let mut fee = 0;
        let (outcome, row_count, detail) = match self.run(ordered, ordinal, tried, &mut fee) {
            Ok(row_count) => (Outcome::Applied, row_count, 0),
            Err(Stop::Refused { code, action, detail }) => {
                (Outcome::Refused { code, action }, 0, detail)
            }
            Err(Stop::Store(error)) => return Err(error),
        };
        Ok(Receipt {
            lane: ordered.lane,
            seqno: ordered.seqno,
            tx: ordered.tx,
            action_count: u32::try_from(ordered.transaction.actions.len())
                .expect("admission bounds the actions by ACTION_COUNT_MAX"),
            fee,
            row_count,
            detail,
            outcome,
        })
    }

    fn run<'t>(
        &mut self,
        ordered: &Ordered<'t>,
        ordinal: u32,
        tried: Option<Tried<'t>>,
        fee: &mut u64,
    ) -> Result<u64, Stop> {
        let transaction = ordered.transaction;
        let position = Position { lane: ordered.lane, seqno: ordered.seqno };
        self.use_sequence(ordered)?;
        self.delta.sequenced.push((ordered.tx, position, ordinal));
        *fee = self.pay_fee(transaction)?;
        self.check_anchor(&transaction.anchor)?;
        self.check_role(&transaction.signer)?;
        let mut trial = match tried.and_then(|tried| self.taken(tried)) {
            Some(outcome) => outcome?,
            None => self.try_actions(ordered)?,
        };
        let row_count = trial.row_count;
        let size = self.delta.returned_size.saturating_add(trial.returned_size());
        if size > HEIGHT_RETURNED_SIZE_MAX {
            return Err(code::METER.into());
        }
        self.delta.returned_size = size;
        if !trial.done.is_empty() {
            self.delta.done.insert(ordered.tx, std::mem::take(&mut trial.done));
        }
        self.accept(trial)?;
        Ok(row_count)
    }

    /// What a transaction's actions would change.
    fn try_actions<'t>(&mut self, ordered: &Ordered<'t>) -> Result<Trial<'t>, Stop> {
        let mut trial = Trial::default();
        for (index, action) in (0_u32..).zip(&ordered.transaction.actions) {
            self.act(&mut trial, ordered, index, action).map_err(|stop| match stop {
                Stop::Refused { code, detail, .. } => {
                    Stop::Refused { code, action: Some(index), detail }
                }
                store @ Stop::Store(_) => store,
            })?;
        }
        Ok(trial)
    }

    fn use_sequence(&mut self, ordered: &Ordered<'_>) -> Result<(), Stop> {
        let transaction = ordered.transaction;
        let key = (ordered.lane, transaction.signer);
        let now = match self.delta.sequences.get(&key) {
            Some(sequence) => *sequence,
            None => self.view.sequence(ordered.lane, &transaction.signer)?,
        };
        let after = now.after(transaction.incarnation, transaction.sequence)?;
        self.delta.sequences.insert(key, after);
        Ok(())
    }

    fn pay_fee(&mut self, transaction: &Transaction) -> Result<u64, Stop> {
        let fee = self.rules.prices.fee(transaction);
        if fee > 0 {
            let payer = suite::account(&transaction.signer);
            let left = self.balance(None, &payer)?.checked_sub(fee).ok_or(code::NO_FUNDS)?;
            self.delta.balances.insert(payer, left);
        }
        Ok(fee)
    }

    fn check_anchor(&mut self, anchor: &Hash) -> Result<(), Stop> {
        let at = self.cache.anchor(self.view, anchor)?.ok_or(code::ANCHOR_UNKNOWN)?;
        let age = self.height.get().saturating_sub(at.get());
        if age > self.rules.anchor_memory() {
            return Err(code::ANCHOR_UNKNOWN.into());
        }
        if age > self.rules.anchor_window {
            return Err(code::EXPIRED.into());
        }
        Ok(())
    }

    fn act<'a>(
        &mut self,
        trial: &mut Trial<'a>,
        ordered: &Ordered<'_>,
        index: u32,
        action: &'a Action,
    ) -> Result<(), Stop> {
        let transaction = ordered.transaction;
        match action {
            Action::Append { stream, key, payload } => {
                self.append(trial, ordered, index, Event { stream, key, payload })
            }
            Action::Transfer { to, amount } => {
                self.transfer(trial, &suite::account(&transaction.signer), to, *amount)
            }
            Action::CreateStream(spec) => {
                let position = Position { lane: ordered.lane, seqno: ordered.seqno };
                self.create_stream(trial, &transaction.signer, position, spec)
            }
            Action::Run(program) => {
                let done = self.with_tables(trial, ordered, |tables| tables.run(program))?;
                trial.row_count = trial.row_count.saturating_add(done.row_count);
                let rows = if program.returns { done.rows } else { Vec::new() };
                trial.done.push(Done { rows, ..done });
                Ok(())
            }
            Action::Define(define) => {
                if let Some(name) = name_made(define)
                    && (trial.created.contains_key(name) || self.stream(name)?.is_some())
                {
                    return Err(code::STREAM_EXISTS.into());
                }
                self.with_tables(trial, ordered, |tables| tables.define(define))
            }
            Action::Reads(reads) => self.check_reads(trial, reads),
            Action::Call(call) => {
                let row_count = self.with_tables(trial, ordered, |tables| tables.call(call))?;
                trial.row_count = trial.row_count.saturating_add(row_count);
                Ok(())
            }
            Action::Group(action) => self.group(trial, ordered, action),
            Action::Stake(action) => self.stake(trial, ordered, action),
        }
    }

    /// Shows `act` the tables as the transaction sees them.
    fn with_tables<T>(
        &mut self,
        trial: &mut Trial<'_>,
        ordered: &Ordered<'_>,
        act: impl FnOnce(&mut Tables<'_>) -> Result<T, TableError>,
    ) -> Result<T, Stop> {
        let scene = Scene {
            height: self.height,
            time: self.time,
            tx: ordered.tx,
            signer: suite::account(&ordered.transaction.signer),
            is_open: self.rules.open_streams,
        };
        let base = Base::new(self.view, &self.delta.rows, self.reads.as_ref());
        let definitions = &mut self.cache.definitions;
        let meter = trial.meter.unwrap_or_else(|| Meter::new(self.rules.steps_max.min(self.steps)));
        let mut tables = Tables::new(&base, &mut trial.rows, definitions, scene);
        tables.resume(meter);
        let done = act(&mut tables);
        let after = tables.meter();
        self.steps = self.steps.saturating_sub(meter.steps.saturating_sub(after.steps));
        trial.meter = Some(after);
        done.map_err(|error| match error {
            TableError::Fault(Fault { code, detail }) => {
                Stop::Refused { code, action: None, detail }
            }
            TableError::Store(error) => Stop::Store(error),
        })
    }

    /// Whether everything that was read still stands as it did, what stands before it in the transaction included.
    fn check_reads(&self, trial: &Trial<'_>, reads: &Reads) -> Result<(), Stop> {
        // Nobody has read what is not applied.
        if reads.height >= self.height {
            return Err(code::READ_CHANGED.into());
        }
        let applied = At { view: self.view, height: None };
        let tables = reads.tables.iter().map(|table| ledger_key(COUNTERS, *table));
        for key in tables.chain(reads.keys.iter().cloned()) {
            if let Some(reads) = &self.reads {
                reads.borrow_mut().has_read(&key);
            }
            let is_changed =
                [&trial.rows, &self.delta.rows].iter().any(|rows| rows.contains_key(&key));
            if is_changed || applied.is_changed_since(&key, reads.height)? {
                return Err(code::READ_CHANGED.into());
            }
        }
        Ok(())
    }

    fn append<'a>(
        &mut self,
        trial: &mut Trial<'a>,
        ordered: &Ordered<'_>,
        action: u32,
        Event { stream: name, key, payload }: Event<'a>,
    ) -> Result<(), Stop> {
        let transaction = ordered.transaction;
        let appended = match trial.appended.entry(name) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let stream = match trial.created.get(name) {
                    Some(stream) => Arc::clone(stream),
                    None => self.stream(name)?.ok_or(code::NO_STREAM)?,
                };
                if !self.may_write(&stream, &transaction.signer) {
                    return Err(code::NOT_A_WRITER.into());
                }
                entry.insert(Appended { stream, count: 0, newest: BTreeMap::new() })
            }
        };
        let route = transaction.route.as_deref();
        let has_value = check_row(&appended.stream, payload, route, &mut trial.scratch)?;
        appended.count = appended.count.saturating_add(1);
        if appended.stream.spec.compacted {
            if key.is_empty() {
                return Err(code::NO_KEY.into());
            }
            let newest = has_value.then(|| Newest {
                height: self.height,
                position: Position { lane: ordered.lane, seqno: ordered.seqno },
                action,
                size: u32::try_from(payload.len()).expect("admission bounds a transaction's bytes"),
                payload: sha256(payload),
                key: key.to_vec(),
            });
            appended.newest.insert(key, newest);
        }
        Ok(())
    }

    fn may_write(&self, stream: &Stream, signer: &PublicKey) -> bool {
        match &stream.spec.writers {
            Writers::Anyone => true,
            Writers::Creator => self.rules.open_streams || stream.creator == suite::account(signer),
            Writers::Accounts(accounts) => accounts.binary_search(&suite::account(signer)).is_ok(),
        }
    }

    fn transfer(
        &self,
        trial: &mut Trial<'_>,
        from: &AccountId,
        to: &AccountId,
        amount: u64,
    ) -> Result<(), Stop> {
        let left = self.balance(Some(trial), from)?.checked_sub(amount).ok_or(code::NO_FUNDS)?;
        if from == to || amount == 0 {
            return Ok(());
        }
        let more = self.balance(Some(trial), to)?.checked_add(amount);
        let more = more.ok_or(code::BALANCE_OVERFLOW)?;
        trial.balances.insert(*from, left);
        trial.balances.insert(*to, more);
        Ok(())
    }

    fn create_stream<'a>(
        &mut self,
        trial: &mut Trial<'a>,
        signer: &PublicKey,
        position: Position,
        spec: &'a StreamSpec,
    ) -> Result<(), Stop> {
        let name = spec.name.as_str();
        if NAMES_RESERVED.iter().any(|prefix| name.starts_with(prefix)) {
            return Err(code::NAME_RESERVED.into());
        }
        if self.is_table(trial, name)?
            || trial.created.contains_key(name)
            || self.stream(name)?.is_some()
        {
            return Err(code::STREAM_EXISTS.into());
        }
        let creator = suite::account(signer);
        let stream = Stream::new(creator, self.height, position, spec.clone());
        trial.created.insert(name, Arc::new(stream.ok_or(code::WRONG_ROUTE)?));
        Ok(())
    }

    /// Whether a table or a view has this name.
    fn is_table(&self, trial: &Trial<'_>, name: &str) -> Result<bool, StoreError> {
        let base = Base::new(self.view, &self.delta.rows, self.reads.as_ref());
        Ok(Layer { under: &base, changes: &trial.rows }.get(&name_key(name))?.is_some())
    }

    /// Makes a transaction's changes the height's.
    fn accept(&mut self, trial: Trial<'_>) -> Result<(), StoreError> {
        let mut counts = Vec::with_capacity(trial.appended.len());
        for (name, appended) in trial.appended {
            let before = match self.delta.event_counts.get(name) {
                Some(count) => *count,
                None => self.view.event_count(name)?,
            };
            counts.push((name.to_owned(), before.saturating_add(appended.count)));
            if !appended.newest.is_empty() {
                let newest = appended.newest.into_iter();
                let of_stream = self.delta.newest.entry(name.to_owned()).or_default();
                of_stream.extend(newest.map(|(key, newest)| (key.to_vec(), newest)));
            }
        }
        self.delta.event_counts.extend(counts);
        self.delta.balances.extend(trial.balances);
        if let Some(changed) = &mut self.changed {
            changed.extend(trial.rows.keys().map(|key| parallel::mark(key)));
        }
        self.delta.rows.extend(trial.rows);
        self.delta.groups.extend(trial.groups);
        self.delta.stake.extend(trial.stake);
        let created = trial.created.into_iter();
        self.delta.streams.extend(created.map(|(name, stream)| (name.to_owned(), stream)));
        Ok(())
    }

    fn balance(&self, trial: Option<&Trial<'_>>, account: &AccountId) -> Result<u64, StoreError> {
        if let Some(balance) = trial.and_then(|trial| trial.balances.get(account)) {
            return Ok(*balance);
        }
        if let Some(reads) = &self.reads {
            reads.borrow_mut().accounts.push(*account);
        }
        match self.delta.balances.get(account) {
            Some(balance) => Ok(*balance),
            None => self.view.balance(account),
        }
    }

    fn stream(&mut self, name: &str) -> Result<Option<Arc<Stream>>, StoreError> {
        if let Some(reads) = &self.reads {
            reads.borrow_mut().streams.push(name.to_owned());
        }
        match self.delta.streams.get(name) {
            Some(stream) => Ok(Some(Arc::clone(stream))),
            None => self.cache.stream(self.view, name),
        }
    }
}

/// The name that a definition gives.
fn name_made(define: &Define) -> Option<&str> {
    match define {
        Define::CreateTable(spec) => Some(&spec.name),
        Define::CreateView { name, .. } | Define::Alter(_, Alter::Rename(name)) => Some(name),
        // Procedures have names of their own.
        Define::Drop(_)
        | Define::Alter(..)
        | Define::CreateProcedure { .. }
        | Define::DropProcedure(_)
        | Define::SetCallers(..) => None,
    }
}

/// Checks one event in one walk over its row: that it is one, and that the transaction has its route. Gives whether any
/// of its columns has a value.
fn check_row(
    stream: &Stream,
    payload: &[u8],
    route: Option<&[u8]>,
    scratch: &mut Vec<u8>,
) -> Result<bool, Code> {
    let schema = &stream.spec.schema;
    let mut routed = stream.spec.route == RouteRule::Signer && route.is_none();
    let column =
        stream.route_column().and_then(|index| Some((index, schema.columns().get(index)?)));
    let mut has_value = false;
    let walked = schema.walk_row(payload, |index, value| {
        has_value |= value != ValueRef::Null;
        if let Some((at, column)) = column
            && index == at
            && let Some(route) = route
        {
            routed = match value {
                ValueRef::Null => route.is_empty(),
                ValueRef::Text(text) => route == text.as_bytes(),
                other => {
                    scratch.clear();
                    row::route_of(column, &other.to_owned(), scratch).is_ok() && route == scratch
                }
            };
        }
    });
    walked.map_err(|_| code::BAD_ROW)?;
    if routed { Ok(has_value) } else { Err(code::WRONG_ROUTE) }
}
