//! Rounds: of which kind each is, how an open one ends, and how one is left.
//!
//! ```text
//!  Rounds ∈ header x ── of height x + 1 ──> led (primary), led, led, open, led, open, …     (mode led)
//!                                           open, led, open, led, …                         (mode open)
//!  precommits ×q of instances whose owners are a quorum ─> CoinShare ×½ ─> Coin ─> one instance
//!  RoundChange{h, r', high} ×q + the polka (QC1) of the highest `high` + the coins of open rounds below r'
//!                                = RoundChangeCertificate (TC) ─> Propose of round r' > 0
//! ```

use crate::agreement::{Prevote, RoundKind, VALIDATOR_COUNT_MAX, ascending, put_place, read_place};
use crate::codec::{Decode, DecodeError, Encode, Reader, put_list, put_option};
use crate::coin::{COIN_PART_COUNT_MAX, Coin, CoinPart};
use crate::number::{Hash, Height, Signature, ValidatorIndex};

/// Led rounds that a height of mode led begins with.
pub const LED_COUNT: u32 = 3;
/// Most that a failed trial doubles the way to the next one: 2^5 heights.
pub const BACKOFF_MAX: u8 = 5;
/// Most open rounds of one height whose coins a message carries: each decides with a probability of 2/3.
pub const COIN_COUNT_MAX: usize = 512;

/// How heights begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No coin was dealt: every round is led.
    LedOnly,
    /// With [`LED_COUNT`] led rounds.
    Led,
    /// With an open round, but for a trial.
    Open,
}

/// How one height began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Led, as all do in that mode.
    Led,
    /// Led, to see whether that is possible again.
    Trial,
    /// Open.
    Open,
}

/// Of which kind the rounds of the next height are: a function of the headers up to this one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounds {
    /// How heights begin.
    pub mode: Mode,
    /// How this height began.
    pub start: Start,
    /// In mode open: trials that failed in a row, at most [`BACKOFF_MAX`].
    pub backoff: u8,
    /// In mode open: the height that begins led, as a trial.
    pub trial: Height,
}

impl Rounds {
    /// Before height 1.
    #[must_use]
    pub const fn genesis(has_coin: bool) -> Self {
        let mode = if has_coin { Mode::Led } else { Mode::LedOnly };
        Self { mode, start: Start::Led, backoff: 0, trial: Height::new(0) }
    }

    /// How `height`, the one that follows, begins.
    #[must_use]
    pub fn start_of(&self, height: Height) -> Start {
        match self.mode {
            Mode::LedOnly | Mode::Led => Start::Led,
            Mode::Open if height == self.trial => Start::Trial,
            Mode::Open => Start::Open,
        }
    }

    /// The kind of a round of `height`, the one that follows, and which of the height's led rounds it is or would be.
    #[must_use]
    pub fn kind(&self, height: Height, round: u32) -> (RoundKind, u32) {
        if self.mode == Mode::LedOnly {
            return (RoundKind::Led, round);
        }
        let led = self.open_first(height);
        let Some(beyond) = round.checked_sub(led) else { return (RoundKind::Led, round) };
        let kind = if beyond.is_multiple_of(2) { RoundKind::Open } else { RoundKind::Led };
        (kind, led.saturating_add(beyond >> 1))
    }

    /// The first open round of `height` in a mode that has some.
    fn open_first(&self, height: Height) -> u32 {
        match self.start_of(height) {
            Start::Led | Start::Trial => LED_COUNT,
            Start::Open => 0,
        }
    }

    /// The open rounds of `height`, the one that follows, below `round`, ascending. Any number may be asked about.
    pub fn open_below(&self, height: Height, round: u32) -> impl Iterator<Item = u32> + use<> {
        let first = if self.mode == Mode::LedOnly { round } else { self.open_first(height) };
        (first..round).step_by(2)
    }

    /// After the header of `height`, the one that follows, whose `prev_commit` decided this one in a round of kind
    /// `decided`.
    #[must_use]
    pub fn after(&self, height: Height, decided: Option<RoundKind>) -> Self {
        let next = Self { start: self.start_of(height), ..*self };
        let trial_in = |heights: u64| Height::new(height.get().saturating_add(heights));
        match (self.mode, decided, self.start) {
            // A height that began open says nothing of whether a led one would have been decided.
            (Mode::Led, Some(RoundKind::Open), Start::Led | Start::Trial) => {
                Self { mode: Mode::Open, backoff: 0, trial: trial_in(2), ..next }
            }
            (Mode::Open, Some(RoundKind::Open), Start::Trial) => {
                let backoff = self.backoff.saturating_add(1).min(BACKOFF_MAX);
                let wait = 1_u64.checked_shl(u32::from(backoff)).unwrap_or(u64::MAX);
                Self { backoff, trial: trial_in(wait.saturating_add(1)), ..next }
            }
            (Mode::Open, Some(RoundKind::Led), Start::Led | Start::Trial) => {
                Self { mode: Mode::Led, backoff: 0, trial: Height::new(0), ..next }
            }
            _ => next,
        }
    }
}

/// A validator's part in the coin of an open round. Tag `CoinShare`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoinShare {
    /// Height.
    pub height: Height,
    /// The open round.
    pub round: u32,
    /// Whose.
    pub validator: ValidatorIndex,
    /// One for each of the validator's virtual shares.
    pub parts: Vec<CoinPart>,
    /// Over [`CoinShare::signed_body`].
    pub signature: Signature,
}

/// The coin of an open round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundCoin {
    /// The round.
    pub round: u32,
    /// Its coin.
    pub coin: Coin,
}

/// What a coin signs: the place that it is for.
#[must_use]
pub fn coin_body(height: Height, round: u32) -> Vec<u8> {
    let mut out = Vec::new();
    height.encode(&mut out);
    out.extend_from_slice(&round.to_le_bytes());
    out
}

/// A polka by name: the highest that a validator has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct High {
    /// Its round.
    pub round: u32,
    /// Its instance.
    pub instance: ValidatorIndex,
    /// The header that a quorum prevoted.
    pub digest: Hash,
}

/// "I have left every round below this one, and this is the highest polka I saw." Tag `RoundChange`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundChange {
    /// Height.
    pub height: Height,
    /// The round that is entered, above 0.
    pub round: u32,
    /// Kind of that round.
    pub kind: RoundKind,
    /// The highest polka seen in this height; none when there was none.
    pub high: Option<High>,
    /// Who says so.
    pub validator: ValidatorIndex,
    /// Over [`RoundChange::signed_body`].
    pub signature: Signature,
}

/// Round changes of more than 2/3 of the stake to one round (TC), ascending by validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundChangeCertificate {
    /// Their words.
    pub changes: Vec<RoundChange>,
    /// The polka of the highest `high` among them; empty when none names one.
    pub polka: Vec<Prevote>,
    /// The coins of every open round below, ascending.
    pub coins: Vec<RoundCoin>,
}

impl RoundChange {
    /// What the signature covers.
    #[must_use]
    pub fn signed_body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_place(&mut out, self.height, self.round, self.kind, self.validator);
        put_option(&mut out, self.high.as_ref());
        out
    }
}

impl RoundChangeCertificate {
    /// The highest polka that is named.
    #[must_use]
    pub fn high(&self) -> Option<High> {
        self.changes.iter().filter_map(|change| change.high).max_by_key(|high| high.round)
    }
}

impl Encode for High {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.round.to_le_bytes());
        self.instance.encode(out);
        self.digest.encode(out);
    }
}

impl Decode for High {
    const SIZE_MIN: usize = 4 + 2 + 32;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            round: reader.u32()?,
            instance: ValidatorIndex::decode(reader)?,
            digest: Hash::decode(reader)?,
        })
    }
}

impl Encode for RoundChange {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.signed_body());
        self.signature.encode(out);
    }
}

impl Decode for RoundChange {
    const SIZE_MIN: usize = 15 + 1 + 64;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (height, round, kind, validator) = read_place(reader)?;
        Ok(Self {
            height,
            round,
            kind,
            high: reader.option("high")?,
            validator,
            signature: Signature::decode(reader)?,
        })
    }
}

impl Encode for RoundChangeCertificate {
    fn encode(&self, out: &mut Vec<u8>) {
        put_list(out, &self.changes);
        put_list(out, &self.polka);
        put_list(out, &self.coins);
    }
}

impl Decode for RoundChangeCertificate {
    const SIZE_MIN: usize = 12;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let changes: Vec<RoundChange> = reader.list("round changes", VALIDATOR_COUNT_MAX)?;
        ascending("round changes", changes.iter().map(|change| change.validator.get()))?;
        let polka: Vec<Prevote> = reader.list("polka", VALIDATOR_COUNT_MAX)?;
        ascending("polka", polka.iter().map(|vote| vote.validator.get()))?;
        Ok(Self { changes, polka, coins: read_coins(reader)? })
    }
}

/// Coins, ascending by round.
///
/// # Errors
/// When they do not ascend, or are more than [`COIN_COUNT_MAX`].
pub fn read_coins(reader: &mut Reader<'_>) -> Result<Vec<RoundCoin>, DecodeError> {
    let coins: Vec<RoundCoin> = reader.list("coins", COIN_COUNT_MAX)?;
    let ascends = coins.is_sorted_by(|a, b| a.round < b.round);
    if ascends { Ok(coins) } else { Err(DecodeError::NotCanonical { what: "coins" }) }
}

impl CoinShare {
    /// What the signature covers.
    #[must_use]
    pub fn signed_body(&self) -> Vec<u8> {
        let mut out = coin_body(self.height, self.round);
        self.validator.encode(&mut out);
        put_list(&mut out, &self.parts);
        out
    }
}

impl Encode for CoinShare {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.signed_body());
        self.signature.encode(out);
    }
}

impl Decode for CoinShare {
    const SIZE_MIN: usize = 8 + 4 + 2 + 4 + 64;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            height: Height::decode(reader)?,
            round: reader.u32()?,
            validator: ValidatorIndex::decode(reader)?,
            parts: reader.list("coin parts", COIN_PART_COUNT_MAX)?,
            signature: Signature::decode(reader)?,
        })
    }
}

impl Encode for RoundCoin {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.round.to_le_bytes());
        self.coin.encode(out);
    }
}

impl Decode for RoundCoin {
    const SIZE_MIN: usize = 4 + Coin::SIZE_MIN;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { round: reader.u32()?, coin: Coin::decode(reader)? })
    }
}

impl Encode for Rounds {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self.mode {
            Mode::LedOnly => 0,
            Mode::Led => 1,
            Mode::Open => 2,
        });
        out.push(match self.start {
            Start::Led => 0,
            Start::Trial => 1,
            Start::Open => 2,
        });
        out.push(self.backoff);
        self.trial.encode(out);
    }
}

impl Decode for Rounds {
    const SIZE_MIN: usize = 3 + 8;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mode = match reader.u8()? {
            0 => Mode::LedOnly,
            1 => Mode::Led,
            2 => Mode::Open,
            tag => return Err(DecodeError::Tag { what: "mode", tag: u64::from(tag) }),
        };
        let start = match reader.u8()? {
            0 => Start::Led,
            1 => Start::Trial,
            2 => Start::Open,
            tag => return Err(DecodeError::Tag { what: "start", tag: u64::from(tag) }),
        };
        Ok(Self { mode, start, backoff: reader.u8()?, trial: Height::decode(reader)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(rounds: &Rounds, height: u64) -> String {
        let kind = |round| match rounds.kind(Height::new(height), round) {
            (RoundKind::Led, led) => format!("l{led}"),
            (RoundKind::Open, _) => "o".to_owned(),
        };
        (0..8).map(kind).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn rounds_alternate_after_the_led_ones_and_trials_go_farther_apart() {
        let led = Rounds::genesis(true);
        assert_eq!(kinds(&Rounds::genesis(false), 1), "l0 l1 l2 l3 l4 l5 l6 l7");
        assert_eq!(Rounds::genesis(false).open_below(Height::new(1), u32::MAX).next(), None);
        assert!(led.open_below(Height::new(1), 8).eq([3, 5, 7]));
        assert_eq!(kinds(&led, 1), "l0 l1 l2 o l3 o l4 o");
        // Height 9 was decided in an open round, which header 10 says: 11 begins open, 12 is the trial.
        let mut rounds = led.after(Height::new(10), Some(RoundKind::Open));
        assert_eq!((rounds.mode, rounds.trial), (Mode::Open, Height::new(12)));
        assert_eq!(kinds(&rounds, 11), "o l0 o l1 o l2 o l3");
        assert_eq!(kinds(&rounds, 12), "l0 l1 l2 o l3 o l4 o");
        // Every height goes on being decided in open rounds: what says so of a trial is the header after it.
        let mut trials = vec![];
        for height in 11..200 {
            rounds = rounds.after(Height::new(height), Some(RoundKind::Open));
            if trials.last() != Some(&rounds.trial.get()) {
                trials.push(rounds.trial.get());
            }
        }
        assert_eq!(trials, [12, 16, 22, 32, 50, 84, 118, 152, 186, 220]);
        // A led decision of a height that began open changes nothing, of the trial it ends the mode.
        let open = led.after(Height::new(10), Some(RoundKind::Open));
        let still = open.after(Height::new(11), Some(RoundKind::Open));
        assert_eq!(still.start, Start::Open);
        let trial = still.after(Height::new(12), Some(RoundKind::Led));
        assert_eq!((trial.mode, trial.start), (Mode::Open, Start::Trial));
        let calm = trial.after(Height::new(13), Some(RoundKind::Led));
        assert_eq!((calm.mode, calm.backoff), (Mode::Led, 0));
        // Height 13 began before that was known, open, and was decided so: 14 does not go back to mode open.
        let after = calm.after(Height::new(14), Some(RoundKind::Open));
        assert_eq!((calm.start, after.mode), (Start::Open, Mode::Led));
    }

    /// The design's text lets every open decision begin mode open. But when a led round has decided again, the
    /// next height has begun open already, and is decided so, which would begin the mode anew, for ever.
    #[test]
    fn calm_after_a_storm_ends_mode_open_for_good() {
        let by_the_text = |rounds: &Rounds, height: Height, decided: RoundKind| {
            let next = rounds.after(height, Some(decided));
            if (rounds.mode, decided) != (Mode::Led, RoundKind::Open) {
                return next;
            }
            let trial = Height::new(height.get() + 2);
            Rounds { mode: Mode::Open, backoff: 0, trial, ..next }
        };
        let ours = |rounds: &Rounds, height, decided| rounds.after(height, Some(decided));
        let opens = |after: &dyn Fn(&Rounds, Height, RoundKind) -> Rounds| {
            // A storm ends with height 9, decided open. From then on each height is decided in its first round.
            let (mut rounds, mut decided) = (Rounds::genesis(true), RoundKind::Open);
            let mut opens = Vec::new();
            for height in (10..100).map(Height::new) {
                let kind = rounds.kind(height, 0).0;
                if kind == RoundKind::Open {
                    opens.push(height.get());
                }
                rounds = after(&rounds, height, decided);
                decided = kind;
            }
            opens
        };
        assert_eq!(opens(&ours), [11]);
        assert!(opens(&by_the_text).len() > 30, "{:?}", opens(&by_the_text));
    }
}
