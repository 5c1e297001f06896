//! `quipu genesis`: the files of the ceremony that makes a consortium's genesis.

use std::path::{Path, PathBuf};

use quipu_crypto::{coin, keyfile};
use quipu_proof::names::chain_id;
use quipu_types::genesis::GenesisAccount;
use quipu_types::{CoinSetup, Genesis, code};

use crate::args::{
    GenesisCommand, GenesisDeal, GenesisJoin, GenesisMerge, GenesisNew, GenesisSign, GenesisVerify,
};
use crate::ceremony::{self, Consent, FILE_SIZE_MAX, Join};
use crate::failure::{Failure, Result};
use crate::{local, screen, tools};

/// Most bytes of a coin file: a key for every share of the largest set.
const COIN_FILE_SIZE_MAX: usize = 256 << 10;

/// The draft's file name.
const DRAFT_FILE: &str = "genesis.draft.json";

/// One step of the ceremony.
pub(crate) fn run(command: GenesisCommand) -> Result<()> {
    match command {
        GenesisCommand::New(args) => new(&args),
        GenesisCommand::Join(args) => join(&args),
        GenesisCommand::Merge(args) => merge(&args),
        GenesisCommand::Deal(args) => deal(&args),
        GenesisCommand::Sign(args) => sign(&args),
        GenesisCommand::Verify(args) => verify(&args),
    }
}

fn new(args: &GenesisNew) -> Result<()> {
    let mut draft = local::draft(&args.name);
    draft.lane_count = args.lanes;
    draft.clock_rate_hz = args.clock_rate;
    draft.height_interval_min_ms = args.interval_min;
    draft.height_interval_idle_ms = args.interval_idle;
    draft.open_streams = !args.closed_streams;
    draft.stake = args.rules.stake();
    if let Some(seed) = &args.clock_seed {
        draft.clock_seed.clone_from(seed);
    }
    for text in &args.accounts {
        draft.accounts.push(account(text)?);
    }
    draft.accounts.sort_by_key(|one| one.account);
    draft.check_draft().map_err(Failure::usage)?;
    let path = args.dir.join(DRAFT_FILE);
    write_new(&path, &draft.to_json())?;
    tools::print(&format!("draft  {}", path.display()))?;
    tools::print(&format!("id     {}", chain_id(&draft)))?;
    tools::print("")?;
    tools::print("Send it to every member. Next, each: quipu genesis join --help")
}

/// `ACCOUNT=UNITS`.
fn account(text: &str) -> Result<GenesisAccount> {
    let parsed = || {
        let (account, balance) = text.split_once('=')?;
        Some(GenesisAccount { account: account.parse().ok()?, balance: balance.parse().ok()? })
    };
    parsed().ok_or_else(|| {
        Failure::usage(format!("--account {text:?} is not ACCOUNT=UNITS"))
            .with_help("ACCOUNT is what quipu keys show prints.")
    })
}

fn join(args: &GenesisJoin) -> Result<()> {
    let draft = read_draft(&args.genesis)?;
    let info = keyfile::peek(&args.key)?;
    if info.sealed {
        return Err(sealed(&args.key));
    }
    let key = keyfile::load(&args.key, None)?;
    let join = Join::new(&draft, &args.name, &key, (args.power, args.owner), &args.address)?;
    let path = args.out.clone().unwrap_or_else(|| format!("{}.join.json", args.name).into());
    write_new(&path, &pretty(&join)?)?;
    tools::print(&format!("join     {}", path.display()))?;
    tools::print(&format!("draft    {:?}, id {}", draft.name, chain_id(&draft)))?;
    tools::print(&format!("key      {}", key.public()))?;
    tools::print(&format!("power    {}", args.power))?;
    tools::print(&format!("address  {}", args.address))?;
    tools::print("")?;
    tools::print("Send it to every member. Next, each: quipu genesis merge --help")
}

/// The refusal of a validator's key under a passphrase.
pub(crate) fn sealed(path: &Path) -> Failure {
    let message = format!("key file {} is under a passphrase", path.display());
    Failure::new(code::KEY_FILE, message).with_help(
        "A validator starts with nobody there to type it. Make its key without one: quipu keys new.",
    )
}

fn merge(args: &GenesisMerge) -> Result<()> {
    let draft = read_draft(&args.draft)?;
    let joins = read_joins(&args.joins)?;
    let coin = args.coin.as_deref().map(read_coin).transpose()?;
    let genesis = ceremony::merge(&draft, &joins, coin)?;
    write_new(&args.out, &genesis.to_json())?;
    tools::print(&format!("genesis  {}", args.out.display()))?;
    let address = |key| {
        let join = joins.iter().find(|join| join.key == key);
        join.map(|join| join.address.clone()).unwrap_or_default()
    };
    show(&genesis, |validator| ("address", address(validator.key)))?;
    tools::print("")?;
    tools::print(
        "Compare the chain id with the other members'. Next, each: quipu genesis sign --help",
    )
}

fn deal(args: &GenesisDeal) -> Result<()> {
    let genesis = ceremony::merge(&read_draft(&args.draft)?, &read_joins(&args.joins)?, None)?;
    let powers = genesis.validator_set().powers();
    let (setup, secrets) = coin::draw(&powers);
    let path = |name: &str| args.shares.join(format!("{name}.coin.key"));
    for (validator, secret) in genesis.validators.iter().zip(&secrets) {
        coin::file::save(&path(&validator.name), setup.key, secret)?;
    }
    // Last: without it the shares are of nothing.
    write_new(&args.out, &pretty(&setup)?)?;
    tools::print(&format!("coin     {}  (for everyone)", args.out.display()))?;
    for validator in &genesis.validators {
        tools::print(&format!("shares   {}", path(&validator.name).display()))?;
    }
    tools::print("")?;
    tools::print(
        "Bring each file of shares to its owner alone, then remove it here: all of them were made in one place.",
    )?;
    tools::print(
        "Next, each: quipu genesis merge --coin coin.json; later: quipu init --coin NAME.coin.key",
    )
}

/// The public side of a dealt coin. Whether it fits the members is checked when it is merged.
fn read_coin(path: &Path) -> Result<CoinSetup> {
    let text = tools::read_small(path, "coin file", COIN_FILE_SIZE_MAX)?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::new(code::GENESIS, format!("{} is no coin file: {error}", path.display()))
            .with_help("Give coin.json as the member who dealt made it: quipu genesis deal.")
    })
}

fn sign(args: &GenesisSign) -> Result<()> {
    let genesis = tools::genesis(&args.genesis)?;
    let key = tools::signer(&args.key)?;
    let consent = Consent::new(&genesis, &key)?;
    let path = args.out.clone().unwrap_or_else(|| format!("{}.sign.json", consent.name).into());
    write_new(&path, &pretty(&consent)?)?;
    tools::print(&format!("signed   {}, as {:?}", path.display(), consent.name))?;
    show(&genesis, |validator| ("key", validator.key.to_string()))?;
    tools::print("")?;
    tools::print("Send it to every member. Next, each: quipu genesis verify --help")
}

fn verify(args: &GenesisVerify) -> Result<()> {
    let genesis = tools::genesis(&args.genesis)?;
    let consents = args
        .signatures
        .iter()
        .map(|path| read_file(path, "signature", Consent::from_json))
        .collect::<Result<Vec<_>>>()?;
    ceremony::verify(&genesis, &consents)?;
    tools::print(&screen::bold("Every member signed this very genesis."))?;
    show(&genesis, |validator| ("key", validator.key.to_string()))?;
    tools::print("")?;
    tools::print("Next, each: quipu init --help")
}

/// Prints what a genesis says, with one more column for its validators.
fn show(
    genesis: &Genesis,
    more: impl Fn(&quipu_types::genesis::GenesisValidator) -> (&'static str, String),
) -> Result<()> {
    tools::print(&format!("name     {:?}", genesis.name))?;
    tools::print(&format!("chain    {}", chain_id(genesis)))?;
    tools::print(&format!("lanes    {}", genesis.lane_count))?;
    let coin = match &genesis.coin {
        Some(setup) => format!("{}…  if leaders fail, heights go on", short(&setup.key)),
        None => "none  every round has a leader".to_owned(),
    };
    tools::print(&format!("coin     {coin}"))?;
    let total = genesis.validator_set().power_total();
    tools::print(&format!(
        "power    {total} in all; any {} of {} validators may fail",
        may_fail(genesis),
        genesis.validators.len()
    ))?;
    tools::print("")?;
    let mut head = vec!["index".to_owned(), "validator".to_owned(), "power".to_owned()];
    let mut rows = Vec::new();
    for (index, validator) in genesis.validators.iter().enumerate() {
        let (name, value) = more(validator);
        head.truncate(3);
        head.push(name.to_owned());
        rows.push(vec![
            index.to_string(),
            validator.name.clone(),
            validator.power.to_string(),
            value,
        ]);
    }
    tools::print(&screen::table(&head, &rows))
}

/// The beginning of a coin's key: enough to compare by eye.
fn short(key: &quipu_types::CoinKey) -> String {
    key.to_string().chars().take(16).collect()
}

/// How many validators may be missing, whichever they are: what is left is more than two thirds of the power.
fn may_fail(genesis: &Genesis) -> usize {
    let mut powers = genesis.validator_set().powers();
    powers.sort_unstable_by(|a, b| b.cmp(a));
    let total = genesis.validator_set().power_total();
    let mut missing = 0_u128;
    let fits = |power: &&u64| {
        missing = missing.saturating_add(u128::from(**power));
        missing.saturating_mul(3) < total
    };
    powers.iter().take_while(fits).count()
}

/// Reads join files; the first that is none is named.
pub(crate) fn read_joins(paths: &[PathBuf]) -> Result<Vec<Join>> {
    paths.iter().map(|path| read_file(path, "join", Join::from_json)).collect()
}

fn read_file<T>(path: &Path, what: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T> {
    let text = tools::read_small(path, &format!("{what} file"), FILE_SIZE_MAX)?;
    parse(&text).map_err(|reason| {
        Failure::new(code::GENESIS, format!("{} {reason}", path.display()))
            .with_help(format!("Give the {what} file as the member made it."))
    })
}

fn read_draft(path: &Path) -> Result<Genesis> {
    let wrong = |reason: String| {
        Failure::new(code::GENESIS, format!("draft {}: {reason}", path.display()))
            .with_help("Take it again from whoever made it: quipu genesis new.")
    };
    let text = tools::read_small(path, "draft", quipu_types::genesis::GENESIS_SIZE_MAX)?;
    let draft: Genesis = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    draft.check_draft().map_err(|error| wrong(error.to_string()))?;
    Ok(draft)
}

fn pretty(value: &impl serde::Serialize) -> Result<String> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Failure::new(code::GENESIS, error))?;
    Ok(format!("{text}\n"))
}

/// Writes a file that is not there yet.
fn write_new(path: &Path, text: &str) -> Result<()> {
    if path.exists() {
        let message = format!("{} exists already and is not replaced", path.display());
        return Err(
            Failure::new(code::CONFIG, message).with_help("Choose another name, or remove it.")
        );
    }
    local::write_atomically(path, text)
}

#[cfg(test)]
mod tests {
    use quipu_types::genesis::GenesisValidator;
    use quipu_types::{PublicKey, Signature, Suite};

    use super::*;

    #[test]
    fn those_may_fail_whom_more_than_two_thirds_of_the_power_outlive() {
        let count = |powers: &[u64]| {
            let mut genesis = local::draft("test");
            genesis.validators = powers
                .iter()
                .map(|power| GenesisValidator {
                    name: "v".into(),
                    key: PublicKey::new(Suite::Ed25519Sha256, &[1; 32]).unwrap(),
                    power: *power,
                    possession: Signature([0; 64]),
                    owner: None,
                })
                .collect();
            may_fail(&genesis)
        };
        let cases: [(&[u64], usize); 7] = [
            (&[1], 0),
            (&[1, 1, 1], 0),
            (&[2, 2, 2], 0),
            (&[1, 1, 1, 1], 1),
            (&[1; 7], 2),
            (&[2, 1, 1, 1, 1, 1], 1),
            (&[u64::MAX; 4], 1),
        ];
        for (powers, expected) in cases {
            assert_eq!(count(powers), expected, "{powers:?}");
        }
    }
}
