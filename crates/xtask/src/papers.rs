//! What the documents and the sample must keep: codes, decisions, hashes.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::{Tree, Violation, tree::numbered};

/// Where the table behind `quipu explain` lives: `codes! { 101 NAME "title" "text" … }`.
const CODE_TABLE: &str = "crates/types/src/code.rs";

/// What every decision says, in this order.
const DECISION_PARTS: &[&str] =
    &["## Context", "## Decision", "## Alternatives", "## Numbers", "## Consequences"];

/// The codes in a text: `QP` and exactly four digits.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("QP").filter_map(|(at, _)| {
        let code = text.get(at..at.checked_add(6)?)?;
        let tail = text.get(at.checked_add(6)?..)?;
        let digits = code.get(2..)?.bytes().all(|byte| byte.is_ascii_digit());
        let longer = tail.starts_with(|c: char| c.is_ascii_alphanumeric());
        (digits && !longer).then_some(code)
    })
}

/// The table's entries: line, code and name.
fn entries(text: &str) -> impl Iterator<Item = (usize, String, &str)> {
    let body = numbered(text)
        .skip_while(|(_, line)| !line.starts_with("codes! {"))
        .take_while(|(_, line)| *line != "}");
    body.filter_map(|(line, text)| {
        let mut words = text.split_whitespace();
        let number: u16 = words.next()?.parse().ok()?;
        let name = words.next()?;
        let is_name = name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        is_name.then(|| (line, format!("{}{number:04}", "QP"), name))
    })
}

/// A code and a name mean one thing each, and every code that a file speaks of is in the table.
pub fn error_codes(tree: &Tree) -> Vec<Violation> {
    let mut codes_seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut names_seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for (line, code, name) in entries(tree.text(CODE_TABLE).unwrap_or_default()) {
        if let Some(earlier) = codes_seen.insert(code.clone(), line) {
            let what = format!("{code} already has a meaning, on line {earlier}");
            found.push(Violation::new(CODE_TABLE, line, what, "give it a number of its own"));
        }
        if let Some(earlier) = names_seen.insert(name, line) {
            let what = format!("{name} already has a number, on line {earlier}");
            found.push(Violation::new(CODE_TABLE, line, what, "give it a name of its own"));
        }
    }
    let elsewhere = tree.texts().filter(|(path, _)| ![CODE_TABLE, "Cargo.lock"].contains(path));
    for (path, text) in elsewhere {
        for (line, text) in numbered(text) {
            let unknown = codes(text).filter(|code| !codes_seen.contains_key(*code));
            let unknown: BTreeSet<&str> = unknown.collect();
            found.extend(unknown.iter().map(|code| {
                let what = format!("`quipu explain {code}` would know nothing");
                Violation::new(path, line, what, format!("list it in {CODE_TABLE}"))
            }));
        }
    }
    found
}

/// Decisions have numbers of their own and say the five things a decision says.
pub fn decisions(tree: &Tree) -> Vec<Violation> {
    let mut numbers: BTreeMap<&str, &str> = BTreeMap::new();
    let mut found = Vec::new();
    for (path, text) in tree.texts() {
        let Some(name) = path.strip_prefix("docs/decisions/") else { continue };
        let number = name.get(..5).filter(|head| {
            head.ends_with('-') && head.bytes().take(4).all(|byte| byte.is_ascii_digit())
        });
        let Some(number) = number else {
            let fix = "call it `0007-what-was-decided.md`";
            found.push(Violation::new(path, 0, "a decision without a number", fix));
            continue;
        };
        if let Some(earlier) = numbers.insert(number, path) {
            let what = format!("its number is taken by {earlier}");
            found.push(Violation::new(path, 0, what, "take the next free number"));
        }
        let missing = DECISION_PARTS.iter().filter(|part| !text.lines().any(|l| l == **part));
        found.extend(missing.map(|part| {
            let fix = "see docs/decisions/0000-template.md";
            Violation::new(path, 0, format!("has no part `{part}`"), fix)
        }));
    }
    found
}

/// One row of data/README.md: `| \`file\` | rows | \`sha256\` |`.
fn sample_rows(text: &str) -> BTreeMap<&str, (usize, &str, &str)> {
    let mut rows = BTreeMap::new();
    for (line, text) in numbered(text) {
        let cells: Vec<&str> = text.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        if let ["", file, count, hash, ..] = cells.as_slice()
            && hash.len() == 64
        {
            rows.insert(*file, (line, *count, *hash));
        }
    }
    rows
}

/// The files of `data/` are those that its README describes, byte for byte.
pub fn sample(tree: &Tree) -> Vec<Violation> {
    const PAPER: &str = "data/README.md";
    let rows = sample_rows(tree.text(PAPER).unwrap_or_default());
    let mut found = Vec::new();
    for (file, (line, count, hash)) in &rows {
        let path = format!("data/{file}");
        let Some(bytes) = tree.bytes(&path) else {
            let what = format!("describes {file}, which is not there");
            found.push(Violation::new(PAPER, *line, what, "restore the file"));
            continue;
        };
        let actual = hex::encode(Sha256::digest(bytes));
        if actual != *hash {
            let what = format!("{file} has SHA-256 {actual}, not {hash}");
            found.push(Violation::new(PAPER, *line, what, "restore the file it describes"));
        }
        let lines = tree.text(&path).map(|text| text.lines().count().saturating_sub(1).to_string());
        if lines.is_some_and(|lines| lines != count.replace(',', "")) {
            let what = format!("{file} does not have {count} rows");
            found.push(Violation::new(PAPER, *line, what, "count again"));
        }
    }
    let strays = tree.paths().filter_map(|path| path.strip_prefix("data/"));
    let strays = strays.filter(|file| *file != "README.md" && !rows.contains_key(file));
    found.extend(strays.map(|file| {
        let fix = "describe its origin, licence, rows and hash in data/README.md";
        Violation::new(format!("data/{file}"), 0, "comes from nowhere", fix)
    }));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(number: u16) -> String {
        format!("{}{number:04}", "QP")
    }

    fn places(violations: Vec<Violation>) -> Vec<String> {
        violations.into_iter().map(|v| format!("{}:{}", v.file, v.line)).collect()
    }

    fn table(entries: &str) -> String {
        format!("macro_rules! codes {{\n}}\ncodes! {{\n{entries}}}\n9 AFTER \"x\"\n")
    }

    #[test]
    fn a_code_that_explain_does_not_know_is_named() {
        let table = table("    1 A \"x\"\n      \"text.\"\n");
        let user = format!("let a = \"{}\";\n// {} or {}\n", code(1), code(2), code(9));
        let tree = Tree::planted(&[(CODE_TABLE, &table), ("crates/node/src/lib.rs", &user)]);
        let place = "crates/node/src/lib.rs:2";
        assert_eq!(places(error_codes(&tree)), [place, place]);
    }

    #[test]
    fn a_code_without_any_table_is_named() {
        let tree = Tree::planted(&[("README.md", &format!("error {}\n", code(7)))]);
        assert_eq!(places(error_codes(&tree)), ["README.md:1"]);
    }

    #[test]
    fn a_code_or_a_name_with_two_meanings_is_named() {
        let table = table("3 A \"x\"\n3 B \"x\"\n4 A \"x\"\n");
        let tree = Tree::planted(&[(CODE_TABLE, &table)]);
        assert_eq!(
            places(error_codes(&tree)),
            [format!("{CODE_TABLE}:5"), format!("{CODE_TABLE}:6")]
        );
    }

    #[test]
    fn the_table_of_this_repository_is_read() {
        let tree = Tree::of_this_repository().expect("the repository can be read");
        let count = entries(tree.text(CODE_TABLE).expect("the table is there")).count();
        assert!(count >= 10, "only {count} entries seen: the table has another form now");
    }

    #[test]
    fn only_four_digits_make_a_code() {
        let text = format!("{} QP12 {}5 QPnnnn xQP", code(1), code(1234));
        assert_eq!(codes(&text).collect::<Vec<_>>(), [code(1)]);
    }

    #[test]
    fn a_decision_with_a_taken_number_no_number_or_a_part_missing_is_named() {
        let whole = DECISION_PARTS.join("\n");
        let tree = Tree::planted(&[
            ("docs/decisions/0001-a.md", &whole),
            ("docs/decisions/0001-b.md", &whole),
            ("docs/decisions/0002-c.md", "## Context\n## Decision\n## Alternatives\n## Numbers\n"),
            ("docs/decisions/notes.md", &whole),
        ]);
        assert_eq!(
            places(decisions(&tree)),
            [
                "docs/decisions/0001-b.md:0",
                "docs/decisions/0002-c.md:0",
                "docs/decisions/notes.md:0",
            ]
        );
    }

    #[test]
    fn a_sample_file_changed_missing_or_undescribed_is_named() {
        let good = "h\n1\n";
        let hash = hex::encode(Sha256::digest(good));
        let row = |file: &str, count: u32| format!("| `{file}` | {count} | `{hash}` | x |\n");
        let paper = format!("{}{}{}{}", row("a", 1), row("b", 1), row("c", 1), row("d", 7));
        let tree = Tree::planted(&[
            ("data/README.md", &paper),
            ("data/a", good),
            ("data/b", "h\n2\n"),
            ("data/d", good),
            ("data/e", "x"),
        ]);
        let expected = ["data/README.md:2", "data/README.md:3", "data/README.md:4", "data/e:0"];
        assert_eq!(places(sample(&tree)), expected);
    }
}
