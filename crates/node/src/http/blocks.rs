//! The committed heights as one stream of frames, for who follows the ledger and checks it: `quipu gateway`.
//!
//! ```text
//!  Hello ─ Header 7 ─ its chunks ─ Header 8 ─ its chunks ─ … ─ the newest ─ State ─ (waits) ─ Header … | Hello
//!      page by page on worker threads ──bounded channel──> the client
//! ```
//! * B1 A frame is `u32` length and a [`Frame`]'s encoding, at most `FRAME_SIZE_MAX`.
//! * B2 What is sent is committed: its certificate is in it. It need not be executed or durable here.
//! * B3 A slow client slows itself alone: at most `PAGE_COUNT_MAX` pages of `PAGE_SIZE` (and one frame) wait for it.
//! * B4 At the newest height the stream waits, and says hello every [`HELLO_TIME`], however the ledger moves.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::Response;
use quipu_replica::Frame;
use quipu_replica::storage::cut_before;
use quipu_types::{Encode, Height, Lane};
use tokio::sync::mpsc;

use super::error::ApiError;
use super::on_worker;
use super::shape::{BlocksQuery, ErrorBody};
use super::stream::{self, Page};
use crate::shared::{Progress, Shared};

/// Bytes after which a page is sent.
const PAGE_SIZE: usize = 512 << 10;
/// Pages that wait for a client.
const PAGE_COUNT_MAX: usize = 4;
/// Longest time without a frame: how often it greets who has everything.
const HELLO_TIME: Duration = Duration::from_secs(1);

/// The committed heights, for who checks them.
///
/// Frames, each a `u32` length (little endian) and an encoding: which ledger this is, then from height `from` on each
/// header with its commit certificate and the chunks that it newly orders, state certificates, and a greeting every
/// second while nothing else comes. The stream has no end. `docs/formats.md` draws the frames.
#[utoipa::path(
    get, path = "/v1/blocks", tag = "ledger", params(BlocksQuery),
    responses(
        (status = 200, description = "Frames", content_type = "application/octet-stream"),
        (status = 400, body = ErrorBody), (status = 503, body = ErrorBody),
    )
)]
pub(crate) async fn blocks(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<BlocksQuery>,
) -> Result<Response, ApiError> {
    if query.from == 0 {
        return Err(ApiError::bad_request("from: the first height is 1"));
    }
    let place = stream::admit(&shared)?;
    let (first, start) = (Height::new(query.from), Arc::clone(&shared));
    on_worker(move || match first <= start.progress().committed {
        true => start.reader.header(first).map(drop).map_err(ApiError::from),
        false => Ok(()),
    })
    .await?;
    let feeder = Feeder {
        next: first,
        chunks: VecDeque::new(),
        certified: Height::default(),
        is_greeted: false,
    };
    let feeding = Arc::clone(&shared);
    let pages = stream::start(&shared, place, PAGE_COUNT_MAX, |sender| async move {
        feeder.run(&feeding, &sender).await
    });
    Ok(stream::respond("application/octet-stream", pages))
}

struct Feeder {
    /// The next height whose header is sent.
    next: Height,
    /// What is left of the chunks of the last one: a lane, its next index and its last.
    chunks: VecDeque<(Lane, u64, u64)>,
    /// The newest height whose state certificate was sent.
    certified: Height,
    is_greeted: bool,
}

impl Feeder {
    async fn run(
        mut self,
        shared: &Arc<Shared>,
        client: &mpsc::Sender<Page>,
    ) -> Result<(), ApiError> {
        let mut progress = shared.watch();
        let mut greeting = tokio::time::interval(HELLO_TIME);
        loop {
            let seen = *progress.borrow_and_update();
            if seen.stopping {
                return Err(ApiError::stopping());
            }
            let worker = Arc::clone(shared);
            let page = on_worker(move || {
                let page = self.page(&worker, seen)?;
                Ok((self, page))
            });
            let (feeder, page) = page.await?;
            self = feeder;
            if !page.is_empty() {
                if !stream::send(client, page.into()).await {
                    return Ok(());
                }
                continue;
            }
            tokio::select! {
                moved = progress.changed() => moved.map_err(|_| ApiError::stopping())?,
                _ = greeting.tick() => self.is_greeted = false,
                () = client.closed() => return Ok(()),
            }
        }
    }

    /// The next frames; nothing at the end.
    fn page(&mut self, shared: &Shared, seen: Progress) -> Result<Vec<u8>, ApiError> {
        let mut page = Vec::new();
        if !self.is_greeted {
            self.is_greeted = true;
            put(&mut page, &Frame::Hello { chain: shared.chain, height: seen.committed });
        }
        while page.len() < PAGE_SIZE {
            if self.put_chunk(shared, &mut page)? {
                continue;
            }
            if self.next > seen.committed {
                self.put_state(shared, seen, &mut page)?;
                break;
            }
            self.put_header(shared, &mut page)?;
        }
        Ok(page)
    }

    fn put_header(&mut self, shared: &Shared, page: &mut Vec<u8>) -> Result<(), ApiError> {
        let height = self.next;
        let (header, certificate) = shared.reader.header(height)?;
        let before = cut_before(&shared.reader, height)?;
        for (place, tip) in header.cut.iter().enumerate() {
            let first = before.get(place).map_or(0, |tip| tip.index).saturating_add(1);
            if first <= tip.index {
                self.chunks.push_back((tip.lane, first, tip.index));
            }
        }
        put(page, &Frame::Header { header, certificate });
        self.next = height.next();
        Ok(())
    }

    /// `false` when the last header has no more chunks.
    fn put_chunk(&mut self, shared: &Shared, page: &mut Vec<u8>) -> Result<bool, ApiError> {
        let Some((lane, index, last)) = self.chunks.pop_front() else { return Ok(false) };
        if index < last {
            self.chunks.push_front((lane, index.saturating_add(1), last));
        }
        let chunk = shared.reader.chunk(lane, index)?;
        put(page, &Frame::Chunk(Arc::unwrap_or_clone(chunk)));
        Ok(true)
    }

    /// The newest state certificate, to who has everything: headers embed them later.
    fn put_state(
        &mut self,
        shared: &Shared,
        seen: Progress,
        page: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        let newest = seen.certified;
        if newest <= self.certified || newest >= self.next {
            return Ok(());
        }
        self.certified = newest;
        if let Some(certificate) = shared.certificates.get(newest).map_err(ApiError::damaged)? {
            put(page, &Frame::State(certificate));
        }
        Ok(())
    }
}

fn put(page: &mut Vec<u8>, frame: &Frame) {
    quipu_net::put_frame(page, &frame.to_bytes());
}
