//! Bodies that travel in stripes ([`quipu_net::stripes`]): what is sent, checked, gathered, and made whole again.
//!
//! ```text
//!  sequencer ── own stripe to each ──> [ check ] ─┬─ passed on, once, to the others
//!  another ──── its stripe to all ───> [ check ] ─┴─> gathered ── enough ──> Effect::Restore ── worker: restore ──┐
//!                                                                                                                 v
//!                  a whole chunk of another validator ── peer::receive ──> checked as chunks are ──> the lane <───┘
//! ```
//! # Invariants
//! * D1 What is kept or passed on was checked: the header has its sequencer's signature and names a root, the stripe is
//!   the one of its place under that root and has the size that its body's size gives.
//! * D2 What is restored goes the way of a chunk that came whole: [`check_chunk`], then the lane. What does not pass says
//!   that its sequencer signed a false root or a bad chunk, for the stripes are its own (D1): its term ends, nobody else is
//!   blamed, and the chunk is fetched as others are that are known and not held.
//! * D3 For one chunk of a lane, term and index a validator passes its stripe on once, and only of chunks up to
//!   [`PASS_COUNT_MAX`] beyond the last cut that it knows: what a sequencer can make others send has a bound.
//! * D4 What is gathered has a bound in each lane: [`GATHER_COUNT_MAX`] chunks, two of one index, of [`GATHER_SIZE_MAX`]
//!   bytes; the farthest give way. Only the lane's sequencer can fill it, whoever sends: nothing else passes D1. It is
//!   forgotten up to the cut when that moves, and altogether when the term ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quipu_consensus::Context;
use quipu_log::StoredChunk;
use quipu_net::stripes::{self, Code, PATH_COUNT_MAX, STRIPE_SIZE_MAX, StripeError};
use quipu_proof::names::chunk_hash;
use quipu_types::codec::{put_bytes, put_list};
use quipu_types::{
    ChunkHeader, Decode, DecodeError, Encode, Hash, Lane, Reader, Signature, Term, ValidatorIndex,
    ValidatorSet,
};

use crate::admission::Admissions;
use crate::api::Chunk;
use crate::lane::Striped;
use crate::peer::{ReceiveError, check_chunk, check_header};

/// Chunks beyond the last cut whose own stripe is passed on.
pub(crate) const PASS_COUNT_MAX: u64 = 1_024;
/// Chunks of a lane whose stripes are gathered at a time.
const GATHER_COUNT_MAX: usize = 256;
/// Chunks of one index: two say that their sequencer is a criminal.
const FORK_COUNT_MAX: usize = 2;
/// Bytes of the stripes of a lane that are gathered.
const GATHER_SIZE_MAX: usize = 8 << 20;

/// One stripe of a chunk's body, with the header that it proves itself against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stripe {
    /// The chunk's header.
    pub header: ChunkHeader,
    /// The sequencer's, over the header.
    pub signature: Signature,
    /// The stripe.
    pub stripe: stripes::Stripe,
}

/// A stripe that proved itself (D1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// As it came.
    pub stripe: Stripe,
    /// Hash of the header.
    pub hash: Hash,
    /// How the sequencer's bodies are striped.
    pub code: Code,
}

/// Stripes that are enough for a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gathered {
    header: ChunkHeader,
    signature: Signature,
    hash: Hash,
    code: Code,
    stripes: BTreeMap<u16, Vec<u8>>,
}

/// What came of [`restore`].
#[derive(Clone, Debug)]
pub struct Restored {
    /// The lane.
    pub lane: Lane,
    /// The term.
    pub term: Term,
    /// The chunk's number.
    pub index: u64,
    /// Its hash.
    pub hash: Hash,
    /// The chunk (P1), or why there is none: its sequencer is to blame.
    pub chunk: Result<Arc<Chunk>, ReceiveError>,
}

impl Gathered {
    /// The chunk's lane, term and number.
    #[must_use]
    pub const fn place(&self) -> (Lane, Term, u64) {
        (self.header.lane, self.header.term, self.header.index)
    }

    /// Whose chunk it is.
    #[must_use]
    pub const fn sequencer(&self) -> ValidatorIndex {
        self.code.sequencer()
    }
}

/// Checks a stripe: signature, index, size and path, before anything is done with it (D1).
pub(crate) fn check(
    context: &Context,
    lane_count: u16,
    stripe: Stripe,
) -> Result<Proven, ReceiveError> {
    let header = &stripe.header;
    let (lane, index) = (header.lane, header.index);
    let sequencer = check_header(context, lane_count, header, &stripe.signature)?;
    let set = &context.epochs.of_term(lane, header.term).set;
    let Some((root, code)) = header.stripes.zip(Code::of(set, sequencer)) else {
        return Err(ReceiveError::NotStriped { lane, index });
    };
    let checked = if context.rules.stripes_proven {
        stripes::check(&code, &root, &stripe.stripe)
    } else {
        stripes::check_shape(&code, &stripe.stripe)
    };
    let number = stripe.stripe.index;
    checked.map_err(|reason| ReceiveError::Stripe { lane, index, stripe: number, reason })?;
    let hash = chunk_hash(header);
    Ok(Proven { stripe, hash, code })
}

/// Makes a chunk of stripes and checks it as one that came whole. Pure, and worth a thread: it checks every transaction.
#[must_use]
pub fn restore(context: &Context, admissions: &Admissions, gathered: &Gathered) -> Restored {
    let Gathered { header, signature, hash, code, stripes } = gathered;
    let (lane, term, index) = gathered.place();
    let stripes = stripes.iter().map(|(index, bytes)| (*index, bytes.as_slice()));
    let body = quipu_net::stripes::restore(code, stripes);
    let body = body.map_err(|reason: StripeError| ReceiveError::Stripes { lane, index, reason });
    let chunk = body.and_then(|body| {
        let stored = StoredChunk { header: header.clone(), signature: *signature, body };
        check_chunk(context, admissions, stored)
    });
    Restored { lane, term, index, hash: *hash, chunk: chunk.map(Arc::new) }
}

/// Which own bodies are striped, and how.
#[derive(Debug)]
pub(crate) struct Striping {
    size_min: usize,
    /// None when too few others are sure to be honest.
    code: Option<Code>,
}

impl Striping {
    pub(crate) fn new(size_min: usize, set: &ValidatorSet, own: ValidatorIndex) -> Self {
        Self { size_min: size_min.max(1), code: Code::of(set, own) }
    }

    /// The same with other validators.
    pub(crate) fn among(&self, set: &ValidatorSet, own: ValidatorIndex) -> Self {
        Self::new(self.size_min, set, own)
    }

    /// The stripes of a body that is large enough, under their root.
    pub(crate) fn of(&self, body: &[u8]) -> Option<Striped> {
        let code = self.code.as_ref().filter(|_| body.len() >= self.size_min)?;
        Some(stripes::encode(code, body))
    }

    /// The stripes of a chunk, with whom each is for.
    pub(crate) fn letters(
        &self,
        stored: &StoredChunk,
        stripes: Vec<stripes::Stripe>,
    ) -> Vec<(ValidatorIndex, Stripe)> {
        let StoredChunk { header, signature, .. } = stored;
        let letter = |stripe: stripes::Stripe| {
            let owner = self.code.as_ref()?.owner(stripe.index);
            Some((owner, Stripe { header: header.clone(), signature: *signature, stripe }))
        };
        stripes.into_iter().filter_map(letter).collect()
    }
}

/// What is gathered of one chunk.
#[derive(Debug)]
enum Set {
    /// Too few stripes yet.
    Open(Box<Gathered>),
    /// A worker has them.
    Restoring,
    /// They gave no chunk, and never will.
    False,
}

#[derive(Debug)]
struct Entry {
    set: Set,
    size: usize,
}

/// The stripes of one lane that wait for others (D4), and which own ones were passed on (D3).
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    entries: BTreeMap<(u64, Hash), Entry>,
    size: usize,
    passed: BTreeSet<u64>,
}

impl Gathering {
    /// Whether the own stripe of a chunk may be passed on now; from then on it was (D3).
    pub(crate) fn passes(&mut self, committed: u64, index: u64) -> bool {
        index <= committed.saturating_add(PASS_COUNT_MAX) && self.passed.insert(index)
    }

    /// Keeps a stripe. What is enough for a body is given out, once.
    pub(crate) fn keep(&mut self, proven: Proven) -> Option<Gathered> {
        let Proven { stripe: Stripe { header, signature, stripe }, hash, code } = proven;
        let place = (header.index, hash);
        if !self.entries.contains_key(&place) {
            if self.of_index(header.index) >= FORK_COUNT_MAX {
                return None;
            }
            let size = header.to_bytes().len();
            self.size = self.size.saturating_add(size);
            let stripes = BTreeMap::new();
            let set = Gathered { header, signature, hash, code, stripes };
            self.entries.insert(place, Entry { set: Set::Open(Box::new(set)), size });
        }
        let entry = self.entries.get_mut(&place)?;
        let Set::Open(gathered) = &mut entry.set else { return None };
        if gathered.stripes.contains_key(&stripe.index) {
            return None;
        }
        let size = stripe.bytes.len();
        entry.size = entry.size.saturating_add(size);
        self.size = self.size.saturating_add(size);
        gathered.stripes.insert(stripe.index, stripe.bytes);
        if gathered.stripes.len() >= usize::from(code.least()) {
            // What a worker has still counts, until it is done.
            let Set::Open(gathered) = std::mem::replace(&mut entry.set, Set::Restoring) else {
                return None;
            };
            return Some(*gathered);
        }
        self.shrink();
        None
    }

    fn of_index(&self, index: u64) -> usize {
        self.entries.range((index, Hash::ZERO)..=(index, Hash([u8::MAX; 32]))).count()
    }

    fn shrink(&mut self) {
        while self.entries.len() > GATHER_COUNT_MAX || self.size > GATHER_SIZE_MAX {
            let Some((_, last)) = self.entries.pop_last() else { return };
            self.size = self.size.saturating_sub(last.size);
        }
    }

    /// A worker is done with a chunk's stripes. Of those that gave none no more are gathered.
    pub(crate) fn restored(&mut self, index: u64, hash: Hash, is_chunk: bool) {
        let Some(entry) = self.entries.get_mut(&(index, hash)) else { return };
        self.size = self.size.saturating_sub(entry.size);
        (entry.set, entry.size) = (Set::False, 0);
        if is_chunk {
            self.entries.remove(&(index, hash));
        }
    }

    /// Forgets what a cut covers.
    pub(crate) fn forget_upto(&mut self, index: u64) {
        let next = index.saturating_add(1);
        self.passed = self.passed.split_off(&next);
        let rest = self.entries.split_off(&(next, Hash::ZERO));
        for (_, entry) in std::mem::replace(&mut self.entries, rest) {
            self.size = self.size.saturating_sub(entry.size);
        }
    }

    /// Another term begins.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Encode for Stripe {
    fn encode(&self, out: &mut Vec<u8>) {
        self.header.encode(out);
        self.signature.encode(out);
        out.extend_from_slice(&self.stripe.index.to_le_bytes());
        put_bytes(out, &self.stripe.bytes);
        put_list(out, &self.stripe.path);
    }
}

impl Decode for Stripe {
    const SIZE_MIN: usize = ChunkHeader::SIZE_MIN + 64 + 2 + 4 + 4;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            header: ChunkHeader::decode(reader)?,
            signature: Signature::decode(reader)?,
            stripe: stripes::Stripe {
                index: reader.u16()?,
                bytes: reader.bytes("stripe", STRIPE_SIZE_MAX)?.to_vec(),
                path: reader.list("stripe's path", PATH_COUNT_MAX)?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quipu_types::{PublicKey, Seqno, Suite, Validator};

    use super::*;

    fn code() -> Code {
        let key = PublicKey::new(Suite::Ed25519Sha256, &[7; 32]).expect("32 bytes");
        let validators = vec![Validator { key, power: 1, is_stale: false }; 4];
        let set = ValidatorSet { epoch: 0, validators, coin: None };
        Code::of(&set, ValidatorIndex::new(0)).expect("four have a code")
    }

    fn proven(index: u64, mark: u8, stripe: u16, size: usize) -> Proven {
        let header = ChunkHeader {
            lane: Lane::new(0),
            term: Term::new(1),
            branch: Hash::ZERO,
            index,
            first_seqno: Seqno::new(1),
            count: 1,
            prev: Hash([mark; 32]),
            lane_root: Hash::ZERO,
            body_digest: Hash::ZERO,
            stripes: Some(Hash::ZERO),
            clock: Vec::new(),
        };
        let hash = chunk_hash(&header);
        let stripe = stripes::Stripe { index: stripe, bytes: vec![0; size], path: Vec::new() };
        let stripe = Stripe { header, signature: Signature([0; 64]), stripe };
        Proven { stripe, hash, code: code() }
    }

    fn is_sound(gathering: &Gathering) -> bool {
        let sum: usize = gathering.entries.values().map(|entry| entry.size).sum();
        let least = STRIPE_SIZE_MAX + 1_000;
        sum == gathering.size
            && gathering.size <= GATHER_SIZE_MAX + least
            && gathering.entries.len() <= GATHER_COUNT_MAX + 1
            && gathering.passed.len() <= usize::try_from(PASS_COUNT_MAX).unwrap_or(0)
    }

    proptest! {
        /// D4: whatever comes.
        #[test]
        fn what_is_gathered_has_a_bound(
            deeds in prop::collection::vec((0_u64..600, 0_u8..4, 0_u16..3, 0_u8..30), 1..1_500),
        ) {
            let mut gathering = Gathering::default();
            let mut given = BTreeSet::new();
            let mut cut = 0_u64;
            for (index, mark, stripe, deed) in deeds {
                match deed {
                    0 => {
                        cut = index.min(cut.saturating_add(3));
                        gathering.forget_upto(cut);
                    }
                    1 => gathering.restored(index, proven(index, mark, 0, 2).hash, mark == 0),
                    _ if index > cut => {
                        gathering.passes(cut, index);
                        if let Some(all) = gathering.keep(proven(index, mark, stripe, 60_000)) {
                            prop_assert_eq!(all.stripes.len(), 2);
                            given.insert(all.hash);
                        }
                    }
                    _ => {}
                }
                prop_assert!(is_sound(&gathering), "{} bytes", gathering.size);
            }
        }
    }

    #[test]
    fn the_nearest_stay_and_two_of_a_place() {
        let mut gathering = Gathering::default();
        for index in (1..=400).rev() {
            assert!(gathering.keep(proven(index, 0, 0, 60_000)).is_none());
        }
        assert!(gathering.keep(proven(1, 0, 2, 60_000)).is_some(), "the nearest is whole");
        assert!(gathering.keep(proven(1, 0, 1, 60_000)).is_none(), "once");
        assert!(gathering.keep(proven(400, 0, 1, 60_000)).is_none(), "the farthest was forgotten");
        assert!(gathering.keep(proven(2, 1, 0, 60_000)).is_none());
        assert!(gathering.keep(proven(2, 1, 1, 60_000)).is_some(), "a second one of a place");
        assert!(gathering.keep(proven(2, 2, 0, 60_000)).is_none());
        assert!(gathering.keep(proven(2, 2, 1, 60_000)).is_none(), "no third");
        gathering.forget_upto(400);
        assert_eq!((gathering.size, gathering.entries.len()), (0, 0));
    }
}
