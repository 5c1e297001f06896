//! `quipu validators evidence`: what a validator keeps against others, judged by the genesis.

use std::path::Path;

use quipu_node::Config;
use quipu_node::evidence::{Misdeed, files, judge};
use quipu_types::{DecodeError, Genesis, code};
use serde_json::json;

use crate::args::validators::{ListEvidence, Validators};
use crate::failure::{Failure, Result};
use crate::{screen, tools};

/// Most bytes of a file: two chunk headers with full clocks are below it.
pub(crate) const EVIDENCE_SIZE_MAX: u64 = 4 << 20;

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
    let mut rows = Vec::new();
    let mut wrong_count = 0_usize;
    for path in &files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let found = read(path, &genesis);
        if let (Ok(_), Some(out)) = (&found, &args.out) {
            let to = out.join(&name);
            std::fs::copy(path, &to).map_err(|error| Failure::file("evidence", &to, error))?;
        }
        wrong_count = wrong_count.saturating_add(usize::from(found.is_err()));
        if args.json {
            tools::print(&as_json(&name, &found).to_string())?;
        }
        rows.push(match found {
            Ok(Misdeed { name: by, kind, place, .. }) => vec![by, kind.to_owned(), place, name],
            Err(failure) => {
                let nobody = "nobody".to_owned();
                vec![nobody, "damaged".to_owned(), failure.message().to_owned(), name]
            }
        });
    }
    if !args.json {
        tools::print(&report(&rows, args))?;
    }
    match wrong_count {
        0 => Ok(()),
        count => Err(Failure::is_false(
            code::PROOF_MALFORMED,
            format!("{count} of {} files name nobody", files.len()),
        )),
    }
}

fn report(rows: &[Vec<String>], args: &ListEvidence) -> String {
    if rows.is_empty() {
        return format!("{} keeps no evidence: it saw nobody break a rule", args.dir.display());
    }
    let head = ["validator", "signed twice", "where", "file"].map(str::to_owned);
    let mut out = screen::table(&head, rows);
    if let Some(to) = &args.out {
        out.push_str(&format!("\ncopied to {}; check with quipu verify --evidence", to.display()));
    }
    out.trim_end().to_owned()
}

fn as_json(file: &str, found: &Result<Misdeed>) -> serde_json::Value {
    match found {
        Ok(misdeed) => json!({
            "file": file, "valid": true, "validator": misdeed.name,
            "kind": misdeed.kind, "place": misdeed.place,
        }),
        Err(failure) => json!({ "file": file, "valid": false, "reason": failure.message() }),
    }
}

/// Whom a file names, and for what.
fn read(path: &Path, genesis: &Genesis) -> Result<Misdeed> {
    let of_file = |error: std::io::Error| Failure::file("evidence", path, error);
    if std::fs::metadata(path).map_err(of_file)?.len() > EVIDENCE_SIZE_MAX {
        return Err(Failure::file("evidence", path, "it is larger than evidence can be"));
    }
    named(&std::fs::read(path).map_err(of_file)?, path, genesis)
}

/// Whom the bytes of a file name, and for what.
///
/// # Errors
/// Exit 3 when they name nobody.
pub(crate) fn named(bytes: &[u8], path: &Path, genesis: &Genesis) -> Result<Misdeed> {
    let misdeed = judge(bytes, genesis).map_err(|error| malformed(path, &error))?;
    misdeed.ok_or_else(|| {
        let what = format!(
            "{} names nobody: what it holds is not two things that one validator of this genesis signed and no honest one signs both",
            path.display()
        );
        Failure::is_false(code::PROOF_MALFORMED, what)
    })
}

/// A file that is no evidence.
pub(crate) fn malformed(path: &Path, error: &DecodeError) -> Failure {
    Failure::new(code::PROOF_MALFORMED, format!("{}: {error}", path.display()))
        .with_help("The file is no evidence, or was changed after it was kept.")
}
