//! The clock as people see it: which of two transactions was first, brackets of time, the lanes' pace; proofs checked offline.

use serde_json::{Value as Json, json};

use crate::harness::{Ledger, Server, fails, json, ok, program, quipu};
use crate::proof::changes;

/// Streams whose events stand in lanes of their own: each is routed by a column.
const PLACES: usize = 4;

/// Appends an event for a place, and waits for it. Its transaction's name.
fn append(ledger: &Ledger, server: &Server, place: usize, n: usize) -> String {
    let row = json!({ "place": format!("place {place}"), "n": n });
    let answer = ledger.append(server, "seen", &row);
    answer["tx"].as_str().unwrap().to_owned()
}

/// Four validators are not needed to have four lanes: one ledger, events over several lanes, one after another.
fn told(ledger: &Ledger, server: &Server) -> Vec<String> {
    ledger.create_stream(server, "seen", "place text, n int4", &["--route-by", "place"]);
    (0..3 * PLACES).map(|n| append(ledger, server, n % PLACES, n)).collect()
}

fn before(server: &Server, ledger: &Ledger, first: &str, second: &str, more: &[&str]) -> String {
    let genesis = ledger.genesis();
    let fixed = ["clock", "before", "--url", &server.http, "--genesis", &genesis, first, second];
    ok(&fixed.iter().chain(more).copied().collect::<Vec<_>>())
}

#[test]
fn of_two_transactions_the_first_is_shown_to_be_offline_and_by_sql() {
    let ledger = Ledger::new();
    let server = ledger.start();
    let names = told(&ledger, &server);
    let lanes = server.psql("select count(distinct _lane) from seen");
    assert!(lanes.trim().parse::<u32>().unwrap() > 1, "{lanes}");
    for (at, first) in names.iter().enumerate() {
        for second in names.iter().skip(at + 1).step_by(5) {
            assert!(before(&server, &ledger, first, second, &[]).starts_with("before\n"));
            assert!(before(&server, &ledger, second, first, &[]).starts_with("after\n"));
        }
    }
    let (first, last) = (names.first().unwrap(), names.last().unwrap());
    let asked = |first: &str, second: &str| {
        server.psql(&format!("select quipu.happens_before('{first}', '{second}')"))
    };
    assert_eq!((asked(first, last).as_str(), asked(last, first).as_str()), ("t\n", "f\n"));
    let rows =
        "select count(*) from seen a, seen b where a.n < b.n and happens_before(a._tx, b._tx)";
    let pairs = names.len() * (names.len() - 1) / 2;
    assert_eq!(server.psql(rows), format!("{pairs}\n"));
    assert_eq!(server.psql(&format!("select happens_before(null, '{first}')")), "\n");
    server.stop();
}

#[test]
fn a_proof_of_order_holds_offline_and_every_changed_field_makes_it_false() {
    let ledger = Ledger::new();
    let server = ledger.start();
    let names = told(&ledger, &server);
    let (first, second) = (&names[0], &names[1]);
    let file = ledger.text("order.json");
    before(&server, &ledger, first, second, &["--out", &file]);
    let same = fails(1, &["clock", "before", "--url", &server.http, first, first]);
    assert!(same.contains("the same transaction"), "{same}");
    let unknown = "ab".repeat(32);
    let unknown = fails(1, &["clock", "before", "--url", &server.http, first, &unknown]);
    assert!(unknown.contains("no transaction"), "{unknown}");
    let query = format!("select happens_before('{first}', 'x')");
    let said = program("psql", &["-X", &server.pg, "-c", &query]).stderr;
    assert!(said.contains("names no transaction"), "{said}");
    server.stop();
    let verified = ok(&["verify", "--genesis", &ledger.genesis(), &file]);
    assert!(verified.contains("the first was there before the second"), "{verified}");
    let proof: Json = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    // The bundles' own fields are changed elsewhere, one by one.
    let mut changed = Vec::new();
    let rebuild = |link: Json| {
        let mut proof = proof.clone();
        proof["link"] = link;
        proof
    };
    changes(&proof["link"], "link", &mut changed, &rebuild);
    changed.retain(|(_, changed)| *changed != proof);
    let mut swapped = proof.clone();
    (swapped["first"], swapped["second"]) = (proof["second"].clone(), proof["first"].clone());
    changed.push(("the two swapped".into(), swapped));
    // How many there are depends on what shows the order: an anchor is shorter than a chain of mixings.
    assert!(changed.len() > 3, "{} changes", changed.len());
    for (what, changed) in changed {
        let file = ledger.write("changed.json", &changed.to_string());
        let ran = quipu(&["verify", "--genesis", &ledger.genesis(), &file]);
        assert_eq!(ran.code, Some(3), "{what}: {}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn a_bracket_is_verified_offline_and_a_false_one_is_refused() {
    let ledger = Ledger::new();
    let server = ledger.start();
    let names = told(&ledger, &server);
    let text = ok(&["prove", "--url", &server.http, "--time", &names[5]]);
    let clock = json(&["clock", "--url", &server.http, "--json"]);
    let shown = ok(&["clock", "--url", &server.http]);
    server.stop();
    let file = ledger.write("bundle.json", &text);
    let genesis = ledger.genesis();
    let said = ok(&["verify", "--genesis", &genesis, "--time", &file]);
    let bounds = ["signed after", "stamped after", "ordered by", "width"];
    assert!(bounds.iter().all(|bound| said.contains(bound)), "{said}");
    assert!(said.contains("mixed header") && said.contains("next header"), "{said}");
    let verified = json(&["verify", "--genesis", &genesis, &file, "--json"]);
    let time = |name: &str| verified[name]["time_us"].as_u64().unwrap();
    assert!(time("not_before") <= time("stamped_after"));
    assert!(time("stamped_after") < time("not_after"));
    // Each bound, and what each rests on, changed.
    let bundle: Json = serde_json::from_str(&text).unwrap();
    let mut changed = Vec::new();
    let rebuild = |time: Json| {
        let mut bundle = bundle.clone();
        bundle["time"] = time;
        bundle
    };
    changes(&bundle["time"], "time", &mut changed, &rebuild);
    changed.retain(|(what, changed)| *changed != bundle && what != "time.mixed: left out");
    assert!(changed.len() > 20, "{} changes", changed.len());
    for (what, changed) in changed {
        let file = ledger.write("changed.json", &changed.to_string());
        let ran = quipu(&["verify", "--genesis", &genesis, "--time", &file]);
        assert_eq!(ran.code, Some(3), "{what}: {}{}", ran.stdout, ran.stderr);
    }
    // The pace of the lanes, by headers: every clock ticks at about its declared rate.
    assert!(clock["lanes"].as_array().unwrap().len() > 1, "{clock}");
    assert!(clock["brackets"]["count"].as_u64().unwrap() > 0, "{clock}");
    assert!(shown.contains("ticks/s") && shown.contains("node0"), "{shown}");
}

#[test]
fn fast_clocks_tick_on_a_thread_of_their_own_and_every_chunk_of_theirs_stands() {
    let ledger = Ledger::with(1, &["--clock-rate", "200000"]);
    let server = ledger.start();
    told(&ledger, &server);
    let capacity = "select value > 0 from quipu.metrics where name = 'quipu_clock_capacity_hertz'";
    assert_eq!(server.psql(capacity), "t\n");
    server.stop();
    let server = ledger.start();
    (0..PLACES).for_each(|place| drop(append(&ledger, &server, place, 100 + place)));
    server.stop();
    assert!(ok(&["check", "--dir", ledger.node().to_str().unwrap()]).contains("clean"));
}

#[test]
fn a_clock_of_no_rate_and_a_core_that_is_not_there_are_refused_by_name() {
    let ledger = Ledger::with(1, &["--clock-rate", "production"]);
    let other = ledger.text("other");
    let init = ["init", "--dir", &other, "--validators", "1", "--clock-rate", "fast"];
    assert!(fails(2, &init).contains("nor production"));
    let path = ledger.path("l/node0/config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    assert!(config.contains("# core = 0\n"));
    std::fs::write(&path, config.replace("# core = 0", "core = 4096")).unwrap();
    let error = fails(1, &["start", "--dir", ledger.node().to_str().unwrap()]);
    assert!(error.contains("clock.core") && error.contains("no core 4096"), "{error}");
}
