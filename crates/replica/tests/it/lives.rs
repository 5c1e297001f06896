//! Whoever is killed, in the middle of whatever, and however links come back: every client is
//! answered, in time, and what it sent is ordered once.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use quipu_replica::{Answer, Input};

use crate::net::{Net, number};

const COUNT: usize = 4;
/// Seeds of a test; `LIVES` of the environment says otherwise, as `3` or as `40..50`.
const LIFE_COUNT: u64 = 200;
/// Times at which validators are killed, in one life.
const KILL_COUNT_MAX: usize = 4;
/// The client that pipelines has its lane to itself, and asks the lane's sequencer mostly.
const LANE: u16 = 1;
/// Most transactions of a client that wait together.
const WINDOW_COUNT: u64 = 3;
/// What a client waits for an answer that is no refusal: terms end, each with more patience.
const PATIENCE_US: u64 = 15_000_000;
const STEP_US: u64 = 10_000;
/// Time between an answer and what a client that keeps heights going asks next.
const PAUSE_US: u64 = 40_000;

/// Signs sequences without a gap, goes elsewhere when its gateway is gone, and sends again what was
/// refused.
struct Client {
    signer: u8,
    gateway: usize,
    /// The first that is not ordered.
    next: u64,
    /// Who asked for that one, and those after it.
    tickets: VecDeque<u64>,
    since_us: u64,
    answered_us: u64,
}

struct Life {
    net: Net,
    random: fastrand::Rng,
    /// Whether the one is linked to the other.
    links: Rc<RefCell<[[bool; COUNT]; COUNT]>>,
    /// The one that pipelines, then one of each validator that keeps heights going.
    clients: Vec<Client>,
    ticket: u64,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut net = Net::new();
        let links = Rc::new(RefCell::new([[true; COUNT]; COUNT]));
        let gate = Rc::clone(&links);
        net.loses = Box::new(move |from, to, _| !gate.borrow()[from][to]);
        let client = |signer, gateway| {
            let (next, tickets) = (1, VecDeque::new());
            Client { signer, gateway, next, tickets, since_us: 0, answered_us: 0 }
        };
        let mut clients = vec![client(net.client(LANE, 0), 0)];
        clients.extend((0..COUNT).map(|index| client(net.client(0, index), index)));
        Self { net, random: fastrand::Rng::with_seed(seed), links, clients, ticket: 0 }
    }

    /// A client sends what it waits for again, or `count` more.
    fn ask(&mut self, client: usize, count: u64) {
        let client = &mut self.clients[client];
        let count = u64::try_from(client.tickets.len()).expect("few").max(count);
        client.tickets.clear();
        for sequence in client.next..client.next + count {
            self.ticket += 1;
            client.tickets.push_back(self.ticket);
            let admitted = self.net.transaction(client.signer, sequence);
            self.net.submit(client.gateway, self.ticket, admitted);
        }
    }

    fn begin(&mut self, client: usize, count: u64) {
        self.clients[client].since_us = self.net.now.mono_us;
        self.ask(client, count);
    }

    /// Clients take their answers.
    fn hear(&mut self) {
        let members = self.net.members.iter_mut();
        let answers = members.flat_map(|member| std::mem::take(&mut member.answers));
        let answers: BTreeMap<u64, Answer> = answers.collect();
        let now_us = self.net.now.mono_us;
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            let mut is_refused = false;
            while let Some(answer) = client.tickets.front().and_then(|first| answers.get(first)) {
                is_refused = matches!(answer, Answer::Refused(_));
                if is_refused {
                    break;
                }
                client.tickets.pop_front();
                client.next += 1;
                (client.since_us, client.answered_us) = (now_us, now_us);
            }
            let later = client.tickets.iter().filter_map(|ticket| answers.get(ticket));
            is_refused |= later.clone().any(|answer| matches!(answer, Answer::Refused(_)));
            if is_refused {
                self.ask(index, 0);
            }
        }
    }

    fn pass(&mut self) {
        self.net.pass(STEP_US);
        self.hear();
        let now_us = self.net.now.mono_us;
        for index in 1..self.clients.len() {
            let client = &self.clients[index];
            let is_due = client.tickets.is_empty() && now_us >= client.answered_us + PAUSE_US;
            if is_due && self.net.is_up[client.gateway] {
                self.begin(index, 1);
            }
        }
    }

    /// Nobody waits too long.
    fn judge(&self) -> Result<(), String> {
        let is_late = |client: &&Client| {
            !client.tickets.is_empty() && self.net.now.mono_us >= client.since_us + PATIENCE_US
        };
        let Some(late) = self.clients.iter().find(is_late) else { return Ok(()) };
        let Client { signer, gateway, next, .. } = late;
        Err(format!("{signer} waits at {gateway} for {next}: {}", self.net.told()))
    }

    /// Lets time pass until the client that pipelines waits for nothing.
    fn settle(&mut self) -> Result<(), String> {
        while !self.clients[0].tickets.is_empty() {
            self.pass();
            self.judge()?;
        }
        Ok(())
    }

    /// Nobody asks for more: lets time pass until nobody waits.
    fn rest(&mut self) -> Result<(), String> {
        while self.clients.iter().any(|client| !client.tickets.is_empty()) {
            self.net.pass(STEP_US);
            self.hear();
            self.judge()?;
        }
        Ok(())
    }

    fn sequencer(&self) -> usize {
        let term = (0..COUNT).map(|index| self.net.term(index, usize::from(LANE))).max();
        self.net.sequencer(LANE, term.expect("four"))
    }

    /// Goes on until someone's chunk is on its way, or for a while.
    fn linger(&mut self, whose: usize) {
        const CHUNK: u8 = 2;
        if self.random.bool() {
            self.net.goes_quiet(self.random.usize(..40));
            return;
        }
        for _ in 0..80 {
            let mut wires = self.net.wires.iter();
            if wires.any(|(from, _, bytes)| *from == whose && bytes.first() == Some(&CHUNK)) {
                return;
            }
            self.net.goes_quiet(1);
        }
    }

    /// They are gone; of what they had sent, some is lost.
    fn kill(&mut self, victims: &[usize]) {
        for victim in victims {
            self.net.is_up[*victim] = false;
        }
        let random = &mut self.random;
        self.net.wires.retain(|(from, to, _)| {
            !victims.contains(to) && (!victims.contains(from) || random.bool())
        });
        for (from, to) in pairs(victims) {
            self.links.borrow_mut()[from][to] = false;
        }
    }

    /// They come back on their disks, and links one by one, in each direction.
    fn start(&mut self, victims: &[usize]) {
        for victim in victims {
            self.net.start(*victim, None);
        }
        let mut links = pairs(victims);
        self.random.shuffle(&mut links);
        for (from, to) in links {
            self.net.goes_quiet(self.random.usize(..30));
            if self.random.bool() {
                self.net.pass(self.random.u64(1..30_000));
            }
            self.links.borrow_mut()[from][to] = true;
            self.net.step(from, Input::Linked(number(to)));
        }
        for index in 0..self.clients.len() {
            if victims.contains(&self.clients[index].gateway) {
                self.ask(index, 0);
            }
        }
    }

    fn round(&mut self, is_last: bool) -> Result<(), String> {
        let sequencer = self.sequencer();
        let other = self.random.usize(..COUNT);
        self.clients[0].gateway = if self.random.u8(..3) > 0 { sequencer } else { other };
        let other = self.random.usize(..COUNT);
        let victim = if self.random.u8(..3) > 0 { sequencer } else { other };
        let all: Vec<usize> = (0..COUNT).collect();
        let victims = if !is_last && self.random.u8(..10) == 0 { all } else { vec![victim] };
        let count = self.random.u64(1..=WINDOW_COUNT);
        self.begin(0, count);
        self.linger(victim);
        self.kill(&victims);
        if victims == [self.clients[0].gateway] {
            self.clients[0].gateway = (victim + self.random.usize(1..COUNT)) % COUNT;
            self.ask(0, 0);
        }
        for _ in 0..self.random.usize(..60) {
            self.pass();
        }
        if is_last {
            self.clients.retain(|client| client.gateway != victim);
        } else {
            self.start(&victims);
        }
        self.settle()
    }

    fn live(&mut self) -> Result<(), String> {
        for left in (0..self.random.usize(1..=KILL_COUNT_MAX)).rev() {
            self.round(left == 0).map_err(|why| format!("{left} kills before the end, {why}"))?;
        }
        self.rest()?;
        self.net.assert_sound();
        let ordered = self.net.ordered(self.clients[0].gateway, LANE);
        let sequences: Vec<u64> = ordered.into_iter().map(|(_, sequence)| sequence).collect();
        let wanted: Vec<u64> = (1..self.clients[0].next).collect();
        if sequences == wanted { Ok(()) } else { Err(format!("{sequences:?} are ordered")) }
    }
}

/// All who lose each other when some are gone, in both directions.
fn pairs(victims: &[usize]) -> Vec<(usize, usize)> {
    let all = (0..COUNT).flat_map(|from| (0..COUNT).map(move |to| (from, to)));
    all.filter(|(from, to)| from != to && (victims.contains(from) || victims.contains(to)))
        .collect()
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("LIVES") else { return 0..LIFE_COUNT };
    let (from, to) = text.split_once("..").unwrap_or(("0", &text));
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[test]
fn every_client_is_answered_whoever_is_killed() {
    for seed in seeds() {
        if let Err(why) = Life::new(seed).live() {
            panic!("LIVES={seed}..{}: {why}", seed + 1);
        }
    }
}
