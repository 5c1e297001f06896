//! What the tables hold: keys and values as bytes.
//!
//! ```text
//!  account     AccountId 32                      → balance u64 (zero is not stored)
//!  stream      name                              → creator 32 · height u64 · lane u16 · seqno u64 · spec
//!  event_count name                              → u64 (from 1)
//!  sequence    lane u16 BE · signer              → incarnation u32 · next u64
//!  anchor      header hash 32                    → height u64
//!  receipt     height u64 BE · part u32 BE       → list of receipts, RECEIPTS_PER_PART a part
//!  tx          name 32                           → lane u16 · seqno u64 · height u64 · ordinal u32
//!  state       height u64 BE                     → header hash · time · state root · receipts root · count u32
//!  row, old    `rows`
//!  group       `group`
//!  stake       `stake`
//!  keys, newest, key_trie  `compacted`
//!  meta        "chain" | "format" | "applied"    → 32 | u32 | u64
//! ```
//! Numbers in keys are big endian, so that they sort; in values little endian.

use quipu_types::codec::put_option;
use quipu_types::{
    AccountId, Code, Decode, DecodeError, Encode, Hash, Height, Lane, Position, PublicKey, Reader,
    RouteRule, Seqno, SignedState, StreamSpec, Time, code,
};

/// Receipts that share one stored value.
pub(crate) const RECEIPTS_PER_PART: usize = 1_024;

/// A stream, as it was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Account of who created it.
    pub creator: AccountId,
    /// Height at which it was created.
    pub height: Height,
    /// The creating transaction.
    pub position: Position,
    /// Name, schema, route, writers.
    pub spec: StreamSpec,
    route_column: Option<usize>,
}

impl Stream {
    /// A stream of this specification; `None` when its route names no column of its.
    #[must_use]
    pub fn new(
        creator: AccountId,
        height: Height,
        position: Position,
        spec: StreamSpec,
    ) -> Option<Self> {
        let route_column = match &spec.route {
            RouteRule::Signer => None,
            RouteRule::Column(name) => Some(spec.schema.index_of(name)?),
        };
        Some(Self { creator, height, position, spec, route_column })
    }

    /// The 0-based column that routes it, if one does.
    #[must_use]
    pub const fn route_column(&self) -> Option<usize> {
        self.route_column
    }
}

impl Encode for Stream {
    fn encode(&self, out: &mut Vec<u8>) {
        self.creator.encode(out);
        self.height.encode(out);
        self.position.lane.encode(out);
        self.position.seqno.encode(out);
        self.spec.encode(out);
    }
}

impl Decode for Stream {
    const SIZE_MIN: usize = 32 + 8 + 2 + 8 + StreamSpec::SIZE_MIN;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let creator = AccountId::decode(reader)?;
        let height = Height::decode(reader)?;
        let position = Position { lane: Lane::decode(reader)?, seqno: Seqno::decode(reader)? };
        let spec = StreamSpec::decode(reader)?;
        Self::new(creator, height, position, spec)
            .ok_or(DecodeError::NotCanonical { what: "route column" })
    }
}

/// Where a producer stands in a lane: the next transaction that may be ordered there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The highest incarnation seen.
    pub incarnation: u32,
    /// The sequence its next transaction must have.
    pub next: u64,
}

impl Sequence {
    /// Of a producer that a lane has not seen.
    pub const START: Self = Self { incarnation: 0, next: 1 };

    /// Where the producer stands after a transaction with these numbers, or why it may not stand there.
    ///
    /// The one rule of idempotent producers: admission, the sequencer and execution all ask here.
    pub const fn after(self, incarnation: u32, sequence: u64) -> Result<Self, Code> {
        if incarnation < self.incarnation {
            return Err(code::FENCED);
        }
        let wanted = if incarnation == self.incarnation { self.next } else { 1 };
        if sequence < wanted {
            return Err(code::SEQUENCE_USED);
        }
        match sequence.checked_add(1) {
            Some(next) if sequence == wanted => Ok(Self { incarnation, next }),
            _ => Err(code::SEQUENCE_GAP),
        }
    }
}

impl Encode for Sequence {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.incarnation.to_le_bytes());
        out.extend_from_slice(&self.next.to_le_bytes());
    }
}

impl Decode for Sequence {
    const SIZE_MIN: usize = 12;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { incarnation: reader.u32()?, next: reader.u64()? })
    }
}

/// Where an executed transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxPlace {
    /// Lane and seqno.
    pub position: Position,
    /// The height that ordered it.
    pub height: Height,
    /// Its 0-based place among the height's transactions: the index of its receipt.
    pub ordinal: u32,
}

impl Encode for TxPlace {
    fn encode(&self, out: &mut Vec<u8>) {
        self.position.lane.encode(out);
        self.position.seqno.encode(out);
        self.height.encode(out);
        out.extend_from_slice(&self.ordinal.to_le_bytes());
    }
}

impl Decode for TxPlace {
    const SIZE_MIN: usize = 22;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let position = Position { lane: Lane::decode(reader)?, seqno: Seqno::decode(reader)? };
        Ok(Self { position, height: Height::decode(reader)?, ordinal: reader.u32()? })
    }
}

/// What execution gave at one height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateRecord {
    /// The height.
    pub height: Height,
    /// Hash of its header; the chain id at height 0.
    pub header_hash: Hash,
    /// The header's time.
    pub time_us: Time,
    /// Root of the state after it.
    pub state_root: Hash,
    /// Root over its receipts.
    pub receipts_root: Hash,
    /// How many transactions it ordered.
    pub transaction_count: u32,
    /// Name of the next epoch's set, while that is known and not in force.
    pub next_set: Option<Hash>,
}

impl StateRecord {
    /// What validators sign of it.
    #[must_use]
    pub const fn signed(&self) -> SignedState {
        SignedState {
            height: self.height,
            state_root: self.state_root,
            receipts_root: self.receipts_root,
            next_set: self.next_set,
        }
    }

    /// The stored value; the height is the key.
    pub(crate) fn value(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(141);
        self.header_hash.encode(&mut out);
        self.time_us.encode(&mut out);
        self.state_root.encode(&mut out);
        self.receipts_root.encode(&mut out);
        out.extend_from_slice(&self.transaction_count.to_le_bytes());
        put_option(&mut out, self.next_set.as_ref());
        out
    }

    pub(crate) fn from_value(height: Height, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let record = Self {
            height,
            header_hash: Hash::decode(&mut reader)?,
            time_us: Time::decode(&mut reader)?,
            state_root: Hash::decode(&mut reader)?,
            receipts_root: Hash::decode(&mut reader)?,
            transaction_count: reader.u32()?,
            next_set: reader.option("next_set")?,
        };
        reader.end()?;
        Ok(record)
    }
}

/// Key of a height.
pub(crate) fn height_key(height: Height) -> Vec<u8> {
    height.get().to_be_bytes().to_vec()
}

/// Key of a part of a height's receipts.
pub(crate) fn receipt_key(height: Height, part: u32) -> Vec<u8> {
    let mut key = height_key(height);
    key.extend_from_slice(&part.to_be_bytes());
    key
}

/// Key of a producer in a lane.
pub(crate) fn sequence_key(lane: Lane, signer: &PublicKey) -> Vec<u8> {
    let mut key = lane.get().to_be_bytes().to_vec();
    signer.encode(&mut key);
    key
}

/// The producer that a key names.
pub(crate) fn sequence_of_key(key: &[u8]) -> Result<(Lane, PublicKey), DecodeError> {
    let mut reader = Reader::new(key);
    let lane = Lane::new(u16::from_be_bytes(reader.array()?));
    let signer = PublicKey::decode(&mut reader)?;
    reader.end()?;
    Ok((lane, signer))
}
