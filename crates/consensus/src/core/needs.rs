//! Which chunks are missing, and who has them.

use quipu_types::{Hash, Header, Tip, ValidatorIndex};

use super::{Core, Holdings, Need, is_linked};
use crate::header::tip_of;

impl Core {
    /// Tips that have to be held, or would let the ledger go on: of what is decided, prevoted, proposed, reported by
    /// the last commit; and those that a third or the lane's sequencer acknowledged.
    #[must_use]
    pub fn needs(&self, holdings: &impl Holdings) -> Vec<Need> {
        let mut needs: Vec<Need> = Vec::new();
        let rules = self.context.rules;
        let decided = self.work.decided.as_ref().map(|(digest, _)| *digest);
        for header in self.values_wanted() {
            for (tip, before) in header.cut.iter().zip(&self.parent.cut) {
                if tip == before || needs.iter().any(|need| need.tip.lane == tip.lane) {
                    continue;
                }
                let reached = self.available(before, holdings).map_or(0, |tip| tip.index);
                let is_enough = decided.is_some() || reached >= tip.index || !rules.acks_beyond;
                if !is_linked(tip, holdings) || !is_enough {
                    let overrides = decided.is_some() || self.is_available(tip, holdings);
                    let (tip, holders) = (*tip, self.holders(tip));
                    needs.push(Need { tip, holders, is_due: true, overrides });
                }
            }
        }
        for before in &self.parent.cut {
            if !needs.iter().any(|need| need.tip.lane == before.lane) {
                needs.extend(self.demanded(before, holdings));
            }
            if !needs.iter().any(|need| need.tip.lane == before.lane) {
                needs.extend(self.offered(before, holdings));
            }
        }
        needs
    }

    /// The headers whose chunks the height waits for: the decided one, else that of the highest polka and those that are
    /// proposed.
    fn values_wanted(&self) -> Vec<&Header> {
        let of = |digest: &Hash| self.work.values.get(digest);
        if let Some((digest, _)) = &self.work.decided {
            return of(digest).into_iter().collect();
        }
        let high = self.work.high.as_ref().map(|(high, _)| &high.digest);
        let proposed = self.work.proposals_of(self.work.round).map(|one| &one.digest);
        high.into_iter().chain(proposed).filter_map(of).collect()
    }

    fn holders(&self, tip: &Tip) -> Vec<ValidatorIndex> {
        let own = self
            .acks
            .of(tip.lane)
            .filter(|(_, acked)| (acked.term, acked.index) >= (tip.term, tip.index));
        own.map(|(validator, _)| validator).filter(|validator| *validator != self.own()).collect()
    }

    /// Whether a third acknowledged this tip, or one beyond it on its chain.
    fn is_available(&self, tip: &Tip, holdings: &impl Holdings) -> bool {
        let set = &self.context.set;
        let own = self.acks.of(tip.lane).filter(|(_, acked)| holdings.passes(acked, tip));
        set.is_third(set.power_of(own.map(|(validator, _)| validator)))
    }

    /// A tip that inclusion demands and that is not available here.
    fn demanded(&self, before: &Tip, holdings: &impl Holdings) -> Option<Need> {
        let required = self.parent.index_required(&self.context, before.lane);
        let reached = self.available(before, holdings).map_or(0, |tip| tip.index);
        if required <= before.index || reached >= required {
            return None;
        }
        let votes = self.parent.commit.iter().flat_map(|commit| &commit.precommits);
        let reports = votes.filter_map(|vote| {
            let tip = tip_of(&vote.tips, before.lane)?;
            (tip.index >= required).then_some((*tip, vote.validator))
        });
        let (tip, _) = reports.clone().min_by_key(|(tip, _)| tip.index)?;
        let holders = reports.filter(|(own, _)| *own == tip).map(|(_, validator)| validator);
        let holders = holders.filter(|validator| *validator != self.own()).collect();
        if is_linked(&tip, holdings) && !self.context.rules.acks_beyond {
            return None;
        }
        let overrides = self.is_available(&tip, holdings);
        Some(Need { tip, holders, is_due: true, overrides })
    }

    /// A tip beyond the own that a third or the sequencer acknowledged.
    fn offered(&self, before: &Tip, holdings: &impl Holdings) -> Option<Need> {
        let current = self.parent.term(before.lane)?;
        let sequencer = self.context.epochs.sequencer(before.lane, current.term);
        let set = &self.context.set;
        let mut beyond: Vec<(ValidatorIndex, Tip)> = self
            .acks
            .of(before.lane)
            .filter(|(_, tip)| tip.term == current.term && tip.index > before.index)
            .filter(|(_, tip)| holdings.linked(tip.lane, tip.index) != Some(**tip))
            .map(|(validator, tip)| (validator, *tip))
            .collect();
        beyond.sort_by_key(|(_, tip)| std::cmp::Reverse(tip.index));
        let mut power = 0_u128;
        let (_, tip) = beyond.iter().find(|(validator, _)| {
            power = power.saturating_add(set.power(*validator));
            *validator == sequencer || set.is_third(power)
        })?;
        Some(Need { tip: *tip, holders: self.holders(tip), is_due: false, overrides: false })
    }
}
