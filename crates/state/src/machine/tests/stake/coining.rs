//! The next epoch's coin: dealt, refused by name, made of what counts, whatever is tried.

use std::collections::BTreeSet;

use quipu_crypto::coin::dealing::{Closed, DecryptionKey, Opened, Plan, enough};
use quipu_crypto::coin::{self, CoinScheme};
use quipu_types::{CoinKey, CoinSetup, Dealing, Grievance};

use super::*;
use crate::dealing::{KeyRecord, Stage, dealing_key, dealing_key_key, making_key, setup_key};

const DEAL_US: u64 = 500;

/// As [`stake_genesis`], with a coin.
fn coin_genesis() -> Genesis {
    let stake = Some(StakeRules { deal_us: DEAL_US, ..RULES });
    let genesis = Genesis { stake, ..stake_genesis() };
    let setup = coin::deal(&genesis.validator_set().powers(), &[7; 32]).0;
    Genesis { coin: Some(setup), ..genesis }
}

fn index(number: usize) -> ValidatorIndex {
    ValidatorIndex::new(u16::try_from(number).expect("few"))
}

fn decryption(number: usize) -> DecryptionKey {
    DecryptionKey::from_seed(&[u8::try_from(number).expect("few") + 1; 32])
}

fn dealing_seed(number: usize) -> [u8; 32] {
    [u8::try_from(number).expect("few") + 100; 32]
}

/// A key for shares of a validator, as its voting key or another's signs it in an epoch.
fn key_action(tale: &Tale, number: usize, secret: &DecryptionKey, signer: usize) -> Action {
    let chain = tale.machine.chain();
    let dealing = secret.public();
    let epoch = tale.machine.stake_head().epoch;
    let body = dealing.to_bytes();
    let signature = sign_tagged(&voting(signer), &chain, epoch, Tag::DealingKey, &body);
    let proof = secret.prove(&chain, &key(number));
    stake(StakeAction::DealingKey { key: key(number), dealing, proof, signature })
}

fn deal_action(tale: &Tale, dealing: Dealing, signer: usize) -> Action {
    let (chain, body) = (tale.machine.chain(), dealing.to_bytes());
    let signature = sign_tagged(&voting(signer), &chain, dealing.epoch, Tag::Deal, &body);
    stake(StakeAction::Deal { dealing, signature })
}

fn deal(tale: &Tale, plan: &Plan, number: usize) -> Action {
    deal_action(tale, plan.deal(index(number), &dealing_seed(number)), number)
}

fn grieve(grievance: Grievance) -> Action {
    stake(StakeAction::Grieve(grievance))
}

/// What a receiver says of a dealing that gives it wrong shares. Its key may be any that was ever registered here.
fn grievance(plan: &Plan, dealing: &Dealing, receiver: usize) -> Grievance {
    let checked = plan.check(dealing).expect("all can check it");
    let said =
        (0..5).find_map(|number| match plan.open(&checked, index(receiver), &decryption(number)) {
            Err(Closed::Wrong(grievance)) => Some(*grievance),
            Err(Closed::Key { .. }) => None,
            other => panic!("{other:?}"),
        });
    said.expect("a key of some validator")
}

/// A ledger whose validators have keys for shares, and whose next set is proposed.
fn proposed() -> (Tale, Plan) {
    let mut tale = Tale::new(coin_genesis());
    let keys = (0..3).map(|number| key_action(&tale, number, &decryption(number), number));
    let keys = keys.collect();
    assert_eq!(tale.one(1, false, 'd', keys), "applied");
    assert_eq!(tale.one(999, false, 'a', vec![bond(0, 5)]), "applied");
    let proposal = tale.machine.proposal().expect("its coin is to be made");
    assert_eq!((proposal.set.powers(), proposal.set.coin), (vec![35, 20, 10], None));
    assert_eq!(tale.machine.next_set(), None);
    (tale, proposal.plan.clone())
}

fn stages(tale: &Tale) -> Vec<Stage> {
    let making = tale.machine.making(1).expect("healthy").expect("it stands");
    making.members.iter().map(|one| one.stage).collect()
}

fn refusals(tale: &mut Tale, tries: Vec<(&str, Action)>, wanted: &Expect) {
    let mut text = String::new();
    for (name, action) in tries {
        let outcome = tale.one(1, false, 'd', vec![action]);
        writeln!(text, "{name}: {outcome}").expect("a string");
    }
    wanted.assert_eq(&text);
}

/// Each validator's side of the coin that was made fits what all know of it.
fn check_coin(tale: &Tale, epoch: u64) {
    let machine = &tale.machine;
    let set = machine.epoch(epoch).expect("healthy").expect("it is known").set;
    let setup = machine.coin_setup(epoch).expect("healthy").expect("it was made");
    assert_eq!(set.coin, Some(setup.key));
    let scheme = CoinScheme::new(&setup, &set.powers()).expect("a setup of the set");
    let plan = machine.plan(epoch).expect("healthy").expect("it stands");
    let making = machine.making(epoch).expect("healthy").expect("it stands");
    let dealings = making.dealers().map(|dealer| machine.dealing(epoch, dealer));
    let dealings: Vec<_> = dealings
        .map(|dealing| plan.check(&dealing.expect("healthy").expect("it stands")).expect("D2"))
        .collect();
    let all: Vec<_> = dealings.iter().collect();
    for number in 0..set.validators.len() {
        let own = decryption(number);
        let opened: Result<Vec<Opened>, Closed> =
            dealings.iter().map(|one| plan.open(one, index(number), &own)).collect();
        let secret = plan.secret(&all, &opened.expect("they fit")).expect("enough");
        assert!(scheme.fits(index(number), &secret), "validator {number}");
    }
}

#[test]
fn a_set_that_differs_gets_the_coin_that_its_validators_deal() {
    let (mut tale, plan) = proposed();
    for number in 0..3 {
        let action = deal(&tale, &plan, number);
        assert_eq!(tale.one(1, false, 'd', vec![action]), "applied");
        tale.restart();
    }
    // All have dealt, at 1,003: grievances are heard for their whole time.
    tale.block(DEAL_US - 1, false, &[]);
    assert_eq!(tale.machine.next_set(), None);
    let next = tale.block(1, false, &[]).next_set.expect("it is pending");
    assert!(next.coin.is_some() && next.coin != coin_genesis().coin.map(|setup| setup.key));
    check_coin(&tale, 1);
    tale.restart();
    assert_eq!(tale.machine.next_set(), Some(next));
    tale.block(1, true, &[]);
    tale.restart();
    check_coin(&tale, 1);
    // What it was made of goes with its epoch.
    assert_eq!(tale.one(1_000, false, 'a', vec![bond(0, 5)]), "applied");
    tale.block(DEAL_US, false, &[]);
    let next = tale.block(DEAL_US, false, &[]).next_set.expect("it is pending");
    assert_eq!((next.epoch, next.coin), (2, None), "nobody has dealt");
    let stored = [making_key(1), dealing_key(1, index(0)), dealing_key(1, index(2)), setup_key(1)];
    for stands in [true, false] {
        for key in &stored {
            let (value, _) = tale.machine.prove(Table::Stake, key).expect("healthy");
            assert_eq!(value.is_some(), stands);
        }
        tale.block(1, stands, &[]);
    }
    assert!(tale.machine.making(2).expect("healthy").is_some());
}

#[test]
fn without_a_key_of_each_with_power_a_set_has_no_coin_and_does_not_wait() {
    let mut tale = Tale::new(coin_genesis());
    let keys = (0..2).map(|number| key_action(&tale, number, &decryption(number), number));
    let keys = keys.collect();
    assert_eq!(tale.one(1, false, 'd', keys), "applied");
    assert_eq!(tale.one(999, false, 'a', vec![bond(0, 5)]), "applied");
    let next = tale.machine.next_set().expect("pending at once");
    assert_eq!((next.epoch, next.coin), (1, None));
    assert_eq!(tale.machine.making(1).expect("healthy"), None);
}

#[test]
fn a_set_without_a_coin_gets_one_as_soon_as_each_with_power_has_a_key() {
    let mut tale = Tale::new(Genesis { coin: None, ..coin_genesis() });
    assert_eq!(tale.one(1_000, false, 'd', vec![]), "applied");
    let keys = |numbers: std::ops::Range<usize>, tale: &Tale| -> Vec<Action> {
        numbers.map(|number| key_action(tale, number, &decryption(number), number)).collect()
    };
    let actions = keys(0..2, &tale);
    assert_eq!(tale.one(1, false, 'd', actions), "applied");
    assert_eq!((tale.machine.next_set(), tale.machine.making(1).expect("healthy")), (None, None));
    let actions = keys(2..3, &tale);
    assert_eq!(tale.one(1, false, 'd', actions), "applied");
    tale.restart();
    // Nobody deals: nothing follows, and nothing is left of it.
    assert!(tale.machine.proposal().is_some());
    let action = deal(&tale, &tale.machine.proposal().expect("proposed").plan.clone(), 2);
    assert_eq!(tale.one(1, false, 'd', vec![action]), "applied");
    tale.block(DEAL_US, false, &[]);
    tale.block(DEAL_US, false, &[]);
    assert_eq!((tale.machine.next_set(), tale.machine.making(1).expect("healthy")), (None, None));
    assert_eq!(tale.machine.epoch(1).expect("healthy"), None);
    let (value, _) = tale.machine.prove(Table::Stake, &dealing_key(1, index(2))).expect("healthy");
    assert_eq!(value, None);
    tale.restart();
    tale.block(10 * DEAL_US, false, &[]);
    assert!(tale.machine.proposal().is_none(), "only what changes makes another try");
    // A bond that comes and goes tries again.
    let there_and_back = vec![bond(0, 1), unbond(0, 1)];
    assert_eq!(tale.one(1, false, 'a', there_and_back), "applied");
    let plan = tale.machine.proposal().expect("proposed").plan.clone();
    for number in 0..3 {
        let action = deal(&tale, &plan, number);
        assert_eq!(tale.one(1, false, 'd', vec![action]), "applied");
    }
    let next = tale.block(DEAL_US, false, &[]).next_set.expect("it is pending");
    assert_eq!(next.powers(), tale.machine.current_set().powers());
    check_coin(&tale, 1);
}

#[test]
fn a_key_for_shares_is_proven_signed_in_its_epoch_and_replaced_once_an_epoch() {
    let mut tale = Tale::new(coin_genesis());
    let (own, other) = (decryption(0), decryption(7));
    let stray = sign_tagged(&voting(0), &tale.machine.chain(), 1, Tag::DealingKey, b"");
    let Action::Stake(right) = key_action(&tale, 0, &own, 0) else { unreachable!("it is") };
    let StakeAction::DealingKey { key: voting, dealing, proof, signature } = *right else {
        unreachable!("it is")
    };
    let with =
        |key, proof, signature| stake(StakeAction::DealingKey { key, dealing, proof, signature });
    let not_its = other.prove(&tale.machine.chain(), &voting);
    let tries = vec![
        ("nobody's", with(key(5), proof, signature)),
        ("another signs", key_action(&tale, 0, &own, 1)),
        ("another time", with(voting, proof, stray)),
        ("another's proof", with(voting, not_its, signature)),
        ("right", with(voting, proof, signature)),
        ("again", with(voting, proof, signature)),
        ("another key", key_action(&tale, 0, &other, 0)),
    ];
    refusals(
        &mut tale,
        tries,
        &expect![[r#"
            nobody's: QP0252 no such validator (action 0)
            another signs: QP0262 key for shares is not the validator's (action 0)
            another time: QP0262 key for shares is not the validator's (action 0)
            another's proof: QP0262 key for shares is not the validator's (action 0)
            right: applied
            again: QP0263 key for shares stands already (action 0)
            another key: QP0263 key for shares stands already (action 0)
        "#]],
    );
    tale.one(1_000, false, 'a', vec![bond(0, 5)]);
    tale.block(1, true, &[]);
    let next = key_action(&tale, 0, &other, 0);
    let old = with(voting, proof, signature);
    refusals(
        &mut tale,
        vec![("in the next epoch", next), ("the old one", old)],
        &expect![[r#"
            in the next epoch: applied
            the old one: QP0263 key for shares stands already (action 0)
        "#]],
    );
    let stands = tale.machine.dealing_key(&voting).expect("healthy");
    assert_eq!(stands, Some(KeyRecord { key: other.public(), epoch: 1 }));
    let (value, _) = tale.machine.prove(Table::Stake, &dealing_key_key(&voting)).expect("healthy");
    assert!(value.is_some());
}

#[test]
fn dealings_that_are_forged_double_wrong_or_late_are_refused_by_name() {
    let (mut tale, plan) = proposed();
    let right = plan.deal(index(0), &dealing_seed(0));
    let mut short = right.clone();
    short.commitments.pop();
    let mut unproven = right.clone();
    unproven.shares[0].0[0] ^= 1;
    let elsewhere = Dealing { epoch: 2, ..right.clone() };
    let nobody = Dealing { dealer: index(9), ..right.clone() };
    let tries = vec![
        ("another signs", deal_action(&tale, right.clone(), 1)),
        ("by nobody", deal_action(&tale, nobody, 0)),
        ("another epoch", deal_action(&tale, elsewhere, 0)),
        ("a commitment short", deal_action(&tale, short, 0)),
        ("unproven", deal_action(&tale, unproven, 0)),
        ("right", deal_action(&tale, right.clone(), 0)),
        ("again", deal_action(&tale, right.clone(), 0)),
        ("another", deal_action(&tale, plan.deal(index(0), &[9; 32]), 0)),
        ("of nothing", grieve(grievance(&plan, &plan.misdeal(index(1), &[1; 32], index(0)), 0))),
    ];
    refusals(
        &mut tale,
        tries,
        &expect![[r#"
            another signs: QP0267 dealing is not its dealer's (action 0)
            by nobody: QP0267 dealing is not its dealer's (action 0)
            another epoch: QP0264 no such dealing (action 0)
            a commitment short: QP0268 dealing does not verify (action 0)
            unproven: QP0268 dealing does not verify (action 0)
            right: applied
            again: QP0266 validator has dealt already (action 0)
            another: QP0266 validator has dealt already (action 0)
            of nothing: QP0264 no such dealing (action 0)
        "#]],
    );
    assert_eq!(stages(&tale), [Stage::Dealt, Stage::Due, Stage::Due]);
    tale.block(DEAL_US, false, &[]);
    let late = deal(&tale, &plan, 1);
    refusals(
        &mut tale,
        vec![("late", late.clone())],
        &expect![[r#"
            late: QP0265 dealings are closed (action 0)
        "#]],
    );
    tale.block(DEAL_US, false, &[]);
    // Of 35 units in 65: more than a third.
    check_coin(&tale, 1);
    refusals(
        &mut tale,
        vec![("too late", late)],
        &expect![[r#"
            too late: QP0264 no such dealing (action 0)
        "#]],
    );
}

#[test]
fn a_wrong_dealer_is_out_by_one_grievance_and_a_false_one_changes_nothing() {
    let (mut tale, plan) = proposed();
    let wrong = plan.misdeal(index(1), &dealing_seed(1), index(0));
    let honest = plan.deal(index(1), &dealing_seed(1));
    let founded = grievance(&plan, &wrong, 0);
    // One seed, one opening: the receiver's own signature, of a dealing that fits.
    let of_honest = Grievance { dealing: plan.digest_of(&honest), ..founded.clone() };
    let elsewhere = Grievance { receiver: index(2), ..founded.clone() };
    let unheard = Grievance { epoch: 4, ..founded.clone() };
    let mut lying = Tale::new(coin_genesis());
    std::mem::swap(&mut lying, &mut tale);
    for action in [deal(&lying, &plan, 0), deal_action(&lying, wrong, 1)] {
        assert_eq!(lying.one(1, false, 'd', vec![action]), "applied");
    }
    refusals(
        &mut lying,
        vec![
            ("another's dealing", grieve(of_honest.clone())),
            ("another's word", grieve(elsewhere)),
            ("another epoch", grieve(unheard)),
            ("founded", grieve(founded.clone())),
            ("again", grieve(founded.clone())),
        ],
        &expect![[r#"
            another's dealing: QP0269 grievance is false (action 0)
            another's word: QP0269 grievance is false (action 0)
            another epoch: QP0264 no such dealing (action 0)
            founded: applied
            again: QP0264 no such dealing (action 0)
        "#]],
    );
    assert_eq!(stages(&lying), [Stage::Dealt, Stage::Out, Stage::Due]);
    lying.block(DEAL_US, false, &[]);
    lying.restart();
    lying.block(DEAL_US, false, &[]);
    check_coin(&lying, 1);
    let making = lying.machine.making(1).expect("healthy").expect("it stands");
    assert_eq!(making.dealers().collect::<Vec<_>>(), [index(0)]);

    let (mut tale, plan) = proposed();
    let action = deal_action(&tale, honest, 1);
    assert_eq!(tale.one(1, false, 'd', vec![action]), "applied");
    let action = deal(&tale, &plan, 2);
    assert_eq!(tale.one(1, false, 'd', vec![action]), "applied");
    refusals(
        &mut tale,
        vec![("it fits", grieve(of_honest))],
        &expect![[r#"
            it fits: QP0269 grievance is false (action 0)
        "#]],
    );
    assert_eq!(stages(&tale), [Stage::Due, Stage::Dealt, Stage::Dealt]);
}

#[test]
fn dealers_of_a_third_or_less_make_no_coin() {
    let (mut tale, plan) = proposed();
    let action = deal(&tale, &plan, 1);
    assert_eq!(tale.one(1, false, 'd', vec![action]), "applied");
    tale.block(DEAL_US, false, &[]);
    let next = tale.block(DEAL_US, false, &[]).next_set.expect("it is pending");
    assert_eq!((next.powers(), next.coin), (vec![35, 20, 10], None));
    assert_eq!(tale.machine.coin_setup(1).expect("healthy"), None);
    let record = tale.machine.epoch(1).expect("healthy").expect("it is pending");
    assert_eq!(record.set, *next);
}

#[test]
fn bonds_that_change_while_a_coin_is_made_wait_for_the_next_set() {
    let (mut tale, _) = proposed();
    assert_eq!(tale.one(1, false, 'b', vec![bond(1, 7)]), "applied");
    tale.block(DEAL_US, false, &[]);
    let next = tale.block(DEAL_US, false, &[]).next_set.expect("it is pending");
    assert_eq!(next.powers(), [35, 20, 10]);
    tale.block(1, true, &[]);
    tale.block(1_000, false, &[]);
    assert_eq!(tale.machine.proposal().expect("proposed").set.powers(), [35, 27, 10]);
}

#[derive(Clone, Debug)]
enum Op {
    Key {
        number: usize,
        signer: usize,
        secret: usize,
    },
    Deal {
        number: usize,
        signer: usize,
        is_wrong: bool,
    },
    /// As it is drawn.
    Junk {
        dealer: usize,
        commitments: usize,
        shares: usize,
    },
    Grieve {
        dealer: usize,
        receiver: usize,
        is_honest: bool,
        junk: bool,
    },
    Bond(usize, u64),
}

fn op() -> impl Strategy<Value = Op> {
    let who = || prop_oneof![8 => 0..3_usize, 1 => 3..5_usize];
    let signs = |of: usize| prop_oneof![8 => Just(of), 1 => 0..4_usize];
    let keyed = move |number| {
        (signs(number), signs(number)).prop_map(move |(signer, secret)| Op::Key {
            number,
            signer,
            secret,
        })
    };
    let dealt =
        move |number| {
            (signs(number), prop::bool::weighted(0.3))
                .prop_map(move |(signer, is_wrong)| Op::Deal { number, signer, is_wrong })
        };
    prop_oneof![
        3 => who().prop_flat_map(keyed),
        6 => (0..3_usize).prop_flat_map(dealt),
        1 => (who(), 0..12_usize, 0..24_usize)
            .prop_map(|(dealer, commitments, shares)| Op::Junk { dealer, commitments, shares }),
        4 => (0..3_usize, 0..3_usize, any::<bool>(), prop::bool::weighted(0.2)).prop_map(
            |(dealer, receiver, is_honest, junk)| Op::Grieve { dealer, receiver, is_honest, junk }
        ),
        1 => (0..2_usize, 1..3_u64).prop_map(|(number, amount)| Op::Bond(number, amount)),
    ]
}

/// The receiver to whom a faulty dealer deals wrong shares.
fn victim(dealer: usize) -> usize {
    (dealer + 1) % 3
}

fn action(tale: &Tale, op: &Op) -> Action {
    let proposal = tale.machine.proposal();
    let junk = |epoch| Dealing {
        epoch,
        dealer: index(0),
        key: CoinKey([9; 96]),
        commitments: vec![CoinKey([1; 96]); 2],
        shares: vec![],
        proof: quipu_types::DealingProof([3; 48]),
    };
    let dealing = |number: usize, is_wrong: bool| match &proposal {
        None => junk(1),
        Some(one) if is_wrong => {
            one.plan.misdeal(index(number), &dealing_seed(number), index(victim(number)))
        }
        Some(one) => one.plan.deal(index(number), &dealing_seed(number)),
    };
    match *op {
        Op::Key { number, signer, secret } => key_action(tale, number, &decryption(secret), signer),
        Op::Deal { number, signer, is_wrong } => {
            deal_action(tale, dealing(number, is_wrong), signer)
        }
        Op::Junk { dealer, commitments, shares } => {
            let epoch = proposal.as_ref().map_or(1, |one| one.set.epoch);
            let mut junk = Dealing { dealer: index(dealer), ..junk(epoch) };
            junk.commitments.resize(commitments, CoinKey([0; 96]));
            junk.shares.resize(shares, quipu_types::SealedShare([8; 32]));
            deal_action(tale, junk, dealer)
        }
        Op::Grieve { dealer, receiver, is_honest, junk } => {
            let Some(one) = &proposal else {
                return grieve(Grievance {
                    epoch: 1,
                    dealer: index(dealer),
                    receiver: index(receiver),
                    dealing: Hash([1; 32]),
                    opening: quipu_types::Opening([2; 48]),
                });
            };
            let (wrong, right) = (dealing(dealer, true), dealing(dealer, false));
            let mut grievance = grievance(&one.plan, &wrong, victim(dealer));
            if is_honest {
                grievance.dealing = one.plan.digest_of(&right);
            }
            if receiver != victim(dealer) && junk {
                grievance.receiver = index(receiver);
            } else if junk {
                grievance.opening.0[7] ^= 1;
            }
            grieve(grievance)
        }
        Op::Bond(number, amount) => bond(number, amount),
    }
}

/// A coin is there exactly where dealers whose dealings count hold more than a third, and nothing of it is missing.
fn check_pending(tale: &Tale) {
    let Some(next) = tale.machine.next_set() else { return };
    let Some(making) = tale.machine.making(next.epoch).expect("healthy") else {
        assert_eq!(next.coin, None);
        return;
    };
    let dealers: BTreeSet<ValidatorIndex> = making.dealers().collect();
    assert_eq!(next.coin.is_some(), enough(&next.powers(), &dealers));
    let setup: Option<CoinSetup> = tale.machine.coin_setup(next.epoch).expect("healthy");
    assert_eq!(setup.map(|setup| setup.key), next.coin);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_is_dealt_nothing_panics_and_restarts_and_speculation_change_nothing(
        steps in vec((1..300_u64, vec(op(), 0..4), 0..4_u8), 1..30),
    ) {
        let (mut plain, _) = proposed();
        let (mut other, _) = proposed();
        for (after, ops, fate) in steps {
            let enters = plain.machine.next_set().is_some();
            let actions: Vec<Action> = ops.iter().map(|op| action(&plain, op)).collect();
            let signers = ['a', 'b', 'c', 'd'];
            let block: Vec<Transaction> = actions
                .into_iter()
                .zip(&ops)
                .map(|(action, op)| {
                    let who = if let Op::Bond(number, _) = op { signers[*number] } else { 'd' };
                    plain.sign(signer(who), vec![action])
                })
                .collect();
            (other.time, other.epoch) = (other.time + after, other.epoch + u64::from(enters));
            let epoch = other.epoch;
            match fate {
                0 => other.restart(),
                1 => other.try_block(epoch, &block, Machine::speculate).expect("it follows"),
                2 => other.try_block(epoch, &[], Machine::speculate).expect("it follows"),
                _ => {}
            }
            let wanted = plain.block(after, enters, &block);
            let found = other.try_block(epoch, &block, Machine::apply).expect("it follows");
            prop_assert_eq!(&found, &wanted);
            check_pending(&plain);
        }
    }
}
