//! One flipped byte in any stored file: `check` names the file, and no reader gets the wrong byte.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::{Ledger, Server, ok, quipu, tail};

/// Every file under `dir`, but what a validator only reads or locks.
fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            files(&path, out);
        } else if !["config.toml", "first-start", "validator.key", "lock", "lock.mdb"]
            .contains(&name.as_str())
        {
            out.push(path);
        }
    }
}

/// A byte in the middle of what is used of a file.
fn middle(bytes: &[u8]) -> Option<usize> {
    let used = bytes.iter().rposition(|byte| *byte != 0)?;
    (used / 2..=used).find(|index| bytes[*index] != 0)
}

#[test]
fn one_flipped_byte_in_any_file_is_found_and_named() {
    let ledger = Ledger::new();
    let server = ledger.start();
    ledger.create_stream(&server, "notes", "who text not null, n int4", &["--route-by", "who"]);
    let rows: String =
        (0..2_000).map(|n| format!("{{\"who\":\"w{}\",\"n\":{n}}}\n", n % 40)).collect();
    let (file, signer) = (ledger.write("rows.jsonl", &rows), ledger.signer());
    ok(&[
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
    server.stop();
    let node = ledger.node();
    let node_text = ledger.text("l/node0");
    ok(&["check", "--dir", &node_text]);
    let mut all = Vec::new();
    files(&node, &mut all);
    let mut flipped = 0;
    for path in all.iter().filter(|path| !path.starts_with(node.join("state"))) {
        let before = std::fs::read(path).unwrap();
        let Some(place) = middle(&before) else { continue };
        let mut after = before.clone();
        after[place] ^= 1;
        std::fs::write(path, &after).unwrap();
        let ran = quipu(&["check", "--dir", &node_text]);
        let name = path.strip_prefix(&node).unwrap().to_str().unwrap();
        assert_eq!(ran.code, Some(3), "{name}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains(name), "{name} is not named: {}", ran.stdout);
        if name.starts_with("lanes/") && !name.ends_with("tree") {
            assert!(ran.stdout.contains("lane") && ran.stdout.contains("seqno"), "{}", ran.stdout);
        }
        std::fs::write(path, &before).unwrap();
        flipped += 1;
    }
    assert!(flipped >= 10, "only {flipped} files were flipped");
    ok(&["check", "--dir", &node_text]);
}

#[test]
fn a_flipped_byte_of_the_state_is_found() {
    let ledger = Ledger::new();
    let server = ledger.start();
    ledger.create_stream(&server, "notes_of_the_state", "n int4", &[]);
    server.stop();
    let path = ledger.path("l/node0/state/data.mdb");
    let before = std::fs::read(&path).unwrap();
    let wanted = b"notes_of_the_state";
    let mut after = before.clone();
    // Old pages may hold the record too: every copy is changed, in its last letter.
    for start in 0..before.len().saturating_sub(wanted.len()) {
        if before[start..].starts_with(wanted) {
            after[start + wanted.len() - 1] ^= 1;
        }
    }
    assert_ne!(before, after);
    std::fs::write(&path, &after).unwrap();
    let ran = quipu(&["check", "--dir", &ledger.text("l/node0")]);
    assert_eq!(ran.code, Some(3), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("state"), "{}", ran.stdout);
}

#[test]
fn a_state_that_ends_its_reader_is_damage_and_is_made_anew_from_the_log() {
    let ledger = Ledger::new();
    let server = ledger.start();
    ledger.create_stream(&server, "notes", "body text", &[]);
    for index in 0..20 {
        ledger.append(&server, "notes", &json!({ "body": format!("note {index}") }));
    }
    server.stop();
    // Without its seal the file is as after a crash: every page's header is overwritten but the two meta pages'.
    let state = ledger.path("l/node0/state");
    std::fs::remove_file(state.join("seal")).unwrap();
    let mut bytes = std::fs::read(state.join("data.mdb")).unwrap();
    for page in bytes.chunks_mut(4_096).skip(2) {
        page[8..24].fill(0xff);
    }
    std::fs::write(state.join("data.mdb"), bytes).unwrap();
    let ran = quipu(&["check", "--dir", &ledger.text("l/node0")]);
    assert_eq!(ran.code, Some(3), "{}{}", ran.stdout, ran.stderr);
    assert!(format!("{}{}", ran.stdout, ran.stderr).contains("state"), "{}", ran.stderr);

    std::fs::remove_dir_all(state).unwrap();
    let server = ledger.start();
    assert_eq!(tail(&server, "notes").len(), 20);
    server.stop();
    ok(&["check", "--dir", &ledger.text("l/node0")]);
}

#[test]
fn a_reader_never_gets_a_changed_byte() {
    let ledger = Ledger::new();
    let server = ledger.start();
    ledger.create_stream(&server, "notes", "body text", &[]);
    let secret = "an unmistakable sentence";
    ledger.append(&server, "notes", &json!({ "body": secret }));
    assert_eq!(tail(&server, "notes").len(), 1);
    flip_everywhere(&ledger.path("l/node0/lanes"), secret.as_bytes());
    let ran = quipu(&["tail", "--url", &server.http, "--stream", "notes", "--json"]);
    let given: String = ran.stdout.lines().collect();
    assert!(given.is_empty() || given.contains(secret), "a changed byte was served: {given}");
    assert!(given.contains(secret) || ran.stderr.contains("QP0301"), "{}", ran.stderr);
    drop::<Server>(server);
}

/// Changes the first byte of every copy of `wanted` in the files below `dir`.
fn flip_everywhere(dir: &Path, wanted: &[u8]) {
    let mut all = Vec::new();
    files(dir, &mut all);
    let mut count = 0;
    for path in all {
        let mut bytes = std::fs::read(&path).unwrap();
        for start in 0..bytes.len().saturating_sub(wanted.len()) {
            if bytes[start..].starts_with(wanted) {
                bytes[start] ^= 1;
                count += 1;
            }
        }
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(count > 0, "nothing was changed");
}
