//! Stake: who validates, with which bond, the evidence that costs it, and the next epoch's coin, as actions of the ledger.
//!
//! ```text
//!  Register ─> a slot, no power ── Bond ─> power in the next set ── Unbond ─> locked ── its time ── Withdraw
//!                                             └── Evidence: bond and locked units are slashed, no power any more
//!  DealingKey ─> shares can be dealt to a validator      a set differs ── Deal, by each of it ── Grieve ─> its coin
//! ```
//! * Who signs a Register is the validator's **owner**; the voting key only votes, and signs no transaction.
//! * A possession names the owner, so that nobody else can use it.
//! * Evidence is not decoded here: who executes it knows votes, this crate's readers need not. Votes do not say their epoch,
//!   their signatures cover it; so it stands beside them.
//! * Who signs DealingKey, Deal and Grieve as transactions is nobody in particular: they say by themselves whose they are.

use crate::codec::{Decode, DecodeError, Encode, Reader, put_bytes};
use crate::dealing::{Dealing, DealingKey, DealingKeyProof, Grievance};
use crate::number::{AccountId, PublicKey, Signature};
use crate::transaction::TRANSACTION_SIZE_MAX;

/// Most bytes of a validator's name.
pub const VALIDATOR_NAME_SIZE_MAX: usize = 64;
/// Most bytes of a validator's address.
pub const ADDRESS_SIZE_MAX: usize = 256;
/// Most bytes of evidence: what a transaction holds beside the rest of it.
pub const EVIDENCE_SIZE_MAX: usize = TRANSACTION_SIZE_MAX - 1_024;

/// What is done to stake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StakeAction {
    /// Make a voting key a validator's; the signer is its owner.
    Register {
        /// The voting key.
        key: PublicKey,
        /// The key's signature over [`possession_body`]: tag `Possession`, this ledger's chain id, epoch 0.
        possession: Signature,
        /// For people: [`check_validator_name`].
        name: String,
        /// Where the other validators find it: [`check_address`].
        address: String,
    },
    /// Move units from the owner's balance to the bond.
    Bond {
        /// The voting key.
        key: PublicKey,
        /// Units, at least 1.
        amount: u64,
    },
    /// Take units from the bond; they stay locked for a time.
    Unbond {
        /// The voting key.
        key: PublicKey,
        /// Units, at least 1.
        amount: u64,
    },
    /// Move what is locked no more to the owner's balance.
    Withdraw {
        /// The voting key.
        key: PublicKey,
    },
    /// Say another address.
    Move {
        /// The voting key.
        key: PublicKey,
        /// As in `Register`.
        address: String,
    },
    /// Show two signed things that no honest validator signs both. Anyone may.
    Evidence {
        /// The epoch in which they were signed.
        epoch: u64,
        /// The evidence, as consensus encodes it.
        bytes: Vec<u8>,
    },
    /// Make a key the one under which a validator is dealt shares of coins.
    DealingKey {
        /// The voting key.
        key: PublicKey,
        /// The key for shares.
        dealing: DealingKey,
        /// That its secret is held for this voting key.
        proof: DealingKeyProof,
        /// The voting key's signature over `dealing`: tag `DealingKey`, this ledger's chain id, the current epoch.
        signature: Signature,
    },
    /// Deal the coin of the epoch whose set is proposed.
    Deal {
        /// What is dealt.
        dealing: Dealing,
        /// The dealer's voting key's signature over it: tag `Deal`, this ledger's chain id, the dealing's epoch.
        signature: Signature,
    },
    /// Show that a dealing's shares are wrong.
    Grieve(Grievance),
}

/// What a voting key signs to be registered by an owner.
#[must_use]
pub fn possession_body(key: &PublicKey, owner: &AccountId) -> Vec<u8> {
    let mut out = key.to_bytes();
    owner.encode(&mut out);
    out
}

/// Whether a validator may be called so.
///
/// # Errors
/// What a name has to be.
pub fn check_validator_name(name: &str) -> Result<(), String> {
    let sizes = 1..=VALIDATOR_NAME_SIZE_MAX;
    if sizes.contains(&name.len()) && !name.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(format!("name {name:?}: 1 to {VALIDATOR_NAME_SIZE_MAX} bytes, no control characters"))
    }
}

/// Whether a validator can be looked for there.
///
/// # Errors
/// What an address has to be.
pub fn check_address(address: &str) -> Result<(), String> {
    let is_host =
        |host: &str| !host.is_empty() && !host.chars().any(|c| c.is_control() || c.is_whitespace());
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    let parts = address.rsplit_once(':').filter(|_| address.len() <= ADDRESS_SIZE_MAX);
    if parts.is_some_and(|(host, port)| is_host(host) && is_port(port)) {
        Ok(())
    } else {
        Err(format!("address {address:?}: host:port, at most {ADDRESS_SIZE_MAX} bytes, no spaces"))
    }
}

impl Encode for StakeAction {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Register { key, possession, name, address } => {
                out.push(0);
                key.encode(out);
                possession.encode(out);
                put_bytes(out, name.as_bytes());
                put_bytes(out, address.as_bytes());
            }
            Self::Bond { key, amount } => {
                out.push(1);
                key.encode(out);
                out.extend_from_slice(&amount.to_le_bytes());
            }
            Self::Unbond { key, amount } => {
                out.push(2);
                key.encode(out);
                out.extend_from_slice(&amount.to_le_bytes());
            }
            Self::Withdraw { key } => {
                out.push(3);
                key.encode(out);
            }
            Self::Move { key, address } => {
                out.push(4);
                key.encode(out);
                put_bytes(out, address.as_bytes());
            }
            Self::Evidence { epoch, bytes } => {
                out.push(5);
                out.extend_from_slice(&epoch.to_le_bytes());
                put_bytes(out, bytes);
            }
            Self::DealingKey { key, dealing, proof, signature } => {
                out.push(6);
                key.encode(out);
                dealing.encode(out);
                proof.encode(out);
                signature.encode(out);
            }
            Self::Deal { dealing, signature } => {
                out.push(7);
                dealing.encode(out);
                signature.encode(out);
            }
            Self::Grieve(grievance) => {
                out.push(8);
                grievance.encode(out);
            }
        }
    }
}

impl Decode for StakeAction {
    const SIZE_MIN: usize = 13;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            0 => Self::Register {
                key: PublicKey::decode(reader)?,
                possession: Signature::decode(reader)?,
                name: decode_name(reader)?,
                address: decode_address(reader)?,
            },
            1 => Self::Bond { key: PublicKey::decode(reader)?, amount: decode_amount(reader)? },
            2 => Self::Unbond { key: PublicKey::decode(reader)?, amount: decode_amount(reader)? },
            3 => Self::Withdraw { key: PublicKey::decode(reader)? },
            4 => Self::Move { key: PublicKey::decode(reader)?, address: decode_address(reader)? },
            5 => Self::Evidence {
                epoch: reader.u64()?,
                bytes: reader.bytes("evidence", EVIDENCE_SIZE_MAX)?.to_vec(),
            },
            6 => Self::DealingKey {
                key: PublicKey::decode(reader)?,
                dealing: DealingKey::decode(reader)?,
                proof: DealingKeyProof::decode(reader)?,
                signature: Signature::decode(reader)?,
            },
            7 => Self::Deal {
                dealing: Dealing::decode(reader)?,
                signature: Signature::decode(reader)?,
            },
            8 => Self::Grieve(Grievance::decode(reader)?),
            tag => return Err(DecodeError::Tag { what: "stake action", tag: u64::from(tag) }),
        })
    }
}

fn decode_name(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let name = reader.text("validator's name", VALIDATOR_NAME_SIZE_MAX)?;
    check_validator_name(name)
        .map_err(|_| DecodeError::NotCanonical { what: "validator's name" })?;
    Ok(name.to_owned())
}

fn decode_address(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let address = reader.text("address", ADDRESS_SIZE_MAX)?;
    check_address(address).map_err(|_| DecodeError::NotCanonical { what: "address" })?;
    Ok(address.to_owned())
}

fn decode_amount(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    match reader.u64()? {
        0 => Err(DecodeError::NotCanonical { what: "amount of nothing" }),
        amount => Ok(amount),
    }
}
