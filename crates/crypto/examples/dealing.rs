//! What it costs validators of equal power to make an epoch's coin together, on one core.
//!
//! `cargo run -p quipu-crypto --example dealing`: processor time of Linux' scheduler, so that busy neighbours do not count;
//! the median of some rounds of at least [`ROUND_MICROS`], with the lowest and highest. *A validator* is all that one of n
//! does when all deal: one dealing made, n checked and opened, and their sum, with the check of its setup.

#![expect(clippy::unwrap_used, reason = "a program for developers")]

use quipu_crypto::coin::CoinScheme;
use quipu_crypto::coin::dealing::{Checked, DecryptionKey, Member, Opened, Plan};
use quipu_types::{Dealing, Encode, Grievance, Hash, Opening, ValidatorIndex};

const ROUND_COUNT: u32 = 5;
const ROUND_MICROS: u128 = 200_000;

fn main() {
    for validator_count in [4_u16, 7, 32, 128] {
        measure(validator_count);
    }
}

fn measure(validator_count: u16) {
    let keys: Vec<DecryptionKey> = (0..validator_count).map(|_| DecryptionKey::draw()).collect();
    let member = |key: &DecryptionKey| Member { power: 1, key: Some(key.public()) };
    let members: Vec<Member> = keys.iter().map(member).collect();
    let plan = Plan::new(&Hash([3; 32]), 7, &members).unwrap();
    let validators = || (0..validator_count).map(ValidatorIndex::new);
    let first = ValidatorIndex::new(0);
    let key = keys.first().unwrap();
    let dealings: Vec<Dealing> = validators().map(|dealer| plan.draw(dealer)).collect();
    let dealing = dealings.first().unwrap();
    let checked: Vec<Checked> = dealings.iter().map(|one| plan.check(one).unwrap()).collect();
    let all: Vec<&Checked> = checked.iter().collect();
    let open = |one: &Checked| plan.open(one, first, key).unwrap();
    let opened: Vec<Opened> = checked.iter().map(open).collect();
    let checked = checked.first().unwrap();
    println!("{validator_count} validators, a dealing of {} bytes", dealing.to_bytes().len());
    let deal = show("deal", &mut || drop(plan.draw(first)));
    let check = show("check", &mut || drop(plan.check(dealing).unwrap()));
    let read = show("open", &mut || drop(open(checked)));
    // False, and found so by its opening alone: the rest of judging is what opening costs too.
    let grievance = Grievance {
        epoch: 7,
        dealer: first,
        receiver: first,
        dealing: checked.digest(),
        opening: Opening(dealing.proof.0),
    };
    show("judge a forged grievance", &mut || {
        plan.judge(checked, &grievance).unwrap_err();
    });
    let setup = plan.setup(&all).unwrap();
    let sum = show("sum of all", &mut || drop(plan.setup(&all).unwrap()));
    let secret = show("own shares of all", &mut || {
        drop(plan.secret(&all, &opened).unwrap());
    });
    let scheme = || CoinScheme::new(&setup, plan.powers()).unwrap();
    let verify = show("check of the setup", &mut || drop(scheme()));
    assert!(scheme().fits(first, &plan.secret(&all, &opened).unwrap()));
    let count = u128::from(validator_count);
    let each = count.checked_mul(check.checked_add(read).unwrap()).unwrap();
    let total: u128 = [deal, each, sum, secret, verify].iter().sum();
    println!("  {:26} {total:>9} us", "a validator");
}

/// Microseconds of one piece of work, the median.
fn show(what: &str, work: &mut dyn FnMut()) -> u128 {
    let mut micros: Vec<u128> = (0..ROUND_COUNT)
        .map(|_| {
            let (start, mut count) = (processor_micros(), 0_u128);
            loop {
                work();
                count = count.checked_add(1).unwrap();
                let spent = processor_micros().checked_sub(start).unwrap();
                if spent >= ROUND_MICROS {
                    return spent.div_euclid(count);
                }
            }
        })
        .collect();
    micros.sort_unstable();
    let (low, high) = (micros.first().unwrap(), micros.last().unwrap());
    let median = *micros.get(micros.len().div_euclid(2)).unwrap();
    println!("  {what:26} {median:>9} us ({low}, {high})");
    median
}

/// The processor time of this thread, the only one.
fn processor_micros() -> u128 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<u128>().unwrap().div_euclid(1_000)
}
