//! Transactions: an ordered, atomic list of actions under one signature.
//!
//! ```text
//!  transaction = 0x01 compact transfer, exactly 176 bytes (below)
//!              | 0x02 general: key · incarnation u32 · sequence u64 · anchor 32 · route?
//!                              · actions (count u32, each a u32 length and bytes) · signature 64
//!
//!  compact  0        1              4           8         16        48     80        112        176
//!           0x01 │ incarnation u24 │ sequence u32 │ amount u64 │ signer │ to │ anchor │ signature
//!
//!  envelope = key · incarnation · sequence · anchor · route? · action count u32
//!             · actions root 32 · signature 64
//! ```
//! * The signature covers the envelope without its last 64 bytes; the **actions root** is the RFC 9162 root
//!   of the actions' encodings. So one signature serves a batch and one action is proven alone.
//! * The envelope is the leaf of the lane's tree. `tx`, a transaction's name, is the SHA-256 of the signed
//!   bytes (domain included), so that it is known before signing and no second signature gives a second name.
//! * A transaction that fits the compact form has no other (T1): one transfer, suite ed25519-sha256, no
//!   route, incarnation below 2^24, sequence below 2^32.

use std::borrow::Cow;
use std::ops::Range;

use crate::codec::{Decode, DecodeError, Encode, Reader, put_bytes, put_count, put_sized};
use crate::group::GroupAction;
use crate::number::{AccountId, Hash, PublicKey, Signature, Suite};
use crate::procedure::Call;
use crate::program::{Define, Program, Reads};
use crate::row::{NAME_SIZE_MAX, Schema, check_name};
use crate::stake::StakeAction;

/// Most bytes of an encoded transaction.
pub const TRANSACTION_SIZE_MAX: usize = 1_000_000;
/// Most actions of a transaction.
pub const ACTION_COUNT_MAX: usize = 16_384;
/// Most bytes of a route or of an event's key.
pub const ROUTE_SIZE_MAX: usize = 256;
/// Most accounts that a stream names as writers.
pub const WRITER_COUNT_MAX: usize = 256;
/// Size of the compact transfer: the packet of the design's source.
pub const COMPACT_SIZE: usize = 176;

const COMPACT: u8 = 1;
const GENERAL: u8 = 2;
/// The tag of an append.
const APPEND: u8 = 1;
const _: () = assert!(1 + 3 + 4 + 8 + 3 * 32 + 64 == COMPACT_SIZE, "the layout fills the packet");

/// One thing a transaction does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Append an event to a stream.
    Append {
        /// The stream's name.
        stream: String,
        /// Whatever the producer keys its events by; may be empty, but in a compacted stream.
        key: Vec<u8>,
        /// The canonical encoding of one row of the stream's schema.
        payload: Vec<u8>,
    },
    /// Move units from the signer's account.
    Transfer {
        /// Receiving account.
        to: AccountId,
        /// Units.
        amount: u64,
    },
    /// Create a stream.
    CreateStream(StreamSpec),
    /// Change a table's rows.
    Run(Box<Program>),
    /// Change what tables there are.
    Define(Box<Define>),
    /// Go on only if nothing has changed that was read.
    Reads(Reads),
    /// Run a procedure.
    Call(Box<Call>),
    /// Change a consumer group.
    Group(Box<GroupAction>),
    /// Change who validates, or with which bond.
    Stake(Box<StakeAction>),
}

/// What `CreateStream` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSpec {
    /// Name, unique in the ledger.
    pub name: String,
    /// Columns.
    pub schema: Schema,
    /// Which route an appending transaction must have.
    pub route: RouteRule,
    /// Who may append.
    pub writers: Writers,
    /// Whether the state keeps the newest event of each key. Then every event has a key, and one whose columns are all
    /// null removes its key.
    pub compacted: bool,
}

/// Which route a transaction must have to append to a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteRule {
    /// The signer's (none given).
    Signer,
    /// The value of this column, the same in all the transaction's events of the stream.
    Column(String),
}

/// Who may append to a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writers {
    /// Who created it.
    Creator,
    /// Everyone.
    Anyone,
    /// These accounts, sorted, at most [`WRITER_COUNT_MAX`].
    Accounts(Vec<AccountId>),
}

/// A signed transaction. See the module's header for its two encodings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Who signs.
    pub signer: PublicKey,
    /// The signer's restart count in this lane: a higher one fences the lower.
    pub incarnation: u32,
    /// Number of this transaction among the signer's in its lane and incarnation, from 1, dense.
    pub sequence: u64,
    /// Hash of a header that the signer has seen; the chain id stands for the genesis.
    pub anchor: Hash,
    /// What the lane is chosen by; the signer's key when absent.
    pub route: Option<Vec<u8>>,
    /// What to do, 1 to [`ACTION_COUNT_MAX`].
    pub actions: Vec<Action>,
    /// Over the envelope's signed part.
    pub signature: Signature,
}

/// What a lane's tree holds of a transaction: everything but the actions, and their root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// As in [`Transaction`].
    pub signer: PublicKey,
    /// As in [`Transaction`].
    pub incarnation: u32,
    /// As in [`Transaction`].
    pub sequence: u64,
    /// As in [`Transaction`].
    pub anchor: Hash,
    /// As in [`Transaction`].
    pub route: Option<Vec<u8>>,
    /// How many actions there are.
    pub action_count: u32,
    /// RFC 9162 root over the actions' encodings.
    pub actions_root: Hash,
    /// As in [`Transaction`].
    pub signature: Signature,
}

impl Transaction {
    /// The bytes that choose the lane.
    #[must_use]
    pub fn route_bytes(&self) -> &[u8] {
        self.route.as_deref().unwrap_or(self.signer.bytes())
    }

    /// The envelope; `actions_root` is the root over [`Action::to_bytes`] of every action in order.
    #[must_use]
    pub fn envelope(&self, actions_root: Hash) -> Envelope {
        Envelope {
            signer: self.signer,
            incarnation: self.incarnation,
            sequence: self.sequence,
            anchor: self.anchor,
            route: self.route.clone(),
            action_count: u32::try_from(self.actions.len())
                .expect("decoding and admission bound the actions by ACTION_COUNT_MAX"),
            actions_root,
            signature: self.signature,
        }
    }

    /// All of it but the signature.
    #[must_use]
    pub fn unsigned(&self) -> Unsigned<'_> {
        Unsigned {
            signer: self.signer,
            incarnation: self.incarnation,
            sequence: self.sequence,
            anchor: self.anchor,
            route: self.route.as_deref(),
            actions: &self.actions,
        }
    }

    /// As [`Decode::from_bytes`], with the encoding of each action beside it: what the leaves of
    /// [`Envelope::actions_root`] hold, without encoding the actions again.
    ///
    /// # Errors
    /// As [`Decode::from_bytes`].
    pub fn from_bytes_with_actions(bytes: &[u8]) -> Result<(Self, Encodings<'_>), DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut actions = Vec::new();
        let transaction = Self::decode_parts(&mut reader, |action| actions.push(action))?;
        reader.end()?;
        if actions.is_empty() {
            // The compact form holds a transfer's fields, not its encoding.
            actions.extend(transaction.actions.iter().map(|action| Cow::Owned(action.to_bytes())));
        }
        Ok((transaction, actions))
    }

    fn decode_parts<'a>(
        reader: &mut Reader<'a>,
        each: impl FnMut(Cow<'a, [u8]>),
    ) -> Result<Self, DecodeError> {
        match reader.u8()? {
            COMPACT => Self::decode_compact(reader),
            GENERAL => Self::decode_general(reader, each),
            tag => Err(DecodeError::Tag { what: "transaction", tag: u64::from(tag) }),
        }
    }

    fn decode_compact(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let [a, b, c] = reader.array()?;
        let incarnation = u32::from_le_bytes([a, b, c, 0]);
        let sequence = u64::from(reader.u32()?);
        let amount = reader.u64()?;
        let signer = PublicKey::new(Suite::Ed25519Sha256, reader.take(32)?)?;
        let to = AccountId::decode(reader)?;
        let anchor = Hash::decode(reader)?;
        let signature = Signature::decode(reader)?;
        let actions = vec![Action::Transfer { to, amount }];
        Ok(Self { signer, incarnation, sequence, anchor, route: None, actions, signature })
    }

    fn decode_general<'a>(
        reader: &mut Reader<'a>,
        mut each: impl FnMut(Cow<'a, [u8]>),
    ) -> Result<Self, DecodeError> {
        let signer = PublicKey::decode(reader)?;
        let incarnation = reader.u32()?;
        let sequence = reader.u64()?;
        let anchor = Hash::decode(reader)?;
        let route = decode_route(reader)?;
        let count = reader.count("actions", ACTION_COUNT_MAX, 5)?;
        if count == 0 {
            return Err(DecodeError::NotCanonical { what: "transaction without actions" });
        }
        let mut actions = Vec::with_capacity(count);
        for _ in 0..count {
            let bytes = reader.bytes("action", TRANSACTION_SIZE_MAX)?;
            actions.push(Action::from_bytes(bytes)?);
            each(Cow::Borrowed(bytes));
        }
        let signature = Signature::decode(reader)?;
        let transaction = Self { signer, incarnation, sequence, anchor, route, actions, signature };
        if transaction.unsigned().compact().is_some() {
            return Err(DecodeError::NotCanonical { what: "transfer that fits the compact form" });
        }
        Ok(transaction)
    }
}

fn decode_route(reader: &mut Reader<'_>) -> Result<Option<Vec<u8>>, DecodeError> {
    Ok(read_route(reader)?.map(<[u8]>::to_vec))
}

fn read_route<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, DecodeError> {
    Ok(match reader.bool("route")? {
        true => Some(reader.bytes("route", ROUTE_SIZE_MAX)?),
        false => None,
    })
}

fn put_route(out: &mut Vec<u8>, route: Option<&[u8]>) {
    out.push(u8::from(route.is_some()));
    if let Some(route) = route {
        put_bytes(out, route);
    }
}

/// Encodings of a transaction's actions, in order.
pub type Encodings<'a> = Vec<Cow<'a, [u8]>>;

/// A transaction before it is signed, borrowed from whoever makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsigned<'a> {
    /// As in [`Transaction`].
    pub signer: PublicKey,
    /// As in [`Transaction`].
    pub incarnation: u32,
    /// As in [`Transaction`].
    pub sequence: u64,
    /// As in [`Transaction`].
    pub anchor: Hash,
    /// As in [`Transaction`].
    pub route: Option<&'a [u8]>,
    /// As in [`Transaction`].
    pub actions: &'a [Action],
}

impl Unsigned<'_> {
    fn compact(&self) -> Option<(u32, u32, AccountId, u64)> {
        let [Action::Transfer { to, amount }] = self.actions else { return None };
        let fits = self.signer.suite() == Suite::Ed25519Sha256
            && self.route.is_none()
            && self.incarnation < 1 << 24;
        let sequence = u32::try_from(self.sequence).ok()?;
        fits.then_some((self.incarnation, sequence, *to, *amount))
    }

    /// Appends the encoding up to the signature, which ends it in both forms. Gives where in `out` the encoding of each
    /// action stands; nowhere in the compact form.
    pub fn encode(&self, out: &mut Vec<u8>) -> Vec<Range<usize>> {
        if let Some((incarnation, sequence, to, amount)) = self.compact() {
            out.push(COMPACT);
            let [a, b, c, _] = incarnation.to_le_bytes();
            out.extend_from_slice(&[a, b, c]);
            out.extend_from_slice(&sequence.to_le_bytes());
            out.extend_from_slice(&amount.to_le_bytes());
            out.extend_from_slice(self.signer.bytes());
            to.encode(out);
            self.anchor.encode(out);
            return Vec::new();
        }
        out.push(GENERAL);
        self.signer.encode(out);
        out.extend_from_slice(&self.incarnation.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        self.anchor.encode(out);
        put_route(out, self.route);
        put_count(out, self.actions.len());
        self.actions.iter().map(|action| put_sized(out, |out| action.encode(out))).collect()
    }
}

impl Encode for Transaction {
    fn encode(&self, out: &mut Vec<u8>) {
        self.unsigned().encode(out);
        self.signature.encode(out);
    }
}

impl Decode for Transaction {
    const SIZE_MIN: usize = 64;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_parts(reader, |_| {})
    }
}

/// A transaction as it stands in its bytes: its actions are found, not decoded.
///
/// What it leaves unchecked is whether each action decodes: for readers of what validators have accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecoded<'a> {
    signer: PublicKey,
    incarnation: u32,
    sequence: u64,
    anchor: Hash,
    route: Option<&'a [u8]>,
    /// The encoding of each action.
    pub actions: Encodings<'a>,
    signature: Signature,
}

impl<'a> Undecoded<'a> {
    /// Finds the parts of a transaction's bytes.
    ///
    /// # Errors
    /// When they are not there.
    pub fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != GENERAL {
            // The compact form holds a transfer's fields, not its encoding.
            let (transaction, actions) = Transaction::from_bytes_with_actions(bytes)?;
            let Transaction { signer, incarnation, sequence, anchor, signature, .. } = transaction;
            let route = None;
            return Ok(Self { signer, incarnation, sequence, anchor, route, actions, signature });
        }
        let signer = PublicKey::decode(&mut reader)?;
        let (incarnation, sequence) = (reader.u32()?, reader.u64()?);
        let anchor = Hash::decode(&mut reader)?;
        let route = read_route(&mut reader)?;
        let count = reader.count("actions", ACTION_COUNT_MAX, 5)?;
        let action = |_| reader.bytes("action", TRANSACTION_SIZE_MAX).map(Cow::Borrowed);
        let actions = (0..count).map(action).collect::<Result<_, _>>()?;
        let signature = Signature::decode(&mut reader)?;
        reader.end()?;
        Ok(Self { signer, incarnation, sequence, anchor, route, actions, signature })
    }

    /// As [`Transaction::envelope`].
    #[must_use]
    pub fn envelope(&self, actions_root: Hash) -> Envelope {
        Envelope {
            signer: self.signer,
            incarnation: self.incarnation,
            sequence: self.sequence,
            anchor: self.anchor,
            route: self.route.map(<[u8]>::to_vec),
            action_count: u32::try_from(self.actions.len())
                .expect("reading bounds the actions by ACTION_COUNT_MAX"),
            actions_root,
            signature: self.signature,
        }
    }

    /// Who signed.
    #[must_use]
    pub const fn signer(&self) -> &PublicKey {
        &self.signer
    }

    /// The events, each with the index of its action; an action that is none, or does not decode, is passed over.
    pub fn events(&self) -> impl Iterator<Item = (u32, EventRef<'_>)> {
        let actions = (0_u32..).zip(&self.actions);
        actions.filter_map(|(index, action)| Some((index, EventRef::read(action)?)))
    }
}

/// An event as it stands in its action's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRef<'a> {
    /// The stream's name.
    pub stream: &'a str,
    /// Its key; may be empty.
    pub key: &'a [u8],
    /// One row, encoded.
    pub payload: &'a [u8],
}

impl<'a> EventRef<'a> {
    fn read(action: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(action);
        if reader.u8() != Ok(APPEND) {
            return None;
        }
        let stream = reader.text("stream name", NAME_SIZE_MAX).ok()?;
        let key = reader.bytes("event key", ROUTE_SIZE_MAX).ok()?;
        let payload = reader.bytes("payload", TRANSACTION_SIZE_MAX).ok()?;
        reader.end().ok()?;
        Some(Self { stream, key, payload })
    }
}

impl Envelope {
    /// What the signature covers, before the domain is put in front of it.
    #[must_use]
    pub fn signed_body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(160);
        self.encode_body(&mut out);
        out
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        self.signer.encode(out);
        out.extend_from_slice(&self.incarnation.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        self.anchor.encode(out);
        put_route(out, self.route.as_deref());
        out.extend_from_slice(&self.action_count.to_le_bytes());
        self.actions_root.encode(out);
    }
}

impl Encode for Envelope {
    fn encode(&self, out: &mut Vec<u8>) {
        self.encode_body(out);
        self.signature.encode(out);
    }
}

impl Decode for Envelope {
    const SIZE_MIN: usize = 33 + 4 + 8 + 32 + 1 + 4 + 32 + 64;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            signer: PublicKey::decode(reader)?,
            incarnation: reader.u32()?,
            sequence: reader.u64()?,
            anchor: Hash::decode(reader)?,
            route: decode_route(reader)?,
            action_count: reader.u32()?,
            actions_root: Hash::decode(reader)?,
            signature: Signature::decode(reader)?,
        })
    }
}

impl Encode for Action {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Append { stream, key, payload } => {
                out.push(APPEND);
                put_bytes(out, stream.as_bytes());
                put_bytes(out, key);
                put_bytes(out, payload);
            }
            Self::Transfer { to, amount } => {
                out.push(2);
                to.encode(out);
                out.extend_from_slice(&amount.to_le_bytes());
            }
            Self::CreateStream(spec) => {
                out.push(3);
                spec.encode(out);
            }
            Self::Run(program) => {
                out.push(4);
                program.encode(out);
            }
            Self::Define(define) => {
                out.push(5);
                define.encode(out);
            }
            Self::Reads(reads) => {
                out.push(6);
                reads.encode(out);
            }
            Self::Call(call) => {
                out.push(7);
                call.encode(out);
            }
            Self::Group(action) => {
                out.push(8);
                action.encode(out);
            }
            Self::Stake(action) => {
                out.push(9);
                action.encode(out);
            }
        }
    }
}

impl Decode for Action {
    const SIZE_MIN: usize = 1;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            APPEND => Self::Append {
                stream: decode_name(reader)?,
                key: reader.bytes("event key", ROUTE_SIZE_MAX)?.to_vec(),
                payload: reader.bytes("payload", TRANSACTION_SIZE_MAX)?.to_vec(),
            },
            2 => Self::Transfer { to: AccountId::decode(reader)?, amount: reader.u64()? },
            3 => Self::CreateStream(StreamSpec::decode(reader)?),
            4 => Self::Run(Box::new(Program::decode(reader)?)),
            5 => Self::Define(Box::new(Define::decode(reader)?)),
            6 => Self::Reads(Reads::decode(reader)?),
            7 => Self::Call(Box::new(Call::decode(reader)?)),
            8 => Self::Group(Box::new(GroupAction::decode(reader)?)),
            9 => Self::Stake(Box::new(StakeAction::decode(reader)?)),
            tag => return Err(DecodeError::Tag { what: "action", tag: u64::from(tag) }),
        })
    }
}

fn decode_name(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let name = reader.text("stream name", NAME_SIZE_MAX)?;
    check_name(name).map_err(|_| DecodeError::NotCanonical { what: "stream name" })?;
    Ok(name.to_owned())
}

impl Encode for StreamSpec {
    fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.name.as_bytes());
        self.schema.encode(out);
        match &self.route {
            RouteRule::Signer => out.push(0),
            RouteRule::Column(name) => {
                out.push(1);
                put_bytes(out, name.as_bytes());
            }
        }
        self.writers.encode(out);
        out.push(u8::from(self.compacted));
    }
}

impl Encode for Writers {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Creator => out.push(0),
            Self::Anyone => out.push(1),
            Self::Accounts(accounts) => {
                out.push(2);
                crate::codec::put_list(out, accounts);
            }
        }
    }
}

impl Decode for Writers {
    const SIZE_MIN: usize = 1;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            0 => Self::Creator,
            1 => Self::Anyone,
            2 => Self::Accounts(decode_writers(reader)?),
            tag => return Err(DecodeError::Tag { what: "writers", tag: u64::from(tag) }),
        })
    }
}

impl Decode for StreamSpec {
    const SIZE_MIN: usize = 11;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name = decode_name(reader)?;
        let schema = Schema::decode(reader)?;
        let route = match reader.u8()? {
            0 => RouteRule::Signer,
            1 => RouteRule::Column(reader.text("route column", NAME_SIZE_MAX)?.to_owned()),
            tag => return Err(DecodeError::Tag { what: "route rule", tag: u64::from(tag) }),
        };
        let writers = Writers::decode(reader)?;
        let compacted = reader.bool("compacted")?;
        if let RouteRule::Column(column) = &route
            && schema.index_of(column).is_none()
        {
            return Err(DecodeError::NotCanonical { what: "route column" });
        }
        Ok(Self { name, schema, route, writers, compacted })
    }
}

fn decode_writers(reader: &mut Reader<'_>) -> Result<Vec<AccountId>, DecodeError> {
    let accounts: Vec<AccountId> = reader.list("writers", WRITER_COUNT_MAX)?;
    if accounts.is_sorted_by(|a, b| a < b) {
        Ok(accounts)
    } else {
        Err(DecodeError::NotCanonical { what: "writers" })
    }
}
