//! What the sources must look like.
//!
//! Rules about code look at [`code_only`], in which comments and literals are blank, so prose may
//! speak of what code must not do. Rules about paths and hosts look at every text file whole.
//!
//! # Deviations
//! The needles of the path and host rules are written in two halves, or this file would be named
//! by them.

use crate::{Tree, Violation, tree::numbered};

/// No Rust file has more lines. There is no list of exceptions: split the file.
pub const LINE_COUNT_MAX: usize = 1_000;

/// The only files that may lift `unsafe_code`, each with a safe twin or a stated reason.
pub const UNSAFE_FILES: &[&str] = &[
    "crates/accel/src/gpu/cuda.rs",
    "crates/accel/src/gpu/host.rs",
    "crates/accel/src/many/avx512.rs",
    "crates/accel/src/sha256/avx2.rs",
    "crates/accel/src/sha256/avx512.rs",
    "crates/accel/src/sha256/shani.rs",
    "crates/node/src/store.rs",
];

/// Words that mean "not finished", or a test that does not judge.
const BANNED: &[(&str, &str)] = &[
    ("todo!", "finish it"),
    ("unimplemented!", "finish it"),
    ("dbg!", "remove it, or log an event with fields"),
    ("#[ignore", "make the test fast or remove it; a test that does not run judges nothing"),
    ("#[should_panic", "assert on the error that is returned"),
];

/// What a test must not wait by, or be called.
const TEST_HABITS: &[(&str, &str)] = &[
    ("thread::sleep", "wait for the event itself, with a deadline, or pass the time in"),
    ("time::sleep", "wait for the event itself, with a deadline, or pass the time in"),
    ("fn test_", "name the test with a sentence about behaviour"),
];

/// Folders that exist on one machine only.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Use", "rs/")];

/// Where packages come from is a matter of who builds, not of the repository.
const PACKAGE_HOSTS: &[&str] = &[
    concat!("index.cra", "tes.io"),
    concat!("static.cra", "tes.io"),
    concat!("py", "pi.org"),
    concat!("python", "hosted.org"),
    concat!("deb.de", "bian.org"),
    concat!("--index", "-url"),
    concat!("--extra-index", "-url"),
    concat!("replace", "-with"),
    concat!("[sou", "rce."),
    concat!("[regis", "tries"),
];

/// The one source that Cargo.lock may name.
const LOCK_SOURCE: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";

/// The same text, line by line and column by column, with comments and literals blank.
pub fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let inert = inert_size(rest);
        if inert == 0 {
            code.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        } else {
            let (gone, left) = rest.split_at_checked(inert).unwrap_or((rest, ""));
            code.extend(gone.chars().map(|c| if c == '\n' { c } else { ' ' }));
            rest = left;
        }
    }
    code
}

/// Size of the comment or literal that `rest` begins with; `0` if it begins with code.
fn inert_size(rest: &str) -> usize {
    if rest.starts_with("//") {
        rest.find('\n').unwrap_or(rest.len())
    } else if rest.starts_with("/*") {
        block_comment_size(rest)
    } else if rest.starts_with('"') {
        string_size(rest)
    } else if rest.starts_with('r') {
        raw_string_size(rest)
    } else if rest.starts_with('\'') {
        char_size(rest)
    } else {
        0
    }
}

fn block_comment_size(rest: &str) -> usize {
    let mut depth = 0usize;
    let mut size = 0usize;
    while let Some(left) = rest.get(size..).filter(|left| !left.is_empty()) {
        let step = if left.starts_with("/*") {
            depth = depth.saturating_add(1);
            2
        } else if left.starts_with("*/") {
            depth = depth.saturating_sub(1);
            2
        } else {
            left.chars().next().map_or(1, char::len_utf8)
        };
        size = size.saturating_add(step);
        if depth == 0 {
            return size;
        }
    }
    rest.len()
}

fn string_size(rest: &str) -> usize {
    let mut escaped = false;
    for (index, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return index.saturating_add(1),
            _ => {}
        }
    }
    rest.len()
}

fn raw_string_size(rest: &str) -> usize {
    let after_r = rest.get(1..).unwrap_or_default();
    let body = after_r.trim_start_matches('#');
    let hashes = "#".repeat(after_r.len().saturating_sub(body.len()));
    if !body.starts_with('"') {
        return 0; // an identifier
    }
    let opening = hashes.len().saturating_add(2);
    let closing = format!("\"{hashes}");
    let end = rest.get(opening..).and_then(|body| body.find(&closing));
    end.map_or(rest.len(), |at| opening.saturating_add(at).saturating_add(closing.len()))
}

/// A character literal has its closing quote; a lifetime has none.
fn char_size(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            chars.next();
            chars.find(|(_, c)| *c == '\'').map_or(0, |(index, _)| index.saturating_add(1))
        }
        Some(_) => match chars.next() {
            Some((index, '\'')) => index.saturating_add(1),
            _ => 0,
        },
        None => 0,
    }
}

/// Files have at most [`LINE_COUNT_MAX`] lines.
pub fn file_length(tree: &Tree) -> Vec<Violation> {
    let counted = tree.sources().map(|(path, text)| (path, text.lines().count()));
    let long = counted.filter(|(_, count)| *count > LINE_COUNT_MAX);
    long.map(|(path, count)| {
        let fix = "split it by what its parts are about";
        Violation::new(path, count, format!("{count} lines, at most {LINE_COUNT_MAX}"), fix)
    })
    .collect()
}

/// Every source opens with `//!`: its purpose, and for a module of weight its mini-spec.
pub fn headers(tree: &Tree) -> Vec<Violation> {
    let silent = tree.sources().filter(|(_, text)| !text.starts_with("//! "));
    silent
        .map(|(path, _)| {
            let fix = "open it with `//! ` and its purpose in one sentence";
            Violation::new(path, 1, "does not say what it is for", fix)
        })
        .collect()
}

fn findings(path: &str, line: (usize, &str), words: &[(&str, &str)]) -> Vec<Violation> {
    let (number, text) = line;
    let present = words.iter().filter(|(word, _)| holds_word(text, word));
    present.map(|(word, fix)| Violation::new(path, number, format!("`{word}`"), *fix)).collect()
}

/// `needle` stands in `text`, not as the tail of a longer word.
fn holds_word(text: &str, needle: &str) -> bool {
    text.match_indices(needle).any(|(at, _)| {
        let before = text.get(..at).and_then(|head| head.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// Nothing in the code says "later", and no test is switched off.
pub fn banned_words(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, text) in tree.sources() {
        let code = code_only(text);
        found.extend(numbered(&code).flat_map(|line| findings(path, line, BANNED)));
    }
    found
}

/// Tests do not sleep, and are called what they show.
pub fn test_habits(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, text) in tree.sources() {
        let code = code_only(text);
        let first = first_test_line(path, &code);
        let tests = numbered(&code).filter(|(line, _)| first.is_some_and(|first| *line >= first));
        found.extend(tests.flat_map(|line| findings(path, line, TEST_HABITS)));
    }
    found
}

/// Where a file's test code begins: a test module is the last thing in a file.
fn first_test_line(path: &str, code: &str) -> Option<usize> {
    if path.contains("/tests/") || path.ends_with("/tests.rs") {
        return Some(1);
    }
    let mut awaited = None;
    for (number, line) in numbered(code).map(|(number, line)| (number, line.trim())) {
        if line.starts_with("#[cfg(test)]") {
            awaited = Some(number);
        } else if awaited.is_some() && line.starts_with("mod ") && line.ends_with('{') {
            return awaited;
        } else if !line.is_empty() && !line.starts_with("#[") {
            awaited = None;
        }
    }
    None
}

/// Only [`UNSAFE_FILES`] lift the lint, and each of them does.
pub fn unsafe_files(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, text) in tree.sources().filter(|(path, _)| !UNSAFE_FILES.contains(path)) {
        let code = code_only(text);
        let lifting = numbered(&code).filter(|(_, line)| lifts_unsafe(line));
        found.extend(lifting.map(|(line, _)| {
            let fix = "write it safely, or argue for the file in xtask's UNSAFE_FILES";
            Violation::new(path, line, "lifts `unsafe_code`", fix)
        }));
    }
    let lifts = |path: &str| tree.text(path).is_some_and(|text| lifts_unsafe(&code_only(text)));
    let stale = UNSAFE_FILES.iter().filter(|path| !lifts(path));
    found.extend(stale.map(|path| {
        let what = "is listed in UNSAFE_FILES and lifts nothing";
        Violation::new(*path, 0, what, "take it off the list in crates/xtask/src/source.rs")
    }));
    found
}

fn lifts_unsafe(code: &str) -> bool {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == "unsafe_code")
}

/// No file of the repository knows a folder of the machine it was written on.
pub fn machine_paths(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (path, text) in tree.texts() {
        for (line, text) in numbered(text) {
            let known = MACHINE_PATHS.iter().filter(|needle| holds_path(text, needle));
            found.extend(known.map(|needle| {
                let fix = "use a path from the repository's root, $HOME or a temporary folder";
                Violation::new(path, line, format!("a machine's path, {needle}"), fix)
            }));
        }
    }
    found
}

/// `needle` begins a path, rather than continuing one (`docs/work/x`).
fn holds_path(text: &str, needle: &str) -> bool {
    text.match_indices(needle).any(|(at, _)| {
        let before = text.get(..at).and_then(|head| head.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || "_-.}~*".contains(c))
    })
}

/// Manifests, scripts and sources name no package host or mirror; the lock file one registry.
pub fn package_hosts(tree: &Tree) -> Vec<Violation> {
    let fix = "leave it to the configuration of the machine that builds";
    let mut found = Vec::new();
    for (path, text) in tree.texts().filter(|(path, _)| !path.ends_with(".md")) {
        for (line, text) in numbered(text) {
            let known = PACKAGE_HOSTS.iter().filter(|host| text.contains(**host));
            found
                .extend(known.map(|host| Violation::new(path, line, format!("names {host}"), fix)));
        }
    }
    for (path, lock) in tree.locks() {
        let foreign = numbered(lock)
            .filter(|(_, line)| line.starts_with("source = ") && *line != LOCK_SOURCE)
            .map(|(line, text)| Violation::new(path, line, format!("another {text}"), fix));
        found.extend(foreign);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(path: &str, text: &str) -> Tree {
        Tree::planted(&[(path, text)])
    }

    fn places(violations: Vec<Violation>) -> Vec<String> {
        violations.into_iter().map(|v| format!("{}: {}", v.line, v.what)).collect()
    }

    #[test]
    fn code_only_blanks_comments_and_literals_and_keeps_every_place() {
        let text = concat!(
            "a // todo!\n",
            "b /* x /* y */ z */ c\n",
            "d \"q\\\"\n\" e r#\"\"todo!\"# f b\"g\" br\"\\\" h\n",
            "i '\"' 'j' '\\'' '\\u{1F}' &'static k r#type\n",
        );
        let expected = concat!(
            "a         \n",
            "b                   c\n",
            "d     \n  e             f b    b     h\n",
            "i                       &'static k r#type\n",
        );
        assert_eq!(code_only(text), expected);
    }

    #[test]
    fn code_only_ends_on_unfinished_literals() {
        for text in ["\"abc", "/* abc", "r#\"abc", "'", "'\\", "'\\u", "r", "\"\\"] {
            assert_eq!(code_only(text).len(), text.len(), "{text}");
        }
    }

    #[test]
    fn a_file_of_a_thousand_lines_passes_and_one_more_does_not() {
        let path = "crates/types/src/lib.rs";
        assert_eq!(file_length(&one(path, &"\n".repeat(1_000))), []);
        assert_eq!(
            places(file_length(&one(path, &"\n".repeat(1_001)))),
            ["1001: 1001 lines, at most 1000"]
        );
    }

    #[test]
    fn a_file_without_a_header_is_named() {
        assert_eq!(headers(&one("crates/types/src/lib.rs", "use std::fmt;\n")).len(), 1);
        assert_eq!(headers(&one("crates/types/src/lib.rs", "//! Names.\n")).len(), 0);
    }

    #[test]
    fn unfinished_code_and_switched_off_tests_are_named_and_prose_is_not() {
        let text =
            "// todo!\nfn a() { todo!() }\n#[ignore = \"slow\"]\nlet x = \"dbg!\"; dbg!(x);\n";
        assert_eq!(
            places(banned_words(&one("crates/types/src/lib.rs", text))),
            ["2: `todo!`", "3: `#[ignore`", "4: `dbg!`"]
        );
    }

    #[test]
    fn a_sleep_is_named_in_tests_alone() {
        let text = concat!(
            "#[cfg(test)]\nuse x::y;\nfn driver() { thread::sleep(d); }\n",
            "#[cfg(test)]\nmod tests {\n    fn a() { std::thread::sleep(d); }\n",
            "    fn test_b() {}\n}\n",
        );
        assert_eq!(
            places(test_habits(&one("crates/node/src/lib.rs", text))),
            ["6: `thread::sleep`", "7: `fn test_`"]
        );
        let whole = "async fn a() { tokio::time::sleep(d).await }\n";
        assert_eq!(test_habits(&one("crates/node/tests/it.rs", whole)).len(), 1);
    }

    #[test]
    fn unsafe_outside_the_named_files_is_named_and_so_is_a_stale_name() {
        let lifting = "//! x\n#![expect(unsafe_code, reason = \"r\")]\n";
        let mut files: Vec<(&str, &str)> =
            UNSAFE_FILES.iter().map(|path| (*path, lifting)).collect();
        assert_eq!(unsafe_files(&Tree::planted(&files)), []);
        files.push(("crates/node/src/lib.rs", lifting));
        files.push(("crates/cli/src/main.rs", "//! x\nfn unsafe_code_is_elsewhere() {}\n"));
        assert_eq!(places(unsafe_files(&Tree::planted(&files))), ["2: lifts `unsafe_code`"]);
        assert_eq!(unsafe_files(&Tree::planted(&[])).len(), UNSAFE_FILES.len());
    }

    #[test]
    fn a_machines_path_is_named_in_any_file_and_a_longer_path_is_not() {
        for needle in MACHINE_PATHS {
            let tree = one("scripts/x", &format!("cd {needle}main\n"));
            assert_eq!(machine_paths(&tree).len(), 1, "{needle}");
            let tree = one("README.md", &format!("see docs{needle}main\n"));
            assert_eq!(machine_paths(&tree).len(), 0, "{needle}");
        }
    }

    #[test]
    fn a_package_host_is_named_outside_prose_and_a_mirror_in_the_lock_file_too() {
        for host in PACKAGE_HOSTS {
            let text = format!("x {host} y\n");
            assert_eq!(package_hosts(&one("scripts/setup", &text)).len(), 1, "{host}");
            assert_eq!(package_hosts(&one("docs/x.md", &text)).len(), 0, "{host}");
        }
        let lock = format!("{LOCK_SOURCE}\nsource = \"registry+https://example.org/index\"\n");
        for path in ["Cargo.lock", "benches/peers/Cargo.lock"] {
            assert_eq!(package_hosts(&one(path, &lock)).len(), 1, "{path}");
        }
    }
}
