//! `quipu check`: reads everything a validator has stored and verifies it. Changes nothing.

use quipu_types::code;
use serde_json::json;

use crate::args::Check;
use crate::failure::{Failure, Result};
use crate::{screen, tools};

/// Checks a validator's directory; damage exits 3.
pub(crate) fn run(args: &Check) -> Result<()> {
    let bar = screen::spinner("checking");
    let report = quipu_node::check(&args.dir, |what| bar.set_message(format!("checking {what}")));
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
