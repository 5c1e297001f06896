//! Messages of others: what is kept of them, what is refused, what is evidence.

use quipu_crypto::suite::VerifyItem;
use quipu_crypto::{Tag, signing_bytes};
use quipu_proof::names::header_hash;
use quipu_types::{
    Ack, CommitCertificate, Encode, Hash, Header, Height, Precommit, Prevote, Propose, PublicKey,
    RoundKind, Signature, StateVote, ValidatorIndex,
};

use super::work::{Change, Proposal};
use super::{Core, Output, Refused};
use crate::evidence::{Evidence, forgets};
use crate::header::{
    self, CertificateError, Context, HeaderError, check_commit, check_polka, check_round_change,
    tip_of, verify_by,
};
use crate::record::Message;

/// Messages of the next height that are kept for each validator: one of each kind.
const AHEAD_COUNT_MAX: usize = 4;
/// Heights above the own whose state votes are kept.
const STATES_AHEAD_MAX: u64 = 8;
/// Heights whose state votes are collected.
const STATE_HEIGHT_COUNT_MAX: usize = 1_024;

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
                    if let Message::RoundChange { .. } = &message
                        && self.context.rules.answers
                    {
                        self.outputs.push_back(Output::Answer { to: from, height });
                    }
                    return Err(Refused::Stale { height });
                }
                When::Next => {
                    self.verify(&message)?;
                    return self.keep_ahead(height, message);
                }
                When::Later => {
                    self.lag(from, height);
                    return Err(Refused::Ahead { height });
                }
            }
        }
        self.verify(&message)?;
        self.take(message)
    }

    /// Takes a message whose signature holds, of this height.
    pub(super) fn take(&mut self, message: Message) -> Result<(), Refused> {
        match message {
            Message::Ack(ack) => self.ack_of(&ack),
            Message::StateVote(vote) => self.state_vote(&vote),
            Message::Propose(propose) => self.proposal(*propose),
            Message::Prevote(vote) => self.prevote_of(vote),
            Message::Precommit(vote) => self.precommit_of(vote),
            Message::RoundChange { change, polka } => self.change_of((change, polka)),
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

    fn keep_ahead(&mut self, height: Height, message: Message) -> Result<(), Refused> {
        let sender = message.validator();
        if self.ahead.contains(&message) {
            return Ok(());
        }
        let kind = std::mem::discriminant(&message);
        let own = |kept: &&Message| kept.validator() == sender;
        let is_change = matches!(message, Message::RoundChange { .. });
        if is_change {
            // Of round changes only the newest counts.
            self.ahead
                .retain(|kept| kept.validator() != sender || std::mem::discriminant(kept) != kind);
        }
        if self.ahead.iter().filter(own).count() >= AHEAD_COUNT_MAX {
            return Err(Refused::Ahead { height });
        }
        self.ahead.push(message);
        Ok(())
    }

    fn found(&mut self, evidence: Evidence, height: Height) -> Result<(), Refused> {
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

    fn state_vote(&mut self, vote: &StateVote) -> Result<(), Refused> {
        let height = vote.state.height;
        if height <= self.parent.certified {
            return Err(Refused::Stale { height });
        }
        let full =
            self.states.len() >= STATE_HEIGHT_COUNT_MAX && !self.states.contains_key(&height);
        let ahead = height.get() > self.height().get().saturating_add(STATES_AHEAD_MAX);
        if full || ahead {
            return Err(Refused::Ahead { height });
        }
        match self.count_state(vote) {
            Some(evidence) => self.found(evidence, height),
            None => Ok(()),
        }
    }

    fn proposal(&mut self, propose: Propose) -> Result<(), Refused> {
        let (height, instance) = (propose.height, propose.instance);
        self.place(propose.round, propose.kind, instance)?;
        if propose.header.height != height {
            return Err(Refused::Leader { instance, height });
        }
        if let Some(known) = self.work.proposals.get(&propose.round) {
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
        self.work.proposals.insert(proposal.propose.round, proposal);
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
        check_round_change(certificate, height, round, &self.context)?;
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
        match self.work.prevotes.entry(vote.round).or_default().add(vote) {
            Some(pair) => self.found(Evidence::Prevotes(Box::new(pair)), height),
            None => Ok(()),
        }
    }

    fn precommit_of(&mut self, vote: Precommit) -> Result<(), Refused> {
        self.place(vote.round, vote.kind, vote.instance)?;
        let height = vote.height;
        let later = self.work.changes.get(&vote.validator).filter(|(c, _)| forgets(&vote, c));
        if let Some((change, _)) = later {
            let pair = Box::new((vote.clone(), *change));
            self.outputs.push_back(Output::Evidence(Box::new(Evidence::Amnesia(pair))));
        }
        match self.work.precommits.entry(vote.round).or_default().add(vote) {
            Some(pair) => self.found(Evidence::Precommits(Box::new(pair)), height),
            None => Ok(()),
        }
    }

    fn change_of(&mut self, (change, polka): Change) -> Result<(), Refused> {
        let (height, validator) = (change.height, change.validator);
        if change.round == 0 || change.high.is_some_and(|high| high.round >= change.round) {
            return Err(Refused::Unjustified { instance: validator, height, round: change.round });
        }
        if let Some((known, _)) = self.work.changes.get(&validator) {
            if known.round > change.round || *known == change {
                return Ok(());
            }
            if known.round == change.round && known.signed_body() != change.signed_body() {
                let pair = Box::new([*known, change]);
                return self.found(Evidence::RoundChanges(pair), height);
            }
        }
        match &change.high {
            Some(high) => check_polka(&polka, height, high, &self.context)?,
            None if polka.is_empty() => {}
            None => return Err(CertificateError::Presence.into()),
        }
        self.work.changes.insert(validator, (change, polka));
        let own = self.work.precommits.values().filter_map(|votes| votes.of(validator));
        let forgotten = own.into_iter().find(|vote| forgets(vote, &change)).cloned();
        match forgotten {
            Some(vote) => self.found(Evidence::Amnesia(Box::new((vote, change))), height),
            None => Ok(()),
        }
    }

    /// A led round that is kept, by its leader.
    fn place(&self, round: u32, kind: RoundKind, instance: ValidatorIndex) -> Result<(), Refused> {
        let height = self.height();
        if kind != RoundKind::Led {
            return Err(Refused::NotBuilt { what: "open rounds" });
        }
        if !self.work.keeps(round) {
            return Err(Refused::Ahead { height });
        }
        if instance == self.leader(round) {
            Ok(())
        } else {
            Err(Refused::Leader { instance, height })
        }
    }

    /// A header that was asked for by its hash.
    pub(super) fn value(&mut self, header: Header) -> Result<(), Refused> {
        let digest = header_hash(&header);
        if self.work.missing() != Some(digest) {
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
        let Context { chain, set, verified, .. } = &self.context;
        let is_due = |message: &&Message| {
            let when = message.height().map(|height| self.when(height));
            matches!(when, None | Some(When::Now | When::Next))
        };
        let parts: Vec<(PublicKey, Vec<u8>, Signature)> = messages
            .into_iter()
            .filter(is_due)
            .filter_map(|message| {
                let key = set.get(message.validator())?.key;
                let (tag, body, signature) = signed_part(message);
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

    fn verify(&self, message: &Message) -> Result<(), Refused> {
        let (tag, body, signature) = signed_part(message);
        Ok(verify_by(&self.context, message.validator(), tag, &body, &signature)?)
    }
}

/// What a message's signature covers, and is.
fn signed_part(message: &Message) -> (Tag, Vec<u8>, Signature) {
    match message {
        Message::Propose(propose) => (Tag::Propose, propose.signed_body(), propose.signature),
        Message::Prevote(vote) => (Tag::Prevote, vote.signed_body(), vote.signature),
        Message::Precommit(vote) => (Tag::Precommit, vote.signed_body(), vote.signature),
        Message::Ack(ack) => (Tag::Ack, ack.signed_body(), ack.signature),
        Message::StateVote(vote) => (Tag::StateVote, vote.state.to_bytes(), vote.signature),
        Message::RoundChange { change, .. } => {
            (Tag::RoundChange, change.signed_body(), change.signature)
        }
    }
}
