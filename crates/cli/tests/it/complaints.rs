//! A client that is kept out complains, to processes: refusals by name over HTTP, and a sequencer that orders nothing any more
//! while every validator's address swallows what the client submits.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use quipu_client::{Client, Producer};
use quipu_crypto::suite::sign_tagged;
use quipu_crypto::{SecretKey, Tag, keyfile};
use quipu_proof::names::{TransactionDraft, lane_of, sign_transaction};
use quipu_proof::schedule::Schedule;
use quipu_types::complaint::COMPLAINT_SIZE_MAX;
use quipu_types::{
    Action, Complaint, Encode, Genesis, Hash, Lane, RouteRule, Schema, Signature, StreamSpec, Term,
    Writers,
};
use serde_json::Value as Json;

use crate::fleet::{COUNT, Fleet, until};
use crate::harness::{QUIPU, psql};
use crate::swallower::{self, Seen};

pub(crate) fn create(name: &str) -> Action {
    Action::CreateStream(StreamSpec {
        name: name.into(),
        schema: Schema::parse("n int8").unwrap(),
        route: RouteRule::Signer,
        writers: Writers::Anyone,
        compacted: false,
    })
}

/// Four validators, and what is known of their ledger.
pub(crate) struct World {
    pub(crate) fleet: Fleet,
    chain: Hash,
    pub(crate) lane_count: u16,
    schedule: Schedule,
}

impl World {
    pub(crate) fn new() -> Self {
        let fleet = Fleet::new();
        let genesis = std::fs::read_to_string(fleet.ledger.genesis()).unwrap();
        let genesis = Genesis::from_json(&genesis).unwrap();
        let set = genesis.validator_set();
        let schedule = Schedule::new(&set, usize::from(genesis.lane_count));
        Self { chain: fleet.status(0).chain, lane_count: genesis.lane_count, schedule, fleet }
    }

    pub(crate) fn lane(&self, key: &SecretKey) -> Lane {
        lane_of(key.public().bytes(), self.lane_count)
    }

    fn sequencer(&self, lane: Lane, term: u64) -> usize {
        usize::from(self.schedule.sequencer(lane, Term::new(term)).get())
    }

    /// New keys whose transactions go to lanes that a validator sequences.
    fn keys_of(&self, sequencer: usize) -> impl Iterator<Item = (SecretKey, Lane)> {
        let keys = std::iter::repeat_with(SecretKey::generate);
        let with_lane = keys.map(|key| {
            let lane = self.lane(&key);
            (key, lane)
        });
        with_lane.filter(move |(_, lane)| self.sequencer(*lane, 1) == sequencer)
    }

    pub(crate) fn sign(&self, key: &SecretKey, sequence: u64, name: &str) -> Vec<u8> {
        let (anchor, actions) = (self.chain, vec![create(name)]);
        let draft = TransactionDraft { incarnation: 0, sequence, anchor, route: None, actions };
        sign_transaction(key, &self.chain, draft).to_bytes()
    }

    /// A complaint in the lane's first term, but for what a test changes.
    pub(crate) fn complaint(
        &self,
        key: &SecretKey,
        transaction: Vec<u8>,
        change: impl FnOnce(&mut Complaint),
    ) -> Complaint {
        let lane = self.lane(key);
        let (anchor, term, signature) = (self.chain, Term::new(1), Signature([0; 64]));
        let mut complaint = Complaint { transaction, anchor, lane, term, signature };
        change(&mut complaint);
        let body = complaint.signed_body();
        complaint.signature = sign_tagged(key, &self.chain, 0, Tag::Complaint, &body);
        complaint
    }

    pub(crate) fn term(&self, at: usize, lane: Lane) -> u64 {
        let status = self.fleet.status(at);
        status.rest["lanes"][usize::from(lane.get())]["term"].as_u64().unwrap()
    }
}

/// Posts a body; gives the status and the answer.
fn post(url: &str, body: &[u8]) -> (u16, Json) {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    let head = format!(
        "POST /v1/complaints HTTP/1.1\r\nhost: v\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // Who refuses a size need not read it.
    drop(stream.write_all(body));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

fn refused(url: &str, complaint: &Complaint) -> (u16, String) {
    let (status, answer) = post(url, &complaint.to_bytes());
    assert!(!answer["hint"].as_str().unwrap_or_default().is_empty(), "{answer}");
    (status, answer["code"].as_str().unwrap().to_owned())
}

fn named(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[test]
fn a_complaint_that_is_not_heard_is_refused_by_name() {
    let world = World::new();
    let fleet = &world.fleet;
    let (key, lane) = world.keys_of(1).next().unwrap();
    let client = Client::new(&fleet.all_urls()).unwrap();
    let url = fleet.url(0);
    let submitted = fleet.runtime.block_on(async {
        let mut producer = Producer::new(&client, &key).await.unwrap();
        producer.submit(None, vec![create("a")]).await.unwrap()
    });
    assert!(submitted.is_committed(), "{submitted:?}");
    until("all have executed it", || {
        let executed = |at| fleet.status(at).rest["executed_height"].as_u64();
        (0..COUNT).all(|at| executed(at) >= submitted.height)
    });

    // The library tells nobody of what stands in the ledger, and may not complain in another's name.
    let complain = |key: &SecretKey, transaction: &[u8]| {
        fleet.runtime.block_on(client.complain(key, transaction))
    };
    assert_eq!(complain(&key, &world.sign(&key, 1, "a")).unwrap(), 0);
    let other = SecretKey::generate();
    let told = complain(&other, &world.sign(&key, 2, "b")).unwrap_err();
    assert!(told.to_string().contains("signature"), "{told}");

    let second = || world.sign(&key, 2, "b");
    let mut forged = world.complaint(&key, second(), |_| {});
    forged.signature.0[5] ^= 1;
    assert_eq!(refused(url, &forged), named(400, "QP0101"));
    let of_term = world.complaint(&key, second(), |one| one.term = Term::new(2));
    assert_eq!(refused(url, &of_term), named(400, "QP0108"));
    let unknown = world.complaint(&key, second(), |one| one.anchor = Hash([7; 32]));
    assert_eq!(refused(url, &unknown), named(400, "QP0109"));
    let early = world.complaint(&key, world.sign(&key, 3, "c"), |_| {});
    assert_eq!(refused(url, &early), named(400, "QP0113"));
    let innocent = world.complaint(&key, world.sign(&key, 1, "a"), |_| {});
    assert_eq!(refused(url, &innocent), named(400, "QP0102"), "it could not know");
    let (status, answer) = post(url, &vec![0; COMPLAINT_SIZE_MAX + 1]);
    assert_eq!((status, &answer["code"]), (413, &"QP0002".into()), "{answer}");
    let (status, answer) = post(url, b"words");
    assert_eq!((status, &answer["code"]), (400, &"QP0001".into()), "{answer}");

    // Who has seen the header that orders it, and complains, is not heard for a while; others are, and its transactions count.
    let header: Json =
        fleet.runtime.block_on(Client::new(url).unwrap().get("/v1/headers/latest")).unwrap();
    let seen: Hash = header["hash"].as_str().unwrap().parse().unwrap();
    let knew = world.complaint(&key, world.sign(&key, 1, "a"), |one| one.anchor = seen);
    assert_eq!(refused(url, &knew), named(400, "QP0110"));
    let right = world.complaint(&key, second(), |_| {});
    let (status, answer) = post(url, &right.to_bytes());
    assert_eq!((status, &answer["code"]), (400, &"QP0111".into()), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("height"), "{answer}");
    let (other, _) = world.keys_of(1).find(|(_, other)| *other == lane).unwrap();
    let (status, answer) =
        post(url, &world.complaint(&other, world.sign(&other, 1, "o"), |_| {}).to_bytes());
    assert_eq!((status, &answer["term"]), (200, &1.into()), "{answer}");
    let frames = [second().into()];
    let answers = fleet.runtime.block_on(client.submit_until_final(&frames)).unwrap();
    assert!(answers[0].is_committed(), "{answers:?}");
}

#[test]
fn a_validator_takes_sixteen_complaints_of_clients_while_nothing_is_ordered() {
    let mut world = World::new();
    world.fleet.create_stream();
    world.fleet.until_caught_up(0);
    world.fleet.kill(2);
    world.fleet.kill(3);
    let keys: Vec<_> = world.keys_of(3).take(17).collect();
    let told: Vec<u16> = keys
        .iter()
        .map(|(key, _)| {
            let complaint = world.complaint(key, world.sign(key, 1, "s"), |_| {});
            let (status, answer) = post(world.fleet.url(0), &complaint.to_bytes());
            if status != 200 {
                assert_eq!(answer["code"], "QP0112", "{answer}");
            }
            status
        })
        .collect();
    assert_eq!(told, [vec![200; 16], vec![429]].concat());
}

/// `quipu append` through addresses that swallow.
fn append(world: &World, urls: &str, key: &SecretKey, name: &str, rows: &[&str]) -> Child {
    let path = world.fleet.ledger.path(name);
    keyfile::save(&path, key, None).unwrap();
    Command::new(QUIPU)
        .args(["append", "--url", urls, "--signer", path.to_str().unwrap(), "--stream", "s"])
        .args(["--complain-after", "300ms"])
        .args(rows)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn who_is_kept_out_everywhere_is_ordered_by_the_next_sequencer_because_it_complains() {
    let world = World::new();
    let fleet = &world.fleet;
    let stopped = COUNT - 1;
    let next_runs = |lane| world.sequencer(lane, 2) != stopped;
    let (key, lane) = world.keys_of(stopped).find(|(_, lane)| next_runs(*lane)).unwrap();
    let mut others =
        world.keys_of(stopped).filter(|(_, other)| next_runs(*other) && *other != lane);
    let (second_key, second_lane) = others.next().unwrap();
    let client = Client::new(&fleet.all_urls()).unwrap();
    fleet.runtime.block_on(async {
        let maker = SecretKey::generate();
        let mut producer = Producer::new(&client, &maker).await.unwrap();
        assert!(producer.submit(None, vec![create("s")]).await.unwrap().is_committed());
    });
    let seen = Arc::new(Seen::default());
    let start = |at| swallower::start(&fleet.runtime, fleet.url(at), &seen);
    let urls: Vec<String> = (0..stopped).map(start).collect();
    let urls = urls.join(",");
    let row = fleet.ledger.write("rows.jsonl", "{\"n\":7}\n{\"n\":7}\n");

    fleet.signal(stopped, "-STOP");
    let one = append(&world, &urls, &key, "one.key", &["--data", "{\"n\":7}"]);
    let many = append(&world, &urls, &second_key, "many.key", &["--file", &row]);
    let first_complaint = || seen.complaints.lock().unwrap().first().copied();
    until("it complains", || first_complaint().is_some());
    let begun = first_complaint().unwrap();
    until("both terms end", || world.term(0, lane) > 1 && world.term(0, second_lane) > 1);
    let deposed = begun.elapsed();
    let count = || psql(&fleet.server(0).pg, "select count(*) from s");
    until("all is ordered", || count() == "3\n");
    let ordered = begun.elapsed();
    eprintln!("complaint to deposition {deposed:?}, to rows at another validator {ordered:?}");
    // Nobody but by the complaint can know the rows, so that they are ordered shows what it did; how soon is measured.
    assert!(!seen.swallowed.lock().unwrap().is_empty(), "nothing was swallowed");
    for mut child in [one, many] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    fleet.signal(stopped, "-CONT");
}
