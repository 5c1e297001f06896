//! Files that hold a validator's shares of the coin: one JSON object, for its owner's eyes only.
//!
//! ```text
//!  {"version":1,"key":"hex of the group's key","shares":"hex of the shares, 32 bytes each"}
//! ```
//! Made, kept and refused as key files are ([`crate::keyfile`]); without a passphrase, since a validator starts with
//! nobody there to type it. Whoever reads enough of them can throw coins early: that costs liveness, never safety.

use std::path::Path;

use quipu_types::CoinKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::CoinSecret;
use crate::keyfile::{self, KeyFileError, SecretText, VERSION};

/// Most bytes of a file: every share of the largest set, and what stands around them.
const FILE_SIZE_MAX: u64 = 64 << 10;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    key: CoinKey,
    shares: SecretText,
}

/// Write the shares of the coin of `key` to a new file of mode 0600.
///
/// # Errors
/// If something stands at the path already, or the disk refuses.
pub fn save(path: &Path, key: CoinKey, secret: &CoinSecret) -> Result<(), KeyFileError> {
    let shares = SecretText::new(&secret.to_bytes());
    let document = Document { version: VERSION, key, shares };
    keyfile::write_json(path, &document)
}

/// Read the shares of a file, and the coin that they are of.
///
/// # Errors
/// If the file is missing, open to others, or damaged.
pub fn load(path: &Path) -> Result<(CoinKey, CoinSecret), KeyFileError> {
    let bytes = keyfile::read_private(path, FILE_SIZE_MAX)?;
    let document: Document = keyfile::parse(path, &bytes)?;
    if document.version != VERSION {
        let version = document.version;
        return Err(KeyFileError::UnknownVersion { path: path.to_owned(), version });
    }
    let wrong = || KeyFileError::WrongField { path: path.to_owned(), field: "shares" };
    let shares = Zeroizing::new(hex::decode(document.shares.text()).map_err(|_| wrong())?);
    Ok((document.key, CoinSecret::from_bytes(&shares).map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::coin::{CoinScheme, deal};

    #[test]
    fn shares_read_back_and_files_that_others_may_read_or_that_are_damaged_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("coin.key");
        let (setup, secrets) = deal(&[1, 1, 1, 1], &[3; 32]);
        let scheme = CoinScheme::new(&setup, &[1, 1, 1, 1]).expect("a right dealing");
        save(&path, setup.key, &secrets[2]).expect("a new file");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        let (key, secret) = load(&path).expect("its own file");
        assert_eq!(key, setup.key);
        assert!(scheme.fits(quipu_types::ValidatorIndex::new(2), &secret));
        assert!(!scheme.fits(quipu_types::ValidatorIndex::new(1), &secret));
        let again = save(&path, setup.key, &secrets[2]);
        assert!(matches!(again, Err(KeyFileError::Exists { .. })));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("an own file");
        assert!(matches!(load(&path), Err(KeyFileError::TooOpen { .. })));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("an own file");
        let text = fs::read_to_string(&path).expect("an own file");
        for (from, to) in [("\"version\":1", "\"version\":2"), ("shares\":\"", "shares\":\"ff")] {
            fs::write(&path, text.replace(from, to)).expect("an own file");
            assert!(load(&path).is_err(), "{to}");
        }
        assert!(!format!("{secret:?}").contains(&text[150..170]), "shares are not printed");
    }
}
