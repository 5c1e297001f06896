//! `quipu gateway`: SQL on this machine, in front of validators that are elsewhere and believed nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quipu_node::pg::Verifier;
use quipu_node::{Config, Limits, Listen, Log, Remote, RemoteConfig, Standing, TlsFiles};
use quipu_types::code;

use crate::args::Gateway;
use crate::failure::{Failure, Result};
use crate::screen::grouped;
use crate::tools;
use crate::validator::{asked_to_stop, log_to};

/// Bytes that a log segment is preallocated with: a client's disk holds one for each lane.
const SEGMENT_SIZE: u64 = 4 << 20;
/// Most bytes of a file with a verifier.
const VERIFIER_SIZE_MAX: usize = 4_096;

/// Runs a gateway until it is asked to stop.
pub(crate) fn run(args: Gateway) -> Result<()> {
    let config = config(&args)?;
    log_to(None, &config)?;
    let user = config.roles.keys().next().map_or("quipu", String::as_str).to_owned();
    let remote = Remote::open(RemoteConfig { config, validators: args.validators })?;
    let ready = format!(
        "ready: pg postgresql://{user}@{}/quipu  admin http://{}",
        remote.pg(),
        remote.admin()
    );
    tools::print(&format!("chain {}", remote.chain()))?;
    let mut teller = Teller { ready: Some(ready), told: Standing::default() };
    let stopped = async {
        if let Err(failure) = asked_to_stop().await {
            failure.report();
        }
    };
    let running = remote.run(stopped, move |standing| teller.hear(standing));
    Ok(tools::runtime()?.block_on(running)?)
}

/// Tells people how far it is: while it catches up, and once when it is ready.
struct Teller {
    ready: Option<String>,
    told: Standing,
}

impl Teller {
    fn hear(&mut self, standing: Standing) {
        let Some(ready) = &self.ready else { return };
        if !standing.is_caught_up() {
            if standing != self.told && standing.tip.get() > 0 {
                let (height, tip) = (grouped(standing.height.get()), grouped(standing.tip.get()));
                eprintln!("catching up: height {height} of {tip}");
                self.told = standing;
            }
            return;
        }
        // Nobody reads it: it serves all the same.
        let _told = tools::print(ready);
        self.ready = None;
    }
}

fn config(args: &Gateway) -> Result<Config> {
    let tls = args.pg_certificate.clone().zip(args.pg_key.clone());
    Ok(Config {
        genesis: args.genesis.clone(),
        listen: Listen { pg: args.pg, admin: args.admin, ..Listen::default() },
        roles: pairs("--role", &args.roles)?,
        passwords: passwords(&args.passwords)?,
        tls: tls.map(|(certificate, key)| TlsFiles { certificate, key }),
        network_trusted: args.network_trusted,
        limits: Limits { segment_size: SEGMENT_SIZE, ..Limits::default() },
        log: Log { level: args.log.clone(), ..Log::default() },
        ..Config::new(&args.dir)
    })
}

/// `NAME=FILE`, each name once.
fn pairs(flag: &str, given: &[String]) -> Result<BTreeMap<String, PathBuf>> {
    let mut all = BTreeMap::new();
    for text in given {
        let pair = text.split_once('=').filter(|(name, file)| !name.is_empty() && !file.is_empty());
        let (name, file) =
            pair.ok_or_else(|| Failure::usage(format!("{flag} {text:?}: give NAME=FILE")))?;
        if all.insert(name.to_owned(), PathBuf::from(file)).is_some() {
            return Err(Failure::usage(format!("{flag}: {name:?} is given twice")));
        }
    }
    Ok(all)
}

fn passwords(given: &[String]) -> Result<BTreeMap<String, Verifier>> {
    let read = |(user, path): (String, PathBuf)| Ok((user, verifier(&path)?));
    pairs("--password", given)?.into_iter().map(read).collect()
}

fn verifier(path: &Path) -> Result<Verifier> {
    let text = tools::read_small(path, "the verifier", VERIFIER_SIZE_MAX)?;
    text.trim().parse().map_err(|error| {
        Failure::new(code::CONFIG, format!("{}: {error}", path.display()))
            .with_help("Make one with quipu keys verifier, and write what it prints to the file.")
    })
}
