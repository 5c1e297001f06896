//! Guarded HTTP sockets: bounded in number, in patience, and deaf to what is no HTTP.
//!
//! * L1 At most `connection_count_max` connections are open; more wait in the system's queue.
//! * L2 A connection whose first bytes begin neither an HTTP/1 request line nor HTTP/2 (by prior knowledge: what gRPC
//!   speaks), or whose request the parser refuses, is closed and counted as garbage; nothing of it is kept.
//! * L3 A connection to which nothing was written for `QUIET_SECONDS_MAX` is closed: slow heads, slow
//!   bodies and idle keep-alives alike. Followers are written to at least every 15 s, HTTP/2 is pinged.
//! * L4 A connection of HTTP/2 has at most [`STREAM_COUNT_MAX`] requests at a time and keeps at most
//!   [`CONNECTION_WINDOW`] bytes of their bodies until somebody reads them. Who does not answer a ping is closed.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use metrics::{Counter, Gauge};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};

use crate::error::NodeError;

/// Longest time that a connection lives without being written to.
pub(crate) const QUIET_SECONDS_MAX: u64 = 60;
/// Most requests of one HTTP/2 connection at a time.
const STREAM_COUNT_MAX: u32 = 128;
/// Bytes that a client may send ahead: in one request, in all of a connection.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 512 << 10;
/// Bytes that wait in a connection for a client that reads slowly, of one answer.
const SEND_SIZE_MAX: usize = 64 << 10;
/// How often a client is pinged, and how long it may take to answer.
const PING_TIME: Duration = Duration::from_secs(20);
const METHODS: [&[u8]; 8] =
    [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"PRI * HT"];
/// How the parser itself begins its answer to what is no HTTP; our own errors carry a body.
const PARSER_REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\n";
const EMPTY_BODY: &[u8] = b"content-length: 0\r\n";

/// Binds `address` and says which listener failed where.
pub(crate) fn bind(
    listener: &'static str,
    address: SocketAddr,
) -> Result<(std::net::TcpListener, SocketAddr), NodeError> {
    let failed =
        |error: io::Error| NodeError::Port { listener, address, reason: error.to_string() };
    let socket = std::net::TcpListener::bind(address).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?;
    Ok((socket, bound))
}

/// A bound socket for the runtime that this is called on.
pub(crate) fn to_tokio(socket: std::net::TcpListener) -> Result<TcpListener, NodeError> {
    TcpListener::from_std(socket).map_err(|error| NodeError::system("listening", error))
}

/// A listener whose connections are guarded.
#[derive(Debug)]
pub(crate) struct Guarded {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    open: Gauge,
    garbage: Counter,
}

impl Guarded {
    pub(crate) fn new(
        listener: TcpListener,
        connection_count_max: usize,
        open: Gauge,
        garbage: Counter,
    ) -> Self {
        Self { listener, permits: Arc::new(Semaphore::new(connection_count_max)), open, garbage }
    }

    async fn accept(&self) -> GuardedStream {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .expect("the semaphore of a listener is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    // A socket that refuses the option is slower, not wrong.
                    drop(stream.set_nodelay(true));
                    self.open.increment(1.0);
                    let quiet = Box::pin(tokio::time::sleep(quiet_time()));
                    return GuardedStream {
                        stream,
                        quiet,
                        seen: Vec::with_capacity(8),
                        is_http: false,
                        open: self.open.clone(),
                        garbage: self.garbage.clone(),
                        _permit: permit,
                    };
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// Serves HTTP/1 and HTTP/2 until `stop` is ready, then lets open requests finish. Dropped, it closes every connection.
pub(crate) async fn serve(listener: Guarded, router: Router, stop: impl Future<Output = ()>) {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAM_COUNT_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_SIZE_MAX)
        .keep_alive_interval(PING_TIME)
        .keep_alive_timeout(PING_TIME);
    let open = GracefulShutdown::new();
    let mut tasks = JoinSet::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            stream = listener.accept() => {
                let service = TowerToHyperService::new(router.clone());
                let connection = server.serve_connection(TokioIo::new(stream), service);
                let connection = open.watch(connection.into_owned());
                // How a client leaves is its own affair.
                tasks.spawn(async move { drop(connection.await) });
            }
            Some(_) = tasks.join_next() => {}
            () = &mut stop => break,
        }
    }
    drop(listener);
    open.shutdown().await;
}

pub(crate) fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionRefused | ConnectionAborted | ConnectionReset)
}

fn quiet_time() -> Duration {
    Duration::from_secs(QUIET_SECONDS_MAX)
}

/// One guarded connection.
#[derive(Debug)]
pub(crate) struct GuardedStream {
    stream: TcpStream,
    quiet: Pin<Box<Sleep>>,
    /// First bytes, until they are known to begin a request line.
    seen: Vec<u8>,
    is_http: bool,
    open: Gauge,
    garbage: Counter,
    _permit: OwnedSemaphorePermit,
}

impl GuardedStream {
    /// Looks at the first bytes: L2.
    fn judge(&mut self, fresh: &[u8]) -> io::Result<()> {
        if self.is_http {
            return Ok(());
        }
        let wanted = 8_usize.saturating_sub(self.seen.len());
        self.seen.extend(fresh.iter().take(wanted));
        if METHODS.iter().any(|method| self.seen.starts_with(method)) {
            self.is_http = true;
        } else if !METHODS.iter().any(|method| method.starts_with(&self.seen)) {
            self.garbage.increment(1);
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not HTTP"));
        }
        Ok(())
    }
}

impl Drop for GuardedStream {
    fn drop(&mut self) {
        self.open.decrement(1.0);
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                let fresh = buffer.filled().get(before..).unwrap_or_default().to_vec();
                if let Err(error) = if fresh.is_empty() { Ok(()) } else { self.judge(&fresh) } {
                    buffer.set_filled(before);
                    return Poll::Ready(Err(error));
                }
                if self.quiet.is_elapsed() { timed_out() } else { Poll::Ready(Ok(())) }
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => match self.quiet.as_mut().poll(context) {
                Poll::Ready(()) => timed_out(),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

fn timed_out() -> Poll<io::Result<()>> {
    Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "connection is quiet for too long")))
}

impl AsyncWrite for GuardedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        match written {
            Poll::Ready(Ok(_)) => {
                if let Some(deadline) = Instant::now().checked_add(quiet_time()) {
                    self.quiet.as_mut().reset(deadline);
                }
                let refused = bytes.starts_with(PARSER_REFUSAL)
                    && bytes.windows(EMPTY_BODY.len()).any(|part| part == EMPTY_BODY);
                self.garbage.increment(u64::from(refused));
                written
            }
            Poll::Pending if self.quiet.as_mut().poll(context).is_ready() => {
                timed_out().map(|result| result.map(|()| 0))
            }
            _ => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
