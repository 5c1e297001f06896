//! A saved state with all that a validator needs beside it to go on: **checkpoint**.
//!
//! ```text
//!  manifest   statement · signature │ beginning of the log: the height's header, lanes at its cut │ digests of the parts
//!  part 1     rows of the state, ascending by table and key, about 1 MiB
//!  part 2     …
//!
//!  row        table u8 · key (length u32) · value (length u32)
//! ```
//! Two validators that executed the same blocks save the same bytes, so the **statement** of a height is one: height, header,
//! digest of the parts, of the lanes' failover logs and of what earlier headers said. Each signs it with its own key.
//! # Invariants
//! * C1 What is taken over was said by validators of a third of the stake, so by an honest one; the state root of its header's
//!   height is compared too. One server's word is never enough where there are several validators.
//! * C2 Each part is compared with its digest before any of it is used; what else the manifest holds is what a certificate, a hash
//!   or the statement covers.
//! # Limits
//! A part has at most [`PART_SIZE_MAX`] bytes, a manifest [`MANIFEST_SIZE_MAX`].

use quipu_consensus::Context;
use std::sync::Arc;

use quipu_consensus::certificate::check_commit;
use quipu_crypto::Tag;
use quipu_crypto::hash::blake3;
use quipu_crypto::suite::{SecretKey, sign_tagged, verify_tagged};
use quipu_log::{Beginning, LaneBase, LedgerReader, LogError};
use quipu_proof::Epochs;
use quipu_proof::names::header_hash;
use quipu_state::{Machine, StateError, Store, Table, WriteBatch};
use quipu_types::codec::{put_bytes, put_list};
use quipu_types::{
    Decode, DecodeError, Encode, Hash, Header, Height, Lane, Reader, Signature, ValidatorIndex,
};
use thiserror::Error;

use crate::storage::said_before;

/// Bytes after which a part is full.
const PART_SIZE: usize = 1 << 20;
/// Most bytes of a part: one row may come on top.
pub const PART_SIZE_MAX: usize = 8 << 20;
/// Most bytes of a manifest: failover logs of millions of terms, and the digests of 1 TiB.
pub const MANIFEST_SIZE_MAX: usize = 256 << 20;
const PART_COUNT_MAX: usize = 1 << 20;

/// What a validator says of its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Statement {
    /// The height after which it was saved.
    pub height: Height,
    /// Hash of that height's header.
    pub header_hash: Hash,
    /// BLAKE3 over what earlier headers said, the failover logs and the parts' digests.
    pub digest: Hash,
}

/// A statement and who says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedStatement {
    /// What is said.
    pub statement: Statement,
    /// By whom.
    pub validator: ValidatorIndex,
    /// Over the statement, under [`Tag::Checkpoint`].
    pub signature: Signature,
}

/// All of a checkpoint but the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What its maker says of it.
    pub signed: SignedStatement,
    /// Where the log goes on.
    pub beginning: Beginning,
    /// BLAKE3 of each part.
    pub parts: Vec<Hash>,
}

/// Why a checkpoint is not taken over.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A manifest, or a part, is not encoded as one.
    #[error("it is malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// Nobody of the genesis signed it so.
    #[error("the statement of height {height} is not signed by validator {validator}")]
    Signature {
        /// The height.
        height: Height,
        /// Who is said to have signed.
        validator: ValidatorIndex,
    },
    /// The parts of the log do not belong together, or to the statement.
    #[error("its log does not fit together: {0}")]
    Beginning(String),
    /// No commit certificate of this ledger.
    #[error("the header of height {0} is not certified")]
    Certificate(Height),
    /// Parts, or failover logs, of another statement.
    #[error("its parts are not what the statement of height {0} names")]
    Digest(Height),
    /// A part's bytes are others.
    #[error("part {0} is not what the manifest names")]
    Part(usize),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// What takes the parts failed.
    #[error("a part could not be written: {0}")]
    Sink(String),
}

impl Statement {
    /// Signs it as a validator.
    #[must_use]
    pub fn sign(self, key: &SecretKey, own: ValidatorIndex, context: &Context) -> SignedStatement {
        let epoch = context.set_at(self.height).epoch;
        let body = self.to_bytes();
        let signature = sign_tagged(key, &context.chain, epoch, Tag::Checkpoint, &body);
        SignedStatement { statement: self, validator: own, signature }
    }
}

impl SignedStatement {
    /// Whether the validator that it names said it.
    ///
    /// # Errors
    /// `Signature`.
    pub fn check(&self, context: &Context) -> Result<(), CheckpointError> {
        let (chain, set) = (&context.chain, context.set_at(self.statement.height));
        let is_right = set.get(self.validator).is_some_and(|validator| {
            let body = self.statement.to_bytes();
            let tag = Tag::Checkpoint;
            verify_tagged(&validator.key, chain, set.epoch, tag, &body, &self.signature)
        });
        let (height, validator) = (self.statement.height, self.validator);
        if is_right { Ok(()) } else { Err(CheckpointError::Signature { height, validator }) }
    }
}

impl Manifest {
    /// What judges it: in the epoch of the height after it, which is followed from the genesis' by certificates.
    ///
    /// # Errors
    /// `Certificate` of a header that does not hand over to the next epoch.
    pub fn follow(&self, genesis: &Context) -> Result<Context, CheckpointError> {
        let mut epochs = genesis.epochs.clone();
        for (header, certificate) in &self.beginning.handovers {
            let followed = epochs.follow(&genesis.chain, header, certificate);
            followed.map_err(|_| CheckpointError::Certificate(header.height))?;
        }
        let Context { chain, rules, sets_change, ref verified, .. } = *genesis;
        let verified = Arc::clone(verified);
        Ok(Context { rules, sets_change, verified, ..Context::in_epoch(chain, epochs) })
    }

    /// Whether it is of this ledger and whole: its log is certified, and it has the parts that its statement names. The
    /// statement itself is one validator's word (C1). What judged it.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check(&self, genesis: &Context, lane_count: u16) -> Result<Context, CheckpointError> {
        let context = self.follow(genesis)?;
        self.signed.check(&context)?;
        let statement = self.signed.statement;
        let height = statement.height;
        if let Some(part) = self.beginning.fault(lane_count) {
            return Err(CheckpointError::Beginning(part));
        }
        let Beginning { header, certificate, .. } = &self.beginning;
        let hash = header_hash(header);
        if header.height != height || hash != statement.header_hash {
            return Err(CheckpointError::Beginning("its header is another".to_owned()));
        }
        if check_commit(certificate, height, &hash, &context).is_err() {
            return Err(CheckpointError::Certificate(height));
        }
        let digest = digest(&self.beginning, &self.parts);
        if digest == statement.digest { Ok(context) } else { Err(CheckpointError::Digest(height)) }
    }

    /// The rows of part `place` (C2).
    ///
    /// # Errors
    /// `Part` for other bytes than its, `Malformed` for what is none.
    pub fn rows(&self, place: usize, part: &[u8]) -> Result<WriteBatch, CheckpointError> {
        if self.parts.get(place) != Some(&blake3(part)) {
            return Err(CheckpointError::Part(place));
        }
        let mut batch = WriteBatch::new();
        let mut reader = Reader::new(part);
        while reader.left() > 0 {
            let tag = reader.u8()?;
            let table = Table::ALL.into_iter().find(|table| table.tag() == tag);
            let what = DecodeError::Tag { what: "table", tag: u64::from(tag) };
            let table = table.ok_or(what)?;
            let key = reader.bytes("key", PART_SIZE_MAX)?.to_vec();
            batch.put(table, key, reader.bytes("value", PART_SIZE_MAX)?.to_vec());
        }
        Ok(batch)
    }
}

/// What a statement's digest is of.
fn digest(beginning: &Beginning, parts: &[Hash]) -> Hash {
    let mut bytes = beginning.before.to_bytes();
    for lane in &beginning.lanes {
        put_list(&mut bytes, &lane.terms);
    }
    put_list(&mut bytes, parts);
    blake3(&bytes)
}

/// Gives the machine's state, part by part, and says each part's digest.
///
/// # Errors
/// What reading the state gives, and `sink`.
pub fn save<S: Store>(
    machine: &Machine<S>,
    mut sink: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<Vec<Hash>, CheckpointError> {
    let (mut part, mut parts, mut failed) = (Vec::new(), Vec::new(), None);
    let mut end = |part: &mut Vec<u8>| {
        parts.push(blake3(part));
        let given = sink(part);
        part.clear();
        given
    };
    machine.dump(|table, key, value| {
        part.push(table.tag());
        put_bytes(&mut part, key);
        put_bytes(&mut part, value);
        if part.len() >= PART_SIZE && failed.is_none() {
            failed = end(&mut part).err();
        }
    })?;
    if !part.is_empty() && failed.is_none() {
        failed = end(&mut part).err();
    }
    failed.map_or(Ok(parts), |reason| Err(CheckpointError::Sink(reason)))
}

/// What the log begins with behind `header`, as it is read back.
///
/// # Errors
/// What reading gives.
pub fn beginning(
    reader: &LedgerReader,
    header: &Header,
    epochs: &Epochs,
) -> Result<Beginning, CheckpointError> {
    let mut lanes = Vec::with_capacity(header.cut.len());
    for lane in (0..reader.lane_count()).map(Lane::new) {
        let terms = reader.failover_log(lane)?.into_iter();
        let terms = terms.filter(|term| term.height <= header.height).collect();
        let tip = header.cut.iter().find(|tip| tip.lane == lane).filter(|tip| tip.index > 0);
        lanes.push(match tip {
            None => LaneBase::new(None, quipu_crypto::merkle::Frontier::new(), terms),
            Some(tip) => {
                let chunk = reader.chunk_header(lane, tip.index)?;
                LaneBase::new(Some(chunk), reader.frontier(lane, tip.seqno)?, terms)
            }
        });
    }
    let (header, certificate) = reader.header(header.height)?;
    let before = said_before(reader, header.height, epochs)?;
    let ended = header.epoch.saturating_add(u64::from(header.next_set.is_some()));
    let mut handovers = Vec::new();
    for epoch in 0..ended {
        handovers.extend(reader.handover(epoch)?);
    }
    Ok(Beginning { header, certificate, before, handovers, lanes })
}

/// The statement of a saved state.
#[must_use]
pub fn statement(header: &Header, beginning: &Beginning, parts: &[Hash]) -> Statement {
    Statement {
        height: header.height,
        header_hash: header_hash(header),
        digest: digest(beginning, parts),
    }
}

impl Encode for Statement {
    fn encode(&self, out: &mut Vec<u8>) {
        self.height.encode(out);
        self.header_hash.encode(out);
        self.digest.encode(out);
    }
}

impl Decode for Statement {
    const SIZE_MIN: usize = 8 + 32 + 32;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            height: Height::decode(reader)?,
            header_hash: Hash::decode(reader)?,
            digest: Hash::decode(reader)?,
        })
    }
}

impl Encode for SignedStatement {
    fn encode(&self, out: &mut Vec<u8>) {
        self.statement.encode(out);
        self.validator.encode(out);
        self.signature.encode(out);
    }
}

impl Decode for SignedStatement {
    const SIZE_MIN: usize = Statement::SIZE_MIN + 2 + 64;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            statement: Statement::decode(reader)?,
            validator: ValidatorIndex::decode(reader)?,
            signature: Signature::decode(reader)?,
        })
    }
}

impl Encode for Manifest {
    fn encode(&self, out: &mut Vec<u8>) {
        self.signed.encode(out);
        self.beginning.encode(out);
        put_list(out, &self.parts);
    }
}

impl Decode for Manifest {
    const SIZE_MIN: usize = SignedStatement::SIZE_MIN + Beginning::SIZE_MIN + 4;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            signed: SignedStatement::decode(reader)?,
            beginning: Beginning::decode(reader)?,
            parts: reader.list("parts", PART_COUNT_MAX)?,
        })
    }
}
