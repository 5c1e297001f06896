//! What a peer did wrong, and when it is shut out for how long.
//!
//! ```text
//!  points: each offence adds its weight, one second takes one off
//!  [`POINTS_MAX`] reached ─> shut out for 10 s, then 20 s, 40 s, … at most 10 min; points begin at 0 again
//!  [`FORGET_US`] without being shut out halves the next time
//! ```
//! # Invariants
//! * S1 A peer that does nothing wrong is never shut out, and what it did is forgotten with time.
//! * S2 Time is an argument in microseconds and only its differences count; a clock that goes back forgives nothing
//!   and adds nothing.
//!
//! To be shut out is about one process's sockets. It is no evidence, costs no stake and concerns no other validator.

/// Points at which a peer is shut out.
pub const POINTS_MAX: u64 = 100;
/// The first time that a peer is shut out lasts so long.
pub const BAN_US_MIN: u64 = 10_000_000;
/// No time lasts longer.
pub const BAN_US_MAX: u64 = 600_000_000;
/// After so long without being shut out, one time is forgotten.
pub const FORGET_US: u64 = 600_000_000;

/// One point, in what a score counts: so much passes in a second.
const POINT: u64 = 1_000_000;

/// What a peer can do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Offence {
    /// It announced more than is allowed.
    TooLong,
    /// Its bytes are no message.
    Malformed,
    /// It sent what its author did not sign.
    BadSignature,
    /// It began a frame and did not end it.
    Stalled,
    /// The protocol refused its message, and an honest peer would not have sent it.
    Refused,
}

impl Offence {
    /// Every offence.
    pub const ALL: [Self; 5] =
        [Self::TooLong, Self::Malformed, Self::BadSignature, Self::Stalled, Self::Refused];

    /// Points that it costs.
    #[must_use]
    pub const fn weight(self) -> u64 {
        match self {
            Self::TooLong => POINTS_MAX,
            Self::Malformed | Self::BadSignature => 40,
            Self::Stalled => 10,
            Self::Refused => 2,
        }
    }
}

/// What one peer did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// In millionths of a point.
    level: u64,
    /// When `level` was right.
    at_us: u64,
    ban_until_us: u64,
    ban_count: u32,
}

impl Score {
    /// Nothing done yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { level: 0, at_us: 0, ban_until_us: 0, ban_count: 0 }
    }

    /// Lets time pass.
    fn pass(&mut self, now_us: u64) {
        self.level = self.level.saturating_sub(now_us.saturating_sub(self.at_us));
        self.at_us = self.at_us.max(now_us);
    }

    /// Counts an offence. `Some(until)`: the peer is to be disconnected and shut out until then.
    #[must_use]
    pub fn blame(&mut self, now_us: u64, offence: Offence) -> Option<u64> {
        self.pass(now_us);
        self.level = self.level.saturating_add(offence.weight().saturating_mul(POINT));
        if self.level < POINTS_MAX.saturating_mul(POINT) {
            return None;
        }
        self.level = 0;
        let calm_us = self.at_us.saturating_sub(self.ban_until_us);
        let forgotten = u32::try_from(calm_us / FORGET_US).unwrap_or(u32::MAX);
        self.ban_count = self.ban_count.saturating_sub(forgotten).saturating_add(1);
        let doublings = self.ban_count.saturating_sub(1).min(20);
        let ban_us = BAN_US_MIN.saturating_mul(1 << doublings).min(BAN_US_MAX);
        self.ban_until_us = self.at_us.saturating_add(ban_us);
        Some(self.ban_until_us)
    }

    /// Until when the peer is shut out, if it is.
    #[must_use]
    pub fn banned_until(&self, now_us: u64) -> Option<u64> {
        (now_us < self.ban_until_us).then_some(self.ban_until_us)
    }

    /// Whole points that count now.
    #[must_use]
    pub const fn points(&self, now_us: u64) -> u64 {
        self.level.saturating_sub(now_us.saturating_sub(self.at_us)) / POINT
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "small numbers of tests")]

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn one_frame_too_long_shuts_out_at_once_and_each_time_lasts_twice_as_long() {
        let mut score = Score::new();
        let mut now = 5 * SECOND;
        let mut seconds = Vec::new();
        for _ in 0..8 {
            let until = score.blame(now, Offence::TooLong).expect("the bound is reached");
            assert_eq!(score.banned_until(now), Some(until));
            assert_eq!(score.banned_until(until), None);
            seconds.push((until - now) / SECOND);
            now = until;
        }
        assert_eq!(seconds, [10, 20, 40, 80, 160, 320, 600, 600]);
        let until = score.blame(now + 7 * FORGET_US, Offence::TooLong);
        assert_eq!(until, Some(now + 7 * FORGET_US + 20 * SECOND));
    }

    #[test]
    fn rare_offences_are_forgotten_and_many_add_up() {
        let mut score = Score::new();
        for minute in 0..100 {
            assert_eq!(score.blame(minute * 60 * SECOND, Offence::Malformed), None);
        }
        let mut score = Score::new();
        assert_eq!(score.blame(0, Offence::Malformed), None);
        assert_eq!(score.blame(0, Offence::BadSignature), None);
        assert_eq!(score.points(0), 80);
        assert_eq!(score.points(30 * SECOND), 50);
        assert!(score.blame(0, Offence::Malformed).is_some());
        assert_eq!(score.points(0), 0);
    }

    proptest! {
        #[test]
        fn no_times_make_it_panic_and_no_ban_is_longer_than_the_longest(
            steps in proptest::collection::vec((any::<u64>(), 0_usize..5), 0..60),
        ) {
            let mut score = Score::new();
            let mut latest = 0;
            for (now, offence) in steps {
                latest = latest.max(now);
                if let Some(until) = score.blame(now, Offence::ALL[offence]) {
                    prop_assert!(until <= latest.saturating_add(BAN_US_MAX));
                }
                prop_assert!(score.points(now) < POINTS_MAX);
            }
        }

        #[test]
        fn one_refused_message_in_two_seconds_is_borne_for_ever(count in 0_u64..2_000) {
            let mut score = Score::new();
            for step in 0..count {
                prop_assert_eq!(score.blame(step * 2 * SECOND, Offence::Refused), None);
            }
        }
    }
}
