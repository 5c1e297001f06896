//! `quipu bench consume` and `quipu bench resume`: how fast a consumer that checks everything reads, and how soon it goes on.
//!
//! ```text
//!  own ledger ─ fill ─┬─ replay: all lanes from the first height, every byte checked ─> events/s, and a second of its processor
//!                     ├─ live: N consumers follow while as many events come again ─> events/s given to all of them
//!                     ├─ idle: N consumers wait at the end ─> memory of the validator
//!                     └─ resume: from N places, until the first height is told ─> µs
//! ```
//! Bound of a replay: the SHA-256 of each action (its leaf in the actions' tree), the BLAKE3 of its bytes, and decoding; one core.

use std::time::{Duration, Instant};

use quipu_client::{Client, Consumer};
use quipu_proof::feed::Told;
use quipu_types::Genesis;
use quipu_types::cursor::{Cursors, Mode, Start};
use tokio::task::JoinSet;

use super::bench::{anonymous_memory, per_second, percentile};
use super::bench_produce::{fill, stopped};
use crate::args::{Consume, Resume};
use crate::failure::{Failure, Result};
use crate::fleet::Fleet;
use crate::local::CLOCK_RATE_HZ;
use crate::tools;

/// A filled ledger of the bench's own.
struct Filled {
    fleet: Fleet,
    urls: String,
    genesis: Genesis,
}

impl Filled {
    async fn new(validators: usize, load: (u64, usize, usize)) -> Result<Self> {
        let mut fleet = Fleet::spawn(validators, CLOCK_RATE_HZ)?;
        fleet.ready().await?;
        let urls = fleet.urls();
        let genesis = genesis(&urls).await?;
        fill(&urls, load).await?;
        Ok(Self { fleet, urls: urls.join(","), genesis })
    }

    /// One that reads all lanes.
    fn consumer(&self) -> Result<Consumer> {
        Ok(Consumer::new(&self.urls, self.genesis.clone(), &[], Mode::Certified)?)
    }
}

/// The genesis of the bench's own ledger: nobody else has it.
async fn genesis(urls: &[String]) -> Result<Genesis> {
    let first = urls.first().ok_or_else(|| Failure::usage("there is no validator"))?;
    Ok(Client::new(first)?.get("/v1/genesis").await?)
}

/// Measures and reports.
pub(crate) async fn consume(args: Consume) -> Result<()> {
    tokio::select! {
        biased;
        stopped = stopped() => Err(stopped),
        result = measure_consume(&args) => result,
    }
}

/// The same of resumed cursors.
pub(crate) async fn resume(args: Resume) -> Result<()> {
    tokio::select! {
        biased;
        stopped = stopped() => Err(stopped),
        result = measure_resume(&args) => result,
    }
}

async fn measure_consume(args: &Consume) -> Result<()> {
    let load = (args.events, args.batch, args.size);
    let filled = Filled::new(args.validators, load).await?;
    let mut lines = Vec::new();
    let (began, cpu) = (Instant::now(), own_cpu());
    let mut consumer = filled.consumer()?.ending();
    let mut events = 0_u64;
    while let Some(told) = consumer.next().await? {
        events = events.saturating_add(count(&told));
    }
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), own_cpu().saturating_sub(cpu));
    lines.push(line("replay, checked", events, seconds, Some(cpu)));
    if args.consumers > 0 {
        lines.push(live(&filled, args).await?);
    }
    if args.idle > 0 {
        lines.push(idle(&filled, args.idle).await?);
    }
    report(args.json, "consume", args.validators, &lines)
}

/// Many follow while events come.
async fn live(filled: &Filled, args: &Consume) -> Result<serde_json::Value> {
    let wanted = args.events;
    let mut running: JoinSet<Result<u64>> = JoinSet::new();
    for _ in 0..args.consumers {
        let mut consumer = filled.consumer()?.starting(Start::End);
        running.spawn(async move {
            let mut events = 0_u64;
            while events < wanted {
                let Some(told) = consumer.next().await? else { break };
                events = events.saturating_add(count(&told));
            }
            Ok(events)
        });
    }
    let began = Instant::now();
    let urls: Vec<String> = filled.urls.split(',').map(str::to_owned).collect();
    fill(&urls, (wanted, args.batch, args.size)).await?;
    let mut events = 0_u64;
    while let Some(done) = running.join_next().await {
        events = events.saturating_add(done.map_err(Failure::usage)??);
    }
    let what = format!("live, {} consumers, given to all", args.consumers);
    Ok(line(&what, events, began.elapsed().as_secs_f64(), None))
}

/// Many wait at the end.
async fn idle(filled: &Filled, idle: usize) -> Result<serde_json::Value> {
    let memory = || filled.fleet.pids().first().map_or(0, |pid| anonymous_memory(*pid));
    let before = memory();
    let mut waiting = Vec::new();
    for _ in 0..idle {
        let mut consumer = filled.consumer()?.starting(Start::End);
        consumer.next().await?;
        waiting.push(consumer);
    }
    let after = memory();
    drop(waiting);
    Ok(serde_json::json!({
        "what": format!("idle, {idle} consumers: growth of the first validator"),
        "bytes": after.saturating_sub(before),
    }))
}

async fn measure_resume(args: &Resume) -> Result<()> {
    let filled = Filled::new(args.validators, (args.events, args.batch, 200)).await?;
    let mut places: Vec<Cursors> = Vec::new();
    let mut consumer = filled.consumer()?.ending();
    while let Some(told) = consumer.next().await? {
        if let Told::Snapshot(snapshot) = &told {
            places.push(Cursors::clone(&snapshot.cursors));
        }
    }
    // The last one has nothing to go on with.
    places.pop();
    let mut micros = Vec::new();
    for place in places.iter().cycle().step_by(7).take(args.times) {
        let began = Instant::now();
        let mut consumer = filled.consumer()?.starting(Start::Cursors(place.clone()));
        while !matches!(consumer.next().await?, Some(Told::Snapshot(_)) | None) {}
        micros.push(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    micros.sort_unstable();
    let line = serde_json::json!({
        "what": "resume all lanes, connect to first height",
        "times": micros.len(),
        "p50_us": percentile(&micros, 50),
        "p99_us": percentile(&micros, 99),
    });
    report(args.json, "resume", args.validators, &[line])
}

/// Events that were applied.
fn count(told: &Told) -> u64 {
    let Told::Snapshot(snapshot) = told else { return 0 };
    let transactions = snapshot.lanes.iter().flat_map(|batch| batch.with_receipts());
    let events = transactions.map(|(ordered, _)| ordered.undecoded().events().count());
    u64::try_from(events.sum::<usize>()).unwrap_or(u64::MAX)
}

fn line(what: &str, events: u64, seconds: f64, cpu: Option<Duration>) -> serde_json::Value {
    serde_json::json!({
        "what": what,
        "events": events,
        "seconds": seconds,
        "events_per_second": per_second(events, seconds).round(),
        "events_per_processor_second": cpu.map(|cpu| per_second(events, cpu.as_secs_f64()).round()),
    })
}

fn report(json: bool, bench: &str, validators: usize, lines: &[serde_json::Value]) -> Result<()> {
    if json {
        let object = serde_json::json!({
            "bench": bench,
            "validators": validators,
            "build": if cfg!(debug_assertions) { "dev" } else { "release" },
            "results": lines,
        });
        return tools::print(&object.to_string());
    }
    for line in lines {
        let Some(members) = line.as_object() else { continue };
        let rest = members.iter().filter(|(name, value)| *name != "what" && !value.is_null());
        let rest: Vec<String> = rest.map(|(name, value)| format!("{name} {value}")).collect();
        let what = members.get("what").and_then(serde_json::Value::as_str).unwrap_or_default();
        tools::print(&format!("{what}: {}", rest.join("  ")))?;
    }
    Ok(())
}

/// Processor time of this process so far, in steps of 10 ms: what Linux tells every process; zero elsewhere.
fn own_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold anything; 12 and 13 fields after it stand user and system time.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks.saturating_mul(10))
}
