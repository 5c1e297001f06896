//! The key by which a validator reads the shares that others deal to it.
//!
//! ```text
//!  {"version":1,"key":"hex of the public key","secret":"hex of the secret, 32 bytes"}
//! ```
//! A file of it is made, kept and refused as a coin's file of shares is ([`crate::coin::file`]). It serves for every epoch.
//! Whoever reads it, and the dealings of an epoch, knows that validator's shares of that epoch's coin.

use std::fmt;
use std::path::Path;

use blst::min_sig;
use quipu_types::{DealingKey, DealingKeyProof, Encode, Hash, PublicKey, Suite};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::coin::verify_by;
use crate::hash::sha256_concat;
use crate::keyfile::{self, KeyFileError, SecretText, VERSION};
use crate::suite::SecretKey;

/// Ties proofs of possession to this use of a key.
const DOMAIN: &[u8] = b"QUIPU-DEAL-KEY-V01-CS01-with-BLS12381G1_XMD:SHA-256_SSWU_RO_";

/// Salt of the secret that follows from a seed.
const KEY_SALT: &[u8] = b"quipu/dealing/key/1";

/// What the seed of the carrier's key begins with.
const CARRIER_DOMAIN: &[u8] = b"quipu/dealing/carrier/1";

/// Most bytes of a file.
const FILE_SIZE_MAX: u64 = 4_096;

/// Reads what is dealt to a validator. Wiped when dropped, and never printed.
pub struct DecryptionKey(pub(super) min_sig::SecretKey);

impl DecryptionKey {
    /// The key that follows from `seed`.
    ///
    /// # Panics
    /// Never: a seed has 32 bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let secret = min_sig::SecretKey::key_gen_v5(seed, KEY_SALT, &[]);
        Self(secret.expect("a seed has 32 bytes"))
    }

    /// A new key, that the operating system draws.
    ///
    /// # Panics
    /// If the system gives no randomness.
    #[must_use]
    pub fn draw() -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).expect("the operating system gives randomness");
        Self::from_seed(&seed)
    }

    /// Under which others deal to this key.
    #[must_use]
    pub fn public(&self) -> DealingKey {
        DealingKey(self.0.sk_to_pk().to_bytes())
    }

    /// Shows that the validator of the voting key `owner` holds this key's secret.
    #[must_use]
    pub fn prove(&self, chain: &Hash, owner: &PublicKey) -> DealingKeyProof {
        let message = message(chain, owner, &self.public());
        DealingKeyProof(self.0.sign(&message, DOMAIN, &[]).to_bytes())
    }

    /// The key that signs the transactions which bring what this validator says of dealings into the order. It follows from
    /// this one, so that nothing else is kept, and has no role beside that.
    #[must_use]
    pub fn carrier(&self) -> SecretKey {
        let seed = Zeroizing::new(self.0.to_bytes());
        SecretKey::from_seed(Suite::Ed25519Sha256, sha256_concat(&[CARRIER_DOMAIN, &*seed]).0)
    }

    /// Write the key to a new file of mode 0600.
    ///
    /// # Errors
    /// If something stands at the path already, or the disk refuses.
    pub fn save(&self, path: &Path) -> Result<(), KeyFileError> {
        let secret = SecretText::new(&*Zeroizing::new(self.0.to_bytes()));
        let document = Document { version: VERSION, key: self.public(), secret };
        keyfile::write_json(path, &document)
    }

    /// Read the key of a file.
    ///
    /// # Errors
    /// If the file is missing, open to others, or damaged.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let bytes = keyfile::read_private(path, FILE_SIZE_MAX)?;
        let document: Document = keyfile::parse(path, &bytes)?;
        if document.version != VERSION {
            let version = document.version;
            return Err(KeyFileError::UnknownVersion { path: path.to_owned(), version });
        }
        let wrong = |field| KeyFileError::WrongField { path: path.to_owned(), field };
        let mut secret = Zeroizing::new([0; 32]);
        hex::decode_to_slice(document.secret.text(), &mut *secret).map_err(|_| wrong("secret"))?;
        let key = min_sig::SecretKey::from_bytes(&*secret).map_err(|_| wrong("secret"))?;
        let key = Self(key);
        if key.public() == document.key { Ok(key) } else { Err(wrong("key")) }
    }
}

impl fmt::Debug for DecryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecryptionKey").field("public", &self.public()).finish_non_exhaustive()
    }
}

/// Whether `proof` shows that the validator of the voting key `owner` holds the secret of `key`, a point of its group.
#[must_use]
pub fn verify_key(
    chain: &Hash,
    owner: &PublicKey,
    key: &DealingKey,
    proof: &DealingKeyProof,
) -> bool {
    min_sig::PublicKey::key_validate(&key.0)
        .is_ok_and(|point| verify_by(&point, &message(chain, owner, key), DOMAIN, &proof.0))
}

fn message(chain: &Hash, owner: &PublicKey, key: &DealingKey) -> Vec<u8> {
    let mut bytes = chain.to_bytes();
    key.encode(&mut bytes);
    owner.encode(&mut bytes);
    bytes
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    key: DealingKey,
    secret: SecretText,
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_read_back_and_files_that_others_may_read_or_that_are_damaged_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("dealing.key");
        let key = DecryptionKey::from_seed(&[3; 32]);
        key.save(&path).expect("a new file");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        let read = DecryptionKey::load(&path).expect("its own file");
        assert_eq!(read.0.to_bytes(), key.0.to_bytes());
        assert!(matches!(key.save(&path), Err(KeyFileError::Exists { .. })));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("an own file");
        assert!(matches!(DecryptionKey::load(&path), Err(KeyFileError::TooOpen { .. })));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("an own file");
        let text = fs::read_to_string(&path).expect("an own file");
        let other = DecryptionKey::from_seed(&[4; 32]).public().to_string();
        let own = key.public().to_string();
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("secret\":\"", "secret\":\"ff"),
            (own.as_str(), other.as_str()),
            ("\"version\"", "\"more\":1,\"version\""),
        ] {
            fs::write(&path, text.replace(from, to)).expect("an own file");
            assert!(DecryptionKey::load(&path).is_err(), "{to}");
        }
        let secret = hex::encode(key.0.to_bytes());
        assert!(text.contains(&secret) && !format!("{key:?}").contains(&secret[..8]));
    }

    #[test]
    fn a_proof_is_of_one_key_one_owner_and_one_chain() {
        let key = DecryptionKey::from_seed(&[3; 32]);
        let other = DecryptionKey::from_seed(&[4; 32]);
        let owner = |byte| {
            crate::SecretKey::from_seed(quipu_types::Suite::Ed25519Sha256, [byte; 32]).public()
        };
        let (chain, proof) = (Hash([1; 32]), key.prove(&Hash([1; 32]), &owner(1)));
        let holds = |chain, owner, key: &DecryptionKey, proof| {
            verify_key(&chain, &owner, &key.public(), &proof)
        };
        assert!(holds(chain, owner(1), &key, proof));
        assert!(!holds(Hash([2; 32]), owner(1), &key, proof));
        assert!(!holds(chain, owner(2), &key, proof));
        assert!(!holds(chain, owner(1), &other, proof));
        assert!(!holds(chain, owner(1), &key, other.prove(&chain, &owner(1))));
        let identity: [u8; 48] = std::array::from_fn(|place| if place == 0 { 0xc0 } else { 0 });
        for bytes in [[0; 48], [0xff; 48], identity] {
            assert!(!holds(chain, owner(1), &key, DealingKeyProof(bytes)));
        }
    }
}
