//! `quipu check`: reads everything a validator has stored and verifies it. Changes nothing.
//!
//! The work is done in a second process: after a crash the state has no seal, and LMDB may end the process that reads
//! its pages when they are damaged. Then that end is the finding.

use std::num::NonZeroUsize;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread::available_parallelism;

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
    child.args(["check", "--in-process", "--dir"]).arg(&args.dir);
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
    let processors = || available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let threads = args.threads.unwrap_or_else(processors);
    let report =
        quipu_node::check(&args.dir, threads, |what| bar.set_message(format!("checking {what}")));
    bar.finish_and_clear();
    let report = report?;
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    if args.json {
        tools::print(&json!({ "clean": findings.is_empty(), "findings": findings }).to_string())?;
    } else {
        for finding in &findings {
            tools::print(finding)?;
        }
    }
    if findings.is_empty() {
        return if args.json { Ok(()) } else { tools::print(&report.summary()) };
    }
    let message = format!("{} of what {} stores is damaged", findings.len(), args.dir.display());
    Err(Failure::is_false(code::STORE_DAMAGED, message))
}
