//! A ledger's directory for development: one place that makes all keys, and says so.
//!
//! ```text
//!  D/genesis.json        what everyone trusts        D/keys/dev.key      a client's key with units
//!  D/node0/config.toml   one validator's settings    D/keys/sample.key   signs the sample
//!  D/node0/validator.key its voting key              D/quipu-dev.log     what `quipu dev` logs
//! ```

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use quipu_crypto::{SecretKey, Tag, keyfile, sign_tagged};
use quipu_node::Config;
use quipu_types::genesis::{GENESIS_VERSION, GenesisAccount, GenesisValidator};
use quipu_types::{Encode, Genesis, Hash, Time, code};

use crate::failure::{Failure, Result};

/// First port of the HTTP interface.
pub(crate) const HTTP_PORT: u16 = 8433;
/// First port of the PostgreSQL wire: one above PostgreSQL's own.
pub(crate) const PG_PORT: u16 = 5433;
/// How many ports are tried after the first.
const PORT_TRY_COUNT: u16 = 200;
/// Units of the development key.
const DEV_BALANCE: u64 = 1_000_000_000;
/// Lanes of a new ledger.
const LANE_COUNT: u16 = 16;
/// Hashes a second of each lane's clock: with all lanes less than a twentieth of one core.
const CLOCK_RATE_HZ: u64 = 10_000;
/// The fastest silicon granted to an attacker.
const HASH_RATE_FASTEST_HZ: u64 = 20_000_000;

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

    /// The only validator's directory.
    pub(crate) fn node(&self) -> PathBuf {
        self.dir.join("node0")
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

/// Listen addresses of a new validator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// HTTP interface.
    pub(crate) http: u16,
    /// PostgreSQL wire.
    pub(crate) pg: u16,
    /// Health and metrics.
    pub(crate) admin: u16,
}

impl Ports {
    /// HTTP at `base`, then the PostgreSQL wire and admin; 0 leaves all to the system.
    pub(crate) fn from_base(base: u16) -> Result<Self> {
        if base == 0 {
            return Ok(Self { http: 0, pg: 0, admin: 0 });
        }
        match (base.checked_add(1), base.checked_add(2)) {
            (Some(pg), Some(admin)) => Ok(Self { http: base, pg, admin }),
            _ => Err(Failure::usage("--base-port leaves no room for three ports")),
        }
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self { http: HTTP_PORT, pg: PG_PORT, admin: 0 }
    }
}

/// The refusal of more validators than this version runs.
pub(crate) fn check_validators(count: usize) -> Result<()> {
    match count {
        1 => Ok(()),
        0 => Err(Failure::usage("--validators 0: a ledger has at least one")),
        _ => Err(Failure::new(
            code::NOT_BUILT,
            format!("--validators {count}: this version runs one validator"),
        )),
    }
}

/// Makes a ledger of one validator in `layout`, or nothing at all when something of it is there.
pub(crate) fn create(layout: &Layout, stake: u64, ports: Ports) -> Result<Genesis> {
    for path in [layout.genesis(), layout.node(), layout.dir().join("keys")] {
        if path.exists() {
            return Err(Failure::new(
                code::CONFIG,
                format!("{} exists already and is not replaced", path.display()),
            )
            .with_help("Choose another directory, or continue this one: quipu dev --dir D."));
        }
    }
    let make = |path: PathBuf| {
        std::fs::create_dir_all(&path)
            .map_err(|error| Failure::file("cannot make the directory", &path, error))
    };
    make(layout.node())?;
    make(layout.dir().join("keys"))?;
    let (validator, dev, sample) =
        (SecretKey::generate(), SecretKey::generate(), SecretKey::generate());
    let genesis = genesis(&validator, &dev, stake)?;
    let config = config(layout, ports);
    keyfile::save(&config.key, &validator, None)?;
    keyfile::save(&layout.dev_key(), &dev, None)?;
    keyfile::save(&layout.sample_key(), &sample, None)?;
    write_atomically(&layout.node().join(quipu_node::CONFIG_FILE), &config.to_toml())?;
    // Last, so that a directory with a genesis is a whole one.
    write_atomically(&layout.genesis(), &genesis.to_json())?;
    Ok(genesis)
}

fn config(layout: &Layout, ports: Ports) -> Config {
    let mut config = Config::new(&layout.node());
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    config.genesis = PathBuf::from("../genesis.json");
    config.listen.http = at(ports.http);
    config.listen.pg = at(ports.pg);
    config.listen.admin = at(ports.admin);
    config
}

fn genesis(validator: &SecretKey, dev: &SecretKey, stake: u64) -> Result<Genesis> {
    let time_us = now_micros();
    let key = validator.public();
    let possession = sign_tagged(validator, &Hash::ZERO, 0, Tag::Possession, &key.to_bytes());
    let genesis = Genesis {
        version: GENESIS_VERSION,
        name: "quipu dev".into(),
        time_us: Time::new(time_us),
        lane_count: LANE_COUNT,
        clock_seed: format!("quipu dev {time_us} {key}"),
        clock_rate_hz: CLOCK_RATE_HZ,
        hash_rate_fastest_hz: HASH_RATE_FASTEST_HZ,
        anchor_window_heights: 1 << 20,
        height_interval_min_ms: 5,
        height_interval_idle_ms: 1_000,
        open_streams: true,
        validators: vec![GenesisValidator { name: "node0".into(), key, power: stake, possession }],
        accounts: vec![GenesisAccount { account: dev.account(), balance: DEV_BALANCE }],
    };
    genesis.check()?;
    Ok(genesis)
}

/// Microseconds since 1970 by this machine's clock.
fn now_micros() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// Writes a file so that it is whole or not there, durable when this returns.
pub(crate) fn write_atomically(path: &Path, text: &str) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let write = || {
        let file = std::fs::File::create(&partial)?;
        std::io::Write::write_all(&mut &file, text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    };
    write().map_err(|error| Failure::file("cannot write", path, error))
}

/// The first free port from `first` on; `None` when all that are tried are taken.
pub(crate) fn free_port(first: u16) -> Option<u16> {
    (first..=first.saturating_add(PORT_TRY_COUNT))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_ledger_is_made_once_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(&dir.path().join("ledger"));
        let genesis = create(&layout, 1, Ports { http: 0, pg: 0, admin: 0 }).unwrap();
        let text = std::fs::read_to_string(layout.genesis()).unwrap();
        assert_eq!(Genesis::from_json(&text).unwrap(), genesis);
        let config = Config::read(&layout.node()).unwrap();
        assert_eq!(keyfile::load(&config.key, None).unwrap().public(), genesis.validators[0].key);
        assert_eq!(
            std::fs::canonicalize(&config.genesis).unwrap(),
            std::fs::canonicalize(layout.genesis()).unwrap()
        );
        let refused = create(&layout, 1, Ports::default()).unwrap_err();
        assert!(refused.message().contains("is not replaced"), "{refused}");
    }

    #[test]
    fn more_than_one_validator_is_refused_by_name() {
        assert_eq!(check_validators(4).unwrap_err().code(), "QP0605");
        assert!(check_validators(1).is_ok());
    }

    #[test]
    fn a_taken_port_is_passed_over() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_ne!(free_port(port), Some(port));
    }
}
