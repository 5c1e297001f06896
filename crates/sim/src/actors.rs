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
//! | late | everything seconds late, in bursts, out of order | none |
//! | forger | words in others' names, certificates of junk, chunks with false roots, clocks and bodies | of its chunks |
//! | picker | as a later leader hides the highest polka, proposes its own value instead | none |
//! | coin | its shares as early as it can, or never | none |
//! | amnesiac | round changes that forget its precommits | yes |
//! | omitter | whatever it may leave out: votes, tips, suspicions, state certificates | none |
//! | skewed | clocks that are hours wrong, and too fast or too slow | none |
//! | stale | old, wrong and other answers to what it is asked | none |
//! | dropper | as a sequencer it orders everything but one client's transactions | none |
//! | complainer | floods others with complaints: right ones of made-up clients, false, old and forged ones | none |
//! | lazy | signs the first word on a state that it hears, and does not execute | if that was a trap, or another's lie |
//! | tearer | stripes that do not prove themselves, and chunks with a false root of stripes | none, unless two of its chunks meet |

mod amnesiac;
mod chain;
mod coin;
mod complainer;
mod dropper;
mod equivocator;
mod forger;
mod instead;
mod late;
mod lazy;
mod omitter;
mod picker;
mod replayer;
mod silent;
mod skewed;
mod sprayer;
mod stale;
mod tearer;
mod withholder;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use quipu_consensus::{Context, Message};
use quipu_crypto::Tag;
use quipu_crypto::suite::{SecretKey, sign_tagged};
use quipu_replica::{PeerMessage, Received, Request, Status};
use quipu_types::{Decode, Encode, Genesis, Hash, Signature, ValidatorIndex};

use crate::coins::Dealing;

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
    /// Says everything late.
    Dawdle,
    /// Speaks in others' names.
    Forge,
    /// Hides polkas.
    Pick,
    /// Says its part in a coin before it may.
    HurryCoins,
    /// Never says its part in a coin.
    KeepCoins,
    /// Forgets what it precommitted.
    Forget,
    /// Leaves out what it may.
    Omit,
    /// Has wrong clocks.
    Skew,
    /// Answers with what is old or wrong.
    Mislead,
    /// Sends wrong stripes of bodies.
    Tear,
    /// Keeps one client's transactions out of its lanes.
    Drop,
    /// Complains of everyone.
    Complain,
    /// Signs others' words on states.
    Laze,
}

impl Crime {
    /// Every crime.
    pub const ALL: [Self; 18] = [
        Self::Equivocate,
        Self::Withhold,
        Self::Replay,
        Self::Silence,
        Self::Spray,
        Self::Dawdle,
        Self::Forge,
        Self::Pick,
        Self::HurryCoins,
        Self::KeepCoins,
        Self::Forget,
        Self::Omit,
        Self::Skew,
        Self::Mislead,
        Self::Tear,
        Self::Drop,
        Self::Complain,
        Self::Laze,
    ];
    /// Those that are about complaints.
    const OF_COMPLAINTS: [Self; 2] = [Self::Drop, Self::Complain];

    pub(crate) fn any(random: &mut fastrand::Rng) -> Self {
        let (first, _) = Self::ALL.split_at(Self::ALL.len().saturating_sub(3));
        let one = random.choice(first).copied().unwrap_or(Self::Silence);
        // Of its own, so that a seed gives the world that it gave before there were complaints.
        let mut of_complaints = fastrand::Rng::with_seed(!random.clone().u64(..));
        let other =
            of_complaints.choice(Self::OF_COMPLAINTS).filter(|_| of_complaints.u8(..8) == 0);
        // The same, of those that there were before traps.
        let is_lazy = of_complaints.u8(..8) == 0;
        other.or(is_lazy.then_some(Self::Laze)).unwrap_or(one)
    }

    /// Whether the world is about complaints, so that its clients complain.
    pub(crate) fn is_of_complaints(self) -> bool {
        Self::OF_COMPLAINTS.contains(&self)
    }

    /// Who commits it.
    pub(crate) fn actor(self, random: &mut fastrand::Rng) -> Box<dyn Actor> {
        match self {
            Self::Equivocate => Box::new(equivocator::Equivocator::default()),
            Self::Withhold => Box::new(withholder::Withholder),
            Self::Replay => Box::new(replayer::Replayer::default()),
            Self::Silence => Box::new(silent::Silent::new(random)),
            Self::Spray => Box::new(sprayer::Sprayer::default()),
            Self::Dawdle => Box::new(late::Late::default()),
            Self::Forge => Box::new(forger::Forger::default()),
            Self::Pick => Box::new(picker::Picker::default()),
            Self::HurryCoins => Box::new(coin::Hasty::default()),
            Self::KeepCoins => Box::new(coin::Miser),
            Self::Forget => Box::new(amnesiac::Amnesiac::default()),
            Self::Omit => Box::new(omitter::Omitter::default()),
            Self::Skew => Box::new(skewed::Skewed::new(random)),
            Self::Mislead => Box::new(stale::Stale::default()),
            Self::Tear => Box::new(tearer::Tearer::default()),
            Self::Drop => Box::new(dropper::Dropper::default()),
            Self::Complain => Box::new(complainer::Complainer::default()),
            Self::Laze => Box::new(lazy::Lazy::default()),
        }
    }
}

/// One criminal.
pub(crate) trait Actor: Debug {
    /// What goes to `to` in place of a message of its replica.
    fn send(&mut self, scene: &mut Scene<'_>, to: usize, bytes: Arc<[u8]>) -> Vec<Arc<[u8]>>;

    /// A message comes to it.
    fn hear(&mut self, _scene: &mut Scene<'_>, _bytes: &Arc<[u8]>) {}

    /// What its replica takes of a message that comes to it.
    fn take(&mut self, _scene: &mut Scene<'_>, received: Received) -> Option<Received> {
        Some(received)
    }

    /// What goes to `to` in place of the answer to a request that its replica would read from its log.
    fn serve(
        &mut self,
        _scene: &mut Scene<'_>,
        _request: &Request,
        served: Vec<Arc<[u8]>>,
    ) -> Vec<Arc<[u8]>> {
        served
    }

    /// How long what it says now is kept on its way.
    fn delay_us(&mut self, _scene: &mut Scene<'_>) -> u64 {
        0
    }

    /// How wrong its clocks are.
    fn clocks(&self) -> Clocks {
        Clocks::default()
    }
}

/// What a criminal makes of the time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clocks {
    /// Microseconds that its wall clock is ahead.
    pub(crate) ahead_us: i64,
    /// Powers of two by which its other clock is too fast; too slow, if it is negative.
    pub(crate) speed_log2: i8,
}

/// What was said that nobody may take.
#[derive(Debug, Default)]
pub(crate) struct Forged {
    /// Words that are not signed by whom they name, or certify nothing.
    pub(crate) words: BTreeSet<Arc<[u8]>>,
    /// Chunks that break a rule, by hash.
    pub(crate) chunks: BTreeSet<Hash>,
}

/// What a criminal knows.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) random: &'a mut fastrand::Rng,
    pub(crate) context: &'a Context,
    pub(crate) key: &'a SecretKey,
    pub(crate) own: ValidatorIndex,
    pub(crate) now_us: u64,
    pub(crate) genesis: &'a Genesis,
    /// What makes coins, where there are any.
    pub(crate) dealing: Option<&'a Dealing>,
    /// Where its replica is.
    pub(crate) status: Status,
    pub(crate) forged: &'a mut Forged,
    /// Counts what a criminal did that no honest validator does.
    pub(crate) deeds: &'a mut u64,
}

impl Scene<'_> {
    /// A crime was done.
    pub(crate) fn did(&mut self) {
        *self.deeds = self.deeds.saturating_add(1);
    }

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

/// The word on agreement that bytes are, if they are one.
pub(crate) fn heard(bytes: &[u8]) -> Option<Message> {
    match PeerMessage::from_bytes(bytes) {
        Ok(PeerMessage::Agreement(message)) => Some(message),
        _ => None,
    }
}

/// The bytes of a word on agreement.
pub(crate) fn word(message: Message) -> Arc<[u8]> {
    PeerMessage::Agreement(message).to_bytes().into()
}

#[cfg(test)]
mod tests {
    use quipu_replica::Rules;

    use super::Crime;
    use crate::{Profile, Totals, run};

    /// Worlds of a crime, from a seed on.
    fn worlds(crime: Crime, seed: u64) -> Totals {
        worlds_of(crime, seed, Profile::short()).0
    }

    /// As [`worlds`], all with coins.
    fn coined(crime: Crime, seed: u64) -> Totals {
        let profile = Profile { coin_percent: 100, storm_percent: 100, ..Profile::short() };
        worlds_of(crime, seed, profile).0
    }

    /// Worlds of a crime, from a seed on, and how often evidence was found, by kind.
    fn worlds_of(crime: Crime, seed: u64, profile: Profile) -> (Totals, Vec<String>) {
        let (mut totals, mut found) = (Totals::default(), Vec::new());
        for seed in (seed..).take(12) {
            let powers = if seed % 3 == 0 { &[33, 23, 22, 22] } else { &[1, 1, 1, 1] };
            let profile = Profile { crime: Some(crime), powers, ..profile };
            match run(seed, &profile) {
                Ok(report) => {
                    totals.add(&report.totals);
                    let words = report.trace.iter().filter_map(|line| line.split("has ").nth(1));
                    found.extend(words.map(str::to_owned));
                }
                Err(violation) => panic!("{crime:?}: {violation}"),
            }
        }
        (totals, found)
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

    /// One of four is down for good, in worlds whose stake moves.
    #[test]
    fn an_epoch_does_not_begin_with_lanes_of_the_dead() {
        let wait_ms = |stale_heights| {
            let mut totals = Totals::default();
            for seed in 0..20 {
                let profile = Profile {
                    fault_ms: 8_000,
                    has_faults: false,
                    powers: &[1, 1, 1, 1],
                    epoch_percent: 100,
                    storm_percent: 0,
                    crime: Some(Crime::Silence),
                    stale_heights: Some(stale_heights),
                    ..Profile::short()
                };
                totals.add(&run(seed, &profile).expect("the others go on").totals);
            }
            let wait_ms = totals.lane_wait_ms / (totals.epochs * 3);
            println!("stale_heights {stale_heights}: {} epochs, {wait_ms} ms", totals.epochs);
            assert_eq!(totals.stale > 0, stale_heights > 0);
            wait_ms
        };
        let (without, with) = (wait_ms(0), wait_ms(8));
        assert!(with * 3 < without * 2, "{with} ms, {without} ms");
    }

    #[test]
    fn sprayers_of_round_changes_stop_nobody_and_are_named() {
        assert!(worlds(Crime::Spray, 5_000).evidence > 0);
    }

    #[test]
    fn the_late_stop_nobody_lose_their_lanes_and_leave_no_evidence() {
        let totals = worlds(Crime::Dawdle, 6_000);
        assert_eq!(totals.evidence, 0);
        assert!(totals.deeds > 0 && totals.term_changes >= 4, "{totals:?}");
    }

    #[test]
    fn what_forgers_make_up_is_taken_by_nobody_and_their_chunks_name_them() {
        let totals = worlds(Crime::Forge, 7_000);
        assert!(totals.deeds > 1_000 && totals.evidence > 0, "{totals:?}");
    }

    #[test]
    fn pickers_of_round_changes_hide_no_polka_that_decided_and_leave_no_evidence() {
        let totals = coined(Crime::Pick, 8_000);
        assert!(totals.deeds > 0, "{totals:?}");
        assert_eq!(totals.evidence, 0);
    }

    #[test]
    fn shares_that_are_said_early_elect_nobody() {
        let totals = coined(Crime::HurryCoins, 9_000);
        assert_eq!(totals.evidence, 0);
        assert!(totals.deeds > 0 && totals.open_rounds > 0, "{totals:?}");
    }

    #[test]
    fn shares_that_are_never_said_are_not_missed() {
        let totals = coined(Crime::KeepCoins, 10_000);
        assert_eq!(totals.evidence, 0);
        assert!(totals.deeds > 0 && totals.open_rounds > 0, "{totals:?}");
    }

    #[test]
    fn who_forgets_what_it_precommitted_is_named_for_it() {
        let profile = Profile { storm_percent: 100, keeps_trace: true, ..Profile::short() };
        let (totals, found) = worlds_of(Crime::Forget, 11_000, profile);
        let count = found.iter().filter(|kind| *kind == "evidence: amnesia").count();
        assert!(totals.deeds > 0 && count > 0, "{totals:?} {found:?}");
    }

    #[test]
    fn omitters_stop_nobody_and_hold_nothing_back_that_a_third_holds() {
        let totals = worlds(Crime::Omit, 12_000);
        assert!(totals.deeds > 0, "{totals:?}");
        assert_eq!(totals.evidence, 0);
    }

    #[test]
    fn skewed_clocks_move_no_time_and_leave_no_evidence() {
        let totals = worlds(Crime::Skew, 13_000);
        assert!(totals.deeds > 0, "{totals:?}");
        assert_eq!(totals.evidence, 0);
    }

    #[test]
    fn stale_servers_keep_nobody_behind_and_leave_no_evidence() {
        let totals = worlds(Crime::Mislead, 14_000);
        assert!(totals.deeds > 0 && totals.catch_ups > 0, "{totals:?}");
        assert_eq!(totals.evidence, 0);
    }

    #[test]
    fn who_tears_bodies_or_withholds_their_stripes_stops_nobody() {
        let striped = Profile { stripe_percent: 100, ..Profile::short() };
        let (torn, _) = worlds_of(Crime::Tear, 6_000, striped);
        assert!(torn.restored > 200 && torn.term_changes > 0, "{torn:?}");
        let (withheld, found) = worlds_of(Crime::Withhold, 7_000, striped);
        assert!(withheld.restored > 200, "{withheld:?}");
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn who_drops_a_clients_transactions_stops_nobody_and_loses_its_lanes() {
        let calm = Profile { has_faults: false, fault_ms: 8_000, ..Profile::short() };
        let (totals, found) = worlds_of(Crime::Drop, 15_000, calm);
        assert!(totals.deeds > 0 && totals.complaints > 0, "{totals:?}");
        assert!(totals.term_changes >= 4, "{totals:?}");
        assert_eq!(found, [""; 0]);
        worlds(Crime::Drop, 15_100);
    }

    #[test]
    fn the_lazy_sign_traps_and_are_named_and_slashed_for_it() {
        let profile = Profile { epoch_percent: 100, keeps_trace: true, ..Profile::short() };
        let (totals, found) = worlds_of(Crime::Laze, 17_000, profile);
        let count = found.iter().filter(|kind| *kind == "evidence: false state").count();
        println!("{count} of {} proofs, {} slashed", totals.evidence, totals.slashed);
        assert!(totals.deeds > 0 && count > 0 && totals.slashed > 0, "{totals:?} {found:?}");
    }

    /// Clients that ask a criminal are told nothing: what a flood costs shows beside worlds in which a criminal keeps its
    /// parts of coins and is otherwise honest. Worlds without criminals are printed too.
    #[test]
    fn floods_of_complaints_depose_nobody_and_cost_little() {
        let calm = Profile { has_faults: false, fault_ms: 4_000, ..Profile::short() };
        let (flooded, found) = worlds_of(Crime::Complain, 16_000, calm);
        let (quiet, _) = worlds_of(Crime::KeepCoins, 16_000, calm);
        let honest = Profile { has_crimes: false, ..calm };
        let (honest, _) = worlds_of(Crime::Complain, 16_000, honest);
        let rules = Rules { complaints: false, ..Rules::ALL };
        let (idle, _) = worlds_of(Crime::Complain, 16_000, Profile { rules, ..calm });
        println!(
            "finals: {} flooded, {} not, {} without criminals",
            flooded.finals, quiet.finals, honest.finals
        );
        println!(
            "heights: {} flooded, {} not, {} without criminals",
            flooded.heights, quiet.heights, honest.heights
        );
        println!("{} complaints of criminals in 48 s, {} heard", flooded.deeds, flooded.complaints);
        assert_eq!(flooded, idle, "nobody is suspected for a complaint");
        assert_eq!(found, [""; 0]);
        assert!(flooded.deeds > 1_000, "{flooded:?}");
        assert!(flooded.finals * 10 > quiet.finals * 9, "{flooded:?} {quiet:?}");
        let totals = worlds(Crime::Complain, 16_100);
        assert!(totals.deeds > 100, "{totals:?}");
    }
}
