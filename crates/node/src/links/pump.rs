//! Frames out of and into a connection, with patience that ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::Counter;
use quipu_net::hello::GREETING_SIZE_MAX;
use quipu_net::pack::keep_alive;
use quipu_net::{Answer, Decoder, Incoming, LENGTH_SIZE, put_frame, unpack};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::error::LinkError;
use super::peer::Peer;
use super::{Core, LinkLimits};

/// Most bytes of one read.
const PIECE_SIZE: usize = 64 << 10;

/// Sends a greeting.
pub(super) async fn send_greeting(
    stream: &mut (impl AsyncWrite + Unpin),
    greeting: &Answer,
) -> Result<(), LinkError> {
    let mut frame = Vec::new();
    put_frame(&mut frame, &greeting.to_bytes());
    stream.write_all(&frame).await.map_err(LinkError::broken)?;
    stream.flush().await.map_err(LinkError::broken)
}

/// Reads a greeting, and not one byte after it.
pub(super) async fn read_greeting(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Answer, LinkError> {
    let mut length = [0; LENGTH_SIZE];
    stream.read_exact(&mut length).await.map_err(LinkError::broken)?;
    let size = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if size > GREETING_SIZE_MAX {
        return Err(LinkError::GreetingTooLong { size });
    }
    let mut bytes = vec![0; size];
    stream.read_exact(&mut bytes).await.map_err(LinkError::broken)?;
    Ok(Answer::from_bytes(&bytes)?)
}

/// What came in one frame.
pub(super) enum Received {
    KeepAlive,
    Message(Vec<u8>),
}

/// Frames of a connection.
pub(super) struct Frames<'a, R> {
    reader: R,
    decoder: Decoder,
    piece: Vec<u8>,
    silence_time: Duration,
    frame_time: Duration,
    /// What is left of `frame_time` for the frame that has begun. Time that we spend elsewhere does not count.
    frame_time_left: Duration,
    bytes_in: (&'a AtomicU64, &'a Counter),
    frames_in: &'a Counter,
}

impl<'a, R: AsyncRead + Unpin> Frames<'a, R> {
    /// Of at most `size_max` bytes.
    pub(super) fn new(reader: R, size_max: usize, core: &'a Core, peer: &'a Peer) -> Self {
        let LinkLimits { silence_time, frame_time, .. } = core.limits;
        Self {
            reader,
            decoder: Decoder::new(size_max),
            piece: vec![0; PIECE_SIZE],
            silence_time,
            frame_time,
            frame_time_left: frame_time,
            bytes_in: (&peer.bytes_in, &core.metrics.bytes_in),
            frames_in: &core.metrics.frames_in,
        }
    }

    /// The next frame. What it gives is out of the decoder; nothing is read ahead of it but the rest of a piece.
    pub(super) async fn next(&mut self) -> Result<Received, LinkError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                self.frame_time_left = self.frame_time;
                self.frames_in.increment(1);
                return Ok(match unpack(frame)? {
                    Incoming::KeepAlive => Received::KeepAlive,
                    Incoming::Message(message) => Received::Message(message.into_owned()),
                });
            }
            self.fill().await?;
        }
    }

    /// Reads once.
    async fn fill(&mut self) -> Result<(), LinkError> {
        let has_begun = self.decoder.left() > 0;
        if has_begun && self.frame_time_left.is_zero() {
            return Err(LinkError::Stalled);
        }
        let is_frame_due = has_begun && self.frame_time_left < self.silence_time;
        let patience = if is_frame_due { self.frame_time_left } else { self.silence_time };
        let begun = Instant::now();
        let size = match timeout(patience, self.reader.read(&mut self.piece)).await {
            Err(_) if is_frame_due => return Err(LinkError::Stalled),
            Err(_) => return Err(LinkError::Silent),
            Ok(Err(error)) => return Err(LinkError::broken(error)),
            Ok(Ok(0)) => return Err(LinkError::Closed),
            Ok(Ok(size)) => size,
        };
        if has_begun {
            self.frame_time_left = self.frame_time_left.saturating_sub(begun.elapsed());
        }
        let count = u64::try_from(size).unwrap_or(u64::MAX);
        self.bytes_in.0.fetch_add(count, Ordering::Relaxed);
        self.bytes_in.1.increment(count);
        self.decoder.push(self.piece.get(..size).unwrap_or_default());
        Ok(())
    }
}

/// Sends what waits for `peer`, the most urgent first, and a keep-alive when nothing did for a while; until the
/// connection breaks, or the links stop and nothing waits any more.
pub(super) async fn send_frames(
    mut writer: impl AsyncWrite + Unpin,
    core: &Core,
    peer: &Peer,
) -> LinkError {
    let sent = async {
        loop {
            while let Some(packet) = peer.pop() {
                let frame = packet.frame();
                writer.write_all(frame).await?;
                count_sent(frame, core, peer);
            }
            writer.flush().await?;
            if *core.stopping.borrow() {
                return writer.shutdown().await;
            }
            tokio::select! {
                () = peer.wake.notified() => {}
                () = core.stopped() => {}
                () = tokio::time::sleep(core.limits.keep_alive_time) => {
                    let frame = keep_alive();
                    writer.write_all(&frame).await?;
                    count_sent(&frame, core, peer);
                }
            }
        }
    };
    match sent.await {
        Ok(()) => LinkError::Stopping,
        Err(error) => LinkError::broken(error),
    }
}

/// Sends keep-alives until the connection breaks.
pub(super) async fn send_keep_alives(
    mut writer: impl AsyncWrite + Unpin,
    core: &Core,
    peer: &Peer,
) -> LinkError {
    let frame = keep_alive();
    loop {
        let sent = async {
            writer.write_all(&frame).await?;
            writer.flush().await
        };
        if let Err(error) = sent.await {
            return LinkError::broken(error);
        }
        count_sent(&frame, core, peer);
        tokio::time::sleep(core.limits.keep_alive_time).await;
    }
}

fn count_sent(frame: &[u8], core: &Core, peer: &Peer) {
    let count = u64::try_from(frame.len()).unwrap_or(u64::MAX);
    peer.bytes_out.fetch_add(count, Ordering::Relaxed);
    core.metrics.bytes_out.increment(count);
    core.metrics.frames_out.increment(1);
}
