//! `config.toml` of one validator: where its files are, where it listens, what it allows.
//!
//! * One file, one `version`. Relative paths start at the directory that holds the file.
//! * An unknown key is an error that names the nearest known one; a value out of range names its range.
//! * `listen.http` and `listen.admin` are on loopback: they have neither TLS nor authentication yet. `listen.pg` may be
//!   any address once there are `[passwords]` and `[pg.tls]`, or `pg.network_trusted` says that they are not needed.
//!   `listen.peer` may be any: both ends of a link between validators prove their keys.
//! * Once one user has a password, all need one: a role without is refused here, anybody else at the start.
//! * Port `0` means any free one.
//! * `[peers]` says where the other validators listen, by their names in the genesis. Whether the names are in it
//!   is not known here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use quipu_types::agreement::VALIDATOR_COUNT_MAX;
use serde::Deserialize;

use crate::error::NodeError;
use crate::pg::Verifier;

/// Why a table is written.
const TEXTS: &str = "a table of texts has a TOML form";
/// Version of the format.
pub const CONFIG_VERSION: u32 = 1;
/// Name of the file in a validator's directory.
pub const CONFIG_FILE: &str = "config.toml";
/// Marker in a validator's directory: nothing was ever voted with its key. Whoever makes the directory makes it;
/// a directory with neither ledger nor marker stands on a new disk, and its key may have voted before.
pub const FIRST_START_FILE: &str = "first-start";
/// Longest name of a host, as in DNS.
const HOST_SIZE_MAX: usize = 253;
/// Most bytes of a configuration file.
const CONFIG_SIZE_MAX: u64 = 1 << 20;

/// Every key there is, as a dotted path.
const KEYS: &[&str] = &[
    "version",
    "genesis",
    "key",
    "coin",
    "dealing",
    "peers",
    "roles",
    "passwords",
    "pg",
    "pg.network_trusted",
    "pg.tls",
    "pg.tls.certificate",
    "pg.tls.key",
    "listen",
    "listen.http",
    "listen.pg",
    "listen.admin",
    "listen.peer",
    "limits",
    "limits.body_size_max",
    "limits.http_connection_count_max",
    "limits.pg_connection_count_max",
    "limits.follower_count_max",
    "limits.pending_size_max",
    "limits.query_memory_size_max",
    "limits.query_seconds_max",
    "limits.state_size_max",
    "limits.segment_size",
    "limits.chunk_cache_size",
    "limits.execution_thread_count",
    "retention",
    "retention.checkpoint_heights",
    "retention.keep_heights",
    "limits.stripe_size_min",
    "clock",
    "clock.core",
    "traps",
    "traps.heights",
    "log",
    "log.format",
    "log.level",
];

/// What a validator process is told before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The validator's directory.
    pub dir: PathBuf,
    /// The genesis file.
    pub genesis: PathBuf,
    /// The file with the voting key.
    pub key: PathBuf,
    /// The file with the validator's shares of the coin of open rounds; it may be missing.
    pub coin: PathBuf,
    /// The file with the key under which others deal this validator shares of later epochs' coins; made when it is missing.
    pub dealing: PathBuf,
    /// Where to listen.
    pub listen: Listen,
    /// Where the other validators listen for peers: name in the genesis -> `host:port`.
    pub peers: BTreeMap<String, String>,
    /// Who may write through SQL here: the user that a client connects as -> the file with the key that signs for it.
    pub roles: BTreeMap<String, PathBuf>,
    /// The users of the PostgreSQL listener and what is kept of their passwords. Empty: nobody needs one.
    pub passwords: BTreeMap<String, Verifier>,
    /// TLS of the PostgreSQL listener.
    pub tls: Option<TlsFiles>,
    /// Clients of other machines need neither TLS nor a password, where none is set up.
    pub network_trusted: bool,
    /// What is allowed.
    pub limits: Limits,
    /// What is saved, and what is let go.
    pub retention: Retention,
    /// How its lanes' clocks are made.
    pub clock: ClockTable,
    /// What is claimed to catch who does not execute.
    pub traps: TrapTable,
    /// How the process logs.
    pub log: Log,
}

/// A certificate and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The server's certificate, then those that signed it.
    pub certificate: PathBuf,
    /// The certificate's key, readable by its owner only.
    pub key: PathBuf,
}

/// Listen addresses; `http` and `admin` loopback only, `pg` too unless it has TLS and passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// HTTP and gRPC.
    pub http: SocketAddr,
    /// PostgreSQL wire.
    pub pg: SocketAddr,
    /// Health and metrics.
    pub admin: SocketAddr,
    /// Links from the other validators: TLS, both ends authenticated by their keys in the genesis.
    pub peer: SocketAddr,
}

/// Limits; sizes are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest body of an HTTP request.
    pub body_size_max: usize,
    /// Most HTTP connections at a time.
    pub http_connection_count_max: usize,
    /// Most PostgreSQL connections at a time.
    pub pg_connection_count_max: usize,
    /// Most streams that are followed at a time.
    pub follower_count_max: usize,
    /// Most bytes of transactions that wait to be ordered; beyond it clients are told to pause.
    pub pending_size_max: usize,
    /// Most memory that all queries together use.
    pub query_memory_size_max: usize,
    /// Longest time that a query runs.
    pub query_seconds_max: u64,
    /// Most bytes of the state's file.
    pub state_size_max: usize,
    /// Bytes that a log segment is preallocated with.
    pub segment_size: u64,
    /// Bytes of committed chunks that are kept in memory for readers; 0 keeps none.
    pub chunk_cache_size: usize,
    /// Threads that execute a block's transactions side by side. Validators need not agree on it.
    pub execution_thread_count: usize,
    /// Bytes from which a chunk's body travels in stripes, which the others pass on; 0 sends every body whole. Validators
    /// need not agree on it.
    pub stripe_size_min: usize,
}

/// What is saved, and what is let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// A checkpoint is saved at each height that is a multiple of this; 0: none. Validators that are to vouch for each other's need
    /// the same.
    pub checkpoint_heights: u64,
    /// Heights before a new checkpoint whose headers and chunks are kept; 0: all are.
    pub keep_heights: u64,
}

/// How the own lanes' clocks are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockTable {
    /// The core that the clocks' thread stays on, where clocks are fast enough to have one.
    pub core: Option<usize>,
}

/// False states that are claimed, for validators that sign what they did not execute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrapTable {
    /// One height of so many has a trap, by and large, chosen by chance that nobody foresees; 0: none has.
    pub heights: u64,
}

/// How the process logs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Lines for people, or JSON objects.
    pub format: LogFormat,
    /// A `tracing` filter such as `info` or `quipu_node=debug`.
    pub level: String,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    genesis: PathBuf,
    key: PathBuf,
    #[serde(default = "coin_file")]
    coin: PathBuf,
    #[serde(default = "dealing_file")]
    dealing: PathBuf,
    #[serde(default)]
    listen: Listen,
    #[serde(default)]
    peers: BTreeMap<String, String>,
    #[serde(default)]
    roles: BTreeMap<String, PathBuf>,
    #[serde(default)]
    passwords: BTreeMap<String, Verifier>,
    #[serde(default)]
    pg: PgFile,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    retention: Retention,
    #[serde(default)]
    clock: ClockTable,
    #[serde(default)]
    traps: TrapTable,
    #[serde(default)]
    log: Log,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PgFile {
    #[serde(default)]
    network_trusted: bool,
    tls: Option<TlsFiles>,
}

fn coin_file() -> PathBuf {
    PathBuf::from("coin.key")
}

fn dealing_file() -> PathBuf {
    PathBuf::from("dealing.key")
}

impl Default for Listen {
    fn default() -> Self {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self { http: at(8640), pg: at(5433), admin: at(8641), peer: at(8642) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_size_max: 16 << 20,
            http_connection_count_max: 512,
            pg_connection_count_max: 64,
            follower_count_max: 256,
            pending_size_max: 64 << 20,
            query_memory_size_max: 256 << 20,
            query_seconds_max: 60,
            state_size_max: 64 << 30,
            segment_size: 16 << 20,
            chunk_cache_size: 16 << 20,
            execution_thread_count: default_execution_threads(),
            stripe_size_min: 0,
        }
    }
}

/// Half of the processors, so that agreeing goes on beside executing, and no more than what one block feeds.
fn default_execution_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |count| (count.get() / 2).clamp(1, 8))
}

impl Limits {
    /// From which size on the replica stripes bodies.
    pub(crate) const fn stripe_size_min(&self) -> usize {
        match self.stripe_size_min {
            0 => usize::MAX,
            size => size,
        }
    }

    /// Threads of the executor.
    pub(crate) fn execution_threads(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.execution_thread_count).unwrap_or(NonZeroUsize::MIN)
    }
}

impl Retention {
    /// Fewest heights between checkpoints, and before one.
    const HEIGHTS_MIN: u64 = 16;

    fn check(&self) -> Result<(), String> {
        let Self { checkpoint_heights, keep_heights } = *self;
        let fields = [
            ("retention.checkpoint_heights", checkpoint_heights),
            ("retention.keep_heights", keep_heights),
        ];
        for (key, value) in fields {
            if (1..Self::HEIGHTS_MIN).contains(&value) {
                let least = Self::HEIGHTS_MIN;
                return Err(format!("{key} is {value}, it must be 0 or at least {least}"));
            }
        }
        if keep_heights > 0 && checkpoint_heights == 0 {
            return Err("retention.keep_heights lets heights go, and retention.checkpoint_heights is 0: nobody could go on \
                        from what is left; say how often a checkpoint is saved"
                .to_owned());
        }
        Ok(())
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}

impl Config {
    /// The default configuration of a validator in `dir` (genesis beside it, default ports).
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            genesis: dir.join("../genesis.json"),
            key: dir.join("validator.key"),
            coin: dir.join(coin_file()),
            dealing: dir.join(dealing_file()),
            listen: Listen::default(),
            peers: BTreeMap::new(),
            roles: BTreeMap::new(),
            passwords: BTreeMap::new(),
            tls: None,
            network_trusted: false,
            limits: Limits::default(),
            retention: Retention::default(),
            clock: ClockTable::default(),
            traps: TrapTable::default(),
            log: Log::default(),
        }
    }

    /// Reads and checks `dir/config.toml`.
    pub fn read(dir: &Path) -> Result<Self, NodeError> {
        let path = dir.join(CONFIG_FILE);
        let wrong = |reason: String| NodeError::Config { path: path.clone(), reason };
        let size = std::fs::metadata(&path).map_err(|error| wrong(error.to_string()))?.len();
        if size > CONFIG_SIZE_MAX {
            return Err(wrong(format!("{size} bytes, the most is {CONFIG_SIZE_MAX}")));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        Self::from_toml(&text, dir).map_err(wrong)
    }

    /// Checks a configuration's text; the error says what is wrong with which key.
    pub fn from_toml(text: &str, dir: &Path) -> Result<Self, String> {
        let table: toml::Table =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        check_keys(&table, "")?;
        let file: File =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        if file.version != CONFIG_VERSION {
            return Err(format!(
                "version is {}, this program reads {CONFIG_VERSION}",
                file.version
            ));
        }
        let config = Self {
            dir: dir.to_path_buf(),
            genesis: dir.join(file.genesis),
            key: dir.join(file.key),
            coin: dir.join(file.coin),
            dealing: dir.join(file.dealing),
            listen: file.listen,
            peers: file.peers,
            roles: file.roles.into_iter().map(|(role, key)| (role, dir.join(key))).collect(),
            passwords: file.passwords,
            network_trusted: file.pg.network_trusted,
            tls: file.pg.tls.map(|tls| TlsFiles {
                certificate: dir.join(tls.certificate),
                key: dir.join(tls.key),
            }),
            limits: file.limits,
            retention: file.retention,
            clock: file.clock,
            traps: file.traps,
            log: file.log,
        };
        config.check()?;
        Ok(config)
    }

    /// Checks the ranges of every value.
    pub fn check(&self) -> Result<(), String> {
        self.check_access()?;
        if self.peers.len() >= VALIDATOR_COUNT_MAX {
            let (count, most) = (self.peers.len(), VALIDATOR_COUNT_MAX.saturating_sub(1));
            return Err(format!("peers has {count} entries, the most is {most}"));
        }
        for (name, address) in &self.peers {
            check_peer_address(address).map_err(|reason| format!("peers.{name}: {reason}"))?;
        }
        let limits = &self.limits;
        let sizes = [
            ("limits.body_size_max", limits.body_size_max, 1 << 16, 1 << 30),
            ("limits.http_connection_count_max", limits.http_connection_count_max, 1, 65_536),
            ("limits.pg_connection_count_max", limits.pg_connection_count_max, 1, 65_536),
            ("limits.follower_count_max", limits.follower_count_max, 1, 65_536),
            ("limits.pending_size_max", limits.pending_size_max, 1 << 21, 1 << 34),
            ("limits.query_memory_size_max", limits.query_memory_size_max, 1 << 24, 1 << 40),
            ("limits.state_size_max", limits.state_size_max, 1 << 26, 1 << 44),
            ("limits.chunk_cache_size", limits.chunk_cache_size, 0, 1 << 40),
            ("limits.execution_thread_count", limits.execution_thread_count, 1, 256),
            ("limits.stripe_size_min", limits.stripe_size_min, 0, 1 << 20),
        ];
        for (key, value, least, most) in sizes {
            if value < least || value > most {
                return Err(format!("{key} is {value}, it must be {least} to {most}"));
            }
        }
        let numbers = [
            ("limits.query_seconds_max", limits.query_seconds_max, 1, 86_400),
            ("limits.segment_size", limits.segment_size, 1 << 22, 1 << 30),
        ];
        for (key, value, least, most) in numbers {
            if value < least || value > most {
                return Err(format!("{key} is {value}, it must be {least} to {most}"));
            }
        }
        self.retention.check()
    }

    /// Checks that nobody comes in by accident.
    fn check_access(&self) -> Result<(), String> {
        let Listen { http, pg, admin, peer: _ } = self.listen;
        for (key, address) in [("listen.http", http), ("listen.admin", admin)] {
            if !address.ip().is_loopback() {
                return Err(format!(
                    "{key} is {address}: only loopback addresses are allowed, since this version has \
                     neither TLS nor authentication there; put a proxy that has both in front of 127.0.0.1"
                ));
            }
        }
        let missing = match (self.passwords.is_empty(), &self.tls) {
            (true, None) => "[passwords] and [pg.tls]",
            (true, Some(_)) => "[passwords]",
            (false, None) => "[pg.tls]",
            (false, Some(_)) => "",
        };
        if !pg.ip().is_loopback() && !missing.is_empty() && !self.network_trusted {
            return Err(format!(
                "listen.pg is {pg}: an address that is not loopback needs {missing} too, so that clients prove \
                 who they are and nobody reads along; make a verifier with quipu keys verifier. Where the network \
                 itself sees to both, say pg.network_trusted = true"
            ));
        }
        let bare = self.roles.keys().find(|role| !self.passwords.contains_key(*role));
        match bare.filter(|_| !self.passwords.is_empty()) {
            Some(role) => Err(format!(
                "roles.{role} has no password, but others have: add passwords.{role}, made with quipu keys verifier"
            )),
            None => Ok(()),
        }
    }

    /// The commented text of a `config.toml` with this configuration's addresses and paths.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let Listen { http, pg, admin, peer } = self.listen;
        let peers = toml::to_string(&self.peers).expect(TEXTS);
        let access = self.access_to_toml();
        let format = match self.log.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        let limits = self.limits_to_toml();
        format!(
            "# One validator of a Quipu ledger. Relative paths start at this file's directory.\n\
             version = {CONFIG_VERSION}\n\
             # What every member agreed on before the first header.\n\
             genesis = {}\n\
             # The key that this validator votes with. Readable by its owner only.\n\
             key = {}\n\
             # Its shares of the coin that decides rounds without a leader. Readable by its owner only; may be missing.\n\
             coin = {}\n\
             # The key under which it is dealt shares of later epochs' coins. Made at the first start that needs it.\n\
             dealing = {}\n\n\
             # Loopback addresses (pg: see [pg]); port 0 takes any free one.\n\
             [listen]\n\
             http = \"{http}\"\n\
             pg = \"{pg}\"\n\
             # /healthz, /readyz and /metrics.\n\
             admin = \"{admin}\"\n\
             # Links from the other validators. Any address will do: both ends prove their keys.\n\
             peer = \"{peer}\"\n\n\
             # Where the other validators listen: their names in the genesis, and \"host:port\".\n\
             [peers]\n\
             {peers}\n\
             {access}\n\
             {limits}\n\
             [log]\n\
             # \"text\" for people, \"json\" for machines.\n\
             format = \"{format}\"\n\
             level = {}\n",
            self.inside(&self.genesis),
            self.inside(&self.key),
            self.inside(&self.coin),
            self.inside(&self.dealing),
            toml::Value::from(self.log.level.clone()),
        )
    }

    /// The tables of what is allowed, and of what is let go.
    fn limits_to_toml(&self) -> String {
        let Self { limits, retention, traps, .. } = self;
        let core = self.clock.core.map_or("# core = 0".to_owned(), |core| format!("core = {core}"));
        format!(
            "# Sizes are bytes.\n\
             [limits]\n\
             body_size_max = {}\n\
             http_connection_count_max = {}\n\
             pg_connection_count_max = {}\n\
             follower_count_max = {}\n\
             # Transactions that wait to be ordered; beyond it clients are told to pause.\n\
             pending_size_max = {}\n\
             query_memory_size_max = {}\n\
             query_seconds_max = {}\n\
             # The most that the state's file may grow to; it takes no room before.\n\
             state_size_max = {}\n\
             segment_size = {}\n\
             # What was read last of the log stays in memory; 0 keeps nothing.\n\
             chunk_cache_size = {}\n\
             # Chunks of so many bytes are sent to each validator in part, and the validators pass the parts on; 0 sends all whole.\n\
             stripe_size_min = {}\n\n\
             # Everything is kept unless this says otherwise. A checkpoint, saved at each height that is a multiple of\n\
             # checkpoint_heights, holds the state and what the log needs to go on; once there is one, all but the\n\
             # keep_heights before it go. 0: none is saved, nothing goes. All members should use the same.\n\
             [retention]\n\
             checkpoint_heights = {}\n\
             keep_heights = {}\n\n\
             # Fast clocks (from 100,000 ticks a second on) have a thread; core keeps it on one core.\n\
             [clock]\n\
             {core}\n\n\
             # At one height of so many, which nobody foresees, this validator claims a state that is false: whoever signs it\n\
             # without having executed is caught. 0: at none.\n\
             [traps]\n\
             heights = {}\n",
            limits.body_size_max,
            limits.http_connection_count_max,
            limits.pg_connection_count_max,
            limits.follower_count_max,
            limits.pending_size_max,
            limits.query_memory_size_max,
            limits.query_seconds_max,
            limits.state_size_max,
            limits.segment_size,
            limits.chunk_cache_size,
            limits.stripe_size_min,
            retention.checkpoint_heights,
            retention.keep_heights,
            traps.heights,
        )
    }

    /// The tables that say who may connect to `listen.pg`, how, and what they may write.
    fn access_to_toml(&self) -> String {
        let roles: BTreeMap<&String, toml::Value> =
            self.roles.iter().map(|(role, key)| (role, self.inside(key))).collect();
        let roles = toml::to_string(&roles).expect(TEXTS);
        let passwords: BTreeMap<&String, String> =
            self.passwords.iter().map(|(user, kept)| (user, kept.to_string())).collect();
        let passwords = toml::to_string(&passwords).expect(TEXTS);
        let tls = self.tls.as_ref().map_or(String::new(), |TlsFiles { certificate, key }| {
            let (certificate, key) = (self.inside(certificate), self.inside(key));
            format!("[pg.tls]\ncertificate = {certificate}\nkey = {key}\n")
        });
        let network_trusted = self.network_trusted;
        format!(
            "# Who may write through SQL here: the user of a connection, and the file with the key that signs for it.\n\
             # Without [passwords], whoever reaches listen.pg may write as these.\n\
             [roles]\n\
             {roles}\n\
             # Users and their password verifiers, from `quipu keys verifier`. With one, everybody needs a password.\n\
             [passwords]\n\
             {passwords}\n\
             # TLS of listen.pg: [pg.tls] with certificate and key, two PEM files. With it and passwords, listen.pg may\n\
             # be any address; network_trusted = true lets it be one without them.\n\
             [pg]\n\
             network_trusted = {network_trusted}\n\
             {tls}"
        )
    }

    /// A path as the file says it: relative to its directory, where it is in there.
    fn inside(&self, path: &Path) -> toml::Value {
        let path = path.strip_prefix(&self.dir).unwrap_or(path);
        toml::Value::from(path.display().to_string())
    }
}

/// Whether a text is the `host:port` of a validator: a name, an IPv4 or a bracketed IPv6 address, and a port.
pub fn check_peer_address(text: &str) -> Result<(), String> {
    let wrong = |what: &str| {
        Err(format!(
            "{text:?} {what}; give \"host:port\", for example \"validator.example.org:8642\""
        ))
    };
    let Some((host, port)) = text.rsplit_once(':') else { return wrong("has no port") };
    if port.starts_with('+') || port.parse::<u16>().map_or(true, |port| port == 0) {
        return wrong("has no port from 1 to 65535");
    }
    if let Some(inside) = host.strip_prefix('[') {
        let address = inside.strip_suffix(']').unwrap_or_default();
        return match address.parse::<std::net::Ipv6Addr>() {
            Ok(_) => Ok(()),
            Err(_) => wrong("has no IPv6 address between its brackets"),
        };
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if host.len() > HOST_SIZE_MAX || !host.split('.').all(is_label) {
        return wrong("has no name or address of a host");
    }
    Ok(())
}

fn check_keys(table: &toml::Table, prefix: &str) -> Result<(), String> {
    for (name, value) in table {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if !KEYS.contains(&path.as_str()) {
            let nearest = nearest_key(&path);
            return Err(format!("unknown key {path:?}; the nearest known one is {nearest:?}"));
        }
        // The names in them are the genesis', and the operator's.
        if ["peers", "roles", "passwords"].contains(&path.as_str()) {
            continue;
        }
        if let toml::Value::Table(inner) = value {
            check_keys(inner, &path)?;
        }
    }
    Ok(())
}

/// The known key with the fewest edits to `path`.
fn nearest_key(path: &str) -> &'static str {
    let mut best = ("version", usize::MAX);
    for key in KEYS {
        let whole = edit_distance(path, key);
        let last = key.rsplit('.').next().unwrap_or(key);
        let tail = edit_distance(path.rsplit('.').next().unwrap_or(path), last).saturating_add(1);
        let distance = whole.min(tail);
        if distance < best.1 {
            best = (key, distance);
        }
    }
    best.0
}

/// Levenshtein's distance over the first 64 characters.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, a) in left.chars().take(64).enumerate() {
        let mut next = Vec::with_capacity(row.len());
        let mut before = index.saturating_add(1);
        next.push(before);
        for (pair, b) in row.windows(2).zip(&right) {
            let [diagonal, above] = *pair else { continue };
            let replaced = diagonal.saturating_add(usize::from(a != *b));
            before = replaced.min(above.saturating_add(1)).min(before.saturating_add(1));
            next.push(before);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn read(text: &str) -> Result<Config, String> {
        Config::from_toml(text, Path::new("/d/node0"))
    }

    #[test]
    fn the_default_text_reads_back_as_the_default() {
        let config = Config::new(Path::new("/d/node0"));
        assert_eq!(read(&config.to_toml()), Ok(config));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let wrong = "version = 1\ngenesis = \"g\"\nkey = \"k\"\n[limits]\nbody_max_size = 1\n";
        expect![[
            r#"unknown key "limits.body_max_size"; the nearest known one is "limits.body_size_max""#
        ]]
        .assert_eq(&read(wrong).unwrap_err());
        let wrong = "version = 1\ngenesys = \"g\"\nkey = \"k\"\n";
        expect![[r#"unknown key "genesys"; the nearest known one is "genesis""#]]
            .assert_eq(&read(wrong).unwrap_err());
        let wrong = "version = 1\ngenesis = \"g\"\nkey = \"k\"\n[listen]\nhtpp = \"127.0.0.1:1\"\n";
        expect![[r#"unknown key "listen.htpp"; the nearest known one is "listen.http""#]]
            .assert_eq(&read(wrong).unwrap_err());
    }

    #[test]
    fn a_public_address_is_refused_by_name() {
        let wrong = "version = 1\ngenesis = \"g\"\nkey = \"k\"\n[listen]\nhttp = \"0.0.0.0:80\"\n";
        assert!(read(wrong).unwrap_err().starts_with("listen.http is 0.0.0.0:80: only loopback"));
    }

    #[test]
    fn clients_of_other_machines_need_passwords_and_tls_or_a_word_that_they_do_not() {
        let mut config = Config::new(Path::new("/d/node0"));
        config.listen.pg = "0.0.0.0:5432".parse().unwrap();
        let refused = |config: &Config| {
            let said = read(&config.to_toml()).unwrap_err();
            said.split_once(" too, so").map(|(said, _)| said.to_owned()).unwrap_or(said)
        };
        expect!["listen.pg is 0.0.0.0:5432: an address that is not loopback needs [passwords] and [pg.tls]"]
            .assert_eq(&refused(&config));
        let verifier = Verifier::of_password("pencil").unwrap();
        config.passwords.insert("ann".into(), verifier.clone());
        expect!["listen.pg is 0.0.0.0:5432: an address that is not loopback needs [pg.tls]"]
            .assert_eq(&refused(&config));
        let [certificate, key] = ["/d/node0/pg.crt", "/d/node0/pg.key"].map(PathBuf::from);
        config.tls = Some(TlsFiles { certificate, key });
        assert_eq!(read(&config.to_toml()), Ok(config.clone()));
        config.roles.insert("bob".into(), "/d/node0/bob.key".into());
        expect!["roles.bob has no password, but others have: add passwords.bob, made with quipu keys verifier"]
            .assert_eq(&refused(&config));
        config.passwords.insert("bob".into(), verifier);
        assert_eq!(read(&config.to_toml()), Ok(config.clone()));
        config.passwords.clear();
        config.tls = None;
        config.network_trusted = true;
        assert_eq!(read(&config.to_toml()), Ok(config));
        let wrong = "version = 1\ngenesis = \"g\"\nkey = \"k\"\n[passwords]\nann = \"pencil\"\n";
        assert!(read(wrong).unwrap_err().contains("no password verifier"));
    }

    #[test]
    fn a_value_out_of_range_and_another_version_are_refused() {
        let wrong = "version = 1\ngenesis = \"g\"\nkey = \"k\"\n[limits]\nquery_seconds_max = 0\n";
        expect!["limits.query_seconds_max is 0, it must be 1 to 86400"]
            .assert_eq(&read(wrong).unwrap_err());
        let wrong = "version = 2\ngenesis = \"g\"\nkey = \"k\"\n";
        expect!["version is 2, this program reads 1"].assert_eq(&read(wrong).unwrap_err());
    }

    #[test]
    fn peers_are_listened_to_anywhere_and_named_as_the_genesis_names_them() {
        let mut config = Config::new(Path::new("/d/node0"));
        config.listen.peer = "0.0.0.0:8642".parse().unwrap();
        for (name, address) in [
            ("bank-a", "quipu.bank-a.example:8642"),
            ("the \"other\" one\n", "10.0.0.3:8642"),
            ("", "[2001:db8::1]:8642"),
        ] {
            config.peers.insert(name.into(), address.into());
        }
        assert_eq!(read(&config.to_toml()), Ok(config));
    }

    #[test]
    fn a_peer_address_without_the_form_is_refused_by_name() {
        let start = "version = 1\ngenesis = \"g\"\nkey = \"k\"\n";
        let refused = |peers: &str| read(&format!("{start}{peers}")).unwrap_err();
        expect![[
            r#"peers.b: "10.0.0.3" has no port; give "host:port", for example "validator.example.org:8642""#
        ]]
        .assert_eq(&refused("[peers]\na = \"a.b:1\"\nb = \"10.0.0.3\"\n"));
        for wrong in ["a:0", "a:65536", "a:+1", ":1", "a b:1", "a..b:1", "[::1:1", "::1:1", "a:"] {
            let said = refused(&format!("[peers]\nb = \"{wrong}\"\n"));
            assert!(said.starts_with("peers.b: "), "{wrong}: {said}");
        }
        expect![[r#"unknown key "peer"; the nearest known one is "peers""#]]
            .assert_eq(&refused("[peer]\na = \"a:1\"\n"));
        let many: String =
            (0..VALIDATOR_COUNT_MAX).map(|number| format!("v{number} = \"a:1\"\n")).collect();
        expect!["peers has 128 entries, the most is 127"]
            .assert_eq(&refused(&format!("[peers]\n{many}")));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_check_of_an_address_panic(text in "[\\PC\\[\\]:.0-9]{0,40}") {
            drop(check_peer_address(&text));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
            drop(read(&text));
        }
    }
}
