//! The SQL suite of `tests/sql`, whose answers are PostgreSQL's: over the wire, on one validator and on four, which hold
//! one state afterwards.
//!
//! ```text
//!  *.slt ─> run.py ─┬─ extended protocol ─> one validator
//!                   └─ simple protocol, a file at each in turn ─> four
//! ```
//! What a validator then has stored is executed again by `quipu check`, which compares every state root with the one that
//! a quorum has signed.

use std::path::Path;

use crate::fleet::until;
use crate::harness::{Server, json, ok, psql, psycopg, read_json};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sql");
/// Fewer cases than that are not the whole suite.
const CASE_COUNT_MIN: usize = 3_000;

/// Runs all files, each at one of the validators.
fn run(urls: &[String], options: &str) {
    let script = format!(
        "import glob, runpy, sys
urls = [word for url in sys.argv[1].split() for word in ('--url', url)]
sys.argv = ['run.py', *{options:?}.split(), *urls, *sorted(glob.glob('{FOLDER}/*.slt'))]
runpy.run_path('{FOLDER}/run.py', run_name='__main__')"
    );
    let said = psycopg(&script, &urls.join(" "));
    println!("{said}");
    let count: usize = said.split_whitespace().next().unwrap().parse().unwrap();
    assert!(count >= CASE_COUNT_MIN, "{said}");
}

/// A ledger that answers the suite; every validator has one state, and has stored what leads to it.
fn suite_holds(validators: usize, options: &str) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger");
    let server = Server::dev(&ledger, &["--no-sample", "--validators", &validators.to_string()]);
    let nodes = read_json(&ledger.with_extension("urls.json"))["nodes"].take();
    let all = |name: &str| -> Vec<String> {
        let text = |node: &serde_json::Value| node[name].as_str().unwrap().to_owned();
        nodes.as_array().unwrap().iter().map(text).collect()
    };
    let (pg, http) = (all("pg"), all("http"));
    assert_eq!(pg.len(), validators);
    run(&pg, options);
    states_are_one(&pg, &http);
    server.stop();
    (0..validators).for_each(|index| is_clean(&ledger.join(format!("node{index}"))));
}

/// At the newest height that all have, its header is one, and with it the state root that a quorum signed.
fn states_are_one(pg: &[String], http: &[String]) {
    let number =
        |url: &str, name: &str| json(&["status", "--url", url, "--json"])[name].as_u64().unwrap();
    // The header after the last of the suite carries the certificate of its state.
    let last = http.iter().map(|url| number(url, "height")).max().unwrap();
    for url in http {
        until("the certificate of the last state", || number(url, "certified_height") > last);
    }
    let height = http.iter().map(|url| number(url, "certified_height")).min().unwrap();
    let query = format!("select hash from quipu.headers where height = {height}");
    let headers: Vec<String> = pg.iter().map(|url| psql(url, &query)).collect();
    assert!(
        headers.iter().all(|header| header.len() > 1 && Some(header) == headers.first()),
        "{headers:?}"
    );
}

/// The log, executed again by one thread and by two, leads to the states that were certified.
fn is_clean(node: &Path) {
    for threads in ["1", "2"] {
        let said = ok(&["check", "--threads", threads, "--dir", node.to_str().unwrap()]);
        assert!(said.starts_with("clean: ") && said.contains("executed again"), "{said}");
    }
    assert!(!node.join("evidence").exists(), "{} blames somebody", node.display());
}

#[test]
fn one_validator_answers_as_postgresql_does() {
    suite_holds(1, "--extended");
}

#[test]
fn four_validators_answer_as_postgresql_does_and_hold_one_state() {
    suite_holds(4, "");
}
