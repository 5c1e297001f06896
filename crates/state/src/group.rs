//! Consumer groups as they are stored and read.
//!
//! ```text
//!  00                        → generation u64     above every generation of a group that was deleted
//!  name · 00                 → creator 32 · consumers: writers · generation u64 · members u16 · sweep u64
//!  name · 00 · 01 · member   → account 32 · joined: lane u16, seqno u64 · session u32 · end u64
//!  name · 00 · 02 · lane BE  → 0 | 1 · member text · generation u64; then cursor: seqno u64 · height u64 · root 32
//! ```
//! All in [`Table::Group`], which the state root covers: each of them can be proven. What a commit changes is small
//! whatever a group has of members and lanes.
//!
//! # Invariants
//! * G1 No lease ends before its group's `sweep`: before that time nobody has to be looked for.
//! * G2 A lane's record is missing where it says nothing: no owner, and the cursor at the start.
//! * G3 A generation is never used again under a name, a group's that is deleted and created again included.

use quipu_types::codec::{put_bytes, put_option};
use quipu_types::cursor::Certified;
use quipu_types::group::{MEMBER_COUNT_MAX, MEMBER_NAME_SIZE_MAX};
use quipu_types::{
    AccountId, Decode, DecodeError, Encode, Lane, Position, Reader, Seqno, Time, Writers,
};

use crate::rows::{RowRead, TableRead};
use crate::store::{Rows, Store, StoreError, Table};
use crate::view::{View, damaged};

/// Ends a group's name in keys.
const END: u8 = 0;
const MEMBERS: u8 = 1;
const LANES: u8 = 2;
/// Where every group is behind.
const NAMES: u8 = 1;
/// Under which generations of deleted groups end.
pub(crate) const FLOOR_KEY: [u8; 1] = [END];

/// A group without its members and lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupHead {
    /// Who created it.
    pub creator: AccountId,
    /// Who may join beside its creator.
    pub consumers: Writers,
    /// Grows whenever lanes are given.
    pub generation: u64,
    /// How many members it has.
    pub member_count: u16,
    /// No lease ends before (G1).
    pub sweep: Time,
}

/// What a member has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who signs for it.
    pub account: AccountId,
    /// Where its Join stands.
    pub joined: Position,
    /// How long the lease lasts when nothing is heard, in microseconds.
    pub session_us: u32,
    /// The last instant at which it is a member when nothing more is heard.
    pub end: Time,
}

/// Who holds a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The member.
    pub member: String,
    /// The generation in which it was given the lane: what its commits have to name.
    pub generation: u64,
}

/// What a group says of a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupLane {
    /// Who holds it.
    pub owner: Option<Owner>,
    /// How far the group has come in it.
    pub cursor: Certified,
}

/// A group as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Creator, rights, generation.
    pub head: GroupHead,
    /// Members by name, ascending. One whose lease has ended is there until the next action of the group.
    pub members: Vec<(String, Lease)>,
    /// One for each lane of the ledger.
    pub lanes: Vec<GroupLane>,
}

/// Key of a group's head.
#[must_use]
pub fn head_key(group: &str) -> Vec<u8> {
    let mut key = group.as_bytes().to_vec();
    key.push(END);
    key
}

fn part_key(group: &str, part: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = head_key(group);
    key.push(part);
    key.extend_from_slice(rest);
    key
}

/// Key of a member's lease.
#[must_use]
pub fn lease_key(group: &str, member: &str) -> Vec<u8> {
    part_key(group, MEMBERS, member.as_bytes())
}

/// Key of a lane in a group.
#[must_use]
pub fn lane_key(group: &str, lane: Lane) -> Vec<u8> {
    part_key(group, LANES, &lane.get().to_be_bytes())
}

impl Encode for GroupHead {
    fn encode(&self, out: &mut Vec<u8>) {
        self.creator.encode(out);
        self.consumers.encode(out);
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.member_count.to_le_bytes());
        self.sweep.encode(out);
    }
}

impl Decode for GroupHead {
    const SIZE_MIN: usize = 51;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            creator: AccountId::decode(reader)?,
            consumers: Writers::decode(reader)?,
            generation: reader.u64()?,
            member_count: reader.u16()?,
            sweep: Time::decode(reader)?,
        })
    }
}

impl Encode for Lease {
    fn encode(&self, out: &mut Vec<u8>) {
        self.account.encode(out);
        self.joined.lane.encode(out);
        self.joined.seqno.encode(out);
        out.extend_from_slice(&self.session_us.to_le_bytes());
        self.end.encode(out);
    }
}

impl Decode for Lease {
    const SIZE_MIN: usize = 54;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let account = AccountId::decode(reader)?;
        let joined = Position { lane: Lane::decode(reader)?, seqno: Seqno::decode(reader)? };
        Ok(Self { account, joined, session_us: reader.u32()?, end: Time::decode(reader)? })
    }
}

impl Encode for Owner {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.member.as_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
    }
}

impl Decode for Owner {
    const SIZE_MIN: usize = 12;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let member = reader.text("member", MEMBER_NAME_SIZE_MAX)?.to_owned();
        Ok(Self { member, generation: reader.u64()? })
    }
}

impl Encode for GroupLane {
    fn encode(&self, out: &mut Vec<u8>) {
        put_option(out, self.owner.as_ref());
        self.cursor.encode(out);
    }
}

impl Decode for GroupLane {
    const SIZE_MIN: usize = 1 + Certified::SIZE_MIN;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { owner: reader.option("owner")?, cursor: Certified::decode(reader)? })
    }
}

/// What stands under a key of [`Table::Group`].
pub(crate) fn read<T: Decode>(space: &dyn RowRead, key: &[u8]) -> Result<Option<T>, StoreError> {
    let value = space.get(key)?;
    value.map(|bytes| T::from_bytes(&bytes).map_err(|_| damaged(Table::Group, key))).transpose()
}

/// A group's members, ascending by name.
pub(crate) fn members(
    space: &dyn RowRead,
    group: &str,
) -> Result<Vec<(String, Lease)>, StoreError> {
    let (from, to) = (part_key(group, MEMBERS, &[]), part_key(group, LANES, &[]));
    let rows = space.range(&from, Some(&to), usize::from(MEMBER_COUNT_MAX))?;
    let members = rows.into_iter().map(|(key, value)| {
        let name = key.get(from.len()..).map(<[u8]>::to_vec).map(String::from_utf8);
        match (name, Lease::from_bytes(&value)) {
            (Some(Ok(name)), Ok(lease)) => Ok((name, lease)),
            _ => Err(damaged(Table::Group, &key)),
        }
    });
    members.collect()
}

/// What a group says of each of the ledger's lanes.
pub(crate) fn lanes(
    space: &dyn RowRead,
    group: &str,
    lane_count: u16,
) -> Result<Vec<GroupLane>, StoreError> {
    let lanes = (0..lane_count).map(|lane| read(space, &lane_key(group, Lane::new(lane))));
    lanes.map(|lane| Ok(lane?.unwrap_or_default())).collect()
}

/// Groups as they are applied.
pub(crate) struct Applied<'a, S>(pub(crate) &'a View<S>);

impl<S: Store> RowRead for Applied<'_, S> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.table().get(key)
    }

    fn range(&self, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Rows, StoreError> {
        self.table().range(from, to, limit)
    }
}

impl<S: Store> Applied<'_, S> {
    const fn table(&self) -> TableRead<'_, S> {
        TableRead { view: self.0, table: Table::Group }
    }

    /// A group, if it exists.
    pub(crate) fn group(&self, name: &str, lane_count: u16) -> Result<Option<Group>, StoreError> {
        let Some(head) = read(self, &head_key(name))? else { return Ok(None) };
        let lanes = lanes(self, name, lane_count)?;
        Ok(Some(Group { head, members: members(self, name)?, lanes }))
    }

    /// Up to `limit` groups whose names are behind `after`, ascending.
    pub(crate) fn groups(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, GroupHead)>, StoreError> {
        let mut groups = Vec::new();
        let mut after = after.to_owned();
        while groups.len() < limit {
            // Behind everything of that group.
            let mut from = after.into_bytes();
            from.push(NAMES);
            let Some((key, value)) = self.0.scan(Table::Group, &from, 1)?.pop() else { break };
            let name = key.strip_suffix(&[END]).map(<[u8]>::to_vec).map(String::from_utf8);
            match (name, GroupHead::from_bytes(&value)) {
                (Some(Ok(name)), Ok(head)) => {
                    after = name.clone();
                    groups.push((name, head));
                }
                _ => return Err(damaged(Table::Group, &key)),
            }
        }
        Ok(groups)
    }
}
