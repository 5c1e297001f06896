//! What validators tell each other, from bytes to something checked. Pure, so that any number of threads may do it.
//!
//! ```text
//!  message = tag u8 · Agreement (1): a consensus message · Chunk (2): header · signature · body
//!          | Forward (3): overdue bool · transactions (count u32, each u32 length and bytes)
//!          | Fetch (4): a request · Headers (5): (header, certificate)… · Value (6): header
//!          | Ask (7): nonce u64 · Tell (8): nonce · height · certificate of the height below (option)
//!          | Handover (9): lane · term · index · validator · signature · Evidence (10)
//!          | Check (11): nonce u64 · Checked (12): nonce · height · certificate of the height below (option) · a word (option)
//!          | Stripe (13): header · signature · index u16 · stripe (u32 length and bytes) · siblings (count u32)
//!          | States (14): state certificates · Complaint (15): a client's complaint · Claim (16): a state that its sender may
//!            have made up: a trap
//! ```
//! # Invariants
//! * P1 A chunk that comes out has its sequencer's signature, the body that its header names, transactions of its lane and
//!   this chain with right signatures, and a clock that is right after its first stretch. What needs what came before
//!   it (links, sequences, roots) is judged where that is held.
//! * P2 No bytes allocate more than a small multiple of themselves; lists have bounds.

use std::sync::Arc;

use quipu_consensus::certificate::{CertificateError, check_state_certificate};
use quipu_consensus::core::STATE_COUNT_MAX;
use quipu_consensus::{Context, Evidence, Message};
use quipu_crypto::Tag;
use quipu_crypto::hash::blake3;
use quipu_log::StoredChunk;
pub use quipu_net::Class;
use quipu_net::stripes::StripeError;
use quipu_proof::names::chunk_hash;
use quipu_types::chunk::split_body;
use quipu_types::codec::{put_bytes, put_count, put_option};
use quipu_types::transaction::TRANSACTION_SIZE_MAX;
use quipu_types::{
    ChunkHeader, Code, CommitCertificate, Complaint, Decode, DecodeError, Encode, Hash, Header,
    Height, Lane, Reader, Signature, SignedState, StateCertificate, Term, Tip, ValidatorIndex,
};
use thiserror::Error;

use crate::admission::{Admissions, Admitted};
use crate::api::Chunk;
use crate::complaints::{self, Grievance};
use crate::stripes::{self, Proven, Stripe};

/// Most transactions in one forward.
pub const FORWARD_COUNT_MAX: usize = 4_096;
/// Bytes of transactions after which a forward is sent.
pub const FORWARD_SIZE: usize = 1 << 20;
/// First byte of a message that is a stripe.
pub const STRIPE_TAG: u8 = 13;
/// Most headers in one answer.
pub const HEADER_COUNT_MAX: usize = 64;

/// What is asked of another validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Committed headers from a height on.
    Headers {
        /// The first.
        from: Height,
    },
    /// Chunks of a lane from an index up to a tip, if the tip is held.
    Chunks {
        /// The first index.
        first: u64,
        /// Where they are to end.
        tip: Tip,
    },
    /// A header of the height that is being decided.
    Value {
        /// The height.
        height: Height,
        /// The header's hash.
        digest: Hash,
    },
    /// State certificates from a height on; the votes on states that the one who is asked has no certificate of either.
    States {
        /// The first.
        from: Height,
    },
}

/// A sequencer gives up a lane: nothing of this term comes after chunk `index`. Tag `Handover`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The lane.
    pub lane: Lane,
    /// The term that is given up.
    pub term: Term,
    /// The last chunk of it.
    pub index: u64,
    /// The sequencer.
    pub validator: ValidatorIndex,
    /// Over [`Handover::signed_body`].
    pub signature: Signature,
}

/// A message between validators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// About the order.
    Agreement(Message),
    /// A chunk of a lane.
    Chunk(StoredChunk),
    /// Clients' transactions for a lane's sequencer; overdue ones are told to all.
    Forward {
        /// Whether the lane keeps them waiting.
        is_overdue: bool,
        /// Their encodings.
        transactions: Vec<Arc<[u8]>>,
    },
    /// A request.
    Fetch(Request),
    /// Committed headers, ascending.
    Headers(Vec<(Header, CommitCertificate)>),
    /// The header of a hash that was asked for.
    Value(Header),
    /// A validator that does not know what it said before asks how far the others are.
    Ask {
        /// Makes answers fresh.
        nonce: u64,
    },
    /// The answer.
    Tell {
        /// As it was asked.
        nonce: u64,
        /// The height that the sender votes in.
        height: Height,
        /// Why the height below it is committed; none below height 1.
        certificate: Option<CommitCertificate>,
    },
    /// A lane is given up.
    Handover(Handover),
    /// Proof that a sequencer broke a rule.
    Evidence(Evidence),
    /// A validator that has started asks whether its store is the newest one it had.
    Check {
        /// Makes answers fresh.
        nonce: u64,
    },
    /// The answer.
    Checked {
        /// As it was asked.
        nonce: u64,
        /// The height that the sender is in.
        height: Height,
        /// Why the height below it is committed; none below height 1.
        certificate: Option<CommitCertificate>,
        /// Something that the asker said of that height.
        word: Option<Message>,
    },
    /// A part of a chunk.
    Stripe(Stripe),
    /// State certificates that were asked for, ascending.
    States(Vec<StateCertificate>),
    /// A client's complaint, for the sequencer and for all who may suspect it.
    Complaint(Complaint),
    /// A state that its sender may have made up. It is no vote, and nobody takes it for anything.
    Claim(SignedState),
    /// The sender stops: nobody need wait for it to lead.
    Leaving {
        /// The last height of which it says so.
        until: Height,
    },
}

/// A message that was checked as far as this can be done without knowing what came before.
#[derive(Clone, Debug)]
pub enum Received {
    /// About the order; its signature is the core's to check.
    Agreement(Message),
    /// A chunk (P1).
    Chunk(Arc<Chunk>),
    /// Transactions with right signatures.
    Forward {
        /// Whether the lane keeps them waiting.
        is_overdue: bool,
        /// The transactions.
        admitted: Vec<Arc<Admitted>>,
    },
    /// A request.
    Fetch(Request),
    /// Committed headers, their certificates not yet checked.
    Headers(Vec<(Header, CommitCertificate)>),
    /// A header.
    Value(Box<Header>),
    /// See [`PeerMessage::Ask`].
    Ask {
        /// Makes answers fresh.
        nonce: u64,
    },
    /// See [`PeerMessage::Tell`].
    Tell {
        /// As it was asked.
        nonce: u64,
        /// The height that the sender votes in.
        height: Height,
        /// Why the height below it is committed.
        certificate: Option<CommitCertificate>,
    },
    /// A lane is given up, by its sequencer.
    Handover(Handover),
    /// Proof that a sequencer broke a rule, not yet checked.
    Evidence(Evidence),
    /// See [`PeerMessage::Check`].
    Check {
        /// Makes answers fresh.
        nonce: u64,
    },
    /// See [`PeerMessage::Checked`].
    Checked {
        /// As it was asked.
        nonce: u64,
        /// The height that the sender is in.
        height: Height,
        /// Why the height below it is committed.
        certificate: Option<CommitCertificate>,
        /// Something that the asker said of that height.
        word: Option<Message>,
    },
    /// A part of a chunk, which proved itself.
    Stripe(Box<Proven>),
    /// State certificates, each of a quorum.
    States(Vec<StateCertificate>),
    /// A complaint, its signature and its transaction right.
    Complaint(Box<Grievance>),
    /// See [`PeerMessage::Claim`].
    Claim(SignedState),
    /// See [`PeerMessage::Leaving`].
    Leaving {
        /// The last height of which it says so.
        until: Height,
    },
}

/// Why bytes of another validator are refused: it, or whose chunk it hands on, is to blame.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReceiveError {
    /// No message.
    #[error("the bytes are no message: {0}")]
    Malformed(#[from] DecodeError),
    /// Not signed by who must have signed it.
    #[error("{what} of lane {lane} is not signed by its sequencer")]
    Signature {
        /// What.
        what: &'static str,
        /// The lane.
        lane: Lane,
    },
    /// A body that is not the header's.
    #[error("chunk {index} of lane {lane} has not the body that its header names")]
    Body {
        /// The lane.
        lane: Lane,
        /// The chunk.
        index: u64,
    },
    /// A clock that is not what it states.
    #[error("chunk {index} of lane {lane} has a wrong clock")]
    Clock {
        /// The lane.
        lane: Lane,
        /// The chunk.
        index: u64,
    },
    /// A stripe of a chunk that has none.
    #[error("chunk {index} of lane {lane} has no stripes")]
    NotStriped {
        /// The lane.
        lane: Lane,
        /// The chunk.
        index: u64,
    },
    /// A stripe that does not prove itself against its chunk's header.
    #[error("stripe {stripe} of chunk {index} of lane {lane}: {reason}")]
    Stripe {
        /// The lane.
        lane: Lane,
        /// The chunk.
        index: u64,
        /// The stripe.
        stripe: u16,
        /// What is wrong with it.
        reason: StripeError,
    },
    /// Stripes that prove themselves and are of no body.
    #[error("the stripes of chunk {index} of lane {lane} give no body: {reason}")]
    Stripes {
        /// The lane.
        lane: Lane,
        /// The chunk.
        index: u64,
        /// Why.
        reason: StripeError,
    },
    /// A state's certificate that is none.
    #[error("a state's certificate: {0}")]
    State(#[from] CertificateError),
    /// A complaint that its signer did not make, or that is false whatever was ordered.
    #[error("a complaint is refused with {code}")]
    Complaint {
        /// Why.
        code: Code,
    },
    /// A transaction that no lane, or not this one, may hold.
    #[error("a transaction is refused with {code}")]
    Transaction {
        /// Why.
        code: Code,
    },
}

impl Handover {
    /// What the signature covers.
    #[must_use]
    pub fn signed_body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.lane.encode(&mut out);
        self.term.encode(&mut out);
        out.extend_from_slice(&self.index.to_le_bytes());
        self.validator.encode(&mut out);
        out
    }
}

impl PeerMessage {
    /// How urgent it is.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Agreement(_) | Self::Fetch(_) | Self::Value(_) | Self::Ask { .. } => Class::Vote,
            Self::Tell { .. } | Self::Handover(_) | Self::Evidence(_) => Class::Vote,
            Self::Check { .. } | Self::Checked { .. } | Self::Claim(_) => Class::Vote,
            Self::Chunk(_) | Self::Forward { .. } | Self::Stripe(_) => Class::Chunk,
            Self::Complaint(_) => Class::Chunk,
            Self::Leaving { .. } => Class::Vote,
            Self::Headers(_) | Self::States(_) => Class::Bulk,
        }
    }
}

/// Reads and checks what another validator sent.
///
/// # Errors
/// What is wrong with it.
pub fn receive(
    context: &Context,
    admissions: &Admissions,
    bytes: &[u8],
) -> Result<Received, ReceiveError> {
    Ok(match PeerMessage::from_bytes(bytes)? {
        PeerMessage::Agreement(message) => Received::Agreement(message),
        PeerMessage::Chunk(stored) => {
            Received::Chunk(Arc::new(check_chunk(context, admissions, stored)?))
        }
        PeerMessage::Forward { is_overdue, transactions } => {
            let admitted = admit_all(admissions, transactions)?;
            Received::Forward { is_overdue, admitted }
        }
        PeerMessage::Fetch(request) => Received::Fetch(request),
        PeerMessage::Headers(headers) => Received::Headers(headers),
        PeerMessage::Value(header) => Received::Value(Box::new(header)),
        PeerMessage::Ask { nonce } => Received::Ask { nonce },
        PeerMessage::Tell { nonce, height, certificate } => {
            Received::Tell { nonce, height, certificate }
        }
        PeerMessage::Handover(handover) => {
            check_handover(context, &handover)?;
            Received::Handover(handover)
        }
        PeerMessage::Evidence(evidence) => Received::Evidence(evidence),
        PeerMessage::Check { nonce } => Received::Check { nonce },
        PeerMessage::Checked { nonce, height, certificate, word } => {
            Received::Checked { nonce, height, certificate, word }
        }
        PeerMessage::Stripe(stripe) => {
            let lane_count = admissions.lane_count();
            Received::Stripe(Box::new(stripes::check(context, lane_count, stripe)?))
        }
        PeerMessage::Complaint(complaint) => {
            let grievance = complaints::check(&context.chain, admissions, complaint);
            let grievance = grievance.map_err(|code| ReceiveError::Complaint { code })?;
            if grievance.admitted.is_none() {
                return Err(ReceiveError::Complaint { code: quipu_types::code::COMPLAINT_FALSE });
            }
            Received::Complaint(Box::new(grievance))
        }
        PeerMessage::Claim(state) => Received::Claim(state),
        PeerMessage::Leaving { until } => Received::Leaving { until },
        PeerMessage::States(certificates) => {
            for certificate in &certificates {
                check_state_certificate(certificate, context)?;
            }
            Received::States(certificates)
        }
    })
}

fn check_handover(context: &Context, handover: &Handover) -> Result<(), ReceiveError> {
    let Handover { lane, term, validator, .. } = *handover;
    let key = context.epochs.sequencer_key(lane, term);
    let holds = context.epochs.sequencer(lane, term) == validator
        && key.is_some_and(|(key, epoch)| {
            let (body, signature) = (handover.signed_body(), &handover.signature);
            context.verifies((&key, epoch), Tag::Handover, &body, signature)
        });
    if holds { Ok(()) } else { Err(ReceiveError::Signature { what: "a handover", lane }) }
}

/// Whether a chunk's header is its sequencer's; who that is.
pub(crate) fn check_header(
    context: &Context,
    lane_count: u16,
    header: &ChunkHeader,
    signature: &Signature,
) -> Result<ValidatorIndex, ReceiveError> {
    let lane = header.lane;
    let sequencer = context.epochs.sequencer(lane, header.term);
    let signed = lane.get() < lane_count
        && context.epochs.sequencer_key(lane, header.term).is_some_and(|(key, epoch)| {
            context.verifies((&key, epoch), Tag::Chunk, &header.to_bytes(), signature)
        });
    if signed { Ok(sequencer) } else { Err(ReceiveError::Signature { what: "a chunk", lane }) }
}

/// P1 for one chunk.
pub(crate) fn check_chunk(
    context: &Context,
    admissions: &Admissions,
    stored: StoredChunk,
) -> Result<Chunk, ReceiveError> {
    let header = &stored.header;
    let (lane, index) = (header.lane, header.index);
    check_header(context, admissions.lane_count(), header, &stored.signature)?;
    if blake3(&stored.body) != header.body_digest {
        return Err(ReceiveError::Body { lane, index });
    }
    // Where the clock begins is known to who holds the chunk before.
    quipu_clock::check_alone(header).map_err(|_| ReceiveError::Clock { lane, index })?;
    let bodies = split_body(&stored.body, header.count)?;
    let bodies = bodies.into_iter().map(Arc::<[u8]>::from).collect();
    let transactions = admit_all(admissions, bodies)?;
    if transactions.iter().any(|admitted| admitted.lane != lane) {
        return Err(ReceiveError::Transaction { code: quipu_types::code::MALFORMED });
    }
    let hash = chunk_hash(header);
    Ok(Chunk { stored, hash, transactions })
}

fn admit_all(
    admissions: &Admissions,
    transactions: Vec<Arc<[u8]>>,
) -> Result<Vec<Arc<Admitted>>, ReceiveError> {
    admissions
        .admit_many(transactions)
        .into_iter()
        .map(|admitted| admitted.map_err(|code| ReceiveError::Transaction { code }))
        .collect()
}

impl Encode for Request {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Headers { from } => {
                out.push(1);
                from.encode(out);
            }
            Self::Chunks { first, tip } => {
                out.push(2);
                out.extend_from_slice(&first.to_le_bytes());
                tip.encode(out);
            }
            Self::Value { height, digest } => {
                out.push(3);
                height.encode(out);
                digest.encode(out);
            }
            Self::States { from } => {
                out.push(4);
                from.encode(out);
            }
        }
    }
}

impl Decode for Request {
    const SIZE_MIN: usize = 9;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            1 => Self::Headers { from: Height::decode(reader)? },
            2 => Self::Chunks { first: reader.u64()?, tip: Tip::decode(reader)? },
            3 => Self::Value { height: Height::decode(reader)?, digest: Hash::decode(reader)? },
            4 => Self::States { from: Height::decode(reader)? },
            tag => return Err(DecodeError::Tag { what: "request", tag: u64::from(tag) }),
        })
    }
}

impl Encode for Handover {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.signed_body());
        self.signature.encode(out);
    }
}

impl Decode for Handover {
    const SIZE_MIN: usize = 2 + 8 + 8 + 2 + 64;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            lane: Lane::decode(reader)?,
            term: Term::decode(reader)?,
            index: reader.u64()?,
            validator: ValidatorIndex::decode(reader)?,
            signature: Signature::decode(reader)?,
        })
    }
}

impl Encode for PeerMessage {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Agreement(message) => put(out, 1, message),
            Self::Chunk(chunk) => put(out, 2, chunk),
            Self::Forward { is_overdue, transactions } => {
                out.push(3);
                out.push(u8::from(*is_overdue));
                put_count(out, transactions.len());
                for bytes in transactions {
                    put_bytes(out, bytes);
                }
            }
            Self::Fetch(request) => put(out, 4, request),
            Self::Headers(headers) => {
                out.push(5);
                put_count(out, headers.len());
                for (header, certificate) in headers {
                    header.encode(out);
                    certificate.encode(out);
                }
            }
            Self::Value(header) => put(out, 6, header),
            Self::Ask { nonce } => {
                out.push(7);
                out.extend_from_slice(&nonce.to_le_bytes());
            }
            Self::Tell { nonce, height, certificate } => {
                out.push(8);
                out.extend_from_slice(&nonce.to_le_bytes());
                height.encode(out);
                put_option(out, certificate.as_ref());
            }
            Self::Handover(handover) => put(out, 9, handover),
            Self::Evidence(evidence) => put(out, 10, evidence),
            Self::Check { nonce } => {
                out.push(11);
                out.extend_from_slice(&nonce.to_le_bytes());
            }
            Self::Checked { nonce, height, certificate, word } => {
                out.push(12);
                out.extend_from_slice(&nonce.to_le_bytes());
                height.encode(out);
                put_option(out, certificate.as_ref());
                put_option(out, word.as_ref());
            }
            Self::Stripe(stripe) => put(out, STRIPE_TAG, stripe),
            Self::States(certificates) => {
                out.push(14);
                put_count(out, certificates.len());
                certificates.iter().for_each(|certificate| certificate.encode(out));
            }
            Self::Complaint(complaint) => put(out, 15, complaint),
            Self::Claim(state) => put(out, 16, state),
            Self::Leaving { until } => put(out, 17, until),
        }
    }
}

fn put(out: &mut Vec<u8>, tag: u8, value: &impl Encode) {
    out.push(tag);
    value.encode(out);
}

impl Decode for PeerMessage {
    const SIZE_MIN: usize = 2;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            1 => Self::Agreement(Message::decode(reader)?),
            2 => Self::Chunk(StoredChunk::decode(reader)?),
            3 => {
                let is_overdue = reader.bool("overdue")?;
                let count = reader.count("transactions", FORWARD_COUNT_MAX, 4)?;
                let transactions = (0..count)
                    .map(|_| reader.bytes("transaction", TRANSACTION_SIZE_MAX).map(Arc::from))
                    .collect::<Result<_, _>>()?;
                Self::Forward { is_overdue, transactions }
            }
            4 => Self::Fetch(Request::decode(reader)?),
            5 => {
                let least = Header::SIZE_MIN.saturating_add(CommitCertificate::SIZE_MIN);
                let count = reader.count("headers", HEADER_COUNT_MAX, least)?;
                let headers = (0..count)
                    .map(|_| Ok((Header::decode(reader)?, CommitCertificate::decode(reader)?)))
                    .collect::<Result<_, DecodeError>>()?;
                Self::Headers(headers)
            }
            6 => Self::Value(Header::decode(reader)?),
            7 => Self::Ask { nonce: reader.u64()? },
            8 => Self::Tell {
                nonce: reader.u64()?,
                height: Height::decode(reader)?,
                certificate: reader.option("certificate")?,
            },
            9 => Self::Handover(Handover::decode(reader)?),
            10 => Self::Evidence(Evidence::decode(reader)?),
            11 => Self::Check { nonce: reader.u64()? },
            12 => Self::Checked {
                nonce: reader.u64()?,
                height: Height::decode(reader)?,
                certificate: reader.option("certificate")?,
                word: reader.option("word")?,
            },
            STRIPE_TAG => Self::Stripe(Stripe::decode(reader)?),
            14 => {
                let least = StateCertificate::SIZE_MIN;
                let count = reader.count("state certificates", STATE_COUNT_MAX, least)?;
                let certificates = (0..count).map(|_| StateCertificate::decode(reader));
                Self::States(certificates.collect::<Result<_, _>>()?)
            }
            15 => Self::Complaint(Complaint::decode(reader)?),
            16 => Self::Claim(SignedState::decode(reader)?),
            17 => Self::Leaving { until: Height::decode(reader)? },
            tag => return Err(DecodeError::Tag { what: "peer message", tag: u64::from(tag) }),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic_and_what_decodes_has_one_form(
            tag in 0_u8..18, bytes in proptest::collection::vec(0_u8..3, 0..900),
        ) {
            let mut all = vec![tag];
            all.extend(bytes);
            if let Ok(message) = PeerMessage::from_bytes(&all) {
                prop_assert_eq!(message.to_bytes(), all);
            }
        }
    }
}
