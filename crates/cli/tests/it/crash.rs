//! `kill -9` under load, at random moments, again and again: what was acknowledged is there, once, in order.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use quipu_client::{Client, Producer};
use quipu_crypto::{SecretKey, keyfile};
use quipu_types::{Action, Schema, Value};
use serde_json::Value as Json;

use crate::harness::{Ledger, Server, ok, tail};

/// How often the validator is killed; `QUIPU_KILL_COUNT` says otherwise.
const KILL_COUNT: u64 = 20;
const PRODUCER_COUNT: usize = 3;
/// Events of a transaction, transactions of a request.
const BATCH_COUNT: i64 = 7;
const REQUEST_COUNT: usize = 4;
const SCHEMA: &str = "who text not null, n int8 not null";

/// One producer: goes on over every crash with the same key, and sends again what was not answered.
struct Load {
    name: String,
    key: SecretKey,
    next: i64,
    /// Signed, with the numbers of its events, and not answered.
    pending: Vec<(bytes::Bytes, Vec<i64>)>,
    /// Position of each acknowledged event.
    acknowledged: BTreeMap<i64, String>,
}

impl Load {
    fn new(index: usize) -> Self {
        let (name, key) = (format!("producer{index}"), SecretKey::generate());
        Self { name, key, next: 0, pending: Vec::new(), acknowledged: BTreeMap::new() }
    }

    /// Appends until the server is gone.
    async fn run(&mut self, url: &str, on_acknowledged: impl Fn()) {
        let client = Client::new(url).unwrap();
        loop {
            if self.pending.is_empty() && self.sign(&client).await.is_none() {
                return;
            }
            let bytes: Vec<_> = self.pending.iter().map(|(bytes, _)| bytes.clone()).collect();
            let Ok(answers) = client.submit_until_final(&bytes).await else { return };
            for (answer, (_, numbers)) in answers.iter().zip(std::mem::take(&mut self.pending)) {
                assert!(answer.is_committed(), "{}: {answer:?}", self.name);
                let position = answer.position.clone().unwrap();
                for number in numbers {
                    self.acknowledged.insert(number, position.clone());
                }
                on_acknowledged();
            }
        }
    }

    async fn sign(&mut self, client: &Client) -> Option<()> {
        let schema = Schema::parse(SCHEMA).unwrap();
        let mut producer = Producer::new(client, &self.key).await.ok()?;
        for _ in 0..REQUEST_COUNT {
            let numbers: Vec<i64> = (self.next..self.next + BATCH_COUNT).collect();
            let actions = numbers.iter().map(|number| {
                let row = [Value::Text(self.name.clone()), Value::Int8(*number)];
                let payload = schema.encode_row(&row).unwrap();
                Action::Append { stream: "load".into(), key: Vec::new(), payload }
            });
            let route = Some(self.name.clone().into_bytes());
            let signed =
                producer.sign(route.as_deref(), &actions.collect::<Vec<_>>()).await.ok()?;
            self.pending.push((signed, numbers));
            self.next += BATCH_COUNT;
        }
        Some(())
    }
}

/// Runs the load until a random moment, then kills the server.
fn run_and_kill(server: Server, loads: &mut [Load], random: &mut fastrand::Rng) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = server.http.clone();
    let (sender, acknowledgements) = channel::<()>();
    let gone = Arc::new(AtomicBool::new(false));
    // A moment is counted in answers, or in time for crashes between them.
    let answers = random.usize(0..60);
    let patience = Duration::from_millis(random.u64(20..700));
    let killer = std::thread::spawn({
        let gone = Arc::clone(&gone);
        move || {
            let deadline = Instant::now() + patience;
            for _ in 0..answers {
                let left = deadline.saturating_duration_since(Instant::now());
                if acknowledgements.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
            server.kill();
            gone.store(true, Ordering::SeqCst);
        }
    });
    runtime.block_on(async {
        let running = loads.iter_mut().map(|load| {
            let sender = sender.clone();
            load.run(&url, move || {
                // The killer has done its work when it does not listen any more.
                let _ = sender.send(());
            })
        });
        futures::future::join_all(running).await;
    });
    killer.join().unwrap();
    assert!(gone.load(Ordering::SeqCst));
}

/// Every event of the stream: producer, number, position, in the ledger's order.
fn events(server: &Server) -> Vec<(String, i64, String)> {
    tail(server, "load")
        .iter()
        .map(|event| {
            let text = |value: &Json| value.as_str().unwrap().to_owned();
            let data = &event["data"];
            (text(&data["who"]), data["n"].as_i64().unwrap(), text(&event["position"]))
        })
        .collect()
}

fn check_events(events: &[(String, i64, String)], loads: &[Load]) {
    for load in loads {
        let own: Vec<&(String, i64, String)> =
            events.iter().filter(|(who, ..)| *who == load.name).collect();
        for (index, (_, number, position)) in own.iter().enumerate() {
            assert_eq!(*number, i64::try_from(index).unwrap(), "{}: once and in order", load.name);
            if let Some(acknowledged) = load.acknowledged.get(number) {
                assert_eq!(
                    acknowledged, position,
                    "{} {number} stands where it was said",
                    load.name
                );
            }
        }
        let last = load.acknowledged.keys().last().copied().unwrap_or(-1);
        assert!(
            i64::try_from(own.len()).unwrap() > last,
            "{} lost what was acknowledged",
            load.name
        );
    }
}

/// What became of every transaction.
fn receipts(server: &Server) -> String {
    let query = "select * from quipu.receipts order by 1, 2, 3";
    ok(&["sql", "--url", &server.http, query, "--json"])
}

fn remove(path: &Path) {
    std::fs::remove_dir_all(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

#[test]
fn killed_again_and_again_it_keeps_every_acknowledged_event_once_and_in_order() {
    let kill_count =
        std::env::var("QUIPU_KILL_COUNT").map_or(KILL_COUNT, |text| text.parse().unwrap());
    let seed = std::env::var("QUIPU_KILL_SEED")
        .map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
    eprintln!("QUIPU_KILL_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let ledger = Ledger::new();
    let server = ledger.start();
    ledger.create_stream(&server, "load", SCHEMA, &["--route-by", "who"]);
    assert!(keyfile::load(Path::new(&ledger.signer()), None).is_ok());
    server.stop();
    let mut loads: Vec<Load> = (0..PRODUCER_COUNT).map(Load::new).collect();
    for _ in 0..kill_count {
        run_and_kill(ledger.start(), &mut loads, &mut random);
    }
    let server = ledger.start();
    // What was on its way when the last crash came is sent again: a repeat is answered with its first place.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::new(&server.http).unwrap();
    for load in &mut loads {
        let bytes: Vec<_> = load.pending.iter().map(|(bytes, _)| bytes.clone()).collect();
        let answers = runtime.block_on(client.submit_until_final(&bytes)).unwrap();
        assert!(answers.iter().all(|answer| answer.is_committed()), "{answers:?}");
    }
    let before = events(&server);
    check_events(&before, &loads);
    let acknowledged: usize = loads.iter().map(|load| load.acknowledged.len()).sum();
    assert!(acknowledged > 0, "nothing was acknowledged between {kill_count} crashes");
    let receipts_before = receipts(&server);
    server.stop();
    ok(&["check", "--dir", &ledger.text("l/node0")]);

    // Everything derived is thrown away: the log alone gives the same ledger, and `check` the same roots.
    remove(&ledger.path("l/node0/state"));
    remove(&ledger.path("l/node0/columns"));
    let server = ledger.start();
    assert_eq!(events(&server), before);
    assert_eq!(receipts(&server), receipts_before);
    server.stop();
    ok(&["check", "--dir", &ledger.text("l/node0")]);
}
