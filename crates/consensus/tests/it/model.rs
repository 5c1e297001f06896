//! A reduced model of one height, every state of it: agreement cannot be lost, whatever is said, lost, or late.
//!
//! Source: the project's design, section 4 ("Safety") and 9.4; `stateright` explores breadth first. What validators do
//! is not modelled but asked of the real code (`oracle`): [`Safety`](quipu_consensus::safety::Safety) says each vote
//! and round change, or refuses to; tallies, polkas, certificates of round changes, commits and evidence are checked
//! by their functions, over real signatures and real coins.
//!
//! ```text
//!  state = what each of three honest validators has said (a mask of words) + which coins are shown
//!  step  = prevote what some certificate allows · precommit a polka · change round and name a polka · show a coin
//! ```
//! # Bounds
//! * n = 4 of equal stake, one criminal, two headers, one height. Every state of three rounds that alternate: led,
//!   open, led (those numbered 2, 3, 4; nothing was said before), and open, led, open; of two, open and led, with an
//!   instance that is not elected. Four rounds are too many to see them all: random walks.
//! * `QUIPU_MODEL_ROUNDS=4` (or more) is a long run: led, open, led with an instance that is not elected (69,675,975
//!   states, 263 s of one core, 11 GB), and walks of that many rounds, 100 times as long.
//! * What is said is said to a set from which anyone takes what it likes, or nothing, at any time: loss, delay, order
//!   and repetition need no steps. A validator may see any polka that exists, or not, and leave a led round at any
//!   time.
//! * The criminal has said everything that its key can sign: every vote for either header, a round change that names
//!   any polka. It leads every round and owns every instance: a proposal is there for every header that some
//!   certificate of round changes allows, so that every honest proposer's choice is among those (its votes are an
//!   honest voter's).
//! * Of an open round the elected instance is modelled, and one that is not; those that are not elected do nothing to
//!   each other. A coin is shown at any time after somebody entered its round: earlier than owners allow. Every
//!   outcome of the coin is tried in the smallest bounds; as the criminal owns every instance, outcomes differ in
//!   nothing but names.
//! * Honest validators, and the two headers, are interchangeable: a state stands for all that differ in their names.
//! # Not modelled
//! Chunks, acks, tips, suspicions, times, state votes, restarts, more than one height, other stakes.

mod oracle;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use quipu_consensus::Rules;
use quipu_types::RoundKind;
use stateright::{Checker, DiscoveryClassification, Expectation, HasDiscoveries, Model, Property};

use oracle::{Bounds, HONEST, Oracle, VALUES, Vote, Word, bits};

const PLACES_MAX: usize = 6;
const BOTH: u8 = 0b11;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    said: [u64; HONEST],
    /// Rounds whose coin is shown.
    shown: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Say(usize, Word),
    Show(usize),
}

/// Answers that were given.
#[derive(Debug, Default)]
struct Answers {
    said: BTreeMap<(u64, usize, u8), u64>,
    changes: BTreeMap<(usize, u8), bool>,
    proposable: BTreeMap<(usize, [u64; HONEST], u64, u8), u8>,
    named: BTreeMap<(u64, u8), bool>,
}

#[derive(Debug)]
struct Reduced {
    oracle: Oracle,
    is_symmetric: bool,
    answers: Mutex<Answers>,
    /// By place, and by the votes of the honest: two bits each.
    polkas: Vec<Vec<u8>>,
    /// The same, before and after the coin is shown.
    commits: Vec<Vec<[u8; 2]>>,
    /// The bits of the round changes to each round.
    changes: Vec<u64>,
    /// Bits of words of the first and of the second header; what names no header is in none.
    first: u64,
}

/// Headers of which there are polkas, or commits, by place.
type Marks = [u8; PLACES_MAX];

impl Reduced {
    fn new(bounds: Bounds) -> Self {
        let oracle = Oracle::new(bounds);
        assert!(oracle.spots.len() <= PLACES_MAX);
        let pattern = |index: u8| [0, 2, 4].map(|shift| index >> shift & BOTH);
        let places = 0..oracle.spots.len();
        let polkas = places
            .clone()
            .map(|spot| (0..64).map(|index| oracle.polkas(spot, pattern(index))).collect());
        let commit =
            |spot, index| [false, true].map(|shown| oracle.commits(spot, pattern(index), shown));
        let commits = places.map(|spot| (0..64).map(|index| commit(spot, index)).collect());
        let changes = (0..oracle.rounds).map(|round| {
            let own = oracle
                .words
                .iter()
                .filter(|(_, word)| matches!(word, Word::Change(to, _) if *to == round));
            own.fold(0, |mask, (bit, _)| mask | 1 << bit)
        });
        Self {
            polkas: polkas.collect(),
            commits: commits.collect(),
            changes: changes.collect(),
            first: oracle.named() & 0x5555_5555_5555_5555,
            is_symmetric: true,
            answers: Mutex::default(),
            oracle,
        }
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().expect("no question panics")
    }

    /// What the honest said in a place: two bits a validator. Precommits stand behind the prevotes.
    fn pattern(said: &[u64; HONEST], at: usize) -> usize {
        said.iter().rev().fold(0, |index, words| {
            index << VALUES | usize::from(low(words >> (VALUES * at)) & BOTH)
        })
    }

    fn polkas(&self, state: &State) -> Marks {
        let mut marks = [0; PLACES_MAX];
        for (spot, (table, mark)) in self.polkas.iter().zip(&mut marks).enumerate() {
            *mark = table[Self::pattern(&state.said, spot)];
        }
        marks
    }

    fn commits(&self, state: &State) -> Marks {
        let mut marks = [0; PLACES_MAX];
        let places = self.oracle.spots.len();
        for (spot, (table, mark)) in self.commits.iter().zip(&mut marks).enumerate() {
            let is_shown = state.shown >> self.oracle.spots[spot].round & 1 == 1;
            *mark = table[Self::pattern(&state.said, places + spot)][usize::from(is_shown)];
        }
        marks
    }

    fn round_of(&self, words: u64) -> usize {
        (1..self.changes.len()).rev().find(|round| words & self.changes[*round] != 0).unwrap_or(0)
    }

    fn counts(&self, spot: usize, shown: u8) -> bool {
        let spot = self.oracle.spots[spot];
        spot.kind == RoundKind::Led || (spot.counts && shown >> spot.round & 1 == 1)
    }

    /// The round, from 1, of the highest polka that a validator knows by its own words.
    fn high_of(&self, words: u64, shown: u8) -> usize {
        let round = |spot: usize| self.oracle.spots[spot].round + 1;
        let known = bits(words).filter_map(|bit| match self.oracle.words[&bit] {
            Word::Precommit((spot, _)) if self.counts(spot, shown) => Some(round(spot)),
            Word::Change(_, Some((spot, _))) => Some(round(spot)),
            _ => None,
        });
        known.max().unwrap_or(0)
    }

    /// The headers that may be proposed in a round.
    fn proposable(&self, round: usize, state: &State, polkas: &Marks) -> u8 {
        if round == 0 {
            return BOTH;
        }
        let said = state.said.map(|words| words & self.changes[round]);
        let polkas = polkas.iter().rev().fold(0, |mask, mark| mask << VALUES | u64::from(*mark));
        let key = (round, said, polkas, state.shown);
        let mut answers = self.answers();
        let ask = || self.oracle.proposable(round, said, polkas, state.shown);
        *answers.proposable.entry(key).or_insert_with(ask)
    }

    fn votes(
        &self,
        who: usize,
        state: &State,
        polkas: &Marks,
        allowed: &[u8],
        steps: &mut Vec<Step>,
    ) {
        let words = state.said[who];
        let round = self.round_of(words);
        for (spot, place) in
            self.oracle.spots.iter().enumerate().filter(|(_, place)| place.round <= round)
        {
            for value in 0..VALUES {
                let prevote = (allowed[place.round] >> value & 1 == 1)
                    .then_some(Word::Prevote((spot, value)));
                let precommit =
                    (polkas[spot] >> value & 1 == 1).then_some(Word::Precommit((spot, value)));
                let due = prevote.into_iter().chain(precommit);
                let due = due.filter(|word| words >> self.oracle.bit(*word) & 1 == 0);
                steps.extend(due.map(|word| Step::Say(who, word)));
            }
        }
    }

    /// The next round after a timer or a coin, a later one after a third: the criminal and someone honest.
    fn round_changes(&self, who: usize, state: &State, polkas: &Marks, steps: &mut Vec<Step>) {
        let words = state.said[who];
        let own = self.round_of(words);
        let known = self.high_of(words, state.shown);
        let farthest = state.said.iter().map(|words| self.round_of(*words)).max().unwrap_or(0);
        let last = farthest.max(own + 1).min(self.changes.len() - 1);
        for round in own + 1..=last {
            let below =
                self.oracle.spots.iter().enumerate().filter(|(_, place)| place.round < round);
            let seen = below.flat_map(|(spot, _)| {
                (0..VALUES)
                    .filter(move |value| polkas[spot] >> value & 1 == 1)
                    .map(move |value| (spot, value))
            });
            let named = seen.map(Some).chain((known == 0).then_some(None));
            let reaches = |high: &Option<Vote>| {
                high.is_none_or(|(spot, _)| self.oracle.spots[spot].round + 1 >= known)
            };
            for high in named.filter(reaches) {
                let word = Word::Change(round, high);
                let ask = || self.oracle.may_change(round, high, state.shown);
                let key = (self.oracle.bit(word), state.shown);
                if *self.answers().changes.entry(key).or_insert_with(ask) {
                    steps.push(Step::Say(who, word));
                }
            }
        }
    }

    /// One state for all that differ in the names of validators and headers.
    fn named_anew(&self, state: State) -> State {
        if !self.is_symmetric {
            return state;
        }
        let State { said: mut own, shown } = state;
        let second = self.first << 1;
        let rest = !(self.first | second);
        let mut other =
            own.map(|words| words & rest | (words & self.first) << 1 | (words & second) >> 1);
        own.sort_unstable();
        other.sort_unstable();
        State { said: own.min(other), shown }
    }

    /// No validator's later round change names a lower polka, and none a lower one than an own precommit before it.
    fn is_high_monotone(&self, state: &State) -> bool {
        let round = |high: Option<Vote>| high.map(|(spot, _)| self.oracle.spots[spot].round);
        state.said.iter().all(|words| {
            let highs = (1..self.changes.len()).filter_map(|to| {
                bits(words & self.changes[to]).find_map(|bit| match self.oracle.words[&bit] {
                    Word::Change(_, high) => Some(round(high)),
                    _ => None,
                })
            });
            highs.is_sorted()
        })
    }

    fn is_anyone_named(&self, state: &State) -> bool {
        state.said.iter().any(|words| {
            let ask = || self.oracle.is_named(*words, state.shown);
            *self.answers().named.entry((*words, state.shown)).or_insert_with(ask)
        })
    }

    /// Every polka of a round above a commit, where polkas count, is for the committed header.
    fn is_locked(&self, state: &State) -> bool {
        let (polkas, commits) = (self.polkas(state), self.commits(state));
        let spots = &self.oracle.spots;
        spots.iter().enumerate().all(|(low, place)| {
            let above = spots.iter().enumerate().filter(|(_, later)| later.round > place.round);
            commits[low] == 0
                || above.into_iter().all(|(high, _)| {
                    !self.counts(high, state.shown) || polkas[high] & !commits[low] == 0
                })
        })
    }

    fn is_committed(&self, state: &State, which: impl Fn(usize, RoundKind) -> bool) -> bool {
        let marks = self.commits(state);
        let mut places = self.oracle.spots.iter().zip(marks);
        places.any(|(place, mark)| mark != 0 && which(place.round, place.kind))
    }
}

/// The lowest bits.
fn low(words: u64) -> u8 {
    words.to_le_bytes()[0]
}

const AGREEMENT: &str = "one header is committed";

impl Model for Reduced {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State { said: [0; HONEST], shown: 0 }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let polkas = self.polkas(state);
        let rounds = 0..self.changes.len();
        let allowed: Vec<u8> =
            rounds.clone().map(|round| self.proposable(round, state, &polkas)).collect();
        for who in 0..HONEST {
            // Who said the same as the one before does what that one does.
            if !self.is_symmetric || who == 0 || state.said[who] != state.said[who - 1] {
                self.votes(who, state, &polkas, &allowed, steps);
                self.round_changes(who, state, &polkas, steps);
            }
        }
        let entered = state.said.iter().map(|words| self.round_of(*words)).max().unwrap_or(0);
        let open =
            self.oracle.spots.iter().filter(|place| place.counts && place.kind == RoundKind::Open);
        let due =
            open.filter(|place| place.round <= entered && state.shown >> place.round & 1 == 0);
        steps.extend(due.map(|place| Step::Show(place.round)));
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut next = last.clone();
        match step {
            Step::Show(round) => next.shown |= 1 << round,
            Step::Say(who, word) => {
                let words = last.said[who];
                let ask = || self.oracle.say(words, word, last.shown);
                let key = (words, self.oracle.bit(word), last.shown);
                next.said[who] = *self.answers().said.entry(key).or_insert_with(ask);
            }
        }
        (next != *last).then(|| self.named_anew(next))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(AGREEMENT, |model: &Self, state| {
                model.commits(state).into_iter().fold(0, |mask, mark| mask | mark) != BOTH
            }),
            Property::always("one polka a place", |model: &Self, state| {
                model.polkas(state).into_iter().all(|mark| mark != BOTH)
            }),
            Property::always("a polka above a commit is for its header", |model: &Self, state| {
                model.is_locked(state)
            }),
            Property::always("no honest validator is named", |model: &Self, state| {
                !model.is_anyone_named(state)
            }),
            Property::always("the highest polka never falls", |model: &Self, state| {
                model.is_high_monotone(state)
            }),
            Property::sometimes("a led round commits", |model: &Self, state| {
                model.is_committed(state, |_, kind| kind == RoundKind::Led)
            }),
            Property::sometimes("an open round commits", |model: &Self, state| {
                model.is_committed(state, |_, kind| kind == RoundKind::Open)
            }),
            Property::sometimes("the last round commits", |model: &Self, state| {
                model.is_committed(state, |round, _| round + 1 == model.changes.len())
            }),
        ]
    }
}

const LED_OPEN_LED: Bounds = Bounds { rounds: 3, starts_open: false, has_void: false, ..OPEN_LED };
const OPEN_LED: Bounds =
    Bounds { rounds: 2, starts_open: true, has_void: true, rules: Rules::ALL, elected: 1 };

/// Rounds that are walked at random; more than four make the run a long one.
fn rounds_walked() -> (usize, bool) {
    let asked = std::env::var("QUIPU_MODEL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    (asked.unwrap_or(4), asked.is_some())
}

/// Explores every state.
fn holds(name: &str, bounds: Bounds) {
    let checker = Reduced::new(bounds).checker().threads(1).spawn_bfs().join();
    let asked = checker.model().answers();
    println!(
        "{name}: {} unique states of {}, {} steps deep at most; safety was asked {} times, certificates {} times",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        asked.said.len(),
        asked.proposable.len() + asked.changes.len(),
    );
    drop(asked);
    assert!(checker.is_done());
    checker.assert_properties();
}

/// Explores until two headers are committed, and prints how.
fn fails(name: &str, bounds: Bounds) {
    let model = Reduced { is_symmetric: false, ..Reduced::new(bounds) };
    let until = HasDiscoveries::AnyOf(BTreeSet::from([AGREEMENT]));
    let checker = model.checker().threads(1).finish_when(until).spawn_bfs().join();
    let steps = checker.assert_any_discovery(AGREEMENT).into_actions();
    let count = checker.unique_state_count();
    println!("{name}: two headers are committed in one of {count} unique states, by");
    for step in &steps {
        println!("  {step:?}");
    }
    println!("  until then broken: {:?}", broken(&checker));
}

/// The properties that do not hold.
fn broken(checker: &impl Checker<Reduced>) -> BTreeSet<&'static str> {
    let found = checker.discoveries().into_keys();
    let is_broken = |name: &&str| {
        let found = checker.discovery_classification(name);
        matches!(found, DiscoveryClassification::Counterexample)
    };
    found.filter(is_broken).collect()
}

/// Takes steps by chance until none is left; how many, and where they led.
fn walk(model: &Reduced, random: &mut fastrand::Rng) -> (usize, State) {
    let [mut state] = <[State; 1]>::try_from(model.init_states()).expect("one beginning");
    let properties = model.properties();
    let always = properties.iter().filter(|own| matches!(own.expectation, Expectation::Always));
    let always: Vec<_> = always.collect();
    let mut said: Vec<Step> = Vec::new();
    let mut steps: Vec<Step> = Vec::new();
    loop {
        let broken = always.iter().find(|own| !(own.condition)(model, &state)).map(|own| own.name);
        assert_eq!(broken, None, "after {said:?}");
        steps.clear();
        model.actions(&state, &mut steps);
        random.shuffle(&mut steps);
        let next = |step: &Step| model.next_state(&state, *step).map(|next| (*step, next));
        let Some((step, next)) = steps.iter().find_map(next) else { return (said.len(), state) };
        said.push(step);
        state = next;
    }
}

#[test]
fn led_open_led_every_state_is_safe() {
    holds("led, open, led", Bounds { has_void: rounds_walked().1, ..LED_OPEN_LED });
}

#[test]
fn open_led_open_every_state_is_safe() {
    holds("open, led, open", Bounds { rounds: 3, has_void: false, ..OPEN_LED });
}

#[test]
fn open_led_with_an_instance_that_is_not_elected_every_state_is_safe() {
    for elected in 0..=HONEST {
        let name = format!("open with a void instance, led; the coin elects {elected}");
        holds(&name, Bounds { elected, ..OPEN_LED });
    }
}

#[test]
fn more_rounds_are_safe_wherever_chance_goes() {
    let (rounds, is_long) = rounds_walked();
    let count = if is_long { 20_000_000 } else { 200_000 };
    for starts_open in [false, true] {
        let model = Reduced::new(Bounds { rounds, starts_open, has_void: false, ..OPEN_LED });
        let mut random = fastrand::Rng::with_seed(7);
        let (mut states, mut walks, mut commits) = (0, 0, 0);
        while states < count {
            let (steps, state) = walk(&model, &mut random);
            states += steps;
            walks += 1;
            commits += usize::from(model.is_committed(&state, |_, _| true));
        }
        println!("{rounds} rounds at random: {states} states in {walks} walks, {commits} commit");
    }
}

#[test]
fn without_rule_a_two_headers_are_committed() {
    let rules = Rules { change_before_vote: false, ..Rules::ALL };
    fails("rule (a) off", Bounds { starts_open: false, has_void: false, rules, ..OPEN_LED });
}

#[test]
fn an_open_round_that_commits_without_its_coin_commits_two_headers() {
    let rules = Rules { coin_commits: false, ..Rules::ALL };
    fails("an open commit without its coin", Bounds { rounds: 1, rules, ..OPEN_LED });
}

#[test]
fn a_round_change_without_the_coins_below_lets_two_headers_be_committed() {
    let rules = Rules { change_with_coins: false, ..Rules::ALL };
    fails("rule (c) off", Bounds { has_void: false, rules, ..OPEN_LED });
}
