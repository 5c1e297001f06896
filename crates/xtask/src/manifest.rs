//! What the manifests must say: who may depend on whom, and on what from outside.
//!
//! # Invariants
//! * I1 The graph of crates has no edge upwards, dev-dependencies included, so it has no cycle.
//! * I2 The left half (`types` to `replica`, and `sim`) names no async runtime, columns or SQL.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use crate::{
    Tree, Violation,
    source::code_only,
    tree::{line_of, numbered},
};

/// Ground floor first. A crate may depend only on lower floors, or earlier in its own.
pub const FLOORS: &[&[&str]] = &[
    &["types", "accel"],
    &["crypto"],
    &["clock"],
    &["proof"],
    &["log", "consensus", "vm", "net"],
    &["state"],
    &["replica", "query"],
    &["dataflow"],
    &["client", "node"],
    &["sim"], // below `cli`, whose `quipu sim` runs its worlds
    &["cli"],
    &["xtask"],
];

/// Edges that the floors would permit and the design does not.
pub const NEVER_KNOW: &[(&str, &[&str])] = &[
    ("consensus", &["clock", "log"]),
    ("vm", &["log", "consensus"]),
    ("net", &["log", "consensus", "vm"]),
    ("state", &["log", "net"]),
    ("query", &["consensus", "net", "replica"]),
    ("dataflow", &["consensus", "net", "replica"]),
    ("client", &["log", "consensus", "state", "replica", "query"]),
    ("sim", &["query", "dataflow", "client", "node"]),
    ("xtask", &["types", "crypto", "node", "cli", "sim"]),
];

/// The deterministic half: synchronous, integers only, built in seconds.
pub const LEFT_HALF: &[&str] = &[
    "types",
    "accel",
    "crypto",
    "clock",
    "proof",
    "log",
    "consensus",
    "vm",
    "net",
    "state",
    "replica",
    "sim",
];

/// First words of package names that the left half must not pull in.
pub const HEAVY: &[&str] =
    &["tokio", "arrow", "datafusion", "parquet", "pgwire", "axum", "hyper", "reqwest", "futures"];

/// One dependency as a manifest names it.
#[derive(Clone, Debug)]
struct Edge {
    key: String,
    package: String,
    value: Value,
}

fn parse(path: &str, text: &str) -> Result<Table, Violation> {
    text.parse::<Table>().map_err(|error| {
        Violation::new(path, 0, format!("not TOML: {}", error.message()), "write valid TOML")
    })
}

/// Every dependency of a manifest: normal, dev and build, for every target.
fn edges(manifest: &Table) -> Vec<Edge> {
    let mut tables = vec![manifest];
    if let Some(targets) = manifest.get("target").and_then(Value::as_table) {
        tables.extend(targets.values().filter_map(Value::as_table));
    }
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let sections = tables.into_iter().flat_map(|table| {
        kinds.iter().filter_map(|kind| table.get(*kind)).filter_map(Value::as_table)
    });
    sections.flat_map(edges_of_section).collect()
}

fn edges_of_section(section: &Table) -> Vec<Edge> {
    let edge = |(key, value): (&String, &Value)| {
        let renamed = value.get("package").and_then(Value::as_str);
        let package = renamed.unwrap_or(key).to_owned();
        Edge { key: key.clone(), package, value: value.clone() }
    };
    section.iter().map(edge).collect()
}

/// The folder of a crate of ours, by its package name.
fn folder_of(package: &str) -> Option<&str> {
    if package == "xtask" { Some(package) } else { package.strip_prefix("quipu-") }
}

/// Floor and place on it: an edge must lead to a smaller pair.
fn place_of(folder: &str) -> Option<(usize, usize)> {
    let on = |(floor, names): (usize, &&[&str])| {
        Some((floor, names.iter().position(|name| *name == folder)?))
    };
    FLOORS.iter().enumerate().find_map(on)
}

/// Run `judge` over every dependency of every crate.
fn each_edge(
    tree: &Tree,
    judge: impl Fn(&str, &Edge) -> Option<(String, String)>,
) -> Vec<Violation> {
    let mut found = Vec::new();
    for (folder, path, text) in tree.manifests() {
        match parse(path, text) {
            Err(violation) => found.push(violation),
            Ok(manifest) => found.extend(edges(&manifest).iter().filter_map(|edge| {
                let (what, fix) = judge(folder, edge)?;
                Some(Violation::new(path, line_of(text, &edge.key), what, fix))
            })),
        }
    }
    found
}

/// A crate stands on a floor and depends only downwards.
pub fn floors(tree: &Tree) -> Vec<Violation> {
    let homeless = tree.manifests().filter(|(folder, _, _)| place_of(folder).is_none());
    let mut found: Vec<Violation> = homeless
        .map(|(folder, path, _)| {
            let what = format!("crate `{folder}` stands on no floor");
            Violation::new(path, 0, what, "give it a floor in xtask's FLOORS")
        })
        .collect();
    found.extend(each_edge(tree, |folder, edge| {
        let target = folder_of(&edge.package)?;
        let upwards = place_of(target) >= place_of(folder) || place_of(target).is_none();
        upwards.then(|| {
            let fix = "invert the dependency: a trait below, its implementation above";
            (format!("`{folder}` depends upwards, on `{target}`"), fix.to_owned())
        })
    }));
    found
}

/// Some lower crates are none of a crate's business either.
pub fn never_know(tree: &Tree) -> Vec<Violation> {
    each_edge(tree, |folder, edge| {
        let target = folder_of(&edge.package)?;
        let (_, forbidden) = NEVER_KNOW.iter().find(|(name, _)| *name == folder)?;
        forbidden.contains(&target).then(|| {
            let fix = "pass what it needs as plain `types`, or move the code to who may know";
            (format!("`{folder}` must never know `{target}`"), fix.to_owned())
        })
    })
}

/// The first word of a package's name is one of [`HEAVY`].
pub fn is_heavy(package: &str) -> bool {
    HEAVY.contains(&package.split('-').next().unwrap_or(package))
}

/// The left half names no async runtime, no columns, no SQL.
pub fn left_half(tree: &Tree) -> Vec<Violation> {
    each_edge(tree, |folder, edge| {
        (LEFT_HALF.contains(&folder) && is_heavy(&edge.package)).then(|| {
            let fix = "keep it in `query`, `client` or `node`; the left half is a pure machine";
            (format!("`{folder}` is of the left half and names `{}`", edge.package), fix.to_owned())
        })
    })
}

/// LMDB is named by `node`, and there by one module; the left half sees a `Store`.
pub fn lmdb_in_one_module(tree: &Tree) -> Vec<Violation> {
    const HOME: &str = "crates/node/src/store";
    let mut found = each_edge(tree, |folder, edge| {
        (edge.package == "heed" && folder != "node")
            .then(|| (format!("`{folder}` names LMDB"), "go through `state`'s `Store`".to_owned()))
    });
    for (path, text) in tree.sources().filter(|(path, _)| !path.starts_with(HOME)) {
        let lines = code_only(text);
        let naming = numbered(&lines).filter(|(_, line)| line.contains("heed::"));
        found.extend(naming.map(|(line, _)| {
            let fix = format!("go through `Store`; LMDB stays behind {HOME}.rs");
            Violation::new(path, line, "names `heed`", fix)
        }));
    }
    found
}

/// Every crate has a description and takes the workspace's lints.
pub fn described_and_linted(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (_, path, text) in tree.manifests() {
        let Ok(manifest) = parse(path, text) else { continue }; // `floors` reports it
        let described = manifest.get("package").and_then(|package| package.get("description"));
        if described.and_then(Value::as_str).is_none_or(str::is_empty) {
            found.push(Violation::new(path, 0, "no description", "say in one line what it is"));
        }
        let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        if lints.and_then(Value::as_bool) != Some(true) {
            let fix = "add `[lints]` with `workspace = true`";
            found.push(Violation::new(path, 0, "does not take the workspace's lints", fix));
        }
    }
    found
}

fn workspace_dependencies(tree: &Tree) -> Vec<Edge> {
    let root = tree.text("Cargo.toml").and_then(|text| text.parse::<Table>().ok());
    let section = root.as_ref().and_then(|root| root.get("workspace")?.get("dependencies"));
    section.and_then(Value::as_table).map(edges_of_section).unwrap_or_default()
}

/// Packages come from the registry, or from this repository.
pub fn no_git_dependencies(tree: &Tree) -> Vec<Violation> {
    let fix = "take a published version";
    let judge = |edge: &Edge| {
        let git = edge.value.get("git").is_some();
        git.then(|| format!("`{}` comes from git", edge.key))
    };
    let root = workspace_dependencies(tree);
    let root = root.iter().filter_map(judge).map(|what| Violation::new("Cargo.toml", 0, what, fix));
    let mut found: Vec<Violation> = root.collect();
    found.extend(each_edge(tree, |_, edge| Some((judge(edge)?, fix.to_owned()))));
    for (path, lock) in tree.locks() {
        let foreign = numbered(lock).filter(|(_, line)| line.contains("\"git+"));
        found.extend(foreign.map(|(line, text)| {
            Violation::new(path, line, format!("a package from git: {text}"), fix)
        }));
    }
    found
}

/// Version by name, from the rows `| \`name\` | version | …` of docs/dependencies.md.
fn documented_versions(text: &str) -> BTreeMap<&str, (usize, &str)> {
    let mut versions = BTreeMap::new();
    for (line, text) in numbered(text) {
        let mut cells = text.split('|').map(str::trim).skip(1);
        let name = cells.next().and_then(|cell| cell.strip_prefix('`')?.strip_suffix('`'));
        if let (Some(name), Some(version)) = (name, cells.next()) {
            versions.insert(name, (line, version));
        }
    }
    versions
}

fn required_version(edge: &Edge) -> &str {
    let version = edge.value.as_str().or_else(|| edge.value.get("version")?.as_str());
    version.unwrap_or_default()
}

/// Every package from outside is used, and docs/dependencies.md says why, at which version.
pub fn documented(tree: &Tree) -> Vec<Violation> {
    const PAPER: &str = "docs/dependencies.md";
    let root = tree.text("Cargo.toml").unwrap_or_default();
    let versions = documented_versions(tree.text(PAPER).unwrap_or_default());
    let outside = workspace_dependencies(tree);
    let outside: Vec<&Edge> =
        outside.iter().filter(|edge| edge.value.get("path").is_none()).collect();
    let used: BTreeSet<String> = tree
        .manifests()
        .filter_map(|(_, path, text)| parse(path, text).ok())
        .flat_map(|manifest| edges(&manifest))
        .map(|edge| edge.key)
        .collect();

    let mut found = Vec::new();
    for edge in &outside {
        let line = line_of(root, &format!("{} =", edge.key));
        let required = required_version(edge);
        match versions.get(edge.package.as_str()) {
            None => found.push(Violation::new(
                "Cargo.toml",
                line,
                format!("`{}` is not documented", edge.package),
                format!("add a row to {PAPER}: version, licence, why, what could replace it"),
            )),
            Some((row, version)) if *version != required => found.push(Violation::new(
                PAPER,
                *row,
                format!("`{}` is documented at {version}, required at {required}", edge.package),
                "say the version that Cargo.toml requires",
            )),
            Some(_) => {}
        }
        if !used.contains(&edge.key) {
            let what = format!("no crate uses `{}`", edge.key);
            found.push(Violation::new("Cargo.toml", line, what, "remove it"));
        }
    }
    let known: BTreeSet<&str> = outside.iter().map(|edge| edge.package.as_str()).collect();
    let stale = versions.iter().filter(|(name, _)| !known.contains(**name));
    found.extend(stale.map(|(name, (line, _))| {
        let what = format!("`{name}` is documented but is no dependency of the workspace");
        Violation::new(PAPER, *line, what, "remove the row")
    }));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(violations: Vec<Violation>) -> Vec<String> {
        violations.into_iter().map(|v| format!("{}:{} {}", v.file, v.line, v.what)).collect()
    }

    fn manifest_of(folder: &str, body: &str) -> Tree {
        Tree::planted(&[(&format!("crates/{folder}/Cargo.toml"), body)])
    }

    #[test]
    fn an_edge_upwards_is_named_of_whatever_kind() {
        for kind in ["dependencies", "dev-dependencies", "target.'cfg(unix)'.dependencies"] {
            let tree = manifest_of("types", &format!("[{kind}]\nquipu-crypto.workspace = true\n"));
            let expected = "crates/types/Cargo.toml:2 `types` depends upwards, on `crypto`";
            assert_eq!(whats(floors(&tree)), [expected], "{kind}");
        }
    }

    #[test]
    fn an_edge_to_a_later_neighbour_or_to_itself_is_upwards() {
        let later = manifest_of("log", "[dependencies]\nquipu-net.workspace = true\n");
        assert_eq!(floors(&later).len(), 1);
        let itself = manifest_of("log", "[dev-dependencies]\nquipu-log.workspace = true\n");
        assert_eq!(floors(&itself).len(), 1);
        let earlier = manifest_of("net", "[dependencies]\nquipu-log.workspace = true\n");
        assert_eq!(floors(&earlier).len(), 0);
    }

    #[test]
    fn a_renamed_edge_is_seen_through() {
        let body = "[dependencies]\nhash = { package = \"quipu-crypto\", path = \"../crypto\" }\n";
        assert_eq!(floors(&manifest_of("types", body)).len(), 1);
    }

    #[test]
    fn a_crate_on_no_floor_is_named() {
        assert_eq!(floors(&manifest_of("attic", "")).len(), 1);
    }

    #[test]
    fn a_broken_manifest_is_named() {
        assert_eq!(floors(&manifest_of("types", "[dependencies")).len(), 1);
    }

    #[test]
    fn an_edge_that_the_design_forbids_is_named() {
        let tree = manifest_of("query", "[dependencies]\nquipu-consensus.workspace = true\n");
        assert_eq!(never_know(&tree).len(), 1);
        assert!(floors(&tree).is_empty(), "the floors alone would let it pass");
        let body = "[dependencies]\nquipu-log.workspace = true\n";
        assert_eq!(never_know(&manifest_of("state", body)).len(), 1);
        assert_eq!(floors(&manifest_of("proof", body)).len(), 1, "`proof` rests on four crates");
    }

    #[test]
    fn a_heavy_package_in_the_left_half_is_named_and_in_the_right_half_not() {
        for package in ["tokio", "tokio-stream", "arrow", "datafusion"] {
            let body = format!("[dependencies]\n{package}.workspace = true\n");
            assert_eq!(left_half(&manifest_of("replica", &body)).len(), 1, "{package}");
            assert_eq!(left_half(&manifest_of("node", &body)).len(), 0, "{package}");
        }
    }

    #[test]
    fn lmdb_outside_its_module_is_named() {
        let body = "[dependencies]\nheed.workspace = true\n";
        assert_eq!(lmdb_in_one_module(&manifest_of("state", body)).len(), 1);
        let source = "//! x\nuse heed::Env;\n";
        let astray = Tree::planted(&[("crates/node/src/executor.rs", source)]);
        assert_eq!(
            whats(lmdb_in_one_module(&astray)),
            ["crates/node/src/executor.rs:2 names `heed`"]
        );
        let home = Tree::planted(&[("crates/node/src/store.rs", source)]);
        assert_eq!(lmdb_in_one_module(&home), []);
    }

    #[test]
    fn a_crate_without_description_or_lints_is_named_twice() {
        let tree = manifest_of("types", "[package]\nname = \"quipu-types\"\ndescription = \"\"\n");
        assert_eq!(described_and_linted(&tree).len(), 2);
    }

    #[test]
    fn a_git_dependency_is_named_wherever_it_stands() {
        let git = "x = { git = \"https://example.org/x\" }\n";
        let root = format!("[workspace.dependencies]\n{git}");
        let krate = format!("[dependencies]\n{git}");
        let lock = "source = \"git+https://example.org/x\"\n";
        let tree = Tree::planted(&[
            ("Cargo.toml", &root),
            ("crates/types/Cargo.toml", &krate),
            ("Cargo.lock", lock),
        ]);
        assert_eq!(no_git_dependencies(&tree).len(), 3);
    }

    #[test]
    fn a_package_undocumented_unused_at_another_version_or_gone_is_named() {
        let root = "[workspace.dependencies]\na = \"1\"\nb = { version = \"2\" }\nc = \"3\"\n";
        let krate = "[dependencies]\na.workspace = true\nb.workspace = true\n";
        let paper = "| `b` | 1 | x |\n| `c` | 3 | x |\n| `d` | 4 | x |\n";
        let tree = Tree::planted(&[
            ("Cargo.toml", root),
            ("crates/types/Cargo.toml", krate),
            ("docs/dependencies.md", paper),
        ]);
        assert_eq!(
            whats(documented(&tree)),
            [
                "Cargo.toml:2 `a` is not documented",
                "docs/dependencies.md:1 `b` is documented at 1, required at 2",
                "Cargo.toml:4 no crate uses `c`",
                "docs/dependencies.md:3 `d` is documented but is no dependency of the workspace",
            ]
        );
    }
}
