//! Our link to one peer: connect, greet, send, and again.
//!
//! ```text
//!  try ── fails ──> wait 50 ms, 100 ms, … 1 s, each less up to a half by chance ──> try
//!   └─ up: messages wait and are sent ── breaks ──> down ──> wait ──> try      a link that was up for as long as
//!                                                                             the longest wait begins anew at 50 ms
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use quipu_net::{Answer, Expected, Hello, Role};
use quipu_types::ValidatorIndex;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsStream;

use super::error::LinkError;
use super::peer::Peer;
use super::pump::{Frames, Received, read_greeting, send_frames, send_greeting};
use super::{Core, LinkEvent};

/// Bytes beyond which the kernel takes no more while it has not sent them: a millisecond at 1 Gbit/s.
#[cfg(any(target_os = "linux", target_os = "macos"))]
const UNSENT_SIZE_MAX: u32 = 128 << 10;

/// Keeps the link to a peer up until the links stop.
pub(super) async fn keep_dialing(core: Arc<Core>, index: ValidatorIndex) {
    let Some(peer) = core.peer(index) else { return };
    let mut backoff = core.limits.backoff_time_min;
    loop {
        let tried = tokio::select! {
            () = core.stopped() => return,
            tried = timeout(core.limits.hello_time, dial(&core, peer)) => tried,
        };
        let error = match tried.unwrap_or(Err(LinkError::Slow)) {
            Ok(stream) => {
                let begun = Instant::now();
                let error = serve(&core, peer, stream).await;
                if begun.elapsed() >= core.limits.backoff_time_max {
                    backoff = core.limits.backoff_time_min;
                }
                error
            }
            Err(error) => error,
        };
        if peer.note(&error) && !*core.stopping.borrow() {
            tracing::warn!(validator = %index, error = error.text(), "no link to a validator");
        }
        tokio::select! {
            () = core.stopped() => return,
            () = tokio::time::sleep(jittered(backoff, core.channel.chance())) => {}
        }
        backoff = backoff.saturating_mul(2).min(core.limits.backoff_time_max);
    }
}

/// Between a half and all of `time`.
fn jittered(time: Duration, chance: u8) -> Duration {
    time.saturating_mul(256_u32.saturating_add(u32::from(chance))).checked_div(512).unwrap_or(time)
}

/// A channel on which both ends proved who they are.
async fn dial(core: &Core, peer: &Peer) -> Result<TlsStream<TcpStream>, LinkError> {
    let stream = connect(&peer.address().unwrap_or_default()).await?;
    tune(&stream);
    let (mut stream, binding) = core.channel.connect(stream).await?;
    let names = (core.own, peer.index);
    let hello = Hello::sign(&core.key, &core.chain, names, Role::Dialer, &binding);
    send_greeting(&mut stream, &Answer::Hello(hello)).await?;
    let hello = match read_greeting(&mut stream).await? {
        Answer::Hello(hello) => hello,
        Answer::Refusal(reason) => return Err(LinkError::Refused { reason }),
    };
    let set = core.set();
    let expected = Expected {
        chain: &core.chain,
        set: &set,
        own: core.own,
        role: Role::Acceptor,
        dialed: Some(peer.index),
        binding: &binding,
    };
    expected.check(&hello)?;
    Ok(stream)
}

/// The first of the address's hosts that answers.
async fn connect(address: &str) -> Result<TcpStream, LinkError> {
    let unreachable =
        |reason: io::Error| LinkError::Unreachable { address: address.to_owned(), reason };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for host in tokio::net::lookup_host(address).await.map_err(unreachable)? {
        match TcpStream::connect(host).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(unreachable(last))
}

/// Sends at once, and keeps little in the kernel: what waits there can not be overtaken by a vote.
fn tune(stream: &TcpStream) {
    // A socket that refuses an option is slower, not wrong.
    drop(stream.set_nodelay(true));
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    drop(socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_SIZE_MAX));
}

/// Sends until the link breaks.
async fn serve(core: &Core, peer: &Peer, stream: TlsStream<TcpStream>) -> LinkError {
    peer.up(Instant::now());
    core.metrics.connects.increment(1);
    tracing::info!(validator = %peer.index, "link to a validator is up");
    core.tell(LinkEvent::Up(peer.index)).await;
    let (reader, writer) = tokio::io::split(stream);
    let mut watched = std::pin::pin!(watch(reader, core, peer));
    let error = tokio::select! {
        error = send_frames(writer, core, peer) => error,
        error = &mut watched => error,
    };
    if matches!(error, LinkError::Stopping) {
        // The other end closes when it has read everything; a socket closed earlier could take back what was sent.
        watched.await;
    }
    peer.down(Instant::now(), &core.metrics);
    core.tell(LinkEvent::Down(peer.index)).await;
    error
}

/// Reads keep-alives, which are all that an acceptor may send, until the connection breaks.
async fn watch(
    reader: tokio::io::ReadHalf<TlsStream<TcpStream>>,
    core: &Core,
    peer: &Peer,
) -> LinkError {
    let mut frames = Frames::new(reader, 0, core, peer);
    loop {
        match frames.next().await {
            Ok(Received::KeepAlive | Received::Message(_)) => {}
            Err(error) => return error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_takes_at_most_half_away() {
        let time = Duration::from_millis(512);
        assert_eq!(jittered(time, 0), Duration::from_millis(256));
        assert_eq!(jittered(time, 255), Duration::from_millis(511));
    }
}
