//! `quipu dev --tamper`: someone with access to the disk changes one byte. Who notices, and what do they say?
//!
//! ```text
//!  a stored flight's tail number, one bit flipped ─┬─> a reader that asks for a proof of it
//!                                                  ├─> a reader that follows the stream
//!                                                  └─> quipu check, over everything stored
//! ```
//! The byte is put back at the end. The validators keep no chunks in memory ([`super::dev`]), or a reader might be given
//! the right bytes out of it, and notice nothing.

use std::fs::{File, OpenOptions};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use quipu_client::{Client, Follow, FollowFrom};
use quipu_proof::Bundle;
use quipu_types::{Encode, Hash, Position, code};
use serde_json::Value as Json;

use super::dev::Validators;
use crate::failure::{Failure, Result};
use crate::local::Layout;
use crate::{screen, tools};

/// The flight whose record is changed: the first of the newest transaction of the table's most used carrier.
const VICTIM: &str = "select _lane, _seqno, _tx, tailnum from flights \
                      where tailnum is not null and carrier = 'UA' order by _lane, _seqno, _action limit 1";
/// The bit that is flipped.
const BIT: u8 = 1;

/// One stored flight.
struct Victim {
    position: Position,
    tx: Hash,
    action: Option<u32>,
    tailnum: String,
}

/// Changes one byte, shows what readers and `check` say, puts it back.
pub(crate) async fn run(layout: &Layout, client: &Client, validators: Validators) -> Result<()> {
    let victim = find_victim(client).await?;
    let record = record_of(client, &victim).await?;
    let (path, offset) = find_bytes(&layout.node(0), &victim, &record)?;
    let before = flip(&path, offset)?;
    tools::print(&screen::bold("Tampering: one bit of one stored byte"))?;
    tools::print(&format!(
        "  {} byte {offset}: the tail number {} of flight {} now reads {}",
        path.display(),
        victim.tailnum,
        victim.position,
        changed(&victim.tailnum),
    ))?;
    let proof = client.prove(&victim.tx, victim.action).await.map(|_| ());
    let read = follow_over(client, victim.position).await;
    let stopped = validators.stop().await;
    let checked = quipu_node::check(&layout.node(0), NonZeroUsize::MIN, |_| {});
    let restored = restore(&path, offset, before);
    let mut noticed = 0_u32;
    let mut tell = |who: &str, said: Option<String>| {
        noticed = noticed.saturating_add(u32::from(said.is_some()));
        let said = said.unwrap_or_else(|| "noticed nothing".into());
        tools::print(&format!("  {who:<24} {said}"))
    };
    tell("asking for its proof", proof.err().map(|error| Failure::from(error).to_string()))?;
    tell("following the stream", read.err().map(|failure| failure.to_string()))?;
    let findings = checked.map(|report| report.findings);
    tell(
        "quipu check",
        match findings {
            Ok(findings) if findings.is_empty() => None,
            Ok(findings) => {
                Some(findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
            }
            Err(error) => Some(error.to_string()),
        },
    )?;
    restored?;
    stopped?;
    tools::print("  the byte is put back")?;
    if noticed == 3 {
        return tools::print("Everyone noticed; nobody was given a wrong byte.");
    }
    Err(Failure::is_false(
        code::STORE_DAMAGED,
        format!("only {noticed} of 3 noticed the changed byte"),
    ))
}

async fn find_victim(client: &Client) -> Result<Victim> {
    let answer = client.sql(VICTIM).await?;
    let missing = || Failure::new(code::NO_STREAM, "the sample has no flight to tamper with");
    let row = answer.rows.first().ok_or_else(missing)?;
    let cell = |index: usize| match row.get(index) {
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let position = format!("{}:{}", cell(0), cell(1)).parse().map_err(|_| missing())?;
    let name = cell(2);
    let (tx, action) = match name.split_once(':') {
        Some((tx, action)) => (tx, action.parse().ok()),
        None => (name.as_str(), None),
    };
    Ok(Victim { position, tx: tx.parse().map_err(|_| missing())?, action, tailnum: cell(3) })
}

/// The flight as it is stored: its action, out of a proof that is still whole.
async fn record_of(client: &Client, victim: &Victim) -> Result<Vec<u8>> {
    let proof = client.prove(&victim.tx, Some(victim.action.unwrap_or(0))).await?;
    let wrong = |what: String| Failure::is_false(code::STORE_DAMAGED, what);
    let bundle = Bundle::from_json(&proof).map_err(|error| wrong(error.to_string()))?;
    let action = bundle.action.ok_or_else(|| wrong("the proof holds no action".into()))?;
    Ok(action.bytes.0.to_bytes())
}

/// Where the lane's files hold the flight's tail number; the last byte of it.
///
/// The record is looked for whole: other flights of the lane, and its plane, have the same tail number.
fn find_bytes(node: &Path, victim: &Victim, record: &[u8]) -> Result<(PathBuf, u64)> {
    let lane = node.join(format!("lanes/{:02}", victim.position.lane.get()));
    let files = std::fs::read_dir(&lane)
        .map_err(|error| Failure::file("cannot read the lane", &lane, error))?;
    let mut files: Vec<PathBuf> = files.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let tailnum = victim.tailnum.as_bytes();
    for path in files.into_iter().filter(|path| path.is_file()) {
        let bytes =
            std::fs::read(&path).map_err(|error| Failure::file("cannot read", &path, error))?;
        let start = find(&bytes, record)
            .and_then(|start| Some(start.saturating_add(find(record, tailnum)?)));
        if let Some(start) = start {
            let last = start.saturating_add(tailnum.len()).saturating_sub(1);
            return Ok((path, u64::try_from(last).unwrap_or(u64::MAX)));
        }
    }
    Err(Failure::new(
        code::STORE_DAMAGED,
        format!("{} holds no {}", lane.display(), victim.tailnum),
    ))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn changed(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= BIT;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| Failure::file("cannot open", path, error))
}

/// Flips one bit; gives the byte as it was.
fn flip(path: &Path, offset: u64) -> Result<u8> {
    let file = open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    let [before] = byte;
    file.write_all_at(&[before ^ BIT], offset)?;
    Ok(before)
}

fn restore(path: &Path, offset: u64, byte: u8) -> Result<()> {
    let file = open(path)?;
    file.write_all_at(&[byte], offset)?;
    Ok(file.sync_all()?)
}

/// Follows the stream until the changed transaction was read.
async fn follow_over(client: &Client, position: Position) -> Result<()> {
    let mut follow = Follow::new(client, "flights", FollowFrom::Start, false);
    while let Some(event) = follow.next().await? {
        if event.position == position.to_string() {
            return Ok(());
        }
    }
    Ok(())
}
