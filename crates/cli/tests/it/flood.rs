//! False complaints by the hundred to every validator, beside clients that append: all are refused, and what they cost the
//! others is measured.
//!
//! ```text
//!  a round = a window each of:  calm       no flood
//!                               signers    a few signers, again and again: not heard after the first time
//!                               made-up    a new key each time: heard, so two signatures are checked
//!                               malformed  as many requests that are no complaints: what HTTP alone costs
//! ```
//! `QUIPU_FLOOD_ROUNDS`, `QUIPU_FLOOD_MS` (a window), `QUIPU_FLOOD_RATE` (complaints a second and validator) and
//! `QUIPU_FLOOD_GAP_MS` (between a client's requests; 0: the next when the last is answered) say otherwise than a short run;
//! `docs/measurements.md` says what was measured.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quipu_client::{Client, Producer};
use quipu_crypto::SecretKey;
use quipu_types::{Encode, Hash, Term};
use serde_json::Value as Json;

use crate::complaints::{World, create};
use crate::fleet::{COUNT, Load};

/// Signers that complain again and again.
const SIGNER_COUNT: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Arm {
    Calm,
    Signers,
    MadeUp,
    Malformed,
}

const ARMS: [Arm; 4] = [Arm::Calm, Arm::Signers, Arm::MadeUp, Arm::Malformed];

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// A connection that is kept.
struct Line(BufReader<TcpStream>);

impl Line {
    fn open(url: &str) -> Self {
        Self(BufReader::new(TcpStream::connect(url.trim_start_matches("http://")).unwrap()))
    }

    /// Posts a complaint; gives the code of its refusal.
    fn post(&mut self, body: &[u8]) -> String {
        let size = body.len();
        let head =
            format!("POST /v1/complaints HTTP/1.1\r\nhost: v\r\ncontent-length: {size}\r\n\r\n");
        self.0.get_mut().write_all(&[head.as_bytes(), body].concat()).unwrap();
        let (mut line, mut size) = (String::new(), 0);
        self.0.read_line(&mut line).unwrap();
        assert!(!line.contains(" 200 "), "a false complaint is heard");
        while line != "\r\n" {
            line.clear();
            self.0.read_line(&mut line).unwrap();
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                size = text.trim().parse().unwrap();
            }
        }
        let mut answer = vec![0; size];
        self.0.read_exact(&mut answer).unwrap();
        let answer: Json = serde_json::from_slice(&answer).unwrap();
        answer["code"].as_str().unwrap().to_owned()
    }
}

/// What is posted in a window, over and over.
fn bodies(world: &World, signers: &[SecretKey], arm: Arm, count: usize) -> Vec<Vec<u8>> {
    let fleet = &world.fleet;
    match arm {
        Arm::Calm => Vec::new(),
        Arm::Malformed => vec![vec![0xff; 400]],
        Arm::Signers => {
            let client = Client::new(fleet.url(0)).unwrap();
            let header: Json = fleet.runtime.block_on(client.get("/v1/headers/latest")).unwrap();
            let anchor: Hash = header["hash"].as_str().unwrap().parse().unwrap();
            let complaint = |(place, key): (usize, &SecretKey)| {
                let transaction = world.sign(key, 1, &format!("f{place}"));
                let term = world.term(0, world.lane(key));
                let complaint = world.complaint(key, transaction, |one| {
                    (one.anchor, one.term) = (anchor, Term::new(term));
                });
                complaint.to_bytes()
            };
            signers.iter().enumerate().map(complaint).collect()
        }
        Arm::MadeUp => {
            let terms: BTreeMap<_, _> = (0..world.lane_count)
                .map(quipu_types::Lane::new)
                .map(|lane| (lane, world.term(0, lane)))
                .collect();
            let complaint = |_| {
                let key = SecretKey::generate();
                let mut transaction = world.sign(&key, 1, "made_up");
                *transaction.last_mut().unwrap() ^= 1;
                let term = Term::new(terms[&world.lane(&key)]);
                world.complaint(&key, transaction, |one| one.term = term).to_bytes()
            };
            (0..count).map(complaint).collect()
        }
    }
}

/// A pause of a measurement. A thread may be woken early.
fn wait_until(then: Instant) {
    while Instant::now() < then {
        std::thread::park_timeout(then.saturating_duration_since(Instant::now()));
    }
}

/// Posts to a validator, so many a second, until the end. How often it was refused, by code.
fn flood(url: &str, bodies: &[Vec<u8>], rate: u64, ended: &AtomicBool) -> BTreeMap<String, usize> {
    let (mut line, mut codes) = (Line::open(url), BTreeMap::new());
    let gap = Duration::from_nanos(1_000_000_000 / rate);
    let mut next = Instant::now();
    for body in bodies.iter().cycle() {
        if ended.load(Ordering::Relaxed) {
            break;
        }
        wait_until(next);
        next += gap;
        *codes.entry(line.post(body)).or_default() += 1;
    }
    codes
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

#[test]
fn a_flood_of_false_complaints_is_refused_and_everything_else_is_ordered() {
    let (rounds, rate) = (number("QUIPU_FLOOD_ROUNDS", 1), number("QUIPU_FLOOD_RATE", 100));
    let window = Duration::from_millis(number("QUIPU_FLOOD_MS", 500));
    let world = World::new();
    world.fleet.create_stream();
    let signers: Vec<_> = (0..SIGNER_COUNT).map(|_| SecretKey::generate()).collect();
    let client = Client::new(&world.fleet.all_urls()).unwrap();
    for (place, key) in signers.iter().enumerate() {
        let answer = world.fleet.runtime.block_on(async {
            let mut producer = Producer::new(&client, key).await.unwrap();
            producer.submit(None, vec![create(&format!("f{place}"))]).await.unwrap()
        });
        assert!(answer.is_committed(), "{answer:?}");
    }
    let load = Load::paced(&world.fleet, Duration::from_millis(number("QUIPU_FLOOD_GAP_MS", 0)));
    load.until_answered(5, &[]);
    let count =
        usize::try_from(rate * u64::try_from(window.as_millis()).unwrap() / 900 + 1).unwrap();
    let mut rates: BTreeMap<Arm, Vec<f64>> = BTreeMap::new();
    let mut windows = Vec::new();
    for round in 0..rounds {
        let at = usize::try_from(round).unwrap() % ARMS.len();
        for arm in ARMS.iter().cycle().skip(at).take(ARMS.len()) {
            let bodies = bodies(&world, &signers, *arm, count);
            let ended = AtomicBool::new(false);
            let codes = std::thread::scope(|scope| {
                let start = |at| {
                    let (url, bodies, ended) = (world.fleet.url(at), &bodies, &ended);
                    scope.spawn(move || flood(url, bodies, rate, ended))
                };
                let floods: Vec<_> = (0..COUNT).map(start).collect();
                let (begun, before) = (Instant::now(), load.total());
                wait_until(begun + window);
                let answered = u32::try_from(load.total() - before).unwrap();
                let seconds = begun.elapsed().as_secs_f64();
                windows.push((*arm, begun, Instant::now()));
                rates.entry(*arm).or_default().push(f64::from(answered) / seconds);
                ended.store(true, Ordering::Relaxed);
                floods.into_iter().map(|flood| flood.join().unwrap()).collect::<Vec<_>>()
            });
            let mut sum: BTreeMap<String, usize> = BTreeMap::new();
            for (code, count) in codes.into_iter().flatten() {
                *sum.entry(code).or_default() += count;
            }
            let last = rates[arm].last().unwrap();
            eprintln!("round {round} {arm:?}: {last:.1} requests/s, refused {sum:?}");
        }
    }
    let done = load.finish(&world.fleet);
    let calm = median(rates[&Arm::Calm].clone());
    for (arm, all) in &rates {
        let of_arm = windows.iter().filter(|window| window.0 == *arm);
        let mut waits: Vec<Duration> = of_arm
            .flat_map(|(_, from, to)| done.iter().flat_map(|one| one.waits(*from, *to)))
            .collect();
        waits.sort();
        let at = |permille: usize| waits.get((waits.len() * permille / 1_000).min(waits.len() - 1));
        let (low, high) = all
            .iter()
            .fold((f64::MAX, 0.0_f64), |(low, high), one| (low.min(*one), high.max(*one)));
        let median = median(all.clone());
        eprintln!(
            "{arm:?}: median {median:.1} requests/s ({low:.1} to {high:.1}), {:.3} of calm; waits: median {:?}, p99 {:?}",
            median / calm,
            at(500),
            at(990)
        );
    }
    world.fleet.check(&done);
}
