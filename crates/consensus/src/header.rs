//! The value: which header may follow a header. Pure functions of headers and what they carry (I4).
//!
//! ```text
//!  Parent{height, hash, time, cut, terms, primary, commit, certified} ── next(tips, state certificate) ──> Header
//!                                                                     └─ check(header) ──> Ok | HeaderError
//! ```
//! * **Time** is `max(parent.time + 1, lower stake-weighted median of the times in prev_commit)`. Height 1 has no
//!   `prev_commit`: its time is the genesis' + 1 µs.
//! * **Inclusion**: a lane's tip reaches at least the index that precommits of a third in `prev_commit` report in the
//!   lane's current term.
//! * **Terms**: a lane's term ends in this header exactly when precommits of a third in `prev_commit` suspect it; the next
//!   begins after this header's tip, on the branch that this header's hash names.
//! * **Rounds**: of which kind those of the next height are follows from the parent's word and from the kind of the round
//!   that decided it, as `prev_commit` says: never from a certificate that a validator happens to hold.
//! * **Epochs**: a header that embeds a state certificate of its own epoch which names a next set carries that set, and is
//!   the epoch's last: every lane's term ends in it, the rounds begin anew. What carries the votes of a height is judged by
//!   that height's set, so the first header of an epoch by the set before, where it is about the last one's votes.
//! * **Late votes** show who was there ([`crate::late`]); no rule here counts them.
//! * More than [`STATE_LAG_MAX`] heights after the newest state certificate, a cut moves no lane.

use std::sync::Arc;

use quipu_crypto::coin::CoinScheme;
use quipu_crypto::{Tag, Verified, merkle, signing_bytes};
use quipu_proof::Epochs;
use quipu_proof::names::{header_hash, set_hash};
pub use quipu_proof::order::{lane_order, moves, tip_of};
pub use quipu_proof::schedule::TERM_FIRST;
use quipu_proof::{Epoch, coin_fits, coin_message};
use quipu_types::{
    Coin, CommitCertificate, Hash, Header, Height, Lane, Precommit, PublicKey, Rounds, Seqno,
    Signature, StateCertificate, Term, Time, Tip, ValidatorIndex, ValidatorSet,
};
use thiserror::Error;

use crate::certificate::{CertificateError, check_commit, check_state_certificate};
use crate::late::check_late_votes;
use crate::rules::Rules;
use crate::schedule::{Schedule, elect};

/// Heights that a cut may move lanes beyond the newest state certificate.
pub const STATE_LAG_MAX: u64 = 64;

/// The current term of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneTerm {
    /// The term.
    pub term: Term,
    /// Hash of the header that began it; the chain id for the first.
    pub branch: Hash,
}

/// What a header follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its height; 0 for the genesis.
    pub height: Height,
    /// Its hash; the chain id for the genesis.
    pub hash: Hash,
    /// Its time.
    pub time: Time,
    /// Its cut.
    pub cut: Vec<Tip>,
    /// The term of each lane after it.
    pub terms: Vec<LaneTerm>,
    /// Rank of the primary after it.
    pub primary: usize,
    /// Why it is committed; none for the genesis.
    pub commit: Option<CommitCertificate>,
    /// Newest height whose state certificate stands in it or before it.
    pub certified: Height,
    /// Of which kind the rounds after it are.
    pub rounds: Rounds,
}

/// What does not change from header to header in an epoch.
#[derive(Clone, Debug)]
pub struct Context {
    /// The ledger.
    pub chain: Hash,
    /// The epoch's validators: those of the newest of `epochs`.
    pub set: ValidatorSet,
    /// Who leads and sequences in it.
    pub schedule: Schedule,
    /// Every epoch up to this one.
    pub epochs: Epochs,
    /// Whether sets change: then what does not verify may be of an epoch that is not known here yet.
    pub sets_change: bool,
    /// Which rules hold: all, but in tests that show what each is for.
    pub rules: Rules,
    /// Signatures of validators that were checked already.
    pub verified: Arc<Verified>,
    /// What makes coins of parts, where that is done.
    pub coin: Option<CoinScheme>,
}

impl Context {
    /// The context of a set over `lane_count` lanes, without what makes coins: parts are not checked.
    #[must_use]
    pub fn new(chain: Hash, set: ValidatorSet, lane_count: u16) -> Self {
        Self::in_epoch(chain, Epochs::new(set, lane_count))
    }

    /// As [`Context::new`], in the newest of `epochs`.
    #[must_use]
    pub fn in_epoch(chain: Hash, epochs: Epochs) -> Self {
        let Epoch { set, schedule, .. } = epochs.current().clone();
        let (rules, verified) = (Rules::ALL, Arc::default());
        Self { chain, set, schedule, epochs, sets_change: false, rules, verified, coin: None }
    }

    /// Takes a committed header: after one that carries a set the next epoch begins, whose coin is not known yet.
    pub fn pass(&mut self, header: &Header) {
        self.epochs.pass(header);
        let Epoch { set, schedule, .. } = self.epochs.current();
        if set.epoch != self.set.epoch {
            (self.set, self.schedule, self.coin) = (set.clone(), schedule.clone(), None);
        }
    }

    /// The validators whose votes of a height count.
    #[must_use]
    pub fn set_at(&self, height: Height) -> &ValidatorSet {
        &self.epochs.at(height).set
    }

    /// What the coin of an open round signs.
    #[must_use]
    pub fn coin_message(&self, (height, round): (Height, u32)) -> Vec<u8> {
        coin_message(&self.chain, self.set_at(height).epoch, height, round)
    }

    /// Whether a coin is what belongs to a precommit's round: in an open one the coin that elects its instance.
    #[must_use]
    pub fn is_elected(&self, vote: &Precommit, coin: Option<&Coin>) -> bool {
        coin_fits(vote, coin, |coin| self.elected((vote.height, vote.round), coin))
    }

    /// The instance that `coin` elects in an open round, if it is that round's coin.
    #[must_use]
    pub fn elected(&self, place: (Height, u32), coin: &Coin) -> Option<ValidatorIndex> {
        let set = self.set_at(place.0);
        let message = self.coin_message(place);
        self.verified.verify_coin(&set.coin?, &message, coin).then(|| elect(set, coin))
    }

    /// Whether `signature` is of `body` under `tag` by `key`, in this ledger and an epoch of it.
    #[must_use]
    pub fn verifies(
        &self,
        (key, epoch): (&PublicKey, u64),
        tag: Tag,
        body: &[u8],
        signature: &Signature,
    ) -> bool {
        let message = signing_bytes(&self.chain, epoch, tag, body);
        self.verified.verify(key, &message, signature)
    }
}

/// Why a header may not follow its parent.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// Another height, parent or epoch.
    #[error("the header does not follow the last one: {what}")]
    Link {
        /// Which field.
        what: &'static str,
    },
    /// The cut has not exactly one tip for each lane.
    #[error("the cut has not one tip for each lane, ascending")]
    CutShape,
    /// A tip goes back, or changes without moving, or is of another term.
    #[error("the tip of lane {lane} does not extend the last cut")]
    TipBack {
        /// The lane.
        lane: Lane,
    },
    /// A tip leaves out what a third reported.
    #[error("lane {lane} stops at chunk {index}, a third holds {required}")]
    LeftOut {
        /// The lane.
        lane: Lane,
        /// What the header has.
        index: u64,
        /// What it must reach.
        required: u64,
    },
    /// Terms end that need not, or go on that must end.
    #[error("lane {lane}: its term has to {}", if *.ends { "end" } else { "go on" })]
    Terms {
        /// The first lane that differs.
        lane: Lane,
        /// Whether its term ends.
        ends: bool,
    },
    /// Lanes move too far beyond the certified state.
    #[error("lanes move {lag} heights after the newest state certificate")]
    StateLag {
        /// Heights since.
        lag: u64,
    },
    /// Not the time that follows from `prev_commit`.
    #[error("the time is {time}, it follows that it is {due}")]
    Time {
        /// What the header has.
        time: Time,
        /// What is due.
        due: Time,
    },
    /// Not the rounds that follow from `prev_commit`.
    #[error("the kinds of the next rounds do not follow from how the header before was decided")]
    Rounds,
    /// `prev_commit` does not commit the parent.
    #[error("prev_commit: {0}")]
    PrevCommit(CertificateError),
    /// The state certificate does not hold.
    #[error("state certificate: {0}")]
    State(CertificateError),
    /// An epoch ends that need not, goes on that must end, or ends with another set.
    #[error("the next set is not the one that the embedded state certificate names")]
    NextSet,
    /// A late vote that must not be there.
    #[error("late vote of validator {validator}: {why}")]
    LateVote {
        /// Whose.
        validator: ValidatorIndex,
        /// Why not.
        why: &'static str,
    },
    /// A field whose rules are not built yet is not empty.
    #[error("{what} is not built yet")]
    NotBuilt {
        /// The field.
        what: &'static str,
    },
}

/// The cut before height 1: every lane empty in its first term.
#[must_use]
pub fn genesis_cut(lane_count: u16) -> Vec<Tip> {
    (0..lane_count)
        .map(|lane| Tip {
            lane: Lane::new(lane),
            term: TERM_FIRST,
            index: 0,
            seqno: Seqno::default(),
            lane_root: merkle::empty_root(),
            chunk_hash: Hash::ZERO,
        })
        .collect()
}

impl Parent {
    /// What height 1 follows.
    #[must_use]
    pub fn genesis(chain: Hash, time: Time, lane_count: u16, rounds: Rounds) -> Self {
        Self {
            height: Height::default(),
            hash: chain,
            time,
            cut: genesis_cut(lane_count),
            terms: vec![LaneTerm { term: TERM_FIRST, branch: chain }; usize::from(lane_count)],
            primary: 0,
            commit: None,
            certified: Height::default(),
            rounds,
        }
    }

    /// What the height after `header` follows, which itself followed `before`; `schedule` is that of the height after it.
    #[must_use]
    pub fn of(
        header: &Header,
        commit: CommitCertificate,
        before: &Self,
        schedule: &Schedule,
    ) -> Self {
        let hash = header_hash(header);
        let mut terms = before.terms.clone();
        for (lane, term) in &header.term_changes {
            if let Some(current) = terms.get_mut(usize::from(lane.get())) {
                *current = LaneTerm { term: *term, branch: hash };
            }
        }
        Self {
            height: header.height,
            hash,
            time: header.time,
            cut: header.cut.clone(),
            terms,
            primary: schedule.primary_after(header, before.primary),
            commit: Some(commit),
            certified: certified_after(before.certified, header.state_certificate.as_ref()),
            rounds: header.rounds,
        }
    }

    /// What the header that follows says of the rounds after it; `commit` is the certificate that it carries.
    fn rounds_due(
        &self,
        commit: Option<&CommitCertificate>,
        next: Option<&ValidatorSet>,
    ) -> Rounds {
        if let Some(next) = next {
            return Rounds::genesis(next.coin.is_some());
        }
        let decided = commit.and_then(|commit| commit.precommits.first()).map(|vote| vote.kind);
        self.rounds.after(self.height.next(), decided)
    }

    /// The term of a lane.
    #[must_use]
    pub fn term(&self, lane: Lane) -> Option<LaneTerm> {
        self.terms.get(usize::from(lane.get())).copied()
    }

    /// The lanes whose term ends in the header that follows, with the terms that begin: those that precommits of a third
    /// suspect.
    #[must_use]
    pub fn term_changes_due(&self, context: &Context) -> Vec<(Lane, Term)> {
        let (set, rules) = (context.set_at(self.height), context.rules);
        let Some(commit) = &self.commit else { return Vec::new() };
        let counts = |named: &(Lane, Term), lane, term| {
            named.0 == lane && (named.1 == term || !rules.suspicions_of_terms)
        };
        let suspected = |lane: Lane, term: Term| {
            let votes = commit.precommits.iter();
            let votes =
                votes.filter(|vote| vote.suspects.iter().any(|named| counts(named, lane, term)));
            set.is_third(set.power_of(votes.map(|vote| vote.validator)))
        };
        self.cut
            .iter()
            .zip(&self.terms)
            .filter(|(tip, current)| suspected(tip.lane, current.term))
            .map(|(tip, current)| (tip.lane, current.term.next()))
            .collect()
    }

    /// As [`term_changes_due`](Self::term_changes_due), of an epoch's last header: every lane's (P2 of `proof::epochs`).
    fn all_terms_end(&self) -> Vec<(Lane, Term)> {
        self.cut.iter().zip(&self.terms).map(|(tip, now)| (tip.lane, now.term.next())).collect()
    }

    /// The name of the set that the header that follows must carry, if it embeds `certificate`: that of a state of this
    /// epoch which names one.
    #[must_use]
    pub fn next_set_due(
        &self,
        context: &Context,
        certificate: Option<&StateCertificate>,
    ) -> Option<Hash> {
        let state = certificate?.state;
        state.next_set.filter(|_| state.height >= context.epochs.current().first)
    }

    /// The time of the header that follows.
    #[must_use]
    pub fn time_due(&self, context: &Context) -> Time {
        let (least, set) = (self.time.next(), context.set_at(self.height));
        let median = self.commit.as_ref().and_then(|commit| median_time(set, &commit.precommits));
        median.map_or(least, |median| median.max(least))
    }

    /// The index that the header that follows must reach in a lane.
    #[must_use]
    pub fn index_required(&self, context: &Context, lane: Lane) -> u64 {
        let (set, rules) = (context.set_at(self.height), context.rules);
        let Some((tip, current)) = tip_of(&self.cut, lane).zip(self.term(lane)) else { return 0 };
        let Some(commit) = &self.commit else { return tip.index };
        let mut reported: Vec<(u64, u128)> = commit
            .precommits
            .iter()
            .filter_map(|vote| {
                let own = tip_of(&vote.tips, lane);
                let is_live = |term| term == current.term || !rules.tips_of_live_terms;
                let reported = own.filter(|found| is_live(found.term))?;
                Some((reported.index, set.power(vote.validator)))
            })
            .collect();
        let signers =
            || commit.precommits.iter().map(|vote| set.power(vote.validator)).sum::<u128>();
        let is_third = |power: u128| match rules.thirds_of_all {
            true => set.is_third(power),
            false => power.saturating_mul(3) > signers(),
        };
        index_reached(&mut reported, is_third).unwrap_or(0).max(tip.index)
    }

    /// Whether the header that follows may move lanes, when it embeds `certificate`.
    #[must_use]
    pub fn may_move(&self, certificate: Option<&StateCertificate>) -> bool {
        self.state_lag(certificate) <= STATE_LAG_MAX
    }

    fn state_lag(&self, certificate: Option<&StateCertificate>) -> u64 {
        let certified = certified_after(self.certified, certificate);
        self.height.next().get().saturating_sub(certified.get())
    }

    /// The header that follows with these tips (one for each lane, ascending); `known` is the next set, where one is known:
    /// a certificate that names another is not embedded.
    #[must_use]
    pub fn next(
        &self,
        context: &Context,
        proposer: ValidatorIndex,
        cut: Vec<Tip>,
        certificate: Option<StateCertificate>,
        known: Option<&ValidatorSet>,
    ) -> Header {
        let due = self.next_set_due(context, certificate.as_ref());
        let next_set = known.filter(|set| due == Some(set_hash(set)));
        let state_certificate = certificate.filter(|_| due.is_none() || next_set.is_some());
        Header {
            epoch: context.set.epoch,
            height: self.height.next(),
            proposer,
            prev_header: self.hash,
            cut,
            term_changes: match next_set {
                Some(_) => self.all_terms_end(),
                None => self.term_changes_due(context),
            },
            time: self.time_due(context),
            prev_commit: self.commit.clone(),
            late_votes: Vec::new(),
            state_certificate,
            next_set: next_set.cloned(),
            evidence_root: merkle::empty_root(),
            rounds: self.rounds_due(self.commit.as_ref(), next_set),
        }
    }
}

fn certified_after(certified: Height, certificate: Option<&StateCertificate>) -> Height {
    certificate.map_or(certified, |certificate| certificate.state.height.max(certified))
}

/// The greatest index that validators of enough power reach together.
pub(crate) fn index_reached(
    reported: &mut [(u64, u128)],
    enough: impl Fn(u128) -> bool,
) -> Option<u64> {
    reported.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
    let mut power = 0_u128;
    reported.iter().find_map(|(index, own)| {
        power = power.saturating_add(*own);
        enough(power).then_some(*index)
    })
}

/// The lower stake-weighted median of the times of votes.
fn median_time(set: &ValidatorSet, votes: &[Precommit]) -> Option<Time> {
    let mut times: Vec<(Time, u128)> =
        votes.iter().map(|vote| (vote.time, set.power(vote.validator))).collect();
    times.sort();
    let total = times.iter().map(|(_, power)| power).sum::<u128>();
    let mut power = 0_u128;
    times.into_iter().find_map(|(time, own)| {
        power = power.saturating_add(own);
        (power.saturating_mul(2) >= total).then_some(time)
    })
}

/// Whether `header` may follow `parent`. What only a validator's store can say (acks, chunks held) is not asked here.
///
/// # Errors
/// The first rule it breaks.
pub fn check(header: &Header, parent: &Parent, context: &Context) -> Result<(), HeaderError> {
    check_links(header, parent, context)?;
    check_cut(header, parent, context)?;
    let due = parent.time_due_by(header, context);
    if header.time != due {
        return Err(HeaderError::Time { time: header.time, due });
    }
    if let Some(certificate) = &header.state_certificate {
        let height = certificate.state.height;
        if height <= parent.certified || height > parent.height {
            return Err(HeaderError::State(CertificateError::Presence));
        }
        check_state_certificate(certificate, context).map_err(HeaderError::State)?;
    }
    check_late_votes(header, context)?;
    let due = parent.next_set_due(context, header.state_certificate.as_ref());
    match (&header.next_set, due) {
        (None, None) => Ok(()),
        (Some(set), Some(due))
            if set_hash(set) == due
                && set.is_sound()
                && Some(set.epoch) == context.set.epoch.checked_add(1) =>
        {
            Ok(())
        }
        _ => Err(HeaderError::NextSet),
    }
}

impl Parent {
    /// As [`time_due`](Self::time_due), by the certificate that the header itself carries.
    fn time_due_by(&self, header: &Header, context: &Context) -> Time {
        let (least, set) = (self.time.next(), context.set_at(self.height));
        let votes = header.prev_commit.as_ref().map(|commit| commit.precommits.as_slice());
        votes.and_then(|votes| median_time(set, votes)).map_or(least, |median| median.max(least))
    }
}

fn check_links(header: &Header, parent: &Parent, context: &Context) -> Result<(), HeaderError> {
    let links = [
        (header.height == parent.height.next(), "height"),
        (header.prev_header == parent.hash, "prev_header"),
        (header.epoch == context.set.epoch, "epoch"),
        (context.set.get(header.proposer).is_some(), "proposer"),
    ];
    if let Some((_, what)) = links.into_iter().find(|(holds, _)| !holds) {
        return Err(HeaderError::Link { what });
    }
    if header.evidence_root != merkle::empty_root() {
        return Err(HeaderError::NotBuilt { what: "evidence_root" });
    }
    match (&header.prev_commit, &parent.commit) {
        (None, None) => Ok(()),
        // What this validator committed by was verified, vote by vote, as it came.
        (Some(carried), Some(own)) if carried == own => Ok(()),
        (Some(carried), Some(_)) => check_commit(carried, parent.height, &parent.hash, context)
            .map_err(HeaderError::PrevCommit),
        _ => Err(HeaderError::PrevCommit(CertificateError::Presence)),
    }?;
    if header.rounds == parent.rounds_due(header.prev_commit.as_ref(), header.next_set.as_ref()) {
        Ok(())
    } else {
        Err(HeaderError::Rounds)
    }
}

fn check_cut(header: &Header, parent: &Parent, context: &Context) -> Result<(), HeaderError> {
    let same_lanes = header.cut.len() == parent.cut.len()
        && header.cut.iter().zip(&parent.cut).all(|(tip, before)| tip.lane == before.lane);
    if !same_lanes {
        return Err(HeaderError::CutShape);
    }
    let may_move = parent.may_move(header.state_certificate.as_ref());
    let by_header = Parent { commit: header.prev_commit.clone(), ..parent.clone() };
    check_terms(header, &by_header, context)?;
    for ((tip, before), current) in header.cut.iter().zip(&parent.cut).zip(&parent.terms) {
        let lane = tip.lane;
        if tip != before {
            let extends =
                tip.term == current.term && tip.index > before.index && tip.seqno >= before.seqno;
            if !extends {
                return Err(HeaderError::TipBack { lane });
            }
            if !may_move {
                let lag = parent.state_lag(header.state_certificate.as_ref());
                return Err(HeaderError::StateLag { lag });
            }
        }
        let required = by_header.index_required(context, lane);
        let is_bound = may_move || !context.rules.lag_frees_cuts;
        if is_bound && context.rules.inclusion && tip.index < required {
            return Err(HeaderError::LeftOut { lane, index: tip.index, required });
        }
    }
    Ok(())
}

fn check_terms(header: &Header, by_header: &Parent, context: &Context) -> Result<(), HeaderError> {
    let due = match header.next_set {
        Some(_) => by_header.all_terms_end(),
        None => by_header.term_changes_due(context),
    };
    let missing = due.iter().find(|change| !header.term_changes.contains(change));
    if let Some((lane, _)) = missing.filter(|_| context.rules.terms_end) {
        return Err(HeaderError::Terms { lane: *lane, ends: true });
    }
    let next = |lane: Lane| by_header.term(lane).map(|current| current.term.next());
    let excess = header.term_changes.iter().find(|(lane, term)| {
        next(*lane) != Some(*term)
            || (context.rules.terms_justified && !due.contains(&(*lane, *term)))
    });
    match excess {
        Some((lane, _)) => Err(HeaderError::Terms { lane: *lane, ends: false }),
        None => Ok(()),
    }
}
