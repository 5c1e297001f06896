//! Transactions tried side by side, before they are executed in order.
//!
//! ```text
//!  block ── claims: who surely needs what an earlier one changes waits ──> the others, on n threads:
//!              Tried: what its actions do to the state before the block · ReadSet: what that rests on
//!  in order, for each:  sequence · fee · anchor ─> has nothing of its ReadSet changed?
//!                                                    ├─ nothing:  its changes are the height's
//!                                                    └─ else, or not tried: its actions are executed now
//! ```
//! Optimistic concurrency under a fixed order: one try, validation in that order (compare Gelashvili et al., Block-STM,
//! 2022, who try again in parallel).
//!
//! # Invariants
//! * O1 Receipts, roots and tables are those of one thread: which transactions are tried, by whom and when, is never seen.
//! * O2 A [`ReadSet`] names everything below its own changes that a transaction's actions looked at, what they did not
//!   find too. A table's counters are sums: what was added to them is added to whatever they are by then.
//! * O3 Nothing is executed more than twice, and what a block may try is bounded as what it may execute.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher as _};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use quipu_crypto::suite;
use quipu_types::program::{Access, Expr, Op, Program, Selection};
use quipu_types::table::{COUNTERS, DEFINITIONS, TableCounters, TableDef, ledger_key, space_key};
use quipu_types::{AccountId, Action, ColumnType, Decode as _, Encode as _, Value};

use super::{Delta, Executor, HEIGHT_RETURNED_SIZE_MAX, Rules, Stop, Trial};
use crate::cache::Cache;
use crate::machine::{Ordered, OrderedBlock};
use crate::rows::{At, Changes, Layer, RowRead, between};
use crate::store::{Rows, Store, StoreError};
use crate::view::{View, after};

/// Actions for which starting threads is worth while: starting one takes as long as a few of them.
pub const ACTION_COUNT_MIN: usize = 64;
/// Keys of a program that are claimed: of more of them most are read only.
const CLAIM_COUNT_MAX: usize = 4;
/// Transactions that a thread takes at a time.
const GRAIN: usize = 8;

/// What a transaction would do, and what that rests on.
#[derive(Debug)]
pub(crate) struct Tried<'t> {
    outcome: Result<Trial<'t>, Stop>,
    /// Steps of programs.
    steps: u64,
    reads: ReadSet,
}

/// What was read of a height that others change.
#[derive(Debug, Default)]
pub(crate) struct ReadSet {
    pub(super) accounts: Vec<AccountId>,
    pub(super) streams: Vec<String>,
    /// Marks of keys.
    keys: Vec<u64>,
    /// From the first key on, below the second.
    ranges: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// As they were read.
    counters: BTreeMap<Vec<u8>, TableCounters>,
}

impl ReadSet {
    pub(super) fn has_read(&mut self, key: &[u8]) {
        self.keys.push(mark(key));
    }

    fn has_found(&mut self, key: &[u8], row: Option<&[u8]>) {
        let is_counters = key.starts_with(&COUNTERS.to_be_bytes());
        let counters = match row {
            _ if !is_counters => None,
            None => Some(TableCounters::default()),
            Some(row) => decoded(row),
        };
        match counters {
            Some(counters) => drop(self.counters.insert(key.to_vec(), counters)),
            None => self.has_read(key),
        }
    }

    fn has_ranged(&mut self, from: &[u8], to: Option<Vec<u8>>) {
        match self.ranges.last_mut() {
            Some((_, end)) if end.as_deref() == Some(from) => *end = to,
            _ => self.ranges.push((from.to_vec(), to)),
        }
    }

    /// Whether all of it stands as it did before anything of `delta`, counters aside that can be added to. `changed` has
    /// the marks of the rows in `delta`.
    fn holds(&self, delta: &Delta, changed: &BTreeSet<u64>) -> bool {
        let changes = &delta.rows;
        let is_untouched = |(from, to): &(Vec<u8>, Option<Vec<u8>>)| {
            between(changes, from, to.as_deref()).next().is_none()
        };
        !self.keys.iter().any(|key| changed.contains(key))
            && self.ranges.iter().all(is_untouched)
            && !self.accounts.iter().any(|account| delta.balances.contains_key(account))
            && !self.streams.iter().any(|stream| delta.streams.contains_key(stream))
            && self.counters.iter().all(|(key, then)| {
                // Rows are numbered by `next_row`: no two transactions may begin at the same.
                changes.get(key).is_none_or(|now| {
                    let now = now.as_deref().and_then(decoded);
                    now.is_some_and(|now| now.next_row == then.next_row)
                })
            })
    }

    /// Lets counters in `rows` go on from what they are in `changes`; None where they can not.
    fn rebase(&self, changes: &Changes, rows: &mut Changes) -> Option<()> {
        for (key, then) in &self.counters {
            let (Some(now), Some(written)) = (changes.get(key), rows.get_mut(key)) else {
                continue;
            };
            let now = now.as_deref().and_then(decoded)?;
            let made = written.as_deref().and_then(decoded)?;
            let moved = |now: u64, then: u64, made: u64| now.checked_add(made)?.checked_sub(then);
            let counters = TableCounters {
                row_count: moved(now.row_count, then.row_count, made.row_count)?,
                next_row: made.next_row,
                write_count: moved(now.write_count, then.write_count, made.write_count)?,
            };
            *written = Some(counters.to_bytes());
        }
        Some(())
    }
}

/// Stands for a key, or for more than one: who takes them for the same executes once more for nothing.
pub(super) fn mark(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}

fn decoded(bytes: &[u8]) -> Option<TableCounters> {
    TableCounters::from_bytes(bytes).ok()
}

/// The row space as a transaction finds it: what is applied, under what its height has changed.
pub(super) struct Base<'a, S> {
    applied: At<'a, S>,
    changes: &'a Changes,
    reads: Option<&'a RefCell<ReadSet>>,
}

impl<'a, S: Store> Base<'a, S> {
    pub(super) const fn new(
        view: &'a View<S>,
        changes: &'a Changes,
        reads: Option<&'a RefCell<ReadSet>>,
    ) -> Self {
        Self { applied: At { view, height: None }, changes, reads }
    }

    fn layer(&self) -> Layer<'_> {
        Layer { under: &self.applied, changes: self.changes }
    }
}

impl<S: Store> RowRead for Base<'_, S> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let row = self.layer().get(key)?;
        if let Some(reads) = self.reads {
            reads.borrow_mut().has_found(key, row.as_deref());
        }
        Ok(row)
    }

    fn range(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Rows, StoreError> {
        let rows = self.layer().range(from, to, limit)?;
        if let Some(reads) = self.reads {
            // Behind a full page nothing was looked at.
            let last = if rows.len() >= limit { rows.last() } else { None };
            let end = last.map(|(key, _)| after(key)).or_else(|| to.map(<[u8]>::to_vec));
            reads.borrow_mut().has_ranged(from, end);
        }
        Ok(rows)
    }
}

impl<S: Store> Executor<'_, S> {
    /// Remembers what the height changes, for [`Self::taken`].
    pub(crate) fn expect_tries(&mut self) {
        self.changed = Some(BTreeSet::new());
    }

    /// What was tried, if what it rests on still stands.
    pub(super) fn taken<'t>(&mut self, tried: Tried<'t>) -> Option<Result<Trial<'t>, Stop>> {
        let Tried { mut outcome, steps, reads } = tried;
        // It was tried with all the steps that a transaction may have.
        if self.steps < self.rules.steps_max || !reads.holds(&self.delta, self.changed.as_ref()?) {
            return None;
        }
        if let Ok(trial) = &mut outcome {
            reads.rebase(&self.delta.rows, &mut trial.rows)?;
        }
        self.steps = self.steps.saturating_sub(steps);
        self.taken_count = self.taken_count.saturating_add(1);
        Some(outcome)
    }

    /// Tries a transaction on the state before the height; None where that can not be read.
    fn tried<'t>(&mut self, ordered: &Ordered<'t>) -> Option<Tried<'t>> {
        self.steps = self.rules.steps_max;
        self.reads = Some(RefCell::default());
        let outcome = self.try_actions(ordered);
        let reads = self.reads.take().map(RefCell::into_inner).unwrap_or_default();
        let steps = self.rules.steps_max.saturating_sub(self.steps);
        (!matches!(outcome, Err(Stop::Store(_)))).then_some(Tried { outcome, steps, reads })
    }
}

/// How many transactions were tried, and for how many of them that was of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TriedCounts {
    /// Tried side by side.
    pub tried: u64,
    /// What they did then was taken.
    pub taken: u64,
}

/// The threads that try, and what they remember.
#[derive(Debug)]
pub(crate) struct Threads {
    /// A cache for each; none where one thread does everything.
    caches: Vec<Cache>,
    action_count_min: usize,
    counts: TriedCounts,
}

impl Default for Threads {
    fn default() -> Self {
        Self::new(NonZeroUsize::MIN, ACTION_COUNT_MIN)
    }
}

impl Threads {
    pub(crate) fn new(count: NonZeroUsize, action_count_min: usize) -> Self {
        let count = if count.get() == 1 { 0 } else { count.get() };
        let mut caches = Vec::new();
        caches.resize_with(count, Cache::default);
        Self { caches, action_count_min, counts: TriedCounts::default() }
    }

    pub(crate) fn caches(&self) -> impl Iterator<Item = &Cache> {
        self.caches.iter()
    }

    pub(crate) const fn counts(&self) -> TriedCounts {
        self.counts
    }

    pub(crate) const fn count_taken(&mut self, count: u64) {
        self.counts.taken = self.counts.taken.saturating_add(count);
    }

    /// Tries what can be tried of a block: by its place, in order; nothing where that is not worth while.
    pub(crate) fn try_all<'t, S: Store>(
        &mut self,
        view: &View<S>,
        rules: Rules,
        block: &OrderedBlock<'t>,
    ) -> Vec<Option<Tried<'t>>> {
        if self.caches.is_empty() {
            return Vec::new();
        }
        let places = Claims::new(view).free(block.transactions);
        let actions = places.iter().filter_map(|place| block.transactions.get(*place));
        let actions = actions.map(|ordered| ordered.transaction.actions.len());
        if places.len() < 2 || actions.fold(0, usize::saturating_add) < self.action_count_min {
            return Vec::new();
        }
        let (queue, budget) = (Queue::new(&places), Budget::new(rules));
        let work = |cache| try_some(view, cache, rules, block, &queue, &budget);
        let work = &work;
        let found: Vec<(usize, Tried<'t>)> = std::thread::scope(|scope| {
            let mut caches = self.caches.iter_mut();
            let own = caches.next();
            let others: Vec<_> = caches.map(|cache| scope.spawn(move || work(cache))).collect();
            let mut found = own.map(work).unwrap_or_default();
            for other in others {
                match other.join() {
                    Ok(more) => found.extend(more),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            found
        });
        let count = u64::try_from(found.len()).unwrap_or(u64::MAX);
        self.counts.tried = self.counts.tried.saturating_add(count);
        let mut by_place: Vec<Option<Tried<'t>>> = Vec::new();
        by_place.resize_with(block.transactions.len(), || None);
        for (place, tried) in found {
            if let Some(slot) = by_place.get_mut(place) {
                *slot = Some(tried);
            }
        }
        by_place
    }
}

/// One thread's part.
fn try_some<'t, S: Store>(
    view: &View<S>,
    cache: &mut Cache,
    rules: Rules,
    block: &OrderedBlock<'t>,
    queue: &Queue<'_>,
    budget: &Budget,
) -> Vec<(usize, Tried<'t>)> {
    let mut executor = Executor::new(view, cache, rules, block.height, block.time_us);
    let mut found = Vec::new();
    while let Some(places) = queue.next() {
        for place in places {
            let Some(ordered) = block.transactions.get(*place) else { continue };
            if budget.is_spent() {
                return found;
            }
            if let Some(tried) = executor.tried(ordered) {
                budget.spend(&tried);
                found.push((*place, tried));
            }
        }
    }
    found
}

/// Places that are still to be tried.
struct Queue<'a> {
    places: &'a [usize],
    next: AtomicUsize,
}

impl<'a> Queue<'a> {
    const fn new(places: &'a [usize]) -> Self {
        Self { places, next: AtomicUsize::new(0) }
    }

    fn next(&self) -> Option<&'a [usize]> {
        let from = self.next.fetch_add(GRAIN, Ordering::Relaxed);
        let to = from.saturating_add(GRAIN).min(self.places.len());
        self.places.get(from..to).filter(|places| !places.is_empty())
    }
}

/// What the tries of a height may cost together (O3).
struct Budget {
    steps: AtomicU64,
    returned: AtomicUsize,
    is_spent: AtomicBool,
    steps_max: u64,
}

impl Budget {
    const fn new(rules: Rules) -> Self {
        Self {
            steps: AtomicU64::new(0),
            returned: AtomicUsize::new(0),
            is_spent: AtomicBool::new(false),
            steps_max: rules.height_steps_max(),
        }
    }

    fn is_spent(&self) -> bool {
        self.is_spent.load(Ordering::Relaxed)
    }

    fn spend(&self, tried: &Tried<'_>) {
        let size = tried.outcome.as_ref().map_or(0, Trial::returned_size);
        let steps =
            self.steps.fetch_add(tried.steps, Ordering::Relaxed).saturating_add(tried.steps);
        let returned = self.returned.fetch_add(size, Ordering::Relaxed).saturating_add(size);
        if steps > self.steps_max || returned > HEIGHT_RETURNED_SIZE_MAX {
            self.is_spent.store(true, Ordering::Relaxed);
        }
    }
}

/// What transactions surely read and change, as far as that is written in them. Who claims what is claimed already would
/// be tried for nothing.
struct Claims<'a, S> {
    view: &'a View<S>,
    taken: BTreeSet<u64>,
    definitions: BTreeMap<u32, Option<TableDef>>,
}

impl<'a, S: Store> Claims<'a, S> {
    const fn new(view: &'a View<S>) -> Self {
        Self { view, taken: BTreeSet::new(), definitions: BTreeMap::new() }
    }

    /// Places of the transactions that claim nothing which an earlier one has claimed.
    fn free(mut self, transactions: &[Ordered<'_>]) -> Vec<usize> {
        let mut places = Vec::with_capacity(transactions.len());
        for (place, ordered) in transactions.iter().enumerate() {
            let mut claims = BTreeSet::new();
            let mut is_free = true;
            for action in &ordered.transaction.actions {
                match action {
                    // What a procedure needs stands in its definition. An append reads no event.
                    Action::Append { .. } | Action::Reads(_) | Action::Call(_) => {}
                    Action::Transfer { to, .. } => {
                        let from = suite::account(&ordered.transaction.signer);
                        claims.extend([mark(&from.0), mark(&to.0)]);
                    }
                    Action::Run(program) => self.of_program(program, &mut claims),
                    // Whoever comes later in the block may see it. What groups and stake read is in no read set.
                    Action::CreateStream(_)
                    | Action::Define(_)
                    | Action::Group(_)
                    | Action::Stake(_) => is_free = false,
                }
            }
            if is_free && self.taken.is_disjoint(&claims) {
                places.push(place);
            }
            self.taken.extend(claims);
        }
        places
    }

    fn of_program(&mut self, program: &Program, claims: &mut BTreeSet<u64>) {
        let table = program.table.id;
        match &program.op {
            Op::Update { rows: Selection { access: Access::Keys(keys), .. }, .. }
            | Op::Delete { rows: Selection { access: Access::Keys(keys), .. } }
                if keys.len() <= CLAIM_COUNT_MAX =>
            {
                let parameters = &program.parameters;
                claims.extend(keys.iter().map(|key| claim_of_key(table, key, parameters)));
            }
            Op::Insert { columns, .. } if self.takes_numbers(table, columns) => {
                claims.insert(mark(&space_key(table, 1)));
            }
            Op::Number { .. } => {
                claims.insert(mark(&space_key(table, 1)));
            }
            Op::Insert { .. } | Op::Update { .. } | Op::Delete { .. } | Op::Truncate => {}
        }
    }

    /// Whether an insert that gives these columns takes numbers that the table counts.
    fn takes_numbers(&mut self, table: u32, columns: &[u16]) -> bool {
        let definition = self.definitions.entry(table).or_insert_with(|| {
            let bytes = At { view: self.view, height: None }.get(&ledger_key(DEFINITIONS, table));
            TableDef::from_bytes(&bytes.ok()??).ok()
        });
        definition.as_ref().and_then(TableDef::table).is_some_and(|spec| {
            let is_given = |column: u16| columns.contains(&column);
            spec.primary_key.is_empty() || spec.identity().is_some_and(|column| !is_given(column))
        })
    }
}

/// Rows are the same where this is; it may differ where they are the same.
fn claim_of_key(table: u32, key: &[Expr], parameters: &[(ColumnType, Value)]) -> u64 {
    let mut claim = space_key(table, 0);
    for expr in key {
        let parameter = match expr {
            Expr::Parameter(number) => parameters.get(usize::from(*number)),
            _ => None,
        };
        match parameter {
            Some((kind, value)) => Expr::Const(*kind, value.clone()).encode(&mut claim),
            None => expr.encode(&mut claim),
        }
    }
    mark(&claim)
}
