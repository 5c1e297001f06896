//! What a verifier trusts: a genesis, and the sets of validators that it followed from there.
//!
//! ```text
//!  genesis ── set 0 ──> hand-over of epoch 0 ── set 1 ──> hand-over of epoch 1 ── set 2 ──> …
//!                       (its last header, which carries set 1, and a certificate by set 0)
//! ```
//! An epoch ends only when the set changes: following takes one hand-over for each change, however many heights or years lie
//! between, and no other header. `examples/epochs.rs` measures it.
//!
//! # Invariants
//! * H1 A set is known here when a quorum of the set before signed the header that carries it, and so on back to the genesis.
//! * H2 An epoch has one end. Another header that ends it is refused, whoever signed it, and so is one of its epoch behind it:
//!   who followed a ledger is not led into a branch that validators of long ago made since.
//! * H3 A hand-over that is known is compared; only another certificate of the same header is verified again.
//!
//! # Limits
//! Who knows the genesis alone takes the first branch that is shown: validators of long ago, all gone, can make one. What was
//! followed is to be kept ([`Pinned::handovers`]). That an epoch has not ended since is nowhere shown.

use std::sync::Arc;

use quipu_types::codec::put_count;
use quipu_types::{
    CommitCertificate, Decode, DecodeError, Encode, Genesis, GenesisError, Hash, Header, Height,
    Reader, StateCertificate, Time,
};
use thiserror::Error;

use crate::bundle::Committed;
use crate::certificate::{
    CertificateError, Claim, Support, claim, verify_certificate, verify_claims,
    verify_state_certificate,
};
use crate::epochs::Epochs;
use crate::names::{chain_id, header_hash};

/// Signatures that are verified together, about: more gain nothing, and are lost when the first is false.
const GROUP_SIGNATURE_COUNT: usize = 1_024;
/// Most hand-overs of one list.
const KEPT_COUNT_MAX: usize = 1 << 20;

/// Why hand-overs are not followed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandoverError {
    /// One is left out, or they are out of order.
    #[error("the hand-over of epoch {found} came, that of epoch {expected} is next")]
    Gap {
        /// What is next.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// One is false.
    #[error("the hand-over of epoch {epoch}: {error}")]
    False {
        /// Which.
        epoch: u64,
        /// Why.
        error: CertificateError,
    },
    /// The epoch is known to end with another header.
    #[error("epoch {epoch} ends with header {known}, the hand-over is {found}")]
    Fork {
        /// Which.
        epoch: u64,
        /// Name of the header that is known.
        known: Hash,
        /// Name of the other one.
        found: Hash,
    },
}

/// Hand-overs, one after another: what a server answers with, and the file in which what was followed is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handovers(pub Vec<Committed>);

impl Encode for Handovers {
    fn encode(&self, out: &mut Vec<u8>) {
        put_count(out, self.0.len());
        for handover in &self.0 {
            handover.header.0.encode(out);
            handover.certificate.0.encode(out);
        }
    }
}

impl Decode for Handovers {
    const SIZE_MIN: usize = 4;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let size_min = Header::SIZE_MIN.saturating_add(CommitCertificate::SIZE_MIN);
        let count = reader.count("hand-overs", KEPT_COUNT_MAX, size_min)?;
        let one = |_| {
            let header = Header::decode(reader)?;
            Ok(Committed::new(header, CommitCertificate::decode(reader)?))
        };
        (0..count).map(one).collect::<Result<_, _>>().map(Self)
    }
}

/// See the module's header. Cheap to copy.
#[derive(Clone, Debug)]
pub struct Pinned {
    chain: Hash,
    lane_count: u16,
    time: Time,
    epochs: Epochs,
    /// How each epoch before the newest ended, from epoch 0 on.
    ends: Vec<End>,
}

/// How an epoch ended.
#[derive(Clone, Debug)]
struct End {
    hash: Hash,
    handover: Arc<Committed>,
}

impl Pinned {
    /// Who has the genesis alone.
    ///
    /// # Errors
    /// The genesis breaks a rule.
    pub fn new(genesis: &Genesis) -> Result<Self, GenesisError> {
        genesis.check()?;
        Ok(Self::of_checked(genesis))
    }

    /// Who has the genesis alone, which was checked when it was read.
    ///
    /// # Panics
    /// When nobody has stake, which no checked genesis says.
    #[must_use]
    pub fn of_checked(genesis: &Genesis) -> Self {
        Self {
            chain: chain_id(genesis),
            lane_count: genesis.lane_count,
            time: genesis.time_us,
            epochs: Epochs::new(genesis.validator_set(), genesis.lane_count),
            ends: Vec::new(),
        }
    }

    /// The ledger.
    #[must_use]
    pub const fn chain(&self) -> &Hash {
        &self.chain
    }

    /// How many lanes it has.
    #[must_use]
    pub const fn lane_count(&self) -> u16 {
        self.lane_count
    }

    /// When it began.
    #[must_use]
    pub const fn time(&self) -> Time {
        self.time
    }

    /// The epochs that are known.
    #[must_use]
    pub const fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// The newest epoch that is known: the one whose hand-over is next.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epochs.current().set.epoch
    }

    /// The hand-overs that were followed, from that of epoch `from` on.
    pub fn handovers(&self, from: u64) -> impl Iterator<Item = &Arc<Committed>> {
        self.ends.iter().skip(place(from)).map(|end| &end.handover)
    }

    /// Follows hand-overs, each of the epoch after the one before it; those that are known are compared (H3).
    ///
    /// # Errors
    /// Which is false, and why. Some of those before it may have been followed.
    pub fn follow(&mut self, handovers: &[Committed]) -> Result<(), HandoverError> {
        let mut rest = handovers;
        while !rest.is_empty() {
            let voters = self.epochs.current().set.validators.len().max(1);
            let count = GROUP_SIGNATURE_COUNT.checked_div(voters).unwrap_or(1).max(1);
            let (group, after) = rest.split_at(count.min(rest.len()));
            self.follow_group(group)?;
            rest = after;
        }
        Ok(())
    }

    fn follow_group(&mut self, group: &[Committed]) -> Result<(), HandoverError> {
        let known = self.ends.len();
        let followed = self.draft(group).and_then(|claims| {
            let (epochs, claims): (Vec<u64>, Vec<Claim>) = claims.into_iter().unzip();
            verify_claims(&claims).map_err(|(place, error)| {
                let epoch = epochs.get(place).copied().unwrap_or_default();
                HandoverError::False { epoch, error }
            })
        });
        if followed.is_err() {
            self.ends.truncate(known);
            self.epochs.truncate(known);
        }
        followed
    }

    /// Goes through hand-overs as if their signatures held, which are left to verify.
    fn draft(&mut self, group: &[Committed]) -> Result<Vec<(u64, Claim)>, HandoverError> {
        let mut claims = Vec::new();
        let mut last = None;
        for handover in group {
            let (header, certificate) = (&handover.header.0, &handover.certificate.0);
            let (epoch, expected) = (header.epoch, self.epoch());
            let is_next = last.is_none_or(|last: u64| last.checked_add(1) == Some(epoch));
            if epoch > expected || !is_next {
                let expected = last.map_or(expected, |last| last.saturating_add(1));
                return Err(HandoverError::Gap { expected, found: epoch });
            }
            last = Some(epoch);
            let wrong = |error| HandoverError::False { epoch, error };
            if let Some(end) = self.ends.get(place(epoch)) {
                let found = header_hash(header);
                if end.hash != found {
                    return Err(HandoverError::Fork { epoch, known: end.hash, found });
                }
                if end.handover.certificate.0 != *certificate {
                    let set = &self.epochs.at(header.height).set;
                    claims.push((
                        epoch,
                        claim(&self.chain, set, header, certificate).map_err(wrong)?,
                    ));
                }
                continue;
            }
            self.epochs.check_handover(header).map_err(wrong)?;
            let set = &self.epochs.current().set;
            claims.push((epoch, claim(&self.chain, set, header, certificate).map_err(wrong)?));
            self.push(Arc::new(handover.clone()));
        }
        Ok(claims)
    }

    fn push(&mut self, handover: Arc<Committed>) {
        let header = &handover.header.0;
        self.epochs.pass(header);
        let hash = header_hash(header);
        self.ends.push(End { hash, handover });
    }

    /// Checks that `certificate` commits `header`, by the validators of its height.
    ///
    /// # Errors
    /// Why it does not.
    pub fn verify_committed(
        &self,
        header: &Header,
        certificate: &CommitCertificate,
    ) -> Result<Support, CertificateError> {
        let epoch = self.epochs.at(header.height);
        let support = verify_certificate(&self.chain, &epoch.set, header, certificate)?;
        let height = header.height;
        let holds = match self.ends.get(place(epoch.set.epoch)) {
            Some(end) if end.handover.header.0.height == height => header_hash(header) == end.hash,
            Some(_) => header.next_set.is_none(),
            None if header.next_set.is_some() => {
                return self.epochs.check_handover(header).map(|()| support);
            }
            None => true,
        };
        if holds { Ok(support) } else { Err(CertificateError::OtherEnd { height }) }
    }

    /// Checks that `certificate` is of the state after `height`, by the validators of that height.
    ///
    /// # Errors
    /// Why it is not.
    pub fn verify_state(
        &self,
        height: Height,
        certificate: &StateCertificate,
    ) -> Result<Support, CertificateError> {
        verify_state_certificate(&self.chain, &self.epochs.at(height).set, height, certificate)
    }

    /// Goes on from a header that [`Self::verify_committed`] took: the next epoch begins after one that carries its set.
    pub fn pass(&mut self, header: &Header, certificate: &CommitCertificate) {
        if header.next_set.is_some() && header.epoch == self.epoch() {
            self.push(Arc::new(Committed::new(header.clone(), certificate.clone())));
        }
    }
}

/// Place of an epoch's end among all.
fn place(epoch: u64) -> usize {
    usize::try_from(epoch).unwrap_or(usize::MAX)
}
