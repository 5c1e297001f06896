//! Validators that break rules, a file for each crime. A criminal is an honest replica with the criminal's key whose
//! messages are changed, kept back or multiplied on their way out: it knows all that a validator knows.
//!
//! | file | crime | evidence |
//! |---|---|---|
//! | equivocator | as a leader two headers, as a voter two votes, as a sequencer two chunks of one place | yes |
//! | withholder | chunks and votes for a quorum less one, nothing served | none |
//! | replayer | old words of every kind, its own and others', again and again | none |
//! | silent | says nothing more after a while | none |
//! | sprayer | round changes to huge rounds with made-up polkas, different ones of one round | yes |
//! | tearer | stripes that do not prove themselves, and chunks with a false root of stripes | none, unless two of its chunks meet |

mod equivocator;
mod replayer;
mod silent;
mod sprayer;
mod tearer;
mod withholder;

use std::fmt::Debug;
use std::sync::Arc;

use quipu_consensus::{Context, Message};
use quipu_crypto::Tag;
use quipu_crypto::suite::{SecretKey, sign_tagged};
use quipu_replica::PeerMessage;
use quipu_types::{Encode, Signature, ValidatorIndex};

/// A crime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Crime {
    /// Says two things of one place.
    Equivocate,
    /// Tells a quorum less one.
    Withhold,
    /// Says old things again.
    Replay,
    /// Falls silent.
    Silence,
    /// Goes to rounds that nobody is in.
    Spray,
    /// Sends wrong stripes of bodies.
    Tear,
}

impl Crime {
    /// Every crime.
    pub const ALL: [Self; 6] =
        [Self::Equivocate, Self::Withhold, Self::Replay, Self::Silence, Self::Spray, Self::Tear];

    pub(crate) fn any(random: &mut fastrand::Rng) -> Self {
        random.choice(Self::ALL).unwrap_or(Self::Silence)
    }

    /// Who commits it.
    pub(crate) fn actor(self, random: &mut fastrand::Rng) -> Box<dyn Actor> {
        match self {
            Self::Equivocate => Box::new(equivocator::Equivocator::default()),
            Self::Withhold => Box::new(withholder::Withholder),
            Self::Replay => Box::new(replayer::Replayer::default()),
            Self::Silence => Box::new(silent::Silent::new(random)),
            Self::Spray => Box::new(sprayer::Sprayer::default()),
            Self::Tear => Box::new(tearer::Tearer::default()),
        }
    }
}

/// One criminal.
pub(crate) trait Actor: Debug {
    /// What goes to `to` in place of a message of its replica.
    fn send(&mut self, scene: &mut Scene<'_>, to: usize, bytes: Arc<[u8]>) -> Vec<Arc<[u8]>>;

    /// A message comes to it.
    fn hear(&mut self, _scene: &mut Scene<'_>, _bytes: &Arc<[u8]>) {}

    /// Whether it gives others what they ask for.
    fn serves(&self, _scene: &Scene<'_>) -> bool {
        true
    }
}

/// What a criminal knows.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) random: &'a mut fastrand::Rng,
    pub(crate) context: &'a Context,
    pub(crate) key: &'a SecretKey,
    pub(crate) own: ValidatorIndex,
    pub(crate) now_us: u64,
}

impl Scene<'_> {
    pub(crate) fn sign(&self, tag: Tag, body: &[u8]) -> Signature {
        let Context { chain, set, .. } = self.context;
        sign_tagged(self.key, chain, set.epoch, tag, body)
    }

    fn power(&self, at: usize) -> u128 {
        self.context.set.power(ValidatorIndex::new(u16::try_from(at).unwrap_or(u16::MAX)))
    }

    /// The first of the others, in an order that begins after the own place, whose stake passes `holds`.
    pub(crate) fn first_others(&self, holds: impl Fn(u128) -> bool) -> Vec<usize> {
        let count = self.context.set.validators.len();
        let own = usize::from(self.own.get());
        let mut power = 0_u128;
        let mut first = Vec::new();
        for at in (own.saturating_add(1)..count).chain(0..own) {
            let more = power.saturating_add(self.power(at));
            if holds(more) {
                power = more;
                first.push(at);
            }
        }
        first
    }
}

/// The bytes of a word on agreement.
pub(crate) fn word(message: Message) -> Arc<[u8]> {
    PeerMessage::Agreement(message).to_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::Crime;
    use crate::{Profile, Totals, run};

    /// Worlds of a crime, from a seed on.
    fn worlds(crime: Crime, seed: u64) -> Totals {
        worlds_of(crime, seed, Profile::short().stripe_percent)
    }

    fn worlds_of(crime: Crime, seed: u64, stripe_percent: u8) -> Totals {
        let mut totals = Totals::default();
        for seed in (seed..).take(12) {
            let powers = if seed % 3 == 0 { &[33, 23, 22, 22] } else { &[1, 1, 1, 1] };
            let crime = Some(crime);
            let profile = Profile { crime, powers, stripe_percent, ..Profile::short() };
            match run(seed, &profile) {
                Ok(report) => totals.add(&report.totals),
                Err(violation) => panic!("{crime:?}: {violation}"),
            }
        }
        totals
    }

    #[test]
    fn equivocators_stop_nobody_and_are_named() {
        assert!(worlds(Crime::Equivocate, 1_000).evidence >= 12);
    }

    #[test]
    fn withholders_stop_nobody_and_leave_no_evidence() {
        assert_eq!(worlds(Crime::Withhold, 2_000).evidence, 0);
    }

    #[test]
    fn replayers_stop_nobody_and_leave_no_evidence() {
        assert_eq!(worlds(Crime::Replay, 3_000).evidence, 0);
    }

    #[test]
    fn the_silent_stop_nobody_and_lose_their_lanes() {
        let totals = worlds(Crime::Silence, 4_000);
        assert_eq!(totals.evidence, 0);
        assert!(totals.term_changes >= 4, "{}", totals.term_changes);
    }

    #[test]
    fn sprayers_of_round_changes_stop_nobody_and_are_named() {
        assert!(worlds(Crime::Spray, 5_000).evidence > 0);
    }

    #[test]
    fn who_tears_bodies_or_withholds_their_stripes_stops_nobody() {
        let torn = worlds_of(Crime::Tear, 6_000, 100);
        assert!(torn.restored > 200 && torn.term_changes > 0, "{torn:?}");
        let withheld = worlds_of(Crime::Withhold, 7_000, 100);
        assert!(withheld.restored > 200, "{withheld:?}");
        assert_eq!(withheld.evidence, 0);
    }
}
