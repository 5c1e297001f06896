//! What execution gave: votes on the state of each height, until a certificate proves it.
//!
//! ```text
//!  Executed ─> own vote, said ─┐
//!  votes of others ────────────┴─> a quorum ─> StateCertified; the newest one goes into a header
//!  a certificate that others gave, or that a header embeds ──^
//! ```
//! * C1 A height that was executed here gets a certificate here, sooner or later: its votes are kept after a header has
//!   embedded a later certificate, for what proves its receipts is its own certificate alone. Who lacks one asks others
//!   for theirs, or for their votes if they lack it too ([`Core::state_words`]).
//! * C2 Votes are kept of at most [`HEIGHT_COUNT_MAX`] heights, of which [`LATE_COUNT_MAX`] are below the embedded one.
//! * C3 A vote that is not what the certificate of its height says is evidence, whichever of both comes first, as long as
//!   votes of the height are kept.

use std::collections::{BTreeMap, VecDeque};

use quipu_types::{Height, SignedState, StateCertificate, StateVote, ValidatorIndex, ValidatorSet};

use super::{Core, Output, Refused};
use crate::evidence::Evidence;
use crate::record::Message;
use crate::tally::StateVotes;

/// Heights above the own whose state votes are kept.
const AHEAD_MAX: u64 = 8;
/// Heights whose state votes are collected.
const HEIGHT_COUNT_MAX: usize = 2_048;
/// Heights among them up to the newest embedded certificate's.
const LATE_COUNT_MAX: usize = 1_024;
/// Votes that are said again to one who asks.
pub const STATE_COUNT_MAX: usize = 64;

/// The votes on one height's state.
#[derive(Debug, Default)]
struct Votes {
    votes: StateVotes,
    /// What was said here, once the height is executed.
    own: Option<StateVote>,
    /// Whether a certificate was given out since the height is committed.
    is_certified: bool,
}

impl Votes {
    /// Not certified: votes count.
    const fn is_open(&self) -> bool {
        !self.is_certified
    }
}

/// See the module's header.
#[derive(Debug, Default)]
pub(super) struct States {
    heights: BTreeMap<Height, Votes>,
    /// Executed and not voted on yet; at most [`LATE_COUNT_MAX`], the newest.
    unsaid: VecDeque<SignedState>,
}

impl States {
    fn bound(&mut self, certified: Height) {
        let mut late = self.heights.range(..=certified).count();
        while late > LATE_COUNT_MAX {
            self.heights.pop_first();
            late = late.saturating_sub(1);
        }
    }

    /// Counts a vote. The certificate, when it is to be given out; evidence, when its validator voted otherwise before.
    fn add(
        &mut self,
        vote: &StateVote,
        own: ValidatorIndex,
        set: &ValidatorSet,
    ) -> Result<Option<StateCertificate>, Box<[StateVote; 2]>> {
        let votes = self.heights.entry(vote.state.height).or_default();
        if let Some(pair) = votes.votes.add(vote) {
            return Err(Box::new(pair));
        }
        let is_own = vote.validator == own;
        if is_own {
            votes.own = Some(*vote);
        }
        // Who waits for its certificate waits since it was executed here: then it is given again.
        let is_due = is_own || !votes.is_certified;
        Ok(is_due.then(|| votes.votes.quorum(set, &vote.state)).flatten())
    }

    /// A certificate that was not given out yet.
    pub(super) fn unknown(&self, embedded: Option<&StateCertificate>) -> Option<StateCertificate> {
        let votes = |height| self.heights.get(height);
        embedded.filter(|one| votes(&one.state.height).is_none_or(Votes::is_open)).cloned()
    }

    /// A height has its certificate: who voted otherwise, if that was not known (C3).
    fn certified(&mut self, state: &SignedState) -> Vec<StateVote> {
        match self.heights.get_mut(&state.height).filter(|votes| votes.is_open()) {
            None => Vec::new(),
            Some(votes) => {
                votes.is_certified = true;
                votes.votes.others(state).collect()
            }
        }
    }

    /// The certificate that a vote contradicts, if the height has one and the votes that make it are kept (C3).
    fn against(&self, vote: &StateVote, set: &ValidatorSet) -> Option<StateCertificate> {
        let votes = self.heights.get(&vote.state.height).filter(|votes| votes.is_certified)?;
        let own = votes.own.filter(|own| own.state != vote.state)?;
        votes.votes.quorum(set, &own.state)
    }
}

impl Core {
    /// Own votes of heights from `from` on whose certificates are not known here.
    #[must_use]
    pub fn state_words(&self, from: Height) -> Vec<Message> {
        let open = self.states.heights.range(from..).filter(|(_, votes)| votes.is_open());
        let words = open.filter_map(|(_, votes)| votes.own).take(STATE_COUNT_MAX);
        words.map(Message::StateVote).collect()
    }

    /// What execution of a height gave; it is said once this validator may speak.
    pub(super) fn executed(&mut self, state: SignedState) {
        self.states.unsaid.push_back(state);
        if self.states.unsaid.len() > LATE_COUNT_MAX {
            self.states.unsaid.pop_front();
        }
        self.say_states();
    }

    /// Says what it executed while it was not to speak.
    pub(super) fn say_states(&mut self) {
        while !self.is_muted()
            && let Some(state) = self.states.unsaid.pop_front()
        {
            self.say_state(state);
        }
    }

    fn say_state(&mut self, state: SignedState) {
        let set = self.context.set_at(state.height);
        if set.power(self.safety.own()) == 0 {
            return;
        }
        let said = self.safety.state(set.epoch, state);
        let vote = self.say(said, Message::StateVote);
        self.count_state(&vote);
        self.states.bound(self.parent.certified);
    }

    pub(super) fn state_vote(&mut self, vote: &StateVote) -> Result<(), Refused> {
        let height = vote.state.height;
        let known = self.states.heights.get(&height);
        if height <= self.parent.certified && !known.is_some_and(Votes::is_open) {
            return Err(Refused::Stale { height });
        }
        let is_full = known.is_none() && self.states.heights.len() >= HEIGHT_COUNT_MAX;
        if is_full || height.get() > self.height().get().saturating_add(AHEAD_MAX) {
            return Err(Refused::Ahead { height });
        }
        match self.count_state(vote) {
            Some(evidence) => self.found(evidence, height),
            None => Ok(()),
        }
    }

    fn count_state(&mut self, vote: &StateVote) -> Option<Evidence> {
        let set = self.context.set_at(vote.state.height);
        match self.states.add(vote, self.safety.own(), set) {
            Ok(Some(certificate)) => self.certify(certificate),
            Ok(None) => {
                let counts = self.context.rules.false_states;
                let certificate = self.states.against(vote, set).filter(|_| counts)?;
                return Some(Evidence::FalseState(Box::new((*vote, certificate))));
            }
            Err(pair) => return Some(Evidence::States(pair)),
        }
        None
    }

    /// A header was committed: what it `embedded` and was not known is known from here on, and most votes are done with.
    pub(super) fn embedded(&mut self, embedded: Option<StateCertificate>) {
        if let Some(certificate) = embedded {
            self.certify(certificate);
        }
        let certified = self.parent.certified;
        self.states.heights.retain(|height, votes| *height > certified || votes.is_open());
        self.states.bound(certified);
    }

    /// A quorum signed a state: gives it out, and keeps it for a header if it is the newest of what is committed.
    pub(super) fn certify(&mut self, certificate: StateCertificate) {
        let height = certificate.state.height;
        let newest = self.certificate.as_ref().map(|kept| kept.state.height);
        if height <= self.parent.height {
            let counts = self.context.rules.false_states;
            for vote in self.states.certified(&certificate.state).into_iter().filter(|_| counts) {
                let evidence = Evidence::FalseState(Box::new((vote, certificate.clone())));
                self.outputs.push_back(Output::Evidence(Box::new(evidence)));
            }
            if height > self.parent.certified && newest < Some(height) {
                self.certificate = Some(certificate.clone());
            }
        }
        self.outputs.push_back(Output::StateCertified(certificate));
    }
}
