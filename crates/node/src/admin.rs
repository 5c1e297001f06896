//! The listener for operators' machines: `/healthz`, `/readyz`, `/metrics`. Never the ledger's data.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use quipu_types::Height;

use crate::shared::{Progress, Shared};

/// Most heights that execution may lag behind the order while the node calls itself ready.
pub(crate) const LAG_HEIGHTS_MAX: u64 = 64;

/// The routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(shared)
}

/// The process runs and its ledger thread lives.
async fn health(State(shared): State<Arc<Shared>>) -> Response {
    if shared.failed() {
        (StatusCode::SERVICE_UNAVAILABLE, "failed\n").into_response()
    } else {
        (StatusCode::OK, "ok\n").into_response()
    }
}

/// A quorum commits (trivially with one validator), and execution keeps up.
async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    match readiness(shared.progress()) {
        Ok(height) => (StatusCode::OK, format!("ready at height {height}\n")).into_response(),
        Err(text) => (StatusCode::SERVICE_UNAVAILABLE, format!("{text}\n")).into_response(),
    }
}

/// The height at which it is ready, or why it is not.
pub(crate) fn readiness(progress: Progress) -> Result<Height, String> {
    let lag = progress.committed.get().saturating_sub(progress.executed.get());
    if progress.stopping {
        Err("stopping".to_owned())
    } else if lag > LAG_HEIGHTS_MAX {
        Err(format!("execution is {lag} heights behind the order"))
    } else {
        Ok(progress.executed)
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    shared.refresh_gauges();
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, shared.metrics.render()).into_response()
}
