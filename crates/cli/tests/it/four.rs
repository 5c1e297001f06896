//! Four validators, in one process and in four: who writes where, who reads what, and who is missing.

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::fleet::until;
use crate::harness::{Ledger, Server, json, ok, psql, quipu, read_json};

fn create(url: &str, signer: &str) {
    let schema = ["--schema", "n int4 not null"];
    let mut args = vec!["stream", "create", "--url", url, "--signer", signer, "s"];
    args.extend(schema);
    ok(&args);
}

fn append(url: &str, signer: &str, number: u32, more: &[&str]) -> Json {
    let row = json!({ "n": number }).to_string();
    let mut args = vec!["append", "--url", url, "--signer", signer, "--stream", "s", "--json"];
    args.extend(["--data", &row]);
    args.extend(more);
    json(&args)
}

/// A key of one's own: two that append at once with one key would count its transactions together.
fn key(ledger: &Ledger, name: &str) -> String {
    let path = ledger.text(name);
    ok(&["keys", "new", "--out", &path]);
    path
}

/// A proof from one validator carries the words of a quorum.
fn proof_holds(dir: &Path, url: &str, tx: &str) {
    let (bundle, genesis) = (dir.join("bundle.json"), dir.join("ledger/genesis.json"));
    std::fs::write(&bundle, ok(&["prove", "--url", url, tx])).unwrap();
    let (bundle, genesis) = (bundle.to_str().unwrap(), genesis.to_str().unwrap());
    let said = ok(&["verify", "--genesis", genesis, bundle]);
    let is_quorum = |line: &str| {
        line.starts_with("committed")
            && ["3 validators with 3 of 4 power", "4 validators with 4 of 4 power"]
                .iter()
                .any(|words| line.contains(words))
    };
    assert!(said.lines().any(is_quorum), "{said}");
}

#[test]
fn dev_runs_four_validators_and_continues_them() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger");
    let signer = ledger.join("keys/dev.key").to_str().unwrap().to_owned();
    let nodes = || -> Vec<Json> {
        let urls = read_json(&dir.path().join("ledger.urls.json"));
        let nodes = urls["nodes"].as_array().unwrap().clone();
        assert_eq!((&urls["http"], &urls["pg"]), (&nodes[0]["http"], &nodes[0]["pg"]));
        nodes
    };
    let count_is = |expected: &str| {
        for node in nodes() {
            let pg = node["pg"].as_str().unwrap();
            until("a validator's rows", || psql(pg, "select count(*) from s") == expected);
        }
    };
    let server = Server::dev(&ledger, &["--no-sample"]);
    let all = nodes();
    assert_eq!(all.len(), 4);
    let url = |index: usize| all[index]["http"].as_str().unwrap();
    create(url(0), &signer);
    let appended = append(url(1), &signer, 1, &[]);
    append(url(3), &signer, 2, &["--ack", "final"]);
    count_is("2\n");
    until("links between all", || {
        ok(&["status", "--url", url(2)]).contains("quorum      yes, power 4 of 4 reachable")
    });
    proof_holds(dir.path(), url(1), appended["tx"].as_str().unwrap());
    server.stop();

    let server = Server::dev(&ledger, &["--no-sample"]);
    assert_eq!(nodes().len(), 4);
    count_is("2\n");
    server.stop();
    for index in 0..4 {
        let node = ledger.join(format!("node{index}"));
        ok(&["check", "--dir", node.to_str().unwrap()]);
    }
}

#[test]
fn one_of_four_is_missed_by_name_and_two_are_no_quorum() {
    let ledger = Ledger::of(4);
    let start = |index: usize| Server::start(&ledger.path(&format!("l/node{index}")));
    let mut servers: Vec<Server> = (0..4).map(start).collect();
    let signer = key(&ledger, "a.key");
    create(&servers[0].http, &signer);
    append(&servers[0].http, &signer, 1, &[]);
    let first = servers[0].http.clone();
    let says = |text: &str| {
        until(text, || {
            let ran = quipu(&["status", "--url", &first]);
            assert_eq!(ran.code, Some(0), "{}", ran.stderr);
            ran.stdout.contains(text)
        });
    };
    says("quorum      yes, power 4 of 4 reachable");

    servers.pop().unwrap().kill();
    says("power 3 of 4 reachable; missing node3");
    append(&servers[1].http, &signer, 2, &[]);

    servers.pop().unwrap().kill();
    says("no quorum: missing node2");
    let status = json(&["status", "--url", &first, "--json"]);
    assert_eq!(status["quorum"]["has_quorum"], false, "{status}");

    servers.extend([start(2), start(3)]);
    says("quorum      yes, power 4 of 4 reachable");
    let height = |server: &Server| {
        json(&["status", "--url", &server.http, "--json"])["height"].as_u64().unwrap()
    };
    let reached = height(&servers[0]);
    until("node3 catches up", || height(&servers[3]) >= reached);
    append(&servers[3].http, &signer, 3, &[]);
    for server in &servers {
        until("a validator's rows", || server.psql("select count(*) from s") == "3\n");
    }
    for server in servers {
        server.stop();
    }
}

#[test]
fn a_benchmark_of_four_validators_measures_each() {
    let report = json(&[
        "bench",
        "ingest",
        "--validators",
        "4",
        "--batch",
        "10",
        "--producers",
        "4",
        "--events",
        "4000",
        "--json",
    ]);
    let result = &report["results"][0];
    assert_eq!(result["validators"], 4, "{report}");
    let memory = result["rss_anon_max_bytes_each"].as_array().unwrap();
    assert_eq!(memory.len(), 4, "{report}");
    assert!(memory.iter().all(|bytes| bytes.as_u64().unwrap() > 0), "{report}");
}
