//! Producers with all the habits of real ones: pipelining, repeats, gaps, restarts with a new incarnation.
#![expect(clippy::arithmetic_side_effects, reason = "counts of a bounded run")]

use std::collections::BTreeMap;
use std::sync::Arc;

use quipu_crypto::Tag;
use quipu_crypto::suite::{SecretKey, sign_tagged};
use quipu_proof::names::{TransactionDraft, sign_transaction};
use quipu_replica::{Admitted, admit};
use quipu_types::{
    AccountId, Action, Complaint, Encode, Hash, Height, Lane, Position, RouteRule, Schema,
    Signature, StreamSpec, Suite, Term, Writers,
};

/// Transactions of a producer and lane that may wait for an answer together.
const WINDOW_COUNT: usize = 4;

/// A transaction that a producer signed.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) admitted: Arc<Admitted>,
    /// What the producer was told.
    pub(crate) done: Option<(Position, Height)>,
    /// Whether an answer is awaited.
    pub(crate) waits: bool,
}

/// What a producer signed for one lane in its incarnation: sequence 1 first.
pub(crate) type LaneSent = Vec<Sent>;

/// A producer's key.
pub(crate) fn client_key(number: u8) -> SecretKey {
    SecretKey::from_seed(Suite::Ed25519Sha256, [number + 100; 32])
}

/// One producer.
#[derive(Debug)]
pub(crate) struct Client {
    number: u8,
    key: SecretKey,
    incarnation: u32,
    pub(crate) sent: BTreeMap<Lane, LaneSent>,
    /// The validator that it talks to.
    pub(crate) home: usize,
    /// Signed in older incarnations.
    pub(crate) old: Vec<Sent>,
}

/// What a client does next.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Submit the transaction of this lane and place in `sent`.
    Submit(Lane, usize, Arc<Admitted>),
    /// Submit one of an older incarnation.
    Old(usize, Arc<Admitted>),
    /// Submit one that leaves a gap.
    Gap(Arc<Admitted>),
    /// Nothing.
    Nothing,
}

impl Client {
    pub(crate) fn new(number: u8) -> Self {
        let key = client_key(number);
        Self { number, key, incarnation: 0, sent: BTreeMap::new(), home: 0, old: Vec::new() }
    }

    pub(crate) fn act(
        &mut self,
        random: &mut fastrand::Rng,
        chain: &Hash,
        lane_count: u16,
        anchor: Hash,
        stake: Option<Action>,
    ) -> Act {
        if stake.is_some() {
            // What waits already goes on being retried beside it.
            return self.push(random, chain, lane_count, anchor, stake);
        }
        match random.u8(..100) {
            0..=9 => self.repeat(random),
            10..=12 => {
                let actions = self.actions(random);
                Act::Gap(self.sign(random, chain, lane_count, anchor, (3, actions)))
            }
            13 => {
                self.incarnation += 1;
                self.old.extend(std::mem::take(&mut self.sent).into_values().flatten());
                Act::Nothing
            }
            14..=17 if !self.old.is_empty() => {
                let pick = random.usize(..self.old.len());
                let sent = self.old.get(pick);
                sent.map_or(Act::Nothing, |sent| Act::Old(pick, Arc::clone(&sent.admitted)))
            }
            _ => self.next(random, chain, lane_count, anchor),
        }
    }

    /// The first of a lane that is not final and not waited for, or a new one while the window has room.
    fn next(
        &mut self,
        random: &mut fastrand::Rng,
        chain: &Hash,
        lane_count: u16,
        anchor: Hash,
    ) -> Act {
        if let act @ Act::Submit(..) = self.retry() {
            return act;
        }
        self.push(random, chain, lane_count, anchor, None)
    }

    /// A new one, of the given action or what comes to mind, while the window has room.
    fn push(
        &mut self,
        random: &mut fastrand::Rng,
        chain: &Hash,
        lane_count: u16,
        anchor: Hash,
        stake: Option<Action>,
    ) -> Act {
        let is_stake = stake.is_some();
        let actions = stake.map_or_else(|| self.actions(random), |action| vec![action]);
        let admitted = self.sign(random, chain, lane_count, anchor, (0, actions));
        let lane = admitted.lane;
        let sent = self.sent.entry(lane).or_default();
        let open = sent.iter().filter(|sent| sent.done.is_none()).count();
        if open >= WINDOW_COUNT && !is_stake {
            return Act::Nothing;
        }
        sent.push(Sent { admitted: Arc::clone(&admitted), done: None, waits: true });
        Act::Submit(lane, sent.len() - 1, admitted)
    }

    /// The first that is not final and that nobody waits for: what was lost is sent again, in order.
    pub(crate) fn retry(&mut self) -> Act {
        for (lane, sent) in &mut self.sent {
            let idle = |(_, sent): &(usize, &mut Sent)| sent.done.is_none() && !sent.waits;
            if let Some((at, sent)) = sent.iter_mut().enumerate().find(idle) {
                sent.waits = true;
                return Act::Submit(*lane, at, Arc::clone(&sent.admitted));
            }
        }
        Act::Nothing
    }

    /// Complains that a term's sequencer keeps a transaction out. It names the header that the transaction names: of what was
    /// ordered since it need not know.
    pub(crate) fn complaint(&self, chain: &Hash, admitted: &Admitted, term: Term) -> Complaint {
        let mut complaint = Complaint {
            transaction: admitted.bytes.to_vec(),
            anchor: admitted.transaction.anchor,
            lane: admitted.lane,
            term,
            signature: Signature([0; 64]),
        };
        let body = complaint.signed_body();
        complaint.signature = sign_tagged(&self.key, chain, 0, Tag::Complaint, &body);
        complaint
    }

    /// Whether a transaction is of an older incarnation.
    pub(crate) fn is_old(&self, admitted: &Admitted) -> bool {
        admitted.transaction.incarnation < self.incarnation
    }

    /// Whether everything of the incarnation is final.
    pub(crate) fn is_done(&self) -> bool {
        self.sent.values().flatten().all(|sent| sent.done.is_some())
    }

    fn repeat(&mut self, random: &mut fastrand::Rng) -> Act {
        let count = self.sent.values().map(Vec::len).sum::<usize>();
        if count == 0 {
            return Act::Nothing;
        }
        let pick = random.usize(..count);
        let all = self.sent.iter().flat_map(|(lane, sent)| {
            sent.iter().enumerate().map(move |(at, sent)| (*lane, at, sent))
        });
        let picked = all.into_iter().nth(pick);
        picked.map_or(Act::Nothing, |(lane, at, sent)| {
            Act::Submit(lane, at, Arc::clone(&sent.admitted))
        })
    }

    /// Signs the next transaction of a random lane with these actions, or one that many beyond the next.
    fn sign(
        &self,
        random: &mut fastrand::Rng,
        chain: &Hash,
        lane_count: u16,
        anchor: Hash,
        (beyond, actions): (u64, Vec<Action>),
    ) -> Arc<Admitted> {
        let route = random.bool().then(|| vec![random.u8(..4)]);
        let lane = {
            let bytes = route.as_deref();
            let public = self.key.public();
            quipu_proof::names::lane_of(bytes.unwrap_or(public.bytes()), lane_count)
        };
        let count = self.sent.get(&lane).map_or(0, Vec::len);
        let sequence = u64::try_from(count).unwrap_or(0) + 1 + beyond;
        let draft =
            TransactionDraft { incarnation: self.incarnation, sequence, anchor, route, actions };
        let bytes = sign_transaction(&self.key, chain, draft).to_bytes();
        Arc::new(admit(chain, lane_count, bytes.into()).expect("an honest client's transaction"))
    }

    fn actions(&self, random: &mut fastrand::Rng) -> Vec<Action> {
        let count = 1 + random.usize(..4);
        (0..count)
            .map(|_| match random.u8(..10) {
                0 => Action::CreateStream(StreamSpec {
                    name: format!("s{}", random.u8(..3)),
                    schema: Schema::parse("n int8, t text").expect("a schema"),
                    route: RouteRule::Signer,
                    writers: Writers::Anyone,
                    compacted: false,
                }),
                1 | 2 => Action::Transfer {
                    to: AccountId([random.u8(..4); 32]),
                    amount: random.u64(..20),
                },
                _ => Action::Append {
                    stream: format!("s{}", random.u8(..3)),
                    key: vec![self.number],
                    payload: row(random),
                },
            })
            .collect()
    }
}

/// A row of `n int8, t text`, mostly.
fn row(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut payload = vec![0];
    payload.extend_from_slice(&random.u64(..).to_le_bytes());
    let size = random.u8(..200);
    payload.extend_from_slice(&u32::from(size).to_le_bytes());
    payload.extend(std::iter::repeat_n(b'x', usize::from(size)));
    if random.u8(..20) == 0 {
        payload.pop();
    }
    payload
}
