//! Rows of stake for SQL, from the state.

use std::collections::BTreeMap;

use quipu_query::{EpochRow, EvidenceRow, ValidatorRow};
use quipu_state::{Machine, StateError, Store, ValidatorRecord};
use quipu_types::{PublicKey, ValidatorSet};

/// Most misdeeds that one query reads.
const MISDEED_COUNT_MAX: usize = 1 << 16;

/// Each validator that is registered, by index. How soon it signs is no part of the state.
pub(crate) fn validators<S: Store>(machine: &Machine<S>) -> Result<Vec<ValidatorRow>, StateError> {
    let powers = |set: &ValidatorSet| -> BTreeMap<PublicKey, u64> {
        set.validators.iter().map(|one| (one.key, one.power)).collect()
    };
    let (current, next) = (machine.current_set(), machine.next_set());
    let now = powers(&current);
    let next = next.as_deref().map(powers);
    let power_of =
        |powers: &BTreeMap<PublicKey, u64>, key: &PublicKey| powers.get(key).copied().unwrap_or(0);
    let is_stale =
        |key: &PublicKey| current.validators.iter().any(|one| one.key == *key && one.is_stale);
    let epoch = machine.stake_head().epoch;
    let row = |(key, one): (PublicKey, ValidatorRecord)| {
        Ok(ValidatorRow {
            state_vote_p99_us: None,
            has_share_key: machine.dealing_key(&key)?.is_some(),
            index: one.index.get(),
            name: one.name,
            key,
            address: Some(one.address).filter(|address| !address.is_empty()),
            owner: one.owner,
            power: power_of(&now, &key),
            power_next: next.as_ref().map(|next| power_of(next, &key)),
            bond: one.bond,
            locked: one.locked,
            is_deposed: one.is_deposed,
            is_stale: is_stale(&key),
            epoch,
        })
    };
    machine.validators()?.into_iter().map(row).collect()
}

/// Evidence that was ordered and held, by height.
pub(crate) fn evidence<S: Store>(machine: &Machine<S>) -> Result<Vec<EvidenceRow>, StateError> {
    let misdeeds = machine.misdeeds(&[], MISDEED_COUNT_MAX)?.into_iter();
    let mut rows: Vec<EvidenceRow> = misdeeds
        .map(|(_, one)| EvidenceRow {
            epoch: one.epoch,
            height: one.misdeed.height,
            kind: one.misdeed.kind,
            place: one.misdeed.place,
            validator: one.misdeed.validator.get(),
            key: one.key,
            slashed: one.misdeed.slashed,
            by: one.misdeed.by,
            tx: one.misdeed.tx,
        })
        .collect();
    rows.sort_by_key(|row| row.height);
    Ok(rows)
}

/// The epochs that the state knows.
pub(crate) fn epochs<S: Store>(machine: &Machine<S>) -> Result<Vec<EpochRow>, StateError> {
    let rows = machine.epochs()?.into_iter().map(|one| {
        let count = one.set.validators.iter().filter(|validator| validator.power > 0).count();
        EpochRow {
            epoch: one.set.epoch,
            validator_count: u16::try_from(count).unwrap_or(u16::MAX),
            power: one.set.power_total(),
            has_coin: one.set.coin.is_some(),
            began_us: one.began.map(quipu_types::Time::get),
            ended_us: one.ended.map(quipu_types::Time::get),
        }
    });
    Ok(rows.collect())
}
