//! Say what is untidy in this repository, as a list of places with a fix for each.
//!
//! Every rule is a function from the tree of files to its violations. The rules run as tests
//! (`tests/it.rs`), so the one test command is the whole truth; `cargo run -p xtask -- tidy` prints
//! the same list for people.
//!
//! ```text
//!  files --> [ Tree ] --+--> manifest: floors, forbidden edges, lints, documented dependencies
//!                       +--> sources:  length, headers, banned words, unsafe, machine paths
//!                       +--> papers:   error codes, decisions, the sample's hashes
//!  cargo --> [ text ] -----> shell:    formatting, one feature set for both commands
//! ```
//!
//! # Invariants
//! * I1 A rule never writes, and reads only the tree it is given (`shell` asks cargo, read-only).
//! * I2 Every rule has a test in its module that it names a planted violation.
//! * I3 The order of the answers is the order of paths: two runs print the same bytes.
//!
//! # Limits
//! Only the folders in [`tree::ROOTS`] and the files beside them are read. Sources are read by a
//! small lexer that knows comments and literals, not by a parser.

pub mod manifest;
pub mod papers;
pub mod shell;
pub mod source;
pub mod tree;

use std::fmt;

pub use tree::Tree;

/// One place that breaks a rule, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Path from the repository's root.
    pub file: String,
    /// Line, 1-based; `0` speaks of the whole file.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What makes it right.
    pub fix: String,
}

impl Violation {
    /// A violation at a line of a file.
    pub fn new(
        file: impl Into<String>,
        line: usize,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { file: file.into(), line, what: what.into(), fix: fix.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}\n    fix: {}", self.file, self.line, self.what, self.fix)
    }
}

/// A rule with the sentence it stands for.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The sentence that holds while the rule is kept.
    pub name: &'static str,
    /// The places that break it.
    pub check: fn(&Tree) -> Vec<Violation>,
}

/// Every rule, in the order in which they are printed.
pub const RULES: &[Rule] = &[
    Rule { name: "crates depend only downwards", check: manifest::floors },
    Rule { name: "crates do not know what they must never know", check: manifest::never_know },
    Rule { name: "the left half has no async, columns or SQL", check: manifest::left_half },
    Rule { name: "LMDB stays in one module", check: manifest::lmdb_in_one_module },
    Rule { name: "every crate is described and linted", check: manifest::described_and_linted },
    Rule { name: "no git dependencies", check: manifest::no_git_dependencies },
    Rule { name: "dependencies are documented and used", check: manifest::documented },
    Rule { name: "files fit one head", check: source::file_length },
    Rule { name: "every file opens with its purpose", check: source::headers },
    Rule { name: "nothing is left undone", check: source::banned_words },
    Rule { name: "tests do not sleep and have sentences for names", check: source::test_habits },
    Rule { name: "unsafe code is in named files", check: source::unsafe_files },
    Rule { name: "no machine's paths", check: source::machine_paths },
    Rule { name: "no package hosts", check: source::package_hosts },
    Rule { name: "error codes are listed once", check: papers::error_codes },
    Rule { name: "decisions are numbered and complete", check: papers::decisions },
    Rule { name: "the sample is the one that was described", check: papers::sample },
    Rule { name: "the sources are formatted", check: shell::formatted },
    Rule { name: "both commands build the same dependencies", check: shell::one_feature_set },
    Rule { name: "the left half stays light through its dependencies", check: shell::left_half },
];
