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
use quipu_types::group::{SESSION_US_MAX, SESSION_US_MIN};
use quipu_types::program::Op;
use quipu_types::transaction::{Action, Envelope, EventRef, Transaction, Undecoded};
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
            $call!(CoinShare),
            $call!(Dealing),
            $call!(Grievance),
            $call!(Rounds),
            $call!(CommitCertificate),
            $call!(StateVote),
            $call!(StateCertificate),
            $call!(Receipt),
            $call!(Program),
            $call!(Define),
            $call!(TableDef),
            $call!(ProcedureDef),
            $call!(Call),
            $call!(GroupAction),
            $call!(StakeAction),
            $call!(Reads),
            $call!(ValidatorSet),
            $call!(Schema),
            $call!(PublicKey),
            $call!(Complaint),
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
        let _: [(); 32] = every_type!(total);
    }

    #[test]
    fn no_changed_bytes_of_a_program_make_a_decoder_panic(
        seed in 0..2_000_u64,
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6),
    ) {
        macro_rules! change { ($type:ident) => {{
            let mut bytes = $type::sample(&mut fastrand::Rng::with_seed(seed)).to_bytes();
            for (place, byte) in &changes {
                let place = place % bytes.len();
                bytes[place] = *byte;
            }
            reencodes::<$type>(&bytes)?;
        }} }
        change!(Program);
        change!(Define);
        change!(TableDef);
        change!(ProcedureDef);
        change!(Call);
        change!(GroupAction);
        change!(StakeAction);
        change!(Reads);
        change!(Expr);
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
        let _: [(); 32] = every_type!(flip);
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

/// How many expressions, rows and lists there are in an expression.
fn weight(expr: &Expr) -> usize {
    1 + expr.children().map(weight).sum::<usize>()
}

/// A program that inserts `row_count` rows of `now()` in each of `columns`, as bytes; the count may lie.
fn insert_bytes(columns: u32, row_count: u32, expr_count: u32) -> Vec<u8> {
    let mut program = Program::sample(&mut fastrand::Rng::with_seed(0));
    program.op = Op::Truncate;
    let mut bytes = program.to_bytes();
    bytes.pop();
    bytes.push(0);
    bytes.extend_from_slice(&columns.to_le_bytes());
    (0..columns).for_each(|column| bytes.extend_from_slice(&column.to_le_bytes()[..2]));
    bytes.extend_from_slice(&row_count.to_le_bytes());
    (0..expr_count).for_each(|_| bytes.push(18));
    bytes.push(0);
    bytes
}

#[test]
fn a_program_is_no_larger_than_its_bytes() {
    let read = |bytes: &[u8]| Program::from_bytes(bytes).map_err(|error| error.to_string());
    assert!(read(&insert_bytes(0, 1, 0)).is_ok(), "DEFAULT VALUES");
    assert!(read(&insert_bytes(2, 3, 6)).is_ok());
    let many = read(&insert_bytes(0, 100_000, 0)).unwrap_err();
    assert_eq!(many, "rows is 100000, the most is 1");
    assert!(read(&insert_bytes(2, 100_000, 6)).unwrap_err().starts_with("input ends early"));
    let program = read(&insert_bytes(1, 100_000, 100_000)).unwrap();
    let Op::Insert { rows, .. } = &program.op else { panic!("an insert") };
    assert_eq!(rows.iter().flatten().map(weight).sum::<usize>(), 100_000);
}

#[test]
fn an_expression_is_read_to_its_greatest_depth_and_no_deeper() {
    let nested = |depth: usize| [[20, 0].repeat(depth - 1), vec![18]].concat();
    let deepest = usize::try_from(quipu_types::program::EXPR_DEPTH_MAX).unwrap();
    assert_eq!(Expr::from_bytes(&nested(deepest)).map(|expr| weight(&expr)), Ok(deepest));
    for depth in [deepest + 1, 400_000] {
        let error = Expr::from_bytes(&nested(depth)).unwrap_err().to_string();
        assert_eq!(error, "depth of an expression is 48, the most is 48");
    }
}

#[test]
fn a_constant_is_a_value_of_its_type() {
    let read = |precision: u8, scale: u8, value: i128| {
        let mut bytes = vec![1, 5, precision, scale];
        bytes.extend_from_slice(&value.to_le_bytes());
        Expr::from_bytes(&bytes).map_err(|error| error.to_string())
    };
    assert!(read(3, 2, -999).is_ok());
    assert!(read(38, 38, 1 - 10_i128.pow(38)).is_ok());
    for (precision, scale, value) in
        [(3, 2, 1_000), (38, 0, i128::MIN), (0, 0, 0), (39, 0, 0), (3, 4, 0)]
    {
        assert_eq!(read(precision, scale, value).unwrap_err(), "numeric is not in canonical form");
    }
}

#[test]
fn a_key_that_was_read_is_no_longer_than_keys_are() {
    let reads = |size: usize| Reads { keys: vec![vec![1; size]], ..Reads::default() }.to_bytes();
    let longest = quipu_types::program::READ_KEY_SIZE_MAX;
    assert!(Reads::from_bytes(&reads(longest)).is_ok());
    assert!(Reads::from_bytes(&reads(longest + 1)).is_err());
}

#[test]
fn what_no_group_has_is_refused_where_it_is_read() {
    let read = |op: GroupOp| {
        let bytes = GroupAction { group: "g".into(), op }.to_bytes();
        GroupAction::from_bytes(&bytes).map_err(|error| error.to_string()).err()
    };
    let join = |member: &str, session_us| GroupOp::Join { member: member.into(), session_us };
    assert_eq!(read(join("m", SESSION_US_MIN)), None);
    assert_eq!(read(join(&"é".repeat(32), SESSION_US_MAX)), None);
    let refused = |what: &str| Some(format!("{what} is not in canonical form"));
    for session_us in [0, SESSION_US_MIN - 1, SESSION_US_MAX + 1] {
        assert_eq!(read(join("m", session_us)), refused("session"));
    }
    for member in ["", "a\nb", "\0"] {
        assert_eq!(read(join(member, SESSION_US_MIN)), refused("member"));
    }
    let long = read(join(&"m".repeat(65), SESSION_US_MIN));
    assert_eq!(long.as_deref(), Some("member is 65, the most is 64"));
    let create = |lanes: &[u16]| GroupOp::Create {
        consumers: Writers::Creator,
        starts: lanes
            .iter()
            .map(|lane| (Lane::new(*lane), quipu_types::cursor::Certified::default()))
            .collect(),
    };
    assert_eq!(read(create(&[])), None);
    assert_eq!(read(create(&[0, 7, 63])), None);
    assert_eq!(read(create(&[7, 0])), refused("starts"));
    assert_eq!(read(create(&[7, 7])), refused("starts"));
    let many = read(create(&[0; 65]));
    assert_eq!(many.as_deref(), Some("starts is 65, the most is 64"));
    let bytes = GroupAction { group: "G".into(), op: GroupOp::Delete }.to_bytes();
    assert!(GroupAction::from_bytes(&bytes).is_err());
}

#[test]
fn what_no_stake_has_is_refused_where_it_is_read() {
    let key = PublicKey::sample(&mut fastrand::Rng::with_seed(1));
    let read = |action: StakeAction| {
        StakeAction::from_bytes(&action.to_bytes()).map_err(|error| error.to_string()).err()
    };
    let refused = |what: &str| Some(format!("{what} is not in canonical form"));
    assert_eq!(read(StakeAction::Bond { key, amount: 1 }), None);
    assert_eq!(read(StakeAction::Bond { key, amount: 0 }), refused("amount of nothing"));
    assert_eq!(read(StakeAction::Unbond { key, amount: 0 }), refused("amount of nothing"));
    let moved = |address: &str| read(StakeAction::Move { key, address: address.into() });
    for address in ["a:1", "[::1]:65535", "validator.example.org:26700"] {
        assert_eq!(moved(address), None);
    }
    for address in ["", "a", ":1", "a:", "a:0", "a:65536", "a:+1", "a b:1", "a\n:1", "a:1 "] {
        assert_eq!(moved(address), refused("address"), "{address:?}");
    }
    let long = moved(&format!("{}:1", "a".repeat(255)));
    assert_eq!(long.as_deref(), Some("address is 257, the most is 256"));
    let (possession, address) = (Signature([0; 64]), "a:1".to_owned());
    let named = |name: &str| {
        let (name, address) = (name.to_owned(), address.clone());
        read(StakeAction::Register { key, possession, name, address })
    };
    assert_eq!(named(&"é".repeat(32)), None);
    for name in ["", "a\tb"] {
        assert_eq!(named(name), refused("validator's name"));
    }
    let shown = |size| read(StakeAction::Evidence { epoch: 0, bytes: vec![0; size] });
    let size_max = quipu_types::stake::EVIDENCE_SIZE_MAX;
    assert_eq!(shown(size_max), None);
    assert!(shown(size_max + 1).is_some());
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

#[test]
fn a_transaction_that_is_not_decoded_has_the_same_parts() {
    for seed in 0..500 {
        let transaction = Transaction::sample(&mut fastrand::Rng::with_seed(seed));
        let bytes = transaction.to_bytes();
        let found = Undecoded::read(&bytes).unwrap();
        let root = Hash([7; 32]);
        assert_eq!(found.envelope(root), transaction.envelope(root));
        assert_eq!(*found.signer(), transaction.signer);
        let encodings = transaction.actions.iter().map(Encode::to_bytes);
        assert!(found.actions.iter().map(|action| action.to_vec()).eq(encodings));
        let events =
            (0_u32..).zip(&transaction.actions).filter_map(|(index, action)| match action {
                Action::Append { stream, key, payload } => {
                    Some((index, EventRef { stream, key, payload }))
                }
                _ => None,
            });
        assert!(found.events().eq(events));
        for size in 0..bytes.len() {
            assert!(Undecoded::read(&bytes[..size]).is_err(), "cut after {size} bytes");
        }
    }
}
