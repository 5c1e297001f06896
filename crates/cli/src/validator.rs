//! A validator in this process: when it is asked to stop, where it logs.

use std::path::Path;

use quipu_node::{Config, LogFormat};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::failure::{Failure, Result};

/// Ends at Ctrl-C or SIGTERM.
pub(crate) async fn asked_to_stop() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// Sends the log of this process to a file, or to standard error.
pub(crate) fn log_to(file: Option<&Path>, config: &Config) -> Result<()> {
    let filter = EnvFilter::try_new(&config.log.level)
        .map_err(|error| Failure::new(quipu_types::code::CONFIG, format!("log.level: {error}")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    let json = config.log.format == LogFormat::Json;
    match file {
        None if json => builder.json().with_writer(std::io::stderr).init(),
        None => builder.with_writer(std::io::stderr).init(),
        Some(path) => {
            let file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|error| Failure::file("cannot open the log", path, error))?;
            let builder = builder.with_ansi(false).with_writer(std::sync::Mutex::new(file));
            if json { builder.json().init() } else { builder.init() }
        }
    }
    Ok(())
}
