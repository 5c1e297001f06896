//! The files that the rules look at, in memory, by path from the repository's root.
//!
//! # Limits
//! Build output, version control and anything outside [`ROOTS`] is not read, so a ledger or a
//! scratch folder in the checkout is nobody's violation.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// Folders that are read whole; beside them only plain files at the root.
pub const ROOTS: &[&str] = &[".cargo", ".ci", "benches", "crates", "data", "docs", "scripts"];

/// A file tree: path with `/` between its parts, and the bytes.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    root: PathBuf,
    files: BTreeMap<String, Vec<u8>>,
}

impl Tree {
    /// The repository that Cargo runs this from. Asked for when it runs: a target directory may serve several checkouts.
    pub fn of_this_repository() -> io::Result<Self> {
        let folder = std::env::var_os("CARGO_MANIFEST_DIR")
            .ok_or_else(|| io::Error::other("CARGO_MANIFEST_DIR is not set: run it by `cargo`"))?;
        Self::read(&Path::new(&folder).join("../.."))
    }

    /// Read a repository.
    pub fn read(root: &Path) -> io::Result<Self> {
        let root = fs::canonicalize(root)?;
        let mut tree = Self { root: root.clone(), files: BTreeMap::new() };
        for entry in fs::read_dir(&root)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_file() {
                tree.files.insert(name, fs::read(entry.path())?);
            } else if ROOTS.contains(&name.as_str()) {
                tree.read_folder(&entry.path(), &name)?;
            }
        }
        Ok(tree)
    }

    fn read_folder(&mut self, folder: &Path, name: &str) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let file_name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{name}/{file_name}");
            let kind = entry.file_type()?;
            if kind.is_dir() && file_name != "target" {
                self.read_folder(&entry.path(), &path)?;
            } else if kind.is_file() {
                self.files.insert(path, fs::read(entry.path())?);
            }
        }
        Ok(())
    }

    /// A tree that exists only in memory, at no place: how a test plants a violation.
    pub fn planted(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()));
        Self { root: PathBuf::new(), files: files.collect() }
    }

    /// Where the tree was read from.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The bytes of a file.
    pub fn bytes(&self, path: &str) -> Option<&[u8]> {
        self.files.get(path).map(Vec::as_slice)
    }

    /// A file's text, if it is there and is UTF-8.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.bytes(path).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// Every path, in order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Every text file with its path, in order.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.paths().filter_map(|path| Some((path, self.text(path)?)))
    }

    /// Every Rust source under `crates/` and `benches/`.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &str)> {
        let ours = |path: &str| path.starts_with("crates/") || path.starts_with("benches/");
        self.texts().filter(move |(path, _)| ours(path) && path.ends_with(".rs"))
    }

    /// The lock file of every workspace: the product's, and those of the benches that stand beside it.
    pub fn locks(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(|(path, _)| path.split('/').next_back() == Some("Cargo.lock"))
    }

    /// Every crate's folder name with its manifest's path and text.
    pub fn manifests(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.texts().filter_map(|(path, text)| {
            let folder = path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?;
            (!folder.contains('/')).then_some((folder, path, text))
        })
    }
}

/// The line, 1-based, on which `needle` first stands; `0` if nowhere.
pub fn line_of(text: &str, needle: &str) -> usize {
    text.lines().position(|line| line.contains(needle)).map_or(0, |index| index.saturating_add(1))
}

/// Lines with their 1-based numbers.
pub fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1usize..).zip(text.lines())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_folders_and_files_at_the_root_are_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        for path in ["crates/a/src", "crates/a/target", "target/debug", ".git", "ledger"] {
            fs::create_dir_all(root.join(path)).expect("a fresh folder takes folders");
        }
        let files = ["crates/a/src/lib.rs", "crates/a/target/x", "target/debug/x", ".git/x"];
        for path in files.into_iter().chain(["ledger/x", "Cargo.toml"]) {
            fs::write(root.join(path), "x").expect("a fresh folder takes files");
        }
        let tree = Tree::read(root).expect("the folder was just written");
        assert_eq!(tree.paths().collect::<Vec<_>>(), ["Cargo.toml", "crates/a/src/lib.rs"]);
    }
}
