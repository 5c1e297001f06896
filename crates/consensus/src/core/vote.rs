//! What this validator says of a height: its proposals, prevotes and precommits.

use quipu_types::{Ack, Hash, Header, Lane, Prevote, Propose, RoundKind, Term, Time, Tip};

use super::work::{Instance, Proposal, instances};
use super::{Core, Holdings, Output, beyond, is_durable, is_linked};
use crate::Now;
use crate::record::Message;
use crate::safety::{Report, Said, place};

impl Core {
    pub(super) fn propose(&mut self, now: Now, holdings: &impl Holdings) -> bool {
        let round = self.work.round;
        let own = (round, self.safety.own());
        if !self.leads() || self.work.proposals.contains_key(&own) {
            return false;
        }
        if round == 0 && now.mono_us < self.due_at(holdings) {
            return false;
        }
        let said = match self.safety.proposed(self.height(), round).cloned() {
            Some(message) => Some(Said { message, record: None }),
            None => self.new_proposal(round, holdings),
        };
        let Some(said) = said else { return false };
        let propose = self.say(said, |propose| Message::Propose(Box::new(propose)));
        let proposal = Proposal::new(propose);
        self.work.values.insert(proposal.digest, proposal.propose.header.clone());
        self.work.proposals.insert(own, proposal);
        true
    }

    fn new_proposal(&mut self, round: u32, holdings: &impl Holdings) -> Option<Said<Propose>> {
        let certificate = match round {
            0 => None,
            _ => Some(self.work.certificate(&self.context.set, round)?),
        };
        let high = certificate.as_ref().and_then(quipu_types::RoundChangeCertificate::high);
        let header = match high {
            Some(high) => {
                let known = self.work.values.get(&high.digest).cloned();
                if known.is_none()
                    && let Some(certificate) = &certificate
                {
                    // The bytes are asked for by the polka's name.
                    self.work.raise(&certificate.polka);
                }
                known?
            }
            None => {
                let cut = self.next_cut(holdings)?;
                let (own, certificate) = (self.safety.own(), self.certificate.clone());
                let next = self.next_set();
                let header = self.parent.next(&self.context, own, cut, certificate, next);
                self.with_late_votes(header)
            }
        };
        self.safety.propose((round, self.kind(round).0), header, certificate)
    }

    /// A tip for each lane; `None` while a chunk that inclusion demands is not held.
    fn next_cut(&self, holdings: &impl Holdings) -> Option<Vec<Tip>> {
        if !self.parent.may_move(self.certificate.as_ref()) {
            return Some(self.parent.cut.clone());
        }
        let tip = |before: &Tip| {
            let tip = self.replicated(before, holdings).unwrap_or(*before);
            let required = self.parent.index_required(&self.context, before.lane);
            if tip.index >= required {
                return Some(tip);
            }
            self.available(before, holdings).filter(|tip| tip.index >= required)
        };
        self.parent.cut.iter().map(tip).collect()
    }

    /// I3, for a prevote: each tip is the old one, or held, linked to it, and acked by a third.
    fn holds(&self, header: &Header, holdings: &impl Holdings) -> bool {
        let (set, rules) = (&self.context.set, self.context.rules);
        header.cut.iter().zip(&self.parent.cut).all(|(tip, before)| {
            let available = || self.available(before, holdings).map_or(0, |tip| tip.index);
            tip == before
                || (is_linked(tip, holdings) && available() >= tip.index)
                || (!rules.hold_headers && set.is_third(self.acks.power_on(set, tip)))
        })
    }

    /// No leader shuts the lanes by embedding no certificates: a header that may move none is for who knows no certificate
    /// that would change that. What has a polka has to go on, whatever it is.
    fn ends_lag(&self, propose: &Propose) -> bool {
        let may_move = |certificate| self.parent.may_move(certificate);
        let certificate = propose.certificate.as_ref();
        let has_polka = certificate.is_some_and(|changes| changes.high().is_some());
        let is_needless = !may_move(propose.header.state_certificate.as_ref())
            && may_move(self.certificate.as_ref());
        has_polka || !is_needless || !self.context.rules.lag_excused
    }

    /// Rounds that are voted in: the current one. Without rule (a) those below it too.
    fn voting_rounds(&self) -> std::ops::RangeInclusive<Instance> {
        let round = self.work.round;
        let first = if self.context.rules.change_before_vote { round } else { 0 };
        *instances(first).start()..=*instances(round).end()
    }

    pub(super) fn prevote(&mut self, holdings: &impl Holdings) -> bool {
        let (height, own) = (self.height(), self.own());
        let due = self.work.proposals.range(self.voting_rounds()).find(|(at, proposal)| {
            let Propose { round, kind, instance, .. } = proposal.propose;
            let voted = self.work.prevotes.get(at).and_then(|votes| votes.of(own));
            let said = || self.safety.prevoted(place(height, round, kind, instance)).is_some();
            let may = || {
                self.holds(&proposal.propose.header, holdings) && self.ends_lag(&proposal.propose)
            };
            voted.is_none() && (said() || may())
        });
        let Some((at, proposal)) = due.map(|(at, proposal)| (*at, proposal.clone())) else {
            return false;
        };
        let Proposal { propose, digest, hash } = proposal;
        let Some(said) = self.safety.prevote(&propose, digest, hash) else { return false };
        let is_first = said.record.is_some();
        let vote = self.say(said, Message::Prevote);
        self.work.prevotes.entry(at).or_default().add(vote);
        if is_first && propose.kind == RoundKind::Led {
            self.outputs.push_back(Output::Speculate { header: propose.header, hash: digest });
        }
        true
    }

    pub(super) fn precommit(&mut self, now: Now, holdings: &impl Holdings) -> bool {
        let (set, own) = (&self.context.set, self.own());
        let due = self.work.prevotes.range(self.voting_rounds()).rev().filter(|(at, _)| {
            self.work.precommits.get(at).and_then(|votes| votes.of(own)).is_none()
        });
        let due: Vec<_> = due.filter_map(|(at, votes)| Some((*at, votes.quorum(set)?))).collect();
        due.into_iter().any(|(at, polka)| self.precommit_one(now, holdings, at, polka))
    }

    /// Precommits what a polka prevoted, if it is held.
    fn precommit_one(
        &mut self,
        now: Now,
        holdings: &impl Holdings,
        at: Instance,
        (digest, polka): (Hash, Vec<Prevote>),
    ) -> bool {
        self.work.raise(&polka);
        let Some(header) = self.work.values.get(&digest).cloned() else {
            return false;
        };
        if !self.may_precommit(&header, holdings) {
            return false;
        }
        let report = self.report(now, &header, holdings);
        let said = self.safety.precommit(&self.context.set, polka, report);
        let Some(said) = said else { return false };
        let vote = self.say(said, Message::Precommit);
        self.work.precommits.entry(at).or_default().add(vote);
        true
    }

    /// I3, for a precommit: the bodies are held, checked and durable. A polka says that a third acknowledged the tips.
    fn may_precommit(&self, header: &Header, holdings: &impl Holdings) -> bool {
        !self.context.rules.hold_bodies
            || self.moved_tips(header).all(|tip| is_durable(tip, holdings))
    }

    /// What a precommit for `header` says of the lanes and the time.
    fn report(&self, now: Now, header: &Header, holdings: &impl Holdings) -> Report {
        let rules = self.context.rules;
        let is_ended = |lane: Lane| header.term_changes.iter().any(|(ended, _)| *ended == lane);
        let live = |tip: &&Tip| !is_ended(tip.lane) || !rules.tips_of_live_terms;
        let best = |tip: &Tip| {
            if !rules.tips_extend {
                let own = self.safety.acked().find(|acked| acked.lane == tip.lane);
                return own.filter(|own| own.index > tip.index).copied();
            }
            if !rules.tips_acked {
                return beyond(tip, holdings, holdings.durable(tip.lane));
            }
            self.available_here(tip, holdings).filter(|tip| is_durable(tip, holdings))
        };
        let tips: Vec<Tip> = header.cut.iter().filter(live).filter_map(best).collect();
        let mut acks: Vec<Ack> = Vec::new();
        for tip in &tips {
            let vouches = |named: &Tip| named.index >= tip.index && is_linked(named, holdings);
            for word in self.acks.behind(tip.lane, vouches) {
                if !acks.contains(&word) {
                    acks.push((*word).clone());
                }
            }
        }
        let current = |(lane, term): &(Lane, Term)| {
            let lasts = self.parent.term(*lane).is_some_and(|current| current.term == *term);
            (lasts && !is_ended(*lane)) || !rules.suspicions_of_terms
        };
        let suspects = holdings.suspects().into_iter().filter(current).collect();
        let time = Time::new(now.wall_us).max(header.time.next());
        Report { tips, acks, suspects, time }
    }
}
