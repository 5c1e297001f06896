//! Why a command failed: a stable code, what happened, what to do next, and the exit code.

use std::fmt;
use std::io::IsTerminal;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};
use quipu_client::ClientError;
use quipu_crypto::keyfile::KeyFileError;
use quipu_node::NodeError;
use quipu_types::genesis::GenesisError;
use quipu_types::row::RowError;
use quipu_types::{Code, code};

/// What a command ends with.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Exit code of a failure.
const EXIT_FAILED: u8 = 1;
/// Exit code of wrong usage, the same that clap uses.
const EXIT_USAGE: u8 = 2;
/// Exit code of something that was checked and is false or damaged.
const EXIT_FALSE: u8 = 3;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: String,
    message: String,
    help: Option<String>,
    exit: u8,
}

impl Failure {
    /// A failure whose help is its code's explanation.
    pub(crate) fn new(code: Code, message: impl fmt::Display) -> Self {
        Self {
            code: code.to_string(),
            message: message.to_string(),
            help: Some(code.explanation().text.to_owned()),
            exit: EXIT_FAILED,
        }
    }

    /// The command was not used as it should be.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self { exit: EXIT_USAGE, ..Self::new(code::BAD_REQUEST, message) }
    }

    /// What was checked is false.
    pub(crate) fn is_false(code: Code, message: impl fmt::Display) -> Self {
        Self { exit: EXIT_FALSE, ..Self::new(code, message) }
    }

    /// A failure that another process has reported already.
    pub(crate) fn reported(exit: u8) -> Self {
        Self { code: String::new(), message: String::new(), help: None, exit }
    }

    /// A file or directory that the command needs can not be used.
    pub(crate) fn file(what: &str, path: &std::path::Path, error: impl fmt::Display) -> Self {
        Self::new(code::CONFIG, format!("{what} {}: {error}", path.display()))
            .with_help("Check the path and its permissions.")
    }

    /// The same with other words on what to do.
    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same with more on what to do, on a line of its own.
    pub(crate) fn and_help(self, more: &str) -> Self {
        let help =
            self.help.clone().map_or_else(|| more.to_owned(), |help| format!("{help}\n{more}"));
        self.with_help(help)
    }

    /// The same, naming whom it happened to.
    pub(crate) fn of(mut self, name: &str) -> Self {
        self.message = format!("{name}: {}", self.message);
        self
    }

    /// The code as text.
    pub(crate) fn code(&self) -> &str {
        &self.code
    }

    /// What happened.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The process' exit code.
    pub(crate) fn exit(&self) -> u8 {
        self.exit
    }

    /// Prints it for people, on standard error: wrapped to a terminal's width, one line each in a pipe.
    pub(crate) fn report(&self) {
        if self.message.is_empty() {
            return;
        }
        if std::io::stderr().is_terminal() {
            let mut text = String::new();
            let drawn = GraphicalReportHandler::new_themed(theme()).render_report(&mut text, self);
            if drawn.is_ok() {
                eprintln!("{text}");
                return;
            }
        }
        eprintln!("error[{}]: {}", self.code, self.message);
        if let Some(help) = &self.help {
            eprintln!("  help: {help}");
        }
    }
}

/// Colours unless `NO_COLOR` is set.
fn theme() -> GraphicalTheme {
    if std::env::var_os("NO_COLOR").is_some() {
        GraphicalTheme::unicode_nocolor()
    } else {
        GraphicalTheme::unicode()
    }
}

impl Diagnostic for Failure {
    fn code(&self) -> Option<Box<dyn fmt::Display + '_>> {
        Some(Box::new(&self.code))
    }

    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        let help: Box<dyn fmt::Display> = Box::new(self.help.as_ref()?);
        Some(help)
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::Url { .. } => {
                Self::usage(message).with_help("For example --url http://127.0.0.1:8433")
            }
            ClientError::Unreachable { .. } => Self::new(code::UNREACHABLE, message),
            ClientError::Busy { .. } => Self::new(code::OVERLOADED, message),
            ClientError::Refused { code, hint, .. } => {
                Self { code, message, help: hint, exit: EXIT_FAILED }
            }
            ClientError::OtherChain { .. } => Self::new(code::STORE_FOREIGN, message),
            ClientError::FalsePage { error, .. } => Self::is_false(error.code(), message),
            ClientError::FalseEpochs { .. } => Self::is_false(code::PROOF_FALSE, message),
            ClientError::FalseHeader { error, .. } => Self::is_false(error.code(), message),
            ClientError::Row(_) => Self::new(code::BAD_INPUT, message),
            ClientError::EventTooLarge { .. } => Self::new(code::TOO_LARGE, message),
            _ => Self::new(code::UNREACHABLE, message)
                .with_help("Is this the address of a Quipu validator's HTTP interface?"),
        }
    }
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        Self::new(code::KEY_FILE, error)
    }
}

impl From<GenesisError> for Failure {
    fn from(error: GenesisError) -> Self {
        Self::new(code::GENESIS, error)
    }
}

impl From<RowError> for Failure {
    fn from(error: RowError) -> Self {
        Self::new(code::BAD_INPUT, error)
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        Self::new(error.code(), error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(code::CONFIG, error).with_help("Check the path and its permissions.")
    }
}
