//! Numbers and names that must not mix, each a type of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::{Decode, DecodeError, Encode, Reader};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($inner);

        impl $name {
            /// The number `value`.
            #[must_use]
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The plain number.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }

            /// The number after this one.
            ///
            /// # Panics
            /// At the end of the type's range, which no ledger reaches: one step a microsecond
            /// takes longer than its hardware lasts, and smaller counters are bounded by genesis.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.checked_add(1).expect("counters do not wrap in a ledger's life"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.0.to_le_bytes());
            }
        }

        impl Decode for $name {
            const SIZE_MIN: usize = size_of::<$inner>();

            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self(<$inner>::from_le_bytes(reader.array()?)))
            }
        }
    };
}

number!(
    /// Number of a committed header. The genesis stands at `0`, the first header at `1`.
    Height, u64
);
number!(
    /// Number of a transaction in its lane. Dense: the first is `1`, `0` is "nothing yet".
    Seqno, u64
);
number!(
    /// One hash-shard of the log, 0-based and below the genesis' lane count.
    Lane, u16
);
number!(
    /// One reign of a sequencer over a lane. The first is `1`.
    Term, u64
);
number!(
    /// A validator's place in its epoch's set, 0-based.
    ValidatorIndex, u16
);
number!(
    /// Microseconds since 1970-01-01T00:00:00Z, as agreed in a header.
    Time, u64
);

/// Two digits a byte, without an allocation.
pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let mut digits = [0; 64];
    for part in bytes.chunks(32) {
        let text = digits.get_mut(..part.len().saturating_mul(2)).ok_or(fmt::Error)?;
        hex::encode_to_slice(part, text).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(text).map_err(|_| fmt::Error)?)?;
    }
    Ok(())
}

/// 32 bytes: a digest, or a value that stands for one.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// All zero: "none", never the digest of anything.
    pub const ZERO: Self = Self([0; 32]);

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The key that a transfer names: how it follows from a public key is its suite's affair.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub [u8; 32]);

/// A signature of any suite: all are 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature(pub [u8; 64]);

macro_rules! hex_bytes {
    ($name:ident, $size:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl std::str::FromStr for $name {
            type Err = DecodeError;

            /// Lower-case hexadecimal only: one value has one text (T1).
            fn from_str(text: &str) -> Result<Self, DecodeError> {
                let wrong = DecodeError::NotCanonical { what: stringify!($name) };
                if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    return Err(wrong);
                }
                let mut bytes = [0; $size];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| wrong)?;
                Ok(Self(bytes))
            }
        }

        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.0);
            }
        }

        impl Decode for $name {
            const SIZE_MIN: usize = $size;

            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self(reader.array()?))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use hex_bytes;

hex_bytes!(Hash, 32);
hex_bytes!(AccountId, 32);
hex_bytes!(Signature, 64);

/// A signature scheme with its message digest and address rule. Chosen at run time, by tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suite {
    /// ed25519 (ZIP-215) over the message; the account is the key.
    Ed25519Sha256,
    /// ed25519 (ZIP-215) over the message's BLAKE2b-256; the account is the key's BLAKE2b-256.
    Ed25519Blake2b,
    /// ECDSA on secp256k1 over the message's keccak-256; the account is the keccak address.
    Secp256k1Keccak,
}

impl Suite {
    /// Every suite, in the order of the tags.
    pub const ALL: [Self; 3] = [Self::Ed25519Sha256, Self::Ed25519Blake2b, Self::Secp256k1Keccak];

    /// The byte that stands for the suite.
    #[must_use]
    pub const fn tag(self) -> u8 {
        match self {
            Self::Ed25519Sha256 => 1,
            Self::Ed25519Blake2b => 2,
            Self::Secp256k1Keccak => 3,
        }
    }

    /// The suite of a tag.
    #[must_use]
    pub fn from_tag(tag: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.tag() == tag)
    }

    /// Size of a public key in bytes.
    #[must_use]
    pub const fn key_size(self) -> usize {
        match self {
            Self::Ed25519Sha256 | Self::Ed25519Blake2b => 32,
            Self::Secp256k1Keccak => 33,
        }
    }
}

/// Bytes of the longest public key.
const KEY_SIZE_MAX: usize = 33;

/// A public key with its suite. Encoded as the tag and the key's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey {
    suite: Suite,
    /// Zero beyond the suite's size.
    bytes: [u8; KEY_SIZE_MAX],
}

impl PublicKey {
    /// The key of `suite` with these bytes; whether they are a point is for the suite to say.
    pub fn new(suite: Suite, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let key = Self::read(suite, &mut reader)?;
        reader.end()?;
        Ok(key)
    }

    fn read(suite: Suite, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let source = reader.take(suite.key_size())?;
        let mut bytes = [0; KEY_SIZE_MAX];
        for (to, from) in bytes.iter_mut().zip(source) {
            *to = *from;
        }
        Ok(Self { suite, bytes })
    }

    /// The suite.
    #[must_use]
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// The key's bytes: 32 or 33.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.suite.key_size()).expect("a key's size is at most KEY_SIZE_MAX")
    }
}

impl Encode for PublicKey {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.suite.tag());
        out.extend_from_slice(self.bytes());
    }
}

impl Decode for PublicKey {
    const SIZE_MIN: usize = 33;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let tag = reader.u8()?;
        let suite =
            Suite::from_tag(tag).ok_or(DecodeError::Tag { what: "suite", tag: u64::from(tag) })?;
        Self::read(suite, reader)
    }
}

impl fmt::Display for PublicKey {
    /// The encoding in hexadecimal: suite tag first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.to_bytes())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for PublicKey {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let wrong = DecodeError::NotCanonical { what: "PublicKey" };
        if text.len() > 68 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(wrong);
        }
        Self::from_bytes(&hex::decode(text).map_err(|_| wrong)?)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a transaction stands: `LANE:SEQNO` in text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The lane.
    pub lane: Lane,
    /// The number in the lane.
    pub seqno: Seqno,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.lane, self.seqno)
    }
}

impl std::str::FromStr for Position {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let wrong = DecodeError::NotCanonical { what: "position, LANE:SEQNO" };
        let (lane, seqno) = text.split_once(':').ok_or(wrong.clone())?;
        let lane = lane.parse().map_err(|_| wrong.clone())?;
        let seqno = seqno.parse().map_err(|_| wrong)?;
        Ok(Self { lane: Lane::new(lane), seqno: Seqno::new(seqno) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_keys_and_positions_read_back_and_upper_case_is_refused() {
        let key = PublicKey::new(Suite::Ed25519Blake2b, &[0xab; 32]).expect("32 bytes");
        assert_eq!(key.to_string().parse(), Ok(key));
        assert!(key.to_string().to_uppercase().parse::<PublicKey>().is_err());
        assert!(PublicKey::new(Suite::Secp256k1Keccak, &[2; 32]).is_err());
        let position = Position { lane: Lane::new(3), seqno: Seqno::new(120) };
        assert_eq!("3:120".parse(), Ok(position));
        assert!("3".parse::<Position>().is_err());
        assert!("70000:1".parse::<Position>().is_err());
    }
}
