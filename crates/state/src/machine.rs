//! The state machine: ordered blocks in, receipts and roots out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use quipu_crypto::CacheCounts;
use quipu_crypto::hash::{leaf_hashes, sha256};
use quipu_crypto::merkle;
use quipu_proof::names;
use quipu_types::{
    AccountId, Code, Encode, Genesis, Hash, Height, Lane, PublicKey, Receipt, Seqno, Time,
    Transaction, ValidatorSet, Voters, code,
};
use thiserror::Error;

use crate::cache::Cache;
use crate::compacted;
use crate::execute::parallel::Threads;
pub use crate::execute::parallel::{ACTION_COUNT_MIN, TriedCounts};
use crate::execute::{Delta, Executor, Rules};
use crate::group::{self, Group, GroupHead};
use crate::price::{PRICES, Prices};
use crate::record::{
    Sequence, StateRecord, Stream, TxPlace, height_key, sequence_key, sequence_of_key,
};
use crate::rows::{At, Changes, Layer, RowRead, TableRead, VersionPlace, Versions, put_versions};
use crate::stake::{self, Laws, Stake};
use crate::store::{Rows, Store, StoreError, Table, WriteBatch};
use crate::table::{Done, STEPS_MAX};
use crate::trie::{self, TrieProof};
use crate::view::{View, damaged, number_of, put_receipts};

mod speculation;
mod validators;

use speculation::Speculation;
pub use speculation::SpeculationCounts;

/// Version of the tables' layout.
const FORMAT: u64 = 5;
const META_CHAIN: &[u8] = b"chain";
const META_FORMAT: &[u8] = b"format";
const META_APPLIED: &[u8] = b"applied";
/// Rows that a dump reads at a time.
const DUMP_COUNT: usize = 1_024;

/// The transactions that one header orders.
#[derive(Clone, Copy, Debug)]
pub struct OrderedBlock<'a> {
    /// The header's height.
    pub height: Height,
    /// The header's hash.
    pub header_hash: Hash,
    /// The header's time.
    pub time_us: Time,
    /// The header's epoch.
    pub epoch: u64,
    /// Whose votes the header carries.
    pub present: Voters,
    /// The transactions in the ledger's order.
    pub transactions: &'a [Ordered<'a>],
}

/// A transaction and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Ordered<'a> {
    /// Its lane.
    pub lane: Lane,
    /// Its number in the lane.
    pub seqno: Seqno,
    /// Its name.
    pub tx: Hash,
    /// What it says.
    pub transaction: &'a Transaction,
}

/// What a block gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// One per transaction, in the block's order.
    pub receipts: Vec<Receipt>,
    /// RFC 9162 root over the receipts' encodings.
    pub receipts_root: Hash,
    /// Root of the state after the block.
    pub state_root: Hash,
    /// The next epoch's set, while that is known and not in force.
    pub next_set: Option<Arc<ValidatorSet>>,
    /// What each program of a transaction did, by the transaction's name, with the rows that it keeps for an answer.
    /// Nobody agrees on that, nothing stores it.
    pub done: BTreeMap<Hash, Vec<Done>>,
}

/// Why the machine could not open, apply or speculate. It is as it was before.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StateError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store belongs to another ledger.
    #[error("state store belongs to chain {stored}, not to {wanted}")]
    Foreign {
        /// The chain id found.
        stored: Hash,
        /// The genesis' chain id.
        wanted: Hash,
    },
    /// The store was written by a version with other tables.
    #[error("state store has format {stored}, this version reads {FORMAT}")]
    Format {
        /// The format found.
        stored: u64,
    },
    /// The block is not the one that comes next.
    #[error("height {given} does not follow, {wanted} is next")]
    Height {
        /// The height that comes next.
        wanted: Height,
        /// The block's.
        given: Height,
    },
    /// The block is of an epoch that can not be: neither the current one, nor the next while its set is pending.
    #[error("epoch {given} can not be, {current} is the current one")]
    Epoch {
        /// The current epoch.
        current: u64,
        /// The block's.
        given: u64,
    },
}

impl StateError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Store(error) => error.code(),
            Self::Foreign { .. } => code::STORE_FOREIGN,
            Self::Format { .. } | Self::Height { .. } | Self::Epoch { .. } => code::STORE_DAMAGED,
        }
    }
}

/// The state of a ledger over a store.
#[derive(Debug)]
pub struct Machine<S> {
    pub(crate) view: View<S>,
    cache: Cache,
    threads: Threads,
    rules: Rules,
    chain: Hash,
    pub(crate) applied: Height,
    flushed: Height,
    pub(crate) state_root: Hash,
    stake: Stake,
    speculation: Option<Speculation>,
    speculations: SpeculationCounts,
}

impl<S: Store> Machine<S> {
    /// Opens a store that belongs to this genesis, or makes an empty one its state at height 0.
    pub fn open(store: S, genesis: &Genesis) -> Result<Self, StateError> {
        Self::open_priced(store, genesis, PRICES)
    }

    /// As [`Machine::open`], at other prices: every member of a ledger must open at the same.
    pub fn open_priced(store: S, genesis: &Genesis, prices: Prices) -> Result<Self, StateError> {
        let chain = names::chain_id(genesis);
        let rules = Rules {
            anchor_window: genesis.anchor_window_heights,
            open_streams: genesis.open_streams,
            lane_count: genesis.lane_count,
            chain,
            stake: genesis.stake,
            deals: genesis.stake.is_some_and(|rules| rules.deal_us > 0),
            prices,
            steps_max: STEPS_MAX,
        };
        let mut view = View { store, overlay: WriteBatch::new() };
        match view.read::<Hash>(Table::Meta, META_CHAIN)? {
            None => put_genesis(&mut view, genesis, chain)?,
            Some(stored) if stored != chain => {
                return Err(StateError::Foreign { stored, wanted: chain });
            }
            Some(_) => {}
        }
        let stored = meta_number(&view, META_FORMAT)?;
        if stored != FORMAT {
            return Err(StateError::Format { stored });
        }
        let applied = Height::new(meta_number(&view, META_APPLIED)?);
        let record = view.state(applied)?;
        let record = record.ok_or_else(|| damaged(Table::State, &height_key(applied)))?;
        if trie::root(&view)? != record.state_root {
            return Err(damaged(Table::State, &height_key(applied)).into());
        }
        let stake = Stake::load(&chain, &TableRead { view: &view, table: Table::Stake })?;
        if stake.next_name() != record.next_set {
            return Err(damaged(Table::State, &height_key(applied)).into());
        }
        Ok(Self {
            view,
            cache: Cache::default(),
            threads: Threads::default(),
            rules,
            chain,
            applied,
            flushed: applied,
            state_root: record.state_root,
            stake,
            speculation: None,
            speculations: SpeculationCounts::default(),
        })
    }

    /// Lets blocks of at least `action_count_min` actions be executed on so many threads, the caller's among them. What
    /// comes of them is the same (O1).
    #[must_use]
    pub fn with_threads(mut self, count: NonZeroUsize, action_count_min: usize) -> Self {
        self.threads = Threads::new(count, action_count_min);
        self
    }

    /// Makes the block that comes next part of the state. An error leaves everything as it was (S4).
    ///
    /// What [`Machine::speculate`] holds is moved in when it is this block's, and nothing is executed or hashed
    /// again; it is dropped when another block was applied.
    pub fn apply(&mut self, block: &OrderedBlock<'_>) -> Result<Applied, StateError> {
        let executed = match self.take_speculation(block) {
            Some(kept) => kept,
            None => {
                let executed = self.execute(block)?;
                self.forget_speculation();
                executed
            }
        };
        assert_eq!(executed.height, self.applied.next(), "what is applied follows (P1)");
        self.view.overlay.absorb(executed.batch);
        self.applied = executed.height;
        self.state_root = executed.applied.state_root;
        self.stake = executed.stake;
        Ok(executed.applied)
    }

    /// What the block that comes next gives on the applied state, which stays as it is.
    fn execute(&mut self, block: &OrderedBlock<'_>) -> Result<Speculation, StateError> {
        let OrderedBlock { height, header_hash, time_us, transactions, .. } = *block;
        let wanted = self.applied.next();
        if height != wanted {
            return Err(StateError::Height { wanted, given: height });
        }
        let (stake, changes) = self.enter(block)?;
        let tried = self.threads.try_all(&self.view, self.rules, block);
        let mut executor = Executor::new(&self.view, &mut self.cache, self.rules, height, time_us);
        executor.voting = Some(Arc::clone(&stake.voting));
        executor.proposal.clone_from(&stake.proposal);
        executor.delta.stake = changes;
        if !tried.is_empty() {
            executor.expect_tries();
        }
        let mut tried = tried.into_iter();
        let mut receipts = Vec::with_capacity(transactions.len());
        for (ordinal, ordered) in (0_u32..).zip(transactions) {
            receipts.push(executor.execute(ordered, ordinal, tried.next().flatten())?);
        }
        self.threads.count_taken(executor.taken_count);
        let mut delta = executor.delta;
        let done = std::mem::take(&mut delta.done);
        let stake = self.leave(&stake, time_us, &mut delta.stake)?;
        let encodings: Vec<Vec<u8>> = receipts.iter().map(Encode::to_bytes).collect();
        let leaves = leaf_hashes(&encodings.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let receipts_root = merkle::root(&leaves);

        let mut batch = WriteBatch::new();
        let state_root = self.put_delta(delta, height, &mut batch)?;
        put_receipts(&mut batch, height, &receipts);
        let record = StateRecord {
            height,
            header_hash,
            time_us,
            state_root,
            receipts_root,
            transaction_count: u32::try_from(receipts.len())
                .expect("a cut holds fewer transactions than 32 bits count"),
            next_set: stake.next_name(),
        };
        put_record(&mut batch, &record);
        self.forget_anchor(height, &mut batch)?;
        let next_set = stake.next.clone();
        let applied = Applied { receipts, receipts_root, state_root, next_set, done };
        let OrderedBlock { epoch, present, .. } = *block;
        Ok(Speculation { height, header_hash, time_us, epoch, present, batch, stake, applied })
    }

    /// Stake in a block's epoch, and what changes when that is the next one, or when somebody went or came.
    fn enter(&self, block: &OrderedBlock<'_>) -> Result<(Stake, Changes), StateError> {
        let (epoch, time) = (block.epoch, block.time_us);
        let mut changes = Changes::new();
        let applied = TableRead { view: &self.view, table: Table::Stake };
        let rules = self.rules.stake.as_ref();
        let stake = self.stake.in_epoch(epoch, time, rules, &applied, &mut changes)?;
        let current = self.stake.head.epoch;
        let mut stake = stake.ok_or(StateError::Epoch { current, given: epoch })?;
        stake.attend((block.height, block.present), rules, &mut changes);
        Ok((stake, changes))
    }

    /// Stake after a height that has changed what is in `changes`, which gets what follows from that.
    fn leave(
        &mut self,
        stake: &Stake,
        time: Time,
        changes: &mut Changes,
    ) -> Result<Stake, StoreError> {
        let applied = TableRead { view: &self.view, table: Table::Stake };
        let space = Layer { under: &applied, changes };
        let is_touched = !changes.is_empty();
        let rules = &self.rules;
        let laws = Laws { chain: &rules.chain, rules: rules.stake.as_ref(), deals: rules.deals };
        let checks = &mut self.cache.checks;
        let (stake, more) = stake.after(is_touched, time, laws, &space, checks)?;
        changes.extend(more);
        Ok(stake)
    }

    /// Writes every height that is applied and not stored yet, in one commit; a speculation is none of them, and
    /// stays good (S6). An error leaves everything as it was (S4).
    pub fn flush(&mut self) -> Result<(), StateError> {
        if self.view.overlay.is_empty() {
            return Ok(());
        }
        self.view.store.commit(&self.view.overlay)?;
        self.view.overlay = WriteBatch::new();
        self.flushed = self.applied;
        Ok(())
    }

    /// Puts what changed, and the trie's pages; gives the state root.
    fn put_delta(
        &self,
        delta: Delta,
        height: Height,
        batch: &mut WriteBatch,
    ) -> Result<Hash, StoreError> {
        let mut changes = BTreeMap::new();
        let mut put = |table: Table, key: Vec<u8>, value: Option<Vec<u8>>| {
            changes.insert(trie_key(table, &key), value.as_deref().map(sha256));
            batch.set(table, key, value);
        };
        for (account, balance) in delta.balances {
            let value = (balance > 0).then(|| balance.to_le_bytes().to_vec());
            put(Table::Account, account.0.to_vec(), value);
        }
        for (name, stream) in delta.streams {
            put(Table::Stream, name.into_bytes(), Some(stream.to_bytes()));
        }
        for (name, count) in delta.event_counts {
            put(Table::EventCount, name.into_bytes(), Some(count.to_le_bytes().to_vec()));
        }
        for ((lane, signer), sequence) in delta.sequences {
            put(Table::Sequence, sequence_key(lane, &signer), Some(sequence.to_bytes()));
        }
        for (key, record) in delta.groups {
            put(Table::Group, key, record);
        }
        for (key, record) in delta.stake {
            put(Table::Stake, key, record);
        }
        for (stream, newest) in delta.newest {
            let keys = compacted::put_newest(&self.view, &stream, newest, batch)?;
            let key = stream.into_bytes();
            let value = keys.map(|keys| keys.to_bytes());
            changes.insert(trie_key(Table::Keys, &key), value.as_deref().map(sha256));
            batch.set(Table::Keys, key, value);
        }
        for (key, row) in &delta.rows {
            // An index' entries follow from the rows.
            if is_of_rows(key) {
                changes.insert(trie_key(Table::Row, key), row.as_deref().map(sha256));
            }
        }
        put_versions(&self.view, batch, delta.rows, height)?;
        for (tx, position, ordinal) in delta.sequenced {
            let place = TxPlace { position, height, ordinal };
            batch.put(Table::Tx, tx.bytes().to_vec(), place.to_bytes());
        }
        if changes.is_empty() {
            return Ok(self.state_root);
        }
        let changes: Vec<trie::Change> = changes.into_iter().collect();
        trie::update(&self.view, &changes, batch)
    }

    /// Drops the anchor that no transaction of a later height can use.
    fn forget_anchor(&self, height: Height, batch: &mut WriteBatch) -> Result<(), StoreError> {
        let age = self.rules.anchor_memory().saturating_add(1);
        let Some(oldest) = height.get().checked_sub(age).map(Height::new) else { return Ok(()) };
        if let Some(record) = self.view.state(oldest)? {
            batch.delete(Table::Anchor, record.header_hash.bytes().to_vec());
        }
        Ok(())
    }

    /// How often what execution reads most was asked for, and was in memory.
    #[must_use]
    pub fn cache_counts(&self) -> CacheCounts {
        self.threads.caches().fold(self.cache.counts(), |counts, cache| {
            let CacheCounts { hits, misses } = cache.counts();
            CacheCounts {
                hits: counts.hits.saturating_add(hits),
                misses: counts.misses.saturating_add(misses),
            }
        })
    }

    /// How many transactions were tried side by side, and how many of them held.
    #[must_use]
    pub const fn tried_counts(&self) -> TriedCounts {
        self.threads.counts()
    }

    /// The chain id.
    #[must_use]
    pub const fn chain(&self) -> Hash {
        self.chain
    }

    /// The newest height executed; 0 before the first.
    #[must_use]
    pub const fn applied(&self) -> Height {
        self.applied
    }

    /// The newest height that a crash can not take away.
    #[must_use]
    pub const fn flushed(&self) -> Height {
        self.flushed
    }

    /// How many heights a `flush` would write.
    #[must_use]
    pub const fn unflushed_heights(&self) -> u64 {
        self.applied.get().saturating_sub(self.flushed.get())
    }

    /// Bytes that wait for a `flush`, about what they take in memory. A speculation's are not among them.
    #[must_use]
    pub const fn unflushed_size(&self) -> usize {
        self.view.overlay.size()
    }

    /// Root of the state at [`Machine::applied`].
    #[must_use]
    pub const fn state_root(&self) -> Hash {
        self.state_root
    }

    /// The store, which holds the state at [`Machine::flushed`].
    #[must_use]
    pub const fn store(&self) -> &S {
        &self.view.store
    }

    /// The store alone: what was not flushed is lost, as in a crash.
    #[must_use]
    pub fn into_store(self) -> S {
        self.view.store
    }

    /// The balance of an account; zero when it has none.
    pub fn balance(&self, account: &AccountId) -> Result<u64, StateError> {
        Ok(self.view.balance(account)?)
    }

    /// Up to `limit` accounts that have a balance, ascending, from `from` on.
    pub fn accounts(
        &self,
        from: &AccountId,
        limit: usize,
    ) -> Result<Vec<(AccountId, u64)>, StateError> {
        let rows = self.view.scan(Table::Account, &from.0, limit)?;
        let accounts = rows.into_iter().map(|(key, value)| {
            let account = <[u8; 32]>::try_from(key.as_slice()).ok().map(AccountId);
            match (account, number_of(&value)) {
                (Some(account), Ok(balance)) => Ok((account, balance)),
                _ => Err(damaged(Table::Account, &key).into()),
            }
        });
        accounts.collect()
    }

    /// A stream, if it exists.
    pub fn stream(&self, name: &str) -> Result<Option<Stream>, StateError> {
        Ok(self.view.stream(name)?)
    }

    /// Up to `limit` streams, ascending by name, from `from` on.
    pub fn streams(&self, from: &str, limit: usize) -> Result<Vec<Stream>, StateError> {
        let rows = self.view.scan(Table::Stream, from.as_bytes(), limit)?;
        let streams = rows.into_iter().map(|(key, value)| {
            quipu_types::Decode::from_bytes(&value).map_err(|_| damaged(Table::Stream, &key).into())
        });
        streams.collect()
    }

    /// A consumer group, if it exists.
    pub fn group(&self, name: &str) -> Result<Option<Group>, StateError> {
        Ok(group::Applied(&self.view).group(name, self.rules.lane_count)?)
    }

    /// Up to `limit` consumer groups whose names are behind `after`, ascending.
    pub fn groups(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, GroupHead)>, StateError> {
        Ok(group::Applied(&self.view).groups(after, limit)?)
    }

    /// What stood under a key of the row space at a height.
    pub fn row_at(&self, key: &[u8], height: Height) -> Result<Option<Vec<u8>>, StoreError> {
        self.at(height).get(key)
    }

    /// Up to `limit` rows of the row space at a height, from `from` on and below `to`, ascending.
    pub fn rows_at(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
        height: Height,
    ) -> Result<Rows, StoreError> {
        self.at(height).range(from, to, limit)
    }

    /// Up to `limit` versions of the row space up to a height, from a place on and below `to`, ascending by key and time;
    /// and where there are more. Fewer than `limit`, or none, are no end.
    pub fn versions_at(
        &self,
        from: &VersionPlace,
        to: Option<&[u8]>,
        limit: usize,
        height: Height,
    ) -> Result<Versions, StoreError> {
        self.at(height).versions(from, to, limit)
    }

    fn at(&self, height: Height) -> At<'_, S> {
        At { view: &self.view, height: Some(height).filter(|height| *height < self.applied) }
    }

    /// How many events a stream has.
    pub fn event_count(&self, stream: &str) -> Result<u64, StateError> {
        Ok(self.view.event_count(stream)?)
    }

    /// Where a producer stands in a lane.
    pub fn sequence(&self, lane: Lane, signer: &PublicKey) -> Result<Sequence, StateError> {
        Ok(self.view.sequence(lane, signer)?)
    }

    /// Every producer of every lane: what a sequencer starts from.
    pub fn sequences(&self) -> Result<Vec<(Lane, PublicKey, Sequence)>, StateError> {
        let mut sequences = Vec::new();
        self.rows(Table::Sequence, |key, value| {
            let sequence: Sequence = quipu_types::Decode::from_bytes(value)
                .map_err(|_| damaged(Table::Sequence, key))?;
            let (lane, signer) = sequence_of_key(key).map_err(|_| damaged(Table::Sequence, key))?;
            sequences.push((lane, signer, sequence));
            Ok(())
        })?;
        Ok(sequences)
    }

    /// The height of a header that may still be an anchor; the chain id has height 0.
    pub fn anchor(&self, header: &Hash) -> Result<Option<Height>, StateError> {
        Ok(self.view.anchor(header)?)
    }

    /// Where an executed transaction stands.
    pub fn tx(&self, tx: &Hash) -> Result<Option<TxPlace>, StateError> {
        Ok(self.view.tx(tx)?)
    }

    /// What was executed at a height, if it was.
    pub fn state(&self, height: Height) -> Result<Option<StateRecord>, StateError> {
        Ok(self.view.state(height)?)
    }

    /// The receipts of a height in order, if it was executed.
    pub fn receipts(&self, height: Height) -> Result<Option<Vec<Receipt>>, StateError> {
        Ok(self.view.receipts(height)?)
    }

    /// One receipt: of a height, the `ordinal`-th.
    pub fn receipt(&self, height: Height, ordinal: u32) -> Result<Option<Receipt>, StateError> {
        Ok(self.view.receipt(height, ordinal)?)
    }

    /// The value under an authenticated key, and its proof against [`Machine::state_root`]: of inclusion, or of
    /// absence. Verified by [`crate::verify_trie`] with [`trie_key`] and the value's SHA-256.
    pub fn prove(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<(Option<Vec<u8>>, TrieProof), StateError> {
        let value = match table {
            Table::Row if is_of_rows(key) => self.row_at(key, self.applied)?,
            _ if table.is_authenticated() => self.view.get(table, key)?.map(Cow::into_owned),
            _ => None,
        };
        Ok((value, trie::prove(&self.view, &trie_key(table, key), trie::PATH_SIZE_MAX)?))
    }

    /// Visits everything, ascending by table and key: two machines that applied the same blocks and flushed
    /// show the same. An error names what can not be read.
    pub fn dump(&self, mut visit: impl FnMut(Table, &[u8], &[u8])) -> Result<(), StateError> {
        for table in Table::ALL {
            self.rows(table, |key, value| {
                visit(table, key, value);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn rows(
        &self,
        table: Table,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut from = Vec::new();
        loop {
            let rows = self.view.scan(table, &from, DUMP_COUNT)?;
            for (key, value) in &rows {
                visit(key, value)?;
            }
            match rows.last() {
                Some((key, _)) if rows.len() == DUMP_COUNT => from = crate::view::after(key),
                _ => return Ok(()),
            }
        }
    }
}

/// Whether a key of the row space is of a row, a definition or counters: what the state root covers.
fn is_of_rows(key: &[u8]) -> bool {
    key.get(4) == Some(&0)
}

/// Where a table's key stands in the trie.
#[must_use]
pub fn trie_key(table: Table, key: &[u8]) -> Hash {
    trie::place_of(table.tag(), key)
}

fn meta_number<S: Store>(view: &View<S>, key: &[u8]) -> Result<u64, StoreError> {
    let bytes = view.get(Table::Meta, key)?.ok_or_else(|| damaged(Table::Meta, key))?;
    number_of(&bytes).map_err(|_| damaged(Table::Meta, key))
}

/// A height's record, its anchor, and that it is applied.
fn put_record(batch: &mut WriteBatch, record: &StateRecord) {
    batch.put(Table::State, height_key(record.height), record.value());
    let anchor = record.header_hash.bytes().to_vec();
    batch.put(Table::Anchor, anchor, record.height.to_bytes());
    batch.put(Table::Meta, META_APPLIED.to_vec(), record.height.to_bytes());
}

fn put_genesis<S: Store>(
    view: &mut View<S>,
    genesis: &Genesis,
    chain: Hash,
) -> Result<(), StoreError> {
    let mut batch = WriteBatch::new();
    let mut changes = BTreeMap::new();
    for entry in genesis.accounts.iter().filter(|entry| entry.balance > 0) {
        let value = entry.balance.to_le_bytes().to_vec();
        changes.insert(trie_key(Table::Account, &entry.account.0), Some(sha256(&value)));
        batch.put(Table::Account, entry.account.0.to_vec(), value);
    }
    for (key, value) in stake::genesis_changes(genesis) {
        changes.insert(trie_key(Table::Stake, &key), value.as_deref().map(sha256));
        batch.set(Table::Stake, key, value);
    }
    let changes: Vec<trie::Change> = changes.into_iter().collect();
    let state_root = trie::update(view, &changes, &mut batch)?;
    let record = StateRecord {
        height: Height::new(0),
        header_hash: chain,
        time_us: genesis.time_us,
        state_root,
        receipts_root: merkle::root(&[]),
        transaction_count: 0,
        next_set: None,
    };
    put_record(&mut batch, &record);
    batch.put(Table::Meta, META_CHAIN.to_vec(), chain.bytes().to_vec());
    batch.put(Table::Meta, META_FORMAT.to_vec(), FORMAT.to_le_bytes().to_vec());
    view.store.commit(&batch)
}

#[cfg(test)]
mod tests;
