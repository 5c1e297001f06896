//! Random plays with criminals who try everything that the directed plays do, and more: all rules hold, so nothing may go
//! wrong, and once everything arrives heights go on. `STAGE_SEEDS=0..2000` plays others than the first.

use fastrand::Rng;
use quipu_sim::stage::{Rules, Stage, Strand};
use quipu_types::{Lane, RoundKind, Term};

use crate::rounds::plain;

const SEED_COUNT: u64 = 80;
const TURN_COUNT: usize = 400;

struct Play {
    stage: Stage,
    random: Rng,
    criminals: Vec<u16>,
    strands: Vec<Strand>,
    /// Whether led rounds end before much is heard in them.
    is_stormy: bool,
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let (powers, criminals): (&[u64], Vec<u16>) = match random.u8(..6) {
            0 => (&[1; 4], vec![0]),
            1 => (&[1; 4], vec![1]),
            2 => (&[1; 4], vec![random.u16(..4)]),
            3 => (&[4, 3, 2, 1], vec![random.u16(1..4)]),
            4 => (&[33, 23, 22, 22], vec![0]),
            _ => (&[1; 7], vec![random.u16(..3), random.u16(3..7)]),
        };
        let (has_coin, is_stormy) = (random.bool(), random.u8(..4) > 0);
        let stage = if has_coin {
            let name = u32::try_from(seed).expect("a small seed");
            Stage::with_coin(powers, &criminals, (Rules::ALL, true), &[], name)
        } else {
            Stage::weighted(powers, &criminals, Rules::ALL, true)
        };
        let is_stormy = has_coin && is_stormy;
        Self { stage, random, criminals, strands: Vec::new(), is_stormy }
    }

    fn one(&mut self, of: &[u16]) -> u16 {
        of.get(self.random.usize(..of.len())).copied().expect("somebody")
    }

    fn some(&mut self) -> Vec<u16> {
        let honest = self.stage.honest();
        honest.into_iter().filter(|_| self.random.u8(..3) > 0).collect()
    }

    fn turn(&mut self) {
        let honest = self.stage.honest();
        let number = self.one(&honest);
        match self.random.u8(..100) {
            0..=59 => {
                for _ in 0..6 {
                    let count = self.stage.letters().len();
                    if count > 0 {
                        let place = self.random.usize(..count);
                        let stays = self.random.u8(..20) == 0;
                        self.stage.deliver_one(place, stays);
                    }
                }
            }
            60..=62 => {
                let lost = self.random.u16(..8);
                self.stage.lose(|letter| letter.to == lost);
            }
            63..=76 => {
                let us = self.random.u64(..40_000);
                self.stage.pass(us);
            }
            77..=78 => self.stage.pass_of(number, 400_000),
            79 if self.stage.is_alive(number) => self.stage.crash(number),
            79..=81 => {
                for number in honest {
                    if !self.stage.is_alive(number) {
                        self.stage.restart(number);
                    }
                }
            }
            82..=84 => {
                let lane = self.random.u16(..2);
                self.stage.submit(number, lane);
            }
            _ => self.crime(),
        }
        if self.is_stormy && self.random.u8(..12) == 0 {
            self.storm();
        }
    }

    /// The timers of led rounds fire.
    fn storm(&mut self) {
        for number in self.stage.honest() {
            let (height, round) = (self.stage.height(number) + 1, self.stage.round(number));
            let is_led = self.stage.kind(height, round) == RoundKind::Led;
            if is_led && self.stage.is_alive(number) && self.random.u8(..4) > 0 {
                self.stage.timer(number);
            }
        }
    }

    fn crime(&mut self) {
        let criminals = self.criminals.clone();
        let criminal = self.one(&criminals);
        let honest = self.stage.honest();
        let seen = self.one(&honest);
        let (to, height) = (self.some(), self.stage.height(seen) + 1);
        let round = self.stage.round(seen) + self.random.u32(..2);
        match self.random.u8(..9) {
            0 => self.stream(&to),
            7 if self.stage.kind(height, round) == RoundKind::Open => {
                self.stage.share(criminal, height, round, &to);
            }
            1 => {
                let lane = self.random.u16(..2);
                let tips = self.stage.tips(lane);
                if !tips.is_empty() {
                    let tip = tips[self.random.usize(..tips.len())];
                    self.stage.ack(criminal, &[tip], &to);
                }
            }
            2 | 3 => self.vote(criminal, (height, round), &to),
            4 => {
                let below = round.saturating_sub(self.random.u32(..2));
                let high = self.stage.polka(height, below).filter(|_| self.random.bool());
                self.stage.change(criminal, height, round + 1, high, &to);
            }
            5 | 6 => self.lead(criminal, seen, round, &to),
            _ => {
                let lane = self.random.u16(..2);
                let term = self.stage.term(seen, lane).unwrap_or(Term::new(1));
                let lane_number = Lane::new(lane);
                let sequencer = self.stage.context().schedule.sequencer(lane_number, term);
                if sequencer.get() == criminal && self.random.u8(..4) == 0 {
                    let last = self.random.u64(..3);
                    self.stage.hand_over(criminal, lane, term, last, &to);
                }
            }
        }
    }

    fn stream(&mut self, to: &[u16]) {
        let honest = self.stage.honest();
        let (seen, lane) = (self.one(&honest), self.random.u16(..2));
        if self.strands.is_empty() || self.random.u8(..3) == 0 {
            let strand = self.stage.strand(seen, lane);
            if self.criminals.contains(&strand.sequencer) {
                self.strands.push(strand);
            }
        }
        if self.strands.is_empty() {
            return;
        }
        let place = self.random.usize(..self.strands.len());
        let mut strand = self.strands[place].clone();
        self.stage.stream(&mut strand, self.random.u64(1..4), to);
        if self.random.bool() {
            self.strands[place] = strand;
        } else {
            self.strands.push(strand);
        }
    }

    fn vote(&mut self, criminal: u16, (height, round): (u64, u32), to: &[u16]) {
        let instance = self.random.u16(..7);
        let one = self.stage.proposal_of(height, round, instance);
        let Some(propose) = one.or_else(|| self.stage.proposal(height, round)) else { return };
        self.stage.prevote(criminal, &propose, to);
        let tips = self.stage.tips(self.random.u16(..2));
        let tips: Vec<_> =
            tips.last().copied().filter(|_| self.random.bool()).into_iter().collect();
        let lane = Lane::new(self.random.u16(..2));
        let suspects = [(lane, Term::new(self.random.u64(1..3)))];
        let suspects = if self.random.bool() { &suspects[..] } else { &[] };
        let to = self.some();
        self.stage.precommit(criminal, &propose, &tips, suspects, &to);
    }

    fn lead(&mut self, criminal: u16, seen: u16, round: u32, to: &[u16]) {
        let height = self.stage.height(seen) + 1;
        let mut header = plain(&self.stage, seen, criminal);
        let lane = self.random.u16(..2);
        match self.random.u8(..4) {
            0 => {
                let tips = self.stage.tips(lane);
                if let Some(tip) = tips.last()
                    && let Some(own) = header.cut.get_mut(usize::from(lane))
                {
                    *own = *tip;
                }
            }
            1 => header.term_changes.push((Lane::new(1), Term::new(2))),
            _ => {}
        }
        let mut certificate = None;
        if round > 0 {
            let polka = self.stage.polka(height, round - 1).filter(|_| self.random.bool());
            let own = self.stage.change(criminal, height, round, polka, &[]);
            let honest = self.stage.honest();
            let made = self.stage.change_certificate(height, round, &honest, &[own]);
            let high = made.high();
            let known = high.and_then(|high| self.stage.proposal(height, high.round));
            if let Some(known) = known.filter(|_| self.random.u8(..4) > 0) {
                header = known.header;
            }
            certificate = Some(made);
        }
        self.stage.propose(criminal, round, &header, certificate, to);
    }
}

/// Heights that were decided in an open round, as one validator saw it.
fn open_count(stage: &Stage) -> usize {
    let number = *stage.honest().first().expect("somebody is honest");
    let kind = |height| {
        let commit = stage.parent(number, height)?.commit?;
        Some(commit.precommits.first()?.kind)
    };
    (1..=stage.height(number)).filter(|height| kind(*height) == Some(RoundKind::Open)).count()
}

#[test]
fn whatever_criminals_do_nothing_goes_wrong_and_heights_go_on() {
    let seeds = std::env::var("STAGE_SEEDS").ok().and_then(|text| {
        let (from, to) = text.split_once("..")?;
        Some(from.parse::<u64>().ok()?..to.parse::<u64>().ok()?)
    });
    let (mut heights, mut open, mut bad) = (0, 0, Vec::new());
    for seed in seeds.unwrap_or(0..SEED_COUNT) {
        let mut play = Play::new(seed);
        for _ in 0..TURN_COUNT {
            play.turn();
        }
        let honest = play.stage.honest();
        let highest = honest.iter().map(|number| play.stage.height(*number)).max().unwrap_or(0);
        heights += highest;
        open += open_count(&play.stage);
        if let Err(failure) = play.stage.settle(highest + 3) {
            println!("seed {seed}: {failure}");
            bad.push(seed);
        }
    }
    println!("{heights} heights, {open} decided in open rounds");
    assert!(bad.is_empty(), "seeds {bad:?}");
}
