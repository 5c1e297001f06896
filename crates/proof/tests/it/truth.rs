//! True bundles are taken, and say what is so.

use expect_test::expect;
use proptest::prelude::*;
use quipu_proof::{
    Basis, Bound, BuildError, Bundle, CertificateError, Committed, Parts, Results, build, verify,
    verify_certificate, verify_state_certificate,
};
use quipu_types::{Height, Time};
use serde_json::Value;

use crate::world::World;

#[test]
fn a_true_bundle_says_what_is_so() {
    let world = World::new("w", &[5, 4, 3]).grown();
    let place = world.place_of_many();
    let (position, transaction) = &world.blocks[1].transactions[place];
    let found = verify(&world.bundle(1, place, Some(3)).to_json(), &world.genesis).unwrap();
    assert_eq!(found.position, *position);
    assert_eq!(found.signer, transaction.signer);
    assert_eq!(found.action, Some((3, transaction.actions[3].clone())));
    assert_eq!(found.action_count, 5);
    assert_eq!(found.receipt, Some(world.blocks[1].receipts[place]));
    assert_eq!(found.header, world.blocks[1].hash());
    let bound = |time, basis| Bound { time: Time::new(time), basis };
    assert_eq!(found.not_before, bound(1_005_000, Basis::Anchor(Height::new(1))));
    assert_eq!(found.header_time, Time::new(1_010_000));
    assert_eq!(found.not_after, Some(bound(1_015_000, Basis::NextHeader(Height::new(3)))));
    assert_eq!((found.support.power, found.support.power_total), (12, 12));
    expect![[r#"
        height 2
        not before 1005000 (anchor: header 1)
        not after 1015000 (next header 3)
        signers [ValidatorIndex(0), ValidatorIndex(1), ValidatorIndex(2)]
    "#]]
    .assert_eq(&format!(
        "height {}\nnot before {} ({})\nnot after {} ({})\nsigners {:?}\n",
        found.height,
        found.not_before.time,
        found.not_before.basis,
        found.not_after.unwrap().time,
        found.not_after.unwrap().basis,
        found.support.signers
    ));
}

/// The form is frozen: a change of a hash here breaks the bundles that people keep.
#[test]
fn a_bundle_keeps_its_form() {
    let world = World::new("w", &[5, 4, 3]).grown();
    let mut lines = vec![];
    for block in 0..3 {
        for place in 0..world.blocks[block].transactions.len() {
            lines.push(world.bundle(block, place, Some(0)).to_json());
        }
    }
    let text = world.bundle(1, world.place_of_many(), Some(3)).to_json();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    outline(&mut value);
    let all = quipu_crypto::sha256(lines.concat().as_bytes());
    expect![[r#"
        {
          "action": {
            "bytes": "29 bytes",
            "index": 3,
            "path": "3 times \"32 bytes\""
          },
          "certificate": "392 bytes",
          "chain": "32 bytes",
          "envelope": "178 bytes",
          "header": "1143 bytes",
          "lane_path": {
            "index": 6,
            "path": "3 times \"32 bytes\"",
            "size": 8
          },
          "position": {
            "lane": 0,
            "seqno": 7
          },
          "previous": "476 bytes",
          "receipt": {
            "bytes": "65 bytes",
            "certificate": "275 bytes",
            "count": 9,
            "index": 3,
            "path": "4 times \"32 bytes\""
          },
          "time": {
            "anchor": {
              "certificate": "392 bytes",
              "header": "476 bytes"
            },
            "next": {
              "certificate": "392 bytes",
              "header": "1143 bytes"
            }
          },
          "tx": "32 bytes",
          "version": 1
        }
        16 bundles: 97650db1990cd7372bcd73e9470bdea88cecfde18eeb519ced9bb53cbc233fcf
    "#]]
    .assert_eq(&format!("{value:#}\n{} bundles: {all}\n", lines.len()));
}

/// Puts its size in place of each binary value.
fn outline(value: &mut Value) {
    match value {
        Value::String(text) => *text = format!("{} bytes", text.len() / 2),
        Value::Array(items) => {
            items.iter_mut().for_each(outline);
            *value = Value::String(format!("{} times {}", items.len(), items[0]));
        }
        Value::Object(members) => members.values_mut().for_each(outline),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[test]
fn at_the_ends_of_the_ledger_the_genesis_bounds_below_and_nothing_above() {
    let world = World::new("w", &[1]).grown();
    let first = verify(&world.bundle(0, 0, None).to_json(), &world.genesis).unwrap();
    assert_eq!(first.not_before, Bound { time: Time::new(1_000_000), basis: Basis::Genesis });
    assert_eq!(first.action, None);
    let last = verify(&world.bundle(2, 0, Some(0)).to_json(), &world.genesis).unwrap();
    assert_eq!(last.not_after, None);
}

#[test]
fn a_part_left_out_is_not_proven_and_the_rest_is() {
    let world = World::new("w", &[1, 1, 1, 1]).grown();
    let whole = world.bundle(1, world.place_of_many(), Some(1));
    let full = whole.verify(&world.genesis).unwrap();
    let mut less = whole.clone();
    less.action = None;
    less.receipt = None;
    less.time.anchor = None;
    less.time.next = None;
    let found = verify(&less.to_json(), &world.genesis).unwrap();
    let genesis = Bound { time: world.genesis.time_us, basis: Basis::Genesis };
    let mut wanted = full;
    wanted.action = None;
    wanted.receipt = None;
    wanted.not_before = genesis;
    wanted.not_after = None;
    assert_eq!(found, wanted);
}

#[test]
fn parts_that_do_not_belong_together_make_no_bundle() {
    let world = World::new("w", &[1]).grown();
    let (position, transaction) = &world.blocks[2].transactions[0];
    let block = |index: usize| -> Committed { world.blocks[index].committed.clone() };
    let parts = |action, at: usize, receipts: usize| Parts {
        chain: world.chain,
        epochs: vec![],
        transaction,
        position: *position,
        action,
        lane_path: vec![],
        block: block(at),
        previous: None,
        results: Some(Results {
            receipts: &world.blocks[receipts].receipts,
            certificate: world.blocks[receipts].state.clone(),
        }),
        anchor: None,
        next: None,
        mixed: None,
    };
    let position = *position;
    let count = transaction.actions.len();
    assert!(build(parts(None, 2, 2)).is_ok());
    assert_eq!(build(parts(Some(99), 2, 2)), Err(BuildError::NoSuchAction { index: 99, count }));
    assert_eq!(build(parts(None, 2, 1)), Err(BuildError::NoReceipt { position }));
    let lane = position.lane;
    assert_eq!(build(parts(None, 0, 2)), Err(BuildError::NotCovered { lane, position }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_built_verifies_in_any_layout_of_its_text(
        powers in prop::collection::vec(1..1_000_u64, 1..5),
        block in 0..3_usize,
        place in any::<prop::sample::Index>(),
        action in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let world = World::new("w", &powers).grown();
        let place = place.index(world.blocks[block].transactions.len());
        let count = world.blocks[block].transactions[place].1.actions.len();
        let action = action.map(|action| u32::try_from(action.index(count)).unwrap());
        let bundle = world.bundle(block, place, action);
        let found = verify(&bundle.to_json(), &world.genesis).unwrap();
        prop_assert_eq!(&found, &verify(&bundle.to_json_pretty(), &world.genesis).unwrap());
        prop_assert_eq!(&Bundle::from_json(&bundle.to_json_pretty()).unwrap(), &bundle);
        // A tool that sorts members does no harm.
        let value: serde_json::Value = serde_json::from_str(&bundle.to_json()).unwrap();
        prop_assert_eq!(&found, &verify(&value.to_string(), &world.genesis).unwrap());
    }

    #[test]
    fn a_certificate_holds_exactly_when_its_signers_are_a_quorum(
        powers in prop::collection::vec(1..20_u64, 1..8),
        mask in any::<u8>(),
    ) {
        let mut world = World::new("w", &powers);
        world.signers.retain(|index| mask & (1 << index) != 0);
        let signed: u64 = world.signers.iter().map(|index| powers[*index]).sum();
        let total: u64 = powers.iter().sum();
        world.commit(vec![]);
        let block = &world.blocks[0];
        let certificate = &block.committed.certificate.0;
        let (set, header) = (world.set(), block.header());
        let commit = verify_certificate(&world.chain, &set, header, certificate);
        let state = verify_state_certificate(&world.chain, &set, header.height, &block.state);
        prop_assert_eq!(&commit, &state);
        let (power, power_total) = (u128::from(signed), u128::from(total));
        match commit {
            Ok(support) => {
                prop_assert!(3 * signed > 2 * total);
                prop_assert_eq!((support.power, support.power_total), (power, power_total));
            }
            Err(error) => {
                prop_assert!(3 * signed <= 2 * total);
                prop_assert_eq!(error, CertificateError::UnderQuorum { power, power_total });
            }
        }
    }
}
