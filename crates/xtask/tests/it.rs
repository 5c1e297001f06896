//! Every tidy rule holds for this repository.

use std::fmt::Write as _;

use xtask::{RULES, Tree, Violation};

/// Check the rule that stands for a sentence.
fn holds(sentence: &str) {
    let rule = RULES.iter().find(|rule| rule.name == sentence);
    let rule = rule.expect("a test names a rule of the list");
    let tree = Tree::of_this_repository().expect("the repository can be read");
    let violations: Vec<Violation> = (rule.check)(&tree);
    let mut list = String::new();
    for violation in &violations {
        writeln!(list, "{violation}").expect("a string takes text");
    }
    assert!(violations.is_empty(), "{sentence}: {} violations\n{list}", violations.len());
}

/// One test for each rule, so that each has its own name in the test command's answer; and one
/// that no rule is without.
macro_rules! rules {
    ($($name:ident = $sentence:literal,)*) => {
        $(#[test]
        fn $name() {
            holds($sentence);
        })*

        #[test]
        fn every_rule_is_a_test() {
            let tested = [$($sentence),*];
            assert_eq!(RULES.iter().map(|rule| rule.name).collect::<Vec<_>>(), tested);
        }
    };
}

rules! {
    crates_depend_only_downwards = "crates depend only downwards",
    crates_do_not_know_what_they_must_never_know = "crates do not know what they must never know",
    the_left_half_has_no_async_columns_or_sql = "the left half has no async, columns or SQL",
    lmdb_stays_in_one_module = "LMDB stays in one module",
    every_crate_is_described_and_linted = "every crate is described and linted",
    no_git_dependencies = "no git dependencies",
    dependencies_are_documented_and_used = "dependencies are documented and used",
    files_fit_one_head = "files fit one head",
    every_file_opens_with_its_purpose = "every file opens with its purpose",
    nothing_is_left_undone = "nothing is left undone",
    tests_do_not_sleep_and_have_sentences_for_names =
        "tests do not sleep and have sentences for names",
    unsafe_code_is_in_named_files = "unsafe code is in named files",
    no_machines_paths = "no machine's paths",
    no_package_hosts = "no package hosts",
    error_codes_are_listed_once = "error codes are listed once",
    decisions_are_numbered_and_complete = "decisions are numbered and complete",
    the_sample_is_the_one_that_was_described = "the sample is the one that was described",
    the_sources_are_formatted = "the sources are formatted",
    both_commands_build_the_same_dependencies = "both commands build the same dependencies",
    the_left_half_stays_light_through_its_dependencies =
        "the left half stays light through its dependencies",
}
