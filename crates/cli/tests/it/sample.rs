//! The whole sample, loaded once for all tests here; answers compared with sums over the CSV.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value as Json, json};

use crate::harness::{
    QUIPU, fails, json, ok, program, psql, psycopg, quipu, read_json, ready_line,
};

/// Ends the ledger and removes its directory when the test's process is gone: then the pipe closes.
const KEEPER: &str =
    r#"dir="$1"; shift; "$@" & pid=$!; read -r _; kill -TERM $pid; wait $pid; rm -rf "$dir""#;

#[derive(Debug)]
struct Sample {
    http: String,
    pg: String,
    genesis: String,
    _keeper: (Child, ChildStdin),
}

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap().keep();
        let (ledger, url_file) = (dir.join("ledger"), dir.join("urls.json"));
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&dir)
            .args([QUIPU, "dev", "--validators", "1", "--pg", "0", "--http", "0", "--dir"])
            .arg(&ledger)
            .arg("--url-file")
            .arg(&url_file)
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = keeper.stdin.take().unwrap();
        ready_line(&mut keeper, None);
        let urls = read_json(&url_file);
        let text = |name: &str| urls[name].as_str().unwrap().to_owned();
        let (http, pg, genesis) = (text("http"), text("pg"), text("genesis"));
        Sample { http, pg, genesis, _keeper: (keeper, stdin) }
    })
}

/// The flights as the file has them, by column.
fn flights() -> &'static (Vec<String>, Vec<csv::StringRecord>) {
    static FLIGHTS: OnceLock<(Vec<String>, Vec<csv::StringRecord>)> = OnceLock::new();
    FLIGHTS.get_or_init(|| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/flights.csv.zst");
        let file = std::fs::File::open(path).unwrap();
        let decoder = ruzstd::decoding::StreamingDecoder::new(file).unwrap();
        let mut reader = csv::Reader::from_reader(decoder);
        let head = reader.headers().unwrap().iter().map(str::to_owned).collect();
        (head, reader.records().map(Result::unwrap).collect())
    })
}

fn column(name: &str) -> usize {
    flights().0.iter().position(|column| column == name).unwrap()
}

fn number(record: &csv::StringRecord, column: usize) -> Option<i128> {
    let text = &record[column];
    (text != "NA").then(|| text.parse().unwrap())
}

/// `sum / count` with two digits, half away from zero, as PostgreSQL rounds a numeric.
fn average(sum: i128, count: i128) -> String {
    let doubled = 2 * sum.abs() * 100 + count;
    let hundredths = doubled / (2 * count);
    let sign = if sum < 0 && hundredths > 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Flights, then sum and count of the known delays, by carrier.
fn by_carrier() -> Vec<(String, i128, i128, i128)> {
    let (carrier, delay) = (column("carrier"), column("arr_delay"));
    let mut groups: BTreeMap<String, (i128, i128, i128)> = BTreeMap::new();
    for record in &flights().1 {
        let group = groups.entry(record[carrier].to_owned()).or_default();
        group.0 += 1;
        if let Some(delay) = number(record, delay) {
            group.1 += delay;
            group.2 += 1;
        }
    }
    let mut rows: Vec<_> =
        groups.into_iter().map(|(name, (count, sum, known))| (name, count, sum, known)).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.1));
    rows
}

#[test]
fn the_aggregate_over_carriers_equals_the_sum_over_the_file() {
    let query =
        "select carrier, count(*), round(avg(arr_delay),2) from flights group by 1 order by 2 desc";
    let wanted: String = by_carrier()
        .iter()
        .map(|(carrier, count, sum, known)| {
            format!("{carrier}|{count}|{}\n", average(*sum, *known))
        })
        .collect();
    assert_eq!(psql(&sample().pg, query), wanted);
    let answer = json(&["sql", "--url", &sample().http, query, "--json"]);
    assert_eq!(answer["rows"].as_array().unwrap().len(), 16);
}

#[test]
fn every_row_arrived_with_its_columns_and_a_place_of_its_own() {
    let pg = &sample().pg;
    assert_eq!(psql(pg, "select count(*) from flights"), "336776\n");
    assert_eq!(psql(pg, "select count(*) from airlines"), "16\n");
    assert_eq!(psql(pg, "select count(*) from airports"), "1458\n");
    assert_eq!(psql(pg, "select count(*) from planes"), "3322\n");
    let (tail, distance) = (column("tailnum"), column("distance"));
    let records = &flights().1;
    let missing = records.iter().filter(|record| &record[tail] == "NA").count();
    let sum: i128 = records.iter().filter_map(|record| number(record, distance)).sum();
    let query = "select count(*) - count(tailnum), sum(distance) from flights";
    assert_eq!(psql(pg, query), format!("{missing}|{sum}\n"));
    let query = "select count(distinct _tx), count(distinct _lane) > 4, min(_height) > 0, \
                 min(_time_min) <= max(_time_max) from flights";
    assert_eq!(psql(pg, query), "336776|t|t|t\n");
}

#[test]
fn flights_join_with_airlines() {
    let names: BTreeMap<String, String> = {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/airlines.csv");
        let mut reader = csv::Reader::from_path(path).unwrap();
        reader
            .records()
            .map(Result::unwrap)
            .map(|row| (row[0].to_owned(), row[1].to_owned()))
            .collect()
    };
    let wanted: String = by_carrier()
        .iter()
        .map(|(carrier, count, ..)| format!("{}|{count}\n", names[carrier]))
        .collect();
    let query = "select a.name, count(*) from flights f join airlines a on a.carrier = f.carrier \
                 group by 1 order by 2 desc";
    assert_eq!(psql(&sample().pg, query), wanted);
}

#[test]
fn psql_describes_a_stream_and_lists_them_all() {
    let described = psql(&sample().pg, "\\d flights");
    for wanted in [
        "year|smallint",
        "carrier|text||not null",
        "arr_delay|integer",
        "time_hour|timestamp with time zone",
    ] {
        assert!(described.contains(wanted), "{wanted}: {described}");
    }
    let listed = psql(&sample().pg, "\\dt");
    for name in ["flights", "airlines", "airports", "planes"] {
        assert!(listed.contains(name), "{name}: {listed}");
    }
}

#[test]
fn psycopg_asks_with_a_parameter() {
    let script = "import sys, psycopg\n\
                  with psycopg.connect(sys.argv[1]) as c:\n\
                  \tq = 'select count(*), min(time_hour) from flights where carrier = %s and arr_delay > %s'\n\
                  \tfor binary in (False, True):\n\
                  \t\trow = c.execute(q, ('UA', 60), binary=binary).fetchone()\n\
                  \t\tprint(row[0], row[1].isoformat())\n";
    let said = psycopg(script, &sample().pg);
    let (carrier, delay, hour) = (column("carrier"), column("arr_delay"), column("time_hour"));
    let late: Vec<_> = flights()
        .1
        .iter()
        .filter(|record| {
            &record[carrier] == "UA" && number(record, delay).is_some_and(|delay| delay > 60)
        })
        .collect();
    let first = late.iter().map(|record| &record[hour]).min().unwrap().replace('Z', "+00:00");
    let line = format!("{} {first}\n", late.len());
    assert_eq!(said, line.repeat(2));
}

#[test]
fn wrong_sql_says_where_and_a_write_is_refused_by_name() {
    let pg = &sample().pg;
    let said =
        |query: &str| program("psql", &["-X", "-v", "VERBOSITY=verbose", pg, "-c", query]).stderr;
    assert!(
        said("select carier from flights").contains("42703"),
        "{}",
        said("select carier from flights")
    );
    assert!(said("select 1 from nowhere").contains("42P01"));
    assert!(said("selec 1").contains("42601"));
    assert!(said("insert into flights (carrier) values ('UA')").contains("23502"));
    assert!(said("update flights set carrier = 'UA'").contains("0A000"));
    assert!(said("drop table flights").contains("42809"));
}

#[test]
fn one_flight_of_a_batch_is_proven_offline() {
    let Sample { http, pg, genesis, .. } = sample();
    let tx = psql(
        pg,
        "select _tx from flights where carrier = 'HA' order by _seqno, _action limit 1 offset 20",
    );
    let bundle = ok(&["prove", "--url", http, tx.trim()]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bundle.json");
    std::fs::write(&file, bundle).unwrap();
    let verified = json(&["verify", "--genesis", genesis, file.to_str().unwrap(), "--json"]);
    assert_eq!(verified["action"]["append"], "flights");
    assert_eq!(verified["action"]["index"], 20);
    assert_eq!(verified["outcome"], "applied");
    assert!(verified["action_count"].as_u64().unwrap() > 300);
    let text = ok(&["verify", "--genesis", genesis, file.to_str().unwrap()]);
    assert!(
        text.contains("not before") && text.contains("not after") && text.contains("HA"),
        "{text}"
    );
}

#[test]
fn curl_reads_a_page_and_goes_on_after_its_last_position() {
    let url = format!("{}/v1/streams/planes/events", sample().http);
    let page = |query: &str| -> Vec<Json> {
        let ran = program("curl", &["-sf", &format!("{url}?{query}")]);
        assert_eq!(ran.code, Some(0), "{query}");
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = page("");
    assert_eq!(all.len(), 3_322);
    let from = all[0]["position"].as_str().unwrap();
    let rest = page(&format!("from={from}"));
    let after: Vec<Json> = all.iter().filter(|event| event["position"] != *from).cloned().collect();
    assert_eq!(rest, after);
}

#[test]
fn a_load_that_was_killed_goes_on_and_a_changed_byte_is_noticed_by_everyone() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger");
    let args = |more: &[&str]| -> Vec<String> {
        let dir = ledger.to_str().unwrap();
        let fixed = ["dev", "--validators", "1", "--pg", "0", "--http", "0", "--dir", dir];
        fixed.iter().chain(more).map(|text| (*text).to_owned()).collect()
    };
    // Killed while it loads: as soon as the log says that something was ordered.
    let mut child = Command::new(QUIPU)
        .args(args(&[]))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !ledger.join("node0/lanes").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it wrote anything");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let ran = quipu(&args(&["--tamper"]));
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("341,572 rows"), "{}", ran.stdout);
    assert!(ran.stdout.contains("Everyone noticed"), "{}", ran.stdout);
    let node = ledger.join("node0");
    ok(&["check", "--dir", node.to_str().unwrap()]);
    assert!(fails(2, &["dev", "--tamper", "--no-sample"]).contains("--no-sample"));
}

#[test]
fn garbage_at_every_listener_leaves_it_working() {
    let Sample { http, pg, .. } = sample();
    let at = |url: &str| {
        url.split("://")
            .nth(1)
            .unwrap()
            .rsplit('@')
            .next()
            .unwrap()
            .trim_end_matches("/quipu")
            .to_owned()
    };
    for address in [at(http), at(pg)] {
        for size in [1_usize, 7, 300, 70_000] {
            let mut garbage = vec![0_u8; size];
            fastrand::Rng::with_seed(7).fill(&mut garbage);
            let mut socket = std::net::TcpStream::connect(&address).unwrap();
            // The other side may close at any byte of it.
            let _ = socket.write_all(&garbage);
        }
    }
    let bad = program(
        "curl",
        &["-s", "-X", "POST", "--data-binary", "garbage", &format!("{http}/v1/transactions")],
    );
    assert!(bad.stdout.contains("QP"), "{}", bad.stdout);
    assert_eq!(psql(pg, "select 1"), "1\n");
    assert_eq!(json(&["status", "--url", http, "--json"])["name"], json!("quipu dev"));
}
