//! Clients act, wait, give up waiting, go to another validator, and remember what they were told.

use std::sync::Arc;

use quipu_proof::names::header_hash;
use quipu_replica::complaints::check;
use quipu_replica::{Admitted, Answer, Input, Refusal, Ticket};
use quipu_types::{Hash, Height, Lane, Position, code};

use super::effects::short;
use super::{Event, World};
use crate::client::{Act, Client};
use crate::shape::LANE_COUNT;
use crate::{Broken, rule, verdict};

/// How long a client waits for an answer.
const PATIENCE_US: u64 = 1_500_000;

/// What a ticket is for.
#[derive(Clone, Copy, Debug)]
enum What {
    Sent(usize, Lane, usize),
    Old(usize, usize),
    Gap,
    Complaint,
}

/// A ticket that was not answered.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    what: What,
    admitted: Arc<Admitted>,
    node: usize,
}

impl World {
    pub(super) fn client_turn(&mut self, number: usize) -> Result<(), Broken> {
        let next_us = self.random.u64(30_000..300_000);
        self.at(self.submit_us().unwrap_or(next_us), Event::Client(number));
        if self.is_measured() && number > 0 {
            return Ok(());
        }
        if self.is_fair && !self.is_measured() {
            return self.submit(number, Client::retry);
        }
        let (chain, anchor) = (self.context.chain, self.anchor());
        let mut random = self.random.fork();
        if random.u8(..12) == 0 {
            self.move_home(number);
        }
        let stake = match number {
            0 if random.u8(..4) == 0 => self.stakes.act(&mut random),
            1 => self.stakes.show(),
            _ => None,
        };
        self.submit(number, |client| client.act(&mut random, &chain, LANE_COUNT, anchor, stake))
    }

    fn anchor(&self) -> Hash {
        self.witness.committed.last().map_or(self.context.chain, header_hash)
    }

    fn move_home(&mut self, number: usize) {
        let home = self.random.usize(..self.nodes.len());
        if let Some(client) = self.clients.get_mut(number) {
            client.home = home;
        }
    }

    fn submit(
        &mut self,
        number: usize,
        act: impl FnOnce(&mut Client) -> Act,
    ) -> Result<(), Broken> {
        let Some(client) = self.clients.get_mut(number) else { return Ok(()) };
        let (what, admitted) = match act(client) {
            Act::Nothing => return Ok(()),
            Act::Submit(lane, at, admitted) => (What::Sent(number, lane, at), admitted),
            Act::Old(at, admitted) => (What::Old(number, at), admitted),
            Act::Gap(admitted) => (What::Gap, admitted),
        };
        let node = client.home;
        if self.node(node).alive.is_none() {
            self.forget(what, &admitted);
            self.move_home(number);
            return Ok(());
        }
        let ticket = self.next_ticket;
        self.next_ticket = ticket.saturating_add(1);
        let tx = short(&admitted.tx);
        self.note(11, || format!("client {number} submits {ticket} to {node}: {what:?} {tx}"));
        self.asked.insert(ticket, Asked { what, admitted: Arc::clone(&admitted), node });
        self.at(PATIENCE_US, Event::Expire(ticket));
        if !self.node(node).is_honest {
            // What a criminal tells clients is not judged; it tells them nothing.
            return Ok(());
        }
        let is_early = self.random.u8(..4) == 0;
        self.feed(node, Input::Submit { ticket, admitted, is_early })
    }

    /// A client gives up waiting, and goes elsewhere. The answer may come yet.
    pub(super) fn expire(&mut self, ticket: Ticket) -> Result<(), Broken> {
        let Some(Asked { what, admitted, .. }) = self.asked.get(&ticket).cloned() else {
            return Ok(());
        };
        self.forget(what, &admitted);
        if let What::Sent(number, ..) = what {
            self.move_home(number);
            if self.shape.complains {
                return self.complain(number, &admitted);
            }
        }
        Ok(())
    }

    /// A client tells its validator that a transaction is kept out.
    fn complain(&mut self, number: usize, admitted: &Arc<Admitted>) -> Result<(), Broken> {
        let Some(client) = self.clients.get(number) else { return Ok(()) };
        let home = self.node(client.home);
        let Some(alive) = home.alive.as_ref().filter(|_| home.is_honest) else { return Ok(()) };
        let terms = alive.replica.status().terms;
        let Some((term, _)) = terms.get(usize::from(admitted.lane.get())) else { return Ok(()) };
        let complaint = client.complaint(&self.context.chain, admitted, *term);
        let grievance = check(&self.context.chain, &self.admissions, complaint);
        let grievance = Box::new(grievance.expect("an honest client's complaint"));
        let (node, what) = (client.home, What::Complaint);
        let ticket = self.next_ticket;
        self.next_ticket = ticket.saturating_add(1);
        self.note(14, || format!("client {number} complains {ticket} to {node}"));
        self.asked.insert(ticket, Asked { what, admitted: Arc::clone(admitted), node });
        self.feed(node, Input::Complain { ticket, grievance })
    }

    /// Nothing will be answered that a dead process was asked.
    pub(super) fn lose_tickets(&mut self, node: usize) {
        let lost: Vec<Ticket> = self
            .asked
            .iter()
            .filter(|(_, asked)| asked.node == node)
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in lost {
            if let Some(Asked { what, admitted, .. }) = self.asked.remove(&ticket) {
                self.forget(what, &admitted);
            }
        }
    }

    pub(super) fn stopped(&mut self, at: usize) {
        self.lose_tickets(at);
        self.note(12, || format!("{at} stopped"));
        let delay_us = self.random.u64(1_000..500_000);
        self.at(delay_us, Event::Start(at));
    }

    fn forget(&mut self, what: What, admitted: &Admitted) {
        if let Some(sent) = self.sent(what, admitted) {
            sent.waits = false;
        }
    }

    /// What a client keeps of a ticket. It may have begun a new incarnation since: then another stands in that place.
    fn sent(&mut self, what: What, admitted: &Admitted) -> Option<&mut crate::client::Sent> {
        let sent = match what {
            What::Gap | What::Complaint => None,
            What::Sent(client, lane, at) => {
                self.clients.get_mut(client)?.sent.get_mut(&lane)?.get_mut(at)
            }
            What::Old(client, at) => self.clients.get_mut(client)?.old.get_mut(at),
        };
        sent.filter(|sent| sent.admitted.tx == admitted.tx)
    }

    pub(super) fn answer(
        &mut self,
        at: usize,
        ticket: Ticket,
        answer: &Answer,
    ) -> Result<(), Broken> {
        let asked = self.asked.remove(&ticket);
        let Asked { what, admitted, node } =
            asked.ok_or_else(|| Broken { rule: "V4", what: format!("{ticket} answered twice") })?;
        rule(node == at, "V4", || format!("{at} answers {ticket}, which {node} was asked"))?;
        let told = self.told(at, what, &admitted, answer)?;
        if let Some((position, height)) = told
            && self.history.tell(&admitted, position, height)?
        {
            self.totals.finals += 1;
        }
        if matches!(what, What::Gap) {
            let what = || "a sequence beyond a gap was taken".to_owned();
            return rule(told.is_none(), "V1", what);
        }
        if let Some(sent) = self.sent(what, &admitted) {
            sent.waits = false;
            sent.done = told.or(sent.done);
        }
        Ok(())
    }

    fn told(
        &mut self,
        at: usize,
        what: What,
        admitted: &Admitted,
        answer: &Answer,
    ) -> Result<Option<(Position, Height)>, Broken> {
        Ok(match answer {
            Answer::Ordered { tx, position, height, .. } => {
                rule(*tx == admitted.tx, "V1", || "another's order".to_owned())?;
                self.totals.early += 1;
                Some((*position, *height))
            }
            Answer::Final { receipt, height, .. } => {
                rule(receipt.tx == admitted.tx, "V1", || "another's receipt".to_owned())?;
                Some((Position { lane: receipt.lane, seqno: receipt.seqno }, *height))
            }
            Answer::Used { tx, otherwise, .. } => {
                let Some(alive) = &self.node(at).alive else { return Ok(None) };
                let found = verdict::place(&alive.machine, tx)?;
                let is_old = match what {
                    What::Sent(client, ..) => {
                        let client = self.clients.get(client);
                        client.is_some_and(|client| client.is_old(admitted))
                    }
                    What::Old(..) => true,
                    What::Gap | What::Complaint => false,
                };
                let is_fenced = *otherwise == code::FENCED && is_old;
                self.totals.repeats += u64::from(found.is_some());
                self.totals.fenced += u64::from(found.is_none() && is_fenced);
                let known = found.is_some() || is_fenced;
                rule(known, "V1", || format!("{what:?}: {otherwise}, though never ordered"))?;
                found
            }
            Answer::Heard { .. } => {
                self.totals.complaints += 1;
                None
            }
            Answer::Refused(refusal) => {
                self.totals.gaps += u64::from(matches!(refusal, Refusal::Gap { .. }));
                self.totals.overloads += u64::from(matches!(refusal, Refusal::Overloaded { .. }));
                None
            }
        })
    }
}
