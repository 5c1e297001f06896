//! `quipu bench`: what it reports, and that nothing of it stays, however it ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::harness::{Ledger, QUIPU, fails, program, ready_line};

/// How long something that must happen may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a benchmark whose ledger lives in `temp`.
fn bench(temp: &Path, args: &[&str]) -> Child {
    Command::new(QUIPU)
        .args(["bench", "ingest", "--json"])
        .args(args)
        .env("TMPDIR", temp)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

/// Asks until there is an answer.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited too long: {what}");
        std::thread::yield_now();
    }
}

/// The first process that this one started.
fn child_of(pid: u32) -> Option<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    threads.flatten().find_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("children")).ok()?;
        text.split_whitespace().next().map(str::to_owned)
    })
}

#[test]
fn kernels_are_measured_and_an_unknown_one_is_refused_by_name() {
    let accel = |word: &str| {
        let mut command = Command::new(QUIPU);
        command.args(["bench", "accel", "--json"]).env("QUIPU_ACCEL", word);
        command.output().unwrap()
    };
    let output = accel("scalar");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    let rates = report["per_second"].as_object().unwrap();
    assert!(rates.len() > 5 && rates.values().all(|rate| rate.as_f64() > Some(1.0)), "{report}");
    let clocks = report["clock_per_second"].as_object().unwrap();
    assert!(clocks.len() > 1 && clocks.values().all(|rate| rate.as_f64() > Some(1.0)), "{report}");
    assert!(report["kernels"].as_str().unwrap().contains("scalar: serves"), "{report}");
    let output = accel("avx1024");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("QUIPU_ACCEL: no backend is called \"avx1024\""), "{said}");
}

#[test]
fn a_benchmark_reports_its_rate_and_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let args = ["--batch", "10", "--producers", "2", "--events", "400", "--rate", "4000"];
    let output = bench(temp.path(), &args).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    let result = &report["results"][0];
    assert_eq!((&result["events"], &result["validators"]), (&400.into(), &1.into()));
    assert_eq!(result["rate"], 4_000);
    // The last request of 80 events was due after 320 of them.
    let seconds = result["seconds"].as_f64().unwrap();
    assert!(seconds >= 320.0 / 4_000.0, "{seconds} s");
    let p50 = result["p50_us"].as_u64().unwrap();
    assert!(0 < p50 && p50 <= result["p99_us"].as_u64().unwrap(), "{result}");
    assert!(result["rss_anon_max_bytes"].as_u64().unwrap() > 0, "{result}");
    assert_eq!(files(temp.path()), Vec::<PathBuf>::new());
}

#[test]
fn events_that_come_one_by_one_are_gathered_and_words_travel_compressed() {
    let temp = tempfile::tempdir().unwrap();
    let args = ["--batch", "50", "--producers", "2", "--events", "2001", "--linger", "1"];
    let output = bench(temp.path(), &[&args[..], &["--compress"]].concat()).wait_with_output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    let result = &report["results"][0];
    assert_eq!((&report["bench"], &result["events"]), (&"produce".into(), &2001.into()));
    assert_eq!((&result["linger_ms"], &result["compresses"]), (&1.into(), &true.into()));
    assert!(result["p99_us"].as_u64() > Some(0), "{result}");
}

#[test]
fn a_validator_that_dies_is_named_and_its_log_is_kept() {
    let temp = tempfile::tempdir().unwrap();
    let bench = bench(temp.path(), &["--batch", "1", "--producers", "1", "--events", "1000000"]);
    let pid = bench.id();
    let victim = until("a validator", || child_of(pid));
    assert_eq!(program("kill", &["-KILL", &victim]).code, Some(0));
    let output = bench.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("node0 ended early") && said.contains("SIGKILL"), "{said}");
    let [dir] = files(temp.path()).try_into().unwrap();
    assert_eq!(files(&dir), [dir.join("node0.log")]);
}

#[test]
fn a_benchmark_that_is_stopped_takes_its_ledger_with_it() {
    let temp = tempfile::tempdir().unwrap();
    let bench = bench(temp.path(), &["--batch", "1", "--producers", "1", "--events", "1000000"]);
    let pid = bench.id();
    let child = until("a validator", || child_of(pid));
    assert_eq!(program("kill", &["-TERM", &pid.to_string()]).code, Some(0));
    let output = bench.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("QP0106"), "{said}");
    assert!(!Path::new(&format!("/proc/{child}")).exists(), "{child} lives on");
    assert_eq!(files(temp.path()), Vec::<PathBuf>::new());
}

#[test]
fn a_validator_may_stop_when_whoever_started_it_has_gone() {
    let ledger = Ledger::new();
    let mut child = Command::new(QUIPU)
        .args(["start", "--until-input-ends", "--dir", &ledger.text("l/node0")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    ready_line(&mut child, None);
    assert!(child.try_wait().unwrap().is_none());
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_benchmark_of_nothing_is_refused() {
    for args in [["--rate", "0"], ["--validators", "0"], ["--size", "3"]] {
        let mut command = vec!["bench", "ingest"];
        command.extend(args);
        fails(2, &command);
    }
}
