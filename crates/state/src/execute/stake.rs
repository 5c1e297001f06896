//! The rules of stake: who validates, with which bond, what evidence costs, and who deals a coin.
//!
//! ```text
//!  Register ─ keys of one role ─ a slot ─> Bond ─> bond ── Unbond ─> locked until time + unbond_us ── Withdraw ─> balance
//!                                                   └─ Evidence, judged by its epoch's set: both lose slash_permille,
//!                                                      once a (voting key, epoch, kind, place); no power ever again
//! ```
//! # Invariants
//! Those of [`crate::stake`], and:
//! * B1 A voting key that is registered signs no transaction that does anything, and had no other role before.
//! * B2 No Unbond leaves a set without power to be computed.
//! * B3 Nothing of a set's power can be withdrawn while evidence is judged by that set.
//! * B4 A voting key alone says its key for shares and its dealing; each counts for the epoch that it signed.
//!
//! # Limits
//! An action costs the steps of the records that it looks at, and of the signatures that it checks, under the meter of
//! programs. Evidence is at most a transaction: two proposals of the largest sets are more.

use quipu_consensus::{Context, Evidence};
use quipu_crypto::Tag;
use quipu_crypto::coin::dealing::verify_key;
use quipu_crypto::suite::{self, is_weak, verify_tagged};
use quipu_types::agreement::VALIDATOR_COUNT_MAX;
use quipu_types::genesis::StakeRules;
use quipu_types::stake::{StakeAction, possession_body};
use quipu_types::{
    AccountId, Dealing, DealingKey, DealingKeyProof, Decode as _, Encode as _, Grievance, Hash,
    Height, Lane, PublicKey, Signature, Time, ValidatorIndex, code,
};

use super::{Executor, Stop, Trial};
use crate::dealing::{
    Checks, KeyRecord, Making, Proposal, Stage, dealing_key, dealing_key_key, making, making_key,
};
use crate::machine::Ordered;
use crate::record::Sequence;
use crate::rows::{Changes, Layer, RowRead as _, TableRead};
use crate::stake::{
    self, EpochRecord, HEAD_KEY, Misdeed, StakeHead, ValidatorRecord, epoch_key, lock_key,
    misdeed_key, slot_key, validator_key,
};
use crate::store::{Store, StoreError, Table};
use crate::table::{METER_MAX, Meter, ROW_STEPS};

/// Records that every action may look at and write.
const ACTION_RECORD_COUNT: u64 = 8;
/// What checking a signature costs, in records.
const SIGNATURE_RECORD_COUNT: u64 = 1_024;
/// What judging evidence costs, in records: a schedule, two signatures, a coin. A height judges 256 at most, false or not.
const EVIDENCE_RECORD_COUNT: u64 = 1 << 15;
/// Bytes of evidence that cost as much as a record.
const SIZE_RECORD: u64 = 1_024;
/// What a pairing costs, in records, with what stands around it.
const PAIRING_RECORD_COUNT: u64 = 1 << 15;
/// What checking a commitment of a dealing costs, in records: a square root and a group check. A height checks 13 dealings of
/// the largest set at most, 0.4 s.
const COMMITMENT_RECORD_COUNT: u64 = 1_536;
/// What multiplying it costs.
const TERM_RECORD_COUNT: u64 = 256;
const MINUTE_US: u64 = 60_000_000;

const _: () = assert!(EVIDENCE_RECORD_COUNT * 256 >= METER_MAX * 4, "a height judges 256 at most");

/// What an action does to the signer's balance.
enum Payment {
    Nothing,
    Pays(u64),
    Gets(u64),
}

impl<S: Store> Executor<'_, S> {
    /// What an action of stake changes.
    pub(super) fn stake(
        &mut self,
        trial: &mut Trial<'_>,
        ordered: &Ordered<'_>,
        action: &StakeAction,
    ) -> Result<(), Stop> {
        let rules = self.rules.stake.ok_or(code::STAKE_FIXED)?;
        let signer = suite::account(&ordered.transaction.signer);
        if let StakeAction::Register { key, .. } = action
            && self.has_acted(trial, key)?
        {
            return Err(code::TWO_ROLES.into());
        }
        let applied = TableRead { view: self.view, table: Table::Stake };
        let under = Layer { under: &applied, changes: &self.delta.stake };
        let meter =
            trial.meter.get_or_insert_with(|| Meter::new(self.rules.steps_max.min(self.steps)));
        let before = meter.steps;
        let mut staking = Staking {
            under,
            changes: &mut trial.stake,
            steps: &mut meter.steps,
            rules,
            height: self.height,
            time: self.time,
            signer,
            tx: ordered.tx,
            chain: self.rules.chain,
            lane_count: self.rules.lane_count,
            proposal: self.proposal.as_deref(),
            checks: &mut self.cache.checks,
        };
        let done = staking.act(action);
        self.steps = self.steps.saturating_sub(before.saturating_sub(meter.steps));
        let payment = done?;
        let balance = self.balance(Some(trial), &signer)?;
        let balance = match payment {
            Payment::Nothing => return Ok(()),
            Payment::Pays(amount) => balance.checked_sub(amount).ok_or(code::NO_FUNDS)?,
            Payment::Gets(amount) => balance.checked_add(amount).ok_or(code::BALANCE_OVERFLOW)?,
        };
        trial.balances.insert(signer, balance);
        Ok(())
    }

    /// Whether a key has signed a transaction, or its account holds units.
    fn has_acted(&self, trial: &Trial<'_>, key: &PublicKey) -> Result<bool, StoreError> {
        for lane in (0..self.rules.lane_count).map(Lane::new) {
            if self.delta.sequences.contains_key(&(lane, *key))
                || self.view.sequence(lane, key)? != Sequence::START
            {
                return Ok(true);
            }
        }
        Ok(self.balance(Some(trial), &suite::account(key))? > 0)
    }

    /// That the signer of a transaction is no voting key (B1).
    pub(super) fn check_role(&self, signer: &PublicKey) -> Result<(), Stop> {
        if self.rules.stake.is_none() {
            return Ok(());
        }
        let is_voting = match self.delta.stake.get(&validator_key(signer)) {
            Some(record) => record.is_some(),
            None => self.voting.as_ref().is_some_and(|voting| voting.contains(signer)),
        };
        if is_voting { Err(code::VOTING_KEY.into()) } else { Ok(()) }
    }
}

/// Stake as a transaction sees it.
struct Staking<'a> {
    under: Layer<'a>,
    changes: &'a mut Changes,
    /// Steps left.
    steps: &'a mut u64,
    rules: StakeRules,
    height: Height,
    time: Time,
    signer: AccountId,
    tx: Hash,
    chain: Hash,
    lane_count: u16,
    proposal: Option<&'a Proposal>,
    checks: &'a mut Checks,
}

impl<'a> Staking<'a> {
    fn act(&mut self, action: &StakeAction) -> Result<Payment, Stop> {
        self.charge(ACTION_RECORD_COUNT)?;
        match action {
            StakeAction::Register { key, possession, name, address } => {
                self.register(key, possession, name, address)?;
            }
            StakeAction::Bond { key, amount } => {
                self.bond(key, *amount)?;
                return Ok(Payment::Pays(*amount));
            }
            StakeAction::Unbond { key, amount } => self.unbond(key, *amount)?,
            StakeAction::Withdraw { key } => return Ok(Payment::Gets(self.withdraw(key)?)),
            StakeAction::Move { key, address } => {
                let record = self.owned(key)?;
                self.put_validator(key, &ValidatorRecord { address: address.clone(), ..record });
            }
            StakeAction::Evidence { epoch, bytes } => self.judge(*epoch, bytes)?,
            StakeAction::DealingKey { key, dealing, proof, signature } => {
                self.put_dealing_key(key, dealing, proof, signature)?;
            }
            StakeAction::Deal { dealing, signature } => self.deal(dealing, signature)?,
            StakeAction::Grieve(grievance) => self.grieve(grievance)?,
        }
        Ok(Payment::Nothing)
    }

    /// Pays for records that are looked at.
    fn charge(&mut self, record_count: u64) -> Result<(), Stop> {
        let steps = record_count.saturating_mul(ROW_STEPS);
        *self.steps = self.steps.checked_sub(steps).ok_or(code::METER)?;
        Ok(())
    }

    fn space(&self) -> Layer<'_> {
        Layer { under: &self.under, changes: self.changes }
    }

    fn head(&self) -> Result<StakeHead, StoreError> {
        stake::head(&self.space())
    }

    /// Writes the head, in which a set has to be computed anew.
    fn put_changed(&mut self, head: StakeHead) {
        let head = StakeHead { is_changed: true, ..head };
        stake::put(self.changes, HEAD_KEY.to_vec(), &head);
    }

    fn find(&self, key: &PublicKey) -> Result<Option<ValidatorRecord>, StoreError> {
        stake::read(&self.space(), &validator_key(key))
    }

    /// A validator that the signer owns.
    fn owned(&self, key: &PublicKey) -> Result<ValidatorRecord, Stop> {
        let record = self.find(key)?.ok_or(code::NO_VALIDATOR)?;
        if record.owner == Some(self.signer) { Ok(record) } else { Err(code::NOT_THE_OWNER.into()) }
    }

    fn put_validator(&mut self, key: &PublicKey, record: &ValidatorRecord) {
        stake::put(self.changes, validator_key(key), record);
    }

    fn epoch(&self, epoch: u64) -> Result<Option<EpochRecord>, StoreError> {
        stake::read(&self.space(), &epoch_key(epoch))
    }

    fn register(
        &mut self,
        key: &PublicKey,
        possession: &Signature,
        name: &str,
        address: &str,
    ) -> Result<(), Stop> {
        self.charge(SIGNATURE_RECORD_COUNT.saturating_add(u64::from(self.lane_count)))?;
        if self.find(key)?.is_some() {
            return Err(code::VALIDATOR_EXISTS.into());
        }
        if stake::is_deposed(&self.space(), key)? {
            return Err(code::DEPOSED.into());
        }
        let body = possession_body(key, &self.signer);
        let holds = verify_tagged(key, &self.chain, 0, Tag::Possession, &body, possession);
        if is_weak(key) || !holds {
            return Err(code::BAD_POSSESSION.into());
        }
        let head = self.head()?;
        self.charge(u64::from(head.slot_count))?;
        let validators = stake::validators(&self.space())?;
        let account = suite::account(key);
        if account == self.signer || validators.iter().any(|(_, one)| one.owner == Some(account)) {
            return Err(code::TWO_ROLES.into());
        }
        let (index, head) = if usize::from(head.slot_count) < VALIDATOR_COUNT_MAX {
            let slot_count = head.slot_count.saturating_add(1);
            (ValidatorIndex::new(head.slot_count), StakeHead { slot_count, ..head })
        } else {
            let (gone, index) = self.free_slot(&head, &validators)?.ok_or(code::NO_SLOT)?;
            self.changes.insert(validator_key(&gone), None);
            if self.space().get(&dealing_key_key(&gone))?.is_some() {
                self.changes.insert(dealing_key_key(&gone), None);
            }
            (index, head)
        };
        let record = ValidatorRecord {
            index,
            owner: Some(self.signer),
            name: name.to_owned(),
            address: address.to_owned(),
            bond: 0,
            locked: 0,
            is_deposed: false,
        };
        stake::put(self.changes, slot_key(index), key);
        self.put_validator(key, &record);
        self.put_changed(head);
        Ok(())
    }

    /// The first slot whose validator has nothing at stake and no power, now or in the next epoch.
    fn free_slot(
        &self,
        head: &StakeHead,
        validators: &[(PublicKey, ValidatorRecord)],
    ) -> Result<Option<(PublicKey, ValidatorIndex)>, StoreError> {
        let sets = [self.epoch(head.epoch)?, self.epoch(head.epoch.saturating_add(1))?];
        let has_power =
            |key: &PublicKey| sets.iter().flatten().any(|record| power_of(record, key) > 0);
        let free = validators
            .iter()
            .find(|(key, one)| one.bond == 0 && one.locked == 0 && !has_power(key));
        Ok(free.map(|(key, one)| (*key, one.index)))
    }

    fn bond(&mut self, key: &PublicKey, amount: u64) -> Result<(), Stop> {
        let record = self.owned(key)?;
        if record.is_deposed {
            return Err(code::DEPOSED.into());
        }
        let bond = record.bond.checked_add(amount).ok_or(code::BALANCE_OVERFLOW)?;
        self.put_validator(key, &ValidatorRecord { bond, ..record });
        let head = self.head()?;
        self.put_changed(head);
        Ok(())
    }

    fn unbond(&mut self, key: &PublicKey, amount: u64) -> Result<(), Stop> {
        let record = self.owned(key)?;
        let had_power = record.power(&self.rules) > 0;
        let bond = record.bond.checked_sub(amount).ok_or(code::BOND_SMALL)?;
        let locked = record.locked.checked_add(amount).ok_or(code::BALANCE_OVERFLOW)?;
        let record = ValidatorRecord { bond, locked, ..record };
        let has_power = record.power(&self.rules) > 0;
        self.put_validator(key, &record);
        let due = Time::new(self.time.get().saturating_add(self.rules.unbond_us));
        let place = lock_key(key, due);
        // All that is locked together fits, so what is due at one instant does.
        let same = stake::read::<Time>(&self.space(), &place)?.map_or(0, Time::get);
        self.changes.insert(place, Some(same.saturating_add(amount).to_le_bytes().to_vec()));
        let head = self.head()?;
        if had_power && !has_power {
            self.charge(u64::from(head.slot_count))?;
            let validators = stake::validators(&self.space())?;
            if !validators.iter().any(|(_, one)| one.power(&self.rules) > 0) {
                return Err(code::LAST_POWER.into());
            }
        }
        self.put_changed(head);
        Ok(())
    }

    /// Takes what is due, as far as the rest covers the validator's power in every set by which evidence is judged (B3).
    fn withdraw(&mut self, key: &PublicKey) -> Result<u64, Stop> {
        let record = self.owned(key)?;
        let locks = stake::locks(&self.space(), key)?;
        self.charge(u64::try_from(locks.len()).unwrap_or(u64::MAX))?;
        let due = locks.iter().take_while(|(due, _)| *due <= self.time);
        let due: u64 = due.fold(0, |sum, (_, amount)| sum.saturating_add(*amount));
        if due == 0 {
            let first = locks.first().map_or(self.time, |(due, _)| *due);
            let left = first.get().saturating_sub(self.time.get()).div_ceil(MINUTE_US);
            let detail = u16::try_from(left).unwrap_or(u16::MAX);
            return Err(Stop::Refused { code: code::NOTHING_DUE, action: None, detail });
        }
        let cover = u128::from(self.cover(key)?);
        let held = u128::from(record.bond).saturating_add(u128::from(record.locked));
        let spare = u64::try_from(held.saturating_sub(cover)).unwrap_or(u64::MAX);
        let amount = due.min(spare);
        if amount == 0 {
            return Err(code::NOTHING_DUE.into());
        }
        let mut left = amount;
        for (due, units) in locks {
            if left == 0 {
                break;
            }
            let taken = units.min(left);
            left = left.saturating_sub(taken);
            let rest = units.saturating_sub(taken);
            let rest = (rest > 0).then(|| rest.to_le_bytes().to_vec());
            self.changes.insert(lock_key(key, due), rest);
        }
        let locked = record.locked.saturating_sub(amount);
        self.put_validator(key, &ValidatorRecord { locked, ..record });
        Ok(amount)
    }

    /// The most power that a validator has in a set by which evidence is judged.
    fn cover(&mut self, key: &PublicKey) -> Result<u64, Stop> {
        let records = stake::epochs(&self.space())?;
        self.charge(u64::try_from(records.len()).unwrap_or(u64::MAX))?;
        let judging = records.iter().filter(|record| record.judges(self.time, &self.rules));
        Ok(judging.map(|record| power_of(record, key)).max().unwrap_or(0))
    }

    fn judge(&mut self, epoch: u64, bytes: &[u8]) -> Result<(), Stop> {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.charge(EVIDENCE_RECORD_COUNT.saturating_add(size / SIZE_RECORD))?;
        let head = self.head()?;
        let record = match self.epoch(epoch)? {
            None if epoch < head.epoch => return Err(code::EVIDENCE_OLD.into()),
            Some(record) if !record.judges(self.time, &self.rules) => {
                return Err(code::EVIDENCE_OLD.into());
            }
            // Nobody has signed anything in an epoch that has not begun.
            None => return Err(code::EVIDENCE_NOBODY.into()),
            Some(record) if record.began.is_none() || !record.set.is_sound() => {
                return Err(code::EVIDENCE_NOBODY.into());
            }
            Some(record) => record,
        };
        let evidence = Evidence::from_bytes(bytes).map_err(|_| code::EVIDENCE_FALSE)?;
        // Two are paid for.
        let more = u64::try_from(evidence.signature_count().saturating_sub(2)).unwrap_or(u64::MAX);
        self.charge(more.saturating_mul(SIGNATURE_RECORD_COUNT))?;
        let context = Context::new(self.chain, record.set, self.lane_count);
        let culprit = evidence.culprit(&context).ok_or(code::EVIDENCE_NOBODY)?;
        let key = context.set.get(culprit).ok_or(code::EVIDENCE_NOBODY)?.key;
        let (kind, place) = (evidence.kind().to_owned(), evidence.place());
        let misdeed = misdeed_key(&key, epoch, &kind, &place);
        if self.space().get(&misdeed)?.is_some() {
            return Err(code::EVIDENCE_KNOWN.into());
        }
        let slashed = self.slash(&key)?;
        let (by, tx, height) = (self.signer, self.tx, self.height);
        let record = Misdeed { validator: culprit, kind, place, slashed, by, tx, height };
        stake::put(self.changes, misdeed, &record);
        let slashed = head.slashed.saturating_add(u128::from(slashed));
        self.put_changed(StakeHead { slashed, ..head });
        Ok(())
    }

    /// One key an epoch, so that what was signed for an older one puts nothing back (B4).
    fn put_dealing_key(
        &mut self,
        key: &PublicKey,
        dealing: &DealingKey,
        proof: &DealingKeyProof,
        signature: &Signature,
    ) -> Result<(), Stop> {
        self.charge(SIGNATURE_RECORD_COUNT)?;
        if self.find(key)?.is_none() {
            return Err(code::NO_VALIDATOR.into());
        }
        let head = self.head()?;
        let epoch = head.epoch;
        let place = dealing_key_key(key);
        let known: Option<KeyRecord> = stake::read(&self.space(), &place)?;
        if known.is_some_and(|known| known.key == *dealing || known.epoch == epoch) {
            return Err(code::DEALING_KEY_KNOWN.into());
        }
        if !verify_tagged(key, &self.chain, epoch, Tag::DealingKey, &dealing.to_bytes(), signature)
        {
            return Err(code::DEALING_KEY_FALSE.into());
        }
        self.charge(PAIRING_RECORD_COUNT)?;
        if !verify_key(&self.chain, key, dealing, proof) {
            return Err(code::DEALING_KEY_FALSE.into());
        }
        stake::put(self.changes, place, &KeyRecord { key: *dealing, epoch });
        // Where it was the last that was missing, a coin can be made.
        self.put_changed(head);
        Ok(())
    }

    /// The proposal of an epoch, and how far it has come in this height.
    fn proposed(&self, epoch: u64) -> Result<(&'a Proposal, Making), Stop> {
        let proposal = self.proposal.filter(|one| one.set.epoch == epoch);
        let proposal = proposal.ok_or(code::NO_DEALING)?;
        let making = making(&self.space(), epoch)?.ok_or(code::NO_DEALING)?;
        Ok((proposal, making))
    }

    fn put_stage(&mut self, epoch: u64, mut making: Making, of: ValidatorIndex, stage: Stage) {
        if let Some(member) = making.members.get_mut(usize::from(of.get())) {
            member.stage = stage;
        }
        stake::put(self.changes, making_key(epoch), &making);
    }

    fn deal(&mut self, dealing: &Dealing, signature: &Signature) -> Result<(), Stop> {
        self.charge(SIGNATURE_RECORD_COUNT.saturating_mul(2))?;
        let (epoch, dealer) = (dealing.epoch, dealing.dealer);
        let (proposal, making) = self.proposed(epoch)?;
        if making.closed.is_some() {
            return Err(code::DEALING_LATE.into());
        }
        let of = proposal.set.get(dealer).filter(|one| one.power > 0);
        let key = of.ok_or(code::DEALING_FORGED)?.key;
        let place = making.members.get(usize::from(dealer.get()));
        if place.is_none_or(|one| one.stage != Stage::Due) {
            return Err(code::DEALT_ALREADY.into());
        }
        let bytes = dealing.to_bytes();
        if !verify_tagged(&key, &self.chain, epoch, Tag::Deal, &bytes, signature) {
            return Err(code::DEALING_FORGED.into());
        }
        self.charge(commitment_cost(dealing.commitments.len(), COMMITMENT_RECORD_COUNT))?;
        self.checks.check(&proposal.plan, dealing).map_err(|_| code::DEALING_WRONG)?;
        self.changes.insert(dealing_key(epoch, dealer), Some(bytes));
        self.put_stage(epoch, making, dealer, Stage::Dealt);
        Ok(())
    }

    /// A grievance that is right puts its dealer out. Each counts until the coin is made.
    fn grieve(&mut self, grievance: &Grievance) -> Result<(), Stop> {
        let (epoch, dealer) = (grievance.epoch, grievance.dealer);
        let (proposal, making) = self.proposed(epoch)?;
        let place = making.members.get(usize::from(dealer.get()));
        if place.is_none_or(|one| one.stage != Stage::Dealt) {
            return Err(code::NO_DEALING.into());
        }
        // A coin of so many members has about thrice as many commitments; who dealt has paid for their check.
        let count = making.members.len().saturating_mul(3);
        let cost = commitment_cost(count, TERM_RECORD_COUNT);
        self.charge(cost.saturating_add(PAIRING_RECORD_COUNT))?;
        let space = Layer { under: &self.under, changes: self.changes };
        let checked = proposal.checked(dealer, &space, self.checks)?;
        if proposal.plan.judge(&checked, grievance).is_err() {
            return Err(code::GRIEVANCE_FALSE.into());
        }
        self.put_stage(epoch, making, dealer, Stage::Out);
        Ok(())
    }

    /// Takes a validator's power for good, and its part of what it has bonded and locked; says how much that was.
    fn slash(&mut self, key: &PublicKey) -> Result<u64, Stop> {
        // Its slot may have been given away: then it has nothing left.
        let Some(record) = self.find(key)? else { return Ok(0) };
        let permille = self.rules.slash_permille;
        let bond = record.bond.saturating_sub(part(record.bond, permille));
        let mut locked = record.locked;
        let locks = stake::locks(&self.space(), key)?;
        self.charge(u64::try_from(locks.len()).unwrap_or(u64::MAX))?;
        for (due, units) in locks {
            let lost = part(units, permille);
            locked = locked.saturating_sub(lost);
            let rest = units.saturating_sub(lost);
            let rest = (rest > 0).then(|| rest.to_le_bytes().to_vec());
            self.changes.insert(lock_key(key, due), rest);
        }
        let lost = record.bond.saturating_sub(bond);
        let lost = lost.saturating_add(record.locked.saturating_sub(locked));
        self.put_validator(key, &ValidatorRecord { bond, locked, is_deposed: true, ..record });
        Ok(lost)
    }
}

/// What points cost, with a pairing.
fn commitment_cost(count: usize, each: u64) -> u64 {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    count.saturating_mul(each).saturating_add(PAIRING_RECORD_COUNT)
}

/// A key's power in an epoch's set.
fn power_of(record: &EpochRecord, key: &PublicKey) -> u64 {
    record.set.validators.iter().find(|one| one.key == *key).map_or(0, |one| one.power)
}

/// So many thousandths of some units, rounded up.
fn part(units: u64, permille: u16) -> u64 {
    let part = u128::from(units).saturating_mul(u128::from(permille)).div_ceil(1_000);
    u64::try_from(part).unwrap_or(units).min(units)
}
