//! The epochs of a ledger: which validators vote, propose and sequence, at which height and in which term.
//!
//! ```text
//!  genesis ── set 0 ──> headers 1 … E ── E carries set 1, and ends every lane's term ──> headers E + 1 … ── set 2 ──> …
//! ```
//! # Invariants
//! * P1 Epochs ascend one by one from the genesis' and none ends but by its own header: the first height of each is the one
//!   after the header that carried its set.
//! * P2 A lane's term belongs to one epoch: an epoch's last header begins the next term of every lane. So place and epoch
//!   of everything that a validator signs follow from each other.
//! * P3 An index is one validator's in all epochs that are not long gone; one without power has no rank.

use std::sync::Arc;

use quipu_types::{
    CommitCertificate, Hash, Header, Height, Lane, PublicKey, Term, ValidatorIndex, ValidatorSet,
};

use crate::certificate::{CertificateError, verify_certificate};
use crate::schedule::Schedule;

/// One epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its validators.
    pub set: ValidatorSet,
    /// Its first height.
    pub first: Height,
    /// Who leads and sequences in it.
    pub schedule: Schedule,
}

/// See the module's header. Cheap to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epochs {
    lane_count: u16,
    /// Ascending, never empty.
    all: Vec<Arc<Epoch>>,
}

impl Epochs {
    /// Those of a ledger whose genesis names `set`.
    #[must_use]
    pub fn new(set: ValidatorSet, lane_count: u16) -> Self {
        let schedule = Schedule::new(&set, usize::from(lane_count));
        let first = Height::new(1);
        Self { lane_count, all: vec![Arc::new(Epoch { set, first, schedule })] }
    }

    /// Takes the last header of the newest epoch, once its certificate holds: who follows the validators of a ledger needs
    /// one of these an epoch, and no other header.
    ///
    /// # Errors
    /// Why it does not hold; nothing is changed then.
    pub fn follow(
        &mut self,
        chain: &Hash,
        header: &Header,
        certificate: &CommitCertificate,
    ) -> Result<(), CertificateError> {
        self.check_handover(header)?;
        verify_certificate(chain, &self.current().set, header, certificate)?;
        self.pass(header);
        Ok(())
    }

    /// Whether a header can be the last of the newest epoch: it stands in it, and carries a set that can be the next.
    pub(crate) fn check_handover(&self, header: &Header) -> Result<(), CertificateError> {
        let Epoch { set, first, .. } = self.current();
        let is_next =
            |next: &ValidatorSet| next.is_sound() && Some(next.epoch) == set.epoch.checked_add(1);
        if header.height < *first || !header.next_set.as_ref().is_some_and(is_next) {
            return Err(CertificateError::NoHandover { height: header.height });
        }
        Ok(())
    }

    /// Forgets what follows the first `ends` ends of epochs.
    pub(crate) fn truncate(&mut self, ends: usize) {
        self.all.truncate(ends.saturating_add(1));
    }

    /// Takes a header that is committed: the next epoch begins after one that carries its set (P1).
    pub fn pass(&mut self, header: &Header) {
        let Some(set) = header.next_set.clone() else { return };
        if header.epoch != self.current().set.epoch {
            return;
        }
        let next = |lane: Lane| {
            let begun = header.term_changes.iter().find(|(own, _)| *own == lane);
            begun.map_or_else(|| self.current().schedule.first_term(lane), |(_, term)| *term)
        };
        let terms = (0..self.lane_count).map(Lane::new).map(next).collect();
        let schedule = Schedule::from_terms(&set, terms);
        self.all.push(Arc::new(Epoch { set, first: header.height.next(), schedule }));
    }

    /// The newest.
    ///
    /// # Panics
    /// Never: there is the genesis' at least.
    #[must_use]
    pub fn current(&self) -> &Epoch {
        self.all.last().expect("the first epoch is the genesis'")
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Epoch> {
        self.all.iter().map(|epoch| &**epoch)
    }

    /// That of a height; the newest for heights that are not known yet.
    #[must_use]
    pub fn at(&self, height: Height) -> &Epoch {
        self.find(|epoch| epoch.first <= height)
    }

    /// That of a lane's term; the newest for terms that are not known yet.
    #[must_use]
    pub fn of_term(&self, lane: Lane, term: Term) -> &Epoch {
        self.find(|epoch| epoch.schedule.first_term(lane) <= term)
    }

    /// Who sequences a lane in a term.
    #[must_use]
    pub fn sequencer(&self, lane: Lane, term: Term) -> ValidatorIndex {
        self.of_term(lane, term).schedule.sequencer(lane, term)
    }

    /// The key of who sequences a lane in a term, and the epoch under which it signs.
    #[must_use]
    pub fn sequencer_key(&self, lane: Lane, term: Term) -> Option<(PublicKey, u64)> {
        let epoch = self.of_term(lane, term);
        let validator = epoch.set.get(epoch.schedule.sequencer(lane, term))?;
        Some((validator.key, epoch.set.epoch))
    }

    fn find(&self, begins: impl Fn(&Epoch) -> bool) -> &Epoch {
        let last = self.all.partition_point(|epoch| begins(epoch)).saturating_sub(1);
        self.all.get(last).map_or_else(|| self.current(), |epoch| &**epoch)
    }
}
