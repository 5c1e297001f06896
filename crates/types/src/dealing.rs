//! What validators say to make the next epoch's coin together: keys, dealings and grievances, as bytes.
//!
//! ```text
//!  Dealing    epoch u64 ‖ dealer u16 ‖ key 96 ‖ t commitments, 96 each ‖ shares, 32 each ‖ proof 48
//!  Grievance  epoch u64 ‖ dealer u16 ‖ receiver u16 ‖ dealing 32 ‖ opening 48
//! ```
//! # Invariants
//! * Bytes only, as in [`crate::coin`]: what they prove is for `quipu-crypto`'s `coin::dealing` to say.
//! # Limits
//! [`COMMITMENT_COUNT_MAX`] commitments and [`COIN_PART_COUNT_MAX`] shares: [`DEALING_SIZE_MAX`] bytes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::agreement::VALIDATOR_COUNT_MAX;
use crate::codec::{Decode, DecodeError, Encode, Reader, put_list};
use crate::coin::{COIN_PART_COUNT_MAX, CoinKey};
use crate::number::{Hash, ValidatorIndex, hex_bytes, write_hex};

/// Most commitments of a dealing: as many as parts make a coin of the largest set.
pub const COMMITMENT_COUNT_MAX: usize = VALIDATOR_COUNT_MAX * 3 + 1;

/// Most bytes of a dealing: 61,730.
pub const DEALING_SIZE_MAX: usize =
    8 + 2 + 96 + 4 + COMMITMENT_COUNT_MAX * 96 + 4 + COIN_PART_COUNT_MAX * 32 + 48;

/// The key under which a validator gets shares: a point of G2, compressed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DealingKey(pub [u8; 96]);

/// Proof that a [`DealingKey`]'s secret is held, by whom: a point of G1, compressed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DealingKeyProof(pub [u8; 48]);

/// A share that its receiver alone can read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SealedShare(pub [u8; 32]);

/// Proof that a dealer knows what it deals: a point of G1, compressed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DealingProof(pub [u8; 48]);

/// What opens one dealing's shares for one receiver, to all: a point of G1, compressed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opening(pub [u8; 48]);

hex_bytes!(DealingKey, 96);
hex_bytes!(DealingKeyProof, 48);
hex_bytes!(SealedShare, 32);
hex_bytes!(DealingProof, 48);
hex_bytes!(Opening, 48);

/// One validator's contribution to an epoch's coin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dealing {
    /// The epoch whose coin it is for.
    pub epoch: u64,
    /// Who deals, in that epoch's set.
    pub dealer: ValidatorIndex,
    /// The dealing's own key, made for it alone: with it, receivers read their shares.
    pub key: CoinKey,
    /// The dealt polynomial's differences at 0, of order 0, 1, …, each times the generator.
    pub commitments: Vec<CoinKey>,
    /// One a virtual share, those of validator 0 first.
    pub shares: Vec<SealedShare>,
    /// That the dealer knows the polynomial's value at 0, and said all of this.
    pub proof: DealingProof,
}

impl Encode for Dealing {
    fn encode(&self, out: &mut Vec<u8>) {
        self.encode_body(out);
        self.proof.encode(out);
    }
}

impl Dealing {
    /// Appends all but the proof: what the proof is of.
    pub fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.epoch.to_le_bytes());
        self.dealer.encode(out);
        self.key.encode(out);
        put_list(out, &self.commitments);
        put_list(out, &self.shares);
    }
}

impl Decode for Dealing {
    const SIZE_MIN: usize = 162;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            epoch: reader.u64()?,
            dealer: ValidatorIndex::decode(reader)?,
            key: CoinKey::decode(reader)?,
            commitments: reader.list("commitments of a dealing", COMMITMENT_COUNT_MAX)?,
            shares: reader.list("shares of a dealing", COIN_PART_COUNT_MAX)?,
            proof: DealingProof::decode(reader)?,
        })
    }
}

/// A receiver's word that a dealing's shares for it are wrong, with what shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grievance {
    /// The epoch whose coin was dealt.
    pub epoch: u64,
    /// Who dealt.
    pub dealer: ValidatorIndex,
    /// Whose shares are wrong.
    pub receiver: ValidatorIndex,
    /// The dealing's digest.
    pub dealing: Hash,
    /// Lets everyone read the receiver's shares of this dealing, and of no other.
    pub opening: Opening,
}

impl Encode for Grievance {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.epoch.to_le_bytes());
        self.dealer.encode(out);
        self.receiver.encode(out);
        self.dealing.encode(out);
        self.opening.encode(out);
    }
}

impl Decode for Grievance {
    const SIZE_MIN: usize = 92;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            epoch: reader.u64()?,
            dealer: ValidatorIndex::decode(reader)?,
            receiver: ValidatorIndex::decode(reader)?,
            dealing: Hash::decode(reader)?,
            opening: Opening::decode(reader)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dealing(commitment_count: usize, share_count: usize) -> Dealing {
        Dealing {
            epoch: 7,
            dealer: ValidatorIndex::new(2),
            key: CoinKey([1; 96]),
            commitments: vec![CoinKey([2; 96]); commitment_count],
            shares: vec![SealedShare([3; 32]); share_count],
            proof: DealingProof([4; 48]),
        }
    }

    #[test]
    fn the_largest_dealing_has_the_size_that_is_named_and_reads_back() {
        let largest = dealing(COMMITMENT_COUNT_MAX, COIN_PART_COUNT_MAX);
        let bytes = largest.to_bytes();
        assert_eq!((bytes.len(), DEALING_SIZE_MAX), (61_730, 61_730));
        assert_eq!(Dealing::from_bytes(&bytes), Ok(largest));
    }

    #[test]
    fn one_commitment_or_share_too_many_is_refused() {
        for (commitments, shares) in
            [(COMMITMENT_COUNT_MAX + 1, 0), (0, COIN_PART_COUNT_MAX + 1), (0, 1 << 20)]
        {
            let bytes = dealing(commitments, shares).to_bytes();
            assert!(matches!(Dealing::from_bytes(&bytes), Err(DecodeError::TooLong { .. })));
        }
    }

    #[test]
    fn counts_that_the_bytes_do_not_hold_are_refused_before_anything_is_reserved() {
        let mut bytes = dealing(0, 0).to_bytes();
        bytes[106..110].copy_from_slice(&385_u32.to_le_bytes());
        assert!(matches!(Dealing::from_bytes(&bytes), Err(DecodeError::Short { .. })));
    }
}
