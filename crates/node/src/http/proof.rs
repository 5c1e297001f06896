//! Proofs: bundles of single transactions, and that one transaction was before another. Each is verified before it is sent.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use quipu_log::Search;
use quipu_proof::order::tip_of;
use quipu_proof::{
    BEFORE_VERSION, BeforeProof, Bundle, Committed, HANDOVER_COUNT_MAX, Hexed, LanePart, Link,
    MixedPart, Mixings, Parts, Pinned, Results, Step,
};
use quipu_query::SqlError;
use quipu_types::{Decode, Encode, Hash, Height, Lane, Position, Seqno, Tip, Transaction, code};

use super::error::ApiError;
use super::on_worker;
use super::read::parse_tx;
use super::shape::{BeforeQuery, ErrorBody, OrderAnswer, OrderBody, ProofQuery};
use crate::shared::Shared;

/// Most bytes of hand-overs in a bundle, whose text has two digits a byte.
const HANDOVER_SIZE_MAX: usize = 24 << 20;

/// The proof of a transaction, or of one of its actions.
///
/// The bundle verifies offline with the genesis alone, and was verified before it was sent.
#[utoipa::path(
    get, path = "/v1/transactions/{tx}/proof", tag = "transactions",
    params(("tx" = String, Path, description = "The transaction's name in hexadecimal"), ProofQuery),
    responses(
        (status = 200, description = "A proof bundle", content_type = "application/json"),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
    )
)]
pub(crate) async fn proof(
    State(shared): State<Arc<Shared>>,
    Path(tx): Path<String>,
    Query(query): Query<ProofQuery>,
) -> Result<Response, ApiError> {
    let tx = parse_tx(&tx)?;
    let text = on_worker(move || bundle(&shared, &tx, &query)).await?;
    let kind = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// The text of the bundle that proves a transaction, or one of its actions.
pub(super) fn bundle(shared: &Shared, tx: &Hash, query: &ProofQuery) -> Result<String, ApiError> {
    let mut pinned = shared.pinned()?;
    let mut bundle = make(shared, tx, query)?;
    bundle.epochs = handovers(&pinned, newest(&bundle));
    let text = bundle.to_json();
    // Never hand out what a verifier would refuse.
    let checked = Bundle::from_json(&text).and_then(|bundle| bundle.verify_from(&mut pinned));
    checked.map_err(ApiError::damaged)?;
    Ok(text)
}

/// The newest height whose header is in a bundle.
fn newest(bundle: &Bundle) -> Height {
    let next = bundle.time.next.as_ref().map(|next| next.header.0.height);
    next.unwrap_or(bundle.header.0.height)
}

/// How epochs ended below a height. None of them where they are more than a bundle takes: who verifies it keeps them himself.
fn handovers(pinned: &Pinned, height: Height) -> Vec<Committed> {
    let all = pinned.handovers(0).take_while(|handover| handover.header.0.height < height);
    let mut size = 0_usize;
    let mut found = Vec::new();
    for handover in all {
        let Committed { header, certificate } = &**handover;
        let bytes = header.0.to_bytes().len().saturating_add(certificate.0.to_bytes().len());
        size = size.saturating_add(bytes);
        if found.len() >= HANDOVER_COUNT_MAX || size > HANDOVER_SIZE_MAX {
            return Vec::new();
        }
        found.push(Committed::clone(handover));
    }
    found
}

fn make(shared: &Shared, tx: &Hash, query: &ProofQuery) -> Result<Bundle, ApiError> {
    let unknown = || ApiError::new(code::TX_UNKNOWN, format!("no transaction {tx} was executed"));
    let found = shared.find(tx)?.ok_or_else(unknown)?;
    let (lane, seqno) = (found.receipt.lane, found.receipt.seqno);
    let reader = &shared.reader;
    let bytes = reader.transaction(lane, seqno)?;
    let transaction = Transaction::from_bytes(&bytes).map_err(ApiError::damaged)?;
    let (header, certificate) = reader.header(found.height)?;
    let position = Position { lane, seqno };
    let tip = tip_of(&header.cut, lane).copied();
    let tip = tip.ok_or_else(|| ApiError::damaged("a header does not cover what it should"))?;
    let previous = match found.height.get() {
        0 | 1 => None,
        number => {
            let before = Height::new(number.saturating_sub(1));
            Some(reader.header(before)?.0)
        }
    };
    let receipts = shared.machine()?.receipts(found.height).map_err(ApiError::damaged)?;
    let receipts = receipts.unwrap_or_default();
    let certificate_of_state = shared.certificates.get(found.height).map_err(ApiError::damaged)?;
    let results =
        certificate_of_state.map(|certificate| Results { receipts: &receipts, certificate });
    let parts = Parts {
        chain: shared.chain,
        epochs: Vec::new(),
        transaction: &transaction,
        position,
        action: query.action,
        lane_path: reader.inclusion_path(lane, seqno, tip.seqno)?,
        block: Committed::new(header, certificate),
        previous,
        results,
        anchor: anchor(shared, &transaction)?,
        next: next_header(shared, found.height)?,
        mixed: if query.time { mixed(shared, position, &tip)? } else { None },
    };
    quipu_proof::build(parts).map_err(|error| ApiError::bad_request(error.to_string()))
}

fn anchor(shared: &Shared, transaction: &Transaction) -> Result<Option<Committed>, ApiError> {
    if transaction.anchor == shared.chain {
        return Ok(None);
    }
    let height = shared.machine()?.anchor(&transaction.anchor).map_err(ApiError::damaged)?;
    let Some(height) = height.filter(|height| height.get() > 0) else { return Ok(None) };
    match shared.reader.header(height) {
        // The bracket's lower end has another basis then.
        Err(error) if error.is_pruned() => Ok(None),
        found => {
            let (header, certificate) = found?;
            Ok(Some(Committed::new(header, certificate)))
        }
    }
}

fn next_header(shared: &Shared, height: Height) -> Result<Option<Committed>, ApiError> {
    if shared.reader.height() <= height {
        return Ok(None);
    }
    let (header, certificate) = shared.reader.header(height.next())?;
    Ok(Some(Committed::new(header, certificate)))
}

/// The newest header that the lane's clock mixed before the transaction, if what shows it is still there.
fn mixed(shared: &Shared, position: Position, tip: &Tip) -> Result<Option<MixedPart>, ApiError> {
    match shared.reader.mixed_before(position, tip) {
        Err(error) if error.is_pruned() => Ok(None),
        found => {
            let Some((height, steps)) = found? else { return Ok(None) };
            let (_, certificate) = shared.reader.header(height)?;
            Ok(Some(MixedPart { certificate: Hexed(certificate), steps }))
        }
    }
}

/// Whether one transaction was before another, with the proof.
///
/// `before` and `after` come with a proof that verifies offline with the genesis alone. `concurrent`: no chain of what lanes'
/// clocks mixed leads from either to the other.
#[utoipa::path(
    get, path = "/v1/clock/before", tag = "transactions",
    params(BeforeQuery),
    responses(
        (status = 200, body = OrderBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
    )
)]
pub(crate) async fn before(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<BeforeQuery>,
) -> Result<Json<OrderBody>, ApiError> {
    let (first, second) = (parse_tx(&query.first)?, parse_tx(&query.second)?);
    on_worker(move || order(&shared, &first, &second).map(Json)).await
}

/// How two transactions stand to each other.
pub(crate) fn order(shared: &Shared, first: &Hash, second: &Hash) -> Result<OrderBody, ApiError> {
    if first == second {
        return Err(ApiError::bad_request("first and second are the same transaction"));
    }
    let query = ProofQuery::default();
    let (first, second) = (make(shared, first, &query)?, make(shared, second, &query)?);
    let (answer, first, second, link) = match link(shared, &first, &second)? {
        Some(link) => (OrderAnswer::Before, first, second, link),
        None => match link(shared, &second, &first)? {
            Some(link) => (OrderAnswer::After, second, first, link),
            None => return Ok(OrderBody { answer: OrderAnswer::Concurrent, proof: None }),
        },
    };
    let mut pinned = shared.pinned()?;
    let mut proof = BeforeProof { version: BEFORE_VERSION, first, second, link };
    // The second bundle needs no more than the first brings.
    proof.first.epochs = handovers(&pinned, newest(&proof.first).max(newest(&proof.second)));
    proof.verify_from(&mut pinned).map_err(ApiError::damaged)?;
    let proof = serde_json::to_value(&proof).map_err(ApiError::damaged)?;
    Ok(OrderBody { answer, proof: Some(proof) })
}

/// Whether one transaction was before another, for SQL.
pub(crate) fn is_before(shared: &Shared, first: &Hash, second: &Hash) -> Result<bool, SqlError> {
    let query = ProofQuery::default();
    let found = make(shared, first, &query)
        .and_then(|first| link(shared, &first, &make(shared, second, &query)?));
    let found = found.map_err(|error| {
        let sqlstate = if error.code() == code::TX_UNKNOWN { "22023" } else { "55000" };
        SqlError::new(sqlstate, error.code(), error.message())
    })?;
    Ok(found.is_some())
}

/// What leads from the one transaction to the other, if anything does.
fn link(shared: &Shared, first: &Bundle, second: &Bundle) -> Result<Option<Link>, ApiError> {
    let (from, to) = (first.position(), second.position());
    if from.lane == to.lane {
        return Ok((from.seqno < to.seqno).then_some(Link::Lane {}));
    }
    let path = |size: Seqno| -> Result<LanePart, ApiError> {
        let path = shared.reader.inclusion_path(from.lane, from.seqno, size)?;
        Ok(LanePart { index: from.seqno.get().saturating_sub(1), size: size.get(), path })
    };
    let reached = |lane: Lane, cut: &[Tip]| tip_of(cut, lane).map(|tip| tip.seqno);
    let anchor = second.time.anchor.as_ref();
    let seen = anchor.and_then(|anchor| reached(from.lane, &anchor.header.0.cut));
    if let Some(size) = seen.filter(|size| *size >= from.seqno) {
        return Ok(Some(Link::Anchor { path: path(size)? }));
    }
    let tip = tip_of(&second.header.0.cut, to.lane);
    let tip = tip.ok_or_else(|| ApiError::damaged("a header does not cover what it should"))?;
    let steps: Mixings = match shared.reader.cause(from, to, tip)? {
        Search::Found(steps) => steps,
        Search::None => return Ok(None),
        Search::TooFar => {
            let text = "too much lies between the two transactions to say which was before";
            return Err(ApiError::new(code::PROOF_UNAVAILABLE, text));
        }
    };
    let size = match steps.0.first() {
        Some(Step::Header(header)) => reached(from.lane, &header.0.cut),
        Some(Step::Chunk(chunk)) => Some(chunk.0.last_seqno()),
        None => None,
    };
    let size = size.ok_or_else(|| ApiError::damaged("what was found covers nothing"))?;
    Ok(Some(Link::Mixed { path: path(size)?, steps }))
}
