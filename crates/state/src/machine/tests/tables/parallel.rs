//! Blocks on several threads: what one thread gives (O1), whatever their transactions read of one another.

use std::num::NonZeroUsize;

use quipu_types::Reads;

use super::model::Model;
use super::property::{Tape, known, model_run};
use super::*;
use crate::machine::TriedCounts;

/// Wide blocks of a tape, executed by one thread and by three; what the three tried, and took.
fn compare(bytes: Vec<u8>) -> TriedCounts {
    let mut tape = Tape::new(bytes);
    let prices = tape.pick(&[PRICES, Prices { transaction: 200, ..PRICES }]);
    let steps_max = tape.pick(&[STEPS_MAX, STEPS_MAX, 300, 600]);
    let open = || {
        let mut machine = Machine::open_priced(MemoryStore::new(), &genesis(false), prices)
            .expect("memory opens");
        machine.rules.steps_max = steps_max;
        machine
    };
    let mut one = open();
    let mut three = threaded(open());
    let mut model = Model::default();
    let mut sequences = BTreeMap::new();
    while !tape.is_empty() {
        model.height = model.height.next();
        let anchor = model.height.get() - 1;
        let space = row_space(&one, one.applied());
        let block = tape.some(24, |tape| {
            let who = tape.pick(&['a', 'b', 'b', 'c', 'd']);
            let actions = known(tape.some(3, |tape| any_action(tape, &model, &space)));
            let sequence: &mut u64 = sequences.entry(who).or_default();
            *sequence += 1;
            tx(&format!("{who}.{sequence}@{anchor}"), None, actions)
        });
        let wanted = apply(&mut one, &block);
        assert_eq!(apply(&mut three, &block), wanted, "{block:?}");
        for (transaction, receipt) in block.iter().zip(&wanted.receipts) {
            let mut of_tables = transaction.clone();
            of_tables.actions.retain(|one| matches!(one, Action::Run(_) | Action::Define(_)));
            if receipt.outcome == Outcome::Applied {
                let (outcome, _) = model_run(&mut model, &of_tables);
                assert!(outcome.is_ok(), "{outcome:?}: {transaction:?}");
            }
        }
        if tape.pick(&[true, false]) {
            three.flush().expect("memory flushes");
        }
    }
    assert_eq!(dump(&three), dump(&one));
    three.tried_counts()
}

/// One that starts its threads for anything.
fn threaded(machine: Machine<MemoryStore>) -> Machine<MemoryStore> {
    machine.with_threads(NonZeroUsize::new(3).expect("not zero"), 0)
}

/// Mostly of tables; else of accounts, streams and consumer groups, and what its signer says to have read before.
fn any_action(tape: &mut Tape, model: &Model, space: &Rows) -> Action {
    match tape.below(16) {
        0 | 1 => transfer(tape.pick(&['a', 'b', 'c', 'd']), tape.pick(&[0, 1, 600, 1_000])),
        2 => append(tape.pick(&["s", "t", "u"]), "x", None),
        3 if tape.below(3) == 0 => create(
            tape.pick(&["s", "t", "u"]),
            None,
            tape.pick(&[Writers::Anyone, Writers::Creator]),
        ),
        4 | 5 => {
            let keys =
                if space.is_empty() { vec![] } else { tape.some(2, |tape| tape.pick(space).0) };
            let ids: Vec<u32> = model.tables.keys().copied().collect();
            let tables =
                if ids.is_empty() || tape.below(2) == 0 { vec![] } else { vec![tape.pick(&ids)] };
            let height = Height::new(model.height.get() - 1);
            Action::Reads(Reads { height, tables, keys })
        }
        6 | 7 => {
            let choices = [tape.below(12), tape.below(4), tape.below(4), tape.below(4)];
            groups::any_action(choices)
        }
        _ => tape.action(model),
    }
}

proptest! {
    #[test]
    fn threads_change_nothing(bytes in vec(any::<u8>(), 0..4_000)) {
        compare(bytes);
    }
}

/// The generator reaches what it is for: tries that hold, and many that do not.
#[test]
fn random_blocks_hold_what_can_be_taken_and_what_can_not() {
    let mut sum = TriedCounts::default();
    for seed in 0..100_u64 {
        let part = |part: u64| sha256_concat(&[&seed.to_le_bytes(), &part.to_le_bytes()]);
        let counts = compare((0..100_u64).flat_map(|number| *part(number).bytes()).collect());
        sum.tried += counts.tried;
        sum.taken += counts.taken;
    }
    assert!(sum.taken > sum.tried / 2, "{sum:?}");
    assert!(sum.tried - sum.taken > sum.tried / 32, "{sum:?}");
}
