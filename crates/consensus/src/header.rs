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
//! * More than [`STATE_LAG_MAX`] heights after the newest state certificate, a cut moves no lane.

use std::sync::Arc;

use quipu_crypto::suite::VerifyItem;
use quipu_crypto::{Tag, Verified, merkle, signing_bytes};
use quipu_proof::names::header_hash;
pub use quipu_proof::order::{lane_order, moves, tip_of};
use quipu_types::{
    CommitCertificate, Encode, Hash, Header, Height, High, Lane, Precommit, Prevote, PublicKey,
    RoundChangeCertificate, RoundKind, Seqno, Signature, StateCertificate, Term, Time, Tip,
    ValidatorIndex, ValidatorSet,
};
use thiserror::Error;

use crate::rules::Rules;
use crate::schedule::Schedule;

/// Heights that a cut may move lanes beyond the newest state certificate.
pub const STATE_LAG_MAX: u64 = 64;
/// The first term of every lane.
pub const TERM_FIRST: Term = Term::new(1);

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
}

/// What does not change from header to header in an epoch.
#[derive(Clone, Debug)]
pub struct Context {
    /// The ledger.
    pub chain: Hash,
    /// The epoch's validators.
    pub set: ValidatorSet,
    /// Who leads and sequences.
    pub schedule: Schedule,
    /// Which rules hold: all, but in tests that show what each is for.
    pub rules: Rules,
    /// Signatures of validators that were checked already.
    pub verified: Arc<Verified>,
}

impl Context {
    /// The context of a set over `lane_count` lanes.
    #[must_use]
    pub fn new(chain: Hash, set: ValidatorSet, lane_count: u16) -> Self {
        let schedule = Schedule::new(&set, usize::from(lane_count));
        Self { chain, set, schedule, rules: Rules::ALL, verified: Arc::default() }
    }

    /// Whether `signature` is of `body` under `tag` by `key`, in this ledger and epoch.
    #[must_use]
    pub fn verifies(&self, key: &PublicKey, tag: Tag, body: &[u8], signature: &Signature) -> bool {
        let message = signing_bytes(&self.chain, self.set.epoch, tag, body);
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
    /// `prev_commit` does not commit the parent.
    #[error("prev_commit: {0}")]
    PrevCommit(CertificateError),
    /// The state certificate does not hold.
    #[error("state certificate: {0}")]
    State(CertificateError),
    /// A field whose rules are not built yet is not empty.
    #[error("{what} is not built yet")]
    NotBuilt {
        /// The field.
        what: &'static str,
    },
}

/// Why a certificate does not hold.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateError {
    /// It is there and must not be, or the other way round.
    #[error("missing, or where none belongs")]
    Presence,
    /// Its votes are not about what it is to certify.
    #[error("the vote of validator {validator} is about something else")]
    Foreign {
        /// Whose.
        validator: ValidatorIndex,
    },
    /// A signer is not of the set, or its signature does not verify.
    #[error("the signature of validator {validator} does not verify")]
    Signature {
        /// Whose.
        validator: ValidatorIndex,
    },
    /// Signers do not ascend.
    #[error("signers do not ascend")]
    Order,
    /// Less than a quorum.
    #[error("{power} of {power_total} is no quorum")]
    Power {
        /// Stake of the signers.
        power: u128,
        /// Stake of all.
        power_total: u128,
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
    pub fn genesis(chain: Hash, time: Time, lane_count: u16) -> Self {
        Self {
            height: Height::default(),
            hash: chain,
            time,
            cut: genesis_cut(lane_count),
            terms: vec![LaneTerm { term: TERM_FIRST, branch: chain }; usize::from(lane_count)],
            primary: 0,
            commit: None,
            certified: Height::default(),
        }
    }

    /// What the height after `header` follows, which itself followed `before`.
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
        }
    }

    /// The term of a lane.
    #[must_use]
    pub fn term(&self, lane: Lane) -> Option<LaneTerm> {
        self.terms.get(usize::from(lane.get())).copied()
    }

    /// The lanes whose term ends in the header that follows, with the terms that begin: those that precommits of a third
    /// suspect.
    #[must_use]
    pub fn term_changes_due(&self, set: &ValidatorSet) -> Vec<(Lane, Term)> {
        let Some(commit) = &self.commit else { return Vec::new() };
        let suspected = |lane: Lane, term: Term| {
            let votes = commit.precommits.iter();
            let power = votes
                .filter(|vote| vote.suspects.contains(&(lane, term)))
                .fold(0_u128, |power, vote| power.saturating_add(set.power(vote.validator)));
            set.is_third(power)
        };
        self.cut
            .iter()
            .zip(&self.terms)
            .filter(|(tip, current)| suspected(tip.lane, current.term))
            .map(|(tip, current)| (tip.lane, current.term.next()))
            .collect()
    }

    /// The time of the header that follows.
    #[must_use]
    pub fn time_due(&self, set: &ValidatorSet) -> Time {
        let least = self.time.next();
        let median = self.commit.as_ref().and_then(|commit| median_time(set, &commit.precommits));
        median.map_or(least, |median| median.max(least))
    }

    /// The index that the header that follows must reach in a lane.
    #[must_use]
    pub fn index_required(&self, context: &Context, lane: Lane) -> u64 {
        let Context { set, rules, .. } = context;
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
        index_reached(&mut reported, |power| set.is_third(power)).unwrap_or(0).max(tip.index)
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

    /// The header that follows with these tips (one for each lane, ascending).
    #[must_use]
    pub fn next(
        &self,
        context: &Context,
        proposer: ValidatorIndex,
        cut: Vec<Tip>,
        state_certificate: Option<StateCertificate>,
    ) -> Header {
        Header {
            epoch: context.set.epoch,
            height: self.height.next(),
            proposer,
            prev_header: self.hash,
            cut,
            term_changes: self.term_changes_due(&context.set),
            time: self.time_due(&context.set),
            prev_commit: self.commit.clone(),
            late_votes: Vec::new(),
            state_certificate,
            next_set_hash: None,
            evidence_root: merkle::empty_root(),
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
    let due = parent.time_due_by(header, &context.set);
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
    Ok(())
}

impl Parent {
    /// As [`time_due`](Self::time_due), by the certificate that the header itself carries.
    fn time_due_by(&self, header: &Header, set: &ValidatorSet) -> Time {
        let least = self.time.next();
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
    let built = [
        (header.late_votes.is_empty(), "late_votes"),
        (header.next_set_hash.is_none(), "next_set_hash"),
        (header.evidence_root == merkle::empty_root(), "evidence_root"),
    ];
    if let Some((_, what)) = built.into_iter().find(|(holds, _)| !holds) {
        return Err(HeaderError::NotBuilt { what });
    }
    match (&header.prev_commit, &parent.commit) {
        (None, None) => Ok(()),
        // What this validator committed by was verified, vote by vote, as it came.
        (Some(carried), Some(own)) if carried == own => Ok(()),
        (Some(carried), Some(_)) => check_commit(carried, parent.height, &parent.hash, context)
            .map_err(HeaderError::PrevCommit),
        _ => Err(HeaderError::PrevCommit(CertificateError::Presence)),
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
        if may_move && context.rules.inclusion && tip.index < required {
            return Err(HeaderError::LeftOut { lane, index: tip.index, required });
        }
    }
    Ok(())
}

fn check_terms(header: &Header, by_header: &Parent, context: &Context) -> Result<(), HeaderError> {
    let due = by_header.term_changes_due(&context.set);
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

/// Signatures that count as one: each validator's once, ascending, together of a quorum. They are checked together.
struct Quorum<'a> {
    context: &'a Context,
    last: Option<ValidatorIndex>,
    power: u128,
    unchecked: Vec<(ValidatorIndex, PublicKey, Vec<u8>, &'a Signature)>,
}

impl<'a> Quorum<'a> {
    const fn new(context: &'a Context) -> Self {
        Self { context, last: None, power: 0, unchecked: Vec::new() }
    }

    /// Counts a signature of `body`.
    fn add(
        &mut self,
        validator: ValidatorIndex,
        tag: Tag,
        body: &[u8],
        signature: &'a Signature,
    ) -> Result<(), CertificateError> {
        let Context { chain, set, .. } = self.context;
        if self.last >= Some(validator) {
            return Err(CertificateError::Order);
        }
        self.last = Some(validator);
        let key = set.get(validator).ok_or(CertificateError::Signature { validator })?.key;
        let message = signing_bytes(chain, set.epoch, tag, body);
        self.unchecked.push((validator, key, message, signature));
        self.power = self.power.saturating_add(set.power(validator));
        Ok(())
    }

    /// Whether what was counted so far is enough.
    fn is_enough(&self) -> bool {
        self.context.set.is_quorum(self.power)
    }

    fn check(self) -> Result<(), CertificateError> {
        let Self { context, power, .. } = self;
        // What is cheap to see goes first.
        if !context.set.is_quorum(power) {
            let power_total = context.set.power_total();
            return Err(CertificateError::Power { power, power_total });
        }
        let items: Vec<VerifyItem<'_>> = self
            .unchecked
            .iter()
            .map(|(_, key, message, signature)| VerifyItem { key, message, signature })
            .collect();
        let verdicts = context.verified.verify_many(&items);
        match self.unchecked.iter().zip(verdicts).find(|(_, holds)| !holds) {
            Some(((validator, ..), _)) => {
                Err(CertificateError::Signature { validator: *validator })
            }
            None => Ok(()),
        }
    }
}

/// Whether a certificate commits the header `digest` at `height`.
///
/// # Errors
/// Which vote does not hold, or that they are too few.
pub fn check_commit(
    certificate: &CommitCertificate,
    height: Height,
    digest: &Hash,
    context: &Context,
) -> Result<(), CertificateError> {
    let first = certificate.precommits.first().ok_or(CertificateError::Presence)?;
    let mut quorum = Quorum::new(context);
    for vote in &certificate.precommits {
        let validator = vote.validator;
        let same = (vote.height, vote.digest) == (height, *digest)
            && (vote.round, vote.kind, vote.instance) == (first.round, first.kind, first.instance);
        if !same {
            return Err(CertificateError::Foreign { validator });
        }
        if !context.rules.all_signatures && quorum.is_enough() {
            continue;
        }
        quorum.add(validator, Tag::Precommit, &vote.signed_body(), &vote.signature)?;
    }
    quorum.check()
}

/// Whether a quorum prevoted one header in one round (a polka, QC1).
///
/// # Errors
/// Which vote does not hold, or that they are too few.
pub fn check_polka(
    polka: &[Prevote],
    height: Height,
    high: &High,
    context: &Context,
) -> Result<(), CertificateError> {
    let mut quorum = Quorum::new(context);
    for vote in polka {
        let validator = vote.validator;
        let place = (vote.height, vote.round, vote.kind, vote.instance, vote.digest);
        if place != (height, high.round, RoundKind::Led, high.instance, high.digest) {
            return Err(CertificateError::Foreign { validator });
        }
        quorum.add(validator, Tag::Prevote, &vote.signed_body(), &vote.signature)?;
    }
    quorum.check()
}

/// Whether a quorum changed to `round`, and the certificate carries the polka of the highest that they name.
///
/// # Errors
/// Which word or vote does not hold, or that they are too few.
pub fn check_round_change(
    certificate: &RoundChangeCertificate,
    height: Height,
    round: u32,
    context: &Context,
) -> Result<(), CertificateError> {
    let mut quorum = Quorum::new(context);
    for change in &certificate.changes {
        let validator = change.validator;
        let below = change.high.is_none_or(|high| high.round < round);
        if (change.height, change.round, change.kind) != (height, round, RoundKind::Led) || !below {
            return Err(CertificateError::Foreign { validator });
        }
        quorum.add(validator, Tag::RoundChange, &change.signed_body(), &change.signature)?;
    }
    quorum.check()?;
    match certificate.high() {
        None if certificate.polka.is_empty() => Ok(()),
        None => Err(CertificateError::Presence),
        Some(high) => check_polka(&certificate.polka, height, &high, context),
    }
}

/// Whether a quorum signed a state.
///
/// # Errors
/// Which signature does not hold, or that they are too few.
pub fn check_state_certificate(
    certificate: &StateCertificate,
    context: &Context,
) -> Result<(), CertificateError> {
    let body = certificate.state.to_bytes();
    let mut quorum = Quorum::new(context);
    for (validator, signature) in &certificate.signatures {
        quorum.add(*validator, Tag::StateVote, &body, signature)?;
    }
    quorum.check()
}

/// Whether `validator` signed `body`.
///
/// # Errors
/// When it is not of the set, or did not.
pub(crate) fn verify_by(
    context: &Context,
    validator: ValidatorIndex,
    tag: Tag,
    body: &[u8],
    signature: &Signature,
) -> Result<(), CertificateError> {
    let wrong = CertificateError::Signature { validator };
    let key = context.set.get(validator).ok_or(wrong)?.key;
    if context.verifies(&key, tag, body, signature) { Ok(()) } else { Err(wrong) }
}
