//! An answer that comes page by page: `limits.follower_count_max` of them at a time, each with a bounded queue of pages.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use quipu_types::code;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::error::ApiError;
use crate::shared::Shared;

/// What a client reads next.
pub(super) type Page = io::Result<Bytes>;

/// A place among those that are streamed to.
pub(super) fn admit(shared: &Shared) -> Result<OwnedSemaphorePermit, ApiError> {
    Arc::clone(&shared.followers)
        .try_acquire_owned()
        .map_err(|_| ApiError::new(code::OVERLOADED, "too many streams are being read"))
}

/// The answer whose pages `feed` sends, of which `page_count_max` wait for the client. It ends when `feed` does.
pub(super) fn respond<F: Future<Output = ()> + Send + 'static>(
    shared: &Shared,
    place: OwnedSemaphorePermit,
    kind: &'static str,
    page_count_max: usize,
    feed: impl FnOnce(mpsc::Sender<Page>) -> F,
) -> Response {
    let (sender, receiver) = mpsc::channel(page_count_max);
    let (gauge, feeding) = (shared.metrics.followers.clone(), feed(sender));
    tokio::spawn(async move {
        gauge.increment(1.0);
        feeding.await;
        gauge.decrement(1.0);
        drop(place);
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, Body::from_stream(ReceiverStream::new(receiver))).into_response()
}
