//! Lanes as a feed that consumers check: from a cursor, a height or a time on, certified or tentative, with or without end.
//!
//! ```text
//!  POST /v1/feed: mode, lanes, start ─> resume rule, lane by lane ─> Hello ─ Epoch … ─ Base ─ Resumed … ─┐
//!      ┌─────────────────────────────────────────────────────────────────────────────────────────────┘
//!      └> certified heights in order: chunks, receipts, cut ─> the tail, if tentative ─> (waits) ─> …
//!              page by page on worker threads ──bounded channel──> the consumer
//! ```
//! * D1 A frame is a `u32` length and a [`Frame`]'s encoding. A height is sent when its state is certified: one whose own
//!   certificate was lost and is asked for is waited for.
//! * D2 The consumer's grants are its connection's window: at most `PAGE_COUNT_MAX` pages of `PAGE_SIZE` (and one frame) wait
//!   for one that does not read, on top of what the two sockets hold. One that takes none for a while is let go.
//! * D3 Who reads slowly reads from the log, which keeps its newest chunks in memory for all (`LedgerReader`).
//! * D4 At the end a greeting comes every `HELLO_TIME`.
//! * D6 How epochs ended that the consumer does not know goes first, page by page. A chunk of an epoch is sent after the cut that
//!   began it: before that the consumer does not know who signs.
//! * D5 What was sent tentatively and does not come true is rolled back by name; below what was sent, the feed ends and is
//!   resumed by the rule ([`mod@quipu_log::resume`]).

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use quipu_consensus::{genesis_cut, moves};
use quipu_crypto::hash::leaf_hashes;
use quipu_crypto::merkle::{Frontier, subset_path};
use quipu_log::LogError;
use quipu_log::resume::{BranchStart, History, Resume, ResumeError, resume};
use quipu_proof::feed::Frame;
use quipu_proof::feed::frame::{Cut, RECEIPT_COUNT_MAX, Results, Resumed};
use quipu_proof::names::chunk_hash;
use quipu_proof::order::tip_of;
use quipu_replica::Chunk;
use quipu_replica::storage::cut_before;
use quipu_types::cursor::{Cursor, FeedRequest, Mode, Start};
use quipu_types::{
    Decode, Encode, Hash, Header, Height, Lane, Receipt, Seqno, StateCertificate, Time, Tip, code,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::error::ApiError;
use super::on_worker;
use super::shape::ErrorBody;
use super::stream::{self, Page};
use crate::shared::{Progress, Shared};

/// Bytes after which a page is sent.
const PAGE_SIZE: usize = 256 << 10;
/// Pages that wait for a consumer.
const PAGE_COUNT_MAX: usize = 2;
/// Longest time without a frame.
const HELLO_TIME: Duration = Duration::from_secs(5);

/// Lanes, for consumers that check them.
///
/// The body is a `FeedRequest`, the answer a stream of frames, each a `u32` length (little endian) and an encoding;
/// `docs/formats.md` draws both, `quipu-client` speaks them. A cursor that can not be resumed is refused by name.
#[utoipa::path(
    post, path = "/v1/feed", tag = "streams",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "Frames", content_type = "application/octet-stream"),
        (status = 400, body = ErrorBody), (status = 409, body = ErrorBody), (status = 410, body = ErrorBody),
        (status = 503, body = ErrorBody),
    )
)]
pub(crate) async fn feed(
    State(shared): State<Arc<Shared>>,
    body: Bytes,
) -> Result<Response, ApiError> {
    Ok(stream::respond("application/octet-stream", open(&shared, &body).await?))
}

/// The frames that answer an encoded request.
pub(super) async fn open(
    shared: &Arc<Shared>,
    request: &[u8],
) -> Result<ReceiverStream<Page>, ApiError> {
    let request = FeedRequest::from_bytes(request).map_err(|error| {
        ApiError::new(code::CURSOR, format!("the request does not decode: {error}"))
    })?;
    let place = stream::admit(shared)?;
    let worker = Arc::clone(shared);
    let epoch = request.epoch;
    let (feeder, opening) = on_worker(move || Feeder::open(&worker, &request)).await?;
    let feeding = Arc::clone(shared);
    Ok(stream::start(shared, place, PAGE_COUNT_MAX, |sender| async move {
        let is_greeted = greet(&feeding, &sender, (epoch, feeder.next)).await?;
        if is_greeted && stream::send(&sender, opening.into()).await {
            feeder.run(&feeding, &sender).await?;
        }
        Ok(())
    }))
}

/// Sends which ledger this is, and how epochs ended from `epoch` on, below the height `next`. Whether the consumer takes it.
async fn greet(
    shared: &Arc<Shared>,
    consumer: &mpsc::Sender<Page>,
    (mut epoch, next): (u64, Height),
) -> Result<bool, ApiError> {
    let mut page = Vec::new();
    put(&mut page, &hello(shared, shared.progress()));
    while !page.is_empty() {
        let worker = Arc::clone(shared);
        let filled = on_worker(move || {
            while page.len() < PAGE_SIZE
                && let Some((header, certificate)) = worker.reader.handover(epoch)?
                && header.height < next
            {
                put(&mut page, &Frame::Epoch { header: Box::new(header), certificate });
                epoch = epoch.saturating_add(1);
            }
            Ok((page, epoch))
        });
        let (filled, sent) = filled.await?;
        let is_last = sent == epoch || filled.len() < PAGE_SIZE;
        epoch = sent;
        if !stream::send(consumer, filled.into()).await {
            return Ok(false);
        }
        if is_last {
            break;
        }
        page = Vec::new();
    }
    Ok(true)
}

/// What is left to send of a height.
enum Todo {
    /// Chunks of a lane by index.
    Chunks { lane: usize, next: u64, last: u64 },
    /// Receipts, which a certificate proves, and cut.
    Close(Box<StateCertificate>),
}

struct Feeder {
    mode: Mode,
    /// The last height that is wanted, if there is a last: what was committed when it was asked.
    last: Option<Height>,
    lanes: Vec<LaneFeeder>,
    /// The next height to send.
    next: Height,
    todo: VecDeque<Todo>,
    is_greeted: bool,
}

/// What was sent of a lane.
struct LaneFeeder {
    lane: Lane,
    /// The consumer knows every outcome up to here.
    outcomes_after: Seqno,
    /// Index of the chunk that comes next.
    next: u64,
    /// Chunks that the consumer has and that no cut that was sent covers.
    sent: VecDeque<(u64, Hash)>,
    /// How many of them it had before, which are not taken back here.
    floor: usize,
}

impl Feeder {
    async fn run(
        mut self,
        shared: &Arc<Shared>,
        consumer: &mpsc::Sender<Page>,
    ) -> Result<(), ApiError> {
        let mut progress = shared.watch();
        let mut tail = shared.tail.watch();
        let mut greeting = tokio::time::interval(HELLO_TIME);
        loop {
            let seen = *progress.borrow_and_update();
            tail.borrow_and_update();
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
            let is_at_end = page.is_empty();
            if !is_at_end && !stream::send(consumer, page.into()).await {
                return Ok(());
            }
            if !is_at_end {
                continue;
            }
            if self.last.is_some_and(|last| self.next > last) {
                return Ok(());
            }
            let is_tentative = self.mode == Mode::Tentative;
            tokio::select! {
                moved = progress.changed() => moved.map_err(|_| ApiError::stopping())?,
                moved = tail.changed(), if is_tentative => moved.map_err(|_| ApiError::stopping())?,
                _ = greeting.tick() => self.is_greeted = false,
                () = consumer.closed() => return Ok(()),
            }
        }
    }

    /// The next frames; nothing at the end.
    fn page(&mut self, shared: &Shared, seen: Progress) -> Result<Vec<u8>, ApiError> {
        let mut page = Vec::new();
        if !self.is_greeted {
            self.is_greeted = true;
            put(&mut page, &hello(shared, seen));
        }
        while page.len() < PAGE_SIZE {
            match self.todo.pop_front() {
                Some(Todo::Chunks { lane, next, last }) => {
                    self.put_chunk(shared, (lane, next, last), &mut page)?;
                }
                Some(Todo::Close(certificate)) => self.close(shared, *certificate, &mut page)?,
                None if self.next <= newest(seen) => {
                    if !self.begin(shared, &mut page)? {
                        break;
                    }
                }
                None => {
                    if self.mode == Mode::Tentative {
                        self.put_tail(shared, &mut page)?;
                    }
                    break;
                }
            }
        }
        Ok(page)
    }

    /// Plans what the next height needs. Whether it can be sent: a later one may be certified before it.
    fn begin(&mut self, shared: &Shared, page: &mut Vec<u8>) -> Result<bool, ApiError> {
        let certificate = shared.certificates.get(self.next).map_err(ApiError::damaged)?;
        let Some(certificate) = certificate else { return Ok(false) };
        let (header, _) = shared.reader.header(self.next)?;
        for (place, feeder) in self.lanes.iter_mut().enumerate() {
            let Some(tip) = tip_of(&header.cut, feeder.lane) else { continue };
            feeder.reconcile(shared, page)?;
            if feeder.next <= tip.index {
                let (next, last) = (feeder.next, tip.index);
                self.todo.push_back(Todo::Chunks { lane: place, next, last });
            }
        }
        self.todo.push_back(Todo::Close(Box::new(certificate)));
        Ok(true)
    }

    fn put_chunk(
        &mut self,
        shared: &Shared,
        (place, next, last): (usize, u64, u64),
        page: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        let Some(feeder) = self.lanes.get_mut(place) else { return Ok(()) };
        let chunk = shared.reader.chunk(feeder.lane, next)?;
        put(page, &Frame::Chunk(Arc::unwrap_or_clone(chunk)));
        feeder.next = next.saturating_add(1);
        if next < last {
            self.todo.push_front(Todo::Chunks { lane: place, next: feeder.next, last });
        }
        Ok(())
    }

    /// Ends a height: the outcomes of what is new to the consumer, and the cut.
    fn close(
        &mut self,
        shared: &Shared,
        state_certificate: StateCertificate,
        page: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        let height = self.next;
        let (header, certificate) = shared.reader.header(height)?;
        let before = cut_before(&shared.reader, height)?;
        for feeder in &mut self.lanes {
            let tip = tip_of(&header.cut, feeder.lane).map_or(0, |tip| tip.index);
            while feeder.sent.front().is_some_and(|(index, _)| *index <= tip) {
                feeder.sent.pop_front();
                feeder.floor = feeder.floor.saturating_sub(1);
            }
        }
        let (ranges, lanes) = self.new_receipts(&header, &before);
        let results = match ranges.is_empty() {
            true => None,
            false => {
                let all = shared.machine()?.receipts(height).map_err(ApiError::damaged)?;
                let all =
                    all.ok_or_else(|| ApiError::damaged("an executed height has no receipts"))?;
                for (lane, range) in lanes.iter().zip(&ranges) {
                    let own = all.get(range.clone()).ok_or_else(|| {
                        ApiError::damaged("a height has fewer receipts than transactions")
                    })?;
                    for part in own.chunks(RECEIPT_COUNT_MAX) {
                        let receipts = part.to_vec();
                        put(page, &Frame::Receipts { lane: *lane, receipts });
                    }
                }
                let path = path_around(&all, &ranges);
                Some(Results { certificate: state_certificate, path })
            }
        };
        put(page, &Frame::Cut(Box::new(Cut { header, certificate, results })));
        self.next = height.next();
        Ok(())
    }

    /// Which receipts of a height are of transactions that are new to the consumer, in the ledger's order.
    fn new_receipts(&self, header: &Header, before: &[Tip]) -> (Vec<Range<usize>>, Vec<Lane>) {
        let mut first = 0_u64;
        let (mut ranges, mut lanes) = (Vec::new(), Vec::new());
        for (lane, after, to) in moves(header, before) {
            let count = to.get().saturating_sub(after.get());
            if let Some(feeder) = self.lanes.iter().find(|feeder| feeder.lane == lane)
                && feeder.outcomes_after < to
            {
                let had = feeder.outcomes_after.get().saturating_sub(after.get());
                let range = first.saturating_add(had)..first.saturating_add(count);
                let place = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
                ranges.push(place(range.start)..place(range.end));
                lanes.push(lane);
            }
            first = first.saturating_add(count);
        }
        (ranges, lanes)
    }

    /// Sends what no cut covers.
    fn put_tail(&mut self, shared: &Shared, page: &mut Vec<u8>) -> Result<(), ApiError> {
        let context = shared.context();
        for feeder in &mut self.lanes {
            feeder.reconcile(shared, page)?;
            for chunk in feeder.waiting(shared)? {
                let term = chunk.stored.header.term;
                let is_begun = context.epochs.of_term(feeder.lane, term).first <= self.next;
                if page.len() >= PAGE_SIZE || !is_begun {
                    break;
                }
                put(page, &Frame::Chunk(chunk.stored.clone()));
                feeder.sent.push_back((feeder.next, chunk.hash));
                feeder.next = feeder.next.saturating_add(1);
            }
        }
        Ok(())
    }
}

/// What stands around some receipts in the tree over all.
fn path_around(all: &[Receipt], ranges: &[Range<usize>]) -> Vec<Hash> {
    let known: usize = ranges.iter().map(ExactSizeIterator::len).sum();
    if known == all.len() {
        return Vec::new();
    }
    let encodings: Vec<Vec<u8>> = all.iter().map(Encode::to_bytes).collect();
    let leaves = leaf_hashes(&encodings.iter().map(Vec::as_slice).collect::<Vec<_>>());
    subset_path(&leaves, ranges)
}

impl LaneFeeder {
    /// Takes back what was sent and does not stand in the lane any more.
    fn reconcile(&mut self, shared: &Shared, page: &mut Vec<u8>) -> Result<(), ApiError> {
        let mut taken_back = None;
        while let Some((index, hash)) = self.sent.back() {
            if hash_at(shared, self.lane, *index)? == Some(*hash) {
                break;
            }
            if self.sent.len() <= self.floor {
                return Err(ApiError::new(
                    code::BEHIND,
                    "what the consumer had does not stand any more",
                ));
            }
            taken_back = Some(index.saturating_sub(1));
            self.next = *index;
            self.sent.pop_back();
        }
        if let Some(index) = taken_back {
            put(page, &Frame::RollBack { lane: self.lane, index });
        }
        Ok(())
    }

    /// The chunks that come next and are not in a cut that was sent.
    fn waiting(&self, shared: &Shared) -> Result<Vec<Arc<Chunk>>, ApiError> {
        let committed = shared.reader.tip(self.lane)?;
        if self.next <= committed.index {
            // Its state will be certified in a moment; then the cut brings it.
            return Ok(Vec::new());
        }
        Ok(waiting(shared, self.lane, self.next))
    }
}

/// The chunks of a lane that no cut covers, from an index on, as far as they follow each other.
fn waiting(shared: &Shared, lane: Lane, mut next: u64) -> Vec<Arc<Chunk>> {
    let mut chunks = shared.tail.chunks(lane);
    chunks.retain(|chunk| {
        let is_next = chunk.stored.header.index == next;
        next = next.saturating_add(u64::from(is_next));
        is_next
    });
    chunks
}

/// Hash of the chunk that stands at an index of a lane now.
fn hash_at(shared: &Shared, lane: Lane, index: u64) -> Result<Option<Hash>, ApiError> {
    let committed = shared.reader.tip(lane)?;
    if index <= committed.index {
        let chunk = shared.reader.chunk(lane, index)?;
        return Ok(Some(chunk_hash(&chunk.header)));
    }
    let chunks = shared.tail.chunks(lane);
    let found = chunks.iter().find(|chunk| chunk.stored.header.index == index);
    Ok(found.map(|chunk| chunk.hash))
}

/// The newest height that can be sent. After a crash a state's certificate may be there before its header is again.
fn newest(seen: Progress) -> Height {
    seen.certified.min(seen.committed)
}

fn hello(shared: &Shared, seen: Progress) -> Frame {
    Frame::Hello { chain: shared.chain, height: seen.committed }
}

fn put(page: &mut Vec<u8>, frame: &Frame) {
    quipu_net::put_frame(page, &frame.to_bytes());
}

/// A lane as it is at one moment.
struct LaneView<'a> {
    shared: &'a Shared,
    lane: Lane,
    height: Height,
    certified: Tip,
    /// What is streamed beyond the log's committed part.
    chunks: Vec<Arc<Chunk>>,
    high: Seqno,
    branches: Vec<BranchStart>,
}

impl<'a> LaneView<'a> {
    fn new(
        shared: &'a Shared,
        lane: Lane,
        mode: Mode,
        header: Option<&Header>,
    ) -> Result<Self, LogError> {
        let height = header.map_or(Height::default(), |header| header.height);
        let first = genesis_cut(shared.lane_count());
        let cut = header.map_or(first.as_slice(), |header| &header.cut);
        let certified = *tip_of(cut, lane).ok_or(LogError::NoLane { lane })?;
        let committed = shared.reader.tip(lane)?;
        let chunks = match mode {
            Mode::Certified => Vec::new(),
            Mode::Tentative => waiting(shared, lane, committed.index.saturating_add(1)),
        };
        let high = match (mode, chunks.last()) {
            (Mode::Certified, _) => certified.seqno,
            (Mode::Tentative, Some(chunk)) => chunk.stored.header.last_seqno(),
            (Mode::Tentative, None) => committed.seqno,
        };
        let terms = shared.reader.failover_log(lane)?;
        let start = |first: Seqno| Seqno::new(first.get().saturating_sub(1));
        let branches = terms
            .iter()
            .rev()
            .map(|term| BranchStart { branch: term.branch, after: start(term.first_seqno) });
        Ok(Self { shared, lane, height, certified, high, branches: branches.collect(), chunks })
    }

    /// The tree over the first `size` transactions.
    fn frontier(&self, size: Seqno) -> Result<Frontier, LogError> {
        let committed = self.shared.reader.tip(self.lane)?.seqno;
        if size <= committed {
            return self.shared.reader.frontier(self.lane, size);
        }
        let mut tree = self.shared.reader.frontier(self.lane, committed)?;
        for chunk in &self.chunks {
            let had = committed.next().get().saturating_sub(chunk.stored.header.first_seqno.get());
            let wanted = size.get().saturating_sub(tree.size());
            let place = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
            let leaves = chunk.leaves();
            let leaves = leaves.get(place(had).min(leaves.len())..).unwrap_or_default();
            tree.extend(leaves.get(..place(wanted)).unwrap_or(leaves));
        }
        Ok(tree)
    }

    fn branch_at(&self, seqno: Seqno) -> Hash {
        let start = self.branches.iter().find(|start| start.after < seqno);
        start.or(self.branches.last()).map_or(self.shared.chain, |start| start.branch)
    }
}

impl History for LaneView<'_> {
    type Error = LogError;

    fn height(&self) -> Height {
        self.height
    }

    fn certified(&self) -> Seqno {
        self.certified.seqno
    }

    fn pruned(&self) -> Seqno {
        self.shared.reader.pruned(self.lane).unwrap_or_default()
    }

    fn high(&self) -> Seqno {
        self.high
    }

    fn branches(&self) -> &[BranchStart] {
        &self.branches
    }

    fn root_at(&self, size: Seqno) -> Result<Hash, LogError> {
        Ok(self.frontier(size)?.root())
    }
}

impl Feeder {
    /// Answers the cursors, and gives the first frames.
    fn open(shared: &Shared, request: &FeedRequest) -> Result<(Self, Vec<u8>), ApiError> {
        let seen = shared.progress();
        check_lanes(shared, request)?;
        let certified = newest(seen);
        let newest = header_at(shared, certified)?.map(|(header, _)| header);
        let base = base_of(shared, request, certified)?;
        let mut page = Vec::new();
        let base_header = header_at(shared, base)?;
        if let Some((header, certificate)) = &base_header {
            let header = Box::new(header.clone());
            put(&mut page, &Frame::Base { header, certificate: certificate.clone() });
        }
        let first = genesis_cut(shared.lane_count());
        let cut = base_header.as_ref().map_or(first.as_slice(), |(header, _)| &header.cut);
        let mut lanes = Vec::new();
        for (place, lane) in request.lanes.iter().enumerate() {
            let view = LaneView::new(shared, *lane, request.mode, newest.as_ref());
            let view = view?;
            let tip = tip_of(cut, *lane).ok_or_else(|| no_lane(shared, *lane))?;
            let had = match &request.start {
                Start::Cursors(cursors) => {
                    let cursor = cursors.lanes.get(place).ok_or_else(|| no_lane(shared, *lane))?;
                    resumed_at(&view, cursor)?
                }
                _ => tip.seqno,
            };
            let frontier = view.frontier(had)?;
            let branch = view.branch_at(had);
            put(&mut page, &Frame::Resumed(Resumed { lane: *lane, branch, frontier }));
            let outcomes_after = match (&request.start, request.mode) {
                (Start::Cursors(cursors), Mode::Tentative) => {
                    cursors.lanes.get(place).map_or(had, |cursor| cursor.certified.seqno)
                }
                _ => had,
            };
            let feeder = LaneFeeder::new(&view, tip, (had, outcomes_after));
            lanes.push(feeder?);
        }
        let last = (!request.follow).then_some(seen.committed);
        let (mode, todo) = (request.mode, VecDeque::new());
        Ok((Self { mode, last, lanes, next: base.next(), todo, is_greeted: true }, page))
    }
}

impl LaneFeeder {
    /// One that goes on after transaction `had`. `base` is the lane's tip at the height that the feed begins after.
    fn new(
        view: &LaneView<'_>,
        base: &Tip,
        (had, outcomes_after): (Seqno, Seqno),
    ) -> Result<Self, LogError> {
        let (shared, lane) = (view.shared, view.lane);
        let committed = shared.reader.tip(lane)?;
        let mut sent = VecDeque::new();
        let next = if had == base.seqno {
            base.index.saturating_add(1)
        } else if had < committed.seqno {
            shared.reader.chunk_index(lane, had.next())?
        } else {
            // The chunk that the consumer is in, or has whole: if that is voided, so is what it had.
            let holds = |chunk: &&Arc<Chunk>| had <= chunk.stored.header.last_seqno();
            let within = view.chunks.iter().find(holds);
            let before = view.chunks.iter().take_while(|chunk| !holds(chunk)).last();
            let known = within.filter(|chunk| had == chunk.stored.header.last_seqno()).or(before);
            if let Some(chunk) = known.filter(|_| had > committed.seqno) {
                sent.push_back((chunk.stored.header.index, chunk.hash));
            }
            let last = known.map_or(committed.index, |chunk| chunk.stored.header.index);
            last.saturating_add(1)
        };
        let floor = sent.len();
        Ok(Self { lane, outcomes_after, next, sent, floor })
    }
}

fn refused(error: ResumeError) -> ApiError {
    ApiError::new(error.code(), error.to_string())
}

/// Where a cursor goes on.
fn resumed_at(view: &LaneView<'_>, cursor: &Cursor) -> Result<Seqno, ApiError> {
    match resume(view, cursor)?.map_err(refused)? {
        Resume::Continue => Ok(cursor.seqno),
        Resume::RollBack { to } => Ok(to),
    }
}

fn no_lane(shared: &Shared, lane: Lane) -> ApiError {
    let text = format!("there is no lane {lane}; there are {}", shared.lane_count());
    ApiError::new(code::POSITION, text)
}

fn check_lanes(shared: &Shared, request: &FeedRequest) -> Result<(), ApiError> {
    if request.lanes.is_empty() {
        return Err(ApiError::new(code::CURSOR, "the request names no lane"));
    }
    if let Some(lane) = request.lanes.iter().find(|lane| lane.get() >= shared.lane_count()) {
        return Err(no_lane(shared, *lane));
    }
    if let Start::Cursors(cursors) = &request.start
        && cursors.chain != shared.chain
    {
        let (found, own) = (cursors.chain, shared.chain);
        let text = format!("the cursor is of ledger {found}, this is ledger {own}");
        return Err(ApiError::new(code::CURSOR, text));
    }
    Ok(())
}

/// The height that a feed begins after.
fn base_of(shared: &Shared, request: &FeedRequest, newest: Height) -> Result<Height, ApiError> {
    let wanted = match &request.start {
        Start::Cursors(cursors) => {
            let heights = cursors.lanes.iter().map(|cursor| cursor.certified.height);
            heights.min().unwrap_or_default()
        }
        Start::Height(height) => *height,
        Start::Time(time) => return last_before(shared, *time, newest),
        Start::End => newest,
    };
    if wanted <= newest {
        return Ok(wanted);
    }
    Err(refused(ResumeError::Behind { cursor: wanted, here: newest }))
}

/// The newest height whose header is of an earlier time.
fn last_before(shared: &Shared, time: Time, newest: Height) -> Result<Height, ApiError> {
    // Times ascend. `low` is earlier, `high` is not.
    let first = shared.reader.first_height().get();
    let (mut low, mut high) = (first.saturating_sub(1), newest.get().saturating_add(1));
    while high.saturating_sub(low) > 1 {
        let middle = low.midpoint(high);
        let (header, _) = shared.reader.header(Height::new(middle))?;
        if header.time < time {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(Height::new(low))
}

type Committed = (Header, quipu_types::CommitCertificate);

fn header_at(shared: &Shared, height: Height) -> Result<Option<Committed>, ApiError> {
    if height.get() == 0 {
        return Ok(None);
    }
    shared.reader.header(height).map(Some).map_err(ApiError::from)
}
