//! Validators as processes in bad hands: stopped, killed, cut off, slowed down, on clocks that lie, on a disk that is full, on files
//! that are cut short. A register and an append-only list are written meanwhile, and their histories checked.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::fleet::{COUNT, Fleet, Load, until};
use crate::harness::{Ledger, QUIPU, cache, edit_config, fails, ok, program, psql};
use crate::proxy::{Proxies, Way};
use crate::register::{Operation, check};

/// Disturbances of the long test; `QUIPU_BATTERY_COUNT` says otherwise.
const TURN_COUNT: u64 = 8;
/// Clients of the register, each at a validator of its own.
const CLIENTS: &str = r#"
import json, sys, threading, time, psycopg
urls, end = sys.argv[1].split(','), threading.Event()
lock, fresh = threading.Lock(), iter(range(1, 1 << 40))

def told(old, new, done, began):
    with lock:
        print(json.dumps([old, new, done, began, time.monotonic_ns()]), flush=True)

def client(place):
    url, connection = urls[place % len(urls)], None
    while not end.is_set():
        try:
            connection = connection or psycopg.connect(url, autocommit=True, connect_timeout=2)
            old = connection.execute('select v from register where k = 1').fetchone()[0]
        except Exception:
            connection = None
            end.wait(0.05)
            continue
        with lock:
            new = next(fresh)
        began = time.monotonic_ns()
        try:
            count = connection.execute('update register set v = %s where k = 1 and v = %s', (new, old)).rowcount
            told(old, new, count == 1, began)
        except psycopg.errors.SerializationFailure:
            pass  # it did nothing, and says nothing of the value
        except Exception:
            told(old, new, None, began)
            connection = None

threads = [threading.Thread(target=client, args=(place,)) for place in range(len(urls))]
for thread in threads: thread.start()
sys.stdin.read()
end.set()
for thread in threads: thread.join()
"#;

/// The clients' process, and the lines that it prints.
struct Register {
    child: Child,
    lines: std::thread::JoinHandle<Vec<Operation>>,
}

impl Register {
    fn start(fleet: &Fleet) -> Self {
        psql(&fleet.server(0).pg, "create table register (k int4 primary key, v int8 not null)");
        psql(&fleet.server(0).pg, "insert into register values (1, 0)");
        psql(&fleet.server(0).pg, "grant all on table register to public");
        let urls: Vec<&str> = (0..COUNT).map(|index| fleet.server(index).pg.as_str()).collect();
        for url in &urls {
            until("the register is everywhere", || psql_says(url, "select v from register", "0\n"));
        }
        let python = cache("python/bin/python");
        let mut child = Command::new(python)
            .args(["-c", CLIENTS, &urls.join(",")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let lines =
            std::thread::spawn(move || lines.map(|line| operation(&line.unwrap())).collect());
        Self { child, lines }
    }

    /// Ends the clients; what they did.
    fn finish(mut self) -> Vec<Operation> {
        drop(self.child.stdin.take());
        let operations = self.lines.join().unwrap();
        assert!(self.child.wait().unwrap().success());
        operations
    }
}

fn operation(line: &str) -> Operation {
    let (old, new, done, began, answered): (i64, i64, Option<bool>, u64, u64) =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    Operation { old, new, done, began, answered }
}

/// Gives a validator a key with which its clients write through SQL.
fn let_write(ledger: &Ledger, index: usize) {
    let key = ledger.text(&format!("client{index}.key"));
    ok(&["keys", "new", "--out", &key]);
    let role = format!("[roles]\ndev = \"{key}\"\n");
    edit_config(&ledger.path(&format!("l/node{index}")), &[("[roles]\n", &role)]);
}

/// Whether a query can be asked, and gives this.
fn psql_says(url: &str, query: &str, wanted: &str) -> bool {
    let ran = program("psql", &["-X", "-A", "-t", url, "-c", query]);
    ran.code == Some(0) && ran.stdout == wanted
}

#[test]
fn a_register_and_a_list_keep_every_promise_through_everything_at_once() {
    let turn_count =
        std::env::var("QUIPU_BATTERY_COUNT").map_or(TURN_COUNT, |text| text.parse().unwrap());
    let seed = std::env::var("QUIPU_BATTERY_SEED")
        .map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
    eprintln!("QUIPU_BATTERY_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut proxies = None;
    let mut fleet = Fleet::with(|ledger| {
        proxies = Some(Proxies::between(ledger, COUNT));
        (0..COUNT).for_each(|index| let_write(ledger, index));
    });
    let proxies = proxies.unwrap();
    fleet.create_stream();
    let register = Register::start(&fleet);
    let load = Load::start(&fleet);
    load.until_answered(1, &[]);
    for turn in 0..turn_count {
        let victim = random.usize(..COUNT);
        let answers = random.u64(2..6);
        let kind = (turn % 5 + seed % 5) % 5;
        // Who goes from one to the next may be waiting for the one that says nothing.
        let but = [victim, COUNT, COUNT + 1];
        let from = Instant::now();
        match kind {
            0 => {
                fleet.signal(victim, "-STOP");
                load.until_answered(answers, &but);
                fleet.signal(victim, "-CONT");
            }
            1 => {
                fleet.kill(victim);
                load.until_answered(answers, &but);
                fleet.start(victim);
            }
            2 | 3 => {
                let way = if kind == 2 { Way::Silent } else { Way::Shut };
                proxies.around(&[victim], way);
                load.until_answered(answers, &but);
                proxies.around(&[victim], Way::Open);
            }
            _ => {
                // Messages of one validator take 50 ms, and one in a hundred pieces breaks its link.
                proxies.around(&[victim], Way::Slow { ms: 50, break_one_in: 100 });
                load.until_answered(answers, &[]);
                proxies.around(&[victim], Way::Open);
            }
        }
        fleet.until_linked();
        fleet.until_caught_up(victim);
        load.until_answered(1, &[]);
        let names = ["stopped", "killed", "cut off", "refused", "slowed down"];
        let name = names[usize::try_from(kind).unwrap()];
        eprintln!("turn {turn}: node{victim} {name}, back after {:?}", from.elapsed());
    }
    let done = load.finish(&fleet);
    let operations = register.finish();
    let last = |index| psql(&fleet.server(index).pg, "select v from register");
    let highest = (0..COUNT).map(|index| fleet.height(index)).max().unwrap();
    (0..COUNT).for_each(|index| until("a height", || fleet.height(index) >= highest));
    let value = last(0);
    (1..COUNT).for_each(|index| assert_eq!(last(index), value, "node{index}"));
    let chain = check(0, value.trim().parse().unwrap(), &operations).unwrap();
    let told = operations.iter().filter(|operation| operation.done.is_some()).count();
    eprintln!(
        "{} operations, {told} answered, {chain} took effect: linearizable",
        operations.len()
    );
    assert!(chain > 20, "{chain} of {}", operations.len());
    fleet.check(&done);
}

#[test]
fn clocks_an_hour_behind_and_minutes_ahead_move_no_headers_time_out_of_the_honest_ones() {
    let skews = ["-1h", "+0", "+0", "+20m"];
    let fleet = Fleet::skewed(&skews);
    fleet.create_stream();
    let before = now_us();
    let load = Load::start(&fleet);
    load.until_answered(5, &[]);
    let done = load.finish(&fleet);
    let after = now_us();
    let query = "select (extract(epoch from max(time)) * 1000000)::int8 from quipu.headers";
    let time: u64 = psql(&fleet.server(1).pg, query).trim().parse().unwrap();
    assert!(time >= before && time <= after, "{before} {time} {after}");
    let late = psql(&fleet.server(1).pg, "select count(*) from load where _time_min > _time_max");
    assert_eq!(late, "0\n");
    fleet.check(&done);
}

fn now_us() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}

/// Runs a lone validator on a file system of its own, fills that, gives it room, and starts it again.
const FULL: &str = r#"
set -eu
quipu=$1 ledger=$2
mount -t tmpfs -o size=24m tmpfs "$ledger/disk"
cp -r "$ledger/l/node0/." "$ledger/disk"
sed -i -e 's|"../genesis.json"|"../l/genesis.json"|' -e 's|segment_size = 16777216|segment_size = 4194304|' "$ledger/disk/config.toml"
run() { rm -f "$ledger/ready"; touch "$ledger/ready"; "$quipu" start --dir "$ledger/disk" >"$ledger/ready" 2>"$ledger/log" & pid=$!
  until grep -q '^ready' "$ledger/ready"; do kill -0 $pid || { cat "$ledger/log"; exit 1; }; done
  url=$(sed -n 's/^ready: http \([^ ]*\) .*/\1/p' "$ledger/ready"); }
append() { "$quipu" append --url "$url" --signer "$ledger/l/keys/dev.key" --stream notes --file "$ledger/rows.jsonl" --json; }
run
"$quipu" stream create --url "$url" --signer "$ledger/l/keys/dev.key" notes --schema 'n int8, text text'
while append >>"$ledger/said" 2>/dev/null; do :; done
if wait $pid; then echo "it stopped in peace"; exit 1; fi
grep -o 'QP0[0-9]*' "$ledger/log" | tail -n 1
mount -o remount,size=400m "$ledger/disk"
run
append >>"$ledger/said"
"$quipu" sql --url "$url" 'select count(*) from notes' --json
kill $pid; wait $pid
"$quipu" check --dir "$ledger/disk"
"#;

#[test]
fn a_full_disk_stops_a_validator_by_name_and_with_room_it_goes_on_with_all_that_it_acknowledged() {
    let ledger = Ledger::new();
    std::fs::create_dir(ledger.path("disk")).unwrap();
    let text = "x".repeat(100_000);
    let rows: String = (0..20).map(|n| format!("{{\"n\":{n},\"text\":\"{text}\"}}\n")).collect();
    ledger.write("rows.jsonl", &rows);
    let (root, script) = (ledger.text("."), ledger.write("full.sh", FULL));
    let args = ["--user", "--map-root-user", "--mount", "bash", &script, QUIPU, &root];
    let ran = program("unshare", &args);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let said = std::fs::read_to_string(ledger.path("said")).unwrap();
    eprintln!("{}", ran.stdout);
    let acknowledged = said.lines().filter(|line| line.contains("position")).count();
    assert!(ran.stdout.contains("QP0302"), "{}", ran.stdout);
    assert!(ran.stdout.contains("clean: "), "{}", ran.stdout);
    let digits: String = ran
        .stdout
        .lines()
        .nth(2)
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let stored: usize = digits.parse().unwrap();
    assert!(stored >= acknowledged && acknowledged >= 20, "{stored} of {acknowledged}");
}

#[test]
fn a_file_that_is_cut_short_is_named_and_its_validator_comes_back_with_a_new_disk() {
    let mut fleet = Fleet::new();
    fleet.create_stream();
    let load = Load::start(&fleet);
    load.until_answered(5, &[]);
    fleet.kill(2);
    load.until_answered(2, &[2]);
    let dir = fleet.dir(2);
    let text = dir.to_str().unwrap().to_owned();
    let headers = dir.join("headers/00000000000000000001.log");
    let file = std::fs::OpenOptions::new().write(true).open(&headers).unwrap();
    let used = std::fs::read(&headers).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
    file.set_len(u64::try_from(used / 2).unwrap()).unwrap();
    let refused = fails(1, &["start", "--dir", &text]);
    assert!(refused.contains("QP0301") && refused.contains("headers"), "{refused}");
    fails(3, &["check", "--dir", &text]);
    for name in ["lanes", "headers", "handovers", "wal", "state", "columns"] {
        std::fs::remove_dir_all(dir.join(name)).unwrap();
    }
    std::fs::remove_file(dir.join("certificates")).unwrap();
    let said = ok(&[
        "recover",
        "--dir",
        &text,
        "--from",
        &[0, 1, 3].map(|at| fleet.url(at).to_owned()).join(","),
    ]);
    assert!(said.contains("nobody has a checkpoint"), "{said}");
    fleet.start(2);
    fleet.until_linked();
    fleet.until_caught_up(2);
    fleet.until_signs(2);
    load.until_answered(1, &[]);
    let done = load.finish(&fleet);
    fleet.check(&done);
}
