//! `quipu consumers`: groups that share out a ledger's lanes among processes, and one such process.
//!
//! ```text
//!  list, show            GET /v1/groups, with each lane's lag against its tip
//!  create, delete, seek  one signed transaction; places are those of a header
//!  run                   GroupConsumer: read ─> print, or a program ─> commit …
//! ```

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use quipu_client::{Client, ClientError, Events, GroupBatch, GroupConsumer, GroupError, Producer};
use quipu_types::cursor::Certified;
use quipu_types::group::{GroupAction, GroupOp};
use quipu_types::{Action, Hash, Height, Lane, Seqno, Writers, code};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Consumers, RunConsumer, Server, Signer};
use crate::failure::{Failure, Result};
use crate::{screen, tools};

/// Groups of one request for the list.
const PAGE_COUNT: usize = 1_000;

/// Does what is wanted with groups.
pub(crate) async fn run(args: Consumers) -> Result<()> {
    match args {
        Consumers::List { server, json } => list(&server, json).await,
        Consumers::Show { server, name, json } => show(&server, &name, json).await,
        Consumers::Create { server, signer, name, consumers, from, json } => {
            let client = tools::client(&server)?;
            let starts = match from.as_str() {
                "start" => Vec::new(),
                place => places(&client, place).await?,
            };
            let consumers = writers(&consumers)?;
            let ops = vec![GroupOp::Create { consumers, starts }];
            submit(&client, &signer, &name, ops, json.then_some("created")).await
        }
        Consumers::Delete { server, signer, name, json } => {
            let client = tools::client(&server)?;
            submit(&client, &signer, &name, vec![GroupOp::Delete], json.then_some("deleted")).await
        }
        Consumers::Seek { server, signer, name, to, lanes, json } => {
            let client = tools::client(&server)?;
            let mut places = places(&client, &to).await?;
            places.retain(|(lane, _)| lanes.is_empty() || lanes.contains(&lane.get()));
            let ops = places.into_iter().map(|(lane, to)| GroupOp::Seek { lane, to }).collect();
            submit(&client, &signer, &name, ops, json.then_some("sought")).await
        }
        Consumers::Run(args) => Runner::open(&args).await?.run().await,
    }
}

async fn list(server: &Server, json: bool) -> Result<()> {
    let client = tools::client(server)?;
    let mut groups: Vec<Json> = Vec::new();
    loop {
        let after = groups.last().and_then(|group| group.get("name")).and_then(Json::as_str);
        let query = after.map_or(String::new(), |after| format!("&after={after}"));
        let page: Vec<Json> = client.get(&format!("/v1/groups?limit={PAGE_COUNT}{query}")).await?;
        let is_last = page.len() < PAGE_COUNT;
        groups.extend(page);
        if is_last {
            break;
        }
    }
    if json {
        return tools::print(&Json::from(groups).to_string());
    }
    let names = ["name", "member_count", "generation", "consumers", "creator"];
    let row = |group: &Json| names.iter().map(|name| text(group, name)).collect();
    let rows: Vec<Vec<String>> = groups.iter().map(row).collect();
    let head = ["group", "members", "generation", "consumers", "creator"].map(str::to_owned);
    tools::print(&screen::table(&head, &rows))
}

fn text(object: &Json, name: &str) -> String {
    match object.get(name) {
        None | Some(Json::Null) => String::new(),
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// One group, with each lane's lag.
async fn show(server: &Server, name: &str, json: bool) -> Result<()> {
    check_name(name)?;
    let client = tools::client(server)?;
    let mut group: Json = client.get(&format!("/v1/groups/{name}")).await?;
    let status: Json = client.get("/v1/status").await?;
    let number = |object: &Json, name: &str| object.get(name).and_then(Json::as_u64);
    let tips = status.get("lanes").and_then(Json::as_array).into_iter().flatten();
    let tips: BTreeMap<u64, u64> =
        tips.filter_map(|tip| Some((number(tip, "lane")?, number(tip, "seqno")?))).collect();
    let lanes = group.get_mut("lanes").and_then(Json::as_array_mut).into_iter().flatten();
    for lane in lanes {
        let tip = number(lane, "lane").and_then(|number| tips.get(&number).copied());
        let lag = tip.unwrap_or_default().saturating_sub(number(lane, "seqno").unwrap_or_default());
        if let Some(members) = lane.as_object_mut() {
            members.insert("lag".into(), lag.into());
        }
    }
    if json { tools::print(&group.to_string()) } else { tools::print(&report(&group)) }
}

fn report(group: &Json) -> String {
    let items = |name: &str| group.get(name).and_then(Json::as_array).cloned().unwrap_or_default();
    let members = items("members");
    let members = members.iter().map(|member| {
        let end = member.get("lease_end_us").and_then(Json::as_u64).unwrap_or_default();
        vec![
            text(member, "name"),
            tools::time_text(end),
            text(member, "joined"),
            text(member, "account"),
        ]
    });
    let lanes = items("lanes");
    let names = ["lane", "owner", "generation", "seqno", "lag"];
    let lanes = lanes.iter().map(|lane| names.iter().map(|name| text(lane, name)).collect());
    let head = ["member", "lease until", "joined", "account"].map(str::to_owned);
    format!(
        "{}  generation {}, at height {}\n\n{}\n\n{}",
        screen::bold(&text(group, "name")),
        text(group, "generation"),
        text(group, "height"),
        screen::table(&head, &members.collect::<Vec<_>>()),
        screen::table(&names.map(str::to_owned), &lanes.collect::<Vec<_>>()),
    )
}

fn check_name(name: &str) -> Result<()> {
    quipu_types::row::check_name(name)
        .map_err(|reason| Failure::usage(format!("group {name:?}: {reason}")))
}

fn writers(text: &str) -> Result<Writers> {
    match text {
        "creator" => Ok(Writers::Creator),
        "anyone" => Ok(Writers::Anyone),
        accounts => {
            let wrong = |account: &str| {
                Failure::usage(format!("--consumers: {account:?} is no account"))
                    .with_help("Give creator, anyone, or accounts with commas between them.")
            };
            let accounts = accounts.split(',').map(|text| text.parse().map_err(|_| wrong(text)));
            let mut accounts = accounts.collect::<Result<Vec<_>>>()?;
            accounts.sort_unstable();
            accounts.dedup();
            Ok(Writers::Accounts(accounts))
        }
    }
}

/// A header as far as cursors need it.
#[derive(Deserialize)]
struct Header {
    height: u64,
    cut: Vec<Tip>,
}

#[derive(Deserialize)]
struct Tip {
    lane: u16,
    seqno: u64,
    lane_root: Hash,
}

/// Every lane's place at `start`, `end` or `height:N`. Whoever resumes there checks it against the genesis.
async fn places(client: &Client, text: &str) -> Result<Vec<(Lane, Certified)>> {
    let wrong = || Failure::usage(format!("{text:?} is no place: give start, end or height:N"));
    let height = match text {
        "start" | "end" => "latest",
        _ => text.strip_prefix("height:").ok_or_else(wrong)?,
    };
    if height != "latest" {
        height.parse::<u64>().map_err(|_| wrong())?;
    }
    let is_start = text == "start" || height == "0";
    let height = if is_start { "latest" } else { height };
    let header: Header = client.get(&format!("/v1/headers/{height}")).await?;
    let place = |tip: &Tip| match is_start {
        true => Certified::default(),
        false => Certified {
            height: Height::new(header.height),
            seqno: Seqno::new(tip.seqno),
            root: tip.lane_root,
        },
    };
    Ok(header.cut.iter().map(|tip| (Lane::new(tip.lane), place(tip))).collect())
}

/// Signs and submits what is done to a group; tells it as JSON when there is a word for it.
async fn submit(
    client: &Client,
    signer: &Signer,
    name: &str,
    ops: Vec<GroupOp>,
    json_word: Option<&str>,
) -> Result<()> {
    check_name(name)?;
    let key = tools::signer(&signer.signer)?;
    let action = |op| Action::Group(Box::new(GroupAction { group: name.to_owned(), op }));
    let mut producer = Producer::new(client, &key).await?;
    let answer = producer.submit(None, ops.into_iter().map(action).collect()).await?;
    if let Some(failure) = tools::refusal(&answer) {
        return Err(failure);
    }
    if let Some(word) = json_word {
        let mut line = json!(answer);
        if let Json::Object(line) = &mut line {
            line.insert("group".into(), name.into());
            line.insert("done".into(), word.into());
        }
        return tools::print(&line.to_string());
    }
    let (position, height) =
        (answer.position.unwrap_or_default(), answer.height.unwrap_or_default());
    tools::print(&format!("group {name}: {position}  height {height}  tx {}", answer.tx))
}

/// One member of a group.
struct Runner<'a> {
    args: &'a RunConsumer,
    consumer: GroupConsumer,
    events: Events,
}

impl<'a> Runner<'a> {
    async fn open(args: &'a RunConsumer) -> Result<Self> {
        let genesis = tools::genesis(&args.genesis)?;
        let client = tools::client(&args.server)?.with_genesis(&genesis);
        let key = tools::signer(&args.signer.signer)?;
        let events = Events::of(&client, &args.stream).await?;
        let member = args.member.clone().unwrap_or_else(own_name);
        let session = Duration::from_secs(args.session);
        let joined =
            GroupConsumer::join(&args.server.urls, genesis, key, &args.group, &member, session);
        let mut consumer = joined.await.map_err(failure)?.with_stream(&args.stream);
        if args.once {
            consumer = consumer.ending();
        }
        eprintln!("joined {} as {member}", args.group);
        Ok(Self { args, consumer, events })
    }

    async fn run(mut self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut lie = None;
        let done = loop {
            let batch = tokio::select! {
                batch = self.consumer.next() => batch,
                _ = tokio::signal::ctrl_c() => break Ok(()),
                _ = terminate.recv() => break Ok(()),
            };
            match batch {
                Ok(None) => break Ok(()),
                Ok(Some(batch)) => match self.work(&batch).await {
                    Ok(()) => {}
                    failed => break failed,
                },
                // Others may be honest.
                Err(GroupError::Client(ClientError::False { server, error, .. })) => {
                    eprintln!("{server} shows what is false: {error}");
                    lie = Some(Failure::is_false(error.code(), format!("{server}: {error}")));
                }
                Err(error @ (GroupError::Replaced { .. } | GroupError::Stopped)) => {
                    return Err(failure(error));
                }
                Err(error) => break Err(lie.unwrap_or_else(|| failure(error))),
            }
        };
        let left = self.consumer.leave().await.map_err(failure);
        done.and(left)
    }

    /// Hands a batch on, then commits it: it comes again if this ends in between.
    async fn work(&mut self, batch: &GroupBatch) -> Result<()> {
        let mut lines = String::new();
        for event in self.events.certified(batch.snapshot())? {
            lines.push_str(&json!(event).to_string());
            lines.push('\n');
        }
        match &self.args.exec {
            None => tools::print(lines.trim_end())?,
            Some(command) => execute(command, &lines).await?,
        }
        match self.consumer.commit(batch).await {
            Ok(_) => Ok(()),
            // Whoever holds the lane now gets it, too.
            Err(error @ (GroupError::Lost { .. } | GroupError::Moved { .. })) => {
                eprintln!("{error}");
                Ok(())
            }
            Err(error) => Err(failure(error)),
        }
    }
}

/// Runs a shell's command with the lines on its standard input.
async fn execute(command: &str, lines: &str) -> Result<()> {
    let failed = |reason: String| {
        Failure::new(code::BAD_INPUT, format!("--exec: {reason}"))
            .with_help("The batch is not committed: it comes again.")
    };
    let mut child = tokio::process::Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut input) = child.stdin.take() {
        // A program that does not read all of it has its own reason; its exit code tells.
        drop(input.write_all(lines.as_bytes()).await);
    }
    let status = child.wait().await.map_err(|error| failed(error.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed(format!("{command:?} ended with {status}"))) }
}

/// A name that no other process of this account has at this time.
fn own_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().filter(char::is_ascii).take(40).collect();
    format!("{host}-{}", std::process::id())
}

fn failure(error: GroupError) -> Failure {
    match (error.code(), error) {
        (_, GroupError::Client(error)) => error.into(),
        (Some(code), error) => Failure::new(code, error),
        (None, error) => Failure::usage(error),
    }
}
