//! One ledger from its first key to its last question, and every way to hold it wrong.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::{Value as Json, json};

use crate::harness::{Ledger, Server, fails, json, ok, program, quipu_with, tail};

const NOTES: &str = "author text not null, stars int2, body text";

#[test]
fn a_ledger_is_made_started_written_read_proven_and_started_again() {
    let ledger = Ledger::new();
    let server = ledger.start();
    let created = ledger.create_stream(&server, "notes", NOTES, &["--route-by", "author"]);
    assert!(created.contains("stream notes created"), "{created}");
    let first =
        ledger.append(&server, "notes", &json!({"author": "ann", "stars": 5, "body": "one"}));
    assert_eq!(first["status"], "committed");
    let file =
        ledger.write("rows.jsonl", "{\"author\":\"ann\",\"body\":\"two\"}\n{\"author\":\"ben\"}\n");
    let signer = ledger.signer();
    let printed = ok(&[
        "append",
        "--url",
        &server.http,
        "--signer",
        &signer,
        "--stream",
        "notes",
        "--file",
        &file,
    ]);
    assert_eq!(printed.lines().filter(|line| line.contains("position ")).count(), 2, "{printed}");

    let events = tail(&server, "notes");
    let bodies: Vec<&Json> = events.iter().map(|event| &event["data"]["body"]).collect();
    assert_eq!(events.len(), 3, "{events:?}");
    assert!(bodies.contains(&&json!("two")) && bodies.contains(&&Json::Null));
    let rest = ok(&[
        "tail",
        "--url",
        &server.http,
        "--stream",
        "notes",
        "--json",
        "--from",
        events[0]["position"].as_str().unwrap(),
    ]);
    assert_eq!(rest.lines().count(), 2, "{rest}");

    let answer = json(&[
        "sql",
        "--url",
        &server.http,
        "select author, count(*) from notes group by 1 order by 1",
        "--json",
    ]);
    assert_eq!(answer["rows"], json!([["ann", "2"], ["ben", "1"]]));
    assert_eq!(server.psql("select stars, body from notes where stars is not null"), "5|one\n");
    let status = json(&["status", "--url", &server.http, "--json"]);
    assert!(status["height"].as_u64().unwrap() >= 3, "{status}");
    assert!(ok(&["status", "--url", &server.http]).contains("height"));

    let bundle = ledger.write(
        "bundle.json",
        &ok(&["prove", "--url", &server.http, first["tx"].as_str().unwrap()]),
    );
    server.stop();
    let verified = json(&["verify", "--genesis", &ledger.genesis(), &bundle, "--json"]);
    assert_eq!((&verified["valid"], &verified["tx"]), (&json!(true), &first["tx"]));
    let node = ledger.text("l/node0");
    ok(&["check", "--dir", &node]);

    let server = ledger.start();
    assert_eq!(tail(&server, "notes"), events);
    let again = ledger.append(&server, "notes", &json!({"author": "ann"}));
    assert!(again["height"].as_u64() > first["height"].as_u64());
    assert_eq!(server.psql("select count(*) from notes"), "4\n");
    server.stop();
}

#[test]
fn a_bad_row_names_its_line_and_nothing_of_its_file_is_appended() {
    let ledger = Ledger::new();
    let server = ledger.start();
    ledger.create_stream(&server, "notes", NOTES, &[]);
    let signer = ledger.signer();
    for (bad, reason) in [
        ("{\"author\":\"b\",\"stars\":40000}", "column \"stars\": 40000 is not of type int2"),
        ("{\"stars\":1}", "column \"author\" must not be null"),
        ("{\"author\":\"b\",\"star\":1}", "no column \"star\""),
        ("{\"author\":", "not JSON"),
    ] {
        let text = format!("{{\"author\":\"a\"}}\n{bad}\n{{\"author\":\"c\"}}\n");
        let file = ledger.write("bad.jsonl", &text);
        let said = fails(
            1,
            &[
                "append",
                "--url",
                &server.http,
                "--signer",
                &signer,
                "--stream",
                "notes",
                "--file",
                &file,
            ],
        );
        assert!(
            said.contains("QP0704") && said.contains("line 2") && said.contains(reason),
            "{said}"
        );
    }
    assert_eq!(tail(&server, "notes"), Vec::<Json>::new());
    let said = fails(
        1,
        &["append", "--url", &server.http, "--signer", &signer, "--stream", "none", "--data", "{}"],
    );
    assert!(said.contains("QP0203"), "{said}");
    server.stop();
}

#[test]
fn standard_input_is_appended_as_it_comes_and_a_failure_says_where_to_go_on() {
    let ledger = Ledger::new();
    let server = ledger.start();
    ledger.create_stream(&server, "notes", NOTES, &["--route-by", "author"]);
    let signer = ledger.signer();
    let mut args = vec!["append", "--url", &server.http, "--signer", &signer, "--stream", "notes"];
    args.extend(["--file", "-", "--json"]);
    let mut child = Command::new(crate::harness::QUIPU)
        .args(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    // Answered while the input stays open.
    for number in 0..3 {
        writeln!(input, "{{\"author\":\"ann\",\"stars\":{number}}}").unwrap();
        let line: Json = serde_json::from_str(&output.next().unwrap().unwrap()).unwrap();
        assert_eq!((&line["events"], &line["status"]), (&json!(1), &json!("committed")));
    }
    writeln!(input, "\n{{\"author\":\"ben\",\"stars\":3}}\n{{\"autor\":\"ben\"}}").unwrap();
    drop(input);
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("line 6: no column \"autor\""), "{said}");
    assert!(said.contains("Appended: lines 1 to 5") && said.contains("--from-line 6"), "{said}");
    args.extend(["--from-line", "6"]);
    let rows = "{}\n".repeat(5) + &"{\"author\":\"cy\",\"stars\":4}\n".repeat(2_500);
    let again = quipu_with(&args, &rows);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    let counts = again
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Json>(line).unwrap()["events"].as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), 2_500);
    let stars: Vec<i64> = tail(&server, "notes")
        .iter()
        .filter(|event| event["data"]["author"] == "ann")
        .map(|event| event["data"]["stars"].as_i64().unwrap())
        .collect();
    assert_eq!(stars, [0, 1, 2]);
    assert_eq!(server.psql("select count(*) from notes"), "2504\n");
    server.stop();
}

#[test]
fn curl_follows_a_stream_live_and_resumes_from_a_position() {
    let ledger = Ledger::new();
    let server = ledger.start();
    ledger.create_stream(&server, "notes", NOTES, &[]);
    let url = format!("{}/v1/streams/notes/events", server.http);
    let mut curl = Command::new("curl")
        .args(["-sN", &format!("{url}?follow=true")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(curl.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    for number in 0..3 {
        ledger.append(&server, "notes", &json!({"author": "a", "stars": number}));
        let event: Json = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(event["data"]["stars"], number);
        seen.push(event);
    }
    // Heights go on without it; a line without content says that it is still followed.
    assert_eq!(lines.next().unwrap().unwrap(), "");
    curl.kill().unwrap();
    curl.wait().unwrap();
    let from = seen[0]["position"].as_str().unwrap();
    let resumed = program("curl", &["-sf", &format!("{url}?from={from}")]);
    let resumed: Vec<Json> =
        resumed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(resumed, seen[1..]);
    server.stop();
}

#[test]
fn what_is_held_wrong_is_refused_with_its_code() {
    let ledger = Ledger::new();
    let dir = ledger.text("l");
    assert!(fails(1, &["init", "--dir", &dir, "--validators", "1"]).contains("is not replaced"));
    assert!(fails(2, &["dev", "--dir", &dir, "--validators", "4"]).contains("a ledger of 1"));
    assert!(fails(2, &["dev", "--dir", &ledger.text("n"), "--validators", "8"]).contains("1 to 7"));
    assert!(fails(2, &["init", "--dir", &ledger.text("n"), "--validators", "0"]).contains("1 to"));
    assert!(fails(2, &["init", "--dir", &dir]).contains("--validators"));
    let node = ledger.text("l/node0");
    let config = ledger.path("l/node0/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    ok(&["config", "check", config.to_str().unwrap()]);

    std::fs::write(&config, text.replace("body_size_max", "body_max_size")).unwrap();
    let said = fails(1, &["start", "--dir", &node]);
    assert!(said.contains("QP0601") && said.contains("limits.body_size_max"), "{said}");
    assert!(fails(1, &["config", "check", config.to_str().unwrap()]).contains("QP0601"));

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    std::fs::write(&config, text.replacen("127.0.0.1:0", &address, 1)).unwrap();
    assert!(fails(1, &["start", "--dir", &node]).contains("QP0603"));
    std::fs::write(&config, &text).unwrap();

    let genesis = ledger.path("l/genesis.json");
    let good = std::fs::read_to_string(&genesis).unwrap();
    std::fs::write(&genesis, good.replace("\"lane_count\": 16", "\"lane_count\": 0")).unwrap();
    assert!(fails(1, &["start", "--dir", &node]).contains("QP0602"));
    std::fs::write(&genesis, &good).unwrap();

    let server = ledger.start();
    assert!(fails(1, &["start", "--dir", &node]).contains("QP0303"));
    assert!(fails(1, &["sql", "--url", &server.http, "selec 1"]).contains("QP0501"));
    let unknown = "00".repeat(32);
    assert!(fails(1, &["prove", "--url", &server.http, &unknown]).contains("QP0404"));
    assert!(fails(2, &["prove", "--url", &server.http, "xyz"]).contains("TX"));
    server.stop();
    assert!(fails(1, &["status", "--url", "http://127.0.0.1:1"]).contains("QP0701"));
    assert!(fails(2, &["status", "--url", "localhost"]).contains("http://"));
}

#[test]
fn a_verifier_is_printed_and_never_the_same_twice() {
    let made = || quipu_with(&["keys", "verifier"], "pass w\u{f6}rd\n");
    let (first, second) = (made(), made());
    assert!(first.stdout.starts_with("SCRAM-SHA-256$4096:"), "{first:?}");
    assert_eq!(first.stdout.len(), "SCRAM-SHA-256$4096:$:\n".len() + 24 + 44 + 44);
    assert_ne!(first.stdout, second.stdout);
    let empty = quipu_with(&["keys", "verifier"], "\n");
    assert!(empty.code == Some(1) && empty.stderr.contains("QP0604"), "{empty:?}");
}

#[test]
fn keys_are_for_their_owner_alone_and_open_with_their_passphrase_only() {
    let ledger = Ledger::new();
    let file = ledger.text("my.key");
    let made = quipu_with(
        &["keys", "new", "--out", &file, "--passphrase", "--suite", "secp256k1-keccak"],
        "secret\n",
    );
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let mode = program("stat", &["-c", "%a", &file]).stdout;
    assert_eq!(mode, "600\n");
    let shown = json(&["keys", "show", &file, "--json"]);
    assert_eq!((&shown["sealed"], &shown["suite"]), (&json!(true), &json!("secp256k1-keccak")));
    assert!(fails(1, &["keys", "new", "--out", &file]).contains("QP0604"));

    let server = ledger.start();
    let create = |passphrase: &str| {
        let args = [
            "stream",
            "create",
            "--url",
            &server.http,
            "--signer",
            &file,
            "s",
            "--schema",
            "a int4",
        ];
        quipu_with(&args, passphrase)
    };
    let wrong = create("guess\n");
    assert!(wrong.code == Some(1) && wrong.stderr.contains("QP0604"), "{}", wrong.stderr);
    let right = create("secret\n");
    assert_eq!(right.code, Some(0), "{}", right.stderr);
    server.stop();
}

#[test]
fn dev_continues_its_directory_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger");
    let signer = ledger.join("keys/dev.key").to_str().unwrap().to_owned();
    let server = Server::dev(&ledger, &["--no-sample"]);
    ok(&[
        "stream",
        "create",
        "--url",
        &server.http,
        "--signer",
        &signer,
        "s",
        "--schema",
        "n int4",
    ]);
    ok(&[
        "append",
        "--url",
        &server.http,
        "--signer",
        &signer,
        "--stream",
        "s",
        "--data",
        "{\"n\":7}",
    ]);
    server.kill();
    let server = Server::dev(&ledger, &["--no-sample"]);
    assert_eq!(server.psql("select n from s"), "7\n");
    server.stop();
}

#[test]
fn simulated_worlds_report_what_happened() {
    let said = ok(&["sim", "--seeds", "20"]);
    assert!(said.contains("power cuts") && said.contains("no rule was broken"), "{said}");
    let trace = |seed: &str| ok(&["sim", "--seed", seed, "--trace"]);
    assert_eq!(trace("5"), trace("5"));
    assert_ne!(trace("5"), trace("6"));
}

#[test]
fn codes_are_explained_and_completions_are_printed() {
    assert!(ok(&["explain", "QP0603"]).contains("0 for any free one"));
    assert!(ok(&["explain"]).lines().count() > 30);
    assert!(fails(2, &["explain", "nonsense"]).contains("no code"));
    assert!(ok(&["completions", "bash"]).contains("quipu"));
    assert!(ok(&["--help"]).contains("First steps"));
}
