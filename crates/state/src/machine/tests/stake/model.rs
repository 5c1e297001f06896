//! Random stake: a model beside the machine, and machines beside each other.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use super::*;

const KEY_COUNT: usize = 6;
const OWNERS: [char; 4] = ['a', 'b', 'c', 'd'];

/// What is tried in a block, after a time, of the next epoch if there is one.
#[derive(Clone, Debug)]
struct Step {
    after: u64,
    enters: bool,
    tries: Vec<Try>,
}

#[derive(Clone, Debug)]
struct Try {
    who: char,
    number: usize,
    op: Op,
}

#[derive(Clone, Debug)]
enum Op {
    Register,
    /// With a possession made for somebody else.
    Steal,
    Bond(u64),
    Unbond(u64),
    Withdraw,
    Move,
    /// So many epochs ago, of a height; signed by its key in that epoch, or in another.
    Evidence {
        ago: u64,
        height: u64,
        is_false: bool,
    },
    Garbage(Vec<u8>),
    /// A transaction that the voting key signs.
    Sign,
    /// Units for the voting key's account.
    Endow,
    /// Bond more than there is, behind a transfer: nothing of both is done.
    Torn,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Register),
        1 => Just(Op::Steal),
        6 => (1..40_u64).prop_map(Op::Bond),
        6 => (1..30_u64).prop_map(Op::Unbond),
        6 => Just(Op::Withdraw),
        1 => Just(Op::Move),
        6 => (prop_oneof![3 => Just(0), 2 => 1..5_u64], 1..3_u64, prop::bool::weighted(0.2))
            .prop_map(|(ago, height, is_false)| Op::Evidence { ago, height, is_false }),
        1 => vec(any::<u8>(), 0..200).prop_map(Op::Garbage),
        1 => Just(Op::Sign),
        1 => Just(Op::Endow),
        1 => Just(Op::Torn),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = (prop::sample::select(OWNERS.to_vec()), 0..KEY_COUNT, op(), any::<bool>());
    // Owners do most of what is done to their validators.
    let one = one.prop_map(|(who, number, op, is_owner)| {
        let who = if is_owner { OWNERS[number % 4] } else { who };
        Try { who, number, op }
    });
    let after = prop_oneof![4 => 1..600_u64, 1 => 600..3_500_u64];
    let step = (after, prop::bool::weighted(0.7), vec(one, 0..4));
    vec(step.prop_map(|(after, enters, tries)| Step { after, enters, tries }), 1..60)
}

#[derive(Clone, Debug)]
struct One {
    owner: Option<char>,
    bond: u64,
    locks: Vec<(u64, u64)>,
    is_deposed: bool,
}

impl One {
    fn power(&self) -> u64 {
        if self.is_deposed || self.bond < RULES.bond_min { 0 } else { self.bond }
    }

    fn held(&self) -> u64 {
        self.bond + self.locks.iter().map(|(_, units)| units).sum::<u64>()
    }
}

#[derive(Clone, Debug)]
struct Epoch {
    /// Key and power, by index.
    set: Vec<(usize, u64)>,
    ended: Option<u64>,
}

/// Stake by its rules alone: maps, no bytes, no trie.
#[derive(Clone, Debug)]
struct Model {
    time: u64,
    began: u64,
    balances: BTreeMap<AccountId, u64>,
    /// By index: their key and what they have.
    slots: Vec<(usize, One)>,
    epochs: Vec<Epoch>,
    pending: Option<Vec<(usize, u64)>>,
    signed: BTreeSet<usize>,
    misdeeds: BTreeSet<(usize, u64, u64)>,
    slashed: u64,
}

impl Model {
    fn new() -> Self {
        let one = |owner, bond| One { owner, bond, locks: vec![], is_deposed: false };
        let slots = vec![(0, one(Some('a'), 30)), (1, one(Some('b'), 20)), (2, one(None, 10))];
        let set = slots.iter().map(|(number, one)| (*number, one.bond)).collect();
        Self {
            time: START,
            began: START,
            balances: OWNERS.map(|name| (account(name), 100)).into(),
            slots,
            epochs: vec![Epoch { set, ended: None }],
            pending: None,
            signed: BTreeSet::new(),
            misdeeds: BTreeSet::new(),
            slashed: 0,
        }
    }

    fn enter(&mut self) {
        let set = self.pending.take().expect("it is pending");
        self.epochs.last_mut().expect("one").ended = Some(self.time);
        self.epochs.push(Epoch { set, ended: None });
        self.began = self.time;
    }

    fn end(&mut self) {
        let set: Vec<_> = self.slots.iter().map(|(number, one)| (*number, one.power())).collect();
        let differs = self.epochs.last().expect("one").set != set;
        let has_power = set.iter().any(|(_, power)| *power > 0);
        if self.pending.is_none()
            && self.time >= self.began + RULES.epoch_us
            && differs
            && has_power
        {
            self.pending = Some(set);
        }
    }

    fn judges(&self, epoch: &Epoch) -> bool {
        epoch.ended.is_none_or(|ended| ended + RULES.unbond_us >= self.time)
    }

    fn cover(&self, number: usize) -> u64 {
        let sets = self.epochs.iter().filter(|epoch| self.judges(epoch)).map(|epoch| &epoch.set);
        let powers = sets.chain(self.pending.as_ref()).flatten();
        powers.filter(|(of, _)| *of == number).map(|(_, power)| *power).max().unwrap_or(0)
    }

    fn find(&mut self, number: usize) -> Option<&mut One> {
        self.slots.iter_mut().find(|(of, _)| *of == number).map(|(_, one)| one)
    }

    fn owned(&mut self, number: usize, who: char) -> std::result::Result<&mut One, Code> {
        let one = self.find(number).ok_or(code::NO_VALIDATOR)?;
        if one.owner == Some(who) { Ok(one) } else { Err(code::NOT_THE_OWNER) }
    }

    fn act(&mut self, Try { who, number, op }: &Try) -> std::result::Result<(), Code> {
        let (number, time) = (*number, self.time);
        let balance = self.balances[&account(*who)];
        match op {
            Op::Register | Op::Steal => {
                let endowed = self.balances.get(&suite::account(&key(number)));
                if self.signed.contains(&number) || endowed.is_some_and(|units| *units > 0) {
                    return Err(code::TWO_ROLES);
                }
                if self.find(number).is_some() {
                    return Err(code::VALIDATOR_EXISTS);
                }
                if matches!(op, Op::Steal) {
                    return Err(code::BAD_POSSESSION);
                }
                let one = One { owner: Some(*who), bond: 0, locks: vec![], is_deposed: false };
                self.slots.push((number, one));
            }
            Op::Bond(amount) => {
                let one = self.owned(number, *who)?;
                if one.is_deposed {
                    return Err(code::DEPOSED);
                }
                one.bond += amount;
                let left = balance.checked_sub(*amount).ok_or(code::NO_FUNDS)?;
                self.balances.insert(account(*who), left);
            }
            Op::Unbond(amount) => {
                let one = self.owned(number, *who)?;
                let had_power = one.power() > 0;
                one.bond = one.bond.checked_sub(*amount).ok_or(code::BOND_SMALL)?;
                // What is due at one instant is one lock, and loses its part as one.
                let due = time + RULES.unbond_us;
                match one.locks.last_mut().filter(|(last, _)| *last == due) {
                    Some((_, units)) => *units += amount,
                    None => one.locks.push((due, *amount)),
                }
                if had_power && self.slots.iter().all(|(_, one)| one.power() == 0) {
                    return Err(code::LAST_POWER);
                }
            }
            Op::Withdraw => self.withdraw(number, *who)?,
            Op::Move => drop(self.owned(number, *who)?),
            Op::Evidence { ago, height, is_false } => {
                self.judge(number, *ago, *height, *is_false)?
            }
            Op::Garbage(_) => return Err(code::EVIDENCE_FALSE),
            Op::Sign => {
                self.signed.insert(number);
                if self.find(number).is_some() {
                    return Err(code::VOTING_KEY);
                }
            }
            Op::Endow => {
                let left = balance.checked_sub(1).ok_or(code::NO_FUNDS)?;
                self.balances.insert(account(*who), left);
                *self.balances.entry(suite::account(&key(number))).or_default() += 1;
            }
            Op::Torn => return Err(code::NO_FUNDS),
        }
        Ok(())
    }

    fn withdraw(&mut self, number: usize, who: char) -> std::result::Result<(), Code> {
        let (time, balance) = (self.time, self.balances[&account(who)]);
        let cover = self.cover(number);
        let one = self.owned(number, who)?;
        let due = one.locks.iter().filter(|(due, _)| *due <= time);
        let due: u64 = due.map(|(_, units)| units).sum();
        let amount = due.min(one.held().saturating_sub(cover));
        if amount == 0 {
            return Err(code::NOTHING_DUE);
        }
        let mut left = amount;
        for (_, units) in &mut one.locks {
            let taken = left.min(*units);
            (*units, left) = (*units - taken, left - taken);
        }
        one.locks.retain(|(_, units)| *units > 0);
        self.balances.insert(account(who), balance + amount);
        Ok(())
    }

    fn judge(
        &mut self,
        number: usize,
        ago: u64,
        height: u64,
        is_false: bool,
    ) -> std::result::Result<(), Code> {
        let newest = u64::try_from(self.epochs.len()).expect("small") - 1;
        let epoch = epoch_of(newest, ago);
        let Some(record) = usize::try_from(epoch).ok().and_then(|at| self.epochs.get(at)) else {
            return Err(code::EVIDENCE_NOBODY);
        };
        if !self.judges(record) {
            return Err(code::EVIDENCE_OLD);
        }
        let is_of_set = record.set.iter().any(|(of, _)| *of == number);
        if is_false || !is_of_set {
            return Err(code::EVIDENCE_NOBODY);
        }
        if !self.misdeeds.insert((number, epoch, height)) {
            return Err(code::EVIDENCE_KNOWN);
        }
        let one = self.find(number).expect("few keys keep their slots");
        let before = one.held();
        let lose = |units: u64| units - units.div_ceil(10);
        one.bond = lose(one.bond);
        one.locks.iter_mut().for_each(|(_, units)| *units = lose(*units));
        one.locks.retain(|(_, units)| *units > 0);
        one.is_deposed = true;
        self.slashed += before - self.find(number).expect("the same").held();
        Ok(())
    }
}

/// `ago` 4 is an epoch that has not begun.
fn epoch_of(newest: u64, ago: u64) -> u64 {
    if ago == 4 { newest + 1 } else { newest.saturating_sub(ago) }
}

impl Tale {
    fn transaction(&mut self, one: &Try) -> Transaction {
        let Try { who, number, op } = one;
        let (who, number) = (*who, *number);
        let units = |to, amount| Action::Transfer { to, amount };
        let action = match op {
            Op::Register => register(number, who),
            Op::Steal => {
                let Action::Stake(mut action) = register(number, who) else {
                    unreachable!("it is")
                };
                if let StakeAction::Register { possession, .. } = &mut *action {
                    possession.0[0] ^= 1;
                }
                Action::Stake(action)
            }
            Op::Bond(amount) => bond(number, *amount),
            Op::Unbond(amount) => unbond(number, *amount),
            Op::Withdraw => withdraw(number),
            Op::Move => relocate(number, "z:1"),
            Op::Evidence { ago, height, is_false } => {
                let epoch = epoch_of(self.epoch, *ago);
                let signed = if *is_false { epoch + 7 } else { epoch };
                let set = self.machine.epoch(epoch).expect("healthy");
                let index = set.and_then(|record| record.set.index_of(&key(number)));
                let index = index.map_or(50, ValidatorIndex::get);
                evidence(epoch, &prevotes(number, index, signed, *height))
            }
            Op::Garbage(bytes) => {
                stake(StakeAction::Evidence { epoch: self.epoch, bytes: bytes.clone() })
            }
            Op::Sign => return self.sign(key(number), vec![units(account('a'), 0)]),
            Op::Endow => units(suite::account(&key(number)), 1),
            Op::Torn => {
                let actions = vec![units(account('a'), 0), units(account('b'), u64::MAX)];
                return self.sign(signer(who), actions);
            }
        };
        self.sign(signer(who), vec![action])
    }
}

/// That the machine stands as the model does, and that units are all there (K1).
fn compare(tale: &Tale, model: &Model) -> std::result::Result<(), TestCaseError> {
    let machine = &tale.machine;
    let mut sum = u128::from(model.slashed);
    for (account, balance) in machine.accounts(&AccountId([0; 32]), 100).expect("healthy") {
        prop_assert_eq!(Some(&balance), model.balances.get(&account));
        sum += u128::from(balance);
    }
    let validators = machine.validators().expect("healthy");
    prop_assert_eq!(validators.len(), model.slots.len());
    for ((place, (voting, record)), (number, one)) in (0..).zip(&validators).zip(&model.slots) {
        let locks = machine.locks(voting).expect("healthy");
        let mut wanted: BTreeMap<u64, u64> = BTreeMap::new();
        one.locks.iter().for_each(|(due, units)| *wanted.entry(*due).or_default() += units);
        let locks: Vec<(u64, u64)> = locks.iter().map(|(due, units)| (due.get(), *units)).collect();
        prop_assert_eq!(locks, wanted.into_iter().collect::<Vec<_>>());
        prop_assert_eq!((*voting, record.index.get()), (key(*number), place), "K3");
        prop_assert_eq!((record.bond, record.is_deposed), (one.bond, one.is_deposed));
        prop_assert_eq!(record.bond + record.locked, one.held(), "K2");
        if !one.is_deposed {
            prop_assert!(one.held() >= model.cover(*number), "K5");
        }
        sum += u128::from(one.held());
    }
    prop_assert_eq!(machine.stake_head().slashed, u128::from(model.slashed));
    prop_assert_eq!(sum, 4 * 100 + 60, "K1");
    let set = |set: &ValidatorSet| {
        set.validators.iter().map(|one| (one.key, one.power)).collect::<Vec<_>>()
    };
    let wanted = |set: &Vec<(usize, u64)>| {
        set.iter().map(|(number, power)| (key(*number), *power)).collect::<Vec<_>>()
    };
    prop_assert_eq!(set(&machine.current_set()), wanted(&model.epochs.last().expect("one").set));
    prop_assert_eq!(machine.next_set().as_deref().map(set), model.pending.as_ref().map(wanted));
    Ok(())
}

fn run(
    steps: &[Step],
    seen: &mut BTreeMap<String, usize>,
) -> std::result::Result<(), TestCaseError> {
    let mut tale = Tale::new(stake_genesis());
    let mut model = Model::new();
    for step in steps {
        model.time += step.after;
        let enters = step.enters && model.pending.is_some();
        if enters {
            model.enter();
        }
        tale.epoch += u64::from(enters);
        let block: Vec<Transaction> = step.tries.iter().map(|one| tale.transaction(one)).collect();
        tale.epoch -= u64::from(enters);
        let applied = tale.block(step.after, enters, &block);
        for (one, receipt) in step.tries.iter().zip(&applied.receipts) {
            let mut after = model.clone();
            let wanted = after.act(one);
            model.signed.clone_from(&after.signed);
            let seen_now = match receipt.outcome {
                Outcome::Applied => Ok(()),
                Outcome::Refused { code, .. } => Err(code),
            };
            // Some garbage is evidence of nobody, and bytes of one that is none are not.
            let is_garbage = matches!(one.op, Op::Garbage(_));
            prop_assert!(
                seen_now == wanted || is_garbage && seen_now.is_err(),
                "{:?}: {:?}, not {:?}",
                one,
                seen_now,
                wanted
            );
            if wanted.is_ok() {
                model = after;
            }
            let what = match wanted {
                Ok(()) => format!("{:?}", one.op),
                Err(code) => code.to_string(),
            };
            let what = what.split([' ', '(']).next().expect("a word").to_owned();
            *seen.entry(what).or_default() += 1;
        }
        model.end();
        *seen.entry(if enters { "entered".into() } else { "stayed".into() }).or_default() += 1;
        compare(&tale, &model)?;
        let next = tale.machine.next_set();
        prop_assert_eq!(&applied.next_set, &next);
    }
    Ok(())
}

proptest! {
    #[test]
    fn units_are_all_there_and_sets_follow_from_bonds_whatever_is_tried(steps in steps()) {
        run(&steps, &mut BTreeMap::new())?;
    }

    #[test]
    fn speculation_restarts_and_threads_change_nothing(steps in steps(), fates in vec(0..6_u8, 60)) {
        let mut plain = Tale::new(stake_genesis());
        let mut other = Tale::new(stake_genesis());
        for (step, fate) in steps.iter().zip(fates) {
            // Some are there, some away, anyhow.
            let here = (0..7).filter(|bit| (step.after >> bit) & 1 == 1).map(ValidatorIndex::new);
            (plain.present, other.present) = (Voters::of(here.clone()), Voters::of(here));
            let enters = step.enters && plain.machine.next_set().is_some();
            plain.epoch += u64::from(enters);
            let block: Vec<Transaction> = step.tries.iter().map(|one| plain.transaction(one)).collect();
            plain.epoch -= u64::from(enters);
            let wanted = plain.block(step.after, enters, &block);
            (other.time, other.epoch) = (other.time + step.after, plain.epoch);
            let epoch = other.epoch;
            match fate {
                0 => other.restart(),
                1 => other.try_block(epoch, &block, Machine::speculate).expect("it follows"),
                2 => other.try_block(epoch, &[], Machine::speculate).expect("it follows"),
                3 => {
                    let store = other.machine.into_store();
                    other.machine = Machine::open(store, &other.genesis).expect("it opens");
                    // What was not flushed is executed again: here there is nothing to do it with, so begin anew.
                    if other.machine.applied().next() != plain.machine.applied() {
                        plain.machine.flush().expect("memory flushes");
                        other.machine = Machine::open(plain.machine.store().clone(), &plain.genesis).expect("it opens");
                        other.machine = other.machine.with_threads(NonZeroUsize::new(2).expect("two"), 1);
                        prop_assert_eq!(other.machine.next_set(), plain.machine.next_set());
                        prop_assert_eq!(other.machine.current_set(), plain.machine.current_set());
                        continue;
                    }
                }
                _ => {}
            }
            let applied = other.try_block(epoch, &block, Machine::apply).expect("it follows");
            prop_assert_eq!(applied, wanted);
            prop_assert_eq!(dump(&other.machine), dump(&plain.machine));
            prop_assert_eq!(other.machine.absences(), plain.machine.absences());
        }
    }

    #[test]
    fn no_changed_bytes_of_evidence_make_execution_panic(
        changes in vec((any::<usize>(), any::<u8>()), 1..6),
        (epoch, height) in (0..2_u64, 1..4_u64),
    ) {
        let mut tale = Tale::new(stake_genesis());
        let mut bytes = prevotes(1, 1, 0, height).to_bytes();
        for (place, byte) in changes {
            let place = place % bytes.len();
            bytes[place] = byte;
        }
        let action = stake(StakeAction::Evidence { epoch, bytes });
        tale.one(1, false, 'a', vec![action]);
    }
}

/// The tries reach every outcome.
#[test]
fn every_outcome_of_stake_is_met() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..200 {
        let steps = steps().new_tree(&mut runner).expect("a sample").current();
        run(&steps, &mut seen).expect("the model agrees");
    }
    let refusals = [
        code::VALIDATOR_EXISTS,
        code::BAD_POSSESSION,
        code::TWO_ROLES,
        code::VOTING_KEY,
        code::NO_VALIDATOR,
        code::NOT_THE_OWNER,
        code::BOND_SMALL,
        code::LAST_POWER,
        code::NOTHING_DUE,
        code::EVIDENCE_OLD,
        code::EVIDENCE_KNOWN,
        code::EVIDENCE_NOBODY,
        code::DEPOSED,
        code::NO_FUNDS,
    ];
    let wanted = refusals.iter().map(ToString::to_string);
    let applied =
        ["Register", "Bond", "Unbond", "Withdraw", "Move", "Evidence", "Sign", "Endow", "entered"];
    for what in wanted.chain(applied.map(str::to_owned)) {
        // Validator 2, which nobody can unbond, has to be deposed first.
        let least = if what == code::LAST_POWER.to_string() { 1 } else { 10 };
        assert!(seen.get(&what).is_some_and(|count| *count >= least), "{what}: {seen:?}");
    }
}
