//! The making of the next epoch's coin, as it is stored and read.
//!
//! ```text
//!  06 · voting key                   → key for shares 96 · epoch u64: when it was registered
//!  07 · epoch u64 BE                 → opened u64 · closed: 0 | 1 · u64 · members: list of (key: 0 | 1 · 96 · stage u8)
//!  08 · epoch u64 BE · dealer u16 BE → dealing
//!  09 · epoch u64 BE                 → coin setup
//!
//!  a set differs ─> proposed ── Deal ── all have, or deal_us is over ─> closed ── deal_us is over ─> coin setup, or none ─> pending
//!                                  └──────────── Grieve: a dealer is out ────────────┘
//! ```
//! In [`Table::Stake`], beside what [`crate::stake`] draws.
//!
//! # Invariants
//! * D1 Keys for shares are those of the time at which the set was proposed: none that comes later counts for it.
//! * D2 A dealing that stands was checked, and is its dealer's first; none that stands is ever replaced.
//! * D3 What an epoch's coin was made of stands until that epoch ends: each of its validators can open its shares again.
//! * D4 Whether a check is remembered changes no outcome.
//!
//! # Limits
//! A check of a dealing of the largest set takes 33 ms, and is done once while the process runs. What makes a coin of 128 dealings
//! takes half a second, in one height of an epoch; after a restart within the making it checks each of them again, 4 s.

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_crypto::coin::dealing::{Checked, Member, Plan, Refused};
use quipu_types::agreement::VALIDATOR_COUNT_MAX;
use quipu_types::codec::{put_list, put_option};
use quipu_types::{
    CoinSetup, Dealing, DealingKey, Decode, DecodeError, Encode, Hash, PublicKey, Reader, Time,
    ValidatorIndex, ValidatorSet,
};

use crate::rows::{Changes, RowRead};
use crate::stake::{epoch_key, key_of, put, read};
use crate::store::{StoreError, Table};
use crate::view::damaged;

const KEYS: u8 = 6;
const MAKINGS: u8 = 7;
const DEALINGS: u8 = 8;
const SETUPS: u8 = 9;
/// Most checks that are remembered: those of two forks of one epoch.
const CHECK_COUNT_MAX: usize = 2 * VALIDATOR_COUNT_MAX;

/// A validator's key for shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// The key.
    pub key: DealingKey,
    /// The epoch in which it was registered.
    pub epoch: u64,
}

/// How far a member of a proposed set has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has not dealt.
    Due,
    /// Its dealing stands.
    Dealt,
    /// Its dealing stands, and a grievance showed that it is wrong.
    Out,
}

/// A member of a proposed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maker {
    /// Its key for shares (D1); each with power has one.
    pub key: Option<DealingKey>,
    /// How far it has come.
    pub stage: Stage,
}

/// The making of an epoch's coin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Making {
    /// Time of the height that proposed the set.
    pub opened: Time,
    /// Time of the height from which on no dealing is taken.
    pub closed: Option<Time>,
    /// By index.
    pub members: Vec<Maker>,
}

/// A set for which a coin is being made.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The set; it has no coin yet.
    pub set: ValidatorSet,
    /// How far that has come.
    pub making: Making,
    /// Checks what is dealt.
    pub plan: Plan,
}

/// Key of a validator's key for shares.
#[must_use]
pub fn dealing_key_key(key: &PublicKey) -> Vec<u8> {
    key_of(KEYS, &[&key.to_bytes()])
}

/// Key of the making of an epoch's coin.
#[must_use]
pub fn making_key(epoch: u64) -> Vec<u8> {
    key_of(MAKINGS, &[&epoch.to_be_bytes()])
}

/// Key of a dealing.
#[must_use]
pub fn dealing_key(epoch: u64, dealer: ValidatorIndex) -> Vec<u8> {
    key_of(DEALINGS, &[&epoch.to_be_bytes(), &dealer.get().to_be_bytes()])
}

/// Key of what a coin was made of.
#[must_use]
pub fn setup_key(epoch: u64) -> Vec<u8> {
    key_of(SETUPS, &[&epoch.to_be_bytes()])
}

impl Encode for KeyRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        self.key.encode(out);
        out.extend_from_slice(&self.epoch.to_le_bytes());
    }
}

impl Decode for KeyRecord {
    const SIZE_MIN: usize = 104;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { key: DealingKey::decode(reader)?, epoch: reader.u64()? })
    }
}

impl Encode for Maker {
    fn encode(&self, out: &mut Vec<u8>) {
        put_option(out, self.key.as_ref());
        out.push(match self.stage {
            Stage::Due => 0,
            Stage::Dealt => 1,
            Stage::Out => 2,
        });
    }
}

impl Decode for Maker {
    const SIZE_MIN: usize = 2;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let key = reader.option("key for shares")?;
        let stage = match reader.u8()? {
            0 => Stage::Due,
            1 => Stage::Dealt,
            2 => Stage::Out,
            tag => return Err(DecodeError::Tag { what: "stage", tag: u64::from(tag) }),
        };
        Ok(Self { key, stage })
    }
}

impl Encode for Making {
    fn encode(&self, out: &mut Vec<u8>) {
        self.opened.encode(out);
        put_option(out, self.closed.as_ref());
        put_list(out, &self.members);
    }
}

impl Decode for Making {
    const SIZE_MIN: usize = 8 + 1 + 4;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            opened: Time::decode(reader)?,
            closed: reader.option("closed")?,
            members: reader.list("members", VALIDATOR_COUNT_MAX)?,
        })
    }
}

impl Making {
    /// Who is at a stage, ascending.
    fn at(&self, stage: Stage) -> impl Iterator<Item = ValidatorIndex> {
        let members = (0_u16..).map(ValidatorIndex::new).zip(&self.members);
        members.filter(move |(_, one)| one.stage == stage).map(|(index, _)| index)
    }

    /// Whose dealings count.
    pub fn dealers(&self) -> impl Iterator<Item = ValidatorIndex> {
        self.at(Stage::Dealt)
    }

    /// Whether nobody with power has still to deal.
    fn is_complete(&self, set: &ValidatorSet) -> bool {
        !self.at(Stage::Due).any(|index| set.power(index) > 0)
    }

    /// What checks the dealings for a set.
    fn plan(&self, chain: &Hash, set: &ValidatorSet) -> Option<Plan> {
        let powers = set.validators.iter().map(|one| one.power);
        let members = powers.zip(&self.members).map(|(power, one)| Member { power, key: one.key });
        let members: Vec<Member> = members.collect();
        // Of validators that all have a key, of which each was checked, there is one.
        Plan::new(chain, set.epoch, &members).ok()
    }

    /// The next stage, if it is time for it.
    fn advanced(&self, set: &ValidatorSet, time: Time, deal_us: u64) -> Option<Next> {
        let is_over = |since: Time| since.get().saturating_add(deal_us) <= time.get();
        match self.closed {
            None if self.is_complete(set) || is_over(self.opened) => {
                Some(Next::Closed(Self { closed: Some(time), ..self.clone() }))
            }
            Some(closed) if is_over(closed) => Some(Next::Made),
            _ => None,
        }
    }
}

enum Next {
    Closed(Making),
    Made,
}

/// What became of a proposal at the end of a height.
pub(crate) enum After {
    /// It goes on.
    Goes(Proposal),
    /// The set is pending, with its coin or without.
    Ends(ValidatorSet),
}

impl Proposal {
    /// A set's, where each of it with power has a key for shares.
    pub(crate) fn new(
        chain: &Hash,
        set: &ValidatorSet,
        time: Time,
        space: &dyn RowRead,
    ) -> Result<Option<Self>, StoreError> {
        let mut members = Vec::with_capacity(set.validators.len());
        for one in &set.validators {
            let record: Option<KeyRecord> = read(space, &dealing_key_key(&one.key))?;
            let key = record.map(|record| record.key).filter(|_| one.power > 0);
            members.push(Maker { key, stage: Stage::Due });
        }
        let making = Making { opened: time, closed: None, members };
        let plan = making.plan(chain, set);
        Ok(plan.map(|plan| Self { set: set.clone(), making, plan }))
    }

    /// The proposal of an epoch that stands.
    pub(crate) fn load(
        chain: &Hash,
        set: ValidatorSet,
        space: &dyn RowRead,
    ) -> Result<Self, StoreError> {
        let making = making(space, set.epoch)?;
        let broken = || damaged(Table::Stake, &making_key(set.epoch));
        let making = making.ok_or_else(broken)?;
        let plan = making.plan(chain, &set).ok_or_else(broken)?;
        Ok(Self { set, making, plan })
    }

    pub(crate) fn put(&self, changes: &mut Changes) {
        put(changes, making_key(self.set.epoch), &self.making);
    }

    /// Goes on with time, after a height that may have changed something of it.
    pub(crate) fn after(
        &self,
        is_touched: bool,
        (time, deal_us): (Time, u64),
        space: &dyn RowRead,
        checks: &mut Checks,
        changes: &mut Changes,
    ) -> Result<Option<After>, StoreError> {
        let epoch = self.set.epoch;
        let mut next = self.clone();
        if is_touched {
            let broken = || damaged(Table::Stake, &making_key(epoch));
            next.making = making(space, epoch)?.ok_or_else(broken)?;
        }
        match next.making.advanced(&self.set, time, deal_us) {
            Some(Next::Made) => {
                let setup = next.setup(space, checks)?;
                let coin = setup.as_ref().map(|setup| setup.key);
                if let Some(setup) = setup {
                    put(changes, setup_key(epoch), &setup);
                }
                Ok(Some(After::Ends(ValidatorSet { coin, ..next.set })))
            }
            Some(Next::Closed(making)) => {
                next.making = making;
                next.put(changes);
                Ok(Some(After::Goes(next)))
            }
            None => Ok(is_touched.then_some(After::Goes(next))),
        }
    }

    /// The coin that the dealings make; none if they are too few.
    fn setup(
        &self,
        space: &dyn RowRead,
        checks: &mut Checks,
    ) -> Result<Option<CoinSetup>, StoreError> {
        let mut dealings = Vec::new();
        for dealer in self.making.dealers() {
            dealings.push(self.checked(dealer, space, checks)?);
        }
        let dealings: Vec<&Checked> = dealings.iter().map(Arc::as_ref).collect();
        checks.0.clear();
        Ok(self.plan.setup(&dealings).ok())
    }

    /// A dealing that stands (D2).
    pub(crate) fn checked(
        &self,
        dealer: ValidatorIndex,
        space: &dyn RowRead,
        checks: &mut Checks,
    ) -> Result<Arc<Checked>, StoreError> {
        let key = dealing_key(self.set.epoch, dealer);
        let dealing: Option<Dealing> = read(space, &key)?;
        let checked = dealing.and_then(|dealing| checks.check(&self.plan, &dealing).ok());
        checked.ok_or_else(|| damaged(Table::Stake, &key))
    }
}

/// Dealings that were checked before (D4).
#[derive(Debug, Default)]
pub(crate) struct Checks(BTreeMap<Hash, Arc<Checked>>);

impl Checks {
    pub(crate) fn check(
        &mut self,
        plan: &Plan,
        dealing: &Dealing,
    ) -> Result<Arc<Checked>, Refused> {
        let name = plan.digest_of(dealing);
        if let Some(checked) = self.0.get(&name) {
            return Ok(Arc::clone(checked));
        }
        let checked = Arc::new(plan.check(dealing)?);
        if self.0.len() >= CHECK_COUNT_MAX {
            self.0.clear();
        }
        self.0.insert(name, Arc::clone(&checked));
        Ok(checked)
    }
}

/// The making of an epoch's coin, if it stands.
pub(crate) fn making(space: &dyn RowRead, epoch: u64) -> Result<Option<Making>, StoreError> {
    read(space, &making_key(epoch))
}

/// What checks the dealings of an epoch whose making stands.
pub(crate) fn plan(
    chain: &Hash,
    epoch: u64,
    space: &dyn RowRead,
) -> Result<Option<Plan>, StoreError> {
    let record: Option<crate::stake::EpochRecord> = read(space, &epoch_key(epoch))?;
    match (record, making(space, epoch)?) {
        (Some(record), Some(making)) => Ok(making.plan(chain, &record.set)),
        _ => Ok(None),
    }
}

/// Drops what an epoch's coin was made of, when that epoch ends (D3).
pub(crate) fn forget(
    epoch: u64,
    space: &dyn RowRead,
    changes: &mut Changes,
) -> Result<(), StoreError> {
    let Some(making) = making(space, epoch)? else { return Ok(()) };
    for dealer in making.at(Stage::Dealt).chain(making.at(Stage::Out)) {
        changes.insert(dealing_key(epoch, dealer), None);
    }
    changes.insert(making_key(epoch), None);
    if space.get(&setup_key(epoch))?.is_some() {
        changes.insert(setup_key(epoch), None);
    }
    Ok(())
}
