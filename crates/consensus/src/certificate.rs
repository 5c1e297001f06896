//! Certificates: whether enough validators signed one thing, and in an open round whether the coin elects it.
//!
//! ```text
//!  prevotes ×q = polka (QC1)                       precommits ×q = QC2: commits, in an open round with its coin
//!  round changes ×q, the polka of the highest that they name, the coins of every open round below = TC
//!  state votes ×q = state certificate
//! ```
//! Every signature of a certificate is checked, together, and each validator counts once (I5).

use quipu_crypto::suite::VerifyItem;
use quipu_crypto::{Tag, signing_bytes};
use quipu_types::{
    CommitCertificate, Encode, Hash, Height, High, Prevote, PublicKey, RoundChangeCertificate,
    RoundCoin, RoundKind, Rounds, Signature, StateCertificate, ValidatorIndex, ValidatorSet,
};
use thiserror::Error;

use crate::header::Context;

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
    /// The coin of an open round is missing, wrong, or elects another instance.
    #[error("round {round} is open, and its coin is missing, wrong, or elects another instance")]
    Coin {
        /// Which round.
        round: u32,
    },
    /// Less than a quorum.
    #[error("{power} of {power_total} is no quorum")]
    Power {
        /// Stake of the signers.
        power: u128,
        /// Stake of all.
        power_total: u128,
    },
}

/// Signatures that count as one: each validator's once, ascending, together of a quorum. They are checked together.
struct Quorum<'a> {
    context: &'a Context,
    /// The validators of the height that it is about.
    set: &'a ValidatorSet,
    last: Option<ValidatorIndex>,
    power: u128,
    unchecked: Vec<(ValidatorIndex, PublicKey, Vec<u8>, &'a Signature)>,
}

impl<'a> Quorum<'a> {
    fn new(context: &'a Context, height: Height) -> Self {
        let set = context.set_at(height);
        Self { context, set, last: None, power: 0, unchecked: Vec::new() }
    }

    /// Counts a signature of `body`.
    fn add(
        &mut self,
        validator: ValidatorIndex,
        tag: Tag,
        body: &[u8],
        signature: &'a Signature,
    ) -> Result<(), CertificateError> {
        let (chain, set) = (&self.context.chain, self.set);
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
        self.set.is_quorum(self.power)
    }

    fn check(self) -> Result<(), CertificateError> {
        let Self { context, set, power, .. } = self;
        // What is cheap to see goes first.
        if !set.is_quorum(power) {
            let power_total = set.power_total();
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
/// Which vote does not hold, that they are too few, or that the coin is missing or wrong.
pub fn check_commit(
    certificate: &CommitCertificate,
    height: Height,
    digest: &Hash,
    context: &Context,
) -> Result<(), CertificateError> {
    let first = certificate.precommits.first().ok_or(CertificateError::Presence)?;
    let mut quorum = Quorum::new(context, height);
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
    quorum.check()?;
    let is_elected = context.is_elected(first, certificate.coin.as_ref());
    if is_elected || !context.rules.coin_commits {
        Ok(())
    } else {
        Err(CertificateError::Coin { round: first.round })
    }
}

/// Whether a quorum prevoted one header in one round of that kind (a polka, QC1).
///
/// # Errors
/// Which vote does not hold, or that they are too few.
pub fn check_polka(
    polka: &[Prevote],
    height: Height,
    (high, kind): (&High, RoundKind),
    context: &Context,
) -> Result<(), CertificateError> {
    let mut quorum = Quorum::new(context, height);
    for vote in polka {
        let validator = vote.validator;
        let place = (vote.height, vote.round, vote.kind, vote.instance, vote.digest);
        if place != (height, high.round, kind, high.instance, high.digest) {
            return Err(CertificateError::Foreign { validator });
        }
        quorum.add(validator, Tag::Prevote, &vote.signed_body(), &vote.signature)?;
    }
    quorum.check()
}

/// Whether `coins` are those of every open round of `height` below `round` (rule (c)), and `high`, if it is of an open
/// round, of the instance that its coin elects.
///
/// # Errors
/// Which round's coin is missing or wrong, or that there is one that no open round has.
pub fn check_coins(
    coins: &[RoundCoin],
    (height, round): (Height, u32),
    (high, rounds): (Option<&High>, &Rounds),
    context: &Context,
) -> Result<(), CertificateError> {
    if !context.rules.change_with_coins {
        return Ok(());
    }
    let mut given = coins.iter();
    // The round is whatever the sender says: the first coin that is not there ends the walk.
    for round in rounds.open_below(height, round) {
        let wrong = CertificateError::Coin { round };
        let own = given.next().filter(|own| own.round == round).ok_or(wrong)?;
        let elected = context.elected((height, round), &own.coin).ok_or(wrong)?;
        if high.is_some_and(|high| high.round == round && high.instance != elected) {
            return Err(wrong);
        }
    }
    given.next().map_or(Ok(()), |own| Err(CertificateError::Coin { round: own.round }))
}

/// Whether a quorum changed to `round`, and the certificate carries the polka of the highest that they name and the
/// coins of the open rounds below.
///
/// # Errors
/// Which word, vote or coin does not hold, or that they are too few.
pub fn check_round_change(
    certificate: &RoundChangeCertificate,
    (height, round): (Height, u32),
    rounds: &Rounds,
    context: &Context,
) -> Result<(), CertificateError> {
    let (kind, _) = rounds.kind(height, round);
    let mut quorum = Quorum::new(context, height);
    for change in &certificate.changes {
        let validator = change.validator;
        let below = change.high.is_none_or(|high| high.round < round);
        if (change.height, change.round, change.kind) != (height, round, kind) || !below {
            return Err(CertificateError::Foreign { validator });
        }
        quorum.add(validator, Tag::RoundChange, &change.signed_body(), &change.signature)?;
    }
    quorum.check()?;
    let high = certificate.high();
    check_coins(&certificate.coins, (height, round), (high.as_ref(), rounds), context)?;
    match high {
        None if certificate.polka.is_empty() => Ok(()),
        None => Err(CertificateError::Presence),
        Some(high) => {
            let (kind, _) = rounds.kind(height, high.round);
            check_polka(&certificate.polka, height, (&high, kind), context)
        }
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
    let mut quorum = Quorum::new(context, certificate.state.height);
    for (validator, signature) in &certificate.signatures {
        quorum.add(*validator, Tag::StateVote, &body, signature)?;
    }
    quorum.check()
}

/// Whether `validator` of `set` signed `body` in that set's epoch.
///
/// # Errors
/// When it is not of the set, or did not.
pub(crate) fn verify_by(
    context: &Context,
    set: &ValidatorSet,
    validator: ValidatorIndex,
    tag: Tag,
    body: &[u8],
    signature: &Signature,
) -> Result<(), CertificateError> {
    let wrong = CertificateError::Signature { validator };
    let key = set.get(validator).ok_or(wrong)?.key;
    let holds = context.verifies((&key, set.epoch), tag, body, signature);
    if holds { Ok(()) } else { Err(wrong) }
}
