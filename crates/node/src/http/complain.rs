//! Complaints: a client says that a lane's sequencer keeps its transaction out, and is told whether that is heard.
//!
//! ```text
//!  body ─ bounded ─> [ desk: one at a time ] ── standing, term, signatures ──> ledger's thread ──> heard, or why not
//!                        └ what needs no signature is refused before one is checked
//! ```
//! # Invariants
//! * D1 One worker at a time checks complaints, in the order in which they came: a flood takes no more of the
//!   processor than that, and who comes last waits its turn.
//! * D2 A signer whose standing is lost, as the ledger's thread said once, costs no check of a signature until it
//!   is heard again. Whoever names that signer without being it is refused too, and hurts nobody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use bytes::Bytes;
use quipu_replica::complaints::{self, FALL_COUNT_MAX};
use quipu_replica::{Answer, Grievance, Refusal, Unheard};
use quipu_types::complaint::COMPLAINT_SIZE_MAX;
use quipu_types::{Complaint, Decode, Height, PublicKey, Transaction, code};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

use super::error::ApiError;
use super::on_worker;
use super::shape::{ComplaintBody, ErrorBody};
use super::submit::{BODY_TIME_MAX, announced, receive_body, room_for};
use crate::driver::{Message, Reply};
use crate::shared::Shared;

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Desk {
    turn: Semaphore,
    /// Signers that are not heard, and up to which height.
    fallen: Mutex<BTreeMap<PublicKey, Height>>,
}

impl Default for Desk {
    fn default() -> Self {
        Self { turn: Semaphore::new(1), fallen: Mutex::default() }
    }
}

impl Desk {
    fn fallen(&self) -> MutexGuard<'_, BTreeMap<PublicKey, Height>> {
        self.fallen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a signer that is not heard at a height.
    fn check(&self, signer: &PublicKey, now: Height) -> Result<(), Unheard> {
        match self.fallen().get(signer).copied().filter(|until| *until >= now) {
            Some(until) => Err(Unheard::Fallen { until }),
            None => Ok(()),
        }
    }

    /// Takes note of a signer that is not heard. When there are too many, those go that are heard again, or any one.
    fn note(&self, signer: PublicKey, until: Height, now: Height) {
        let mut fallen = self.fallen();
        if fallen.len() >= FALL_COUNT_MAX {
            fallen.retain(|_, until| *until >= now);
        }
        if fallen.len() >= FALL_COUNT_MAX {
            fallen.pop_first();
        }
        fallen.insert(signer, until);
    }
}

/// Complain of a sequencer.
///
/// The body is one complaint: a transaction of the signer that is next in its lane, a header that the signer has seen,
/// the lane and its term; `docs/formats.md` draws it. A complaint that is heard is told to all validators; when the
/// transaction stands in no cut for two heights and 1.5 s of their time, they suspect the sequencer, and a third of
/// the stake changes it. Complain to several validators: one of them may be at fault. A false complaint costs the
/// signer its standing for some heights (QP0110, QP0111).
#[utoipa::path(
    post, path = "/v1/complaints", tag = "transactions",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, body = ComplaintBody), (status = 400, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 429, body = ErrorBody),
        (status = 503, body = ErrorBody),
    )
)]
pub(crate) async fn complain(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ComplaintBody>, ApiError> {
    let size = announced(&headers, COMPLAINT_SIZE_MAX)?.unwrap_or(COMPLAINT_SIZE_MAX);
    let _room = room_for(&shared, size).await?;
    let body = receive_body(body, COMPLAINT_SIZE_MAX).await?;
    hear(&shared, body).await.map(Json)
}

/// Judges a complaint, for which its caller has room.
pub(super) async fn hear(shared: &Arc<Shared>, bytes: Bytes) -> Result<ComplaintBody, ApiError> {
    let heard = judge(shared, bytes).await;
    if let Err(refused) = &heard {
        shared.metrics.refused(refused.code()).increment(1);
    }
    heard
}

async fn judge(shared: &Arc<Shared>, bytes: Bytes) -> Result<ComplaintBody, ApiError> {
    if shared.stopping() {
        return Err(ApiError::stopping());
    }
    if bytes.len() > COMPLAINT_SIZE_MAX {
        let text = format!("a complaint has at most {COMPLAINT_SIZE_MAX} bytes");
        return Err(ApiError::new(code::TOO_LARGE, text));
    }
    let turn = shared.desk.turn.acquire().await.map_err(|_| ApiError::stopping())?;
    let worker = Arc::clone(shared);
    let grievance = on_worker(move || check(&worker, &bytes)).await;
    drop(turn);
    let grievance = grievance?;
    let signer = grievance.signer;
    let (reply, answer) = oneshot::channel();
    shared.send(Message::Complain { grievance: Box::new(grievance), reply }).map_err(|full| {
        if full { busy("the validator's queue is full") } else { ApiError::stopping() }
    })?;
    let answer = timeout(BODY_TIME_MAX, answer)
        .await
        .map_err(|_| busy("the validator did not judge it in time"))?
        .map_err(|_| ApiError::stopping())?;
    match answer {
        Reply::Answer(Answer::Heard { lane, term }) => {
            Ok(ComplaintBody { lane: lane.get(), term: term.get() })
        }
        Reply::Answer(Answer::Refused(refusal)) => {
            if let Refusal::Complaint(Unheard::False { until } | Unheard::Fallen { until }) =
                &refusal
            {
                shared.desk.note(signer, *until, shared.progress().committed);
            }
            Err(ApiError::new(refusal.code(), refusal.to_string()))
        }
        // A complaint has no other answer.
        Reply::Taken | Reply::Answer(_) => Err(ApiError::stopping()),
    }
}

fn busy(text: &str) -> ApiError {
    ApiError::new(code::OVERLOADED, text)
}

/// What needs no order: the cheapest first.
fn check(shared: &Shared, bytes: &[u8]) -> Result<Grievance, ApiError> {
    let malformed = |error| ApiError::new(code::MALFORMED, format!("complaint: {error}"));
    let complaint = Complaint::from_bytes(bytes).map_err(malformed)?;
    let transaction = Transaction::from_bytes(&complaint.transaction).map_err(malformed)?;
    let refused = |unheard: Unheard| ApiError::new(unheard.code(), unheard.to_string());
    shared.desk.check(&transaction.signer, shared.progress().committed).map_err(refused)?;
    let (lane, term) = (complaint.lane, shared.term(complaint.lane));
    if term.is_some_and(|term| term != complaint.term) {
        return Err(refused(Unheard::Term { lane, term: term.unwrap_or_default() }));
    }
    complaints::check(&shared.chain, &shared.admissions, complaint)
        .map_err(|refused| ApiError::new(refused, refused.explanation().title))
}

#[cfg(test)]
mod tests {
    use quipu_crypto::SecretKey;
    use quipu_types::Suite;

    use super::*;

    fn signer(number: usize) -> PublicKey {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        SecretKey::from_seed(Suite::Ed25519Sha256, seed).public()
    }

    #[test]
    fn who_is_not_heard_is_refused_up_to_its_height_and_memory_is_bounded() {
        let (desk, at) = (Desk::default(), Height::new);
        desk.note(signer(0), at(20), at(1));
        assert_eq!(desk.check(&signer(0), at(20)), Err(Unheard::Fallen { until: at(20) }));
        assert_eq!(desk.check(&signer(0), at(21)), Ok(()));
        assert_eq!(desk.check(&signer(1), at(1)), Ok(()));
        for number in 0..FALL_COUNT_MAX + 9 {
            desk.note(signer(number), at(30), at(1));
        }
        assert_eq!(desk.fallen().len(), FALL_COUNT_MAX);
        desk.note(signer(0), at(50), at(31));
        assert!(desk.fallen().len() <= 2, "those that are heard again go first");
    }
}
