//! A proxy that lies to consumers: the stock client names what is false, gives nothing of it on, and keeps evidence that holds offline.

use std::net::Ipv4Addr;

use quipu_client::{Client, Producer};
use quipu_crypto::hash::blake3;
use quipu_crypto::keyfile;
use quipu_net::{Decoder, FRAME_SIZE_MAX, put_frame};
use quipu_proof::feed::Frame;
use quipu_types::chunk::{StoredChunk, put_transaction, split_body};
use quipu_types::{Action, Decode, Encode, Schema, Value};
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::harness::{Ledger, Ran, Server, quipu};
use crate::liar::read_head;

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crime {
    /// Nothing.
    None,
    /// Leaves one transaction out of a chunk, and puts the chunk's header right.
    Omit,
    /// Leaves a whole chunk out.
    OmitChunk,
    /// Swaps two transactions of a chunk, and puts its header right.
    Swap,
    /// Sends a transaction twice.
    Repeat,
    /// Changes a transaction's payload.
    Invent,
    /// Sends an old cut in the place of the next.
    OldTip,
    /// Leaves out a height and all it adds.
    OmitHeight,
    /// Says of a transaction that was refused that it was applied, or the other way round.
    Outcome,
}

const CRIMES: [(Crime, &str); 8] = [
    (Crime::Omit, "another root than its header says"),
    (Crime::OmitChunk, "more receipts than transactions"),
    (Crime::Swap, "another root than its header says"),
    (Crime::Repeat, "another root than its header says"),
    (Crime::Invent, "another root than its header says"),
    (Crime::OldTip, "was expected"),
    (Crime::OmitHeight, "does not link to the one before it"),
    (Crime::Outcome, "not what a quorum signed"),
];

/// Starts one in front of a validator; gives its address.
fn start(runtime: &Runtime, url: &str, crime: Crime) -> String {
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let own = format!("http://{}", listener.local_addr().unwrap());
    let url = url.to_owned();
    runtime.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let url = url.clone();
            // Whoever is lied to may go away at any time.
            tokio::spawn(async move { drop(serve(stream, &url, crime).await) });
        }
    });
    own
}

/// One request: a feed is lied about, anything else is passed on.
async fn serve(mut stream: TcpStream, url: &str, crime: Crime) -> std::io::Result<()> {
    let head = read_head(&mut stream).await?;
    let path = head.split(' ').nth(1).unwrap().to_owned();
    if !head.starts_with("POST /v1/feed") {
        let body: Json = Client::new(url).unwrap().get(&path).await.unwrap();
        return answer(&mut stream, body.to_string().as_bytes()).await;
    }
    let lower = head.to_ascii_lowercase();
    let size = lower.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
    let mut asked = vec![0; size.parse().unwrap()];
    stream.read_exact(&mut asked).await?;
    let frames = fetch(url, &asked).await;
    let mut body = Vec::new();
    for frame in lie(frames, crime) {
        put_frame(&mut body, &frame.to_bytes());
    }
    answer(&mut stream, &body).await
}

async fn answer(stream: &mut TcpStream, body: &[u8]) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await
}

/// The true frames, to the newest height.
async fn fetch(url: &str, asked: &[u8]) -> Vec<Frame> {
    let at = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(at).await.unwrap();
    let head =
        format!("POST /v1/feed HTTP/1.0\r\nhost: {at}\r\ncontent-length: {}\r\n\r\n", asked.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(asked).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let start = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let mut decoder = Decoder::new(FRAME_SIZE_MAX);
    decoder.push(&answer[start..]);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        frames.push(Frame::from_bytes(frame).unwrap());
    }
    frames
}

/// The frames with one crime in them, at the third chunk that has several transactions.
fn lie(mut frames: Vec<Frame>, crime: Crime) -> Vec<Frame> {
    let is_large = |frame: &Frame| matches!(frame, Frame::Chunk(chunk) if chunk.header.count > 2);
    let is_cut = |frame: &Frame| matches!(frame, Frame::Cut(_));
    let chunk = frames.iter().enumerate().filter(|(_, frame)| is_large(frame)).nth(1).unwrap().0;
    let cut = frames.iter().skip(chunk).position(is_cut).unwrap() + chunk;
    let before = frames[..cut].iter().rposition(is_cut).unwrap();
    match crime {
        Crime::None => {}
        Crime::Omit => change(&mut frames[chunk], |all| drop(all.remove(1))),
        Crime::Swap => change(&mut frames[chunk], |all| all.swap(0, 1)),
        Crime::Repeat => change(&mut frames[chunk], |all| all.insert(1, all[0].clone())),
        Crime::Invent => change(&mut frames[chunk], |all| {
            // The signature stays: the last byte of a payload is before it.
            let place = all[1].len() - 65;
            all[1][place] ^= 1;
        }),
        Crime::OmitChunk => drop(frames.remove(chunk)),
        Crime::OldTip => frames[cut] = frames[before].clone(),
        Crime::OmitHeight => drop(frames.drain(before + 1..=cut)),
        Crime::Outcome => {
            let receipts = frames[..cut].iter_mut().rev().find_map(|frame| match frame {
                Frame::Receipts { receipts, .. } => Some(receipts),
                _ => None,
            });
            let receipt = &mut receipts.unwrap()[0];
            receipt.outcome = quipu_types::Outcome::Refused {
                code: quipu_types::code::NO_STREAM,
                action: Some(0),
            };
        }
    }
    frames
}

/// Changes a chunk's transactions, and its header so that it says so.
fn change(frame: &mut Frame, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let Frame::Chunk(StoredChunk { header, body, .. }) = frame else { panic!("no chunk") };
    let all = split_body(body, header.count).unwrap();
    let mut all: Vec<Vec<u8>> = all.into_iter().map(<[u8]>::to_vec).collect();
    change(&mut all);
    body.clear();
    all.iter().for_each(|one| put_transaction(body, one));
    header.count = u32::try_from(all.len()).unwrap();
    header.body_digest = blake3(body);
}

fn tail(ledger: &Ledger, url: &str, more: &[&str]) -> Ran {
    let (genesis, dir) = (ledger.genesis(), ledger.text("."));
    let mut args = vec!["tail", "--url", url, "--genesis", &genesis, "--stream", "notes", "--json"];
    args.extend(["--evidence-dir", &dir]);
    args.extend(more);
    quipu(&args)
}

/// A ledger with notes, several transactions in a chunk.
fn filled(runtime: &Runtime) -> (Ledger, Server) {
    let ledger = Ledger::new();
    let server = ledger.start();
    ledger.create_stream(&server, "notes", "n int8 not null", &[]);
    runtime.block_on(append(&ledger, &server, 0..6));
    (ledger, server)
}

async fn append(ledger: &Ledger, server: &Server, rounds: std::ops::Range<i64>) {
    let client = Client::new(&server.http).unwrap();
    let key = keyfile::load(ledger.signer().as_ref(), None).unwrap();
    let mut producer = Producer::new(&client, &key).await.unwrap();
    let schema = Schema::parse("n int8 not null").unwrap();
    for round in rounds {
        let mut signed = Vec::new();
        for n in 0..5 {
            let payload = schema.encode_row(&[Value::Int8(round * 5 + n)]).unwrap();
            let append = Action::Append { stream: "notes".into(), key: Vec::new(), payload };
            signed.push(producer.sign(None, &[append]).await.unwrap());
        }
        let answers = client.submit_until_final(&signed).await.unwrap();
        assert!(answers.iter().all(quipu_client::SubmitAnswer::is_committed));
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn a_proxy_that_lies_is_caught_with_the_reason_and_the_evidence_holds_offline() {
    let runtime = runtime();
    let (ledger, server) = filled(&runtime);
    let honest = start(&runtime, &server.http, Crime::None);
    let all = tail(&ledger, &honest, &[]);
    assert_eq!(all.code, Some(0), "{}", all.stderr);
    assert_eq!(all.stdout.lines().count(), 30);
    assert_eq!(all.stdout, tail(&ledger, &server.http, &[]).stdout);
    for (crime, reason) in CRIMES {
        let liar = start(&runtime, &server.http, crime);
        let ran = tail(&ledger, &liar, &[]);
        let at = format!("{crime:?}: {}", ran.stderr);
        assert_eq!(ran.code, Some(3), "{at}");
        assert!(ran.stderr.contains("QP0724") && ran.stderr.contains(reason), "{at}");
        assert!(all.stdout.starts_with(&ran.stdout), "{crime:?}: what was printed is true");
        assert!(ran.stdout.len() < all.stdout.len());
        let file =
            ran.stderr.split("FILE --evidence ").nth(1).unwrap().split_whitespace().next().unwrap();
        let genesis = ledger.genesis();
        let shown = quipu(&["verify", "--genesis", &genesis, "--evidence", file]);
        assert_eq!(shown.code, Some(3), "{crime:?}: {}{}", shown.stdout, shown.stderr);
        assert!(shown.stderr.contains(reason), "{crime:?}: {}", shown.stderr);
        // With a second server the consumer of the library goes on; the command says what it saw and ends.
    }
    // Another ledger under the same name.
    let other = Ledger::new();
    let elsewhere = other.start();
    other.create_stream(&elsewhere, "notes", "n int8 not null", &[]);
    let ran = tail(&ledger, &elsewhere.http, &[]);
    assert!(ran.code != Some(0) && ran.stdout.is_empty(), "{}", ran.stderr);
    assert!(ran.stderr.contains("ledger") || ran.stderr.contains("chain"), "{}", ran.stderr);
}

#[test]
fn a_consumer_that_keeps_its_cursor_in_a_file_reads_each_event_once() {
    let runtime = runtime();
    let (ledger, server) = filled(&runtime);
    let file = ledger.text("notes.cursor");
    let kept = ["--cursor-file", file.as_str()];
    let first = tail(&ledger, &server.http, &kept);
    assert_eq!((first.code, first.stdout.lines().count()), (Some(0), 30), "{}", first.stderr);
    assert_eq!(tail(&ledger, &server.http, &kept).stdout, "", "nothing is printed twice");
    runtime.block_on(append(&ledger, &server, 6..7));
    assert_eq!(tail(&ledger, &server.http, &kept).stdout.lines().count(), 5);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen('a', "b", 1)).unwrap();
    let wrong = tail(&ledger, &server.http, &kept);
    assert!(wrong.stderr.contains("QP0720") && wrong.code == Some(1), "{}", wrong.stderr);
}
