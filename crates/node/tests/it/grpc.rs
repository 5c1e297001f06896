//! The ledger by gRPC: the same answers as by HTTP, every refusal by its status and our code, streams that end with the validator.

use std::io::{Read, Write};

use futures::StreamExt;
use proto::ledger_client::LedgerClient;
use proto::transaction_status::State;
use proto::{
    ComplainRequest, Event, FeedRequest, FollowRequest, GetEpochsRequest, GetHeaderRequest,
    GetStatusRequest, GetTransactionRequest, ProveRequest, SubmitRequest, TransactionStatus, Wait,
};
use quipu_crypto::Tag;
use quipu_crypto::hash::sha256;
use quipu_crypto::suite::sign_tagged;
use quipu_node::Running;
use quipu_proof::feed::from_start;
use quipu_proof::names::lane_of;
use quipu_types::cursor::Mode;
use quipu_types::{Complaint, Encode, Hash, Lane, Signature, Term};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::world::{
    Producer, Served, World, append, broken, connect, create_stream, open, request, route,
};

#[expect(
    clippy::allow_attributes,
    clippy::as_conversions,
    clippy::too_many_lines,
    unreachable_pub,
    reason = "generated"
)]
mod proto {
    tonic::include_proto!("quipu.v1");
}

/// The largest message of a client.
const MESSAGE_SIZE_MAX: usize = 1 << 20;

/// Runs a test's other half, with a connection to a validator.
fn with<F: Future>(at: Running, test: impl FnOnce(Channel) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let endpoint = Endpoint::from_shared(format!("http://{}", at.http)).unwrap();
    runtime.block_on(async { test(endpoint.connect().await.unwrap()).await })
}

fn submission(transaction: Vec<u8>, wait: Wait) -> SubmitRequest {
    SubmitRequest { transaction: transaction.into(), wait: wait.into() }
}

async fn submit(ledger: &mut LedgerClient<Channel>, transaction: Vec<u8>) -> TransactionStatus {
    ledger.submit(submission(transaction, Wait::Executed)).await.unwrap().into_inner()
}

/// A stream, and transactions of two events each.
async fn fill(ledger: &mut LedgerClient<Channel>, producer: &mut Producer, count: i64) {
    let made = submit(ledger, producer.sign(None, vec![create_stream("readings")])).await;
    assert_eq!((made.state(), made.applied), (State::Committed, Some(true)));
    for n in 0..count {
        let place = ["BOS", "EWR", "JFK"][usize::try_from(n % 3).unwrap()];
        let two = vec![append("readings", 2 * n, place), append("readings", 2 * n + 1, place)];
        submit(ledger, producer.sign(Some(&route(place)), two)).await;
    }
}

fn all_of(stream: &str) -> FollowRequest {
    FollowRequest { stream: stream.into(), ..FollowRequest::default() }
}

async fn followed(ledger: &mut LedgerClient<Channel>, wanted: FollowRequest) -> Vec<Event> {
    let events = ledger.follow(wanted).await.unwrap().into_inner();
    events.map(Result::unwrap).collect().await
}

/// A refusal in a word, and our code; every one tells what to do next.
fn refusal(status: &Status) -> (Code, &str) {
    let text = |name| status.metadata().get(name).map(|value| value.to_str().unwrap());
    assert!(!text("quipu-hint").unwrap().is_empty() && !status.message().is_empty(), "{status:?}");
    (status.code(), text("quipu-code").unwrap())
}

#[test]
fn what_is_submitted_is_found_proved_and_followed_as_by_http() {
    let world = World::new();
    let served = world.start();
    with(served.at, async |channel| {
        let mut ledger = LedgerClient::new(channel);
        let mut producer = world.producer(2);
        fill(&mut ledger, &mut producer, 6).await;
        let bytes = producer.sign(Some(&route("BOS")), vec![append("nothing", 1, "BOS")]);
        let refused = submit(&mut ledger, bytes.clone()).await;
        assert_eq!((refused.applied, refused.code()), (Some(false), "QP0203"));
        assert_eq!(submit(&mut ledger, bytes).await, refused, "again: the first position");
        let tx = refused.tx.clone();
        let asked = GetTransactionRequest { tx: tx.clone() };
        assert_eq!(ledger.get_transaction(asked).await.unwrap().into_inner(), refused);
        let asked = GetTransactionRequest { tx: "00".repeat(32) };
        let unknown = ledger.get_transaction(asked).await.unwrap().into_inner();
        assert_eq!((unknown.state(), unknown.position), (State::Unknown, None));
        let proof = ledger
            .prove(ProveRequest { tx, ..ProveRequest::default() })
            .await
            .unwrap()
            .into_inner();
        let bundle = std::str::from_utf8(&proof.bundle).unwrap();
        quipu_proof::verify(bundle, &world.genesis).unwrap();

        let next = producer.sign(Some(&route("BOS")), vec![append("readings", 12, "BOS")]);
        let taken = ledger.submit(submission(next, Wait::None)).await.unwrap().into_inner();
        assert_eq!(taken.state(), State::Pending);
        let next = producer.sign(Some(&route("BOS")), vec![append("readings", 13, "BOS")]);
        let last = ledger.submit(submission(next, Wait::Final)).await.unwrap().into_inner();
        assert_eq!(last.state(), State::Committed);

        let asked = GetHeaderRequest { height: last.height };
        let header = ledger.get_header(asked).await.unwrap().into_inner();
        let by_http = served.get_json(&format!("/v1/headers/{}", last.height()));
        assert_eq!(hex::encode(&header.header), by_http["header"]);
        assert_eq!(hex::encode(&header.certificate), by_http["certificate"]);
        assert_eq!(header.cut.len(), 4);
        let ended = ledger.get_epochs(GetEpochsRequest { from: 0 }).await.unwrap().into_inner();
        assert_eq!(ended.handovers, served.get("/v1/epochs?from=0").body);
        let status = ledger.get_status(GetStatusRequest {}).await.unwrap().into_inner();
        assert_eq!((status.chain, status.has_quorum), (world.chain().to_string(), true));
        assert!(status.height >= last.height() && status.lanes.len() == 4);
        assert_eq!(status.validators[0].name, "node0");
    });
    served.stop().unwrap();
}

#[test]
fn a_complaint_is_heard_or_refused_as_by_http() {
    let world = World::new();
    let served = world.start();
    with(served.at, async |channel| {
        let mut ledger = LedgerClient::new(channel);
        let mut producer = world.producer(2);
        fill(&mut ledger, &mut producer, 1).await;
        let transaction = producer.sign(None, vec![create_stream("more")]);
        let (anchor, term) = (world.chain(), Term::new(1));
        let lane = lane_of(producer.key.public().bytes(), 4);
        let complaint = |term| {
            let (transaction, signature) = (transaction.clone(), Signature([0; 64]));
            let mut complaint = Complaint { transaction, anchor, lane, term, signature };
            let body = complaint.signed_body();
            complaint.signature =
                sign_tagged(&producer.key, &world.chain(), 0, Tag::Complaint, &body);
            ComplainRequest { complaint: complaint.to_bytes().into() }
        };
        let heard = ledger.complain(complaint(term)).await.unwrap().into_inner();
        assert_eq!((heard.lane, heard.term), (lane.get().into(), 1));
        let refused = ledger.complain(complaint(Term::new(7))).await.unwrap_err();
        assert_eq!(refusal(&refused), (Code::InvalidArgument, "QP0108"));
        let words = ComplainRequest { complaint: "words".into() };
        let refused = ledger.complain(words).await.unwrap_err();
        assert_eq!(refusal(&refused), (Code::InvalidArgument, "QP0001"));
    });
    served.stop().unwrap();
}

#[test]
fn a_stream_is_followed_as_by_http_from_any_cursor_and_ends_with_the_validator() {
    let world = World::new();
    let served = world.start();
    with(served.at, async |channel| {
        let mut ledger = LedgerClient::new(channel);
        let mut producer = world.producer(2);
        fill(&mut ledger, &mut producer, 9).await;
        let all = followed(&mut ledger, all_of("readings")).await;
        let lines = served.get("/v1/streams/readings/events").text();
        assert_eq!((all.len(), lines.lines().count()), (18, 18));
        for (event, line) in all.iter().zip(lines.lines()) {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
            let own = (event.position.as_str(), event.tx.as_str(), event.key.as_str(), &data);
            let parts = [&line["position"], &line["tx"], &line["key"]];
            let [position, tx, key] = parts.map(|part| part.as_str().unwrap());
            assert_eq!(own, (position, tx, key, &line["data"]));
            assert_eq!([&line["height"], &line["time_us"]], [event.height, event.time_us]);
        }
        for (at, event) in all.iter().enumerate() {
            let is_last = all.get(at + 1).is_none_or(|next| next.position != event.position);
            assert_eq!(event.cursor, if is_last { event.position.as_str() } else { "" });
            if is_last {
                let wanted = FollowRequest { cursor: event.cursor.clone(), ..all_of("readings") };
                assert_eq!(followed(&mut ledger, wanted).await, all[at + 1..]);
            }
        }
        let wanted = FollowRequest { limit: Some(5), ..all_of("readings") };
        assert_eq!(followed(&mut ledger, wanted).await, all[..5]);
        let wanted = FollowRequest { key: Some("k1".into()), ..all_of("readings") };
        assert_eq!(followed(&mut ledger, wanted).await.len(), 6);

        let wanted = FollowRequest { follow: true, ..all_of("readings") };
        let mut events = ledger.follow(wanted).await.unwrap().into_inner();
        for event in &all {
            assert_eq!(events.next().await.unwrap().unwrap(), *event);
        }
        let fresh = producer.sign(Some(&route("JFK")), vec![append("readings", 99, "JFK")]);
        let placed = submit(&mut ledger, fresh).await;
        assert_eq!(events.next().await.unwrap().unwrap().cursor, placed.position());
        let stopped = tokio::task::spawn_blocking(move || served.stop().unwrap());
        let end = events.next().await.unwrap().unwrap_err();
        assert_eq!(refusal(&end), (Code::Unavailable, "QP0106"));
        stopped.await.unwrap();
    });
}

#[test]
fn a_feed_has_the_bytes_of_http_and_followers_are_counted_together() {
    let world = World::new();
    let mut config = world.config();
    config.limits.follower_count_max = 2;
    let served = Served::start(config).unwrap();
    with(served.at, async |channel| {
        let mut ledger = LedgerClient::new(channel);
        fill(&mut ledger, &mut world.producer(2), 9).await;
        let lanes: Vec<Lane> = (0..4).map(Lane::new).collect();
        let asked = |follow| {
            let asked = from_start(world.chain(), &lanes, Mode::Certified, follow).to_bytes();
            FeedRequest { request: asked.into() }
        };
        // Certificates of state come a moment after the answer.
        let mut by_http = Vec::new();
        let mut by_grpc = vec![0];
        while by_http != by_grpc {
            by_http = request(served.at.http, "POST", "/v1/feed", &[], &asked(false).request).body;
            let parts = ledger.feed(asked(false)).await.unwrap().into_inner();
            let parts: Vec<_> = parts.map(|part| part.unwrap().frames).collect().await;
            by_grpc = parts.concat();
        }
        assert!(by_grpc.len() > 5_000);

        let begin = |ledger: &LedgerClient<Channel>| {
            let mut ledger = ledger.clone();
            let wanted = asked(true);
            async move { ledger.feed(wanted).await.map(tonic::Response::into_inner) }
        };
        let first: Streaming<_> = begin(&ledger).await.unwrap();
        let mut second = begin(&ledger).await.unwrap();
        assert_eq!(refusal(&begin(&ledger).await.unwrap_err()), (Code::Unavailable, "QP0105"));
        let answer = served.get("/v1/streams/readings/events");
        assert_eq!(answer.status, 503, "{}", answer.text());
        // Its place is free as soon as the validator has seen that it is gone.
        drop(first);
        let mut third = loop {
            match begin(&ledger).await {
                Ok(stream) => break stream,
                Err(status) => assert_eq!(refusal(&status), (Code::Unavailable, "QP0105")),
            }
        };
        let stopped = tokio::task::spawn_blocking(move || served.stop().unwrap());
        for feed in [&mut second, &mut third] {
            let end = loop {
                match feed.next().await.unwrap() {
                    Ok(part) => assert!(!part.frames.is_empty()),
                    Err(end) => break end,
                }
            };
            assert_eq!(refusal(&end), (Code::Unavailable, "QP0106"));
        }
        stopped.await.unwrap();
    });
}

#[test]
fn one_that_does_not_read_holds_up_neither_the_others_nor_the_end() {
    let world = World::new();
    let served = world.start();
    with(served.at, async |channel| {
        let mut ledger = LedgerClient::new(channel);
        let mut producer = world.producer(2);
        fill(&mut ledger, &mut producer, 9).await;
        let asked = from_start(world.chain(), &[0, 1, 2, 3].map(Lane::new), Mode::Certified, true);
        let request: bytes::Bytes = asked.to_bytes().into();
        let idle = Endpoint::from_shared(format!("http://{}", served.at.http)).unwrap();
        let idle = idle.initial_stream_window_size(1 << 10);
        let mut idle = LedgerClient::new(idle.connect().await.unwrap());
        let mut unread = Vec::new();
        // Each has more to say than the client lets come.
        for _ in 0..40 {
            let asked = FeedRequest { request: request.clone() };
            unread.push(idle.feed(asked).await.unwrap());
        }
        let fresh = producer.sign(Some(&route("JFK")), vec![append("readings", 99, "JFK")]);
        assert_eq!(submit(&mut ledger, fresh).await.applied, Some(true));
        tokio::task::spawn_blocking(move || served.stop().unwrap()).await.unwrap();
        drop(unread);
    });
}

/// What was refused, as a line.
fn line(what: &str, refused: Option<Status>) -> String {
    let refused = refused.unwrap_or_else(|| panic!("{what} is no error"));
    let (status, code) = refusal(&refused);
    format!("{code} {status:?} {what}\n")
}

#[test]
fn a_submission_that_is_wrong_is_refused_by_status_and_code() {
    let world = World::new();
    let served = world.start();
    let mut shown = String::new();
    with(served.at, async |channel| {
        let mut ledger = LedgerClient::new(channel);
        let good = world.producer(2).sign(None, vec![create_stream("more")]);
        let gap = world.producer(2).sign_as(99, None, vec![create_stream("more")]);
        for (what, transaction) in [
            ("no transaction", vec![]),
            ("malformed transaction", vec![7; 300]),
            ("broken signature", broken(&good)),
            ("gap", gap),
            ("large transaction", vec![0; 1_000_001]),
            ("large message", vec![0; MESSAGE_SIZE_MAX]),
        ] {
            let submitted = ledger.submit(submission(transaction, Wait::Executed)).await;
            shown.push_str(&line(what, submitted.err()));
        }
        let strange = SubmitRequest { transaction: good.into(), wait: 9 };
        shown.push_str(&line("wait", ledger.submit(strange).await.err()));
    });
    expect_test::expect![[r#"
        QP0001 InvalidArgument no transaction
        QP0001 InvalidArgument malformed transaction
        QP0101 InvalidArgument broken signature
        QP0103 InvalidArgument gap
        QP0002 ResourceExhausted large transaction
        QP0002 ResourceExhausted large message
        QP0702 InvalidArgument wait
    "#]]
    .assert_eq(&shown);
    served.stop().unwrap();
}

#[test]
fn a_question_that_is_wrong_is_refused_by_status_and_code() {
    let world = World::new();
    let served = world.start();
    let mut shown = String::new();
    with(served.at, async |channel| {
        let mut ledger = LedgerClient::new(channel);
        fill(&mut ledger, &mut world.producer(2), 1).await;
        let other = from_start(Hash([9; 32]), &[Lane::new(0)], Mode::Certified, false).to_bytes();
        let cursor = |text: &str| FollowRequest { cursor: text.into(), ..all_of("readings") };
        // Of those that take most bytes in a header.
        let long = "\u{10ffff}".repeat(250_000);
        for (what, wanted) in [
            ("unknown stream", all_of("nothing")),
            ("strange cursor", cursor("x")),
            ("lane of a cursor", cursor("9:1")),
            ("cursor ahead", cursor("0:999")),
            ("strange key", FollowRequest { key: Some("\\xzz".into()), ..all_of("readings") }),
            ("long name of a stream", all_of(&long)),
            ("long cursor", cursor(&long)),
        ] {
            shown.push_str(&line(what, ledger.follow(wanted).await.err()));
        }
        for (what, asked) in [("feed of nothing", vec![7; 40]), ("cursor of another ledger", other)]
        {
            let fed = ledger.feed(FeedRequest { request: asked.into() }).await;
            shown.push_str(&line(what, fed.err()));
        }
        for (what, tx) in [("name of a transaction", "xyz".into()), ("long name", long)] {
            let found = ledger.get_transaction(GetTransactionRequest { tx }).await;
            shown.push_str(&line(what, found.err()));
        }
        let tx = sha256(b"nothing").to_string();
        shown.push_str(&line(
            "proof",
            ledger.prove(ProveRequest { tx, ..ProveRequest::default() }).await.err(),
        ));
        let asked = GetHeaderRequest { height: Some(1 << 40) };
        shown.push_str(&line("header", ledger.get_header(asked).await.err()));
    });
    expect_test::expect![[r#"
        QP0203 NotFound unknown stream
        QP0702 InvalidArgument strange cursor
        QP0703 NotFound lane of a cursor
        QP0703 NotFound cursor ahead
        QP0702 InvalidArgument strange key
        QP0702 InvalidArgument long name of a stream
        QP0702 InvalidArgument long cursor
        QP0720 InvalidArgument feed of nothing
        QP0720 InvalidArgument cursor of another ledger
        QP0702 InvalidArgument name of a transaction
        QP0702 InvalidArgument long name
        QP0404 NotFound proof
        QP0703 NotFound header
    "#]]
    .assert_eq(&shown);
    served.stop().unwrap();
}

#[test]
fn health_is_what_readyz_says_and_is_watched_to_the_end() {
    let world = World::new();
    let served = world.start();
    assert_eq!(request(served.at.admin, "GET", "/readyz", &[], &[]).status, 200);
    with(served.at, async |channel| {
        let mut health = HealthClient::new(channel);
        let asked = |service: &str| HealthCheckRequest { service: service.into() };
        for service in ["", "quipu.v1.Ledger"] {
            let answer = health.check(asked(service)).await.unwrap().into_inner();
            assert_eq!(answer.status(), ServingStatus::Serving);
        }
        assert_eq!(health.check(asked("quipu.v1")).await.unwrap_err().code(), Code::NotFound);
        let mut known = health.watch(asked("quipu.v1.Ledger")).await.unwrap().into_inner();
        let mut unknown = health.watch(asked("quipu.v1")).await.unwrap().into_inner();
        assert_eq!(known.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
        let told = unknown.next().await.unwrap().unwrap();
        assert_eq!(told.status(), ServingStatus::ServiceUnknown);
        let stopped = tokio::task::spawn_blocking(move || served.stop().unwrap());
        assert_eq!(known.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        for mut watched in [known, unknown] {
            let end = watched.next().await.unwrap().unwrap_err();
            assert_eq!(refusal(&end), (Code::Unavailable, "QP0106"));
        }
        stopped.await.unwrap();
    });
}

#[test]
fn bytes_that_are_no_message_and_noise_behind_the_preface_harm_nobody() {
    let world = World::new();
    let served = world.start();
    let path = "/quipu.v1.Ledger/Submit";
    let headers = [("Content-Type", "application/grpc"), ("TE", "trailers")];
    let large = u32::try_from(MESSAGE_SIZE_MAX + 1).unwrap().to_be_bytes();
    for (body, code) in [
        (vec![], "QP0702"),
        (vec![0; 4], "QP0702"),
        (vec![0, 0, 0, 0, 9, 1], "QP0702"),
        (vec![0, 0, 0, 0, 1, 8, 8], "QP0702"),
        ([&[0][..], &large[..]].concat(), "QP0002"),
        ([&[0, 255, 255, 255, 255][..], &[7; 100][..]].concat(), "QP0002"),
    ] {
        let mut answer = String::new();
        open(served.at.http, "POST", path, &headers, &body).read_to_string(&mut answer).unwrap();
        assert!(answer.contains(&format!("quipu-code: {code}\r\n")), "{body:?}: {answer}");
    }
    // Compressed, and no protobuf: refused further in.
    for body in [&[1, 0, 0, 0, 1, 8][..], &[0, 0, 0, 0, 2, 255, 255], &[0, 0, 0, 0, 1, 10]] {
        let mut answer = String::new();
        open(served.at.http, "POST", path, &headers, body).read_to_string(&mut answer).unwrap();
        assert!(answer.contains("grpc-status: ") && !answer.contains("grpc-status: 0"), "{answer}");
    }
    let mut noise = 1_u32;
    for size in [9, 700, 70_000] {
        let mut stream = connect(served.at.http);
        let bytes = (0..size).map(|_| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise.to_be_bytes()[0]
        });
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let bytes: Vec<u8> = preface.iter().copied().chain(bytes).collect();
        drop(stream.write_all(&bytes));
        drop(stream.shutdown(std::net::Shutdown::Write));
        let mut rest = Vec::new();
        // Closed, or reset because bytes were left unread.
        drop(stream.read_to_end(&mut rest));
        assert!(rest.len() < 1_000, "{} bytes", rest.len());
    }
    with(served.at, async |channel| {
        fill(&mut LedgerClient::new(channel), &mut world.producer(2), 1).await;
    });
    served.stop().unwrap();
}
