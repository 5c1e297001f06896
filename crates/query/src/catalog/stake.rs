//! `quipu.validators`, `quipu.evidence` and `quipu.epochs`: what the state says of stake at this moment.

use quipu_types::row::ValueRef;
use quipu_types::{AccountId, Hash, Height, PublicKey};

use super::UNITS;
use crate::column::{ColumnDef, Kind};
use crate::table::signed;

/// A validator that is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorRow {
    /// Its place in sets.
    pub index: u16,
    /// For people.
    pub name: String,
    /// Its voting key.
    pub key: PublicKey,
    /// Where others find it; none where it never said.
    pub address: Option<String>,
    /// Who bonds to it; nobody, for a validator of a genesis that names none.
    pub owner: Option<AccountId>,
    /// Its power in the current epoch.
    pub power: u64,
    /// Its power in the next epoch, while that one's set is known.
    pub power_next: Option<u64>,
    /// Units bonded.
    pub bond: u64,
    /// Units that were unbonded and not withdrawn.
    pub locked: u64,
    /// Whether evidence was shown against it.
    pub is_deposed: bool,
    /// Whether it was away so long that it sequences nothing in the current epoch.
    pub is_stale: bool,
    /// Whether it has registered a key under which others deal it shares of coins.
    pub has_share_key: bool,
    /// Microseconds after a commit within which 99 of 100 of its state votes came to the validator that is asked; none where
    /// none came, or nobody counts.
    pub state_vote_p99_us: Option<u64>,
    /// The current epoch.
    pub epoch: u64,
}

/// Evidence that was ordered, and held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceRow {
    /// The epoch in which the validator did it.
    pub epoch: u64,
    /// The height that ordered the evidence.
    pub height: Height,
    /// What was signed twice, or forgotten.
    pub kind: String,
    /// The height and round, the chunk or the state that it is of.
    pub place: String,
    /// The validator's index in the epoch.
    pub validator: u16,
    /// Its voting key.
    pub key: PublicKey,
    /// Units that it cost.
    pub slashed: u64,
    /// Account of who showed it.
    pub by: AccountId,
    /// The transaction that showed it.
    pub tx: Hash,
}

/// An epoch by whose set evidence is judged, or the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochRow {
    /// Its number.
    pub epoch: u64,
    /// Validators with power.
    pub validator_count: u16,
    /// The power of all.
    pub power: u128,
    /// Whether open rounds have a coin.
    pub has_coin: bool,
    /// Time of its first header, in microseconds since 1970-01-01T00:00:00Z; none while it is the next one.
    pub began_us: Option<u64>,
    /// Time of the next epoch's first header.
    pub ended_us: Option<u64>,
}

/// A sum of units of up to 128 validators.
const SUM: Kind = Kind::Numeric { precision: 38, scale: 0 };

fn text_or_null(text: Option<&str>) -> ValueRef<'_> {
    text.map_or(ValueRef::Null, ValueRef::Text)
}

fn time_or_null(micros: Option<u64>) -> ValueRef<'static> {
    micros.map_or(ValueRef::Null, |micros| ValueRef::Timestamptz(signed(micros)))
}

impl ValidatorRow {
    pub(super) fn columns() -> Vec<ColumnDef> {
        let column = ColumnDef::new;
        vec![
            column("index", Kind::Int4),
            column("name", Kind::Text),
            column("key", Kind::Text),
            column("power", UNITS),
            ColumnDef::nullable("power_next", UNITS),
            column("bond", UNITS),
            column("locked", UNITS),
            column("deposed", Kind::Bool),
            column("stale", Kind::Bool),
            column("share_key", Kind::Bool),
            ColumnDef::nullable("state_vote_p99_us", Kind::Int8),
            ColumnDef::nullable("owner", Kind::Text),
            ColumnDef::nullable("address", Kind::Text),
            column("epoch", Kind::Int8),
        ]
    }

    pub(super) fn show(&self, row: &mut impl FnMut(&[ValueRef<'_>])) {
        let owner = self.owner.map(|owner| owner.to_string());
        row(&[
            ValueRef::Int4(i32::from(self.index)),
            ValueRef::Text(&self.name),
            ValueRef::Text(&self.key.to_string()),
            ValueRef::Numeric(self.power.into()),
            self.power_next.map_or(ValueRef::Null, |power| ValueRef::Numeric(power.into())),
            ValueRef::Numeric(self.bond.into()),
            ValueRef::Numeric(self.locked.into()),
            ValueRef::Bool(self.is_deposed),
            ValueRef::Bool(self.is_stale),
            ValueRef::Bool(self.has_share_key),
            self.state_vote_p99_us.map_or(ValueRef::Null, |micros| ValueRef::Int8(signed(micros))),
            text_or_null(owner.as_deref()),
            text_or_null(self.address.as_deref()),
            ValueRef::Int8(signed(self.epoch)),
        ]);
    }
}

impl EvidenceRow {
    pub(super) fn columns() -> Vec<ColumnDef> {
        let column = ColumnDef::new;
        vec![
            column("epoch", Kind::Int8),
            column("height", Kind::Int8),
            column("kind", Kind::Text),
            column("place", Kind::Text),
            column("validator", Kind::Int4),
            column("key", Kind::Text),
            column("slashed", UNITS),
            column("by", Kind::Text),
            column("tx", Kind::Text),
        ]
    }

    pub(super) fn show(&self, row: &mut impl FnMut(&[ValueRef<'_>])) {
        row(&[
            ValueRef::Int8(signed(self.epoch)),
            ValueRef::Int8(signed(self.height.get())),
            ValueRef::Text(&self.kind),
            ValueRef::Text(&self.place),
            ValueRef::Int4(i32::from(self.validator)),
            ValueRef::Text(&self.key.to_string()),
            ValueRef::Numeric(self.slashed.into()),
            ValueRef::Text(&self.by.to_string()),
            ValueRef::Text(&self.tx.to_string()),
        ]);
    }
}

impl EpochRow {
    pub(super) fn columns() -> Vec<ColumnDef> {
        let column = ColumnDef::new;
        vec![
            column("epoch", Kind::Int8),
            column("validators", Kind::Int4),
            column("power", SUM),
            column("coin", Kind::Bool),
            ColumnDef::nullable("began", Kind::Timestamptz),
            ColumnDef::nullable("ended", Kind::Timestamptz),
        ]
    }

    pub(super) fn show(&self, row: &mut impl FnMut(&[ValueRef<'_>])) {
        row(&[
            ValueRef::Int8(signed(self.epoch)),
            ValueRef::Int4(i32::from(self.validator_count)),
            ValueRef::Numeric(i128::try_from(self.power).unwrap_or(i128::MAX)),
            ValueRef::Bool(self.has_coin),
            time_or_null(self.began_us),
            time_or_null(self.ended_us),
        ]);
    }
}
