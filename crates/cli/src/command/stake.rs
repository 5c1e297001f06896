//! `quipu stake`: registrations, bonds and evidence, signed and submitted; what stands of them, asked in SQL.

use quipu_client::api::SqlAnswer;
use quipu_client::{Client, Producer};
use quipu_crypto::{SecretKey, Tag, sign_tagged};
use quipu_proof::names::chain_id;
use quipu_types::stake::{EVIDENCE_SIZE_MAX, check_address, check_validator_name, possession_body};
use quipu_types::{Action, PublicKey, StakeAction};
use serde_json::{Value as Json, json};

use crate::args::stake::{Owned, Register, Show, ShowEvidence, Stake};
use crate::failure::{Failure, Result};
use crate::{screen, tools};

/// What `show` asks, each under its name.
const QUESTIONS: [(&str, &str); 3] = [
    (
        "validators",
        "select index, name, power, power_next, bond, locked, deposed, stale, share_key, state_vote_p99_us, owner, address, key from quipu.validators order by 1",
    ),
    ("epochs", "select epoch, validators, power, coin, began, ended from quipu.epochs order by 1"),
    (
        "evidence",
        "select epoch, height, kind, place, validator, slashed, \"by\", tx from quipu.evidence order by 2",
    ),
];

pub(crate) async fn run(args: Stake) -> Result<()> {
    match args {
        Stake::Register(args) => register(args).await,
        Stake::Bond(args) => {
            let (key, amount) = (args.owned.key, args.units);
            act(&args.owned, "bonded", StakeAction::Bond { key, amount }).await
        }
        Stake::Unbond(args) => {
            let (key, amount) = (args.owned.key, args.units);
            act(&args.owned, "unbonded", StakeAction::Unbond { key, amount }).await
        }
        Stake::Withdraw(args) => {
            act(&args, "withdrawn", StakeAction::Withdraw { key: args.key }).await
        }
        Stake::Move(args) => {
            check_address(&args.address).map_err(Failure::usage)?;
            let (key, address) = (args.owned.key, args.address);
            act(&args.owned, "moved", StakeAction::Move { key, address }).await
        }
        Stake::Evidence(args) => evidence(args).await,
        Stake::Show(args) => show(args).await,
    }
}

async fn register(args: Register) -> Result<()> {
    check_validator_name(&args.name).map_err(Failure::usage)?;
    check_address(&args.address).map_err(Failure::usage)?;
    let genesis = tools::genesis(&args.genesis)?;
    let client = tools::client(&args.server)?.with_genesis(&genesis);
    let (owner, voting) = (tools::signer(&args.signer.signer)?, tools::signer(&args.key)?);
    let key = voting.public();
    let body = possession_body(&key, &owner.account());
    let possession = sign_tagged(&voting, &chain_id(&genesis), 0, Tag::Possession, &body);
    let (name, address) = (args.name, args.address);
    let mut actions = vec![StakeAction::Register { key, possession, name, address }];
    actions.extend(args.bond.map(|amount| StakeAction::Bond { key, amount }));
    submit(&client, &owner, Some(key), "registered", actions, args.json).await
}

async fn act(args: &Owned, word: &str, action: StakeAction) -> Result<()> {
    let client = tools::client(&args.server)?;
    let owner = tools::signer(&args.signer.signer)?;
    submit(&client, &owner, Some(args.key), word, vec![action], args.json).await
}

async fn evidence(args: ShowEvidence) -> Result<()> {
    let bytes = tools::read_bytes(&args.file, "evidence", EVIDENCE_SIZE_MAX)?;
    let client = tools::client(&args.server)?;
    let signer = tools::signer(&args.signer.signer)?;
    let action = StakeAction::Evidence { epoch: args.epoch, bytes };
    submit(&client, &signer, None, "shown", vec![action], args.json).await
}

/// Signs and submits what is done, and tells where it stands.
async fn submit(
    client: &Client,
    signer: &SecretKey,
    key: Option<PublicKey>,
    word: &str,
    actions: Vec<StakeAction>,
    json: bool,
) -> Result<()> {
    let actions = actions.into_iter().map(|action| Action::Stake(Box::new(action))).collect();
    let mut producer = Producer::new(client, signer).await?;
    let answer = producer.submit(None, actions).await?;
    if let Some(failure) = tools::refusal(&answer) {
        return Err(failure);
    }
    if json {
        let mut line = json!(answer);
        if let Json::Object(line) = &mut line {
            line.insert("done".into(), word.into());
            line.extend(key.map(|key| ("key".to_owned(), key.to_string().into())));
        }
        return tools::print(&line.to_string());
    }
    let what = key.map_or_else(|| "evidence".to_owned(), |key| format!("validator {key}"));
    let (position, height) =
        (answer.position.unwrap_or_default(), answer.height.unwrap_or_default());
    tools::print(&format!("{what} {word}: {position}  height {height}  tx {}", answer.tx))
}

async fn show(args: Show) -> Result<()> {
    let client = tools::client(&args.server)?;
    let mut object = serde_json::Map::new();
    for (name, question) in QUESTIONS {
        let answer = client.sql(question).await?;
        if args.json {
            object.insert(name.to_owned(), objects(&answer));
            continue;
        }
        if answer.rows.is_empty() {
            tools::print(&screen::dim(&format!("no {name}")))?;
            continue;
        }
        let head: Vec<String> =
            answer.columns.iter().map(|column| column.name().to_owned()).collect();
        let rows: Vec<Vec<String>> =
            answer.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
        tools::print(&screen::bold(name))?;
        tools::print(&screen::table(&head, &rows))?;
    }
    if args.json { tools::print(&Json::Object(object).to_string()) } else { Ok(()) }
}

/// Each row as an object.
fn objects(answer: &SqlAnswer) -> Json {
    let object = |row: &Vec<Json>| -> Json {
        let names = answer.columns.iter().map(|column| column.name().to_owned());
        Json::Object(names.zip(row.iter().cloned()).collect())
    };
    answer.rows.iter().map(object).collect()
}

fn cell(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}
