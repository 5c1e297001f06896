//! Cases of checking signatures: ed25519 alone and by 128, distinct keys and one; secp256k1.
//!
//! All start from bytes, as a validator does: keys are decompressed within the time.

use quipu_accel::{Accel, Ed25519Item, Secp256k1Item};

use crate::machine::Machine;
use crate::measure::{Case, Owner};

const COUNT: usize = 128;
const MESSAGE_SIZE: usize = 200;

/// Multiplications in the field, a signature: two decompressions of 265; 253 doublings of 8 that a batch shares;
/// additions of 8 in signed windows of 5 bits (253 bits of the key, 128 of a batch's coefficient); windows' tables.
const ALONE: f64 = 2.0 * 265.0 + 253.0 * 8.0 + (42.0 + 28.0) * 8.0 + 64.0;
const DISTINCT: f64 = 2.0 * 265.0 + 16.0 + (42.0 + 21.0) * 8.0 + 128.0;
const ONE_KEY: f64 = 265.0 + 16.0 + 21.0 * 8.0 + 64.0;

/// For secp256k1: 129 doublings of 7 by the endomorphism, 69 additions of 11, a root of 270, an inverse of 300.
const SECP: f64 = 129.0 * 7.0 + 69.0 * 11.0 + 270.0 + 300.0;

#[derive(Clone)]
struct Signed {
    key: [u8; 32],
    message: Vec<u8>,
    signature: [u8; 64],
}

fn signed(key_count: u8) -> Vec<Signed> {
    let one = |index: usize| {
        let number = u8::try_from(index).expect("few");
        let key = ed25519_zebra::SigningKey::from([number % key_count + 1; 32]);
        let message = vec![number; MESSAGE_SIZE];
        let signature = key.sign(&message).to_bytes();
        Signed { key: ed25519_zebra::VerificationKey::from(&key).into(), message, signature }
    };
    (0..COUNT).map(one).collect()
}

fn ours(all: &[Signed]) -> bool {
    let items: Vec<_> = all
        .iter()
        .map(|Signed { key, message, signature }| Ed25519Item { key, message, signature })
        .collect();
    quipu_accel::default().verify_ed25519_many(&items).into_iter().all(|verdict| verdict)
}

fn zebra_batch(all: &[Signed]) -> bool {
    let mut batch = ed25519_zebra::batch::Verifier::new();
    for signed in all {
        let key = ed25519_zebra::VerificationKeyBytes::from(signed.key);
        batch.queue((key, signed.signature.into(), &signed.message));
    }
    batch.verify(rand::rng()).is_ok()
}

fn zebra(signed: &Signed) -> bool {
    ed25519_zebra::VerificationKey::try_from(signed.key)
        .is_ok_and(|key| key.verify(&signed.signature.into(), &signed.message).is_ok())
}

fn dalek_batch(all: &[Signed]) -> bool {
    let messages: Vec<&[u8]> = all.iter().map(|signed| signed.message.as_slice()).collect();
    let signatures: Vec<_> =
        all.iter().map(|signed| ed25519_dalek::Signature::from_bytes(&signed.signature)).collect();
    let keys: Result<Vec<_>, _> =
        all.iter().map(|signed| ed25519_dalek::VerifyingKey::from_bytes(&signed.key)).collect();
    keys.is_ok_and(|keys| ed25519_dalek::verify_batch(&messages, &signatures, &keys).is_ok())
}

fn dalek(signed: &Signed) -> bool {
    use ed25519_dalek::Verifier;
    let signature = ed25519_dalek::Signature::from_bytes(&signed.signature);
    ed25519_dalek::VerifyingKey::from_bytes(&signed.key)
        .is_ok_and(|key| key.verify(&signed.message, &signature).is_ok())
}

fn ring(signed: &Signed) -> bool {
    use ring::signature::{ED25519, UnparsedPublicKey};
    UnparsedPublicKey::new(&ED25519, &signed.key).verify(&signed.message, &signed.signature).is_ok()
}

fn aws(signed: &Signed) -> bool {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    UnparsedPublicKey::new(&ED25519, &signed.key).verify(&signed.message, &signed.signature).is_ok()
}

type Check = Box<dyn Fn(&[Signed]) -> bool>;

fn each(check: fn(&Signed) -> bool) -> Check {
    Box::new(move |all| all.iter().all(check))
}

fn case(what: &'static str, way: &str, all: &[Signed], check: Check, bound: f64) -> Case {
    let all = all.to_vec();
    let mut spoilt = all.clone();
    spoilt[all.len() / 2].signature[40] ^= 1;
    assert!(check(&all) && !check(&spoilt), "{way} says what is valid");
    let owner = if way.starts_with("quipu") { Owner::Ours } else { Owner::Peer };
    let item_count = all.len();
    let run = Box::new(move || assert!(check(&all), "it was valid before"));
    Case { what, way: way.to_owned(), owner, item_count, bound: Some(bound), run }
}

fn secp_case(bound: f64) -> Case {
    let all: Vec<([u8; 33], [u8; 32], [u8; 64])> = (1..=64)
        .map(|number: u8| {
            let key =
                secp256k1::SecretKey::from_secret_bytes([number; 32]).expect("below the order");
            let digest = [number; 32];
            let signature = secp256k1::ecdsa::sign(secp256k1::Message::from_digest(digest), &key);
            let public = secp256k1::PublicKey::from_secret_key(&key).serialize();
            (public, digest, signature.serialize_compact())
        })
        .collect();
    let run = Box::new(move || {
        let items: Vec<_> = all
            .iter()
            .map(|(key, digest, signature)| Secp256k1Item { key, digest, signature })
            .collect();
        let verdicts = quipu_accel::default().verify_secp256k1_many(&items);
        assert!(verdicts.into_iter().all(|verdict| verdict), "they are valid");
    });
    let (what, way) = ("secp256k1", "quipu, 64".to_owned());
    Case { what, way, owner: Owner::Ours, item_count: 64, bound: Some(bound), run }
}

/// Every case of signatures.
pub(crate) fn cases(machine: &Machine) -> Vec<Case> {
    let (distinct, one_key) = (signed(128), signed(1));
    let multiplications = machine.field_multiplications();
    let mut cases = Vec::new();
    let what = "ed25519, alone";
    for (way, check) in [
        ("zebra", each(zebra)),
        ("dalek", each(dalek)),
        ("ring", each(ring)),
        ("aws-lc-rs", each(aws)),
    ] {
        cases.push(case(what, way, &distinct, check, multiplications / ALONE));
    }
    let alone: Check = Box::new(|all| all.chunks(1).all(ours));
    cases.push(case(what, "quipu, 1", &distinct, alone, multiplications / ALONE));
    for (what, all, cost) in
        [("ed25519, 128 keys", &distinct, DISTINCT), ("ed25519, 128 of one key", &one_key, ONE_KEY)]
    {
        let bound = multiplications / cost;
        cases.push(case(what, "zebra, batch of 128", all, Box::new(zebra_batch), bound));
        cases.push(case(what, "dalek, batch of 128", all, Box::new(dalek_batch), bound));
        cases.push(case(what, "ring, one by one", all, each(ring), bound));
        cases.push(case(what, "aws-lc-rs, one by one", all, each(aws), bound));
        cases.push(case(what, "quipu, 128", all, Box::new(ours), bound));
    }
    cases.push(secp_case(machine.field_multiplications_scalar() / SECP));
    cases
}
