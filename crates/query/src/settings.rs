//! A session's parameters: what `SET` takes and `SHOW` tells.

use std::collections::BTreeMap;
use std::time::Duration;

use quipu_types::code;

use crate::error::SqlError;

/// A parameter: its name as PostgreSQL writes it, its default, whether clients are told when it changes.
struct Parameter(&'static str, &'static str, bool);

const PARAMETERS: &[Parameter] = &[
    Parameter("application_name", "", true),
    Parameter("array_nulls", "on", false),
    Parameter("block_size", "8192", false),
    Parameter("bytea_output", "hex", false),
    Parameter("check_function_bodies", "on", false),
    Parameter("client_encoding", "UTF8", true),
    Parameter("client_min_messages", "notice", false),
    Parameter("DateStyle", "ISO, MDY", true),
    Parameter("default_table_access_method", "heap", false),
    Parameter("default_tablespace", "", false),
    Parameter("default_transaction_isolation", "read committed", false),
    Parameter("default_transaction_read_only", "off", true),
    Parameter("escape_string_warning", "on", false),
    Parameter("extra_float_digits", "1", false),
    Parameter("idle_session_timeout", "0", false),
    Parameter("idle_in_transaction_session_timeout", "0", false),
    Parameter("in_hot_standby", "off", true),
    Parameter("integer_datetimes", "on", true),
    Parameter("IntervalStyle", "postgres", true),
    Parameter("is_superuser", "off", true),
    Parameter("jit", "off", false),
    Parameter("lc_collate", "C", false),
    Parameter("lc_ctype", "C.UTF-8", false),
    Parameter("lock_timeout", "0", false),
    Parameter("max_identifier_length", "63", false),
    Parameter("max_index_keys", "32", false),
    Parameter("password_encryption", "scram-sha-256", false),
    Parameter("quipu.copy_batch_rows", "0", false),
    Parameter("quipu.partial_streams", "off", false),
    Parameter("row_security", "on", false),
    Parameter("search_path", "\"$user\", public", false),
    Parameter("server_encoding", "UTF8", true),
    Parameter("server_version", "15.0", true),
    Parameter("server_version_num", "150000", false),
    Parameter("session_authorization", "", true),
    Parameter("standard_conforming_strings", "on", true),
    Parameter("statement_timeout", "0", false),
    Parameter("synchronize_seqscans", "on", false),
    Parameter("TimeZone", "UTC", true),
    Parameter("transaction_isolation", "read committed", false),
    Parameter("transaction_read_only", "off", false),
];

/// Every level is had: all statements of a transaction see one height, and what they read is checked at its end.
const ISOLATIONS: [&str; 4] =
    ["read committed", "read uncommitted", "repeatable read", "serializable"];

/// Parameters whose value says what this server does: only these values are taken.
const FIXED: &[(&str, &[&str])] = &[
    ("bytea_output", &["hex"]),
    ("client_encoding", &["utf8", "utf-8", "unicode"]),
    ("intervalstyle", &["postgres"]),
    ("standard_conforming_strings", &["on", "true", "1", "yes"]),
    ("timezone", &["utc", "etc/utc", "gmt", "0", "+00:00", "+00", "zulu"]),
    ("default_transaction_isolation", &ISOLATIONS),
    ("transaction_isolation", &ISOLATIONS),
];

/// Parameters that no client can set.
const READ_ONLY: &[&str] = &[
    "block_size",
    "in_hot_standby",
    "integer_datetimes",
    "is_superuser",
    "lc_collate",
    "lc_ctype",
    "max_identifier_length",
    "max_index_keys",
    "server_encoding",
    "server_version",
    "server_version_num",
    "session_authorization",
];

/// Parameters that are a time.
const TIMES: [&str; 4] = [
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "statement_timeout",
];
/// What `client_min_messages` can be, from all messages to errors alone.
const LEVELS: [&str; 9] =
    ["debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error"];

/// What a session has set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    changed: BTreeMap<String, String>,
}

fn parameter(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.0.eq_ignore_ascii_case(name))
}

impl Settings {
    /// The name as PostgreSQL writes it, and the value.
    pub(crate) fn get(&self, name: &str) -> Result<(String, String), SqlError> {
        let changed = self.changed.get(&name.to_lowercase());
        match parameter(name) {
            Some(Parameter(canonical, default, _)) => {
                let value = changed.map_or(*default, String::as_str);
                Ok(((*canonical).to_owned(), value.to_owned()))
            }
            None => {
                changed.map(|value| (name.to_owned(), value.clone())).ok_or_else(|| unknown(name))
            }
        }
    }

    /// Sets a parameter, or puts it back; says what the client is to be told.
    pub(crate) fn set(
        &mut self,
        name: &str,
        value: Option<&str>,
    ) -> Result<Option<(String, String)>, SqlError> {
        let lower = name.to_lowercase();
        let known = parameter(&lower);
        if known.is_none() && !lower.contains('.') {
            return Err(unknown(name));
        }
        if READ_ONLY.contains(&lower.as_str()) {
            let message = format!("parameter \"{name}\" cannot be changed");
            return Err(SqlError::new("55P02", code::SQL_UNSUPPORTED, message));
        }
        match value {
            None => {
                self.changed.remove(&lower);
            }
            Some(value) => {
                let value = checked(&lower, value)?;
                self.changed.insert(lower.clone(), value);
            }
        }
        match known {
            Some(Parameter(canonical, _, true)) => {
                let (_, value) = self.get(&lower)?;
                Ok(Some(((*canonical).to_owned(), value)))
            }
            _ => Ok(None),
        }
    }

    /// Takes a start-up parameter: what can not be had keeps its default, and the client is told that.
    pub(crate) fn offer(&mut self, name: &str, value: &str) {
        let _refused_is_told_by_its_default = self.set(name, Some(value));
    }

    /// Sets who the client is; no `SET` changes that.
    pub(crate) fn authorize(&mut self, user: &str) {
        self.changed.insert("session_authorization".into(), user.into());
    }

    /// Puts everything back.
    pub(crate) fn reset(&mut self) {
        self.changed.retain(|name, _| name == "session_authorization");
    }

    /// Every parameter that clients are told at the start.
    pub(crate) fn reported(&self) -> Vec<(String, String)> {
        PARAMETERS
            .iter()
            .filter(|parameter| parameter.2)
            .filter_map(|parameter| self.get(parameter.0).ok())
            .collect()
    }

    /// Every parameter.
    pub(crate) fn all(&self) -> Vec<(String, String)> {
        PARAMETERS.iter().filter_map(|parameter| self.get(parameter.0).ok()).collect()
    }

    /// Rows of a part of a COPY, if it is to be appended in parts.
    pub(crate) fn copy_batch_row_count(&self) -> Option<usize> {
        self.changed.get("quipu.copy_batch_rows")?.parse().ok().filter(|count| *count > 0)
    }

    /// Whether streams whose first rows are not here are read as far as they are.
    pub(crate) fn reads_partial(&self) -> bool {
        self.changed.get("quipu.partial_streams").is_some_and(|value| value == "on")
    }

    /// Whether the client wants messages of this severity.
    pub(crate) fn wants(&self, severity: &str) -> bool {
        let level = |name: &str| LEVELS.iter().position(|level| level.eq_ignore_ascii_case(name));
        let least = self.changed.get("client_min_messages").map_or("notice", String::as_str);
        level(severity) >= level(least)
    }

    /// Whether a transaction that does not say so writes nothing.
    pub(crate) fn is_read_only(&self) -> bool {
        let value = self.changed.get("default_transaction_read_only");
        value.is_some_and(|value| {
            matches!(value.to_ascii_lowercase().as_str(), "on" | "true" | "yes" | "1")
        })
    }

    /// The time a statement may take, if the client says so.
    pub(crate) fn statement_timeout(&self) -> Option<Duration> {
        self.time("statement_timeout")
    }

    /// A parameter that is a time, if it is set and not 0.
    pub(crate) fn time(&self, name: &str) -> Option<Duration> {
        let text = self.changed.get(name)?;
        duration(text).filter(|time| !time.is_zero())
    }

    /// The schemas to look in, in order.
    pub(crate) fn search_path(&self) -> Vec<String> {
        let (_, path) = self.get("search_path").unwrap_or_default();
        path.split(',').map(|name| name.trim().trim_matches('"').to_owned()).collect()
    }
}

fn unknown(name: &str) -> SqlError {
    let message = format!("unrecognized configuration parameter \"{name}\"");
    SqlError::new("42704", code::SQL_SYNTAX, message)
}

/// The value as it is kept, if it can be had.
fn checked(name: &str, value: &str) -> Result<String, SqlError> {
    let wrong = |hint: &str| {
        let message = format!("invalid value for parameter \"{name}\": \"{value}\"");
        Err(SqlError::new("22023", code::SQL_UNSUPPORTED, message).hint(hint))
    };
    let folded = value.trim().to_lowercase();
    if let Some((_, allowed)) = FIXED.iter().find(|(fixed, _)| *fixed == name) {
        if !allowed.contains(&folded.as_str()) {
            return wrong(&format!("it can be: {}", allowed.join(", ")));
        }
        // Told as this server writes it, however the client did.
        let default = parameter(name).map_or(value, |parameter| parameter.1);
        return Ok(default.to_owned());
    }
    if name == "datestyle" {
        if !folded.starts_with("iso") {
            return wrong("dates are written as ISO 8601");
        }
        return Ok("ISO, MDY".into());
    }
    if TIMES.contains(&name) && duration(value).is_none() {
        return wrong("a number of milliseconds, or one with us, ms, s, min, h");
    }
    if name == "client_min_messages" && !LEVELS.contains(&folded.as_str()) {
        return wrong(&format!("it can be: {}", LEVELS.join(", ")));
    }
    if name == "quipu.partial_streams" {
        return match folded.as_str() {
            "on" | "true" | "yes" | "1" => Ok("on".into()),
            "off" | "false" | "no" | "0" => Ok("off".into()),
            _ => wrong("it can be: on, off"),
        };
    }
    let most = quipu_types::transaction::ACTION_COUNT_MAX;
    if name == "quipu.copy_batch_rows" && !value.parse().is_ok_and(|count: usize| count <= most) {
        return wrong(&format!("0 (all rows in one transaction) to {most} rows"));
    }
    Ok(value.to_owned())
}

fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(split)?;
    let count: u64 = digits.parse().ok()?;
    let micros = match unit.trim() {
        "us" => 1,
        "" | "ms" => 1_000,
        "s" => 1_000_000,
        "min" => 60_000_000,
        "h" => 3_600_000_000,
        _ => return None,
    };
    Some(Duration::from_micros(count.checked_mul(micros)?))
}
