//! Twins: a validator's key runs twice, and nobody can tell. Partitions come and go, round by round; then all hear
//! each other.
//!
//! Source: Bano, Sonnino, Chursin, Perelman, Malkhi, "Twins: White-Glove Approach for BFT Testing" (arXiv 2004.10617).
//!
//! ```text
//!  validators   0   1   2   3          every node runs the honest code; two have the key of a twin, and other inputs
//!  nodes        0   1   2   3   1'     phase: a partition into two groups, timers fire, all that is said is heard
//!               └─ {0 1} ┊ {2 3 1'} ─┘        within the group and lost beyond it; at last there is one group
//! ```
//! # What differs between twins
//! Each node has another certificate of height 1, and so proposes another header of height 2 from the same key; and it
//! hears another part of what is said, in an order drawn from the scenario's seed.
//! # Bounds
//! * n = 4 of equal stake. Led start: height 2 has the rounds led, led, led, open; open start: open, led, open, led.
//!   Leaders follow from the schedule; each validator is the twin in turn (two twins: each pair), which puts it in
//!   every place of it.
//! * One twin, led start: every two partitions one after the other (16²), each kept for two phases; and samples of the
//!   16⁴ sequences of four. The others are sampled, with fixed seeds: coins are most of what a scenario costs.
//!   `QUIPU_TWINS=n`, n > 1, takes n times the samples, and every two partitions of all (16² and 32² for each
//!   twin or pair).
//! # Verdicts
//! * One twin: one header a height among the honest, nobody honest in evidence, no honest message an offence, and
//!   heights after the partitions heal.
//! * Two twins of four may fork the ledger; evidence then names both of them. A judge has every word that was said, as
//!   one who gathers what all have heard; it names no honest validator, ever. What nodes find by themselves is counted
//!   too.
//!
//! All nodes share what they know of signatures: one that a node made is not checked again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use quipu_consensus::core::{ROUND_MORE_US, ROUND_US};
use quipu_consensus::safety::place;
use quipu_consensus::{
    Change, Config, Context, Core, Event, Evidence, Message, Now, Parent, Record, Rules,
    genesis_cut,
};
use quipu_crypto::coin::CoinSecret;
use quipu_crypto::{Tag, Verified};
use quipu_proof::names::header_hash;
use quipu_types::round::{Mode, Start};
use quipu_types::{
    Coin, CommitCertificate, Decode, Encode, Height, Precommit, RoundKind, Rounds, Signature, Time,
    ValidatorIndex,
};

use crate::world::{
    CHAIN, Chunks, GENESIS_TIME, IDLE_US, LANES, MIN_US, Node, Packet, ROUNDS, Want, context,
    dealing, key, number, sign,
};

const POWERS: [u64; 4] = [1; 4];
/// Rounds and partitions of a scenario.
const PHASES: usize = 4;
/// Longer than the timers of a scenario's rounds, and than a height waits to begin.
const PHASE_US: u64 = ROUND_US + 4 * ROUND_MORE_US;
/// Phases after healing within which heights must come: each ends a round or a height.
const HEAL_PHASES_MAX: usize = 24;
const _: () = assert!(PHASE_US > IDLE_US, "a height begins in each phase");

static VERIFIED: LazyLock<Arc<Verified>> = LazyLock::new(|| Arc::new(Verified::new(1 << 18)));
static CONTEXT: LazyLock<Context> =
    LazyLock::new(|| Context { verified: Arc::clone(&VERIFIED), ..context(&POWERS) });

/// Which nodes there are, who hears whom, and in which order.
#[derive(Clone, Debug)]
struct Scenario {
    twins: Vec<usize>,
    /// In each phase the nodes of one of the groups.
    groups: [u32; PHASES],
    seed: u64,
}

/// Height 1, with five certificates: of any three validators, and of all.
fn parents(starts_open: bool) -> Vec<Parent> {
    let context = &*CONTEXT;
    let rounds = match starts_open {
        true => {
            Rounds { mode: Mode::Open, start: Start::Open, trial: Height::new(1_000), ..ROUNDS }
        }
        false => ROUNDS,
    };
    let genesis = Parent::genesis(CHAIN, GENESIS_TIME, LANES, rounds);
    let header =
        genesis.next(context, context.schedule.leader(0, 0), genesis_cut(LANES), None, None);
    let vote = |index: usize| {
        let mut vote = Precommit {
            height: header.height,
            round: 0,
            kind: RoundKind::Led,
            instance: header.proposer,
            digest: header_hash(&header),
            tips: Vec::new(),
            suspects: Vec::new(),
            time: Time::new(GENESIS_TIME.get() + 2),
            validator: number(index),
            signature: Signature([0; 64]),
        };
        vote.signature = sign(index, Tag::Precommit, &vote.signed_body());
        vote
    };
    let without =
        (0..=POWERS.len()).map(|left| (0..POWERS.len()).filter(move |index| *index != left));
    without
        .map(|signers| {
            let commit = CommitCertificate { precommits: signers.map(vote).collect(), coin: None };
            Parent::of(&header, commit, &genesis, &context.schedule)
        })
        .collect()
}

struct Stage {
    nodes: Vec<Node>,
    /// Whose key each node has.
    who: Vec<usize>,
    twins: Vec<usize>,
    wires: Vec<(usize, usize, Packet)>,
    group: u32,
    random: fastrand::Rng,
}

impl Stage {
    fn new(scenario: &Scenario, parents: &[Parent]) -> Self {
        let who: Vec<usize> = (0..POWERS.len()).chain(scenario.twins.iter().copied()).collect();
        let dealing = dealing(&POWERS);
        let now = Now { wall_us: 5_000_000, mono_us: 0 };
        let node = |(index, validator): (usize, &usize)| {
            let config = Config {
                chain: CHAIN,
                epochs: CONTEXT.epochs.clone(),
                sets_change: false,
                key: key(*validator),
                interval_min_us: MIN_US,
                interval_idle_us: IDLE_US,
                rules: Rules::ALL,
                verified: Arc::clone(&VERIFIED),
                coin: Some(dealing.0.clone()),
                coin_secret: Some(
                    CoinSecret::from_bytes(&dealing.1[*validator]).expect("its own bytes"),
                ),
            };
            let parent = parents[index % parents.len()].clone();
            let core = Core::new(now, config, parent.clone(), Vec::new());
            Node {
                core,
                chunks: Chunks::default(),
                log: Vec::new(),
                committed: Vec::new(),
                parents: vec![parent],
                trace: Vec::new(),
                now,
                sent: Vec::new(),
                wants: Vec::new(),
                evidence: Vec::new(),
            }
        };
        Self {
            nodes: who.iter().enumerate().map(node).collect(),
            who,
            twins: scenario.twins.clone(),
            wires: Vec::new(),
            group: 0,
            random: fastrand::Rng::with_seed(scenario.seed),
        }
    }

    fn is_honest(&self, node: usize) -> bool {
        !self.twins.contains(&self.who[node])
    }

    fn honest(&self) -> impl Iterator<Item = &Node> {
        self.nodes
            .iter()
            .enumerate()
            .filter(|(index, _)| self.is_honest(*index))
            .map(|(_, node)| node)
    }

    /// The other nodes that a node can reach; with the key of one validator, or any.
    fn near(&self, from: usize, to: Option<ValidatorIndex>) -> Vec<usize> {
        let side = |node: usize| self.group >> node & 1;
        let near = (0..self.nodes.len()).filter(|node| *node != from && side(*node) == side(from));
        near.filter(|node| to.is_none_or(|to| to == number(self.who[*node]))).collect()
    }

    fn fetch(&mut self, from: usize) {
        for (to, message) in std::mem::take(&mut self.nodes[from].sent) {
            let bytes = message.to_bytes();
            for to in self.near(from, to) {
                self.wires.push((from, to, Packet::Message(bytes.clone())));
            }
        }
        for want in std::mem::take(&mut self.nodes[from].wants) {
            match want {
                Want::Value(height, digest) => {
                    for other in self.near(from, None) {
                        let value = self.nodes[other].core.value_of(height, &digest).cloned();
                        self.wires.extend(value.map(|header| (other, from, Packet::Value(header))));
                    }
                }
                Want::Answer(to, height) => {
                    for to in self.near(from, Some(to)) {
                        self.give(from, to, height);
                    }
                }
                Want::Headers(of) => {
                    let next = self.nodes[from].core.parent().height.next();
                    for other in self.near(from, of) {
                        self.give(other, from, next);
                    }
                }
            }
        }
    }

    fn give(&mut self, from: usize, to: usize, height: Height) {
        let committed = self.nodes[from].committed.iter();
        let later = committed.filter(|(header, _)| header.height >= height).cloned();
        self.wires.extend(later.map(|(header, why)| (from, to, Packet::Decided(header, why))));
    }

    /// Timers fire, and all that is said is heard, in some order.
    fn phase(&mut self) {
        for index in 0..self.nodes.len() {
            self.nodes[index].wait(PHASE_US);
            self.fetch(index);
        }
        for _ in 0..100_000 {
            if self.wires.is_empty() {
                return;
            }
            let pick = self.random.usize(..self.wires.len());
            let (from, to, packet) = self.wires.swap_remove(pick);
            let taken = match packet {
                Packet::Message(bytes) => {
                    let message = Message::from_bytes(&bytes).expect("messages read back");
                    self.nodes[to].hear(self.who[from], message)
                }
                Packet::Value(header) => self.nodes[to].step(Event::Value(header)),
                Packet::Decided(header, why) => self.nodes[to].step(Event::Decided(header, why)),
            };
            if let Err(refused) = taken {
                let may_offend = self.twins.len() > 1 || !self.is_honest(from);
                assert!(may_offend || !refused.is_offence(), "what is honest is taken: {refused}");
            }
            self.fetch(to);
        }
        panic!("the nodes never fall silent");
    }

    /// Whether two honest validators committed different headers at one height.
    fn is_forked(&self) -> bool {
        let differ =
            |a: &Node, b: &Node| a.committed.iter().zip(&b.committed).any(|(a, b)| a.0 != b.0);
        self.honest().any(|a| self.honest().any(|b| differ(a, b)))
    }

    fn height(&self) -> u64 {
        self.honest().map(Node::height).min().unwrap_or(0)
    }

    /// What a judge finds who has every word that was said, by validator.
    fn judged(&self, context: &Context) -> BTreeMap<usize, BTreeSet<&'static str>> {
        let mut said: BTreeMap<usize, Vec<&Record>> = BTreeMap::new();
        let mut coins: BTreeMap<(Height, u32), Coin> = BTreeMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let own = said.entry(self.who[index]).or_default();
            own.extend(node.log.iter().filter(|record| record.height().is_some()));
            for record in &node.log {
                let Record::RoundChange(Change { change, coins: known, .. }) = record else {
                    continue;
                };
                coins.extend(known.iter().map(|own| ((change.height, own.round), own.coin)));
            }
        }
        let mut named: BTreeMap<usize, BTreeSet<&'static str>> = BTreeMap::new();
        for words in said.values() {
            for (first, second) in words.iter().flat_map(|a| words.iter().map(move |b| (*a, *b))) {
                let Some(evidence) = confront(first, second, &coins) else { continue };
                if let Some(culprit) = evidence.culprit(context) {
                    named.entry(usize::from(culprit.get())).or_default().insert(evidence.kind());
                }
            }
        }
        named
    }
}

/// What two words of one validator would prove, if they prove anything.
fn confront(
    first: &Record,
    second: &Record,
    coins: &BTreeMap<(Height, u32), Coin>,
) -> Option<Evidence> {
    Some(match (first, second) {
        (Record::Propose(a), Record::Propose(b)) if (a.height, a.round) == (b.height, b.round) => {
            Evidence::Proposals(Box::new([(**a).clone(), (**b).clone()]))
        }
        (Record::Prevote { vote: a, .. }, Record::Prevote { vote: b, .. })
            if place(a.height, a.round, a.kind, a.instance)
                == place(b.height, b.round, b.kind, b.instance) =>
        {
            Evidence::Prevotes(Box::new([a.clone(), b.clone()]))
        }
        (Record::Precommit { vote: a, .. }, Record::Precommit { vote: b, .. })
            if place(a.height, a.round, a.kind, a.instance)
                == place(b.height, b.round, b.kind, b.instance) =>
        {
            Evidence::Precommits(Box::new([a.clone(), b.clone()]))
        }
        (Record::RoundChange(a), Record::RoundChange(b)) => {
            Evidence::RoundChanges(Box::new([a.change, b.change]))
        }
        (Record::Precommit { vote, .. }, Record::RoundChange(own)) => {
            let coin = coins.get(&(vote.height, vote.round)).copied();
            Evidence::Amnesia(Box::new((vote.clone(), own.change, coin)))
        }
        _ => return None,
    })
}

/// What came of many scenarios.
#[derive(Debug, Default)]
struct Totals {
    scenarios: usize,
    forks: usize,
    /// Scenarios in which the judge named anyone.
    judged: usize,
    /// How often a node itself found evidence, by validator and kind.
    found: BTreeMap<(usize, &'static str), usize>,
    /// Scenarios in which the judge named a validator, by validator.
    named: BTreeMap<usize, usize>,
    /// Honest commits, by kind and round.
    commits: BTreeMap<(&'static str, u32), usize>,
}

impl Totals {
    fn print(&self, name: &str) {
        println!(
            "{name}: {} scenarios, {} forks, in {} someone is named",
            self.scenarios, self.forks, self.judged
        );
        println!("  named by the judge, scenarios by validator: {:?}", self.named);
        println!("  found by nodes: {:?}", self.found);
        println!("  honest commits by kind and round: {:?}", self.commits);
    }

    fn run(&mut self, scenario: &Scenario, parents: &[Parent]) {
        let mut stage = Stage::new(scenario, parents);
        for group in scenario.groups {
            stage.group = group;
            stage.phase();
        }
        stage.group = 0;
        let is_alone = scenario.twins.len() == 1;
        let due = stage.honest().map(Node::height).max().unwrap_or(0) + 1;
        let mut left = if is_alone { HEAL_PHASES_MAX } else { 2 };
        while left > 0 && stage.height() < due {
            stage.phase();
            left -= 1;
        }
        self.judge(scenario, &stage, &CONTEXT);
        assert!(!is_alone || !stage.is_forked(), "one header a height: {scenario:?}");
        assert!(!is_alone || stage.height() >= due, "no progress: {scenario:?}");
    }

    fn judge(&mut self, scenario: &Scenario, stage: &Stage, context: &Context) {
        self.scenarios += 1;
        for evidence in stage.nodes.iter().flat_map(|node| &node.evidence) {
            let culprit =
                usize::from(evidence.culprit(context).expect("nodes put out what holds").get());
            assert!(
                scenario.twins.contains(&culprit),
                "an honest validator is named: {scenario:?}"
            );
            *self.found.entry((culprit, evidence.kind())).or_default() += 1;
        }
        let named = stage.judged(context);
        assert!(
            named.keys().all(|own| scenario.twins.contains(own)),
            "an honest validator is named: {scenario:?}"
        );
        self.judged += usize::from(!named.is_empty());
        for own in named.keys() {
            *self.named.entry(*own).or_default() += 1;
        }
        for (_, certificate) in stage.honest().flat_map(|node| &node.committed) {
            let vote = &certificate.precommits[0];
            let kind = if vote.kind == RoundKind::Led { "led" } else { "open" };
            *self.commits.entry((kind, vote.round)).or_default() += 1;
        }
        if stage.is_forked() {
            self.forks += 1;
            let all: BTreeSet<usize> = scenario.twins.iter().copied().collect();
            assert!(
                named.keys().copied().collect::<BTreeSet<_>>() == all,
                "a fork names both twins: {scenario:?}"
            );
        }
    }
}

/// How many times the samples are taken.
fn times() -> u64 {
    std::env::var("QUIPU_TWINS").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// The two-partition sequences of a scenario's nodes, or only samples of four.
fn explore(
    name: &str,
    (all, starts_open): (&[&[usize]], bool),
    is_exhaustive: bool,
    samples: u64,
) -> Totals {
    let parents = parents(starts_open);
    let mut totals = Totals::default();
    for (twins, seed) in all.iter().zip(1_000_000..) {
        let count: u32 = 1 << (POWERS.len() + twins.len() - 1);
        let pairs = (0..count)
            .flat_map(|first| (0..count).map(move |second| [first, first, second, second]));
        let pairs = pairs.filter(|_| is_exhaustive || times() > 1);
        let mut random = fastrand::Rng::with_seed(seed);
        let sampled = (0..samples * times()).map(|_| [(); PHASES].map(|()| random.u32(..count)));
        for (groups, seed) in pairs.chain(sampled).zip(0..) {
            totals.run(&Scenario { twins: twins.to_vec(), groups, seed }, &parents);
        }
    }
    totals.print(&format!("{name}, {} start", if starts_open { "open" } else { "led" }));
    totals
}

const ONE: [&[usize]; 4] = [&[0], &[1], &[2], &[3]];
const TWO: [&[usize]; 6] = [&[0, 1], &[0, 2], &[0, 3], &[1, 2], &[1, 3], &[2, 3]];

#[test]
fn with_one_twin_of_four_and_a_led_start_the_ledger_is_one() {
    let totals = explore("one twin", (&ONE, false), true, 50);
    assert!(totals.forks == 0 && totals.judged > 0);
}

#[test]
fn with_one_twin_of_four_and_an_open_start_the_ledger_is_one() {
    let totals = explore("one twin", (&ONE, true), false, 40);
    assert!(totals.forks == 0 && totals.judged > 0);
}

#[test]
fn with_two_twins_of_four_and_a_led_start_ledgers_fork_and_evidence_names_both_and_nobody_else() {
    let totals = explore("two twins", (&TWO, false), false, 200);
    assert!(totals.forks > 0 && totals.judged > totals.forks);
}

#[test]
fn with_two_twins_of_four_and_an_open_start_ledgers_fork_and_evidence_names_both_and_nobody_else() {
    let totals = explore("two twins", (&TWO, true), false, 15);
    assert!(totals.forks > 0 && totals.judged > totals.forks);
}
