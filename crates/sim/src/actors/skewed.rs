//! A validator whose wall clock is hours ahead or behind, and whose other clock runs several times too fast or too slow: so
//! the times of its votes are wrong, its chunks hold too many or too few ticks, its timers fire too early or too late.
//!
//! * The time of a header is the lower weighted median of the precommits' times: with less than a third of the stake skewed
//!   it lies between two honest ones (T1 of the world).
//! * Nothing that depends on ticks or timers alone is an offence: a wrong rate is no proof.
//! * Behind, its votes are dated before their header even, which no honest validator does.

use std::sync::Arc;

use quipu_consensus::Message;
use quipu_crypto::Tag;
use quipu_types::Time;

use super::{Actor, Clocks, Scene, heard, word};

/// Two days.
const SKEW_US_MAX: i64 = 48 * 3_600 * 1_000_000;

#[derive(Debug)]
pub(super) struct Skewed {
    clocks: Clocks,
}

impl Skewed {
    pub(super) fn new(random: &mut fastrand::Rng) -> Self {
        let ahead_us = random.i64(SKEW_US_MAX / 48..SKEW_US_MAX);
        let is_behind = random.bool();
        let ahead_us = if is_behind { ahead_us.wrapping_neg() } else { ahead_us };
        Self { clocks: Clocks { ahead_us, speed_log2: random.i8(-3..=3) } }
    }
}

impl Actor for Skewed {
    fn send(&mut self, scene: &mut Scene<'_>, _to: usize, bytes: Arc<[u8]>) -> Vec<Arc<[u8]>> {
        let Some(Message::Precommit(mut vote)) = heard(&bytes) else { return vec![bytes] };
        if vote.validator == scene.own {
            scene.did();
            if self.clocks.ahead_us < 0 {
                vote.time = Time::new(vote.height.get());
                vote.signature = scene.sign(Tag::Precommit, &vote.signed_body());
                return vec![word(Message::Precommit(vote))];
            }
        }
        vec![bytes]
    }

    fn clocks(&self) -> Clocks {
        self.clocks
    }
}
