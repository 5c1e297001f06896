//! `quipu validators evidence`: what a validator keeps against others, judged by the genesis and the hand-overs that follow.

use std::path::Path;

use quipu_node::Config;
use quipu_node::evidence::{FollowError, Misdeed, files, followed, judge};
use quipu_proof::{Committed, Handovers, Pinned};
use quipu_types::{DecodeError, Encode, Genesis, code};
use serde_json::json;

use crate::args::validators::{ListEvidence, Validators};
use crate::failure::{Failure, Result};
use crate::local::write_atomically;
use crate::{screen, tools};

/// Most bytes of a file: two chunk headers with full clocks are below it.
const EVIDENCE_SIZE_MAX: usize = 4 << 20;
/// What the hand-overs are called beside the proofs that need them.
const EPOCHS_FILE: &str = "epochs";

pub(crate) fn run(args: &Validators) -> Result<()> {
    match args {
        Validators::Evidence(args) => evidence(args),
    }
}

/// Lists the files, and copies those that hold. One that does not exits 3.
fn evidence(args: &ListEvidence) -> Result<()> {
    let own = || Ok::<_, Failure>(Config::read(&args.dir)?.genesis);
    let genesis = tools::genesis(&args.genesis.clone().map_or_else(own, Ok)?)?;
    let files = files(&args.dir).map_err(|error| Failure::file("evidence", &args.dir, error))?;
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out).map_err(|error| Failure::file("directory", out, error))?;
    }
    let pinned = known(&args.dir, &genesis)?;
    let mut rows = Vec::new();
    let (mut wrong_count, mut last_epoch) = (0_usize, 0);
    for path in &files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let found = tools::read_bytes(path, "evidence", EVIDENCE_SIZE_MAX)
            .and_then(|bytes| named(&bytes, path, &genesis, &pinned));
        last_epoch = found.as_ref().map_or(last_epoch, |misdeed| last_epoch.max(misdeed.epoch));
        if let (Ok(_), Some(out)) = (&found, &args.out) {
            let to = out.join(&name);
            std::fs::copy(path, &to).map_err(|error| Failure::file("evidence", &to, error))?;
        }
        wrong_count = wrong_count.saturating_add(usize::from(found.is_err()));
        if args.json {
            tools::print(&as_json(&name, &found).to_string())?;
        }
        rows.push(match found {
            Ok(Misdeed { name: by, epoch, kind, place, .. }) => {
                vec![by, kind.to_owned(), place, epoch.to_string(), name]
            }
            Err(failure) => {
                let reason = failure.message().to_owned();
                vec!["nobody".to_owned(), "damaged".to_owned(), reason, String::new(), name]
            }
        });
    }
    if let Some(out) = args.out.as_ref().filter(|_| last_epoch > 0) {
        let before = pinned.handovers(0).map(|one| Committed::clone(one));
        let handovers = before.filter(|one| one.header.0.epoch < last_epoch).collect();
        write_atomically(&out.join(EPOCHS_FILE), Handovers(handovers).to_bytes())?;
    }
    if !args.json {
        tools::print(&report(&rows, args, last_epoch > 0))?;
    }
    match wrong_count {
        0 => Ok(()),
        count => Err(Failure::is_false(
            code::PROOF_MALFORMED,
            format!("{count} of {} files name nobody", files.len()),
        )),
    }
}

fn report(rows: &[Vec<String>], args: &ListEvidence, needs_epochs: bool) -> String {
    if rows.is_empty() {
        return format!("{} keeps no evidence: it saw nobody break a rule", args.dir.display());
    }
    let head = ["validator", "kind", "where", "epoch", "file"].map(str::to_owned);
    let mut out = screen::table(&head, rows);
    if let Some(to) = &args.out {
        out.push_str(&format!("\ncopied to {}; check with quipu verify --evidence", to.display()));
        if needs_epochs {
            out.push_str(&format!(" --epochs {}", to.join(EPOCHS_FILE).display()));
        }
    }
    out.trim_end().to_owned()
}

fn as_json(file: &str, found: &Result<Misdeed>) -> serde_json::Value {
    match found {
        Ok(misdeed) => json!({
            "file": file, "valid": true, "validator": misdeed.name, "key": misdeed.key.to_string(),
            "epoch": misdeed.epoch, "kind": misdeed.kind, "place": misdeed.place,
        }),
        Err(failure) => json!({ "file": file, "valid": false, "reason": failure.message() }),
    }
}

/// Who votes by the genesis and by what the directory keeps of how epochs ended.
fn known(dir: &Path, genesis: &Genesis) -> Result<Pinned> {
    followed(dir, genesis).map_err(|error| match error {
        FollowError::False(error) => {
            Failure::is_false(code::PROOF_FALSE, format!("{}: {error}", dir.display()))
        }
        error => Failure::file("the hand-overs", dir, error),
    })
}

/// Whom the bytes of a file name, and for what.
///
/// # Errors
/// Exit 3 when they name nobody.
pub(crate) fn named(
    bytes: &[u8],
    path: &Path,
    genesis: &Genesis,
    pinned: &Pinned,
) -> Result<Misdeed> {
    let misdeed = judge(bytes, genesis, pinned).map_err(|error| malformed(path, &error))?;
    misdeed.ok_or_else(|| {
        let what = format!(
            "{} names nobody: what it holds is not signed by one validator of this ledger, up to epoch {}, as no honest one signs",
            path.display(),
            pinned.epoch()
        );
        Failure::is_false(code::PROOF_MALFORMED, what)
            .with_help("Evidence of a later epoch needs the hand-overs up to it: --epochs FILE.")
    })
}

/// A file that is no evidence.
pub(crate) fn malformed(path: &Path, error: &DecodeError) -> Failure {
    Failure::new(code::PROOF_MALFORMED, format!("{}: {error}", path.display()))
        .with_help("The file is no evidence, or was changed after it was kept.")
}
