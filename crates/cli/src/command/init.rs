//! `quipu init`: a ledger's directory, for development; or a member's, after the ceremony.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use quipu_crypto::{coin, keyfile};
use quipu_node::FIRST_START_FILE;
use quipu_proof::names::chain_id;
use quipu_types::code;

use super::genesis::{read_joins, sealed};
use crate::args::Init;
use crate::ceremony;
use crate::failure::{Failure, Result};
use crate::local::{self, Layout};
use crate::tools;

/// Most bytes of a directory's name.
const DIRECTORY_SIZE_MAX: usize = 4_096;

/// Makes genesis, keys and configuration; or the directory of one member.
pub(crate) fn run(args: &Init) -> Result<()> {
    match (&args.genesis, &args.key, args.validators) {
        (Some(genesis), Some(key), _) => member(args, genesis, key),
        (None, _, Some(count)) => development(args, count),
        _ => Err(Failure::usage("give --validators, or --genesis with --key and --peers")),
    }
}

fn development(args: &Init, count: usize) -> Result<()> {
    let stakes = local::stakes(count, &args.stake)?;
    let ports = local::ports(count, args.base_port)?;
    let layout = Layout::new(&args.dir);
    let genesis = local::create(&layout, &stakes, &ports, (args.clock_rate, args.rules.stake()))?;
    tools::print(&format!("genesis    {}", layout.genesis().display()))?;
    tools::print(&format!("chain      {}", chain_id(&genesis)))?;
    for (index, (power, ports)) in stakes.iter().zip(&ports).enumerate() {
        let dir = layout.node(index);
        let at = if ports.http == 0 {
            "any free ports".to_owned()
        } else {
            format!("http http://127.0.0.1:{}  pg 127.0.0.1:{}", ports.http, ports.pg)
        };
        tools::print(&format!("validator  {}  power {power}  {at}", dir.display()))?;
    }
    tools::print(&format!(
        "client     {}  (holds units; signs appends)",
        layout.dev_key().display()
    ))?;
    tools::print("")?;
    tools::print("All keys were made here, in one place: unsafe, for development only.")?;
    let others =
        if count == 1 { String::new() } else { format!("   and {} more", count.saturating_sub(1)) };
    tools::print(&format!("Next: quipu start --dir {}{others}", layout.node(0).display()))
}

fn member(args: &Init, genesis: &Path, key_file: &Path) -> Result<()> {
    let genesis = tools::genesis(genesis)?;
    if keyfile::peek(key_file)?.sealed {
        return Err(sealed(key_file));
    }
    let key = keyfile::load(key_file, None)?.public();
    refuse_second(key_file, args)?;
    // Where stake moves, a key that is not of the genesis may be registered.
    let own = match ceremony::own_validator(&genesis, &key) {
        Err(_) if genesis.stake.is_some() => None,
        found => Some(found?),
    };
    let joins = read_joins(&args.peers)?;
    let given = args.peer.iter().map(|text| peer(text)).collect::<Result<_>>()?;
    let peers = ceremony::peers(&genesis, &joins, given, &key)?;
    let ports = local::ports(1, args.base_port)?.first().copied().unwrap_or_default();
    let listen = match args.listen {
        Some(listen) => listen,
        None => {
            let own_join = joins.iter().find(|join| join.key == key);
            let port = own_join.and_then(|join| join.address.rsplit_once(':')?.1.parse().ok());
            let port: u16 = port.ok_or_else(|| {
                Failure::usage("the own join file is not among --peers, so give --listen")
            })?;
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
        }
    };
    if let Some(path) = &args.coin {
        let (key, _) = coin::file::load(path)?;
        if genesis.coin.as_ref().is_none_or(|setup| setup.key != key) {
            let message = format!("{} has shares of another coin than the genesis", path.display());
            return Err(Failure::new(code::KEY_FILE, message)
                .with_help("Take the file that came with the coin.json which was merged."));
        }
    }
    let keys = (key_file, args.coin.as_deref());
    local::create_member(&args.dir, &genesis, keys, ports, listen, peers)?;
    note_directory(key_file, args, own.is_none())?;
    let name = own.map_or("to be registered", |own| own.name.as_str());
    tools::print(&format!("validator  {}  {name:?}", args.dir.display()))?;
    tools::print(&format!("chain      {}", chain_id(&genesis)))?;
    tools::print(&format!("key        {}  (stays where it is)", key_file.display()))?;
    if genesis.coin.is_some() && args.coin.is_none() {
        tools::print(
            "coin       no shares given: others throw it; with too few who can, leaderless rounds wait",
        )?;
    }
    tools::print(&format!(
        "peers      {listen}, and {} others",
        genesis.validators.len().saturating_sub(1)
    ))?;
    tools::print("")?;
    if own.is_none() {
        let dir = args.dir.display();
        return tools::print(&format!(
            "Next: quipu stake register --help; once quipu stake show lists it: quipu recover --dir {dir} --from URL,URL; then quipu start --dir {dir}"
        ));
    }
    tools::print(&format!("Next: quipu start --dir {}", args.dir.display()))
}

/// `NAME=HOST:PORT`.
fn peer(text: &str) -> Result<(String, String)> {
    let parsed = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, address) =
        parsed.ok_or_else(|| Failure::usage(format!("--peer {text:?} is not NAME=HOST:PORT")))?;
    Ok((name.to_owned(), address.to_owned()))
}

/// Beside a key: the directory that votes with it.
fn mark_of(key_file: &Path) -> PathBuf {
    let mut name = key_file.as_os_str().to_owned();
    name.push(".directory");
    PathBuf::from(name)
}

/// One key votes from one directory: two that do not know of each other would contradict each other.
fn refuse_second(key_file: &Path, args: &Init) -> Result<()> {
    let mark = mark_of(key_file);
    if args.again || !mark.exists() {
        return Ok(());
    }
    let dir = tools::read_small(&mark, "the mark beside the key", DIRECTORY_SIZE_MAX)?;
    if Path::new(dir.trim()) == std::path::absolute(&args.dir)? {
        return Ok(());
    }
    let message = format!("{} votes from {} already", key_file.display(), dir.trim());
    Err(Failure::new(code::CONFIG, message).with_help(
        "Start that one. If its ledger is lost and its configuration is not: quipu recover. If all of it is lost for good: --again.",
    ))
}

/// Who joins a ledger that runs begins as one that lost its directory: it signs nothing before that is safe.
fn note_directory(key_file: &Path, args: &Init, is_newcomer: bool) -> Result<()> {
    if args.again || is_newcomer {
        let mark = args.dir.join(FIRST_START_FILE);
        std::fs::remove_file(&mark)
            .map_err(|error| Failure::file("cannot remove", &mark, error))?;
    }
    let dir = std::path::absolute(&args.dir)?;
    local::write_atomically(&mark_of(key_file), format!("{}\n", dir.display()))
}
