//! Commit and state certificates: do validators worth more than two thirds of the stake say so?
//!
//! A vote is counted when its voter is in the set, stands there once (voters ascend), speaks of the very
//! thing, and signed it under this chain and epoch. One bad vote spoils its certificate, though the rest
//! would do: a certificate has one meaning, and nothing in it goes unread.

use quipu_crypto::domain::{Tag, signing_bytes};
use quipu_crypto::suite::{VerifyItem, verify_many};
use quipu_types::round::coin_body;
use quipu_types::{
    Coin, CommitCertificate, Encode, Hash, Header, Height, Precommit, PublicKey, RoundKind,
    Signature, StateCertificate, ValidatorIndex, ValidatorSet,
};
use thiserror::Error;

use crate::names::header_hash;
use crate::schedule::elect;

/// Why a certificate proves nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateError {
    /// The header is of an epoch whose validators are not the pinned ones.
    #[error("header is of epoch {epoch}, the validators at hand are of epoch {set_epoch}")]
    OtherEpoch {
        /// The header's.
        epoch: u64,
        /// The set's.
        set_epoch: u64,
    },
    /// A header that is not the last of its epoch, or whose next set cannot be one.
    #[error("the header of height {height} does not hand over to a next set of validators")]
    NoHandover {
        /// The header's.
        height: Height,
    },
    /// The header's epoch is known to end with another header.
    #[error("the epoch of the header of height {height} is known to end otherwise")]
    OtherEnd {
        /// The header's.
        height: Height,
    },
    /// A vote speaks of another height.
    #[error("validator {validator} voted at height {height}, not {wanted}")]
    OtherHeight {
        /// Who voted.
        validator: ValidatorIndex,
        /// Where.
        height: Height,
        /// What is to be proven.
        wanted: Height,
    },
    /// A state certificate of another height.
    #[error("state certificate is of height {height}, not {wanted}")]
    OtherState {
        /// The certificate's.
        height: Height,
        /// What is to be proven.
        wanted: Height,
    },
    /// A vote speaks of another header.
    #[error("validator {validator} voted for header {digest}, not {wanted}")]
    OtherHeader {
        /// Who voted.
        validator: ValidatorIndex,
        /// For what.
        digest: Hash,
        /// What is to be proven.
        wanted: Hash,
    },
    /// Votes of several rounds or instances.
    #[error("validator {validator} voted in another round or instance than the first voter")]
    MixedRounds {
        /// Who voted.
        validator: ValidatorIndex,
    },
    /// Precommits of an open round mean nothing without the coin that elects their instance; those of a led one have none.
    #[error(
        "the coin that belongs to the precommits' round is missing, wrong, or elects another instance"
    )]
    Coin,
    /// A voter counted twice, or out of order.
    #[error("validator {validator} stands twice or out of order")]
    NotAscending {
        /// Which.
        validator: ValidatorIndex,
    },
    /// A voter whom the set does not have.
    #[error("validator {validator} is not in the set")]
    UnknownValidator {
        /// Which.
        validator: ValidatorIndex,
    },
    /// The voters' stake is too little.
    #[error("signers hold {power} of {power_total} stake, no more than two thirds")]
    UnderQuorum {
        /// The voters'.
        power: u128,
        /// Everyone's.
        power_total: u128,
    },
    /// A signature is not the voter's, over this vote, chain and epoch.
    #[error("signature of validator {validator} does not verify")]
    BadSignature {
        /// Whose.
        validator: ValidatorIndex,
    },
}

/// Who stands behind a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// The signers, ascending.
    pub signers: Vec<ValidatorIndex>,
    /// Their stake.
    pub power: u128,
    /// Everyone's stake.
    pub power_total: u128,
}

/// Checks that `certificate` commits `header` in the ledger `chain` by validators `set`.
///
/// # Errors
/// Why it does not.
pub fn verify_certificate(
    chain: &Hash,
    set: &ValidatorSet,
    header: &Header,
    certificate: &CommitCertificate,
) -> Result<Support, CertificateError> {
    let claim = claim(chain, set, header, certificate)?;
    verify_claims(std::slice::from_ref(&claim)).map_err(|(_, error)| error)?;
    Ok(claim.support)
}

/// What of a commit certificate is cheap to check; the signatures are left to [`verify_claims`].
pub(crate) fn claim(
    chain: &Hash,
    set: &ValidatorSet,
    header: &Header,
    certificate: &CommitCertificate,
) -> Result<Claim, CertificateError> {
    if header.epoch != set.epoch {
        return Err(CertificateError::OtherEpoch { epoch: header.epoch, set_epoch: set.epoch });
    }
    let wanted = header_hash(header);
    let place = certificate.precommits.first().map(|vote| (vote.round, vote.kind, vote.instance));
    for vote in &certificate.precommits {
        let validator = vote.validator;
        if vote.height != header.height {
            let height = vote.height;
            return Err(CertificateError::OtherHeight { validator, height, wanted: header.height });
        }
        if vote.digest != wanted {
            let digest = vote.digest;
            return Err(CertificateError::OtherHeader { validator, digest, wanted });
        }
        if place != Some((vote.round, vote.kind, vote.instance)) {
            return Err(CertificateError::MixedRounds { validator });
        }
    }
    let first = certificate.precommits.first();
    if first.is_some_and(|vote| !is_elected(chain, set, vote, certificate.coin.as_ref())) {
        return Err(CertificateError::Coin);
    }
    let votes: Vec<Vote> = certificate
        .precommits
        .iter()
        .map(|vote| Vote {
            validator: vote.validator,
            message: signing_bytes(chain, set.epoch, Tag::Precommit, &vote.signed_body()),
            signature: vote.signature,
        })
        .collect();
    Claim::new(set, votes)
}

/// What the coin of an open round signs.
#[must_use]
pub fn coin_message(chain: &Hash, epoch: u64, height: Height, round: u32) -> Vec<u8> {
    signing_bytes(chain, epoch, Tag::Coin, &coin_body(height, round))
}

/// Whether a coin is what belongs to a precommit's round: in an open one the coin that elects its instance, without which
/// the vote proves nothing; in a led one none. `elected` says whom a coin elects there, if it is that place's.
pub fn coin_fits(
    vote: &Precommit,
    coin: Option<&Coin>,
    elected: impl FnOnce(&Coin) -> Option<ValidatorIndex>,
) -> bool {
    match vote.kind {
        RoundKind::Led => coin.is_none(),
        RoundKind::Open => coin.and_then(elected) == Some(vote.instance),
    }
}

/// As [`coin_fits`], by the key of a set alone.
fn is_elected(chain: &Hash, set: &ValidatorSet, vote: &Precommit, coin: Option<&Coin>) -> bool {
    coin_fits(vote, coin, |coin| {
        let message = coin_message(chain, set.epoch, vote.height, vote.round);
        let key = set.coin.as_ref()?;
        quipu_crypto::coin::verify(key, &message, coin).then(|| elect(set, coin))
    })
}

/// Checks that `certificate` is of the state after `height` in the ledger `chain` by validators `set`.
///
/// # Errors
/// Why it is not.
pub fn verify_state_certificate(
    chain: &Hash,
    set: &ValidatorSet,
    height: Height,
    certificate: &StateCertificate,
) -> Result<Support, CertificateError> {
    let found = certificate.state.height;
    if found != height {
        return Err(CertificateError::OtherState { height: found, wanted: height });
    }
    let message = signing_bytes(chain, set.epoch, Tag::StateVote, &certificate.state.to_bytes());
    let votes: Vec<Vote> = certificate
        .signatures
        .iter()
        .map(|(validator, signature)| Vote {
            validator: *validator,
            message: message.clone(),
            signature: *signature,
        })
        .collect();
    let claim = Claim::new(set, votes)?;
    verify_claims(std::slice::from_ref(&claim)).map_err(|(_, error)| error)?;
    Ok(claim.support)
}

#[derive(Debug)]
struct Vote {
    validator: ValidatorIndex,
    message: Vec<u8>,
    signature: Signature,
}

/// A certificate whose voters are a quorum, if they signed it.
#[derive(Debug)]
pub(crate) struct Claim {
    /// Each with its voter's key.
    votes: Vec<(PublicKey, Vote)>,
    support: Support,
}

impl Claim {
    /// What is cheap to see goes first: order, membership, stake.
    fn new(set: &ValidatorSet, votes: Vec<Vote>) -> Result<Self, CertificateError> {
        let mut power = 0_u128;
        let mut last = None;
        let mut keyed = Vec::with_capacity(votes.len());
        for vote in votes {
            let validator = vote.validator;
            if last >= Some(validator) {
                return Err(CertificateError::NotAscending { validator });
            }
            last = Some(validator);
            let member = set.get(validator);
            let member = member.ok_or(CertificateError::UnknownValidator { validator })?;
            power = power.saturating_add(u128::from(member.power));
            keyed.push((member.key, vote));
        }
        let power_total = set.power_total();
        if !set.is_quorum(power) {
            return Err(CertificateError::UnderQuorum { power, power_total });
        }
        let signers = keyed.iter().map(|(_, vote)| vote.validator).collect();
        Ok(Self { votes: keyed, support: Support { signers, power, power_total } })
    }
}

/// Then the signatures of some certificates, all of them together. Which is the first with a bad one.
pub(crate) fn verify_claims(claims: &[Claim]) -> Result<(), (usize, CertificateError)> {
    let votes = || {
        claims.iter().enumerate().flat_map(|(place, claim)| {
            claim.votes.iter().map(move |(key, vote)| (place, key, vote))
        })
    };
    let items: Vec<VerifyItem> = votes()
        .map(|(_, key, Vote { message, signature, .. })| VerifyItem { key, message, signature })
        .collect();
    let verdicts = verify_many(&items);
    assert_eq!(verdicts.len(), items.len(), "one verdict a signature");
    match votes().zip(verdicts).find(|(_, valid)| !valid) {
        Some(((place, _, vote), _)) => {
            Err((place, CertificateError::BadSignature { validator: vote.validator }))
        }
        None => Ok(()),
    }
}
