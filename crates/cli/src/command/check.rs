//! `quipu check`: reads everything a validator has stored and verifies it. Changes nothing.
//!
//! The work is done in a second process: after a crash the state has no seal, and LMDB may end the process that reads
//! its pages when they are damaged. Then that end is the finding.

use std::num::NonZeroUsize;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread::available_parallelism;

use quipu_node::Archived;
use quipu_types::code;
use serde_json::json;

use crate::args::Check;
use crate::failure::{Failure, Result};
use crate::{screen, tools};

/// Checks a validator's directory; damage exits 3.
pub(crate) fn run(args: &Check) -> Result<()> {
    if args.in_process {
        return check(args);
    }
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["check", "--in-process"]);
    for (flag, path) in
        [("--dir", &args.dir), ("--archive", &args.archive), ("--genesis", &args.genesis)]
    {
        if let Some(path) = path {
            child.arg(flag).arg(path);
        }
    }
    if let Some(count) = args.threads {
        child.args(["--threads", &count.to_string()]);
    }
    if args.json {
        child.arg("--json");
    }
    let status = child.status()?;
    if let Some(signal) = status.signal() {
        let message = format!(
            "state/data.mdb is damaged: reading its pages ended the reader with signal {signal}"
        );
        let help = "The state is derived: remove the directory `state`, and the next start makes it from the log.";
        return Err(Failure::is_false(code::STORE_DAMAGED, message).with_help(help));
    }
    let exit = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    if exit == 0 { Ok(()) } else { Err(Failure::reported(exit)) }
}

fn check(args: &Check) -> Result<()> {
    let bar = screen::spinner("checking");
    let tell = |what: &str| bar.set_message(format!("checking {what}"));
    let (findings, summary, place) = match (&args.archive, &args.genesis, &args.dir) {
        (Some(archive), Some(genesis), _) => {
            let report = quipu_node::check_archive(archive, genesis, tell)?;
            (report.findings, archive_summary(report.archived), archive)
        }
        (_, _, Some(dir)) => {
            let processors = || available_parallelism().unwrap_or(NonZeroUsize::MIN);
            let report = quipu_node::check(dir, args.threads.unwrap_or_else(processors), tell)?;
            let summary = report.summary();
            (report.findings, summary, dir)
        }
        _ => return Err(Failure::usage("give --dir, or --archive with --genesis")),
    };
    bar.finish_and_clear();
    let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
    if args.json {
        tools::print(&json!({ "clean": findings.is_empty(), "findings": findings }).to_string())?;
    } else {
        for finding in &findings {
            tools::print(finding)?;
        }
    }
    if findings.is_empty() {
        return if args.json { Ok(()) } else { tools::print(&summary) };
    }
    let message = format!("{} of what {} stores is damaged", findings.len(), place.display());
    Err(Failure::is_false(code::STORE_DAMAGED, message))
}

fn archive_summary(archived: Option<Archived>) -> String {
    archived.map_or(String::new(), |Archived { first, last, transaction_count }| {
        let count = screen::grouped(transaction_count);
        format!("clean: heights {first} to {last} with {count} transactions, every signature and certificate verified")
    })
}
