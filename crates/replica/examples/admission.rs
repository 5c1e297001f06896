//! What admission costs: signed transactions of one 200-byte event, from bytes to a place in a queue, on one core.
//!
//! `cargo run -p quipu-replica --example admission`: the median of some rounds, with the lowest and highest. *Four
//! validators* is the work of all of them for one transaction: the one that takes it from its client, the sequencer that
//! gets it forwarded, and the three that get it in a chunk, of which the first knows it.

#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![expect(clippy::unwrap_used, reason = "a program for developers")]

use std::sync::Arc;
use std::time::Instant;

use quipu_crypto::SecretKey;
use quipu_crypto::suite::{VerifyItem, verify_many};
use quipu_proof::names::{TransactionDraft, envelope, sign_transaction, transaction_message};
use quipu_replica::Admissions;
use quipu_types::{Action, Encode, Hash, Suite, Transaction};

const ROUND_COUNT: usize = 9;
const BATCH_COUNT: usize = 64;
const TRANSACTION_COUNT: usize = 1_024;
const CHAIN: Hash = Hash([3; 32]);

fn main() {
    for key_count in [4_u8, 64] {
        let all = transactions(key_count);
        println!("{key_count} keys, batches of {BATCH_COUNT}");
        let messages: Vec<Vec<u8>> =
            all.iter().map(|one| transaction_message(&CHAIN, &envelope(one))).collect();
        show("signature checks", &mut || check(&all, &messages));
        let bytes: Vec<Arc<[u8]>> = all.iter().map(|one| one.to_bytes().into()).collect();
        show("one validator", &mut || admit(&Admissions::new(CHAIN, 4, 0), &bytes));
        show("four validators", &mut || {
            let new = || Admissions::new(CHAIN, 4, 16 << 20);
            let [taker, sequencer, third, fourth] = [new(), new(), new(), new()];
            for validator in [&taker, &sequencer, &taker, &third, &fourth] {
                admit(validator, &bytes);
            }
        });
    }
}

fn transactions(key_count: u8) -> Vec<Transaction> {
    let keys: Vec<SecretKey> =
        (1..=key_count).map(|n| SecretKey::from_seed(Suite::Ed25519Sha256, [n; 32])).collect();
    keys.iter()
        .cycle()
        .zip(1..)
        .take(TRANSACTION_COUNT)
        .map(|(key, sequence)| {
            let payload = vec![7; 200];
            let actions = vec![Action::Append { stream: "bench".into(), key: vec![], payload }];
            let (incarnation, anchor, route) = (0, CHAIN, None);
            sign_transaction(
                key,
                &CHAIN,
                TransactionDraft { incarnation, sequence, anchor, route, actions },
            )
        })
        .collect()
}

fn check(all: &[Transaction], messages: &[Vec<u8>]) {
    let items: Vec<VerifyItem<'_>> = all
        .iter()
        .zip(messages)
        .map(|(one, message)| VerifyItem { key: &one.signer, message, signature: &one.signature })
        .collect();
    for batch in items.chunks(BATCH_COUNT) {
        assert!(verify_many(batch).iter().all(|holds| *holds));
    }
}

fn admit(admissions: &Admissions, all: &[Arc<[u8]>]) {
    for batch in all.chunks(BATCH_COUNT) {
        assert!(admissions.admit_many(batch.to_vec()).iter().all(Result::is_ok));
    }
}

fn show(what: &str, work: &mut dyn FnMut()) {
    let mut rounds: Vec<f64> = (0..ROUND_COUNT)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e6
                / f64::from(u32::try_from(TRANSACTION_COUNT).unwrap())
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    let at = |place: usize| rounds.get(place).copied().unwrap_or_default();
    println!(
        "  {what:<18} {:>7.2} µs a transaction ({:.2}, {:.2})",
        at(ROUND_COUNT / 2),
        at(0),
        at(ROUND_COUNT.saturating_sub(1))
    );
}
