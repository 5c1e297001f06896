//! A world that is measured: see [`crate::probe`].

use std::sync::Arc;

use quipu_crypto::Verified;
use quipu_replica::Admissions;
use quipu_replica::api::CLOCK_CHUNK_US;
use quipu_types::RoundKind;

use super::World;
use crate::probe::{Clock, Measured, Probe};
use crate::shape::LANE_COUNT;
use crate::{Broken, Profile, Violation};

/// What every sync takes.
pub(super) const SYNC_US: u64 = 1_000;
/// Time between two transactions.
const SUBMIT_US: u64 = 2_000_000;

impl World {
    /// A world of `count` equal validators whose messages take `delay_us`, for `height_count` heights of every `idle_ms`, or
    /// for a transaction every two seconds.
    pub(crate) fn measure(
        count: usize,
        delay_us: u64,
        idle_ms: u64,
        (height_count, kind): (u64, RoundKind),
        clock: Clock,
    ) -> Result<Measured, Box<Violation>> {
        let powers: &'static [u64] = EQUAL.get(..count).unwrap_or(&EQUAL);
        let has_coin = kind == RoundKind::Open && count > 1;
        let clock_chunk_ms = CLOCK_CHUNK_US / 1_000;
        let calm =
            Profile { has_faults: false, has_crimes: false, clock_chunk_ms, ..Profile::short() };
        let coin_percent = if has_coin { 100 } else { 0 };
        let profile = Profile { powers, coin_percent, storm_percent: 0, ..calm };
        let mut world = Self::with_idle(1, &profile, Some(idle_ms));
        if has_coin {
            world.shape.storm_us = 0..u64::MAX;
        }
        world.network.make_exact(delay_us);
        world.probe = Some(Probe::new(clock));
        // Each validator pays for what it checks, and remembers it for itself alone.
        world.admissions = Admissions::new(world.context.chain, LANE_COUNT, 0);
        world.context.verified = Arc::new(Verified::new(0));
        for node in &mut world.nodes {
            node.verified = Arc::default();
        }
        world.is_fair = true;
        world.plan();
        match world.height_by_height(height_count) {
            Ok(()) => Ok(world.measured()),
            Err(Broken { rule, what }) => {
                let (seed, turn, trace) = (world.seed, world.step, world.trace);
                Err(Box::new(Violation { seed, turn, rule, what, trace }))
            }
        }
    }

    fn height_by_height(&mut self, height_count: u64) -> Result<(), Broken> {
        while self.height() < height_count {
            self.turn()?;
        }
        Ok(())
    }

    /// How long until a client acts next, in a measured world.
    pub(super) fn submit_us(&self) -> Option<u64> {
        self.probe.is_some().then_some(SUBMIT_US)
    }

    /// A client's turn in a measured world: something new.
    pub(super) fn is_measured(&self) -> bool {
        self.probe.is_some()
    }

    fn measured(&mut self) -> Measured {
        let count = self.nodes.len();
        let heights = self.height().max(1);
        let validators = u64::try_from(count).unwrap_or(u64::MAX);
        let probe = self.probe.take().expect("it is measured");
        let (commit_us, commit_count) = probe.commit_us();
        let per_height = |total: u64| total.checked_div(heights).unwrap_or(0);
        Measured {
            count,
            height_count: heights,
            height_us: per_height(self.now_us),
            cpu_ns: per_height(probe.cpu_ns).checked_div(validators).unwrap_or(0),
            message_count: per_height(self.totals.messages),
            message_size: per_height(probe.message_size),
            commit_us,
            commit_count,
        }
    }
}

/// Equal stake.
const EQUAL: [u64; 64] = [1; 64];
