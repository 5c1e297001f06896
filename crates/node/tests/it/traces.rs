//! What real clients send, replayed against a validator and compared with what PostgreSQL 15 answered.
//!
//! ```text
//!  data/pg-client-traces.txt       what each client sent, one message a line      ┐
//!  data/pg-client-answers.txt      what PostgreSQL answered to each line          ├─ differ? then it must be listed,
//!  data/pg-client-differences.txt  the lines that are answered otherwise, and why ┘  and what is listed must differ
//! ```
//! Compared are the kinds of the messages, the names and types of columns and parameters, tags and SQLSTATEs; not the
//! rows, which tell what is in the catalog. `wire` says which values stand for those that the traces do not have. The number of the table `t` is the server's own.
//!
//! `UPDATE_EXPECT=1` lists the differences anew: what was explained stays so, what is new stands under `= why?`, and is
//! refused until it is explained. `QUIPU_RECORD_FROM=host:port` writes the answers anew, from an empty database of a
//! PostgreSQL 15 where `postgres` needs no password.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;

use quipu_crypto::keyfile;

use crate::wire::{Answer, Place, Wire};
use crate::world::{Served, World, secret};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
const TRACES: &str = include_str!("../data/pg-client-traces.txt");
const ANSWERS: &str = include_str!("../data/pg-client-answers.txt");
const DIFFERENCES: &str = include_str!("../data/pg-client-differences.txt");
/// The reason of what nobody explained.
const UNEXPLAINED: &str = "why?";
/// The number of the table `t` where the traces were taken.
const TABLE_OID: &str = "16384";

fn lines_of(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && *line != "#" && !line.starts_with("# "))
}

/// Every line of the traces with its place.
fn traces() -> Vec<(Place, &'static str)> {
    let mut section = "";
    let mut number = 0;
    let mut lines = Vec::new();
    for line in lines_of(TRACES) {
        if let Some(name) = line.strip_prefix("## ") {
            (section, number) = (name, 0);
        } else {
            number += 1;
            lines.push(((section.to_owned(), number), line.strip_prefix("- ").unwrap()));
        }
    }
    lines
}

/// What PostgreSQL answered.
fn recorded() -> BTreeMap<Place, String> {
    let mut section = "";
    let mut answers = BTreeMap::new();
    for line in lines_of(ANSWERS) {
        if let Some(name) = line.strip_prefix("## ") {
            section = name;
        } else {
            let (number, form) = line.split_once(' ').unwrap();
            answers.insert((section.to_owned(), number.parse().unwrap()), form.to_owned());
        }
    }
    answers
}

/// The lines that are answered otherwise, by reason.
fn listed() -> BTreeMap<Place, &'static str> {
    let mut reason = "";
    let mut differences = BTreeMap::new();
    for line in lines_of(DIFFERENCES) {
        if let Some(name) = line.strip_prefix("= ") {
            reason = name;
        } else {
            let place = line.split_once("  ").map_or(line, |(place, _)| place);
            let (section, number) = place.rsplit_once(':').unwrap();
            differences.insert((section.to_owned(), number.parse().unwrap()), reason);
        }
    }
    differences
}

#[test]
fn what_clients_send_is_answered_as_postgresql_15_answers_it() {
    if let Ok(address) = std::env::var("QUIPU_RECORD_FROM") {
        let setup = "drop table if exists t; create table t(id int primary key, name text, at timestamptz); \
                     insert into t values (1, 'one', now()), (2, 'two', null)";
        return record(&replay(address.parse().unwrap(), &[setup]));
    }
    let world = World::new();
    let mut config = world.config();
    let key = world.dir().join("postgres.key");
    keyfile::save(&key, &secret(2), None).unwrap();
    config.roles.insert("postgres".into(), key);
    let served = Served::start(config).unwrap();
    let ours = replay(
        served.at.pg,
        &[
            "create table t(id int primary key, name text, at timestamptz)",
            "insert into t values (1, 'one', now()), (2, 'two', null)",
        ],
    );
    served.stop().unwrap();
    compare(&ours);
}

fn compare(ours: &BTreeMap<Place, Answer>) {
    let (theirs, listed) = (recorded(), listed());
    let mut reasons: BTreeMap<&str, String> = BTreeMap::new();
    let mut wrong = String::new();
    let mut differing = BTreeSet::new();
    for (place, said) in traces() {
        let answer = ours.get(&place).cloned().unwrap_or_default();
        let wanted = theirs.get(&place).map_or("", String::as_str);
        if answer.form == wanted {
            continue;
        }
        let reason = listed.get(&place).copied().unwrap_or(UNEXPLAINED);
        let (section, number) = &place;
        let short: String = said.chars().take(70).collect();
        writeln!(reasons.entry(reason).or_default(), "{section}:{number}  {short}").unwrap();
        if reason == UNEXPLAINED {
            let Answer { form, errors } = answer;
            writeln!(
                wrong,
                "{section}:{number}  {said}\n  wanted {wanted}\n  got    {form}{errors}"
            )
            .unwrap();
        }
        differing.insert(place);
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let mut text: String = DIFFERENCES
            .lines()
            .take_while(|line| line.starts_with("# "))
            .flat_map(|line| [line, "\n"])
            .collect();
        for (reason, places) in reasons {
            write!(text, "\n= {reason}\n{places}").unwrap();
        }
        std::fs::write(format!("{DATA}/pg-client-differences.txt"), text).unwrap();
    }
    for ((section, number), reason) in &listed {
        if !differing.contains(&(section.clone(), *number)) {
            writeln!(wrong, "{section}:{number} is listed ({reason}), and does not differ")
                .unwrap();
        }
    }
    assert!(wrong.is_empty(), "UPDATE_EXPECT=1 lists them anew:\n{wrong}");
}

/// Writes the answers of a PostgreSQL.
fn record(answers: &BTreeMap<Place, Answer>) {
    let mut text = String::from(
        "# What PostgreSQL 15 answered to pg-client-traces.txt: the number of a line, and the answer. tests/it/traces.rs\n\
         # says what its parts mean, and how this file is written anew.\n",
    );
    let mut last = String::new();
    for (place, _) in traces() {
        let (section, number) = &place;
        if *section != last {
            write!(text, "\n## {section}\n").unwrap();
            last.clone_from(section);
        }
        if let Some(answer) = answers.get(&place) {
            writeln!(text, "{number} {}", answer.form).unwrap();
        }
    }
    std::fs::write(format!("{DATA}/pg-client-answers.txt"), text).unwrap();
}

/// Sends all that the clients sent; the answers to every line that has one.
fn replay(address: SocketAddr, setup: &[&str]) -> BTreeMap<Place, Answer> {
    let mut wire = Wire::new(address);
    wire.say("Startup 3.0 {'user': 'postgres', 'database': 'postgres'}");
    for statement in setup {
        let said = wire.told(&format!("Query {statement}"));
        assert!(!said.contains("E["), "{statement}: {said}");
    }
    wire.say("Query select oid from pg_catalog.pg_class where relname = 't'");
    let oid = wire.last_row.clone();
    assert!(oid.parse::<u32>().is_ok(), "{oid:?}");
    let mut answers = BTreeMap::new();
    let mut wire: Option<Wire> = None;
    for (place, said) in traces() {
        // A client ends its connection, or it is another client.
        wire = wire.filter(|wire| wire.place.0 == place.0);
        if said == "Terminate" {
            wire = None;
            continue;
        }
        let wire = wire.get_or_insert_with(|| Wire::new(address));
        wire.place = place;
        wire.say(&said.replace(TABLE_OID, &oid));
        answers.extend(std::mem::take(&mut wire.answers));
    }
    answers
}
