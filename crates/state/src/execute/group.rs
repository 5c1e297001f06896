//! The rules of consumer groups: leases that end by the ledger's time, lanes shared out, cursors that go on.
//!
//! ```text
//!  action ─> the group ─> leases that ended go (sweep) ─> what is asked
//!                            └─ members changed? ────────────┴─> lanes are shared out anew
//! ```
//! # Invariants
//! * M1 Every lane has one owner while there is a member, and none while there is none.
//! * M2 Members hold as many lanes as each other, or one more or less; no lane moves that need not (`assign`).
//! * M3 A cursor moves in a lane only by who holds it in its generation, from where it stands, not back; or by the
//!   creator while there is no member.
//! * M4 Who goes takes effect with the next action of the group that is applied, whoever's: a lease that has ended is
//!   never renewed, and nothing is done under it.
//!
//! # Limits
//! An action costs the steps of the records that it looks at, under the meter of programs.

use std::cmp::Reverse;
use std::iter::repeat_n;

use quipu_crypto::suite;
use quipu_types::cursor::Certified;
use quipu_types::group::{GroupAction, GroupOp, MEMBER_COUNT_MAX};
use quipu_types::{
    AccountId, Decode, Encode as _, Height, Lane, Position, Seqno, Time, Writers, code,
};

use super::{Executor, Stop, Trial};
use crate::group::{
    self, Applied, FLOOR_KEY, GroupHead, GroupLane, Lease, Owner, head_key, lane_key, lease_key,
};
use crate::machine::Ordered;
use crate::rows::{Changes, Layer, RowRead as _};
use crate::store::{Store, StoreError, Table};
use crate::table::{Meter, NAMES_RESERVED, ROW_STEPS};
use crate::view::{damaged, number_of};

/// Records that every action may look at and write.
const ACTION_RECORD_COUNT: u64 = 4;
/// A lease is written anew when that adds at least this part of its session.
const GAIN_PART: u32 = 16;
/// When the leases of nobody end.
const NEVER: Time = Time::new(u64::MAX);

impl<S: Store> Executor<'_, S> {
    /// What a group's action changes.
    pub(super) fn group(
        &mut self,
        trial: &mut Trial<'_>,
        ordered: &Ordered<'_>,
        action: &GroupAction,
    ) -> Result<(), Stop> {
        let applied = Applied(self.view);
        let under = Layer { under: &applied, changes: &self.delta.groups };
        let meter =
            trial.meter.get_or_insert_with(|| Meter::new(self.rules.steps_max.min(self.steps)));
        let before = meter.steps;
        let mut groups = Groups {
            under,
            changes: &mut trial.groups,
            steps: &mut meter.steps,
            height: self.height,
            time: self.time,
            signer: suite::account(&ordered.transaction.signer),
            position: Position { lane: ordered.lane, seqno: ordered.seqno },
            is_open: self.rules.open_streams,
            lane_count: self.rules.lane_count,
        };
        let done = groups.act(&action.group, &action.op);
        self.steps = self.steps.saturating_sub(before.saturating_sub(meter.steps));
        done
    }
}

/// Groups as a transaction sees them.
struct Groups<'a> {
    under: Layer<'a>,
    changes: &'a mut Changes,
    /// Steps left.
    steps: &'a mut u64,
    height: Height,
    time: Time,
    signer: AccountId,
    position: Position,
    is_open: bool,
    lane_count: u16,
}

impl Groups<'_> {
    fn act(&mut self, name: &str, op: &GroupOp) -> Result<(), Stop> {
        self.charge(ACTION_RECORD_COUNT)?;
        if let GroupOp::Create { consumers, starts } = op {
            return self.create(name, consumers, starts);
        }
        let before: GroupHead = self.read(&head_key(name))?.ok_or(code::NO_GROUP)?;
        let mut head = before.clone();
        let mut is_shared = !self.sweep(name, &mut head)?;
        let mut fresh = None;
        match op {
            GroupOp::Create { .. } => {}
            GroupOp::Delete => {
                self.check_idle(&head)?;
                return self.delete(name, &head);
            }
            GroupOp::Join { member, session_us } => {
                self.join(name, &mut head, member, *session_us)?;
                (is_shared, fresh) = (false, Some(member.as_str()));
            }
            GroupOp::Leave { member, joined } => {
                self.joined(name, member, *joined)?;
                self.changes.insert(lease_key(name, member), None);
                head.member_count = head.member_count.saturating_sub(1);
                is_shared = false;
            }
            GroupOp::Beat { member, joined } => {
                let lease = self.joined(name, member, *joined)?;
                self.renew(name, member, lease);
            }
            GroupOp::Commit { member, lane, generation, from, to } => {
                let owner = Owner { member: member.clone(), generation: *generation };
                self.commit(name, *lane, owner, *from, *to)?;
            }
            GroupOp::Seek { lane, to } => {
                self.check_idle(&head)?;
                self.check_cursor(*lane, to)?;
                let owner = self.lane(name, *lane)?.owner;
                self.put_lane(name, *lane, &GroupLane { owner, cursor: *to });
            }
        }
        if !is_shared {
            self.share(name, &mut head, fresh)?;
        }
        if head != before {
            self.changes.insert(head_key(name), Some(head.to_bytes()));
        }
        Ok(())
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

    fn read<T: Decode>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        group::read(&self.space(), key)
    }

    fn lane(&self, name: &str, lane: Lane) -> Result<GroupLane, StoreError> {
        Ok(self.read(&lane_key(name, lane))?.unwrap_or_default())
    }

    /// Writes a lane's record, or none where it says nothing (G2).
    fn put_lane(&mut self, name: &str, lane: Lane, record: &GroupLane) {
        let value = (*record != GroupLane::default()).then(|| record.to_bytes());
        self.changes.insert(lane_key(name, lane), value);
    }

    fn floor(&self) -> Result<u64, StoreError> {
        let floor = self.space().get(&FLOOR_KEY)?;
        let floor = floor.map(|bytes| number_of(&bytes)).transpose();
        Ok(floor.map_err(|_| damaged(Table::Group, &FLOOR_KEY))?.unwrap_or(0))
    }

    fn create(
        &mut self,
        name: &str,
        consumers: &Writers,
        starts: &[(Lane, Certified)],
    ) -> Result<(), Stop> {
        if NAMES_RESERVED.iter().any(|prefix| name.starts_with(prefix)) {
            return Err(code::NAME_RESERVED.into());
        }
        let key = head_key(name);
        if self.space().get(&key)?.is_some() {
            return Err(code::GROUP_EXISTS.into());
        }
        self.charge(u64::from(self.lane_count))?;
        for (lane, cursor) in starts {
            self.check_cursor(*lane, cursor)?;
            self.put_lane(name, *lane, &GroupLane { owner: None, cursor: *cursor });
        }
        let head = GroupHead {
            creator: self.signer,
            consumers: consumers.clone(),
            generation: self.floor()?,
            member_count: 0,
            sweep: NEVER,
        };
        self.changes.insert(key, Some(head.to_bytes()));
        Ok(())
    }

    fn delete(&mut self, name: &str, head: &GroupHead) -> Result<(), Stop> {
        self.charge(u64::from(self.lane_count))?;
        let floor = self.floor()?.max(head.generation);
        self.changes.insert(FLOOR_KEY.to_vec(), Some(floor.to_le_bytes().to_vec()));
        for lane in 0..self.lane_count {
            let key = lane_key(name, Lane::new(lane));
            if self.space().get(&key)?.is_some() {
                self.changes.insert(key, None);
            }
        }
        self.changes.insert(head_key(name), None);
        Ok(())
    }

    /// That the signer is the creator, and nobody is in the group.
    fn check_idle(&self, head: &GroupHead) -> Result<(), Stop> {
        if head.creator != self.signer {
            return Err(code::NOT_A_CONSUMER.into());
        }
        if head.member_count > 0 {
            return Err(code::GROUP_BUSY.into());
        }
        Ok(())
    }

    /// That there is such a lane, and that the cursor's height is decided.
    fn check_cursor(&self, lane: Lane, cursor: &Certified) -> Result<(), Stop> {
        if lane.get() < self.lane_count && cursor.height < self.height {
            Ok(())
        } else {
            Err(code::POSITION.into())
        }
    }

    /// Removes members whose leases have ended; says whether there were any.
    fn sweep(&mut self, name: &str, head: &mut GroupHead) -> Result<bool, Stop> {
        if head.member_count == 0 || head.sweep >= self.time {
            return Ok(false);
        }
        self.charge(u64::from(head.member_count))?;
        let members = group::members(&self.space(), name)?;
        let (left, gone): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|(_, lease)| lease.end >= self.time);
        head.sweep = left.iter().map(|(_, lease)| lease.end).min().unwrap_or(NEVER);
        head.member_count =
            u16::try_from(left.len()).expect("a group has at most MEMBER_COUNT_MAX members");
        for (member, _) in &gone {
            self.changes.insert(lease_key(name, member), None);
        }
        Ok(!gone.is_empty())
    }

    fn join(
        &mut self,
        name: &str,
        head: &mut GroupHead,
        member: &str,
        session_us: u32,
    ) -> Result<(), Stop> {
        let may_join = head.creator == self.signer
            || match &head.consumers {
                Writers::Anyone => true,
                Writers::Creator => self.is_open,
                Writers::Accounts(accounts) => accounts.binary_search(&self.signer).is_ok(),
            };
        if !may_join {
            return Err(code::NOT_A_CONSUMER.into());
        }
        let key = lease_key(name, member);
        match self.read::<Lease>(&key)? {
            Some(lease) if lease.account != self.signer => return Err(code::MEMBER_TAKEN.into()),
            Some(_) => {}
            None if head.member_count >= MEMBER_COUNT_MAX => return Err(code::GROUP_FULL.into()),
            None => head.member_count = head.member_count.saturating_add(1),
        }
        let end = lease_end(self.time, session_us);
        let lease = Lease { account: self.signer, joined: self.position, session_us, end };
        self.changes.insert(key, Some(lease.to_bytes()));
        head.sweep = head.sweep.min(end);
        Ok(())
    }

    /// The lease of a member that joined there.
    fn joined(&self, name: &str, member: &str, joined: Position) -> Result<Lease, Stop> {
        let lease = self.lease(name, member)?;
        if lease.joined == joined { Ok(lease) } else { Err(code::NOT_A_MEMBER.into()) }
    }

    /// The lease of a member that the signer speaks for.
    fn lease(&self, name: &str, member: &str) -> Result<Lease, Stop> {
        let lease = self.read::<Lease>(&lease_key(name, member))?;
        Ok(lease.filter(|lease| lease.account == self.signer).ok_or(code::NOT_A_MEMBER)?)
    }

    fn renew(&mut self, name: &str, member: &str, lease: Lease) {
        let end = lease_end(self.time, lease.session_us);
        if end >= lease_end(lease.end, lease.session_us / GAIN_PART) {
            let lease = Lease { end, ..lease };
            self.changes.insert(lease_key(name, member), Some(lease.to_bytes()));
        }
    }

    fn commit(
        &mut self,
        name: &str,
        lane: Lane,
        owner: Owner,
        from: Seqno,
        to: Certified,
    ) -> Result<(), Stop> {
        let lease = self.lease(name, &owner.member)?;
        self.check_cursor(lane, &to)?;
        let record = self.lane(name, lane)?;
        if record.owner.as_ref() != Some(&owner) {
            return Err(code::LANE_FENCED.into());
        }
        let now = record.cursor;
        if now.seqno != from || to.seqno < from || to.height < now.height {
            return Err(code::CURSOR_MOVED.into());
        }
        self.renew(name, &owner.member, lease);
        self.put_lane(name, lane, &GroupLane { owner: Some(owner), cursor: to });
        Ok(())
    }

    /// Gives lanes to the members that there are now, and those of `fresh` in a new generation.
    fn share(&mut self, name: &str, head: &mut GroupHead, fresh: Option<&str>) -> Result<(), Stop> {
        self.charge(u64::from(head.member_count).saturating_add(u64::from(self.lane_count)))?;
        let members: Vec<String> =
            group::members(&self.space(), name)?.into_iter().map(|(member, _)| member).collect();
        let lanes = group::lanes(&self.space(), name, self.lane_count)?;
        let place = |owner: &Owner| members.binary_search(&owner.member).ok();
        let held: Vec<Option<usize>> =
            lanes.iter().map(|lane| lane.owner.as_ref().and_then(place)).collect();
        let generation = head.generation.saturating_add(1);
        let given = assign(&held, members.len());
        for (((number, mut lane), held), given) in (0..).zip(lanes).zip(held).zip(given) {
            let member = given.and_then(|place| members.get(place));
            let is_fresh = member.is_some() && member.map(String::as_str) == fresh;
            if given == held && !is_fresh && lane.owner.is_some() == given.is_some() {
                continue;
            }
            lane.owner = member.map(|member| Owner { member: member.clone(), generation });
            self.put_lane(name, Lane::new(number), &lane);
            head.generation = generation;
        }
        Ok(())
    }
}

fn lease_end(time: Time, session_us: u32) -> Time {
    Time::new(time.get().saturating_add(u64::from(session_us)))
}

/// Shares lanes out among members: evenly, and so that as few as can be go to another.
///
/// With `l` lanes and `m` members each gets `l / m`, and `l % m` of them one more: those that hold most, the first by
/// name among equals. Who holds too many gives up the last ones; lanes that nobody holds go to who has room, in order.
pub(crate) fn assign(held: &[Option<usize>], member_count: usize) -> Vec<Option<usize>> {
    let lane_count = held.len();
    let (Some(least), Some(more)) =
        (lane_count.checked_div(member_count), lane_count.checked_rem(member_count))
    else {
        return vec![None; lane_count];
    };
    let count = |member: usize| held.iter().filter(|owner| **owner == Some(member)).count();
    let mut order: Vec<(Reverse<usize>, usize)> =
        (0..member_count).map(|member| (Reverse(count(member)), member)).collect();
    order.sort_unstable();
    let mut room = vec![least; member_count];
    for (_, member) in order.into_iter().take(more) {
        if let Some(room) = room.get_mut(member) {
            *room = least.saturating_add(1);
        }
    }
    let mut take = |member: usize| match room.get_mut(member) {
        Some(left) if *left > 0 => {
            *left = left.saturating_sub(1);
            true
        }
        _ => false,
    };
    let kept: Vec<Option<usize>> =
        held.iter().map(|owner| owner.filter(|member| take(*member))).collect();
    let mut free = room.into_iter().enumerate().flat_map(|(member, left)| repeat_n(member, left));
    kept.into_iter().map(|owner| owner.or_else(|| free.next())).collect()
}
