//! `cargo run -p xtask -- tidy`: print what is untidy and leave with 1 if anything is.

use std::process::ExitCode;

use anyhow::{Context, bail};
use xtask::{RULES, Tree};

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["tidy"] => tidy(),
        other => bail!("unknown task {other:?}; known: tidy"),
    }
}

fn tidy() -> anyhow::Result<ExitCode> {
    let tree = Tree::of_this_repository().context("reading the repository")?;
    let mut count = 0usize;
    for rule in RULES {
        let violations = (rule.check)(&tree);
        let mark = if violations.is_empty() { "ok  " } else { "FAIL" };
        println!("{mark} {}", rule.name);
        for violation in &violations {
            println!("  {violation}");
        }
        count = count.saturating_add(violations.len());
    }
    println!("{count} violations");
    Ok(if count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
