//! `quipu tail`: a stream's events, as they were or as they come, checked against the genesis that is given.
//!
//! ```text
//!  --genesis FILE   Consumer: every lane whole, every byte checked; --cursor-file resumes after what was printed
//!  without          the server's own word, which is said on standard error
//!  --compacted      the newest event of each key of a compacted stream, by the state's word
//! ```

use std::path::{Path, PathBuf};

use quipu_client::{
    ClientError, Compacted, CompactedEvent, Consumer, Event, Events, Evidence, Follow, FollowFrom,
};
use quipu_proof::feed::Told;
use quipu_types::cursor::{Cursors, Mode, Start};
use quipu_types::{Height, Lane, Time, code};

use crate::args::Tail;
use crate::failure::{Failure, Result};
use crate::{screen, tools};

/// Most bytes of a cursor's file.
const CURSOR_FILE_SIZE_MAX: usize = 1 << 20;

/// Prints events.
pub(crate) async fn run(args: Tail) -> Result<()> {
    match &args.genesis {
        Some(genesis) if args.compacted => compacted(&args, genesis).await,
        Some(genesis) => Verified::open(&args, genesis).await?.run().await,
        None => follow(&args).await,
    }
}

/// The newest event of each key, or of one.
async fn compacted(args: &Tail, genesis: &Path) -> Result<()> {
    let genesis = tools::genesis(genesis)?;
    let client = tools::client(&args.server)?.with_genesis(&genesis);
    client.chain().await?;
    let mut pages = Compacted::new(&client, &genesis, &args.stream);
    if let Some(key) = &args.key {
        let key = parse_key(key)?;
        let page = pages.of_key(&key).await?;
        page.events.iter().try_for_each(|event| show_newest(event, page.height, args.json))?;
        if page.events.is_empty() {
            eprintln!("the stream has no such key at height {}", page.height);
        }
        return Ok(());
    }
    let (mut first, mut count) = (None, 0_u64);
    while let Some(page) = pages.next().await? {
        for event in &page.events {
            show_newest(event, page.height, args.json)?;
            count = count.saturating_add(1);
        }
        let (height, root) = *first.get_or_insert((page.height, page.root));
        if root != page.root {
            eprintln!(
                "the stream changed while it was read, from height {height} to {}",
                page.height
            );
            first = Some((page.height, page.root));
        }
    }
    let height = first.map(|(height, _)| height).unwrap_or_default();
    eprintln!("{count} keys at height {height}, each with its newest event, none left out");
    Ok(())
}

fn show_newest(event: &CompactedEvent, height: Height, json: bool) -> Result<()> {
    if json {
        let mut object = serde_json::json!(event);
        if let Some(members) = object.as_object_mut() {
            members.insert("state_height".into(), height.get().into());
        }
        return tools::print(&object.to_string());
    }
    let place = format!("{}.{}", event.position, event.action);
    tools::print(&format!("{place:<12} key={} {}", event.key, event.data))
}

fn parse_key(text: &str) -> Result<Vec<u8>> {
    quipu_client::events::parse_key(text).map_err(|error| Failure::usage(format!("--key: {error}")))
}

/// The server's own word.
async fn follow(args: &Tail) -> Result<()> {
    if args.tentative || args.cursor_file.is_some() || !args.lanes.is_empty() {
        let text =
            "--tentative, --cursor-file and --lane need --genesis: they are about what is checked";
        return Err(Failure::usage(text));
    }
    let client = tools::client(&args.server)?;
    let from = match &args.from {
        None => FollowFrom::Start,
        Some(text) => FollowFrom::After(text.parse().map_err(|_| {
            let text = format!("--from {text:?} is not LANE:SEQNO, for example 3:120");
            Failure::usage(text).with_help("Heights, times and cursors need --genesis.")
        })?),
    };
    eprintln!(
        "not checked: give --genesis FILE to check every event against the ledger's validators"
    );
    let mut follow = Follow::new(&client, &args.stream, from, args.follow);
    loop {
        let event = tokio::select! {
            event = follow.next() => event?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let Some(event) = event else { return Ok(()) };
        show(&event, args.json, "")?;
    }
}

/// One who believes nothing.
struct Verified<'a> {
    args: &'a Tail,
    consumer: Consumer,
    events: Events,
}

impl<'a> Verified<'a> {
    async fn open(args: &'a Tail, genesis: &Path) -> Result<Self> {
        let genesis = tools::genesis(genesis)?;
        let client = tools::client(&args.server)?.with_genesis(&genesis);
        let mut events = Events::of(&client, &args.stream).await?;
        if let Some(key) = &args.key {
            events = events.with_key(parse_key(key)?);
        }
        let mode = if args.tentative { Mode::Tentative } else { Mode::Certified };
        let lanes: Vec<Lane> = args.lanes.iter().copied().map(Lane::new).collect();
        let mut consumer = Consumer::new(&args.server.urls, genesis, &lanes, mode)?;
        if let Some(start) = start(args)? {
            consumer = consumer.starting(start);
        }
        if !args.follow {
            consumer = consumer.ending();
        }
        Ok(Self { args, consumer, events })
    }

    async fn run(mut self) -> Result<()> {
        loop {
            let told = tokio::select! {
                told = self.consumer.next() => told,
                _ = tokio::signal::ctrl_c() => return Ok(()),
            };
            match told {
                Ok(None) => return Ok(()),
                Ok(Some(told)) => self.print(&told)?,
                Err(ClientError::False { server, error, evidence }) => {
                    return Err(keep(&self.args.evidence_dir, &server, &error, &evidence));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn print(&self, told: &Told) -> Result<()> {
        let json = self.args.json;
        match told {
            Told::Hello(_) => return Ok(()),
            Told::RolledBack { lane, to, .. } => {
                let line = match json {
                    true => {
                        serde_json::json!({ "rolled_back": { "lane": lane, "to": to } }).to_string()
                    }
                    false => format!("rolled back: lane {lane} to {to}"),
                };
                tools::print(&line)?;
            }
            Told::Tentative(batch) => {
                for event in self.events.tentative(batch)? {
                    show(&event, json, "tentative ")?;
                }
            }
            // What was shown tentatively is shown again when it is certain, unless nothing but that is wanted.
            Told::Snapshot(snapshot) => {
                for event in self.events.certified(snapshot)? {
                    show(&event, json, "")?;
                }
            }
        }
        match (&self.args.cursor_file, self.consumer.cursors()) {
            (Some(path), Some(cursors)) => write_cursors(path, cursors),
            _ => Ok(()),
        }
    }
}

/// Where to begin; from the lanes' beginning when nothing says otherwise.
fn start(args: &Tail) -> Result<Option<Start>> {
    if let Some(path) = args.cursor_file.as_deref().filter(|path| path.exists()) {
        let text = tools::read_small(path, "the cursor", CURSOR_FILE_SIZE_MAX)?;
        return parse_cursors(text.trim()).map(Some);
    }
    let Some(text) = &args.from else { return Ok(None) };
    if text == "end" {
        return Ok(Some(Start::End));
    }
    let number = |text: &str| text.parse::<u64>().ok();
    if let Some(height) = text.strip_prefix("height:").and_then(number) {
        return Ok(Some(Start::Height(Height::new(height))));
    }
    if let Some(time) = text.strip_prefix("time:") {
        let micros = quipu_types::row_json::timestamp_from_text(time)
            .and_then(|micros| u64::try_from(micros).ok())
            .ok_or_else(|| {
                Failure::usage(format!(
                    "--from {text:?}: no time such as time:2026-01-31T12:00:00Z"
                ))
            })?;
        return Ok(Some(Start::Time(Time::new(micros))));
    }
    parse_cursors(text).map(Some)
}

fn parse_cursors(text: &str) -> Result<Start> {
    let cursors = text.parse::<Cursors>().map_err(|error| {
        Failure::new(code::CURSOR, error).and_help(
            "With --genesis, --from takes a cursor, height:N (after it), time:T (from it) or end.",
        )
    })?;
    Ok(Start::Cursors(cursors))
}

/// Replaces the file at once, so that a crash leaves the old cursor or the new one.
fn write_cursors(path: &Path, cursors: &Cursors) -> Result<()> {
    let fresh = beside(path, "new");
    let failed = |error| Failure::file("cannot write the cursor", path, error);
    std::fs::write(&fresh, format!("{cursors}\n")).map_err(failed)?;
    std::fs::rename(&fresh, path).map_err(failed)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

/// Keeps what was false.
fn keep(
    dir: &Path,
    server: &str,
    error: &quipu_proof::feed::FeedError,
    evidence: &Evidence,
) -> Failure {
    let failure = Failure::is_false(error.code(), format!("{server}: {error}"));
    let path = dir.join(format!("quipu-evidence-{}.bin", std::process::id()));
    match std::fs::write(&path, evidence.to_file()) {
        Ok(()) => failure.and_help(&format!(
            "What it showed is kept: quipu verify --genesis FILE --evidence {}",
            path.display()
        )),
        Err(error) => failure.and_help(&format!("What it showed could not be kept: {error}")),
    }
}

fn show(event: &Event, json: bool, mark: &str) -> Result<()> {
    if json {
        let mut object = serde_json::json!(event);
        if let Some(members) = object.as_object_mut().filter(|_| !mark.is_empty()) {
            members.insert("tentative".into(), true.into());
        }
        return tools::print(&object.to_string());
    }
    tools::print(&format!("{mark}{}", line(event)))
}

fn line(event: &Event) -> String {
    let place = format!("{}.{}", event.position, event.action);
    let key = if event.key.is_empty() { String::new() } else { format!(" key={}", event.key) };
    let time = if event.time_us == 0 { String::new() } else { tools::time_text(event.time_us) };
    format!("{place:<12} {}{key} {}", screen::dim(&time), event.data)
}
