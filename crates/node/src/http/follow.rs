//! A stream's events in the ledger's order, from any position, with or without end. As JSON lines or server-sent events
//! here; in another [`Form`] for gRPC.
//!
//! ```text
//!  height by height ─> lanes in the height's rotated order ─> seqnos ─> actions of the stream, applied only
//!        page by page on worker threads ──bounded channel──> the client
//! ```
//! * F1 Only certified and executed transactions: nothing that was sent is ever taken back.
//! * F2 `from=LANE:SEQNO` resumes after that transaction in the ledger's order: one position for all lanes.
//!   With server-sent events only the last event of a transaction has an `id`, so that a client that resumes
//!   with `Last-Event-ID` never loses the rest of a transaction.
//! * F3 A slow client slows itself alone: at most `PAGE_COUNT_MAX` pages of `PAGE_SIZE` bytes (and one
//!   transaction's events) wait for it.
//! * F4 A follower sleeps until the ledger moves; a line without content comes when it was sent
//!   nothing for 15 s.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use quipu_client::events::{key_text, tx_text};
use quipu_consensus::moves;
use quipu_replica::storage::cut_before;
use quipu_state::Stream;
use quipu_types::{Action, Decode, Header, Height, Outcome, Position, Receipt, Transaction, code};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::error::ApiError;
use super::on_worker;
use super::read::find_stream;
use super::shape::{ErrorBody, EventBody, EventsQuery};
use super::stream::{self, Page};
use crate::shared::Shared;
use crate::view;

/// Bytes after which a page is sent.
const PAGE_SIZE: usize = 128 << 10;
/// Pages that wait for a client.
pub(super) const PAGE_COUNT_MAX: usize = 4;
/// Heights that one page looks at.
const PAGE_HEIGHT_COUNT_MAX: u64 = 4_096;
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The events of a stream, in the ledger's order.
///
/// JSON lines; server-sent events when `Accept: text/event-stream` asks for them (then `Last-Event-ID` stands for
/// `from`). Empty lines keep the connection alive. Resume with `from=` the last line's `position`; a client that
/// was cut off between two events of one transaction resumes from the position before it.
#[utoipa::path(
    get, path = "/v1/streams/{name}/events", tag = "streams",
    params(("name" = String, Path, description = "The stream's name"), EventsQuery),
    responses(
        (status = 200, description = "One `EventBody` a line", content_type = "application/x-ndjson"),
        (status = 404, body = ErrorBody),
    )
)]
pub(crate) async fn events(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let sse = text(header::ACCEPT).is_some_and(|kinds| kinds.contains("text/event-stream"));
    let last_id = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let from = query.from.or_else(|| last_id.filter(|_| sse).map(str::to_owned));
    let query = EventsQuery { from, ..query };
    let pages = open(&shared, name, query, Lines { page: Vec::new(), sse }).await?;
    let kind = if sse { "text/event-stream" } else { "application/x-ndjson" };
    Ok(stream::respond(kind, pages))
}

/// The pages of a stream's events, in a form.
pub(super) async fn open<F: Form>(
    shared: &Arc<Shared>,
    name: String,
    query: EventsQuery,
    form: F,
) -> Result<ReceiverStream<Page<F::Page>>, ApiError> {
    let from: Option<Position> = query
        .from
        .map(|text| text.parse().map_err(|error| ApiError::bad_request(format!("from: {error}"))))
        .transpose()?;
    let key = query.key.as_deref().map(parse_key).transpose()?;
    let permit = stream::admit(shared)?;
    let start = Arc::clone(shared);
    let (followed, place) = on_worker(move || {
        let stream = find_stream(&start, &name)?;
        let place = place_after(&start, from)?;
        Ok((stream, place))
    })
    .await?;
    let follower = Follower {
        stream: Arc::new(followed),
        place,
        left: query.limit.unwrap_or(u64::MAX),
        follow: query.follow,
        key,
        form,
    };
    let feeding = Arc::clone(shared);
    Ok(stream::start(shared, permit, PAGE_COUNT_MAX, |sender| async move {
        follower.run(&feeding, &sender).await
    }))
}

/// How events are told.
pub(super) trait Form: Send + 'static {
    /// What is sent at once.
    type Page: Send + 'static;

    /// Adds an event. `cursor` is where a client resumes after it, if it can.
    fn put(&mut self, event: EventBody, cursor: Option<Position>) -> Result<(), ApiError>;
    /// Bytes of what was added.
    fn size(&self) -> usize;
    /// Gives what was added.
    fn take(&mut self) -> Self::Page;
    /// What is sent for a while in which nothing happens, if anything.
    fn idle(&self) -> Option<Self::Page>;
    /// What is sent when the stream can not go on, before it ends with the error.
    fn failure(&self, error: &ApiError) -> Option<Self::Page>;
}

/// JSON lines, or server-sent events.
struct Lines {
    page: Vec<u8>,
    sse: bool,
}

impl Form for Lines {
    type Page = Bytes;

    fn put(&mut self, event: EventBody, cursor: Option<Position>) -> Result<(), ApiError> {
        if self.sse {
            if let Some(position) = cursor {
                self.page.extend_from_slice(format!("id: {position}\n").as_bytes());
            }
            self.page.extend_from_slice(b"data: ");
        }
        serde_json::to_writer(&mut self.page, &event).map_err(ApiError::damaged)?;
        self.page.extend_from_slice(if self.sse { b"\n\n" } else { b"\n" });
        Ok(())
    }

    fn size(&self) -> usize {
        self.page.len()
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.page).into()
    }

    fn idle(&self) -> Option<Bytes> {
        let line: &[u8] = if self.sse { b": keep-alive\n\n" } else { b"\n" };
        Some(Bytes::from_static(line))
    }

    fn failure(&self, error: &ApiError) -> Option<Bytes> {
        let text = serde_json::to_string(&error.clone().into_body()).ok()?;
        let line = if self.sse {
            format!("event: error\ndata: {text}\n\n")
        } else {
            format!("{{\"error\":{text}}}\n")
        };
        Some(line.into())
    }
}

/// The next transaction to look at: of `height` the one at `ordinal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    height: Height,
    ordinal: u64,
}

struct Follower<F> {
    stream: Arc<Stream>,
    place: Place,
    left: u64,
    follow: bool,
    key: Option<Vec<u8>>,
    form: F,
}

impl<F: Form> Follower<F> {
    async fn run(
        mut self,
        shared: &Arc<Shared>,
        client: &mpsc::Sender<Page<F::Page>>,
    ) -> Result<(), ApiError> {
        let mut progress = shared.watch();
        // Counts from the last page, not from the last move: a ledger moves all the time, streams may be quiet for days.
        let mut quiet = tokio::time::interval(KEEP_ALIVE);
        quiet.reset();
        loop {
            let seen = *progress.borrow_and_update();
            while self.place.height <= seen.executed && self.left > 0 {
                let worker = Arc::clone(shared);
                let read = on_worker(move || {
                    let read = self.read(&worker, seen.executed);
                    Ok((self, read))
                });
                let (follower, read) = read.await?;
                self = follower;
                if let Err(error) = read {
                    if let Some(page) = self.form.failure(&error) {
                        stream::send(client, page).await;
                    }
                    return Err(error);
                }
                if self.form.size() > 0 {
                    quiet.reset();
                    if !stream::send(client, self.form.take()).await {
                        return Ok(());
                    }
                }
            }
            if self.left == 0 || !self.follow {
                return Ok(());
            }
            if seen.stopping {
                return Err(ApiError::stopping());
            }
            tokio::select! {
                moved = progress.changed() => moved.map_err(|_| ApiError::stopping())?,
                _ = quiet.tick() => {
                    if let Some(page) = self.form.idle() && !stream::send(client, page).await {
                        return Ok(());
                    }
                }
                () = client.closed() => return Ok(()),
            }
        }
    }

    /// Reads on, a page at most.
    fn read(&mut self, shared: &Shared, executed: Height) -> Result<(), ApiError> {
        let mut heights = 0_u64;
        while self.place.height <= executed
            && self.left > 0
            && self.form.size() < PAGE_SIZE
            && heights < PAGE_HEIGHT_COUNT_MAX
        {
            heights = heights.saturating_add(1);
            self.read_height(shared)?;
        }
        Ok(())
    }

    /// Reads on in the place's height until it ends or the page is full.
    fn read_height(&mut self, shared: &Shared) -> Result<(), ApiError> {
        let height = self.place.height;
        let (header, _) = shared.reader.header(height)?;
        let cut = cut_before(&shared.reader, height)?;
        let lanes = moves(&header, &cut);
        let receipts = match lanes.is_empty() {
            true => Vec::new(),
            false => {
                let stored = shared.machine()?.receipts(height).map_err(ApiError::damaged)?;
                stored.ok_or_else(|| ApiError::damaged("an executed height has no receipts"))?
            }
        };
        let mut skip = self.place.ordinal;
        for (lane, after, to) in lanes {
            let count = to.get().saturating_sub(after.get());
            if skip >= count {
                skip = skip.saturating_sub(count);
                continue;
            }
            let first = quipu_types::Seqno::new(after.get().saturating_add(skip)).next();
            skip = 0;
            for read in shared.reader.read_from(lane, first)? {
                let (seqno, bytes) = read?;
                let ordinal = usize::try_from(self.place.ordinal).unwrap_or(usize::MAX);
                let receipt = receipts
                    .get(ordinal)
                    .filter(|receipt| (receipt.lane, receipt.seqno) == (lane, seqno))
                    .ok_or_else(|| ApiError::damaged("a receipt is not of its transaction"))?;
                if receipt.outcome == Outcome::Applied {
                    self.put_events(&header, receipt, &bytes)?;
                }
                self.place.ordinal = self.place.ordinal.saturating_add(1);
                if self.left == 0 || self.form.size() >= PAGE_SIZE {
                    return Ok(());
                }
                if seqno == to {
                    break;
                }
            }
        }
        self.place = Place { height: height.next(), ordinal: 0 };
        Ok(())
    }

    /// Adds the events of one applied transaction.
    fn put_events(
        &mut self,
        header: &Header,
        receipt: &Receipt,
        bytes: &[u8],
    ) -> Result<(), ApiError> {
        let transaction = Transaction::from_bytes(bytes).map_err(ApiError::damaged)?;
        let mut wanted = (0_u32..)
            .zip(&transaction.actions)
            .filter_map(|(index, action)| match action {
                Action::Append { stream, key, payload }
                    if *stream == self.stream.spec.name
                        && self.key.as_ref().is_none_or(|wanted| wanted == key) =>
                {
                    Some((index, key, payload))
                }
                _ => None,
            })
            .peekable();
        let position = Position { lane: receipt.lane, seqno: receipt.seqno };
        while self.left > 0
            && let Some((index, key, payload)) = wanted.next()
        {
            let data = self.stream.spec.schema.row_to_json(payload).map_err(ApiError::damaged)?;
            let event = EventBody {
                stream: self.stream.spec.name.clone(),
                position: position.to_string(),
                lane: receipt.lane.get(),
                seqno: receipt.seqno.get(),
                action: index,
                height: header.height.get(),
                time_us: header.time.get(),
                tx: tx_text(&receipt.tx, index, transaction.actions.len()),
                signer: transaction.signer.to_string(),
                key: key_text(key),
                data,
            };
            self.left = self.left.saturating_sub(1);
            let cursor = wanted.peek().is_none().then_some(position);
            self.form.put(event, cursor)?;
        }
        Ok(())
    }
}

fn parse_key(text: &str) -> Result<Vec<u8>, ApiError> {
    quipu_client::events::parse_key(text)
        .map_err(|error| ApiError::bad_request(format!("key: {error}")))
}

/// Where reading begins: after a position, or with the first height.
fn place_after(shared: &Shared, from: Option<Position>) -> Result<Place, ApiError> {
    let first = Place { height: Height::new(1), ordinal: 0 };
    let Some(Position { lane, seqno }) = from else { return Ok(first) };
    if lane.get() >= shared.lane_count() {
        let text = format!("there is no lane {lane}; there are {}", shared.lane_count());
        return Err(ApiError::new(code::POSITION, text));
    }
    if seqno.get() == 0 {
        return Ok(first);
    }
    let height = view::height_of(&shared.reader, lane, seqno)
        .map_err(ApiError::damaged)?
        .ok_or_else(|| {
            ApiError::new(code::POSITION, format!("lane {lane} has no committed seqno {seqno} yet"))
        })?;
    let (header, _) = shared.reader.header(height)?;
    let cut = cut_before(&shared.reader, height)?;
    let mut ordinal = 0_u64;
    for (moved, after, to) in moves(&header, &cut) {
        if moved == lane {
            ordinal = ordinal.saturating_add(seqno.get().saturating_sub(after.get()));
            break;
        }
        ordinal = ordinal.saturating_add(to.get().saturating_sub(after.get()));
    }
    Ok(Place { height, ordinal })
}
