//! What can be asked of the dispatcher, and what it tells about itself.

use std::fmt;
use std::str::FromStr;

/// Who may do SHA-256: the word in `QUIPU_ACCEL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// Whoever is predicted to be fastest.
    #[default]
    Auto,
    /// The crate `sha2`, one message after another.
    Scalar,
    /// SHA-NI, a few messages at a time.
    ShaNi,
    /// AVX2, 8 ways a register.
    Avx2,
    /// AVX-512, 16 ways a register.
    Avx512,
}

/// Who serves when the one that was asked for does not, in this order.
pub(crate) const FALLBACKS: [Choice; 4] =
    [Choice::Avx512, Choice::Avx2, Choice::ShaNi, Choice::Scalar];

/// No backend has this name.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("no backend is called {word:?}: say auto, scalar, avx2, avx512 or shani")]
pub struct UnknownChoice {
    /// What was asked for.
    pub word: Box<str>,
}

impl FromStr for Choice {
    type Err = UnknownChoice;

    fn from_str(word: &str) -> Result<Self, UnknownChoice> {
        match word {
            "" | "auto" => Ok(Self::Auto),
            "scalar" => Ok(Self::Scalar),
            "avx2" => Ok(Self::Avx2),
            "avx512" => Ok(Self::Avx512),
            "shani" => Ok(Self::ShaNi),
            _ => Err(UnknownChoice { word: word.into() }),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Scalar => "scalar",
            Self::ShaNi => "shani",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        })
    }
}

/// Picoseconds a step takes: one step moves all ways of the kernel on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepTimes {
    /// One block of [`crate::Accel::sha256_many`].
    pub many_ps: u64,
    /// One node of [`crate::Accel::sha256_nodes`].
    pub nodes_ps: u64,
    /// One hash of [`crate::Accel::sha256_chains`].
    pub chains_ps: u64,
}

/// How one backend stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendState {
    /// It takes part in the choice.
    Serves {
        /// Messages side by side.
        ways: usize,
        /// What it costs.
        step_times: StepTimes,
        /// Whether that was measured here, or is the built-in estimate.
        is_measured: bool,
    },
    /// A batch backend that takes part in the choice; its predictions are its own.
    ServesBatches,
    /// This machine does not have it.
    Absent,
    /// Its known-answer test failed: it computes wrong hashes, and is off.
    FailedKnownAnswer,
    /// A result that was done again differed: it is off.
    Lied,
    /// Too many errors in a row: it is asked rarely.
    BrokenOff,
    /// It works, but another was asked for.
    NotChosen,
}

/// One line of a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendReport {
    /// The backend.
    pub name: &'static str,
    /// How it stands.
    pub state: BackendState,
}

/// Who serves, and what is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was asked for.
    pub choice: Choice,
    /// A word that nobody knows was asked for, so the choice is automatic.
    pub unknown: Option<UnknownChoice>,
    /// What was asked for does not serve here, so this one does.
    pub fallback: Option<Choice>,
    /// All that this crate knows, in order of preference at equal prices.
    pub backends: Vec<BackendReport>,
}

impl Report {
    /// Whether somebody should look: a wrong word, a missing wish, a backend that is broken.
    #[must_use]
    pub fn is_worrying(&self) -> bool {
        let broken = |state| {
            matches!(
                state,
                BackendState::FailedKnownAnswer | BackendState::Lied | BackendState::BrokenOff
            )
        };
        self.unknown.is_some()
            || self.fallback.is_some()
            || self.backends.iter().any(|backend| broken(backend.state))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "SHA-256 by choice {}", self.choice)?;
        if let Some(unknown) = &self.unknown {
            writeln!(f, "  {unknown}; auto serves")?;
        }
        if let Some(fallback) = self.fallback {
            writeln!(f, "  {} does not serve here; {fallback} does", self.choice)?;
        }
        for BackendReport { name, state } in &self.backends {
            match state {
                BackendState::Serves { ways, step_times, is_measured } => writeln!(
                    f,
                    "  {name}: serves {ways} ways; ps per step: block {}, node {}, chained hash {} ({})",
                    step_times.many_ps,
                    step_times.nodes_ps,
                    step_times.chains_ps,
                    if *is_measured { "measured" } else { "estimated" },
                )?,
                BackendState::ServesBatches => writeln!(f, "  {name}: serves batches")?,
                BackendState::Absent => writeln!(f, "  {name}: absent on this machine")?,
                BackendState::FailedKnownAnswer => {
                    writeln!(f, "  {name}: failed its known-answer test, off")?;
                }
                BackendState::Lied => writeln!(f, "  {name}: gave a wrong result, off")?,
                BackendState::BrokenOff => writeln!(f, "  {name}: too many errors, rarely asked")?,
                BackendState::NotChosen => writeln!(f, "  {name}: not chosen")?,
            }
        }
        Ok(())
    }
}
