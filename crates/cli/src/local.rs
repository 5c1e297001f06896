//! A ledger's directory for development: one place that makes all keys, and says so.
//!
//! ```text
//!  D/genesis.json        what everyone trusts        D/keys/dev.key      a client's key with units
//!  D/node0/config.toml   one validator's settings    D/keys/sample.key   signs the sample
//!  D/node0/validator.key its voting key              D/quipu-dev.log     what `quipu dev` logs
//!  D/node0/first-start   see below                   D/node1/…           the next validator
//! ```
//! A member of a consortium has one validator's directory alone, with the genesis in it and its key where its owner
//! keeps it.
//!
//! **`first-start`** is made with the directory, and says that its key never voted: a validator that finds neither a
//! ledger nor this marker was given a new disk, may have voted before, and starts as an observer.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use quipu_crypto::{SecretKey, Tag, coin, keyfile, sign_tagged};
use quipu_node::{CONFIG_FILE, Config, FIRST_START_FILE};
use quipu_types::agreement::VALIDATOR_COUNT_MAX;
use quipu_types::genesis::{GENESIS_VERSION, GenesisAccount, GenesisValidator, StakeRules};
use quipu_types::{Encode, Genesis, Hash, Time, code};

use crate::failure::{Failure, Result};

/// First port of the HTTP interface.
pub(crate) const HTTP_PORT: u16 = 8433;
/// First port of the PostgreSQL wire: one above PostgreSQL's own.
pub(crate) const PG_PORT: u16 = 5433;
/// How many ports are tried after the first.
const PORT_TRY_COUNT: u16 = 200;
/// Where any free ports are looked for: below what systems give to outgoing connections, which would take a port
/// between the moment it is chosen and the moment it is listened on.
const PORT_FIRST: u16 = 20_000;
const PORT_COUNT: u16 = 12_000;
/// Ports after which the next process begins to look: two that choose at the same moment choose apart.
const PORT_STRIDE: u16 = 32;
/// Ports of one validator.
const PORTS_EACH: u16 = 4;
/// Units of the development key.
const DEV_BALANCE: u64 = 1_000_000_000;
/// Lanes of a new ledger.
pub(crate) const LANE_COUNT: u16 = 16;
/// Hashes a second of each lane's clock: with all lanes less than a twentieth of one core.
pub(crate) const CLOCK_RATE_HZ: u64 = 10_000;
/// The same, where the members want ticks to prove a hundredth of the time.
const CLOCK_RATE_PRODUCTION_HZ: u64 = 1_000_000;
/// The fastest silicon granted to an attacker (decision 0033).
const HASH_RATE_FASTEST_HZ: u64 = 100_000_000;
/// What the marker says to whoever looks into it.
const FIRST_START: &str = "\
This validator has not started yet, and its key has never voted. The first start removes this file.
Never make it by hand: a validator without its ledger and without this file was given a new disk, and
watches until it knows what its key may have voted on before.
";

/// A ledger's directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The layout of `dir`, there or not.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The genesis file.
    pub(crate) fn genesis(&self) -> PathBuf {
        self.dir.join("genesis.json")
    }

    /// A validator's directory.
    pub(crate) fn node(&self, index: usize) -> PathBuf {
        self.dir.join(node_name(index))
    }

    /// The client's key.
    pub(crate) fn dev_key(&self) -> PathBuf {
        self.dir.join("keys/dev.key")
    }

    /// The key that signs the sample.
    pub(crate) fn sample_key(&self) -> PathBuf {
        self.dir.join("keys/sample.key")
    }

    /// Where `dev` logs.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("quipu-dev.log")
    }
}

/// Name of a validator that is made here: of its directory, and in the genesis.
pub(crate) fn node_name(index: usize) -> String {
    format!("node{index}")
}

/// Listen ports of a new validator, on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    /// HTTP interface.
    pub(crate) http: u16,
    /// PostgreSQL wire.
    pub(crate) pg: u16,
    /// Health and metrics.
    pub(crate) admin: u16,
    /// Links from other validators.
    pub(crate) peer: u16,
}

impl Ports {
    /// All left to the system: for a validator that nobody has to find.
    pub(crate) const ANY: Self = Self { http: 0, pg: 0, admin: 0, peer: 0 };

    /// Four ports a validator, from `base` on: HTTP, the PostgreSQL wire, admin, peers.
    pub(crate) fn from_base(base: u16, index: usize) -> Result<Self> {
        let ports = || {
            let http = base.checked_add(PORTS_EACH.checked_mul(u16::try_from(index).ok()?)?)?;
            let at = |offset| http.checked_add(offset);
            Some(Self { http, pg: at(1)?, admin: at(2)?, peer: at(3)? })
        };
        let failure = || {
            Failure::usage(format!("--base-port {base} leaves no room for four ports a validator"))
        };
        ports().ok_or_else(failure)
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self { http: HTTP_PORT, pg: PG_PORT, ..Self::ANY }
    }
}

/// Chooses ports that nobody listens on; holds each until all are chosen, so that they differ.
#[derive(Debug)]
pub(crate) struct FreePorts {
    held: Vec<TcpListener>,
    next: u16,
}

impl FreePorts {
    /// None is chosen yet.
    pub(crate) fn new() -> Self {
        let slot_count = u32::from(PORT_COUNT / PORT_STRIDE);
        let slot = std::process::id().checked_rem(slot_count).unwrap_or(0);
        let slot = u16::try_from(slot).unwrap_or(0);
        Self { held: Vec::new(), next: slot.saturating_mul(PORT_STRIDE) }
    }

    /// The first free one from `first` on, when one of the next few is.
    pub(crate) fn first_from(&mut self, first: u16) -> Option<u16> {
        (first..=first.saturating_add(PORT_TRY_COUNT)).find(|port| self.hold(*port))
    }

    /// Any.
    pub(crate) fn any(&mut self) -> Result<u16> {
        for _ in 0..PORT_COUNT {
            let port = PORT_FIRST.saturating_add(self.next);
            self.next = self.next.saturating_add(1).checked_rem(PORT_COUNT).unwrap_or(0);
            if self.hold(port) {
                return Ok(port);
            }
        }
        let last = PORT_FIRST.saturating_add(PORT_COUNT);
        Err(Failure::new(code::PORT, format!("no port from {PORT_FIRST} to {last} is free")))
    }

    /// Four for a validator.
    pub(crate) fn validator(&mut self) -> Result<Ports> {
        Ok(Ports { http: self.any()?, pg: self.any()?, admin: self.any()?, peer: self.any()? })
    }

    /// Holds this one, when it is free.
    pub(crate) fn hold(&mut self, port: u16) -> bool {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => {
                self.held.push(listener);
                true
            }
            Err(_) => false,
        }
    }
}

/// The stake of each of `count` validators: 1, the one number given, or one of a list each.
pub(crate) fn stakes(count: usize, given: &[u64]) -> Result<Vec<u64>> {
    if count == 0 || count > VALIDATOR_COUNT_MAX {
        return Err(Failure::usage(format!(
            "--validators {count}: a ledger has 1 to {VALIDATOR_COUNT_MAX}"
        )));
    }
    let stakes = match given {
        [] => vec![1; count],
        [one] => vec![*one; count],
        list if list.len() == count => list.to_vec(),
        list => {
            return Err(Failure::usage(format!(
                "--stake names {} validators, --validators {count}",
                list.len()
            )));
        }
    };
    if stakes.contains(&0) {
        return Err(Failure::usage("--stake 0: a validator has at least one unit of power"));
    }
    Ok(stakes)
}

/// The ports of `count` new validators: from `base` on, or free ones when peers have to find each other.
pub(crate) fn ports(count: usize, base: Option<u16>) -> Result<Vec<Ports>> {
    match (count, base) {
        (1, None) => Ok(vec![Ports::default()]),
        (1, Some(0)) => Ok(vec![Ports::ANY]),
        (_, None | Some(0)) => {
            let mut free = FreePorts::new();
            (0..count).map(|_| free.validator()).collect()
        }
        (_, Some(base)) => (0..count).map(|index| Ports::from_base(base, index)).collect(),
    }
}

/// Makes keys, genesis and configurations: one validator for each stake, clocks of this rate.
pub(crate) fn create(
    layout: &Layout,
    stakes: &[u64],
    ports: &[Ports],
    (clock_rate_hz, stake): (u64, Option<StakeRules>),
) -> Result<Genesis> {
    assert_eq!(stakes.len(), ports.len(), "every validator has a stake and ports");
    for path in [layout.genesis(), layout.node(0), layout.dir().join("keys")] {
        refuse_existing(&path)?;
    }
    make_dir(&layout.dir().join("keys"))?;
    let (dev, sample) = (SecretKey::generate(), SecretKey::generate());
    keyfile::save(&layout.dev_key(), &dev, None)?;
    keyfile::save(&layout.sample_key(), &sample, None)?;
    let mut genesis = draft("quipu dev");
    genesis.clock_rate_hz = clock_rate_hz;
    genesis.stake = stake;
    genesis.accounts.push(GenesisAccount { account: dev.account(), balance: DEV_BALANCE });
    for (index, (power, own)) in stakes.iter().zip(ports).enumerate() {
        let key = SecretKey::generate();
        let dir = layout.node(index);
        make_dir(&dir)?;
        let mut config = Config::new(&dir);
        config.genesis = PathBuf::from("../genesis.json");
        config.peers = peers(index, ports);
        listen(&mut config, *own);
        keyfile::save(&config.key, &key, None)?;
        finish_validator(&config)?;
        genesis.validators.push(GenesisValidator {
            name: node_name(index),
            key: key.public(),
            power: *power,
            possession: possession(&key),
            owner: stake.map(|_| dev.account()),
        });
    }
    let dirs = (0..stakes.len()).map(|index| layout.node(index)).collect::<Vec<_>>();
    deal(&mut genesis, &dirs)?;
    genesis.check()?;
    // Last, so that a directory with a genesis is a whole one.
    write_atomically(&layout.genesis(), genesis.to_json())?;
    Ok(genesis)
}

/// Deals the coin of open rounds to the validators of a genesis: all know its keys, each gets its shares in its directory.
/// The secret that they are shares of is forgotten here. One validator alone has nobody to wait for, and needs no coin.
pub(crate) fn deal(genesis: &mut Genesis, dirs: &[PathBuf]) -> Result<()> {
    if dirs.len() < 2 {
        return Ok(());
    }
    let powers = genesis.validator_set().powers();
    let (setup, secrets) = coin::draw(&powers);
    for (dir, secret) in dirs.iter().zip(&secrets) {
        coin::file::save(&Config::new(dir).coin, setup.key, secret)?;
    }
    genesis.coin = Some(setup);
    Ok(())
}

/// Makes the directory of one member's validator: the genesis in it, the key where its owner keeps it.
pub(crate) fn create_member(
    dir: &Path,
    genesis: &Genesis,
    (key, coin): (&Path, Option<&Path>),
    ports: Ports,
    peer: SocketAddr,
    peers: BTreeMap<String, String>,
) -> Result<()> {
    refuse_existing(&dir.join(CONFIG_FILE))?;
    make_dir(dir)?;
    let mut config = Config::new(dir);
    config.genesis = PathBuf::from("genesis.json");
    config.key = std::path::absolute(key)?;
    if let Some(coin) = coin {
        config.coin = std::path::absolute(coin)?;
    }
    config.peers = peers;
    listen(&mut config, ports);
    config.listen.peer = peer;
    write_atomically(&dir.join("genesis.json"), genesis.to_json())?;
    finish_validator(&config)
}

/// Writes the marker, then the configuration, so that a directory with a configuration is a whole one.
fn finish_validator(config: &Config) -> Result<()> {
    config.check().map_err(|reason| Failure::new(code::CONFIG, reason))?;
    write_atomically(&config.dir.join(FIRST_START_FILE), FIRST_START)?;
    write_atomically(&config.dir.join(CONFIG_FILE), config.to_toml())
}

fn refuse_existing(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let message = format!("{} exists already and is not replaced", path.display());
    Err(Failure::new(code::CONFIG, message)
        .with_help("Choose another directory, or continue this one: quipu dev --dir D."))
}

fn make_dir(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path)
        .map_err(|error| Failure::file("cannot make the directory", path, error))
}

/// Makes a configuration listen on these ports of loopback.
pub(crate) fn listen(config: &mut Config, ports: Ports) {
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    config.listen.http = at(ports.http);
    config.listen.pg = at(ports.pg);
    config.listen.admin = at(ports.admin);
    config.listen.peer = at(ports.peer);
}

/// Where all but validator `own` listen for peers.
pub(crate) fn peers(own: usize, ports: &[Ports]) -> BTreeMap<String, String> {
    let others = ports.iter().enumerate().filter(|(index, _)| *index != own);
    others.map(|(index, ports)| (node_name(index), format!("127.0.0.1:{}", ports.peer))).collect()
}

/// A clock's rate: a number, or the name of one.
pub(crate) fn clock_rate(text: &str) -> Result<u64, String> {
    match text {
        "dev" => Ok(CLOCK_RATE_HZ),
        "production" => Ok(CLOCK_RATE_PRODUCTION_HZ),
        number => number
            .parse()
            .map_err(|_| format!("{number:?} is neither hashes a second, nor dev, nor production")),
    }
}

/// A genesis without validators and accounts.
pub(crate) fn draft(name: &str) -> Genesis {
    let time_us = now_micros();
    // No clock can have started before this key was drawn.
    let nonce = SecretKey::generate().public();
    Genesis {
        version: GENESIS_VERSION,
        name: name.into(),
        time_us: Time::new(time_us),
        lane_count: LANE_COUNT,
        clock_seed: format!("{name} {time_us} {nonce}"),
        clock_rate_hz: CLOCK_RATE_HZ,
        hash_rate_fastest_hz: HASH_RATE_FASTEST_HZ,
        anchor_window_heights: 1 << 20,
        height_interval_min_ms: 1,
        height_interval_idle_ms: 1_000,
        open_streams: true,
        validators: Vec::new(),
        accounts: Vec::new(),
        coin: None,
        stake: None,
    }
}

/// A key's signature over itself: whoever names it holds it.
pub(crate) fn possession(key: &SecretKey) -> quipu_types::Signature {
    sign_tagged(key, &Hash::ZERO, 0, Tag::Possession, &key.public().to_bytes())
}

/// Microseconds since 1970 by this machine's clock.
fn now_micros() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// Writes a file so that it is whole or not there, durable when this returns.
pub(crate) fn write_atomically(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    quipu_node::disk::write_atomically(path, bytes.as_ref())
        .map_err(|error| Failure::file("cannot write", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_ledger_is_made_once_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(&dir.path().join("ledger"));
        let genesis = create(&layout, &[1], &[Ports::ANY], (CLOCK_RATE_HZ, None)).unwrap();
        let text = std::fs::read_to_string(layout.genesis()).unwrap();
        assert_eq!(Genesis::from_json(&text).unwrap(), genesis);
        let config = Config::read(&layout.node(0)).unwrap();
        assert_eq!(keyfile::load(&config.key, None).unwrap().public(), genesis.validators[0].key);
        assert_eq!(
            std::fs::canonicalize(&config.genesis).unwrap(),
            std::fs::canonicalize(layout.genesis()).unwrap()
        );
        assert!(layout.node(0).join(FIRST_START_FILE).exists());
        let refused =
            create(&layout, &[1], &[Ports::default()], (CLOCK_RATE_HZ, None)).unwrap_err();
        assert!(refused.message().contains("is not replaced"), "{refused}");
    }

    #[test]
    fn validators_made_together_know_where_the_others_listen() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let chosen = ports(4, None).unwrap();
        let genesis = create(&layout, &[1, 2, 3, 4], &chosen, (CLOCK_RATE_HZ, None)).unwrap();
        let configs: Vec<Config> =
            (0..4).map(|index| Config::read(&layout.node(index)).unwrap()).collect();
        for (index, config) in configs.iter().enumerate() {
            let validator = &genesis.validators[index];
            assert_eq!(keyfile::load(&config.key, None).unwrap().public(), validator.key);
            assert_eq!(validator.power, u64::try_from(index).unwrap().saturating_add(1));
            assert_eq!(config.peers.len(), 3);
            for (other, address) in &config.peers {
                let place = genesis.validators.iter().position(|one| one.name == *other).unwrap();
                assert_ne!(place, index);
                assert_eq!(*address, configs[place].listen.peer.to_string());
            }
        }
    }

    #[test]
    fn ports_that_are_chosen_together_differ() {
        let all: Vec<u16> = ports(7, None)
            .unwrap()
            .iter()
            .flat_map(|ports| [ports.http, ports.pg, ports.admin, ports.peer])
            .collect();
        let different: std::collections::BTreeSet<u16> = all.iter().copied().collect();
        assert_eq!(different.len(), all.len());
        let based = ports(2, Some(9_000)).unwrap();
        assert_eq!(based[1], Ports { http: 9_004, pg: 9_005, admin: 9_006, peer: 9_007 });
        assert_eq!(ports(2, Some(65_530)).unwrap_err().exit(), 2);
    }

    #[test]
    fn stakes_are_one_each_one_for_all_or_a_list() {
        assert_eq!(stakes(3, &[]).unwrap(), [1, 1, 1]);
        assert_eq!(stakes(3, &[5]).unwrap(), [5, 5, 5]);
        assert_eq!(stakes(2, &[5, 6]).unwrap(), [5, 6]);
        for (count, given) in [(0, vec![]), (129, vec![]), (2, vec![1, 2, 3]), (2, vec![1, 0])] {
            assert_eq!(stakes(count, &given).unwrap_err().exit(), 2);
        }
    }

    #[test]
    fn a_taken_port_is_passed_over() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let mut free = FreePorts::new();
        let first = free.first_from(port);
        assert_ne!(first, Some(port));
        assert_ne!(free.first_from(port), first);
    }
}
