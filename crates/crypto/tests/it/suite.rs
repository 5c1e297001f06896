//! Suites against published vectors, their edge cases, and many = single.

use proptest::prelude::*;
use quipu_crypto::domain::Tag;
use quipu_crypto::suite::{
    SecretKey, VerifyItem, account, is_weak, sign_tagged, verify, verify_many, verify_tagged,
};
use quipu_types::{Hash, PublicKey, Signature, Suite};
use zeroize::Zeroize;

use crate::bytes;

fn key(suite: Suite, seed: u8) -> SecretKey {
    SecretKey::from_seed(suite, [seed; 32])
}

fn ed25519(text: &str) -> PublicKey {
    PublicKey::new(Suite::Ed25519Sha256, &bytes::<32>(text)).unwrap()
}

/// Encodings of points of small order; the last three are not canonical.
const SMALL_ORDER: [&str; 8] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

#[test]
fn ed25519_signs_as_rfc_8032_says() {
    let table = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ];
    for (seed, public, message, signature) in table {
        let key = SecretKey::from_seed(Suite::Ed25519Sha256, bytes(seed));
        let message = hex::decode(message).unwrap();
        assert_eq!(key.public(), ed25519(public));
        assert_eq!(key.sign(&message).to_string(), signature);
        assert!(verify(&key.public(), &message, &key.sign(&message)));
        assert_eq!(key.account().to_string(), public);
    }
}

#[test]
fn zip_215_takes_small_orders_and_encodings_that_are_not_canonical() {
    for text in SMALL_ORDER {
        for commitment in SMALL_ORDER {
            let mut signature = Signature([0; 64]);
            signature.0[..32].copy_from_slice(&bytes::<32>(commitment));
            let key = ed25519(text);
            assert!(verify(&key, b"any message", &signature), "{text} {commitment}");
            let item = VerifyItem { key: &key, message: b"any message", signature: &signature };
            assert_eq!(verify_many(&[item; 3]), [true; 3]);
        }
    }
}

#[test]
fn a_scalar_above_the_group_order_is_refused() {
    let key = key(Suite::Ed25519Sha256, 1);
    let mut signature = key.sign(b"message");
    // Adds the order of the group: the same point, another number.
    let order = bytes::<32>("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut carry = 0;
    for (byte, add) in signature.0[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert!(!verify(&key.public(), b"message", &signature));
    let public = key.public();
    let item = VerifyItem { key: &public, message: b"message", signature: &signature };
    assert_eq!(verify_many(&[item; 2]), [false; 2]);
}

#[test]
fn keys_for_which_anyone_can_sign_are_weak_and_others_are_not() {
    for text in SMALL_ORDER {
        assert!(is_weak(&ed25519(text)), "{text}");
    }
    // y = 2 has no x.
    let no_point = "0200000000000000000000000000000000000000000000000000000000000000";
    assert!(is_weak(&ed25519(no_point)));
    // A compressed point begins with 2 or 3.
    assert!(is_weak(&PublicKey::new(Suite::Secp256k1Keccak, &[5; 33]).unwrap()));
    for suite in Suite::ALL {
        assert!(!is_weak(&key(suite, 9).public()));
    }
}

#[test]
fn secp256k1_accounts_are_the_addresses_of_known_keys() {
    let mut one = [0; 32];
    one[31] = 1;
    let table = [
        // The generator's own address.
        (one, "7e5f4552091a69125d5dfcb7b8c2659029395bdf"),
        // The example of Ethereum's improvement proposal 155.
        ([0x46; 32], "9d8a62f656a8d1615c1294fd71e9cfb3e4855a4f"),
    ];
    for (seed, address) in table {
        let key = SecretKey::from_seed(Suite::Secp256k1Keccak, seed);
        assert_eq!(key.account().to_string(), format!("{}{address}", "00".repeat(12)));
    }
}

#[test]
fn bytes_that_are_no_point_have_an_account_apart_and_verify_nothing() {
    let key = PublicKey::new(Suite::Secp256k1Keccak, &[5; 33]).unwrap();
    assert_eq!(account(&key).0[..12], [0xff; 12]);
    assert!(!verify(&key, b"", &Signature([1; 64])));
}

#[test]
fn a_blake2b_account_is_the_hash_of_its_key() {
    let key = key(Suite::Ed25519Blake2b, 3);
    assert_eq!(key.account().0, quipu_crypto::hash::blake2b256(key.public().bytes()).0);
}

#[test]
fn the_higher_s_of_secp256k1_is_refused() {
    let key = key(Suite::Secp256k1Keccak, 4);
    let mut signature = key.sign(b"message");
    assert!(verify(&key.public(), b"message", &signature));
    // The other solution is order - s.
    let order = bytes::<32>("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141");
    let mut borrow = 0;
    for (byte, from) in signature.0[32..].iter_mut().zip(order).rev() {
        let difference = i16::from(from) - i16::from(*byte) - borrow;
        *byte = u8::try_from(difference.rem_euclid(256)).unwrap();
        borrow = i16::from(difference < 0);
    }
    assert!(!verify(&key.public(), b"message", &signature));
}

#[test]
fn a_seed_that_is_no_scalar_still_makes_one_key_of_its_own() {
    let zero = key(Suite::Secp256k1Keccak, 0);
    let top = key(Suite::Secp256k1Keccak, 0xff);
    assert_eq!(zero.public(), key(Suite::Secp256k1Keccak, 0).public());
    assert_ne!(zero.public(), top.public());
    assert!(verify(&zero.public(), b"message", &zero.sign(b"message")));
}

#[test]
fn one_suite_never_verifies_for_another() {
    let plain = key(Suite::Ed25519Sha256, 5);
    let other = key(Suite::Ed25519Blake2b, 5);
    assert_eq!(plain.public().bytes(), other.public().bytes());
    assert!(!verify(&other.public(), b"message", &plain.sign(b"message")));
    assert!(!verify(&plain.public(), b"message", &other.sign(b"message")));
}

#[test]
fn generated_keys_differ_and_print_nothing_secret() {
    let (one, other) = (SecretKey::generate(), SecretKey::generate());
    assert_ne!(one.public(), other.public());
    assert_eq!(one.suite(), Suite::Ed25519Sha256);
    for suite in Suite::ALL {
        let generated = SecretKey::generate_for(suite);
        assert_eq!(generated.suite(), suite);
        assert!(verify(&generated.public(), b"message", &generated.sign(b"message")));
        let known = key(suite, 0x5a);
        let text = format!("{known:?}");
        assert!(text.contains(&known.public().to_string()), "{text}");
        assert!(!text.contains(&"5a".repeat(8)) && !text.contains("90, 90"), "{text}");
    }
}

#[test]
fn a_wiped_key_signs_nothing_that_verifies() {
    for suite in Suite::ALL {
        let mut key = key(suite, 6);
        key.zeroize();
        assert!(!verify(&key.public(), b"message", &key.sign(b"message")), "{suite:?}");
    }
}

#[test]
fn a_signature_counts_only_in_its_domain() {
    let (here, there) = (Hash([1; 32]), Hash([2; 32]));
    for suite in Suite::ALL {
        let key = key(suite, 7);
        let public = key.public();
        let signature = sign_tagged(&key, &here, 3, Tag::Prevote, b"body");
        let verdict = |chain, epoch, tag, body: &[u8]| {
            verify_tagged(&public, chain, epoch, tag, body, &signature)
        };
        assert!(verdict(&here, 3, Tag::Prevote, b"body"));
        assert!(!verdict(&there, 3, Tag::Prevote, b"body"));
        assert!(!verdict(&here, 4, Tag::Prevote, b"body"));
        assert!(!verdict(&here, 3, Tag::Precommit, b"body"));
        assert!(!verdict(&here, 0, Tag::Transaction, b"body"));
        assert!(!verdict(&here, 3, Tag::Prevote, b"bodies"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn many_verdicts_are_single_verdicts_in_any_mix_of_suites(
        entries in prop::collection::vec((0_usize..3, 0_u8..6, any::<Vec<u8>>(), 0_u8..6), 0..40),
    ) {
        let signed: Vec<(PublicKey, Vec<u8>, Signature)> = entries
            .into_iter()
            .map(|(suite, seed, mut message, fault)| {
                let key = key(Suite::ALL[suite], seed);
                let mut signature = key.sign(&message);
                let mut public = key.public();
                match fault {
                    0 => signature.0[usize::from(seed) * 11] ^= 1,
                    1 => message.push(0),
                    2 => public = PublicKey::new(key.suite(), &vec![5; key.suite().key_size()]).unwrap(),
                    _ => assert!(verify(&public, &message, &signature)),
                }
                (public, message, signature)
            })
            .collect();
        let items: Vec<VerifyItem<'_>> = signed
            .iter()
            .map(|(key, message, signature)| VerifyItem { key, message, signature })
            .collect();
        let single: Vec<bool> =
            items.iter().map(|item| verify(item.key, item.message, item.signature)).collect();
        prop_assert_eq!(verify_many(&items), single);
    }

    #[test]
    fn no_bytes_make_a_verdict_panic(
        suite in prop::sample::select(Suite::ALL.to_vec()),
        key: [[u8; 32]; 2],
        message: Vec<u8>,
        signature: [[u8; 32]; 2],
    ) {
        let key = PublicKey::new(suite, &key.as_flattened()[..suite.key_size()]).unwrap();
        let signature = Signature(signature.as_flattened().try_into().unwrap());
        prop_assert!(!verify(&key, &message, &signature));
        let _ = (account(&key), is_weak(&key));
    }
}
