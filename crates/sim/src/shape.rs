//! Who takes part in a world, with which stake, and how slow their network and disks are: all of it from the seed.
#![expect(clippy::arithmetic_side_effects, reason = "numbers of a bounded run")]

use std::ops::Range;

use quipu_crypto::suite::SecretKey;
use quipu_types::genesis::{GENESIS_VERSION, GenesisAccount, GenesisValidator, StakeRules};
use quipu_types::{Genesis, Signature, Suite, Time};

use crate::Profile;
use crate::actors::Crime;
use crate::client::client_key;
use crate::coins::Dealing;
use crate::stakes::UNIT_COUNT;

/// Lanes of every world.
pub(crate) const LANE_COUNT: u16 = 3;
/// Producers of every world.
pub(crate) const CLIENT_COUNT: u8 = 3;

/// What a world is made of.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Stake of each validator.
    pub(crate) powers: Vec<u64>,
    /// What the validators commit that are not honest. Their stake is below a third.
    pub(crate) crimes: Vec<Option<Crime>>,
    /// Most microseconds of a message on its way, mostly.
    pub(crate) delay_us: u64,
    /// Most microseconds of a sync, mostly.
    pub(crate) sync_us: u64,
    /// Of a thousand messages, how many are lost, come twice, take half a second.
    pub(crate) loss_per_mille: u16,
    pub(crate) twice_per_mille: u16,
    pub(crate) slow_per_mille: u16,
    /// Time after which a height is made though nothing is pending.
    pub(crate) idle_ms: u64,
    /// Bytes from which a body travels in stripes.
    pub(crate) stripe_size_min: usize,
    /// Heights among which one has a trap of each validator, by and large; 0: none has.
    pub(crate) trap_heights: u64,
    /// Least time of an epoch, where stake moves.
    pub(crate) epoch_us: u64,
    /// Heights after which a validator without votes is stale, where stake moves; never with 0.
    pub(crate) stale_heights: u32,
    /// Whether stake moves.
    pub(crate) moves: bool,
    /// Validators that are not of the genesis and join, where stake moves.
    pub(crate) joiner_count: usize,
    /// Whether some validator may lose its disk.
    pub(crate) may_lose_disks: bool,
    /// Whether clients complain.
    pub(crate) complains: bool,
    /// Whether there is a coin, and so open rounds.
    pub(crate) has_coin: bool,
    /// When every led timer fires as soon as its round begins, in microseconds from the start.
    pub(crate) storm_us: Range<u64>,
}

impl Shape {
    pub(crate) fn new(random: &mut fastrand::Rng, profile: &Profile) -> Self {
        let powers: &[u64] = match random.u8(..100) {
            _ if !profile.powers.is_empty() => profile.powers,
            0..=45 => &[1, 1, 1, 1],
            46..=65 => &[4, 3, 2, 1],
            66..=83 => &[33, 23, 22, 22],
            84..=92 => &[1, 1, 1, 1, 1, 1, 1],
            _ => &[9, 5, 5, 4, 4, 3, 2],
        };
        let powers = powers.to_vec();
        let crimes = crimes(random, &powers, profile);
        let has_coin = powers.len() > 1 && random.u8(..100) < profile.coin_percent;
        // Of its own, so that a seed gives the world that it gave before bodies had stripes.
        let mut of_stripes = fastrand::Rng::with_seed(!random.clone().u64(..));
        let is_striped = of_stripes.u8(..100) < profile.stripe_percent;
        let mut of_epochs = fastrand::Rng::with_seed(!of_stripes.u64(..));
        let moves = powers.len() > 1 && of_epochs.u8(..100) < profile.epoch_percent;
        let is_about = crimes.iter().flatten().any(|crime: &Crime| crime.is_of_complaints());
        let complains = is_about || of_stripes.u8(..100) < profile.complaint_percent;
        let is_rough = random.bool();
        let rough =
            |random: &mut fastrand::Rng, most: u16| if is_rough { random.u16(..most) } else { 0 };
        Self {
            delay_us: random.choice([1_000, 5_000, 20_000]).unwrap_or(1_000),
            sync_us: random.choice([300, 2_000, 8_000]).unwrap_or(300),
            loss_per_mille: rough(random, 50),
            twice_per_mille: rough(random, 50),
            slow_per_mille: rough(random, 10),
            idle_ms: random.u64(60..250),
            stripe_size_min: if is_striped { of_stripes.usize(1..600) } else { usize::MAX },
            trap_heights: if crimes.contains(&Some(Crime::Laze)) { 6 } else { 0 },
            epoch_us: of_epochs.u64(100_000..1_500_000),
            moves,
            joiner_count: if moves { of_epochs.usize(..2) } else { 0 },
            may_lose_disks: !moves || of_epochs.bool(),
            // Worlds are short: few heights must do.
            stale_heights: profile
                .stale_heights
                .unwrap_or(of_epochs.choice([0, 4, 8, 16]).unwrap_or(0)),
            complains,
            has_coin,
            storm_us: if has_coin { storm(random, profile) } else { 0..0 },
            crimes,
            powers,
        }
    }

    /// What the genesis gives each validator.
    pub(crate) fn units(&self) -> Vec<u64> {
        let each = if self.moves { UNIT_COUNT } else { 1 };
        self.powers.iter().map(|power| power * each).collect()
    }

    pub(crate) fn genesis(&self) -> Genesis {
        let validator = |(number, power): (u8, &u64)| GenesisValidator {
            name: format!("v{number}"),
            key: key(number).public(),
            power: *power,
            possession: Signature([0; 64]),
            owner: self.moves.then(|| client_key(0).account()),
        };
        let account = |number: u8| {
            let balance = if number == 0 && self.moves { 1_000 } else { 50 };
            GenesisAccount { account: client_key(number).account(), balance }
        };
        let units = self.units();
        let mut accounts: Vec<GenesisAccount> = (0..CLIENT_COUNT).map(account).collect();
        accounts.sort_by_key(|account| account.account);
        let stake = StakeRules {
            epoch_us: self.epoch_us,
            unbond_us: 4_000_000,
            bond_min: 1,
            slash_permille: 1_000,
            deal_us: 0,
            stale_heights: self.stale_heights,
        };
        let genesis = Genesis {
            version: GENESIS_VERSION,
            name: "simulation".to_owned(),
            time_us: Time::new(1_000_000),
            lane_count: LANE_COUNT,
            clock_seed: "a public text".to_owned(),
            clock_rate_hz: 500,
            hash_rate_fastest_hz: 20_000_000,
            anchor_window_heights: 40,
            height_interval_min_ms: 1,
            height_interval_idle_ms: self.idle_ms,
            open_streams: true,
            validators: (0..).zip(&units).map(validator).collect(),
            accounts,
            coin: self.has_coin.then(|| Dealing::of(&units).setup.clone()),
            stake: self.moves.then_some(stake),
        };
        genesis.check().expect("the simulation's genesis keeps the rules");
        genesis
    }
}

/// In some of the worlds with a coin some time in which no led round can be.
fn storm(random: &mut fastrand::Rng, profile: &Profile) -> Range<u64> {
    let all_us = profile.fault_ms * 1_000;
    match profile.storm_percent {
        100 => return all_us / 3..all_us / 3 * 2,
        percent if random.u8(..100) >= percent => return 0..0,
        _ => {}
    }
    let from_us = random.u64(..all_us / 2);
    from_us..from_us + random.u64(all_us / 8..all_us / 2)
}

/// Some validators, of less than a third of the stake together, that break rules; in most worlds none.
fn crimes(random: &mut fastrand::Rng, powers: &[u64], profile: &Profile) -> Vec<Option<Crime>> {
    let mut crimes = vec![None; powers.len()];
    if !profile.has_crimes || (profile.crime.is_none() && random.u8(..3) > 0) {
        return crimes;
    }
    let total: u64 = powers.iter().sum();
    let mut order: Vec<usize> = (0..powers.len()).collect();
    random.shuffle(&mut order);
    let mut guilty = 0;
    for at in order {
        let power = powers.get(at).copied().unwrap_or(0);
        if (guilty + power) * 3 < total && (guilty == 0 || random.bool()) {
            guilty += power;
            let crime = profile.crime.unwrap_or_else(|| Crime::any(random));
            if let Some(own) = crimes.get_mut(at) {
                *own = Some(crime);
            }
        }
    }
    crimes
}

/// A validator's voting key.
pub(crate) fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(Suite::Ed25519Sha256, [number + 1; 32])
}
