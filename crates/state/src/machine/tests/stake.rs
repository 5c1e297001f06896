//! Stake: stories, and a model that is asked after every block what became of it, who has which units, and who validates.

#![expect(clippy::arithmetic_side_effects, reason = "a test may fail loudly")]

use quipu_consensus::Evidence;
use quipu_crypto::suite::{SecretKey, sign_tagged};
use quipu_crypto::{Tag, suite};
use quipu_types::genesis::{GenesisValidator, StakeRules};
use quipu_types::stake::possession_body;
use quipu_types::{Prevote, RoundKind, StakeAction, Validator, ValidatorIndex};

use super::*;
use crate::stake::{
    HEAD_KEY, epoch_key, lock_key, misdeed_key, next_coin, slot_key, validator_key,
};
use crate::{Misdeed, ValidatorRecord};

mod absence;
mod coining;
mod false_state;
mod model;

const START: u64 = 1_000_000;
const STALE_HEIGHTS: u32 = 4;
const RULES: StakeRules = StakeRules {
    epoch_us: 1_000,
    unbond_us: 3_000,
    bond_min: 10,
    slash_permille: 100,
    deal_us: 0,
    stale_heights: STALE_HEIGHTS,
};

fn voting(number: usize) -> SecretKey {
    let mut seed = [b'v'; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    SecretKey::from_seed(Suite::Ed25519Sha256, seed)
}

fn key(number: usize) -> PublicKey {
    voting(number).public()
}

/// Validators 0 and 1 of `a` and `b` with 30 and 20 units, 2 of nobody with 10; four accounts with 100 each.
fn stake_genesis() -> Genesis {
    let validator = |number: usize, power, owner: Option<char>| GenesisValidator {
        name: format!("v{number}"),
        key: key(number),
        power,
        possession: Signature([0; 64]),
        owner: owner.map(account),
    };
    let validators =
        vec![validator(0, 30, Some('a')), validator(1, 20, Some('b')), validator(2, 10, None)];
    let balance = |name| GenesisAccount { account: account(name), balance: 100 };
    let accounts = ['a', 'b', 'c', 'd'].map(balance).to_vec();
    // Every block's anchor is the chain id.
    let anchor_window_heights = 1_000_000;
    Genesis { validators, accounts, anchor_window_heights, stake: Some(RULES), ..genesis(false) }
}

fn stake(action: StakeAction) -> Action {
    Action::Stake(Box::new(action))
}

fn register(number: usize, owner: char) -> Action {
    let body = possession_body(&key(number), &account(owner));
    let chain = names::chain_id(&stake_genesis());
    let possession = sign_tagged(&voting(number), &chain, 0, Tag::Possession, &body);
    let (name, address) = (format!("v{number}"), format!("v{number}.example:1"));
    stake(StakeAction::Register { key: key(number), possession, name, address })
}

fn bond(number: usize, amount: u64) -> Action {
    stake(StakeAction::Bond { key: key(number), amount })
}

fn unbond(number: usize, amount: u64) -> Action {
    stake(StakeAction::Unbond { key: key(number), amount })
}

fn withdraw(number: usize) -> Action {
    stake(StakeAction::Withdraw { key: key(number) })
}

fn relocate(number: usize, address: &str) -> Action {
    stake(StakeAction::Move { key: key(number), address: address.into() })
}

/// Two prevotes of one height by the validator of an index, signed by a key in an epoch.
fn prevotes(signer: usize, index: u16, epoch: u64, height: u64) -> Evidence {
    prevotes_on(&names::chain_id(&stake_genesis()), signer, index, epoch, height)
}

/// The same in another ledger.
fn prevotes_on(chain: &Hash, signer: usize, index: u16, epoch: u64, height: u64) -> Evidence {
    let vote = |digest: u8| {
        let mut vote = Prevote {
            height: Height::new(height),
            round: 0,
            kind: RoundKind::Led,
            instance: ValidatorIndex::new(0),
            digest: Hash([digest; 32]),
            proposal: Hash([0; 32]),
            validator: ValidatorIndex::new(index),
            signature: Signature([0; 64]),
        };
        let body = vote.signed_body();
        vote.signature = sign_tagged(&voting(signer), chain, epoch, Tag::Prevote, &body);
        vote
    };
    Evidence::Prevotes(Box::new([vote(1), vote(2)]))
}

fn evidence(epoch: u64, evidence: &Evidence) -> Action {
    stake(StakeAction::Evidence { epoch, bytes: evidence.to_bytes() })
}

fn double(number: u16, epoch: u64, height: u64) -> Action {
    evidence(epoch, &prevotes(number.into(), number, epoch, height))
}

/// A machine that is told blocks.
struct Tale {
    machine: Machine<MemoryStore>,
    genesis: Genesis,
    time: u64,
    epoch: u64,
    /// Whose votes the next blocks' headers carry.
    present: Voters,
    sequences: BTreeMap<PublicKey, u64>,
}

impl Tale {
    fn new(genesis: Genesis) -> Self {
        let machine = Machine::open(MemoryStore::new(), &genesis).expect("memory opens");
        let present = Voters::default();
        Self { machine, genesis, time: START, epoch: 0, present, sequences: BTreeMap::new() }
    }

    fn sign(&mut self, signer: PublicKey, actions: Vec<Action>) -> Transaction {
        let sequence = self.sequences.entry(signer).or_default();
        *sequence += 1;
        Transaction {
            signer,
            incarnation: 0,
            sequence: *sequence,
            anchor: self.machine.chain(),
            route: None,
            actions,
            signature: Signature([0; 64]),
        }
    }

    /// A block after so many microseconds, of the next epoch if that is wanted.
    fn block(&mut self, after: u64, enters: bool, transactions: &[Transaction]) -> Applied {
        (self.time, self.epoch) = (self.time + after, self.epoch + u64::from(enters));
        self.try_block(self.epoch, transactions, Machine::apply).expect("it follows")
    }

    fn try_block<T>(
        &mut self,
        epoch: u64,
        transactions: &[Transaction],
        act: impl FnOnce(&mut Machine<MemoryStore>, &OrderedBlock<'_>) -> T,
    ) -> T {
        let (height, time) = (self.machine.applied().next(), Time::new(self.time));
        let (machine, present) = (&mut self.machine, self.present);
        with_block(height, sha256(&height.to_bytes()), transactions, |block| {
            act(machine, &OrderedBlock { epoch, present, time_us: time, ..*block })
        })
    }

    /// One transaction of a name in a block of its own; what became of it.
    fn one(&mut self, after: u64, enters: bool, who: char, actions: Vec<Action>) -> String {
        let transaction = self.sign(signer(who), actions);
        outcome_text(&self.block(after, enters, &[transaction]).receipts[0])
    }

    fn restart(&mut self) {
        self.machine.flush().expect("memory flushes");
        let store = self.machine.store().clone();
        self.machine = Machine::open(store, &self.genesis).expect("it opens again");
    }

    fn show(&self, text: &mut String) {
        let powers = |set: &ValidatorSet| format!("epoch {} {:?}", set.epoch, set.powers());
        let next = self.machine.next_set();
        let next = next.map_or(String::new(), |set| format!(", next {}", powers(&set)));
        writeln!(text, "  {}{next}", powers(&self.machine.current_set())).expect("a string");
        for (voting, one) in self.machine.validators().expect("healthy") {
            let ValidatorRecord { index, name, bond, locked, is_deposed, .. } = &one;
            let locks = self.machine.locks(&voting).expect("healthy");
            let locks: Vec<(u64, u64)> =
                locks.iter().map(|(due, units)| (due.get() - START, *units)).collect();
            assert_eq!(locks.iter().map(|(_, units)| units).sum::<u64>(), *locked, "K2");
            let deposed = if *is_deposed { ", deposed" } else { "" };
            writeln!(text, "  {index} {name}: bond {bond}, locked {locks:?}{deposed}")
                .expect("a string");
        }
    }
}

/// What each of `who after[+] actions` gives, and how stake stands after all; `+` enters the next epoch.
fn tell(tale: &mut Tale, steps: Vec<(char, u64, bool, Vec<Action>)>, wanted: &Expect) {
    let mut text = String::new();
    for (who, after, enters, actions) in steps {
        let outcome = tale.one(after, enters, who, actions);
        writeln!(text, "{}: {outcome}", tale.time - START).expect("a string");
    }
    tale.show(&mut text);
    wanted.assert_eq(&text);
}

fn balance(tale: &Tale, name: char) -> u64 {
    tale.machine.balance(&account(name)).expect("healthy")
}

#[test]
fn a_validator_comes_gets_power_in_the_next_epoch_and_goes_with_what_it_had() {
    let mut tale = Tale::new(stake_genesis());
    tell(
        &mut tale,
        vec![
            ('c', 1, false, vec![register(3, 'c'), bond(3, 40)]),
            ('c', 1, false, vec![relocate(3, "elsewhere:7")]),
            ('c', 997, false, vec![bond(3, 61)]),
        ],
        &expect![[r#"
            1: applied
            2: applied
            999: QP0202 account has too few units (action 0)
              epoch 0 [30, 20, 10]
              0 v0: bond 30, locked []
              1 v1: bond 20, locked []
              2 v2: bond 10, locked []
              3 v3: bond 40, locked []
        "#]],
    );
    assert_eq!(balance(&tale, 'c'), 60);
    tell(
        &mut tale,
        vec![('c', 1, false, vec![bond(3, 10)])],
        &expect![[r#"
        1000: applied
          epoch 0 [30, 20, 10], next epoch 1 [30, 20, 10, 50]
          0 v0: bond 30, locked []
          1 v1: bond 20, locked []
          2 v2: bond 10, locked []
          3 v3: bond 50, locked []
    "#]],
    );
    let next = tale.machine.next_set();
    tell(
        &mut tale,
        vec![('c', 1, false, vec![unbond(3, 45)])],
        &expect![[r#"
        1001: applied
          epoch 0 [30, 20, 10], next epoch 1 [30, 20, 10, 50]
          0 v0: bond 30, locked []
          1 v1: bond 20, locked []
          2 v2: bond 10, locked []
          3 v3: bond 5, locked [(4001, 45)]
    "#]],
    );
    assert_eq!(tale.machine.next_set(), next, "a pending set stays as it is");
}

#[test]
fn what_is_due_is_withdrawn_once_no_set_judges_by_it() {
    let mut tale = Tale::new(stake_genesis());
    let come = vec![register(3, 'c'), bond(3, 50)];
    assert_eq!(tale.one(1_000, false, 'c', come), "applied");
    assert_eq!(tale.one(1, false, 'c', vec![unbond(3, 45)]), "applied");
    tell(
        &mut tale,
        vec![('d', 1, true, vec![transfer('a', 1)])],
        &expect![[r#"
        1002: applied
          epoch 1 [30, 20, 10, 50]
          0 v0: bond 30, locked []
          1 v1: bond 20, locked []
          2 v2: bond 10, locked []
          3 v3: bond 5, locked [(4001, 45)]
    "#]],
    );
    tell(
        &mut tale,
        vec![('d', 1_000, false, vec![transfer('a', 1)])],
        &expect![[r#"
        2002: applied
          epoch 1 [30, 20, 10, 50], next epoch 2 [30, 20, 10, 0]
          0 v0: bond 30, locked []
          1 v1: bond 20, locked []
          2 v2: bond 10, locked []
          3 v3: bond 5, locked [(4001, 45)]
    "#]],
    );
    tell(
        &mut tale,
        vec![
            ('d', 100, true, vec![transfer('a', 1)]),
            ('c', 1_897, false, vec![withdraw(3)]),
            // Due by the time, but the set of epoch 1 still judges, and there it had 50.
            ('c', 1, false, vec![withdraw(3)]),
            ('c', 1_102, false, vec![withdraw(3)]),
            ('c', 1, false, vec![withdraw(3)]),
            ('c', 1, false, vec![withdraw(3)]),
        ],
        &expect![[r#"
            2102: applied
            3999: QP0256 nothing can be withdrawn yet (action 0)
            4000: QP0256 nothing can be withdrawn yet (action 0)
            5102: QP0256 nothing can be withdrawn yet (action 0)
            5103: applied
            5104: QP0256 nothing can be withdrawn yet (action 0)
              epoch 2 [30, 20, 10, 0]
              0 v0: bond 30, locked []
              1 v1: bond 20, locked []
              2 v2: bond 10, locked []
              3 v3: bond 5, locked []
        "#]],
    );
    assert_eq!(balance(&tale, 'c'), 95);
}

#[test]
fn a_key_has_one_role_and_an_owner_alone_moves_stake() {
    let mut tale = Tale::new(stake_genesis());
    let StakeAction::Register { possession, name, address, .. } = (match register(3, 'c') {
        Action::Stake(action) => *action,
        _ => unreachable!("it is"),
    }) else {
        unreachable!("it is")
    };
    let stolen = stake(StakeAction::Register { key: key(3), possession, name, address });
    tell(
        &mut tale,
        vec![
            ('d', 1, false, vec![stolen.clone()]),
            ('c', 1, false, vec![stolen.clone()]),
            ('c', 1, false, vec![stolen]),
            ('c', 1, false, vec![register(0, 'c')]),
            ('c', 1, false, vec![bond(4, 10)]),
            ('d', 1, false, vec![bond(3, 10)]),
            ('d', 1, false, vec![unbond(0, 10)]),
            ('a', 1, false, vec![bond(2, 10)]),
            ('d', 1, false, vec![relocate(3, "d:1")]),
            ('d', 1, false, vec![withdraw(0)]),
            ('a', 1, false, vec![withdraw(0)]),
            ('a', 1, false, vec![unbond(0, 31)]),
            ('c', 1, false, vec![bond(3, 101)]),
            (
                'd',
                1,
                false,
                vec![Action::Transfer { to: suite::account(&key(5)), amount: 1 }, register(5, 'd')],
            ),
        ],
        &expect![[r#"
            1: QP0248 voting key did not sign for this owner (action 0)
            2: applied
            3: QP0247 voting key is registered already (action 0)
            4: QP0247 voting key is registered already (action 0)
            5: QP0252 no such validator (action 0)
            6: QP0253 signer does not own the validator (action 0)
            7: QP0253 signer does not own the validator (action 0)
            8: QP0253 signer does not own the validator (action 0)
            9: QP0253 signer does not own the validator (action 0)
            10: QP0253 signer does not own the validator (action 0)
            11: QP0256 nothing can be withdrawn yet (action 0)
            12: QP0254 bond has too few units (action 0)
            13: QP0202 account has too few units (action 0)
            14: QP0249 voting key has another role (action 1)
              epoch 0 [30, 20, 10]
              0 v0: bond 30, locked []
              1 v1: bond 20, locked []
              2 v2: bond 10, locked []
              3 v3: bond 0, locked []
        "#]],
    );
}

#[test]
fn a_voting_key_signs_nothing_and_what_has_signed_is_no_voting_key() {
    let mut tale = Tale::new(stake_genesis());
    assert_eq!(tale.one(1, false, 'c', vec![register(3, 'c')]), "applied");
    let signs = |tale: &mut Tale, number: usize, actions| {
        let transaction = tale.sign(key(number), actions);
        outcome_text(&tale.block(1, false, &[transaction]).receipts[0])
    };
    let voting = "QP0250 signer is a validator's voting key";
    assert_eq!(signs(&mut tale, 0, vec![transfer('a', 0)]), voting);
    assert_eq!(signs(&mut tale, 3, vec![transfer('a', 0)]), voting);
    assert_eq!(signs(&mut tale, 6, vec![transfer('a', 0)]), "applied");
    let roles = "QP0249 voting key has another role (action 0)";
    assert_eq!(tale.one(1, false, 'c', vec![register(6, 'c')]), roles);
    // An owner: its key has signed too, so another key of its account would be needed to see the rule alone.
    let own = stake_register_by(7, suite::account(&key(8)));
    assert_eq!(signs(&mut tale, 8, vec![own]), "applied");
    assert_eq!(tale.one(1, false, 'c', vec![register(8, 'c')]), roles);
    // In one block: registered, then it signs.
    let block =
        [tale.sign(signer('d'), vec![register(9, 'd')]), tale.sign(key(9), vec![transfer('a', 0)])];
    let receipts = tale.block(1, false, &block).receipts;
    let outcomes: Vec<String> = receipts.iter().map(outcome_text).collect();
    assert_eq!(outcomes, ["applied", voting]);
    let block = [
        tale.sign(key(10), vec![transfer('a', 0)]),
        tale.sign(signer('d'), vec![register(10, 'd')]),
    ];
    let receipts = tale.block(1, false, &block).receipts;
    let outcomes: Vec<String> = receipts.iter().map(outcome_text).collect();
    assert_eq!(outcomes, ["applied", roles]);
}

fn stake_register_by(number: usize, owner: AccountId) -> Action {
    register_on(&names::chain_id(&stake_genesis()), number, owner)
}

fn register_on(chain: &Hash, number: usize, owner: AccountId) -> Action {
    let body = possession_body(&key(number), &owner);
    let possession = sign_tagged(&voting(number), chain, 0, Tag::Possession, &body);
    let (name, address) = ("v".to_owned(), "v:1".to_owned());
    stake(StakeAction::Register { key: key(number), possession, name, address })
}

#[test]
fn evidence_bites_once_a_place_and_deposes_for_good() {
    let mut tale = Tale::new(stake_genesis());
    let same = Evidence::Prevotes({
        let Evidence::Prevotes(pair) = prevotes(0, 0, 0, 5) else { unreachable!("it is") };
        let [vote, _] = *pair;
        Box::new([vote.clone(), vote])
    });
    tell(
        &mut tale,
        vec![
            ('a', 1, false, vec![unbond(0, 15)]),
            ('d', 1, false, vec![evidence(0, &same)]),
            ('d', 1, false, vec![evidence(0, &prevotes(0, 1, 0, 5))]),
            ('d', 1, false, vec![evidence(0, &prevotes(0, 0, 1, 5))]),
            ('d', 1, false, vec![evidence(1, &prevotes(0, 0, 1, 5))]),
            ('d', 1, false, vec![evidence(0, &prevotes(0, 99, 0, 5))]),
            ('d', 1, false, vec![stake(StakeAction::Evidence { epoch: 0, bytes: vec![2; 40] })]),
            ('d', 1, false, vec![double(0, 0, 5)]),
            ('c', 1, false, vec![double(0, 0, 5)]),
            ('c', 1, false, vec![double(0, 0, 6)]),
            ('a', 1, false, vec![bond(0, 10)]),
            ('a', 1, false, vec![unbond(0, 2)]),
            // Nobody owns it, and it answers all the same.
            ('c', 1_000, false, vec![double(2, 0, 5)]),
            ('c', 1, true, vec![register(0, 'c')]),
            // Of an epoch that ended.
            ('c', 3_000, false, vec![double(1, 0, 7)]),
            ('c', 1, false, vec![double(1, 0, 8)]),
        ],
        &expect![[r#"
            1: applied
            2: QP0260 evidence names nobody (action 0)
            3: QP0260 evidence names nobody (action 0)
            4: QP0260 evidence names nobody (action 0)
            5: QP0260 evidence names nobody (action 0)
            6: QP0260 evidence names nobody (action 0)
            7: QP0257 bytes are no evidence (action 0)
            8: applied
            9: QP0259 evidence is known already (action 0)
            10: applied
            11: QP0261 validator is deposed (action 0)
            12: applied
            1012: applied
            1013: QP0247 voting key is registered already (action 0)
            4013: applied
            4014: QP0258 evidence is too old (action 0)
              epoch 1 [0, 20, 0]
              0 v0: bond 9, locked [(3001, 11), (3012, 2)], deposed
              1 v1: bond 18, locked [], deposed
              2 v2: bond 9, locked [], deposed
        "#]],
    );
    let head = tale.machine.stake_head();
    assert_eq!(head.slashed, 2 + 2 + 2 + 2 + 1 + 2);
    let misdeeds = tale.machine.misdeeds(&[], 10).expect("healthy");
    let kinds: Vec<(PublicKey, u64, &str, u64)> = misdeeds
        .iter()
        .map(|(_, one)| (one.key, one.epoch, one.misdeed.place.as_str(), one.misdeed.slashed))
        .collect();
    let wanted = [
        (key(0), 0, "height 5, round 0", 4),
        (key(0), 0, "height 6, round 0", 4),
        (key(1), 0, "height 7, round 0", 2),
        (key(2), 0, "height 5, round 0", 1),
    ];
    for one in wanted {
        assert!(kinds.contains(&one), "{one:?}: {kinds:?}");
    }
    assert_eq!(kinds.len(), 4);
}

#[test]
fn somebody_always_has_power() {
    let mut genesis = stake_genesis();
    genesis.validators.truncate(2);
    let mut tale = Tale::new(genesis);
    tell(
        &mut tale,
        vec![
            ('a', 1, false, vec![unbond(0, 21)]),
            ('b', 1, false, vec![unbond(1, 11)]),
            ('b', 1, false, vec![unbond(1, 10)]),
        ],
        &expect![[r#"
            1: applied
            2: QP0255 nobody would be left with power (action 0)
            3: applied
              epoch 0 [30, 20]
              0 v0: bond 9, locked [(3001, 21)]
              1 v1: bond 10, locked [(3003, 10)]
        "#]],
    );
    // Evidence may leave nobody: then those of the epoch go on, until somebody bonds.
    let chain = tale.machine.chain();
    tell(
        &mut tale,
        vec![
            ('d', 1, false, vec![evidence(0, &prevotes_on(&chain, 1, 1, 0, 3))]),
            ('d', 5_000, false, vec![transfer('a', 1)]),
            ('a', 1, false, vec![bond(0, 21)]),
        ],
        &expect![[r#"
            4: applied
            5004: applied
            5005: applied
              epoch 0 [30, 20], next epoch 1 [30, 0]
              0 v0: bond 30, locked [(3001, 21)]
              1 v1: bond 9, locked [(3003, 9)], deposed
        "#]],
    );
}

#[test]
fn a_slot_goes_to_another_only_when_all_are_taken_and_nothing_is_in_it() {
    let mut tale = Tale::new(stake_genesis());
    let owner = suite::account(&key(1_000));
    let many: Vec<Action> = (3..128).map(|number| stake_register_by(number, owner)).collect();
    let transaction = tale.sign(key(1_000), many);
    assert_eq!(outcome_text(&tale.block(1, false, &[transaction]).receipts[0]), "applied");
    let first = |tale: &Tale, number: usize| {
        tale.machine.validator(&key(number)).expect("healthy").map(|one| one.index.get())
    };
    assert_eq!(first(&tale, 127), Some(127));
    // Without a bond a slot is not kept; the first such one is given.
    assert_eq!(tale.one(1, false, 'c', vec![register(200, 'c'), bond(200, 1)]), "applied");
    assert_eq!((first(&tale, 3), first(&tale, 200)), (None, Some(3)));
    assert_eq!(tale.one(1, false, 'c', vec![register(201, 'c')]), "applied");
    assert_eq!((first(&tale, 4), first(&tale, 201)), (None, Some(4)));
    // Who was turned out may sign, and come again, into the first free slot: here its own.
    let transaction = tale.sign(key(3), vec![transfer('a', 0)]);
    assert_eq!(outcome_text(&tale.block(1, false, &[transaction]).receipts[0]), "applied");
    assert_eq!(tale.one(1, false, 'd', vec![register(4, 'd')]), "applied");
    assert_eq!((first(&tale, 201), first(&tale, 4)), (None, Some(4)));
    // Locked units and power in a set keep a slot: unbonded whole, it stays until it has withdrawn.
    assert_eq!(tale.one(1, false, 'b', vec![unbond(1, 20)]), "applied");
    assert_eq!(tale.one(1, false, 'd', vec![register(202, 'd')]), "applied");
    assert_eq!((first(&tale, 1), first(&tale, 202)), (Some(1), Some(4)));
    assert_eq!(tale.machine.validators().expect("healthy").len(), 128);
    tale.block(1_000, false, &[]);
    tale.block(1, true, &[]);
    let set = tale.machine.current_set();
    assert_eq!(
        (set.validators[4], set.validators.len()),
        (Validator { key: key(202), power: 0, is_stale: false }, 128)
    );
    // All 128 with something in them: no slot.
    let bonds: Vec<Action> =
        (5..128).map(|number| stake(StakeAction::Bond { key: key(number), amount: 1 })).collect();
    assert_eq!(
        tale.one(1, false, 'd', vec![bond(202, 1), Action::Transfer { to: owner, amount: 99 }]),
        "applied"
    );
    assert_eq!(
        tale.one(1, false, 'c', vec![Action::Transfer { to: owner, amount: 99 }]),
        "applied"
    );
    let transaction = tale.sign(key(1_000), bonds);
    assert_eq!(outcome_text(&tale.block(1, false, &[transaction]).receipts[0]), "applied");
    let none = "QP0251 all validators' slots are taken (action 0)";
    assert_eq!(tale.one(1, false, 'a', vec![register(203, 'a')]), none);
    assert_eq!(tale.one(3_000, false, 'b', vec![withdraw(1)]), "applied");
    assert_eq!(tale.one(1, false, 'a', vec![register(203, 'a')]), "applied");
    assert_eq!((first(&tale, 1), first(&tale, 203)), (None, Some(1)));
}

/// Slashed to nothing, a validator has nothing at stake, and power until its epoch ends.
#[test]
fn a_slot_is_not_given_while_its_key_has_power_and_a_deposed_key_never_comes_back() {
    let mut genesis = stake_genesis();
    genesis.stake = Some(StakeRules { slash_permille: 1_000, ..RULES });
    let mut tale = Tale::new(genesis);
    let (chain, owner) = (tale.machine.chain(), suite::account(&key(1_000)));
    let many: Vec<Action> = (3..128).map(|number| register_on(&chain, number, owner)).collect();
    let transaction = tale.sign(key(1_000), many);
    assert_eq!(outcome_text(&tale.block(1, false, &[transaction]).receipts[0]), "applied");
    let shown = evidence(0, &prevotes_on(&chain, 1, 1, 0, 5));
    assert_eq!(tale.one(1, false, 'd', vec![shown]), "applied");
    let one = tale.machine.validator(&key(1)).expect("healthy").expect("registered");
    assert_eq!((one.bond, one.locked), (0, 0));
    let index = |tale: &Tale, number: usize| {
        tale.machine.validator(&key(number)).expect("healthy").map(|one| one.index.get())
    };
    let come = |number| vec![register_on(&chain, number, account('c')), bond(number, 1)];
    assert_eq!(tale.one(1, false, 'c', come(200)), "applied");
    assert_eq!((index(&tale, 1), index(&tale, 200)), (Some(1), Some(3)));
    tale.block(1_000, false, &[]);
    tale.block(1, true, &[]);
    assert_eq!(tale.one(1, false, 'c', come(201)), "applied");
    assert_eq!((index(&tale, 1), index(&tale, 201)), (None, Some(1)));
    let deposed = "QP0261 validator is deposed (action 0)";
    assert_eq!(tale.one(1, false, 'b', vec![register_on(&chain, 1, account('b'))]), deposed);
    // Its other misdeeds are told all the same, and cost nobody anything.
    let shown = evidence(0, &prevotes_on(&chain, 1, 1, 0, 6));
    assert_eq!(tale.one(1, false, 'd', vec![shown]), "applied");
    let misdeeds = tale.machine.misdeeds(&[], 10).expect("healthy");
    let mut slashed: Vec<u64> = misdeeds.iter().map(|(_, one)| one.misdeed.slashed).collect();
    slashed.sort_unstable();
    assert_eq!(slashed, [0, 20]);
}

#[test]
fn a_block_is_of_this_epoch_or_of_the_next_once_its_set_is_pending() {
    let mut tale = Tale::new(stake_genesis());
    let refused = |tale: &mut Tale, epoch: u64| {
        let root = tale.machine.state_root();
        let error = tale.try_block(epoch, &[], Machine::apply).expect_err("it can not be");
        assert!(matches!(error, StateError::Epoch { given, .. } if given == epoch), "{error}");
        let error = tale.try_block(epoch, &[], Machine::speculate).expect_err("it can not be");
        assert!(matches!(error, StateError::Epoch { .. }), "{error}");
        assert_eq!(tale.machine.state_root(), root);
    };
    refused(&mut tale, 1);
    assert_eq!(tale.one(999, false, 'a', vec![bond(0, 1)]), "applied");
    assert_eq!(tale.machine.next_set(), None, "the epoch is too young");
    refused(&mut tale, 1);
    let applied = tale.block(1, false, &[]);
    let next = applied.next_set.expect("the epoch is old enough");
    assert_eq!(next.powers(), [31, 20, 10]);
    let name = Some(names::set_hash(&next));
    let record = tale.machine.state(tale.machine.applied()).expect("healthy").expect("executed");
    assert_eq!(record.signed().next_set, name);
    refused(&mut tale, 2);
    // It stays for as long as the epoch does, and through a restart.
    assert_eq!(tale.block(1, false, &[]).next_set, Some(Arc::clone(&next)));
    tale.restart();
    assert_eq!(tale.machine.next_set(), Some(Arc::clone(&next)));
    // Tried ahead with either epoch, all else the same: what is committed counts.
    tale.time += 1;
    tale.try_block(0, &[], Machine::speculate).expect("it follows");
    let applied = tale.block(0, true, &[]);
    assert_eq!((applied.next_set, tale.machine.speculation_counts().dropped), (None, 1));
    assert_eq!(tale.machine.current_set(), next);
    refused(&mut tale, 0);
    refused(&mut tale, 2);
    let ended = Some(Time::new(tale.time));
    let epochs = tale.machine.epochs().expect("healthy");
    assert_eq!(
        epochs.iter().map(|one| (one.set.epoch, one.ended)).collect::<Vec<_>>(),
        [(0, ended), (1, None)]
    );
    // Nothing differs, so no epoch follows, however long it takes.
    assert_eq!(tale.block(1_000_000, false, &[]).next_set, None);
    assert_eq!(tale.one(1, false, 'a', vec![unbond(0, 1), bond(0, 1)]), "applied");
    assert_eq!(tale.machine.next_set(), None);
    // Sets by which nothing is judged any more go when an epoch begins.
    assert_eq!(tale.one(1, false, 'a', vec![bond(0, 1)]), "applied");
    tale.block(1, true, &[]);
    let epochs = tale.machine.epochs().expect("healthy");
    assert_eq!(epochs.iter().map(|one| one.set.epoch).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn where_nothing_can_move_the_set_is_the_genesis_and_every_action_says_so() {
    let mut genesis = stake_genesis();
    genesis.stake = None;
    genesis.validators.iter_mut().for_each(|one| one.owner = None);
    let mut tale = Tale::new(genesis.clone());
    let fixed = "QP0246 validators are fixed (action 0)";
    let actions = [
        register(3, 'a'),
        bond(0, 1),
        unbond(0, 1),
        withdraw(0),
        relocate(0, "a:1"),
        double(0, 0, 1),
    ];
    for action in actions {
        assert_eq!(tale.one(10_000, false, 'a', vec![action]), fixed);
    }
    assert_eq!(*tale.machine.current_set(), genesis.validator_set());
    assert_eq!(
        (tale.machine.next_set(), tale.machine.validators().expect("healthy").len()),
        (None, 3)
    );
    let transaction = tale.sign(key(0), vec![transfer('a', 0)]);
    assert_eq!(outcome_text(&tale.block(1, false, &[transaction]).receipts[0]), "applied");
    assert!(tale.try_block(1, &[], Machine::apply).is_err());
}

#[test]
fn a_coin_goes_on_only_with_the_same_keys_and_powers() {
    let current = ValidatorSet {
        coin: Some(quipu_types::CoinKey([7; 96])),
        ..stake_genesis().validator_set()
    };
    let mut validators = current.validators.clone();
    assert_eq!(next_coin(&current, &validators), current.coin);
    validators[1].power += 1;
    assert_eq!(next_coin(&current, &validators), None);
}

#[test]
fn everything_of_stake_is_proven() {
    let mut tale = Tale::new(stake_genesis());
    assert_eq!(tale.one(1, false, 'a', vec![unbond(0, 5), double(1, 0, 4)]), "applied");
    tale.block(1_000, false, &[]);
    let misdeed = misdeed_key(&key(1), 0, "prevotes", "height 4, round 0");
    let due = Time::new(START + 1 + RULES.unbond_us);
    let present = [
        HEAD_KEY.to_vec(),
        epoch_key(0),
        epoch_key(1),
        slot_key(ValidatorIndex::new(1)),
        validator_key(&key(1)),
        lock_key(&key(0), due),
        misdeed.clone(),
    ];
    let absent = [epoch_key(2), validator_key(&key(9)), misdeed_key(&key(1), 0, "acks", "")];
    for (is_there, stored) in
        present.iter().map(|key| (true, key)).chain(absent.iter().map(|key| (false, key)))
    {
        let (value, proof) = tale.machine.prove(Table::Stake, stored).expect("healthy");
        assert_eq!(value.is_some(), is_there);
        let hash = value.as_deref().map(sha256);
        let place = trie_key(Table::Stake, stored);
        assert!(verify_trie(&tale.machine.state_root(), &place, hash.as_ref(), &proof));
    }
    let (value, _) = tale.machine.prove(Table::Stake, &misdeed).expect("healthy");
    let misdeed =
        <Misdeed as quipu_types::Decode>::from_bytes(&value.expect("there")).expect("one");
    assert_eq!((misdeed.by, misdeed.height, misdeed.slashed), (account('a'), Height::new(1), 2));
}
