//! What is let go, what stays provable, archives, and a lost disk that begins with a checkpoint.

use std::path::Path;

use crate::fleet::{COUNT, Fleet, Load, until};
use crate::harness::{Ledger, Server, edit_config, fails, ok, psql, quipu};

/// Bytes of one of the large events that fill segments.
const LARGE_SIZE: usize = 600_000;

/// Lets a validator save a checkpoint every `every` heights and keep `keep` before it.
fn retain(node: &Path, every: u64, keep: u64) {
    let changes = [
        ("checkpoint_heights = 0", &*format!("checkpoint_heights = {every}")),
        ("keep_heights = 0", &format!("keep_heights = {keep}")),
        ("segment_size = 16777216", "segment_size = 4194304"),
    ];
    edit_config(node, &changes);
}

/// Appends events that fill segments of one lane.
fn append_large(ledger: &Ledger, server: &Server, count: usize) {
    let rows: String = (0..count)
        .map(|n| {
            format!("{{\"who\":\"large\",\"n\":{n},\"text\":\"{}\"}}\n", "x".repeat(LARGE_SIZE))
        })
        .collect();
    let (file, signer) = (ledger.write("large.jsonl", &rows), ledger.signer());
    let url = server.http.as_str();
    ok(&["append", "--url", url, "--signer", &signer, "--stream", "large", "--file", &file]);
}

fn create_large(ledger: &Ledger, server: &Server) {
    let schema = "who text not null, n int8 not null, text text not null";
    ledger.create_stream(server, "large", schema, &["--route-by", "who"]);
}

/// The names of the checkpoints in a directory.
fn checkpoints(node: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(node.join("checkpoints")) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned());
    let mut names: Vec<String> = names.filter(|name| name != "partial").collect();
    names.sort();
    names
}

fn is_pruned(node: &Path) -> bool {
    std::fs::read_dir(node.join("base")).is_ok_and(|mut files| files.next().is_some())
}

/// Appends to one stream until a validator has pruned.
fn until_pruned(ledger: &Ledger, server: &Server, node: &Path) {
    let mut n = 0;
    until("something is pruned", || {
        n += 1;
        ledger.append(server, "small", &serde_json::json!({ "who": "a", "n": n }));
        is_pruned(node)
    });
}

#[test]
fn what_is_pruned_is_refused_by_name_what_comes_after_is_proven_and_an_archive_has_the_rest() {
    let ledger = Ledger::new();
    let node = ledger.node();
    let server = ledger.start();
    create_large(&ledger, &server);
    ledger.create_stream(&server, "small", "who text not null, n int8 not null", &[]);
    append_large(&ledger, &server, 24);
    let first = psql(&server.pg, "select _tx from large order by n limit 1");
    let first = first.trim().split(':').next().unwrap().to_owned();
    let count = psql(&server.pg, "select count(*), sum(n) from large");
    server.stop();

    let archive = ledger.text("archive");
    let node_text = node.to_str().unwrap();
    let said = ok(&["export", "--dir", node_text, "--out", &archive]);
    assert!(said.contains("heights 1 to "), "{said}");
    fails(1, &["export", "--dir", node_text, "--out", &archive]);
    retain(&node, 16, 16);
    let server = ledger.start();
    until_pruned(&ledger, &server, &node);

    // The stream's rows stay, their proofs are in the archive.
    assert_eq!(psql(&server.pg, "select count(*), sum(n) from large"), count);
    let refused = fails(1, &["prove", "--url", &server.http, &first]);
    assert!(refused.contains("QP0723") && refused.contains("pruned"), "{refused}");
    let said = quipu(&["tail", "--url", &server.http, "--stream", "large"]);
    assert!(said.stderr.contains("QP0723"), "{said:?}");
    let fresh = ledger.append(&server, "small", &serde_json::json!({ "who": "b", "n": 1 }));
    let tx = fresh["tx"].as_str().unwrap().to_owned();
    let bundle = ledger.write("bundle.json", &ok(&["prove", "--url", &server.http, &tx]));
    let genesis = ledger.genesis();
    ok(&["verify", "--genesis", &genesis, &bundle]);
    server.kill();

    // After a kill it goes on, and what is left is executed again from the checkpoint before it.
    let server = ledger.start();
    let small = psql(&server.pg, "select count(*) from small");
    ledger.append(&server, "small", &serde_json::json!({ "who": "c", "n": 1 }));
    server.stop();
    let said = ok(&["check", "--dir", node_text]);
    assert!(said.starts_with("clean: ") && said.contains(" from "), "{said}");
    assert!(checkpoints(&node).len() <= 2, "{:?}", checkpoints(&node));

    // What follows from log and checkpoint is made again from them.
    std::fs::remove_dir_all(node.join("state")).unwrap();
    let server = ledger.start();
    let after: u64 = psql(&server.pg, "select count(*) from small").trim().parse().unwrap();
    assert_eq!(after, small.trim().parse::<u64>().unwrap() + 1);
    server.stop();

    let said = ok(&["check", "--archive", &archive, "--genesis", &genesis]);
    assert!(said.starts_with("clean: heights 1 to "), "{said}");
    let lanes = std::fs::read_dir(Path::new(&archive).join("lanes")).unwrap();
    let files = lanes.flat_map(|lane| std::fs::read_dir(lane.unwrap().path()).unwrap());
    let paths = files.map(|file| file.unwrap().path());
    let path = paths.max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let place = bytes.len() / 2;
    bytes[place] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let refused = fails(3, &["check", "--archive", &archive, "--genesis", &genesis]);
    assert!(refused.contains("damaged"), "{refused}");
}

#[test]
fn a_validator_that_lost_its_disk_begins_with_a_checkpoint_that_others_vouch_for() {
    let mut fleet = Fleet::with(|ledger| {
        (0..COUNT).for_each(|index| retain(&ledger.path(&format!("l/node{index}")), 32, 16));
    });
    fleet.create_stream();
    create_large(&fleet.ledger, fleet.server(0));
    append_large(&fleet.ledger, fleet.server(0), 20);
    let load = Load::start(&fleet);
    for index in 0..COUNT {
        until("it prunes", || is_pruned(&fleet.dir(index)));
    }
    fleet.kill(3);
    let dir = fleet.dir(3);
    for name in ["lanes", "headers", "handovers", "wal", "base", "state", "columns", "checkpoints"]
    {
        std::fs::remove_dir_all(dir.join(name)).unwrap();
    }
    std::fs::remove_file(dir.join("certificates")).unwrap();
    load.until_answered(3, &[3]);
    let text = dir.to_str().unwrap().to_owned();
    // One validator's word is not enough, and a directory with a ledger is not touched.
    let alone = fails(1, &["recover", "--dir", &text, "--from", fleet.url(0)]);
    assert!(alone.contains("QP0725"), "{alone}");
    let other = fleet.dir(2);
    fails(1, &["recover", "--dir", other.to_str().unwrap(), "--from", &fleet.all_urls()]);
    let others = [0, 1, 2].map(|index| fleet.url(index).to_owned()).join(",");
    let said = ok(&["recover", "--dir", &text, "--from", &others]);
    assert!(said.contains("vouched for by"), "{said}");
    fleet.start(3);
    fleet.until_linked();
    fleet.until_caught_up(3);
    fleet.until_signs(3);
    // Its signatures are needed now.
    fleet.kill(0);
    load.until_answered(3, &[0]);
    fleet.start(0);
    fleet.until_caught_up(0);
    drop(load.finish(&fleet));

    // Rows from before are not there, which is said; what came after is.
    let pg = fleet.server(3).pg.clone();
    let query = "select count(*) from large";
    let refused = crate::harness::program("psql", &["-X", &pg, "-c", query]);
    assert!(refused.stderr.contains("are not here"), "{}", refused.stderr);
    let partial = format!("set quipu.partial_streams = on; {query}");
    assert_eq!(psql(&pg, &partial), "SET\n0\n");
    for index in 0..COUNT {
        fleet.stop(index);
        assert!(!fleet.dir(index).join("evidence").exists(), "node{index} blames somebody");
        let said = ok(&["check", "--dir", fleet.dir(index).to_str().unwrap()]);
        assert!(said.contains(" from "), "{said}");
    }
}
