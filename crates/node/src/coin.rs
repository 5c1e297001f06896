//! The coin of open rounds: what the genesis deals to all, and the shares that this validator keeps.
//!
//! ```text
//!  genesis.coin ── none: every round is led      coin.key ── missing: others throw the coin
//!               └─ keys of one dealing                    └─ shares that the keys know
//! ```
//! Both are checked before anything is served.

use quipu_crypto::coin::{CoinScheme, CoinSecret, file};
use quipu_crypto::keyfile::KeyFileError;
use quipu_types::{Genesis, ValidatorIndex, ValidatorSet};

use crate::config::Config;
use crate::error::NodeError;

/// What makes coins of parts, if the genesis deals the coin of this set, with the validator's shares, if it has some.
pub(crate) fn load(
    config: &Config,
    genesis: &Genesis,
    set: &ValidatorSet,
    own: ValidatorIndex,
) -> Result<Option<(CoinScheme, Option<CoinSecret>)>, NodeError> {
    let Some(scheme) = scheme(config, genesis)?.filter(|one| Some(one.key()) == set.coin) else {
        return Ok(None);
    };
    let secret = secret(config, &scheme, own)?;
    Ok(Some((scheme, secret)))
}

/// What makes coins of parts, if the genesis deals a coin.
fn scheme(config: &Config, genesis: &Genesis) -> Result<Option<CoinScheme>, NodeError> {
    let powers = genesis.validator_set().powers();
    let scheme = genesis.coin.as_ref().map(|setup| CoinScheme::new(setup, &powers));
    scheme.transpose().map_err(|error| NodeError::Genesis {
        path: config.genesis.clone(),
        reason: format!("its coin: {error}"),
    })
}

/// The validator's shares; none when it has no file of them.
fn secret(
    config: &Config,
    scheme: &CoinScheme,
    own: ValidatorIndex,
) -> Result<Option<CoinSecret>, NodeError> {
    let wrong = |reason: String| NodeError::Key { path: config.coin.clone(), reason };
    let (key, secret) = match file::load(&config.coin) {
        Ok(read) => read,
        Err(KeyFileError::Missing { path }) => {
            tracing::warn!(
                path = %path.display(),
                "no shares of the coin: this validator helps to decide open rounds, and not to throw their coins"
            );
            return Ok(None);
        }
        Err(error) => return Err(wrong(error.to_string())),
    };
    if key != scheme.key() {
        return Err(wrong(format!("its shares are of the coin {key}, the genesis deals another")));
    }
    if !scheme.fits(own, &secret) {
        return Err(wrong("its shares are another validator's".into()));
    }
    Ok(Some(secret))
}
