//! What a client sends to the ledger's methods: one message, taken whole before anything else is done.
//!
//! Every method takes one message. It says its size first (a byte, then a big-endian `u32`); that much room is taken
//! among all bodies that are under way, HTTP's included, until the method answers.

use std::sync::Arc;

use axum::body::{Body, BodyDataStream};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use quipu_types::code;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;
use tonic::Status;

use super::super::SMALL_BODY_SIZE_MAX;
use super::super::error::ApiError;
use super::super::submit::{BODY_TIME_MAX, body_late, room_for};
use crate::shared::Shared;

/// What stands before a message: whether it is compressed, and its size.
const PREFIX_SIZE: usize = 5;

/// Takes a request's message whole.
pub(super) async fn receive(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let (head, body) = request.into_parts();
    match message(&shared, body).await {
        Ok((bytes, _room)) => next.run(Request::from_parts(head, bytes.into())).await,
        Err(error) => Status::from(error).into_http(),
    }
}

async fn message(shared: &Shared, body: Body) -> Result<(Bytes, SemaphorePermit<'_>), ApiError> {
    let mut parts = body.into_data_stream();
    let mut bytes = BytesMut::new();
    timeout(BODY_TIME_MAX, read(&mut parts, &mut bytes, PREFIX_SIZE))
        .await
        .map_err(|_| body_late())??;
    let Some(&[_, a, b, c, d]) = bytes.first_chunk() else {
        return Err(ApiError::bad_request("the request holds no message"));
    };
    let size = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if size > SMALL_BODY_SIZE_MAX {
        let text =
            format!("a message has at most {SMALL_BODY_SIZE_MAX} bytes, this one has {size}");
        return Err(ApiError::new(code::TOO_LARGE, text));
    }
    let room = room_for(shared, size).await?;
    let whole = size.saturating_add(PREFIX_SIZE);
    // One byte more, to see that the request ends there.
    let rest = read(&mut parts, &mut bytes, whole.saturating_add(1));
    timeout(BODY_TIME_MAX, rest).await.map_err(|_| body_late())??;
    if bytes.len() != whole {
        return Err(ApiError::bad_request(format!(
            "the message says that it has {size} bytes, the request has another size"
        )));
    }
    Ok((bytes.freeze(), room))
}

/// Reads until there are `wanted` bytes, or the body ends.
async fn read(
    parts: &mut BodyDataStream,
    bytes: &mut BytesMut,
    wanted: usize,
) -> Result<(), ApiError> {
    while bytes.len() < wanted
        && let Some(part) = parts.next().await
    {
        let part = part.map_err(|error| ApiError::bad_request(format!("request: {error}")))?;
        bytes.extend_from_slice(&part);
    }
    Ok(())
}
