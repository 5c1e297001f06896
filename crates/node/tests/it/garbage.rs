//! Bytes of no protocol, oversized and unfinished requests, at every listener.

use std::io::{Read, Write};

use crate::world::{World, connect, create_stream, request};

#[test]
fn garbage_is_closed_and_counted_at_every_listener_and_the_ledger_goes_on() {
    let world = World::new();
    let served = world.start();
    let mut noise = 1_u32;
    let mut byte = || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        noise.to_be_bytes()[0]
    };
    for (listener, address) in
        [("http", served.at.http), ("admin", served.at.admin), ("pg", served.at.pg)]
    {
        let name = format!("quipu_garbage_connections_total{{listener=\"{listener}\"}}");
        let before = served.metric(&name);
        for size in [1, 9, 700, 70_000] {
            let mut stream = connect(address);
            // 0xff begins no request line and no start-up message of an allowed length.
            let bytes: Vec<u8> = [0xff; 8].into_iter().chain((0..size).map(|_| byte())).collect();
            drop(stream.write_all(&bytes));
            let mut rest = Vec::new();
            // Closed, or reset because bytes were left unread.
            drop(stream.read_to_end(&mut rest));
            assert!(rest.len() < 1_000, "{listener} answers {} bytes", rest.len());
        }
        assert!(served.metric(&name) - before >= 4.0, "{listener}");
    }
    let mut stream = connect(served.at.http);
    stream.write_all(b"GET \x00\x01 nonsense\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest));
    assert!(served.metric("quipu_garbage_connections_total{listener=\"http\"}") >= 5.0);
    let mut producer = world.producer(2);
    let answers = served.submit(&[producer.sign(None, vec![create_stream("readings")])]);
    assert_eq!(answers[0]["applied"], true);
    served.stop().unwrap();
}

#[test]
fn requests_that_are_wrong_are_answered_in_one_form() {
    let world = World::new();
    let served = world.start();
    let mut shown = String::new();
    let too_long = [0xff, 0xff, 0xff, 0x7f, 1, 2, 3];
    let cut_short = [9, 0, 0, 0, 1, 2, 3];
    let json = [("Content-Type", "application/json")];
    for (method, path, headers, body) in [
        ("GET", "/nothing", &[][..], &[][..]),
        ("DELETE", "/v1/status", &[], &[]),
        ("POST", "/v1/transactions", &[], &[]),
        ("POST", "/v1/transactions", &[], &too_long),
        ("POST", "/v1/transactions", &[], &cut_short),
        ("POST", "/v1/transactions?wait=ever", &[], &[0, 0, 0, 0]),
        ("GET", "/v1/transactions/xyz", &[], &[]),
        ("GET", "/v1/producers/00", &[], &[]),
        ("GET", "/v1/headers/999999", &[], &[]),
        ("GET", "/v1/headers/minus", &[], &[]),
        ("GET", "/v1/streams/nothing", &[], &[]),
        ("GET", "/v1/streams/nothing/events", &[], &[]),
        ("POST", "/v1/sql", &json, b"{\"query\":\"selec 1\"}"),
        ("POST", "/v1/sql", &json, b"{\"query\":\"delete from quipu.headers\"}"),
        ("POST", "/v1/sql", &json, b"{\"sql\":\"select 1\"}"),
    ] {
        let answer = request(served.at.http, method, path, headers, body);
        let error = answer.json();
        assert!(!error["hint"].as_str().unwrap().is_empty());
        assert!(!error["message"].as_str().unwrap().is_empty());
        let (code, state) = (error["code"].as_str().unwrap(), error["sqlstate"].as_str());
        shown.push_str(&format!(
            "{} {code} {} {method} {path}\n",
            answer.status,
            state.unwrap_or("-")
        ));
    }
    expect_test::expect![[r#"
        404 QP0702 - GET /nothing
        405 QP0702 - DELETE /v1/status
        400 QP0001 - POST /v1/transactions
        413 QP0002 - POST /v1/transactions
        400 QP0001 - POST /v1/transactions
        400 QP0702 - POST /v1/transactions?wait=ever
        400 QP0702 - GET /v1/transactions/xyz
        400 QP0702 - GET /v1/producers/00
        404 QP0703 - GET /v1/headers/999999
        400 QP0702 - GET /v1/headers/minus
        404 QP0203 - GET /v1/streams/nothing
        404 QP0203 - GET /v1/streams/nothing/events
        400 QP0501 42601 POST /v1/sql
        400 QP0503 0A000 POST /v1/sql
        422 QP0702 - POST /v1/sql
    "#]]
    .assert_eq(&shown);
    served.stop().unwrap();
}

#[test]
fn a_body_above_the_limit_is_refused_before_it_is_read() {
    let world = World::new();
    let mut config = world.config();
    config.limits.body_size_max = 1 << 16;
    let served = crate::world::Served::start(config).unwrap();
    let answer = served.post("/v1/transactions", &vec![0; 1 << 17]);
    assert_eq!((answer.status, answer.json()["code"].as_str()), (413, Some("QP0002")));
    served.stop().unwrap();
}

#[test]
fn a_body_may_come_compressed_and_a_bomb_or_an_unknown_encoding_is_refused() {
    let world = World::new();
    let mut config = world.config();
    config.limits.body_size_max = 1 << 16;
    let served = crate::world::Served::start(config).unwrap();
    let mut producer = world.producer(2);
    let mut body = Vec::new();
    let spec = "x".repeat(2_000);
    let actions = (0..3).map(|number| create_stream(&format!("s{number}"))).collect();
    quipu_net::put_frame(&mut body, &producer.sign(None, actions));
    quipu_net::put_frame(&mut body, spec.as_bytes());
    let post = |encoding: &str, body: &[u8]| {
        let headers = [("Content-Encoding", encoding)];
        let answer = request(served.at.http, "POST", "/v1/transactions", &headers, body);
        (answer.status, answer.json())
    };
    let block = quipu_net::encoding::encode(&body).expect("letters repeat");
    let (status, answer) = post("snappy", &block);
    assert_eq!((status, &answer[0]["applied"]), (200, &true.into()), "{answer}");
    assert_eq!(answer[1]["code"], "QP0001");
    // The same as it is: a repeat.
    assert_eq!(post("identity", &body).1[0]["position"], answer[0]["position"]);

    let zeros = quipu_net::encoding::encode(&vec![0; 1 << 17]).expect("zeros repeat");
    let refused = |(status, answer): (u16, serde_json::Value)| (status, answer["code"].clone());
    assert_eq!(refused(post("snappy", &zeros)), (413, "QP0002".into()));
    // 64 KiB, say three bytes; none follow that could hold them.
    assert_eq!(refused(post("snappy", &[0x80, 0x80, 0x04])), (400, "QP0001".into()));
    assert_eq!(refused(post("snappy", &[0xff; 40])), (400, "QP0001".into()));
    let (status, answer) = post("br", &body);
    let said = answer["message"].as_str().unwrap();
    assert!(status == 415 && said.contains("\"br\"") && said.contains("snappy"), "{said}");
    served.stop().unwrap();
}

#[test]
fn the_interface_describes_every_route_that_it_serves() {
    let world = World::new();
    let served = world.start();
    let document = served.get_json("/v1/openapi.json");
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    expect_test::expect![[r#"
        [
            "/v1/blocks",
            "/v1/checkpoints",
            "/v1/checkpoints/{height}",
            "/v1/checkpoints/{height}/parts/{part}",
            "/v1/clock",
            "/v1/clock/before",
            "/v1/complaints",
            "/v1/epochs",
            "/v1/feed",
            "/v1/genesis",
            "/v1/groups",
            "/v1/groups/{name}",
            "/v1/headers",
            "/v1/headers/{height}",
            "/v1/producers/{key}",
            "/v1/sql",
            "/v1/status",
            "/v1/streams",
            "/v1/streams/{name}",
            "/v1/streams/{name}/compacted",
            "/v1/streams/{name}/events",
            "/v1/transactions",
            "/v1/transactions/{tx}",
            "/v1/transactions/{tx}/proof",
            "/v1/validators",
        ]
    "#]]
    .assert_debug_eq(&paths);
    served.stop().unwrap();
}

#[test]
fn names_of_measurements_end_in_their_unit() {
    let world = World::new();
    let served = world.start();
    let text = served.metrics();
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    for line in kinds {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(name.starts_with("quipu_"), "{line}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
    }
    for wanted in [
        "quipu_log_sync_seconds_bucket",
        "quipu_height_committed",
        "quipu_batch_events",
        "quipu_lane_lag_transactions{lane=\"3\"} ",
    ] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    served.stop().unwrap();
}
