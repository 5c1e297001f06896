//! Who is away: which validators of the epoch have not voted for how long, as it is stored and read.
//!
//! ```text
//!  0A → list of (validator u16 · since u64 · stale 0|1), ascending; nothing is stored while nobody is away
//!
//!  a height that samples, without its vote ─> away ── stale_heights, and more while others are stale ─> stale ─> the next sets say so
//!                                              └──────────────── its vote in any header ──────────────────┴─> here
//! ```
//! In [`Table::Stake`], beside what [`crate::stake`] draws. Where stake is fixed, or `stale_heights` is 0, nothing of this is there.
//!
//! # Invariants
//! * A1 Who is away has power in the current set, and no header since has a vote of it, of the height before or late.
//! * A2 Who votes is looked at in each height; that somebody is missing, in one of `stale_heights` / 8: most heights are certified
//!   without some votes, and a record that came and went would change the state root in each.
//! * A3 Who became stale stays so until its vote is seen, whoever else becomes stale or comes back.
//! * A4 A set is computed with somebody who is not stale.

use std::sync::Arc;

use quipu_types::agreement::VALIDATOR_COUNT_MAX;
use quipu_types::codec::put_list;
use quipu_types::genesis::StakeRules;
use quipu_types::{
    Decode, DecodeError, Encode, Height, Reader, Validator, ValidatorIndex, ValidatorSet, Voters,
};

use crate::rows::{Changes, RowRead};
use crate::stake::{put, read};
use crate::store::StoreError;

/// Key of the absences.
pub const ABSENCES_KEY: [u8; 1] = [0x0A];
/// In so many of [`StakeRules::stale_heights`] one height looks for who is missing (A2).
const SAMPLE_PART: u64 = 8;

/// A validator that is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absence {
    /// Its index.
    pub validator: ValidatorIndex,
    /// The height from which on no header has its vote.
    pub since: Height,
    /// Whether it is stale: sets that are computed say so.
    pub is_stale: bool,
}

impl Encode for Absence {
    fn encode(&self, out: &mut Vec<u8>) {
        self.validator.encode(out);
        self.since.encode(out);
        out.push(u8::from(self.is_stale));
    }
}

impl Decode for Absence {
    const SIZE_MIN: usize = 2 + 8 + 1;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            validator: ValidatorIndex::decode(reader)?,
            since: Height::decode(reader)?,
            is_stale: reader.bool("stale")?,
        })
    }
}

/// The stored list.
struct Record(Vec<Absence>);

impl Encode for Record {
    fn encode(&self, out: &mut Vec<u8>) {
        put_list(out, &self.0);
    }
}

impl Decode for Record {
    const SIZE_MIN: usize = 4;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(reader.list("absences", VALIDATOR_COUNT_MAX)?))
    }
}

/// See the module's header. Cheap to copy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Absences {
    list: Arc<Vec<Absence>>,
    /// Who is in it.
    away: Voters,
    /// Who has power in the current set.
    members: Voters,
}

impl Absences {
    pub(crate) fn load(current: &ValidatorSet, space: &dyn RowRead) -> Result<Self, StoreError> {
        let record: Option<Record> = read(space, &ABSENCES_KEY)?;
        Ok(Self::new(record.map_or_else(Vec::new, |record| record.0), current))
    }

    fn new(list: Vec<Absence>, current: &ValidatorSet) -> Self {
        let away = Voters::of(list.iter().map(|one| one.validator));
        let numbered = (0..).map(ValidatorIndex::new).zip(&current.validators);
        let members = numbered.filter(|(_, one)| one.power > 0).map(|(index, _)| index);
        Self { list: Arc::new(list), away, members: Voters::of(members) }
    }

    pub(crate) fn list(&self) -> &[Absence] {
        &self.list
    }

    /// When the next epoch begins: of those who have power in it too.
    pub(crate) fn in_epoch(
        &self,
        (current, next): (&ValidatorSet, &ValidatorSet),
        changes: &mut Changes,
    ) -> Self {
        let key = |set: &ValidatorSet, one: &Absence| set.get(one.validator).map(|own| own.key);
        let goes_on =
            |one: &&Absence| next.power(one.validator) > 0 && key(current, one) == key(next, one);
        let list: Vec<Absence> = self.list.iter().filter(goes_on).copied().collect();
        let is_less = list.len() < self.list.len();
        let after = Self::new(list, next);
        if is_less {
            after.put(changes);
        }
        after
    }

    /// Takes who voted, as a header says; gives whether somebody became stale, or is not any more. Nothing is written for a
    /// height that changes nothing.
    pub(crate) fn attend(
        &mut self,
        (height, present): (Height, Voters),
        rules: &StakeRules,
        current: &ValidatorSet,
        changes: &mut Changes,
    ) -> bool {
        let count = u64::from(rules.stale_heights);
        // The first header has no votes: there was nothing to vote on.
        if count == 0 || present.is_empty() {
            return false;
        }
        let sample = count.checked_div(SAMPLE_PART).unwrap_or(0).max(1);
        let is_sample = height.get().checked_rem(sample) == Some(0);
        let missing = self.members.without(present).without(self.away);
        let returns = !self.away.both(present).is_empty();
        let is_over = |one: &Absence, limit: u64| {
            !one.is_stale && height.get().saturating_sub(one.since.get()) >= limit
        };
        let is_due = self.list.iter().any(|one| is_over(one, count));
        let goes = is_sample && !missing.is_empty();
        if !(returns || is_due || goes) {
            return false;
        }
        let limit = self.limit(count, current);
        let mut is_changed = false;
        let mut list = Vec::with_capacity(self.list.len());
        for one in self.list.iter() {
            let becomes = is_over(one, limit);
            let is_back = present.contains(one.validator);
            is_changed |= if is_back { one.is_stale } else { becomes };
            if !is_back {
                list.push(Absence { is_stale: one.is_stale || becomes, ..*one });
            }
        }
        if is_sample {
            let away = |validator| Absence { validator, since: height, is_stale: false };
            list.extend(missing.iter().map(away));
            list.sort_unstable_by_key(|one| one.validator);
        }
        if list != *self.list {
            *self = Self::new(list, current);
            self.put(changes);
        }
        is_changed
    }

    /// Heights after which who is away is stale: the more, the more power is stale already.
    fn limit(&self, count: u64, current: &ValidatorSet) -> u64 {
        let stale = self.list.iter().filter(|one| one.is_stale).map(|one| one.validator);
        let stale = current.power_of(stale);
        let active = current.power_total().saturating_sub(stale);
        let more = u128::from(count).saturating_mul(stale);
        // Where nobody is active nobody becomes stale.
        let more = if active == 0 { u128::MAX } else { more.div_ceil(active) };
        count.saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
    }

    /// Says in a set that is computed who is stale (A4).
    pub(crate) fn mark(&self, validators: &mut [Validator]) {
        let stale = self.list.iter().filter(|one| one.is_stale);
        let stale = Voters::of(stale.map(|one| one.validator));
        for (index, one) in (0..).map(ValidatorIndex::new).zip(validators.iter_mut()) {
            one.is_stale = one.power > 0 && stale.contains(index);
        }
        if !validators.iter().any(|one| one.power > 0 && !one.is_stale) {
            validators.iter_mut().for_each(|one| one.is_stale = false);
        }
    }

    fn put(&self, changes: &mut Changes) {
        if self.list.is_empty() {
            changes.insert(ABSENCES_KEY.to_vec(), None);
        } else {
            put(changes, ABSENCES_KEY.to_vec(), &Record(self.list.to_vec()));
        }
    }
}
