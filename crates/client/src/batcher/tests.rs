//! Queues before a ledger that obeys its rules and a network that obeys none: requests overtake each other, answers are lost,
//! validators are busy, and copies arrive long after everybody gave up on them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use quipu_types::{
    Action, Decode as _, Encode as _, Hash, PublicKey, Signature, Suite, Transaction, code,
};

use super::queue::{Done, Draft, Place, Queue, Request, Route, Unanswered, size_of};
use super::{AppendError, Limits};
use crate::api::SubmitAnswer;

/// Number of an event, and to whom its result goes.
type Number = u32;

/// What the ledger makes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Good,
    /// Refused when it is executed, by itself.
    BadRow,
    /// Its transaction can not be ordered.
    Poison,
    /// To a stream that nobody may append to.
    Closed,
}

fn event(kind: Kind, number: Number) -> Action {
    let mark = match kind {
        Kind::Good => 0,
        Kind::BadRow => 1,
        Kind::Poison => 2,
        Kind::Closed => 3,
    };
    let mut payload = vec![mark];
    payload.extend_from_slice(&number.to_le_bytes());
    let stream = if kind == Kind::Closed { "closed" } else { "open" };
    Action::Append { stream: stream.into(), key: Vec::new(), payload }
}

fn number_of(action: &Action) -> (u8, Number) {
    let Action::Append { payload, .. } = action else { panic!("only events are appended") };
    (payload[0], Number::from_le_bytes(payload[1..].try_into().unwrap()))
}

fn sign(place: Place, draft: &Draft<Number>) -> Bytes {
    let transaction = Transaction {
        signer: PublicKey::new(Suite::Ed25519Sha256, &[7; 32]).unwrap(),
        incarnation: place.incarnation,
        sequence: place.sequence,
        anchor: Hash([0; 32]),
        route: draft.route.clone(),
        actions: draft.actions.clone(),
        signature: Signature([0; 64]),
    };
    transaction.to_bytes().into()
}

/// One lane of one signer, by the ledger's rules.
#[derive(Debug, Default)]
struct Ledger {
    incarnation: u32,
    sequence: u64,
    /// Answers by transaction.
    answers: BTreeMap<Bytes, SubmitAnswer>,
    /// Events in order.
    log: Vec<(Route, Number)>,
    /// How many of the next transactions are too old.
    expired: u32,
}

fn answer(status: &str, wanted: Option<quipu_types::Code>) -> SubmitAnswer {
    serde_json::from_value(serde_json::json!({
        "status": status, "code": wanted.map(|code| code.to_string())
    }))
    .unwrap()
}

impl Ledger {
    fn submit(&mut self, bytes: &Bytes) -> SubmitAnswer {
        if let Some(first) = self.answers.get(bytes) {
            return first.clone();
        }
        let transaction = Transaction::from_bytes(bytes).unwrap();
        let next = if transaction.incarnation == self.incarnation { self.sequence + 1 } else { 1 };
        if transaction.actions.iter().any(|action| number_of(action).0 == 2) {
            return answer("invalid", Some(code::MALFORMED));
        }
        if transaction.incarnation < self.incarnation {
            return answer("invalid", Some(code::FENCED));
        }
        if transaction.sequence < next {
            return answer("invalid", Some(code::SEQUENCE_USED));
        }
        if transaction.sequence > next {
            return answer("invalid", Some(code::SEQUENCE_GAP));
        }
        self.incarnation = transaction.incarnation;
        self.sequence = transaction.sequence;
        let bad = transaction.actions.iter().position(|action| number_of(action).0 != 0);
        let mut told = answer("committed", None);
        told.position = Some(format!("0:{}", self.answers.len() + 1));
        if self.expired > 0 {
            self.expired -= 1;
            told.code = Some(code::EXPIRED.to_string());
        } else if let Some(index) = bad {
            let is_closed = number_of(&transaction.actions[index]).0 == 3;
            let wanted = if is_closed { code::NOT_A_WRITER } else { code::BAD_ROW };
            told.code = Some(wanted.to_string());
            told.action = Some(u32::try_from(index).unwrap());
        } else {
            let numbers = transaction.actions.iter().map(|action| number_of(action).1);
            self.log.extend(numbers.map(|number| (transaction.route.clone(), number)));
        }
        self.answers.insert(bytes.clone(), told.clone());
        told
    }
}

fn frames(request: &Request) -> Vec<Bytes> {
    quipu_net::split(&request.body, 1 << 20, 1 << 16)
        .unwrap()
        .into_iter()
        .map(Bytes::copy_from_slice)
        .collect()
}

/// A queue, its ledger, and what is between.
struct World {
    queue: Queue<Number>,
    ledger: Ledger,
    now: Instant,
    flying: Vec<Request>,
    /// Copies that nobody waits for.
    stray: Vec<Vec<Bytes>>,
    results: Vec<Done<Number>>,
    taken: usize,
    freed: usize,
    state: u64,
}

impl World {
    fn new(limits: Limits, seed: u64) -> Self {
        let now = Instant::now();
        Self {
            queue: Queue::new(limits, now),
            ledger: Ledger::default(),
            now,
            flying: Vec::new(),
            stray: Vec::new(),
            results: Vec::new(),
            taken: 0,
            freed: 0,
            state: seed | 1,
        }
    }

    fn chance(&mut self, sides: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % sides
    }

    fn take(&mut self, route: u8, kind: Kind, number: Number) {
        let action = event(kind, number);
        self.taken += size_of(&action);
        self.queue.take(Some(vec![route]), action, number, self.now);
    }

    /// Lets requests fly.
    fn post(&mut self) {
        self.queue.seal_due(self.now);
        if self.queue.wants_place() {
            self.queue.claim(self.ledger.incarnation);
        }
        self.queue.take_wants_anchor();
        while let Some(request) = self.queue.next_request(self.now, sign) {
            self.flying.push(request);
        }
        self.collect();
    }

    fn collect(&mut self) {
        self.results.extend(self.queue.take_done());
        self.freed += self.queue.take_freed();
    }

    /// One of those that fly arrives, in whatever way.
    fn land(&mut self, is_honest: bool) {
        if self.flying.is_empty() {
            return;
        }
        let index =
            usize::try_from(self.chance(u64::try_from(self.flying.len()).unwrap())).unwrap();
        let request = self.flying.swap_remove(index);
        let fate = if is_honest { 9 } else { self.chance(10) };
        let transactions = frames(&request);
        let lost = || Err(Unanswered::Lost("lost".into()));
        let answers = match fate {
            // Nobody heard of it, yet.
            0 => {
                self.stray.push(transactions);
                lost()
            }
            // All or some of it was taken, and nobody told.
            1 => {
                let count = usize::try_from(self.chance(3)).unwrap();
                for bytes in transactions.iter().take(count) {
                    self.ledger.submit(bytes);
                }
                lost()
            }
            // Busy, from somewhere on.
            2 => {
                let count = usize::try_from(self.chance(3)).unwrap();
                let busy = answer("invalid", Some(code::OVERLOADED));
                let told = transactions.iter().enumerate().map(|(index, bytes)| {
                    if index < count { self.ledger.submit(bytes) } else { busy.clone() }
                });
                Ok(told.collect())
            }
            // Taken, not known to be final.
            3 => {
                transactions.iter().for_each(|bytes| drop(self.ledger.submit(bytes)));
                Ok(transactions.iter().map(|_| answer("pending", None)).collect())
            }
            _ => Ok(transactions.iter().map(|bytes| self.ledger.submit(bytes)).collect()),
        };
        self.queue.answered(&request, answers, self.now);
        self.collect();
    }

    /// A copy from long ago arrives.
    fn stray(&mut self) {
        if let Some(transactions) = self.stray.pop() {
            transactions.iter().for_each(|bytes| drop(self.ledger.submit(bytes)));
        }
    }

    fn step(&mut self) {
        match self.chance(6) {
            0 => {
                let passed = Duration::from_millis(self.chance(20));
                self.now += passed;
            }
            1 => self.stray(),
            2 => self.post(),
            _ => self.land(false),
        }
    }

    /// Everything gets its result.
    fn finish(&mut self) {
        let mark = self.queue.flush();
        for _ in 0..10_000 {
            self.now += Duration::from_millis(200);
            self.post();
            while !self.flying.is_empty() {
                self.land(true);
            }
            if self.queue.is_idle() {
                assert!(self.queue.is_settled(mark));
                self.stray();
                return;
            }
        }
        panic!("the queue does not come to rest: {:?}", self.queue.ended());
    }
}

fn limits() -> Limits {
    let (batch_count, in_flight_count) = (3, 3);
    Limits { batch_count, in_flight_count, linger: Duration::from_millis(5), ..Limits::default() }
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        40 => Just(Kind::Good), 1 => Just(Kind::BadRow), 1 => Just(Kind::Poison), 1 => Just(Kind::Closed)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// B1, Q2, Q3.
    #[test]
    fn each_event_is_appended_once_in_the_order_of_its_route_or_refused_for_a_reason(
        seed in any::<u64>(),
        events in prop::collection::vec((0..3_u8, kind(), 0..6_u8), 1..60),
        expired in 0..3_u32,
    ) {
        let mut world = World::new(limits(), seed);
        for (number, (route, kind, steps)) in events.iter().enumerate() {
            world.take(*route, *kind, Number::try_from(number).unwrap());
            if number == events.len() / 2 {
                world.ledger.expired = expired;
            }
            (0..*steps).for_each(|_| world.step());
        }
        world.finish();
        prop_assert_eq!(world.taken, world.freed);
        prop_assert_eq!(world.results.len(), events.len());
        let mut told: BTreeMap<Number, bool> = BTreeMap::new();
        for (number, result) in &world.results {
            prop_assert!(told.insert(*number, result.is_ok()).is_none(), "{number} has two results");
            let refused = matches!(result, Err(AppendError::Refused { .. }));
            prop_assert!(result.is_ok() || refused, "{result:?}");
        }
        let mut last: BTreeMap<&Route, Number> = BTreeMap::new();
        let mut appended = 0;
        for (route, number) in &world.ledger.log {
            prop_assert_eq!(told[number], true, "{} is appended and refused", number);
            let before = last.insert(route, *number);
            prop_assert!(before.is_none_or(|before| before < *number), "{before:?} before {number}");
            appended += 1;
        }
        prop_assert_eq!(appended, told.values().filter(|is_ok| **is_ok).count());
        let bad = |number: &Number| events[usize::try_from(*number).unwrap()].1 != Kind::Good;
        prop_assert!(told.iter().all(|(number, is_ok)| !(*is_ok && bad(number))));
    }
}

fn results(world: &World) -> Vec<(Number, Option<String>)> {
    let mut all: Vec<(Number, Option<String>)> = world
        .results
        .iter()
        .map(|(number, result)| {
            let code = result.as_ref().err().and_then(AppendError::code);
            (*number, code.map(|code| code.to_string()))
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_stream_that_is_closed_takes_no_other_event_with_it() {
    let mut world = World::new(limits(), 1);
    for (number, kind) in
        [Kind::Good, Kind::Closed, Kind::Good, Kind::Good, Kind::Closed, Kind::Good]
            .into_iter()
            .zip(0..)
            .map(|(kind, number)| (number, kind))
    {
        world.take(0, kind, number);
    }
    world.post();
    assert_eq!(world.flying.len(), 1, "nothing is behind the first batch of a stream");
    world.finish();
    let refused = |number: Number| (number, Some(code::NOT_A_WRITER.to_string()));
    let expected = [(0, None), refused(1), (2, None), (3, None), refused(4), (5, None)];
    assert_eq!(results(&world), expected);
    let order: Vec<Number> = world.ledger.log.iter().map(|(_, number)| *number).collect();
    assert_eq!(order, [0, 2, 3, 5]);
}

#[test]
fn a_claim_that_another_process_had_made_is_made_again_and_a_later_one_ends_it() {
    let mut world = World::new(limits(), 1);
    world.take(0, Kind::Good, 0);
    world.now += Duration::from_secs(1);
    world.post();
    // Somebody claimed the same incarnation, unseen.
    (world.ledger.incarnation, world.ledger.sequence) = (1, 1);
    world.finish();
    assert_eq!((world.ledger.incarnation, results(&world)), (2, vec![(0, None)]));
    world.ledger.incarnation = 3;
    world.take(0, Kind::Good, 1);
    world.now += Duration::from_secs(1);
    world.post();
    world.land(true);
    assert!(matches!(world.queue.ended(), Some(AppendError::Fenced)), "{:?}", world.queue);
}

#[test]
fn a_ledger_that_never_answers_ends_it_after_the_time_that_was_given() {
    let mut world = World::new(limits(), 1);
    world.take(0, Kind::Good, 0);
    world.now += Duration::from_secs(1);
    let until = world.now + limits().delivery_time_max;
    while world.now < until {
        world.post();
        let Some(request) = world.flying.pop() else {
            world.now = world.queue.deadline().unwrap();
            continue;
        };
        world.queue.check_time(world.now);
        assert!(world.queue.ended().is_none());
        world.queue.answered(&request, Err(Unanswered::Lost("nobody is there".into())), world.now);
    }
    world.queue.check_time(world.now);
    let said = world.queue.ended().unwrap().to_string();
    assert!(said.contains("nobody is there"), "{said}");
}

#[test]
fn a_body_that_is_too_large_for_a_validator_is_cut_and_one_batch_that_is_fails_alone() {
    let mut world = World::new(limits(), 1);
    world.take(0, Kind::Good, 0);
    world.finish();
    (1..10).for_each(|number| world.take(0, Kind::Good, number));
    world.queue.flush();
    world.post();
    let request = world.flying.pop().unwrap();
    assert_eq!(frames(&request).len(), 3);
    world.queue.answered(&request, Err(Unanswered::TooLarge), world.now);
    world.now += Duration::from_secs(1);
    world.post();
    let request = world.flying.remove(0);
    assert_eq!(frames(&request).len(), 1);
    world.queue.answered(&request, Err(Unanswered::TooLarge), world.now);
    world.finish();
    let large = |number: Number| (number, Some(code::TOO_LARGE.to_string()));
    let fine = |number: Number| (number, None);
    let expected: Vec<_> =
        [fine(0)].into_iter().chain((1..4).map(large)).chain((4..10).map(fine)).collect();
    assert_eq!(results(&world), expected);
}
