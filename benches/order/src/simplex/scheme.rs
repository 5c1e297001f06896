//! Commonware's ed25519 scheme for simplex, with a count of what it makes and checks. Every answer is its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use commonware_consensus::simplex::scheme::Namespace;
use commonware_consensus::simplex::types::Subject;
use commonware_cryptography::Digest;
use commonware_cryptography::certificate::{
    AssemblyError, Attestation, Membership, Scheme, Verification, Verifier, verify_then_assemble,
};
use commonware_cryptography::ed25519::certificate::{Certificate, Generic};
use commonware_cryptography::ed25519::{PrivateKey, PublicKey, Signature};
use commonware_parallel::Strategy;
use commonware_utils::N3f1;
use commonware_utils::iter::NonEmpty;
use commonware_utils::ordered::Set;
use rand_core::CryptoRng;

use crate::measure::Checks;

/// See the module's header.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    inner: Generic<Namespace>,
    counts: Arc<Tally>,
    checks: Checks,
}

/// Of all validators together.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) signed: AtomicU64,
    pub(crate) checked: AtomicU64,
}

impl Counted {
    pub(crate) fn new(
        members: Set<PublicKey>,
        key: PrivateKey,
        counts: Arc<Tally>,
        checks: Checks,
    ) -> Self {
        let inner = Generic::signer(b"order", members, key).expect("its key is of the set");
        Self { inner, counts, checks }
    }

    /// Counts checks. Whether none is to be made.
    fn is_off(&self, count: usize) -> bool {
        if self.checks == Checks::None {
            return true;
        }
        self.counts.checked.fetch_add(u64::try_from(count).expect("few"), Relaxed);
        false
    }
}

impl Verifier for Counted {
    type Subject<'a, D: Digest> = Subject<'a, D>;
    type Faults = N3f1;
    type PublicKey = PublicKey;
    type Certificate = Certificate;

    fn verify_certificate<R: CryptoRng, D: Digest>(
        &self,
        rng: &mut R,
        subject: Subject<'_, D>,
        certificate: &Certificate,
        strategy: &impl Strategy,
    ) -> bool {
        self.is_off(certificate.signatures.len())
            || self.inner.verify_certificate::<Self, _>(rng, subject, certificate, strategy)
    }

    fn verify_certificates<'a, R, D, I>(
        &self,
        rng: &mut R,
        certificates: NonEmpty<I>,
        strategy: &impl Strategy,
    ) -> bool
    where
        R: CryptoRng,
        D: Digest,
        I: Iterator<Item = (Subject<'a, D>, &'a Certificate)>,
    {
        let (first, rest) = certificates.into_parts();
        let rest: Vec<_> = rest.collect();
        let all = std::iter::once(&first).chain(&rest);
        let count = all.map(|(_, certificate)| certificate.signatures.len()).sum();
        let all = NonEmpty::new(first, rest.into_iter());
        self.is_off(count) || self.inner.verify_certificates::<Self, _, _, _>(rng, all, strategy)
    }

    fn is_batchable() -> bool {
        Generic::<Namespace>::is_batchable()
    }

    fn max_certificate_size(participants: u32) -> usize {
        Generic::<Namespace>::max_certificate_size(participants)
    }

    fn certificate_codec_config(&self) -> usize {
        self.inner.certificate_codec_config()
    }

    fn certificate_codec_config_unbounded() -> usize {
        Generic::<Namespace>::certificate_codec_config_unbounded()
    }
}

impl Scheme for Counted {
    type Signature = Signature;

    fn me(&self) -> Option<Membership> {
        self.inner.signer_index().map(Membership::Signer)
    }

    fn participants(&self) -> &Set<PublicKey> {
        &self.inner.participants
    }

    fn sign<D: Digest>(&self, subject: Subject<'_, D>) -> Option<Attestation<Self>> {
        self.counts.signed.fetch_add(1, Relaxed);
        self.inner.sign(subject)
    }

    fn verify_attestation<R: CryptoRng, D: Digest>(
        &self,
        _: &mut R,
        subject: Subject<'_, D>,
        attestation: &Attestation<Self>,
        _: &impl Strategy,
    ) -> bool {
        self.is_off(1) || self.inner.verify_attestation(subject, attestation)
    }

    fn verify_attestations<R, D, I>(
        &self,
        rng: &mut R,
        subject: Subject<'_, D>,
        attestations: I,
        strategy: &impl Strategy,
    ) -> Verification<Self>
    where
        R: CryptoRng,
        D: Digest,
        I: IntoIterator<Item = Attestation<Self>>,
    {
        let all: Vec<_> = attestations.into_iter().collect();
        if self.is_off(all.len()) {
            return Verification::new(all, Vec::new());
        }
        self.inner.verify_attestations(rng, subject, all, strategy)
    }

    fn optimistic_assemble<'a, R, D, I, J>(
        &self,
        rng: &mut R,
        subject: Subject<'_, D>,
        pending: I,
        verified: J,
        strategy: &impl Strategy,
    ) -> Result<Certificate, Verification<Self>>
    where
        R: CryptoRng,
        D: Digest,
        I: IntoIterator<Item = Attestation<Self>>,
        I::IntoIter: ExactSizeIterator + Send,
        J: IntoIterator<Item = &'a Attestation<Self>>,
        J::IntoIter: Send,
    {
        verify_then_assemble::<Self, _, D, _, _>(self, rng, subject, pending, verified, strategy)
    }

    fn assemble<I>(
        &self,
        attestations: NonEmpty<I>,
        _: &impl Strategy,
    ) -> Result<Certificate, AssemblyError>
    where
        I: Iterator<Item = Attestation<Self>> + Send,
    {
        self.inner.assemble::<Self, _>(attestations)
    }

    fn is_attributable() -> bool {
        Generic::<Namespace>::is_attributable()
    }
}
