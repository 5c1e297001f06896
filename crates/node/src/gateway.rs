//! The gateway: signs what a role writes through SQL, with the key that this process holds for it.
//!
//! ```text
//!  what a statement or transaction writes ─> actions, one route ─> waits with others of the role and route (`group`)
//!     ─> one transaction ─> next sequence of the role in its lane ─> signed ─> ledger's thread ─> applied, or why not
//!                      ^ one at a time a lane                         │
//!                      └─ another gateway used it: ask the state, sign again
//! ```
//! # Invariants
//! * G1 `Ok` is said when the transaction is final, on the disks of a quorum, and applied: all of it, or nothing.
//! * G2 A role's transactions of one lane reach the ledger's thread in the order of their sequences.
//! # Limits
//! One transaction has one route. A role may be served by several gateways: they then take turns, slowly.

mod group;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use quipu_crypto::SecretKey;
use quipu_proof::names::{header_hash, lane_of, signed_bytes};
use quipu_query::{Act, Append, Signer, SqlError, Write, Written};
use quipu_replica::{Answer, Refusal};
use quipu_state::Done;
use quipu_types::{
    AccountId, Action, Code, Hash, Height, Lane, Outcome, Receipt, RouteRule, Schema, StreamSpec,
    Unsigned, code,
};
use tokio::sync::{Mutex, oneshot};

use crate::driver::{Message, Reply, Submission, When};
use crate::gateway::group::{Member, Queues};
use crate::shared::{Closed, Shared};

/// How often a transaction is signed anew when another gateway was faster.
const SIGN_COUNT_MAX: u32 = 200;
/// Time between two tries.
const RETRY_TIME: Duration = Duration::from_millis(20);
/// Longest time that a client waits for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// The roles that may write here, and their keys.
#[derive(Debug, Default)]
pub(crate) struct Gateway {
    roles: BTreeMap<String, Arc<Role>>,
}

/// One who signs here.
#[derive(Debug)]
pub(crate) struct Role {
    name: String,
    key: SecretKey,
    /// By lane: the numbers of its next transaction, if they are known.
    places: Mutex<BTreeMap<Lane, Place>>,
    /// The header that was the newest when it was looked for last.
    anchor: Lock<(Height, Hash)>,
    /// What waits to be signed.
    queues: Queues,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    incarnation: u32,
    next: u64,
}

/// Why a write is not applied.
#[derive(Clone, Debug)]
pub(crate) enum Unwritten {
    /// The ledger executed it and refused it: why, which of its actions, and what that says of the reason.
    Refused { code: Code, action: Option<u32>, detail: u16 },
    /// It was not executed, as far as is known here.
    Failed(SqlError),
}

impl From<SqlError> for Unwritten {
    fn from(error: SqlError) -> Self {
        Self::Failed(error)
    }
}

/// What came of one try.
enum Tried {
    /// What each program did, if that is known here, and how many rows all did.
    Applied { done: Option<Vec<Done>>, row_count: u64 },
    /// Somebody else used the sequence.
    Behind,
}

impl Gateway {
    pub(crate) fn new(keys: BTreeMap<String, SecretKey>) -> Self {
        let role =
            |(name, key): (String, SecretKey)| (name.clone(), Arc::new(Role::new(name, key)));
        Self { roles: keys.into_iter().map(role).collect() }
    }

    /// With which account `user` writes here; none where no key is held for that role.
    pub(crate) fn signer(&self, shared: &Shared, user: &str) -> Option<Signer> {
        let role = self.roles.get(user)?;
        Some(Signer { account: role.account(), is_open: shared.genesis.open_streams })
    }

    /// The accounts of the roles.
    pub(crate) fn accounts(&self) -> BTreeMap<String, AccountId> {
        self.roles.iter().map(|(name, role)| (name.clone(), role.account())).collect()
    }

    /// Writes as `user` (G1).
    pub(crate) async fn write(
        &self,
        shared: &Arc<Shared>,
        user: &str,
        write: &Write,
    ) -> Result<Written, Unwritten> {
        let role = self.role(user)?;
        let (route, actions) = actions(shared, write.acts())?;
        let (member, answer) = Member::new(actions, write);
        Arc::clone(role).enqueue(shared, route, member);
        // Whoever carries it answers, unless the process ends.
        answer.await.unwrap_or_else(|_| Err(unknown().into()))
    }

    fn role(&self, user: &str) -> Result<&Arc<Role>, SqlError> {
        self.roles.get(user).ok_or_else(|| {
            let message = format!("this gateway holds no key for role \"{user}\"");
            SqlError::new("42501", code::SQL_UNSUPPORTED, message).hint(
                "name its key file in [roles] of config.toml (quipu gateway: --role), or connect as a role that is there",
            )
        })
    }
}

/// The actions of a transaction, and the one route that all of its events have.
fn actions(shared: &Shared, acts: &[Act]) -> Result<(Option<Vec<u8>>, Vec<Action>), SqlError> {
    let mut route: Option<Option<Vec<u8>>> = None;
    let (mut streams, mut actions) = (BTreeMap::new(), Vec::new());
    for act in acts {
        match act {
            Act::Append(append) => {
                if !streams.contains_key(append.stream.as_str()) {
                    streams.insert(append.stream.as_str(), stream(shared, &append.stream)?);
                }
                let spec = streams.get(append.stream.as_str()).expect("it is there by now");
                append_actions(spec, append, &mut route, &mut actions)?;
            }
            Act::Run(program) => actions.push(Action::Run(program.clone())),
            Act::Define(define) => actions.push(Action::Define(define.clone())),
            Act::CreateStream(spec) => actions.push(Action::CreateStream((**spec).clone())),
            Act::Call(call) => actions.push(Action::Call(call.clone())),
            Act::Reads(reads) => actions.push(Action::Reads(reads.clone())),
        }
    }
    Ok((route.flatten(), actions))
}

/// What a stream is.
fn stream(shared: &Shared, name: &str) -> Result<StreamSpec, SqlError> {
    let known = shared.machine().map_err(closed)?.stream(name);
    let known = known.map_err(|error| failed(&error.to_string()))?;
    Ok(known.ok_or_else(|| quipu_query::refused(code::NO_STREAM))?.spec)
}

fn append_actions(
    spec: &StreamSpec,
    Append { stream, rows }: &Append,
    route: &mut Option<Option<Vec<u8>>>,
    actions: &mut Vec<Action>,
) -> Result<(), SqlError> {
    if spec.compacted {
        let what = format!("INSERT gives no keys, and each event of \"{stream}\" has one");
        return Err(SqlError::new("0A000", code::NO_KEY, what)
            .hint("append to a compacted stream with quipu append --event-key, or a library"));
    }
    for payload in rows {
        let own = route_of(&spec.schema, &spec.route, payload)?;
        if *route.get_or_insert_with(|| own.clone()) != own {
            let what = "rows of one transaction have different routes";
            return Err(SqlError::new("0A000", code::SQL_UNSUPPORTED, what).hint(
                "a transaction stands in one lane: insert rows of one value of the routing column at a time",
            ));
        }
        let payload = payload.clone();
        actions.push(Action::Append { stream: stream.clone(), key: Vec::new(), payload });
    }
    Ok(())
}

fn route_of(
    schema: &Schema,
    rule: &RouteRule,
    payload: &[u8],
) -> Result<Option<Vec<u8>>, SqlError> {
    let RouteRule::Column(name) = rule else { return Ok(None) };
    let column = schema.index_of(name).ok_or_else(|| failed("a stream routes by no column"))?;
    let route = schema.route_bytes(payload, column).map_err(|error| failed(&error.to_string()))?;
    Ok(Some(route))
}

impl Role {
    pub(crate) fn new(name: String, key: SecretKey) -> Self {
        let (places, anchor, queues) = (Mutex::default(), Lock::default(), Queues::default());
        Self { name, key, places, anchor, queues }
    }

    fn account(&self) -> AccountId {
        quipu_crypto::suite::account(&self.key.public())
    }

    /// Has actions applied as one transaction of no route.
    pub(crate) async fn say(
        &self,
        shared: &Arc<Shared>,
        actions: &[Action],
    ) -> Result<(), Unwritten> {
        self.write(shared, None, actions).await.map(|_| ())
    }

    /// One transaction, signed anew as long as others are faster (G1): what its programs did, if that is known here,
    /// and how many rows it wrote.
    async fn write(
        &self,
        shared: &Arc<Shared>,
        route: Option<&[u8]>,
        actions: &[Action],
    ) -> Result<(Option<Vec<Done>>, u64), Unwritten> {
        for _ in 0..SIGN_COUNT_MAX {
            match self.try_write(shared, route, actions).await? {
                Tried::Applied { done, row_count } => return Ok((done, row_count)),
                Tried::Behind => tokio::time::sleep(RETRY_TIME).await,
            }
        }
        let message = format!("other gateways of role \"{}\" were always faster", self.name);
        Err(SqlError::new("40001", code::SEQUENCE_USED, message).hint("try again").into())
    }

    async fn try_write(
        &self,
        shared: &Arc<Shared>,
        route: Option<&[u8]>,
        actions: &[Action],
    ) -> Result<Tried, Unwritten> {
        let (reply, answer) = oneshot::channel();
        let signer = self.key.public();
        let lane = lane_of(route.unwrap_or(signer.bytes()), shared.lane_count());
        // Held until the ledger's thread has it, so that the order of sequences is kept (G2).
        let mut places = self.places.lock().await;
        let place = match places.get(&lane) {
            Some(place) => *place,
            None => self.ask(shared, lane)?,
        };
        let unsigned = Unsigned {
            signer,
            incarnation: place.incarnation,
            sequence: place.next,
            anchor: self.anchor(shared)?,
            route,
            actions,
        };
        let bytes = signed_bytes(&self.key, &shared.chain, &unsigned);
        let admitted = shared.admissions.vouch(bytes.into()).map_err(quipu_query::refused)?;
        let awaited = shared.awaited.wait(admitted.tx);
        let submission = Submission { admitted, reply, when: When::Executed };
        shared.send(Message::Submit(vec![submission])).map_err(|full| match full {
            true => SqlError::new("53000", code::OVERLOADED, "the queue of transactions is full"),
            false => SqlError::new("57P01", code::STOPPING, "this process stops"),
        })?;
        places.insert(lane, Place { next: place.next.saturating_add(1), ..place });
        drop(places);
        let answered = tokio::time::timeout(ANSWER_TIME_MAX, answer).await;
        let tried = match answered {
            Ok(Ok(Reply::Answer(answer))) => tried(shared, answer),
            // What is not known yet may still be ordered.
            Ok(Ok(Reply::Taken) | Err(_)) | Err(_) => Err(unknown().into()),
        };
        let is_used = matches!(
            tried,
            Ok(Tried::Applied { .. }) | Err(Unwritten::Refused { action: Some(_), .. })
        );
        if !is_used {
            self.places.lock().await.remove(&lane);
        }
        Ok(match tried? {
            Tried::Applied { row_count, .. } => Tried::Applied { done: awaited.take(), row_count },
            Tried::Behind => Tried::Behind,
        })
    }

    /// What the executed state expects of the role next.
    fn ask(&self, shared: &Shared, lane: Lane) -> Result<Place, SqlError> {
        let machine = shared.machine().map_err(closed)?;
        let sequence = machine.sequence(lane, &self.key.public());
        let sequence = sequence.map_err(|error| failed(&error.to_string()))?;
        Ok(Place { incarnation: sequence.incarnation, next: sequence.next })
    }

    /// The newest header that is executed here, which every validator knows.
    fn anchor(&self, shared: &Shared) -> Result<Hash, SqlError> {
        let height = shared.progress().executed;
        if height == Height::default() {
            return Ok(shared.chain);
        }
        let mut kept = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0 != height {
            let header = shared.reader.header(height);
            let (header, _) = header.map_err(|error| failed(&error.to_string()))?;
            *kept = (height, header_hash(&header));
        }
        Ok(kept.1)
    }
}

fn tried(shared: &Shared, answer: Answer) -> Result<Tried, Unwritten> {
    match answer {
        Answer::Final { receipt, .. } => executed(&receipt),
        // It may be this very transaction that used the sequence.
        Answer::Used { tx, .. } => match shared.find(&tx) {
            Ok(Some(found)) => executed(&found.receipt),
            Ok(None) => Ok(Tried::Behind),
            Err(_) => Err(unknown().into()),
        },
        Answer::Refused(refusal) if is_behind(&refusal) => Ok(Tried::Behind),
        Answer::Refused(refusal) => Err(quipu_query::refused(refusal.code()).into()),
        Answer::Ordered { .. } | Answer::Heard { .. } => Err(unknown().into()),
    }
}

fn executed(receipt: &Receipt) -> Result<Tried, Unwritten> {
    match receipt.outcome {
        Outcome::Applied => Ok(Tried::Applied { done: None, row_count: receipt.row_count }),
        Outcome::Refused { code, action } => {
            Err(Unwritten::Refused { code, action, detail: receipt.detail })
        }
    }
}

fn is_behind(refusal: &Refusal) -> bool {
    [code::SEQUENCE_USED, code::SEQUENCE_GAP].contains(&refusal.code())
}

/// It is applied, and what it did is not known here: this validator did not execute it.
fn unreturned() -> SqlError {
    let message = "the ledger has applied the statement, and its rows are not known here";
    SqlError::new("08007", code::SQL_LIMIT, message).hint("SELECT them")
}

fn unknown() -> SqlError {
    let message = "the ledger did not answer in time; the transaction may still be applied";
    SqlError::new("08007", code::SQL_LIMIT, message).hint("ask whether it was before you try again")
}

fn failed(reason: &str) -> SqlError {
    SqlError::new("XX000", code::SQL_UNSUPPORTED, reason)
}

fn closed(_: Closed) -> SqlError {
    SqlError::new("57P01", code::STOPPING, "this process stops")
}
