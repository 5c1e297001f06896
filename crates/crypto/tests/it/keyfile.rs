//! Key files: modes, seals, and every way in which one is refused.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use expect_test::expect;
use quipu_crypto::keyfile::{self, Kdf, KeyFileError, KeyFileInfo, load, peek, save, save_with};
use quipu_crypto::suite::SecretKey;
use quipu_types::Suite;
use tempfile::TempDir;

/// The least that is allowed: tests need not wait for what an attacker must.
const CHEAP: Kdf = Kdf { memory_kib: 64, passes: 1, lanes: 1 };

struct World {
    directory: TempDir,
}

impl World {
    fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("key.json")
    }

    /// A file of mode 0600 with this text.
    fn with(text: &str) -> Self {
        let world = Self::new();
        fs::write(world.path(), text).unwrap();
        fs::set_permissions(world.path(), Permissions::from_mode(0o600)).unwrap();
        world
    }

    /// The refusal of `result`, without the name of the directory.
    fn told<T>(&self, result: Result<T, KeyFileError>) -> String {
        let error = result.err().expect("the file is refused").to_string();
        error.replace(&self.directory.path().display().to_string(), "DIR")
    }
}

fn key(suite: Suite) -> SecretKey {
    SecretKey::from_seed(suite, [0x11; 32])
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_saved_key_loads_again_in_every_suite_open_and_sealed() {
    for suite in Suite::ALL {
        for passphrase in [None, Some("correct horse")] {
            let world = World::new();
            let key = key(suite);
            save_with(&world.path(), &key, passphrase, CHEAP).unwrap();
            assert_eq!(mode(&world.path()), 0o600);
            let info = KeyFileInfo { public: key.public(), sealed: passphrase.is_some() };
            assert_eq!(peek(&world.path()).unwrap(), info);
            let loaded = load(&world.path(), passphrase).unwrap();
            assert_eq!(loaded.public(), key.public());
            assert_eq!(loaded.sign(b"message"), key.sign(b"message"));
        }
    }
}

#[test]
fn the_layout_of_an_open_key_file_is_frozen() {
    let world = World::new();
    save(&world.path(), &key(Suite::Ed25519Sha256), None).unwrap();
    expect![[r#"
        {"version":1,"suite":"ed25519-sha256","public":"01d04ab232742bb4ab3a1368bd4615e4e6d0224ab71a016baf8520a332c9778737","secret":"1111111111111111111111111111111111111111111111111111111111111111"}
    "#]]
    .assert_eq(&fs::read_to_string(world.path()).unwrap());
}

#[test]
fn a_sealed_file_holds_no_secret_in_the_clear() {
    let world = World::new();
    save_with(&world.path(), &key(Suite::Ed25519Sha256), Some("pass"), CHEAP).unwrap();
    let text = fs::read_to_string(world.path()).unwrap();
    assert!(!text.contains("1111") && !text.contains("\"secret\""), "{text}");
    assert!(u64::try_from(text.len()).unwrap() < keyfile::FILE_SIZE_MAX);
}

#[test]
fn the_default_cost_is_inside_the_limits() {
    let world = World::new();
    save(&world.path(), &key(Suite::Ed25519Sha256), Some("pass")).unwrap();
    assert!(load(&world.path(), Some("pass")).is_ok());
}

#[test]
fn a_file_is_never_replaced() {
    let world = World::new();
    save(&world.path(), &key(Suite::Ed25519Sha256), None).unwrap();
    let before = fs::read(world.path()).unwrap();
    expect!["DIR/key.json exists already and is not replaced, since a lost key cannot be made again; choose another path, or move the old file away first"]
        .assert_eq(&world.told(save(&world.path(), &key(Suite::Secp256k1Keccak), None)));
    assert_eq!(fs::read(world.path()).unwrap(), before);
}

#[test]
fn a_file_that_others_may_touch_is_refused() {
    let world = World::new();
    save(&world.path(), &key(Suite::Ed25519Sha256), None).unwrap();
    for open in [0o640, 0o604, 0o620, 0o602, 0o610, 0o677] {
        fs::set_permissions(world.path(), Permissions::from_mode(open)).unwrap();
        for result in [load(&world.path(), None).err(), peek(&world.path()).err()] {
            match result {
                Some(KeyFileError::TooOpen { mode, .. }) => assert_eq!(mode, open),
                other => panic!("mode {open:o} gave {other:?}"),
            }
        }
    }
    expect!["key file DIR/key.json is open to others (mode 0677); run `chmod 600 DIR/key.json`, and make a new key if someone else may have read it"]
        .assert_eq(&world.told(load(&world.path(), None)));
    fs::set_permissions(world.path(), Permissions::from_mode(0o400)).unwrap();
    assert!(load(&world.path(), None).is_ok());
}

#[test]
fn passphrases_are_asked_for_and_a_wrong_one_is_named() {
    let world = World::new();
    let key = key(Suite::Ed25519Sha256);
    expect!["an empty passphrase cannot seal key file DIR/key.json; give one, or none at all"]
        .assert_eq(&world.told(save_with(&world.path(), &key, Some(""), CHEAP)));
    save_with(&world.path(), &key, Some("right"), CHEAP).unwrap();
    expect!["key file DIR/key.json is sealed; give its passphrase"]
        .assert_eq(&world.told(load(&world.path(), None)));
    expect!["wrong passphrase for key file DIR/key.json, or the file was changed; try again, or restore it from a backup"]
        .assert_eq(&world.told(load(&world.path(), Some("wrong"))));
}

#[test]
fn costs_out_of_their_limits_are_refused_before_they_are_paid() {
    let world = World::new();
    let key = key(Suite::Ed25519Sha256);
    save_with(&world.path(), &key, Some("pass"), CHEAP).unwrap();
    let text = fs::read_to_string(world.path()).unwrap();
    for (from, to) in [
        ("\"memory_kib\":64", "\"memory_kib\":4294967295"),
        ("\"memory_kib\":64", "\"memory_kib\":0"),
        ("\"passes\":1", "\"passes\":17"),
        ("\"lanes\":1", "\"lanes\":0"),
    ] {
        let world = World::with(&text.replace(from, to));
        let result = load(&world.path(), Some("pass"));
        assert!(matches!(result, Err(KeyFileError::KdfOutOfBounds { .. })), "{to}");
    }
    let dear = Kdf { passes: 1_000_000, ..CHEAP };
    let result = save_with(&world.directory.path().join("other"), &key, Some("pass"), dear);
    assert!(matches!(result, Err(KeyFileError::KdfOutOfBounds { field: "passes", .. })));
}

#[test]
fn a_changed_field_of_a_sealed_file_does_not_open() {
    let world = World::new();
    save_with(&world.path(), &key(Suite::Ed25519Sha256), Some("pass"), CHEAP).unwrap();
    let text = fs::read_to_string(world.path()).unwrap();
    let other = SecretKey::from_seed(Suite::Ed25519Sha256, [0x22; 32]).public();
    let own = key(Suite::Ed25519Sha256).public();
    for (from, to) in [
        ("\"memory_kib\":64".to_owned(), "\"memory_kib\":65".to_owned()),
        ("\"passes\":1".to_owned(), "\"passes\":2".to_owned()),
        (own.to_string(), other.to_string()),
    ] {
        assert!(text.contains(&from));
        let world = World::with(&text.replace(&from, &to));
        let result = load(&world.path(), Some("pass"));
        assert!(matches!(result, Err(KeyFileError::PassphraseWrong { .. })), "{to}");
    }
}

#[test]
fn damaged_and_foreign_files_are_told_apart() {
    let world = World::new();
    save(&world.path(), &key(Suite::Ed25519Sha256), None).unwrap();
    let good = fs::read_to_string(world.path()).unwrap();
    let check = |text: &str| {
        let world = World::with(text);
        world.told(load(&world.path(), None))
    };
    let mut told = String::new();
    for text in [
        String::new(),
        good[..good.len() / 2].to_owned(),
        good.replace("\"version\":1", "\"version\":2"),
        good.replace("ed25519-sha256", "ed25519-blake2b"),
        good.replace(&"11".repeat(32), "11"),
        good.replace(&"11".repeat(32), &"22".repeat(32)),
        good.replace("\"secret\"", "\"secrets\""),
        " ".repeat(5_000),
    ] {
        told.push_str(&check(&text));
        told.push('\n');
    }
    expect![[r#"
        DIR/key.json is not a key file: line 1, column 0; restore it from a backup, or give another path
        DIR/key.json is not a key file: line 1, column 96; restore it from a backup, or give another path
        key file DIR/key.json has version 2, this program reads version 1; use a newer program
        key file DIR/key.json is damaged: wrong suite; restore it from a backup
        key file DIR/key.json is damaged: wrong secret; restore it from a backup
        key file DIR/key.json is damaged: wrong public; restore it from a backup
        DIR/key.json is not a key file: line 1, column 125; restore it from a backup, or give another path
        DIR/key.json is larger than a key file can be (4096 bytes); give the path of a key file
    "#]].assert_eq(&told);
}

#[test]
fn what_is_no_file_is_named() {
    let world = World::new();
    expect!["there is no key file DIR/key.json; make one, or correct the path"]
        .assert_eq(&world.told(load(&world.path(), None)));
    expect!["DIR is not a regular file; give the path of a key file"]
        .assert_eq(&world.told(load(world.directory.path(), None)));
    expect!["cannot create key file DIR/absent/key.json: No such file or directory (os error 2); check the directory and its permissions"]
        .assert_eq(&world.told(save(
            &world.directory.path().join("absent/key.json"),
            &key(Suite::Ed25519Sha256),
            None,
        )));
}
