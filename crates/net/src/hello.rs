//! Who speaks on a link, to whom, over which channel; and why it is not believed.
//!
//! ```text
//!  dialer ── Hello(role dialer) ──> acceptor        each signs with its voting key
//!         <── Hello(role acceptor) or Refusal ──
//!
//!  greeting = 1 u8 │ version u32 │ chain 32 │ validator u16 │ peer u16 │ signature 64      a hello
//!           | 2 u8 │ reason u8                                                            a refusal
//!  signed   = domain of (chain, epoch 0, tag 15) ‖ version u32 │ role u8 │ validator u16 │ peer u16 │ binding 32
//! ```
//! # Invariants
//! * H1 A hello is believed only if the key that the set has for its validator signed the very channel that it
//!   came over: `binding` is a secret that only the two ends of one channel share, so a relay between two
//!   channels shows one end a binding that the other did not sign.
//! * H2 The role and both indices are signed: a hello can not be sent back to who made it, nor to a third.
//! * H3 The first five bytes have this form in every version, so that versions can tell each other apart.
//!
//! # Limits
//! A greeting has at most [`GREETING_SIZE_MAX`] bytes. It hides from nobody who dials or listens which validator speaks.

use quipu_crypto::domain::Tag;
use quipu_crypto::{SecretKey, sign_tagged, verify_tagged};
use quipu_types::codec::{Decode, DecodeError, Encode, Reader};
use quipu_types::{Hash, Signature, ValidatorIndex, ValidatorSet};
use thiserror::Error;

/// The version of what validators say to each other.
pub const PROTOCOL_VERSION: u32 = 1;
/// Most bytes of a greeting of any version.
pub const GREETING_SIZE_MAX: usize = 1_024;
/// Bytes of a channel's binding.
pub const BINDING_SIZE: usize = 32;

const TAG_HELLO: u8 = 1;
const TAG_REFUSAL: u8 = 2;

/// A secret that only the two ends of one channel share.
pub type Binding = [u8; BINDING_SIZE];

/// Which end of a link speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// The end that connected: messages are its own.
    Dialer = 1,
    /// The end that listened: it reads.
    Acceptor = 2,
}

impl Role {
    #[expect(clippy::as_conversions, reason = "the discriminants of a repr(u8) enum are bytes")]
    const fn byte(self) -> u8 {
        self as u8
    }
}

/// What one end says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Version of what it speaks.
    pub version: u32,
    /// The ledger it validates.
    pub chain: Hash,
    /// Who it is.
    pub validator: ValidatorIndex,
    /// Whom it speaks to.
    pub peer: ValidatorIndex,
    /// By its voting key, over role, indices and channel.
    pub signature: Signature,
}

/// Why an end does not take a link, as it tells the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Reason {
    /// The bytes are no hello.
    Malformed = 1,
    /// The other speaks an older version.
    OlderVersion = 2,
    /// The other speaks a newer version.
    NewerVersion = 3,
    /// The other validates another ledger.
    OtherChain = 4,
    /// The set has no such validator.
    UnknownValidator = 5,
    /// The other claims to be the one it speaks to.
    Oneself = 6,
    /// The hello is meant for another validator.
    OtherPeer = 7,
    /// The signature is not by that validator's key over this channel.
    WrongKey = 8,
    /// The other is shut out for a while.
    Banned = 9,
    /// The other has too many connections that begin.
    Busy = 10,
}

impl Reason {
    /// Every reason, in the order of the bytes.
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::OlderVersion,
        Self::NewerVersion,
        Self::OtherChain,
        Self::UnknownValidator,
        Self::Oneself,
        Self::OtherPeer,
        Self::WrongKey,
        Self::Banned,
        Self::Busy,
    ];

    /// The byte that stands for it.
    #[expect(clippy::as_conversions, reason = "the discriminants of a repr(u8) enum are bytes")]
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// Its name in measurements.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::OlderVersion => "older_version",
            Self::NewerVersion => "newer_version",
            Self::OtherChain => "other_chain",
            Self::UnknownValidator => "unknown_validator",
            Self::Oneself => "oneself",
            Self::OtherPeer => "other_peer",
            Self::WrongKey => "wrong_key",
            Self::Banned => "banned",
            Self::Busy => "busy",
        }
    }

    /// What it means to who was refused.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "it can not read our hello",
            Self::OlderVersion => "we speak an older protocol version than it",
            Self::NewerVersion => "we speak a newer protocol version than it",
            Self::OtherChain => "it validates another ledger",
            Self::UnknownValidator => "its validator set does not have our index",
            Self::Oneself => "it is the validator that we claim to be",
            Self::OtherPeer => "it is another validator than the one we dialed",
            Self::WrongKey => "its set has another key for us, or somebody stands between",
            Self::Banned => "it has shut us out for a while, for what we sent",
            Self::Busy => "it is busy with earlier connections of ours",
        }
    }
}

/// Why a hello is not believed. The sender is to blame, or the operator who configured one of both.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HelloError {
    /// The bytes are no hello.
    #[error("the hello does not decode: {0}")]
    Malformed(#[from] DecodeError),
    /// It comes from an older version.
    #[error(
        "the other speaks protocol version {version}, older than {PROTOCOL_VERSION}: upgrade it"
    )]
    OlderVersion {
        /// What the other speaks.
        version: u32,
    },
    /// It comes from a newer version.
    #[error(
        "the other speaks protocol version {version}, newer than {PROTOCOL_VERSION}: upgrade this one"
    )]
    NewerVersion {
        /// What the other speaks.
        version: u32,
    },
    /// It comes from a validator of another ledger.
    #[error("the other validates ledger {chain}: start both with the same genesis file")]
    OtherChain {
        /// Which.
        chain: Hash,
    },
    /// The set has no such validator.
    #[error("the other says it is validator {validator}, which the validator set does not have")]
    UnknownValidator {
        /// Who it says it is.
        validator: ValidatorIndex,
    },
    /// It claims to be who receives it.
    #[error(
        "the other says it is this very validator: an address leads here, or one key runs twice"
    )]
    Oneself,
    /// It comes from another validator than the one that was dialed, or is meant for another.
    #[error(
        "the address leads to validator {found} instead of validator {wanted}: compare the addresses of the peers"
    )]
    OtherPeer {
        /// Who was dialed.
        wanted: ValidatorIndex,
        /// Who listens there.
        found: ValidatorIndex,
    },
    /// The signature does not verify.
    #[error(
        "validator {validator} did not sign this channel with its key of the validator set: compare genesis and keys, or look for who stands between"
    )]
    WrongKey {
        /// Who it says it is.
        validator: ValidatorIndex,
    },
}

impl HelloError {
    /// What the other is told.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Malformed(_) => Reason::Malformed,
            Self::OlderVersion { .. } => Reason::OlderVersion,
            Self::NewerVersion { .. } => Reason::NewerVersion,
            Self::OtherChain { .. } => Reason::OtherChain,
            Self::UnknownValidator { .. } => Reason::UnknownValidator,
            Self::Oneself => Reason::Oneself,
            Self::OtherPeer { .. } => Reason::OtherPeer,
            Self::WrongKey { .. } => Reason::WrongKey,
        }
    }
}

/// Against what a hello is held.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The ledger.
    pub chain: &'a Hash,
    /// Its validators.
    pub set: &'a ValidatorSet,
    /// Who receives the hello.
    pub own: ValidatorIndex,
    /// The role of who sent it.
    pub role: Role,
    /// Whom the receiver dialed, if it did.
    pub dialed: Option<ValidatorIndex>,
    /// The channel that it came over.
    pub binding: &'a Binding,
}

impl Expected<'_> {
    /// Who sent `hello`.
    ///
    /// # Errors
    /// When it is not to be believed.
    pub fn check(&self, hello: &Hello) -> Result<ValidatorIndex, HelloError> {
        check_version(hello.version)?;
        if hello.chain != *self.chain {
            return Err(HelloError::OtherChain { chain: hello.chain });
        }
        let Some(validator) = self.set.get(hello.validator) else {
            return Err(HelloError::UnknownValidator { validator: hello.validator });
        };
        if hello.validator == self.own {
            return Err(HelloError::Oneself);
        }
        if hello.peer != self.own {
            return Err(HelloError::OtherPeer { wanted: hello.peer, found: self.own });
        }
        if let Some(wanted) = self.dialed.filter(|wanted| *wanted != hello.validator) {
            return Err(HelloError::OtherPeer { wanted, found: hello.validator });
        }
        let body = hello.signed_body(self.role, self.binding);
        let signature = &hello.signature;
        if !verify_tagged(&validator.key, self.chain, 0, Tag::Link, &body, signature) {
            return Err(HelloError::WrongKey { validator: hello.validator });
        }
        Ok(hello.validator)
    }
}

/// That a version is ours.
fn check_version(version: u32) -> Result<(), HelloError> {
    match version.cmp(&PROTOCOL_VERSION) {
        std::cmp::Ordering::Less => Err(HelloError::OlderVersion { version }),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(HelloError::NewerVersion { version }),
    }
}

impl Hello {
    /// The hello of `validator` to `peer`, signed for one channel.
    #[must_use]
    pub fn sign(
        key: &SecretKey,
        chain: &Hash,
        (validator, peer): (ValidatorIndex, ValidatorIndex),
        role: Role,
        binding: &Binding,
    ) -> Self {
        let signature = Signature([0; 64]);
        let version = PROTOCOL_VERSION;
        let mut hello = Self { version, chain: *chain, validator, peer, signature };
        let body = hello.signed_body(role, binding);
        hello.signature = sign_tagged(key, chain, 0, Tag::Link, &body);
        hello
    }

    /// What the signature covers.
    #[must_use]
    pub fn signed_body(&self, role: Role, binding: &Binding) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.version.to_le_bytes());
        out.push(role.byte());
        self.validator.encode(&mut out);
        self.peer.encode(&mut out);
        out.extend_from_slice(binding);
        out
    }
}

/// The first and only thing that an end says before messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Who it is.
    Hello(Hello),
    /// That it does not take the link.
    Refusal(Reason),
}

impl Answer {
    /// The bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Hello(hello) => {
                out.push(TAG_HELLO);
                out.extend_from_slice(&hello.version.to_le_bytes());
                hello.chain.encode(&mut out);
                hello.validator.encode(&mut out);
                hello.peer.encode(&mut out);
                hello.signature.encode(&mut out);
            }
            Self::Refusal(reason) => out.extend_from_slice(&[TAG_REFUSAL, reason.byte()]),
        }
        out
    }

    /// What the bytes say.
    ///
    /// # Errors
    /// When they are no greeting, or a hello of another version, whose rest is not read (H3).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HelloError> {
        let mut reader = Reader::new(bytes);
        let answer = match reader.u8()? {
            TAG_HELLO => {
                let version = reader.u32()?;
                check_version(version)?;
                Self::Hello(Hello {
                    version,
                    chain: Hash::decode(&mut reader)?,
                    validator: ValidatorIndex::decode(&mut reader)?,
                    peer: ValidatorIndex::decode(&mut reader)?,
                    signature: Signature::decode(&mut reader)?,
                })
            }
            TAG_REFUSAL => {
                let byte = reader.u8()?;
                let reason = Reason::ALL.into_iter().find(|reason| reason.byte() == byte);
                let unknown = DecodeError::Tag { what: "reason", tag: u64::from(byte) };
                Self::Refusal(reason.ok_or(unknown)?)
            }
            tag => return Err(DecodeError::Tag { what: "greeting", tag: u64::from(tag) }.into()),
        };
        reader.end()?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests;
