//! Files that hold one secret key: one small JSON object, for its owner's eyes only.
//!
//! ```text
//!  {"version":1,"suite":"ed25519-sha256","public":"01..","secret":"hex of the seed"}
//!  {"version":1,"suite":"ed25519-sha256","public":"01..","sealed":{
//!     "kdf":{"algorithm":"argon2id","memory_kib":65536,"passes":3,"lanes":1,"salt":"hex"},
//!     "nonce":"hex","ciphertext":"hex"}}
//! ```
//! Sealing is argon2id (RFC 9106) and ChaCha20-Poly1305 (RFC 8439) under a fresh salt and nonce;
//! version, suite, public key and the derivation's parameters are bound as associated data.
//!
//! # Invariants
//! * A file is made with mode 0600, is on disk when [`save`] returns, and never replaces another.
//! * A file that its group or others may read or write is refused.
//! * A loaded key has the public key that the file names.
//! # Limits
//! [`FILE_SIZE_MAX`] bytes are read at most; the derivation's cost is bounded by [`Kdf`]'s limits, so
//! that a forged file cannot make its reader allocate or compute without end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use quipu_types::{Encode, PublicKey, Suite};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::suite::SecretKey;

/// Most bytes of a key file.
pub const FILE_SIZE_MAX: u64 = 4_096;

/// The only version there is.
pub const VERSION: u32 = 1;

/// Bits of a mode that let others than the owner in.
const MODE_OF_OTHERS: u32 = 0o077;

/// Why a key file was not written or read, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// Something stands at the path already.
    #[error(
        "{} exists already and is not replaced, since a lost key cannot be made again; \
         choose another path, or move the old file away first",
        path.display()
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is no file.
    #[error("there is no key file {}; make one, or correct the path", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner may read or write it.
    #[error(
        "key file {} is open to others (mode {mode:04o}); run `chmod 600 {}`, and make a new key \
         if someone else may have read it",
        path.display(), path.display()
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A directory, a pipe or a device.
    #[error("{} is not a regular file; give the path of a key file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Larger than any key file.
    #[error(
        "{} is larger than a key file can be ({size_max} bytes); give the path of a key file",
        path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Most bytes of a key file.
        size_max: u64,
    },
    /// Not the JSON of a key file.
    #[error(
        "{} is not a key file: line {line}, column {column}; restore it from a backup, or give \
         another path",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line of the first error, from 1.
        line: usize,
        /// Column of the first error.
        column: usize,
    },
    /// Made by a later program.
    #[error(
        "key file {} has version {version}, this program reads version {VERSION}; use a newer program",
        path.display()
    )]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// The version it names.
        version: u32,
    },
    /// A field has a value that no key file has.
    #[error("key file {} is damaged: wrong {field}; restore it from a backup", path.display())]
    WrongField {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
    },
    /// The key's derivation would cost more, or protect less, than is allowed.
    #[error(
        "key file {} derives its key with {field} = {value}, allowed are {min} to {max}; \
         restore it from a backup",
        path.display()
    )]
    KdfOutOfBounds {
        /// The file.
        path: PathBuf,
        /// The parameter.
        field: &'static str,
        /// Its value.
        value: u32,
        /// The least that is allowed.
        min: u32,
        /// The most that is allowed.
        max: u32,
    },
    /// Sealed, and no passphrase given.
    #[error("key file {} is sealed; give its passphrase", path.display())]
    PassphraseMissing {
        /// The file.
        path: PathBuf,
    },
    /// An empty passphrase protects nothing.
    #[error(
        "an empty passphrase cannot seal key file {}; give one, or none at all",
        path.display()
    )]
    PassphraseEmpty {
        /// The file.
        path: PathBuf,
    },
    /// The seal does not open.
    #[error(
        "wrong passphrase for key file {}, or the file was changed; try again, or restore it from \
         a backup",
        path.display()
    )]
    PassphraseWrong {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {action} key file {}: {source}; check the directory and its permissions", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Cost of deriving a key from a passphrase by argon2id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kdf {
    /// Memory in KiB: 64 to 262,144 (256 MiB).
    pub memory_kib: u32,
    /// Passes over the memory: 1 to 16.
    pub passes: u32,
    /// Lanes: 1 to 4.
    pub lanes: u32,
}

impl Kdf {
    /// The second recommendation of RFC 9106, on one lane.
    pub const DEFAULT: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 };

    const MEMORY_KIB: (u32, u32) = (64, 256 * 1024);
    const PASSES: (u32, u32) = (1, 16);
    const LANES: (u32, u32) = (1, 4);

    fn check(&self, path: &Path) -> Result<(), KeyFileError> {
        let fields = [
            ("memory_kib", self.memory_kib, Self::MEMORY_KIB),
            ("passes", self.passes, Self::PASSES),
            ("lanes", self.lanes, Self::LANES),
        ];
        for (field, value, (min, max)) in fields {
            if value < min || value > max {
                let path = path.to_owned();
                return Err(KeyFileError::KdfOutOfBounds { path, field, value, min, max });
            }
        }
        Ok(())
    }

    fn derive(&self, passphrase: &str, salt: &[u8; 16]) -> Zeroizing<[u8; 32]> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32))
            .expect("the limits of Kdf are inside those of argon2");
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.as_bytes(), salt, &mut *key)
            .expect("a passphrase below 4 GiB, a salt of 16 bytes and a key of 32 suit argon2");
        key
    }
}

/// What a key file tells without its passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFileInfo {
    /// The public key, as the file names it.
    pub public: PublicKey,
    /// Whether a passphrase is needed.
    pub sealed: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    suite: Suite,
    public: PublicKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<SecretText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<Sealed>,
}

/// Hexadecimal of a secret, wiped when dropped.
#[derive(Deserialize)]
#[serde(from = "String")]
pub(crate) struct SecretText(Zeroizing<String>);

impl SecretText {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(Zeroizing::new(hex::encode(secret)))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl Serialize for SecretText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    kdf: KdfText,
    nonce: String,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KdfText {
    algorithm: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
}

const ALGORITHM: &str = "argon2id";

/// Write `key` to a new file of mode 0600, sealed when there is a passphrase.
///
/// # Errors
/// If something stands at the path already, the passphrase is empty, or the disk refuses.
pub fn save(path: &Path, key: &SecretKey, passphrase: Option<&str>) -> Result<(), KeyFileError> {
    save_with(path, key, passphrase, Kdf::DEFAULT)
}

/// As [`save`], with another cost of deriving the key from the passphrase.
///
/// # Errors
/// As [`save`], and if the cost is out of its limits.
pub fn save_with(
    path: &Path,
    key: &SecretKey,
    passphrase: Option<&str>,
    kdf: Kdf,
) -> Result<(), KeyFileError> {
    let mut document = Document {
        version: VERSION,
        suite: key.suite(),
        public: key.public(),
        secret: None,
        sealed: None,
    };
    match passphrase {
        None => {
            document.secret = Some(SecretText::new(&*key.seed()));
        }
        Some("") => return Err(KeyFileError::PassphraseEmpty { path: path.to_owned() }),
        Some(passphrase) => {
            kdf.check(path)?;
            document.sealed = Some(seal(key, passphrase, kdf));
        }
    }
    write_json(path, &document)
}

/// Writes a document to a new file of mode 0600.
pub(crate) fn write_json(path: &Path, document: &impl Serialize) -> Result<(), KeyFileError> {
    let mut text =
        Zeroizing::new(serde_json::to_string(document).expect("texts and numbers are JSON"));
    text.push('\n');
    write_new(path, text.as_bytes())
}

/// Read the key of a file. A passphrase that is not needed is not looked at.
///
/// # Errors
/// If the file is missing, open to others, damaged, or does not open with the passphrase.
pub fn load(path: &Path, passphrase: Option<&str>) -> Result<SecretKey, KeyFileError> {
    let document = read(path)?;
    let seed = match (&document.secret, &document.sealed, passphrase) {
        (Some(secret), None, _) => {
            let mut seed = Zeroizing::new([0; 32]);
            hex::decode_to_slice(secret.text(), &mut *seed)
                .map_err(|_| wrong_field(path, "secret"))?;
            seed
        }
        (None, Some(sealed), Some(passphrase)) => open(path, &document, sealed, passphrase)?,
        (None, Some(_), None) => {
            return Err(KeyFileError::PassphraseMissing { path: path.to_owned() });
        }
        (None, None, _) | (Some(_), Some(_), _) => return Err(wrong_field(path, "secret")),
    };
    let key = SecretKey::from_seed(document.suite, *seed);
    if key.public() == document.public { Ok(key) } else { Err(wrong_field(path, "public")) }
}

/// Read what a file tells without its passphrase. The public key is not checked against the secret.
///
/// # Errors
/// If the file is missing, open to others, or damaged.
pub fn peek(path: &Path) -> Result<KeyFileInfo, KeyFileError> {
    let document = read(path)?;
    Ok(KeyFileInfo { public: document.public, sealed: document.sealed.is_some() })
}

fn wrong_field(path: &Path, field: &'static str) -> KeyFileError {
    KeyFileError::WrongField { path: path.to_owned(), field }
}

/// What the seal binds besides the secret.
fn associated_data(public: &PublicKey, kdf: Kdf) -> Vec<u8> {
    let mut bytes = b"quipu/key-file".to_vec();
    for number in [VERSION, kdf.memory_kib, kdf.passes, kdf.lanes] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    public.encode(&mut bytes);
    bytes
}

fn random<const SIZE: usize>() -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}

fn seal(key: &SecretKey, passphrase: &str, kdf: Kdf) -> Sealed {
    let salt = random::<16>();
    let nonce = random::<12>();
    let cipher_key = kdf.derive(passphrase, &salt);
    let aad = associated_data(&key.public(), kdf);
    let seed = key.seed();
    let ciphertext = ChaCha20Poly1305::new(Key::from_slice(&*cipher_key))
        .encrypt(Nonce::from_slice(&nonce), Payload { msg: &*seed, aad: &aad })
        .expect("32 bytes are below the cipher's limit");
    Sealed {
        kdf: KdfText {
            algorithm: ALGORITHM.to_owned(),
            memory_kib: kdf.memory_kib,
            passes: kdf.passes,
            lanes: kdf.lanes,
            salt: hex::encode(salt),
        },
        nonce: hex::encode(nonce),
        ciphertext: hex::encode(ciphertext),
    }
}

fn open(
    path: &Path,
    document: &Document,
    sealed: &Sealed,
    passphrase: &str,
) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    if sealed.kdf.algorithm != ALGORITHM {
        return Err(wrong_field(path, "algorithm"));
    }
    let KdfText { memory_kib, passes, lanes, .. } = sealed.kdf;
    let kdf = Kdf { memory_kib, passes, lanes };
    kdf.check(path)?;
    let (mut salt, mut nonce, mut ciphertext) = ([0; 16], [0; 12], [0; 48]);
    hex::decode_to_slice(&sealed.kdf.salt, &mut salt).map_err(|_| wrong_field(path, "salt"))?;
    hex::decode_to_slice(&sealed.nonce, &mut nonce).map_err(|_| wrong_field(path, "nonce"))?;
    hex::decode_to_slice(&sealed.ciphertext, &mut ciphertext)
        .map_err(|_| wrong_field(path, "ciphertext"))?;
    let cipher_key = kdf.derive(passphrase, &salt);
    let aad = associated_data(&document.public, kdf);
    let opened = ChaCha20Poly1305::new(Key::from_slice(&*cipher_key))
        .decrypt(Nonce::from_slice(&nonce), Payload { msg: &ciphertext, aad: &aad })
        .map(Zeroizing::new)
        .map_err(|_| KeyFileError::PassphraseWrong { path: path.to_owned() })?;
    let seed = opened.as_slice().try_into().expect("48 bytes are sealed from 32");
    Ok(Zeroizing::new(seed))
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    let failed = |action| {
        move |source: io::Error| KeyFileError::Io { path: path.to_owned(), action, source }
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(
        |source| match source.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
            _ => failed("create")(source),
        },
    )?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(source) = written {
        // Half a key is no key; the error that is told is the first one.
        let _ = fs::remove_file(path);
        return Err(failed("write")(source));
    }
    // The name is durable when its directory is.
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("sync"))
}

/// The bytes of a file that only its owner may read.
pub(crate) fn read_private(path: &Path, size_max: u64) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing { path: path.to_owned() },
        _ => KeyFileError::Io { path: path.to_owned(), action: "read", source },
    };
    // Asked before opening too, since opening a pipe would wait for its other end.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(KeyFileError::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if !metadata.is_file() {
        return Err(KeyFileError::NotAFile { path: path.to_owned() });
    }
    if mode & MODE_OF_OTHERS != 0 {
        return Err(KeyFileError::TooOpen { path: path.to_owned(), mode });
    }
    if metadata.len() > size_max {
        return Err(KeyFileError::TooLarge { path: path.to_owned(), size_max });
    }
    // Sized before: a growing list would leave secrets behind.
    let size = usize::try_from(size_max).unwrap_or(usize::MAX);
    let mut bytes = Zeroizing::new(Vec::with_capacity(size));
    file.take(size_max).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// A document of a file's bytes.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(
    path: &Path,
    bytes: &[u8],
) -> Result<T, KeyFileError> {
    serde_json::from_slice(bytes).map_err(|error| KeyFileError::Malformed {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
    })
}

fn read(path: &Path) -> Result<Document, KeyFileError> {
    let document: Document = parse(path, &read_private(path, FILE_SIZE_MAX)?)?;
    if document.version != VERSION {
        let version = document.version;
        return Err(KeyFileError::UnknownVersion { path: path.to_owned(), version });
    }
    if document.suite != document.public.suite() {
        return Err(wrong_field(path, "suite"));
    }
    Ok(document)
}
