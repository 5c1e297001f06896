//! The common coin's public values: keys, parts and the coin itself, as bytes on the wire and in files.
//!
//! ```text
//!  CoinKey   96 bytes  a point of G2, compressed     CoinSetup  key ‖ count u32 ‖ W keys of parts
//!  CoinPart  48 bytes  a point of G1, compressed
//!  Coin      48 bytes  a point of G1, compressed
//! ```
//! # Invariants
//! * Bytes only: whether they are points, and of the right group, is for `quipu-crypto`'s `coin` to say, which
//!   checks whatever comes from outside. One point has one encoding (T1).
//! # Limits
//! At most [`COIN_PART_COUNT_MAX`] parts: 74 KB of keys for a full set.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::agreement::VALIDATOR_COUNT_MAX;
use crate::codec::{Decode, DecodeError, Encode, Reader, put_list};
use crate::number::{hex_bytes, write_hex};

/// Most virtual shares of a coin: 6 a validator and one more.
pub const COIN_PART_COUNT_MAX: usize = VALIDATOR_COUNT_MAX * 6 + 1;

/// A public key of the coin, of the group or of one virtual share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoinKey(pub [u8; 96]);

/// What one virtual share gives towards a coin: its signature of the coin's message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoinPart(pub [u8; 48]);

/// A coin: the one signature of its message that verifies under the group's key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Coin(pub [u8; 48]);

hex_bytes!(CoinKey, 96);
hex_bytes!(CoinPart, 48);
hex_bytes!(Coin, 48);

/// What all know of an epoch's coin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoinSetup {
    /// Verifies coins.
    pub key: CoinKey,
    /// Verify parts: one key a virtual share, those of validator 0 first.
    pub parts: Vec<CoinKey>,
}

impl Encode for CoinSetup {
    fn encode(&self, out: &mut Vec<u8>) {
        self.key.encode(out);
        put_list(out, &self.parts);
    }
}

impl Decode for CoinSetup {
    const SIZE_MIN: usize = 100;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let key = CoinKey::decode(reader)?;
        let parts = reader.list("parts of a coin", COIN_PART_COUNT_MAX)?;
        Ok(Self { key, parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setups_read_back_as_bytes_and_as_json_and_too_many_parts_are_refused() {
        let setup = CoinSetup { key: CoinKey([7; 96]), parts: vec![CoinKey([9; 96]); 25] };
        assert_eq!(CoinSetup::from_bytes(&setup.to_bytes()), Ok(setup.clone()));
        let json = serde_json::to_string(&setup).expect("hexadecimal is JSON");
        assert_eq!(serde_json::from_str::<CoinSetup>(&json).expect("our own JSON"), setup);
        let mut bytes = setup.key.to_bytes();
        put_list(&mut bytes, &vec![CoinKey([9; 96]); COIN_PART_COUNT_MAX + 1]);
        assert!(matches!(CoinSetup::from_bytes(&bytes), Err(DecodeError::TooLong { .. })));
    }
}
