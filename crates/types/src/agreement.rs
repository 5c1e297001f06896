//! Cuts, headers, votes, certificates and validator sets: what validators sign to agree on an order.
//!
//! ```text
//!  Tip ──┐                      ┌─ Prevote ×q  = polka (QC1)
//!  Tip ──┼─ cut ─ Header ─ Propose              │
//!  Tip ──┘                      └─ Precommit ×q = CommitCertificate (QC2) ─> prev_commit of the next header
//!  Header executed ─ SignedState ─ StateVote ×q = StateCertificate ────────> a later header
//! ```
//! Quorum: `3·p > 2·S`; third: `3·p > S`; powers add up in `u128`. Every message's signature covers
//! `domain ‖ signed_body()`; which tag the domain has is said at each type (see `quipu-crypto`).

use crate::codec::{Decode, DecodeError, Encode, Reader, put_count, put_list, put_option};
use crate::coin::{Coin, CoinKey};
use crate::number::{Hash, Height, Lane, PublicKey, Seqno, Signature, Term, Time, ValidatorIndex};
use crate::round::{RoundChangeCertificate, Rounds};

/// Most validators of a set.
pub const VALIDATOR_COUNT_MAX: usize = 128;
/// Most lanes of a ledger.
pub const LANE_COUNT_MAX: usize = 64;
/// Most suspicions in one precommit.
pub const SUSPECT_COUNT_MAX: usize = LANE_COUNT_MAX;

/// How far a lane reaches: its last chunk. `index` 0 and a zero `chunk_hash` mean "nothing yet".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The lane.
    pub lane: Lane,
    /// Term of the chunk.
    pub term: Term,
    /// Index of the chunk.
    pub index: u64,
    /// Seqno of its last transaction.
    pub seqno: Seqno,
    /// Root of the lane's tree there.
    pub lane_root: Hash,
    /// Hash of the chunk's header.
    pub chunk_hash: Hash,
}

/// "I hold these whole prefixes, durably." Tag `Ack`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Who says so.
    pub validator: ValidatorIndex,
    /// Tips of the lanes that moved, ascending by lane.
    pub tips: Vec<Tip>,
    /// Over [`Ack::signed_body`].
    pub signature: Signature,
}

/// Whether a round has a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoundKind {
    /// One leader proposes, timers run.
    Led,
    /// Everyone proposes, no timers, a coin elects.
    Open,
}

/// The value that consensus agrees on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Epoch of the validator set.
    pub epoch: u64,
    /// Height.
    pub height: Height,
    /// Who made the header.
    pub proposer: ValidatorIndex,
    /// Hash of the header before; the chain id at height 1.
    pub prev_header: Hash,
    /// One tip per lane, ascending by lane.
    pub cut: Vec<Tip>,
    /// Lanes whose term ends here, with the term that begins, ascending by lane.
    pub term_changes: Vec<(Lane, Term)>,
    /// Agreed time, above the parent's.
    pub time: Time,
    /// The certificate of the header before; none at height 1.
    pub prev_commit: Option<CommitCertificate>,
    /// Precommits of the last heights by validators that are not in `prev_commit`, as they were signed, ascending by
    /// validator: they were there.
    pub late_votes: Vec<Precommit>,
    /// The newest state certificate that no header before embeds.
    pub state_certificate: Option<StateCertificate>,
    /// The next epoch's set, in an epoch's last header: the one that the state certificate in it names.
    pub next_set: Option<ValidatorSet>,
    /// RFC 9162 root over the evidence that this header brings; the empty root when none.
    pub evidence_root: Hash,
    /// Of which kind the rounds of the next height are.
    pub rounds: Rounds,
}

/// A proposal of one header. Tag `Propose`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Propose {
    /// Height.
    pub height: Height,
    /// Round.
    pub round: u32,
    /// Kind of the round.
    pub kind: RoundKind,
    /// Who proposes now; the header keeps who made it.
    pub instance: ValidatorIndex,
    /// The header.
    pub header: Header,
    /// Why round `round` may begin, and with which value; none in round 0.
    pub certificate: Option<RoundChangeCertificate>,
    /// Over [`Propose::signed_body`].
    pub signature: Signature,
}

/// A vote that the header is valid and its chunks are held. Tag `Prevote`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prevote {
    /// Height.
    pub height: Height,
    /// Round.
    pub round: u32,
    /// Kind of the round.
    pub kind: RoundKind,
    /// Instance voted on.
    pub instance: ValidatorIndex,
    /// Hash of the header.
    pub digest: Hash,
    /// Hash of the very proposal.
    pub proposal: Hash,
    /// Who votes.
    pub validator: ValidatorIndex,
    /// Over [`Prevote::signed_body`].
    pub signature: Signature,
}

/// A vote that a quorum prevoted and the bodies are held, durably. Tag `Precommit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precommit {
    /// Height.
    pub height: Height,
    /// Round.
    pub round: u32,
    /// Kind of the round.
    pub kind: RoundKind,
    /// Instance voted on.
    pub instance: ValidatorIndex,
    /// Hash of the header.
    pub digest: Hash,
    /// Per lane the highest available tip that extends the cut, ascending by lane.
    pub tips: Vec<Tip>,
    /// Lanes and terms suspected, ascending by lane.
    pub suspects: Vec<(Lane, Term)>,
    /// The voter's clock, at least its header's time + 1 µs.
    pub time: Time,
    /// Who votes.
    pub validator: ValidatorIndex,
    /// Over [`Precommit::signed_body`].
    pub signature: Signature,
}

/// Precommits of more than 2/3 of the stake on one header, ascending by validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitCertificate {
    /// Their votes; all of one height, round, kind, instance and digest.
    pub precommits: Vec<Precommit>,
    /// In an open round: the coin that elects their instance. Without it they prove nothing.
    pub coin: Option<Coin>,
}

/// What execution of a height gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedState {
    /// Height.
    pub height: Height,
    /// Root of the state after it.
    pub state_root: Hash,
    /// Root over its receipts.
    pub receipts_root: Hash,
    /// Name of the next epoch's set, from when it is known in this epoch until the epoch ends.
    pub next_set: Option<Hash>,
}

/// A validator's word on [`SignedState`]. Tag `StateVote`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateVote {
    /// What execution gave.
    pub state: SignedState,
    /// Who votes.
    pub validator: ValidatorIndex,
    /// Over [`SignedState::to_bytes`].
    pub signature: Signature,
}

/// Signatures of more than 2/3 of the stake on one state, ascending by validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateCertificate {
    /// What execution gave.
    pub state: SignedState,
    /// Who signed.
    pub signatures: Vec<(ValidatorIndex, Signature)>,
}

/// One validator of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validator {
    /// Its voting key.
    pub key: PublicKey,
    /// Its stake.
    pub power: u64,
    /// Whether it was away for so long that it sequences no lane and ranks last. It votes all the same, with all its power.
    pub is_stale: bool,
}

/// The validators of an epoch, 1 to [`VALIDATOR_COUNT_MAX`], in the order of their indices. A validator keeps its index from
/// epoch to epoch; one without power has no vote, no round and no lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorSet {
    /// The epoch.
    pub epoch: u64,
    /// The validators.
    pub validators: Vec<Validator>,
    /// The key of the coin of open rounds; none when none was dealt: then every round is led.
    pub coin: Option<CoinKey>,
}

/// Some validators of a set, each once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Voters(u128);

const _: () = assert!(VALIDATOR_COUNT_MAX == 128, "each validator has its bit");

impl ValidatorSet {
    /// The stake of all.
    #[must_use]
    pub fn power_total(&self) -> u128 {
        self.validators.iter().map(|validator| u128::from(validator.power)).sum()
    }

    /// The validator of an index.
    #[must_use]
    pub fn get(&self, index: ValidatorIndex) -> Option<&Validator> {
        self.validators.get(usize::from(index.get()))
    }

    /// The stake of `index`; 0 for an index that no one has.
    #[must_use]
    pub fn power(&self, index: ValidatorIndex) -> u128 {
        self.get(index).map_or(0, |validator| u128::from(validator.power))
    }

    /// The stake of several together, each given once.
    pub fn power_of(&self, validators: impl IntoIterator<Item = ValidatorIndex>) -> u128 {
        let powers = validators.into_iter().map(|validator| self.power(validator));
        powers.fold(0, u128::saturating_add)
    }

    /// Each validator's stake, in the order of their indices.
    #[must_use]
    pub fn powers(&self) -> Vec<u64> {
        self.validators.iter().map(|validator| validator.power).collect()
    }

    /// More than two thirds of the stake: `3·p > 2·S`.
    #[must_use]
    pub fn is_quorum(&self, power: u128) -> bool {
        power.saturating_mul(3) > self.power_total().saturating_mul(2)
    }

    /// More than a third of the stake: `3·p > S`, one honest validator at least.
    #[must_use]
    pub fn is_third(&self, power: u128) -> bool {
        power.saturating_mul(3) > self.power_total()
    }

    /// Whether it can be an epoch's: 1 to [`VALIDATOR_COUNT_MAX`] validators, each key once, and some stake.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let keys: std::collections::BTreeSet<&PublicKey> =
            self.validators.iter().map(|validator| &validator.key).collect();
        let count = self.validators.len();
        count <= VALIDATOR_COUNT_MAX && keys.len() == count && self.power_total() > 0
    }

    /// Index of a key.
    #[must_use]
    pub fn index_of(&self, key: &PublicKey) -> Option<ValidatorIndex> {
        let place = self.validators.iter().position(|validator| validator.key == *key)?;
        u16::try_from(place).ok().map(ValidatorIndex::new)
    }
}

impl Voters {
    /// These; indices that no set has are left out.
    #[must_use]
    pub fn of(validators: impl IntoIterator<Item = ValidatorIndex>) -> Self {
        let bits = validators.into_iter().map(Self::bit);
        Self(bits.fold(0, |all, bit| all | bit))
    }

    /// Whether this validator is among them.
    #[must_use]
    pub fn contains(self, validator: ValidatorIndex) -> bool {
        self.0 & Self::bit(validator) > 0
    }

    /// Those who are not among others.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Those who are among others too.
    #[must_use]
    pub const fn both(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// Whether there is nobody.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them, ascending.
    pub fn iter(self) -> impl Iterator<Item = ValidatorIndex> {
        (0..128).map(ValidatorIndex::new).filter(move |validator| self.contains(*validator))
    }

    fn bit(validator: ValidatorIndex) -> u128 {
        1_u128.checked_shl(validator.get().into()).unwrap_or(0)
    }
}

impl Header {
    /// Whose precommits it carries, of the height before and late ones.
    #[must_use]
    pub fn voters(&self) -> Voters {
        let commit = self.prev_commit.iter().flat_map(|commit| &commit.precommits);
        Voters::of(commit.chain(&self.late_votes).map(|vote| vote.validator))
    }
}

impl CommitCertificate {
    /// Hash of the header that is committed; `None` for a certificate without votes.
    #[must_use]
    pub fn digest(&self) -> Option<Hash> {
        self.precommits.first().map(|vote| vote.digest)
    }
}

impl Ack {
    /// What the signature covers.
    #[must_use]
    pub fn signed_body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.validator.encode(&mut out);
        put_list(&mut out, &self.tips);
        out
    }
}

impl Propose {
    /// What the signature covers.
    #[must_use]
    pub fn signed_body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_place(&mut out, self.height, self.round, self.kind, self.instance);
        self.header.encode(&mut out);
        put_option(&mut out, self.certificate.as_ref());
        out
    }
}

impl Prevote {
    /// What the signature covers.
    #[must_use]
    pub fn signed_body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_place(&mut out, self.height, self.round, self.kind, self.instance);
        self.digest.encode(&mut out);
        self.proposal.encode(&mut out);
        self.validator.encode(&mut out);
        out
    }
}

impl Precommit {
    /// What the signature covers.
    #[must_use]
    pub fn signed_body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_place(&mut out, self.height, self.round, self.kind, self.instance);
        self.digest.encode(&mut out);
        put_list(&mut out, &self.tips);
        put_lanes(&mut out, &self.suspects);
        self.time.encode(&mut out);
        self.validator.encode(&mut out);
        out
    }
}

pub(crate) fn put_place(
    out: &mut Vec<u8>,
    height: Height,
    round: u32,
    kind: RoundKind,
    instance: ValidatorIndex,
) {
    height.encode(out);
    out.extend_from_slice(&round.to_le_bytes());
    out.push(match kind {
        RoundKind::Led => 0,
        RoundKind::Open => 1,
    });
    instance.encode(out);
}

pub(crate) fn read_place(
    reader: &mut Reader<'_>,
) -> Result<(Height, u32, RoundKind, ValidatorIndex), DecodeError> {
    let height = Height::decode(reader)?;
    let round = reader.u32()?;
    let kind = match reader.u8()? {
        0 => RoundKind::Led,
        1 => RoundKind::Open,
        tag => return Err(DecodeError::Tag { what: "round kind", tag: u64::from(tag) }),
    };
    Ok((height, round, kind, ValidatorIndex::decode(reader)?))
}

fn put_lanes(out: &mut Vec<u8>, lanes: &[(Lane, Term)]) {
    put_count(out, lanes.len());
    for (lane, term) in lanes {
        lane.encode(out);
        term.encode(out);
    }
}

fn read_lanes(reader: &mut Reader<'_>) -> Result<Vec<(Lane, Term)>, DecodeError> {
    let count = reader.count("lanes and terms", SUSPECT_COUNT_MAX, 10)?;
    let lanes = (0..count)
        .map(|_| Ok((Lane::decode(reader)?, Term::decode(reader)?)))
        .collect::<Result<Vec<_>, DecodeError>>()?;
    ascending("lanes and terms", lanes.iter().map(|(lane, _)| lane.get()))?;
    Ok(lanes)
}

fn read_tips(reader: &mut Reader<'_>) -> Result<Vec<Tip>, DecodeError> {
    let tips: Vec<Tip> = reader.list("tips", LANE_COUNT_MAX)?;
    ascending("tips", tips.iter().map(|tip| tip.lane.get()))?;
    Ok(tips)
}

pub(crate) fn ascending(
    what: &'static str,
    mut numbers: impl Iterator<Item = u16>,
) -> Result<(), DecodeError> {
    let mut last = numbers.next();
    for number in numbers {
        if last >= Some(number) {
            return Err(DecodeError::NotCanonical { what });
        }
        last = Some(number);
    }
    Ok(())
}

impl Encode for Tip {
    fn encode(&self, out: &mut Vec<u8>) {
        self.lane.encode(out);
        self.term.encode(out);
        out.extend_from_slice(&self.index.to_le_bytes());
        self.seqno.encode(out);
        self.lane_root.encode(out);
        self.chunk_hash.encode(out);
    }
}

impl Decode for Tip {
    const SIZE_MIN: usize = 2 + 8 + 8 + 8 + 32 + 32;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            lane: Lane::decode(reader)?,
            term: Term::decode(reader)?,
            index: reader.u64()?,
            seqno: Seqno::decode(reader)?,
            lane_root: Hash::decode(reader)?,
            chunk_hash: Hash::decode(reader)?,
        })
    }
}

impl Encode for Ack {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.signed_body());
        self.signature.encode(out);
    }
}

impl Decode for Ack {
    const SIZE_MIN: usize = 2 + 4 + 64;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            validator: ValidatorIndex::decode(reader)?,
            tips: read_tips(reader)?,
            signature: Signature::decode(reader)?,
        })
    }
}

impl Encode for Header {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.epoch.to_le_bytes());
        self.height.encode(out);
        self.proposer.encode(out);
        self.prev_header.encode(out);
        put_list(out, &self.cut);
        put_lanes(out, &self.term_changes);
        self.time.encode(out);
        put_option(out, self.prev_commit.as_ref());
        put_list(out, &self.late_votes);
        put_option(out, self.state_certificate.as_ref());
        put_option(out, self.next_set.as_ref());
        self.evidence_root.encode(out);
        self.rounds.encode(out);
    }
}

impl Decode for Header {
    const SIZE_MIN: usize = 8 + 8 + 2 + 32 + 4 + 4 + 8 + 1 + 4 + 1 + 1 + 32 + Rounds::SIZE_MIN;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            epoch: reader.u64()?,
            height: Height::decode(reader)?,
            proposer: ValidatorIndex::decode(reader)?,
            prev_header: Hash::decode(reader)?,
            cut: read_tips(reader)?,
            term_changes: read_lanes(reader)?,
            time: Time::decode(reader)?,
            prev_commit: reader.option("prev_commit")?,
            late_votes: reader.list("late votes", VALIDATOR_COUNT_MAX)?,
            state_certificate: reader.option("state_certificate")?,
            next_set: reader.option("next_set")?,
            evidence_root: Hash::decode(reader)?,
            rounds: Rounds::decode(reader)?,
        })
    }
}

impl Encode for Propose {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.signed_body());
        self.signature.encode(out);
    }
}

impl Decode for Propose {
    const SIZE_MIN: usize = 15 + Header::SIZE_MIN + 1 + 64;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (height, round, kind, instance) = read_place(reader)?;
        Ok(Self {
            height,
            round,
            kind,
            instance,
            header: Header::decode(reader)?,
            certificate: reader.option("round change certificate")?,
            signature: Signature::decode(reader)?,
        })
    }
}

impl Encode for Prevote {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.signed_body());
        self.signature.encode(out);
    }
}

impl Decode for Prevote {
    const SIZE_MIN: usize = 15 + 32 + 32 + 2 + 64;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (height, round, kind, instance) = read_place(reader)?;
        Ok(Self {
            height,
            round,
            kind,
            instance,
            digest: Hash::decode(reader)?,
            proposal: Hash::decode(reader)?,
            validator: ValidatorIndex::decode(reader)?,
            signature: Signature::decode(reader)?,
        })
    }
}

impl Encode for Precommit {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.signed_body());
        self.signature.encode(out);
    }
}

impl Decode for Precommit {
    const SIZE_MIN: usize = 15 + 32 + 4 + 4 + 8 + 2 + 64;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (height, round, kind, instance) = read_place(reader)?;
        Ok(Self {
            height,
            round,
            kind,
            instance,
            digest: Hash::decode(reader)?,
            tips: read_tips(reader)?,
            suspects: read_lanes(reader)?,
            time: Time::decode(reader)?,
            validator: ValidatorIndex::decode(reader)?,
            signature: Signature::decode(reader)?,
        })
    }
}

impl Encode for CommitCertificate {
    fn encode(&self, out: &mut Vec<u8>) {
        put_list(out, &self.precommits);
        put_option(out, self.coin.as_ref());
    }
}

impl Decode for CommitCertificate {
    const SIZE_MIN: usize = 5;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let precommits: Vec<Precommit> = reader.list("precommits", VALIDATOR_COUNT_MAX)?;
        ascending("commit certificate", precommits.iter().map(|vote| vote.validator.get()))?;
        Ok(Self { precommits, coin: reader.option("coin")? })
    }
}

impl Encode for SignedState {
    fn encode(&self, out: &mut Vec<u8>) {
        self.height.encode(out);
        self.state_root.encode(out);
        self.receipts_root.encode(out);
        put_option(out, self.next_set.as_ref());
    }
}

impl Decode for SignedState {
    const SIZE_MIN: usize = 8 + 32 + 32 + 1;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            height: Height::decode(reader)?,
            state_root: Hash::decode(reader)?,
            receipts_root: Hash::decode(reader)?,
            next_set: reader.option("next_set")?,
        })
    }
}

impl Encode for StateVote {
    fn encode(&self, out: &mut Vec<u8>) {
        self.state.encode(out);
        self.validator.encode(out);
        self.signature.encode(out);
    }
}

impl Decode for StateVote {
    const SIZE_MIN: usize = SignedState::SIZE_MIN + 2 + 64;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            state: SignedState::decode(reader)?,
            validator: ValidatorIndex::decode(reader)?,
            signature: Signature::decode(reader)?,
        })
    }
}

impl Encode for StateCertificate {
    fn encode(&self, out: &mut Vec<u8>) {
        self.state.encode(out);
        put_count(out, self.signatures.len());
        for (validator, signature) in &self.signatures {
            validator.encode(out);
            signature.encode(out);
        }
    }
}

impl Decode for StateCertificate {
    const SIZE_MIN: usize = SignedState::SIZE_MIN + 4;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let state = SignedState::decode(reader)?;
        let count = reader.count("state signatures", VALIDATOR_COUNT_MAX, 66)?;
        let signatures = (0..count)
            .map(|_| Ok((ValidatorIndex::decode(reader)?, Signature::decode(reader)?)))
            .collect::<Result<Vec<_>, DecodeError>>()?;
        ascending("state certificate", signatures.iter().map(|(validator, _)| validator.get()))?;
        Ok(Self { state, signatures })
    }
}

impl Encode for Validator {
    fn encode(&self, out: &mut Vec<u8>) {
        self.key.encode(out);
        out.extend_from_slice(&self.power.to_le_bytes());
        out.push(u8::from(self.is_stale));
    }
}

impl Decode for Validator {
    const SIZE_MIN: usize = 33 + 8 + 1;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (key, power) = (PublicKey::decode(reader)?, reader.u64()?);
        Ok(Self { key, power, is_stale: reader.bool("stale")? })
    }
}

impl Encode for ValidatorSet {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.epoch.to_le_bytes());
        put_list(out, &self.validators);
        put_option(out, self.coin.as_ref());
    }
}

impl Decode for ValidatorSet {
    const SIZE_MIN: usize = 13;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            epoch: reader.u64()?,
            validators: reader.list("validators", VALIDATOR_COUNT_MAX)?,
            coin: reader.option("coin")?,
        })
    }
}
