//! Stake as it is stored and read: epochs and their sets, validators and their bonds, misdeeds. [`crate::dealing`] has coins,
//! [`crate::absence`] who is away.
//!
//! ```text
//!  00                              → epoch u64 · began u64 · slots u16 · pending 0|1 · changed 0|1 · proposed 0|1 · slashed u128
//!  01 · epoch u64 BE               → set · began: 0 | 1 · u64 · ended: 0 | 1 · u64
//!  02 · slot u16 BE                → voting key
//!  03 · voting key                 → slot u16 · owner: 0 | 1 · 32 · name · address · bond u64 · locked u64 · deposed 0|1
//!  04 · voting key · due u64 BE    → units u64
//!  05 · voting key · epoch u64 BE · place 32
//!                                  → validator u16 · kind · place · slashed u64 · by 32 · tx 32 · height u64
//!
//!  place = SHA-256(kind ‖ 00 ‖ the place's words)
//! ```
//! A validator in a set: key · power u64 · stale 0|1. All in [`Table::Stake`], which the state root covers: each of them can be proven.
//!
//! # Invariants
//! * K1 Units are in balances, bonds or locked, or were slashed; no action makes or loses any. What is slashed leaves
//!   circulation.
//! * K2 `locked` is the sum of a validator's units under 04. No two slots have one key.
//! * K3 A validator's index is its slot for as long as it is registered.
//! * K4 A set is there for as long as evidence is judged by it: the current one, the proposed or pending one, and those that
//!   ended no longer than `unbond_us` ago.
//! * K5 Until it is slashed, what a validator has bonded and locked is at least its power in each of those sets.

use std::collections::BTreeSet;
use std::sync::Arc;

use quipu_crypto::hash::sha256_concat;
use quipu_proof::names::set_hash;
use quipu_types::agreement::VALIDATOR_COUNT_MAX;
use quipu_types::codec::{put_bytes, put_option};
use quipu_types::genesis::StakeRules;
use quipu_types::stake::ADDRESS_SIZE_MAX;
use quipu_types::{
    AccountId, CoinKey, Decode, DecodeError, Encode, Genesis, Hash, Height, PublicKey, Reader,
    Time, Validator, ValidatorIndex, ValidatorSet, Voters,
};

use crate::absence::Absences;
use crate::dealing::{self, After, Checks, Proposal};
use crate::rows::{Changes, RowRead};
use crate::store::{StoreError, Table};
use crate::view::{damaged, number_of};

/// Key of the head.
pub const HEAD_KEY: [u8; 1] = [0];
const EPOCHS: u8 = 1;
const SLOTS: u8 = 2;
const VALIDATORS: u8 = 3;
const LOCKS: u8 = 4;
const MISDEEDS: u8 = 5;
/// The space behind misdeeds.
const MISDEEDS_END: u8 = 6;
/// Most bytes of a misdeed's kind and of its place's words: far more than consensus says.
const WORDS_SIZE_MAX: usize = 256;

/// What holds of all stake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StakeHead {
    /// The current epoch.
    pub epoch: u64,
    /// Time of its first header; the genesis' time in epoch 0.
    pub began: Time,
    /// How many slots were ever given.
    pub slot_count: u16,
    /// Whether the next epoch's set is known.
    pub is_pending: bool,
    /// Whether bonds, slots, keys for shares or who is stale have changed since a set was computed of them.
    pub is_changed: bool,
    /// Whether a set is proposed, for which a coin is made: then it is not pending yet.
    pub is_proposed: bool,
    /// Units that were slashed, of all validators.
    pub slashed: u128,
}

/// An epoch's set, and when it was in force. A set that is only proposed has no coin yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochRecord {
    /// The set.
    pub set: ValidatorSet,
    /// Time of its first header; none while it is pending.
    pub began: Option<Time>,
    /// Time of the next epoch's first header; none before that.
    pub ended: Option<Time>,
}

/// A registered validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorRecord {
    /// Its slot.
    pub index: ValidatorIndex,
    /// Who bonds to it; nobody, for a validator of a genesis that names none.
    pub owner: Option<AccountId>,
    /// For people.
    pub name: String,
    /// `host:port`; empty for a validator of the genesis that never moved.
    pub address: String,
    /// Units bonded.
    pub bond: u64,
    /// Units that were unbonded and not withdrawn.
    pub locked: u64,
    /// Whether evidence was shown against it: then it has no power any more.
    pub is_deposed: bool,
}

/// What was shown against a validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misdeed {
    /// Its index in the epoch's set.
    pub validator: ValidatorIndex,
    /// What was signed twice, or forgotten.
    pub kind: String,
    /// The height and round, the chunk or the state.
    pub place: String,
    /// Units that it cost.
    pub slashed: u64,
    /// Account of who showed it.
    pub by: AccountId,
    /// The transaction that showed it.
    pub tx: Hash,
    /// The height that executed that.
    pub height: Height,
}

/// A misdeed, whose and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MisdeedOf {
    /// The voting key.
    pub key: PublicKey,
    /// The epoch in which it was done.
    pub epoch: u64,
    /// What was done.
    pub misdeed: Misdeed,
}

impl ValidatorRecord {
    /// Its power in a set that is computed now.
    #[must_use]
    pub const fn power(&self, rules: &StakeRules) -> u64 {
        if self.is_deposed || self.bond < rules.bond_min { 0 } else { self.bond }
    }
}

impl EpochRecord {
    /// Whether evidence is still judged by it at `time`.
    #[must_use]
    pub fn judges(&self, time: Time, rules: &StakeRules) -> bool {
        self.ended.is_none_or(|ended| ended.get().saturating_add(rules.unbond_us) >= time.get())
    }
}

pub(crate) fn key_of(space: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![space];
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

/// Key of an epoch's record.
#[must_use]
pub fn epoch_key(epoch: u64) -> Vec<u8> {
    key_of(EPOCHS, &[&epoch.to_be_bytes()])
}

/// Key of a slot.
#[must_use]
pub fn slot_key(index: ValidatorIndex) -> Vec<u8> {
    key_of(SLOTS, &[&index.get().to_be_bytes()])
}

/// Key of a validator's record.
#[must_use]
pub fn validator_key(key: &PublicKey) -> Vec<u8> {
    key_of(VALIDATORS, &[&key.to_bytes()])
}

/// Key of a validator's units that are locked until a time.
#[must_use]
pub fn lock_key(key: &PublicKey, due: Time) -> Vec<u8> {
    key_of(LOCKS, &[&key.to_bytes(), &due.get().to_be_bytes()])
}

/// Key of a misdeed of a kind at a place.
#[must_use]
pub fn misdeed_key(key: &PublicKey, epoch: u64, kind: &str, place: &str) -> Vec<u8> {
    let place = sha256_concat(&[kind.as_bytes(), &[0], place.as_bytes()]);
    key_of(MISDEEDS, &[&key.to_bytes(), &epoch.to_be_bytes(), place.bytes()])
}

impl Encode for StakeHead {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.epoch.to_le_bytes());
        self.began.encode(out);
        out.extend_from_slice(&self.slot_count.to_le_bytes());
        out.push(u8::from(self.is_pending));
        out.push(u8::from(self.is_changed));
        out.push(u8::from(self.is_proposed));
        out.extend_from_slice(&self.slashed.to_le_bytes());
    }
}

impl Decode for StakeHead {
    const SIZE_MIN: usize = 37;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            epoch: reader.u64()?,
            began: Time::decode(reader)?,
            slot_count: reader.u16()?,
            is_pending: reader.bool("pending")?,
            is_changed: reader.bool("changed")?,
            is_proposed: reader.bool("proposed")?,
            slashed: u128::from_le_bytes(reader.array()?),
        })
    }
}

impl Encode for EpochRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        self.set.encode(out);
        put_option(out, self.began.as_ref());
        put_option(out, self.ended.as_ref());
    }
}

impl Decode for EpochRecord {
    const SIZE_MIN: usize = ValidatorSet::SIZE_MIN + 2;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            set: ValidatorSet::decode(reader)?,
            began: reader.option("began")?,
            ended: reader.option("ended")?,
        })
    }
}

impl Encode for ValidatorRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        self.index.encode(out);
        put_option(out, self.owner.as_ref());
        put_bytes(out, self.name.as_bytes());
        put_bytes(out, self.address.as_bytes());
        out.extend_from_slice(&self.bond.to_le_bytes());
        out.extend_from_slice(&self.locked.to_le_bytes());
        out.push(u8::from(self.is_deposed));
    }
}

impl Decode for ValidatorRecord {
    const SIZE_MIN: usize = 2 + 1 + 4 + 4 + 8 + 8 + 1;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            index: ValidatorIndex::decode(reader)?,
            owner: reader.option("owner")?,
            // A genesis' names are as long as its writer liked.
            name: reader.text("name", quipu_types::genesis::GENESIS_SIZE_MAX)?.to_owned(),
            address: reader.text("address", ADDRESS_SIZE_MAX)?.to_owned(),
            bond: reader.u64()?,
            locked: reader.u64()?,
            is_deposed: reader.bool("deposed")?,
        })
    }
}

impl Encode for Misdeed {
    fn encode(&self, out: &mut Vec<u8>) {
        self.validator.encode(out);
        put_bytes(out, self.kind.as_bytes());
        put_bytes(out, self.place.as_bytes());
        out.extend_from_slice(&self.slashed.to_le_bytes());
        self.by.encode(out);
        self.tx.encode(out);
        self.height.encode(out);
    }
}

impl Decode for Misdeed {
    const SIZE_MIN: usize = 2 + 4 + 4 + 8 + 32 + 32 + 8;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            validator: ValidatorIndex::decode(reader)?,
            kind: reader.text("kind", WORDS_SIZE_MAX)?.to_owned(),
            place: reader.text("place", WORDS_SIZE_MAX)?.to_owned(),
            slashed: reader.u64()?,
            by: AccountId::decode(reader)?,
            tx: Hash::decode(reader)?,
            height: Height::decode(reader)?,
        })
    }
}

/// What stands under a key of [`Table::Stake`].
pub(crate) fn read<T: Decode>(space: &dyn RowRead, key: &[u8]) -> Result<Option<T>, StoreError> {
    let value = space.get(key)?;
    value.map(|bytes| T::from_bytes(&bytes).map_err(|_| damaged(Table::Stake, key))).transpose()
}

pub(crate) fn head(space: &dyn RowRead) -> Result<StakeHead, StoreError> {
    read(space, &HEAD_KEY)?.ok_or_else(|| damaged(Table::Stake, &HEAD_KEY))
}

/// A validator's record, which is there.
pub(crate) fn validator(
    space: &dyn RowRead,
    key: &PublicKey,
) -> Result<ValidatorRecord, StoreError> {
    let place = validator_key(key);
    read(space, &place)?.ok_or_else(|| damaged(Table::Stake, &place))
}

/// The voting key of each slot.
pub(crate) fn slots(space: &dyn RowRead) -> Result<Vec<PublicKey>, StoreError> {
    let rows = space.range(&[SLOTS], Some(&[VALIDATORS]), VALIDATOR_COUNT_MAX)?;
    let key = |(key, value): (Vec<u8>, Vec<u8>)| {
        PublicKey::from_bytes(&value).map_err(|_| damaged(Table::Stake, &key))
    };
    rows.into_iter().map(key).collect()
}

/// Every validator, by slot.
pub(crate) fn validators(
    space: &dyn RowRead,
) -> Result<Vec<(PublicKey, ValidatorRecord)>, StoreError> {
    let slots = slots(space)?;
    slots.into_iter().map(|key| Ok((key, validator(space, &key)?))).collect()
}

/// Every epoch that is known, ascending.
pub(crate) fn epochs(space: &dyn RowRead) -> Result<Vec<EpochRecord>, StoreError> {
    let rows = space.range(&[EPOCHS], Some(&[SLOTS]), usize::MAX)?;
    let record = |(key, value): (Vec<u8>, Vec<u8>)| {
        EpochRecord::from_bytes(&value).map_err(|_| damaged(Table::Stake, &key))
    };
    rows.into_iter().map(record).collect()
}

/// What a validator has locked, each with the time at which it is due, ascending.
pub(crate) fn locks(space: &dyn RowRead, key: &PublicKey) -> Result<Vec<(Time, u64)>, StoreError> {
    let from = key_of(LOCKS, &[&key.to_bytes()]);
    let to = lock_key(key, Time::new(u64::MAX));
    let mut rows = space.range(&from, Some(&to), usize::MAX)?;
    // Nothing is behind the last instant.
    rows.extend(space.get(&to)?.map(|value| (to, value)));
    let lock = |(key, value): (Vec<u8>, Vec<u8>)| {
        let due = key.last_chunk::<8>().map(|due| Time::new(u64::from_be_bytes(*due)));
        match (due, number_of(&value)) {
            (Some(due), Ok(amount)) => Ok((due, amount)),
            _ => Err(damaged(Table::Stake, &key)),
        }
    };
    rows.into_iter().map(lock).collect()
}

/// Up to `limit` misdeeds behind a key of theirs, ascending, each with its key.
pub(crate) fn misdeeds(
    space: &dyn RowRead,
    from: &[u8],
    limit: usize,
) -> Result<Vec<(Vec<u8>, MisdeedOf)>, StoreError> {
    let from = from.max(&[MISDEEDS]);
    let rows = space.range(from, Some(&[MISDEEDS_END]), limit)?;
    let misdeed = |(key, value): (Vec<u8>, Vec<u8>)| match misdeed_of(&key, &value) {
        Ok(misdeed) => Ok((key, misdeed)),
        Err(_) => Err(damaged(Table::Stake, &key)),
    };
    rows.into_iter().map(misdeed).collect()
}

fn misdeed_of(key: &[u8], value: &[u8]) -> Result<MisdeedOf, DecodeError> {
    let mut reader = Reader::new(key);
    let _space = reader.u8()?;
    let voting = PublicKey::decode(&mut reader)?;
    let epoch = u64::from_be_bytes(reader.array()?);
    let misdeed = Misdeed::from_bytes(value)?;
    Ok(MisdeedOf { key: voting, epoch, misdeed })
}

/// Whether evidence was ever shown against a voting key.
pub(crate) fn is_deposed(space: &dyn RowRead, key: &PublicKey) -> Result<bool, StoreError> {
    let from = key_of(MISDEEDS, &[&key.to_bytes()]);
    let rows = space.range(&from, None, 1)?;
    Ok(rows.first().is_some_and(|(found, _)| found.starts_with(&from)))
}

pub(crate) fn put<T: Encode>(changes: &mut Changes, key: Vec<u8>, value: &T) {
    changes.insert(key, Some(value.to_bytes()));
}

/// What the genesis says: epoch 0, and its validators in their slots.
pub(crate) fn genesis_changes(genesis: &Genesis) -> Changes {
    let mut changes = Changes::new();
    let count = genesis.validators.len().min(VALIDATOR_COUNT_MAX);
    let head = StakeHead {
        epoch: 0,
        began: genesis.time_us,
        slot_count: u16::try_from(count).expect("a genesis has at most VALIDATOR_COUNT_MAX"),
        is_pending: false,
        is_changed: true,
        is_proposed: false,
        slashed: 0,
    };
    put(&mut changes, HEAD_KEY.to_vec(), &head);
    let set = genesis.validator_set();
    let record = EpochRecord { set, began: Some(genesis.time_us), ended: None };
    put(&mut changes, epoch_key(0), &record);
    for (index, one) in (0..).map(ValidatorIndex::new).zip(genesis.validators.iter().take(count)) {
        let record = ValidatorRecord {
            index,
            owner: one.owner,
            name: one.name.clone(),
            address: String::new(),
            bond: one.power,
            locked: 0,
            is_deposed: false,
        };
        put(&mut changes, slot_key(index), &one.key);
        put(&mut changes, validator_key(&one.key), &record);
    }
    changes
}

/// The key of the coin of a set that follows `current` with these validators.
///
/// The shares of a coin are dealt to those who hold them by their power, so a coin goes on only where nothing changes. A set
/// that differs gets one that its validators deal ([`crate::dealing`]), or has led rounds only.
#[must_use]
pub fn next_coin(current: &ValidatorSet, validators: &[Validator]) -> Option<CoinKey> {
    current.coin.filter(|_| current.validators == validators)
}

/// What the genesis fixes of sets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Laws<'a> {
    pub(crate) chain: &'a Hash,
    pub(crate) rules: Option<&'a StakeRules>,
    /// Whether sets that have no coin get one.
    pub(crate) deals: bool,
}

/// What execution of the next height needs of stake, in memory.
#[derive(Clone, Debug)]
pub(crate) struct Stake {
    pub(crate) head: StakeHead,
    pub(crate) current: Arc<ValidatorSet>,
    /// The next epoch's, while it is pending.
    pub(crate) next: Option<Arc<ValidatorSet>>,
    /// The next epoch's, while its coin is made; it may be the current one but for the coin.
    pub(crate) proposal: Option<Arc<Proposal>>,
    /// Voting keys that are registered.
    pub(crate) voting: Arc<BTreeSet<PublicKey>>,
    /// Who of the current set is away.
    pub(crate) absences: Absences,
}

impl Stake {
    pub(crate) fn load(chain: &Hash, space: &dyn RowRead) -> Result<Self, StoreError> {
        let head = head(space)?;
        let set = |epoch: u64| -> Result<Arc<ValidatorSet>, StoreError> {
            let key = epoch_key(epoch);
            let record: Option<EpochRecord> = read(space, &key)?;
            Ok(Arc::new(record.ok_or_else(|| damaged(Table::Stake, &key))?.set))
        };
        let following = head.epoch.saturating_add(1);
        let proposed = head.is_proposed.then(|| set(following)).transpose()?;
        let proposal = proposed.map(|set| Proposal::load(chain, (*set).clone(), space));
        let current = set(head.epoch)?;
        Ok(Self {
            absences: Absences::load(&current, space)?,
            current,
            next: head.is_pending.then(|| set(following)).transpose()?,
            proposal: proposal.transpose()?.map(Arc::new),
            voting: Arc::new(slots(space)?.into_iter().collect()),
            head,
        })
    }

    /// Name of the pending set.
    pub(crate) fn next_name(&self) -> Option<Hash> {
        self.next.as_deref().map(set_hash)
    }

    /// Stake in the epoch of a block: this one, or the next when its set is pending; none for another.
    pub(crate) fn in_epoch(
        &self,
        epoch: u64,
        time: Time,
        rules: Option<&StakeRules>,
        space: &dyn RowRead,
        changes: &mut Changes,
    ) -> Result<Option<Self>, StoreError> {
        if epoch == self.head.epoch {
            return Ok(Some(self.clone()));
        }
        let (Some(next), Some(rules)) = (&self.next, rules) else { return Ok(None) };
        if next.epoch != epoch {
            return Ok(None);
        }
        for record in epochs(space)? {
            let key = epoch_key(record.set.epoch);
            if record.set.epoch == self.head.epoch {
                put(changes, key, &EpochRecord { ended: Some(time), ..record });
            } else if record.set.epoch == epoch {
                put(changes, key, &EpochRecord { began: Some(time), ..record });
            } else if !record.judges(time, rules) {
                changes.insert(key, None);
            }
        }
        dealing::forget(self.head.epoch, space, changes)?;
        let head = StakeHead { epoch, began: time, is_pending: false, ..self.head };
        put(changes, HEAD_KEY.to_vec(), &head);
        let absences = self.absences.in_epoch((&self.current, next), changes);
        let (current, voting) = (Arc::clone(next), Arc::clone(&self.voting));
        Ok(Some(Self { head, current, next: None, proposal: None, voting, absences }))
    }

    /// Takes who voted, as the header of a height says.
    pub(crate) fn attend(
        &mut self,
        at: (Height, Voters),
        rules: Option<&StakeRules>,
        changes: &mut Changes,
    ) {
        let Some(rules) = rules else { return };
        if self.absences.attend(at, rules, &self.current, changes) {
            self.head.is_changed = true;
            put(changes, HEAD_KEY.to_vec(), &self.head);
        }
    }

    /// Stake after a height that changed something of it, or a height of a time: the set that follows may become known.
    /// `space` shows the changes too.
    pub(crate) fn after(
        &self,
        is_touched: bool,
        time: Time,
        laws: Laws<'_>,
        space: &dyn RowRead,
        checks: &mut Checks,
    ) -> Result<(Self, Changes), StoreError> {
        let (mut stake, mut changes) = (self.clone(), Changes::new());
        let Some(rules) = laws.rules else { return Ok((stake, changes)) };
        if is_touched {
            stake.head = head(space)?;
            stake.voting = Arc::new(slots(space)?.into_iter().collect());
        }
        if let Some(proposal) = self.proposal.as_deref() {
            let now = (time, rules.deal_us);
            match proposal.after(is_touched, now, space, checks, &mut changes)? {
                None => {}
                Some(After::Goes(proposal)) => stake.proposal = Some(Arc::new(proposal)),
                Some(After::Ends(set)) => {
                    (stake.head.is_proposed, stake.proposal) = (false, None);
                    if stake.is_current(&set) {
                        dealing::forget(set.epoch, space, &mut changes)?;
                        changes.insert(epoch_key(set.epoch), None);
                    } else {
                        stake.pend(set, &mut changes);
                    }
                    put(&mut changes, HEAD_KEY.to_vec(), &stake.head);
                }
            }
            return Ok((stake, changes));
        }
        let end = stake.head.began.get().saturating_add(rules.epoch_us);
        if !stake.head.is_changed || stake.head.is_pending || time.get() < end {
            return Ok((stake, changes));
        }
        stake.head.is_changed = false;
        let set = stake.computed(rules, space)?;
        // Without power there is nobody to go on: those of this epoch do.
        if set.is_sound() {
            stake.propose(set, time, laws, space, &mut changes)?;
        }
        put(&mut changes, HEAD_KEY.to_vec(), &stake.head);
        Ok((stake, changes))
    }

    /// A set follows if it differs, or if a coin can be made that the current one lacks. Its coin is made first, where that can be.
    fn propose(
        &mut self,
        set: ValidatorSet,
        time: Time,
        laws: Laws<'_>,
        space: &dyn RowRead,
        changes: &mut Changes,
    ) -> Result<(), StoreError> {
        let proposal = match laws.deals && set.coin.is_none() {
            true => Proposal::new(laws.chain, &set, time, space)?,
            false => None,
        };
        match proposal {
            None if self.is_current(&set) => {}
            None => self.pend(set, changes),
            Some(proposal) => {
                self.head.is_proposed = true;
                proposal.put(changes);
                let record = EpochRecord { set, began: None, ended: None };
                put(changes, epoch_key(record.set.epoch), &record);
                self.proposal = Some(Arc::new(proposal));
            }
        }
        Ok(())
    }

    /// Whether a set is the current one but for its epoch.
    fn is_current(&self, set: &ValidatorSet) -> bool {
        set.validators == self.current.validators && set.coin == self.current.coin
    }

    fn pend(&mut self, set: ValidatorSet, changes: &mut Changes) {
        self.head.is_pending = true;
        let record = EpochRecord { set, began: None, ended: None };
        put(changes, epoch_key(record.set.epoch), &record);
        self.next = Some(Arc::new(record.set));
    }

    /// The set that follows from the bonds, and from who is stale.
    fn computed(
        &self,
        rules: &StakeRules,
        space: &dyn RowRead,
    ) -> Result<ValidatorSet, StoreError> {
        let of = |(key, record): (PublicKey, ValidatorRecord)| Validator {
            key,
            power: record.power(rules),
            is_stale: false,
        };
        let mut validators: Vec<Validator> = validators(space)?.into_iter().map(of).collect();
        self.absences.mark(&mut validators);
        let coin = next_coin(&self.current, &validators);
        Ok(ValidatorSet { epoch: self.head.epoch.saturating_add(1), validators, coin })
    }
}
