//! Consumer groups as processes: each reads its share of stream `a` and writes to `b` in the transaction that commits
//! its cursor.
//!
//! ```text
//!  feeder ── a ──> lanes ──> worker: GroupConsumer ── commit_with(b) ──> b
//!                            └ this very binary, started again, killed with -9
//! ```
//! In the end `b` has each number of `a` exactly once.

use std::io::{BufRead, BufReader, Lines};
use std::net::Ipv4Addr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use quipu_client::api::GroupInfo;
use quipu_client::{Client, ClientError, Events, GroupConsumer, GroupError, Producer};
use quipu_crypto::{SecretKey, keyfile};
use quipu_types::cursor::Certified;
use quipu_types::group::{GroupAction, GroupOp};
use quipu_types::{Action, Genesis, Hash, Height, Lane, Schema, Seqno, Value, code};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::fleet::until;
use crate::harness::{Ledger, Server, fails, json, ok, psql, quipu};

/// How often the worker is killed; `QUIPU_CONSUMER_KILL_COUNT` says otherwise.
const KILL_COUNT: usize = 20;
/// What a worker is to do, as JSON.
const WORKER: &str = "QUIPU_TEST_WORKER";
/// Routes of what is fed: they lead to all lanes.
const ROUTE_COUNT: i64 = 64;
/// Transactions of a request.
const REQUEST_COUNT: i64 = 16;
const SESSION: Duration = Duration::from_secs(3);
/// The longest that lanes of a dead member may take to move.
const MOVE_TIME_MAX: Duration = Duration::from_secs(5);
const SCHEMA: &str = "who text not null, n int8 not null";

/// A ledger of one validator with streams `a` and `b` and the group `g`, which reads `a`.
struct World {
    ledger: Ledger,
    server: Server,
    runtime: Runtime,
}

impl World {
    fn new() -> Self {
        let ledger = Ledger::new();
        let server = ledger.start();
        ledger.create_stream(&server, "a", SCHEMA, &["--route-by", "who"]);
        ledger.create_stream(&server, "b", SCHEMA, &[]);
        let (url, signer) = (server.http.as_str(), ledger.signer());
        let create = ["consumers", "create", "--url", url, "--signer", &signer, "g"];
        ok(&[&create[..], &["--consumers", "anyone"]].concat());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        Self { ledger, server, runtime }
    }

    fn client(&self) -> Client {
        Client::new(&self.server.http).unwrap().with_genesis(&self.ledger.read_genesis())
    }

    fn group(&self) -> GroupInfo {
        self.runtime.block_on(self.client().get("/v1/groups/g")).unwrap()
    }

    /// A key of its own.
    fn key(&self, name: &str) -> String {
        let path = self.ledger.text(name);
        ok(&["keys", "new", "--out", &path]);
        path
    }

    /// Each number that was fed is in `b` once, and nothing else.
    fn check(&self, count: i64) {
        let query = "select count(*), count(distinct n), min(n), max(n) from b";
        let found = psql(&self.server.pg, query);
        assert_eq!(found, format!("{count}|{count}|0|{}\n", count - 1), "each exactly once");
    }

    fn count_b(&self) -> i64 {
        psql(&self.server.pg, "select count(*) from b").trim().parse().unwrap()
    }

    fn worker(&self, member: &str, key: &str, is_ending: bool) -> Worker {
        let what = json!({
            "url": self.server.http, "genesis": self.ledger.genesis(), "key": key,
            "member": member, "ending": is_ending,
        });
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["consumers::a_worker_works_when_it_is_asked_to", "--exact", "--nocapture"])
            .env(WORKER, what.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Worker { child, lines }
    }
}

/// A process that reads `a` and writes `b`; killed when dropped.
struct Worker {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    /// Waits for a line that begins so.
    fn until(&mut self, word: &str) {
        let found = self.lines.by_ref().map(Result::unwrap).find(|line| line.starts_with(word));
        assert!(found.is_some(), "the worker ended before it said {word}");
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn finish(mut self) {
        self.lines.by_ref().for_each(drop);
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Appends 0, 1, 2, … to `a` until it is told to end.
struct Feeder {
    end: Arc<AtomicBool>,
    fed: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl Feeder {
    fn start(world: &World) -> Self {
        let (end, fed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let (client, ended, count) = (world.client(), Arc::clone(&end), Arc::clone(&fed));
        let task = world.runtime.spawn(async move {
            let key = SecretKey::generate();
            let mut producer = Producer::new(&client, &key).await.unwrap();
            let mut n = 0;
            while !ended.load(Ordering::SeqCst) {
                let mut signed = Vec::new();
                for _ in 0..REQUEST_COUNT {
                    let route = format!("r{}", n % ROUTE_COUNT);
                    let action = [append("a", &route, n)];
                    signed.push(producer.sign(Some(route.as_bytes()), &action).await.unwrap());
                    n += 1;
                }
                let answers = client.submit_until_final(&signed).await.unwrap();
                assert!(
                    answers.iter().all(quipu_client::SubmitAnswer::is_committed),
                    "{answers:?}"
                );
                count.store(n, Ordering::SeqCst);
                producer.refresh_anchor().await.unwrap();
            }
        });
        Self { end, fed, task }
    }

    fn until_fed(&self, more: i64) {
        let wanted = self.fed.load(Ordering::SeqCst) + more;
        until("more of a", || self.fed.load(Ordering::SeqCst) >= wanted);
    }

    /// How many there are.
    fn finish(self, world: &World) -> i64 {
        self.end.store(true, Ordering::SeqCst);
        world.runtime.block_on(self.task).unwrap();
        self.fed.load(Ordering::SeqCst)
    }
}

fn append(stream: &str, who: &str, n: i64) -> Action {
    let row = [Value::Text(who.to_owned()), Value::Int8(n)];
    let payload = Schema::parse(SCHEMA).unwrap().encode_row(&row).unwrap();
    Action::Append { stream: stream.into(), key: Vec::new(), payload }
}

/// No test by itself: what [`World::worker`] starts.
#[test]
fn a_worker_works_when_it_is_asked_to() {
    let Ok(what) = std::env::var(WORKER) else { return };
    let what: Json = serde_json::from_str(&what).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(work(&what));
}

async fn work(what: &Json) {
    let text = |name: &str| what[name].as_str().unwrap();
    let genesis = std::fs::read_to_string(text("genesis")).unwrap();
    let genesis = Genesis::from_json(&genesis).unwrap();
    let key = keyfile::load(text("key").as_ref(), None).unwrap();
    let client = Client::new(text("url")).unwrap().with_genesis(&genesis);
    let events = Events::of(&client, "a").await.unwrap();
    let joined = GroupConsumer::join(text("url"), genesis, key, "g", text("member"), SESSION);
    let mut consumer = joined.await.unwrap().with_stream("a");
    if what["ending"].as_bool().unwrap() {
        consumer = consumer.ending();
    }
    println!("\njoined");
    while let Some(batch) = consumer.next().await.unwrap() {
        let rows = events.certified(batch.snapshot()).unwrap();
        let number = |row: &quipu_client::Event| row.data["n"].as_i64().unwrap();
        let outputs = rows.iter().map(|row| append("b", text("member"), number(row))).collect();
        match consumer.commit_with(&batch, None, outputs).await {
            Ok(_) => println!("committed"),
            Err(GroupError::Lost { .. } | GroupError::Moved { .. }) => println!("refused"),
            Err(error) => panic!("{error}"),
        }
    }
    consumer.leave().await.unwrap();
}

#[test]
fn what_a_worker_makes_of_events_is_there_once_however_often_it_is_killed() {
    let kill_count =
        std::env::var("QUIPU_CONSUMER_KILL_COUNT").map_or(KILL_COUNT, |text| text.parse().unwrap());
    let world = World::new();
    let feeder = Feeder::start(&world);
    let key = world.key("worker.key");
    let start = Instant::now();
    for round in 0..kill_count {
        let mut worker = world.worker("w", &key, false);
        // Some die before they joined.
        if round % 8 != 7 {
            worker.until("joined");
            for _ in 0..fastrand::usize(..6) {
                worker.until("committed");
            }
        }
        std::thread::park_timeout(Duration::from_micros(fastrand::u64(..20_000)));
        worker.kill();
    }
    let done = world.count_b();
    let count = feeder.finish(&world);
    world.worker("w", &key, true).finish();
    world.check(count);
    let took = start.elapsed();
    eprintln!(
        "{kill_count} kills in {took:?}: {done} of {count} events done by then, each once in the end"
    );
    assert!(done > 0, "the killed ones did nothing");
}

#[test]
fn lanes_of_a_killed_member_move_and_every_event_is_worked_on_once() {
    let world = World::new();
    let feeder = Feeder::start(&world);
    let mut workers: Vec<Worker> = (0..3)
        .map(|place| {
            let name = format!("m{place}");
            world.worker(&name, &world.key(&format!("{name}.key")), false)
        })
        .collect();
    let owned_by = |group: &GroupInfo, name: &str| -> Vec<u16> {
        let own = group.lanes.iter().filter(|lane| lane.owner.as_deref() == Some(name));
        own.map(|lane| lane.lane).collect()
    };
    until("all hold lanes", || {
        let group = world.group();
        (0..3).all(|place| owned_by(&group, &format!("m{place}")).len() >= 5)
    });
    for worker in &mut workers {
        worker.until("committed");
    }
    feeder.until_fed(100);
    let victim = fastrand::usize(..3);
    let name = format!("m{victim}");
    let moving = owned_by(&world.group(), &name);
    workers.remove(victim).kill();
    let start = Instant::now();
    until("its lanes are others'", || owned_by(&world.group(), &name).is_empty());
    let moved = start.elapsed();
    let stood: Vec<u64> = world.group().lanes.iter().map(|lane| lane.seqno).collect();
    until("they are read on", || {
        let lanes = world.group().lanes;
        moving.iter().all(|lane| lanes[usize::from(*lane)].seqno > stood[usize::from(*lane)])
    });
    let read_on = start.elapsed();
    feeder.until_fed(100);
    let count = feeder.finish(&world);
    until("all is worked on", || world.count_b() >= count);
    world.check(count);
    eprintln!(
        "{} lanes moved in {moved:?}, read on after {read_on:?}; {count} events once",
        moving.len()
    );
    assert!(moved < MOVE_TIME_MAX, "lanes moved in {moved:?}");
}

#[test]
fn a_committed_cursor_that_is_no_place_of_the_ledger_is_told_and_not_read_from() {
    let world = World::new();
    let row = json!({ "who": "r", "n": 0 });
    world.ledger.append(&world.server, "a", &row);
    let found = world.runtime.block_on(async {
        let client = world.client();
        let key = SecretKey::generate();
        let mut producer = Producer::new(&client, &key).await.unwrap();
        let action = |op| vec![Action::Group(Box::new(GroupAction { group: "g".into(), op }))];
        let member = "false".to_owned();
        let join = GroupOp::Join { member: member.clone(), session_us: 300_000_000 };
        let answer = producer.submit(None, action(join)).await.unwrap();
        let joined = answer.position.unwrap().parse().unwrap();
        let group: GroupInfo = client.get("/v1/groups/g").await.unwrap();
        let (lane, generation) = (Lane::new(3), group.lanes[3].generation.unwrap());
        // So far no transaction of the lane is ordered.
        let to =
            Certified { height: Height::new(1), seqno: Seqno::new(9_000), root: Hash([7; 32]) };
        let from = Seqno::default();
        let commit = GroupOp::Commit { member: member.clone(), lane, generation, from, to };
        assert!(producer.submit(None, action(commit)).await.unwrap().is_committed());
        let leave = GroupOp::Leave { member, joined };
        assert!(producer.submit(None, action(leave)).await.unwrap().is_committed());
        let joined = GroupConsumer::join(
            &world.server.http,
            world.ledger.read_genesis(),
            key,
            "g",
            "true",
            SESSION,
        );
        joined.await.unwrap().next().await.unwrap_err()
    });
    assert!(matches!(found, GroupError::Cursor { lane, .. } if lane == Lane::new(3)), "{found}");
}

#[test]
fn a_member_finds_its_successor_and_a_batch_of_a_lost_lane_is_refused() {
    let world = World::new();
    world.ledger.append(&world.server, "a", &json!({ "who": "r", "n": 0 }));
    world.runtime.block_on(async {
        let (url, genesis) = (world.server.http.as_str(), world.ledger.read_genesis());
        let key = || keyfile::load(world.ledger.signer().as_ref(), None).unwrap();
        let join = || GroupConsumer::join(url, genesis.clone(), key(), "g", "one", SESSION);
        let mut first = join().await.unwrap().with_stream("a");
        let batch = first.next().await.unwrap().unwrap();
        let mut second = join().await.unwrap().with_stream("a");
        let refused = first.commit_with(&batch, None, vec![append("b", "first", 0)]).await;
        assert!(matches!(refused, Err(GroupError::Lost { .. })), "{refused:?}");
        let ended = first.next().await.unwrap_err();
        assert!(matches!(ended, GroupError::Replaced { .. }), "{ended}");
        let again = second.next().await.unwrap().unwrap();
        assert_eq!(again.to(), batch.to());
        second.commit_with(&again, None, vec![append("b", "second", 0)]).await.unwrap();
        // What landed is known by the group's cursor.
        assert!(second.commit(&again).await.unwrap().is_none());
        let unknown = vec![append("nowhere", "second", 0)];
        world.ledger.append(&world.server, "a", &json!({ "who": "r", "n": 1 }));
        let next = second.next().await.unwrap().unwrap();
        let refused = second.commit_with(&next, None, unknown).await.unwrap_err();
        assert_eq!(refused.code(), Some(code::NO_STREAM), "{refused}");
        second.commit(&next).await.unwrap().unwrap();
        second.leave().await.unwrap();
        let other = GroupConsumer::join(url, genesis, key(), "none", "one", SESSION).await;
        let error = other.unwrap_err();
        assert!(matches!(error, GroupError::Refused { code: code::NO_GROUP, .. }), "{error}");
        assert!(!matches!(error, GroupError::Client(ClientError::False { .. })));
    });
    assert!(world.group().members.is_empty());
    assert_eq!(psql(&world.server.pg, "select who, n from b"), "second|0\n");
}

/// An address in front of the ledger that changes a byte of the first header of each feed, and nothing else.
fn liar(world: &World) -> String {
    let listener = world.runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let own = format!("http://{}", listener.local_addr().unwrap());
    let target = world.server.http.strip_prefix("http://").unwrap().to_owned();
    world.runtime.spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(&target).await.unwrap();
            // Whoever is lied to may go away at any time.
            tokio::spawn(async move { drop(pass(client, server).await) });
        }
    });
    own
}

async fn pass(mut client: TcpStream, mut server: TcpStream) -> std::io::Result<()> {
    // What stands before the hash of the header's parent: a greeting's frame, the base's length and tag, three numbers.
    let place = (4 + 41) + (4 + 1) + (8 + 8 + 2);
    let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    // What came of a feed and is too short for the crime.
    let mut held: Option<Vec<u8>> = None;
    loop {
        tokio::select! {
            size = client.read(&mut up) => match size? {
                0 => return Ok(()),
                size => {
                    if up[..size].starts_with(b"POST /v1/feed") {
                        held = Some(Vec::new());
                    }
                    server.write_all(&up[..size]).await?;
                }
            },
            size = server.read(&mut down) => match size? {
                0 => return Ok(()),
                size => {
                    let is_feed = held.is_some();
                    let mut answer = held.take().unwrap_or_default();
                    answer.extend_from_slice(&down[..size]);
                    if is_feed {
                        let Some(byte) = body_byte(&mut answer, place) else {
                            held = Some(answer);
                            continue;
                        };
                        *byte ^= 1;
                    }
                    client.write_all(&answer).await?;
                }
            },
        }
    }
}

/// A byte of the first chunk of an answer's body, if it is there.
fn body_byte(answer: &mut [u8], place: usize) -> Option<&mut u8> {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let line = answer[head..].windows(2).position(|two| two == b"\r\n")? + 2;
    answer.get_mut(head + line + place)
}

#[test]
fn a_server_that_lies_is_named_and_the_next_one_is_read() {
    let world = World::new();
    world.ledger.append(&world.server, "a", &json!({ "who": "r", "n": 0 }));
    let liar = liar(&world);
    world.runtime.block_on(async {
        let urls = format!("{liar},{}", world.server.http);
        let key = keyfile::load(world.ledger.signer().as_ref(), None).unwrap();
        let joined =
            GroupConsumer::join(&urls, world.ledger.read_genesis(), key, "g", "one", SESSION);
        let mut consumer = joined.await.unwrap().with_stream("a");
        let lie = consumer.next().await.unwrap_err();
        let GroupError::Client(ClientError::False { server, .. }) = &lie else { panic!("{lie:?}") };
        assert!(server.starts_with(&liar), "{server}");
        let batch = consumer.next().await.unwrap().unwrap();
        consumer.commit(&batch).await.unwrap().unwrap();
        consumer.leave().await.unwrap();
    });
}

#[test]
fn the_commands_create_show_run_seek_and_delete_a_group() {
    let world = World::new();
    let (url, signer, genesis) =
        (world.server.http.as_str(), world.ledger.signer(), world.ledger.genesis());
    for n in 0..3 {
        world.ledger.append(&world.server, "a", &json!({ "who": format!("r{n}"), "n": n }));
    }
    let list = json(&["consumers", "list", "--url", url, "--json"]);
    assert_eq!((list[0]["name"].as_str(), list[0]["member_count"].as_u64()), (Some("g"), Some(0)));
    let lag = || {
        let shown = json(&["consumers", "show", "--url", url, "g", "--json"]);
        let lanes = shown["lanes"].as_array().unwrap().clone();
        lanes.iter().map(|lane| lane["lag"].as_u64().unwrap()).sum::<u64>()
    };
    let before = lag();
    assert!(before >= 6, "two streams, a group and three rows, but {before}");
    let run = [
        "consumers",
        "run",
        "--url",
        url,
        "--signer",
        &signer,
        "--genesis",
        &genesis,
        "--group",
        "g",
        "--stream",
        "a",
        "--once",
    ];
    let refused = fails(1, &[&run[..], &["--exec", "exit 7"]].concat());
    assert!(refused.contains("not committed"), "{refused}");
    let out = ok(&run);
    let mut numbers: Vec<i64> = out
        .lines()
        .map(|line| serde_json::from_str::<Json>(line).unwrap()["data"]["n"].as_i64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2]);
    assert_eq!(ok(&run), "", "all of it is committed");
    let after = lag();
    assert!(after < before, "{after} after {before}");
    let text = ok(&["consumers", "show", "--url", url, "g"]);
    assert!(text.contains("lease until") && text.contains("lag"), "{text}");
    let seek = ["consumers", "seek", "--url", url, "--signer", &signer, "g", "--to"];
    ok(&[&seek[..], &["start"]].concat());
    let kept = world.ledger.text("kept.jsonl");
    ok(&[&run[..], &["--exec", &format!("cat >> {kept}")]].concat());
    assert_eq!(std::fs::read_to_string(&kept).unwrap().lines().count(), 3);
    ok(&[&seek[..], &["end"]].concat());
    ok(&[&seek[..], &["height:1", "--lane", "2"]].concat());
    assert!(fails(2, &[&seek[..], &["noon"]].concat()).contains("height:N"));
    let metrics = psql(
        &world.server.pg,
        "select count(*) from quipu.metrics where name = 'quipu_group_lag_transactions' and labels like 'group=g,lane=%'",
    );
    assert_eq!(metrics, format!("{}\n", world.ledger.read_genesis().lane_count));
    let delete = ["consumers", "delete", "--url", url, "--signer", &signer, "g"];
    ok(&delete);
    assert_eq!(quipu(&delete).code, Some(1));
    assert_eq!(json(&["consumers", "list", "--url", url, "--json"]), json!([]));
}
