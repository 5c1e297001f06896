//! The task that speaks to the ledger for a member of a group: Join, Beat, Commit, Leave, one after the other.
//!
//! ```text
//!  beat: every session/3, and when another's lease may have ended ─> read ─> share
//!  commit: outputs + Commit ─┬─ landed ─> share
//!                            ├─ fenced, moved ─> read ─> share
//!                            └─ no member ─> read ─> join anew
//! ```
//! * S1 One transaction at a time, of one producer: a beat does not overtake a commit that is in doubt.
//! * S2 The group is read as it stands at or after everything that was answered here.
//! * S3 Who finds another process under its name ends; who finds none joins anew.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quipu_crypto::suite::SecretKey;
use quipu_types::cursor::Certified;
use quipu_types::group::{GroupAction, GroupOp};
use quipu_types::{Action, Hash, Height, Lane, Position, Seqno, code};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::GroupError;
use crate::api::{GroupInfo, GroupLaneInfo, SubmitAnswer};
use crate::http::{Client, ClientError};
use crate::producer::Producer;

/// Pause before something that had no answer is asked again.
const AGAIN_PAUSE: Duration = Duration::from_millis(25);
/// How often a transaction's bytes are sent.
const SEND_COUNT_MAX: u32 = 400;
/// How often a transaction is signed anew after its sequence turned out to be used by another process.
const RESIGN_COUNT_MAX: usize = 16;
/// How often a server that is behind is asked for the group.
const READ_COUNT_MAX: usize = 400;
/// How often a member joins whose lease ends before it sees itself.
const JOIN_COUNT_MAX: usize = 3;
/// Beats in a session.
const BEAT_COUNT: u32 = 3;
/// Shortest time between two beats.
const BEAT_TIME_MIN: Duration = Duration::from_millis(20);

/// Who joins what.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) group: String,
    pub(super) name: String,
    pub(super) session_us: u32,
}

/// A lane that is held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) generation: u64,
    pub(super) committed: Certified,
}

/// What is held, as last seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Share {
    pub(super) is_joined: bool,
    pub(super) lanes: BTreeMap<Lane, Held>,
}

/// How far lanes were read, in which generation, where nothing was given that is not committed.
pub(super) type Passed = BTreeMap<Lane, (u64, Certified)>;

/// What the caller wants.
#[derive(Debug)]
pub(super) enum Command {
    /// A commit.
    Commit(Commit),
    /// To go.
    Leave,
}

/// A commit, with what goes into its transaction and its route.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) lane: Lane,
    pub(super) generation: u64,
    pub(super) to: Certified,
    pub(super) outputs: Option<(Option<Vec<u8>>, Vec<Action>)>,
    pub(super) reply: oneshot::Sender<Result<Option<SubmitAnswer>, GroupError>>,
}

/// How the member stands in the group.
enum Standing {
    In,
    Out,
    Replaced,
}

/// See the module's header.
pub(super) struct Keeper<'a> {
    client: &'a Client,
    key: &'a SecretKey,
    /// None until something is signed, and after what may have taken a sequence without a word.
    producer: Option<Producer<'a>>,
    member: Member,
    joined: Position,
    /// What is seen of the group must be of this height at least (S2).
    height: u64,
    /// Whether something may have landed that was not answered.
    is_doubtful: bool,
    lanes: BTreeMap<Lane, Held>,
    beat_at: Instant,
    share: watch::Sender<Share>,
    passed: watch::Receiver<Passed>,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(
        client: &'a Client,
        key: &'a SecretKey,
        member: Member,
        share: watch::Sender<Share>,
        passed: watch::Receiver<Passed>,
    ) -> Self {
        Self {
            client,
            key,
            producer: None,
            member,
            joined: Position { lane: Lane::new(0), seqno: Seqno::default() },
            height: 0,
            is_doubtful: false,
            lanes: BTreeMap::new(),
            beat_at: Instant::now(),
            share,
            passed,
        }
    }

    /// Joins, and serves until it is told to leave, its caller is gone or it can not go on.
    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
    ) -> Result<(), GroupError> {
        self.join().await?;
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Commit(commit)) => self.serve(commit).await?,
                    Some(Command::Leave) | None => return self.leave().await,
                },
                () = tokio::time::sleep_until(self.beat_at) => self.beat().await?,
            }
        }
    }

    async fn join(&mut self) -> Result<(), GroupError> {
        for _ in 0..JOIN_COUNT_MAX {
            let (member, session_us) = (self.member.name.clone(), self.member.session_us);
            let answer = self.act(vec![GroupOp::Join { member, session_us }]).await?;
            let position = answer.position.as_deref().and_then(|text| text.parse().ok());
            let (Some(position), true) = (position, answer.is_committed()) else {
                return Err(refused(answer));
            };
            self.joined = position;
            match self.read().await? {
                Standing::In => return Ok(()),
                Standing::Out => {}
                Standing::Replaced => return Err(self.replaced()),
            }
        }
        let message = "the lease ended before the group was seen".into();
        Err(GroupError::Refused { code: code::NOT_A_MEMBER, message })
    }

    fn replaced(&self) -> GroupError {
        GroupError::Replaced { member: self.member.name.clone() }
    }

    /// Reads the group, and joins anew if the lease has ended (S3).
    async fn look(&mut self) -> Result<(), GroupError> {
        match self.read().await? {
            Standing::In => Ok(()),
            Standing::Out => self.join().await,
            Standing::Replaced => Err(self.replaced()),
        }
    }

    /// Takes cursors over what was passed, and goes.
    async fn leave(&mut self) -> Result<(), GroupError> {
        let (member, joined) = (self.member.name.clone(), self.joined);
        let leave = GroupOp::Leave { member, joined };
        let mut ops = self.commits_of_passed();
        let has_commits = !ops.is_empty();
        ops.push(leave.clone());
        let mut answer = self.act(ops).await?;
        if has_commits && !answer.is_committed() {
            answer = self.act(vec![leave]).await?;
        }
        if answer.is_committed() || answer.refusal() == Some(code::NOT_A_MEMBER) {
            Ok(())
        } else {
            Err(refused(answer))
        }
    }

    /// Renews the lease and takes cursors over what was passed; learns of others.
    async fn beat(&mut self) -> Result<(), GroupError> {
        match self.beat_once().await {
            // The lease may outlast it, and a later beat tells.
            Err(GroupError::Client(ClientError::Unreachable { .. } | ClientError::Busy { .. })) => {
                self.beat_at = later(AGAIN_PAUSE);
                Ok(())
            }
            done => done,
        }
    }

    async fn beat_once(&mut self) -> Result<(), GroupError> {
        let commits = self.commits_of_passed();
        // A commit renews the lease, too.
        let is_told = !commits.is_empty() && self.act(commits).await?.is_committed();
        if !is_told {
            let (member, joined) = (self.member.name.clone(), self.joined);
            let answer = self.act(vec![GroupOp::Beat { member, joined }]).await?;
            if !answer.is_committed() && answer.refusal() != Some(code::NOT_A_MEMBER) {
                return Err(refused(answer));
            }
        }
        self.look().await
    }

    /// Commits of what was passed over and is beyond the cursors.
    fn commits_of_passed(&self) -> Vec<GroupOp> {
        let passed = self.passed.borrow();
        let beyond = passed.iter().filter_map(|(lane, (generation, to))| {
            let held = self.lanes.get(lane)?;
            let is_beyond = held.generation == *generation && held.committed.seqno < to.seqno;
            is_beyond.then(|| GroupOp::Commit {
                member: self.member.name.clone(),
                lane: *lane,
                generation: *generation,
                from: held.committed.seqno,
                to: *to,
            })
        });
        beyond.collect()
    }

    /// Answers a commit. An error here ends the keeper.
    async fn serve(&mut self, commit: Commit) -> Result<(), GroupError> {
        let Commit { lane, generation, to, outputs, reply } = commit;
        let (done, then) = match self.commit(lane, generation, to, outputs).await {
            Ok(answer) => match answer.refusal() {
                None => (Ok(Some(answer)), Ok(())),
                Some(code::NOT_A_MEMBER | code::LANE_FENCED) => {
                    (Err(GroupError::Lost { lane }), self.look().await)
                }
                Some(code::CURSOR_MOVED) => {
                    let looked = self.look().await;
                    (self.landed(lane, generation, to).map(|()| None), looked)
                }
                Some(_) => (Err(refused(answer)), Ok(())),
            },
            Err(Tried::Known(known)) => (known.map(|()| None), Ok(())),
            Err(Tried::Failed(error)) => (Err(error), Ok(())),
        };
        // A caller that was cancelled learns it from the group.
        drop(reply.send(done));
        match then {
            // The next beat tries again.
            Err(GroupError::Client(ClientError::Unreachable { .. } | ClientError::Busy { .. })) => {
                self.beat_at = later(AGAIN_PAUSE);
                Ok(())
            }
            then => then,
        }
    }

    async fn commit(
        &mut self,
        lane: Lane,
        generation: u64,
        to: Certified,
        outputs: Option<(Option<Vec<u8>>, Vec<Action>)>,
    ) -> Result<SubmitAnswer, Tried> {
        if self.is_doubtful {
            self.look().await.map_err(Tried::Failed)?;
        }
        match self.landed(lane, generation, to) {
            // It goes on from where the cursor stands, before the batch's end.
            Err(GroupError::Moved { .. }) if self.is_before(lane, to) => {}
            known => return Err(Tried::Known(known)),
        }
        let from = self.lanes.get(&lane).map(|held| held.committed.seqno).unwrap_or_default();
        let member = self.member.name.clone();
        let op = GroupOp::Commit { member, lane, generation, from, to };
        let (route, mut actions) = outputs.unwrap_or_else(|| (Some(self.route()), Vec::new()));
        actions.push(self.action(op));
        let answer = self.settle(route.as_deref(), &actions).await;
        let answer = answer.map_err(|error| Tried::Failed(error.into()))?;
        if answer.is_committed() {
            if let Some(held) = self.lanes.get_mut(&lane) {
                held.committed = to;
            }
            self.publish();
        }
        Ok(answer)
    }

    fn is_before(&self, lane: Lane, to: Certified) -> bool {
        self.lanes.get(&lane).is_some_and(|held| held.committed.seqno < to.seqno)
    }

    /// Whether the lane's cursor stands at the batch's end already: only who holds it in its generation put it there
    /// (R3).
    fn landed(&self, lane: Lane, generation: u64, to: Certified) -> Result<(), GroupError> {
        let held = self.lanes.get(&lane).filter(|held| held.generation == generation);
        match held {
            None => Err(GroupError::Lost { lane }),
            Some(held) if held.committed.seqno == to.seqno => Ok(()),
            Some(_) => Err(GroupError::Moved { lane }),
        }
    }

    /// Reads the group as it stands after what was answered here.
    async fn read(&mut self) -> Result<Standing, GroupError> {
        let path = format!("/v1/groups/{}", self.member.group);
        let mut tries = 0_usize;
        let info: GroupInfo = loop {
            let info: GroupInfo = self.client.get(&path).await?;
            if info.height >= self.height {
                break info;
            }
            tries = tries.saturating_add(1);
            if tries > READ_COUNT_MAX {
                let tried = format!("it shows the group before height {}", self.height);
                return Err(ClientError::Busy { tried }.into());
            }
            tokio::time::sleep(AGAIN_PAUSE).await;
        };
        self.height = info.height;
        self.is_doubtful = false;
        let joined = self.joined.to_string();
        let own = info.members.iter().find(|member| member.name == self.member.name);
        let standing = match own {
            None => Standing::Out,
            Some(member) if member.joined == joined => Standing::In,
            Some(_) => Standing::Replaced,
        };
        self.lanes = match standing {
            Standing::In => {
                let own = |lane: &&GroupLaneInfo| lane.owner.as_ref() == Some(&self.member.name);
                info.lanes.iter().filter(own).map(held).collect()
            }
            Standing::Out | Standing::Replaced => BTreeMap::new(),
        };
        self.beat_at = later(self.next_beat(&info));
        self.publish();
        Ok(standing)
    }

    /// When to beat: in time, and as soon as another's lease may have ended.
    fn next_beat(&self, info: &GroupInfo) -> Duration {
        let session = Duration::from_micros(u64::from(self.member.session_us));
        let regular = session.checked_div(BEAT_COUNT).unwrap_or(session);
        let others = info.members.iter().filter(|member| member.name != self.member.name);
        let ended = others.map(|member| {
            let left = member.lease_end_us.saturating_sub(info.time_us);
            Duration::from_micros(left).saturating_add(BEAT_TIME_MIN)
        });
        ended.min().map_or(regular, |ended| regular.min(ended))
    }

    fn publish(&self) {
        let lanes = self.lanes.clone();
        self.share.send_replace(Share { is_joined: true, lanes });
    }

    /// Where the group's own transactions go: members' to several lanes.
    fn route(&self) -> Vec<u8> {
        format!("{}/{}", self.member.group, self.member.name).into_bytes()
    }

    fn action(&self, op: GroupOp) -> Action {
        Action::Group(Box::new(GroupAction { group: self.member.group.clone(), op }))
    }

    async fn act(&mut self, ops: Vec<GroupOp>) -> Result<SubmitAnswer, GroupError> {
        let actions: Vec<Action> = ops.into_iter().map(|op| self.action(op)).collect();
        let route = self.route();
        Ok(self.settle(Some(&route), &actions).await?)
    }

    /// Signs and sends until there is an outcome.
    async fn settle(
        &mut self,
        route: Option<&[u8]>,
        actions: &[Action],
    ) -> Result<SubmitAnswer, ClientError> {
        for _ in 0..RESIGN_COUNT_MAX {
            let answer = self.settle_once(route, actions).await;
            let is_ordered = answer.as_ref().is_ok_and(|answer| answer.position.is_some());
            if !is_ordered {
                self.producer = None;
            }
            let Ok(answer) = answer else {
                self.is_doubtful = true;
                return answer;
            };
            if is_ordered || !is_behind(&answer) {
                self.height = self.height.max(answer.height.unwrap_or_default());
                return Ok(answer);
            }
        }
        Err(ClientError::Busy { tried: "other processes sign with this key, too".into() })
    }

    async fn settle_once(
        &mut self,
        route: Option<&[u8]>,
        actions: &[Action],
    ) -> Result<SubmitAnswer, ClientError> {
        let producer = match &mut self.producer {
            Some(producer) => producer,
            none => none.insert(Producer::new(self.client, self.key).await?),
        };
        let signed = producer.sign(route, actions).await?;
        deliver(self.client, &signed).await
    }
}

/// Why there is no answer to a commit.
enum Tried {
    /// What would come of it is known already.
    Known(Result<(), GroupError>),
    /// Nobody answers, or the member is none any more.
    Failed(GroupError),
}

/// Sends the same bytes until they have an outcome (R3).
async fn deliver(client: &Client, signed: &Bytes) -> Result<SubmitAnswer, ClientError> {
    let mut tries = 0_u32;
    loop {
        let answers = client.submit_until_final(std::slice::from_ref(signed)).await;
        let last = tries >= SEND_COUNT_MAX;
        tries = tries.saturating_add(1);
        match answers.map(|answers| answers.into_iter().next()) {
            Ok(Some(answer)) if answer.status != "final" && !answer.is_worth_repeating() => {
                return Ok(answer);
            }
            Ok(_) if last => {
                return Err(ClientError::Busy { tried: "gave no outcome".into() });
            }
            Err(error @ (ClientError::Unreachable { .. } | ClientError::Busy { .. })) if last => {
                return Err(error);
            }
            Ok(_) | Err(ClientError::Unreachable { .. } | ClientError::Busy { .. }) => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(AGAIN_PAUSE).await;
    }
}

/// Whether a refusal means that another process used this key's sequence, or that the anchor is too old.
fn is_behind(answer: &SubmitAnswer) -> bool {
    let behind = [code::SEQUENCE_USED, code::SEQUENCE_GAP, code::ANCHOR_UNKNOWN];
    answer.refusal().is_some_and(|code| behind.contains(&code))
}

fn refused(answer: SubmitAnswer) -> GroupError {
    let code = answer.refusal().unwrap_or(code::OVERLOADED);
    let message = answer.message.unwrap_or_else(|| code.explanation().title.to_owned());
    GroupError::Refused { code, message }
}

fn held(lane: &GroupLaneInfo) -> (Lane, Held) {
    let committed = Certified {
        height: Height::new(lane.height),
        seqno: Seqno::new(lane.seqno),
        root: lane.root.unwrap_or(Hash::ZERO),
    };
    (Lane::new(lane.lane), Held { generation: lane.generation.unwrap_or_default(), committed })
}

fn later(wait: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(wait).unwrap_or(now)
}
