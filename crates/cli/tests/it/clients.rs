//! Real clients do what their users do: connect, create, insert, select, fail, roll back, copy, and look at the catalog. One
//! of gRPC finds by reflection what it calls.
//!
//! ```text
//!  tests/clients/*  ── one after the other, each at the next of four validators ─> a line with its version and time
//! ```
//! Not at once: of two transactions that create tables, one is told to begin again.
//! Every script passes on a PostgreSQL 15, too (`QUIPU_CLIENTS_URL` runs them at any server): what they ask for is right.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use quipu_crypto::keyfile;
use quipu_proof::names::{TransactionDraft, chain_id, sign_transaction};
use quipu_types::{Action, Encode, RouteRule, Schema, StreamSpec, Writers};

use crate::harness::{Ledger, Server, cache, ok, quipu_with, read_json};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
/// Fewer than that say little.
const CLIENT_COUNT_MIN: usize = 8;
/// Seconds after which a client has hung.
const SECONDS_MAX: &str = "300";

/// A script, and what runs it.
const CLIENTS: &[(&str, Runtime)] = &[
    ("psql.sh", Runtime::Shell("psql")),
    ("pgbench.sh", Runtime::Shell("pgbench")),
    ("psycopg_3.py", Runtime::Python),
    ("psycopg_2.py", Runtime::Python),
    ("async_pg.py", Runtime::Python),
    ("pg_8000.py", Runtime::Python),
    ("sql_alchemy.py", Runtime::Python),
    ("adbc_arrow.py", Runtime::Python),
    ("node_pg.js", Runtime::Node),
    ("node_postgres.js", Runtime::Node),
    ("Jdbc.java", Runtime::Java),
];

#[derive(Clone, Copy)]
enum Runtime {
    /// A program that the script needs.
    Shell(&'static str),
    Python,
    Node,
    Java,
}

/// Whether a program is there and runs.
fn runs(program: &str) -> bool {
    let said = Command::new(program)
        .arg("--version")
        .env("PATH", path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    said.is_ok_and(|status| status.success())
}

/// What `scripts/setup` unpacked stands before what is installed.
fn path() -> String {
    let own = cache("bin").display().to_string();
    std::env::var("PATH").map_or(own.clone(), |path| format!("{own}:{path}"))
}

impl Runtime {
    /// What must be there and is not.
    fn missing(self) -> Option<String> {
        let file = |path: PathBuf| (!path.exists()).then(|| path.display().to_string());
        match self {
            Self::Shell(program) => (!runs(program)).then(|| program.to_owned()),
            Self::Python => file(cache("python/bin/python")),
            Self::Node if !runs("node") => Some("node".to_owned()),
            Self::Node => file(cache("node/node_modules")),
            Self::Java if !runs("javac") => Some("javac".to_owned()),
            Self::Java => file(jar()),
        }
    }

    fn command(self, script: &str, url: &str) -> Command {
        let mut command = Command::new("timeout");
        command.arg(SECONDS_MAX).env("PATH", path()).env("PYTHONDONTWRITEBYTECODE", "1");
        match self {
            Self::Shell(_) => command.arg("bash"),
            Self::Python => command.arg(cache("python/bin/python")),
            Self::Node => command.arg("node").env("NODE_PATH", cache("node/node_modules")),
            Self::Java => command.args(["java", "-Xmx256m", "-cp"]).arg(jar()),
        };
        command.arg(format!("{FOLDER}/{script}")).arg(url);
        command
    }
}

/// pgjdbc, as its package has it.
fn jar() -> PathBuf {
    PathBuf::from("/usr/share/java/postgresql.jar")
}

/// Runs a client: what it is and how long it took, or what went wrong.
fn run(script: &str, runtime: Runtime, url: &str, more: &[&str]) -> Result<String, String> {
    let begin = Instant::now();
    let output =
        runtime.command(script, url).args(more).output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{script} at {url}: {}\n{said}{complaint}", output.status));
    }
    let version = said.lines().last().unwrap_or_default();
    Ok(format!("{script}: {version}, {:.1} s", begin.elapsed().as_secs_f64()))
}

fn judge(urls: &[String]) {
    let mut count = 0;
    let mut failed = Vec::new();
    for ((script, runtime), url) in CLIENTS.iter().zip(urls.iter().cycle()) {
        if let Some(what) = runtime.missing() {
            println!("{script}: not run, {what} is missing");
            continue;
        }
        match run(script, *runtime, url, &[]) {
            Ok(line) => {
                println!("{line}");
                count += 1;
            }
            Err(error) => failed.push(error),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(count >= CLIENT_COUNT_MIN, "{count} clients ran; scripts/setup installs them");
}

#[test]
fn real_clients_find_what_postgresql_gives_them() {
    if let Ok(url) = std::env::var("QUIPU_CLIENTS_URL") {
        return judge(&[url]);
    }
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger");
    let server = Server::dev(&ledger, &["--no-sample", "--validators", "4"]);
    let nodes = read_json(&ledger.with_extension("urls.json"))["nodes"].take();
    let text = |node: &serde_json::Value| node["pg"].as_str().unwrap().to_owned();
    let urls: Vec<String> = nodes.as_array().unwrap().iter().map(text).collect();
    judge(&urls);
    server.stop();
}

/// A stream of its own for a client that can not sign.
fn signed(ledger: &Ledger) -> String {
    let key = keyfile::load(ledger.signer().as_ref(), None).unwrap();
    let chain = chain_id(&ledger.read_genesis());
    let stream = StreamSpec {
        name: "by_grpc".into(),
        schema: Schema::parse("n int8").unwrap(),
        route: RouteRule::Signer,
        writers: Writers::Anyone,
        compacted: false,
    };
    let draft = TransactionDraft {
        incarnation: 0,
        sequence: 1,
        anchor: chain,
        route: None,
        actions: vec![Action::CreateStream(stream)],
    };
    hex::encode(sign_transaction(&key, &chain, draft).to_bytes())
}

#[test]
fn a_stock_grpc_client_finds_by_reflection_what_it_calls() {
    assert_eq!(Runtime::Python.missing(), None, "run scripts/setup first");
    let ledger = Ledger::new();
    let server = Server::start(&ledger.node());
    let transaction = signed(&ledger);
    let address = server.http.trim_start_matches("http://");
    let line = run("grpc_reflected.py", Runtime::Python, address, &["submit", &transaction]);
    println!("{}", line.unwrap_or_else(|error| panic!("{error}")));
    let (url, signer) = (server.http.as_str(), ledger.signer());
    let made = ["stream", "create", "--url", url, "--signer", &signer, "notes"];
    ok(&[&made[..], &["--schema", "n int8 not null, what text"]].concat());
    let rows: String = (0..9).map(|n| format!("{{\"n\": {n}, \"what\": \"é {n}\"}}\n")).collect();
    let append = ["append", "--url", url, "--signer", &signer, "--stream", "notes"];
    let ran = quipu_with(&[&append[..], &["--batch", "2", "--file", "-"]].concat(), &rows);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let line = run("grpc_reflected.py", Runtime::Python, address, &["read"]);
    println!("{}", line.unwrap_or_else(|error| panic!("{error}")));
    server.stop();
}
