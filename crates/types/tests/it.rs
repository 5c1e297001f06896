//! Frozen encodings (T3), round trips (T1) and totality (T2) of every type that crosses a boundary.
//!
//! `conformance.toml` holds, for each type, the SHA-256 over the encodings of 64 seeded samples. A changed hash
//! is a changed format: never by accident. `UPDATE_CONFORMANCE=1 cargo test -p quipu-types` rewrites the file.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test may fail loudly"
)]

mod sample;

use std::fmt::Write as _;

use proptest::prelude::*;
use quipu_types::agreement::{Propose, StateVote};
use quipu_types::transaction::{Action, Envelope, Transaction};
use quipu_types::*;
use sample::Sample;
use sha2::{Digest, Sha256};

const SAMPLE_COUNT: u64 = 64;

fn freeze<T: Sample + Encode + Decode + PartialEq + std::fmt::Debug>(name: &str) -> String {
    let mut hasher = Sha256::new();
    for seed in 0..SAMPLE_COUNT {
        let value = T::sample(&mut fastrand::Rng::with_seed(seed));
        let bytes = value.to_bytes();
        assert_eq!(T::from_bytes(&bytes).as_ref(), Ok(&value), "{name} reads back, seed {seed}");
        assert!(bytes.len() >= T::SIZE_MIN, "{name} keeps its SIZE_MIN, seed {seed}");
        for end in 0..bytes.len() {
            assert!(T::from_bytes(&bytes[..end]).is_err(), "{name} cut to {end} bytes is refused");
        }
        hasher.update(&bytes);
    }
    format!("{name} = \"{}\"\n", hex::encode(hasher.finalize()))
}

macro_rules! every_type {
    ($call:ident) => {
        [
            $call!(Transaction),
            $call!(Envelope),
            $call!(Action),
            $call!(ChunkHeader),
            $call!(Tip),
            $call!(Ack),
            $call!(Header),
            $call!(Propose),
            $call!(Prevote),
            $call!(Precommit),
            $call!(RoundChange),
            $call!(RoundChangeCertificate),
            $call!(CommitCertificate),
            $call!(StateVote),
            $call!(StateCertificate),
            $call!(Receipt),
            $call!(ValidatorSet),
            $call!(Schema),
            $call!(PublicKey),
        ]
    };
}

#[test]
fn encodings_are_frozen() {
    macro_rules! hash {
        ($type:ident) => {
            freeze::<$type>(stringify!($type))
        };
    }
    let now = every_type!(hash).concat();
    // Asked for when it runs: a target directory may serve several checkouts.
    let path = std::env::var("CARGO_MANIFEST_DIR").unwrap() + "/conformance.toml";
    if std::env::var_os("UPDATE_CONFORMANCE").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let frozen = std::fs::read_to_string(path).unwrap();
    assert_eq!(now, frozen, "a wire or disk format changed");
}

fn reencodes<T: Encode + Decode>(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(value) = T::from_bytes(bytes) {
        prop_assert_eq!(value.to_bytes(), bytes);
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic_and_what_decodes_is_canonical(
        noise in prop::collection::vec(any::<u8>(), 0..300)
    ) {
        macro_rules! total { ($type:ident) => { reencodes::<$type>(&noise)? } }
        let _: [(); 19] = every_type!(total);
    }

    #[test]
    fn a_changed_byte_is_another_value_or_no_value(seed in 0..500_u64, place in any::<usize>(), bit in 0..8_u32) {
        macro_rules! flip { ($type:ident) => {{
            let value = $type::sample(&mut fastrand::Rng::with_seed(seed));
            let mut bytes = value.to_bytes();
            let place = place % bytes.len();
            bytes[place] ^= 1 << bit;
            if let Ok(other) = $type::from_bytes(&bytes) {
                prop_assert_ne!(&other, &value);
                prop_assert_eq!(other.to_bytes(), bytes);
            }
        }} }
        let _: [(); 19] = every_type!(flip);
    }
}

#[test]
fn the_encodings_beside_a_transaction_are_its_actions_own() {
    for seed in 0..500 {
        let transaction = Transaction::sample(&mut fastrand::Rng::with_seed(seed));
        let bytes = transaction.to_bytes();
        let (read, actions) = Transaction::from_bytes_with_actions(&bytes).unwrap();
        let wanted: Vec<Vec<u8>> = transaction.actions.iter().map(Encode::to_bytes).collect();
        assert_eq!((read, actions.concat().len()), (transaction, wanted.concat().len()));
        assert_eq!(actions, wanted);
        for end in 0..bytes.len() {
            let short = bytes.get(..end).unwrap();
            assert_eq!(
                Transaction::from_bytes_with_actions(short).map(|(read, _)| read),
                Transaction::from_bytes(short)
            );
        }
    }
}

#[test]
fn the_smallest_transfer_is_176_bytes_and_has_no_other_form() {
    let mut transfer = Transaction::sample(&mut fastrand::Rng::with_seed(0));
    transfer.signer = PublicKey::new(Suite::Ed25519Sha256, &[9; 32]).unwrap();
    transfer.route = None;
    transfer.incarnation = 5;
    transfer.sequence = 77;
    transfer.actions = vec![Action::Transfer { to: AccountId([3; 32]), amount: 12 }];
    let bytes = transfer.to_bytes();
    assert_eq!(bytes.len(), quipu_types::transaction::COMPACT_SIZE);
    assert_eq!(Transaction::from_bytes(&bytes), Ok(transfer.clone()));

    let mut long = vec![2];
    transfer.signer.encode(&mut long);
    long.extend_from_slice(&5_u32.to_le_bytes());
    long.extend_from_slice(&77_u64.to_le_bytes());
    transfer.anchor.encode(&mut long);
    long.push(0);
    long.extend_from_slice(&1_u32.to_le_bytes());
    quipu_types::codec::put_bytes(&mut long, &transfer.actions[0].to_bytes());
    transfer.signature.encode(&mut long);
    let refused = Transaction::from_bytes(&long).unwrap_err().to_string();
    assert_eq!(refused, "transfer that fits the compact form is not in canonical form");
}

#[test]
fn a_list_is_never_reserved_beyond_the_bytes_that_are_there() {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&128_u32.to_le_bytes());
    let mut out = String::new();
    let refused = CommitCertificate::from_bytes(&bytes).unwrap_err();
    write!(out, "{refused}").unwrap();
    bytes = u32::MAX.to_le_bytes().to_vec();
    write!(out, "; {}", CommitCertificate::from_bytes(&bytes).unwrap_err()).unwrap();
    expect_test::expect![
        "input ends early: 16512 bytes wanted, 0 left; precommits is 4294967295, the most is 128"
    ]
    .assert_eq(&out);
}

#[test]
fn a_genesis_reads_back_and_a_broken_rule_is_named() {
    let genesis = sample::genesis();
    assert_eq!(Genesis::from_json(&genesis.to_json()), Ok(genesis.clone()));
    let check = |change: &dyn Fn(&mut Genesis)| {
        let mut broken = genesis.clone();
        change(&mut broken);
        Genesis::from_json(&broken.to_json()).unwrap_err().to_string()
    };
    assert_eq!(check(&|g| g.lane_count = 65), "genesis: lane_count 65, 1 to 64");
    assert_eq!(check(&|g| g.validators[0].power = 0), "genesis: validator \"v0\" has no power");
    assert_eq!(check(&|g| g.validators.clear()), "genesis: 0 validators");
    let unknown = genesis.to_json().replacen("\"name\"", "\"nme\"", 1);
    assert!(Genesis::from_json(&unknown).unwrap_err().to_string().contains("unknown field `nme`"));
}
