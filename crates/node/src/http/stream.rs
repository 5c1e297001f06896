//! An answer that comes page by page: `limits.follower_count_max` of them at a time, each with a bounded queue of pages.
//!
//! A client that takes nothing for [`STALL_TIME`] while something waits for it is let go.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use quipu_types::code;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::error::ApiError;
use crate::shared::Shared;

/// How long a client may take nothing while something waits for it.
const STALL_TIME: Duration = Duration::from_secs(60);

/// What a client reads next; an error is the last page.
pub(super) type Page<T = Bytes> = Result<T, ApiError>;

/// A place among those that are streamed to.
pub(super) fn admit(shared: &Shared) -> Result<OwnedSemaphorePermit, ApiError> {
    Arc::clone(&shared.followers)
        .try_acquire_owned()
        .map_err(|_| ApiError::new(code::OVERLOADED, "too many streams are being read"))
}

/// `false` when the client is gone, or takes nothing.
pub(super) async fn send<T>(client: &mpsc::Sender<Page<T>>, page: T) -> bool {
    client.send_timeout(Ok(page), STALL_TIME).await.is_ok()
}

/// The pages that `feed` sends, of which `page_count_max` wait for the client. They end when `feed` does.
pub(super) fn start<
    T: Send + 'static,
    F: Future<Output = Result<(), ApiError>> + Send + 'static,
>(
    shared: &Shared,
    place: OwnedSemaphorePermit,
    page_count_max: usize,
    feed: impl FnOnce(mpsc::Sender<Page<T>>) -> F,
) -> ReceiverStream<Page<T>> {
    let (sender, receiver) = mpsc::channel(page_count_max);
    let (gauge, feeding) = (shared.metrics.followers.clone(), feed(sender.clone()));
    tokio::spawn(async move {
        gauge.increment(1.0);
        if let Err(error) = feeding.await {
            // Who is gone need not know.
            drop(sender.send_timeout(Err(error), STALL_TIME).await);
        }
        gauge.decrement(1.0);
        drop(place);
    });
    ReceiverStream::new(receiver)
}

/// The answer of these pages. It has no place for an error: who asks again is told why it ended.
pub(super) fn respond(kind: &'static str, pages: ReceiverStream<Page>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, Body::from_stream(pages.take_while(Result::is_ok))).into_response()
}
