//! The PostgreSQL wire, protocol 3: `psql` and every driver read the ledger through it.
//!
//! ```text
//!  accept ─ start (TLS, cancel, password) ─> Connection ─ one request at a time ─> Session of the engine
//!  message    bytes to requests, answers to bytes        portal       prepared statements and running rows
//!  connection the conversation                           cancel       whom a cancel request means
//!  start      what comes before it                       scram, tls   who the client is, and who reads along
//!  copy       what is said inside a COPY
//! ```
//! # Limits
//! * P1 At most `limits.pg_connection_count_max` connections; one more is told so (53300) and closed.
//! * P2 A start-up takes at most [`STARTUP_SECONDS_MAX`]; what is no start-up is closed and counted as garbage.
//! * P3 Nothing is reserved for announced bytes: a message's buffer grows as its bytes come, up to
//!   `MESSAGE_SIZE_MAX`. A message that stalls, or a client that does not read, is given up after
//!   [`STALL_SECONDS_MAX`].
//! * P4 A connection holds a bounded number of statements, portals and bytes of parameters.
//!
//! The listener stands on a loopback address unless there are passwords and a certificate; then clients of other
//! machines speak TLS and prove a password (SCRAM-SHA-256). `pg.network_trusted` lifts both, for a network that sees to
//! them. What a user may write is decided by the role's key.

mod cancel;
mod connection;
mod copy;
mod message;
mod portal;
mod scram;
mod start;
#[cfg(test)]
mod tests;
mod tls;

pub use scram::{NoVerifier, Verifier};

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge};
use quipu_query::Engine;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::config::{Config, TlsFiles};
use crate::error::NodeError;
use crate::shared::Shared;

/// Longest time of a start-up.
const STARTUP_SECONDS_MAX: u64 = 10;
/// Longest time that half a message is waited for, or an answer is not taken.
const STALL_SECONDS_MAX: u64 = 60;
/// Time that connections have to end when the process stops.
const STOP_TIME: Duration = Duration::from_secs(1);
/// Refused connections that are being told so at a time.
const REFUSAL_COUNT_MAX: usize = 64;

/// Who may connect, and how.
#[derive(Debug)]
pub(crate) struct Access {
    passwords: scram::Passwords,
    tls: Option<tls::Tls>,
    /// Clients of other machines need not be encrypted.
    network_trusted: bool,
}

impl Access {
    /// As a configuration says it; `key` is a file's bytes that nobody else knows.
    pub(crate) fn load(config: &Config, key: &[u8]) -> Result<Self, NodeError> {
        let passwords = scram::Passwords::new(config.passwords.clone(), key);
        let load = |files: &TlsFiles| tls::Tls::load(&files.certificate, &files.key);
        let tls = config.tls.as_ref().map(load).transpose()?;
        Ok(Self { passwords, tls, network_trusted: config.network_trusted })
    }
}

/// What bounds and counts the connections.
#[derive(Clone, Debug)]
pub(crate) struct Guards {
    pub(crate) connection_count_max: usize,
    pub(crate) open: Gauge,
    pub(crate) garbage: Counter,
    /// Who sees to what is written; none where nothing can be.
    pub(crate) ledger: Option<Arc<Shared>>,
    pub(crate) access: Arc<Access>,
}

/// Serves connections until the process stops.
pub(crate) async fn serve(listener: TcpListener, engine: Arc<Engine>, shared: Arc<Shared>) {
    let guards = Guards {
        connection_count_max: shared.limits.pg_connection_count_max,
        open: shared.metrics.pg_connections.clone(),
        garbage: shared.metrics.garbage("pg"),
        ledger: Some(Arc::clone(&shared)),
        access: Arc::clone(&shared.access),
    };
    let stopped = async move { shared.stopped().await };
    serve_until(listener, engine, guards, stopped).await;
}

/// Serves connections until `stopped`.
pub(crate) async fn serve_until(
    listener: TcpListener,
    engine: Arc<Engine>,
    guards: Guards,
    stopped: impl Future<Output = ()>,
) {
    let (stop, stopping) = watch::channel(false);
    let registry = Arc::new(cancel::Registry::default());
    let places = Arc::new(Semaphore::new(guards.connection_count_max));
    let refusals = Arc::new(Semaphore::new(REFUSAL_COUNT_MAX));
    let mut connections = JoinSet::new();
    tokio::pin!(stopped);
    loop {
        let accepted = tokio::select! {
            () = &mut stopped => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if crate::listen::is_about_one_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "a PostgreSQL connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // A socket that refuses the option is slower, not wrong.
        drop(stream.set_nodelay(true));
        let (place, refusal) = match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => (Some(place), None),
            // Too many even to be told: closed.
            Err(_) => match Arc::clone(&refusals).try_acquire_owned() {
                Ok(refusal) => (None, Some(refusal)),
                Err(_) => continue,
            },
        };
        let open = guards.open.clone();
        let context = connection::Context {
            engine: Arc::clone(&engine),
            registry: Arc::clone(&registry),
            stopping: stopping.clone(),
            garbage: guards.garbage.clone(),
            ledger: guards.ledger.clone(),
            access: Arc::clone(&guards.access),
            is_local: peer.ip().to_canonical().is_loopback(),
            is_refused: place.is_none(),
        };
        connections.spawn(async move {
            let _held = (place, refusal);
            open.increment(1.0);
            let _closed = Closing(open);
            connection::run(stream, context).await;
        });
    }
    // Connections see it between two requests, and in a running query.
    stop.send_replace(true);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIME, ended).await.is_err() {
        connections.shutdown().await;
    }
}

/// Counts a connection's end, however it comes.
struct Closing(Gauge);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
