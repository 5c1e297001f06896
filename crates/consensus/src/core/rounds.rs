//! Rounds of a height: of which kind each is, how it is left and entered.
//!
//! ```text
//!  led   ── timer ──────────────────────────────────────────────────────────────────> RoundChange(r + 1)
//!  open  ── precommits of a quorum, of instances of a quorum of owners ─> CoinShare
//!           ½ of the shares ─> Coin ─> the elected instance: committed, or its polka counts ─> RoundChange(r + 1)
//!  both  ── round changes of a third beyond, a proposal of a later round ─> RoundChange(r')
//! ```
//! Only a led round has a timer. It has none of a height's first leader that has said that it stops: that round is left when the
//! height is due, so a planned stop costs a round change and not a timer. Such a word is about its sender's own turns, for
//! [`PRIMARY_HEIGHT_COUNT`] heights at most, and is forgotten when the sender is linked again; nobody has to believe it, for a round
//! may be left at any time.
//! Nobody leaves for a round without the coins of every open round below it (rule (c)).
//! Parts in coins are not logged: they are a function of the place, and safe to say twice.

use std::collections::BTreeSet;

use quipu_types::{RoundCoin, RoundKind, Rounds, ValidatorIndex};

use super::work::instances;
use super::{Core, ROUND_MORE_US, ROUND_US};
use crate::Now;
use crate::header::Parent;
use crate::record::Message;
use crate::schedule::elect;

impl Core {
    /// The kind of a round of this height, and which of its led rounds it is or would be.
    #[must_use]
    pub fn kind(&self, round: u32) -> (RoundKind, u32) {
        self.rounds().kind(self.height(), round)
    }

    /// What the last committed header says of the rounds of this height. The certificate that is held here says
    /// nothing: others may hold another one.
    pub(super) fn rounds(&self) -> Rounds {
        let Parent { height, rounds, commit, .. } = &self.parent;
        let decided = commit.as_ref().and_then(|commit| commit.precommits.first());
        match decided {
            Some(vote) if !self.context.rules.kinds_by_headers => {
                rounds.after(*height, Some(vote.kind))
            }
            _ => *rounds,
        }
    }

    fn is_open(&self, round: u32) -> bool {
        self.kind(round).0 == RoundKind::Open
    }

    /// Who leads a led round.
    pub(super) fn leader(&self, round: u32) -> ValidatorIndex {
        self.context.schedule.leader(self.parent.primary, self.kind(round).1)
    }

    /// Whether this validator proposes in the round: in an open one everyone does.
    pub(super) fn leads(&self) -> bool {
        let round = self.work.round;
        self.is_open(round) || self.leader(round) == self.safety.own()
    }

    /// A third beyond pulls (its honest ones have left this round).
    pub(super) fn pull(&mut self, now: Now) -> bool {
        match self.work.pulled_to(&self.context.set) {
            Some(round) if round > self.work.round => {
                self.enter(now, round);
                true
            }
            _ => false,
        }
    }

    /// A justified proposal of a later round pulls.
    pub(super) fn follow(&mut self, now: Now) -> bool {
        match self.work.proposals.keys().next_back().copied() {
            Some((round, _)) if round > self.work.round => {
                if self.context.rules.change_on_entry {
                    self.enter(now, round);
                } else {
                    self.begin(now, round);
                }
                true
            }
            _ => false,
        }
    }

    /// When the round's timer ends; an open round has none.
    pub(super) fn deadline(&self) -> Option<u64> {
        if self.is_open(self.work.round) && self.context.rules.change_with_coins {
            return None;
        }
        let since_us = self.work.since_us?;
        if self.is_left() {
            return Some(since_us);
        }
        let more = ROUND_MORE_US.saturating_mul(u64::from(self.work.round));
        Some(since_us.saturating_add(ROUND_US).saturating_add(more))
    }

    /// Whether this is the first round, and who leads it stops and has not proposed. Of later rounds this is never so: where
    /// everyone stops, round would follow round.
    fn is_left(&self) -> bool {
        let leader = self.leader(0);
        let until = self.leaving.get(&leader);
        self.context.rules.leaving_left
            && self.work.round == 0
            && until.is_some_and(|until| self.height() <= *until)
            && !self.work.proposals.contains_key(&(0, leader))
    }

    pub(super) fn time_out(&mut self, now: Now) -> bool {
        if self.deadline().is_none_or(|at| now.mono_us < at) {
            return false;
        }
        self.enter(now, self.work.round.saturating_add(1));
        true
    }

    /// An open round whose coin is known, and did not decide, is over.
    pub(super) fn end_open(&mut self, now: Now) -> bool {
        let round = self.work.round;
        let is_over = self.is_open(round) && self.work.coins.of(round).is_some();
        if is_over {
            self.enter(now, round.saturating_add(1));
        }
        is_over
    }

    /// Rule (a): whoever enters a round, in whatever way, first says so; that ends all its voting below.
    fn enter(&mut self, now: Now, round: u32) {
        assert!(round > self.work.round, "rounds are entered upwards");
        self.raise_elected(round);
        let (high, coins) = (self.work.high.clone(), self.work.coins.below(round));
        let place = (self.height(), round, self.kind(round).0);
        let work = &self.work;
        let is_void = |vote: &_| work.is_void(vote) || !self.context.rules.polka_logged;
        let said = self.safety.change(place, high, coins, is_void);
        self.begin(now, round);
        let own = self.say(said, Message::RoundChange);
        self.work.changes.insert(self.safety.own(), own);
    }

    fn begin(&mut self, now: Now, round: u32) {
        self.work.round = round;
        self.work.since_us = Some(now.mono_us);
        self.work.said_us = now.mono_us;
        self.work.share = None;
    }

    /// Polkas of elected instances that came together since count too: those of rounds below `round`. Who is behind may know
    /// coins and polkas of the round that it is about to enter, and of later ones.
    fn raise_elected(&mut self, round: u32) {
        let below = self.work.coins.elected().filter(|(of, _)| *of < round);
        for instance in below.collect::<Vec<_>>() {
            let votes = self.work.prevotes.get(&instance);
            if let Some((_, polka)) = votes.and_then(|votes| votes.quorum(&self.context.set)) {
                self.work.raise(&polka);
            }
        }
        self.work.raise_elected();
    }

    /// Keeps coins that others attached, and that were checked.
    pub(super) fn learn(&mut self, coins: &[RoundCoin]) {
        for RoundCoin { round, coin } in coins {
            if self.work.coins.of(*round).is_none()
                && let Some(elected) = self.context.elected((self.height(), *round), coin)
            {
                self.work.coins.learn(*round, *coin, elected);
            }
        }
    }

    /// Says the own part in the coin, once instances whose owners are a quorum have their precommits: then the coin
    /// elects one of those with the same chance.
    pub(super) fn share(&mut self) -> bool {
        let round = self.work.round;
        let is_due = self.is_open(round)
            && self.work.share.is_none()
            && self.work.coins.of(round).is_none()
            && self.is_done(round);
        let Some(secret) = self.coin_secret.as_ref().filter(|_| is_due) else { return false };
        let parts = secret.sign(&self.context.coin_message((self.height(), round)));
        let share = self.safety.share(self.height(), round, parts);
        self.work.share = Some(share.clone());
        self.work.coins.add(share.clone());
        self.outputs.push_back(super::Output::Send(Message::CoinShare(share)));
        true
    }

    /// Whether instances of a round whose owners, who proposed them, are a quorum have their precommits.
    fn is_done(&self, round: u32) -> bool {
        let (set, rules) = (&self.context.set, self.context.rules);
        let owner = |instance: ValidatorIndex, digest| match self.work.values.get(&digest) {
            Some(header) if !rules.owners_propose => header.proposer,
            _ => instance,
        };
        let done = self.work.precommits.range(instances(round));
        let owners: BTreeSet<ValidatorIndex> = done
            .filter_map(|((_, instance), votes)| Some(owner(*instance, votes.quorum(set)?.0)))
            .collect();
        let power = set.power_of(owners);
        if rules.owners_done { set.is_quorum(power) } else { power > 0 }
    }

    /// Makes a coin of the parts that came.
    pub(super) fn toss(&mut self) -> bool {
        let Some(scheme) = &self.context.coin else { return false };
        let height = self.height();
        let message = |round| self.context.coin_message((height, round));
        let Some((round, coin)) = self.work.coins.toss(scheme, message) else { return false };
        if let Some(key) = &self.context.set.coin {
            // Others will attach it to their words.
            self.context.verified.combined(key, &message(round), &coin);
        }
        self.work.coins.learn(round, coin, elect(&self.context.set, &coin));
        true
    }
}
