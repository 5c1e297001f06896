//! From a signed transaction to its proof, over HTTP, across a restart.

use quipu_types::{AccountId, Action};
use serde_json::{Value as Json, json};

use crate::world::{Producer, Served, World, append, broken, create_stream, route, secret};

/// The parts of an answer that do not depend on time, as text.
fn shown(answers: &[Json]) -> String {
    let line = |answer: &Json| {
        let text = |name: &str| answer[name].as_str().unwrap_or("-").to_owned();
        let (status, code, message) = (text("status"), text("code"), text("message"));
        format!("{status} {} {code} {message}\n", answer["applied"])
    };
    answers.iter().map(line).collect()
}

fn filled(world: &World, served: &Served) -> (Producer, Vec<Json>) {
    let mut producer = world.producer(2);
    let answers = served.submit(&[producer.sign(None, vec![create_stream("readings")])]);
    assert_eq!(answers[0]["applied"], true, "{answers:?}");
    let batches: Vec<Vec<u8>> = (0..12)
        .map(|batch| {
            let place = ["EWR", "JFK", "LGA"][batch % 3];
            let first = i64::try_from(batch * 5).unwrap();
            let actions = (first..first + 5).map(|n| append("readings", n, place)).collect();
            producer.sign(Some(&route(place)), actions)
        })
        .collect();
    let answers = served.submit(&batches);
    assert!(answers.iter().all(|answer| answer["applied"] == true), "{answers:?}");
    (producer, answers)
}

#[test]
fn a_submitted_event_is_final_proven_queried_and_there_after_a_restart() {
    let world = World::new();
    let served = world.start();
    let (_, answers) = filled(&world, &served);
    let tx = answers[0]["tx"].as_str().unwrap().to_owned();
    let lines = served.get("/v1/streams/readings/events").text();
    assert_eq!(lines.lines().count(), 60);
    let state = served.get_json("/v1/status");
    assert_eq!(state["transactions"], 13);
    served.stop().unwrap();

    let served = world.start();
    assert_eq!(served.get_json(&format!("/v1/transactions/{tx}")), answers[0]);
    assert_eq!(
        served.get("/v1/streams/readings/events").text(),
        lines,
        "a restart changes nothing"
    );
    let proof = served.get(&format!("/v1/transactions/{tx}/proof?action=3"));
    assert_eq!(proof.status, 200, "{}", proof.text());
    let verified = quipu_proof::verify(&proof.text(), &world.genesis).unwrap();
    assert_eq!(verified.tx.to_string(), tx);
    assert!(proof.json()["receipt"].is_object(), "the outcome is proven too");
    let sql = json!({ "query": "select count(*), sum(n) from readings" }).to_string();
    let answer = request_sql(&served, &sql);
    assert_eq!(answer["rows"], json!([["60", "1770"]]), "{answer}");
    served.stop().unwrap();
}

fn request_sql(served: &Served, body: &str) -> Json {
    let headers = [("Content-Type", "application/json")];
    crate::world::request(served.at.http, "POST", "/v1/sql", &headers, body.as_bytes()).json()
}

#[test]
fn every_kind_of_bad_transaction_is_refused_with_its_code_and_the_good_ones_stand() {
    let world = World::new();
    let served = world.start();
    let mut producer = world.producer(2);
    let good = producer.sign(None, vec![create_stream("readings")]);
    let used = producer.sign_as(1, None, vec![create_stream("others")]);
    let gap = producer.sign_as(9, None, vec![create_stream("others")]);
    let other_chain = {
        let mut other = World::new();
        other.genesis.name = "another".into();
        other.producer(3).sign(None, vec![create_stream("others")])
    };
    let poor =
        world.producer(4).sign(None, vec![Action::Transfer { to: AccountId([9; 32]), amount: 1 }]);
    let no_stream = producer.sign(Some(b"EWR"), vec![append("nothing", 1, "EWR")]);
    let wrong_route = producer.sign(Some(b"XXX"), vec![append("readings", 1, "EWR")]);
    let bad_row = Action::Append { stream: "readings".into(), key: vec![], payload: vec![255] };
    let bad_row = producer.sign(Some(&route("JFK")), vec![bad_row]);
    assert_eq!(shown(&served.submit(std::slice::from_ref(&good))), "committed true - -\n");
    let answers = served.submit(&[
        good,
        used,
        gap,
        broken(&poor),
        other_chain,
        b"no transaction".to_vec(),
        poor,
        no_stream,
        wrong_route,
        bad_row,
    ]);
    expect_test::expect![[r#"
        committed true - -
        invalid null QP0102 the sequence was used by another transaction; next is 2 of incarnation 0
        invalid null QP0103 the next sequence is 2 of incarnation 0
        invalid null QP0101 signature does not verify
        invalid null QP0101 signature does not verify
        invalid null QP0001 bytes are not a transaction
        committed false QP0202 account has too few units (action 0)
        committed false QP0203 no such stream (action 0)
        committed false QP0206 transaction has another route than its stream (action 0)
        committed false QP0207 payload is no row of the stream (action 0)
    "#]]
    .assert_eq(&shown(&answers));
    assert!(served.metric("quipu_refused_total{code=\"QP0101\"}") >= 2.0);
    served.stop().unwrap();
}

#[test]
fn a_repeat_is_answered_with_the_first_position_before_and_after_a_restart() {
    let world = World::new();
    let served = world.start();
    let (mut producer, _) = filled(&world, &served);
    let again = producer.sign(Some(&route("EWR")), vec![append("readings", 7, "EWR")]);
    let first = served.submit(&[again.clone(), again.clone()]);
    assert_eq!(first[0], first[1], "a repeat in one body");
    assert_eq!(served.submit(std::slice::from_ref(&again))[0], first[0], "a repeat later");
    served.stop().unwrap();
    let served = world.start();
    assert_eq!(served.submit(&[again])[0], first[0], "a repeat after a restart");
    assert_eq!(served.get("/v1/streams/readings/events").text().lines().count(), 61);
    let key = secret(2).public();
    let path = format!("/v1/producers/{key}?route={}", hex::encode(route("EWR")));
    assert!(served.get_json(&path)["next_sequence"].as_u64().unwrap() >= 6);
    served.stop().unwrap();
}

#[test]
fn who_does_not_wait_is_told_pending_and_finds_the_position_by_name() {
    let world = World::new();
    let served = world.start();
    let mut producer = world.producer(2);
    let mut body = Vec::new();
    quipu_net::put_frame(&mut body, &producer.sign(None, vec![create_stream("readings")]));
    let answer = served.post("/v1/transactions?wait=none", &body).json();
    assert_eq!(answer[0]["status"], "pending");
    let repeat = served.post("/v1/transactions", &body).json();
    assert_eq!(repeat[0]["status"], "committed");
    let tx = answer[0]["tx"].as_str().unwrap();
    assert_eq!(served.get_json(&format!("/v1/transactions/{tx}")), repeat[0]);
    let unknown = served.get_json(&format!("/v1/transactions/{}", "0".repeat(64)));
    assert_eq!(unknown["status"], "unknown");
    served.stop().unwrap();
}

#[test]
fn headers_streams_validators_genesis_and_status_agree() {
    let world = World::new();
    let served = world.start();
    filled(&world, &served);
    let latest = served.get_json("/v1/headers/latest");
    let height = latest["height"].as_u64().unwrap();
    let by_height = served.get_json(&format!("/v1/headers/{height}"));
    assert_eq!(by_height["hash"].as_str().unwrap().len(), 64);
    let list = served.get_json("/v1/headers?from=1&limit=3");
    assert_eq!(list[0]["prev_header"], world.chain().to_string());
    assert_eq!(list[1]["prev_header"], list[0]["hash"]);
    let streams = served.get_json("/v1/streams");
    assert_eq!(streams[0]["name"], "readings");
    assert_eq!(streams[0]["route_by"], "place");
    assert_eq!(served.get_json("/v1/streams/readings"), streams[0]);
    assert_eq!(served.get_json("/v1/validators")[0]["this"], true);
    assert_eq!(served.get("/v1/genesis").text(), world.genesis.to_json());
    let status = served.get_json("/v1/status");
    assert_eq!(status["chain"], world.chain().to_string());
    assert!(status["executed_height"].as_u64() <= status["height"].as_u64());
    let ready = crate::world::request(served.at.admin, "GET", "/readyz", &[], &[]);
    assert_eq!(ready.status, 200, "{}", ready.text());
    served.stop().unwrap();
}

#[test]
fn psql_sees_what_was_appended_as_soon_as_it_was_answered() {
    let world = World::new();
    let served = world.start();
    filled(&world, &served);
    let url = format!("postgresql://test@{}/quipu", served.at.pg);
    let query = "select place, count(*), min(_action) from readings group by 1 order by 1";
    let run = std::process::Command::new("psql")
        .args([&url, "-XAtc", query])
        .output()
        .expect("scripts/setup installs psql");
    assert_eq!(String::from_utf8_lossy(&run.stderr), "");
    assert_eq!(String::from_utf8_lossy(&run.stdout), "EWR|20|0\nJFK|20|0\nLGA|20|0\n");
    let write = std::process::Command::new("psql")
        .args([&url, "-XAt", "-v", "VERBOSITY=verbose", "-c", "delete from readings"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&write.stderr).contains("0A000"), "{write:?}");
    served.stop().unwrap();
}
