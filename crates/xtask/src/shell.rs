//! What only cargo can say: formatting, and what a command would build.
//!
//! # Limits
//! Asks with `--frozen`: nothing is downloaded and the lock file is not touched. A cargo that
//! cannot answer is a violation, never a pass.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::Path,
    process::{Command, Output},
};

use crate::{
    Tree, Violation,
    manifest::{LEFT_HALF, is_heavy},
};

fn cargo(root: &Path, arguments: &[&str]) -> Result<Output, Violation> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let output = Command::new(program).args(arguments).current_dir(root).output();
    output.map_err(|error| {
        let what = format!("cargo {} did not start: {error}", arguments.join(" "));
        Violation::new("Cargo.toml", 0, what, "install Rust with its default components")
    })
}

fn answer(root: &Path, arguments: &[&str]) -> Result<String, Violation> {
    let output = cargo(root, arguments)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let what = format!("cargo {} failed: {}", arguments.join(" "), said.trim());
    Err(Violation::new("Cargo.toml", 0, what, "make the manifests and Cargo.lock agree"))
}

/// Every source is as rustfmt would write it, in every workspace.
pub fn formatted(tree: &Tree) -> Vec<Violation> {
    // `--all` asks cargo for the dependencies too, and those of a bench need not be on this machine.
    let mut found = differences(tree, "Cargo.toml", &["fmt", "--all", "--check"]);
    for (lock, _) in tree.locks().filter(|(lock, _)| *lock != "Cargo.lock") {
        let manifest = lock.replace("Cargo.lock", "Cargo.toml");
        let arguments = ["fmt", "--check", "--manifest-path", &manifest];
        found.extend(differences(tree, &manifest, &arguments));
    }
    found
}

fn differences(tree: &Tree, manifest: &str, arguments: &[&str]) -> Vec<Violation> {
    let output = match cargo(tree.root(), arguments) {
        Ok(output) if output.status.success() => return Vec::new(),
        Ok(output) => output,
        Err(violation) => return vec![violation],
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let root = format!("{}/", tree.root().display());
    let found: Vec<Violation> = said.lines().filter_map(|line| difference(line, &root)).collect();
    if !found.is_empty() {
        return found;
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let what = format!("cargo fmt failed: {}", said.trim());
    vec![Violation::new(manifest, 0, what, "rustup component add rustfmt")]
}

/// rustfmt heads each difference with `Diff in PATH:LINE:`.
fn difference(line: &str, root: &str) -> Option<Violation> {
    let place = line.strip_prefix("Diff in ")?.trim_end_matches(':');
    let (path, line) = place.rsplit_once(':')?;
    let path = path.strip_prefix(root).unwrap_or(path);
    Some(Violation::new(path, line.parse().ok()?, "is not formatted", "cargo fmt --all"))
}

/// Arguments that make cargo print one `package|features` a line.
const PRINT: &[&str] = &["tree", "--frozen", "--prefix", "none", "-f", "{p}|{f}"];

fn packages(text: &str) -> BTreeSet<&str> {
    text.lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .filter(|line| line.contains('|') && !line.contains(" (/"))
        .collect()
}

/// Packages that `cargo run` would build with features no package of the tests has.
fn built_twice(run: &str, test: &str) -> Vec<String> {
    let (run, test) = (packages(run), packages(test));
    run.difference(&test).map(|package| (*package).to_owned()).collect()
}

/// `cargo run` and the tests resolve every dependency to the same features, so it compiles once.
pub fn one_feature_set(tree: &Tree) -> Vec<Violation> {
    let run = answer(tree.root(), &[PRINT, &["-e", "normal,build", "-p", "quipu-cli"]].concat());
    let test = answer(tree.root(), &[PRINT, &["-e", "normal,build,dev", "--workspace"]].concat());
    match (run, test) {
        (Ok(run), Ok(test)) => built_twice(&run, &test)
            .into_iter()
            .map(|package| {
                let what = format!("`cargo run` and the tests build it differently: {package}");
                let fix = "name the features that the tests add in [workspace.dependencies]";
                Violation::new("Cargo.toml", 0, what, fix)
            })
            .collect(),
        (run, test) => run.err().into_iter().chain(test.err()).collect(),
    }
}

fn heavy(text: &str) -> Vec<String> {
    let names = packages(text).into_iter().filter_map(|line| line.split(' ').next());
    names.filter(|name| is_heavy(name)).map(str::to_owned).collect()
}

/// No crate of the left half pulls in what it must not name, through others either.
pub fn left_half(tree: &Tree) -> Vec<Violation> {
    let folders: BTreeSet<&str> = tree.manifests().map(|(folder, _, _)| folder).collect();
    let mut arguments: Vec<String> = PRINT.iter().map(|word| (*word).to_owned()).collect();
    arguments.extend(["-e".to_owned(), "normal".to_owned()]);
    for folder in LEFT_HALF.iter().filter(|folder| folders.contains(**folder)) {
        arguments.extend(["-p".to_owned(), format!("quipu-{folder}")]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let said = match answer(tree.root(), &arguments) {
        Ok(said) => said,
        Err(violation) => return vec![violation],
    };
    heavy(&said)
        .into_iter()
        .map(|package| {
            let fix = format!("cargo tree -e normal -i {package}, and cut the edge");
            let what = format!("the left half pulls in {package}");
            Violation::new("Cargo.toml", 0, what, fix)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_badly_formatted_file_is_named_with_its_line() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let manifest = "[package]\nname = \"a\"\nedition = \"2024\"\n[workspace]\n";
        fs::create_dir_all(folder.path().join("src")).expect("a fresh folder takes folders");
        fs::write(folder.path().join("Cargo.toml"), manifest).expect("a fresh folder takes files");
        let write = |text| fs::write(folder.path().join("src/lib.rs"), text);

        write("fn a() {}\n").expect("a fresh folder takes files");
        let tree = Tree::read(folder.path()).expect("the folder was just written");
        assert_eq!(formatted(&tree), []);

        write("fn a() {}\nfn  b( ){}\n").expect("a fresh folder takes files");
        let found = formatted(&tree);
        assert!(matches!(found.as_slice(), [one] if one.file == "src/lib.rs"), "{found:?}");

        write("fn {\n").expect("a fresh folder takes files");
        assert_eq!(formatted(&tree).len(), 1, "what rustfmt cannot read is no pass");
    }

    #[test]
    fn a_cargo_that_cannot_answer_is_a_violation() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tree = Tree::read(folder.path()).expect("the folder is there");
        assert_eq!(one_feature_set(&tree).len(), 2);
        assert_eq!(left_half(&tree).len(), 1);
        assert_eq!(formatted(&tree).len(), 1);
    }

    #[test]
    fn a_package_with_a_feature_that_only_tests_add_is_named() {
        let run = "quipu-cli v0.1.0 (/x/crates/cli)|\nserde v1.0.2|std\nhex v0.4.3|std (*)\n";
        let test = "serde v1.0.2|alloc,std\nhex v0.4.3|std\nproptest v1.1.0|std\n";
        assert_eq!(built_twice(run, test), ["serde v1.0.2|std"]);
    }

    #[test]
    fn a_heavy_package_below_the_left_half_is_named() {
        let text = "quipu-log v0.1.0 (/x/crates/log)|\ntokio-util v0.7.1|x\nhex v0.4.3|\n";
        assert_eq!(heavy(text), ["tokio-util"]);
    }
}
