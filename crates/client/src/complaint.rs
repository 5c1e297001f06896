//! Complaints: when a transaction is not ordered in time, every validator is told that the lane's sequencer keeps it out.
//!
//! ```text
//!  submission ── no answer in `after` ──> each server by itself: where is the producer, in which term is the lane?
//!                      ^                       │ the first transaction that it has not executed
//!                      └── still none ─────────┴──> POST /v1/complaints
//! ```
//! * One validator may be at fault, so all that are known are told, at once; which is in the way need not be known.
//! * A complaint names the term that the validator says the lane is in: the next one is of the next term.
//! * It names the header that the transaction is anchored to, in whose cut it can not stand: whatever a server says, such a
//!   complaint is not false. Where that header is too old, it names the newest, checked, of a validator that has executed
//!   it and does not know the transaction. That one could lie, and cost the signer its standing for some heights.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use quipu_crypto::Tag;
use quipu_crypto::suite::{SecretKey, sign_tagged};
use quipu_proof::names::lane_of;
use quipu_types::{
    Complaint, Decode, Encode, Hash, Height, Lane, Signature, Term, Transaction, code,
};
use serde::Deserialize;

use crate::http::{Client, ClientError};

/// Time after which a transaction that is not ordered is complained of, unless told otherwise.
pub const COMPLAINT_AFTER: Duration = Duration::from_secs(5);

/// How long one validator may take to hear.
const HEAR_TIME_MAX: Duration = Duration::from_secs(3);
/// Pause before a validator is asked again how far it has executed.
const EXECUTED_PAUSE: Duration = Duration::from_millis(50);

/// What a complaint needs of a validator's word on itself.
#[derive(Debug, Deserialize)]
struct Standing {
    chain: Hash,
    executed_height: Height,
    lanes: Vec<LaneStanding>,
}

#[derive(Debug, Deserialize)]
struct LaneStanding {
    lane: Lane,
    term: Term,
}

/// Whose complaint it is, and of what.
struct Case<'a> {
    chain: Hash,
    lane_count: u16,
    key: &'a SecretKey,
    /// In the order in which they are to be ordered.
    transactions: Vec<(&'a [u8], Transaction)>,
}

impl Client {
    /// Tells every server that the sequencer of a transaction's lane keeps it out. How many of them heard it; a server that
    /// has executed the transaction is told nothing.
    ///
    /// # Errors
    /// What the last of them answered, when none hears it and none has the transaction. A refusal has its code: QP0108 to
    /// QP0113, QP0101 for a key that is not the transaction's.
    pub async fn complain(
        &self,
        key: &SecretKey,
        transaction: &[u8],
    ) -> Result<usize, ClientError> {
        self.complain_of_first(key, vec![transaction]).await
    }

    /// The same of the first of several transactions of one lane that a server has not executed.
    async fn complain_of_first(
        &self,
        key: &SecretKey,
        transactions: Vec<&[u8]>,
    ) -> Result<usize, ClientError> {
        let read = |bytes| Transaction::from_bytes(bytes).map(|transaction| (bytes, transaction));
        let transactions = transactions.into_iter().map(read).collect::<Result<Vec<_>, _>>();
        let transactions = transactions.map_err(|error| ClientError::Refused {
            code: code::MALFORMED.to_string(),
            message: format!("what is complained of is no transaction: {error}"),
            hint: None,
        })?;
        // Signed for the ledger that is known, whatever a server says of itself.
        let ledger = self.ledger().await?;
        let (chain, lane_count) = (ledger.chain, ledger.lane_count);
        let case = Case { chain, lane_count, key, transactions };
        let servers = self.each();
        let mut told: Vec<Hearing<'_>> = Vec::with_capacity(servers.len());
        for server in &servers {
            told.push(Box::pin(server.hear(&case)));
        }
        let (mut heard, mut has_known, mut last) = (0_usize, false, None);
        for told in together(told).await {
            match told {
                Ok(true) => heard = heard.saturating_add(1),
                Ok(false) => has_known = true,
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) if heard == 0 && !has_known => Err(error),
            _ => Ok(heard),
        }
    }

    /// To one server, within a time. Whether it heard, or had nothing to hear.
    async fn hear(&self, case: &Case<'_>) -> Result<bool, ClientError> {
        let told = tokio::time::timeout(HEAR_TIME_MAX, self.tell(case));
        let silent = || ClientError::Unreachable { tried: format!("{}: is silent", self.name()) };
        told.await.unwrap_or_else(|_| Err(silent()))
    }

    async fn tell(&self, case: &Case<'_>) -> Result<bool, ClientError> {
        let standing: Standing = self.get("/v1/status").await?;
        let Some((bytes, transaction)) = self.first_missing(case).await? else { return Ok(false) };
        match self.post_complaint(case.sign(self, &standing, bytes, transaction.anchor)?).await {
            Err(error) if is_old_anchor(&error) => {}
            told => return told.map(|()| true),
        }
        let newest = self.latest_header().await?;
        let standing = loop {
            let standing: Standing = self.get("/v1/status").await?;
            if standing.executed_height >= newest.height {
                break standing;
            }
            tokio::time::sleep(EXECUTED_PAUSE).await;
        };
        let Some((bytes, _)) = self.first_missing(case).await? else { return Ok(false) };
        let complaint = case.sign(self, &standing, bytes, newest.hash)?;
        self.post_complaint(complaint).await.map(|()| true)
    }

    /// The first transaction that the server has not executed, nor another in its place.
    async fn first_missing<'a>(
        &self,
        case: &'a Case<'_>,
    ) -> Result<Option<&'a (&'a [u8], Transaction)>, ClientError> {
        let Some((_, first)) = case.transactions.first() else { return Ok(None) };
        let next = self.producer(&first.signer, first.route.as_deref()).await?;
        let next = (next.incarnation, next.next_sequence);
        let is_missing = |(_, one): &&(_, Transaction)| (one.incarnation, one.sequence) >= next;
        Ok(case.transactions.iter().find(is_missing))
    }

    /// A submission of some transactions of one lane, and meanwhile complaints of the first that is missing, so long after
    /// each other; none when there is no time.
    pub(crate) async fn submit_or_complain<T>(
        &self,
        key: &SecretKey,
        frames: Vec<Bytes>,
        after: Option<Duration>,
        submit: impl Future<Output = T>,
    ) -> T {
        let after = after.filter(|after| !after.is_zero());
        let complain = async {
            let Some(after) = after else { return std::future::pending().await };
            loop {
                tokio::time::sleep(after).await;
                let transactions = frames.iter().map(Bytes::as_ref).collect();
                // Who is not heard waits like everyone.
                drop(self.complain_of_first(key, transactions).await);
            }
        };
        tokio::select! {
            done = submit => done,
            done = complain => done,
        }
    }
}

impl Case<'_> {
    fn sign(
        &self,
        server: &Client,
        standing: &Standing,
        bytes: &[u8],
        anchor: Hash,
    ) -> Result<Bytes, ClientError> {
        if standing.chain != self.chain {
            let (server, found, pinned) = (server.name(), standing.chain, self.chain);
            return Err(ClientError::OtherChain { server, found, pinned });
        }
        let first = self.transactions.first();
        let lane = first.map(|(_, one)| lane_of(one.route_bytes(), self.lane_count));
        let found = standing.lanes.iter().find(|found| Some(found.lane) == lane);
        let Some(LaneStanding { lane, term }) = found else {
            let reason = "it names no such lane".to_owned();
            return Err(ClientError::Protocol { server: server.name(), reason });
        };
        let (transaction, signature) = (bytes.to_vec(), Signature([0; 64]));
        let mut complaint = Complaint { transaction, anchor, lane: *lane, term: *term, signature };
        let body = complaint.signed_body();
        complaint.signature = sign_tagged(self.key, &self.chain, 0, Tag::Complaint, &body);
        Ok(complaint.to_bytes().into())
    }
}

fn is_old_anchor(error: &ClientError) -> bool {
    let is_anchor = |told: &String| *told == code::COMPLAINT_ANCHOR.to_string();
    matches!(error, ClientError::Refused { code, .. } if is_anchor(code))
}

/// Telling one server: whether it heard, or had nothing to hear.
type Hearing<'a> = Pin<Box<dyn Future<Output = Result<bool, ClientError>> + Send + 'a>>;

/// Runs a few futures side by side; what each gave.
async fn together(mut left: Vec<Hearing<'_>>) -> Vec<Result<bool, ClientError>> {
    let mut done = Vec::with_capacity(left.len());
    poll_fn(|context| {
        left.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Ready(one) => {
                done.push(one);
                false
            }
            Poll::Pending => true,
        });
        if left.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done
}
