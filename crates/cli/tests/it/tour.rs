//! `docs/tour.md` runs as it stands: every `sh` block in order, in one shell, against what stands under it.

use std::fmt::Write as _;
use std::process::Command;

use crate::harness::QUIPU;

#[derive(Debug)]
struct Block {
    line: usize,
    script: String,
    /// What it prints, with `…` for what differs.
    output: Option<String>,
}

/// The blocks of a document: each `sh`, with the `text` that follows it.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<(&str, usize, String)> = None;
    for (line, number) in text.lines().zip(1..) {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(kind)) => open = Some((kind, number, String::new())),
            (Some((_, _, body)), None) => {
                body.push_str(line);
                body.push('\n');
            }
            (Some(_), Some(_)) => match open.take() {
                Some(("sh", line, script)) => blocks.push(Block { line, script, output: None }),
                Some(("text", _, output)) => {
                    if let Some(block) = blocks.last_mut() {
                        block.output = Some(output);
                    }
                }
                _ => {}
            },
            (None, None) => {}
        }
    }
    blocks
}

/// Whether `text` is `pattern`, in which `…` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let parts: Vec<&str> = pattern.trim_end().split('…').collect();
    let text = text.trim_end();
    let [first, middle @ .., last] = parts.as_slice() else { return pattern.trim_end() == text };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for part in middle {
        let Some(found) = rest.find(part) else { return false };
        rest = &rest[found + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn a_pattern_with_holes_matches_what_fills_them() {
    assert!(matches("a…c\n", "abc") && matches("…", "any\nthing") && matches("ab", "ab\n"));
    assert!(matches("…|1|…:0", "12|1|0|t|ff:0") && matches("QP…\n", "QP1: x\n\ny"));
    assert!(!matches("a…c", "abd") && !matches("ab", "abc") && !matches("a…b…c", "ac"));
}

#[test]
fn every_command_of_the_tour_does_what_it_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/tour.md");
    let blocks = blocks(&std::fs::read_to_string(path).unwrap());
    assert!(blocks.len() >= 5, "the tour has {} blocks", blocks.len());
    let dir = tempfile::tempdir().unwrap();
    let mut script = String::from(
        "set -e\ntrap 'code=$?; kill $(jobs -p) 2>/dev/null || true; wait; exit $code' EXIT\n",
    );
    for (index, block) in blocks.iter().enumerate() {
        writeln!(script, "exec >out.{index} 2>&1").unwrap();
        script.push_str(&block.script);
        writeln!(script, "echo done >done.{index}").unwrap();
    }
    let folder = std::path::Path::new(QUIPU).parent().unwrap().display();
    let found = std::env::var("PATH").unwrap();
    let status = Command::new("bash")
        .args(["-c", &script])
        .current_dir(dir.path())
        .env("PATH", format!("{folder}:{found}"))
        .env("NO_COLOR", "1")
        .status()
        .unwrap();
    for (index, block) in blocks.iter().enumerate() {
        let read = |name: &str| std::fs::read_to_string(dir.path().join(format!("{name}.{index}")));
        let Ok(printed) = read("out") else { panic!("line {}: never ran", block.line) };
        assert!(read("done").is_ok(), "line {}: {}\nfailed: {printed}", block.line, block.script);
        if let Some(wanted) = &block.output {
            assert!(
                matches(wanted, &printed),
                "line {}: wanted\n{wanted}\nprinted\n{printed}",
                block.line
            );
        }
    }
    assert!(status.success(), "{status}");
}
