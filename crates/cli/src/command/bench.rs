//! `quipu bench ingest`: events a second into a ledger, over sockets, each answer final, durable and executed.
//!
//! ```text
//!  producer (own key) ─┬─ route 0 ─ sign a request's batches ─> POST ─> wait for the answer ─┐
//!                      ├─ route 1 …  each route in another lane, so that they overlap        │
//!                      └─ route 3 …  <── latency of the request ─────────────────────────────┘
//! ```
//! Signing and encoding are part of what is measured; making the keys, the stream and the rows is not. A batch is one
//! transaction. Several are in flight for each producer (said in the result): those of one request share its
//! latency.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quipu_client::{Client, Producer};
use quipu_crypto::SecretKey;
use quipu_proof::names::lane_of;
use quipu_types::{Action, Encode, RouteRule, Schema, StreamSpec, Value, Writers, code};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::dev::Urls;
use crate::args::Ingest;
use crate::failure::{Failure, Result};
use crate::{local, sample, screen, tools};

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
/// How often the server's memory is read.
const MEMORY_INTERVAL: Duration = Duration::from_millis(100);

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Load {
    batch: usize,
    producers: usize,
    events: u64,
    size: usize,
}

/// One result.
#[derive(Clone, Debug, Serialize)]
struct Measured {
    batch: usize,
    producers: usize,
    /// Batches that a producer has in flight at most.
    in_flight: usize,
    size: usize,
    events: u64,
    seconds: f64,
    events_per_second: f64,
    mebibytes_per_second: f64,
    p50_us: u64,
    p99_us: u64,
    /// Most anonymous memory of the validator's process while it ran, when that was started here.
    rss_anon_max_bytes: Option<u64>,
}

impl Load {
    /// Batches of one request: small ones travel together.
    const fn request_batches(&self) -> usize {
        match self.batch {
            0..10 => 64,
            10..500 => 8,
            _ => 2,
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
pub(crate) async fn run(args: Ingest) -> Result<()> {
    local::check_validators(args.validators)?;
    let size_min = ROW_OVERHEAD;
    if args.size < size_min || args.size > 500_000 {
        return Err(Failure::usage(format!("--size must be {size_min} to 500000")));
    }
    let batches = args.batch.map_or_else(|| vec![1, 100, 1_000], |batch| vec![batch]);
    let producers = args.producers.map_or_else(|| vec![1, 4], |count| vec![count]);
    let server = match &args.urls {
        Some(_) => None,
        None => Some(OwnServer::start().await?),
    };
    let urls = match (&args.urls, &server) {
        (Some(urls), _) => urls.clone(),
        (None, Some(server)) => server.urls.http.clone(),
        (None, None) => String::new(),
    };
    let client = Arc::new(Client::new(&urls)?);
    let lane_count = prepare(&client).await?;
    let mut results = Vec::new();
    for batch in batches {
        for producers in &producers {
            let events = args.events.unwrap_or_else(|| Load::default_events(batch));
            let load = Load { batch, producers: *producers, events, size: args.size };
            check(&load)?;
            let pid = server.as_ref().and_then(|server| server.child.id());
            let measured = measure(&client, load, lane_count, pid).await?;
            if !args.json {
                show(&measured, results.is_empty())?;
            }
            results.push(measured);
        }
    }
    if args.json {
        let object = serde_json::json!({
            "bench": "ingest",
            "own_server": server.is_some(),
            "dir": server.as_ref().map(|server| server.urls.dir.clone()),
            "durable": true,
            "build": if cfg!(debug_assertions) { "dev" } else { "release" },
            "results": results,
        });
        tools::print(&object.to_string())?;
    }
    if let Some(server) = server {
        server.stop().await;
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
        };
        let mut producer = Producer::new(client, &key).await?;
        let answer = producer.submit(None, vec![Action::CreateStream(spec)]).await?;
        if let Some(failure) = tools::refusal(&answer) {
            return Err(failure);
        }
    }
    Ok(genesis.lane_count)
}

async fn measure(
    client: &Arc<Client>,
    load: Load,
    lane_count: u16,
    pid: Option<u32>,
) -> Result<Measured> {
    let bar = screen::bar("appending", load.events);
    let left = Arc::new(AtomicU64::new(load.events));
    let mut workers = Vec::new();
    for producer in 0..load.producers {
        let key = Arc::new(SecretKey::generate());
        for route in routes(lane_count, producer) {
            let worker = Worker {
                client: Arc::clone(client),
                key: Arc::clone(&key),
                actions: row_actions(&route, load)?,
                route: route.into_bytes(),
                left: Arc::clone(&left),
                load,
                bar: bar.clone(),
            };
            workers.push(worker);
        }
    }
    let memory = tokio::spawn(watch_memory(pid));
    let start = Instant::now();
    let running: Vec<_> = workers.into_iter().map(|worker| tokio::spawn(worker.run())).collect();
    let mut latencies = Vec::new();
    for worker in running {
        let part = worker.await.map_err(|error| Failure::new(code::UNREACHABLE, error))??;
        latencies.extend(part);
    }
    let seconds = start.elapsed().as_secs_f64();
    memory.abort();
    let rss_anon_max_bytes = MEMORY_MAX.swap(0, Ordering::Relaxed);
    bar.finish_and_clear();
    latencies.sort_unstable();
    let events: u64 = load.events;
    Ok(Measured {
        batch: load.batch,
        producers: load.producers,
        in_flight: load.request_batches().saturating_mul(ROUTE_COUNT),
        size: load.size,
        events,
        seconds,
        events_per_second: per_second(events, seconds),
        mebibytes_per_second: per_second(events, seconds)
            * per_second(u64::try_from(load.size).unwrap_or(0), 1_048_576.0),
        p50_us: percentile(&latencies, 50),
        p99_us: percentile(&latencies, 99),
        rss_anon_max_bytes: pid.map(|_| rss_anon_max_bytes),
    })
}

/// Most anonymous memory seen since the last measurement.
static MEMORY_MAX: AtomicU64 = AtomicU64::new(0);

async fn watch_memory(pid: Option<u32>) {
    let Some(pid) = pid else { return };
    let mut ticks = tokio::time::interval(MEMORY_INTERVAL);
    loop {
        ticks.tick().await;
        MEMORY_MAX.fetch_max(anonymous_memory(pid), Ordering::Relaxed);
    }
}

/// `RssAnon` of a process, in bytes; 0 when it can not be read.
fn anonymous_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0).saturating_mul(1_024)
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a rate of far less than 2^53"
)]
fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let index = sorted.len().saturating_sub(1).saturating_mul(percent) / 100;
    sorted.get(index).copied().unwrap_or(0)
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

/// The rows of one batch; the bytes are random, so that nothing compresses.
fn row_actions(route: &str, load: Load) -> Result<Vec<Action>> {
    let schema = Schema::parse(SCHEMA)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..load.batch)
        .map(|_| {
            let data = (0..load.size.saturating_sub(ROW_OVERHEAD))
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state.to_le_bytes()[0]
                })
                .collect();
            let row = [Value::Text(route.into()), Value::Bytea(data)];
            let payload = schema.encode_row(&row)?;
            Ok(Action::Append { stream: STREAM.into(), key: Vec::new(), payload })
        })
        .collect()
}

/// One route of one producer.
struct Worker {
    client: Arc<Client>,
    key: Arc<SecretKey>,
    route: Vec<u8>,
    actions: Vec<Action>,
    left: Arc<AtomicU64>,
    load: Load,
    bar: indicatif::ProgressBar,
}

impl Worker {
    /// Sends requests until all events are appended; gives each request's microseconds, once a batch.
    async fn run(self) -> Result<Vec<u64>> {
        let mut producer = Producer::new(&self.client, &self.key).await?;
        let mut latencies = Vec::new();
        loop {
            let sizes = self.take();
            if sizes.is_empty() {
                return Ok(latencies);
            }
            let start = Instant::now();
            let mut transactions: Vec<Bytes> = Vec::with_capacity(sizes.len());
            for size in &sizes {
                let actions = self.actions.get(..*size).unwrap_or(&self.actions).to_vec();
                let signed = producer.sign(Some(self.route.clone()), actions).await?;
                transactions.push(signed.to_bytes().into());
            }
            let answers = self.client.submit_until_final(&transactions).await?;
            let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            for (answer, size) in answers.iter().zip(&sizes) {
                if let Some(failure) = tools::refusal(answer) {
                    return Err(failure);
                }
                latencies.push(micros);
                self.bar.inc(u64::try_from(*size).unwrap_or(u64::MAX));
            }
        }
    }

    /// Takes a request's share of the events that are left: the sizes of its batches.
    fn take(&self) -> Vec<usize> {
        let batch = u64::try_from(self.load.batch).unwrap_or(u64::MAX);
        let mut sizes = Vec::new();
        while sizes.len() < self.load.request_batches() {
            let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                (left > 0).then(|| left.saturating_sub(batch))
            });
            let Ok(left) = taken else { break };
            sizes.push(usize::try_from(left.min(batch)).unwrap_or(usize::MAX));
        }
        sizes
    }
}

fn show(measured: &Measured, first: bool) -> Result<()> {
    if first {
        tools::print(&screen::bold(
            " batch  producers  in flight     events/s    MiB/s   p50 µs   p99 µs  anon MiB",
        ))?;
    }
    tools::print(&format!(
        "{:>6}  {:>9}  {:>9}  {:>11.0}  {:>7.1}  {:>7}  {:>7}  {:>8}",
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

/// A ledger of the bench's own: this binary as another process, in a directory that is removed at the end.
struct OwnServer {
    child: Child,
    urls: Urls,
    dir: PathBuf,
}

impl OwnServer {
    async fn start() -> Result<Self> {
        let program = std::env::current_exe()?;
        let dir = std::env::temp_dir().join(format!("quipu-bench-{}", std::process::id()));
        std::fs::create_dir(&dir).map_err(|error| Failure::file("cannot make", &dir, error))?;
        let url_file = dir.join("urls.json");
        let mut child = Command::new(program)
            .args(["dev", "--no-sample", "--pg", "0", "--http", "0"])
            .arg("--dir")
            .arg(dir.join("ledger"))
            .arg("--url-file")
            .arg(&url_file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()?;
        let urls = wait_until_ready(&mut child, &url_file).await?;
        Ok(Self { child, urls, dir })
    }

    async fn stop(mut self) {
        drop(self.child.kill().await);
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

async fn wait_until_ready(child: &mut Child, url_file: &Path) -> Result<Urls> {
    let ended = || Failure::new(code::UNREACHABLE, "the bench's own ledger did not start");
    let mut lines = BufReader::new(child.stdout.take().ok_or_else(ended)?).lines();
    while let Some(line) = lines.next_line().await? {
        if line.starts_with("ready") {
            let text = std::fs::read_to_string(url_file)?;
            // What the ledger prints later is read and dropped, so that it never waits for a reader.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return serde_json::from_str(&text).map_err(|_| ended());
        }
    }
    Err(ended())
}
