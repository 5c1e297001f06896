//! Four validators as processes, clients that append through all of them, and what must hold in the end.
//!
//! ```text
//!  node0 … node3   quipu start, killed and started again by the test
//!  home0 … home3   a client of one validator alone: what it waits for is that validator's stop
//!  away0, away1    a client of all: goes on at the next validator, with the same bytes
//! ```
//! A request holds a transaction for each of a client's routes, and the next is sent when all are answered: a lane that
//! stops, stops the client.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quipu_client::{Client, Producer, Status, SubmitAnswer};
use quipu_crypto::SecretKey;
use quipu_types::{Action, Schema, Value};
use serde_json::Value as Json;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::{Ledger, Server, ok, program, psql, quipu};

/// Validators.
pub(crate) const COUNT: usize = 4;
/// How long something that must happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Clients of all validators.
const AWAY_COUNT: usize = 2;
/// Routes of a client, which lead to several lanes.
const ROUTE_COUNT: usize = 5;
/// Pause before a validator that does not answer is asked again.
const PAUSE: Duration = Duration::from_millis(5);
/// Requests of a client after which it anchors its transactions anew.
const ANCHOR_COUNT: u64 = 20;
/// Lines of a validator's log that a failed test shows.
const LOG_LINE_COUNT: usize = 20;
pub(crate) const SCHEMA: &str = "who text not null, n int8 not null";

/// Asks until the answer is good.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited too long: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Lets others work before something is asked again.
async fn pause() {
    drop(tokio::time::timeout(PAUSE, std::future::pending::<()>()).await);
}

/// The validators.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) ledger: Ledger,
    pub(crate) runtime: Runtime,
    servers: Vec<Option<Server>>,
    urls: Vec<String>,
}

impl Fleet {
    /// Four that run, and are linked.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same after `prepare` has changed the new ledger's files.
    pub(crate) fn with(prepare: impl FnOnce(&Ledger)) -> Self {
        let ledger = Ledger::of(COUNT);
        prepare(&ledger);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let servers = (0..COUNT).map(|_| None).collect();
        let mut fleet = Self { ledger, runtime, servers, urls: Vec::new() };
        fleet.start_all();
        fleet.urls = fleet.servers.iter().flatten().map(|server| server.http.clone()).collect();
        fleet.until_linked();
        fleet
    }

    /// Four, each on a wall clock that is ahead or behind by so much, as `faketime` reads it.
    pub(crate) fn skewed(skews: &[&str; COUNT]) -> Self {
        let mut fleet = Self::with(|_| {});
        for (index, skew) in skews.iter().enumerate() {
            fleet.stop(index);
            let (dir, log) = (fleet.dir(index), fleet.log(index));
            fleet.servers[index] = Some(Server::start_skewed(&dir, &log, skew));
            fleet.urls[index] = fleet.server(index).http.clone();
        }
        fleet.until_linked();
        fleet
    }

    /// Sends a signal to a validator's process.
    pub(crate) fn signal(&self, index: usize, signal: &str) {
        self.server(index).signal(signal);
    }

    pub(crate) fn dir(&self, index: usize) -> PathBuf {
        self.ledger.path(&format!("l/node{index}"))
    }

    /// What a validator logs, over all its starts.
    fn log(&self, index: usize) -> PathBuf {
        self.ledger.path(&format!("node{index}.log"))
    }

    pub(crate) fn url(&self, index: usize) -> &str {
        &self.urls[index]
    }

    /// All addresses.
    pub(crate) fn all_urls(&self) -> String {
        self.urls.join(",")
    }

    pub(crate) fn server(&self, index: usize) -> &Server {
        self.servers[index].as_ref().unwrap()
    }

    pub(crate) fn start(&mut self, index: usize) {
        assert!(self.servers[index].is_none(), "node{index} runs");
        self.servers[index] = Some(Server::start_logged(&self.dir(index), &self.log(index)));
    }

    /// Starts those that do not run, at once.
    pub(crate) fn start_all(&mut self) {
        let paths: Vec<(PathBuf, PathBuf)> =
            (0..COUNT).map(|index| (self.dir(index), self.log(index))).collect();
        std::thread::scope(|scope| {
            for (server, (dir, log)) in self.servers.iter_mut().zip(&paths) {
                if server.is_none() {
                    scope.spawn(|| *server = Some(Server::start_logged(dir, log)));
                }
            }
        });
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, index: usize) {
        self.servers[index].take().unwrap().kill();
    }

    /// SIGTERM; gives how long it took to end.
    pub(crate) fn stop(&mut self, index: usize) -> Duration {
        let start = Instant::now();
        self.servers[index].take().unwrap().stop();
        start.elapsed()
    }

    pub(crate) fn status(&self, index: usize) -> Status {
        let client = Client::new(&self.server(index).http).unwrap();
        self.runtime.block_on(client.status()).unwrap()
    }

    pub(crate) fn height(&self, index: usize) -> u64 {
        self.status(index).height
    }

    fn running(&self) -> Vec<usize> {
        (0..COUNT).filter(|index| self.servers[*index].is_some()).collect()
    }

    /// Waits until all that run reach each other.
    pub(crate) fn until_linked(&self) {
        let running = self.running();
        for index in &running {
            until("links", || {
                let quorum = self.status(*index).rest["quorum"].clone();
                quorum["power_reachable"].as_u64() == u64::try_from(running.len()).ok()
            });
        }
    }

    /// Waits until a validator is where the others are now.
    pub(crate) fn until_caught_up(&self, index: usize) {
        let others = self.running().into_iter().filter(|other| *other != index);
        let height = others.map(|other| self.height(other)).max().unwrap();
        until("a validator catches up", || self.height(index) >= height);
    }

    /// Waits until an observer has found the height from which on it signs, and is past it; gives that height.
    pub(crate) fn until_signs(&self, index: usize) -> u64 {
        let mark = self.dir(index).join("observer");
        let threshold = || std::fs::read_to_string(&mark).ok()?.trim().parse::<u64>().ok();
        until("the height from which on it signs", || threshold().is_some());
        let threshold = threshold().unwrap();
        until("its threshold", || self.height(index) > threshold);
        threshold
    }

    pub(crate) fn create_stream(&self) {
        self.ledger.create_stream(self.server(0), "load", SCHEMA, &["--route-by", "who"]);
    }

    /// Everything that a validator has, a line an event, in one order.
    fn events(&self, index: usize) -> String {
        let query = "select who, n, _lane, _seqno, _height, _tx from load order by _lane, _seqno";
        psql(&self.server(index).pg, query)
    }

    /// The header of a height as a validator serves it.
    fn header(&self, index: usize, height: u64) -> Json {
        let client = Client::new(&self.server(index).http).unwrap();
        self.runtime.block_on(client.get(&format!("/v1/headers/{height}"))).unwrap()
    }

    /// Every client's events stand once, in order, where it was told, and every validator has the same ledger; nobody
    /// was blamed. Stops all, and verifies what they stored.
    pub(crate) fn check(mut self, done: &[Appended]) {
        let count: usize = done.iter().map(|client| client.acknowledged.len()).sum();
        let has_all = |index| psql(&self.server(index).pg, "select count(*) from load");
        for index in 0..COUNT {
            until("all events at a validator", || has_all(index) == format!("{count}\n"));
        }
        let events = self.events(0);
        check_events(&events, done);
        let height = (0..COUNT).map(|index| self.height(index)).min().unwrap();
        let header = self.header(0, height);
        for index in 1..COUNT {
            assert!(self.events(index) == events, "node{index} has other events than node0");
            assert_eq!(self.header(index, height)["hash"], header["hash"], "height {height}");
        }
        for index in 0..COUNT {
            self.stop(index);
            assert!(!self.dir(index).join("evidence").exists(), "node{index} blames somebody");
            let dir = self.dir(index);
            let check = |threads: &str| {
                ok(&["check", "--threads", threads, "--dir", dir.to_str().unwrap()])
            };
            // Six clients' transactions share heights: two threads have something to do, and come to the same states.
            assert!(check("1").contains("(0 of them side by side)"));
            assert!(!check("2").contains("(0 of them side by side)"));
        }
    }
}

impl Drop for Fleet {
    /// A test that fails says how everyone was.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for index in 0..COUNT {
            let log = std::fs::read_to_string(self.log(index)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_LINE_COUNT)..];
            let status = match &self.servers[index] {
                Some(server) => quipu(&["status", "--url", &server.http]).stdout,
                None => "it does not run\n".into(),
            };
            eprintln!("---- node{index}\n{status}{}", tail.join("\n"));
        }
        if let Ok(kept) = std::env::var("QUIPU_TEST_KEEP") {
            let (from, to) = (self.ledger.path("."), format!("{kept}-{}", std::process::id()));
            program("cp", &["-r", from.to_str().unwrap(), &to]);
        }
    }
}

/// Every acknowledged event stands in `events` once, in order, where it was said.
pub(crate) fn check_events(events: &str, done: &[Appended]) {
    let mut by_route: BTreeMap<&str, Vec<(i64, String)>> = BTreeMap::new();
    for line in events.lines() {
        let parts: Vec<&str> = line.split('|').collect();
        let position = format!("{}:{}", parts[2], parts[3]);
        by_route.entry(parts[0]).or_default().push((parts[1].parse().unwrap(), position));
    }
    for ((route, number), position) in done.iter().flat_map(|client| &client.acknowledged) {
        let place = usize::try_from(*number).unwrap();
        let found = by_route.get(route.as_str()).and_then(|events| events.get(place));
        let said = (*number, position.clone());
        assert_eq!(found, Some(&said), "{route}: once, in order, where it was said");
    }
}

/// What a client did.
#[derive(Debug)]
pub(crate) struct Appended {
    name: String,
    /// The one validator that it speaks to.
    home: Option<usize>,
    /// Route and number of each acknowledged event, and its position.
    acknowledged: BTreeMap<(String, i64), String>,
    /// When requests were answered.
    times: Vec<Instant>,
    /// How long after they were due: at once, or when their turn had come.
    waits: Vec<Duration>,
}

/// Clients that append until they are told to end.
#[derive(Debug)]
pub(crate) struct Load {
    end: watch::Sender<bool>,
    clients: Vec<JoinHandle<Appended>>,
    /// Answered requests, by client.
    answered: Arc<Vec<AtomicU64>>,
}

impl Appended {
    /// What waited for answers that came in a time.
    pub(crate) fn waits(&self, from: Instant, to: Instant) -> impl Iterator<Item = Duration> {
        let both = self.times.iter().zip(&self.waits);
        both.filter(move |(time, _)| **time >= from && **time < to).map(|(_, wait)| *wait)
    }
}

impl Load {
    /// One at each validator, and some that go where they are answered.
    pub(crate) fn start(fleet: &Fleet) -> Self {
        Self::paced(fleet, Duration::ZERO)
    }

    /// The same, each sending its next request so long after the last one was due, if that is answered.
    pub(crate) fn paced(fleet: &Fleet, gap: Duration) -> Self {
        let (end, ended) = watch::channel(false);
        let count = COUNT + AWAY_COUNT;
        let answered: Arc<Vec<AtomicU64>> =
            Arc::new((0..count).map(|_| AtomicU64::new(0)).collect());
        let clients = (0..count).map(|place| {
            let home = (place < COUNT).then_some(place);
            let mut urls = fleet.urls.clone();
            urls.rotate_left(place % COUNT);
            urls.truncate(if home.is_some() { 1 } else { COUNT });
            let kind = if home.is_some() { "home" } else { "away" };
            let name = format!("{kind}{}", place % COUNT);
            let worker = Worker {
                client: Client::new(&urls.join(",")).unwrap(),
                key: SecretKey::generate(),
                end: ended.clone(),
                answered: Arc::clone(&answered),
                place,
                gap,
            };
            let appended = Appended {
                name,
                home,
                acknowledged: BTreeMap::new(),
                times: Vec::new(),
                waits: Vec::new(),
            };
            fleet.runtime.spawn(worker.run(appended))
        });
        Self { end, clients: clients.collect(), answered }
    }

    fn count(&self, place: usize) -> u64 {
        self.answered[place].load(Ordering::SeqCst)
    }

    /// Requests that were answered.
    pub(crate) fn total(&self) -> u64 {
        (0..self.answered.len()).map(|place| self.count(place)).sum()
    }

    /// Waits until each client was answered that often from now on, but for those at home at `but`.
    pub(crate) fn until_answered(&self, times: u64, but: &[usize]) {
        let places: Vec<(usize, u64)> = (0..self.answered.len())
            .filter(|place| !but.contains(place))
            .map(|place| (place, self.count(place) + times))
            .collect();
        for (place, wanted) in places {
            until(&format!("answers to client {place}"), || {
                assert!(!self.clients[place].is_finished(), "client {place} failed");
                self.count(place) >= wanted
            });
        }
    }

    /// Lets every client end after what it sent was answered.
    pub(crate) fn finish(self, fleet: &Fleet) -> Vec<Appended> {
        self.end.send_replace(true);
        fleet.runtime.block_on(async {
            let all = futures::future::join_all(self.clients);
            let done = tokio::time::timeout(PATIENCE, all).await;
            done.expect("everything is answered").into_iter().map(Result::unwrap).collect()
        })
    }
}

struct Worker {
    client: Client,
    key: SecretKey,
    end: watch::Receiver<bool>,
    answered: Arc<Vec<AtomicU64>>,
    place: usize,
    gap: Duration,
}

impl Worker {
    async fn run(self, mut done: Appended) -> Appended {
        let mut producer = loop {
            match Producer::new(&self.client, &self.key).await {
                Ok(producer) => break producer,
                Err(_) => pause().await,
            }
        };
        let routes: Vec<String> =
            (0..ROUTE_COUNT).map(|route| format!("{}-{route}", done.name)).collect();
        let (mut number, mut due) = (0, Instant::now());
        while !*self.end.borrow() {
            if self.count().is_multiple_of(ANCHOR_COUNT) {
                // Without an answer the last anchor will do.
                drop(producer.refresh_anchor().await);
            }
            due = self.turn(due).await;
            let mut signed = Vec::new();
            for route in &routes {
                signed.push(self.sign(&mut producer, route, number).await);
            }
            let positions = self.submit(&done.name, &signed).await;
            for (route, position) in routes.iter().zip(positions) {
                done.acknowledged.insert((route.clone(), number), position);
            }
            number += 1;
            done.times.push(Instant::now());
            done.waits.push(due.elapsed());
            self.answered[self.place].fetch_add(1, Ordering::SeqCst);
        }
        done
    }

    /// Waits for its turn after the last one; gives when that was.
    async fn turn(&self, last: Instant) -> Instant {
        if self.gap.is_zero() {
            return Instant::now();
        }
        let due = last + self.gap;
        drop(tokio::time::timeout_at(due.into(), std::future::pending::<()>()).await);
        due
    }

    fn count(&self) -> u64 {
        self.answered[self.place].load(Ordering::SeqCst)
    }

    async fn sign(&self, producer: &mut Producer<'_>, route: &str, number: i64) -> Bytes {
        let row = [Value::Text(route.to_owned()), Value::Int8(number)];
        let payload = Schema::parse(SCHEMA).unwrap().encode_row(&row).unwrap();
        loop {
            let payload = payload.clone();
            let action = Action::Append { stream: "load".into(), key: Vec::new(), payload };
            match producer.sign(Some(route.as_bytes()), &[action]).await {
                Ok(signed) => return signed,
                Err(_) => pause().await,
            }
        }
    }

    /// Sends the same bytes until they are answered; gives their positions.
    async fn submit(&self, name: &str, signed: &[Bytes]) -> Vec<String> {
        let position = |answer: &SubmitAnswer| {
            assert!(answer.is_committed(), "{name}: {answer:?}");
            answer.position.clone().unwrap()
        };
        until_answered(&self.client, signed).await.iter().map(position).collect()
    }
}

/// Sends the same bytes until they are answered.
pub(crate) async fn until_answered(client: &Client, signed: &[Bytes]) -> Vec<SubmitAnswer> {
    loop {
        match client.submit_until_final(signed).await {
            Ok(answers) => return answers,
            Err(_) => pause().await,
        }
    }
}

/// The longest time between two answers to one client that went on for some of `from` to `to`, and whose client it was;
/// but for those at home at `but`.
pub(crate) fn longest_stop(
    done: &[Appended],
    (from, to): (Instant, Instant),
    but: Option<usize>,
) -> (Duration, String) {
    let mut longest = (Duration::ZERO, String::new());
    for client in done.iter().filter(|client| client.home.is_none() || client.home != but) {
        for pair in client.times.windows(2) {
            let (began, ended) = (pair[0], pair[1]);
            if began < to && ended > from && ended - began > longest.0 {
                longest = (ended - began, client.name.clone());
            }
        }
    }
    longest
}
