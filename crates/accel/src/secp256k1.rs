//! Check ECDSA signatures over secp256k1, one after another, by libsecp256k1.
//!
//! There is no equation that checks many at once: r keeps only one coordinate of a point. And this starts no threads:
//! who has many of them (admission does) cuts them into parts and runs the parts over the cores.

use secp256k1::{Message, PublicKey, ecdsa};

use crate::Secp256k1Item;

/// Verdicts in order.
pub(crate) fn verify_many(items: &[Secp256k1Item<'_>]) -> Vec<bool> {
    items.iter().map(verify).collect()
}

fn verify(item: &Secp256k1Item<'_>) -> bool {
    let Ok(point) = PublicKey::from_slice(item.key) else { return false };
    let Ok(signature) = ecdsa::Signature::from_compact(item.signature) else { return false };
    let mut lower = signature;
    lower.normalize_s();
    let digest = Message::from_digest(*item.digest);
    lower == signature && ecdsa::verify(&signature, digest, &point).is_ok()
}
