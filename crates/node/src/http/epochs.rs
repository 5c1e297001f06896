//! How epochs ended: what a client that knows the genesis needs to know who signs now.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use quipu_proof::{Committed, Handovers};
use quipu_types::Encode;

use super::error::ApiError;
use super::on_worker;
use super::shape::{EpochsQuery, ErrorBody};
use crate::shared::Shared;

/// Most hand-overs of an answer.
const HANDOVER_COUNT_MAX: usize = 256;
/// Bytes after which an answer ends.
const ANSWER_SIZE: usize = 1 << 20;

/// How epochs ended, from epoch `from` on.
///
/// A list of the last headers of epochs, each with its commit certificate and the set of the next epoch in it, in order: as
/// many as an answer takes. The next question is for the epoch after the last of them; an empty list says that epoch `from`
/// has not ended. `docs/formats.md` draws it.
#[utoipa::path(
    get, path = "/v1/epochs", tag = "ledger", params(EpochsQuery),
    responses(
        (status = 200, description = "Hand-overs", content_type = "application/octet-stream"),
        (status = 400, body = ErrorBody),
    )
)]
pub(crate) async fn epochs(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<EpochsQuery>,
) -> Result<Response, ApiError> {
    let bytes = on_worker(move || Ok(read(&shared, query.from)?.to_bytes())).await?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

pub(super) fn read(shared: &Shared, from: u64) -> Result<Handovers, ApiError> {
    let mut found = Handovers::default();
    let mut size = 0_usize;
    for epoch in from.. {
        if found.0.len() >= HANDOVER_COUNT_MAX || size >= ANSWER_SIZE {
            break;
        }
        let Some((header, certificate)) = shared.reader.handover(epoch)? else { break };
        size = size.saturating_add(header.to_bytes().len());
        size = size.saturating_add(certificate.to_bytes().len());
        found.0.push(Committed::new(header, certificate));
    }
    Ok(found)
}
