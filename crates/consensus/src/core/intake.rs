//! Messages of others: what is kept of them, what is refused, what is evidence.

use quipu_crypto::suite::VerifyItem;
use quipu_crypto::{Tag, signing_bytes};
use quipu_proof::names::header_hash;
use quipu_types::{
    Ack, CoinShare, CommitCertificate, Encode, Hash, Header, Height, Precommit, Prevote, Propose,
    PublicKey, RoundChange, RoundKind, Signature, ValidatorIndex, ValidatorSet,
};

use super::work::Proposal;
use super::{Core, Output, Refused};
use crate::certificate::{
    CertificateError, check_coins, check_commit, check_polka, check_round_change, verify_by,
};
use crate::evidence::{Evidence, forgets};
use crate::header::{self, Context, HeaderError, tip_of};
use crate::record::{Change, Message};

/// Messages of the next height that are kept for each validator, beside its two votes for each instance: one of each kind.
const AHEAD_COUNT_MAX: usize = 4;

/// Where a message about a height belongs.
enum When {
    Past,
    Now,
    Next,
    Later,
}

impl Core {
    /// Takes a message that `from` handed over.
    pub(super) fn message(
        &mut self,
        from: ValidatorIndex,
        message: Message,
    ) -> Result<(), Refused> {
        if let Some(height) = message.height() {
            match self.when(height) {
                When::Now => {}
                When::Past => {
                    if let Message::RoundChange(_) = &message
                        && self.context.rules.answers
                    {
                        self.outputs.push_back(Output::Answer { to: from, height });
                    }
                    if let Message::Precommit(vote) = &message {
                        self.late.take(vote, self.parent.height.next(), &self.context);
                    }
                    return Err(Refused::Stale { height });
                }
                When::Next => {
                    return match self.verify(&message) {
                        Ok(()) => self.keep_ahead(height, message),
                        Err(refused) => self.unverified(message, refused),
                    };
                }
                When::Later => {
                    self.lag(from, height);
                    return Err(Refused::Ahead { height });
                }
            }
        }
        match self.verify(&message) {
            Ok(()) => self.take(message),
            Err(refused) => self.unverified(message, refused),
        }
    }

    /// Takes a message whose signature holds, of this height.
    pub(super) fn take(&mut self, message: Message) -> Result<(), Refused> {
        match message {
            Message::Ack(ack) => self.ack_of(&ack),
            Message::StateVote(vote) => self.state_vote(&vote),
            Message::Propose(propose) => self.proposal(*propose),
            Message::Prevote(vote) => self.prevote_of(vote),
            Message::Precommit(vote) => self.precommit_of(vote),
            Message::RoundChange(own) => self.change_of(own),
            Message::Done(certificate) => self.done(certificate),
            Message::CoinShare(share) => self.share_of(share),
        }
    }

    fn when(&self, height: Height) -> When {
        let current = self.height();
        match height {
            height if height < current => When::Past,
            height if height == current => When::Now,
            height if height == current.next() => When::Next,
            _ => When::Later,
        }
    }

    /// Someone is heights ahead.
    fn lag(&mut self, from: ValidatorIndex, height: Height) {
        self.outputs.push_back(Output::Behind { to: from, height });
    }

    pub(super) fn keep_ahead(&mut self, height: Height, message: Message) -> Result<(), Refused> {
        let sender = message.validator();
        if self.ahead.contains(&message) {
            return Ok(());
        }
        let kind = std::mem::discriminant(&message);
        let own = |kept: &&Message| kept.validator() == sender;
        if matches!(message, Message::RoundChange(_) | Message::Ack(_)) {
            // Only the newest counts.
            self.ahead
                .retain(|kept| kept.validator() != sender || std::mem::discriminant(kept) != kind);
        }
        let votes = self.context.set.validators.len().saturating_mul(2);
        if self.ahead.iter().filter(own).count() >= AHEAD_COUNT_MAX.saturating_add(votes) {
            return Err(Refused::Ahead { height });
        }
        self.ahead.push(message);
        Ok(())
    }

    pub(super) fn found(&mut self, evidence: Evidence, height: Height) -> Result<(), Refused> {
        let validator = evidence.culprit(&self.context);
        self.outputs.push_back(Output::Evidence(Box::new(evidence)));
        match validator {
            Some(validator) => Err(Refused::Equivocation { validator, height }),
            None => Ok(()),
        }
    }

    fn ack_of(&mut self, ack: &Ack) -> Result<(), Refused> {
        let known = |tip: &quipu_types::Tip| tip_of(&self.parent.cut, tip.lane).is_some();
        if !ack.tips.iter().all(known) {
            return Err(HeaderError::CutShape.into());
        }
        match self.acks.add(ack) {
            Some(evidence) => self.found(evidence, self.height()),
            None => Ok(()),
        }
    }

    fn proposal(&mut self, propose: Propose) -> Result<(), Refused> {
        let (height, instance) = (propose.height, propose.instance);
        self.place(propose.round, propose.kind, instance)?;
        if propose.header.height != height {
            return Err(Refused::Leader { instance, height });
        }
        if let Some(known) = self.work.proposals.get(&(propose.round, instance)) {
            if known.propose.signed_body() == propose.signed_body() {
                return Ok(());
            }
            let pair = Box::new([known.propose.clone(), propose]);
            return self.found(Evidence::Proposals(pair), height);
        }
        self.check_proposal(&propose)?;
        header::check(&propose.header, &self.parent, &self.context)?;
        let proposal = Proposal::new(propose);
        let value = proposal.propose.header.clone();
        self.work.values.insert(proposal.digest, value);
        if let Some(certificate) = &proposal.propose.certificate {
            let coins = certificate.coins.clone();
            self.learn(&coins);
        }
        self.work.proposals.insert((proposal.propose.round, instance), proposal);
        Ok(())
    }

    /// Rule (b): a proposal of a round above 0 has a certificate of round changes, and its value.
    fn check_proposal(&self, propose: &Propose) -> Result<(), Refused> {
        let Propose { height, round, instance, .. } = *propose;
        let fresh = propose.header.proposer == instance;
        let own = Refused::Leader { instance, height };
        let certificate = match (&propose.certificate, round) {
            (None, 0) if fresh => return Ok(()),
            (Some(certificate), 1..) => certificate,
            _ => return Err(own),
        };
        check_round_change(certificate, (height, round), &self.rounds(), &self.context)?;
        let justified = match certificate.high() {
            Some(high) => header_hash(&propose.header) == high.digest,
            None => fresh,
        };
        if justified || !self.context.rules.value_of_certificate {
            Ok(())
        } else {
            Err(Refused::Unjustified { instance, height, round })
        }
    }

    fn prevote_of(&mut self, vote: Prevote) -> Result<(), Refused> {
        self.place(vote.round, vote.kind, vote.instance)?;
        let height = vote.height;
        let at = (vote.round, vote.instance);
        match self.work.prevotes.entry(at).or_default().add(vote) {
            Some(pair) => self.found(Evidence::Prevotes(Box::new(pair)), height),
            None => Ok(()),
        }
    }

    fn precommit_of(&mut self, vote: Precommit) -> Result<(), Refused> {
        self.place(vote.round, vote.kind, vote.instance)?;
        let height = vote.height;
        let later = self.work.changes.get(&vote.validator).map(|own| own.change);
        if let Some(evidence) = later.and_then(|change| self.amnesia(&vote, &change)) {
            self.outputs.push_back(Output::Evidence(Box::new(evidence)));
        }
        let at = (vote.round, vote.instance);
        match self.work.precommits.entry(at).or_default().add(vote) {
            Some(pair) => self.found(Evidence::Precommits(Box::new(pair)), height),
            None => Ok(()),
        }
    }

    /// What a precommit and a later round change of one validator prove, if the one forgets the other.
    fn amnesia(&self, vote: &Precommit, change: &RoundChange) -> Option<Evidence> {
        let coin = match vote.kind {
            RoundKind::Led => None,
            RoundKind::Open => {
                let (coin, elected) = self.work.coins.of(vote.round)?;
                if elected != vote.instance && self.context.rules.amnesia_elected {
                    return None;
                }
                Some(coin)
            }
        };
        forgets(vote, change).then(|| Evidence::Amnesia(Box::new((vote.clone(), *change, coin))))
    }

    fn change_of(&mut self, own: Change) -> Result<(), Refused> {
        let Change { change, polka, coins } = &own;
        let (height, validator, round) = (change.height, change.validator, change.round);
        let rounds = self.rounds();
        let is_below = change.high.is_none_or(|high| high.round < round);
        if round == 0 || !is_below || change.kind != self.kind(round).0 {
            return Err(Refused::Unjustified { instance: validator, height, round });
        }
        if let Some(Change { change: known, .. }) = self.work.changes.get(&validator) {
            if known.round > round || known == change {
                return Ok(());
            }
            if known.round == round && known.signed_body() != change.signed_body() {
                let pair = Box::new([*known, *change]);
                return self.found(Evidence::RoundChanges(pair), height);
            }
        }
        check_coins(coins, (height, round), (change.high.as_ref(), &rounds), &self.context)?;
        match &change.high {
            Some(high) => {
                check_polka(polka, height, (high, self.kind(high.round).0), &self.context)?;
            }
            None if polka.is_empty() => {}
            None => return Err(CertificateError::Presence.into()),
        }
        let coins = coins.clone();
        self.learn(&coins);
        let own_votes = self.work.precommits.values().filter_map(|votes| votes.of(validator));
        let forgotten = own_votes.into_iter().find_map(|vote| self.amnesia(vote, &own.change));
        self.work.changes.insert(validator, own);
        forgotten.map_or(Ok(()), |evidence| self.found(evidence, height))
    }

    /// A height was decided in an open round; the certificate was checked.
    fn done(&mut self, certificate: CommitCertificate) -> Result<(), Refused> {
        let digest = certificate.digest().ok_or(CertificateError::Presence)?;
        self.work.decided.get_or_insert((digest, certificate));
        Ok(())
    }

    fn share_of(&mut self, share: CoinShare) -> Result<(), Refused> {
        let CoinShare { height, round, validator, .. } = share;
        if self.kind(round).0 != RoundKind::Open || self.context.set.coin.is_none() {
            return Err(Refused::Unjustified { instance: validator, height, round });
        }
        // What makes coins of parts may come later than the epoch, or not at all.
        if self.context.coin.is_none() || !self.work.keeps(round, RoundKind::Open) {
            return Err(Refused::Ahead { height });
        }
        self.work.coins.add(share);
        Ok(())
    }

    /// A round that is kept, of that kind, and who may propose in it.
    fn place(&self, round: u32, kind: RoundKind, instance: ValidatorIndex) -> Result<(), Refused> {
        let height = self.height();
        if kind != self.kind(round).0 {
            return Err(Refused::Unjustified { instance, height, round });
        }
        if !self.work.keeps(round, kind) {
            return Err(Refused::Ahead { height });
        }
        let may_propose = match kind {
            RoundKind::Led => instance == self.leader(round),
            RoundKind::Open => self.context.set.get(instance).is_some(),
        };
        if may_propose { Ok(()) } else { Err(Refused::Leader { instance, height }) }
    }

    /// A header that was asked for by its hash.
    pub(super) fn value(&mut self, header: Header) -> Result<(), Refused> {
        let digest = header_hash(&header);
        if !self.work.lacks(&digest) {
            return Err(Refused::Stale { height: header.height });
        }
        header::check(&header, &self.parent, &self.context)?;
        self.work.values.insert(digest, header);
        Ok(())
    }

    /// A header that others committed, with its certificate.
    pub(super) fn decided(
        &mut self,
        header: Header,
        certificate: CommitCertificate,
    ) -> Result<(), Refused> {
        let height = header.height;
        match self.when(height) {
            When::Past => return Err(Refused::Stale { height }),
            When::Next | When::Later => return Err(Refused::Ahead { height }),
            When::Now if self.work.decided.is_some() && self.work.missing().is_none() => {
                return Ok(());
            }
            When::Now => {}
        }
        let digest = header_hash(&header);
        check_commit(&certificate, height, &digest, &self.context)?;
        header::check(&header, &self.parent, &self.context)?;
        self.work.values.insert(digest, header);
        self.work.decided.get_or_insert((digest, certificate));
        Ok(())
    }

    /// The own header of a hash, for someone who asks.
    #[must_use]
    pub fn value_of(&self, height: Height, digest: &Hash) -> Option<&Header> {
        (height == self.height()).then(|| self.work.values.get(digest)).flatten()
    }

    /// Checks the signatures of messages that wait together, so that each is known when its message is taken. Nothing
    /// else follows from it: what is wrong is found wrong, and refused, when its turn comes.
    pub fn verify_together<'a>(&self, messages: impl IntoIterator<Item = &'a Message>) {
        let Context { chain, verified, .. } = &self.context;
        let is_due = |message: &&Message| {
            let when = message.height().map(|height| self.when(height));
            matches!(when, None | Some(When::Now | When::Next))
        };
        let parts: Vec<(PublicKey, Vec<u8>, Signature)> = messages
            .into_iter()
            .filter(is_due)
            .filter_map(|message| {
                let set = self.set_of(message);
                let key = set.get(message.validator())?.key;
                let (tag, body, signature) = signed_part(message)?;
                Some((key, signing_bytes(chain, set.epoch, tag, &body), signature))
            })
            .collect();
        if parts.len() > 1 {
            let items = parts.iter().map(|(key, message, signature)| VerifyItem {
                key,
                message,
                signature,
            });
            // The right ones are remembered, which is what this is for.
            let _ = verified.verify_many(&items.collect::<Vec<_>>());
        }
    }

    /// Whether a message is signed by whom it names.
    #[must_use]
    pub fn is_signed(&self, message: &Message) -> bool {
        self.verify(message).is_ok()
    }

    fn verify(&self, message: &Message) -> Result<(), Refused> {
        if let Message::Done(certificate) = message {
            let vote = certificate.precommits.first().ok_or(CertificateError::Presence)?;
            return Ok(check_commit(certificate, vote.height, &vote.digest, &self.context)?);
        }
        self.verify_by(self.set_of(message), message)
    }

    /// Whether it is signed, in the epoch of a set.
    pub(super) fn verify_by(&self, set: &ValidatorSet, message: &Message) -> Result<(), Refused> {
        let Some((tag, body, signature)) = signed_part(message) else { return Ok(()) };
        Ok(verify_by(&self.context, set, message.validator(), tag, &body, &signature)?)
    }
}

/// What a message's signature covers, and is; a message of others' signatures has none of its own.
fn signed_part(message: &Message) -> Option<(Tag, Vec<u8>, Signature)> {
    Some(match message {
        Message::Propose(propose) => (Tag::Propose, propose.signed_body(), propose.signature),
        Message::Prevote(vote) => (Tag::Prevote, vote.signed_body(), vote.signature),
        Message::Precommit(vote) => (Tag::Precommit, vote.signed_body(), vote.signature),
        Message::Ack(ack) => (Tag::Ack, ack.signed_body(), ack.signature),
        Message::StateVote(vote) => (Tag::StateVote, vote.state.to_bytes(), vote.signature),
        Message::RoundChange(Change { change, .. }) => {
            (Tag::RoundChange, change.signed_body(), change.signature)
        }
        Message::CoinShare(share) => (Tag::CoinShare, share.signed_body(), share.signature),
        Message::Done(_) => return None,
    })
}
