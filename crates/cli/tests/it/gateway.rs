//! A gateway beside its client: what it verifies, what it shows, whom it names, and what no kill takes away.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quipu_crypto::keyfile;
use quipu_proof::names::chain_id;

use crate::fleet::{COUNT, Fleet, until};
use crate::harness::{Ledger, Server, fails, program, psql, quipu};
use crate::liar::{self, Crime};

/// A gateway's process, its directory and its log.
#[derive(Debug)]
struct Gateway {
    server: Option<Server>,
    args: Vec<String>,
    log: PathBuf,
}

impl Gateway {
    /// Starts one in a directory of its own beside the ledger.
    fn start(ledger: &Ledger, name: &str, validators: &[&str]) -> Self {
        let (args, log) = (args(ledger, name, validators), ledger.path(&format!("{name}.log")));
        let mut gateway = Self { server: None, args, log };
        gateway.again();
        gateway
    }

    fn again(&mut self) {
        self.server = Some(Server::gateway(&self.args, &self.log));
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    fn kill(&mut self) {
        self.server.take().unwrap().kill();
    }

    fn stop(&mut self) {
        self.server.take().unwrap().stop();
    }

    fn psql(&self, query: &str) -> String {
        self.server().psql(query)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// At which heights it began to follow somebody, over all its starts.
    fn begins(&self) -> Vec<u64> {
        let log = self.log();
        let after = |line: &str| line.split_once("from=").map(|(_, text)| text.trim().to_owned());
        let lines = log.lines().filter(|line| line.contains("following validator="));
        lines.map(|line| after(line).unwrap().parse().unwrap()).collect()
    }

    /// The line of its log with all of these words.
    fn said(&self, words: &[&str]) -> Option<String> {
        let log = self.log();
        let has = |line: &&str| words.iter().all(|word| line.contains(word));
        log.lines().find(has).map(str::to_owned)
    }
}

fn args(ledger: &Ledger, name: &str, validators: &[&str]) -> Vec<String> {
    let role = format!("dev={}", ledger.signer());
    let (dir, genesis) = (ledger.text(name), ledger.genesis());
    let mut args = vec!["gateway", "--genesis", &genesis, "--dir", &dir, "--pg", "127.0.0.1:0"];
    args.extend(["--role", &role]);
    validators.iter().for_each(|url| args.extend(["--validator", url]));
    args.into_iter().map(str::to_owned).collect()
}

fn urls(fleet: &Fleet) -> Vec<&str> {
    (0..COUNT).map(|index| fleet.url(index)).collect()
}

#[test]
fn what_is_written_through_a_gateway_is_read_there_at_once_and_at_every_validator() {
    let fleet = Fleet::new();
    let mut gateway = Gateway::start(&fleet.ledger, "gw", &urls(&fleet));
    gateway.psql("create table t (id int primary key, v text not null)");
    for id in 1..=20 {
        let wanted = format!("{id}|row {id}\nINSERT 0 1\n");
        let insert = format!("insert into t values ({id}, 'row {id}') returning id, v");
        assert_eq!(gateway.psql(&insert), wanted);
        assert_eq!(gateway.psql("select count(*), max(id) from t"), format!("{id}|{id}\n"));
    }
    gateway.psql("begin; update t set v = 'x' where id = 3; delete from t where id = 4; commit");
    let wrong =
        program("psql", &["-X", &gateway.server().pg, "-c", "insert into t values (3, '')"]);
    assert!(wrong.stderr.contains("duplicate key value"), "{}", wrong.stderr);
    let query = "select id, v from t order by id";
    let rows = gateway.psql(query);
    assert_eq!(rows.lines().count(), 19);
    for index in 0..COUNT {
        let server = fleet.server(index);
        until("the same rows at every validator", || psql(&server.pg, query) == rows);
    }
    // Who has no key there only reads.
    let other = gateway.server().pg.replace("dev@", "ann@");
    assert_eq!(psql(&other, query), rows);
    let refused = program("psql", &["-X", &other, "-c", "insert into t values (99, '')"]);
    assert!(refused.stderr.contains("holds no key for role \"ann\""), "{}", refused.stderr);
    gateway.stop();
}

#[test]
fn a_gateway_that_is_killed_or_stopped_goes_on_where_it_was() {
    let fleet = Fleet::new();
    let mut gateway = Gateway::start(&fleet.ledger, "gw", &urls(&fleet));
    gateway.psql("create table t (id int primary key)");
    let mut rows = 0;
    for round in 0..4 {
        for _ in 0..10 {
            rows += 1;
            gateway.psql(&format!("insert into t values ({rows})"));
        }
        match round % 2 {
            0 => gateway.kill(),
            _ => gateway.stop(),
        }
        // What others do meanwhile is fetched.
        gateway.again();
        assert_eq!(gateway.psql("select count(*) from t"), format!("{rows}\n"));
    }
    let begins = gateway.begins();
    assert_eq!(begins.len(), 5, "{begins:?}");
    assert_eq!(begins[0], 1);
    assert!(begins.windows(2).all(|pair| pair[0] < pair[1]), "it starts over: {begins:?}");
}

#[test]
fn a_validator_that_is_killed_under_writes_loses_none_and_doubles_none() {
    let mut fleet = Fleet::new();
    let mut gateway = Gateway::start(&fleet.ledger, "gw", &urls(&fleet));
    gateway.psql("create table t (who int not null, n int not null)");
    let ended = Arc::new(AtomicBool::new(false));
    let counts: Arc<Vec<AtomicU64>> = Arc::new((0..3).map(|_| AtomicU64::new(0)).collect());
    let writers: Vec<_> = (0..3)
        .map(|who| {
            let (url, ended, counts) =
                (gateway.server().pg.clone(), Arc::clone(&ended), Arc::clone(&counts));
            std::thread::spawn(move || {
                while !ended.load(Ordering::SeqCst) {
                    let n = counts[who].load(Ordering::SeqCst) + 1;
                    psql(&url, &format!("insert into t values ({who}, {n})"));
                    counts[who].store(n, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let wait = |more: u64| {
        let now: Vec<u64> = counts.iter().map(|count| count.load(Ordering::SeqCst)).collect();
        until("writes", || {
            counts.iter().zip(&now).all(|(count, now)| count.load(Ordering::SeqCst) >= now + more)
        });
    };
    wait(5);
    // The first is the one that it follows and posts to; then the next one.
    for index in 0..2 {
        fleet.kill(index);
        wait(5);
        fleet.start(index);
        fleet.until_linked();
        fleet.until_caught_up(index);
    }
    ended.store(true, Ordering::SeqCst);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    let wanted: String = (0..3)
        .map(|who| {
            let count = counts[who].load(Ordering::SeqCst);
            format!("{who}|{count}|{count}|{count}\n")
        })
        .collect();
    let query = "select who, count(*), count(distinct n), max(n) from t group by who order by who";
    assert_eq!(gateway.psql(query), wanted);
    let server = fleet.server(2);
    until("the same at a validator", || psql(&server.pg, query) == wanted);
    // Lanes that were handed on are followed from the beginning, and gone on with, as well.
    gateway.kill();
    gateway.again();
    assert_eq!(gateway.psql(query), wanted);
    let fresh = Gateway::start(&fleet.ledger, "fresh", &urls(&fleet));
    assert_eq!(fresh.psql(query), wanted);
}

#[test]
fn while_its_only_validator_is_away_a_gateway_shows_what_it_verified_and_then_goes_on() {
    let ledger = Ledger::new();
    let validator = ledger.start();
    // It comes back where it was.
    let config = ledger.path("l/node0/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let address = validator.http.strip_prefix("http://").unwrap();
    std::fs::write(
        &config,
        text.replacen("http = \"127.0.0.1:0\"", &format!("http = \"{address}\""), 1),
    )
    .unwrap();
    let mut gateway = Gateway::start(&ledger, "gw", &[&validator.http]);
    gateway.psql("create table t (id int primary key)");
    gateway.psql("insert into t values (1)");
    validator.kill();
    assert_eq!(gateway.psql("select * from t"), "1\n");
    let url = gateway.server().pg.clone();
    let waiting = std::thread::spawn(move || psql(&url, "insert into t values (2)"));
    until("it is missed", || gateway.said(&["took no transactions"]).is_some());
    let validator = ledger.start();
    assert_eq!(waiting.join().unwrap(), "INSERT 0 1\n");
    assert_eq!(gateway.psql("select * from t order by id"), "1\n2\n");
    until("the same there", || validator.psql("select count(*) from t") == "2\n");
    gateway.stop();
}

#[test]
fn a_liar_is_named_and_kept_out_and_the_next_validator_is_followed() {
    let fleet = Fleet::new();
    let first = Gateway::start(&fleet.ledger, "gw", &urls(&fleet));
    first.psql("create table t (id int primary key)");
    for id in 1..=5 {
        first.psql(&format!("insert into t values ({id})"));
    }
    let (mut rows, query) = (5, "select count(*) from t");
    for crime in Crime::ALL {
        let liar = liar::start(&fleet.runtime, fleet.url(0), crime);
        let gateway = Gateway::start(&fleet.ledger, &format!("{crime:?}"), &[&liar, fleet.url(1)]);
        assert_eq!(gateway.psql(query), format!("{rows}\n"), "{crime:?}");
        let code = if crime == Crime::Withhold { "QP0712" } else { "QP0711" };
        until(&format!("{crime:?} is named"), || gateway.said(&[code, &liar]).is_some());
        // It is not asked again, and what is written goes past it.
        rows += 1;
        gateway.psql(&format!("insert into t values ({rows})"));
        assert_eq!(gateway.psql(query), format!("{rows}\n"), "{crime:?}");
    }
}

#[test]
fn a_gateway_stops_when_a_quorum_signs_another_state_than_it_computed() {
    let ledger = Ledger::new();
    let validator = ledger.start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let key = keyfile::load(&ledger.node().join("validator.key"), None).unwrap();
    let genesis = ledger.read_genesis();
    let key = Some((key, chain_id(&genesis)));
    let liar = liar::start_with(&runtime, &validator.http, Crime::Quorum, key);
    let refused = fails(1, &args(&ledger, "gw", &[&liar]));
    assert!(refused.contains("error[QP0714]"), "{refused}");
    assert!(refused.contains("a quorum of the validators signed"), "{refused}");
}

#[test]
fn another_ledger_is_refused_with_its_code_and_the_right_one_is_followed() {
    let (ledger, other) = (Ledger::new(), Ledger::new());
    let (right, wrong) = (ledger.start(), other.start());
    let gateway = Gateway::start(&ledger, "gw", &[&wrong.http, &right.http]);
    gateway.psql("create table t (id int primary key)");
    gateway.psql("insert into t values (1)");
    assert_eq!(right.psql("select * from t"), "1\n");
    assert!(gateway.said(&["QP0706", &wrong.http]).is_some(), "{}", gateway.log());
}

#[test]
fn what_a_gateway_can_not_be_started_with_is_refused_by_name() {
    let ledger = Ledger::new();
    let (genesis, dir, node) = (ledger.genesis(), ledger.text("gw"), ledger.node());
    let start = |dir: &str, more: &[&str]| {
        let mut args = vec!["gateway", "--genesis", &genesis, "--dir", dir, "--pg", "127.0.0.1:0"];
        args.extend(more);
        args.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>()
    };
    let url = ["--validator", "http://127.0.0.1:1"];
    let refused = fails(1, &start(node.to_str().unwrap(), &url));
    assert!(refused.contains("it is a validator's directory"), "{refused}");
    std::fs::remove_file(node.join("config.toml")).unwrap();
    std::fs::create_dir(node.join("lanes")).unwrap();
    let refused = fails(1, &start(node.to_str().unwrap(), &url));
    assert!(refused.contains("it is a validator's directory"), "{refused}");
    let refused = fails(2, &start(&dir, &["--validator", "http://127.0.0.1:1", "--role", "dev"]));
    assert!(refused.contains("give NAME=FILE"), "{refused}");
    let refused = fails(1, &start(&dir, &["--validator", "localhost"]));
    assert!(refused.contains("http://HOST:PORT"), "{refused}");
    let open = ["--validator", "http://127.0.0.1:1", "--pg", "0.0.0.0:0"];
    let args: Vec<String> =
        start(&dir, &open).into_iter().filter(|text| text != "127.0.0.1:0").collect();
    let at = args.iter().position(|text| text == "--pg").unwrap();
    let args = [&args[..at], &args[at + 1..]].concat();
    let refused = fails(1, &args);
    assert!(refused.contains("an address that is not loopback needs"), "{refused}");
    assert!(quipu(&["gateway", "--help"]).stdout.contains("quipu gateway --genesis"));
    assert!(!Path::new(&dir).join("lanes").exists());
}
