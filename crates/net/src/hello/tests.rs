//! Hellos that are believed, and each reason why one is not.

#![expect(clippy::arithmetic_side_effects, reason = "small numbers of tests")]

use expect_test::{Expect, expect};
use proptest::prelude::*;
use quipu_types::{Suite, Validator};

use super::*;

const CHAIN: Hash = Hash([0xc4; 32]);
const BINDING: Binding = [0xb1; BINDING_SIZE];

fn index(number: u16) -> ValidatorIndex {
    ValidatorIndex::new(number)
}

fn key(number: u16) -> SecretKey {
    let suites = [Suite::Ed25519Sha256, Suite::Secp256k1Keccak, Suite::Ed25519Blake2b];
    let suite = suites[usize::from(number) % suites.len()];
    SecretKey::from_seed(suite, [u8::try_from(number + 1).unwrap(); 32])
}

fn set() -> ValidatorSet {
    let validators =
        (0..4).map(|number| Validator { key: key(number).public(), power: 1, is_stale: false });
    ValidatorSet { epoch: 3, validators: validators.collect(), coin: None }
}

fn hello(from: u16, to: u16) -> Hello {
    Hello::sign(&key(from), &CHAIN, (index(from), index(to)), Role::Dialer, &BINDING)
}

/// What validator 1, who dialed `dialed` or nobody, says of a hello.
fn verdict(hello: &Hello, role: Role, dialed: Option<u16>) -> Result<ValidatorIndex, HelloError> {
    let Answer::Hello(hello) = Answer::from_bytes(&Answer::Hello(hello.clone()).to_bytes())? else {
        panic!("a hello was encoded");
    };
    let expected = Expected {
        chain: &CHAIN,
        set: &set(),
        own: index(1),
        role,
        dialed: dialed.map(index),
        binding: &BINDING,
    };
    expected.check(&hello)
}

fn check(change: impl FnOnce(&mut Hello), expected: &Expect) {
    let mut changed = hello(0, 1);
    change(&mut changed);
    let error = verdict(&changed, Role::Dialer, None).expect_err("it is not to be believed");
    expected.assert_eq(&format!("{}: {error}", error.reason().name()));
}

#[test]
fn a_hello_of_any_suite_is_believed_on_its_channel() {
    for from in [0, 2, 3] {
        assert_eq!(verdict(&hello(from, 1), Role::Dialer, None), Ok(index(from)));
        assert_eq!(verdict(&hello(from, 1), Role::Dialer, Some(from)), Ok(index(from)));
    }
}

#[test]
fn another_chain_version_or_validator_is_named() {
    check(
        |hello| hello.version = 0,
        &expect!["older_version: the other speaks protocol version 0, older than 1: upgrade it"],
    );
    check(
        |hello| hello.version = 9,
        &expect![
            "newer_version: the other speaks protocol version 9, newer than 1: upgrade this one"
        ],
    );
    check(
        |hello| hello.chain = Hash([7; 32]),
        &expect![
            "other_chain: the other validates ledger 0707070707070707070707070707070707070707070707070707070707070707: start both with the same genesis file"
        ],
    );
    check(
        |hello| hello.validator = index(4),
        &expect![
            "unknown_validator: the other says it is validator 4, which the validator set does not have"
        ],
    );
    check(
        |hello| hello.validator = index(1),
        &expect![
            "oneself: the other says it is this very validator: an address leads here, or one key runs twice"
        ],
    );
    check(
        |hello| hello.peer = index(2),
        &expect![
            "other_peer: the address leads to validator 1 instead of validator 2: compare the addresses of the peers"
        ],
    );
    let wrong_key = expect![
        "wrong_key: validator 2 did not sign this channel with its key of the validator set: compare genesis and keys, or look for who stands between"
    ];
    check(|hello| hello.validator = index(2), &wrong_key);
}

#[test]
fn a_hello_is_worth_nothing_on_another_channel_in_another_role_or_from_another_peer() {
    let wrong = Err(HelloError::WrongKey { validator: index(0) });
    let signed =
        |role, binding: &Binding| Hello::sign(&key(0), &CHAIN, (index(0), index(1)), role, binding);
    let relayed = signed(Role::Dialer, &[0xb2; BINDING_SIZE]);
    assert_eq!(verdict(&relayed, Role::Dialer, None), wrong);
    assert_eq!(verdict(&signed(Role::Acceptor, &BINDING), Role::Dialer, None), wrong);
    assert_eq!(verdict(&signed(Role::Dialer, &BINDING), Role::Acceptor, None), wrong);
    let other = Err(HelloError::OtherPeer { wanted: index(2), found: index(0) });
    assert_eq!(verdict(&hello(0, 1), Role::Dialer, Some(2)), other);
}

#[test]
fn a_newer_version_is_named_whatever_follows_its_number() {
    let bytes = [TAG_HELLO, 2, 0, 0, 0, 0xff];
    assert_eq!(Answer::from_bytes(&bytes), Err(HelloError::NewerVersion { version: 2 }));
}

#[test]
fn greetings_have_frozen_bytes() {
    let hello = Answer::Hello(hello(0, 1)).to_bytes();
    assert_eq!(hello.len(), 1 + 4 + 32 + 2 + 2 + 64);
    let text =
        |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    expect!["0101000000c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c400000100a67b0a66781f14c2232b6824ec174b001b1195799a674ee4ee4d90054fe0e710f010e7c817a6bb196b390b3038ddd9aaefc2c44e64bd5ce9eca692ffc80ef30f"].assert_eq(&text(&hello));
    expect!["0208"].assert_eq(&text(&Answer::Refusal(Reason::WrongKey).to_bytes()));
    for (reason, byte) in Reason::ALL.into_iter().zip(1..) {
        assert_eq!(reason.byte(), byte);
        let bytes = Answer::Refusal(reason).to_bytes();
        assert_eq!(Answer::from_bytes(&bytes), Ok(Answer::Refusal(reason)));
        assert!(!reason.text().is_empty() && !reason.name().is_empty());
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(answer) = Answer::from_bytes(&bytes) {
            prop_assert_eq!(answer.to_bytes(), bytes);
        }
    }

    #[test]
    fn no_changed_byte_is_believed(at in 0_usize..105, change in 1_u8..=255) {
        let mut bytes = Answer::Hello(hello(0, 1)).to_bytes();
        bytes[at] ^= change;
        let believed = match Answer::from_bytes(&bytes) {
            Ok(Answer::Hello(hello)) => verdict(&hello, Role::Dialer, None).is_ok(),
            Ok(Answer::Refusal(_)) | Err(_) => false,
        };
        prop_assert!(!believed);
    }
}
