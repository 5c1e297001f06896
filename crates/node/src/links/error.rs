//! Why a link does not come about, or ends.

use std::io;

use quipu_net::{FrameError, HelloError, Offence, Reason, UnpackError};
use quipu_types::{Code, code};
use thiserror::Error;

/// Why a link does not come about, or ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The address has no host, or nobody listens there.
    #[error("{address} can not be reached: {reason}")]
    Unreachable {
        /// Where.
        address: String,
        /// The system's words.
        reason: io::Error,
    },
    /// What is spoken there is not TLS 1.3 for `quipu/1`.
    #[error("no TLS 1.3 for quipu/1 is spoken there: {reason}")]
    Tls {
        /// TLS's words.
        reason: io::Error,
    },
    /// The other's hello is not to be believed.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// The other does not take the link.
    #[error("the other refuses the link: {}", reason.text())]
    Refused {
        /// Why.
        reason: Reason,
    },
    /// We do not take the link.
    #[error("the link was refused: {}", reason.name())]
    Refusing {
        /// Why.
        reason: Reason,
    },
    /// The greeting was announced longer than allowed.
    #[error("a greeting of {size} bytes is announced")]
    GreetingTooLong {
        /// What was announced.
        size: usize,
    },
    /// The hello did not come in time.
    #[error("no hello came in time")]
    Slow,
    /// Nothing came for too long.
    #[error("nothing came for too long, not even a keep-alive")]
    Silent,
    /// A frame began and did not end in time.
    #[error("a frame began and did not end in time")]
    Stalled,
    /// The bytes are no frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame holds no message.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The other end is gone.
    #[error("the other end closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {reason}")]
    Broken {
        /// The system's words.
        reason: io::Error,
    },
    /// The links stop.
    #[error("this validator stops")]
    Stopping,
}

impl LinkError {
    /// The error of a read or a write.
    pub(super) fn broken(reason: io::Error) -> Self {
        match reason.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Broken { reason },
        }
    }

    /// What an authenticated peer is to be blamed for.
    pub(super) const fn offence(&self) -> Option<Offence> {
        match self {
            Self::Frame(FrameError::TooLong { .. }) | Self::Unpack(UnpackError::TooLong { .. }) => {
                Some(Offence::TooLong)
            }
            Self::Frame(_) | Self::Unpack(_) => Some(Offence::Malformed),
            Self::Stalled => Some(Offence::Stalled),
            _ => None,
        }
    }

    /// What an end that is refused is told.
    pub(super) const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Hello(error) => Some(error.reason()),
            Self::Refusing { reason } => Some(*reason),
            Self::GreetingTooLong { .. } => Some(Reason::Malformed),
            _ => None,
        }
    }

    /// Its name among the reasons why connections are refused.
    pub(super) const fn refusal(&self) -> &'static str {
        match (self.reason(), self) {
            (Some(reason), _) => reason.name(),
            (None, Self::Slow) => "slow",
            (None, Self::Tls { .. }) => "tls",
            (None, _) => "broken",
        }
    }

    /// The stable code, where an operator has to do something.
    #[must_use]
    pub const fn code(&self) -> Option<Code> {
        let reason = match self {
            Self::Hello(error) => error.reason(),
            Self::Refused { reason } => *reason,
            Self::Tls { .. } => return Some(code::LINK_VERSION),
            _ => return None,
        };
        match reason {
            Reason::OlderVersion | Reason::NewerVersion => Some(code::LINK_VERSION),
            Reason::OtherChain => Some(code::LINK_CHAIN),
            Reason::UnknownValidator | Reason::Oneself | Reason::OtherPeer | Reason::WrongKey => {
                Some(code::LINK_KEY)
            }
            Reason::Banned => Some(code::LINK_BANNED),
            _ => None,
        }
    }

    /// For people: the code, where there is one, and what happened.
    pub(super) fn text(&self) -> String {
        match self.code() {
            Some(code) => format!("{code}: {self}"),
            None => self.to_string(),
        }
    }
}
