//! Checkpoints for who has lost more than others keep: a list, and the bytes of one. Whoever takes them over checks all of it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use quipu_types::{Encode, Height, code};

use super::error::ApiError;
use super::on_worker;
use super::shape::{CheckpointBody, ErrorBody};
use crate::checkpoint::Saved;
use crate::shared::Shared;

/// The checkpoints that this validator has, newest first.
///
/// Each with the validator's signed statement: height, header, digest of the state. Statements of one height by validators of more than a
/// third of the stake that name one digest are an honest one's too.
#[utoipa::path(
    get, path = "/v1/checkpoints", tag = "ledger",
    responses((status = 200, body = [CheckpointBody]), (status = 500, body = ErrorBody))
)]
pub(crate) async fn checkpoints(
    State(shared): State<Arc<Shared>>,
) -> Result<Json<Vec<CheckpointBody>>, ApiError> {
    let list = on_worker(move || {
        let mut list = Vec::new();
        for saved in Saved::all(&shared.dir).map_err(ApiError::damaged)? {
            // One may go while the list is made.
            let Ok(signed) = saved.signed() else { continue };
            list.push(CheckpointBody {
                height: saved.height.get(),
                header_hash: signed.statement.header_hash.to_string(),
                digest: signed.statement.digest.to_string(),
                statement: hex::encode(signed.to_bytes()),
            });
        }
        Ok(list)
    });
    list.await.map(Json)
}

/// A checkpoint's manifest: what the log goes on from, with certificates, and the digests of the parts (`docs/formats.md`).
#[utoipa::path(
    get, path = "/v1/checkpoints/{height}", tag = "ledger", params(("height" = u64, Path)),
    responses(
        (status = 200, description = "The manifest", content_type = "application/octet-stream"),
        (status = 404, body = ErrorBody),
    )
)]
pub(crate) async fn manifest(
    State(shared): State<Arc<Shared>>,
    Path(height): Path<u64>,
) -> Result<Response, ApiError> {
    let saved = Saved::of(&shared.dir, Height::new(height));
    bytes(move || saved.manifest_bytes(), format!("no checkpoint of height {height}")).await
}

/// A part of a checkpoint: rows of the state.
#[utoipa::path(
    get, path = "/v1/checkpoints/{height}/parts/{part}", tag = "ledger",
    params(("height" = u64, Path), ("part" = u32, Path, description = "From 0")),
    responses(
        (status = 200, description = "The part", content_type = "application/octet-stream"),
        (status = 404, body = ErrorBody),
    )
)]
pub(crate) async fn part(
    State(shared): State<Arc<Shared>>,
    Path((height, part)): Path<(u64, u32)>,
) -> Result<Response, ApiError> {
    let saved = Saved::of(&shared.dir, Height::new(height));
    let place = usize::try_from(part).unwrap_or(usize::MAX);
    bytes(move || saved.part(place), format!("no part {part} of a checkpoint of height {height}"))
        .await
}

async fn bytes(
    read: impl FnOnce() -> std::io::Result<Vec<u8>> + Send + 'static,
    absent: String,
) -> Result<Response, ApiError> {
    let bytes = on_worker(move || {
        read().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => ApiError::new(code::POSITION, absent),
            _ => ApiError::damaged(error),
        })
    });
    Ok(([(CONTENT_TYPE, "application/octet-stream")], bytes.await?).into_response())
}
