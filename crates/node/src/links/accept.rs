//! The peers' links to us: accept, greet, read.

use std::sync::Arc;
use std::time::Duration;

use quipu_net::hello::Binding;
use quipu_net::{Answer, Expected, FRAME_SIZE_MAX, Hello, Reason, Role};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use super::error::LinkError;
use super::peer::Peer;
use super::pump::{Frames, Received, read_greeting, send_greeting, send_keep_alives};
use super::{Core, HANDSHAKE_COUNT_MAX, LinkEvent};

/// Pause after the system refused to accept: it is out of something.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until the links stop.
pub(super) async fn accept(core: Arc<Core>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(HANDSHAKE_COUNT_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = core.stopped() => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) if crate::listen::is_about_one_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(%error, "a validator's connection was not accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            core.metrics.refuse("crowd");
            continue;
        };
        // A socket that refuses the option is slower, not wrong.
        drop(stream.set_nodelay(true));
        connections.spawn(serve(Arc::clone(&core), stream, place));
    }
    connections.shutdown().await;
}

/// Greets, then reads until the connection breaks or a newer one takes its place.
async fn serve(core: Arc<Core>, stream: TcpStream, place: OwnedSemaphorePermit) {
    let greeted = timeout(core.limits.hello_time, greet(&core, stream)).await;
    let (peer, stream, greeting) = match greeted.unwrap_or(Err(LinkError::Slow)) {
        Ok(greeted) => greeted,
        Err(error) => {
            core.metrics.refuse(error.refusal());
            tracing::debug!(error = error.text(), "a connection was refused");
            return;
        }
    };
    drop(place);
    let end = peer.replace_inbound();
    if peer.is_banned(core.now_us()) {
        // Shut out while it was greeted, when there was nothing to close yet.
        peer.close_inbound();
    }
    let error = tokio::select! {
        () = end.notified() => None,
        error = read(&core, peer, stream, greeting) => Some(error),
    };
    peer.forget_inbound(&end);
    let Some(error) = error else { return };
    if peer.note(&error) {
        tracing::info!(validator = %peer.index, error = error.text(), "link of a validator ended");
    }
    if let Some(offence) = error.offence() {
        core.blame(peer.index, offence);
    }
}

/// Takes turns with the connection before (N5), then hands over what comes.
async fn read(
    core: &Core,
    peer: &Peer,
    stream: TlsStream<TcpStream>,
    greeting: SemaphorePermit<'_>,
) -> LinkError {
    let _turn = peer.reading.lock().await;
    drop(greeting);
    tracing::debug!(validator = %peer.index, "link of a validator is up");
    let (reader, writer) = tokio::io::split(stream);
    tokio::select! {
        error = hand_over(reader, core, peer) => error,
        error = send_keep_alives(writer, core, peer) => error,
    }
}

async fn hand_over(
    reader: tokio::io::ReadHalf<TlsStream<TcpStream>>,
    core: &Core,
    peer: &Peer,
) -> LinkError {
    let mut frames = Frames::new(reader, FRAME_SIZE_MAX, core, peer);
    loop {
        match frames.next().await {
            Ok(Received::KeepAlive) => {}
            Ok(Received::Message(bytes)) => {
                core.tell(LinkEvent::Frame { from: peer.index, bytes }).await;
            }
            Err(error) => return error,
        }
    }
}

type Greeted<'a> = (&'a Peer, TlsStream<TcpStream>, SemaphorePermit<'a>);

/// Learns who connected, and tells it that the link is taken, or why it is not.
async fn greet(core: &Core, stream: TcpStream) -> Result<Greeted<'_>, LinkError> {
    let (mut stream, binding) = core.channel.accept(stream).await?;
    let taken = match read_greeting(&mut stream).await {
        Ok(Answer::Hello(hello)) => take(core, &hello, &binding),
        Ok(Answer::Refusal(reason)) => return Err(LinkError::Refused { reason }),
        Err(error) => Err(error),
    };
    let (peer, greeting) = match taken {
        Ok(taken) => taken,
        Err(error) => {
            if let Some(reason) = error.reason() {
                send_greeting(&mut stream, &Answer::Refusal(reason)).await?;
                stream.shutdown().await.map_err(LinkError::broken)?;
            }
            return Err(error);
        }
    };
    let names = (core.own, peer.index);
    let hello = Hello::sign(&core.key, &core.chain, names, Role::Acceptor, &binding);
    send_greeting(&mut stream, &Answer::Hello(hello)).await?;
    Ok((peer, stream, greeting))
}

/// Whether who said `hello` is a peer whose link is taken now.
fn take<'a>(
    core: &'a Core,
    hello: &Hello,
    binding: &Binding,
) -> Result<(&'a Peer, SemaphorePermit<'a>), LinkError> {
    let set = core.set();
    let expected = Expected {
        chain: &core.chain,
        set: &set,
        own: core.own,
        role: Role::Dialer,
        dialed: None,
        binding,
    };
    let index = expected.check(hello)?;
    let peer = core.peer(index).expect("a believed hello is of another validator of the set");
    if peer.is_banned(core.now_us()) {
        return Err(LinkError::Refusing { reason: Reason::Banned });
    }
    let busy = |_| LinkError::Refusing { reason: Reason::Busy };
    Ok((peer, peer.greeting.try_acquire().map_err(busy)?))
}
