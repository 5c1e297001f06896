//! What a validator keeps against another is listed, handed on, and checked by the genesis alone.

use quipu_consensus::Evidence;
use quipu_crypto::suite::sign_tagged;
use quipu_crypto::{Tag, keyfile};
use quipu_proof::names::chain_id;
use quipu_types::{Encode, Genesis, Hash, Height, SignedState, StateVote, ValidatorIndex};

use crate::harness::{Ledger, fails, json, ok, quipu};

const CRIMINAL: u16 = 2;

fn genesis(ledger: &Ledger) -> Genesis {
    let text = std::fs::read_to_string(ledger.genesis()).unwrap();
    Genesis::from_json(&text).unwrap()
}

/// Two states of one height under one validator's name, both signed by its key or by another's.
fn two_states(ledger: &Ledger, signer: u16) -> Vec<u8> {
    let genesis = genesis(ledger);
    let file = ledger.path(&format!("l/node{signer}/validator.key"));
    let key = keyfile::load(&file, None).unwrap();
    let vote = |root: u8| {
        let (state_root, receipts_root) = (Hash([root; 32]), Hash([0; 32]));
        let state =
            SignedState { height: Height::new(7), state_root, receipts_root, next_set: None };
        let signature =
            sign_tagged(&key, &chain_id(&genesis), 0, Tag::StateVote, &state.to_bytes());
        StateVote { state, validator: ValidatorIndex::new(CRIMINAL), signature }
    };
    Evidence::States(Box::new([vote(1), vote(2)])).to_bytes()
}

#[test]
fn evidence_is_listed_handed_on_and_checked_by_the_genesis_alone() {
    let ledger = Ledger::of(4);
    let node = ledger.text("l/node0");
    let list = ["validators", "evidence", "--dir", &node];
    assert!(ok(&list).contains("it saw nobody break a rule"));

    let kept = ledger.path("l/node0/evidence");
    std::fs::create_dir(&kept).unwrap();
    std::fs::write(kept.join("states-2-0123"), two_states(&ledger, CRIMINAL)).unwrap();
    let listed = json(&[&list[..], &["--json"]].concat());
    let name = genesis(&ledger).validators[usize::from(CRIMINAL)].name.clone();
    assert_eq!(listed["validator"], *name);
    assert_eq!(listed["place"], "the state of height 7");

    let out = ledger.text("case");
    let told = ok(&[&list[..], &["--out", &out]].concat());
    assert!(told.contains(&name) && told.contains("states"), "{told}");
    let case = ledger.text("case/states-2-0123");
    let genesis_file = ledger.genesis();
    let verify = ["verify", "--genesis", &genesis_file, "--evidence", &case];
    assert!(ok(&verify).contains(&format!("{name} broke a rule")));
    assert_eq!(json(&[&verify[..], &["--json"]].concat())["valid"], true);

    // In another ledger the same words accuse nobody.
    let other = Ledger::of(4);
    let told = fails(3, &["verify", "--genesis", &other.genesis(), "--evidence", &case]);
    assert!(told.contains("names nobody"), "{told}");
}

#[test]
fn what_is_forged_or_changed_names_nobody() {
    let ledger = Ledger::of(4);
    let genesis = ledger.genesis();
    let honest = two_states(&ledger, CRIMINAL);
    let mut all = vec![two_states(&ledger, 1), honest[..honest.len() - 1].to_vec(), Vec::new()];
    all.extend((0..honest.len()).step_by(7).map(|place| {
        let mut bytes = honest.clone();
        bytes[place] ^= 1;
        bytes
    }));
    for (number, bytes) in all.iter().enumerate() {
        let file = ledger.text("false");
        std::fs::write(&file, bytes).unwrap();
        let ran = quipu(&["verify", "--genesis", &genesis, "--evidence", &file]);
        assert!(matches!(ran.code, Some(1 | 3)), "{number}: {:?} {}", ran.code, ran.stderr);
        assert!(ran.stderr.contains("QP"), "{number}: {:?} {}", ran.code, ran.stderr);
    }
}
