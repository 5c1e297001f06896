//! Submission: frames of signed transactions in, one answer each out, in their order.
//!
//! * The bytes of all bodies under way are bounded together; who comes late waits a little, then is told to pause.
//! * A body may come as a Snappy block (`quipu_net::encoding`). Every bound counts what it holds, not what was sent; while
//!   it arrives, room is kept for the most that so many bytes can hold.
//! * Signatures are checked in batches on worker threads; the ledger's thread sees admitted transactions only.
//! * A repeat, byte for byte or signed again, is answered with the first position.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use quipu_net::FrameError;
use quipu_net::encoding::{self, EncodingError};
use quipu_replica::{Admitted, Answer, Refusal};
use quipu_types::transaction::TRANSACTION_SIZE_MAX;
use quipu_types::{Code, Hash, Outcome, Position, Receipt, code};
use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSlice;
use tokio::sync::{SemaphorePermit, oneshot};
use tokio::time::timeout;

use super::error::ApiError;
use super::shape::{Ack, ErrorBody, SubmitQuery, TxAnswer, TxStatus, Wait};
use crate::driver::{Message, Reply, Submission, When};
use crate::shared::{Final, Shared};

/// Longest time that a body may take to arrive, or to find room.
pub(super) const BODY_TIME_MAX: Duration = Duration::from_secs(30);
const ROOM_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest time until `pending` is answered instead of a position.
const EXECUTED_TIME_MAX: Duration = Duration::from_secs(30);
/// Most transactions of one body.
pub(crate) const TRANSACTION_COUNT_MAX: usize = 65_536;
/// Transactions whose signatures are checked as one batch.
const BATCH_COUNT: usize = 64;
/// Bodies are accounted in units of this size.
const BODY_UNIT_SIZE: usize = 1_024;

/// How many units of body may be under way together.
pub(crate) fn body_units(size: usize) -> u32 {
    u32::try_from(size.div_ceil(BODY_UNIT_SIZE)).unwrap_or(u32::MAX).max(1)
}

/// Submit signed transactions.
///
/// The body holds one or many frames, each a `u32` length (little endian) and a transaction's bytes. The answer has
/// one member for each, in the same order. A repeat of a transaction that stands in the ledger is answered with
/// its first position, so that sending again is always safe. `Content-Encoding: snappy` says that the body is one Snappy
/// block; limits count what it holds.
#[utoipa::path(
    post, path = "/v1/transactions", tag = "transactions", params(SubmitQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, body = [TxAnswer]), (status = 400, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 415, body = ErrorBody),
        (status = 503, body = ErrorBody),
    )
)]
pub(crate) async fn submit(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<SubmitQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Vec<TxAnswer>>, ApiError> {
    if shared.stopping() {
        return Err(ApiError::stopping());
    }
    let admitted = receive(&shared, &headers, body).await?;
    let when = match (query.wait, query.ack) {
        (Wait::None, _) => When::Taken,
        (Wait::Executed, Ack::Final) => When::Final,
        (Wait::Executed, Ack::Executed) => When::Executed,
    };
    order(&shared, admitted, when).await.map(Json)
}

/// Takes a body whole, within the room for all, and admits what it holds.
async fn receive(
    shared: &Arc<Shared>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Vec<Result<Arc<Admitted>, Code>>, ApiError> {
    let size_max = shared.limits.body_size_max;
    let is_block = is_block(headers)?;
    let size = match announced(headers, size_max)? {
        Some(size) if is_block => encoding::decoded_size_max(size, size_max),
        Some(size) => size,
        None => size_max,
    };
    let mut room = room_for(shared, size).await?;
    let body = receive_body(body, size_max).await?;
    if is_block {
        let holds = encoding::decoded_size(&body, size_max).map_err(|error| undecoded(&error))?;
        // What the bytes could have held, and do not.
        drop(room.split(room.num_permits().saturating_sub(permits(holds))));
    }
    let worker = Arc::clone(shared);
    let admitted = tokio::task::spawn_blocking(move || {
        if is_block {
            let body = encoding::decode(&body, size_max).map_err(|error| undecoded(&error))?;
            admit(&worker, &body)
        } else {
            admit(&worker, &body)
        }
    });
    admitted.await.map_err(|_| ApiError::stopping())?
}

/// The size that a body is said to have, within a bound.
pub(super) fn announced(headers: &HeaderMap, size_max: usize) -> Result<Option<usize>, ApiError> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<usize>().ok());
    if announced.is_some_and(|size| size > size_max) {
        return Err(ApiError::new(code::TOO_LARGE, format!("a body has at most {size_max} bytes")));
    }
    Ok(announced)
}

/// A body whole, in time and within a bound.
pub(super) async fn receive_body(body: Body, size_max: usize) -> Result<Bytes, ApiError> {
    timeout(BODY_TIME_MAX, axum::body::to_bytes(body, size_max))
        .await
        .map_err(|_| body_late())?
        .map_err(|error| ApiError::new(code::TOO_LARGE, format!("body: {error}")))
}

/// Room among all bodies that are under way.
pub(super) async fn room_for(
    shared: &Shared,
    size: usize,
) -> Result<SemaphorePermit<'_>, ApiError> {
    timeout(ROOM_TIME_MAX, shared.body_room.acquire_many(body_units(size)))
        .await
        .map_err(|_| ApiError::new(code::OVERLOADED, "too many requests are under way"))?
        .map_err(|_| ApiError::stopping())
}

/// A body took longer than [`BODY_TIME_MAX`].
pub(super) fn body_late() -> ApiError {
    ApiError::bad_request("the body did not arrive in time")
        .with_status(StatusCode::REQUEST_TIMEOUT)
}

fn permits(size: usize) -> usize {
    usize::try_from(body_units(size)).unwrap_or(usize::MAX)
}

/// Whether the body is a Snappy block. Nothing else that says how to read it is understood.
fn is_block(headers: &HeaderMap) -> Result<bool, ApiError> {
    let unknown = |name: &str| {
        let message = format!(
            "no content encoding {name:?} is known; send the body as it is, or as one block with \
             Content-Encoding: {}",
            encoding::SNAPPY
        );
        ApiError::bad_request(message).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
    };
    let mut names = headers.get_all(header::CONTENT_ENCODING).iter();
    let (first, second) = (names.next(), names.next());
    if second.is_some() {
        return Err(unknown("several"));
    }
    let Some(name) = first else { return Ok(false) };
    match name.to_str().unwrap_or_default().trim() {
        name if name.eq_ignore_ascii_case(encoding::SNAPPY) => Ok(true),
        name if name.eq_ignore_ascii_case("identity") => Ok(false),
        name => Err(unknown(name)),
    }
}

fn undecoded(error: &EncodingError) -> ApiError {
    let wanted = match error {
        EncodingError::TooLong { .. } => code::TOO_LARGE,
        _ => code::MALFORMED,
    };
    ApiError::new(wanted, format!("body: {error}"))
}

/// Cuts a body into transactions and checks each, in batches over the cores.
fn admit(shared: &Shared, body: &[u8]) -> Result<Vec<Result<Arc<Admitted>, Code>>, ApiError> {
    let frames = split(body)?;
    Ok(frames
        .par_chunks(BATCH_COUNT)
        .flat_map_iter(|batch| shared.admissions.admit_many(batch.to_vec()))
        .collect())
}

fn split(body: &[u8]) -> Result<Vec<Arc<[u8]>>, ApiError> {
    let frames =
        quipu_net::split(body, TRANSACTION_SIZE_MAX, TRANSACTION_COUNT_MAX).map_err(|error| {
            let wanted = match error {
                FrameError::TooLong { .. } => code::TOO_LARGE,
                _ => code::MALFORMED,
            };
            let text = format!("body: {error}; it holds 1 to {TRANSACTION_COUNT_MAX} frames");
            ApiError::new(wanted, text)
        })?;
    if frames.is_empty() {
        return Err(ApiError::new(code::MALFORMED, "the body holds no transaction"));
    }
    Ok(frames.into_iter().map(Arc::from).collect())
}

/// Hands what was admitted to the ledger's thread and waits as long as the client wants.
pub(super) async fn order(
    shared: &Shared,
    admitted: Vec<Result<Arc<Admitted>, Code>>,
    when: When,
) -> Result<Vec<TxAnswer>, ApiError> {
    let began = shared.clock.mono_us();
    let answers = ordered(shared, admitted, when).await?;
    let micros = u32::try_from(shared.clock.mono_us().saturating_sub(began)).unwrap_or(u32::MAX);
    shared.metrics.submit_seconds.record(f64::from(micros) / 1e6);
    Ok(answers)
}

async fn ordered(
    shared: &Shared,
    admitted: Vec<Result<Arc<Admitted>, Code>>,
    when: When,
) -> Result<Vec<TxAnswer>, ApiError> {
    let mut submissions = Vec::with_capacity(admitted.len());
    let mut waits = Vec::with_capacity(admitted.len());
    for one in admitted {
        match one {
            Err(refused) => {
                shared.metrics.refused(refused).increment(1);
                waits.push(Err(invalid(String::new(), refused, refused.explanation().title)));
            }
            Ok(admitted) => {
                let (sender, receiver) = oneshot::channel();
                waits.push(Ok((admitted.tx, receiver)));
                submissions.push(Submission { admitted, reply: sender, when });
            }
        }
    }
    if !submissions.is_empty() {
        shared.send(Message::Submit(submissions)).map_err(|full| {
            if full {
                ApiError::new(code::OVERLOADED, "the validator's queue is full")
            } else {
                ApiError::stopping()
            }
        })?;
    }
    let deadline = tokio::time::sleep(EXECUTED_TIME_MAX);
    tokio::pin!(deadline);
    let mut late = false;
    let mut answers = Vec::with_capacity(waits.len());
    for wait in waits {
        answers.push(match wait {
            Err(answer) => answer,
            Ok((tx, mut receiver)) if late => match receiver.try_recv() {
                Ok(reply) => answer_of(shared, tx, reply)?,
                Err(_) => pending(tx),
            },
            Ok((tx, receiver)) => tokio::select! {
                reply = receiver => match reply {
                    Ok(reply) => answer_of(shared, tx, reply)?,
                    // The process stops: whether it was ordered shows after the restart.
                    Err(_) => pending(tx),
                },
                () = &mut deadline => {
                    late = true;
                    pending(tx)
                }
            },
        });
    }
    Ok(answers)
}

fn answer_of(shared: &Shared, tx: Hash, reply: Reply) -> Result<TxAnswer, ApiError> {
    let answer = match reply {
        Reply::Taken => return Ok(pending(tx)),
        Reply::Answer(answer) => answer,
    };
    Ok(match answer {
        Answer::Ordered { tx, position, height, time, .. } => TxAnswer {
            tx: tx.to_string(),
            status: TxStatus::Committed,
            position: Some(position.to_string()),
            lane: Some(position.lane.get()),
            seqno: Some(position.seqno.get()),
            height: Some(height.get()),
            time_us: Some(time.get()),
            ..empty()
        },
        Answer::Final { receipt, height, time, .. } => committed(&Final { receipt, height, time }),
        Answer::Used { tx, next, otherwise, .. } => match shared.find(&tx)? {
            Some(found) => committed(&found),
            None => {
                shared.metrics.refused(otherwise).increment(1);
                let what = match otherwise {
                    code::FENCED => "a newer incarnation of this producer has begun",
                    _ => "the sequence was used by another transaction",
                };
                let message = format!(
                    "{what}; next is {} of incarnation {}",
                    next.sequence, next.incarnation
                );
                invalid(tx.to_string(), otherwise, &message)
            }
        },
        // Complaints have their own way.
        Answer::Heard { .. } => pending(tx),
        Answer::Refused(refusal) => {
            shared.metrics.refused(refusal.code()).increment(1);
            refused(tx, &refusal)
        }
    })
}

fn refused(tx: Hash, refusal: &Refusal) -> TxAnswer {
    invalid(tx.to_string(), refusal.code(), &refusal.to_string())
}

pub(crate) fn pending(tx: Hash) -> TxAnswer {
    TxAnswer { tx: tx.to_string(), status: TxStatus::Pending, ..empty() }
}

fn invalid(tx: String, code: Code, message: &str) -> TxAnswer {
    TxAnswer {
        tx,
        status: TxStatus::Invalid,
        code: Some(code.to_string()),
        message: Some(message.to_owned()),
        ..empty()
    }
}

/// A transaction that stands in the ledger, applied or not.
pub(crate) fn committed(found: &Final) -> TxAnswer {
    let Receipt { lane, seqno, tx, outcome, .. } = found.receipt;
    let (applied, code, message, action) = match outcome {
        Outcome::Applied => (true, None, None, None),
        Outcome::Refused { code, action } => {
            let place = action.map_or(String::new(), |action| format!(" (action {action})"));
            let message = format!("{}{place}", code.explanation().title);
            (false, Some(code.to_string()), Some(message), action)
        }
    };
    TxAnswer {
        tx: tx.to_string(),
        status: TxStatus::Committed,
        position: Some(Position { lane, seqno }.to_string()),
        lane: Some(lane.get()),
        seqno: Some(seqno.get()),
        height: Some(found.height.get()),
        time_us: Some(found.time.get()),
        applied: Some(applied),
        code,
        message,
        action,
    }
}

fn empty() -> TxAnswer {
    TxAnswer {
        tx: String::new(),
        status: TxStatus::Unknown,
        position: None,
        lane: None,
        seqno: None,
        height: None,
        time_us: None,
        applied: None,
        code: None,
        message: None,
        action: None,
    }
}
