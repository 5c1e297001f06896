//! Group commit: what a role's sessions write at about the same time shares one transaction, one signature.
//!
//! ```text
//!  sessions ─> queue of a role and a route ── all who are expected, or all who came in time ─> one transaction
//!                  ^                                                                              ├─ applied ─> each is told
//!                  └── whoever was answered asks again: is expected for a moment <────────────────┤   what it did
//!                                                                                                 └─ refused ─> each alone
//! ```
//! A height takes as long for one as for all: were a group to fly while half of the sessions are about to come, both halves
//! would wait for one another's heights, for ever.
//! Bound: a transaction costs every validator an envelope, a signature and a receipt, tens of microseconds each; a
//! member of a group costs them its programs.
//!
//! # Invariants
//! * H1 Each member is applied whole or not at all, and is told its own outcome: a transaction is atomic, and what is
//!   refused in company is no member's outcome, but is tried again alone.
//! * H2 What a member has read is checked against the members before it (`Action::Reads`).
//! * H3 What changes definitions goes alone: programs beside it would run on what they were not compiled for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quipu_query::{Act, Write, Written};
use quipu_state::Done;
use quipu_types::Action;
use quipu_types::transaction::{ACTION_COUNT_MAX, TRANSACTION_SIZE_MAX};
use tokio::sync::oneshot;

use super::{Role, Unwritten, unreturned};
use crate::shared::Shared;

/// Most members of a group.
const MEMBER_COUNT_MAX: usize = 256;
/// Longest time after an answer for which who was answered is expected to ask again: a part of the time that the answer
/// took, within bounds.
const GATHER_SHARE: u64 = 3;
const GATHER_US_MIN: u64 = 500;
const GATHER_US_MAX: u64 = 4_000;
/// Most transactions of a queue that are under way, where each is full.
const FLYING_COUNT_MAX: usize = 4;

type Answered = Result<Written, Unwritten>;
type Route = Option<Vec<u8>>;

/// What one statement or transaction writes.
#[derive(Debug)]
pub(super) struct Member {
    actions: Vec<Action>,
    /// Bytes of the actions, a transaction's head included.
    size: usize,
    returns: bool,
    goes_alone: bool,
    reply: oneshot::Sender<Answered>,
}

impl Member {
    pub(super) fn new(actions: Vec<Action>, write: &Write) -> (Self, oneshot::Receiver<Answered>) {
        let (reply, answer) = oneshot::channel();
        let goes_alone =
            write.acts().iter().any(|act| matches!(act, Act::Define(_) | Act::CreateStream(_)));
        let (size, returns) = (write.size(), write.returns());
        (Self { actions, size, returns, goes_alone, reply }, answer)
    }
}

/// Queues by route.
#[derive(Debug, Default)]
pub(super) struct Queues(Mutex<BTreeMap<Route, Queue>>);

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Member>,
    flying_count: usize,
    /// Members of the next group, and until when it waits for them.
    expected_count: usize,
    gather_until_us: u64,
    /// Members of the next group: doubled by each that was applied, one after one that was refused.
    count_max: usize,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            flying_count: 0,
            expected_count: 0,
            gather_until_us: 0,
            count_max: MEMBER_COUNT_MAX,
        }
    }
}

impl Queues {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Route, Queue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Whether nobody else would get into the next group.
    fn is_full(&self) -> bool {
        let size = self.waiting.iter().map(|member| member.size).fold(0, usize::saturating_add);
        self.waiting.len() >= self.count_max
            || size >= TRANSACTION_SIZE_MAX / 2
            || self.waiting.front().is_some_and(|first| first.goes_alone)
    }

    /// The next group, if one may fly.
    fn take(&mut self, now_us: u64) -> Option<Vec<Member>> {
        let is_gathered =
            self.waiting.len() >= self.expected_count || now_us >= self.gather_until_us;
        let flying_count_max = match self.is_full() {
            true => FLYING_COUNT_MAX,
            false => usize::from(is_gathered),
        };
        if self.flying_count >= flying_count_max {
            return None;
        }
        let first = self.waiting.pop_front()?;
        let (mut size, mut count) = (first.size, first.actions.len());
        let is_alone = first.goes_alone;
        let mut group = vec![first];
        while !is_alone && group.len() < self.count_max {
            let Some(next) = self.waiting.front() else { break };
            size = size.saturating_add(next.size);
            count = count.saturating_add(next.actions.len());
            if next.goes_alone || size > TRANSACTION_SIZE_MAX || count > ACTION_COUNT_MAX {
                break;
            }
            group.extend(self.waiting.pop_front());
        }
        self.flying_count = self.flying_count.saturating_add(1);
        Some(group)
    }

    /// A group has landed; `again` are its members, if they are to fly alone.
    fn land(&mut self, count: usize, again: Vec<Member>, took_us: u64, now_us: u64) {
        self.flying_count = self.flying_count.saturating_sub(1);
        self.expected_count = self.waiting.len().saturating_add(count);
        let gather_us = (took_us / GATHER_SHARE).clamp(GATHER_US_MIN, GATHER_US_MAX);
        self.gather_until_us = now_us.saturating_add(gather_us);
        self.count_max = match again.is_empty() {
            true => self.count_max.saturating_mul(2).min(MEMBER_COUNT_MAX),
            false => 1,
        };
        for member in again.into_iter().rev() {
            self.waiting.push_front(Member { goes_alone: true, ..member });
        }
    }
}

impl Role {
    /// Puts a member on its way; it is answered.
    pub(super) fn enqueue(self: Arc<Self>, shared: &Arc<Shared>, route: Route, member: Member) {
        self.queues.lock().entry(route.clone()).or_default().waiting.push_back(member);
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            // Sessions that have something to write in this very moment get the chance to join.
            tokio::task::yield_now().await;
            self.pump(&shared, &route);
        });
    }

    /// Lets groups fly, as many as may.
    fn pump(self: Arc<Self>, shared: &Arc<Shared>, route: &Route) {
        let mut queues = self.queues.lock();
        let Some(queue) = queues.get_mut(route) else { return };
        let now_us = shared.clock.mono_us();
        while let Some(group) = queue.take(now_us) {
            let (role, shared, route) = (Arc::clone(&self), Arc::clone(shared), route.clone());
            tokio::spawn(role.carry(shared, route, group, now_us));
        }
        let is_over = queue.waiting.is_empty() && now_us >= queue.gather_until_us;
        if queue.flying_count == 0 && is_over {
            queues.remove(route);
        }
    }

    /// A group's flight, and what follows: at once, and when who was expected has not come.
    async fn carry(
        self: Arc<Self>,
        shared: Arc<Shared>,
        route: Route,
        group: Vec<Member>,
        began_us: u64,
    ) {
        let count = group.len();
        let again = self.fly(&shared, route.as_deref(), group).await;
        let now_us = shared.clock.mono_us();
        let until_us = match self.queues.lock().get_mut(&route) {
            Some(queue) => {
                queue.land(count, again, now_us.saturating_sub(began_us), now_us);
                queue.gather_until_us
            }
            None => return,
        };
        Arc::clone(&self).pump(&shared, &route);
        tokio::time::sleep(Duration::from_micros(until_us.saturating_sub(now_us))).await;
        self.pump(&shared, &route);
    }

    /// Writes a group as one transaction, and answers its members; gives those back that are to be tried alone (H1).
    async fn fly(
        &self,
        shared: &Arc<Shared>,
        route: Option<&[u8]>,
        mut group: Vec<Member>,
    ) -> Vec<Member> {
        let counts: Vec<usize> = group.iter().map(|member| member.actions.len()).collect();
        let mut actions: Vec<Action> = Vec::with_capacity(counts.iter().sum());
        for member in &mut group {
            actions.append(&mut member.actions);
        }
        let written = self.write(shared, route, &actions).await;
        if group.len() > 1 && matches!(written, Err(Unwritten::Refused { .. })) {
            let mut actions = actions.into_iter();
            for (member, count) in group.iter_mut().zip(counts) {
                member.actions = actions.by_ref().take(count).collect();
            }
            return group;
        }
        let (mut done, row_count) = match written {
            Ok((done, row_count)) => (done.map(VecDeque::from), row_count),
            Err(error) => {
                for member in group {
                    // Who is gone is not told.
                    let _told = member.reply.send(Err(error.clone()));
                }
                return Vec::new();
            }
        };
        let is_one = group.len() == 1;
        let mut actions = actions.iter();
        for (member, count) in group.into_iter().zip(counts) {
            let own = actions.by_ref().take(count);
            let run_count = own.filter(|action| matches!(action, Action::Run(_))).count();
            let answer = match &mut done {
                Some(done) => Ok(written_by(done.drain(..run_count.min(done.len())))),
                None if run_count == 0 || (is_one && !(member.returns && row_count > 0)) => {
                    Ok(Written { row_count, rows: Vec::new() })
                }
                None => Err(unreturned().into()),
            };
            let _told = member.reply.send(answer);
        }
        Vec::new()
    }
}

/// What programs did together.
fn written_by(done: impl Iterator<Item = Done>) -> Written {
    done.fold(Written::default(), |mut all, done| {
        all.row_count = all.row_count.saturating_add(done.row_count);
        all.rows.extend(done.rows);
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(goes_alone: bool) -> Member {
        let (reply, _answer) = oneshot::channel();
        Member { actions: Vec::new(), size: 100, returns: false, goes_alone, reply }
    }

    fn join(queue: &mut Queue, count: usize) {
        queue.waiting.extend(std::iter::repeat_with(|| member(false)).take(count));
    }

    fn taken(queue: &mut Queue, now_us: u64) -> Option<usize> {
        queue.take(now_us).map(|group| group.len())
    }

    #[test]
    fn who_was_answered_is_waited_for_but_not_for_ever() {
        let mut queue = Queue::default();
        join(&mut queue, 1);
        assert_eq!(taken(&mut queue, 0), Some(1), "nobody is expected");
        join(&mut queue, 7);
        assert_eq!(taken(&mut queue, 10), None, "one flies");
        queue.land(1, Vec::new(), 6_000, 6_000);
        assert_eq!(taken(&mut queue, 6_100), None, "the first one will come again");
        join(&mut queue, 1);
        assert_eq!(taken(&mut queue, 6_200), Some(8));
        queue.land(8, Vec::new(), 6_000, 12_000);
        join(&mut queue, 3);
        assert_eq!(taken(&mut queue, 13_999), None);
        assert_eq!(taken(&mut queue, 14_000), Some(3), "a third of the flight later");
    }

    #[test]
    fn what_is_full_or_goes_alone_waits_for_nobody() {
        let mut queue = Queue::default();
        join(&mut queue, MEMBER_COUNT_MAX * 6);
        for _ in 0..FLYING_COUNT_MAX {
            assert_eq!(taken(&mut queue, 0), Some(MEMBER_COUNT_MAX));
        }
        assert_eq!(taken(&mut queue, 0), None, "enough fly");
        queue.land(2, vec![member(false), member(false)], 1, 1);
        assert_eq!(taken(&mut queue, 1), Some(1), "what was refused is tried alone");
    }
}
