//! `quipu bench produce`: events a second into a ledger, over sockets, each answer final, durable and executed.
//!
//! ```text
//!  producer (own key) ─┬─ route 0 ─ sign a request's batches ─> POST ─> wait for the answer ─┐
//!                      ├─ route 1 …  each route in another lane, so that they overlap        │
//!                      └─ route 3 …  <── latency of the request ─────────────────────────────┘
//! ```
//! The ledger is one that runs, or one of the bench's own ([`Fleet`]): a process for each validator. Producers are spread
//! over the validators, each with one of them alone.
//!
//! With `--rate` a request is due when its first event is; its latency counts from then, also when it was sent late,
//! so that a ledger that falls behind shows it.
//!
//! With `--linger` a producer hands its events over one by one, to a batcher that gathers, signs and sends them; latencies
//! are those of events.
//!
//! Signing and encoding are part of what is measured; making the keys, the stream and the rows is not. A batch is one
//! transaction. Several are in flight for each producer (said in the result): those of one request share its
//! latency.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quipu_client::{Appending, Batcher, Client, Limits, NewEvent, Producer};
use quipu_crypto::SecretKey;
use quipu_proof::names::lane_of;
use quipu_types::{Action, RouteRule, Schema, StreamSpec, Value, Writers, code};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::append::failure_of;
use super::bench::{Memory, per_second, percentile};
use crate::args::Produce;
use crate::failure::{Failure, Result};
use crate::fleet::Fleet;
use crate::validator::asked_to_stop;
use crate::{sample, screen, tools};

/// The stream that events go into.
const STREAM: &str = "bench";
/// Its columns: the route that spreads a producer over lanes, and the bytes.
const SCHEMA: &str = "route text not null, data bytea not null";
/// Bytes of a route.
const ROUTE_SIZE: usize = 8;
/// Bytes of a row that are not data: bitmap, two lengths, route.
const ROW_OVERHEAD: usize = 1 + 4 + ROUTE_SIZE + 4;
/// Routes of one producer, each in another lane when there are enough.
const ROUTE_COUNT: usize = 4;

/// Events whose answers one producer waits for at most.
const PENDING_COUNT_MAX: usize = 1 << 16;
/// Seconds of a measurement whose rate is given and whose number of events is not.
const RATE_SECONDS: u64 = 10;

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Load {
    batch: usize,
    producers: usize,
    events: u64,
    size: usize,
    /// Events a second to keep to; as many as go without.
    rate: Option<u64>,
    /// Batches that a producer has in flight at most, when that was said.
    in_flight: Option<usize>,
    /// How long events that come one by one wait for company.
    linger: Option<Duration>,
    /// Whether rows are of words, and travel compressed.
    compresses: bool,
}

/// What is measured against.
#[derive(Debug)]
struct Target {
    /// One a validator.
    clients: Vec<Arc<Client>>,
    lane_count: u16,
    /// Processes whose memory is read.
    pids: Vec<u32>,
}

/// One result.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    validators: usize,
    batch: usize,
    producers: usize,
    /// Batches that a producer has in flight at most; requests, where its events come one by one.
    in_flight: usize,
    linger_ms: Option<u64>,
    compresses: bool,
    size: usize,
    events: u64,
    /// Events a second that were asked for.
    rate: Option<u64>,
    seconds: f64,
    events_per_second: f64,
    mebibytes_per_second: f64,
    p50_us: u64,
    p99_us: u64,
    /// Most anonymous memory of a validator's process while it ran, when that was started here.
    rss_anon_max_bytes: Option<u64>,
    /// The same of each validator.
    rss_anon_max_bytes_each: Vec<u64>,
}

impl Load {
    /// Routes of one producer.
    fn route_count(&self) -> usize {
        self.in_flight.map_or(ROUTE_COUNT, |count| count.min(ROUTE_COUNT))
    }

    /// Batches of one request: small ones travel together.
    fn request_batches(&self) -> usize {
        match (self.in_flight, self.batch) {
            (Some(count), _) => count.div_euclid(self.route_count()),
            (None, 0..10) => 64,
            (None, 10..500) => 8,
            (None, _) => 2,
        }
    }

    const fn default_events(batch: usize) -> u64 {
        match batch {
            0..10 => 40_000,
            10..500 => 400_000,
            _ => 800_000,
        }
    }
}

/// Measures and reports.
pub(crate) async fn run(args: Produce) -> Result<()> {
    let size_min = ROW_OVERHEAD;
    if args.size < size_min || args.size > 500_000 {
        return Err(Failure::usage(format!("--size must be {size_min} to 500000")));
    }
    tokio::select! {
        // First, so that it listens before there is anything to clean up.
        biased;
        stopped = stopped() => Err(stopped),
        result = work(&args) => result,
    }
}

async fn work(args: &Produce) -> Result<()> {
    if let Some(urls) = &args.urls {
        let urls: Vec<String> = urls.split(',').map(str::to_owned).collect();
        return measure_all(args, &urls, Vec::new(), None).await;
    }
    let mut fleet = Fleet::spawn(args.validators, args.clock_rate)?;
    match with_fleet(args, &mut fleet).await {
        Ok(()) => Ok(()),
        Err(failure) => Err(fleet.explain(failure).await),
    }
}

async fn with_fleet(args: &Produce, fleet: &mut Fleet) -> Result<()> {
    fleet.ready().await?;
    let (urls, pids, dir) = (fleet.urls(), fleet.pids(), fleet.dir().display().to_string());
    tokio::select! {
        result = measure_all(args, &urls, pids, Some(dir)) => result,
        failure = fleet.failed() => Err(failure),
    }
}

/// Appends so many events in batches of a size, each of so many bytes, through all of `urls`.
pub(crate) async fn fill(
    urls: &[String],
    (events, batch, size): (u64, usize, usize),
) -> Result<()> {
    let clients = urls.iter().map(|url| Ok(Arc::new(Client::new(url)?)));
    let clients = clients.collect::<Result<Vec<_>>>()?;
    let Some(first) = clients.first() else { return Err(Failure::usage("--url names nobody")) };
    let lane_count = prepare(first).await?;
    let producers = clients.len();
    let (rate, in_flight, linger, compresses) = (None, None, None, false);
    let load = Load { batch, producers, events, size, rate, in_flight, linger, compresses };
    check(&load)?;
    measure(&Target { clients, lane_count, pids: Vec::new() }, load).await.map(drop)
}

/// Ends when this process is asked to stop.
pub(crate) async fn stopped() -> Failure {
    match asked_to_stop().await {
        Ok(()) => Failure::new(code::STOPPING, "stopped before the measurement was done")
            .with_help("The bench's own ledger is gone; start it again."),
        Err(failure) => failure,
    }
}

async fn measure_all(
    args: &Produce,
    urls: &[String],
    pids: Vec<u32>,
    dir: Option<String>,
) -> Result<()> {
    let clients = urls.iter().map(|url| {
        let client = Client::new(url)?;
        Ok(Arc::new(if args.compress { client.with_compression(true) } else { client }))
    });
    let clients = clients.collect::<Result<Vec<_>>>()?;
    let Some(first) = clients.first() else { return Err(Failure::usage("--url names nobody")) };
    let lane_count = prepare(first).await?;
    let batches = args.batch.map_or_else(|| vec![1, 100, 1_000], |batch| vec![batch]);
    let default_producers = vec![clients.len(), clients.len().saturating_mul(4)];
    let producers = args.producers.map_or(default_producers, |count| vec![count]);
    let target = Target { clients, lane_count, pids };
    let mut results = Vec::new();
    for batch in batches {
        for producers in &producers {
            let default_events = match args.rate {
                Some(rate) => rate.saturating_mul(RATE_SECONDS),
                None => Load::default_events(batch),
            };
            let events = args.events.unwrap_or(default_events);
            let (producers, size, rate) = (*producers, args.size, args.rate);
            let linger = args.linger.map(Duration::from_millis);
            let compresses = args.compress;
            let in_flight = args.in_flight.and_then(|count| usize::try_from(count).ok());
            let load = Load { batch, producers, events, size, rate, in_flight, linger, compresses };
            check(&load)?;
            let measured = measure(&target, load).await?;
            if !args.json {
                show(&measured, results.is_empty())?;
            }
            results.push(measured);
        }
    }
    if args.json {
        let object = serde_json::json!({
            "bench": "produce",
            "own_server": dir.is_some(),
            "validators": target.clients.len(),
            "dir": dir,
            "durable": true,
            "build": if cfg!(debug_assertions) { "dev" } else { "release" },
            "results": results,
        });
        tools::print(&object.to_string())?;
    }
    Ok(())
}

fn check(load: &Load) -> Result<()> {
    if load.batch == 0 || load.producers == 0 || load.events == 0 {
        return Err(Failure::usage("--batch, --producers and --events are at least 1"));
    }
    let bytes = load.batch.saturating_mul(load.size.saturating_add(32));
    if bytes > quipu_types::transaction::TRANSACTION_SIZE_MAX.saturating_sub(1_024) {
        return Err(Failure::usage(format!(
            "--batch {} of {} bytes is more than a transaction holds",
            load.batch, load.size
        )));
    }
    Ok(())
}

/// Makes the stream unless it is there; gives the number of lanes.
async fn prepare(client: &Client) -> Result<u16> {
    let genesis: quipu_types::Genesis = client.get("/v1/genesis").await?;
    if !sample::has_stream(client, STREAM).await? {
        let key = SecretKey::generate();
        let spec = StreamSpec {
            name: STREAM.into(),
            schema: Schema::parse(SCHEMA)?,
            route: RouteRule::Column("route".into()),
            writers: Writers::Anyone,
            compacted: false,
        };
        let mut producer = Producer::new(client, &key).await?;
        let answer = producer.submit(None, vec![Action::CreateStream(spec)]).await?;
        if let Some(failure) = tools::refusal(&answer) {
            return Err(failure);
        }
    }
    Ok(genesis.lane_count)
}

async fn measure(target: &Target, load: Load) -> Result<Measured> {
    let bar = screen::bar("appending", load.events);
    let left = Arc::new(AtomicU64::new(load.events));
    let mut running: JoinSet<Result<Vec<u64>>> = JoinSet::new();
    let mut workers = Vec::new();
    for (producer, client) in (0..load.producers).zip(target.clients.iter().cycle()) {
        let key = Arc::new(SecretKey::generate());
        let own = Own { client: Arc::clone(client), key, load, bar: bar.clone() };
        let mut routes = routes(target.lane_count, producer);
        routes.truncate(load.route_count());
        workers.push(match load.linger {
            Some(linger) => {
                vec![Worker::Batching(Batching::new(own, &routes, producer, linger).await?)]
            }
            None => {
                let batches = |route: String| {
                    let actions = row_actions(&route, load)?;
                    let left = Arc::clone(&left);
                    Ok(Worker::Prepared(Prepared {
                        own: own.clone(),
                        route: route.into_bytes(),
                        actions,
                        left,
                    }))
                };
                routes.into_iter().map(batches).collect::<Result<Vec<_>>>()?
            }
        });
    }
    let memory = Memory::watch(&target.pids);
    let start = Instant::now();
    // Dropped when one fails: then all end.
    for worker in workers.into_iter().flatten() {
        running.spawn(worker.run(start));
    }
    let mut latencies = Vec::new();
    while let Some(part) = running.join_next().await {
        latencies.extend(part.map_err(|error| Failure::new(code::UNREACHABLE, error))??);
    }
    let seconds = start.elapsed().as_secs_f64();
    let memory = memory.maxima();
    bar.finish_and_clear();
    latencies.sort_unstable();
    let events: u64 = load.events;
    Ok(Measured {
        validators: target.clients.len(),
        batch: load.batch,
        producers: load.producers,
        in_flight: match load.linger {
            Some(_) => Limits::default().in_flight_count.saturating_mul(ROUTE_COUNT),
            None => load.request_batches().saturating_mul(load.route_count()),
        },
        linger_ms: load.linger.and_then(|linger| u64::try_from(linger.as_millis()).ok()),
        compresses: load.compresses,
        size: load.size,
        events,
        rate: load.rate,
        seconds,
        events_per_second: per_second(events, seconds),
        mebibytes_per_second: per_second(events, seconds)
            * per_second(u64::try_from(load.size).unwrap_or(0), 1_048_576.0),
        p50_us: percentile(&latencies, 50),
        p99_us: percentile(&latencies, 99),
        rss_anon_max_bytes: memory.iter().max().copied(),
        rss_anon_max_bytes_each: memory,
    })
}

/// Routes that lead to different lanes, beginning at another lane for each producer.
fn routes(lane_count: u16, producer: usize) -> Vec<String> {
    let mut by_lane = BTreeMap::new();
    for number in 0..10_000_u32 {
        let route = format!("{:0ROUTE_SIZE$}", number);
        by_lane.entry(lane_of(route.as_bytes(), lane_count)).or_insert(route);
        if by_lane.len() == usize::from(lane_count) {
            break;
        }
    }
    let skip = producer.saturating_mul(ROUTE_COUNT);
    by_lane
        .into_values()
        .collect::<Vec<_>>()
        .into_iter()
        .cycle()
        .skip(skip)
        .take(ROUTE_COUNT)
        .collect()
}

/// Words, for rows that compress as text does.
const WORDS: &[&str] = &[
    "account ",
    "amount ",
    "because ",
    "closed ",
    "cord ",
    "delivery ",
    "east ",
    "from ",
    "knot ",
    "ledger ",
    "order ",
    "paid ",
    "quantity ",
    "received ",
    "sent ",
    "signed ",
    "the ",
    "to ",
];

/// Bytes that nothing makes smaller, or that many words make.
fn filler(state: &mut u64, size: usize, is_words: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size.saturating_add(16));
    while bytes.len() < size {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        let index = usize::from(state.to_le_bytes()[0]).checked_rem(WORDS.len());
        match index.and_then(|index| WORDS.get(index)) {
            Some(word) if is_words => bytes.extend_from_slice(word.as_bytes()),
            _ => bytes.push(state.to_le_bytes()[0]),
        }
    }
    bytes.truncate(size);
    bytes
}

/// The rows of one batch.
fn row_actions(route: &str, load: Load) -> Result<Vec<Action>> {
    let schema = Schema::parse(SCHEMA)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..load.batch)
        .map(|_| {
            let size = load.size.saturating_sub(ROW_OVERHEAD);
            let data = filler(&mut state, size, load.compresses);
            let row = [Value::Text(route.into()), Value::Bytea(data)];
            let payload = schema.encode_row(&row)?;
            Ok(Action::Append { stream: STREAM.into(), key: Vec::new(), payload })
        })
        .collect()
}

/// What every worker has.
#[derive(Clone)]
struct Own {
    client: Arc<Client>,
    key: Arc<SecretKey>,
    load: Load,
    bar: indicatif::ProgressBar,
}

/// Whoever appends.
enum Worker {
    Prepared(Prepared),
    Batching(Batching),
}

impl Worker {
    /// Appends its share; gives microseconds, once a batch or an event.
    async fn run(self, begin: Instant) -> Result<Vec<u64>> {
        match self {
            Self::Prepared(worker) => worker.run(begin).await,
            Self::Batching(worker) => worker.run(begin).await,
        }
    }
}

/// A producer whose events come one by one.
struct Batching {
    own: Own,
    batcher: Batcher,
    /// A batch's rows of each of its routes.
    rows: Vec<Vec<Action>>,
    /// Number of its first event; those of other producers lie between.
    first: u64,
}

impl Batching {
    async fn new(own: Own, routes: &[String], producer: usize, linger: Duration) -> Result<Self> {
        let limits = Limits { batch_count: own.load.batch, linger, ..Limits::default() };
        let batcher = Batcher::new(Arc::clone(&own.client), Arc::clone(&own.key), limits).await?;
        let rows = routes.iter().map(|route| row_actions(route, own.load));
        let rows = rows.collect::<Result<Vec<_>>>()?;
        Ok(Self { own, batcher, rows, first: u64::try_from(producer).unwrap_or(u64::MAX) })
    }

    async fn run(self, begin: Instant) -> Result<Vec<u64>> {
        let (sender, answers) = mpsc::channel(PENDING_COUNT_MAX);
        let collecting = tokio::spawn(collect(answers, self.own.bar.clone()));
        let step = self.own.load.producers;
        let numbers = (self.first..self.own.load.events).step_by(step);
        let rows = self.rows.iter().flatten().cycle();
        for (number, action) in numbers.zip(rows) {
            let start = match self.own.load.rate.and_then(|rate| due(begin, number, rate)) {
                Some(due) => {
                    if due > Instant::now() {
                        tokio::time::sleep_until(due.into()).await;
                    }
                    due
                }
                None => Instant::now(),
            };
            let Action::Append { stream, key, payload } = action else { continue };
            let event = NewEvent { key: key.clone(), payload: payload.clone() };
            let appending = self.batcher.send(stream, event).await.map_err(failure_of)?;
            if sender.send((start, appending)).await.is_err() {
                break;
            }
        }
        drop(sender);
        self.batcher.flush().await.map_err(failure_of)?;
        collecting.await.map_err(|error| Failure::new(code::UNREACHABLE, error))?
    }
}

/// Waits for answers in the order of their events.
async fn collect(
    mut answers: mpsc::Receiver<(Instant, Appending)>,
    bar: indicatif::ProgressBar,
) -> Result<Vec<u64>> {
    let mut latencies = Vec::new();
    while let Some((start, appending)) = answers.recv().await {
        appending.await.map_err(failure_of)?;
        latencies.push(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
        bar.inc(1);
    }
    Ok(latencies)
}

/// One route of one producer whose batches were made before.
struct Prepared {
    own: Own,
    route: Vec<u8>,
    actions: Vec<Action>,
    left: Arc<AtomicU64>,
}

impl Prepared {
    /// Sends requests until all events are appended; gives each request's microseconds, once a batch.
    async fn run(self, begin: Instant) -> Result<Vec<u64>> {
        let mut producer = Producer::new(&self.own.client, &self.own.key).await?;
        let mut latencies = Vec::new();
        loop {
            let (offset, sizes) = self.take();
            if sizes.is_empty() {
                return Ok(latencies);
            }
            let start = match self.own.load.rate.and_then(|rate| due(begin, offset, rate)) {
                Some(due) => {
                    tokio::time::sleep_until(due.into()).await;
                    due
                }
                None => Instant::now(),
            };
            let mut transactions: Vec<Bytes> = Vec::with_capacity(sizes.len());
            for size in &sizes {
                let actions = self.actions.get(..*size).unwrap_or(&self.actions);
                transactions.push(producer.sign(Some(&self.route), actions).await?);
            }
            let answers = self.own.client.submit_until_final(&transactions).await?;
            let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            for (answer, size) in answers.iter().zip(&sizes) {
                if let Some(failure) = tools::refusal(answer) {
                    return Err(failure);
                }
                latencies.push(micros);
                self.own.bar.inc(u64::try_from(*size).unwrap_or(u64::MAX));
            }
        }
    }

    /// Takes a request's share of the events that are left: the number of its first, the sizes of its batches.
    fn take(&self) -> (u64, Vec<usize>) {
        let batch = u64::try_from(self.own.load.batch).unwrap_or(u64::MAX);
        let count = u64::try_from(self.own.load.request_batches()).unwrap_or(u64::MAX);
        // At once, so that a request's events are neighbours, and due when their numbers say.
        let share = batch.saturating_mul(count);
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            (left > 0).then(|| left.saturating_sub(share))
        });
        let Ok(left) = taken else { return (0, Vec::new()) };
        let mut rest = left.min(share);
        let mut sizes = Vec::new();
        while rest > 0 {
            let size = rest.min(batch);
            sizes.push(usize::try_from(size).unwrap_or(usize::MAX));
            rest = rest.saturating_sub(size);
        }
        (self.own.load.events.saturating_sub(left), sizes)
    }
}

/// When event number `offset` is due; none when that is further than clocks go.
fn due(begin: Instant, offset: u64, rate: u64) -> Option<Instant> {
    let micros = u128::from(offset).saturating_mul(1_000_000).checked_div(u128::from(rate))?;
    begin.checked_add(Duration::from_micros(u64::try_from(micros).ok()?))
}

fn show(measured: &Measured, first: bool) -> Result<()> {
    if first {
        tools::print(&screen::bold(
            "validators   batch  producers  in flight     events/s    MiB/s   p50 µs   p99 µs  anon MiB",
        ))?;
    }
    tools::print(&format!(
        "{:>10}  {:>6}  {:>9}  {:>9}  {:>11.0}  {:>7.1}  {:>7}  {:>7}  {:>8}",
        measured.validators,
        measured.batch,
        measured.producers,
        measured.in_flight,
        measured.events_per_second,
        measured.mebibytes_per_second,
        measured.p50_us,
        measured.p99_us,
        measured.rss_anon_max_bytes.map_or_else(|| "-".into(), |bytes| (bytes >> 20).to_string()),
    ))
}
