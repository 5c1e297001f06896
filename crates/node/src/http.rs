//! The interface for programs: `/v1` over HTTP, JSON in and out, described at `/v1/openapi.json`; the same by gRPC.
//!
//! ```text
//!  POST /v1/transactions            GET /v1/transactions/{tx}[/proof]   GET /v1/producers/{key}
//!  GET  /v1/headers[/{height}]      GET /v1/streams[/{name}[/events]]   GET /v1/status, validators, genesis
//!  GET  /v1/streams/{name}/compacted (the newest event of each key, with proofs)
//!  GET  /v1/groups[/{name}]         POST /v1/feed (frames for consumers who check them)
//!  GET  /v1/checkpoints[/{height}[/parts/{part}]] (for who begins behind what is kept)
//!  POST /v1/sql                     GET /v1/blocks (frames for who follows the ledger and checks it)
//!  POST /quipu.v1.Ledger/{method}   gRPC: `grpc`, over HTTP/2
//! ```
//! Every error is `{code, message, hint}`; what a handler reads from the disk is read on worker threads.

mod blocks;
mod checkpoint;
mod clock;
mod compacted;
pub(crate) mod complain;
mod epochs;
pub(crate) mod error;
mod feed;
pub(crate) mod follow;
mod group;
mod grpc;
pub(crate) mod proof;
pub(crate) mod read;
pub mod shape;
mod stream;
pub(crate) mod submit;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use quipu_types::code;
use utoipa::OpenApi;

use crate::shared::Shared;
use error::ApiError;

/// Bodies other than submissions are small.
const SMALL_BODY_SIZE_MAX: usize = 1 << 20;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Quipu",
        description = "A ledger that several organisations run together. Every position and proof \
                       that this interface gives can be checked offline with the genesis alone.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        submit::submit,
        complain::complain,
        read::transaction,
        proof::proof,
        proof::before,
        clock::clock,
        read::producer,
        read::header,
        read::headers,
        read::streams,
        read::stream,
        follow::events,
        compacted::compacted,
        group::groups,
        group::group,
        blocks::blocks,
        epochs::epochs,
        checkpoint::checkpoints,
        checkpoint::manifest,
        checkpoint::part,
        feed::feed,
        read::status,
        read::validators,
        read::genesis,
        crate::sql::query,
    ),
    components(schemas(shape::EventBody)),
    tags(
        (name = "transactions", description = "Submit signed transactions, ask what became of them, prove them."),
        (name = "ledger", description = "Headers, validators, status."),
        (name = "streams", description = "Streams and their events, in the ledger's order."),
        (name = "groups", description = "Consumer groups: members, who holds which lane, committed cursors."),
        (name = "queries", description = "SQL."),
    )
)]
struct Api;

/// The OpenAPI document.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Api::openapi()
}

/// The routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/transactions", post(submit::submit))
        .route("/v1/complaints", post(complain::complain))
        .route("/v1/transactions/{tx}", get(read::transaction))
        .route("/v1/transactions/{tx}/proof", get(proof::proof))
        .route("/v1/clock", get(clock::clock))
        .route("/v1/clock/before", get(proof::before))
        .route("/v1/producers/{key}", get(read::producer))
        .route("/v1/headers", get(read::headers))
        .route("/v1/headers/{height}", get(read::header))
        .route("/v1/blocks", get(blocks::blocks))
        .route("/v1/epochs", get(epochs::epochs))
        .route("/v1/checkpoints", get(checkpoint::checkpoints))
        .route("/v1/checkpoints/{height}", get(checkpoint::manifest))
        .route("/v1/checkpoints/{height}/parts/{part}", get(checkpoint::part))
        .route("/v1/feed", post(feed::feed))
        .route("/v1/streams", get(read::streams))
        .route("/v1/streams/{name}", get(read::stream))
        .route("/v1/streams/{name}/events", get(follow::events))
        .route("/v1/streams/{name}/compacted", get(compacted::compacted))
        .route("/v1/groups", get(group::groups))
        .route("/v1/groups/{name}", get(group::group))
        .route("/v1/status", get(read::status))
        .route("/v1/validators", get(read::validators))
        .route("/v1/genesis", get(read::genesis))
        .route("/v1/sql", post(crate::sql::query))
        .route("/v1/openapi.json", get(|| async { Json(openapi()) }))
        .merge(grpc::router(&shared))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(SMALL_BODY_SIZE_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), finish))
        .with_state(shared)
}

async fn nothing_here(request: Request) -> ApiError {
    ApiError::bad_request(format!(
        "nothing is at {}; the interface is described at /v1/openapi.json",
        request.uri().path()
    ))
    .with_status(StatusCode::NOT_FOUND)
}

async fn wrong_method(method: Method, request: Request) -> ApiError {
    ApiError::bad_request(format!("{} does not take {method}", request.uri().path()))
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
}

/// Counts answers, and gives the framework's own refusals (of a path, a query, a body) the one form of errors.
async fn finish(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    shared.metrics.http_requests(status.as_u16()).increment(1);
    let is_json = response
        .headers()
        .get(axum::http::header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !status.is_client_error() || is_json {
        return response;
    }
    let text = match axum::body::to_bytes(response.into_body(), 4_096).await {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => "the request is malformed".to_owned(),
    };
    let wanted =
        if status == StatusCode::PAYLOAD_TOO_LARGE { code::TOO_LARGE } else { code::BAD_REQUEST };
    ApiError::new(wanted, text).with_status(status).into_response()
}

/// Runs what reads the disk on a worker thread.
pub(crate) async fn on_worker<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => {
            tracing::error!("a request's worker panicked");
            Err(ApiError::damaged("the request failed inside the validator"))
        }
        Err(_) => Err(ApiError::stopping()),
    }
}
