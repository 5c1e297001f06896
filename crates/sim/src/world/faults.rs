//! What goes wrong: crashes, partitions, clocks that are set, validators that are stopped or lose their disk.

use super::effects::validator;
use super::{Event, World};
use crate::network::Way;
use crate::node::Node;
use crate::{Broken, rule};
use quipu_replica::Input;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// It is killed; what it wrote is in the system's hands.
    Kill,
    /// The power goes.
    Power,
    /// A sync fails, then the power goes.
    Sync,
    /// The power goes after that many changes to the medium.
    Fuse(u64),
    /// It is asked to stop, and hands its lanes over.
    Stop,
    /// The disk is lost with it.
    Wipe,
}

impl World {
    /// Starts everyone, and decides what is to go wrong.
    pub(super) fn plan(&mut self) {
        let count = self.nodes.len();
        for at in 0..count {
            let delay_us = self.random.u64(..20_000);
            self.at(delay_us, Event::Start(at));
        }
        for number in 0..self.clients.len() {
            let home = self.random.usize(..count);
            if let Some(client) = self.clients.get_mut(number) {
                client.home = home;
            }
            let delay_us = self.random.u64(10_000..200_000);
            self.at(delay_us, Event::Client(number));
        }
        if !self.profile.has_faults {
            return;
        }
        if self.random.bool() {
            let delay_us = self.random.u64(50_000..self.profile.fault_ms * 500);
            self.at(delay_us, Event::Copy);
        }
        let rounds = self.profile.fault_ms.div_ceil(2_500);
        for _ in 0..rounds {
            self.plan_crashes();
            self.plan_partitions();
        }
    }

    /// Copies of all disks are kept, for whoever loses its own later.
    pub(super) fn keep_copies(&mut self) {
        for node in &mut self.nodes {
            node.keep_copy();
        }
    }

    fn when(&mut self) -> u64 {
        self.random.u64(100_000..self.profile.fault_ms * 1_000 - 50_000)
    }

    fn plan_crashes(&mut self) {
        let honest = (0..self.nodes.len()).filter(|at| self.node(*at).is_honest);
        let honest: Vec<usize> = honest.collect();
        for _ in 0..self.random.u8(1..4) {
            let at = self.random.choice(&honest).copied().unwrap_or(0);
            let how = match self.random.u8(..12) {
                0 | 1 => Death::Kill,
                2..=4 => Death::Power,
                5 | 6 => Death::Sync,
                7..=9 => Death::Fuse(1 + self.random.u64(..60)),
                10 => Death::Stop,
                _ => Death::Wipe,
            };
            let delay_us = self.when();
            self.at(delay_us, Event::Die(at, how));
        }
        for _ in 0..self.random.u8(..3) {
            let at = self.random.choice(&honest).copied().unwrap_or(0);
            let delay_us = self.when();
            self.at(delay_us, Event::Jump(at));
        }
    }

    fn plan_partitions(&mut self) {
        let count = self.nodes.len();
        if count == 1 {
            return;
        }
        for _ in 0..self.random.u8(1..3) {
            let all = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
            let mut ways: Vec<Way> = all.filter(|(from, to)| from != to).collect();
            if self.random.u8(..3) == 0 {
                // Some ways, whatever the other direction does.
                self.random.shuffle(&mut ways);
                let kept = self.random.usize(1..=ways.len() / 2);
                ways.truncate(kept);
            } else {
                let sides: Vec<bool> = (0..count).map(|_| self.random.bool()).collect();
                let alone = self.random.usize(..count);
                let side = |at: &usize| sides.get(*at).copied().unwrap_or(false) ^ (*at == alone);
                let is_even = (1..count).all(|at| side(&at) == side(&0));
                ways.retain(|(from, to)| {
                    if is_even { (*from == alone) ^ (*to == alone) } else { side(from) != side(to) }
                });
            }
            let number = self.partitions.len();
            self.partitions.push(ways);
            let (from_us, length_us) = (self.when(), self.random.u64(50_000..1_500_000));
            self.at(from_us, Event::Split(number));
            self.at(from_us + length_us, Event::Heal(number));
        }
    }

    pub(super) fn split(&mut self, number: usize) {
        if self.is_fair {
            return;
        }
        let ways = self.partitions.get(number).cloned().unwrap_or_default();
        let is_symmetric = ways.iter().all(|(from, to)| ways.contains(&(*to, *from)));
        if is_symmetric {
            self.totals.partitions += 1;
        } else {
            self.totals.partitions_one_way += 1;
        }
        self.note(2, || format!("closed: {ways:?}"));
        self.network.close(&ways);
    }

    pub(super) fn heal(&mut self, number: usize) {
        if self.is_fair {
            return;
        }
        let ways = self.partitions.get(number).cloned().unwrap_or_default();
        let opened = self.network.open(&ways);
        self.note(3, || format!("opened: {opened:?}"));
        for (from, to) in opened {
            self.link(from, to);
        }
    }

    /// A link comes up: both ends learn of it, each in its time.
    pub(super) fn link(&mut self, a: usize, b: usize) {
        for (at, peer) in [(a, b), (b, a)] {
            let delay_us = self.random.u64(100..5_000);
            self.at(delay_us, Event::Linked { at, peer });
        }
    }

    pub(super) fn jump(&mut self, at: usize) {
        let by_us = self.random.i64(-2_000_000..2_000_000);
        self.totals.clock_jumps += 1;
        self.node_mut(at).wall_skew_us += by_us;
        self.note(4, || format!("the wall clock of {at} is set by {by_us}"));
    }

    /// Faults end: everyone is up, every message arrives.
    pub(super) fn freeze(&mut self) -> Result<(), Broken> {
        if self.profile.has_faults && self.totals.crashes() == 0 {
            // What was planned did not come to it.
            let alive = |node: &Node| node.is_honest && node.alive.is_some();
            if let Some(at) = self.nodes.iter().position(alive) {
                self.death(at, Death::Power)?;
            }
        }
        self.is_fair = true;
        self.network.make_fair();
        self.note(5, || "faults end".to_owned());
        for at in 0..self.nodes.len() {
            if self.node(at).alive.is_some() && self.node(at).disk.has_fuse() {
                self.crash(at, "in the end");
            }
            if self.node(at).alive.is_none() {
                self.start(at)?;
            }
            for peer in 0..at {
                self.link(at, peer);
            }
        }
        Ok(())
    }

    /// The power went in the midst of a change to the medium.
    pub(super) fn blow(&mut self, at: usize) {
        self.totals.power_cuts_in_writes += 1;
        self.crash(at, "in a write");
    }

    pub(super) fn crash(&mut self, at: usize, how: &str) {
        let mut random = self.random.fork();
        let mut faults = self.totals.disk;
        self.node_mut(at).cut_power(&mut random, &mut faults);
        self.totals.disk = faults;
        self.died(at, how);
    }

    /// What is the same for every way to die.
    fn died(&mut self, at: usize, how: &str) {
        self.lose_tickets(at);
        self.note(6, || format!("{at} dies {how}"));
        let delay_us = self.random.u64(1_000..1_500_000);
        let delay_us = if self.is_fair { 1_000 } else { delay_us };
        self.at(delay_us, Event::Start(at));
    }

    pub(super) fn death(&mut self, at: usize, how: Death) -> Result<(), Broken> {
        let node = self.node(at);
        let Some(alive) = node.alive.as_ref().filter(|_| node.is_honest) else { return Ok(()) };
        let (in_sync, is_pausing) = (alive.syncing.is_some(), alive.is_pausing);
        let is_sudden = !matches!(how, Death::Stop | Death::Fuse(_));
        self.totals.crashes_in_sync += u64::from(is_sudden && in_sync);
        self.totals.crashes_between_effects += u64::from(is_sudden && is_pausing);
        let mut random = self.random.fork();
        match how {
            Death::Kill => {
                self.totals.kills += 1;
                let node = self.node_mut(at);
                node.disk.kill();
                node.die(&mut random);
                self.died(at, "by a kill");
            }
            Death::Sync => {
                self.totals.failed_syncs += 1;
                let node = self.node_mut(at);
                node.disk.set_sync_fails(true);
                let syncing = node.alive.as_mut().and_then(|alive| alive.syncing.take());
                let noticed =
                    syncing.is_none_or(|sync| sync.group.is_empty() || sync.group.run().is_err());
                rule(noticed, "V4", || "a failed sync is not noticed".to_owned())?;
                self.crash(at, "in a failed sync");
            }
            Death::Power => {
                self.totals.power_cuts += 1;
                self.crash(at, "by a power cut");
            }
            Death::Fuse(count) => self.node(at).disk.set_fuse(count),
            Death::Stop => {
                self.totals.stops += 1;
                self.note(7, || format!("{at} is asked to stop"));
                return self.feed(at, Input::Stop);
            }
            Death::Wipe => self.wipe(at, &mut random),
        }
        Ok(())
    }

    /// A disk is lost, if the others without criminals are a quorum and no other was: who lost its disk is one of the faulty.
    fn wipe(&mut self, at: usize, random: &mut fastrand::Rng) {
        let rest = self.nodes.iter().enumerate();
        let rest = rest.filter(|(other, node)| *other != at && node.is_honest);
        let rest = self.context.set.power_of(rest.map(|(other, _)| validator(other)));
        if self.has_wiped || !self.context.set.is_quorum(rest) {
            self.totals.power_cuts = self.totals.power_cuts.saturating_add(1);
            return self.crash(at, "by a power cut");
        }
        self.has_wiped = true;
        if self.node_mut(at).rewind(random) {
            self.totals.rewinds += 1;
            return self.died(at, "and an old copy of its disk is put back");
        }
        self.totals.wipes += 1;
        self.node_mut(at).wipe(random);
        if random.bool() {
            self.restore(at);
        }
        self.died(at, "and its disk is lost");
    }

    /// A new disk begins with a checkpoint that others made: all who can make one of a height make the same.
    fn restore(&mut self, at: usize) {
        let others =
            self.nodes.iter().filter(|node| node.is_honest && usize::from(node.number) != at);
        // Who is of no set yet vouches for nothing.
        let others =
            others.filter(|node| self.context.set.power(validator(usize::from(node.number))) > 0);
        let saved: Vec<_> = others.filter_map(|node| node.save(&self.context)).collect();
        let Some((manifest, parts)) = saved.iter().max_by_key(|(saved, _)| saved.signed.statement)
        else {
            return;
        };
        let newest = manifest.signed.statement;
        let of_height = saved.iter().map(|(saved, _)| saved.signed.statement);
        let mut of_height = of_height.filter(|other| other.height == newest.height);
        assert!(of_height.all(|other| other == newest), "one state gives one checkpoint");
        let (context, genesis) = (&self.context, &self.genesis);
        let node = self.nodes.get_mut(at).expect("events name nodes of the world");
        self.totals.restores += u64::from(node.restore(manifest, parts, context, genesis));
    }

    pub(super) fn start(&mut self, at: usize) -> Result<(), Broken> {
        if self.node(at).alive.is_some() {
            return Ok(());
        }
        if !self.is_fair && self.random.u8(..12) == 0 && self.profile.has_faults {
            let count = 1 + self.random.u64(..30);
            self.node_mut(at).disk.set_fuse(count);
        }
        let mut random = self.random.fork();
        let (world_us, profile) = (self.now_us, self.profile);
        let node = self.nodes.get_mut(at).expect("events name nodes of the world");
        let (genesis, context, history) = (&self.genesis, &self.context, &mut self.history);
        let started = node.start(world_us, &profile, genesis, context, history, &mut random)?;
        let Some(started) = started else {
            self.blow(at);
            return Ok(());
        };
        self.totals.restarts += u64::from(started.head.get() > 0);
        self.totals.torn_tails += u64::try_from(started.torn).unwrap_or(0);
        self.note(8, || format!("{at} starts at {}", started.head));
        if let Some(set) = started.next {
            self.feed(at, Input::NextSet(Box::new(set)))?;
        }
        for (state, receipts) in started.again {
            self.feed(at, Input::Executed { state, receipts })?;
        }
        self.effects(at)?;
        for peer in 0..self.nodes.len() {
            if peer != at && self.node(peer).alive.is_some() {
                self.link(at, peer);
            }
        }
        Ok(())
    }
}
