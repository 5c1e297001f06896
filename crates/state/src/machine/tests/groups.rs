//! Consumer groups: stories, and a model that is asked after every block whether lanes and cursors stand as they may.

#![expect(clippy::arithmetic_side_effects, reason = "a test may fail loudly")]

use proptest::strategy::ValueTree as _;
use quipu_types::cursor::Certified;
use quipu_types::{GroupAction, GroupOp, Position};

use super::*;
use crate::group::{GroupLane, Lease, Owner, head_key, lane_key, lease_key};

const SESSION: u32 = 1_600;
const LANES: u16 = 4;

fn group(name: &str, op: GroupOp) -> Action {
    Action::Group(Box::new(GroupAction { group: name.into(), op }))
}

fn create_group(consumers: Writers, starts: &[(u16, u64)]) -> Action {
    let starts = starts.iter().map(|(lane, seqno)| (Lane::new(*lane), cursor(*seqno, 0))).collect();
    group("g", GroupOp::Create { consumers, starts })
}

fn cursor(seqno: u64, height: u64) -> Certified {
    let root = if seqno == 0 { Hash::ZERO } else { sha256(&seqno.to_le_bytes()) };
    Certified { seqno: Seqno::new(seqno), height: Height::new(height), root }
}

fn join(member: &str) -> Action {
    group("g", GroupOp::Join { member: member.into(), session_us: SESSION })
}

fn beat(member: &str, joined: Position) -> Action {
    group("g", GroupOp::Beat { member: member.into(), joined })
}

fn leave(member: &str, joined: Position) -> Action {
    group("g", GroupOp::Leave { member: member.into(), joined })
}

fn commit(member: &str, lane: u16, generation: u64, from: u64, to: Certified) -> Action {
    let (member, lane, from) = (member.into(), Lane::new(lane), Seqno::new(from));
    group("g", GroupOp::Commit { member, lane, generation, from, to })
}

fn seek(lane: u16, to: Certified) -> Action {
    group("g", GroupOp::Seek { lane: Lane::new(lane), to })
}

/// Where the `index`-th transaction of a height stands in these tests.
fn place(height: u64, index: u64) -> Position {
    Position { lane: Lane::new(1), seqno: Seqno::new(height * 100 + index) }
}

/// An action of any kind of one of two groups, right now and then: for who compares machines.
pub(super) fn any_action([op, a, b, c]: [usize; 4]) -> Action {
    let small = |number: usize| u64::try_from(number).expect("small");
    let name = if a == 3 { "h" } else { "g" };
    let member = if b % 2 == 0 { "m" } else { "n" }.to_owned();
    let lane = Lane::new(u16::try_from(c).expect("small"));
    let joined = place(small(a), small(b));
    let to = cursor(small(a), small(b));
    let op = match op {
        0 | 1 => GroupOp::Create { consumers: Writers::Anyone, starts: vec![(lane, to)] },
        2 if c == 0 => GroupOp::Delete,
        2..=5 => GroupOp::Join { member, session_us: 3 },
        6 => GroupOp::Leave { member, joined },
        7 => GroupOp::Beat { member, joined },
        8 => GroupOp::Seek { lane, to },
        _ => GroupOp::Commit { member, lane, generation: small(b) + 1, from: Seqno::new(0), to },
    };
    group(name, op)
}

/// As [`apply`], at a time.
fn apply_at(
    machine: &mut Machine<MemoryStore>,
    time: u64,
    transactions: &[(Position, Transaction)],
) -> Vec<Outcome> {
    let height = machine.applied().next();
    let ordered: Vec<Ordered<'_>> = transactions
        .iter()
        .map(|(position, transaction)| Ordered {
            lane: position.lane,
            seqno: position.seqno,
            tx: sha256(&transaction.to_bytes()),
            transaction,
        })
        .collect();
    let block = OrderedBlock {
        epoch: 0,
        height,
        header_hash: header_hash(height.get()),
        time_us: Time::new(time),
        transactions: &ordered,
        present: Voters::default(),
    };
    let applied = machine.apply(&block).expect("the store is healthy");
    applied.receipts.iter().map(|receipt| receipt.outcome).collect()
}

/// Tells blocks of transactions, each at a time, and how the group stands after each.
fn tell(blocks: &[(u64, Vec<Transaction>)], wanted: &Expect) -> Machine<MemoryStore> {
    let mut machine = open(MemoryStore::new());
    let mut text = String::new();
    for (time, block) in blocks {
        let height = machine.applied().next().get();
        let block: Vec<_> = (0..)
            .zip(block)
            .map(|(index, transaction)| {
                let anchor = header_hash(height - 1);
                (place(height, index), Transaction { anchor, ..transaction.clone() })
            })
            .collect();
        for outcome in apply_at(&mut machine, *time, &block) {
            let outcome = match outcome {
                Outcome::Applied => "applied".to_owned(),
                Outcome::Refused { code, .. } => format!("{code} {}", code.explanation().title),
            };
            writeln!(text, "{time}: {outcome}").expect("a string takes it");
        }
        let Some(group) = machine.group("g").expect("healthy") else { continue };
        let lanes = group.lanes.iter().map(|lane| {
            let owner = lane.owner.as_ref();
            let owner =
                owner.map_or("-".into(), |one| format!("{}/{}", one.member, one.generation));
            format!("{owner}@{}", lane.cursor.seqno)
        });
        writeln!(text, "  {}", lanes.collect::<Vec<_>>().join(" ")).expect("a string takes it");
    }
    wanted.assert_eq(&text);
    machine
}

#[test]
fn lanes_are_shared_out_move_with_their_members_and_cursors_go_on() {
    let to = |seqno| cursor(seqno, 0);
    tell(
        &[
            (1, vec![tx("a.1", None, vec![create_group(Writers::Anyone, &[(3, 50)])])]),
            (1, vec![tx("a.2", None, vec![join("m")])]),
            (
                2,
                vec![tx(
                    "a.3",
                    None,
                    vec![commit("m", 0, 1, 0, to(7)), commit("m", 3, 1, 50, to(51))],
                )],
            ),
            (3, vec![tx("b.1", None, vec![join("n")])]),
            // Lanes 2 and 3 went to n: what m still says of them is refused, with all that stands beside it.
            (
                4,
                vec![
                    tx("a.4", None, vec![commit("m", 1, 1, 0, to(5)), commit("m", 2, 1, 0, to(5))]),
                    tx("a.5", None, vec![commit("m", 1, 1, 0, to(5))]),
                    tx("a.6", None, vec![commit("m", 1, 1, 0, to(6))]),
                    tx(
                        "b.2",
                        None,
                        vec![commit("n", 3, 2, 51, to(60)), commit("n", 3, 2, 60, to(61))],
                    ),
                    tx("a.7", None, vec![commit("n", 3, 2, 61, to(62))]),
                ],
            ),
            // m is silent for its session; n's beat is what finds that out.
            (1_000, vec![tx("b.3", None, vec![beat("n", place(4, 0))])]),
            (1_605, vec![tx("b.4", None, vec![beat("n", place(4, 0))])]),
            (1_606, vec![tx("a.8", None, vec![commit("m", 0, 1, 7, to(8))])]),
            (1_607, vec![tx("b.5", None, vec![leave("n", place(4, 0))])]),
        ],
        &expect![[r#"
            1: applied
              -@0 -@0 -@0 -@50
            1: applied
              m/1@0 m/1@0 m/1@0 m/1@50
            2: applied
              m/1@7 m/1@0 m/1@0 m/1@51
            3: applied
              m/1@7 m/1@0 n/2@0 n/2@51
            4: QP0239 lane was given to another
            4: applied
            4: QP0240 cursor stands elsewhere
            4: applied
            4: QP0238 not a member of the group
              m/1@7 m/1@5 n/2@0 n/2@61
            1000: applied
              m/1@7 m/1@5 n/2@0 n/2@61
            1605: applied
              n/3@7 n/3@5 n/2@0 n/2@61
            1606: QP0238 not a member of the group
              n/3@7 n/3@5 n/2@0 n/2@61
            1607: applied
              -@7 -@5 -@0 -@61
        "#]],
    );
}

#[test]
fn a_later_process_of_a_name_takes_the_place_of_the_earlier_one() {
    tell(
        &[
            (1, vec![tx("a.1", None, vec![create_group(Writers::Anyone, &[]), join("m")])]),
            (2, vec![tx("a.2", None, vec![join("m")]), tx("b.1", None, vec![join("m")])]),
            (
                3,
                vec![
                    tx("a.3", None, vec![commit("m", 0, 1, 0, cursor(5, 0))]),
                    tx("a.4", None, vec![beat("m", place(1, 0))]),
                    tx("a.5", None, vec![leave("m", place(1, 0))]),
                    tx("a.6", None, vec![commit("m", 0, 2, 0, cursor(5, 0))]),
                    tx("a.7", None, vec![beat("m", place(2, 0))]),
                    tx("a.8", None, vec![leave("m", place(2, 0))]),
                ],
            ),
        ],
        &expect![[r#"
            1: applied
              m/1@0 m/1@0 m/1@0 m/1@0
            2: applied
            2: QP0244 member's name is taken
              m/2@0 m/2@0 m/2@0 m/2@0
            3: QP0239 lane was given to another
            3: QP0238 not a member of the group
            3: QP0238 not a member of the group
            3: applied
            3: applied
            3: applied
              -@5 -@0 -@0 -@0
        "#]],
    );
}

#[test]
fn a_generation_is_not_given_again_when_a_group_is_created_again() {
    let machine = tell(
        &[
            (
                1,
                vec![tx(
                    "a.1",
                    None,
                    vec![create_group(Writers::Creator, &[(1, 5)]), join("m"), join("m")],
                )],
            ),
            (
                2,
                vec![
                    tx("a.2", None, vec![group("g", GroupOp::Delete)]),
                    tx("a.3", None, vec![seek(0, cursor(1, 0))]),
                    tx(
                        "a.4",
                        None,
                        vec![leave("m", place(1, 0)), seek(0, cursor(3, 1)), seek(0, cursor(1, 0))],
                    ),
                    tx("a.5", None, vec![leave("m", place(1, 0))]),
                    tx("b.1", None, vec![seek(0, cursor(1, 0))]),
                    tx("b.2", None, vec![group("g", GroupOp::Delete)]),
                    tx("a.6", None, vec![create_group(Writers::Creator, &[])]),
                    tx("a.7", None, vec![group("g", GroupOp::Delete)]),
                    tx("a.8", None, vec![join("m")]),
                ],
            ),
            (3, vec![tx("a.9", None, vec![create_group(Writers::Creator, &[]), join("m")])]),
            (4, vec![tx("a.10", None, vec![commit("m", 0, 1, 0, cursor(5, 0))])]),
        ],
        &expect![[r#"
            1: applied
              m/2@0 m/2@5 m/2@0 m/2@0
            2: QP0241 group has members
            2: QP0241 group has members
            2: applied
            2: QP0238 not a member of the group
            2: QP0243 signer may not do this to the group
            2: QP0243 signer may not do this to the group
            2: QP0237 group exists already
            2: applied
            2: QP0236 no such group
            3: applied
              m/4@0 m/4@0 m/4@0 m/4@0
            4: QP0239 lane was given to another
              m/4@0 m/4@0 m/4@0 m/4@0
        "#]],
    );
    assert_eq!(machine.groups("", 9).expect("healthy").len(), 1);
}

#[test]
fn who_may_join_is_said_at_creation_and_a_group_has_its_bounds() {
    let accounts = Writers::Accounts(vec![account('b')]);
    let many = |from: u16, to: u16| (from..to).map(|number| join(&number.to_string())).collect();
    tell(
        &[
            (
                1,
                vec![
                    tx("a.1", None, vec![join("m")]),
                    tx("a.2", None, vec![create_group(Writers::Creator, &[(4, 1)])]),
                    tx("a.3", None, vec![group("quipu_g", GroupOp::Delete)]),
                    tx(
                        "a.4",
                        None,
                        vec![group(
                            "quipu_g",
                            GroupOp::Create { consumers: Writers::Creator, starts: vec![] },
                        )],
                    ),
                    tx("a.5", None, vec![create_group(accounts, &[])]),
                    tx("b.1", None, vec![create_group(Writers::Creator, &[])]),
                    tx("c.1", None, vec![join("m")]),
                    tx("b.2", None, vec![join("m")]),
                    tx("b.3", None, vec![leave("m", place(1, 7))]),
                    tx("a.6", None, many(0, 200)),
                    tx("a.7", None, many(200, 256)),
                    tx("a.8", None, many(256, 257)),
                    tx("a.9", None, many(255, 256)),
                ],
            ),
            (2, vec![tx("a.10", None, vec![commit("0", 0, 206, 0, cursor(1, 2))])]),
            (
                3,
                vec![
                    tx("a.11", None, vec![commit("0", 0, 3, 0, cursor(1, 2))]),
                    tx("a.12", None, vec![commit("0", 4, 1, 0, cursor(1, 2))]),
                    tx("a.13", None, vec![commit("0", 2, 1, 0, cursor(1, 3))]),
                ],
            ),
        ],
        &expect![[r#"
            1: QP0236 no such group
            1: QP0703 no such position
            1: QP0236 no such group
            1: QP0208 name is reserved
            1: applied
            1: QP0237 group exists already
            1: QP0243 signer may not do this to the group
            1: applied
            1: applied
            1: applied
            1: applied
            1: QP0242 group has too many members
            1: applied
              0/3@0 3/6@0 1/4@0 2/5@0
            2: QP0703 no such position
              0/3@0 3/6@0 1/4@0 2/5@0
            3: applied
            3: QP0703 no such position
            3: QP0703 no such position
              0/3@1 3/6@0 1/4@0 2/5@0
        "#]],
    );
}

#[test]
fn a_commit_and_what_was_made_of_the_events_are_done_together_or_not_at_all() {
    let mut machine = open(MemoryStore::new());
    let made =
        vec![create("s", None, Writers::Creator), create_group(Writers::Creator, &[]), join("m")];
    apply(&mut machine, &[tx("a.1", None, made)]);
    let work = |from| vec![append("s", "AA", None), commit("m", 2, 1, from, cursor(9, 1))];
    let block = [tx("a.2", None, work(0)), tx("a.3", None, work(0)), tx("a.4", None, work(8))];
    let receipts = apply(&mut machine, &block).receipts;
    let outcomes: Vec<String> = receipts.iter().map(outcome_text).collect();
    let moved = "QP0240 cursor stands elsewhere (action 1)";
    assert_eq!(outcomes, ["applied", moved, moved]);
    assert_eq!(machine.event_count("s").expect("healthy"), 1);
    let root = machine.state_root();
    let owner = Some(Owner { member: "m".into(), generation: 1 });
    let lane = GroupLane { owner, cursor: cursor(9, 1) };
    let lease = lease_key("g", "m");
    let keys = [head_key("g"), lease, lane_key("g", Lane::new(2)), lane_key("g", Lane::new(9))];
    for key in keys {
        let (value, proof) = machine.prove(Table::Group, &key).expect("healthy");
        let hash = value.as_deref().map(sha256);
        assert!(verify_trie(&root, &trie_key(Table::Group, &key), hash.as_ref(), &proof));
        if key == lane_key("g", Lane::new(2)) {
            assert_eq!(value, Some(lane.to_bytes()));
        }
    }
}

#[test]
fn groups_are_listed_in_pages_and_what_is_done_to_them_is_metered() {
    let mut machine = open(MemoryStore::new());
    let names = ["a", "a_", "ab", "b", "b0"];
    let creates = names.map(|name| {
        let starts = vec![(Lane::new(0), cursor(1, 0))];
        group(name, GroupOp::Create { consumers: Writers::Creator, starts })
    });
    let joins = names.map(|name| group(name, GroupOp::Join { member: "m".into(), session_us: 9 }));
    let actions = creates.into_iter().chain(joins).collect();
    apply(&mut machine, &[tx("a.1", None, actions)]);
    for limit in 0..7 {
        let (mut found, mut after) = (vec![], String::new());
        loop {
            let page = machine.groups(&after, limit).expect("healthy");
            assert!(page.len() <= limit);
            let Some((last, head)) = page.last() else { break };
            assert_eq!((head.member_count, head.creator), (1, account('a')));
            after.clone_from(last);
            found.extend(page.into_iter().map(|(name, _)| name));
        }
        assert_eq!(found, if limit == 0 { vec![] } else { names.to_vec() });
    }
    let many = vec![group("a", GroupOp::Join { member: "m".into(), session_us: 9 }); 2_000];
    machine.rules.steps_max = 100_000;
    let receipt = apply(&mut machine, &[tx("a.2", None, many)]).receipts[0];
    assert!(outcome_text(&receipt).starts_with("QP0223"), "{}", outcome_text(&receipt));
}

#[test]
fn an_action_of_a_group_costs_as_an_event_of_its_size() {
    let prices = Prices { append: 50, append_byte: 2, ..PRICES };
    let action = commit("m", 1, 1, 0, cursor(5, 0));
    let Action::Group(inner) = &action else { unreachable!("it is") };
    let size = u64::try_from(inner.to_bytes().len()).expect("small");
    let fee = prices.fee(&tx("a.1", None, vec![action.clone(), action]));
    assert_eq!(fee, 2 * (50 + 2 * size));
}

/// What is tried in a block.
#[derive(Clone, Debug)]
struct Try {
    after_us: u64,
    who: char,
    member: &'static str,
    lane: u16,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Create,
    Delete,
    Join,
    Leave { is_wrong: bool },
    Beat { is_wrong: bool },
    Commit { by: u64, generation_back: u64, from_back: u64, height: u64 },
    Seek { seqno: u64 },
}

fn tries() -> impl Strategy<Value = Vec<Try>> {
    let wrong = || prop::sample::select(vec![false, false, false, true]);
    let what = prop_oneof![
        1 => Just(What::Create),
        1 => Just(What::Delete),
        6 => Just(What::Join),
        3 => wrong().prop_map(|is_wrong| What::Leave { is_wrong }),
        5 => wrong().prop_map(|is_wrong| What::Beat { is_wrong }),
        16 => (0..4_u64, 0..8_u64, 0..8_u64, 0..16_u64).prop_map(|(by, generation, from, height)| {
            let back = |number: u64| number.saturating_sub(5);
            let (generation_back, from_back) = (back(generation), back(from));
            What::Commit { by, generation_back, from_back, height: height.saturating_sub(13) }
        }),
        2 => (0..9_u64).prop_map(|seqno| What::Seek { seqno }),
    ];
    let after_us = prop_oneof![8 => 0..40_u64, 3 => 40..200_u64, 1 => 200..2_000_u64];
    let who = prop::sample::select(vec!['a', 'a', 'a', 'a', 'b', 'c']);
    let member = prop::sample::select(vec!["j", "k", "l", "m", "n", "o"]);
    let one = (after_us, who, member, 0..=LANES, what)
        .prop_map(|(after_us, who, member, lane, what)| Try { after_us, who, member, lane, what });
    let first = Try { after_us: 0, who: 'a', member: "m", lane: 0, what: What::Create };
    vec(one, 1..120).prop_map(move |mut tries| {
        tries.insert(0, first.clone());
        tries
    })
}

/// A group as a few maps; who gets which lane is taken from the machine, when it was seen to be fair.
#[derive(Clone, Debug, Default)]
struct Model {
    exists: bool,
    creator: AccountId,
    time: u64,
    generation: u64,
    members: BTreeMap<String, Lease>,
    lanes: Vec<GroupLane>,
    /// Who was ever given a lane in a generation: the Join of one process.
    given: BTreeMap<(u16, u64), Position>,
    /// Where the newest accepted commit, or whoever set the cursor, ended.
    ends: BTreeMap<u16, Certified>,
    /// How often each outcome was seen.
    seen: BTreeMap<String, usize>,
}

type Check = std::result::Result<(), TestCaseError>;

impl Model {
    /// What is tried, and who signs it: for what only a member may do, mostly who may.
    fn action(&self, one: &Try) -> (char, Action) {
        let action = self.unsigned(one);
        let member = match &action {
            Action::Group(action) => match &action.op {
                GroupOp::Leave { member, .. }
                | GroupOp::Beat { member, .. }
                | GroupOp::Commit { member, .. } => self.members.get(member),
                _ => None,
            },
            _ => None,
        };
        let who = match member {
            Some(lease) if one.who != 'c' => char::from(lease.account.0[0]),
            _ => one.who,
        };
        (who, action)
    }

    fn unsigned(&self, one: &Try) -> Action {
        let lane = self.lanes.get(usize::from(one.lane)).cloned().unwrap_or_default();
        let lease = self.members.get(one.member);
        let joined = |is_wrong: bool| match lease {
            Some(lease) if !is_wrong => lease.joined,
            _ => place(0, 7),
        };
        match one.what {
            What::Create => create_group(Writers::Accounts(vec![account('b')]), &[(2, 3)]),
            What::Delete => group("g", GroupOp::Delete),
            What::Join => join(one.member),
            What::Leave { is_wrong } => leave(one.member, joined(is_wrong)),
            What::Beat { is_wrong } => beat(one.member, joined(is_wrong)),
            What::Commit { by, generation_back, from_back, height } => {
                // Half of them by whoever holds the lane.
                let owner = lane.owner.clone();
                let member = match &owner {
                    Some(owner) if by % 2 == 0 => owner.member.as_str(),
                    _ => one.member,
                };
                let generation = owner.as_ref().map_or(self.generation, |owner| owner.generation);
                let from = lane.cursor.seqno.get().saturating_sub(from_back);
                let to = cursor(from + by, height);
                commit(member, one.lane, generation.saturating_sub(generation_back), from, to)
            }
            What::Seek { seqno } => seek(one.lane, cursor(seqno, 0)),
        }
    }

    /// What has to become of an action, and who is a member then.
    fn outcome(
        &self,
        who: char,
        height: Height,
        position: Position,
        op: &GroupOp,
    ) -> std::result::Result<BTreeMap<String, Lease>, Code> {
        if matches!(op, GroupOp::Create { .. }) {
            return if self.exists { Err(code::GROUP_EXISTS) } else { Ok(BTreeMap::new()) };
        }
        if !self.exists {
            return Err(code::NO_GROUP);
        }
        let signer = account(who);
        let mut members = self.members.clone();
        members.retain(|_, lease| lease.end.get() >= self.time);
        let is_there = |lane: &Lane, to: &Certified| lane.get() < LANES && to.height < height;
        let own = |members: &BTreeMap<String, Lease>, name: &str| {
            members
                .get(name)
                .copied()
                .filter(|lease| lease.account == signer)
                .ok_or(code::NOT_A_MEMBER)
        };
        match op {
            GroupOp::Create { .. } => {}
            GroupOp::Delete | GroupOp::Seek { .. } if self.creator != signer => {
                return Err(code::NOT_A_CONSUMER);
            }
            GroupOp::Delete | GroupOp::Seek { .. } if !members.is_empty() => {
                return Err(code::GROUP_BUSY);
            }
            GroupOp::Seek { lane, to } if !is_there(lane, to) => return Err(code::POSITION),
            GroupOp::Delete | GroupOp::Seek { .. } => {}
            GroupOp::Join { member, session_us } => {
                if self.creator != signer && who != 'b' {
                    return Err(code::NOT_A_CONSUMER);
                }
                if members.get(member).is_some_and(|lease| lease.account != signer) {
                    return Err(code::MEMBER_TAKEN);
                }
                let end = Time::new(self.time + u64::from(*session_us));
                let lease =
                    Lease { account: signer, joined: position, session_us: *session_us, end };
                members.insert(member.clone(), lease);
            }
            GroupOp::Leave { member, joined } | GroupOp::Beat { member, joined } => {
                if own(&members, member)?.joined != *joined {
                    return Err(code::NOT_A_MEMBER);
                }
                if matches!(op, GroupOp::Leave { .. }) {
                    members.remove(member);
                }
            }
            GroupOp::Commit { member, lane, generation, from, to } => {
                own(&members, member)?;
                if !is_there(lane, to) {
                    return Err(code::POSITION);
                }
                let now = &self.lanes[usize::from(lane.get())];
                if now.owner != Some(Owner { member: member.clone(), generation: *generation }) {
                    return Err(code::LANE_FENCED);
                }
                if now.cursor.seqno != *from || to.height < now.cursor.height {
                    return Err(code::CURSOR_MOVED);
                }
            }
        }
        Ok(members)
    }

    /// Follows an action that was applied, and judges what the machine made of it.
    fn follow(
        &mut self,
        op: &GroupOp,
        members: BTreeMap<String, Lease>,
        now: Option<&crate::Group>,
    ) -> Check {
        let before = std::mem::take(&mut self.lanes);
        self.exists = now.is_some();
        prop_assert_eq!(now.is_none(), matches!(op, GroupOp::Delete));
        let Some(now) = now else {
            self.members.clear();
            return Ok(());
        };
        if matches!(op, GroupOp::Create { .. }) {
            self.creator = now.head.creator;
        }
        self.follow_leases(op, &members, now)?;
        let before = if before.is_empty() { vec![GroupLane::default(); 4] } else { before };
        self.follow_cursors(op, &before, now)?;
        let rejoined = match op {
            GroupOp::Join { member, .. } => Some(member.as_str()),
            _ => None,
        };
        self.follow_owners(&before, rejoined, now)?;
        self.lanes.clone_from(&now.lanes);
        self.generation = now.head.generation;
        Ok(())
    }

    fn follow_leases(
        &mut self,
        op: &GroupOp,
        wanted: &BTreeMap<String, Lease>,
        now: &crate::Group,
    ) -> Check {
        let found: BTreeMap<String, Lease> = now.members.iter().cloned().collect();
        prop_assert_eq!(found.len(), usize::from(now.head.member_count));
        prop_assert!(found.keys().eq(wanted.keys()));
        for (name, lease) in &found {
            let old = wanted[name];
            prop_assert_eq!((lease.account, lease.joined), (old.account, old.joined));
            prop_assert!(lease.end >= now.head.sweep, "G1");
            let is_renewed = match op {
                GroupOp::Beat { member, .. } | GroupOp::Commit { member, .. } => member == name,
                _ => false,
            };
            let latest = self.time + u64::from(SESSION);
            if is_renewed {
                prop_assert!(lease.end >= old.end && lease.end.get() <= latest);
                prop_assert!(lease.end.get() >= latest - u64::from(SESSION / 16));
            } else {
                prop_assert_eq!(lease.end, old.end);
            }
        }
        self.members = found;
        Ok(())
    }

    /// Nothing is consumed twice or passed over: a commit goes on where the one before it ended.
    fn follow_cursors(&mut self, op: &GroupOp, before: &[GroupLane], now: &crate::Group) -> Check {
        let starts = match op {
            GroupOp::Create { starts, .. } => starts.clone(),
            GroupOp::Seek { lane, to } => vec![(*lane, *to)],
            _ => vec![],
        };
        if matches!(op, GroupOp::Create { .. }) {
            self.ends.clear();
        }
        self.ends.extend(starts.into_iter().map(|(lane, to)| (lane.get(), to)));
        if let GroupOp::Commit { lane, from, to, .. } = op {
            let end = self.ends.insert(lane.get(), *to).unwrap_or_default();
            prop_assert_eq!(end.seqno, *from);
            prop_assert!(to.seqno >= end.seqno && to.height >= end.height);
        }
        prop_assert_eq!(before.len(), now.lanes.len());
        for (lane, now) in (0..).zip(&now.lanes) {
            prop_assert_eq!(now.cursor, self.ends.get(&lane).copied().unwrap_or_default());
        }
        Ok(())
    }

    fn follow_owners(
        &mut self,
        before: &[GroupLane],
        rejoined: Option<&str>,
        now: &crate::Group,
    ) -> Check {
        let owner = |lane: &GroupLane| lane.owner.as_ref().map(|owner| owner.member.clone());
        let mut counts: BTreeMap<&str, usize> =
            self.members.keys().map(|name| (name.as_str(), 0)).collect();
        for (number, lane) in (0_u16..).zip(&now.lanes) {
            prop_assert_eq!(lane.owner.is_some(), !self.members.is_empty(), "M1");
            let Some(Owner { member, generation }) = &lane.owner else { continue };
            *counts.get_mut(member.as_str()).expect("an owner is a member") += 1;
            let joined = self.members[member].joined;
            let first = *self.given.entry((number, *generation)).or_insert(joined);
            prop_assert_eq!(first, joined, "a generation of a lane is given once");
            let old = &before[usize::from(number)];
            if owner(old).as_ref() == Some(member) && rejoined != Some(member) {
                prop_assert_eq!(
                    &old.owner,
                    &lane.owner,
                    "a lane that is kept is kept in its generation"
                );
            } else {
                prop_assert_eq!(*generation, now.head.generation);
                prop_assert!(*generation > self.generation);
            }
        }
        let (least, most) = (counts.values().min(), counts.values().max());
        prop_assert!(most.copied().unwrap_or(0) <= least.copied().unwrap_or(0) + 1, "M2");
        let kept = before
            .iter()
            .zip(&now.lanes)
            .filter(|(old, new)| new.owner.is_some() && owner(old) == owner(new));
        let held: Vec<usize> = self
            .members
            .keys()
            .map(|name| before.iter().filter(|lane| owner(lane).as_ref() == Some(name)).count())
            .collect();
        prop_assert_eq!(kept.count(), most_kept(&held, before.len()), "M2");
        Ok(())
    }
}

/// Of every way to choose who holds one lane more than others, the most lanes that could stay where they are.
fn most_kept(held: &[usize], lane_count: usize) -> usize {
    if held.is_empty() {
        return 0;
    }
    let (least, more) = (lane_count / held.len(), lane_count % held.len());
    let choices = (0..1_usize << held.len())
        .filter(|choice| choice.count_ones() == u32::try_from(more).expect("small"));
    let kept = choices.map(|choice| {
        let kept = held
            .iter()
            .enumerate()
            .map(|(member, held)| (*held).min(least + (choice >> member & 1)));
        kept.sum::<usize>()
    });
    kept.max().expect("there is a choice")
}

/// Each try in a block of its own, judged by the model; and all of them in few blocks, to the same outcomes.
fn run(tries: &[Try]) -> std::result::Result<BTreeMap<String, usize>, TestCaseError> {
    let mut machine = open(MemoryStore::new());
    let mut model = Model { time: 1_000, ..Model::default() };
    let mut sequences: BTreeMap<char, u64> = BTreeMap::new();
    for (number, one) in (1..).zip(tries) {
        model.time += one.after_us;
        let (who, action) = model.action(one);
        let Action::Group(action) = &action else { unreachable!("all are") };
        let sequence = sequences.entry(who).or_default();
        *sequence += 1;
        let position = place(1, number);
        let anchor = machine.applied().get();
        let signed = format!("{who}.{sequence}@{anchor}");
        let transaction = tx(&signed, None, vec![Action::Group(action.clone())]);
        let before = machine.group("g").expect("healthy");
        let height = machine.applied().next();
        let outcome = apply_at(&mut machine, model.time, &[(position, transaction)])[0];
        let now = machine.group("g").expect("healthy");
        let wanted = model.outcome(who, height, position, &action.op);
        let seen = match (wanted, outcome) {
            (Ok(members), Outcome::Applied) => {
                if members.len() < model.members.len()
                    && !matches!(action.op, GroupOp::Leave { .. })
                {
                    *model.seen.entry("ended".into()).or_default() += 1;
                }
                model.follow(&action.op, members, now.as_ref())?;
                let op = format!("{:?}", action.op);
                op.split_whitespace().next().expect("a name").to_owned()
            }
            (Err(wanted), Outcome::Refused { code, action: Some(0) }) => {
                prop_assert_eq!(wanted, code, "{:?}", action);
                prop_assert_eq!(before, now);
                code.to_string()
            }
            (wanted, outcome) => {
                prop_assert!(false, "{:?}: {:?} {:?}", action, wanted, outcome);
                unreachable!()
            }
        };
        *model.seen.entry(seen).or_default() += 1;
        if number % 7 == 0 {
            machine.flush().expect("memory flushes");
        }
    }
    Ok(model.seen)
}

proptest! {
    #[test]
    fn lanes_have_one_owner_and_cursors_go_on_whatever_members_do(tries in tries()) {
        run(&tries)?;
    }

    #[test]
    fn what_stands_in_one_block_is_done_as_in_many(tries in tries(), sizes in vec(1..9_usize, 120)) {
        let (mut many, mut few) = (open(MemoryStore::new()), open(MemoryStore::new()));
        let mut rest: Vec<_> = (1..).zip(&tries).collect();
        let mut sequences: BTreeMap<char, u64> = BTreeMap::new();
        let (mut time, mut sizes) = (1_000, sizes.into_iter());
        while !rest.is_empty() {
            let left = rest.split_off(sizes.next().unwrap_or(1).min(rest.len()));
            time += rest[0].1.after_us;
            let mut block = vec![];
            for (number, one) in std::mem::replace(&mut rest, left) {
                let group = many.group("g").expect("healthy");
                let model = group.map_or_else(Model::default, |group| Model {
                    exists: true,
                    generation: group.head.generation,
                    members: group.members.into_iter().collect(),
                    lanes: group.lanes,
                    ..Model::default()
                });
                let (who, mut action) = model.action(one);
                if let Action::Group(action) = &mut action
                    && let GroupOp::Commit { to, .. } = &mut action.op
                {
                    to.height = Height::new(0);
                }
                let sequence = sequences.entry(who).or_default();
                *sequence += 1;
                // The genesis is an anchor for a few heights only.
                let at = |machine: &Machine<MemoryStore>| format!("{who}.{sequence}@{}", machine.applied());
                let alone = (place(1, number), tx(&at(&many), None, vec![action.clone()]));
                let outcome = apply_at(&mut many, time, &[alone])[0];
                block.push((outcome, place(1, number), tx(&at(&few), None, vec![action])));
            }
            let wanted: Vec<Outcome> = block.iter().map(|(outcome, ..)| *outcome).collect();
            let block: Vec<_> = block.into_iter().map(|(_, place, transaction)| (place, transaction)).collect();
            prop_assert_eq!(apply_at(&mut few, time, &block), wanted);
            prop_assert_eq!(few.group("g").expect("healthy"), many.group("g").expect("healthy"));
        }
    }

    #[test]
    fn shares_are_even_and_as_much_as_can_be_is_kept(
        (lane_count, member_count) in (1..=64_usize, 1..=9_usize),
        owners in vec(prop::option::of(0..9_usize), 64),
    ) {
        let held: Vec<Option<usize>> =
            owners[..lane_count].iter().map(|owner| owner.filter(|owner| *owner < member_count)).collect();
        let given = crate::execute::group::assign(&held, member_count);
        let count = |owners: &[Option<usize>], member| owners.iter().filter(|one| **one == Some(member)).count();
        let counts: Vec<usize> = (0..member_count).map(|member| count(&given, member)).collect();
        prop_assert_eq!(counts.iter().sum::<usize>(), lane_count);
        prop_assert!(counts.iter().max() <= counts.iter().min().map(|least| least + 1).as_ref());
        let kept = held.iter().zip(&given).filter(|(old, new)| old == new).count();
        let before: Vec<usize> = (0..member_count).map(|member| count(&held, member)).collect();
        prop_assert_eq!(kept, most_kept(&before, lane_count));
        prop_assert_eq!(crate::execute::group::assign(&given, member_count), given);
    }
}

/// The tries reach every outcome.
#[test]
fn members_come_and_go_and_every_refusal_is_met() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..150 {
        let tries = tries().new_tree(&mut runner).expect("a sample").current();
        for (what, count) in run(&tries).expect("the model agrees") {
            *seen.entry(what).or_default() += count;
        }
    }
    let refusals = [
        code::NO_GROUP,
        code::GROUP_EXISTS,
        code::NOT_A_MEMBER,
        code::LANE_FENCED,
        code::CURSOR_MOVED,
        code::GROUP_BUSY,
        code::NOT_A_CONSUMER,
        code::MEMBER_TAKEN,
        code::POSITION,
    ];
    let wanted = refusals.iter().map(ToString::to_string);
    let applied = ["Create", "Delete", "Join", "Leave", "Beat", "Commit", "Seek", "ended"];
    for what in wanted.chain(applied.map(str::to_owned)) {
        assert!(seen.get(&what).is_some_and(|count| *count >= 20), "{what}: {seen:?}");
    }
}
