//! The mutation gate: each rule of agreement has a play in which it matters. With all rules the play ends well; with that
//! one off it fails, by the name of what goes wrong. A rule that no play kills is a rule that nobody would miss.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test's numbers are small, and a wrong index is a failed test"
)]

mod complaints;
mod lanes;
mod late;
mod observers;
mod open;
mod random;
mod rounds;
mod terms;
mod traps;

use quipu_sim::stage::{Failure, Outcome, Rules, Stage};

/// Which rules a play is played with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    rules: Rules,
    wal_before_send: bool,
}

impl Setting {
    const ALL: Self = Self { rules: Rules::ALL, wal_before_send: true };

    fn stage(&self, count: u8, criminals: &[u16]) -> Stage {
        Stage::with(count, criminals, self.rules, self.wal_before_send)
    }

    /// With a coin that elects these instances at these places.
    fn stage_with_coin(
        &self,
        powers: &[u64],
        criminals: &[u16],
        elected: &[((u64, u32), u16)],
    ) -> Stage {
        self.stage_with_coin_after(powers, criminals, elected, 0)
    }

    /// The same, of ledgers whose names have a number from `first` on.
    fn stage_with_coin_after(
        &self,
        powers: &[u64],
        criminals: &[u16],
        elected: &[((u64, u32), u16)],
        first: u32,
    ) -> Stage {
        let how = (self.rules, self.wal_before_send);
        Stage::with_coin(powers, criminals, how, elected, first)
    }

    /// The names of the rules that do not hold.
    fn off(mut self) -> Vec<&'static str> {
        let all = rules(&mut self).into_iter();
        all.filter(|(_, holds)| !**holds).map(|(name, _)| name).collect()
    }
}

/// Gives every rule its name. A new one does not compile before it is listed, nor pass before a play kills it.
macro_rules! list {
    ($($rule:ident)*) => {
        fn rules(setting: &mut Setting) -> Vec<(&'static str, &mut bool)> {
            let Setting { wal_before_send, rules: Rules { $($rule),* } } = setting;
            vec![("wal_before_send", wal_before_send), $((stringify!($rule), $rule)),*]
        }
    };
}

list! {
    change_before_vote value_of_certificate hold_headers hold_bodies inclusion tips_extend
    tips_acked tips_logged tips_of_live_terms terms_end terms_justified branch one_ack
    acks_beyond same_bytes all_signatures answers coin_commits change_with_coins owners_done
    instance_votes polka_logged kinds_by_headers change_on_entry owners_propose amnesia_elected
    suspicions_of_terms thirds_of_all lag_frees_cuts lag_excused answers_decide observer_waits observer_waits_on
    observer_lanes stripes_proven states_asked complaints complaints_of_next complaints_excuse
    claims_ignored false_states
    late_votes leaving_left
}

struct Case {
    play: fn(&Setting) -> Outcome,
    without: fn(&mut Setting),
    fails: &'static str,
}

const fn case(
    play: fn(&Setting) -> Outcome,
    without: fn(&mut Setting),
    fails: &'static str,
) -> Case {
    Case { play, without, fails }
}

/// Rules of the design that have no line here, and why:
/// * That evidence about a prevote needs its very proposal: there is no evidence that judges a prevote by a proposal.
///   What such evidence would need is tested: a prevote names the hash of its proposal, certificate and all (`open`).
/// * That the first led round of a height that began open (k = 0) replaces no primary: whoever led the round that
///   decided is the next primary, by name and not by counting rounds, and of that round this is the primary itself
///   (`open`).
/// * That an open decision of a height that began open does not bring mode open back: a function of headers without
///   rules to switch off, tested beside it (`quipu_types::round`).
/// * That what reports of ended terms say is passed over: `tips_of_live_terms` is both, what is said and what counts;
///   each alone would do. So is `suspicions_of_terms`.
const CASES: &[Case] = &[
    case(rounds::quiet, |s| s.wal_before_send = false, "LEFT EARLY"),
    case(rounds::late_polka, |s| s.rules.change_before_vote = false, "FORK"),
    case(rounds::another_value, |s| s.rules.value_of_certificate = false, "FORK"),
    case(rounds::said_again, |s| s.rules.same_bytes = false, "HONEST NAMED"),
    case(rounds::forged_times, |s| s.rules.all_signatures = false, "TIME"),
    case(rounds::left_behind, |s| s.rules.answers = false, "STALL"),
    case(rounds::lost_state_votes, |s| s.rules.states_asked = false, "UNPROVEN"),
    case(traps::heard_first, |s| s.rules.claims_ignored = false, "HONEST NAMED"),
    case(traps::lazy, |s| s.rules.false_states = false, "UNCAUGHT"),
    // A chunk's header and body come together here, so a precommit, which wants the body, wants the links too: without the
    // links in prevotes, what is prevoted can never be precommitted, and never given up.
    case(lanes::forked_cut, |s| s.rules.hold_headers = false, "STALL"),
    case(lanes::forked_cut, without_holding, "LANE FORK"),
    // For the same reason precommits without bodies alone lose nothing: whoever prevoted holds them, and what it said left
    // after the sync that made them durable. Without both rules chunks are lost.
    case(lanes::withheld, without_holding, "NOT DURABLE"),
    case(lanes::left_out, |s| s.rules.inclusion = false, "CENSORED"),
    case(lanes::other_branch, |s| s.rules.tips_extend = false, "STALL"),
    case(lanes::three_branches, |s| s.rules.tips_acked = false, "STALL"),
    case(lanes::forgotten_acks, |s| s.rules.tips_logged = false, "STALL"),
    case(lanes::two_acks, |s| s.rules.one_ack = false, "HONEST NAMED"),
    case(lanes::forked_after, |s| s.rules.acks_beyond = false, "STALL"),
    case(terms::dead_tips, |s| s.rules.tips_of_live_terms = false, "STALL"),
    case(terms::kept, |s| s.rules.terms_end = false, "KEPT"),
    case(terms::deposed, |s| s.rules.terms_justified = false, "DEPOSED"),
    case(terms::void_branch, |s| s.rules.branch = false, "VOID"),
    case(terms::suspected_once, |s| s.rules.suspicions_of_terms = false, "DEPOSED"),
    case(complaints::kept_out, |s| s.rules.complaints = false, "CENSORED"),
    case(complaints::not_its_turn, |s| s.rules.complaints_of_next = false, "DEPOSED"),
    case(complaints::under_load, |s| s.rules.complaints_excuse = false, "DEPOSED"),
    case(rounds::planned_stop, |s| s.rules.leaving_left = false, "WAITED"),
    case(late::always_late, |s| s.rules.late_votes = false, "MISSED"),
    case(lanes::torn, |s| s.rules.stripes_proven = false, "HONEST NAMED"),
    case(lanes::few_signers, |s| s.rules.thirds_of_all = false, "STALL"),
    case(lanes::lagging, |s| s.rules.lag_frees_cuts = false, "STALL"),
    case(lanes::lag_made, |s| s.rules.lag_excused = false, "CENSORED"),
    case(open::votes_for_all, |s| s.rules.instance_votes = false, "HONEST NAMED"),
    case(open::without_coin, |s| s.rules.coin_commits = false, "FORK"),
    case(open::certificate_without_coin, |s| s.rules.coin_commits = false, "FORK"),
    case(open::left_before_the_coin, |s| s.rules.change_with_coins = false, "HONEST NAMED"),
    case(open::forgotten_polka, |s| s.rules.polka_logged = false, "HONEST NAMED"),
    case(open::void_votes, |s| s.rules.amnesia_elected = false, "HONEST NAMED"),
    case(open::own_instance_first, |s| s.rules.owners_done = false, "RARE"),
    case(open::one_header_for_all, |s| s.rules.owners_propose = false, "STALL"),
    case(open::led_into_a_round, |s| s.rules.change_on_entry = false, "STALL"),
    case(open::decided_twice, |s| s.rules.kinds_by_headers = false, "STALL"),
    case(observers::only_certificate, |s| s.rules.answers_decide = false, "STALL"),
    case(observers::said_before, |s| s.rules.observer_waits = false, "FORK"),
    case(observers::said_before, |s| s.rules.observer_waits_on = false, "FORK"),
    case(observers::sequenced_before, |s| s.rules.observer_lanes = false, "HONEST NAMED"),
    case(observers::acknowledged_before, |s| s.rules.observer_lanes = false, "HONEST NAMED"),
];

fn without_holding(setting: &mut Setting) {
    setting.rules.hold_headers = false;
    setting.rules.hold_bodies = false;
}

fn name(outcome: &Outcome) -> &str {
    outcome.as_ref().err().map_or("ok", |failure| failure.name)
}

#[test]
fn each_rule_off_fails_in_its_own_way_and_all_rules_on_end_well() {
    let mut wrong = Vec::new();
    for case in CASES {
        let mut setting = Setting::ALL;
        (case.without)(&mut setting);
        let off = setting.off().join(" + ");
        let (with, without) = ((case.play)(&Setting::ALL), (case.play)(&setting));
        let what = without.as_ref().err().map(|failure: &Failure| failure.what.clone());
        let what: String = what.unwrap_or_default().chars().take(90).collect();
        println!("{off:<28} on: {:<4} off: {:<12} {what}", name(&with), name(&without));
        if with.is_err() {
            wrong.push(format!("with all rules, {off}: {with:?}"));
        }
        if name(&without) != case.fails {
            wrong.push(format!("without {off}: {without:?}, not {}", case.fails));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_has_a_play() {
    let mut killed = Vec::new();
    for case in CASES {
        let mut setting = Setting::ALL;
        (case.without)(&mut setting);
        killed.extend(setting.off());
    }
    for (rule, _) in rules(&mut Setting::ALL.clone()) {
        assert!(killed.contains(&rule), "no play kills {rule}");
    }
}
