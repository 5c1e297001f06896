//! A batcher before two servers of one small ledger, over sockets that break: answers are cut off, servers are busy, one is gone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quipu_crypto::suite::SecretKey;
use quipu_proof::names::lane_of;
use quipu_types::{Action, Decode as _, Lane, Schema, Transaction, Value, code};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::{AppendError, Batcher, Limits, lock};
use crate::anchor::tests::Truth;
use crate::{Client, ClientError, NewEvent};

const SCHEMA: &str = "route text not null, number int4 not null, filler text";
const LANE_COUNT: u16 = 4;

/// What both servers know.
#[derive(Default)]
struct Ledger {
    /// Where the one signer stands in each lane.
    next: BTreeMap<Lane, (u32, u64)>,
    answers: BTreeMap<Vec<u8>, Json>,
    /// Payloads in order, by route.
    log: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    count: usize,
}

impl Ledger {
    fn submit(&mut self, bytes: &[u8]) -> Json {
        if let Some(answer) = self.answers.get(bytes) {
            return answer.clone();
        }
        let transaction = Transaction::from_bytes(bytes).unwrap();
        let route = transaction.route.clone().unwrap_or_default();
        let place = self.next.entry(lane_of(&route, LANE_COUNT)).or_insert((0, 0));
        let own = (transaction.incarnation, transaction.sequence);
        let next = if own.0 > place.0 { (own.0, 1) } else { (place.0, place.1 + 1) };
        if own != next {
            let wanted = if own > next { code::SEQUENCE_GAP } else { code::SEQUENCE_USED };
            return json!({ "status": "invalid", "code": wanted.to_string() });
        }
        *place = next;
        let log = self.log.entry(route).or_default();
        for action in transaction.actions {
            let Action::Append { payload, .. } = action else { continue };
            log.push(payload);
        }
        self.count += 1;
        let answer = json!({ "status": "committed", "position": format!("0:{}", self.count) });
        self.answers.insert(bytes.to_vec(), answer.clone());
        answer
    }
}

/// A server's moods.
#[derive(Default)]
struct Moods {
    /// Which of every so many answers is lost, and which is "busy"; 0: none.
    lost: usize,
    busy: usize,
    requests: AtomicUsize,
    /// The newest header is committed by nobody.
    is_lying: bool,
    /// Submissions wait until this is set.
    is_open: AtomicBool,
    opened: tokio::sync::Notify,
}

async fn serve(listener: TcpListener, ledger: Arc<Mutex<Ledger>>, moods: Arc<Moods>) {
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(converse(socket, Arc::clone(&ledger), Arc::clone(&moods)));
    }
}

async fn converse(socket: TcpStream, ledger: Arc<Mutex<Ledger>>, moods: Arc<Moods>) -> Option<()> {
    let mut socket = BufReader::new(socket);
    loop {
        let (mut first, mut line) = (String::new(), String::new());
        socket.read_line(&mut first).await.ok()?;
        let (mut size, mut is_block) = (0, false);
        while line.trim() != "" || line.is_empty() {
            line.clear();
            if socket.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let lower = line.to_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                size = value.trim().parse().unwrap();
            }
            is_block |= lower.starts_with("content-encoding: snappy");
        }
        let mut body = vec![0; size];
        socket.read_exact(&mut body).await.ok()?;
        if is_block {
            body = quipu_net::encoding::decode(&body, 16 << 20).unwrap();
        }
        let (status, answer) = answer(&first, &body, &ledger, &moods).await?;
        let text = answer.to_string();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", text.len());
        socket.write_all((head + &text).as_bytes()).await.ok()?;
    }
}

/// None closes the socket.
async fn answer(
    first: &str,
    body: &[u8],
    ledger: &Mutex<Ledger>,
    moods: &Moods,
) -> Option<(u16, Json)> {
    let path = first.split(' ').nth(1)?;
    if path.starts_with("/v1/transactions") {
        // Made first: what is told between the two is heard.
        let opened = moods.opened.notified();
        if !moods.is_open.load(Ordering::SeqCst) {
            opened.await;
        }
        let number = moods.requests.fetch_add(1, Ordering::SeqCst) + 1;
        if moods.busy > 0 && number.is_multiple_of(moods.busy) {
            return Some((503, json!({ "code": "QP0105", "message": "busy" })));
        }
        let frames = quipu_net::split(body, 1 << 20, 1 << 16).unwrap();
        let answers: Vec<Json> = frames.iter().map(|one| lock(ledger).submit(one)).collect();
        let is_lost = moods.lost > 0 && number.is_multiple_of(moods.lost);
        return (!is_lost).then_some((200, json!(answers)));
    }
    Some(match path {
        "/v1/status" => (200, Truth::new("x", LANE_COUNT).status()),
        "/v1/headers/latest" if moods.is_lying => {
            (200, Truth::new("x", LANE_COUNT).signed_by(2).header(1))
        }
        "/v1/headers/latest" => (200, Truth::new("x", LANE_COUNT).header(1)),
        "/v1/genesis" => (200, json!(Truth::new("x", LANE_COUNT).genesis)),
        "/v1/streams/numbers" => {
            (200, json!({ "name": "numbers", "schema": SCHEMA, "route_by": "route" }))
        }
        path if path.starts_with("/v1/producers/") => {
            (200, json!({ "lane": 0, "incarnation": 0, "next_sequence": 1 }))
        }
        _ => (404, json!({ "code": "QP0203", "message": "no such stream" })),
    })
}

/// Two servers of one ledger, and an address where nobody is.
async fn start(moods: Moods) -> (String, Arc<Mutex<Ledger>>, Arc<Moods>) {
    let (ledger, moods) = (Arc::<Mutex<Ledger>>::default(), Arc::new(moods));
    let mut urls = vec!["http://127.0.0.1:1".to_owned()];
    for _ in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        urls.push(format!("http://{}", listener.local_addr().unwrap()));
        tokio::spawn(serve(listener, Arc::clone(&ledger), Arc::clone(&moods)));
    }
    (urls.join(","), ledger, moods)
}

fn row(route: &str, number: i32, filler: &str) -> NewEvent {
    let schema = Schema::parse(SCHEMA).unwrap();
    let row = [Value::Text(route.into()), Value::Int4(number), Value::Text(filler.into())];
    NewEvent { key: Vec::new(), payload: schema.encode_row(&row).unwrap() }
}

async fn batcher(urls: &str, limits: Limits) -> Batcher {
    let client = Client::new(urls).unwrap().with_compression(true);
    let key = SecretKey::generate();
    Batcher::new(Arc::new(client), Arc::new(key), limits).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_sockets_that_break_each_event_lands_once_in_order() {
    let moods = Moods { lost: 5, busy: 7, is_open: true.into(), ..Moods::default() };
    let (urls, ledger, _) = start(moods).await;
    let limits = Limits { batch_count: 10, ..Limits::default() };
    let batcher = batcher(&urls, limits).await;
    let routes = ["a", "b", "c", "d", "e"];
    let mut waits = Vec::new();
    for number in 0..1_000 {
        for route in routes {
            waits.push(batcher.send("numbers", row(route, number, "")).await.unwrap());
        }
    }
    assert!(matches!(
        batcher.send("none", row("a", 0, "")).await,
        Err(AppendError::Refused { .. })
    ));
    let wrong = NewEvent { key: Vec::new(), payload: vec![0xff; 9] };
    let refused = batcher.send("numbers", wrong).await.unwrap_err();
    assert_eq!(refused.code(), Some(code::BAD_ROW));
    batcher.close().await.unwrap();
    for wait in waits {
        assert!(wait.await.unwrap().position().is_some());
    }
    for route in routes {
        let expected: Vec<Vec<u8>> =
            (0..1_000).map(|number| row(route, number, "").payload).collect();
        assert_eq!(lock(&ledger).log.get(route.as_bytes()), Some(&expected), "{route}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_sends_more_than_has_room_waits_and_goes_on_when_there_is_some() {
    let (urls, ledger, moods) = start(Moods::default()).await;
    let limits = Limits { memory_size: 0, batch_count: 10, ..Limits::default() };
    let batcher = Arc::new(batcher(&urls, limits).await);
    let sent = Arc::new(AtomicUsize::new(0));
    let filler = "x".repeat(10_000);
    let sender = {
        let (batcher, sent) = (Arc::clone(&batcher), Arc::clone(&sent));
        tokio::spawn(async move {
            for number in 0..1_000 {
                batcher.send("numbers", row("a", number, &filler)).await.unwrap();
                sent.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    // Two million bytes are the least room, an event has ten thousand.
    while sent.load(Ordering::SeqCst) < 190 {
        tokio::task::yield_now().await;
    }
    assert!(sent.load(Ordering::SeqCst) < 200 && !sender.is_finished());
    moods.is_open.store(true, Ordering::SeqCst);
    moods.opened.notify_waiters();
    sender.await.unwrap();
    batcher.flush().await.unwrap();
    assert_eq!(lock(&ledger).log[&b"a"[..]].len(), 1_000);
}

#[tokio::test]
async fn a_key_that_another_process_takes_over_ends_it() {
    let moods = Moods { is_open: true.into(), ..Moods::default() };
    let (urls, ledger, _) = start(moods).await;
    let batcher = batcher(&urls, Limits { linger: Duration::ZERO, ..Limits::default() }).await;
    batcher.send("numbers", row("a", 1, "")).await.unwrap().await.unwrap();
    for place in lock(&ledger).next.values_mut() {
        *place = (9, 1);
    }
    let refused = batcher.send("numbers", row("a", 2, "")).await.unwrap().await;
    assert!(matches!(refused, Err(AppendError::Fenced)), "{refused:?}");
    assert!(matches!(batcher.flush().await, Err(AppendError::Fenced)));
    assert!(matches!(batcher.send("numbers", row("a", 3, "")).await, Err(AppendError::Fenced)));
}

#[tokio::test]
async fn nothing_is_signed_by_a_header_that_does_not_verify() {
    let moods = Moods { is_open: true.into(), is_lying: true, ..Moods::default() };
    let (urls, ledger, _) = start(moods).await;
    let batcher = batcher(&urls, Limits { linger: Duration::ZERO, ..Limits::default() }).await;
    let refused = batcher.send("numbers", row("a", 1, "")).await.unwrap().await;
    let Err(AppendError::Client(error)) = &refused else { panic!("{refused:?}") };
    assert!(matches!(&**error, ClientError::FalseHeader { .. }), "{error}");
    assert_eq!(lock(&ledger).count, 0);
}
