//! The newest event of each key of a compacted stream, by the state's word: what a server shows, and what shows it.
//!
//! ```text
//!  genesis ─ validators ─> state certificate ─> state root of a height
//!                                                 ├─ path ─> the stream's record: schema, and that it is compacted
//!                                                 └─ path ─> its Keys: how many, and the root of a trie of its own
//!                                                              └─ path ─> every leaf that begins with some bits
//!                                   leaf: SHA-256(key) → SHA-256(Newest) ─> SHA-256 of the payload
//! ```
//! # Invariants
//! * K1 What [`Page::verify`] accepts is, for every key whose hash begins with the page's bits, the newest event of that
//!   key at the certificate's height; and there is no other such key. Pages that follow each other leave no key out.
//! * K2 No bytes make reading or verifying panic, or allocate more than a small multiple of their size.
//!
//! # Limits
//! Each page is of one height. Two pages are of one state when their roots are the same; else the stream changed.
//! A server may show a height that is not the newest: what it shows is true of that height.

use quipu_crypto::hash::sha256;
use quipu_types::codec::{put_bytes, put_list, put_option};
use quipu_types::transaction::{ROUTE_SIZE_MAX, TRANSACTION_SIZE_MAX};
use quipu_types::{
    AccountId, Code, Decode, DecodeError, Encode, Genesis, Hash, Height, Lane, Position, Reader,
    Seqno, StateCertificate, StreamSpec, code,
};
use thiserror::Error;

use crate::certificate::CertificateError;
use crate::pinned::Pinned;
use crate::trie::{
    EMPTY_ROOT, PATH_SIZE_MAX, TrieProof, place_of, subtree_end, verify_subtree, verify_trie,
    zero_bits,
};

/// Tag of the state's table of streams.
pub const STREAM_TAG: u8 = 2;
/// Tag of the state's table of compacted streams' keys.
pub const KEYS_TAG: u8 = 13;
/// Most keys of a page.
pub const PAGE_KEY_COUNT_MAX: usize = 1_024;
/// Most bytes of payloads of a page of more than one key.
pub const PAGE_PAYLOAD_SIZE_MAX: usize = 4 << 20;
/// Most bytes of a page: payloads, keys and paths.
pub const PAGE_SIZE_MAX: usize = 8 << 20;

/// What the state says of a compacted stream, under its name; nothing while it has no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// How many keys it has.
    pub count: u64,
    /// Root of the trie of its keys.
    pub root: Hash,
}

impl Encode for Keys {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_le_bytes());
        self.root.encode(out);
    }
}

impl Decode for Keys {
    const SIZE_MIN: usize = 40;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { count: reader.u64()?, root: Hash::decode(reader)? })
    }
}

/// What the state says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newest {
    /// The height that ordered the key's newest event.
    pub height: Height,
    /// The event's transaction.
    pub position: Position,
    /// 0-based index of its action.
    pub action: u32,
    /// Bytes of its payload.
    pub size: u32,
    /// SHA-256 of its payload.
    pub payload: Hash,
    /// The key.
    pub key: Vec<u8>,
}

impl Newest {
    /// Where a key stands in the trie of its stream.
    #[must_use]
    pub fn place(key: &[u8]) -> Hash {
        sha256(key)
    }

    /// Its leaf in the trie of its stream.
    #[must_use]
    pub fn leaf(&self) -> (Hash, Hash) {
        (Self::place(&self.key), sha256(&self.to_bytes()))
    }
}

impl Encode for Newest {
    fn encode(&self, out: &mut Vec<u8>) {
        self.height.encode(out);
        self.position.lane.encode(out);
        self.position.seqno.encode(out);
        out.extend_from_slice(&self.action.to_le_bytes());
        out.extend_from_slice(&self.size.to_le_bytes());
        self.payload.encode(out);
        put_bytes(out, &self.key);
    }
}

impl Decode for Newest {
    const SIZE_MIN: usize = 8 + 2 + 8 + 4 + 4 + 32 + 4;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            height: Height::decode(reader)?,
            position: Position { lane: Lane::decode(reader)?, seqno: Seqno::decode(reader)? },
            action: reader.u32()?,
            size: reader.u32()?,
            payload: Hash::decode(reader)?,
            key: reader.bytes("event key", ROUTE_SIZE_MAX)?.to_vec(),
        })
    }
}

/// A key with its newest event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the state says.
    pub newest: Newest,
    /// The event's row.
    pub payload: Vec<u8>,
}

impl Encode for Entry {
    fn encode(&self, out: &mut Vec<u8>) {
        self.newest.encode(out);
        put_bytes(out, &self.payload);
    }
}

impl Decode for Entry {
    const SIZE_MIN: usize = Newest::SIZE_MIN + 4;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let newest = Newest::decode(reader)?;
        let payload = reader.bytes("payload", TRANSACTION_SIZE_MAX)?.to_vec();
        Ok(Self { newest, payload })
    }
}

/// The keys whose hashes begin with the first `bits` bits of `start`, and what shows that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Of the height that the page is of.
    pub certificate: StateCertificate,
    /// The stream's record in the state: creator 32 · height u64 · lane u16 · seqno u64 · spec.
    pub record: Vec<u8>,
    /// Path of the record.
    pub record_proof: TrieProof,
    /// What the state says of the stream's keys.
    pub keys: Option<Keys>,
    /// Path of that, or of its absence.
    pub keys_proof: TrieProof,
    /// Where the page begins.
    pub start: Hash,
    /// How many first bits of `start` its keys share; the others are zero.
    pub bits: u16,
    /// Path of the page in the trie of the stream's keys.
    pub proof: TrieProof,
    /// The keys, ascending by hash.
    pub entries: Vec<Entry>,
}

impl Encode for Page {
    fn encode(&self, out: &mut Vec<u8>) {
        self.certificate.encode(out);
        put_bytes(out, &self.record);
        self.record_proof.encode(out);
        put_option(out, self.keys.as_ref());
        self.keys_proof.encode(out);
        self.start.encode(out);
        out.extend_from_slice(&self.bits.to_le_bytes());
        self.proof.encode(out);
        put_list(out, &self.entries);
    }
}

impl Decode for Page {
    const SIZE_MIN: usize = StateCertificate::SIZE_MIN + 4 + 5 + 1 + 5 + 32 + 2 + 5 + 4;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            certificate: StateCertificate::decode(reader)?,
            record: reader.bytes("stream record", TRANSACTION_SIZE_MAX)?.to_vec(),
            record_proof: TrieProof::decode(reader)?,
            keys: reader.option("keys")?,
            keys_proof: TrieProof::decode(reader)?,
            start: Hash::decode(reader)?,
            bits: reader.u16()?,
            proof: TrieProof::decode(reader)?,
            entries: reader.list("entries", PAGE_KEY_COUNT_MAX)?,
        })
    }
}

/// Why a page shows nothing. None of it can come about by accident alone: bytes are checked on their way.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageError {
    /// The bytes are no page.
    #[error("the page does not decode: {0}")]
    Malformed(#[from] DecodeError),
    /// The genesis breaks a rule.
    #[error("the genesis is no valid one")]
    BadGenesis,
    /// No quorum signed the state.
    #[error("the state certificate proves nothing: {0}")]
    Certificate(#[from] CertificateError),
    /// The record is not what the state has of the stream.
    #[error("the record is not the state's record of the stream")]
    Record,
    /// The stream is none of those that keep the newest event of each key.
    #[error("the stream is not compacted")]
    NotCompacted,
    /// The number and root of the keys are not the state's.
    #[error("the number and root of its keys are not what the state has of the stream")]
    Keys,
    /// The page does not begin where the one before it ended.
    #[error("the page begins at {found} with {bits} bits, not at {wanted}")]
    Start {
        /// Where it has to begin.
        wanted: Hash,
        /// Where it says that it begins.
        found: Hash,
        /// How many bits it says that its keys share.
        bits: u16,
    },
    /// A key is missing, is too many, or another event is its newest.
    #[error("the events are not the newest of every key that belongs to the page")]
    Entries,
    /// A payload is not the event's.
    #[error("the payload of action {action} of {lane}:{seqno} is not the event's", lane = position.lane, seqno = position.seqno)]
    Payload {
        /// Whose.
        position: Position,
        /// Which action of it.
        action: u32,
    },
}

impl PageError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Malformed(_) => code::PROOF_MALFORMED,
            Self::BadGenesis => code::GENESIS,
            _ => code::PROOF_FALSE,
        }
    }
}

/// What a page shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The height that it is of.
    pub height: Height,
    /// What the stream is.
    pub spec: StreamSpec,
    /// How many keys the stream has, and their root.
    pub keys: Keys,
    /// Where the next page begins; none behind the last.
    pub next: Option<Hash>,
}

impl Page {
    /// Checks the page of `stream` that begins at `start` against the genesis that the verifier trusts (K1).
    ///
    /// # Errors
    /// Why it shows nothing.
    pub fn verify(
        &self,
        genesis: &Genesis,
        stream: &str,
        start: &Hash,
    ) -> Result<Shown, PageError> {
        let pinned = Pinned::new(genesis).map_err(|_| PageError::BadGenesis)?;
        self.verify_from(&pinned, stream, start)
    }

    /// As [`Self::verify`], by the validators that were followed.
    ///
    /// # Errors
    /// As [`Self::verify`]; also when the page is of an epoch that was not followed.
    pub fn verify_from(
        &self,
        pinned: &Pinned,
        stream: &str,
        start: &Hash,
    ) -> Result<Shown, PageError> {
        let state = &self.certificate.state;
        pinned.verify_state(state.height, &self.certificate)?;
        let root = &state.state_root;

        let place = place_of(STREAM_TAG, stream.as_bytes());
        if !verify_trie(root, &place, Some(&sha256(&self.record)), &self.record_proof) {
            return Err(PageError::Record);
        }
        let spec = spec_of(&self.record)?;
        if !spec.compacted {
            return Err(PageError::NotCompacted);
        }

        let place = place_of(KEYS_TAG, stream.as_bytes());
        let hash = self.keys.map(|keys| sha256(&keys.to_bytes()));
        if !verify_trie(root, &place, hash.as_ref(), &self.keys_proof) {
            return Err(PageError::Keys);
        }
        let keys = self.keys.unwrap_or(Keys { count: 0, root: EMPTY_ROOT });

        let bits = usize::from(self.bits);
        let is_aligned =
            bits <= PATH_SIZE_MAX && zero_bits(&self.start).saturating_add(bits) >= PATH_SIZE_MAX;
        if self.start != *start || !is_aligned {
            let (wanted, found, bits) = (*start, self.start, self.bits);
            return Err(PageError::Start { wanted, found, bits });
        }
        let leaves: Vec<(Hash, Hash)> =
            self.entries.iter().map(|entry| entry.newest.leaf()).collect();
        if !verify_subtree(&keys.root, start, bits, &leaves, &self.proof) {
            return Err(PageError::Entries);
        }
        for Entry { newest, payload } in &self.entries {
            let has_size = u32::try_from(payload.len()) == Ok(newest.size);
            if !has_size || sha256(payload) != newest.payload {
                let (position, action) = (newest.position, newest.action);
                return Err(PageError::Payload { position, action });
            }
        }
        let next = subtree_end(start, bits);
        Ok(Shown { height: state.height, spec, keys, next })
    }
}

/// The specification in a stream's record.
fn spec_of(record: &[u8]) -> Result<StreamSpec, DecodeError> {
    let mut reader = Reader::new(record);
    AccountId::decode(&mut reader)?;
    Height::decode(&mut reader)?;
    Lane::decode(&mut reader)?;
    Seqno::decode(&mut reader)?;
    let spec = StreamSpec::decode(&mut reader)?;
    reader.end()?;
    Ok(spec)
}
