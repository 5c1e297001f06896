//! One form for every error of the interface for programs: a code, what happened, what to do next.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use quipu_log::LogError;
use quipu_types::{Code, code};

use super::shape::ErrorBody;

/// Why a request is not served.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    code: Code,
    status: StatusCode,
    message: String,
    sqlstate: Option<String>,
}

impl ApiError {
    /// An error whose status follows from its code.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, status: status_of(code), message: message.into(), sqlstate: None }
    }

    /// A parameter is missing or malformed.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(code::BAD_REQUEST, message)
    }

    /// What was read fails its checksum or hash; the reader gets nothing of it.
    pub(crate) fn damaged(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "stored bytes are damaged");
        Self::new(code::STORE_DAMAGED, error.to_string())
    }

    /// The process is stopping.
    pub(crate) fn stopping() -> Self {
        Self::new(code::STOPPING, "the validator is stopping")
    }

    /// The same with PostgreSQL's class.
    #[must_use]
    pub(crate) fn with_sqlstate(mut self, sqlstate: impl Into<String>) -> Self {
        self.sqlstate = Some(sqlstate.into());
        self
    }

    /// The same with another status.
    #[must_use]
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Its code.
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// What happened.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Its status in HTTP.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// What a client is told.
    pub(crate) fn into_body(self) -> ErrorBody {
        ErrorBody {
            code: self.code.to_string(),
            message: self.message,
            hint: self.code.explanation().text.to_owned(),
            sqlstate: self.sqlstate,
        }
    }
}

/// What was asked for was pruned, or the log's bytes are damaged.
impl From<LogError> for ApiError {
    fn from(error: LogError) -> Self {
        if error.is_pruned() {
            Self::new(code::PRUNED, error.to_string())
        } else {
            Self::damaged(error)
        }
    }
}

fn status_of(wanted: Code) -> StatusCode {
    match wanted {
        code::TX_UNKNOWN | code::NO_STREAM | code::NO_GROUP | code::POSITION => {
            StatusCode::NOT_FOUND
        }
        code::TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        code::PROOF_UNAVAILABLE | code::CURSOR_CONFLICT => StatusCode::CONFLICT,
        code::PRUNED => StatusCode::GONE,
        code::COMPLAINTS_FULL => StatusCode::TOO_MANY_REQUESTS,
        code::OVERLOADED | code::STOPPING | code::BEHIND => StatusCode::SERVICE_UNAVAILABLE,
        code::STORE_DAMAGED | code::STORE_FULL => StatusCode::INTERNAL_SERVER_ERROR,
        code::NOT_BUILT => StatusCode::NOT_IMPLEMENTED,
        _ => StatusCode::BAD_REQUEST,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, axum::Json(self.into_body())).into_response()
    }
}
