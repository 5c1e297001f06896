//! What several commands need: a runtime, keys from files, answers in words.

use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::time::Duration;

use quipu_client::{Client, SubmitAnswer};
use quipu_crypto::SecretKey;
use quipu_crypto::keyfile;
use quipu_types::{Code, Genesis, code};

use crate::args::Server;
use crate::failure::{Failure, Result};

/// Most bytes of a file that is read whole.
const INPUT_SIZE_MAX: u64 = 1 << 30;

/// A runtime for a command's sockets.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::from)
}

/// A client of the addresses given.
pub(crate) fn client(server: &Server) -> Result<Client> {
    Ok(Client::new(&server.urls)?)
}

/// The key of a file; asks for its passphrase when it is sealed.
pub(crate) fn signer(path: &Path) -> Result<SecretKey> {
    let sealed = keyfile::peek(path)?.sealed;
    let passphrase = if sealed { Some(ask_passphrase("Passphrase: ")?) } else { None };
    Ok(keyfile::load(path, passphrase.as_deref())?)
}

/// A passphrase from the terminal, or the first line of standard input when that is none.
pub(crate) fn ask_passphrase(prompt: &str) -> Result<String> {
    let read = if std::io::stdin().is_terminal() {
        rpassword::prompt_password(prompt)
    } else {
        let mut line = String::new();
        std::io::stdin()
            .read_line(&mut line)
            .map(|_| line.trim_end_matches(['\r', '\n']).to_owned())
    };
    read.map_err(|error| Failure::new(code::KEY_FILE, format!("no passphrase: {error}")))
}

/// The text of a file, or of standard input for `-`.
pub(crate) fn read_text(path: &Path, what: &str) -> Result<String> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(INPUT_SIZE_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(INPUT_SIZE_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| {
        Failure::file(what, path, error)
            .with_help("Check the path, and that the file is UTF-8 text.")
    })?;
    Ok(text)
}

/// The bytes of a file of at most `size_max` bytes.
pub(crate) fn read_bytes(path: &Path, what: &str, size_max: usize) -> Result<Vec<u8>> {
    let limit = u64::try_from(size_max).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| Failure::file(&format!("cannot read {what}"), path, error))?;
    if bytes.len() > size_max {
        let reason = format!("more than {size_max} bytes");
        return Err(Failure::file(&format!("cannot read {what}"), path, reason));
    }
    Ok(bytes)
}

/// The text of a file of at most `size_max` bytes.
pub(crate) fn read_small(path: &Path, what: &str, size_max: usize) -> Result<String> {
    String::from_utf8(read_bytes(path, what, size_max)?)
        .map_err(|_| Failure::file(&format!("cannot read {what}"), path, "it is no UTF-8 text"))
}

/// Reads a genesis file.
pub(crate) fn genesis(path: &Path) -> Result<Genesis> {
    let wrong = |error: String| {
        Failure::new(code::GENESIS, format!("genesis file {}: {error}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    Genesis::from_json(&text).map_err(|error| wrong(error.to_string()))
}

/// The failure that an answer tells of, when it is one.
pub(crate) fn refusal(answer: &SubmitAnswer) -> Option<Failure> {
    if answer.is_committed() {
        return None;
    }
    let code = answer.refusal().unwrap_or(code::OVERLOADED);
    let message = match (&answer.message, &answer.position) {
        (Some(message), Some(position)) => {
            format!("{message} (ordered at {position}, changed nothing)")
        }
        (Some(message), None) => message.clone(),
        (None, _) => title(code).to_owned(),
    };
    Some(Failure::new(code, message))
}

fn title(code: Code) -> &'static str {
    code.explanation().title
}

/// Prints a line on standard output; a reader that went away ends the process quietly.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out
        .write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
    {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(error.into()),
    }
}

/// A time of microseconds since 1970 as people write it.
pub(crate) fn time_text(micros: u64) -> String {
    quipu_types::row_json::timestamp_to_text(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// How long something may take; none: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience(Option<Duration>);

impl Patience {
    pub(crate) const fn time(self) -> Option<Duration> {
        self.0
    }
}

/// Reads `5s`, `500ms`, `never`; `0` is never, too.
pub(crate) fn patience(text: &str) -> Result<Patience, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number = digits.parse::<u64>().ok();
    let time = match (number, text.get(digits.len()..).unwrap_or_default()) {
        (Some(0), "" | "s" | "ms") => None,
        (None, "never") if digits.is_empty() => None,
        (Some(number), "s") => Some(Duration::from_secs(number)),
        (Some(number), "ms") => Some(Duration::from_millis(number)),
        _ => return Err(format!("{text:?} is no time; give 5s, 500ms or never")),
    };
    Ok(Patience(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_never_is_none() {
        let time = |text| patience(text).map(Patience::time);
        assert_eq!(time("5s"), Ok(Some(Duration::from_secs(5))));
        assert_eq!(time("500ms"), Ok(Some(Duration::from_millis(500))));
        assert_eq!(time("never"), Ok(None));
        assert_eq!(time("0"), Ok(None));
        for wrong in ["5", "", "s", "-1s", "5 s", "5m", "1e3s", "0never", "99999999999999999999s"] {
            assert!(time(wrong).is_err_and(|told| told.contains("500ms")), "{wrong}");
        }
    }
}
